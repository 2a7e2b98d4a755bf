//! Who is woken for a connection to an origin: whoever drives it, and nobody else.
//!
//! A connection outlives the requests on it, and each of them is driven by another task. It gets one waker for
//! its whole life, which leads to the task that waits on it now. What it wakes while it is being driven is the
//! driver's own matter (the answer is there, the body has room), and what it wakes while it lies idle is noticed
//! when it is next driven; neither costs a task a turn.

use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Wake, Waker};

/// Wakes go on to the task.
const WAITED_FOR: u8 = 0;
/// It is being driven: a wake is noted.
const DRIVEN: u8 = 1;
/// It was woken while it was driven.
const WOKEN: u8 = 2;

#[derive(Debug, Default)]
struct Shared {
    state: AtomicU8,
    task: Mutex<Option<Waker>>,
}

impl Wake for Shared {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        let driven = self.state.compare_exchange(DRIVEN, WOKEN, Ordering::AcqRel, Ordering::Acquire);
        if driven == Err(WAITED_FOR)
            && let Some(task) = &*self.task.lock().unwrap_or_else(PoisonError::into_inner)
        {
            task.wake_by_ref();
        }
    }
}

/// The waker of one connection.
#[derive(Debug)]
pub(super) struct Turns {
    shared: Arc<Shared>,
    waker: Waker,
}

impl Turns {
    pub(super) fn new() -> Self {
        let shared = Arc::<Shared>::default();
        Self { waker: Waker::from(Arc::clone(&shared)), shared }
    }

    /// One turn: `drive` polls the connection with the context it is given and says what came of it. When that
    /// is nothing yet, `task` is woken for the connection's next news.
    pub(super) fn take<T>(
        &self,
        task: &mut Context<'_>,
        drive: impl FnOnce(&mut Context<'_>) -> Poll<T>,
    ) -> Poll<T> {
        {
            let mut waits = self.shared.task.lock().unwrap_or_else(PoisonError::into_inner);
            if !waits.as_ref().is_some_and(|waker| waker.will_wake(task.waker())) {
                *waits = Some(task.waker().clone());
            }
        }
        self.shared.state.store(DRIVEN, Ordering::Release);
        let outcome = drive(&mut Context::from_waker(&self.waker));
        let woken = self.shared.state.swap(WAITED_FOR, Ordering::AcqRel) == WOKEN;
        if woken && outcome.is_pending() {
            // It wants another turn soon.
            task.waker().wake_by_ref();
        }
        outcome
    }

    /// What was woken so far in this turn is done by what follows in it.
    pub(super) fn forget(&self) {
        self.shared.state.store(DRIVEN, Ordering::Release);
    }

    /// Nobody waits for the connection any more.
    pub(super) fn rest(&self) {
        *self.shared.task.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;

    use super::*;

    #[derive(Default)]
    struct Count(AtomicUsize);

    impl Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// A connection after one turn, the waker it was given, and how often its task was woken.
    fn driven(outcome: Poll<()>, wakes_itself: bool) -> (Turns, Waker, Arc<Count>) {
        let (turns, count) = (Turns::new(), Arc::<Count>::default());
        let task = Waker::from(Arc::clone(&count));
        let mut given = None;
        let polled = turns.take(&mut Context::from_waker(&task), |cx| {
            given = Some(cx.waker().clone());
            if wakes_itself {
                cx.waker().wake_by_ref();
            }
            outcome
        });
        assert_eq!(polled, outcome);
        (turns, given.unwrap(), count)
    }

    fn woken(count: &Count) -> usize {
        count.0.load(Ordering::Relaxed)
    }

    #[test]
    fn the_task_that_waits_is_woken() {
        let (_turns, waker, count) = driven(Poll::Pending, false);
        assert_eq!(woken(&count), 0);
        waker.wake_by_ref();
        assert_eq!(woken(&count), 1);
    }

    /// hyper yields by waking itself: without that turn it would stand still.
    #[test]
    fn a_connection_that_yields_gets_another_turn() {
        assert_eq!(woken(&driven(Poll::Pending, true).2), 1);
    }

    #[test]
    fn what_is_woken_on_the_way_to_an_outcome_costs_no_turn() {
        assert_eq!(woken(&driven(Poll::Ready(()), true).2), 0);
    }

    #[test]
    fn an_idle_connection_wakes_nobody() {
        let (turns, waker, count) = driven(Poll::Pending, false);
        turns.rest();
        waker.wake_by_ref();
        assert_eq!(woken(&count), 0);
    }

    /// Each request on a connection has a task of its own.
    #[test]
    fn the_next_task_takes_the_last_ones_place() {
        let (turns, waker, before) = driven(Poll::Pending, false);
        let now = Arc::<Count>::default();
        let task = Waker::from(Arc::clone(&now));
        assert!(turns.take(&mut Context::from_waker(&task), |_| Poll::<()>::Pending).is_pending());
        waker.wake_by_ref();
        assert_eq!((woken(&before), woken(&now)), (0, 1));
    }
}
