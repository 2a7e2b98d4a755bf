//! Under which name the accounts and profiles of a site are kept: its group's, else its own.

use crate::config;
use crate::edge::house::{Core, Site};
use crate::privacy::{Basis, Keys, Mark, Standing, Subject};
use crate::store::{Change, Kind, Source};

/// A site's scope, and the names from before.
#[derive(Debug, Clone, Copy)]
pub struct Scope<'a> {
    keys: &'a Keys,
    name: &'a str,
    formerly: &'a [String],
    /// All of the names, in one.
    lineage: &'a str,
}

/// An account or a profile as it is kept, and as it was. The same for every site of a group, so that a session takes it from
/// one to another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Known {
    /// As it is kept.
    pub subject: Subject,
    /// Under the other secrets that are tried, in their order; then under each name from before, as many each, the live
    /// secret's first. Mostly empty.
    others: Box<[Subject]>,
    /// Secrets.
    secrets: usize,
}

impl Known {
    /// Under the other secrets that are tried, in their order; usually none.
    #[must_use]
    pub fn older(&self) -> &[Subject] {
        self.others.get(..self.secrets.saturating_sub(1)).unwrap_or_default()
    }

    /// Under the secrets that are no longer live, whichever the name.
    fn under_others(&self) -> impl Iterator<Item = Subject> {
        let all = self.others.iter().enumerate();
        all.filter(|(at, _)| !(at + 1).is_multiple_of(self.secrets)).map(|(_, subject)| *subject)
    }

    /// Under each name from before, under the live secret first.
    fn before(&self) -> impl Iterator<Item = &[Subject]> {
        let after = self.others.get(self.secrets.saturating_sub(1)..).unwrap_or_default();
        after.chunks_exact(self.secrets.max(1))
    }
}

impl<'a> Scope<'a> {
    /// The scope of a site.
    #[must_use]
    pub fn of(keys: &'a Keys, site: &'a config::Site) -> Self {
        Self { keys, name: &site.scope, formerly: &site.formerly, lineage: &site.lineage }
    }

    /// A scope that never had another name.
    #[cfg(test)]
    pub const fn new(keys: &'a Keys, name: &'a str) -> Self {
        Self { keys, name, formerly: &[], lineage: name }
    }

    /// Cost: one HMAC, one more for every name from before (in a group every site's), and as many again for every other secret
    /// that is tried.
    #[must_use]
    pub fn account(&self, key: &[u8]) -> Known {
        self.hash(key, Subject::of_account)
    }

    /// Cost: as [`Self::account`].
    #[must_use]
    pub fn profile(&self, key: &[u8]) -> Known {
        self.hash(key, Subject::of_profile)
    }

    /// A session's mark. A reload that brings a name from before must not find what was worked out without it.
    #[must_use]
    pub fn session(&self, value: &[u8]) -> Mark {
        Mark::of_session(self.keys, self.lineage, value)
    }

    /// A token's mark, like a session's.
    #[must_use]
    pub fn token(&self, token: &[u8]) -> Mark {
        Mark::of_token(self.keys, self.lineage, token)
    }

    fn hash(&self, key: &[u8], hash: fn(&Keys, &str, &[u8]) -> Subject) -> Known {
        let secrets = || std::iter::once(self.keys).chain(self.keys.older());
        let names = std::iter::once(self.name).chain(self.formerly.iter().map(String::as_str));
        let all = names.flat_map(|name| secrets().map(move |keys| (keys, name)));
        Known {
            subject: hash(self.keys, self.name, key),
            // The first is the one above.
            others: all.skip(1).map(|(keys, name)| hash(keys, name, key)).collect(),
            secrets: secrets().count(),
        }
    }
}

/// What is known of somebody. An opt-out under another secret, before the site came into its group or under a former name
/// is honoured and goes over to where the account is kept now, on record; not without `recording`. `level`: which of the two
/// it is.
pub fn standing(core: &Core, site: &Site, (known, level): (&Known, Basis), recording: bool) -> Standing {
    let store = &core.house.store;
    let standing = store.lookup(&known.subject);
    if recording && known.secrets > 1 {
        store.outlive(&known.subject, known.under_others());
    }
    // No word under another hash adds to this.
    let settled = standing.is_out() && standing != Standing::Programme;
    if settled || known.others.is_empty() {
        return standing;
    }
    let with = |others: &[Subject], recording: bool| {
        if !recording {
            return store.lookup_all(&known.subject, others);
        }
        let live = Change {
            time_us: jiff::Timestamp::now().as_microsecond(),
            site: site.settings.name.clone(),
            kind: Kind::OptOut,
            source: Source::Carried,
            basis: Some(level),
            policy: site.version.to_string(),
            subject: Some(known.subject),
        };
        store.carry(others, live)
    };
    // Among nodes nothing goes over from one secret to another: a record that is nobody's choice would stand against an
    // opt-in of the same moment on another node. All hashes are looked up for as long as there are their secrets.
    let standing = match known.older() {
        [] => standing,
        older => with(older, recording && !store.has_others()),
    };
    if matches!(standing, Standing::Unknown | Standing::NoAccount) {
        // An opt-out under any of the names holds until somebody opts in under the one of now. An opt-in was to the one
        // site, not to all of its group, nor to all that has come of it.
        let mut before = known.before().map(|subjects| with(subjects, recording));
        return before.find(|standing| standing.is_out()).unwrap_or(Standing::Unknown);
    }
    standing
}
