//! The one thread that writes: takes what is queued, commits it as one group, then answers.
//!
//! Order is kept: records reach the journal in the order they were handed over, also after an
//! outage, so the journal's last word on an account is the person's last word.

use std::collections::VecDeque;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::time::Duration;

use futures_util::FutureExt as _;
use jiff::Timestamp;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender};
use tokio::sync::oneshot;
use tokio::time::error::Elapsed;
use tokio::time::{Instant, timeout_at};

use super::index::Index;
use super::journal::chain::{Account, Fields, Head};
use super::journal::forget::{Erased, Pruned, PrunedPage};
use super::journal::sqlite::{Fold, Found, Journal, Key};
use super::lending::{self, Lent, Next};
use super::look;
use super::merge::Seen;
use super::packed::{Packed, Packer, Point};
use super::record::{Change, Kind, Receipt, RecordView, Source};
use super::state::State;
use super::{OpenError, RecordError};
use crate::privacy::{Standing, Subject};

/// Records of one commit at most.
const GROUP: usize = 1024;

/// How long records that nobody waits for may gather company: a commit costs as much as some hundred records.
const LINGER: Duration = Duration::from_millis(25);

/// Pause after a failed commit; it doubles up to the longest.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

pub(super) type Answer<T> = oneshot::Sender<Result<T, RecordError>>;

/// A record, and whether it is signed.
pub(super) type Checked = Option<(RecordView, bool)>;

/// What a handle asks of the writer; see [`ToWriter`].
pub(super) enum Command {
    /// Write a change; `answer` after it is durable.
    Record(Waiting),
    /// Look a record up.
    Read { key: Key, answer: Answer<Option<RecordView>> },
    /// Look a record up and hold it against what was signed.
    Check { reference: String, answer: Answer<Checked> },
    /// Prune every record before a time, or only say which would be.
    Prune { before_us: i64, dry_run: bool, answer: Answer<Pruned> },
    /// An account of an earlier secret was recorded under the live one just before.
    Carried(Subject),
    /// Have the journal need the live secret only; the answer is how many opted-out accounts stand against it.
    Retire { answer: Answer<u64> },
    /// Take what ties records to these accounts out of the journal.
    Erase { subjects: Vec<Subject>, answer: Answer<Erased> },
    /// Flush, close and unlock for another process; what comes then waits until `lent` decides.
    Lend { lent: Answer<Lent> },
    /// Flush and end; `done` after the file is closed and unlocked.
    Close { done: oneshot::Sender<()> },
}

impl Command {
    /// Whether somebody waits for it. What nobody waits for gathers company, and wakes no thread.
    const fn is_urgent(&self) -> bool {
        !matches!(self, Self::Record(Waiting { answer: None, .. }) | Self::Carried(_))
    }
}

/// The way to the writer.
pub(super) struct ToWriter {
    inbox: UnboundedSender<Command>,
    state: Arc<State>,
}

impl ToWriter {
    pub(super) const fn new(inbox: UnboundedSender<Command>, state: Arc<State>) -> Self {
        Self { inbox, state }
    }

    /// Hands a command over; whether there is somebody who takes it.
    pub(super) fn send(&self, command: Command) -> bool {
        let urgent = command.is_urgent();
        let sent = self.inbox.send(command).is_ok();
        if urgent {
            self.state.urgent.notify_one();
        }
        sent
    }
}

/// A change on its way to the journal, and who waits for it.
pub(super) struct Waiting {
    pub(super) change: Change,
    pub(super) answer: Option<Answer<Receipt>>,
}

impl Waiting {
    /// Its record is on disk: the index hears of it. What nobody waits for was claimed before.
    pub(super) fn settle(&self, seq: i64, state: &State) {
        let Change { subject: Some(subject), kind, source, .. } = self.change else { return };
        match self.answer {
            Some(_) => state.settle(subject, kind, source, seq),
            None => state.settle_claimed(subject, kind, source, seq),
        }
    }
}

