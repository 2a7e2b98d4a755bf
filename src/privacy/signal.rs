//! Step 3: every input of a request, read once.

use http::header::{COOKIE, HeaderMap, HeaderName};

use super::cookie::{self, OwnCookie};
use super::gpp;
use super::keys::Keys;
use super::marks::{self, Heard};

static SEC_GPC: HeaderName = HeaderName::from_static("sec-gpc");

/// What is known about the account, or the profile, that a request names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Standing {
    /// The request names none.
    #[default]
    NoAccount,
    /// It has no record.
    Unknown,
    /// It opted out.
    OptedOut,
    /// It was opted out by an import.
    OptedOutByImport,
    /// It opted back in, explicitly and last.
    OptedIn,
    /// It opted back in, and a signal after that opted it out again: it is opted out, and the person may want to know
    /// of the conflict (11 CCR 7025(c)(3)). A choice of the person's own ends it.
    Overruled,
    /// It opted out, and by its own word keeps what a programme of the site does (11 CCR 7025(c)(4)). Where the site
    /// has none, it is opted out like any other.
    Programme,
    /// The index is not loaded yet: counts as opted out.
    NotLoaded,
}

/// All signals of one request. Small and `Copy`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Signals {
    /// `Sec-GPC: 1` was sent.
    pub gpc: bool,
    /// Our own cookie.
    pub own: OwnCookie,
    /// A consent platform's cookie says opted out.
    pub foreign: bool,
    /// A cookie whose name begins like ours was sent: ours, or a mark of ours.
    pub ours: bool,
    /// The account's standing; filled in by the look-up (step 4).
    pub account: Standing,
    /// The profile's, the same.
    pub profile: Standing,
}

impl Standing {
    /// For operators: one word.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::NoAccount => "none",
            Self::Unknown => "unknown",
            Self::OptedOut => "out",
            Self::OptedOutByImport => "out-by-import",
            Self::OptedIn => "in",
            Self::Overruled => "out-by-signal",
            Self::Programme => "programme",
            Self::NotLoaded => "not-loaded",
        }
    }

    /// Whether it counts as opted out.
    #[must_use]
    pub const fn is_out(self) -> bool {
        matches!(
            self,
            Self::OptedOut | Self::OptedOutByImport | Self::Overruled | Self::Programme | Self::NotLoaded
        )
    }
}

impl Signals {
    /// Nothing was sent.
    pub const NONE: Self = Self {
        gpc: false,
        own: OwnCookie::Absent,
        foreign: false,
        ours: false,
        account: Standing::NoAccount,
        profile: Standing::NoAccount,
    };

    /// Reads the signals of a request head; `account` and `profile` stay [`Standing::NoAccount`].
    ///
    /// Cost: one header look-up, and one pass over `Cookie` when it was sent. No allocation unless
    /// a consent cookie needs percent-decoding.
    #[must_use]
    pub fn read(headers: &HeaderMap, keys: &Keys) -> Self {
        let mut signals = Self { gpc: read_sec_gpc(headers), ..Self::NONE };
        signals.hear_cookies(headers, keys);
        signals
    }

    fn hear_cookies(&mut self, headers: &HeaderMap, keys: &Keys) {
        let mut heard = Heard::default();
        for field in headers.get_all(COOKIE) {
            for (name, value) in cookie_pairs(field.as_bytes()) {
                self.ours |= name.starts_with(cookie::NAME.as_bytes());
                if name == cookie::NAME.as_bytes() {
                    self.own = stronger(self.own, OwnCookie::read(value, keys));
                } else {
                    heard.hear(name, value);
                    self.foreign |= foreign_says_out(name, value);
                }
            }
        }
        self.foreign |= heard.foreign();
    }
}

