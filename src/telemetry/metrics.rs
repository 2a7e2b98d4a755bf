//! Counters and gauges for `/metrics`, in Prometheus' form.
//!
//! A counter's handle is made once and kept, so counting is one relaxed atomic add; labels come from
//! closed sets (sites, vendors, outcomes), never from a request.

use std::sync::atomic::{AtomicI64, AtomicU64};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use arc_swap::ArcSwap;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{EncodeLabelSet, text};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry as Exposition;

use super::accounts::AccountFigures;
use super::durations::Durations;
use super::limits::LimitFigures;
use super::memo::MemoMetrics;
use super::upstreams::{UpstreamFigures, UpstreamState};
use crate::config::{Upstream, VendorAction};
use crate::privacy::Basis;

/// What became of a signal on an HTML response; exactly one for each response with a signal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// Carried out.
    Enforced,
    /// Could not be carried out, so the page was refused.
    Refused,
    /// Could not be carried out and was passed, by the operator's choice.
    Passed,
    /// Observe mode: counted only.
    Observed,
}

/// What became of the opt-out link on a document.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LinkOutcome {
    /// Our link was inserted.
    Inserted,
    /// The page has its own, placed before ours would have been.
    Adopted,
    /// The page has its own after ours.
    Duplicate,
    /// No place was left where a link would show.
    Unplaced,
}

/// Where a tracker cookie was removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CookieSide {
    /// From the origin's `Set-Cookie`.
    Response,
    /// From the `Cookie` toward the origin.
    Request,
    /// Expired in the browser.
    Expired,
}

/// What the guard reports of a request to a tracker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GuardSide {
    /// It was stopped.
    Blocked,
    /// It had left before the guard saw it.
    Slipped,
}

/// What became of a body sent to the report address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReportOutcome {
    /// Read.
    Read,
    /// No report, too large, or of another site's page.
    Refused,
    /// Above the rate.
    Dropped,
}

/// Label pairs in a fixed order.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Labels(Vec<(&'static str, String)>);

impl EncodeLabelSet for Labels {
    fn encode(
        &self,
        encoder: &mut prometheus_client::encoding::LabelSetEncoder<'_>,
    ) -> Result<(), std::fmt::Error> {
        self.0.encode(encoder)
    }
}

