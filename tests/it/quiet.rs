//! Connections between two requests: after a second nothing is held of them but their sockets, and nobody notices.

use std::net::SocketAddr;
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use rustix::process::Signal;

use super::support::binary::{Binary, own_address};
use super::support::client::{Client, TlsClient, metrics};
use super::support::origin::{Origin, echoes};
use super::support::pki::Authority;
use super::support::proxy::{figure, proxy};
use super::support::{DEADLINE, wait_until};

/// Connections of which only the sockets are held.
fn quiet(admin: SocketAddr) -> u64 {
    figure(&metrics(admin), "optgate_connections_quiet").unwrap()
}

fn is_quiet(admin: SocketAddr, count: u64) {
    wait_until("so many are quiet", || quiet(admin) == count);
}

/// RFC 9112, 9.3: a persistent connection takes request after request, however long they are apart.
#[test]
fn a_quiet_connection_goes_on_as_if_nothing_had_been() {
    let origin = Origin::start().on("/up", |x| {
        let length = x.count_body()?;
        x.ok("text/plain", length.to_string().as_bytes())
    });
    let (binary, admin) = Binary::observed(proxy().to(&origin));
    let mut client = Client::connect(binary.addr());
    for _ in 0..2 {
        assert_eq!(client.get("/", "").text(), "hello");
        is_quiet(admin, 1);
    }
    // A head in pieces: the first of them ends the quiet.
    client.send("GET / HTTP/1.1\r\nHo");
    is_quiet(admin, 0);
    client.send("st: site.test\r\n\r\n");
    assert_eq!(client.response("GET").text(), "hello");
    is_quiet(admin, 1);
    // More than one look takes in, and two requests at once.
    let large = "x".repeat(100_000);
    let upload = format!("POST /up HTTP/1.1\r\nHost: site.test\r\nContent-Length: 100000\r\n\r\n{large}");
    client
        .send(upload + "GET / HTTP/1.1\r\nHost: site.test\r\n\r\nGET / HTTP/1.1\r\nHost: site.test\r\n\r\n");
    assert_eq!(client.response("POST").text(), "100000");
    assert_eq!(client.response("GET").text(), "hello");
    assert_eq!(client.response("GET").text(), "hello");
    is_quiet(admin, 1);
    // A head that is refused, with its own answer.
    client.send("GET / HTTP/1.1\nHost: site.test\r\n\r\n");
    assert_eq!(client.response("GET").status(), 400);
    assert_eq!(client.rest(), b"");
    is_quiet(admin, 0);
}

/// The end of a quiet connection, by the visitor and by `timeouts.idle`, is as quiet.
#[test]
fn a_quiet_connection_ends_as_any_other() {
    let (binary, admin) =
        Binary::observed(proxy().to(&Origin::start()).toml("[timeouts]\nidle = \"1500ms\"\n"));
    let (mut ended, mut left) = (Client::connect(binary.addr()), Client::connect(binary.addr()));
    assert_eq!(left.get("/", "").text(), "hello");
    is_quiet(admin, 1);
    drop(left);
    is_quiet(admin, 0);
    assert_eq!(ended.get("/", "").text(), "hello");
    is_quiet(admin, 1);
    assert_eq!(ended.rest(), b"");
    wait_until("none is open", || figure(&metrics(admin), "optgate_connections") == Some(0));
    assert_eq!(quiet(admin), 0);
}

/// Quiet connections do not hold up the end of the process.
#[test]
fn quiet_connections_do_not_hold_up_the_end() {
    let (mut binary, admin) =
        Binary::observed(proxy().to(&Origin::start()).toml("drain_timeout = \"10m\"\n"));
    let mut clients: Vec<Client> = (0..3).map(|_| Client::connect(binary.addr())).collect();
    clients.iter_mut().for_each(|client| assert_eq!(client.get("/", "").text(), "hello"));
    is_quiet(admin, 3);
    binary.signal(Signal::TERM);
    assert_eq!(binary.wait().code(), Some(0));
    assert_eq!(clients[0].rest(), b"");
}

