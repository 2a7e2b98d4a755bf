//! 11 CCR 7028(a), two acts with a start between them: what other nodes heard meanwhile, a process that begins cannot tell
//! from what they heard before.

use optgate::privacy::Standing;

use super::{Cluster, Node, out, subject};

/// The question was asked here, the opt-out made on the other node, and this one started anew: the confirmation is none.
#[tokio::test(flavor = "multi_thread")]
async fn a_question_of_before_a_start_confirms_nothing_after_it() {
    let test = "a_question_of_before_a_start_confirms_nothing_after_it";
    let Some(cluster) = Cluster::shared(test) else { return };
    let database = cluster.database().await;
    let (a, b) = (Node::start(&database), Node::start(&database));
    let asked = a.store.moment();
    assert!(!a.store.opted_out_since(&subject(1), asked));
    b.record(out(1)).await;
    let a = Node::start_in(a.stop().await, &database);
    a.knows(1, Standing::OptedOut).await;
    assert!(a.store.opted_out_since(&subject(1), asked));
    let asked = a.store.moment();
    assert!(!a.store.opted_out_since(&subject(1), asked), "what is asked now holds");
    a.stop().await;
    b.stop().await;
}
