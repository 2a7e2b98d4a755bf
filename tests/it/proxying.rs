//! Messages pass the proxy as HTTP says: framing, methods, statuses, connections.

use std::io::Write as _;
use std::sync::mpsc;

use super::support::DEADLINE;
use super::support::h2::H2;
use super::support::origin::Origin;
use super::support::proxy::proxy;

/// Performance: an origin connection is kept and used again.
#[test]
fn requests_reuse_one_connection_to_the_origin() {
    let origin = Origin::start();
    let proxy = proxy().to(&origin).run();
    let mut client = proxy.client();
    for i in 0..5 {
        let answer = client.get(&format!("/{i}"), "");
        assert_eq!((answer.status(), answer.text().as_str()), (200, "hello"));
    }
    assert_eq!(origin.seen(5).len(), 5);
    assert_eq!(origin.connections(), 1);
}

/// RFC 9112, 9.3.2: answers to pipelined requests come in order.
#[test]
fn pipelined_requests_are_answered_in_order() {
    let origin = Origin::start()
        .on("/a", |x| x.ok("text/plain", b"first"))
        .on("/b", |x| x.ok("text/plain", b"second"));
    let proxy = proxy().to(&origin).run();
    let mut client = proxy.client();
    client.send("GET /a HTTP/1.1\r\nHost: site.test\r\n\r\nGET /b HTTP/1.1\r\nHost: site.test\r\n\r\n");
    assert_eq!(client.response("GET").text(), "first");
    assert_eq!(client.response("GET").text(), "second");
}

/// The request arrives as it was sent: method, target byte by byte, own fields, body.
#[test]
fn method_target_fields_and_body_arrive_unchanged() {
    let origin = Origin::start();
    let proxy = proxy().to(&origin).run();
    let mut client = proxy.client();
    client.send(
        "PATCH /a//b/%2e%2E/c;d?q=%20x&y=[1]&&=z HTTP/1.1\r\nHost: site.test\r\nX-One: 1\r\nX-Two: a,  b\r\n\
         Content-Type: application/json\r\nContent-Length: 7\r\n\r\n{\"a\":1}",
    );
    assert_eq!(client.response("PATCH").status(), 200);
    let seen = origin.first();
    assert_eq!(seen.line(), "PATCH /a//b/%2e%2E/c;d?q=%20x&y=[1]&&=z HTTP/1.1");
    assert_eq!(seen.one("host").as_deref(), Some("site.test"));
    assert_eq!(seen.one("x-one").as_deref(), Some("1"));
    assert_eq!(seen.one("x-two").as_deref(), Some("a,  b"));
    assert_eq!(seen.one("content-type").as_deref(), Some("application/json"));
    assert_eq!(seen.body, b"{\"a\":1}");
}

/// The answer arrives as it was sent; nothing is added to the body of what is not HTML.
#[test]
fn an_answer_that_is_not_html_arrives_unchanged() {
    let body = b"<html><body>&copy; \xff\0 not html</body>";
    let mut answer = format!(
        "HTTP/1.1 206 Partial Content\r\nContent-Type: image/png\r\nETag: \"abc\"\r\nContent-Range: bytes 0-9/100\r\n\
         Set-Cookie: session=1; Path=/\r\nSet-Cookie: theme=dark\r\nContent-Length: {}\r\n\r\n",
        body.len()
    )
    .into_bytes();
    answer.extend_from_slice(body);
    let origin = Origin::start().answers("/image", answer);
    let proxy = proxy().to(&origin).run();
    for fields in ["", "Sec-GPC: 1\r\n"] {
        let answer = proxy.get("/image", fields);
        assert_eq!(answer.status(), 206);
        assert_eq!(answer.body, body);
        assert_eq!(answer.head.one("etag"), Some("\"abc\""));
        assert_eq!(answer.head.one("content-range"), Some("bytes 0-9/100"));
        assert_eq!(answer.head.one("content-length"), Some(body.len().to_string().as_str()));
        assert_eq!(answer.head.all("set-cookie"), ["session=1; Path=/", "theme=dark"]);
    }
}

