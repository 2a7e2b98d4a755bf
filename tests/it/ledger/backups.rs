//! A copy made beside a server is whole, and only a whole one is put in place.

use std::fs;
use std::path::Path;

use optgate::privacy::{Standing, Subject};
use sqlx::ConnectOptions as _;
use sqlx::Connection as _;
use sqlx::sqlite::SqliteConnectOptions;

use super::{House, block_on, out};

/// Backup beside a running server, consistent; restore verified before it is put in place.
#[test]
fn a_backup_beside_a_server_is_put_back_whole() {
    use std::os::unix::fs::PermissionsExt as _;
    let house = House::new();
    house.records(0..3);
    let store = house.store();
    block_on(store.record(out(&store, 3))).unwrap();
    let to = house.file("backup");
    let said = house.optgate(&["ledger", "backup", to.to_str().unwrap()]).ok();
    assert!(
        said.err.contains("4 records, signed up to 3") && said.err.contains("without keys"),
        "{}",
        said.err
    );
    house.optgate(&["ledger", "backup", to.to_str().unwrap()]).failed("is there already");
    block_on(store.close());
    let names = |folder: &Path| {
        let mut names: Vec<_> = fs::read_dir(folder)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    };
    assert_eq!(names(&to), ["backup.signed", "journal.sqlite3"]);
    assert_eq!(fs::metadata(&to).unwrap().permissions().mode() & 0o777, 0o700);
    assert_eq!(fs::metadata(to.join("journal.sqlite3")).unwrap().permissions().mode() & 0o777, 0o600);

    house.optgate(&["ledger", "restore", to.to_str().unwrap()]).failed("is there already; move it away");
    let other = House::new();
    let from = to.to_str().unwrap();
    other.optgate(&["ledger", "restore", from]).failed("secret.key: is neither in the backup nor");
    fs::copy(house.folder().join("secret.key"), other.folder().join("secret.key")).unwrap();
    fs::copy(house.folder().join("signing.key"), other.folder().join("signing.key")).unwrap();
    other.optgate(&["ledger", "restore", from]).ok();
    assert_eq!(
        names(&other.folder()),
        ["journal.mark", "journal.sqlite3", "lock", "secret.key", "signing.key"]
    );
    assert!((0..4).all(|account| other.standing(account) == Standing::OptedOut));

    let keys = house.file("with-keys");
    house.optgate(&["ledger", "backup", keys.to_str().unwrap(), "--with-keys"]).ok();
    let third = House::new();
    third.optgate(&["ledger", "restore", keys.to_str().unwrap()]).ok();
    assert_eq!(third.standing(3), Standing::OptedOut);
    assert_eq!(third.records(4..5).len(), 1, "it goes on from there");
    third.optgate(&["ledger", "verify"]).ok();
}

/// What came after the last signature is only chained, so a backup says, signed, where it ends: one that was cut since is
/// not taken for whole, unless somebody insists.
#[test]
fn a_backup_that_was_cut_or_lacks_a_file_is_not_put_in_place_unasked() {
    let house = House::new();
    house.records(0..3);
    let store = house.store();
    block_on(store.record(out(&store, 3))).unwrap();
    let recipients = block_on(store.recipients().requested(vec![optgate::store::recipients::Request {
        subject: Subject::of_account(store.keys(), "shop", &[3]),
        site: "shop".into(),
        requested_us: 1_795_000_000_000_000,
        who: None,
    }]));
    recipients.unwrap();
    let to = house.file("backup");
    house.optgate(&["ledger", "backup", to.to_str().unwrap(), "--with-keys"]).ok();
    block_on(store.close());
    let copied = |name: &str| {
        let copy = house.file(name);
        fs::create_dir(&copy).unwrap();
        for entry in fs::read_dir(&to).unwrap() {
            let entry = entry.unwrap();
            fs::copy(entry.path(), copy.join(entry.file_name())).unwrap();
        }
        copy
    };
    let sql = |folder: &Path, sql: &'static str| {
        let journal = SqliteConnectOptions::new().filename(folder.join("journal.sqlite3"));
        block_on(async {
            let mut raw = journal.connect().await.unwrap();
            sqlx::raw_sql(sql).execute(&mut raw).await.unwrap();
            raw.close().await.unwrap();
        });
    };
    let restore = |from: &Path, more: &[&str]| {
        let other = House::new();
        let said = other.optgate(&[&["ledger", "restore", from.to_str().unwrap()], more].concat());
        assert_eq!(said.code == Some(0), other.folder().join("journal.sqlite3").exists(), "{}", said.err);
        said
    };
    restore(&to, &[]).ok();
    let cut = copied("cut");
    sql(&cut, "DROP TRIGGER journal_keeps_its_rows; DELETE FROM journal WHERE seq > 3");
    restore(&cut, &[]).failed("its journal ends with record 3, and ended with record 4 when it was made");
    restore(&cut, &["--force"]).ok();
    sql(&cut, "DROP TRIGGER checkpoints_stay; DELETE FROM checkpoints; DELETE FROM journal WHERE seq > 2");
    restore(&cut, &[]).failed("its journal ends with record 2");
    fs::remove_file(cut.join("backup.signed")).unwrap();
    restore(&cut, &[]).failed("has no backup.signed, and none of its 2 records is signed");
    restore(&cut, &["--force"]).ok();

    let forged = copied("forged");
    let text = fs::read_to_string(forged.join("backup.signed")).unwrap();
    fs::write(forged.join("backup.signed"), text.replace("journal 4", "journal 3")).unwrap();
    restore(&forged, &[]).failed("does not bear the signature of the journal's key");

    let lacking = copied("lacking");
    fs::write(lacking.join("recipients.sqlite3"), [b'x'; 4096]).unwrap();
    restore(&lacking, &[]).failed("recipients.sqlite3 was changed since it was made");
    restore(&lacking, &["--force"]).failed("take that file out and type --force");
    fs::remove_file(lacking.join("recipients.sqlite3")).unwrap();
    restore(&lacking, &[]).failed("recipients.sqlite3 was in it when it was made");
    restore(&lacking, &["--force"]).ok();
    // As an earlier version made it.
    let earlier = copied("earlier");
    fs::remove_file(earlier.join("backup.signed")).unwrap();
    restore(&earlier, &[]).ok();
}

/// A backup that is damaged, or another secret's, changes nothing.
#[test]
fn a_damaged_backup_or_one_of_another_secret_is_not_put_in_place() {
    let house = House::new();
    house.records(0..3);
    let to = house.file("backup");
    house.optgate(&["ledger", "backup", to.to_str().unwrap(), "--with-keys"]).ok();
    let other = House::new();
    let restore = || other.optgate(&["ledger", "restore", to.to_str().unwrap()]);
    let journal = to.join("journal.sqlite3");
    let whole = fs::read(&journal).unwrap();
    let mut bent = whole.clone();
    let at = bent.windows(8).rposition(|bytes| bytes == b"\0\0\0\x04shop").unwrap();
    bent[at + 4] = b'x';
    fs::write(&journal, &bent).unwrap();
    restore().failed("does not fit the chain");
    fs::write(&journal, &whole).unwrap();
    let secret = fs::read(to.join("secret.key")).unwrap();
    fs::write(to.join("secret.key"), data_encoding::BASE64.encode(&[1; 32])).unwrap();
    restore().failed("another secret.key");
    assert!(!other.folder().join("journal.sqlite3").exists() && !other.folder().join("secret.key").exists());
    fs::write(to.join("secret.key"), secret).unwrap();
    restore().ok();
}
