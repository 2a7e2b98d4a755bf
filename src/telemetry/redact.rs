//! What may be said about a person: an address loses its tail, a target loses its query.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// An address with its host part zeroed: /24 for IPv4, /48 for IPv6.
#[must_use]
pub fn address(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(v4) => {
            let [a, b, c, _] = v4.octets();
            Ipv4Addr::new(a, b, c, 0).into()
        }
        IpAddr::V6(v6) => {
            let [a, b, c, ..] = v6.segments();
            Ipv6Addr::new(a, b, c, 0, 0, 0, 0, 0).into()
        }
    }
}

/// Longest path written, characters.
const MAX_PATH: usize = 512;

/// A path fit for a log line: no query, control bytes and quotes replaced, cut at 512 characters.
///
/// Cost: a copy where nothing of that is in it, which is nearly always.
#[must_use]
pub fn path(path: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_graphic() && !matches!(byte, b'?' | b'#' | b'"' | b'\\');
    if path.len() <= MAX_PATH && path.bytes().all(plain) {
        return path.to_owned();
    }
    let path = path.split(['?', '#']).next().unwrap_or_default();
    let fit = |c: char| if c.is_control() || c == '"' || c == '\\' { '?' } else { c };
    let mut fitting: String = path.chars().take(MAX_PATH).map(fit).collect();
    if path.chars().nth(MAX_PATH).is_some() {
        fitting.push_str("...");
    }
    fitting
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_lose_their_tail() {
        assert_eq!(address("203.0.113.77".parse().unwrap()).to_string(), "203.0.113.0");
        assert_eq!(address("2001:db8:1:2::3".parse().unwrap()).to_string(), "2001:db8:1::");
    }

    /// A log line cannot be forged through a path, and a query never appears.
    #[test]
    fn paths_lose_query_and_control_bytes() {
        assert_eq!(path("/a?email=x@y"), "/a");
        assert_eq!(path("/a/b.html#c"), "/a/b.html");
        assert_eq!(path("/a\n\"b\\"), "/a??b?");
        assert_eq!(path(&"x".repeat(600)).len(), 515);
    }
}
