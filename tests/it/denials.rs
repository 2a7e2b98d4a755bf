//! Requests to opt out that were not carried out: 11 CCR 7101 has them on record like all others, with when they were
//! made, how they came, when and how they were answered, and why so.

use std::fs;

use serde_json::Value;

use optgate::privacy::{Standing, Subject};
use optgate::store::import::Arrival;
use optgate::store::{self, Change, Denial, Kind, RecordView, Source};

use super::acceptance_choices::{honoured, shop};
use super::ledger::{House, block_on, out};
use super::support::proxy::proxy;

/// A house where ann opted out and back in, and carl opted out, at the site "default".
fn house() -> House {
    let house = House::new();
    let store = house.store();
    let subject = |name: &str| Some(Subject::of_account(store.keys(), "default", name.as_bytes()));
    block_on(async {
        for (name, kind) in [("ann", Kind::OptOut), ("ann", Kind::OptIn), ("carl", Kind::OptOut)] {
            let basis = out(&store, 0).basis.filter(|_| kind == Kind::OptOut);
            let change =
                Change { subject: subject(name), kind, source: Source::Form, basis, ..out(&store, 0) };
            store.record(change).await.unwrap();
        }
        store.close().await;
    });
    house
}

impl House {
    /// Imports rows of `account,site,date,denied`; what it says.
    fn import_rows(&self, rows: &str) -> String {
        let file = self.file("agent.csv");
        fs::write(&file, format!("account,site,date,denied\n{rows}")).unwrap();
        self.optgate(&["ledger", "import", "--source", "agent", file.to_str().unwrap()]).ok().out
    }

    /// Records of denials, as the export has them.
    fn denials(&self) -> Vec<Value> {
        let export = self.optgate(&["ledger", "export"]).ok().out;
        let records = export.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
        records.filter(|record| record["kind"] == "denied").collect()
    }

    fn stands(&self, name: &str) -> Standing {
        let store = self.store();
        let standing = store.lookup(&Subject::of_account(store.keys(), "default", name.as_bytes()));
        block_on(store.close());
        standing
    }
}

/// The opt-in of the tests is of 2026-11-18.
const OLD: &str = "ann,default,2026-11-10,\n";

/// 11 CCR 7101: a request that came late, after the person had opted back in, is on record with why it was not carried out;
/// the opt-in stays, whatever a start reads, and the same file again adds nothing.
#[test]
fn a_request_that_an_opt_in_overruled_is_on_record_and_changes_nothing() {
    let house = house();
    let said = house.import_rows(OLD);
    assert!(
        said.starts_with("recorded: 0\nrecorded before: 0\nolder than the account's own opt-in: 1\n"),
        "{said}"
    );
    let denials = house.denials();
    assert_eq!(denials.len(), 1);
    let policy = denials[0]["policy"].as_str().unwrap();
    assert!(policy.starts_with("agent sha256:") && policy.ends_with(" line 2 of 2026-11-10"), "{policy}");
    assert_eq!((&denials[0]["signal"], &denials[0]["basis"]), (&"import".into(), &"opted-in".into()));
    assert!(denials[0]["time"].as_str().unwrap() > "2026-11-18", "when it was answered: {denials:?}");
    let said = house.import_rows(OLD);
    assert!(said.contains("older than the account's own opt-in: 1\n"), "{said}");
    house.optgate(&["keys", "rotate"]).ok();
    house.import_rows(OLD);
    assert_eq!(house.denials(), denials, "a file again, under another secret too, adds nothing");
    house.optgate(&["ledger", "verify"]).ok();
    let store = house.store();
    let older = Subject::of_account(&store.keys().older()[0], "default", b"ann");
    assert_eq!(store.lookup(&older), Standing::OptedIn);
    block_on(store.close());
    // A start that reads all records.
    fs::remove_file(house.folder().join("index.packed")).ok();
    let store = house.store();
    assert_eq!(store.lookup(&older), Standing::OptedIn);
    assert_eq!(store.health().accounts_opted_out, 1, "carl");
    block_on(store.close());
}

