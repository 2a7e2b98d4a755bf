//! Takes in what other nodes recorded.

use std::collections::HashSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use sqlx::postgres::PgListener;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep, timeout};

use super::file::Reader;
use super::{FIRST_PAUSE, FeedHandle, longer, unreadable};
use crate::config::{self, DatabaseUrl, Names};
use crate::privacy::{Keys, Standing, Subject};
use crate::store::journal::believed::Choice;
use crate::store::journal::postgres::{CHANNEL, Database, Heard, Trouble, timed};
use crate::store::merge::{Seen, merge};
use crate::store::names::complaint;
use crate::store::state::State;
use crate::store::time;

/// Why what is read is not what there is.
const BEHIND: &str = "the replica that `store.read_url` names does not follow the primary";

/// Between two looks at which secrets are in use.
const SECRETS: Duration = Duration::from_secs(2);

/// The one that listens.
pub(super) struct Tail {
    settings: config::Shared,
    journal: PathBuf,
    node: Arc<str>,
    key_checks: Vec<String>,
    keys: Keys,
    state: Arc<State>,
    handle: Arc<FeedHandle>,
    /// Subjects whose choices must be weighed against each other, because one of them is no opt-out.
    doubtful: HashSet<Subject>,
    /// How many of them were asked for.
    rechecked: u64,
    /// Up to which record this node's file and the database agree about it, where the database has others after it.
    fork: Option<i64>,
    /// Under which names accounts are kept here.
    names: watch::Receiver<Names>,
    /// When the secrets of all nodes were looked at.
    secrets_at: Option<Instant>,
    /// Up to which of its own pruned records this node knows what was chosen in them; `None`: all there were.
    own_pruned: Option<i64>,
}

/// What one connection needs.
struct Sources {
    database: Database,
    reader: Reader,
    listener: Option<PgListener>,
    /// Nodes that the database has records of and no line any more.
    unlisted: Vec<(String, i64)>,
}

impl Tail {
    pub(super) fn new(
        settings: &config::Shared,
        journal: PathBuf,
        node: &Arc<str>,
        (key_checks, keys): (&[String], &Keys),
        state: Arc<State>,
        handle: Arc<FeedHandle>,
    ) -> Self {
        let (settings, key_checks, keys) = (settings.clone(), key_checks.to_owned(), keys.clone());
        Self {
            settings,
            journal,
            node: Arc::clone(node),
            key_checks,
            keys,
            state,
            names: handle.names.subscribe(),
            handle,
            doubtful: HashSet::new(),
            rechecked: 0,
            fork: None,
            secrets_at: None,
            own_pruned: Some(0),
        }
    }

    /// This node's file does not say any more who opted back in by a record that is pruned, and the others' opt-outs of
    /// before would count again. The database says it: those accounts are weighed once more, after a start.
    ///
    /// Cost: a look into an index of the database for each record that is pruned.
    async fn weigh_own_pruned(&mut self, sources: &mut Sources) -> Result<(), Trouble> {
        while let Some(after) = self.own_pruned {
            let page = sources.reader.pruned(after).await.map_err(unreadable)?;
            let seqs: Vec<i64> = page.iter().map(|record| record.seq).collect();
            let last = seqs.last().copied();
            if last.is_some() {
                let chosen = sources.database.chosen(&self.node, seqs).await?;
                let out = |subject: &Subject| self.state.index.standing(subject).is_out();
                self.doubtful.extend(chosen.into_iter().filter(out));
            }
            self.own_pruned = last;
        }
        Ok(())
    }

    /// Looks whether opt-outs of other nodes are kept under names that are gone here. Cost: a few rows; where a name is
    /// missing, a read of all records.
    async fn look_at_names(&mut self, database: &mut Database) -> Result<(), Trouble> {
        let names = self.names.borrow_and_update().clone();
        let mut lost = Vec::new();
        for (name, sites) in database.names().await? {
            let blind = names.blind(&name, &sites).filter(|_| !names.kept.is_empty());
            if let Some(blind) = blind {
                let (count, silent) = database.kept_under(sites).await?;
                lost.extend(complaint(&name, &blind, count, silent));
            }
        }
        self.handle.found_lost_names(lost);
        Ok(())
    }

