//! What is sent again to an HTTP/2 origin, and what never is (RFC 9110, 9.2.2; RFC 9113, 6.8 and 8.7).

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use crate::support::frames::{self, Asked, GOAWAY, RST_STREAM, Then, frame, hello_of};
use crate::support::proxy::{Proxy, proxy};

/// How an origin does without an answer to its second request and, if `Also`, to its third.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ends {
    /// The stream is refused.
    Refuses,
    RefusesAlso,
    /// The connection ends in good order, with the first request as the last that was taken.
    LeavesOut,
    /// The same, with the second as the last, and then without an answer to it.
    TakesAndCloses,
    /// The connection ends because of an error.
    Errs,
    /// The stream is reset by an error.
    Resets,
    Closes,
}

impl Ends {
    /// Its frames for the request that came with this number, from 1.
    fn frames(self, number: usize, stream: u32) -> (Vec<u8>, Then) {
        let reset = |code: u32| (frame(RST_STREAM, 0, stream, &code.to_be_bytes()), Then::Keeps);
        let goodbye = |last: u32, code: u32| {
            let payload = [last.to_be_bytes(), code.to_be_bytes()].concat();
            (frame(GOAWAY, 0, 0, &payload), Then::Closes)
        };
        match (self, number) {
            (Self::Refuses, 2) | (Self::RefusesAlso, 2 | 3) => reset(7),
            // It reads on: what is closed with bytes unread is reset, and the goodbye may be lost.
            (Self::LeavesOut, 2) => (goodbye(stream - 2, 0).0, Then::Keeps),
            (Self::TakesAndCloses, 2) => goodbye(stream, 0),
            (Self::Errs, 2) => goodbye(stream - 2, 2),
            (Self::Resets, 2) => reset(2),
            (Self::Closes, 2) => (Vec::new(), Then::Closes),
            _ => (hello_of(stream), Then::Keeps),
        }
    }
}

/// A proxy before an origin that has answered one request, and how many heads the origin has seen.
fn met(ends: Ends) -> (Proxy, Arc<AtomicUsize>) {
    let count = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&count);
    let addr: SocketAddr =
        frames::origin(move |stream| ends.frames(counted.fetch_add(1, Ordering::SeqCst) + 1, stream));
    let proxy = proxy().upstream(&format!("h2c://{addr}")).run();
    assert_eq!(proxy.get("/first", "").text(), "hello");
    (proxy, count)
}

fn status(proxy: &Proxy, method: &str, body: &str) -> u16 {
    let mut client = proxy.client();
    let length = body.len();
    client.send(format!("{method} / HTTP/1.1\r\nHost: site.test\r\nContent-Length: {length}\r\n\r\n{body}"));
    client.response(method).status()
}

/// RFC 9113, 8.7: the origin says that it did nothing, so any method may be asked again.
#[test]
fn a_request_that_the_origin_did_not_begin_is_asked_again() {
    for ends in [Ends::Refuses, Ends::LeavesOut] {
        for method in ["GET", "POST", "PATCH"] {
            let (proxy, count) = met(ends);
            assert_eq!(status(&proxy, method, ""), 200, "{ends:?}, {method}");
            assert_eq!(count.load(Ordering::SeqCst), 3, "{ends:?}, {method}");
        }
    }
}

/// Once: an origin that refuses again means it.
#[test]
fn a_request_that_is_refused_twice_is_not_asked_a_third_time() {
    let (proxy, count) = met(Ends::RefusesAlso);
    assert_eq!(status(&proxy, "GET", ""), 502);
    assert_eq!(count.load(Ordering::SeqCst), 3);
    assert_eq!(status(&proxy, "GET", ""), 200);
}

/// What came of each request's body, in order, with its stream.
type Bodies = Arc<Mutex<Vec<(u32, Vec<u8>)>>>;

/// A proxy before an origin that has answered one request and does without an answer to the next as `ends` says, at its
/// head or (`late`) once all of it is there; and what came of bodies, by request.
fn hearing(ends: Ends, late: bool) -> (Proxy, Bodies) {
    let bodies = Bodies::default();
    let heard = Arc::clone(&bodies);
    let addr = frames::origin_of(move |asked| {
        let mut bodies = heard.lock().unwrap();
        let (stream, whole) = match asked {
            Asked::Head(stream, whole) => {
                bodies.push((stream, Vec::new()));
                (stream, whole || bodies.len() == 2 && !late)
            }
            Asked::Data(stream, data, whole) => {
                // What the first connection still brings is of another stream.
                bodies.iter_mut().rfind(|body| body.0 == stream).unwrap().1.extend_from_slice(data);
                (stream, whole && (late || bodies.len() != 2))
            }
        };
        whole.then(|| ends.frames(bodies.len(), stream))
    });
    let proxy = proxy().upstream(&format!("h2c://{addr}")).run();
    assert_eq!(proxy.get("/first", "").text(), "hello");
    (proxy, bodies)
}

/// RFC 9113, 8.7: whatever the method, and however much of the body had gone; what came the second time is all of it.
#[test]
fn a_body_that_was_not_begun_is_sent_again_whole() {
    for ends in [Ends::Refuses, Ends::LeavesOut] {
        for late in [false, true] {
            for length in [4, 20_000, 64 * 1024] {
                let body = "x".repeat(length);
                let (proxy, bodies) = hearing(ends, late);
                assert_eq!(status(&proxy, "POST", &body), 200, "{ends:?}, {late}, {length}");
                let bodies = bodies.lock().unwrap();
                assert_eq!(bodies.len(), 3, "{ends:?}, {late}, {length}");
                let again = &bodies[2].1;
                assert!(again == body.as_bytes(), "{ends:?}, {late}: {} of {length}", again.len());
            }
        }
    }
}

/// What is longer than what is kept has gone, and the origin is not to blame.
#[test]
fn a_long_body_that_has_gone_is_not_asked_again() {
    let (proxy, bodies) = hearing(Ends::Refuses, true);
    assert_eq!(status(&proxy, "POST", &"x".repeat(64 * 1024 + 1)), 502);
    assert_eq!(bodies.lock().unwrap().len(), 2);
}

/// The origin may have begun, whatever it did then; whoever asks next gets another connection.
#[test]
fn a_request_that_may_have_been_begun_is_sent_once() {
    for ends in [Ends::TakesAndCloses, Ends::Errs, Ends::Resets, Ends::Closes] {
        let (proxy, count) = met(ends);
        assert_eq!(status(&proxy, "POST", ""), 502, "{ends:?}");
        assert_eq!(count.load(Ordering::SeqCst), 2, "{ends:?}");
        assert_eq!(status(&proxy, "POST", ""), 200, "{ends:?}");
    }
}

/// As over HTTP/1.1: a connection that has served others may be one that the origin had just given up.
#[test]
fn an_idempotent_request_on_a_kept_connection_that_closes_is_asked_again() {
    for (method, wanted) in [("GET", 200), ("HEAD", 200), ("PUT", 200), ("POST", 502)] {
        let (proxy, count) = met(Ends::Closes);
        assert_eq!(status(&proxy, method, ""), wanted, "{method}");
        assert_eq!(count.load(Ordering::SeqCst), if wanted == 200 { 3 } else { 2 }, "{method}");
    }
}
