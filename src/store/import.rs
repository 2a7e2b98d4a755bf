//! Opt-outs that arrived elsewhere, recorded as imports.

use std::time::Duration;

use data_encoding::{HEXLOWER, HEXLOWER_PERMISSIVE};
use futures_util::future::try_join_all;
use serde::{Deserialize, Serialize};

use super::journal::denied;
use super::recipients::{AccountKey, Recorded, Request};
use super::record::under;
use super::{Change, Denial, Kind, Receipt, RecordError, Source, Store, time};
use crate::privacy::{Basis, Standing, Subject};

/// Arrivals to be given at once: what one commit takes.
pub const AT_ONCE: usize = 1024;

/// How long it may take until other nodes were heard, and between two looks.
const PATIENCE: Duration = Duration::from_secs(10);
const LOOK: Duration = Duration::from_millis(50);

/// An opt-out that arrived elsewhere.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Arrival {
    /// Whose it is, hashed with the live secret, or with the one that `policy` says.
    #[serde(serialize_with = "write_subject", deserialize_with = "read_subject")]
    pub subject: Subject,
    /// The same under the other secrets that are tried, where the account is at hand.
    #[serde(default, skip_serializing_if = "Vec::is_empty", with = "subjects")]
    pub others: Vec<Subject>,
    /// The same under the names that its site or group had before, under every secret.
    #[serde(default, skip_serializing_if = "Vec::is_empty", with = "subjects")]
    pub formerly: Vec<Subject>,
    /// What the site calls the account, if that is at hand.
    pub account: Option<String>,
    /// The site's name.
    pub site: String,
    /// Where it came from: the record's `policy`.
    pub policy: String,
    /// When it was asked for, in microseconds since the Unix epoch.
    pub requested_us: i64,
    /// The end of the day it is dated, in microseconds since the Unix epoch: an opt-in from then on is the later word.
    pub until_us: i64,
    /// It is another data folder's record: of no news where the account is opted out, in whatever way.
    #[serde(default)]
    pub adopted: bool,
    /// It was denied, and why: that is recorded, and changes nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub denied: Option<Denial>,
}

/// What became of some.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Imported {
    /// Recorded, or to be recorded.
    pub recorded: usize,
    /// On record before.
    pub known: usize,
    /// Older than the account's own opt-in: that they were not carried out is on record.
    pub overruled: usize,
    /// Denied where they arrived, which is on record.
    #[serde(default)]
    pub denied: usize,
    /// Of accounts that opted back in, while nobody could say whether other nodes have that from before the arrival's day
    /// was over: nothing was recorded, and the same is to be given again.
    #[serde(default)]
    pub unclear: usize,
}

impl Imported {
    /// Adds what became of others.
    pub const fn add(&mut self, more: &Self) {
        self.recorded += more.recorded;
        self.known += more.known;
        self.overruled += more.overruled;
        self.denied += more.denied;
        self.unclear += more.unclear;
    }
}

impl Arrival {
    /// Whose it is, under every secret.
    fn hashes(&self) -> Vec<Subject> {
        [&[self.subject], self.others.as_slice()].concat()
    }

    /// What is recorded of it.
    fn change(self, kind: Kind, basis: Option<Basis>) -> Change {
        Change {
            time_us: time::now_us(),
            site: self.site,
            kind,
            source: Source::Import,
            basis,
            policy: self.policy,
            subject: Some(self.subject),
        }
    }
}

/// Arrivals of accounts that opted back in.
struct OptedIn {
    /// Before the day of their arrival was over.
    later: Vec<Arrival>,
    /// After it.
    overruled: Vec<Arrival>,
    /// Of so many that cannot be known now, for the other nodes could not be asked.
    unclear: usize,
}

