//! Two nodes and a network that the kernel breaks: one of them runs in a namespace of its own, and its way to the
//! database is cut, or leads nowhere.

use std::net::SocketAddr;

use super::serving::node;
use crate::support::binary::{Binary, command};
use crate::support::client::get;
use crate::support::netns::{Fault, Lab};
use crate::support::origin::Origin;
use crate::support::postgres::Cluster;
use crate::support::relay::Relay;
use crate::support::{skipped, wait_until};

/// PostgreSQL cut off in a network namespace, two nodes partitioned. Both go on honouring what they know
/// and recording what is chosen, and afterwards each knows what the other recorded.
#[test]
fn nodes_that_the_network_parts_go_on_and_come_together_again() {
    let test = "nodes_that_the_network_parts_go_on_and_come_together_again";
    let Some(cluster) = Cluster::shared(test) else { return };
    let lab = match Lab::build() {
        Ok(lab) => lab,
        Err(why) => return skipped(test, &format!("no network namespace: {why}")),
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let database = runtime.block_on(cluster.database());
    let far = Relay::start_at(&format!("{}:0", lab.origin()), ([127, 0, 0, 1], cluster.port()).into(), 5);
    let page =
        |x: &mut crate::support::origin::Exchange<'_>| x.ok("text/html", b"<html><head></head>shop</html>");
    let (near_shop, far_shop) =
        (Origin::start().on("/", page), Origin::start_at(&format!("{}:0", lab.visitors())).on("/", page));
    let there = database.replace(&format!("127.0.0.1:{}", cluster.port()), &far.addr().to_string());
    let near = node(&near_shop, &database).run();
    let front = lab.front();
    let builder = node(&far_shop, &there).replacing("\"127.0.0.1\"]", "\"10.213.0.0/16\"]");
    let mut inner = command(&builder.write());
    inner.args(["--listen", &front.to_string(), "--log-level", "info"]);
    let binary = Binary::of(lab.inside(&inner), front, builder.into_dir());

    let told = |addr: SocketAddr, shop: &Origin, account: &str, fields: &str| {
        let seen = shop.heads();
        assert_eq!(get(addr, "/", &format!("X-Account-Id: {account}\r\n{fields}")).status(), 200);
        shop.seen(seen + 1).last().unwrap().one("optgate-decision").unwrap()
    };
    let here = |account: &str, fields: &str| told(near.addr(), &near_shop, account, fields);
    let inside = |account: &str, fields: &str| told(front, &far_shop, account, fields);
    let (signal, by_signal, by_account) =
        ("Sec-GPC: 1\r\n", "opted-out;basis=gpc", "opted-out;basis=account");
    wait_until("the far node has heard all", || inside("nobody", "") == "none");
    assert_eq!(here("ann", signal), by_signal);
    wait_until("the far node knows", || inside("ann", "") == by_account);
    for (round, fault) in [Fault::Cable, Fault::WayBack, Fault::WayThere].into_iter().enumerate() {
        let (bob, carl) = (format!("bob {round}"), format!("carl {round}"));
        lab.set(fault, true);
        assert_eq!(here(&bob, signal), by_signal, "{fault:?}");
        assert_eq!(inside(&carl, signal), by_signal, "{fault:?}");
        for (account, decision) in [("ann", by_account), (carl.as_str(), by_account), (bob.as_str(), "none")]
        {
            assert_eq!(inside(account, ""), decision, "{fault:?}: {account}, as far as it knows");
        }
        assert_eq!(
            (here("ann", ""), here(&carl, "")),
            (by_account.to_owned(), "none".to_owned()),
            "{fault:?}"
        );
        lab.set(fault, false);
        wait_until("the far node heard what it missed", || inside(&bob, "") == by_account);
        wait_until("what the far node recorded arrived", || here(&carl, "") == by_account);
    }
    drop(binary);
}
