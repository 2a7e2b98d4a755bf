//! The one thread that writes: takes what is queued, commits it as one group, then answers.
//!
//! Order is kept: records reach the journal in the order they were handed over, also after an
//! outage, so the journal's last word on an account is the person's last word.
//!
//! Here stand what may be asked of it, the thread, and the order of its work. `recovery` opens the journal and makes the
//! index; `group_commit` gathers, commits and answers; `retention` prunes, by the day and by order; `forget` carries out
//! what somebody asked to be forgotten; `maintenance` is what nobody asked for.

mod forget;
mod group_commit;
mod maintenance;
mod recovery;
mod retention;

use std::collections::VecDeque;
use std::fs::File;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::time::Duration;

use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, WeakUnboundedSender};
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::journal::forget::{Erased, Pruned};
use super::journal::hold::{Hold, HoldOrder};
use super::journal::seal::There;
use super::journal::sqlite::{Journal, Key};
use super::journal::tied::{Earlier, Tied};
use super::lending::{self, Lent, Next};
use super::merge::Seen;
use super::packed::{Packer, Sealers};
use super::recent_opt_outs::Easing;
use super::record::{Change, Receipt, RecordView};
use super::state::State;
use super::{OpenError, RecordError};
use crate::privacy::Subject;
use forget::Forget;
use maintenance::MINUTE;
use recovery::{Opened, close_journal, load};
use retention::{Pruning, Sweep};

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
    /// An account is not needed any more under the hash of an earlier secret.
    Outlived(Outlived),
    /// Answer once everything that was handed over before is on disk.
    Settle { answer: Answer<()> },
    /// Have the journal need the live secret only; the answer is how many opted-out accounts stand against it. `earlier`:
    /// those that were found in what was there before.
    Retire { earlier: Earlier, answer: Answer<u64> },
    /// Add or end a legal hold.
    Hold { order: HoldOrder, answer: Answer<Vec<Hold>> },
    /// Note that pruned records go to the database that nodes share without whose they were.
    Sent { records: u64, answer: Answer<()> },
    /// Take what ties records to these accounts out of the journal. `tied`: those that were found before.
    Erase { subjects: Vec<Subject>, tied: Tied, there: There, answer: Answer<Erased> },
    /// Flush, close and unlock for another process; what comes then waits until `lent` decides.
    Lend { lent: Answer<Lent> },
    /// Flush, for which a journal that cannot write is tried again until then, and end; `done` after the file is closed and
    /// unlocked.
    Close { until: Instant, done: oneshot::Sender<()> },
}

impl Command {
    /// Whether somebody waits for it. What nobody waits for gathers company, and wakes no thread.
    const fn is_urgent(&self) -> bool {
        !matches!(self, Self::Record(Waiting { answer: None, .. }) | Self::Outlived(_))
    }
}

/// The hash of an account under an earlier secret, which is not needed any more.
pub(super) struct Outlived {
    pub(super) other: Subject,
    /// What is on record under this one of the live secret holds in its place; `None`: its record was handed over just
    /// before.
    pub(super) by: Option<Subject>,
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

