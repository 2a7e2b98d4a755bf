//! Steps 8 to 10: from the origin's answer to the visitor's.

use std::rc::Rc;
use std::sync::Arc;

use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Version, header, response};
use hyper::upgrade::OnUpgrade;
use url::Url;

use super::outcome;
use crate::config::{Compress, NoTransform};
use crate::edge::account;
use crate::edge::downstream::connection;
use crate::edge::error::ProxyError;
use crate::edge::exchange::Exchange;
use crate::edge::house::Core;
use crate::edge::message::body::{Body, RequestBody};
use crate::edge::message::{hop_by_hop, upgrade};
use crate::edge::upstream::{Answer, Tunnel, UpstreamBody, ask};
use crate::enforce::fields;
use crate::enforce::guard::Placement;
use crate::enforce::html::Plan;
use crate::enforce::html::body::{Primed, RewriteBody};
use crate::enforce::html::coding::Bounds;
use crate::enforce::html::memo::{Guarded, Key, Ticket};
use crate::enforce::html::negotiate::Coding;
use crate::enforce::html::plan::{self, BodyPlan, PassReason, Recipe};
use crate::enforce::html::shadow::ShadowBody;
use crate::enforce::names::Names;
use crate::enforce::request::{self, Holds, RequestChanges, RequestContext};
use crate::enforce::response::{self as enforce_response, ResponseContext, Scripts};
use crate::privacy::Mode;

/// What later steps must know of a request after it has gone to the origin.
#[derive(Debug)]
pub struct Asked {
    /// What step 6 changed and learned.
    pub changes: RequestChanges,
    /// Where the visitor went.
    target: PathAndQuery,
    /// It came with a body, which is not kept.
    bodied: bool,
    /// The head once more, for an opted-out visitor's page: it may have to be asked for again.
    again: Option<Box<http::request::Parts>>,
    /// The head as it was before step 6, where the answer may show that the visitor has opted out.
    before: Option<Box<http::request::Parts>>,
}

/// Step 6, the part of `enforce`: what the decision means for the request.
#[must_use]
pub fn prepare(x: &Exchange, parts: &mut http::request::Parts, bodied: bool) -> Asked {
    let target = parts.uri.path_and_query().cloned().unwrap_or_else(|| PathAndQuery::from_static("/"));
    let may_rise = x.snapshot.settings.account.session.is_some() && !x.decision.opted_out();
    let before = (may_rise && x.mode == Mode::Enforce).then(|| Box::new(parts.clone()));
    let changes = request::prepare(parts, &request_context(x));
    let again = (!bodied && may_ask_again(x, &parts.method, &changes)).then(|| Box::new(parts.clone()));
    Asked { changes, target, bodied, again, before }
}

fn request_context(x: &Exchange) -> RequestContext<'_> {
    RequestContext {
        decision: x.decision,
        names: x.names,
        mode: x.mode,
        policy: &x.rule().policy,
        version: &x.site().version,
        rewrite: x.rule().rewrite,
        our_cookies: x.signals.ours,
        strip_link_params: x.site().settings.strip_link_params,
    }
}

fn may_ask_again(x: &Exchange, method: &Method, changes: &RequestChanges) -> bool {
    let enforced = x.mode == Mode::Enforce && x.decision.opted_out();
    enforced && is_safe(method) && changes.target.may_be_rewritten(true)
}

/// Whether a request may be asked again without harm (RFC 9110, 9.2.1).
fn is_safe(method: &Method) -> bool {
    matches!(*method, Method::GET | Method::HEAD)
}

/// The answer has shown that the visitor has opted out, and the origin was asked as for one who has not. What was
/// asked for is now what should have been; a 304 is about a copy of the other variant, and is asked for again.
fn raise(x: &Exchange, asked: &mut Asked) {
    let Some(mut parts) = asked.before.take() else { return };
    asked.changes = request::prepare(&mut parts, &request_context(x));
    (asked.changes.tag_mapped, asked.changes.condition_dropped) = (false, true);
    asked.again = (!asked.bodied && may_ask_again(x, &parts.method, &asked.changes)).then_some(parts);
}

