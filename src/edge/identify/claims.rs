//! Fields that only we, or proxies we trust, may send to an origin: from anybody else they are false claims.

use http::{HeaderMap, HeaderName};

use crate::edge::message::hop_by_hop;
use crate::enforce::fields;
use crate::enforce::names::Names;

/// Names by which applications take another address, host or target than the request's own. Browsers send
/// none of them; a front that does is in `trusted_proxies`.
const OVERRIDES: [&str; 18] = [
    "cf-connecting-ip",
    "client-ip",
    "fastly-client-ip",
    "forwarded",
    "front-end-https",
    "true-client-ip",
    "x-client-ip",
    "x-cluster-client-ip",
    "x-host",
    "x-http-host-override",
    "x-original-host",
    "x-original-url",
    "x-originating-ip",
    "x-real-ip",
    "x-remote-addr",
    "x-remote-ip",
    "x-rewrite-url",
    "x-url-scheme",
];

/// Deletes a client's claims. `trusted`: the peer may make those that are not about us.
///
/// Also `Proxy-*` and `Proxy`, which end here or are an attack (RFC 9110, 11.7; CVE-2016-5385), and names that
/// become one of ours where `_` and `-` are the same (CGI and its heirs). Cost: one pass over the names, where one of
/// them may be a claim.
pub fn delete(headers: &mut HeaderMap, names: Names, trusted: bool) {
    if names.any(Names::CLAIM) {
        fields::remove_where(headers, |name| is_claim(name, trusted));
    }
}

/// Deletes the field by which a trusted hop names an account, sent by somebody else: an origin that believes it would take
/// them for that account's owner. Names that become it where `_` and `-` are the same go as well.
pub fn delete_account(headers: &mut HeaderMap, field: &HeaderName) {
    let same = |a: u8, b: u8| a == b || matches!((a, b), (b'_' | b'-', b'_' | b'-'));
    let field = field.as_str().as_bytes();
    let is_it = |name: &str| name.len() == field.len() && name.bytes().zip(field).all(|(a, b)| same(a, *b));
    fields::remove_where(headers, is_it);
}

fn is_claim(name: &str, trusted: bool) -> bool {
    match name.as_bytes() {
        [b'o', ..] if name.starts_with("optgate-") => true,
        [b'p', ..] if name == "proxy" || name.starts_with("proxy-") => true,
        [b'x' | b'c' | b'f' | b't', ..] if !trusted && is_override(name) => true,
        _ => name.as_bytes().contains(&b'_') && is_twin(name),
    }
}

fn is_override(name: &str) -> bool {
    name.starts_with("x-forwarded-") || OVERRIDES.binary_search(&name).is_ok()
}

/// Whether a name with `_` is read as one that says something of ours.
fn is_twin(name: &str) -> bool {
    let dashed = name.replace('_', "-");
    hop_by_hop::is_protected(&dashed)
        || is_override(&dashed)
        || dashed == "proxy"
        || ["transfer-encoding", "connection", "upgrade", "te"].contains(&dashed.as_str())
        || ["proxy-", "sec-"].iter().any(|start| dashed.starts_with(start))
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn left(names: &[&str], trusted: bool) -> Vec<String> {
        let mut map = HeaderMap::new();
        for name in names {
            map.append(HeaderName::try_from(*name).unwrap(), HeaderValue::from_static("1"));
        }
        let found = Names::of(&map);
        delete(&mut map, found, trusted);
        let mut left: Vec<_> = map.keys().map(|name| name.as_str().to_owned()).collect();
        left.sort();
        left
    }

    /// Else anybody could be anybody to the origin, or ask it for another path than we judged.
    #[test]
    fn strangers_claims_go_and_trusted_ones_stay() {
        let names = [
            "x-forwarded-prefix",
            "x-original-url",
            "forwarded",
            "x-own",
            "optgate-decision",
            "proxy",
            "api_key",
        ];
        assert_eq!(left(&names, false), ["api_key", "x-own"]);
        assert_eq!(
            left(&names, true),
            ["api_key", "forwarded", "x-forwarded-prefix", "x-original-url", "x-own"]
        );
    }

    /// Many origins read `_` as `-`: such a field is taken for the one that we write ourselves.
    #[test]
    fn twins_with_underscores_go_whoever_sends_them() {
        let names =
            ["x_forwarded_for", "sec_gpc", "optgate_decision", "x-forwarded_for", "content_length", "a_b"];
        assert_eq!(left(&names, true), ["a_b"]);
    }

    /// Nothing that must go is passed over for its first letters.
    #[test]
    fn every_claim_alone_is_found() {
        let others =
            ["optgate-explain", "proxy", "proxy-authorization", "proxy-authenticate", "x-forwarded-a", "te_"];
        let twins = OVERRIDES.map(|name| name.replacen('-', "_", 1));
        let twins = twins.iter().filter(|name| name.contains('_')).map(String::as_str);
        for name in OVERRIDES.into_iter().chain(others).chain(twins) {
            assert_eq!(left(&[name], false).is_empty(), is_claim(name, false), "{name}");
        }
    }

    #[test]
    fn the_list_is_sorted() {
        assert!(OVERRIDES.is_sorted());
    }
}
