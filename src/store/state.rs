//! What the handles and the writer share: the index and the figures.

use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use prometheus_client::metrics::histogram::Histogram;
use tokio::sync::Notify;

use super::counts::Counts;
use super::feed::{FeedHandle, FeedHealth};
use super::index::Index;
use super::recent_opt_outs::RecentOptOuts;
use super::record::{Kind, Source};
use super::stall::Stall;
use super::time;
use crate::privacy::Subject;

/// How the store is doing.
#[derive(Debug, Clone, Default)]
pub struct Health {
    /// The index holds everything the journal holds.
    pub loaded: bool,
    /// Why the journal cannot write; `None` while it can.
    pub journal_error: Option<String>,
    /// What is wrong with records that were written long ago; `None` while nothing is known to be.
    pub damage: Option<String>,
    /// Why the next start would not find what is recorded now; `None` while it would.
    pub lost: Option<String>,
    /// Records waiting.
    pub backlog: usize,
    /// Records in the journal.
    pub records: u64,
    /// Changes honoured without a row, by flood protection.
    pub flood_dropped: u64,
    /// Changes lost because the queue was full.
    pub overflowed: u64,
    /// Accounts known as opted out.
    pub accounts_opted_out: u64,
    /// Seconds of each journal commit so far, summed, and how many.
    pub commits: (f64, u64),
    /// The database that nodes share; `None` for a node alone.
    pub feed: Option<FeedHealth>,
}

/// Shared by every handle, the writer and the collector. Figures are relaxed atomics.
#[derive(Debug)]
pub(super) struct State {
    pub(super) index: Index,
    pub(super) counts: Counts,
    /// Who opted out by hand a moment ago.
    pub(super) recent_opt_outs: RecentOptOuts,
    /// Accepted and not yet on disk.
    pub(super) backlog: AtomicUsize,
    /// Those of them that nobody waits for.
    pub(super) behind: AtomicUsize,
    pub(super) records: AtomicU64,
    /// What the writer is at.
    pub(super) stall: Stall,
    /// Records taken into the index since the start, of other nodes too.
    pub(super) taken: AtomicU64,
    /// Somebody waits for the writer.
    pub(super) urgent: Notify,
    /// The journal is open here.
    pub(super) open: AtomicBool,
    /// Another process has the journal, or is about to.
    pub(super) lent: AtomicBool,
    /// What was found wrong with the journal beside the work.
    damage: Mutex<Option<String>>,
    /// Why the journal is not where it was opened.
    lost: Mutex<Option<String>>,
    /// What could not be written when the writer ended.
    pub(super) lost_at_close: AtomicU64,
    flood_dropped: AtomicU64,
    overflowed: AtomicU64,
    commits: AtomicU64,
    commit_nanos: AtomicU64,
    pub(super) append_seconds: Histogram,
    /// Other nodes; `None` for a node alone.
    pub(super) feed: Option<Arc<FeedHandle>>,
    journal_error: Mutex<Option<String>>,
}

impl State {
    pub(super) fn new(feed: Option<Arc<FeedHandle>>) -> Self {
        let seconds = [0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 5.0];
        Self {
            index: Index::default(),
            counts: Counts::default(),
            recent_opt_outs: RecentOptOuts::new(time::now_us()),
            backlog: AtomicUsize::new(0),
            behind: AtomicUsize::new(0),
            records: AtomicU64::new(0),
            stall: Stall::default(),
            taken: AtomicU64::new(0),
            urgent: Notify::new(),
            open: AtomicBool::new(false),
            lent: AtomicBool::new(false),
            damage: Mutex::new(None),
            lost: Mutex::new(None),
            lost_at_close: AtomicU64::new(0),
            flood_dropped: AtomicU64::new(0),
            overflowed: AtomicU64::new(0),
            commits: AtomicU64::new(0),
            commit_nanos: AtomicU64::new(0),
            append_seconds: Histogram::new(seconds),
            feed,
            journal_error: Mutex::new(None),
        }
    }

    /// One commit of so many records is durable.
    pub(super) fn committed(&self, took: Duration, records: usize) {
        self.records.fetch_add(records as u64, Ordering::Relaxed);
        self.commits.fetch_add(1, Ordering::Relaxed);
        let nanos = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        self.commit_nanos.fetch_add(nanos, Ordering::Relaxed);
        self.append_seconds.observe(took.as_secs_f64());
    }

