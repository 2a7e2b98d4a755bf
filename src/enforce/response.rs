//! Step 8: a response head on its way to the visitor.

use std::borrow::Cow;
use std::sync::Arc;

use http::header::{
    ALT_SVC, CACHE_CONTROL, CONTENT_ENCODING, CONTENT_SECURITY_POLICY, CONTENT_TYPE, HeaderMap, HeaderName,
    HeaderValue, LOCATION, REFERRER_POLICY, SET_COOKIE, VARY,
};
use http::response;
use url::Url;

use super::guard::{Guard, Placement};
use super::html::Kind;
use super::html::plan::{BodyPlan, PassReason, Recipe, Target};
use super::keeper::{self, Keeper};
use super::names::Names;
use super::request::{RequestChanges, is_tracker_cookie};
use super::validators::{self, Variant};
use super::{cleared, cookies, csp, fields, permissions, references, signals};
use crate::config::{CacheFront, SignalCookies, SignalSettings, VendorAction};
use crate::privacy::{Decision, Keys, Mode, OwnCookie, Signals, cookie, marks};
use crate::registry::Policy;
use crate::registry::lists::{PageLists, RequestType};

/// What [`apply`] needs to know beside the response head.
#[derive(Debug, Clone, Copy)]
pub struct ResponseContext<'a> {
    /// The decision of this request.
    pub decision: Decision,
    /// The fields that the origin's answer came with.
    pub names: Names,
    /// Its signals; they say which cookie of ours the browser has.
    pub signals: Signals,
    /// The site's or path's mode.
    pub mode: Mode,
    /// The site's or path's policy.
    pub policy: &'a Policy,
    /// The rules in force, from [`validators::variant_version`].
    pub version: &'a str,
    /// Effective URL of the page; may be `None` where nothing reads it: a visitor who is not opted out,
    /// and no document. With an opted-out visitor and `None` every absolute reference is third party.
    pub page: Option<&'a Url>,
    /// What [`super::request::prepare`] gave.
    pub asked: &'a RequestChanges,
    /// What happens to the body.
    pub plan: &'a BodyPlan,
    /// The site's or path's guard.
    pub guard: &'a Guard,
    /// Whether [`admit_scripts`] gave a guard.
    pub guarded: bool,
    /// The site's second wall, if it has one.
    pub wall: Option<&'a csp::Wall>,
    /// The operator's filter lists, for what the policy does not know.
    pub lists: Option<&'a PageLists>,
    /// Which shared cache stands in front.
    pub cache_front: CacheFront,
    /// Which consent cookies we write.
    pub said: &'a SignalSettings,
    /// `YYYYMM` of now.
    pub month: u32,
    /// For our own cookie.
    pub keys: &'a Keys,
    /// Its domain; `None`: the host's alone.
    pub cookie_domain: Option<&'a str>,
    /// A trusted proxy stands between the visitor and us.
    pub behind_proxy: bool,
}

/// Whose a reference in a header is, for a visitor who has opted out.
#[derive(Debug, Clone, Copy)]
pub struct Judge<'a> {
    /// The site's or path's policy.
    pub policy: &'a Policy,
    /// The operator's filter lists, for what the policy does not know.
    pub lists: Option<&'a PageLists>,
    /// As [`ResponseContext::page`].
    pub page: Option<&'a Url>,
    /// Whether the page has a guard.
    pub guarded: bool,
}

/// What was changed, for counters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ResponseChanges {
    /// `Set-Cookie` lines of trackers removed.
    pub cookies_removed: u32,
    /// Tracker cookies expired in the browser.
    pub cookies_expired: u32,
    /// References and signals in other headers removed.
    pub references_removed: u32,
    /// Cookies were expired, or a consent platform's written or taken back.
    pub consent_cookies: bool,
    /// The origin cleared all cookies; each but ours was ended by name.
    pub choice_spared: bool,
    /// Our own cookie was set or renewed.
    pub own_cookie: bool,
    /// It replaces one that said `out` with a signature we could not verify.
    pub own_cookie_resigned: bool,
}

/// Whether a field is a signal to an advertising feature of browsers: those go for an opted-out visitor, whoever they
/// are for.
fn is_signal(name: &str) -> bool {
    matches!(
        name,
        "observe-browsing-topics"
            | "shared-storage-write"
            | "shared-storage-cross-origin-worklet-allowed"
            | "x-allow-fledge"
            | "x-fledge-bidding-signals-format-version"
    ) || name.starts_with("attribution-reporting-")
        || name.starts_with("ad-auction-")
}

