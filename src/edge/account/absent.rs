//! Names of keys that tokens bore and the set in force had not: when each was first seen.
//!
//! An issuer that changes its keys signs with the new one at once, and the set with it may be long in coming. So a
//! name is made up only when a set lacks it that was asked for after the name was first seen; before that nobody can
//! know. Whoever floods the memory with names has others forgotten: those are seen as new, and count as opted out for
//! longer than they need, never the other way.

use std::hash::{BuildHasher as _, RandomState};
use std::sync::{Mutex, PoisonError};

use super::recent::Recent;

/// Names that a generation remembers; issuers have two or three.
const REMEMBERED: usize = 1_024;

/// Names by their keyed hash, so that a long one takes no more room than a short one, and nobody can choose one that
/// falls on another's place. Shared by all cores: only tokens without a key come here.
#[derive(Debug)]
pub(super) struct AbsentNames {
    hasher: RandomState,
    seen: Mutex<Recent<u64, u64>>,
}

impl Default for AbsentNames {
    fn default() -> Self {
        Self { hasher: RandomState::new(), seen: Mutex::new(Recent::new(REMEMBERED)) }
    }
}

impl AbsentNames {
    /// When this name was first seen, of which `now` may be the first time.
    pub(super) fn first_seen(&self, name: &str, now: u64) -> u64 {
        let name = self.hasher.hash_one(name);
        // Whatever another thread left in it holds: a name that is missing counts as new.
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(first) = seen.get(name) {
            return first;
        }
        seen.put(name, now);
        now
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_keeps_the_time_at_which_it_was_first_seen() {
        let names = AbsentNames::default();
        assert_eq!(names.first_seen("a", 5), 5);
        assert_eq!(names.first_seen("b", 7), 7);
        assert_eq!(names.first_seen("a", 9), 5);
    }

    /// Threat: names cost nothing to make up. Who is forgotten is new again, and who comes back often is not forgotten.
    #[test]
    fn a_flood_of_names_makes_names_newer_never_older() {
        let names = AbsentNames::default();
        names.first_seen("once", 1);
        names.first_seen("often", 1);
        for number in 0..5 * REMEMBERED as u64 {
            names.first_seen(&format!("no-{number}"), 2 + number);
            assert_eq!(names.first_seen("often", 2 + number), 1);
        }
        assert_eq!(names.first_seen("once", 1_000_000), 1_000_000);
    }
}
