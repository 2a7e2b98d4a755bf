//! Files below `PREFIX/assets/`: the pages' style, icon and one script, and the stand-ins that stripped
//! references point at.

use axum::body::Body;
use axum::extract::{Path, State};
use http::header::{CACHE_CONTROL, CONTENT_TYPE, VARY};
use http::{HeaderMap, HeaderValue, Response};

use super::Shared;
use crate::enforce::guard;

const OWN: [(&str, &str, &[u8]); 3] = [
    ("page.css", "text/css; charset=utf-8", include_bytes!("pages/page.css")),
    ("clear.js", "text/javascript; charset=utf-8", include_bytes!("pages/clear.js")),
    ("icon.svg", "image/svg+xml", include_bytes!("pages/icon.svg")),
];

pub(super) async fn serve(
    State(pages): Shared,
    Path(name): Path<String>,
    asked: HeaderMap,
) -> Response<Body> {
    let destination = asked.get("sec-fetch-dest").map(HeaderValue::as_bytes);
    let own = OWN.iter().find(|(own, ..)| *own == name).map(|&(_, kind, body)| (kind, body));
    let Some((kind, body)) =
        own.or_else(|| guard::asset_as(&name, destination).map(|a| (a.content_type, a.body)))
    else {
        return super::missing(State(pages)).await;
    };
    let mut response = Response::new(Body::from(body));
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    // A page may import one stand-in as script, as data and as style; what a page has loaded Chromium gives to it again
    // without a look at `Vary`, unless it is not to be stored.
    let is_module = name == guard::MODULE;
    let cached = if is_module { "no-store" } else { "public, max-age=86400" };
    headers.insert(CACHE_CONTROL, HeaderValue::from_static(cached));
    if is_module {
        headers.insert(VARY, HeaderValue::from_static("Sec-Fetch-Dest"));
    }
    response
}
