//! The database that nodes share: every node's records, by node and number.
//!
//! A node writes its own file first and ships from there, so the database may be away. One node's records are
//! numbered without gaps and shipped in their order, each batch in one transaction with the node's line in `nodes`:
//! whoever sees a number there sees every record up to it. So a reader needs one number for each node, and no
//! serial, whose numbers can commit out of order, and no horizon of transactions, which a long one holds back and a
//! failover turns back.
//!
//! Statements are not kept prepared, and each call is one transaction: a pooler that hands out connections by the
//! transaction may stand between.

use std::collections::{HashMap, HashSet};
use std::future::Future;
use std::str::FromStr as _;
use std::time::Duration;

use sqlx::postgres::{PgConnectOptions, PgConnection, PgRow};
use sqlx::{ConnectOptions as _, Connection as _, Postgres, Row as _};

use super::believed::{Choice, Row, believe, without_mac};
use super::chain::{Fields, Link};
use crate::config::DatabaseUrl;
use crate::privacy::{Keys, Subject};
use crate::store::merge::Told;
use crate::store::record::{DENIED, Kind};

/// Channel of notifications.
pub(in crate::store) const CHANNEL: &str = "optgate";

/// Records of one batch or page.
pub(in crate::store) const PAGE: i64 = 2048;

/// What one call may take. A network that swallows packets must not hold the feed.
const CALL: Duration = Duration::from_secs(10);

/// Why the database cannot be used.
#[derive(Debug, thiserror::Error)]
pub(in crate::store) enum Trouble {
    /// Not now; trying again may help.
    #[error("{0}")]
    Away(String),
    /// Not before somebody changes something.
    #[error("{0}")]
    Refused(String),
    /// Never again under this node's name: its numbers are taken.
    #[error("{0}")]
    Fenced(String),
}

impl From<sqlx::Error> for Trouble {
    /// By the code that PostgreSQL gives (postgresql.org/docs/15/errcodes-appendix).
    fn from(error: sqlx::Error) -> Self {
        let code = error.as_database_error().and_then(|e| e.code().map(|c| c.into_owned()));
        let advice = match code.as_deref() {
            Some("28P01" | "28000") => "the user or password is refused; check `store.url`",
            Some("3D000") => "there is no such database; create it, or check `store.url`",
            Some("42501") => {
                "the user may not do what is needed; make it the database's owner, or grant it CREATE on the database"
            }
            Some("25006") => "the database takes no writes; `store.url` must name the primary",
            _ => return Self::Away(error.to_string()),
        };
        Self::Refused(format!("{advice} ({error})"))
    }
}

/// One connection to the database.
pub(in crate::store) struct Database(PgConnection);

/// A record on its way to the database.
#[derive(Debug, Clone)]
pub(in crate::store) struct Shipped {
    pub(in crate::store) seq: i64,
    pub(in crate::store) time_us: i64,
    pub(in crate::store) site: String,
    pub(in crate::store) kind: String,
    pub(in crate::store) signal: String,
    pub(in crate::store) subject: Option<Vec<u8>>,
    pub(in crate::store) blinding: Option<Vec<u8>>,
    pub(in crate::store) seen: Option<String>,
    pub(in crate::store) reference: Option<String>,
    pub(in crate::store) canonical: Option<Vec<u8>>,
    pub(in crate::store) digest: Option<Vec<u8>>,
    pub(in crate::store) chain: Vec<u8>,
}

/// What a node hears of another's record.
#[derive(Debug, Clone)]
pub(in crate::store) struct Heard {
    pub(in crate::store) seq: i64,
    /// Whose choice, which and how; `None` for a record that names nobody or is of a kind unknown here.
    pub(in crate::store) choice: Option<Choice>,
}

