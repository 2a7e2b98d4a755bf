//! Receipts of other nodes are looked for in the database, each over a connection of its own; whoever types references
//! without end must not take all that the database has.

use futures_util::future::select_all;

use super::{Cluster, Node, through};
use crate::support::relay::{Line, Relay};

#[tokio::test(flavor = "multi_thread")]
async fn receipts_that_are_not_here_take_a_few_connections_and_no_more() {
    let test = "receipts_that_are_not_here_take_a_few_connections_and_no_more";
    let Some(cluster) = Cluster::shared(test) else { return };
    let database = cluster.database().await;
    let relay = Relay::start(([127, 0, 0, 1], cluster.port()).into(), 17);
    let node = Node::start(&through(&database, relay.addr().port()));
    assert_eq!(node.store.find("0000-0000-0000-0000").await.unwrap(), None);
    relay.set(Line::Silent);
    let finding = (0..5).map(|_| Box::pin(node.store.find("0000-0000-0000-0000")));
    let (first, _, others) = select_all(finding).await;
    let why = first.unwrap_err().to_string();
    assert!(why.contains("too many receipts of other nodes are looked for just now"), "{why}");
    drop(others);
    relay.set(Line::Good);
    node.stop().await;
}