/// Reads the `Sec-GPC` fields of a request head.
///
/// Only a field whose value is exactly `1`, after optional white space, counts; one such field
/// among several is enough (W3C GPC, "The Sec-GPC Header Field for HTTP Requests"). Fields are
/// never joined. Anything else is as if absent.
#[must_use]
pub fn read_sec_gpc(headers: &HeaderMap) -> bool {
    headers.get_all(&SEC_GPC).iter().any(|value| {
        let mut bytes = value.as_bytes();
        while let [b' ' | b'\t', rest @ ..] | [rest @ .., b' ' | b'\t'] = bytes {
            bytes = rest;
        }
        bytes == b"1"
    })
}

/// Whether a `Sec-GPC` field was sent that does not count (for the counter of malformed signals).
#[must_use]
pub fn sec_gpc_is_malformed(headers: &HeaderMap) -> bool {
    headers.contains_key(&SEC_GPC) && !read_sec_gpc(headers)
}

/// The pieces of a `Cookie` field between its semicolons. Found by `memchr`: fields of a thousand bytes are usual.
pub fn cookie_pieces(field: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = Some(field);
    std::iter::from_fn(move || {
        let left = rest?;
        let end = memchr::memchr(b';', left);
        rest = end.map(|end| &left[end + 1..]);
        Some(&left[..end.unwrap_or(left.len())])
    })
}

/// Splits a `Cookie` field into name and value; names are trimmed, values lose surrounding quotes.
pub fn cookie_pairs(field: &[u8]) -> impl Iterator<Item = (&[u8], &[u8])> {
    cookie_pieces(field).filter_map(|pair| {
        let pair = pair.trim_ascii();
        let at = memchr::memchr(b'=', pair)?;
        let value = pair[at + 1..].trim_ascii();
        let value = match value {
            [b'"', inner @ .., b'"'] => inner,
            bare => bare,
        };
        Some((pair[..at].trim_ascii(), value))
    })
}

/// Of two cookies of our name (a page can plant a second one) the protective one counts.
const fn stronger(a: OwnCookie, b: OwnCookie) -> OwnCookie {
    match (a, b) {
        (OwnCookie::Out(month), OwnCookie::Out(other)) => {
            OwnCookie::Out(if month > other { month } else { other })
        }
        (OwnCookie::Out(_), _) | (_, OwnCookie::Absent) => a,
        (_, OwnCookie::Out(_)) | (OwnCookie::Absent, _) => b,
        (OwnCookie::In(_), _) => a,
        _ => b,
    }
}

/// Whether a consent platform's cookie that we never write whole says opted out. It may only add an
/// opt-out; the others are heard in [`marks`].
fn foreign_says_out(name: &[u8], value: &[u8]) -> bool {
    match name {
        b"__gpp" | b"gppString" => gpp::says_opted_out(value),
        b"OptanonConsent" => onetrust_says_out(value),
        _ => false,
    }
}

/// OneTrust's `OptanonConsent`: `isGpcEnabled=1` (once percent-decoded), unless we turned it.
///
/// Its advertising groups are numbered by the site, so they are read only where the site says which
/// they are; a group that is off because nobody answered yet is no opt-out.
fn onetrust_says_out(value: &[u8]) -> bool {
    let plain =
        |text: &[u8]| text.split(|&b| b == b'&').any(|pair| pair == b"isGpcEnabled=1") && !turned_by_us(text);
    plain(value) || (value.contains(&b'%') && plain(&percent_decode(value)))
}

fn turned_by_us(text: &[u8]) -> bool {
    std::str::from_utf8(text)
        .ok()
        .and_then(marks::optanon_mark)
        .is_some_and(|(_, turned)| turned.contains(&"gpc"))
}

