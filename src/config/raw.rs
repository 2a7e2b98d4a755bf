//! Settings as they are written. Unknown keys are refused; everything is optional, because a value may
//! come from another layer. `Default` is the lowest layer and the one list of defaults.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::written::{
    Address, AllowedSource, CookieName, Database, Date, FieldName, FileMode, FilePath, HashKey, Keeping,
    ListenText, MemoryLimit, NameServer, Network, OneOrMany, Origin, Period, RawListen, RawUpstream,
    SiteCookie, Size, SizeLimit, Statuses,
};
use super::{
    BadAnswers, Balance, CacheFront, Challenge, Compress, CspMode, Engine, HashOn, JwtAlgorithm, LinkTitle,
    ListRole, ListenAt, LogFormat, LogLevel, MailTls, NoTransform, OnRewriteFailure, ProcessMemory,
    ProxyProtocol, ServerTiming, ServiceProviders, SignalCookies, Unknown, VendorAction,
};
use crate::privacy::Mode;
use crate::privacy::gpp::Section;

/// The whole file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[expect(missing_docs, reason = "the keys are documented in config/optgate.toml and on `Settings`")]
pub struct Raw {
    pub listen: OneOrMany<RawListen>,
    #[serde(skip_serializing_if = "is_empty")]
    pub upstream: OneOrMany<Origin>,
    pub balance: Balance,
    pub hash_on: HashKey,
    pub sticky_cookie: CookieName,
    pub slow_start: Period,
    pub mode: RawMode,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub data_dir: Option<FilePath>,
    pub workers: usize,
    pub drain_timeout: Period,
    pub trusted_proxies: OneOrMany<Network>,
    pub explain_to: OneOrMany<Network>,
    pub on_rewrite_failure: OnRewriteFailure,
    pub service_providers: ServiceProviders,
    pub unknown: Unknown,
    pub known: OneOrMany<String>,
    pub strip_link_params: bool,
    pub no_transform: NoTransform,
    pub compress: Compress,
    pub server_timing: ServerTiming,
    pub collectors: OneOrMany<String>,
    pub not_collectors: OneOrMany<String>,
    pub first_party_hosts: OneOrMany<String>,
    pub default_site: String,
    pub retired_sites: OneOrMany<String>,
    pub lists: OneOrMany<RawList>,
    pub lists_check: RawListsCheck,
    pub admin: RawAdmin,
    pub log: RawLog,
    pub tls: RawTls,
    pub acme: RawAcme,
    pub timeouts: RawTimeouts,
    pub limits: RawLimits,
    pub health: RawHealth,
    pub outlier: RawOutlier,
    pub portal: RawPortal,
    pub signals: RawSignals,
    pub gpc_json: RawGpcJson,
    pub account: RawAccount,
    pub ready: RawReady,
    pub store: RawStore,
    pub cache: RawCache,
    pub csp: RawCsp,
    pub dns: RawDns,
    pub registry: RawRegistry,
    pub mail: RawMail,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub programme: Option<RawProgramme>,
    pub vendors: BTreeMap<String, VendorAction>,
    pub contracts: BTreeMap<String, RawContract>,
    pub sites: Vec<RawSite>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub groups: Vec<RawGroup>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub recipients: Vec<RawRecipient>,
}

fn is_empty<T>(list: &OneOrMany<T>) -> bool {
    list.0.is_empty()
}

/// `mode`, as a word.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RawMode {
    /// Carried out.
    Enforce,
    /// Counted only.
    Observe,
}

impl From<RawMode> for Mode {
    fn from(written: RawMode) -> Self {
        match written {
            RawMode::Enforce => Self::Enforce,
            RawMode::Observe => Self::Observe,
        }
    }
}

/// A section of the GPP string, as a word.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RawSection {
    /// US National.
    Usnat,
    /// California.
    Usca,
}

impl From<RawSection> for Section {
    fn from(written: RawSection) -> Self {
        match written {
            RawSection::Usnat => Self::UsNat,
            RawSection::Usca => Self::UsCa,
        }
    }
}

