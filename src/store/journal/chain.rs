//! The bytes of a record, the hash that ties it to the one before, and what lies beside them to be forgotten.
//!
//! ```text
//!   beside the chain           in it
//!   subject  --+
//!              +--> person --> canonical --> digest --> chain
//!   blinding --+
//!   erased: both are gone      pruned: gone, the digest is kept in its place
//!
//! canonical = 0x02 | field | field | ... ten fields in this order
//! field     = length (4 bytes, big endian) | that many bytes
//!
//!   seq 8 bytes big endian · node · time 8 bytes big endian, microseconds since 1970
//!   site · kind · signal · basis or nothing · policy · person 16 bytes or nothing · reference
//!
//! person   = SHA-256( "optgate subject v1" | blinding | subject ), its first 16 bytes
//!   subject    the look-up hash of the account, 16 bytes
//!   blinding   16 random bytes, new for every record
//!
//! chain(0) = 32 zero bytes
//! chain(n) = SHA-256( chain(n-1) | SHA-256( canonical(n) ) )
//! ```
//!
//! Without its blinding nobody can tell whom a record is about, not even with the secret and every account
//! at hand; with both the record proves it. A record that is older than it may be kept gives its bytes for
//! their digest, and the chain is the same. Nothing stands beside that any more, not even its time.
//!
//! Records of the first format (0x01) have the look-up hash itself for the person, and
//! `chain(n) = SHA-256( chain(n-1) | canonical(n) )`: they are read and verified, and cannot be pruned.
//!
//! Sequence numbers of a node start at 1 and have no gaps. Whoever holds a chain value written down
//! elsewhere can prove that no record up to it was changed, taken away or put between.

use sha2::{Digest, Sha256};

use crate::privacy::Subject;
use crate::store::record::RecordView;

/// Says what the hash of a person is over.
const PERSON: &[u8] = b"optgate subject v1";

/// Bytes of a blinding.
pub(in crate::store) const BLINDING: usize = 16;

/// A chain value, or the digest of a record.
pub(in crate::store) type Link = [u8; 32];

/// How a record's bytes are laid out and chained; the number is their first byte.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(in crate::store) enum Version {
    /// The look-up hash is in the bytes.
    First = 1,
    /// What ties the record to an account stands beside them.
    Second = 2,
}

impl Version {
    /// Of a record's bytes.
    pub(in crate::store) fn of(canonical: &[u8]) -> Option<Self> {
        match canonical.first()? {
            1 => Some(Self::First),
            2 => Some(Self::Second),
            _ => None,
        }
    }
}

/// What a whole record is replaced by when it is pruned.
pub(in crate::store) fn digest(canonical: &[u8]) -> Link {
    Sha256::digest(canonical).into()
}

/// Whom a record is about, as it may stand in its bytes.
pub(in crate::store) fn person(subject: &Subject, blinding: &[u8; BLINDING]) -> [u8; 16] {
    let hash = Sha256::new().chain_update(PERSON).chain_update(blinding).chain_update(subject.as_bytes());
    let mut person = [0; 16];
    person.copy_from_slice(&hash.finalize()[..16]);
    person
}

/// Where a journal ends: the last sequence number and its chain value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(in crate::store) struct Head {
    pub(in crate::store) seq: i64,
    pub(in crate::store) link: Link,
}

impl Head {
    /// The head after one more record.
    pub(in crate::store) fn next(&self, canonical: &[u8]) -> Self {
        match Version::of(canonical) {
            Some(Version::First) => self.over(canonical),
            Some(Version::Second) | None => self.next_digest(&digest(canonical)),
        }
    }

    /// The head after a record of which only the digest is left.
    pub(in crate::store) fn next_digest(&self, digest: &Link) -> Self {
        self.over(digest)
    }

    fn over(&self, bytes: &[u8]) -> Self {
        let hash = Sha256::new().chain_update(self.link).chain_update(bytes).finalize();
        Self { seq: self.seq + 1, link: hash.into() }
    }
}

