//! Who opted out by their own hand a moment ago, on whichever node, and in which order that came with questions and what
//! answers them: a confirmation of what was asked before an opt-out is none.
//!
//! Whatever needs that order is handed over to the writer under one lock: so the journal has it too.
//!
//! The order of what one process takes is that of a clock of its own, which never goes back. Between nodes only wall
//! clocks tell, which may differ: what another process asked counts as asked earlier by as much as they may
//! ([`AHEAD_US`]), so that in doubt it is to be asked anew.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use super::record::{Kind, Source};
use crate::privacy::Subject;

/// How long anybody may ask about, in microseconds: longer than a question stands.
const KEPT_US: i64 = 15 * 60 * 1_000_000;

/// Accounts that are told apart at once; with more, every question that was asked before is to be asked anew.
const MOST: usize = 65_536;

/// Microseconds by which the clocks of two nodes may differ.
pub const AHEAD_US: i64 = 60 * 1_000_000;

/// When something was asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Moment {
    /// Microseconds since the Unix epoch, by a clock of that process that never goes back.
    pub time_us: i64,
    /// Which process: random.
    pub process: [u8; 8],
}

/// Accounts and when they opted out, by this process's clock.
///
/// A process that begins knows of none, and a record does not tell when another node's reached this one: what was asked
/// before it began is to be asked anew.
#[derive(Debug)]
pub(super) struct RecentOptOuts {
    began: Instant,
    /// `None` without random bytes: then no question is this process's own.
    process: Option<[u8; 8]>,
    times: Mutex<Times>,
    /// Changes that end or ease an opt-out and are not on disk yet.
    easing: Arc<AtomicUsize>,
}

#[derive(Debug)]
struct Times {
    out: HashMap<Subject, i64>,
    /// Of before this nothing is known.
    from_us: i64,
    /// What the clock showed when the process began, as far as wall clocks have told since; never less than before.
    began_us: i64,
    last_us: i64,
}

/// A change that ends or eases an opt-out is on its way for as long as this lives.
#[derive(Debug)]
pub(super) struct Easing(Arc<AtomicUsize>);

impl Drop for Easing {
    fn drop(&mut self) {
        // What it wrote in the index is read by whoever finds it gone.
        self.0.fetch_sub(1, Ordering::Release);
    }
}

impl RecentOptOuts {
    /// Of a process that begins. `wall_us`: what the wall clock says, microseconds since the Unix epoch.
    pub(super) fn new(wall_us: i64) -> Self {
        let mut process = [0; 8];
        let process = getrandom::fill(&mut process).is_ok().then_some(process);
        let times = Times { out: HashMap::new(), from_us: i64::MIN, began_us: wall_us, last_us: wall_us };
        Self { began: Instant::now(), process, times: Mutex::new(times), easing: Arc::default() }
    }

    /// Now, later than everything before. `wall_us`: what the wall clock says, microseconds since the Unix epoch.
    pub(super) fn now(&self, wall_us: i64) -> Moment {
        let time_us = self.tick(&mut self.times(), wall_us);
        Moment { time_us, process: self.process.unwrap_or_default() }
    }

    /// An account chose this just now, and it is handed over by `then`, which is told whether something that ends or eases
    /// an opt-out is on its way before it. What no hand did is passed over, for a browser's signal comes with every page
    /// that asks.
    pub(super) fn chose<T>(
        &self,
        (subject, kind, source): (Subject, Kind, Source),
        wall_us: i64,
        then: impl FnOnce(bool) -> T,
    ) -> T {
        let by_hand = kind == Kind::OptOut && matches!(source, Source::Form | Source::Import);
        let mut times = self.times();
        if by_hand {
            let now_us = self.tick(&mut times, wall_us);
            times.note(subject, now_us);
        }
        then(self.easing.load(Ordering::Acquire) > 0)
    }

