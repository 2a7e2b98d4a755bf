//! The store's promises: what was acknowledged is on disk, and stays.

#![allow(clippy::unwrap_used)] // helpers of tests fail as tests do

mod basics;
mod between;
mod carried;
mod child;
mod clock;
mod crash;
mod damage;
mod disk;
mod engines;
mod forgetting;
mod handover;
mod hanging;
mod keeping;
mod model;
mod oracle;
mod orders;
mod packed;
mod power;
mod profiles;
mod programme;
mod renamed;
mod restored;
mod served;
mod starved;
mod stopping;
mod syncs;
mod unrecorded;
mod wrong_clock;

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use optgate::config;
use optgate::privacy::{Basis, Subject};
use optgate::store::{Change, Kind, RecordView, Source, Store, StoreCollector, export};
use optgate::telemetry::metrics::Metrics;
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection};
use sqlx::{ConnectOptions, Connection};

use crate::support::opened;

const WIDE: config::Store = config::Store {
    queue: 100_000,
    records_per_second: 1_000_000,
    record_burst: 100_000,
    checkpoint: std::time::Duration::from_secs(3_600),
    shared: None,
    retention: None,
    pack_after: None,
};

/// As [`WIDE`], with a file of the index after every change.
const PACKED: config::Store = config::Store { pack_after: Some(1), ..WIDE };

fn change(kind: Kind, source: Source, account: Option<u64>) -> Change {
    Change {
        time_us: 1_795_000_000_000_000,
        site: "shop".into(),
        kind,
        source,
        basis: (kind == Kind::OptOut).then_some(Basis::Gpc),
        policy: "abc123".into(),
        subject: account.map(subject),
    }
}

fn subject(number: u64) -> Subject {
    let mut bytes = [0; 16];
    // Spread as a keyed hash would.
    bytes[..8].copy_from_slice(&number.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_be_bytes());
    bytes[8..].copy_from_slice(&number.to_be_bytes());
    Subject::from_bytes(bytes)
}

fn out(account: u64) -> Change {
    change(Kind::OptOut, Source::Form, Some(account))
}

fn signal() -> Change {
    change(Kind::OptOut, Source::Gpc, None)
}

fn records(folder: &Path) -> Vec<RecordView> {
    let mut all = Vec::new();
    export(folder, &mut |record| {
        all.push(record);
        Ok(())
    })
    .unwrap();
    all
}

fn refusal(folder: &Path) -> String {
    match opened(folder, &WIDE) {
        Ok(_) => panic!("the store opened"),
        Err(error) => error.to_string(),
    }
}

async fn raw(folder: &Path) -> SqliteConnection {
    SqliteConnectOptions::new().filename(folder.join("journal.sqlite3")).connect().await.unwrap()
}

async fn execute(connection: &mut SqliteConnection, sql: &'static str) {
    sqlx::raw_sql(sql).execute(connection).await.unwrap();
}

/// A closed journal with three records.
async fn three_records() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let store = opened(folder.path(), &WIDE).unwrap();
    for account in 0..3 {
        store.record(out(account)).await.unwrap();
    }
    store.close().await;
    folder
}

/// Domain 6: hash keys and journal are readable by their owner only.
#[tokio::test]
async fn the_secret_and_its_folder_are_for_their_owner_only() {
    let parent = tempfile::tempdir().unwrap();
    let folder = parent.path().join("a/b");
    let store = opened(&folder, &WIDE).unwrap();
    store.close().await;
    let mode = |path: PathBuf| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(folder.clone()), 0o700);
    assert_eq!(mode(folder.join("secret.key")), 0o600);
}

/// One folder, one process: two writers would fork the chain.
#[tokio::test]
async fn a_second_process_is_refused_and_told_why() {
    let folder = tempfile::tempdir().unwrap();
    let store = opened(folder.path(), &WIDE).unwrap();
    let error = Store::open(folder.path(), &WIDE).unwrap_err().to_string();
    assert!(error.contains("/lock: another optgate uses this data folder"), "{error}");
    let other = child::child("open", folder.path()).output().unwrap();
    let said = String::from_utf8_lossy(&other.stdout).into_owned();
    assert!(said.contains("REFUSED") && said.contains("another optgate uses this data folder"), "{said}");
    store.close().await;
    opened(folder.path(), &WIDE).unwrap().close().await;
}

/// A damaged journal is evidence: refused with its name, and left as it is.
#[tokio::test]
async fn a_damaged_journal_is_refused_and_left_alone() {
    let folder = three_records().await;
    let path = folder.path().join("journal.sqlite3");
    let whole = std::fs::read(&path).unwrap();
    let mut torn_page = whole.clone();
    torn_page[4096..].fill(0xa5);
    for damaged in [b"not a database, but long enough to be read as one".repeat(100), torn_page] {
        std::fs::write(&path, &damaged).unwrap();
        let error = refusal(folder.path());
        assert!(error.contains("journal.sqlite3") && error.contains("restore it from a backup"), "{error}");
        assert_eq!(std::fs::read(&path).unwrap(), damaged);
    }
    std::fs::write(&path, &whole).unwrap();
    assert_eq!(records(folder.path()).len(), 3);
}

