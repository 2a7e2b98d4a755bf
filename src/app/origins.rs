//! What is done about the origins beside requests: look-ups of their names, active checks, figures.

use std::cell::LazyCell;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::runtime::Handle;
use tokio::task::JoinSet;

use super::dns;
use crate::edge::House;
use crate::edge::house::Snapshot;
use crate::edge::upstream::{check, group, resolve};

/// The tasks for the settings in force; they end when other settings are.
#[derive(Debug)]
pub struct Origins {
    runtime: Handle,
    tasks: Mutex<JoinSet<()>>,
}

impl Origins {
    /// No tasks yet.
    #[must_use]
    pub fn new(runtime: Handle) -> Self {
        Self { runtime, tasks: Mutex::default() }
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
        let mut tasks = JoinSet::new();
        let groups: Vec<_> = snapshot.sites.iter().map(|site| Arc::clone(&site.group)).collect();
        for (site, group) in snapshot.sites.iter().zip(&groups) {
            group.show();
            for member in &group.members {
                let Some(names) = &member.connector.names else { continue };
                let (names, figures) = (Arc::clone(names), Arc::clone(&member.figures));
                tasks.spawn_on(
                    resolve::watch(names, Option::clone(&resolver), dns.clone(), figures),
                    &self.runtime,
                );
            }
            let host = site.settings.hosts.iter().find(|host| !host.starts_with('*'));
            check::start(group, host.map(String::as_str), &mut tasks, &self.runtime);
        }
        let figures = groups.iter().flat_map(|group| group.members.iter().map(|m| Arc::clone(&m.figures)));
        house.metrics.set_upstreams(figures.collect());
        tasks.spawn_on(group::settle(groups), &self.runtime);
        // Whatever another thread left in it goes.
        *self.tasks.lock().unwrap_or_else(PoisonError::into_inner) = tasks;
    }
}
