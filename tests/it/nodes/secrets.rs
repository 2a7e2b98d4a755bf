//! Nodes of which some have a new secret already: nobody's choice is lost between the two.

use std::path::Path;
use std::process::Command;

use optgate::app::Running;

use super::{serving, through};
use crate::support::client::{Client, get};
use crate::support::jar::Browser;
use crate::support::origin::Origin;
use crate::support::postgres::Cluster;
use crate::support::proxy::Builder;
use crate::support::relay::{Line, Relay};
use crate::support::wait_until;

const SITE: &str = "site.test";
const VISITOR: &str = "visitor=77";

fn shop() -> Origin {
    Origin::start().on("/", |x| x.ok("text/html", b"<html><head></head><body>shop</body></html>"))
}

fn node(origin: &Origin, database: &str) -> Builder {
    serving::node(origin, database).replacing("[account]\n", "[account]\nprofile_cookie = \"visitor\"\n")
}

fn started(builder: &Builder) -> Running {
    let running = optgate::app::start(builder.settings()).unwrap();
    wait_until("it has heard the others", || running.store().health().loaded);
    running
}

fn data(builder: &Builder) -> std::path::PathBuf {
    builder.dir().join("data")
}

/// `optgate keys ...` on a stopped node.
fn keys(builder: &Builder, args: &[&str]) -> String {
    let mut command = Command::new(env!("CARGO_BIN_EXE_optgate"));
    let said = command.arg("keys").args(args).arg("--data-dir").arg(data(builder)).output().unwrap();
    assert!(said.status.success(), "{said:?}");
    String::from_utf8(said.stdout).unwrap()
}

/// Gives a node the secrets of another.
fn copy_secret(from: &Path, to: &Path) {
    std::fs::copy(from.join("secret.key"), to.join("secret.key")).unwrap();
}

/// A new browser of the visitor's.
fn browser(node: &Running) -> Browser {
    let mut browser = Browser::new(node.listen()[0]);
    browser.keep(SITE, &format!("{VISITOR}; Path=/"));
    browser
}

/// What a visit on a new browser told the origin.
fn decision(node: &Running, origin: &Origin) -> String {
    get(node.listen()[0], "/", &format!("Cookie: {VISITOR}\r\n"));
    origin.seen(origin.heads()).last().unwrap().one("optgate-decision").unwrap()
}

const OUT: &str = "opted-out;basis=account";

fn database(cluster: &Cluster) -> String {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(cluster.database())
}

/// A person opts back in on a node that has a new secret, and
/// out again on one that has not, cut off from the first. The later word holds on both, before and after the second
/// has the new secret, and on a node that comes later; so does the next opt-in.
#[test]
fn an_opt_out_under_the_old_secret_holds_after_an_opt_in_under_the_new_one() {
    let test = "an_opt_out_under_the_old_secret_holds_after_an_opt_in_under_the_new_one";
    let Some(cluster) = Cluster::shared(test) else { return };
    let (database, origin) = (database(&cluster), shop());
    let relay = Relay::start(([127, 0, 0, 1], cluster.port()).into(), 13);
    let at_a = node(&origin, &database);
    let at_b = node(&origin, &through(&database, relay.addr().port()));
    let (a, b) = (started(&at_a), started(&at_b));
    assert_eq!(browser(&a).post(SITE, "/privacy-choices/opt-out", "").status(), 200);
    wait_until("b knows", || decision(&b, &origin) == OUT);
    a.stop().unwrap();
    keys(&at_a, &["rotate"]);
    let a = started(&at_a);
    assert_eq!(decision(&a, &origin), OUT);
    assert_eq!(browser(&a).opt_in(SITE, "").status(), 200);
    assert_eq!(decision(&a, &origin), "none");
    wait_until("what is chosen under both counts at b", || decision(&b, &origin) == "none");

    relay.set(Line::Silent);
    assert_eq!(browser(&b).post(SITE, "/privacy-choices/opt-out", "").status(), 200);
    relay.set(Line::Good);
    wait_until("a knows", || decision(&a, &origin) == OUT);
    b.stop().unwrap();
    copy_secret(&data(&at_a), &data(&at_b));
    let b = started(&at_b);
    let at_c = node(&origin, &database);
    copy_secret(&data(&at_a), &data(&at_c));
    let c = started(&at_c);
    for node in [&a, &b, &c] {
        assert_eq!(decision(node, &origin), OUT);
    }

    assert_eq!(browser(&c).opt_in(SITE, "").status(), 200);
    for node in [&a, &b, &c] {
        wait_until("back in", || decision(node, &origin) == "none");
    }
    a.stop().unwrap();
    let a = started(&at_a);
    assert_eq!(decision(&a, &origin), "none", "also after a start");
    for node in [a, b, c] {
        node.stop().unwrap();
    }
}

