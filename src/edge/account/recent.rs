//! A table that remembers what was asked for lately, and is bounded whatever comes.

use std::collections::HashMap;
use std::hash::Hash;

/// Two generations: the one that fills up, and the one that was full before it. Whoever is asked for once in a
/// generation stays; at most twice `generation` are held.
#[derive(Debug)]
pub(super) struct Recent<K, V> {
    generation: usize,
    young: HashMap<K, V>,
    old: HashMap<K, V>,
}

impl<K: Eq + Hash, V: Clone> Recent<K, V> {
    /// An empty one.
    pub(super) fn new(generation: usize) -> Self {
        Self { generation, young: HashMap::new(), old: HashMap::new() }
    }

    /// What is remembered under a key. Cost: one or two probes.
    pub(super) fn get(&mut self, key: K) -> Option<V> {
        if let Some(value) = self.young.get(&key) {
            return Some(value.clone());
        }
        let value = self.old.get(&key)?.clone();
        self.put(key, value.clone());
        Some(value)
    }

    /// Remembers it.
    pub(super) fn put(&mut self, key: K, value: V) {
        if self.young.len() >= self.generation {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.insert(key, value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Threat: keys cost nothing to make up.
    #[test]
    fn a_flood_takes_no_more_room_and_what_is_asked_for_often_stays() {
        let mut recent = Recent::new(100);
        recent.put("once".to_owned(), 1);
        recent.put("often".to_owned(), 2);
        for number in 0..1_000 {
            recent.put(format!("no-{number}"), 0);
            assert_eq!(recent.get("often".to_owned()), Some(2));
        }
        assert_eq!(recent.get("once".to_owned()), None);
        assert!(recent.young.len() <= 100 && recent.old.len() <= 100);
    }

    #[test]
    fn what_is_put_again_is_what_is_remembered() {
        let mut recent = Recent::new(1);
        recent.put(1, "first");
        recent.put(2, "other");
        recent.put(1, "second");
        assert_eq!((recent.get(1), recent.get(2)), (Some("second"), Some("other")));
    }
}
