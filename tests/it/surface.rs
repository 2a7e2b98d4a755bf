//! Settings for the tests of the consumer and admin surface.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use optgate::config::*;
use optgate::privacy::Mode;
use optgate::privacy::gpp::Section;

/// One site, `shop`, and limits wide enough not to be met by accident.
pub fn settings(data_dir: &Path) -> Settings {
    let second = Duration::from_secs(1);
    let site = Site {
        name: "shop".into(),
        hosts: vec!["shop.example".into()],
        upstreams: Vec::new(),
        sharing: Default::default(),
        mode: Mode::Enforce,
        policy: VendorPolicy {
            service_providers: ServiceProviders::Contract,
            unknown: Unknown::Allow,
            vendors: BTreeMap::new(),
            contracts: BTreeMap::new(),
            collectors: Vec::new(),
        },
        paths: Vec::new(),
        on_rewrite_failure: OnRewriteFailure::Close,
        cache_front: CacheFront::None,
        strip_link_params: false,
        csp: Csp::default(),
        lists: Vec::new(),
        first_party_hosts: Vec::new(),
        redirect: None,
        hsts: None,
        no_transform: NoTransform::Keep,
        compress: Compress::OptedOut,
        scope: "shop".into(),
        formerly: Vec::new(),
        cookie_domain: None,
        programme: None,
    };
    Settings {
        listen: Vec::new(),
        tls: Tls::default(),
        admin: ([127, 0, 0, 1], 9180).into(),
        admin_names: Vec::new(),
        admin_tls: None,
        acme: None,
        data_dir: data_dir.to_owned(),
        workers: 1,
        drain_timeout: second,
        trusted_proxies: Vec::new(),
        explain_to: Vec::new(),
        server_timing: ServerTiming::default(),
        log: Log { format: LogFormat::Text, level: LogLevel::Error, file: None },
        timeouts: Timeouts {
            tls_handshake: second,
            proxy_header: second,
            upstream_queue: second,
            header_read: second,
            idle: second,
            upstream_connect: second,
            first_byte: second,
            between_bytes: second,
            upstream_idle: second,
            tunnel_idle: second,
            slow_body: second,
            slow_send: second,
        },
        limits: Limits {
            header_bytes: 65_536,
            header_count: 100,
            connections: 100,
            connections_per_client: Some(100),
            request_body: None,
            min_body_rate: 240,
            min_send_rate: 240,
            http2_streams: 100,
            http2_resets: 200,
            http2_control_frames: 2_000,
            http2_cookie_crumbs: 256,
            portal_rate: 10,
            portal_burst: 100,
            memory: ProcessMemory::Unlimited,
            upstream_idle: 8,
            upstream_queue: 8,
            rewriter_memory: 1 << 20,
            rewrite_memo: 16 << 20,
            decode_ratio: 100,
            decoded_page: 1 << 20,
        },
        outlier: Outlier {
            failures: 5,
            answers: BadAnswers::Gateway,
            ejection: second,
            longest: second,
            most_percent: 50,
            panic_percent: 30,
        },
        portal: Portal {
            prefix: "/privacy-choices".into(),
            link: LinkTitle::DoNotSell,
            limit_url: None,
            form_bytes: 65_536,
            clear_old_copies: true,
        },
        signals: SignalSettings {
            sections: vec![Section::UsNat],
            cookies: SignalCookies::Page,
            onetrust_groups: Vec::new(),
            deny_analytics: false,
        },
        gpc_last_update: None,
        account: Account::default(),
        ready_requires_journal: false,
        store: Store { queue: 1024, records_per_second: 1000, record_burst: 1000, ..Store::default() },
        dns: Dns {
            enabled: false,
            servers: Vec::new(),
            interval: second,
            timeout: second,
            hosts: 0,
            upstream_interval: second,
        },
        registry_files: Vec::new(),
        lists_check: ListsCheck {
            every: second,
            keep_percent: 50,
            must_match: Vec::new(),
            must_not_match: Vec::new(),
        },
        sites: vec![Arc::new(site)],
        default_site: Some(0),
        retired_sites: Vec::new(),
        recipients: Vec::new(),
    }
}
