//! The life of a request, in the order of the list in the crate's head. Each step is one call.
//!
//! The corridor never fails outward: [`handle`] turns every [`ProxyError`] into a response, and the
//! cause is logged once, here.

use std::rc::Rc;

use http::{HeaderValue, Method, Request, Response, StatusCode, Version, header};
use hyper::body::Incoming;

use super::body::{Body, RequestBody};
use super::client_addr::Hop;
use super::error::{ProxyError, Side};
use super::exchange::Exchange;
use super::house::Core;
use super::respond::{self, Sent};
use super::upstream::{Answer, Attempt};
use super::{finish, hop, upgrade};
use crate::enforce;
use crate::privacy::{self, Mode};

/// Answers one request. Always answers.
pub async fn handle(core: Rc<Core>, hop: Rc<Hop>, request: Request<Incoming>) -> Response<finish::Counted> {
    let summary = finish::Summary::of(&request);
    let mut request = request;
    let exchange = Exchange::identify(&core, &hop, &mut request); // 1
    let mut exchange = match exchange {
        Ok(exchange) => exchange,
        Err(error) => return finish::unidentified(&core, &hop, summary, &error),
    };
    let answer = run(&core, &hop, &mut exchange, request).await;
    let response = answer.unwrap_or_else(|error| {
        let (side, _, label) = error.class();
        let (site, id) = (&exchange.site().settings.name, exchange.id.to_str().unwrap_or_default());
        let metrics = &core.house.metrics;
        crate::telemetry::events::request_failed(metrics, site, id, side.as_str(), label, &error);
        respond::refused(&core, &exchange, &error)
    });
    finish::answered(&core, &exchange, summary, response)
}

/// Steps 2 to 10.
async fn run(
    core: &Rc<Core>,
    hop: &Hop,
    x: &mut Exchange,
    request: Request<Incoming>,
) -> Result<Response<Body>, ProxyError> {
    let reserved = x.mode == Mode::Enforce && core.house.portal.owns(request.uri().path()); // 2
    // 3: `identify` has read the signals, before hop-by-hop fields were touched.
    (x.subject, x.signals.account) = look_up(core, x, &request); // 4
    x.decision = privacy::decide(x.signals); // 5
    if reserved {
        return respond::reserved(core, x, request).await; // 8 and 10 included
    }
    let collector = None::<crate::registry::Hit>;
    if let Some(hit) = collector {
        return Ok(respond::collector(core, x, hit));
    }
    let wants_upgrade = upgrade::wanted(&request);
    let (request, tunnel) = toward_origin(core, hop, x, request, wants_upgrade)?; // 6
    let sent = Sent::of(&request, x);
    if let Some(downstream) = tunnel {
        return respond::tunnel(core, x, request, downstream, &sent).await;
    }
    let again = sent.copy(x); // what `ask again` needs, only for an opted-out visitor's document
    let answer = send(core, x, request).await?; // 7
    respond::answer(core, x, &sent, answer, again).await // 8, 9, 10
}

/// Step 4: memory only, and only when a trusted hop names an account.
fn look_up(
    core: &Core,
    x: &Exchange,
    request: &Request<Incoming>,
) -> (Option<privacy::Subject>, privacy::Standing) {
    let settings = &x.snapshot.settings;
    let key = match &settings.account_header {
        Some(name) if x.client.peer_trusted => request.headers().get(name),
        _ => None,
    };
    let Some(key) = key.filter(|key| !key.is_empty()) else {
        return (None, privacy::Standing::NoAccount);
    };
    let subject = privacy::Subject::of_account(core.keys(), &x.site().settings.name, key.as_bytes());
    (Some(subject), core.house.store.lookup(&subject))
}

/// What to do with the visitor's side when the origin agrees to another protocol.
type Downstream = hyper::upgrade::OnUpgrade;

