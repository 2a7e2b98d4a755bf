//! Takes in what other nodes recorded.

use std::collections::HashSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use sqlx::postgres::PgListener;
use tokio::sync::mpsc;
use tokio::time::{sleep, timeout};

use super::file::Reader;
use super::{FIRST_PAUSE, Line, longer, unreadable};
use crate::config;
use crate::privacy::{Standing, Subject};
use crate::store::journal::postgres::{CHANNEL, Database, Heard, Trouble};
use crate::store::merge::merge;
use crate::store::state::State;

/// The one that listens.
pub(super) struct Tail {
    settings: config::Shared,
    journal: PathBuf,
    node: Arc<str>,
    key_checks: Vec<String>,
    state: Arc<State>,
    line: Arc<Line>,
    /// Subjects whose choices must be weighed against each other, because one of them is no opt-out.
    doubtful: HashSet<Subject>,
    /// How many of them were asked for.
    rechecked: u64,
}

/// What one connection needs.
struct Sources {
    database: Database,
    reader: Reader,
    listener: Option<PgListener>,
}

impl Tail {
    pub(super) fn new(
        settings: &config::Shared,
        journal: PathBuf,
        node: &Arc<str>,
        key_checks: &[String],
        state: Arc<State>,
        line: Arc<Line>,
    ) -> Self {
        let (settings, key_checks) = (settings.clone(), key_checks.to_owned());
        Self {
            settings,
            journal,
            node: Arc::clone(node),
            key_checks,
            state,
            line,
            doubtful: HashSet::new(),
            rechecked: 0,
        }
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
            self.line.tail_failed(&ended);
            sleep(pause).await;
            pause = longer(pause);
        }
    }

    async fn connect(&self) -> Result<Sources, Trouble> {
        let url = self.settings.read_url.as_ref().unwrap_or(&self.settings.url);
        let mut database = Database::connect(url).await?;
        database.check(&self.key_checks).await?;
        for subject in database.suppressed().await? {
            self.state.index.hear_suppressed(subject);
        }
        let reader = Reader::open(&self.journal).await.map_err(unreadable)?;
        let listener = match self.settings.listen && self.settings.read_url.is_none() {
            false => None,
            true => {
                let mut listener = PgListener::connect(url.as_str()).await?;
                listener.listen(CHANNEL).await?;
                Some(listener)
            }
        };
        Ok(Sources { database, reader, listener })
    }

    /// Reads all there is, then whenever something may have come, until the connection fails.
    async fn listen(
        &mut self,
        mut sources: Sources,
        recheck: &mut mpsc::UnboundedReceiver<Subject>,
    ) -> Trouble {
        loop {
            // What was to be weighed once more for records up to here was asked for before they counted as committed.
            let (own, asked) = (*self.line.committed.borrow(), self.line.rechecks.load(Ordering::Relaxed));
            while let Ok(subject) = recheck.try_recv() {
                self.doubt(subject);
            }
            if let Err(trouble) = self.take_all(&mut sources).await {
                return trouble;
            }
            if self.rechecked == asked && self.doubtful.is_empty() {
                self.line.is_weighed(own);
            }
            self.line.heard_all();
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

    /// A subject is to be weighed once more.
    fn doubt(&mut self, subject: Subject) {
        self.rechecked += 1;
        self.doubtful.insert(subject);
    }

    async fn take_all(&mut self, sources: &mut Sources) -> Result<(), Trouble> {
        // Nobody but this task takes in more.
        let seen = self.line.seen();
        for (node, last) in sources.database.others(&self.node).await? {
            let mut after = seen.of(&node);
            while after < last {
                let page = sources.database.records(&node, after).await?;
                let Some(end) = page.last() else { break };
                after = end.seq;
                self.take(&page);
                self.line.advance(&node, after);
            }
        }
        for subject in self.doubtful.iter().copied().collect::<Vec<_>>() {
            if self.weigh(sources, subject).await? {
                self.doubtful.remove(&subject);
            }
        }
        Ok(())
    }

    /// An opt-out counts at once. Where something else was chosen as well, all choices of the person are weighed after.
    fn take(&mut self, page: &[Heard]) {
        self.state.taken.fetch_add(page.len() as u64, Ordering::Relaxed);
        for (subject, kind, source) in page.iter().filter_map(|record| record.choice) {
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
        let mut told = sources.database.told(&subject).await?;
        let shipped = told.iter().filter(|t| *t.node == *self.node).map(|t| t.seq).max().unwrap_or(0);
        let (own, last) = sources.reader.told(&self.node, &subject, shipped).await.map_err(unreadable)?;
        told.extend(own);
        Ok(self.state.index.weighed(subject, &merge(&told), last))
    }
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
