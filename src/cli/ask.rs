//! One HTTP request of ours to a listener of ours.

use std::net::SocketAddr;

use anyhow::Context as _;
use bytes::Bytes;
use http::header::HOST;
use http::response;
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

/// Largest answer read, bytes.
const MAX_ANSWER: usize = 8 << 20;

/// Sends a request without a body and reads the whole answer.
///
/// # Errors
/// Names the address and what failed.
pub async fn ask(
    address: SocketAddr,
    request: http::request::Builder,
) -> anyhow::Result<(response::Parts, Bytes)> {
    let request = request.header(HOST, address.to_string()).body(Empty::<Bytes>::new());
    let request = request.context("the request cannot be written")?;
    let target = format!("http://{address}{}", request.uri());
    let stream = TcpStream::connect(address).await.with_context(|| format!("cannot reach {address}"))?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
        .await
        .with_context(|| format!("{address} does not speak HTTP/1.1"))?;
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
