//! Whether an origin is well: what checks say, what visitors' requests show, and the way back.
//!
//! All cores share the state and change it by atomics. Time is an argument, in milliseconds since the group
//! was made; a good request to a well origin only reads.

use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::config::Outlier;

/// A whole share of the requests; a smaller one belongs to an origin that has just come back.
pub const WHOLE: u32 = 1_000;

/// Least share of an origin that has just come back: a tenth, so that it is seen to be well at all.
const LEAST: u64 = 100;

/// What is known of an origin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// Gets requests.
    Well,
    /// Checks say that it is not.
    Down,
    /// Visitors' requests failed there.
    Ejected,
}

/// The state of one origin.
#[derive(Debug, Default)]
pub struct Health {
    down: AtomicBool,
    /// Checks have found out whether it is.
    checked: AtomicBool,
    /// Failures in a row.
    failures: AtomicU32,
    /// Moment of its return; 0: not ejected.
    ejected_until: AtomicU64,
    /// Ejections in a row.
    ejections: AtomicU32,
    /// When it last came back; 0: it was never away.
    back_at: AtomicU64,
}

impl Health {
    /// What is known at this moment. An ejection whose time is over still counts until [`Self::returned`].
    ///
    /// Cost: two relaxed loads.
    #[must_use]
    pub fn standing(&self) -> Standing {
        if self.down.load(Ordering::Relaxed) {
            return Standing::Down;
        }
        match self.ejected_until.load(Ordering::Relaxed) {
            0 => Standing::Well,
            _ => Standing::Ejected,
        }
    }

    /// Whether an ejection has not ended yet, whatever the checks say meanwhile.
    #[must_use]
    pub fn is_ejected(&self) -> bool {
        self.ejected_until.load(Ordering::Relaxed) != 0
    }

    /// Ends an ejection whose time is over, or any when `early`. True for the one caller who ended it.
    pub fn returned(&self, now: u64, early: bool) -> bool {
        let until = self.ejected_until.load(Ordering::Relaxed);
        if until == 0 || !(early || until <= now) {
            return false;
        }
        let ended =
            self.ejected_until.compare_exchange(until, 0, Ordering::AcqRel, Ordering::Relaxed).is_ok();
        if ended {
            self.starts_anew(now);
        }
        ended
    }

    /// What failed while it was away, or was under way before, is no reason to leave it out again.
    fn starts_anew(&self, now: u64) {
        self.failures.store(0, Ordering::Relaxed);
        self.back_at.store(now.max(1), Ordering::Relaxed);
    }

    /// A request went well. True when one before had failed.
    ///
    /// Cost: one relaxed load, unless the one before had failed.
    pub fn succeeded(&self) -> bool {
        let failed = self.failures.load(Ordering::Relaxed) != 0;
        if failed {
            self.failures.store(0, Ordering::Relaxed);
        }
        failed
    }

    /// A request failed. True when that is one too many in a row and the origin is not ejected yet.
    pub fn failed(&self, settings: &Outlier) -> bool {
        let failures = self.failures.fetch_add(1, Ordering::Relaxed).saturating_add(1);
        settings.failures > 0 && failures >= settings.failures && self.standing() == Standing::Well
    }

    /// Leaves the origin out for longer with each ejection in a row; gives for how long. `None` when another
    /// core was first.
    pub fn eject(&self, now: u64, settings: &Outlier) -> Option<Duration> {
        let back_at = self.back_at.load(Ordering::Relaxed);
        // Who has been well for as long as the longest ejection has a clean slate.
        let fresh = back_at == 0 || now.saturating_sub(back_at) > millis(settings.longest);
        let in_a_row = if fresh { 1 } else { self.ejections.load(Ordering::Relaxed).saturating_add(1) };
        let length = settings.ejection.saturating_mul(in_a_row).min(settings.longest);
        let until = now.saturating_add(millis(length)).max(1);
        self.ejected_until.compare_exchange(0, until, Ordering::AcqRel, Ordering::Relaxed).ok()?;
        self.ejections.store(in_a_row, Ordering::Relaxed);
        self.failures.store(0, Ordering::Relaxed);
        Some(length)
    }

