//! What a request wants: a page, a part of one, or something else.

use http::header::{ACCEPT, HeaderName, REFERER};
use http::{HeaderMap, HeaderValue};

use super::Kind;
use crate::enforce::names::Names;

const SEC_FETCH_DEST: HeaderName = HeaderName::from_static("sec-fetch-dest");
const SERVICE_WORKER: HeaderName = HeaderName::from_static("service-worker");
const X_REQUESTED_WITH: HeaderName = HeaderName::from_static("x-requested-with");
/// The libraries that fetch fragments say so.
const BY_SCRIPT: [&str; 3] = ["hx-request", "turbo-frame", "x-pjax"];

/// What a request wants, as far as its head says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Target {
    /// Something a browser shows or a script puts into a page, or a worker that acts for one.
    Page(Kind),
    /// An image, script, style sheet, font and so on: never rewritten.
    Resource,
}

impl Target {
    /// Whether the answer to this visitor may have to be rewritten.
    ///
    /// Frames, fragments and workers get no link, so that only an opt-out gives them something to change.
    #[must_use]
    pub const fn may_be_rewritten(self, opted_out: bool) -> bool {
        match self {
            Self::Page(Kind::Fragment | Kind::Frame | Kind::Worker) => opted_out,
            Self::Page(Kind::Document | Kind::Unsure) => true,
            Self::Resource => false,
        }
    }
}

/// Reads what a request wants.
///
/// `Sec-Fetch-Dest` comes first: scripts cannot forge it. Without it (plain http, old browsers, other
/// clients) the headers of the libraries that fetch fragments are asked, then `Accept`.
/// Cost: a look-up for each of these fields that is there.
#[must_use]
pub fn target(headers: &HeaderMap, names: Names) -> Target {
    if names.any(Names::DESTINATION)
        && let Some(dest) = headers.get(SEC_FETCH_DEST)
    {
        return of_destination(dest.as_bytes(), headers);
    }
    // Over plain http, where browsers allow service workers on loopback only, this field says it.
    if names.any(Names::WORKER) && headers.get(SERVICE_WORKER).is_some_and(|value| value == "script") {
        return Target::Page(Kind::Worker);
    }
    // Android's WebView sends its application's name in this field on every navigation.
    let by_script = names.any(Names::BY_SCRIPT) && BY_SCRIPT.iter().any(|name| headers.contains_key(*name))
        || names.any(Names::REQUESTED_WITH)
            && headers
                .get(X_REQUESTED_WITH)
                .is_some_and(|v| v.as_bytes().eq_ignore_ascii_case(b"xmlhttprequest"));
    if by_script {
        return Target::Page(Kind::Fragment);
    }
    if !names.any(Names::ACCEPT) {
        return Target::Page(Kind::Unsure);
    }
    let accepts = |what: &[u8]| {
        headers.get_all(ACCEPT).iter().any(|v| memchr::memmem::find(v.as_bytes(), what).is_some())
    };
    // Images and style sheets name their own kind, and no browser shows such an answer as a page.
    if (accepts(b"image/") || accepts(b"text/css")) && !accepts(b"html") {
        return Target::Resource;
    }
    // Every browser's navigation names both.
    let navigation = accepts(b"text/html") && accepts(b"application/xhtml+xml");
    Target::Page(if navigation { Kind::Document } else { Kind::Unsure })
}

fn of_destination(dest: &[u8], headers: &HeaderMap) -> Target {
    match dest {
        b"document" => Target::Page(Kind::Document),
        b"iframe" | b"frame" | b"fencedframe" | b"embed" | b"object" => Target::Page(Kind::Frame),
        // A prefetch of the next page looks like a fetch; the browser shows it as a document later, and so may
        // a service worker that keeps it.
        b"empty" if is_prefetch(headers) || is_of_a_worker(headers) => Target::Page(Kind::Unsure),
        b"empty" => Target::Page(Kind::Fragment),
        b"audio" | b"audioworklet" | b"font" | b"image" | b"json" | b"manifest" | b"paintworklet"
        | b"report" | b"script" | b"style" | b"track" | b"video" | b"webidentity" | b"xslt" => {
            Target::Resource
        }
        b"serviceworker" | b"sharedworker" | b"worker" => Target::Page(Kind::Worker),
        _ => Target::Page(Kind::Unsure),
    }
}

