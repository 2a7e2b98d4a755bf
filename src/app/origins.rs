//! What is done about the origins beside requests: look-ups of their names, active checks, figures; and what is known
//! of them goes over a reload or an upgrade.

use std::cell::LazyCell;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};

use serde::{Deserialize, Serialize};
use tokio::runtime::Handle;

use super::dns;
use super::jobs::Jobs;
use crate::edge::House;
use crate::edge::house::{Site, Snapshot};
use crate::edge::upstream::resolve::Names;
use crate::edge::upstream::{Told, check, group, resolve};

/// Addresses that names of origins lead to.
pub type KnownNames = BTreeMap<String, Vec<IpAddr>>;

/// How an origin is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KnownOrigin {
    /// Its site.
    pub site: String,
    /// Its label.
    pub upstream: String,
    /// What there is to tell.
    pub told: Told,
}

/// What one process tells the next of origins.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Known {
    /// Where their names lead.
    pub names: KnownNames,
    /// Those of which there is something to tell.
    pub origins: Vec<KnownOrigin>,
}

impl Known {
    /// What is known of a snapshot's origins.
    #[must_use]
    pub fn of(snapshot: &Snapshot) -> Self {
        let of_site = |site: &Arc<Site>| {
            let told = site.group.tell().filter(|(_, told)| *told != Told::default());
            let known = |(upstream, told): (&str, Told)| {
                let (site, upstream) = (site.name.to_string(), upstream.to_owned());
                KnownOrigin { site, upstream, told }
            };
            told.map(known).collect()
        };
        let origins: Vec<Vec<_>> = snapshot.sites.iter().map(of_site).collect();
        Self { names: known_names(snapshot), origins: origins.concat() }
    }
}

/// The names of a snapshot's origins.
fn names(snapshot: &Snapshot) -> impl Iterator<Item = &Arc<Names>> {
    let members = snapshot.sites.iter().flat_map(|site| &site.group.members);
    members.filter_map(|member| member.connector.names.as_ref())
}

/// Where they lead, as far as that was ever found out.
fn known_names(snapshot: &Snapshot) -> KnownNames {
    let known = names(snapshot).map(|names| (names.host().to_owned(), names.known()));
    known.filter(|(_, addresses)| !addresses.is_empty()).collect()
}

/// Has the origins of a snapshot that is not in force yet begin with what was known of their names: a name server that
/// fails just now would take them away else.
fn begin_with_names(snapshot: &Snapshot, known: &KnownNames) {
    for names in names(snapshot) {
        names.begin_with(known.get(names.host()).cloned().unwrap_or_default());
    }
}

/// Whether a site had a name, now or before.
fn was(site: &Site, name: &str) -> bool {
    *site.name == *name || site.settings.formerly.iter().any(|old| old == name)
}

/// Has the origins of a snapshot that is not in force yet begin with what another process told of them.
pub fn begin_with(snapshot: &Snapshot, known: &Known) {
    begin_with_names(snapshot, &known.names);
    for site in &snapshot.sites {
        for origin in known.origins.iter().filter(|origin| was(site, &origin.site)) {
            site.group.hear(&origin.upstream, &origin.told);
        }
    }
}

/// As [`begin_with`], with all that the snapshot in force knows of its origins; a site that has another name now is the
/// same site.
pub fn take_over(snapshot: &Snapshot, before: &Snapshot) {
    begin_with_names(snapshot, &known_names(before));
    for site in &snapshot.sites {
        if let Some(old) = before.sites.iter().find(|old| was(site, &old.name)) {
            site.group.take_over(&old.group);
        }
    }
}

/// The jobs for the settings in force; they end when other settings are.
#[derive(Debug)]
pub struct Origins {
    runtime: Handle,
    jobs: Mutex<Jobs>,
}

impl Origins {
    /// No jobs yet.
    #[must_use]
    pub fn new(runtime: Handle) -> Self {
        let jobs = Mutex::new(Jobs::new(runtime.clone()));
        Self { runtime, jobs }
    }

    /// Starts what these settings want, in place of what was started before.
    pub fn follow(&self, house: &House, snapshot: &Snapshot) {
        let _entered = self.runtime.enter();
        let dns = &snapshot.settings.dns;
        // Not before an origin has a name: then the system's own settings are read.
        let resolver = LazyCell::new(|| match dns::resolver(dns, dns::Asked::Addresses) {
            Ok(resolver) => Some(resolver),
            Err(error) => {
                tracing::debug!("origins are looked up as the system does: {error:#}");
                None
            }
        });
        let mut jobs = Jobs::new(self.runtime.clone());
        let groups: Vec<_> = snapshot.sites.iter().map(|site| Arc::clone(&site.group)).collect();
        for (site, group) in snapshot.sites.iter().zip(&groups) {
            group.show();
            let host = site.settings.hosts.iter().find(|host| !host.starts_with('*')).cloned();
            for (at, member) in group.members.iter().enumerate() {
                if let Some(names) = &member.connector.names {
                    let (names, figures) = (Arc::clone(names), Arc::clone(&member.figures));
                    let (resolver, dns) = (Option::clone(&resolver), dns.clone());
                    jobs.keep("the look-up of an origin", move || {
                        let (names, figures) = (Arc::clone(&names), Arc::clone(&figures));
                        resolve::watch(names, resolver.clone(), dns.clone(), figures)
                    });
                }
                let (group, host) = (Arc::clone(group), host.clone());
                jobs.keep("the checks of an origin", move || {
                    check::watch(Arc::clone(&group), at, host.clone())
                });
            }
        }
        let figures = groups.iter().flat_map(|group| group.members.iter().map(|m| Arc::clone(&m.figures)));
        house.metrics.set_upstreams(figures.collect());
        jobs.keep("the look at ejected origins", move || group::settle(groups.clone()));
        // Whatever another thread left in it goes.
        *self.jobs.lock().unwrap_or_else(PoisonError::into_inner) = jobs;
    }
}
