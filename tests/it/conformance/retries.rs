//! What is sent again, and what never is (RFC 9110, 9.2.2; RFC 9112, 9.3.1).

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::support::origin::Origin;
use crate::support::proxy::proxy;
use crate::support::{DEADLINE, wait_until};

/// Where an origin closes.
#[derive(Debug, Clone, Copy)]
enum Closes {
    BeforeTheBody,
    AfterTheBody,
    InTheHead,
    InTheBody,
}

/// An origin that closes at one point of the first request to `/case`, and serves the next.
fn origin(closes: Closes) -> (Origin, Arc<AtomicUsize>) {
    let count = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&count);
    let origin = Origin::start().on("/case", move |x| {
        if counted.fetch_add(1, Ordering::SeqCst) > 0 {
            x.body()?;
            return x.ok("text/plain", b"second");
        }
        match closes {
            Closes::BeforeTheBody => {}
            Closes::AfterTheBody => drop(x.body()?),
            Closes::InTheHead => {
                x.body()?;
                x.send("HTTP/1.1 200 OK\r\nContent-Le")?;
            }
            Closes::InTheBody => {
                x.body()?;
                x.send("HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 9\r\n\r\nhalf")?;
            }
        }
        x.cut();
        Ok(())
    });
    (origin, count)
}

const POINTS: [Closes; 4] =
    [Closes::BeforeTheBody, Closes::AfterTheBody, Closes::InTheHead, Closes::InTheBody];

/// A request that may have had an effect is sent once, wherever the origin closes, on a fresh connection or a kept one.
#[test]
fn a_request_that_is_not_idempotent_is_sent_once() {
    for closes in POINTS {
        for (kept, method) in [(false, "POST"), (true, "POST"), (true, "PATCH"), (true, "PUT")] {
            let (origin, count) = origin(closes);
            let proxy = proxy().to(&origin).run();
            if kept {
                assert_eq!(proxy.get("/first", "").status(), 200);
            }
            let mut client = proxy.client();
            client
                .send(format!("{method} /case HTTP/1.1\r\nHost: site.test\r\nContent-Length: 4\r\n\r\nbody"));
            let head = client.final_head();
            let cut = matches!(closes, Closes::InTheBody);
            assert_eq!(head.status, if cut { 200 } else { 502 }, "{method}, {closes:?}");
            drop(client);
            assert_eq!(proxy.get("/next", "").text(), "hello");
            assert_eq!(count.load(Ordering::SeqCst), 1, "{method}, {closes:?}, kept {kept}");
        }
    }
}

/// An idempotent request whose kept connection the origin gives up without a word is asked again, once, however
/// lately that connection was used: the close may have crossed the request on its way. It comes as it came before.
#[test]
fn an_idempotent_request_on_a_kept_connection_that_closes_is_asked_again() {
    for closes in [Closes::BeforeTheBody, Closes::AfterTheBody] {
        for method in ["GET", "HEAD", "DELETE", "OPTIONS", "PUT"] {
            let (origin, count) = origin(closes);
            let proxy = proxy().to(&origin).run();
            assert_eq!(proxy.get("/first", "").status(), 200);
            let mut client = proxy.client();
            let length = if method == "PUT" { "Content-Length: 0\r\n" } else { "" };
            client.send(
                [
                    format!("{method} /case?q=%20a&b=%C3%A9 HTTP/1.1\r\nHost: site.test\r\n{length}").as_bytes(),
                    b"Cookie: a=1; b=2\r\nX-Twice: one\r\nX-Twice: two\r\nX-Empty:\r\nX-Text: \xe9 : \xff\r\n\r\n",
                ]
                .concat(),
            );
            assert_eq!(client.response(method).status(), 200, "{method}");
            assert_eq!((count.load(Ordering::SeqCst), origin.connections()), (2, 2), "{method}");
            let asked = origin.seen(3);
            assert!(asked[1].head.windows(7).any(|part| part == b"\xe9 : \xff\r\n"), "{}", asked[1].text());
            assert!(asked[1].head == asked[2].head, "{}{}", asked[1].text(), asked[2].text());
        }
    }
}

