//! Step 6: a request head on its way to the origin.

use std::collections::HashSet;

use http::header::{ACCEPT_ENCODING, IF_RANGE, RANGE};
use http::header::{COOKIE, HeaderMap, HeaderName, HeaderValue, IF_MODIFIED_SINCE, IF_NONE_MATCH, REFERER};
use http::uri::PathAndQuery;
use http::{Method, Uri, request};

use super::html::Kind;
use super::html::negotiate::{self, Accepts};
use super::html::plan::{self, Question, Target};
use super::names::Names;
use super::validators::{self, Variant};
use super::{cookies, fields};
use crate::config::VendorAction;
use crate::privacy::marks::{self, ConsentCookies};
use crate::privacy::signal::cookie_pairs;
use crate::privacy::{Decision, Mode, cookie};
use crate::registry::Policy;

/// Says to the origin what was decided.
static DECISION: HeaderName = HeaderName::from_static("optgate-decision");
const SEC_GPC: HeaderName = HeaderName::from_static("sec-gpc");
/// RFC 9842: the origin could answer in a coding that only the browser can take off.
const AVAILABLE_DICTIONARY: HeaderName = HeaderName::from_static("available-dictionary");

/// What [`prepare`] needs to know beside the request head.
#[derive(Debug, Clone, Copy)]
pub struct RequestContext<'a> {
    /// The decision of this request.
    pub decision: Decision,
    /// The fields it came with.
    pub names: Names,
    /// The site's or path's mode.
    pub mode: Mode,
    /// The site's or path's policy.
    pub policy: &'a Policy,
    /// The rules in force, from [`validators::variant_version`].
    pub version: &'a str,
    /// Bodies are rewritten on this path.
    pub rewrite: bool,
    /// Cookies of ours came with the request ([`crate::privacy::Signals::ours`]).
    pub our_cookies: bool,
    /// Remove click and person identifiers from the query and from `Referer` (`strip_link_params`).
    pub strip_link_params: bool,
}

/// What was changed, and what the answer's stages must know about the request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RequestChanges {
    /// What the request wants.
    pub target: Target,
    /// It comes before the visitor asks (`Sec-Purpose: prefetch`); read for those who have opted out.
    pub ahead: bool,
    /// Its method.
    pub method: Method,
    /// What the client accepts, before narrowing; read where the answer may be rewritten.
    pub accepts: Accepts,
    /// `Accept-Encoding` lost something the client accepts, or was missing.
    pub narrowed: bool,
    /// A tag of our current variant was mapped back: a 304 then is about that variant.
    pub tag_mapped: bool,
    /// The request was conditional and no longer is; a 304 would be about another variant.
    pub condition_dropped: bool,
    /// Names of the tracker cookies removed, in order, each once: to be expired in the browser.
    pub tracker_cookies: Vec<Vec<u8>>,
    /// The cookies that came, where one of ours is among them and the visitor has opted out.
    pub cookies: Option<HeaderValue>,
    /// Query parameters removed.
    pub link_params: u32,
    /// Cookies of a consent platform, ours among them; read for pages only.
    pub consent: ConsentCookies,
}

/// What holds where a request went, when its answer's body is planned.
#[derive(Debug, Clone, Copy)]
pub struct Holds {
    /// The visitor has opted out.
    pub opted_out: bool,
    /// Not only observed.
    pub enforce: bool,
    /// Bodies are rewritten here.
    pub rewrite: bool,
    /// A page that came without a coding may get one.
    pub compress: bool,
    /// `Cache-Control: no-transform` keeps a page as it is, for who has not opted out.
    pub keep_untransformed: bool,
}

impl RequestChanges {
    /// The question for [`plan::plan`] once the answer's head is there.
    #[must_use]
    pub fn question(&self, holds: Holds) -> Question<'_> {
        Question {
            method: &self.method,
            target: self.target,
            opted_out: holds.opted_out,
            enforce: holds.enforce,
            rewrite: holds.rewrite,
            compress: holds.compress,
            keep_untransformed: holds.keep_untransformed,
            accepts: self.accepts,
            narrowed: self.narrowed,
            conditional_ours: self.tag_mapped || !self.condition_dropped,
        }
    }
}

