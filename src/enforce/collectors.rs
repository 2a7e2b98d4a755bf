//! First-party addresses behind which a tracker collects: server-side tagging, reverse-proxied
//! analytics.
//!
//! They pass through this very proxy, so that an opted-out visitor's requests to them end here, with
//! an empty answer, instead of at the origin (`corridor`, step 6).

use http::header::{
    ACCEPT, ACCESS_CONTROL_ALLOW_CREDENTIALS, ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS,
    ACCESS_CONTROL_ALLOW_ORIGIN, ACCESS_CONTROL_REQUEST_HEADERS, ACCESS_CONTROL_REQUEST_METHOD,
    CACHE_CONTROL, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, ORIGIN, VARY,
};
use http::{Response, StatusCode};

use super::guard;
use crate::config::VendorAction;
use crate::privacy::Decision;
use crate::registry::{FirstParty, Policy, VendorId};

/// A request that must not reach the origin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Intercepted {
    /// Whose, if the registry knows it; `None` for a path of the site's own setting.
    pub vendor: Option<VendorId>,
    /// What the page gets instead.
    pub stand_in: StandIn,
}

/// What a page gets instead of a tracker's answer: the kind it waits for, so that nothing in it fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StandIn {
    /// 204: a beacon, a fetch, a frame.
    Nothing,
    /// 200, an empty script.
    Script,
    /// 200, an empty style sheet.
    Style,
    /// 200, one transparent pixel.
    Image,
}

/// Whether a request is a tracker's collection that must not reach the origin.
///
/// `restrict` counts as strip here, since no script of ours can restrain what the origin does with a
/// request; but a tag manager's container is kept where the guard holds it to its requests.
///
/// Cost: one pass over the registry's rules, mostly a comparison of a byte each, only for opted-out visitors.
#[must_use]
pub fn intercept(decision: Decision, policy: &Policy, request: FirstParty<'_>) -> Option<Intercepted> {
    if !decision.opted_out() {
        return None;
    }
    let stand_in = || StandIn::of(request.path, request.headers);
    if policy.match_own_collector(request.path) {
        return Some(Intercepted { vendor: None, stand_in: stand_in() });
    }
    let hit = policy.match_collector(request)?;
    let stand_in = stand_in();
    let container = hit.action == VendorAction::Restrict && stand_in == StandIn::Script;
    let goes = hit.action != VendorAction::Allow && !container;
    goes.then_some(Intercepted { vendor: Some(hit.vendor), stand_in })
}

impl StandIn {
    /// What a request waits for: as the browser says (`Sec-Fetch-Dest`), else by its address and `Accept`.
    fn of(path: &str, headers: &HeaderMap) -> Self {
        let ends = |endings: &[&str]| endings.iter().any(|ending| path.ends_with(ending));
        match headers.get("sec-fetch-dest").map(HeaderValue::as_bytes) {
            Some(b"script" | b"worker" | b"sharedworker" | b"serviceworker") => Self::Script,
            Some(b"style") => Self::Style,
            Some(b"image") => Self::Image,
            Some(_) => Self::Nothing,
            None if ends(&[".js", "/js", ".mjs"]) => Self::Script,
            None if ends(&[".gif", ".png", ".jpg", ".webp"]) => Self::Image,
            None if headers.get(ACCEPT).is_some_and(|accept| accept.as_bytes().starts_with(b"image/")) => {
                Self::Image
            }
            None => Self::Nothing,
        }
    }

    /// The answer to a collector's request: it is gone as far as the page can tell.
    ///
    /// A page of another of the site's hosts may read it (CORS): there is nothing in it, and a refusal
    /// would be an error in that page's code.
    #[must_use]
    pub fn answer(self, asked: &HeaderMap) -> Response<&'static [u8]> {
        let asset = match self {
            Self::Nothing => None,
            Self::Script => guard::asset("e.js"),
            Self::Style => guard::asset("e.css"),
            Self::Image => guard::asset("e.gif"),
        };
        let mut response = Response::new(asset.map_or(&[][..], |asset| asset.body));
        let status = if asset.is_some() { StatusCode::OK } else { StatusCode::NO_CONTENT };
        *response.status_mut() = status;
        let headers = response.headers_mut();
        if let Some(asset) = asset {
            headers.insert(CONTENT_TYPE, HeaderValue::from_static(asset.content_type));
        }
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        if let Some(origin) = asked.get(ORIGIN) {
            allow(headers, asked, origin);
        }
        response
    }
}

/// CORS for whoever asks (WHATWG Fetch, 3.3.3).
fn allow(headers: &mut HeaderMap, asked: &HeaderMap, origin: &HeaderValue) {
    headers.insert(VARY, HeaderValue::from_static("Origin"));
    headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin.clone());
    headers.insert(ACCESS_CONTROL_ALLOW_CREDENTIALS, HeaderValue::from_static("true"));
    let echoed: [(HeaderName, HeaderName); 2] = [
        (ACCESS_CONTROL_REQUEST_METHOD, ACCESS_CONTROL_ALLOW_METHODS),
        (ACCESS_CONTROL_REQUEST_HEADERS, ACCESS_CONTROL_ALLOW_HEADERS),
    ];
    for (wanted, allowed) in echoed {
        if let Some(value) = asked.get(wanted) {
            headers.insert(allowed, value.clone());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(fields: &[(&'static str, &'static str)]) -> HeaderMap {
        fields.iter().map(|(n, v)| (HeaderName::from_static(n), HeaderValue::from_static(v))).collect()
    }

    #[test]
    fn the_page_gets_the_kind_of_answer_it_waits_for() {
        for (path, fields, want) in [
            ("/gtm.js", &[][..], StandIn::Script),
            ("/gtag/js", &[], StandIn::Script),
            ("/x", &[("sec-fetch-dest", "script")], StandIn::Script),
            ("/tr.js", &[("sec-fetch-dest", "empty")], StandIn::Nothing),
            ("/tr", &[("sec-fetch-dest", "image")], StandIn::Image),
            ("/tr", &[("accept", "image/avif,image/webp,*/*")], StandIn::Image),
            ("/i.gif", &[], StandIn::Image),
            ("/x", &[("sec-fetch-dest", "style")], StandIn::Style),
            ("/ns.html", &[("sec-fetch-dest", "iframe")], StandIn::Nothing),
            ("/g/collect", &[("accept", "*/*")], StandIn::Nothing),
        ] {
            assert_eq!(StandIn::of(path, &headers(fields)), want, "{path} {fields:?}");
        }
    }

    /// A page on another host of the site sends credentials and a preflight; neither may fail.
    #[test]
    fn another_host_of_the_site_may_read_the_nothing() {
        let asked = headers(&[
            ("origin", "https://www.shop.example"),
            ("access-control-request-method", "POST"),
            ("access-control-request-headers", "anonymousid"),
        ]);
        let answer = StandIn::Nothing.answer(&asked);
        assert_eq!((answer.status(), answer.body().len()), (StatusCode::NO_CONTENT, 0));
        assert_eq!(answer.headers()[ACCESS_CONTROL_ALLOW_ORIGIN], "https://www.shop.example");
        assert_eq!(answer.headers()[ACCESS_CONTROL_ALLOW_METHODS], "POST");
        assert_eq!(answer.headers()[ACCESS_CONTROL_ALLOW_HEADERS], "anonymousid");
        let plain = StandIn::Script.answer(&HeaderMap::new());
        assert!(!plain.headers().contains_key(ACCESS_CONTROL_ALLOW_ORIGIN));
        assert_eq!(plain.headers()[CACHE_CONTROL], "no-store");
    }
}
