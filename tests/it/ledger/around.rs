//! What else holds for every verb: whose the folder is, what is counted, what is shown.

use std::fs;
use std::process::Command;

use optgate::config;
use optgate::privacy::Basis;
use optgate::store::{Change, Source};

use super::{House, block_on, out};

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

/// Per-minute counters beside the records; flood protection stays, and what it leaves out is counted.
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
