//! What stands between a visitor's bytes and hyper's HTTP/1.1 reader.

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::Reason;
use super::chunks::Chunks;
use super::head::{Framing, Limits, Scan};
use super::held::Held;
use super::known::Known;
use super::link::Link;
use crate::edge::downstream::unsent::Unsent;
use crate::edge::timer::{self, Deadline, HeadLimits, HeadWait, ReadMeter};

/// What hyper reads in place of a head that is refused: the service answers it with the refusal, after the
/// answers to the requests before it. A client cannot make one count as refused: only [`Link`] can.
const REFUSED: &[u8] = b"- / HTTP/1.1\r\n\r\n";
/// The same where the answer may have no body (RFC 9110, 9.3.2).
const REFUSED_HEAD: &[u8] = b"HEAD / HTTP/1.1\r\n\r\n";

/// A closed connection is still read until nothing has come for so long: a client that is sending must get our answer
/// and no reset, which would take from it what it has not read yet (RFC 9112, 9.6).
const LINGER: Duration = Duration::from_secs(2);
/// And so long in all.
const LONGEST_LINGER: Duration = Duration::from_secs(30);

#[derive(Debug)]
enum State {
    /// A request head.
    Head(Scan),
    /// So many bytes of a body.
    Body(u64),
    /// A chunked body.
    Chunks(Chunks),
    /// Behind a request that may change the protocol, until it is answered.
    Waiting,
    /// No more HTTP/1.1: anything passes.
    Open,
    /// A head was refused, of which this stands in the place; the client is not listened to any more.
    Refused(&'static [u8]),
    /// A body was refused.
    Broken(Reason),
    /// A head was waited for too long.
    Late,
}

/// A visitor's connection, read strictly.
#[derive(Debug)]
pub struct Gate<S> {
    io: S,
    /// Counts what is read, where somebody wants to know.
    meter: Option<ReadMeter>,
    link: Arc<Link>,
    limits: Limits,
    state: State,
    wait: HeadWait,
    /// Number of the last request whose head has passed.
    request: u64,
    /// Everything that was written has gone to the system.
    flushed: bool,
    held: Held,
    /// The last head; nothing while the connection is quiet.
    known: Known,
    /// Interim answers that are being written.
    interim: Unsent,
    /// Until when a closed connection is read, if nothing comes and if something does.
    linger: Option<(Deadline, Instant)>,
}

impl<S> Gate<S> {
    /// HTTP/1.1 is read strictly, and its heads are waited for so long.
    pub fn strict(io: S, link: Arc<Link>, limits: Limits, times: HeadLimits) -> Self {
        Self {
            io,
            meter: None,
            link,
            limits,
            state: State::Head(Scan::default()),
            wait: HeadWait::new(times),
            request: 0,
            flushed: true,
            held: Held::default(),
            known: Known::default(),
            interim: Unsent::default(),
            linger: None,
        }
    }

    /// Another protocol, of which bytes are only counted.
    pub fn open(io: S, meter: ReadMeter, link: Arc<Link>, limits: Limits) -> Self {
        let strict = Self::strict(io, link, limits, HeadLimits::NONE);
        Self { meter: Some(meter), state: State::Open, ..strict }
    }

