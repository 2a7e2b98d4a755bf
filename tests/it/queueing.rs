//! `max_connections`: places at an origin, and the line of requests that wait for one.

use std::sync::{Arc, Barrier, mpsc};

use crate::support::DEADLINE;
use crate::support::client::Client;
use crate::support::h2::H2;
use crate::support::origin::{Origin, held};
use crate::support::proxy::{Proxy, site};
use crate::support::wait_until;

const SLOW: &str = "GET /slow HTTP/1.1\r\nHost: site.test\r\n\r\n";

/// An origin whose `/slow` answers when it is told to, and says when it was asked.
fn slow_origin() -> (Origin, mpsc::Receiver<()>, mpsc::Sender<()>) {
    let (slow, heard, release) = held("slow");
    (Origin::start().on("/slow", slow), heard, release)
}

/// An origin with one place, in the words of a settings file.
fn one_place(origin: &Origin) -> String {
    format!("{{ url = {}, max_connections = 1 }}", origin.toml())
}

fn run(origin: &Origin, more: &str) -> Proxy {
    site(&[one_place(origin)], more).run()
}

/// A client whose `/slow` is at the origin.
fn occupied(proxy: &Proxy, heard: &mpsc::Receiver<()>) -> Client {
    let mut client = proxy.client();
    client.send(SLOW);
    heard.recv_timeout(DEADLINE).unwrap();
    client
}

fn waiting(proxy: &Proxy) -> i64 {
    proxy.running().metrics().upstreams().next().unwrap().waiting.get()
}

/// One place, one in the line: the third is told to come again, the second gets the place and its connection.
#[test]
fn a_request_waits_for_a_place_and_one_too_many_is_told_to_come_again() {
    let (origin, heard, release) = slow_origin();
    let proxy = run(&origin, "[limits]\nupstream_queue = 1\n");
    let mut first = occupied(&proxy, &heard);
    let mut second = proxy.client();
    second.send("GET /second HTTP/1.1\r\nHost: site.test\r\n\r\n");
    wait_until("the second waits", || waiting(&proxy) == 1);
    let third = proxy.get("/third", "");
    assert_eq!((third.status(), third.head.one("retry-after")), (503, Some("5")));
    assert!(third.head.one("cache-control").unwrap().contains("no-store"));
    release.send(()).unwrap();
    assert_eq!(first.response("GET").text(), "slow");
    assert_eq!(second.response("GET").text(), "hello");
    assert_eq!(origin.connections(), 1, "the connection is handed over");
    let figures = proxy.running().metrics().upstreams().next().unwrap();
    assert_eq!((figures.queue_full.get(), figures.queue_timeout.get(), waiting(&proxy)), (1, 0, 0));
    assert_eq!(figures.failures.get(), 0, "a full origin has not failed");
}

/// The wait has an end; the place is still good for whoever comes next.
#[test]
fn a_wait_that_is_too_long_is_a_503() {
    let (origin, heard, release) = slow_origin();
    let proxy = run(&origin, "[timeouts]\nupstream_queue = \"200ms\"\n");
    let mut first = occupied(&proxy, &heard);
    assert_eq!(proxy.get("/second", "").status(), 503);
    release.send(()).unwrap();
    assert_eq!(first.response("GET").text(), "slow");
    assert_eq!(proxy.get("/third", "").text(), "hello");
    assert_eq!(proxy.running().metrics().upstreams().next().unwrap().queue_timeout.get(), 1);
}

/// First come, first served.
#[test]
fn the_line_is_served_in_its_order() {
    let (origin, heard, release) = slow_origin();
    let proxy = run(&origin, "");
    let mut clients = vec![occupied(&proxy, &heard)];
    for number in 1..4 {
        let mut client = proxy.client();
        client.send(SLOW.replace("/slow", &format!("/slow?{number}")));
        wait_until("it waits", || waiting(&proxy) == number);
        clients.push(client);
    }
    for client in &mut clients {
        release.send(()).unwrap();
        assert_eq!(client.response("GET").text(), "slow");
    }
    let order: Vec<String> = origin.seen(4).iter().map(|request| request.line()).collect();
    let want = ["/slow", "/slow?1", "/slow?2", "/slow?3"].map(|path| format!("GET {path} HTTP/1.1"));
    assert_eq!(order, want);
}

/// A visitor that leaves the line by a reset of its stream leaves nothing behind.
#[test]
fn who_leaves_the_line_leaves_nothing_behind() {
    let (origin, heard, release) = slow_origin();
    let proxy = run(&origin, "");
    let mut first = occupied(&proxy, &heard);
    for _ in 0..3 {
        let mut leaves = H2::prior_knowledge(proxy.addr());
        leaves.begin("http://site.test/no");
        wait_until("it waits", || waiting(&proxy) == 1);
        drop(leaves);
        wait_until("it has left", || waiting(&proxy) == 0);
    }
    release.send(()).unwrap();
    assert_eq!(first.response("GET").text(), "slow");
    assert_eq!(proxy.get("/next", "").text(), "hello");
    assert!(origin.seen(2).iter().all(|request| !request.line().contains("/no")));
}

