//! The journal of one node: an SQLite file in WAL mode, every commit synced before it returns.
//!
//! `synchronous=FULL` is what makes a commit durable in WAL mode (sqlite.org/pragma: NORMAL syncs at
//! checkpoints only, and a confirmed opt-out could vanish with the power).

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection};
use sqlx::{AssertSqlSafe, ConnectOptions, Connection, Result, Row, Sqlite};

use super::chain::{self, BLINDING, Fields, Head, Link, Version, person};
use super::checkpoint::{self, Checkpoint};
use super::mark::{self, Mark};
use super::noted::{self, Noted};
use super::prepare::{End, prepare};
use super::replay::{Fold, Found, Look, link_of, read_head, read_records};
use super::schema::{configure, meta};
use super::seal::Seal;
use super::signed::{Unsigned, checkpoint_from};
use super::upkeep::{By, Deed};
use super::{BROKEN, broken, explain, primary_code, refuse, wal};
use crate::privacy::Subject;
use crate::store::counts::Line;
use crate::store::merge::Seen;
use crate::store::record::{Change, Receipt, RecordView, said_under};
use crate::store::signing::Signer;
use crate::store::{OpenError, files, reference};

/// Rows of one INSERT, largest first; three statements that stay prepared serve every group size.
const INSERT_ROWS: [usize; 3] = [256, 16, 1];

/// Where `meta` has when a start doubted the wall clock.
const CLOCK_DOUBTED: &str = "clock_doubted";

/// How long another program (a backup) may hold the lock before a commit counts as failed.
const BUSY: Duration = Duration::from_secs(1);

/// Which record is asked for.
#[derive(Debug)]
pub(in crate::store) enum Key {
    /// By its normalised reference.
    Reference(String),
    /// By its sequence number.
    Seq(i64),
}

/// The open journal, with its one connection that writes.
pub(in crate::store) struct Journal {
    path: PathBuf,
    connection: Option<SqliteConnection>,
    inserts: [(usize, Arc<str>); 3],
    node: Arc<str>,
    /// Of the secret that accounts are hashed with now.
    pub(super) key_check: String,
    /// The first record that can be hashed with it.
    pub(super) live_since: i64,
    signer: Signer,
    pub(super) end: End,
    mark: Mark,
    /// An append failed: what is on disk must be looked at before the next one.
    doubtful: bool,
    /// What that look found and nobody has asked for yet.
    found: Vec<Found>,
}

struct Sealed {
    receipt: Receipt,
    canonical: Vec<u8>,
    digest: Link,
    /// What ties it to an account; forgotten when that is erased.
    tie: Option<(Subject, [u8; BLINDING])>,
    /// For anything but an opt-out: what this node had taken in of the others.
    seen: Option<String>,
    head: Head,
}

impl Journal {
    /// Opens or makes the file and hands every whole record to `fold`, in order, its chain verified.
    /// `key_checks` tie the journal to the secrets its subjects were hashed with, the live one first; `signing_key`
    /// is the file of the key that signs it.
    pub(in crate::store) async fn open(
        path: &Path,
        key_checks: &[String],
        signing_key: &Path,
        fold: &mut dyn Fold,
    ) -> Result<Self, OpenError> {
        let marked = mark::read(path)?;
        mark::refuse_absent(path, marked.as_ref())?;
        // What lies beside it, the WAL, gets the same permissions.
        files::make_private(path).map_err(|e| refuse(path, format!("cannot be made: {e}")))?;
        let mut connection =
            connect_options(path).create_if_missing(true).connect().await.map_err(|e| explain(path, &e))?;
        let prepared = match prepare(path, &mut connection, (key_checks, signing_key), marked, fold).await {
            Ok(prepared) => prepared,
            Err(error) => {
                // Closed before anybody hears of it.
                wal::close_untouched(path, connection).await;
                return Err(error);
            }
        };
        Ok(Self {
            path: path.to_owned(),
            connection: Some(connection),
            inserts: INSERT_ROWS.map(|rows| (rows, insert_statement(rows).into())),
            node: prepared.node.into(),
            key_check: key_checks.first().cloned().unwrap_or_default(),
            live_since: prepared.live_since,
            signer: prepared.signer,
            end: prepared.end,
            mark: prepared.mark,
            doubtful: false,
            found: Vec::new(),
        })
    }

