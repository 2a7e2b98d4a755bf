//! Who the client is.
//!
//! Forwarding fields are believed only from `trusted_proxies`: the client is the right-most address
//! that is not trusted.

use std::net::IpAddr;

use http::header::{self, HeaderMap, HeaderName};
use ipnet::IpNet;

use crate::enforce::fields;

pub(super) static X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
pub(super) static X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");

/// The client behind a request, as far as trusted peers say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Client {
    /// Its address.
    pub address: IpAddr,
    /// The effective scheme is https.
    pub secure: bool,
    /// The peer we talk to is a trusted proxy.
    pub peer_trusted: bool,
}

/// Finds the client: right-most untrusted address of `X-Forwarded-For`, if the peer is trusted.
///
/// `tls`: the connection to us is TLS. Cost with an untrusted peer: one range check for each trusted range.
#[must_use]
pub fn find(headers: &HeaderMap, peer: IpAddr, tls: bool, trusted: &[IpNet]) -> Client {
    let peer = peer.to_canonical();
    if !is_in(trusted, peer) {
        return Client { address: peer, secure: tls, peer_trusted: false };
    }
    let (mut address, mut hops) = (peer, 0);
    'fields: for value in headers.get_all(&X_FORWARDED_FOR).iter().rev() {
        let Ok(text) = value.to_str() else { break };
        for hop in text.rsplit(',') {
            let Some(hop) = parse_hop(hop.trim()) else { break 'fields };
            (address, hops) = (hop, hops + 1);
            if !is_in(trusted, hop) {
                break 'fields;
            }
        }
    }
    let secure = proto_of(headers, hops).map_or(tls, |proto| proto.eq_ignore_ascii_case(b"https"));
    Client { address, secure, peer_trusted: true }
}

/// The scheme by which the client came, where so many hops of `X-Forwarded-For` lead to it. Proxies that append give a
/// list: what stands further left than the client's own hop is a word of the client's. A proxy that sets the field gives one.
fn proto_of(headers: &HeaderMap, hops: usize) -> Option<&[u8]> {
    let values = headers.get_all(&X_FORWARDED_PROTO).iter().rev();
    let protos = values.flat_map(|value| value.as_bytes().rsplit(|b| *b == b','));
    protos.take(hops.max(1)).last().map(<[u8]>::trim_ascii)
}

/// Whether an address is in one of these ranges.
#[must_use]
pub fn is_in(ranges: &[IpNet], address: IpAddr) -> bool {
    ranges.iter().any(|range| range.contains(&address))
}

/// An address of a forwarding field: bare, with port, or in brackets.
pub(super) fn parse_hop(text: &str) -> Option<IpAddr> {
    let bracketed = text.strip_prefix('[').and_then(|rest| rest.split_once(']')).map(|(inner, _)| inner);
    let bare = bracketed.unwrap_or(text);
    let parsed = bare.parse().ok().or_else(|| bare.rsplit_once(':').and_then(|(host, _)| host.parse().ok()));
    parsed.map(|address: IpAddr| address.to_canonical())
}

/// How often a request has been here, or in front of another of this program, as `Via` says.
///
/// Cost: nothing without the field.
#[must_use]
pub fn passes(headers: &HeaderMap) -> usize {
    fields::items(headers, &header::VIA).filter(|hop| hop.ends_with(" optgate")).count()
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn trusted() -> Vec<IpNet> {
        vec!["10.0.0.0/8".parse().unwrap(), "::1/128".parse().unwrap()]
    }

    fn headers(fields: &[(&'static str, &'static str)]) -> HeaderMap {
        let mut map = HeaderMap::new();
        for (name, value) in fields {
            map.append(*name, HeaderValue::from_static(value));
        }
        map
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    /// Else anybody could be anybody: forwarding fields are believed of trusted peers only.
    #[test]
    fn a_stranger_cannot_claim_an_address_or_a_scheme() {
        let map = headers(&[("x-forwarded-for", "1.2.3.4"), ("x-forwarded-proto", "https")]);
        let client = find(&map, ip("203.0.113.9"), false, &trusted());
        assert_eq!(client, Client { address: ip("203.0.113.9"), secure: false, peer_trusted: false });
    }

    #[test]
    fn the_right_most_untrusted_address_is_the_client() {
        let map = headers(&[
            ("x-forwarded-for", "6.6.6.6, 203.0.113.7"),
            ("x-forwarded-for", "10.1.1.1"),
            ("x-forwarded-proto", "HTTPS, http"),
        ]);
        let client = find(&map, ip("10.0.0.1"), false, &trusted());
        assert_eq!(client, Client { address: ip("203.0.113.7"), secure: true, peer_trusted: true });
    }

    #[test]
    fn addresses_are_read_with_ports_and_brackets_and_garbage_ends_the_walk() {
        assert_eq!(parse_hop("1.2.3.4:80"), Some(ip("1.2.3.4")));
        assert_eq!(parse_hop("[2001:db8::1]:443"), Some(ip("2001:db8::1")));
        assert_eq!(parse_hop("2001:db8::1"), Some(ip("2001:db8::1")));
        assert_eq!(parse_hop("::ffff:1.2.3.4"), Some(ip("1.2.3.4")));
        assert_eq!(parse_hop("unknown"), None);
        let map = headers(&[("x-forwarded-for", "1.1.1.1, unknown, 10.9.9.9")]);
        assert_eq!(find(&map, ip("10.0.0.1"), false, &trusted()).address, ip("10.9.9.9"));
    }

    /// A client that says `https` itself to a proxy that appends has not come so.
    #[test]
    fn the_scheme_is_the_one_of_the_clients_own_hop() {
        for (forwarded_for, proto, secure) in [
            (Some("203.0.113.7"), "https", true),
            (Some("203.0.113.7"), "https, http", false),
            (Some("203.0.113.7, 10.0.0.2"), "https, http", true),
            (Some("203.0.113.7, 10.0.0.2"), "https, http, https", false),
            (Some("203.0.113.7, 10.0.0.2"), "HTTPS", true),
            (None, "https", true),
            (None, "https,http", false),
        ] {
            let mut map = HeaderMap::new();
            if let Some(forwarded_for) = forwarded_for {
                map.insert(&X_FORWARDED_FOR, HeaderValue::from_str(forwarded_for).unwrap());
            }
            map.insert(&X_FORWARDED_PROTO, HeaderValue::from_str(proto).unwrap());
            let client = find(&map, ip("10.0.0.1"), false, &trusted());
            assert_eq!(client.secure, secure, "{forwarded_for:?} {proto}");
        }
    }
}
