//! A coarse timer for each core: deadlines in a slab, swept every [`TICK`].
//!
//! A tokio timer costs a wheel insert and removal for each request; here arming and disarming is a
//! slab slot. Deadlines fire up to two ticks late and never early.

use std::cell::RefCell;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, Waker, ready};
use std::time::{Duration, Instant};

use hyper::rt::{Sleep, Timer};

/// How often deadlines are looked at.
pub const TICK: Duration = Duration::from_millis(100);

/// The deadlines of one core.
#[derive(Default)]
struct Slab {
    now: Option<Instant>,
    slots: Vec<Option<(Instant, Waker)>>,
    free: Vec<usize>,
}

thread_local! {
    static SLAB: RefCell<Slab> = RefCell::default();
}

/// The core's time, at most one [`TICK`] old; exact where no sweeper runs.
#[must_use]
pub fn now() -> Instant {
    SLAB.with_borrow(|slab| slab.now).unwrap_or_else(Instant::now)
}

/// When a time that begins now is over. Never early, though [`now`] may be old.
#[must_use]
pub fn after(limit: Duration) -> Instant {
    now() + limit + TICK
}

/// Sweeps this core's deadlines for ever; spawn once on each core.
pub async fn sweep() {
    loop {
        tick(Instant::now());
        tokio::time::sleep(TICK).await;
    }
}

/// Wakes everything due at `now`.
fn tick(now: Instant) {
    // Wakers may run code that arms a deadline, so they are called after the borrow ends.
    let due: Vec<Waker> = SLAB.with_borrow_mut(|slab| {
        slab.now = Some(now);
        let due = slab.slots.iter_mut().flatten().filter(|(at, _)| *at <= now);
        // Once: whoever is woken may have no ear for it yet, and finds it by itself when it has.
        due.map(|(at, waker)| {
            *at = now + NEVER;
            waker.clone()
        })
        .collect()
    });
    due.into_iter().for_each(Waker::wake);
}

/// A moment after which something has taken too long.
///
/// Cost: nothing until first polled before its time, then one slot.
#[derive(Debug)]
pub struct Deadline {
    at: Instant,
    slot: Option<usize>,
}

impl Deadline {
    /// `limit` from now.
    #[must_use]
    pub fn new(limit: Duration) -> Self {
        Self::at(after(limit))
    }

    /// At a moment.
    pub(super) fn at(at: Instant) -> Self {
        Self { at, slot: None }
    }

    /// Starts again, `limit` from now.
    pub fn restart(&mut self, limit: Duration) {
        self.move_to(after(limit));
    }

    /// Moves to another moment.
    fn move_to(&mut self, at: Instant) {
        self.at = at;
        if let Some(slot) = self.slot {
            SLAB.with_borrow_mut(|slab| {
                if let Some(Some((at, _))) = slab.slots.get_mut(slot) {
                    *at = self.at;
                }
            });
        }
    }

    /// Whether the time has come.
    #[must_use]
    pub fn is_over(&self) -> bool {
        now() >= self.at
    }

    /// Ready once the time has come.
    pub fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        SLAB.with_borrow_mut(|slab| {
            if slab.now.unwrap_or_else(Instant::now) >= self.at {
                return Poll::Ready(());
            }
            if let Some(slot) = self.slot {
                match slab.slots.get_mut(slot) {
                    Some(Some((_, waker))) if waker.will_wake(cx.waker()) => {}
                    Some(held) => *held = Some((self.at, cx.waker().clone())),
                    None => {}
                }
                return Poll::Pending;
            }
            let entry = Some((self.at, cx.waker().clone()));
            let slot = slab.free.pop().unwrap_or(slab.slots.len());
            if slot == slab.slots.len() {
                slab.slots.push(entry);
            } else {
                slab.slots[slot] = entry;
            }
            self.slot = Some(slot);
            Poll::Pending
        })
    }
}

impl Drop for Deadline {
    fn drop(&mut self) {
        let Some(slot) = self.slot.take() else { return };
        // On the way out of a thread the slab may be gone already.
        let _ = SLAB.try_with(|slab| {
            if let Ok(mut slab) = slab.try_borrow_mut()
                && let Some(held) = slab.slots.get_mut(slot)
                && held.take().is_some()
            {
                slab.free.push(slot);
            }
        });
    }
}

/// A future with a time limit. `None` when the limit was reached first.
pub async fn within<F: Future>(limit: Duration, future: F) -> Option<F::Output> {
    let mut deadline = Deadline::new(limit);
    let mut future = std::pin::pin!(future);
    std::future::poll_fn(|cx| match future.as_mut().poll(cx) {
        Poll::Ready(output) => Poll::Ready(Some(output)),
        Poll::Pending => deadline.poll(cx).map(|()| None),
    })
    .await
}

