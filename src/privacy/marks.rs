//! Telling our own consent strings from other people's.
//!
//! For an opted-out visitor we write, or turn, cookies of consent platforms. They must not count later as
//! a platform's opt-out, or nobody could ever opt back in; and a platform's own opt-out must not be
//! lost because we wrote over it. So whoever writes leaves what stood there before:
//!
//! ```text
//! usprivacy=1YYN             optgate-said-u=1YNN       before us; `-`: nothing
//! OTGPPConsent=DB...         optgate-said-g=DB...
//! OneTrustWPCCPAGoogleOptOut optgate-said-t=false
//! OptanonConsent=...&optgate=example.com!gpc!C0004     its own mark: domain, and what was turned
//! ```
//!
//! A cookie in the form that we write, beside its mark, says what the mark says. In any other form, or
//! without a mark, it speaks for itself. A mark that is planted can hide a platform's cookie and no more,
//! and who can plant it can delete that cookie.

use http::HeaderMap;
use http::header::COOKIE;

use super::signal::cookie_pairs;
use super::{gpp, usp};

/// Every mark's name begins so.
pub const PREFIX: &str = "optgate-said-";

/// The mark left when there was nothing before.
pub const NOTHING: &str = "-";

/// Name of OneTrust's state, which carries its mark in itself.
pub const OPTANON: &str = "OptanonConsent";

/// A cookie that we write whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Words {
    /// The US Privacy string.
    UsPrivacy,
    /// OneTrust's GPP string.
    Gpp,
    /// OneTrust's switch for Google.
    Google,
}

impl Words {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::UsPrivacy, Self::Gpp, Self::Google];

    /// The cookie's name.
    #[must_use]
    pub const fn cookie(self) -> &'static str {
        match self {
            Self::UsPrivacy => "usprivacy",
            Self::Gpp => "OTGPPConsent",
            Self::Google => "OneTrustWPCCPAGoogleOptOut",
        }
    }

    /// The name of its mark.
    #[must_use]
    pub const fn mark(self) -> &'static str {
        match self {
            Self::UsPrivacy => "optgate-said-u",
            Self::Gpp => "optgate-said-g",
            Self::Google => "optgate-said-t",
        }
    }

    /// Whether a value is, byte for byte, one that we write.
    #[must_use]
    pub fn is_our_form(self, value: &[u8]) -> bool {
        match self {
            Self::UsPrivacy => value == usp::OPTED_OUT.as_bytes(),
            Self::Gpp => gpp::is_ours(value),
            Self::Google => value == b"true",
        }
    }

    /// Whether a value says opted out.
    #[must_use]
    pub fn says_out(self, value: &[u8]) -> bool {
        match self {
            Self::UsPrivacy => usp::says_opted_out(value),
            Self::Gpp => gpp::says_opted_out(value),
            Self::Google => value.eq_ignore_ascii_case(b"true"),
        }
    }
}

/// What the cookies of one request say, marks taken into account; they come in any order.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Heard {
    /// Somebody else's opt-out.
    foreign: bool,
    /// A cookie in our form was there.
    ours: [bool; 3],
    /// Its mark was there, and says so.
    marked: [Option<bool>; 3],
}

impl Heard {
    /// Takes in one cookie of a request.
    pub(super) fn hear(&mut self, name: &[u8], value: &[u8]) {
        for (at, words) in Words::ALL.into_iter().enumerate() {
            if name == words.cookie().as_bytes() {
                self.ours[at] |= words.is_our_form(value);
                self.foreign |= words.says_out(value) && !words.is_our_form(value);
            } else if name == words.mark().as_bytes() {
                self.marked[at] = Some(self.marked[at] == Some(true) || words.says_out(value));
            }
        }
    }

    /// Whether somebody else than us says opted out.
    pub(super) fn foreign(&self) -> bool {
        self.foreign || (0..3).any(|at| self.ours[at] && self.marked[at] != Some(false))
    }
}

