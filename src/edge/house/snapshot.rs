//! Settings in force, resolved: the sites, and what holds on their paths.

use std::collections::HashMap;
use std::sync::Arc;

use http::HeaderValue;

use crate::config::switches::Switch;
use crate::config::{self, Settings};
use crate::edge::account::token::Verifier;
use crate::edge::upstream::Group;
use crate::enforce::csp::Wall;
use crate::enforce::guard::Guard;
use crate::enforce::validators::{variant_version, version_with_hosts};
use crate::portal::Portal;
use crate::privacy::Mode;
use crate::registry::lists::ListSet;
use crate::registry::{CloakedHosts, Policy};
use crate::store::recipients::SiteSightings;
use crate::telemetry::metrics::{SiteMetrics, VendorsMetrics};

/// Settings in force, resolved: replaced whole on a reload.
#[derive(Debug)]
pub struct Snapshot {
    /// As configured.
    pub settings: Arc<Settings>,
    /// Consumer pages.
    pub portal: Portal,
    /// Counters of the registry's vendors.
    pub vendors: Arc<VendorsMetrics>,
    /// Sites, in the settings' order.
    pub sites: Vec<Arc<Site>>,
    /// The different sets of filter lists.
    pub lists: Vec<Arc<ListSet>>,
    /// What verifies the tokens that name accounts.
    pub verifier: Option<Arc<Verifier>>,
    /// Prefix of the consumer pages.
    pub prefix: Arc<str>,
    by_host: HashMap<Box<str>, usize>,
    /// `.example.com` of `*.example.com`, longest first.
    by_suffix: Vec<(Box<str>, usize)>,
}

/// One site, resolved.
#[derive(Debug, Clone)]
pub struct Site {
    /// Position in the settings.
    pub index: usize,
    /// Its name; the same site after a reload has the same one.
    pub name: Arc<str>,
    /// As configured.
    pub settings: Arc<config::Site>,
    /// Its counters.
    pub metrics: Arc<SiteMetrics>,
    /// Where its pages note the vendors they lost.
    pub sightings: Arc<SiteSightings>,
    /// Its kill switch.
    pub switch: Arc<Switch>,
    /// Changes with anything that changes a rewritten page; part of ETags and records.
    pub version: Arc<str>,
    /// Origins.
    pub group: Arc<Group>,
    /// What browsers are told of coming by https.
    pub hsts: Option<HeaderValue>,
    /// The second wall of its opted-out documents.
    pub wall: Option<Wall>,
    /// Position of its filter lists among the snapshot's sets.
    pub lists: Option<usize>,
    /// What holds where no path rule does.
    pub rule: Rule,
    /// Path rules, longest prefix first.
    pub paths: Vec<(String, Rule)>,
    /// The same site for an account that keeps its programme.
    pub programme: Option<Arc<Self>>,
}

/// What holds on a path.
#[derive(Debug, Clone)]
pub struct Rule {
    /// Enforce or observe.
    pub mode: Mode,
    /// Bodies are rewritten.
    pub rewrite: bool,
    /// Vendors and their actions.
    pub policy: Arc<Policy>,
    /// What holds that policy in the browser.
    pub guard: Arc<Guard>,
}

impl Site {
    /// Position of the rule for a path: the longest prefix that ends at `/` or the path's end.
    #[must_use]
    pub fn path_rule(&self, path: &str) -> Option<usize> {
        let fits = |prefix: &str| {
            path.strip_prefix(prefix)
                .is_some_and(|rest| rest.is_empty() || prefix.ends_with('/') || rest.starts_with('/'))
        };
        self.paths.iter().position(|(prefix, _)| fits(prefix))
    }

    /// The text for [`Site::version`], with the filter lists that hold on the site.
    #[must_use]
    pub fn version_of(
        site: &config::Site,
        rule: &Rule,
        lists: Option<&ListSet>,
        settings: &Settings,
    ) -> Arc<str> {
        let registry = rule.policy.registry();
        let lists = lists.map_or("", ListSet::version);
        let inputs = format!("{} {lists} {}", registry.version(), rule.guard.csp_hash());
        let version = variant_version(&inputs, site, &settings.portal, &settings.signals);
        let named = rule.policy.cloaked().map(|(host, vendor)| (host, registry.vendor(vendor).id.as_str()));
        version_with_hosts(&version, named).into()
    }

    /// The rule at a position, or the site's own.
    #[must_use]
    pub fn rule(&self, position: Option<usize>) -> &Rule {
        position.and_then(|at| self.paths.get(at)).map_or(&self.rule, |(_, rule)| rule)
    }
}

impl Rule {
    /// The rule with a policy, and the guard that goes with it.
    #[must_use]
    pub fn with_policy(&self, policy: Policy, settings: &Settings) -> Self {
        let (policy, guard) = guarded(policy, settings);
        Self { policy, guard, ..*self }
    }
}

/// A policy and what holds it in the browser.
#[must_use]
pub fn guarded(policy: Policy, settings: &Settings) -> (Arc<Policy>, Arc<Guard>) {
    let guard = Guard::new(&policy, &settings.portal.prefix, &settings.signals);
    (Arc::new(policy), Arc::new(guard))
}

