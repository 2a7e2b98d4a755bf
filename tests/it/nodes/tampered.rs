//! A hand in the database that nodes share: what it takes out is missed and sent again, and what it puts in or changes
//! opts nobody in.

use optgate::privacy::Standing;
use optgate::store::{Change, RecordError};

use super::{Node, back_in, execute, exported, out, subject, until};
use crate::support::postgres::{Cluster, connect};

async fn count(database: &str) -> Result<usize, String> {
    exported(database).await.map(|all| all.len())
}

/// A table that was emptied, or lost its last rows, leaves what its nodes' lines say: a node that begins says what it could
/// not hear, and hears it once the node that recorded it sends it again.
#[tokio::test(flavor = "multi_thread")]
async fn records_that_went_from_the_end_are_missed_and_sent_again() {
    let Some(cluster) = Cluster::shared("records_that_went_from_the_end_are_missed_and_sent_again") else {
        return;
    };
    for (taken, left, missing) in [
        ("TRUNCATE optgate.records", 0, "records 1 to 4 of node "),
        ("DELETE FROM optgate.records WHERE seq > 2", 2, "records 3 to 4 of node "),
    ] {
        let database = cluster.database().await;
        let a = Node::start(&database);
        for account in 1..5 {
            a.record(out(account)).await;
        }
        a.is_shipped().await;
        let folder = a.stop().await;
        execute(&database, taken).await;
        let late = Node::start(&database);
        until("it is missed", async || late.store.health().feed.unwrap().missing == 4 - left).await;
        let feed = late.store.health().feed.unwrap();
        assert!(feed.first_missing.unwrap().starts_with(missing));
        let said = exported(&database).await.unwrap_err();
        assert!(said.contains("up to 4") && said.contains("went missing"), "{said}");
        let again = Node::start_in(folder, &database);
        for account in 1..5 {
            late.knows(account, Standing::OptedOut).await;
        }
        until("nothing is missing", async || late.store.health().feed.unwrap().missing == 0).await;
        again.is_shipped().await;
        assert_eq!(count(&database).await, Ok(4));
        // And while it runs.
        execute(&database, taken).await;
        until("they are sent again", async || count(&database).await == Ok(4)).await;
        again.stop().await;
        late.stop().await;
    }
}

/// What a node recorded is heard and exported whether its own line is there or not; that it is not is said.
#[tokio::test(flavor = "multi_thread")]
async fn a_node_whose_line_was_taken_out_is_heard_all_the_same() {
    let Some(cluster) = Cluster::shared("a_node_whose_line_was_taken_out_is_heard_all_the_same") else {
        return;
    };
    let database = cluster.database().await;
    let a = Node::start(&database);
    a.record(out(1)).await;
    a.record(out(2)).await;
    a.is_shipped().await;
    let folder = a.stop().await;
    execute(&database, "DELETE FROM optgate.nodes").await;
    let late = Node::start(&database);
    late.knows(1, Standing::OptedOut).await;
    late.knows(2, Standing::OptedOut).await;
    let said = exported(&database).await.unwrap_err();
    assert!(said.contains("up to 2, and no line of that node in `nodes`"), "{said}");
    let again = Node::start_in(folder, &database);
    until("its line is there again", async || count(&database).await == Ok(2)).await;
    again.stop().await;
    late.stop().await;
}

/// A database that is set back to an older state has lost records and their node's word that they were there: whoever
/// heard them knows, and honours them.
#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_was_set_back_is_missed_by_who_heard_more() {
    let Some(cluster) = Cluster::shared("a_database_that_was_set_back_is_missed_by_who_heard_more") else {
        return;
    };
    let database = cluster.database().await;
    let (a, b) = (Node::start(&database), Node::start(&database));
    for account in 1..4 {
        a.record(out(account)).await;
        b.knows(account, Standing::OptedOut).await;
    }
    a.is_shipped().await;
    let folder = a.stop().await;
    execute(
        &database,
        "DELETE FROM optgate.records WHERE seq > 1;
         UPDATE optgate.nodes n SET seq = 1, chain = r.chain FROM optgate.records r WHERE r.node = n.node",
    )
    .await;
    until("it is missed", async || b.store.health().feed.unwrap().missing == 2).await;
    assert!(b.store.health().feed.unwrap().first_missing.unwrap().starts_with("records 2 to 3 of node "));
    b.knows(3, Standing::OptedOut).await;
    let again = Node::start_in(folder, &database);
    until("it is there again", async || b.store.health().feed.unwrap().missing == 0).await;
    again.stop().await;
    b.stop().await;
}

