//! What can go wrong between a visitor and the origin, and the one table that answers it.
//!
//! The client gets a fixed text that names no internals; the cause goes to the log, once.

use bytes::Bytes;
use http::{Response, StatusCode, header};

use super::message::body::Body;
use super::strict::Reason;
use super::upstream::AnswerError;
use crate::telemetry::limits::Limit;
use crate::telemetry::side::Side;

/// Seconds after which a visitor who was turned away for want of room may come again.
const RETRY_AFTER: &str = "5";

/// Said with 503.
const TOO_MANY: &str = "503 Service Unavailable\nToo many visitors at the moment. Please try again soon.\n";

/// Methods that are served.
pub(super) const METHODS: &str = "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS";

/// A request that cannot be answered by the origin.
#[derive(Debug, thiserror::Error)]
pub enum ProxyError {
    /// The head is not well-formed.
    #[error("{0}")]
    Malformed(#[source] Reason),
    /// A request on a TLS connection that was opened for another site (RFC 9110, 15.5.20).
    #[error("neither the handshake's name nor the certificate is for the host asked")]
    Misdirected,
    /// The visitor's body is not well-formed, or the visitor left in the middle of it.
    #[error("the request body broke off")]
    BrokenBody,
    /// A method that is refused by policy.
    #[error("the method is not allowed here")]
    MethodNotAllowed,
    /// No usable `Host` or `:authority`, or several.
    #[error("the request names no host, or more than one")]
    BadHost,
    /// `:authority` and `Host` differ.
    #[error("`:authority` and `Host` name different hosts")]
    HostMismatch,
    /// A `Transfer-Encoding` that is not one plain `chunked`, or one beside a `Content-Length`.
    #[error("the end of the request body can be read in two ways")]
    AmbiguousLength,
    /// A method or target that a reverse proxy does not forward.
    #[error("the method or target is not for a reverse proxy")]
    BadTarget,
    /// No site has this host.
    #[error("no site is configured for this host")]
    UnknownHost,
    /// The body is larger than `limits.request_body`.
    #[error("the request body is larger than limits.request_body")]
    BodyTooLarge,
    /// The visitor's body stalled.
    #[error("the request body stalled for longer than timeouts.between_bytes")]
    BodyTimeout,
    /// The visitor's body came too slowly.
    #[error("the request body came slower than limits.min_body_rate for timeouts.slow_body")]
    BodyTooSlow,
    /// An HTTP/2 request with more pieces of `Cookie` than `limits.http2_cookie_crumbs`.
    #[error("the request has more pieces of Cookie than limits.http2_cookie_crumbs")]
    ManyCrumbs,
    /// A client asks for more consumer pages than `limits.portal_rate`.
    #[error("more requests for consumer pages than limits.portal_rate")]
    TooManyRequests,
    /// The process uses more memory than `limits.memory`.
    #[error("the process uses more memory than limits.memory")]
    Overloaded,
    /// The origin could not be reached.
    #[error("cannot connect to the origin: {0}")]
    Connect(#[source] std::io::Error),
    /// This machine or process has no room for one more connection to an origin.
    #[error(
        "cannot connect to the origin for want of descriptors, ports or memory here: {0} (raise LimitNOFILE or `ulimit -n`, or lower limits.connections)"
    )]
    NoRoom(#[source] std::io::Error),
    /// Connecting took too long.
    #[error("connecting to the origin took longer than timeouts.upstream_connect")]
    ConnectTimeout,
    /// All connections of the origin are taken, and too many requests wait already.
    #[error("all connections of the origin are taken and limits.upstream_queue requests wait for one")]
    QueueFull,
    /// No connection of the origin became free.
    #[error("no connection of the origin became free within timeouts.upstream_queue")]
    QueueTimeout,
    /// The origin's certificate or handshake was refused.
    #[error("TLS with the origin failed: {0}")]
    UpstreamTls(#[source] std::io::Error),
    /// The origin broke off or answered something that is not HTTP.
    #[error("the origin gave no answer that can be passed on: {0}")]
    Answer(#[source] AnswerError),
    /// An HTTP/2 origin refused the stream, or ended its connection in good order, before it began (RFC 9113, 8.7).
    #[error("the origin did not begin the request, twice: it ends its connections or takes no more on them")]
    NotBegun,
    /// The head of an HTTP/2 origin's answer would not be one in HTTP/1.1.
    #[error("the origin's answer is not well-formed: {0}")]
    MalformedAnswer(#[source] Reason),
    /// The origin changed the protocol, and nobody had asked for that.
    #[error("the origin answered 101 to a request without Upgrade")]
    UnaskedSwitch,
    /// The visitor wants a WebSocket, and the origin's answer is neither one nor a refusal (RFC 6455, 4.1).
    #[error("the visitor wants a WebSocket and gets none: {0}")]
    NoWebSocket(&'static str),
    /// The origin was silent.
    #[error("the origin sent no response head within timeouts.first_byte")]
    FirstByteTimeout,
    /// An origin leads back here (RFC 5842, 7.2).
    #[error("the request has been here again and again: an upstream leads back to this program")]
    Loop,
    /// The page cannot be rewritten for an opted-out visitor.
    #[error("the page cannot be rewritten for an opted-out visitor: {0}")]
    NotRewritable(&'static str),
    /// Our own mistake.
    #[error("internal: {0}")]
    Internal(&'static str),
}

impl ProxyError {
    /// Side, status and metric label: the one table.
    #[must_use]
    pub const fn class(&self) -> (Side, StatusCode, &'static str) {
        use Side::{Downstream, Internal, Upstream};
        match self {
            Self::Malformed(reason) => (Downstream, reason.status(), "malformed"),
            Self::BrokenBody => (Downstream, StatusCode::BAD_REQUEST, "broken_body"),
            Self::MethodNotAllowed => (Downstream, StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed"),
            Self::BadHost => (Downstream, StatusCode::BAD_REQUEST, "bad_host"),
            Self::HostMismatch => (Downstream, StatusCode::BAD_REQUEST, "host_mismatch"),
            Self::AmbiguousLength => (Downstream, StatusCode::BAD_REQUEST, "ambiguous_length"),
            Self::BadTarget => (Downstream, StatusCode::BAD_REQUEST, "bad_target"),
            Self::UnknownHost => (Downstream, StatusCode::MISDIRECTED_REQUEST, "unknown_host"),
            Self::Misdirected => (Downstream, StatusCode::MISDIRECTED_REQUEST, "misdirected"),
            Self::BodyTooLarge => (Downstream, StatusCode::PAYLOAD_TOO_LARGE, "body_too_large"),
            Self::BodyTimeout => (Downstream, StatusCode::REQUEST_TIMEOUT, "body_timeout"),
            Self::BodyTooSlow => (Downstream, StatusCode::REQUEST_TIMEOUT, "slow_body"),
            Self::ManyCrumbs => (Downstream, StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE, "many_crumbs"),
            Self::TooManyRequests => (Downstream, StatusCode::TOO_MANY_REQUESTS, "too_many_requests"),
            Self::Overloaded => (Internal, StatusCode::SERVICE_UNAVAILABLE, "overloaded"),
            Self::Connect(_) => (Upstream, StatusCode::BAD_GATEWAY, "connect"),
            Self::NoRoom(_) => (Internal, StatusCode::SERVICE_UNAVAILABLE, "no_room"),
            Self::ConnectTimeout => (Upstream, StatusCode::GATEWAY_TIMEOUT, "connect_timeout"),
            Self::QueueFull => (Upstream, StatusCode::SERVICE_UNAVAILABLE, "queue_full"),
            Self::QueueTimeout => (Upstream, StatusCode::SERVICE_UNAVAILABLE, "queue_timeout"),
            Self::UpstreamTls(_) => (Upstream, StatusCode::BAD_GATEWAY, "tls"),
            Self::Answer(_) => (Upstream, StatusCode::BAD_GATEWAY, "answer"),
            Self::NotBegun => (Upstream, StatusCode::BAD_GATEWAY, "not_begun"),
            Self::MalformedAnswer(_) => (Upstream, StatusCode::BAD_GATEWAY, "answer"),
            Self::UnaskedSwitch => (Upstream, StatusCode::BAD_GATEWAY, "unasked_switch"),
            Self::NoWebSocket(_) => (Upstream, StatusCode::BAD_GATEWAY, "no_websocket"),
            Self::FirstByteTimeout => (Upstream, StatusCode::GATEWAY_TIMEOUT, "first_byte_timeout"),
            Self::Loop => (Upstream, StatusCode::LOOP_DETECTED, "loop"),
            Self::NotRewritable(_) => (Upstream, StatusCode::BAD_GATEWAY, "not_rewritable"),
            Self::Internal(_) => (Internal, StatusCode::INTERNAL_SERVER_ERROR, "internal"),
        }
    }

    /// Why no connection could be made: the origin's fault, unless it is want of this process or machine.
    #[must_use]
    pub fn of_connecting(error: std::io::Error) -> Self {
        use rustix::io::Errno;
        match Errno::from_io_error(&error) {
            Some(Errno::MFILE | Errno::NFILE | Errno::ADDRNOTAVAIL | Errno::NOBUFS | Errno::NOMEM) => {
                Self::NoRoom(error)
            }
            _ => Self::Connect(error),
        }
    }

    /// Whether it says something of the origin: neither a visitor's doing nor a limit of ours.
    #[must_use]
    pub fn is_the_origins(&self) -> bool {
        match self {
            Self::Connect(_)
            | Self::ConnectTimeout
            | Self::UpstreamTls(_)
            | Self::MalformedAnswer(_)
            | Self::FirstByteTimeout => true,
            // A visitor's body that breaks off breaks the exchange too.
            Self::Answer(error) => error.visitors().is_none(),
            _ => false,
        }
    }

    /// The limit of ours that was reached, if it is one of those that are counted.
    #[must_use]
    pub const fn limit(&self) -> Option<Limit> {
        match self {
            Self::Malformed(Reason::LongTarget | Reason::LongHead) => Some(Limit::HeaderBytes),
            Self::Malformed(Reason::ManyFields) => Some(Limit::HeaderCount),
            Self::BodyTooLarge => Some(Limit::RequestBody),
            Self::BodyTimeout => Some(Limit::BetweenBytes),
            Self::BodyTooSlow => Some(Limit::BodyRate),
            Self::ManyCrumbs => Some(Limit::Http2CookieCrumbs),
            Self::TooManyRequests => Some(Limit::PortalRate),
            Self::Overloaded => Some(Limit::Memory),
            _ => None,
        }
    }

    /// Whether the connection must not be used again: what follows on it cannot be trusted.
    const fn closes(&self) -> bool {
        matches!(
            self,
            Self::Malformed(_)
                | Self::BrokenBody
                | Self::MethodNotAllowed
                | Self::BadHost
                | Self::HostMismatch
                | Self::AmbiguousLength
                | Self::BadTarget
                | Self::BodyTooLarge
                | Self::BodyTimeout
                | Self::BodyTooSlow
        )
    }

    /// The plain page for the client. It names no internals.
    #[must_use]
    pub fn respond(&self) -> Response<Body> {
        let (_, status, _) = self.class();
        let text = match status {
            StatusCode::BAD_REQUEST => "400 Bad Request\nThis request cannot be read.\n",
            StatusCode::METHOD_NOT_ALLOWED => {
                "405 Method Not Allowed\nRequests with this method are not served here.\n"
            }
            StatusCode::URI_TOO_LONG => "414 URI Too Long\nThe address asked for is too long.\n",
            StatusCode::NOT_IMPLEMENTED => "501 Not Implemented\nThis method is not known here.\n",
            StatusCode::HTTP_VERSION_NOT_SUPPORTED => {
                "505 HTTP Version Not Supported\nThis version of HTTP is not spoken here.\n"
            }
            StatusCode::MISDIRECTED_REQUEST => {
                "421 Misdirected Request\nNo site with this name is served on this connection.\n"
            }
            StatusCode::PAYLOAD_TOO_LARGE => "413 Content Too Large\nThe request body is too large.\n",
            StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE => {
                "431 Request Header Fields Too Large\nThe request head is too large.\n"
            }
            StatusCode::TOO_MANY_REQUESTS => {
                "429 Too Many Requests\nToo many requests came from your address. Please try again soon.\n\
                 Opting out is never refused: the button on the page works now, too.\n"
            }
            StatusCode::REQUEST_TIMEOUT => "408 Request Timeout\nThe request took too long to arrive.\n",
            StatusCode::BAD_GATEWAY => {
                "502 Bad Gateway\nThe site did not give a usable answer. Please try again later.\n"
            }
            StatusCode::SERVICE_UNAVAILABLE => TOO_MANY,
            StatusCode::GATEWAY_TIMEOUT => {
                "504 Gateway Timeout\nThe site did not answer in time. Please try again later.\n"
            }
            StatusCode::LOOP_DETECTED => {
                "508 Loop Detected\nThe address of this site leads back to itself.\n"
            }
            _ => "500 Internal Server Error\nSomething went wrong here. Please try again later.\n",
        };
        let mut response = Response::new(Body::full(Bytes::from_static(text.as_bytes())));
        *response.status_mut() = status;
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, http::HeaderValue::from_static("text/plain; charset=utf-8"));
        headers.insert(header::CACHE_CONTROL, http::HeaderValue::from_static("no-store"));
        if matches!(status, StatusCode::SERVICE_UNAVAILABLE | StatusCode::TOO_MANY_REQUESTS) {
            headers.insert(header::RETRY_AFTER, http::HeaderValue::from_static(RETRY_AFTER));
        }
        if status == StatusCode::METHOD_NOT_ALLOWED {
            // RFC 9110, 15.5.6.
            headers.insert(header::ALLOW, http::HeaderValue::from_static(METHODS));
        }
        if self.closes() {
            headers.insert(header::CONNECTION, http::HeaderValue::from_static("close"));
        }
        response
    }

    /// The same on a site that serves its consumer pages at `prefix`. Who is turned away for want of room may have asked
    /// with an opt-out: it is said that nothing came of it, and that those pages go on.
    #[must_use]
    pub fn respond_beside(&self, prefix: &str) -> Response<Body> {
        let response = self.respond();
        if response.status() != StatusCode::SERVICE_UNAVAILABLE {
            return response;
        }
        let text = format!(
            "{TOO_MANY}Nothing of this request was carried out or saved. Opting out works now, too: {prefix}\n"
        );
        response.map(|_| Body::full(text.into()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 9110, 15.5.6.
    #[test]
    fn a_refused_method_is_told_which_are_served() {
        let response = ProxyError::MethodNotAllowed.respond();
        assert_eq!(response.status(), StatusCode::METHOD_NOT_ALLOWED);
        assert_eq!(
            response.headers().get(header::ALLOW).map(|methods| methods.as_bytes()),
            Some(METHODS.as_bytes())
        );
        assert!(!ProxyError::BadTarget.respond().headers().contains_key(header::ALLOW));
    }
}
