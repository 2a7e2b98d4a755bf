//! The journal of one node: an SQLite file in WAL mode, every commit synced before it returns.
//!
//! `synchronous=FULL` is what makes a commit durable in WAL mode (sqlite.org/pragma: NORMAL syncs at
//! checkpoints only, and a confirmed opt-out could vanish with the power).

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use futures_util::TryStreamExt;
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection, SqliteRow};
use sqlx::{AssertSqlSafe, ConnectOptions, Connection, Row, Sqlite};

use super::chain::{Fields, Head};
use super::{BROKEN, explain, primary_code, refuse};
use crate::store::record::{Change, Receipt, RecordView};
use crate::store::{OpenError, keys, reference};

type Result<T, E = sqlx::Error> = std::result::Result<T, E>;

/// `OPTG`: marks the file as ours (sqlite.org/pragma, application_id).
const APPLICATION_ID: i64 = 0x4f50_5447;

/// Forward only; a step is never changed once released, only followed by another.
const MIGRATIONS: &[&str] = &["
    CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT, WITHOUT ROWID;
    CREATE TABLE journal (
        seq INTEGER PRIMARY KEY,
        node TEXT NOT NULL,
        time_us INTEGER NOT NULL,
        site TEXT NOT NULL,
        kind TEXT NOT NULL,
        signal TEXT NOT NULL,
        basis TEXT NOT NULL,
        policy TEXT NOT NULL,
        subject BLOB,
        reference TEXT NOT NULL UNIQUE,
        canonical BLOB NOT NULL,
        chain BLOB NOT NULL
    ) STRICT;
    CREATE TRIGGER journal_keeps_its_rows BEFORE DELETE ON journal
        BEGIN SELECT RAISE(ABORT, 'the journal is append-only'); END;
    CREATE TRIGGER journal_never_changes BEFORE UPDATE ON journal
        BEGIN SELECT RAISE(ABORT, 'the journal is append-only'); END;
    "];

/// Rows of one INSERT, largest first; three statements that stay prepared serve every group size.
const INSERT_ROWS: [usize; 3] = [128, 16, 1];

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
    head: Head,
}

