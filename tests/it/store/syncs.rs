//! A sync fails. What it should have written may be lost although a later sync succeeds: Linux marks the pages clean
//! (PostgreSQL's "fsyncgate", 2018; `disk.rs` does the same). So nothing is acknowledged whose sync failed, nothing is
//! built on what was left in the system's memory, and the store says that it cannot write.

use std::collections::HashSet;
use std::path::Path;

use optgate::store::{Change, Kind, Source};

use super::super::support::random::Random;
use super::child::{Asked, child};
use super::disk::{Cut, Disk, Event, events, preload};
use super::oracle::{Oracle, rounds, seed};
use super::{change, records};

/// Which syncs fail.
#[derive(Debug, Clone, Copy)]
struct Fault {
    first: u64,
    count: u64,
    of: &'static str,
}

const FOR_GOOD: u64 = 1_000_000;

/// Everything a child did and said, one life after the other, on one disk.
struct Lives {
    folder: tempfile::TempDir,
    disk: Disk,
    oracle: Oracle,
    /// Accounts used so far.
    accounts: u64,
}

/// What became of the changes of one life.
#[derive(Debug, Default)]
struct Life {
    refused_at_start: Option<String>,
    acknowledged: usize,
    refused: usize,
    /// Acknowledged after one was refused.
    went_on: usize,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum End {
    Kill,
    Close,
}

impl Lives {
    fn new(cut: Cut, seed: u64) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let disk = Disk::of(folder.path(), cut, seed);
        Self { folder, disk, oracle: Oracle::default(), accounts: 0 }
    }

    /// One process that is asked `changes` times; `power` says after which events the power is cut for a look.
    fn live(
        &mut self,
        fault: Option<Fault>,
        changes: u64,
        end: End,
        power: &mut dyn FnMut(&Disk, &Oracle, &Event),
    ) -> Life {
        let kept = tempfile::tempdir().unwrap();
        let log = kept.path().join("log");
        let mut command = child("asked", self.folder.path());
        preload(&mut command, self.folder.path(), &log, fault.map(|f| (f.first, f.count, f.of)));
        let mut life = Life::default();
        match Asked::start(command) {
            Err(said) => life.refused_at_start = Some(said),
            Ok(mut asked) => {
                let first = self.accounts + 1;
                let mut well = true;
                for account in first..first + changes {
                    // The time tells which account a row of an export is of.
                    let out = change(Kind::OptOut, Source::Form, Some(account));
                    let [_, answer] =
                        asked.record(account, &Change { time_us: account.cast_signed(), ..out });
                    well = answer.contains("ACK ");
                    if well {
                        life.acknowledged += 1;
                        life.went_on += usize::from(life.refused > 0);
                    } else {
                        life.refused += 1;
                        assert!(
                            answer.contains(" out true: the journal cannot write"),
                            "{fault:?}: {answer}"
                        );
                    }
                }
                self.accounts += changes;
                if well {
                    // Also of what was refused and is there all the same: index and journal say one thing.
                    let rows: HashSet<_> =
                        records(self.folder.path()).into_iter().map(|r| r.time_us).collect();
                    for account in first..first + changes {
                        let known = asked.look(account) == "OptedOut";
                        assert_eq!(known, rows.contains(&account.cast_signed()), "{fault:?}: {account}");
                    }
                }
                match end {
                    End::Kill => asked.kill(),
                    End::Close => asked.close(),
                }
            }
        }
        for event in events(&log) {
            self.disk.follow(&event);
            if let Event::Say(text) = &event {
                text.lines().for_each(|line| self.oracle.hear(line));
            }
            power(&self.disk, &self.oracle, &event);
        }
        self.disk.process_ended();
        life
    }
}

fn cut_and_check(disk: &Disk, oracle: &Oracle, what: &str) {
    let left = tempfile::tempdir().unwrap();
    disk.cut_power(left.path());
    oracle.assert_kept(left.path(), what);
}

fn fault(random: &mut Random) -> Fault {
    let of = *random.one_of(&[&"-wal", &"-wal", &"journal.sqlite3", &""]);
    Fault { first: 1 + random.draw() % 12, count: [1, 2, 3, FOR_GOOD][random.below(4)], of }
}

