//! What is proven of a journal with a public key alone, and what is found out.

use std::fs;
use std::path::Path;
use std::process::Command;

use optgate::config;
use serde_json::Value;

use super::{House, block_on, lines, out, write};

/// `ledger verify` proves a journal or an export offline with the public key alone. The key is made on
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

/// The first bad record is named, whatever was done to the file.
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

/// An inclusion proof for one record. It holds that record and some hashes, and no other record.
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

/// What a command recorded is signed when it ends, as a server's records are.
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

/// A PEM begins with dashes, and is a key all the same.
#[test]
fn the_key_that_is_printed_can_be_given_as_it_is() {
    let house = House::new();
    house.records(0..2);
    let pem = house.optgate(&["ledger", "key"]).ok().out;
    house.optgate(&["ledger", "verify", "--key", &pem]).ok();
}
