//! The database away, cut off, killed, or set back: nothing acknowledged is lost, and all nodes come to the same.

use optgate::config;
use optgate::privacy::Standing;
use optgate::store::{Change, Kind, Source};
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{ConnectOptions, Connection};

use super::{Node, back_in, change, folder, limits, number, out, recorded, subject, through, until};
use crate::support::postgres::{Cluster, connect};
use crate::support::relay::{Line, Relay};
use crate::support::{DEADLINE, opened};

/// While the database is away choices are recorded here and honoured here; they arrive when it is back.
#[tokio::test]
async fn what_is_recorded_while_the_database_is_down_arrives_later() {
    let Some(cluster) = Cluster::own("what_is_recorded_while_the_database_is_down_arrives_later") else {
        return;
    };
    let database = cluster.database().await;
    let (a, b) = (Node::start(&database), Node::start(&database));
    a.record(out(1)).await;
    b.knows(1, Standing::OptedOut).await;
    for round in 0..3u64 {
        cluster.crash();
        a.is_cut_off().await;
        for account in 0..20 {
            a.record(out(100 + round * 20 + account)).await;
        }
        assert_eq!(a.store.lookup(&subject(100 + round * 20)), Standing::OptedOut);
        assert_eq!(b.store.lookup(&subject(1)), Standing::OptedOut, "what is known stays honoured");
        cluster.restart();
        for account in 0..20 {
            b.knows(100 + round * 20 + account, Standing::OptedOut).await;
        }
    }
    a.is_shipped().await;
    let mut connection = connect(&database).await;
    assert_eq!(number(&mut connection, "SELECT count(*) FROM optgate.records").await, 61);
    b.stop().await;
    assert_eq!(recorded(a.stop().await.path()), 61);
}

/// A node that starts while the database is away cannot know what others recorded: an account counts as opted
/// out, and the node says that it is not ready.
#[tokio::test]
async fn before_the_others_were_heard_an_account_counts_as_opted_out() {
    let Some(cluster) = Cluster::own("before_the_others_were_heard_an_account_counts_as_opted_out") else {
        return;
    };
    let database = cluster.database().await;
    let a = Node::start(&database);
    a.record(out(1)).await;
    let folder = a.stop().await;
    cluster.crash();
    let store = opened(folder.path(), &limits(&database)).unwrap();
    assert!(!store.health().loaded);
    assert_eq!(store.lookup(&subject(1)), Standing::OptedOut, "of its own file");
    assert_eq!(store.lookup(&subject(2)), Standing::NotLoaded);
    store.record(out(3)).await.unwrap();
    cluster.restart();
    until("the others are heard", async || store.health().loaded).await;
    assert_eq!(store.lookup(&subject(2)), Standing::Unknown);
    store.close().await;
}

/// During a partition both go on, and converge after. An opt-in on one side does not end an opt-out of the
/// other side that it knew nothing of, however the clocks stand and whichever arrives first; the person is shown the
/// conflict.
#[tokio::test]
async fn cut_apart_nodes_go_on_and_come_to_the_protective_answer() {
    let Some(cluster) = Cluster::shared("cut_apart_nodes_go_on_and_come_to_the_protective_answer") else {
        return;
    };
    let database = cluster.database().await;
    let relay = Relay::start(([127, 0, 0, 1], cluster.port()).into(), 7);
    let a = Node::start(&database);
    let b = Node::start(&through(&database, relay.addr().port()));
    for account in [1, 2] {
        a.record(out(account)).await;
        b.knows(account, Standing::OptedOut).await;
    }
    relay.set(Line::Silent);
    // Account 1: back in on the one side, out again on the other. Account 2: back in, and nothing else.
    b.record(back_in(1)).await;
    b.record(back_in(2)).await;
    a.record(change(Kind::OptOut, Source::Gpc, 1)).await;
    a.record(out(3)).await;
    assert_eq!(b.store.lookup(&subject(1)), Standing::OptedIn, "each side goes on with what it knows");
    assert_eq!(a.store.lookup(&subject(2)), Standing::OptedOut);
    assert_eq!(b.store.lookup(&subject(3)), Standing::Unknown);
    relay.set(Line::Good);
    for node in [&a, &b] {
        node.knows(3, Standing::OptedOut).await;
        node.knows(2, Standing::OptedIn).await;
        node.knows(1, Standing::Overruled).await;
    }
    // Whoever reads it all from the start comes to the same.
    let late = Node::start(&database);
    for (account, standing) in [(1, Standing::Overruled), (2, Standing::OptedIn), (3, Standing::OptedOut)] {
        late.knows(account, standing).await;
    }
    for node in [a, b, late] {
        node.stop().await;
    }
}

