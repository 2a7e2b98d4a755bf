//! Where the time of exchanges goes.

use std::time::Duration;

use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry as Exposition;

use super::families::{Labels, labels};

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
    pub(super) fn new(x: &mut Exposition) -> Self {
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
