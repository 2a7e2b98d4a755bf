//! The append-only record on disk.
//!
//! [`chain`] says what a record's bytes are and what ties them together; [`sqlite`] keeps them on one
//! node, in the tables of [`schema`]; [`audit`] reads them beside a running server. The canonical bytes are the record: every
//! other column exists to search by. [`wal`] and [`mark`] are for what a crash, a bad disk or a bad hand left.

pub(super) mod audit;
pub(super) mod chain;
mod mark;
mod schema;
pub(super) mod sqlite;
mod wal;

use std::path::Path;

use super::OpenError;

/// Why a record is refused when it is read.
const BROKEN: &str = "does not fit the chain: it, or one before it, was changed, lost or put in after it was \
                      written. Restore the journal from a backup and keep this file: it is evidence";

/// An error that names the journal.
fn refuse(path: &Path, why: impl Into<String>) -> OpenError {
    OpenError::Journal { path: path.display().to_string(), why: why.into() }
}

/// Says what an SQLite error means for the person who starts Optgate (result codes: sqlite.org/rescode).
fn explain(path: &Path, error: &sqlx::Error) -> OpenError {
    let advice = match primary_code(error) {
        Some(5 | 6) => "is locked by another program; close that program and start again",
        Some(8 | 14 | 23) => {
            "cannot be opened for writing; the user Optgate runs as must own it and its folder"
        }
        Some(10) => "cannot be read or written; check the disk, then start again",
        Some(11) => "is damaged; restore it from a backup (Optgate never overwrites it)",
        Some(13) => "cannot grow; make room on its disk and start again",
        Some(26) => {
            "is not a SQLite database, or its head is damaged; restore it from a backup (Optgate never \
             overwrites it)"
        }
        _ => "cannot be used",
    };
    refuse(path, format!("{advice} ({error})"))
}

/// SQLite's result code without its extension.
fn primary_code(error: &sqlx::Error) -> Option<u32> {
    let code: u32 = error.as_database_error()?.code()?.parse().ok()?;
    Some(code & 0xff)
}
