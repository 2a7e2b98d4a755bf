//! What stands between an origin's bytes and hyper's reader: the heads of its answers.
//!
//! hyper reads bodies strictly enough and sends them on in frames of its own; bytes behind an answer end the
//! connection there. So only heads are looked at, and only while one is expected.

use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::Reason;
use super::head::{Limits, Scan};
use super::held::Held;
use super::known::Known;

/// An answer's head may be so large. hyper takes a hundred fields without an allocation; more are very rare.
const LIMITS: Limits = Limits { bytes: 96 * 1024, fields: 100 };
/// Interim answers before a final one; a page of early hints has a few.
const MAX_INTERIM: u8 = 16;

const NOTHING: u8 = 0;
const ANSWER: u8 = 1;
const SWITCH: u8 = 2;
/// A byte of the answer has come.
const BEGUN: u8 = 4;
/// No byte of the request has gone: whatever comes is no answer to it.
const UNSENT: u8 = 8;
/// Interim answers are wanted.
const INTERIM: u8 = 16;
/// What goes out is kept, to be asked again.
const KEPT: u8 = 32;
/// A kept head larger than this takes its room with it, bytes.
const ROOM: usize = 8 * 1024;

/// Tells a gate what is expected next, brings interim answers, and keeps requests; held by whoever sends them.
#[derive(Debug, Clone, Default)]
pub struct Expected(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    expected: AtomicU8,
    /// Heads of interim answers, where they are wanted.
    interim: Mutex<Vec<Vec<u8>>>,
    /// Whether `interim` is worth a look.
    any_interim: AtomicBool,
    /// A request's head as it goes out.
    kept: Mutex<Vec<u8>>,
}

impl Expected {
    /// A request goes out: an answer's head comes. `switch`: it may be a 101. `interim`: somebody wants the interim
    /// answers before it.
    pub fn answer(&self, switch: bool, interim: bool) {
        let interim = if interim { INTERIM } else { 0 };
        self.set(UNSENT | interim | if switch { SWITCH } else { ANSWER });
    }

    /// The request that goes out now has no body, and its head is to be kept until the next one.
    ///
    /// The connection's buffer is used again, so this costs a copy of a few hundred bytes and no allocation, where
    /// a copy of the request would take one for most of its fields.
    pub fn keep(&self) {
        let mut kept = self.kept();
        kept.clear();
        kept.shrink_to(ROOM);
        self.set(self.get() | KEPT);
    }

    /// The head of the request that went out, if it is kept.
    #[must_use]
    pub fn take_kept(&self) -> Vec<u8> {
        if self.get() & KEPT == 0 { Vec::new() } else { std::mem::take(&mut *self.kept()) }
    }

