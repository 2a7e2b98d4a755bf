//! The process is killed, traced or starved.

use std::io::Write;
use std::path::Path;
use std::process::Command;

use optgate::store::{Kind, Source};

use super::super::support::random::Random;
use super::super::support::skipped;
use super::change;
use super::child::{Asked, as_child, child, kill_under_load, lines, strike};
use super::oracle::{Oracle, rounds, seed};

/// `kill -9` under load at an arbitrary point, in the opening too, loses nothing acknowledged, over many lives of one
/// journal. (It cannot see a missing sync; the trace below does, and `power.rs`.)
#[test]
fn a_killed_process_loses_nothing_acknowledged() {
    let seed = seed();
    let mut random = Random(seed);
    let rounds = rounds(8);
    let folder = tempfile::tempdir().unwrap();
    let mut oracle = Oracle::default();
    for round in 0..rounds {
        let heard = kill_under_load(child("load", folder.path()), strike(&mut random));
        heard.iter().for_each(|line| oracle.hear(line));
        // Reading all of a journal that only grows is what takes the time.
        if rounds < 50 || round % 10 == 9 || round + 1 == rounds {
            oracle.assert_kept(folder.path(), &format!("round {round}, seed {seed}"));
        }
    }
    println!("kill -9: {rounds} rounds, {} acknowledged, 0 lost", oracle.acknowledged());
    assert!(oracle.acknowledged() as u64 >= rounds);
}

/// A trace of system calls, one a line: is every acknowledgement preceded by a sync of the WAL that
/// began after the last write to it?
fn syncs_before_answers(trace: &str) -> Result<usize, String> {
    let (mut unsynced, mut syncing, mut answers) = (false, None, 0);
    for line in trace.lines() {
        let thread = line.split_whitespace().next().unwrap_or_default();
        let call = line[thread.len()..].trim_start();
        let write = call.starts_with("write(") || call.starts_with("pwrite64(");
        let sync = call.starts_with("fsync(") || call.starts_with("fdatasync(");
        let done = call.ends_with("= 0") && !call.contains("unfinished");
        if write && call.contains("-wal>") {
            unsynced = true;
        } else if sync && call.contains("-wal>") && done {
            unsynced = false;
        } else if sync && call.contains("-wal>") {
            syncing = Some(thread);
        } else if call.contains("sync resumed>") && syncing == Some(thread) && done {
            (unsynced, syncing) = (false, None);
        } else if write && call.contains("ACK ") {
            if unsynced {
                return Err(format!("answered before the sync: {line}"));
            }
            answers += 1;
        }
    }
    Ok(answers)
}

/// kill -9 cannot see a missing sync, a trace of system calls can.
#[test]
fn the_journal_is_synced_before_the_answer_is_written() {
    if Command::new("strace").args(["-o", "/dev/null", "true"]).status().is_ok_and(|s| s.success()) {
        let folder = tempfile::tempdir().unwrap();
        let trace_file = folder.path().join("trace");
        let mut command = Command::new("strace");
        command.args(["-f", "-y", "-s", "64", "-e", "trace=fsync,fdatasync,write,pwrite64", "-o"]);
        command.arg(&trace_file).arg(std::env::current_exe().unwrap());
        as_child(&mut command, "asked", &folder.path().join("data"));
        let mut traced = command.spawn().unwrap();
        let lines_in: String = (0..20).map(|account| format!("record {account} out 1 form\n")).collect();
        traced.stdin.take().unwrap().write_all(lines_in.as_bytes()).unwrap();
        let said = lines(&mut traced).filter(|l| l.contains("ACK ")).count();
        traced.wait().unwrap();
        let trace = std::fs::read_to_string(&trace_file).unwrap();
        let writes = trace.lines().filter(|l| l.contains("write") && l.contains("-wal>")).count();
        assert!(writes >= 20, "the WAL is seen in the trace: {writes} writes");
        assert_eq!((said, syncs_before_answers(&trace)), (20, Ok(20)));
        // The check itself: without its syncs the same trace must fail.
        let unsynced: Vec<_> = trace.lines().filter(|l| !l.contains("sync")).collect();
        assert!(syncs_before_answers(&unsynced.join("\n")).is_err());
        println!("20 answers, each after a sync of the WAL");
    } else {
        skipped(
            "the_journal_is_synced_before_the_answer_is_written",
            "strace is missing or may not trace here",
        );
    }
}

/// On a full disk callers are told and nothing is lost; with room again it goes on by
/// itself. The disk is a limit on file size, lowered and lifted from outside.
#[test]
fn a_full_disk_is_told_and_left_behind() {
    let folder = tempfile::tempdir().unwrap();
    let mut asked = Asked::start(limited(folder.path())).unwrap();
    let mut oracle = Oracle::default();
    let mut told = 0;
    for (turn, (bytes, expect_error)) in
        [(None, false), (Some(64 * 1024), true), (None, false)].into_iter().enumerate()
    {
        limit(&asked, bytes);
        let failed = (0..100).filter(|n| !ask(&mut asked, &mut oracle, turn as u64 * 100 + n)).count();
        assert_eq!(failed > 0, expect_error, "{failed} of 100 failed under {bytes:?}");
        told += failed;
    }
    asked.close();
    oracle.assert_kept(folder.path(), "after a full disk");
    assert!(oracle.acknowledged() >= 200);
    println!(
        "full disk: 1 round, {} acknowledged, {told} told that the journal cannot write, 0 lost",
        oracle.acknowledged()
    );
}

/// A child whose files can be kept from growing.
pub(super) fn limited(folder: &Path) -> Command {
    let mut command = Command::new("sh");
    // Ignoring the signal makes the write fail instead of ending the process.
    command.args(["-c", "trap '' XFSZ; exec \"$0\" \"$@\""]).arg(std::env::current_exe().unwrap());
    as_child(&mut command, "asked", folder);
    command
}

/// Lets no file grow beyond so many bytes.
pub(super) fn limit(asked: &Asked, bytes: Option<u64>) {
    let limits = rustix::process::Rlimit { current: bytes, maximum: None };
    rustix::process::prlimit(Some(asked.pid()), rustix::process::Resource::Fsize, limits).unwrap();
}

/// Opts an account out; `false` when it was told that the journal cannot write.
pub(super) fn ask(asked: &mut Asked, oracle: &mut Oracle, account: u64) -> bool {
    let lines = asked.record(account, &change(Kind::OptOut, Source::Form, Some(account)));
    lines.iter().for_each(|line| oracle.hear(line));
    let [_, answer] = lines;
    let acknowledged = answer.contains("ACK ");
    assert!(acknowledged || answer.contains(" true: the journal cannot write"), "{answer}");
    acknowledged
}
