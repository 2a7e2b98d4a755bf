//! Group commit: what is queued gathers company, reaches the disk in one transaction, and is answered after it; and what
//! becomes of it while the journal cannot write.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use futures_util::FutureExt as _;
use tokio::time::error::Elapsed;
use tokio::time::{Instant, sleep_until, timeout_at};

use super::{Command, Writer};
use crate::store::RecordError;
use crate::store::journal::replay::Found;
use crate::store::record::Receipt;
use crate::store::time;

/// Records of one commit at most.
const GROUP: usize = 1024;

/// How long records that nobody waits for may gather company: a commit costs as much as some hundred records.
const LINGER: Duration = Duration::from_millis(25);

/// Pause after a failed commit; it doubles up to the longest.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
pub(super) const LONGEST_PAUSE: Duration = Duration::from_secs(5);

impl Writer {
    /// Waits for work: until somebody waits for an answer, a group is full, [`LINGER`] is over, or it
    /// is time to try again.
    pub(super) async fn gather(&mut self) {
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

    /// Fills the group with what is already there. While the journal cannot write, takes everything:
    /// whoever waits is to be told, however many records are kept.
    pub(super) fn take_available(&mut self) {
        while (self.retry.is_some() || self.queue.len() < GROUP)
            && let Ok(command) = self.inbox.try_recv()
        {
            self.take(command);
        }
    }

    pub(super) async fn commit_all(&mut self) {
        self.pressing = false;
        let state = Arc::clone(&self.state);
        if self.queue.is_empty() && self.retry.is_some_and(|(at, _)| at <= Instant::now()) {
            let _working = state.stall.begin();
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
            let now_us = time::now_us();
            let group = self.queue.iter().take(size);
            let weighed = group.clone().any(|w| w.change.kind.is_weighed());
            let seen = self.state.feed.as_ref().filter(|_| weighed).map(|feed| feed.seen());
            let group = group.map(|w| (&w.change, w.seen.as_ref().or(seen.as_ref())));
            let working = state.stall.begin();
            let appended = self.journal.append(now_us, group).await;
            drop(working);
            match appended {
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

    /// Tries what is still queued at the end again, for as long as whoever closes the store lets it.
    pub(super) async fn flush_until_closed(&mut self) {
        if !self.queue.is_empty() && self.until.is_some_and(|until| Instant::now() < until) {
            let waiting = self.queue.len();
            tracing::warn!(
                waiting,
                "records wait for the journal: it is tried again while the stop may take"
            );
        }
        while let (false, Some(until), Some((at, _))) = (self.queue.is_empty(), self.until, self.retry)
            && Instant::now() < until
        {
            sleep_until(at.min(until)).await;
            self.commit_all().await;
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
    pub(super) fn settle_found(&mut self) {
        let found = self.journal.take_found();
        let records = found.iter().filter(|found| !found.upkeep).count() as u64;
        self.state.records.fetch_add(records, Ordering::Relaxed);
        for Found { subject, kind, source, seq, .. } in found {
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
    pub(super) fn failed(&mut self, error: &sqlx::Error) {
        let text = error.to_string();
        if self.state.set_journal_error(Some(text.clone())).as_ref() != Some(&text) {
            tracing::error!(%error, "the journal cannot write; opt-outs are honoured and kept to be recorded");
        }
        let pause = self.retry.map_or(FIRST_PAUSE, |(_, last)| (last * 2).min(LONGEST_PAUSE));
        self.retry = Some((Instant::now() + pause, pause));
        let mut kept = VecDeque::with_capacity(self.queue.len());
        for mut waiting in self.queue.drain(..) {
            match waiting.answer.take() {
                Some(answer) => {
                    self.state.backlog.fetch_sub(1, Ordering::Relaxed);
                    drop(answer.send(Err(RecordError::Journal(text.clone()))));
                }
                None => kept.push_back(waiting),
            }
        }
        self.queue = kept;
    }
}
