//! Opt-outs: a memory index to ask, a journal to be sure.
//!
//! [`Store::lookup`] reads memory only. [`Store::record`] answers after the record is on disk;
//! [`Store::record_behind`] never waits. One writer thread commits in groups; no sqlx call happens on
//! an edge core, only a message and a oneshot.

use std::path::Path;

use crate::config;
use crate::privacy::{Basis, Keys, Standing, Subject};

/// What kind of change a record states.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Opt-out of sale and sharing.
    OptOut,
    /// Explicit, confirmed opt-in.
    OptIn,
}

/// Where an opt-out or opt-in came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// The browser's `Sec-GPC`.
    Gpc,
    /// The button of the consumer page.
    Form,
    /// A consent platform's cookie.
    Cmp,
    /// An operator's import.
    Import,
}

/// A state change to be recorded. Never holds an address or a user agent.
#[derive(Debug, Clone)]
pub struct Change {
    /// Microseconds since the Unix epoch.
    pub time_us: i64,
    /// The site's name.
    pub site: String,
    /// What changed.
    pub kind: Kind,
    /// How it arrived.
    pub source: Source,
    /// The decision's ground; `None` for an opt-in.
    pub basis: Option<Basis>,
    /// Registry and policy version in force.
    pub policy: String,
    /// The account, if one was named.
    pub subject: Option<Subject>,
}

/// What a durable record is known by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Receipt {
    /// Random public reference, shown to the person.
    pub reference: String,
    /// Position in this node's journal.
    pub seq: i64,
    /// Microseconds since the Unix epoch.
    pub time_us: i64,
}

/// A record as an auditor sees it: DESIGN 7, never the subject.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecordView {
    /// Position in the node's journal.
    pub seq: i64,
    /// Node that wrote it.
    pub node: String,
    /// Microseconds since the Unix epoch.
    pub time_us: i64,
    /// Site name.
    pub site: String,
    /// `opt-out` or `opt-in`.
    pub kind: String,
    /// `gpc`, `form`, `cmp`, `import`.
    pub signal: String,
    /// Basis of the decision, or empty.
    pub basis: String,
    /// Policy version.
    pub policy: String,
    /// Public reference.
    pub reference: String,
    /// Whether an account was named (the subject itself is never shown).
    pub account: bool,
}

/// Why a change could not be recorded.
#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    /// Flood protection: honoured and counted, but no row.
    #[error("more new records than the configured rate")]
    Flood,
    /// The journal cannot write now.
    #[error("the journal cannot write: {0}")]
    Journal(String),
    /// The store is shutting down.
    #[error("the store is closed")]
    Closed,
}

/// How the store is doing.
#[derive(Debug, Clone, Default)]
pub struct Health {
    /// The index holds everything the journal holds.
    pub loaded: bool,
    /// Why the journal cannot write; `None` while it can.
    pub journal_error: Option<String>,
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
}

/// Why the store could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The data folder cannot be used.
    #[error("{path}: {why}")]
    Folder {
        /// Which.
        path: String,
        /// Why.
        why: String,
    },
    /// The journal cannot be used: corrupt, locked by another process, or from a newer version.
    #[error("{path}: {why}")]
    Journal {
        /// Which.
        path: String,
        /// Why, and what to do.
        why: String,
    },
}

/// Handle to the store; cheap to clone.
#[derive(Clone)]
pub struct Store {}

impl Store {
    /// Opens (or creates) the journal in a data folder, starts the writer thread, loads the index.
    /// Returns once everything is loaded.
    ///
    /// # Errors
    /// Names the file and says what to do.
    pub fn open(_data_dir: &Path, _limits: &config::Store) -> Result<Self, OpenError> {
        todo!()
    }

    /// The keys, generated on first start into `DATA/secret.key` (mode 0600).
    #[must_use]
    pub fn keys(&self) -> &Keys {
        todo!()
    }

    /// What is known about an account. Memory only.
    #[must_use]
    pub fn lookup(&self, _subject: &Subject) -> Standing {
        todo!()
    }

    /// Records a change; resolves after it is durable.
    ///
    /// # Errors
    /// See [`RecordError`].
    pub async fn record(&self, _change: Change) -> Result<Receipt, RecordError> {
        todo!()
    }

    /// Hands a change to the writer without waiting. The index knows it at once; an overflow or flood is counted.
    pub fn record_behind(&self, _change: Change) {
        todo!()
    }

    /// The record behind a reference.
    ///
    /// # Errors
    /// When the journal cannot be read.
    pub async fn find(&self, _reference: &str) -> Result<Option<RecordView>, RecordError> {
        todo!()
    }

    /// How the store is doing.
    #[must_use]
    pub fn health(&self) -> Health {
        todo!()
    }

    /// Flushes everything queued and ends the writer thread. Later calls answer [`RecordError::Closed`].
    pub async fn close(&self) {
        todo!()
    }
}

/// Reads every record of a journal, in order, beside a running server (read-only connection).
///
/// # Errors
/// Names the file.
pub fn export(
    _data_dir: &Path,
    _each: &mut dyn FnMut(RecordView) -> std::io::Result<()>,
) -> Result<(), OpenError> {
    todo!()
}