impl Snapshot {
    /// Puts the resolved sites behind their hosts.
    #[must_use]
    pub fn new(
        settings: Arc<Settings>,
        portal: Portal,
        vendors: Arc<VendorsMetrics>,
        sites: Vec<Site>,
        lists: Vec<Arc<ListSet>>,
        verifier: Option<Arc<Verifier>>,
    ) -> Self {
        let (mut by_host, mut by_suffix) = (HashMap::new(), Vec::new());
        for site in &sites {
            for host in &site.settings.hosts {
                match host.strip_prefix('*') {
                    Some(suffix) => by_suffix.push((suffix.into(), site.index)),
                    None => drop(by_host.insert(host.as_str().into(), site.index)),
                }
            }
        }
        by_suffix.sort_by_key(|(suffix, _): &(Box<str>, usize)| std::cmp::Reverse(suffix.len()));
        let prefix = Arc::from(settings.portal.prefix.as_str());
        let sites = sites.into_iter().map(Arc::new).collect();
        Self { settings, portal, vendors, lists, verifier, prefix, sites, by_host, by_suffix }
    }

    /// The same with other filter lists in some places.
    pub(super) fn with_lists(&self, replaced: &[(usize, Arc<ListSet>)]) -> Self {
        let mut lists = self.lists.clone();
        for (at, set) in replaced {
            if let Some(place) = lists.get_mut(*at) {
                *place = Arc::clone(set);
            }
        }
        self.changed(lists, |_| ())
    }

    /// The same with other filter lists and changed sites, each under the version of what then holds.
    fn changed(&self, lists: Vec<Arc<ListSet>>, change: impl Fn(&mut Site)) -> Self {
        let one = |site: &Arc<Site>| {
            let mut site = (**site).clone();
            change(&mut site);
            let set = site.lists.and_then(|at| lists.get(at)).map(|set| &**set);
            site.version = Site::version_of(&site.settings, &site.rule, set, &self.settings);
            site
        };
        let site = |site: &Arc<Site>| {
            let programme = site.programme.as_ref().map(|site| Arc::new(one(site)));
            Site { programme, ..one(site) }
        };
        let sites = self.sites.iter().map(site).collect();
        let (settings, vendors) = (Arc::clone(&self.settings), Arc::clone(&self.vendors));
        Self::new(settings, self.portal.clone(), vendors, sites, lists, self.verifier.clone())
    }

    /// Whether both have the same sites and origins, so that their connections serve on.
    pub(super) fn has_sites_of(&self, other: &Self) -> bool {
        let same = |(a, b): (&Arc<Site>, &Arc<Site>)| Arc::ptr_eq(&a.settings, &b.settings);
        self.sites.len() == other.sites.len() && self.sites.iter().zip(&other.sites).all(same)
    }

    /// The same settings with hosts that are vendors' under a site's own name, by the site's position; a site
    /// without an entry has none.
    #[must_use]
    pub fn with_cloaked(&self, found: &HashMap<usize, Arc<CloakedHosts>>) -> Self {
        self.changed(self.lists.clone(), |site| {
            let hosts = found.get(&site.index).cloned().unwrap_or_default();
            let with_hosts =
                |rule: &Rule| rule.with_policy(rule.policy.with_cloaked(Arc::clone(&hosts)), &self.settings);
            let own = with_hosts(&site.rule);
            for (_, rule) in &mut site.paths {
                // Most paths have the site's policy, and a guard is not made twice for one.
                *rule = match Arc::ptr_eq(&rule.policy, &site.rule.policy) {
                    true => Rule { mode: rule.mode, rewrite: rule.rewrite, ..own.clone() },
                    false => with_hosts(rule),
                };
            }
            site.rule = own;
        })
    }

    /// The same settings with the hidden hosts of another snapshot, for the sites and vendors that both have.
    #[must_use]
    pub fn with_cloaked_of(&self, other: &Self) -> Self {
        let found = other.sites.iter().filter_map(|old| {
            let site = self.sites.iter().find(|site| site.name == old.name)?;
            let registry = site.rule.policy.registry();
            let hosts = old.rule.policy.cloaked().filter_map(|(host, vendor)| {
                let id = &old.rule.policy.registry().vendor(vendor).id;
                Some((Box::from(host), registry.lookup_id(id)?))
            });
            let hosts: CloakedHosts = hosts.collect();
            (!hosts.is_empty()).then(|| (site.index, Arc::new(hosts)))
        });
        self.with_cloaked(&found.collect())
    }

    /// The site for a host (lower case, without port), or the default site.
    ///
    /// Cost: one hash look-up for an exact host.
    #[must_use]
    pub fn site(&self, host: &str) -> Option<&Arc<Site>> {
        let wildcard = || {
            let fits = |suffix: &str| host.len() > suffix.len() && host.ends_with(suffix);
            self.by_suffix.iter().find(|(suffix, _)| fits(suffix)).map(|(_, site)| *site)
        };
        let index = self.by_host.get(host).copied().or_else(wildcard).or(self.settings.default_site)?;
        self.sites.get(index)
    }
}
