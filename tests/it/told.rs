//! What is told of an exchange that went wrong: whose doing it was, and how often.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use socket2::SockRef;

use super::support::binary::{Binary, command, own_address, serving};
use super::support::client::{Client, get, metrics};
use super::support::frames::{
    CONTINUATION, END_HEADERS, END_STREAM, Field, HEADERS, PREFACE, RST_STREAM, SETTINGS, frame, hello,
    next_frame, section,
};
use super::support::h2::{Frames, H2};
use super::support::origin::{Origin, held};
use super::support::pki::Authority;
use super::support::proxy::{Proxy, figure, proxy};
use super::support::{DEADLINE, wait_until};

/// A visitor who goes while the origin is silent leaves a line too: over HTTP/1.1 and HTTP/2, and it is counted.
#[test]
fn an_exchange_that_is_given_up_before_its_answer_is_told() {
    let (slow, heard, release) = held("slow");
    let origin = Origin::start().on("/h1", slow.clone()).on("/h2", slow);
    let (binary, admin) = Binary::observed(proxy().to(&origin));
    let mut wire = Client::connect(binary.addr());
    wire.send("GET /h1 HTTP/1.1\r\nHost: site.test\r\nSec-GPC: 1\r\n\r\n");
    heard.recv_timeout(DEADLINE).unwrap();
    SockRef::from(&wire.writer()).set_linger(Some(Duration::ZERO)).unwrap();
    drop(wire);
    let line = binary.wait_for_line(" GET /h1 499 0B ");
    assert!(line.contains("decision=opted-out;basis=gpc") && line.ends_with("broken-off=visitor"), "{line}");
    let mut second = H2::prior_knowledge(binary.addr());
    second.begin("http://site.test/h2");
    heard.recv_timeout(DEADLINE).unwrap();
    drop(second);
    assert!(binary.wait_for_line(" GET /h2 499 0B ").ends_with("broken-off=visitor"));
    let requests = metrics(admin);
    let failed =
        |line: &&str| line.starts_with("optgate_requests_total{") && line.contains("code_class=\"4xx\"");
    assert!(requests.lines().find(failed).unwrap().ends_with("} 2"), "{requests}");
    drop(release);
}

fn counted(proxy: &Proxy, series: &str) -> u64 {
    figure(&proxy.running().metrics().render(), series).unwrap_or(0)
}

/// Whether a request is answered there. Who only connects may meet the look whether the port is free, which ends at once.
fn is_answered(addr: SocketAddr) -> bool {
    let Ok(mut wire) = TcpStream::connect(addr) else { return false };
    let asked = wire.write_all(b"GET / HTTP/1.1\r\nHost: site.test\r\n\r\n");
    asked.is_ok() && wire.read(&mut [0]).is_ok_and(|length| length == 1)
}

/// Where there are no access lines, a request that failed and an answer that broke off have one of their own.
#[test]
fn without_access_lines_a_failure_is_told_all_the_same() {
    let origin = Origin::start()
        .on("/cut", |x| {
            x.send("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc")?;
            x.cut();
            Ok(())
        })
        .on("/garbage", |x| x.send("no HTTP at all\r\n\r\n"));
    let builder = proxy().to(&origin).replacing("level = \"error\"", "level = \"warn\"");
    let addr = own_address();
    let mut command = command(&builder.write());
    command.args(["--listen", &addr.to_string()]);
    let binary = Binary::spawn(command, addr, builder.into_dir());
    wait_until("it answers", || is_answered(addr));
    let mut wire = Client::connect(addr);
    wire.send("GET /cut HTTP/1.1\r\nHost: site.test\r\n\r\n");
    wire.rest();
    let line = binary.wait_for_line("an answer broke off");
    assert!(line.contains("WARN") && line.contains(origin.url().trim_end_matches('/')), "{line}");
    assert_eq!(get(addr, "/garbage", "").status(), 502);
    let line = binary.wait_for_line("request failed");
    assert!(line.contains("WARN") && line.contains("the origin gave no answer"), "{line}");
}

