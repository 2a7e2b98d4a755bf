//! Hop-by-hop fields (RFC 9110, 7.6.1): they end at every hop.

use http::header::{self, HeaderMap, HeaderName, HeaderValue};

use crate::enforce::fields;
use http::{Method, Request};

/// Fields that always end here. `TE` and `Upgrade` are treated by their own rules; a request's `Proxy-*` fields
/// have gone before.
static HOP: [HeaderName; 3] =
    [header::CONNECTION, HeaderName::from_static("keep-alive"), header::TRANSFER_ENCODING];

/// Fields of an answer that end here too.
static ANSWER_HOP: [HeaderName; 5] = [
    HeaderName::from_static("proxy-connection"),
    header::PROXY_AUTHENTICATE,
    HeaderName::from_static("proxy-authentication-info"),
    header::TE,
    header::UPGRADE,
];

/// Fields that a `Connection` field cannot name away: a client must not be able to hide its signal, its
/// host or what we say to the origin (RFC 9110, 7.6.1 forbids naming end-to-end fields).
#[must_use]
pub fn is_protected(name: &str) -> bool {
    const NAMES: [&str; 12] = [
        "sec-gpc",
        "host",
        "cookie",
        "authorization",
        "via",
        "forwarded",
        "content-length",
        "content-type",
        "content-encoding",
        "set-cookie",
        "x-real-ip",
        "x-request-id",
    ];
    NAMES.contains(&name) || name.starts_with("x-forwarded-") || name.starts_with("optgate-")
}

/// Removes hop-by-hop fields from a request's head.
///
/// `TE: trailers` stays (RFC 9110, 10.1.4: gRPC needs it), any other `TE` goes; `Upgrade` goes unless
/// `keep_upgrade`. Cost: five look-ups; a list is built only when `Connection` names fields.
pub fn remove(headers: &mut HeaderMap, keep_upgrade: bool) {
    remove_named(headers);
    for name in &HOP {
        headers.remove(name);
    }
    if headers.contains_key(header::TE) {
        let trailers =
            fields::items(headers, &header::TE).any(|token| token.eq_ignore_ascii_case("trailers"));
        headers.remove(header::TE);
        if trailers {
            headers.insert(header::TE, HeaderValue::from_static("trailers"));
        }
    }
    if !keep_upgrade {
        headers.remove(header::UPGRADE);
    }
}

/// Removes hop-by-hop fields from an answer's head.
pub fn remove_from_answer(headers: &mut HeaderMap) {
    remove_named(headers);
    for name in HOP.iter().chain(&ANSWER_HOP) {
        headers.remove(name);
    }
}

fn remove_named(headers: &mut HeaderMap) {
    if headers.contains_key(header::CONNECTION) {
        for name in named(headers) {
            headers.remove(name);
        }
    }
}

/// What `Max-Forwards` asks of an `OPTIONS` request (RFC 9110, 7.6.2): true when it ends here; else one less is
/// left. Other methods may carry the field, where it says nothing.
pub fn is_last_hop<B>(request: &mut Request<B>) -> bool {
    if request.method() != Method::OPTIONS {
        return false;
    }
    let headers = request.headers_mut();
    let left = headers.get(header::MAX_FORWARDS).and_then(|value| value.to_str().ok()?.parse::<u32>().ok());
    match left {
        Some(0) => true,
        Some(left) => {
            headers.insert(header::MAX_FORWARDS, HeaderValue::from(left - 1));
            false
        }
        None => false,
    }
}

/// Whether `Connection` holds a token, in any letter case.
#[must_use]
pub fn connection_has(headers: &HeaderMap, token: &str) -> bool {
    fields::items(headers, &header::CONNECTION).any(|t| t.eq_ignore_ascii_case(token))
}

/// Names listed in `Connection` that may be removed.
fn named(headers: &HeaderMap) -> Vec<HeaderName> {
    fields::items(headers, &header::CONNECTION)
        .filter_map(|token| HeaderName::from_bytes(token.as_bytes()).ok())
        .filter(|name| !is_protected(name.as_str()) && name != header::TE && name != header::UPGRADE)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(fields: &[(&'static str, &'static str)]) -> HeaderMap {
        fields.iter().map(|(n, v)| (HeaderName::from_static(n), HeaderValue::from_static(v))).collect()
    }

    /// RFC 9110, 7.6.1.
    #[test]
    fn fields_named_in_connection_end_here_in_any_letter_case() {
        let mut map = headers(&[
            ("connection", "X-One, keep-alive , x-TWO"),
            ("x-one", "1"),
            ("x-two", "2"),
            ("x-three", "3"),
        ]);
        remove(&mut map, false);
        assert_eq!(map, headers(&[("x-three", "3")]));
    }

    /// Threat T7: a client cannot make us drop the signal or what we rely on.
    #[test]
    fn a_client_cannot_name_its_signal_away() {
        let list = "sec-gpc, host, cookie, x-forwarded-for, optgate-decision";
        let mut map = headers(&[
            ("connection", list),
            ("sec-gpc", "1"),
            ("host", "a"),
            ("cookie", "c"),
            ("x-forwarded-for", "f"),
        ]);
        remove(&mut map, false);
        assert_eq!(map.len(), 4);
        assert_eq!(map["sec-gpc"], "1");
    }

    /// RFC 9110, 10.1.4.
    #[test]
    fn only_trailers_stay_in_te() {
        let mut map = headers(&[("te", "gzip, Trailers"), ("connection", "te")]);
        remove(&mut map, false);
        assert_eq!(map["te"], "trailers");
        let mut map = headers(&[("te", "gzip")]);
        remove(&mut map, false);
        assert!(map.is_empty());
    }

    #[test]
    fn upgrade_stays_only_when_a_tunnel_is_wanted() {
        let mut map = headers(&[("upgrade", "websocket"), ("connection", "Upgrade")]);
        assert!(connection_has(&map, "upgrade"));
        remove(&mut map, true);
        assert_eq!(map["upgrade"], "websocket");
        remove(&mut map, false);
        assert!(map.is_empty());
    }
}
