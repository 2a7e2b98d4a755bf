//! Figures of the registry's vendors.

use std::sync::OnceLock;

use prometheus_client::metrics::counter::Counter;
use prometheus_client::registry::Registry as Exposition;

use super::families::{Counters, family, labels};
use crate::config::VendorAction;

/// Counters of one vendor, each by action; made when first needed, since most sites meet few vendors.
#[derive(Debug)]
struct OneVendor {
    id: String,
    done: [OnceLock<Counter>; 3],
    observed: [OnceLock<Counter>; 3],
}

impl OneVendor {
    fn new(id: &str) -> Self {
        Self { id: id.to_owned(), done: Default::default(), observed: Default::default() }
    }

    fn count(&self, cells: &[OnceLock<Counter>; 3], family: &Counters, action: VendorAction, count: u64) {
        let make =
            || family.get_or_create_owned(&labels(&[("vendor", &self.id), ("action", action.as_str())]));
        cells[action as usize].get_or_init(make).inc_by(count);
    }
}

/// Counters of a registry's vendors, by their position in it.
#[derive(Debug)]
pub struct VendorsMetrics {
    vendors: Vec<OneVendor>,
    neutralised: Counters,
    observed: Counters,
}

impl VendorsMetrics {
    /// References of one vendor (registry position) that were allowed, restricted or stripped.
    pub fn neutralised(&self, vendor: u16, action: VendorAction, count: u64) {
        if let Some(vendor) = self.vendors.get(usize::from(vendor)) {
            vendor.count(&vendor.done, &self.neutralised, action, count);
        }
    }

    /// References that observe mode left as they were, by what enforcing would have done.
    pub fn observed(&self, vendor: u16, action: VendorAction, count: u64) {
        if let Some(vendor) = self.vendors.get(usize::from(vendor)) {
            vendor.count(&vendor.observed, &self.observed, action, count);
        }
    }
}

/// What the counters of vendors are made from.
#[derive(Debug)]
pub(super) struct VendorFamilies {
    neutralised: Counters,
    observed: Counters,
}

impl VendorFamilies {
    pub(super) fn new(x: &mut Exposition) -> Self {
        Self {
            neutralised: family(x, "elements_neutralised", "Tracker references neutralised or kept"),
            observed: family(
                x,
                "elements_observed",
                "Tracker references that observe mode left as they were, by what enforcing would have done",
            ),
        }
    }

    /// The counters of these vendors, in their order.
    pub(super) fn of<'a>(&self, ids: impl Iterator<Item = &'a str>) -> VendorsMetrics {
        VendorsMetrics {
            vendors: ids.map(OneVendor::new).collect(),
            neutralised: self.neutralised.clone(),
            observed: self.observed.clone(),
        }
    }

    /// What became of one vendor's references so far: `[allowed, restricted, stripped]`.
    pub(super) fn counts(&self, id: &str) -> [u64; 3] {
        VendorAction::ALL.map(|action| {
            let counter = self.neutralised.get(&labels(&[("vendor", id), ("action", action.as_str())]));
            counter.map_or(0, |counter| counter.get())
        })
    }
}
