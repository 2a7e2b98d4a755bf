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
use sqlx::{Connection as _, Result, Row as _, SqliteTransaction};

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

/// The file with its one connection that writes.
pub(super) struct Table {
    path: PathBuf,
    connection: Option<SqliteConnection>,
    /// Requests in it, and how many it takes.
    requests: i64,
    most: i64,
    pub(super) seal: Option<Arc<Seal>>,
    pub(super) figures: Arc<Figures>,
}

impl Table {
    pub(super) fn new(path: PathBuf, seal: Option<Seal>, figures: Arc<Figures>) -> Self {
        Self { path, connection: None, requests: 0, most: MOST_REQUESTS, seal: seal.map(Arc::new), figures }
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
        let mut room = self.most - self.requests;
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
        let mut gone = 0;
        for Recorded { subject, reference, effective_us } in records {
            let subject = &subject.as_bytes()[..];
            let done = sqlx::query(
                "UPDATE OR IGNORE requests SET reference = ?2, effective_us = max(requested_us, ?3)
                 WHERE subject = ?1 AND reference IS NULL",
            );
            done.bind(subject).bind(reference).bind(effective_us).execute(&mut *transaction).await?;
            // One that asked for the same record a second time.
            let twice = sqlx::query("DELETE FROM requests WHERE subject = ? AND reference IS NULL");
            gone += twice.bind(subject).execute(&mut *transaction).await?.rows_affected();
        }
        transaction.commit().await?;
        self.requests -= i64::try_from(gone).unwrap_or(0);
        Ok(())
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

#[cfg(test)]
pub(super) mod tests {
    use std::collections::HashMap;
    use std::path::Path;
    use std::time::Duration;

    use super::*;
    use crate::config::{Recipient, Way, Webhook};
    use crate::privacy::Keys;
    use crate::store::recipients::{AccountKey, Settled};

    pub const DAY_US: i64 = 86_400 * 1_000_000;

    pub fn block_on<T>(work: impl Future<Output = T>) -> T {
        tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(work)
    }

    pub fn table(dir: &Path) -> Table {
        let path = dir.join(crate::store::recipients::FILE);
        Table::new(path, Seal::of(&Keys::derive(b"s")), Arc::default())
    }

    fn account(number: u8) -> Subject {
        Subject::from_bytes([number; 16])
    }

    /// An account asks on a day.
    fn request(number: u8, day: i64) -> Request {
        let who = Some(AccountKey::from(&b"ann"[..]));
        Request { subject: account(number), site: "shop".into(), requested_us: day * DAY_US, who }
    }

    fn record(number: u8, reference: &str, day: i64) -> Recorded {
        let reference = reference.into();
        Recorded { subject: account(number), reference, effective_us: day * DAY_US }
    }

    /// Whoever opts out is told to one recipient, by this way.
    fn planner(way: Way) -> Planner {
        let recipient = Recipient {
            name: "Ads".into(),
            sites: Vec::new(),
            vendors: Vec::new(),
            always: true,
            from: None,
            until: None,
            delay: Duration::ZERO,
            way,
        };
        Planner { recipients: vec![Arc::new(recipient)], together: HashMap::new() }
    }

    /// An opt-out of one account that took effect on a day, and a message about it.
    pub async fn opt_out(table: &mut Table, number: u8, day: i64) {
        table.requested(&[request(number, day)]).await.unwrap();
        table.recorded(&[record(number, &format!("R{number}"), day)]).await.unwrap();
        let webhook = Webhook { url: "https://ads.example/".parse().unwrap(), roots: None };
        table.plan(&planner(Way::Webhook(webhook)), day * DAY_US).await.unwrap();
    }

    async fn kept(table: &mut Table) -> Vec<u8> {
        let rows = sqlx::query("SELECT subject FROM requests ORDER BY subject");
        let rows = rows.fetch_all(table.made().await.unwrap()).await.unwrap();
        rows.iter().map(|row| subject(row, 0).unwrap().as_bytes()[0]).collect()
    }

    async fn windows(table: &mut Table) -> Vec<(i64, i64)> {
        let rows = sqlx::query("SELECT first_day, last_day FROM windows ORDER BY first_day");
        let rows = rows.fetch_all(table.made().await.unwrap()).await.unwrap();
        rows.iter().map(|row| (row.get(0), row.get(1))).collect()
    }

    /// 11 CCR 7101: what is older than records are kept goes with them. Somebody who is still to be told is not over,
    /// however old.
    #[test]
    fn pruning_takes_what_is_over_and_leaves_whoever_is_to_be_told() {
        let dir = tempfile::tempdir().unwrap();
        let mut table = table(dir.path());
        block_on(async {
            let pixel = [Sighting { site: "shop".into(), vendor: "pixel".into() }];
            for day in [100, 105, 149, 200] {
                table.seen(day, &pixel).await.unwrap();
            }
            assert_eq!(windows(&mut table).await, [(100, 105), (149, 149), (200, 200)]);
            // 1 is told, 2 refused it, 3 is being told, 4 is told and not old; 5 has no record, 6 has one since.
            for (number, day) in [(1, 100), (2, 100), (3, 100), (4, 150)] {
                opt_out(&mut table, number, day).await;
            }
            for due in table.due(("Ads", "webhook"), 150 * DAY_US, 9).await.unwrap() {
                let told = Settled::Told("r".into());
                let refused = Settled::Failed(super::super::Failed { why: "410".into(), next_us: None });
                match due.reference.as_str() {
                    "R1" | "R4" => table.tried(&due.id, 150 * DAY_US, &told).await.unwrap(),
                    "R2" => table.tried(&due.id, 150 * DAY_US, &refused).await.unwrap(),
                    _ => {}
                }
            }
            table.requested(&[request(5, 149), request(6, 149)]).await.unwrap();
            table.recorded(&[record(6, "R6", 150)]).await.unwrap();
            table.prune(150 * DAY_US).await.unwrap();
            assert_eq!(kept(&mut table).await, [2, 3, 4, 6]);
            assert_eq!(windows(&mut table).await, [(200, 200)]);
            assert_eq!(table.requests, 4, "there is room again");
            table.prune(149 * DAY_US).await.unwrap();
            assert_eq!(kept(&mut table).await, [2, 3, 4, 6]);
            table.close().await;
        });
    }

    /// A window's last day is not over before its end.
    #[test]
    fn a_window_lasts_until_its_last_day_is_over() {
        let dir = tempfile::tempdir().unwrap();
        let mut table = table(dir.path());
        block_on(async {
            table.seen(100, &[Sighting { site: "shop".into(), vendor: "pixel".into() }]).await.unwrap();
            table.prune(101 * DAY_US - 1).await.unwrap();
            assert_eq!(windows(&mut table).await, [(100, 100)]);
            table.prune(101 * DAY_US).await.unwrap();
            assert_eq!(windows(&mut table).await, []);
            table.close().await;
        });
    }

    /// A disk must not fill because of somebody who opts out without end. What finds no room is counted, what has some
    /// already is not touched, and whatever goes makes room.
    #[test]
    fn a_full_file_takes_no_more_and_says_so_until_something_goes() {
        let dir = tempfile::tempdir().unwrap();
        let mut table = table(dir.path());
        table.most = 3;
        let lost = |table: &Table| table.figures.lost.load(Ordering::Relaxed);
        block_on(async {
            table.requested(&[request(1, 10), request(2, 10), request(3, 10), request(4, 10)]).await.unwrap();
            assert_eq!((kept(&mut table).await, lost(&table)), (vec![1, 2, 3], 1));
            // It has its place: only its time changes.
            table.requested(&[request(1, 9)]).await.unwrap();
            assert_eq!(lost(&table), 1);
            assert_eq!(table.pending().await.unwrap().last().unwrap().requested_us, 9 * DAY_US);
            // What opened anew counts what is there.
            table.close().await;
            table.requested(&[request(4, 10)]).await.unwrap();
            assert_eq!((kept(&mut table).await, lost(&table)), (vec![1, 2, 3], 2));
            // Gone, in each of the ways: erased, told to nobody, asked for a second time, pruned.
            table.erase(&[account(1)]).await.unwrap();
            table.requested(&[request(4, 10)]).await.unwrap();
            table.recorded(&[record(2, "R2", 10)]).await.unwrap();
            table.plan(&Planner { recipients: Vec::new(), together: HashMap::new() }, 0).await.unwrap();
            table.requested(&[request(5, 10)]).await.unwrap();
            assert_eq!((kept(&mut table).await, lost(&table)), (vec![3, 4, 5], 2));
            table.recorded(&[record(3, "R3", 11)]).await.unwrap();
            table.erase(&[account(5)]).await.unwrap();
            table.requested(&[request(3, 12)]).await.unwrap();
            table.recorded(&[record(3, "R3", 12)]).await.unwrap();
            assert_eq!(kept(&mut table).await, [3, 4]);
            table.requested(&[request(6, 10)]).await.unwrap();
            assert_eq!((kept(&mut table).await, lost(&table)), (vec![3, 4, 6], 2));
            table.prune(11 * DAY_US).await.unwrap();
            table.requested(&[request(7, 11), request(8, 11), request(9, 11)]).await.unwrap();
            assert_eq!((kept(&mut table).await, lost(&table)), (vec![3, 7, 8], 3));
            table.close().await;
        });
    }
}
