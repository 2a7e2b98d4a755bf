//! The heads toward the origin and toward the visitor, with the built-in registry.

// Helpers outside `#[test]` functions unwrap as well.
#![allow(clippy::unwrap_used)]

use std::sync::Arc;

use http::{HeaderMap, HeaderValue, Method, StatusCode, request, response};
use optgate::config::{CacheFront, SignalCookies, SignalSettings, VendorPolicy};
use optgate::enforce::html::Kind;
use optgate::enforce::html::plan::{BodyPlan, PassReason, Target, plan};
use optgate::enforce::keeper;
use optgate::enforce::names::Names;
use optgate::enforce::request::{Holds, RequestChanges, RequestContext, ask_again, prepare};
use optgate::enforce::response::{ResponseChanges, ResponseContext, admit_scripts, apply};
use optgate::enforce::{collectors, validators};
use optgate::privacy::gpp::Section;
use optgate::privacy::{Basis, Decision, Keys, Mode, OwnCookie, Signals};
use optgate::registry::{FirstParty, Policy, Registry};

use super::support::guard::{default_policy, guard};
use url::Url;

const NAV: &str = "text/html,application/xhtml+xml,*/*;q=0.8";
const OUT: Decision = Decision::out(Basis::Gpc);
const VERSION: &str = "0123456789abcdef";
const MONTH: u32 = 202_611;

/// One visitor's request and the site's settings, from which both heads follow.
struct Case {
    decision: Decision,
    mode: Mode,
    rewrite: bool,
    own: OwnCookie,
    front: CacheFront,
    method: Method,
    page: &'static str,
    policy: Arc<Policy>,
    said: SignalSettings,
}

impl Case {
    fn new(decision: Decision) -> Self {
        Self {
            decision,
            mode: Mode::Enforce,
            rewrite: true,
            own: OwnCookie::Out(MONTH),
            front: CacheFront::None,
            method: Method::GET,
            page: "https://www.shop.example/a",
            policy: default_policy(),
            said: SignalSettings {
                sections: vec![Section::UsNat],
                cookies: SignalCookies::Page,
                onetrust_groups: Vec::new(),
                deny_analytics: false,
            },
        }
    }

    fn context(&self) -> RequestContext<'_> {
        RequestContext {
            decision: self.decision,
            names: Names::ALL,
            mode: self.mode,
            policy: &self.policy,
            version: VERSION,
            rewrite: self.rewrite,
            our_cookies: true,
            strip_link_params: true,
        }
    }

    fn prepare(&self, uri: &str, fields: &[(&str, &str)]) -> (request::Parts, RequestChanges) {
        let (mut parts, ()) = http::Request::new(()).into_parts();
        parts.method = self.method.clone();
        parts.uri = uri.parse().unwrap();
        parts.headers = headers(fields);
        let changes = prepare(&mut parts, &self.context());
        (parts, changes)
    }

    /// The response head for a request, through plan, guard and apply as the corridor does it.
    fn answer(
        &self,
        asked: &RequestChanges,
        status: u16,
        fields: &[(&str, &str)],
    ) -> (response::Parts, ResponseChanges, BodyPlan) {
        let (mut parts, ()) = http::Response::new(()).into_parts();
        parts.status = StatusCode::from_u16(status).unwrap();
        parts.headers = headers(fields);
        let holds = Holds {
            opted_out: self.decision.opted_out(),
            enforce: self.mode == Mode::Enforce,
            rewrite: self.rewrite,
            compress: false,
            keep_untransformed: true,
        };
        let plan = plan(&asked.question(holds), parts.status, &parts.headers);
        let scripts = admit_scripts(
            &mut parts.headers,
            &plan,
            &guard(),
            self.decision == OUT,
            &Url::parse(self.page).unwrap(),
        );
        let names = Names::of_answer(&parts.headers);
        let changes = apply(
            &mut parts,
            &ResponseContext {
                decision: self.decision,
                names,
                signals: Signals { gpc: self.decision == OUT, own: self.own, ..Signals::NONE },
                mode: self.mode,
                policy: &self.policy,
                version: VERSION,
                page: Some(&Url::parse(self.page).unwrap()),
                asked,
                plan: &plan,
                guard: &guard(),
                guarded: scripts.guard.is_some(),
                wall: None,
                lists: None,
                cache_front: self.front,
                said: &self.said,
                month: MONTH,
                keys: &Keys::derive(b"k"),
                cookie_domain: None,
                behind_proxy: false,
            },
        );
        (parts, changes, plan)
    }

    /// The answer to a plain navigation.
    fn page(&self, fields: &[(&str, &str)]) -> HeaderMap {
        let (_, asked) = self.prepare("/a", &[("accept", NAV)]);
        self.answer(&asked, 200, &[&[("content-type", "text/html")], fields].concat()).0.headers
    }
}

