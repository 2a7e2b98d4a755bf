//! What is recorded, and how a record is shown.

use serde::{Deserialize, Serialize, Serializer};

use super::time;
use crate::privacy::{Basis, Subject};

/// What kind of change a record states.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Opt-out of sale and sharing.
    OptOut,
    /// Explicit, confirmed opt-in.
    OptIn,
    /// An account that opted out keeps what a programme does, explicitly and confirmed (11 CCR 7025(c)(4)).
    Programme,
    /// A request to opt out that was not carried out, which changes nothing (11 CCR 7101).
    Denied(Denial),
}

/// Why a request to opt out was not carried out: the basis for the denial.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Denial {
    /// The person opted back in after it.
    OptedIn,
    /// The business believes in good faith, on documented grounds, that it is fraudulent (11 CCR 7026(e)).
    Fraud,
    /// An agent made it without a permission that the person signed (11 CCR 7026(j)).
    NoPermission,
}

impl Denial {
    /// The word in the journal and its export.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::OptedIn => "opted-in",
            Self::Fraud => "fraud",
            Self::NoPermission => "no-permission",
        }
    }

    /// Reads [`Denial::as_str`] back.
    #[must_use]
    pub fn parse(word: &str) -> Option<Self> {
        [Self::OptedIn, Self::Fraud, Self::NoPermission].into_iter().find(|denial| denial.as_str() == word)
    }
}

impl Kind {
    /// The word in the journal and its export.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::OptOut => "opt-out",
            Self::OptIn => "opt-in",
            Self::Programme => "programme",
            Self::Denied(_) => DENIED,
        }
    }

    /// Whether it is a choice that holds from then on.
    #[must_use]
    pub const fn is_choice(self) -> bool {
        !matches!(self, Self::Denied(_))
    }

    /// Whether it takes something back, so that where several nodes record it is weighed against what each knew. An
    /// opt-out counts at once.
    #[must_use]
    pub(super) const fn is_weighed(self) -> bool {
        matches!(self, Self::OptIn | Self::Programme)
    }

    /// Reads [`Kind::as_str`] of a choice back.
    #[must_use]
    pub fn parse(word: &str) -> Option<Self> {
        [Self::OptOut, Self::OptIn, Self::Programme].into_iter().find(|kind| kind.as_str() == word)
    }

    /// Reads any of them back, by the word of its basis too.
    #[must_use]
    pub fn read(word: &str, basis: &str) -> Option<Self> {
        match word {
            DENIED => Denial::parse(basis).map(Self::Denied),
            word => Self::parse(word),
        }
    }
}

/// The word of [`Kind::Denied`].
pub const DENIED: &str = "denied";

/// Where an opt-out or opt-in came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// The browser's `Sec-GPC`.
    Gpc,
    /// The button of the consumer page.
    Form,
    /// An opt-out of before that goes over to whom the request names now: the browser's own, which its cookie keeps, that of
    /// an account whose records are forgotten, or that of the same account under another name or secret. Nobody chose
    /// anything when it did.
    Carried,
    /// An operator's import.
    Import,
}

impl Source {
    /// The word in the journal and its export.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Gpc => "gpc",
            Self::Form => "form",
            Self::Carried => "carried",
            Self::Import => "import",
        }
    }

    /// Reads [`Source::as_str`] back.
    #[must_use]
    pub fn parse(word: &str) -> Option<Self> {
        let all = [Self::Gpc, Self::Form, Self::Carried, Self::Import];
        all.into_iter().find(|source| source.as_str() == word)
    }
}

/// A state change to be recorded. Never holds an address or a user agent.
#[derive(Debug, Clone)]
pub struct Change {
    /// Microseconds since the Unix epoch.
    pub time_us: i64,
    /// The site's name.
    pub site: String,
    /// What changed.
    pub kind: Kind,
    /// How it arrived.
    pub source: Source,
    /// The decision's ground; `None` for an opt-in or a denial.
    pub basis: Option<Basis>,
    /// Registry and policy version in force.
    pub policy: String,
    /// The account, if one was named.
    pub subject: Option<Subject>,
}

