//! Bad input and limits: what is malformed, too large, too slow or unknown is refused, and the
//! refusal tells a stranger nothing.

use std::sync::{Mutex, mpsc};

use super::support::client::Client;
use super::support::h2::{Frames, H2};
use super::support::origin::{Origin, held};
use super::support::proxy::{Proxy, proxy};
use super::support::{DEADLINE, wait_until};

/// Sends raw bytes, and reads everything until the proxy closes.
fn refused(proxy: &Proxy, bytes: impl AsRef<[u8]>) -> String {
    let mut client = proxy.client();
    // It may close before all of it is sent.
    client.try_send(bytes);
    String::from_utf8_lossy(&client.rest()).into_owned()
}

/// Whether the answer is one 400 (or what RFC 9110 gives an unknown coding or version), and nothing
/// behind it was read.
fn is_refusal(answer: &str) -> bool {
    let status = answer.get(9..12).unwrap_or_default();
    ["400", "501", "505"].contains(&status) && answer.matches("HTTP/1.1 ").count() == 1
}

/// RFC 9112, 6.1-6.3 and RFC 9110, 5-7: malformed requests get 400 and close; the origin sees none.
#[test]
fn a_malformed_request_is_refused_and_the_connection_closed() {
    let origin = Origin::start();
    // A head that is taken for unfinished ends soon, without an answer.
    let proxy = proxy().to(&origin).toml("[timeouts]\nheader_read = \"2s\"\nidle = \"2s\"\n").run();
    let next = "GET /smuggled HTTP/1.1\r\nHost: site.test\r\n\r\n";
    let cases: &[(&str, String)] = &[
        ("no host", "GET / HTTP/1.1\r\n\r\n".into()),
        ("two hosts", "GET / HTTP/1.1\r\nHost: a.test\r\nHost: b.test\r\n\r\n".into()),
        ("the same host twice", "GET / HTTP/1.1\r\nHost: a.test\r\nHost: a.test\r\n\r\n".into()),
        ("empty host", "GET / HTTP/1.1\r\nHost: \r\n\r\n".into()),
        ("host with a path", "GET / HTTP/1.1\r\nHost: site.test/x\r\n\r\n".into()),
        ("host with userinfo", "GET / HTTP/1.1\r\nHost: me@site.test\r\n\r\n".into()),
        ("host with a blank", "GET / HTTP/1.1\r\nHost: site .test\r\n\r\n".into()),
        ("host with a comma", "GET / HTTP/1.1\r\nHost: a.test, b.test\r\n\r\n".into()),
        ("host with a bad port", "GET / HTTP/1.1\r\nHost: site.test:x\r\n\r\n".into()),
        ("target and host differ", "GET http://other.test/ HTTP/1.1\r\nHost: site.test\r\n\r\n".into()),
        ("blank before the colon", "GET / HTTP/1.1\r\nHost: site.test\r\nX-A : 1\r\n\r\n".into()),
        ("no colon", "GET / HTTP/1.1\r\nHost: site.test\r\nnonsense\r\n\r\n".into()),
        ("empty name", "GET / HTTP/1.1\r\nHost: site.test\r\n: 1\r\n\r\n".into()),
        ("folded field", "GET / HTTP/1.1\r\nHost: site.test\r\nX-A: 1\r\n 2\r\n\r\n".into()),
        ("NUL in a value", "GET / HTTP/1.1\r\nHost: site.test\r\nX-A: a\0b\r\n\r\n".into()),
        ("bare CR in a value", "GET / HTTP/1.1\r\nHost: site.test\r\nX-A: a\rX-B: b\r\n\r\n".into()),
        ("control octet in the target", "GET /\x01 HTTP/1.1\r\nHost: site.test\r\n\r\n".into()),
        ("blank in the target", "GET /a b HTTP/1.1\r\nHost: site.test\r\n\r\n".into()),
        ("relative target", "GET a HTTP/1.1\r\nHost: site.test\r\n\r\n".into()),
        ("HTTP/0.9", "GET /\r\n\r\n".into()),
        ("not HTTP at all", "\x16\x03\x01\x02\x00\x01\x00\x01\x7c\x03\x03\r\n\r\n".into()),
        ("unknown version", "GET / HTTP/1.9x\r\nHost: site.test\r\n\r\n".into()),
        (
            "two lengths",
            format!(
                "POST / HTTP/1.1\r\nHost: site.test\r\nContent-Length: 0\r\nContent-Length: 50\r\n\r\n{next}"
            ),
        ),
        ("length list", format!("POST / HTTP/1.1\r\nHost: site.test\r\nContent-Length: 0, 50\r\n\r\n{next}")),
        ("signed length", format!("POST / HTTP/1.1\r\nHost: site.test\r\nContent-Length: +0\r\n\r\n{next}")),
        (
            "negative length",
            format!("POST / HTTP/1.1\r\nHost: site.test\r\nContent-Length: -1\r\n\r\n{next}"),
        ),
        (
            "hexadecimal length",
            format!("POST / HTTP/1.1\r\nHost: site.test\r\nContent-Length: 0x0\r\n\r\n{next}"),
        ),
        (
            "endless length",
            format!(
                "POST / HTTP/1.1\r\nHost: site.test\r\nContent-Length: 99999999999999999999999\r\n\r\n{next}"
            ),
        ),
        (
            "identity, chunked",
            format!(
                "POST / HTTP/1.1\r\nHost: site.test\r\nTransfer-Encoding: identity, chunked\r\n\r\n0\r\n\r\n{next}"
            ),
        ),
        (
            "chunked twice",
            format!(
                "POST / HTTP/1.1\r\nHost: site.test\r\nTransfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n{next}"
            ),
        ),
        (
            "two codings",
            format!(
                "POST / HTTP/1.1\r\nHost: site.test\r\nTransfer-Encoding: cow\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n{next}"
            ),
        ),
        (
            "unknown coding",
            format!("POST / HTTP/1.1\r\nHost: site.test\r\nTransfer-Encoding: cow\r\n\r\n0\r\n\r\n{next}"),
        ),
        (
            "chunked with a comma",
            format!(
                "POST / HTTP/1.1\r\nHost: site.test\r\nTransfer-Encoding: ,chunked\r\n\r\n0\r\n\r\n{next}"
            ),
        ),
        (
            "chunked not last",
            format!(
                "POST / HTTP/1.1\r\nHost: site.test\r\nTransfer-Encoding: chunked, gzip\r\n\r\n0\r\n\r\n{next}"
            ),
        ),
        (
            "chunked in HTTP/1.0",
            format!(
                "POST / HTTP/1.0\r\nHost: site.test\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n{next}"
            ),
        ),
    ];
    let answers: Vec<_> = cases.iter().map(|(case, bytes)| (case, refused(&proxy, bytes))).collect();
    let wrong: Vec<_> = answers.iter().filter(|(_, answer)| !is_refusal(answer)).collect();
    assert!(wrong.is_empty(), "not refused: {wrong:#?}");
    assert_eq!(origin.heads(), 0, "no malformed request goes on");
    assert_eq!(proxy.get("/", "").status(), 200, "the next visitor is served");
}

