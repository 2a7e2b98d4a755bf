//! What was acknowledged, kept outside of the store, and whether the store still says so.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;

use optgate::privacy::Standing;
use optgate::store::{Kind, RecordView, Store, export};

use super::super::support::opened;
use super::{PACKED, WIDE, out, subject};

/// Rounds of a test: a few, or `OPTGATE_STORE_ROUNDS`.
pub(super) fn rounds(few: u64) -> u64 {
    std::env::var("OPTGATE_STORE_ROUNDS").map_or(few, |rounds| rounds.parse().unwrap())
}

/// A seed that the failing test names; `OPTGATE_STORE_SEED` gives it again.
pub(super) fn seed() -> u64 {
    let given = std::env::var("OPTGATE_STORE_SEED").ok().map(|seed| seed.parse().unwrap());
    let seed = given.unwrap_or_else(|| getrandom::u64().unwrap()) | 1;
    println!("OPTGATE_STORE_SEED={seed}");
    seed
}

/// What a child said about its accounts.
#[derive(Debug, Clone, Default)]
pub(super) struct Oracle {
    /// Reference, account, kind.
    promised: Vec<(String, u64, Kind)>,
    /// In the order they were asked, and whether they were acknowledged.
    asked: BTreeMap<u64, Vec<(Kind, bool)>>,
}

impl Oracle {
    /// Hears one line; others than those about accounts say nothing.
    pub(super) fn hear(&mut self, line: &str) {
        // The test harness may have begun the line.
        let of = |verb: &str| line.split_once(verb).map(|(_, rest)| rest.split(' ').collect::<Vec<_>>());
        let kind = |word: &str| if word.starts_with("out") { Kind::OptOut } else { Kind::OptIn };
        if let Some(words) = of("ASK ") {
            self.asked.entry(words[0].parse().unwrap()).or_default().push((kind(words[1]), false));
        } else if let Some(words) = of("ACK ") {
            let account = words[1].parse().unwrap();
            self.asked.get_mut(&account).unwrap().last_mut().unwrap().1 = true;
            self.promised.push((words[0].to_owned(), account, kind(words[2])));
        }
    }

    /// How many were acknowledged.
    pub(super) fn acknowledged(&self) -> usize {
        self.promised.len()
    }

    /// Acknowledged changes that a folder does not have any more, in its journal or in its index.
    ///
    /// # Errors
    /// Why the folder is refused.
    pub(super) fn lost(&self, folder: &Path) -> Result<usize, String> {
        if self.promised.is_empty() {
            // It may have ended while the journal was being made: there may be none, or half of one.
            let store = opened(folder, &WIDE).map_err(|e| format!("open: {e}"))?;
            block_on(store.close());
        }
        // Before the store recovers what a crash left: an export does not need it.
        let mut kept: HashMap<String, RecordView> = HashMap::new();
        export(folder, &mut |record| {
            kept.insert(record.reference.clone(), record);
            Ok(())
        })
        .map_err(|e| format!("export: {e}"))?;
        let in_journal = |(reference, _, kind): &&(String, u64, Kind)| {
            kept.get(reference).is_some_and(|r| r.kind == kind.as_str() && r.account)
        };
        let missing = self.promised.len() - self.promised.iter().filter(in_journal).count();
        let mut lost = missing;
        // First from the file of the index, if there is one, then from the whole journal.
        for limits in [&PACKED, &WIDE] {
            let store = opened(folder, limits).map_err(|e| format!("open: {e}"))?;
            let health = store.health();
            lost = lost.max(self.forgotten(&store));
            block_on(store.close());
            if health.records != kept.len() as u64 || health.journal_error.is_some() {
                return Err(format!("{} rows exported, {health:?}", kept.len()));
            }
        }
        Ok(lost)
    }

    /// Accounts that an open store does not know as they were told.
    pub(super) fn forgotten(&self, store: &Store) -> usize {
        self.asked.iter().filter(|(account, asked)| !stands(store, **account, asked)).count()
    }

    /// As [`Oracle::lost`], of a folder that must open and have everything.
    pub(super) fn assert_kept(&self, folder: &Path, what: &str) {
        let acknowledged = self.acknowledged();
        assert_eq!(self.lost(folder), Ok(0), "lost of {acknowledged} acknowledged, {what}");
    }
}

/// Whether an account stands as it was last told, or as it asked for after that.
fn stands(store: &Store, account: u64, asked: &[(Kind, bool)]) -> bool {
    let told = asked.iter().rposition(|(_, acknowledged)| *acknowledged);
    match store.lookup(&subject(account)) {
        Standing::OptedOut => asked[told.unwrap_or(0)..].iter().any(|(kind, _)| *kind == Kind::OptOut),
        Standing::OptedIn => asked[told.unwrap_or(0)..].iter().any(|(kind, _)| *kind == Kind::OptIn),
        Standing::Unknown => told.is_none(),
        _ => false,
    }
}

/// For tests that drive children and have no runtime.
pub(super) fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
}

/// The check itself: an oracle that hears of more than was recorded must say so.
#[test]
fn the_oracle_misses_what_is_not_there() {
    let folder = tempfile::tempdir().unwrap();
    let store = opened(folder.path(), &WIDE).unwrap();
    let mut oracle = Oracle::default();
    for account in 0..3 {
        let receipt = block_on(store.record(out(account))).unwrap();
        oracle.hear(&format!("ASK {account} out"));
        oracle.hear(&format!("ACK {} {account} out", receipt.reference));
    }
    block_on(store.close());
    assert_eq!(oracle.lost(folder.path()), Ok(0));
    let mut other = oracle.clone();
    other.hear("ASK 7 out");
    assert_eq!(other.lost(folder.path()), Ok(0), "asked and not answered");
    other.hear("ACK 0000-0000-0000-0000 7 out");
    assert_eq!(other.lost(folder.path()), Ok(1), "in neither journal nor index");
    oracle.hear("ASK 1 in");
    oracle.hear("ACK 0000-0000-0000-0000 1 in");
    assert_eq!(oracle.lost(folder.path()), Ok(1), "its last word was another");
}