/// A record as it is kept: its bytes or what is left of them, and the columns beside them.
#[derive(Debug, Clone, Copy)]
pub(in crate::store) struct Kept<'a> {
    pub(in crate::store) seq: i64,
    pub(in crate::store) time_us: i64,
    pub(in crate::store) reference: Option<&'a str>,
    pub(in crate::store) subject: Option<&'a [u8]>,
    pub(in crate::store) blinding: Option<&'a [u8]>,
    pub(in crate::store) canonical: Option<&'a [u8]>,
    pub(in crate::store) digest: Option<&'a [u8]>,
    pub(in crate::store) chain: &'a [u8],
}

/// What stands beside a record's bytes, and the chain is not over.
#[derive(Debug, Clone, Copy)]
pub(in crate::store) struct Beside<'a> {
    pub(in crate::store) seq: i64,
    pub(in crate::store) time_us: i64,
    pub(in crate::store) reference: Option<&'a str>,
    pub(in crate::store) subject: Option<&'a [u8]>,
    pub(in crate::store) blinding: Option<&'a [u8]>,
}

impl Beside<'_> {
    /// A record's fields and whose it is, where its bytes say what stands beside them.
    pub(in crate::store) fn fields_of<'c>(&self, canonical: &'c [u8]) -> Option<(Fields<'c>, Account)> {
        let fields = Fields::decode(canonical)?;
        let account = fields.account(self.subject, self.blinding)?;
        let fits =
            (fields.seq, fields.time_us, Some(fields.reference)) == (self.seq, self.time_us, self.reference);
        fits.then_some((fields, account))
    }
}

impl Head {
    /// The fields of a kept record, unless it was pruned, and the head after it; `None` when it does not follow this
    /// head, or its columns do not say what its bytes say.
    pub(in crate::store) fn after<'a>(&self, kept: &Kept<'a>) -> Option<(Option<Fields<'a>>, Self)> {
        let (fields, next) = match (kept.canonical, kept.digest) {
            (Some(canonical), None) => {
                let Kept { seq, time_us, reference, subject, blinding, .. } = *kept;
                let (fields, _) =
                    Beside { seq, time_us, reference, subject, blinding }.fields_of(canonical)?;
                (Some(fields), self.next(canonical))
            }
            (None, Some(digest)) => {
                let forgotten = kept.time_us == 0 && kept.reference.is_none() && kept.blinding.is_none();
                (None, forgotten.then_some(self.next_digest(digest.try_into().ok()?))?)
            }
            _ => return None,
        };
        (kept.seq == next.seq && kept.chain == next.link).then_some((fields, next))
    }
}

/// Whose record it is, once its columns were held against its bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::store) enum Account {
    /// It never named an account.
    None,
    /// It named one, and what tied it to that is erased.
    Erased,
    /// This one.
    Known(Subject),
}

/// A record's fields, borrowed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::store) struct Fields<'a> {
    pub(in crate::store) version: Version,
    pub(in crate::store) seq: i64,
    pub(in crate::store) node: &'a str,
    pub(in crate::store) time_us: i64,
    pub(in crate::store) site: &'a str,
    pub(in crate::store) kind: &'a str,
    pub(in crate::store) signal: &'a str,
    pub(in crate::store) basis: &'a str,
    pub(in crate::store) policy: &'a str,
    /// See the head of this file; `None` when no account was named.
    pub(in crate::store) person: Option<[u8; 16]>,
    pub(in crate::store) reference: &'a str,
}