/// RFC 9112, 6.3: a length beside `chunked` is refused, or never counts and the connection is closed.
#[test]
fn a_length_beside_chunked_never_counts() {
    let origin = Origin::start();
    let proxy = proxy().to(&origin).run();
    let framings = [
        "Content-Length: 4\r\nTransfer-Encoding: chunked\r\n",
        "Transfer-Encoding: chunked\r\nContent-Length: 4\r\n",
    ];
    for framing in framings {
        let answer = refused(
            &proxy,
            format!(
                "POST / HTTP/1.1\r\nHost: site.test\r\n{framing}\r\n3\r\nabc\r\n0\r\n\r\n\
                 GET /smuggled HTTP/1.1\r\nHost: site.test\r\n\r\n"
            ),
        );
        assert_eq!(answer.matches("HTTP/1.1 ").count(), 1, "{answer:?}");
    }
    assert_eq!(proxy.get("/next", "").status(), 200);
    for seen in origin.seen(1).iter().filter(|seen| seen.line() != "GET /next HTTP/1.1") {
        assert_eq!((seen.line().as_str(), seen.body.as_slice()), ("POST / HTTP/1.1", b"abc".as_slice()));
        assert_eq!(
            seen.one("transfer-encoding").is_some(),
            seen.one("content-length").is_none(),
            "{}",
            seen.text()
        );
    }
}

