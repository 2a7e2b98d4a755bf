//! Files of opt-outs as large and as bad as they come: every row that can be read is recorded, every other is named.

use std::fs::{self, File};
use std::io::{BufRead as _, BufReader, BufWriter, Read as _, Write as _};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use optgate::app;
use optgate::privacy::{Standing, Subject};
use optgate::store::{self, Change, Kind, Source, Store, recipients};

use super::acceptance_choices::{honoured, shop};
use super::ledger::{House, block_on, out};
use super::support::binary::Binary;
use super::support::client::get;
use super::support::proxy::proxy;

/// Good rows of the large file.
const ROWS: usize = 100_000;

/// The most memory a process had so far, KiB.
fn most_memory(process: u32) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{process}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    line.split_whitespace().next()?.parse().ok()
}

/// Writes good rows with each kind of bad one between them; the lines of the bad ones.
fn large_file(path: &Path) -> Vec<(u64, &'static str)> {
    let mut file = BufWriter::new(File::create(path).unwrap());
    let mut line = 2;
    let mut bad = Vec::new();
    file.write_all("\u{feff}account,site,date\r\n".as_bytes()).unwrap();
    for number in 0..ROWS {
        // Also a value over two lines, where it names nobody.
        writeln!(file, "\"person, {number}\",default,\"2026-11-20\n\"").unwrap();
        line += 2;
        if number % 30_000 == 7 {
            for (row, why) in [
                (&b"\xff\xfe,default,2026-11-20\n"[..], "UTF-8"),
                (b"ann,default\n", "found record with 2 fields"),
                (b"an\0n,default,2026-11-20\n", "`an\\0n`"),
                (b"\"an\nn\",default,2026-11-20\n", "`an\\nn`"),
            ] {
                file.write_all(row).unwrap();
                bad.push((line, why));
                line += row.iter().filter(|byte| **byte == b'\n').count() as u64;
            }
        }
    }
    let long = vec![b'x'; 1 << 20];
    for _ in 0..2 {
        for _ in 0..100 {
            file.write_all(&long).unwrap();
        }
        file.write_all(b",default,2026-11-20\n").unwrap();
        bad.push((line, "longer than 64 KiB"));
        line += 1;
    }
    file.write_all(b"\n\nshort,default\nlast,default,2026-11-20\n\"open,default,2026-11-20\n").unwrap();
    bad.push((line + 2, "found record with 2 fields"));
    bad.push((line + 4, "is never closed"));
    file.flush().unwrap();
    bad
}

/// Nothing in a file keeps another row from being recorded, and a file is never held in memory.
#[test]
fn a_large_and_hostile_file_is_read_row_by_row() {
    let house = House::new();
    house.records(0..1);
    let path = house.file("drop.csv");
    let bad = large_file(&path);
    let size = fs::metadata(&path).unwrap().len();
    let start = Instant::now();
    let mut child = Command::new(env!("CARGO_BIN_EXE_optgate"))
        .args(["ledger", "import", "--source", "drop", "--data-dir"])
        .arg(house.folder())
        .arg(&path)
        .stdout(Stdio::piped())
        .stderr(File::create(house.file("said")).unwrap())
        .spawn()
        .unwrap();
    let mut most = 0;
    while child.try_wait().unwrap().is_none() {
        most = most_memory(child.id()).unwrap_or(0).max(most);
        // A figure that only grows, looked at now and then.
        std::thread::sleep(Duration::from_millis(10));
    }
    let output = child.wait_with_output().unwrap();
    let (said, out) =
        (fs::read_to_string(house.file("said")).unwrap(), String::from_utf8(output.stdout).unwrap());
    println!("{size} bytes, {ROWS} rows: {:?}, at most {most} KiB", start.elapsed());
    assert_eq!(output.status.code(), Some(1), "{said}");
    for (line, why) in &bad {
        let told = said.lines().find(|told| told.contains(&format!("drop.csv:{line}: ")));
        assert!(told.is_some_and(|told| told.contains(why)), "line {line}, {why}: {told:?}");
    }
    let recorded = format!("recorded: {}\n", ROWS + 1);
    assert!(out.starts_with(&recorded) && out.ends_with(&format!("refused: {}\n", bad.len())), "{out}");
    assert!(most * 1024 < size / 4 * 3, "{most} KiB for a file of {size} bytes");
    let store = house.store();
    let of = |account: &str| store.lookup(&Subject::of_account(store.keys(), "default", account.as_bytes()));
    for account in ["person, 0", "person, 99999", "last"] {
        assert_eq!(of(account), Standing::OptedOutByImport, "{account}");
    }
    block_on(store.close());
}

