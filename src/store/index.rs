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

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use dashmap::{DashMap, DashSet};

use super::known::{Known, Underway};
use super::record::{Kind, Source};
use crate::privacy::{Standing, Subject};

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

type ByAccount = BuildHasherDefault<SubjectHasher>;

/// Accounts and their standing.
#[derive(Debug)]
pub(super) struct Index {
    accounts: DashMap<Subject, Known, ByAccount>,
    /// Accounts with opt-outs on their way to the journal. Locked under the account's shard lock.
    underway: Mutex<HashMap<Subject, Underway, ByAccount>>,
    /// Hashes under earlier secrets of which this process has said that they are not needed any more.
    outlived: DashSet<Subject, ByAccount>,
    opted_out: AtomicU64,
    /// Accounts whose opt-out is honoured and has no record, nor one on its way.
    dropped: AtomicU64,
}

/// Ways in which an opt-out arrives, the strongest first.
const STRONGEST: [Source; 4] = [Source::Form, Source::Gpc, Source::Carried, Source::Import];

fn strength(source: Source) -> usize {
    STRONGEST.iter().position(|known| *known == source).unwrap_or(STRONGEST.len())
}

/// Parts of the map, each with a lock of its own. Many, so that one that grows, or is written to a file, is small.
const SHARDS: usize = 256;

impl Default for Index {
    fn default() -> Self {
        let accounts = DashMap::with_hasher_and_shard_amount(BuildHasherDefault::default(), SHARDS);
        Self {
            accounts,
            underway: Mutex::default(),
            outlived: DashSet::default(),
            opted_out: AtomicU64::new(0),
            dropped: AtomicU64::new(0),
        }
    }
}

impl Index {
    /// Accounts known. Takes every shard's read lock in turn.
    pub(super) fn len(&self) -> usize {
        self.accounts.len()
    }

    /// Every account with its word, for a file of the index: what the journal tells of it, and no opt-out that is not
    /// there yet. A shard is locked for reading while its accounts are handed out; what changes meanwhile is in it or
    /// not.
    pub(super) fn each(&self, mut take: impl FnMut(&Subject, u64)) {
        for entry in &self.accounts {
            if let Some(word) = self.durable(entry.key(), *entry.value()).kept() {
                take(entry.key(), word);
            }
        }
    }

    /// An account as [`Index::each`] gave it.
    pub(super) fn put(&self, subject: Subject, word: u64) {
        self.change(subject, |_| Known::of_file(word));
    }

    /// Forgets everything: what was put came from a file that is not whole.
    pub(super) fn clear(&self) {
        self.accounts.clear();
        self.all_underway().clear();
        self.opted_out.store(0, Ordering::Relaxed);
        self.dropped.store(0, Ordering::Relaxed);
    }

    /// What is known about an account. One shard's read lock and one probe.
    pub(super) fn standing(&self, subject: &Subject) -> Standing {
        self.accounts.get(subject).map_or(Standing::Unknown, |known| known.standing())
    }

    /// The sequence number of the last record of an account that this change would leave as it is; `None` when it
    /// changes something, or no record is on disk.
    pub(super) fn recorded(&self, subject: &Subject, kind: Kind, source: Source) -> Option<i64> {
        let known = self.durable(subject, *self.accounts.get(subject)?);
        (known.after(kind, source) == known && known.seq() > 0).then(|| known.seq())
    }

    /// Whether this very change is known, on disk or on its way there.
    pub(super) fn holds(&self, subject: &Subject, kind: Kind, source: Source) -> bool {
        self.accounts.get(subject).is_some_and(|known| known.holds(kind, source))
    }

    /// How an account stands in the journal, and its last record there; 0 for none.
    pub(super) fn last_word(&self, subject: &Subject) -> (Standing, i64) {
        let Some(known) = self.accounts.get(subject) else { return (Standing::Unknown, 0) };
        let durable = self.durable(subject, *known);
        (durable.standing(), durable.seq())
    }

