//! Several nodes on one PostgreSQL database: what one records, all honour.
//!
//! Each node is a store with a data folder of its own and the same secret, as several machines would have; the
//! database is a real one.

#![allow(clippy::unwrap_used)] // helpers of tests fail as tests do

mod killed;
mod network;
mod orders;
mod outages;
mod packed;
mod receipts;
mod refusals;
mod restarted;
mod secrets;
mod servers;
mod serving;
mod tampered;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use optgate::config;
use optgate::privacy::{Basis, Standing, Subject};
use optgate::store::{Change, Kind, OpenError, Receipt, RecordView, Source, Store};
use sqlx::postgres::PgConnection;
use sqlx::{AssertSqlSafe, Row};
use tempfile::TempDir;
use url::Url;

use crate::support::postgres::{Cluster, connect};
use crate::support::{DEADLINE, opened};

/// A data folder, and the store on it.
struct Node {
    folder: TempDir,
    store: Store,
}

impl Node {
    /// A node with an empty folder that holds only the secret of the tests.
    fn start(database: &str) -> Self {
        Self::start_in(folder(), database)
    }

    /// A node with this folder.
    fn start_in(folder: TempDir, database: &str) -> Self {
        let store = opened(folder.path(), &limits(database)).unwrap();
        Self { folder, store }
    }

    /// Stops it; its folder stays.
    async fn stop(self) -> TempDir {
        self.store.close().await;
        self.folder
    }

    async fn record(&self, change: Change) -> Receipt {
        self.store.record(change).await.unwrap()
    }

    /// Waits until this is known of an account.
    async fn knows(&self, account: u64, standing: Standing) {
        let subject = subject(account);
        until(&format!("account {account} is {standing:?}"), async || {
            self.store.lookup(&subject) == standing
        })
        .await;
    }

    /// Waits until every record of this node is in the database.
    async fn is_shipped(&self) {
        until("all is shipped", async || {
            let feed = self.store.health().feed.unwrap();
            feed.unshipped == 0 && feed.error.is_none()
        })
        .await;
    }

    /// Waits until the node says that it is cut off, and returns why.
    async fn is_cut_off(&self) -> String {
        until("the node says that it is cut off", async || self.store.health().feed.unwrap().error.is_some())
            .await;
        self.store.health().feed.unwrap().error.unwrap_or_default()
    }
}

/// A data folder with the secret of the tests.
fn folder() -> TempDir {
    let folder = TempDir::with_prefix("optgate-node-").unwrap();
    std::fs::write(folder.path().join("secret.key"), "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=\n")
        .unwrap();
    folder
}

/// Settings of a node that nothing holds up.
fn limits(database: &str) -> config::Store {
    config::Store {
        queue: 100_000,
        records_per_second: 1_000_000,
        record_burst: 100_000,
        shared: Some(shared(database)),
        // A file of the index after every change: each start begins with one.
        pack_after: Some(1),
        ..config::Store::default()
    }
}

/// A database, as most tests use it.
pub fn shared(database: &str) -> config::Shared {
    config::Shared {
        url: config::parse_database(database).unwrap(),
        read_url: None,
        poll: Duration::from_millis(100),
        listen: true,
        confirm_within: Duration::from_millis(500),
    }
}

/// The database by another address: through a relay.
fn through(database: &str, port: u16) -> String {
    let mut url = Url::parse(database).unwrap();
    url.set_port(Some(port)).unwrap();
    url.to_string()
}

async fn until(what: &str, holds: impl AsyncFn() -> bool) {
    let start = std::time::Instant::now();
    while !holds().await {
        assert!(start.elapsed() < DEADLINE, "never: {what}");
        tokio::task::yield_now().await;
    }
}

fn subject(number: u64) -> Subject {
    let mut bytes = [0; 16];
    bytes[..8].copy_from_slice(&number.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_be_bytes());
    bytes[8..].copy_from_slice(&number.to_be_bytes());
    Subject::from_bytes(bytes)
}

fn change(kind: Kind, source: Source, account: u64) -> Change {
    Change {
        time_us: 1_795_000_000_000_000,
        site: "shop".into(),
        kind,
        source,
        basis: (kind == Kind::OptOut).then_some(Basis::Gpc),
        policy: "abc123".into(),
        subject: Some(subject(account)),
    }
}

