//! What is too old goes: a round through the journal once a day, and one that somebody asked for, both a page at a time.

use std::time::Duration;

use tokio::time::Instant;

use super::forget::Forget;
use super::group_commit::LONGEST_PAUSE;
use super::{Answer, Writer};
use crate::store::RecordError;
use crate::store::index::Index;
use crate::store::journal::forget::{Pruned, PrunedPage};
use crate::store::journal::upkeep::By;
use crate::store::packed::Packer;
use crate::store::time;

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
    clock: Clock,
}

/// What is held of the wall clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Clock {
    /// Nobody has looked yet.
    Unseen,
    /// It may be wrong, and is let run for a while.
    Doubted,
    /// It fits the newest record, or has been let run for a day.
    Trusted,
}

/// What a start makes of the wall clock.
#[derive(Debug, PartialEq, Eq)]
enum Doubt {
    None,
    /// From now on, for a day.
    New,
    /// An earlier start's, for so long yet.
    Written(Duration),
}

impl Sweep {
    pub(super) fn new(keep: Duration) -> Self {
        Self { keep, next: Instant::now(), after: 0, pruned: Pruned::default(), clock: Clock::Unseen }
    }

    /// Records before this are too old, in microseconds since the Unix epoch.
    pub(super) fn before_us(&self) -> i64 {
        let keep = i64::try_from(self.keep.as_micros()).unwrap_or(i64::MAX);
        time::now_us().saturating_sub(keep)
    }

    /// The same, where the clock that says so is believed; else nothing is.
    pub(super) fn believed_before_us(&self) -> i64 {
        if self.clock == Clock::Trusted { self.before_us() } else { i64::MIN }
    }

    fn over(&mut self, now: Instant) {
        let Pruned { records, held, .. } = std::mem::take(&mut self.pruned);
        if records > 0 {
            tracing::info!(records, held, "records older than store.retention are pruned");
        }
        (self.after, self.next) = (0, now + DAY);
    }
}

/// Whether the wall clock may be wrong: it is far ahead of the newest record, or was a day ago or less when an earlier start
/// doubted it, at `written_us`. What came meanwhile under such a clock is as new as it is, so the records alone do not tell.
/// Times in microseconds since the Unix epoch.
fn doubt((newest_us, written_us): (Option<i64>, Option<i64>), now_us: i64) -> Doubt {
    // A clock that is behind it has been put right since.
    let written_us = written_us.filter(|written| *written <= now_us);
    let ran_us = written_us.map(|written| now_us.saturating_sub(written).unsigned_abs());
    let left = ran_us.and_then(|ran| DAY.checked_sub(Duration::from_micros(ran)));
    // Of the same absence there is no second one.
    let known = written_us.is_some_and(|written| newest_us.is_none_or(|newest| newest <= written));
    match left {
        Some(left) if !left.is_zero() => Doubt::Written(left),
        _ if !known && ahead_us(newest_us, now_us) > SUSPICIOUS_US => Doubt::New,
        _ => Doubt::None,
    }
}

fn ahead_us(newest_us: Option<i64>, now_us: i64) -> i64 {
    newest_us.map_or(0, |newest| now_us.saturating_sub(newest))
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
        match sweep.clock {
            Clock::Trusted => {}
            Clock::Doubted => sweep.clock = Clock::Trusted,
            Clock::Unseen => match self.look_at_clock().await {
                Ok(Clock::Trusted) => {}
                Ok(_) => return,
                Err(error) => {
                    if let Some(sweep) = &mut self.retention {
                        sweep.next = now + LONGEST_PAUSE;
                    }
                    return self.failed(&error);
                }
            },
        }
        let Some(sweep) = &mut self.retention else { return };
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

    /// Puts the first round off where the clock may be wrong: what a wrong one prunes cannot be had back, and a site that
    /// was away so long can wait. A doubt is written down, for a later start may be under the same clock.
    async fn look_at_clock(&mut self) -> sqlx::Result<Clock> {
        let now_us = time::now_us();
        let newest_us = self.journal.newest_us().await?;
        let wait = match doubt((newest_us, self.journal.clock_doubted_us().await?), now_us) {
            Doubt::None => None,
            Doubt::New => {
                let days = ahead_us(newest_us, now_us) / (24 * 3_600 * 1_000_000);
                tracing::warn!(
                    days,
                    "the newest record is so many days old: is the clock right? nothing is pruned for a day"
                );
                self.journal.doubt_clock(now_us).await?;
                Some(DAY)
            }
            Doubt::Written(left) => {
                let hours = left.as_secs().div_ceil(3_600);
                tracing::warn!(
                    hours,
                    "an earlier start doubted the clock: is it right? nothing is pruned for so many hours"
                );
                Some(left)
            }
        };
        let clock = if wait.is_some() { Clock::Doubted } else { Clock::Trusted };
        if let Some(sweep) = &mut self.retention {
            sweep.clock = clock;
            if let Some(wait) = wait {
                sweep.next = Instant::now() + wait;
            }
        }
        Ok(clock)
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

    const DAY_US: i64 = 86_400 * 1_000_000;
    const NOW: i64 = 1_795_000_000_000_000;

    /// A clock that is years ahead at a start must not take every record at once; one that fits is believed.
    #[test]
    fn a_start_long_after_the_newest_record_prunes_nothing_for_a_day() {
        for newest in [None, Some(NOW), Some(NOW - SUSPICIOUS_US), Some(i64::MAX)] {
            assert_eq!(doubt((newest, None), NOW), Doubt::None, "{newest:?}");
        }
        for newest in [NOW - SUSPICIOUS_US - 1, 0, i64::MIN] {
            assert_eq!(doubt((Some(newest), None), NOW), Doubt::New);
        }
    }

    /// What a visitor left under a wrong clock is as new as that clock: the next start must not take it for word that the
    /// clock is right.
    #[test]
    fn a_doubt_outlasts_the_start_that_had_it() {
        let fresh = Some(NOW);
        assert_eq!(doubt((fresh, Some(NOW - 1)), NOW), Doubt::Written(DAY - Duration::from_micros(1)));
        assert_eq!(doubt((fresh, Some(NOW - DAY_US + 1)), NOW), Doubt::Written(Duration::from_micros(1)));
        assert_eq!(doubt((fresh, Some(NOW - DAY_US)), NOW), Doubt::None, "it ran for a day");
        assert_eq!(
            doubt((Some(0), Some(NOW - DAY_US)), NOW),
            Doubt::None,
            "a site that was away for long goes on"
        );
        assert_eq!(doubt((fresh, Some(NOW + 1)), NOW), Doubt::None, "the clock was put right");
        assert_eq!(doubt((Some(0), Some(NOW + 1)), NOW), Doubt::New, "and is wrong again");
        let year = |years: i64| NOW - years * 365 * DAY_US;
        assert_eq!(
            doubt((Some(year(1)), Some(year(2))), NOW),
            Doubt::New,
            "nor does one of long ago stand for it"
        );
    }

    /// Counts have no digest that would be left of them, so they wait for the clock as records do.
    #[test]
    fn a_clock_that_is_not_believed_makes_nothing_old() {
        let mut sweep = Sweep::new(DAY);
        for (clock, old) in [(Clock::Unseen, false), (Clock::Doubted, false), (Clock::Trusted, true)] {
            sweep.clock = clock;
            assert_eq!(sweep.believed_before_us() > i64::MIN, old, "{clock:?}");
        }
    }
}
