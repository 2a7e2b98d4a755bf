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
mod changes;
mod collector;
mod counts;
mod easing;
mod error;
mod feed;
pub mod files;
pub mod import;
mod index;
mod journal;
mod keys;
mod known;
mod lending;
mod look;
mod manifest;
mod merge;
mod names;
mod orders;
mod packed;
mod place;
pub mod proof;
mod recent_opt_outs;
pub mod recipients;
mod record;
mod reference;
mod rotation;
mod signing;
mod stall;
mod state;
mod third_parties;
pub mod time;
mod writer;

use std::fs::{File, OpenOptions, TryLockError};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use tokio::sync::mpsc;
use tokio::sync::oneshot;

use crate::config;
use crate::privacy::{Keys, Subject};

pub use backup::{backup, restore};
pub use beside::{
    chain_at, counts, evidence, export, export_shared, has_records_of, held_records, holds, inclusion,
    public_key, record, require_journal,
};
pub use collector::StoreCollector;
pub use counts::Count;
pub use easing::Level;
pub use error::{OpenError, RecordError};
pub use feed::FeedHealth;
pub use journal::forget::{Erased, Pruned};
pub use journal::hold::{Hold, HoldOrder};
pub use lending::{Forwarded, Lent};
pub use names::orphans;
pub use recent_opt_outs::{AHEAD_US, Moment};
pub use record::{Change, DENIED, Denial, Held, Kind, Receipt, RecordView, Source};
pub use rotation::{
    KeyLine, KeyUse, forget_earlier_secrets, key_lines, live_secret, new_signer, prepare_secret,
    rotate_secret, rotate_signer,
};
pub use signing::PublicKey;
pub use state::Health;
pub use third_parties::{ThirdParties, ThirdParty};

use bound::Bound;
use journal::sqlite::Key;
use place::Place;
use recipients::Recipients;
use state::State;
use writer::{Answer, Command, ToWriter};

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
        let (feed, asks) = limits.shared.as_ref().map(|_| feed::FeedHandle::new()).unzip();
        let state = Arc::new(State::new(feed.map(Arc::new)));
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

    /// Whether another process has the journal: opt-outs that it takes are not heard of here.
    #[must_use]
    pub fn is_lent(&self) -> bool {
        self.0.state.lent.load(Ordering::Acquire)
    }

    /// Whether other nodes have records in the database that they share with this one, as far as it has heard.
    #[must_use]
    pub fn has_others(&self) -> bool {
        self.0.state.feed.as_ref().is_some_and(|feed| feed.has_others())
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

    /// As [`Store::close_within`], with one try.
    pub async fn close(&self) {
        self.close_within(Duration::ZERO).await;
    }

    /// Flushes everything queued, for which a journal that cannot write is tried again for so long, and ends the writer
    /// thread. Later calls answer [`RecordError::Closed`]. Gives how many records could not be written and are lost.
    pub async fn close_within(&self, patience: Duration) -> u64 {
        let (done, ended) = oneshot::channel();
        let until = tokio::time::Instant::now() + patience;
        if self.0.to_writer.send(Command::Close { until, done }) {
            // An error means the writer ended before it saw the message: closed all the same.
            let _ = ended.await;
        }
        if let Some(feed) = &self.0.state.feed {
            feed.close().await;
        }
        self.0.third_parties.close();
        self.0.recipients.close().await;
        self.0.state.lost_at_close.load(Ordering::Relaxed)
    }

    /// What the collector reads.
    fn state(&self) -> Arc<State> {
        Arc::clone(&self.0.state)
    }

    async fn read(&self, key: Key) -> Result<Option<RecordView>, RecordError> {
        self.in_time(self.ask(|answer| Command::Read { key, answer })).await?
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
