//! Visitors who break off, reset or fall silent at every byte of a request; uploads that take their time.

use std::net::Shutdown;
use std::sync::Arc;
use std::time::{Duration, Instant};

use socket2::SockRef;

use super::super::conformance::frames::{Outcome, outcome};
use super::super::conformance::recorder::{Recorder, Request};
use super::super::conformance::wire::Wire;
use super::super::support::client::{Client, tcp};
use super::super::support::frames::{
    DATA, END_HEADERS, END_STREAM, HEADERS, RST_STREAM, frame, hello, section,
};
use super::super::support::h2::{Frames, H2};
use super::super::support::origin::Origin;
use super::super::support::proxy::proxy;
use super::super::support::{DEADLINE, wait_until};
use super::{SHORT, sum};
use crate::support::binary::Binary;
use crate::support::client::metrics;

/// What a visitor does behind the last byte that they send.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Then {
    Closes,
    Resets,
    /// Waits for an answer or the end.
    IsSilent,
}

const REQUESTS: [&str; 3] = [
    "GET /case HTTP/1.1\r\nHost: site.test\r\nX-Some: thing\r\n\r\n",
    "POST /case HTTP/1.1\r\nHost: site.test\r\nContent-Length: 26\r\n\r\nabcdefghijklmnopqrstuvwxyz",
    "POST /case HTTP/1.1\r\nHost: site.test\r\nTransfer-Encoding: chunked\r\n\r\nd\r\nabcdefghijklm\r\n\
     d\r\nnopqrstuvwxyz\r\n0\r\nX-Sum: 7\r\n\r\n",
];

/// Sends every number of bytes of each request, all at a time; none of them may be a whole request at the origin.
fn broken_at_every_byte(then: Then) {
    let origin = Arc::new(Recorder::start());
    let (binary, admin) = Binary::observed(proxy().upstream(&origin.url()).toml(SHORT));
    let quiet = || {
        let metrics = metrics(admin);
        sum(&metrics, "optgate_connections") + sum(&metrics, "optgate_upstream_connections") == 0
    };
    wait_until("it is idle", quiet);
    let descriptors = binary.descriptors();
    for request in REQUESTS {
        let send = |bytes: usize| {
            let mut client = Client::connect(binary.addr());
            client.send(&request[..bytes]);
            let stream = client.writer();
            match then {
                Then::Closes => stream.shutdown(Shutdown::Write).unwrap(),
                Then::Resets => {
                    SockRef::from(&stream).set_linger(Some(Duration::ZERO)).unwrap();
                    drop((stream, client));
                    return None;
                }
                Then::IsSilent => {}
            }
            Some(client)
        };
        let clients: Vec<_> = (0..request.len()).map(send).collect();
        for (bytes, mut client) in clients.into_iter().enumerate().filter_map(|(n, c)| Some((n, c?))) {
            let answer = String::from_utf8_lossy(&client.rest()).into_owned();
            let fine = answer.is_empty()
                || ["400", "408"].iter().any(|s| answer.starts_with(&format!("HTTP/1.1 {s}")));
            assert!(fine, "{then:?} behind {bytes} bytes of {request:?}: {answer}");
        }
        wait_until("nothing is left open", quiet);
        assert_eq!(origin.requests().len(), 0, "{then:?}: {:?}", origin.requests().first());
        assert!(origin.malformed().is_empty(), "{then:?}: {:?}", origin.malformed());
    }
    for request in REQUESTS {
        let mut client = Client::connect(binary.addr());
        client.send(request);
        assert_eq!(client.response("GET").status(), 200, "the whole of it is served");
    }
    assert_eq!(origin.requests().len(), REQUESTS.len());
    wait_until("nothing is left open", quiet);
    // Not between two of these looks: asking for the figures opens a connection too.
    wait_until("descriptors are back", || binary.descriptors() <= descriptors);
}

/// RFC 9112, 8: an incomplete request is never one to the origin, wherever it is cut.
#[test]
fn a_request_cut_at_any_byte_is_none() {
    broken_at_every_byte(Then::Closes);
}

#[test]
fn a_request_reset_at_any_byte_is_none() {
    broken_at_every_byte(Then::Resets);
}

/// It ends by its own timeout: `idle` before the first byte, `header_read` in the head, `between_bytes` in the body.
#[test]
fn a_request_that_stalls_at_any_byte_is_none() {
    broken_at_every_byte(Then::IsSilent);
}

