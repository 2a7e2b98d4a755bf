//! Interim answers (RFC 9110, 15.2) between the service behind hyper and the visitor's socket.
//!
//! hyper's server writes none but `100 Continue`, so they are written past it: where everything it had for the
//! socket has gone, nothing but the beginning of the final answer can come next.

use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Mutex, PoisonError};

/// So many bytes wait for a visitor who does not read; what comes on top is dropped.
const MOST: usize = 64 * 1024;

const NOTHING: u8 = 0;
/// The final answer is not there yet.
const WAITING: u8 = 1;
/// It is: hyper writes it next.
const LAST_CALL: u8 = 2;

/// Interim answers that are to be written.
#[derive(Debug, Default)]
pub(super) struct Outbox {
    bytes: Mutex<Vec<u8>>,
    state: AtomicU8,
}

impl Outbox {
    /// Adds a whole head. The service calls it while it works on the request.
    pub(super) fn put(&self, head: &[u8]) {
        let mut bytes = self.bytes.lock().unwrap_or_else(PoisonError::into_inner);
        if bytes.len() + head.len() <= MOST {
            bytes.extend_from_slice(head);
            self.state.store(WAITING, Ordering::Release);
        }
    }

    /// Notes that the final answer is there. Cost: one load.
    pub(super) fn answered(&self) {
        if self.state.load(Ordering::Acquire) == WAITING {
            self.state.store(LAST_CALL, Ordering::Release);
        }
    }

    /// Whether there is nothing to write. Cost: one load.
    pub(super) fn is_empty(&self) -> bool {
        self.state.load(Ordering::Acquire) == NOTHING
    }

    /// What may be written now. `between`: everything that hyper had written has gone. If not, and the final answer is
    /// next, it is too late, and they are dropped.
    pub(super) fn take(&self, between: bool) -> Vec<u8> {
        let state = self.state.load(Ordering::Acquire);
        if state == NOTHING || state == WAITING && !between {
            return Vec::new();
        }
        self.state.store(NOTHING, Ordering::Release);
        let bytes = std::mem::take(&mut *self.bytes.lock().unwrap_or_else(PoisonError::into_inner));
        if between { bytes } else { Vec::new() }
    }
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::pin::Pin;
    use std::sync::Arc;
    use std::task::{Context, Poll, Waker};

    use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

    use super::super::gate::Gate;
    use super::super::head::Limits;
    use super::super::link::Link;
    use super::*;
    use crate::edge::timer::HeadLimits;

    /// A socket that takes so many bytes at each second attempt.
    struct Slow {
        taken: Vec<u8>,
        step: usize,
        full: bool,
    }

    impl AsyncRead for Slow {
        fn poll_read(self: Pin<&mut Self>, _: &mut Context<'_>, _: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
            Poll::Pending
        }
    }

    impl AsyncWrite for Slow {
        fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
            let this = self.get_mut();
            this.full = !this.full;
            if this.full {
                return Poll::Pending;
            }
            let step = this.step.min(buf.len());
            this.taken.extend_from_slice(&buf[..step]);
            Poll::Ready(Ok(step))
        }

        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }

        fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
    }

    fn gate(step: usize) -> (Gate<Slow>, Arc<Link>) {
        let link = Arc::new(Link::default());
        let io = Slow { taken: Vec::new(), step, full: false };
        let limits = Limits { bytes: 1000, fields: 20 };
        (Gate::strict(io, Arc::clone(&link), limits, HeadLimits::NONE), link)
    }

    /// What hyper does with its buffer each time it is polled: everything to the socket, then a flush.
    fn flush(gate: &mut Gate<Slow>, buffer: &mut Vec<u8>) -> bool {
        let cx = &mut Context::from_waker(Waker::noop());
        while !buffer.is_empty() {
            match Pin::new(&mut *gate).poll_write(cx, buffer) {
                Poll::Ready(written) => drop(buffer.drain(..written.unwrap())),
                Poll::Pending => return false,
            }
        }
        Pin::new(gate).poll_flush(cx).is_ready()
    }

    fn flush_all(gate: &mut Gate<Slow>, buffer: &mut Vec<u8>) {
        while !flush(gate, buffer) {}
    }

    #[test]
    fn an_interim_answer_stands_whole_between_what_hyper_writes() {
        for step in [1, 3, 100] {
            // Told while the answer is made, and together with it.
            for with_answer in [false, true] {
                let (mut gate, link) = gate(step);
                let mut buffer = b"first".to_vec();
                flush_all(&mut gate, &mut buffer);
                link.tell(b"[103]");
                link.tell(b"[102]");
                if !with_answer {
                    flush(&mut gate, &mut buffer);
                }
                link.answered(1, false);
                buffer = b"second".to_vec();
                flush_all(&mut gate, &mut buffer);
                assert_eq!(gate.into_io().taken, b"first[103][102]second", "by {step}, {with_answer}");
            }
        }
    }

    /// A visitor who does not read has part of an earlier answer still to come when this one is there: a hint has no
    /// place between the two that could be told.
    #[test]
    fn what_has_no_place_is_dropped_and_never_stands_inside_an_answer() {
        let (mut gate, link) = gate(1);
        let mut buffer = b"first".to_vec();
        while buffer.len() == 5 {
            assert!(!flush(&mut gate, &mut buffer));
        }
        link.tell(b"[103]");
        assert!(!flush(&mut gate, &mut buffer));
        link.answered(2, false);
        buffer.extend_from_slice(b"second");
        flush_all(&mut gate, &mut buffer);
        link.tell(b"[102]");
        flush_all(&mut gate, &mut buffer);
        assert_eq!(gate.into_io().taken, b"firstsecond[102]");
    }

    #[test]
    fn no_more_than_so_much_waits() {
        let outbox = Outbox::default();
        for _ in 0..40 {
            outbox.put(&[b'x'; 4096]);
        }
        assert_eq!(outbox.take(true).len(), MOST);
        assert!(outbox.take(true).is_empty());
    }
}
