//! From written settings to meant ones: the one conversion that can fail on a combination.

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use url::Host;

use super::error::{ConfigError, Place};
use super::key::KeyPath;
use super::load::Merged;
use super::raw::{Raw, RawLimits, RawTimeouts};
use super::written::{FilePath, Period, Size};
use super::{
    Dns, Limits, Listen, ListenAt, Log, Portal, ProcessMemory, Settings, SignalSettings, Timeouts,
    UpstreamAddress, account, acme, dates, listen, lists, mail, programme, recipients, sharing, sites, store,
    tls,
};

/// Smallest head buffer the HTTP/1 parser takes.
const LEAST_HEADER_BYTES: u64 = 8 << 10;

/// What is wrong with the combination, as it is found.
pub(super) struct Problems<'a> {
    merged: &'a Merged,
    found: Vec<(ConfigError, bool)>,
}

impl<'a> Problems<'a> {
    pub(super) const fn new(merged: &'a Merged) -> Self {
        Self { merged, found: Vec::new() }
    }

    /// The value at `path` is wrong.
    pub(super) fn wrong(&mut self, path: &KeyPath, what: String, why: &str, next: &str) {
        self.add(path, what, why, next, false);
    }

    /// Something is missing at `path`.
    pub(super) fn missing(&mut self, path: &KeyPath, what: String, why: &str, next: &str) {
        self.add(path, what, why, next, true);
    }

    fn add(&mut self, path: &KeyPath, what: String, why: &str, next: &str, absent: bool) {
        let place = self.merged.near(path);
        let error = ConfigError { place, what, why: why.to_owned(), next: next.to_owned() };
        self.found.push((error.without_secret(path), absent));
    }

    /// The errors; `echo` leaves out what is only missing.
    pub(super) fn into_errors(self, echo: bool) -> impl Iterator<Item = ConfigError> {
        self.found.into_iter().filter(move |(_, absent)| !(echo && *absent)).map(|(error, _)| error)
    }
}

/// Converts everything; the result is of use only when no problem was found.
pub(super) fn settings(merged: &Merged, without_sites: bool, problems: &mut Problems<'_>) -> Settings {
    let raw = &merged.raw;
    let account = account::account(merged, problems);
    let (sites, default_site) = sites::sites(merged, without_sites, problems);
    let recipients = recipients::recipients(merged, &sites, problems);
    let mail = mail::mail(merged, problems);
    let settings = Settings {
        listen: listen::listeners(raw, &KeyPath::of("listen"), &raw.listen.0, problems),
        tls: tls::settings(merged, problems),
        acme: acme::acme(merged, problems),
        admin: raw.admin.listen.0,
        admin_names: admin_names(raw, problems),
        admin_tls: tls::admin(merged, problems),
        data_dir: data_dir(merged, problems),
        workers: workers(raw, problems),
        drain_timeout: raw.drain_timeout.0,
        trusted_proxies: raw.trusted_proxies.0.iter().map(|n| n.0).collect(),
        server_timing: raw.server_timing,
        explain_to: raw.explain_to.0.iter().map(|n| n.0).collect(),
        log: log(merged),
        timeouts: timeouts(&raw.timeouts, problems),
        limits: limits(&raw.limits, problems),
        outlier: sharing::outlier(&raw.outlier, problems),
        portal: portal(raw, problems),
        signals: signals(raw, problems),
        gpc_last_update: raw.gpc_json.last_update.as_ref().map(|date| {
            let why = "a statement that has not been made yet is none";
            dates::past(&KeyPath::of("gpc_json.last_update"), date, why, problems)
        }),
        account,
        ready_requires_journal: raw.ready.requires_journal,
        store: store::store(&raw.store, problems),
        dns: dns(raw, problems),
        registry_files: registry_files(merged, problems),
        lists_check: lists::check(&raw.lists_check, problems),
        sites,
        default_site,
        retired_sites: raw.retired_sites.0.clone(),
        recipients,
        mail,
    };
    distinct_addresses(&settings, problems);
    if settings.listen.is_empty() && settings.tls.listen.is_empty() {
        problems.missing(
            &KeyPath::of("listen"),
            "`listen` is empty".to_owned(),
            "there is no `tls.listen` either, so that no visitor could connect",
            "write listen = \":80\", or remove it for its default",
        );
    }
    origins_elsewhere(&settings, problems);
    settings
}