/// What the writer needs to begin.
pub(super) struct Start {
    pub(super) journal: PathBuf,
    pub(super) key_checks: Vec<String>,
    /// The file of the key that signs.
    pub(super) signing_key: PathBuf,
    /// Time between two checkpoints.
    pub(super) checkpoint: Duration,
    /// How long records are kept whole; `None` for ever.
    pub(super) retention: Option<Duration>,
    /// Changes after which the index is written to its file again; `None`: never.
    pub(super) pack_after: Option<u64>,
    /// The file whose lock is held while the journal is open.
    pub(super) lock_file: PathBuf,
    pub(super) lock: File,
    pub(super) state: Arc<State>,
    pub(super) inbox: UnboundedReceiver<Command>,
}

/// Starts the thread; returns when the index is loaded, with the node's name, or why it cannot be.
pub(super) fn spawn(start: Start) -> Result<Arc<str>, OpenError> {
    let (ready, opened) = sync_channel(1);
    let path = start.journal.display().to_string();
    let failed = |why: String| OpenError::Journal { path: path.clone(), why };
    std::thread::Builder::new()
        .name("optgate-journal".into())
        .spawn(move || thread(start, &ready))
        .map_err(|e| failed(format!("its thread cannot start: {e}")))?;
    opened.recv().unwrap_or_else(|_| Err(failed("its thread ended while loading; please report this".into())))
}

fn thread(start: Start, ready: &SyncSender<Result<Arc<str>, OpenError>>) {
    let Start {
        journal,
        key_checks,
        signing_key,
        checkpoint,
        retention,
        pack_after,
        lock_file,
        lock,
        state,
        inbox,
    } = start;
    let _guard = DeadGuard(Arc::clone(&state));
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(e) => {
            let path = journal.display().to_string();
            let _ =
                ready.send(Err(OpenError::Journal { path, why: format!("its thread cannot start: {e}") }));
            return;
        }
    };
    let ended = runtime.block_on(async {
        let opened = load(&journal, &key_checks, &signing_key, (&state, pack_after)).await?;
        let _ = ready.send(Ok(Arc::clone(opened.journal.node())));
        let mut writer = Writer::new(opened, (checkpoint, retention), Arc::clone(&state), inbox);
        let mut lock = lock;
        loop {
            let (inbox, lent) = match writer.run().await {
                Ended::Closed(done) => return Ok((done, Some(lock))),
                Ended::Lent { inbox, lent } => (inbox, lent),
            };
            drop(lock);
            match Lent::until_decided(lent).await {
                Next::Forward(peer) => return Ok((lending::forward(inbox, &state, &peer).await, None)),
                Next::TakeBack => {
                    let reopen = async || {
                        let lock = super::lock(&lock_file)?;
                        Ok((load(&journal, &key_checks, &signing_key, (&state, pack_after)).await?, lock))
                    };
                    let (opened, inbox, again) = match lending::take_back(inbox, &state, reopen).await {
                        Ok(((opened, again), inbox)) => (opened, inbox, again),
                        Err(done) => return Ok((done, None)),
                    };
                    lock = again;
                    writer = Writer::new(opened, (checkpoint, retention), Arc::clone(&state), inbox);
                }
            }
        }
    });
    drop(runtime);
    match ended {
        Ok((done, lock)) => {
            // Only now may somebody be told that it is over: they may open the folder again at once.
            drop(lock);
            done.into_iter().for_each(|done| _ = done.send(()));
        }
        Err(error) => drop(ready.send(Err(error))),
    }
}

/// A journal that was folded into the index, and who writes the index's file.
struct Opened {
    journal: Journal,
    packer: Packer,
}

/// Opens the journal and folds it into the index.
async fn load(
    path: &Path,
    key_checks: &[String],
    signing_key: &Path,
    (state, pack_after): (&Arc<State>, Option<u64>),
) -> Result<Opened, OpenError> {
    let mut loading = Loading::new(path, state, pack_after);
    let journal = Journal::open(path, key_checks, signing_key, &mut loading).await?;
    let resumed = loading.resumed;
    state.records.store(journal.len(), Ordering::Relaxed);
    state.open.store(true, Ordering::Relaxed);
    if let Some(feed) = &state.feed {
        feed.committed(journal.last());
        // What a file says of other nodes holds for the records that it says it of.
        if let Some(point) = &resumed {
            feed.has_seen(point);
        }
    }
    if resumed.is_some() {
        look::over(path, state);
    }
    Ok(Opened { packer: Packer::new(path, pack_after, resumed.is_some()), journal })
}