/// A node that lacks a secret in use knows none of the accounts that opted out under it: it says so, in its log, its
/// figures and `/readyz`, and what is chosen on it goes on to reach the others.
#[test]
fn a_node_without_a_secret_in_use_says_so_until_it_has_it() {
    let Some(cluster) = Cluster::shared("a_node_without_a_secret_in_use_says_so_until_it_has_it") else {
        return;
    };
    let (database, origin) = (database(&cluster), shop());
    let at_a = node(&origin, &database);
    let at_b = node(&origin, &database).toml("[ready]\nrequires_journal = true\n");
    let (a, b) = (started(&at_a), started(&at_b));
    let ready = |node: &Running| {
        let answer = Client::connect(node.admin()).get_from("127.0.0.1", "/readyz?verbose", "");
        (answer.status(), answer.text())
    };
    let unknown = |node: &Running| node.store().health().feed.unwrap().unknown_secrets;
    assert_eq!((ready(&b).0, unknown(&b)), (200, Vec::new()));
    a.stop().unwrap();
    let listed = keys(&at_a, &["rotate"]);
    let check = listed.split('\t').next().unwrap();
    let a = started(&at_a);
    wait_until("b notices", || unknown(&b) == [check]);
    let (status, said) = ready(&b);
    assert!(status == 503 && said.contains("[-] nodes: ") && said.contains(check), "{said}");
    let metrics = b.metrics().render();
    assert!(metrics.lines().any(|line| line == "optgate_feed_unknown_secrets 1"), "{metrics}");
    browser(&b).post(SITE, "/privacy-choices/opt-out", "");
    wait_until("a knows", || decision(&a, &origin) == OUT);
    b.stop().unwrap();
    assert!(optgate::app::start(at_b.settings()).is_err(), "at a start it is refused");
    copy_secret(&data(&at_a), &data(&at_b));
    let b = started(&at_b);
    wait_until("nothing is amiss", || ready(&b).0 == 200 && unknown(&b).is_empty());
    assert_eq!(unknown(&a), Vec::<String>::new());
    a.stop().unwrap();
    b.stop().unwrap();
}

/// In two steps no node ever lacks a secret that another uses: each knows the accounts of all others at any moment.
#[test]
fn a_secret_that_every_node_tries_first_is_rotated_without_a_gap() {
    let Some(cluster) = Cluster::shared("a_secret_that_every_node_tries_first_is_rotated_without_a_gap")
    else {
        return;
    };
    let (database, origin) = (database(&cluster), shop());
    let (at_a, at_b) = (node(&origin, &database), node(&origin, &database));
    let (a, b) = (started(&at_a), started(&at_b));
    browser(&a).post(SITE, "/privacy-choices/opt-out", "");
    let restarted = |node: Running, at: &Builder| {
        node.stop().unwrap();
        started(at)
    };
    let words = |listed: &str| {
        listed.lines().map(|line| line.split('\t').nth(1).unwrap().to_owned()).collect::<Vec<_>>()
    };
    let at_c = node(&origin, &database);
    std::fs::create_dir_all(data(&at_c)).unwrap();
    copy_secret(&data(&at_a), &data(&at_c));
    assert_eq!(words(&keys(&at_a, &["rotate", "--next"])), ["live", "next"]);
    copy_secret(&data(&at_a), &data(&at_b));
    let (a, mut b) = (restarted(a, &at_a), restarted(b, &at_b));
    assert_eq!(words(&keys(&at_a, &["rotate"])), ["live", "earlier"]);
    let a = restarted(a, &at_a);
    // From here on they differ. A third that has the first secret only is not let in, whichever of them came last.
    for b_came_last in [false, true] {
        assert!(optgate::app::start(at_c.settings()).is_err(), "{b_came_last}");
        if !b_came_last {
            b = restarted(b, &at_b);
        }
    }
    let both_say = |what: &str| {
        wait_until(what, || [&a, &b].iter().all(|node| decision(node, &origin) == what));
    };
    both_say(OUT);
    for (here, there) in [(&a, &b), (&b, &a)] {
        assert_eq!(browser(here).opt_in(SITE, "").status(), 200);
        both_say("none");
        assert_eq!(browser(there).post(SITE, "/privacy-choices/opt-out", "").status(), 200);
        both_say(OUT);
    }
    for node in [&a, &b] {
        assert_eq!(node.store().health().feed.unwrap().unknown_secrets, Vec::<String>::new());
    }
    copy_secret(&data(&at_a), &data(&at_b));
    let b = restarted(b, &at_b);
    assert_eq!((decision(&a, &origin), decision(&b, &origin)), (OUT.to_owned(), OUT.to_owned()));
    a.stop().unwrap();
    b.stop().unwrap();
}