/// Names of the admin listener. One that other pages could have led here would undo what the door is for.
fn admin_names(raw: &Raw, problems: &mut Problems<'_>) -> Vec<String> {
    let top = KeyPath::of("admin.names");
    let mut names = Vec::new();
    for (i, written) in raw.admin.names.0.iter().enumerate() {
        match Host::parse(written) {
            Ok(Host::Domain(name)) if !name.contains('*') => names.push(name),
            _ => {
                let path = top.at(i);
                problems.wrong(
                    &path,
                    format!("`{path}` is no host name"),
                    &format!("\"{written}\" is more or less than a name that a `Host` field may hold"),
                    "write the name alone, without scheme or port: \"optgate.internal\"",
                );
            }
        }
    }
    names
}

/// A file as its writer meant it. Reports one that cannot be opened now, rather than when it is needed.
pub(super) fn readable(
    path: &KeyPath,
    written: &FilePath,
    what: &str,
    problems: &mut Problems<'_>,
) -> PathBuf {
    let file = problems.merged.resolve(path, &written.0);
    let opened = std::fs::File::open(&file).and_then(|f| f.metadata());
    let why = match opened {
        Ok(meta) if meta.is_file() => return file,
        Ok(_) => format!("{} is no regular file", file.display()),
        Err(error) => format!("{}: {error}", file.display()),
    };
    let next = format!("name {what} that exists and may be read by this user");
    problems.wrong(path, format!("`{path}` cannot be read"), &why, &next);
    file
}

fn log(merged: &Merged) -> Log {
    let written = &merged.raw.log;
    let file = written.file.as_ref().map(|file| merged.resolve(&KeyPath::of("log.file"), &file.0));
    Log { format: written.format, level: written.level, file }
}

fn data_dir(merged: &Merged, problems: &mut Problems<'_>) -> PathBuf {
    let path = KeyPath::of("data_dir");
    let Some(written) = &merged.raw.data_dir else {
        problems.missing(
            &path,
            "no place is known for the journal and its keys".to_owned(),
            "neither STATE_DIRECTORY, XDG_STATE_HOME nor HOME is set",
            "give --data-dir DIR, or set `data_dir`",
        );
        return PathBuf::new();
    };
    merged.resolve(&path, &written.0)
}

fn workers(raw: &Raw, problems: &mut Problems<'_>) -> usize {
    match raw.workers {
        0 => std::thread::available_parallelism().map_or(1, usize::from),
        n if n <= 1_024 => n,
        n => {
            problems.wrong(
                &KeyPath::of("workers"),
                "`workers` is too large".to_owned(),
                &format!("{n} threads would only wait for each other; the limit is 1024"),
                "write 0 for one thread a usable core",
            );
            n
        }
    }
}

fn timeouts(raw: &RawTimeouts, problems: &mut Problems<'_>) -> Timeouts {
    let mut get = |name: &str, period: &Period| -> Duration {
        if period.0.is_zero() {
            let path = KeyPath::of("timeouts").key(name);
            problems.wrong(
                &path,
                format!("`{path}` is zero"),
                "every connection would end at once",
                "write how long to wait; long durations like \"24h\" are allowed",
            );
        }
        period.0
    };
    Timeouts {
        tls_handshake: get("tls_handshake", &raw.tls_handshake),
        proxy_header: get("proxy_header", &raw.proxy_header),
        header_read: get("header_read", &raw.header_read),
        idle: get("idle", &raw.idle),
        upstream_connect: get("upstream_connect", &raw.upstream_connect),
        upstream_queue: get("upstream_queue", &raw.upstream_queue),
        first_byte: get("first_byte", &raw.first_byte),
        between_bytes: get("between_bytes", &raw.between_bytes),
        upstream_idle: get("upstream_idle", &raw.upstream_idle),
        tunnel_idle: get("tunnel_idle", &raw.tunnel_idle),
        slow_body: get("slow_body", &raw.slow_body),
        slow_send: get("slow_send", &raw.slow_send),
    }
}