/// Step 6: the request as the origin gets it.
fn toward_origin(
    core: &Core,
    hop: &Hop,
    x: &Exchange,
    mut request: Request<Incoming>,
    wants_upgrade: bool,
) -> Result<(Request<RequestBody>, Option<Downstream>), ProxyError> {
    let settings = &x.snapshot.settings;
    let downstream = wants_upgrade.then(|| hyper::upgrade::on(&mut request));
    let version = request.version();
    let (mut parts, body) = request.into_parts();
    if let (Some(limit), Some(length)) = (settings.limits.request_body, content_length(&parts.headers))
        && length > limit
    {
        return Err(ProxyError::BodyTooLarge);
    }
    hop::remove(&mut parts.headers, wants_upgrade);
    hop.rewrite(&mut parts.headers, x.client, &x.host, version, &x.id);
    join_cookie_crumbs(&mut parts.headers, version);
    if x.mode == Mode::Enforce {
        respond::prepare_request(core, x, &mut parts);
    }
    if wants_upgrade {
        parts.headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
    }
    let body = RequestBody::new(body, settings.limits.request_body, settings.timeouts.between_bytes);
    Ok((Request::from_parts(parts, body), downstream))
}

fn content_length(headers: &http::HeaderMap) -> Option<u64> {
    headers.get(header::CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

/// HTTP/2 may send `Cookie` in pieces; HTTP/1.1 has one line (RFC 9113, 8.2.3).
fn join_cookie_crumbs(headers: &mut http::HeaderMap, version: Version) {
    if version != Version::HTTP_2 || headers.get_all(header::COOKIE).iter().nth(1).is_none() {
        return;
    }
    let crumbs: Vec<&[u8]> = headers.get_all(header::COOKIE).iter().map(HeaderValue::as_bytes).collect();
    if let Ok(joined) = HeaderValue::from_bytes(&crumbs.join(&b"; "[..])) {
        headers.insert(header::COOKIE, joined);
    }
}

/// Step 7: the only wait on the network. Origins are tried in turn; the next one only when nothing was sent.
pub async fn send(core: &Core, x: &Exchange, mut request: Request<RequestBody>) -> Result<Answer, ProxyError> {
    let origins = x.site().connectors.len();
    let first = core.turn(origins);
    let mut failure = ProxyError::Internal("the site has no origin");
    for attempt in 0..origins {
        let origin = (first + attempt) % origins;
        let Some(pool) = core.pool(&x.snapshot, &x.site(), origin) else { continue };
        aim(&mut request, x, origin);
        match pool.send(request).await {
            Ok(answer) => return Ok(answer),
            Err(Attempt::NotSent(unsent, error)) => (request, failure) = (*unsent, error),
            Err(Attempt::Failed(error)) => return Err(error),
        }
    }
    Err(failure)
}

/// Gives a request the target and `Host` that one origin expects.
pub fn aim(request: &mut Request<RequestBody>, x: &Exchange, origin: usize) {
    let Some(upstream) = x.site().connectors.get(origin).map(|c| &c.upstream) else { return };
    let host = upstream.host.as_deref().and_then(|host| HeaderValue::from_str(host).ok());
    let host = host.unwrap_or_else(|| x.host.clone());
    let target = request.uri().path_and_query().cloned();
    let target = target.unwrap_or_else(|| http::uri::PathAndQuery::from_static("/"));
    if upstream.http2 {
        *request.version_mut() = Version::HTTP_2;
        let scheme = if upstream.tls.is_some() { "https" } else { "http" };
        let uri = http::Uri::builder().scheme(scheme).authority(host.as_bytes()).path_and_query(target).build();
        if let Ok(uri) = uri {
            *request.uri_mut() = uri;
        }
        request.headers_mut().remove(header::HOST);
    } else {
        *request.version_mut() = Version::HTTP_11;
        if request.uri().authority().is_some() {
            *request.uri_mut() = http::Uri::from(target);
        }
        request.headers_mut().insert(header::HOST, host);
    }
}

/// Whether an error is the visitor's own doing.
#[must_use]
pub fn is_visitors(error: &ProxyError) -> bool {
    error.class().0 == Side::Downstream
}

/// Whether a request may be asked again without harm (RFC 9110, 9.2.1).
#[must_use]
pub fn is_safe(method: &Method) -> bool {
    matches!(*method, Method::GET | Method::HEAD)
}

/// Whether a status carries no body (RFC 9110, 6.4.1).
#[must_use]
pub fn is_bodiless(status: StatusCode) -> bool {
    status.is_informational() || matches!(status, StatusCode::NO_CONTENT | StatusCode::RESET_CONTENT | StatusCode::NOT_MODIFIED)
}
