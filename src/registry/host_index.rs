//! From a host to the rules for it and for the domains above it.
//!
//! The reversed labels form a trie whose nodes lie in one open-addressed table, keyed by a hash
//! that grows label by label from the right: `com`, `facebook.com`, `connect.facebook.net`. Most
//! foreign hosts end at the second probe. The table is fixed once built, and nobody outside can
//! add to it, so an unkeyed hash is safe; every probe compares the text.

use super::pattern::PathPrefix;
use super::vendor::VendorId;

/// One path prefix on one host.
#[derive(Debug, Clone)]
pub(super) struct Rule {
    pub(super) path: PathPrefix,
    /// Whose it is; more than one only when they have the same role.
    pub(super) vendors: Vec<VendorId>,
}

/// A domain that has rules, or lies above one that has.
#[derive(Debug)]
pub(super) struct Node {
    name: String,
    hash: u64,
    /// Nearest domain above with rules.
    above: Option<u32>,
    /// Longest first.
    pub(super) rules: Vec<Rule>,
}

impl Node {
    /// The domain's name.
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// Whether some rule covers every path.
    pub(super) fn covers_all(&self) -> bool {
        self.rules.last().is_some_and(|rule| rule.path.is_root())
    }
}

/// The look-up table.
#[derive(Debug)]
pub(super) struct HostIndex {
    nodes: Vec<Node>,
    /// `(high half of the hash, node + 1)`; 0 is empty. A power of two, at most a quarter full.
    slots: Vec<(u32, u32)>,
}

const SEED: u64 = 0xcbf2_9ce4_8422_2325;

/// FNV-1a, one byte.
const fn step(hash: u64, byte: u8) -> u64 {
    (hash ^ byte as u64).wrapping_mul(0x0000_0100_0000_01b3)
}

/// Spreads the bits; FNV's low ones are weak.
const fn spread(hash: u64) -> u64 {
    let hash = (hash ^ (hash >> 32)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    hash ^ (hash >> 29)
}

impl HostIndex {
    /// Builds the table from hosts (each once) and their rules, longest first.
    pub(super) fn build(hosts: Vec<(String, Vec<Rule>)>) -> Self {
        let mut index = Self { nodes: Vec::new(), slots: Vec::new() };
        let labels: usize = hosts.iter().map(|(host, _)| host.split('.').count()).sum();
        index.slots = vec![(0, 0); (labels * 4).next_power_of_two().max(8)];
        for (host, rules) in hosts {
            for (at, _) in host.rmatch_indices('.') {
                index.insert(&host[at + 1..]);
            }
            let node = index.insert(&host);
            index.nodes[node].rules = rules;
        }
        for at in 0..index.nodes.len() {
            index.nodes[at].above = index.above(&index.nodes[at].name);
        }
        index
    }

    /// The domains that have rules of their own.
    pub(super) fn domains(&self) -> impl Iterator<Item = &Node> {
        self.nodes.iter().filter(|node| !node.rules.is_empty())
    }

    fn insert(&mut self, name: &str) -> usize {
        let hash = spread(name.bytes().rev().fold(SEED, step));
        if let Some(known) = self.probe(name.as_bytes(), hash) {
            return known;
        }
        let node = self.nodes.len();
        self.nodes.push(Node { name: name.to_owned(), hash, above: None, rules: Vec::new() });
        let mask = self.slots.len() - 1;
        let mut slot = hash as usize & mask;
        while self.slots[slot].1 != 0 {
            slot = (slot + 1) & mask;
        }
        self.slots[slot] = ((hash >> 32) as u32, u32::try_from(node + 1).unwrap_or(0));
        node
    }

    fn above(&self, name: &str) -> Option<u32> {
        let mut rest = name;
        while let Some((_, parent)) = rest.split_once('.') {
            let hash = spread(parent.bytes().rev().fold(SEED, step));
            let node = self.probe(parent.as_bytes(), hash)?;
            if !self.nodes[node].rules.is_empty() {
                return u32::try_from(node).ok();
            }
            rest = parent;
        }
        None
    }

    fn probe(&self, name: &[u8], hash: u64) -> Option<usize> {
        let mask = self.slots.len() - 1;
        let mut slot = hash as usize & mask;
        loop {
            let (high, node) = self.slots[slot];
            if node == 0 {
                return None;
            }
            let node = node as usize - 1;
            if high == (hash >> 32) as u32 && self.nodes[node].name.as_bytes() == name {
                debug_assert_eq!(self.nodes[node].hash, hash);
                return Some(node);
            }
            slot = (slot + 1) & mask;
        }
    }

    /// The domains with rules that a host is, or lies under; most specific first.
    ///
    /// Cost: one pass over the bytes from the right and one probe per label, ending at the first
    /// label nobody knows. No allocation.
    pub(super) fn chain(&self, host: &str) -> Chain<'_> {
        let bytes = host.as_bytes();
        let (mut hash, mut found) = (SEED, None);
        let mut at = bytes.len();
        loop {
            let boundary = at == 0 || bytes[at - 1] == b'.';
            if boundary {
                let Some(node) = self.probe(&bytes[at..], spread(hash)) else { break };
                if !self.nodes[node].rules.is_empty() {
                    found = u32::try_from(node).ok();
                }
            }
            if at == 0 {
                break;
            }
            at -= 1;
            hash = step(hash, bytes[at]);
        }
        Chain { index: self, next: found }
    }
}

