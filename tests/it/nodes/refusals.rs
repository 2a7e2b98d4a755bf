//! Databases and folders that must not be used, and what is said of them.

use optgate::config;
use optgate::privacy::Standing;

use super::{Node, back_in, execute, folder, limits, out, refusal, subject, until};
use crate::support::opened;
use crate::support::postgres::Cluster;

/// Accounts are hashes under the secret: nodes with two secrets would each ignore the other's opt-outs.
#[tokio::test]
async fn a_node_with_another_secret_is_refused() {
    let Some(cluster) = Cluster::shared("a_node_with_another_secret_is_refused") else { return };
    let database = cluster.database().await;
    let a = Node::start(&database);
    let stranger = tempfile::tempdir().unwrap();
    let error = refusal(stranger.path(), &limits(&database));
    assert!(error.contains("copy secret.key"), "{error}");
    a.stop().await;
}

/// Forward only: an older program never writes into a schema it does not know.
#[tokio::test]
async fn a_newer_schema_is_refused() {
    let Some(cluster) = Cluster::shared("a_newer_schema_is_refused") else { return };
    let database = cluster.database().await;
    let a = Node::start(&database).stop().await;
    execute(&database, "UPDATE optgate.meta SET value = '99' WHERE key = 'schema'").await;
    let error = refusal(a.path(), &limits(&database));
    assert!(error.contains("newer Optgate (schema 99"), "{error}");
}

/// What cannot get better by waiting is refused at start, with what to do, and never with the password.
#[tokio::test]
async fn a_database_that_is_not_there_is_refused_without_its_password() {
    let test = "a_database_that_is_not_there_is_refused_without_its_password";
    let Some(cluster) = Cluster::shared(test) else { return };
    let url = format!("postgres://optgate:s3cret@127.0.0.1:{}/nowhere", cluster.port());
    let error = refusal(folder().path(), &limits(&url));
    assert!(error.contains("no such database") && error.contains("store.url"), "{error}");
    assert!(!error.contains("s3cret") && error.contains("optgate:***@"), "{error}");
}

/// A data folder that was copied, or set back to a backup, would write other records under numbers that are taken.
#[tokio::test]
async fn a_copied_folder_is_fenced_and_says_so() {
    let Some(cluster) = Cluster::shared("a_copied_folder_is_fenced_and_says_so") else { return };
    let database = cluster.database().await;
    let a = Node::start(&database);
    a.record(out(1)).await;
    let folder = a.stop().await;
    let copy = tempfile::tempdir().unwrap();
    for file in ["journal.sqlite3", "secret.key", "signing.key"] {
        std::fs::copy(folder.path().join(file), copy.path().join(file)).unwrap();
    }
    let original = opened(folder.path(), &limits(&database)).unwrap();
    original.record(out(2)).await.unwrap();
    let twin = Node { store: opened(copy.path(), &limits(&database)).unwrap(), folder: copy };
    let why = twin.is_cut_off().await;
    assert!(why.contains("is a copy, or was restored"), "{why}");
    // What the other recorded as this node is honoured here as well ...
    twin.knows(2, Standing::OptedOut).await;
    // ... and what is recorded here is honoured here, but nobody is told that it was saved.
    let refused = twin.store.record(out(3)).await.unwrap_err().to_string();
    assert!(refused.contains("is a copy, or was restored"), "{refused}");
    assert_eq!(twin.store.lookup(&subject(3)), Standing::OptedOut);
    let feed = twin.store.health().feed.unwrap();
    assert!(feed.fenced && feed.unshipped == 1, "the first is in the database too: {feed:?}");
    original.close().await;
    twin.stop().await;
}