/// A shipment whose answer was lost is sent again; nothing comes twice, and nothing is left out.
#[tokio::test]
async fn a_bad_line_to_the_database_loses_and_doubles_nothing() {
    let Some(cluster) = Cluster::shared("a_bad_line_to_the_database_loses_and_doubles_nothing") else {
        return;
    };
    let database = cluster.database().await;
    let relay = Relay::start(([127, 0, 0, 1], cluster.port()).into(), 11);
    let a = Node::start(&through(&database, relay.addr().port()));
    let b = Node::start(&database);
    relay.set(Line::Bad(2, 40));
    for account in 0..200 {
        a.record(out(account)).await;
    }
    relay.set(Line::Good);
    a.is_shipped().await;
    for account in 0..200 {
        b.knows(account, Standing::OptedOut).await;
    }
    println!("{} connections were reset", relay.broken());
    assert!(relay.broken() > 0, "the line was not bad");
    let mut connection = connect(&database).await;
    assert_eq!(number(&mut connection, "SELECT count(*) FROM optgate.records").await, 200);
    assert_eq!(number(&mut connection, "SELECT max(seq) FROM optgate.records").await, 200);
    a.stop().await;
    b.stop().await;
}

/// A failover may lose the last moments of what the database had acknowledged: the node that recorded it still has
/// it, and looks.
#[tokio::test]
async fn what_the_database_lost_is_shipped_again() {
    let Some(cluster) = Cluster::shared("what_the_database_lost_is_shipped_again") else { return };
    let database = cluster.database().await;
    let a = Node::start(&database);
    for account in 0..10 {
        a.record(out(account)).await;
    }
    let folder = a.stop().await;
    let mut connection = connect(&database).await;
    sqlx::raw_sql(
        "DELETE FROM optgate.records WHERE seq > 6;
         UPDATE optgate.nodes SET seq = 6, chain = (SELECT chain FROM optgate.records WHERE seq = 6);",
    )
    .execute(&mut connection)
    .await
    .unwrap();
    let again = opened(folder.path(), &limits(&database)).unwrap();
    until("all is shipped", async || again.health().feed.unwrap().unshipped == 0).await;
    let b = Node::start(&database);
    b.knows(9, Standing::OptedOut).await;
    assert_eq!(number(&mut connection, "SELECT count(*) FROM optgate.records").await, 10);
    again.close().await;
    b.stop().await;
}

/// A stop does not take a recorded choice back: who waits for the database is told of the record on the disk.
#[tokio::test]
async fn a_stop_answers_those_who_wait_for_a_silent_database() {
    let Some(cluster) = Cluster::shared("a_stop_answers_those_who_wait_for_a_silent_database") else {
        return;
    };
    let relay = Relay::start(([127, 0, 0, 1], cluster.port()).into(), 5);
    let database = through(&cluster.database().await, relay.addr().port());
    let mut limits = limits(&database);
    limits.shared = limits.shared.map(|shared| config::Shared { confirm_within: DEADLINE, ..shared });
    let folder = folder();
    let store = opened(folder.path(), &limits).unwrap();
    relay.set(Line::Silent);
    let waiting = {
        let store = store.clone();
        tokio::spawn(async move { store.record(out(1)).await })
    };
    until("it is on the disk", async || recorded(folder.path()) == 1).await;
    store.close().await;
    assert_eq!(waiting.await.unwrap().unwrap().seq, 1);
}

