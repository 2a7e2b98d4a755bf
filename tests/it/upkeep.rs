//! What is done to the journal itself leaves a record in its chain; and that record seals what is kept of accounts whose
//! records were forgotten, so that no hand takes an opt-out away unseen.

use std::fs;
use std::path::Path;

use serde_json::Value;
use sha2::{Digest as _, Sha256};
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{AssertSqlSafe, ConnectOptions as _, Connection as _, Row as _};

use optgate::config;
use optgate::privacy::{Standing, Subject};
use optgate::store::{Change, Kind};

use super::ledger::{House, block_on, lines, out, write};

/// Lifts what keeps a hand at a prompt from it. Whoever may write the file may do so.
const UNLOCK: &str = "DROP TRIGGER suppression_keeps_its_rows; DROP TRIGGER suppression_only_forgets;
    DROP TRIGGER journal_only_forgets;";

impl House {
    /// Four opt-outs; of two the account is erased, by an order each: records 5 and 6.
    fn with_two_erased() -> Self {
        let house = Self::new();
        house.records(0..4);
        house.erase(1);
        house.erase(2);
        house
    }

    fn erase(&self, account: u8) {
        self.optgate_told(&["ledger", "erase", "--site", "shop"], &format!("{}\n", char::from(account))).ok();
    }

    /// The records of what was done, as they are exported.
    fn upkeep(&self) -> Vec<Value> {
        let said = self.optgate(&["ledger", "export"]).ok().out;
        let all = said.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
        all.filter(|record| record["kind"] == "upkeep").collect()
    }

    /// What they say was done, by whom, and what came of it.
    fn done(&self) -> Vec<[String; 3]> {
        let word = |record: &Value, name: &str| record[name].as_str().unwrap().to_owned();
        self.upkeep().iter().map(|r| ["signal", "basis", "policy"].map(|name| word(r, name))).collect()
    }

    /// A house whose data folder is like this one's.
    fn copied(&self) -> Self {
        let copy = Self::new();
        fs::create_dir(copy.folder()).unwrap();
        for entry in fs::read_dir(self.folder()).unwrap() {
            let entry = entry.unwrap();
            fs::copy(entry.path(), copy.folder().join(entry.file_name())).unwrap();
        }
        copy
    }
}

fn sql(journal: &Path, sql: &str) {
    block_on(async {
        let mut raw = SqliteConnectOptions::new().filename(journal).connect().await.unwrap();
        sqlx::raw_sql(AssertSqlSafe(sql.to_owned())).execute(&mut raw).await.unwrap();
        raw.close().await.unwrap();
    });
}

fn number(house: &House, query: &str) -> i64 {
    block_on(async {
        let path = house.folder().join("journal.sqlite3");
        let mut raw = SqliteConnectOptions::new().filename(path).connect().await.unwrap();
        let query = sqlx::query_scalar(AssertSqlSafe(query.to_owned()));
        let number = query.fetch_one(&mut raw).await.unwrap();
        raw.close().await.unwrap();
        number
    })
}

fn hex(bytes: impl AsRef<[u8]>) -> String {
    data_encoding::HEXLOWER.encode(bytes.as_ref())
}

/// What a row gives way to, made here as the format says it.
fn leaf(house: &House, id: i64) -> String {
    block_on(async {
        let path = house.folder().join("journal.sqlite3");
        let mut raw = SqliteConnectOptions::new().filename(path).connect().await.unwrap();
        let query = "SELECT subject, blinding, seq, standing, key_check FROM suppression WHERE id = ?";
        let row = sqlx::query(query).bind(id).fetch_one(&mut raw).await.unwrap();
        let field =
            |text: &str| [&u32::try_from(text.len()).unwrap().to_be_bytes()[..], text.as_bytes()].concat();
        let bytes = [
            b"optgate kept v1",
            row.get::<&[u8], _>(1),
            row.get(0),
            &row.get::<i64, _>(2).to_be_bytes(),
            &field(row.get(3)),
            &field(row.get(4)),
        ]
        .concat();
        drop(row);
        raw.close().await.unwrap();
        hex(Sha256::digest(bytes))
    })
}

