//! Any sequence of changes, crashes, restarts and full disks, against a plain list of what was handed over: after every
//! restart the journal is that list without what was refused or never answered, in its order, and the index is its fold.

use std::collections::BTreeMap;

use optgate::store::{Change, Kind, Source};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestCaseError, TestRunner};

use super::child::Asked;
use super::crash::{limit, limited};
use super::oracle::rounds;
use super::{change, records};

const ACCOUNTS: u64 = 12;

#[derive(Debug, Clone, Copy)]
enum Op {
    /// An opt-out or opt-in that somebody waits for.
    Record(u64, Kind, Source),
    /// An opt-out that nobody waits for.
    Behind(u64, Source),
    /// No file may grow beyond 16 KiB.
    Fill,
    Room,
    Close,
    Kill,
}

fn op() -> impl Strategy<Value = Op> {
    let source =
        prop_oneof![Just(Source::Gpc), Just(Source::Form), Just(Source::Carried), Just(Source::Import)];
    prop_oneof![
        8 => (0..ACCOUNTS, source.clone()).prop_map(|(account, source)| Op::Record(account, Kind::OptOut, source)),
        4 => (0..ACCOUNTS).prop_map(|account| Op::Record(account, Kind::OptIn, Source::Form)),
        8 => (0..ACCOUNTS, source).prop_map(|(account, source)| Op::Behind(account, source)),
        3 => Just(Op::Fill),
        3 => Just(Op::Room),
        1 => Just(Op::Close),
        1 => Just(Op::Kill),
    ]
}

/// A change that makes a record, and what is known about that record.
#[derive(Debug, Clone, Copy)]
struct Row {
    /// Tells it apart: the time it carries.
    time_us: i64,
    account: u64,
    kind: Kind,
    source: Source,
    fate: Fate,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    /// It is there.
    Durable,
    /// In the queue; nobody was told anything.
    Queued,
    /// Somebody was told that it could not be saved; it may be there all the same.
    Refused,
}

/// What is known of an account: its standing, the ways that it arrived, and whether it came over an opt-in without the
/// person's own hand.
type Known = BTreeMap<u64, (Kind, Vec<Source>, bool)>;

fn settle(known: &mut Known, account: u64, kind: Kind, source: Source) {
    let entry = known.entry(account).or_insert((kind, Vec::new(), false));
    if entry.0 != kind {
        *entry = (kind, Vec::new(), entry.0 == Kind::OptIn);
    }
    entry.2 &= source != Source::Form;
    if !entry.1.contains(&source) {
        entry.1.push(source);
    }
}

fn standing(known: &Known, account: u64) -> &'static str {
    match known.get(&account) {
        None | Some((Kind::Denied(_), ..)) => "Unknown",
        Some((Kind::OptIn | Kind::Programme, ..)) => "OptedIn",
        Some((Kind::OptOut, _, true)) => "Overruled",
        Some((Kind::OptOut, sources, _)) if *sources == [Source::Import] => "OptedOutByImport",
        Some((Kind::OptOut, ..)) => "OptedOut",
    }
}

struct Model {
    folder: tempfile::TempDir,
    store: Option<Asked>,
    rows: Vec<Row>,
    known: Known,
    full: bool,
    time_us: i64,
    acknowledged: u64,
    refused: u64,
    restarts: u64,
}

