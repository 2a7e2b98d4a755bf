//! Several requests on one connection, and what must never become another's (RFC 9112, 9).

use super::case::{BEHIND, Case, Want, chunked, forward, get, post, refuse, seen};

const PIPE: &str = "RFC 9112, 9.3.2";

pub fn cases() -> Vec<Case> {
    let a = "GET /a HTTP/1.1\r\nHost: site.test\r\n\r\n";
    let b = "GET /b HTTP/1.1\r\nHost: site.test\r\n\r\n";
    let close = "GET /a HTTP/1.1\r\nHost: site.test\r\nConnection: close\r\n\r\n";
    vec![
        forward("two requests in one piece", PIPE, format!("{a}{b}"), [seen("GET /a"), seen("GET /b")]),
        forward("ten requests in one piece", PIPE, a.repeat(10), (0..10).map(|_| seen("GET /a"))),
        forward("a body between two requests", PIPE, [a.as_bytes(), &post("Content-Length: 4\r\n", "body"), b.as_bytes()].concat(), [
            seen("GET /a"),
            seen("POST /case").body("body"),
            seen("GET /b"),
        ]),
        forward("chunks between two requests", PIPE, [a.as_bytes(), &chunked("4\r\nbody\r\n0\r\n\r\n"), b.as_bytes()].concat(), [
            seen("GET /a"),
            seen("POST /case").body("body"),
            seen("GET /b"),
        ]),
        forward("nothing behind Connection: close is read", "RFC 9112, 9.6", format!("{close}{BEHIND}"), [seen("GET /a")]),
        forward("an empty line between two requests is passed over", "RFC 9112, 2.2", format!("{a}\r\n{b}"), [seen("GET /a"), seen("GET /b")]).should(),
        forward("nothing behind HTTP/1.0 without keep-alive is read", "RFC 9112, 9.3", "GET /a HTTP/1.0\r\nHost: site.test\r\n\r\nGET /smuggled HTTP/1.0\r\nHost: site.test\r\n\r\n", [seen("GET /a")]),
        forward("HTTP/1.0 with keep-alive goes on", "RFC 9112, C.2.2", "GET /a HTTP/1.0\r\nHost: site.test\r\nConnection: keep-alive\r\n\r\nGET /b HTTP/1.0\r\nHost: site.test\r\nConnection: keep-alive\r\n\r\n", [seen("GET /a"), seen("GET /b")]).should(),
        forward("a GET with a body leaves nothing behind (CL.0)", "RFC 9112, 6.3", format!("GET /a HTTP/1.1\r\nHost: site.test\r\nContent-Length: {}\r\n\r\n{b}", b.len()), [seen("GET /a").body(b)]),
        forward("a HEAD with a body leaves nothing behind", "RFC 9112, 6.3", "HEAD /a HTTP/1.1\r\nHost: site.test\r\nContent-Length: 4\r\n\r\nbody", [seen("HEAD /a").body("body")]),
        forward("a request behind half a close is answered", "RFC 9112, 9.6", get(""), [seen("GET /case")]).half_close(),
        refuse("a good request, then garbage", PIPE, format!("{a}\x01\x02\x03\r\n\r\n")).want(Want::ThenRefused(vec![seen("GET /a")])),
        refuse("a good request, then one that is ambiguous", PIPE, format!("{a}POST /b HTTP/1.1\r\nHost: site.test\r\nContent-Length: 1, 2\r\n\r\n")).want(Want::ThenRefused(vec![seen("GET /a")])),
        refuse("a body, then a line that ends with LF only", PIPE, [&post("Content-Length: 4\r\n", "body")[..], b"GET /b HTTP/1.1\nHost: site.test\n\n"].concat())
            .want(Want::ThenRefused(vec![seen("POST /case").body("body")]))
            .should(),
    ]
}
