//! Who opted out by their own hand a moment ago, on whichever node: a confirmation of what was asked before that is none.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use super::record::{Kind, Source};
use crate::privacy::Subject;

/// How long anybody may ask about, in microseconds: longer than a question stands.
const KEPT_US: i64 = 15 * 60 * 1_000_000;

/// Accounts that are told apart at once; with more, every question that was asked before is to be asked anew.
const MOST: usize = 65_536;

/// Accounts and when they opted out, by this node's clock.
///
/// A process that begins knows of none, and a record does not tell when another node's reached this one: what was asked
/// before it began is to be asked anew.
#[derive(Debug)]
pub(super) struct RecentOptOuts {
    began: Instant,
    times: Mutex<Times>,
}

#[derive(Debug, Default)]
struct Times {
    out: HashMap<Subject, i64>,
    /// Of before this nothing is known.
    from_us: i64,
}

impl Default for RecentOptOuts {
    fn default() -> Self {
        Self { began: Instant::now(), times: Mutex::default() }
    }
}

impl RecentOptOuts {
    /// An account chose this just now; what no hand did is passed over, for a browser's signal comes with every page that
    /// asks.
    pub(super) fn chose(&self, subject: Subject, kind: Kind, source: Source, now_us: i64) {
        if kind != Kind::OptOut || !matches!(source, Source::Form | Source::Import) {
            return;
        }
        let mut times = self.times();
        if times.out.len() >= MOST {
            times.out.retain(|_, time_us| *time_us > now_us - KEPT_US);
            if times.out.len() >= MOST {
                times.out.clear();
                times.from_us = now_us;
            }
        }
        times.out.insert(subject, now_us);
    }

    /// Whether an account may have opted out after a time; both in microseconds since the Unix epoch.
    pub(super) fn out_since(&self, subject: &Subject, since_us: i64, now_us: i64) -> bool {
        // By a clock that nobody sets: a start under a wrong one must not refuse every question for years.
        let age_us = i64::try_from(self.began.elapsed().as_micros()).unwrap_or(i64::MAX);
        if now_us.saturating_sub(age_us) > since_us {
            return true;
        }
        let times = self.times();
        times.from_us > since_us || times.out.get(subject).is_some_and(|time_us| *time_us > since_us)
    }

    fn times(&self) -> MutexGuard<'_, Times> {
        // Whole whatever its holder was doing: what it loses, it forgets with the time set before.
        self.times.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn subject(number: u64) -> Subject {
        let mut bytes = [0; 16];
        bytes[..8].copy_from_slice(&number.to_le_bytes());
        Subject::from_bytes(bytes)
    }

    #[test]
    fn an_opt_out_by_hand_is_known_for_as_long_as_a_question_stands() {
        let recent = RecentOptOuts::default();
        recent.chose(subject(1), Kind::OptOut, Source::Form, 100);
        recent.chose(subject(2), Kind::OptOut, Source::Gpc, 100);
        recent.chose(subject(3), Kind::OptIn, Source::Form, 100);
        // Asked at once, by a clock that stands at 0.
        let out = |number, since| recent.out_since(&subject(number), since, 0);
        assert!(out(1, 99) && !out(1, 100) && !out(2, 0) && !out(3, 0) && !out(4, 0));
    }

    /// Who opted out before this process began, and on which node, nobody here can say any more.
    #[test]
    fn what_was_asked_before_the_process_began_is_to_be_asked_anew() {
        let recent = RecentOptOuts::default();
        assert!(recent.out_since(&subject(1), 999_999, 3_600_000_000));
        assert!(!recent.out_since(&subject(1), 3_600_000_000, 3_600_000_000), "asked since");
        assert!(
            !recent.out_since(&subject(1), 1_000, 1_000),
            "nor does a clock that was set back since refuse for long"
        );
    }

    /// With more than there is room for nobody's is overlooked: what was asked before is to be asked anew.
    #[test]
    fn what_there_is_no_room_for_counts_as_an_opt_out_of_everybody() {
        let recent = RecentOptOuts::default();
        for number in 0..=MOST as u64 {
            recent.chose(subject(number), Kind::OptOut, Source::Form, 1_000);
        }
        assert!(
            recent.out_since(&subject(u64::MAX), 999, 0) && !recent.out_since(&subject(u64::MAX), 1_000, 0)
        );
        let later = 1_000 + KEPT_US + 1;
        for number in 0..=MOST as u64 {
            recent.chose(subject(number), Kind::OptOut, Source::Form, later);
        }
        assert!(!recent.out_since(&subject(u64::MAX), later, 0));
    }
}
