//! Between this node's journal and the database that nodes share.
//!
//! ```text
//! writer --> journal (this node's file, synced)
//!    |          |
//!    |          +--> ship --> database --> tail --> index        (this node, and every other)
//!    +--> confirm: answers wait a moment for the database, then go out
//! ```
//!
//! The feed has a thread and a runtime of its own, so that a database that is slow or away holds up nothing but
//! itself: choices are recorded in the file and honoured, and shipped when it is back.

mod file;
mod health;
mod ship;
mod tail;

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::sync::mpsc::SyncSender;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::{Semaphore, mpsc, oneshot, watch};
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::journal::chain::{BLINDING, Fields, Link};
use super::journal::forget::word;
use super::journal::postgres::{Database, Trouble};
use super::journal::seal::{Shared, There, shared_leaf};
use super::known::Known;
use super::merge::{Seen, merge};
use super::packed::Point;
use super::record::{Kind, Receipt, RecordView};
use super::state::State;
use super::writer::{Answer, WeakToWriter};
use super::{OpenError, RecordError};
use crate::config::{self, Names};
use crate::privacy::{Keys, Standing, Subject};
use file::Reader;
use health::Gaps;

pub use health::FeedHealth;

/// Pause after the database was found away; it doubles up to the longest.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// How long a start waits to learn whether the database can be used at all.
const FIRST_LOOK: Duration = Duration::from_secs(5);

/// How long a stop waits for records to reach the database. They stay in the file, and go with the next start.
const LAST_SHIPMENT: Duration = Duration::from_secs(2);

/// Receipts of other nodes that are looked for at once, each over a connection of its own.
const FINDING: usize = 4;

/// How long an erasure waits for records that are on their way to the database.
const ARRIVAL: Duration = Duration::from_secs(10);

/// What the writer, the handles of the store and the feed share.
#[derive(Debug)]
pub(super) struct FeedHandle {
    /// Last record on this node's disk.
    committed: watch::Sender<i64>,
    /// How far the database has them.
    shipped: watch::Sender<Shipping>,
    to_feed: mpsc::UnboundedSender<Ask>,
    seen: Mutex<Seen>,
    /// Up to which record of its own and of the others this node has weighed everything there was to weigh.
    weighed: Mutex<Option<(i64, Seen)>>,
    /// Subjects that were to be weighed once more, so far.
    rechecks: AtomicU64,
    /// Everything the database held at some moment since the start is in the index.
    loaded: AtomicBool,
    /// When the others' records were last all read, in milliseconds after `opened`; negative: never.
    heard_at: AtomicI64,
    opened: Instant,
    tail_error: Mutex<Option<String>>,
    /// Up to which record this node's file and the database agree, where the database has others after it; negative: it
    /// has not, or that is not known.
    fork: AtomicI64,
    /// Records that were to be in the database and are not.
    gaps: Mutex<Gaps>,
    /// Under which names accounts are kept here.
    names: watch::Sender<Names>,
    /// Names under which the database has opt-outs and that are gone here.
    lost_names: Mutex<Vec<String>>,
    /// Another node was heard.
    others: AtomicBool,
    /// The database took this node with its secrets.
    let_in: AtomicBool,
    /// Checks of secrets that accounts are hashed under there and that this node does not have.
    unknown_secrets: Mutex<Vec<String>>,
}

/// How far shipping has come.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Shipping {
    /// The last record that the database has.
    seq: i64,
    /// Why it cannot be written now; `None` while it can.
    error: Option<String>,
    /// It takes nothing under this node's name any more.
    fenced: bool,
}