/// Bytes read from one downstream connection: tells an idle connection from a slow head.
#[derive(Debug, Clone, Default)]
pub struct ReadMeter(Arc<AtomicU64>);

impl ReadMeter {
    /// Notes bytes read.
    pub fn add(&self, bytes: usize) {
        self.0.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    fn total(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// How long an HTTP/1.1 head may be waited for.
#[derive(Debug, Clone, Copy)]
pub struct HeadLimits {
    /// Until its first byte.
    pub idle: Duration,
    /// From there to its end.
    pub header_read: Duration,
}

impl HeadLimits {
    /// For ever.
    pub const NONE: Self = Self { idle: NEVER, header_read: NEVER };
}

/// Longer than any connection lives.
const NEVER: Duration = Duration::from_secs(100 * 365 * 24 * 60 * 60);

/// How long nothing may have come for a next head before the connection is quiet.
const QUIET: Duration = Duration::from_secs(1);

/// The wait of one connection for its next head.
///
/// hyper could wait too, with a timer that it makes anew for every request. Here the connection keeps its slot, and
/// a wait costs two looks at the core's time.
#[derive(Debug)]
pub struct HeadWait {
    limits: HeadLimits,
    /// It waits, and has seen some of the head.
    waits: Option<bool>,
    /// It has waited for [`QUIET`] and seen nothing.
    quiet: bool,
    /// When it has waited for too long.
    end: Instant,
    deadline: Option<Deadline>,
}

impl HeadWait {
    /// Nothing is waited for yet.
    #[must_use]
    pub fn new(limits: HeadLimits) -> Self {
        Self { limits, waits: None, quiet: false, end: now(), deadline: None }
    }

    /// Waits on. `begun`: some of the head is there. Ready once that took too long.
    pub fn poll(&mut self, begun: bool, cx: &mut Context<'_>) -> Poll<()> {
        if self.waits != Some(begun) {
            let limit = if begun { self.limits.header_read } else { self.limits.idle };
            (self.waits, self.quiet, self.end) = (Some(begun), false, after(limit));
            let first = if begun { self.end } else { after(limit.min(QUIET)) };
            match &mut self.deadline {
                Some(deadline) => deadline.move_to(first),
                none => *none = Some(Deadline::at(first)),
            }
        }
        let Some(deadline) = &mut self.deadline else { return Poll::Pending };
        ready!(deadline.poll(cx));
        if begun || self.quiet {
            return Poll::Ready(());
        }
        self.quiet = true;
        deadline.move_to(self.end);
        deadline.poll(cx)
    }

    /// Whether it has waited for a while and seen nothing.
    #[must_use]
    pub const fn is_quiet(&self) -> bool {
        self.quiet
    }

    /// The head is there.
    pub fn end(&mut self) {
        self.quiet = false;
        if self.waits.take().is_some()
            && let Some(deadline) = &mut self.deadline
        {
            // A request may take longer than a wait: nobody is to be woken meanwhile.
            deadline.move_to(now() + NEVER);
        }
    }
}

/// hyper's timer for one HTTP/2 connection.
///
/// hyper has one limit from the moment it waits; we give it the idle limit and shorten it to `header_read` from the
/// first byte on.
#[derive(Debug, Clone)]
pub struct HeadTimer {
    meter: ReadMeter,
    header_read: Duration,
}

impl HeadTimer {
    /// A timer for a connection whose reads the meter counts.
    #[must_use]
    pub const fn new(meter: ReadMeter, header_read: Duration) -> Self {
        Self { meter, header_read }
    }
}

impl Timer for HeadTimer {
    fn sleep(&self, duration: Duration) -> Pin<Box<dyn Sleep>> {
        self.sleep_until(now() + duration)
    }

    fn sleep_until(&self, deadline: Instant) -> Pin<Box<dyn Sleep>> {
        Box::pin(HeadSleep {
            seen: self.meter.total(),
            timer: self.clone(),
            started: false,
            deadline: Deadline::at(deadline + TICK),
        })
    }

    fn now(&self) -> Instant {
        now()
    }
}

/// Ends at the idle limit, or `header_read` after the first byte of a head.
struct HeadSleep {
    timer: HeadTimer,
    seen: u64,
    started: bool,
    deadline: Deadline,
}

impl Future for HeadSleep {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = self.get_mut();
        if !this.started && this.timer.meter.total() != this.seen {
            this.started = true;
            this.deadline.restart(this.timer.header_read);
        }
        this.deadline.poll(cx)
    }
}

impl Sleep for HeadSleep {}

#[cfg(test)]
mod tests {
    use super::*;

    fn poll(deadline: &mut Deadline) -> Poll<()> {
        deadline.poll(&mut Context::from_waker(Waker::noop()))
    }

    #[test]
    fn a_deadline_is_ready_only_after_its_time() {
        let start = Instant::now();
        tick(start);
        let mut deadline = Deadline::new(Duration::from_secs(1));
        assert!(poll(&mut deadline).is_pending());
        tick(start + Duration::from_secs(1));
        assert!(poll(&mut deadline).is_pending(), "never early, even by the age of the coarse clock");
        tick(start + Duration::from_millis(1_100));
        assert!(poll(&mut deadline).is_ready());
    }

    /// A task that does not look at a deadline which woke it is not woken for it at every tick from then on.
    #[test]
    fn a_deadline_wakes_once() {
        struct Woken(AtomicU64);
        impl std::task::Wake for Woken {
            fn wake(self: Arc<Self>) {
                self.0.fetch_add(1, Ordering::Relaxed);
            }
        }
        let woken = Arc::new(Woken(AtomicU64::new(0)));
        let start = Instant::now();
        tick(start);
        let mut deadline = Deadline::new(Duration::from_secs(1));
        let waker = Waker::from(Arc::clone(&woken));
        assert!(deadline.poll(&mut Context::from_waker(&waker)).is_pending());
        for seconds in 2..6 {
            tick(start + Duration::from_secs(seconds));
        }
        assert_eq!(woken.0.load(Ordering::Relaxed), 1);
        assert!(poll(&mut deadline).is_ready(), "it is over all the same");
        deadline.restart(Duration::from_secs(1));
        tick(start + Duration::from_secs(8));
        assert_eq!(woken.0.load(Ordering::Relaxed), 2, "and wakes again when it has begun again");
    }

    #[test]
    fn slots_are_used_again() {
        tick(Instant::now());
        for _ in 0..10 {
            let mut deadline = Deadline::new(Duration::from_secs(1));
            assert!(poll(&mut deadline).is_pending());
        }
        assert_eq!(SLAB.with_borrow(|slab| slab.slots.len()), 1);
    }

    /// T13: an idle connection may wait for long; a head that has begun may not, and no byte starts its time again.
    #[test]
    fn a_head_has_one_limit_from_its_first_byte_on() {
        let (start, second) = (Instant::now(), Duration::from_secs(1));
        let mut context = Context::from_waker(Waker::noop());
        let mut wait = HeadWait::new(HeadLimits { idle: second * 60, header_read: second * 5 });
        tick(start);
        assert!(wait.poll(false, &mut context).is_pending());
        tick(start + second * 30);
        for passed in [30, 32, 34] {
            tick(start + second * passed);
            assert!(wait.poll(true, &mut context).is_pending(), "{passed}");
        }
        tick(start + second * 36);
        assert!(wait.poll(true, &mut context).is_ready());
    }

    /// The next wait has its whole time, and a long request is not woken for the last one's.
    #[test]
    fn a_wait_ends_with_its_head() {
        let (start, second) = (Instant::now(), Duration::from_secs(1));
        let mut context = Context::from_waker(Waker::noop());
        let mut wait = HeadWait::new(HeadLimits { idle: second * 60, header_read: second * 5 });
        tick(start);
        assert!(wait.poll(false, &mut context).is_pending());
        wait.end();
        let due = |now| SLAB.with_borrow(|slab| slab.slots.iter().flatten().any(|(at, _)| *at <= now));
        assert!(!due(start + second * 3_600));
        tick(start + second * 3_600);
        assert!(wait.poll(false, &mut context).is_pending());
        tick(start + second * 3_659);
        assert!(wait.poll(false, &mut context).is_pending());
        tick(start + second * 3_661);
        assert!(wait.poll(false, &mut context).is_ready());
    }

    /// An idle connection may wait for long; what has begun may not.
    #[test]
    fn the_first_byte_shortens_the_limit_of_hypers_timer() {
        let start = Instant::now();
        tick(start);
        let meter = ReadMeter::default();
        let timer = HeadTimer::new(meter.clone(), Duration::from_secs(5));
        let mut sleep = timer.sleep(Duration::from_secs(60));
        let mut context = Context::from_waker(Waker::noop());
        tick(start + Duration::from_secs(30));
        assert!(sleep.as_mut().poll(&mut context).is_pending());
        meter.add(1);
        assert!(sleep.as_mut().poll(&mut context).is_pending());
        tick(start + Duration::from_secs(36));
        assert!(sleep.as_mut().poll(&mut context).is_ready());
    }
}