/// RFC 9110, 9.3.2: HEAD is answered without a body, and the connection goes on.
#[test]
fn a_head_request_gets_a_head_and_the_connection_goes_on() {
    let origin = Origin::start()
        .answers("/page", "HTTP/1.1 200 OK\r\nContent-Type: image/png\r\nContent-Length: 12345\r\n\r\n");
    let proxy = proxy().to(&origin).run();
    let mut client = proxy.client();
    client.send("HEAD /page HTTP/1.1\r\nHost: site.test\r\n\r\n");
    let head = client.response("HEAD").head;
    assert_eq!((head.status, head.one("content-length")), (200, Some("12345")));
    assert_eq!(client.get("/next", "").text(), "hello");
}

/// RFC 9110, 9.3.2: HEAD of a page has the fields of its GET (those of a rewritten page).
#[test]
fn head_of_a_page_has_the_fields_of_its_get() {
    let origin =
        Origin::start().on("/", |x| x.ok("text/html", b"<!doctype html><title>x</title><body>hi</body>"));
    let proxy = proxy().to(&origin).run();
    for signal in ["", "Sec-GPC: 1\r\n"] {
        let mut client = proxy.client();
        client.send(format!("HEAD / HTTP/1.1\r\nHost: site.test\r\nAccept: text/html\r\n{signal}\r\n"));
        let head = client.response("HEAD").head;
        let get = client.get("/", &format!("Accept: text/html\r\n{signal}")).head;
        for name in ["content-type", "etag", "vary", "cache-control", "last-modified", "accept-ranges"] {
            assert_eq!(head.all(name), get.all(name), "{name} with {signal:?}");
        }
        assert!(head.one("content-length").is_none_or(|length| Some(length) == get.one("content-length")));
    }
}

/// RFC 9110, 15.3.5 and 15.4.5: 204 and 304 have no body; a 304 keeps its validators.
#[test]
fn answers_without_a_body_keep_the_connection() {
    let origin = Origin::start()
        .answers("/204", "HTTP/1.1 204 No Content\r\nX-Mark: a\r\n\r\n")
        .answers("/304", "HTTP/1.1 304 Not Modified\r\nETag: \"v1\"\r\nCache-Control: max-age=60\r\n\r\n");
    let proxy = proxy().to(&origin).run();
    let mut client = proxy.client();
    let empty = client.get("/204", "").head;
    assert_eq!((empty.status, empty.one("x-mark"), empty.one("content-length")), (204, Some("a"), None));
    assert_eq!(empty.one("transfer-encoding"), None);
    let fresh = client.get("/304", "Sec-Fetch-Dest: image\r\nIf-None-Match: \"v1\"\r\n").head;
    assert_eq!(
        (fresh.status, fresh.one("etag"), fresh.one("cache-control")),
        (304, Some("\"v1\""), Some("max-age=60"))
    );
    assert_eq!(client.get("/next", "").text(), "hello");
}

/// RFC 9110, 10.1.1: a client that waits for 100 gets it before it sends the body.
#[test]
fn an_expectation_is_answered_before_the_body_is_sent() {
    let origin = Origin::start();
    let proxy = proxy().to(&origin).run();
    let mut client = proxy.client();
    client.send("PUT /file HTTP/1.1\r\nHost: site.test\r\nContent-Length: 4\r\nExpect: 100-continue\r\n\r\n");
    assert_eq!(client.head().status, 100);
    client.send("data");
    assert_eq!(client.response("PUT").status(), 200);
    assert_eq!(origin.first().body, b"data");
}

/// RFC 9110, 9.2.2: a request is sent to the origin once, whatever becomes of the answer.
#[test]
fn a_post_is_never_sent_twice() {
    let origin = Origin::start().on("/order", |x| {
        x.body()?;
        x.cut();
        Ok(())
    });
    let proxy = proxy().to(&origin).run();
    let mut client = proxy.client();
    client.send("POST /order HTTP/1.1\r\nHost: site.test\r\nContent-Length: 3\r\n\r\none");
    assert_eq!(client.response("POST").status(), 502);
    assert_eq!(proxy.get("/next", "").status(), 200);
    assert_eq!(origin.seen(2).iter().filter(|seen| seen.line().starts_with("POST")).count(), 1);
}