/// What is asked of the feed.
#[derive(Debug)]
enum Ask {
    /// Answer once the database has a record, or after a moment.
    Confirm { seq: i64, answers: Vec<(Answer<Receipt>, Receipt)> },
    /// Look at every choice of a subject once more.
    Recheck(Subject),
    /// Forget whose an account's records are.
    Erase {
        subject: Subject,
        standing: Standing,
        erasure: [u8; BLINDING],
        answer: Answer<((u64, u64), Option<Link>)>,
    },
    /// Once the database has every record that this node has now, forget whose those of these accounts are.
    Untie { subjects: Vec<Subject>, answer: Answer<()> },
    /// How many other nodes have records in the database.
    Others { answer: Answer<usize> },
    /// When these accounts opted back in last, as far as the database has it.
    OptedIn { subjects: Vec<Subject>, answer: Answer<HashMap<Subject, i64>> },
    /// Where denials of these accounts that the database has came from: their policies.
    Denied { subjects: Vec<Subject>, answer: Answer<HashSet<String>> },
    /// Forget the earlier secrets there too.
    Retired { answer: Answer<()> },
    /// A record of another node.
    Find { reference: String, answer: Answer<Option<RecordView>> },
    /// Ship what is left and end.
    Close { done: oneshot::Sender<()> },
}

/// What the feed needs to begin.
pub(super) struct Start {
    pub(super) settings: config::Shared,
    pub(super) journal: PathBuf,
    pub(super) node: Arc<str>,
    pub(super) key_checks: Vec<String>,
    pub(super) keys: Keys,
    pub(super) state: Arc<State>,
    pub(super) to_writer: WeakToWriter,
    pub(super) asks: Asks,
}

/// What was asked and not yet taken.
pub(super) struct Asks(mpsc::UnboundedReceiver<Ask>);

impl FeedHandle {
    pub(super) fn new() -> (Self, Asks) {
        let (to_feed, asks) = mpsc::unbounded_channel();
        let handle = Self {
            committed: watch::Sender::new(0),
            shipped: watch::Sender::new(Shipping { seq: 0, error: None, fenced: false }),
            to_feed,
            seen: Mutex::default(),
            weighed: Mutex::default(),
            rechecks: AtomicU64::new(0),
            loaded: AtomicBool::new(false),
            heard_at: AtomicI64::new(-1),
            opened: Instant::now(),
            tail_error: Mutex::default(),
            fork: AtomicI64::new(-1),
            gaps: Mutex::default(),
            names: watch::Sender::default(),
            lost_names: Mutex::default(),
            others: AtomicBool::new(false),
            let_in: AtomicBool::new(false),
            unknown_secrets: Mutex::default(),
        };
        (handle, Asks(asks))
    }

    /// Records up to this one are on disk.
    pub(super) fn committed(&self, seq: i64) {
        self.committed.send_replace(seq);
    }

    /// Answers go out once the database has this record too, or cannot be waited for.
    pub(super) fn confirm(&self, seq: i64, answers: Vec<(Answer<Receipt>, Receipt)>) {
        if let Err(mpsc::error::SendError(Ask::Confirm { answers, .. })) =
            self.to_feed.send(Ask::Confirm { seq, answers })
        {
            send_all(answers);
        }
    }

    /// An opt-in of this node is in the index, which may have taken in an opt-out of another since it was recorded.
    pub(super) fn recheck(&self, subject: Subject) {
        self.rechecks.fetch_add(1, Ordering::Relaxed);
        // A feed that has ended takes in nothing.
        let _ = self.to_feed.send(Ask::Recheck(subject));
    }

    /// Up to which records the index is what all choices of everybody come to; `None` when that is not known.
    pub(super) fn weighed_to(&self) -> Option<(i64, Seen)> {
        self.lock_weighed().clone()
    }

    /// The index has taken in this much already.
    pub(super) fn resume_from(&self, Point { head, seen }: &Point) {
        *self.lock_weighed() = Some((head.seq, seen.clone()));
        self.lock_seen().clone_from(seen);
        self.others.store(seen.nodes() > 0, Ordering::Relaxed);
    }

    /// The record behind a normalised reference, of whichever node.
    pub(super) async fn find(&self, reference: String) -> Result<Option<RecordView>, RecordError> {
        self.ask(|answer| Ask::Find { reference, answer }).await
    }

    /// When these accounts opted back in last, on whichever node, in microseconds since the Unix epoch; nothing of those that
    /// never did.
    pub(super) async fn opted_in(
        &self,
        subjects: Vec<Subject>,
    ) -> Result<HashMap<Subject, i64>, RecordError> {
        self.ask(|answer| Ask::OptedIn { subjects, answer }).await
    }

