//! Bytes of the journal turn bad: flipped, zeroed, overwritten, torn off. The store may refuse, naming the file, or
//! open with everything that was acknowledged; it never opens with less. A WAL is where that is easily missed: SQLite
//! takes the first frame that does not fit for the end of it.

use std::fs;
use std::path::Path;

use optgate::store::export;

use super::super::support::opened;
use super::super::support::random::Random;
use super::oracle::{Oracle, block_on, rounds, seed};
use super::{WIDE, out};

const JOURNAL: &str = "journal.sqlite3";
const WAL: &str = "journal.sqlite3-wal";

/// A journal as a killed process leaves it: 200 records in its file, 100 more in its WAL; all acknowledged.
fn left_behind() -> (tempfile::TempDir, Oracle) {
    let folder = tempfile::tempdir().unwrap();
    let left = tempfile::tempdir().unwrap();
    let mut oracle = Oracle::default();
    for accounts in [0..200, 200..300] {
        let store = opened(folder.path(), &WIDE).unwrap();
        for account in accounts.clone() {
            let receipt = block_on(store.record(out(account))).unwrap();
            oracle.hear(&format!("ASK {account} out"));
            oracle.hear(&format!("ACK {} {account} out", receipt.reference));
        }
        if accounts.end == 300 {
            copy(folder.path(), left.path());
        }
        block_on(store.close());
    }
    assert!(fs::metadata(left.path().join(WAL)).unwrap().len() > 100 * 4096, "the WAL holds the newest");
    (left, oracle)
}

fn copy(from: &Path, to: &Path) {
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        if !entry.file_name().to_str().unwrap().ends_with("-shm") {
            fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
        }
    }
}

/// Damages some bytes; says how.
fn damage(bytes: &mut Vec<u8>, random: &mut Random) -> String {
    let at = random.below(bytes.len());
    let end = |length: usize| (at + length).min(bytes.len());
    match random.below(5) {
        0 => {
            let bit = random.below(8);
            bytes[at] ^= 1 << bit;
            format!("bit {bit} of byte {at} flipped")
        }
        1 => {
            let (from, end) = (at / 512 * 512, end(512) / 512 * 512);
            bytes[from..end.max(from)].fill(0);
            format!("{from}..{end} zeroed")
        }
        2 => {
            let end = end(1 + random.below(64));
            bytes[at..end].iter_mut().for_each(|byte| *byte = random.draw().to_le_bytes()[0]);
            format!("{at}..{end} overwritten")
        }
        3 => {
            // A page of another place: its own sums are right.
            let (from, to) = (random.below(bytes.len() / 4096) * 4096, at / 4096 * 4096);
            let page = bytes[from..from + 4096].to_vec();
            let end = (to + 4096).min(bytes.len());
            bytes[to..end].copy_from_slice(&page[..end - to]);
            format!("page at {to} is the one at {from}")
        }
        _ => {
            bytes.truncate(at);
            format!("cut at {at}")
        }
    }
}

enum Outcome {
    Refused,
    Whole,
}

/// Opens and exports a damaged folder.
fn judge(folder: &Path, oracle: &Oracle, what: &str) -> Outcome {
    let journal = folder.join(JOURNAL);
    let before = fs::read(&journal).unwrap();
    match opened(folder, &WIDE) {
        Err(error) => {
            let text = error.to_string();
            assert!(text.contains(JOURNAL) || text.contains("journal."), "{what}: {text}");
            assert_eq!(
                fs::read(&journal).unwrap(),
                before,
                "{what}: it is evidence and left as it was: {text}"
            );
            Outcome::Refused
        }
        Ok(store) => {
            assert_eq!(oracle.forgotten(&store), 0, "{what}");
            block_on(store.close());
            match oracle.lost(folder) {
                Ok(lost) => assert_eq!(lost, 0, "{what}"),
                // A column that only serves for searching, or the name of one that no start reads: nobody's standing comes
                // from it, and an export says so.
                Err(said) => {
                    let named = said.contains("does not fit") || said.contains("cannot be used");
                    assert!(said.contains(JOURNAL) && named, "{what}: {said}")
                }
            }
            Outcome::Whole
        }
    }
}

fn damaged_in(file: &str, few: u64) {
    let seed = seed();
    let mut random = Random(seed);
    let (whole, oracle) = left_behind();
    let (rounds, mut refused) = (rounds(few), 0);
    for round in 0..rounds {
        let folder = tempfile::tempdir().unwrap();
        copy(whole.path(), folder.path());
        let path = folder.path().join(file);
        let mut bytes = fs::read(&path).unwrap();
        let before = bytes.clone();
        let what = damage(&mut bytes, &mut random);
        fs::write(&path, &bytes).unwrap();
        let what = format!("round {round}, {file}: {what}, seed {seed}");
        match judge(folder.path(), &oracle, &what) {
            Outcome::Refused => {
                refused += 1;
                assert_ne!(before, bytes, "{what}: refused though nothing changed");
            }
            Outcome::Whole => {}
        }
        // An export reads what a server may still be writing: it stops at the damage, or has everything.
        let _ = export(folder.path(), &mut |_| Ok(()));
    }
    println!(
        "damage to {file}: {rounds} rounds, {} acknowledged, {refused} refused, 0 lost in silence",
        oracle.acknowledged()
    );
    assert!(refused > 0);
}

#[test]
fn a_journal_with_bad_bytes_is_refused_or_whole() {
    damaged_in(JOURNAL, 40);
}

#[test]
fn a_write_ahead_log_with_bad_bytes_is_refused_or_whole() {
    damaged_in(WAL, 40);
}

/// Nothing of the WAL is left: the file alone would open, 100 records short.
#[test]
fn a_write_ahead_log_that_is_gone_is_missed() {
    let (whole, oracle) = left_behind();
    let path = whole.path().join(WAL);
    fs::remove_file(&path).unwrap();
    assert!(matches!(judge(whole.path(), &oracle, "the WAL is gone"), Outcome::Refused));
    fs::write(&path, b"").unwrap();
    assert!(matches!(judge(whole.path(), &oracle, "the WAL is empty"), Outcome::Refused));
}
