//! The store's figures for `/metrics`, read when they are asked for.

use std::fmt;
use std::sync::Arc;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;

use super::Store;
use super::state::State;

/// Gives the store's figures to the exposition; it does not keep the store open.
#[derive(Debug)]
pub struct StoreCollector(Arc<State>);

impl StoreCollector {
    /// For this store.
    #[must_use]
    pub fn new(store: &Store) -> Self {
        Self(store.state())
    }
}

impl Collector for StoreCollector {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let health = self.0.health();
        let mut put = |name: &str, help: &str, metric: &dyn EncodeMetricDyn| {
            metric.put(encoder.encode_descriptor(name, help, None, metric.kind())?)
        };
        let gauge = |value: u64| ConstGauge::new(i64::try_from(value).unwrap_or(i64::MAX));
        put(
            "optout_records",
            "Records of choices that the journal has ever taken, those that were pruned since too",
            &gauge(health.records),
        )?;
        put("ledger_backlog", "Records accepted and not yet on disk", &gauge(health.backlog as u64))?;
        put("accounts_opted_out", "Accounts known as opted out", &gauge(health.accounts_opted_out))?;
        let up = u64::from(health.journal_error.is_none() && health.lost.is_none());
        put("journal_up", "1 while the journal can write, and is where it was opened", &gauge(up))?;
        let damaged = u64::from(health.damage.is_some());
        put("journal_damaged", "1 once a look over the journal found it damaged", &gauge(damaged))?;
        let dropped = ConstCounter::new(health.flood_dropped);
        put("flood_dropped", "Changes honoured without a record, above the configured rate", &dropped)?;
        let overflowed = ConstCounter::new(health.overflowed);
        put("queue_overflow", "Records lost because the queue for the journal was full", &overflowed)?;
        if let Some(feed) = &health.feed {
            put(
                "feed_up",
                "1 while the shared database can be read and written",
                &gauge(u64::from(feed.error.is_none())),
            )?;
            put(
                "feed_unshipped",
                "Records on this node's disk that the shared database does not have",
                &gauge(feed.unshipped),
            )?;
            put(
                "feed_fenced",
                "1 while the shared database has other records under this node's name, and takes none from it",
                &gauge(u64::from(feed.fenced)),
            )?;
            put(
                "feed_missing_records",
                "Records that the shared database had and has no more",
                &gauge(feed.missing),
            )?;
            put(
                "feed_unproven_records",
                "Records in the shared database that say more than an opt-out and that nothing proves",
                &gauge(feed.unproven),
            )?;
            put(
                "feed_lost_names",
                "Names under which the shared database has opt-outs and that no site here has",
                &gauge(feed.lost_names.len() as u64),
            )?;
            put(
                "feed_unknown_secrets",
                "Secrets that other nodes hash accounts under and this one does not have",
                &gauge(feed.unknown_secrets.len() as u64),
            )?;
            put("feed_nodes", "Other nodes heard of", &gauge(feed.nodes as u64))?;
            if let Some(lag) = feed.lag {
                let lag = ConstGauge::new(lag.as_secs_f64());
                put("feed_lag_seconds", "Time since the records of all other nodes were last read", &lag)?;
            }
        }
        put("ledger_append_seconds", "Time of a journal commit, sync included", &self.0.append_seconds)
    }
}

/// [`EncodeMetric`] for trait objects.
trait EncodeMetricDyn {
    fn put(&self, encoder: prometheus_client::encoding::MetricEncoder<'_>) -> fmt::Result;
    fn kind(&self) -> prometheus_client::metrics::MetricType;
}

impl<M: EncodeMetric> EncodeMetricDyn for M {
    fn put(&self, encoder: prometheus_client::encoding::MetricEncoder<'_>) -> fmt::Result {
        self.encode(encoder)
    }

    fn kind(&self) -> prometheus_client::metrics::MetricType {
        self.metric_type()
    }
}
