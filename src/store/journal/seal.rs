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
    /// and those that lost what tied them to an account.
    erased: u64,
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
         {said}"
    )]
    Untied {
        /// There are.
        found: u64,
        /// There should be.
        said: u64,
    },
}

/// What is left of records that something was done to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(in crate::store) struct Left {
    /// Only the digest.
    pub(in crate::store) pruned: u64,
    /// All but what tied them to an account. 0 where that was not looked for.
    pub(in crate::store) untied: u64,
}

impl Seals {
    /// What a record says.
    pub(in crate::store) fn say(&mut self, seq: i64, upkeep: &Upkeep) {
        self.pruned = self.pruned.saturating_add(upkeep.pruned);
        self.erased = self.erased.saturating_add(upkeep.erased);
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

    /// Whether all of it fits.
    pub(in crate::store) fn check(&self, left: Left) -> Result<(), Unsealed> {
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
        if left.untied > self.erased {
            return Err(Unsealed::Untied { found: left.untied, said: self.erased });
        }
        Ok(())
    }
}

/// The error of rows that are not those that were sealed.
pub(super) fn unsealed(path: &Path, why: &Unsealed) -> OpenError {
    refuse(path, format!("{why}. {EVIDENCE}"))
}
