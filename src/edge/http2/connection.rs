//! One HTTP/2 connection: its settings, and who is given up on it.
//!
//! hyper polls a stream's body and then waits, without limit, until the client's windows let the piece go. So
//! each stream is watched from outside, in the executor: one whose client takes too little is dropped, which
//! resets it. What such a client keeps in the reader's own buffers goes with its connection, which ends when for
//! `timeouts.idle` it had no request under way and took nothing of the answers that are still held for it.

use std::cell::Cell;
use std::convert::Infallible;
use std::error::Error;
use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::BytesMut;
use http::{HeaderMap, HeaderValue, Request};
use hyper::body::Incoming;
use hyper::rt::Executor;
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::watch;

use super::frame_count::FrameCount;
use super::gather::gather;
use crate::config::Settings;
use crate::edge::corridor;
use crate::edge::downstream::connection::{self, Phase};
use crate::edge::downstream::pace::Pace;
use crate::edge::house::Core;
use crate::edge::identify::client_addr;
use crate::edge::identify::hop::Hop;
use crate::edge::strict::Gate;
use crate::edge::timer::{self, Deadline, HeadTimer, ReadMeter};
use crate::telemetry::events;
use crate::telemetry::limits::Limit;
use crate::telemetry::metrics::SharedMetrics;

/// Largest piece of a body that is given to a stream at once: what a client that gives next to no window can
/// make us hold for it.
pub const PIECE: usize = 16 * 1024;

/// Send buffer of a stream: bounds memory of a slow reader.
const SEND_BUFFER: usize = 64 * 1024;
/// Window of a stream: what a peer may send that nobody takes.
pub const STREAM_WINDOW: u32 = 512 * 1024;
/// Window of a visitor's connection: its uploads that nobody takes hold up its others before they take much memory.
const VISITOR_WINDOW: u32 = 2 * 1024 * 1024;
/// The largest window (RFC 9113, 6.9.1). For a connection that many visitors share: with less, a few streams that
/// stand still would hold up all others.
pub const SHARED_WINDOW: u32 = i32::MAX.unsigned_abs();
/// Largest list of fields that is taken in, whatever HTTP/1.1 may send: fields of one byte are made from one byte
/// each (CVE-2026-49975). Each counts 32 bytes more than it has (RFC 9113, 6.5.2). What is less, and more than
/// `limits.header_bytes`, is answered and counted as over HTTP/1.1.
const MOST_FIELDS: u32 = 64 * 1024;
/// Streams that are reset before they were looked at (CVE-2023-44487): h2's own number, which a change there must
/// not change here.
const UNREAD_RESETS: usize = 20;

/// Serves a connection until it ends.
pub async fn serve<S>(
    core: &Rc<Core>,
    settings: &Settings,
    stream: S,
    hop: Rc<Hop>,
    phase: watch::Receiver<Phase>,
) where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (timeouts, limits) = (&settings.timeouts, &settings.limits);
    let meter = ReadMeter::default();
    let metrics = &core.house.metrics;
    // Behind a trusted proxy are many visitors.
    let is_shared = client_addr::is_in(&settings.trusted_proxies, hop.peer);
    let window = if is_shared { SHARED_WINDOW } else { VISITOR_WINDOW };
    let gate = Gate::open(stream, meter.clone(), Arc::default(), connection::head_limits(settings));
    let quiet_since = Rc::new(Cell::new(timer::now()));
    let counted = FrameCount::new(
        gate,
        (limits.http2_resets, limits.http2_control_frames),
        timeouts.header_read,
        Rc::clone(&quiet_since),
        Arc::clone(metrics),
    );
    let service = service_fn(move |request: Request<Incoming>| {
        let (core, hop) = (Rc::clone(core), Rc::clone(&hop));
        async move {
            let mut response = corridor::handle(core, hop, None, request).await;
            Turn::note(|turn| turn.answered = true);
            unshare(response.headers_mut());
            Ok::<_, Infallible>(response)
        }
    });
    let streams = Rc::new(Streams {
        live: Cell::new(0),
        asked: Cell::new(false),
        quiet_since,
        pace: (limits.min_send_rate, timeouts.slow_send),
        metrics: Arc::clone(metrics),
    });
    let mut builder = http2::Builder::new(StreamExecutor(Rc::clone(&streams)));
    bound(&mut builder, limits.http2_streams, limits.http2_resets);
    builder
        .initial_connection_window_size(window)
        .timer(HeadTimer::new(meter, timeouts.header_read))
        .enable_connect_protocol()
        .keep_alive_interval(timeouts.idle)
        .keep_alive_timeout(timeouts.header_read);
    let (gathering, gathered) = gather(counted);
    let mut connection = pin!(builder.serve_connection(TokioIo::new(gathering), service));
    // How a connection ends is told by its requests. GOAWAY tells a client which of them are still answered
    // (RFC 9113, 6.8).
    let ended = tokio::select! {
        // What waits for a first request looks when it may have come.
        biased;
        ended = gathered.drive(connection.as_mut()) => Some(ended),
        () = streams.is_to_end(phase, timeouts.header_read) => None,
        () = streams.quiet_for(timeouts.idle) => {
            events::limit_reached(metrics, Limit::Idle);
            None
        }
    };
    let ended = match ended {
        Some(ended) => ended,
        None => {
            connection.as_mut().graceful_shutdown();
            streams.quiet_since.set(timer::now());
            tokio::select! {
                ended = gathered.drive(connection.as_mut()) => ended,
                // It does not even take the rest of what it asked for.
                () = streams.quiet_for(timeouts.idle) => Ok(()),
            }
        }
    };
    if let Err(error) = ended
        && is_flood(&error)
    {
        events::limit_reached(metrics, Limit::Http2Calm);
    }
}