fn headers(fields: &[(&str, &str)]) -> HeaderMap {
    let mut map = HeaderMap::new();
    for (name, value) in fields {
        map.append(http::HeaderName::try_from(*name).unwrap(), HeaderValue::from_str(value).unwrap());
    }
    map
}

fn all<'a>(map: &'a HeaderMap, name: &str) -> Vec<&'a str> {
    map.get_all(name).iter().map(|v| v.to_str().unwrap()).collect()
}

/// The origin is told of the decision, and of no tracker's cookies.
#[test]
fn an_opted_out_request_says_so_and_leaves_its_tracker_cookies_behind() {
    let case = Case::new(Decision::out(Basis::Cookie));
    let fields = [
        ("cookie", "sid=1; _fbp=fb.1; optgate=v1.out.202611.x; a=\"b\""),
        ("sec-gpc", "0"),
        ("available-dictionary", ":x:"),
        ("accept", NAV),
    ];
    let (parts, changes) = case.prepare("/p?x=1&fbclid=abc", &fields);
    assert_eq!(all(&parts.headers, "cookie"), ["sid=1; a=\"b\""]);
    assert_eq!(all(&parts.headers, "sec-gpc"), ["1"]);
    assert_eq!(all(&parts.headers, "optgate-decision"), ["opted-out;basis=cookie"]);
    assert!(!parts.headers.contains_key("available-dictionary"));
    assert_eq!(parts.uri, "/p?x=1");
    assert_eq!((changes.tracker_cookies, changes.link_params), (vec![b"_fbp".to_vec()], 1));
}

#[test]
fn a_request_without_an_opt_out_keeps_its_cookies_and_signal() {
    let case = Case::new(Decision::NONE);
    let fields = [("cookie", "sid=1; _fbp=fb.1; optgate=v1.in.202611.x"), ("sec-gpc", "0")];
    let (parts, changes) = case.prepare("/p?fbclid=abc", &fields);
    assert_eq!(all(&parts.headers, "cookie"), ["sid=1; _fbp=fb.1"]);
    assert_eq!(all(&parts.headers, "sec-gpc"), ["0"]);
    assert_eq!(all(&parts.headers, "optgate-decision"), ["none"]);
    assert_eq!(parts.uri, "/p?fbclid=abc");
    assert!(changes.tracker_cookies.is_empty());
}

/// Observe changes nothing, in either direction.
#[test]
fn observe_mode_changes_no_head() {
    let case = Case { mode: Mode::Observe, ..Case::new(OUT) };
    let fields = [("cookie", "_fbp=1; optgate=v1.out"), ("if-none-match", "\"x\""), ("accept", NAV)];
    let (parts, asked) = case.prepare("/?fbclid=1", &fields);
    assert_eq!((parts.headers, parts.uri.to_string().as_str()), (headers(&fields), "/?fbclid=1"));
    assert_eq!(asked.tracker_cookies, [b"_fbp".to_vec()]);
    let fields = [("content-type", "text/html"), ("set-cookie", "_fbp=1"), ("etag", "\"x\"")];
    let (answer, changes, plan) = case.answer(&asked, 200, &fields);
    assert_eq!(answer.headers, headers(&fields));
    assert_eq!((changes, plan), (ResponseChanges::default(), BodyPlan::Pass(PassReason::Observe)));
}

