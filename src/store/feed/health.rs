//! How the feed is doing, and what it found wrong with the database.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use std::sync::{MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::FeedHandle;

/// How far a replica may be behind the primary.
const BEHIND: Duration = Duration::from_secs(15);

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
    /// Records that are not in the database though they were, as far as was read since the start.
    pub missing: u64,
    /// The first of them.
    pub first_missing: Option<String>,
    /// Records in the database that say more than an opt-out, or were pruned, and that nothing proves: they count as
    /// opt-outs.
    pub unproven: u64,
    /// The first of them.
    pub first_unproven: Option<String>,
    /// Names under which the database has opt-outs that no site here has now: how many, and what to write.
    pub lost_names: Vec<String>,
    /// Checks of secrets that other nodes hash accounts under and that this one does not have: it knows none of the accounts
    /// that opted out under them.
    pub unknown_secrets: Vec<String>,
}

/// What is wrong with the database's records.
#[derive(Debug, Default)]
pub(super) struct Gaps {
    /// Records that are missing: by the node and the first of a row, the last of it.
    missing: BTreeMap<(String, i64), i64>,
    unproven: u64,
    first_unproven: Option<String>,
    /// When this node was there by the primary's clock, and since when it is waited for that its replica knows.
    beat: Option<(i64, Instant)>,
}

fn named(node: &str, from: i64, to: i64) -> String {
    match from == to {
        true => format!("record {from} of node {node}"),
        false => format!("records {from} to {to} of node {node}"),
    }
}

impl FeedHandle {
    pub(in crate::store) fn health(&self) -> FeedHealth {
        let (shipping, committed) = (self.shipped.borrow().clone(), *self.committed.borrow());
        let heard_at = self.heard_at.load(Ordering::Relaxed);
        let heard_at = u64::try_from(heard_at).ok().map(Duration::from_millis);
        // A node that is fenced ships nothing from the first look on, and shares what was there before it was copied.
        let there =
            if shipping.fenced { self.fork.load(Ordering::Relaxed).max(shipping.seq) } else { shipping.seq };
        let gaps = self.lock_gaps();
        FeedHealth {
            fenced: shipping.fenced,
            missing: gaps.missing.iter().map(|((_, from), to)| (to - from).unsigned_abs() + 1).sum(),
            first_missing: gaps.missing.iter().next().map(|((node, from), to)| named(node, *from, *to)),
            unproven: gaps.unproven,
            first_unproven: gaps.first_unproven.clone(),
            error: shipping.error.or_else(|| self.lock_tail_error().clone()),
            unshipped: committed.saturating_sub(there).max(0).unsigned_abs(),
            lag: heard_at.map(|at| self.opened.elapsed().saturating_sub(at)),
            nodes: self.lock_seen().nodes(),
            lost_names: self.lock_lost_names().clone(),
            unknown_secrets: self.lock_unknown_secrets().clone(),
        }
    }

    /// What a look at the database's names found; logged when it is another thing than before.
    pub(super) fn found_lost_names(&self, lost: Vec<String>) {
        let before = std::mem::replace(&mut *self.lock_lost_names(), lost.clone());
        for name in lost.iter().filter(|name| !before.contains(name)) {
            tracing::warn!("in the database of all nodes {name}");
        }
    }

    /// Whether the database took this node with its secrets, since it started.
    pub(super) fn is_let_in(&self) -> bool {
        self.let_in.load(Ordering::Relaxed)
    }

    /// The database took it.
    pub(super) fn set_let_in(&self) {
        self.let_in.store(true, Ordering::Relaxed);
    }

    /// What a look at the secrets in use found; logged when it is another thing than before.
    pub(super) fn found_unknown_secrets(&self, unknown: Vec<String>) {
        let before = std::mem::replace(&mut *self.lock_unknown_secrets(), unknown.clone());
        for check in unknown.iter().filter(|check| !before.contains(check)) {
            tracing::error!(
                "another node hashes accounts under secret {check}, which is not in secret.key here: an account that opted \
                 out there is not known here. Copy secret.key of that node into this data folder and start anew (with \
                 `optgate keys rotate --next` before a rotation no node is ever without)"
            );
        }
    }