    /// What is to be told of it at this moment.
    #[must_use]
    pub fn tell(&self, now: u64) -> Told {
        let moment = |moment: &AtomicU64| Some(moment.load(Ordering::Relaxed)).filter(|moment| *moment != 0);
        Told {
            checked: self.checked.load(Ordering::Relaxed).then(|| !self.down.load(Ordering::Relaxed)),
            failures: self.failures.load(Ordering::Relaxed),
            ejections: self.ejections.load(Ordering::Relaxed),
            ejected_for: moment(&self.ejected_until).map(|until| until.saturating_sub(now)),
            back_since: moment(&self.back_at).map(|back| now.saturating_sub(back)),
        }
    }

    /// Goes on from what was told of another state just now. What checks have found holds where there are `checks` still.
    pub fn hear(&self, told: &Told, now: u64, checks: bool) {
        let checked = told.checked.filter(|_| checks);
        self.checked.store(checked.is_some(), Ordering::Relaxed);
        self.down.store(checked == Some(false), Ordering::Relaxed);
        self.failures.store(told.failures, Ordering::Relaxed);
        self.ejections.store(told.ejections, Ordering::Relaxed);
        let until = told.ejected_for.map_or(0, |left| now.saturating_add(left).max(1));
        self.ejected_until.store(until, Ordering::Relaxed);
        let back_at = told.back_since.map_or(0, |since| now.saturating_sub(since).max(1));
        self.back_at.store(back_at, Ordering::Relaxed);
    }

    /// What the checks say now. True when that is news.
    pub fn checked(&self, well: bool, now: u64) -> bool {
        self.checked.store(true, Ordering::Relaxed);
        let news = self.down.swap(!well, Ordering::AcqRel) == well;
        if news && well {
            self.starts_anew(now);
        }
        news
    }

    /// The origin's share of what is its due, of [`WHOLE`]: it grows to the whole over `slow_start`.
    #[must_use]
    pub fn share(&self, now: u64, slow_start: Duration) -> u32 {
        let back_at = self.back_at.load(Ordering::Relaxed);
        let (passed, whole) = (now.saturating_sub(back_at), millis(slow_start));
        if back_at == 0 || passed >= whole {
            return WHOLE;
        }
        let share = (passed * u64::from(WHOLE) / whole).max(LEAST);
        u32::try_from(share).unwrap_or(WHOLE)
    }
}

/// What is known of an origin, for another process or other settings. Times are milliseconds from when it is told.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Told {
    /// Whether it is well, if checks have found that out.
    pub checked: Option<bool>,
    /// Failures in a row.
    pub failures: u32,
    /// Ejections in a row.
    pub ejections: u32,
    /// To the end of an ejection.
    pub ejected_for: Option<u64>,
    /// Since it last came back.
    pub back_since: Option<u64>,
}

/// A streak of checks, and when it counts.
#[derive(Debug)]
pub struct Streak {
    well: Option<bool>,
    length: u32,
}

impl Streak {
    /// The first check counts at once, unless earlier ones have found the origin well: then a bad one is the first of
    /// several, as it would be had nobody reloaded.
    #[must_use]
    pub fn new(before: Option<bool>) -> Self {
        Self { well: before.filter(|well| *well), length: 0 }
    }

    /// Notes a check; gives what the origin is when so many in a row say so.
    pub fn note(&mut self, well: bool, rises: u32, falls: u32) -> Option<bool> {
        let first = self.well.is_none();
        self.length = if self.well == Some(well) { self.length.saturating_add(1) } else { 1 };
        self.well = Some(well);
        let enough = if well { rises } else { falls };
        (first || self.length >= enough).then_some(well)
    }
}