#[test]
fn only_requests_that_may_bring_a_page_are_narrowed() {
    let codings = ("accept-encoding", "gzip, dcb");
    for (opted_out, fields, narrowed) in [
        (true, &[("sec-fetch-dest", "document")][..], true),
        (false, &[("sec-fetch-dest", "document")], true),
        (true, &[("sec-fetch-dest", "iframe")], true),
        (false, &[("sec-fetch-dest", "iframe")], false),
        (true, &[("sec-fetch-dest", "empty")], true),
        (false, &[("sec-fetch-dest", "empty")], false),
        (true, &[("sec-fetch-dest", "image")], false),
        (true, &[("sec-fetch-dest", "script")], false),
        (false, &[("accept", NAV)], true),
        (true, &[("accept", "*/*")], true),
    ] {
        let case = Case::new(if opted_out { OUT } else { Decision::NONE });
        let (parts, changes) = case.prepare("/", &[&[codings], fields].concat());
        let want = if narrowed { "gzip" } else { "gzip, dcb" };
        assert_eq!(all(&parts.headers, "accept-encoding"), [want], "{opted_out} {fields:?}");
        assert_eq!(changes.narrowed, narrowed);
    }
    let unwritten = Case { rewrite: false, ..Case::new(OUT) };
    let (parts, _) = unwritten.prepare("/", &[codings, ("sec-fetch-dest", "document")]);
    assert_eq!(all(&parts.headers, "accept-encoding"), ["gzip, dcb"]);
}

/// Part of a page cannot be rewritten, and the origin's tags are not those of what a visitor gets (RFC 9110, 8.8).
#[test]
fn a_page_is_asked_for_whole_and_under_our_own_tags_only() {
    let foreign = [("if-none-match", "\"x\""), ("if-modified-since", "Mon, 23 Nov 2026 00:00:00 GMT")];
    let parts = [("range", "bytes=0-9"), ("if-range", "\"x\"")];
    for decision in [OUT, Decision::NONE] {
        let case = Case::new(decision);
        let fields = [&foreign[..], &parts, &[("accept", NAV)]].concat();
        let (head, changes) = case.prepare("/", &fields);
        for name in ["if-none-match", "if-modified-since"] {
            assert!(!head.headers.contains_key(name), "{name}");
        }
        assert!(changes.condition_dropped && !changes.tag_mapped);
        assert_eq!(head.headers.contains_key("range"), !decision.opted_out());
    }
    // Writes keep their conditions, fragments their range, resources everything.
    let post = Case { method: Method::PUT, ..Case::new(OUT) };
    assert!(post.prepare("/", &foreign).0.headers.contains_key("if-none-match"));
    let case = Case::new(OUT);
    let fragment = [&parts[..], &[("sec-fetch-dest", "empty")]].concat();
    assert!(case.prepare("/", &fragment).0.headers.contains_key("range"));
    let image = [&foreign[..], &parts, &[("sec-fetch-dest", "image")]].concat();
    let head = case.prepare("/", &image).0.headers;
    for (name, _) in foreign.iter().chain(&parts) {
        assert!(head.contains_key(*name), "{name}");
    }
}

/// The tag a page went out with brings the origin's own tag back to it, and a 304 the tag again.
#[test]
fn a_tag_makes_the_round_trip_and_a_304_carries_it() {
    for decision in [OUT, Decision::NONE] {
        let case = Case::new(decision);
        let sent = case.page(&[("etag", "\"v1\"")]);
        let tag = sent["etag"].to_str().unwrap();
        assert!(tag.starts_with("W/\"og1."), "{tag}");
        let (parts, asked) = case.prepare("/a", &[("accept", NAV), ("if-none-match", tag)]);
        assert_eq!(all(&parts.headers, "if-none-match"), ["\"v1\""]);
        let fields = [("etag", "\"v1\""), ("last-modified", "x"), ("cache-control", "max-age=9")];
        let (answer, _, plan) = case.answer(&asked, 304, &fields);
        assert_eq!(plan, BodyPlan::Pass(PassReason::NotModified));
        assert_eq!(answer.headers["etag"], tag);
        assert_eq!(answer.headers["cache-control"], "private, no-cache");
        assert_eq!(all(&answer.headers, "vary"), all(&sent, "vary"));
        assert!(!answer.headers.contains_key("last-modified"));
    }
}

