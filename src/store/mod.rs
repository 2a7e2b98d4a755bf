//! Opt-outs: a memory index to ask, a journal to be sure.
//!
//! [`Store::lookup`] reads memory only. [`Store::record`] answers after the record is on disk;
//! [`Store::record_behind`] never waits. One writer thread commits in groups; no sqlx call happens on
//! an edge core, only a message and a oneshot.
//!
//! ```text
//! record --------> bound --+
//!                          +--> queue --> writer thread --> journal (commit, sync) --> index --> answer
//! record_behind -> index --+                  |
//!                  bound                      +-- cannot write: waiting callers are told, the rest is kept
//! ```
//!
//! With a database that nodes share, the feed brings this node's records there and takes in those of the others.
//!
//! A data folder holds `journal.sqlite3`, `journal.mark`, `index.packed`, `secret.key`, `signing.key`, `lock`,
//! `third-parties.json` and `recipients.sqlite3`, and belongs to one process.

pub mod adopt;
mod backup;
mod beside;
mod bound;
mod collector;
mod counts;
mod feed;
pub mod files;
pub mod import;
mod index;
mod journal;
mod keys;
mod known;
mod lately;
mod lending;
mod look;
mod manifest;
mod merge;
mod names;
mod packed;
mod place;
pub mod proof;
pub mod recipients;
mod record;
mod reference;
mod rotation;
mod signing;
mod stall;
mod state;
mod third_parties;
mod writer;

use std::fs::{File, OpenOptions, TryLockError};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use futures_util::future;
use tokio::sync::mpsc;
use tokio::sync::oneshot;

use crate::config;
use crate::privacy::{Basis, Keys, Standing, Subject};

pub use backup::{backup, restore};
pub use beside::{
    chain_at, counts, evidence, export, export_shared, has_records_of, held_records, holds, inclusion,
    public_key, record, require_journal,
};
pub use collector::StoreCollector;
pub use counts::Count;
pub use feed::FeedHealth;
pub use journal::forget::{Erased, Pruned};
pub use journal::hold::{Hold, HoldOrder};
pub use lending::{Forwarded, Lent};
pub use names::orphans;
pub use record::{Change, DENIED, Denial, Held, Kind, Receipt, RecordView, Source};
pub use rotation::{
    KeyLine, KeyUse, forget_earlier_secrets, key_lines, live_secret, new_signer, prepare_secret,
    rotate_secret, rotate_signer,
};
pub use signing::PublicKey;
pub use state::Health;
pub use third_parties::{ThirdParties, ThirdParty};

use bound::Bound;
use counts::Became;
use journal::seal::There;
use journal::sqlite::Key;
use journal::tied::{tied_to, under_earlier};
use place::Place;
use recipients::Recipients;
use state::State;
use writer::{Answer, Command, Outlived, ToWriter, Waiting};

/// The journal's file name.
const JOURNAL: &str = "journal.sqlite3";
/// The secret's file name.
const SECRET: &str = "secret.key";
/// The signing key's file name.
const SIGNING: &str = "signing.key";
/// The socket over which commands reach the server that has the folder.
const SOCKET: &str = "books.sock";
/// The file whose lock says that a process uses the folder.
const LOCK: &str = "lock";

/// Why a change could not be recorded.
#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    /// Flood protection: honoured and counted, but no row.
    #[error("more new records than the configured rate")]
    Flood,
    /// The journal cannot write now.
    #[error("the journal cannot write: {0}")]
    Journal(String),
    /// What an order names is not there.
    #[error("the journal has no {0}")]
    NotThere(String),
    /// Other nodes recorded accounts, and under which secret each is hashed is not known here.
    #[error(
        "{0} other nodes have records in the shared database, and this one does not know which of their accounts are known \
         under an earlier secret alone: those would be lost; leave the earlier secrets in secret.key"
    )]
    Shared(usize),
    /// The store is shutting down. What was asked may have been begun.
    #[error("the store is closed")]
    Closed,
    /// An upgrade gave the store to another process before what was asked was begun: that one may be asked.
    #[error("another process has the store now")]
    HandedOver,
    /// An upgrade gave the store to another process while records were pruned.
    #[error(
        "another process has the store now; {0} records were pruned until then, prune again for the rest"
    )]
    HalfPruned(u64),
}

