//! Which of the fields that the steps look for a head has: one pass over its names, in place of a look-up for each.

use http::HeaderMap;

/// A set of fields that a head may have. A field that is not in it is not in the head, unless somebody put it there
/// since; one that is may have gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Names(u32);

impl Names {
    /// Nothing that is asked for.
    pub const NONE: Self = Self(0);
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
    /// `Proxy-*` fields of an answer that end at a hop; in a request they are claims.
    pub const PROXY: Self = Self(1 << 18);
    /// What only we and trusted proxies may say, by its first letters or an underscore; others begin like that too.
    pub const CLAIM: Self = Self(1 << 19);

    /// `Sec-Purpose` and its older name.
    pub const PURPOSE: Self = Self(1 << 20);
    /// `Alt-Svc`.
    pub const ALTERNATIVES: Self = Self(1 << 21);

    /// The names of a request's head. Cost: one pass over them.
    #[must_use]
    pub fn of(headers: &HeaderMap) -> Self {
        headers.keys().fold(Self::NONE, |found, name| found.or(Self::asked(name.as_str())))
    }

    /// The names of an answer's head: what ends at a hop, `Set-Cookie` and `Alt-Svc`. Cost: as above.
    #[must_use]
    pub fn of_answer(headers: &HeaderMap) -> Self {
        headers.keys().fold(Self::NONE, |found, name| found.or(Self::answered(name.as_str())))
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

    /// One name of a request. The lengths spare most of the comparisons.
    fn asked(name: &str) -> Self {
        match (name.len(), name) {
            (2, "te") => Self::TE,
            (3, "via") => Self::VIA,
            (6, "cookie") => Self::COOKIE,
            (6, "accept") => Self::ACCEPT,
            (6, "expect") => Self::EXPECT,
            (6, "x-pjax") | (10, "hx-request") | (11, "turbo-frame") => Self::BY_SCRIPT,
            (7, "upgrade") => Self::UPGRADE,
            (7, "sec-gpc") => Self::SIGNAL,
            (7, "purpose") | (11, "sec-purpose") => Self::PURPOSE,
            (10, "connection") => Self::CONNECTION,
            (10, "keep-alive") => Self::KEEP_ALIVE,
            (13, "if-none-match") | (17, "if-modified-since") => Self::CONDITION,
            (14, "content-length") => Self::LENGTH,
            (14, "sec-fetch-dest") => Self::DESTINATION,
            (14, "service-worker") => Self::WORKER,
            (15, "accept-encoding") => Self::ACCEPT_ENCODING,
            (16, "x-requested-with") => Self::REQUESTED_WITH,
            (17, "transfer-encoding") => Self::CODING,
            // What every browser sends and nobody here asks for.
            (4, "host") | (7, "referer") | (10, "user-agent") => Self::NONE,
            (14, "sec-fetch-mode" | "sec-fetch-site") | (15, "accept-language") => Self::NONE,
            _ => Self::claimed(name.as_bytes()),
        }
    }

    fn claimed(name: &[u8]) -> Self {
        match name {
            [b'o', b'p', ..] | [b'p', b'r', b'o', ..] | [b'x', b'-', ..] => Self::CLAIM,
            [b'c', b'f' | b'l', ..] | [b'f', b'a' | b'o' | b'r', ..] | [b't', b'r', ..] => Self::CLAIM,
            other if other.contains(&b'_') => Self::CLAIM,
            _ => Self::NONE,
        }
    }

    /// One name of an answer.
    fn answered(name: &str) -> Self {
        match (name.len(), name) {
            (2, "te") => Self::TE,
            (7, "upgrade") => Self::UPGRADE,
            (7, "alt-svc") => Self::ALTERNATIVES,
            (10, "connection") => Self::CONNECTION,
            (10, "keep-alive") => Self::KEEP_ALIVE,
            (10, "set-cookie") => Self::SET_COOKIE,
            (16, "proxy-connection") | (18, "proxy-authenticate") => Self::PROXY,
            (17, "transfer-encoding") => Self::CODING,
            (25, "proxy-authentication-info") => Self::PROXY,
            _ => Self::NONE,
        }
    }
}

#[cfg(test)]
mod tests {
    use http::{HeaderName, HeaderValue};

    use super::*;

    fn head(name: &str) -> HeaderMap {
        HeaderMap::from_iter([(HeaderName::try_from(name).unwrap(), HeaderValue::from_static("1"))])
    }

    #[test]
    fn a_field_is_found_by_its_name_in_whatever_case_and_no_other_with_it() {
        assert_eq!(Names::of(&head("Cookie")), Names::COOKIE);
        assert_eq!(Names::of(&head("If-Modified-Since")), Names::CONDITION);
        for other in ["host", "user-agent", "accept-language", "cookie2", "sec-gpc2", "content-type", "date"]
        {
            assert_eq!(Names::of(&head(other)), Names::NONE, "{other}");
            assert_eq!(Names::of_answer(&head(other)), Names::NONE, "{other}");
        }
    }

    /// A name under a wrong length would never be found.
    #[test]
    fn all_that_is_asked_for_has_a_name_of_its_own() {
        let requests = [
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
            "sec-purpose",
        ];
        let answers = [
            "connection",
            "te",
            "upgrade",
            "transfer-encoding",
            "keep-alive",
            "set-cookie",
            "proxy-connection",
        ];
        let one_each = |names: &[&str], of: fn(&HeaderMap) -> Names| {
            let mut all = Names::NONE;
            for name in names {
                let found = of(&head(name));
                assert!(found != Names::NONE && found != Names::CLAIM && !all.any(found), "{name}");
                all = all.or(found);
            }
        };
        one_each(&requests, Names::of);
        one_each(&answers, Names::of_answer);
        for name in ["hx-request", "turbo-frame"] {
            assert_eq!(Names::of(&head(name)), Names::BY_SCRIPT, "{name}");
        }
        assert_eq!(Names::of(&head("purpose")), Names::PURPOSE);
        for name in ["proxy-authenticate", "proxy-authentication-info"] {
            assert_eq!(Names::of_answer(&head(name)), Names::PROXY, "{name}");
            assert_eq!(Names::of(&head(name)), Names::CLAIM, "{name}");
        }
    }
}