/// RFC 9110, 15.4.5: a 304 says what its 200 would, or a cache that freshens its copy by it forgets who may have that. For
/// whom the page was not changed, the tag is the origin's.
#[test]
fn a_304_to_the_origins_tag_renews_no_page_without_its_vary() {
    let given = [("etag", "\"v1\""), ("vary", "Accept-Language"), ("cache-control", "max-age=60")];
    let case = Case::new(Decision::NONE);
    let frame = [("sec-fetch-dest", "iframe"), ("if-none-match", "\"v1\"")];
    let vary = |head: &HeaderMap| all(head, "vary").join(", ");
    let (_, asked) = case.prepare("/a", &frame);
    let page = case.answer(&asked, 200, &[&given[..], &[("content-type", "text/html")]].concat()).0.headers;
    assert_eq!(
        (&page["cache-control"], vary(&page).as_str()),
        (&HeaderValue::from_static("private, no-cache"), "Accept-Language, Sec-GPC, Cookie",)
    );
    for (name, value, order) in [
        ("sec-fetch-dest", "iframe", "private, no-cache"),
        ("sec-fetch-dest", "worker", "private, no-cache"),
        ("accept", "*/*", "private, no-cache"),
        // Scripts fetch data: kept for as long as the origin says, by browsers and no declared cache.
        ("sec-fetch-dest", "empty", "max-age=60"),
    ] {
        for tag in ["\"v1\"", "*"] {
            let (parts, asked) = case.prepare("/a", &[(name, value), ("if-none-match", tag)]);
            assert_eq!(parts.headers["if-none-match"], tag);
            let head = case.answer(&asked, 304, &given).0.headers;
            assert_eq!(
                (&head["etag"], &head["cache-control"]),
                (&given[0].1.parse().unwrap(), &order.parse().unwrap()),
                "{value}"
            );
            assert!(vary(&head).starts_with("Accept-Language, Sec-GPC, Cookie"), "{value}: {}", vary(&head));
        }
    }
    // What cannot be a page, and a path whose pages are everybody's.
    let (_, asked) = case.prepare("/a", &[("sec-fetch-dest", "image"), ("if-none-match", "\"v1\"")]);
    let unread = Case { rewrite: false, ..Case::new(Decision::NONE) };
    let (_, same_for_all) = unread.prepare("/a", &frame);
    for head in
        [case.answer(&asked, 304, &given).0.headers, unread.answer(&same_for_all, 304, &given).0.headers]
    {
        assert_eq!(head, headers(&given));
    }
}

/// A browser that opts out holds the other variant's tag: the answer must be whole.
#[test]
fn a_tag_from_before_the_opt_out_is_not_sent() {
    let sent = Case::new(Decision::NONE).page(&[("etag", "\"v1\"")]);
    let tag = sent["etag"].to_str().unwrap();
    let case = Case::new(OUT);
    let (parts, asked) = case.prepare("/a", &[("accept", NAV), ("if-none-match", tag)]);
    assert!(!parts.headers.contains_key("if-none-match"));
    let (_, _, plan) = case.answer(&asked, 304, &[("etag", "\"v1\"")]);
    assert!(matches!(plan, BodyPlan::Refuse(_)), "{plan:?}");
}

#[test]
fn asking_again_asks_for_the_whole_page_uncoded() {
    let case = Case::new(OUT);
    let fields = [("sec-fetch-dest", "empty"), ("range", "bytes=0-"), ("accept-encoding", "br")];
    let (mut parts, mut changes) = case.prepare("/", &fields);
    ask_again(&mut parts.headers, &mut changes);
    assert_eq!(all(&parts.headers, "accept-encoding"), ["identity"]);
    assert!(!parts.headers.contains_key("range"));
    assert!(changes.narrowed, "the client still gets the coding it accepts");
}

/// Lengths, digests and validators are of the origin's bytes; in both variants.
#[test]
fn a_rewritten_page_loses_what_describes_the_origins_bytes() {
    let fields = [
        ("content-length", "10"),
        ("content-md5", "x"),
        ("digest", "x"),
        ("content-digest", "x"),
        ("repr-digest", "x"),
        ("accept-ranges", "bytes"),
        ("last-modified", "x"),
        ("signature", "x"),
        ("use-as-dictionary", "match=\"/*\""),
        ("expires", "x"),
        ("cdn-cache-control", "max-age=9"),
        ("surrogate-control", "max-age=9"),
        ("x-own", "kept"),
    ];
    for decision in [OUT, Decision::NONE] {
        let head = Case::new(decision).page(&fields);
        for (name, _) in &fields[..fields.len() - 1] {
            assert!(!head.contains_key(*name), "{name}");
        }
        assert_eq!(head["x-own"], "kept");
        assert_eq!(all(&head, "cache-control"), ["private, no-cache"]);
        assert_eq!(all(&head, "vary")[0][..15], *"Sec-GPC, Cookie");
    }
}

