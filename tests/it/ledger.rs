//! The journal as evidence, with the program itself: proven with a public key, and the first bad record named.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use serde_json::Value;
use sqlx::ConnectOptions as _;
use sqlx::Connection as _;
use sqlx::sqlite::SqliteConnectOptions;

use optgate::config;
use optgate::privacy::{Basis, Standing, Subject};
use optgate::store::{Change, Kind, Source, Store};

use super::support::opened;

/// A data folder, and what a person types about it.
pub(super) struct House {
    pub(super) dir: tempfile::TempDir,
}

/// What a verb said.
pub(super) struct Said {
    pub(super) code: Option<i32>,
    pub(super) out: String,
    pub(super) err: String,
}

impl House {
    pub(super) fn new() -> Self {
        Self { dir: tempfile::tempdir().unwrap() }
    }

    pub(super) fn folder(&self) -> PathBuf {
        self.dir.path().join("data")
    }

    pub(super) fn file(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub(super) fn store(&self) -> Store {
        self.store_with(&config::Store::default())
    }

    /// Why the store cannot be opened.
    pub(super) fn refusal(&self) -> String {
        opened(&self.folder(), &config::Store::default()).unwrap_err().to_string()
    }

    pub(super) fn store_with(&self, limits: &config::Store) -> Store {
        opened(&self.folder(), limits).unwrap()
    }

    /// Opens the store, records so many opt-outs of accounts, closes it; their references.
    pub(super) fn records(&self, accounts: std::ops::Range<u8>) -> Vec<String> {
        let store = self.store();
        block_on(async {
            let mut references = Vec::new();
            for account in accounts {
                references.push(store.record(out(&store, account)).await.unwrap().reference);
            }
            store.close().await;
            references
        })
    }

    pub(super) fn optgate(&self, args: &[&str]) -> Said {
        self.optgate_told(args, "")
    }

    pub(super) fn optgate_told(&self, args: &[&str], stdin: &str) -> Said {
        use std::io::Write as _;
        let mut child = self.started(args);
        // A verb that asks nothing may have ended already.
        let _ = child.stdin.take().unwrap().write_all(stdin.as_bytes());
        let output = child.wait_with_output().unwrap();
        Said {
            code: output.status.code(),
            out: String::from_utf8(output.stdout).unwrap(),
            err: String::from_utf8(output.stderr).unwrap(),
        }
    }

    /// A verb that runs.
    fn started(&self, args: &[&str]) -> Child {
        Command::new(env!("CARGO_BIN_EXE_optgate"))
            .args(args)
            .arg("--data-dir")
            .arg(self.folder())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap()
    }

    /// Writes what a verb prints into a file.
    pub(super) fn kept(&self, name: &str, args: &[&str]) -> String {
        let said = self.optgate(args);
        assert_eq!(said.code, Some(0), "{}", said.err);
        let file = self.file(name);
        fs::write(&file, said.out).unwrap();
        file.to_str().unwrap().to_owned()
    }

    pub(super) fn sql(&self, sql: &'static str) {
        block_on(async {
            let path = self.folder().join("journal.sqlite3");
            let mut raw = SqliteConnectOptions::new().filename(path).connect().await.unwrap();
            sqlx::raw_sql(sql).execute(&mut raw).await.unwrap();
            raw.close().await.unwrap();
        });
    }
}

impl Said {
    pub(super) fn ok(self) -> Self {
        assert_eq!(self.code, Some(0), "{}{}", self.out, self.err);
        self
    }

    /// It failed, and said so with these words.
    pub(super) fn failed(self, words: &str) {
        assert_eq!(self.code, Some(1), "{}{}", self.out, self.err);
        assert!(self.err.contains(words), "{words:?} is not in {:?}", self.err);
    }
}

pub(super) fn block_on<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(work)
}

pub(super) fn out(store: &Store, account: u8) -> Change {
    Change {
        time_us: 1_795_000_000_000_000,
        site: "shop".into(),
        kind: Kind::OptOut,
        source: Source::Form,
        basis: Some(Basis::Account),
        policy: "p".into(),
        subject: Some(Subject::of_account(store.keys(), "shop", &[account])),
    }
}

pub(super) fn lines(file: &str) -> Vec<String> {
    fs::read_to_string(file).unwrap().lines().map(str::to_owned).collect()
}

pub(super) fn write(file: &Path, lines: &[String]) -> String {
    fs::write(file, lines.join("\n") + "\n").unwrap();
    file.to_str().unwrap().to_owned()
}