/// For an opted-out visitor nothing is worse than an opt-out that is gone and nobody notices. Neither a start
/// nor a proof passes over it, whichever way it was done; each names the record.
#[test]
fn an_account_kept_by_its_hash_cannot_be_taken_out_changed_or_put_in_unseen() {
    let house = House::with_two_erased();
    house.optgate(&["ledger", "verify"]).ok();
    assert_eq!((house.standing(1), house.standing(2)), (Standing::OptedOut, Standing::OptedOut));
    let empty = "subject = NULL, blinding = NULL, standing = NULL, seq = NULL, key_check = NULL";
    let copy_of_first = "INSERT INTO suppression (subject, blinding, standing, seq, key_check, seal)
        SELECT randomblob(16), blinding, standing, seq, key_check";
    let kept =
        |n| format!("record {n} seals accounts that are kept by their hash alone, and they are not those");
    let none = |n| format!("record {n} is named as what seals an account that is kept by its hash alone");
    for (change, words) in [
        ("DELETE FROM suppression WHERE id = 1".to_owned(), kept(5)),
        ("DELETE FROM suppression WHERE id = 2".into(), kept(6)),
        ("UPDATE suppression SET standing = 'opted-out-by-import' WHERE id = 2".into(), kept(6)),
        ("UPDATE suppression SET seq = seq + 1 WHERE id = 2".into(), kept(6)),
        ("UPDATE suppression SET key_check = 'earlier' WHERE id = 1".into(), kept(5)),
        ("UPDATE suppression SET subject = randomblob(16) WHERE id = 1".into(), kept(5)),
        ("UPDATE suppression SET seal = 6 WHERE id = 1".into(), kept(5)),
        (format!("{copy_of_first}, 6 FROM suppression WHERE id = 1"), kept(6)),
        (format!("{copy_of_first}, 3 FROM suppression WHERE id = 1"), none(3)),
        (format!("{copy_of_first}, 99 FROM suppression WHERE id = 1"), none(99)),
        // As a later word about the account would have it, and as none that there is.
        (
            format!("UPDATE suppression SET {empty}, digest = x'{}', gone = 6 WHERE id = 1", leaf(&house, 1)),
            kept(6),
        ),
        (
            format!(
                "UPDATE suppression SET {empty}, digest = x'{}', gone = 99 WHERE id = 1",
                leaf(&house, 1)
            ),
            none(99),
        ),
        (format!("UPDATE suppression SET {empty}, digest = randomblob(32), gone = 6 WHERE id = 1"), kept(5)),
    ] {
        let copy = house.copied();
        sql(&copy.folder().join("journal.sqlite3"), &format!("{UNLOCK}{change}"));
        copy.optgate(&["ledger", "verify"]).failed(&words);
        let refusal = copy.refusal();
        assert!(refusal.contains(&words) && refusal.contains("it is evidence"), "{change}: {refusal}");
    }
}

/// A row that no version wrote is refused at start, and not left out.
#[test]
fn an_account_kept_by_its_hash_that_cannot_be_read_is_refused() {
    let house = House::with_two_erased();
    for change in [
        "UPDATE suppression SET subject = NULL WHERE id = 1",
        "UPDATE suppression SET subject = x'00' WHERE id = 1",
        "UPDATE suppression SET blinding = NULL WHERE id = 1",
        "UPDATE suppression SET gone = 6 WHERE id = 1",
    ] {
        let copy = house.copied();
        sql(&copy.folder().join("journal.sqlite3"), &format!("{UNLOCK}{change}"));
        copy.optgate(&["ledger", "verify"]).failed("cannot be read: it was changed");
        assert!(copy.refusal().contains("cannot be read: it was changed"), "{change}: {}", copy.refusal());
    }
}