/// RFC 9112, 7.1: a body with broken chunks is refused, and what stands behind it is never read as a request.
#[test]
fn broken_chunks_are_refused() {
    let origin = Origin::start();
    let proxy = proxy().to(&origin).run();
    let chunks = [
        ("no number", "x\r\n"),
        ("signed", "+1\r\na\r\n0\r\n\r\n"),
        ("prefixed", "0x1\r\na\r\n0\r\n\r\n"),
        ("too long a number", "fffffffffffffffff\r\n"),
        ("bare LF", "1\na\n0\n\n"),
        ("data longer than said", "1\r\nab\r\n0\r\n\r\n"),
    ];
    for (case, body) in chunks {
        let answer = refused(
            &proxy,
            format!(
                "POST / HTTP/1.1\r\nHost: site.test\r\nTransfer-Encoding: chunked\r\n\r\n{body}\
                 GET /smuggled HTTP/1.1\r\nHost: site.test\r\n\r\n"
            ),
        );
        assert!(answer.matches("HTTP/1.1 ").count() <= 1, "{case}: {answer:?}");
        assert!(!answer.starts_with("HTTP/1.1 2"), "{case}: {answer:?}");
    }
    assert_eq!(proxy.get("/next", "").status(), 200);
    // Give the origin a chance to show what it read: the last request it saw is ours.
    let lines: Vec<_> = origin.seen(1).iter().map(super::support::origin::Recorded::line).collect();
    assert!(!lines.iter().any(|line| line.contains("smuggled")), "{lines:?}");
}

/// RFC 9110, 9.3.6: this is no forward proxy; `CONNECT` is refused and takes nothing down.
#[test]
fn connect_is_refused() {
    let origin = Origin::start();
    let proxy = proxy().to(&origin).run();
    let answer = refused(
        &proxy,
        "CONNECT other.test:443 HTTP/1.1\r\nHost: other.test:443\r\nConnection: close\r\n\r\n",
    );
    assert!(answer.starts_with("HTTP/1.1 4") || answer.starts_with("HTTP/1.1 501"), "{answer:?}");
    assert_eq!(origin.heads(), 0);
    assert_eq!(proxy.get("/", "").status(), 200);
}

const KNOWN_ONLY: &str =
    "default_site = \"none\"\n[[sites]]\nname = \"known\"\nhosts = [\"known.test\", \"*.wild.test\"]\n";

/// RFC 9110, 15.5.20: a host that no site has is answered 421 and goes nowhere.
#[test]
fn an_unknown_host_is_misdirected() {
    let origin = Origin::start();
    let proxy = proxy().toml(&format!("{KNOWN_ONLY}upstream = {:?}\n", origin.url())).run();
    for host in ["other.test", "wild.test.evil.test", "notknown.test", "127.0.0.1"] {
        assert_eq!(proxy.client().get_from(host, "/", "").status(), 421, "{host}");
    }
    assert_eq!(H2::prior_knowledge(proxy.addr()).get("http://other.test/").status, 421);
    assert_eq!(origin.heads(), 0);
    for host in ["known.test", "KNOWN.test", "known.test:8080", "known.test.", "a.wild.test", "a.b.wild.test"]
    {
        assert_eq!(proxy.client().get_from(host, "/", "").status(), 200, "{host}");
    }
}

/// RFC 6585, 5: heads with too many bytes or too many fields are answered 431.
#[test]
fn a_head_that_is_too_large_is_refused() {
    let origin = Origin::start();
    let proxy = proxy().to(&origin).toml("[limits]\nheader_bytes = \"16KiB\"\nheader_count = 20\n").run();
    let long = format!("GET / HTTP/1.1\r\nHost: site.test\r\nX-Long: {}\r\n\r\n", "x".repeat(64 * 1024));
    let many = format!("GET / HTTP/1.1\r\nHost: site.test\r\n{}\r\n", "X-A: 1\r\n".repeat(200));
    for (case, bytes) in [("long", long), ("many", many)] {
        let answer = refused(&proxy, bytes);
        assert!(answer.starts_with("HTTP/1.1 431 "), "{case}: {answer:?}");
    }
    assert_eq!(origin.heads(), 0);
    assert_eq!(proxy.get("/", "").status(), 200);
}

/// RFC 9110, 15.5.14: a body above the limit is refused, announced or not.
#[test]
fn a_body_above_the_limit_is_refused() {
    let origin = Origin::start();
    let proxy = proxy().to(&origin).toml("[limits]\nrequest_body = \"1KiB\"\n").run();
    let announced = "POST / HTTP/1.1\r\nHost: site.test\r\nContent-Length: 2000\r\n\r\n".to_owned();
    let chunked = format!(
        "POST / HTTP/1.1\r\nHost: site.test\r\nTransfer-Encoding: chunked\r\n\r\n7d0\r\n{}\r\n0\r\n\r\n",
        "x".repeat(2000)
    );
    for (times, (case, bytes)) in (1..).zip([("announced", announced), ("chunked", chunked)]) {
        let mut client = proxy.client();
        client.send(bytes);
        assert_eq!(client.response("POST").status(), 413, "{case}");
        assert_eq!(proxy.limit_reached("request_body"), times, "{case}");
    }
    let over_http2 = |length: Option<usize>| {
        let request = http::Request::post("http://site.test/");
        let request =
            length.iter().fold(request, |request, length| request.header("content-length", *length));
        H2::prior_knowledge(proxy.addr()).send(request.body(Frames::new(&[b'x'; 2000], None)).unwrap()).status
    };
    for (times, length) in (3..).zip([Some(2000), None]) {
        assert_eq!(over_http2(length), 413, "{length:?}");
        assert_eq!(proxy.limit_reached("request_body"), times, "{length:?}");
    }
    let mut client = proxy.client();
    client.send("POST / HTTP/1.1\r\nHost: site.test\r\nContent-Length: 4\r\n\r\nfits");
    assert_eq!(client.response("POST").status(), 200);
}