/// A length as moments count it.
pub(super) fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::BadAnswers;

    fn outlier() -> Outlier {
        Outlier {
            failures: 3,
            answers: BadAnswers::Gateway,
            ejection: Duration::from_secs(10),
            longest: Duration::from_secs(25),
            most_percent: 50,
            panic_percent: 30,
        }
    }

    /// Envoy's consecutive failures: a good one in between starts the count anew.
    #[test]
    fn only_failures_in_a_row_eject() {
        let (health, settings) = (Health::default(), outlier());
        assert!(!health.failed(&settings) && !health.failed(&settings));
        health.succeeded();
        assert!(!health.failed(&settings) && !health.failed(&settings));
        assert!(health.failed(&settings));
        let off = Outlier { failures: 0, ..settings };
        assert!(!health.failed(&off), "0 ejects nobody");
    }

    #[test]
    fn each_ejection_in_a_row_is_longer_up_to_the_longest() {
        let (health, settings) = (Health::default(), outlier());
        let mut now = 1_000;
        for seconds in [10, 20, 25, 25] {
            assert_eq!(health.eject(now, &settings), Some(Duration::from_secs(seconds)));
            assert_eq!(health.eject(now, &settings), None, "it is ejected once");
            assert!(!health.returned(now + seconds * 1_000 - 1, false));
            assert_eq!(health.standing(), Standing::Ejected);
            now += seconds * 1_000;
            assert!(health.returned(now, false) && !health.returned(now, false), "one caller ends it");
            assert_eq!(health.standing(), Standing::Well);
        }
        assert_eq!(health.eject(now + 26_000, &settings), Some(Duration::from_secs(10)), "a clean slate");
    }

    /// Requests that were under way when it was ejected fail afterwards: they say nothing about it when it is back.
    #[test]
    fn failures_of_before_its_return_do_not_count_after_it() {
        let (health, settings) = (Health::default(), outlier());
        assert_eq!([(); 3].map(|()| health.failed(&settings)), [false, false, true]);
        health.eject(1_000, &settings);
        assert_eq!([(); 3].map(|()| health.failed(&settings)), [false; 3]);
        assert!(health.returned(11_000, false));
        assert!(!health.failed(&settings), "the first one after its return");
        health.checked(false, 12_000);
        assert_eq!([(); 3].map(|()| health.failed(&settings)), [false; 3]);
        health.checked(true, 13_000);
        assert!(!health.failed(&settings), "the first one after the checks found it well");
    }

    /// A reload: an ejection goes on to its end, counted from another beginning.
    #[test]
    fn a_state_is_taken_over_with_its_moments() {
        let (old, new, settings) = (Health::default(), Health::default(), outlier());
        old.checked(false, 1);
        old.eject(60_000, &settings);
        new.hear(&old.tell(62_000), 5, true);
        assert_eq!(new.standing(), Standing::Down);
        assert!(new.checked(true, 6));
        assert_eq!(new.standing(), Standing::Ejected);
        assert!(!new.returned(8_004, false) && new.returned(8_005, false));
    }

    /// Slow start: the share grows with time from a tenth to the whole.
    #[test]
    fn an_origin_that_comes_back_gets_its_share_step_by_step() {
        let health = Health::default();
        let slow = Duration::from_secs(10);
        assert_eq!(health.share(0, slow), WHOLE, "who was never away has its share");
        assert!(health.checked(false, 500) && !health.checked(false, 600));
        assert!(health.checked(true, 1_000));
        let shares: Vec<u32> =
            [1_000, 1_500, 3_500, 6_000, 10_999, 11_000].map(|now| health.share(now, slow)).to_vec();
        assert_eq!(shares, [100, 100, 250, 500, 999, 1_000]);
        assert_eq!(health.share(1_000, Duration::ZERO), WHOLE, "off");
    }

    #[test]
    fn rises_and_falls_are_counted_in_a_row_and_the_first_check_counts_at_once() {
        let mut streak = Streak::new(None);
        assert_eq!(streak.note(false, 2, 3), Some(false));
        assert_eq!(streak.note(true, 2, 3), None);
        assert_eq!(streak.note(true, 2, 3), Some(true));
        assert_eq!([false, false].map(|well| streak.note(well, 2, 3)), [None, None]);
        assert_eq!(streak.note(true, 2, 3), None, "the falls start anew");
        assert_eq!([false, false, false].map(|well| streak.note(well, 2, 3)), [None, None, Some(false)]);
    }

    /// A reload or an upgrade: one bad check takes out nobody whom earlier ones had found well, and one good one brings
    /// back whoever was down.
    #[test]
    fn what_checks_have_found_before_decides_what_the_first_one_counts() {
        let mut streak = Streak::new(Some(true));
        assert_eq!([false, false, false].map(|well| streak.note(well, 2, 3)), [None, None, Some(false)]);
        assert_eq!(Streak::new(Some(false)).note(true, 2, 3), Some(true));
        assert_eq!(Streak::new(None).note(false, 2, 3), Some(false));
    }
}
