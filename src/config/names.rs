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
    /// The names that each site looks its visitors up under: its own, its group's, and those from before.
    pub looked_up: BTreeMap<String, BTreeSet<String>>,
}

/// Who does not see what is kept under a name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Blind<'a> {
    /// Nobody sees it.
    All,
    /// These sites do not, and they kept it there, or have the visitors of one that did.
    Sites(Vec<&'a str>),
}

impl Names {
    /// Who does not see what these sites kept under a name, and should; `None` when everybody does.
    #[must_use]
    pub fn blind(&self, name: &str, sites: &BTreeSet<String>) -> Option<Blind<'_>> {
        if !self.known.contains(name) {
            return Some(Blind::All);
        }
        let of_these = |(site, names): &(&String, &BTreeSet<String>)| {
            !names.contains(name) && sites.iter().any(|kept| kept == *site || names.contains(kept))
        };
        let blind: Vec<&str> =
            self.looked_up.iter().filter(of_these).map(|(site, _)| site.as_str()).collect();
        (!blind.is_empty()).then_some(Blind::Sites(blind))
    }
}

impl Settings {
    /// The names of its sites and groups.
    #[must_use]
    pub fn names(&self) -> Names {
        let mut names = Names { known: self.retired_sites.iter().cloned().collect(), ..Names::default() };
        for site in &self.sites {
            names.kept.entry(site.scope.clone()).or_default().insert(site.name.clone());
            let own = [&site.name, &site.scope].into_iter().chain(&site.formerly).cloned();
            let own: BTreeSet<String> = own.collect();
            names.known.extend(own.iter().cloned());
            names.looked_up.insert(site.name.clone(), own);
        }
        names
    }
}
