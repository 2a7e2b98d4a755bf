//! What nobody asked for: counts by the minute, checkpoints, the file of the index, hashes that are not needed any more.

use std::sync::atomic::Ordering;
use std::time::Duration;

use data_encoding::HEXLOWER;
use tokio::time::Instant;

use super::retention::Sweep;
use super::{Outlived, Writer};
use crate::store::journal::chain::Head;
use crate::store::merge::Seen;
use crate::store::packed::Point;
use crate::store::time;

/// Time between two writes of counts.
pub(super) const MINUTE: Duration = Duration::from_secs(60);

impl Writer {
    /// When there is something to do that nobody asked for.
    pub(super) fn next_chore(&self) -> Option<Instant> {
        let sweep = self.retention.as_ref().map(|sweep| sweep.next);
        let counts = (self.retry.is_none() && !self.state.counts.is_empty()).then_some(self.counts);
        [self.checkpoint_due(), sweep, counts].into_iter().flatten().min()
    }

    /// When to sign; `None` while there is nothing to sign, or signing would fail.
    pub(super) fn checkpoint_due(&self) -> Option<Instant> {
        (self.retry.is_none() && self.journal.has_unsigned()).then_some(self.checkpoint.1)
    }

    /// Writes the counts of the last minute, or keeps them for when it can.
    pub(super) async fn write_counts(&mut self) {
        if self.retry.is_some() {
            return;
        }
        self.counts = Instant::now() + MINUTE;
        let lines = self.state.counts.take();
        if lines.is_empty() {
            return;
        }
        let before_us = self.retention.as_ref().map_or(i64::MIN, Sweep::believed_before_us);
        if let Err(error) = self.journal.count(&lines, before_us.div_euclid(60_000_000)).await {
            self.state.counts.put_back(lines);
            self.failed(&error);
        }
    }

    /// Signs what came since the last checkpoint. A journal that cannot write is signed later.
    pub(super) async fn sign(&mut self) {
        if self.retry.is_some() {
            return;
        }
        self.checkpoint.1 = Instant::now() + self.checkpoint.0;
        let new = self.journal.has_unsigned();
        match self.journal.checkpoint(time::now_us()).await {
            // Whoever may write the folder can take the journal's end out of it, and not out of a log kept elsewhere.
            Ok(()) if new => {
                let Head { seq, link } = self.journal.head();
                tracing::info!(holds = format!("{seq}:{}", HEXLOWER.encode(&link)), "the journal is signed");
            }
            Ok(()) => {}
            Err(error) => self.failed(&error),
        }
    }

    /// Has the index written to its file beside the work, if that is worth it; `growing`: more will come.
    pub(super) async fn pack(&mut self, growing: bool) {
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

    /// Notes whose earlier hash is not needed any more: once every record that stands for it is on disk, and by what is on
    /// disk then.
    pub(super) async fn note_outlived(&mut self) {
        if self.outlived.is_empty() || !self.queue.is_empty() || self.retry.is_some() {
            return;
        }
        let (index, ordered) = (&self.state.index, self.state.feed.is_none());
        self.outlived.retain(|Outlived { other, by }| {
            let holds = by.is_none_or(|live| index.outlives(&live, other, ordered));
            if !holds {
                index.set_needed(other);
            }
            holds
        });
        let (anew, before): (Vec<_>, Vec<_>) =
            self.outlived.iter().partition(|outlived| outlived.by.is_none());
        let others = |some: &[&Outlived]| some.iter().map(|outlived| outlived.other).collect::<Vec<_>>();
        match self.journal.outlived(&others(&anew), &others(&before)).await {
            Ok(()) => {
                self.outlived.clear();
                self.upkeep_is_noted();
            }
            Err(error) => self.failed(&error),
        }
    }

    /// The journal may have got records of what was done to it, which go to the database like all others.
    pub(super) fn upkeep_is_noted(&mut self) {
        self.settle_found();
        if let Some(feed) = &self.state.feed {
            feed.committed(self.journal.last());
        }
    }

    /// Everything above at once, before the journal is closed.
    pub(super) async fn bring_up_to_date(&mut self) {
        self.note_outlived().await;
        self.write_counts().await;
        self.sign().await;
        self.pack(false).await;
        self.packer.wait();
    }
}
