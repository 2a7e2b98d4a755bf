//! How soon an opt-out that one node records is honoured by all others, and what that costs the database.
//!
//! Real PostgreSQL, synced commits, all on this machine: nodes and database share its cores, so on machines of their
//! own they are sooner. `OPTGATE_NODES=200` adds a run with so many nodes, each a store of its own in this process;
//! `OPTGATE_ACCOUNTS=1000000` what a new node takes to know so many accounts from the database alone.

#![allow(clippy::unwrap_used)] // a bench that cannot run should say so and stop

use std::time::{Duration, Instant};

use optgate::config;
use optgate::privacy::Standing;
use optgate::store::{Health, Store};
use tempfile::TempDir;

mod accounts;

#[path = "../tests/it/support/postgres.rs"]
#[expect(dead_code, reason = "the tests use the rest")]
mod postgres;

use accounts::{out, subject};
use postgres::Cluster;

/// Waits until something holds; for the cluster.
fn wait_until(what: &str, holds: impl Fn() -> bool) {
    let start = Instant::now();
    while !holds() {
        assert!(start.elapsed() < Duration::from_secs(30), "never: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Says why the bench cannot run; for the cluster.
fn skipped(what: &str, why: &str) {
    println!("skipped: {what}: {why}");
}

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

struct Node {
    store: Store,
    _folder: TempDir,
}

fn node(database: &str, listen: bool) -> Node {
    let folder = TempDir::with_prefix("optgate-node-").unwrap();
    std::fs::write(folder.path().join("secret.key"), "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=\n")
        .unwrap();
    let limits = config::Store {
        queue: 1_000_000,
        records_per_second: u32::MAX,
        record_burst: u32::MAX,
        shared: Some(config::Shared {
            url: config::parse_database(database).unwrap(),
            read_url: None,
            poll: Duration::from_millis(250),
            listen,
            confirm_within: Duration::from_millis(500),
        }),
        ..config::Store::default()
    };
    Node { store: Store::open(folder.path(), &limits).unwrap(), _folder: folder }
}

/// CPU seconds of the cluster's processes so far, those that ended excepted.
fn database_cpu() -> f64 {
    let mut ticks = 0u64;
    for entry in std::fs::read_dir("/proc").unwrap().flatten() {
        let Ok(stat) = std::fs::read_to_string(entry.path().join("stat")) else { continue };
        let Some((name, rest)) = stat.split_once(") ") else { continue };
        if name.ends_with("(postgres") {
            let numbers: Vec<u64> = rest.split(' ').filter_map(|n| n.parse().ok()).collect();
            // After the state letter: utime and stime are the 11th and 12th (proc_pid_stat(5), fields 14 and 15).
            ticks += numbers.get(10).unwrap_or(&0) + numbers.get(11).unwrap_or(&0);
        }
    }
    // A tick is a hundredth of a second on every Linux that is in use.
    ticks as f64 / 100.0
}

/// One opt-out after the other on the first node; for each, when the last of the others honoured it.
async fn propagation(cluster: &Cluster, nodes: usize, listen: bool, opt_outs: u64, pause: Duration) {
    let database = cluster.database().await;
    let all: Vec<Node> = (0..nodes).map(|_| node(&database, listen)).collect();
    for node in &all {
        while !node.store.health().loaded {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
    let (began, cpu) = (Instant::now(), database_cpu());
    let (mut confirmed, mut honoured) = (Vec::new(), Vec::new());
    for account in 0..opt_outs {
        let start = Instant::now();
        all[0].store.record(out(account)).await.unwrap();
        confirmed.push(start.elapsed());
        let subject = subject(account);
        for node in &all[1..] {
            while node.store.lookup(&subject) != Standing::OptedOut {
                tokio::time::sleep(Duration::from_micros(200)).await;
            }
        }
        honoured.push(start.elapsed());
        tokio::time::sleep(pause).await;
    }
    let load = (database_cpu() - cpu) / began.elapsed().as_secs_f64();
    let way = if listen { "notified" } else { "polling every 250 ms" };
    println!(
        "{nodes:>4} nodes, {way}: confirmed after {}, honoured by all after {}; the database used {load:.2} cores",
        figures(&mut confirmed),
        figures(&mut honoured),
    );
    for node in all {
        node.store.close().await;
    }
}

fn figures(times: &mut [Duration]) -> String {
    times.sort();
    let at = |part: f64| times[((times.len() - 1) as f64 * part) as usize].as_secs_f64() * 1_000.0;
    format!("p50 {:.1} ms, p99 {:.1} ms, max {:.1} ms", at(0.5), at(0.99), at(1.0))
}

/// The database that a process started by [`newcomer`] reads.
const READS: &str = "OPTGATE_NODES_READS";

/// Resident memory, in bytes.
fn resident() -> u64 {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
    statm.split(' ').nth(1).unwrap().parse::<u64>().unwrap() * 4096
}

/// One node records so many accounts; another, in a process and with an empty folder of its own, takes them in.
async fn newcomer(cluster: &Cluster, accounts: u64) {
    let database = cluster.database().await;
    let first = node(&database, true);
    for account in 0..accounts {
        first.store.record_behind(out(account));
        while account % 1_024 == 0 && first.store.health().backlog > 100_000 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }
    let is_there =
        |health: Health| health.backlog == 0 && health.feed.is_some_and(|feed| feed.unshipped == 0);
    while !is_there(first.store.health()) {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let program = std::env::current_exe().unwrap();
    let said = std::process::Command::new(program).env(READS, &database).output().unwrap();
    print!("{accounts} accounts, {}", String::from_utf8(said.stdout).unwrap());
    first.store.close().await;
}

/// Starts a node without anything and says what it took until it knew all there is.
async fn starts(database: &str) {
    let (before, began) = (resident(), Instant::now());
    let node = node(database, true);
    while !node.store.health().loaded {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let (took, known) = (began.elapsed().as_secs_f64(), node.store.health().accounts_opted_out);
    let held = (resident() - before) as f64 / 1_048_576.0;
    println!(
        "of which a node with an empty folder knew {known} after {took:.2} s; it then held {held:.1} MiB more"
    );
    node.store.close().await;
}

fn main() {
    if let Ok(database) = std::env::var(READS) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        return runtime.block_on(starts(&database));
    }
    // cargo passes `--bench`; cargo test runs benches to see that they start.
    let Some(cluster) = Cluster::own("benches/nodes") else { return };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        for nodes in [2, 8] {
            propagation(&cluster, nodes, true, 500, Duration::from_millis(2)).await;
            propagation(&cluster, nodes, false, 40, Duration::from_millis(2)).await;
        }
        if let Some(many) = std::env::var("OPTGATE_NODES").ok().and_then(|n| n.parse().ok()) {
            propagation(&cluster, many, true, 200, Duration::from_millis(20)).await;
            propagation(&cluster, many, false, 40, Duration::from_millis(20)).await;
        }
        if let Some(accounts) = std::env::var("OPTGATE_ACCOUNTS").ok().and_then(|n| n.parse().ok()) {
            newcomer(&cluster, accounts).await;
        }
    });
}
