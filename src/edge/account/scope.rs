//! Under which name the accounts and profiles of a site are kept: its group's, else its own.

use crate::config;
use crate::edge::house::{Core, Site};
use crate::privacy::{Basis, Keys, Mark, Standing, Subject};
use crate::store::{Change, Kind, Source};

/// A site's scope, and the one it had before it was put into a group.
#[derive(Debug, Clone, Copy)]
pub struct Scope<'a> {
    keys: &'a Keys,
    name: &'a str,
    before: Option<&'a str>,
}

/// An account or a profile as it is kept, and as it was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Known {
    /// As it is kept.
    pub subject: Subject,
    before: Option<Subject>,
}

impl From<Subject> for Known {
    fn from(subject: Subject) -> Self {
        Self { subject, before: None }
    }
}

impl<'a> Scope<'a> {
    /// The scope of a site.
    #[must_use]
    pub fn of(keys: &'a Keys, site: &'a config::Site) -> Self {
        let before = (site.scope != site.name).then_some(site.name.as_str());
        Self::new(keys, &site.scope, before)
    }

    /// A scope by its names.
    #[must_use]
    pub const fn new(keys: &'a Keys, name: &'a str, before: Option<&'a str>) -> Self {
        Self { keys, name, before }
    }

    /// Cost: one HMAC, two in a group.
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
        Mark::of_token(self.keys, self.before.unwrap_or(self.name), token)
    }

    fn hash(&self, key: &[u8], hash: fn(&Keys, &str, &[u8]) -> Subject) -> Known {
        let before = self.before.map(|name| hash(self.keys, name, key));
        Known { subject: hash(self.keys, self.name, key), before }
    }
}

/// What is known of somebody. What was chosen before the site came into its group is honoured, and goes over to the
/// group; `recording`: on record.
pub fn standing(core: &Core, site: &Site, known: Known, recording: bool) -> Standing {
    let standing = core.house.store.lookup(&known.subject);
    let (Standing::Unknown, Some(before)) = (standing, known.before) else { return standing };
    let before = core.house.store.lookup(&before);
    if !before.is_out() {
        return standing;
    }
    if recording {
        core.house.store.record_behind(Change {
            time_us: jiff::Timestamp::now().as_microsecond(),
            site: site.settings.name.clone(),
            kind: Kind::OptOut,
            source: Source::Import,
            basis: Some(Basis::Import),
            policy: site.version.to_string(),
            subject: Some(known.subject),
        });
    }
    before
}
