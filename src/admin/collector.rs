//! The kill switches on `/metrics`, read when it is scraped; the store brings its own figures.

use std::sync::Arc;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::gauge::ConstGauge;

use crate::config::Switches;

/// Register with `Metrics::register_collector` before the metrics are shared.
#[derive(Debug)]
pub struct SwitchFigures {
    switches: Arc<Switches>,
}

impl SwitchFigures {
    /// Figures of these switches.
    #[must_use]
    pub const fn new(switches: Arc<Switches>) -> Self {
        Self { switches }
    }
}

impl Collector for SwitchFigures {
    fn encode(&self, mut to: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        let help = "The site's kill switch is engaged: nothing is enforced there";
        let kind = ConstGauge::new(0i64).metric_type();
        let mut family = to.encode_descriptor("kill_switch_engaged", help, None, kind)?;
        for (site, engaged) in self.switches.list() {
            let gauge = ConstGauge::new(i64::from(engaged));
            gauge.encode(family.encode_family(&[("site", site.as_str())])?)?;
        }
        Ok(())
    }
}
