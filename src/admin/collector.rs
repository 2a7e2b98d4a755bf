//! The store's figures and the kill switches, read when `/metrics` is scraped.

use std::sync::Arc;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;

use crate::config::Switches;
use crate::store::Store;

/// Register with `Metrics::register_collector` before the metrics are shared.
pub struct StoreFigures {
    store: Store,
    switches: Arc<Switches>,
    sites: Vec<String>,
}

impl StoreFigures {
    /// Figures of this store and these switches; `sites` are the names, in settings order.
    #[must_use]
    pub const fn new(store: Store, switches: Arc<Switches>, sites: Vec<String>) -> Self {
        Self { store, switches, sites }
    }
}

impl std::fmt::Debug for StoreFigures {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("StoreFigures").field("sites", &self.sites).finish_non_exhaustive()
    }
}

impl Collector for StoreFigures {
    fn encode(&self, mut to: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        let health = self.store.health();
        let gauges = [
            ("optout_records", "Records in the journal", health.records),
            ("accounts_opted_out", "Accounts known as opted out", health.accounts_opted_out),
            ("ledger_backlog", "Records waiting for the journal", health.backlog as u64),
            ("ledger_up", "The journal can write", u64::from(health.journal_error.is_none())),
            ("state_loaded", "The index holds all that the journal holds", u64::from(health.loaded)),
        ];
        for (name, help, value) in gauges {
            let gauge = ConstGauge::new(i64::try_from(value).unwrap_or(i64::MAX));
            gauge.encode(to.encode_descriptor(name, help, None, gauge.metric_type())?)?;
        }
        let (seconds, commits) = health.commits;
        let counters = [
            ("ledger_commits", "Journal commits", commits),
            (
                "records_flood_dropped",
                "Changes honoured without a record, by flood protection",
                health.flood_dropped,
            ),
            ("records_overflowed", "Changes lost because the queue was full", health.overflowed),
        ];
        for (name, help, value) in counters {
            let counter = ConstCounter::new(value);
            counter.encode(to.encode_descriptor(name, help, None, counter.metric_type())?)?;
        }
        let counter = ConstCounter::new(seconds);
        let help = "Seconds spent in journal commits";
        counter.encode(to.encode_descriptor(
            "ledger_append_seconds",
            help,
            None,
            counter.metric_type(),
        )?)?;
        let shape = ConstGauge::new(0i64);
        let help = "The site's kill switch is engaged: nothing is enforced there";
        let mut family = to.encode_descriptor("kill_switch_engaged", help, None, shape.metric_type())?;
        for (index, site) in self.sites.iter().enumerate() {
            let gauge = ConstGauge::new(i64::from(self.switches.engaged(index)));
            gauge.encode(family.encode_family(&[("site", site.as_str())])?)?;
        }
        Ok(())
    }
}
