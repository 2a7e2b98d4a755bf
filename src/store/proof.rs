//! A journal as evidence: what is handed out to be verified elsewhere, and the one who verifies it.
//!
//! Everything that proves a journal is a row of [`Item`]s in a fixed order, wherever it comes from: a data folder,
//! or a file of one JSON object a line that `ledger export --format proof` wrote.
//!
//! ```text
//! {"signer":     {"public": BASE64, "time_us": N}}                       the keys that signed, first
//! {"vouch":      {"signer": ID, "vouched": ID, "time_us": N, "signature": BASE64}}
//! {"record":     {"seq": N, "canonical": BASE64, "chain": BASE64}}       or "digest" for "canonical", when pruned
//! {"checkpoint": {"canonical": BASE64, "signature": BASE64}}             after the record that it ends with
//! {"kept":       {"seal": N, "leaf": BASE64}}                            accounts kept by their hash, last; and "gone": N
//! ```

use std::collections::{BTreeMap, BTreeSet};

use data_encoding::BASE64;
use serde::{Deserialize, Serialize};

use super::journal::chain::{self, Fields, Head, Link};
use super::journal::checkpoint::{self, Checkpoint};
use super::journal::merkle::{self, Tree};
use super::journal::seal::{Left, Seals};
use super::journal::upkeep::Upkeep;
use super::record::RecordView;
use super::signing::PublicKey;

/// Bytes, in base64 where they are written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bytes(pub(super) Vec<u8>);

impl Serialize for Bytes {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&BASE64.encode(&self.0))
    }
}

impl<'de> Deserialize<'de> for Bytes {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = <std::borrow::Cow<'de, str>>::deserialize(deserializer)?;
        BASE64.decode(text.as_bytes()).map(Self).map_err(serde::de::Error::custom)
    }
}

/// One piece of evidence.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Item {
    /// A key that signs or signed.
    Signer(SignerItem),
    /// One key's word for another.
    Vouch(VouchItem),
    /// A record, whole or pruned.
    Record(RecordItem),
    /// A signed state of the journal.
    Checkpoint(CheckpointItem),
    /// What is kept of an account whose records were forgotten, without whose it is.
    Kept(KeptItem),
}

impl Item {
    /// The record, if this is one and it is whole.
    pub(super) fn view(&self) -> Option<RecordView> {
        match self {
            Self::Record(RecordItem { canonical: Some(canonical), .. }) => {
                Fields::decode(&canonical.0).map(|fields| fields.view())
            }
            _ => None,
        }
    }
}

/// See [`Item::Signer`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SignerItem {
    pub(super) public: Bytes,
    pub(super) time_us: i64,
}

/// See [`Item::Vouch`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VouchItem {
    pub(super) signer: String,
    pub(super) vouched: String,
    pub(super) time_us: i64,
    pub(super) signature: Bytes,
}

/// See [`Item::Record`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecordItem {
    pub(super) seq: i64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) canonical: Option<Bytes>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) digest: Option<Bytes>,
    pub(super) chain: Bytes,
}

/// See [`Item::Checkpoint`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CheckpointItem {
    pub(super) canonical: Bytes,
    pub(super) signature: Bytes,
}

/// See [`Item::Kept`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeptItem {
    /// The record that seals it.
    pub(super) seal: i64,
    /// The record that tells it was emptied, if it was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) gone: Option<i64>,
    pub(super) leaf: Bytes,
}

/// A record with all that proves it alone: `ledger proof`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Inclusion {
    pub(super) optgate_proof: u32,
    /// The record's canonical bytes.
    pub(super) record: Bytes,
    pub(super) checkpoint: CheckpointItem,
    /// Hashes on the way from the record to the checkpoint's root.
    pub(super) path: Vec<Bytes>,
    pub(super) signers: Vec<SignerItem>,
    pub(super) vouches: Vec<VouchItem>,
}

