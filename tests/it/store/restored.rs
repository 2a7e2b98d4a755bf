//! `restore` from a folder of a server that runs, or was killed, as a file system's snapshot or a copy has it: what lies in
//! the WAL alone is put in place too.

use std::fs;
use std::path::Path;

use optgate::privacy::Standing;
use optgate::store::recipients::Request;
use optgate::store::restore;
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{ConnectOptions as _, Connection as _};

use super::super::support::opened;
use super::{WIDE, out, records, subject};

fn copied(from: &Path, to: &Path) {
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        if entry.file_type().unwrap().is_file() {
            fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
        }
    }
}

/// What `restore` says it has put in place is in place.
#[tokio::test]
async fn what_lies_in_the_wal_of_a_copied_folder_is_restored() {
    let folder = tempfile::tempdir().unwrap();
    let store = opened(folder.path(), &WIDE).unwrap();
    for account in 0..5 {
        store.record(out(account)).await.unwrap();
    }
    store.close().await;
    let store = opened(folder.path(), &WIDE).unwrap();
    for account in 5..25 {
        store.record(out(account)).await.unwrap();
    }
    let request = Request { subject: subject(1), site: "shop".into(), requested_us: 1, who: None };
    store.recipients().requested(vec![request]).await.unwrap();
    let (snapshot, place) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    copied(folder.path(), snapshot.path());
    store.close().await;
    assert!(snapshot.path().join("journal.sqlite3-wal").exists(), "some of it is nowhere else");
    let (from, to) = (snapshot.path().to_owned(), place.path().join("data"));
    let restored = {
        let to = to.clone();
        tokio::task::spawn_blocking(move || restore(&from, &to, false)).await.unwrap().unwrap()
    };
    assert_eq!((restored.records, records(&to).len()), (25, 25));
    let store = opened(&to, &WIDE).unwrap();
    assert!((0..25).all(|account| store.lookup(&subject(account)) == Standing::OptedOut));
    store.close().await;
    let path = to.join("recipients.sqlite3");
    let mut raw = SqliteConnectOptions::new().filename(path).connect().await.unwrap();
    let asked: i64 = sqlx::query_scalar("SELECT count(*) FROM requests").fetch_one(&mut raw).await.unwrap();
    assert_eq!(asked, 1);
    raw.close().await.unwrap();
    // Nothing of it is left beside what was put in place.
    assert!(!to.join("restoring").exists());
}
