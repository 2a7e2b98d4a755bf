//! The tables of the file, and how it is opened.

use std::fs::OpenOptions;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::time::Duration;

use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection, SqliteJournalMode, SqliteSynchronous};
use sqlx::{ConnectOptions as _, Connection as _, Result, Row as _, SqliteTransaction};

use crate::store::files;
use crate::store::journal::beside::open_beside;

/// The file's name.
pub(in crate::store) const FILE: &str = "recipients.sqlite3";

/// `OPTR`: marks the file as ours.
const APPLICATION_ID: i64 = 0x4f50_5452;

/// How long another program (a backup, a command) may hold the lock.
const BUSY: Duration = Duration::from_secs(5);

/// Forward only; a step is never changed once released.
///
/// A request without a reference waits for its record. `who` is sealed, and gone once everybody was told. A task's
/// `state` is `open`, `refused` (the recipient said that it takes none), `failed` (tried for long enough), `unnamed`
/// (there is nothing to call the person by) or `done`; all but the last are for somebody to see to.
const MIGRATIONS: &[&str] = &["
    CREATE TABLE windows (
        site TEXT NOT NULL,
        vendor TEXT NOT NULL,
        first_day INTEGER NOT NULL,
        last_day INTEGER NOT NULL,
        PRIMARY KEY (site, vendor, first_day)
    ) STRICT, WITHOUT ROWID;
    CREATE TABLE requests (
        id INTEGER PRIMARY KEY,
        subject BLOB NOT NULL,
        site TEXT NOT NULL,
        requested_us INTEGER NOT NULL,
        effective_us INTEGER,
        reference TEXT UNIQUE,
        who BLOB,
        planned INTEGER NOT NULL DEFAULT 0,
        vendors TEXT NOT NULL DEFAULT '[]'
    ) STRICT;
    CREATE INDEX requests_by_subject ON requests (subject);
    CREATE INDEX requests_to_record ON requests (requested_us) WHERE reference IS NULL;
    CREATE INDEX requests_to_plan ON requests (id) WHERE planned = 0 AND reference IS NOT NULL;
    CREATE TABLE tasks (
        id TEXT PRIMARY KEY,
        request INTEGER NOT NULL REFERENCES requests (id) ON DELETE CASCADE,
        recipient TEXT NOT NULL,
        way TEXT NOT NULL,
        address TEXT NOT NULL,
        vendors TEXT NOT NULL,
        until_us INTEGER NOT NULL,
        state TEXT NOT NULL,
        tries INTEGER NOT NULL DEFAULT 0,
        first_us INTEGER,
        due_us INTEGER NOT NULL,
        error TEXT,
        told_us INTEGER,
        receipt TEXT,
        UNIQUE (request, recipient)
    ) STRICT, WITHOUT ROWID;
    CREATE INDEX tasks_due ON tasks (recipient, due_us) WHERE state = 'open' AND way = 'webhook';
    CREATE INDEX tasks_by_state ON tasks (state);
    "];

/// Opens the file; `make` it when it is not there, else `None`.
pub(super) async fn connect(path: &Path, make: bool) -> Result<Option<SqliteConnection>> {
    if !path.exists() {
        if !make {
            return Ok(None);
        }
        let made = OpenOptions::new().create(true).append(true).mode(0o600).open(path);
        made.and_then(|_| files::sync_folder_of(path)).map_err(sqlx::Error::Io)?;
    }
    let options = SqliteConnectOptions::new()
        .filename(path)
        .create_if_missing(false)
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(SqliteSynchronous::Full)
        .foreign_keys(true)
        .busy_timeout(BUSY)
        // What is erased must not lie about in the file.
        .pragma("secure_delete", "ON");
    let mut connection = options.disable_statement_logging().connect().await?;
    migrate(&mut connection).await?;
    Ok(Some(connection))
}

/// Opens the file only to read it; `None` without one. A copy may lie where nothing can be written.
pub(super) async fn look(path: &Path) -> Result<Option<SqliteConnection>> {
    if !path.exists() {
        return Ok(None);
    }
    let options = SqliteConnectOptions::new().filename(path).busy_timeout(BUSY).disable_statement_logging();
    let mut connection = open_beside(path, options, true).await?;
    let number = async |connection: &mut SqliteConnection, sql: &'static str| -> Result<i64> {
        sqlx::query(sql).fetch_one(connection).await?.try_get(0)
    };
    let id = number(&mut connection, "PRAGMA application_id").await?;
    let version = number(&mut connection, "PRAGMA user_version").await?;
    if id == APPLICATION_ID && usize::try_from(version) == Ok(MIGRATIONS.len()) {
        return Ok(Some(connection));
    }
    connection.close().await?;
    // Whatever it is, this says it; one that was made and not yet filled is filled.
    connect(path, false).await
}

async fn migrate(connection: &mut SqliteConnection) -> Result<()> {
    let mut transaction = connection.begin_with("BEGIN IMMEDIATE").await?;
    let number = async |transaction: &mut SqliteTransaction<'_>, sql: &'static str| -> Result<i64> {
        sqlx::query(sql).fetch_one(&mut **transaction).await?.try_get(0)
    };
    let objects = number(&mut transaction, "SELECT count(*) FROM sqlite_master").await?;
    let id = number(&mut transaction, "PRAGMA application_id").await?;
    let version = number(&mut transaction, "PRAGMA user_version").await?;
    if objects > 0 && id != APPLICATION_ID {
        return Err(sqlx::Error::Protocol("it is a database of another program".into()));
    }
    let have = usize::try_from(version).unwrap_or(usize::MAX);
    if have > MIGRATIONS.len() {
        return Err(sqlx::Error::Protocol("it was written by a newer Optgate; run that version".into()));
    }
    if have == MIGRATIONS.len() {
        return Ok(());
    }
    for sql in MIGRATIONS.iter().skip(have) {
        sqlx::raw_sql(*sql).execute(&mut *transaction).await?;
    }
    sqlx::raw_sql("PRAGMA application_id = 1330664530; PRAGMA user_version = 1")
        .execute(&mut *transaction)
        .await?;
    transaction.commit().await
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The pragma's text and the constant say the same number.
    #[test]
    fn the_application_id_spells_optr() {
        assert_eq!(APPLICATION_ID.to_string(), "1330664530");
        assert_eq!(&APPLICATION_ID.to_be_bytes()[4..], b"OPTR");
    }
}
