//! Which of the fields that the steps look for a head has: one pass over its names, in place of a look-up for each.

use http::HeaderMap;

/// A set of fields that a head may have. A field that is not in it is not in the head, unless somebody put it there
/// since; one that is may have gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Names(u32);

impl Names {
    /// Whatever there may be.
    pub const ALL: Self = Self(u32::MAX);

    /// `Connection`.
    pub const CONNECTION: Self = Self(1);
    /// `TE`.
    pub const TE: Self = Self(1 << 1);
    /// `Upgrade`.
    pub const UPGRADE: Self = Self(1 << 2);
    /// `Transfer-Encoding`.
    pub const CODING: Self = Self(1 << 3);
    /// `Keep-Alive`.
    pub const KEEP_ALIVE: Self = Self(1 << 4);
    /// `Content-Length`.
    pub const LENGTH: Self = Self(1 << 5);
    /// `Expect`.
    pub const EXPECT: Self = Self(1 << 6);
    /// `Via`.
    pub const VIA: Self = Self(1 << 7);
    /// `Cookie`.
    pub const COOKIE: Self = Self(1 << 8);
    /// `Sec-GPC`.
    pub const SIGNAL: Self = Self(1 << 9);
    /// `Sec-Fetch-Dest`.
    pub const DESTINATION: Self = Self(1 << 10);
    /// `Service-Worker`.
    pub const WORKER: Self = Self(1 << 11);
    /// What the libraries that fetch fragments send.
    pub const BY_SCRIPT: Self = Self(1 << 12);
    /// `X-Requested-With`.
    pub const REQUESTED_WITH: Self = Self(1 << 13);
    /// `Accept`.
    pub const ACCEPT: Self = Self(1 << 14);
    /// `Accept-Encoding`.
    pub const ACCEPT_ENCODING: Self = Self(1 << 15);
    /// `If-None-Match` and `If-Modified-Since`.
    pub const CONDITION: Self = Self(1 << 16);
    /// `Set-Cookie`.
    pub const SET_COOKIE: Self = Self(1 << 17);
    /// `Proxy-*` fields that end at a hop.
    pub const PROXY: Self = Self(1 << 18);
    /// What only we and trusted proxies may say, by its first letters or an underscore; others begin like that too.
    pub const CLAIM: Self = Self(1 << 19);

    /// The names of a head. Cost: one pass over them.
    #[must_use]
    pub fn of(headers: &HeaderMap) -> Self {
        headers.keys().fold(Self(0), |found, name| found.or(Self::one(name.as_str())))
    }

    /// Both together.
    #[must_use]
    pub const fn or(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Whether any of these fields may be there.
    #[must_use]
    pub const fn any(self, of: Self) -> bool {
        self.0 & of.0 != 0
    }

    fn one(name: &str) -> Self {
        match name {
            "connection" => Self::CONNECTION,
            "te" => Self::TE,
            "upgrade" => Self::UPGRADE,
            "transfer-encoding" => Self::CODING,
            "keep-alive" => Self::KEEP_ALIVE,
            "content-length" => Self::LENGTH,
            "expect" => Self::EXPECT,
            "via" => Self::VIA,
            "cookie" => Self::COOKIE,
            "sec-gpc" => Self::SIGNAL,
            "sec-fetch-dest" => Self::DESTINATION,
            "service-worker" => Self::WORKER,
            "turbo-frame" | "hx-request" | "x-pjax" => Self::BY_SCRIPT,
            "x-requested-with" => Self::REQUESTED_WITH,
            "accept" => Self::ACCEPT,
            "accept-encoding" => Self::ACCEPT_ENCODING,
            "if-none-match" | "if-modified-since" => Self::CONDITION,
            "set-cookie" => Self::SET_COOKIE,
            "proxy-connection" | "proxy-authenticate" | "proxy-authentication-info" => {
                Self::PROXY.or(Self::CLAIM)
            }
            _ => match name.as_bytes() {
                [b'o', b'p', ..] | [b'p', b'r', b'o', ..] | [b'x', b'-', ..] => Self::CLAIM,
                [b'c', b'f' | b'l', ..] | [b'f', b'a' | b'o' | b'r', ..] | [b't', b'r', ..] => Self::CLAIM,
                other if other.contains(&b'_') => Self::CLAIM,
                _ => Self(0),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use http::{HeaderName, HeaderValue};

    use super::*;

    fn of(name: &str) -> Names {
        Names::of(&HeaderMap::from_iter([(
            HeaderName::try_from(name).unwrap(),
            HeaderValue::from_static("1"),
        )]))
    }

    #[test]
    fn a_field_is_found_by_its_name_in_whatever_case_and_no_other_with_it() {
        assert_eq!(of("Cookie"), Names::COOKIE);
        assert_eq!(of("If-Modified-Since"), Names::CONDITION);
        for other in ["host", "user-agent", "accept-language", "cookie2", "sec-gpc2", "content-type", "date"]
        {
            assert_eq!(of(other), Names(0), "{other}");
        }
    }

    /// Each bit is one thing.
    #[test]
    fn all_that_is_asked_for_is_known_by_some_name() {
        let mut all = Names(0);
        for name in [
            "connection",
            "te",
            "upgrade",
            "transfer-encoding",
            "keep-alive",
            "content-length",
            "expect",
            "via",
            "cookie",
            "sec-gpc",
            "sec-fetch-dest",
            "service-worker",
            "x-pjax",
            "x-requested-with",
            "accept",
            "accept-encoding",
            "if-none-match",
            "set-cookie",
            "proxy-connection",
        ] {
            assert!(!all.any(of(name)), "{name}");
            all = all.or(of(name));
        }
        assert_eq!(all.or(Names::CLAIM).0.count_ones(), 20);
    }
}
