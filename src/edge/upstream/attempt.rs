//! How an attempt to send a request fails, and when it may be made a second time.

use http::Request;
use hyper::client::conn::TrySendError;

use super::answer_error::AnswerError;
use super::http1::Failure;
use crate::edge::error::ProxyError;
use crate::edge::message::body::{BodyError, RequestBody};

/// A request on its way to an origin, which is taken from here when its answer is there (over HTTP/2, when it is sent):
/// handing it on from call to call would move it each time.
pub type Outgoing = Option<Request<RequestBody>>;

/// What a request's head says over HTTP/1.1 behind its fields.
#[derive(Debug, Clone, Copy)]
pub struct Tail<'a> {
    /// Lines, as they are written.
    pub lines: &'a [u8],
    /// Its id.
    pub id: &'a [u8],
}

/// How an attempt to send a request failed.
#[derive(Debug)]
pub enum Attempt {
    /// Nothing was written; the request is in its place and can go elsewhere.
    NotSent(ProxyError),
    /// Something was, or may have been.
    Failed(ProxyError),
}

impl Attempt {
    /// Of a request that is not in its place.
    pub const GONE: Self = Self::Failed(ProxyError::Internal("a request was sent before"));

    /// What hyper says of a request over HTTP/2, which is put back in its place if it was not written.
    pub fn of(mut error: TrySendError<Request<RequestBody>>, request: &mut Outgoing) -> Self {
        *request = error.take_message();
        let error = AnswerError::Http2(error.into_error()).into();
        if request.is_some() { Self::NotSent(error) } else { Self::Failed(error) }
    }

    /// Whether the exchange ended because the origin closed, and not because of what it said.
    pub fn was_cut(&self) -> bool {
        matches!(self, Self::Failed(ProxyError::Answer(error)) if error.is_cut())
    }

    /// Whether the origin says that it did nothing for the request (RFC 9113, 8.7): it refused the stream, or ended
    /// its connection in good order with an earlier one as the last that it took.
    pub fn was_not_begun(&self) -> bool {
        let Self::Failed(ProxyError::Answer(error)) = self else { return false };
        error.http2().is_some_and(|h2| {
            let refused = h2.is_reset() && h2.reason() == Some(h2::Reason::REFUSED_STREAM);
            let left_out = h2.is_go_away() && h2.reason() == Some(h2::Reason::NO_ERROR);
            h2.is_remote() && (refused || left_out)
        })
    }

    /// Whether the HTTP/2 connection failed and not this stream of it alone.
    pub fn broke_the_connection(&self) -> bool {
        let Self::Failed(ProxyError::Answer(error)) = self else { return false };
        breaks_the_connection(error)
    }
}

/// Whether an error over HTTP/2 is one of the whole connection.
pub fn breaks_the_connection(error: &AnswerError) -> bool {
    error.http2().is_none_or(|h2| !h2.is_reset())
}

impl From<AnswerError> for ProxyError {
    /// A fault of the visitor's body is the visitor's.
    fn from(error: AnswerError) -> Self {
        match error.visitors() {
            Some(BodyError::TooLarge) => Self::BodyTooLarge,
            Some(BodyError::Stalled) => Self::BodyTimeout,
            Some(BodyError::TooSlow) => Self::BodyTooSlow,
            Some(BodyError::Visitor(_) | BodyError::Unfinished) => Self::BrokenBody,
            Some(BodyError::VisitorTrailers(reason)) => Self::Malformed(*reason),
            _ => Self::Answer(error),
        }
    }
}

impl From<Failure> for Attempt {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::NotSent(error) => Self::NotSent(error.into()),
            Failure::Sent(error) => Self::Failed(error.into()),
        }
    }
}

/// A copy of a request, whose body is kept for it.
pub fn copy(request: &mut Request<RequestBody>) -> Request<RequestBody> {
    let mut copy = Request::new(request.body_mut().keep());
    *copy.method_mut() = request.method().clone();
    *copy.uri_mut() = request.uri().clone();
    *copy.version_mut() = request.version();
    *copy.headers_mut() = request.headers().clone();
    copy
}
