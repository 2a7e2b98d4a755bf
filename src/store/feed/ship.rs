//! Brings this node's records to the database, in their order.

use std::cell::RefCell;
use std::collections::HashSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep, timeout};

use super::file::Reader;
use super::{FIRST_PAUSE, FeedHandle, Shipping, longer, open, unreadable};
use crate::config::{self, DatabaseUrl};
use crate::privacy::Keys;
use crate::store::journal::believed::vouch;
use crate::store::journal::postgres::{Database, Shipped, Trouble, twins};
use crate::store::writer::WeakToWriter;

/// With nothing to ship, how often the database is asked what it has.
const LOOK: Duration = Duration::from_secs(1);

/// Records that are counted at once, to see whether some are gone.
const STRETCH: i64 = 65_536;

/// Between two signs of this node that its replica must come to know.
const BEAT: Duration = Duration::from_secs(5);

/// Between two looks for what this node has pruned, and for what of it is gone.
const FORGET: Duration = Duration::from_secs(3_600);

/// The one that ships.
pub(super) struct Shipper {
    url: DatabaseUrl,
    /// The others are read from a replica.
    replica: bool,
    journal: PathBuf,
    node: Arc<str>,
    key_checks: Vec<String>,
    keys: Keys,
    handle: Arc<FeedHandle>,
    to_writer: WeakToWriter,
    /// Pruned records that were told of already: a database that does not take them is tried again and again.
    told: RefCell<HashSet<i64>>,
}

impl Shipper {
    pub(super) fn new(
        settings: &config::Shared,
        journal: PathBuf,
        node: &Arc<str>,
        (key_checks, keys): (&[String], &Keys),
        (handle, to_writer): (Arc<FeedHandle>, WeakToWriter),
    ) -> Self {
        Self {
            url: settings.url.clone(),
            replica: settings.read_url.is_some(),
            journal,
            node: Arc::clone(node),
            key_checks: key_checks.to_owned(),
            keys: keys.clone(),
            handle,
            to_writer,
            told: RefCell::default(),
        }
    }

    /// Ships for as long as it is let, over a first connection if there is one.
    pub(super) async fn run(self, first: Option<Database>) {
        let (mut ready, mut pause) = (first, FIRST_PAUSE);
        loop {
            let opened = match ready.take() {
                Some(database) => Ok(database),
                None => open(&self.url, &self.key_checks, self.handle.is_let_in()).await,
            };
            if opened.is_ok() {
                self.handle.set_let_in();
            }
            let ended = match opened {
                Ok(database) => {
                    pause = FIRST_PAUSE;
                    self.ship(database).await
                }
                Err(trouble) => trouble,
            };
            self.failed(&ended);
            sleep(pause).await;
            pause = longer(pause);
        }
    }

    /// Ships over one connection until that fails.
    async fn ship(&self, mut database: Database) -> Trouble {
        let shipped = async {
            let mut reader = Reader::open(&self.journal).await.map_err(unreadable)?;
            let mut seq = match database.shipped(&self.node).await? {
                None => 0,
                // What the database has decides, not what was acknowledged: it may have lost its last moments.
                Some((seq, chain))
                    if reader.chain(seq).await.map_err(unreadable)?.as_ref() == Some(&chain) =>
                {
                    seq
                }
                Some(_) => return Err(twins(&self.node)),
            };
            let mut committed = self.handle.committed.subscribe();
            let mut names = self.handle.names.subscribe();
            names.mark_changed();
            let mut forgotten = None;
            let mut beat = None;
            self.handle.forget_beat();
            loop {
                self.reached(seq);
                if self.replica && beat.is_none_or(|at: Instant| at.elapsed() > BEAT) {
                    self.handle.beat(database.beat(&self.node).await?);
                    beat = Some(Instant::now());
                }
                if forgotten.is_none_or(|at: Instant| at.elapsed() > FORGET) {
                    self.keep_accounts(&mut reader, &mut database).await?;
                    self.fill_up((&mut reader, &mut database), seq).await?;
                    self.forget(&mut reader, &mut database).await?;
                    forgotten = Some(Instant::now());
                }
                if names.has_changed().unwrap_or(false) {
                    let kept = names.borrow_and_update().kept.clone();
                    database.note_names(&kept).await?;
                }
                match timeout(LOOK, committed.wait_for(|last| *last > seq)).await {
                    Ok(Ok(_)) => {}
                    Ok(Err(_)) => return Err(Trouble::Away("the writer has ended".into())),
                    // A database that failed over may have lost its last moments; nobody else would notice.
                    Err(_) => {
                        seq = self.still_at(&mut reader, &mut database, seq).await?;
                        continue;
                    }
                }
                let batch = self.batch(&mut reader, seq).await?;
                self.tell_pruned(&batch).await?;
                database.append(&self.node, &batch).await?;
                seq = batch.last().map_or(seq, |last| last.seq);
            }
        };
        let ended: Result<std::convert::Infallible, Trouble> = shipped.await;
        match ended {
            Ok(never) => match never {},
            Err(trouble) => trouble,
        }
    }

    /// A page of records after a number, as they go to the database.
    async fn batch(&self, reader: &mut Reader, after: i64) -> Result<Vec<Shipped>, Trouble> {
        let mut batch = reader.after(after).await.map_err(unreadable)?;
        batch.iter_mut().for_each(|record| vouch(record, &self.node, &self.keys));
        Ok(batch)
    }