#[test]
fn cache_words_are_never_weakened_and_a_declared_cache_keeps_its_own() {
    let case = Case::new(OUT);
    let head = case.page(&[("cache-control", "No-Store, max-age=9"), ("vary", "cookie, X")]);
    assert_eq!(all(&head, "cache-control"), ["private, no-cache, no-store"]);
    assert_eq!(all(&head, "vary")[..2], ["cookie, X", "Sec-GPC, Accept-Encoding"]);
    assert_eq!(all(&case.page(&[("vary", "*")]), "vary"), ["*"]);
    for front in [CacheFront::Vary, CacheFront::Keyed] {
        let mut case = Case { front, ..Case::new(OUT) };
        let public = [("cache-control", "public, max-age=9"), ("cdn-cache-control", "max-age=9")];
        let head = case.page(&public);
        assert_eq!(all(&head, "cache-control"), ["public, max-age=9"]);
        assert!(head.contains_key("cdn-cache-control"));
        assert!(all(&head, "vary")[0].contains("Sec-Fetch-Dest"));
        // A page that sets our cookie is one visitor's.
        case.own = OwnCookie::Absent;
        assert_eq!(all(&case.page(&public), "cache-control"), ["private, no-cache"]);
    }
}

/// RFC 9110, 9.3.2.
#[test]
fn head_gets_the_head_of_get() {
    let fields =
        [("content-type", "text/html; charset=utf-16"), ("content-encoding", "gzip"), ("etag", "\"x\"")];
    let answer = |method| {
        let case = Case { method, ..Case::new(OUT) };
        let (_, asked) = case.prepare("/a", &[("accept", NAV), ("accept-encoding", "br, gzip")]);
        case.answer(&asked, 200, &fields).0.headers
    };
    let get = answer(Method::GET);
    assert_eq!(get, answer(Method::HEAD));
    assert_eq!(get["content-encoding"], "br");
    assert_eq!(get["content-type"], "text/html; charset=utf-8");
}

#[test]
fn tracker_cookies_are_removed_and_expired_on_the_page() {
    let case = Case { own: OwnCookie::Absent, ..Case::new(OUT) };
    let (_, asked) = case.prepare("/a", &[("accept", NAV), ("cookie", "_fbp=1; sid=2")]);
    let fields = [
        ("content-type", "text/html"),
        ("set-cookie", "_fbp=2; Path=/"),
        ("set-cookie", "sid=3"),
        ("set-cookie", "optgate=; Max-Age=0"),
    ];
    let (answer, changes, _) = case.answer(&asked, 200, &fields);
    let lines = all(&answer.headers, "set-cookie");
    assert_eq!(
        lines[..4],
        [
            "sid=3",
            "_fbp=; Path=/; Max-Age=0; Secure",
            "_fbp=; Path=/; Max-Age=0; Domain=www.shop.example; Secure",
            "_fbp=; Path=/; Max-Age=0; Domain=shop.example; Secure",
        ]
    );
    assert!(lines[4].starts_with("optgate=v1.out.202611."), "{}", lines[4]);
    assert_eq!((lines.len(), changes.cookies_removed, changes.cookies_expired), (5, 1, 1));
    assert!(changes.own_cookie);
    // Other answers set and expire nothing.
    let (_, fragment) = case.prepare("/a", &[("sec-fetch-dest", "empty"), ("cookie", "_fbp=1")]);
    for (asked, status, kind) in
        [(&asked, 200, "text/css"), (&asked, 304, "text/html"), (&fragment, 200, "text/html")]
    {
        let (answer, changes, _) = case.answer(asked, status, &[("content-type", kind)]);
        assert!(!answer.headers.contains_key("set-cookie") && !changes.own_cookie, "{status} {kind}");
    }
}

#[test]
fn a_visitor_without_an_opt_out_keeps_all_cookies_and_headers_but_for_the_keepers_hash() {
    let case = Case { own: OwnCookie::Absent, ..Case::new(Decision::NONE) };
    let fields = [
        ("set-cookie", "_fbp=2; Path=/"),
        ("link", "<https://connect.facebook.net>; rel=preconnect"),
        ("observe-browsing-topics", "?1"),
        ("referrer-policy", "unsafe-url"),
        ("content-security-policy", "script-src 'self'"),
    ];
    let head = case.page(&fields);
    for (name, value) in &fields[..4] {
        assert_eq!(all(&head, name), [*value]);
    }
    let policy = format!("script-src 'self' {}", keeper::csp_hash());
    assert_eq!(all(&head, "content-security-policy"), [policy]);
    assert!(!head.contains_key("permissions-policy"));
}