    /// Where requests of these accounts came from that are on record as denied, on whichever node.
    pub(super) async fn denied(&self, subjects: Vec<Subject>) -> Result<HashSet<String>, RecordError> {
        self.ask(|answer| Ask::Denied { subjects, answer }).await
    }

    /// Accounts are hashed under the live secret alone from here on.
    pub(super) async fn retired(&self) -> Result<(), RecordError> {
        self.ask(|answer| Ask::Retired { answer }).await
    }

    /// How many other nodes have records in the database, whether they still run or not.
    pub(super) async fn others(&self) -> Result<usize, RecordError> {
        self.ask(|answer| Ask::Others { answer }).await
    }

    /// What the feed answers.
    async fn ask<T>(&self, ask: impl FnOnce(Answer<T>) -> Ask) -> Result<T, RecordError> {
        let (answer, answered) = oneshot::channel();
        self.to_feed.send(ask(answer)).map_err(|_| RecordError::Closed)?;
        answered.await.unwrap_or(Err(RecordError::Closed))
    }

    /// Takes what ties records to accounts out of the database; what came of it there.
    pub(super) async fn erase_all(
        &self,
        subjects: &[Subject],
        standing: impl Fn(&Subject) -> Standing,
    ) -> Result<There, RecordError> {
        let mut erasure = [0; BLINDING];
        getrandom::fill(&mut erasure).map_err(|e| RecordError::Journal(e.to_string()))?;
        let (mut leaves, mut there) = (Vec::new(), There::default());
        for subject in subjects {
            let (subject, standing) = (*subject, standing(subject));
            let (untied, leaf) = self.ask(|answer| Ask::Erase { subject, standing, erasure, answer }).await?;
            there.elsewhere += untied.0;
            there.pruned += untied.1;
            leaves.extend(leaf);
        }
        let kept = (!leaves.is_empty()).then(|| Shared::of(erasure, leaves));
        Ok(There { kept, ..there })
    }

    /// Takes what ties this node's own records to accounts out of the database once they have all arrived there.
    pub(super) async fn untie(&self, subjects: Vec<Subject>) -> Result<(), RecordError> {
        self.ask(|answer| Ask::Untie { subjects, answer }).await
    }

    /// Ships what is left, for a moment, and ends the feed.
    pub(super) async fn close(&self) {
        let (done, ended) = oneshot::channel();
        if self.to_feed.send(Ask::Close { done }).is_ok() {
            // An error means that it had ended before.
            let _ = ended.await;
        }
    }

    /// What this node has taken in of the others.
    pub(super) fn seen(&self) -> Seen {
        self.lock_seen().clone()
    }

    /// Whether the index knows what the database held at some moment since the start.
    pub(super) fn is_loaded(&self) -> bool {
        self.loaded.load(Ordering::Acquire)
    }

    fn heard_all(&self) {
        let now = i64::try_from(self.opened.elapsed().as_millis()).unwrap_or(i64::MAX);
        self.heard_at.store(now, Ordering::Relaxed);
        self.loaded.store(true, Ordering::Release);
        *self.lock_tail_error() = None;
    }

    /// Of this node's records up to one, and of what was heard, nothing is left to be weighed.
    fn set_weighed(&self, own: i64) {
        *self.lock_weighed() = Some((own, self.seen()));
    }

    fn advance(&self, node: &str, seq: i64) {
        self.lock_seen().advance(node, seq);
        self.others.store(true, Ordering::Relaxed);
    }

    /// Whether another node was heard.
    pub(super) fn has_others(&self) -> bool {
        self.others.load(Ordering::Relaxed)
    }

    /// Notes why the others cannot be heard; logs it when it is another reason than before.
    fn tail_failed(&self, trouble: &Trouble) {
        let text = trouble.to_string();
        if self.lock_tail_error().replace(text.clone()).as_ref() != Some(&text) {
            tracing::error!("records of other nodes cannot be read; what is known is honoured: {text}");
        }
    }

    /// From now on accounts are kept under these names.
    pub(super) fn names_are(&self, names: Names) {
        self.names.send_if_modified(|known| {
            let differ = *known != names;
            *known = names;
            differ
        });
    }

