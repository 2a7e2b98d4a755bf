//! Places at an origin with `max_connections`, and the line of requests that wait for one.
//!
//! One number for the whole process: a share for each core would leave places empty on one core while
//! requests wait on another. The line is first come, first served over all cores (tokio's semaphore), and
//! whoever leaves it leaves nothing behind. A reload changes how many places there are and how long the line may be,
//! and leaves everybody where they are.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::sync::{Semaphore, watch};

use crate::edge::error::ProxyError;
use crate::edge::timer;
use crate::telemetry::upstreams::UpstreamFigures;

/// A place at an origin; given back when dropped.
#[derive(Debug)]
pub struct Place(Arc<Places>);

impl Place {
    fn of(places: &Arc<Places>) -> Self {
        Self(Arc::clone(places))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.give_back();
    }
}

/// All places of an origin.
#[derive(Debug)]
struct Places {
    free: Semaphore,
    /// How many there are.
    all: AtomicUsize,
    /// Taken ones that are too many since a reload: as many that come back are not given out again.
    over: AtomicUsize,
}

impl Places {
    fn new(all: usize) -> Self {
        Self { free: Semaphore::new(all), all: AtomicUsize::new(all), over: AtomicUsize::new(0) }
    }

    fn give_back(&self) {
        let one_less = |over: usize| over.checked_sub(1);
        if self.over.fetch_update(Ordering::AcqRel, Ordering::Acquire, one_less).is_err() {
            self.free.add_permits(1);
        }
    }

    /// From now on there are so many. One caller at a time.
    fn become_as_many(&self, all: usize) {
        let before = self.all.swap(all, Ordering::AcqRel);
        let (more, fewer) = (all.saturating_sub(before), before.saturating_sub(all));
        // In this order, so that whoever gives one back meanwhile is not counted twice.
        self.over.fetch_add(fewer, Ordering::AcqRel);
        let settled = more + self.free.forget_permits(fewer);
        let over = self.lower_over(settled);
        self.free.add_permits(settled.saturating_sub(over));
    }

    /// So many are too many no more; gives how many were.
    fn lower_over(&self, by: usize) -> usize {
        let lower = |over: usize| Some(over.saturating_sub(by));
        // It never refuses.
        self.over.fetch_update(Ordering::AcqRel, Ordering::Acquire, lower).unwrap_or_default()
    }
}

/// How requests wait.
#[derive(Debug)]
struct Line {
    most: usize,
    limit: Duration,
    figures: Arc<UpstreamFigures>,
}

/// The places of one origin.
#[derive(Debug)]
pub struct Cap {
    places: Arc<Places>,
    waiting: AtomicUsize,
    line: ArcSwap<Line>,
    /// Says to all cores that somebody waits: places of idle connections are to be given up.
    wanted: watch::Sender<()>,
}

impl Cap {
    /// `places` connections; at most `most_waiting` requests wait, each at most `limit`.
    #[must_use]
    pub fn new(places: usize, most_waiting: usize, limit: Duration, figures: Arc<UpstreamFigures>) -> Self {
        Self {
            places: Arc::new(Places::new(places.min(Semaphore::MAX_PERMITS))),
            waiting: AtomicUsize::new(0),
            line: ArcSwap::from_pointee(Line { most: most_waiting, limit, figures }),
            wanted: watch::channel(()).0,
        }
    }

    /// From now on it is as another that nobody uses yet. Who has a place keeps it, and it counts; who waits already
    /// waits as before, and gets a new place at once. One caller at a time.
    pub fn become_as(&self, other: &Self) {
        self.line.store(other.line.load_full());
        self.places.become_as_many(other.places.all.load(Ordering::Acquire));
        self.wanted.send_replace(());
    }

    /// There is no limit any more: nobody has to wait on.
    pub fn open(&self) {
        self.places.become_as_many(Semaphore::MAX_PERMITS);
    }

