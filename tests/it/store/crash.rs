//! The promises that only a process of its own can show: this binary is started again with a role,
//! and killed, traced or starved.

use std::collections::HashSet;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use optgate::store::Store;

use super::{WIDE, out, records, signal};

const ROLE: &str = "OPTGATE_TEST_STORE_ROLE";
const FOLDER: &str = "OPTGATE_TEST_STORE_FOLDER";

/// Not a test: the process the tests below kill, trace and starve. Speaks on standard output.
#[test]
#[ignore = "started by other tests with a role"]
fn child_process() {
    let (Ok(role), Some(folder)) = (std::env::var(ROLE), std::env::var_os(FOLDER)) else { return };
    let folder = PathBuf::from(folder);
    let store = match Store::open(&folder, &WIDE) {
        Ok(store) => store,
        Err(error) => return say(&format!("REFUSED {error}")),
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    match role.as_str() {
        "load" => runtime.block_on(load(&store)),
        "asked" => asked(&store, &runtime),
        _ => runtime.block_on(store.close()),
    }
}

/// One line in one write, so that a killed process leaves no half word.
fn say(line: &str) {
    let mut stdout = std::io::stdout().lock();
    stdout.write_all(format!("{line}\n").as_bytes()).unwrap();
    stdout.flush().unwrap();
}

/// Sixteen callers that record without end and say each acknowledged reference.
async fn load(store: &Store) {
    let mut callers = Vec::new();
    for caller in 0..16u64 {
        let store = store.clone();
        callers.push(async move {
            for turn in 0.. {
                store.record_behind(signal());
                let receipt = store.record(out(caller << 32 | turn)).await.unwrap();
                say(&format!("ACK {}", receipt.reference));
            }
        });
    }
    futures_util::future::join_all(callers).await;
}

/// Records once for every line on standard input and says what came of it.
fn asked(store: &Store, runtime: &tokio::runtime::Runtime) {
    say("READY");
    for (account, line) in std::io::stdin().lock().lines().enumerate() {
        assert!(line.is_ok());
        match runtime.block_on(store.record(out(account as u64))) {
            Ok(receipt) => say(&format!("ACK {}", receipt.reference)),
            Err(error) => say(&format!("ERR {error}")),
        }
    }
    runtime.block_on(store.close());
}

pub(super) fn child(role: &str, folder: &Path) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    as_child(&mut command, role, folder);
    command
}

fn as_child(command: &mut Command, role: &str, folder: &Path) {
    command.args(["--exact", "store::crash::child_process", "--ignored", "--nocapture", "--test-threads=1"]);
    command.env(ROLE, role).env(FOLDER, folder);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
}

fn lines(child: &mut Child) -> impl Iterator<Item = String> + use<> {
    BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok)
}

fn acknowledged(line: &str) -> Option<&str> {
    // The test harness may have begun the line.
    line.split_once("ACK ").map(|(_, reference)| reference)
}

/// `kill -9` under load at an arbitrary point loses nothing acknowledged, over many lives of one
/// journal. (It cannot see a missing sync; the trace below does.)
#[tokio::test]
async fn a_killed_process_loses_nothing_acknowledged() {
    let rounds: u64 = std::env::var("OPTGATE_KILL_ROUNDS").ok().and_then(|n| n.parse().ok()).unwrap_or(10);
    let folder = tempfile::tempdir().unwrap();
    let mut promised = Vec::new();
    for round in 0..rounds {
        let mut victim = child("load", folder.path()).spawn().unwrap();
        let mut said = lines(&mut victim);
        // Where in its work it is struck: after another number of answers every round.
        let strike_after = 1 + usize::from(getrandom::u32().unwrap() as u16) % 400;
        promised.extend(said.by_ref().filter_map(|l| acknowledged(&l).map(str::to_owned)).take(strike_after));
        victim.kill().unwrap();
        promised.extend(said.filter_map(|l| acknowledged(&l).map(str::to_owned)));
        victim.wait().unwrap();
        let kept: HashSet<_> = records(folder.path()).into_iter().map(|r| r.reference).collect();
        let lost = promised.iter().filter(|r| !kept.contains(*r)).count();
        assert_eq!(lost, 0, "round {round}: lost of {} acknowledged", promised.len());
    }
    let store = Store::open(folder.path(), &WIDE).unwrap();
    println!("{rounds} kills, {} acknowledged, {} records, 0 lost", promised.len(), store.health().records);
    assert!(promised.len() as u64 >= rounds);
    store.close().await;
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

/// The issue asks for proof: kill -9 cannot see a missing sync, a trace of system calls can.
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
        traced.stdin.take().unwrap().write_all(&b"now\n".repeat(20)).unwrap();
        let said = lines(&mut traced).filter(|l| acknowledged(l).is_some()).count();
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
        println!("skipped: strace is missing or may not trace here");
    }
}

/// DESIGN 5: on a full disk callers are told and nothing is lost; with room again it goes on by
/// itself. The disk is a limit on file size, lowered and lifted from outside.
#[test]
fn a_full_disk_is_told_and_left_behind() {
    let folder = tempfile::tempdir().unwrap();
    let mut command = Command::new("sh");
    // Ignoring the signal makes the write fail instead of ending the process.
    command.args(["-c", "trap '' XFSZ; exec \"$0\" \"$@\""]).arg(std::env::current_exe().unwrap());
    as_child(&mut command, "asked", folder.path());
    let mut starved = command.spawn().unwrap();
    let mut stdin = starved.stdin.take().unwrap();
    let pid = rustix::process::Pid::from_child(&starved);
    let mut said = lines(&mut starved).skip_while(|l| !l.contains("READY"));
    assert!(said.next().is_some());
    let limit = |bytes| {
        let limits = rustix::process::Rlimit { current: bytes, maximum: None };
        rustix::process::prlimit(Some(pid), rustix::process::Resource::Fsize, limits).unwrap();
    };
    let mut ask = || {
        stdin.write_all(b"now\n").unwrap();
        said.next().unwrap()
    };
    let mut promised = Vec::new();
    let mut told = 0;
    for (bytes, expect_error) in [(None, false), (Some(64 * 1024), true), (None, false)] {
        limit(bytes);
        let mut failed = 0;
        for _ in 0..100 {
            let answer = ask();
            match acknowledged(&answer) {
                Some(reference) => promised.push(reference.to_owned()),
                None if answer.contains("ERR the journal cannot write") => failed += 1,
                None => panic!("{answer}"),
            }
        }
        assert_eq!(failed > 0, expect_error, "{failed} of 100 failed under {bytes:?}");
        told += failed;
    }
    drop(stdin);
    starved.wait().unwrap();
    let kept: HashSet<_> = records(folder.path()).into_iter().map(|r| r.reference).collect();
    assert!(promised.iter().all(|r| kept.contains(r)));
    assert!(promised.len() >= 200);
    println!("{} acknowledged and kept, {told} told that the journal cannot write", promised.len());
}
