//! The journal of one node: an SQLite file in WAL mode, every commit synced before it returns.
//!
//! `synchronous=FULL` is what makes a commit durable in WAL mode (sqlite.org/pragma: NORMAL syncs at
//! checkpoints only, and a confirmed opt-out could vanish with the power).

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use data_encoding::HEXUPPER;
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection};
use sqlx::{AssertSqlSafe, ConnectOptions, Connection, Row, Sqlite};

use super::chain::{Account, BLINDING, Fields, Head, Link, Version, person};
use super::schema::{configure, meta, migrate, refuse_damage, refuse_strangers};
use super::{BROKEN, explain, primary_code, refuse};
use crate::privacy::{Standing, Subject};
use crate::store::merge::Seen;
use crate::store::record::{Change, Kind, Receipt, RecordView};
use crate::store::{OpenError, files, reference};

type Result<T, E = sqlx::Error> = std::result::Result<T, E>;

/// Rows of one INSERT, largest first; three statements that stay prepared serve every group size.
const INSERT_ROWS: [usize; 3] = [256, 16, 1];

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
    head: Head,
    /// An append failed: what is on disk must be looked at before the next one.
    doubtful: bool,
}

struct Sealed {
    receipt: Receipt,
    canonical: Vec<u8>,
    /// What ties it to an account; forgotten when that is erased.
    tie: Option<(Subject, [u8; BLINDING])>,
    /// For anything but an opt-out: what this node had taken in of the others.
    seen: Option<String>,
    head: Head,
}

/// What a start makes of a journal.
pub(in crate::store) trait Fold: Send {
    /// A record, in order. `account` is whose it is.
    fn record(&mut self, fields: &Fields<'_>, account: Account);

    /// After all records: an account whose records up to `seq` are pruned or erased, and how it stood then.
    fn suppressed(&mut self, subject: Subject, standing: Standing, seq: i64);
}

impl Journal {
    /// Opens or makes the file and hands every whole record to `fold`, in order, its chain verified.
    /// `key_check` ties the journal to the secret its subjects were hashed with.
    pub(in crate::store) async fn open(
        path: &Path,
        key_check: &str,
        fold: &mut dyn Fold,
    ) -> Result<Self, OpenError> {
        let mut connection =
            connect_options(path).create_if_missing(true).connect().await.map_err(|e| explain(path, &e))?;
        let (node, head) = match prepare(path, &mut connection, key_check, fold).await {
            Ok(prepared) => prepared,
            Err(error) => {
                // Closed before anybody hears of it; its own error would say less.
                let _ = connection.close().await;
                return Err(error);
            }
        };
        Ok(Self {
            path: path.to_owned(),
            connection: Some(connection),
            inserts: INSERT_ROWS.map(|rows| (rows, insert_statement(rows).into())),
            node: node.into(),
            head,
            doubtful: false,
        })
    }

    /// Records in the journal.
    pub(in crate::store) fn len(&self) -> u64 {
        self.head.seq.unsigned_abs()
    }

    /// The last record.
    pub(in crate::store) const fn last(&self) -> i64 {
        self.head.seq
    }

    /// The name of this node.
    pub(in crate::store) const fn node(&self) -> &Arc<str> {
        &self.node
    }

