//! What is known about every account, in memory: a fold of the journal.
//!
//! 24 bytes an account: the subject, and one word that holds its standing, the ways it arrived, and
//! the sequence number of its latest record.
//!
//! Up to some ten million accounts this map is all there is; `benches/scale.rs` has the cost against the size. For a
//! hundred million it would take 4 GB and a start of minutes. What would then be built, in this order:
//!
//! 1. A sorted file of fixed slots (eight bytes of the subject, one of the standing), made from the journal in the
//!    background and mapped by every process of the machine: 1.2 GB, shared, one cache line a look-up, no time at start.
//!    Eight bytes match a stranger once in 10^11 look-ups at that size, and then somebody is taken for opted out.
//! 2. A filter before it, a byte an account (a binary fuse filter, 0.4 % wrong), so that accounts that are not in the
//!    file, which most are, never touch it.
//! 3. This map, holding only what changed since the file was made; it is asked first.

use std::hash::{BuildHasherDefault, Hasher};
use std::sync::atomic::{AtomicU64, Ordering};

use dashmap::DashMap;

use super::record::{Kind, Source};
use crate::privacy::{Standing, Subject};

/// ```text
/// bit  63 ............ 9   8        7          6          5    4    3 .. 0
///      seq of last record   claimed  programme  overruled  in   out  sources recorded in this standing
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Known(u64);

impl Known {
    const OUT: u64 = 1 << 4;
    const IN: u64 = 1 << 5;
    /// A signal opted it out after it had opted back in.
    const OVERRULED: u64 = 1 << 6;
    /// It keeps a programme in spite of opting out; a signal does not end that, its own opt-out does.
    const PROGRAMME: u64 = 1 << 7;
    /// An opt-out of it is on its way to the journal.
    const CLAIMED: u64 = 1 << 8;
    const SEQ_SHIFT: u32 = 9;

    const SOURCES: u64 = 0b1111;

    const fn standing_bit(kind: Kind) -> u64 {
        match kind {
            Kind::OptOut => Self::OUT,
            Kind::OptIn => Self::IN,
            Kind::Programme => Self::PROGRAMME,
        }
    }

    const fn source_bit(source: Source) -> u64 {
        match source {
            Source::Gpc => 1,
            Source::Form => 1 << 1,
            Source::Cmp => 1 << 2,
            Source::Import => 1 << 3,
        }
    }

    const fn is(self, kind: Kind) -> bool {
        self.0 & Self::standing_bit(kind) != 0
    }

    const fn holds(self, kind: Kind, source: Source) -> bool {
        self.is(kind) && self.0 & Self::source_bit(source) != 0
    }

    /// The state after a change; the other standing's sources are forgotten.
    const fn after(self, kind: Kind, source: Source) -> Self {
        if matches!(kind, Kind::Programme) {
            return Self(self.0 & !Self::OVERRULED | Self::PROGRAMME);
        }
        // What a person chooses with their own hand is no conflict any more, and no exception to it holds.
        let settled = matches!(source, Source::Form);
        let ends = if settled && matches!(kind, Kind::OptOut) { Self::PROGRAMME } else { 0 };
        if self.is(kind) {
            let ends = if settled { ends | Self::OVERRULED } else { ends };
            return Self(self.0 & !ends | Self::source_bit(source));
        }
        let overruled = if self.is(Kind::OptIn) && !settled { Self::OVERRULED } else { 0 };
        let programme = self.0 & Self::PROGRAMME & !ends;
        Self(Self::standing_bit(kind) | Self::source_bit(source) | overruled | programme)
    }

    /// As a file of the index keeps it; `None` for what the file need not say, because whoever reads it learns it
    /// elsewhere: that nothing is known, or an opt-out that no record of this journal tells (it is among the
    /// suppressed ones, or comes from other nodes, or was never recorded).
    ///
    /// Of an opt-out that is not on disk yet only the standing is kept: should its record never come to be, the next
    /// signal makes another.
    const fn kept(self) -> Option<u64> {
        let word = if self.is_claimed() { self.0 & !(Self::SOURCES | Self::CLAIMED) } else { self.0 };
        if self.seq() == 0 && word & Self::SOURCES == 0 { None } else { Some(word) }
    }

