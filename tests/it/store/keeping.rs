//! What is kept, forgotten and carried over, whatever keeps the records.

use optgate::config;
use optgate::privacy::{Basis, Keys, Standing, Subject};
use optgate::store::import::{Arrival, Imported};
use optgate::store::{self, Change, Denial, Held, HoldOrder, Kind, RecordError, Source, Store, recipients};

use super::engines::{Engine, apart, on_both_engines};
use super::{PACKED, WIDE, change, out, records, signal, subject};
use crate::support::proxy::proxy;

/// As [`PACKED`], and without: a start from the file of the index, and one that reads every record.
const BOTH: [config::Store; 2] = [PACKED, WIDE];

fn back_in(account: u64) -> Change {
    change(Kind::OptIn, Source::Form, Some(account))
}

/// An opt-out of `name` at the site "shop" that arrived elsewhere, dated after the choices of the tests, or before.
fn arrival(store: &Store, name: &str, later: bool) -> Arrival {
    let hash = |keys: &Keys| Subject::of_account(keys, "shop", name.as_bytes());
    Arrival {
        subject: hash(store.keys()),
        others: store.keys().older().iter().map(hash).collect(),
        formerly: Vec::new(),
        account: Some(name.to_owned()),
        site: "shop".into(),
        policy: format!("crm line of {name}"),
        requested_us: 1_795_000_000_000_000 - 1,
        until_us: if later { 1_795_000_000_000_000 + 1 } else { 0 },
        adopted: false,
        denied: None,
    }
}

/// How accounts stand, with the file of the index and without it.
async fn stand(engine: &Engine, folder: &std::path::Path, accounts: std::ops::Range<u64>) -> Vec<Standing> {
    let mut told = Vec::new();
    for limits in BOTH {
        let store = engine.open(folder, &limits).await;
        told.push(accounts.clone().map(|account| store.lookup(&subject(account))).collect::<Vec<_>>());
        store.close().await;
        let _ = std::fs::remove_file(folder.join("index.packed"));
    }
    assert_eq!(told[0], told[1], "the file of the index says what the records say");
    told.swap_remove(0)
}

