//! `Expect: 100-continue` (RFC 9110, 10.1.1) and answers that come before the request has ended.

use std::io::Write as _;
use std::net::TcpStream;
use std::sync::Mutex;
use std::sync::mpsc;
use std::time::Duration;

use socket2::SockRef;

use super::case::BEHIND;
use super::recorder::{After, Script};
use super::wire::Heard;
use super::{Subject, optgate};
use crate::support::DEADLINE;
use crate::support::client::Client;
use crate::support::origin::Origin;
use crate::support::proxy::proxy;

const EXPECTING: &str =
    "PUT /case HTTP/1.1\r\nHost: site.test\r\nContent-Length: 4\r\nExpect: 100-continue\r\n\r\n";

/// RFC 9110, 10.1.1: the visitor is asked for its body when the origin asks, and not before.
#[test]
fn the_body_is_asked_for_when_the_origin_asks() {
    let (go, gate) = mpsc::channel::<()>();
    let gate = Mutex::new(gate);
    let origin = Origin::start().on("/case", move |x| {
        assert_eq!(x.request().one("expect").as_deref(), Some("100-continue"));
        gate.lock().unwrap().recv_timeout(DEADLINE).unwrap();
        x.send("HTTP/1.1 100 Continue\r\n\r\n")?;
        x.body()?;
        x.ok("text/plain", b"stored")
    });
    let proxy = proxy().to(&origin).run();
    let mut client = proxy.client();
    client.send(EXPECTING);
    crate::support::wait_until("the head is at the origin", || origin.heads() == 1);
    // Another visitor's whole exchange lies in between, and still nothing was asked for.
    assert_eq!(proxy.get("/other", "").status(), 200);
    go.send(()).unwrap();
    assert_eq!(client.head().status, 100);
    client.send("body");
    assert_eq!(client.response("PUT").text(), "stored");
    assert_eq!(origin.seen(2)[1].body, b"body");
}

/// RFC 9110, 10.1.1: an origin that refuses is not sent the body, and the visitor is not asked for it.
#[test]
fn a_refused_expectation_asks_for_no_body() {
    let (_proxy, subject) = optgate();
    for status in ["401 Unauthorized", "413 Content Too Large", "417 Expectation Failed", "200 OK"] {
        let answer = format!("HTTP/1.1 {status}\r\nContent-Length: 2\r\n\r\nno");
        subject.origin.answer(Some(Script { early: true, ..Script::of(answer) }));
        let mut wire = subject.connect();
        wire.send(EXPECTING);
        let heard = wire.hear(&["PUT"], Heard::whole);
        assert_eq!((heard.interim.len(), heard.answers[0].status), (0, status[..3].parse().unwrap()));
        // What the visitor sends now is no request: this connection is at its end.
        wire.send(BEHIND);
        let heard = wire.hear(&["PUT"], |_| false);
        assert!(heard.closed && heard.answers.len() == 1, "{heard:?}");
        subject.origin.answer(None);
        subject.echoes().unwrap();
        assert!(!subject.origin.requests().iter().any(|r| r.target() == "/smuggled"));
    }
}

/// RFC 9110, 10.1.1: an origin that knows nothing of expectations gets the body all the same, after a wait.
#[test]
fn an_origin_that_says_nothing_gets_the_body() {
    let (_proxy, subject) = optgate();
    let mut wire = subject.connect();
    wire.send(EXPECTING);
    let heard = wire.hear(&["PUT"], |heard| !heard.interim.is_empty());
    assert_eq!(heard.interim, [100]);
    wire.send("body");
    let heard = wire.hear(&["PUT"], Heard::whole);
    assert_eq!((heard.answers[0].status, &subject.origin.requests()[0].body[..]), (200, b"body".as_slice()));
}

/// RFC 9110, 10.1.1: a visitor that does not wait is served too; its body goes on once.
#[test]
fn a_visitor_that_does_not_wait_is_served() {
    let (_proxy, subject) = optgate();
    let mut wire = subject.connect();
    wire.send(format!("{EXPECTING}bodyGET /next HTTP/1.1\r\nHost: site.test\r\n\r\n"));
    let heard = wire.hear(&["PUT"], |heard| heard.answers.iter().filter(|a| a.whole).count() == 2);
    assert_eq!(heard.answers.len(), 2, "{heard:?}");
    let seen = subject.origin.requests();
    assert_eq!((seen[0].body.as_slice(), seen[1].target().as_str()), (b"body".as_slice(), "/next"));
}