    fn lock_seen(&self) -> MutexGuard<'_, Seen> {
        // Whole whatever its holder was doing: one number changes at a time.
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lock_weighed(&self) -> MutexGuard<'_, Option<(i64, Seen)>> {
        // Replaced as one.
        self.weighed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lock_tail_error(&self) -> MutexGuard<'_, Option<String>> {
        self.tail_error.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Starts the thread; returns when the database was looked at: ready, away (then the node starts without it), or
/// why it will not do.
pub(super) fn spawn(start: Start) -> Result<(), OpenError> {
    let (looked, first_look) = std::sync::mpsc::sync_channel(1);
    let url = start.settings.url.to_string();
    let failed = |why: String| OpenError::Database { url: url.clone(), why };
    std::thread::Builder::new()
        .name("optgate-feed".into())
        .spawn(move || thread(start, &looked))
        .map_err(|e| failed(format!("its thread cannot start: {e}")))?;
    match first_look.recv() {
        Ok(Ok(())) => Ok(()),
        Ok(Err(Trouble::Away(why))) => {
            tracing::warn!(
                "{url} cannot be reached: {why}; accounts count as opted out until it can, signals and cookies are \
                 honoured as always"
            );
            Ok(())
        }
        Ok(Err(Trouble::Refused(why) | Trouble::Fenced(why))) => Err(failed(why)),
        Err(_) => Err(failed("its thread ended while connecting; please report this".into())),
    }
}

fn thread(start: Start, looked: &SyncSender<Result<(), Trouble>>) {
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(e) => {
            let _ = looked.send(Err(Trouble::Refused(format!("its thread cannot start: {e}"))));
            return;
        }
    };
    tokio::task::LocalSet::new().block_on(&runtime, run(start, looked));
}

async fn run(start: Start, looked: &SyncSender<Result<(), Trouble>>) {
    let Start { settings, journal, node, key_checks, keys, state, to_writer, asks } = start;
    let Some(handle) = state.feed.as_ref().map(Arc::clone) else { return };
    let first = match first_look(&settings, &key_checks).await {
        Ok(database) => {
            handle.set_let_in();
            let _ = looked.send(Ok(()));
            Some(database)
        }
        Err(Trouble::Refused(why)) => return drop(looked.send(Err(Trouble::Refused(why)))),
        Err(away) => {
            let _ = looked.send(Err(away));
            None
        }
    };
    let (ship_from, to) = (journal.clone(), (Arc::clone(&handle), to_writer));
    let shipper = ship::Shipper::new(&settings, ship_from, &node, (&key_checks, &keys), to);
    let shipping = tokio::task::spawn_local(shipper.run(first));
    let (to_tail, recheck) = mpsc::unbounded_channel();
    let tail =
        tail::Tail::new(&settings, journal.clone(), &node, (&key_checks, &keys), state, Arc::clone(&handle));
    let tailing = tokio::task::spawn_local(tail.run(recheck));
    let of = (&handle, &node, journal.as_path());
    let (done, mut answering) = serve(asks, of, &settings, (&key_checks, &keys), &to_tail).await;
    let committed = *handle.committed.borrow();
    let mut shipped = handle.shipped.subscribe();
    if timeout(LAST_SHIPMENT, shipped.wait_for(|s| s.seq >= committed)).await.is_err() {
        tracing::warn!(
            "records stay in this node's file until its next start: the database does not take them now"
        );
    }
    shipping.abort();
    tailing.abort();
    // Both are ended before anybody opens the file again.
    let _ = (shipping.await, tailing.await);
    // Who still waits has a record on this node's disk.
    handle.shipped.send_modify(|shipping| _ = shipping.error.get_or_insert_with(|| "this node stops".into()));
    let _ = timeout(LAST_SHIPMENT, async { while answering.join_next().await.is_some() {} }).await;
    done.into_iter().for_each(|done| _ = done.send(()));
}

/// Whether the database can be used at all, for a start that waits to know.
async fn first_look(settings: &config::Shared, key_checks: &[String]) -> Result<Database, Trouble> {
    let silent = || Trouble::Away(format!("no answer within {} s", FIRST_LOOK.as_secs()));
    timeout(FIRST_LOOK, open(&settings.url, key_checks, false)).await.unwrap_or_else(|_| Err(silent()))
}