/// Rows as long as they may be do not fit into one request by the thousand: they go to the server in as many as it takes.
#[test]
fn long_rows_go_to_a_server_in_parts() {
    let origin = shop(&["/"]);
    let binary = Binary::start(proxy().to(&origin));
    let csv = binary.file().with_file_name("drop.csv");
    // Each takes six bytes for one as JSON.
    let long = "\u{1}".repeat(60_000);
    let rows: String = (0..600).map(|n| format!("{n}{long},default,2026-11-20\n")).collect();
    fs::write(&csv, format!("account,site,date\n{rows}")).unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_optgate"))
        .args(["ledger", "import", "--source", "crm", csv.to_str().unwrap(), "--config"])
        .arg(binary.file())
        .output()
        .unwrap();
    assert!(String::from_utf8_lossy(&output.stdout).starts_with("recorded: 600\n"), "{output:?}");
}

/// What can be read only once is held, up to a size, and read as a file is.
#[test]
fn a_pipe_is_read_like_a_file_and_a_file_that_is_a_folder_is_not() {
    let house = House::new();
    house.records(0..1);
    let said = house.optgate_told(
        &["ledger", "import", "--source", "crm", "/dev/stdin"],
        "account,site,date\nann,default,2026-11-20\n",
    );
    assert!(said.ok().out.starts_with("recorded: 1\n"));
    let folder = house.folder();
    let said = house.optgate(&["ledger", "import", "--source", "crm", folder.to_str().unwrap()]);
    said.failed("cannot be read");
}

/// A hash is of the secret that it names: one under an earlier secret keeps that from going, one under none here is refused,
/// and one that does not say is taken only where there is no doubt.
#[test]
fn a_subject_in_a_file_says_under_which_secret_it_is() {
    let house = House::new();
    house.records(0..1);
    let printed =
        |names: &str| house.optgate_told(&["ledger", "subject", "--site", "default"], names).ok().out;
    let ann = printed("ann\n").trim().to_owned();
    let (check, digits) = ann.split_once(':').unwrap();
    assert_eq!((check.len(), digits.len()), (16, 32));
    assert_eq!(printed(" ann \n\nbob\n").lines().collect::<Vec<_>>()[..2], [ann.as_str(), ""]);
    let file = house.file("crm.csv");
    let import = |subject: &str| {
        fs::write(&file, format!("subject,site,date\n{subject},default,2026-11-20\n")).unwrap();
        house.optgate(&["ledger", "import", "--source", "crm", file.to_str().unwrap()])
    };
    let bobs = printed("bob\n").trim().rsplit(':').next().unwrap().to_owned();
    assert!(import(&bobs).ok().out.starts_with("recorded: 1\n"), "with one secret there is no doubt");
    house.optgate(&["keys", "rotate"]).ok();
    // Both that are known under the secret of before, so that only what is imported next could keep it.
    let store = house.store();
    block_on(async {
        let older = &store.keys().older()[0];
        let mut known =
            vec![Subject::of_account(older, "default", b"bob"), Subject::of_account(older, "shop", &[0])];
        store.erase(vec![known.remove(1)]).await.unwrap();
        for (subject, name) in known.iter().zip(["bob"]) {
            let live = out(&store, 0);
            let live_subject = Subject::of_account(store.keys(), "default", name.as_bytes());
            store.carry(&[*subject], Change { subject: Some(live_subject), ..live });
        }
        store.close().await;
    });
    let said = import(digits);
    assert!(
        said.err.contains("crm.csv:2: under which secret its subject is hashed is not said"),
        "{}",
        said.err
    );
    let said = import(&format!("0123456789abcdef:{digits}"));
    assert!(said.err.contains("secret 0123456789abcdef, which is not in secret.key"), "{}", said.err);
    assert!(import(&ann).ok().out.starts_with("recorded: 1\n"));
    assert!(import(&ann).ok().out.starts_with("recorded: 0\nrecorded before: 1\n"), "again adds nothing");
    let export = house.optgate(&["ledger", "export"]).ok().out;
    assert!(export.contains(&format!(" line 2 of 2026-11-20, hashed under secret {check}\"")), "{export}");
    house.optgate(&["keys", "retire"]).failed("opted-out accounts are known under an earlier secret alone");
    let live = printed("ann\n").trim().to_owned();
    assert_ne!(live, ann);
    assert!(import(&live).ok().out.starts_with("recorded: 1\n"));
}

/// Why a file was refused that is written to while it is imported.
const CHANGED: &str = "crm.csv was changed while it was read; import it again";

