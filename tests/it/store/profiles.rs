//! Profiles are whatever a browser's cookie says, so whoever sends requests makes up as many as they like. Over
//! `store.records_per_second` they leave neither records nor anything in memory.

use optgate::config;
use optgate::privacy::{Basis, Standing};
use optgate::store::{Change, Kind, RecordError, Source};

use super::super::support::opened;
use super::{WIDE, change, out, subject};

/// One, and four above the rate.
const FEW: config::Store = config::Store { records_per_second: 1, record_burst: 4, ..WIDE };

fn clicked(profile: u64) -> Change {
    Change { basis: Some(Basis::Profile), ..change(Kind::OptOut, Source::Form, Some(profile)) }
}

#[tokio::test]
async fn clicks_of_invented_profiles_are_bounded_and_an_accounts_own_is_not() {
    let folder = tempfile::tempdir().unwrap();
    let store = opened(folder.path(), &FEW).unwrap();
    let (mut recorded, mut refused) = (Vec::new(), 0);
    for profile in 0..100 {
        match store.record(clicked(profile)).await {
            Ok(_) => recorded.push(profile),
            Err(RecordError::Flood) => refused += 1,
            Err(other) => panic!("{other}"),
        }
    }
    assert!(refused > 0 && recorded.len() + refused == 100);
    assert_eq!(store.health().records, recorded.len() as u64);
    assert_eq!(store.health().accounts_opted_out, recorded.len() as u64);
    // Who is on record has a receipt in the flood too, and an account's own choice is taken.
    store.record(clicked(recorded[0])).await.unwrap();
    store.record(out(5_000)).await.unwrap();
    assert_eq!(store.lookup(&subject(5_000)), Standing::OptedOut);
    store.close().await;
}

#[tokio::test]
async fn signals_of_invented_profiles_above_the_bound_leave_nothing_in_memory() {
    let folder = tempfile::tempdir().unwrap();
    let store = opened(folder.path(), &FEW).unwrap();
    for profile in 0..1_000 {
        store.record_behind_of_profile(change(Kind::OptOut, Source::Gpc, Some(profile)));
    }
    let health = store.health();
    assert!(health.flood_dropped > 0);
    assert_eq!(health.accounts_opted_out + health.flood_dropped, 1_000, "what was dropped is not known");
    // The account of a flood is honoured all the same, until it is recorded.
    for account in 1_000..1_100 {
        store.record_behind(change(Kind::OptOut, Source::Gpc, Some(account)));
    }
    assert!((1_000..1_100).all(|account| store.lookup(&subject(account)) == Standing::OptedOut));
    // Nor does a queue that is full keep any.
    let full = tempfile::tempdir().unwrap();
    let none = opened(full.path(), &config::Store { queue: 0, ..WIDE }).unwrap();
    none.record_behind_of_profile(change(Kind::OptOut, Source::Gpc, Some(1)));
    assert_eq!((none.health().overflowed, none.health().accounts_opted_out), (1, 0));
    none.close().await;
    store.close().await;
}
