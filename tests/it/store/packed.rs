//! The file of the index: a start from it knows what a start from the whole journal knows, whatever happened between;
//! one that is damaged, old or of another journal is passed over; what is erased or pruned does not live on in it.

use std::fs;
use std::path::{Path, PathBuf};

use optgate::config;
use optgate::privacy::Standing;
use optgate::store::{Kind, Source, Store};
use sha2::{Digest as _, Sha256};
use sqlx::Connection;

use super::super::support::random::Random;
use super::super::support::{opened, wait_until};
use super::oracle::{block_on, rounds, seed};
use super::{PACKED, WIDE, change, execute, out, raw, records, subject};

const ACCOUNTS: u64 = 40;
const SOURCES: [Source; 4] = [Source::Gpc, Source::Form, Source::Carried, Source::Import];

fn packed(folder: &Path) -> PathBuf {
    folder.join("index.packed")
}

fn copy(from: &Path) -> tempfile::TempDir {
    let to = tempfile::tempdir().unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        if !entry.file_name().to_str().unwrap().ends_with("-shm") {
            fs::copy(entry.path(), to.path().join(entry.file_name())).unwrap();
        }
    }
    to
}

/// Everything that a store says of every account.
fn told(folder: &Path, limits: &config::Store) -> Vec<String> {
    let store = opened(folder, limits).unwrap();
    let told = (0..ACCOUNTS)
        .map(|account| {
            let standing = store.lookup(&subject(account));
            let last = block_on(store.last_record(&subject(account))).unwrap().map(|record| record.reference);
            let known: Vec<_> = SOURCES
                .iter()
                .flat_map(|source| [(Kind::OptOut, *source), (Kind::OptIn, *source)])
                .filter(|(kind, source)| store.knows(&change(*kind, *source, Some(account))))
                .collect();
            format!("{account}: {standing:?}, {last:?}, {known:?}")
        })
        .collect();
    let opted_out = store.health().accounts_opted_out;
    block_on(store.close());
    [told, vec![format!("{opted_out} opted out")]].concat()
}

/// Changes of some accounts that somebody waits for, and some that nobody does.
fn some(store: &Store, random: &mut Random, count: u64) {
    for _ in 0..count {
        let account = random.draw() % ACCOUNTS;
        let source = SOURCES[random.below(SOURCES.len())];
        match random.below(6) {
            0 => drop(block_on(store.record(change(Kind::OptIn, Source::Form, Some(account)))).unwrap()),
            1 => drop(block_on(store.record(change(Kind::Programme, Source::Form, Some(account)))).unwrap()),
            2 => store.record_behind(change(Kind::OptOut, source, Some(account))),
            _ => drop(block_on(store.record(change(Kind::OptOut, source, Some(account)))).unwrap()),
        }
    }
}

/// A start reads the file of the index and what came after it.
#[test]
fn a_start_from_the_file_knows_what_the_whole_journal_tells() {
    let seed = seed();
    let mut random = Random(seed);
    let folder = tempfile::tempdir().unwrap();
    for round in 0..rounds(12) {
        let store = opened(folder.path(), &PACKED).unwrap();
        // Without any there is nothing to write.
        let count = 1 + random.draw() % 60;
        some(&store, &mut random, count);
        if random.below(4) == 0 {
            block_on(store.erase(vec![subject(random.draw() % ACCOUNTS)])).unwrap();
        }
        block_on(store.close());
        // As if it had been killed: the file is older than the journal.
        if random.below(2) == 0 {
            let old = fs::read(packed(folder.path())).unwrap();
            let store = opened(folder.path(), &PACKED).unwrap();
            some(&store, &mut random, 20);
            block_on(store.close());
            fs::write(packed(folder.path()), old).unwrap();
        }
        assert!(packed(folder.path()).exists(), "round {round}, seed {seed}");
        let whole = copy(folder.path());
        assert_eq!(told(folder.path(), &PACKED), told(whole.path(), &WIDE), "round {round}, seed {seed}");
    }
}