/// `first_byte` runs from the request's last byte: an upload may take longer, over HTTP/1.1 and HTTP/2, as long as it
/// goes on; an origin that is silent behind it may not.
#[test]
fn an_upload_that_takes_its_time_is_no_silence_of_the_origin() {
    let origin = Origin::start()
        .on("/upload", |x| {
            let length = x.count_body()?;
            x.ok("text/plain", length.to_string().as_bytes())
        })
        .on("/silent", |x| {
            x.count_body()?;
            // Until the other side gives it up.
            x.tunnel().map(drop)
        });
    let through = proxy().to(&origin).run();
    let limits = "[timeouts]\nfirst_byte = \"300ms\"\n";
    for upstream in [origin.url().to_owned(), format!("h2c://{}", through.addr())] {
        let proxy = proxy().upstream(&upstream).toml(limits).run();
        for (path, status) in [("/upload", 200), ("/silent", 504)] {
            let mut client = proxy.client();
            client.send(format!(
                "POST {path} HTTP/1.1\r\nHost: site.test\r\nTransfer-Encoding: chunked\r\n\r\n"
            ));
            let (begun, mut pieces) = (Instant::now(), 0);
            while begun.elapsed() < Duration::from_millis(1_500) {
                // A piece now and then; the pace is not what is tested.
                client.send("a\r\n0123456789\r\n");
                pieces += 10;
                std::thread::sleep(Duration::from_millis(20));
            }
            client.send("0\r\n\r\n");
            let answer = client.response("POST");
            assert_eq!(answer.status(), status, "{upstream}{path}");
            assert!(status != 200 || answer.text() == pieces.to_string(), "{}", answer.text());
        }
    }
}

/// RFC 9113, 8.1: an upload over HTTP/2 ends with the flag that says so. One that is reset before, for whatever reason
/// and also for none, is no whole request to an origin that waits for its last chunk.
#[test]
fn an_upload_that_is_reset_is_none() {
    let origin = Arc::new(Recorder::start());
    let proxy = proxy().upstream(&origin.url()).toml(SHORT).run();
    let open = || sum(&proxy.running().metrics().render(), "optgate_upstream_connections");
    let fields = |method: &'static [u8], path: &'static [u8]| {
        section(&[
            (b":method", method),
            (b":scheme", b"http"),
            (b":path", path),
            (b":authority", b"site.test"),
        ])
    };
    for code in [0u32, 1, 2, 5, 7, 8, 11, 99] {
        wait_until("it is idle", || open() == 0);
        let mark = origin.mark();
        let mut wire = Wire::tcp(proxy.addr(), DEADLINE);
        wire.send(hello());
        wire.send(frame(HEADERS, END_HEADERS, 1, &fields(b"POST", b"/upload")));
        wire.send(frame(DATA, 0, 1, b"not all of it"));
        wait_until("the upload is under way", || open() == 1);
        let next = frame(HEADERS, END_HEADERS | END_STREAM, 3, &fields(b"GET", b"/next"));
        wire.send([frame(RST_STREAM, 0, 1, &code.to_be_bytes()), next].concat());
        assert_eq!(outcome(&mut wire, 3), Outcome::Answered(200));
        wait_until("only the next one's connection is kept", || open() == 1);
        let lines: Vec<_> = origin.since(mark).iter().map(Request::line).collect();
        assert_eq!(lines, ["GET /next HTTP/1.1"], "reset with {code}");
    }
    assert_eq!(origin.malformed(), []);
}

/// Visitors who leave in the middle of an HTTP/2 upload or answer leave nothing behind.
#[test]
fn a_visitor_who_leaves_leaves_nothing_behind() {
    let origin = Origin::start().on("/endless", |x| {
        x.send("HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nTransfer-Encoding: chunked\r\n\r\n")?;
        loop {
            x.chunk(&[b'x'; 1_000])?;
        }
    });
    let bench = super::Bench::start(proxy().to(&origin).toml(SHORT));
    for round in 0..20 {
        let mut h2 = H2::prior_knowledge(bench.addr());
        for _ in 0..10 {
            h2.begin("http://site.test/endless");
        }
        let request = http::Request::post("http://site.test/").body(Frames::new(b"up", None)).unwrap();
        assert_eq!(h2.send(request).status, 200);
        drop(h2);
        let mut client = Client::connect(bench.addr());
        client.send(super::head("/endless", ""));
        assert_eq!(client.final_head().status, 200, "round {round}");
        let stream = tcp(bench.addr());
        drop((client, stream));
    }
    bench.is_as_before();
}
