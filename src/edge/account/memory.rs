//! Tokens that were verified once, remembered by each core.

use std::collections::HashMap;

use super::scope::Scope;
use super::token::{Verdict, Verifier};
use crate::privacy::Mark;

/// Tokens that each of a core's two tables remembers.
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

/// A core's memory of tokens: the table that fills up, and the one that was full before it. Bounded, whatever comes.
#[derive(Debug, Default)]
pub struct TokenMemory {
    young: HashMap<Mark, Remembered>,
    old: HashMap<Mark, Remembered>,
}

impl TokenMemory {
    /// What a token says at a time (Unix seconds).
    ///
    /// Cost: one HMAC over the token and one or two probes; a signature check where it is new.
    pub fn verdict(&mut self, verifier: &Verifier, scope: Scope<'_>, token: &[u8], now: i64) -> Verdict {
        let mark = scope.token(token);
        let set = verifier.set_number();
        if let Some(known) = self.young.get(&mark).or_else(|| self.old.get(&mark)).cloned()
            && known.set == set
            && now < known.until
        {
            if !self.young.contains_key(&mark) {
                self.remember(mark, known.clone());
            }
            return known.verdict;
        }
        let new = verifier.verify(scope, token, now);
        if new.verdict != Verdict::Pending {
            self.remember(mark, new.clone());
        }
        new.verdict
    }

    fn remember(&mut self, mark: Mark, what: Remembered) {
        if self.young.len() >= REMEMBERED {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.insert(mark, what);
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::token::tests::{ann, now, token, verifier};
    use super::*;
    use crate::privacy::Keys;

    /// What is remembered ends with the token, and the memory does not grow.
    #[test]
    fn a_remembered_token_ends_when_it_expires_and_the_memory_is_bounded() {
        let (verifier, keys) = (verifier(|_| ()), Keys::derive(b"k"));
        let (shop, blog) = (Scope::new(&keys, "shop", None), Scope::new(&keys, "blog", None));
        let mut memory = TokenMemory::default();
        let (text, start) = (token(&json!({"sub": "ann", "exp": now() + 10})), now());
        let mut at = |after| memory.verdict(&verifier, shop, text.as_bytes(), start + after);
        assert_eq!(at(0), ann());
        assert_eq!(memory.young.len(), 1);
        let kept = memory.young.values().next().unwrap().until;
        assert!((start + 39..=start + 41).contains(&kept), "its end and the leeway: {kept} from {start}");
        for number in 0..3 * REMEMBERED {
            memory.verdict(&verifier, shop, format!("junk {number}").as_bytes(), start);
        }
        assert!(memory.young.len() <= REMEMBERED && memory.old.len() <= REMEMBERED);
        let other = memory.verdict(&verifier, blog, text.as_bytes(), start);
        assert_ne!(other, ann(), "another site's account is another");
    }
}
