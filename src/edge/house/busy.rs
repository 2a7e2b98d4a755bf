//! How busy a core is, so that work which may be done more or less thoroughly can follow it.

use std::cell::Cell;
use std::rc::Rc;
use std::time::{Duration, Instant};

use crate::edge::house::Core;
use crate::edge::timer::TICK;
use crate::enforce::html::coding::Effort;

/// Part of a core's time that may go into its work before pages are coded fast. What a better coding takes stays
/// well within the rest.
const BUSY: f32 = 0.4;
/// What a tick counts beside those before it: a busy second is seen at once, a quiet one after a while.
const NEWEST: f32 = 0.2;

/// The part of its time that a core works, 0 to 1, over the last second or so.
#[derive(Debug, Default)]
pub struct Busy(Cell<f32>);

impl Busy {
    /// Takes in what it worked `within` some time.
    fn worked(&self, busy: Duration, within: Duration) {
        let share = (busy.as_secs_f32() / within.as_secs_f32().max(f32::EPSILON)).clamp(0.0, 1.0);
        let before = self.0.get();
        self.0.set(if share > before { (share + before) / 2.0 } else { before + NEWEST * (share - before) });
    }

    /// How much work the coding of a page is worth now.
    #[must_use]
    pub fn effort(&self) -> Effort {
        if self.0.get() < BUSY { Effort::Better } else { Effort::Fast }
    }
}

/// Watches this core for ever; spawn once on each core.
pub async fn watch(core: Rc<Core>) {
    let runtime = tokio::runtime::Handle::current().metrics();
    let (mut at, mut worked) = (Instant::now(), runtime.worker_total_busy_duration(0));
    loop {
        tokio::time::sleep(TICK).await;
        let (now, total) = (Instant::now(), runtime.worker_total_busy_duration(0));
        core.busy.worked(total.saturating_sub(worked), now.saturating_duration_since(at));
        (at, worked) = (now, total);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_busy_second_is_seen_sooner_than_a_quiet_one() {
        let busy = Busy::default();
        assert_eq!(busy.effort(), Effort::Better);
        busy.worked(TICK, TICK);
        assert_eq!(busy.effort(), Effort::Fast);
        busy.worked(Duration::ZERO, TICK);
        busy.worked(TICK, TICK);
        busy.worked(Duration::ZERO, TICK);
        assert_eq!(busy.effort(), Effort::Fast);
        for _ in 0..10 {
            busy.worked(Duration::ZERO, TICK);
        }
        assert_eq!(busy.effort(), Effort::Better);
        // A clock that stands still, and more work than time, are no faults.
        busy.worked(TICK, Duration::ZERO);
        assert!(busy.0.get() <= 1.0);
    }
}