impl<'a> Fields<'a> {
    /// The canonical bytes.
    pub(in crate::store) fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(192);
        out.push(self.version as u8);
        put(&mut out, &self.seq.to_be_bytes());
        put(&mut out, self.node.as_bytes());
        put(&mut out, &self.time_us.to_be_bytes());
        for text in [self.site, self.kind, self.signal, self.basis, self.policy] {
            put(&mut out, text.as_bytes());
        }
        put(&mut out, self.person.as_ref().map_or(&[][..], |p| p));
        put(&mut out, self.reference.as_bytes());
        out
    }

    /// Reads canonical bytes; `None` when they are not exactly one record of a known version.
    pub(in crate::store) fn decode(bytes: &'a [u8]) -> Option<Self> {
        let version = Version::of(bytes)?;
        let mut rest = bytes.get(1..)?;
        let fields = Self {
            version,
            seq: number(&mut rest)?,
            node: text(&mut rest)?,
            time_us: number(&mut rest)?,
            site: text(&mut rest)?,
            kind: text(&mut rest)?,
            signal: text(&mut rest)?,
            basis: text(&mut rest)?,
            policy: text(&mut rest)?,
            person: match field(&mut rest)? {
                [] => None,
                bytes => Some(bytes.try_into().ok()?),
            },
            reference: text(&mut rest)?,
        };
        rest.is_empty().then_some(fields)
    }

    /// Whose record it is, by the columns beside it; `None` when they do not fit its bytes.
    pub(in crate::store) fn account(
        &self,
        subject: Option<&[u8]>,
        blinding: Option<&[u8]>,
    ) -> Option<Account> {
        let account = match (self.person, subject, blinding) {
            (None, None, None) => Account::None,
            (Some(_), None, None) => Account::Erased,
            (Some(in_bytes), Some(subject), blinding) => {
                let subject = Subject::from_bytes(subject.try_into().ok()?);
                let expected = match (self.version, blinding) {
                    (Version::First, None) => *subject.as_bytes(),
                    (Version::Second, Some(blinding)) => person(&subject, blinding.try_into().ok()?),
                    _ => return None,
                };
                (expected == in_bytes).then_some(Account::Known(subject))?
            }
            _ => return None,
        };
        Some(account)
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
            account: self.person.is_some(),
        }
    }
}

/// Writes one field.
pub(super) fn put(out: &mut Vec<u8>, field: &[u8]) {
    // No field comes near 4 GiB: site and policy are settings, the rest is fixed.
    out.extend_from_slice(&u32::try_from(field.len()).unwrap_or(u32::MAX).to_be_bytes());
    out.extend_from_slice(field);
}

/// Reads one field.
pub(super) fn field<'a>(rest: &mut &'a [u8]) -> Option<&'a [u8]> {
    let (length, after) = rest.split_first_chunk::<4>()?;
    let (field, after) = after.split_at_checked(u32::from_be_bytes(*length) as usize)?;
    *rest = after;
    Some(field)
}

pub(super) fn text<'a>(rest: &mut &'a [u8]) -> Option<&'a str> {
    std::str::from_utf8(field(rest)?).ok()
}

