//! A site is renamed and its secret rotated: whoever is seen again goes over both times, and then the earlier secret can go.

use optgate::privacy::Basis;
use optgate::store::{forget_earlier_secrets, rotate_secret};

use super::super::support::opened;
use super::carried::seen;
use super::{WIDE, out, subject};

const PEOPLE: u64 = 6;

/// The list has two hashes a person, each with a record of its own, and is no longer than that.
#[tokio::test]
async fn a_rename_before_a_rotation_does_not_keep_the_earlier_secret() {
    let folder = tempfile::tempdir().unwrap();
    let store = opened(folder.path(), &WIDE).unwrap();
    for person in 0..PEOPLE {
        store.record(out(person)).await.unwrap();
        assert!(seen(&store, person, 100 + person, Basis::Account).is_out());
    }
    store.close().await;
    rotate_secret(folder.path()).unwrap();
    let store = opened(folder.path(), &WIDE).unwrap();
    for person in 0..PEOPLE {
        assert!(seen(&store, 100 + person, 200 + person, Basis::Account).is_out());
    }
    store.close().await;
    let store = opened(folder.path(), &WIDE).unwrap();
    assert_eq!(store.retire().await.unwrap(), 0);
    forget_earlier_secrets(folder.path()).unwrap();
    store.close().await;
    let store = opened(folder.path(), &WIDE).unwrap();
    assert!((0..PEOPLE).all(|person| store.lookup(&subject(200 + person)).is_out()));
    store.close().await;
}