impl Store {
    /// Records opt-outs that arrived elsewhere, each account once; all of them are durable when this returns. `told`:
    /// somebody is to be told of them, so that what names an account is kept until then. `dry_run` only counts.
    ///
    /// # Errors
    /// When the journal cannot be written: give the same again.
    pub async fn import(
        &self,
        arrivals: Vec<Arrival>,
        told: bool,
        dry_run: bool,
    ) -> Result<Imported, RecordError> {
        // Before that, everybody counts as opted out.
        self.wait_until_loaded().await?;
        let mut imported = Imported::default();
        let (mut new, mut opted_in, mut denied) = (Vec::new(), Vec::new(), Vec::new());
        let under_others = arrivals.iter().filter(|arrival| !arrival.others.is_empty());
        let under_others: Vec<_> =
            under_others.map(|arrival| (arrival.subject, arrival.others.clone())).collect();
        for arrival in arrivals {
            if let Some(why) = arrival.denied {
                denied.push((arrival, why));
                imported.denied += 1;
                continue;
            }
            let standing = self.lookup_all(&arrival.subject, &arrival.others);
            if self.has_arrived(&arrival, standing) || (arrival.adopted && standing.is_out()) {
                imported.known += 1;
            } else if standing == Standing::OptedIn {
                opted_in.push(arrival);
            } else {
                new.push(arrival);
            }
        }
        let OptedIn { later, overruled, unclear } = self.weigh(opted_in).await?;
        (imported.unclear, imported.overruled) = (unclear, overruled.len());
        // Another folder's record is no request.
        let overruled = overruled.into_iter().filter(|arrival| !arrival.adopted);
        denied.extend(overruled.map(|arrival| (arrival, Denial::OptedIn)));
        new.extend(later);
        imported.recorded = new.len();
        if !dry_run {
            self.deny(denied).await?;
            self.record_all(new, told).await?;
            for (subject, others) in under_others {
                self.outlive(&subject, others);
            }
        }
        Ok(imported)
    }

    /// Records arrivals, and what is to be told of them.
    async fn record_all(&self, new: Vec<Arrival>, told: bool) -> Result<(), RecordError> {
        let (mut requests, mut changes) = (Vec::new(), Vec::new());
        for mut arrival in new {
            let who = arrival.account.take().filter(|_| told).map(|key| AccountKey::from(key.into_bytes()));
            let Arrival { subject, requested_us, .. } = arrival;
            requests.push(Request { subject, site: arrival.site.clone(), requested_us, who });
            changes.push((subject, arrival.change(Kind::OptOut, Some(Basis::Import))));
        }
        // First when they were asked for, so that whatever comes in between nobody is left untold.
        self.recipients().requested(requests).await?;
        let recording = changes.into_iter().map(async |(subject, change)| {
            let Receipt { reference, time_us, .. } = self.record_crowding(change).await?;
            Ok::<_, RecordError>(Recorded { subject, reference, effective_us: time_us })
        });
        self.recipients().recorded(try_join_all(recording).await.map_err(begun)?).await?;
        Ok(())
    }

    /// Whether a person's opt-out came by an import before, whichever secret and name were those of then.
    fn has_arrived(&self, arrival: &Arrival, standing: Standing) -> bool {
        let holds = |subject: &Subject| self.0.state.index.holds(subject, Kind::OptOut, Source::Import);
        match standing {
            // What came before the opt-in is over.
            Standing::OptedIn => false,
            Standing::Overruled => holds(&arrival.subject),
            _ => {
                let others = arrival.others.iter().chain(&arrival.formerly);
                std::iter::once(&arrival.subject).chain(others).any(holds)
            }
        }
    }

    /// Records requests that were not carried out, each once (11 CCR 7101): when they were made and how they came is in their
    /// policy, when they were answered is the record's time, and why so its basis. Nobody's standing changes. While the
    /// other nodes cannot be asked, one that they have on record has a second.
    async fn deny(&self, denied: Vec<(Arrival, Denial)>) -> Result<(), RecordError> {
        let mut new: Vec<(Vec<Subject>, Change)> = denied
            .into_iter()
            .map(|(arrival, why)| (arrival.hashes(), arrival.change(Kind::Denied(why), None)))
            .collect();
        if new.is_empty() {
            return Ok(());
        }
        let policies = |new: &[(Vec<Subject>, Change)]| {
            new.iter().map(|(_, change)| change.policy.clone()).collect::<Vec<_>>()
        };
        let asked = policies(&new);
        let mut known = self.beside_writer(move |s| denied::known(s.place.path(), &asked)).await?.into_iter();
        new.retain(|_| known.next() == Some(false));
        let noted = policies(&new);
        if let Some(feed) = self.0.state.feed.as_ref().filter(|_| !new.is_empty()) {
            match feed.denied(new.iter().flat_map(|(hashes, _)| hashes.clone()).collect()).await {
                Ok(there) => new.retain(|(_, change)| !there.contains(&change.policy)),
                Err(error) => {
                    tracing::warn!(%error, "other nodes could not be asked which requests are on record as denied");
                }
            }
        }
        // An operator gives them, so that they are no flood.
        try_join_all(new.into_iter().map(|(_, change)| self.hand_over(change))).await.map_err(begun)?;
        self.beside_writer(move |s| denied::note(s.place.path(), &noted)).await
    }

