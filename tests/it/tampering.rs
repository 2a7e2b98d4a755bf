//! A hand at a prompt that may write the data folder and has not its keys: what it changes beside the chain is refused at a
//! start and named by a proof, so that nobody who opted out is honoured no more and nobody notices.

use std::fs;

use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{AssertSqlSafe, ConnectOptions as _, Connection as _};

use optgate::privacy::{Standing, Subject};
use optgate::store::Change;

use super::acceptance_choices::{honoured, shop};
use super::ledger::{House, block_on, out};
use super::support::binary::{Binary, own_address, serving};
use super::support::client::Client;
use super::support::proxy::proxy;

impl House {
    pub(super) fn journal(&self, sql: &str) {
        block_on(async {
            let path = self.folder().join("journal.sqlite3");
            let mut raw = SqliteConnectOptions::new().filename(path).connect().await.unwrap();
            sqlx::raw_sql(AssertSqlSafe(sql.to_owned())).execute(&mut raw).await.unwrap();
            raw.close().await.unwrap();
        });
    }

    /// Tells the live secret apart from others.
    fn check(&self) -> String {
        self.optgate(&["keys", "list"]).ok().out.split('\t').next().unwrap().to_owned()
    }

    fn forget(&self, account: u8) {
        self.optgate_told(&["ledger", "erase", "--site", "shop"], &format!("{}\n", char::from(account))).ok();
    }

    /// Neither a proof nor a start passes over it.
    fn is_found_out(&self, words: &str) {
        self.optgate(&["ledger", "verify"]).failed(words);
        let refusal = self.refusal();
        assert!(refusal.contains(words), "{words:?} is not in {refusal:?}");
    }
}

const UNTIE: &str = "UPDATE journal SET subject = NULL, blinding = NULL WHERE seq";

/// The trigger lets a record be untied, for erasure. One that no order untied is found by the start that reads it, which
/// says which it may be.
#[test]
fn a_record_that_no_order_untied_is_refused_at_start() {
    let house = House::new();
    house.records(0..6);
    house.journal(&format!("{UNTIE} BETWEEN 2 AND 4"));
    house.is_found_out("3 records have lost what ties them to an account");
    assert!(house.refusal().contains("They are among records 2, 3, 4"), "{}", house.refusal());
}

/// What an erased record leaves room for is gone when it is pruned: no other may be untied in its place.
#[test]
fn a_pruned_record_that_was_erased_makes_no_room_for_another() {
    let house = House::new();
    house.records(1..3);
    house.forget(1);
    house.forget(2);
    house.optgate(&["ledger", "prune", "--force", "--before", "2099-01-01"]).ok();
    house.records(3..6);
    house.optgate(&["ledger", "verify"]).ok();
    assert_eq!(house.standing(3), Standing::OptedOut);
    house.journal(&format!("{UNTIE} = (SELECT min(seq) FROM journal WHERE subject IS NOT NULL)"));
    house.is_found_out(
        "1 records have lost what ties them to an account, and the records of what was done to the",
    );
    assert!(house.refusal().contains("tell of 0"), "{}", house.refusal());
}

/// Of a pruned record nothing is left but its digest: no word stands beside it that nothing seals.
#[test]
fn a_time_that_was_put_beside_a_pruned_record_is_found_out() {
    let house = House::new();
    house.records(0..3);
    house.optgate(&["ledger", "prune", "--force", "--before", "2099-01-01"]).ok();
    house.records(3..4);
    house.optgate(&["ledger", "verify"]).ok();
    house.journal(
        "DROP TRIGGER journal_only_forgets; UPDATE journal SET time_us = 1795000000000000 WHERE seq = 2",
    );
    house.is_found_out("record 2 does not fit the chain");
}

/// A journal of before that has times there loses them at its first start; until then it is proven as it is.
#[test]
fn times_that_an_earlier_version_left_beside_pruned_records_go_at_the_first_start() {
    let house = House::new();
    house.records(0..3);
    house.optgate(&["ledger", "prune", "--force", "--before", "2099-01-01"]).ok();
    house.journal(
        "DROP TRIGGER journal_only_forgets; UPDATE meta SET value = '8' WHERE key = 'schema';
         UPDATE journal SET time_us = 1795000000000000 WHERE digest IS NOT NULL",
    );
    house.optgate(&["ledger", "verify"]).ok();
    block_on(house.store().close());
    house.optgate(&["ledger", "verify"]).ok();
    house.journal("DROP TRIGGER journal_only_forgets; UPDATE journal SET time_us = 7 WHERE seq = 3");
    house.is_found_out("record 3 does not fit the chain");
}