/// An origin may refuse a body before it has read it; its answer counts. RFC 9112, 9.6: whoever sends the rest learns that
/// it goes nowhere.
#[test]
fn an_early_final_answer_reaches_the_client() {
    let origin = Origin::start().on("/upload", |x| {
        x.send("HTTP/1.1 413 Content Too Large\r\nContent-Length: 4\r\nConnection: close\r\n\r\nbig!")?;
        x.cut();
        Ok(())
    });
    let proxy = proxy().to(&origin).run();
    let mut client = proxy.client();
    client.send("POST /upload HTTP/1.1\r\nHost: site.test\r\nContent-Length: 1000000\r\n\r\npart");
    let answer = client.response("POST");
    assert_eq!((answer.status(), answer.text().as_str()), (413, "big!"));
    assert_eq!(answer.head.one("connection"), Some("close"));
    assert_eq!(proxy.get("/next", "").status(), 200, "the proxy goes on");
}

/// RFC 9112, 9.6: the rest of an upload that nobody reads any more must not take from the client what it has not read of
/// a long answer.
#[test]
fn a_long_early_answer_reaches_a_client_that_goes_on_sending() {
    // More than a client that does not read takes in, and less than the system holds for it.
    const ANSWER: usize = 500_000;
    let (leave, left) = mpsc::channel::<()>();
    let left = std::sync::Mutex::new(left);
    let origin = Origin::start().on("/upload", move |x| {
        x.send(format!("HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: {ANSWER}\r\n\r\n"))?;
        x.send(vec![b'z'; ANSWER])?;
        // It reads nothing, and would reset its own answer if it closed.
        let _ = left.lock().unwrap().recv_timeout(DEADLINE);
        Ok(())
    });
    let proxy = proxy().to(&origin).run();
    let mut client = proxy.client();
    client.send("POST /upload HTTP/1.1\r\nHost: site.test\r\nContent-Length: 20000000\r\n\r\n");
    let mut writer = client.writer();
    // It is of no account whether all of it can be sent.
    let _ = writer.write_all(&vec![b'u'; 20_000_000]);
    let answer = client.response("POST");
    drop(leave);
    assert_eq!((answer.status(), answer.body.len()), (200, ANSWER));
}

/// RFC 9112, 9.3 and 9.6: a body that has come whole, read or not, ends no connection, nor does a next request behind it
/// of which only a part has come.
#[test]
fn an_answer_to_a_body_that_is_there_ends_no_connection() {
    let origin = Origin::start().on("/unread", |x| {
        x.send("HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 5\r\n\r\nearly")?;
        x.body()?;
        Ok(())
    });
    let proxy = proxy().to(&origin).run();
    let mut client = proxy.client();
    let post =
        |body: &str| format!("POST /unread HTTP/1.1\r\nHost: site.test\r\nContent-Length: 4\r\n\r\n{body}");
    client.send(format!("{}{}", post("body"), post("bo")));
    let first = client.response("POST");
    assert_eq!((first.text().as_str(), first.head.one("connection")), ("early", None));
    client.send("dy");
    assert_eq!(client.response("POST").text(), "early");
}

/// Interim answers of the origin are not taken for the final one.
#[test]
fn interim_answers_are_not_taken_for_the_final_one() {
    let origin = Origin::start().answers(
        "/hints",
        "HTTP/1.1 103 Early Hints\r\nLink: <https://static.criteo.net/x.js>; rel=preload\r\n\r\n\
         HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 4\r\n\r\ndone",
    );
    let proxy = proxy().to(&origin).run();
    let mut client = proxy.client();
    client.send("GET /hints HTTP/1.1\r\nHost: site.test\r\nSec-GPC: 1\r\n\r\n");
    let hint = client.head();
    assert_eq!((hint.status, hint.fields.len()), (103, 0), "no hint of a tracker comes first");
    let head = client.head();
    assert_eq!(head.status, 200);
    assert_eq!(client.body(&head, "GET").0, b"done");
}

