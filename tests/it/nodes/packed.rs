//! A node that starts from the file of its index, beside others.

use optgate::privacy::Standing;
use optgate::store::{Kind, Source, Store};

use super::super::support::postgres::Cluster;
use super::super::support::random::Random;
use super::{Node, back_in, change, folder, out, subject, until};

const ACCOUNTS: u64 = 20;

fn standings(store: &Store) -> Vec<Standing> {
    (0..ACCOUNTS).map(|account| store.lookup(&subject(account))).collect()
}

/// Nodes that stop and start from their files, whatever is chosen on whichever node
/// meanwhile, come to what a node comes to that reads everything.
#[tokio::test]
async fn nodes_that_start_from_their_files_know_what_all_journals_tell() {
    let Some(cluster) = Cluster::shared("nodes_that_start_from_their_files_know_what_all_journals_tell")
    else {
        return;
    };
    let database = cluster.database().await;
    let mut random = Random(0x6f70_7467_6174_6531);
    let mut folders = vec![folder(), folder()];
    for round in 0..6 {
        let nodes: Vec<Node> = folders.drain(..).map(|folder| Node::start_in(folder, &database)).collect();
        for _ in 0..25 {
            let (node, account) = (&nodes[random.below(2)], random.draw() % ACCOUNTS);
            match random.below(4) {
                0 => drop(node.record(back_in(account)).await),
                1 => node.store.record_behind(change(Kind::OptOut, Source::Gpc, account)),
                _ => drop(node.record(out(account)).await),
            }
        }
        // One of them stops while the other goes on.
        let mut nodes = nodes.into_iter();
        let (first, second) = (nodes.next().unwrap(), nodes.next().unwrap());
        folders.push(first.stop().await);
        for _ in 0..10 {
            let account = random.draw() % ACCOUNTS;
            second.record(if random.below(2) == 0 { back_in(account) } else { out(account) }).await;
        }
        folders.push(second.stop().await);
        assert!(folders.iter().all(|folder| folder.path().join("index.packed").exists()), "round {round}");

        let whole = Node::start(&database);
        let again: Vec<Node> = folders.drain(..).map(|folder| Node::start_in(folder, &database)).collect();
        until("loaded", async || whole.store.health().loaded).await;
        for node in &again {
            until(&format!("the same is known, round {round}"), async || {
                node.store.health().loaded && standings(&node.store) == standings(&whole.store)
            })
            .await;
        }
        whole.stop().await;
        for node in again {
            folders.push(node.stop().await);
        }
    }
}
