//! The file: windows, requests whose effect came later, and a task for each recipient. Its tables are in `schema`, what
//! is sent in `outbox`.
//!
//! `DATA/recipients.sqlite3` stands beside the journal and changes nothing in it. It is made when there is something to
//! keep. Every change is durable before it is answered.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use sqlx::sqlite::{SqliteConnection, SqliteRow};
use sqlx::{Connection as _, Row as _, SqliteTransaction};

use super::figures::Figures;
use super::plan::{Asked, Planner, SLACK_DAYS, Window, day_of};
use super::schema::connect;
use super::seal::{MOST, Seal};
use super::sightings::Sighting;
use super::{Pending, Recorded, Request};
use crate::privacy::Subject;

/// Requests kept at most; with their tasks about 2 GiB.
const MOST_REQUESTS: i64 = 5_000_000;

/// Requests planned in one transaction.
const PAGE: i64 = 256;

type Result<T, E = sqlx::Error> = std::result::Result<T, E>;

/// The file with its one connection that writes.
pub(super) struct Table {
    path: PathBuf,
    connection: Option<SqliteConnection>,
    /// Requests in it.
    requests: i64,
    pub(super) seal: Option<Arc<Seal>>,
    pub(super) figures: Arc<Figures>,
}

impl Table {
    pub(super) fn new(path: PathBuf, seal: Option<Seal>, figures: Arc<Figures>) -> Self {
        Self { path, connection: None, requests: 0, seal: seal.map(Arc::new), figures }
    }

    /// The connection. One that has failed is opened anew: what it had not committed is not there.
    pub(super) async fn open(&mut self, make: bool) -> Result<Option<&mut SqliteConnection>> {
        // Somebody may have put the folder back to another state.
        if self.connection.is_none() {
            self.connection = connect(&self.path, make).await?;
            if let Some(connection) = &mut self.connection {
                let count = sqlx::query("SELECT count(*) FROM requests").fetch_one(&mut *connection).await?;
                self.requests = count.try_get(0)?;
            }
        }
        Ok(self.connection.as_mut())
    }

    async fn made(&mut self) -> Result<&mut SqliteConnection> {
        self.open(true).await?.ok_or(sqlx::Error::RowNotFound)
    }

    /// What became of the work since the connection was last used.
    pub(super) async fn used(&mut self, failed: bool) {
        self.figures.down.store(failed, Ordering::Relaxed);
        if failed && let Some(connection) = self.connection.take() {
            // Nothing in it is to be kept.
            let _ = connection.close_hard().await;
        }
    }

    pub(super) async fn close(&mut self) {
        if let Some(connection) = self.connection.take()
            && let Err(error) = connection.close().await
        {
            tracing::warn!(%error, "recipients.sqlite3 was not closed cleanly; it will recover when opened");
        }
    }

    /// Puts down that these vendors were seen on a day.
    pub(super) async fn seen(&mut self, day: i64, sightings: &[Sighting]) -> Result<()> {
        let mut transaction = self.made().await?.begin_with("BEGIN IMMEDIATE").await?;
        for Sighting { site, vendor } in sightings {
            let longer = sqlx::query(
                "UPDATE windows SET last_day = max(last_day, ?3)
                 WHERE site = ?1 AND vendor = ?2 AND first_day <= ?3 AND last_day >= ?3 - ?4",
            );
            let longer = longer.bind(&**site).bind(vendor).bind(day).bind(SLACK_DAYS);
            if longer.execute(&mut *transaction).await?.rows_affected() == 0 {
                let new = sqlx::query("INSERT OR IGNORE INTO windows VALUES (?1, ?2, ?3, ?3)");
                new.bind(&**site).bind(vendor).bind(day).execute(&mut *transaction).await?;
            }
        }
        transaction.commit().await
    }

    /// Keeps requests until their opt-outs are on record. Of one that is kept already the first time holds.
    pub(super) async fn requested(&mut self, requests: &[Request]) -> Result<()> {
        let seal = self.seal.clone();
        // How many there are is known once the file is open.
        self.made().await?;
        let mut room = MOST_REQUESTS - self.requests;
        let before = room;
        let mut lost = 0;
        let mut transaction = self.made().await?.begin_with("BEGIN IMMEDIATE").await?;
        for request in requests {
            let who = request.who.as_ref().map(|who| &who.0).filter(|who| who.len() <= MOST);
            let who = who.and_then(|who| seal.as_ref()?.close(who, &request.subject));
            let waits = sqlx::query(
                "UPDATE requests SET requested_us = min(requested_us, ?2), who = coalesce(?3, who)
                 WHERE subject = ?1 AND reference IS NULL",
            );
            let waits = waits.bind(&request.subject.as_bytes()[..]).bind(request.requested_us).bind(&who);
            if waits.execute(&mut *transaction).await?.rows_affected() > 0 {
                continue;
            }
            if room <= 0 {
                lost += 1;
                continue;
            }
            let new =
                sqlx::query("INSERT INTO requests (subject, site, requested_us, who) VALUES (?, ?, ?, ?)");
            let new = new.bind(&request.subject.as_bytes()[..]).bind(&request.site);
            new.bind(request.requested_us).bind(&who).execute(&mut *transaction).await?;
            room -= 1;
        }
        transaction.commit().await?;
        self.requests += before - room;
        if lost > 0 {
            self.figures.lost.fetch_add(lost, Ordering::Relaxed);
            tracing::error!(lost, "recipients.sqlite3 is full: of these opt-outs nobody will be told");
        }
        Ok(())
    }