    /// Whether a place is free now. Cost: one load.
    #[must_use]
    pub fn has_room(&self) -> bool {
        self.places.free.available_permits() > 0
    }

    /// Taken places that are too many since a reload.
    #[must_use]
    pub fn over(&self) -> usize {
        self.places.over.load(Ordering::Acquire)
    }

    /// Requests in the line.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.waiting.load(Ordering::Acquire)
    }

    /// Tells when somebody began to wait.
    #[must_use]
    pub fn watch(&self) -> watch::Receiver<()> {
        self.wanted.subscribe()
    }

    /// A place that is free now.
    #[must_use]
    pub fn try_take(&self) -> Option<Place> {
        self.places.free.try_acquire().ok()?.forget();
        Some(Place::of(&self.places))
    }

    /// A place, if need be after waiting for it.
    ///
    /// # Errors
    /// [`ProxyError::QueueFull`] when the line is full, [`ProxyError::QueueTimeout`] when it was too long.
    pub async fn take(&self) -> Result<Place, ProxyError> {
        if let Some(place) = self.try_take() {
            return Ok(place);
        }
        let waiting = Waiting::begin(self)?;
        self.wanted.send_replace(());
        match timer::within(waiting.line.limit, self.places.free.acquire()).await {
            Some(Ok(place)) => {
                place.forget();
                Ok(Place::of(&self.places))
            }
            Some(Err(_)) => Err(ProxyError::Internal("the places of an origin were closed")),
            None => {
                waiting.line.figures.queue_timeout.inc();
                Err(ProxyError::QueueTimeout)
            }
        }
    }
}

/// One in the line; leaves it when dropped, also by a visitor that goes.
struct Waiting<'a> {
    cap: &'a Cap,
    /// As it was when this one came.
    line: Arc<Line>,
}

impl<'a> Waiting<'a> {
    fn begin(cap: &'a Cap) -> Result<Self, ProxyError> {
        let line = cap.line.load_full();
        if cap.waiting.fetch_add(1, Ordering::AcqRel) >= line.most {
            cap.waiting.fetch_sub(1, Ordering::AcqRel);
            line.figures.queue_full.inc();
            return Err(ProxyError::QueueFull);
        }
        line.figures.waiting.inc();
        Ok(Self { cap, line })
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.cap.waiting.fetch_sub(1, Ordering::AcqRel);
        self.line.figures.waiting.dec();
    }
}

#[cfg(test)]
mod tests {
    use std::future::Future;
    use std::pin::Pin;
    use std::task::{Context, Poll, Waker};

    use super::*;

    type Taking<'a> = Pin<Box<dyn Future<Output = Result<Place, ProxyError>> + 'a>>;

    fn cap(places: usize, waiting: usize) -> Cap {
        Cap::new(places, waiting, Duration::from_secs(60), Arc::default())
    }

    fn poll(taking: &mut Taking<'_>) -> Poll<Result<Place, ProxyError>> {
        taking.as_mut().poll(&mut Context::from_waker(Waker::noop()))
    }

    fn taken(taking: &mut Taking<'_>) -> Place {
        match poll(taking) {
            Poll::Ready(Ok(place)) => place,
            other => panic!("no place: {other:?}"),
        }
    }