/// Keeps a number within what the parts behind it can bear.
pub(super) fn within(
    path: impl Into<KeyPath>,
    value: u64,
    least: u64,
    most: u64,
    problems: &mut Problems<'_>,
) -> u64 {
    if !(least..=most).contains(&value) {
        let path = path.into();
        problems.wrong(
            &path,
            format!("`{path}` is out of range"),
            &format!("it may be {least} to {most}, and is {value}"),
            "write a value in range, or remove the setting for its default",
        );
    }
    value
}

/// As [`within`], for sizes held in memory.
fn size_within(path: &str, value: &Size, least: u64, most: u64, problems: &mut Problems<'_>) -> usize {
    use super::units::show_size;
    if !(least..=most).contains(&value.0) {
        problems.wrong(
            &KeyPath::of(path),
            format!("`{path}` is out of range"),
            &format!("it may be {} to {}, and is {}", show_size(least), show_size(most), show_size(value.0)),
            "write a value in range, or remove the setting for its default",
        );
    }
    usize::try_from(value.0).unwrap_or(usize::MAX)
}

fn limits(raw: &RawLimits, problems: &mut Problems<'_>) -> Limits {
    within("limits.header_count", raw.header_count as u64, 1, 10_000, problems);
    within("limits.connections", raw.connections as u64, 1, 10_000_000, problems);
    within("limits.connections_per_client", raw.connections_per_client as u64, 0, 10_000_000, problems);
    within("limits.http2_resets", raw.http2_resets.into(), 10, 1_000_000, problems);
    within("limits.http2_control_frames", raw.http2_control_frames.into(), 100, 10_000_000, problems);
    within("limits.http2_cookie_crumbs", raw.http2_cookie_crumbs as u64, 1, 10_000, problems);
    within("limits.portal_rate", raw.portal_rate.into(), 0, 1_000_000, problems);
    within("limits.portal_burst", raw.portal_burst.into(), 0, 1_000_000, problems);
    if let ProcessMemory::Bytes(bytes) = raw.memory.0 {
        size_within("limits.memory", &Size(bytes), 1 << 20, 1 << 50, problems);
    }
    within("limits.http2_streams", raw.http2_streams.into(), 1, 10_000, problems);
    within("limits.upstream_idle", raw.upstream_idle as u64, 0, 100_000, problems);
    within("limits.upstream_queue", raw.upstream_queue as u64, 0, 1_000_000, problems);
    within("limits.decode_ratio", raw.decode_ratio.into(), 1, 1_000_000, problems);
    Limits {
        header_bytes: size_within(
            "limits.header_bytes",
            &raw.header_bytes,
            LEAST_HEADER_BYTES,
            16 << 20,
            problems,
        ),
        header_count: raw.header_count,
        connections: raw.connections,
        connections_per_client: (raw.connections_per_client > 0).then_some(raw.connections_per_client),
        request_body: raw.request_body.0,
        min_body_rate: size_within("limits.min_body_rate", &raw.min_body_rate, 0, 1 << 30, problems) as u64,
        min_send_rate: size_within("limits.min_send_rate", &raw.min_send_rate, 0, 1 << 30, problems) as u64,
        http2_streams: raw.http2_streams,
        http2_resets: raw.http2_resets,
        http2_control_frames: raw.http2_control_frames,
        http2_cookie_crumbs: raw.http2_cookie_crumbs,
        portal_rate: raw.portal_rate,
        portal_burst: raw.portal_burst,
        memory: raw.memory.0,
        upstream_idle: raw.upstream_idle,
        upstream_queue: raw.upstream_queue,
        rewriter_memory: size_within(
            "limits.rewriter_memory",
            &raw.rewriter_memory,
            64 << 10,
            1 << 30,
            problems,
        ),
        rewrite_memo: size_within("limits.rewrite_memo", &raw.rewrite_memo, 0, 1 << 40, problems),
        decode_ratio: raw.decode_ratio,
        decoded_page: size_within("limits.decoded_page", &raw.decoded_page, 1 << 20, 1 << 40, problems),
    }
}

