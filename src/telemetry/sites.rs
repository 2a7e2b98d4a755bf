//! Figures of one site: requests, and what became of signals and links.

use std::time::Duration;

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::Registry as Exposition;

use super::durations::Durations;
use super::families::{Counters, Labels, family, labels};
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

const CODE_CLASSES: [&str; 5] = ["1xx", "2xx", "3xx", "4xx", "5xx"];
const BASES: [Basis; 6] =
    [Basis::Gpc, Basis::Account, Basis::Cookie, Basis::Cmp, Basis::Import, Basis::Profile];
const OUTCOMES: [&str; 4] = ["enforced", "refused", "passed", "observed"];

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

    /// What became of the legal link on a page whose body has ended.
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

/// What the counters of sites are made from.
#[derive(Debug)]
pub(super) struct SiteFamilies {
    requests: Counters,
    duration: Family<Labels, Durations>,
    signals: Counters,
    decisions: Counters,
    links: Counters,
}

impl SiteFamilies {
    pub(super) fn new(x: &mut Exposition) -> Self {
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

    /// The same ones every time.
    pub(super) fn of(&self, site: &str) -> SiteMetrics {
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
