//! What was acknowledged is there, whatever keeps the records.

use std::collections::HashSet;

use optgate::config;
use optgate::privacy::{Standing, Subject};
use optgate::store::{Change, Kind, OpenError, RecordError, Source, export};
use sqlx::Connection as _;

use super::engines::on_both_engines;
use super::{WIDE, change, execute, out, raw, records, signal, subject};

on_both_engines! {
    /// A restart restores everything, and a reference finds its record.
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

    /// Rows for state changes only.
    async fn an_account_already_in_that_standing_is_not_recorded_again(engine: &Engine) {
        let folder = tempfile::tempdir().unwrap();
        let store = engine.open(folder.path(), &WIDE).await;
        for _ in 0..100 {
            store.record_behind(change(Kind::OptOut, Source::Gpc, Some(1)));
            store.record_behind(change(Kind::OptOut, Source::Carried, Some(1)));
        }
        store.close().await;
        assert_eq!(records(folder.path()).len(), 2);
    }

    /// Over the bound the cookie is set and counted, no row; an account's own word is kept.
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
        let (asked, mut receipts) = (std::time::Instant::now(), HashSet::new());
        for _ in 0..100 {
            receipts.insert(store.record(out(1)).await.unwrap().reference);
        }
        let seconds = asked.elapsed().as_secs();
        store.record_behind(change(Kind::OptOut, Source::Gpc, Some(2)));
        assert_eq!(store.lookup(&subject(2)), Standing::OptedOut, "honoured though not recorded");
        let health = store.health();
        store.close().await;
        // Ten at once, and one for every second that this test took; one row for account 1.
        let allowed = 11 + started.elapsed().as_secs() + 1;
        let rows = records(folder.path()).len() as u64;
        assert!((11..=allowed + 2).contains(&rows), "{rows} rows, {allowed} allowed");
        assert!(health.flood_dropped >= 1000 - allowed && refused > 480, "{health:?}, {refused} forms refused");
        // The first, and one for what each second let through; else the receipt that it already had.
        assert!(receipts.len() as u64 <= seconds + 2, "{} receipts in {seconds} s", receipts.len());
        assert_eq!(health.overflowed, 0);
    }

    /// While the journal cannot write, callers are told, signals are kept up to the queue,
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

    /// Close flushes; what cannot be flushed is counted as lost, never silent.
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

    /// `ledger export` works beside a running server.
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
