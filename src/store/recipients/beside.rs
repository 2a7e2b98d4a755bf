//! What a person asks about recipients, and says of them, beside a running server.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use serde::{Serialize, Serializer};
use sqlx::sqlite::{SqliteConnection, SqliteRow};
use sqlx::{Connection as _, Row as _};

use super::schema::FILE;
use super::seal::Seal;
use super::table::{list, subject};
use super::{outbox, schema};
use crate::store::{OpenError, SECRET, files, keys, reference, require_journal, time};

/// A recipient that is to be told of an opt-out, or was. Never says whose it is.
#[derive(Debug, Clone, Serialize)]
pub struct Task {
    /// Its id, and the message's.
    pub task: String,
    /// The recipient's name.
    pub recipient: String,
    /// `webhook` or `mail`.
    pub way: String,
    /// Where to.
    pub address: String,
    /// Reference of the record.
    pub reference: String,
    /// The site's name.
    pub site: String,
    /// Registry ids of its vendors that were on the site.
    pub vendors: Vec<String>,
    /// `open`, `refused`, `failed`, `unnamed` or `done`.
    pub state: String,
    /// Tries so far.
    pub tries: i64,
    /// What the last try that failed came to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// When it was told, in microseconds since the Unix epoch.
    #[serde(rename = "told_at", serialize_with = "rfc3339", skip_serializing_if = "Option::is_none")]
    pub told_us: Option<i64>,
    /// What it answered, or what the person who told it noted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub receipt: Option<String>,
    #[serde(skip)]
    times: (i64, i64, i64),
}

impl Task {
    /// When it was requested and took effect, and until when data went to the recipient: microseconds since the Unix
    /// epoch.
    #[must_use]
    pub const fn times(&self) -> (i64, i64, i64) {
        self.times
    }
}

/// An opt-out whose effect came after its request, or of which others are to be told.
#[derive(Debug, Clone)]
pub struct OptOut {
    /// When it was requested, in microseconds since the Unix epoch.
    pub requested_us: i64,
    /// When it took effect.
    pub effective_us: i64,
    /// Registry ids of the vendors that got data in between.
    pub vendors: Vec<String>,
    /// Whether it was already looked at who is to be told.
    pub planned: bool,
    /// Who is.
    pub tasks: Vec<Task>,
}

/// What a person needs to write to a recipient.
#[derive(Debug, Clone)]
pub struct TaskText {
    /// The task.
    pub task: Task,
    /// What the site calls the account; `None` where nothing was at hand or all are told.
    pub account: Option<Vec<u8>>,
}

fn rfc3339<S: Serializer>(time_us: &Option<i64>, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&time::to_the_second(time_us.unwrap_or_default()))
}

const TASKS: &str =
    "SELECT t.id, t.recipient, t.way, t.address, r.reference, r.site, t.vendors, t.state, t.tries,
    t.error, t.told_us, t.receipt, r.requested_us, r.effective_us, t.until_us, r.subject, r.who
    FROM tasks t JOIN requests r ON r.id = t.request";

fn task(row: &SqliteRow) -> sqlx::Result<Task> {
    Ok(Task {
        task: row.try_get(0)?,
        recipient: row.try_get(1)?,
        way: row.try_get(2)?,
        address: row.try_get(3)?,
        reference: row.try_get(4)?,
        site: row.try_get(5)?,
        vendors: list(row, 6)?,
        state: row.try_get(7)?,
        tries: row.try_get(8)?,
        error: row.try_get(9)?,
        told_us: row.try_get(10)?,
        receipt: row.try_get(11)?,
        times: (row.try_get(12)?, row.try_get(13)?, row.try_get(14)?),
    })
}

/// Every task that is not done, oldest record first.
///
/// # Errors
/// The file cannot be read.
pub fn open_tasks(data_dir: &Path) -> Result<Vec<Task>, OpenError> {
    let found = reading(data_dir, async |connection| {
        let sql = format!(
            "{TASKS} WHERE t.state IN ('open', 'refused', 'failed', 'unnamed') ORDER BY t.request, t.id"
        );
        let rows = sqlx::query(sqlx::AssertSqlSafe(sql)).fetch_all(connection).await?;
        rows.iter().map(task).collect()
    })?;
    Ok(found.unwrap_or_default())
}

/// What is kept about the opt-out with a reference; `None`: it took effect at once, and nobody is to be told.
///
/// # Errors
/// The file cannot be read.
pub fn of_record(data_dir: &Path, written: &str) -> Result<Option<OptOut>, OpenError> {
    let Some(reference) = reference::normalise(written) else { return Ok(None) };
    let found = reading(data_dir, async |connection| {
        let row = sqlx::query(
            "SELECT requested_us, effective_us, vendors, planned FROM requests WHERE reference = ?",
        );
        let Some(row) = row.bind(&reference).fetch_optional(&mut *connection).await? else { return Ok(None) };
        let sql = format!("{TASKS} WHERE r.reference = ? ORDER BY t.recipient");
        let tasks = sqlx::query(sqlx::AssertSqlSafe(sql)).bind(&reference).fetch_all(connection).await?;
        Ok(Some(OptOut {
            requested_us: row.try_get(0)?,
            effective_us: row.try_get(1)?,
            vendors: list(&row, 2)?,
            planned: row.try_get(3)?,
            tasks: tasks.iter().map(task).collect::<sqlx::Result<_>>()?,
        }))
    })?;
    Ok(found.flatten())
}

