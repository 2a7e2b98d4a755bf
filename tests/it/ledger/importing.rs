//! Opt-outs that arrived elsewhere are recorded once, each with where it came from.

use std::fs;

use optgate::privacy::{Standing, Subject};
use serde_json::Value;

use super::{House, block_on};

/// Imports with provenance; dry run; the same file twice adds nothing; a bad row is named by its line and
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