/// A container is kept where the guard holds it. A browser follows a `Link` before there is a
/// guard, also to a page that will say it is AMP and have none.
#[test]
fn a_container_is_not_fetched_ahead_of_the_page_that_keeps_it() {
    let link = "<https://www.googletagmanager.com/gtm.js?id=GTM-1>; rel=preload; as=script";
    let head = Case::new(OUT).page(&[("link", link), ("link", "</a.css>; rel=preload; as=style")]);
    assert_eq!(all(&head, "link"), ["</a.css>; rel=preload; as=style"]);
}

/// A head can start a request as markup does.
#[test]
fn headers_that_call_trackers_are_filtered_for_an_opted_out_visitor() {
    let head = Case::new(OUT).page(&[
        ("link", "</a.css>; rel=preload, <https://connect.facebook.net>; rel=preconnect"),
        ("link", "<https://www.shop.example/x>; rel=canonical"),
        ("refresh", "0; url=https://connect.facebook.net/en_US/fbevents.js"),
        ("reporting-endpoints", "a=\"https://connect.facebook.net/r\""),
        ("content-security-policy", "script-src 'self'; report-uri https://connect.facebook.net/r /own"),
        ("observe-browsing-topics", "?1"),
        ("attribution-reporting-register-source", "{}"),
        ("ad-auction-signals", "{}"),
        ("shared-storage-write", "clear"),
        ("supports-loading-mode", "fenced-frame, credentialed-prerender"),
        ("permissions-policy", "camera=(), browsing-topics=(self)"),
    ]);
    assert_eq!(all(&head, "link"), ["</a.css>; rel=preload", "<https://www.shop.example/x>; rel=canonical"]);
    for gone in [
        "refresh",
        "reporting-endpoints",
        "observe-browsing-topics",
        "attribution-reporting-register-source",
        "ad-auction-signals",
        "shared-storage-write",
    ] {
        assert!(!head.contains_key(gone), "{gone}");
    }
    assert_eq!(all(&head, "supports-loading-mode"), ["credentialed-prerender"]);
    let policy = head["content-security-policy"].to_str().unwrap();
    assert!(
        policy.starts_with("script-src 'self' 'sha256-") && policy.ends_with("report-uri /own"),
        "{policy}"
    );
    let permissions = head["permissions-policy"].to_str().unwrap();
    assert!(permissions.starts_with("camera=(), browsing-topics=(), "), "{permissions}");
}

#[test]
fn a_referrer_policy_is_tightened_and_never_loosened() {
    for (before, after) in [
        (None, "strict-origin-when-cross-origin"),
        (Some("unsafe-url"), "strict-origin-when-cross-origin"),
        (Some("no-referrer-when-downgrade"), "strict-origin-when-cross-origin"),
        (Some("origin"), "strict-origin"),
        (Some("no-referrer"), "no-referrer"),
        (Some("Same-Origin"), "Same-Origin"),
        (Some("no-referrer, unsafe-url"), "strict-origin-when-cross-origin"),
        (Some("unsafe-url, strict-origin"), "unsafe-url, strict-origin"),
        (Some("new-word"), "strict-origin-when-cross-origin"),
    ] {
        let fields: Vec<_> = before.map(|value| ("referrer-policy", value)).into_iter().collect();
        assert_eq!(all(&Case::new(OUT).page(&fields), "referrer-policy"), [after], "{before:?}");
    }
}

/// Frames and fragments of the same address are other bytes than the document.
#[test]
fn each_kind_of_page_has_its_own_tag() {
    let case = Case::new(OUT);
    let mut tags: Vec<String> = ["document", "iframe", "empty"]
        .iter()
        .map(|dest| {
            let (_, asked) = case.prepare("/a", &[("sec-fetch-dest", dest)]);
            let fields = [("content-type", "text/html"), ("etag", "\"v1\"")];
            case.answer(&asked, 200, &fields).0.headers["etag"].to_str().unwrap().to_owned()
        })
        .collect();
    tags.dedup();
    assert_eq!(tags.len(), 3, "{tags:?}");
}