/// What a node recorded after the backup that it was set back to is in the database, and honoured by every other node:
/// it is not ready before it honours it too. Its own opt-in there is weighed with what it knew.
#[tokio::test]
async fn a_restored_node_honours_what_it_recorded_after_the_backup() {
    let Some(cluster) = Cluster::shared("a_restored_node_honours_what_it_recorded_after_the_backup") else {
        return;
    };
    let database = cluster.database().await;
    let a = Node::start(&database);
    a.record(out(1)).await;
    a.record(out(2)).await;
    let folder = a.stop().await;
    let backup = tempfile::tempdir().unwrap();
    for file in ["journal.sqlite3", "secret.key", "signing.key"] {
        std::fs::copy(folder.path().join(file), backup.path().join(file)).unwrap();
    }
    let a = Node::start_in(folder, &database);
    a.record(back_in(1)).await;
    for account in 3..6 {
        a.record(out(account)).await;
    }
    a.is_shipped().await;
    a.stop().await;
    let restored = Node::start_in(backup, &database);
    until("it has heard all", async || restored.store.health().loaded).await;
    for account in 2..6 {
        assert_eq!(restored.store.lookup(&subject(account)), Standing::OptedOut, "{account}");
    }
    restored.knows(1, Standing::OptedIn).await;
    assert!(restored.is_cut_off().await.contains("is a copy, or was restored"));
    restored.stop().await;
}

/// A row that somebody took out of the table is noticed by who reads it, and what is there is honoured.
#[tokio::test]
async fn a_record_that_is_missing_from_the_database_is_noticed() {
    let Some(cluster) = Cluster::shared("a_record_that_is_missing_from_the_database_is_noticed") else {
        return;
    };
    let database = cluster.database().await;
    let a = Node::start(&database);
    for account in 1..5 {
        a.record(out(account)).await;
    }
    a.is_shipped().await;
    execute(&database, "DELETE FROM optgate.records WHERE seq IN (2, 3)").await;
    let late = Node::start(&database);
    late.knows(4, Standing::OptedOut).await;
    let feed = late.store.health().feed.unwrap();
    assert_eq!(feed.missing, 2, "{feed:?}");
    assert!(feed.first_missing.unwrap().starts_with("records 2 to 3 of node "));
    let mut metrics = optgate::telemetry::metrics::Metrics::new();
    metrics.register_collector(Box::new(optgate::store::StoreCollector::new(&late.store)));
    assert!(metrics.render().contains("optgate_feed_missing_records 2\n"));
    a.stop().await;
    late.stop().await;
}

/// A rename that came to one node only: the others' opt-outs would not be honoured there, and it says so.
#[tokio::test]
async fn a_node_says_when_opt_outs_of_others_are_kept_under_a_name_it_lacks() {
    let test = "a_node_says_when_opt_outs_of_others_are_kept_under_a_name_it_lacks";
    let Some(cluster) = Cluster::shared(test) else { return };
    let database = cluster.database().await;
    let names = |name: &str, formerly: &[&str]| config::Names {
        kept: [(name.to_owned(), [name.to_owned()].into())].into(),
        known: formerly.iter().chain([&name]).map(|name| (*name).to_owned()).collect(),
        looked_up: [(
            name.to_owned(),
            formerly.iter().chain([&name]).map(|name| (*name).to_owned()).collect(),
        )]
        .into(),
    };
    let (a, b) = (Node::start(&database), Node::start(&database));
    a.store.note_names(&names("shop", &[])).unwrap();
    a.record(out(1)).await;
    a.is_shipped().await;
    b.store.note_names(&names("store", &[])).unwrap();
    let lost = |node: &Node| node.store.health().feed.unwrap().lost_names;
    // Looked for when the names change: the other's note may have come after.
    until("it says so", async || {
        b.store.note_names(&names("store", &["x"])).unwrap();
        b.store.note_names(&names("store", &[])).unwrap();
        !lost(&b).is_empty()
    })
    .await;
    assert!(lost(&b)[0].starts_with("1 opted-out accounts or profiles are kept under the name \"shop\""));
    b.store.note_names(&names("store", &["shop"])).unwrap();
    until("nothing is lost", async || lost(&b).is_empty()).await;
    a.stop().await;
    b.stop().await;
}