    /// A way that does not keep the writer from ending.
    pub(super) fn weak(&self) -> WeakToWriter {
        WeakToWriter { inbox: self.inbox.downgrade(), state: Arc::clone(&self.state) }
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

/// The way to the writer of who must not keep it from ending.
#[derive(Clone)]
pub(super) struct WeakToWriter {
    inbox: WeakUnboundedSender<Command>,
    state: Arc<State>,
}

impl WeakToWriter {
    /// Notes that pruned records go to the database that nodes share without whose they were; durable when it returns.
    pub(super) async fn note_sent(&self, records: u64) -> Result<(), RecordError> {
        let (answer, answered) = oneshot::channel();
        let inbox = self.inbox.upgrade().ok_or(RecordError::Closed)?;
        let to_writer = ToWriter::new(inbox, Arc::clone(&self.state));
        if !to_writer.send(Command::Sent { records, answer }) {
            return Err(RecordError::Closed);
        }
        drop(to_writer);
        answered.await.unwrap_or(Err(RecordError::Closed))
    }
}

/// A change on its way to the journal, and who waits for it.
pub(super) struct Waiting {
    pub(super) change: Change,
    pub(super) answer: Option<Answer<Receipt>>,
    /// What was known of other nodes when it was decided, where that is not when it is written.
    pub(super) seen: Option<Seen>,
    /// It ends or eases an opt-out.
    pub(super) easing: Option<Easing>,
}

impl Waiting {
    /// One that nobody waits for.
    pub(super) const fn behind(change: Change) -> Self {
        Self { change, answer: None, seen: None, easing: None }
    }

    /// Its record is on disk: the index hears of it. What nobody waits for was claimed before.
    pub(super) fn settle(&self, seq: i64, state: &State) {
        let Change { subject: Some(subject), kind, source, .. } = self.change else { return };
        if !kind.is_choice() {
            return;
        }
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
    /// Seals the index's file.
    pub(super) sealers: Sealers,
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
    let _guard = DeadGuard(Arc::clone(&start.state));
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(e) => {
            let path = start.journal.display().to_string();
            let _ =
                ready.send(Err(OpenError::Journal { path, why: format!("its thread cannot start: {e}") }));
            return;
        }
    };
    let ended = runtime.block_on(work(start, ready));
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

/// Opens the journal and works until closed, through whatever becomes of it between. Who waits for the end, and the lock
/// if it is still held.
async fn work(
    start: Start,
    ready: &SyncSender<Result<Arc<str>, OpenError>>,
) -> Result<(Vec<oneshot::Sender<()>>, Option<File>), OpenError> {
    let Start { journal, key_checks, sealers, signing_key, lock_file, mut lock, state, inbox, .. } = start;
    let pack_after = start.pack_after;
    let times = (start.checkpoint, start.retention);
    let open = async || load(&journal, &key_checks, &signing_key, (&state, &sealers, pack_after)).await;
    let opened = open().await?;
    let _ = ready.send(Ok(Arc::clone(opened.journal.node())));
    let mut writer = Writer::new(opened, times, Arc::clone(&state), inbox);
    loop {
        let (inbox, lent) = match writer.run().await {
            Ended::Closed(done) => return Ok((done, Some(lock))),
            Ended::Lent { inbox, lent } => (inbox, lent),
        };
        // Before anybody else can open it.
        state.lent.store(true, Ordering::Release);
        drop(lock);
        match Lent::until_decided(lent).await {
            Next::Forward(peer) => return Ok((lending::forward(inbox, &state, &peer).await, None)),
            Next::TakeBack => {
                let reopen = async || {
                    let lock = super::lock(&lock_file)?;
                    Ok((open().await?, lock))
                };
                let (opened, inbox, again) = match lending::take_back(inbox, &state, reopen).await {
                    Ok(((opened, again), inbox)) => (opened, inbox, again),
                    Err(done) => return Ok((done, None)),
                };
                state.lent.store(false, Ordering::Release);
                lock = again;
                writer = Writer::new(opened, times, Arc::clone(&state), inbox);
            }
        }
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

struct Writer {
    journal: Journal,
    packer: Packer,
    /// Time between two checkpoints, and when the next is due if there is anything to sign.
    checkpoint: (Duration, Instant),
    retention: Option<Sweep>,
    /// When to write the counts, if there are any.
    counts: Instant,
    forget: Vec<Forget>,
    /// Hashes under earlier secrets that are not needed once everything before is on disk.
    outlived: Vec<Outlived>,
    state: Arc<State>,
    inbox: UnboundedReceiver<Command>,
    queue: VecDeque<Waiting>,
    reads: Vec<(Key, Answer<Option<RecordView>>)>,
    checks: Vec<(String, Answer<Checked>)>,
    done: Vec<oneshot::Sender<()>>,
    /// How long what is queued may be tried again once this has ended.
    until: Option<Instant>,
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
            outlived: Vec::new(),
            state,
            inbox,
            queue: VecDeque::new(),
            reads: Vec::new(),
            checks: Vec::new(),
            done: Vec::new(),
            until: None,
            lend: None,
            pressing: false,
            ended: false,
            retry: None,
        }
    }

    /// Works until closed, lent or until every handle is gone.
    async fn run(mut self) -> Ended {
        let state = Arc::clone(&self.state);
        while !self.ended {
            self.gather().await;
            self.commit_all().await;
            // Whatever it is at from here on, records wait for it.
            let working = state.stall.begin();
            self.answer_reads().await;
            if self.checkpoint_due().is_some_and(|at| at <= Instant::now()) {
                self.sign().await;
            }
            self.note_outlived().await;
            if self.counts <= Instant::now() {
                self.write_counts().await;
            }
            self.sweep().await;
            self.forget().await;
            self.pack(true).await;
            drop(working);
            match self.lend.take() {
                Some(lent) if self.queue.is_empty() && !self.ended => {
                    self.forget.drain(..).for_each(Forget::break_off);
                    self.bring_up_to_date().await;
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
        self.flush_until_closed().await;
        let lost = self.queue.len() as u64;
        self.state.lost_at_close.store(lost, Ordering::Relaxed);
        self.state.count_overflow(lost);
        self.bring_up_to_date().await;
        close_journal(self.journal, &self.state).await;
        Ended::Closed(self.done)
    }

    fn take(&mut self, command: Command) {
        match command {
            Command::Record(waiting) => {
                self.pressing |= waiting.answer.is_some();
                // What is recorded of it now came behind what stands for it.
                if let Some(subject) = waiting.change.subject.filter(|_| waiting.change.kind.is_choice()) {
                    self.outlived.retain(|outlived| outlived.other != subject);
                    self.state.index.set_needed(&subject);
                }
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
            Command::Outlived(outlived) => self.outlived.push(outlived),
            Command::Settle { answer } => {
                self.pressing = true;
                self.forget.push(Forget::Nothing { answer });
            }
            Command::Retire { earlier, answer } => {
                self.pressing = true;
                self.forget.push(Forget::Secrets { earlier, answer });
            }
            Command::Prune { before_us, dry_run, answer } => {
                self.pressing = true;
                let (after, pruned) = (0, Pruned::default());
                self.forget.push(Forget::Before(Pruning { before_us, dry_run, after, pruned, answer }));
            }
            Command::Hold { order, answer } => {
                self.pressing = true;
                self.forget.push(Forget::Hold { order, answer });
            }
            Command::Erase { subjects, tied, there, answer } => {
                self.pressing = true;
                self.forget.push(Forget::Accounts { subjects, tied, there, answer });
            }
            Command::Sent { records, answer } => {
                self.pressing = true;
                self.forget.push(Forget::Sent { records, answer });
            }
            Command::Lend { lent } => {
                self.pressing = true;
                self.lend = Some(lent);
            }
            Command::Close { until, done } => {
                self.ended = true;
                self.until = self.until.max(Some(until));
                self.done.push(done);
            }
        }
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