/// Why the store could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The data folder cannot be used.
    #[error("{path}: {why}")]
    Folder {
        /// Which.
        path: String,
        /// Why.
        why: String,
    },
    /// The journal cannot be used: corrupt, locked by another process, or from a newer version.
    #[error("{path}: {why}")]
    Journal {
        /// Which.
        path: String,
        /// Why, and what to do.
        why: String,
    },
    /// A server, or a command, has the data folder.
    #[error(
        "{path}: another optgate uses this data folder; stop it, or give this one its own with --data-dir"
    )]
    InUse {
        /// The file that it has locked.
        path: String,
    },
    /// The database that nodes share cannot be used.
    #[error("{url}: {why}")]
    Database {
        /// Which, without its password.
        url: String,
        /// Why, and what to do.
        why: String,
    },
    /// An export's receiver would not take a record.
    #[error("the export could not be written: {0}")]
    Output(#[source] std::io::Error),
}

/// Handle to the store; cheap to clone.
#[derive(Clone)]
pub struct Store(Arc<Shared>);

impl std::fmt::Debug for Store {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Store")
    }
}

struct Shared {
    state: Arc<State>,
    to_writer: ToWriter,
    keys: Keys,
    /// Of the live secret.
    key_check: String,
    /// Of the others, in the order of their keys.
    other_checks: Vec<String>,
    bound: Bound,
    third_parties: ThirdParties,
    recipients: Recipients,
    place: Place,
    /// Records that may wait without anybody waiting for them.
    queue: usize,
    opened: Instant,
    /// How long somebody waits for a record.
    patience: Duration,
}

impl Store {
    /// Opens (or creates) the journal in a data folder, starts the writer thread, loads the index.
    /// Returns once everything is loaded.
    ///
    /// Blocks for the time of reading the file of the index and what came after it, or the whole journal: call it
    /// before serving.
    ///
    /// # Errors
    /// Names the file and says what to do.
    pub fn open(data_dir: &Path, limits: &config::Store) -> Result<Self, OpenError> {
        keys::make_folder(data_dir)?;
        let lock_file = data_dir.join(LOCK);
        let lock = lock(&lock_file)?;
        let journal = data_dir.join(JOURNAL);
        let secret_path = data_dir.join(SECRET);
        if secret_path.exists() && !journal.exists() {
            tracing::warn!(path = %journal.display(), "there is a secret but no journal; beginning an empty one");
        }
        let secret = keys::load_or_create(&secret_path, journal.exists())?;
        let no_thread = |error: std::io::Error| OpenError::Folder {
            path: data_dir.display().to_string(),
            why: format!("no thread can be started: {error}"),
        };
        let third_parties = ThirdParties::open(data_dir).map_err(no_thread)?;
        let recipients = Recipients::open(data_dir, &secret.keys).map_err(no_thread)?;
        let (line, asks) = limits.shared.as_ref().map(|_| feed::Line::new()).unzip();
        let state = Arc::new(State::new(line.map(Arc::new)));
        let (to_writer, inbox) = mpsc::unbounded_channel();
        let key_checks = secret.checks;
        let key_check = key_checks.first().cloned().unwrap_or_default();
        let other_checks = key_checks.iter().skip(1).cloned().collect();
        let node = writer::spawn(writer::Start {
            journal: journal.clone(),
            key_checks: key_checks.clone(),
            sealers: packed::Sealers::of(&key_checks, &secret.keys),
            signing_key: data_dir.join(SIGNING),
            checkpoint: limits.checkpoint,
            retention: limits.retention,
            pack_after: limits.pack_after,
            lock_file,
            lock,
            state: Arc::clone(&state),
            inbox,
        })?;
        let to_writer = ToWriter::new(to_writer, Arc::clone(&state));
        let place = Place::of(journal.clone());
        if let (Some(settings), Some(asks)) = (limits.shared.clone(), asks) {
            feed::spawn(feed::Start {
                settings,
                journal,
                node,
                key_checks,
                keys: secret.keys.clone(),
                state: Arc::clone(&state),
                to_writer: to_writer.weak(),
                asks,
            })?;
        }
        Ok(Self(Arc::new(Shared {
            to_writer,
            state,
            keys: secret.keys,
            key_check,
            other_checks,
            bound: Bound::new(limits.records_per_second, limits.record_burst),
            third_parties,
            recipients,
            place,
            queue: limits.queue,
            opened: Instant::now(),
            // What other nodes are waited for is not the disk's.
            patience: stall::PATIENCE
                + limits.shared.as_ref().map_or(Duration::ZERO, |shared| shared.confirm_within),
        })))
    }