/// The script of a worker is another variant than the file in a page, and
/// a browser's cache must know.
#[test]
fn a_workers_script_has_its_own_tag_and_says_what_it_varies_by() {
    let fields = [
        ("content-type", "text/javascript"),
        ("etag", "\"v1\""),
        ("content-length", "3"),
        ("last-modified", "x"),
    ];
    let worker = [("sec-fetch-dest", "worker"), ("range", "bytes=0-1")];
    let out = Case::new(OUT);
    let (head, asked) = out.prepare("/w.js", &worker);
    assert!(!head.headers.contains_key("range"));
    let (answer, _, plan) = out.answer(&asked, 200, &fields);
    assert!(matches!(plan, BodyPlan::Rewrite(recipe) if recipe.kind == Kind::Worker));
    let tag = answer.headers["etag"].to_str().unwrap();
    assert!(tag.starts_with("W/\"og1.") && tag.contains(".ow."), "{tag}");
    assert_eq!(all(&answer.headers, "vary"), ["Sec-GPC, Cookie, Sec-Fetch-Dest, Accept-Encoding"]);
    assert_eq!(all(&answer.headers, "cache-control"), ["private, no-cache"]);
    assert!(!answer.headers.contains_key("content-length") && !answer.headers.contains_key("last-modified"));
    assert!(!answer.headers.contains_key("set-cookie"), "a worker's script sets no cookie");
    // The tag comes back to the origin as its own, and a 304 carries it again.
    let (again, asked) = out.prepare("/w.js", &[worker[0], ("if-none-match", tag)]);
    assert_eq!(all(&again.headers, "if-none-match"), ["\"v1\""]);
    assert_eq!(out.answer(&asked, 304, &[("etag", "\"v1\"")]).0.headers["etag"], tag);
    // A copy from before the opt-out has the origin's tag: it is not asked about.
    let (before, asked) = out.prepare("/w.js", &[worker[0], ("if-none-match", "\"v1\"")]);
    assert!(!before.headers.contains_key("if-none-match"));
    assert!(matches!(out.answer(&asked, 304, &[]).2, BodyPlan::Refuse(_)));
    // Without an opt-out the file is the origin's, but caches must not give it to the other visitor.
    let none = Case { own: OwnCookie::Absent, ..Case::new(Decision::NONE) };
    let (_, asked) = none.prepare("/w.js", &worker);
    let (answer, _, plan) = none.answer(&asked, 200, &fields);
    assert_eq!(plan, BodyPlan::Pass(PassReason::Nothing));
    assert_eq!(all(&answer.headers, "etag"), ["\"v1\""]);
    assert_eq!(all(&answer.headers, "vary")[0][..31], *"Sec-GPC, Cookie, Sec-Fetch-Dest");
}

#[test]
fn what_nobody_rewrites_keeps_its_validators() {
    let case = Case::new(OUT);
    let (_, asked) = case.prepare("/a.png", &[("sec-fetch-dest", "image")]);
    assert_eq!(asked.target, Target::Resource);
    let fields = [("content-type", "image/png"), ("etag", "\"x\""), ("content-length", "3")];
    assert_eq!(case.answer(&asked, 200, &fields).0.headers, headers(&fields));
    let (_, asked) = case.prepare("/a.json", &[("sec-fetch-dest", "empty")]);
    assert_eq!(asked.target, Target::Page(Kind::Fragment));
    let fields = [("content-type", "application/json"), ("etag", "\"x\""), ("cache-control", "max-age=9")];
    assert_eq!(case.answer(&asked, 200, &fields).0.headers, headers(&fields));
}

#[test]
fn collectors_are_answered_here_only_for_an_opted_out_visitor() {
    let case = Case::new(OUT);
    let none = HeaderMap::new();
    let goes = |decision, path, query| {
        let asked = FirstParty { method: &Method::GET, path, query, headers: &none };
        collectors::intercept(decision, &case.policy, asked).is_some()
    };
    let query = "v=2&tid=G-ABCDEF1234&cid=1.2";
    assert!(goes(OUT, "/g/collect", query));
    assert!(!goes(Decision::NONE, "/g/collect", query));
    assert!(!goes(OUT, "/checkout", ""));
}

