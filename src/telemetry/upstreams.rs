//! Figures of one origin: read by `/metrics` and `/api/summary`, written where requests are sent.

use std::sync::atomic::{AtomicI64, AtomicU64};

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;

/// What an origin is to the balancer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UpstreamState {
    /// Gets requests.
    Up,
    /// Active checks say that it is down.
    Down,
    /// Left out for a while, because visitors' requests failed.
    Ejected,
}

impl UpstreamState {
    /// All of them, in their order.
    pub(super) const ALL: [Self; 3] = [Self::Up, Self::Down, Self::Ejected];

    /// The word in metrics, logs and JSON.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Up => "up",
            Self::Down => "down",
            Self::Ejected => "ejected",
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
    /// 1: gets requests.
    pub healthy: Gauge<i64, AtomicI64>,
    /// 1: left out because requests failed.
    pub ejected: Gauge<i64, AtomicI64>,
    /// Changes of state, to each of `UpstreamState::ALL`.
    pub changes: [Counter<u64, AtomicU64>; 3],
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
        match (self.healthy.get(), self.ejected.get()) {
            (1, _) => UpstreamState::Up,
            (_, 1) => UpstreamState::Ejected,
            _ => UpstreamState::Down,
        }
    }

    /// Shows a state that is no change.
    pub fn show(&self, state: UpstreamState) {
        self.healthy.set(i64::from(state == UpstreamState::Up));
        self.ejected.set(i64::from(state == UpstreamState::Ejected));
    }

    /// Notes a change of state.
    pub(super) fn changed(&self, to: UpstreamState) {
        self.show(to);
        self.changes[to as usize].inc();
    }
}