    /// The keys, generated on first start into `DATA/secret.key` (mode 0600).
    #[must_use]
    pub fn keys(&self) -> &Keys {
        &self.0.keys
    }

    /// Tells the live secret apart from others.
    #[must_use]
    pub fn key_check(&self) -> &str {
        &self.0.key_check
    }

    /// What is known about an account. Memory only: one shard's read lock and one probe.
    #[must_use]
    pub fn lookup(&self, subject: &Subject) -> Standing {
        match self.0.state.index.standing(subject) {
            out if out.is_out() => out,
            _ if !self.0.state.is_loaded() => Standing::NotLoaded,
            known => known,
        }
    }

    /// Whether another process has the journal: opt-outs that it takes are not heard of here.
    #[must_use]
    pub fn is_lent(&self) -> bool {
        self.0.state.lent.load(Ordering::Acquire)
    }

    /// What is known about an account under the secret that is live and under the others that are tried. An opt-out under
    /// any of them holds, unless this node is alone and knows an opt-in under another to be the later word. Not to be asked
    /// while [`Standing::NotLoaded`] is the answer of [`Store::lookup`].
    ///
    /// Cost: as [`Store::lookup`], for each of them.
    #[must_use]
    pub fn lookup_all(&self, live: &Subject, others: &[Subject]) -> Standing {
        self.0.state.index.together(live, others, self.is_alone()).0
    }

    /// As [`Store::lookup_all`], of the account of `live`. An opt-out that only another hash tells of is recorded under
    /// the live one; until then it holds all the same. It goes over as an import where it was one, else as carried, for
    /// nobody chose anything now; but as it arrived where it has to stand against a word under the live hash. `basis` and
    /// `policy` as for any record.
    pub fn carry(&self, others: &[Subject], live: Change) -> Standing {
        let index = &self.0.state.index;
        let Some(subject) = live.subject else { return Standing::Unknown };
        let (standing, found) = index.together(&subject, others, self.is_alone());
        if let Some((other, source)) = found {
            let source = match source {
                Source::Import => source,
                _ if index.standing(&subject) == Standing::Unknown => Source::Carried,
                _ => source,
            };
            let change = Change { kind: Kind::OptOut, source, ..live };
            // No flood: there are no more of these than accounts that opted out. If the queue is full it is
            // tried again after a restart; the opt-out holds all the same.
            if index.claim(subject, Kind::OptOut, source) {
                if self.0.enqueue(change) {
                    index.set_outlived(other);
                    // Closed, there is no next start to tell either.
                    self.0.to_writer.send(Command::Outlived(Outlived { other, by: None }));
                } else {
                    index.unclaim(subject, source);
                }
            }
        }
        standing
    }

    /// Has it noted that an account is not needed any more under these hashes, which are of earlier secrets, where what is on
    /// record of it under the live one holds whatever they say: `keys retire` would wait for them for ever.
    ///
    /// Cost: two probes each; a message where it is news.
    pub fn outlive(&self, live: &Subject, others: impl IntoIterator<Item = Subject>) {
        if self.has_others() {
            return;
        }
        let index = &self.0.state.index;
        for other in others {
            if index.outlives(live, &other, self.is_alone()) && index.set_outlived(other) {
                self.0.to_writer.send(Command::Outlived(Outlived { other, by: Some(*live) }));
            }
        }
    }

    /// Whether other nodes have records in the database that they share with this one, as far as it has heard.
    #[must_use]
    pub fn has_others(&self) -> bool {
        self.0.state.feed.as_ref().is_some_and(|feed| feed.has_others())
    }

    /// Whether the order of this node's records is that of everybody's choices.
    fn is_alone(&self) -> bool {
        self.0.state.feed.is_none()
    }

