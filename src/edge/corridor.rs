//! The life of a request, in the order of the list in the crate's head. Each step is one call.
//!
//! The corridor never fails outward: [`handle`] turns every [`ProxyError`] into a response, and the
//! cause is logged once, here.

use std::rc::Rc;
use std::sync::atomic::Ordering;

use http::uri::PathAndQuery;
use http::{HeaderValue, Method, Request, Response, StatusCode, Version, header, request};
use http_body::Body as _;
use hyper::body::Incoming;

use super::answer::finish::{self, Begun, Counted};
use super::answer::respond::{self, Asked};
use super::answer::stages::Stages;
use super::answer::{outcome, sticky};
use super::error::ProxyError;
use super::exchange::Exchange;
use super::house::Core;
use super::identify::client_addr::Hop;
use super::message::body::{Body, RequestBody};
use super::message::interim::Interim;
use super::message::{continuing, grpc, hop_by_hop, upgrade};
use super::own::https;
use super::strict::{Link, OfServer};
use super::upstream::{Answer, Attempt, Choice, Outgoing};
use super::{account, own};
use crate::enforce::collectors::{self, Intercepted};
use crate::enforce::names::Names;
use crate::privacy::{self, Mode, Signals};
use crate::registry::FirstParty;

/// Answers one request. Always answers. `link`: the visitor's connection, where interim answers can be written to it.
pub async fn handle(
    core: Rc<Core>,
    hop: Rc<Hop>,
    link: Option<&Link>,
    mut request: Request<Incoming>,
) -> Response<Counted> {
    let summary = finish::Summary::of(&request, &core);
    let unfolded = upgrade::unfold(&mut request, || core.fresh_id());
    let mut exchange = match Exchange::identify(&core, &hop, &mut request) {
        Ok(exchange) => exchange, // 1
        Err(error) => return finish::unidentified(&core, &hop, summary, &error),
    };
    if request.extensions_mut().remove::<OfServer>().is_some() {
        *request.uri_mut() = http::Uri::from_static("*");
    }
    exchange.stages = core.stages(&exchange.snapshot, summary.started());
    let mut begun = Begun::new(&core, summary, exchange);
    let method = request.method().clone();
    // RFC 9110, 15.2: HTTP/1.0 knows none.
    let link = link.filter(|_| request.version() == Version::HTTP_11);
    let mut answered = run(&core, &hop, link, &mut begun.exchange, &mut Some(request)).await;
    if let Some(accept) = unfolded {
        answered = answered.and_then(|response| upgrade::fold(response, &accept));
    }
    let mut response = match answered {
        Ok(response) => response,
        Err(error) => begun.failed(&error),
    };
    sticky::tell(&begun.exchange, &method, response.headers_mut());
    respond::explain(&begun.exchange, response.headers_mut());
    https::tell_hsts(&begun.exchange, response.headers_mut());
    begun.answered(response)
}

/// Steps 2 to 10.
///
/// What few requests need is boxed: every open connection holds room for the largest of the futures here, and every
/// request moves it. For the same reason the request stays in its place until it goes on.
async fn run(
    core: &Rc<Core>,
    hop: &Hop,
    link: Option<&Link>,
    x: &mut Exchange,
    came: &mut Option<Request<Incoming>>,
) -> Result<Response<Body>, ProxyError> {
    let gone = || ProxyError::Internal("a request was taken before");
    let request = came.as_mut().ok_or_else(gone)?;
    if let Some(proof) = core.house.proofs.answer(request.uri().path()) {
        return Ok(proof);
    }
    if let Some(elsewhere) = https::redirect(x, request) {
        return Ok(elsewhere);
    }
    let reserved = x.mode == Mode::Enforce && x.snapshot.portal.owns(request.uri().path()); // 2
    if x.names.any(Names::SIGNAL.or(Names::COOKIE)) {
        x.signals = Signals::read(request.headers(), core.keys()); // 3
        outcome::unreadable(core, x, request.headers());
    }
    account::look_up(core, x, request.headers()); // 4
    x.decision = privacy::decide(x.signals); // 5
    if reserved {
        return Box::pin(own::reserved(core, x, came.take().ok_or_else(gone)?)).await;
    }
    if let Some(intercepted) = collected(x, request) {
        return Ok(own::collector(core, x, intercepted, request.headers()));
    }
    if core.house.shedding.load(Ordering::Relaxed) {
        // Before anything is asked of the origin. Nobody gets a page less carefully for it.
        return Err(ProxyError::Overloaded);
    }
    if hop_by_hop::is_last_hop(request) {
        return Ok(own::options());
    }
    let wants_upgrade =
        x.names.any(Names::UPGRADE) && upgrade::wanted(request) && may_switch(x, request.version())?;
    let downstream = wants_upgrade.then(|| hyper::upgrade::on(&mut *request));
    let expected = waits_for_leave(x, request);
    let (mut parts, body) = came.take().ok_or_else(gone)?.into_parts();
    let bodied = !body.is_end_stream();
    let mut asked = toward_origin(hop, x, &mut parts, bodied, (wants_upgrade, expected))?; // 6
    let request = outgoing(x, parts, body, expected);
    if let Some(downstream) = downstream {
        // An answer that ends HTTP here says nothing of stages.
        x.stages = Stages::default();
        return Box::pin(respond::tunnel(core, x, request, downstream, asked)).await;
    }
    x.stages.ask();
    let interim = link.map(|link| Interim::new(link, x, request.body().waits_for_leave()));
    let answer = send(core, x, &mut Some(request), interim).await; // 7
    x.stages.answered();
    respond::answer(core, x, &mut asked, answer?).await // 8, 9, 10
}