/// 11 CCR 7026(e) and (j): fraud that is documented, and an agent without a signed permission, are the grounds on which an
/// opt-out may be denied. That it was is recorded, it opts nobody out, and it takes no opt-out back.
#[test]
fn a_request_that_the_business_denied_is_on_record_with_its_ground() {
    let house = house();
    let said = house.import_rows(
        "bob,default,2026-11-20,fraud\ncarl,default,2026-11-20,No-Permission\ndora,default,2026-11-20,fraud\ndora,default,2026-11-21,\n",
    );
    assert!(said.starts_with("recorded: 1\n") && said.contains("denied, which is on record: 3\n"), "{said}");
    let grounds: Vec<_> = house.denials().into_iter().map(|record| record["basis"].clone()).collect();
    assert_eq!(grounds, ["fraud", "no-permission", "fraud"]);
    assert_eq!(house.stands("bob"), Standing::Unknown);
    assert_eq!(house.stands("carl"), Standing::OptedOut);
    assert_eq!(house.stands("dora"), Standing::OptedOutByImport, "a second request that was not denied");
    let file = house.file("agent.csv");
    for word in ["dislike", "opted-in"] {
        fs::write(&file, format!("account,site,date,denied\nemil,default,2026-11-20,{word}\n")).unwrap();
        let said = house.optgate(&["ledger", "import", "--source", "agent", file.to_str().unwrap()]);
        said.failed(
            "is no ground on which an opt-out may be denied: write `fraud` or `no-permission`, or nothing",
        );
    }
    assert_eq!((house.denials().len(), house.stands("emil")), (3, Standing::Unknown));
}

/// Whoever is erased is erased from these records too, and what is too old gives way like any other record; neither takes an
/// opt-in for an opt-out.
#[test]
fn denials_are_erased_and_pruned_like_other_records() {
    let house = house();
    house.import_rows(OLD);
    let said = house.optgate_told(&["ledger", "erase", "--site", "default"], "ann\n").ok().out;
    assert!(said.starts_with("records erased from: 3\n") && said.ends_with("hash alone: no\n"), "{said}");
    house.optgate(&["ledger", "verify"]).ok();
    assert_eq!(house.stands("ann"), Standing::Unknown);
    house.import_rows("carl,default,2026-11-20,fraud\n");
    house.optgate(&["ledger", "prune", "--before", "2199-01-01", "--force"]).ok();
    house.optgate(&["ledger", "verify"]).ok();
    assert_eq!((house.denials().len(), house.stands("carl")), (0, Standing::OptedOut));
}

/// Somebody who was never opted out is nobody whom a new name of the site would lose.
#[test]
fn a_denial_is_no_opt_out_that_a_lost_name_would_lose() {
    let house = House::new();
    house.records(0..1);
    house.import_rows("bob,default,2026-11-20,fraud\n");
    let settings = house.file("optgate.toml");
    let site = "[[sites]]\nname = \"shop\"\nhosts = [\"a.example\"]\nupstream = \"http://127.0.0.1:1\"\n";
    fs::write(&settings, site).unwrap();
    house.optgate(&["check", "--config", settings.to_str().unwrap()]).ok();
}

/// Whoever holds the reference of one reads what became of it, and not that they are opted out.
#[test]
fn a_receipt_of_a_denial_says_that_nothing_was_carried_out() {
    let origin = shop(&["/"]);
    let proxy = proxy().to(&origin).run();
    let store = proxy.running().store();
    let arrival = Arrival {
        subject: Subject::of_account(store.keys(), "default", b"bob"),
        others: Vec::new(),
        formerly: Vec::new(),
        account: None,
        site: "default".into(),
        policy: "agent".into(),
        requested_us: 0,
        until_us: 0,
        adopted: false,
        denied: Some(Denial::NoPermission),
    };
    assert_eq!(block_on(store.import(vec![arrival], false, false)).unwrap().denied, 1);
    let mut reference = String::new();
    let mut keep = |record: RecordView| {
        reference = record.reference;
        Ok(())
    };
    store::export(&proxy.dir().join("data"), &mut keep).unwrap();
    let page = proxy.get(&format!("/privacy-choices/receipt/{reference}"), "");
    assert_eq!(page.status(), 200);
    let text = page.text();
    assert!(text.contains("without a permission that you signed") && !text.contains("Honored"), "{text}");
    let text = proxy.get(&format!("/privacy-choices/receipt?reference={reference}"), "").text();
    assert!(text.contains("A request to opt out that was not carried out"), "{text}");
    assert!(!honoured(&proxy.get("/", "")));
}
