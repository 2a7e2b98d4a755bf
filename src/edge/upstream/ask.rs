//! Step 7: the origins of a site asked in turn, the next one only when nothing was sent to the last.

use http::uri::PathAndQuery;
use http::{HeaderValue, Request, StatusCode, Version, header};
use http_body::Body as _;

use super::attempt::{Attempt, Outgoing};
use super::choose::Choice;
use super::pool::{Answer, Tunnel};
use crate::edge::error::ProxyError;
use crate::edge::exchange::Exchange;
use crate::edge::house::Core;
use crate::edge::message::body::RequestBody;
use crate::edge::message::interim::Interim;
use crate::edge::message::upgrade;
use crate::enforce::names::Names;

/// Asks for an answer. Origins are tried as [`Choice`] says. What one says before its answer goes to `interim`.
///
/// # Errors
/// The last origin's, or that of one which may have begun.
pub async fn ask(
    core: &Core,
    x: &Exchange,
    request: &mut Outgoing,
    interim: Option<Interim<'_>>,
) -> Result<Answer, ProxyError> {
    let Some(outgoing) = request else { return Err(ProxyError::Internal("there is no request to send")) };
    let mut choice = Choice::new(core.group(&x.snapshot, x.site()), x, outgoing.headers(), false);
    let mut failure = ProxyError::Internal("the site has no origin");
    while let Some(origin) = choice.another() {
        aim(request, x, origin);
        match choice.send(origin, request, interim).await {
            Ok(answer) if answer.status() == StatusCode::SWITCHING_PROTOCOLS => {
                return Err(ProxyError::UnaskedSwitch);
            }
            Ok(answer) => return Ok(answer),
            Err(Attempt::NotSent(error)) => failure = error,
            Err(Attempt::Failed(error)) => return Err(error),
        }
    }
    Err(failure)
}

/// Asks for another protocol: the tunnel, or the answer of an origin that stays with HTTP.
///
/// # Errors
/// As for any request, and [`ProxyError::NoWebSocket`].
pub async fn to_switch(
    core: &Core,
    x: &Exchange,
    request: Request<RequestBody>,
) -> Result<Result<Tunnel, Answer>, ProxyError> {
    let mut choice = Choice::new(core.group(&x.snapshot, x.site()), x, request.headers(), true);
    let mut request = Some(request);
    let mut failure = ProxyError::Internal("the site has no origin");
    while let Some(origin) = choice.another() {
        aim(&mut request, x, origin);
        match choice.send_upgrade(origin, &mut request).await {
            // The tunnel is for what was asked for, and nothing else.
            Ok(Ok(tunnel)) if !upgrade::is_websocket(&tunnel.head.headers) => {
                return Err(ProxyError::NoWebSocket("the origin switched to another protocol"));
            }
            Ok(answered) => return Ok(answered),
            Err(Attempt::NotSent(error)) => failure = error,
            Err(Attempt::Failed(error)) => return Err(error),
        }
    }
    Err(failure)
}

/// Gives a request, if it is in its place, the target and `Host` that one origin expects.
fn aim(request: &mut Outgoing, x: &Exchange, origin: usize) {
    let Some(request) = request else { return };
    let Some(upstream) = x.site().group.members.get(origin).map(|m| &m.connector.upstream) else { return };
    let host = upstream.host.as_deref().and_then(|host| HeaderValue::from_str(host).ok());
    if upstream.http2 {
        let (target, host) = (target_of(request.uri()), host.unwrap_or_else(|| x.host.clone()));
        *request.version_mut() = Version::HTTP_2;
        let scheme = if upstream.tls.is_some() { "https" } else { "http" };
        let uri =
            http::Uri::builder().scheme(scheme).authority(host.as_bytes()).path_and_query(target).build();
        if let Ok(uri) = uri {
            *request.uri_mut() = uri;
        }
        request.headers_mut().remove(header::HOST);
        request.headers_mut().remove(header::CONNECTION);
        request.headers_mut().remove(header::TRANSFER_ENCODING);
    } else {
        *request.version_mut() = Version::HTTP_11;
        if request.uri().authority().is_some() {
            *request.uri_mut() = http::Uri::from(target_of(request.uri()));
        }
        let bodied = !request.body().is_end_stream();
        let headers = request.headers_mut();
        match host {
            Some(host) => drop(headers.insert(header::HOST, host)),
            // From HTTP/1.1 it has come as it goes; an origin tried before may have had its own.
            None if headers.get(header::HOST) == Some(&x.host) => {}
            None => drop(headers.insert(header::HOST, x.host.clone())),
        }
        // hyper would send a `GET` without the body of which it does not know the length.
        if bodied && !headers.contains_key(header::CONTENT_LENGTH) {
            headers.insert(header::TRANSFER_ENCODING, HeaderValue::from_static("chunked"));
        }
        // RFC 9110, 10.1.4: `TE` is of this connection and says so.
        if x.names.any(Names::TE) && headers.contains_key(header::TE) {
            let upgrade = headers.contains_key(header::UPGRADE);
            let options = if upgrade { "upgrade, te" } else { "te" };
            headers.insert(header::CONNECTION, HeaderValue::from_static(options));
        }
    }
}

fn target_of(uri: &http::Uri) -> PathAndQuery {
    uri.path_and_query().cloned().unwrap_or_else(|| PathAndQuery::from_static("/"))
}