    /// Looks at bytes for the first time; how many from the start may pass. The rest is to be held.
    fn look(&mut self, bytes: &[u8]) -> usize {
        let mut at = 0;
        while at < bytes.len() {
            let rest = &bytes[at..];
            match &mut self.state {
                State::Open => return bytes.len(),
                State::Waiting | State::Refused(_) | State::Broken(_) | State::Late => return at,
                State::Body(left) => {
                    let step = usize::try_from(*left).map_or(rest.len(), |left| left.min(rest.len()));
                    *left -= step as u64;
                    at += step;
                    if *left == 0 {
                        self.state = State::Head(Scan::default());
                    }
                }
                State::Chunks(chunks) => {
                    let step = chunks.read(rest);
                    at += step.passed;
                    match step.outcome {
                        Ok(false) => return at,
                        Ok(true) => self.state = State::Head(Scan::default()),
                        Err(reason) => {
                            self.link.refuse(0, reason);
                            self.state = State::Broken(reason);
                        }
                    }
                }
                State::Head(scan) => match scan.request(rest, self.limits, &mut self.known) {
                    Ok(None) => return at,
                    Ok(Some(head)) => {
                        at += head.length;
                        self.request += 1;
                        if asks_of_server(&rest[..head.length]) {
                            self.link.of_server.store(self.request, Ordering::Relaxed);
                        }
                        self.wait.end();
                        self.state = match head.framing {
                            _ if head.upgrade => State::Waiting,
                            Framing::None => State::Head(Scan::default()),
                            Framing::Length(length) => State::Body(length),
                            Framing::Chunked => State::Chunks(Chunks::new(self.limits)),
                        };
                    }
                    Err(reason) => {
                        self.request += 1;
                        self.link.refuse(self.request, reason);
                        self.state = State::Refused(if is_for_head(rest) { REFUSED_HEAD } else { REFUSED });
                    }
                },
            }
        }
        at
    }

    /// Tells whose body is under way, after a look.
    fn tell_of_body(&self) {
        let in_body = matches!(self.state, State::Body(_) | State::Chunks(_));
        self.link.in_body.store(if in_body { self.request } else { 0 }, Ordering::Relaxed);
    }

    /// Nothing more has come. Gives up when it was the rest of a head, or a next one, that did not.
    fn wait(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let State::Head(scan) = &self.state else { return Poll::Pending };
        if self.wait.poll(scan.has_begun(), cx).is_pending() {
            // hyper asks for a next head when the last one is answered and its answer written, flushed or not; with
            // two requests in one read it has the second already.
            let answered = self.link.answer_of(self.request).is_some();
            let quiet = self.wait.is_quiet() && answered && self.flushed && self.held.is_empty();
            self.link.quiet.store(quiet, Ordering::Relaxed);
            return Poll::Pending;
        }
        let over = if scan.has_begun() { &self.link.late } else { &self.link.idle };
        over.store(true, Ordering::Relaxed);
        self.state = State::Late;
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }

    /// Whether no request has begun and not ended.
    fn is_between(&self) -> bool {
        matches!(&self.state, State::Head(scan) if !scan.has_begun())
    }

    /// Looks at what is held and has not passed.
    fn look_at_held(&mut self) {
        let mut held = std::mem::take(&mut self.held);
        held.look_again(|bytes| self.look(bytes));
        self.held = held;
        self.tell_of_body();
        self.settle();
    }

    /// After a look that left bytes held: puts the refusal in the place of what was refused.
    fn settle(&mut self) {
        let in_head = matches!(&self.state, State::Head(scan) if scan.has_begun());
        self.link.in_head.store(in_head, Ordering::Release);
        match self.state {
            State::Refused(in_place) => self.held.replace_rest(in_place),
            State::Broken(_) => self.held.replace_rest(b""),
            _ => {}
        }
    }

    /// Takes in what was just read to the end of `buf`, from `start` on; true when hyper has bytes.
    fn take(&mut self, buf: &mut ReadBuf<'_>, start: usize) -> bool {
        let mut held = std::mem::take(&mut self.held);
        let given = held.take(buf, start, |bytes| self.look(bytes));
        self.held = held;
        self.tell_of_body();
        if !self.held.is_empty() {
            self.settle();
        }
        given
    }
}

/// What follows a method and a blank at the start of a head.
fn behind<'b>(method: &[u8], mut bytes: &'b [u8]) -> Option<&'b [u8]> {
    while let [b'\r', b'\n', rest @ ..] = bytes {
        bytes = rest;
    }
    bytes.strip_prefix(method)?.strip_prefix(b" ")
}

