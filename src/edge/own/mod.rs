//! Answers that are ours: consumer pages, and what stands in for others' files. What an ACME authority is shown is in
//! [`proofs`], the way to https in [`https`].

pub mod https;
pub mod proofs;

use std::rc::Rc;
use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, Response, header};
use hyper::body::Incoming;

use crate::config::{SignalCookies, VendorAction};
use crate::edge::answer::outcome;
use crate::edge::downstream::clients::ClientKey;
use crate::edge::error::{METHODS, ProxyError};
use crate::edge::exchange::Exchange;
use crate::edge::house::Core;
use crate::edge::message::body::Body;
use crate::edge::{account, timer};
use crate::enforce::collectors::Intercepted;
use crate::enforce::{cookies, request, signals};
use crate::portal::{Act, Told, Visit};
use crate::privacy::marks::ConsentCookies;
use crate::privacy::{Basis, Decision, Mode};
use crate::telemetry::events;
use crate::telemetry::limits::Limit;
use crate::telemetry::metrics::CookieSide;

/// Answers that are the same for anybody: the proof of a name, and the way to https.
///
/// Cost: a comparison of the path's beginning, and one of the site's setting.
#[must_use]
pub fn for_anybody<B>(core: &Core, x: &Exchange, request: &Request<B>) -> Option<Response<Body>> {
    core.house.proofs.answer(request.uri().path()).or_else(|| https::redirect(x, request))
}

/// Whether a path is one of the consumer pages'. In observe mode they are the origin's.
#[must_use]
pub fn is_reserved(x: &Exchange, path: &str) -> bool {
    x.mode == Mode::Enforce && x.snapshot.portal.owns(path)
}

/// A consumer page. Its answers pass step 8 too: tracker cookies expire, our own is kept fresh.
///
/// # Errors
/// A form that does not arrive in time; else the pages answer for themselves.
pub async fn reserved(
    core: &Rc<Core>,
    x: &mut Exchange,
    request: Request<Incoming>,
) -> Result<Response<Body>, ProxyError> {
    let (mut parts, body) = request.into_parts();
    let act = x.snapshot.portal.act(&parts.method, parts.uri.path());
    let (opts_out, opts_in) = (act == Some(Act::OptOut), act == Some(Act::ConfirmOptIn));
    let shown = parts.uri.path() == &*x.snapshot.prefix;
    let crowding = !within_rate(core, x, parts.uri.path());
    if crowding && !opts_out {
        return Err(ProxyError::TooManyRequests);
    }
    if crowding {
        events::limit_reached(&core.house.metrics, Limit::PortalRate);
    }
    let visit = visit(core, x, &parts.headers, opts_out, crowding);
    if opts_out && !x.decision.opted_out() {
        // From this very answer on the choice is in force, so its cookies go with it.
        x.decision = Decision::out(Basis::Cookie);
    }
    let trackers = request::tracker_cookies(&parts.headers, &x.rule().policy);
    let consent = ConsentCookies::read(&parts.headers);
    parts.extensions.insert(visit);
    let answering = x.snapshot.portal.answer(Request::from_parts(parts, axum::body::Body::new(body)));
    let answer = match opts_out {
        // It reads no body, and whatever the journal does it must answer with its cookie.
        true => answering.await,
        false => timer::within(x.snapshot.settings.timeouts.between_bytes, answering)
            .await
            .ok_or(ProxyError::BodyTimeout)?,
    };
    let (mut parts, body) = answer.into_parts();
    if x.decision.opted_out() && (opts_out || shown) {
        let host = x.host_name();
        let expired = cookies::expire(&mut parts.headers, &trackers, &host, x.client.secure);
        core.house.metrics.cookies(CookieSide::Expired, u64::from(expired));
        let said = &x.snapshot.settings.signals;
        if opts_out && said.cookies != SignalCookies::Off {
            // The guard, which writes them otherwise, is not on these pages; those from before look for them.
            signals::write(&mut parts.headers, &consent, said, &host, x.client.secure);
        }
    }
    if opts_in && parts.status.is_success() {
        // Else what we wrote for the opt-out would outlive it.
        signals::retract(&mut parts.headers, &consent, &x.host_name(), x.client.secure);
    }
    if shown {
        let (month, secure) = (core.month(), x.client.secure);
        let domain = x.cookie_domain();
        let line = cookies::own_cookie(x.decision, x.signals, month, core.keys(), secure, domain);
        if let Some(line) = line {
            parts.headers.append(header::SET_COOKIE, line);
        }
        // With our cookie in the browser no later page would count as its first.
        outcome::record(core, x, true);
    }
    Ok(Response::from_parts(parts, Body::Portal(body)))
}

/// What the pages are told of who comes.
fn visit(core: &Core, x: &Exchange, headers: &HeaderMap, opts_out: bool, crowding: bool) -> Visit {
    Visit {
        site: Arc::clone(&x.site().settings),
        signals: x.signals,
        decision: x.decision,
        named: x.named,
        aliases: x.aliases.clone(),
        secure: x.client.secure,
        host: x.host_name().into_owned(),
        policy: Arc::clone(&x.rule().policy),
        policy_version: x.site().version.to_string(),
        month: core.month(),
        told: match opts_out && x.named.account.is_some() && !x.snapshot.settings.recipients.is_empty() {
            true => Told::Recipients(account::key(x, headers)),
            false => Told::Nobody,
        },
        crowding,
    }
}

/// Whether a client's request for a consumer page is within `limits.portal_rate`. What pages themselves load
/// does not count: it is fixed bytes, and a page may need many. Nor does what has no client's address.
fn within_rate(core: &Core, x: &Exchange, path: &str) -> bool {
    let limits = &x.snapshot.settings.limits;
    let assets = |rest: &str| rest.starts_with("/assets/");
    let counted = path.strip_prefix(&*x.snapshot.prefix).is_some_and(|rest| !assets(rest));
    !counted
        || !x.has_clients_address()
        || core.house.portal_rates.take(
            ClientKey::of(x.client.address),
            limits.portal_rate,
            limits.portal_burst,
        )
}

/// The answer to an `OPTIONS` that was to go no further (RFC 9110, 7.6.2).
#[must_use]
pub fn options() -> Response<Body> {
    let mut response = Response::new(Body::empty());
    response.headers_mut().insert(header::ALLOW, HeaderValue::from_static(METHODS));
    response
}

/// The empty answer to a tracker's collector behind a first-party address.
#[must_use]
pub fn collector(core: &Core, x: &Exchange, intercepted: Intercepted, asked: &HeaderMap) -> Response<Body> {
    core.house.metrics.collectors.inc();
    if let Some(vendor) = intercepted.vendor {
        x.snapshot.vendors.neutralised(vendor.0, VendorAction::Strip, 1);
        x.site().sightings.note(vendor.0);
    }
    intercepted.stand_in.answer(asked).map(|body| Body::full(Bytes::from_static(body)))
}