/// Erasure: a record that is on its way to the database while its account is erased arrives tied to that account; it is
/// untied there too before the answer.
#[tokio::test(flavor = "multi_thread")]
async fn a_record_on_its_way_while_its_account_is_erased_is_untied_in_the_database() {
    let Some(cluster) =
        Cluster::shared("a_record_on_its_way_while_its_account_is_erased_is_untied_in_the_database")
    else {
        return;
    };
    let database = cluster.database().await;
    let node = Node::start(&database);
    node.record(out(0)).await;
    node.is_shipped().await;
    // A node's records come with its line, so that they wait for whoever holds that.
    let mut holder = connect(&database).await;
    sqlx::raw_sql("BEGIN; SELECT 1 FROM optgate.nodes FOR UPDATE").execute(&mut holder).await.unwrap();
    node.record(out(1)).await;
    let erasing = {
        let store = node.store.clone();
        tokio::spawn(async move { store.erase(vec![subject(1)]).await })
    };
    let journal = SqliteConnectOptions::new().filename(node.folder.path().join("journal.sqlite3"));
    let mut journal = journal.read_only(true).connect().await.unwrap();
    while sqlx::query_scalar::<_, i64>("SELECT count(subject) FROM journal")
        .fetch_one(&mut journal)
        .await
        .unwrap()
        > 1
    {
        tokio::task::yield_now().await;
    }
    journal.close().await.unwrap();
    sqlx::raw_sql("COMMIT").execute(&mut holder).await.unwrap();
    assert_eq!(erasing.await.unwrap().unwrap().records, 1);
    node.is_shipped().await;
    let tied = "SELECT count(*) FROM optgate.records WHERE subject IS NOT NULL OR blinding IS NOT NULL";
    assert_eq!(number(&mut holder, tied).await, 1, "only the other account's record leads to anybody");
    assert_eq!(node.store.lookup(&subject(1)), Standing::OptedOut);
    node.stop().await;
}

/// Clock skew does not reorder a person's choices, by however many minutes two nodes' clocks differ.
#[tokio::test]
async fn clocks_that_differ_by_minutes_reorder_nobodys_choices() {
    let Some(cluster) = Cluster::shared("clocks_that_differ_by_minutes_reorder_nobodys_choices") else {
        return;
    };
    let database = cluster.database().await;
    let (a, b) = (Node::start(&database), Node::start(&database));
    let minutes = 60_000_000;
    // One node is 20 minutes ahead, the other 20 behind: every later choice has the earlier time, or the other way round.
    for (account, (ahead, behind)) in [(1, (&a, &b)), (2, (&b, &a))] {
        let at = |change: Change, by: i64| Change { time_us: change.time_us + by * minutes, ..change };
        ahead.record(at(out(account), 20)).await;
        behind.knows(account, Standing::OptedOut).await;
        behind.record(at(back_in(account), -20)).await;
        ahead.knows(account, Standing::OptedIn).await;
        ahead.record(at(out(account), 20)).await;
        behind.knows(account, Standing::OptedOut).await;
        ahead.record(at(back_in(account), 20)).await;
        behind.knows(account, Standing::OptedIn).await;
        behind.record(at(out(account), -20)).await;
        ahead.knows(account, Standing::OptedOut).await;
    }
    let late = Node::start(&database);
    for account in [1, 2] {
        late.knows(account, Standing::OptedOut).await;
    }
    for node in [a, b, late] {
        node.stop().await;
    }
}

