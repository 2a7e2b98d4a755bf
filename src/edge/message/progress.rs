//! How far a request's body has come: an origin's time to answer runs from the last piece that it took.

use std::cell::Cell;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use crate::edge::timer::{self, Deadline, TICK};

/// Shared by a request's body and by whoever waits for the answer to it.
#[derive(Debug, Clone, Default)]
pub struct Progress(Rc<Cell<State>>);

#[derive(Debug, Clone, Copy, Default)]
enum State {
    /// Nobody has asked for the body yet.
    #[default]
    Untouched,
    /// The visitor is waited for.
    Waits,
    /// The last piece was taken then.
    Moved(Instant),
}

impl Progress {
    /// The visitor is waited for; what limits that is the body's own matter.
    pub fn waits(&self) {
        self.0.set(State::Waits);
    }

    /// A piece was taken, or the body's end.
    pub fn moved(&self) {
        self.0.set(State::Moved(timer::now()));
    }

    /// From when on the origin has been waited for, if that is later than `since`.
    fn later_than(&self, since: Instant) -> Option<Instant> {
        match self.0.get() {
            State::Untouched => None,
            State::Waits => Some(timer::now()),
            State::Moved(at) => (at > since).then_some(at),
        }
    }
}

/// The time that an origin has for its answer's head: `timeouts.first_byte`, from the request's last byte.
///
/// Cost: one deadline, looked at again only when it has passed.
#[derive(Debug)]
pub struct AnswerLimit {
    limit: Duration,
    since: Instant,
    deadline: Deadline,
    /// `None`: the request has no body.
    progress: Option<Progress>,
}

impl AnswerLimit {
    /// From now, and again from every step of the body.
    #[must_use]
    pub fn new(limit: Duration, progress: Option<Progress>) -> Self {
        Self { limit, since: timer::now(), deadline: Deadline::new(limit), progress }
    }

    /// Ready once the origin has had its time.
    pub fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            ready!(self.deadline.poll(cx));
            let moved = self.progress.as_ref().and_then(|progress| progress.later_than(self.since));
            let Some(since) = moved else { return Poll::Ready(()) };
            self.since = since;
            self.deadline = Deadline::at(since + self.limit + TICK);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_origins_time_begins_with_the_last_piece_it_took() {
        let (progress, start) = (Progress::default(), Instant::now());
        assert_eq!(progress.later_than(start), None, "no piece yet: the origin does not read");
        progress.waits();
        assert!(progress.later_than(start).is_some(), "the visitor's turn");
        progress.moved();
        let at = progress.later_than(start).unwrap();
        assert_eq!(progress.later_than(at + Duration::from_secs(1)), None, "nothing since");
    }
}