/// A start: the file of the index, if it is of this journal, then the journal.
struct Loading<'a> {
    state: &'a State,
    packed: Option<Packed>,
    /// What the file told, once it is in the index.
    resumed: Option<Point>,
}

impl<'a> Loading<'a> {
    fn new(path: &Path, state: &'a State, pack_after: Option<u64>) -> Self {
        // Taken back from another process, the index knows more than its file.
        let wanted = pack_after.is_some() && state.index.len() == 0;
        let packed = wanted.then(|| Packed::open(path)).flatten();
        // What other nodes told holds among them only.
        let fits = |packed: &Packed| state.feed.is_some() || packed.point.seen == Seen::default();
        Self { state, packed: packed.filter(fits), resumed: None }
    }
}

impl Fold for Loading<'_> {
    fn known_to(&self) -> Option<Head> {
        self.packed.as_ref().map(|packed| packed.point.head)
    }

    fn resume(&mut self) -> bool {
        let Some(packed) = self.packed.take() else { return false };
        let point = packed.point.clone();
        match packed.load(&self.state.index) {
            Ok(()) => self.resumed = Some(point),
            Err(error) => {
                tracing::warn!(%error, "index.packed cannot be used; the whole journal is read instead")
            }
        }
        self.resumed.is_some()
    }

    fn stood(&mut self, subject: Subject, standing: Standing, seq: i64) {
        self.state.index.stood(subject, standing, seq);
    }

    fn record(&mut self, fields: &Fields<'_>, account: Account) {
        if let (Account::Known(subject), Some(kind), Some(source)) =
            (account, Kind::parse(fields.kind), Source::parse(fields.signal))
        {
            // What is known already must not be gone through again, as if the person were choosing anew.
            let later = self.state.index.settle_later(subject, kind, source, fields.seq);
            if later && self.resumed.is_some() {
                self.state.is_taken(subject, kind);
            }
        }
    }

    fn suppressed(&mut self, subject: Subject, standing: Standing, seq: i64) {
        self.state.index.suppress(subject, standing, seq);
    }
}

/// What is pruned is known no longer than a start would know it.
fn forget_pruned(page: &PrunedPage, index: &Index, packer: &mut Packer) {
    page.gone.iter().for_each(|(subject, seq)| index.pruned(*subject, *seq));
    if page.pruned.records > 0
        && let Err(error) = packer.discard()
    {
        tracing::warn!(%error, "index.packed cannot be removed; it is written anew");
    }
}

async fn close_journal(journal: Journal, state: &State) {
    state.open.store(false, Ordering::Relaxed);
    if let Err(error) = journal.close().await {
        tracing::warn!(%error, "the journal was not closed cleanly; it will recover when opened");
    }
}

/// Whatever ends the thread, health must not go on saying that the journal can write.
struct DeadGuard(Arc<State>);

impl Drop for DeadGuard {
    fn drop(&mut self) {
        self.0.set_journal_error(Some("the writer has ended".into()));
    }
}

/// Why a writer stopped working.
enum Ended {
    /// For good; these wait for the end.
    Closed(Vec<oneshot::Sender<()>>),
    /// Another process has the journal; what is in the inbox waits.
    Lent { inbox: UnboundedReceiver<Command>, lent: Answer<Lent> },
}

/// The round through the journal, once a day, that prunes what is too old.
struct Sweep {
    keep: Duration,
    /// When to go on, or to begin the next.
    next: Instant,
    /// The record it stands at.
    after: i64,
    pruned: Pruned,
}

/// Time between two writes of counts.
const MINUTE: Duration = Duration::from_secs(60);

/// Time between two rounds.
const DAY: Duration = Duration::from_secs(86_400);

impl Sweep {
    fn new(keep: Duration) -> Self {
        Self { keep, next: Instant::now(), after: 0, pruned: Pruned::default() }
    }

    /// Records before this are too old, in microseconds since the Unix epoch.
    fn before_us(&self) -> i64 {
        let keep = i64::try_from(self.keep.as_micros()).unwrap_or(i64::MAX);
        Timestamp::now().as_microsecond().saturating_sub(keep)
    }

