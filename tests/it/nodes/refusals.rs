//! Databases and folders that must not be used, and what is said of them.

use super::{Node, folder, limits, out, refusal};
use crate::support::opened;
use crate::support::postgres::{Cluster, connect};

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
    let mut connection = connect(&database).await;
    sqlx::raw_sql("UPDATE optgate.meta SET value = '99' WHERE key = 'schema'")
        .execute(&mut connection)
        .await
        .unwrap();
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
    // Its opt-outs are recorded in its file and honoured all the same.
    twin.record(out(3)).await;
    assert!(twin.store.health().feed.unwrap().unshipped > 0);
    original.close().await;
    twin.stop().await;
}
