//! Any sequence of choices and of what may be done to a journal, against a plain map: who is opted out stays so until they
//! opt back in themselves, whatever is pruned, erased, held, imported, rotated or retired meanwhile, and over restarts.

use std::collections::BTreeMap;

use optgate::privacy::Standing;
use optgate::store::import::Arrival;
use optgate::store::{self, Change, HoldOrder, Kind, Source, Store};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestCaseError, TestRunner};

use super::super::support::opened;
use super::oracle::{block_on, rounds};
use super::{PACKED, change, subject};

const ACCOUNTS: u64 = 6;

#[derive(Debug, Clone, Copy)]
enum Op {
    Out(u64, Source),
    In(u64),
    Programme(u64),
    /// Of a file that is older, or newer, than whatever was chosen.
    Import(u64, bool),
    Erase(u64),
    /// All there is.
    Prune,
    /// Of the site.
    Hold(bool),
    Rotate,
    Retire,
    Restart,
}

fn op() -> impl Strategy<Value = Op> {
    let source = prop_oneof![Just(Source::Gpc), Just(Source::Form), Just(Source::Carried)];
    prop_oneof![
        6 => (0..ACCOUNTS, source).prop_map(|(account, source)| Op::Out(account, source)),
        6 => (0..ACCOUNTS).prop_map(Op::In),
        3 => (0..ACCOUNTS).prop_map(Op::Programme),
        4 => (0..ACCOUNTS, any::<bool>()).prop_map(|(account, newer)| Op::Import(account, newer)),
        3 => (0..ACCOUNTS).prop_map(Op::Erase),
        3 => Just(Op::Prune),
        1 => any::<bool>().prop_map(Op::Hold),
        1 => Just(Op::Rotate),
        2 => Just(Op::Retire),
        2 => Just(Op::Restart),
    ]
}

/// Who is opted out or in; who is in neither way known is not there.
#[derive(Debug, Default)]
struct Plain {
    out: BTreeMap<u64, bool>,
    /// The hold's number.
    held: Option<i64>,
    secrets: usize,
}

impl Plain {
    /// What a record said is gone; that somebody is opted out stays.
    fn forget(&mut self, account: u64) {
        self.out.retain(|of, out| *of != account || *out);
    }
}

/// One step; what it gave where the map says what that must be.
async fn step(store: &Store, plain: &mut Plain, op: Op, now_us: i64) -> Result<(), TestCaseError> {
    let at = |change: Change| Change { time_us: now_us, ..change };
    match op {
        Op::Out(account, source) => {
            store.record(at(change(Kind::OptOut, source, Some(account)))).await.unwrap();
            plain.out.insert(account, true);
        }
        Op::In(account) => {
            store.record(at(change(Kind::OptIn, Source::Form, Some(account)))).await.unwrap();
            plain.out.insert(account, false);
        }
        // An exception to an opt-out, so it tells of one.
        Op::Programme(account) => {
            store.record(at(change(Kind::Programme, Source::Form, Some(account)))).await.unwrap();
            plain.out.insert(account, true);
        }
        Op::Import(account, newer) => {
            let arrival = Arrival {
                subject: subject(account),
                others: Vec::new(),
                formerly: Vec::new(),
                account: None,
                site: "shop".into(),
                policy: "crm".into(),
                requested_us: 0,
                until_us: if newer { i64::MAX } else { 1 },
                adopted: false,
                denied: None,
            };
            let done = store.import(vec![arrival], false, false).await.unwrap();
            let overruled = plain.out.get(&account) == Some(&false) && !newer;
            prop_assert_eq!(done.overruled, usize::from(overruled), "{:?}", done);
            prop_assert_eq!(done.recorded + done.known, usize::from(!overruled));
            if !overruled {
                plain.out.insert(account, true);
            }
        }
        Op::Erase(account) => {
            store.erase(vec![subject(account)]).await.unwrap();
            plain.forget(account);
        }
        Op::Prune => {
            let pruned = store.prune(i64::MAX, false).await.unwrap();
            prop_assert!(plain.held.is_none() || pruned.records == 0, "{:?} under a hold", pruned);
            if plain.held.is_none() {
                (0..ACCOUNTS).for_each(|account| plain.forget(account));
            }
        }
        Op::Hold(begins) => match (plain.held, begins) {
            (None, true) => {
                let holds = store.hold(HoldOrder::Site("shop".into(), "case".into())).await.unwrap();
                plain.held = holds.last().map(|hold| hold.id);
            }
            (Some(id), false) => {
                store.hold(HoldOrder::Remove(id)).await.unwrap();
                plain.held = None;
            }
            _ => {}
        },
        _ => {}
    }
    Ok(())
}

fn run(ops: &[Op]) -> Result<(), TestCaseError> {
    let folder = tempfile::tempdir().unwrap();
    let (mut plain, mut store) =
        (Plain { secrets: 1, ..Plain::default() }, opened(folder.path(), &PACKED).unwrap());
    for (number, op) in ops.iter().enumerate() {
        let again = match op {
            Op::Rotate if plain.secrets < 3 => {
                plain.secrets = store::rotate_secret(folder.path()).unwrap().len();
                true
            }
            Op::Retire => {
                let left = block_on(store.retire()).unwrap();
                let outs = plain.out.values().filter(|out| **out).count();
                prop_assert!(left <= outs as u64, "{} of {}", left, outs);
                if left == 0 {
                    store::forget_earlier_secrets(folder.path()).unwrap();
                    plain.secrets = 1;
                }
                left == 0
            }
            Op::Restart => true,
            other => {
                block_on(step(&store, &mut plain, *other, 1_000 + number as i64))?;
                false
            }
        };
        if again {
            block_on(store.close());
            store = opened(folder.path(), &PACKED).unwrap();
        }
        for account in 0..ACCOUNTS {
            let found = store.lookup(&subject(account));
            let stands = match plain.out.get(&account) {
                Some(true) => found.is_out(),
                Some(false) => found == Standing::OptedIn,
                None => found == Standing::Unknown,
            };
            prop_assert!(stands, "account {} is {:?} after {:?}: {:?}", account, found, op, plain);
        }
    }
    block_on(store.close());
    Ok(())
}

#[test]
fn nobodys_opt_out_ends_by_what_is_done_to_the_journal() {
    let cases = u32::try_from(rounds(24)).unwrap();
    let config = Config { cases, failure_persistence: None, max_shrink_iters: 200, ..Config::default() };
    let steps = prop::collection::vec(op(), 1..30);
    TestRunner::new(config).run(&steps, |ops| run(&ops)).unwrap();
    println!("choices and orders against a plain map: {cases} sequences, 0 differences");
}