/// Fails if an error page tells a stranger about the inside.
fn assert_names_nothing(text: &str, origin: &str) {
    let lower = text.to_lowercase();
    let place = origin.split_once(':').map_or(origin, |(_, place)| place.trim_start_matches('/'));
    for secret in [place, "127.0.0.1", "refused", "errno", "os error", "hyper", "tokio", "panicked", ".rs"] {
        assert!(!lower.contains(secret), "{secret:?} in {text}");
    }
}

/// An origin that is down is a 502 that names no internals.
#[test]
fn an_origin_that_is_down_is_a_bad_gateway_without_internals() {
    for origin in ["http://127.0.0.1:1", "unix:/nowhere/origin.sock"] {
        let proxy = proxy().upstream(origin).run();
        for signal in ["", "Sec-GPC: 1\r\n"] {
            let answer = proxy.get("/", signal);
            assert_eq!(answer.status(), 502, "{origin}");
            assert!(!answer.body.is_empty(), "a person reads it");
            assert_names_nothing(&format!("{:?}{}", answer.head, answer.text()), origin);
        }
    }
}

/// An origin that answers garbage, or splits its answer, is a 502.
#[test]
fn an_origin_that_answers_garbage_is_a_bad_gateway() {
    let endless = format!("HTTP/1.1 200 OK\r\nX-Long: {}\r\n\r\n", "x".repeat(2 * 1024 * 1024));
    let answers = [
        "garbage\r\n\r\n".to_owned(),
        "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab".to_owned(),
        "HTTP/1.1 200 OK\r\nX-A: a\0b\r\nContent-Length: 0\r\n\r\n".to_owned(),
        "HTTP/1.1 xyz OK\r\nContent-Length: 0\r\n\r\n".to_owned(),
        String::new(),
        endless,
    ];
    for bytes in answers {
        let case = bytes.chars().take(60).collect::<String>();
        let origin = Origin::start().on("/", move |x| {
            x.send(&bytes)?;
            x.cut();
            Ok(())
        });
        let proxy = proxy().to(&origin).run();
        let answer = proxy.get("/", "Sec-GPC: 1\r\n");
        assert_eq!(answer.status(), 502, "{case:?}");
        assert_names_nothing(&answer.text(), origin.url());
    }
}

/// An origin that says nothing is a 504, and its connection is not used again.
#[test]
fn an_origin_that_is_silent_is_a_gateway_timeout() {
    let (silent, _heard, release) = held("late");
    let origin = Origin::start().on("/silent", silent);
    let proxy = proxy().to(&origin).toml("[timeouts]\nfirst_byte = \"200ms\"\n").run();
    let answer = proxy.get("/silent", "");
    assert_eq!(answer.status(), 504);
    assert_names_nothing(&answer.text(), origin.url());
    release.send(()).unwrap();
    assert_eq!(proxy.get("/next", "").text(), "hello", "the late answer is nobody's");
}

/// An answer that stops half-way ends after `between_bytes`, cut.
#[test]
fn an_answer_that_stops_half_way_is_ended() {
    let (_keep, gate) = mpsc::channel::<()>();
    let gate = Mutex::new(gate);
    let origin = Origin::start().on("/", move |x| {
        x.send("HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 100\r\n\r\nbegun")?;
        let _ = gate.lock().unwrap().recv_timeout(DEADLINE * 2);
        Ok(())
    });
    let proxy = proxy().to(&origin).toml("[timeouts]\nbetween_bytes = \"200ms\"\n").run();
    let mut client = proxy.client();
    client.send("GET / HTTP/1.1\r\nHost: site.test\r\n\r\n");
    assert_eq!(client.final_head().status, 200);
    assert_eq!(client.rest(), b"begun");
}