/// Makes a request head say and carry what the decision means, for the origin.
///
/// Hop-by-hop and forwarding fields, and `Optgate-*` sent by clients, are `edge`'s. In observe mode
/// nothing is changed; the tracker cookies are still named, for the counters.
///
/// Two deliberate limits. Only what is certainly a page loses its `Range`: scripts and, over plain http,
/// players fetch media in parts, and a partial HTML answer is refused later and asked for again
/// ([`plan::Refusal::Partial`]). Conditions are touched on GET and HEAD
/// only, since elsewhere they guard writes.
///
/// Cost: a few look-ups; allocations only where a field changes.
pub fn prepare(parts: &mut request::Parts, ctx: &RequestContext<'_>) -> RequestChanges {
    let opted_out = ctx.decision.opted_out();
    let headers = &mut parts.headers;
    let (target, names) = (plan::target(headers, ctx.names), ctx.names);
    // Nothing else asks what the client accepts.
    let coded = names.any(Names::ACCEPT_ENCODING) && target.may_be_rewritten(opted_out);
    let accepts =
        if coded && headers.contains_key(ACCEPT_ENCODING) { Accepts::read(headers) } else { Accepts::NONE };
    let mut changes = RequestChanges {
        target,
        ahead: opted_out && names.any(Names::PURPOSE) && plan::is_prefetch(headers),
        method: parts.method.clone(),
        accepts,
        narrowed: false,
        tag_mapped: false,
        condition_dropped: false,
        tracker_cookies: Vec::new(),
        cookies: None,
        link_params: 0,
        consent: ConsentCookies::default(),
    };
    if opted_out {
        changes.tracker_cookies = tracker_cookies(headers, ctx.policy);
    }
    if ctx.mode != Mode::Enforce {
        return changes;
    }
    let said = HeaderValue::from_static(ctx.decision.header_value());
    fields::set(headers, !names.any(Names::CLAIM), &DECISION, said);
    if opted_out && ctx.our_cookies {
        changes.cookies = headers.get(COOKIE).cloned();
    }
    // Our own cookie is between the browser and us.
    let ours = cookie::NAME.as_bytes();
    if names.any(Names::COOKIE) && matches!(changes.target, Target::Page(_)) {
        changes.consent = ConsentCookies::read(headers);
    }
    if ctx.our_cookies || !changes.tracker_cookies.is_empty() {
        let mut trackers = Known::default();
        changes.tracker_cookies.iter().for_each(|name| trackers.add(name));
        cookies::drop_request_cookies(headers, |name| {
            name == ours || name.starts_with(marks::PREFIX.as_bytes()) || trackers.has(name)
        });
    }
    if opted_out {
        headers.insert(SEC_GPC, HeaderValue::from_static("1"));
        headers.remove(AVAILABLE_DICTIONARY);
        if ctx.strip_link_params {
            let gone = |name: &str| ctx.policy.match_link_param(name);
            changes.link_params = strip_query(&mut parts.uri, gone).unwrap_or(0);
            strip_referrer(headers, gone);
        }
    }
    if ctx.rewrite && changes.target.may_be_rewritten(opted_out) {
        ask_for_a_page(&mut parts.headers, ctx, &mut changes);
    }
    changes
}

/// Codings, ranges and validators of a request whose answer may be rewritten.
fn ask_for_a_page(headers: &mut HeaderMap, ctx: &RequestContext<'_>, changes: &mut RequestChanges) {
    let opted_out = ctx.decision.opted_out();
    changes.narrowed = match ctx.names.any(Names::ACCEPT_ENCODING) && headers.contains_key(ACCEPT_ENCODING) {
        true => negotiate::narrow(headers),
        // Any coding would do.
        false => headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("identity")).is_none(),
    };
    let Target::Page(kind) = changes.target else { return };
    if opted_out && matches!(kind, Kind::Document | Kind::Frame | Kind::Worker) {
        headers.remove(RANGE);
        headers.remove(IF_RANGE);
    }
    if changes.method != Method::GET && changes.method != Method::HEAD {
        return;
    }
    let conditional = || headers.contains_key(IF_NONE_MATCH) || headers.contains_key(IF_MODIFIED_SINCE);
    if !ctx.names.any(Names::CONDITION) || !conditional() {
        return;
    }
    // Over plain http a browser does not say that it fetches an image; its navigations do name a page. So
    // what is unsure keeps the origin's own conditions, unless "not modified" could bring trackers back.
    let keep = kind == Kind::Unsure && !opted_out;
    if !keep {
        // We send pages without `Last-Modified`: a date is from before us, or from another variant.
        headers.remove(IF_MODIFIED_SINCE);
    }
    let variant = Variant { version: ctx.version, opted_out, kind };
    changes.tag_mapped = validators::map_if_none_match(headers, &variant, keep);
    changes.condition_dropped = !changes.tag_mapped && !keep;
}

/// Changes a request head that was [`prepare`]d and whose answer was refused, so that it asks for the
/// whole page without a coding. For GET and HEAD only; once.
pub fn ask_again(headers: &mut HeaderMap, changes: &mut RequestChanges) {
    headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
    changes.narrowed = true;
    for name in [RANGE, IF_RANGE, IF_NONE_MATCH, IF_MODIFIED_SINCE] {
        headers.remove(name);
    }
    // A 304 to this is none of ours either way.
    changes.condition_dropped = true;
    changes.tag_mapped = false;
}

/// Names of the tracker cookies a request carries, each once.
#[must_use]
pub fn tracker_cookies(headers: &HeaderMap, policy: &Policy) -> Vec<Vec<u8>> {
    let mut names = Known::default();
    for field in headers.get_all(COOKIE) {
        for (name, _) in cookie_pairs(field.as_bytes()) {
            if is_tracker_cookie(policy, name) && !names.has(name) {
                names.add(name);
            }
        }
    }
    names.all.into_iter().map(<[u8]>::to_vec).collect()
}

