//! Upgraded connections (RFC 9110, 7.8): bytes in both directions until one side ends or both are silent.

use std::cell::RefCell;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use http::{HeaderMap, Method, Request, Version, header};
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf, copy_bidirectional_with_sizes};

use super::hop;
use super::timer::Deadline;

/// Bytes copied at a time, each way.
const BUFFER: usize = 16 * 1024;

/// The protocol that may be changed to. Any other `Upgrade` field is dropped: what passes a tunnel unread must
/// be something that is no HTTP.
const WEBSOCKET: &[u8] = b"websocket";

/// Whether a request asks for a WebSocket: a `GET` of HTTP/1.1 without a body, with `Upgrade` named in
/// `Connection` (RFC 9110, 7.8; RFC 6455, 4.1).
#[must_use]
pub fn wanted<B: http_body::Body>(request: &Request<B>) -> bool {
    request.version() == Version::HTTP_11
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

/// Joins the visitor's connection with the origin's, as a task of its own.
pub fn join(downstream: OnUpgrade, upstream: Upgraded, idle: Duration) {
    tokio::task::spawn_local(async move {
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