    /// Opt-outs that waited are on record.
    pub(super) async fn recorded(&mut self, records: &[Recorded]) -> Result<()> {
        let Some(connection) = self.open(false).await? else { return Ok(()) };
        let mut transaction = connection.begin_with("BEGIN IMMEDIATE").await?;
        for Recorded { subject, reference, effective_us } in records {
            let subject = &subject.as_bytes()[..];
            let done = sqlx::query(
                "UPDATE OR IGNORE requests SET reference = ?2, effective_us = max(requested_us, ?3)
                 WHERE subject = ?1 AND reference IS NULL",
            );
            done.bind(subject).bind(reference).bind(effective_us).execute(&mut *transaction).await?;
            // One that asked for the same record a second time.
            let twice = sqlx::query("DELETE FROM requests WHERE subject = ? AND reference IS NULL");
            twice.bind(subject).execute(&mut *transaction).await?;
        }
        transaction.commit().await
    }

    /// Requests whose opt-out is not known to be on record, newest first: an old one may be of somebody who did not try again.
    pub(super) async fn pending(&mut self) -> Result<Vec<Pending>> {
        let Some(connection) = self.open(false).await? else { return Ok(Vec::new()) };
        let rows = sqlx::query(
            "SELECT subject, requested_us FROM requests WHERE reference IS NULL ORDER BY requested_us DESC LIMIT 1024",
        );
        let pending = |row: &SqliteRow| -> Result<Pending> {
            Ok(Pending { subject: subject(row, 0)?, requested_us: row.try_get(1)? })
        };
        rows.fetch_all(connection).await?.iter().map(pending).collect()
    }

    /// Makes a task for everybody who is to be told of what was recorded since. A request that nobody is to be told of
    /// and that took effect at once says no more than its record, and goes.
    pub(super) async fn plan(&mut self, planner: &Planner, now_us: i64) -> Result<()> {
        let Some(connection) = self.open(false).await? else { return Ok(()) };
        let (mut gone, mut windows) = (0, None);
        loop {
            let mut transaction = connection.begin_with("BEGIN IMMEDIATE").await?;
            let rows = sqlx::query(
                "SELECT id, site, requested_us, effective_us, who IS NOT NULL FROM requests
                 WHERE planned = 0 AND reference IS NOT NULL ORDER BY id LIMIT ?",
            );
            let rows = rows.bind(PAGE).fetch_all(&mut *transaction).await?;
            if rows.is_empty() {
                break;
            }
            let windows = match &mut windows {
                Some(read) => read,
                none => none.insert(all_windows(&mut transaction).await?),
            };
            for row in &rows {
                let id: i64 = row.try_get(0)?;
                let asked = Asked {
                    site: row.try_get(1)?,
                    requested_us: row.try_get(2)?,
                    effective_us: row.try_get(3)?,
                };
                let (vendors, told) = planner.plan(&asked, windows);
                if told.is_empty() && asked.requested_us >= asked.effective_us {
                    let gone_now = sqlx::query("DELETE FROM requests WHERE id = ?").bind(id);
                    gone += gone_now.execute(&mut *transaction).await?.rows_affected();
                    continue;
                }
                let named: bool = row.try_get(4)?;
                for task in &told {
                    let new = sqlx::query(
                        "INSERT OR IGNORE INTO tasks
                         (id, request, recipient, way, address, vendors, until_us, state, due_us)
                         VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
                    );
                    let new = new.bind(fresh_id()?).bind(id).bind(&task.recipient).bind(task.way);
                    let new = new.bind(&task.address).bind(json(&task.vendors)?).bind(task.until_us);
                    let state = if named { "open" } else { "unnamed" };
                    new.bind(state).bind(now_us).execute(&mut *transaction).await?;
                }
                let planned = sqlx::query(
                    "UPDATE requests SET planned = 1, vendors = ?2, who = CASE WHEN ?3 THEN who END WHERE id = ?1",
                );
                let planned = planned.bind(id).bind(json(&vendors)?).bind(!told.is_empty());
                planned.execute(&mut *transaction).await?;
            }
            transaction.commit().await?;
        }
        self.requests -= i64::try_from(gone).unwrap_or(0);
        self.count().await
    }