    fn kept(&self) -> MutexGuard<'_, Vec<u8>> {
        self.0.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Bytes are about to go to the origin. What is to be kept is whole in the first of them, however much of it
    /// the origin takes.
    fn offered<'a>(&self, bytes: impl Iterator<Item = &'a [u8]>) {
        let expected = self.get();
        if expected & (UNSENT | KEPT) == UNSENT | KEPT {
            let mut kept = self.kept();
            kept.clear();
            bytes.for_each(|bytes| kept.extend_from_slice(bytes));
        }
    }

    /// Bytes have gone to the origin.
    fn sent(&self) {
        let expected = self.get();
        if expected & UNSENT != 0 {
            self.set(expected & !UNSENT);
        }
    }

    /// Whether an answer is expected of which no byte has come.
    #[must_use]
    pub fn is_unheard(&self) -> bool {
        matches!(self.get() & !(UNSENT | INTERIM | KEPT), ANSWER | SWITCH)
    }

    /// The heads of interim answers that have come since, as they came. Cost: one load where there are none.
    #[must_use]
    pub fn take_interim(&self) -> Vec<Vec<u8>> {
        if !self.0.any_interim.load(Ordering::Relaxed) {
            return Vec::new();
        }
        self.0.any_interim.store(false, Ordering::Relaxed);
        std::mem::take(&mut *self.0.interim.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn heard(&self, interim: &[u8]) {
        self.0.interim.lock().unwrap_or_else(PoisonError::into_inner).push(interim.to_vec());
        self.0.any_interim.store(true, Ordering::Relaxed);
    }

    fn get(&self) -> u8 {
        self.0.expected.load(Ordering::Relaxed)
    }

    fn set(&self, expected: u8) {
        self.0.expected.store(expected, Ordering::Relaxed);
    }
}

/// A connection to an origin whose answers' heads are read strictly.
#[derive(Debug)]
pub struct AnswerGate<S> {
    io: S,
    expected: Expected,
    scan: Scan,
    interim: u8,
    refused: Option<Reason>,
    /// Part of a head.
    held: Held,
    /// The last head.
    known: Known,
}

impl<S> AnswerGate<S> {
    /// Nothing is expected yet.
    pub fn new(io: S, expected: Expected) -> Self {
        let (scan, held, known) = Default::default();
        Self { io, expected, scan, interim: 0, refused: None, held, known }
    }

    /// Looks at bytes that begin with a head; how many may pass.
    fn look(&mut self, bytes: &[u8]) -> usize {
        let mut at = 0;
        while at < bytes.len() && self.refused.is_none() {
            let expected = self.expected.get();
            if expected == NOTHING {
                return bytes.len();
            }
            let head = match self.scan.answer(&bytes[at..], LIMITS, &mut self.known) {
                Ok(None) => return at,
                Ok(Some(head)) => head,
                Err(reason) => {
                    self.refused = Some(reason);
                    return at;
                }
            };
            self.scan = Scan::default();
            self.interim = if head.status < 200 { self.interim + 1 } else { 0 };
            match head.status {
                101 if expected & SWITCH == 0 => self.refused = Some(Reason::UnaskedSwitch),
                100..=199 if self.interim > MAX_INTERIM => self.refused = Some(Reason::ManyInterim),
                100 | 102..=199 => {
                    if expected & INTERIM != 0 {
                        self.expected.heard(&bytes[at..at + head.length]);
                    }
                    at += head.length;
                }
                _ => {
                    self.expected.set(NOTHING);
                    at += head.length;
                }
            }
        }
        at
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for AnswerGate<S> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        loop {
            if this.held.give(buf) {
                return Poll::Ready(Ok(()));
            }
            if let Some(reason) = this.refused {
                return Poll::Ready(Err(reason.into_io()));
            }
            let start = buf.filled().len();
            ready!(Pin::new(&mut this.io).poll_read(cx, buf))?;
            let fresh = &buf.filled()[start..];
            let expected = this.expected.get();
            // What comes unasked is for hyper to see, which ends the connection.
            if fresh.is_empty() || expected == NOTHING || expected & UNSENT != 0 {
                return Poll::Ready(Ok(()));
            }
            this.expected.set(expected | BEGUN);
            let mut held = std::mem::take(&mut this.held);
            let given = held.take(buf, start, |bytes| this.look(bytes));
            this.held = held;
            if given {
                return Poll::Ready(Ok(()));
            }
        }
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for AnswerGate<S> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        this.expected.offered(std::iter::once(buf));
        let written = ready!(Pin::new(&mut this.io).poll_write(cx, buf));
        this.expected.sent();
        Poll::Ready(written)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        this.expected.offered(bufs.iter().map(|bytes| &**bytes));
        let written = ready!(Pin::new(&mut this.io).poll_write_vectored(cx, bufs));
        this.expected.sent();
        Poll::Ready(written)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().io).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().io).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use std::task::Waker;

    use tokio::io::AsyncWriteExt as _;

    use super::*;

    /// What the gate lets through of what the origin sends next.
    fn read(gate: &mut AnswerGate<tokio::io::DuplexStream>) -> Poll<Vec<u8>> {
        let mut room = [0; 256];
        let mut buf = ReadBuf::new(&mut room);
        let polled = Pin::new(gate).poll_read(&mut Context::from_waker(Waker::noop()), &mut buf);
        polled.map(|result| {
            result.unwrap();
            buf.filled().to_vec()
        })
    }

    /// An origin must not be able to begin the answer to a request before it has it: what comes on an idle
    /// connection goes to hyper as it is, which ends the connection, and is not held as the beginning of a head.
    #[tokio::test]
    async fn what_comes_before_the_request_has_gone_is_no_answer() {
        let (io, mut origin) = tokio::io::duplex(1024);
        let expected = Expected::default();
        let mut gate = AnswerGate::new(io, expected.clone());
        expected.answer(false, false);
        origin.write_all(b"HTTP/1.1 200 OK\r\nX: ").await.unwrap();
        assert_eq!(read(&mut gate), Poll::Ready(b"HTTP/1.1 200 OK\r\nX: ".to_vec()));
        assert!(expected.is_unheard());

        expected.answer(false, false);
        gate.write_all(b"GET / HTTP/1.1\r\n\r\n").await.unwrap();
        origin.write_all(b"HTTP/1.1 200 OK\r\nX: ").await.unwrap();
        assert_eq!(read(&mut gate), Poll::Pending, "held until it is whole");
        assert!(!expected.is_unheard());
    }
}