/// Steps 8 to 10 for an origin's answer.
///
/// # Errors
/// An opted-out visitor's page that cannot be rewritten, also when it is asked for again.
pub async fn answer(
    core: &Rc<Core>,
    x: &mut Exchange,
    asked: &mut Asked,
    answer: Answer,
) -> Result<Response<Body>, ProxyError> {
    let (mut parts, mut body) = answer.into_parts();
    loop {
        if account::heard(core, x, &mut parts.headers) {
            raise(x, asked);
        }
        let refused = match shape(core, x, asked, &mut parts, body).await {
            Ok(body) => return Ok(Response::from_parts(parts, body)),
            Err(refused) => refused,
        };
        // Once more without coding, range and conditions; then it is a 502: a page with its trackers is worse.
        let Some(mut again) = asked.again.take() else {
            outcome::refused(core, x, refused);
            return Err(ProxyError::NotRewritable(refused));
        };
        request::ask_again(&mut again.headers, &mut asked.changes);
        x.stages.ask();
        let mut request = Some(Request::from_parts(*again, RequestBody::empty()));
        // What comes before an answer the visitor has had from the first one.
        let answer = ask::ask(core, x, &mut request, None).await;
        x.stages.answered();
        (parts, body) = answer?.into_parts();
    }
}

/// One answer, shaped for the visitor: its head where it is, and its body; or why an opted-out visitor may not have it.
async fn shape(
    core: &Rc<Core>,
    x: &Exchange,
    asked: &Asked,
    parts: &mut response::Parts,
    body: UpstreamBody,
) -> Result<Body, &'static str> {
    parts.version = Version::HTTP_11;
    let names = Names::of_answer(&parts.headers);
    hop_by_hop::remove_from_answer(&mut parts.headers, names);
    let mut plan = plan_body(x, asked, parts, x.mode == Mode::Enforce);
    let page = page_url(x, asked, &plan);
    let (body, guarded) = match (&plan, &page) {
        (BodyPlan::Refuse(refusal), _) => return Err(refusal.label()),
        (BodyPlan::Rewrite(recipe), Some(page)) => {
            let recipe = *recipe;
            let scripts = enforce_response::admit_scripts(
                &mut parts.headers,
                &plan,
                &x.rule().guard,
                x.signals.gpc,
                page,
            );
            let guarded = scripts.guard.is_some();
            let ticket = ticket(core, x, &recipe, page, &scripts, &parts.headers);
            // Boxed, so that a request for anything else holds no room for a rewriter.
            let rewriting = Box::pin(rewritten(core, x, &recipe, page, scripts, ticket, body));
            let (body, primed) = rewriting.await?;
            if primed == Primed::Raw {
                plan = BodyPlan::Pass(PassReason::Coding);
            }
            (body, guarded)
        }
        // A host that no URL can hold: what is first party cannot be told.
        (BodyPlan::Rewrite(recipe), None) if recipe.opted_out => return Err("host-unreadable"),
        (BodyPlan::Rewrite(_), None) => {
            plan = BodyPlan::Pass(PassReason::Nothing);
            (Body::Upstream(body), false)
        }
        (BodyPlan::Pass(PassReason::Observe), Some(page)) => (observed(x, asked, page, parts, body), false),
        (BodyPlan::Pass(_), _) => (Body::Upstream(body), false),
    };
    // An HTTP/2 origin can send data behind a head that has none (RFC 9110, 15.3.5 and 15.4.5).
    let none = matches!(parts.status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED);
    let body = if none { Body::empty() } else { body };
    if parts.status == StatusCode::NO_CONTENT {
        // RFC 9110, 8.6.
        parts.headers.remove(header::CONTENT_LENGTH);
    }
    apply_head(core, x, asked, (&plan, page.as_ref(), guarded), names, parts); // 8
    outcome::passed(core, x, &plan, &parts.headers); // 10
    outcome::record(core, x, plan.is_document());
    Ok(body)
}

