//! Upgraded connections (RFC 9110, 7.8): bytes in both directions until one side ends or both are silent.

use std::cell::RefCell;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use http::{Request, Version, header};
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf, copy_bidirectional_with_sizes};

use super::connection::Place;
use super::hop;
use super::house::Core;
use super::timer::Deadline;

/// Bytes copied at a time, each way.
const BUFFER: usize = 16 * 1024;

/// Whether a request asks to change the protocol: HTTP/1.1 with `Upgrade`, named in `Connection`.
#[must_use]
pub fn wanted<B>(request: &Request<B>) -> bool {
    request.version() == Version::HTTP_11
        && request.headers().contains_key(header::UPGRADE)
        && hop::connection_has(request.headers(), "upgrade")
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
