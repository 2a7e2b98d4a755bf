//! The byte stream to an origin: TCP, a Unix socket, or TLS over TCP.

use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;
use tokio_util::either::Either;

use crate::edge::downstream::socket::Socket;

/// A connected origin. TLS is boxed because its state is large.
pub type Transport = Either<Socket, Box<TlsStream<TcpStream>>>;