/// Rows as [`row`] reads them. What an opt-out is not asked for is neither looked up nor sent.
macro_rules! told {
    ($of:literal) => {
        concat!(
            "SELECT r.node, r.seq, r.kind, r.signal, r.subject, r.seen, \
             CASE WHEN r.kind <> 'opt-out' AND r.subject IS NOT NULL THEN r.blinding END, \
             CASE WHEN r.kind <> 'opt-out' AND r.subject IS NOT NULL THEN r.canonical END, \
             CASE WHEN r.kind <> 'opt-out' AND r.subject IS NOT NULL THEN r.chain END, \
             CASE WHEN r.kind <> 'opt-out' AND r.subject IS NOT NULL THEN \
             (SELECT b.chain FROM optgate.records b WHERE b.node = r.node AND b.seq = r.seq - 1) END \
             FROM optgate.records r WHERE ",
            $of
        )
    };
}

impl Database {
    /// Connects. A password is never part of the error.
    pub(in crate::store) async fn connect(url: &DatabaseUrl) -> Result<Self, Trouble> {
        let options = PgConnectOptions::from_str(url.as_str())
            .map_err(|e| Trouble::Refused(format!("`{url}`: {e}")))?;
        // Poolers know no such parameter at start; we read no floating numbers.
        let options =
            options.extra_float_digits(None).application_name("optgate").disable_statement_logging();
        timed(async { Ok(Self(PgConnection::connect_with(&options).await?)) }).await
    }

    /// One transaction.
    pub(super) async fn call<T>(
        &mut self,
        work: impl AsyncFnOnce(&mut PgConnection) -> Result<T, Trouble>,
    ) -> Result<T, Trouble> {
        timed(async {
            let mut transaction = self.0.begin().await?;
            let done = work(&mut transaction).await?;
            transaction.commit().await?;
            Ok(done)
        })
        .await
    }

    /// The last record of a node that is here, with its chain value.
    pub(in crate::store) async fn shipped(&mut self, node: &str) -> Result<Option<(i64, Vec<u8>)>, Trouble> {
        self.call(async |connection| {
            let row = query("SELECT seq, chain FROM optgate.nodes WHERE node = $1")
                .bind(node)
                .fetch_optional(&mut *connection)
                .await?;
            Ok(row.map(|row| Ok::<_, sqlx::Error>((row.try_get(0)?, row.try_get(1)?))).transpose()?)
        })
        .await
    }

    /// Writes a batch; records that are there already are left. One notification a batch.
    ///
    /// [`Trouble::Fenced`] when another writes under this node's name.
    pub(in crate::store) async fn append(&mut self, node: &str, batch: &[Shipped]) -> Result<(), Trouble> {
        let Some(last) = batch.last() else { return Ok(()) };
        self.call(async |connection| {
            let written = insert(connection, node, batch).await?;
            let moved = query(
                "INSERT INTO optgate.nodes (node, seq, chain) VALUES ($1, $2, $3) ON CONFLICT (node) DO UPDATE \
                 SET seq = excluded.seq, chain = excluded.chain, heard = now() WHERE optgate.nodes.seq < excluded.seq",
            )
            .bind(node)
            .bind(last.seq)
            .bind(last.chain.as_slice())
            .execute(&mut *connection)
            .await?
            .rows_affected();
            if written < batch.len() as u64 || moved == 0 {
                refuse_twins(connection, node, last).await?;
            }
            query("SELECT pg_notify($1, $2)").bind(CHANNEL).bind(node).execute(&mut *connection).await?;
            Ok(())
        })
        .await
    }

    /// Writes down that a node is there, with its first line if it has recorded nothing yet; when, in microseconds since
    /// the Unix epoch by the database's clock.
    pub(in crate::store) async fn beat(&mut self, node: &str) -> Result<i64, Trouble> {
        self.call(async |connection| {
            let row = query(
                "INSERT INTO optgate.nodes (node, seq, chain) VALUES ($1, 0, $2) ON CONFLICT (node) DO UPDATE \
                 SET heard = now() RETURNING (extract(epoch FROM heard) * 1000000)::bigint",
            )
            .bind(node)
            .bind(Link::default().to_vec())
            .fetch_one(&mut *connection)
            .await?;
            Ok(row.try_get(0)?)
        })
        .await
    }