/// Answers what is asked until closed; returns who waits for the end, and the answers that are under way.
async fn serve(
    Asks(mut asks): Asks,
    (handle, node, journal): (&Arc<FeedHandle>, &Arc<str>, &Path),
    settings: &config::Shared,
    (key_checks, keys): (&[String], &Keys),
    to_tail: &mpsc::UnboundedSender<Subject>,
) -> (Option<oneshot::Sender<()>>, JoinSet<()>) {
    let (mut answering, finding) = (JoinSet::new(), Arc::new(Semaphore::new(FINDING)));
    while let Some(ask) = asks.recv().await {
        // Those that are done.
        while answering.try_join_next().is_some() {}
        match ask {
            Ask::Confirm { seq, answers } => {
                let (mut shipped, within) = (handle.shipped.subscribe(), settings.confirm_within);
                answering.spawn_local(async move {
                    // On this node's disk it is already: whatever becomes of the wait, it is recorded.
                    let _ = timeout(within, shipped.wait_for(|s| s.seq >= seq || s.error.is_some())).await;
                    // ... but on a node that is fenced it never leaves that disk, and must not be called saved.
                    let why = Some(shipped.borrow().clone()).filter(|s| s.fenced && s.seq < seq);
                    match why.and_then(|shipping| shipping.error) {
                        Some(why) => refuse_all(answers, &why),
                        None => send_all(answers),
                    }
                });
            }
            Ask::Recheck(subject) => drop(to_tail.send(subject)),
            Ask::Find { reference, answer } => {
                let Ok(turn) = Arc::clone(&finding).try_acquire_owned() else {
                    let why = "too many receipts of other nodes are looked for just now; try again";
                    drop(answer.send(Err(RecordError::Journal(why.into()))));
                    continue;
                };
                let (url, key_checks) = (settings.url.clone(), key_checks.to_owned());
                spawn_answer(&mut answering, answer, async move {
                    let _turn = turn;
                    find(&url, &key_checks, &reference).await
                });
            }
            Ask::Others { answer } => {
                let (url, key_checks, node) = (settings.url.clone(), key_checks.to_owned(), Arc::clone(node));
                spawn_answer(&mut answering, answer, async move { others(&url, &key_checks, &node).await });
            }
            Ask::OptedIn { subjects, answer } => {
                let (url, keys) = (settings.url.clone(), keys.clone());
                spawn_answer(&mut answering, answer, async move {
                    Database::connect(&url).await?.opted_in(&subjects, &keys).await
                });
            }
            Ask::Denied { subjects, answer } => {
                let url = settings.url.clone();
                spawn_answer(&mut answering, answer, async move {
                    Database::connect(&url).await?.denied(&subjects).await
                });
            }
            Ask::Retired { answer } => {
                let (url, key_checks) = (settings.url.clone(), key_checks.to_owned());
                spawn_answer(&mut answering, answer, async move { retired(&url, &key_checks).await });
            }
            Ask::Erase { subject, standing, erasure, answer } => {
                let (url, key_checks) = (settings.url.clone(), key_checks.to_owned());
                let (node, keys, journal) = (Arc::clone(node), keys.clone(), journal.to_owned());
                spawn_answer(&mut answering, answer, async move {
                    let of = (&*node, journal.as_path());
                    erase((&url, &key_checks, &keys), of, (subject, standing), &erasure).await
                });
            }
            Ask::Untie { subjects, answer } => {
                let (url, node, handle) = (settings.url.clone(), Arc::clone(node), Arc::clone(handle));
                spawn_answer(
                    &mut answering,
                    answer,
                    async move { untie(&url, &node, &handle, &subjects).await },
                );
            }
            Ask::Close { done } => return (Some(done), answering),
        }
    }
    (None, answering)
}

/// Has a question answered beside the others.
fn spawn_answer<T: 'static>(
    answering: &mut JoinSet<()>,
    answer: Answer<T>,
    found: impl Future<Output = Result<T, Trouble>> + 'static,
) {
    // Whoever asked may not wait any more.
    answering.spawn_local(async move { drop(answer.send(found.await.map_err(RecordError::from))) });
}