    /// Brings the gauges up to date.
    pub(super) async fn count(&mut self) -> Result<()> {
        let Some(connection) = self.open(false).await? else { return Ok(()) };
        let row = sqlx::query(
            "SELECT count(*), count(*) FILTER (WHERE state <> 'open') FROM tasks
             WHERE state IN ('open', 'refused', 'failed', 'unnamed')",
        );
        let row = row.fetch_one(connection).await?;
        let number = |at| Ok::<_, sqlx::Error>(u64::try_from(row.try_get::<i64, _>(at)?).unwrap_or(0));
        self.figures.open.store(number(0)?, Ordering::Relaxed);
        self.figures.stuck.store(number(1)?, Ordering::Relaxed);
        Ok(())
    }

    /// Forgets these accounts and what was to be told of them.
    pub(super) async fn erase(&mut self, subjects: &[Subject]) -> Result<()> {
        let Some(connection) = self.open(false).await? else { return Ok(()) };
        let mut transaction = connection.begin_with("BEGIN IMMEDIATE").await?;
        let mut gone = 0;
        for subject in subjects {
            let one = sqlx::query("DELETE FROM requests WHERE subject = ?").bind(&subject.as_bytes()[..]);
            gone += one.execute(&mut *transaction).await?.rows_affected();
        }
        transaction.commit().await?;
        // The WAL has the pages of before.
        sqlx::raw_sql("PRAGMA wal_checkpoint(TRUNCATE)").execute(connection).await?;
        self.requests -= i64::try_from(gone).unwrap_or(0);
        self.count().await
    }

    /// Forgets what is older than a time, and not open.
    pub(super) async fn prune(&mut self, before_us: i64) -> Result<()> {
        let Some(connection) = self.open(false).await? else { return Ok(()) };
        let mut transaction = connection.begin_with("BEGIN IMMEDIATE").await?;
        let old = sqlx::query("DELETE FROM windows WHERE last_day < ?").bind(day_of(before_us));
        old.execute(&mut *transaction).await?;
        let old = sqlx::query(
            "DELETE FROM requests WHERE coalesce(effective_us, requested_us) < ? AND NOT EXISTS
                 (SELECT 1 FROM tasks WHERE tasks.request = requests.id AND tasks.state <> 'done')",
        );
        let gone = old.bind(before_us).execute(&mut *transaction).await?.rows_affected();
        transaction.commit().await?;
        self.requests -= i64::try_from(gone).unwrap_or(0);
        Ok(())
    }

    /// Seals with the live secret what an earlier one sealed, so that that one may go.
    pub(super) async fn reseal(&mut self) -> Result<()> {
        let Some(seal) = self.seal.clone() else { return Ok(()) };
        let Some(connection) = self.open(false).await? else { return Ok(()) };
        let mut after = 0_i64;
        loop {
            let mut transaction = connection.begin_with("BEGIN IMMEDIATE").await?;
            let rows = sqlx::query(
                "SELECT id, subject, who FROM requests WHERE who IS NOT NULL AND id > ? ORDER BY id LIMIT 1024",
            );
            let rows = rows.bind(after).fetch_all(&mut *transaction).await?;
            for row in &rows {
                after = row.try_get(0)?;
                let subject = subject(row, 1)?;
                let opened = seal.open(row.try_get(2)?, &subject).filter(|opened| opened.earlier);
                if let Some(again) = opened.and_then(|opened| seal.close(&opened.plain, &subject)) {
                    let anew =
                        sqlx::query("UPDATE requests SET who = ? WHERE id = ?").bind(again).bind(after);
                    anew.execute(&mut *transaction).await?;
                }
            }
            transaction.commit().await?;
            if rows.is_empty() {
                return Ok(());
            }
        }
    }
}

async fn all_windows(transaction: &mut SqliteTransaction<'_>) -> Result<Vec<Window>> {
    let rows = sqlx::query("SELECT site, vendor, first_day, last_day FROM windows");
    let window = |row: &SqliteRow| -> Result<Window> {
        Ok(Window {
            site: row.try_get(0)?,
            vendor: row.try_get(1)?,
            first: row.try_get(2)?,
            last: row.try_get(3)?,
        })
    };
    rows.fetch_all(&mut **transaction).await?.iter().map(window).collect()
}

/// A message's id: random, and the same on every try.
fn fresh_id() -> Result<String> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).map_err(|e| sqlx::Error::Io(io::Error::other(e)))?;
    Ok(format!("msg_{}", data_encoding::BASE32_NOPAD.encode(&bytes).to_ascii_lowercase()))
}

pub(super) fn subject(row: &SqliteRow, at: usize) -> Result<Subject> {
    let bytes: &[u8] = row.try_get(at)?;
    let bytes = bytes.try_into().map_err(|_| sqlx::Error::Protocol("a subject is no 16 bytes".into()))?;
    Ok(Subject::from_bytes(bytes))
}

fn json(list: &[String]) -> Result<String> {
    serde_json::to_string(list).map_err(|e| sqlx::Error::Encode(Box::new(e)))
}

pub(super) fn list(row: &SqliteRow, at: usize) -> Result<Vec<String>> {
    serde_json::from_str(row.try_get(at)?).map_err(|e| sqlx::Error::Decode(Box::new(e)))
}