/// It is never needed: wherever it is cut, and whichever byte of it is wrong, the journal is read instead.
#[test]
fn a_file_that_is_not_whole_is_passed_over() {
    let folder = tempfile::tempdir().unwrap();
    let store = opened(folder.path(), &PACKED).unwrap();
    some(&store, &mut Random(7), 30);
    block_on(store.close());
    let whole = fs::read(packed(folder.path())).unwrap();
    assert!(whole.starts_with(b"optgate index 2 "));
    let expected = told(copy(folder.path()).path(), &WIDE);
    let flipped = (0..whole.len()).step_by(7).map(|at| {
        let mut bytes = whole.clone();
        bytes[at] ^= 0x10;
        bytes
    });
    let cut = (0..whole.len()).step_by(11).map(|at| whole[..at].to_vec());
    for (case, bytes) in flipped.chain(cut).enumerate() {
        let damaged = copy(folder.path());
        fs::write(packed(damaged.path()), &bytes).unwrap();
        assert_eq!(told(damaged.path(), &PACKED), expected, "case {case}");
    }
}

/// A file that was made up fits the journal, and nobody is opted out in it. Its seal needs the secret.
#[test]
fn a_file_that_was_made_up_takes_nobody_s_opt_out() {
    let folder = tempfile::tempdir().unwrap();
    let store = opened(folder.path(), &PACKED).unwrap();
    some(&store, &mut Random(7), 30);
    block_on(store.close());
    let expected = told(copy(folder.path()).path(), &WIDE);
    let whole = fs::read(packed(folder.path())).unwrap();
    let accounts = {
        let mut lines = whole.iter().enumerate().filter(|(_, byte)| **byte == b'\n').map(|(at, _)| at + 1);
        lines.nth(1).unwrap()
    };
    let sealed = |mut bytes: Vec<u8>| {
        let digest = Sha256::digest(&bytes);
        bytes.extend(digest);
        bytes
    };
    let none = sealed(whole[..accounts].to_vec());
    let mut zeroed = whole[..whole.len() - 32].to_vec();
    for entry in zeroed[accounts..].chunks_mut(24) {
        entry[16..].fill(0);
    }
    let first_form = {
        let head: Vec<&[u8]> = whole[..accounts].splitn(2, |byte| *byte == b'\n').collect();
        sealed([b"optgate index 1\n", head[1]].concat())
    };
    for (case, bytes) in [none, sealed(zeroed), first_form].into_iter().enumerate() {
        let forged = copy(folder.path());
        fs::write(packed(forged.path()), &bytes).unwrap();
        assert_eq!(told(forged.path(), &PACKED), expected, "case {case}");
        assert_eq!(
            told(forged.path(), &PACKED),
            expected,
            "case {case}, from the file that was written anew"
        );
    }
}

