//! Hop-by-hop fields (RFC 9110, 7.6.1): they end at every hop.

use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::{Method, Request};

use crate::enforce::fields;
use crate::enforce::names::Names;

/// Fields that end here. In a request `TE` and `Upgrade` are treated by their own rules, and `Proxy-*` fields have
/// gone before.
static HOP: [(Names, HeaderName); 8] = [
    (Names::CONNECTION, header::CONNECTION),
    (Names::KEEP_ALIVE, HeaderName::from_static("keep-alive")),
    (Names::CODING, header::TRANSFER_ENCODING),
    (Names::TE, header::TE),
    (Names::UPGRADE, header::UPGRADE),
    (Names::PROXY, HeaderName::from_static("proxy-connection")),
    (Names::PROXY, header::PROXY_AUTHENTICATE),
    (Names::PROXY, HeaderName::from_static("proxy-authentication-info")),
];

fn remove_those(headers: &mut HeaderMap, go: impl Fn(Names) -> bool) {
    for (_, name) in HOP.iter().filter(|(as_name, _)| go(*as_name)) {
        headers.remove(name);
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
/// `keep_upgrade`. Cost: a look-up for each that is there; a list is built only when `Connection` names fields.
pub fn remove(headers: &mut HeaderMap, names: Names, keep_upgrade: bool) {
    remove_named(headers, names);
    let trailers = names.any(Names::TE) && fields::has(headers, &header::TE, "trailers");
    remove_those(headers, |one| names.any(one) && !(keep_upgrade && one == Names::UPGRADE));
    if trailers {
        headers.insert(header::TE, HeaderValue::from_static("trailers"));
    }
}

/// Removes hop-by-hop fields from an answer's head. Cost: as for [`remove`].
pub fn remove_from_answer(headers: &mut HeaderMap, names: Names) {
    remove_named(headers, names);
    remove_those(headers, |one| names.any(one));
}

fn remove_named(headers: &mut HeaderMap, names: Names) {
    // What nearly every origin says names a field that ends here anyway.
    if !names.any(Names::CONNECTION) || only_keeps_alive(headers) {
        return;
    }
    for name in named(headers) {
        headers.remove(name);
    }
}

/// Whether `Connection` says `keep-alive` and no more, or is not there.
#[must_use]
pub fn only_keeps_alive(headers: &HeaderMap) -> bool {
    let mut options = headers.get_all(header::CONNECTION).iter();
    options.next().is_none_or(|first| first.as_bytes().eq_ignore_ascii_case(b"keep-alive"))
        && options.next().is_none()
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
        remove(&mut map, Names::ALL, false);
        assert_eq!(map, headers(&[("x-three", "3")]));
    }

    /// Most answers say `keep-alive` and no more; what a second line names ends here all the same.
    #[test]
    fn a_second_connection_line_is_read_too() {
        let mut map = headers(&[("connection", "Keep-Alive"), ("x-one", "1")]);
        map.append("connection", HeaderValue::from_static("x-one"));
        let mut alone = headers(&[("connection", "Keep-Alive"), ("keep-alive", "timeout=5"), ("x-one", "1")]);
        remove_from_answer(&mut map, Names::ALL);
        remove_from_answer(&mut alone, Names::ALL);
        assert_eq!((map.len(), alone), (0, headers(&[("x-one", "1")])));
    }

    /// Every field of the list is found by its name.
    #[test]
    fn all_hop_by_hop_fields_leave_an_answer() {
        for (_, name) in &HOP {
            let mut map = HeaderMap::from_iter([(name.clone(), HeaderValue::from_static("a"))]);
            let names = Names::of_answer(&map);
            remove_from_answer(&mut map, names);
            assert!(map.is_empty(), "{name}");
        }
    }

    /// RFC 9110, 7.6.1 forbids naming end-to-end fields: a client cannot make us drop the signal or what we rely on.
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
        remove(&mut map, Names::ALL, false);
        assert_eq!(map.len(), 4);
        assert_eq!(map["sec-gpc"], "1");
    }

    /// RFC 9110, 10.1.4.
    #[test]
    fn only_trailers_stay_in_te() {
        let mut map = headers(&[("te", "gzip, Trailers"), ("connection", "te")]);
        remove(&mut map, Names::ALL, false);
        assert_eq!(map["te"], "trailers");
        let mut map = headers(&[("te", "gzip")]);
        remove(&mut map, Names::ALL, false);
        assert!(map.is_empty());
    }

    #[test]
    fn upgrade_stays_only_when_a_tunnel_is_wanted() {
        let mut map = headers(&[("upgrade", "websocket"), ("connection", "Upgrade")]);
        assert!(connection_has(&map, "upgrade"));
        remove(&mut map, Names::ALL, true);
        assert_eq!(map["upgrade"], "websocket");
        remove(&mut map, Names::ALL, false);
        assert!(map.is_empty());
    }
}