fn dns(raw: &Raw, problems: &mut Problems<'_>) -> Dns {
    let written = &raw.dns;
    let periods = [
        ("interval", &written.interval),
        ("timeout", &written.timeout),
        ("upstream_interval", &written.upstream_interval),
    ];
    for (name, period) in periods {
        let path = KeyPath::of("dns").key(name);
        if period.0 < Duration::from_millis(100) {
            problems.wrong(
                &path,
                format!("`{path}` is too short"),
                "name servers would be asked without a pause, or never be waited for",
                "write 100ms or more; `dns.enabled = false` stops the look-ups",
            );
        }
    }
    within("dns.hosts", written.hosts as u64, 0, 100_000, problems);
    Dns {
        enabled: written.enabled,
        servers: written.servers.0.iter().map(|address| address.0).collect(),
        interval: written.interval.0,
        timeout: written.timeout.0,
        hosts: written.hosts,
        upstream_interval: written.upstream_interval.0,
    }
}

fn portal(raw: &Raw, problems: &mut Problems<'_>) -> Portal {
    let prefix = &raw.portal.prefix;
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"/-_.~".contains(&b);
    let segments = || prefix.split('/').skip(1);
    let why = if !prefix.starts_with('/') {
        "it does not start with a slash"
    } else if prefix == "/" {
        "the consumer pages would take the whole site"
    } else if prefix.ends_with('/') {
        "it ends with a slash, and links are made by adding one"
    } else if !prefix.bytes().all(plain) {
        "it may hold only letters, digits and -._~, for it stands in links, forms and cookies unchanged"
    } else if segments().any(|segment| matches!(segment, "" | "." | "..")) {
        "browsers would take out its empty or dotted segment"
    } else if segments().next() == Some(".well-known") {
        "that path belongs to registered names (RFC 8615)"
    } else {
        ""
    };
    if !why.is_empty() {
        let next = "write a path like \"/privacy-choices\"";
        problems.wrong(&KeyPath::of("portal.prefix"), "`portal.prefix` cannot be used".to_owned(), why, next);
    }
    let limit_url = raw.portal.limit_url.clone();
    if limit_url.as_deref().is_some_and(|url| !programme::leads_to_a_page(url)) {
        let (why, next) = ("no link could lead there", "write a path like \"/limit\", or a whole URL");
        problems.wrong(
            &KeyPath::of("portal.limit_url"),
            "`portal.limit_url` cannot be used".to_owned(),
            why,
            next,
        );
    }
    Portal {
        prefix: prefix.clone(),
        link: raw.portal.link,
        limit_url,
        form_bytes: size_within("portal.form_bytes", &raw.portal.form_bytes, 1 << 10, 16 << 20, problems),
        clear_old_copies: raw.portal.clear_old_copies,
    }
}

fn signals(raw: &Raw, problems: &mut Problems<'_>) -> SignalSettings {
    let written = &raw.signals;
    if written.gpp_sections.0.is_empty() {
        problems.missing(
            &KeyPath::of("signals.gpp_sections"),
            "`signals.gpp_sections` is empty".to_owned(),
            "vendors that read the Global Privacy Platform would be told nothing",
            "write [\"usnat\"], or remove the setting",
        );
    }
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"_-".contains(&b);
    for (i, group) in written.onetrust_groups.0.iter().enumerate() {
        if group.is_empty() || group.len() > 32 || !group.bytes().all(plain) || group == "gpc" {
            let path = KeyPath::of("signals.onetrust_groups").at(i);
            problems.wrong(
                &path,
                format!("`{path}` is no group of OneTrust"),
                "an id is 1 to 32 letters, digits, _ or -, as in the cookie OptanonConsent",
                "write an id like \"C0004\"",
            );
        }
    }
    let mut sections: Vec<_> = written.gpp_sections.0.iter().map(|section| (*section).into()).collect();
    sections.sort_unstable();
    sections.dedup();
    SignalSettings {
        sections,
        cookies: written.cookies,
        onetrust_groups: written.onetrust_groups.0.clone(),
        deny_analytics: written.deny_analytics,
    }
}

