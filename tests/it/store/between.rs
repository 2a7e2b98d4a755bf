//! 11 CCR 7028(a): an opt-out that comes between the question and the record of its confirmation holds, whatever the disk
//! and the clocks do. Nobody who was told that they are opted out is opted back in by what was asked before.

use std::net::SocketAddr;
use std::path::Path;
use std::thread;

use super::super::acceptance_choices::{honoured, shop};
use super::super::opting_in::{OPT_OUT, SITE, levels, log_in};
use super::super::support::binary::{Binary, own_address, serving};
use super::super::support::client::Client;
use super::super::support::jar::Browser;
use super::super::support::origin::Origin;
use super::super::support::postgres::Cluster;
use super::super::support::proxy::Builder;
use super::super::support::wait_until;
use super::super::support::wall_clock::WallClock;
use super::disk;

const CONFIRM: &str = "/privacy-choices/opt-in/confirm";

/// A browser of this account.
fn logged_in(addr: SocketAddr, name: &str) -> Browser {
    let mut browser = Browser::new(addr);
    log_in(&mut browser, name);
    browser
}

/// A browser of an account that opted out, and the form of the question whether to opt back in.
fn asked(addr: SocketAddr, name: &str) -> (Browser, String) {
    let mut browser = logged_in(addr, name);
    assert_eq!(browser.post(SITE, OPT_OUT, "").status(), 200);
    let token = browser.ask(SITE, "opt-in");
    (browser, format!("token={token}"))
}

/// How many records wait, as `/readyz?verbose` says.
fn waiting(admin: SocketAddr) -> usize {
    let text = Client::connect(admin).get_from(&admin.to_string(), "/readyz?verbose", "").text();
    let words =
        text.split("; ").find_map(|words| words.split_once(" waiting")).unwrap_or_else(|| panic!("{text}"));
    words.0.rsplit(' ').next().unwrap().parse().unwrap()
}

/// The confirmation waits for a slow disk, and meanwhile another browser of the account opts out.
#[test]
fn an_opt_out_that_comes_while_a_confirmation_waits_for_the_disk_is_the_last_word() {
    let origin = shop(&["/"]);
    let beside = tempfile::tempdir().unwrap();
    let hang = beside.path().join("hang");
    let builder = levels(&origin);
    let (_binary, addr, admin) = disk::serve(builder, beside.path(), ("OPTGATE_DISK_HANG", &hang));
    let (mut browser, token) = asked(addr, "ann");
    let mut other = logged_in(addr, "ann");
    std::fs::write(&hang, "").unwrap();
    thread::scope(|scope| {
        scope.spawn(|| browser.post(SITE, CONFIRM, &token));
        wait_until("the confirmation waits", || waiting(admin) > 0);
        let before = waiting(admin);
        scope.spawn(|| other.post(SITE, OPT_OUT, ""));
        wait_until("so does the opt-out", || waiting(admin) > before);
        std::fs::remove_file(&hang).unwrap();
    });
    wait_until("all is on record", || waiting(admin) == 0);
    assert!(honoured(&logged_in(addr, "ann").get(SITE, "/")), "the opt-out came last");
}

/// Both at once, without any fault: whichever comes first, the opt-out holds where it was confirmed.
#[test]
fn an_opt_out_at_the_moment_of_a_confirmation_holds() {
    let origin = shop(&["/"]);
    let proxy = levels(&origin).toml("[limits]\nportal_rate = 0\n").run();
    for round in 0..40 {
        let name = format!("ann{round}");
        let (mut browser, token) = asked(proxy.addr(), &name);
        let mut other = logged_in(proxy.addr(), &name);
        let (confirmed, out) = thread::scope(|scope| {
            let confirmed = scope.spawn(|| browser.post(SITE, CONFIRM, &token).status());
            let out = scope.spawn(|| other.post(SITE, OPT_OUT, "").status());
            (confirmed.join().unwrap(), out.join().unwrap())
        });
        assert!(out == 200 && [200, 403].contains(&confirmed), "{out} {confirmed}");
        let page = logged_in(proxy.addr(), &name).get(SITE, "/");
        assert!(honoured(&page), "round {round}: the confirmation was answered {confirmed}");
    }
}

fn started(builder: Builder, clock: Option<&WallClock>) -> Binary {
    let addr = own_address();
    let mut command = serving(&builder.write(), addr);
    clock.inspect(|clock| clock.under(&mut command));
    Binary::of(command, addr, builder.into_dir())
}