    /// Looks whether accounts are hashed under secrets there that this node does not have: it would know none of them.
    async fn look_at_secrets(&mut self, database: &mut Database) -> Result<(), Trouble> {
        if self.secrets_at.is_some_and(|at| at.elapsed() < SECRETS) {
            return Ok(());
        }
        self.secrets_at = Some(Instant::now());
        let mut unknown = database.secrets().await?;
        unknown.retain(|check| !self.key_checks.contains(check));
        self.handle.found_unknown_secrets(unknown);
        Ok(())
    }

    /// Listens for as long as it is let. `recheck`: subjects to be weighed once more.
    pub(super) async fn run(mut self, mut recheck: mpsc::UnboundedReceiver<Subject>) {
        let mut pause = FIRST_PAUSE;
        loop {
            let ended = match self.connect().await {
                Ok(sources) => {
                    pause = FIRST_PAUSE;
                    self.listen(sources, &mut recheck).await
                }
                Err(trouble) => trouble,
            };
            self.handle.tail_failed(&ended);
            sleep(pause).await;
            pause = longer(pause);
        }
    }

    async fn connect(&self) -> Result<Sources, Trouble> {
        let url = self.settings.read_url.as_ref().unwrap_or(&self.settings.url);
        let mut database = Database::connect(url).await?;
        database.check(&self.key_checks, self.handle.is_let_in()).await?;
        self.take_suppressed(&mut database).await?;
        let mut unlisted = database.unlisted().await?;
        unlisted.retain(|(node, _)| **node != *self.node);
        for (node, _) in &unlisted {
            self.handle.found_unlisted(node);
        }
        let reader = Reader::open(&self.journal).await.map_err(unreadable)?;
        let listener = match self.settings.listen && self.settings.read_url.is_none() {
            false => None,
            true => Some(timed(listening(url)).await?),
        };
        Ok(Sources { database, reader, listener, unlisted })
    }

    /// Accounts of which the database keeps only that they are opted out.
    async fn take_suppressed(&self, database: &mut Database) -> Result<(), Trouble> {
        for subject in database.suppressed().await? {
            self.state.index.hear_suppressed(subject);
        }
        Ok(())
    }

    /// Reads all there is, then whenever something may have come, until the connection fails.
    async fn listen(
        &mut self,
        mut sources: Sources,
        recheck: &mut mpsc::UnboundedReceiver<Subject>,
    ) -> Trouble {
        self.names.mark_changed();
        loop {
            if self.names.has_changed().unwrap_or(false)
                && let Err(trouble) = self.look_at_names(&mut sources.database).await
            {
                return trouble;
            }
            if let Err(trouble) = self.look_at_secrets(&mut sources.database).await {
                return trouble;
            }
            // What was to be weighed once more for records up to here was asked for before they counted as committed.
            let (own, asked) =
                (*self.handle.committed.borrow(), self.handle.rechecks.load(Ordering::Relaxed));
            while let Ok(subject) = recheck.try_recv() {
                self.doubt(subject);
            }
            if let Err(trouble) = self.take_all(&mut sources).await {
                return trouble;
            }
            if self.rechecked == asked && self.doubtful.is_empty() {
                self.handle.set_weighed(own);
            }
            match self.is_behind(&mut sources.database).await {
                Ok(false) => {
                    if !self.handle.is_loaded() {
                        // What was read until now may have been chosen since it was asked.
                        self.state.recent_opt_outs.begin_anew(time::now_us());
                    }
                    self.handle.heard_all();
                }
                Ok(true) => self.handle.tail_failed(&Trouble::Away(BEHIND.into())),
                Err(trouble) => return trouble,
            }
            // Until then they count as opted out.
            if let Err(trouble) = self.weigh_own_pruned(&mut sources).await {
                return trouble;
            }
            let poll = self.settings.poll;
            let came = async {
                tokio::select! {
                    subject = recheck.recv() => drop(subject.map(|subject| self.doubt(subject))),
                    lost = notified(&mut sources.listener, &self.node) => return lost,
                }
                None
            };
            // The look after the pause is what correctness rests on; a notification only comes sooner.
            if let Ok(Some(trouble)) = timeout(poll, came).await {
                return trouble;
            }
        }
    }

