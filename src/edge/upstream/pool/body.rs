//! The body of an origin's answer, which gives its connection back.

use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body as _, Frame, SizeHint};
use hyper::body::Incoming;

use super::super::attempt;
use super::super::group::Load;
use super::{Held, Live, Pool, unheard};
use crate::edge::body::{self, BodyError};
use crate::edge::timer::Deadline;
use crate::edge::trailers;
use crate::telemetry::events;

/// The body of an origin's answer. Drives its connection and gives it back at the end; dropped early
/// it closes the connection.
pub struct UpstreamBody {
    body: Incoming,
    live: Option<(Box<Live>, Rc<Pool>)>,
    held: Held,
    between_bytes: Duration,
    limit: Option<Deadline>,
}

impl std::fmt::Debug for UpstreamBody {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("UpstreamBody").field("body", &self.body).finish_non_exhaustive()
    }
}

impl UpstreamBody {
    pub(super) fn http1(body: Incoming, live: Box<Live>, pool: &Rc<Pool>, load: Option<Load>) -> Self {
        let mut this = Self {
            body,
            live: Some((live, Rc::clone(pool))),
            held: Held { _load: load, ..Held::default() },
            between_bytes: pool.limits.between_bytes,
            limit: None,
        };
        if this.body.is_end_stream() {
            this.release();
        }
        this
    }

    /// A body whose connection is driven by a task of its own.
    pub(super) const fn detached(body: Incoming, between_bytes: Duration, held: Held) -> Self {
        Self { body, live: None, held, between_bytes, limit: None }
    }

    /// Gives the connection back if it can carry another request.
    fn release(&mut self) {
        self.held = Held::default();
        let Some((mut live, pool)) = self.live.take() else { return };
        if live.usable() && !live.sender.is_ready() {
            // One more step lets the machine go from "body done" to "idle".
            live.machine.drive(&mut unheard());
        }
        if live.usable() && live.sender.is_ready() {
            pool.put_back(live);
        }
    }

    /// Tells of an answer that has no end. One that ends because the visitor's own body did is the visitor's.
    fn broke_off(&self, error: &BodyError) {
        let visitors = matches!(error, BodyError::Origin(cause) if BodyError::cause_of(cause).is_some());
        let pool = self.live.as_ref().map(|(_, pool)| &pool.figures);
        if let Some(figures) = pool.or(self.held.figures.as_ref()).filter(|_| !visitors) {
            events::answer_broke_off(figures, error);
        }
    }

    fn poll_inner(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let mut body = Pin::new(&mut self.body);
        let Some((live, _)) = &mut self.live else { return body.poll_frame(cx) };
        let Live { machine, turns, .. } = &mut **live;
        turns.take(cx, |turn| {
            // As for the answer: what comes is brought by the connection.
            if let Poll::Ready(frame) = body.as_mut().poll_frame(&mut unheard()) {
                return Poll::Ready(frame);
            }
            // The body asked for more, and now it is driven for it.
            turns.forget();
            machine.drive(turn);
            body.poll_frame(&mut unheard())
        })
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
        if let Poll::Ready(frame) = this.poll_inner(cx) {
            this.limit = None;
            let ends = frame.is_none();
            let shared = this.held.stream.is_some();
            if let (Some(Err(error)), Some(stream)) = (&frame, &this.held.stream)
                && attempt::breaks_the_connection(error)
            {
                stream.give_up();
            }
            let frame = match frame {
                None if shared => body::checked_end(&this.body),
                frame => frame.map(|result| result.map_err(BodyError::Origin).and_then(checked)),
            };
            if let Some(Err(error)) = &frame {
                this.broke_off(error);
            }
            if ends || this.body.is_end_stream() {
                this.release();
            }
            return Poll::Ready(frame);
        }
        let between = this.between_bytes;
        let limit = this.limit.get_or_insert_with(|| Deadline::new(between));
        ready!(limit.poll(cx));
        this.broke_off(&BodyError::Stalled);
        this.live = None;
        if let Some(stream) = &this.held.stream {
            stream.give_up();
        }
        this.held = Held::default();
        Poll::Ready(Some(Err(BodyError::Stalled)))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        body::checked_hint(&self.body)
    }
}

/// A frame whose trailers, if it has any, are well-formed.
fn checked(frame: Frame<Bytes>) -> Result<Frame<Bytes>, BodyError> {
    trailers::check(&frame).map(|()| frame).map_err(BodyError::OriginTrailers)
}