/// A trigger that was planted would take the account out of every record to come.
#[test]
fn a_trigger_that_optgate_did_not_make_is_refused() {
    let house = House::new();
    house.records(0..2);
    let planted = "CREATE TRIGGER evil AFTER INSERT ON journal
        BEGIN UPDATE journal SET subject = NULL, blinding = NULL WHERE seq = NEW.seq; END";
    house.journal(planted);
    house.is_found_out("has a trigger `evil` that Optgate did not make");
    assert!(house.refusal().contains("'DROP TRIGGER evil'"), "{}", house.refusal());
    house.journal("DROP TRIGGER evil; CREATE VIEW evil AS SELECT * FROM journal");
    house.is_found_out("has a view `evil` that Optgate did not make");
    house.journal(
        "DROP VIEW evil; DROP TRIGGER journal_keeps_its_rows;
         CREATE TRIGGER journal_keeps_its_rows BEFORE DELETE ON journal BEGIN SELECT 1; END",
    );
    house.is_found_out("has a trigger `journal_keeps_its_rows` that Optgate did not make like this");
    house.journal("DROP TRIGGER journal_keeps_its_rows");
    house.records(2..3);
    let refused = block_on(async {
        let path = house.folder().join("journal.sqlite3");
        let mut raw = SqliteConnectOptions::new().filename(path).connect().await.unwrap();
        let done = sqlx::raw_sql("DELETE FROM journal WHERE seq = 1").execute(&mut raw).await;
        raw.close().await.unwrap();
        done.unwrap_err().to_string()
    });
    assert!(refused.contains("append-only"), "it is put back: {refused}");
    house.optgate(&["ledger", "verify"]).ok();
}

/// The number of its schema decides what is done to a journal at a start.
#[test]
fn a_schema_number_that_was_set_back_is_refused_by_its_name() {
    let house = House::new();
    house.records(0..2);
    house.journal("UPDATE meta SET value = '7' WHERE key = 'schema'");
    house.is_found_out(
        "says that its schema is 7, and has `suppression_keeps_its_rows`, which a later one made",
    );
}

/// With another secret every account is somebody else: the list of secrets is not the only word on which it was.
#[test]
fn a_journal_without_its_list_of_secrets_takes_no_other_secret() {
    let house = House::new();
    house.records(0..2);
    let stranger = House::new();
    stranger.records(0..1);
    let foreign = stranger.check();
    let backup = house.file("backup");
    house.optgate(&["ledger", "backup", backup.to_str().unwrap(), "--with-keys"]).ok();
    fs::copy(stranger.folder().join("secret.key"), house.folder().join("secret.key")).unwrap();
    house.journal("DELETE FROM secrets");
    house.is_found_out("names no secret that its accounts are hashed under");
    house.journal(&format!("INSERT INTO secrets VALUES ('{foreign}', 1)"));
    house.is_found_out("since its first record, and was made with another");

    // A backup is no other journal.
    fs::copy(stranger.folder().join("secret.key"), backup.join("secret.key")).unwrap();
    let copy = SqliteConnectOptions::new().filename(backup.join("journal.sqlite3"));
    block_on(async {
        let mut raw = copy.connect().await.unwrap();
        sqlx::raw_sql("DELETE FROM secrets").execute(&mut raw).await.unwrap();
        raw.close().await.unwrap();
    });
    let fresh = House::new();
    fresh
        .optgate(&["ledger", "restore", backup.to_str().unwrap()])
        .failed("names no secret that its accounts");
    assert!(!fresh.folder().join("journal.sqlite3").exists());

    let rotated = House::new();
    rotated.records(0..2);
    rotated.optgate(&["keys", "rotate"]).ok();
    rotated.records(2..3);
    rotated.optgate(&["ledger", "verify"]).ok();
    rotated.journal("UPDATE secrets SET since = 1 WHERE since > 1");
    rotated.is_found_out("as the newest that its accounts are hashed under, and record 3 tells of");
}

