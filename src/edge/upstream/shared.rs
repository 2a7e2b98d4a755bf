//! An HTTP/2 connection that the requests of one core to one origin share: when it has been idle for too long, when
//! it carries all that it may, and when it is not to be trusted any more.

use std::cell::Cell;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::{Duration, Instant};

use hyper::client::conn::http2::SendRequest;
use tokio::sync::Notify;

use crate::edge::message::body::RequestBody;
use crate::edge::strict::Reason;
use crate::edge::timer;

/// The connection.
#[derive(Clone)]
pub struct Shared {
    /// Takes requests.
    pub sender: SendRequest<RequestBody>,
    /// Where it leads; `None` for a Unix socket.
    pub address: Option<SocketAddr>,
    /// What it is used for.
    pub uses: Rc<Uses>,
}

impl Shared {
    /// Whether another request may be sent there.
    pub fn is_good(&self) -> bool {
        !self.sender.is_closed() && !self.uses.given_up.get()
    }

    /// Whether it carries less than its origin allows: a request more would wait in it for another's end.
    pub fn has_room(&self) -> bool {
        self.uses.streams.get() < self.uses.most.get()
    }
}

/// What a connection is used for.
#[derive(Debug, Default)]
pub struct Uses {
    streams: Cell<u32>,
    /// Streams that the origin allows; 0: it has not said yet.
    most: Cell<u32>,
    /// It has said.
    told: Notify,
    /// When the last of them ended.
    idle_since: Cell<Option<Instant>>,
    /// A request had no answer in time, or no more of it, or the connection failed under it.
    given_up: Cell<bool>,
    /// What was wrong with an answer, for which it ended.
    malformed: Cell<Option<Reason>>,
}

impl Uses {
    /// The origin allows so many streams. One that allows none for now is asked all the same.
    pub fn allow(&self, most: u32) {
        self.most.set(most.max(1));
        self.told.notify_one();
    }

    /// Waits until the origin has said how many streams it allows; for one caller.
    pub async fn allowed(&self) {
        self.told.notified().await;
    }

    /// An answer on it is malformed, which ends it.
    pub fn note_malformed(&self, reason: Reason) {
        self.malformed.set(Some(reason));
    }

    /// How long it has carried nothing; `None` while it does.
    pub fn idle_for(&self, now: Instant) -> Option<Duration> {
        let since = self.idle_since.get().filter(|_| self.streams.get() == 0)?;
        Some(now.saturating_duration_since(since))
    }

    /// Whether it has carried a request to its end, so that its origin may be closing it right now.
    pub const fn has_served(&self) -> bool {
        self.idle_since.get().is_some()
    }
}

/// One request on it.
#[derive(Debug)]
pub struct Stream(Rc<Uses>);

impl Stream {
    /// Counts a request.
    pub fn of(uses: &Rc<Uses>) -> Self {
        uses.streams.set(uses.streams.get() + 1);
        Self(Rc::clone(uses))
    }

    /// The origin is silent, so the network may have swallowed the connection, or it has failed and only hyper does
    /// not say so yet: nothing more is sent there, and the next request opens another.
    pub fn give_up(&self) {
        self.0.given_up.set(true);
    }

    /// Why the connection ended, if that was for an answer on it.
    pub fn malformed(&self) -> Option<Reason> {
        self.0.malformed.get()
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.0.streams.set(self.0.streams.get().saturating_sub(1));
        self.0.idle_since.set(Some(timer::now()));
    }
}