    /// One of the ways that an opt-out arrived, the strongest: an import only when there was nothing else. `None`
    /// when the account is not opted out.
    pub(super) fn opted_out_by(&self, subject: &Subject) -> Option<Source> {
        let known = *self.accounts.get(subject)?;
        let holds = |source: &Source| known.holds(Kind::OptOut, *source);
        let by = STRONGEST.into_iter().find(holds);
        // Of one whose records are forgotten nobody knows it.
        known.is(Kind::OptOut).then(|| by.unwrap_or(Source::Carried))
    }

    /// What an account comes to by its hash under the live secret and those under others, and the opt-out that only one of
    /// the others tells of, with its way, the strongest. `ordered`: the numbers of records say which word is the later; else
    /// an opt-out under any of them holds.
    pub(super) fn together(
        &self,
        live: &Subject,
        others: &[Subject],
        ordered: bool,
    ) -> (Standing, Option<(Subject, Source)>) {
        let word = |subject: &Subject| self.accounts.get(subject).map_or(Known::default(), |known| *known);
        let known = word(live);
        let eased = known.standing() == Standing::Programme;
        if known.is(Kind::OptOut) && !eased {
            return (known.standing(), None);
        }
        let all = || others.iter().map(|other| (other, word(other)));
        let words = all().map(|(_, word)| word).chain([known]);
        let last = words.filter(|word| word.lets_in()).map(Known::seq).max().filter(|_| ordered);
        // One that is not on disk yet is later than what is.
        let holds = |word: Known| word.is_underway() || last.is_none_or(|last| word.seq() >= last);
        // What is kept of a programme under another hash is no more than under this one.
        let counts = |word: Known| word.is(Kind::OptOut) && holds(word) && !(eased && word.lets_in());
        let outs = all().filter(|(_, word)| counts(*word));
        let outs = outs.filter_map(|(other, word)| Some((other, word, self.opted_out_by(other)?)));
        let new = known.standing() == Standing::Unknown;
        match outs.min_by_key(|(.., source)| strength(*source)) {
            None if new => {
                let mut words = all().map(|(_, word)| word.standing());
                (words.find(|standing| *standing == Standing::OptedIn).unwrap_or(Standing::Unknown), None)
            }
            None => (known.standing(), None),
            Some((other, word, source)) => {
                let standing =
                    if new { word.standing() } else { known.after(Kind::OptOut, source).standing() };
                (standing, Some((*other, source)))
            }
        }
    }

    /// Whether what the journal has of an account under the live secret holds whatever it has of it under this other one: it
    /// is an opt-out, or (where records are `ordered`) the later word. `false` too where there is no opt-out to be kept.
    pub(super) fn outlives(&self, live: &Subject, other: &Subject, ordered: bool) -> bool {
        let durable = |subject| self.accounts.get(subject).map(|known| self.durable(subject, *known));
        let (Some(other), Some(live)) = (durable(other), durable(live)) else { return false };
        let later = ordered && other.seq() > 0 && live.seq() > other.seq();
        let out = live.standing().is_out() && live.standing() != Standing::Programme;
        other.is(Kind::OptOut) && (out || later)
    }

    /// A hash is not needed any more; whether that is news in this process.
    pub(super) fn set_outlived(&self, other: Subject) -> bool {
        self.outlived.insert(other)
    }

    /// A record under this hash is to come: it may be needed again.
    pub(super) fn set_needed(&self, other: &Subject) {
        self.outlived.remove(other);
    }

    /// Whether an account would be known otherwise after this change; nothing is changed.
    pub(super) fn would_change(&self, subject: &Subject, kind: Kind, source: Source) -> bool {
        let known = self.accounts.get(subject).map_or(Known::default(), |known| *known);
        known.after(kind, source) != known
    }

    /// A change is about to be queued behind. `false`: it changes nothing, nothing to record.
    ///
    /// An opt-out counts from here on; an opt-in only once it is on disk.
    pub(super) fn claim(&self, subject: Subject, kind: Kind, source: Source) -> bool {
        if kind != Kind::OptOut {
            return !self.holds(&subject, kind, source);
        }
        let mut new = false;
        self.update(subject, |known| {
            new = known.after(kind, source) != known;
            if new { self.with_underway(subject, known, |underway| underway.claim(source)) } else { known }
        });
        new
    }

