//! One request to an address that the settings name: key sets, messages to recipients. Mails have the way there of it.
//!
//! Certificates are verified, redirects are not followed, and no more is read than the caller can use. Each has a
//! connection of its own. How long to wait is the caller's to say.

use std::io;
use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;

use anyhow::Context as _;
use bytes::Bytes;
use http::{Method, Request, StatusCode, header, request};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use url::{Host, Position, Url};

use crate::edge::downstream::tls;

/// Who asks, in the other's log.
const AGENT: &str = concat!("optgate/", env!("CARGO_PKG_VERSION"));

/// A request to an address.
pub(super) fn request(method: Method, url: &Url) -> request::Builder {
    Request::builder()
        .method(method)
        .uri(&url[Position::BeforePath..Position::AfterQuery])
        .header(header::HOST, &url[Position::BeforeHost..Position::AfterPort])
        .header(header::USER_AGENT, AGENT)
        .header(header::CONNECTION, "close")
}

/// Sends it there; `roots` are what its certificate must lead to, the system's without. The status, and a body of at
/// most so many bytes, or why there is none: it breaks off, or is longer.
///
/// # Errors
/// What was in the way, in words for the log.
pub(super) async fn ask(
    url: &Url,
    roots: Option<&Path>,
    request: Request<Full<Bytes>>,
    most_bytes: usize,
) -> anyhow::Result<(StatusCode, anyhow::Result<Bytes>)> {
    let port = url.port_or_known_default().context("the address has no port")?;
    let host = url.host().context("the address has no host")?;
    let tcp = dial(&host, port).await.context("its server cannot be reached")?;
    if url.scheme() != "https" {
        return exchange(tcp, request, most_bytes).await;
    }
    let config = tls::client_config(roots, false)?;
    let tls = in_tls(&host, config, tcp).await.context("its server cannot be verified")?;
    exchange(tls, request, most_bytes).await
}

/// A connection to a host.
///
/// # Errors
/// The system's.
pub(super) async fn dial<S: AsRef<str>>(host: &Host<S>, port: u16) -> io::Result<TcpStream> {
    match host {
        Host::Domain(name) => TcpStream::connect((name.as_ref(), port)).await,
        Host::Ipv4(ip) => TcpStream::connect((*ip, port)).await,
        Host::Ipv6(ip) => TcpStream::connect((*ip, port)).await,
    }
}

/// TLS over a connection to a host, whose certificate must be for it.
///
/// # Errors
/// It is not, or the host has a name that no certificate can hold.
pub(super) async fn in_tls<S: AsRef<str>>(
    host: &Host<S>,
    config: rustls::ClientConfig,
    tcp: TcpStream,
) -> anyhow::Result<TlsStream<TcpStream>> {
    let name = match host {
        Host::Domain(name) => ServerName::try_from(name.as_ref().to_owned())?,
        Host::Ipv4(ip) => ServerName::from(IpAddr::from(*ip)),
        Host::Ipv6(ip) => ServerName::from(IpAddr::from(*ip)),
    };
    Ok(TlsConnector::from(Arc::new(config)).connect(name, tcp).await?)
}

async fn exchange<S>(
    io: S,
    request: Request<Full<Bytes>>,
    most_bytes: usize,
) -> anyhow::Result<(StatusCode, anyhow::Result<Bytes>)>
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static,
{
    let (mut sender, connection) = http1::handshake(TokioIo::new(io)).await?;
    // It ends with the sender and the body, which both end here.
    tokio::spawn(connection);
    let answer = sender.send_request(request).await?;
    let status = answer.status();
    let body = Limited::new(answer.into_body(), most_bytes).collect().await;
    let body = body.map_err(|error| anyhow::anyhow!("its answer cannot be read to its end: {error}"));
    Ok((status, body.map(|body| body.to_bytes())))
}
