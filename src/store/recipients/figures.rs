//! Figures of what recipients are told, for `/metrics`.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;

use super::super::Store;

/// What is counted; shared with whoever counts.
#[derive(Debug, Default)]
pub(super) struct Figures {
    /// Tasks that are not done.
    pub(super) open: AtomicU64,
    /// Of them, those that only a person can do: refused, given up, or without a name.
    pub(super) stuck: AtomicU64,
    /// Messages that a recipient took.
    pub(super) sent: AtomicU64,
    /// Tries that failed.
    pub(super) failed: AtomicU64,
    /// Requests that could not be kept.
    pub(super) lost: AtomicU64,
    /// The file could not be read or written when it was last used.
    pub(super) down: AtomicBool,
}

/// Gives the figures to the exposition.
#[derive(Debug)]
pub struct RecipientsCollector(Arc<Figures>);

impl RecipientsCollector {
    /// For this store.
    #[must_use]
    pub fn new(store: &Store) -> Self {
        Self(store.recipients().figures())
    }
}

impl Collector for RecipientsCollector {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let figures = &self.0;
        let gauges = [
            (
                "recipients_open",
                "Recipients that are to be told of an opt-out and were not yet",
                &figures.open,
            ),
            ("recipients_stuck", "Of those, the ones that only a person can tell", &figures.stuck),
        ];
        for (name, help, value) in gauges {
            let gauge = ConstGauge::new(i64::try_from(value.load(Ordering::Relaxed)).unwrap_or(i64::MAX));
            gauge.encode(encoder.encode_descriptor(name, help, None, MetricType::Gauge)?)?;
        }
        let up = ConstGauge::new(i64::from(!figures.down.load(Ordering::Relaxed)));
        let help = "1 while recipients.sqlite3 can be read and written, or is not needed yet";
        up.encode(encoder.encode_descriptor("recipients_up", help, None, MetricType::Gauge)?)?;
        let counters = [
            ("recipients_sent", "Messages about opt-outs that their recipient took", &figures.sent),
            ("recipients_failed", "Tries to tell a recipient that failed", &figures.failed),
            (
                "recipients_lost",
                "Opt-outs of which no recipient can be told: they could not be kept",
                &figures.lost,
            ),
        ];
        for (name, help, value) in counters {
            let counter = ConstCounter::new(value.load(Ordering::Relaxed));
            counter.encode(encoder.encode_descriptor(name, help, None, MetricType::Counter)?)?;
        }
        Ok(())
    }
}