    /// Whether the replica that is read has stopped to follow the primary.
    async fn is_behind(&self, database: &mut Database) -> Result<bool, Trouble> {
        if self.settings.read_url.is_none() {
            return Ok(false);
        }
        let known_us = database.beaten(&self.node).await?;
        Ok(self.handle.is_behind(known_us))
    }

    /// A subject is to be weighed once more.
    fn doubt(&mut self, subject: Subject) {
        self.rechecked += 1;
        self.doubtful.insert(subject);
    }

    async fn take_all(&mut self, sources: &mut Sources) -> Result<(), Trouble> {
        self.look_for_missing(sources).await?;
        // Nobody but this task takes in more.
        let seen = self.handle.seen();
        let mut nodes = sources.database.others(&self.node).await?;
        for (node, last) in &sources.unlisted {
            if !nodes.iter().any(|(listed, _)| listed == node) {
                nodes.push((node.clone(), *last));
            }
        }
        self.look_for_less(&nodes, &seen);
        nodes.extend(self.own_elsewhere(sources).await?.map(|last| (self.node.to_string(), last)));
        for (node, last) in nodes {
            let common = self.fork.filter(|_| *node == *self.node);
            let mut after = seen.of(&node).max(common.unwrap_or(0));
            while after < last {
                let page = sources.database.records(&node, after, &self.keys).await?;
                let Some(end) = page.last().map(|end| end.seq) else {
                    // Its own line says that they were there, for they come with it. They are not taken for heard: an
                    // opt-in that is recorded here must not end what may be in them.
                    self.handle.found_gap(&node, after + 1, last);
                    break;
                };
                let mut before = after;
                for record in &page {
                    if record.seq > before + 1 {
                        self.handle.found_gap(&node, before + 1, record.seq - 1);
                    }
                    before = record.seq;
                }
                after = end;
                self.take(&node, &page);
                self.handle.advance(&node, after);
            }
        }
        for subject in self.doubtful.iter().copied().collect::<Vec<_>>() {
            if self.weigh(sources, subject).await? {
                self.doubtful.remove(&subject);
            }
        }
        Ok(())
    }

    /// Looks whether the database has fewer records of a node than it had: it was set back to an older state. A replica may
    /// only be behind another that was read before.
    fn look_for_less(&self, nodes: &[(String, i64)], seen: &Seen) {
        if self.settings.read_url.is_some() {
            return;
        }
        for (node, had) in seen.iter().filter(|(node, _)| *node != &*self.node) {
            let has = nodes.iter().find(|(listed, _)| listed == node).map_or(0, |(_, last)| *last);
            if has < had {
                self.handle.found_gap(node, has + 1, had);
            }
        }
    }

    /// Takes in records that were missing and are there again: their node sends them once more, or somebody restored them.
    ///
    /// Cost: nothing where none is missing; else a page for each stretch of them.
    async fn look_for_missing(&mut self, sources: &mut Sources) -> Result<(), Trouble> {
        for (node, from, to) in self.handle.gaps() {
            let mut page = sources.database.records(&node, from - 1, &self.keys).await?;
            page.retain(|record| record.seq <= to);
            if page.is_empty() {
                continue;
            }
            self.take(&node, &page);
            let seqs: Vec<i64> = page.iter().map(|record| record.seq).collect();
            self.handle.found_again(&node, (from, to), &seqs);
            self.take_suppressed(&mut sources.database).await?;
        }
        Ok(())
    }