    /// Writes a group in one transaction. When this returns `Ok`, all of it is synced to disk; when
    /// it returns an error, nothing was acknowledged and the group may be given again.
    ///
    /// `now_us`: microseconds since the Unix epoch, for the references. `seen`: what this node had taken in of the
    /// others, kept with anything but opt-outs.
    pub(in crate::store) async fn append<'c>(
        &mut self,
        now_us: i64,
        changes: impl Iterator<Item = &'c Change> + Clone,
        seen: Option<&Seen>,
    ) -> Result<Vec<Receipt>> {
        self.settle_doubt().await?;
        let sealed = self.seal(now_us, changes, seen)?;
        let head = sealed.last().map_or(self.head, |last| last.head);
        let written = self.write(sealed).await;
        match &written {
            Ok(_) => self.head = head,
            Err(error) => self.doubt(error).await,
        }
        written
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

    /// Moves the WAL into the file and closes it.
    pub(in crate::store) async fn close(mut self) -> Result<()> {
        let Some(mut connection) = self.connection.take() else { return Ok(()) };
        sqlx::query("PRAGMA wal_checkpoint(TRUNCATE)").execute(&mut connection).await?;
        connection.close().await
    }

    fn connection(&mut self) -> Result<&mut SqliteConnection> {
        self.connection.as_mut().ok_or_else(not_open)
    }

    /// Gives every change its sequence number, reference, bytes and chain value. References are new
    /// on every try: a group whose commit was left in doubt must not collide with itself.
    fn seal<'c>(
        &self,
        now_us: i64,
        changes: impl Iterator<Item = &'c Change> + Clone,
        seen: Option<&Seen>,
    ) -> Result<Vec<Sealed>> {
        let mut random = vec![[0; reference::RANDOM + BLINDING]; changes.clone().count()];
        getrandom::fill(random.as_flattened_mut()).map_err(|e| sqlx::Error::Io(std::io::Error::other(e)))?;
        let mut head = self.head;
        let seal = |(change, random): (&Change, &[u8; reference::RANDOM + BLINDING])| {
            let [a, b, c, d, e, f, g, blinding @ ..] = *random;
            let reference = reference::make(now_us, [a, b, c, d, e, f, g]);
            let tie = change.subject.map(|subject| (subject, blinding));
            let seen = seen.filter(|_| change.kind != Kind::OptOut).map(Seen::to_text);
            let seq = head.seq + 1;
            let canonical = Fields {
                version: Version::Second,
                seq,
                node: &self.node,
                time_us: change.time_us,
                site: &change.site,
                kind: change.kind.as_str(),
                signal: change.source.as_str(),
                basis: change.basis.map_or("", |b| b.as_str()),
                policy: &change.policy,
                person: tie.map(|(subject, blinding)| person(&subject, &blinding)),
                reference: &reference,
            }
            .encode();
            head = head.next(&canonical);
            Sealed {
                receipt: Receipt { reference, seq, time_us: change.time_us },
                canonical,
                tie,
                seen,
                head,
            }
        };
        Ok(changes.zip(&random).map(seal).collect())
    }

    async fn write(&mut self, mut sealed: Vec<Sealed>) -> Result<Vec<Receipt>> {
        let connection = self.connection.as_mut().ok_or_else(not_open)?;
        // Plain statements, not sqlx's transaction: a full disk makes SQLite roll back on its own, and the
        // depth that sqlx keeps would then refuse the next BEGIN.
        sqlx::query("BEGIN IMMEDIATE").execute(&mut *connection).await?;
        let mut rest = sealed.as_mut_slice();
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
        sqlx::query("COMMIT").execute(connection).await?;
        Ok(sealed.into_iter().map(|row| row.receipt).collect())
    }