/// RFC 9112, 6.3: a body that ends with the connection arrives whole and is framed anew.
#[test]
fn a_body_without_a_length_arrives_whole() {
    let origin = Origin::start().on("/old", |x| {
        x.send("HTTP/1.0 200 OK\r\nContent-Type: text/plain\r\n\r\nuntil the end")?;
        x.cut();
        Ok(())
    });
    let proxy = proxy().to(&origin).run();
    let mut client = proxy.client();
    assert_eq!(client.get("/old", "").text(), "until the end");
    assert_eq!(client.get("/next", "").text(), "hello", "the client's connection goes on");
}

/// RFC 9112, 9.3: an HTTP/1.0 client gets a body that it can read, and no chunks.
#[test]
fn an_http_1_0_client_gets_no_chunks() {
    let origin = Origin::start().on("/chunks", |x| {
        x.send("HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nTransfer-Encoding: chunked\r\n\r\n")?;
        x.chunk(b"one ")?;
        x.chunk(b"two")?;
        x.send("0\r\n\r\n")
    });
    let proxy = proxy().to(&origin).run();
    let mut client = proxy.client();
    client.send("GET /chunks HTTP/1.0\r\nHost: site.test\r\nConnection: keep-alive\r\n\r\n");
    let answer = client.response("GET");
    assert_eq!(answer.head.one("transfer-encoding"), None);
    assert_eq!(answer.head.one("connection"), Some("close"), "the connection's end is the body's");
    assert_eq!(answer.text(), "one two");
}

/// RFC 9110, 7.4: a request for an https address has not come as one.
#[test]
fn a_target_for_https_on_a_connection_in_clear_is_misdirected() {
    let origin = Origin::start();
    let proxy = proxy().to(&origin).run();
    let mut client = proxy.client();
    client.send("GET https://site.test/ HTTP/1.1\r\nHost: site.test\r\n\r\n");
    assert_eq!(client.response("GET").status(), 421);
    assert_eq!(H2::prior_knowledge(proxy.addr()).get("https://site.test/").status, 421);
    assert_eq!(origin.heads(), 0);
    assert_eq!(client.get("/", "").status(), 200, "the connection is good");
}

/// RFC 9110, 8.6: an answer without content has no length, whatever the origin says and however it was asked for.
#[test]
fn an_answer_without_content_has_no_length() {
    let origin =
        Origin::start().on("/none", |x| x.send("HTTP/1.1 204 No Content\r\nContent-Length: 5\r\n\r\n"));
    let proxy = proxy().to(&origin).run();
    for method in ["GET", "HEAD"] {
        let mut client = proxy.client();
        client.send(format!("{method} /none HTTP/1.1\r\nHost: site.test\r\n\r\n"));
        let head = client.head();
        assert_eq!((head.status, head.one("content-length")), (204, None), "{method}");
    }
    let answer = H2::prior_knowledge(proxy.addr()).get("http://site.test/none");
    assert_eq!((answer.status, answer.headers.get("content-length")), (204, None));
}

/// RFC 9110, 6.5: trailers pass in both directions when both sides know of them.
#[test]
fn trailers_pass_in_both_directions() {
    let origin = Origin::start().on("/sum", |x| {
        x.body()?;
        x.send(
            "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nTrailer: X-Sum\r\nTransfer-Encoding: chunked\r\n\r\n\
             2\r\nok\r\n0\r\nX-Sum: 42\r\n\r\n",
        )
    });
    let proxy = proxy().to(&origin).run();
    let mut client = proxy.client();
    client.send(
        "POST /sum HTTP/1.1\r\nHost: site.test\r\nTE: trailers\r\nTrailer: X-Check\r\nTransfer-Encoding: chunked\r\n\r\n\
         4\r\nbody\r\n0\r\nX-Check: 7\r\n\r\n",
    );
    let answer = client.response("POST");
    assert_eq!(answer.text(), "ok");
    assert_eq!(answer.trailers, [("X-Sum".to_owned(), "42".to_owned())].map(|(n, v)| (n.to_lowercase(), v)));
    let seen = origin.first();
    assert_eq!(seen.body, b"body");
    assert_eq!(String::from_utf8_lossy(&seen.trailers).to_lowercase(), "x-check: 7\r\n");
}