    /// The last of this node's records in the database, where it has some that this node's file does not: the folder is
    /// a copy, or was set back to a backup. What they say is honoured as if another node had said it.
    async fn own_elsewhere(&mut self, sources: &mut Sources) -> Result<Option<i64>, Trouble> {
        let Some((last, chain)) = sources.database.shipped(&self.node).await? else { return Ok(None) };
        if sources.reader.chain(last).await.map_err(unreadable)? == Some(chain) {
            return Ok(None);
        }
        if self.fork.is_none() {
            // Chains that agree about a record agree about all before it.
            let (mut agree, mut differ) = (0, sources.reader.last().await.map_err(unreadable)?.min(last) + 1);
            while agree + 1 < differ {
                let middle = i64::midpoint(agree, differ);
                let there = sources.database.chain(&self.node, middle).await?;
                let here = sources.reader.chain(middle).await.map_err(unreadable)?;
                *(if there.is_some() && there == here { &mut agree } else { &mut differ }) = middle;
            }
            self.fork = Some(agree);
            self.handle.fork.store(agree, Ordering::Relaxed);
        }
        Ok(Some(last))
    }

    /// An opt-out counts at once. Where something else was chosen as well, all choices of the person are weighed after.
    fn take(&mut self, node: &str, page: &[Heard]) {
        self.state.taken.fetch_add(page.len() as u64, Ordering::Relaxed);
        let (loaded, now_us) = (self.handle.is_loaded(), time::now_us());
        for Heard { seq, choice } in page {
            let Some(Choice { subject, kind, source, unproven, .. }) = choice else { continue };
            let (subject, kind, source) = (*subject, *kind, *source);
            if *unproven {
                self.handle.found_unproven(node, *seq);
            }
            // What a start reads was chosen at any time before.
            if loaded {
                self.state.recent_opt_outs.chose((subject, kind, source), now_us, drop);
            }
            let chosen =
                matches!(self.state.index.standing(&subject), Standing::OptedIn | Standing::Programme);
            if !kind.is_weighed() {
                self.state.index.hear(subject, source);
            }
            if chosen || kind.is_weighed() {
                self.doubtful.insert(subject);
            }
        }
    }

    /// Looks at every choice of a person there is; `false` when this node recorded another meanwhile.
    async fn weigh(&self, sources: &mut Sources, subject: Subject) -> Result<bool, Trouble> {
        let mut told = sources.database.told(&subject, &self.keys).await?;
        let shipped = || told.iter().filter(|t| *t.node == *self.node).map(|t| t.seq).max().unwrap_or(0);
        let (name, after) = match self.fork {
            None => (self.node.to_string(), shipped()),
            // The same numbers are other records in the database: no node has heard of these.
            Some(fork) => (format!("{}/file", self.node), fork),
        };
        let (mut own, last) = sources.reader.told(&name, &subject, after).await.map_err(unreadable)?;
        if let Some(fork) = self.fork {
            own.iter_mut().for_each(|told| told.seen.advance(&self.node, fork));
        }
        told.extend(own);
        Ok(self.state.index.weighed(subject, &merge(&told), last))
    }
}

/// A connection that notifications come over.
async fn listening(url: &DatabaseUrl) -> Result<PgListener, Trouble> {
    let mut listener = PgListener::connect(url.as_str()).await.map_err(no_listening)?;
    listener.listen(CHANNEL).await?;
    Ok(listener)
}

/// Why nobody can listen, with what to do where a pooler stands between.
fn no_listening(error: sqlx::Error) -> Trouble {
    let text = error.to_string();
    if text.contains("unsupported startup parameter") {
        return Trouble::Refused(format!(
            "a pooler stands between and cannot pass notifications by the transaction: write `store.listen = false` (a \
             PgBouncer that pools by the session passes them with `ignore_startup_parameters = extra_float_digits`) \
             ({text})"
        ));
    }
    error.into()
}

/// Waits for a notification of another node; what was lost when that fails. For ever where none can come.
async fn notified(listener: &mut Option<PgListener>, node: &str) -> Option<Trouble> {
    let Some(listening) = listener else { return std::future::pending().await };
    loop {
        match listening.try_recv().await {
            Ok(Some(ours)) if ours.payload() == node => {}
            Ok(Some(_)) => break,
            Ok(None) => return Some(Trouble::Away("the connection for notifications was lost".into())),
            Err(error) => return Some(error.into()),
        }
    }
    // One look takes in what all of them announced.
    while listening.next_buffered().is_some() {}
    None
}
