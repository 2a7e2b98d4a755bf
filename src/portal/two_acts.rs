//! What stands between a question and its confirmation: a token from the first act, which the hidden field and a
//! short-lived `SameSite=Strict` cookie must both hold. Another site can neither read the one nor send the other. The
//! token is signed and holds when it was given out, so that no second act goes without a first; no server state is
//! needed.
//!
//! A token is the time (8 bytes, microseconds since the Unix epoch), the process that asks (8 bytes), 16 random bytes, and
//! a MAC over all of them, the act, the site, and whom the first act named: two acts of two consumers are not two acts (11
//! CCR 7028(a)). Nor are two with an opt-out between them: that ends the first, on this browser by its cookie, elsewhere
//! by the store, which is told when it was asked.

use data_encoding::BASE64URL_NOPAD;
use http::header::{COOKIE, SET_COOKIE};
use http::{HeaderMap, HeaderValue};

use super::Pages;
use crate::privacy::{Keys, Named, signal};
use crate::store::{AHEAD_US, Moment};

/// Cookie of the confirmation step; holds the token of the hidden field.
const COOKIE_NAME: &str = "optgate-confirm";

/// Seconds a confirmation page stays valid.
const SECONDS: u32 = 600;
const SECONDS_US: i64 = SECONDS as i64 * 1_000_000;

/// Bytes of a token that are signed.
const SIGNED: usize = 32;

/// What somebody reads whose confirmation is none.
pub(super) const NOT_CONFIRMED: &str = "This confirmation is too old, or your browser did not keep its cookie, or you \
                                        have opted out, logged in or logged out since. Nothing has changed.";

/// What is asked; the token of one question is none for another, for its cookie has the question's path.
#[derive(Debug, Clone, Copy)]
pub(super) enum Act {
    /// Opting back in.
    OptIn,
    /// Keeping a programme.
    Programme,
}

impl Act {
    const fn path(self) -> &'static str {
        match self {
            Self::OptIn => "opt-in",
            Self::Programme => "programme",
        }
    }
}

/// The second form.
#[derive(serde::Deserialize)]
pub(super) struct Confirmation {
    token: String,
}

impl Confirmation {
    /// When the form's token was given out by this act's question, if that was lately and the confirmation cookie holds
    /// it.
    pub(super) fn asked(&self, headers: &HeaderMap, question: Question<'_>) -> Option<Moment> {
        let token = self.token.as_bytes();
        // Both come from the same sender, so there is no secret whose timing could be measured.
        let kept = || {
            headers.get_all(COOKIE).iter().any(|field| {
                signal::cookie_pairs(field.as_bytes())
                    .any(|(name, value)| name == COOKIE_NAME.as_bytes() && value == token)
            })
        };
        question.gave_out(token).filter(|_| kept())
    }
}

/// A question: what is asked, of whom, on which site, and now.
#[derive(Clone, Copy)]
pub(super) struct Question<'a> {
    pub(super) keys: &'a Keys,
    pub(super) act: Act,
    pub(super) site: &'a str,
    /// Whom the visit names beside its browser.
    pub(super) named: Named,
    /// By the store's clock.
    pub(super) now: Moment,
}

impl Question<'_> {
    /// A token for it. `None` without random bytes, which is logged.
    pub(super) fn token(self) -> Option<String> {
        let mut token = self.now.time_us.to_be_bytes().to_vec();
        token.extend(self.now.process);
        token.extend(random()?);
        let mac = self.keys.question_mac(&self.signed(&token));
        token.extend(mac);
        Some(BASE64URL_NOPAD.encode(&token))
    }

    /// When a token was given out, if it is of this question and not too old.
    fn gave_out(self, token: &[u8]) -> Option<Moment> {
        let token = BASE64URL_NOPAD.decode(token).unwrap_or_default();
        let (signed, mac) = token.split_first_chunk::<SIGNED>()?;
        let (time, rest) = signed.split_first_chunk()?;
        let asked = Moment { time_us: i64::from_be_bytes(*time), process: *rest.first_chunk()? };
        let age_us = self.now.time_us.saturating_sub(asked.time_us);
        let ours = self.keys.know_question(&self.signed(signed), mac.try_into().ok()?);
        (ours && (-AHEAD_US..=SECONDS_US).contains(&age_us)).then_some(asked)
    }

    fn signed<'b>(&'b self, time_and_random: &'b [u8]) -> [&'b [u8]; 5] {
        let Named { account, profile } = &self.named;
        let [account, profile] =
            [account, profile].map(|level| level.as_ref().map_or(&[][..], |s| s.as_bytes()));
        [self.act.path().as_bytes(), self.site.as_bytes(), account, profile, time_and_random]
    }
}

/// A random text that serves once, as a nonce. `None` without random bytes, which is logged.
pub(super) fn nonce() -> Option<String> {
    random().map(|random| BASE64URL_NOPAD.encode(&random))
}