/// A newer journal is not understood, a stranger's file is not ours, a locked one not free.
#[tokio::test]
async fn a_newer_a_foreign_and_a_locked_journal_are_refused() {
    let folder = three_records().await;
    let mut connection = raw(folder.path()).await;
    execute(&mut connection, "UPDATE meta SET value = '99' WHERE key = 'schema'").await;
    let error = refusal(folder.path());
    assert!(error.contains("newer Optgate") && error.contains("schema 99"), "{error}");
    execute(&mut connection, "UPDATE meta SET value = '2' WHERE key = 'schema'").await;
    execute(&mut connection, "PRAGMA application_id = 7").await;
    let error = refusal(folder.path());
    assert!(error.contains("database of another program"), "{error}");
    execute(
        &mut connection,
        "PRAGMA application_id = 1330664519; PRAGMA locking_mode = EXCLUSIVE; BEGIN EXCLUSIVE",
    )
    .await;
    connection.close().await.unwrap();

    let folder = three_records().await;
    let mut connection = raw(folder.path()).await;
    execute(&mut connection, "PRAGMA journal_mode = DELETE; BEGIN EXCLUSIVE").await;
    let error = refusal(folder.path());
    assert!(error.contains("journal.sqlite3: is locked by another program"), "{error}");
}

/// A journal without the secret its subjects were hashed with would match nobody.
#[tokio::test]
async fn a_lost_or_exchanged_secret_is_refused() {
    let folder = three_records().await;
    let secret = folder.path().join("secret.key");
    let kept = std::fs::read(&secret).unwrap();
    std::fs::remove_file(&secret).unwrap();
    let error = refusal(folder.path());
    assert!(error.contains("secret.key: is missing"), "{error}");
    std::fs::write(&secret, data_encoding::BASE64.encode(&[1; 32])).unwrap();
    let error = refusal(folder.path());
    assert!(error.contains("another secret.key"), "{error}");
    std::fs::write(&secret, kept).unwrap();
    opened(folder.path(), &WIDE).unwrap().close().await;
}

/// Any flipped byte of a record is found at start, with the record's number.
#[tokio::test]
async fn a_flipped_byte_is_found_at_start() {
    let flip =
        "UPDATE journal SET canonical = CAST(replace(canonical, 'shop', 'shoq') AS BLOB) WHERE seq = 2";
    let cut = "DELETE FROM journal WHERE seq = 2";
    let relink = "UPDATE journal SET chain = zeroblob(32) WHERE seq = 2";
    for damage in [flip, cut, relink] {
        let folder = three_records().await;
        let mut connection = raw(folder.path()).await;
        let refused = sqlx::raw_sql(damage).execute(&mut connection).await;
        assert!(refused.unwrap_err().to_string().contains("append-only"));
        execute(&mut connection, "DROP TRIGGER journal_only_forgets; DROP TRIGGER journal_keeps_its_rows")
            .await;
        execute(&mut connection, damage).await;
        connection.close().await.unwrap();
        let error = refusal(folder.path());
        assert!(error.contains("record 2 does not fit the chain"), "{damage}: {error}");
    }
}

/// The columns are only for searching; an export does not believe them.
#[tokio::test]
async fn an_export_finds_a_changed_column() {
    for damage in [
        "UPDATE journal SET time_us = time_us - 1 WHERE seq = 3",
        "UPDATE journal SET reference = '0000-0000-0000-0000' WHERE seq = 3",
        "UPDATE journal SET subject = randomblob(16) WHERE seq = 3",
        "UPDATE journal SET blinding = NULL WHERE seq = 3",
        "UPDATE journal SET digest = randomblob(32) WHERE seq = 3",
    ] {
        let folder = three_records().await;
        let mut connection = raw(folder.path()).await;
        execute(&mut connection, "DROP TRIGGER journal_only_forgets").await;
        execute(&mut connection, damage).await;
        connection.close().await.unwrap();
        let error = export(folder.path(), &mut |_| Ok(())).unwrap_err().to_string();
        assert!(error.contains("record 3 does not fit"), "{damage}: {error}");
    }
    let folder = tempfile::tempdir().unwrap();
    let error = export(&folder.path().join("nowhere"), &mut |_| Ok(())).unwrap_err().to_string();
    assert!(error.contains("nowhere/journal.sqlite3: there is no journal here"), "{error}");
}

/// The names dashboards rely on.
#[tokio::test]
async fn the_figures_are_exposed_under_their_names() {
    let folder = tempfile::tempdir().unwrap();
    let store = opened(folder.path(), &WIDE).unwrap();
    store.record(out(1)).await.unwrap();
    let mut metrics = Metrics::new();
    metrics.register_collector(Box::new(StoreCollector::new(&store)));
    let text = metrics.render();
    for line in [
        "optgate_optout_records 1",
        "optgate_ledger_backlog 0",
        "optgate_accounts_opted_out 1",
        "optgate_journal_up 1",
        "optgate_journal_damaged 0",
        "optgate_flood_dropped_total 0",
        "optgate_queue_overflow_total 0",
        "optgate_ledger_append_seconds_count 1",
    ] {
        assert!(text.lines().any(|l| l == line), "{line} is not in\n{text}");
    }
    store.close().await;
}