    const fn is_claimed(self) -> bool {
        self.0 & Self::CLAIMED != 0
    }

    /// What is left of an account that stood like this when its records were forgotten.
    const fn left_of(standing: Standing) -> Self {
        match standing {
            // Of a conflict and of a programme nothing is left: only that the opt-out holds.
            Standing::OptedOut | Standing::Overruled | Standing::Programme => Self(Self::OUT),
            Standing::OptedOutByImport => Self(Self::OUT | Self::source_bit(Source::Import)),
            Standing::OptedIn | Standing::Unknown | Standing::NoAccount | Standing::NotLoaded => Self(0),
        }
    }

    const fn with_seq(self, seq: i64) -> Self {
        Self(self.0 & ((1 << Self::SEQ_SHIFT) - 1) | (seq.unsigned_abs() << Self::SEQ_SHIFT))
    }

    const fn seq(self) -> i64 {
        (self.0 >> Self::SEQ_SHIFT).cast_signed()
    }

    const fn standing(self) -> Standing {
        let only_import = self.0 & Self::SOURCES == Self::source_bit(Source::Import);
        match (self.is(Kind::OptOut), self.is(Kind::OptIn)) {
            (true, _) if self.is(Kind::Programme) => Standing::Programme,
            (true, _) if self.0 & Self::OVERRULED != 0 => Standing::Overruled,
            (true, _) if only_import => Standing::OptedOutByImport,
            (true, _) => Standing::OptedOut,
            (false, true) => Standing::OptedIn,
            (false, false) => Standing::Unknown,
        }
    }
}

/// Subjects are already keyed hashes: their first eight bytes are as good as any hash of them.
#[derive(Debug, Default, Clone, Copy)]
struct SubjectHasher(u64);

impl Hasher for SubjectHasher {
    fn write(&mut self, bytes: &[u8]) {
        if let Some(first) = bytes.first_chunk::<8>() {
            self.0 = u64::from_ne_bytes(*first);
        }
    }

    /// The length that `Hash` for arrays puts first says nothing.
    fn write_usize(&mut self, _length: usize) {}

    fn finish(&self) -> u64 {
        self.0
    }
}

/// Accounts and their standing.
#[derive(Debug)]
pub(super) struct Index {
    accounts: DashMap<Subject, Known, BuildHasherDefault<SubjectHasher>>,
    opted_out: AtomicU64,
}

/// Parts of the map, each with a lock of its own. Many, so that one that grows, or is written to a file, is small.
const SHARDS: usize = 256;

impl Default for Index {
    fn default() -> Self {
        let accounts = DashMap::with_hasher_and_shard_amount(BuildHasherDefault::default(), SHARDS);
        Self { accounts, opted_out: AtomicU64::new(0) }
    }
}

impl Index {
    /// Accounts known. Takes every shard's read lock in turn.
    pub(super) fn len(&self) -> usize {
        self.accounts.len()
    }

    /// Every account with its word, for a file of the index. A shard is locked for reading while its accounts are
    /// handed out; what changes meanwhile is in it or not.
    pub(super) fn each(&self, mut take: impl FnMut(&Subject, u64)) {
        for entry in &self.accounts {
            if let Some(word) = entry.value().kept() {
                take(entry.key(), word);
            }
        }
    }

    /// An account as [`Index::each`] gave it.
    pub(super) fn put(&self, subject: Subject, word: u64) {
        self.change(subject, |_| Known(word));
    }

    /// Forgets everything: what was put came from a file that is not whole.
    pub(super) fn clear(&self) {
        self.accounts.clear();
        self.opted_out.store(0, Ordering::Relaxed);
    }

    /// What is known about an account. One shard's read lock and one probe.
    pub(super) fn standing(&self, subject: &Subject) -> Standing {
        self.accounts.get(subject).map_or(Standing::Unknown, |known| known.standing())
    }

    /// The sequence number of the last record of an account that this change would leave as it is; `None` when it
    /// changes something, or no record is on disk.
    pub(super) fn recorded(&self, subject: &Subject, kind: Kind, source: Source) -> Option<i64> {
        let known = *self.accounts.get(subject)?;
        (known.after(kind, source) == known && known.seq() > 0).then(|| known.seq())
    }