    fn over(&mut self, now: Instant) {
        let Pruned { records, held, .. } = std::mem::take(&mut self.pruned);
        if records > 0 {
            tracing::info!(records, held, "records older than store.retention are pruned");
        }
        (self.after, self.next) = (0, now + DAY);
    }
}

/// What somebody asked to be forgotten, and who.
enum Forget {
    Before(Pruning),
    Accounts { subjects: Vec<Subject>, answer: Answer<Erased> },
    Secrets { answer: Answer<u64> },
}

/// A round through the journal that somebody asked for: a page at a time, so that whoever opts out meanwhile does not
/// wait for all of it.
struct Pruning {
    before_us: i64,
    dry_run: bool,
    /// The record it stands at.
    after: i64,
    pruned: Pruned,
    answer: Answer<Pruned>,
}

struct Writer {
    journal: Journal,
    packer: Packer,
    /// Time between two checkpoints, and when the next is due if there is anything to sign.
    checkpoint: (Duration, Instant),
    retention: Option<Sweep>,
    /// When to write the counts, if there are any.
    counts: Instant,
    forget: Vec<Forget>,
    /// Accounts of earlier secrets that were recorded anew.
    carried: Vec<Subject>,
    state: Arc<State>,
    inbox: UnboundedReceiver<Command>,
    queue: VecDeque<Waiting>,
    reads: Vec<(Key, Answer<Option<RecordView>>)>,
    checks: Vec<(String, Answer<Checked>)>,
    done: Vec<oneshot::Sender<()>>,
    lend: Option<Answer<Lent>>,
    /// Somebody waits for what was taken last.
    pressing: bool,
    ended: bool,
    /// Set while the journal cannot write: when to try again, and the pause that led there.
    retry: Option<(Instant, Duration)>,
}

impl Writer {
    fn new(
        Opened { journal, packer }: Opened,
        (checkpoint, retention): (Duration, Option<Duration>),
        state: Arc<State>,
        inbox: UnboundedReceiver<Command>,
    ) -> Self {
        Self {
            journal,
            packer,
            checkpoint: (checkpoint, Instant::now() + checkpoint),
            retention: retention.map(Sweep::new),
            counts: Instant::now() + MINUTE,
            forget: Vec::new(),
            carried: Vec::new(),
            state,
            inbox,
            queue: VecDeque::new(),
            reads: Vec::new(),
            checks: Vec::new(),
            done: Vec::new(),
            lend: None,
            pressing: false,
            ended: false,
            retry: None,
        }
    }

    /// Works until closed, lent or until every handle is gone.
    async fn run(mut self) -> Ended {
        while !self.ended {
            self.gather().await;
            self.commit_all().await;
            self.answer_reads().await;
            if self.checkpoint_due().is_some_and(|at| at <= Instant::now()) {
                self.sign().await;
            }
            self.note_carried().await;
            if self.counts <= Instant::now() {
                self.write_counts().await;
            }
            self.sweep().await;
            self.forget().await;
            self.pack(true).await;
            match self.lend.take() {
                Some(lent) if self.queue.is_empty() && !self.ended => {
                    self.note_carried().await;
                    self.write_counts().await;
                    self.sign().await;
                    self.pack(false).await;
                    self.packer.wait();
                    close_journal(self.journal, &self.state).await;
                    return Ended::Lent { inbox: self.inbox, lent };
                }
                Some(lent) => drop(lent.send(Err(RecordError::Journal("it cannot write".into())))),
                None => {}
            }
        }
        self.inbox.close();
        while let Ok(command) = self.inbox.try_recv() {
            self.take(command);
        }
        self.commit_all().await;
        self.answer_reads().await;
        // Only records that nobody waits for are still here, and only if the journal cannot write.
        self.state.count_overflow(self.queue.len() as u64);
        self.note_carried().await;
        self.write_counts().await;
        self.sign().await;
        self.pack(false).await;
        self.packer.wait();
        close_journal(self.journal, &self.state).await;
        Ended::Closed(self.done)
    }

