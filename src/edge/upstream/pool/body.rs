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
use super::{Held, Live, Pool};
use crate::edge::body::{self, BodyError, RequestBody};
use crate::edge::timer::Deadline;
use crate::edge::trailers;
use crate::telemetry::events;

/// The body of an origin's answer. Drives its connection and gives it back at the end; dropped early
/// it closes the connection.
pub struct UpstreamBody {
    source: Source,
    held: Held,
    between_bytes: Duration,
    limit: Option<Deadline>,
}

/// Where it comes from.
enum Source {
    /// A connection, with what is left of the request's body.
    Http1(Box<Live>, RequestBody, Rc<Pool>),
    /// A stream of a connection that a task of its own drives.
    Http2(Incoming),
    /// Nothing more comes: it has ended, well or not.
    Over,
}

impl std::fmt::Debug for UpstreamBody {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("UpstreamBody").field("size", &self.size_hint()).finish_non_exhaustive()
    }
}

impl UpstreamBody {
    /// The body of an answer whose head has come over this connection. `request`: what is left of that body.
    pub(super) fn http1(live: Box<Live>, request: RequestBody, pool: &Rc<Pool>, load: Option<Load>) -> Self {
        let mut this = Self {
            source: Source::Http1(live, request, Rc::clone(pool)),
            held: Held { _load: load, ..Held::default() },
            between_bytes: pool.limits.between_bytes,
            limit: None,
        };
        if this.is_end_stream() {
            this.release();
        }
        this
    }

    /// The body of an answer over HTTP/2.
    pub(super) const fn http2(body: Incoming, between_bytes: Duration, held: Held) -> Self {
        Self { source: Source::Http2(body), held, between_bytes, limit: None }
    }

    /// Gives the connection back if it can carry another request.
    fn release(&mut self) {
        self.held = Held::default();
        if let Source::Http1(live, _, pool) = std::mem::replace(&mut self.source, Source::Over) {
            pool.put_back(live);
        }
    }

    /// Ends with an error. What ends because the visitor's own body did is the visitor's doing.
    fn broke_off(&mut self, error: BodyError) -> BodyError {
        let visitors = matches!(&error, BodyError::Origin(cause) if cause.visitors().is_some());
        let figures = match &self.source {
            Source::Http1(_, _, pool) => Some(&pool.figures),
            Source::Http2(_) | Source::Over => self.held.figures.as_ref(),
        };
        if let Some(figures) = figures.filter(|_| !visitors) {
            events::answer_broke_off(figures, &error);
        }
        if let Some(stream) = &self.held.stream
            && breaks_the_connection(&error)
        {
            stream.give_up();
        }
        (self.source, self.held) = (Source::Over, Held::default());
        error
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
        let polled = match &mut this.source {
            Source::Http1(live, request, _) => {
                live.connection.poll_frame(request, cx).map_err(BodyError::Origin)
            }
            Source::Http2(body) => match Pin::new(&mut *body).poll_frame(cx) {
                Poll::Ready(None) => Poll::Ready(body::checked_end(body)),
                frame => frame.map_err(|error| BodyError::Origin(AnswerError::Http2(error))),
            },
            Source::Over => return Poll::Ready(None),
        };
        if polled.is_pending() {
            let between = this.between_bytes;
            let limit = this.limit.get_or_insert_with(|| Deadline::new(between));
            ready!(limit.poll(cx));
            return Poll::Ready(Some(Err(this.broke_off(BodyError::Stalled))));
        }
        this.limit = None;
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
        match &self.source {
            Source::Http1(live, ..) => live.connection.has_ended(),
            Source::Http2(body) => body.is_end_stream(),
            Source::Over => true,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.source {
            Source::Http1(live, ..) => live.connection.size_hint(),
            Source::Http2(body) => body::checked_hint(body),
            Source::Over => SizeHint::with_exact(0),
        }
    }
}

/// A frame whose trailers, if it has any, are well-formed.
fn checked(frame: Frame<Bytes>) -> Result<Frame<Bytes>, BodyError> {
    trailers::check(&frame).map(|()| frame).map_err(BodyError::OriginTrailers)
}
