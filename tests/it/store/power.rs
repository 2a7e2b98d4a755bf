//! The power goes. What was written and not synced is gone, or is there in part and out of order; `kill -9` cannot show
//! that, because the system keeps what a killed process wrote. See `disk.rs` for the disk, and how it is known what is
//! on it at any moment of a run: one run under load is cut at many moments.

use std::path::Path;

use optgate::store::{Kind, Source};

use super::super::support::random::Random;
use super::change;
use super::child::{Asked, child, kill_under_load, strike};
use super::disk::{Cut, Disk, Event, events, preload};
use super::oracle::{Oracle, rounds, seed};

/// Moments of a run at which the power goes, for each way of losing it.
const CUTS: usize = 8;

/// A run under load on a folder, killed after so many answers: what it did to its disk.
fn run(folder: &Path, answers: usize) -> Vec<Event> {
    let kept = tempfile::tempdir().unwrap();
    let log = kept.path().join("log");
    let mut command = child("load", folder);
    preload(&mut command, folder, &log, None);
    kill_under_load(command, answers);
    events(&log)
}

/// A short run that ends as it should: the WAL is moved into the file and removed.
fn run_and_close(folder: &Path, changes: u64) -> Vec<Event> {
    let kept = tempfile::tempdir().unwrap();
    let log = kept.path().join("log");
    let mut command = child("asked", folder);
    preload(&mut command, folder, &log, None);
    let mut asked = Asked::start(command).unwrap();
    for account in 0..changes {
        asked.record(account, &change(Kind::OptOut, Source::Form, Some(account)));
    }
    asked.close();
    events(&log)
}

/// Where to cut: half of the time right after an answer, which is when most was promised and least time has passed;
/// else anywhere, in recovery and in the making of a new folder too; and at the end.
fn moments(events: &[Event], random: &mut Random) -> Vec<usize> {
    let answers: Vec<_> = (0..events.len())
        .filter(|at| matches!(&events[*at], Event::Say(text) if text.contains("ACK ")))
        .map(|at| at + 1)
        .collect();
    let mut moments: Vec<_> = (1..CUTS)
        .map(|n| match answers.as_slice() {
            [] => random.below(events.len() + 1),
            answers if n % 2 == 0 => answers[random.below(answers.len())],
            _ => random.below(events.len() + 1),
        })
        .collect();
    moments.push(events.len());
    moments.sort_unstable();
    moments
}

fn hear(oracle: &mut Oracle, event: &Event) {
    if let Event::Say(text) = event {
        text.lines().for_each(|line| oracle.hear(line));
    }
}

/// Cuts the power at each moment of a run; calls `check` with the folder that is left and what was promised till then.
fn cut_at(
    mut disk: Disk,
    mut oracle: Oracle,
    events: &[Event],
    moments: &[usize],
    check: &mut dyn FnMut(&Disk, &Path, &Oracle, usize),
) {
    let mut done = 0;
    for moment in moments {
        for event in &events[done..*moment] {
            disk.follow(event);
            hear(&mut oracle, event);
        }
        done = *moment;
        let left = tempfile::tempdir().unwrap();
        disk.cut_power(left.path());
        check(&disk, left.path(), &oracle, *moment);
    }
}