fn random() -> Option<[u8; 16]> {
    let mut random = [0u8; 16];
    if let Err(error) = getrandom::fill(&mut random) {
        tracing::error!(%error, "the system gives no random bytes");
        return None;
    }
    Some(random)
}

/// Gives the browser the token of a question that has been asked.
pub(super) fn asked(headers: &mut HeaderMap, portal: &Pages, act: Act, token: &str, secure: bool) {
    set(headers, &line(portal, act, token, SECONDS, secure));
}

/// Takes the token back once it has served, or an opt-out has ended the question.
pub(super) fn served(headers: &mut HeaderMap, portal: &Pages, act: Act, secure: bool) {
    set(headers, &line(portal, act, "", 0, secure));
}

fn line(portal: &Pages, act: Act, token: &str, seconds: u32, secure: bool) -> String {
    let secure = if secure { "; Secure" } else { "" };
    let (prefix, act) = (&portal.prefix, act.path());
    format!(
        "{COOKIE_NAME}={token}; Path={prefix}/{act}; Max-Age={seconds}; SameSite=Strict; HttpOnly{secure}"
    )
}

fn set(headers: &mut HeaderMap, cookie: &str) {
    match HeaderValue::try_from(cookie) {
        Ok(value) => {
            headers.append(SET_COOKIE, value);
        }
        // Only a prefix with control characters gets here, and settings refuse it.
        Err(error) => tracing::error!(%error, "a cookie could not be set"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::privacy::Subject;

    const NOW_US: i64 = 1_795_000_000_000_000;

    fn question(keys: &Keys, seconds_later: i64) -> Question<'_> {
        let now = Moment { time_us: NOW_US + seconds_later * 1_000_000, process: [1; 8] };
        Question { keys, act: Act::OptIn, site: "shop", named: Named::NOBODY, now }
    }

    fn confirms(token: &str, cookie: &str, question: Question<'_>) -> bool {
        let cookie = HeaderValue::try_from(format!("a=b; optgate-confirm={cookie}")).unwrap();
        let form = Confirmation { token: token.to_owned() };
        form.asked(&HeaderMap::from_iter([(COOKIE, cookie)]), question).is_some()
    }

    /// The token is nothing without its cookie, and an empty one never matches.
    #[test]
    fn a_confirmation_needs_its_cookie() {
        let keys = Keys::derive(b"secret");
        let now = question(&keys, 0);
        let (token, other) = (now.token().unwrap(), now.token().unwrap());
        assert!(confirms(&token, &token, now));
        assert!(!confirms(&other, &token, now));
        assert_eq!(Confirmation { token }.asked(&HeaderMap::new(), now), None);
        assert!(!confirms("", "", now));
    }

    /// 11 CCR 7028(a): whoever makes up both halves has not been asked, and an old question is none.
    #[test]
    fn a_second_act_needs_a_first_one_that_was_ours_and_lately() {
        let keys = Keys::derive(b"secret");
        let token = question(&keys, 0).token().unwrap();
        let random = BASE64URL_NOPAD.encode(&[7; SIGNED + 32]);
        for made_up in ["Z", "tok", &random, &token[1..], &token[..32]] {
            assert!(!confirms(made_up, made_up, question(&keys, 0)), "{made_up}");
        }
        let at = |later| confirms(&token, &token, question(&keys, later));
        assert!(at(599) && at(-59) && !at(601) && !at(-61));
        assert!(!confirms(&token, &token, Question { act: Act::Programme, ..question(&keys, 0) }));
        assert!(!confirms(&token, &token, Question { site: "blog", ..question(&keys, 0) }));
        assert!(!confirms(&token, &token, question(&Keys::derive(b"another"), 0)));
        let rotated = Keys::derive(b"new").with_older(&[b"secret"]);
        assert!(confirms(&token, &token, question(&rotated, 0)), "asked before the secret was rotated");
    }

    /// 11 CCR 7028(a): both acts are the same consumer's, at every level that is named; an account and a profile never
    /// stand for each other.
    #[test]
    fn a_second_act_that_names_anybody_else_is_none() {
        let keys = Keys::derive(b"secret");
        let [a, b] = [1, 2].map(|byte| Some(Subject::from_bytes([byte; 16])));
        let named = [(None, None), (a, None), (b, None), (None, a), (None, b), (a, a), (a, b), (b, a)];
        for (account, profile) in named {
            let first = Question { named: Named { account, profile }, ..question(&keys, 0) };
            let token = first.token().unwrap();
            for other in named {
                let named = Named { account: other.0, profile: other.1 };
                let same = other == (account, profile);
                assert_eq!(confirms(&token, &token, Question { named, ..first }), same, "{other:?}");
            }
        }
    }
}