    /// Records of a node are not in the database, though it had them; logged when it was not known.
    pub(super) fn found_gap(&self, node: &str, from: i64, to: i64) {
        let before = self.lock_gaps().missing.insert((node.to_owned(), from), to);
        if before == Some(to) {
            return;
        }
        let what = named(node, from, to);
        tracing::error!(
            "{what} went missing from the shared database, so opt-outs in them are honoured by no node that reads them \
             there. That node sends them again while it runs with its folder; if it does not come back, restore the table, \
             or type `optgate ledger adopt FOLDER` with a copy of that folder"
        );
    }

    /// A node's line is not in the database, and its records are: where they ended is not known any more.
    pub(super) fn found_unlisted(&self, node: &str) {
        tracing::error!(
            "the line of node {node} went missing from the table `nodes` of the shared database: what is there of its records \
             is honoured, and whether any are missing behind them cannot be told"
        );
    }

    /// This node was there at a time by the primary's clock, which the replica it reads must come to know.
    pub(super) fn beat(&self, heard_us: i64) {
        self.lock_gaps().beat.get_or_insert_with(|| (heard_us, Instant::now()));
    }

    /// What the primary was told before may be lost to it.
    pub(super) fn forget_beat(&self) {
        self.lock_gaps().beat = None;
    }

    /// The replica knows of this node up to a time. Whether it is further behind than it may be.
    pub(super) fn is_behind(&self, known_us: Option<i64>) -> bool {
        let mut gaps = self.lock_gaps();
        gaps.beat = gaps.beat.filter(|(heard_us, _)| known_us.is_none_or(|known_us| known_us < *heard_us));
        gaps.beat.is_some_and(|(_, since)| since.elapsed() > BEHIND)
    }

    /// What is missing: of which node, from which record to which.
    pub(super) fn gaps(&self) -> Vec<(String, i64, i64)> {
        let gaps = self.lock_gaps();
        gaps.missing.iter().map(|((node, from), to)| (node.clone(), *from, *to)).collect()
    }

    /// Some of what was missing is there, in order.
    pub(super) fn found_again(&self, node: &str, (from, to): (i64, i64), seqs: &[i64]) {
        let mut gaps = self.lock_gaps();
        gaps.missing.remove(&(node.to_owned(), from));
        let mut next = from;
        for seq in seqs.iter().copied().chain([to + 1]) {
            if seq > next {
                gaps.missing.insert((node.to_owned(), next), seq - 1);
            }
            next = seq + 1;
        }
    }

    /// A record in the database says more than an opt-out, and nothing proves it.
    pub(super) fn found_unproven(&self, node: &str, seq: i64) {
        let what = named(node, seq, seq);
        let mut gaps = self.lock_gaps();
        gaps.unproven += 1;
        let total = gaps.unproven;
        gaps.first_unproven.get_or_insert_with(|| what.clone());
        drop(gaps);
        // At 1, 2, 4, 8 ...: what an earlier version pruned may be many.
        if total.is_power_of_two() {
            tracing::error!(
                total,
                "{what} in the shared database opts somebody in, or out in part, or a pruned one out, and nothing proves it: it \
                 was changed there, or an earlier version pruned it. It counts as an opt-out"
            );
        }
    }

    fn lock_gaps(&self) -> MutexGuard<'_, Gaps> {
        // Whole between two changes; what a panic lost of them is found at the next look.
        self.gaps.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lock_unknown_secrets(&self) -> MutexGuard<'_, Vec<String>> {
        // Replaced as one.
        self.unknown_secrets.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lock_lost_names(&self) -> MutexGuard<'_, Vec<String>> {
        // Replaced as one.
        self.lost_names.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