/// Sizes and counts of one connection.
fn bound<E>(builder: &mut http2::Builder<E>, streams: u32, resets: u32) {
    builder
        .max_concurrent_streams(streams)
        .max_pending_accept_reset_streams(UNREAD_RESETS)
        // Those that a client makes us reset (MadeYouReset, CVE-2025-8671).
        .max_local_error_reset_streams(usize::try_from(resets).unwrap_or(usize::MAX))
        .max_header_list_size(MOST_FIELDS)
        .max_send_buf_size(SEND_BUFFER)
        .initial_stream_window_size(STREAM_WINDOW);
}

/// Gives fields memory of their own. HTTP/2 remembers fields that it has sent for as long as a connection lasts
/// (RFC 7541, 2.3.2), and a value that is a part of what was read would keep all that was read with it.
///
/// Cost: an allocation, and a copy of the values.
pub fn unshare(fields: &mut HeaderMap) {
    let mut all = BytesMut::with_capacity(fields.values().map(HeaderValue::len).sum());
    fields.values().for_each(|value| all.extend_from_slice(value.as_bytes()));
    let mut all = all.freeze();
    for value in fields.values_mut() {
        // What was a value is one still.
        if let Ok(mut own) = HeaderValue::from_maybe_shared(all.split_to(value.len())) {
            own.set_sensitive(value.is_sensitive());
            *value = own;
        }
    }
}

/// Whether hyper's reader ended the connection because its client asked too much of it.
fn is_flood(error: &hyper::Error) -> bool {
    let h2 = error.source().and_then(|cause| cause.downcast_ref::<h2::Error>());
    h2.is_some_and(|error| error.is_library() && error.reason() == Some(h2::Reason::ENHANCE_YOUR_CALM))
}

/// The streams of one connection.
struct Streams {
    /// Streams whose task runs.
    live: Cell<usize>,
    /// A request has come.
    asked: Cell<bool>,
    /// When the last of them ended, or a piece of an answer was taken from the reader's buffers after that.
    quiet_since: Rc<Cell<Instant>>,
    pace: (u64, Duration),
    metrics: SharedMetrics,
}

impl Streams {
    /// Ends when the process stops, or another accepts in its place and a request has come: whoever opened the connection a
    /// moment before has one on the way, and would have to open another for it. It has the time of a head to come.
    async fn is_to_end(&self, phase: watch::Receiver<Phase>, header_read: Duration) {
        connection::not_serving(phase.clone()).await;
        let asked = poll_fn(|_| if self.asked.get() { Poll::Ready(()) } else { Poll::Pending });
        tokio::select! {
            _ = timer::within(header_read, asked) => {}
            () = connection::stopping(phase) => {}
        }
    }

    /// Ends when for so long no stream has run and nothing of an answer was taken.
    async fn quiet_for(&self, limit: Duration) {
        loop {
            let end = self.quiet_since.get() + limit;
            let busy = self.live.get() > 0;
            if !busy && timer::now() >= end {
                return;
            }
            let mut deadline = if busy { Deadline::new(limit) } else { Deadline::at(end) };
            poll_fn(|cx| deadline.poll(cx)).await;
        }
    }
}