/// An answer that has begun cannot become an error page: the log, a counter of the origin and the access line tell.
#[test]
fn an_answer_that_the_origin_breaks_off_is_told_as_the_origins() {
    let origin = Origin::start()
        .on("/cut", |x| {
            x.send("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc")?;
            x.cut();
            Ok(())
        })
        .on("/chunks", |x| {
            x.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\nzz\r\n")?;
            x.cut();
            Ok(())
        })
        .on("/page", |x| {
            x.send("HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: 90000\r\n\r\n")?;
            x.send(format!("<!doctype html><body>{}", "<p>text".repeat(4_000)))?;
            x.cut();
            Ok(())
        });
    let builder = proxy().to(&origin);
    let (addr, admin) = (own_address(), own_address());
    let settings = builder.write();
    let mut command = serving(&settings, addr);
    command.args(["--admin", &admin.to_string()]);
    let binary = Binary::spawn(command, addr, builder.into_dir());
    wait_until("it answers", || is_answered(addr));
    for path in ["/cut", "/chunks", "/page"] {
        let mut wire = TcpStream::connect(addr).unwrap();
        wire.write_all(
            format!("GET {path} HTTP/1.1\r\nHost: site.test\r\nConnection: close\r\n\r\n").as_bytes(),
        )
        .unwrap();
        let _ = wire.read_to_end(&mut Vec::new());
        let lines = binary.lines_until(&format!(" GET {path} 200 "));
        let (line, others) = lines.split_last().unwrap();
        let why = line.split(" broken-off=origin why=\"").nth(1).unwrap_or_else(|| panic!("{line}"));
        assert!(why.starts_with(&format!("{}: ", origin.url().trim_end_matches('/'))), "{why}");
        assert!(!others.iter().any(|line| line.contains("broke off")), "one line: {others:?}");
    }
    let broken = metrics(admin);
    let broken =
        broken.lines().find(|line| line.starts_with("optgate_upstream_broken_answers_total{")).unwrap();
    assert!(broken.ends_with("} 3"), "{broken}");
    // Who leaves does so on its own account.
    let mut wire = TcpStream::connect(addr).unwrap();
    wire.write_all(b"GET /held HTTP/1.1\r\nHost: site.test\r\n\r\n").unwrap();
    drop(wire);
    assert_eq!(get(addr, "/", "").status(), 200);
    let broken = metrics(admin);
    assert!(
        broken
            .lines()
            .any(|line| line.starts_with("optgate_upstream_broken_answers_total{") && line.ends_with("} 3"))
    );
}

/// Every limit has a counter, whatever the protocol.
#[test]
fn limits_of_heads_are_counted_over_both_protocols() {
    let limits = "[limits]\nheader_bytes = \"8KiB\"\nheader_count = 20\n[timeouts]\nheader_read = \"1s\"\n";
    let proxy = proxy().to(&Origin::start()).toml(limits).run();
    let mut h2 = H2::prior_knowledge(proxy.addr());
    let long = "x".repeat(9_000);
    assert_eq!(h2.get(&format!("http://site.test/{long}")).status, 414);
    let field = |name: &str, value: &str| {
        let request = http::Request::get("http://site.test/").header(name, value);
        request.body(Frames::new(b"", None)).unwrap()
    };
    assert_eq!(h2.send(field("x-long", &long)).status, 431);
    assert_eq!(proxy.limit_reached("header_bytes"), 2);
    let many = (0..30).fold(http::Request::get("http://site.test/"), |r, n| r.header(format!("x-{n}"), "1"));
    assert_eq!(h2.send(many.body(Frames::new(b"", None)).unwrap()).status, 431);
    assert_eq!(proxy.get("/", &"X-A: 1\r\n".repeat(30)).status(), 431);
    assert_eq!(proxy.limit_reached("header_count"), 2);
    let refused = |reason: &str| {
        counted(&proxy, &format!("optgate_refused_messages_total{{side=\"downstream\",reason=\"{reason}\"}}"))
    };
    assert_eq!((refused("long_target"), refused("long_head"), refused("many_fields")), (1, 1, 2));
    let mut slow = proxy.client();
    slow.send("GET / HTTP/1.1\r\nHost: si");
    slow.rest();
    wait_until("it is counted", || proxy.limit_reached("header_read") == 1);
    // One that never began a head was idle, and reached no limit.
    assert_eq!(proxy.limit_reached("between_bytes"), 0);
}