/// What was proven.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Proven {
    /// Records in the evidence, pruned ones included.
    pub records: u64,
    /// Of them, those of which only the digest is left.
    pub pruned: u64,
    /// Checkpoints.
    pub checkpoints: u64,
    /// The last record that a trusted key has signed.
    pub signed_to: i64,
    /// When, in microseconds since the Unix epoch, and the key's name.
    pub signed_at: Option<(i64, String)>,
    /// Names of the keys that signed.
    pub keys: Vec<String>,
    /// Records of what was done to the journal; they are among the records.
    pub upkeep: u64,
    /// Accounts that are kept by their hash alone.
    pub kept: u64,
    /// No key was given, so the journal's own were believed.
    pub on_its_own_word: bool,
}

/// Why something is not proven: what is wrong first, in order.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Unproven(pub(super) String);

fn unproven<T>(why: impl Into<String>) -> Result<T, Unproven> {
    Err(Unproven(why.into()))
}

/// Keys that sign, and which of them are believed.
#[derive(Debug, Default)]
struct Keys {
    known: BTreeMap<String, PublicKey>,
    vouches: Vec<VouchItem>,
    given: Vec<PublicKey>,
}

impl Keys {
    fn of(given: &[PublicKey]) -> Self {
        let known = given.iter().map(|key| (key.id(), *key)).collect();
        Self { known, given: given.to_vec(), ..Self::default() }
    }

    fn signer(&mut self, item: &SignerItem) -> Result<(), Unproven> {
        let Some(key) = PublicKey::from_bytes(&item.public.0) else {
            return unproven("a signer's public key is not 32 bytes long");
        };
        // A key that was given stands for its name, whatever the evidence says.
        self.known.entry(key.id()).or_insert(key);
        Ok(())
    }

    /// Names of the keys that are believed: those given, and whom they vouch for, over any number of steps.
    fn trusted(&self) -> BTreeSet<String> {
        if self.given.is_empty() {
            return self.known.keys().cloned().collect();
        }
        let mut trusted: BTreeSet<String> = self.given.iter().map(PublicKey::id).collect();
        loop {
            let more = self.vouches.iter().find(|vouch| {
                trusted.contains(&vouch.signer) && !trusted.contains(&vouch.vouched) && self.holds(vouch)
            });
            match more {
                Some(vouch) => trusted.insert(vouch.vouched.clone()),
                None => return trusted,
            };
        }
    }

    fn holds(&self, vouch: &VouchItem) -> bool {
        let (Some(signer), Some(vouched)) = (self.known.get(&vouch.signer), self.known.get(&vouch.vouched))
        else {
            return false;
        };
        signer.verifies(&checkpoint::vouched(vouched.as_bytes(), vouch.time_us), &vouch.signature.0)
    }

    /// The checkpoint, if its own key has signed it.
    fn open(&self, item: &CheckpointItem) -> Result<Checkpoint, Unproven> {
        let Some(checkpoint) = Checkpoint::decode(&item.canonical.0) else {
            return unproven("a checkpoint cannot be read");
        };
        let seq = checkpoint.head.seq;
        let Some(key) = self.known.get(&checkpoint.key) else {
            let key = &checkpoint.key;
            return unproven(format!(
                "the checkpoint at record {seq} is signed with key {key}, which is unknown"
            ));
        };
        if key.verifies(&checkpoint::signed(&item.canonical.0), &item.signature.0) {
            Ok(checkpoint)
        } else {
            unproven(format!("the checkpoint at record {seq} does not bear its key's signature"))
        }
    }
}

/// Takes evidence piece by piece, in order, and says at the first piece that does not fit which it is.
#[derive(Debug, Default)]
pub struct Verifier {
    keys: Keys,
    head: Head,
    /// Of the records since the last checkpoint.
    tree: Tree,
    signed: Head,
    node: Option<String>,
    checkpoints: Vec<(i64, i64, String)>,
    pruned: u64,
    upkeep: u64,
    kept: u64,
    /// What is kept of accounts, and what the records say of it.
    seals: Seals,
}