fn labels(pairs: &[(&'static str, &str)]) -> Labels {
    Labels(pairs.iter().map(|(k, v)| (*k, (*v).to_owned())).collect())
}

type Counters = Family<Labels, Counter>;

const CODE_CLASSES: [&str; 5] = ["1xx", "2xx", "3xx", "4xx", "5xx"];
const BASES: [Basis; 6] =
    [Basis::Gpc, Basis::Account, Basis::Cookie, Basis::Cmp, Basis::Import, Basis::Profile];
const OUTCOMES: [&str; 4] = ["enforced", "refused", "passed", "observed"];
const ACTIONS: [&str; 3] = ["allow", "restrict", "strip"];

/// Counters of one site.
#[derive(Debug)]
pub struct SiteMetrics {
    requests: [Counter; 5],
    duration: Durations,
    signals: [Counter; 6],
    outcomes: [[Counter; 4]; 6],
    links: [Counter; 4],
}

impl SiteMetrics {
    /// One answered request: status code and time from head to the response's head.
    pub fn request(&self, status: u16, took: Duration) {
        if let Some(counter) = self.requests.get(usize::from(status / 100).wrapping_sub(1)) {
            counter.inc();
        }
        self.duration.observe(took);
    }

    /// An HTML response carried a signal, and this became of it.
    pub fn signal(&self, basis: Basis, outcome: Outcome) {
        let at = basis_index(basis);
        self.signals[at].inc();
        self.outcomes[at][outcome as usize].inc();
    }

    /// An outcome known at the head turned out otherwise in the body.
    pub fn link(&self, outcome: LinkOutcome) {
        self.links[outcome as usize].inc();
    }

    /// Signals seen and outcomes so far, by basis: `(basis, seen, [enforced, refused, passed, observed])`.
    #[must_use]
    pub fn signal_counts(&self) -> Vec<(&'static str, u64, [u64; 4])> {
        BASES
            .iter()
            .enumerate()
            .map(|(i, b)| (b.as_str(), self.signals[i].get(), self.outcomes[i].each_ref().map(Counter::get)))
            .collect()
    }

    /// Requests answered so far.
    #[must_use]
    pub fn request_count(&self) -> u64 {
        self.requests.iter().map(Counter::get).sum()
    }
}

const fn basis_index(basis: Basis) -> usize {
    match basis {
        Basis::Gpc => 0,
        Basis::Account => 1,
        Basis::Cookie => 2,
        Basis::Cmp => 3,
        Basis::Import => 4,
        Basis::Profile => 5,
    }
}

/// Counters of one vendor, each by action; made when first needed, since most sites meet few vendors.
#[derive(Debug)]
struct VendorMetrics {
    id: String,
    done: [OnceLock<Counter>; 3],
    observed: [OnceLock<Counter>; 3],
}

impl VendorMetrics {
    fn new(id: &str) -> Self {
        Self { id: id.to_owned(), done: Default::default(), observed: Default::default() }
    }

    fn count(&self, cells: &[OnceLock<Counter>; 3], family: &Counters, action: VendorAction, count: u64) {
        let at = action as usize;
        let make = || family.get_or_create_owned(&labels(&[("vendor", &self.id), ("action", ACTIONS[at])]));
        cells[at].get_or_init(make).inc_by(count);
    }
}

/// Counters of a registry's vendors, by their position in it.
#[derive(Debug)]
pub struct VendorsMetrics {
    vendors: Vec<VendorMetrics>,
    neutralised: Counters,
    observed: Counters,
}

impl VendorsMetrics {
    /// References of one vendor (registry position) that were allowed, restricted or stripped.
    pub fn neutralised(&self, vendor: u16, action: VendorAction, count: u64) {
        if let Some(vendor) = self.vendors.get(usize::from(vendor)) {
            vendor.count(&vendor.done, &self.neutralised, action, count);
        }
    }

    /// References that observe mode left as they were, by what enforcing would have done.
    pub fn observed(&self, vendor: u16, action: VendorAction, count: u64) {
        if let Some(vendor) = self.vendors.get(usize::from(vendor)) {
            vendor.count(&vendor.observed, &self.observed, action, count);
        }
    }
}

/// How long one stage of exchanges takes.
#[derive(Debug, Clone)]
pub struct Stage(Histogram);

impl Stage {
    /// It took so long.
    pub fn observe(&self, took: Duration) {
        self.0.observe(took.as_secs_f64());
    }
}

/// Where an exchange's time goes.
#[derive(Debug)]
pub struct StageFigures {
    /// From the request's head to asking the origin.
    pub request: Stage,
    /// Waiting for the head of the origin's answer.
    pub origin: Stage,
    /// From there to the answer's head, without rewriting.
    pub head: Stage,
    /// In a page's rewriter, from its first byte to its last.
    pub rewrite: Stage,
}

impl StageFigures {
    fn new(x: &mut Exposition) -> Self {
        let family = Family::<Labels, Histogram>::new_with_constructor(|| {
            Histogram::new([
                5e-6, 1e-5, 2.5e-5, 5e-5, 1e-4, 2.5e-4, 5e-4, 1e-3, 2.5e-3, 5e-3, 1e-2, 2.5e-2, 0.1, 0.5, 2.5,
            ])
        });
        x.register(
            "stage_duration_seconds",
            "Where the time of an exchange with an origin went; of one in sixteen, and of those with Server-Timing",
            family.clone(),
        );
        let of = |stage: &str| Stage(family.get_or_create_owned(&labels(&[("stage", stage)])));
        Self { request: of("request"), origin: of("origin"), head: of("head"), rewrite: of("rewrite") }
    }
}

/// All counters and gauges of the process.
#[derive(Debug)]
pub struct Metrics {
    exposition: Exposition,
    sites: SiteFamilies,
    neutralised: Counters,
    observed: Counters,
    errors: Counters,
    refused_messages: Counters,
    bypass: Counters,
    list_changes: Counters,
    reloads: Counters,
    list_rules: Family<Labels, Gauge>,
    certificates_until: Gauges,
    certificate_orders: Counters,
    proxy_headers: Counters,
    upstream_families: UpstreamFamilies,
    /// Those of the settings in force.
    upstreams: ArcSwap<Vec<Arc<UpstreamFigures>>>,
    /// Where an exchange's time went, of those that are measured.
    pub stages: StageFigures,
    cookies: [Counter; 3],
    guard: [Counters; 2],
    reports: [Counter; 3],
    /// Signals that were sent and could not be read: `Sec-GPC` fields, own cookies.
    pub malformed_signals: Counter,
    /// Access lines that could not be written.
    pub access_lines_lost: Counter,
    /// Own cookies that say `out` but had to be signed anew.
    pub resigned_cookies: Counter,
    /// First-party collector requests answered here.
    pub collectors: Counter,
    /// CNAME look-ups that were answered.
    pub dns_answers: Counter,
    /// CNAME look-ups that failed; the last answer is kept.
    pub dns_failures: Counter,
    /// Hosts of the sites' own names that lead to a vendor.
    pub cloaked_hosts: Gauge<i64, AtomicI64>,
    /// Opt-out and opt-in POSTs answered, by the portal.
    pub choices: Counter,
    /// Downstream connections open.
    pub connections: Gauge<i64, AtomicI64>,
    /// Of them, HTTP/1.1 connections that have been idle for so long that only their sockets are held.
    pub connections_quiet: Gauge<i64, AtomicI64>,
    /// Visitors' TLS handshakes that failed.
    pub handshakes_failed: Counter,
    /// Downstream connections refused at the limit.
    pub connections_refused: Counter,
    /// Limits that were reached.
    pub limits: LimitFigures,
    /// Memory of the process as last looked at, bytes.
    pub memory: Gauge<i64, AtomicI64>,
    /// What became of rewritten pages that came again.
    pub memo: MemoMetrics,
    /// What names accounts.
    pub accounts: AccountFigures,
}

/// A registered family of counters.
fn family(x: &mut Exposition, name: &str, help: &str) -> Counters {
    let family = Counters::default();
    x.register(name, help, family.clone());
    family
}

/// A registered counter without labels.
fn single(x: &mut Exposition, name: &str, help: &str) -> Counter {
    let counter = Counter::<u64, AtomicU64>::default();
    x.register(name, help, counter.clone());
    counter
}

fn account_figures(x: &mut Exposition) -> AccountFigures {
    let tokens =
        family(x, "account_tokens", "Requests with a token that names an account, by what came of it");
    let fetches = family(x, "account_key_fetches", "Fetches of the keys of tokens, by result");
    AccountFigures::new(
        |result| tokens.get_or_create_owned(&labels(&[("result", result)])),
        |result| fetches.get_or_create_owned(&labels(&[("result", result)])),
        single(x, "account_answers", "Answers of origins that named an account"),
        single(x, "account_raised", "Answers held to the opt-out of the account that only they named"),
    )
}

fn memo_figures(x: &mut Exposition) -> MemoMetrics {
    let bytes = Gauge::default();
    x.register("memo_bytes", "Memory of the rewritten pages that are remembered", bytes.clone());
    MemoMetrics {
        hits: single(x, "memo_hits", "Rewritten pages whose bytes were the same as before"),
        partial: single(x, "memo_partial", "Rewritten pages that were remembered and partly others"),
        misses: single(x, "memo_misses", "Rewritten pages that were not remembered"),
        recoded: single(x, "memo_recoded", "Remembered pages that were compressed anew, in fewer bytes"),
        bytes,
    }
}

type Gauges = Family<Labels, Gauge<i64, AtomicI64>>;

/// What the figures of origins are made from.
#[derive(Debug)]
struct UpstreamFamilies {
    gauges: [Gauges; 4],
    counters: [Counters; 6],
}

impl UpstreamFamilies {
    fn new(x: &mut Exposition) -> Self {
        let mut gauge = |name: &str, help: &str| {
            let family = Gauges::default();
            x.register(name, help, family.clone());
            family
        };
        let gauges = [
            gauge("upstream_healthy", "1: the origin gets requests"),
            gauge("upstream_ejected", "1: the origin is left out because requests failed"),
            gauge("upstream_connections", "Connections to the origin"),
            gauge("upstream_waiting", "Requests that wait for a connection to the origin"),
        ];
        let counters = [
            family(x, "upstream_changes", "Changes of an origin's state"),
            family(x, "upstream_failures", "Requests that failed for the origin's sake"),
            family(x, "upstream_broken_answers", "Answers that the origin broke off, or went silent in"),
            family(x, "upstream_bad_checks", "Active checks that failed"),
            family(x, "upstream_queue_refused", "Requests refused for want of a connection to the origin"),
            family(x, "upstream_bad_lookups", "Look-ups of the origin's name that failed"),
        ];
        Self { gauges, counters }
    }

    fn of(&self, site: &str, upstream: &Upstream) -> UpstreamFigures {
        let of = [("site", site), ("upstream", upstream.label.as_str())];
        let counter = |family: &Counters, more: &[(&'static str, &str)]| {
            let pairs: Vec<_> = of.into_iter().chain(more.iter().copied()).collect();
            family.get_or_create_owned(&labels(&pairs))
        };
        let [healthy, ejected, connections, waiting] =
            self.gauges.each_ref().map(|family| family.get_or_create_owned(&labels(&of)));
        let [changes, failures, broken_answers, bad_checks, refused, bad_lookups] = &self.counters;
        UpstreamFigures {
            site: site.to_owned(),
            upstream: upstream.label.clone(),
            weight: upstream.weight,
            backup: upstream.backup,
            healthy,
            ejected,
            changes: UpstreamState::ALL.map(|to| counter(changes, &[("to", to.as_str())])),
            failures: counter(failures, &[]),
            broken_answers: counter(broken_answers, &[]),
            bad_checks: counter(bad_checks, &[]),
            connections,
            waiting,
            queue_full: counter(refused, &[("reason", "full")]),
            queue_timeout: counter(refused, &[("reason", "timeout")]),
            bad_lookups: counter(bad_lookups, &[]),
        }
    }
}

/// What the counters of sites are made from.
#[derive(Debug)]
struct SiteFamilies {
    requests: Counters,
    duration: Family<Labels, Durations>,
    signals: Counters,
    decisions: Counters,
    links: Counters,
}

impl SiteFamilies {
    fn new(x: &mut Exposition) -> Self {
        let duration = Family::<Labels, Durations>::default();
        x.register("request_duration_seconds", "From request head to response head", duration.clone());
        Self {
            requests: family(
                x,
                "requests",
                "Requests answered, and those given up before (4xx, 499 in the access log)",
            ),
            duration,
            signals: family(x, "signals_seen", "HTML responses to a request with an opt-out signal"),
            decisions: family(x, "optout_decisions", "What became of the signal on an HTML response"),
            links: family(x, "links", "Opt-out links on documents"),
        }
    }

    fn of(&self, site: &str) -> SiteMetrics {
        let of = |family: &Counters, pairs: &[(&'static str, &str)]| {
            let all: Vec<_> = [("site", site)].into_iter().chain(pairs.iter().copied()).collect();
            family.get_or_create_owned(&labels(&all))
        };
        SiteMetrics {
            requests: CODE_CLASSES.map(|c| of(&self.requests, &[("code_class", c)])),
            duration: self.duration.get_or_create_owned(&labels(&[("site", site)])),
            signals: BASES.map(|b| of(&self.signals, &[("signal", b.as_str())])),
            outcomes: BASES
                .map(|b| OUTCOMES.map(|o| of(&self.decisions, &[("signal", b.as_str()), ("outcome", o)]))),
            links: ["inserted", "adopted", "duplicate", "unplaced"]
                .map(|o| of(&self.links, &[("outcome", o)])),
        }
    }
}

impl Metrics {
    /// Builds every family.
    #[must_use]
    #[allow(clippy::new_without_default)]
    pub fn new() -> Self {
        let mut x = Exposition::with_prefix("optgate");
        let build = Family::<Labels, Gauge>::default();
        build.get_or_create(&labels(&[("version", env!("CARGO_PKG_VERSION"))])).set(1);
        x.register("build_info", "The running version", build);
        let (connections, connections_quiet) = (Gauge::default(), Gauge::default());
        x.register("connections", "Downstream connections open", connections.clone());
        x.register(
            "connections_quiet",
            "Idle HTTP/1.1 connections whose buffers were given back",
            connections_quiet.clone(),
        );
        let memory = Gauge::default();
        x.register(
            "memory_bytes",
            "Memory of the process, without what is mapped from files",
            memory.clone(),
        );
        let memo = memo_figures(&mut x);
        let accounts = account_figures(&mut x);
        let list_rules = Family::<Labels, Gauge>::default();
        x.register("list_rules", "Rules about requests of each filter list in force", list_rules.clone());
        let certificates_until = Gauges::default();
        x.register(
            "certificate_expiry_timestamp_seconds",
            "When the certificate of a host ends, Unix time; of files each name",
            certificates_until.clone(),
        );
        let cloaked_hosts = Gauge::default();
        x.register("cloaked_hosts", "First-party hosts that lead to a vendor (CNAME)", cloaked_hosts.clone());
        let cookies = family(&mut x, "cookies_removed", "Tracker cookies removed or expired");
        let reports =
            family(&mut x, "reports", "Reports of pages on the second wall and the guard, by result");
        Self {
            sites: SiteFamilies::new(&mut x),
            neutralised: family(&mut x, "elements_neutralised", "Tracker references neutralised or kept"),
            observed: family(
                &mut x,
                "elements_observed",
                "Tracker references that observe mode left as they were, by what enforcing would have done",
            ),
            errors: family(&mut x, "errors", "Requests that Optgate had to answer itself, by side and cause"),
            refused_messages: family(
                &mut x,
                "refused_messages",
                "Requests and answers that are not well-formed, by side and reason",
            ),
            bypass: family(&mut x, "rewrite_bypass", "HTML responses that were not rewritten, by reason"),
            list_changes: family(&mut x, "list_changes", "Changed filter lists: taken, or why not"),
            reloads: family(&mut x, "reloads", "Settings read again: taken, or refused"),
            list_rules,
            certificates_until,
            certificate_orders: family(&mut x, "certificate_orders", "Orders of certificates, by result"),
            proxy_headers: family(
                &mut x,
                "proxy_headers_refused",
                "Connections closed for want of a usable PROXY protocol header, by reason",
            ),
            upstream_families: UpstreamFamilies::new(&mut x),
            upstreams: ArcSwap::default(),
            stages: StageFigures::new(&mut x),
            cookies: ["response", "request", "expired"]
                .map(|s| cookies.get_or_create_owned(&labels(&[("side", s)]))),
            guard: [
                family(&mut x, "guard_blocked", "Requests to trackers that pages report as stopped"),
                family(&mut x, "guard_slipped", "Requests to trackers that pages report as seen too late"),
            ],
            reports: ["read", "refused", "dropped"]
                .map(|r| reports.get_or_create_owned(&labels(&[("result", r)]))),
            access_lines_lost: single(
                &mut x,
                "access_log_lines_lost",
                "Access lines that could not be written, or came faster than they could",
            ),
            malformed_signals: single(
                &mut x,
                "malformed_signals",
                "Signals that could not be read: Sec-GPC fields, own cookies",
            ),
            resigned_cookies: single(&mut x, "resigned_cookies", "Own cookies honoured with a bad signature"),
            collectors: single(&mut x, "collector_requests", "First-party collector requests answered here"),
            dns_answers: single(&mut x, "dns_answers", "CNAME look-ups that were answered"),
            dns_failures: single(&mut x, "dns_failures", "CNAME look-ups that failed; the last answer holds"),
            cloaked_hosts,
            choices: single(&mut x, "choices", "Opt-out and opt-in forms answered"),
            limits: {
                let reached =
                    family(&mut x, "limit_reached", "Requests, streams and connections over a limit");
                LimitFigures::new(|limit| reached.get_or_create_owned(&labels(&[("limit", limit)])))
            },
            memory,
            memo,
            accounts,
            handshakes_failed: single(
                &mut x,
                "tls_handshakes_failed",
                "TLS handshakes of visitors that failed",
            ),
            connections_refused: single(&mut x, "connections_refused", "Connections refused at the limit"),
            connections,
            connections_quiet,
            exposition: x,
        }
    }

    /// The counters of a site, by its name; the same ones every time, also after a reload.
    ///
    /// Cost: some forty look-ups behind locks; kept by whoever counts requests.
    #[must_use]
    pub fn site(&self, name: &str) -> SiteMetrics {
        self.sites.of(name)
    }

    /// The counters of these vendors, by their position (registry ids, by `VendorId`).
    #[must_use]
    pub fn vendors<'a>(&self, ids: impl Iterator<Item = &'a str>) -> VendorsMetrics {
        VendorsMetrics {
            vendors: ids.map(VendorMetrics::new).collect(),
            neutralised: self.neutralised.clone(),
            observed: self.observed.clone(),
        }
    }

    /// What became of one vendor's references so far: `[allowed, restricted, stripped]`.
    #[must_use]
    pub fn vendor_counts(&self, id: &str) -> [u64; 3] {
        let counter = |action| self.neutralised.get(&labels(&[("vendor", id), ("action", action)]));
        ACTIONS.map(|action| counter(action).map_or(0, |counter| counter.get()))
    }

    /// A request that Optgate answered itself; `side` and `label` are from the error table.
    pub fn error(&self, side: &'static str, label: &'static str) {
        self.errors.get_or_create(&labels(&[("side", side), ("cause", label)])).inc();
    }

    /// A message that is not well-formed; `reason` is from a closed set.
    pub fn refused_message(&self, side: &'static str, reason: &'static str) {
        self.refused_messages.get_or_create(&labels(&[("side", side), ("reason", reason)])).inc();
    }

    /// An HTML response that was not rewritten; `reason` is from a closed set.
    pub fn bypass(&self, reason: &'static str) {
        self.bypass.get_or_create(&labels(&[("reason", reason)])).inc();
    }

    /// Requests of one vendor (registry id) that a page's guard reports.
    pub fn guard(&self, side: GuardSide, vendor: &str, count: u64) {
        self.guard[side as usize].get_or_create(&labels(&[("vendor", vendor)])).inc_by(count);
    }

    /// A body was sent to the report address.
    pub fn report(&self, outcome: ReportOutcome) {
        self.reports[outcome as usize].inc();
    }

    /// A changed filter list: `taken`, or the reason it was not; from a closed set.
    pub fn list_change(&self, what: &'static str) {
        self.list_changes.get_or_create(&labels(&[("result", what)])).inc();
    }

    /// No certificate is there for a host any more.
    pub fn no_certificate(&self, host: &str) {
        self.certificates_until.remove(&labels(&[("host", host)]));
    }

    /// When a host's certificate ends, Unix seconds.
    pub fn certificate_until(&self, host: &str, until: i64) {
        self.certificates_until.get_or_create(&labels(&[("host", host)])).set(until);
    }

    /// An order of a certificate, by its result.
    pub fn certificate_order(&self, result: &'static str) {
        self.certificate_orders.get_or_create(&labels(&[("result", result)])).inc();
    }

    /// Settings were read again: `taken` or `refused`.
    pub fn reload(&self, what: &'static str) {
        self.reloads.get_or_create(&labels(&[("result", what)])).inc();
    }

    /// Rules of a filter list in force; `file` is from the settings.
    pub fn list_rules(&self, file: &str, rules: usize) {
        let rules = i64::try_from(rules).unwrap_or(i64::MAX);
        self.list_rules.get_or_create(&labels(&[("file", file)])).set(rules);
    }

    /// A connection was closed for want of a usable PROXY protocol header; `reason` is from a closed set.
    pub fn proxy_header_refused(&self, reason: &'static str) {
        self.proxy_headers.get_or_create(&labels(&[("reason", reason)])).inc();
    }

    /// Every origin's figures, in the settings' order.
    pub fn upstreams(&self) -> impl Iterator<Item = Arc<UpstreamFigures>> {
        Vec::clone(&self.upstreams.load()).into_iter()
    }

    /// The origins' figures of the settings in force.
    pub fn set_upstreams(&self, all: Vec<Arc<UpstreamFigures>>) {
        self.upstreams.store(Arc::new(all));
    }

    /// The figures of one origin of a site; the same ones after a reload.
    #[must_use]
    pub fn upstream(&self, site: &str, upstream: &Upstream) -> UpstreamFigures {
        self.upstream_families.of(site, upstream)
    }

    /// Tracker cookies removed on one side.
    pub fn cookies(&self, side: CookieSide, count: u64) {
        self.cookies[side as usize].inc_by(count);
    }

    /// Cookies removed so far: `[response, request, expired]`.
    #[must_use]
    pub fn cookie_counts(&self) -> [u64; 3] {
        self.cookies.each_ref().map(Counter::get)
    }

    /// Adds a collector whose figures are read at scrape time (the store's).
    pub fn register_collector(&mut self, collector: Box<dyn Collector>) {
        self.exposition.register_collector(collector);
    }

    /// The text of `/metrics` (OpenMetrics).
    #[must_use]
    pub fn render(&self) -> String {
        let mut out = String::new();
        // Writing to a String cannot fail; a failing collector leaves the text so far.
        let _ = text::encode(&mut out, &self.exposition);
        out
    }
}

/// Shared handle.
pub type SharedMetrics = Arc<Metrics>;

#[cfg(test)]
mod tests {
    use super::*;

    /// DESIGN 7: signals seen equals the sum of outcomes.
    #[test]
    fn every_signal_has_exactly_one_outcome() {
        let metrics = Metrics::new();
        let site = metrics.site("shop");
        site.signal(Basis::Gpc, Outcome::Enforced);
        site.signal(Basis::Gpc, Outcome::Refused);
        let (_, seen, outcomes) = site.signal_counts()[0];
        assert_eq!(seen, outcomes.iter().sum::<u64>());
        metrics.vendors(["meta-pixel"].into_iter()).neutralised(0, VendorAction::Strip, 3);
        assert_eq!(metrics.vendor_counts("meta-pixel"), [0, 0, 3]);
        assert_eq!(metrics.site("shop").signal_counts()[0].1, 2, "by name they are the same counters");
        let text = metrics.render();
        assert!(
            text.contains(r#"optgate_optout_decisions_total{site="shop",signal="gpc",outcome="enforced"} 1"#),
            "{text}"
        );
        assert!(
            text.contains(r#"optgate_elements_neutralised_total{vendor="meta-pixel",action="strip"} 3"#),
            "{text}"
        );
    }
}
