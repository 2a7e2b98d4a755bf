//! Names of origins are looked up again, all their addresses are used, and a failing name server takes none away.

use crate::support::binary::Binary;
use crate::support::client;
use crate::support::dns::Dns;
use crate::support::origin::{Origin, held};
use crate::support::proxy::{Proxy, proxy};
use crate::support::{DEADLINE, wait_until};

/// Two origins on one port, at `127.78.<net>.1` and `.2`, which are no other test's, and Optgate in front of a name
/// that leads to these addresses, or to none because the name server fails.
fn named(net: u8, addresses: &[&str], more: &str) -> (Origin, Origin, Dns, Proxy) {
    let first = Origin::start_at(&format!("127.78.{net}.1:0"));
    let port = first.url().rsplit(':').next().unwrap();
    let second = Origin::start_at(&format!("127.78.{net}.2:{port}"));
    let dns = Dns::start();
    if addresses.is_empty() {
        dns.fails("origin.test");
    } else {
        dns.addresses("origin.test", addresses);
    }
    let settings = format!(
        "upstream = \"http://origin.test:{port}\"\n[dns]\nservers = [\"{}\"]\nupstream_interval = \"100ms\"\n{more}",
        dns.addr()
    );
    (first, second, dns, proxy().toml(&settings).run())
}

fn get(proxy: &Proxy, times: usize) {
    for _ in 0..times {
        assert_eq!(proxy.get("/", "").status(), 200);
    }
}

fn lookups(dns: &Dns) -> usize {
    dns.asked().iter().filter(|name| *name == "origin.test").count()
}

#[test]
fn all_addresses_of_a_name_are_used_in_turn() {
    let (first, second, _dns, proxy) =
        named(1, &["127.78.1.1", "127.78.1.2"], "[limits]\nupstream_idle = 0\n");
    get(&proxy, 8);
    assert_eq!((first.heads(), second.heads()), (4, 4));
}

/// A kept connection does not hold on to an address that the name has left.
#[test]
fn a_name_that_moves_takes_the_requests_with_it() {
    let (first, second, dns, proxy) = named(2, &["127.78.2.1"], "");
    get(&proxy, 3);
    assert_eq!((first.heads(), first.connections(), second.heads()), (3, 1, 0));
    dns.addresses("origin.test", &["127.78.2.2"]);
    wait_until("the new address is asked", || {
        get(&proxy, 1);
        second.heads() > 0
    });
    let before = first.heads();
    get(&proxy, 4);
    assert_eq!(first.heads(), before, "the old address is asked no more");
}

/// What is under way at the old address is finished there.
#[test]
fn a_request_under_way_is_finished_at_the_old_address() {
    let (first, second, dns, proxy) = named(3, &["127.78.3.1"], "");
    let (slow, heard, release) = held("old");
    let first = first.on("/slow", slow);
    let mut slow = proxy.client();
    slow.send("GET /slow HTTP/1.1\r\nHost: site.test\r\n\r\n");
    heard.recv_timeout(DEADLINE).unwrap();
    dns.addresses("origin.test", &["127.78.3.2"]);
    wait_until("the new address is asked", || {
        get(&proxy, 1);
        second.heads() > 0
    });
    release.send(()).unwrap();
    assert_eq!(slow.response("GET").text(), "old");
    let before = first.heads();
    get(&proxy, 2);
    assert_eq!(first.heads(), before, "its connection is not kept");
}

/// The last answer holds while the name server fails.
#[test]
fn a_name_server_that_fails_takes_no_address_away() {
    let (first, _second, dns, proxy) = named(4, &["127.78.4.1"], "");
    get(&proxy, 1);
    dns.fails("origin.test");
    let before = lookups(&dns);
    wait_until("it was asked in vain", || lookups(&dns) > before + 4);
    get(&proxy, 2);
    assert_eq!(first.heads(), 3);
    assert!(proxy.running().metrics().upstreams().next().unwrap().bad_lookups.get() > 0);
}

/// RFC 8305: an address where nobody listens costs nothing but the attempt, in either family.
#[test]
fn an_address_where_nobody_listens_is_passed_over() {
    let (first, _second, _dns, proxy) =
        named(5, &["127.78.5.9", "::1", "127.78.5.1"], "[limits]\nupstream_idle = 0\n");
    get(&proxy, 6);
    assert_eq!(first.heads(), 6);
}

/// A name that nobody knows is a 502 at once, and works from the moment it is known.
#[test]
fn a_name_that_is_not_known_is_a_bad_gateway_until_it_is() {
    let (first, _second, dns, proxy) = named(6, &[], "");
    assert_eq!(proxy.get("/", "").status(), 502);
    dns.addresses("origin.test", &["127.78.6.1"]);
    wait_until("it is known", || proxy.get("/", "").status() == 200);
    assert!(first.heads() > 0);
}

/// A reload while the name server fails keeps the addresses that were known.
#[test]
fn a_reload_keeps_what_was_looked_up() {
    let (first, _second, dns, proxy) = named(7, &["127.78.7.1"], "");
    get(&proxy, 1);
    dns.fails("origin.test");
    proxy.reload(|text| format!("strip_link_params = true\n{text}")).unwrap();
    get(&proxy, 2);
    assert_eq!(first.heads(), 3);
}