/// The wall clock is set back after the question.
#[test]
fn a_clock_that_is_set_back_does_not_put_an_opt_out_before_the_question() {
    let test = "a_clock_that_is_set_back_does_not_put_an_opt_out_before_the_question";
    let Some(clock) = WallClock::of(test) else { return };
    let origin = shop(&["/"]);
    let binary = started(levels(&origin), Some(&clock));
    for (step, after) in [("-30s", "+0"), ("-3600s", "+0"), ("-20s", "-20s")] {
        clock.shift("+0");
        let name = format!("ann{step}");
        let (mut browser, token) = asked(binary.addr(), &name);
        clock.shift(step);
        let mut other = logged_in(binary.addr(), &name);
        assert_eq!(other.post(SITE, OPT_OUT, "").status(), 200);
        clock.shift(after);
        assert_eq!(browser.post(SITE, CONFIRM, &token).status(), 403, "{step}");
        assert!(honoured(&logged_in(binary.addr(), &name).get(SITE, "/")), "{step}");
        assert_eq!(browser.opt_in(SITE, "").status(), 200, "who starts again is opted back in: {step}");
    }
}

/// Settings of a node with this database.
fn node(origin: &Origin, database: &str) -> Builder {
    let store = format!("[store]\nengine = \"postgres\"\nurl = \"{database}\"\npoll = \"100ms\"\n");
    levels(origin).toml(&store)
}

/// Gives a node that is to be started another's secret.
fn share(secret: &Path, with: &Builder) {
    let data = with.settings().data_dir;
    std::fs::create_dir_all(&data).unwrap();
    std::fs::copy(secret, data.join("secret.key")).unwrap();
}

/// While a confirmation waits for the disk of its node, the account opts out on another node, and this one hears of it.
#[test]
fn an_opt_out_of_another_node_that_arrives_while_a_confirmation_waits_holds() {
    let test = "an_opt_out_of_another_node_that_arrives_while_a_confirmation_waits_holds";
    let Some(cluster) = Cluster::shared(test) else { return };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let database = runtime.block_on(cluster.database());
    let origin = shop(&["/"]);
    let beside = tempfile::tempdir().unwrap();
    let hang = beside.path().join("hang");
    let other = node(&origin, &database);
    let secret = other.settings().data_dir.join("secret.key");
    let other = started(other, None);
    let slow = node(&origin, &database);
    share(&secret, &slow);
    let (_binary, addr, admin) = disk::serve(slow, beside.path(), ("OPTGATE_DISK_HANG", &hang));
    let stands = |addr: SocketAddr, name: &str| honoured(&logged_in(addr, name).get(SITE, "/"));
    for addr in [addr, other.addr()] {
        wait_until("it has heard the other", || !stands(addr, "carl"));
    }
    let (mut browser, token) = asked(addr, "ann");
    wait_until("the other node knows", || stands(other.addr(), "ann"));
    std::fs::write(&hang, "").unwrap();
    thread::scope(|scope| {
        scope.spawn(|| browser.post(SITE, CONFIRM, &token));
        wait_until("the confirmation waits", || waiting(admin) > 0);
        for name in ["ann", "carl"] {
            assert_eq!(logged_in(other.addr(), name).post(SITE, OPT_OUT, "").status(), 200);
        }
        wait_until("both are heard, in their order", || stands(addr, "carl"));
        std::fs::remove_file(&hang).unwrap();
    });
    wait_until("all is on record", || waiting(admin) == 0);
    assert_eq!(logged_in(addr, "dave").post(SITE, OPT_OUT, "").status(), 200);
    wait_until("so it is on the other node", || stands(other.addr(), "dave"));
    wait_until("the opt-out holds", || stands(addr, "ann"));
    assert!(stands(other.addr(), "ann"));
}

/// Two nodes whose clocks differ: the question on the one that is ahead, the opt-out and the confirmation on the other.
#[test]
fn nodes_whose_clocks_differ_do_not_put_an_opt_out_before_the_question() {
    let test = "nodes_whose_clocks_differ_do_not_put_an_opt_out_before_the_question";
    let (Some(cluster), Some(clock)) = (Cluster::shared(test), WallClock::of(test)) else { return };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let database = runtime.block_on(cluster.database());
    let origin = shop(&["/"]);
    let ahead = node(&origin, &database);
    let secret = ahead.settings().data_dir.join("secret.key");
    let ahead = started(ahead, None);
    let behind = node(&origin, &database);
    share(&secret, &behind);
    clock.shift("-3s");
    let behind = started(behind, Some(&clock));
    let stands = |addr: SocketAddr| honoured(&logged_in(addr, "ann").get(SITE, "/"));
    for addr in [ahead.addr(), behind.addr()] {
        wait_until("it has heard the other", || !honoured(&logged_in(addr, "carl").get(SITE, "/")));
    }
    let (mut browser, token) = asked(ahead.addr(), "ann");
    wait_until("the other node knows", || stands(behind.addr()));
    assert_eq!(logged_in(behind.addr(), "ann").post(SITE, OPT_OUT, "").status(), 200);
    browser.moves_to(behind.addr());
    assert_eq!(browser.post(SITE, CONFIRM, &token).status(), 403);
    assert!(stands(behind.addr()) && stands(ahead.addr()));
    assert_eq!(browser.opt_in(SITE, "").status(), 200, "both acts on one node");
    wait_until("it is opted back in on both", || !stands(behind.addr()) && !stands(ahead.addr()));
}
