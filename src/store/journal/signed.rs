//! What of a journal is signed, and the tree of what is not yet.

use sqlx::sqlite::SqliteConnection;
use sqlx::{Result, Row};

use super::broken;
use super::chain::{self, Link};
use super::checkpoint::{self, Checkpoint};
use super::merkle::Tree;
use crate::store::signing::PublicKey;

/// Records since the last checkpoint.
#[derive(Debug, Default)]
pub(super) struct Unsigned {
    /// The last that is signed.
    from: i64,
    tree: Tree,
}

impl Unsigned {
    /// Nothing yet since a record that is signed.
    pub(super) fn after(from: i64) -> Self {
        Self { from, tree: Tree::default() }
    }

    /// The last that is signed.
    pub(super) const fn from(&self) -> i64 {
        self.from
    }

    /// The root of the tree.
    pub(super) fn root(&self) -> Link {
        self.tree.root()
    }

    /// A record is in the journal. Those before the last checkpoint are signed already.
    pub(super) fn push(&mut self, seq: i64, digest: impl FnOnce() -> Link) {
        if seq > self.from {
            self.tree.push(&digest());
        }
    }

    /// The last record of the tree.
    fn to(&self) -> i64 {
        self.from.saturating_add_unsigned(self.tree.count())
    }

    /// Takes in what reached the disk though its commit reported an error.
    pub(super) async fn catch_up(&mut self, connection: &mut SqliteConnection) -> Result<()> {
        let signed = last_checkpoint(connection).await?.map_or(0, |checkpoint| checkpoint.head.seq);
        if signed != self.from {
            *self = Self::after(signed);
        }
        self.read_to(connection, i64::MAX).await
    }

    /// Takes in the records up to one.
    pub(super) async fn read_to(&mut self, connection: &mut SqliteConnection, last: i64) -> Result<()> {
        loop {
            let rows = sqlx::query(
                "SELECT seq, canonical, digest FROM journal WHERE seq > ? AND seq <= ? ORDER BY seq LIMIT 1024",
            )
            .bind(self.to())
            .bind(last)
            .fetch_all(&mut *connection)
            .await?;
            for row in &rows {
                let digest = match row.try_get::<Option<&[u8]>, _>(1)? {
                    Some(canonical) => chain::digest(canonical),
                    None => row.try_get::<&[u8], _>(2)?.try_into().map_err(|_| broken())?,
                };
                self.push(row.try_get(0)?, || digest);
            }
            if rows.is_empty() {
                return Ok(());
            }
        }
    }
}

/// The last checkpoint, if it bears its signature.
pub(super) async fn last_checkpoint(connection: &mut SqliteConnection) -> Result<Option<Checkpoint>> {
    let last: Option<i64> =
        sqlx::query_scalar("SELECT max(seq) FROM checkpoints").fetch_one(&mut *connection).await?;
    match last {
        Some(last) => checkpoint_from(connection, last).await,
        None => Ok(None),
    }
}

/// The first checkpoint at or after a record, if it bears its signature.
pub(super) async fn checkpoint_from(
    connection: &mut SqliteConnection,
    seq: i64,
) -> Result<Option<Checkpoint>> {
    let row = sqlx::query("SELECT canonical, signature FROM checkpoints WHERE seq >= ? ORDER BY seq LIMIT 1")
        .bind(seq)
        .fetch_optional(&mut *connection)
        .await?;
    let Some(row) = row else { return Ok(None) };
    let (canonical, signature): (&[u8], &[u8]) = (row.try_get(0)?, row.try_get(1)?);
    let wrong = || sqlx::Error::Protocol("a checkpoint does not bear its key's signature".into());
    let checkpoint = Checkpoint::decode(canonical).ok_or_else(wrong)?;
    let public: Option<Vec<u8>> = sqlx::query_scalar("SELECT public FROM signers WHERE id = ?")
        .bind(checkpoint.key.as_str())
        .fetch_optional(connection)
        .await?;
    let key = public.as_deref().and_then(PublicKey::from_bytes).ok_or_else(wrong)?;
    key.verifies(&checkpoint::signed(canonical), signature).then_some(Some(checkpoint)).ok_or_else(wrong)
}