    /// Records a change, and one that is no opt-out also under the other secrets that are tried, where an opt-out stands
    /// under them that it ends or eases. All go to the writer at once, so that no later choice comes between them; where one
    /// is not recorded, an opt-out under it holds. `crowding` as in [`Store::record_crowding`].
    ///
    /// For somebody who waits for a page: what takes longer than some seconds goes on behind it, and this ends with an error.
    ///
    /// # Errors
    /// See [`RecordError`]: of the first that was not recorded, or that it takes too long.
    pub async fn record_under_all(
        &self,
        change: Change,
        others: &[Subject],
        crowding: bool,
    ) -> Result<Receipt, RecordError> {
        let under_others = self.under_others(&change, others).into_iter().map(|change| self.record(change));
        let live = async {
            match crowding {
                true => self.record_crowding(change).await,
                false => self.record(change).await,
            }
        };
        let (others, live) = self.in_time(future::join(future::join_all(under_others), live)).await?;
        others.into_iter().collect::<Result<Vec<_>, _>>()?;
        live
    }

    /// The change under the other secrets, where that is needed. Without a database that nodes share, the order of the
    /// records tells which word is the last, and nothing is.
    fn under_others(&self, change: &Change, others: &[Subject]) -> Vec<Change> {
        if self.is_alone() || change.kind == Kind::OptOut || change.subject.is_none() {
            return Vec::new();
        }
        let (live, checks) = (&self.0.key_check, self.0.other_checks.iter());
        let ended = |subject: &Subject| {
            let standing = self.0.state.index.standing(subject);
            standing.is_out() && (change.kind == Kind::OptIn || standing != Standing::Programme)
        };
        let ended = others.iter().zip(checks).filter(|(subject, _)| ended(subject));
        let under = |subject: &Subject, check: &str| {
            Change { subject: Some(*subject), ..change.clone() }.hashed_under(check, live)
        };
        ended.map(|(subject, check)| under(subject, check)).collect()
    }

    /// Records a change; resolves after it is durable. Dropping the future does not take it back.
    ///
    /// An account's own change of standing is never refused as flood; a browser's is, and a profile's
    /// ([`Basis::Profile`]), for whoever sends requests invents as many as they like. Over the bound, whoever is already in
    /// that standing gets the receipt it has.
    ///
    /// # Errors
    /// See [`RecordError`].
    pub async fn record(&self, change: Change) -> Result<Receipt, RecordError> {
        let fits = self.0.bound.take(self.0.nanos());
        self.record_if(fits, change).await
    }

    /// As [`Store::record`], for somebody who asks more often than others: half of the burst stays for those.
    ///
    /// # Errors
    /// See [`RecordError`].
    pub async fn record_crowding(&self, change: Change) -> Result<Receipt, RecordError> {
        let fits = self.0.bound.take_below_half(self.0.nanos());
        self.record_if(fits, change).await
    }

    /// Hands a change to the writer; resolves after it is durable.
    async fn hand_over(&self, change: Change) -> Result<Receipt, RecordError> {
        let (answer, answered) = oneshot::channel();
        if !self.0.hand_over(Waiting { change, answer: Some(answer) }) {
            return Err(RecordError::Closed);
        }
        answered.await.unwrap_or(Err(RecordError::Closed))
    }

    async fn record_if(&self, fits: bool, change: Change) -> Result<Receipt, RecordError> {
        let shared = &*self.0;
        if !fits {
            if let Some(subject) = change.subject
                && let Some(seq) = shared.state.index.recorded(&subject, change.kind, change.source)
                && let Some(view) = self.read(Key::Seq(seq)).await?
            {
                shared.state.count_flood();
                shared.state.counts.count(&change, Became::Known);
                return Ok(view.receipt());
            }
            if change.subject.is_none() || change.basis == Some(Basis::Profile) {
                shared.state.count_flood();
                shared.state.counts.count(&change, Became::Flood);
                return Err(RecordError::Flood);
            }
        }
        let (all, behind) = (&shared.state.backlog, &shared.state.behind);
        let waiting = all.load(Ordering::Relaxed).saturating_sub(behind.load(Ordering::Relaxed));
        if waiting >= stall::MOST_WAITING {
            return Err(RecordError::Journal("too many records wait for it".into()));
        }
        shared.state.counts.count(&change, Became::Recorded);
        if let Some(subject) = change.subject {
            // Before it is on disk: a confirmation that comes meanwhile must not overtake it.
            let now_us = jiff::Timestamp::now().as_microsecond();
            shared.state.lately.chose(subject, change.kind, change.source, now_us);
        }
        self.hand_over(change).await
    }