/// A proxy with short limits and an unhurried client that sends `bytes` and then nothing.
fn slow_client(bytes: &str) -> String {
    let origin = Origin::start();
    refused(&hurried(&origin), bytes)
}

/// A proxy with short limits.
fn hurried(origin: &Origin) -> Proxy {
    let limits = "[timeouts]\nheader_read = \"200ms\"\nidle = \"200ms\"\nbetween_bytes = \"200ms\"\n";
    proxy().to(origin).toml(limits).run()
}

/// A connection that says nothing is closed.
#[test]
fn a_client_that_says_nothing_is_ended() {
    assert_eq!(slow_client(""), "");
}

/// A head that never ends is given up.
#[test]
fn a_head_that_never_ends_is_ended() {
    let answer = slow_client("GET / HTTP/1.1\r\nHost: si");
    assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 408"), "{answer:?}");
}

/// A client that begins to speak HTTP/2 and stops is given up too.
#[test]
fn an_http2_preface_that_never_ends_is_ended() {
    let answer = slow_client("PRI * HTTP/2.0\r\n");
    assert!(!answer.contains("HTTP/1.1 2"), "{answer:?}");
}

/// An HTTP/2 connection that opens no stream is given up.
#[test]
fn a_silent_http2_connection_is_ended() {
    let answer = slow_client("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0");
    assert!(!answer.contains("HTTP/1.1"), "{answer:?}");
}

/// A body that never ends is given up, on both sides.
#[test]
fn a_body_that_never_ends_is_ended() {
    let origin = Origin::start();
    let proxy = hurried(&origin);
    let answer = refused(&proxy, "POST / HTTP/1.1\r\nHost: site.test\r\nContent-Length: 100\r\n\r\nhalf");
    assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 408"), "{answer:?}");
    wait_until("it is counted", || proxy.limit_reached("between_bytes") == 1);
}

/// A connection without a further request is closed without a word.
#[test]
fn an_idle_connection_is_ended() {
    let answer = slow_client("GET / HTTP/1.1\r\nHost: site.test\r\n\r\n");
    assert!(answer.starts_with("HTTP/1.1 200") && answer.ends_with("hello"), "{answer:?}");
}

/// Above the number of connections new ones are closed or refused, and room is made again.
#[test]
fn connections_are_bounded() {
    let origin = Origin::start();
    let proxy = proxy().to(&origin).toml("[limits]\nconnections = 2\n").run();
    let mut kept: Vec<Client> = (0..2).map(|_| proxy.client()).collect();
    for client in &mut kept {
        assert_eq!(client.get("/", "").status(), 200);
    }
    let answer = refused(&proxy, "GET / HTTP/1.1\r\nHost: site.test\r\n\r\n");
    assert!(answer.starts_with("HTTP/1.1 503"), "{answer:?}");
    assert_eq!(proxy.limit_reached("connections"), 1);
    for client in &mut kept {
        assert_eq!(client.get("/", "").status(), 200, "those inside stay");
    }
}

/// An opted-out visitor's page in a coding that nobody can read is refused, never passed.
#[test]
fn a_page_that_cannot_be_read_is_refused_for_an_opted_out_visitor_only() {
    let origin = Origin::start().answers(
        "/",
        "HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Encoding: x-unknown\r\nContent-Length: 6\r\n\r\nopaque",
    );
    let proxy = proxy().to(&origin).run();
    let refused = proxy.get("/", "Sec-GPC: 1\r\nAccept: text/html\r\n");
    assert_eq!(refused.status(), 502);
    assert!(!refused.text().contains("opaque"));
    let passed = proxy.get("/", "Accept: text/html\r\n");
    assert_eq!((passed.status(), passed.text().as_str()), (200, "opaque"));
}

/// RFC 9110, 15.5.14: too late for a 413, and counted all the same.
#[test]
fn a_body_that_grows_above_the_limit_behind_the_answers_head_is_counted() {
    let origin = Origin::start().on("/", |x| {
        x.send("HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nTransfer-Encoding: chunked\r\n\r\n")?;
        x.chunk(b"begun")?;
        x.body().map(drop)
    });
    let proxy = proxy().to(&origin).toml("[limits]\nrequest_body = \"1KiB\"\n").run();
    let mut client = proxy.client();
    client.send("POST / HTTP/1.1\r\nHost: site.test\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n");
    assert_eq!(client.head().status, 200);
    assert_eq!(client.chunk().as_deref(), Some(&b"begun"[..]));
    client.try_send(format!("7d0\r\n{}\r\n", "x".repeat(2000)));
    wait_until("it is counted", || proxy.limit_reached("request_body") == 1);
}
