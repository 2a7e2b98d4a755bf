//! Places at an origin with `max_connections`, and the line of requests that wait for one.
//!
//! One number for the whole process: a share for each core would leave places empty on one core while
//! requests wait on another. The line is first come, first served over all cores (tokio's semaphore), and
//! whoever leaves it leaves nothing behind.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};

use crate::edge::error::ProxyError;
use crate::edge::timer;
use crate::telemetry::upstreams::UpstreamFigures;

/// A place at an origin; given back when dropped.
pub type Place = OwnedSemaphorePermit;

/// The places of one origin.
#[derive(Debug)]
pub struct Cap {
    places: Arc<Semaphore>,
    waiting: AtomicUsize,
    most_waiting: usize,
    limit: Duration,
    /// Says to all cores that somebody waits: places of idle connections are to be given up.
    wanted: watch::Sender<()>,
    figures: Arc<UpstreamFigures>,
}

impl Cap {
    /// `places` connections; at most `most_waiting` requests wait, each at most `limit`.
    #[must_use]
    pub fn new(places: usize, most_waiting: usize, limit: Duration, figures: Arc<UpstreamFigures>) -> Self {
        Self {
            places: Arc::new(Semaphore::new(places.min(Semaphore::MAX_PERMITS))),
            waiting: AtomicUsize::new(0),
            most_waiting,
            limit,
            wanted: watch::channel(()).0,
            figures,
        }
    }

    /// Whether its line is as another's.
    #[must_use]
    pub fn waits_as(&self, other: &Self) -> bool {
        (self.most_waiting, self.limit) == (other.most_waiting, other.limit)
    }

    /// Whether a place is free now. Cost: one load.
    #[must_use]
    pub fn has_room(&self) -> bool {
        self.places.available_permits() > 0
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
        Arc::clone(&self.places).try_acquire_owned().ok()
    }

    /// A place, if need be after waiting for it.
    ///
    /// # Errors
    /// [`ProxyError::QueueFull`] when the line is full, [`ProxyError::QueueTimeout`] when it was too long.
    pub async fn take(&self) -> Result<Place, ProxyError> {
        if let Some(place) = self.try_take() {
            return Ok(place);
        }
        let _waiting = Waiting::begin(self)?;
        self.wanted.send_replace(());
        match timer::within(self.limit, Arc::clone(&self.places).acquire_owned()).await {
            Some(Ok(place)) => Ok(place),
            Some(Err(_)) => Err(ProxyError::Internal("the places of an origin were closed")),
            None => {
                self.figures.queue_timeout.inc();
                Err(ProxyError::QueueTimeout)
            }
        }
    }
}

/// One in the line; leaves it when dropped, also by a visitor that goes.
struct Waiting<'a>(&'a Cap);

impl<'a> Waiting<'a> {
    fn begin(cap: &'a Cap) -> Result<Self, ProxyError> {
        if cap.waiting.fetch_add(1, Ordering::AcqRel) >= cap.most_waiting {
            cap.waiting.fetch_sub(1, Ordering::AcqRel);
            cap.figures.queue_full.inc();
            return Err(ProxyError::QueueFull);
        }
        cap.figures.waiting.inc();
        Ok(Self(cap))
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.waiting.fetch_sub(1, Ordering::AcqRel);
        self.0.figures.waiting.dec();
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
        assert_eq!(cap.figures.waiting.get(), 0);
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
        assert_eq!((cap.waiting(), cap.figures.queue_full.get()), (1, 1));
    }
}
