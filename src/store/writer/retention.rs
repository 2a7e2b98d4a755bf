//! What is too old goes: a round through the journal once a day, and one that somebody asked for, both a page at a time.

use std::time::Duration;

use jiff::Timestamp;
use tokio::time::Instant;

use super::forget::Forget;
use super::group_commit::LONGEST_PAUSE;
use super::{Answer, Writer};
use crate::store::RecordError;
use crate::store::index::Index;
use crate::store::journal::forget::{Pruned, PrunedPage};
use crate::store::packed::Packer;

/// Time between two rounds.
const DAY: Duration = Duration::from_secs(86_400);

/// The round through the journal, once a day, that prunes what is too old.
pub(super) struct Sweep {
    keep: Duration,
    /// When to go on, or to begin the next.
    pub(super) next: Instant,
    /// The record it stands at.
    pub(super) after: i64,
    pruned: Pruned,
}

impl Sweep {
    pub(super) fn new(keep: Duration) -> Self {
        Self { keep, next: Instant::now(), after: 0, pruned: Pruned::default() }
    }

    /// Records before this are too old, in microseconds since the Unix epoch.
    pub(super) fn before_us(&self) -> i64 {
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

/// A round through the journal that somebody asked for: a page at a time, so that whoever opts out meanwhile does not
/// wait for all of it.
pub(super) struct Pruning {
    pub(super) before_us: i64,
    pub(super) dry_run: bool,
    /// The record it stands at.
    pub(super) after: i64,
    pub(super) pruned: Pruned,
    pub(super) answer: Answer<Pruned>,
}

impl Writer {
    /// Prunes a page of what is older than it may be kept, if that is due: records go first.
    pub(super) async fn sweep(&mut self) {
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

    /// Prunes the next page, and answers after the last.
    pub(super) async fn prune(&mut self, mut pruning: Pruning) {
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