/// RFC 6455, 4: a WebSocket hand-shake passes, and then bytes in both directions.
#[test]
fn an_upgrade_becomes_a_tunnel() {
    let origin = Origin::start().on("/socket", |x| {
        x.send("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: k\r\n\r\nhi")?;
        loop {
            let bytes = x.tunnel()?;
            if bytes.is_empty() {
                x.cut();
                return Ok(());
            }
            x.send(bytes.to_ascii_uppercase())?;
        }
    });
    let proxy = proxy().to(&origin).run();
    let mut client = proxy.client();
    client.send(
        "GET /socket HTTP/1.1\r\nHost: site.test\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Key: x\r\nSec-WebSocket-Version: 13\r\n\r\n",
    );
    let head = client.head();
    assert_eq!(head.status, 101);
    assert_eq!(head.one("upgrade").map(str::to_lowercase).as_deref(), Some("websocket"));
    assert_eq!(head.one("sec-websocket-accept"), Some("k"));
    assert_eq!(client.take(2), b"hi");
    for word in ["ping", "pong"] {
        client.send(word);
        assert_eq!(client.take(4), word.to_uppercase().as_bytes());
    }
    client.finish();
    assert_eq!(client.rest(), b"");
    let seen = origin.first();
    assert_eq!(seen.one("upgrade").map(|v| v.to_lowercase()).as_deref(), Some("websocket"));
    assert_eq!(seen.one("connection").map(|v| v.to_lowercase()).as_deref(), Some("upgrade"));
    assert_eq!(seen.one("sec-websocket-key").as_deref(), Some("x"));
}

/// CVE-2026-2833's lesson: no byte behind an upgrade request goes to the origin before its 101.
#[test]
fn an_upgrade_that_is_refused_leaves_no_tunnel() {
    let origin = Origin::start();
    let proxy = proxy().to(&origin).run();
    let mut client = proxy.client();
    client.send(
        "GET /no HTTP/1.1\r\nHost: site.test\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n\
         GET /smuggled HTTP/1.1\r\nHost: site.test\r\n\r\n",
    );
    assert_eq!(client.response("GET").text(), "hello");
    let seen = origin.first();
    assert!(!seen.text().contains("smuggled"), "{}", seen.text());
    assert!(seen.body.is_empty());
}

/// A 101 that nobody asked for is a broken origin.
#[test]
fn a_101_nobody_asked_for_is_a_bad_gateway() {
    let origin = Origin::start().answers(
        "/",
        "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: other\r\n\r\nbytes",
    );
    let proxy = proxy().to(&origin).run();
    assert_eq!(proxy.get("/", "").status(), 502);
}

/// What one visitor left unread is never another's answer.
#[test]
fn an_answer_that_was_left_half_way_is_nobody_elses() {
    let (leave, left) = mpsc::channel::<()>();
    let left = std::sync::Mutex::new(left);
    let origin = Origin::start()
        .on("/slow", move |x| {
            x.send("HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 8\r\n\r\nhalf")?;
            let _ = left.lock().unwrap().recv_timeout(DEADLINE);
            x.send("HTTP")
        })
        .on("/mine", |x| x.ok("text/plain", b"mine"));
    let proxy = proxy().to(&origin).run();
    let mut leaving = proxy.client();
    leaving.send("GET /slow HTTP/1.1\r\nHost: site.test\r\n\r\n");
    leaving.final_head();
    assert_eq!(leaving.take(4), b"half");
    drop(leaving);
    leave.send(()).unwrap();
    for _ in 0..3 {
        assert_eq!(proxy.get("/mine", "").text(), "mine");
    }
}
