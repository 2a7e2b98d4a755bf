//! A connection without TLS: TCP or a Unix socket.

use std::io::{self, IoSlice};
use std::net::{IpAddr, Ipv4Addr};
use std::pin::Pin;
use std::task::{Context, Poll};

use rustix::net::{RecvFlags, recv};
use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio_rustls::server::TlsStream;

/// The address of who connects to a Unix socket: this machine's own.
pub const UNIX_PEER: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

/// A listening socket of one core.
#[derive(Debug)]
pub enum Listening {
    /// TCP.
    Tcp(TcpListener),
    /// A Unix socket.
    Unix(UnixListener),
}

impl Listening {
    /// The next connection, and the address of who opened it.
    ///
    /// # Errors
    /// As the system's accept.
    pub async fn accept(&self) -> io::Result<(Socket, IpAddr)> {
        match self {
            Self::Tcp(listener) => {
                listener.accept().await.map(|(stream, peer)| (Socket::Tcp(stream), peer.ip()))
            }
            Self::Unix(listener) => listener.accept().await.map(|(s, _)| (Socket::Unix(s), UNIX_PEER)),
        }
    }
}

/// A connection, accepted or dialled.
#[derive(Debug)]
pub enum Socket {
    /// TCP.
    Tcp(TcpStream),
    /// A Unix socket.
    Unix(UnixStream),
}

/// What lies over a socket, TLS or nothing.
pub trait OverSocket {
    /// The socket.
    fn socket(&self) -> &Socket;
}

impl OverSocket for Socket {
    fn socket(&self) -> &Socket {
        self
    }
}

impl OverSocket for Box<TlsStream<Socket>> {
    fn socket(&self) -> &Socket {
        self.get_ref().0
    }
}

impl Socket {
    /// Whether the peer has reset the connection, or the network has lost it. Says so once. Cost: a system call.
    pub fn is_reset(&self) -> bool {
        let error = match self {
            Self::Tcp(io) => io.take_error(),
            Self::Unix(io) => io.take_error(),
        };
        !matches!(error, Ok(None))
    }

    /// Looks at the first bytes without taking them.
    ///
    /// # Errors
    /// As the system's recv.
    pub async fn peek(&self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(io) => io.peek(buffer).await,
            Self::Unix(io) => {
                let look = || Ok(recv(io, &mut *buffer, RecvFlags::PEEK)?.1);
                io.async_io(Interest::READABLE, look).await
            }
        }
    }
}

impl AsyncRead for Socket {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(io) => Pin::new(io).poll_read(cx, buf),
            Self::Unix(io) => Pin::new(io).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Socket {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Tcp(io) => Pin::new(io).poll_write(cx, buf),
            Self::Unix(io) => Pin::new(io).poll_write(cx, buf),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Tcp(io) => Pin::new(io).poll_write_vectored(cx, bufs),
            Self::Unix(io) => Pin::new(io).poll_write_vectored(cx, bufs),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match self {
            Self::Tcp(io) => io.is_write_vectored(),
            Self::Unix(io) => io.is_write_vectored(),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(io) => Pin::new(io).poll_flush(cx),
            Self::Unix(io) => Pin::new(io).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(io) => Pin::new(io).poll_shutdown(cx),
            Self::Unix(io) => Pin::new(io).poll_shutdown(cx),
        }
    }
}