    /// Hands a change to the writer without waiting. The index knows an opt-out at once, an opt-in
    /// once it is durable; an overflow or flood is counted. A change of an account that is already
    /// recorded is not recorded again.
    ///
    /// Cost: without a subject one compare-and-swap and one message; with one also a shard's write
    /// lock.
    pub fn record_behind(&self, change: Change) {
        let shared = &*self.0;
        let (subject, kind, source) = (change.subject, change.kind, change.source);
        let counts = &shared.state.counts;
        if subject.is_some_and(|subject| !shared.state.index.claim(subject, kind, source)) {
            return counts.count(&change, Became::Known);
        }
        let taken = if !shared.bound.take(shared.nanos()) {
            shared.state.count_flood();
            counts.count(&change, Became::Flood);
            false
        } else {
            shared.enqueue(change)
        };
        if let (false, Some(subject), Kind::OptOut) = (taken, subject, kind) {
            shared.state.index.unclaim(subject, source);
        }
    }

    /// As [`Store::record_behind`], of a profile. Whoever sends requests invents as many of those as they like: of one that
    /// is not recorded nothing is kept, for what its browser sent opts it out each time.
    pub fn record_behind_of_profile(&self, change: Change) {
        let shared = &*self.0;
        let counts = &shared.state.counts;
        let Some(subject) = change.subject else { return };
        if !shared.state.index.would_change(&subject, change.kind, change.source) {
            return counts.count(&change, Became::Known);
        }
        if !shared.bound.take(shared.nanos()) {
            shared.state.count_flood();
            return counts.count(&change, Became::Flood);
        }
        if shared.state.behind.load(Ordering::Relaxed) >= shared.queue {
            shared.state.count_overflow(1);
            return counts.count(&change, Became::Overflow);
        }
        let (kind, source) = (change.kind, change.source);
        if !shared.state.index.claim(subject, kind, source) {
            return counts.count(&change, Became::Known);
        }
        if !shared.enqueue(change) && kind == Kind::OptOut {
            shared.state.index.unclaim(subject, source);
        }
    }

    /// Whether this very change of this account is recorded already.
    #[must_use]
    pub fn knows(&self, change: &Change) -> bool {
        let holds = |subject| self.0.state.index.holds(&subject, change.kind, change.source);
        change.subject.is_some_and(holds)
    }

    /// The last record of an account, if it is there and whole.
    ///
    /// # Errors
    /// When the journal cannot be read.
    pub async fn last_record(&self, subject: &Subject) -> Result<Option<RecordView>, RecordError> {
        match self.0.state.index.last_word(subject) {
            (_, 0) => Ok(None),
            (_, seq) => self.read(Key::Seq(seq)).await,
        }
    }

    /// Whether an account may have opted out by its own hand, or by an import, after a time (microseconds since the Unix
    /// epoch) that lies minutes back: of before this process began, anybody may have, on another node.
    ///
    /// # Errors
    /// When the journal cannot be read.
    pub async fn opted_out_since(&self, subject: &Subject, since_us: i64) -> Result<bool, RecordError> {
        let now_us = jiff::Timestamp::now().as_microsecond();
        if self.0.state.lately.out_since(subject, since_us, now_us) {
            return Ok(true);
        }
        // Another process may have the journal by now, and then nobody is opted back in here.
        let by_hand = |record: &RecordView| {
            let signals = [Source::Form, Source::Import].map(Source::as_str);
            record.kind == Kind::OptOut.as_str() && signals.contains(&record.signal.as_str())
        };
        let last = self.last_record(subject).await?.filter(by_hand);
        Ok(last.is_some_and(|record| record.time_us > since_us))
    }

    /// The record behind a reference, as a person types it: any case, with or without dashes.
    ///
    /// # Errors
    /// When the journal cannot be read.
    pub async fn find(&self, reference: &str) -> Result<Option<RecordView>, RecordError> {
        let Some(reference) = reference::normalise(reference) else { return Ok(None) };
        match (self.read(Key::Reference(reference.clone())).await?, &self.0.state.feed) {
            (None, Some(feed)) => feed.find(reference).await,
            (found, _) => Ok(found),
        }
    }