impl Model {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut model = Self {
            folder,
            store: None,
            rows: Vec::new(),
            known: Known::new(),
            full: false,
            time_us: 1_795_000_000_000_000,
            acknowledged: 0,
            refused: 0,
            restarts: 0,
        };
        model.start();
        model
    }

    fn start(&mut self) {
        self.store = Some(Asked::start(limited(self.folder.path())).unwrap());
        self.full = false;
    }

    fn store(&mut self) -> &mut Asked {
        self.store.as_mut().unwrap()
    }

    fn act(&mut self, op: Op) -> Result<(), TestCaseError> {
        match op {
            Op::Record(account, kind, source) => self.record(account, kind, source)?,
            Op::Behind(account, source) => self.behind(account, source),
            Op::Fill => {
                limit(self.store(), Some(16 * 1024));
                self.full = true;
            }
            Op::Room => {
                limit(self.store(), None);
                self.full = false;
            }
            Op::Close => {
                self.store.take().unwrap().close();
                if !self.full {
                    self.queued_are_durable();
                }
                return self.restarted();
            }
            Op::Kill => {
                self.store.take().unwrap().kill();
                return self.restarted();
            }
        }
        self.compare()
    }

    fn row(&mut self, account: u64, kind: Kind, source: Source, fate: Fate) -> Change {
        self.time_us += 1;
        self.rows.push(Row { time_us: self.time_us, account, kind, source, fate });
        Change { time_us: self.time_us, ..change(kind, source, Some(account)) }
    }

    fn record(&mut self, account: u64, kind: Kind, source: Source) -> Result<(), TestCaseError> {
        let change = self.row(account, kind, source, Fate::Refused);
        let [_, answer] = self.store().record(account, &change);
        if answer.contains("ACK ") {
            // Order is kept: what was queued before it is there as well.
            self.queued_are_durable();
            self.rows.last_mut().unwrap().fate = Fate::Durable;
            settle(&mut self.known, account, kind, source);
            self.acknowledged += 1;
        } else {
            self.refused += 1;
            prop_assert!(self.full && answer.contains(" true: the journal cannot write"), "{answer}");
        }
        Ok(())
    }

    fn behind(&mut self, account: u64, source: Source) {
        let held =
            self.known.get(&account).is_some_and(|(kind, s, _)| *kind == Kind::OptOut && s.contains(&source));
        let change = if held {
            change(Kind::OptOut, source, Some(account))
        } else {
            self.row(account, Kind::OptOut, source, Fate::Queued)
        };
        self.store().behind(account, &change);
        settle(&mut self.known, account, Kind::OptOut, source);
    }

    fn queued_are_durable(&mut self) {
        self.rows.iter_mut().filter(|r| r.fate == Fate::Queued).for_each(|r| r.fate = Fate::Durable);
    }

    fn restarted(&mut self) -> Result<(), TestCaseError> {
        self.restarts += 1;
        self.start();
        let kept: Vec<_> = records(self.folder.path()).into_iter().map(|r| r.time_us).collect();
        for row in &self.rows {
            prop_assert!(row.fate != Fate::Durable || kept.contains(&row.time_us), "lost: {row:?}");
        }
        self.rows.retain(|row| kept.contains(&row.time_us));
        self.rows.iter_mut().for_each(|row| row.fate = Fate::Durable);
        let handed_over: Vec<_> = self.rows.iter().map(|r| r.time_us).collect();
        prop_assert_eq!(kept, handed_over, "each once, in the order they were handed over");
        self.known.clear();
        self.rows.iter().for_each(|row| settle(&mut self.known, row.account, row.kind, row.source));
        self.compare()
    }

    fn compare(&mut self) -> Result<(), TestCaseError> {
        for account in 0..ACCOUNTS {
            let says = self.store().look(account);
            prop_assert_eq!(says.as_str(), standing(&self.known, account), "account {}", account);
        }
        Ok(())
    }
}

#[test]
fn any_sequence_of_changes_crashes_and_full_disks_leaves_what_a_plain_list_says() {
    let cases = u32::try_from(rounds(6)).unwrap();
    let config = Config { cases, failure_persistence: None, max_shrink_iters: 100, ..Config::default() };
    let totals = std::cell::Cell::new([0; 4]);
    TestRunner::new(config)
        .run(&prop::collection::vec(op(), 1..100), |ops| {
            let mut model = Model::new();
            ops.iter().chain(&[Op::Room, Op::Kill, Op::Close]).try_for_each(|op| model.act(*op))?;
            model.store.take().unwrap().close();
            let these = [ops.len() as u64, model.restarts, model.acknowledged, model.refused];
            totals.set(std::array::from_fn(|n| totals.get()[n] + these[n]));
            Ok(())
        })
        .unwrap();
    let [steps, restarts, acknowledged, refused] = totals.get();
    println!(
        "model: {cases} rounds of {steps} steps, {restarts} restarts, {acknowledged} acknowledged, {refused} refused, 0 lost"
    );
}
