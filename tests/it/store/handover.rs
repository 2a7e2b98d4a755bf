//! Orders over a handover: what comes while another process takes the store is not begun here and says so, so that it
//! can be typed at that one by whoever waits; what comes back is carried out.

use std::path::Path;

use futures_util::future::join_all;
use optgate::store::import::Arrival;
use optgate::store::{Lent, RecordError, Store};
use sqlx::{Connection, Row};
use tokio::sync::mpsc;

use super::{WIDE, out, raw, records, subject};
use crate::support::opened;

/// How many records of choices stand for somebody, and how many are whole.
async fn stands(folder: &Path) -> (i64, i64) {
    let mut journal = raw(folder).await;
    let counts = sqlx::query(
        "SELECT count(subject), count(canonical) FROM journal
         WHERE coalesce(instr(canonical, CAST('upkeep' AS BLOB)), 0) = 0",
    );
    let row = counts.fetch_one(&mut journal).await.unwrap();
    journal.close().await.unwrap();
    (row.get(0), row.get(1))
}

fn arrival(account: u64) -> Arrival {
    Arrival {
        others: Vec::new(),
        formerly: Vec::new(),
        adopted: false,
        denied: None,
        subject: subject(account),
        account: None,
        site: "shop".into(),
        policy: "crm".into(),
        requested_us: 0,
        // Older than any record here, so that it is asked what the account chose last.
        until_us: 1,
    }
}

/// A store with an account that opted out and one that opted in, closed for another process.
async fn lent(folder: &Path) -> (Store, Lent) {
    let store = opened(folder, &WIDE).unwrap();
    store.record(out(1)).await.unwrap();
    let back = optgate::store::Change { kind: optgate::store::Kind::OptIn, basis: None, ..out(2) };
    store.record(back).await.unwrap();
    let lent = store.lend().await.unwrap();
    (store, lent)
}

/// A refusal that says nothing was begun must be true, for the command asks again.
#[tokio::test(flavor = "multi_thread")]
async fn an_order_that_comes_during_a_handover_is_not_begun_and_says_so() {
    let folder = tempfile::tempdir().unwrap();
    let (store, lent) = lent(folder.path()).await;
    let orders = async {
        tokio::join!(
            store.erase(vec![subject(1)]),
            store.prune(i64::MAX, false),
            store.retire(),
            store.import(vec![arrival(2)], false, false),
        )
    };
    let (to, _changes) = mpsc::unbounded_channel();
    let ((erased, pruned, retired, imported), ()) = tokio::join!(orders, async { lent.forward(to) });
    assert!(matches!(erased, Err(RecordError::HandedOver)), "{erased:?}");
    assert!(matches!(pruned, Err(RecordError::HandedOver)), "{pruned:?}");
    assert!(matches!(retired, Err(RecordError::HandedOver)), "{retired:?}");
    assert!(matches!(imported, Err(RecordError::HandedOver)), "{imported:?}");
    assert_eq!(stands(folder.path()).await, (2, 2));
    let next = opened(folder.path(), &WIDE).unwrap();
    assert_eq!(next.erase(vec![subject(1)]).await.unwrap().records, 1, "the next process does it");
    next.close().await;
    store.close().await;
}

/// Taken back, the store carries out what waited, once.
#[tokio::test(flavor = "multi_thread")]
async fn an_order_that_waited_is_carried_out_when_the_store_comes_back() {
    let folder = tempfile::tempdir().unwrap();
    let (store, lent) = lent(folder.path()).await;
    let orders = async { tokio::join!(store.erase(vec![subject(1)]), store.prune(i64::MAX, true)) };
    let ((erased, pruned), ()) = tokio::join!(orders, async { store.take_back(lent) });
    assert_eq!((erased.unwrap().records, pruned.unwrap().records), (1, 2));
    assert_eq!(stands(folder.path()).await, (1, 2));
    store.close().await;
}

/// A long prune does not hold an upgrade up. What it did is done, so that it is not asked for again unsaid.
#[tokio::test(flavor = "multi_thread")]
async fn a_prune_that_a_handover_breaks_off_says_how_far_it_came() {
    let folder = tempfile::tempdir().unwrap();
    let store = opened(folder.path(), &WIDE).unwrap();
    let recorded = join_all((0..8_000).map(|account| store.record(out(account)))).await;
    assert!(recorded.iter().all(Result::is_ok));
    let pruning = {
        let store = store.clone();
        tokio::spawn(async move { store.prune(i64::MAX, false).await })
    };
    while stands(folder.path()).await.1 == 8_000 {
        tokio::task::yield_now().await;
    }
    let lent = store.lend().await.unwrap();
    let done = pruning.await.unwrap().unwrap_err();
    let RecordError::HalfPruned(pruned) = done else { panic!("{done:?}") };
    let left = records(folder.path()).iter().filter(|record| record.kind != "upkeep").count() as u64;
    assert_eq!(pruned + left, 8_000, "it says what is so");
    assert!(left > 0, "it was over before");
    store.take_back(lent);
    assert_eq!(store.prune(i64::MAX, false).await.unwrap().records, left);
    store.close().await;
}
