//! Upgraded connections (RFC 9110, 7.8): bytes in both directions until one side ends or both are silent.

use std::cell::RefCell;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use aws_lc_rs::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};
use data_encoding::BASE64;
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Version, header};
use hyper::ext::Protocol;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf, copy_bidirectional_with_sizes};

use super::hop_by_hop;
use crate::edge::error::ProxyError;
use crate::edge::house::Core;
use crate::edge::timer::Deadline;
use crate::edge::upstream::Tunnelled;
use crate::telemetry::events;
use crate::telemetry::limits::Limit;

/// Bytes copied at a time, each way.
const BUFFER: usize = 16 * 1024;

/// The protocol that may be changed to. Any other `Upgrade` field is dropped: what passes a tunnel unread must
/// be something that is no HTTP.
const WEBSOCKET: &[u8] = b"websocket";

/// What is appended to a key before its digest proves that it was read (RFC 6455, 1.3).
const PROOF: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

/// Makes of an extended `CONNECT` for a WebSocket (RFC 8441, 5) the `GET` that HTTP/1.1 has for it; gives the
/// `Sec-WebSocket-Accept` that the origin must answer with. `nonce` is for the key, which HTTP/2 does not need.
///
/// An HTTP/2 client cannot send `Connection` or `Upgrade` itself: such a request is malformed (RFC 9113, 8.2.2).
pub fn unfold<B>(request: &mut Request<B>, nonce: impl FnOnce() -> u128) -> Option<String> {
    let websocket = |protocol: &Protocol| protocol.as_str().as_bytes() == WEBSOCKET;
    let extended = request.version() == Version::HTTP_2
        && request.method() == Method::CONNECT
        && request.extensions().get::<Protocol>().is_some_and(websocket);
    if !extended {
        return None;
    }
    *request.method_mut() = Method::GET;
    let headers = request.headers_mut();
    headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
    headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
    let key = BASE64.encode(&nonce().to_be_bytes());
    let accept = accept_of(&key);
    if let Ok(key) = HeaderValue::try_from(key) {
        headers.insert(header::SEC_WEBSOCKET_KEY, key);
    }
    Some(accept)
}

/// The `Sec-WebSocket-Accept` for a key (RFC 6455, 4.2.2).
fn accept_of(key: &str) -> String {
    let proof = [key.as_bytes(), PROOF].concat();
    BASE64.encode(digest(&SHA1_FOR_LEGACY_USE_ONLY, &proof).as_ref())
}

/// The answer to an extended `CONNECT`, from that to the request it became: a success opens the tunnel there,
/// so only a switch may be one, and it must prove that it is for this request: the visitor cannot tell.
///
/// # Errors
/// [`ProxyError::NoWebSocket`] for any other success.
pub fn fold<B>(mut response: Response<B>, accept: &str) -> Result<Response<B>, ProxyError> {
    if response.status() == StatusCode::SWITCHING_PROTOCOLS {
        if response.headers().get(header::SEC_WEBSOCKET_ACCEPT).is_none_or(|said| said != accept) {
            return Err(ProxyError::NoWebSocket("the origin's Sec-WebSocket-Accept is not the key's"));
        }
        *response.status_mut() = StatusCode::OK;
        for name in [header::CONNECTION, header::UPGRADE, header::SEC_WEBSOCKET_ACCEPT] {
            response.headers_mut().remove(name);
        }
        return Ok(response);
    }
    match response.status().is_success() {
        true => Err(ProxyError::NoWebSocket("the origin answered as to any other request")),
        false => Ok(response),
    }
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
        && hop_by_hop::connection_has(request.headers(), "upgrade")
}

/// Whether the one `Upgrade` field says `websocket`.
#[must_use]
pub fn is_websocket(headers: &HeaderMap) -> bool {
    let mut fields = headers.get_all(header::UPGRADE).iter();
    let first = fields.next().is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(WEBSOCKET));
    first && fields.next().is_none()
}

/// Joins the visitor's connection with the origin's, as a task of its own. `held` is dropped at its end.
pub fn join(
    core: &Rc<Core>,
    downstream: OnUpgrade,
    upstream: Tunnelled,
    idle: Duration,
    held: impl Sized + 'static,
) {
    let metrics = Arc::clone(&core.house.metrics);
    tokio::task::spawn_local(async move {
        let _held = held;
        // A visitor that leaves before the switch ends the tunnel: dropping `upstream` closes it.
        let Ok(downstream) = downstream.await else { return };
        let limit = Rc::new(RefCell::new(Deadline::new(idle)));
        let mut down = Watched { io: TokioIo::new(downstream), idle, limit: Rc::clone(&limit) };
        let mut up = Watched { io: upstream, idle, limit: Rc::clone(&limit) };
        let ended = copy_bidirectional_with_sizes(&mut down, &mut up, BUFFER, BUFFER).await;
        // How else a tunnel ends is the peers' affair.
        if ended.is_err() && limit.borrow().is_over() {
            events::limit_reached(&metrics, Limit::TunnelIdle);
        }
    });
}

/// A side of a tunnel. Both sides share one limit, restarted by every byte that moves: one that is not taken holds up
/// what comes behind it, so that nothing is read either.
struct Watched<S> {
    io: S,
    idle: Duration,
    limit: Rc<RefCell<Deadline>>,
}

impl<S> Watched<S> {
    /// What came of reading or writing, or an error once neither side has moved a byte for too long.
    fn within_limit<T>(&self, cx: &mut Context<'_>, polled: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if polled.is_ready() {
            self.limit.borrow_mut().restart(self.idle);
            return polled;
        }
        self.limit.borrow_mut().poll(cx).map(|()| Err(io::ErrorKind::TimedOut.into()))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Watched<S> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let polled = Pin::new(&mut this.io).poll_read(cx, buf);
        this.within_limit(cx, polled)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Watched<S> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let polled = Pin::new(&mut this.io).poll_write(cx, buf);
        this.within_limit(cx, polled)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        match Pin::new(&mut this.io).poll_flush(cx) {
            // It moves nothing by itself.
            Poll::Ready(flushed) => Poll::Ready(flushed),
            Poll::Pending => this.within_limit(cx, Poll::Pending),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().io).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 6455, 1.3.
    #[test]
    fn the_proof_of_a_key_is_the_one_of_the_rfcs_example() {
        assert_eq!(accept_of("dGhlIHNhbXBsZSBub25jZQ=="), "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
    }
}
