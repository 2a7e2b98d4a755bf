//! Bodies in both directions. One enum, so that a piece passing through pays no virtual call.

use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http::Version;
use http_body::{Body as HttpBody, Frame, SizeHint};
use hyper::body::Incoming;

use super::continuing::Leave;
use super::kept::Kept;
use super::progress::Progress;
use super::trailers;
use crate::config::Settings;
use crate::edge::downstream::pace::Pace;
use crate::edge::strict::Reason;
use crate::edge::timer::Deadline;
use crate::edge::upstream::{AnswerError, UpstreamBody};
use crate::enforce::html::body::RewriteBody;
use crate::enforce::html::shadow::ShadowBody;
use crate::telemetry::limits::Limit;
use crate::telemetry::side::BrokenBy;

/// Why a body broke off.
#[derive(Debug, thiserror::Error)]
pub enum BodyError {
    /// The origin broke off.
    #[error("the origin's body broke off: {0}")]
    Origin(#[source] AnswerError),
    /// An answer broke off behind its head: which origin's, and how.
    #[error("{upstream}: {cause}")]
    BrokeOff {
        /// The origin, as settings and metrics name it.
        upstream: Box<str>,
        /// What came of it.
        #[source]
        cause: Box<Self>,
    },
    /// The visitor broke off.
    #[error("the visitor's body broke off: {0}")]
    Visitor(#[source] hyper::Error),
    /// An HTTP/2 stream was reset before its end. hyper takes a reset without an error for an end.
    #[error("the stream was reset before the body's end")]
    Unfinished,
    /// Nothing came for `timeouts.between_bytes`.
    #[error("nothing came for longer than timeouts.between_bytes")]
    Stalled,
    /// The visitor's body came slower than `limits.min_body_rate`.
    #[error("the request body came slower than limits.min_body_rate")]
    TooSlow,
    /// The visitor's body is larger than `limits.request_body`.
    #[error("the request body is larger than limits.request_body")]
    TooLarge,
    /// The trailers of an HTTP/2 origin are not well-formed.
    #[error("the origin's trailers are not well-formed: {0}")]
    OriginTrailers(#[source] Reason),
    /// A visitor's are not.
    #[error("the visitor's trailers are not well-formed: {0}")]
    VisitorTrailers(#[source] Reason),
    /// The rewriter stopped.
    #[error("{0}")]
    Rewrite(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The consumer pages broke off.
    #[error("{0}")]
    Portal(#[source] axum::Error),
}

impl BodyError {
    /// Whose doing it is, as the access line says it.
    #[must_use]
    pub fn broken_by(&self) -> BrokenBy {
        match self {
            Self::Origin(error) => error.visitors().map_or(BrokenBy::Origin, |_| BrokenBy::Visitor),
            Self::BrokeOff { cause, .. } => cause.broken_by(),
            Self::Unfinished | Self::Stalled | Self::OriginTrailers(_) => BrokenBy::Origin,
            Self::Visitor(_) | Self::TooSlow | Self::TooLarge | Self::VisitorTrailers(_) => BrokenBy::Visitor,
            Self::Rewrite(error) => Self::among(error.source()).map_or(BrokenBy::Optgate, Self::broken_by),
            Self::Portal(_) => BrokenBy::Optgate,
        }
    }

    /// The limit of a visitor's body that was reached, if that is what it broke off for.
    #[must_use]
    pub fn limit(&self) -> Option<Limit> {
        match self {
            Self::TooLarge => Some(Limit::RequestBody),
            Self::TooSlow => Some(Limit::BodyRate),
            Self::Origin(error) => match error.visitors()? {
                // Of the origin's own body it is no limit of a visitor's.
                Self::Stalled => Some(Limit::BetweenBytes),
                error => error.limit(),
            },
            Self::Rewrite(error) => Self::among(error.source())?.limit(),
            _ => None,
        }
    }

    /// The origin's breaking off, where that is what it broke off for: it names the origin.
    #[must_use]
    pub fn of_origin(&self) -> Option<&Self> {
        match self {
            Self::BrokeOff { .. } => Some(self),
            Self::Rewrite(error) => Self::among(error.source())?.of_origin(),
            _ => None,
        }
    }

    /// The first of an error and its causes that is one.
    pub(in crate::edge) fn among<'e>(
        mut cause: Option<&'e (dyn std::error::Error + 'static)>,
    ) -> Option<&'e Self> {
        while let Some(error) = cause {
            if let Some(found) = error.downcast_ref::<Self>() {
                return Some(found);
            }
            cause = error.source();
        }
        None
    }
}

/// The length of a body in front of which so many bytes stand.
pub fn hint_behind(bytes: u64, of_body: &SizeHint) -> SizeHint {
    let mut hint = SizeHint::new();
    hint.set_lower(of_body.lower() + bytes);
    if let Some(upper) = of_body.upper() {
        hint.set_upper(upper + bytes);
    }
    hint
}

/// The length of a body as its head has it. One that is said to be empty has none before its end is there: over HTTP/2
/// more may come all the same, and whoever takes it for empty never sees that it is malformed (RFC 9113, 8.1.1).
pub fn checked_hint(body: &Incoming) -> SizeHint {
    let hint = body.size_hint();
    if hint.exact() == Some(0) && !body.is_end_stream() { SizeHint::default() } else { hint }
}

/// What hyper takes for the end of a body, if it is one: the end of an HTTP/2 stream is a flag that came (RFC 9113,
/// 8.1), and a stream that was reset instead is not whole.
pub fn checked_end(body: &Incoming) -> Option<Result<Frame<Bytes>, BodyError>> {
    (!body.is_end_stream()).then_some(Err(BodyError::Unfinished))
}

/// The body of a response to the visitor.
#[derive(Debug)]
pub enum Body {
    /// Nothing, or one piece that is still to be sent.
    Full(Option<Bytes>),
    /// From the origin, untouched.
    Upstream(UpstreamBody),
    /// From the origin, rewritten on the way.
    Rewrite(Box<RewriteBody<UpstreamBody>>),
    /// From the origin, untouched but read along in observe mode.
    Observed(Box<ShadowBody<UpstreamBody>>),
    /// A consumer page.
    Portal(axum::body::Body),
}

impl Body {
    /// A body of one piece.
    #[must_use]
    pub const fn full(bytes: Bytes) -> Self {
        Self::Full(Some(bytes))
    }

    /// No body.
    #[must_use]
    pub const fn empty() -> Self {
        Self::Full(None)
    }
}

impl HttpBody for Body {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let mut polled = match self.get_mut() {
            Self::Full(bytes) => {
                Poll::Ready(bytes.take().filter(|b| !b.is_empty()).map(|b| Ok(Frame::data(b))))
            }
            Self::Upstream(body) => Pin::new(body).poll_frame(cx),
            Self::Rewrite(body) => {
                Pin::new(body.as_mut()).poll_frame(cx).map_err(|error| BodyError::Rewrite(Box::new(error)))
            }
            Self::Observed(body) => Pin::new(body.as_mut()).poll_frame(cx),
            Self::Portal(body) => Pin::new(body).poll_frame(cx).map_err(BodyError::Portal),
        };
        if let Poll::Ready(Some(Ok(frame))) = &mut polled {
            trailers::clean(frame);
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Full(bytes) => bytes.as_ref().is_none_or(Bytes::is_empty),
            Self::Upstream(body) => body.is_end_stream(),
            Self::Rewrite(body) => body.is_end_stream(),
            Self::Observed(body) => body.is_end_stream(),
            Self::Portal(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Full(bytes) => SizeHint::with_exact(bytes.as_ref().map_or(0, |b| b.len() as u64)),
            Self::Upstream(body) => body.size_hint(),
            Self::Rewrite(body) => body.size_hint(),
            Self::Observed(body) => body.size_hint(),
            Self::Portal(body) => body.size_hint(),
        }
    }
}

/// The body of a request on its way to the origin: limited in size, in silence and in slowness.
#[derive(Debug, Default)]
pub struct RequestBody(Source);

/// Boxed, because most requests have none and are moved often.
#[derive(Debug, Default)]
enum Source {
    #[default]
    None,
    Visitor(Box<Limited>),
    /// It may be sent a second time.
    Kept(Kept<Box<Limited>>),
}

#[derive(Debug)]
struct Limited {
    inner: Incoming,
    left: u64,
    between_bytes: Duration,
    limit: Option<Deadline>,
    pace: Pace,
    http2: bool,
    /// The visitor waits to be asked for it.
    leave: Option<Leave>,
    /// For whoever waits for the answer.
    progress: Option<Progress>,
}

impl RequestBody {
    /// No body.
    #[must_use]
    pub const fn empty() -> Self {
        Self(Source::None)
    }

    /// A visitor's body without limits.
    #[cfg(test)]
    pub(in crate::edge) fn unlimited(body: Incoming) -> Self {
        let for_long = Duration::from_secs(3600);
        Self::limited(body, false, (u64::MAX, for_long), Pace::new(0, for_long))
    }

    /// A visitor's body, limited as the settings say.
    #[must_use]
    pub fn new(body: Incoming, version: Version, settings: &Settings) -> Self {
        if body.is_end_stream() {
            return Self::empty();
        }
        let (limits, timeouts) = (&settings.limits, &settings.timeouts);
        let left = limits.request_body.unwrap_or(u64::MAX);
        let pace = Pace::new(limits.min_body_rate, timeouts.slow_body);
        Self::limited(body, version == Version::HTTP_2, (left, timeouts.between_bytes), pace)
    }

    fn limited(inner: Incoming, http2: bool, (left, between_bytes): (u64, Duration), pace: Pace) -> Self {
        let (limit, leave, progress) = (None, None, None);
        Self(Source::Visitor(Box::new(Limited {
            inner,
            left,
            between_bytes,
            limit,
            pace,
            http2,
            leave,
            progress,
        })))
    }

    /// The same once more, for an origin that does not begin the request: what is given of the body is kept as long
    /// as both are there, and so far as [`Self::is_whole`] says.
    pub fn keep(&mut self) -> Self {
        let kept = match std::mem::replace(&mut self.0, Source::None) {
            Source::None => return Self::empty(),
            Source::Visitor(body) => Kept::new(body),
            Source::Kept(kept) => kept,
        };
        let again = kept.again();
        self.0 = Source::Kept(kept);
        Self(Source::Kept(again))
    }

    /// Whether sending it would send all of it.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        match &self.0 {
            Source::Kept(kept) => kept.is_whole(),
            Source::None | Source::Visitor(_) => true,
        }
    }

    /// How far it has come; `None` when there is no body.
    pub fn progress(&mut self) -> Option<Progress> {
        self.with(|body| body.progress.get_or_insert_default().clone())
    }

    /// It is one side of a conversation, which may go on slowly: `limits.min_body_rate` does not hold.
    pub fn set_conversation(&mut self) {
        self.with(|body| body.pace = Pace::new(0, Duration::ZERO));
    }

    /// Whether the visitor waits to be asked for it.
    #[must_use]
    pub fn waits_for_leave(&self) -> bool {
        match &self.0 {
            Source::None => false,
            Source::Visitor(body) => body.leave.is_some(),
            Source::Kept(kept) => kept.with(|body| body.leave.is_some()),
        }
    }

    /// Reads nothing before the origin gives leave, or has said nothing for a while.
    pub fn wait_for_leave(&mut self) {
        self.with(|body| body.leave = Some(Leave::default()));
    }

    /// The origin gives leave.
    pub fn go_on(&mut self) {
        self.with(|body| body.leave = None);
    }

    fn with<R>(&mut self, change: impl FnOnce(&mut Limited) -> R) -> Option<R> {
        match &mut self.0 {
            Source::None => None,
            Source::Visitor(body) => Some(change(body)),
            Source::Kept(kept) => Some(kept.with(|body| change(body))),
        }
    }
}

impl HttpBody for RequestBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        match &mut self.get_mut().0 {
            Source::None => Poll::Ready(None),
            Source::Visitor(body) => Pin::new(body).poll_frame(cx),
            Source::Kept(body) => Pin::new(body).poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.0 {
            Source::None => true,
            Source::Visitor(body) => body.is_end_stream(),
            Source::Kept(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.0 {
            Source::None => SizeHint::with_exact(0),
            Source::Visitor(body) => body.size_hint(),
            Source::Kept(body) => body.size_hint(),
        }
    }
}

impl HttpBody for Limited {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = self.get_mut();
        if let Some(leave) = &mut this.leave {
            ready!(leave.poll(cx));
            this.leave = None;
        }
        match Pin::new(&mut this.inner).poll_frame(cx) {
            Poll::Ready(mut frame) => {
                this.limit = None;
                if let Some(progress) = &this.progress {
                    progress.moved();
                }
                if let Some(Ok(frame)) = &mut frame {
                    if let Err(reason) = trailers::check(frame) {
                        return Poll::Ready(Some(Err(BodyError::VisitorTrailers(reason))));
                    }
                    trailers::clean(frame);
                    let data = frame.data_ref().map_or(0, Bytes::len);
                    this.pace.moved(data);
                    match this.left.checked_sub(data as u64) {
                        Some(left) => this.left = left,
                        None => return Poll::Ready(Some(Err(BodyError::TooLarge))),
                    }
                }
                match frame {
                    None if this.http2 => Poll::Ready(checked_end(&this.inner)),
                    frame => Poll::Ready(frame.map(|result| result.map_err(BodyError::Visitor))),
                }
            }
            Poll::Pending => {
                if let Some(progress) = &this.progress {
                    progress.waits();
                }
                if this.pace.poll_slow(cx).is_ready() {
                    return Poll::Ready(Some(Err(BodyError::TooSlow)));
                }
                let between = this.between_bytes;
                let limit = this.limit.get_or_insert_with(|| Deadline::new(between));
                limit.poll(cx).map(|()| Some(Err(BodyError::Stalled)))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        checked_hint(&self.inner)
    }
}