/// What opts somebody in must be proven by what a hand in the database cannot make; what is changed into it is an opt-out
/// as before.
#[tokio::test]
async fn a_row_that_was_made_up_or_changed_opts_nobody_in() {
    let Some(cluster) = Cluster::shared("a_row_that_was_made_up_or_changed_opts_nobody_in") else { return };
    let database = cluster.database().await;
    let (a, b) = (Node::start(&database), Node::start(&database));
    for account in 1..4 {
        a.record(out(account)).await;
    }
    b.knows(3, Standing::OptedOut).await;
    a.is_shipped().await;
    a.stop().await;
    execute(
        &database,
        "UPDATE optgate.records SET kind = 'opt-in' WHERE seq = 1;
         UPDATE optgate.records SET kind = 'opt-in', canonical = NULL, digest = chain, reference = NULL, blinding = NULL
             WHERE seq = 2;
         INSERT INTO optgate.records SELECT node, 4, time_us, site, 'opt-in', signal, subject, blinding, node || ':3',
             NULL, canonical, digest, chain FROM optgate.records WHERE seq = 3;
         UPDATE optgate.nodes SET seq = 4",
    )
    .await;
    let late = Node::start(&database);
    for node in [&late, &b] {
        until("the made-up row is seen", async || node.store.health().feed.unwrap().unproven > 0).await;
        for account in 1..4 {
            node.knows(account, Standing::OptedOut).await;
        }
    }
    let feed = late.store.health().feed.unwrap();
    assert_eq!(feed.unproven, 2, "the changed one is read from its bytes: {feed:?}");
    b.stop().await;
    late.stop().await;
}

/// 11 CCR 7028(a): whichever node takes the second act, it knows of an opt-out that came after the first on another.
#[tokio::test]
async fn an_opt_out_on_another_node_ends_a_question_on_this_one() {
    let Some(cluster) = Cluster::shared("an_opt_out_on_another_node_ends_a_question_on_this_one") else {
        return;
    };
    let database = cluster.database().await;
    let (a, b) = (Node::start(&database), Node::start(&database));
    a.record(out(1)).await;
    b.knows(1, Standing::OptedOut).await;
    // What a start reads may have been chosen at any time, and ends every question before its end.
    until("b has heard all", async || b.store.health().loaded).await;
    let asked = b.store.moment();
    assert!(!b.store.opted_out_since(&subject(1), asked));
    let ended = async || b.store.opted_out_since(&subject(1), asked);
    a.record(out(1)).await;
    until("the second opt-out is heard", ended).await;
    assert!(a.store.opted_out_since(&subject(1), asked));
    a.stop().await;
    b.stop().await;
}

/// A person's own opt-in is proven for as long as it is kept, also when its record is pruned.
#[tokio::test]
async fn an_opt_in_that_was_pruned_is_known_to_a_node_that_comes_later() {
    let Some(cluster) = Cluster::shared("an_opt_in_that_was_pruned_is_known_to_a_node_that_comes_later")
    else {
        return;
    };
    let database = cluster.database().await;
    let a = Node::start(&database);
    a.record(out(1)).await;
    a.record(back_in(1)).await;
    a.is_shipped().await;
    a.store.prune(i64::MAX, false).await.unwrap();
    // Its next start prunes the database.
    let again = Node::start_in(a.stop().await, &database);
    let whole = "SELECT count(*) FROM optgate.records WHERE kind <> 'upkeep' AND canonical IS NOT NULL";
    until("the database has pruned", async || super::number(&mut connect(&database).await, whole).await == 0)
        .await;
    let late = Node::start(&database);
    late.knows(1, Standing::OptedIn).await;
    assert_eq!(late.store.health().feed.unwrap().unproven, 0);
    again.stop().await;
    late.stop().await;
}