/// Many lives of one folder, each ended by a power cut and begun on what that left.
fn lives(cut: Cut, test: &str) {
    let seed = seed();
    let mut random = Random(seed);
    let rounds = rounds(3);
    let (mut cuts, mut answers) = (0, 0);
    let mut folder = tempfile::tempdir().unwrap();
    let mut oracle = Oracle::default();
    for round in 0..rounds {
        let disk = Disk::of(folder.path(), cut, random.draw());
        let before = oracle.acknowledged();
        let events = match random.below(4) {
            _ if round == 0 => run(folder.path(), 1 + random.below(400)),
            0 => run_and_close(folder.path(), 8),
            _ => run(folder.path(), strike(&mut random)),
        };
        let moments = moments(&events, &mut random);
        let mut last = None;
        cut_at(disk, oracle.clone(), &events, &moments, &mut |disk, left, oracle, moment| {
            let again = tempfile::tempdir().unwrap();
            disk.cut_power(again.path());
            oracle.assert_kept(
                left,
                &format!("round {round}, cut at {moment} of {}, seed {seed}", events.len()),
            );
            cuts += 1;
            last = Some((again, oracle.clone()));
        });
        // The next life begins where the power went, and does the recovery itself.
        (folder, oracle) = last.unwrap();
        answers += oracle.acknowledged() - before;
        if round % 20 == 19 {
            // A journal that only grows would make every check slower.
            (folder, oracle) = (tempfile::tempdir().unwrap(), Oracle::default());
        }
    }
    println!("{test}: {rounds} rounds, {cuts} power cuts, {answers} acknowledged, 0 lost");
    assert!(answers > 0);
}

#[test]
fn a_power_cut_that_leaves_only_what_was_synced_loses_nothing_acknowledged() {
    lives(Cut::Synced, "power cut");
}

#[test]
fn a_power_cut_that_leaves_torn_and_reordered_sectors_loses_nothing_acknowledged() {
    lives(Cut::Mixed, "power cut, torn and reordered");
}

/// One short life, from an empty folder to a clean end, cut after each single thing that it does to its disk.
#[test]
fn a_power_cut_after_any_step_of_a_first_life_loses_nothing_acknowledged() {
    let folder = tempfile::tempdir().unwrap();
    let empty = tempfile::tempdir().unwrap();
    let events = run_and_close(folder.path(), 3);
    let acts = |at: &usize| !matches!(events[at - 1], Event::Say(_) | Event::Close(_));
    let all: Vec<_> = (1..=events.len()).filter(acts).collect();
    let mut acknowledged = 0;
    for cut in [Cut::Synced, Cut::Mixed] {
        let disk = Disk::of(empty.path(), cut, getrandom::u64().unwrap());
        cut_at(disk, Oracle::default(), &events, &all, &mut |_, left, oracle, moment| {
            oracle.assert_kept(left, &format!("{cut:?}, after step {moment} of {}", events.len()));
            acknowledged = oracle.acknowledged();
        });
    }
    println!("power cut after any step: {} power cuts, {acknowledged} acknowledged, 0 lost", 2 * all.len());
    assert_eq!(acknowledged, 3);
}

/// The WAL is moved into the file now and then, and begun again: a life long enough for that, cut in the midst of it.
#[test]
fn a_power_cut_while_the_write_ahead_log_is_moved_loses_nothing_acknowledged() {
    let seed = seed();
    let mut random = Random(seed);
    let empty = tempfile::tempdir().unwrap();
    // How many records it takes depends on how many share a commit, and that on how busy the machine is.
    let lives = [9_000, 36_000, 144_000].into_iter().map(|records| {
        let folder = tempfile::tempdir().unwrap();
        run(folder.path(), records)
    });
    let moved = lives
        .map(|events| (moves(&events), events))
        .find(|((moving, begun), _)| moving.len() > 100 && begun.len() > 1);
    let ((moving, begun), events) = moved.expect("no life moved the WAL and began it again");
    let mut moments: Vec<_> = (0..3).map(|_| moving[random.below(moving.len())] + random.below(3)).collect();
    let head = begun[1];
    moments.extend([head, head + 1, head + 2]);
    moments.retain(|at| *at <= events.len());
    moments.sort_unstable();
    let (mut cuts, mut acknowledged) = (0, 0);
    for cut in [Cut::Synced, Cut::Mixed] {
        let disk = Disk::of(empty.path(), cut, random.draw());
        cut_at(disk, Oracle::default(), &events, &moments, &mut |_, left, oracle, moment| {
            oracle.assert_kept(left, &format!("{cut:?} at {moment} of {}, seed {seed}", events.len()));
            cuts += 1;
            acknowledged = oracle.acknowledged();
        });
    }
    println!(
        "power cut while the WAL is moved: {cuts} power cuts, {acknowledged} acknowledged before the last, 0 lost"
    );
}