/// Every record has the name of its node, which is made of the secret that the journal began with: so a foreign one is
/// refused whatever is changed with it, also in a journal that was never rotated.
#[test]
fn a_foreign_secret_is_refused_however_much_is_changed_with_it() {
    let (house, stranger) = (House::new(), House::new());
    house.records(0..2);
    stranger.records(0..1);
    let (own, foreign) = (house.check(), stranger.check());
    let secret = |house: &House| house.folder().join("secret.key");
    fs::copy(secret(&stranger), secret(&house)).unwrap();
    let first = |check: &str| format!("UPDATE meta SET value = '{check}' WHERE key = 'key_check'");
    house.journal(&format!("{}; UPDATE secrets SET key_check = '{foreign}'", first(&foreign)));
    house.is_found_out("which is made of the secret that it began with");
    house.journal("DELETE FROM meta WHERE key = 'born'");
    house.is_found_out("which is made of the secret that it began with");
    let unborn = House::new();
    unborn.records(0..2);
    let own_of_unborn = unborn.check();
    fs::copy(secret(&stranger), secret(&unborn)).unwrap();
    unborn.journal(&format!("UPDATE secrets SET key_check = '{foreign}', since = 2"));
    unborn.is_found_out(&format!(
        "lists {foreign} since 2 as the secrets that its accounts are hashed under, and its records tell of \
         {own_of_unborn} since 1"
    ));
    assert_ne!(own, own_of_unborn);
}

/// An account that is known under an earlier secret alone would be somebody else without it: that it is needed no more is
/// an order's to say.
#[test]
fn an_earlier_secret_that_no_order_retired_is_missed() {
    let house = House::new();
    house.records(0..2);
    house.optgate(&["keys", "rotate"]).ok();
    house.records(2..3);
    let secret = house.folder().join("secret.key");
    let both = fs::read_to_string(&secret).unwrap();
    fs::write(&secret, both.lines().next().unwrap()).unwrap();
    house.journal("DELETE FROM secrets WHERE since = 1");
    house.is_found_out("as the secrets that its accounts are hashed under, and its records tell of");
}

/// A journal that an earlier version made has a name that says nothing: its records do, from the first start on.
#[test]
fn a_journal_of_an_earlier_version_gets_a_record_of_its_secrets() {
    let (house, stranger) = (House::new(), House::new());
    stranger.records(0..1);
    block_on(house.store().close());
    house.journal(
        "UPDATE meta SET value = 'feedbeef' WHERE key = 'node'; DELETE FROM meta WHERE key = 'born'",
    );
    house.records(0..2);
    let foreign = stranger.check();
    let told = house.optgate(&["ledger", "export"]).ok().out;
    assert!(told.contains(&format!("v1 pruned=0 untied=0 secrets={}/1", house.check())), "{told}");
    assert_eq!(told.matches("upkeep").count(), 1, "once: {told}");
    fs::copy(stranger.folder().join("secret.key"), house.folder().join("secret.key")).unwrap();
    house.journal(&format!(
        "UPDATE meta SET value = '{foreign}' WHERE key = 'key_check'; UPDATE secrets SET key_check = '{foreign}'"
    ));
    house.is_found_out("as the secrets that its accounts are hashed under, and its records tell of");
}

/// Which accounts were recorded anew under a new secret no record tells; that there are more of them than records is seen.
#[test]
fn a_list_of_carried_accounts_that_is_longer_than_the_records_retires_nothing() {
    let house = House::new();
    house.records(0..3);
    house.optgate(&["keys", "rotate"]).ok();
    block_on(house.store().close());
    house.optgate(&["keys", "retire"]).failed("3 opted-out accounts are known under an earlier secret alone");
    house.journal("INSERT INTO carried SELECT subject FROM journal WHERE subject IS NOT NULL");
    house
        .optgate(&["keys", "retire"])
        .failed("3 accounts were recorded anew under a newer secret, and only 0 choices");
    assert!((0..3).all(|account| house.known_under_any_secret(account)));
}

impl House {
    fn known_under_any_secret(&self, account: u8) -> bool {
        let store = self.store();
        let mut keys = std::iter::once(store.keys()).chain(store.keys().older());
        let known = keys.any(|keys| store.lookup(&Subject::of_account(keys, "shop", &[account])).is_out());
        block_on(store.close());
        known
    }
}

