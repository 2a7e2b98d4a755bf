//! The life of a request, in the order of the list in the crate's head. Each step is one call.
//!
//! The corridor never fails outward: [`handle`] turns every [`ProxyError`] into a response, and the
//! cause is logged once, here.

use std::rc::Rc;
use std::sync::atomic::Ordering;

use http::{HeaderMap, HeaderValue, Method, Request, Response, Version, header, request};
use http_body::Body as _;
use hyper::body::Incoming;
use hyper::upgrade::OnUpgrade;

use super::answer::finish::{self, Begun, Counted};
use super::answer::respond::{self, Asked};
use super::answer::stages::Stages;
use super::answer::{explain, outcome, sticky};
use super::error::ProxyError;
use super::exchange::Exchange;
use super::house::Core;
use super::identify::hop::{Hop, Way};
use super::message::body::{Body, RequestBody};
use super::message::interim::Interim;
use super::message::{continuing, grpc, hop_by_hop, upgrade};
use super::own::https;
use super::strict::{Link, OfServer};
use super::upstream::ask;
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
    let mut answered = run(&core, &hop, link, &mut begun.exchange, &mut Some(request)).await; // 2 to 10
    if let Some(accept) = unfolded {
        answered = answered.and_then(|response| upgrade::fold(response, &accept));
    }
    let mut response = match answered {
        Ok(response) => response,
        Err(error) => begun.failed(&error),
    };
    tell(&begun.exchange, &method, response.headers_mut());
    begun.answered(response)
}

/// What every answer with a site says, whoever gives it.
fn tell(x: &Exchange, method: &Method, headers: &mut HeaderMap) {
    sticky::tell(x, method, headers);
    explain::tell(x, headers);
    https::tell_hsts(x, headers);
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
    if let Some(answer) = own::for_anybody(core, x, request) {
        return Ok(answer); // 2
    }
    let reserved = own::is_reserved(x, request.uri().path()); // 2
    read_signals(core, x, request.headers()); // 3
    account::look_up(core, x, request.headers()); // 4
    x.decision = privacy::decide(x.signals); // 5
    if reserved {
        return Box::pin(own::reserved(core, x, came.take().ok_or_else(gone)?)).await; // 2, decided
    }
    if let Some(answer) = goes_no_further(core, x, request)? {
        return Ok(answer); // 6
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
        return Box::pin(switch(core, x, request, downstream, asked)).await; // 7 to 10
    }
    x.stages.ask();
    let interim = link.map(|link| Interim::new(link, x, request.body().waits_for_leave()));
    let answer = ask::ask(core, x, &mut Some(request), interim).await; // 7
    x.stages.answered();
    respond::answer(core, x, &mut asked, answer?).await // 8, 9, 10
}

/// Step 3: each input read once, before hop-by-hop removal.
fn read_signals(core: &Core, x: &mut Exchange, headers: &HeaderMap) {
    if x.names.any(Names::SIGNAL.or(Names::COOKIE)) {
        x.signals = Signals::read(headers, core.keys());
        outcome::unreadable(core, x, headers);
    }
}

/// Step 6, before anything is asked of the origin: what it is not asked at all.
///
/// # Errors
/// [`ProxyError::Overloaded`]: nobody gets a page less carefully for it.
fn goes_no_further(
    core: &Core,
    x: &Exchange,
    request: &mut Request<Incoming>,
) -> Result<Option<Response<Body>>, ProxyError> {
    if let Some(intercepted) = collected(x, request) {
        return Ok(Some(own::collector(core, x, intercepted, request.headers())));
    }
    if core.house.shedding.load(Ordering::Relaxed) {
        return Err(ProxyError::Overloaded);
    }
    Ok(hop_by_hop::is_last_hop(request).then(own::options))
}

/// Steps 7 to 10 for a request to change the protocol: joined with the origin's answer, or answered like any other.
///
/// # Errors
/// As for any request.
async fn switch(
    core: &Rc<Core>,
    x: &mut Exchange,
    request: Request<RequestBody>,
    downstream: OnUpgrade,
    mut asked: Asked,
) -> Result<Response<Body>, ProxyError> {
    // An answer that ends HTTP here says nothing of stages.
    x.stages = Stages::default();
    let version = request.version();
    match ask::to_switch(core, x, request).await? {
        Ok(tunnel) => Ok(respond::joined(core, x, asked, (downstream, version), tunnel)),
        Err(refused) => respond::answer(core, x, &mut asked, refused).await,
    }
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
        let way = Way { names: x.names, client: x.client, host: &x.host, version: parts.version };
        hop.rewrite(&mut parts.headers, way, &x.id);
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

fn content_length(headers: &HeaderMap) -> Option<u64> {
    headers.get(header::CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

/// HTTP/2 may send `Cookie` in pieces; HTTP/1.1 has one line (RFC 9113, 8.2.3).
fn join_cookie_crumbs(headers: &mut HeaderMap, version: Version) {
    if version != Version::HTTP_2 || headers.get_all(header::COOKIE).iter().nth(1).is_none() {
        return;
    }
    let crumbs: Vec<&[u8]> = headers.get_all(header::COOKIE).iter().map(HeaderValue::as_bytes).collect();
    if let Ok(joined) = HeaderValue::from_bytes(&crumbs.join(&b"; "[..])) {
        headers.insert(header::COOKIE, joined);
    }
}
