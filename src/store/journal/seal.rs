//! What a record of upkeep says of rows, so many and their digest; and whether the rows that stand there are those.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use sha2::{Digest as _, Sha256};

use super::chain::{BLINDING, Link, put};
use super::refuse;
use super::upkeep::Upkeep;
use crate::store::OpenError;

/// What to do about rows that are not those that were sealed.
pub(super) const EVIDENCE: &str = "Restore the journal from a backup and keep this file: it is evidence";

/// So many rows, in one digest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(in crate::store) struct Tally {
    pub(in crate::store) count: u64,
    /// Zeros for none.
    pub(in crate::store) digest: Link,
}

/// What one record seals.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(in crate::store) struct Seal {
    /// Rows that came.
    pub(in crate::store) kept: Tally,
    /// Rows that were emptied.
    pub(in crate::store) dropped: Tally,
}

impl Seal {
    /// Whether it stands for nothing.
    pub(super) fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// A tally as it grows.
#[derive(Debug, Clone, Default)]
pub(super) struct Growing {
    count: u64,
    hash: Sha256,
}

impl Growing {
    pub(super) fn push(&mut self, leaf: &Link) {
        self.count += 1;
        self.hash.update(leaf);
    }

    pub(super) fn tally(&self) -> Tally {
        match self.count {
            0 => Tally::default(),
            count => Tally { count, digest: self.hash.clone().finalize().into() },
        }
    }
}

/// What an erasure kept in the database that nodes share, sealed like rows here.
///
/// ```text
/// leaf = SHA-256( "optgate shared v1" | erasure 16 bytes | field( subject ) | field( standing ) ), in the order of leaves
/// ```
///
/// The erasure is random, new for every order. Its rows are there before its record is: one that was broken off between
/// leaves rows that no record seals, which hold all the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::store) struct Shared {
    pub(in crate::store) erasure: [u8; BLINDING],
    pub(in crate::store) kept: Tally,
}

impl Shared {
    /// Of the leaves that there are.
    pub(in crate::store) fn of(erasure: [u8; BLINDING], mut leaves: Vec<Link>) -> Self {
        leaves.sort_unstable();
        let mut kept = Growing::default();
        leaves.iter().for_each(|leaf| kept.push(leaf));
        Self { erasure, kept: kept.tally() }
    }
}

/// What an erasure did in the database that nodes share; nothing for a node that is alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(in crate::store) struct There {
    /// Whole records that lost what tied them to the accounts, but for those that are tied to them in this node's file,
    pub(in crate::store) elsewhere: u64,
    /// and pruned ones, of all nodes.
    pub(in crate::store) pruned: u64,
    /// What is kept of those that are opted out.
    pub(in crate::store) kept: Option<Shared>,
}

/// See [`Shared`].
pub(in crate::store) fn shared_leaf(subject: &[u8], standing: &str, erasure: &[u8; BLINDING]) -> Link {
    let mut bytes = [b"optgate shared v1", &erasure[..]].concat();
    put(&mut bytes, subject);
    put(&mut bytes, standing.as_bytes());
    Sha256::digest(&bytes).into()
}

/// Holds the rows that stand there against what the records say of them.
#[derive(Debug, Default)]
pub(in crate::store) struct Seals {
    said: BTreeMap<i64, Seal>,
    found: BTreeMap<i64, (Growing, Growing)>,
    /// Records that were pruned, by what the records say,
    pruned: u64,
    /// and those that lost what tied them to an account and are not pruned.
    untied: u64,
    /// A prune of an earlier version did not say how many of those it took: there may be fewer.
    vague: bool,
}

/// Why rows are not those that were sealed: at the first record that says otherwise.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(in crate::store) enum Unsealed {
    /// Its rows are others.
    #[error(
        "record {0} seals accounts that are kept by their hash alone, and they are not those that stand there: one was \
         changed, taken out or put in"
    )]
    Others(i64),
    /// There is no such record, or it seals none.
    #[error("record {0} is named as what seals an account that is kept by its hash alone, and seals none")]
    None(i64),
    /// A record was pruned by no order: one of upkeep may be among them.
    #[error("{found} records are pruned, and the records of what was done to the journal tell of {said}")]
    Pruned {
        /// There are.
        found: u64,
        /// There should be.
        said: u64,
    },
    /// What ties a record to an account was taken by no order.
    #[error(
        "{found} records have lost what ties them to an account, and the records of what was done to the journal tell of \
         {said}: whoever opted out in one of the others is honoured no more. They are among {numbers}"
    )]
    Untied {
        /// There are.
        found: u64,
        /// There should be.
        said: u64,
        /// Which there are.
        numbers: String,
    },
}

/// How many numbers an error names.
pub(super) const NAMED: usize = 12;

impl Unsealed {
    /// Records that are untied, by their numbers, and how many of them should be.
    pub(in crate::store) fn untied(found: &[i64], said: u64) -> Self {
        let first: Vec<String> = found.iter().take(NAMED).map(i64::to_string).collect();
        let more = found.len().saturating_sub(NAMED);
        let more = if more > 0 { format!(" and {more} more") } else { String::new() };
        Self::Untied {
            found: found.len() as u64,
            said,
            numbers: format!("records {}{more}", first.join(", ")),
        }
    }
}

