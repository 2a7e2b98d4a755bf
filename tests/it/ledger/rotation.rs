//! Keys are rotated, retired and lost without losing anybody or any proof.

use std::fs;

use optgate::privacy::{Basis, Standing, Subject};
use optgate::store::{Change, Kind, Source, Store};

use super::{House, block_on, out};

/// Keys are rotated without losing anyone's opt-out: an account that is known under an earlier secret
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

/// The process that an upgrade ends may still record under the secret of before a rotation. The later word of the
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

/// Who trusts the public key of before or of after can prove all of it. A lost key is told apart.
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