/// Issue 6: `ledger verify` proves a journal or an export offline with the public key alone. The key is made on
/// first start, for its owner only; a stop signs what is new.
#[test]
fn a_folder_and_its_export_are_proven_with_the_public_key() {
    use std::os::unix::fs::PermissionsExt as _;
    let house = House::new();
    house.records(0..5);
    house.records(5..7);
    let mode = fs::metadata(house.folder().join("signing.key")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let key = house.kept("key.pem", &["ledger", "key"]);
    assert!(fs::read_to_string(&key).unwrap().starts_with("-----BEGIN PUBLIC KEY-----\n"));
    let said = house.optgate(&["ledger", "verify", "--key", &key]).ok();
    assert!(
        said.out.contains("records: 7\n") && said.out.contains("signed up to record: 7\n"),
        "{}",
        said.out
    );
    assert!(said.out.contains("checkpoints: 2\n") && said.err.is_empty(), "{}{}", said.out, said.err);
    let said = house.optgate(&["ledger", "verify"]).ok();
    assert!(said.err.contains("no --key was given"), "{}", said.err);
    let export = house.kept("export.jsonl", &["ledger", "export", "--format", "proof"]);
    let elsewhere = House::new();
    let said = elsewhere.optgate(&["ledger", "verify", "--export", &export, "--key", &key]).ok();
    assert!(said.out.contains("records: 7\n"), "{}", said.out);
    // Whoever wrote the file anew would sign it with a key of their own.
    let stranger = House::new();
    stranger.records(0..1);
    let other = stranger.kept("key.pem", &["ledger", "key"]);
    let said = elsewhere.optgate(&["ledger", "verify", "--export", &export, "--key", &other]);
    said.failed("which no key that was given vouches for");
}

/// Issue 6: the first bad record is named, whatever was done to the file.
#[test]
fn a_changed_export_is_not_proven_and_the_first_bad_record_is_named() {
    let house = House::new();
    house.records(0..4);
    house.records(4..6);
    let key = house.kept("key.pem", &["ledger", "key"]);
    let export = house.kept("export.jsonl", &["ledger", "export", "--format", "proof"]);
    let whole = lines(&export);
    let at = |seq: usize| whole.iter().position(|l| l.contains(&format!("\"seq\":{seq},"))).unwrap();
    let verify = |changed: &[String]| {
        let file = write(&house.file("changed.jsonl"), changed);
        house.optgate(&["ledger", "verify", "--export", &file, "--key", &key])
    };
    verify(&whole).ok();
    let mut changed = whole.clone();
    let mut record: Value = serde_json::from_str(&whole[at(3)]).unwrap();
    let bytes = record["record"]["canonical"].as_str().unwrap();
    let mut bytes = data_encoding::BASE64.decode(bytes.as_bytes()).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    record["record"]["canonical"] = data_encoding::BASE64.encode(&bytes).into();
    changed[at(3)] = record.to_string();
    verify(&changed).failed("record 3 does not fit the chain");
    let mut lost = whole.clone();
    lost.remove(at(2));
    verify(&lost).failed("record 2 does not fit the chain");
    let mut twice = whole.clone();
    twice.insert(at(2), whole[at(2)].clone());
    verify(&twice).failed("record 3 does not fit the chain");
    let signed = whole.iter().position(|line| line.contains("checkpoint")).unwrap();
    let mut unsigned = whole.clone();
    unsigned.remove(signed);
    verify(&unsigned).failed("the checkpoint at record 6 follows one at record 4");
    let mut bent = whole.clone();
    let mut checkpoint: Value = serde_json::from_str(&whole[signed]).unwrap();
    checkpoint["checkpoint"]["signature"] = data_encoding::BASE64.encode(&[7; 64]).into();
    bent[signed] = checkpoint.to_string();
    verify(&bent).failed("does not bear its key's signature");
    verify(&["{}".to_owned()]).failed("changed.jsonl:1: is not a line");
    // What was cut off at the end is proven as far as it goes, and says how far.
    let said = verify(&whole[..=signed]).ok();
    assert!(
        said.out.contains("records: 4\n") && said.out.contains("signed up to record: 4\n"),
        "{}",
        said.out
    );
    verify(&whole[..signed]).failed("nothing is signed yet");
}

/// A hand that rewrites the journal and its chain cannot sign it; one that takes away its end is found at start.
#[test]
fn a_rewritten_journal_and_a_cut_one_are_found_out() {
    let house = House::new();
    house.records(0..3);
    house.sql(
        "DROP TRIGGER journal_keeps_its_rows; DROP TRIGGER checkpoints_stay;
         DELETE FROM journal WHERE seq = 3",
    );
    let error = house.refusal();
    assert!(error.contains("ends with record 2, but record 3 was signed"), "{error}");
    house.optgate(&["ledger", "verify"]).failed("records 1 to 3 are not those that were signed at record 3");
    house.sql("DELETE FROM checkpoints");
    house
        .optgate(&["ledger", "verify"])
        .failed("ends with record 2, but 3 had been written and acknowledged");
    fs::remove_file(house.folder().join("journal.mark")).unwrap();
    house.optgate(&["ledger", "verify"]).failed("nothing is signed yet");
}

/// Issue 6: an inclusion proof for one record. It holds that record and some hashes, and no other record.
#[test]
fn one_record_is_proven_alone() {
    let house = House::new();
    let references = house.records(0..9);
    let key = house.kept("key.pem", &["ledger", "key"]);
    let elsewhere = House::new();
    for (n, reference) in references.iter().enumerate() {
        let proof = house.kept("proof.json", &["ledger", "proof", &reference.to_lowercase()]);
        let text = fs::read_to_string(&proof).unwrap();
        let parsed: Value = serde_json::from_str(&text).unwrap();
        assert!(parsed["path"].as_array().unwrap().len() <= 4, "{text}");
        let said = elsewhere.optgate(&["ledger", "verify", "--proof", &proof, "--key", &key]).ok();
        let record: Value = serde_json::from_str(&said.out).unwrap();
        assert_eq!((&record["reference"], &record["seq"]), (&reference.as_str().into(), &(n + 1).into()));
    }
    let proof = house.kept("proof.json", &["ledger", "proof", &references[4]]);
    let mut other: Value = serde_json::from_str(&fs::read_to_string(&proof).unwrap()).unwrap();
    let mut bytes = data_encoding::BASE64.decode(other["record"].as_str().unwrap().as_bytes()).unwrap();
    let at = bytes.windows(4).position(|w| w == b"shop").unwrap();
    bytes[at] = b'x';
    other["record"] = data_encoding::BASE64.encode(&bytes).into();
    fs::write(&proof, other.to_string()).unwrap();
    let said = elsewhere.optgate(&["ledger", "verify", "--proof", &proof, "--key", &key]);
    said.failed("record 5 is not among those that were signed at record 9");
    house.optgate(&["ledger", "proof", "0000-0000-0000-0000"]).failed("has no record with the reference");
    house.optgate(&["ledger", "proof", "nonsense"]).failed("a reference is 16 letters and digits");
    let store = house.store();
    let new = block_on(async { store.record(out(&store, 20)).await.unwrap().reference });
    house.optgate(&["ledger", "proof", &new]).failed("it is not signed yet");
    block_on(store.close());
    house.optgate(&["ledger", "proof", &new]).ok();
}

/// A journal that lost its end, with its mark and its signatures, fits together as one that never had it. Who holds a
/// proof of then, or a line of the log, can show that it had.
#[test]
fn a_journal_that_was_cut_is_held_against_what_was_known_of_it() {
    let house = House::new();
    house.records(0..5);
    let copy = House::new();
    fs::create_dir(copy.folder()).unwrap();
    for entry in fs::read_dir(house.folder()).unwrap() {
        let entry = entry.unwrap();
        if entry.file_type().unwrap().is_file() {
            fs::copy(entry.path(), copy.folder().join(entry.file_name())).unwrap();
        }
    }
    let references = house.records(5..9);
    let key = house.kept("key.pem", &["ledger", "key"]);
    let proof = house.kept("proof.json", &["ledger", "proof", &references[0]]);
    let head = optgate::store::chain_at(&house.folder(), 9).unwrap().unwrap();
    let line = format!("9:{}", data_encoding::HEXLOWER.encode(&head));
    for known in [&proof, &line] {
        house.optgate(&["ledger", "verify", "--holds", known, "--key", &key]).ok();
    }
    copy.optgate(&["ledger", "verify", "--key", &key]).ok();
    for known in [&proof, &line] {
        let said = copy.optgate(&["ledger", "verify", "--holds", known, "--key", &key]);
        said.failed("it is not there: the journal lost its end, or was set back");
    }
    let other = format!("5:{}", &line[2..]);
    house.optgate(&["ledger", "verify", "--holds", &other]).failed("it was another then");
    house.optgate(&["ledger", "verify", "--holds", "9:ff"]).failed("9:ff cannot be read");
}

/// `store.checkpoint`: a server signs by itself while there is something new.
#[test]
fn a_server_signs_every_so_often() {
    let house = House::new();
    let limits =
        config::Store { checkpoint: std::time::Duration::from_millis(20), ..config::Store::default() };
    let store = house.store_with(&limits);
    for account in 0..2 {
        let reference = block_on(async { store.record(out(&store, account)).await.unwrap().reference });
        crate::support::wait_until("the record is signed", || {
            house.optgate(&["ledger", "proof", &reference]).code == Some(0)
        });
    }
    let said = house.optgate(&["ledger", "verify"]).ok();
    assert!(said.out.contains("checkpoints: 2\n"), "idle time signs nothing: {}", said.out);
    block_on(store.close());
}

/// A new signing key in place of a lost one would leave old proofs to nobody.
#[test]
fn a_lost_or_exchanged_signing_key_is_refused_at_start() {
    let house = House::new();
    house.records(0..1);
    let path = house.folder().join("signing.key");
    let kept = fs::read(&path).unwrap();
    let refusal = || house.refusal();
    fs::remove_file(&path).unwrap();
    assert!(
        refusal().contains("signing.key: is missing, but there is a journal that is signed"),
        "{}",
        refusal()
    );
    assert!(!path.exists());
    fs::write(&path, data_encoding::BASE64.encode(&[1; 32])).unwrap();
    assert!(refusal().contains("signing.key: is another key"), "{}", refusal());
    fs::write(&path, kept).unwrap();
    block_on(house.store().close());
}

impl House {
    pub(super) fn standing(&self, account: u8) -> Standing {
        let store = self.store();
        let standing = store.lookup(&Subject::of_account(store.keys(), "shop", &[account]));
        block_on(store.close());
        standing
    }

    /// Account 7 opts out and back in.
    pub(super) fn opted_in(&self) {
        let store = self.store();
        block_on(async {
            store.record(out(&store, 7)).await.unwrap();
            let back = Change { kind: Kind::OptIn, basis: None, ..out(&store, 7) };
            store.record(back).await.unwrap();
            store.close().await;
        });
    }

    /// Records of choices in the export.
    fn exported(&self) -> usize {
        let said = self.optgate(&["ledger", "export"]).ok();
        said.out.lines().filter(|line| !line.contains("\"kind\":\"upkeep\"")).count()
    }
}

/// 11 CCR 7101: records are kept for 24 months; issue 6: then replaced by their hashes so that the chain still
/// verifies; a legal hold keeps them; nobody's opt-out is lost, and no opt-in is turned round.
#[test]
fn old_records_give_way_to_their_digests_and_nobodys_opt_out_is_lost() {
    let house = House::new();
    let references = house.records(0..4);
    house.opted_in();
    let key = house.kept("key.pem", &["ledger", "key"]);
    let hold = ["ledger", "hold", "add", "--reference", &references[1], "--reason", "case 12"];
    let said = house.optgate(&hold).ok();
    assert!(said.out.starts_with(&format!("1\trecord {}\t", references[1])), "{}", said.out);
    let later = ["ledger", "prune", "--force", "--before", "2026-11-19"];
    let dry = house.optgate(&["ledger", "prune", "--before", "2026-11-19", "--dry-run"]).ok();
    let counts =
        "held: 1\nof the first format, kept whole: 0\naccounts kept as opted out by their hash alone: 3\n";
    assert_eq!(dry.out, format!("would be pruned: 5\n{counts}"));
    assert_eq!(house.exported(), 6, "a dry run prunes nothing");
    assert_eq!(
        house.optgate(&["ledger", "prune", "--force", "--before", "2026-11-18"]).ok().out.lines().next(),
        Some("pruned: 0")
    );
    assert_eq!(house.optgate(&["ledger", "prune"]).ok().out.lines().next(), Some("pruned: 0"), "24 months");
    assert_eq!(house.optgate(&later).ok().out, format!("pruned: 5\n{counts}"));
    assert_eq!(house.exported(), 1);
    let said = house.optgate(&["ledger", "verify", "--key", &key]).ok();
    let counts =
        "records: 8\npruned: 5\nof what was done to the journal: 2\naccounts kept by their hash alone: 3\n";
    assert!(said.out.contains(counts), "{}", said.out);
    house.optgate(&["ledger", "proof", &references[1]]).ok();
    house.optgate(&["ledger", "proof", &references[0]]).failed("has no record with the reference");
    assert!((0..4).all(|account| house.standing(account) == Standing::OptedOut));
    assert_eq!(house.standing(7), Standing::Unknown, "who opted back in is not opted out by forgetting");
    house.optgate(&["ledger", "hold", "remove", "2"]).failed("has no hold 2");
    assert_eq!(house.optgate(&["ledger", "hold", "remove", "1"]).ok().out, "");
    house.optgate(&["ledger", "hold", "add", "--site", "shop", "--reason", "all of it"]).ok();
    assert_eq!(house.optgate(&later).ok().out.lines().next(), Some("pruned: 0"));
    let said = house.optgate(&["ledger", "hold", "list"]).ok();
    assert!(said.out.contains("\tsite shop\t") && said.out.ends_with("\tall of it\n"), "{}", said.out);
    house.optgate(&["ledger", "hold", "remove", "1"]).ok();
    assert_eq!(house.optgate(&later).ok().out.lines().next(), Some("pruned: 1"));
    assert!((0..4).all(|account| house.standing(account) == Standing::OptedOut));
    house.records(1..2);
    let said = house.optgate(&["ledger", "verify", "--key", &key]).ok();
    assert!(said.out.contains("records: 13\npruned: 6\n"), "the chain goes on: {}", said.out);
    let store = house.store();
    house.optgate(&later).failed("another optgate has the data folder and does not listen");
    block_on(store.close());
}

/// What the law has kept for 24 months goes only on purpose, and a word misspelt protects and erases nothing unsaid.
#[test]
fn young_records_are_pruned_only_on_purpose_and_names_nobody_has_are_refused() {
    let house = House::new();
    house.records(0..3);
    for day in ["2026-11-19", "2099-01-01"] {
        house.optgate(&["ledger", "prune", "--before", day]).failed("Say --dry-run to see how many, --force");
    }
    house.optgate(&["ledger", "prune", "--before", "2024-01-01"]).ok();
    let said = house.optgate(&["ledger", "prune", "--force"]);
    assert!(said.code == Some(2) && said.err.contains("--before"), "{}", said.err);
    assert_eq!(house.exported(), 3);
    for args in [&["hold", "add", "--site", "shpo", "--reason", "case 12"][..], &["erase", "--site", "shpo"]]
    {
        house
            .optgate_told(&[&["ledger"], args].concat(), "\u{1}\n")
            .failed("no site is named \"shpo\", in the settings or in a record; the settings have default");
    }
    for site in ["shop", "default"] {
        house.optgate(&["ledger", "hold", "add", "--site", site, "--reason", "case 12"]).ok();
    }
    let said = house.optgate(&["ledger", "hold", "add", "--site", "shop", "--reason", ""]);
    assert!(said.code == Some(2) && said.err.contains("--reason"), "{}", said.err);
}

/// Only what the chain is over says how old a record is: columns that were changed beside it must not have it pruned.
#[test]
fn a_record_made_older_than_it_is_is_refused_and_not_pruned() {
    for change in [
        "UPDATE journal SET time_us = 1000000 WHERE seq = 2",
        "UPDATE journal SET reference = '0000-0000-0000-0000' WHERE seq = 2",
        "UPDATE journal SET reference = substr(reference, 2) WHERE seq = 2",
        "UPDATE journal SET reference = '' WHERE seq = 2",
        "UPDATE journal SET reference = NULL WHERE seq = 2",
    ] {
        let house = House::new();
        house.records(0..3);
        let store = house.store();
        house.sql("DROP TRIGGER journal_only_forgets");
        house.sql(change);
        let error = block_on(store.prune(i64::MAX, false)).unwrap_err().to_string();
        assert!(error.contains("record 2 does not fit the chain"), "{change}: {error}");
        block_on(store.close());
        house.optgate(&["ledger", "verify"]).failed("record 2 does not fit the chain");
        assert!(house.refusal().contains("record 2 does not fit the chain"), "{change}");
    }
}

/// In a folder that others may enter, too.
#[test]
fn the_journal_is_for_its_user_only() {
    use std::os::unix::fs::PermissionsExt as _;
    let house = House::new();
    fs::create_dir(house.folder()).unwrap();
    fs::set_permissions(house.folder(), fs::Permissions::from_mode(0o755)).unwrap();
    let store = house.store();
    block_on(store.record(out(&store, 1))).unwrap();
    for name in ["journal.sqlite3", "journal.sqlite3-wal", "journal.sqlite3-shm", "journal.mark"] {
        let mode = fs::metadata(house.folder().join(name)).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode, 0o600, "{name}");
    }
    block_on(store.close());
}

