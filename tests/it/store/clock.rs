//! The wall clock jumps back and forth by an hour while records are written: a person's choices keep the order they were
//! made in, whatever time they carry, and the chain verifies. Debian's faketime moves the clock of the child alone.

use optgate::store::{Change, Kind, RecordView, Source};

use super::super::support::random::Random;
use super::super::support::wall_clock::WallClock;
use super::child::{Asked, child};
use super::oracle::{Oracle, rounds, seed};
use super::{change, records};

#[test]
fn a_clock_that_jumps_does_not_reorder_a_persons_choices() {
    let Some(clock) = WallClock::of("a_clock_that_jumps_does_not_reorder_a_persons_choices") else { return };
    let mut random = Random(seed());
    let folder = tempfile::tempdir().unwrap();
    let mut oracle = Oracle::default();
    let mut made = Vec::new();
    let rounds = rounds(3);
    for round in 0..rounds {
        clock.shift("+0");
        let mut command = child("asked", folder.path());
        clock.under(&mut command);
        let mut asked = Asked::start(command).unwrap();
        for turn in 0..20 {
            let hours = [-1, 0, 1][random.below(3)];
            clock.shift(&format!("{hours:+}h"));
            // The time of a change is its caller's, and jumps as well.
            let time_us = 1_795_000_000_000_000 + hours * 3_600_000_000;
            let account = turn % 4;
            let kind = if random.below(2) == 0 { Kind::OptOut } else { Kind::OptIn };
            let change = Change { time_us, ..change(kind, Source::Form, Some(account)) };
            asked.record(account, &change).iter().for_each(|line| oracle.hear(line));
            made.push((time_us, kind));
            let standing = if kind == Kind::OptOut { "OptedOut" } else { "OptedIn" };
            assert_eq!(asked.look(account), standing);
        }
        if round % 2 == 0 {
            asked.kill()
        } else {
            asked.close()
        }
        oracle.assert_kept(folder.path(), &format!("round {round}"));
    }
    let kept = records(folder.path());
    let pair = |r: &RecordView| (r.time_us, Kind::parse(&r.kind).unwrap());
    assert_eq!(kept.iter().map(pair).collect::<Vec<_>>(), made);
    assert!(kept.windows(2).any(|two| two[0].time_us > two[1].time_us), "the clock went back");
    println!("clock jumps: {rounds} rounds, {} acknowledged, 0 lost", oracle.acknowledged());
}