/// As `ledger verify` does with a journal, the export of all nodes counts what was done to records against the orders.
#[tokio::test(flavor = "multi_thread")]
async fn an_export_names_rows_that_no_order_untied_or_pruned() {
    let Some(cluster) = Cluster::shared("an_export_names_rows_that_no_order_untied_or_pruned") else {
        return;
    };
    let database = cluster.database().await;
    let (a, b) = (Node::start(&database), Node::start(&database));
    for account in 0..3 {
        a.record(out(account)).await;
    }
    b.knows(0, Standing::OptedOut).await;
    b.record(out(0)).await;
    for node in [&a, &b] {
        node.is_shipped().await;
    }
    // Two records, one of each node; the other's file keeps its own.
    a.store.erase(vec![subject(0)]).await.unwrap();
    a.is_shipped().await;
    assert_eq!(count(&database).await, Ok(5));
    execute(&database, "CREATE TABLE optgate.aside AS TABLE optgate.records").await;
    for (sql, words) in [
        (
            "UPDATE optgate.records SET subject = NULL, blinding = NULL WHERE seq = 2",
            "3 records have lost what ties them to an account, and the records of erasures tell of 2",
        ),
        (
            "UPDATE optgate.records SET digest = sha256(canonical), canonical = NULL, reference = NULL, subject = NULL,
                 blinding = NULL WHERE seq = 3",
            "1 records are pruned, and the records of what was done to the journal tell of 0",
        ),
    ] {
        execute(&database, sql).await;
        let said = exported(&database).await.unwrap_err();
        assert!(said.contains(words), "{sql}: {said}");
        execute(&database, "DELETE FROM optgate.records; INSERT INTO optgate.records TABLE optgate.aside").await;
    }
    assert_eq!(count(&database).await, Ok(5));
    a.stop().await;
    b.stop().await;
}

/// A pruned record does not say in its own node's file whose it was; its row in the database did. Where that is lost the
/// node has the account's hash still, by which the others honour it.
#[tokio::test]
async fn an_account_kept_by_its_hash_is_honoured_after_its_row_was_lost() {
    let Some(cluster) = Cluster::shared("an_account_kept_by_its_hash_is_honoured_after_its_row_was_lost")
    else {
        return;
    };
    let database = cluster.database().await;
    let a = Node::start(&database);
    a.record(out(1)).await;
    a.is_shipped().await;
    a.store.prune(i64::MAX, false).await.unwrap();
    a.is_shipped().await;
    let folder = a.stop().await;
    execute(&database, "TRUNCATE optgate.records").await;
    let late = Node::start(&database);
    until("it is missed", async || late.store.health().feed.unwrap().missing == 2).await;
    let again = Node::start_in(folder, &database);
    late.knows(1, Standing::OptedOut).await;
    let later = Node::start(&database);
    later.knows(1, Standing::OptedOut).await;
    for node in [again, late, later] {
        node.stop().await;
    }
}

/// What a node's file has pruned the database prunes within the hour: an erasure in between unties it there alone, and
/// says so.
#[tokio::test(flavor = "multi_thread")]
async fn an_erasure_of_what_the_database_has_not_pruned_yet_is_told() {
    let Some(cluster) = Cluster::shared("an_erasure_of_what_the_database_has_not_pruned_yet_is_told") else {
        return;
    };
    let database = cluster.database().await;
    let a = Node::start(&database);
    a.record(out(1)).await;
    a.is_shipped().await;
    // So that its first look for pruned records is over.
    until("it has sent all", async || a.store.health().feed.unwrap().unshipped == 0).await;
    a.store.prune(i64::MAX, false).await.unwrap();
    a.store.erase(vec![subject(1)]).await.unwrap();
    a.is_shipped().await;
    assert_eq!(exported(&database).await.map(drop), Ok(()));
    a.stop().await;
}

