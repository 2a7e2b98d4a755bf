//! What every core shares, and what each core has for itself.
//!
//! [`House`] is what all share; a [`Core`] (`core`) is one's own, with how `busy` it is. Both lead to the settings in force,
//! a [`Snapshot`] (`snapshot`). `siblings` are hosts that pages name and that others look at beside the requests.

pub mod busy;
mod core;
pub mod siblings;
mod snapshot;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize};

use arc_swap::ArcSwap;

pub use self::core::{Core, Held};
use self::siblings::Siblings;
pub use self::snapshot::{Rule, Site, Snapshot, guarded};
use crate::edge::account::sessions::Sessions;
use crate::edge::downstream::clients::{ClientConnections, ClientRates};
use crate::edge::own::proofs::Proofs;
use crate::registry::lists::ListSet;
use crate::store::Store;
use crate::telemetry::access_log::AccessLog;
use crate::telemetry::metrics::SharedMetrics;

/// What all cores share.
pub struct House {
    /// Settings in force.
    pub snapshot: ArcSwap<Snapshot>,
    /// Opt-outs.
    pub store: Store,
    /// Counters.
    pub metrics: SharedMetrics,
    /// Access lines; `None` when silenced.
    pub access_log: Option<AccessLog>,
    /// No new connections; finish what is under way.
    pub draining: Arc<AtomicBool>,
    /// Hosts of the sites' own domains that pages refer to.
    pub siblings: Siblings,
    /// Third parties that nobody knows and that pages lost.
    pub strangers: Siblings,
    /// Downstream connections open, all cores.
    pub connections: AtomicUsize,
    /// As many as there are descriptors for; `limits.connections` may allow fewer.
    pub most_connections: usize,
    /// The same by client.
    pub client_connections: Arc<ClientConnections>,
    /// How fast each client asks for consumer pages.
    pub portal_rates: ClientRates,
    /// Whose account each session is.
    pub sessions: Sessions,
    /// More memory is in use than `limits.memory`: new requests are turned away.
    pub shedding: AtomicBool,
    /// What a certificate authority is shown.
    pub proofs: Arc<Proofs>,
}

impl std::fmt::Debug for House {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("House")
    }
}

impl House {
    /// Puts other filter lists in force, by their positions; requests under way keep what they began with.
    pub fn replace_lists(&self, replaced: Vec<(usize, ListSet)>) {
        let replaced: Vec<_> = replaced.into_iter().map(|(at, set)| (at, Arc::new(set))).collect();
        self.snapshot.rcu(|snapshot| snapshot.with_lists(&replaced));
    }
}