/// `store.retention`: a server prunes by itself.
#[test]
fn a_server_prunes_what_is_older_than_the_retention() {
    let house = House::new();
    house.records(0..3);
    let limits =
        config::Store { retention: Some(std::time::Duration::from_secs(86_400)), ..config::Store::default() };
    let store = house.store_with(&limits);
    crate::support::wait_until("the records are pruned", || house.exported() == 0);
    let held = block_on(store.record(out(&store, 0))).unwrap();
    assert_eq!(held.seq, 5);
    block_on(store.close());
    assert!(house.optgate(&["ledger", "verify"]).ok().out.contains("records: 5\npruned: 3\n"));
    assert_eq!(house.standing(2), Standing::OptedOut);
}

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

/// Issue 6: backup beside a running server, consistent; restore verified before it is put in place.
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

/// Issue 6: keys are rotated without losing anyone's opt-out: an account that is known under an earlier secret
/// counts, is recorded anew under the live one, and only then can the earlier one go.
#[test]
fn a_secret_is_rotated_and_retired_and_nobodys_opt_out_is_lost() {
    use std::os::unix::fs::PermissionsExt as _;
    let house = House::new();
    house.records(0..2);
    let before = house.optgate(&["keys", "list"]).ok().out;
    let check = before.strip_suffix("\tlive\n").unwrap();
    let secret = house.folder().join("secret.key");
    let kept = fs::read_to_string(&secret).unwrap();
    let said = house.optgate(&["keys", "rotate"]).ok().out;
    assert!(said.ends_with(&format!("\tlive\n{check}\tearlier\n")), "{said}");
    assert!(fs::read_to_string(&secret).unwrap().ends_with(&kept));
    assert_eq!(fs::metadata(&secret).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(house.standing(0), Standing::Unknown, "its hash is another now");
    house.optgate(&["keys", "retire"]).failed("2 opted-out accounts are known under an earlier secret alone");

    let store = house.store();
    let seen = |account: u8| {
        let live = out(&store, account);
        let older = store.keys().older().iter().map(|keys| Subject::of_account(keys, "shop", &[account]));
        store.carry(&older.collect::<Vec<_>>(), live)
    };
    assert_eq!(seen(9), Standing::Unknown);
    assert_eq!(seen(0), Standing::OptedOut);
    assert_eq!(
        store.lookup(&out(&store, 0).subject.unwrap()),
        Standing::OptedOut,
        "and from now on by itself"
    );
    block_on(store.close());
    assert_eq!(house.exported(), 3);
    house.optgate(&["keys", "retire"]).failed("1 opted-out accounts are known");
    let store = house.store();
    let older = store.keys().older().iter().map(|keys| Subject::of_account(keys, "shop", &[1]));
    assert_eq!(store.carry(&older.collect::<Vec<_>>(), out(&store, 1)), Standing::OptedOut);
    block_on(store.close());
    let whole = fs::read(&secret).unwrap();
    let said = house.optgate(&["keys", "retire"]).ok().out;
    assert_eq!(said.lines().count(), 1, "{said}");
    assert_eq!(fs::read_to_string(&secret).unwrap().lines().count(), 1);
    assert!((0..2).all(|account| house.standing(account) == Standing::OptedOut));
    // A file that lost the live secret would match nobody; one that still has the retired one does no harm.
    fs::write(&secret, &kept).unwrap();
    let error = house.refusal();
    assert!(error.contains("another secret.key"), "{error}");
    fs::write(&secret, whole).unwrap();
    house.optgate(&["ledger", "verify"]).ok();
    assert_eq!(house.standing(0), Standing::OptedOut);
}

/// A store that was rotated after account 0 opted out, and that opt-out as it is recorded under the live secret and as it
/// would be under the one before.
fn rotated_with_one_out(house: &House) -> (Store, Change, Change) {
    house.records(0..1);
    house.optgate(&["keys", "rotate"]).ok();
    let store = house.store();
    let live = out(&store, 0);
    let old = Subject::of_account(&store.keys().older()[0], "shop", &[0]);
    let listed = house.optgate(&["keys", "list"]).ok().out;
    let checks: Vec<&str> = listed.lines().filter_map(|line| line.split('\t').next()).collect();
    let late = Change { subject: Some(old), ..live.clone() }.hashed_under(checks[1], checks[0]);
    (store, live, late)
}

/// Issue 6: the process that an upgrade ends may still record under the secret of before a rotation. The later word of the
/// two hashes holds, also after a start, and until it is recorded anew the secret cannot go.
#[test]
fn the_later_of_two_words_under_two_secrets_holds() {
    let house = House::new();
    let (store, live, late) = rotated_with_one_out(&house);
    let old = late.subject.unwrap();
    let known = |store: &Store| store.lookup_all(&live.subject.unwrap(), &[old]);
    let back_in = Change { kind: Kind::OptIn, source: Source::Form, basis: None, ..live.clone() };
    block_on(async {
        assert_eq!(store.carry(&[old], live.clone()), Standing::OptedOut);
        store.record(back_in.clone()).await.unwrap();
        assert_eq!(known(&store), Standing::OptedIn, "the opt-in is the later word");
        store.record(late).await.unwrap();
        assert_eq!(known(&store), Standing::OptedOut, "the opt-out is");
        store.close().await;
    });
    house.optgate(&["keys", "retire"]).failed("1 opted-out accounts are known under an earlier secret alone");
    let store = house.store();
    assert_eq!(known(&store), Standing::OptedOut, "after a start");
    assert_eq!(store.carry(&[old], live.clone()), Standing::OptedOut);
    block_on(store.close());
    let store = house.store();
    block_on(async {
        store.record(back_in).await.unwrap();
        assert_eq!(known(&store), Standing::OptedIn);
        store.close().await;
    });
    assert_eq!(known(&house.store()), Standing::OptedIn);
}

/// As above, where it comes while the other's record is still on its way to the disk.
#[test]
fn an_opt_out_under_the_old_secret_right_behind_a_carry_keeps_that_secret() {
    let house = House::new();
    let (store, live, late) = rotated_with_one_out(&house);
    block_on(async {
        assert_eq!(store.carry(&[late.subject.unwrap()], live), Standing::OptedOut);
        store.record(late).await.unwrap();
        store.close().await;
    });
    house.optgate(&["keys", "retire"]).failed("1 opted-out accounts are known under an earlier secret alone");
}

/// Issue 6: who trusts the public key of before or of after can prove all of it. A lost key is told apart.
#[test]
fn a_signing_key_is_rotated_and_both_public_keys_verify() {
    let house = House::new();
    let references = house.records(0..2);
    let old = house.kept("old.pem", &["ledger", "key"]);
    let early = house.kept("early.json", &["ledger", "proof", &references[0]]);
    let new = house.kept("new.pem", &["keys", "rotate", "--signing"]);
    assert_ne!(fs::read(&old).unwrap(), fs::read(&new).unwrap());
    assert_eq!(fs::read_to_string(&new).unwrap(), house.optgate(&["ledger", "key"]).ok().out);
    let references = house.records(2..4);
    let late = house.kept("late.json", &["ledger", "proof", &references[0]]);
    for key in [&old, &new] {
        let said = house.optgate(&["ledger", "verify", "--key", key]).ok();
        assert!(said.out.contains("signed up to record: 5\n"), "{}", said.out);
        house.optgate(&["ledger", "verify", "--proof", &late, "--key", key]).ok();
    }
    house.optgate(&["ledger", "verify", "--proof", &early, "--key", &old]).ok();

    fs::remove_file(house.folder().join("signing.key")).unwrap();
    house.optgate(&["keys", "rotate", "--signing"]).failed("`optgate keys new-signer` makes another");
    let third = house.kept("third.pem", &["keys", "new-signer"]);
    house.optgate(&["keys", "new-signer"]).failed("`optgate keys rotate --signing` replaces it");
    house.records(4..5);
    let said = house.optgate(&["ledger", "verify", "--key", &third]).ok();
    assert!(said.out.contains("signed up to record: 7\n"), "{}", said.out);
    house.optgate(&["ledger", "verify", "--key", &old]).failed("up to record 5 all is proven");
}

/// Issue 6: imports with provenance; dry run; the same file twice adds nothing; a bad row is named by its line and
/// costs no other row its opt-out.
#[test]
fn a_file_of_opt_outs_is_imported_once_and_says_where_each_came_from() {
    let house = House::new();
    house.records(0..1);
    house.opted_in();
    let file = house.file("drop.csv");
    let rows = "account,site,date\nann,shop,2026-11-20\nbob,shop,2026-11-20\nann,shop,2026-11-21\n";
    fs::write(&file, rows).unwrap();
    let settings = house.file("optgate.toml");
    fs::write(
        &settings,
        "[[sites]]\nname = \"shop\"\nhosts = [\"a.example\"]\nupstream = \"http://127.0.0.1:1\"\n",
    )
    .unwrap();
    let import = |more: &[&str]| {
        let (settings, file) = (settings.to_str().unwrap(), file.to_str().unwrap());
        house.optgate(&[&["ledger", "import", "--config", settings, "--source", "drop", file], more].concat())
    };
    let said = import(&["--dry-run"]).ok().out;
    assert_eq!(
        said,
        "would be recorded: 2\nrecorded before: 1\nolder than the account's own opt-in: 0\nrefused: 0\n"
    );
    assert_eq!(house.exported(), 3, "a dry run records nothing");
    assert!(import(&[]).ok().out.starts_with("recorded: 2\nrecorded before: 1\n"));
    assert!(import(&[]).ok().out.starts_with("recorded: 0\nrecorded before: 3\n"));
    let export = house.optgate(&["ledger", "export"]).ok().out;
    let last: Value = serde_json::from_str(export.lines().last().unwrap()).unwrap();
    let policy = last["policy"].as_str().unwrap();
    assert!(policy.starts_with("drop sha256:") && policy.ends_with(" line 3 of 2026-11-20"), "{policy}");
    assert_eq!((&last["signal"], &last["basis"]), (&"import".into(), &"import".into()));
    let store = house.store();
    let of = |account: &[u8]| store.lookup(&Subject::of_account(store.keys(), "shop", account));
    assert_eq!((of(b"ann"), of(b"bob")), (Standing::OptedOutByImport, Standing::OptedOutByImport));
    import(&[]).failed("another optgate has the data folder and does not listen");
    block_on(store.close());

    let bad = "account,site,date\ncarl,shop,2026-11-20\n,shop,2026-11-20\ndora,shop,yesterday\nemil,,2026-11-20\n\
               fritz,shop,2026-11-20\n\u{7},shop,2026-11-17\n";
    fs::write(&file, bad).unwrap();
    let said = import(&[]);
    for line in [3, 4, 5] {
        assert!(said.err.contains(&format!("drop.csv:{line}: ")), "line {line}: {}", said.err);
    }
    assert!(
        said.out.starts_with("recorded: 2\n") && said.out.ends_with("opt-in: 1\nrefused: 3\n"),
        "{}",
        said.out
    );
    said.failed("3 rows were refused");
    assert_eq!(house.standing(7), Standing::OptedIn, "an old request does not take a later opt-in back");
    fs::write(&file, "account,site\n").unwrap();
    import(&[]).failed("the head line has no column `date`; it has `account`, `site`");
}

/// Issue 6, checkpoints "on shutdown": what a command recorded is signed when it ends, as a server's records are.
#[test]
fn what_a_verb_records_is_signed_when_it_ends() {
    let house = House::new();
    house.records(0..1);
    let file = house.file("crm.csv");
    fs::write(&file, "account,site,date\nann,default,2026-11-20\nbob,default,2026-11-20\n").unwrap();
    house.optgate(&["ledger", "import", "--source", "crm", file.to_str().unwrap()]).ok();
    let said = house.optgate(&["ledger", "verify"]).ok().out;
    let figure =
        |name: &str| said.lines().find_map(|line| line.strip_prefix(name)?.trim().parse::<u64>().ok());
    assert_eq!(figure("signed up to record:"), figure("records:"), "{said}");
    assert_eq!(figure("records:"), Some(3), "{said}");
}

/// A verb that comes while another one is at work waits for it, and says so.
#[test]
fn a_verb_waits_for_another_that_has_the_folder() {
    use std::io::{BufRead as _, BufReader, Read as _};
    let house = House::new();
    house.records(0..1);
    let store = house.store();
    let mut child = house.started(&["ledger", "prune"]);
    let (mut said, mut words) = (String::new(), BufReader::new(child.stderr.take().unwrap()));
    words.read_line(&mut said).unwrap();
    assert!(said.contains("another optgate uses this data folder; waiting for it"), "{said}");
    block_on(store.close());
    let output = child.wait_with_output().unwrap();
    words.read_to_string(&mut said).unwrap();
    let out = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success() && out.starts_with("pruned: 0\n"), "{said}{out}");
}