/// 11 CCR 7101: every record names the digest of the file that it came from. One that is written to between its two
/// readings is refused before anything of it is recorded.
#[test]
fn of_a_file_that_changes_between_its_two_readings_nothing_is_recorded() {
    let house = House::new();
    house.records(0..1);
    // The words about rows that cannot be read come between the readings, and here they are more than a pipe takes.
    let folder = house.file(&"long-name-".repeat(20));
    fs::create_dir(&folder).unwrap();
    let path = folder.join("crm.csv");
    let long = "x".repeat(70_000) + ",default,2026-11-20\n";
    fs::write(&path, format!("account,site,date\nann,default,2026-11-20\n{}", long.repeat(400))).unwrap();
    let mut child = Command::new(env!("CARGO_BIN_EXE_optgate"))
        .args(["ledger", "import", "--source", "crm", "--data-dir"])
        .arg(house.folder())
        .arg(&path)
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut said = BufReader::new(child.stderr.take().unwrap());
    let mut first = String::new();
    said.read_line(&mut first).unwrap();
    assert!(first.contains("crm.csv:3: the row is longer"), "{first}");
    fs::OpenOptions::new().append(true).open(&path).unwrap().write_all(b"bob,default,2026-11-20\n").unwrap();
    let mut rest = String::new();
    said.read_to_string(&mut rest).unwrap();
    assert!(rest.len() > 64 * 1024, "the pipe took them all, so that this shows nothing");
    assert_eq!(child.wait().unwrap().code(), Some(1));
    assert!(rest.contains(CHANGED), "{}", rest.lines().last().unwrap_or_default());
    assert_eq!(house.optgate(&["ledger", "export"]).ok().out.lines().count(), 1, "the one of before");
}

/// A house whose settings name one site, `shop`, and a recipient who is told of every opt-out; and a file of opt-outs.
struct Desk {
    house: House,
    site: &'static str,
}

impl Desk {
    fn new() -> Self {
        let house = House::new();
        house.records(0..1);
        let desk = Self { house, site: "name = \"shop\"" };
        desk.write("shop");
        desk
    }

    fn write(&self, site: &str) {
        let recipient = "[[recipients]]\nname = \"Ads\"\nalways = true\nmail = \"privacy@ads.example\"\n";
        let hosts = "hosts = [\"a.example\"]\nupstream = \"http://127.0.0.1:1\"\n";
        fs::write(self.house.file("optgate.toml"), format!("[[sites]]\n{}\n{hosts}{recipient}", self.site))
            .unwrap();
        let rows = ["ann", "bob"].map(|name| format!("{name},{site},2026-11-20\n"));
        fs::write(self.house.file("drop.csv"), format!("account,site,date\n{}", rows.concat())).unwrap();
    }

    /// Imports the file; what it says first.
    fn import(&self) -> String {
        let (settings, file) = (self.house.file("optgate.toml"), self.house.file("drop.csv"));
        let (settings, file) = (settings.to_str().unwrap(), file.to_str().unwrap());
        let said = self.house.optgate(&["ledger", "import", "--config", settings, "--source", "drop", file]);
        said.ok().out.lines().take(2).collect::<Vec<_>>().join(", ")
    }

    /// Messages to the recipient that are to be sent.
    fn told(&self) -> usize {
        recipients::open_tasks(&self.house.folder()).unwrap().len()
    }
}

/// 11 CCR 7026(f)(2): who got an account's data is told once. The same file again, after the secret was rotated and after the
/// site was renamed, is the same people's.
#[test]
fn a_file_that_comes_again_after_a_rotation_or_a_new_name_is_of_no_news() {
    let mut desk = Desk::new();
    assert_eq!((desk.import(), desk.told()), ("recorded: 2, recorded before: 0".into(), 2));
    desk.house.optgate(&["keys", "rotate"]).ok();
    let again = "recorded: 0, recorded before: 2";
    assert_eq!((desk.import(), desk.told()), (again.into(), 2));
    desk.site = "name = \"store\"\nformerly = \"shop\"";
    desk.write("store");
    assert_eq!((desk.import(), desk.told()), (again.into(), 2));
    // An opt-in ends what came before it, and what came since is no import.
    let store = desk.house.store();
    block_on(async {
        for (name, kind) in [("store", Kind::OptIn), ("store", Kind::OptOut)] {
            let subject = Some(Subject::of_account(store.keys(), name, b"ann"));
            let source = if kind == Kind::OptIn { Source::Form } else { Source::Gpc };
            store.record(Change { subject, kind, source, ..out(&store, 0) }).await.unwrap();
        }
        store.close().await;
    });
    assert_eq!((desk.import(), desk.told()), ("recorded: 1, recorded before: 1".into(), 3));
    assert_eq!((desk.import(), desk.told()), (again.into(), 3));
}

/// The change of account `name` of the site "shop" under the secret that was live before.
fn under_the_one_before(store: &Store, name: &str) -> Subject {
    Subject::of_account(&store.keys().older()[0], "shop", name.as_bytes())
}