/// Whether a field describes bytes that are not sent any more.
fn is_of_the_body(name: &str) -> bool {
    matches!(
        name,
        "accept-ranges"
            | "content-encoding"
            | "content-length"
            | "last-modified"
            | "content-md5"
            | "digest"
            | "content-digest"
            | "repr-digest"
            | "signature"
            | "signature-input"
            | "use-as-dictionary"
            | "trailer"
    )
}

static LOADING: HeaderName = HeaderName::from_static("supports-loading-mode");

/// Orders to caches that overrule `Cache-Control` (RFC 9213 and its forerunners).
const CACHE_ORDERS: [&str; 3] = ["surrogate-control", "x-accel-expires", "edge-control"];

/// Our inline scripts as one answer carries them.
#[derive(Debug, Clone, Default)]
pub struct Scripts {
    /// The guard, where it is wanted and can run.
    pub guard: Option<Placement>,
    /// The keeper, where it is wanted and can run.
    pub keeper: Option<Keeper>,
}

/// Makes the policies of a page admit our inline scripts; gives those that can run.
///
/// Call it after the plan and before the rewriter is made; it changes the head only for pages that are
/// rewritten. The guard is an opted-out visitor's, the keeper every visitor's. `gpc` is whether the browser
/// itself sent the signal. On an opted-out visitor's page at `page` they admit the stand-ins too.
///
/// Cost: three header look-ups where the page has no policies.
#[must_use]
pub fn admit_scripts(
    headers: &mut HeaderMap,
    plan: &BodyPlan,
    guard: &Arc<Guard>,
    gpc: bool,
    page: &Url,
) -> Scripts {
    let BodyPlan::Rewrite(recipe) = plan else { return Scripts::default() };
    if recipe.opted_out {
        admit_stand_ins(headers, guard, page);
    }
    let sealed = recipe.opted_out && csp::know_scripts_by_hash(headers);
    let placed = |nonce| Some(Placement { guard: Arc::clone(guard), gpc, nonce, sealed });
    if recipe.opted_out && recipe.kind == Kind::Worker {
        return Scripts { guard: placed(None), keeper: None };
    }
    let all = [guard.csp_hash(), keeper::csp_hash()];
    let hashes = placed_in(recipe.kind, recipe.opted_out, &all);
    if recipe.xml || hashes.is_empty() {
        return Scripts::default();
    }
    let csp::Admission::Runs { nonce } = csp::admit(headers, hashes) else { return Scripts::default() };
    if recipe.opted_out {
        csp::admit_policy_name(headers);
    }
    let kept =
        holds_link(recipe.kind) && csp::admit_reported(headers, &[keeper::csp_hash()], nonce.as_deref());
    let nonce: Option<Arc<str>> = nonce.map(Arc::from);
    Scripts {
        guard: recipe.opted_out.then(|| placed(nonce.clone())).flatten(),
        keeper: kept.then_some(Keeper { nonce }),
    }
}

fn admit_stand_ins(headers: &mut HeaderMap, guard: &Guard, page: &Url) {
    if headers.contains_key(CONTENT_SECURITY_POLICY)
        && let Some(folder) = csp::folder(page, guard.assets())
    {
        csp::admit_stand_ins(headers, &folder);
    }
}