    /// Whether a signal came over an opt-in of an account, whatever else is known of it.
    pub(super) fn is_overruled(&self, subject: &Subject) -> bool {
        self.accounts.get(subject).is_some_and(|known| known.is_overruled())
    }

    /// The way of an account's opt-out that is honoured, has no record, and is not on its way to one.
    ///
    /// Cost: one load where there is no such account, as nearly always.
    pub(super) fn dropped(&self, subject: &Subject) -> Option<Source> {
        let any = self.dropped.load(Ordering::Relaxed) > 0;
        let lacks = any && self.accounts.get(subject).is_some_and(|known| known.lacks_record());
        if lacks { self.all_underway().get(subject)?.dropped() } else { None }
    }

    /// A claimed change will not be recorded now. The standing stays, so that it is honoured; the
    /// source is forgotten, so that the next request tries again.
    pub(super) fn unclaim(&self, subject: Subject, source: Source) {
        self.update(subject, |known| self.with_underway(subject, known, |underway| underway.unclaim(source)));
    }

    /// A record is in the journal. Called in journal order, this is the fold.
    pub(super) fn settle(&self, subject: Subject, kind: Kind, source: Source, seq: i64) {
        self.take_record(subject, kind, source, seq, false);
    }

    /// As [`Index::settle`], for a record that was claimed.
    pub(super) fn settle_claimed(&self, subject: Subject, kind: Kind, source: Source, seq: i64) {
        self.take_record(subject, kind, source, seq, kind == Kind::OptOut);
    }

    fn take_record(&self, subject: Subject, kind: Kind, source: Source, seq: i64, claimed: bool) {
        let take = |known: Known| known.after(kind, source).with_seq(seq);
        self.update(subject, |known| {
            if !known.is_underway() {
                return take(known);
            }
            self.with_underway(subject, known, |underway| {
                underway.durable = take(underway.durable);
                if claimed {
                    underway.settle(source);
                }
                if kind != Kind::OptOut {
                    underway.forget_dropped();
                }
            })
        });
    }

    /// As [`Index::settle`], at a start; `false`, and nothing is changed, when the account has taken it in already.
    pub(super) fn settle_later(&self, subject: Subject, kind: Kind, source: Source, seq: i64) -> bool {
        let mut later = false;
        self.change(subject, |known| {
            later = known.seq() < seq;
            if later { known.after(kind, source).with_seq(seq) } else { known }
        });
        later
    }

    /// At a start, before the records: those of this account up to `seq` are forgotten, and it stood like this then.
    pub(super) fn stood(&self, subject: Subject, standing: Standing, seq: i64) {
        let left = Known::left_of(standing).with_seq(seq);
        self.change(subject, |known| if known.seq() > seq { known } else { left });
    }

    /// The account's records up to `seq` are forgotten, and it stood like this then. A later record has the
    /// last word; the next change is recorded like a new account's.
    pub(super) fn suppress(&self, subject: Subject, standing: Standing, seq: i64) {
        self.change(subject, |known| if known.seq() > seq { known } else { Known::left_of(standing) });
    }

    /// The account's last record, which had this number, is pruned.
    pub(super) fn pruned(&self, subject: Subject, seq: i64) {
        let left = |known: Known| if known.seq() == seq { Known::left_of(known.standing()) } else { known };
        self.change(subject, left);
    }

    /// Another node recorded an opt-out.
    pub(super) fn hear(&self, subject: Subject, source: Source) {
        self.change(subject, |known| known.after(Kind::OptOut, source));
    }

    /// An account whose records are erased everywhere is opted out; what is known here of later records stands.
    pub(super) fn hear_suppressed(&self, subject: Subject) {
        self.change(subject, Known::suppressed);
    }

