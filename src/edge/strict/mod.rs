//! The strict reading of HTTP/1.1, byte by byte, on both sides.
//!
//! hyper reads some messages leniently that others read differently (bare line feeds, equal lengths twice,
//! a length beside chunks), and what two readers read differently is how requests are smuggled (RFC 9112, 11.2).
//! So [`Gate`] looks at what visitors send before hyper does, and changes nothing; what origins answer is read with the
//! same pieces and by nobody else. A message is well-formed or refused with a [`Reason`].
//!
//! Cost: one pass over each head, where it lies in its reader's buffer, and less over what the last head had too. Bodies
//! with a length cost nothing, chunked ones their size lines. Only a head that comes to the gate in pieces is held back,
//! and copied, until it is whole.

mod bytes;
mod chunks;
mod gate;
mod head;
mod held;
mod http2;
mod interim;
mod known;
mod link;

pub use chunks::Chunks;
pub use gate::Gate;
pub use head::{AnswerHead, Framing, Limits, RequestHead, Scan, decimal};
pub use http2::{hold_to_http1, hold_values_to_http1};
pub use known::Known;
pub use link::{Link, OfServer};

use http::StatusCode;

/// Why a message is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Reason {
    /// Not method, target and version with one space between them (RFC 9112, 3).
    #[error("the request line is not one method, one target and one version")]
    RequestLine,
    /// A method with characters that no method has (RFC 9110, 9.1).
    #[error("the method is not a token")]
    Method,
    /// A method longer than any that is known (RFC 9112, 3).
    #[error("the method is longer than any")]
    LongMethod,
    /// Blanks, control or non-ASCII bytes or a fragment in the target (RFC 9112, 3.2).
    #[error("the target holds what no target may hold")]
    Target,
    /// No HTTP version (RFC 9112, 2.3).
    #[error("the version cannot be read")]
    Version,
    /// A version of HTTP that is not spoken here (RFC 9110, 15.6.6).
    #[error("the version is not spoken here")]
    UnknownVersion,
    /// The request line alone is longer than a head may be (RFC 9112, 3).
    #[error("the target is longer than limits.header_bytes")]
    LongTarget,
    /// The head is longer than `limits.header_bytes`.
    #[error("the head is longer than its limit")]
    LongHead,
    /// More fields than `limits.header_count`.
    #[error("the head has more fields than limits.header_count")]
    ManyFields,
    /// A line that ends without a carriage return (RFC 9112, 2.2).
    #[error("a line ends with a bare line feed")]
    BareLf,
    /// A carriage return that ends no line (RFC 9112, 2.2).
    #[error("a carriage return stands inside a line")]
    BareCr,
    /// White space before a field (RFC 9112, 2.2 and 5.2).
    #[error("a line begins with white space")]
    Folded,
    /// A field without a name, or whose name is not a token (RFC 9112, 5.1).
    #[error("a field's name is not a token")]
    FieldName,
    /// Control bytes in a field's value (RFC 9110, 5.5).
    #[error("a field's value holds control bytes")]
    FieldValue,
    /// A length that is not one number (RFC 9112, 6.3).
    #[error("the Content-Length is not one plain number")]
    Length,
    /// More than one length, even the same (RFC 9112, 6.3).
    #[error("there is more than one Content-Length")]
    RepeatedLength,
    /// A transfer coding other than one `chunked`, or one in HTTP/1.0 (RFC 9112, 6.1).
    #[error("the Transfer-Encoding is not one `chunked`")]
    Coding,
    /// Both (RFC 9112, 6.3).
    #[error("a Content-Length stands beside a Transfer-Encoding")]
    LengthAndCoding,
    /// A chunk's size that is not 1 to 15 hexadecimal digits (RFC 9112, 7.1).
    #[error("a chunk's size cannot be read")]
    ChunkSize,
    /// A chunk extension with control bytes, or too long (RFC 9112, 7.1.1).
    #[error("a chunk's extension cannot be read")]
    ChunkExtension,
    /// No line end after a chunk's data (RFC 9112, 7.1).
    #[error("a chunk does not end where its size says")]
    ChunkEnd,
    /// A trailer section that is no list of fields, or too long (RFC 9112, 7.1.2).
    #[error("the trailer section cannot be read")]
    Trailer,
    /// No status line (RFC 9112, 4).
    #[error("the status line cannot be read")]
    StatusLine,
    /// A pseudo-field among HTTP/2 trailers (RFC 9113, 8.1).
    #[error("a pseudo-field stands among the trailers")]
    PseudoTrailer,
    /// A pseudo-field in an HTTP/2 answer that is not `:status` (RFC 9113, 8.3.2).
    #[error("the answer has a pseudo-field that answers do not have")]
    PseudoField,
    /// A block of HTTP/2 fields that is none (RFC 7541, 3).
    #[error("a block of fields cannot be read")]
    FieldBlock,
    /// A frame whose length is not what its kind has (RFC 9113, 4.2).
    #[error("a frame's length is not what its kind has")]
    FrameSize,
    /// An HTTP/2 client that does not begin with its settings (RFC 9113, 3.4).
    #[error("no settings stand behind the connection preface")]
    Preface,
    /// Data or fields behind the end of an HTTP/2 stream (RFC 9113, 5.1).
    #[error("a frame follows the end of its stream")]
    StreamClosed,
    /// A window larger than any (RFC 9113, 6.5.2).
    #[error("the initial window is larger than a window may be")]
    WindowSize,
    /// A 101 that nobody had asked for (RFC 9110, 15.2.2).
    #[error("the origin answered 101 to a request without Upgrade")]
    UnaskedSwitch,
    /// Interim answers without end (RFC 9110, 15.2).
    #[error("the origin sent too many interim answers")]
    ManyInterim,
}

