//! `/.well-known/gpc.json`: the site's own statement that it abides by the signal (W3C GPC, "GPC
//! Support Resource"). It never varies with the visitor, so it may be cached.

use axum::body::Body;
use axum::extract::State;
use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONTENT_TYPE};
use http::{HeaderValue, Response};

use super::Shared;

pub(super) const PATH: &str = "/.well-known/gpc.json";

#[derive(serde::Serialize)]
struct Statement<'a> {
    gpc: bool,
    #[serde(rename = "lastUpdate", skip_serializing_if = "Option::is_none")]
    last_update: Option<&'a str>,
}

/// The body; `lastUpdate` is the date of the operator's statement and never made up.
pub(super) fn body(last_update: Option<&str>) -> Bytes {
    // Serialising a bool and a string cannot fail; the short form is true as well.
    serde_json::to_vec(&Statement { gpc: true, last_update })
        .map_or(Bytes::from_static(br#"{"gpc":true}"#), Bytes::from)
}

pub(super) async fn serve(State(pages): Shared) -> Response<Body> {
    let mut response = Response::new(Body::from(pages.gpc_json.clone()));
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("public, max-age=3600"));
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_date_is_there_only_when_the_operator_set_one() {
        assert_eq!(&body(None)[..], br#"{"gpc":true}"#);
        assert_eq!(&body(Some("2026-01-01"))[..], br#"{"gpc":true,"lastUpdate":"2026-01-01"}"#);
    }
}