/// A life that is well, one whose syncs fail, one that is well again; the power may go at any moment of them.
#[test]
fn a_failed_sync_is_told_and_nothing_acknowledged_rests_on_it() {
    let seed = seed();
    let mut random = Random(seed);
    let rounds = rounds(6);
    let (mut acknowledged, mut refused, mut at_start, mut went_on, mut cuts) = (0, 0, 0, 0, 0);
    for round in 0..rounds {
        let cut = if round % 2 == 0 { Cut::Synced } else { Cut::Mixed };
        let fault = fault(&mut random);
        let mut lives = Lives::new(cut, random.draw());
        let what = format!("round {round}, {cut:?}, {fault:?}, seed {seed}");
        let mut look = |disk: &Disk, oracle: &Oracle, event: &Event| {
            let answered = matches!(event, Event::Say(text) if text.contains("ACK "));
            if random.below(if answered { 6 } else { 60 }) == 0 {
                cut_and_check(disk, oracle, &what);
                cuts += 1;
            }
        };
        if round % 3 > 0 {
            lives.live(None, 4, if round % 3 == 1 { End::Kill } else { End::Close }, &mut look);
        }
        // A store that cannot write also cannot close well; it ends all the same.
        let ill = lives.live(Some(fault), 12, if round % 4 < 2 { End::Kill } else { End::Close }, &mut look);
        if let Some(said) = &ill.refused_at_start {
            let folder = lives.folder.path().display().to_string();
            assert!(said.contains("REFUSED") && said.contains(&folder), "{what}: {said}");
            at_start += 1;
        }
        let well = lives.live(None, 8, End::Kill, &mut look);
        assert_eq!((&well.refused_at_start, well.refused), (&None, 0), "{what}: a disk that is well again");
        cut_and_check(&lives.disk, &lives.oracle, &what);
        cuts += 1;
        acknowledged += lives.oracle.acknowledged();
        refused += ill.refused;
        went_on += ill.went_on;
    }
    println!(
        "failing syncs: {rounds} rounds, {cuts} power cuts, {acknowledged} acknowledged, {refused} refused, {at_start} \
         refused to start, {went_on} acknowledged after a failure, 0 lost"
    );
}

/// Each sync of a new folder's first life fails once, one after the other. (SQLite does not look at what becomes of the
/// sync of a folder, and answers before the switch to a WAL is committed: without a look of our own the store would go
/// on in a mode in which a power cut takes back what was committed. And a secret whose name did not come to be on the
/// disk must not be followed by a journal whose name did.)
#[test]
fn any_one_sync_may_fail_while_a_journal_is_made() {
    let (mut acknowledged, mut cuts) = (0, 0);
    let syncs = 14;
    for (first, cut) in (1..=syncs).flat_map(|first| [(first, Cut::Synced), (first, Cut::Mixed)]) {
        let mut lives = Lives::new(cut, getrandom::u64().unwrap());
        let what = format!("sync {first} fails, {cut:?}");
        let mut look = |making: bool, disk: &Disk, oracle: &Oracle, event: &Event| {
            let answer = matches!(event, Event::Say(text) if text.contains("ACK "));
            if answer || making && matches!(event, Event::Open { created: true, .. }) {
                cut_and_check(disk, oracle, &what);
                cuts += 1;
            }
        };
        let fault = Fault { first, count: 1, of: "" };
        lives.live(Some(fault), 2, End::Kill, &mut |disk, oracle, event| look(false, disk, oracle, event));
        let well = lives.live(None, 1, End::Kill, &mut |disk, oracle, event| look(true, disk, oracle, event));
        assert_eq!((&well.refused_at_start, well.refused), (&None, 0), "{what}");
        acknowledged += lives.oracle.acknowledged();
    }
    println!(
        "one sync of the first life fails: {} rounds, {cuts} power cuts, {acknowledged} acknowledged, 0 lost",
        2 * syncs
    );
}

/// The store is fenced for as long as no sync succeeds, and says so; whoever starts it again on the same system, whose
/// memory still shows what never reached the disk, does not build on that.
#[test]
fn a_store_whose_syncs_fail_for_good_acknowledges_nothing_more_and_its_next_process_starts_from_the_disk() {
    for cut in [Cut::Synced, Cut::Mixed] {
        let mut lives = Lives::new(cut, seed());
        let nothing = &mut |_: &Disk, _: &Oracle, _: &Event| {};
        lives.live(None, 5, End::Close, nothing);
        let ill = lives.live(Some(Fault { first: 4, count: FOR_GOOD, of: "-wal" }), 10, End::Kill, nothing);
        assert_eq!((ill.went_on, ill.acknowledged + ill.refused), (0, 10), "{ill:?}");
        assert!(ill.refused > 0, "{ill:?}");
        let well = lives.live(None, 5, End::Kill, nothing);
        assert_eq!((well.acknowledged, well.refused), (5, 0), "{well:?}");
        cut_and_check(&lives.disk, &lives.oracle, &format!("{cut:?}"));
        println!(
            "syncs fail for good: {} acknowledged, {} refused, 0 lost",
            lives.oracle.acknowledged(),
            ill.refused
        );
    }
}

/// The model of a failed sync is one that hurts: a plain append to a file that goes on after it loses what it promised.
#[test]
fn a_program_that_goes_on_after_a_failed_sync_is_seen_to_lose() {
    let folder = tempfile::tempdir().unwrap();
    let mut disk = Disk::of(folder.path(), Cut::Synced, 1);
    let line = |at, byte: u8| Event::Write { fd: 3, at, bytes: vec![byte; 4096] };
    for event in [
        Event::Open { fd: 2, name: ".".into(), created: false, emptied: false, folder: true },
        Event::Open { fd: 3, name: "log".into(), created: true, emptied: false, folder: false },
        Event::Sync(2),
        line(0, 1),
        Event::SyncFailed(3),
        Event::Sync(3),
        line(4096, 2),
        Event::Sync(3),
    ] {
        disk.follow(&event);
    }
    let left = tempfile::tempdir().unwrap();
    disk.cut_power(left.path());
    let text = std::fs::read(Path::new(left.path()).join("log")).unwrap();
    assert_eq!((text.len(), text[0], text[4096]), (8192, 0, 2), "a hole before what was synced");
}
