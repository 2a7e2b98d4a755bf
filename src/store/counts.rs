//! How many changes came, by the minute: what flood protection leaves out of the journal is still counted here.
//!
//! Kept in memory for a minute and then added to a table beside the records by the writer thread. Bounded by what
//! the settings hold, and by [`MOST`]; nothing in it is about anybody.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::record::Change;

/// Lines of one minute at most; what comes above is counted on one line without names.
const MOST: usize = 4_096;

/// Microseconds of a minute.
const MINUTE_US: i64 = 60_000_000;

/// What became of a change.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Became {
    /// Handed to the journal.
    Recorded,
    /// The account's record says it already.
    Known,
    /// Above the rate: in force, without a record.
    Flood,
    /// The queue was full: in force, without a record.
    Overflow,
}

impl Became {
    pub(super) const fn word(self) -> &'static str {
        match self {
            Self::Recorded => "recorded",
            Self::Known => "known",
            Self::Flood => "flood",
            Self::Overflow => "overflow",
        }
    }
}

/// What a line counts.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Line {
    /// Minutes since the Unix epoch.
    pub(super) minute: i64,
    pub(super) site: String,
    pub(super) signal: &'static str,
    pub(super) basis: &'static str,
    pub(super) policy: String,
    pub(super) became: Became,
}

/// A line of the table, as `optgate ledger counts` prints it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Count {
    /// Minutes since the Unix epoch.
    pub minute: i64,
    /// Site name.
    pub site: String,
    /// `gpc`, `form`, `carried`, `import`.
    pub signal: String,
    /// Basis of the decision, or empty.
    pub basis: String,
    /// Policy version.
    pub policy: String,
    /// `recorded`, `known`, `flood`, `overflow`.
    pub state: String,
    /// How many.
    pub count: i64,
}

/// Lines that are not in the table yet.
#[derive(Debug, Default)]
pub(super) struct Counts(Mutex<BTreeMap<Line, u64>>);

impl Counts {
    /// Counts one change. Cost: a lock and a look-up; one for every change, none for a request without one.
    pub(super) fn count(&self, change: &Change, became: Became) {
        let mut line = Line {
            minute: change.time_us.div_euclid(MINUTE_US),
            site: change.site.clone(),
            signal: change.source.as_str(),
            basis: change.basis.map_or("", |basis| basis.as_str()),
            // An import's says its file and row.
            policy: if change.source == super::Source::Import {
                String::new()
            } else {
                change.policy.clone()
            },
            became,
        };
        let mut lines = self.lock();
        if lines.len() >= MOST && !lines.contains_key(&line) {
            (line.site, line.policy) = (String::new(), String::new());
        }
        *lines.entry(line).or_default() += 1;
    }

    /// Takes what is there.
    pub(super) fn take(&self) -> Vec<(Line, u64)> {
        std::mem::take(&mut *self.lock()).into_iter().collect()
    }

    /// Puts back what could not be written.
    pub(super) fn put_back(&self, taken: Vec<(Line, u64)>) {
        let mut lines = self.lock();
        for (line, count) in taken {
            *lines.entry(line).or_default() += count;
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.lock().is_empty()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<Line, u64>> {
        // Numbers are whole whatever their holder was doing.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::super::record::{Kind, Source};
    use super::*;

    /// Whatever names come, memory is bounded and nothing goes uncounted.
    #[test]
    fn more_lines_than_fit_are_counted_without_their_names() {
        let counts = Counts::default();
        for n in 0..MOST + 7 {
            let change = Change {
                time_us: 61_000_000,
                site: format!("s{n}"),
                kind: Kind::OptOut,
                source: Source::Gpc,
                basis: None,
                policy: "p".into(),
                subject: None,
            };
            counts.count(&change, Became::Recorded);
        }
        let lines = counts.take();
        assert_eq!((lines.len(), lines.iter().map(|(_, n)| *n).sum::<u64>()), (MOST + 1, MOST as u64 + 7));
        assert_eq!((lines[0].0.minute, lines[0].0.site.as_str(), lines[0].1), (1, "", 7));
        assert!(counts.is_empty());
        counts.put_back(lines);
        assert!(!counts.is_empty());
    }
}
