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

use super::chain::{Fields, Head};
use super::mark::{self, Mark};
use super::schema::{configure, meta, migrate, refuse_damage, refuse_strangers};
use super::{BROKEN, explain, primary_code, refuse, wal};
use crate::privacy::Subject;
use crate::store::record::{Change, Kind, Receipt, RecordView, Source};
use crate::store::{OpenError, files, reference};

type Result<T, E = sqlx::Error> = std::result::Result<T, E>;

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
    mark: Mark,
    /// An append failed: what is on disk must be looked at before the next one.
    doubtful: bool,
    /// What that look found and nobody has asked for yet.
    found: Vec<Found>,
}

/// A record that is in the journal though its commit reported an error.
pub(in crate::store) struct Found {
    pub(in crate::store) subject: Option<Subject>,
    pub(in crate::store) kind: Option<Kind>,
    pub(in crate::store) source: Option<Source>,
    pub(in crate::store) seq: i64,
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
        let marked = mark::read(path)?;
        mark::refuse_absent(path, marked.as_ref())?;
        let mut connection =
            connect_options(path).create_if_missing(true).connect().await.map_err(|e| explain(path, &e))?;
        let (node, head, mark) = match prepare(path, &mut connection, key_check, marked, each).await {
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
            node: node.into(),
            head,
            mark,
            doubtful: false,
            found: Vec::new(),
        })
    }

    /// Records in the journal.
    pub(in crate::store) fn len(&self) -> u64 {
        self.head.seq.unsigned_abs()
    }

    /// Writes a group in one transaction. When this returns `Ok`, all of it is synced to disk; when
    /// it returns an error, nothing was acknowledged and the group may be given again.
    ///
    /// `now_us`: microseconds since the Unix epoch, for the references.
    pub(in crate::store) async fn append<'c>(
        &mut self,
        now_us: i64,
        changes: impl Iterator<Item = &'c Change> + Clone,
    ) -> Result<Vec<Receipt>> {
        self.settle_doubt().await?;
        let sealed = self.seal(now_us, changes.clone())?;
        let written = self.write(changes, &sealed).await;
        match (&written, sealed.last()) {
            (Ok(()), Some(last)) => {
                self.head = last.head;
                self.mark.set(&self.head);
            }
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
        self.connection.as_mut().ok_or_else(not_open)
    }

    /// Gives every change its sequence number, reference, bytes and chain value. References are new
    /// on every try: a group whose commit was left in doubt must not collide with itself.
    fn seal<'c>(
        &self,
        now_us: i64,
        changes: impl Iterator<Item = &'c Change> + Clone,
    ) -> Result<Vec<Sealed>> {
        let mut random = vec![[0; reference::RANDOM]; changes.clone().count()];
        getrandom::fill(random.as_flattened_mut()).map_err(|e| sqlx::Error::Io(std::io::Error::other(e)))?;
        let mut head = self.head;
        let seal = |(change, random): (&Change, &[u8; reference::RANDOM])| {
            let reference = reference::make(now_us, *random);
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
        let connection = self.connection.as_mut().ok_or_else(not_open)?;
        // Plain statements, not sqlx's transaction: a full disk makes SQLite roll back on its own, and the
        // depth that sqlx keeps would then refuse the next BEGIN.
        sqlx::query("BEGIN IMMEDIATE").execute(&mut *connection).await?;
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
            query.execute(&mut *connection).await?;
            rest = later;
        }
        sqlx::query("COMMIT").execute(connection).await.map(drop)
    }

    /// After a failed write. A full or locked file stays open, so that it can still be read; after
    /// anything else, an I/O error above all, pages in memory are not trusted and the file is opened
    /// anew. Nothing rests on a sync that failed: closing moves commits that were synced into the file;
    /// where that fails too, [`wal::write_again`] writes anew what is found.
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

    /// Reads on from the head that is known: a commit that reported an error may still have reached the disk.
    async fn settle_doubt(&mut self) -> Result<()> {
        if !self.doubtful {
            return Ok(());
        }
        if self.connection.is_none() {
            self.connection = Some(reopen(&self.path).await?);
        }
        let connection = self.connection.as_mut().ok_or_else(not_open)?;
        let end = read_head(connection).await?;
        if end.seq < self.head.seq || (end.seq == self.head.seq && end.link != self.head.link) {
            let why = format!("record {} was written and is not there any more", self.head.seq);
            return Err(sqlx::Error::Protocol(why));
        }
        let mut found = Vec::new();
        let mut each = |fields: &Fields<'_>| {
            let (kind, source) = (Kind::parse(fields.kind), Source::parse(fields.signal));
            found.push(Found { subject: fields.subject, kind, source, seq: fields.seq });
        };
        let read = fold(&self.path, connection, self.head, &mut each).await;
        self.head = read.map_err(|e| sqlx::Error::Protocol(e.to_string()))?;
        self.found.append(&mut found);
        self.doubtful = false;
        Ok(())
    }

    /// What was found since this was last asked, in order.
    pub(in crate::store) fn take_found(&mut self) -> Vec<Found> {
        std::mem::take(&mut self.found)
    }
}

