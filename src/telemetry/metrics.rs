//! Counters and gauges for `/metrics`, in Prometheus' form.
//!
//! A counter's handle is made once and kept, so counting is one relaxed atomic add; labels come from
//! closed sets (sites, vendors, outcomes), never from a request.

use std::sync::Arc;
use std::sync::atomic::AtomicI64;

use arc_swap::ArcSwap;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::text;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry as Exposition;

use super::accounts::AccountFigures;
use super::families::{Counters, Gauges, Labels, family, labels, single};
use super::limits::LimitFigures;
use super::memo::MemoMetrics;
use super::side::Side;
use super::sink;
use super::sites::SiteFamilies;
pub use super::sites::{LinkOutcome, Outcome, SiteMetrics};
pub use super::stages::{Stage, StageFigures};
use super::upstreams::{UpstreamFamilies, UpstreamFigures};
use super::vendors::VendorFamilies;
pub use super::vendors::VendorsMetrics;
use crate::config::Upstream;

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

/// All counters and gauges of the process.
#[derive(Debug)]
pub struct Metrics {
    exposition: Exposition,
    sites: SiteFamilies,
    vendors: VendorFamilies,
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
    /// Parts of the process that panicked.
    pub panics: Counter,
    /// Limits that were reached.
    pub limits: LimitFigures,
    /// Memory of the process as last looked at, bytes.
    pub memory: Gauge<i64, AtomicI64>,
    /// What became of rewritten pages that came again.
    pub memo: MemoMetrics,
    /// What names accounts.
    pub accounts: AccountFigures,
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
        x.register(
            "log_lines_lost",
            "Lines of the log, but for access lines, that could not be written, or came faster than they could",
            sink::lost().clone(),
        );
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
        let memo = MemoMetrics::new(&mut x);
        let accounts = AccountFigures::new(&mut x);
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
            vendors: VendorFamilies::new(&mut x),
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
            panics: single(
                &mut x,
                "panics",
                "Panics: faults in Optgate, each at the cost of one connection or job",
            ),
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
        self.vendors.of(ids)
    }

    /// What became of one vendor's references so far: `[allowed, restricted, stripped]`.
    #[must_use]
    pub fn vendor_counts(&self, id: &str) -> [u64; 3] {
        self.vendors.counts(id)
    }

    /// A request that Optgate answered itself; `side` and `label` are from the error table.
    pub fn error(&self, side: Side, label: &'static str) {
        self.errors.get_or_create(&labels(&[("side", side.as_str()), ("cause", label)])).inc();
    }

    /// A message that is not well-formed; `reason` is from a closed set.
    pub fn refused_message(&self, side: Side, reason: &'static str) {
        self.refused_messages.get_or_create(&labels(&[("side", side.as_str()), ("reason", reason)])).inc();
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

    /// The origins' figures of the settings in force; those of others go.
    pub fn set_upstreams(&self, all: Vec<Arc<UpstreamFigures>>) {
        self.upstreams.store(Arc::new(all));
        self.forget_upstreams_out_of_force();
    }

    /// Figures of origins go that were made for settings which did not come into force.
    pub fn forget_upstreams_out_of_force(&self) {
        self.upstream_families.keep_only(&self.upstreams.load());
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
    use crate::config::VendorAction;
    use crate::privacy::Basis;

    /// Signals seen equals the sum of outcomes.
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