/// A connection for one question: receipts of other nodes are asked for seldom.
async fn find(
    url: &config::DatabaseUrl,
    key_checks: &[String],
    reference: &str,
) -> Result<Option<RecordView>, Trouble> {
    let mut database = Database::connect(url).await?;
    // A reference names nobody, under whichever secret.
    database.check(key_checks, true).await?;
    let canonical = database.find(reference).await?;
    let view = canonical.as_deref().and_then(Fields::decode).map(|fields| fields.view());
    Ok(view.filter(|view| view.reference == reference))
}

async fn others(url: &config::DatabaseUrl, key_checks: &[String], node: &str) -> Result<usize, Trouble> {
    let others = open(url, key_checks, false).await?.others(node).await?;
    Ok(others.iter().filter(|(_, last)| *last > 0).count())
}

async fn retired(url: &config::DatabaseUrl, key_checks: &[String]) -> Result<(), Trouble> {
    let live = key_checks.first().map_or("", String::as_str);
    open(url, key_checks, false).await?.retire_secrets(live).await
}

/// Erases an account from every node's records. It is kept as opted out where this node or the database knows it so:
/// a node that has not heard the others yet may not know. How many records were untied, whole ones that this node's file
/// will not say and pruned ones, and what is kept, as its leaf.
async fn erase(
    (url, key_checks, keys): (&config::DatabaseUrl, &[String], &Keys),
    (node, journal): (&str, &Path),
    (subject, standing): (Subject, Standing),
    erasure: &[u8; BLINDING],
) -> Result<((u64, u64), Option<Link>), Trouble> {
    let mut reader = Reader::open(journal).await.map_err(unreadable)?;
    let (own, last) = reader.tied_to(&subject).await.map_err(unreadable)?;
    let mut database = open(url, key_checks, false).await?;
    let told = database.told(&subject, keys).await?;
    let stood =
        merge(&told).iter().fold(Known::default(), |known, (kind, source)| known.after(*kind, *source));
    let out = stood.is(Kind::OptOut);
    let kept = if out { word(Standing::OptedOut) } else { word(standing) };
    let untied = database.erase(&subject, (node, &own, last), (kept, erasure)).await?;
    Ok((untied, kept.map(|word| shared_leaf(subject.as_bytes(), word, erasure))))
}

/// Erases accounts from a node's own records when all of those that it has now have arrived.
async fn untie(
    url: &config::DatabaseUrl,
    node: &str,
    handle: &FeedHandle,
    subjects: &[Subject],
) -> Result<(), Trouble> {
    let last = *handle.committed.borrow();
    let mut shipped = handle.shipped.subscribe();
    if timeout(ARRIVAL, shipped.wait_for(|s| s.seq >= last)).await.is_err() {
        let why =
            "records of the account may still be on their way there; erase it again once they have arrived";
        return Err(Trouble::Away(why.into()));
    }
    Database::connect(url).await?.untie(node, last, subjects).await
}

/// Connects, and brings the schema up to date. `let_in`: as [`Database::migrate`].
async fn open(url: &config::DatabaseUrl, key_checks: &[String], let_in: bool) -> Result<Database, Trouble> {
    let mut database = Database::connect(url).await?;
    database.migrate(key_checks, let_in).await?;
    Ok(database)
}

fn send_all(answers: Vec<(Answer<Receipt>, Receipt)>) {
    // Whoever stopped waiting has its record all the same.
    answers.into_iter().for_each(|(answer, receipt)| drop(answer.send(Ok(receipt))));
}

fn refuse_all(answers: Vec<(Answer<Receipt>, Receipt)>, why: &str) {
    answers.into_iter().for_each(|(answer, _)| drop(answer.send(Err(RecordError::Journal(why.to_owned())))));
}

/// The pause before another try.
fn longer(pause: Duration) -> Duration {
    (pause * 2).min(LONGEST_PAUSE)
}

fn unreadable(error: sqlx::Error) -> Trouble {
    Trouble::Away(format!("this node's journal cannot be read: {error}"))
}
