//! Under which names accounts and profiles are kept, and under which they are looked up.

use std::collections::{BTreeMap, BTreeSet};

use super::Settings;

/// The names of sites and groups, as the settings have them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Names {
    /// Names under which accounts are kept now, each with the sites that keep them there.
    pub kept: BTreeMap<String, BTreeSet<String>>,
    /// Every name that is answered for: kept under, looked up, or of a site that was shut down.
    pub known: BTreeSet<String>,
}

impl Settings {
    /// The names of its sites and groups.
    #[must_use]
    pub fn names(&self) -> Names {
        let mut names = Names { known: self.retired_sites.iter().cloned().collect(), ..Names::default() };
        for site in &self.sites {
            names.kept.entry(site.scope.clone()).or_default().insert(site.name.clone());
            names.known.extend([&site.name, &site.scope].into_iter().chain(&site.formerly).cloned());
        }
        names
    }
}
