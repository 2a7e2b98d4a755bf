//! Under which name the accounts and profiles of a site are kept: its group's, else its own.

use crate::config;
use crate::edge::house::{Core, Site};
use crate::privacy::{Basis, Keys, Mark, Standing, Subject};
use crate::store::{Change, Kind, Source};

/// A site's scope, the one it had before it was put into a group, and those from before it was renamed.
#[derive(Debug, Clone, Copy)]
pub struct Scope<'a> {
    keys: &'a Keys,
    name: &'a str,
    before: Option<&'a str>,
    formerly: &'a [String],
}

/// An account or a profile as it is kept, and as it was.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Known {
    /// As it is kept.
    pub subject: Subject,
    /// Under the other secrets that are tried, in their order; usually none.
    pub older: Vec<Subject>,
    /// Under the site's own name, before it came into its group, then under each former one; each under the live secret
    /// first.
    before: Vec<Vec<Subject>>,
}

impl Known {
    /// One that was never kept under another name, as it is hashed under every secret.
    #[must_use]
    pub const fn with_older(subject: Subject, older: Vec<Subject>) -> Self {
        Self { subject, older, before: Vec::new() }
    }
}

impl<'a> Scope<'a> {
    /// The scope of a site.
    #[must_use]
    pub fn of(keys: &'a Keys, site: &'a config::Site) -> Self {
        let before = (site.scope != site.name).then_some(site.name.as_str());
        Self { formerly: &site.formerly, ..Self::new(keys, &site.scope, before) }
    }

    /// A scope by its names.
    #[must_use]
    pub const fn new(keys: &'a Keys, name: &'a str, before: Option<&'a str>) -> Self {
        Self { keys, name, before, formerly: &[] }
    }

    /// Cost: one HMAC, two in a group, one more for every former name, and as many again for every other secret that is
    /// tried.
    #[must_use]
    pub fn account(&self, key: &[u8]) -> Known {
        self.hash(key, Subject::of_account)
    }

    /// Cost: as [`Self::account`].
    #[must_use]
    pub fn profile(&self, key: &[u8]) -> Known {
        self.hash(key, Subject::of_profile)
    }

    /// A session's mark.
    #[must_use]
    pub fn session(&self, value: &[u8]) -> Mark {
        Mark::of_session(self.keys, self.name, value)
    }

    /// A token's mark. It is the site's, for what it leads to differs by site.
    #[must_use]
    pub fn token(&self, token: &[u8]) -> Mark {
        let name = self.before.unwrap_or(self.name);
        if self.formerly.is_empty() {
            return Mark::of_token(self.keys, name, token);
        }
        // A reload that adds a former name must not find what was worked out without it.
        Mark::of_token(self.keys, &format!("{name}\n{}", self.formerly.join("\n")), token)
    }

    fn hash(&self, key: &[u8], hash: fn(&Keys, &str, &[u8]) -> Subject) -> Known {
        let older = self.keys.older();
        let under = |name: &str| {
            std::iter::once(self.keys).chain(older).map(|keys| hash(keys, name, key)).collect::<Vec<_>>()
        };
        let before = self.before.into_iter().chain(self.formerly.iter().map(String::as_str)).map(under);
        Known {
            subject: hash(self.keys, self.name, key),
            older: older.iter().map(|keys| hash(keys, self.name, key)).collect(),
            before: before.collect(),
        }
    }
}

/// What is known of somebody. An opt-out under another secret, before the site came into its group or under a former name
/// is honoured and goes over to where the account is kept now, on record; not without `recording`. `level`: which of the two
/// it is.
pub fn standing(core: &Core, site: &Site, (known, level): (&Known, Basis), recording: bool) -> Standing {
    let store = &core.house.store;
    let standing = store.lookup(&known.subject);
    // No word under another hash adds to this.
    let settled = standing.is_out() && standing != Standing::Programme;
    if settled || (known.older.is_empty() && known.before.is_empty()) {
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
    let standing = match known.older.is_empty() {
        true => standing,
        false => with(&known.older, recording && !store.has_others()),
    };
    if matches!(standing, Standing::Unknown | Standing::NoAccount) {
        // An opt-out under any of the names holds until somebody opts in under the one of now. An opt-in was to the one
        // site, not to all of its group, nor to all that has come of it.
        let mut before = known.before.iter().map(|subjects| with(subjects, recording));
        return before.find(|standing| standing.is_out()).unwrap_or(Standing::Unknown);
    }
    standing
}