/// What is left of records that something was done to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(in crate::store) struct Left {
    /// Only the digest: so many.
    pub(in crate::store) pruned: u64,
    /// All but what tied them to an account: these, by their numbers. None where that was not looked for.
    pub(in crate::store) untied: Vec<i64>,
}

impl Seals {
    /// What a record says; in the order of records.
    pub(in crate::store) fn say(&mut self, seq: i64, upkeep: &Upkeep) {
        self.pruned = self.pruned.saturating_add(upkeep.pruned);
        // A record that is pruned after it was untied must leave no room for another that is untied by no order.
        self.vague |= upkeep.pruned > 0 && upkeep.pruned_untied.is_none() && self.untied > 0;
        let gone = upkeep.pruned_untied.unwrap_or_default();
        self.untied = self.untied.saturating_add(upkeep.erased).saturating_sub(gone);
        if let Some(left) = upkeep.left {
            (self.untied, self.vague) = (left, false);
        }
        if !upkeep.seal.is_empty() {
            self.said.insert(seq, upkeep.seal);
        }
    }

    /// A row, in the order of ids.
    pub(in crate::store) fn find(&mut self, seal: i64, gone: Option<i64>, leaf: &Link) {
        self.found.entry(seal).or_default().0.push(leaf);
        if let Some(gone) = gone {
            self.found.entry(gone).or_default().1.push(leaf);
        }
    }

    /// Records that are tied to no account any more, by what the records say.
    pub(in crate::store) const fn untied(&self) -> u64 {
        self.untied
    }

    /// Whether there may be fewer of them, because a prune of an earlier version did not say how many it took.
    pub(in crate::store) const fn is_vague(&self) -> bool {
        self.vague
    }

    /// Whether all of it fits.
    pub(in crate::store) fn check(&self, left: &Left) -> Result<(), Unsealed> {
        let seqs: BTreeSet<_> = self.said.keys().chain(self.found.keys()).collect();
        for seq in seqs {
            let found = self.found.get(seq).map_or_else(Seal::default, |(kept, dropped)| Seal {
                kept: kept.tally(),
                dropped: dropped.tally(),
            });
            match self.said.get(seq) {
                None => return Err(Unsealed::None(*seq)),
                Some(said) if *said != found => return Err(Unsealed::Others(*seq)),
                Some(_) => {}
            }
        }
        // A server may have pruned while it was read: then there are fewer. An erased record may be pruned later.
        if left.pruned > self.pruned {
            return Err(Unsealed::Pruned { found: left.pruned, said: self.pruned });
        }
        if left.untied.len() as u64 > self.untied {
            return Err(Unsealed::untied(&left.untied, self.untied));
        }
        Ok(())
    }
}

/// The error of rows that are not those that were sealed.
pub(super) fn unsealed(path: &Path, why: &Unsealed) -> OpenError {
    refuse(path, format!("{why}. {EVIDENCE}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn untied(seqs: &[i64]) -> Left {
        Left { pruned: 0, untied: seqs.to_vec() }
    }

    /// A prune of an earlier version did not say how many untied records it took: until a start has counted, there may be
    /// as many as were erased, and then no more than there were.
    #[test]
    fn what_earlier_prunes_left_open_is_settled_once() {
        let erase = Upkeep { erased: 2, ..Upkeep::default() };
        let prune = Upkeep { pruned: 2, ..Upkeep::default() };
        let mut seals = Seals::default();
        [(1, &erase), (2, &prune)].into_iter().for_each(|(seq, upkeep)| seals.say(seq, upkeep));
        assert!(seals.is_vague());
        let pruned = |untied| Left { pruned: 2, untied };
        assert_eq!(seals.check(&pruned(vec![8, 9])), Ok(()));
        seals.say(3, &Upkeep { left: Some(0), ..Upkeep::default() });
        assert!(!seals.is_vague());
        let error = seals.check(&pruned(vec![8])).unwrap_err();
        assert_eq!(error, Unsealed::untied(&[8], 0));

        let mut exact = Seals::default();
        let said = Upkeep { pruned: 2, pruned_untied: Some(1), ..Upkeep::default() };
        [(1, &erase), (2, &said)].into_iter().for_each(|(seq, upkeep)| exact.say(seq, upkeep));
        assert!(!exact.is_vague());
        assert_eq!(exact.check(&pruned(vec![8])), Ok(()));
        assert!(exact.check(&pruned(vec![8, 9])).is_err());
        let mut none = Seals::default();
        none.say(1, &prune);
        assert!(!none.is_vague(), "nothing was erased that it could have taken");
    }

    #[test]
    fn an_error_names_some_of_many_records() {
        let many: Vec<i64> = (1..=30).collect();
        let error = Seals::default().check(&untied(&many)).unwrap_err().to_string();
        assert!(error.contains("30 records") && error.ends_with("11, 12 and 18 more"), "{error}");
    }
}