/// Places are the process's, not a core's: an idle connection of one core gives its place to another.
#[test]
fn an_idle_connection_of_one_core_makes_room_for_another() {
    let origin = Origin::start();
    let proxy = site(&[one_place(&origin)], "").replacing("workers = 1", "workers = 4").run();
    // The kernel deals the connections out: with so many, more than one core has some.
    let mut clients: Vec<_> = (0..16).map(|_| proxy.client()).collect();
    for round in 0..2 {
        for client in &mut clients {
            assert_eq!(client.get("/", "").status(), 200, "round {round}");
        }
    }
}

/// Several who begin to wait at once get as many places, though the other cores hear of it once.
#[test]
fn idle_connections_of_other_cores_make_room_for_all_who_wait() {
    const PLACES: usize = 8;
    let together = Arc::new(Barrier::new(PLACES));
    let origin = Origin::start().on("/together", move |x| {
        together.wait();
        x.ok("text/plain", b"all")
    });
    let places = format!("{{ url = {}, max_connections = {PLACES} }}", origin.toml());
    // Who is refused for want of time would leave the others waiting for each other.
    let patient = "[timeouts]\nupstream_queue = \"60s\"\n";
    let proxy = site(&[places], patient).replacing("workers = 1", "workers = 4").run();
    for _ in 0..3 {
        // The kernel deals these out to the cores; each leaves an idle connection on its own.
        let mut clients: Vec<_> = (0..PLACES).map(|_| proxy.client()).collect();
        for client in &mut clients {
            client.send("GET /together HTTP/1.1\r\nHost: site.test\r\n\r\n");
        }
        for client in &mut clients {
            assert_eq!(client.response("GET").text(), "all");
        }
        // All on one core.
        let answers = H2::prior_knowledge(proxy.addr()).get_at_once("http://site.test/together", PLACES);
        assert!(answers.iter().all(|answer| answer.body == b"all"[..]), "{answers:?}");
    }
}

/// With two origins the one with a free place is asked before anybody waits.
#[test]
fn nobody_waits_while_another_origin_has_room() {
    let (full, heard, release) = slow_origin();
    let free = Origin::start();
    let proxy = site(&[one_place(&full), free.toml()], "").run();
    let mut first = occupied(&proxy, &heard);
    for _ in 0..5 {
        assert_eq!(proxy.get("/", "").text(), "hello");
    }
    assert_eq!((free.heads(), waiting(&proxy)), (5, 0));
    release.send(()).unwrap();
    assert_eq!(first.response("GET").text(), "slow");
}

/// A tunnel holds its place until it ends.
#[test]
fn a_tunnel_holds_its_place() {
    let origin = Origin::start().on("/socket", |x| {
        x.send("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")?;
        while !x.tunnel()?.is_empty() {}
        x.cut();
        Ok(())
    });
    let proxy = run(&origin, "");
    let mut tunnel = proxy.client();
    tunnel
        .send("GET /socket HTTP/1.1\r\nHost: site.test\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n");
    assert_eq!(tunnel.head().status, 101);
    let mut waits = proxy.client();
    waits.send("GET / HTTP/1.1\r\nHost: site.test\r\n\r\n");
    wait_until("it waits", || waiting(&proxy) == 1);
    tunnel.finish();
    assert_eq!(waits.response("GET").text(), "hello");
}

/// A reload gives places or takes them; who has one keeps it and is counted, and who waits is heard at once.
#[test]
fn places_that_a_reload_adds_or_takes_away_are_counted_with_those_that_are_taken() {
    let (origin, heard, release) = slow_origin();
    let proxy = run(&origin, "");
    let places = |from: usize, to: usize| {
        let [from, to] = [from, to].map(|places| format!("max_connections = {places} "));
        proxy.reload(|text| text.replace(&from, &to)).unwrap();
    };
    let begin = || {
        let mut client = proxy.client();
        client.send(SLOW);
        client
    };
    let mut clients = vec![occupied(&proxy, &heard), begin()];
    wait_until("the second waits", || waiting(&proxy) == 1);
    places(1, 2);
    heard.recv_timeout(DEADLINE).expect("the second has the new place");
    clients.push(begin());
    wait_until("the third waits", || waiting(&proxy) == 1);
    places(2, 1);
    release.send(()).unwrap();
    assert_eq!(clients.remove(0).response("GET").text(), "slow");
    clients.push(begin());
    wait_until("the third and the fourth wait", || waiting(&proxy) == 2);
    assert!(heard.try_recv().is_err(), "the place that became free was one too many");
    for _ in 0..2 {
        release.send(()).unwrap();
        heard.recv_timeout(DEADLINE).unwrap();
    }
    release.send(()).unwrap();
    clients.iter_mut().for_each(|client| assert_eq!(client.response("GET").text(), "slow"));
}

/// A line that a reload makes shorter is the same line, and the places are the same places.
#[test]
fn a_reload_that_changes_the_line_gives_no_place_away() {
    let (origin, heard, release) = slow_origin();
    let proxy = run(&origin, "[limits]\nupstream_queue = 9\n");
    let mut first = occupied(&proxy, &heard);
    proxy.reload(|text| text.replace("upstream_queue = 9", "upstream_queue = 1")).unwrap();
    let mut second = proxy.client();
    second.send("GET /second HTTP/1.1\r\nHost: site.test\r\n\r\n");
    wait_until("the second waits", || waiting(&proxy) == 1);
    assert_eq!(proxy.get("/third", "").status(), 503, "the line is as short as it is now");
    release.send(()).unwrap();
    assert_eq!(first.response("GET").text(), "slow");
    assert_eq!(second.response("GET").text(), "hello");
}