    /// Waits for work: until somebody waits for an answer, a group is full, [`LINGER`] is over, or it
    /// is time to try again.
    async fn gather(&mut self) {
        self.take_available();
        if self.queue.is_empty() && self.retry.is_none() && !self.is_called() {
            match self.first().await {
                Ok(Some(command)) => self.take(command),
                Ok(None) => self.ended = true,
                Err(_) => return,
            }
        }
        // A call that was answered already is used up, and only then looked whether there is another.
        while self.state.urgent.notified().now_or_never().is_some() {}
        self.take_available();
        if !self.is_called() {
            let until = self.retry.map_or_else(|| Instant::now() + LINGER, |(at, _)| at);
            let _ = timeout_at(until, self.state.urgent.notified()).await;
            self.take_available();
        }
    }

    /// The next command; an error when there is something else to do first.
    async fn first(&mut self) -> Result<Option<Command>, Elapsed> {
        match self.next_chore() {
            None => Ok(self.inbox.recv().await),
            Some(at) => timeout_at(at, self.inbox.recv()).await,
        }
    }

    /// Whether what was taken waits for nothing more.
    fn is_called(&self) -> bool {
        self.pressing || self.ended || (self.retry.is_none() && self.queue.len() >= GROUP)
    }

    /// When to sign; `None` while there is nothing to sign, or signing would fail.
    fn checkpoint_due(&self) -> Option<Instant> {
        (self.retry.is_none() && self.journal.has_unsigned()).then_some(self.checkpoint.1)
    }

    /// When there is something to do that nobody asked for.
    fn next_chore(&self) -> Option<Instant> {
        let sweep = self.retention.as_ref().map(|sweep| sweep.next);
        let counts = (self.retry.is_none() && !self.state.counts.is_empty()).then_some(self.counts);
        [self.checkpoint_due(), sweep, counts].into_iter().flatten().min()
    }

    /// Writes the counts of the last minute, or keeps them for when it can.
    async fn write_counts(&mut self) {
        if self.retry.is_some() {
            return;
        }
        self.counts = Instant::now() + MINUTE;
        let lines = self.state.counts.take();
        if lines.is_empty() {
            return;
        }
        let before_us = self.retention.as_ref().map_or(i64::MIN, Sweep::before_us);
        if let Err(error) = self.journal.count(&lines, before_us.div_euclid(60_000_000)).await {
            self.state.counts.put_back(lines);
            self.failed(&error);
        }
    }

    /// Prunes a page of what is older than it may be kept, if that is due: records go first.
    async fn sweep(&mut self) {
        let now = Instant::now();
        let Some(sweep) = self.retention.as_mut().filter(|sweep| sweep.next <= now) else { return };
        if self.retry.is_some() {
            sweep.next = now + LONGEST_PAUSE;
            return;
        }
        let before_us = sweep.before_us();
        let index = &self.state.index;
        let page = self.journal.prune_page(sweep.after, before_us, &|s| index.last_word(s), false).await;
        match page {
            Ok(page) => {
                sweep.pruned.add(&page.pruned);
                forget_pruned(&page, index, &mut self.packer);
                match page.last {
                    Some(last) => sweep.after = last,
                    None => sweep.over(now),
                }
            }
            Err(error) => {
                sweep.next = now + LONGEST_PAUSE;
                self.failed(&error);
            }
        }
    }

    /// Notes whose earlier hash is not needed any more: once every record that stands for it is on disk.
    async fn note_carried(&mut self) {
        if self.carried.is_empty() || !self.queue.is_empty() || self.retry.is_some() {
            return;
        }
        match self.journal.carried(&self.carried).await {
            Ok(()) => self.carried.clear(),
            Err(error) => self.failed(&error),
        }
    }

    /// Has the journal need the live secret only, unless opted-out accounts are known under others alone.
    async fn retire(&mut self) -> Result<u64, sqlx::Error> {
        let left = self.journal.under_earlier_secrets().await?;
        let left = left.iter().filter(|subject| self.state.index.standing(subject).is_out()).count() as u64;
        if left == 0 {
            self.journal.retire().await?;
        }
        Ok(left)
    }

    /// What somebody asked to be forgotten.
    async fn forget(&mut self) {
        for order in std::mem::take(&mut self.forget) {
            let told = |error: sqlx::Error| RecordError::Journal(error.to_string());
            match order {
                Forget::Before(pruning) => self.prune(pruning).await,
                Forget::Secrets { answer } => drop(answer.send(self.retire().await.map_err(told))),
                Forget::Accounts { subjects, answer } => {
                    drop(answer.send(self.erase(&subjects).await.map_err(told)));
                }
            }
        }
    }