/// Whether a browser asks for something that the visitor has not asked for yet: a page to come, that it fetches or
/// makes ready ahead.
///
/// Cost: two look-ups.
#[must_use]
pub fn is_prefetch(headers: &HeaderMap) -> bool {
    ["sec-purpose", "purpose"]
        .iter()
        .filter_map(|name| headers.get(*name)?.to_str().ok())
        .any(|value| value.to_ascii_lowercase().contains("prefetch"))
}

/// Whether a script asks that is no page's: a worker names itself where a page names the page.
fn is_of_a_worker(headers: &HeaderMap) -> bool {
    let from = headers.get(REFERER).map(HeaderValue::as_bytes).unwrap_or_default();
    let path = from.split(|byte| *byte == b'?').next().unwrap_or_default();
    path.ends_with(b".js") || path.ends_with(b".mjs")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(fields: &[(&'static str, &'static str)]) -> HeaderMap {
        let mut map = HeaderMap::new();
        for (name, value) in fields {
            map.append(*name, HeaderValue::from_static(value));
        }
        map
    }

    #[test]
    fn a_request_says_what_it_wants() {
        use Kind::{Document, Fragment, Frame, Unsure, Worker};
        let nav = "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8";
        for (fields, want) in [
            (&[("sec-fetch-dest", "document")][..], Target::Page(Document)),
            (&[("sec-fetch-dest", "document"), ("hx-request", "true")], Target::Page(Document)),
            (&[("sec-fetch-dest", "iframe")], Target::Page(Frame)),
            (&[("sec-fetch-dest", "object")], Target::Page(Frame)),
            (&[("sec-fetch-dest", "empty"), ("accept", nav)], Target::Page(Fragment)),
            (&[("sec-fetch-dest", "empty"), ("sec-purpose", "prefetch;prerender")], Target::Page(Unsure)),
            (&[("sec-fetch-dest", "empty"), ("referer", "https://x.test/sw.js?v=1")], Target::Page(Unsure)),
            (&[("sec-fetch-dest", "empty"), ("referer", "https://x.test/a?b=sw.js")], Target::Page(Fragment)),
            (&[("sec-fetch-dest", "image"), ("accept", nav)], Target::Resource),
            (&[("sec-fetch-dest", "script")], Target::Resource),
            (&[("sec-fetch-dest", "worker")], Target::Page(Worker)),
            (&[("sec-fetch-dest", "sharedworker")], Target::Page(Worker)),
            (&[("sec-fetch-dest", "serviceworker"), ("service-worker", "script")], Target::Page(Worker)),
            (&[("accept", "*/*"), ("service-worker", "script")], Target::Page(Worker)),
            (&[("sec-fetch-dest", "new-thing")], Target::Page(Unsure)),
            (&[("accept", nav)], Target::Page(Document)),
            (&[("accept", nav), ("x-requested-with", "com.example.app")], Target::Page(Document)),
            (&[("accept", nav), ("x-requested-with", "XMLHttpRequest")], Target::Page(Fragment)),
            (&[("accept", nav), ("turbo-frame", "cart")], Target::Page(Fragment)),
            (&[("hx-request", "true")], Target::Page(Fragment)),
            (&[("x-pjax", "true")], Target::Page(Fragment)),
            (&[("accept", "text/html")], Target::Page(Unsure)),
            (&[("accept", "image/avif,image/webp,image/svg+xml,image/*,*/*;q=0.8")], Target::Resource),
            (&[("accept", "text/css,*/*;q=0.1")], Target::Resource),
            (&[("accept", "text/html,image/webp,*/*")], Target::Page(Unsure)),
            (&[("accept", "*/*")], Target::Page(Unsure)),
            (&[], Target::Page(Unsure)),
        ] {
            let map = headers(fields);
            assert_eq!(target(&map, Names::of(&map)), want, "{fields:?}");
            assert_eq!(target(&map, Names::ALL), want, "{fields:?}");
        }
    }
}
