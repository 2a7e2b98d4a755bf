//! What is signed: where the journal stood, and the tree of what came since it was signed before.
//!
//! ```text
//! canonical = 0x01 | field | ... seven fields, laid out as in `chain`
//!
//!   node · from 8 bytes big endian · seq 8 bytes big endian · chain 32 bytes · root 32 bytes
//!   time 8 bytes big endian, microseconds since 1970 · key, the name of the signer's public key
//!
//! signed    = "optgate checkpoint v1" | 0x00 | canonical
//! ```
//!
//! `chain` is the chain value of record `seq`: it stands for every record up to that one. `root` is the tree's
//! over the digests of records `from + 1` to `seq`, see [`super::merkle`]: it proves one of them alone.
//!
//! A new signing key and the one before it vouch for each other, so that who trusts one can trust both:
//!
//! ```text
//! signed    = "optgate signer v1" | 0x00 | the other's public key, 32 bytes | time 8 bytes big endian
//! ```

use super::chain::{Head, Link, field, number, put, text};

const VERSION: u8 = 1;

/// What a signer has signed, decoded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::store) struct Checkpoint {
    pub(in crate::store) node: String,
    /// The checkpoint before ended here; 0 for the first.
    pub(in crate::store) from: i64,
    /// The last record that is signed, and its chain value.
    pub(in crate::store) head: Head,
    pub(in crate::store) root: Link,
    /// Microseconds since the Unix epoch.
    pub(in crate::store) time_us: i64,
    /// The name of the key.
    pub(in crate::store) key: String,
}

impl Checkpoint {
    /// The canonical bytes.
    pub(in crate::store) fn encode(&self) -> Vec<u8> {
        let mut out = vec![VERSION];
        put(&mut out, self.node.as_bytes());
        put(&mut out, &self.from.to_be_bytes());
        put(&mut out, &self.head.seq.to_be_bytes());
        put(&mut out, &self.head.link);
        put(&mut out, &self.root);
        put(&mut out, &self.time_us.to_be_bytes());
        put(&mut out, self.key.as_bytes());
        out
    }

    /// Reads canonical bytes; `None` when they are not exactly one checkpoint.
    pub(in crate::store) fn decode(bytes: &[u8]) -> Option<Self> {
        let (&VERSION, mut rest) = bytes.split_first()? else { return None };
        let checkpoint = Self {
            node: text(&mut rest)?.to_owned(),
            from: number(&mut rest)?,
            head: Head { seq: number(&mut rest)?, link: field(&mut rest)?.try_into().ok()? },
            root: field(&mut rest)?.try_into().ok()?,
            time_us: number(&mut rest)?,
            key: text(&mut rest)?.to_owned(),
        };
        (rest.is_empty() && 0 <= checkpoint.from && checkpoint.from < checkpoint.head.seq)
            .then_some(checkpoint)
    }

    /// Records of its tree.
    pub(in crate::store) fn count(&self) -> u64 {
        self.head.seq.abs_diff(self.from)
    }
}

/// The bytes that are signed for a checkpoint.
pub(in crate::store) fn signed(canonical: &[u8]) -> Vec<u8> {
    [b"optgate checkpoint v1\0", canonical].concat()
}

/// The bytes that are signed to vouch for another key.
pub(in crate::store) fn vouched(public: &[u8; 32], time_us: i64) -> Vec<u8> {
    [&b"optgate signer v1\0"[..], public, &time_us.to_be_bytes()].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Checkpoint {
        Checkpoint {
            node: "n1".into(),
            from: 1,
            head: Head { seq: 3, link: [4; 32] },
            root: [5; 32],
            time_us: 6,
            key: "k".into(),
        }
    }

    /// The format is evidence: these bytes may never change under version 1.
    #[test]
    fn canonical_bytes_are_fixed() {
        let expected = [
            &b"\x01\0\0\0\x02n1\0\0\0\x08\0\0\0\0\0\0\0\x01\0\0\0\x08\0\0\0\0\0\0\0\x03"[..],
            b"\0\0\0\x20",
            &[4; 32],
            b"\0\0\0\x20",
            &[5; 32],
            b"\0\0\0\x08\0\0\0\0\0\0\0\x06\0\0\0\x01k",
        ]
        .concat();
        assert_eq!(sample().encode(), expected);
        assert_eq!(Checkpoint::decode(&expected), Some(sample()));
        for end in 0..expected.len() {
            assert_eq!(Checkpoint::decode(&expected[..end]), None, "cut at {end}");
        }
        assert_eq!(Checkpoint::decode(&[&expected[..], b"x"].concat()), None);
        for (from, seq) in [(-1, 3), (3, 3), (4, 3)] {
            let other = Checkpoint { from, head: Head { seq, ..sample().head }, ..sample() };
            assert_eq!(Checkpoint::decode(&other.encode()), None, "{from} to {seq}");
        }
    }
}
