//! What a [`super::Gate`] and the service behind hyper tell each other about one connection.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::task::Waker;

use super::Reason;
use super::interim::Outbox;

/// Marks a request for which [`Link::is_of_server`] holds.
#[derive(Debug, Clone, Copy)]
pub struct OfServer;

/// It. Requests are counted from 1.
#[derive(Debug, Default)]
pub struct Link {
    /// The refused request and its reason.
    refused: Mutex<Option<(u64, Reason)>>,
    /// Whether `refused` is worth a look.
    any_refused: AtomicU64,
    /// The last request answered, times two; odd when the protocol has changed with it.
    answered: AtomicU64,
    /// Part of a head is held.
    pub(super) in_head: AtomicBool,
    /// The request that is for the server and no page of it, by an address without a path; 0: none yet.
    pub(super) of_server: AtomicU64,
    /// The request whose body has begun and not ended; 0: none.
    pub(super) in_body: AtomicU64,
    /// A head had begun and did not end in time.
    pub(super) late: AtomicBool,
    /// No head had begun in time.
    pub(super) idle: AtomicBool,
    /// Nothing has come for a while, and nothing is under way.
    pub(super) quiet: AtomicBool,
    /// Whether `waiting` is worth a look. Both sides run on the connection's own task.
    pub(super) is_waiting: AtomicBool,
    pub(super) waiting: Mutex<Option<Waker>>,
    pub(super) interim: Outbox,
}

impl Link {
    /// Why this request is refused, if it is. Cost: one load.
    #[must_use]
    pub fn refusal(&self, request: u64) -> Option<Reason> {
        if self.any_refused.load(Ordering::Acquire) != request {
            return None;
        }
        let refused = *self.refused.lock().unwrap_or_else(PoisonError::into_inner);
        refused.filter(|(number, _)| *number == request).map(|(_, reason)| reason)
    }

    /// Why a body could not be read to its end, if one could not.
    #[must_use]
    pub fn broken_body(&self) -> Option<Reason> {
        let refused = *self.refused.lock().unwrap_or_else(PoisonError::into_inner);
        refused.filter(|(number, _)| *number == 0).map(|(_, reason)| reason)
    }

    /// Whether a head has begun and not ended: hyper knows nothing of it yet.
    #[must_use]
    pub fn is_in_head(&self) -> bool {
        self.in_head.load(Ordering::Acquire)
    }

    /// Whether this request's target is an address that means the server: `*` to whoever gets it next (RFC 9112, 3.2.4).
    /// hyper's types read it as the root's. Cost: one load.
    #[must_use]
    pub fn is_of_server(&self, request: u64) -> bool {
        self.of_server.load(Ordering::Relaxed) == request
    }

    /// Whether some of this request's body has not come yet. Cost: one load.
    #[must_use]
    pub fn is_in_body(&self, request: u64) -> bool {
        self.in_body.load(Ordering::Relaxed) == request
    }

    /// Whether a head had begun and did not end in time.
    #[must_use]
    pub fn is_late(&self) -> bool {
        self.late.load(Ordering::Relaxed)
    }

    /// Whether no next head had begun in time.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.idle.load(Ordering::Relaxed)
    }

    /// Whether nothing has come for a while and nothing is under way: what hyper holds of the connection can go. Cost:
    /// one load.
    #[must_use]
    pub fn is_quiet(&self) -> bool {
        self.quiet.load(Ordering::Relaxed)
    }

    /// Has an interim answer's head written before the answer to the request that is under way; it is dropped where
    /// the visitor does not read.
    pub fn tell(&self, head: &[u8]) {
        self.interim.put(head);
    }

    /// Notes that a request has its answer: what stands behind it may be read, as what it now is. Cost: a store
    /// and two loads.
    pub fn answered(&self, request: u64, switched: bool) {
        self.interim.answered();
        self.answered.store(request * 2 + u64::from(switched), Ordering::Release);
        if !self.is_waiting.load(Ordering::Acquire) {
            return;
        }
        if let Some(waker) = self.waiting.lock().unwrap_or_else(PoisonError::into_inner).take() {
            waker.wake();
        }
    }

    pub(super) fn refuse(&self, request: u64, reason: Reason) {
        *self.refused.lock().unwrap_or_else(PoisonError::into_inner) = Some((request, reason));
        self.any_refused.store(request, Ordering::Release);
    }

    /// Whether a request has its answer, and whether the protocol changed.
    pub(super) fn answer_of(&self, request: u64) -> Option<bool> {
        let answered = self.answered.load(Ordering::Acquire);
        (answered / 2 >= request).then_some(answered % 2 == 1)
    }
}
