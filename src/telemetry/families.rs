//! Families of figures with labels, and how they are registered.

use std::sync::atomic::{AtomicI64, AtomicU64};

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry as Exposition;

/// Label pairs in a fixed order.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Labels(Vec<(&'static str, String)>);

impl EncodeLabelSet for Labels {
    fn encode(
        &self,
        encoder: &mut prometheus_client::encoding::LabelSetEncoder<'_>,
    ) -> Result<(), std::fmt::Error> {
        self.0.encode(encoder)
    }
}

/// The pairs as a set.
pub(super) fn labels(pairs: &[(&'static str, &str)]) -> Labels {
    Labels(pairs.iter().map(|(k, v)| (*k, (*v).to_owned())).collect())
}

/// Counters, by their labels.
pub(super) type Counters = Family<Labels, Counter>;

/// Gauges, by their labels.
pub(super) type Gauges = Family<Labels, Gauge<i64, AtomicI64>>;

/// A registered family of counters.
pub(super) fn family(x: &mut Exposition, name: &str, help: &str) -> Counters {
    let family = Counters::default();
    x.register(name, help, family.clone());
    family
}

/// A registered counter without labels.
pub(super) fn single(x: &mut Exposition, name: &str, help: &str) -> Counter {
    let counter = Counter::<u64, AtomicU64>::default();
    x.register(name, help, counter.clone());
    counter
}