/// Names in their order. A few are compared one by one; of more there is a set, or a request of nothing but cookies
/// would cost their number squared.
#[derive(Debug, Default)]
struct Known<'a> {
    all: Vec<&'a [u8]>,
    /// All of them, once there are more than [`FEW`].
    set: HashSet<&'a [u8]>,
}

/// Names that are compared one by one.
const FEW: usize = 16;

impl<'a> Known<'a> {
    fn has(&self, name: &[u8]) -> bool {
        if self.all.len() > FEW { self.set.contains(name) } else { self.all.contains(&name) }
    }

    fn add(&mut self, name: &'a [u8]) {
        self.all.push(name);
        match self.all.len() {
            ..=FEW => {}
            n if n == FEW + 1 => self.set.extend(&self.all),
            _ => {
                self.set.insert(name);
            }
        }
    }
}

/// Whether a first-party cookie belongs to a vendor that is not allowed.
pub(super) fn is_tracker_cookie(policy: &Policy, name: &[u8]) -> bool {
    policy.match_cookie(name).is_some_and(|hit| hit.action != VendorAction::Allow)
}

/// Removes query parameters by name, leaving all other bytes; gives how many, `None` when the address
/// could not be rebuilt (it then stays).
fn strip_query(uri: &mut Uri, remove: impl Fn(&str) -> bool) -> Option<u32> {
    let (query, removed) = without_params(uri.query()?, remove);
    if removed == 0 {
        return Some(0);
    }
    let target = format!("{}{query}", uri.path());
    let mut parts = uri.clone().into_parts();
    parts.path_and_query = Some(PathAndQuery::try_from(target).ok()?);
    *uri = Uri::from_parts(parts).ok()?;
    Some(removed)
}

/// Does the same to the page that a request names as its own: whoever came by such an address has it in every further
/// request of that page.
fn strip_referrer(headers: &mut HeaderMap, remove: impl Fn(&str) -> bool) {
    let Some((page, query)) = headers.get(REFERER).and_then(|value| value.to_str().ok()?.split_once('?'))
    else {
        return;
    };
    let (query, removed) = without_params(query, remove);
    if removed > 0
        && let Ok(value) = HeaderValue::try_from(format!("{page}{query}"))
    {
        headers.insert(REFERER, value);
    }
}

/// What is left of a query behind its `?`, which stays where anything does, and how many parameters went.
fn without_params(query: &str, remove: impl Fn(&str) -> bool) -> (String, u32) {
    let mut removed = 0;
    let kept = query.split('&').filter(|pair| {
        let raw = pair.split('=').next().unwrap_or_default();
        let name = url::form_urlencoded::parse(raw.as_bytes()).next();
        let gone = name.is_some_and(|(name, _)| remove(&name));
        removed += u32::from(gone);
        !gone
    });
    let kept: Vec<&str> = kept.collect();
    (if kept.is_empty() { String::new() } else { format!("?{}", kept.join("&")) }, removed)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Threat: a request head of nothing but trackers' cookies.
    #[test]
    fn of_many_names_a_set_is_asked() {
        let names: Vec<Vec<u8>> = (0..40_u8).map(|n| vec![b'a', n]).collect();
        let mut known = Known::default();
        for (at, name) in names.iter().enumerate() {
            assert!(!known.has(name));
            known.add(name);
            assert_eq!(known.set.len(), if at < FEW { 0 } else { at + 1 });
            assert!(names[..=at].iter().all(|name| known.has(name)));
        }
        assert_eq!(known.all, names);
    }

    #[test]
    fn click_ids_leave_the_query_and_the_rest_keeps_its_bytes() {
        let gone = |name: &str| name == "fbclid" || name == "gclid";
        for (before, after, count) in [
            ("/a?x=1&fbclid=2&y=%20", "/a?x=1&y=%20", 1),
            ("/a?fbclid=2", "/a", 1),
            ("/a?%66bclid=2&gclid", "/a", 2),
            ("/a?fbclidx=2&&a=fbclid", "/a?fbclidx=2&&a=fbclid", 0),
            ("http://h.example/a?gclid=1&b", "http://h.example/a?b", 1),
            ("/a?", "/a?", 0),
        ] {
            let mut uri: Uri = before.parse().unwrap();
            assert_eq!(strip_query(&mut uri, gone), Some(count), "{before}");
            assert_eq!(uri.to_string(), after);
        }
        assert_eq!(strip_query(&mut "/a".parse().unwrap(), gone), None);
    }

    #[test]
    fn click_ids_leave_the_address_of_the_page_that_asks_too() {
        for (before, after) in [
            ("https://h.example/a?x=1&fbclid=2", "https://h.example/a?x=1"),
            ("https://h.example/?fbclid=2", "https://h.example/"),
            ("https://h.example/fbclid", "https://h.example/fbclid"),
            ("https://h.example/?x=fbclid&y?", "https://h.example/?x=fbclid&y?"),
        ] {
            let mut map = HeaderMap::from_iter([(REFERER, HeaderValue::from_static(before))]);
            strip_referrer(&mut map, |name| name == "fbclid");
            assert_eq!(map[REFERER], after);
        }
        let mut none = HeaderMap::new();
        strip_referrer(&mut none, |_| true);
        assert!(none.is_empty());
    }
}