on_both_engines! {
    /// 11 CCR 7101: what is too old gives way to its digest, a hold keeps it, and nobody's standing changes; all is proven
    /// before and after, and a dry run changes nothing.
    async fn what_is_pruned_leaves_every_standing_and_the_proof(engine: &Engine) {
        let folder = tempfile::tempdir().unwrap();
        let store = engine.open(folder.path(), &PACKED).await;
        let held = store.record(out(0)).await.unwrap().reference;
        store.record(out(1)).await.unwrap();
        store.record(change(Kind::OptOut, Source::Import, Some(2))).await.unwrap();
        store.record(out(3)).await.unwrap();
        store.record(back_in(3)).await.unwrap();
        store.hold(HoldOrder::Reference(held.clone(), "case 12".into())).await.unwrap();
        let counted = store.prune(i64::MAX, true).await.unwrap();
        assert_eq!((counted.records, counted.held, records(folder.path()).len()), (4, 1, 6));
        let pruned = store.prune(i64::MAX, false).await.unwrap();
        assert_eq!(pruned, counted);
        assert_eq!(store.prune(i64::MAX, false).await.unwrap().records, 0, "once");
        assert!(store.find(&held).await.unwrap().is_some());
        let proven = engine.proven(folder.path(), store).await;
        assert_eq!(proven.pruned, 4);
        let left = stand(engine, folder.path(), 0..5).await;
        let out = [Standing::OptedOut, Standing::OptedOut, Standing::OptedOutByImport];
        assert_eq!(left[..3], out);
        assert!(!left[3].is_out() && left[4] == Standing::Unknown, "{left:?}");
    }

    /// A hold is of a record or of a site, is listed, ends by its number, and names nothing that is not there.
    async fn a_hold_is_kept_listed_and_ended(engine: &Engine) {
        let folder = tempfile::tempdir().unwrap();
        let store = engine.open(folder.path(), &WIDE).await;
        let reference = store.record(out(0)).await.unwrap().reference;
        let nothing = store.hold(HoldOrder::Reference("0000-0000-0000-0000".into(), "why".into())).await;
        assert!(matches!(nothing, Err(RecordError::NotThere(_))), "{nothing:?}");
        let one = store.hold(HoldOrder::Reference(reference, "why".into())).await.unwrap();
        let two = store.hold(HoldOrder::Site("shop".into(), "audit".into())).await.unwrap();
        assert_eq!((one.len(), two.len()), (1, 2));
        store.close().await;
        let store = engine.open(folder.path(), &WIDE).await;
        assert_eq!(store::holds(folder.path()).unwrap(), two);
        assert_eq!(store::held_records(folder.path(), &[subject(0)]).unwrap(), 1);
        let left = store.hold(HoldOrder::Remove(one[0].id)).await.unwrap();
        assert_eq!(left, two[1..]);
        assert!(matches!(store.hold(HoldOrder::Remove(one[0].id)).await, Err(RecordError::NotThere(_))));
        assert_eq!(store.prune(i64::MAX, false).await.unwrap().held, 1, "the site's is left");
        store.hold(HoldOrder::Remove(left[0].id)).await.unwrap();
        assert_eq!(store.prune(i64::MAX, false).await.unwrap().records, 1);
        engine.proven(folder.path(), store).await;
    }

    /// What ties an account to its records goes, its opt-out stays, and what it chooses after that holds.
    async fn who_is_erased_stays_opted_out_and_may_choose_again(engine: &Engine) {
        let folder = tempfile::tempdir().unwrap();
        let store = engine.open(folder.path(), &PACKED).await;
        for account in 0..3 {
            store.record(out(account)).await.unwrap();
        }
        store.record(back_in(1)).await.unwrap();
        let erased = store.erase(vec![subject(0), subject(1)]).await.unwrap();
        assert_eq!((erased.records, erased.suppressed), (3, true));
        assert_eq!(store.erase(vec![subject(9)]).await.unwrap().records, 0);
        let tied = records(folder.path()).iter().filter(|record| record.account).count();
        assert_eq!(tied, 4, "a record says that it was an account's, and not whose");
        engine.proven(folder.path(), store).await;
        let left = stand(engine, folder.path(), 0..3).await;
        assert!(left[0].is_out() && !left[1].is_out() && left[2] == Standing::OptedOut, "{left:?}");
        let store = engine.open(folder.path(), &PACKED).await;
        store.record(back_in(0)).await.unwrap();
        store.record(out(1)).await.unwrap();
        engine.proven(folder.path(), store).await;
        assert_eq!(stand(engine, folder.path(), 0..2).await, [Standing::OptedIn, Standing::OptedOut]);
    }

    /// A secret is rotated without losing anyone, and goes once nobody is known under it alone.
    async fn a_secret_goes_once_everybody_is_known_under_the_next(engine: &Engine) {
        let folder = tempfile::tempdir().unwrap();
        let store = engine.open(folder.path(), &PACKED).await;
        let of = |keys: &Keys, name: &str| Subject::of_account(keys, "shop", name.as_bytes());
        let (ann, bob) = (of(store.keys(), "ann"), of(store.keys(), "bob"));
        for subject in [ann, bob] {
            store.record(Change { subject: Some(subject), ..out(0) }).await.unwrap();
        }
        store.close().await;
        store::rotate_secret(folder.path()).unwrap();
        let store = engine.open(folder.path(), &PACKED).await;
        assert_eq!(store.retire().await.unwrap(), 2);
        let live = of(store.keys(), "ann");
        let carried = Change { subject: Some(live), ..out(0) };
        assert_eq!(store.carry(&[ann], carried), Standing::OptedOut);
        assert_eq!(store.retire().await.unwrap(), 1);
        let imported = store.import(vec![arrival(&store, "bob", true)], false, false).await.unwrap();
        assert_eq!(imported.recorded, 1, "an import names him under both");
        assert_eq!(store.retire().await.unwrap(), 0);
        engine.proven(folder.path(), store).await;
        store::forget_earlier_secrets(folder.path()).unwrap();
        let store = engine.open(folder.path(), &PACKED).await;
        assert!(store.keys().older().is_empty());
        assert!(store.lookup(&live).is_out() && store.lookup(&of(store.keys(), "bob")).is_out());
        engine.proven(folder.path(), store).await;
    }

    /// 11 CCR 7101: each account once, whichever secret it is hashed under; an opt-in that came later holds,
    /// and that a request was overruled or denied is on record.
    async fn an_import_is_recorded_once_and_every_answer_is_on_record(engine: &Engine) {
        let folder = tempfile::tempdir().unwrap();
        let store = engine.open(folder.path(), &PACKED).await;
        let of = |store: &Store, name: &str| Subject::of_account(store.keys(), "shop", name.as_bytes());
        let ann = Some(of(&store, "ann"));
        store.record(Change { subject: ann, ..out(0) }).await.unwrap();
        store.record(Change { subject: ann, ..back_in(0) }).await.unwrap();
        let all = |store: &Store| {
            let denied = Arrival { denied: Some(Denial::Fraud), ..arrival(store, "dora", true) };
            vec![arrival(store, "ann", false), arrival(store, "bob", false), denied]
        };
        let told = Imported { recorded: 1, overruled: 1, denied: 1, ..Imported::default() };
        assert_eq!(store.import(all(&store), false, true).await.unwrap(), told);
        assert_eq!(records(folder.path()).len(), 2, "a dry run records nothing");
        assert_eq!(store.import(all(&store), false, false).await.unwrap(), told);
        let again = Imported { recorded: 0, known: 1, ..told };
        assert_eq!(store.import(all(&store), false, false).await.unwrap(), again);
        store.close().await;
        store::rotate_secret(folder.path()).unwrap();
        let store = engine.open(folder.path(), &WIDE).await;
        assert_eq!(store.import(all(&store), false, false).await.unwrap(), again);
        let older = |name: &str| Subject::of_account(&store.keys().older()[0], "shop", name.as_bytes());
        assert_eq!(store.lookup(&older("ann")), Standing::OptedIn);
        assert_eq!(store.lookup(&older("bob")), Standing::OptedOutByImport);
        assert_eq!(store.lookup(&older("dora")), Standing::Unknown);
        engine.proven(folder.path(), store).await;
        let denials = records(folder.path()).into_iter().filter(|record| record.kind == store::DENIED);
        let mut grounds: Vec<_> = denials.map(|record| (record.signal, record.basis)).collect();
        grounds.sort();
        let want = [("import", "fraud"), ("import", "opted-in")];
        assert_eq!(grounds, want.map(|(signal, basis)| (signal.to_owned(), basis.to_owned())));
    }

    /// 11 CCR 7026(f)(2): who got data of an imported account is to be told, once, and whoever is erased is nobody to tell of.
    async fn recipients_are_told_once_of_an_import(engine: &Engine) {
        let folder = tempfile::tempdir().unwrap();
        let settings = proxy()
            .toml("upstream = \"http://127.0.0.1:1\"\n[[recipients]]\nname = \"Ads\"\nalways = true\nmail = \"a@ads.example\"\n")
            .settings();
        let store = engine.open(folder.path(), &WIDE).await;
        let both = || vec![arrival(&store, "ann", true), arrival(&store, "bob", true)];
        for _ in 0..2 {
            store.import(both(), true, false).await.unwrap();
            store.recipients().plan(&settings).await.unwrap();
            assert_eq!(store.recipients().pending().await.unwrap().len(), 0);
            assert_eq!(apart(|| recipients::open_tasks(folder.path())).unwrap().len(), 2);
        }
        let ann = Subject::of_account(store.keys(), "shop", b"ann");
        store.erase(vec![ann]).await.unwrap();
        assert_eq!(apart(|| recipients::open_tasks(folder.path())).unwrap().len(), 1);
        assert!(store.lookup(&ann).is_out());
        engine.proven(folder.path(), store).await;
    }

    /// One record is proven alone, and says before that it is not signed yet.
    async fn a_record_is_proven_alone_once_it_is_signed(engine: &Engine) {
        let folder = tempfile::tempdir().unwrap();
        let store = engine.open(folder.path(), &WIDE).await;
        let reference = store.record(out(0)).await.unwrap().reference;
        store.record(out(1)).await.unwrap();
        let (_, held) = store.check(&reference).await.unwrap().unwrap();
        assert_eq!(held, Held::Unsigned);
        assert!(store::inclusion(folder.path(), &reference).is_err(), "not signed yet");
        store.close().await;
        let store = engine.open(folder.path(), &WIDE).await;
        let (view, held) = store.check(&reference).await.unwrap().unwrap();
        assert_eq!((view.seq, held), (1, Held::Signed));
        let key = store::public_key(folder.path()).unwrap();
        let proof = store::inclusion(folder.path(), &reference).unwrap();
        let (proven, ..) = proof.verify(&[key]).unwrap();
        assert_eq!(proven.reference, reference);
        assert!(store.check("0000-0000-0000-0000").await.unwrap().is_none());
        store.close().await;
    }

    /// What happened is counted by the minute, what makes no record too.
    async fn changes_are_counted_beside_their_records(engine: &Engine) {
        let folder = tempfile::tempdir().unwrap();
        let store = engine.open(folder.path(), &WIDE).await;
        store.record(out(0)).await.unwrap();
        for _ in 0..3 {
            store.record_behind(Change { basis: Some(Basis::Gpc), ..change(Kind::OptOut, Source::Gpc, Some(1)) });
            store.record_behind(signal());
        }
        store.close().await;
        let counted = |state: &str| {
            let lines = store::counts(folder.path()).unwrap();
            lines.iter().filter(|line| line.state == state).map(|line| line.count).sum::<i64>()
        };
        assert_eq!((counted("recorded"), counted("known")), (5, 2));
        assert_eq!(records(folder.path()).len(), 5);
    }

    /// A copy made beside the work is whole, and put back it knows everybody it knew.
    async fn a_backup_that_is_put_back_knows_everybody(engine: &Engine) {
        let (folder, beside) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let (copy, put_back) = (beside.path().join("copy"), beside.path().join("put-back"));
        let store = engine.open(folder.path(), &PACKED).await;
        store.record(out(0)).await.unwrap();
        store.record(out(1)).await.unwrap();
        store.record(back_in(1)).await.unwrap();
        store.erase(vec![subject(0)]).await.unwrap();
        store.import(vec![Arrival { denied: Some(Denial::Fraud), ..arrival(&store, "dora", true) }], false, false).await.unwrap();
        engine.proven(folder.path(), store).await;
        let store = engine.open(folder.path(), &PACKED).await;
        let taken = apart(|| store::backup(folder.path(), &copy, true)).unwrap();
        store.close().await;
        let restored = apart(|| store::restore(&copy, &put_back, false)).unwrap();
        assert_eq!((restored.records, restored.signed_to), (taken.records, taken.signed_to));
        let left = stand(engine, &put_back, 0..3).await;
        assert!(left[0].is_out() && left[1] == Standing::OptedIn && left[2] == Standing::Unknown, "{left:?}");
        let store = engine.open(&put_back, &PACKED).await;
        store.record(out(2)).await.unwrap();
        engine.proven(&put_back, store).await;
    }
}
