//! What is done about the origins beside requests: look-ups of their names, active checks, figures.

use std::cell::LazyCell;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::runtime::Handle;

use super::dns;
use super::jobs::Jobs;
use crate::edge::House;
use crate::edge::house::Snapshot;
use crate::edge::upstream::{check, group, resolve};

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