/// The record that seals an account could be pruned like an old choice, and the chain would fit: so it is told how many
/// were pruned. That holds for a start which reads the index from its file, too.
#[test]
fn a_record_that_seals_accounts_cannot_be_pruned_away_with_them() {
    let house = House::with_two_erased();
    // Half way through a round that prunes, no file is written.
    let limits = config::Store { pack_after: Some(1), retention: None, ..config::Store::default() };
    let store = house.store_with(&limits);
    block_on(async {
        store.record(out(&store, 5)).await.unwrap();
        store.close().await;
    });
    assert!(house.folder().join("index.packed").exists());
    let digest = block_on(async {
        let path = house.folder().join("journal.sqlite3");
        let mut raw = SqliteConnectOptions::new().filename(path).connect().await.unwrap();
        let query = sqlx::query_scalar("SELECT canonical FROM journal WHERE seq = 6");
        let canonical: Vec<u8> = query.fetch_one(&mut raw).await.unwrap();
        raw.close().await.unwrap();
        hex(Sha256::digest(canonical))
    });
    let prune = format!(
        "UPDATE journal SET canonical = NULL, digest = x'{digest}', time_us = 0, reference = NULL WHERE seq = 6;"
    );
    for (change, words) in [
        (prune.clone(), "record 6 is named as what seals"),
        (
            format!("{prune} DELETE FROM suppression WHERE seal = 6"),
            "1 records are pruned, and the records of what was done to the journal tell of 0",
        ),
        ("DELETE FROM suppression WHERE seal = 6".into(), "record 6 seals accounts"),
        (
            "UPDATE journal SET canonical = CAST(replace(canonical, 'erase', 'serve') AS BLOB) WHERE seq = 6"
                .into(),
            "record 6 does not fit the chain",
        ),
    ] {
        let copy = house.copied();
        sql(&copy.folder().join("journal.sqlite3"), &format!("{UNLOCK}{change}"));
        copy.optgate(&["ledger", "verify"]).failed(words);
        let refusal = match super::support::opened(&copy.folder(), &limits) {
            Ok(_) => panic!("{change}: it was opened"),
            Err(error) => error.to_string(),
        };
        assert!(refusal.contains(words), "{change}: {refusal}");
    }
}

/// An export carries what proves the accounts that are kept, and nothing that leads to them.
#[test]
fn an_export_proves_that_the_accounts_kept_are_those_that_were_sealed() {
    let house = House::with_two_erased();
    let key = house.kept("key.pem", &["ledger", "key"]);
    let export = house.kept("export.jsonl", &["ledger", "export", "--format", "proof"]);
    let whole = lines(&export);
    let verify = |lines: &[String]| {
        let file = write(&house.file("changed.jsonl"), lines);
        house.optgate(&["ledger", "verify", "--export", &file, "--key", &key])
    };
    let said = verify(&whole).ok();
    assert!(
        said.out.contains("of what was done to the journal: 2\naccounts kept by their hash alone: 2\n"),
        "{}",
        said.out
    );
    let (first, last) = (whole.len() - 2, whole.len() - 1);
    assert!(whole[first].starts_with("{\"kept\":{\"seal\":5,\"leaf\":"), "{}", whole[first]);
    verify(&whole[..last]).failed("record 6 seals accounts");
    verify(&whole[..first]).failed("record 5 seals accounts");
    let twice = [&whole[..], &whole[last..]].concat();
    verify(&twice).failed("record 6 seals accounts");
    let moved =
        [&whole[..first], &[whole[first].replace("\"seal\":5", "\"seal\":6"), whole[last].clone()]].concat();
    verify(&moved).failed("record 5 seals accounts");
}

/// Who upgrades loses nobody: what an earlier version kept is sealed at the first start, by a record that says so, and
/// what it pruned is told. From then on no hand takes it away. Until then the old journal is proven as it was.
#[test]
fn what_an_earlier_version_kept_is_sealed_at_the_upgrade_and_says_so() {
    let house = House::new();
    house.records(0..4);
    house.as_before_seals();
    house.optgate(&["ledger", "verify"]).ok();
    assert_eq!(house.standing(0), Standing::OptedOut);
    let done = house.done();
    let [[what, who, text]] = done.as_slice() else { panic!("{done:?}") };
    assert_eq!((what.as_str(), who.as_str()), ("seal", "start"));
    assert!(text.starts_with("v1 pruned=1 untied=1 kept=1/") && !text.contains("dropped"), "{text}");
    assert_eq!(house.standing(0), Standing::OptedOut, "and once more");
    assert_eq!(house.upkeep().len(), 1, "it is said once");
    let said = house.optgate(&["ledger", "verify"]).ok();
    assert!(said.out.contains("records: 5\npruned: 1\n"), "{}", said.out);
    assert_eq!(house.records(6..7).len(), 1, "it goes on from there");
    sql(&house.folder().join("journal.sqlite3"), &format!("{UNLOCK} DELETE FROM suppression"));
    assert!(house.refusal().contains("record 5 seals accounts"), "{}", house.refusal());

    let young = House::new();
    young.records(0..1);
    young.as_before_seals_without_any();
    young.records(1..2);
    assert!(young.upkeep().is_empty(), "nothing to seal, nothing to say");
}