/// Whether a refused head, of which this is the beginning, asks for an answer without a body.
fn is_for_head(bytes: &[u8]) -> bool {
    behind(b"HEAD", bytes).is_some()
}

/// Whether a good head is an `OPTIONS` whose target is an address without path and query.
fn asks_of_server(head: &[u8]) -> bool {
    let target = behind(b"OPTIONS", head).and_then(|rest| rest.split(|byte| *byte == b' ').next());
    let Some(target) = target.filter(|target| !matches!(target, [b'/' | b'*', ..])) else { return false };
    memchr::memmem::find(target, b"://")
        .is_some_and(|at| !target[at + 3..].iter().any(|b| matches!(b, b'/' | b'?')))
}

impl<S: AsyncRead + Unpin> Gate<S> {
    /// Waits, in hyper's place, until a quiet connection has something for it: bytes, which are held for it, its end,
    /// or that it was quiet for too long.
    pub async fn stirs(&mut self) {
        self.known = Known::default();
        poll_fn(|cx| self.poll_stirs(cx)).await;
    }

    fn poll_stirs(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let mut room = [0; 512];
        let mut buf = ReadBuf::new(&mut room);
        let polled = match Pin::new(&mut self.io).poll_read(cx, &mut buf) {
            // Errors and the end are there for whoever reads next.
            Poll::Ready(_) => Poll::Ready(()),
            Poll::Pending => self.wait(cx).map(drop),
        };
        if polled.is_ready() {
            self.link.quiet.store(false, Ordering::Relaxed);
            self.held.keep(buf.filled());
            self.look_at_held();
        }
        polled
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Gate<S> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        loop {
            if this.held.give(buf) {
                return Poll::Ready(Ok(()));
            }
            match this.state {
                State::Waiting => {
                    // The waker is there before the look, so that an answer in between is not missed.
                    *this.link.waiting.lock().unwrap_or_else(PoisonError::into_inner) =
                        Some(cx.waker().clone());
                    this.link.is_waiting.store(true, Ordering::Release);
                    let Some(switched) = this.link.answer_of(this.request) else { return Poll::Pending };
                    this.link.is_waiting.store(false, Ordering::Release);
                    this.state = if switched { State::Open } else { State::Head(Scan::default()) };
                    this.look_at_held();
                    continue;
                }
                State::Refused(_) => return Poll::Ready(Ok(())),
                State::Broken(reason) => return Poll::Ready(Err(reason.into_io())),
                State::Late => return Poll::Ready(Err(io::ErrorKind::TimedOut.into())),
                _ => {}
            }
            let start = buf.filled().len();
            match Pin::new(&mut this.io).poll_read(cx, buf)? {
                Poll::Ready(()) => {}
                Poll::Pending => return this.wait(cx),
            }
            let read = buf.filled().len() - start;
            if let Some(meter) = &this.meter {
                meter.add(read);
            }
            if read == 0 || matches!(this.state, State::Open) || this.take(buf, start) {
                return Poll::Ready(Ok(()));
            }
        }
    }
}

impl<S: AsyncWrite + Unpin> Gate<S> {
    #[cfg(test)]
    pub(super) fn into_io(self) -> S {
        self.io
    }

    /// Writes interim answers, where they have their place. `between`: all that hyper had has gone. Cost: one load
    /// where there are none.
    fn poll_interim(&mut self, between: bool, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.interim.is_empty() {
            if self.link.interim.is_empty() {
                return Poll::Ready(Ok(()));
            }
            let bytes = self.link.interim.take(between);
            if bytes.is_empty() {
                return Poll::Ready(Ok(()));
            }
            self.interim = bytes.into();
            self.flushed = false;
        }
        self.interim.poll_write(&mut self.io, cx)
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Gate<S> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        ready!(this.poll_interim(this.flushed, cx))?;
        this.flushed = false;
        Pin::new(&mut this.io).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        ready!(this.poll_interim(this.flushed, cx))?;
        this.flushed = false;
        Pin::new(&mut this.io).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    /// hyper comes here when it has nothing left to write.
    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        ready!(this.poll_interim(true, cx))?;
        let flushed = Pin::new(&mut this.io).poll_flush(cx);
        this.flushed |= flushed.is_ready();
        flushed
    }