    /// Records in the journal, of choices.
    pub(in crate::store) fn len(&self) -> u64 {
        self.end.head.seq.unsigned_abs().saturating_sub(self.end.upkeep)
    }

    /// The last record.
    pub(in crate::store) const fn last(&self) -> i64 {
        self.end.head.seq
    }

    /// The same, as the chain has it.
    pub(in crate::store) const fn head(&self) -> Head {
        self.end.head
    }

    /// The record with a number, as the chain has it.
    pub(in crate::store) async fn head_at(&mut self, seq: i64) -> Result<Option<Head>> {
        if seq == self.end.head.seq {
            return Ok(Some(self.end.head));
        }
        let link = link_of(self.connection()?, seq).await?;
        Ok(link.map(|link| Head { seq, link }))
    }

    /// The name of this node.
    pub(in crate::store) const fn node(&self) -> &Arc<str> {
        &self.node
    }

    /// Writes a group in one transaction. When this returns `Ok`, all of it is synced to disk; when
    /// it returns an error, nothing was acknowledged and the group may be given again.
    ///
    /// `now_us`: microseconds since the Unix epoch, for the references. Each change with what this node had taken in of the
    /// others, kept with anything but opt-outs.
    pub(in crate::store) async fn append<'c>(
        &mut self,
        now_us: i64,
        changes: impl Iterator<Item = (&'c Change, Option<&'c Seen>)> + Clone,
    ) -> Result<Vec<Receipt>> {
        self.settle_doubt().await?;
        let earlier = |change: &&Change| change.kind.is_choice() && said_under(&change.policy).is_some();
        let again: Vec<Subject> =
            changes.clone().map(|(change, _)| change).filter(earlier).filter_map(|c| c.subject).collect();
        let mut sealed = self.seal(now_us, changes)?;
        if let Err(error) = self.write(&mut sealed, &again).await {
            self.doubt(&error).await;
            return Err(error);
        }
        let receipt = |row: Sealed| {
            self.end.head = row.head;
            self.end.unsigned.push(row.receipt.seq, || row.digest);
            row.receipt
        };
        let receipts = sealed.into_iter().map(receipt).collect();
        self.mark.set(&self.end.head);
        Ok(receipts)
    }

    /// Whether records came since the last checkpoint.
    pub(in crate::store) fn has_unsigned(&self) -> bool {
        self.end.head.seq > self.end.unsigned.from()
    }

    /// Signs what came since the last checkpoint, if anything did; durable when this returns.
    ///
    /// `now_us`: microseconds since the Unix epoch.
    pub(in crate::store) async fn checkpoint(&mut self, now_us: i64) -> Result<()> {
        self.settle_doubt().await?;
        if !self.has_unsigned() {
            return Ok(());
        }
        let canonical = Checkpoint {
            node: self.node.to_string(),
            from: self.end.unsigned.from(),
            head: self.end.head,
            root: self.end.unsigned.root(),
            time_us: now_us,
            key: self.signer.public().id(),
        }
        .encode();
        let signature = self.signer.sign(&checkpoint::signed(&canonical))?;
        let written = sqlx::query("INSERT INTO checkpoints VALUES (?, ?, ?)")
            .bind(self.end.head.seq)
            .bind(canonical)
            .bind(signature.to_vec())
            .execute(self.connection()?)
            .await;
        match &written {
            Ok(_) => {
                self.end.unsigned = Unsigned::after(self.end.head.seq);
                self.mark.sync(&self.path);
            }
            Err(error) => self.doubt(error).await,
        }
        written.map(drop)
    }

    /// Begins a transaction that changes more than records that come.
    pub(super) async fn begin(&mut self) -> Result<()> {
        sqlx::query("BEGIN IMMEDIATE").execute(self.connection()?).await.map(drop)
    }

    /// Writes the record of what is done in this transaction.
    pub(super) async fn note(&mut self, by: By, deed: &Deed, seal: &Seal) -> Result<Noted> {
        let (node, head) = (Arc::clone(&self.node), self.end.head);
        noted::note(self.connection()?, &node, &head, (by, deed, seal)).await
    }

    /// Commits it, with that record if there is one.
    pub(super) async fn commit(&mut self, noted: Option<Noted>) -> Result<()> {
        sqlx::query("COMMIT").execute(self.connection()?).await?;
        self.end.take(noted);
        self.mark.set(&self.end.head);
        Ok(())
    }

    /// Writes something small, to learn whether writing works again.
    pub(in crate::store) async fn probe(&mut self) -> Result<()> {
        self.settle_doubt().await?;
        let probed = sqlx::query("INSERT OR REPLACE INTO meta VALUES ('probe', hex(randomblob(8)))")
            .execute(self.connection()?)
            .await;
        if let Err(error) = &probed {
            self.doubt(error).await;
        }
        probed.map(drop)
    }

    /// When a start last doubted the wall clock, by that clock: microseconds since the Unix epoch.
    pub(in crate::store) async fn clock_doubted_us(&mut self) -> Result<Option<i64>> {
        let written = meta(self.connection()?, CLOCK_DOUBTED).await?;
        Ok(written.and_then(|written| written.parse().ok()))
    }

    /// Writes that down.
    pub(in crate::store) async fn doubt_clock(&mut self, now_us: i64) -> Result<()> {
        self.settle_doubt().await?;
        let written = sqlx::query("INSERT OR REPLACE INTO meta VALUES (?, ?)")
            .bind(CLOCK_DOUBTED)
            .bind(now_us.to_string())
            .execute(self.connection()?)
            .await;
        if let Err(error) = &written {
            self.doubt(error).await;
        }
        written.map(drop)
    }

    /// One record, if it is there and whole.
    pub(in crate::store) async fn read(&mut self, key: &Key) -> Result<Option<RecordView>> {
        let query = match key {
            Key::Reference(r) => {
                sqlx::query("SELECT canonical FROM journal WHERE reference = ?").bind(r.as_str())
            }
            Key::Seq(seq) => sqlx::query("SELECT canonical FROM journal WHERE seq = ?").bind(*seq),
        };
        let Some(row) = query.fetch_optional(self.connection()?).await? else { return Ok(None) };
        let Some(canonical) = row.try_get::<Option<&[u8]>, _>(0)? else { return Ok(None) };
        let view = Fields::decode(canonical).map(|fields| fields.view());
        let matches = view.as_ref().is_some_and(|view| match key {
            Key::Reference(r) => view.reference == *r,
            Key::Seq(seq) => view.seq == *seq,
        });
        if matches { Ok(view) } else { Err(sqlx::Error::Protocol(format!("the record {BROKEN}"))) }
    }

    /// One record, if it is there and whole, held against the chain and the checkpoint that signed it; whether
    /// one did.
    pub(in crate::store) async fn check(&mut self, reference: &str) -> Result<Option<(RecordView, bool)>> {
        let row = sqlx::query(
            "SELECT it.seq, it.canonical, it.chain, before.chain
             FROM journal AS it LEFT JOIN journal AS before ON before.seq = it.seq - 1
             WHERE it.reference = ? AND it.canonical IS NOT NULL",
        )
        .bind(reference)
        .fetch_optional(self.connection()?)
        .await?;
        let Some(row) = row else { return Ok(None) };
        let (seq, canonical): (i64, &[u8]) = (row.try_get(0)?, row.try_get(1)?);
        let link: &[u8] = row.try_get(2)?;
        let before = row.try_get::<Option<&[u8]>, _>(3)?.map_or(Ok(Link::default()), Link::try_from);
        let before = Head { seq: seq - 1, link: before.map_err(|_| broken())? };
        let fields = Fields::decode(canonical).ok_or_else(broken)?;
        if fields.seq != seq || fields.reference != reference || before.next(canonical).link != link {
            return Err(broken());
        }
        let view = fields.view();
        let Some(checkpoint) = checkpoint_from(self.connection()?, seq).await? else {
            return Ok(Some((view, false)));
        };
        let signed: Option<Vec<u8>> = sqlx::query_scalar("SELECT chain FROM journal WHERE seq = ?")
            .bind(checkpoint.head.seq)
            .fetch_optional(self.connection()?)
            .await?;
        let fits = signed.is_some_and(|link| link == checkpoint.head.link);
        fits.then_some(Some((view, true))).ok_or_else(broken)
    }

    /// Adds to the counts, and drops those of before a minute.
    pub(in crate::store) async fn count(&mut self, lines: &[(Line, u64)], before: i64) -> Result<()> {
        self.settle_doubt().await?;
        let done = self.write_counts(lines, before).await;
        if let Err(error) = &done {
            self.doubt(error).await;
        }
        done
    }

    async fn write_counts(&mut self, lines: &[(Line, u64)], before: i64) -> Result<()> {
        let connection = self.connection()?;
        sqlx::query("BEGIN IMMEDIATE").execute(&mut *connection).await?;
        sqlx::query("DELETE FROM counts WHERE minute < ?").bind(before).execute(&mut *connection).await?;
        for (line, count) in lines {
            sqlx::query(
                "INSERT INTO counts VALUES (?, ?, ?, ?, ?, ?, ?)
                 ON CONFLICT DO UPDATE SET count = count + excluded.count",
            )
            .bind(line.minute)
            .bind(line.site.as_str())
            .bind(line.signal)
            .bind(line.basis)
            .bind(line.policy.as_str())
            .bind(line.became.word())
            .bind(i64::try_from(*count).unwrap_or(i64::MAX))
            .execute(&mut *connection)
            .await?;
        }
        sqlx::query("COMMIT").execute(connection).await.map(drop)
    }

    /// Moves the WAL into the file and closes it.
    pub(in crate::store) async fn close(mut self) -> Result<()> {
        let Some(mut connection) = self.connection.take() else { return Ok(()) };
        sqlx::query("PRAGMA wal_checkpoint(TRUNCATE)").execute(&mut connection).await?;
        connection.close().await
    }

    pub(super) fn connection(&mut self) -> Result<&mut SqliteConnection> {
        self.connection.as_mut().ok_or_else(not_open)
    }

    /// Gives every change its sequence number, reference, bytes and chain value. References are new
    /// on every try: a group whose commit was left in doubt must not collide with itself.
    fn seal<'c>(
        &self,
        now_us: i64,
        changes: impl Iterator<Item = (&'c Change, Option<&'c Seen>)> + Clone,
    ) -> Result<Vec<Sealed>> {
        let mut random = vec![[0; reference::RANDOM + BLINDING]; changes.clone().count()];
        getrandom::fill(random.as_flattened_mut()).map_err(|e| sqlx::Error::Io(std::io::Error::other(e)))?;
        let mut head = self.end.head;
        let seal =
            |((change, seen), random): ((&Change, Option<&Seen>), &[u8; reference::RANDOM + BLINDING])| {
                let [a, b, c, d, e, f, g, blinding @ ..] = *random;
                let reference = reference::make(now_us, [a, b, c, d, e, f, g]);
                let tie = change.subject.map(|subject| (subject, blinding));
                let seen = seen.filter(|_| change.kind.is_weighed()).map(Seen::to_text);
                let seq = head.seq + 1;
                let bytes = Fields {
                    version: Version::Second,
                    seq,
                    node: &self.node,
                    time_us: change.time_us,
                    site: &change.site,
                    kind: change.kind.as_str(),
                    signal: change.source.as_str(),
                    basis: change.basis(),
                    policy: &change.policy,
                    person: tie.map(|(subject, blinding)| person(&subject, &blinding)),
                    reference: &reference,
                }
                .encode();
                let digest = chain::digest(&bytes);
                head = head.next_digest(&digest);
                let receipt = Receipt { reference, seq, time_us: change.time_us };
                Sealed { receipt, canonical: bytes, digest, tie, seen, head }
            };
        Ok(changes.zip(&random).map(seal).collect())
    }

    /// `again`: accounts that are not hashed under the live secret. Whatever was recorded of them under it before, this was not.
    async fn write(&mut self, sealed: &mut [Sealed], again: &[Subject]) -> Result<()> {
        let connection = self.connection.as_mut().ok_or_else(not_open)?;
        // Plain statements, not sqlx's transaction: a full disk makes SQLite roll back on its own, and the
        // depth that sqlx keeps would then refuse the next BEGIN.
        sqlx::query("BEGIN IMMEDIATE").execute(&mut *connection).await?;
        let mut rest = sealed;
        while let Some((rows, statement)) = self.inserts.iter().find(|(rows, _)| *rows <= rest.len()) {
            let (now, later) = rest.split_at_mut(*rows);
            let mut query = sqlx::query::<Sqlite>(AssertSqlSafe(Arc::clone(statement)));
            for row in now {
                let (subject, blinding) = row.tie.unzip();
                query = query
                    .bind(row.receipt.seq)
                    .bind(row.receipt.time_us)
                    .bind(row.receipt.reference.as_str())
                    .bind(subject.map(|s| s.as_bytes().to_vec()))
                    .bind(blinding.map(|b| b.to_vec()))
                    .bind(std::mem::take(&mut row.canonical))
                    .bind(row.head.link.as_slice())
                    .bind(std::mem::take(&mut row.seen));
            }
            query.execute(&mut *connection).await?;
            rest = later;
        }
        for subject in again {
            sqlx::query("DELETE FROM carried WHERE subject = ?")
                .bind(subject.as_bytes().to_vec())
                .execute(&mut *connection)
                .await?;
        }
        sqlx::query("COMMIT").execute(connection).await.map(drop)
    }

    /// After a failed write. A full or locked file stays open, so that it can still be read; after
    /// anything else, an I/O error above all, pages in memory are not trusted and the file is opened
    /// anew. Nothing rests on a sync that failed: closing moves commits that were synced into the file;
    /// where that fails too, [`wal::write_again`] writes anew what is found.
    pub(super) async fn doubt(&mut self, error: &sqlx::Error) {
        self.doubtful = true;
        if let Some(connection) = self.connection.as_mut() {
            // Fails where SQLite has rolled back already, which is as good.
            let _ = sqlx::query("ROLLBACK").execute(connection).await;
        }
        if !matches!(primary_code(error), Some(5 | 6 | 13))
            && let Some(connection) = self.connection.take()
        {
            // Its error would be the one already being handled.
            let _ = connection.close().await;
            self.connection = reopen(&self.path).await.ok();
        }
    }

    /// Reads on from the head that is known: a commit that reported an error may still have reached the disk.
    pub(super) async fn settle_doubt(&mut self) -> Result<()> {
        if !self.doubtful {
            return Ok(());
        }
        if self.connection.is_none() {
            self.connection = Some(reopen(&self.path).await?);
        }
        let connection = self.connection.as_mut().ok_or_else(not_open)?;
        let end = read_head(connection).await?;
        if end.seq < self.end.head.seq || (end.seq == self.end.head.seq && end.link != self.end.head.link) {
            let why = format!("record {} was written and is not there any more", self.end.head.seq);
            return Err(sqlx::Error::Protocol(why));
        }
        let (mut found, uncounted) = (Vec::<Found>::new(), (&Head::default(), &mut Unsigned::default()));
        let into = (&mut Look::default(), &mut found as &mut dyn Fold);
        let read = read_records(&self.path, connection, self.end.head, uncounted, into).await;
        self.end.head = read.map_err(|e| sqlx::Error::Protocol(e.to_string()))?;
        self.end.upkeep += found.iter().filter(|found| found.upkeep).count() as u64;
        self.found.append(&mut found);
        self.end.unsigned.catch_up(connection).await?;
        self.doubtful = false;
        Ok(())
    }

    /// What was found since this was last asked, in order.
    pub(in crate::store) fn take_found(&mut self) -> Vec<Found> {
        std::mem::take(&mut self.found)
    }
}