    /// A change was honoured without a row.
    pub(super) fn count_flood(&self) {
        let total = self.flood_dropped.fetch_add(1, Ordering::Relaxed) + 1;
        if total.is_power_of_two() {
            tracing::warn!(total, "more new records than store.records_per_second: honoured, not recorded");
        }
    }

    /// Changes were lost for want of room. Logged at 1, 2, 4, 8 ... so that a flood cannot fill the log.
    pub(super) fn count_overflow(&self, lost: u64) {
        let before = self.overflowed.fetch_add(lost, Ordering::Relaxed);
        let total = before + lost;
        if lost > 0 && total.ilog2() != before.checked_ilog2().unwrap_or(u32::MAX) {
            tracing::error!(total, "records lost: the queue for the journal is full or could not be flushed");
        }
    }

    /// Sets or clears why the journal cannot write; returns what it was.
    pub(super) fn set_journal_error(&self, error: Option<String>) -> Option<String> {
        std::mem::replace(&mut *lock(&self.journal_error), error)
    }

    /// Whether the last commit failed.
    pub(super) fn is_failing(&self) -> bool {
        lock(&self.journal_error).is_some()
    }

    /// A look at the whole journal found it damaged.
    pub(super) fn note_damage(&self, what: String) {
        tracing::error!(
            "{what}; opt-outs are honoured and recorded as before. Keep the journal as evidence, and restore it from \
             a backup"
        );
        *lock(&self.damage) = Some(what);
    }

    /// What a look at the journal's place found: why it is lost, if it is.
    pub(super) fn found(&self, lost: Option<String>) {
        let was = std::mem::replace(&mut *lock(&self.lost), lost.clone());
        match (was, lost) {
            (None, Some(lost)) => tracing::error!(
                "{lost}; opt-outs are honoured, but what is recorded from now on is not there after a stop. Put the data \
                 folder back, or stop and restore it"
            ),
            (Some(_), None) => tracing::warn!("the journal is at its place again"),
            _ => {}
        }
    }

    pub(super) fn health(&self) -> Health {
        let nanos = self.commit_nanos.load(Ordering::Relaxed);
        Health {
            loaded: self.is_loaded(),
            journal_error: lock(&self.journal_error).clone().or_else(|| self.stall.error()),
            damage: lock(&self.damage).clone(),
            lost: lock(&self.lost).clone(),
            backlog: self.backlog.load(Ordering::Relaxed),
            records: self.records.load(Ordering::Relaxed),
            flood_dropped: self.flood_dropped.load(Ordering::Relaxed),
            overflowed: self.overflowed.load(Ordering::Relaxed),
            accounts_opted_out: self.index.opted_out(),
            commits: (Duration::from_nanos(nanos).as_secs_f64(), self.commits.load(Ordering::Relaxed)),
            feed: self.feed.as_ref().map(|feed| feed.health()),
        }
    }

    /// A record of this node is on disk. Called in journal order.
    pub(super) fn settle(&self, subject: Subject, kind: Kind, source: Source, seq: i64) {
        self.index.settle(subject, kind, source, seq);
        self.note_taken(subject, kind);
    }

    /// As [`State::settle`], for a record that was claimed.
    pub(super) fn settle_claimed(&self, subject: Subject, kind: Kind, source: Source, seq: i64) {
        self.index.settle_claimed(subject, kind, source, seq);
        self.note_taken(subject, kind);
    }

    /// A record was taken into the index.
    pub(super) fn note_taken(&self, subject: Subject, kind: Kind) {
        self.taken.fetch_add(1, Ordering::Relaxed);
        if let Some(feed) = self.feed.as_ref().filter(|_| kind.is_weighed()) {
            feed.recheck(subject);
        }
    }

    /// Whether the index knows everything that was recorded when this node started.
    pub(super) fn is_loaded(&self) -> bool {
        self.feed.as_ref().is_none_or(|feed| feed.is_loaded())
    }
}

fn lock(text: &Mutex<Option<String>>) -> MutexGuard<'_, Option<String>> {
    // A string is whole whatever its holder was doing.
    text.lock().unwrap_or_else(PoisonError::into_inner)
}
