//! The store's promises: what was acknowledged is on disk, and stays.

#![allow(clippy::unwrap_used)] // helpers of tests fail as tests do

mod carried;
mod child;
mod clock;
mod crash;
mod damage;
mod disk;
mod forgetting;
mod handover;
mod hanging;
mod model;
mod oracle;
mod orders;
mod packed;
mod power;
mod profiles;
mod programme;
mod renamed;
mod restored;
mod starved;
mod syncs;
mod wrong_clock;

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use optgate::config;
use optgate::privacy::{Basis, Standing, Subject};
use optgate::store::{
    Change, Kind, OpenError, RecordError, RecordView, Source, Store, StoreCollector, export,
};
use optgate::telemetry::metrics::Metrics;
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection};
use sqlx::{ConnectOptions, Connection};

use crate::support::opened;
use crate::support::postgres::Cluster;

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

/// What keeps records, of the two that the settings name.
struct Engine(Option<(Arc<Cluster>, config::Shared)>);

impl Engine {
    /// A database of its own; `None`, after a line that says so, where there is no PostgreSQL.
    async fn postgres(test: &str) -> Option<Self> {
        let cluster = Cluster::shared(test)?;
        let shared = crate::nodes::shared(&cluster.database().await);
        Some(Self(Some((cluster, shared))))
    }

    /// A store that knows everything there is to know.
    async fn open(&self, folder: &Path, limits: &config::Store) -> Store {
        let shared = self.0.as_ref().map(|(_, shared)| shared.clone());
        let store = opened(folder, &config::Store { shared, ..limits.clone() }).unwrap();
        while !store.health().loaded {
            tokio::task::yield_now().await;
        }
        store
    }
}