/// Under another name other nodes would take a journal's records for those of a node that they do not know.
#[test]
fn a_journal_that_was_given_another_name_is_refused() {
    let house = House::new();
    house.records(0..2);
    house.journal("UPDATE meta SET value = 'feedbeef' WHERE key = 'node'");
    house.is_found_out("and the journal calls itself node feedbeef");
    let unsigned = House::new();
    let store = unsigned.store();
    block_on(async {
        store.record(out(&store, 0)).await.unwrap();
        store.close().await;
    });
    unsigned.journal(
        "DROP TRIGGER checkpoints_stay; DELETE FROM checkpoints; UPDATE meta SET value = 'x' WHERE key = 'node'",
    );
    assert!(unsigned.refusal().contains("record 1 was written by node"), "{}", unsigned.refusal());
}

/// An old folder that was changed is adopted as far as it can be read, for more opt-outs harm nobody; but nobody is told
/// that this was all.
#[test]
fn an_old_folder_that_was_changed_is_adopted_and_said_to_be_so() {
    let old = House::new();
    old.records(0..3);
    let new = House::new();
    fs::create_dir(new.folder()).unwrap();
    let adopt = || new.optgate(&["ledger", "adopt", old.folder().to_str().unwrap()]);
    adopt().failed("there is no journal here; check --data-dir");
    fs::copy(old.folder().join("secret.key"), new.folder().join("secret.key")).unwrap();
    block_on(new.store().close());
    old.journal(&format!("{UNTIE} = 2"));
    let said = adopt();
    assert_eq!(said.code, Some(1), "{}", said.err);
    assert!(said.out.starts_with("recorded: 2\n"), "{}", said.out);
    assert!(said.err.contains("1 records have lost what ties them to an account"), "{}", said.err);
    assert_eq!(new.standing(0), Standing::OptedOutByImport);
}

/// Two secrets are in the list since the first record then; which is the later must not be left to chance.
#[test]
fn a_secret_that_was_rotated_before_the_first_record_is_the_later_one() {
    // Which of two sorts first is chance.
    for _ in 0..8 {
        let house = House::new();
        block_on(house.store().close());
        house.optgate(&["keys", "rotate"]).ok();
        house.records(0..1);
        house.records(1..2);
        house.optgate(&["ledger", "verify"]).ok();
        assert_eq!(house.optgate(&["ledger", "export"]).ok().out.matches("upkeep").count(), 1);
        house.optgate(&["keys", "retire"]).ok();
        assert_eq!(house.standing(0), Standing::OptedOut);
    }
}

/// What is adopted may be hashed under an earlier secret, whatever its place in the journal: that secret is needed then,
/// also once the record is pruned. Profiles are carried like accounts.
#[test]
fn an_adopted_opt_out_of_an_earlier_secret_keeps_that_secret() {
    let old = House::new();
    old.records(0..2);
    let store = old.store();
    let profile = Subject::of_profile(store.keys(), "shop", b"visitor");
    block_on(async {
        store.record(Change { subject: Some(profile), ..out(&store, 9) }).await.unwrap();
        store.close().await;
    });
    let new = House::new();
    fs::create_dir(new.folder()).unwrap();
    fs::copy(old.folder().join("secret.key"), new.folder().join("secret.key")).unwrap();
    block_on(new.store().close());
    new.optgate(&["keys", "rotate"]).ok();
    new.records(5..6);
    let said = new.optgate(&["ledger", "adopt", old.folder().to_str().unwrap()]).ok().out;
    assert!(said.starts_with("recorded: 3\n"), "{said}");
    let store = new.store();
    assert_eq!(store.lookup(&profile), Standing::OptedOutByImport);
    block_on(store.close());
    let told = new.optgate(&["ledger", "export"]).ok().out;
    assert_eq!(told.matches(&format!(", hashed under secret {}", old.check())).count(), 3, "{told}");
    let retire = || new.optgate(&["keys", "retire"]);
    retire().failed("3 opted-out accounts are known under an earlier secret alone");
    new.forget(0);
    retire().failed("3 opted-out accounts are known under an earlier secret alone");
    new.optgate(&["ledger", "prune", "--force", "--before", "2099-01-01"]).ok();
    retire().failed("3 opted-out accounts are known under an earlier secret alone");
    assert!((0..2).chain(5..6).all(|account| new.known_under_any_secret(account)));
}

