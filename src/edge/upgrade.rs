//! Upgraded connections (RFC 9110, 7.8): bytes in both directions until one side ends or both are silent.

use std::cell::RefCell;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use data_encoding::BASE64;
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Version, header};
use hyper::ext::Protocol;
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf, copy_bidirectional_with_sizes};

use super::connection::Place;
use super::error::ProxyError;
use super::hop;
use super::house::Core;
use super::timer::Deadline;

/// Bytes copied at a time, each way.
const BUFFER: usize = 16 * 1024;

/// The protocol that may be changed to. Any other `Upgrade` field is dropped: what passes a tunnel unread must
/// be something that is no HTTP.
const WEBSOCKET: &[u8] = b"websocket";

/// Makes of an extended `CONNECT` for a WebSocket (RFC 8441, 5) the `GET` that HTTP/1.1 has for it. True when
/// it did. `nonce` is for the key, which HTTP/2 does not need.
///
/// An HTTP/2 client cannot send `Connection` or `Upgrade` itself: such a request is malformed (RFC 9113, 8.2.2).
pub fn unfold<B>(request: &mut Request<B>, nonce: impl FnOnce() -> u128) -> bool {
    let websocket = |protocol: &Protocol| protocol.as_str().as_bytes() == WEBSOCKET;
    let extended = request.version() == Version::HTTP_2
        && request.method() == Method::CONNECT
        && request.extensions().get::<Protocol>().is_some_and(websocket);
    if extended {
        *request.method_mut() = Method::GET;
        let headers = request.headers_mut();
        headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
        headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
        if let Ok(key) = HeaderValue::from_str(&BASE64.encode(&nonce().to_be_bytes())) {
            headers.insert(header::SEC_WEBSOCKET_KEY, key);
        }
    }
    extended
}

/// The answer to an extended `CONNECT`, from that to the request it became: a success opens the tunnel there,
/// so only a switch may be one.
///
/// # Errors
/// [`ProxyError::UnaskedSwitch`] for any other success.
pub fn fold<B>(mut response: Response<B>) -> Result<Response<B>, ProxyError> {
    if response.status() == StatusCode::SWITCHING_PROTOCOLS {
        *response.status_mut() = StatusCode::OK;
        for name in [header::CONNECTION, header::UPGRADE, header::SEC_WEBSOCKET_ACCEPT] {
            response.headers_mut().remove(name);
        }
        return Ok(response);
    }
    if response.status().is_success() { Err(ProxyError::UnaskedSwitch) } else { Ok(response) }
}

/// Whether a request asks for a WebSocket: a `GET` without a body, with `Upgrade` named in `Connection`
/// (RFC 9110, 7.8; RFC 6455, 4.1), which HTTP/1.0 does not know.
#[must_use]
pub fn wanted<B: http_body::Body>(request: &Request<B>) -> bool {
    request.version() != Version::HTTP_10
        && request.headers().contains_key(header::UPGRADE)
        && request.method() == Method::GET
        && request.body().is_end_stream()
        && is_websocket(request.headers())
        && hop::connection_has(request.headers(), "upgrade")
}

/// Whether the one `Upgrade` field says `websocket`.
#[must_use]
pub fn is_websocket(headers: &HeaderMap) -> bool {
    let mut fields = headers.get_all(header::UPGRADE).iter();
    let first = fields.next().is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(WEBSOCKET));
    first && fields.next().is_none()
}

/// Joins the visitor's connection with the origin's, as a task of its own. It is an open connection like any
/// other: a process that finishes waits for it. `held` is dropped at its end.
pub fn join(
    core: &Rc<Core>,
    downstream: OnUpgrade,
    upstream: Upgraded,
    idle: Duration,
    held: impl Sized + 'static,
) {
    let place = Place::take_over(core);
    tokio::task::spawn_local(async move {
        let _held = (place, held);
        // A visitor that leaves before the switch ends the tunnel: dropping `upstream` closes it.
        let Ok(downstream) = downstream.await else { return };
        let limit = Rc::new(RefCell::new(Deadline::new(idle)));
        let mut down = Watched { io: TokioIo::new(downstream), idle, limit: Rc::clone(&limit) };
        let mut up = Watched { io: TokioIo::new(upstream), idle, limit };
        // How a tunnel ends is the peers' affair.
        let _ = copy_bidirectional_with_sizes(&mut down, &mut up, BUFFER, BUFFER).await;
    });
}

/// A side of a tunnel. Both sides share one limit, restarted by every byte read on either.
struct Watched {
    io: TokioIo<Upgraded>,
    idle: Duration,
    limit: Rc<RefCell<Deadline>>,
}

impl AsyncRead for Watched {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if let Poll::Ready(result) = Pin::new(&mut this.io).poll_read(cx, buf) {
            this.limit.borrow_mut().restart(this.idle);
            return Poll::Ready(result);
        }
        this.limit.borrow_mut().poll(cx).map(|()| Err(io::ErrorKind::TimedOut.into()))
    }
}

impl AsyncWrite for Watched {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().io).poll_write(cx, buf)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().io).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().io).poll_shutdown(cx)
    }
}