/// What customer databases export is read where it can be, and else refused once, for what it is.
#[test]
fn an_export_of_another_program_is_read_or_refused_at_its_head() {
    let house = House::new();
    house.records(0..1);
    let file = house.file("crm.csv");
    let import = |text: &str| {
        fs::write(&file, text).unwrap();
        house.optgate(&["ledger", "import", "--source", "crm", "--dry-run", file.to_str().unwrap()])
    };
    let row = "ann,default,2026-11-20";
    let said = import(&format!("\u{feff}Account,SITE,Date,Requested At\n{row},2026-11-19\n")).ok();
    assert!(said.out.starts_with("would be recorded: 1\n"), "{}", said.out);
    for (text, why) in [
        (
            &*format!("account,site,date,email\n{row},a@b\n{row},a@b\n"),
            "crm.csv:1: the head line has a column `email`",
        ),
        (&format!("acount,site,date\n{row}\n"), "did you mean `account`?"),
        (&format!("account,site,date,Date\n{row},\n"), "has the column `date` twice"),
        ("account;site;date\nann;default;2026-11-20\n", "the columns are separated by ';'"),
        ("account\tsite\tdate\nann\tdefault\t2026-11-20\n", "the columns are separated by '\\t'"),
    ] {
        let said = import(text);
        assert_eq!(said.err.lines().count(), 1, "{text}: {}", said.err);
        said.failed(why);
    }
    let said =
        import(&format!("account,site,date\n{row}\n\"bob,default,2026-11-20\nemil,default,2026-11-20\n"));
    assert!(said.err.contains("crm.csv:3: the quote that opens here is never closed"), "{}", said.err);
    assert!(
        said.out.starts_with("would be recorded: 1\n") && said.out.ends_with("refused: 1\n"),
        "{}",
        said.out
    );
}

