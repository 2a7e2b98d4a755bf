//! A connection without TLS: TCP or a Unix socket.

use std::cell::RefCell;
use std::io::{self, IoSlice};
use std::net::{IpAddr, Ipv4Addr};
use std::os::fd::{AsFd, BorrowedFd};
use std::pin::Pin;
use std::task::{Context, Poll};

use rustix::net::{RecvFlags, recv};
use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio_rustls::server::TlsStream;

/// A head with a body of up to so many bytes together is written as one piece: send(2) takes the kernel some 180 ns
/// less than writev(2), the copy included.
const JOINED: usize = 2 * 1024;

/// Bytes that the system may hold unsent for an HTTP/2 connection. By itself it takes megabytes for a slow visitor, who
/// has read them long after `timeouts.idle`, and answers no ping before.
const UNSENT: u32 = 128 * 1024;

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

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Tcp(socket) => socket.as_fd(),
            Self::Unix(socket) => socket.as_fd(),
        }
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

    /// Has the system take next to nothing that it cannot send yet: what it has taken is out of our sight, and what comes
    /// behind it, a ping too, waits for it. Not for a Unix socket, which takes little by itself. Cost: a system call.
    pub fn keep_little_unsent(&self) {
        if let Self::Tcp(io) = self {
            // Where the system has no such option it takes what it takes.
            let _ = SockRef::from(io).set_tcp_notsent_lowat(UNSENT);
        }
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

thread_local! {
    /// Room for slices that are written as one piece.
    static ROOM: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
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
        if let [one] = bufs {
            return self.poll_write(cx, one);
        }
        let length: usize = bufs.iter().map(|buf| buf.len()).sum();
        if length <= JOINED {
            return ROOM.with_borrow_mut(|joined| {
                joined.clear();
                bufs.iter().for_each(|buf| joined.extend_from_slice(buf));
                self.poll_write(cx, joined)
            });
        }
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

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    /// Whatever their number and sizes, on both sides of what is joined.
    #[tokio::test]
    async fn slices_arrive_in_their_order() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut socket = Socket::Tcp(TcpStream::connect(listener.local_addr().unwrap()).await.unwrap());
        let (mut peer, _) = listener.accept().await.unwrap();
        for lengths in [&[3, 2][..], &[JOINED - 1, 0, 1], &[JOINED, 1], &[1, JOINED, 1], &[JOINED + 1]] {
            let owned: Vec<_> =
                lengths.iter().zip(b'a'..).map(|(length, byte)| vec![byte; *length]).collect();
            let bufs: Vec<_> = owned.iter().map(|bytes| IoSlice::new(bytes)).collect();
            let whole = owned.concat();
            assert_eq!(socket.write_vectored(&bufs).await.unwrap(), whole.len(), "{lengths:?}");
            let mut came = vec![0; whole.len()];
            peer.read_exact(&mut came).await.unwrap();
            assert_eq!(came, whole, "{lengths:?}");
        }
    }
}