    /// As [`Store::find`], held against the chain and what was signed, where this node recorded it.
    ///
    /// # Errors
    /// When the journal, or the database that nodes share, cannot be read, or the record is not what was written.
    pub async fn check(&self, reference: &str) -> Result<Option<(RecordView, Held)>, RecordError> {
        let Some(reference) = reference::normalise(reference) else { return Ok(None) };
        let asked = reference.clone();
        let own = self.in_time(self.ask(|answer| Command::Check { reference: asked, answer })).await?;
        match (own?, &self.0.state.feed) {
            (Some((record, true)), _) => Ok(Some((record, Held::Signed))),
            (Some((record, false)), _) => Ok(Some((record, Held::Unsigned))),
            (None, Some(feed)) => Ok(feed.find(reference).await?.map(|record| (record, Held::Elsewhere))),
            (None, None) => Ok(None),
        }
    }

    /// Third parties that opted-out pages were seen to use.
    #[must_use]
    pub fn third_parties(&self) -> &ThirdParties {
        &self.0.third_parties
    }

    /// Who is told of opt-outs.
    #[must_use]
    pub fn recipients(&self) -> &Recipients {
        &self.0.recipients
    }

    /// Prunes every record of before a time (microseconds since the Unix epoch) that is not held: its bytes give
    /// way to their digest. An account whose last record goes stays opted out. `dry_run` only counts.
    ///
    /// # Errors
    /// When the journal cannot be written; what was pruned until then stays pruned.
    pub async fn prune(&self, before_us: i64, dry_run: bool) -> Result<Pruned, RecordError> {
        if !dry_run {
            self.0.recipients.prune(before_us).await?;
        }
        self.ask(|answer| Command::Prune { before_us, dry_run, answer }).await
    }

    /// Takes what ties records to these accounts out of the journal. Who is opted out stays so: of that, the
    /// account's hash and its standing are kept. With a database that nodes share, its records of all nodes first; the
    /// journals of the others are for those nodes to erase.
    ///
    /// # Errors
    /// When the journal, or the database, cannot be written; it may be asked again.
    pub async fn erase(&self, subjects: Vec<Subject>) -> Result<Erased, RecordError> {
        let there = match &self.0.state.feed {
            Some(feed) => feed.erase_all(&subjects, |subject| self.0.state.index.standing(subject)).await?,
            None => There::default(),
        };
        self.0.recipients.erase(subjects.clone()).await?;
        let of = subjects.clone();
        let tied = self.beside_writer(move |shared| tied_to(shared.place.path(), &of)).await?;
        let erased =
            self.ask(|answer| Command::Erase { subjects: subjects.clone(), tied, there, answer }).await?;
        if let Some(feed) = &self.0.state.feed {
            // What was read from the journal before, and reached the database after.
            feed.untie(subjects).await?;
        }
        Ok(erased)
    }

    /// Adds or ends a legal hold; the list as it is then.
    ///
    /// # Errors
    /// What it names is not there, or the journal cannot be written.
    pub async fn hold(&self, order: HoldOrder) -> Result<Vec<Hold>, RecordError> {
        self.ask(|answer| Command::Hold { order, answer }).await
    }

    /// Has the journal need the live secret only; answers how many opted-out accounts stand against it because
    /// they are known under an earlier one alone. With none, [`forget_earlier_secrets`] may follow.
    ///
    /// # Errors
    /// When the journal cannot be written, or other nodes have records in the database that they share.
    pub async fn retire(&self) -> Result<u64, RecordError> {
        if let Some(feed) = &self.0.state.feed {
            match feed.others().await? {
                0 => {}
                others => return Err(RecordError::Shared(others)),
            }
        }
        self.0.recipients.reseal().await?;
        // Whoever is on the way to be recorded anew is, then.
        self.ask(|answer| Command::Settle { answer }).await?;
        let find = |shared: &Shared| {
            let is_out = |subject: &Subject| shared.state.index.standing(subject).is_out();
            under_earlier(shared.place.path(), &shared.key_check, &is_out)
        };
        let earlier = self.beside_writer(find).await?;
        let left = self.ask(|answer| Command::Retire { earlier, answer }).await?;
        if let (0, Some(feed)) = (left, &self.0.state.feed) {
            feed.retired().await?;
        }
        Ok(left)
    }

    /// How the store is doing.
    #[must_use]
    pub fn health(&self) -> Health {
        self.0.state.health()
    }

    /// Looks whether the journal is still at its place; [`Health::lost`] says so from then on, and the log when that
    /// changes. Blocks for the look.
    pub fn look_at_place(&self) {
        self.0.state.found(self.0.place.lost());
    }