/// What a stream has done while it was polled; streams of a core are polled one at a time.
#[derive(Debug, Clone, Copy, Default)]
pub struct Turn {
    /// Its answer was made.
    pub answered: bool,
    /// Bytes of a body that were given to it.
    pub given: usize,
    /// Its body has nothing to give.
    pub waits: bool,
}

thread_local! {
    static TURN: Cell<Turn> = const { Cell::new(Turn { answered: false, given: 0, waits: false }) };
}

impl Turn {
    /// Notes something about the stream that is being polled. Cost: a thread-local copy.
    pub fn note(change: impl FnOnce(&mut Self)) {
        TURN.with(|turn| {
            let mut now = turn.get();
            change(&mut now);
            turn.set(now);
        });
    }

    fn take() -> Self {
        TURN.with(Cell::take)
    }
}

/// Runs a connection's streams on its core, each under watch.
#[derive(Clone)]
struct StreamExecutor(Rc<Streams>);

impl<F> Executor<F> for StreamExecutor
where
    F: Future + 'static,
{
    fn execute(&self, future: F) {
        let mut watch = Watch::new(Rc::clone(&self.0));
        // Boxed once: a task is moved several times on its way to its place, and a stream is some KiB.
        let mut future = Box::pin(future);
        tokio::task::spawn_local(poll_fn(move |cx| watch.poll(cx, future.as_mut())));
    }
}

/// Watches one stream.
struct Watch {
    streams: Rc<Streams>,
    pace: Pace,
    answered: bool,
}

impl Watch {
    fn new(streams: Rc<Streams>) -> Self {
        streams.live.set(streams.live.get() + 1);
        streams.asked.set(true);
        let pace = Pace::new(streams.pace.0, streams.pace.1);
        Self { streams, pace, answered: false }
    }

    /// Polls the stream. Ready when it has ended, or its client takes too little of it.
    fn poll<F: Future>(&mut self, cx: &mut Context<'_>, stream: Pin<&mut F>) -> Poll<()> {
        Turn::take();
        if stream.poll(cx).is_ready() {
            return Poll::Ready(());
        }
        let turn = Turn::take();
        self.answered |= turn.answered;
        if !self.answered || turn.waits {
            // The origin's turn.
            self.pace.rest();
            return Poll::Pending;
        }
        if turn.given > 0 {
            self.pace.moved(turn.given);
        }
        if self.pace.poll_slow(cx).is_ready() {
            events::limit_reached(&self.streams.metrics, Limit::SendRate);
            return Poll::Ready(());
        }
        Poll::Pending
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.streams.live.set(self.streams.live.get().saturating_sub(1));
        self.streams.quiet_since.set(timer::now());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::edge::http2::local::LocalExecutor;

    /// RFC 7541, 2.3.2: what the table of a connection remembers must not hold the buffers that were read.
    #[test]
    fn fields_keep_their_values_and_not_the_buffer_they_were_read_into() {
        let read = bytes::Bytes::from(b"etag: \"a\" and eight KiB".repeat(350));
        let mut fields = HeaderMap::new();
        fields.insert("etag", HeaderValue::from_maybe_shared(read.slice(6..9)).unwrap());
        fields.append("set-cookie", HeaderValue::from_maybe_shared(read.slice(0..4)).unwrap());
        fields.append("set-cookie", HeaderValue::from_bytes(b"caf\xe9").unwrap());
        fields.insert("x", HeaderValue::from_static(""));
        let mut secret = HeaderValue::from_static("s");
        secret.set_sensitive(true);
        fields.insert("authorization", secret);
        let before = fields.clone();
        unshare(&mut fields);
        assert_eq!(fields, before);
        assert!(fields["authorization"].is_sensitive() && !fields["etag"].is_sensitive());
        drop(before);
        assert!(read.is_unique(), "nobody holds what was read");
    }

    /// hyper 1.2 to 1.5 passed the wrong option through, which could switch a limit off.
    #[test]
    fn the_limits_of_the_reader_are_ours_and_not_its_defaults() {
        let mut builder = http2::Builder::new(LocalExecutor);
        bound(&mut builder, 77, 55);
        let text = format!("{builder:?}");
        for expected in [
            "max_concurrent_streams: Some(77)",
            "max_pending_accept_reset_streams: Some(20)",
            "max_local_error_reset_streams: Some(55)",
            "max_header_list_size: 65536",
        ] {
            assert!(text.contains(expected), "{expected} in {text}");
        }
    }
}