impl Verifier {
    /// Believes these keys, and those they vouch for; without any, the evidence's own.
    #[must_use]
    pub fn new(keys: &[PublicKey]) -> Self {
        Self { keys: Keys::of(keys), ..Self::default() }
    }

    /// The next piece.
    ///
    /// # Errors
    /// It does not fit what came before.
    pub fn take(&mut self, item: &Item) -> Result<(), Unproven> {
        match item {
            Item::Signer(signer) => self.keys.signer(signer),
            Item::Vouch(vouch) => {
                self.keys.vouches.push(vouch.clone());
                Ok(())
            }
            Item::Record(record) => self.record(record),
            Item::Checkpoint(checkpoint) => self.checkpoint(checkpoint),
            Item::Kept(kept) => self.kept(kept),
        }
    }

    fn kept(&mut self, item: &KeptItem) -> Result<(), Unproven> {
        let Ok(leaf) = item.leaf.0.as_slice().try_into() else {
            return unproven("the digest of an account that is kept by its hash alone is not 32 bytes long");
        };
        self.kept += u64::from(item.gone.is_none());
        self.seals.find(item.seal, item.gone, &leaf);
        Ok(())
    }

    fn record(&mut self, item: &RecordItem) -> Result<(), Unproven> {
        let seq = self.head.seq + 1;
        let broken = || {
            Unproven(format!(
                "record {seq} does not fit the chain: it, or one before it, was changed, lost or put in after it was written"
            ))
        };
        let (digest, next) = match (&item.canonical, &item.digest) {
            (Some(canonical), None) => {
                let fields = Fields::decode(&canonical.0).ok_or_else(broken)?;
                if fields.seq != seq {
                    return Err(broken());
                }
                if self.node.get_or_insert_with(|| fields.node.to_owned()) != fields.node {
                    return unproven(format!("record {seq} is another node's"));
                }
                match Upkeep::of(&fields) {
                    Ok(Some(upkeep)) => {
                        self.upkeep += 1;
                        self.seals.say(seq, &upkeep);
                    }
                    Ok(None) => {}
                    Err(unreadable) => return unproven(format!("record {seq} {unreadable}")),
                }
                (chain::digest(&canonical.0), self.head.next(&canonical.0))
            }
            (None, Some(digest)) => {
                let digest: Link = digest.0.as_slice().try_into().map_err(|_| broken())?;
                self.pruned += 1;
                (digest, self.head.next_digest(&digest))
            }
            _ => return Err(broken()),
        };
        if item.seq != seq || item.chain.0 != next.link {
            return Err(broken());
        }
        self.head = next;
        self.tree.push(&digest);
        Ok(())
    }

    fn checkpoint(&mut self, item: &CheckpointItem) -> Result<(), Unproven> {
        let checkpoint = self.keys.open(item)?;
        let seq = checkpoint.head.seq;
        if checkpoint.from != self.signed.seq {
            let (from, signed) = (checkpoint.from, self.signed.seq);
            return unproven(format!(
                "the checkpoint at record {seq} follows one at record {from}, and the last here is at {signed}"
            ));
        }
        if checkpoint.head != self.head || checkpoint.root != self.tree.root() {
            let from = self.signed.seq + 1;
            return unproven(format!(
                "records {from} to {seq} are not those that were signed at record {seq}"
            ));
        }
        if self.node.get_or_insert_with(|| checkpoint.node.clone()) != &checkpoint.node {
            return unproven(format!("the checkpoint at record {seq} is another node's"));
        }
        self.signed = self.head;
        self.tree = Tree::default();
        self.checkpoints.push((seq, checkpoint.time_us, checkpoint.key));
        Ok(())
    }

    /// What the pieces so far say, whether they are signed or not, and by whom.
    #[must_use]
    pub(super) fn so_far(&self) -> Proven {
        let keys: BTreeSet<_> = self.checkpoints.iter().map(|(.., key)| key.clone()).collect();
        Proven {
            records: self.head.seq.unsigned_abs(),
            pruned: self.pruned,
            upkeep: self.upkeep,
            kept: self.kept,
            checkpoints: self.checkpoints.len() as u64,
            signed_to: self.signed.seq,
            signed_at: self.checkpoints.last().map(|(_, time_us, key)| (*time_us, key.clone())),
            keys: keys.into_iter().collect(),
            on_its_own_word: self.keys.given.is_empty(),
        }
    }