    /// Gives the data folder to another process: everything queued is on disk, the journal closed and
    /// unlocked. Changes that come then wait until [`Lent`] is decided; look-ups go on.
    ///
    /// # Errors
    /// When the journal cannot write now, or the store is closed.
    pub async fn lend(&self) -> Result<Lent, RecordError> {
        let lent = self.ask(|lent| Command::Lend { lent }).await?;
        self.0.third_parties.close();
        Ok(lent)
    }

    /// Takes the data folder back from a process that did not come to serve.
    pub fn take_back(&self, lent: Lent) {
        lent.take_back();
        if let Err(error) = self.0.third_parties.keep_saved() {
            tracing::error!("third-parties.json is kept in memory only: no thread can be started: {error}");
        }
    }

    /// Flushes everything queued and ends the writer thread. Later calls answer [`RecordError::Closed`].
    pub async fn close(&self) {
        let (done, ended) = oneshot::channel();
        if self.0.to_writer.send(Command::Close { done }) {
            // An error means the writer ended before it saw the message: closed all the same.
            let _ = ended.await;
        }
        if let Some(feed) = &self.0.state.feed {
            feed.close().await;
        }
        self.0.third_parties.close();
        self.0.recipients.close().await;
    }

    /// What the collector reads.
    fn state(&self) -> Arc<State> {
        Arc::clone(&self.0.state)
    }

    async fn read(&self, key: Key) -> Result<Option<RecordView>, RecordError> {
        self.in_time(self.ask(|answer| Command::Read { key, answer })).await?
    }

    /// Does something with the journal beside the writer, however long that takes.
    async fn beside_writer<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Shared) -> Result<T, OpenError> + Send + 'static,
    ) -> Result<T, RecordError> {
        let shared = Arc::clone(&self.0);
        let done = tokio::task::spawn_blocking(move || work(&shared)).await;
        done.map_err(|e| RecordError::Journal(e.to_string()))?
            .map_err(|e| RecordError::Journal(e.to_string()))
    }

    /// What the writer answers to a command.
    async fn ask<T>(&self, command: impl FnOnce(Answer<T>) -> Command) -> Result<T, RecordError> {
        let (answer, answered) = oneshot::channel();
        if !self.0.to_writer.send(command(answer)) {
            return Err(RecordError::Closed);
        }
        answered.await.unwrap_or(Err(RecordError::Closed))
    }
}

impl Shared {
    /// Nanoseconds since the store was opened; enough for 584 years.
    fn nanos(&self) -> u64 {
        u64::try_from(self.opened.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }

    /// Queues a change nobody waits for; `false` when the queue is full or the store is closed.
    ///
    /// Either way it is counted.
    fn enqueue(&self, change: Change) -> bool {
        let behind = &self.state.behind;
        let fits = behind.fetch_add(1, Ordering::Relaxed) < self.queue;
        self.state.counts.count(&change, if fits { Became::Recorded } else { Became::Overflow });
        if fits && self.hand_over(Waiting { change, answer: None }) {
            return true;
        }
        behind.fetch_sub(1, Ordering::Relaxed);
        self.state.count_overflow(1);
        false
    }

    fn hand_over(&self, waiting: Waiting) -> bool {
        // Counted first, so that the writer can never count down below nothing.
        self.state.backlog.fetch_add(1, Ordering::Relaxed);
        let sent = self.to_writer.send(Command::Record(waiting));
        if !sent {
            self.state.backlog.fetch_sub(1, Ordering::Relaxed);
        }
        sent
    }
}

/// Where a server listens for commands about its data folder.
#[must_use]
pub fn socket(data_dir: &Path) -> PathBuf {
    data_dir.join(SOCKET)
}

/// Takes the folder for this process; the system gives it back however the process ends.
fn lock(path: &Path) -> Result<File, OpenError> {
    let failed = |why: String| OpenError::Journal { path: path.display().to_string(), why };
    let file =
        OpenOptions::new().create(true).truncate(false).write(true).mode(0o600).open(path).map_err(|e| {
            failed(format!("cannot be opened: {e}; the user Optgate runs as must own its folder"))
        })?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(OpenError::InUse { path: path.display().to_string() }),
        Err(TryLockError::Error(e)) => Err(failed(format!("cannot be locked: {e}"))),
    }
}