/// Notes that a person told a recipient. `false`: there is no such task that is not done.
///
/// # Errors
/// The file cannot be written.
pub fn done(data_dir: &Path, id: &str, receipt: &str) -> Result<bool, OpenError> {
    let now_us = time::now_us();
    let done = with(data_dir, async |connection| outbox::done(connection, id, now_us, receipt, false).await)?;
    Ok(done.unwrap_or(false))
}

/// Has a message that was refused or given up sent again, for as long as a new one. `false`: there is none.
///
/// # Errors
/// The file cannot be written.
pub fn retry(data_dir: &Path, id: &str) -> Result<bool, OpenError> {
    let now_us = time::now_us();
    let done = with(data_dir, async |connection| {
        let again = sqlx::query(
            "UPDATE tasks SET state = 'open', first_us = NULL, due_us = ?2
             WHERE id = ?1 AND state IN ('open', 'refused', 'failed')",
        );
        let again = again.bind(id).bind(now_us).execute(connection).await?;
        Ok(again.rows_affected() > 0)
    })?;
    Ok(done.unwrap_or(false))
}

/// Notes that a mail which was taken came back later. `false`: there is no mail that was.
///
/// # Errors
/// The file cannot be written.
pub fn bounced(data_dir: &Path, id: &str, why: &str) -> Result<bool, OpenError> {
    let done = with(data_dir, async |connection| {
        let back = sqlx::query(
            "UPDATE tasks SET state = 'refused', told_us = NULL, receipt = NULL, error = ?2
             WHERE id = ?1 AND state = 'done' AND way = 'mail'",
        );
        let back = back.bind(id).bind(format!("came back: {why}")).execute(connection).await?;
        Ok(back.rows_affected() > 0)
    })?;
    Ok(done.unwrap_or(false))
}

/// A task with what the site calls the account, for whoever is to write to the recipient.
///
/// # Errors
/// The file or the secret cannot be read.
pub fn account_text(data_dir: &Path, id: &str) -> Result<Option<TaskText>, OpenError> {
    require_journal(data_dir)?;
    let secret = keys::load_or_create(&data_dir.join(SECRET), true)?;
    let seal = Seal::of(&secret.keys);
    let found = reading(data_dir, async |connection| {
        let sql = format!("{TASKS} WHERE t.id = ?");
        let row = sqlx::query(sqlx::AssertSqlSafe(sql)).bind(id).fetch_optional(connection).await?;
        let Some(row) = row else { return Ok(None) };
        let (subject, who) = (subject(&row, 15)?, row.try_get::<Option<Vec<u8>>, _>(16)?);
        let opened = who.zip(seal.as_ref()).and_then(|(who, seal)| seal.open(&who, &subject));
        Ok(Some(TaskText { task: task(&row)?, account: opened.map(|opened| opened.plain) }))
    })?;
    Ok(found.flatten())
}

/// Does some work with the file; `None` when there is none, because there was nothing to keep yet. A folder without a
/// journal is another than was meant.
fn with<T>(
    data_dir: &Path,
    work: impl AsyncFnOnce(&mut SqliteConnection) -> sqlx::Result<T>,
) -> Result<Option<T>, OpenError> {
    work_with(data_dir, false, work)
}

/// As [`with`], for what changes nothing.
fn reading<T>(
    data_dir: &Path,
    work: impl AsyncFnOnce(&mut SqliteConnection) -> sqlx::Result<T>,
) -> Result<Option<T>, OpenError> {
    work_with(data_dir, true, work)
}

fn work_with<T>(
    data_dir: &Path,
    read_only: bool,
    work: impl AsyncFnOnce(&mut SqliteConnection) -> sqlx::Result<T>,
) -> Result<Option<T>, OpenError> {
    require_journal(data_dir)?;
    let path = data_dir.join(FILE);
    let failed = |why: String| OpenError::Folder { path: path.display().to_string(), why };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|e| failed(format!("cannot be read: {e}")))?;
    let done = runtime.block_on(async {
        let opened = match read_only {
            true => schema::look(&path).await?,
            false => schema::connect(&path, false).await?,
        };
        let Some(mut connection) = opened else { return Ok(None) };
        let done = work(&mut connection).await;
        let closed = connection.close().await;
        done.and_then(|done| closed.map(|()| Some(done)))
    });
    done.map_err(|error: sqlx::Error| failed(format!("cannot be used: {error}")))
}

/// Copies the file, as it is at one moment, into another folder; durable when it returns.
pub(in crate::store) fn copy(data_dir: &Path, to: &Path) -> io::Result<()> {
    let copy = to.join(FILE);
    let name = copy.display().to_string();
    let done = reading(data_dir, async |connection| {
        sqlx::query("VACUUM INTO ?").bind(&name).execute(connection).await.map(drop)
    });
    if done.map_err(io::Error::other)?.is_some() {
        fs::set_permissions(&copy, fs::Permissions::from_mode(0o600))?;
        File::open(&copy)?.sync_all()?;
    }
    Ok(())
}

/// Reads the whole structure of the file, if there is one.
pub(in crate::store) fn check(data_dir: &Path) -> Result<(), OpenError> {
    let whole = with(data_dir, async |connection| {
        sqlx::query_scalar::<_, String>("PRAGMA quick_check(1)").fetch_one(connection).await
    })?;
    match whole.filter(|said| said != "ok") {
        Some(fault) => Err(OpenError::Folder { path: data_dir.join(FILE).display().to_string(), why: fault }),
        None => Ok(()),
    }
}

/// Puts the file of a folder that nobody has open into a data folder, if it has one.
pub(in crate::store) fn restore(from: &Path, data_dir: &Path) -> io::Result<()> {
    match fs::read(from.join(FILE)) {
        Ok(bytes) => files::put(&data_dir.join(FILE), &bytes),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
    }
}
