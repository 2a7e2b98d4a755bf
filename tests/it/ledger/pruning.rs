//! Records that are too old give way to their digests, and nobody loses an opt-out by it.

use optgate::config;
use optgate::privacy::Standing;

use super::{House, block_on, out};

/// 11 CCR 7101: records are kept for 24 months; then replaced by their hashes so that the chain still
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
