//! Two proxies, as two machines behind a load balancer would run them.

use std::process::Command;

use optgate::config::load::{Inputs, load};

use super::{folder, number};
use crate::support::client::{Client, get};
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

/// An opt-out on node A is honoured on node B, without cookie or signal there.
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

/// A receipt can be checked wherever the load balancer sends its holder; what a node cannot check itself it does not
/// call checked.
#[test]
fn a_receipt_of_one_proxy_is_on_record_for_the_other() {
    let Some(cluster) = Cluster::shared("a_receipt_of_one_proxy_is_on_record_for_the_other") else { return };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let database = runtime.block_on(cluster.database());
    let origin =
        Origin::start().on("/", |x| x.ok("text/html", b"<html><head></head><body>shop</body></html>"));
    let (a, b) = (node(&origin, &database).run(), node(&origin, &database).run());
    let fields = format!("{ANN}Accept: application/json\r\n");
    let saved = crate::acceptance_choices::post(a.addr(), "/privacy-choices/opt-out", &fields, "");
    let saved: serde_json::Value = serde_json::from_slice(&saved.body).unwrap();
    let check = format!("/privacy-choices/receipt?reference={}", saved["reference"].as_str().unwrap());
    let there = b.get(&check, "");
    assert_eq!(there.status(), 200, "{}", there.text());
    let text = there.text();
    assert!(text.contains("<strong>On record.</strong>") && !text.contains("Verified"), "{text}");
    let text = a.get(&check, "").text();
    assert!(text.contains("Not yet signed") && !text.contains("Another of our servers"), "{text}");
    assert_eq!(b.get("/privacy-choices/receipt?reference=0000-0000-0000-0000", "").status(), 404);
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

/// What a node took while it was cut off from the database for good reaches all of them from the folder that was moved
/// away, once; and until then the person is told that it was not saved.
#[test]
fn opt_outs_of_a_fenced_node_are_adopted_from_its_old_folder() {
    let Some(cluster) = Cluster::shared("opt_outs_of_a_fenced_node_are_adopted_from_its_old_folder") else {
        return;
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let database = runtime.block_on(cluster.database());
    let origin =
        Origin::start().on("/", |x| x.ok("text/html", b"<html><head></head><body>shop</body></html>"));
    let (builder, b) = (node(&origin, &database), node(&origin, &database).run());
    let (data, old) = (builder.dir().join("data"), builder.dir().join("old"));
    let settings = builder.write();
    let start = || {
        let running = optgate::app::start(builder.settings()).unwrap();
        wait_until("it has heard the others", || running.store().health().loaded);
        running
    };
    let visit = |a: &optgate::app::Running, fields: &str| get(a.listen()[0], "/", fields);
    let first = start();
    visit(&first, &format!("{ANN}Sec-GPC: 1\r\n"));
    wait_until("ann is known", || decision(&b, &origin, ANN) == "opted-out;basis=account");
    first.stop().unwrap();
    std::fs::create_dir(&old).unwrap();
    for file in ["journal.sqlite3", "secret.key", "signing.key"] {
        std::fs::copy(data.join(file), old.join(file)).unwrap();
    }
    let second = start();
    visit(&second, "X-Account-Id: carl\r\nSec-GPC: 1\r\n");
    wait_until("carl is known", || {
        decision(&b, &origin, "X-Account-Id: carl\r\n") == "opted-out;basis=account"
    });
    second.stop().unwrap();
    // Set back to the backup.
    std::fs::remove_dir_all(&data).unwrap();
    std::fs::rename(&old, &data).unwrap();
    let fenced = start();
    wait_until("it is fenced", || fenced.store().health().feed.is_some_and(|feed| feed.fenced));
    let bob = "X-Account-Id: bob\r\n";
    let answer = crate::acceptance_choices::post(fenced.listen()[0], "/privacy-choices/opt-out", bob, "");
    assert_eq!(answer.status(), 503, "{}", answer.text());
    assert!(!answer.text().contains("is saved"), "{}", answer.text());
    let ready = Client::connect(fenced.admin()).get_from("127.0.0.1", "/readyz?verbose", "").text();
    assert!(ready.contains("[!] nodes: fenced: ") && ready.contains("ledger adopt"), "{ready}");
    fenced.stop().unwrap();
    assert_eq!(decision(&b, &origin, bob), "none");
    // What the message says to do.
    std::fs::rename(&data, &old).unwrap();
    std::fs::create_dir(&data).unwrap();
    std::fs::copy(old.join("secret.key"), data.join("secret.key")).unwrap();
    let again = start();
    let adopt = || {
        let output = Command::new(env!("CARGO_BIN_EXE_optgate"))
            .args(["ledger", "adopt", old.to_str().unwrap(), "--config"])
            .arg(&settings)
            .output()
            .unwrap();
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).unwrap()
    };
    let said = adopt();
    assert!(said.starts_with("recorded: 1\nopted out here already: 1\n"), "{said}");
    assert!(adopt().starts_with("recorded: 0\nopted out here already: 2\n"), "again adds nothing");
    wait_until("the other honours it", || decision(&b, &origin, bob) == "opted-out;basis=import");
    visit(&again, bob);
    assert_eq!(
        origin.seen(origin.heads()).last().unwrap().one("optgate-decision").as_deref(),
        Some("opted-out;basis=import")
    );
    again.stop().unwrap();
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