    /// When a node was last there, as far as this database has heard; as [`Self::beat`] has it.
    pub(in crate::store) async fn beaten(&mut self, node: &str) -> Result<Option<i64>, Trouble> {
        self.call(async |connection| {
            let sql =
                "SELECT (extract(epoch FROM heard) * 1000000)::bigint FROM optgate.nodes WHERE node = $1";
            let row = query(sql).bind(node).fetch_optional(&mut *connection).await?;
            Ok(row.map(|row| row.try_get(0)).transpose()?)
        })
        .await
    }

    /// Every node but one, and its last record here.
    pub(in crate::store) async fn others(&mut self, node: &str) -> Result<Vec<(String, i64)>, Trouble> {
        self.call(async |connection| {
            let rows = query("SELECT node, seq FROM optgate.nodes WHERE node <> $1 ORDER BY node")
                .bind(node)
                .fetch_all(&mut *connection)
                .await?;
            let pair = |row: PgRow| Ok::<_, sqlx::Error>((row.try_get(0)?, row.try_get(1)?));
            Ok(rows.into_iter().map(pair).collect::<Result<_, _>>()?)
        })
        .await
    }

    /// Nodes whose line in `nodes` is gone and whose records are not, each with its last: a hand took it out, or they write
    /// it anew at once.
    ///
    /// Cost: a look into an index for each node.
    pub(in crate::store) async fn unlisted(&mut self) -> Result<Vec<(String, i64)>, Trouble> {
        self.call(async |connection| {
            let rows = query(
                "WITH RECURSIVE n AS (SELECT min(node) AS node FROM optgate.records UNION ALL \
                 SELECT (SELECT min(node) FROM optgate.records r WHERE r.node > n.node) FROM n WHERE n.node IS NOT NULL) \
                 SELECT node, (SELECT max(seq) FROM optgate.records r WHERE r.node = n.node) FROM n \
                 WHERE node IS NOT NULL AND NOT EXISTS (SELECT 1 FROM optgate.nodes l WHERE l.node = n.node)",
            )
            .fetch_all(&mut *connection)
            .await?;
            let pair = |row: PgRow| Ok::<_, sqlx::Error>((row.try_get(0)?, row.try_get(1)?));
            Ok(rows.into_iter().map(pair).collect::<Result<_, _>>()?)
        })
        .await
    }

    /// A page of a node's records after a number, in order.
    pub(in crate::store) async fn records(
        &mut self,
        node: &str,
        after: i64,
        keys: &Keys,
    ) -> Result<Vec<Heard>, Trouble> {
        self.call(async |connection| {
            let rows = query(told!("r.node = $1 AND r.seq > $2 ORDER BY r.seq LIMIT $3"))
                .bind(node)
                .bind(after)
                .bind(PAGE)
                .fetch_all(&mut *connection)
                .await?;
            let heard = |it: &PgRow| {
                let row = row(it)?;
                Ok::<_, sqlx::Error>(Heard { seq: row.seq, choice: believe(&row, keys) })
            };
            Ok(rows.iter().map(heard).collect::<Result<_, _>>()?)
        })
        .await
    }

    /// How many records of a node are here after one number and up to another.
    pub(in crate::store) async fn count(
        &mut self,
        node: &str,
        (after, to): (i64, i64),
    ) -> Result<i64, Trouble> {
        self.call(async |connection| {
            let sql = "SELECT count(*) FROM optgate.records WHERE node = $1 AND seq > $2 AND seq <= $3";
            let counted = query(sql).bind(node).bind(after).bind(to).fetch_one(&mut *connection).await?;
            Ok(counted.try_get(0)?)
        })
        .await
    }