    /// What becomes of arrivals of accounts that opted back in, on whichever node.
    async fn weigh(&self, arrivals: Vec<Arrival>) -> Result<OptedIn, RecordError> {
        let (mut left, mut overruled) = (Vec::new(), Vec::new());
        for arrival in arrivals {
            let mut later = false;
            for subject in std::iter::once(&arrival.subject).chain(&arrival.others) {
                let last = self.last_record(subject).await?;
                let opt_in = last.filter(|last| last.kind == Kind::OptIn.as_str());
                later |= opt_in.is_some_and(|opt_in| opt_in.time_us >= arrival.until_us);
            }
            if later { overruled.push(arrival) } else { left.push(arrival) }
        }
        let Some(feed) = self.0.state.feed.as_ref().filter(|_| !left.is_empty()) else {
            return Ok(OptedIn { later: left, overruled, unclear: 0 });
        };
        let times = match feed.opted_in(left.iter().flat_map(Arrival::hashes).collect()).await {
            Ok(times) => times,
            Err(error) => {
                tracing::warn!(%error, "other nodes could not be asked when accounts opted back in");
                return Ok(OptedIn { later: Vec::new(), overruled, unclear: left.len() });
            }
        };
        let later = |arrival: &Arrival| {
            arrival
                .hashes()
                .iter()
                .filter_map(|subject| times.get(subject))
                .any(|time| *time >= arrival.until_us)
        };
        let (more, later) = left.into_iter().partition(later);
        overruled.extend::<Vec<_>>(more);
        Ok(OptedIn { later, overruled, unclear: 0 })
    }
}

impl Store {
    /// Waits until the index knows what other nodes recorded: before that, everybody counts as opted out.
    async fn wait_until_loaded(&self) -> Result<(), RecordError> {
        let loaded = async {
            while !self.health().loaded {
                tokio::time::sleep(LOOK).await;
            }
        };
        tokio::time::timeout(PATIENCE, loaded).await.map_err(|_| {
            RecordError::Journal(
                "not all records of other nodes are here yet; try again once they are".into(),
            )
        })
    }
}

/// The error of what was begun: some may be on record, so that nobody is to be told that nothing was.
fn begun(error: RecordError) -> RecordError {
    match error {
        RecordError::HandedOver => RecordError::Closed,
        error => error,
    }
}

/// A subject from the 32 hexadecimal digits that it is written with.
#[must_use]
pub fn parse_subject(digits: &str) -> Option<Subject> {
    let bytes = HEXLOWER_PERMISSIVE.decode(digits.as_bytes()).ok()?;
    bytes.try_into().ok().map(Subject::from_bytes)
}

/// The 32 hexadecimal digits of a subject: for a file of the person's own, or the socket of a data folder.
#[must_use]
pub fn write_digits(subject: &Subject) -> String {
    HEXLOWER.encode(subject.as_bytes())
}

/// The policy of an arrival whose subject is hashed under the secret of this check, which is not the live one.
#[must_use]
pub fn hashed_under(policy: &str, check: &str) -> String {
    under(policy, check)
}

/// Subjects as [`parse_subject`] reads each.
mod subjects {
    use super::{Deserialize as _, Subject, parse_subject, write_digits};

    pub(super) fn serialize<S: serde::Serializer>(subjects: &[Subject], to: S) -> Result<S::Ok, S::Error> {
        to.collect_seq(subjects.iter().map(write_digits))
    }

    pub(super) fn deserialize<'de, D: serde::Deserializer<'de>>(from: D) -> Result<Vec<Subject>, D::Error> {
        let all: Option<Vec<_>> =
            Vec::<String>::deserialize(from)?.iter().map(|digits| parse_subject(digits)).collect();
        all.ok_or_else(|| serde::de::Error::custom("a subject is 32 hexadecimal digits"))
    }
}

fn write_subject<S: serde::Serializer>(subject: &Subject, to: S) -> Result<S::Ok, S::Error> {
    to.serialize_str(&write_digits(subject))
}

fn read_subject<'de, D: serde::Deserializer<'de>>(from: D) -> Result<Subject, D::Error> {
    let digits = String::deserialize(from)?;
    parse_subject(&digits).ok_or_else(|| serde::de::Error::custom("a subject is 32 hexadecimal digits"))
}
