//! Figures of one origin: read by `/metrics` and `/api/summary`, written where requests are sent.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicI64, AtomicU64};
use std::sync::{Arc, Mutex, PoisonError};

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry as Exposition;

use super::families::{Counters, Gauges, family, labels};
use crate::config::Upstream;

/// What an origin is to the balancer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UpstreamState {
    /// Gets requests.
    Up,
    /// Active checks say that it is down.
    Down,
    /// Left out for a while, because visitors' requests failed.
    Ejected,
    /// Visitors' requests fail as often, and it gets them all the same: too many others are left out already, or there
    /// is no other.
    Failing,
}

impl UpstreamState {
    /// All of them, in their order.
    pub(super) const ALL: [Self; 4] = [Self::Up, Self::Down, Self::Ejected, Self::Failing];

    /// The word in metrics, logs and JSON.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Up => "up",
            Self::Down => "down",
            Self::Ejected => "ejected",
            Self::Failing => "failing",
        }
    }
}

/// One origin of one site.
#[derive(Debug, Default)]
pub struct UpstreamFigures {
    /// The site's name.
    pub site: String,
    /// The origin's URL, as written.
    pub upstream: String,
    /// Its weight.
    pub weight: u32,
    /// It stands in for the others only.
    pub backup: bool,
    /// 1: gets requests, and answers them.
    pub healthy: Gauge<i64, AtomicI64>,
    /// 1: left out because requests failed.
    pub ejected: Gauge<i64, AtomicI64>,
    /// 1: gets requests though they fail.
    pub failing: Gauge<i64, AtomicI64>,
    /// Changes of state, to each of `UpstreamState::ALL`.
    pub changes: [Counter<u64, AtomicU64>; 4],
    /// Requests that failed for the origin's sake.
    pub failures: Counter<u64, AtomicU64>,
    /// Answers that it broke off, or went silent in.
    pub broken_answers: Counter<u64, AtomicU64>,
    /// Active checks that failed.
    pub bad_checks: Counter<u64, AtomicU64>,
    /// Connections open.
    pub connections: Gauge<i64, AtomicI64>,
    /// Requests that wait for a place.
    pub waiting: Gauge<i64, AtomicI64>,
    /// Requests refused because the line was full.
    pub queue_full: Counter<u64, AtomicU64>,
    /// Requests refused because they had waited too long.
    pub queue_timeout: Counter<u64, AtomicU64>,
    /// Look-ups of its name that failed; the last answer is kept.
    pub bad_lookups: Counter<u64, AtomicU64>,
}

impl UpstreamFigures {
    /// The state as it was last noted.
    #[must_use]
    pub fn state(&self) -> UpstreamState {
        match (self.healthy.get(), self.ejected.get(), self.failing.get()) {
            (1, _, _) => UpstreamState::Up,
            (_, 1, _) => UpstreamState::Ejected,
            (_, _, 1) => UpstreamState::Failing,
            _ => UpstreamState::Down,
        }
    }

    /// Shows a state that is no change.
    pub fn show(&self, state: UpstreamState) {
        self.healthy.set(i64::from(state == UpstreamState::Up));
        self.ejected.set(i64::from(state == UpstreamState::Ejected));
        self.failing.set(i64::from(state == UpstreamState::Failing));
    }

    /// Notes a change of state.
    pub(super) fn changed(&self, to: UpstreamState) {
        self.show(to);
        self.changes[to as usize].inc();
    }
}

/// Why a request does not get a place: the line was full, or too long.
const REFUSED: [&str; 2] = ["full", "timeout"];

/// What the figures of origins are made from.
#[derive(Debug)]
pub(super) struct UpstreamFamilies {
    gauges: [Gauges; 5],
    counters: [Counters; 6],
    /// Whose figures are shown, by site and URL.
    shown: Mutex<BTreeSet<(String, String)>>,
}

impl UpstreamFamilies {
    pub(super) fn new(x: &mut Exposition) -> Self {
        let mut gauge = |name: &str, help: &str| {
            let family = Gauges::default();
            x.register(name, help, family.clone());
            family
        };
        let gauges = [
            gauge("upstream_healthy", "1: the origin gets requests and answers them"),
            gauge("upstream_ejected", "1: the origin is left out because requests failed"),
            gauge("upstream_failing", "1: the origin gets requests though they fail: no other can take them"),
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
        Self { gauges, counters, shown: Mutex::default() }
    }

    /// Shows the figures of origins that are not among these no more. What is still counted of them is seen by nobody.
    pub(super) fn keep_only(&self, in_force: &[Arc<UpstreamFigures>]) {
        let in_force = in_force.iter().map(|figures| (figures.site.as_str(), figures.upstream.as_str()));
        let in_force: BTreeSet<_> = in_force.collect();
        let mut shown = self.shown.lock().unwrap_or_else(PoisonError::into_inner);
        shown.retain(|(site, upstream)| {
            let stays = in_force.contains(&(site.as_str(), upstream.as_str()));
            if !stays {
                self.forget(site, upstream);
            }
            stays
        });
    }

    fn forget(&self, site: &str, upstream: &str) {
        let of = [("site", site), ("upstream", upstream)];
        for family in &self.gauges {
            family.remove(&labels(&of));
        }
        let more = UpstreamState::ALL.map(|to| ("to", to.as_str())).into_iter();
        let more = more.chain(REFUSED.map(|reason| ("reason", reason))).map(Some).chain([None]);
        for more in more {
            let pairs: Vec<_> = of.into_iter().chain(more).collect();
            for family in &self.counters {
                family.remove(&labels(&pairs));
            }
        }
    }

    /// The same ones every time.
    pub(super) fn of(&self, site: &str, upstream: &Upstream) -> UpstreamFigures {
        let of = [("site", site), ("upstream", upstream.label.as_str())];
        let mut shown = self.shown.lock().unwrap_or_else(PoisonError::into_inner);
        shown.insert((site.to_owned(), upstream.label.clone()));
        let counter = |family: &Counters, more: &[(&'static str, &str)]| {
            let pairs: Vec<_> = of.into_iter().chain(more.iter().copied()).collect();
            family.get_or_create_owned(&labels(&pairs))
        };
        let [healthy, ejected, failing, connections, waiting] =
            self.gauges.each_ref().map(|family| family.get_or_create_owned(&labels(&of)));
        let [changes, failures, broken_answers, bad_checks, refused, bad_lookups] = &self.counters;
        UpstreamFigures {
            site: site.to_owned(),
            upstream: upstream.label.clone(),
            weight: upstream.weight,
            backup: upstream.backup,
            healthy,
            ejected,
            failing,
            changes: UpstreamState::ALL.map(|to| counter(changes, &[("to", to.as_str())])),
            failures: counter(failures, &[]),
            broken_answers: counter(broken_answers, &[]),
            bad_checks: counter(bad_checks, &[]),
            connections,
            waiting,
            queue_full: counter(refused, &[("reason", REFUSED[0])]),
            queue_timeout: counter(refused, &[("reason", REFUSED[1])]),
            bad_lookups: counter(bad_lookups, &[]),
        }
    }
}