impl House {
    /// Makes the journal one of before rows were sealed: account 0 was erased, and the second record pruned.
    fn as_before_seals(&self) {
        let digest = block_on(async {
            let path = self.folder().join("journal.sqlite3");
            let mut raw = SqliteConnectOptions::new().filename(path).connect().await.unwrap();
            let query = sqlx::query_scalar("SELECT canonical FROM journal WHERE seq = 2");
            let canonical: Vec<u8> = query.fetch_one(&mut raw).await.unwrap();
            raw.close().await.unwrap();
            hex(Sha256::digest(canonical))
        });
        self.as_before_seals_without_any();
        sql(
            &self.folder().join("journal.sqlite3"),
            &format!(
                "INSERT INTO suppression
                     SELECT subject, 'opted-out', 4, (SELECT key_check FROM secrets) FROM journal WHERE seq = 1;
                 UPDATE journal SET subject = NULL, blinding = NULL WHERE seq = 1;
                 UPDATE journal SET canonical = NULL, digest = x'{digest}', reference = NULL, subject = NULL,
                     blinding = NULL WHERE seq = 2"
            ),
        );
    }

    fn as_before_seals_without_any(&self) {
        sql(
            &self.folder().join("journal.sqlite3"),
            "DROP TABLE suppression; DROP INDEX journal_upkeep; DROP INDEX journal_pruned;
             CREATE TABLE suppression (subject BLOB PRIMARY KEY, standing TEXT NOT NULL, seq INTEGER NOT NULL,
                 key_check TEXT NOT NULL) STRICT, WITHOUT ROWID;
             DROP TRIGGER journal_only_forgets;
             UPDATE meta SET value = '7' WHERE key = 'schema'",
        );
    }
}

/// A hand that makes the journal old again, to have fewer accounts sealed anew, is found out by what was sealed before.
#[test]
fn a_journal_made_old_again_does_not_lose_what_was_sealed() {
    let house = House::with_two_erased();
    house.as_before_seals_without_any();
    drop(
        super::support::opened(&house.folder(), &config::Store::default())
            .map(|store| block_on(store.close())),
    );
    assert!(house.refusal().contains("record 5 seals accounts"), "{}", house.refusal());
    house.optgate(&["ledger", "verify"]).failed("record 5 seals accounts");
}

/// A backup carries accounts and seals, and one without an account that was in it is not put back.
#[test]
fn a_backup_carries_the_accounts_that_are_kept_and_their_seals() {
    let house = House::with_two_erased();
    let to = house.file("backup");
    house.optgate(&["ledger", "backup", to.to_str().unwrap(), "--with-keys"]).ok();
    let other = House::new();
    other.optgate(&["ledger", "restore", to.to_str().unwrap()]).ok();
    assert!(other.folder().join("journal.mark").exists(), "what is lost of it from here on is missed");
    assert_eq!((other.standing(1), other.standing(2)), (Standing::OptedOut, Standing::OptedOut));
    let said = other.optgate(&["ledger", "verify"]).ok();
    assert!(said.out.contains("accounts kept by their hash alone: 2\n"), "{}", said.out);
    other.erase(1);
    other.optgate(&["ledger", "verify"]).ok();

    sql(&to.join("journal.sqlite3"), &format!("{UNLOCK} DELETE FROM suppression WHERE id = 2"));
    let third = House::new();
    let restore = third.optgate(&["ledger", "restore", to.to_str().unwrap()]);
    restore.failed("record 6 seals accounts");
    assert!(!third.folder().join("journal.sqlite3").exists());
}