/// Of the guard's and the keeper's hash those whose script is placed in an answer of this kind.
fn placed_in<'a>(kind: Kind, opted_out: bool, all: &'a [&'a str; 2]) -> &'a [&'a str] {
    match (opted_out && holds_guard(kind), holds_link(kind)) {
        (true, true) => all,
        (true, false) => &all[..1],
        (false, true) => &all[1..],
        (false, false) => &[],
    }
}

/// Whether the guard is placed in an answer of this kind.
const fn holds_guard(kind: Kind) -> bool {
    !matches!(kind, Kind::Fragment | Kind::Worker)
}

/// Whether the link is, and the keeper behind it.
const fn holds_link(kind: Kind) -> bool {
    matches!(kind, Kind::Document | Kind::Unsure)
}

/// Makes a response head say and carry what the decision means, for the visitor.
///
/// The head for HEAD is the head for GET: nothing here looks at the method. In observe mode nothing is
/// changed.
pub fn apply(parts: &mut response::Parts, ctx: &ResponseContext<'_>) -> ResponseChanges {
    let mut changes = ResponseChanges::default();
    if ctx.mode != Mode::Enforce {
        return changes;
    }
    let opted_out = ctx.decision.opted_out();
    let headers = &mut parts.headers;
    if ctx.names.any(Names::SET_COOKIE) {
        let trackers = &mut changes.cookies_removed;
        cookies::drop_response_cookies(headers, |name| {
            let tracker = opted_out && is_tracker_cookie(ctx.policy, name);
            *trackers += u32::from(tracker);
            // Our cookies are not the origin's to set or delete.
            tracker || name == cookie::NAME.as_bytes() || name.starts_with(marks::PREFIX.as_bytes())
        });
    }
    if ctx.names.any(Names::ALTERNATIVES) {
        forget_alternatives(headers, ctx.behind_proxy);
    }
    if opted_out {
        let judge = Judge { policy: ctx.policy, lists: ctx.lists, page: ctx.page, guarded: ctx.guarded };
        // A visitor's own step to another page is theirs; what the browser fetches ahead of one is not.
        let location = ctx.asked.ahead || ctx.asked.target != Target::Page(Kind::Document);
        let leads = headers.contains_key(LOCATION);
        changes.references_removed = judge.strip_references(headers, location);
        if leads && !headers.contains_key(LOCATION) {
            // Kept, it would be what the visitor's own step finds, or a visitor who has not opted out.
            headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
            forbid_shared_caching(headers);
        }
        let shown = ctx.plan.is_document() || matches!(ctx.plan, BodyPlan::Rewrite(_));
        if shown {
            permissions::deny_advertising(headers, &|host| judge.strips(host, true));
        }
        if shown || headers.contains_key(REFERRER_POLICY) {
            bound_referrer(headers);
        }
    }
    shape_body_fields(headers, ctx);
    if let Some(wall) = ctx.wall.filter(|_| opted_out && is_page(ctx)) {
        wall.raise(headers, ctx.page.is_some_and(|page| page.scheme() == "https"));
    }
    set_cookies(headers, ctx, &mut changes);
    let own_out = matches!(ctx.signals.own, OwnCookie::Out(_));
    if let (Some(cookies), Some(page), true) = (&ctx.asked.cookies, ctx.page, own_out) {
        changes.choice_spared = cleared::spare_ours(headers, cookies, page);
    }
    let renews = matches!(ctx.plan, BodyPlan::Pass(PassReason::NotModified));
    let variants = ctx.plan.has_variants() || renews;
    if variants {
        keep_variants_apart(headers, ctx);
    }
    // Most of what scripts fetch is data, and a 304 does not tell: they would ask for it each time.
    let private = !renews || answers_our_tag(ctx) || ctx.asked.target != Target::Page(Kind::Fragment);
    if (variants && private && ctx.cache_front == CacheFront::None)
        || changes.own_cookie
        || changes.consent_cookies
        || changes.choice_spared
    {
        forbid_shared_caching(headers);
    }
    changes
}

/// An alternative that the origin offers (RFC 7838) is a way around us, on which nothing would be enforced: it goes, for
/// everybody, since who opts out later would still know it. What browsers know from before they forget by `clear`; a
/// proxy in front may have alternatives of its own, which that would end as well.
fn forget_alternatives(headers: &mut HeaderMap, behind_proxy: bool) {
    headers.remove(ALT_SVC);
    if !behind_proxy {
        headers.insert(ALT_SVC, HeaderValue::from_static("clear"));
    }
}

/// A rewritten page, or the head that renews one; no part of a page.
fn is_page(ctx: &ResponseContext<'_>) -> bool {
    let whole = !matches!(ctx.asked.target, Target::Page(Kind::Fragment) | Target::Resource);
    whole && (matches!(ctx.plan, BodyPlan::Rewrite(_)) || answers_our_tag(ctx))
}

/// A 304 to one of our own tags: its head updates the page the browser holds.
fn answers_our_tag(ctx: &ResponseContext<'_>) -> bool {
    ctx.asked.tag_mapped && matches!(ctx.plan, BodyPlan::Pass(PassReason::NotModified))
}

impl Judge<'_> {
    /// Takes references to trackers, and signals to advertising features, out of a head; gives how many went.
    /// `location`: also where it only leads on to a tracker, as a picture or script of the page's own does.
    pub fn strip_references(&self, headers: &mut HeaderMap, location: bool) -> u32 {
        let strips = |reference: &str, hint: bool| self.strips(reference, hint);
        // A browser follows these before there is a guard, and before the page may say that it can have none (AMP).
        let unguarded = Self { guarded: false, ..*self };
        let mut removed = references::filter(headers, &|reference, hint| unguarded.strips(reference, hint));
        if location {
            removed += references::filter_location(headers, &strips);
        }
        csp::drop_reports(headers, &|uri| strips(uri, true));
        removed += fields::remove_where(headers, is_signal);
        // Fenced frames show advertisements of an auction; the header's other modes stay.
        removed + references::filter_list(headers, &LOADING, |mode| mode.eq_ignore_ascii_case("fenced-frame"))
    }

    /// Whether a reference leads to a tracker; `hint`: its host alone counts. The page's own host is first party.
    #[must_use]
    pub fn strips(&self, reference: &str, hint: bool) -> bool {
        // Without a page a reference may still be relative to the scheme alone: `//tracker.example`.
        let url = self.page.map_or_else(
            || Url::parse("https://page.invalid/").and_then(|page| page.join(reference)),
            |page| page.join(reference),
        );
        let Ok(url) = url else { return false };
        let Some(host) = url.host_str() else { return false };
        let page = self.page.and_then(Url::host_str);
        if Some(host) == page {
            return false;
        }
        let host = host.trim_end_matches('.');
        let fetched = matches!(url.scheme(), "http" | "https" | "ws" | "wss" | "ftp");
        let unknown = || self.policy.match_unknown(host, page.unwrap_or_default()).filter(|_| fetched);
        let hit = if hint {
            self.policy.match_host(host).or_else(|| self.lists?.match_host(host))
        } else {
            let path = url.query().map_or(url.path().into(), |q| Cow::Owned(format!("{}?{q}", url.path())));
            // The filters of fields do not tell what a reference is for; its ending mostly does.
            let listed = || self.lists?.match_url(host, &path, RequestType::Guess);
            self.policy.match_url(host, &path).or_else(listed)
        };
        hit.or_else(unknown).is_some_and(|hit| match hit.action {
            VendorAction::Strip => true,
            // `restrict` needs the guard on the page.
            VendorAction::Restrict => !self.guarded,
            VendorAction::Allow => false,
        })
    }
}

