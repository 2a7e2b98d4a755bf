//! Opens a journal beside the server that may be writing it.

use std::path::Path;

use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection};
use sqlx::{ConnectOptions, Connection};

use super::schema::{LATEST, refuse_strangers, schema_version};
use super::sqlite::connect_options;
use super::{explain, primary_code, refuse};
use crate::store::OpenError;

/// Refuses a place without a journal.
pub(super) fn there(path: &Path) -> Result<(), OpenError> {
    crate::store::beside::journal_there(path)
}

/// Does some work with a connection that only reads, on a thread of its own: the caller may already be inside a runtime.
pub(super) fn reading<T: Send>(
    path: &Path,
    work: impl AsyncFnOnce(&mut SqliteConnection) -> Result<T, OpenError> + Send,
) -> Result<T, OpenError> {
    there(path)?;
    apart(path, move || on_this_thread(path, true, work))
}

/// As [`reading`], with a connection that changes a journal which this version has opened before.
pub(super) fn changing<T: Send>(
    path: &Path,
    work: impl AsyncFnOnce(&mut SqliteConnection) -> Result<T, OpenError> + Send,
) -> Result<T, OpenError> {
    there(path)?;
    let checked = async move |connection: &mut SqliteConnection| {
        if schema_version(connection).await.map_err(|e| explain(path, &e))? < LATEST {
            return Err(refuse(path, "was not yet opened by this version; start it once, then try again"));
        }
        work(connection).await
    };
    apart(path, move || on_this_thread(path, false, checked))
}

/// Opens the journal for some work, and closes it.
pub(super) fn on_this_thread<T>(
    path: &Path,
    read_only: bool,
    work: impl AsyncFnOnce(&mut SqliteConnection) -> Result<T, OpenError>,
) -> Result<T, OpenError> {
    let named = |e: sqlx::Error| explain(path, &e);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|e| refuse(path, format!("cannot be read: {e}")))?;
    runtime.block_on(async {
        let mut connection = match open_beside(path, connect_options(path), read_only).await {
            Err(error) if read_only && is_shut(&error) && !was_closed(path) => {
                return Err(refuse(
                    path,
                    format!(
                        "has a -wal beside it that this user cannot read it with ({error}): type this as the user that the \
                         server runs as; of a copy that nobody serves from, copy the whole folder to where it can be \
                         written, and type it there"
                    ),
                ));
            }
            opened => opened.map_err(named)?,
        };
        refuse_strangers(path, &mut connection).await?;
        let done = work(&mut connection).await;
        let closed = connection.close().await.map_err(named);
        done.and_then(|done| closed.map(|()| done))
    })
}

/// A connection. SQLite wants to make files beside a database in WAL mode even to read it: where it cannot, on a medium that
/// takes no writes, one that was closed in order is read as what nobody changes.
pub(in crate::store) async fn open_beside(
    path: &Path,
    options: SqliteConnectOptions,
    read_only: bool,
) -> sqlx::Result<SqliteConnection> {
    let options = options.read_only(read_only);
    let looked = async {
        let mut connection = options.clone().connect().await?;
        sqlx::query("SELECT count(*) FROM sqlite_master").fetch_one(&mut connection).await?;
        Ok(connection)
    };
    match looked.await {
        Err(error) if read_only && is_shut(&error) && was_closed(path) => {
            options.immutable(true).connect().await
        }
        looked => looked,
    }
}

/// Cannot be opened, or is read-only (sqlite.org/rescode).
fn is_shut(error: &sqlx::Error) -> bool {
    matches!(primary_code(error), Some(8 | 14))
}

/// Whether nothing lies beside a journal that belongs to it: all of it is in the file, and nobody has it open.
fn was_closed(path: &Path) -> bool {
    let beside = |end: &str| {
        let mut name = path.as_os_str().to_owned();
        name.push(end);
        Path::new(&name).exists()
    };
    !beside("-wal") && !beside("-shm")
}

fn apart<T: Send>(path: &Path, work: impl FnOnce() -> Result<T, OpenError> + Send) -> Result<T, OpenError> {
    std::thread::scope(|scope| {
        let ended = scope.spawn(work).join();
        ended.unwrap_or_else(|_| Err(refuse(path, "could not be read: its thread panicked")))
    })
}