/// Where the journal's file is written or synced after it was made, and where its WAL is begun.
fn moves(events: &[Event]) -> (Vec<usize>, Vec<usize>) {
    let opened = |name: &str| {
        let named = |e: &&Event| matches!(e, Event::Open { name: n, .. } if n == name);
        match events.iter().find(named) {
            Some(Event::Open { fd, .. }) => *fd,
            _ => panic!("{name} was not opened"),
        }
    };
    let (fd, wal) = (opened("journal.sqlite3"), opened("journal.sqlite3-wal"));
    let made = events.iter().position(|e| matches!(e, Event::Say(text) if text.contains("OPENED"))).unwrap();
    let moving = |e: &Event| matches!(e, Event::Write { fd: f, .. } | Event::Sync(f) if *f == fd);
    let begun = |e: &Event| matches!(e, Event::Write { fd: f, at: 0, .. } if *f == wal);
    let places =
        |what: &dyn Fn(&Event) -> bool| (made..events.len()).filter(|at| what(&events[*at])).collect();
    (places(&moving), places(&begun))
}

/// A data folder that the store made itself has a name, too, and so have the folders above it.
#[test]
fn a_data_folder_just_made_is_still_there_after_a_power_cut() {
    let mut random = Random(seed());
    let root = tempfile::tempdir().unwrap();
    let disk = Disk::of(root.path(), Cut::Synced, 1);
    let log = tempfile::tempdir().unwrap();
    let log = log.path().join("log");
    let mut command = child("load", &root.path().join("var/optgate"));
    preload(&mut command, root.path(), &log, None);
    kill_under_load(command, 1 + random.below(200));
    let events = events(&log);
    cut_at(disk, Oracle::default(), &events, &[events.len()], &mut |_, left, oracle, _| {
        assert!(oracle.acknowledged() > 0);
        oracle.assert_kept(&left.join("var/optgate"), "in a new folder");
        println!("a new data folder: 1 power cut, {} acknowledged, 0 lost", oracle.acknowledged());
    });
}

/// The proof of the proof: on a disk that ignores the syncs of the WAL, or those of a new folder, the very same runs
/// lose what was acknowledged.
#[test]
fn a_disk_that_ignores_syncs_is_seen_to_lose_what_was_acknowledged() {
    let seed = seed();
    let mut random = Random(seed);
    let folder = tempfile::tempdir().unwrap();
    let disk = Disk::of(folder.path(), Cut::Synced, 1);
    let events = run(folder.path(), 1 + random.below(200));
    let mut lost = Vec::new();
    let all = [events.len()];
    for (disk, what) in [(disk.clone(), "no"), (disk.deaf_to("-wal"), "the WAL's")] {
        cut_at(disk, Oracle::default(), &events, &all, &mut |_, left, oracle, _| {
            let missing = oracle.lost(left).unwrap();
            println!("ignoring {what} syncs: {missing} of {} acknowledged are lost", oracle.acknowledged());
            lost.push((missing, oracle.acknowledged()));
        });
    }
    assert_eq!(lost[0].0, 0, "seed {seed}");
    assert!(lost[1].0 > 0 && lost[1].1 > 0, "seed {seed}");
}

/// The mark is on the disk with each checkpoint: where the journal is cut short after a power cut, a start can tell.
#[test]
fn a_mark_that_was_written_before_a_checkpoint_outlasts_a_power_cut() {
    let folder = tempfile::tempdir().unwrap();
    let empty = tempfile::tempdir().unwrap();
    let events = run_and_close(folder.path(), 3);
    let disk = Disk::of(empty.path(), Cut::Synced, 1);
    cut_at(disk, Oracle::default(), &events, &[events.len()], &mut |_, left, oracle, _| {
        assert_eq!(oracle.acknowledged(), 3);
        let mark = std::fs::read_to_string(left.join("journal.mark")).unwrap_or_default();
        assert!(mark.starts_with(&format!("{:020} ", 3)), "{mark:?}");
    });
}