/// The mark inside an `OptanonConsent` value: the cookie's domain (empty: host only), and what we turned.
#[must_use]
pub fn optanon_mark(value: &str) -> Option<(&str, Vec<&str>)> {
    let mark = value.split('&').find_map(|pair| pair.strip_prefix("optgate="))?;
    let mut parts = mark.split('!');
    Some((parts.next()?, parts.collect()))
}

/// The consent cookies of a request that we wrote or may write, in order.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ConsentCookies {
    /// Cookies of [`Words`]: which, and what it says.
    pub words: Vec<(Words, String)>,
    /// Marks that are there.
    pub marks: Vec<Words>,
    /// `OptanonConsent`, if it can be read.
    pub optanon: Option<String>,
    /// Shopify's state, set by our call.
    pub shopify: bool,
}

impl ConsentCookies {
    /// Reads them. No allocation where there are none.
    #[must_use]
    pub fn read(headers: &HeaderMap) -> Self {
        let mut found = Self::default();
        for (name, value) in headers.get_all(COOKIE).iter().flat_map(|field| cookie_pairs(field.as_bytes())) {
            let text = || String::from_utf8_lossy(value).into_owned();
            if name == OPTANON.as_bytes() {
                found.optanon = Some(text());
            } else if name == b"optgate-said-s" {
                found.shopify = true;
            }
            for words in Words::ALL {
                if name == words.cookie().as_bytes() {
                    found.words.push((words, text()));
                } else if name == words.mark().as_bytes() {
                    found.marks.push(words);
                }
            }
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn foreign(cookies: &[(&str, &str)]) -> bool {
        let mut heard = Heard::default();
        for (name, value) in cookies {
            heard.hear(name.as_bytes(), value.as_bytes());
        }
        heard.foreign()
    }

    const OURS: &str = "DBABLA~CVQVAAAAAACA.QA";
    const NOT_OUT: &str = "DBABLA~CVQqAAAAAACA.QA";
    const THEIRS: &str = "DBABLA~CVQVAAAAAACA";

    /// Strings we write ourselves must not trap a person, and a platform's own opt-out
    /// counts while it is there.
    #[test]
    fn our_words_say_what_stood_there_before_us() {
        for cookies in [
            &[("usprivacy", "1YYN"), ("optgate-said-u", "-")][..],
            &[("optgate-said-u", "1YNN"), ("usprivacy", "1YYN")],
            &[("OTGPPConsent", OURS), ("optgate-said-g", NOT_OUT)],
            &[("OneTrustWPCCPAGoogleOptOut", "true"), ("optgate-said-t", "false")],
            &[("optgate-said-u", "1YYN")],
        ] {
            assert!(!foreign(cookies), "{cookies:?}");
        }
        for cookies in [
            &[("usprivacy", "1YYN")][..],
            &[("usprivacy", "1YYN"), ("optgate-said-u", "1YYN")],
            &[("usprivacy", "1NYN"), ("optgate-said-u", "-")],
            &[("OTGPPConsent", OURS), ("optgate-said-g", THEIRS)],
            &[("OTGPPConsent", THEIRS), ("optgate-said-g", NOT_OUT)],
            &[("usprivacy", "1YYN"), ("optgate-said-t", "-")],
            &[("usprivacy", "1YYN"), ("optgate-said-u", "1YYN"), ("optgate-said-u", "-")],
        ] {
            assert!(foreign(cookies), "{cookies:?}");
        }
    }

    #[test]
    fn a_onetrust_mark_names_its_domain_and_what_was_turned() {
        assert_eq!(
            optanon_mark("isGpcEnabled=1&optgate=shop.example!gpc!C0004"),
            Some(("shop.example", vec!["gpc", "C0004"]))
        );
        assert_eq!(optanon_mark("a=1&optgate=!gpc"), Some(("", vec!["gpc"])));
        assert_eq!(optanon_mark("a=1&xoptgate=!gpc"), None);
    }
}