/// A transaction that stays open while later ones commit hides its records until it ends: whoever reads meanwhile skips none
/// of them, and none of the others' waits.
#[tokio::test(flavor = "multi_thread")]
async fn a_transaction_that_commits_late_is_not_skipped() {
    let Some(cluster) = Cluster::shared("a_transaction_that_commits_late_is_not_skipped") else { return };
    let database = cluster.database().await;
    let (a, b, c) = (Node::start(&database), Node::start(&database), Node::start(&database));
    for (node, account) in [(&a, 1), (&b, 2)] {
        node.record(out(account)).await;
        c.knows(account, Standing::OptedOut).await;
    }
    let mut holder = connect(&database).await;
    // The line of `a`, which its records come with: its transaction has begun, and cannot end.
    let hold = "BEGIN; SELECT 1 FROM optgate.nodes n WHERE EXISTS (SELECT 1 FROM optgate.records r
                WHERE r.node = n.node AND r.reference = (SELECT min(reference) FROM optgate.records)) FOR UPDATE";
    sqlx::raw_sql(hold).execute(&mut holder).await.unwrap();
    for account in 10..20 {
        a.record(out(account)).await;
        b.record(out(account + 10)).await;
    }
    let mut looking = connect(&database).await;
    let waiting = "SELECT count(*) FROM pg_stat_activity
                   WHERE datname = current_database() AND wait_event_type = 'Lock'";
    until("a transaction waits", async || number(&mut connect(&database).await, waiting).await > 0).await;
    // One of the two nodes is held, the other is heard.
    let heard = async |first: u64| {
        (first..first + 10).filter(|account| c.store.lookup(&subject(*account)).is_out()).count()
    };
    until("the other is heard", async || heard(10).await + heard(20).await == 10).await;
    c.store.record(out(30)).await.unwrap();
    sqlx::raw_sql("COMMIT").execute(&mut holder).await.unwrap();
    for account in 10..31 {
        for node in [&a, &b, &c] {
            node.knows(account, Standing::OptedOut).await;
        }
    }
    assert_eq!(number(&mut looking, "SELECT count(*) FROM optgate.records").await, 23);
    for node in [a, b, c] {
        node.stop().await;
    }
}

/// A database that an earlier version made is brought up to date by the first node that starts, and says all that it said.
#[tokio::test]
async fn a_database_of_the_first_schema_is_brought_up_to_date() {
    let Some(cluster) = Cluster::shared("a_database_of_the_first_schema_is_brought_up_to_date") else {
        return;
    };
    let database = cluster.database().await;
    let first = Node::start(&database);
    first.record(out(1)).await;
    first.is_shipped().await;
    let folder = first.stop().await;
    let mut connection = connect(&database).await;
    let schema = "SELECT value::bigint FROM optgate.meta WHERE key = 'schema'";
    let latest = number(&mut connection, schema).await;
    // What the second step changed, back to what the first had made.
    let sql = "DROP INDEX optgate.suppression_subject;
               ALTER TABLE optgate.suppression DROP COLUMN erasure, ADD PRIMARY KEY (subject);
               DELETE FROM optgate.meta WHERE key LIKE 'secret %';
               UPDATE optgate.meta SET value = '1' WHERE key = 'schema';";
    sqlx::raw_sql(sql).execute(&mut connection).await.unwrap();
    sqlx::query("INSERT INTO optgate.suppression VALUES ($1, 'opted-out')")
        .bind(subject(2).as_bytes().as_slice())
        .execute(&mut connection)
        .await
        .unwrap();
    let (again, late) = (Node::start_in(folder, &database), Node::start(&database));
    for account in [1, 2] {
        late.knows(account, Standing::OptedOut).await;
    }
    assert_eq!(number(&mut connection, schema).await, latest);
    again.store.erase(vec![subject(1)]).await.unwrap();
    late.record(out(3)).await;
    again.knows(3, Standing::OptedOut).await;
    assert_eq!(number(&mut connection, "SELECT count(erasure) FROM optgate.suppression").await, 1);
    again.stop().await;
    late.stop().await;
}