    /// Where the pieces so far end.
    pub(super) const fn head(&self) -> Head {
        self.head
    }

    /// After the last piece: whether the accounts that are kept by their hash alone are those that the records seal, and
    /// no record was pruned unsaid.
    ///
    /// # Errors
    /// They are not: the first record that says otherwise.
    pub(super) fn sealed(&self) -> Result<(), Unproven> {
        // Evidence of before there was upkeep does not tell who pruned.
        let pruned = if self.upkeep > 0 { self.pruned } else { 0 };
        self.seals.check(&Left { pruned, untied: Vec::new() }).map_err(|why| Unproven(why.to_string()))
    }

    /// After the last piece.
    ///
    /// # Errors
    /// What is kept of accounts is not what was sealed, nothing is signed, or the last signature is by a key that is not believed.
    pub fn finish(self) -> Result<Proven, Unproven> {
        self.sealed()?;
        let trusted = self.keys.trusted();
        let proven = self.so_far();
        let Some((.., key)) = self.checkpoints.last() else {
            let records = proven.records;
            return match records {
                0 => Ok(proven),
                _ => unproven(format!("the chain of {records} records is whole, but nothing is signed yet")),
            };
        };
        if !trusted.contains(key) {
            let good = self.checkpoints.iter().rev().find(|(.., key)| trusted.contains(key));
            let good = good.map_or(0, |(seq, ..)| *seq);
            return unproven(format!(
                "records {} to {} are signed with key {key}, which no key that was given vouches for; up to \
                 record {good} all is proven",
                good + 1,
                self.signed.seq
            ));
        }
        Ok(proven)
    }
}

impl Inclusion {
    /// Proves the record with these keys, or with its own word's; returns it and when it was signed, by whom.
    ///
    /// # Errors
    /// What does not fit.
    pub fn verify(&self, given: &[PublicKey]) -> Result<(RecordView, i64, String), Unproven> {
        if self.optgate_proof != 1 {
            return unproven(format!("it has form {}, and this program knows form 1", self.optgate_proof));
        }
        let mut keys = Keys::of(given);
        self.signers.iter().try_for_each(|signer| keys.signer(signer))?;
        keys.vouches = self.vouches.clone();
        let checkpoint = keys.open(&self.checkpoint)?;
        if !keys.trusted().contains(&checkpoint.key) {
            let key = &checkpoint.key;
            return unproven(format!("it is signed with key {key}, which no key that was given vouches for"));
        }
        let Some(fields) = Fields::decode(&self.record.0) else {
            return unproven("its record cannot be read");
        };
        let path: Option<Vec<Link>> =
            self.path.iter().map(|hash| hash.0.as_slice().try_into().ok()).collect();
        let index = fields.seq.checked_sub(checkpoint.from + 1).and_then(|index| u64::try_from(index).ok());
        let proven = fields.node == checkpoint.node
            && path.zip(index).is_some_and(|(path, index)| {
                let digest = chain::digest(&self.record.0);
                merkle::leads_to(&checkpoint.root, &digest, index, checkpoint.count(), &path)
            });
        if !proven {
            return unproven(format!(
                "record {} is not among those that were signed at record {}",
                fields.seq, checkpoint.head.seq
            ));
        }
        Ok((fields.view(), checkpoint.time_us, checkpoint.key))
    }

    /// The record that its journal was signed at, with its chain value: what that journal must hold for ever.
    #[must_use]
    pub fn signed_head(&self) -> Option<(i64, [u8; 32])> {
        let Checkpoint { head, .. } = Checkpoint::decode(&self.checkpoint.canonical.0)?;
        Some((head.seq, head.link))
    }
}
