//! What operators put between nodes and the database: poolers, read replicas, and a standby that takes over.

use optgate::config;
use optgate::privacy::Standing;

use super::{Node, back_in, folder, limits, number, out, shared, subject, through, until};
use crate::support::opened;
use crate::support::postgres::{Cluster, Pooler, connect};
use crate::support::relay::Relay;

fn node(shared: config::Shared) -> Node {
    let folder = folder();
    let limits = config::Store { shared: Some(shared), ..limits("postgres://x/x") };
    let store = opened(folder.path(), &limits).unwrap();
    Node { folder, store }
}

/// PgBouncer with transaction pooling, polled because LISTEN cannot pass. Its pool is smaller than the number
/// of connections that two nodes open.
#[tokio::test]
async fn a_pooler_by_the_transaction_may_stand_between() {
    let test = "a_pooler_by_the_transaction_may_stand_between";
    let Some(cluster) = Cluster::shared(test) else { return };
    let Some(pooler) = Pooler::start(test, &cluster) else { return };
    let database = through(&cluster.database().await, pooler.port);
    let polling = || config::Shared { listen: false, ..shared(&database) };
    let (a, b) = (node(polling()), node(polling()));
    for account in 0..30 {
        a.record(out(account)).await;
    }
    for account in 0..30 {
        b.knows(account, Standing::OptedOut).await;
    }
    b.record(back_in(7)).await;
    a.knows(7, Standing::OptedIn).await;
    a.stop().await;
    b.stop().await;
}

/// A pooler that is killed takes every connection along: choices are recorded meanwhile, and all arrive once it is back.
#[tokio::test]
async fn a_pooler_that_is_killed_and_started_again_loses_nothing() {
    let test = "a_pooler_that_is_killed_and_started_again_loses_nothing";
    let Some(cluster) = Cluster::shared(test) else { return };
    let Some(mut pooler) = Pooler::start(test, &cluster) else { return };
    let direct = cluster.database().await;
    let database = through(&direct, pooler.port);
    let polling = || config::Shared { listen: false, ..shared(&database) };
    let (a, b) = (node(polling()), node(polling()));
    for round in 0..3 {
        for account in 0..10 {
            a.record(out(round * 20 + account)).await;
        }
        pooler.kill();
        for account in 10..20 {
            a.record(out(round * 20 + account)).await;
        }
        a.is_cut_off().await;
        pooler.restart();
        for account in 0..20 {
            b.knows(round * 20 + account, Standing::OptedOut).await;
        }
    }
    a.is_shipped().await;
    let count = "SELECT count(*) FROM optgate.records";
    assert_eq!(number(&mut connect(&direct).await, count).await, 60, "nothing came twice");
    b.record(back_in(7)).await;
    a.knows(7, Standing::OptedIn).await;
    a.stop().await;
    b.stop().await;
}

/// Behind a pooler that passes no notifications nobody can listen: it is said what to write.
#[tokio::test]
async fn a_node_that_listens_through_a_pooler_says_which_setting_to_write() {
    let test = "a_node_that_listens_through_a_pooler_says_which_setting_to_write";
    let Some(cluster) = Cluster::shared(test) else { return };
    let Some(pooler) = Pooler::start(test, &cluster) else { return };
    let database = through(&cluster.database().await, pooler.port);
    let a = node(shared(&database));
    let why = a.is_cut_off().await;
    assert!(why.contains("store.listen = false") && why.contains("extra_float_digits"), "{why}");
    a.stop().await;
}

/// Read replicas, for hundreds of edges: a node writes to the primary and hears the others from a replica.
#[tokio::test]
async fn the_others_are_heard_from_a_read_replica() {
    let Some(primary) = Cluster::own("the_others_are_heard_from_a_read_replica") else { return };
    let database = primary.database().await;
    let a = Node::start(&database);
    a.record(out(1)).await;
    let replica = primary.replica();
    let read_url = config::parse_database(&through(&database, replica.port())).unwrap();
    let b = node(config::Shared { read_url: Some(read_url), ..shared(&database) });
    b.knows(1, Standing::OptedOut).await;
    a.record(out(2)).await;
    b.knows(2, Standing::OptedOut).await;
    b.record(back_in(2)).await;
    a.knows(2, Standing::OptedIn).await;
    assert_eq!(b.store.lookup(&subject(2)), Standing::OptedIn);
    a.stop().await;
    b.stop().await;
}