    #[test]
    fn places_go_to_those_who_wait_in_their_order() {
        let cap = cap(1, 10);
        let held = taken(&mut (Box::pin(cap.take()) as Taking<'_>));
        let mut waiting: Vec<Taking<'_>> = (0..3).map(|_| Box::pin(cap.take()) as Taking<'_>).collect();
        assert!(waiting.iter_mut().all(|one| poll(one).is_pending()));
        assert_eq!(cap.waiting(), 3);
        drop(held);
        assert!(cap.try_take().is_none(), "nobody goes past the line");
        assert!(poll(&mut waiting[1]).is_pending());
        let first = taken(&mut waiting[0]);
        assert!(poll(&mut waiting[2]).is_pending());
        drop(first);
        drop(taken(&mut waiting[1]));
        drop(taken(&mut waiting[2]));
        assert!(cap.has_room() && cap.waiting() == 0);
    }

    /// A visitor that goes while it waits, even with the place already on its way, leaks nothing.
    #[test]
    fn who_leaves_the_line_leaves_nothing_behind() {
        let cap = cap(1, 10);
        let held = taken(&mut (Box::pin(cap.take()) as Taking<'_>));
        let mut leaves_waiting: Taking<'_> = Box::pin(cap.take());
        let mut leaves_chosen: Taking<'_> = Box::pin(cap.take());
        let mut stays: Taking<'_> = Box::pin(cap.take());
        for one in [&mut leaves_waiting, &mut leaves_chosen, &mut stays] {
            assert!(poll(one).is_pending());
        }
        drop(leaves_waiting);
        drop(held);
        drop(leaves_chosen);
        drop(taken(&mut stays));
        assert!(cap.waiting() == 0 && cap.has_room());
        assert_eq!(cap.line.load().figures.waiting.get(), 0);
    }

    #[test]
    fn a_full_line_is_said_at_once_and_the_wanted_signal_is_given() {
        let cap = cap(1, 1);
        let wanted = cap.watch();
        let _held = taken(&mut (Box::pin(cap.take()) as Taking<'_>));
        assert!(!wanted.has_changed().unwrap());
        let mut waits: Taking<'_> = Box::pin(cap.take());
        assert!(poll(&mut waits).is_pending());
        assert!(wanted.has_changed().unwrap());
        let mut refused: Taking<'_> = Box::pin(cap.take());
        assert!(matches!(poll(&mut refused), Poll::Ready(Err(ProxyError::QueueFull))));
        assert_eq!((cap.waiting(), cap.line.load().figures.queue_full.get()), (1, 1));
    }

    /// A reload: those that are taken count, however many there are to be; what is too many goes as it comes back.
    #[test]
    fn places_that_are_taken_count_among_as_many_as_there_are_now() {
        let now = cap(3, 10);
        let mut held: Vec<Place> = (0..2).filter_map(|_| now.try_take()).collect();
        now.become_as(&cap(1, 10));
        assert_eq!((now.has_room(), now.over()), (false, 1));
        let mut waits: Taking<'_> = Box::pin(now.take());
        assert!(poll(&mut waits).is_pending());
        held.pop();
        assert!(poll(&mut waits).is_pending(), "it was one too many");
        held.pop();
        held.push(taken(&mut waits));
        assert!(now.try_take().is_none());
        now.become_as(&cap(0, 10));
        assert_eq!(now.over(), 1);
        now.become_as(&cap(3, 10));
        held.extend((0..2).filter_map(|_| now.try_take()));
        assert_eq!((held.len(), now.has_room(), now.over()), (3, false, 0));
        drop(held);
        let all: Vec<Place> = (0..4).filter_map(|_| now.try_take()).collect();
        assert_eq!(all.len(), 3, "none was lost and none made");
    }

    /// Whoever waits has the place that a reload brings, and the next one stands in the line as it is now.
    #[test]
    fn a_new_place_is_for_who_waits_and_a_shorter_line_for_who_comes() {
        let now = cap(1, 10);
        let _held = now.try_take().unwrap();
        let mut waits: [Taking<'_>; 2] = [Box::pin(now.take()), Box::pin(now.take())];
        assert!(waits.iter_mut().all(|one| poll(one).is_pending()));
        now.become_as(&cap(2, 1));
        let _place = taken(&mut waits[0]);
        let mut refused: Taking<'_> = Box::pin(now.take());
        assert!(matches!(poll(&mut refused), Poll::Ready(Err(ProxyError::QueueFull))));
        assert!(poll(&mut waits[1]).is_pending(), "who stood in it before stays");
        now.open();
        drop(taken(&mut waits[1]));
    }
}