fn out(account: u64) -> Change {
    change(Kind::OptOut, Source::Form, account)
}

fn back_in(account: u64) -> Change {
    change(Kind::OptIn, Source::Form, account)
}

/// One number of the database.
async fn number(connection: &mut PgConnection, sql: &str) -> i64 {
    let row =
        sqlx::query(AssertSqlSafe(sql.to_owned())).persistent(false).fetch_one(connection).await.unwrap();
    row.try_get(0).unwrap()
}

/// Records of a data folder.
fn recorded(folder: &Path) -> usize {
    let mut count = 0;
    optgate::store::export(folder, &mut |_| {
        count += 1;
        Ok(())
    })
    .unwrap();
    count
}

/// An opt-out on one node is honoured on another, and so is what was recorded before a
/// node began, without anybody asking.
#[tokio::test]
async fn what_one_node_records_every_node_honours() {
    let Some(cluster) = Cluster::shared("what_one_node_records_every_node_honours") else { return };
    let database = cluster.database().await;
    let (a, b) = (Node::start(&database), Node::start(&database));
    a.record(out(1)).await;
    b.knows(1, Standing::OptedOut).await;
    b.store.record_behind(change(Kind::OptOut, Source::Gpc, 2));
    a.knows(2, Standing::OptedOut).await;
    a.record(change(Kind::OptOut, Source::Import, 3)).await;
    b.knows(3, Standing::OptedOutByImport).await;
    a.record(Change { subject: None, ..out(0) }).await;

    let late = Node::start(&database);
    for (account, standing) in [
        (1, Standing::OptedOut),
        (2, Standing::OptedOut),
        (3, Standing::OptedOutByImport),
        (4, Standing::Unknown),
    ] {
        late.knows(account, standing).await;
    }
    assert_eq!(late.store.health().feed.unwrap().nodes, 2);
    for node in [a, b, late] {
        node.stop().await;
    }
}

/// The fold of several journals: a person goes out, in and out again on whichever node the next request reaches.
#[tokio::test]
async fn a_person_goes_out_and_in_on_any_node() {
    let Some(cluster) = Cluster::shared("a_person_goes_out_and_in_on_any_node") else { return };
    let database = cluster.database().await;
    let (a, b) = (Node::start(&database), Node::start(&database));
    a.record(out(1)).await;
    b.knows(1, Standing::OptedOut).await;
    b.record(back_in(1)).await;
    a.knows(1, Standing::OptedIn).await;
    a.record(out(1)).await;
    b.knows(1, Standing::OptedOut).await;
    a.record(back_in(1)).await;
    b.knows(1, Standing::OptedIn).await;
    // A node that hears it all at once comes to the same, and so does one of them when it starts anew.
    let late = Node::start(&database);
    late.knows(1, Standing::OptedIn).await;
    let folder = a.stop().await;
    let again = opened(folder.path(), &limits(&database)).unwrap();
    until("loaded", async || again.health().loaded).await;
    assert_eq!(again.lookup(&subject(1)), Standing::OptedIn);
    again.close().await;
    b.stop().await;
    late.stop().await;
}

/// A confirmed opt-out is on the node's disk, and, where the database is there, in it as well: losing the node
/// loses nothing.
#[tokio::test]
async fn an_opt_out_is_in_the_database_before_it_is_confirmed() {
    let Some(cluster) = Cluster::shared("an_opt_out_is_in_the_database_before_it_is_confirmed") else {
        return;
    };
    let database = cluster.database().await;
    let node = Node::start(&database);
    let mut connection = connect(&database).await;
    for account in 0..50 {
        let receipt = node.record(out(account)).await;
        let sql = format!("SELECT count(*) FROM optgate.records WHERE reference = '{}'", receipt.reference);
        assert_eq!(number(&mut connection, &sql).await, 1, "record {account}");
    }
    node.stop().await;
}

