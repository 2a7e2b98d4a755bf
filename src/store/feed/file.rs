//! This node's journal, read beside its writer.

use std::path::Path;

use sqlx::sqlite::{SqliteConnection, SqliteRow};
use sqlx::{ConnectOptions as _, Row as _};

use crate::privacy::Subject;
use crate::store::journal::chain::{Fields, Link};
use crate::store::journal::postgres::{PAGE, Shipped};
use crate::store::journal::shared_forget::Pruned;
use crate::store::journal::sqlite::connect_options;
use crate::store::merge::{Seen, Told};
use crate::store::record::{Kind, Source};

/// A reader of the journal.
pub(super) struct Reader(SqliteConnection);

impl Reader {
    pub(super) async fn open(journal: &Path) -> sqlx::Result<Self> {
        Ok(Self(connect_options(journal).read_only(true).connect().await?))
    }

    /// The chain value of a record; of none yet, what every chain begins with.
    pub(super) async fn chain(&mut self, seq: i64) -> sqlx::Result<Option<Vec<u8>>> {
        if seq == 0 {
            return Ok(Some(Link::default().to_vec()));
        }
        let row = sqlx::query("SELECT chain FROM journal WHERE seq = ?")
            .bind(seq)
            .fetch_optional(&mut self.0)
            .await?;
        row.map(|row| row.try_get(0)).transpose()
    }

    /// The number of the last record; 0 when there is none.
    pub(super) async fn last(&mut self) -> sqlx::Result<i64> {
        sqlx::query("SELECT coalesce(max(seq), 0) FROM journal").fetch_one(&mut self.0).await?.try_get(0)
    }

    /// The records that are tied to an account, and the number of the last record of all.
    pub(super) async fn tied_to(&mut self, subject: &Subject) -> sqlx::Result<(Vec<i64>, i64)> {
        let last = self.last().await?;
        let tied = sqlx::query_scalar("SELECT seq FROM journal WHERE subject = ? AND seq <= ?")
            .bind(subject.as_bytes().as_slice())
            .bind(last)
            .fetch_all(&mut self.0)
            .await?;
        Ok((tied, last))
    }

    /// A page of records after a number, as they are shipped.
    pub(super) async fn after(&mut self, seq: i64) -> sqlx::Result<Vec<Shipped>> {
        let rows = sqlx::query(
            "SELECT seq, time_us, reference, subject, blinding, seen, canonical, digest, chain FROM journal \
             WHERE seq > ? ORDER BY seq LIMIT ?",
        )
        .bind(seq)
        .bind(PAGE)
        .fetch_all(&mut self.0)
        .await?;
        rows.iter().map(shipped).collect()
    }

    /// A page of pruned records after a number, in order.
    pub(super) async fn pruned(&mut self, after: i64) -> sqlx::Result<Vec<Pruned>> {
        let rows = sqlx::query(
            "SELECT seq, digest, seen FROM journal WHERE seq > ? AND digest IS NOT NULL ORDER BY seq LIMIT ?",
        )
        .bind(after)
        .bind(PAGE)
        .fetch_all(&mut self.0)
        .await?;
        let pruned = |row: &SqliteRow| {
            Ok(Pruned { seq: row.try_get(0)?, digest: row.try_get(1)?, seen: row.try_get(2)? })
        };
        rows.iter().map(pruned).collect()
    }

    /// A page of the accounts that are kept by their hash alone, after a row: how each stood, and the last row; `None` at
    /// the end.
    pub(super) async fn kept(&mut self, after: i64) -> sqlx::Result<Option<(Vec<(Vec<u8>, String)>, i64)>> {
        let rows = sqlx::query(
            "SELECT id, subject, standing FROM suppression WHERE id > ? AND subject IS NOT NULL ORDER BY id LIMIT ?",
        )
        .bind(after)
        .bind(PAGE)
        .fetch_all(&mut self.0)
        .await?;
        let Some(last) = rows.last() else { return Ok(None) };
        let last = last.try_get(0)?;
        let pair = |row: &SqliteRow| Ok((row.try_get(1)?, row.try_get(2)?));
        Ok(Some((rows.iter().map(pair).collect::<sqlx::Result<_>>()?, last)))
    }

    /// This node's own choices about a subject after a number, and the last record that was looked at.
    pub(super) async fn told(
        &mut self,
        node: &str,
        subject: &Subject,
        after: i64,
    ) -> sqlx::Result<(Vec<Told>, i64)> {
        let last = self.last().await?;
        let rows = sqlx::query(
            "SELECT seq, canonical, seen FROM journal WHERE seq > ? AND seq <= ? AND subject = ? ORDER BY seq",
        )
        .bind(after)
        .bind(last)
        .bind(subject.as_bytes().as_slice())
        .fetch_all(&mut self.0)
        .await?;
        let all = rows.iter().map(|row| told(node, row)).collect::<sqlx::Result<Vec<_>>>()?;
        Ok((all.into_iter().flatten().collect(), last))
    }
}

fn shipped(row: &SqliteRow) -> sqlx::Result<Shipped> {
    let canonical: Option<Vec<u8>> = row.try_get(6)?;
    // A pruned record says nothing any more.
    let said = canonical.as_deref().and_then(Fields::decode);
    let word = |of: fn(&Fields<'_>) -> String| said.as_ref().map(of).unwrap_or_default();
    Ok(Shipped {
        seq: row.try_get(0)?,
        time_us: row.try_get(1)?,
        site: word(|fields| fields.site.to_owned()),
        kind: word(|fields| fields.kind.to_owned()),
        signal: word(|fields| fields.signal.to_owned()),
        reference: row.try_get(2)?,
        subject: row.try_get(3)?,
        blinding: row.try_get(4)?,
        seen: row.try_get(5)?,
        digest: row.try_get(7)?,
        chain: row.try_get(8)?,
        canonical,
    })
}

fn told(node: &str, row: &SqliteRow) -> sqlx::Result<Option<Told>> {
    let (canonical, seen): (Option<&[u8]>, Option<&str>) = (row.try_get(1)?, row.try_get(2)?);
    let Some(fields) = canonical.and_then(Fields::decode) else { return Ok(None) };
    let (Some(kind), Some(source)) = (Kind::parse(fields.kind), Source::parse(fields.signal)) else {
        return Ok(None);
    };
    let seen = seen.map(Seen::parse).unwrap_or_default();
    Ok(Some(Told { node: node.to_owned(), seq: row.try_get(0)?, kind, source, seen }))
}
