//! Orders on several nodes at once, and choices that come after them: nobody's opt-out is lost, and all nodes agree.

use optgate::privacy::Standing;
use optgate::store::import::{Arrival, Imported};
use optgate::store::{Denial, Kind, Source};

use super::{Node, back_in, change, exported, number, out, subject, through, until};
use crate::support::postgres::{Cluster, connect};
use crate::support::relay::{Line, Relay};

/// Erasure leaves that the account is opted out. An import of it again is an opt-out like any; what the person chooses
/// after it holds, on nodes that were there and on one that comes later.
#[tokio::test(flavor = "multi_thread")]
async fn an_account_that_was_erased_and_imported_again_stands_alike_on_all_nodes() {
    let Some(cluster) =
        Cluster::shared("an_account_that_was_erased_and_imported_again_stands_alike_on_all_nodes")
    else {
        return;
    };
    let database = cluster.database().await;
    let (a, b) = (Node::start(&database), Node::start(&database));
    a.record(out(1)).await;
    b.record(out(1)).await;
    for node in [&a, &b] {
        node.is_shipped().await;
    }
    a.store.erase(vec![subject(1)]).await.unwrap();
    b.store.erase(vec![subject(1)]).await.unwrap();
    let stands = async |node: &Node| {
        until("it is opted out", async || node.store.lookup(&subject(1)).is_out()).await;
    };
    let late = Node::start(&database);
    for node in [&a, &b, &late] {
        stands(node).await;
    }
    b.record(change(Kind::OptOut, Source::Import, 1)).await;
    let later = Node::start(&database);
    for node in [&a, &b, &late, &later] {
        stands(node).await;
    }
    a.record(back_in(1)).await;
    b.knows(1, Standing::OptedIn).await;
    let last = Node::start(&database);
    last.knows(1, a.store.lookup(&subject(1))).await;
    late.record(out(1)).await;
    for node in [&a, &b, &late, &later, &last] {
        stands(node).await;
    }
    assert_eq!(exported(&database).await.map(drop), Ok(()));
    for node in [a, b, late, later, last] {
        node.stop().await;
    }
}

/// Both nodes prune what names the same accounts, while one of them opts back in on the way.
#[tokio::test(flavor = "multi_thread")]
async fn nodes_that_prune_at_once_lose_nobodys_choice() {
    let Some(cluster) = Cluster::shared("nodes_that_prune_at_once_lose_nobodys_choice") else { return };
    let database = cluster.database().await;
    let (a, b) = (Node::start(&database), Node::start(&database));
    for account in 0..20 {
        a.record(out(account)).await;
    }
    // An opt-in ends what its node has heard of.
    b.knows(19, Standing::OptedOut).await;
    for account in 0..20 {
        b.record(out(account)).await;
    }
    b.record(back_in(0)).await;
    a.knows(0, Standing::OptedIn).await;
    for node in [&a, &b] {
        node.is_shipped().await;
    }
    let (one, two) = tokio::join!(a.store.prune(i64::MAX, false), b.store.prune(i64::MAX, false));
    assert_eq!((one.unwrap().records, two.unwrap().records), (20, 21));
    let folders = (a.stop().await, b.stop().await);
    for folder in [&folders.0, &folders.1] {
        // What was heard of the other is heard anew, and own choices are in the database alone.
        std::fs::remove_file(folder.path().join("index.packed")).unwrap();
    }
    let (a, b) = (Node::start_in(folders.0, &database), Node::start_in(folders.1, &database));
    let whole = "SELECT count(*) FROM optgate.records WHERE kind <> 'upkeep' AND canonical IS NOT NULL";
    until("the database has pruned", async || number(&mut connect(&database).await, whole).await == 0).await;
    let late = Node::start(&database);
    for node in [&a, &b, &late] {
        node.knows(0, Standing::OptedIn).await;
        for account in 1..20 {
            node.knows(account, Standing::OptedOut).await;
        }
        assert_eq!(node.store.health().feed.unwrap().unproven, 0);
    }
    assert_eq!(exported(&database).await.map(drop), Ok(()));
    for node in [a, b, late] {
        node.stop().await;
    }
}