    /// Whether this very change is known, on disk or on its way there.
    pub(super) fn holds(&self, subject: &Subject, kind: Kind, source: Source) -> bool {
        self.accounts.get(subject).is_some_and(|known| known.holds(kind, source))
    }

    /// How an account stands, and its last record in the journal; 0 for none.
    pub(super) fn last_word(&self, subject: &Subject) -> (Standing, i64) {
        self.accounts.get(subject).map_or((Standing::Unknown, 0), |known| (known.standing(), known.seq()))
    }

    /// One of the ways that an opt-out arrived, the strongest: an import only when there was nothing else. `None`
    /// when the account is not opted out.
    pub(super) fn opted_out_by(&self, subject: &Subject) -> Option<Source> {
        let known = *self.accounts.get(subject)?;
        let holds = |source: &Source| known.holds(Kind::OptOut, *source);
        let by = [Source::Form, Source::Gpc, Source::Cmp, Source::Import].into_iter().find(holds);
        known.is(Kind::OptOut).then(|| by.unwrap_or(Source::Form))
    }

    /// A change is about to be queued behind. `false`: it changes nothing, nothing to record.
    ///
    /// An opt-out counts from here on; an opt-in only once it is on disk.
    pub(super) fn claim(&self, subject: Subject, kind: Kind, source: Source) -> bool {
        let mut new = false;
        match kind {
            Kind::OptOut => self.change(subject, |known| {
                let after = known.after(kind, source);
                new = after != known;
                if new { Known(after.0 | Known::CLAIMED) } else { after }
            }),
            Kind::OptIn | Kind::Programme => {
                new = !self.accounts.get(&subject).is_some_and(|k| k.holds(kind, source))
            }
        }
        new
    }

    /// A claimed change will not be recorded now. The standing stays, so that it is honoured; the
    /// source is forgotten, so that the next request tries again.
    pub(super) fn unclaim(&self, subject: Subject, source: Source) {
        self.change(subject, |known| Known(known.0 & !(Known::source_bit(source) | Known::CLAIMED)));
    }

    /// A record is in the journal. Called in journal order, this is the fold.
    pub(super) fn settle(&self, subject: Subject, kind: Kind, source: Source, seq: i64) {
        self.change(subject, |known| Known(known.after(kind, source).0 & !Known::CLAIMED).with_seq(seq));
    }

    /// The account's records up to `seq` are forgotten, and it stood like this then. A later record has the
    /// last word, also one that is on its way; the next change is recorded like a new account's.
    pub(super) fn suppress(&self, subject: Subject, standing: Standing, seq: i64) {
        let left = Known::left_of(standing);
        self.change(subject, |known| if known.seq() > seq || known.is_claimed() { known } else { left });
    }

    /// The account's last record, which had this number, is pruned.
    pub(super) fn pruned(&self, subject: Subject, seq: i64) {
        self.change(subject, |known| {
            if known.seq() != seq || known.is_claimed() { known } else { Known::left_of(known.standing()) }
        });
    }

    /// Another node recorded an opt-out.
    pub(super) fn hear(&self, subject: Subject, source: Source) {
        self.change(subject, |known| known.after(Kind::OptOut, source));
    }

    /// An account whose records are erased everywhere is opted out; what is known here of later records stands.
    pub(super) fn hear_suppressed(&self, subject: Subject) {
        self.change(subject, |known| if known == Known::default() { Known(Known::OUT) } else { known });
    }

    /// All choices of a person, on every node and up to `last` on this one, come to this. `false`, and nothing is
    /// changed, when this node has recorded another since.
    pub(super) fn weighed(&self, subject: Subject, held: &[(Kind, Source)], last: i64) -> bool {
        let mut taken = false;
        self.change(subject, |known| {
            taken = known.seq() <= last;
            if held.is_empty() {
                // What is known then is what was kept of records that are forgotten.
                return known;
            }
            let fold =
                || held.iter().fold(Known::default(), |known, (kind, source)| known.after(*kind, *source));
            if taken { fold().with_seq(known.seq()) } else { known }
        });
        taken
    }

    /// Accounts opted out now.
    pub(super) fn opted_out(&self) -> u64 {
        self.opted_out.load(Ordering::Relaxed)
    }