/// Issue 6: per-minute counters beside the records; flood protection stays, and what it leaves out is counted.
#[test]
fn changes_are_counted_by_the_minute_with_those_that_make_no_record() {
    let house = House::new();
    let limits =
        config::Store { records_per_second: 1, record_burst: 4, queue: 10_000, ..config::Store::default() };
    for _ in 0..2 {
        let store = house.store_with(&limits);
        let signal =
            || Change { subject: None, source: Source::Gpc, basis: Some(Basis::Gpc), ..out(&store, 0) };
        (0..50).for_each(|_| store.record_behind(signal()));
        (0..2).for_each(|_| store.record_behind(out(&store, 1)));
        block_on(store.close());
    }
    let said = house.optgate(&["ledger", "counts"]).ok().out;
    let rows: Vec<Vec<&str>> = said.lines().map(|line| line.split(',').collect()).collect();
    assert_eq!(rows[0], ["minute", "site", "signal", "basis", "policy", "state", "count"]);
    assert!(rows[1..].iter().all(|row| row[..2] == ["2026-11-18T11:06:00Z", "shop"]), "{said}");
    let count = |signal: &str, state: &str| -> usize {
        let of = rows.iter().filter(|row| row[2] == signal && (state.is_empty() || row[5] == state));
        of.map(|row| row[6].parse::<usize>().unwrap()).sum()
    };
    assert_eq!((count("gpc", ""), count("form", "")), (100, 4), "{said}");
    assert!(count("gpc", "flood") >= 80, "{said}");
    assert_eq!(count("gpc", "recorded") + count("form", "recorded"), house.exported(), "{said}");
}

