//! A node killed at random moments under load, again and again, on one data folder.

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use optgate::privacy::Standing;

use super::{Node, folder, limits, number, out, recorded, subject, until};
use crate::support::opened;
use crate::support::postgres::{Cluster, connect};
use crate::support::random::Random;

const FOLDER: &str = "OPTGATE_TEST_NODE_FOLDER";
const DATABASE: &str = "OPTGATE_TEST_NODE_DATABASE";
const FIRST: &str = "OPTGATE_TEST_NODE_FIRST";

/// Rounds of a run; `OPTGATE_KILLS` for more.
const ROUNDS: u64 = 6;

/// Not a test: the node that is killed. Says each account whose opt-out was confirmed.
#[test]
#[ignore = "started by another test with a folder"]
fn child_process() {
    let (Some(folder), Ok(database)) = (std::env::var_os(FOLDER), std::env::var(DATABASE)) else { return };
    let first: u64 = std::env::var(FIRST).unwrap().parse().unwrap();
    let store = opened(&PathBuf::from(folder), &limits(&database)).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let callers = (0..8u64).map(|caller| {
            let store = &store;
            async move {
                for account in (first + caller..).step_by(8) {
                    store.record(out(account)).await.unwrap();
                    let mut stdout = std::io::stdout().lock();
                    stdout.write_all(format!("ACK {account}\n").as_bytes()).unwrap();
                    stdout.flush().unwrap();
                }
            }
        });
        futures_util::future::join_all(callers).await;
    });
}

/// Runs the node for a while and kills it; the accounts that it confirmed.
fn killed(folder: &Path, database: &str, first: u64, after: Duration) -> Vec<u64> {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["nodes::killed::child_process", "--exact", "--ignored", "--nocapture"])
        .env(FOLDER, folder)
        .env(DATABASE, database)
        .env(FIRST, first.to_string())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok);
    let account = |line: &str| line.split_once("ACK ")?.1.parse::<u64>().ok();
    let mut confirmed = Vec::new();
    let mut began = None;
    for line in lines.by_ref() {
        confirmed.extend(account(&line));
        if !confirmed.is_empty() && began.get_or_insert_with(Instant::now).elapsed() > after {
            break;
        }
    }
    child.kill().unwrap();
    // What it had said before it died.
    confirmed.extend(lines.filter_map(|line| account(&line)));
    child.wait().unwrap();
    confirmed
}

/// Issue, proof: after each kill the other node knows every confirmed opt-out, and at the end database, journal and
/// both nodes say the same.
#[tokio::test]
async fn what_a_killed_node_confirmed_every_node_honours() {
    let Some(cluster) = Cluster::own("what_a_killed_node_confirmed_every_node_honours") else { return };
    let database = cluster.database().await;
    let other = Node::start(&database);
    let (folder, mut random) = (folder(), Random(0x6b69_6c6c));
    let rounds = std::env::var("OPTGATE_KILLS").ok().and_then(|n| n.parse().ok()).unwrap_or(ROUNDS);
    let mut confirmed = Vec::new();
    for round in 0..rounds {
        let after = Duration::from_millis(random.below(200) as u64);
        let said = killed(folder.path(), &database, round << 32, after);
        confirmed.extend(said);
    }
    let store = opened(folder.path(), &limits(&database)).unwrap();
    until("all is shipped", async || store.health().feed.unwrap().unshipped == 0).await;
    until("the other node heard all", async || {
        confirmed.iter().all(|account| other.store.lookup(&subject(*account)) == Standing::OptedOut)
    })
    .await;
    let lost = confirmed.iter().filter(|a| store.lookup(&subject(**a)) != Standing::OptedOut).count();
    println!("{rounds} kills, {} opt-outs confirmed, {lost} lost", confirmed.len());
    assert!(!confirmed.is_empty() && lost == 0);
    store.close().await;
    let mut connection = connect(&database).await;
    let shared = number(&mut connection, "SELECT count(*) FROM optgate.records").await;
    assert_eq!(shared, i64::try_from(recorded(folder.path())).unwrap());
    assert_eq!(other.store.health().accounts_opted_out, u64::try_from(shared).unwrap());
    other.stop().await;
}
