//! How many new records a second: a flood may be honoured without end, but not written without end.

use std::sync::atomic::{AtomicU64, Ordering};

const NANOS: u64 = 1_000_000_000;

/// A token bucket in one atomic word (the generic cell rate algorithm, ITU-T I.371 annex A): it
/// stores when the next record would be due if records came evenly.
#[derive(Debug)]
pub(super) struct Bound {
    /// Nanoseconds between records at the full rate; 0 means no bound.
    interval: u64,
    /// How far ahead of the even rate records may run, in nanoseconds.
    tolerance: u64,
    /// When the next record is due, in nanoseconds of the caller's clock.
    due: AtomicU64,
}

impl Bound {
    /// `per_second` counts as at least 1, so that a bound never closes for good.
    pub(super) fn new(per_second: u32, burst: u32) -> Self {
        let interval = NANOS / u64::from(per_second.max(1));
        Self { interval, tolerance: interval * u64::from(burst), due: AtomicU64::new(0) }
    }

    /// Whether one more record fits, at `now` nanoseconds of a clock that never goes back.
    ///
    /// Cost: one compare-and-swap.
    pub(super) fn take(&self, now: u64) -> bool {
        self.take_within(now, self.tolerance)
    }

    /// As [`Bound::take`], and half of the burst is left for others.
    pub(super) fn take_below_half(&self, now: u64) -> bool {
        self.take_within(now, self.tolerance / 2)
    }

    fn take_within(&self, now: u64, tolerance: u64) -> bool {
        self.due
            .try_update(Ordering::Relaxed, Ordering::Relaxed, |due| {
                let start = due.max(now);
                (start - now <= tolerance).then(|| start.saturating_add(self.interval))
            })
            .is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_passes_and_then_the_rate_holds() {
        let bound = Bound::new(10, 5);
        assert_eq!((0..100).filter(|_| bound.take(NANOS)).count(), 6, "one, and five above the rate");
        assert!(!bound.take(NANOS + NANOS / 10 - 1));
        assert!(bound.take(NANOS + NANOS / 10));
        assert_eq!((0..100).filter(|_| bound.take(10 * NANOS)).count(), 6, "an idle bucket only fills up");
    }

    #[test]
    fn who_crowds_leaves_half_of_the_burst_to_others() {
        let bound = Bound::new(10, 100);
        assert_eq!((0..1_000).filter(|_| bound.take_below_half(NANOS)).count(), 51);
        assert_eq!((0..1_000).filter(|_| bound.take(NANOS)).count(), 50);
    }

    /// Over a long flood the number of records is the rate times the time, plus the burst.
    #[test]
    fn a_long_flood_gets_the_rate_and_no_more() {
        let bound = Bound::new(100, 50);
        let taken = (0..1_000_000u64).filter(|i| bound.take(i * 10_000)).count();
        assert!((1000..=1051).contains(&taken), "{taken} in ten seconds");
    }

    #[test]
    fn a_rate_of_nothing_still_lets_one_a_second_through() {
        let bound = Bound::new(0, 0);
        assert!(bound.take(0));
        assert!(!bound.take(NANOS - 1));
        assert!(bound.take(NANOS));
    }
}