/// Of a pruned row nothing shows any more that it named somebody: the order that pruned it says how many did. The node
/// that pruned it has the account's hash, by which the others honour it all the same.
#[tokio::test(flavor = "multi_thread")]
async fn a_pruned_row_that_was_untied_by_hand_is_missed_and_its_account_honoured() {
    let Some(cluster) =
        Cluster::shared("a_pruned_row_that_was_untied_by_hand_is_missed_and_its_account_honoured")
    else {
        return;
    };
    let database = cluster.database().await;
    let a = Node::start(&database);
    for account in 1..4 {
        a.record(out(account)).await;
    }
    a.record(Change { subject: None, ..out(0) }).await;
    let a = prunes_all(a, &database).await;
    assert_eq!(exported(&database).await.map(drop), Ok(()));
    a.store.erase(vec![subject(1)]).await.unwrap();
    a.is_shipped().await;
    assert_eq!(exported(&database).await.map(drop), Ok(()), "an order unties pruned rows too, and says so");
    let folder = a.stop().await;
    execute(&database, "UPDATE optgate.records SET subject = NULL WHERE seq = 2").await;
    let said = exported(&database).await.unwrap_err();
    let words = "2 records, pruned ones with them, have lost what ties them to an account, and the records of erasures tell \
                 of 1";
    assert!(said.contains(words), "{said}");
    let again = Node::start_in(folder, &database);
    until("the node's hash of it is kept", async || {
        let kept = "SELECT count(*) FROM optgate.suppression WHERE erasure IS NULL";
        super::number(&mut connect(&database).await, kept).await == 1
    })
    .await;
    let late = Node::start(&database);
    for account in 1..4 {
        late.knows(account, Standing::OptedOut).await;
    }
    again.stop().await;
    late.stop().await;
}

/// Of a pruned row nothing but its columns shows whose it was: its node's word, which a hand in the database cannot give,
/// stands beside them. Whoever opted out in one that was given to somebody else would be lost to later nodes.
#[tokio::test(flavor = "multi_thread")]
async fn a_pruned_row_that_was_given_to_another_account_is_named() {
    let Some(cluster) = Cluster::shared("a_pruned_row_that_was_given_to_another_account_is_named") else {
        return;
    };
    let database = cluster.database().await;
    let a = Node::start(&database);
    for account in 1..4 {
        a.record(out(account)).await;
    }
    a.record(back_in(3)).await;
    let a = prunes_all(a, &database).await;
    assert_eq!(exported(&database).await.map(drop), Ok(()));
    a.stop().await;
    execute(&database, "CREATE TABLE optgate.aside AS TABLE optgate.records").await;
    let silent = "nothing proves that their node wrote whose they are: records ";
    for (sql, words) in [
        ("subject = decode(repeat('07', 16), 'hex') WHERE seq = 2", "another thing stands there than"),
        ("seen = NULL, subject = decode(repeat('07', 16), 'hex') WHERE seq = 2", silent),
        ("seen = NULL WHERE seq < 5", silent),
        ("kind = 'opt-out' WHERE seq = 4", "another thing stands there than"),
    ] {
        let sql: &'static str = String::leak(format!("UPDATE optgate.records SET {sql}"));
        execute(&database, sql).await;
        let said = exported(&database).await.unwrap_err();
        assert!(said.contains(words), "{sql}: {said}");
        execute(&database, "DELETE FROM optgate.records; INSERT INTO optgate.records TABLE optgate.aside")
            .await;
    }
    execute(&database, "UPDATE optgate.records SET subject = decode(repeat('07', 16), 'hex') WHERE seq = 2")
        .await;
    let late = Node::start(&database);
    until("a later node says so", async || late.store.health().feed.unwrap().unproven == 1).await;
    late.stop().await;
}

/// An order of an earlier version did not say enough of what it pruned: that leaves no room for what later ones did.
#[tokio::test(flavor = "multi_thread")]
async fn an_order_of_an_earlier_version_hides_no_row_that_was_untied_later() {
    let Some(cluster) = Cluster::shared("an_order_of_an_earlier_version_hides_no_row_that_was_untied_later")
    else {
        return;
    };
    let database = cluster.database().await;
    let old = Node::start(&database);
    old.record(out(9)).await;
    prunes_all(old, &database).await.stop().await;
    // As it would have left it: the order and the row say less, and the chain is over that.
    execute(
        &database,
        "UPDATE optgate.records SET seen = NULL;
         UPDATE optgate.records SET canonical = overlay(canonical PLACING ' past=1 nothing=1'::bytea
             FROM position(' tied=1 vouched=1'::bytea IN canonical)) WHERE seq = 2;
         UPDATE optgate.records r SET chain = sha256(b.chain || sha256(r.canonical)) FROM optgate.records b
             WHERE r.seq = 2 AND b.seq = 1;
         UPDATE optgate.nodes n SET chain = r.chain FROM optgate.records r WHERE r.seq = 2",
    )
    .await;
    let a = Node::start(&database);
    for account in 1..4 {
        a.record(out(account)).await;
    }
    let a = prunes_all(a, &database).await;
    assert_eq!(
        exported(&database).await.map(drop),
        Ok(()),
        "an earlier version's row has no word of its node"
    );
    a.stop().await;
    execute(&database, "UPDATE optgate.records SET subject = NULL WHERE seq = 3").await;
    let said = exported(&database).await.unwrap_err();
    assert!(said.contains("1 records, pruned ones with them, have lost"), "{said}");
}