/// What lies beside another journal than its own, or beside an older copy of it, says nothing about that one.
#[test]
fn a_file_of_another_journal_is_passed_over() {
    let (one, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    for (folder, seed) in [(&one, 3), (&other, 5)] {
        let store = opened(folder.path(), &PACKED).unwrap();
        some(&store, &mut Random(seed), 30);
        block_on(store.close());
    }
    let expected = told(copy(one.path()).path(), &WIDE);
    fs::copy(packed(other.path()), packed(one.path())).unwrap();
    assert_eq!(told(one.path(), &PACKED), expected);
    let old = copy(one.path());
    let store = opened(one.path(), &PACKED).unwrap();
    some(&store, &mut Random(9), 30);
    block_on(store.close());
    fs::copy(packed(one.path()), packed(old.path())).unwrap();
    assert_eq!(told(old.path(), &PACKED), expected);
}

fn holds(folder: &Path, account: u64) -> bool {
    is_in(&packed(folder), account)
}

fn is_in(file: &Path, account: u64) -> bool {
    let bytes = fs::read(file).unwrap_or_default();
    bytes.windows(16).any(|window| window == subject(account).as_bytes())
}

/// Erasure and retention (11 CCR 7101): a hash that the journal gave up is in no file beside it either.
#[test]
fn what_is_erased_or_pruned_does_not_live_on_in_the_file() {
    let folder = tempfile::tempdir().unwrap();
    let store = opened(folder.path(), &PACKED).unwrap();
    for account in 0..4 {
        block_on(store.record(out(account))).unwrap();
        block_on(store.record(change(Kind::OptIn, Source::Form, Some(account)))).unwrap();
    }
    block_on(store.record(out(3))).unwrap();
    wait_until("the file is written", || holds(folder.path(), 1));
    // As a crash leaves one in the middle of being written.
    let unfinished = folder.path().join("index.packed.new");
    fs::copy(packed(folder.path()), &unfinished).unwrap();
    block_on(store.erase(vec![subject(1)])).unwrap();
    assert!(!holds(folder.path(), 1) && !is_in(&unfinished, 1), "gone before the answer");
    block_on(store.close());
    assert!(!holds(folder.path(), 1) && holds(folder.path(), 2));
    let store = opened(folder.path(), &PACKED).unwrap();
    assert_eq!(block_on(store.prune(i64::MAX, true)).unwrap().records, 9);
    assert!(holds(folder.path(), 2), "a dry run changes nothing");
    block_on(store.prune(i64::MAX, false)).unwrap();
    assert_eq!(store.lookup(&subject(2)), Standing::Unknown, "as after a start");
    assert_eq!(store.lookup(&subject(3)), Standing::OptedOut);
    block_on(store.close());
    assert!(!holds(folder.path(), 2));
    let store = opened(folder.path(), &PACKED).unwrap();
    assert_eq!(store.lookup(&subject(2)), Standing::Unknown);
    assert_eq!(store.lookup(&subject(3)), Standing::OptedOut, "kept apart");
    block_on(store.close());
}

/// A record that a start did not read is looked at behind it, and damage is said; everybody's choice holds.
#[tokio::test]
async fn damage_that_a_start_did_not_read_is_found_behind_it() {
    let folder = tempfile::tempdir().unwrap();
    let store = opened(folder.path(), &PACKED).unwrap();
    for account in 0..30 {
        store.record(out(account)).await.unwrap();
    }
    store.close().await;
    let store = opened(folder.path(), &PACKED).unwrap();
    store.close().await;
    let flip = "DROP TRIGGER journal_only_forgets; \
                UPDATE journal SET canonical = CAST(replace(canonical, 'shop', 'shoq') AS BLOB) WHERE seq = 2";
    let mut connection = raw(folder.path()).await;
    execute(&mut connection, flip).await;
    connection.close().await.unwrap();
    let store = opened(folder.path(), &PACKED).unwrap();
    wait_until("the damage is found", || store.health().damage.is_some());
    let damage = store.health().damage.unwrap();
    assert!(damage.contains("journal.sqlite3") && damage.contains("record 2 does not fit"), "{damage}");
    assert_eq!(store.health().journal_error, None);
    assert_eq!(store.lookup(&subject(2)), Standing::OptedOut);
    store.record(out(99)).await.unwrap();
    store.close().await;
    // Without the file it is refused, as ever.
    fs::remove_file(packed(folder.path())).unwrap();
    assert!(super::refusal(folder.path()).contains("record 2 does not fit the chain"));
}

/// `store.pack_after = 0`, and too few changes: no file.
#[test]
fn a_file_is_written_only_when_it_is_worth_it() {
    for (pack_after, changes, written) in [(None, 30, false), (Some(100), 30, false), (Some(20), 30, true)] {
        let folder = tempfile::tempdir().unwrap();
        let store = opened(folder.path(), &config::Store { pack_after, ..WIDE }).unwrap();
        for account in 0..changes {
            block_on(store.record(out(account))).unwrap();
        }
        block_on(store.close());
        assert_eq!(packed(folder.path()).exists(), written, "{pack_after:?}");
        assert_eq!(records(folder.path()).len(), 30);
    }
}