/// Ann opted out at "shop"; since then the secret was rotated.
fn rotated_with_ann() -> Desk {
    let desk = Desk::new();
    let store = desk.house.store();
    block_on(async {
        store.erase(vec![out(&store, 0).subject.unwrap()]).await.unwrap();
        let subject = Some(Subject::of_account(store.keys(), "shop", b"ann"));
        store.record(Change { subject, ..out(&store, 0) }).await.unwrap();
        store.close().await;
    });
    desk.house.optgate(&["keys", "rotate"]).ok();
    // Who is known by a hash alone, of whom nobody can say more, is known under the new one too.
    let store = desk.house.store();
    block_on(async {
        let gone = Subject::of_account(&store.keys().older()[0], "shop", &[0]);
        assert_eq!(store.carry(&[gone], out(&store, 0)), Standing::OptedOut);
        store.close().await;
    });
    desk
}

const NEEDED: &str = "1 opted-out accounts are known under an earlier secret alone";

/// An import that names an account has it known under the new secret. The record under the old one, which
/// nobody was carried over from, does not keep that secret for ever.
#[test]
fn an_import_after_a_rotation_lets_the_secret_of_before_go() {
    let desk = rotated_with_ann();
    desk.house.optgate(&["keys", "retire"]).failed(NEEDED);
    assert_eq!(desk.import(), "recorded: 2, recorded before: 0");
    desk.house.optgate(&["keys", "retire"]).ok();
    let store = desk.house.store();
    assert!(store.keys().older().is_empty());
    let ann = Subject::of_account(store.keys(), "shop", b"ann");
    assert!(store.lookup(&ann).is_out());
    block_on(store.close());
    desk.house.optgate(&["ledger", "verify"]).ok();
}

/// As above, where only the hash was imported and nobody could say whose the old one is: the account's next request does.
#[test]
fn the_next_request_of_an_imported_account_lets_the_secret_of_before_go() {
    let origin = shop(&["/"]);
    let builder =
        proxy().to(&origin).toml("trusted_proxies = [\"127.0.0.1\"]\n[account]\nheader = \"x-account-id\"\n");
    let data = builder.settings().data_dir;
    let ask = |running: &app::Running, fields: &str| get(running.listen()[0], "/", fields);
    let before = app::start(builder.settings()).unwrap();
    assert!(honoured(&ask(&before, "Sec-GPC: 1\r\nX-Account-Id: ann\r\n")));
    before.stop().unwrap();
    store::rotate_secret(&data).unwrap();
    let running = app::start(builder.settings()).unwrap();
    let store = running.store();
    let ann = Subject::of_account(store.keys(), "default", b"ann");
    let import = Change { subject: Some(ann), source: Source::Import, ..out(store, 0) };
    block_on(async {
        store.record(import).await.unwrap();
        assert_eq!(store.retire().await.unwrap(), 1);
    });
    assert!(honoured(&ask(&running, "X-Account-Id: ann\r\n")));
    assert_eq!(block_on(store.retire()).unwrap(), 0);
    running.stop().unwrap();
}

/// Only what holds in its place lets a hash go: the later word where records have an order, and no opt-in that an opt-out
/// under the old secret came after.
#[test]
fn a_hash_of_before_goes_only_where_a_later_word_holds_in_its_place() {
    let desk = rotated_with_ann();
    let store = desk.house.store();
    let old = under_the_one_before(&store, "ann");
    let live = Subject::of_account(store.keys(), "shop", b"ann");
    let back_in = || Change { kind: Kind::OptIn, subject: Some(live), basis: None, ..out(&store, 0) };
    block_on(async {
        store.outlive(&live, [old]);
        assert_eq!(store.retire().await.unwrap(), 1, "nothing is known under the live one");
        store.record(back_in()).await.unwrap();
        let lines = desk.house.optgate(&["keys", "list"]).ok().out;
        let checks: Vec<&str> = lines.lines().filter_map(|line| line.split('\t').next()).collect();
        let late = Change { subject: Some(old), ..out(&store, 0) }.hashed_under(checks[1], checks[0]);
        // Noted, for the second of two questions is answered after that; and needed again by what comes behind.
        store.outlive(&live, [old]);
        for _ in 0..2 {
            store.last_record(&live).await.unwrap();
        }
        store.record(late).await.unwrap();
        store.outlive(&live, [old]);
        assert_eq!(store.lookup_all(&live, &[old]), Standing::OptedOut);
        assert_eq!(store.retire().await.unwrap(), 1, "an opt-out under it is the later word");
        store.record(back_in()).await.unwrap();
        assert_eq!(store.retire().await.unwrap(), 1);
        store.outlive(&live, [old]);
        assert_eq!(store.retire().await.unwrap(), 0);
        assert_eq!(store.lookup_all(&live, &[old]), Standing::OptedIn);
        store.close().await;
    });
    let export = desk.house.optgate(&["ledger", "export"]).ok().out;
    assert_eq!(export.matches("pruned=0 untied=0 outlived=1").count(), 2, "{export}");
    desk.house.optgate(&["ledger", "verify"]).ok();
}
