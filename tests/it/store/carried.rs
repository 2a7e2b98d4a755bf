//! What goes over by itself: from a former name of a site to the name of now, and from an earlier secret to the live one.

use optgate::privacy::{Basis, Standing};
use optgate::store::{Change, Kind, RecordView, Source, Store};

use super::super::support::opened;
use super::{WIDE, change, out, records, subject};

/// A page view of somebody who is kept as `now` and was kept as `before`.
pub(super) fn seen(store: &Store, before: u64, now: u64, basis: Basis) -> Standing {
    let live = Change { basis: Some(basis), ..change(Kind::OptOut, Source::Carried, Some(now)) };
    store.carry(&[subject(before)], live)
}

fn words(record: &RecordView) -> (&str, &str, &str) {
    (&record.kind, &record.signal, &record.basis)
}

/// 11 CCR 7101(b), the manner of the request: nobody sends a form when an opt-out goes over, and a profile is no account.
#[tokio::test]
async fn what_goes_over_is_recorded_as_carried_and_an_import_as_one() {
    let folder = tempfile::tempdir().unwrap();
    let store = opened(folder.path(), &WIDE).unwrap();
    let imported = Change { basis: Some(Basis::Import), ..change(Kind::OptOut, Source::Import, Some(2)) };
    for change in [out(1), imported, change(Kind::OptOut, Source::Gpc, Some(3))] {
        store.record(change).await.unwrap();
    }
    assert_eq!(seen(&store, 1, 101, Basis::Account), Standing::OptedOut);
    assert_eq!(seen(&store, 2, 102, Basis::Account), Standing::OptedOutByImport);
    assert_eq!(seen(&store, 3, 103, Basis::Profile), Standing::OptedOut);
    // Once.
    assert_eq!(seen(&store, 3, 103, Basis::Profile), Standing::OptedOut);
    store.close().await;
    let all = records(folder.path());
    let want = [
        ("opt-out", "carried", "account"),
        ("opt-out", "import", "account"),
        ("opt-out", "carried", "profile"),
    ];
    assert_eq!(all[3..].iter().map(words).collect::<Vec<_>>(), want);
}

/// 11 CCR 7025(c)(4): a click ends a programme, and what carries it over must end it too.
#[tokio::test]
async fn a_click_that_goes_over_to_somebody_who_keeps_a_programme_ends_it() {
    let folder = tempfile::tempdir().unwrap();
    let store = opened(folder.path(), &WIDE).unwrap();
    store.record(out(101)).await.unwrap();
    store.record(change(Kind::Programme, Source::Form, Some(101))).await.unwrap();
    store.record(out(1)).await.unwrap();
    assert_eq!(seen(&store, 1, 101, Basis::Account), Standing::OptedOut);
    store.close().await;
    let store = opened(folder.path(), &WIDE).unwrap();
    assert_eq!(store.lookup(&subject(101)), Standing::OptedOut);
    store.close().await;
}