    /// Prunes the next page, and answers after the last.
    async fn prune(&mut self, mut pruning: Pruning) {
        let Pruning { before_us, dry_run, after, .. } = pruning;
        let index = &self.state.index;
        let page = match self.journal.prune_page(after, before_us, &|s| index.last_word(s), dry_run).await {
            Ok(page) => page,
            Err(error) => {
                return drop(pruning.answer.send(Err(RecordError::Journal(error.to_string()))));
            }
        };
        if !dry_run {
            forget_pruned(&page, index, &mut self.packer);
        }
        pruning.pruned.add(&page.pruned);
        match page.last {
            Some(last) => {
                pruning.after = last;
                self.forget.push(Forget::Before(pruning));
                self.pressing = true;
            }
            None => drop(pruning.answer.send(Ok(pruning.pruned))),
        }
    }

    async fn erase(&mut self, subjects: &[Subject]) -> Result<Erased, sqlx::Error> {
        let mut erased = Erased::default();
        self.packer.discard()?;
        for subject in subjects {
            let (standing, by) = self.state.index.last_word(subject);
            let (one, seq) = self.journal.erase(subject, (standing, by)).await?;
            self.state.index.suppress(*subject, standing, seq);
            erased.records += one.records;
            erased.first_format += one.first_format;
            erased.suppressed |= one.suppressed;
        }
        Ok(erased)
    }

    /// Has the index written to its file beside the work, if that is worth it; `growing`: more will come.
    async fn pack(&mut self, growing: bool) {
        let taken = self.state.taken.load(Ordering::Relaxed);
        let pruning = !self.forget.is_empty() || self.retention.as_ref().is_some_and(|sweep| sweep.after > 0);
        if self.retry.is_some() || pruning || !self.packer.is_due(taken, &self.state.index, growing) {
            return;
        }
        let point = match &self.state.feed {
            None => Some(Point { head: self.journal.head(), seen: Seen::default() }),
            Some(feed) => match feed.weighed_to() {
                Some((seq, seen)) => {
                    self.journal.head_at(seq).await.ok().flatten().map(|head| Point { head, seen })
                }
                None => None,
            },
        };
        if let Some(point) = point {
            self.packer.begin(taken, point, &self.state);
        }
    }

    /// Signs what came since the last checkpoint. A journal that cannot write is signed later.
    async fn sign(&mut self) {
        if self.retry.is_some() {
            return;
        }
        self.checkpoint.1 = Instant::now() + self.checkpoint.0;
        if let Err(error) = self.journal.checkpoint(Timestamp::now().as_microsecond()).await {
            self.failed(&error);
        }
    }

    /// Fills the group with what is already there. While the journal cannot write, takes everything:
    /// whoever waits is to be told, however many records are kept.
    fn take_available(&mut self) {
        while (self.retry.is_some() || self.queue.len() < GROUP)
            && let Ok(command) = self.inbox.try_recv()
        {
            self.take(command);
        }
    }

    fn take(&mut self, command: Command) {
        match command {
            Command::Record(waiting) => {
                self.pressing |= waiting.answer.is_some();
                self.queue.push_back(waiting);
            }
            Command::Read { key, answer } => {
                self.pressing = true;
                self.reads.push((key, answer));
            }
            Command::Check { reference, answer } => {
                self.pressing = true;
                self.checks.push((reference, answer));
            }
            Command::Carried(subject) => self.carried.push(subject),
            Command::Retire { answer } => {
                self.pressing = true;
                self.forget.push(Forget::Secrets { answer });
            }
            Command::Prune { before_us, dry_run, answer } => {
                self.pressing = true;
                let (after, pruned) = (0, Pruned::default());
                self.forget.push(Forget::Before(Pruning { before_us, dry_run, after, pruned, answer }));
            }
            Command::Erase { subjects, answer } => {
                self.pressing = true;
                self.forget.push(Forget::Accounts { subjects, answer });
            }
            Command::Lend { lent } => {
                self.pressing = true;
                self.lend = Some(lent);
            }
            Command::Close { done } => {
                self.ended = true;
                self.done.push(done);
            }
        }
    }