/// Domain 6: who opted back in and is erased is in nothing any more, though the seals of before still hold. A second
/// erasure of who is opted out leaves one word about them.
#[test]
fn an_erased_account_that_is_not_opted_out_leaves_nothing_that_leads_to_it() {
    let house = House::new();
    house.records(1..2);
    house.erase(1);
    let store = house.store();
    let subject = Subject::of_account(store.keys(), "shop", &[1]);
    block_on(async {
        store.record(Change { kind: Kind::OptIn, basis: None, ..out(&store, 1) }).await.unwrap();
        store.close().await;
    });
    assert_eq!(house.standing(1), Standing::OptedIn);
    assert_eq!(number(&house, "SELECT count(*) FROM suppression WHERE subject IS NOT NULL"), 1);
    house.erase(1);
    let left = "SELECT count(*) FROM suppression WHERE coalesce(subject, blinding, standing, seq, key_check) IS NOT NULL";
    assert_eq!(number(&house, left), 0);
    let tied = "SELECT count(*) FROM journal WHERE subject IS NOT NULL OR blinding IS NOT NULL";
    assert_eq!(number(&house, tied), 0);
    let of =
        format!("SELECT count(*) FROM journal WHERE instr(canonical, x'{}') > 0", hex(subject.as_bytes()));
    assert_eq!(number(&house, &of), 0);
    assert_eq!(house.standing(1), Standing::Unknown);
    house.optgate(&["ledger", "verify"]).ok();
    let texts: Vec<_> = house.done().into_iter().map(|[.., text]| text).collect();
    assert!(
        texts[0].starts_with("v1 records=1 elsewhere=0 pruned=0 kept=1/")
            && texts[1].starts_with("v1 records=1 elsewhere=0 pruned=0 dropped=1/"),
        "{texts:?}"
    );

    let again = House::with_two_erased();
    again.erase(1);
    assert_eq!(number(&again, "SELECT count(*) FROM suppression WHERE subject IS NOT NULL"), 2);
    assert_eq!(again.standing(1), Standing::OptedOut);
    again.optgate(&["ledger", "verify"]).ok();
    again.erase(9);
    assert_eq!(again.upkeep().len(), 3, "an order about nobody does nothing");
}

/// Who did what, and when. The record leads to nobody, counts as nobody's choice, can be proven alone, and stays
/// when all else is pruned.
#[test]
fn orders_that_change_the_journal_leave_a_record_each() {
    let house = House::new();
    let references = house.records(0..3);
    let hold = ["ledger", "hold", "add", "--reference", &references[1], "--reason", "case of Ann"];
    house.optgate(&hold).ok();
    house.optgate(&["ledger", "hold", "add", "--site", "shop", "--reason", "all"]).ok();
    house.optgate(&["ledger", "hold", "list"]).ok();
    house.optgate(&["ledger", "hold", "remove", "2"]).ok();
    house.optgate(&["ledger", "hold", "remove", "7"]).failed("has no hold 7");
    house
        .optgate(&["ledger", "hold", "add", "--reference", "0000-0000-0000-0000", "--reason", "x"])
        .failed("has no record with the reference 0000-0000-0000-0000");
    let prune = ["ledger", "prune", "--force", "--before", "2099-01-01"];
    house.optgate(&[&prune[..], &["--dry-run"]].concat()).ok();
    house.optgate(&prune).ok();
    house.optgate_told(&["ledger", "erase", "--site", "shop", "--force"], "\u{1}\n").ok();
    house.optgate(&prune).ok();
    let done = house.done();
    let kept = |text: &str| text.split(' ').filter(|word| !word.contains('/')).collect::<Vec<_>>().join(" ");
    let told: Vec<_> =
        done.iter().map(|[what, who, text]| (what.as_str(), who.as_str(), kept(text))).collect();
    let prune_said = "v1 records=2 before=2099-01-01T00:00:00Z untied=0 tied=2 vouched=2".to_owned();
    assert_eq!(
        told,
        [
            ("hold", "order", "v1 hold=1 record=2".to_owned()),
            ("hold", "order", "v1 hold=2 site=shop".into()),
            ("release", "order", "v1 hold=2".into()),
            ("prune", "order", prune_said),
            ("erase", "order", "v1 records=1 elsewhere=0 pruned=0".into()),
        ]
    );
    let upkeep = house.upkeep();
    let names: Vec<_> = upkeep[0].as_object().unwrap().keys().map(String::as_str).collect();
    let mut fields = ["seq", "node", "time", "site", "kind", "signal", "basis", "policy", "reference"];
    fields.sort_unstable();
    assert_eq!(names, fields);
    assert!(upkeep.iter().all(|record| record["site"] == ""));
    let text = Value::from(upkeep.clone()).to_string();
    assert!(!text.contains(&references[1]) && !text.contains("Ann"), "{text}");
    let reference = upkeep[3]["reference"].as_str().unwrap();
    let proof = house.kept("proof.json", &["ledger", "proof", reference]);
    house.optgate(&["ledger", "verify", "--proof", &proof]).ok();
    let store = house.store();
    assert_eq!(store.health().records, 3, "of choices");
    block_on(store.close());
    house.optgate(&["ledger", "verify"]).ok();
}