/// Whether an origin can be asked to change the protocol. Over HTTP/2 none is: without the field it answers as to any
/// request (RFC 9110, 7.8), which is an answer over HTTP/1.1 only.
fn may_switch(x: &Exchange, version: Version) -> Result<bool, ProxyError> {
    match x.site().group.http1 {
        0 if version == Version::HTTP_2 => {
            Err(ProxyError::NoWebSocket("its origins speak HTTP/2; give the site one that speaks HTTP/1.1"))
        }
        http1 => Ok(http1 != 0),
    }
}

/// Whether the request is a tracker's collection behind an address of the site.
fn collected(x: &Exchange, request: &Request<Incoming>) -> Option<Intercepted> {
    if x.mode != Mode::Enforce {
        return None;
    }
    let (method, headers, uri) = (request.method(), request.headers(), request.uri());
    let query = uri.query().unwrap_or_default();
    let asked = FirstParty { method, path: uri.path(), query, headers };
    collectors::intercept(x.decision, &x.rule().policy, asked)
}

/// Whether the visitor's body waits until the origin asks for it.
fn waits_for_leave(x: &Exchange, request: &Request<Incoming>) -> bool {
    let group = &x.site().group;
    x.names.any(Names::EXPECT) && continuing::expected(request) && group.http1 == group.all()
}

/// Step 6: the head as the origin gets it.
fn toward_origin(
    hop: &Hop,
    x: &mut Exchange,
    parts: &mut request::Parts,
    bodied: bool,
    (wants_upgrade, waits_for_leave): (bool, bool),
) -> Result<Asked, ProxyError> {
    let limit = x.snapshot.settings.limits.request_body;
    if x.names.any(Names::LENGTH)
        && let (Some(limit), Some(length)) = (limit, content_length(&parts.headers))
        && length > limit
    {
        return Err(ProxyError::BodyTooLarge);
    }
    hop_by_hop::remove(&mut parts.headers, x.names, wants_upgrade);
    if x.names.any(Names::EXPECT) && !waits_for_leave {
        continuing::forget(&mut parts.headers);
    }
    join_cookie_crumbs(&mut parts.headers, parts.version);
    tell_of_client(hop, x, parts);
    let asked = respond::prepare(x, parts, bodied);
    if wants_upgrade {
        parts.headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
    }
    Ok(asked)
}

/// What the origin is told of the client: in fields, or as bytes that most requests of a connection share.
fn tell_of_client(hop: &Hop, x: &mut Exchange, parts: &mut request::Parts) {
    let as_ever = !x.names.any(Names::CLAIM.or(Names::VIA)) && x.client.address == hop.peer;
    if as_ever && x.site().group.reads_lines() {
        x.lines = Some(hop.lines(&x.host, x.client.secure, parts.version));
    } else {
        hop.rewrite(&mut parts.headers, x.names, x.client, &x.host, parts.version, &x.id);
    }
}

/// The head and the visitor's body behind it.
fn outgoing(
    x: &Exchange,
    parts: request::Parts,
    body: Incoming,
    waits_for_leave: bool,
) -> Request<RequestBody> {
    let mut body = RequestBody::new(body, parts.version, &x.snapshot.settings);
    // Toward HTTP/1.1 nothing can come back before all of it is there.
    if x.site().group.http1 == 0 && parts.version == Version::HTTP_2 && grpc::has_type(&parts.headers) {
        body.set_conversation();
    }
    let mut request = Request::from_parts(parts, body);
    if waits_for_leave {
        request.body_mut().wait_for_leave();
    }
    request
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

/// Step 7: the only wait on the network. Origins are tried as [`Choice`] says; the next one only when nothing was
/// sent. What an origin says before its answer goes to `interim`.
pub async fn send(
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

/// Gives a request, if it is in its place, the target and `Host` that one origin expects.
pub fn aim(request: &mut Outgoing, x: &Exchange, origin: usize) {
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

/// Whether a request may be asked again without harm (RFC 9110, 9.2.1).
#[must_use]
pub fn is_safe(method: &Method) -> bool {
    matches!(*method, Method::GET | Method::HEAD)
}
