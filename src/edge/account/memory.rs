//! Tokens that were verified once, remembered by each core.

use super::recent::Recent;
use super::scope::Scope;
use super::token::{Verdict, Verifier};
use crate::privacy::Mark;

/// Tokens that a generation of a core's memory remembers.
const REMEMBERED: usize = 4_096;

/// A verdict, and how long it holds.
#[derive(Debug, Clone)]
pub(super) struct Remembered {
    pub(super) verdict: Verdict,
    /// Unix seconds.
    pub(super) until: i64,
    /// The keys it was made with.
    pub(super) set: u64,
}

/// A core's memory of tokens.
#[derive(Debug)]
pub struct TokenMemory(Recent<Mark, Remembered>);

impl Default for TokenMemory {
    fn default() -> Self {
        Self(Recent::new(REMEMBERED))
    }
}

impl TokenMemory {
    /// What a token says at a time (Unix seconds).
    ///
    /// Cost: one HMAC over the token and one or two probes; a signature check where it is new.
    pub fn verdict(&mut self, verifier: &Verifier, scope: Scope<'_>, token: &[u8], now: i64) -> Verdict {
        let mark = scope.token(token);
        let set = verifier.set_number();
        if let Some(known) = self.0.get(mark)
            && known.set == set
            && now < known.until
        {
            return known.verdict;
        }
        let new = verifier.verify(scope, token, now);
        if new.verdict != Verdict::Pending {
            self.0.put(mark, new.clone());
        }
        new.verdict
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::token::tests::{ann, now, token, verifier};
    use super::*;
    use crate::privacy::Keys;

    /// What is remembered ends with the token, its leeway over.
    #[test]
    fn a_remembered_token_ends_when_it_expires() {
        let (verifier, keys) = (verifier(|_| ()), Keys::derive(b"k"));
        let (shop, blog) = (Scope::new(&keys, "shop"), Scope::new(&keys, "blog"));
        let mut memory = TokenMemory::default();
        let (text, start) = (token(&json!({"sub": "ann", "exp": now() + 10})), now());
        assert_eq!(memory.verdict(&verifier, shop, text.as_bytes(), start), ann());
        let kept = memory.0.get(shop.token(text.as_bytes())).unwrap().until;
        assert!((start + 39..=start + 41).contains(&kept), "its end and the leeway: {kept} from {start}");
        let other = memory.verdict(&verifier, blog, text.as_bytes(), start);
        assert_ne!(other, ann(), "another site's account is another");
    }
}