/// Decodes `%XX`; anything else stays as it is.
fn percent_decode(value: &[u8]) -> Vec<u8> {
    let hex = |b: u8| (b as char).to_digit(16).map(|d| d as u8);
    let (mut out, mut rest) = (Vec::with_capacity(value.len()), value);
    while let [first, tail @ ..] = rest {
        rest = tail;
        if let (b'%', [high, low, after @ ..]) = (first, tail)
            && let (Some(h), Some(l)) = (hex(*high), hex(*low))
        {
            out.push(h << 4 | l);
            rest = after;
        } else {
            out.push(*first);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;

    #[test]
    fn a_field_falls_apart_at_every_semicolon() {
        for field in ["", ";", "a=1", "a=1;", ";a=1;;b", "a=1; b=\"2\" ;c ", ";;;"] {
            let pieces: Vec<_> = cookie_pieces(field.as_bytes()).collect();
            assert_eq!(pieces, field.as_bytes().split(|b| *b == b';').collect::<Vec<_>>(), "{field}");
        }
    }

    fn headers(fields: &[(&'static str, &'static str)]) -> HeaderMap {
        let mut map = HeaderMap::new();
        for (name, value) in fields {
            map.append(*name, HeaderValue::from_static(value));
        }
        map
    }

    fn read(fields: &[(&'static str, &'static str)]) -> Signals {
        Signals::read(&headers(fields), &Keys::derive(b"k"))
    }

    /// W3C GPC: unless a value is exactly `1`, the field is ignored.
    #[test]
    fn only_the_exact_value_one_is_a_signal() {
        for yes in ["1", " 1", "1\t"] {
            assert!(read(&[("sec-gpc", yes)]).gpc, "{yes:?}");
        }
        for no in ["0", "true", "\"1\"", "1, 1", "1;x", "", "11", "01"] {
            let map = headers(&[("sec-gpc", no)]);
            assert!(!read_sec_gpc(&map), "{no:?}");
            assert!(sec_gpc_is_malformed(&map), "{no:?}");
        }
        assert!(!sec_gpc_is_malformed(&HeaderMap::new()));
    }

    /// W3C GPC: of several field lines one exact `1` is enough.
    #[test]
    fn one_exact_field_among_several_is_enough() {
        assert!(read(&[("sec-gpc", "0"), ("sec-gpc", "1"), ("sec-gpc", "x")]).gpc);
    }

    #[test]
    fn consent_cookies_add_an_opt_out() {
        for yes in [
            "a=b; usprivacy=1YYN",
            "OptanonConsent=isGpcEnabled=1&datestamp=x",
            "OptanonConsent=isGpcEnabled%3D1%26x",
            "OneTrustWPCCPAGoogleOptOut=true",
            "OTGPPConsent=DBABLA~CVQVAAAAAACA.QA",
            "usprivacy=\"1YYN\"",
        ] {
            assert!(read(&[("cookie", yes)]).foreign, "{yes}");
        }
        for no in [
            "optgate-said-u=-; usprivacy=1YYN",
            "OptanonConsent=isGpcEnabled=1&x=%26&optgate=!gpc!C0004",
            "usprivacy=1YNN",
            "OptanonConsent=isGpcEnabled=0",
            "xusprivacy=1YYN",
            "usprivacy",
            "",
        ] {
            assert!(!read(&[("cookie", no)]).foreign, "{no}");
        }
    }

    /// HTTP/2 may split `Cookie` into crumbs (RFC 9113, 8.2.3).
    #[test]
    fn cookies_are_read_across_field_lines() {
        let signals =
            read(&[("cookie", "a=1"), ("cookie", "optgate=v1.out.202601.x"), ("cookie", "usprivacy=1YYN")]);
        assert_eq!(signals.own, OwnCookie::Out(OwnCookie::ANEW));
        assert!(signals.foreign);
    }

    #[test]
    fn a_planted_second_cookie_cannot_hide_an_opt_out() {
        let keys = Keys::derive(b"k");
        let field = format!("optgate={}; optgate=v1.out", cookie::value_in(202_611, &keys));
        let mut map = HeaderMap::new();
        map.insert("cookie", HeaderValue::from_str(&field).unwrap());
        assert_eq!(Signals::read(&map, &keys).own, OwnCookie::Out(OwnCookie::ANEW));
    }
}