/// A receipt is found wherever its holder is sent by the load balancer.
#[tokio::test]
async fn a_receipt_of_one_node_is_found_on_another() {
    let Some(cluster) = Cluster::shared("a_receipt_of_one_node_is_found_on_another") else { return };
    let database = cluster.database().await;
    let (a, b) = (Node::start(&database), Node::start(&database));
    let receipt = a.record(out(1)).await;
    let found = b.store.find(&receipt.reference.to_lowercase()).await.unwrap().unwrap();
    assert_eq!((found.seq, found.reference, found.account), (receipt.seq, receipt.reference, true));
    assert_eq!(b.store.find("0000-0000-0000-0000").await.unwrap(), None);
    a.stop().await;
    b.stop().await;
}

/// Migrations run once, however many nodes start in the same moment.
#[tokio::test(flavor = "multi_thread")]
async fn nodes_that_start_together_make_one_schema() {
    let Some(cluster) = Cluster::shared("nodes_that_start_together_make_one_schema") else { return };
    let database: Arc<str> = cluster.database().await.into();
    let starting: Vec<_> = (0..8)
        .map(|_| {
            let database = Arc::clone(&database);
            tokio::task::spawn_blocking(move || Node::start(&database))
        })
        .collect();
    let mut nodes = Vec::new();
    for node in starting {
        nodes.push(node.await.unwrap());
    }
    for (account, node) in (0..).zip(&nodes) {
        node.record(out(account)).await;
    }
    for node in &nodes {
        for account in 0..8 {
            node.knows(account, Standing::OptedOut).await;
        }
    }
    for node in nodes {
        node.stop().await;
    }
    let mut connection = connect(&database).await;
    assert_eq!(number(&mut connection, "SELECT count(*) FROM optgate.meta WHERE key = 'schema'").await, 1);
}

/// The error of a store that must not open.
fn refusal(folder: &Path, limits: &config::Store) -> String {
    match opened(folder, limits) {
        Ok(_) => panic!("the store opened"),
        Err(error @ OpenError::Database { .. }) => error.to_string(),
        Err(error) => panic!("{error}"),
    }
}

async fn execute(database: &str, sql: &'static str) {
    sqlx::raw_sql(sql).execute(&mut connect(database).await).await.unwrap();
}

/// The records of all nodes, as an auditor gets them.
async fn exported(database: &str) -> Result<Vec<RecordView>, String> {
    let url = config::parse_database(database).unwrap();
    let read = tokio::task::spawn_blocking(move || {
        let (mut all, secret) = (Vec::new(), folder());
        let read = optgate::store::export_shared(&url, secret.path(), &mut |record| {
            all.push(record);
            Ok(())
        });
        read.map(|_| all).map_err(|error| error.to_string())
    });
    read.await.unwrap()
}

/// An auditor gets the records of all nodes in one reading, each node's chain verified; a changed one is named.
#[tokio::test(flavor = "multi_thread")]
async fn the_records_of_all_nodes_are_exported_and_verified() {
    let Some(cluster) = Cluster::shared("the_records_of_all_nodes_are_exported_and_verified") else { return };
    let database = cluster.database().await;
    let (a, b) = (Node::start(&database), Node::start(&database));
    for account in 0..5 {
        a.record(out(account)).await;
        b.record(Change { site: "blog".into(), ..out(account + 10) }).await;
    }
    b.record(back_in(10)).await;
    let all = exported(&database).await.unwrap();
    assert_eq!(all.len(), 11);
    assert!(all.is_sorted_by_key(|record| (record.node.clone(), record.seq)), "{all:?}");
    assert_eq!(all.iter().filter(|record| record.site == "blog").count(), 5);
    assert_eq!(all.iter().filter(|record| record.kind == "opt-in").count(), 1);
    execute(&database, "UPDATE optgate.records SET kind = 'opt-in' WHERE site = 'blog' AND seq = 3").await;
    let error = exported(&database).await.unwrap_err();
    assert!(error.contains("record 3 of node") && error.contains("chain"), "{error}");
    a.stop().await;
    b.stop().await;
}