/// An opt-in that another node recorded after the day of the file is the later word, however often the
/// file comes; one of before is not. Where the others cannot be asked it is said so, and nobody else waits.
#[tokio::test]
async fn an_import_does_not_overrule_a_later_opt_in_of_another_node() {
    let Some(cluster) = Cluster::shared("an_import_does_not_overrule_a_later_opt_in_of_another_node") else {
        return;
    };
    let database = cluster.database().await;
    let relay = Relay::start(([127, 0, 0, 1], cluster.port()).into(), 17);
    let (a, b) = (Node::start(&through(&database, relay.addr().port())), Node::start(&database));
    for account in [1, 2] {
        a.record(out(account)).await;
        b.knows(account, Standing::OptedOut).await;
        b.record(back_in(account)).await;
        a.knows(account, Standing::OptedIn).await;
    }
    let day_us = 86_400_000_000;
    let arrival = |account: u64, until_us: i64| Arrival {
        subject: subject(account),
        others: Vec::new(),
        formerly: Vec::new(),
        account: None,
        site: "shop".into(),
        policy: "crm".into(),
        requested_us: 0,
        until_us,
        adopted: false,
        denied: None,
    };
    let opted_in_us = back_in(1).time_us;
    let file = || vec![arrival(1, opted_in_us), arrival(2, opted_in_us + day_us), arrival(3, 1)];
    let import = async |file| a.store.import(file, false, false).await;
    assert_eq!(
        import(file()).await.unwrap(),
        Imported { recorded: 2, known: 0, overruled: 1, unclear: 0, denied: 0 }
    );
    assert_eq!(
        import(file()).await.unwrap(),
        Imported { recorded: 0, known: 2, overruled: 1, unclear: 0, denied: 0 },
        "again"
    );
    for node in [&a, &b] {
        node.knows(1, Standing::OptedIn).await;
        until("the older opt-in is overruled", async || node.store.lookup(&subject(2)).is_out()).await;
    }
    relay.set(Line::Silent);
    let done = import(vec![arrival(1, opted_in_us), arrival(4, 1)]).await.unwrap();
    assert_eq!(done, Imported { recorded: 1, known: 0, overruled: 0, unclear: 1, denied: 0 });
    assert_eq!(a.store.lookup(&subject(1)), Standing::OptedIn);
    assert!(a.store.lookup(&subject(4)).is_out(), "who is not in doubt does not wait");
    a.stop().await;
    b.stop().await;
}

/// 11 CCR 7101: a request that was denied is on record once, on whichever nodes its file is read.
#[tokio::test]
async fn a_denial_is_on_record_once_whichever_node_reads_its_file() {
    let Some(cluster) = Cluster::shared("a_denial_is_on_record_once_whichever_node_reads_its_file") else {
        return;
    };
    let database = cluster.database().await;
    let (a, b) = (Node::start(&database), Node::start(&database));
    let denied = |account: u64, line: u64| Arrival {
        subject: subject(account),
        others: Vec::new(),
        formerly: Vec::new(),
        account: None,
        site: "shop".into(),
        policy: format!("agent sha256:00 line {line} of 2026-11-10"),
        requested_us: 0,
        until_us: 1,
        adopted: false,
        denied: Some(Denial::Fraud),
    };
    let file = || vec![denied(1, 2), denied(1, 3)];
    a.store.import(file(), false, false).await.unwrap();
    a.is_shipped().await;
    let again = [file(), vec![denied(2, 4)]].concat();
    for _ in 0..2 {
        let done = b.store.import(again.clone(), false, false).await.unwrap();
        assert_eq!(done.denied, 3);
    }
    b.is_shipped().await;
    let mut connection = connect(&database).await;
    let rows = number(&mut connection, "SELECT count(*) FROM optgate.records WHERE kind = 'denied'").await;
    assert_eq!(rows, 3, "two of the first node, and one that only the second was given");
    a.stop().await;
    b.stop().await;
}