impl Journal {
    /// Opens or makes the file and hands every record to `each`, in order, its chain verified.
    /// `key_check` ties the journal to the secret its subjects were hashed with.
    pub(in crate::store) async fn open(
        path: &Path,
        key_check: &str,
        each: &mut (dyn FnMut(&Fields<'_>) + Send),
    ) -> Result<Self, OpenError> {
        let mut connection =
            connect_options(path).create_if_missing(true).connect().await.map_err(|e| explain(path, &e))?;
        let (node, head) = match prepare(path, &mut connection, key_check, each).await {
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

    /// Writes a group in one transaction. When this returns `Ok`, all of it is synced to disk; when
    /// it returns an error, nothing was acknowledged and the group may be given again.
    pub(in crate::store) async fn append<'c>(
        &mut self,
        changes: impl Iterator<Item = &'c Change> + Clone,
    ) -> Result<Vec<Receipt>> {
        self.settle_doubt().await?;
        let sealed = self.seal(changes.clone())?;
        let written = self.write(changes, &sealed).await;
        match (&written, sealed.last()) {
            (Ok(()), Some(last)) => self.head = last.head,
            (Ok(()), None) => {}
            (Err(error), _) => self.doubt(error).await,
        }
        written.map(|()| sealed.into_iter().map(|s| s.receipt).collect())
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

    /// One record, if it is there.
    pub(in crate::store) async fn read(&mut self, key: &Key) -> Result<Option<RecordView>> {
        let query = match key {
            Key::Reference(r) => {
                sqlx::query("SELECT canonical FROM journal WHERE reference = ?").bind(r.as_str())
            }
            Key::Seq(seq) => sqlx::query("SELECT canonical FROM journal WHERE seq = ?").bind(*seq),
        };
        let Some(row) = query.fetch_optional(self.connection()?).await? else { return Ok(None) };
        let view = Fields::decode(row.try_get(0)?).map(|fields| fields.view());
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
        self.connection.as_mut().ok_or(sqlx::Error::WorkerCrashed)
    }

    /// Gives every change its sequence number, reference, bytes and chain value. References are new
    /// on every try: a group whose commit was left in doubt must not collide with itself.
    fn seal<'c>(&self, changes: impl Iterator<Item = &'c Change> + Clone) -> Result<Vec<Sealed>> {
        let mut random = vec![[0; reference::BYTES]; changes.clone().count()];
        getrandom::fill(random.as_flattened_mut()).map_err(|e| sqlx::Error::Io(std::io::Error::other(e)))?;
        let mut head = self.head;
        let seal = |(change, random): (&Change, &[u8; reference::BYTES])| {
            let reference = reference::format(random);
            let seq = head.seq + 1;
            let canonical = Fields {
                seq,
                node: &self.node,
                time_us: change.time_us,
                site: &change.site,
                kind: change.kind.as_str(),
                signal: change.source.as_str(),
                basis: change.basis.map_or("", |b| b.as_str()),
                policy: &change.policy,
                subject: change.subject,
                reference: &reference,
            }
            .encode();
            head = head.next(&canonical);
            Sealed { receipt: Receipt { reference, seq, time_us: change.time_us }, canonical, head }
        };
        Ok(changes.zip(&random).map(seal).collect())
    }

    async fn write<'c>(
        &mut self,
        mut changes: impl Iterator<Item = &'c Change>,
        sealed: &[Sealed],
    ) -> Result<()> {
        let connection = self.connection.as_mut().ok_or(sqlx::Error::WorkerCrashed)?;
        let mut transaction = connection.begin_with("BEGIN IMMEDIATE").await?;
        let mut rest = sealed;
        while let Some((rows, statement)) = self.inserts.iter().find(|(rows, _)| *rows <= rest.len()) {
            let (now, later) = rest.split_at(*rows);
            let mut query = sqlx::query::<Sqlite>(AssertSqlSafe(Arc::clone(statement)));
            for (row, change) in now.iter().zip(&mut changes) {
                query = query
                    .bind(row.receipt.seq)
                    .bind(Arc::clone(&self.node))
                    .bind(change.time_us)
                    .bind(change.site.as_str())
                    .bind(change.kind.as_str())
                    .bind(change.source.as_str())
                    .bind(change.basis.map_or("", |b| b.as_str()))
                    .bind(change.policy.as_str())
                    .bind(change.subject.map(|s| s.as_bytes().to_vec()))
                    .bind(row.receipt.reference.as_str())
                    .bind(row.canonical.as_slice())
                    .bind(row.head.link.as_slice());
            }
            query.execute(&mut *transaction).await?;
            rest = later;
        }
        transaction.commit().await
    }

    /// After a failed write. A full or locked file stays open, so that it can still be read; after
    /// anything else, an I/O error above all, pages in memory are not trusted and the file is opened
    /// anew.
    async fn doubt(&mut self, error: &sqlx::Error) {
        self.doubtful = true;
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
    each: &mut (dyn FnMut(&Fields<'_>) + Send),
) -> Result<(String, Head), OpenError> {
    let named = |e: sqlx::Error| explain(path, &e);
    refuse_damage(path, connection).await?;
    refuse_strangers(path, connection).await?;
    let node = migrate(connection, key_check).await.map_err(named)?;
    configure(connection).await.map_err(named)?;
    keys::sync_folder_of(path).map_err(|e| refuse(path, format!("its folder cannot be synced: {e}")))?;
    if meta(connection, "key_check").await.map_err(named)?.as_deref() != Some(key_check) {
        return Err(refuse(
            path,
            "was written with another secret.key, so its account opt-outs would match nobody; restore the \
             secret.key that belongs to it",
        ));
    }
    Ok((node, fold(path, connection, each).await?))
}

/// Options all connections share; `create_if_missing` is off.
pub(super) fn connect_options(path: &Path) -> SqliteConnectOptions {
    SqliteConnectOptions::new()
        .filename(path)
        .busy_timeout(BUSY)
        .row_buffer_size(1024)
        .disable_statement_logging()
}

async fn reopen(path: &Path) -> Result<SqliteConnection> {
    let mut connection = connect_options(path).connect().await?;
    configure(&mut connection).await?;
    Ok(connection)
}

/// Reads the whole file's structure (about 0.2 s for a million records); changes nothing.
async fn refuse_damage(path: &Path, connection: &mut SqliteConnection) -> Result<(), OpenError> {
    let row = sqlx::query("PRAGMA quick_check(1)").fetch_one(connection).await;
    let fault: String = row.and_then(|row| row.try_get(0)).map_err(|e| explain(path, &e))?;
    if fault == "ok" {
        return Ok(());
    }
    Err(refuse(path, format!("is damaged: {fault}; restore it from a backup (Optgate never overwrites it)")))
}

/// Refuses what is not our journal, or newer than this program; changes nothing.
pub(super) async fn refuse_strangers(
    path: &Path,
    connection: &mut SqliteConnection,
) -> Result<(), OpenError> {
    let checked: Result<(i64, i64)> = async {
        let objects = sqlx::query("SELECT count(*) FROM sqlite_master").fetch_one(&mut *connection).await?;
        let id = sqlx::query("PRAGMA application_id").fetch_one(&mut *connection).await?;
        Ok((objects.try_get(0)?, id.try_get(0)?))
    }
    .await;
    let (objects, id) = checked.map_err(|e| explain(path, &e))?;
    if objects == 0 && id == 0 {
        return Ok(());
    }
    if id != APPLICATION_ID {
        return Err(refuse(path, "is a database of another program; choose another folder with --data-dir"));
    }
    let schema = schema_version(connection).await.map_err(|e| explain(path, &e))?;
    if schema > MIGRATIONS.len() {
        return Err(refuse(
            path,
            format!(
                "was written by a newer Optgate (schema {schema}, this one knows {}); run that version or a \
                 newer one",
                MIGRATIONS.len()
            ),
        ));
    }
    Ok(())
}

async fn configure(connection: &mut SqliteConnection) -> Result<()> {
    let mode: String =
        sqlx::query("PRAGMA journal_mode = WAL").fetch_one(&mut *connection).await?.try_get(0)?;
    if mode != "wal" {
        let why = "its file system has no shared memory for SQLite's WAL; use a local disk";
        return Err(sqlx::Error::Protocol(why.into()));
    }
    sqlx::raw_sql(
        "PRAGMA synchronous = FULL;
         PRAGMA cache_size = -32768;
         PRAGMA wal_autocheckpoint = 4000;
         PRAGMA journal_size_limit = 67108864;",
    )
    .execute(connection)
    .await
    .map(drop)
}

/// Brings the schema up to date, one transaction a step, and returns the node's id.
async fn migrate(connection: &mut SqliteConnection, key_check: &str) -> Result<String> {
    let id: i64 = sqlx::query("PRAGMA application_id").fetch_one(&mut *connection).await?.try_get(0)?;
    let have = if id == APPLICATION_ID { schema_version(connection).await? } else { 0 };
    for (step, sql) in MIGRATIONS.iter().enumerate().skip(have) {
        let mut transaction = connection.begin_with("BEGIN IMMEDIATE").await?;
        sqlx::raw_sql(*sql).execute(&mut *transaction).await?;
        if step == 0 {
            sqlx::raw_sql("PRAGMA application_id = 1330664519").execute(&mut *transaction).await?;
            sqlx::query("INSERT INTO meta VALUES ('node', lower(hex(randomblob(4)))), ('key_check', ?)")
                .bind(key_check)
                .execute(&mut *transaction)
                .await?;
        }
        sqlx::query("INSERT OR REPLACE INTO meta VALUES ('schema', ?)")
            .bind((step + 1).to_string())
            .execute(&mut *transaction)
            .await?;
        transaction.commit().await?;
    }
    meta(connection, "node").await?.ok_or(sqlx::Error::RowNotFound)
}

async fn schema_version(connection: &mut SqliteConnection) -> Result<usize> {
    let written = meta(connection, "schema").await?;
    written
        .and_then(|v| v.parse().ok())
        .ok_or_else(|| sqlx::Error::Protocol("its schema version cannot be read".into()))
}

async fn meta(connection: &mut SqliteConnection, key: &'static str) -> Result<Option<String>> {
    let row =
        sqlx::query("SELECT value FROM meta WHERE key = ?").bind(key).fetch_optional(connection).await?;
    row.map(|row| row.try_get(0)).transpose()
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
async fn fold(
    path: &Path,
    connection: &mut SqliteConnection,
    each: &mut (dyn FnMut(&Fields<'_>) + Send),
) -> Result<Head, OpenError> {
    let mut head = Head::default();
    let mut rows = sqlx::query("SELECT canonical, chain FROM journal ORDER BY seq").fetch(connection);
    while let Some(row) = rows.try_next().await.map_err(|e| explain(path, &e))? {
        head = follow(&head, &row, each)
            .ok_or_else(|| refuse(path, format!("record {} {BROKEN}", head.seq + 1)))?;
    }
    Ok(head)
}

/// The head after a row of `canonical, chain`; `None` when the row does not follow.
fn follow(head: &Head, row: &SqliteRow, each: &mut (dyn FnMut(&Fields<'_>) + Send)) -> Option<Head> {
    let canonical: &[u8] = row.try_get(0).ok()?;
    let next = head.next(canonical);
    let fields = Fields::decode(canonical)?;
    (fields.seq == next.seq && row.try_get::<&[u8], _>(1).ok()? == next.link).then(|| {
        each(&fields);
        next
    })
}

fn insert_statement(rows: usize) -> String {
    let values = ["(?,?,?,?,?,?,?,?,?,?,?,?)"].repeat(rows).join(",");
    format!(
        "INSERT INTO journal (seq, node, time_us, site, kind, signal, basis, policy, subject, reference, \
         canonical, chain) VALUES {values}"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The pragma's text and the constant say the same number.
    #[test]
    fn the_application_id_spells_optg() {
        assert_eq!(APPLICATION_ID.to_string(), "1330664519");
        assert_eq!(&APPLICATION_ID.to_be_bytes()[4..], b"OPTG");
    }
}