fn registry_files(merged: &Merged, problems: &mut Problems<'_>) -> Vec<PathBuf> {
    let top = KeyPath::of("registry.files");
    let files = merged.raw.registry.files.0.iter().enumerate();
    files.map(|(i, file)| readable(&top.at(i), file, "a registry file", problems)).collect()
}

/// Refuses two listeners on one address: with `SO_REUSEPORT` both binds would succeed and the kernel
/// would hand consumers to the admin listener.
fn distinct_addresses(settings: &Settings, problems: &mut Problems<'_>) {
    let listed = |name: &str, list: &[Listen]| -> Vec<(KeyPath, ListenAt)> {
        list.iter().enumerate().map(|(i, l)| (KeyPath::of(name).at(i), l.at.clone())).collect()
    };
    let mut all = listed("listen", &settings.listen);
    all.extend(listed("tls.listen", &settings.tls.listen));
    all.push((KeyPath::of("admin.listen"), ListenAt::Tcp(settings.admin)));
    for (i, (path, address)) in all.iter().enumerate() {
        if let Some((other, _)) = all[..i].iter().find(|(_, earlier)| overlap(earlier, address)) {
            // The one that was written is named; of two written ones the later.
            let (shown, against) = match problems.merged.place(path) {
                Place::Default => (other, path),
                _ => (path, other),
            };
            problems.wrong(
                shown,
                format!("`{path}` and `{other}` listen on the same address"),
                &format!("{} can have one listener, and `{against}` takes it", listen::show(address)),
                "give each listener its own port",
            );
        }
    }
}

/// Refuses origins that are our own listeners: every request would go round until none can be carried.
fn origins_elsewhere(settings: &Settings, problems: &mut Problems<'_>) {
    let listed = |name: &'static str, list: &[Listen]| -> Vec<(KeyPath, ListenAt)> {
        list.iter().enumerate().map(|(i, l)| (KeyPath::of(name).at(i), l.at.clone())).collect()
    };
    let mut own = listed("listen", &settings.listen);
    own.extend(listed("tls.listen", &settings.tls.listen));
    own.push((KeyPath::of("admin.listen"), ListenAt::Tcp(settings.admin)));
    let bare = problems.merged.raw.sites.is_empty();
    for (i, site) in settings.sites.iter().enumerate() {
        let top = if bare { KeyPath::default() } else { KeyPath::of("sites").at(i) };
        for (j, upstream) in site.upstreams.iter().enumerate() {
            let leads_to = |(_, at): &&(KeyPath, ListenAt)| leads_to(&upstream.address, at);
            let Some((listener, at)) = own.iter().find(leads_to) else { continue };
            let list = top.key("upstream");
            let path = if problems.merged.is_list(&list) { list.at(j) } else { list };
            problems.wrong(
                &path,
                format!("`{path}` leads to Optgate itself"),
                &format!(
                    "`{listener}` listens on {}: every request would come back until none can be carried",
                    listen::show(at)
                ),
                "name the address of your site, or listen elsewhere",
            );
        }
    }
}

/// Whether an origin's address is surely a listener's. Names other than localhost may be anybody's.
fn leads_to(origin: &UpstreamAddress, listener: &ListenAt) -> bool {
    match (origin, listener) {
        (UpstreamAddress::Unix(origin), ListenAt::Unix { path, .. }) => origin == path,
        (UpstreamAddress::Tcp { host, port }, ListenAt::Tcp(listener)) => {
            let own = |ip: IpAddr| {
                ip == listener.ip()
                    || (listener.ip().is_unspecified() && (ip.is_loopback() || ip.is_unspecified()))
            };
            let local =
                host == "localhost" && (listener.ip().is_loopback() || listener.ip().is_unspecified());
            *port == listener.port() && (local || host.parse().is_ok_and(own))
        }
        _ => false,
    }
}

fn overlap(a: &ListenAt, b: &ListenAt) -> bool {
    let (ListenAt::Tcp(a), ListenAt::Tcp(b)) = (a, b) else {
        return matches!((a, b), (ListenAt::Unix { path: a, .. }, ListenAt::Unix { path: b, .. }) if a == b);
    };
    let same_ip = a.ip() == b.ip() || a.ip().is_unspecified() || b.ip().is_unspecified();
    a.port() != 0 && a.port() == b.port() && same_ip
}
