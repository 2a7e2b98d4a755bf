//! The bytes of a record and the hash that ties it to the one before.
//!
//! ```text
//! canonical = 0x01 | field | field | ... ten fields in this order
//! field     = length (4 bytes, big endian) | that many bytes
//!
//!   seq 8 bytes big endian · node · time 8 bytes big endian, microseconds since 1970
//!   site · kind · signal · basis or nothing · policy · subject 16 bytes or nothing · reference
//!
//! chain(0) = 32 zero bytes
//! chain(n) = SHA-256( chain(n-1) | canonical(n) )
//! ```
//!
//! Sequence numbers of a node start at 1 and have no gaps. Whoever holds a chain value written down
//! elsewhere can prove that no record up to it was changed, taken away or put between.

use sha2::{Digest, Sha256};

use crate::privacy::Subject;
use crate::store::record::RecordView;

/// Format tag of the canonical bytes.
const VERSION: u8 = 1;

/// A chain value.
pub(in crate::store) type Link = [u8; 32];

/// Where a journal ends: the last sequence number and its chain value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(in crate::store) struct Head {
    pub(in crate::store) seq: i64,
    pub(in crate::store) link: Link,
}

impl Head {
    /// The head after one more record.
    pub(in crate::store) fn next(&self, canonical: &[u8]) -> Self {
        let hash = Sha256::new().chain_update(self.link).chain_update(canonical).finalize();
        Self { seq: self.seq + 1, link: hash.into() }
    }
}

/// A record's fields, borrowed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::store) struct Fields<'a> {
    pub(in crate::store) seq: i64,
    pub(in crate::store) node: &'a str,
    pub(in crate::store) time_us: i64,
    pub(in crate::store) site: &'a str,
    pub(in crate::store) kind: &'a str,
    pub(in crate::store) signal: &'a str,
    pub(in crate::store) basis: &'a str,
    pub(in crate::store) policy: &'a str,
    pub(in crate::store) subject: Option<Subject>,
    pub(in crate::store) reference: &'a str,
}

impl<'a> Fields<'a> {
    /// The canonical bytes.
    pub(in crate::store) fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(192);
        out.push(VERSION);
        let mut put = |field: &[u8]| {
            // No field comes near 4 GiB: site and policy are settings, the rest is fixed.
            out.extend_from_slice(&u32::try_from(field.len()).unwrap_or(u32::MAX).to_be_bytes());
            out.extend_from_slice(field);
        };
        put(&self.seq.to_be_bytes());
        put(self.node.as_bytes());
        put(&self.time_us.to_be_bytes());
        for text in [self.site, self.kind, self.signal, self.basis, self.policy] {
            put(text.as_bytes());
        }
        put(self.subject.as_ref().map_or(&[][..], |s| s.as_bytes()));
        put(self.reference.as_bytes());
        out
    }

    /// Reads canonical bytes; `None` when they are not exactly one record of this version.
    pub(in crate::store) fn decode(bytes: &'a [u8]) -> Option<Self> {
        let (&VERSION, mut rest) = bytes.split_first()? else { return None };
        let fields = Self {
            seq: number(&mut rest)?,
            node: text(&mut rest)?,
            time_us: number(&mut rest)?,
            site: text(&mut rest)?,
            kind: text(&mut rest)?,
            signal: text(&mut rest)?,
            basis: text(&mut rest)?,
            policy: text(&mut rest)?,
            subject: match field(&mut rest)? {
                [] => None,
                bytes => Some(Subject::from_bytes(bytes.try_into().ok()?)),
            },
            reference: text(&mut rest)?,
        };
        rest.is_empty().then_some(fields)
    }

    /// What an auditor may see.
    pub(in crate::store) fn view(&self) -> RecordView {
        RecordView {
            seq: self.seq,
            node: self.node.to_owned(),
            time_us: self.time_us,
            site: self.site.to_owned(),
            kind: self.kind.to_owned(),
            signal: self.signal.to_owned(),
            basis: self.basis.to_owned(),
            policy: self.policy.to_owned(),
            reference: self.reference.to_owned(),
            account: self.subject.is_some(),
        }
    }
}

fn field<'a>(rest: &mut &'a [u8]) -> Option<&'a [u8]> {
    let (length, after) = rest.split_first_chunk::<4>()?;
    let (field, after) = after.split_at_checked(u32::from_be_bytes(*length) as usize)?;
    *rest = after;
    Some(field)
}

fn text<'a>(rest: &mut &'a [u8]) -> Option<&'a str> {
    std::str::from_utf8(field(rest)?).ok()
}

fn number(rest: &mut &[u8]) -> Option<i64> {
    Some(i64::from_be_bytes(field(rest)?.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Fields<'static> {
        Fields {
            seq: 1,
            node: "n1",
            time_us: 2,
            site: "shop",
            kind: "opt-out",
            signal: "gpc",
            basis: "gpc",
            policy: "p",
            subject: Some(Subject::from_bytes([7; 16])),
            reference: "r",
        }
    }

    /// The format is evidence: these bytes may never change under version 1.
    #[test]
    fn canonical_bytes_are_fixed() {
        let bytes = sample().encode();
        let expected = [
            &b"\x01\0\0\0\x08\0\0\0\0\0\0\0\x01\0\0\0\x02n1\0\0\0\x08\0\0\0\0\0\0\0\x02"[..],
            b"\0\0\0\x04shop\0\0\0\x07opt-out\0\0\0\x03gpc\0\0\0\x03gpc\0\0\0\x01p",
            b"\0\0\0\x10\x07\x07\x07\x07\x07\x07\x07\x07\x07\x07\x07\x07\x07\x07\x07\x07\0\0\0\x01r",
        ]
        .concat();
        assert_eq!(bytes, expected);
        assert_eq!(Fields::decode(&bytes), Some(sample()));
    }

    #[test]
    fn a_cut_or_lengthened_record_is_no_record() {
        let bytes = sample().encode();
        for end in 0..bytes.len() {
            assert_eq!(Fields::decode(&bytes[..end]), None, "cut at {end}");
        }
        assert_eq!(Fields::decode(&[&bytes[..], b"x"].concat()), None);
        assert_eq!(Fields::decode(&[b"\x02", &bytes[1..]].concat()), None);
    }

    /// Moving bytes from one field to its neighbour must change what is hashed.
    #[test]
    fn fields_cannot_be_shifted_into_each_other() {
        let shifted = Fields { site: "shopo", kind: "pt-out", ..sample() };
        assert_ne!(sample().encode(), shifted.encode());
    }

    #[test]
    fn every_flipped_bit_changes_the_chain() {
        let bytes = sample().encode();
        let head = Head::default().next(&bytes);
        for bit in 0..bytes.len() * 8 {
            let mut other = bytes.clone();
            other[bit / 8] ^= 1 << (bit % 8);
            assert_ne!(Head::default().next(&other).link, head.link, "bit {bit}");
        }
    }
}
