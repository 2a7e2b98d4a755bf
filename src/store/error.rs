//! Why the store does not do what it is asked.

use super::journal::postgres::Trouble;

/// Why a change could not be recorded.
#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    /// Flood protection: honoured and counted, but no row.
    #[error("more new records than the configured rate")]
    Flood,
    /// The journal cannot write now.
    #[error("the journal cannot write: {0}")]
    Journal(String),
    /// It takes longer than anybody is to wait. What was asked may be recorded yet.
    #[error("the journal cannot write: it takes too long")]
    TooLong,
    /// The person opted out after it was asked whether to record this: that holds.
    #[error("an opt-out came after the question")]
    OptedOut,
    /// What an order names is not there.
    #[error("the journal has no {0}")]
    NotThere(String),
    /// Other nodes recorded accounts, and under which secret each is hashed is not known here.
    #[error(
        "{0} other nodes have records in the shared database, and this one does not know which of their accounts are known \
         under an earlier secret alone: those would be lost; leave the earlier secrets in secret.key"
    )]
    Shared(usize),
    /// The store is shutting down. What was asked may have been begun.
    #[error("the store is closed")]
    Closed,
    /// An upgrade gave the store to another process before what was asked was begun: that one may be asked.
    #[error("another process has the store now")]
    HandedOver,
    /// An upgrade gave the store to another process while records were pruned.
    #[error(
        "another process has the store now; {0} records were pruned until then, prune again for the rest"
    )]
    HalfPruned(u64),
}

impl From<Trouble> for RecordError {
    fn from(trouble: Trouble) -> Self {
        Self::Journal(trouble.to_string())
    }
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
    /// A server, or a command, has the data folder.
    #[error(
        "{path}: another optgate uses this data folder; stop it, or give this one its own with --data-dir"
    )]
    InUse {
        /// The file that it has locked.
        path: String,
    },
    /// The database that nodes share cannot be used.
    #[error("{url}: {why}")]
    Database {
        /// Which, without its password.
        url: String,
        /// Why, and what to do.
        why: String,
    },
    /// An export's receiver would not take a record.
    #[error("the export could not be written: {0}")]
    Output(#[source] std::io::Error),
}