/// Tables of the file; each field is a key of the same name.
macro_rules! tables {
    ($($(#[$doc:meta])* $name:ident { $($(#[$attr:meta])* $field:ident: $type:ty = $default:expr,)* })*) => {$(
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
        #[serde(default, deny_unknown_fields)]
        #[expect(missing_docs, reason = "the keys are documented in config/optgate.toml and on `Settings`")]
        pub struct $name { $($(#[$attr])* pub $field: $type,)* }

        impl Default for $name {
            fn default() -> Self {
                Self { $($field: $default,)* }
            }
        }
    )*};
}

const fn seconds(n: u64) -> Period {
    Period(Duration::from_secs(n))
}

tables! {
    /// `[admin]`
    RawAdmin {
        listen: Address = Address(([127, 0, 0, 1], 9180).into()),
        names: OneOrMany<String> = OneOrMany::default(),
        #[serde(skip_serializing_if = "Option::is_none")]
        tls: Option<RawAdminTls> = None,
    }
    /// `[admin.tls]`
    RawAdminTls {
        #[serde(skip_serializing_if = "Option::is_none")]
        chain: Option<FilePath> = None,
        #[serde(skip_serializing_if = "Option::is_none")]
        key: Option<FilePath> = None,
        #[serde(skip_serializing_if = "Option::is_none")]
        client_roots: Option<FilePath> = None,
        #[serde(skip_serializing_if = "Option::is_none")]
        roots: Option<FilePath> = None,
        #[serde(skip_serializing_if = "Option::is_none")]
        name: Option<String> = None,
        #[serde(skip_serializing_if = "Option::is_none")]
        client_chain: Option<FilePath> = None,
        #[serde(skip_serializing_if = "Option::is_none")]
        client_key: Option<FilePath> = None,
    }
    /// `[log]`
    RawLog {
        format: LogFormat = LogFormat::Text,
        level: LogLevel = LogLevel::Info,
        #[serde(skip_serializing_if = "Option::is_none")]
        file: Option<FilePath> = None,
    }
    /// `[tls]`
    RawTls {
        listen: OneOrMany<RawListen> = OneOrMany::default(),
        certificates: Vec<RawCertificate> = Vec::new(),
        redirect: bool = false,
        #[serde(skip_serializing_if = "Option::is_none")]
        redirect_port: Option<u16> = None,
        #[serde(skip_serializing_if = "Option::is_none")]
        hsts: Option<RawHsts> = None,
    }
    /// `[acme]`
    RawAcme {
        hosts: OneOrMany<String> = OneOrMany::default(),
        directory: String = "https://acme-v02.api.letsencrypt.org/directory".to_owned(),
        #[serde(skip_serializing_if = "Option::is_none")]
        roots: Option<FilePath> = None,
        contact: OneOrMany<String> = OneOrMany::default(),
        terms_agreed: bool = false,
        challenges: OneOrMany<Challenge> = OneOrMany(vec![Challenge::TlsAlpn, Challenge::Http]),
    }
    /// `[tls.hsts]`
    RawHsts {
        max_age: Period = seconds(365 * 86_400),
        subdomains: bool = false,
        preload: bool = false,
    }
    /// `tls` of a site.
    RawSiteTls {
        #[serde(skip_serializing_if = "Option::is_none")]
        redirect: Option<bool> = None,
        #[serde(skip_serializing_if = "Option::is_none")]
        hsts: Option<RawHsts> = None,
    }
    /// `[[tls.certificates]]`
    RawCertificate {
        #[serde(skip_serializing_if = "Option::is_none")]
        chain: Option<FilePath> = None,
        #[serde(skip_serializing_if = "Option::is_none")]
        key: Option<FilePath> = None,
    }
    /// `[timeouts]`
    RawTimeouts {
        tls_handshake: Period = seconds(10),
        proxy_header: Period = seconds(5),
        header_read: Period = seconds(30),
        idle: Period = seconds(60),
        upstream_connect: Period = seconds(5),
        upstream_queue: Period = seconds(5),
        first_byte: Period = seconds(60),
        between_bytes: Period = seconds(60),
        upstream_idle: Period = seconds(60),
        tunnel_idle: Period = seconds(600),
        slow_body: Period = seconds(10),
        slow_send: Period = seconds(30),
    }
    /// `[limits]`
    RawLimits {
        header_bytes: Size = Size(64 << 10),
        header_count: usize = 100,
        connections: usize = 65_536,
        connections_per_client: usize = 16_384,
        request_body: SizeLimit = SizeLimit(None),
        min_body_rate: Size = Size(240),
        min_send_rate: Size = Size(240),
        http2_streams: u32 = 128,
        http2_resets: u32 = 200,
        http2_control_frames: u32 = 2_000,
        http2_cookie_crumbs: usize = 256,
        portal_rate: u32 = 10,
        portal_burst: u32 = 100,
        memory: MemoryLimit = MemoryLimit(ProcessMemory::Auto),
        upstream_idle: usize = 128,
        upstream_queue: usize = 100,
        rewriter_memory: Size = Size(8 << 20),
        rewrite_memo: Size = Size(16 << 20),
        decode_ratio: u32 = 1_000,
        decoded_page: Size = Size(1 << 30),
    }
    /// `[portal]`
    RawPortal {
        prefix: String = "/privacy-choices".to_owned(),
        link: LinkTitle = LinkTitle::DoNotSell,
        #[serde(skip_serializing_if = "Option::is_none")]
        limit_url: Option<String> = None,
        form_bytes: Size = Size(16 << 10),
        clear_old_copies: bool = true,
    }
    /// `[signals]`
    RawSignals {
        gpp_sections: OneOrMany<RawSection> = OneOrMany(vec![RawSection::Usnat]),
        cookies: SignalCookies = SignalCookies::Page,
        onetrust_groups: OneOrMany<String> =
            OneOrMany(super::SignalSettings::default().onetrust_groups),
        deny_analytics: bool = false,
    }
    /// `[gpc_json]`
    RawGpcJson {
        #[serde(skip_serializing_if = "Option::is_none")]
        last_update: Option<Date> = None,
    }
    /// `[account]`
    RawAccount {
        #[serde(skip_serializing_if = "Option::is_none")]
        header: Option<FieldName> = None,
        #[serde(skip_serializing_if = "Option::is_none")]
        response_header: Option<FieldName> = None,
        #[serde(skip_serializing_if = "Option::is_none")]
        session_cookie: Option<SiteCookie> = None,
        sessions: usize = 262_144,
        session_lasts: Period = seconds(24 * 3_600),
        #[serde(skip_serializing_if = "Option::is_none")]
        profile_cookie: Option<SiteCookie> = None,
        #[serde(skip_serializing_if = "Option::is_none")]
        jwt: Option<RawAccountJwt> = None,
    }
    /// `[account.jwt]`
    RawAccountJwt {
        #[serde(skip_serializing_if = "Option::is_none")]
        cookie: Option<SiteCookie> = None,
        bearer: bool = false,
        claim: String = "sub".to_owned(),
        algorithms: OneOrMany<JwtAlgorithm> = OneOrMany::default(),
        #[serde(skip_serializing_if = "Option::is_none")]
        keys: Option<FilePath> = None,
        #[serde(skip_serializing_if = "Option::is_none")]
        jwks_url: Option<String> = None,
        #[serde(skip_serializing_if = "Option::is_none")]
        jwks_roots: Option<FilePath> = None,
        refresh: Period = seconds(600),
        #[serde(skip_serializing_if = "Option::is_none")]
        issuer: Option<String> = None,
        audience: OneOrMany<String> = OneOrMany::default(),
        leeway: Period = seconds(30),
    }
    /// `[ready]`
    RawReady {
        requires_journal: bool = false,
    }
    /// `[store]`
    RawStore {
        queue: usize = 65_536,
        records_per_second: u32 = 200,
        record_burst: u32 = 2_000,
        engine: Engine = Engine::Sqlite,
        #[serde(skip_serializing_if = "Option::is_none")]
        url: Option<Database> = None,
        #[serde(skip_serializing_if = "Option::is_none")]
        read_url: Option<Database> = None,
        poll: Period = Period(Duration::from_millis(250)),
        listen: bool = true,
        confirm_within: Period = Period(Duration::from_millis(500)),
        checkpoint: Period = seconds(3_600),
        retention: Keeping = Keeping(super::Store::default().retention),
        pack_after: u64 = 100_000,
    }
    /// `[cache]`
    RawCache {
        front: CacheFront = CacheFront::None,
    }
    /// `[csp]`
    RawCsp {
        mode: CspMode = CspMode::Off,
        allow: OneOrMany<AllowedSource> = OneOrMany::default(),
    }
    /// `[dns]`
    RawDns {
        enabled: bool = true,
        servers: OneOrMany<NameServer> = OneOrMany::default(),
        interval: Period = seconds(3_600),
        timeout: Period = seconds(5),
        hosts: usize = 256,
        upstream_interval: Period = seconds(30),
    }
    /// `[health]`
    RawHealth {
        #[serde(skip_serializing_if = "Option::is_none")]
        path: Option<String> = None,
        interval: Period = seconds(10),
        timeout: Period = seconds(5),
        status: Statuses = Statuses((200, 399)),
        rises: u32 = 2,
        falls: u32 = 3,
        #[serde(skip_serializing_if = "Option::is_none")]
        host: Option<String> = None,
    }
    /// `[outlier]`
    RawOutlier {
        failures: u32 = 5,
        answers: BadAnswers = BadAnswers::default(),
        ejection: Period = seconds(10),
        longest: Period = seconds(300),
        most_percent: u32 = 50,
        panic_percent: u32 = 30,
    }
    /// `[registry]`
    RawRegistry {
        files: OneOrMany<FilePath> = OneOrMany::default(),
    }
    /// An element of `lists`.
    RawList {
        #[serde(skip_serializing_if = "Option::is_none")]
        file: Option<FilePath> = None,
        role: ListRole = ListRole::default(),
    }
    /// `[lists_check]`
    RawListsCheck {
        every: Period = seconds(30),
        keep_percent: u32 = 50,
        must_match: OneOrMany<String> = OneOrMany::default(),
        must_not_match: OneOrMany<String> = OneOrMany::default(),
    }
    /// `[contracts.ID]`
    RawContract {
        #[serde(skip_serializing_if = "Option::is_none")]
        entity: Option<String> = None,
        #[serde(skip_serializing_if = "Option::is_none")]
        reference: Option<String> = None,
        #[serde(skip_serializing_if = "Option::is_none")]
        date: Option<Date> = None,
    }
    /// `cache` of a site.
    RawSiteCache {
        #[serde(skip_serializing_if = "Option::is_none")]
        front: Option<CacheFront> = None,
    }
    /// `csp` of a site.
    RawSiteCsp {
        #[serde(skip_serializing_if = "Option::is_none")]
        mode: Option<CspMode> = None,
        allow: OneOrMany<AllowedSource> = OneOrMany::default(),
    }
    /// `[[sites]]`
    RawSite {
        #[serde(skip_serializing_if = "Option::is_none")]
        name: Option<String> = None,
        #[serde(skip_serializing_if = "is_empty")]
        formerly: OneOrMany<String> = OneOrMany::default(),
        hosts: OneOrMany<String> = OneOrMany::default(),
        upstream: OneOrMany<RawUpstream> = OneOrMany::default(),
        #[serde(skip_serializing_if = "Option::is_none")]
        balance: Option<Balance> = None,
        #[serde(skip_serializing_if = "Option::is_none")]
        hash_on: Option<HashKey> = None,
        #[serde(skip_serializing_if = "Option::is_none")]
        sticky_cookie: Option<CookieName> = None,
        #[serde(skip_serializing_if = "Option::is_none")]
        slow_start: Option<Period> = None,
        health: RawSiteHealth = RawSiteHealth::default(),
        #[serde(skip_serializing_if = "Option::is_none")]
        mode: Option<RawMode> = None,
        #[serde(skip_serializing_if = "Option::is_none")]
        service_providers: Option<ServiceProviders> = None,
        #[serde(skip_serializing_if = "Option::is_none")]
        unknown: Option<Unknown> = None,
        known: OneOrMany<String> = OneOrMany::default(),
        #[serde(skip_serializing_if = "Option::is_none")]
        on_rewrite_failure: Option<OnRewriteFailure> = None,
        #[serde(skip_serializing_if = "Option::is_none")]
        strip_link_params: Option<bool> = None,
        #[serde(skip_serializing_if = "Option::is_none")]
        no_transform: Option<NoTransform> = None,
        #[serde(skip_serializing_if = "Option::is_none")]
        compress: Option<Compress> = None,
        lists: OneOrMany<RawList> = OneOrMany::default(),
        #[serde(skip_serializing_if = "Option::is_none")]
        collectors: Option<OneOrMany<String>> = None,
        #[serde(skip_serializing_if = "Option::is_none")]
        not_collectors: Option<OneOrMany<String>> = None,
        #[serde(skip_serializing_if = "Option::is_none")]
        first_party_hosts: Option<OneOrMany<String>> = None,
        cache: RawSiteCache = RawSiteCache::default(),
        tls: RawSiteTls = RawSiteTls::default(),
        csp: RawSiteCsp = RawSiteCsp::default(),
        #[serde(skip_serializing_if = "Option::is_none")]
        programme: Option<RawProgramme> = None,
        vendors: BTreeMap<String, VendorAction> = BTreeMap::new(),
        contracts: BTreeMap<String, RawContract> = BTreeMap::new(),
        paths: Vec<RawPath> = Vec::new(),
    }
    /// `[programme]`
    RawProgramme {
        #[serde(skip_serializing_if = "Option::is_none")]
        name: Option<String> = None,
        #[serde(skip_serializing_if = "Option::is_none")]
        text: Option<String> = None,
        #[serde(skip_serializing_if = "Option::is_none")]
        url: Option<String> = None,
        vendors: OneOrMany<String> = OneOrMany::default(),
    }
    /// `[[groups]]`
    RawGroup {
        #[serde(skip_serializing_if = "Option::is_none")]
        name: Option<String> = None,
        #[serde(skip_serializing_if = "is_empty")]
        formerly: OneOrMany<String> = OneOrMany::default(),
        sites: OneOrMany<String> = OneOrMany::default(),
        #[serde(skip_serializing_if = "Option::is_none")]
        cookie_domain: Option<String> = None,
    }
    /// `[[recipients]]`
    RawRecipient {
        #[serde(skip_serializing_if = "Option::is_none")]
        name: Option<String> = None,
        sites: OneOrMany<String> = OneOrMany::default(),
        vendors: OneOrMany<String> = OneOrMany::default(),
        always: bool = false,
        #[serde(skip_serializing_if = "Option::is_none")]
        from: Option<Date> = None,
        #[serde(skip_serializing_if = "Option::is_none")]
        until: Option<Date> = None,
        delay: Period = Period(Duration::ZERO),
        #[serde(skip_serializing_if = "Option::is_none")]
        webhook: Option<String> = None,
        #[serde(skip_serializing_if = "Option::is_none")]
        roots: Option<FilePath> = None,
        #[serde(skip_serializing_if = "Option::is_none")]
        mail: Option<String> = None,
    }
    /// `[mail]`
    RawMail {
        #[serde(skip_serializing_if = "Option::is_none")]
        server: Option<String> = None,
        tls: MailTls = MailTls::Starttls,
        #[serde(skip_serializing_if = "Option::is_none")]
        roots: Option<FilePath> = None,
        #[serde(skip_serializing_if = "Option::is_none")]
        from: Option<String> = None,
        #[serde(skip_serializing_if = "Option::is_none")]
        credentials: Option<FilePath> = None,
    }
    /// `health` of a site.
    RawSiteHealth {
        #[serde(skip_serializing_if = "Option::is_none")]
        path: Option<String> = None,
        #[serde(skip_serializing_if = "Option::is_none")]
        interval: Option<Period> = None,
        #[serde(skip_serializing_if = "Option::is_none")]
        timeout: Option<Period> = None,
        #[serde(skip_serializing_if = "Option::is_none")]
        status: Option<Statuses> = None,
        #[serde(skip_serializing_if = "Option::is_none")]
        rises: Option<u32> = None,
        #[serde(skip_serializing_if = "Option::is_none")]
        falls: Option<u32> = None,
        #[serde(skip_serializing_if = "Option::is_none")]
        host: Option<String> = None,
    }
    /// `[[sites.paths]]`
    RawPath {
        prefix: String = String::new(),
        #[serde(skip_serializing_if = "Option::is_none")]
        mode: Option<RawMode> = None,
        rewrite: bool = true,
        vendors: BTreeMap<String, VendorAction> = BTreeMap::new(),
    }
    /// An origin with more than a URL.
    RawUpstreamTable {
        #[serde(skip_serializing_if = "Option::is_none")]
        url: Option<Origin> = None,
        #[serde(skip_serializing_if = "Option::is_none")]
        http2: Option<bool> = None,
        #[serde(skip_serializing_if = "Option::is_none")]
        host: Option<String> = None,
        #[serde(skip_serializing_if = "Option::is_none")]
        roots: Option<FilePath> = None,
        #[serde(skip_serializing_if = "Option::is_none")]
        weight: Option<u32> = None,
        backup: bool = false,
        #[serde(skip_serializing_if = "Option::is_none")]
        max_connections: Option<usize> = None,
        proxy_protocol: ProxyProtocol = ProxyProtocol::Off,
    }
    /// A listener with more than an address.
    RawListenTable {
        #[serde(skip_serializing_if = "Option::is_none")]
        address: Option<ListenText> = None,
        proxy_protocol: bool = false,
        #[serde(skip_serializing_if = "Option::is_none")]
        mode: Option<FileMode> = None,
    }
}

impl Raw {
    /// The defaults by key, as they would be written; keys without one are not there.
    pub(super) fn defaults() -> serde_json::Map<String, serde_json::Value> {
        match serde_json::to_value(Self::default()) {
            Ok(serde_json::Value::Object(all)) => all,
            _ => serde_json::Map::new(),
        }
    }
}

impl Default for Raw {
    fn default() -> Self {
        let networks = [([127, 0, 0, 0].into(), 8), (std::net::Ipv6Addr::LOCALHOST.into(), 128)];
        let loopback = networks.into_iter().filter_map(|(ip, length)| ipnet::IpNet::new(ip, length).ok());
        Self {
            listen: OneOrMany(vec![RawListen::Address(ListenText(ListenAt::Tcp(
                ([127, 0, 0, 1], 8080).into(),
            )))]),
            upstream: OneOrMany::default(),
            balance: Balance::default(),
            hash_on: HashKey(HashOn::default()),
            sticky_cookie: CookieName("optgate_origin".to_owned()),
            slow_start: Period(Duration::ZERO),
            mode: RawMode::Enforce,
            data_dir: None,
            workers: 0,
            drain_timeout: seconds(30),
            trusted_proxies: OneOrMany::default(),
            explain_to: OneOrMany(loopback.map(Network).collect()),
            on_rewrite_failure: OnRewriteFailure::default(),
            service_providers: ServiceProviders::default(),
            unknown: Unknown::default(),
            known: OneOrMany::default(),
            strip_link_params: false,
            no_transform: NoTransform::default(),
            compress: Compress::default(),
            server_timing: ServerTiming::default(),
            collectors: OneOrMany::default(),
            not_collectors: OneOrMany::default(),
            first_party_hosts: OneOrMany::default(),
            default_site: "first".to_owned(),
            retired_sites: OneOrMany::default(),
            lists: OneOrMany::default(),
            lists_check: RawListsCheck::default(),
            admin: RawAdmin::default(),
            log: RawLog::default(),
            tls: RawTls::default(),
            acme: RawAcme::default(),
            timeouts: RawTimeouts::default(),
            limits: RawLimits::default(),
            health: RawHealth::default(),
            outlier: RawOutlier::default(),
            portal: RawPortal::default(),
            signals: RawSignals::default(),
            gpc_json: RawGpcJson::default(),
            account: RawAccount::default(),
            ready: RawReady::default(),
            store: RawStore::default(),
            cache: RawCache::default(),
            csp: RawCsp::default(),
            dns: RawDns::default(),
            registry: RawRegistry::default(),
            mail: RawMail::default(),
            programme: None,
            vendors: BTreeMap::new(),
            contracts: BTreeMap::new(),
            sites: Vec::new(),
            groups: Vec::new(),
            recipients: Vec::new(),
        }
    }
}