pub(super) fn number(rest: &mut &[u8]) -> Option<i64> {
    Some(i64::from_be_bytes(field(rest)?.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(version: Version) -> Fields<'static> {
        Fields {
            version,
            seq: 1,
            node: "n1",
            time_us: 2,
            site: "shop",
            kind: "opt-out",
            signal: "gpc",
            basis: "gpc",
            policy: "p",
            person: Some([7; 16]),
            reference: "r",
        }
    }

    /// The format is evidence: these bytes may never change under their version.
    #[test]
    fn canonical_bytes_are_fixed() {
        for (version, tag) in [(Version::First, b"\x01"), (Version::Second, b"\x02")] {
            let bytes = sample(version).encode();
            let expected = [
                &tag[..],
                &b"\0\0\0\x08\0\0\0\0\0\0\0\x01\0\0\0\x02n1\0\0\0\x08\0\0\0\0\0\0\0\x02"[..],
                b"\0\0\0\x04shop\0\0\0\x07opt-out\0\0\0\x03gpc\0\0\0\x03gpc\0\0\0\x01p",
                b"\0\0\0\x10\x07\x07\x07\x07\x07\x07\x07\x07\x07\x07\x07\x07\x07\x07\x07\x07\0\0\0\x01r",
            ]
            .concat();
            assert_eq!(bytes, expected);
            assert_eq!(Fields::decode(&bytes), Some(sample(version)));
        }
    }

    /// So are the rules that chain them, and the one that hides the person.
    #[test]
    fn chain_and_person_are_fixed() {
        let hash = |parts: &[&[u8]]| -> Link { Sha256::digest(parts.concat()).into() };
        let head = Head { seq: 0, link: [3; 32] };
        let first = sample(Version::First).encode();
        assert_eq!(head.next(&first), Head { seq: 1, link: hash(&[&[3; 32], &first]) });
        let second = sample(Version::Second).encode();
        assert_eq!(head.next(&second), Head { seq: 1, link: hash(&[&[3; 32], &hash(&[&second])]) });
        assert_eq!(head.next_digest(&digest(&second)), head.next(&second), "pruned, the chain is the same");
        let subject = Subject::from_bytes([7; 16]);
        let expected = hash(&[b"optgate subject v1", &[9; 16], &[7; 16]]);
        assert_eq!(person(&subject, &[9; 16])[..], expected[..16]);
    }

    /// The columns beside a record are believed only where its bytes agree, and may only be missing together.
    #[test]
    fn an_account_is_known_only_by_what_fits_the_bytes() {
        let (subject, blinding) = ([7; 16], [9; 16]);
        let known = Some(Account::Known(Subject::from_bytes(subject)));
        let first = sample(Version::First);
        assert_eq!(first.account(Some(&subject), None), known);
        assert_eq!(first.account(None, None), Some(Account::Erased));
        assert_eq!(first.account(Some(&[8; 16]), None), None);
        assert_eq!(first.account(Some(&subject), Some(&blinding)), None);
        let hidden = person(&Subject::from_bytes(subject), &blinding);
        let second = Fields { person: Some(hidden), ..sample(Version::Second) };
        assert_eq!(second.account(Some(&subject), Some(&blinding)), known);
        assert_eq!(second.account(None, None), Some(Account::Erased));
        for (subject, blinding) in [
            (Some(&[8; 16][..]), Some(&blinding[..])),
            (Some(&subject), Some(&[8; 16])),
            (Some(&subject), None),
            (None, Some(&blinding)),
            (Some(&subject[..15]), Some(&blinding)),
            (Some(&hidden), None),
        ] {
            assert_eq!(second.account(subject, blinding), None, "{subject:?} {blinding:?}");
        }
        let nobody = Fields { person: None, ..second };
        assert_eq!(nobody.account(None, None), Some(Account::None));
        assert_eq!(nobody.account(Some(&subject), Some(&blinding)), None);
    }

    #[test]
    fn a_cut_or_lengthened_record_is_no_record() {
        let bytes = sample(Version::Second).encode();
        for end in 0..bytes.len() {
            assert_eq!(Fields::decode(&bytes[..end]), None, "cut at {end}");
        }
        assert_eq!(Fields::decode(&[&bytes[..], b"x"].concat()), None);
        assert_eq!(Fields::decode(&[b"\x03", &bytes[1..]].concat()), None);
    }

    /// Moving bytes from one field to its neighbour must change what is hashed.
    #[test]
    fn fields_cannot_be_shifted_into_each_other() {
        let sample = sample(Version::Second);
        let shifted = Fields { site: "shopo", kind: "pt-out", ..sample };
        assert_ne!(sample.encode(), shifted.encode());
    }

    #[test]
    fn every_flipped_bit_changes_the_chain() {
        for version in [Version::First, Version::Second] {
            let bytes = sample(version).encode();
            let head = Head::default().next(&bytes);
            for bit in 0..bytes.len() * 8 {
                let mut other = bytes.clone();
                other[bit / 8] ^= 1 << (bit % 8);
                assert_ne!(Head::default().next(&other).link, head.link, "bit {bit}");
            }
        }
    }
}