/// Promises that hold whatever keeps the records: each is a test of `sqlite` and one of `postgres`.
macro_rules! on_both_engines {
    ($($(#[$meta:meta])* async fn $name:ident($engine:ident: &Engine) $body:block)*) => {
        $($(#[$meta])* async fn $name($engine: &Engine) $body)*

        mod sqlite {
            use super::Engine;
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() {
                super::$name(&Engine(None)).await;
            })*
        }

        mod postgres {
            use super::Engine;
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() {
                if let Some(engine) = Engine::postgres(stringify!($name)).await {
                    super::$name(&engine).await;
                }
            })*
        }
    };
}

on_both_engines! {
    /// Issue: restart restores everything; DESIGN 7: a reference finds its record.
    async fn a_restart_restores_every_account_and_record(engine: &Engine) {
        let folder = tempfile::tempdir().unwrap();
        let store = engine.open(folder.path(), &WIDE).await;
        let keys = store.keys().clone();
        let account = Subject::of_account(&keys, "shop", b"u1");
        let receipt = store.record(Change { subject: Some(account), ..out(0) }).await.unwrap();
        store.record(out(1)).await.unwrap();
        store.record(change(Kind::OptIn, Source::Form, Some(1))).await.unwrap();
        store.record(change(Kind::OptOut, Source::Import, Some(2))).await.unwrap();
        store.record_behind(change(Kind::OptOut, Source::Gpc, Some(3)));
        store.record_behind(signal());
        assert_eq!(store.lookup(&subject(3)), Standing::OptedOut, "known at once");
        store.close().await;
        assert!(matches!(store.record(out(9)).await, Err(RecordError::Closed)));

        let store = engine.open(folder.path(), &WIDE).await;
        assert_eq!(Subject::of_account(store.keys(), "shop", b"u1"), account);
        assert_eq!(store.lookup(&account), Standing::OptedOut);
        assert_eq!(store.lookup(&subject(1)), Standing::OptedIn);
        assert_eq!(store.lookup(&subject(2)), Standing::OptedOutByImport);
        assert_eq!(store.lookup(&subject(3)), Standing::OptedOut);
        assert_eq!(store.lookup(&subject(4)), Standing::Unknown);
        let health = store.health();
        assert_eq!((health.records, health.accounts_opted_out, health.backlog), (6, 3, 0));
        assert!(health.loaded && health.journal_error.is_none());

        let typed = receipt.reference.to_lowercase().replace('-', "");
        let found = store.find(&typed).await.unwrap().unwrap();
        assert_eq!((found.seq, found.reference.as_str(), found.account), (1, receipt.reference.as_str(), true));
        assert_eq!(
            (found.kind.as_str(), found.signal.as_str(), found.basis.as_str()),
            ("opt-out", "form", "gpc")
        );
        assert_eq!(store.find("0000-0000-0000-0000").await.unwrap(), None);
        assert_eq!(store.find("no reference").await.unwrap(), None);
        store.close().await;
    }

    /// Section 1.5 of the domain shelf: rows for state changes only.
    async fn an_account_already_in_that_standing_is_not_recorded_again(engine: &Engine) {
        let folder = tempfile::tempdir().unwrap();
        let store = engine.open(folder.path(), &WIDE).await;
        for _ in 0..100 {
            store.record_behind(change(Kind::OptOut, Source::Gpc, Some(1)));
            store.record_behind(change(Kind::OptOut, Source::Cmp, Some(1)));
        }
        store.close().await;
        assert_eq!(records(folder.path()).len(), 2);
    }

    /// DESIGN 4: over the bound the cookie is set and counted, no row; an account's own word is kept.
    async fn a_flood_makes_a_bounded_number_of_records_and_is_counted(engine: &Engine) {
        let folder = tempfile::tempdir().unwrap();
        let limits = config::Store { queue: 100_000, records_per_second: 1, record_burst: 9, ..WIDE };
        let started = std::time::Instant::now();
        let store = engine.open(folder.path(), &limits).await;
        let mut refused = 0;
        for _ in 0..500 {
            store.record_behind(signal());
            let form = change(Kind::OptOut, Source::Form, None);
            refused += u64::from(matches!(store.record(form).await, Err(RecordError::Flood)));
        }
        let first = store.record(out(1)).await.unwrap();
        let again = store.record(out(1)).await.unwrap();
        store.record_behind(change(Kind::OptOut, Source::Gpc, Some(2)));
        assert_eq!(store.lookup(&subject(2)), Standing::OptedOut, "honoured though not recorded");
        let health = store.health();
        store.close().await;
        // Ten at once, and one for every second that this test took; one row for account 1.
        let allowed = 11 + started.elapsed().as_secs() + 1;
        let rows = records(folder.path()).len() as u64;
        assert!((11..=allowed + 2).contains(&rows), "{rows} rows, {allowed} allowed");
        assert!(health.flood_dropped >= 1000 - allowed && refused > 480, "{health:?}, {refused} forms refused");
        assert!(again == first || started.elapsed().as_secs() > 0, "the receipt it already had");
        assert_eq!(health.overflowed, 0);
    }

    /// DESIGN 5: while the journal cannot write, callers are told, signals are kept up to the queue,
    /// more is counted; all that was kept is recorded when it can write again.
    async fn an_outage_is_told_kept_counted_and_made_good(engine: &Engine) {
        let folder = tempfile::tempdir().unwrap();
        let limits = config::Store { queue: 10, ..WIDE };
        let store = engine.open(folder.path(), &limits).await;
        store.record(out(1)).await.unwrap();
        let mut other = raw(folder.path()).await;
        execute(&mut other, "BEGIN IMMEDIATE").await;
        for account in 100..115 {
            store.record_behind(change(Kind::OptOut, Source::Gpc, Some(account)));
        }
        let told = store.record(out(2)).await;
        assert!(matches!(&told, Err(RecordError::Journal(why)) if why.contains("locked")), "{told:?}");
        let health = store.health();
        assert!(health.journal_error.is_some());
        assert_eq!((health.backlog, health.overflowed), (10, 5));
        assert_eq!(store.lookup(&subject(2)), Standing::Unknown, "never said to be saved");
        assert_eq!(store.lookup(&subject(114)), Standing::OptedOut, "an overflow is honoured all the same");
        execute(&mut other, "ROLLBACK").await;
        other.close().await.unwrap();

        store.record(out(2)).await.unwrap();
        let health = store.health();
        assert_eq!((health.journal_error, health.backlog, health.records), (None, 0, 12));
        store.record_behind(change(Kind::OptOut, Source::Gpc, Some(114)));
        store.close().await;
        assert_eq!(records(folder.path()).len(), 13, "what overflowed is recorded when it is seen again");
    }

    /// Readiness must turn green again though nobody opts out meanwhile.
    async fn an_outage_with_nothing_queued_ends_by_itself(engine: &Engine) {
        let folder = tempfile::tempdir().unwrap();
        let store = engine.open(folder.path(), &WIDE).await;
        let mut other = raw(folder.path()).await;
        execute(&mut other, "BEGIN IMMEDIATE").await;
        assert!(matches!(store.record(out(1)).await, Err(RecordError::Journal(_))));
        assert!(store.health().journal_error.is_some());
        execute(&mut other, "ROLLBACK").await;
        other.close().await.unwrap();
        while store.health().journal_error.is_some() {
            tokio::task::yield_now().await;
        }
        store.close().await;
        assert_eq!(records(folder.path()).len(), 0, "what was refused stays refused");
    }

    /// DESIGN 3: close flushes; what cannot be flushed is counted as lost, never silent.
    async fn closing_while_the_journal_cannot_write_counts_what_is_lost(engine: &Engine) {
        let folder = tempfile::tempdir().unwrap();
        let store = engine.open(folder.path(), &WIDE).await;
        let mut other = raw(folder.path()).await;
        execute(&mut other, "BEGIN IMMEDIATE").await;
        (0..7).for_each(|_| store.record_behind(signal()));
        store.close().await;
        assert_eq!(store.health().overflowed, 7);
        other.close().await.unwrap();
        assert_eq!(records(folder.path()).len(), 0);
    }

    /// Group commit: a sync for many records, not one for each.
    async fn concurrent_records_share_commits(engine: &Engine) {
        let folder = tempfile::tempdir().unwrap();
        let store = engine.open(folder.path(), &WIDE).await;
        let tasks: Vec<_> = (0..2000)
            .map(|account| {
                let store = store.clone();
                tokio::spawn(async move { store.record(out(account)).await.unwrap().seq })
            })
            .collect();
        let mut seqs = Vec::new();
        for task in tasks {
            seqs.push(task.await.unwrap());
        }
        seqs.sort_unstable();
        assert_eq!(seqs, (1..=2000).collect::<Vec<_>>());
        let (_, commits) = store.health().commits;
        println!("2000 records in {commits} commits");
        assert!(commits < 1000, "{commits} commits");
        store.close().await;
    }

    /// DESIGN 7: `ledger export` works beside a running server.
    async fn an_export_reads_beside_a_running_writer(engine: &Engine) {
        let folder = tempfile::tempdir().unwrap();
        let store = engine.open(folder.path(), &WIDE).await;
        for account in 0..9000 {
            store.record_behind(out(account));
        }
        store.record(out(9000)).await.unwrap();
        let mut seen = 0;
        export(folder.path(), &mut |record| {
            seen += 1;
            assert_eq!(record.seq, seen);
            store.record_behind(out(10_000 + u64::try_from(seen).unwrap()));
            Ok(())
        })
        .unwrap();
        assert!(seen >= 9001, "{seen}");
        let stopped = export(folder.path(), &mut |_| Err(std::io::ErrorKind::BrokenPipe.into()));
        assert!(matches!(stopped, Err(OpenError::Output(_))), "{stopped:?}");
        store.close().await;
        assert!(records(folder.path()).len() > 9001);
    }
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