/// README, lost keys: without its secret a journal is moved away as evidence, and the folder begins anew.
#[test]
fn after_a_lost_secret_the_old_journal_is_evidence_and_a_new_one_begins() {
    let house = House::new();
    house.records(0..2);
    let key = house.kept("key.pem", &["ledger", "key"]);
    fs::remove_file(house.folder().join("secret.key")).unwrap();
    assert!(house.refusal().contains("secret.key: is missing"), "{}", house.refusal());
    let aside = House::new();
    fs::create_dir(aside.folder()).unwrap();
    for name in ["journal.sqlite3", "journal.mark"] {
        fs::rename(house.folder().join(name), aside.folder().join(name)).unwrap();
    }
    let said = aside.optgate(&["ledger", "verify", "--key", &key]).ok();
    assert!(said.out.contains("records: 2\n"), "{}", said.out);
    assert_eq!(house.standing(0), Standing::Unknown);
    house.records(0..1);
    let said = house.optgate(&["ledger", "verify", "--key", &key]).ok();
    assert!(said.out.contains("records: 1\n"), "{}", said.out);
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

/// Sites of one operator share opt-outs: an account of theirs is kept under the group's name, and found there by what
/// is typed for either site.
#[test]
fn an_import_and_an_erasure_reach_an_account_of_a_group() {
    let house = House::new();
    house.records(0..1);
    let settings = house.file("optgate.toml");
    let site = |name: &str| {
        format!(
            "[[sites]]\nname = {name:?}\nhosts = [\"{name}.example\"]\nupstream = \"http://127.0.0.1:1\"\n"
        )
    };
    let group = "[[groups]]\nname = \"acme\"\nsites = [\"shop\", \"blog\"]\n";
    fs::write(&settings, [site("shop"), site("blog"), group.to_owned()].concat()).unwrap();
    let settings = settings.to_str().unwrap();
    let file = house.file("drop.csv");
    fs::write(&file, "account,site,date\nann,shop,2026-11-20\n").unwrap();
    let file = file.to_str().unwrap();
    let said = house.optgate(&["ledger", "import", "--config", settings, "--source", "drop", file]).ok();
    assert!(said.out.starts_with("recorded: 1\n"), "{}", said.out);
    let store = house.store();
    let standing = store.lookup(&Subject::of_account(store.keys(), "acme", b"ann"));
    block_on(store.close());
    assert_eq!(standing, Standing::OptedOutByImport);
    let erase = ["ledger", "erase", "--config", settings, "--site", "blog", "--account", "ann"];
    let said = house.optgate(&erase).ok();
    assert!(
        said.out.contains("records erased from: 1\n") && said.out.ends_with("alone: yes\n"),
        "{}",
        said.out
    );
}

/// An opt-out that a signal set above an earlier opt-in is one like any other: an earlier secret that it alone is known
/// under stays.
#[test]
fn an_overruled_opt_in_keeps_its_secret_like_any_opt_out() {
    let house = House::new();
    house.opted_in();
    let store = house.store();
    let signal = Change { source: Source::Gpc, basis: Some(Basis::Gpc), ..out(&store, 7) };
    block_on(async {
        store.record(signal).await.unwrap();
        store.close().await;
    });
    assert_eq!(house.standing(7), Standing::Overruled);
    house.optgate(&["keys", "rotate"]).ok();
    house.optgate(&["keys", "retire"]).failed("1 opted-out accounts are known under an earlier secret alone");
}

/// A request of a day to come would stand above an opt-in that is made before that day.
#[test]
fn an_import_dated_in_the_future_is_refused_and_standard_input_is_a_file() {
    let house = House::new();
    house.records(0..1);
    let ahead = (jiff::Timestamp::now() + jiff::SignedDuration::from_hours(72)).strftime("%Y-%m-%d");
    let rows = format!("account,site,date\nann,default,{ahead}\nbob,default,2026-11-20\n");
    let said = house.optgate_told(&["ledger", "import", "--source", "crm", "-"], &rows);
    assert!(said.out.starts_with("recorded: 1\n") && said.out.ends_with("refused: 1\n"), "{}", said.out);
    assert!(
        said.err.contains("standard input:2: ") && said.err.contains("`date` is in the future"),
        "{}",
        said.err
    );
}

/// A file that is empty proves nothing, and an export that was broken off may be one.
#[test]
fn an_export_without_a_record_is_not_proven() {
    let house = House::new();
    let file = house.file("empty.proof");
    fs::write(&file, "").unwrap();
    house.optgate(&["ledger", "verify", "--export", file.to_str().unwrap()]).failed("nothing to prove");
}

/// A copy for an auditor, on a medium or in a folder that takes no writes, is read all the same; one that was taken while a
/// server wrote to it needs room beside it, which is said.
#[test]
fn a_copy_that_cannot_be_written_is_verified() {
    use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
    use std::os::unix::process::CommandExt as _;
    let house = House::new();
    house.records(0..3);
    let folder = house.folder();
    let store = house.store();
    block_on(store.recipients().requested(Vec::new())).unwrap();
    block_on(store.record(out(&store, 3))).unwrap();
    // Its end is in the -wal, and what tells where is not copied.
    let beside = house.file("beside");
    fs::create_dir(&beside).unwrap();
    for name in ["journal.sqlite3", "journal.sqlite3-wal"] {
        fs::copy(folder.join(name), beside.join(name)).unwrap();
    }
    block_on(store.close());
    assert!(folder.join("recipients.sqlite3").exists());
    let mode = |path: &Path, mode| fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    for folder in [&folder, &beside] {
        for file in fs::read_dir(folder).unwrap() {
            mode(&file.unwrap().path(), 0o444);
        }
        mode(folder, 0o555);
    }
    mode(house.dir.path(), 0o755);
    // A copy of the program, where anybody may start it.
    let program = house.file("optgate");
    fs::copy(env!("CARGO_BIN_EXE_optgate"), &program).unwrap();
    mode(&program, 0o755);
    let run = |folder: &Path, verb: &[&str]| {
        let mut command = Command::new(&program);
        command.arg("ledger").args(verb).arg("--data-dir").arg(folder).current_dir("/");
        if fs::metadata(folder).unwrap().uid() == 0 {
            // Permissions hold nothing against this user.
            command.uid(65_534).gid(65_534);
        }
        let output = command.output().unwrap();
        (
            output.status.success(),
            String::from_utf8(output.stdout).unwrap(),
            String::from_utf8(output.stderr).unwrap(),
        )
    };
    let (verified, recipients) = (run(&folder, &["verify"]), run(&folder, &["recipients"]));
    let refused = run(&beside, &["verify"]);
    [&folder, &beside].into_iter().for_each(|folder| mode(folder, 0o755));
    assert!(verified.0 && verified.1.starts_with("records: 4\n"), "{verified:?}");
    assert!(recipients.0, "{recipients:?}");
    assert!(
        !refused.0 && refused.2.contains("copy the whole folder to where it can be written"),
        "{refused:?}"
    );
}

/// What is not there for want of file descriptors is not called somebody else's.
#[test]
fn too_few_file_descriptors_are_called_so() {
    let house = House::new();
    house.records(0..1);
    let said: Vec<String> = (4..24)
        .map(|files| {
            let mut command = Command::new("sh");
            command
                .arg("-c")
                .arg(format!("ulimit -n {files} && exec \"$0\" ledger verify --data-dir \"$1\""));
            command.arg(env!("CARGO_BIN_EXE_optgate")).arg(house.folder());
            String::from_utf8(command.output().unwrap().stderr).unwrap()
        })
        .collect();
    assert!(said.iter().all(|said| !said.contains("must own it")), "{said:#?}");
    assert!(said.iter().any(|said| said.contains("too few file descriptors")), "{said:#?}");
}