/// A reload that changes what is said of the origin, or which site it is of, keeps them too.
#[test]
fn a_reload_that_changes_the_origins_settings_or_its_site_keeps_what_was_looked_up() {
    let (first, _second, dns, proxy) = named(8, &["127.78.8.1"], "");
    get(&proxy, 1);
    dns.fails("origin.test");
    let port = first.url().rsplit(':').next().unwrap();
    let url = format!("\"http://origin.test:{port}\"");
    let top = format!("upstream = {url}\n");
    let site = |name: &str, more: &str| {
        let upstream = format!("{{ url = {url}{more} }}");
        format!("[[sites]]\nname = {name:?}\nhosts = [\"site.test\"]\nupstream = {upstream}\n")
    };
    let mut now = String::new();
    for (name, more) in [
        ("one", ""),
        ("one", ", weight = 2"),
        ("one", ", max_connections = 5"),
        ("one", ", host = \"other.test\""),
        ("another", ""),
    ] {
        let next = site(name, more);
        proxy.reload(|text| text.replace(&top, "").replace(&now, "") + &next).unwrap();
        assert_eq!(proxy.get("/", "").status(), 200, "{next}");
        now = next;
    }
    assert_eq!(first.heads(), 6);
}

/// A new process begins with what the one before it knew, also of one that began so itself.
#[test]
fn an_upgrade_keeps_what_was_looked_up() {
    let origin = Origin::start_at("127.78.9.1:0");
    let port = origin.url().rsplit(':').next().unwrap();
    let dns = Dns::start();
    dns.addresses("origin.test", &["127.78.9.1"]);
    let settings = format!(
        "upstream = \"http://origin.test:{port}\"\n[dns]\nservers = [\"{}\"]\nupstream_interval = \"100ms\"\n",
        dns.addr()
    );
    let mut binary = Binary::start(proxy().toml(&settings));
    assert_eq!(client::get(binary.addr(), "/", "").status(), 200);
    for goes_wrong in [Dns::fails, Dns::is_silent] {
        goes_wrong(&dns, "origin.test");
        binary.upgrade();
        assert_eq!(client::get(binary.addr(), "/", "").status(), 200);
    }
    assert_eq!(origin.heads(), 3);
}

/// A name server that hands out some of many addresses at a time takes none away: kept connections are used on.
#[test]
fn addresses_that_come_and_go_by_turns_cost_no_connection() {
    let (first, second, dns, proxy) = named(11, &["127.78.11.1"], "");
    let turn = |address: &str| {
        dns.addresses("origin.test", &[address]);
        let before = lookups(&dns);
        wait_until("the answer was taken", || lookups(&dns) > before + 2);
        get(&proxy, 1);
    };
    let round = || ["127.78.11.2", "127.78.11.1"].iter().for_each(|address| turn(address));
    // By then it is seen to be such a name.
    (0..4).for_each(|_| round());
    let before = (first.connections() + second.connections(), first.heads() + second.heads());
    (0..4).for_each(|_| round());
    let after = (first.connections() + second.connections(), first.heads() + second.heads());
    assert_eq!(after, (before.0, before.1 + 8), "the kept connection is used for all of them");
}

/// Kept connections are opened anew once when addresses come in, each at the next of them; not when one goes.
#[test]
fn an_address_that_is_added_gets_its_part_of_the_kept_connections() {
    let (first, second, dns, proxy) = named(10, &["127.78.10.1"], "");
    let ((slow, heard, release), (also_slow, also_heard, also_release)) = (held("first"), held("second"));
    let (first, second) = (first.on("/slow", slow), second.on("/slow", also_slow));
    let begin = || {
        let mut client = proxy.client();
        client.send("GET /slow HTTP/1.1\r\nHost: site.test\r\n\r\n");
        client
    };
    let wait_for_look_ups = || {
        let before = lookups(&dns);
        wait_until("it was looked up again", || lookups(&dns) > before + 4);
    };
    let answered = |clients: &mut [client::Client]| {
        clients.iter().for_each(|_| release.send(()).unwrap());
        clients.iter_mut().for_each(|client| assert_eq!(client.response("GET").text(), "first"));
    };
    let mut clients: Vec<_> = (0..4).map(|_| begin()).collect();
    clients.iter().for_each(|_| heard.recv_timeout(DEADLINE).unwrap());
    answered(&mut clients);
    // Two are idle then, and two come back later.
    let mut clients = [begin(), begin()];
    clients.iter().for_each(|_| heard.recv_timeout(DEADLINE).unwrap());
    dns.addresses("origin.test", &["127.78.10.1", "127.78.10.2"]);
    wait_for_look_ups();
    answered(&mut clients);
    let mut clients: Vec<_> = (0..4).map(|_| begin()).collect();
    for asked in [&heard, &heard, &also_heard, &also_heard] {
        asked.recv_timeout(DEADLINE).unwrap();
    }
    assert_eq!((first.connections(), second.connections()), (6, 2));
    for release in [&release, &release, &also_release, &also_release] {
        release.send(()).unwrap();
    }
    clients.iter_mut().for_each(|client| assert_eq!(client.response("GET").status(), 200));
    dns.addresses("origin.test", &["127.78.10.1"]);
    wait_for_look_ups();
    get(&proxy, 3);
    assert_eq!((first.connections(), second.heads()), (6, 2), "the kept ones are used on");
}