/// 11 CCR 7025(c)(5): a log-out is no opt-in. `Clear-Site-Data` would take our cookie along, and what the same answer sets.
#[test]
fn a_log_out_that_clears_all_cookies_takes_no_opt_out_along() {
    let cookies = ("cookie", "sid=1; optgate=v1.out.202611.x");
    let cleared = ("clear-site-data", "\"cache\", \"cookies\"");
    let answer = |case: &Case, status, sent: (&str, &str)| {
        let (_, asked) = case.prepare("/log-out", &[sent, ("accept", NAV)]);
        let (parts, changes, _) = case.answer(&asked, status, &[cleared, ("location", "/")]);
        let field = parts.headers["clear-site-data"].to_str().unwrap().to_owned();
        let ends =
            parts.headers.get_all("set-cookie").iter().any(|line| line == "sid=; Path=/; Max-Age=0; Secure");
        (field == "\"cache\"", ends, changes.choice_spared)
    };
    for status in [200, 302, 204] {
        assert_eq!(answer(&Case::new(OUT), status, cookies), (true, true, true), "{status}");
    }
    // Nothing of ours is there to be kept, or nothing that holds.
    let by_signal = Case { own: OwnCookie::Absent, ..Case::new(OUT) };
    assert_eq!(answer(&by_signal, 302, ("cookie", "sid=1")), (false, false, false));
    let opted_in = Case { own: OwnCookie::In(MONTH), ..Case::new(Decision::NONE) };
    assert_eq!(answer(&opted_in, 302, cookies), (false, false, false));
    let observed = Case { mode: Mode::Observe, ..Case::new(OUT) };
    assert_eq!(answer(&observed, 302, cookies), (false, false, false));
}

/// The site's own paths match as the registry's do: a prefix ends at `/`, `?` or the end.
#[test]
fn a_site_can_name_collectors_of_its_own() {
    let registry = Arc::new(Registry::builtin().expect("the built-in registry loads"));
    let collectors = vec!["/ingest".to_owned(), "/cdp*".to_owned()];
    let written = VendorPolicy { collectors, ..VendorPolicy::default() };
    let policy = Policy::resolve(registry, &written).expect("the policy resolves");
    let none = HeaderMap::new();
    for (path, goes) in [
        ("/ingest", true),
        ("/ingest/e/", true),
        ("/ingestion", false),
        ("/cdp-2/x", true),
        ("/x/ingest", false),
        ("/", false),
    ] {
        let asked = FirstParty { method: &Method::POST, path, query: "", headers: &none };
        let got = collectors::intercept(OUT, &policy, asked);
        assert_eq!(got.is_some(), goes, "{path}");
        assert!(got.is_none_or(|got| got.vendor.is_none()), "{path}");
        assert!(collectors::intercept(Decision::NONE, &policy, asked).is_none(), "{path}");
    }
}

#[test]
fn the_variant_version_changes_with_the_rules() {
    use optgate::config::{LinkTitle, Portal};
    let portal = Portal {
        prefix: "/privacy-choices".into(),
        link: LinkTitle::DoNotSell,
        limit_url: None,
        form_bytes: 1,
        clear_old_copies: true,
    };
    let site = site();
    let said = Case::new(OUT).said;
    let base = validators::variant_version("r1", &site, &portal, &said);
    assert_eq!(base.len(), 16);
    assert_ne!(base, validators::variant_version("r2", &site, &portal, &said));
    let other = Portal { link: LinkTitle::PrivacyChoices, ..portal.clone() };
    assert_ne!(base, validators::variant_version("r1", &site, &other, &said));
    let mut stricter = site.clone();
    stricter.policy.service_providers = optgate::config::ServiceProviders::Strip;
    assert_ne!(base, validators::variant_version("r1", &stricter, &portal, &said));
    let other = SignalSettings { deny_analytics: true, ..said };
    assert_ne!(base, validators::variant_version("r1", &site, &portal, &other));
}

fn site() -> optgate::config::Site {
    optgate::config::Site {
        scope: "shop".into(),
        formerly: Vec::new(),
        lineage: String::new(),
        cookie_domain: None,
        programme: None,
        name: "shop".into(),
        hosts: vec!["shop.example".into()],
        upstreams: Vec::new(),
        sharing: Default::default(),
        mode: Mode::Enforce,
        policy: VendorPolicy::default(),
        paths: Vec::new(),
        on_rewrite_failure: optgate::config::OnRewriteFailure::Close,
        cache_front: CacheFront::None,
        strip_link_params: true,
        redirect: None,
        hsts: None,
        no_transform: optgate::config::NoTransform::Keep,
        compress: optgate::config::Compress::AsOrigin,
        csp: optgate::config::Csp::default(),
        lists: Vec::new(),
        first_party_hosts: Vec::new(),
    }
}
