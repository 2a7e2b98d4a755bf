//! The body of an origin's answer, which gives its connection back.

use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body as _, Frame, SizeHint};
use hyper::body::Incoming;

use super::super::answer_error::AnswerError;
use super::super::attempt;
use super::super::group::Load;
use super::{Carried, Held, Live, Pool};
use crate::edge::message::body::{self, BodyError};
use crate::edge::message::trailers;
use crate::edge::timer::Deadline;
use crate::telemetry::events;

/// The body of an origin's answer. Drives its connection and gives it back at the end; dropped early
/// it closes the connection.
///
/// It moves from call to call with the head, so it is small.
pub struct UpstreamBody(Source);

/// Where it comes from.
enum Source {
    /// A connection, and where it goes afterwards.
    Http1(Box<Live>, Rc<Pool>),
    /// A stream of a connection that a task of its own drives.
    Http2(Box<Streamed>),
    /// Nothing more comes: it has ended, well or not.
    Over,
}

/// A body over HTTP/2.
struct Streamed {
    body: Incoming,
    held: Held,
    between_bytes: Duration,
    limit: Option<Deadline>,
}

impl std::fmt::Debug for UpstreamBody {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("UpstreamBody").field("size", &self.size_hint()).finish_non_exhaustive()
    }
}

impl UpstreamBody {
    /// The body of an answer whose head has come over this connection.
    pub(super) fn http1(mut live: Box<Live>, pool: &Rc<Pool>, load: Option<Load>) -> Self {
        live.carries._load = load;
        let mut this = Self(Source::Http1(live, Rc::clone(pool)));
        if this.is_end_stream() {
            this.release();
        }
        this
    }

    /// The body of an answer over HTTP/2.
    pub(super) fn http2(body: Incoming, between_bytes: Duration, held: Held) -> Self {
        Self(Source::Http2(Box::new(Streamed { body, held, between_bytes, limit: None })))
    }

    /// Gives the connection back if it can carry another request.
    fn release(&mut self) {
        if let Source::Http1(mut live, pool) = std::mem::replace(&mut self.0, Source::Over) {
            live.carries = Carried::default();
            pool.put_back(live);
        }
    }

    /// Ends with an error, which names the origin. What ends because the visitor's own body did is the visitor's doing.
    fn broke_off(&mut self, error: BodyError) -> BodyError {
        let visitors = matches!(&error, BodyError::Origin(cause) if cause.visitors().is_some());
        let (figures, stream) = match &self.0 {
            Source::Http1(_, pool) => (Some(&pool.figures), None),
            Source::Http2(streamed) => (streamed.held.figures.as_ref(), streamed.held.stream.as_ref()),
            Source::Over => (None, None),
        };
        let upstream = figures.filter(|_| !visitors).map(|figures| {
            events::answer_broke_off(figures, &error);
            figures.upstream.as_str().into()
        });
        if let Some(stream) = stream
            && breaks_the_connection(&error)
        {
            stream.give_up();
        }
        self.0 = Source::Over;
        match upstream {
            Some(upstream) => BodyError::BrokeOff { upstream, cause: Box::new(error) },
            None => error,
        }
    }
}

impl Streamed {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        match Pin::new(&mut self.body).poll_frame(cx) {
            Poll::Ready(None) => Poll::Ready(body::checked_end(&self.body)),
            frame => frame.map_err(|error| BodyError::Origin(AnswerError::Http2(error))),
        }
    }
}

/// Whether an HTTP/2 connection is not to be used again after this.
fn breaks_the_connection(error: &BodyError) -> bool {
    match error {
        BodyError::Origin(error) => attempt::breaks_the_connection(error),
        // The network may have swallowed it.
        BodyError::Stalled => true,
        _ => false,
    }
}

impl http_body::Body for UpstreamBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = self.get_mut();
        let (polled, limit, between) = match &mut this.0 {
            Source::Http1(live, pool) => {
                let Live { connection, carries, .. } = &mut **live;
                let polled = connection.poll_frame(&mut carries.request, cx).map_err(BodyError::Origin);
                (polled, &mut carries.limit, pool.limits.between_bytes)
            }
            Source::Http2(streamed) => (streamed.poll(cx), &mut streamed.limit, streamed.between_bytes),
            Source::Over => return Poll::Ready(None),
        };
        if polled.is_pending() {
            ready!(limit.get_or_insert_with(|| Deadline::new(between)).poll(cx));
            return Poll::Ready(Some(Err(this.broke_off(BodyError::Stalled))));
        }
        *limit = None;
        let frame = match ready!(polled).map(|frame| frame.and_then(checked)).transpose() {
            Err(error) => return Poll::Ready(Some(Err(this.broke_off(error)))),
            Ok(frame) => frame,
        };
        if frame.is_none() || this.is_end_stream() {
            this.release();
        }
        Poll::Ready(frame.map(Ok))
    }

    fn is_end_stream(&self) -> bool {
        match &self.0 {
            Source::Http1(live, _) => live.connection.has_ended(),
            Source::Http2(streamed) => streamed.body.is_end_stream(),
            Source::Over => true,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.0 {
            Source::Http1(live, _) => live.connection.size_hint(),
            Source::Http2(streamed) => body::checked_hint(&streamed.body),
            Source::Over => SizeHint::with_exact(0),
        }
    }
}

/// A frame whose trailers, if it has any, are well-formed.
fn checked(frame: Frame<Bytes>) -> Result<Frame<Bytes>, BodyError> {
    trailers::check(&frame).map(|()| frame).map_err(BodyError::OriginTrailers)
}