/// What is under way is not quiet: an origin that takes its time, and a visitor who does.
#[test]
fn what_is_under_way_is_never_taken_for_quiet() {
    let (release, held) = channel::<()>();
    let held = Mutex::new(held);
    let body = vec![b'x'; 8 * 1024 * 1024];
    let large = body.clone();
    let origin = Origin::start()
        .on("/slow", move |x| {
            let _ = held.lock().unwrap().recv_timeout(DEADLINE);
            x.ok("text/plain", b"late")
        })
        .on("/large", move |x| x.ok("application/octet-stream", &large));
    let (binary, admin) = Binary::observed(proxy().to(&origin));
    let mut waiting = Client::connect(binary.addr());
    let mut reading = Client::connect(binary.addr());
    waiting.send("GET /slow HTTP/1.1\r\nHost: site.test\r\n\r\n");
    reading.send("GET /large HTTP/1.1\r\nHost: site.test\r\n\r\n");
    assert_eq!(reading.head().status, 200);
    let began = Instant::now();
    wait_until("more than a second has gone", || {
        assert_eq!(quiet(admin), 0);
        began.elapsed() > Duration::from_millis(2_500)
    });
    release.send(()).unwrap();
    assert_eq!(waiting.response("GET").text(), "late");
    assert_eq!(reading.take(body.len()), body);
    is_quiet(admin, 2);
    assert_eq!(waiting.get("/", "").text(), "hello");
    assert_eq!(reading.get("/", "").text(), "hello");
}

/// RFC 9110, 7.8: a tunnel opens from a connection that was quiet, and is not quiet itself.
#[test]
fn a_tunnel_opens_from_a_connection_that_was_quiet() {
    let (binary, admin) = Binary::observed(proxy().to(&Origin::start().on("/ws", echoes)));
    let mut client = Client::connect(binary.addr());
    assert_eq!(client.get("/", "").text(), "hello");
    is_quiet(admin, 1);
    client.send(
        "GET /ws HTTP/1.1\r\nHost: site.test\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n",
    );
    assert_eq!(client.head().status, 101);
    let began = Instant::now();
    wait_until("more than a second has gone", || began.elapsed() > Duration::from_millis(1_500));
    client.send("anything");
    assert_eq!(client.take(8), b"anything");
    assert_eq!(quiet(admin), 0);
}

/// What each of so many idle connections holds, in KiB, once that is less than `most`.
fn memory_of_each<C>(
    binary: &Binary,
    admin: SocketAddr,
    connections: u64,
    most: f64,
    open: impl Fn(u64) -> Vec<C>,
) -> f64 {
    let _first = open(100);
    is_quiet(admin, 100);
    let before = binary.memory("RssAnon");
    let _clients = open(connections);
    is_quiet(admin, connections + 100);
    // Nobody asks for anything any more, and what was freed goes back to the system all the same.
    let each = || binary.memory("RssAnon").saturating_sub(before) as f64 / connections as f64;
    wait_until("memory is back", || each() < most);
    assert_eq!(quiet(admin), connections + 100, "they are still there");
    each()
}

/// No more than 20 KiB for a connection that waits for its next request.
#[test]
fn an_idle_connection_holds_little_memory() {
    let (binary, admin) = Binary::observed(proxy().to(&Origin::start()));
    let rush = |count: u64| -> Vec<Client> {
        let mut clients: Vec<Client> = (0..count).map(|_| Client::connect(binary.addr())).collect();
        // All at once, so that each needs its own memory, which is then too much.
        for client in &mut clients {
            client.send("GET / HTTP/1.1\r\nHost: site.test\r\n\r\n");
        }
        clients.iter_mut().for_each(|client| assert_eq!(client.response("GET").status(), 200));
        clients
    };
    let each = memory_of_each(&binary, admin, 2_000, 11.0, rush);
    println!("memory: {each:.1} KiB for an idle connection");
}

/// Neither for one with TLS.
#[test]
fn an_idle_connection_with_tls_holds_little_memory() {
    let authority = Authority::new();
    let builder = proxy().to(&Origin::start());
    let pair = authority.leaf("site.test").toml(builder.dir(), "site");
    let tls = own_address();
    let (binary, admin) = Binary::observed(builder.toml(&format!("[tls]\nlisten = [\"{tls}\"]\n{pair}")));
    let config = authority.client(&["http/1.1"]);
    let open = |count: u64| -> Vec<TlsClient> {
        let connect = || TlsClient::connect_tls(tls, "site.test", Arc::clone(&config));
        let mut clients: Vec<TlsClient> = (0..count).map(|_| connect()).collect();
        clients.iter_mut().for_each(|client| assert_eq!(client.get("/", "").status(), 200));
        clients
    };
    let each = memory_of_each(&binary, admin, 1_000, 20.0, open);
    println!("memory: {each:.1} KiB for an idle connection with TLS");
}
