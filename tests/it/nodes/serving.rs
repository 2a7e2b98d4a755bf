//! Two proxies, as two machines behind a load balancer would run them.

use std::process::Command;

use optgate::config::load::{Inputs, load};

use super::{folder, number};
use crate::support::origin::Origin;
use crate::support::postgres::{Cluster, connect};
use crate::support::proxy::{Builder, Proxy, proxy};
use crate::support::wait_until;

const ANN: &str = "X-Account-Id: ann\r\n";

/// Settings of a node with this database.
pub(super) fn node(origin: &Origin, database: &str) -> Builder {
    let builder =
        proxy().to(origin).toml("trusted_proxies = [\"127.0.0.1\"]\n[account]\nheader = \"x-account-id\"\n");
    let data = builder.dir().join("data");
    std::fs::create_dir(&data).unwrap();
    std::fs::copy(folder().path().join("secret.key"), data.join("secret.key")).unwrap();
    builder.toml(&format!("[store]\nengine = \"postgres\"\nurl = \"{database}\"\npoll = \"100ms\"\n"))
}

/// What a visit with these fields told the origin.
fn decision(proxy: &Proxy, origin: &Origin, fields: &str) -> String {
    proxy.get("/", fields);
    origin.seen(origin.heads()).last().unwrap().one("optgate-decision").unwrap()
}

/// Issue: an opt-out on node A is honoured on node B, without cookie or signal there.
#[test]
fn an_accounts_signal_on_one_proxy_is_honoured_on_the_other() {
    let Some(cluster) = Cluster::shared("an_accounts_signal_on_one_proxy_is_honoured_on_the_other") else {
        return;
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let database = runtime.block_on(cluster.database());
    let origin =
        Origin::start().on("/", |x| x.ok("text/html", b"<html><head></head><body>shop</body></html>"));
    let (a, b) = (node(&origin, &database).run(), node(&origin, &database).run());
    wait_until("both have heard each other", || [&a, &b].iter().all(|p| p.running().store().health().loaded));
    assert_eq!(decision(&b, &origin, ANN), "none");
    assert_eq!(decision(&a, &origin, &format!("{ANN}Sec-GPC: 1\r\n")), "opted-out;basis=gpc");
    wait_until("the other proxy knows", || decision(&b, &origin, ANN) == "opted-out;basis=account");
}

/// Domain 6: a profile that is erased on the node that recorded it is in no record of the database either; it is honoured
/// on both all the same.
#[test]
fn a_profile_erased_on_one_proxy_is_erased_in_the_database() {
    let Some(cluster) = Cluster::shared("a_profile_erased_on_one_proxy_is_erased_in_the_database") else {
        return;
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let database = runtime.block_on(cluster.database());
    let origin =
        Origin::start().on("/", |x| x.ok("text/html", b"<html><head></head><body>shop</body></html>"));
    let node =
        || node(&origin, &database).replacing("[account]\n", "[account]\nprofile_cookie = \"visitor\"\n");
    let (a, b) = (node().run(), node().run());
    wait_until("both have heard each other", || [&a, &b].iter().all(|p| p.running().store().health().loaded));
    let (profile, other) = ("Cookie: visitor=77\r\n", "Cookie: visitor=78\r\n");
    for visitor in [profile, other] {
        decision(&a, &origin, &format!("{visitor}Sec-GPC: 1\r\n"));
        wait_until("the other proxy knows", || decision(&b, &origin, visitor) == "opted-out;basis=account");
    }
    let tied = || {
        let sql = "SELECT count(*) FROM optgate.records WHERE subject IS NOT NULL OR blinding IS NOT NULL";
        runtime.block_on(async { number(&mut connect(&database).await, sql).await })
    };
    assert_eq!(tied(), 2);
    let output = Command::new(env!("CARGO_BIN_EXE_optgate"))
        .args(["ledger", "erase", "--site", "default", "--profile", "77", "--config"])
        .arg(a.dir().join("optgate.toml"))
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(said.starts_with("records erased from: 1\n") && said.ends_with("alone: yes\n"), "{output:?}");
    assert_eq!(tied(), 1);
    let late = node().run();
    wait_until("a third has heard both", || late.running().store().health().loaded);
    for proxy in [&a, &b, &late] {
        assert_eq!(decision(proxy, &origin, profile), "opted-out;basis=account");
        assert_eq!(decision(proxy, &origin, other), "opted-out;basis=account");
    }
}

/// Settings that cannot work are refused with what to write.
#[test]
fn a_database_without_its_engine_is_refused_and_the_other_way_round() {
    let refused = |text: &str| {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("optgate.toml");
        std::fs::write(&file, format!("upstream = \"http://127.0.0.1:9\"\n{text}")).unwrap();
        let inputs = Inputs { files: vec![file], ..Inputs::default() };
        load(&inputs).err().map(|errors| errors.to_string()).unwrap_or_default()
    };
    let error = refused("[store]\nurl = \"postgres://optgate@127.0.0.1/optgate\"\n");
    assert!(
        error.contains("`store.url` has no effect") && error.contains("engine = \"postgres\""),
        "{error}"
    );
    let error = refused("[store]\nengine = \"postgres\"\n");
    assert!(error.contains("`store.url` is missing") && error.contains("URL_FILE"), "{error}");
    let error = refused("[store]\nengine = \"postgres\"\nurl = \"mysql://x/y\"\n");
    assert!(error.contains("no scheme of PostgreSQL"), "{error}");
    let error = refused("[store]\nengin = \"postgres\"\n");
    assert!(error.contains("did you mean `engine`"), "{error}");
}
