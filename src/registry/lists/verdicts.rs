//! What an engine has said: a table of fixed size, so that a page's references are judged once.

use std::cell::Cell;

/// Slots; 128 KiB a core. A page rarely has more than 60 foreign references, a site some thousand.
const SLOTS: usize = 1 << 14;

/// Verdicts by the hash of their question, each in the one slot its hash names: the newer one stays.
///
/// A slot holds the hash with its lowest bit replaced by the verdict; zero is empty. Two questions of one
/// hash would share a verdict: with 63 bits under a secret key that is less likely than a broken machine.
#[derive(Debug)]
pub(super) struct Verdicts {
    slots: Box<[Cell<u64>]>,
}

impl Verdicts {
    pub(super) fn new() -> Self {
        Self { slots: vec![Cell::new(0); SLOTS].into_boxed_slice() }
    }

    fn slot(&self, hash: u64) -> &Cell<u64> {
        &self.slots[(hash >> 1) as usize % SLOTS]
    }

    /// The verdict on a question, if it is remembered.
    pub(super) fn get(&self, hash: u64) -> Option<bool> {
        let kept = self.slot(hash).get();
        (kept >> 1 == hash >> 1 && kept != 0).then_some(kept & 1 == 1)
    }

    /// Remembers a verdict.
    pub(super) fn put(&self, hash: u64, verdict: bool) {
        self.slot(hash).set(hash & !1 | u64::from(verdict));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A bounded cache; what it forgets is asked again, and it never answers for another.
    #[test]
    fn a_verdict_is_its_own_questions_only_and_the_newer_one_stays() {
        let verdicts = Verdicts::new();
        let (first, other) = (0x1234_5678_9abc_def0, 0x0fff_5678_9abc_def0);
        assert_eq!(verdicts.get(first), None);
        verdicts.put(first, true);
        assert_eq!((verdicts.get(first), verdicts.get(other)), (Some(true), None));
        verdicts.put(first, false);
        assert_eq!(verdicts.get(first), Some(false));
        // The same slot: one verdict is forgotten.
        verdicts.put(other, true);
        assert_eq!((verdicts.get(first), verdicts.get(other)), (None, Some(true)));
        // Hashes whose slot would look empty are asked again each time, never answered wrongly.
        assert_eq!(verdicts.get(0), None);
        verdicts.put(0, false);
        assert_eq!(verdicts.get(0), None);
    }
}