/// At most `strict-origin-when-cross-origin`: another site sees the origin, and no less safe one sees
/// anything (Referrer Policy, 3; the last known word of all fields counts).
fn bound_referrer(headers: &mut HeaderMap) {
    let mut replacement = Some("strict-origin-when-cross-origin");
    for word in fields::items(headers, &REFERRER_POLICY) {
        replacement = match word.to_ascii_lowercase().as_str() {
            "no-referrer" | "same-origin" | "strict-origin" | "strict-origin-when-cross-origin" => None,
            "origin" => Some("strict-origin"),
            "origin-when-cross-origin" | "no-referrer-when-downgrade" | "unsafe-url" => {
                Some("strict-origin-when-cross-origin")
            }
            _ => replacement,
        };
    }
    if let Some(policy) = replacement {
        headers.insert(REFERRER_POLICY, HeaderValue::from_static(policy));
    }
}

/// Fields that describe the body's bytes.
fn shape_body_fields(headers: &mut HeaderMap, ctx: &ResponseContext<'_>) {
    let recipe = match ctx.plan {
        BodyPlan::Rewrite(recipe) => Some(recipe),
        BodyPlan::Pass(_) if answers_our_tag(ctx) => None,
        BodyPlan::Pass(_) | BodyPlan::Refuse(_) => return,
    };
    fields::remove_where(headers, is_of_the_body);
    let Target::Page(kind) = ctx.asked.target else { return };
    let opted_out = ctx.decision.opted_out();
    validators::mark_etag(headers, &Variant { version: ctx.version, opted_out, kind });
    if let Some(recipe) = recipe {
        if let Some(coding) = recipe.to.header_value() {
            headers.insert(CONTENT_ENCODING, HeaderValue::from_static(coding));
        }
        name_utf8(headers, recipe);
    } else {
        renew_policies(headers, kind, ctx);
    }
}

/// The policy of a 304 replaces the one the browser holds. The stored page was made with or without our
/// scripts; either way it does no harm here.
fn renew_policies(headers: &mut HeaderMap, kind: Kind, ctx: &ResponseContext<'_>) {
    let opted_out = ctx.decision.opted_out();
    let all = [ctx.guard.csp_hash(), keeper::csp_hash()];
    if let Some(page) = ctx.page.filter(|_| opted_out) {
        admit_stand_ins(headers, ctx.guard, page);
    }
    let hashes = placed_in(kind, opted_out, &all);
    if hashes.is_empty() || !csp::admit_by_hash(headers, hashes) {
        return;
    }
    if opted_out {
        csp::admit_policy_name(headers);
    }
    if holds_link(kind) {
        // Where it must be reported, the stored page has none.
        let _ = csp::admit_reported(headers, &all[1..], None);
    }
}

