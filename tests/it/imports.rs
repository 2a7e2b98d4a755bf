//! Files of opt-outs as large and as bad as they come: every row that can be read is recorded, every other is named.

use std::fs::{self, File};
use std::io::{BufWriter, Write as _};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use optgate::privacy::{Standing, Subject};

use super::ledger::{House, block_on};
use super::support::binary::Binary;
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

/// Issue 6, imports: nothing in a file keeps another row from being recorded, and a file is never held in memory.
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
    let origin = super::acceptance_choices::shop(&["/"]);
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
            let live = super::ledger::out(&store, 0);
            let live_subject = Subject::of_account(store.keys(), "default", name.as_bytes());
            store.carry(&[*subject], optgate::store::Change { subject: Some(live_subject), ..live });
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
