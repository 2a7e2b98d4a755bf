//! Why an origin gave no whole answer, over either version of HTTP.

use std::error::Error;
use std::io;

use crate::edge::message::body::BodyError;
use crate::edge::strict::Reason;

/// What broke an exchange with an origin.
#[derive(Debug, thiserror::Error)]
pub enum AnswerError {
    /// The connection failed.
    #[error("the connection failed: {0}")]
    Io(#[source] io::Error),
    /// The origin closed it.
    #[error("the connection was closed before the answer was whole")]
    Closed,
    /// Bytes came that are no answer to anything.
    #[error("the origin sent what nobody had asked for")]
    Unasked,
    /// The answer is not well-formed.
    #[error("{0}")]
    Malformed(#[source] Reason),
    /// The request's body broke off: the visitor's doing.
    #[error("{0}")]
    Request(Box<BodyError>),
    /// Over HTTP/2.
    #[error("{0}")]
    Http2(#[source] hyper::Error),
}

impl AnswerError {
    /// The fault of the request's body behind it, if there is one.
    #[must_use]
    pub fn visitors(&self) -> Option<&BodyError> {
        match self {
            Self::Request(error) => Some(error),
            Self::Http2(error) => BodyError::among(error.source()),
            Self::Io(_) | Self::Closed | Self::Unasked | Self::Malformed(_) => None,
        }
    }

    /// What is wrong with the answer, if that is known.
    #[must_use]
    pub const fn reason(&self) -> Option<Reason> {
        match self {
            Self::Malformed(reason) => Some(*reason),
            _ => None,
        }
    }

    /// Whether the exchange ended because the connection did, and not because of what the origin said.
    #[must_use]
    pub fn is_cut(&self) -> bool {
        match self {
            Self::Io(_) | Self::Closed => true,
            Self::Http2(error) => self.http2().map_or(!error.is_parse() && !error.is_timeout(), |h2| {
                h2.is_io() || h2.is_go_away() && h2.is_remote()
            }),
            Self::Unasked | Self::Malformed(_) | Self::Request(_) => false,
        }
    }

    /// The HTTP/2 error behind it.
    pub(super) fn http2(&self) -> Option<&h2::Error> {
        let Self::Http2(error) = self else { return None };
        error.source().and_then(|cause| cause.downcast_ref())
    }
}