    /// All choices of a person, on every node and up to `last` on this one, come to this. `false`, and nothing is
    /// changed, when this node has recorded another since.
    pub(super) fn weighed(&self, subject: Subject, held: &[(Kind, Source)], last: i64) -> bool {
        let mut taken = false;
        self.change(subject, |known| {
            taken = known.seq() <= last;
            // Without an opt-out or opt-in on record, what is known was kept of records that are forgotten.
            let chosen = held.iter().any(|(kind, _)| *kind != Kind::Programme);
            let before = if chosen { Known::default().with_seq(known.seq()) } else { known };
            let fold = || held.iter().fold(before, |known, (kind, source)| known.after(*kind, *source));
            if taken { fold() } else { known }
        });
        taken
    }

    /// Accounts opted out now.
    pub(super) fn opted_out(&self) -> u64 {
        self.opted_out.load(Ordering::Relaxed)
    }

    /// Changes what the journal or other nodes tell of one account. Opt-outs on their way stand above it.
    fn change(&self, subject: Subject, to: impl FnOnce(Known) -> Known) {
        self.update(subject, |known| {
            if !known.is_underway() {
                return to(known);
            }
            self.with_underway(subject, known, |underway| underway.durable = to(underway.durable))
        });
    }

    /// Changes what counts for one account, and keeps the count, under the account's shard lock.
    fn update(&self, subject: Subject, to: impl FnOnce(Known) -> Known) {
        let mut entry = self.accounts.entry(subject).or_default();
        let (before, after) = (*entry, to(*entry));
        *entry = after;
        count(&self.opted_out, before.is(Kind::OptOut), after.is(Kind::OptOut));
        count(&self.dropped, before.lacks_record(), after.lacks_record());
    }

    /// Changes what is underway of an account, and says what counts then.
    fn with_underway(&self, subject: Subject, known: Known, change: impl FnOnce(&mut Underway)) -> Known {
        let mut all = self.all_underway();
        let one = all.entry(subject).or_insert_with(|| Underway::of(known));
        change(one);
        let live = one.live();
        if !live.is_underway() {
            all.remove(&subject);
        }
        live
    }

    /// What an account comes to without opt-outs on their way.
    fn durable(&self, subject: &Subject, known: Known) -> Known {
        match known.is_underway() {
            true => self.all_underway().get(subject).map_or(known, |underway| underway.durable),
            false => known,
        }
    }

