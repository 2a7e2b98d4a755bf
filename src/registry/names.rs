//! Names with `*` wildcards (cookies, parameters) and whose they are.

use std::collections::HashMap;

use super::pattern::glob;
use super::vendor::VendorId;

/// Names and patterns, looked up by a whole name.
#[derive(Debug, Default)]
pub(super) struct NameIndex {
    exact: HashMap<Vec<u8>, Vec<VendorId>>,
    /// Patterns by their first byte; those that begin with `*` under `*`.
    patterns: HashMap<u8, Vec<Pattern>>,
}

#[derive(Debug)]
struct Pattern {
    text: Vec<u8>,
    owners: Vec<VendorId>,
}

impl NameIndex {
    /// Adds a name or pattern. One without an owner is still [`NameIndex::contains`]ed.
    pub(super) fn add(&mut self, name: &str, owner: Option<VendorId>) {
        let bytes = name.as_bytes();
        let owners = if bytes.contains(&b'*') {
            let first = bytes.first().copied().unwrap_or(b'*');
            let list = self.patterns.entry(first).or_default();
            let at = list.iter().position(|known| known.text == bytes).unwrap_or_else(|| {
                list.push(Pattern { text: bytes.to_vec(), owners: Vec::new() });
                list.len() - 1
            });
            &mut list[at].owners
        } else {
            self.exact.entry(bytes.to_vec()).or_default()
        };
        if let Some(owner) = owner.filter(|owner| !owners.contains(owner)) {
            owners.push(owner);
        }
    }

    /// The owners of every entry that the name matches, entry by entry.
    ///
    /// Cost: one hash look-up and the few patterns with the same first byte; no allocation.
    pub(super) fn owners<'a>(&'a self, name: &'a [u8]) -> impl Iterator<Item = &'a [VendorId]> {
        let first = name.first().copied().unwrap_or(b'*');
        let floating = if first == b'*' { None } else { self.patterns.get(&b'*') };
        let patterns = self.patterns.get(&first).into_iter().chain(floating).flatten();
        let exact = self.exact.get(name).map(Vec::as_slice);
        exact.into_iter().chain(
            patterns
                .filter(move |pattern| glob(&pattern.text, name))
                .map(|pattern| pattern.owners.as_slice()),
        )
    }

    /// Whether any entry matches.
    pub(super) fn contains(&self, name: &[u8]) -> bool {
        self.owners(name).next().is_some()
    }

    /// Every name and pattern, in no particular order.
    pub(super) fn patterns(&self) -> impl Iterator<Item = &str> {
        let patterns = self.patterns.values().flatten().map(|pattern| pattern.text.as_slice());
        self.exact.keys().map(Vec::as_slice).chain(patterns).filter_map(|name| std::str::from_utf8(name).ok())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exact_names_patterns_and_floating_patterns_all_answer() {
        let mut index = NameIndex::default();
        index.add("_ga", Some(VendorId(1)));
        index.add("_ga", Some(VendorId(2)));
        index.add("_ga", Some(VendorId(2)));
        index.add("_ga_*", Some(VendorId(3)));
        index.add("*_X_*", None);
        let owners = |name: &[u8]| index.owners(name).flatten().map(|id| id.0).collect::<Vec<_>>();
        assert_eq!(owners(b"_ga"), [1, 2]);
        assert_eq!(owners(b"_ga_ABC"), [3]);
        assert!(index.contains(b"a_X_b") && owners(b"a_X_b").is_empty());
        assert!(!index.contains(b"_gat") && !index.contains(b""));
        assert!(!index.contains(b"*"));
    }
}
