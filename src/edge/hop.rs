//! Hop-by-hop fields (RFC 9110, 7.6.1): they end at every hop.

use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::{Method, Request};

use crate::enforce::fields;

/// Fields that end here. In a request `TE` and `Upgrade` are treated by their own rules, and `Proxy-*` fields have
/// gone before.
static HOP: [HeaderName; 8] = [
    header::CONNECTION,
    HeaderName::from_static("keep-alive"),
    header::TRANSFER_ENCODING,
    header::TE,
    header::UPGRADE,
    HeaderName::from_static("proxy-connection"),
    header::PROXY_AUTHENTICATE,
    HeaderName::from_static("proxy-authentication-info"),
];

/// Positions in [`HOP`], as bits.
const CONNECTION: u8 = 1;
const ALWAYS: u8 = 0b0000_0111;
const TE: u8 = 0b0000_1000;
const UPGRADE: u8 = 0b0001_0000;

/// Which fields of [`HOP`] are there. Cost: one pass over the names, instead of a look-up for each field.
fn present(headers: &HeaderMap) -> u8 {
    let bit = |name: &HeaderName| match name.as_str() {
        "connection" => CONNECTION,
        "keep-alive" => 0b0000_0010,
        "transfer-encoding" => 0b0000_0100,
        "te" => TE,
        "upgrade" => UPGRADE,
        "proxy-connection" => 0b0010_0000,
        "proxy-authenticate" => 0b0100_0000,
        "proxy-authentication-info" => 0b1000_0000,
        _ => 0,
    };
    headers.keys().fold(0, |found, name| found | bit(name))
}

fn remove_present(headers: &mut HeaderMap, present: u8) {
    for (at, name) in HOP.iter().enumerate() {
        if present & (1 << at) != 0 {
            headers.remove(name);
        }
    }
}

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
/// `keep_upgrade`. Cost: one pass over the names; a list is built only when `Connection` names fields.
pub fn remove(headers: &mut HeaderMap, keep_upgrade: bool) {
    let present = present(headers);
    remove_named(headers, present);
    let trailers = present & TE != 0 && fields::has(headers, &header::TE, "trailers");
    let upgrade = if keep_upgrade { 0 } else { UPGRADE };
    remove_present(headers, present & (ALWAYS | TE | upgrade));
    if trailers {
        headers.insert(header::TE, HeaderValue::from_static("trailers"));
    }
}

/// Removes hop-by-hop fields from an answer's head. Cost: as for [`remove`].
pub fn remove_from_answer(headers: &mut HeaderMap) {
    let present = present(headers);
    remove_named(headers, present);
    remove_present(headers, present);
}

fn remove_named(headers: &mut HeaderMap, present: u8) {
    let Some(options) = headers.get(header::CONNECTION).filter(|_| present & CONNECTION != 0) else { return };
    // What nearly every origin says names a field that ends here anyway.
    if options.as_bytes().eq_ignore_ascii_case(b"keep-alive")
        && headers.get_all(header::CONNECTION).iter().nth(1).is_none()
    {
        return;
    }
    for name in named(headers) {
        headers.remove(name);
    }
}

/// What `Max-Forwards` asks of an `OPTIONS` request (RFC 9110, 7.6.2): true when it ends here; else one less is
/// left. Other methods may carry the field, where it says nothing.
pub fn is_last_hop<B>(request: &mut Request<B>) -> bool {
    if request.method() != Method::OPTIONS {
        return false;
    }
    let headers = request.headers_mut();
    let digits = headers.get(header::MAX_FORWARDS).map(HeaderValue::as_bytes);
    let digits = digits.filter(|digits| !digits.is_empty() && digits.iter().all(u8::is_ascii_digit));
    // A number too large is the largest there is.
    let left = digits.map(|digits| {
        digits
            .iter()
            .fold(0_u32, |left, digit| left.saturating_mul(10).saturating_add(u32::from(digit - b'0')))
    });
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
    fields::has(headers, &header::CONNECTION, token)
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

    /// Most answers say `keep-alive` and no more; what a second line names ends here all the same.
    #[test]
    fn a_second_connection_line_is_read_too() {
        let mut map = headers(&[("connection", "Keep-Alive"), ("x-one", "1")]);
        map.append("connection", HeaderValue::from_static("x-one"));
        let mut alone = headers(&[("connection", "Keep-Alive"), ("keep-alive", "timeout=5"), ("x-one", "1")]);
        remove_from_answer(&mut map);
        remove_from_answer(&mut alone);
        assert_eq!((map.len(), alone), (0, headers(&[("x-one", "1")])));
    }

    /// Every field of the list is found by its name.
    #[test]
    fn all_hop_by_hop_fields_leave_an_answer() {
        for name in &HOP {
            let mut map = HeaderMap::from_iter([(name.clone(), HeaderValue::from_static("a"))]);
            remove_from_answer(&mut map);
            assert!(map.is_empty(), "{name}");
        }
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