/// Step 9: the body behind a rewriter, driven so far that a fault can still be answered honestly.
async fn rewritten(
    core: &Rc<Core>,
    x: &Exchange,
    recipe: &Recipe,
    page: &Url,
    scripts: Scripts,
    ticket: Option<Ticket>,
    body: UpstreamBody,
) -> Result<(Body, Primed), &'static str> {
    let on_failure = x.site().settings.on_rewrite_failure;
    let plan = rewriter_plan(x, recipe, page, scripts);
    let mut body = RewriteBody::new(body, recipe, plan, bounds(x), on_failure)
        .with_effort(core.busy.effort())
        .with_memo(ticket);
    // A page that came without a coding, for a visitor who is not opted out, cannot fail at its start.
    let may_fail = recipe.opted_out || recipe.from != Coding::Identity;
    let primed = match may_fail {
        true => x.stages.rewriting(|cx| body.poll_prime(cx)).await.map_err(|fault| fault.label())?,
        false => Primed::Rewritten,
    };
    let body = body.with_on_done(outcome::when_done(core, x));
    Ok((Body::Rewrite(Box::new(body)), primed))
}

/// The page's place in the memo; `None`: it is not to be remembered.
fn ticket(
    core: &Core,
    x: &Exchange,
    recipe: &Recipe,
    page: &Url,
    scripts: &Scripts,
    headers: &HeaderMap,
) -> Option<Ticket> {
    let memo = core.memo(&x.snapshot)?;
    let nonce = scripts.guard.as_ref().is_some_and(|guard| guard.nonce.is_some())
        || scripts.keeper.as_ref().is_some_and(|keeper| keeper.nonce.is_some());
    // A nonce is another each time. RFC 9111, 5.2.2.5: what must not be stored is not.
    if nonce || recipe.bodiless || fields::has(headers, &header::CACHE_CONTROL, "no-store") {
        return None;
    }
    let key = Key {
        rule: x.rule_place(),
        page: page.as_str().to_owned(),
        recipe: *recipe,
        guard: scripts.guard.as_ref().map(Guarded::of),
        keeper: scripts.keeper.is_some(),
    };
    Some(Ticket::new(memo, key))
}

/// Observe mode: the body as it came; an opted-out visitor's page is read along for the counters.
fn observed(x: &Exchange, asked: &Asked, page: &Url, parts: &response::Parts, body: UpstreamBody) -> Body {
    match plan_body(x, asked, parts, true) {
        BodyPlan::Rewrite(recipe) if x.decision.opted_out() && !recipe.bodiless => {
            let plan = rewriter_plan(x, &recipe, page, unplaced(x));
            let on_done = outcome::when_observed(x);
            Body::Observed(Box::new(ShadowBody::new(body, &recipe, plan, bounds(x), on_done)))
        }
        _ => Body::Upstream(body),
    }
}

/// How far a coded page may grow. A bomb for a visitor who has not opted out is the origin's own, and passes.
fn bounds(x: &Exchange) -> Bounds {
    let limits = &x.snapshot.settings.limits;
    let strict = x.decision.opted_out();
    Bounds { ratio: limits.decode_ratio, bytes: limits.decoded_page as u64, strict }
}

/// Our scripts as they would be placed on a page without policies, for one that nobody gets to see.
fn unplaced(x: &Exchange) -> Scripts {
    let guard =
        Placement { guard: Arc::clone(&x.rule().guard), gpc: x.signals.gpc, nonce: None, sealed: false };
    Scripts { guard: Some(guard), keeper: None }
}