    async fn commit_all(&mut self) {
        self.pressing = false;
        if self.queue.is_empty() && self.retry.is_some_and(|(at, _)| at <= Instant::now()) {
            match self.journal.probe().await {
                Ok(()) => {
                    self.settle_found();
                    self.recovered();
                }
                Err(error) => self.failed(&error),
            }
        }
        while !self.queue.is_empty() {
            let started = Instant::now();
            let size = self.queue.len().min(GROUP);
            let now_us = Timestamp::now().as_microsecond();
            let group = self.queue.iter().take(size).map(|w| &w.change);
            let weighed = group.clone().any(|change| change.kind.is_weighed());
            let seen = self.state.feed.as_ref().filter(|_| weighed).map(|feed| feed.seen());
            match self.journal.append(now_us, group, seen.as_ref()).await {
                Ok(receipts) => {
                    self.settle_found();
                    self.state.committed(started.elapsed(), size);
                    self.recovered();
                    self.answer(receipts);
                }
                Err(error) => return self.failed(&error),
            }
            self.take_available();
        }
    }

    /// The group at the front is on disk: first the index, then the answers.
    ///
    /// With a database that nodes share, answers go out when it has the group too, or cannot be waited for.
    fn answer(&mut self, receipts: Vec<Receipt>) {
        let (feed, mut confirmed) = (self.state.feed.clone(), Vec::new());
        let last = receipts.last().map_or(0, |receipt| receipt.seq);
        let group = self.queue.drain(..receipts.len());
        for (waiting, receipt) in group.zip(receipts) {
            waiting.settle(receipt.seq, &self.state);
            self.state.backlog.fetch_sub(1, Ordering::Relaxed);
            match waiting.answer {
                Some(answer) if feed.is_some() => confirmed.push((answer, receipt)),
                // Whoever stopped waiting has its record all the same.
                Some(answer) => drop(answer.send(Ok(receipt))),
                None => drop(self.state.behind.fetch_sub(1, Ordering::Relaxed)),
            }
        }
        if let Some(feed) = feed {
            feed.committed(last);
            if !confirmed.is_empty() {
                feed.confirm(last, confirmed);
            }
        }
    }

    /// Records whose commit reported an error and that are on disk all the same: whoever waited was told otherwise, but
    /// the index says what the journal says.
    fn settle_found(&mut self) {
        let found = self.journal.take_found();
        self.state.records.fetch_add(found.len() as u64, Ordering::Relaxed);
        for Found { subject, kind, source, seq } in found {
            if let (Some(subject), Some(kind), Some(source)) = (subject, kind, source) {
                self.state.settle(subject, kind, source, seq);
            }
        }
    }

    fn recovered(&mut self) {
        if self.retry.take().is_some() {
            self.state.set_journal_error(None);
            tracing::info!("the journal can write again");
        }
    }

    /// Tells everybody who waits; keeps what nobody waits for, to try again.
    fn failed(&mut self, error: &sqlx::Error) {
        let text = error.to_string();
        if self.state.set_journal_error(Some(text.clone())).as_ref() != Some(&text) {
            tracing::error!(%error, "the journal cannot write; opt-outs are honoured and kept to be recorded");
        }
        let pause = self.retry.map_or(FIRST_PAUSE, |(_, last)| (last * 2).min(LONGEST_PAUSE));
        self.retry = Some((Instant::now() + pause, pause));
        let mut kept = VecDeque::with_capacity(self.queue.len());
        for Waiting { change, answer } in self.queue.drain(..) {
            match answer {
                Some(answer) => {
                    self.state.backlog.fetch_sub(1, Ordering::Relaxed);
                    drop(answer.send(Err(RecordError::Journal(text.clone()))));
                }
                None => kept.push_back(Waiting { change, answer: None }),
            }
        }
        self.queue = kept;
    }

    async fn answer_reads(&mut self) {
        for (key, answer) in std::mem::take(&mut self.reads) {
            let read = self.journal.read(&key).await;
            drop(answer.send(read.map_err(|e| RecordError::Journal(e.to_string()))));
        }
        for (reference, answer) in std::mem::take(&mut self.checks) {
            let checked = self.journal.check(&reference).await;
            drop(answer.send(checked.map_err(|e| RecordError::Journal(e.to_string()))));
        }
    }
}
