//! One HTTP request of ours to a listener of ours.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use anyhow::Context as _;
use bytes::Bytes;
use http::header::HOST;
use http::{Request, response};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::TlsConnector;

use crate::app::AdminKey;

/// Largest answer read, bytes.
const MAX_ANSWER: usize = 8 << 20;

/// Sends a request without a body, by TLS if there is a key to it, and reads the whole answer.
///
/// # Errors
/// Names the address and what failed.
pub async fn ask(
    address: SocketAddr,
    key: Option<&AdminKey>,
    request: http::request::Builder,
) -> anyhow::Result<(response::Parts, Bytes)> {
    let request = request.header(HOST, address.to_string()).body(Full::default());
    let request = request.context("the request cannot be written")?;
    let scheme = if key.is_some() { "https" } else { "http" };
    let target = format!("{scheme}://{address}{}", request.uri());
    let stream = TcpStream::connect(address).await.with_context(|| format!("cannot reach {address}"))?;
    match key {
        None => exchange(stream, &target, request).await,
        Some(key) => {
            let connector = TlsConnector::from(Arc::clone(&key.config));
            let stream = connector.connect(key.name.clone(), stream).await;
            let stream = stream.with_context(|| format!("{address}: TLS failed (see [admin.tls])"))?;
            exchange(stream, &target, request).await
        }
    }
}

/// Sends a request to a Unix socket and reads the whole answer.
///
/// # Errors
/// Names the socket and what failed.
pub async fn ask_socket(
    socket: &Path,
    request: http::request::Builder,
    body: Vec<u8>,
) -> anyhow::Result<(response::Parts, Bytes)> {
    let target = socket.display().to_string();
    let request = request.header(HOST, "localhost").body(Full::from(body));
    let request = request.context("the request cannot be written")?;
    let stream = UnixStream::connect(socket).await.with_context(|| format!("cannot reach {target}"))?;
    exchange(stream, &target, request).await
}

/// A text of an answer in JSON: why not, as RFC 9457 has it (`detail`), or what was done.
pub fn said(body: &[u8], name: &str) -> Option<String> {
    let answer: serde_json::Value = serde_json::from_slice(body).ok()?;
    answer.get(name)?.as_str().map(str::to_owned)
}

async fn exchange<S: AsyncRead + AsyncWrite + Unpin + Send + 'static>(
    stream: S,
    target: &str,
    request: Request<Full<Bytes>>,
) -> anyhow::Result<(response::Parts, Bytes)> {
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
        .await
        .with_context(|| format!("{target}: no HTTP/1.1 is spoken there"))?;
    // Ends with the connection; its error shows in the request as well.
    tokio::spawn(connection);
    let response = sender.send_request(request).await.with_context(|| format!("no answer from {target}"))?;
    let (head, body) = response.into_parts();
    let body = Limited::new(body, MAX_ANSWER)
        .collect()
        .await
        .map_err(|e| anyhow::anyhow!("the answer of {target} broke off: {e}"))?;
    Ok((head, body.to_bytes()))
}
