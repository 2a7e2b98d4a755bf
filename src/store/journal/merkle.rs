//! A Merkle tree over the digests of the records between two checkpoints (the tree of RFC 9162, section 2.1).
//!
//! ```text
//! leaf(d)    = SHA-256( 0x00 | d )          d: a record's digest
//! node(l, r) = SHA-256( 0x01 | l | r )
//!
//!            root          <- signed with the checkpoint
//!          /      \
//!        n         n       a proof of record 2 is its neighbours on the way up: 1, the right n, 5
//!       / \       / \
//!      1   2     3   4    5
//! ```
//!
//! So one record is proven by some twenty hashes, and not by the million records around it.

use sha2::{Digest, Sha256};

use super::chain::Link;

fn leaf(digest: &Link) -> Link {
    Sha256::new().chain_update([0]).chain_update(digest).finalize().into()
}

fn node(left: &Link, right: &Link) -> Link {
    Sha256::new().chain_update([1]).chain_update(left).chain_update(right).finalize().into()
}

/// A tree that grows to the right, of which only the roots of its whole parts are kept.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(in crate::store) struct Tree {
    count: u64,
    /// Largest first: one for each bit of `count`.
    roots: Vec<Link>,
}

impl Tree {
    /// Adds a record's digest. Cost: two hashes on average.
    pub(in crate::store) fn push(&mut self, digest: &Link) {
        let mut root = leaf(digest);
        for _ in 0..self.count.trailing_ones() {
            if let Some(left) = self.roots.pop() {
                root = node(&left, &root);
            }
        }
        self.roots.push(root);
        self.count += 1;
    }

    /// Leaves so far.
    pub(in crate::store) fn count(&self) -> u64 {
        self.count
    }

    /// The root; zeros for an empty tree.
    pub(in crate::store) fn root(&self) -> Link {
        let mut roots = self.roots.iter().rev();
        let last = roots.next().copied().unwrap_or_default();
        roots.fold(last, |right, left| node(left, &right))
    }
}

/// The way up from one leaf: what [`leads_to`] needs beside its digest. Empty when there is no such leaf.
pub(in crate::store) fn path(digests: &[Link], index: usize) -> Vec<Link> {
    let mut level: Vec<Link> = digests.iter().map(leaf).collect();
    let (mut at, mut path) = (index, Vec::new());
    if index >= level.len() {
        return path;
    }
    while level.len() > 1 {
        path.extend(level.get(at ^ 1));
        level = level
            .chunks(2)
            .map(|pair| match pair {
                [left, right] => node(left, right),
                alone => alone.first().copied().unwrap_or_default(),
            })
            .collect();
        at /= 2;
    }
    path
}

/// Whether a digest is leaf `index` of the tree of `count` leaves that has this root (RFC 9162, 2.1.3.2).
pub(in crate::store) fn leads_to(root: &Link, digest: &Link, index: u64, count: u64, path: &[Link]) -> bool {
    if index >= count {
        return false;
    }
    let (mut at, mut last) = (index, count - 1);
    let mut hash = leaf(digest);
    for beside in path {
        if last == 0 {
            return false;
        }
        if at % 2 == 1 || at == last {
            hash = node(beside, &hash);
            while at.is_multiple_of(2) && at != 0 {
                (at, last) = (at / 2, last / 2);
            }
        } else {
            hash = node(&hash, beside);
        }
        (at, last) = (at / 2, last / 2);
    }
    last == 0 && hash == *root
}

#[cfg(test)]
mod tests {
    use super::*;

    fn digests(count: u8) -> Vec<Link> {
        (0..count).map(|n| [n; 32]).collect()
    }

    fn tree(digests: &[Link]) -> Tree {
        let mut tree = Tree::default();
        digests.iter().for_each(|digest| tree.push(digest));
        tree
    }

    /// RFC 9162, 2.1.1, as it is written there.
    fn by_the_book(digests: &[Link]) -> Link {
        match digests {
            [one] => leaf(one),
            many => {
                let k = many.len().next_power_of_two() / 2;
                node(&by_the_book(&many[..k]), &by_the_book(&many[k..]))
            }
        }
    }

    #[test]
    fn a_growing_tree_has_the_root_of_the_whole_one() {
        for count in 1..=70 {
            let digests = digests(count);
            let tree = tree(&digests);
            assert_eq!((tree.root(), tree.count()), (by_the_book(&digests), u64::from(count)), "{count}");
        }
        assert_eq!(Tree::default().root(), [0; 32]);
    }

    /// Every leaf is proven by its own path, and by nobody else's; no place, count, digest or path may differ.
    #[test]
    fn a_leaf_is_proven_by_its_path_and_by_nothing_else() {
        for count in 1..=33u8 {
            let digests = digests(count);
            let root = tree(&digests).root();
            for index in 0..usize::from(count) {
                let path = path(&digests, index);
                let proven = |digest: &Link, index: usize, path: &[Link]| {
                    leads_to(&root, digest, index as u64, u64::from(count), path)
                };
                assert!(proven(&digests[index], index, &path), "{index} of {count}");
                assert!(!proven(&[99; 32], index, &path));
                assert!((0..=usize::from(count)).all(|i| i == index || !proven(&digests[index], i, &path)));
                assert!(!proven(&digests[index], index, &[&path[..], &[[7; 32]]].concat()));
                if let Some((_, cut)) = path.split_last() {
                    assert!(!proven(&digests[index], index, cut));
                }
                for n in 0..path.len() {
                    let mut bent = path.clone();
                    bent[n][31] ^= 1;
                    assert!(!proven(&digests[index], index, &bent));
                }
            }
        }
        assert!(path(&digests(3), 3).is_empty());
        assert!(!leads_to(&[0; 32], &[0; 32], 0, 0, &[]));
    }
}
