//! The secrets from which cookie MACs and subject hashes are derived.

use std::sync::Arc;

use arc_swap::ArcSwapOption;
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

use super::cookie::{Signatures, constant_time_eq};

/// Keys derived from one secret: one signs the opt-out cookie, one hashes subjects, one seals what is kept of them
/// until others were told, one signs what was asked, and one what the store writes beside its records. And those of the
/// other secrets that are tried: the one to come, if there is one, and those before, under which browsers and accounts are
/// still known.
///
/// Never printed: `Debug` shows no bytes.
#[derive(Clone)]
pub struct Keys {
    cookie: [u8; 32],
    /// What the first of them signed last.
    signed: Arc<ArcSwapOption<Signatures>>,
    subject: [u8; 32],
    sealing: [u8; 32],
    question: [u8; 32],
    beside: [u8; 32],
    older: Arc<[Self]>,
}

impl std::fmt::Debug for Keys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Keys(..)")
    }
}

impl Keys {
    /// Derives the keys from a secret (any length; 32 random bytes by `store`).
    #[must_use]
    pub fn derive(secret: &[u8]) -> Self {
        Self {
            cookie: mac(secret, &[b"optgate cookie v1"]),
            signed: Arc::default(),
            subject: mac(secret, &[b"optgate subject v1"]),
            sealing: mac(secret, &[b"optgate sealing v1"]),
            question: mac(secret, &[b"optgate question v1"]),
            beside: mac(secret, &[b"optgate beside records v1"]),
            older: Arc::default(),
        }
    }

    /// These keys, with those of other secrets to be tried as well, newest first.
    #[must_use]
    pub fn with_older(self, secrets: &[impl AsRef<[u8]>]) -> Self {
        Self { older: secrets.iter().map(|secret| Self::derive(secret.as_ref())).collect(), ..self }
    }

    /// Keys of the other secrets, newest first; usually none.
    #[must_use]
    pub fn older(&self) -> &[Self] {
        &self.older
    }

    /// Seals what must be readable again: a cipher's key of 256 bits, and nothing else's.
    #[must_use]
    pub fn sealing(&self) -> &[u8; 32] {
        &self.sealing
    }

    /// Signs what stands beside records and no chain is over: a MAC's key, and nothing else's.
    #[must_use]
    pub fn beside(&self) -> &[u8; 32] {
        &self.beside
    }

    /// MAC over what stands beside a record.
    #[must_use]
    pub fn beside_mac(&self, parts: &[&[u8]]) -> [u8; 32] {
        mac(&self.beside, parts)
    }

    /// Whether a MAC over what stands beside a record is ours, or was under an earlier secret.
    #[must_use]
    pub fn know_beside(&self, parts: &[&[u8]], written: &[u8; 32]) -> bool {
        self.any_made(written, |keys| keys.beside_mac(parts))
    }

    /// MAC over a question that a person is asked.
    #[must_use]
    pub fn question_mac(&self, parts: &[&[u8]]) -> [u8; 32] {
        mac(&self.question, parts)
    }

    /// Whether a MAC over a question is ours, or was under an earlier secret.
    #[must_use]
    pub fn know_question(&self, parts: &[&[u8]], sent: &[u8; 32]) -> bool {
        self.any_made(sent, |keys| keys.question_mac(parts))
    }

    fn any_made(&self, mac: &[u8; 32], make: impl Fn(&Self) -> [u8; 32]) -> bool {
        std::iter::once(self).chain(self.older()).any(|keys| constant_time_eq(&make(keys), mac))
    }

    /// MAC over a cookie's state and month.
    pub(super) fn cookie_mac(&self, text: &[u8]) -> [u8; 32] {
        mac(&self.cookie, &[text])
    }

    /// Looks at the month's signatures of the cookie, where they are those that were kept.
    pub(super) fn signed<R>(&self, month: u32, look: impl FnOnce(&Signatures) -> R) -> Option<R> {
        self.signed.load().as_deref().filter(|signed| signed.month == month).map(look)
    }

    /// Keeps the signatures of the month that is now: from then on they cost nothing.
    pub(super) fn keep_signed(&self, signed: Signatures) {
        self.signed.store(Some(Arc::new(signed)));
    }

    /// MAC over a subject's site group and identifier.
    pub(super) fn subject_mac(&self, parts: &[&[u8]]) -> [u8; 32] {
        mac(&self.subject, parts)
    }
}

/// HMAC-SHA-256 over length-prefixed parts, so that no two part lists share an input.
fn mac(key: &[u8], parts: &[&[u8]]) -> [u8; 32] {
    // HMAC takes keys of any length; the error type exists for other MACs.
    let Ok(mut hmac) = Hmac::<Sha256>::new_from_slice(key) else { return [0; 32] };
    for part in parts {
        hmac.update(&(part.len() as u64).to_be_bytes());
        hmac.update(part);
    }
    hmac.finalize().into_bytes().into()
}
