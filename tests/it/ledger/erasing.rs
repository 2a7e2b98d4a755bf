//! An account that is erased is in no record any more, and stays opted out.

use optgate::privacy::{Basis, Standing, Subject};
use optgate::store::{Change, Kind, Store};
use sqlx::ConnectOptions as _;
use sqlx::Connection as _;
use sqlx::sqlite::SqliteConnectOptions;

use super::{House, block_on, out};

/// Domain 6: erasure by deleting what ties the record to the person; the minimal suppression entry stays.
#[test]
fn an_erased_account_is_in_no_record_and_stays_opted_out() {
    let house = House::new();
    house.records(0..3);
    house.opted_in();
    let key = house.kept("key.pem", &["ledger", "key"]);
    let said = house.optgate_told(&["ledger", "erase", "--site", "shop"], "\u{1}\n").ok();
    assert!(said.out.starts_with("records erased from: 1\n"), "{}", said.out);
    assert!(said.out.ends_with("kept as opted out by its hash alone: yes\n"), "{}", said.out);
    let said = house.optgate(&["ledger", "erase", "--site", "shop", "--account", "\u{7}"]).ok();
    assert!(said.out.starts_with("records erased from: 2\n"), "{}", said.out);
    assert!(said.out.ends_with("hash alone: no\n"), "{}", said.out);
    let tied = block_on(async {
        let path = house.folder().join("journal.sqlite3");
        let mut raw = SqliteConnectOptions::new().filename(path).connect().await.unwrap();
        let query = "SELECT count(*) FROM journal WHERE subject IS NOT NULL OR blinding IS NOT NULL";
        let tied: i64 = sqlx::query_scalar(query).fetch_one(&mut raw).await.unwrap();
        raw.close().await.unwrap();
        tied
    });
    assert_eq!(tied, 2);
    assert_eq!(house.exported(), 5, "the records stay");
    house.optgate(&["ledger", "verify", "--key", &key]).ok();
    assert_eq!(house.standing(1), Standing::OptedOut);
    assert_eq!(house.standing(7), Standing::Unknown);
    house.optgate_told(&["ledger", "erase", "--site", "shop"], "\n").failed("no account was named");
    // The person's next word stands above what was kept.
    let store = house.store();
    let back = Change { kind: Kind::OptIn, basis: None, ..out(&store, 1) };
    block_on(store.record(back)).unwrap();
    block_on(store.close());
    assert_eq!(house.standing(1), Standing::OptedIn);
}

/// Domain 6: a pseudonymous profile is erased by its key, and under every secret that it may have been hashed with.
#[test]
fn an_erased_profile_is_in_no_record_under_any_secret() {
    let house = House::new();
    let profile = |store: &Store| Change {
        basis: Some(Basis::Profile),
        subject: Some(Subject::of_profile(store.keys(), "shop", b"\x01")),
        ..out(store, 1)
    };
    for _ in 0..2 {
        let store = house.store();
        block_on(async {
            store.record(profile(&store)).await.unwrap();
            store.record(out(&store, 1)).await.unwrap();
            store.close().await;
        });
        house.optgate(&["keys", "rotate"]).ok();
    }
    let said = house.optgate_told(&["ledger", "erase", "--site", "shop", "--profile"], "\u{1}\n").ok();
    assert!(said.out.starts_with("records erased from: 2\n"), "{}", said.out);
    assert!(said.out.ends_with("hash alone: yes\n"), "{}", said.out);
    let store = house.store();
    let older = store.keys().older().iter().map(|keys| Subject::of_profile(keys, "shop", b"\x01"));
    assert!(older.map(|subject| store.lookup(&subject)).all(|standing| standing == Standing::OptedOut));
    block_on(store.close());
    let said = house.optgate(&["ledger", "erase", "--site", "shop", "--account", "\u{1}"]).ok();
    assert!(said.out.starts_with("records erased from: 2\n"), "the account was left alone: {}", said.out);
}
