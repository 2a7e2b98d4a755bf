//! Settings read again while serving: everything they name is checked and built first, then swapped in
//! at once. Requests under way finish by what they began with; what is wrong leaves all as it was.
//!
//! Settings that are tied to what was opened at start (sockets, the data folder, threads) keep their value
//! until a restart or an upgrade; a reload that changes them says so.

use std::sync::Arc;

use arc_swap::ArcSwap;

use super::acme::Upkeep;
use super::admin_door::AdminDoor;
use super::build::{self, Lasting};
use super::jwks::KeyFetcher;
use super::lists::{self, SharedShelf};
use super::origins::{self, Origins};
use crate::admin::InForce;
use crate::config::Settings;
use crate::edge::House;
use crate::edge::downstream::tls::Certificates;
use crate::telemetry::events;

/// What a reload needs and changes.
#[derive(Debug)]
pub struct Reloader {
    /// The edge.
    pub(super) house: Arc<House>,
    /// What outlives a reload.
    pub(super) lasting: Lasting,
    /// What the admin listener shows.
    pub(super) in_force: Arc<ArcSwap<InForce>>,
    /// The filter lists being watched.
    pub(super) shelf: SharedShelf,
    /// Certificates of the TLS listeners, if there are any.
    pub(super) certificates: Option<Arc<Certificates>>,
    /// How connections to the admin listener begin.
    pub(super) admin_door: Arc<AdminDoor>,
    /// What renews fetched certificates, if there are TLS listeners.
    pub(super) upkeep: Option<Arc<Upkeep>>,
    /// What is done about the origins.
    pub(super) origins: Origins,
    /// What fetches keys of tokens.
    pub(super) keys: KeyFetcher,
    /// Settings of the start.
    pub(super) started: Arc<Settings>,
}

impl Reloader {
    /// Puts the settings that `read` gives in force. Says what needs a restart.
    ///
    /// Blocks for reading files: not for an edge core. One at a time.
    ///
    /// # Errors
    /// What is wrong and where; then nothing has changed.
    pub fn reload(&self, read: impl FnOnce() -> anyhow::Result<Settings>) -> anyhow::Result<String> {
        let done = read().and_then(|settings| self.swap(settings));
        match &done {
            Ok(said) => events::reloaded(&self.house.metrics, said),
            Err(error) => {
                self.house.metrics.forget_upstreams_out_of_force();
                events::reload_refused(&self.house.metrics, &format!("{error:#}"));
            }
        }
        done
    }

    fn swap(&self, settings: Settings) -> anyhow::Result<String> {
        let settings = Arc::new(settings);
        if settings.data_dir == self.started.data_dir {
            build::refuse_lost_names(&settings, &build::lost_names(&settings)?)?;
        }
        let certificates = match &self.certificates {
            None => None,
            Some(old) => Some((old, Certificates::read(&settings.tls.certificates)?)),
        };
        let admin_door = AdminDoor::read(settings.admin_tls.as_ref())?;
        let registry = Arc::new(build::registry(&settings.registry_files)?);
        let mut shelf = lists::lock(&self.shelf);
        let (reopened, lists) = shelf.reopen(&settings)?;
        let verifier = build::verifier(&settings, self.house.snapshot.load().verifier.as_ref())?;
        let snapshot = build::snapshot(&settings, &registry, lists, verifier, &self.lasting)?;
        let sites = snapshot.sites.len();
        build::follow(&self.lasting.switches, &snapshot);
        // From here on nothing can fail.
        build::note_names(&self.lasting.store, &settings);
        if let Some((old, new)) = certificates {
            new.say_when_they_end(Some(old), &self.lasting.metrics);
            old.replace_by(&new);
        }
        self.admin_door.replace_by(&admin_door);
        *shelf = reopened;
        origins::take_over(&snapshot, &self.house.snapshot.load());
        // Tried again when the look-ups have found another hidden host in between.
        self.house.snapshot.rcu(|old| snapshot.with_cloaked_of(old));
        drop(shelf);
        self.origins.follow(&self.house, &self.house.snapshot.load());
        self.keys.follow(&self.house, self.house.snapshot.load().verifier.as_ref());
        if let Some(upkeep) = &self.upkeep {
            upkeep.wake.notify_one();
        }
        let in_force = build::in_force(&self.house.snapshot.load(), registry);
        self.in_force.store(Arc::new(in_force));
        self.house.siblings.wake();
        let mut said = format!("{sites} sites; registry {}", self.in_force.load().registry.version());
        let waiting = needs_restart(&self.started, &settings);
        if !waiting.is_empty() {
            said.push_str(&format!("; changed but only a restart takes it: {}", waiting.join(", ")));
        }
        Ok(said)
    }
}

/// Changed settings that hold from the next start.
fn needs_restart(started: &Settings, now: &Settings) -> Vec<&'static str> {
    let both_look = started.dns.enabled && now.dns.enabled;
    let changed = [
        ("listen", started.listen != now.listen),
        ("tls.listen", started.tls.listen != now.tls.listen),
        ("admin.listen", started.admin != now.admin),
        ("data_dir", started.data_dir != now.data_dir),
        ("workers", started.workers != now.workers),
        ("log", started.log != now.log),
        ("store", started.store != now.store),
        ("dns.enabled", started.dns.enabled != now.dns.enabled),
        // Origins' names are looked up anew with every reload, as the settings say then.
        ("dns.servers for pages' hosts", both_look && started.dns.servers != now.dns.servers),
        ("dns.timeout for pages' hosts", both_look && started.dns.timeout != now.dns.timeout),
        ("dns.hosts", both_look && started.dns.hosts != now.dns.hosts),
    ];
    changed.into_iter().filter(|(_, differs)| *differs).map(|(name, _)| name).collect()
}