/// What is kept of an erased account in the database is sealed there too, by the record of the erasure: the export
/// of all nodes names it when a hand took the account out or made it another. More than was sealed harms nobody.
#[tokio::test(flavor = "multi_thread")]
async fn an_account_kept_in_the_database_cannot_be_taken_out_unseen() {
    let Some(cluster) = Cluster::shared("an_account_kept_in_the_database_cannot_be_taken_out_unseen") else {
        return;
    };
    let database = cluster.database().await;
    let a = Node::start(&database);
    for account in 0..2 {
        a.record(out(account)).await;
    }
    a.is_shipped().await;
    a.store.erase(vec![subject(0)]).await.unwrap();
    a.store.erase(vec![subject(0), subject(1)]).await.unwrap();
    a.is_shipped().await;
    let read = async || exported(&database).await.map(drop);
    assert_eq!(read().await, Ok(()));
    let mut connection = connect(&database).await;
    let mut change = async |sql: &'static str| {
        sqlx::raw_sql(sql).execute(&mut connection).await.unwrap();
    };
    change("CREATE TABLE optgate.aside AS TABLE optgate.suppression").await;
    let first = "record 3 seals accounts that are kept by their hash alone";
    let second = "record 4 seals accounts that are kept by their hash alone";
    for (sql, words) in [
        ("DELETE FROM optgate.suppression", first),
        ("UPDATE optgate.suppression SET standing = 'opted-in'", first),
        ("UPDATE optgate.suppression SET erasure = NULL", first),
        (
            "DELETE FROM optgate.suppression s WHERE subject <> (SELECT subject FROM optgate.suppression
             GROUP BY subject HAVING count(*) = 2)",
            second,
        ),
    ] {
        change(sql).await;
        let said = read().await.unwrap_err();
        assert!(said.contains(words), "{sql}: {said}");
        change("DELETE FROM optgate.suppression; INSERT INTO optgate.suppression TABLE optgate.aside").await;
    }
    change("INSERT INTO optgate.suppression SELECT decode(repeat('07', 16), 'hex'), 'opted-out'").await;
    assert_eq!(read().await, Ok(()));
    let late = Node::start(&database);
    for account in 0..2 {
        late.knows(account, Standing::OptedOut).await;
    }
    a.stop().await;
    late.stop().await;
}

/// 11 CCR 7101 and erasure, in the copies that nodes share: what is pruned or erased in a journal is so in the database,
/// and a node that comes later honours the opt-out all the same.
#[tokio::test(flavor = "multi_thread")]
async fn what_a_node_forgets_the_database_forgets_and_opt_outs_stay() {
    let Some(cluster) = Cluster::shared("what_a_node_forgets_the_database_forgets_and_opt_outs_stay") else {
        return;
    };
    let database = cluster.database().await;
    let a = Node::start(&database);
    for account in 0..3 {
        a.record(out(account)).await;
    }
    a.is_shipped().await;
    a.store.erase(vec![subject(0)]).await.unwrap();
    let mut connection = connect(&database).await;
    let tied = "SELECT count(*) FROM optgate.records WHERE subject IS NOT NULL AND blinding IS NOT NULL";
    assert_eq!(number(&mut connection, tied).await, 2);
    let pruned = a.store.prune(i64::MAX, false).await.unwrap();
    assert_eq!((pruned.records, pruned.accounts_kept), (3, 2));
    let folder = a.stop().await;
    let again = opened(folder.path(), &limits(&database)).unwrap();
    // What was done to the journal stays: here an erasure and a prune.
    let whole = "SELECT count(*) FROM optgate.records WHERE kind <> 'upkeep' AND canonical IS NOT NULL \
                 OR blinding IS NOT NULL";
    assert_eq!(
        number(&mut connection, "SELECT count(*) FROM optgate.records WHERE kind = 'upkeep'").await,
        2
    );
    until("the database has pruned", async || number(&mut connect(&database).await, whole).await == 0).await;
    let late = Node::start(&database);
    for account in 0..3 {
        late.knows(account, Standing::OptedOut).await;
        assert_eq!(again.lookup(&subject(account)), Standing::OptedOut);
    }
    let all = exported(&database).await.unwrap();
    let kinds: Vec<_> = all.into_iter().map(|record| (record.kind, record.signal, record.site)).collect();
    let [erase, prune] = ["erase", "prune"].map(|done| ("upkeep".to_owned(), done.to_owned(), String::new()));
    assert_eq!(kinds, [erase, prune]);
    again.close().await;
    late.stop().await;
}