    /// Those of some of a node's records that are here.
    pub(in crate::store) async fn which(
        &mut self,
        node: &str,
        seqs: Vec<i64>,
    ) -> Result<HashSet<i64>, Trouble> {
        self.call(async |connection| {
            let rows = query("SELECT seq FROM optgate.records WHERE node = $1 AND seq = ANY($2)")
                .bind(node)
                .bind(seqs)
                .fetch_all(&mut *connection)
                .await?;
            Ok(rows.iter().map(|row| row.try_get(0)).collect::<Result<_, _>>()?)
        })
        .await
    }

    /// Accounts that some of a node's records let opt back in, or out in part only.
    pub(in crate::store) async fn chosen(
        &mut self,
        node: &str,
        seqs: Vec<i64>,
    ) -> Result<Vec<Subject>, Trouble> {
        self.call(async |connection| {
            let rows = query(
                "SELECT DISTINCT subject FROM optgate.records WHERE node = $1 AND seq = ANY($2) AND kind <> 'opt-out' \
                 AND subject IS NOT NULL",
            )
            .bind(node)
            .bind(seqs)
            .fetch_all(&mut *connection)
            .await?;
            Ok(rows.iter().filter_map(subject).collect())
        })
        .await
    }

    /// Writes those of a batch that are not here any more; how many that were. An account that was erased everywhere
    /// meanwhile is not tied to them again.
    pub(in crate::store) async fn send_again(
        &mut self,
        node: &str,
        mut batch: Vec<Shipped>,
    ) -> Result<u64, Trouble> {
        self.call(async |connection| {
            let subjects: Vec<Vec<u8>> = batch.iter().filter_map(|record| record.subject.clone()).collect();
            let rows = query("SELECT subject FROM optgate.suppression WHERE subject = ANY($1)")
                .bind(subjects)
                .fetch_all(&mut *connection)
                .await?;
            let erased = rows.iter().map(|row| row.try_get(0)).collect::<Result<HashSet<Vec<u8>>, _>>()?;
            for record in &mut batch {
                if record.subject.as_ref().is_some_and(|subject| erased.contains(subject)) {
                    (record.subject, record.blinding) = (None, None);
                    record.seen = record.seen.take().map(without_mac);
                }
            }
            let written = insert(connection, node, &batch).await?;
            query("SELECT pg_notify($1, $2)").bind(CHANNEL).bind(node).execute(&mut *connection).await?;
            Ok(written)
        })
        .await
    }

    /// A page of a node's records after a number, in order and whole.
    pub(in crate::store) async fn whole(&mut self, node: &str, after: i64) -> Result<Vec<Shipped>, Trouble> {
        self.call(async |connection| {
            let rows = query(
                "SELECT seq, CASE WHEN digest IS NULL THEN time_us ELSE 0 END, site, kind, signal, subject, blinding, \
                 seen, reference, canonical, digest, chain FROM optgate.records WHERE node = $1 AND seq > $2 ORDER BY seq LIMIT $3",
            )
            .bind(node)
            .bind(after)
            .bind(PAGE)
            .fetch_all(&mut *connection)
            .await?;
            Ok(rows.iter().map(whole).collect::<Result<_, _>>()?)
        })
        .await
    }

    /// The chain value of a record that is here.
    pub(in crate::store) async fn chain(&mut self, node: &str, seq: i64) -> Result<Option<Vec<u8>>, Trouble> {
        self.call(async |connection| {
            let row = query("SELECT chain FROM optgate.records WHERE node = $1 AND seq = $2")
                .bind(node)
                .bind(seq)
                .fetch_optional(&mut *connection)
                .await?;
            Ok(row.map(|row| row.try_get(0)).transpose()?)
        })
        .await
    }