/// A start under a key that is new since the last one notes it, once; a secret that goes is noted too.
#[test]
fn new_keys_are_noted_by_the_start_that_takes_them_and_retired_ones_by_their_order() {
    let house = House::new();
    house.records(0..1);
    assert!(house.upkeep().is_empty(), "the first keys are no news");
    house.optgate(&["keys", "rotate", "--signing"]).ok();
    house.optgate(&["keys", "rotate"]).ok();
    let listed = house.optgate(&["keys", "list"]).ok().out;
    let check = listed.split('\t').next().unwrap();
    // Killed before it signs, so to say: nothing is said twice.
    for _ in 0..3 {
        block_on(house.store().close());
    }
    let done = house.done();
    assert_eq!(done[0], ["secret", "start", &format!("v1 check={check} carried=0")].map(str::to_owned));
    let [what, who, text] = &done[1];
    assert_eq!((what.as_str(), who.as_str(), done.len()), ("signer", "start", 2));
    let key = text.strip_prefix("v1 key=").unwrap();
    let said = house.optgate(&["ledger", "verify"]).ok();
    assert!(said.out.contains(&format!("signed with: {key}\n")), "{}", said.out);
    house.optgate(&["keys", "retire"]).failed("1 opted-out accounts are known under an earlier secret alone");
    assert_eq!(house.done().len(), 2);
    house.erase(0);
    let store = house.store();
    block_on(async {
        let older = store.keys().older().iter().map(|keys| Subject::of_account(keys, "shop", &[0]));
        store.carry(&older.collect::<Vec<_>>(), out(&store, 0));
        store.close().await;
    });
    house.optgate(&["keys", "retire"]).ok();
    assert_eq!(house.done().last().unwrap(), &["retire", "order", "v1 secrets=1"].map(str::to_owned));
    assert_eq!(house.standing(0), Standing::OptedOut);
    house.optgate(&["ledger", "verify"]).ok();
}

/// What a hold keeps is not untied by another order, unless somebody insists.
#[test]
fn an_account_under_a_hold_is_not_erased_unasked() {
    let house = House::new();
    let references = house.records(0..4);
    house.optgate(&["ledger", "hold", "add", "--reference", &references[1], "--reason", "case 12"]).ok();
    let erase = |more: &[&str]| {
        let args = [&["ledger", "erase", "--site", "shop"], more].concat();
        house.optgate_told(&args, "\u{1}\n")
    };
    erase(&[]).failed("1 of the account's records are under a legal hold");
    assert_eq!(number(&house, "SELECT count(*) FROM journal WHERE subject IS NULL AND seq <= 4"), 0);
    house.erase(2);
    erase(&["--force"]).ok();
    assert_eq!(number(&house, "SELECT count(*) FROM journal WHERE subject IS NULL AND seq <= 4"), 2);
}

/// What ties a record to its account may go, so that accounts can be erased: by an order, and by no other hand.
#[test]
fn a_record_that_no_order_untied_is_told() {
    let house = House::with_two_erased();
    house.optgate(&["ledger", "verify"]).ok();
    sql(
        &house.folder().join("journal.sqlite3"),
        "UPDATE journal SET subject = NULL, blinding = NULL WHERE seq = 1",
    );
    house.optgate(&["ledger", "verify"]).failed("3 records have lost what ties them to an account");
}