/// What a client of HTTP/2 has begun must end within the time of a head, from its first byte on; the preface is
/// such a beginning. While it is idle it has longer than this test waits.
#[test]
fn what_a_client_of_http2_does_not_end_is_ended_and_counted() {
    let limits = "[timeouts]\nheader_read = \"1s\"\nidle = \"10m\"\n";
    let proxy = proxy().to(&Origin::start()).toml(limits).run();
    let head = frame(HEADERS, END_STREAM, 1, b"\x82\x86\x84");
    for (what, begun) in [
        ("half a preface", PREFACE[..11].to_vec()),
        ("a preface without settings", PREFACE.to_vec()),
        ("fields that go on elsewhere", [hello(), head.clone()].concat()),
        ("fields that go on and on", [hello(), head.clone(), frame(CONTINUATION, 0, 1, b"\x84")].concat()),
        ("half a frame", [hello(), head[..10].to_vec()].concat()),
        ("half a frame's head", [hello(), head[..5].to_vec()].concat()),
    ] {
        let before = proxy.limit_reached("header_read");
        let mut client = proxy.client();
        client.writer().write_all(&begun).unwrap();
        client.rest();
        wait_until(what, || proxy.limit_reached("header_read") == before + 1);
    }
}

#[test]
fn handshakes_that_fail_or_take_too_long_are_counted() {
    let authority = Authority::new();
    let builder = proxy().to(&Origin::start());
    let certificate = authority.leaf_for(&["one.test"]).toml(builder.dir(), "leaf");
    let settings =
        format!("[tls]\nlisten = [\"127.0.0.1:0\"]\n{certificate}[timeouts]\ntls_handshake = \"1s\"\n");
    let proxy = builder.toml(&settings).run();
    let mut garbage = TcpStream::connect(proxy.tls()).unwrap();
    garbage.write_all(b"GET / HTTP/1.1\r\nHost: one.test\r\n\r\n").unwrap();
    wait_until("it is counted", || counted(&proxy, "optgate_tls_handshakes_failed_total") == 1);
    let mut silent = TcpStream::connect(proxy.tls()).unwrap();
    let _ = silent.read(&mut [0]);
    wait_until("it is counted", || proxy.limit_reached("tls_handshake") == 1);
    assert_eq!(counted(&proxy, "optgate_tls_handshakes_failed_total"), 1);
}

/// RFC 9113, 5.1.2: a stream more than were announced is refused, and counted like every other limit.
#[test]
fn a_stream_over_the_limit_is_refused_and_counted() {
    let (handler, _asked, release) = held("held");
    let origin = Origin::start().on("/held", handler);
    let proxy = proxy().to(&origin).toml("[limits]\nhttp2_streams = 2\n").run();
    let mut wire = TcpStream::connect(proxy.addr()).unwrap();
    wire.write_all(&hello()).unwrap();
    let (head, _) = next_frame(&wire).unwrap();
    assert_eq!(head[3], SETTINGS);
    wire.write_all(&frame(SETTINGS, 1, 0, &[])).unwrap();
    let fields: [Field<'_>; 4] =
        [(b":method", b"GET"), (b":scheme", b"http"), (b":path", b"/held"), (b":authority", b"site.test")];
    for stream in [1, 3, 5] {
        wire.write_all(&frame(HEADERS, END_HEADERS | END_STREAM, stream, &section(&fields))).unwrap();
    }
    let refused = loop {
        let (head, payload) = next_frame(&wire).unwrap();
        if head[3] == RST_STREAM {
            break (u32::from_be_bytes([head[5], head[6], head[7], head[8]]), payload);
        }
    };
    assert_eq!(refused, (5, 7_u32.to_be_bytes().to_vec()));
    wait_until("it is counted", || proxy.limit_reached("http2_streams") == 1);
    drop(release);
}