impl Reason {
    /// The label in metrics.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::RequestLine => "request_line",
            Self::FrameSize => "frame_size",
            Self::Method => "method",
            Self::LongMethod => "long_method",
            Self::Target => "target",
            Self::Version => "version",
            Self::UnknownVersion => "unknown_version",
            Self::LongTarget => "long_target",
            Self::LongHead => "long_head",
            Self::ManyFields => "many_fields",
            Self::BareLf => "bare_lf",
            Self::BareCr => "bare_cr",
            Self::Folded => "folded",
            Self::FieldName => "field_name",
            Self::FieldValue => "field_value",
            Self::Length => "length",
            Self::RepeatedLength => "repeated_length",
            Self::Coding => "coding",
            Self::LengthAndCoding => "length_and_coding",
            Self::ChunkSize => "chunk_size",
            Self::ChunkExtension => "chunk_extension",
            Self::ChunkEnd => "chunk_end",
            Self::Trailer => "trailer",
            Self::StatusLine => "status_line",
            Self::PseudoTrailer => "pseudo_trailer",
            Self::PseudoField => "pseudo_field",
            Self::FieldBlock => "field_block",
            Self::Preface => "preface",
            Self::StreamClosed => "stream_closed",
            Self::WindowSize => "window_size",
            Self::UnaskedSwitch => "unasked_switch",
            Self::ManyInterim => "many_interim",
        }
    }

    /// What a visitor is told.
    #[must_use]
    pub const fn status(self) -> StatusCode {
        match self {
            Self::LongTarget => StatusCode::URI_TOO_LONG,
            Self::LongHead | Self::ManyFields => StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
            Self::LongMethod => StatusCode::NOT_IMPLEMENTED,
            Self::UnknownVersion => StatusCode::HTTP_VERSION_NOT_SUPPORTED,
            _ => StatusCode::BAD_REQUEST,
        }
    }

    /// As an error of the connection on which the message came.
    #[must_use]
    pub fn into_io(self) -> std::io::Error {
        std::io::Error::new(std::io::ErrorKind::InvalidData, self)
    }
}
