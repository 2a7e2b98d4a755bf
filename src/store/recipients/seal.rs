//! Who opted out, readable only with `secret.key`: AES-256-GCM under a key of its own that is derived from the secret.
//!
//! The journal knows a person by a keyed hash, which tells a recipient nothing. So what the site calls the account is
//! kept, sealed, from the request until everybody was told.

use aws_lc_rs::aead::{AES_256_GCM, Aad, NONCE_LEN, Nonce, RandomizedNonceKey};

use crate::privacy::{Keys, Subject};

/// Longest account key that is kept, bytes.
pub(super) const MOST: usize = 1_024;

/// The keys: the live secret's, and those of the secrets before it.
pub(super) struct Seal {
    live: RandomizedNonceKey,
    older: Vec<RandomizedNonceKey>,
}

/// What was sealed.
pub(super) struct Opened {
    pub(super) plain: Vec<u8>,
    /// It was sealed with an earlier secret.
    pub(super) earlier: bool,
}

impl Seal {
    /// `None` when the cryptography refuses its own key.
    pub(super) fn of(keys: &Keys) -> Option<Self> {
        let key = |keys: &Keys| RandomizedNonceKey::new(&AES_256_GCM, keys.sealing()).ok();
        Some(Self { live: key(keys)?, older: keys.older().iter().map(key).collect::<Option<_>>()? })
    }

    /// Seals a text about somebody: the nonce, then the text and its tag. It opens for this subject only.
    pub(super) fn close(&self, plain: &[u8], about: &Subject) -> Option<Vec<u8>> {
        let mut text = plain.to_vec();
        let nonce = self.live.seal_in_place_append_tag(Aad::from(about.as_bytes()), &mut text).ok()?;
        Some([&nonce.as_ref()[..], &text].concat())
    }

    /// Opens what was sealed, if it was by one of the secrets.
    pub(super) fn open(&self, sealed: &[u8], about: &Subject) -> Option<Opened> {
        let (nonce, text) = sealed.split_at_checked(NONCE_LEN)?;
        let with = |key: &RandomizedNonceKey| {
            let (nonce, mut text) = (Nonce::try_assume_unique_for_key(nonce).ok()?, text.to_vec());
            let plain = key.open_in_place(nonce, Aad::from(about.as_bytes()), &mut text).ok()?;
            Some(plain.to_vec())
        };
        let of = |earlier| move |plain| Opened { plain, earlier };
        with(&self.live).map(of(false)).or_else(|| self.older.iter().find_map(with).map(of(true)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A rotated secret opens what was sealed before it; another's secret, another's row and a changed byte open nothing.
    #[test]
    fn what_is_sealed_opens_with_its_secret_and_for_its_subject_only() {
        let keys = Keys::derive(b"one");
        let (ann, bob) = (Subject::from_bytes([1; 16]), Subject::from_bytes([2; 16]));
        let seal = Seal::of(&keys).unwrap();
        let sealed = seal.close(b"ann@example.com", &ann).unwrap();
        assert!(!sealed.windows(3).any(|part| part == b"ann"));
        let opened = seal.open(&sealed, &ann).unwrap();
        assert_eq!((opened.plain.as_slice(), opened.earlier), (&b"ann@example.com"[..], false));
        let rotated = Seal::of(&Keys::derive(b"two").with_older(&[b"one"])).unwrap();
        assert!(rotated.open(&sealed, &ann).is_some_and(|opened| opened.earlier));
        assert!(seal.open(&sealed, &bob).is_none());
        assert!(Seal::of(&Keys::derive(b"two")).unwrap().open(&sealed, &ann).is_none());
        let mut changed = sealed.clone();
        *changed.last_mut().unwrap() ^= 1;
        assert!(seal.open(&changed, &ann).is_none());
        assert!(seal.open(&sealed[..5], &ann).is_none());
    }
}