/// Once: what ends a connection twice would end a third.
#[test]
fn an_idempotent_request_is_not_asked_a_third_time() {
    let origin = Origin::start().on("/case", |x| {
        x.body()?;
        x.cut();
        Ok(())
    });
    let proxy = proxy().to(&origin).run();
    assert_eq!(proxy.get("/first", "").status(), 200);
    assert_eq!(proxy.get("/case", "").status(), 502);
    assert_eq!(origin.seen(3).len(), 3);
}

/// Of an answer whose head has begun, something has been heard.
#[test]
fn a_head_that_has_begun_is_not_asked_for_again() {
    let (origin, count) = origin(Closes::InTheHead);
    let proxy = proxy().to(&origin).run();
    assert_eq!(proxy.get("/first", "").status(), 200);
    assert_eq!(proxy.get("/case", "").status(), 502);
    assert_eq!(count.load(Ordering::SeqCst), 1);
}

/// On a fresh connection the origin has read the request: it is not asked again.
#[test]
fn a_fresh_connection_is_never_retried() {
    let (origin, count) = origin(Closes::AfterTheBody);
    let proxy = proxy().to(&origin).run();
    assert_eq!(proxy.get("/case", "").status(), 502);
    assert_eq!(count.load(Ordering::SeqCst), 1);
}

/// An answer that has begun is never begun again.
#[test]
fn an_answer_that_has_begun_is_not_asked_for_again() {
    let (origin, count) = origin(Closes::InTheBody);
    let proxy = proxy().to(&origin).run();
    assert_eq!(proxy.get("/first", "").status(), 200);
    let mut client = proxy.client();
    client.send("GET /case HTTP/1.1\r\nHost: site.test\r\n\r\n");
    assert_eq!(client.final_head().status, 200);
    assert_eq!(client.rest(), b"half");
    assert_eq!(count.load(Ordering::SeqCst), 1);
}

/// A kept connection that the origin closed while it was idle costs nobody a request, not even a `POST`.
#[test]
fn a_connection_closed_while_idle_is_not_used() {
    let origin = Origin::start().on("/last", |x| {
        x.body()?;
        x.ok("text/plain", b"last")?;
        x.cut();
        Ok(())
    });
    let proxy = proxy().to(&origin).run();
    for round in 1..=10 {
        assert_eq!(proxy.get("/last", "").text(), "last");
        let mut client = proxy.client();
        client.send("POST /post HTTP/1.1\r\nHost: site.test\r\nContent-Length: 4\r\n\r\nbody");
        assert_eq!(client.response("POST").text(), "hello", "round {round}");
    }
}

/// The same when the origin gives the connection up long after its answer, as every origin does in the end: that
/// is seen only when the connection is used, and the request must then not wait in it for an answer.
#[test]
fn a_connection_closed_long_after_its_answer_is_not_used() {
    let (tell, told) = std::sync::mpsc::channel::<()>();
    let told = std::sync::Mutex::new(told);
    let origin = Origin::start().on("/last", move |x| {
        x.body()?;
        x.ok("text/plain", b"last")?;
        let _ = told.lock().unwrap().recv_timeout(DEADLINE);
        x.cut();
        Ok(())
    });
    let proxy = proxy().to(&origin).run();
    for method in ["POST", "GET"] {
        assert_eq!(proxy.get("/last", "").text(), "last");
        tell.send(()).unwrap();
        let closed_at = std::time::Instant::now();
        wait_until("the end has arrived", || closed_at.elapsed().as_millis() > 300);
        let mut client = proxy.client();
        client.send(format!("{method} /next HTTP/1.1\r\nHost: site.test\r\nContent-Length: 4\r\n\r\nbody"));
        assert_eq!(client.response(method).text(), "hello", "{method}");
    }
}
