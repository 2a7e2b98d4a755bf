//! The accounts that are kept by their hash alone, read beside a running server and held against the records just read.

use std::path::Path;
use std::sync::mpsc::SyncSender;

use sqlx::sqlite::SqliteConnection;

use super::audit::Page;
use super::chain::Fields;
use super::kept::rows_after;
use super::replay::link_of;
use super::seal::{Left, Seals, Unsealed, unsealed};
use super::upkeep::Upkeep;
use super::{explain, refuse};
use crate::store::OpenError;
use crate::store::proof::{Bytes, Item, KeptItem};

/// What the records say of accounts that are kept by their hash alone, and those accounts.
#[derive(Default)]
pub(super) struct Sealed {
    seals: Seals,
    left: Left,
}

impl Sealed {
    /// Takes in what a record says, in order. `untied`: what tied it to an account is gone.
    pub(super) fn record(&mut self, path: &Path, item: &Item, untied: bool) -> Result<(), OpenError> {
        let Item::Record(record) = item else { return Ok(()) };
        let Some(canonical) = &record.canonical else {
            self.left.pruned += 1;
            return Ok(());
        };
        self.left.untied.extend(untied.then_some(record.seq));
        let fields = Fields::decode(&canonical.0);
        match fields.as_ref().map_or(Ok(None), Upkeep::of) {
            Ok(Some(upkeep)) => {
                self.seals.say(record.seq, &upkeep);
            }
            Ok(None) => {}
            Err(unreadable) => return Err(refuse(path, format!("record {} {unreadable}", record.seq))),
        }
        Ok(())
    }

    /// Sends those accounts as they were at record `head`, with which the records ended, and holds them against what was
    /// said. A running server may have put more of them there since, and emptied some: by records that it wrote after.
    pub(super) async fn send_kept(
        &mut self,
        path: &Path,
        connection: &mut SqliteConnection,
        head: i64,
        pages: &SyncSender<Page>,
    ) -> Result<(), OpenError> {
        let named = |e: sqlx::Error| explain(path, &e);
        let (mut last, mut latest) = (0, head);
        while let Some((rows, end)) = rows_after(connection, last).await.map_err(named)? {
            last = end;
            let mut page = Vec::with_capacity(rows.len());
            for row in rows {
                latest = latest.max(row.seal).max(row.gone.unwrap_or_default());
                if row.seal > head {
                    continue;
                }
                let gone = row.gone.filter(|gone| *gone <= head);
                self.seals.find(row.seal, gone, &row.leaf);
                page.push(Item::Kept(KeptItem { seal: row.seal, gone, leaf: Bytes(row.leaf.to_vec()) }));
            }
            if pages.send(Ok(page)).is_err() {
                return Ok(());
            }
        }
        if latest > head && link_of(connection, latest).await.map_err(named)?.is_none() {
            return Err(unsealed(path, &Unsealed::None(latest)));
        }
        if self.left.untied.len() as u64 > self.seals.untied() {
            // A server may have pruned some since they were read, and said so in a record that was read after.
            self.left.untied = still_untied(connection, &self.left.untied).await.map_err(named)?;
        }
        self.seals.check(&self.left).map_err(|why| unsealed(path, &why))
    }
}

/// Those of some records that are whole now and tied to no account.
async fn still_untied(connection: &mut SqliteConnection, seqs: &[i64]) -> sqlx::Result<Vec<i64>> {
    let mut still = Vec::new();
    for seq in seqs {
        let query = "SELECT seq FROM journal WHERE seq = ? AND subject IS NULL AND canonical IS NOT NULL";
        still.extend(sqlx::query_scalar::<_, i64>(query).bind(*seq).fetch_optional(&mut *connection).await?);
    }
    Ok(still)
}
