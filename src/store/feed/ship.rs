//! Brings this node's records to the database, in their order.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep, timeout};

use super::file::Reader;
use super::{FIRST_PAUSE, Line, Shipping, longer, open, unreadable};
use crate::config::{self, DatabaseUrl};
use crate::store::journal::postgres::{Database, Trouble, twins};

/// With nothing to ship, how often the database is asked what it has.
const LOOK: Duration = Duration::from_secs(1);

/// Between two looks for what this node has pruned.
const FORGET: Duration = Duration::from_secs(3_600);

/// The one that ships.
pub(super) struct Shipper {
    url: DatabaseUrl,
    journal: PathBuf,
    node: Arc<str>,
    key_checks: Vec<String>,
    line: Arc<Line>,
}

impl Shipper {
    pub(super) fn new(
        settings: &config::Shared,
        journal: PathBuf,
        node: &Arc<str>,
        key_checks: &[String],
        line: Arc<Line>,
    ) -> Self {
        Self {
            url: settings.url.clone(),
            journal,
            node: Arc::clone(node),
            key_checks: key_checks.to_owned(),
            line,
        }
    }

    /// Ships for as long as it is let, over a first connection if there is one.
    pub(super) async fn run(self, first: Option<Database>) {
        let (mut ready, mut pause) = (first, FIRST_PAUSE);
        loop {
            let opened = match ready.take() {
                Some(database) => Ok(database),
                None => open(&self.url, &self.key_checks).await,
            };
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
            let mut committed = self.line.committed.subscribe();
            let mut names = self.line.names.subscribe();
            names.mark_changed();
            let mut forgotten = None;
            loop {
                self.reached(seq);
                if forgotten.is_none_or(|at: Instant| at.elapsed() > FORGET) {
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
                let batch = reader.after(seq).await.map_err(unreadable)?;
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

    /// What this node's journal has pruned, the database prunes as well.
    async fn forget(&self, reader: &mut Reader, database: &mut Database) -> Result<(), Trouble> {
        let mut after = 0;
        loop {
            let (seqs, digests) = reader.pruned(after).await.map_err(unreadable)?;
            let Some(last) = seqs.last() else { return Ok(()) };
            after = *last;
            database.prune(&self.node, &seqs, &digests).await?;
        }
    }

    /// The last record of this node in the database, which had them up to `seq`.
    async fn still_at(&self, reader: &mut Reader, database: &mut Database, seq: i64) -> Result<i64, Trouble> {
        match database.shipped(&self.node).await? {
            Some((last, _)) if last == seq => Ok(seq),
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
        let before = self.line.shipped.send_replace(Shipping { seq, error: None, fenced: false });
        if before.error.is_some() {
            tracing::info!("the database takes records again");
        }
    }

    fn failed(&self, trouble: &Trouble) {
        let text = trouble.to_string();
        let seq = self.line.shipped.borrow().seq;
        // Until it is known to be over: a connection that fails in between says nothing of it.
        let fenced = matches!(trouble, Trouble::Fenced(_)) || self.line.shipped.borrow().fenced;
        let before = self.line.shipped.send_replace(Shipping { seq, error: Some(text.clone()), fenced });
        if before.error.as_ref() != Some(&text) {
            tracing::error!("records are kept in this node's file only: {text}");
        }
    }
}
