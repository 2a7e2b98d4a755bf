//! Figures of what names an account: tokens, fetched keys, answers of the origin.

use std::sync::{Mutex, PoisonError};

use prometheus_client::metrics::counter::Counter;
use prometheus_client::registry::Registry as Exposition;

use super::families::{Counters, family, labels, single};

/// What became of a token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Token {
    /// It names an account.
    Verified,
    /// Its key may be in the next set: the request counts as opted out.
    Pending,
    /// It is no token.
    Malformed,
    /// Its algorithm is not one of the settings'.
    Algorithm,
    /// There is no key for it, and none was there when it was asked for again.
    Key,
    /// It was signed with another key, or changed.
    Signature,
    /// Its time is over.
    Expired,
    /// Its time has not come.
    Early,
    /// It has another issuer, or none.
    Issuer,
    /// It is for somebody else.
    Audience,
    /// The claim that names the account is missing, or no text and no number.
    Claim,
}

const ALL: [Token; 11] = [
    Token::Verified,
    Token::Pending,
    Token::Malformed,
    Token::Algorithm,
    Token::Key,
    Token::Signature,
    Token::Expired,
    Token::Early,
    Token::Issuer,
    Token::Audience,
    Token::Claim,
];

impl Token {
    /// The label in metrics.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Verified => "verified",
            Self::Pending => "pending",
            Self::Malformed => "malformed",
            Self::Algorithm => "algorithm",
            Self::Key => "unknown-key",
            Self::Signature => "signature",
            Self::Expired => "expired",
            Self::Early => "not-yet-valid",
            Self::Issuer => "issuer",
            Self::Audience => "audience",
            Self::Claim => "claim",
        }
    }
}

/// See the module's head.
#[derive(Debug)]
pub struct AccountFigures {
    tokens: [Counter; ALL.len()],
    /// Key sets that were fetched and are in force.
    pub keys_taken: Counter,
    /// Fetches of key sets that failed.
    pub keys_failed: Counter,
    /// Answers that named an account.
    pub named: Counter,
    /// Answers that named an opted-out account to a request that had not been decided so.
    pub raised: Counter,
    /// Why the last fetch of a key set failed; `None` after one that succeeded.
    keys_error: Mutex<Option<String>>,
}

impl AccountFigures {
    pub(super) fn new(x: &mut Exposition) -> Self {
        let tokens =
            family(x, "account_tokens", "Requests with a token that names an account, by what came of it");
        let fetches = family(x, "account_key_fetches", "Fetches of the keys of tokens, by result");
        let of = |family: &Counters, result| family.get_or_create_owned(&labels(&[("result", result)]));
        Self {
            tokens: ALL.map(|token| of(&tokens, token.as_str())),
            keys_taken: of(&fetches, "taken"),
            keys_failed: of(&fetches, "failed"),
            named: single(x, "account_answers", "Answers of origins that named an account"),
            raised: single(
                x,
                "account_raised",
                "Answers held to the opt-out of the account that only they named",
            ),
            keys_error: Mutex::default(),
        }
    }

    /// How the last fetch of a key set ended.
    pub(super) fn keys_ended(&self, error: Option<&str>) {
        *self.keys_error.lock().unwrap_or_else(PoisonError::into_inner) = error.map(str::to_owned);
    }

    /// Why key sets cannot be fetched just now.
    #[must_use]
    pub fn keys_error(&self) -> Option<String> {
        self.keys_error.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// A request carried a token.
    pub fn token(&self, what: Token) {
        self.tokens[what as usize].inc();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `token as usize` is its place in the list.
    #[test]
    fn every_token_has_its_own_place() {
        for (at, token) in ALL.into_iter().enumerate() {
            assert_eq!(token as usize, at, "{}", token.as_str());
        }
    }
}