/// Domains with rules, most specific first.
#[derive(Debug)]
pub(super) struct Chain<'a> {
    index: &'a HostIndex,
    next: Option<u32>,
}

impl<'a> Iterator for Chain<'a> {
    type Item = &'a Node;

    fn next(&mut self) -> Option<&'a Node> {
        let node = self.index.nodes.get(self.next? as usize)?;
        self.next = node.above;
        Some(node)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn index(hosts: &[&str]) -> HostIndex {
        let rule = || vec![Rule { path: PathPrefix::new("/"), vendors: vec![VendorId(0)] }];
        HostIndex::build(hosts.iter().map(|host| ((*host).to_owned(), rule())).collect())
    }

    fn names(index: &HostIndex, host: &str) -> Vec<String> {
        index.chain(host).map(|node| node.name().to_owned()).collect()
    }

    #[test]
    fn a_host_matches_itself_and_its_subdomains_most_specific_first() {
        let index = index(&["doubleclick.net", "fls.doubleclick.net", "t.co"]);
        assert_eq!(names(&index, "doubleclick.net"), ["doubleclick.net"]);
        assert_eq!(names(&index, "123.fls.doubleclick.net"), ["fls.doubleclick.net", "doubleclick.net"]);
        assert_eq!(names(&index, "x.y.doubleclick.net"), ["doubleclick.net"]);
        assert_eq!(names(&index, "t.co"), ["t.co"]);
    }

    #[test]
    fn labels_are_never_cut() {
        let index = index(&["t.co", "criteo.net"]);
        for host in
            ["", ".", "co", "net", "at.co", "t.com", "xcriteo.net", "criteo.net.evil.org", "..", "t..co"]
        {
            assert_eq!(names(&index, host), Vec::<String>::new(), "{host}");
        }
    }

    #[test]
    fn a_domain_between_two_entries_has_no_rules_of_its_own() {
        let index = index(&["a.b.example.com", "example.com"]);
        assert_eq!(names(&index, "b.example.com"), ["example.com"]);
        assert_eq!(names(&index, "x.a.b.example.com"), ["a.b.example.com", "example.com"]);
    }

    proptest::proptest! {
        /// The table against a plain comparison with every entry.
        #[test]
        fn the_table_finds_what_a_plain_search_finds(
            entries in proptest::collection::btree_set("[ab]{1,2}(\\.[ab]{1,2}){1,3}", 1..12),
            host in "[ab]{0,2}(\\.[ab]{0,2}){0,5}",
        ) {
            let entries: Vec<&str> = entries.iter().map(String::as_str).collect();
            let mut expected: Vec<String> = entries
                .iter()
                .filter(|entry| host == **entry || host.ends_with(&format!(".{entry}")))
                .map(|entry| (*entry).to_owned())
                .collect();
            expected.sort_by_key(|entry| std::cmp::Reverse(entry.len()));
            proptest::prop_assert_eq!(names(&index(&entries), &host), expected);
        }
    }
}
