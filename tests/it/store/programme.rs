//! 11 CCR 7025(c)(4): who keeps a programme is opted out of all the rest, and stays so whichever of the two records is
//! pruned, over starts, and where another node takes over.

use std::path::Path;

use optgate::config;
use optgate::privacy::Standing;
use optgate::store::adopt::left_behind;
use optgate::store::{Change, Kind, Source, Store};

use super::super::support::opened;
use super::{PACKED, WIDE, change, subject};

/// When they chose, in microseconds since the Unix epoch.
const OUT_US: i64 = 1_000;
const KEPT_US: i64 = 2_000;

fn at(time_us: i64, kind: Kind, source: Source) -> Change {
    Change { time_us, ..change(kind, source, Some(1)) }
}

async fn reopened(store: Store, folder: &Path, limits: &config::Store) -> Store {
    store.close().await;
    opened(folder, limits).unwrap()
}

/// The opt-out is the older of the two, so the daily round takes it first; the programme alone says the account is opted
/// out, and when it goes too, that is kept.
#[tokio::test]
async fn a_programme_keeps_the_opt_out_that_it_is_an_exception_to() {
    for limits in [&WIDE, &PACKED] {
        let folder = tempfile::tempdir().unwrap();
        let store = opened(folder.path(), limits).unwrap();
        store.record(at(OUT_US, Kind::OptOut, Source::Gpc)).await.unwrap();
        store.record(at(KEPT_US, Kind::Programme, Source::Form)).await.unwrap();
        assert_eq!(store.prune(KEPT_US, false).await.unwrap().records, 1);
        let store = reopened(store, folder.path(), limits).await;
        assert_eq!(store.lookup(&subject(1)), Standing::Programme);
        assert_eq!(store.health().accounts_opted_out, 1);
        let pruned = store.prune(KEPT_US + 1, false).await.unwrap();
        assert_eq!((pruned.records, pruned.accounts_kept), (1, 1));
        let store = reopened(store, folder.path(), limits).await;
        assert_eq!(store.lookup(&subject(1)), Standing::OptedOut, "of the exception nothing is kept");
        store.close().await;
    }
}

/// An opt-in is a later word than the programme, whether or not the opt-out is still on record.
#[tokio::test]
async fn an_opt_in_ends_what_a_programme_alone_tells_of() {
    let folder = tempfile::tempdir().unwrap();
    let store = opened(folder.path(), &WIDE).unwrap();
    store.record(at(OUT_US, Kind::OptOut, Source::Form)).await.unwrap();
    store.record(at(KEPT_US, Kind::Programme, Source::Form)).await.unwrap();
    store.record(at(KEPT_US + 1, Kind::OptIn, Source::Form)).await.unwrap();
    store.prune(KEPT_US, false).await.unwrap();
    let store = reopened(store, folder.path(), &WIDE).await;
    assert_eq!(store.lookup(&subject(1)), Standing::OptedIn);
    store.close().await;
}

/// `ledger adopt` reads a folder of which only the programme's record is left.
#[tokio::test]
async fn a_programme_is_an_opt_out_that_another_node_adopts() {
    let (folder, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let store = opened(folder.path(), &WIDE).unwrap();
    store.record(at(OUT_US, Kind::OptOut, Source::Gpc)).await.unwrap();
    store.record(at(KEPT_US, Kind::Programme, Source::Form)).await.unwrap();
    store.prune(KEPT_US, false).await.unwrap();
    store.close().await;
    std::fs::copy(folder.path().join("secret.key"), other.path().join("secret.key")).unwrap();
    opened(other.path(), &WIDE).unwrap().close().await;
    let left = left_behind(folder.path(), other.path()).unwrap();
    assert_eq!(left.arrivals.iter().map(|arrival| arrival.subject).collect::<Vec<_>>(), [subject(1)]);
    assert_eq!(left.unproven, None);
}
