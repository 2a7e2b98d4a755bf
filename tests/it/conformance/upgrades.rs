//! Changing the protocol (RFC 9110, 7.8): only to what was asked for, and nothing passes before the origin agrees.

use super::case::BEHIND;
use super::recorder::Script;
use super::{Subject, optgate};

const ASK: &str = "GET /case HTTP/1.1\r\nHost: site.test\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
    Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n";

/// Asks for an upgrade with `bytes`; the statuses that come back.
fn ask(subject: &Subject, bytes: impl AsRef<[u8]>) -> Vec<u16> {
    let mut wire = subject.connect();
    wire.send(bytes);
    wire.finish();
    let heard = wire.hear(&["GET", "GET"], |heard| heard.answers.len() > 1);
    subject.origin.answer(None);
    subject.echoes().unwrap();
    heard.answers.iter().map(|answer| answer.status).collect()
}

/// CVE-2024-23326 and CVE-2026-2833: any answer but 101 leaves the connection one of HTTP, and bytes behind the
/// request are a request like any other: never bytes of a tunnel.
#[test]
fn an_answer_that_is_no_101_opens_no_tunnel() {
    let (_proxy, subject) = optgate();
    for status in
        ["200 OK", "204 No Content", "400 Bad Request", "426 Upgrade Required", "500 Internal Server Error"]
    {
        let answer = format!("HTTP/1.1 {status}\r\nContent-Length: 0\r\n\r\n")
            .replace("204 No Content\r\nContent-Length: 0", "204 No Content");
        subject.origin.answer(Some(Script::of(answer)));
        let before = subject.origin.mark();
        let statuses = ask(&subject, format!("{ASK}GET /behind HTTP/1.1\r\nHost: site.test\r\n\r\n"));
        assert_eq!(statuses[0], status[..3].parse::<u16>().unwrap());
        let seen = subject.origin.since(before);
        assert!(seen[0].body.is_empty() && seen[0].target() == "/case", "{seen:?}");
        // A request behind it is answered as a request, on a connection of its own, or not at all.
        assert!(seen.iter().filter(|r| r.target() == "/behind").all(|r| r.connection != seen[0].connection));
        assert_eq!(subject.origin.malformed(), []);
    }
}

/// RFC 9110, 15.2.2: a switch to something else, or unasked, is a bad gateway.
#[test]
fn a_switch_that_was_not_asked_for_is_a_bad_gateway() {
    let (_proxy, subject) = optgate();
    let plain = "GET /case HTTP/1.1\r\nHost: site.test\r\n\r\n";
    let h2c = "GET /case HTTP/1.1\r\nHost: site.test\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n";
    for (case, request, answer) in [
        (
            "unasked",
            plain,
            "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\nevil",
        ),
        (
            "h2c was not passed on",
            h2c,
            "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\nevil",
        ),
        (
            "another protocol",
            ASK,
            "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: foo\r\n\r\nevil",
        ),
        ("no protocol", ASK, "HTTP/1.1 101 Switching Protocols\r\n\r\nevil"),
        ("bare LF", ASK, "HTTP/1.1 101 Switching Protocols\nConnection: Upgrade\nUpgrade: websocket\n\nevil"),
    ] {
        subject.origin.answer(Some(Script::of(answer)));
        assert_eq!(ask(&subject, request), [502], "{case}");
    }
}

/// CVE-2026-58055: an upgrade request with a body is a request with a body, and asks for no upgrade.
#[test]
fn an_upgrade_with_a_body_is_no_upgrade() {
    let (_proxy, subject) = optgate();
    for (framing, body) in
        [("Content-Length: 4\r\n", "body"), ("Transfer-Encoding: chunked\r\n", "4\r\nbody\r\n0\r\n\r\n")]
    {
        let before = subject.origin.mark();
        let request = ASK.replacen("Upgrade: websocket\r\n", &format!("Upgrade: websocket\r\n{framing}"), 1);
        assert_eq!(ask(&subject, format!("{request}{body}")), [200]);
        let seen = subject.origin.since(before);
        assert_eq!((seen[0].body.as_slice(), seen[0].all("upgrade").len()), (b"body".as_slice(), 0));
    }
}

/// RFC 9110, 7.8: HTTP/1.0 and other methods ask for no upgrade.
#[test]
fn an_upgrade_is_a_get_of_http_1_1() {
    let (_proxy, subject) = optgate();
    for request in
        [ASK.replace("HTTP/1.1", "HTTP/1.0"), ASK.replace("GET", "POST"), ASK.replace("GET", "HEAD")]
    {
        let before = subject.origin.mark();
        assert_eq!(ask(&subject, &request)[0], 200);
        let seen = subject.origin.since(before);
        assert!(seen[0].all("upgrade").is_empty() && seen[0].all("connection").is_empty(), "{request}");
    }
}

/// What stands behind a refused upgrade is read strictly, like any request.
#[test]
fn what_stands_behind_a_refused_upgrade_is_read_strictly() {
    let (_proxy, subject) = optgate();
    subject.origin.answer(Some(Script::of("HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")));
    let statuses = ask(&subject, format!("{ASK}GET /x HTTP/1.1\nHost: site.test\n\n{BEHIND}"));
    assert_eq!(statuses, [400, 400]);
    assert!(!subject.origin.requests().iter().any(|r| r.target() == "/smuggled"));
}

/// RFC 9110, 7.8: after the 101 bytes pass in both directions, those sent early too.
#[test]
fn after_the_switch_bytes_pass_unread() {
    let (_proxy, subject) = optgate();
    subject.origin.answer(Some(Script::of(
        "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: WebSocket\r\nKeep-Alive: x\r\nContent-Length: 9\r\n\r\nhi\n\0",
    )));
    let mut wire = subject.connect();
    wire.send(format!("{ASK}\x01\n\0"));
    let heard = wire.hear(&["GET"], |heard| heard.rest.len() == 4);
    let answer = &heard.answers[0];
    assert_eq!((answer.status, heard.rest.as_slice()), (101, b"hi\n\0".as_slice()));
    assert_eq!(answer.all("upgrade").len() + answer.all("connection").len(), 2);
    assert!(answer.all("content-length").is_empty() && answer.all("keep-alive").is_empty());
    // The recorder reads what came as HTTP, and finds that it is none.
    crate::support::wait_until("the tunnel's bytes are at the origin", || {
        !subject.origin.malformed().is_empty()
    });
    assert_eq!(subject.origin.malformed()[0].1, b"\x01\n\0");
    subject.origin.answer(None);
    subject.echoes().unwrap();
}
