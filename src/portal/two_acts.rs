//! What stands between a question and its confirmation: a token from the first act, a random value that the hidden
//! field and a short-lived `SameSite=Strict` cookie must both hold. Another site can neither read the one nor send the
//! other, and no server state is needed.

use data_encoding::BASE64URL_NOPAD;
use http::header::{COOKIE, SET_COOKIE};
use http::{HeaderMap, HeaderValue};

use super::Pages;
use crate::privacy::signal;

/// Cookie of the confirmation step; holds the token of the hidden field.
const COOKIE_NAME: &str = "optgate-confirm";

/// Seconds a confirmation page stays valid.
const SECONDS: u32 = 600;

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
    /// Whether the confirmation cookie holds the form's token.
    pub(super) fn is_ours(&self, headers: &HeaderMap) -> bool {
        let token = self.token.as_bytes();
        // Both come from the same sender, so there is no secret whose timing could be measured.
        !token.is_empty()
            && headers.get_all(COOKIE).iter().any(|field| {
                signal::cookie_pairs(field.as_bytes())
                    .any(|(name, value)| name == COOKIE_NAME.as_bytes() && value == token)
            })
    }
}

/// A random text that serves once: a nonce, a token. `None` without random bytes, which is logged.
pub(super) fn fresh_token() -> Option<String> {
    let mut random = [0u8; 16];
    if let Err(error) = getrandom::fill(&mut random) {
        tracing::error!(%error, "the system gives no random bytes");
        return None;
    }
    Some(BASE64URL_NOPAD.encode(&random))
}

/// Gives the browser the token of a question that has been asked.
pub(super) fn asked(headers: &mut HeaderMap, portal: &Pages, act: Act, token: &str, secure: bool) {
    set(headers, &line(portal, act, token, SECONDS, secure));
}

/// Takes the token back once it has served.
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

    /// The token is nothing without its cookie, and an empty one never matches.
    #[test]
    fn a_confirmation_needs_its_cookie() {
        let with = |cookie: &'static str| HeaderMap::from_iter([(COOKIE, HeaderValue::from_static(cookie))]);
        let form = |token: &str| Confirmation { token: token.to_owned() };
        assert!(form("tok").is_ours(&with("a=b; optgate-confirm=tok")));
        assert!(!form("other").is_ours(&with("a=b; optgate-confirm=tok")));
        assert!(!form("tok").is_ours(&HeaderMap::new()));
        assert!(!form("").is_ours(&with("optgate-confirm=")));
    }
}