/// A key that is rotated while a backup is made would be in it without the journal that knows it, or the other way round:
/// found out at the restore, when it is too late.
#[test]
fn a_backup_during_which_a_key_is_rotated_is_said_to_be_of_no_use() {
    let house = House::new();
    house.records(0..2);
    let signing = house.folder().join("signing.key");
    fs::remove_file(&signing).unwrap();
    let mode = rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR;
    rustix::fs::mknodat(rustix::fs::CWD, &signing, rustix::fs::FileType::Fifo, mode, 0).unwrap();
    // Whoever reads the file finds another key each time.
    std::thread::spawn(move || (0..).try_for_each(|n: u32| fs::write(&signing, n.to_string())));
    let to = house.file("backup");
    house
        .optgate(&["ledger", "backup", to.to_str().unwrap(), "--with-keys"])
        .failed("a key was rotated while it was made. Take another");
}

/// Without its mark a journal that was cut behind the last signature looks whole: that this cannot be told is said.
#[test]
fn a_start_without_its_mark_says_so() {
    let origin = shop(&["/"]);
    let builder = proxy().to(&origin);
    let running = optgate::app::start(builder.settings()).unwrap();
    assert!(honoured(&Client::connect(running.listen()[0]).get_from("shop.example", "/", "Sec-GPC: 1\r\n")));
    running.stop().unwrap();
    let address = own_address();
    let start = || Binary::spawn(serving(&builder.write(), address), address, tempfile::tempdir().unwrap());
    let words = "journal.mark is gone or empty";
    let whole = start();
    assert!(!whole.lines_until("listening on http://").iter().any(|line| line.contains(words)));
    drop(whole);
    fs::remove_file(builder.dir().join("data/journal.mark")).unwrap();
    start().wait_for_line(words);
}

/// Whoever can read the keys can tell accounts by their hashes, and sign another journal: a start says so of each.
#[test]
fn keys_that_others_can_read_are_named_by_a_start() {
    use std::os::unix::fs::PermissionsExt as _;
    let origin = shop(&["/"]);
    let builder = proxy().to(&origin);
    optgate::app::start(builder.settings()).unwrap().stop().unwrap();
    let address = own_address();
    let start = || Binary::spawn(serving(&builder.write(), address), address, tempfile::tempdir().unwrap());
    let named = || {
        let lines = start().lines_until("listening on http://");
        let of = |key: &str| lines.iter().any(|line| line.contains("others can read") && line.contains(key));
        (of("secret.key"), of("signing.key"))
    };
    assert_eq!(named(), (false, false));
    for key in ["secret.key", "signing.key"] {
        let file = builder.dir().join("data").join(key);
        fs::set_permissions(file, fs::Permissions::from_mode(0o640)).unwrap();
    }
    assert_eq!(named(), (true, true));
}

/// What the next start refuses is not called proven: a file whose structure is damaged where no record is, and rows without
/// which nobody can say whose journal it is.
#[test]
fn a_journal_that_a_start_refuses_is_not_proven() {
    let house = House::new();
    house.records(0..3);
    house.optgate(&["ledger", "verify"]).ok();
    let journal = house.folder().join("journal.sqlite3");
    let whole = fs::read(&journal).unwrap();
    // How many pages are free (sqlite.org/fileformat2, 1.3): one that is not there.
    let mut bytes = whole.clone();
    bytes[39] ^= 1;
    fs::write(&journal, bytes).unwrap();
    house.is_found_out("is damaged: ");
    fs::write(&journal, &whole).unwrap();
    let row = |name| {
        (format!("DELETE FROM meta WHERE key = '{name}'"), format!("the row `{name}` of its table `meta`"))
    };
    let table = ("DROP TABLE meta".to_owned(), "its table `meta`".to_owned());
    for (change, lost) in ["node", "key_check", "schema"].map(row).into_iter().chain([table]) {
        house.journal(&change);
        let words = format!("has lost {lost}: it was changed by another program");
        house.optgate(&["ledger", "verify"]).failed(&words);
        let refusal = house.refusal();
        assert!(refusal.contains(&words), "{refusal}");
        fs::write(&journal, &whole).unwrap();
    }
    house.optgate(&["ledger", "verify"]).ok();
}

/// A signer is known by the digest of its key: another key under its name is found out, also by whoever brings the right one.
#[test]
fn another_key_under_the_name_of_a_signer_is_found_out() {
    let house = House::new();
    house.records(0..3);
    let key = house.kept("key.pem", &["ledger", "key"]);
    house.journal("UPDATE signers SET public = zeroblob(32)");
    house.optgate(&["ledger", "verify", "--key", &key]).failed("under the name of that signer");
}
