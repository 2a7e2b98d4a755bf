//! The person a record is about, as a keyed hash: at each level at which a request can name one.
//!
//! A level's name is part of its hash, so that an account and a profile with the same key are two subjects. The
//! scope is the site, or the group of sites that share opt-outs.

use super::keys::Keys;

/// Keyed hash of an account's or a profile's key within a scope. Never printed and never sent anywhere; `Debug`
/// shows no bytes.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Subject([u8; 16]);

impl std::fmt::Debug for Subject {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Subject(..)")
    }
}

impl Subject {
    /// Hashes an account's key within its scope.
    ///
    /// Cost: one HMAC, about 0.5 us.
    #[must_use]
    pub fn of_account(keys: &Keys, scope: &str, account: &[u8]) -> Self {
        Self(cut(keys.subject_mac(&[b"account", scope.as_bytes(), account])))
    }

    /// Hashes a pseudonymous profile's key within its scope. Cost: as [`Self::of_account`].
    #[must_use]
    pub fn of_profile(keys: &Keys, scope: &str, profile: &[u8]) -> Self {
        Self(cut(keys.subject_mac(&[b"profile", scope.as_bytes(), profile])))
    }

    /// From the journal's bytes.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    /// For the journal and the index.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }
}

/// Whom a request names beside its browser (11 CCR 7025(c)(1)).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Named {
    /// The account: a consumer who is known.
    pub account: Option<Subject>,
    /// The pseudonymous profile.
    pub profile: Option<Subject>,
}

impl Named {
    /// Nobody.
    pub const NOBODY: Self = Self { account: None, profile: None };

    /// Whether nobody is named.
    #[must_use]
    pub const fn is_nobody(self) -> bool {
        self.account.is_none() && self.profile.is_none()
    }
}

/// The same account and profile as they are hashed under the other secrets that are tried, in their order; all empty while
/// there is one.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Aliases {
    /// Of the account.
    pub account: Vec<Subject>,
    /// Of the profile.
    pub profile: Vec<Subject>,
}

/// Keyed hash of something by which a request is known again: a token, a session's cookie. Never leaves memory.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Mark([u8; 16]);

impl std::fmt::Debug for Mark {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Mark(..)")
    }
}

impl Mark {
    /// Hashes a token within its scope. Cost: one HMAC over the token, about 2 us for 1 KiB.
    #[must_use]
    pub fn of_token(keys: &Keys, scope: &str, token: &[u8]) -> Self {
        Self(cut(keys.subject_mac(&[b"token", scope.as_bytes(), token])))
    }

    /// Hashes the value of a session's cookie within its scope. Cost: as [`Subject::of_account`].
    #[must_use]
    pub fn of_session(keys: &Keys, scope: &str, session: &[u8]) -> Self {
        Self(cut(keys.subject_mac(&[b"session", scope.as_bytes(), session])))
    }

    /// A number that spreads evenly.
    #[must_use]
    pub const fn spread(self) -> u64 {
        let [a, b, c, d, e, f, g, h, ..] = self.0;
        u64::from_ne_bytes([a, b, c, d, e, f, g, h])
    }
}

fn cut(mac: [u8; 32]) -> [u8; 16] {
    let mut out = [0; 16];
    out.copy_from_slice(&mac[..16]);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A profile's key may be any text, an account's too: neither may speak for the other.
    #[test]
    fn the_same_key_at_two_levels_is_two_subjects() {
        let keys = Keys::derive(b"s");
        let (account, profile) =
            (Subject::of_account(&keys, "a", b"1"), Subject::of_profile(&keys, "a", b"1"));
        assert_ne!(account, profile);
        let (token, session) = (Mark::of_token(&keys, "a", b"1"), Mark::of_session(&keys, "a", b"1"));
        assert_ne!(token, session);
        assert_eq!(format!("{token:?}"), "Mark(..)");
    }

    #[test]
    fn the_same_account_on_two_sites_is_two_subjects() {
        let keys = Keys::derive(b"s");
        assert_ne!(Subject::of_account(&keys, "a", b"u1"), Subject::of_account(&keys, "b", b"u1"));
        assert_ne!(Subject::of_account(&keys, "a", b"bu1"), Subject::of_account(&keys, "ab", b"u1"));
        assert_eq!(format!("{:?}", Subject::of_account(&keys, "a", b"u1")), "Subject(..)");
    }
}