fn rewriter_plan(x: &Exchange, recipe: &Recipe, page: &Url, scripts: Scripts) -> Plan {
    let settings = &x.snapshot.settings;
    Plan {
        opted_out: recipe.opted_out,
        keeps_programme: x.programme,
        policy: Arc::clone(&x.rule().policy),
        page: page.clone(),
        kind: recipe.kind,
        guard: scripts.guard,
        keeper: scripts.keeper,
        prefix: Arc::clone(&x.snapshot.prefix),
        link: settings.portal.link,
        // A text is there up to three times: as it was held, as it goes out, and on its way.
        memory: settings.limits.rewriter_memory / 16 * 5,
        lists: recipe.opted_out.then(|| x.page_lists()).flatten(),
    }
}

fn plan_body(x: &Exchange, asked: &Asked, parts: &response::Parts, enforce: bool) -> BodyPlan {
    let holds = Holds {
        opted_out: x.decision.opted_out(),
        enforce,
        rewrite: x.rule().rewrite,
        compress: x.site().settings.compress == Compress::OptedOut,
        keep_untransformed: x.site().settings.no_transform == NoTransform::Keep,
    };
    plan::plan(&asked.changes.question(holds), parts.status, &parts.headers)
}

/// The page's address as the visitor's browser has it. Parsed only where something reads it.
fn page_url(x: &Exchange, asked: &Asked, plan: &BodyPlan) -> Option<Url> {
    let read = x.decision.opted_out() || plan.is_document() || matches!(plan, BodyPlan::Rewrite(_));
    if !read {
        return None;
    }
    x.address(asked.target.as_str())
}

fn apply_head(
    core: &Core,
    x: &Exchange,
    asked: &Asked,
    (plan, page, guarded): (&BodyPlan, Option<&Url>, bool),
    names: Names,
    parts: &mut response::Parts,
) {
    let lists = x.decision.opted_out().then(|| x.page_lists()).flatten();
    let context = ResponseContext {
        lists: lists.as_ref(),
        decision: x.decision,
        names,
        signals: x.signals,
        mode: x.mode,
        policy: &x.rule().policy,
        version: &x.site().version,
        page,
        asked: &asked.changes,
        plan,
        guard: &x.rule().guard,
        guarded,
        wall: x.site().wall.as_ref(),
        cache_front: x.site().settings.cache_front,
        said: &x.snapshot.settings.signals,
        month: core.month(),
        keys: core.keys(),
        cookie_domain: x.cookie_domain(),
        behind_proxy: x.client.peer_trusted,
    };
    let changes = enforce_response::apply(parts, &context);
    outcome::head_changed(core, &asked.changes, &changes);
}

/// Steps 8 and 10 for a tunnel, with both sides joined. Its head passes like any other: it may set a tracker's cookie.
pub fn joined(
    core: &Rc<Core>,
    x: &mut Exchange,
    mut asked: Asked,
    (downstream, version): (OnUpgrade, Version),
    tunnel: Tunnel,
) -> Response<Body> {
    let Tunnel { head: mut parts, upgraded, held } = tunnel;
    let names = Names::of_answer(&parts.headers);
    hop_by_hop::remove_from_answer(&mut parts.headers, names);
    if account::heard(core, x, &mut parts.headers) {
        raise(x, &mut asked);
    }
    parts.headers.remove(header::CONTENT_LENGTH);
    parts.headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
    parts.headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
    let plan = BodyPlan::Pass(PassReason::NoBody);
    let page = page_url(x, &asked, &plan);
    apply_head(core, x, &asked, (&plan, page.as_ref(), false), names, &mut parts);
    outcome::record(core, x, false);
    // The connection goes on when HTTP is done with it: it is open like any other, so that a process that finishes waits
    // for it, and stays its client's. Over HTTP/2 it has its place for as long as a stream of it is a tunnel.
    let place = (version != Version::HTTP_2).then(|| connection::Place::take_over(core));
    let of_client = match place.is_none() || x.client.peer_trusted {
        true => None,
        false => connection::client_tunnel(core, &x.snapshot.settings, x.client.address),
    };
    let idle = x.snapshot.settings.timeouts.tunnel_idle;
    upgrade::join(core, downstream, upgraded, idle, (held, place, of_client));
    Response::from_parts(parts, Body::empty())
}