/// A transcoded page is UTF-8, whatever its head said.
fn name_utf8(headers: &mut HeaderMap, recipe: &Recipe) {
    use encoding_rs::{ISO_2022_JP, UTF_16BE, UTF_16LE};
    let transcoded = |e: &encoding_rs::Encoding| *e == *ISO_2022_JP || *e == *UTF_16BE || *e == *UTF_16LE;
    if recipe.charset.is_some_and(transcoded) {
        let named = headers.get_all(CONTENT_TYPE).iter().next_back().and_then(|value| value.to_str().ok());
        let named = named.and_then(|text| text.rsplit(',').next()?.split(';').next());
        let media = if recipe.xml { named.unwrap_or("application/xhtml+xml") } else { "text/html" };
        if let Ok(value) = HeaderValue::try_from(format!("{}; charset=utf-8", media.trim())) {
            headers.insert(CONTENT_TYPE, value);
        }
    }
}

/// Tracker cookies expired and our own set; on documents only.
fn set_cookies(headers: &mut HeaderMap, ctx: &ResponseContext<'_>, changes: &mut ResponseChanges) {
    // A path without rewriting serves fragments too.
    let part = matches!(ctx.asked.target, Target::Page(Kind::Fragment | Kind::Worker));
    if part || !ctx.plan.is_document() {
        return;
    }
    let secure = ctx.page.is_some_and(|page| page.scheme() == "https");
    let lines = headers.get_all(SET_COOKIE).iter().count();
    if let Some(host) = ctx.page.and_then(Url::host_str) {
        let sent = &ctx.asked.consent;
        if !ctx.decision.opted_out() {
            signals::retract(headers, sent, host, secure);
        } else {
            changes.cookies_expired = cookies::expire(headers, &ctx.asked.tracker_cookies, host, secure);
            if ctx.said.cookies == SignalCookies::Server {
                signals::write(headers, sent, ctx.said, host, secure);
            }
        }
    }
    changes.consent_cookies = headers.get_all(SET_COOKIE).iter().count() > lines;
    let own = cookies::own_cookie(ctx.decision, ctx.signals, ctx.month, ctx.keys, secure, ctx.cookie_domain);
    if let Some(line) = own {
        headers.append(SET_COOKIE, line);
        changes.own_cookie = true;
        changes.own_cookie_resigned = ctx.signals.own.needs_new_signature();
    }
}

/// `Vary`, so that a cache that follows it never mixes the variants.
fn keep_variants_apart(headers: &mut HeaderMap, ctx: &ResponseContext<'_>) {
    let mut wanted = vec!["Sec-GPC", "Cookie"];
    let worker = ctx.asked.target == Target::Page(Kind::Worker);
    if worker || ctx.cache_front != CacheFront::None {
        // A framed page and a fragment are other bytes than the document of the same address, and a
        // worker's script than the same file in a page: the last also in the browser's own cache.
        wanted.push("Sec-Fetch-Dest");
    }
    if !matches!(ctx.plan, BodyPlan::Pass(reason) if *reason != PassReason::NotModified) {
        // We choose the coding, by what the client accepts.
        wanted.push("Accept-Encoding");
    }
    let present: Vec<&str> = fields::items(headers, &VARY).collect();
    if present.contains(&"*") {
        return;
    }
    let missing: Vec<&str> =
        wanted.into_iter().filter(|name| !present.iter().any(|p| p.eq_ignore_ascii_case(name))).collect();
    if let Ok(value) = HeaderValue::try_from(missing.join(", "))
        && !missing.is_empty()
    {
        headers.append(VARY, value);
    }
}

/// What no shared cache keeps, and no browser uses unasked.
const NOT_SHARED: &str = "private, no-cache";

/// [`NOT_SHARED`], stricter words kept, other caches' orders removed.
fn forbid_shared_caching(headers: &mut HeaderMap) {
    let order = if headers.contains_key(CACHE_CONTROL) { joined_order(headers) } else { None };
    headers.insert(CACHE_CONTROL, order.unwrap_or_else(|| HeaderValue::from_static(NOT_SHARED)));
    fields::remove_where(headers, |name| {
        matches!(name, "expires" | "pragma" | "age")
            || CACHE_ORDERS.contains(&name)
            || name.ends_with("cdn-cache-control")
    });
}

/// [`NOT_SHARED`], and what the origin says that is stricter.
fn joined_order(headers: &HeaderMap) -> Option<HeaderValue> {
    let mut value = String::from(NOT_SHARED);
    for directive in fields::items(headers, &CACHE_CONTROL).map(str::to_ascii_lowercase) {
        if matches!(directive.as_str(), "no-store" | "no-transform" | "must-revalidate")
            && !value.contains(&directive)
        {
            value.push_str(", ");
            value.push_str(&directive);
        }
    }
    HeaderValue::try_from(value).ok()
}