/// RFC 9110, 10.1.1 and 15.2: HTTP/1.0 knows neither expectations nor interim answers.
#[test]
fn http_1_0_expects_nothing_and_hears_no_interim_answer() {
    let (_proxy, subject) = optgate();
    let answer =
        "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
    subject.origin.answer(Some(Script::of(answer)));
    let mut wire = subject.connect();
    wire.send(
        "PUT /case HTTP/1.0\r\nHost: site.test\r\nContent-Length: 4\r\nExpect: 100-continue\r\n\r\nbody",
    );
    let heard = wire.hear(&["PUT"], |_| false);
    assert_eq!((heard.interim.len(), heard.answers.len(), heard.answers[0].status), (0, 1, 200));
    assert!(subject.origin.requests()[0].all("expect").is_empty());
}

/// The answer to a body that is still coming ends the exchange; the connection to the origin is not used again.
#[test]
fn an_early_answer_never_shares_its_connection() {
    let (_proxy, subject) = optgate();
    for after in [After::Keep, After::Close] {
        let answer = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nearly";
        subject.origin.answer(Some(Script { after, early: true, ..Script::of(answer) }));
        let mut wire = subject.connect();
        wire.send("POST /case HTTP/1.1\r\nHost: site.test\r\nContent-Length: 100\r\n\r\npart");
        let heard = wire.hear(&["POST"], Heard::whole);
        assert_eq!(heard.answers[0].body, b"early");
        subject.origin.answer(None);
        still_apart(&subject);
        // The rest of the body is nobody's request.
        wire.send(BEHIND);
        still_apart(&subject);
        drop(wire);
        still_apart(&subject);
    }
}

fn still_apart(subject: &Subject) {
    subject.echoes().unwrap();
    assert_eq!(subject.origin.malformed(), []);
    assert!(!subject.origin.requests().iter().any(|r| r.target() == "/smuggled"));
}

/// A visitor that resets its connection while the origin is silent, in front of its answer or in the middle of it, ends
/// the request at the origin too: what nobody waits for holds nothing. (Who ends its sending side only is served.)
#[test]
fn a_visitor_that_resets_while_it_waits_takes_its_request_along() {
    let (begin, begun) = mpsc::channel();
    let (gone, left) = mpsc::channel();
    let (begin, gone) = (Mutex::new(begin), Mutex::new(gone));
    let origin = Origin::start().on("/case", move |x| {
        if x.request().line().contains("begun") {
            x.send("HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\ndata: 1\n\n")?;
        }
        begin.lock().unwrap().send(()).unwrap();
        let _ = x.tunnel();
        gone.lock().unwrap().send(()).unwrap();
        x.cut();
        Ok(())
    });
    let proxy = proxy().to(&origin).run();
    let upgrade = "Connection: Upgrade\r\nUpgrade: websocket\r\n";
    for (query, fields) in [("", ""), ("?begun", ""), ("", upgrade)] {
        let client = TcpStream::connect(proxy.addr()).unwrap();
        (&client)
            .write_all(format!("GET /case{query} HTTP/1.1\r\nHost: site.test\r\n{fields}\r\n").as_bytes())
            .unwrap();
        begun.recv_timeout(DEADLINE).unwrap();
        SockRef::from(&client).set_linger(Some(Duration::ZERO)).unwrap();
        drop(client);
        left.recv_timeout(DEADLINE).unwrap_or_else(|_| panic!("{query} {fields}: the origin still answers"));
    }
    assert_eq!(proxy.get("/next", "").text(), "hello");
}

/// A visitor that leaves in the middle of its body ends the request at the origin too, and nobody else suffers.
#[test]
fn a_visitor_that_leaves_takes_its_request_along() {
    let (gone, left) = mpsc::channel();
    let gone = Mutex::new(gone);
    let origin = Origin::start().on("/case", move |x| {
        let cut = x.body().is_err();
        gone.lock().unwrap().send(cut).unwrap();
        x.cut();
        Ok(())
    });
    let proxy = proxy().to(&origin).run();
    for framing in ["Content-Length: 100\r\n\r\npart", "Transfer-Encoding: chunked\r\n\r\n4\r\npart\r\n"] {
        let mut client: Client = proxy.client();
        client.send(format!("POST /case HTTP/1.1\r\nHost: site.test\r\n{framing}"));
        drop(client);
        assert!(left.recv_timeout(DEADLINE).unwrap(), "the origin took a cut body for a whole one");
        assert_eq!(proxy.get("/next", "").text(), "hello");
    }
}