    /// Ends the sending side; then, where a client may still be sending, reads on for a moment.
    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.linger.is_none() {
            ready!(Pin::new(&mut this.io).poll_shutdown(cx))?;
        }
        // Between two requests nothing is on its way but a next request, which a closing server may drop; and who
        // is late gets no more time.
        if matches!(&this.state, State::Open | State::Waiting | State::Late)
            || this.held.is_empty() && this.is_between()
        {
            return Poll::Ready(Ok(()));
        }
        let (quiet, end) =
            this.linger.get_or_insert_with(|| (Deadline::new(LINGER), timer::after(LONGEST_LINGER)));
        let mut scratch = [0; 16 * 1024];
        loop {
            if quiet.poll(cx).is_ready() {
                return Poll::Ready(Ok(()));
            }
            let mut buf = ReadBuf::new(&mut scratch);
            match ready!(Pin::new(&mut this.io).poll_read(cx, &mut buf)) {
                Ok(()) if !buf.filled().is_empty() && timer::now() < *end => quiet.restart(LINGER),
                _ => return Poll::Ready(Ok(())),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;
    use std::task::Waker;

    use super::*;

    /// A connection that gives one piece for each read.
    struct Pieces(VecDeque<Vec<u8>>);

    impl AsyncRead for Pieces {
        fn poll_read(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
            buf: &mut ReadBuf<'_>,
        ) -> Poll<io::Result<()>> {
            let Some(mut piece) = self.0.pop_front() else { return Poll::Pending };
            let rest = piece.split_off(piece.len().min(buf.remaining()));
            buf.put_slice(&piece);
            if !rest.is_empty() {
                self.0.push_front(rest);
            }
            Poll::Ready(Ok(()))
        }
    }

    fn gate(pieces: impl IntoIterator<Item = Vec<u8>>) -> (Gate<Pieces>, Arc<Link>) {
        let link = Arc::new(Link::default());
        let limits = Limits { bytes: 1000, fields: 20 };
        let io = Pieces(pieces.into_iter().collect());
        (Gate::strict(io, Arc::clone(&link), limits, HeadLimits::NONE), link)
    }

    /// All that hyper would read with a buffer of this size, and whether it ends with an error.
    fn drain(gate: &mut Gate<Pieces>, size: usize) -> (Vec<u8>, bool) {
        let mut all = Vec::new();
        loop {
            let mut room = vec![0; size];
            let mut buf = ReadBuf::new(&mut room);
            match Pin::new(&mut *gate).poll_read(&mut Context::from_waker(Waker::noop()), &mut buf) {
                Poll::Ready(Ok(())) if !buf.filled().is_empty() => all.extend_from_slice(buf.filled()),
                Poll::Ready(Err(_)) => return (all, true),
                _ => return (all, false),
            }
        }
    }

    const GOOD: &[u8] = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabcGET /b HTTP/1.1\r\nHost: a\r\n\r\n\
        PUT / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n0\r\nX: y\r\n\r\nGET /c HTTP/1.1\r\n\r\n";

    #[test]
    fn what_is_well_formed_passes_unchanged_at_every_cut() {
        for size in [1, 7, 64, 8192] {
            for cut in 0..=GOOD.len() {
                let (a, b) = GOOD.split_at(cut);
                let (mut gate, link) = gate([a.to_vec(), b.to_vec()].into_iter().filter(|p| !p.is_empty()));
                assert_eq!(drain(&mut gate, size), (GOOD.to_vec(), false), "cut at {cut}, by {size}");
                assert_eq!((gate.request, link.refusal(4)), (4, None));
            }
        }
        let (mut gate, _) = gate(GOOD.iter().map(|byte| vec![*byte]));
        assert_eq!(drain(&mut gate, 8192).0, GOOD);
    }

    #[test]
    fn the_refusal_stands_in_the_place_of_the_refused_head_at_every_cut() {
        let bad = [GOOD, b"GET / HTTP/1.1\nHost: a\r\n\r\nGET /smuggled HTTP/1.1\r\n\r\n"].concat();
        let want = [GOOD, REFUSED].concat();
        for cut in 0..=bad.len() {
            let (a, b) = bad.split_at(cut);
            let (mut gate, link) = gate([a.to_vec(), b.to_vec()].into_iter().filter(|p| !p.is_empty()));
            assert_eq!(drain(&mut gate, 8192), (want.clone(), false), "cut at {cut}");
            assert_eq!(link.refusal(5), Some(Reason::BareLf));
            assert_eq!((link.refusal(4), link.broken_body()), (None, None));
        }
    }

    /// RFC 9110, 9.3.2: who asks for no body gets none with a refusal, however the head comes.
    #[test]
    fn a_refused_head_for_head_stays_one_at_every_cut() {
        let bad = b"\r\nHEAD / HTTP/1.1\r\nHost: a\r\nX : y\r\n\r\n";
        for cut in 0..=bad.len() {
            let (a, b) = bad.split_at(cut);
            let (mut gate, link) = gate([a.to_vec(), b.to_vec()].into_iter().filter(|p| !p.is_empty()));
            assert_eq!(drain(&mut gate, 8192), (REFUSED_HEAD.to_vec(), false), "cut at {cut}");
            assert_eq!(link.refusal(1), Some(Reason::FieldName));
        }
    }

    /// RFC 9112, 3.2.4.
    #[test]
    fn an_address_without_a_path_is_told_from_the_roots() {
        for (target, means_server) in [
            ("http://a", true),
            ("HTTPS://a:80", true),
            ("http://a/", false),
            ("http://a?b", false),
            ("/http://a", false),
            ("*", false),
        ] {
            let head = format!("\r\nOPTIONS {target} HTTP/1.1\r\nHost: a\r\nReferer: http://b\r\n\r\n");
            let (mut gate, link) = gate([b"GET http://a HTTP/1.1\r\n\r\n".to_vec(), head.into_bytes()]);
            drain(&mut gate, 8192);
            assert_eq!((link.is_of_server(1), link.is_of_server(2)), (false, means_server), "{target}");
        }
    }

    #[test]
    fn a_body_that_is_refused_never_ends_for_the_reader() {
        let body =
            b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\nX: b\n\r\n\r\n";
        for cut in 0..=body.len() {
            let (a, b) = body.split_at(cut);
            let (mut gate, link) = gate([a.to_vec(), b.to_vec()].into_iter().filter(|p| !p.is_empty()));
            let (passed, failed) = drain(&mut gate, 8192);
            assert!(failed && passed.ends_with(b"X: b"), "cut at {cut}");
            assert_eq!(link.broken_body(), Some(Reason::BareLf));
        }
    }

    /// CVE-2026-2833's lesson: nothing behind an upgrade request is read before its answer.
    #[test]
    fn behind_an_upgrade_request_everything_waits_for_the_answer() {
        let ask = b"GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n";
        for switched in [false, true] {
            let (mut gate, link) = gate([[ask, &b"GET /b HTTP/1.1\nX"[..]].concat(), b"yz".to_vec()]);
            assert_eq!(drain(&mut gate, 8192), (ask.to_vec(), false));
            link.answered(1, switched);
            let rest = if switched { b"GET /b HTTP/1.1\nXyz".to_vec() } else { REFUSED.to_vec() };
            assert_eq!(drain(&mut gate, 8192), (rest, false));
            assert_eq!(link.refusal(2).is_some(), !switched);
        }
    }
}
