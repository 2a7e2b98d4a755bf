//! How the feed is doing, and what it found wrong with the database.

use std::sync::atomic::Ordering;
use std::sync::{MutexGuard, PoisonError};
use std::time::Duration;

use super::Line;

/// How the feed is doing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FeedHealth {
    /// Why the database cannot be written or read now; `None` while it can.
    pub error: Option<String>,
    /// For good: the database has other records under this node's name, which are honoured here as well.
    pub fenced: bool,
    /// Records on this node's disk that the database does not have.
    pub unshipped: u64,
    /// Time since all records of the others were last read.
    pub lag: Option<Duration>,
    /// Other nodes heard of.
    pub nodes: usize,
    /// Records that are not in the database though later ones of their node are, as far as was read since the start.
    pub missing: u64,
    /// The first of them.
    pub first_missing: Option<String>,
    /// Names under which the database has opt-outs that no site here has now: how many, and what to write.
    pub lost_names: Vec<String>,
}

/// Records that were to be in the database and are not.
#[derive(Debug, Default)]
pub(super) struct Gaps {
    missing: u64,
    first: Option<String>,
}

impl Line {
    pub(in crate::store) fn health(&self) -> FeedHealth {
        let (shipping, committed) = (self.shipped.borrow().clone(), *self.committed.borrow());
        let heard_at = self.heard_at.load(Ordering::Relaxed);
        let heard_at = u64::try_from(heard_at).ok().map(Duration::from_millis);
        let gaps = self.lock_gaps();
        FeedHealth {
            fenced: shipping.fenced,
            missing: gaps.missing,
            first_missing: gaps.first.clone(),
            error: shipping.error.or_else(|| self.lock_tail_error().clone()),
            unshipped: committed.saturating_sub(shipping.seq).unsigned_abs(),
            lag: heard_at.map(|at| self.opened.elapsed().saturating_sub(at)),
            nodes: self.lock_seen().nodes(),
            lost_names: self.lock_lost_names().clone(),
        }
    }

    /// What a look at the database's names found; logged when it is another thing than before.
    pub(super) fn found_lost_names(&self, lost: Vec<String>) {
        let before = std::mem::replace(&mut *self.lock_lost_names(), lost.clone());
        for name in lost.iter().filter(|name| !before.contains(name)) {
            tracing::warn!("in the database of all nodes {name}");
        }
    }

    /// Records of a node are not in the database, though a later one is.
    pub(super) fn found_gap(&self, node: &str, from: i64, to: i64) {
        let what = match from == to {
            true => format!("record {from} of node {node}"),
            false => format!("records {from} to {to} of node {node}"),
        };
        tracing::error!(
            "{what} went missing from the shared database, so opt-outs in them are honoured by no node that reads them \
             there; restore the table, or type `optgate ledger adopt FOLDER` with a copy of that node's data folder"
        );
        let mut gaps = self.lock_gaps();
        gaps.missing += (to - from).unsigned_abs() + 1;
        gaps.first.get_or_insert(what);
    }

    fn lock_gaps(&self) -> MutexGuard<'_, Gaps> {
        // A number and a text that nothing is worked out from.
        self.gaps.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lock_lost_names(&self) -> MutexGuard<'_, Vec<String>> {
        // Replaced as one.
        self.lost_names.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
