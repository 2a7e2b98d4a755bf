//! Connections that go on as another protocol.

use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::{Buf as _, Bytes};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::super::attempt::{Attempt, Outgoing};
use super::super::http1::Wants;
use super::super::transport::Transport;
use super::{Answer, Asking, Held, Live, Pool, UpstreamBody};

/// An origin's end of an upgraded connection.
#[derive(Debug)]
pub struct Tunnel {
    /// The 101 head.
    pub head: http::response::Parts,
    /// The bytes after it.
    pub upgraded: Tunnelled,
    /// To be kept until the tunnel ends.
    pub held: Held,
}

/// A connection to an origin, with what came on it together with the 101.
#[derive(Debug)]
pub struct Tunnelled {
    first: Bytes,
    io: Transport,
}

impl AsyncRead for Tunnelled {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.first.is_empty() {
            return Pin::new(&mut this.io).poll_read(cx, buf);
        }
        let step = this.first.len().min(buf.remaining());
        buf.put_slice(&this.first[..step]);
        this.first.advance(step);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Tunnelled {
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

impl Pool {
    /// Sends an upgrade request over a connection of its own.
    ///
    /// # Errors
    /// [`Attempt::NotSent`] leaves the request in its place, for another origin.
    pub async fn send_upgrade(
        self: &Rc<Self>,
        request: &mut Outgoing,
        asking: Asking<'_>,
    ) -> Result<Result<Tunnel, Answer>, Attempt> {
        let Asking { client, load, tail } = asking;
        let place = self.place().await.map_err(Attempt::NotSent)?;
        // Whoever gave the place up may have left a connection, and this request wants a fresh one.
        if place.is_some() {
            drop(self.checkout(client, |live| live.place.is_none()));
        }
        let mut live = Box::new(self.open(client).await.map_err(Attempt::NotSent)?);
        (live.place, live.once) = (place, true);
        let wants = Wants { switch: true, tail, interim: None };
        let response = self.exchange(&mut live, request, wants).await?;
        if response.status() != http::StatusCode::SWITCHING_PROTOCOLS {
            // The connection ends with this answer.
            return Ok(Err(response.map(|()| UpstreamBody::http1(live, self, load))));
        }
        let Live { connection, place, open, .. } = *live;
        let (io, first) = connection.into_parts();
        let figures = Some(Arc::clone(&self.figures));
        let held = Held { _load: load, _place: place, _open: Some(open), stream: None, figures };
        Ok(Ok(Tunnel { head: response.into_parts().0, upgraded: Tunnelled { first, io }, held }))
    }
}