    /// Every choice about a subject that is here.
    pub(in crate::store) async fn told(
        &mut self,
        subject: &Subject,
        keys: &Keys,
    ) -> Result<Vec<Told>, Trouble> {
        self.call(async |connection| {
            let rows = query(told!("r.subject = $1"))
                .bind(subject.as_bytes().as_slice())
                .fetch_all(&mut *connection)
                .await?;
            let told = |it: &PgRow| {
                let row = row(it)?;
                let believed = believe(&row, keys);
                Ok::<_, sqlx::Error>(believed.map(|Choice { kind, source, seen, .. }| Told {
                    node: row.node.to_owned(),
                    seq: row.seq,
                    kind,
                    source,
                    seen,
                }))
            };
            let all = rows.iter().map(told).collect::<Result<Vec<_>, _>>()?;
            Ok(all.into_iter().flatten().collect())
        })
        .await
    }

    /// When these accounts opted back in last, by the records that are here, whole and believed; in microseconds since the
    /// Unix epoch.
    pub(in crate::store) async fn opted_in(
        &mut self,
        subjects: &[Subject],
        keys: &Keys,
    ) -> Result<HashMap<Subject, i64>, Trouble> {
        let subjects: Vec<Vec<u8>> = subjects.iter().map(|subject| subject.as_bytes().to_vec()).collect();
        self.call(async |connection| {
            let rows = query(told!("r.subject = ANY($1) AND r.kind = 'opt-in'"))
                .bind(subjects)
                .fetch_all(&mut *connection)
                .await?;
            let mut times = HashMap::new();
            for it in &rows {
                let row = row(it)?;
                let time_us = row.canonical.and_then(Fields::decode).map(|fields| fields.time_us);
                if let (Some(Choice { subject, kind: Kind::OptIn, .. }), Some(time_us)) =
                    (believe(&row, keys), time_us)
                {
                    let last = times.entry(subject).or_insert(time_us);
                    *last = time_us.max(*last);
                }
            }
            Ok(times)
        })
        .await
    }

    /// The policies of these accounts' denials that are here.
    pub(in crate::store) async fn denied(
        &mut self,
        subjects: &[Subject],
    ) -> Result<HashSet<String>, Trouble> {
        let subjects: Vec<Vec<u8>> = subjects.iter().map(|subject| subject.as_bytes().to_vec()).collect();
        self.call(async |connection| {
            let rows = query("SELECT canonical FROM optgate.records WHERE subject = ANY($1) AND kind = $2")
                .bind(subjects)
                .bind(DENIED)
                .fetch_all(&mut *connection)
                .await?;
            let policy = |row: &PgRow| {
                let canonical: Option<&[u8]> = row.try_get(0)?;
                Ok::<_, sqlx::Error>(canonical.and_then(Fields::decode).map(|said| said.policy.to_owned()))
            };
            let all = rows.iter().map(policy).collect::<Result<Vec<_>, _>>()?;
            Ok(all.into_iter().flatten().collect())
        })
        .await
    }

    /// The canonical bytes of a record, by its normalised reference.
    pub(in crate::store) async fn find(&mut self, reference: &str) -> Result<Option<Vec<u8>>, Trouble> {
        self.call(async |connection| {
            let row = query("SELECT canonical FROM optgate.records WHERE reference = $1")
                .bind(reference)
                .fetch_optional(&mut *connection)
                .await?;
            Ok(row.map(|row| row.try_get(0)).transpose()?.flatten())
        })
        .await
    }
}

