//! The journal in other hands: an upgrade gives it to the new process, or takes it back when that fails.
//!
//! While it is lent, changes wait. Once the new process serves, they go to it and are answered with its
//! receipts, so that a request that this process still finishes is recorded like any other.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender};
use tokio::sync::oneshot;
use tokio::time::{Instant, timeout_at};

use super::record::{Change, Kind, Receipt};
use super::state::State;
use super::writer::{Answer, Command, Waiting};
use super::{OpenError, RecordError};

/// Pause between tries to take the journal back.
const AGAIN: Duration = Duration::from_millis(250);

/// A change for the process that has the journal now, and where its receipt goes.
#[derive(Debug)]
pub struct Forwarded {
    /// What to record.
    pub change: Change,
    /// Told once it is durable.
    pub answer: oneshot::Sender<Result<Receipt, RecordError>>,
}

/// The journal, closed and unlocked. Dropped undecided, it is taken back.
#[derive(Debug)]
pub struct Lent(oneshot::Sender<Next>);

#[derive(Debug)]
pub(super) enum Next {
    TakeBack,
    Forward(UnboundedSender<Forwarded>),
}

impl Lent {
    /// Opens the journal again; changes that waited are recorded.
    pub(super) fn take_back(self) {
        // The writer may have been closed meanwhile, which ends the matter as well.
        let _ = self.0.send(Next::TakeBack);
    }

    /// Changes that waited and all that come go to the new owner.
    pub fn forward(self, to: UnboundedSender<Forwarded>) {
        let _ = self.0.send(Next::Forward(to));
    }

    /// Hands the journal out and waits for what becomes of it.
    pub(super) async fn until_decided(to: Answer<Self>) -> Next {
        let (decide, decided) = oneshot::channel();
        if to.send(Ok(Self(decide))).is_err() {
            return Next::TakeBack;
        }
        decided.await.unwrap_or(Next::TakeBack)
    }
}

/// Sends every change on until closed; returns who waits for the end.
pub(super) async fn forward(
    mut inbox: UnboundedReceiver<Command>,
    state: &State,
    peer: &UnboundedSender<Forwarded>,
) -> Vec<oneshot::Sender<()>> {
    let mut done = Vec::new();
    while let Some(command) = inbox.recv().await {
        match command {
            Command::Record(waiting) => {
                // Whoever opted out since it was asked did so there: nobody is opted back in from here.
                if waiting.easing.is_some() {
                    finish(waiting, Err(RecordError::HandedOver), state);
                    continue;
                }
                let change = waiting.change.clone();
                let (answer, answered) = oneshot::channel();
                let sent = peer.send(Forwarded { change, answer }).is_ok();
                let receipt = if sent { answered.await.ok() } else { None };
                finish(waiting, receipt.unwrap_or(Err(RecordError::Closed)), state);
            }
            other => refuse(other, || RecordError::HandedOver, &mut done),
        }
        if !done.is_empty() {
            inbox.close();
        }
    }
    done
}

fn finish(waiting: Waiting, receipt: Result<Receipt, RecordError>, state: &State) {
    state.backlog.fetch_sub(1, Ordering::Relaxed);
    if let Ok(receipt) = &receipt {
        waiting.settle(receipt.seq, state);
    }
    match waiting.answer {
        // Whoever stopped waiting has its record all the same.
        Some(answer) => drop(answer.send(receipt)),
        None => {
            state.behind.fetch_sub(1, Ordering::Relaxed);
            if receipt.is_err() {
                // The next request of the account hands it over again.
                if let Change { subject: Some(subject), kind: Kind::OptOut, source, .. } = waiting.change {
                    state.index.unclaim(subject, source);
                }
                state.count_overflow(1);
            }
        }
    }
}

/// Answers what only the owner of the journal can do: nothing of it is begun here.
fn refuse(command: Command, why: impl Fn() -> RecordError, done: &mut Vec<oneshot::Sender<()>>) {
    match command {
        Command::Record(_) => {}
        Command::Read { answer, .. } => drop(answer.send(Err(why()))),
        // The next owner sees for itself who comes under an earlier secret.
        Command::Outlived(_) => {}
        Command::Settle { answer } => drop(answer.send(Err(why()))),
        Command::Retire { answer, .. } => drop(answer.send(Err(why()))),
        Command::Check { answer, .. } => drop(answer.send(Err(why()))),
        Command::Prune { answer, .. } => drop(answer.send(Err(why()))),
        Command::Sent { answer, .. } => drop(answer.send(Err(why()))),
        Command::Erase { answer, .. } => drop(answer.send(Err(why()))),
        Command::Hold { answer, .. } => drop(answer.send(Err(why()))),
        Command::Lend { lent } => drop(lent.send(Err(why()))),
        Command::Close { done: waiting, .. } => done.push(waiting),
    }
}

/// Opens the journal again, however long it takes; whoever waits meanwhile is told that it cannot be written.
/// Closed while it could not be opened, it returns who waits for that.
pub(super) async fn take_back<T>(
    mut inbox: UnboundedReceiver<Command>,
    state: &Arc<State>,
    open: impl AsyncFn() -> Result<T, OpenError>,
) -> Result<(T, UnboundedReceiver<Command>), Vec<oneshot::Sender<()>>> {
    let mut done = Vec::new();
    loop {
        match open().await {
            Ok(opened) => {
                state.set_journal_error(None);
                return Ok((opened, inbox));
            }
            Err(error) => {
                let text = error.to_string();
                if state.set_journal_error(Some(text.clone())).as_ref() != Some(&text) {
                    tracing::error!(%error, "the journal could not be taken back yet");
                }
                let until = Instant::now() + AGAIN;
                while let Ok(Some(command)) = timeout_at(until, inbox.recv()).await {
                    match command {
                        Command::Record(w) => finish(w, Err(RecordError::Journal(text.clone())), state),
                        other => refuse(other, || RecordError::Journal(text.clone()), &mut done),
                    }
                }
                if !done.is_empty() {
                    return Err(done);
                }
            }
        }
    }
}
