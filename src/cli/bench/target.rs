//! A server that is asked: where it is, and connections to it.

use std::cell::Cell;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use anyhow::Context as _;
use bytes::Bytes;
use http::HeaderValue;
use http_body_util::Empty;
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::TlsConnector;

use crate::app;
use crate::config::{OriginUrl, UpstreamAddress, parse_origin};

/// How long a TLS handshake may take.
const HANDSHAKE: Duration = Duration::from_secs(10);

/// A kept connection.
pub type Connection = SendRequest<Empty<Bytes>>;

/// A server to be asked over HTTP/1.1.
pub struct Target {
    /// As written.
    pub url: String,
    /// Its flag, for complaints.
    flag: &'static str,
    address: UpstreamAddress,
    tls: Option<(TlsConnector, ServerName<'static>)>,
    /// `Host` of requests to it.
    pub authority: HeaderValue,
    /// What went over its connections.
    pub traffic: Rc<Traffic>,
}

/// Bytes on the wire, TLS included.
#[derive(Debug, Default)]
pub struct Traffic {
    /// To the server.
    pub sent: Cell<u64>,
    /// From it.
    pub received: Cell<u64>,
}

impl Target {
    /// Reads a URL.
    ///
    /// # Errors
    /// Says which flag's URL cannot be used, why, and what to write.
    pub fn of(flag: &'static str, text: &str) -> anyhow::Result<Self> {
        let url = parse_origin(text).map_err(|complaint| {
            anyhow::anyhow!("{flag}: {}; {} (the path goes into --path)", complaint.why, complaint.next)
        })?;
        let OriginUrl { text: url, address, tls, http2 } = url;
        if http2 {
            anyhow::bail!("{flag} {url}: the measurement speaks HTTP/1.1 only; write http:// or https://");
        }
        let port = |default: u16| match &address {
            UpstreamAddress::Tcp { port, .. } if *port != default => format!(":{port}"),
            _ => String::new(),
        };
        let port = port(if tls.is_some() { 443 } else { 80 });
        let authority = match &address {
            UpstreamAddress::Tcp { host, .. } if host.contains(':') => format!("[{host}]{port}"),
            UpstreamAddress::Tcp { host, .. } => format!("{host}{port}"),
            UpstreamAddress::Unix(_) => "localhost".to_owned(),
        };
        let authority = HeaderValue::try_from(authority).context("the host cannot stand in a header")?;
        let tls = match tls {
            None => None,
            Some(tls) => {
                let name = ServerName::try_from(tls.server_name)
                    .with_context(|| format!("{flag} {url}: no certificate can be for this host"))?;
                Some((TlsConnector::from(Arc::new(app::verifying()?)), name))
            }
        };
        Ok(Self { url, flag, address, tls, authority, traffic: Rc::default() })
    }

    /// Opens a connection.
    ///
    /// # Errors
    /// Names the server, what failed and what to look at.
    pub async fn connect(&self) -> anyhow::Result<Connection> {
        let (flag, url) = (self.flag, &self.url);
        let unreachable = || format!("cannot reach {url} ({flag}): is it running there? Try `curl -v {url}`");
        match &self.address {
            UpstreamAddress::Unix(path) => {
                let stream = UnixStream::connect(path).await.with_context(unreachable)?;
                self.greet(stream).await
            }
            UpstreamAddress::Tcp { host, port } => {
                let stream = TcpStream::connect((host.as_str(), *port)).await.with_context(unreachable)?;
                stream.set_nodelay(true).with_context(unreachable)?;
                self.greet(stream).await
            }
        }
    }

    async fn greet<S: AsyncRead + AsyncWrite + Unpin + 'static>(
        &self,
        stream: S,
    ) -> anyhow::Result<Connection> {
        let stream = Counted { stream, traffic: Rc::clone(&self.traffic) };
        match &self.tls {
            None => self.speak(stream).await,
            Some((connector, name)) => {
                let no_tls = || {
                    format!(
                        "no TLS with {} ({}): is it spoken there, with a certificate for this host from an authority \
                         that this system trusts? SSL_CERT_FILE=roots.pem names others",
                        self.url, self.flag
                    )
                };
                let shaking = tokio::time::timeout(HANDSHAKE, connector.connect(name.clone(), stream));
                self.speak(shaking.await.with_context(no_tls)?.with_context(no_tls)?).await
            }
        }
    }

    async fn speak<S: AsyncRead + AsyncWrite + Unpin + 'static>(
        &self,
        stream: S,
    ) -> anyhow::Result<Connection> {
        let (sender, connection) = handshake(TokioIo::new(stream)).await.with_context(|| {
            format!("{} ({}) does not speak HTTP/1.1: does it want https://?", self.url, self.flag)
        })?;
        // Ends with the connection; its error shows in the request as well.
        tokio::task::spawn_local(connection);
        Ok(sender)
    }
}

/// A stream whose bytes are counted.
struct Counted<S> {
    stream: S,
    traffic: Rc<Traffic>,
}

impl<S: AsyncRead + Unpin> AsyncRead for Counted<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = into.filled().len();
        let polled = Pin::new(&mut self.stream).poll_read(cx, into);
        let received = (into.filled().len() - before) as u64;
        self.traffic.received.update(|so_far| so_far + received);
        polled
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Counted<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.stream).poll_write(cx, bytes);
        if let Poll::Ready(Ok(sent)) = polled {
            self.traffic.sent.update(|so_far| so_far + sent as u64);
        }
        polled
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 9110, 7.2: `Host` is the URL's authority, without a default port.
    #[test]
    fn the_host_of_requests_is_the_urls() {
        for (url, host) in [
            ("http://127.0.0.1:3000", "127.0.0.1:3000"),
            ("http://shop.example", "shop.example"),
            ("http://[::1]:8080", "[::1]:8080"),
            ("unix:/run/shop.sock", "localhost"),
        ] {
            assert_eq!(Target::of("--upstream", url).unwrap().authority, host);
        }
    }

    #[test]
    fn urls_that_cannot_be_measured_are_refused_with_their_flag() {
        for url in ["h2c://127.0.0.1:1", "127.0.0.1:3000", "ftp://a", "http://a/shop"] {
            let refused = Target::of("--through", url).err().map(|e| e.to_string()).unwrap_or_default();
            assert!(refused.starts_with("--through"), "{url}: {refused}");
        }
    }
}