/// A statement that the server forgets at once.
pub(super) fn query(sql: &'static str) -> sqlx::query::Query<'static, Postgres, sqlx::postgres::PgArguments> {
    sqlx::query(sql).persistent(false)
}

/// A call that ends. One that was cut short leaves a connection that must not be used again.
pub(in crate::store) async fn timed<T>(call: impl Future<Output = Result<T, Trouble>>) -> Result<T, Trouble> {
    let silent = || Trouble::Away(format!("no answer within {} s", CALL.as_secs()));
    tokio::time::timeout(CALL, call).await.map_err(|_| silent())?
}

async fn insert(connection: &mut PgConnection, node: &str, batch: &[Shipped]) -> Result<u64, sqlx::Error> {
    fn column<'a, T>(batch: &'a [Shipped], of: impl Fn(&'a Shipped) -> T) -> Vec<T> {
        batch.iter().map(of).collect()
    }
    let written = query(
        "INSERT INTO optgate.records (node, seq, time_us, site, kind, signal, subject, blinding, seen, reference, \
         canonical, digest, chain) SELECT $1, * FROM unnest($2::bigint[], $3::bigint[], $4::text[], $5::text[], \
         $6::text[], $7::bytea[], $8::bytea[], $9::text[], $10::text[], $11::bytea[], $12::bytea[], $13::bytea[]) \
         ON CONFLICT (node, seq) DO NOTHING",
    )
    .bind(node.to_owned())
    .bind(column(batch, |r| r.seq))
    .bind(column(batch, |r| r.time_us))
    .bind(column(batch, |r| r.site.clone()))
    .bind(column(batch, |r| r.kind.clone()))
    .bind(column(batch, |r| r.signal.clone()))
    .bind(column(batch, |r| r.subject.clone()))
    .bind(column(batch, |r| r.blinding.clone()))
    .bind(column(batch, |r| r.seen.clone()))
    .bind(column(batch, |r| r.reference.clone()))
    .bind(column(batch, |r| r.canonical.clone()))
    .bind(column(batch, |r| r.digest.clone()))
    .bind(column(batch, |r| r.chain.clone()))
    .execute(connection)
    .await?;
    Ok(written.rows_affected())
}

/// Records were there already: fine when they are ours, which the chain says of all up to the last.
async fn refuse_twins(connection: &mut PgConnection, node: &str, last: &Shipped) -> Result<(), Trouble> {
    let row = query("SELECT chain FROM optgate.records WHERE node = $1 AND seq = $2")
        .bind(node.to_owned())
        .bind(last.seq)
        .fetch_optional(connection)
        .await?;
    let chain: Option<Vec<u8>> = row.map(|row| row.try_get(0)).transpose()?;
    if chain.is_none_or(|chain| chain == last.chain) { Ok(()) } else { Err(twins(node)) }
}

/// Two processes, or two states of one folder, write under one name.
pub(in crate::store) fn twins(node: &str) -> Trouble {
    Trouble::Fenced(format!(
        "another process writes, or wrote, other records as node {node}: this data folder is a copy, or was restored \
         from a backup. Stop this node, move the folder away and keep it as evidence, and start with an empty one that \
         holds only secret.key: what the database has comes back by itself, and `optgate ledger adopt FOLDER` brings \
         the opt-outs that only the old folder has"
    ))
}

/// The account in the first column.
pub(super) fn subject(row: &PgRow) -> Option<Subject> {
    row.try_get::<&[u8], _>(0).ok()?.try_into().ok().map(Subject::from_bytes)
}

fn row(row: &PgRow) -> Result<Row<'_>, sqlx::Error> {
    Ok(Row {
        node: row.try_get(0)?,
        seq: row.try_get(1)?,
        kind: row.try_get(2)?,
        signal: row.try_get(3)?,
        subject: row.try_get(4)?,
        seen: row.try_get(5)?,
        blinding: row.try_get(6)?,
        canonical: row.try_get(7)?,
        chain: row.try_get(8)?,
        before: row.try_get(9)?,
    })
}

fn whole(row: &PgRow) -> Result<Shipped, sqlx::Error> {
    Ok(Shipped {
        seq: row.try_get(0)?,
        time_us: row.try_get(1)?,
        site: row.try_get(2)?,
        kind: row.try_get(3)?,
        signal: row.try_get(4)?,
        subject: row.try_get(5)?,
        blinding: row.try_get(6)?,
        seen: row.try_get(7)?,
        reference: row.try_get(8)?,
        canonical: row.try_get(9)?,
        digest: row.try_get(10)?,
        chain: row.try_get(11)?,
    })
}