    /// Has a number of changes handed over by `then` that end or ease opt-outs of these accounts, unless one of them may have
    /// opted out by hand since that was asked. `alone`: there are no other nodes.
    pub(super) fn unless_out_since<'s, T>(
        &self,
        mut subjects: impl Iterator<Item = &'s Subject>,
        (asked, alone): (Moment, bool),
        then: impl FnOnce() -> T,
    ) -> Option<T> {
        let times = self.times();
        let since_us = match self.process == Some(asked.process) {
            true => Some(asked.time_us),
            false if alone => None,
            false => Some(asked.time_us.saturating_sub(AHEAD_US)).filter(|since| times.began_us <= *since),
        }?;
        let out = |subject: &Subject| times.out.get(subject).is_some_and(|time_us| *time_us > since_us);
        if times.from_us > since_us || subjects.any(out) {
            return None;
        }
        Some(then())
    }

    /// For a change that ends or eases an opt-out; only where [`Self::unless_out_since`] has it handed over.
    pub(super) fn ease(&self) -> Easing {
        self.easing.fetch_add(1, Ordering::Relaxed);
        Easing(Arc::clone(&self.easing))
    }

    /// Who opted out until now is not known: what was asked before is to be asked anew.
    pub(super) fn begin_anew(&self, wall_us: i64) {
        let mut times = self.times();
        times.from_us = self.tick(&mut times, wall_us);
    }

    fn tick(&self, times: &mut Times, wall_us: i64) -> i64 {
        // By a clock that nobody sets, and the wall clock where that went ahead of it.
        let age_us = i64::try_from(self.began.elapsed().as_micros()).unwrap_or(i64::MAX);
        times.began_us = times.began_us.max(wall_us.saturating_sub(age_us));
        times.last_us = times.last_us.saturating_add(1).max(times.began_us.saturating_add(age_us));
        times.last_us
    }

    fn times(&self) -> MutexGuard<'_, Times> {
        // Whole whatever its holder was doing: what it loses, it forgets with the time set before.
        self.times.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Times {
    fn note(&mut self, subject: Subject, now_us: i64) {
        if self.out.len() >= MOST {
            self.out.retain(|_, time_us| *time_us > now_us.saturating_sub(KEPT_US));
            if self.out.len() >= MOST {
                self.from_us = now_us;
                self.out.clear();
            }
        }
        self.out.insert(subject, now_us);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// In November 2026.
    const WALL_US: i64 = 1_795_000_000_000_000;
    const SECOND_US: i64 = 1_000_000;

    fn subject(number: u64) -> Subject {
        let mut bytes = [0; 16];
        bytes[..8].copy_from_slice(&number.to_le_bytes());
        Subject::from_bytes(bytes)
    }

    fn out(recent: &RecentOptOuts, number: u64, wall_us: i64) {
        recent.chose((subject(number), Kind::OptOut, Source::Form), wall_us, drop);
    }

    /// Whether what was asked may still be confirmed, where there are other nodes.
    fn holds(recent: &RecentOptOuts, number: u64, asked: Moment) -> bool {
        recent.unless_out_since([subject(number)].iter(), (asked, false), || ()).is_some()
    }

    #[test]
    fn an_opt_out_by_hand_ends_what_was_asked_before_it_and_nothing_else() {
        let recent = RecentOptOuts::new(WALL_US);
        let before = recent.now(WALL_US);
        out(&recent, 1, WALL_US);
        recent.chose((subject(2), Kind::OptOut, Source::Gpc), WALL_US, drop);
        recent.chose((subject(3), Kind::OptIn, Source::Form), WALL_US, drop);
        let after = recent.now(WALL_US);
        assert!(!holds(&recent, 1, before) && holds(&recent, 1, after));
        assert!((2..5).all(|number| holds(&recent, number, before)));
    }

    /// Clocks are set: whichever way, what came later is later.
    #[test]
    fn a_wall_clock_that_is_set_reorders_nothing() {
        let recent = RecentOptOuts::new(WALL_US);
        for step in [0, -30, -3_600, 86_400, -86_400, 0] {
            let wall_us = WALL_US + step * SECOND_US;
            let before = recent.now(WALL_US);
            out(&recent, 1, wall_us);
            assert!(!holds(&recent, 1, before), "{step}");
            assert!(holds(&recent, 1, recent.now(wall_us)), "{step}");
        }
    }

    /// Another node's clock may be ahead, so that what it asked looks later than what came after it.
    #[test]
    fn what_another_node_asked_counts_as_asked_earlier() {
        let here = RecentOptOuts::new(WALL_US - 3_600 * SECOND_US);
        let there = RecentOptOuts::new(WALL_US);
        out(&here, 1, WALL_US);
        for ahead in [-59, 0, 3, 59] {
            let asked = Moment { time_us: WALL_US + ahead * SECOND_US, ..there.now(WALL_US) };
            assert!(!holds(&here, 1, asked), "{ahead}");
        }
        let later = there.now(WALL_US + AHEAD_US + SECOND_US);
        assert!(holds(&here, 1, later) && holds(&here, 2, later));
    }

    /// Who opted out before this process began, and on which node, nobody here can say any more.
    #[test]
    fn what_was_asked_before_the_process_began_is_to_be_asked_anew() {
        let earlier = RecentOptOuts::new(WALL_US);
        let asked = earlier.now(WALL_US);
        let recent = RecentOptOuts::new(WALL_US + SECOND_US);
        assert!(!holds(&recent, 1, asked));
        let alone = |asked| recent.unless_out_since([].iter(), (asked, true), || ()).is_some();
        let later = earlier.now(WALL_US + 120 * SECOND_US);
        assert!(holds(&recent, 1, later), "of another node, and since");
        assert!(!alone(later), "without other nodes it can only be one that ended");
        assert!(alone(recent.now(WALL_US)));
        let before = recent.now(WALL_US);
        recent.begin_anew(WALL_US);
        assert!(!holds(&recent, 1, before) && holds(&recent, 1, recent.now(WALL_US)));
    }

    /// With more than there is room for nobody's is overlooked: what was asked before is to be asked anew.
    #[test]
    fn what_there_is_no_room_for_counts_as_an_opt_out_of_everybody() {
        let recent = RecentOptOuts::new(WALL_US);
        let before = recent.now(WALL_US);
        for number in 0..=MOST as u64 {
            out(&recent, number, WALL_US);
        }
        assert!(!holds(&recent, u64::MAX, before) && holds(&recent, u64::MAX, recent.now(WALL_US)));
        let later = WALL_US + KEPT_US + SECOND_US;
        let before = recent.now(later);
        for number in 0..MOST as u64 - 1 {
            out(&recent, number, later);
        }
        assert!(holds(&recent, u64::MAX, before), "what is old gives way");
    }

    #[test]
    fn what_is_on_its_way_is_told_to_whoever_opts_out_meanwhile() {
        let recent = RecentOptOuts::new(WALL_US);
        let told = || recent.chose((subject(1), Kind::OptOut, Source::Form), WALL_US, |easing| easing);
        let asked = recent.now(WALL_US);
        let easing = recent.unless_out_since([subject(1)].iter(), (asked, true), || recent.ease()).unwrap();
        assert!(told());
        drop(easing);
        assert!(!told());
    }
}