    fn all_underway(&self) -> MutexGuard<'_, HashMap<Subject, Underway, ByAccount>> {
        // What a panic in here would leave is whole: nothing that it calls can panic half way.
        self.underway.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Counts one more or less of those of whom something holds.
fn count(all: &AtomicU64, before: bool, after: bool) {
    match (before, after) {
        (false, true) => _ = all.fetch_add(1, Ordering::Relaxed),
        (true, false) => _ = all.fetch_sub(1, Ordering::Relaxed),
        _ => {}
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
        index.settle(A, Kind::OptOut, Source::Carried, 4);
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
        index.settle(A, Kind::OptOut, Source::Carried, 3);
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
        let sources = [Source::Gpc, Source::Carried, Source::Gpc, Source::Carried, Source::Gpc];
        assert_eq!(sources.iter().filter(|s| index.claim(A, Kind::OptOut, **s)).count(), 2);
        assert_eq!(index.opted_out(), 1);
        index.settle_claimed(A, Kind::OptOut, Source::Gpc, 1);
        index.settle_claimed(A, Kind::OptOut, Source::Carried, 2);
        index.settle(A, Kind::OptIn, Source::Form, 3);
        assert!(index.claim(A, Kind::OptOut, Source::Gpc), "after an opt-in a signal is a change again");
    }

    /// Over the bound the opt-out is honoured without a row; it must be asked again later.
    #[test]
    fn an_unrecorded_opt_out_is_honoured_and_tried_again() {
        let index = Index::default();
        assert!(index.claim(A, Kind::OptOut, Source::Gpc));
        assert_eq!(index.dropped(&A), None, "it is on its way");
        for _ in 0..3 {
            index.unclaim(A, Source::Gpc);
            assert_eq!((index.standing(&A), index.dropped(&A)), (Standing::OptedOut, Some(Source::Gpc)));
            assert!(index.claim(A, Kind::OptOut, Source::Gpc));
            assert_eq!(index.dropped(&A), None);
        }
        assert!(!index.claim(A, Kind::OptOut, Source::Gpc));
        index.settle_claimed(A, Kind::OptOut, Source::Gpc, 1);
        index.claim(A, Kind::OptOut, Source::Carried);
        index.unclaim(A, Source::Carried);
        assert_eq!(index.dropped(&A), None, "the opt-out is on record");
        assert!(index.all_underway().is_empty());
    }

    /// A choice of the person's own hand ends what was only honoured; after it nothing is to be handed over again.
    #[test]
    fn what_lacks_a_record_is_counted_and_ends_with_a_choice() {
        let index = Index::default();
        for account in [A, B] {
            index.claim(account, Kind::OptOut, Source::Gpc);
            index.unclaim(account, Source::Gpc);
        }
        assert_eq!(index.dropped.load(Ordering::Relaxed), 2);
        index.settle(A, Kind::OptIn, Source::Form, 1);
        index.settle(B, Kind::OptOut, Source::Form, 2);
        assert_eq!((index.dropped(&A), index.dropped(&B)), (None, None));
        assert_eq!(index.dropped.load(Ordering::Relaxed), 0);
    }

    fn in_file(index: &Index, subject: Subject) -> Option<Known> {
        let mut found = None;
        index.each(|one, word| found = if *one == subject { Some(Known(word)) } else { found });
        found
    }

    /// A file of the index is what the journal comes to: an opt-out whose record may never come to be is not in it,
    /// and takes nothing out of it.
    #[test]
    fn what_is_on_its_way_is_in_no_file() {
        let index = Index::default();
        index.claim(A, Kind::OptOut, Source::Gpc);
        assert_eq!(in_file(&index, A), None);
        index.settle_claimed(A, Kind::OptOut, Source::Gpc, 1);
        index.claim(A, Kind::OptOut, Source::Import);
        index.settle(B, Kind::OptIn, Source::Form, 2);
        index.claim(B, Kind::OptOut, Source::Carried);
        index.claim(B, Kind::OptOut, Source::Form);
        assert!(in_file(&index, A).unwrap().holds(Kind::OptOut, Source::Gpc));
        assert!(!in_file(&index, A).unwrap().holds(Kind::OptOut, Source::Import));
        let kept = in_file(&index, B).unwrap();
        assert_eq!((kept.standing(), kept.seq()), (Standing::OptedIn, 2));
        assert_eq!((index.standing(&B), index.last_word(&B)), (Standing::OptedOut, (Standing::OptedIn, 2)));
        index.settle_claimed(B, Kind::OptOut, Source::Carried, 3);
        assert_eq!(in_file(&index, B).unwrap().standing(), Standing::Overruled);
        assert_eq!(index.standing(&B), Standing::OptedOut);
        index.settle_claimed(B, Kind::OptOut, Source::Form, 4);
        assert_eq!(in_file(&index, B).unwrap().standing(), Standing::OptedOut);
        index.settle_claimed(A, Kind::OptOut, Source::Import, 5);
        assert!(index.all_underway().is_empty());
    }

    /// 11 CCR 7025(c)(3): an opt-out that came after an opt-in holds, also while only that one is on disk.
    #[test]
    fn an_opt_out_on_its_way_stands_above_a_choice_made_before() {
        let index = Index::default();
        index.claim(A, Kind::OptOut, Source::Gpc);
        index.settle(A, Kind::OptIn, Source::Form, 1);
        assert_eq!((index.standing(&A), index.opted_out()), (Standing::Overruled, 1));
        index.suppress(A, Standing::OptedIn, 1);
        assert!(index.weighed(A, &[(Kind::OptIn, Source::Form)], 1));
        assert!(index.standing(&A).is_out());
        index.settle_claimed(A, Kind::OptOut, Source::Gpc, 2);
        assert_eq!((index.standing(&A), index.last_word(&A).1), (Standing::Overruled, 2));
        assert!(index.all_underway().is_empty());
    }

    /// Nothing of an opt-out that was only honoured stays once the person has chosen by hand.
    #[test]
    fn an_unrecorded_opt_out_ends_with_the_next_choice() {
        let index = Index::default();
        index.settle(A, Kind::OptIn, Source::Form, 1);
        index.claim(A, Kind::OptOut, Source::Gpc);
        index.unclaim(A, Source::Gpc);
        assert!(index.standing(&A).is_out());
        assert_eq!(in_file(&index, A).unwrap().standing(), Standing::OptedIn);
        index.settle(A, Kind::OptIn, Source::Form, 2);
        assert_eq!((index.standing(&A), index.opted_out()), (Standing::OptedIn, 0));
        assert!(index.all_underway().is_empty());
    }

    /// 11 CCR 7025(c)(4): a programme is an exception to an opt-out, also to one that only its hash is left of. What
    /// holds is the same at a start, for a node that hears of it, and where it was chosen.
    #[test]
    fn a_programme_after_a_forgotten_opt_out_leaves_it_an_opt_out() {
        let (here, start, node) = (Index::default(), Index::default(), Index::default());
        here.settle(A, Kind::OptOut, Source::Gpc, 1);
        here.suppress(A, Standing::OptedOut, 1);
        here.settle(A, Kind::Programme, Source::Form, 2);
        start.stood(A, Standing::OptedOut, 1);
        assert!(!start.settle_later(A, Kind::OptIn, Source::Form, 1), "what was before it is forgotten");
        assert!(start.settle_later(A, Kind::Programme, Source::Form, 2));
        start.suppress(A, Standing::OptedOut, 1);
        node.settle(A, Kind::Programme, Source::Form, 2);
        node.hear_suppressed(A);
        assert!(node.weighed(A, &[(Kind::Programme, Source::Form)], 2));
        for index in [&here, &start, &node] {
            assert_eq!((index.standing(&A), index.opted_out()), (Standing::Programme, 1));
            assert_eq!(index.last_word(&A).1, 2);
        }
        let begun = Index::default();
        here.each(|subject, word| begun.put(*subject, word));
        assert_eq!(begun.standing(&A), Standing::Programme);
        start.stood(B, Standing::OptedOutByImport, 7);
        start.suppress(B, Standing::OptedOutByImport, 7);
        assert_eq!(start.last_word(&B), (Standing::OptedOutByImport, 0), "no record is its last");
    }

    /// 11 CCR 7025(c)(4): only who is opted out keeps a programme, so its record is word of the opt-out also where the
    /// opt-out's own is pruned; with a legal hold on an opt-in of before, too. A file of an earlier version, which forgot it,
    /// is put right.
    #[test]
    fn a_programme_alone_is_an_opt_out() {
        let index = Index::default();
        index.settle(A, Kind::Programme, Source::Form, 2);
        index.settle(B, Kind::OptIn, Source::Form, 1);
        index.settle(B, Kind::Programme, Source::Form, 3);
        for account in [A, B] {
            assert_eq!(index.standing(&account), Standing::Programme);
            index.settle(account, Kind::OptOut, Source::Gpc, 4);
            assert_eq!(index.standing(&account), Standing::Programme);
            index.settle(account, Kind::OptIn, Source::Form, 5);
            assert_eq!(index.standing(&account), Standing::OptedIn);
        }
        assert_eq!(index.opted_out(), 0);
        let earlier = Index::default();
        earlier.put(A, 1 << 7 | 2 << 9);
        earlier.put(B, 1 << 7 | 1 << 5 | 2 << 9);
        assert_eq!(
            (earlier.standing(&A), earlier.standing(&B), earlier.opted_out()),
            (Standing::Programme, Standing::OptedIn, 1)
        );
        // Of another node, whose opt-out is erased: no record here, and no way in which it arrived.
        let heard = Index::default();
        assert!(heard.weighed(A, &[(Kind::Programme, Source::Form)], 0));
        assert!(in_file(&heard, A).is_some());
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