/// A replica that stopped to follow answers as ever, and has nothing new: whoever reads it must say so, also a node that
/// has recorded nothing itself.
#[tokio::test]
async fn a_replica_that_stopped_to_follow_is_said_to() {
    let Some(primary) = Cluster::own("a_replica_that_stopped_to_follow_is_said_to") else { return };
    let database = primary.database().await;
    let replica = primary.replica();
    let replica_url = through(&database, replica.port());
    let a = Node::start(&database);
    let b = node(config::Shared {
        read_url: Some(config::parse_database(&replica_url).unwrap()),
        ..shared(&database)
    });
    a.record(out(1)).await;
    b.knows(1, Standing::OptedOut).await;
    let error = async || b.store.health().feed.unwrap().error;
    let mut paused = connect(&replica_url).await;
    sqlx::raw_sql("SELECT pg_wal_replay_pause()").execute(&mut paused).await.unwrap();
    a.record(out(2)).await;
    until("the replica is noticed", async || {
        error().await.is_some_and(|error| error.contains("does not follow the primary"))
    })
    .await;
    assert_eq!(b.store.lookup(&subject(2)), Standing::Unknown);
    sqlx::raw_sql("SELECT pg_wal_replay_resume()").execute(&mut paused).await.unwrap();
    b.knows(2, Standing::OptedOut).await;
    until("it follows", async || error().await.is_none()).await;
    b.record(out(3)).await;
    a.knows(3, Standing::OptedOut).await;
    a.stop().await;
    b.stop().await;
}

/// PostgreSQL failed over. The standby had not received the last records: their node ships them to the new
/// primary, and everybody comes to the same.
#[tokio::test]
async fn a_standby_that_takes_over_without_the_last_records_gets_them() {
    let Some(primary) = Cluster::own("a_standby_that_takes_over_without_the_last_records_gets_them") else {
        return;
    };
    let url = primary.database().await;
    let relay = Relay::start(([127, 0, 0, 1], primary.port()).into(), 3);
    let database = through(&url, relay.addr().port());
    let (a, b) = (Node::start(&database), Node::start(&database));
    for account in 0..20 {
        a.record(out(account)).await;
    }
    let standby = primary.replica();
    let standby_url = through(&url, standby.port());
    let mut looking = connect(&standby_url).await;
    // From here on the standby hears nothing: what is acknowledged now will be lost with the primary.
    for sql in ["ALTER SYSTEM SET primary_conninfo = ''", "SELECT pg_reload_conf()"] {
        sqlx::raw_sql(sql).execute(&mut looking).await.unwrap();
    }
    while number(&mut looking, "SELECT count(*) FROM pg_stat_wal_receiver").await > 0 {}
    for account in 20..40 {
        a.record(out(account)).await;
    }
    a.is_shipped().await;
    b.knows(39, Standing::OptedOut).await;
    primary.crash();
    standby.promote();
    relay.turn_to(([127, 0, 0, 1], standby.port()).into());
    let mut promoted = connect(&standby_url).await;
    until("all records are on the new primary", async || {
        number(&mut connect(&standby_url).await, "SELECT count(*) FROM optgate.records").await == 40
    })
    .await;
    b.record(back_in(1)).await;
    a.knows(1, Standing::OptedIn).await;
    let late = Node::start(&database);
    for account in 2..40 {
        late.knows(account, Standing::OptedOut).await;
    }
    assert_eq!(number(&mut promoted, "SELECT count(*) FROM optgate.nodes").await, 2);
    for node in [a, b, late] {
        node.stop().await;
    }
}