    /// Changes one account and keeps the count, under the account's shard lock.
    fn change(&self, subject: Subject, to: impl FnOnce(Known) -> Known) {
        let mut entry = self.accounts.entry(subject).or_default();
        let (before, after) = (*entry, to(*entry));
        *entry = after;
        match (before.is(Kind::OptOut), after.is(Kind::OptOut)) {
            (false, true) => self.opted_out.fetch_add(1, Ordering::Relaxed),
            (true, false) => self.opted_out.fetch_sub(1, Ordering::Relaxed),
            _ => 0,
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: Subject = Subject::from_bytes(*b"account number 1");
    const B: Subject = Subject::from_bytes(*b"account number 2");

    /// 11 CCR 7025(c)(3): the last explicit word counts; the fold is in journal order.
    #[test]
    fn the_last_record_of_an_account_is_its_standing() {
        let index = Index::default();
        assert_eq!(index.standing(&A), Standing::Unknown);
        index.settle(A, Kind::OptOut, Source::Import, 1);
        assert_eq!(index.standing(&A), Standing::OptedOutByImport);
        index.settle(A, Kind::OptOut, Source::Gpc, 2);
        assert_eq!(index.standing(&A), Standing::OptedOut);
        index.settle(A, Kind::OptIn, Source::Form, 3);
        assert_eq!(index.standing(&A), Standing::OptedIn);
        index.settle(A, Kind::OptOut, Source::Import, 4);
        assert!(index.standing(&A).is_out());
        assert_eq!((index.standing(&B), index.opted_out()), (Standing::Unknown, 1));
    }

    /// 11 CCR 7025(c)(3): the conflict is known until the person has settled it, also after a restart.
    #[test]
    fn a_signal_after_an_opt_in_is_a_conflict_until_the_person_chooses() {
        let index = Index::default();
        index.settle(A, Kind::OptOut, Source::Gpc, 1);
        assert_eq!(index.standing(&A), Standing::OptedOut, "nothing was said before");
        index.settle(A, Kind::OptIn, Source::Form, 2);
        assert!(index.claim(A, Kind::OptOut, Source::Gpc));
        assert_eq!((index.standing(&A), index.opted_out()), (Standing::Overruled, 1));
        index.settle(A, Kind::OptOut, Source::Gpc, 3);
        index.settle(A, Kind::OptOut, Source::Cmp, 4);
        assert_eq!(index.standing(&A), Standing::Overruled);
        index.settle(A, Kind::OptOut, Source::Form, 5);
        assert_eq!(index.standing(&A), Standing::OptedOut);
        index.settle(A, Kind::OptIn, Source::Form, 6);
        index.settle(A, Kind::OptOut, Source::Form, 7);
        assert_eq!((index.standing(&A), index.opted_out()), (Standing::OptedOut, 1));
    }

    /// 11 CCR 7025(c)(4): a signal does not end what the person has affirmed; their own opt-out does.
    #[test]
    fn a_programme_outlasts_signals_and_ends_with_the_persons_own_opt_out() {
        let index = Index::default();
        index.settle(A, Kind::OptOut, Source::Gpc, 1);
        index.settle(A, Kind::Programme, Source::Form, 2);
        assert_eq!((index.standing(&A), index.opted_out()), (Standing::Programme, 1));
        index.settle(A, Kind::OptOut, Source::Cmp, 3);
        assert_eq!(index.standing(&A), Standing::Programme);
        index.settle(A, Kind::OptIn, Source::Form, 4);
        assert_eq!(index.standing(&A), Standing::OptedIn);
        index.settle(A, Kind::OptOut, Source::Gpc, 5);
        assert_eq!(
            index.standing(&A),
            Standing::Programme,
            "the exception covers the signal after an opt-in"
        );
        index.settle(A, Kind::OptOut, Source::Form, 6);
        assert_eq!((index.standing(&A), index.opted_out()), (Standing::OptedOut, 1));
        index.settle(A, Kind::OptOut, Source::Gpc, 7);
        assert_eq!(index.standing(&A), Standing::OptedOut);
    }

    /// 11 CCR 7025(c)(3) and (4): the person's own hand settles a conflict and ends a programme, and that is recorded,
    /// also when the same was recorded before.
    #[test]
    fn an_opt_out_by_hand_that_ends_a_programme_or_a_conflict_is_a_change() {
        let index = Index::default();
        index.settle(A, Kind::OptOut, Source::Form, 1);
        assert!(!index.claim(A, Kind::OptOut, Source::Form));
        assert_eq!(index.recorded(&A, Kind::OptOut, Source::Form), Some(1));
        index.settle(A, Kind::Programme, Source::Form, 2);
        assert_eq!(index.recorded(&A, Kind::OptOut, Source::Gpc), None, "a way that is not recorded yet");
        assert_eq!(index.recorded(&A, Kind::OptOut, Source::Form), None);
        assert!(index.claim(A, Kind::OptOut, Source::Form));
        assert_eq!(index.standing(&A), Standing::OptedOut);
        index.settle(B, Kind::OptIn, Source::Form, 3);
        index.settle(B, Kind::OptOut, Source::Gpc, 4);
        assert_eq!(index.recorded(&B, Kind::OptOut, Source::Gpc), Some(4), "the conflict stays one");
        assert!(index.claim(B, Kind::OptOut, Source::Form));
    }

    /// At most one row a source and standing, whatever order two browsers of one account ask in.
    #[test]
    fn alternating_signals_of_one_account_are_each_new_once() {
        let index = Index::default();
        let sources = [Source::Gpc, Source::Cmp, Source::Gpc, Source::Cmp, Source::Gpc];
        assert_eq!(sources.iter().filter(|s| index.claim(A, Kind::OptOut, **s)).count(), 2);
        assert_eq!(index.opted_out(), 1);
        index.settle(A, Kind::OptIn, Source::Form, 1);
        assert!(index.claim(A, Kind::OptOut, Source::Gpc), "after an opt-in a signal is a change again");
    }

    /// DESIGN 4: over the bound the opt-out is honoured without a row; it must be asked again later.
    #[test]
    fn an_unrecorded_opt_out_is_honoured_and_tried_again() {
        let index = Index::default();
        assert!(index.claim(A, Kind::OptOut, Source::Gpc));
        index.unclaim(A, Source::Gpc);
        assert_eq!(index.standing(&A), Standing::OptedOut);
        assert!(index.claim(A, Kind::OptOut, Source::Gpc));
        assert!(!index.claim(A, Kind::OptOut, Source::Gpc));
    }

    /// For an opted-out person, failing to enforce is the worst outcome.
    #[test]
    fn an_opt_in_counts_only_once_it_is_recorded() {
        let index = Index::default();
        index.settle(A, Kind::OptOut, Source::Form, 1);
        assert!(index.claim(A, Kind::OptIn, Source::Form));
        assert_eq!(index.standing(&A), Standing::OptedOut);
        index.settle(A, Kind::OptIn, Source::Form, 2);
        assert_eq!((index.standing(&A), index.opted_out()), (Standing::OptedIn, 0));
        assert_eq!(index.recorded(&A, Kind::OptIn, Source::Form), Some(2));
        assert_eq!(index.recorded(&A, Kind::OptOut, Source::Form), None);
    }

    /// 11 CCR 7101 with 7026: what is kept of a forgotten record is that the opt-out is honoured; a later word
    /// of the person stands above it.
    #[test]
    fn a_suppressed_account_stays_opted_out_until_a_later_record() {
        let index = Index::default();
        index.suppress(A, Standing::OptedOutByImport, 7);
        assert_eq!((index.standing(&A), index.opted_out()), (Standing::OptedOutByImport, 1));
        index.suppress(A, Standing::OptedOut, 7);
        assert_eq!(index.standing(&A), Standing::OptedOut);
        assert_eq!(index.recorded(&A, Kind::OptOut, Source::Form), None, "its record is nobody's any more");
        assert!(index.claim(A, Kind::OptOut, Source::Gpc), "and the next signal is recorded again");
        index.settle(B, Kind::OptIn, Source::Form, 8);
        index.suppress(B, Standing::OptedOut, 7);
        assert_eq!(index.standing(&B), Standing::OptedIn);
        index.suppress(B, Standing::OptedOut, 9);
        assert_eq!((index.standing(&B), index.opted_out()), (Standing::OptedOut, 2));
    }
}