/// Options all connections share; `create_if_missing` is off.
pub(in crate::store) fn connect_options(path: &Path) -> SqliteConnectOptions {
    SqliteConnectOptions::new()
        .filename(path)
        .busy_timeout(BUSY)
        .row_buffer_size(1024)
        .disable_statement_logging()
}

fn not_open() -> sqlx::Error {
    sqlx::Error::Io(std::io::Error::other("the file was closed after an error and could not be opened again"))
}

async fn reopen(path: &Path) -> Result<SqliteConnection> {
    let mut connection = connect_options(path).connect().await?;
    let opened = async {
        wal::write_again(path, &mut connection).await?;
        configure(&mut connection).await?;
        // The first look makes the WAL, and SQLite does not see whether its name came to be on the disk.
        read_head(&mut connection).await?;
        files::sync_folder_of(path).map_err(sqlx::Error::Io)
    }
    .await;
    match opened {
        Ok(()) => Ok(connection),
        Err(error) => {
            // Merely dropped, it would close later, under the feet of the next one to be opened.
            wal::close_untouched(path, connection).await;
            Err(error)
        }
    }
}

fn insert_statement(rows: usize) -> String {
    let values = ["(?,?,?,?,?,?,?,?)"].repeat(rows).join(",");
    format!(
        "INSERT INTO journal (seq, time_us, reference, subject, blinding, canonical, chain, seen) VALUES {values}"
    )
}