    /// After a failed write. A full or locked file stays open, so that it can still be read; after
    /// anything else, an I/O error above all, pages in memory are not trusted and the file is opened
    /// anew.
    async fn doubt(&mut self, error: &sqlx::Error) {
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

    /// Reads the head again: a commit that reported an error may still have reached the disk.
    async fn settle_doubt(&mut self) -> Result<()> {
        if self.doubtful {
            if self.connection.is_none() {
                self.connection = Some(reopen(&self.path).await?);
            }
            self.head = read_head(self.connection()?).await?;
            self.doubtful = false;
        }
        Ok(())
    }
}

/// Checks, migrates and reads a journal just opened; returns its node and head.
async fn prepare(
    path: &Path,
    connection: &mut SqliteConnection,
    key_check: &str,
    fold: &mut dyn Fold,
) -> Result<(String, Head), OpenError> {
    let named = |e: sqlx::Error| explain(path, &e);
    refuse_damage(path, connection).await?;
    refuse_strangers(path, connection).await?;
    let node = migrate(connection, key_check).await.map_err(named)?;
    configure(connection).await.map_err(named)?;
    files::sync_folder_of(path).map_err(|e| refuse(path, format!("its folder cannot be synced: {e}")))?;
    if meta(connection, "key_check").await.map_err(named)?.as_deref() != Some(key_check) {
        return Err(refuse(
            path,
            "was written with another secret.key, so its account opt-outs would match nobody; restore the \
             secret.key that belongs to it",
        ));
    }
    let head = read_records(path, connection, fold).await?;
    read_suppressions(connection, fold).await.map_err(named)?;
    Ok((node, head))
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
    match configure(&mut connection).await {
        Ok(()) => Ok(connection),
        Err(error) => {
            // Merely dropped, it would close later, under the feet of the next one to be opened.
            let _ = connection.close().await;
            Err(error)
        }
    }
}

async fn read_head(connection: &mut SqliteConnection) -> Result<Head> {
    let row = sqlx::query("SELECT seq, chain FROM journal ORDER BY seq DESC LIMIT 1")
        .fetch_optional(connection)
        .await?;
    let Some(row) = row else { return Ok(Head::default()) };
    let link = row.try_get::<&[u8], _>(1)?.try_into();
    Ok(Head { seq: row.try_get(0)?, link: link.map_err(|_| sqlx::Error::Protocol(BROKEN.into()))? })
}

/// Reads all records in order, verifies the chain, returns its head.
///
/// One row a record would pass two threads' queue and half a dozen allocations each; so SQLite packs
/// a page of records into one text, in hexadecimal because only text is joined by its rules.
async fn read_records(
    path: &Path,
    connection: &mut SqliteConnection,
    fold: &mut dyn Fold,
) -> Result<Head, OpenError> {
    let mut head = Head::default();
    let mut bytes = Vec::new();
    loop {
        let page: Option<String> = sqlx::query(
            "SELECT group_concat(
                CASE WHEN canonical IS NULL THEN 'P' WHEN blinding IS NOT NULL THEN 'B'
                     WHEN subject IS NOT NULL THEN 'S' ELSE 'N' END
                || hex(chain) || hex(subject) || hex(blinding) || hex(coalesce(canonical, digest))) FROM
             (SELECT chain, subject, blinding, canonical, digest FROM journal
              WHERE seq > ? ORDER BY seq LIMIT 1024)",
        )
        .bind(head.seq)
        .fetch_one(&mut *connection)
        .await
        .and_then(|row| row.try_get(0))
        .map_err(|e| explain(path, &e))?;
        let Some(page) = page else { return Ok(head) };
        for record in page.split(',') {
            head = follow(&head, record, &mut bytes, fold)
                .ok_or_else(|| refuse(path, format!("record {} {BROKEN}", head.seq + 1)))?;
        }
    }
}

/// The head after a record as [`read_records`] packs it; `None` when it does not follow. `bytes` is room to
/// work in.
fn follow(head: &Head, record: &str, bytes: &mut Vec<u8>, fold: &mut dyn Fold) -> Option<Head> {
    let (shape, digits) = record.split_at_checked(1)?;
    bytes.resize(HEXUPPER.decode_len(digits.len()).ok()?, 0);
    HEXUPPER.decode_mut(digits.as_bytes(), bytes).ok()?;
    let (link, rest) = bytes.split_first_chunk::<32>()?;
    let (subject, blinding, canonical) = match shape {
        "P" => {
            let next = head.next_digest(<&Link>::try_from(rest).ok()?);
            return (*link == next.link).then_some(next);
        }
        "B" => {
            let (subject, rest) = rest.split_at_checked(16)?;
            let (blinding, canonical) = rest.split_at_checked(BLINDING)?;
            (Some(subject), Some(blinding), canonical)
        }
        "S" => {
            let (subject, canonical) = rest.split_at_checked(16)?;
            (Some(subject), None, canonical)
        }
        _ => (None, None, rest),
    };
    let next = head.next(canonical);
    let fields = Fields::decode(canonical)?;
    let account = fields.account(subject, blinding)?;
    (fields.seq == next.seq && *link == next.link).then(|| {
        fold.record(&fields, account);
        next
    })
}

async fn read_suppressions(connection: &mut SqliteConnection, fold: &mut dyn Fold) -> Result<()> {
    let rows =
        sqlx::query("SELECT subject, standing, seq FROM suppression").fetch_all(&mut *connection).await?;
    for row in rows {
        let unreadable = || sqlx::Error::Protocol("a suppression entry cannot be read".into());
        let subject = row.try_get::<&[u8], _>(0)?.try_into().map_err(|_| unreadable())?;
        let standing = match row.try_get(1)? {
            "opted-out" => Standing::OptedOut,
            "opted-out-by-import" => Standing::OptedOutByImport,
            _ => return Err(unreadable()),
        };
        fold.suppressed(Subject::from_bytes(subject), standing, row.try_get(2)?);
    }
    Ok(())
}

fn insert_statement(rows: usize) -> String {
    let values = ["(?,?,?,?,?,?,?,?)"].repeat(rows).join(",");
    format!(
        "INSERT INTO journal (seq, time_us, reference, subject, blinding, canonical, chain, seen) VALUES {values}"
    )
}
