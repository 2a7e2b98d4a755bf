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
use crate::store::journal::upkeep::By;
use crate::store::packed::Packer;

/// Time between two rounds.
const DAY: Duration = Duration::from_secs(86_400);
/// A start so long after the newest record may be one under a wrong clock, microseconds.
const SUSPICIOUS_US: i64 = 31 * 86_400 * 1_000_000;

/// The round through the journal, once a day, that prunes what is too old.
pub(super) struct Sweep {
    keep: Duration,
    /// When to go on, or to begin the next.
    pub(super) next: Instant,
    /// The record it stands at.
    pub(super) after: i64,
    pruned: Pruned,
    /// The clock fits the newest record, or has been let run for a day.
    trusts_clock: bool,
}

impl Sweep {
    pub(super) fn new(keep: Duration) -> Self {
        Self { keep, next: Instant::now(), after: 0, pruned: Pruned::default(), trusts_clock: false }
    }

    /// Records before this are too old, in microseconds since the Unix epoch.
    pub(super) fn before_us(&self) -> i64 {
        let keep = i64::try_from(self.keep.as_micros()).unwrap_or(i64::MAX);
        Timestamp::now().as_microsecond().saturating_sub(keep)
    }

    /// Puts the first round off by a day where the clock is far ahead of the newest record: what a wrong one prunes
    /// cannot be had back, and a site that was away so long can wait.
    fn doubts_clock(&mut self, newest_us: Option<i64>, now: Instant) -> bool {
        let ahead_us = newest_us.map_or(0, |newest| Timestamp::now().as_microsecond().saturating_sub(newest));
        if std::mem::replace(&mut self.trusts_clock, true) || ahead_us <= SUSPICIOUS_US {
            return false;
        }
        let days = ahead_us / (24 * 3_600 * 1_000_000);
        tracing::warn!(
            days,
            "the newest record is so many days old: is the clock right? nothing is pruned for a day"
        );
        self.next = now + DAY;
        true
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
        let newest_us = match self.journal.newest_us().await {
            Ok(newest) => newest,
            Err(error) => {
                sweep.next = now + LONGEST_PAUSE;
                return self.failed(&error);
            }
        };
        if sweep.doubts_clock(newest_us, now) {
            return;
        }
        let before_us = sweep.before_us();
        let index = &self.state.index;
        let page = self
            .journal
            .prune_page(sweep.after, before_us, &|s| index.last_word(s), Some(By::Retention))
            .await;
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
        self.upkeep_is_noted();
    }

    /// Prunes the next page, and answers after the last.
    pub(super) async fn prune(&mut self, mut pruning: Pruning) {
        let Pruning { before_us, dry_run, after, .. } = pruning;
        let index = &self.state.index;
        let by = (!dry_run).then_some(By::Order);
        let page = match self.journal.prune_page(after, before_us, &|s| index.last_word(s), by).await {
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

#[cfg(test)]
mod tests {
    use super::*;

    /// A clock that is years ahead at a start must not take every record at once; one that fits is believed.
    #[tokio::test]
    async fn a_start_long_after_the_newest_record_prunes_nothing_for_a_day() {
        let (now, present) = (Instant::now(), Timestamp::now().as_microsecond());
        for newest in [None, Some(present), Some(present - SUSPICIOUS_US + 60_000_000), Some(i64::MAX)] {
            assert!(!Sweep::new(DAY).doubts_clock(newest, now), "{newest:?}");
        }
        for newest in [present - SUSPICIOUS_US - 60_000_000, 0, i64::MIN] {
            let mut sweep = Sweep::new(DAY);
            assert!(sweep.doubts_clock(Some(newest), now));
            assert_eq!(sweep.next, now + DAY);
            assert!(!sweep.doubts_clock(Some(newest), now + DAY), "a site that was away for long goes on");
        }
    }
}