/// What is erased leaves nothing that whoever has the secret could try accounts on.
#[tokio::test(flavor = "multi_thread")]
async fn an_erased_row_keeps_no_word_about_the_account() {
    let Some(cluster) = Cluster::shared("an_erased_row_keeps_no_word_about_the_account") else { return };
    let database = cluster.database().await;
    let a = Node::start(&database);
    a.record(out(1)).await;
    a.record(back_in(1)).await;
    a.is_shipped().await;
    let words = "SELECT count(*) FROM optgate.records WHERE seen LIKE '%,=%'";
    assert_eq!(super::number(&mut connect(&database).await, words).await, 1);
    a.store.erase(vec![subject(1)]).await.unwrap();
    a.is_shipped().await;
    assert_eq!(super::number(&mut connect(&database).await, words).await, 0);
    assert_eq!(exported(&database).await.map(drop), Ok(()));
    a.stop().await;
}

/// A node knows for its own records alone under which secret they are: what others recorded must not be lost to it by
/// taking an earlier one away.
#[tokio::test(flavor = "multi_thread")]
async fn a_node_among_others_retires_no_secret() {
    let Some(cluster) = Cluster::shared("a_node_among_others_retires_no_secret") else { return };
    let database = cluster.database().await;
    let b = Node::start(&database);
    assert_eq!(b.store.retire().await.unwrap(), 0, "alone");
    let a = Node::start(&database);
    a.record(out(1)).await;
    a.is_shipped().await;
    let refused = b.store.retire().await.unwrap_err();
    assert!(matches!(refused, RecordError::Shared(1)), "{refused}");
    a.stop().await;
    let refused = b.store.retire().await.unwrap_err();
    assert!(refused.to_string().contains("1 other nodes have records in the shared database"), "{refused}");
    b.stop().await;
}

/// Pruned rows that were lost come back without whose they were: that no hand took it, their node says.
#[tokio::test(flavor = "multi_thread")]
async fn pruned_rows_that_were_sent_again_are_no_false_alarm() {
    let Some(cluster) = Cluster::shared("pruned_rows_that_were_sent_again_are_no_false_alarm") else {
        return;
    };
    let database = cluster.database().await;
    let a = Node::start(&database);
    for account in 1..4 {
        a.record(out(account)).await;
    }
    let a = prunes_all(a, &database).await;
    for _ in 0..2 {
        execute(&database, "TRUNCATE optgate.records").await;
        until("all of it is there again", async || exported(&database).await.is_ok()).await;
    }
    let told = "SELECT count(*) FROM optgate.records WHERE signal = 'seal'";
    assert_eq!(super::number(&mut connect(&database).await, told).await, 1, "once");
    let told = "SELECT count(*) FROM optgate.records WHERE seq = 5 AND signal = 'seal'";
    assert_eq!(super::number(&mut connect(&database).await, told).await, 1);
    execute(&database, "UPDATE optgate.records SET subject = NULL, blinding = NULL").await;
    assert_eq!(exported(&database).await.map(drop), Ok(()), "none of them has any to lose");
    a.stop().await;
}

/// Has a node prune all it recorded, and the database after it; the node, started anew.
async fn prunes_all(node: Node, database: &str) -> Node {
    node.is_shipped().await;
    node.store.prune(i64::MAX, false).await.unwrap();
    node.is_shipped().await;
    // Its next start prunes the database.
    let again = Node::start_in(node.stop().await, database);
    let whole = "SELECT count(*) FROM optgate.records WHERE kind <> 'upkeep' AND canonical IS NOT NULL";
    until("the database has pruned", async || super::number(&mut connect(database).await, whole).await == 0)
        .await;
    again
}