/// Checks, migrates and reads a journal just opened; returns its node and head.
async fn prepare(
    path: &Path,
    connection: &mut SqliteConnection,
    key_check: &str,
    marked: Option<Head>,
    each: &mut (dyn FnMut(&Fields<'_>) + Send),
) -> Result<(String, Head, Mark), OpenError> {
    let named = |e: sqlx::Error| explain(path, &e);
    refuse_damage(path, connection).await?;
    refuse_strangers(path, connection).await?;
    wal::write_again(path, connection).await.map_err(named)?;
    let node = migrate(connection, key_check).await.map_err(named)?;
    configure(connection).await.map_err(named)?;
    if meta(connection, "key_check").await.map_err(named)?.as_deref() != Some(key_check) {
        return Err(refuse(
            path,
            "was written with another secret.key, so its account opt-outs would match nobody; restore the \
             secret.key that belongs to it",
        ));
    }
    let head = fold(path, connection, Head::default(), each).await?;
    mark::refuse_other(path, connection, marked.as_ref(), &head).await?;
    let mut mark = Mark::open(path)?;
    // Only now, because the first look made the WAL: SQLite syncs the folder for it too, and does not look
    // whether that failed.
    files::sync_folder_of(path).map_err(|e| refuse(path, format!("its folder cannot be synced: {e}")))?;
    mark.set(&head);
    Ok((node, head, mark))
}

/// Options all connections share; `create_if_missing` is off.
pub(super) fn connect_options(path: &Path) -> SqliteConnectOptions {
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

async fn read_head(connection: &mut SqliteConnection) -> Result<Head> {
    let row = sqlx::query("SELECT seq, chain FROM journal ORDER BY seq DESC LIMIT 1")
        .fetch_optional(connection)
        .await?;
    let Some(row) = row else { return Ok(Head::default()) };
    let link = row.try_get::<&[u8], _>(1)?.try_into();
    Ok(Head { seq: row.try_get(0)?, link: link.map_err(|_| sqlx::Error::Protocol(BROKEN.into()))? })
}

/// Reads all records after a head in order, verifies the chain, returns its new head.
///
/// One row a record would pass two threads' queue and half a dozen allocations each; so SQLite packs
/// a page of records into one text, in hexadecimal because only text is joined by its rules.
async fn fold(
    path: &Path,
    connection: &mut SqliteConnection,
    mut head: Head,
    each: &mut (dyn FnMut(&Fields<'_>) + Send),
) -> Result<Head, OpenError> {
    loop {
        let page: Option<String> = sqlx::query(
            "SELECT group_concat(hex(chain) || hex(canonical)) FROM
             (SELECT chain, canonical FROM journal WHERE seq > ? ORDER BY seq LIMIT 1024)",
        )
        .bind(head.seq)
        .fetch_one(&mut *connection)
        .await
        .and_then(|row| row.try_get(0))
        .map_err(|e| explain(path, &e))?;
        let Some(page) = page else { return Ok(head) };
        for record in page.split(',') {
            head = follow(&head, record, each)
                .ok_or_else(|| refuse(path, format!("record {} {BROKEN}", head.seq + 1)))?;
        }
    }
}

/// The head after a record, given as chain value and canonical bytes in hexadecimal; `None` when it
/// does not follow.
fn follow(head: &Head, record: &str, each: &mut (dyn FnMut(&Fields<'_>) + Send)) -> Option<Head> {
    let bytes = HEXUPPER.decode(record.as_bytes()).ok()?;
    let (link, canonical) = bytes.split_first_chunk()?;
    let next = head.next(canonical);
    let fields = Fields::decode(canonical)?;
    (fields.seq == next.seq && *link == next.link).then(|| {
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