    /// Sends records again that were in the database, up to a number, and are not any more: whoever reads them there would
    /// miss opt-outs.
    ///
    /// Cost: a count of [`STRETCH`] rows for each so many records, over their index.
    async fn fill_up(
        &self,
        (reader, database): (&mut Reader, &mut Database),
        to: i64,
    ) -> Result<(), Trouble> {
        let (mut after, mut sent) = (0, 0);
        while after < to {
            let end = to.min(after + STRETCH);
            if database.count(&self.node, (after, end)).await? < end - after {
                let mut at = after;
                while at < end {
                    let batch = self.batch(reader, at).await?;
                    let Some(last) = batch.last().map(|last| last.seq) else { break };
                    let there =
                        database.which(&self.node, batch.iter().map(|record| record.seq).collect()).await?;
                    let gone = |record: &Shipped| record.seq <= end && !there.contains(&record.seq);
                    let batch: Vec<_> = batch.into_iter().filter(gone).collect();
                    self.tell_pruned(&batch).await?;
                    sent += database.send_again(&self.node, batch).await?;
                    at = last;
                }
            }
            after = end;
        }
        if sent > 0 {
            tracing::warn!(
                records = sent,
                "records of this node had gone from the shared database, and were sent again"
            );
        }
        Ok(())
    }

    /// Notes in the journal, before they go, how many records of a batch are pruned: the database cannot tell whose they
    /// were, and whoever counts there must know that no hand took that from them.
    async fn tell_pruned(&self, batch: &[Shipped]) -> Result<(), Trouble> {
        let pruned = batch.iter().filter(|record| record.canonical.is_none()).map(|record| record.seq);
        let new: Vec<i64> = pruned.filter(|seq| !self.told.borrow().contains(seq)).collect();
        if !new.is_empty() {
            let told = self.to_writer.note_sent(new.len() as u64).await;
            told.map_err(|error| Trouble::Away(format!("pruned records cannot go there yet: {error}")))?;
            self.told.borrow_mut().extend(new);
        }
        Ok(())
    }

    /// Has the database keep the accounts that this node keeps by their hash alone and of whom nothing is there: a record
    /// that is pruned here does not say any more whose it was, as its row there did, unless that was lost, or a hand took
    /// it. Before rows go there again, so that who takes those in finds them.
    ///
    /// Cost: for each account that is kept a look into two indexes of the database.
    async fn keep_accounts(&self, reader: &mut Reader, database: &mut Database) -> Result<(), Trouble> {
        let mut row = 0;
        while let Some((accounts, last)) = reader.kept(row).await.map_err(unreadable)? {
            database.keep(accounts).await?;
            row = last;
        }
        Ok(())
    }

    /// What this node's journal has pruned, the database prunes as well.
    async fn forget(&self, reader: &mut Reader, database: &mut Database) -> Result<(), Trouble> {
        let mut after = 0;
        loop {
            let page = reader.pruned(after).await.map_err(unreadable)?;
            let Some(last) = page.last() else { return Ok(()) };
            after = last.seq;
            let others = database.prune(&self.node, &page, &self.keys).await?;
            if let Some(first) = others.first() {
                tracing::error!(
                    records = others.len(),
                    "record {first} of this node, and maybe more, was changed in the shared database before it was pruned \
                     there: `ledger export --all-nodes` tells. Whoever opted out in it is honoured by this node's word"
                );
            }
        }
    }

    /// The last record of this node in the database, which had them up to `seq`.
    async fn still_at(&self, reader: &mut Reader, database: &mut Database, seq: i64) -> Result<i64, Trouble> {
        match database.shipped(&self.node).await? {
            Some((last, _)) if last == seq => {
                // A table that was emptied, or lost its end, has not the last.
                if seq > 0 && database.chain(&self.node, seq).await?.is_none() {
                    self.keep_accounts(reader, database).await?;
                    self.fill_up((reader, database), seq).await?;
                }
                Ok(seq)
            }
            // The process that took over from this one ships from the same file; anybody else has another.
            Some((last, chain)) if last > seq => {
                match reader.chain(last).await.map_err(unreadable)? == Some(chain) {
                    true => Ok(last),
                    false => Err(twins(&self.node)),
                }
            }
            None if seq == 0 => Ok(0),
            _ => Err(Trouble::Away("it has lost records of this node, which go again".into())),
        }
    }

    fn reached(&self, seq: i64) {
        let before = self.handle.shipped.send_replace(Shipping { seq, error: None, fenced: false });
        if before.error.is_some() {
            tracing::info!("the database takes records again");
        }
    }

    fn failed(&self, trouble: &Trouble) {
        let text = trouble.to_string();
        let seq = self.handle.shipped.borrow().seq;
        // Until it is known to be over: a connection that fails in between says nothing of it.
        let fenced = matches!(trouble, Trouble::Fenced(_)) || self.handle.shipped.borrow().fenced;
        let before = self.handle.shipped.send_replace(Shipping { seq, error: Some(text.clone()), fenced });
        if before.error.as_ref() != Some(&text) {
            tracing::error!("records are kept in this node's file only: {text}");
        }
    }
}