impl Change {
    /// The word of its basis: of a denial why, else the decision's ground, if there is one.
    #[must_use]
    pub fn basis(&self) -> &'static str {
        match (self.kind, self.basis) {
            (Kind::Denied(denial), _) => denial.as_str(),
            (_, Some(basis)) => basis.as_str(),
            (_, None) => "",
        }
    }

    /// A change whose account is hashed under the secret of this check, which may not be the live one: its record says so,
    /// for by its place among the others it would count as hashed under the live one.
    #[must_use]
    pub fn hashed_under(mut self, check: &str, live: &str) -> Self {
        if self.subject.is_some() && check != live {
            self.policy = under(&self.policy, check);
        }
        self
    }
}

/// Before a secret's check, in the policy of a record whose account is not hashed under the live one.
pub(super) const UNDER: &str = ", hashed under secret ";

/// A record's policy that says so.
pub(super) fn under(policy: &str, check: &str) -> String {
    format!("{policy}{UNDER}{check}")
}

/// The secret that a record's policy says its account is hashed under, if it says one.
pub(super) fn said_under(policy: &str) -> Option<&str> {
    policy.rsplit_once(UNDER).map(|(_, check)| check)
}

/// What a record was held against.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Held {
    /// The chain, and a checkpoint that signs it.
    Signed,
    /// The chain: no checkpoint came since.
    Unsigned,
    /// Nothing here: another node recorded it, whose word is in the database that nodes share.
    Elsewhere,
}

/// What a durable record is known by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Receipt {
    /// Random public reference, shown to the person.
    pub reference: String,
    /// Position in this node's journal.
    pub seq: i64,
    /// Microseconds since the Unix epoch.
    pub time_us: i64,
}

/// A record as an auditor sees it, without its subject.
///
/// Serialises to exactly the fields `seq, node, time, site, kind, signal, basis, policy,
/// reference`, with `time` as [`time::in_full`] writes it: scripts read them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RecordView {
    /// Position in the node's journal.
    pub seq: i64,
    /// Node that wrote it.
    pub node: String,
    /// Microseconds since the Unix epoch.
    #[serde(rename = "time", serialize_with = "in_full")]
    pub time_us: i64,
    /// Site name; empty for upkeep.
    pub site: String,
    /// `opt-out`, `opt-in` or `programme`; `denied` for a request to opt out that was not carried out; `upkeep` for what was
    /// done to the journal itself.
    pub kind: String,
    /// `gpc`, `form`, `carried`, `import`; of upkeep what was done.
    pub signal: String,
    /// Basis of the decision, or empty; of a denial why; of upkeep who had it done.
    pub basis: String,
    /// Policy version; of upkeep what came of it.
    pub policy: String,
    /// Public reference.
    pub reference: String,
    /// Whether an account was named (the subject itself is never shown).
    #[serde(skip)]
    pub account: bool,
}

impl RecordView {
    /// Whether it states an opt-out.
    #[must_use]
    pub fn is_opt_out(&self) -> bool {
        Kind::parse(&self.kind) == Some(Kind::OptOut)
    }

    /// The receipt of this record.
    #[must_use]
    pub fn receipt(&self) -> Receipt {
        Receipt { reference: self.reference.clone(), seq: self.seq, time_us: self.time_us }
    }
}

fn in_full<S: Serializer>(time_us: &i64, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&time::in_full(*time_us))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Field names and their order, which scripts read; the subject and whether there was one stay inside.
    #[test]
    fn a_record_is_exported_with_exactly_the_promised_fields() {
        let view = RecordView {
            seq: 7,
            node: "n".into(),
            time_us: 1_795_000_000_000_001,
            site: "shop".into(),
            kind: "opt-out".into(),
            signal: "form".into(),
            basis: "cookie".into(),
            policy: "p".into(),
            reference: "0000-0000-0000-0000".into(),
            account: true,
        };
        assert_eq!(
            serde_json::to_string(&view).unwrap(),
            r#"{"seq":7,"node":"n","time":"2026-11-18T11:06:40.000001Z","site":"shop","kind":"opt-out","signal":"form","basis":"cookie","policy":"p","reference":"0000-0000-0000-0000"}"#
        );
    }
}
