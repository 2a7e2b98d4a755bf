//! HTTP/2 requests become HTTP/1.1 requests without injection (RFC 9113, 8): frame by frame.

use super::case::{Level, Seen, seen};
use super::frames::{Outcome, ask, outcome, request, tunnel};
use super::recorder::Script;
use super::wire::Wire;
use super::{Subject, Verdict, assert_none, lines, optgate, optgate_with_tls};
use crate::support::frames::{
    DATA, END_HEADERS, END_STREAM, Field, HEADERS, PADDED, PING, PREFACE, PRIORITY, SETTINGS, WINDOW_UPDATE,
    frame, hello, section,
};
use crate::support::h2::{Frames, H2};

const GET: [Field<'static>; 4] =
    [(b":method", b"GET"), (b":scheme", b"http"), (b":path", b"/case"), (b":authority", b"site.test")];
const POST: [Field<'static>; 4] =
    [(b":method", b"POST"), (b":scheme", b"http"), (b":path", b"/case"), (b":authority", b"site.test")];

enum Want {
    /// Reset, closed or answered with 4xx; nothing at the origin.
    Refused,
    /// Answered with 200, and this at the origin.
    Forwarded(Seen),
    Either(Seen),
}

struct Case {
    name: String,
    clause: &'static str,
    level: Level,
    frames: Vec<u8>,
    want: Want,
}

fn bad(name: impl Into<String>, clause: &'static str, fields: &[Field<'_>]) -> Case {
    Case {
        name: name.into(),
        clause,
        level: Level::Must,
        frames: request(fields, &[], None),
        want: Want::Refused,
    }
}

fn good(name: impl Into<String>, clause: &'static str, fields: &[Field<'_>], seen: Seen) -> Case {
    Case { want: Want::Forwarded(seen), ..bad(name, clause, fields) }
}

/// Four pseudo-fields with one of them changed.
fn with<'a>(name: &'a [u8], value: &'a [u8]) -> Vec<Field<'a>> {
    GET.iter().map(|(n, v)| if *n == name { (name, value) } else { (*n, *v) }).collect()
}

fn without(name: &[u8]) -> Vec<Field<'static>> {
    GET.iter().copied().filter(|(n, _)| *n != name).collect()
}

/// A `GET` with more fields.
fn plus<'a>(fields: &[Field<'a>]) -> Vec<Field<'a>> {
    GET.iter().copied().chain(fields.iter().copied()).collect()
}

impl Case {
    fn should(self) -> Self {
        Self { level: Level::Should, ..self }
    }

    fn body(self, fields: &[Field<'_>], data: &[&[u8]], trailers: Option<&[Field<'_>]>) -> Self {
        let head: Vec<_> = POST.iter().copied().chain(fields.iter().copied()).collect();
        Self { frames: request(&head, data, trailers), ..self }
    }
}

fn cases() -> Vec<Case> {
    let mut cases = vec![
        good(
            "a plain request",
            "RFC 9113, 8.3.1",
            &GET,
            seen("GET /case").has("host", "site.test").has("via", "2 optgate"),
        ),
        good(
            "pseudo-fields in another order",
            "RFC 9113, 8.3",
            &[GET[3], GET[2], GET[1], GET[0]],
            seen("GET /case"),
        ),
        good(
            "host in place of :authority",
            "RFC 9113, 8.3.1",
            &[GET[0], GET[1], GET[2], (b"host", b"site.test")],
            seen("GET /case").has("host", "site.test"),
        ),
        good(
            "host beside the same :authority",
            "RFC 9113, 8.3.1",
            &plus(&[(b"host", b"site.test")]),
            seen("GET /case").has("host", "site.test"),
        ),
        good(
            "a port in :authority",
            "RFC 9113, 8.3.1",
            &with(b":authority", b"site.test:8080"),
            seen("GET /case").has("host", "site.test:8080"),
        ),
        good(
            "an asterisk for OPTIONS",
            "RFC 9113, 8.3.1",
            &[(b":method", b"OPTIONS"), GET[1], (b":path", b"*"), GET[3]],
            seen("OPTIONS *"),
        ),
        good(
            "TE: trailers",
            "RFC 9113, 8.2.2",
            &plus(&[(b"te", b"trailers")]),
            seen("GET /case").has("te", "trailers").has("connection", "te"),
        ),
        good(
            "cookie crumbs become one field",
            "RFC 9113, 8.2.3",
            &plus(&[(b"cookie", b"a=1"), (b"x", b"y"), (b"cookie", b"b=2"), (b"cookie", b"c=3")]),
            seen("GET /case").has("cookie", "a=1; b=2; c=3"),
        ),
        good(
            "a body without a length is sent in chunks",
            "RFC 9113, 8.1",
            &GET,
            seen("POST /case").body("body").has("transfer-encoding", "chunked"),
        )
        .body(&[], &[b"bo", b"dy"], None),
        good(
            "a body with its length",
            "RFC 9113, 8.1.1",
            &GET,
            seen("POST /case").body("body").has("content-length", "4").lacks("transfer-encoding"),
        )
        .body(&[(b"content-length", b"4")], &[b"body"], None),
        good(
            "a body that looks like a request",
            "RFC 9113, 10.3",
            &GET,
            seen("POST /case").body("0\r\n\r\nGET /smuggled HTTP/1.1\r\n\r\n"),
        )
        .body(&[], &[b"0\r\n\r\nGET /smuggled HTTP/1.1\r\n\r\n"], None),
        good(
            "the signal as a trailer never counts",
            "RFC 9110, 6.5.1",
            &GET,
            seen("POST /case").body("body").has("optgate-decision", "none").trailers(&[]),
        )
        .body(
            &[(b"te", b"trailers"), (b"trailer", b"sec-gpc")],
            &[b"body"],
            Some(&[(b"sec-gpc", b"1")]),
        ),
        good(
            "framing as a trailer does not pass",
            "RFC 9110, 6.5.1",
            &GET,
            seen("POST /case").body("body").trailers(&[]),
        )
        .body(&[(b"trailer", b"content-length, x")], &[b"body"], Some(&[(b"content-length", b"9")])),
        bad("no :method", "RFC 9113, 8.3.1", &without(b":method")),
        bad("no :scheme", "RFC 9113, 8.3.1", &without(b":scheme")),
        bad("no :path", "RFC 9113, 8.3.1", &without(b":path")),
        bad("no :authority and no host", "RFC 9113, 8.3.1", &without(b":authority")).should(),
        bad(
            "a pseudo-field behind a field",
            "RFC 9113, 8.3",
            &[GET[0], GET[1], GET[2], (b"x", b"y"), GET[3]],
        ),
        bad("an unknown pseudo-field", "RFC 9113, 8.3", &plus(&[(b":unknown", b"1")])),
        bad("a pseudo-field of answers", "RFC 9113, 8.3", &plus(&[(b":status", b"200")])),
        bad(":protocol without CONNECT", "RFC 8441, 4", &plus(&[(b":protocol", b"websocket")])),
        bad("an empty pseudo-field name", "RFC 9113, 8.3", &plus(&[(b":", b"x")])),
        bad("CONNECT", "RFC 9113, 8.5", &[(b":method", b"CONNECT"), (b":authority", b"site.test:443")]),
        bad("CONNECT with a path", "RFC 9113, 8.5", &[(b":method", b"CONNECT"), GET[1], GET[2], GET[3]]),
        bad(
            "extended CONNECT to another protocol",
            "RFC 8441, 4",
            &[(b":method", b"CONNECT"), GET[1], GET[2], GET[3], (b":protocol", b"connect-udp")],
        ),
        bad("TRACE", "RFC 9110, 9.3.8", &with(b":method", b"TRACE")).should(),
        bad("host and :authority differ", "RFC 9113, 8.3.1", &plus(&[(b"host", b"other.test")])),
        bad(
            "host and :authority differ in their port",
            "RFC 9113, 8.3.1",
            &plus(&[(b"host", b"site.test:81")]),
        ),
        bad("two hosts", "RFC 9110, 7.2", &plus(&[(b"host", b"site.test"), (b"host", b"site.test")])),
        bad(
            "two hosts and no :authority",
            "RFC 9110, 7.2",
            &[GET[0], GET[1], GET[2], (b"host", b"site.test"), (b"host", b"other.test")],
        ),
        bad("an empty host beside :authority", "RFC 9113, 8.3.1", &plus(&[(b"host", b"")])),
        bad("userinfo in :authority", "RFC 9113, 8.3.1", &with(b":authority", b"me@site.test")),
        bad("userinfo in host", "RFC 9110, 4.2.4", &[GET[0], GET[1], GET[2], (b"host", b"me@site.test")]),
        bad("a length larger than the data", "RFC 9113, 8.1.1", &GET).body(
            &[(b"content-length", b"9")],
            &[b"body"],
            None,
        ),
        bad("a length smaller than the data", "RFC 9113, 8.1.1", &GET).body(
            &[(b"content-length", b"2")],
            &[b"body"],
            None,
        ),
        bad("a length of 0 with data", "RFC 9113, 8.1.1", &GET).body(
            &[(b"content-length", b"0")],
            &[b"body"],
            None,
        ),
        bad("a length of 00 with data", "RFC 9113, 8.1.1", &GET).body(
            &[(b"content-length", b"00")],
            &[b"body"],
            None,
        ),
        bad("an empty length", "RFC 9110, 8.6", &GET).body(&[(b"content-length", b"")], &[b""], None),
        bad("an empty length with data", "RFC 9110, 8.6", &GET).body(
            &[(b"content-length", b"")],
            &[b"body"],
            None,
        ),
        bad("an empty length without a body", "RFC 9110, 8.6", &plus(&[(b"content-length", b"")])),
        bad("a length that begins with 0", "RFC 9110, 8.6", &GET)
            .body(&[(b"content-length", b"04")], &[b"body"], None)
            .should(),
        bad("a length without data", "RFC 9113, 8.1.1", &plus(&[(b"content-length", b"4")])),
        bad("two lengths", "RFC 9113, 8.1.1", &GET).body(
            &[(b"content-length", b"4"), (b"content-length", b"9")],
            &[b"body"],
            None,
        ),
        bad("the same length twice", "RFC 9110, 8.6", &GET)
            .body(&[(b"content-length", b"4"), (b"content-length", b"4")], &[b"body"], None)
            .should(),
        bad("a list of lengths", "RFC 9110, 8.6", &GET).body(
            &[(b"content-length", b"4, 4")],
            &[b"body"],
            None,
        ),
        bad("a signed length", "RFC 9110, 8.6", &GET).body(&[(b"content-length", b"+4")], &[b"body"], None),
        bad("a pseudo-field among trailers", "RFC 9113, 8.1", &GET).body(
            &[],
            &[b"body"],
            Some(&[(b":path", b"/smuggled")]),
        ),
        bad("a pseudo-field of answers among trailers", "RFC 9113, 8.1", &GET).body(
            &[],
            &[b"body"],
            Some(&[(b":status", b"200")]),
        ),
        bad("an upper-case name among trailers", "RFC 9113, 8.2", &GET).body(
            &[],
            &[b"body"],
            Some(&[(b"X-Sum", b"1")]),
        ),
        bad("a blank before a trailer's value", "RFC 9113, 8.2.1", &GET).body(
            &[],
            &[b"body"],
            Some(&[(b"x-sum", b" 1")]),
        ),
        bad("a blank behind a trailer's value", "RFC 9113, 8.2.1", &GET).body(
            &[],
            &[b"body"],
            Some(&[(b"x-sum", b"1\t")]),
        ),
        bad("a line break among trailers", "RFC 9113, 8.2.1", &GET).body(
            &[],
            &[b"body"],
            Some(&[(b"x-sum", b"1\r\nx: y")]),
        ),
    ];
    for name in [b":method".as_slice(), b":scheme", b":path", b":authority"] {
        let value = GET.iter().find(|(n, _)| *n == name).unwrap().1;
        let text = String::from_utf8_lossy(name).into_owned();
        cases.push(bad(format!("{text} twice"), "RFC 9113, 8.3", &plus(&[(name, value)])));
        cases.push(bad(format!("an empty {text}"), "RFC 9113, 8.3.1", &with(name, b"")));
        for (what, byte) in [("NUL", 0_u8), ("CR", b'\r'), ("LF", b'\n'), ("a blank", b' '), ("0x7f", 0x7f)] {
            let value = [value, &[byte], b"x"].concat();
            cases.push(bad(format!("{what} in {text}"), "RFC 9113, 8.2.1", &with(name, &value)));
        }
    }
    cases.push(bad(
        "a request in :path",
        "RFC 9113, 8.3.1",
        &with(b":path", b"/case HTTP/1.1\r\nHost: other.test\r\n\r\nGET /smuggled"),
    ));
    cases.push(bad(
        "a request in :method",
        "RFC 9113, 8.3.1",
        &with(b":method", b"GET /smuggled HTTP/1.1\r\nHost: site.test\r\n\r\nGET"),
    ));
    cases.push(bad(
        "a request in :authority",
        "RFC 9113, 8.3.1",
        &with(b":authority", b"site.test\r\n\r\nGET /smuggled HTTP/1.1\r\n"),
    ));
    for path in ["/case#top", "case", "?case", "http://site.test/case", "*", "/ca\u{e4}se"] {
        cases.push(bad(format!("the path {path:?}"), "RFC 9113, 8.3.1", &with(b":path", path.as_bytes())));
    }
    for authority in [
        "site.test/case",
        "site.test:x",
        "site.test, other.test",
        "site .test",
        "[::1",
        "http://site.test",
        "site.test?a",
        "site.test#a",
        "a..b",
        "%41",
    ] {
        cases.push(bad(
            format!("the authority {authority:?}"),
            "RFC 9113, 8.3.1",
            &with(b":authority", authority.as_bytes()),
        ));
    }
    for scheme in ["ftp", "file", "javascript", "HTTP x", "http://other.test/?"] {
        cases.push(
            bad(format!("the scheme {scheme:?}"), "RFC 9113, 8.3.1", &with(b":scheme", scheme.as_bytes()))
                .should(),
        );
    }
    for (name, value) in [
        ("connection", "close"),
        ("connection", "x-a"),
        ("keep-alive", "1"),
        ("proxy-connection", "close"),
        ("transfer-encoding", "chunked"),
        ("transfer-encoding", "identity"),
        ("upgrade", "h2c"),
        ("te", "gzip"),
        ("te", "trailers, gzip"),
        ("te", "chunked"),
    ] {
        cases.push(bad(
            format!("{name}: {value}"),
            "RFC 9113, 8.2.2",
            &plus(&[(name.as_bytes(), value.as_bytes())]),
        ));
    }
    cases.push(bad("transfer-encoding with a body (H2.TE)", "RFC 9113, 8.2.2", &GET).body(
        &[(b"transfer-encoding", b"chunked")],
        &[b"0\r\n\r\nGET /smuggled HTTP/1.1\r\n\r\n"],
        None,
    ));
    for name in [
        "X-A",
        "x-A",
        "Host",
        "CONTENT-LENGTH",
        "x a",
        "x:a",
        "x\ra",
        "x\na",
        "x\0a",
        "x\u{e4}",
        "",
        " x",
        "x ",
        "x(a)",
        "x\r\nhost: other.test\r\nx",
    ] {
        cases.push(bad(format!("the name {name:?}"), "RFC 9113, 8.2.1", &plus(&[(name.as_bytes(), b"y")])));
    }
    for value in [
        "a\0b",
        "a\rb",
        "a\nb",
        "a\r\nx-b: c",
        "a\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: site.test\r\n\r\n",
        "\r\n",
        "a\r\n b",
        " a",
        "a ",
        "\ta",
        "a\t",
        " ",
    ] {
        cases.push(bad(
            format!("the value {value:?}"),
            "RFC 9113, 8.2.1",
            &plus(&[(b"x-a", value.as_bytes())]),
        ));
    }
    for value in ["a\x01b", "a\x7fb", "a\x1fb"] {
        cases.push(Case {
            want: Want::Either(seen("GET /case")),
            ..bad(format!("the value {value:?}"), "RFC 9110, 5.5", &plus(&[(b"x-a", value.as_bytes())]))
        });
    }
    for name in ["sec_gpc", "x_forwarded_for", "content_length", "optgate_decision", "transfer_encoding"] {
        cases.push(
            good(
                format!("the twin {name} ends here"),
                "RFC 9110, 5.1",
                &plus(&[(name.as_bytes(), b"1")]),
                seen("GET /case").lacks(name),
            )
            .should(),
        );
    }
    for (name, value) in [
        ("x-forwarded-for", "6.6.6.6"),
        ("proxy", "http://evil.test"),
        ("x-original-url", "/other"),
        ("optgate-anything", "1"),
        ("proxy-authorization", "x"),
    ] {
        let seen = if name == "x-forwarded-for" {
            seen("GET /case").has("x-forwarded-for", "127.0.0.1")
        } else {
            seen("GET /case").lacks(name)
        };
        cases.push(
            good(
                format!("a stranger's {name} ends here"),
                "RFC 9110, 7.6.1",
                &plus(&[(name.as_bytes(), value.as_bytes())]),
                seen,
            )
            .should(),
        );
    }
    cases
}

fn run(subject: &Subject, case: &Case) -> Verdict {
    let before = subject.origin.mark();
    let outcome = ask(subject.connect_http2(), &case.frames);
    let seen = match subject.since(before, &outcome, Verdict::Critical) {
        Ok(seen) => seen,
        Err(verdict) => return verdict,
    };
    let refused = || match outcome {
        Outcome::Answered(status) if !(400..500).contains(&status) => Err(format!("answered {status}")),
        Outcome::Silent => Err("nothing came".to_owned()),
        _ if !seen.is_empty() => Err(format!("reached the origin: {:?}", lines(&seen))),
        _ => Ok(()),
    };
    let forwarded = |wanted: &Seen| match &seen[..] {
        [request] if outcome == Outcome::Answered(200) => subject.matches(wanted, request),
        seen => Err(format!("{outcome:?}, {:?}", lines(seen))),
    };
    let judged = match &case.want {
        Want::Refused => refused(),
        Want::Forwarded(wanted) => forwarded(wanted),
        Want::Either(wanted) => refused().or_else(|_| forwarded(wanted)),
    };
    judged.map_or_else(Verdict::Fail, |()| Verdict::Pass)
}

fn run_all(title: &str, subject: &Subject) {
    let cases = cases();
    let verdicts = cases.iter().map(|case| (case.name.as_str(), case.clause, case.level, run(subject, case)));
    assert_none(&super::run_all(&format!("HTTP/2 frames, {title}"), verdicts));
}

/// RFC 9113, 8: what reaches the origin is one well-formed request, or nothing.
#[test]
fn http2_requests_are_mapped_without_injection() {
    let (_proxy, subject) = optgate();
    run_all("in clear", &subject);
}

/// The same over TLS.
#[test]
fn http2_requests_are_mapped_without_injection_over_tls() {
    let (_proxy, subject) = optgate_with_tls();
    run_all("over TLS", &subject);
}

const CONNECT: [Field<'static>; 6] = [
    (b":method", b"CONNECT"),
    (b":protocol", b"websocket"),
    (b":scheme", b"http"),
    (b":path", b"/case"),
    (b":authority", b"site.test"),
    (b"sec-websocket-version", b"13"),
];

const SWITCH: &str = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n";

/// RFC 6455, 4.2.2.
fn accept_of(key: &str) -> String {
    let proof = format!("{key}258EAFA5-E914-47DA-95CA-C5AB0DC85B11");
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA1_FOR_LEGACY_USE_ONLY, proof.as_bytes());
    data_encoding::BASE64.encode(digest.as_ref())
}

/// RFC 6455, 4.1: the key is ours, so the visitor cannot tell that an answer is for another.
#[test]
fn a_switch_that_proves_nothing_opens_no_tunnel_over_http2() {
    let (_proxy, subject) = optgate();
    for proof in ["", "Sec-WebSocket-Accept: AAAAAAAAAAAAAAAAAAAAAAAAAAA=\r\n"] {
        subject.origin.answer(Some(Script::of(format!("{SWITCH}{proof}\r\n"))));
        let (got, _) = tunnel(subject.connect_http2(), &CONNECT, b"ping");
        assert_eq!(got, 502, "{proof:?}");
        subject.origin.answer(None);
    }
}

/// RFC 8441, 5: a WebSocket over HTTP/2 is one over HTTP/1.1 for the origin.
#[test]
fn a_websocket_over_http2_reaches_the_origin_as_an_upgrade() {
    let origin = crate::support::origin::Origin::start().on("/case", |x| {
        let accept = accept_of(&x.request().one("sec-websocket-key").unwrap());
        x.send(format!("{SWITCH}Sec-WebSocket-Accept: {accept}\r\n\r\n"))?;
        let bytes = x.tunnel()?;
        x.send(bytes.to_ascii_uppercase())?;
        x.cut();
        Ok(())
    });
    let proxy = crate::support::proxy::proxy().to(&origin).run();
    let (status, bytes) = tunnel(Wire::tcp(proxy.addr(), crate::support::DEADLINE), &CONNECT, b"ping");
    assert_eq!((status, bytes.as_slice()), (200, b"PING".as_slice()));
    let seen = origin.first();
    assert_eq!(seen.line(), "GET /case HTTP/1.1");
    assert_eq!(seen.one("upgrade").as_deref(), Some("websocket"));
    assert_eq!(seen.one("connection").as_deref(), Some("upgrade"));
    assert_eq!(seen.one("sec-websocket-version").as_deref(), Some("13"));
    assert_eq!(seen.one("sec-websocket-key").map(|key| key.len()), Some(24));
}

/// RFC 8441, 5: a success opens the tunnel, so an origin's plain success must not become one.
#[test]
fn an_answer_that_is_no_101_opens_no_tunnel_over_http2() {
    let (_proxy, subject) = optgate();
    for (status, want) in [("200 OK", 502), ("403 Forbidden", 403), ("302 Found", 302)] {
        let answer = format!("HTTP/1.1 {status}\r\nContent-Length: 0\r\n\r\n");
        subject.origin.answer(Some(Script::of(answer)));
        let (got, bytes) = tunnel(subject.connect_http2(), &CONNECT, b"GET /smuggled HTTP/1.1\r\n\r\n");
        assert_eq!((got, bytes.len()), (want, 0), "{status}");
        subject.origin.answer(None);
        subject.echoes().unwrap();
        assert_eq!(subject.origin.malformed(), []);
        assert!(!subject.origin.requests().iter().any(|r| r.target() == "/smuggled" || !r.body.is_empty()));
    }
}

/// RFC 9113, 5.4.1: who ends a connection for one request says so, and up to which stream, so that a client knows what
/// of the rest it may send again elsewhere.
#[test]
fn a_connection_that_ends_for_a_malformed_request_ends_with_goaway() {
    let (_proxy, subject) = optgate();
    let head = |stream: u32, fields: &[Field<'_>]| {
        frame(HEADERS, END_HEADERS | END_STREAM, stream, &section(fields))
    };
    for (bad, code) in [(head(3, &with(b":path", b"/case#b")), 1), (head(1, &[(b":path", b"/case")]), 5)] {
        let mut wire = subject.connect_http2();
        wire.send([hello(), head(1, &GET)].concat());
        assert_eq!(outcome(&mut wire, 1), Outcome::Answered(200));
        wire.send(bad);
        assert_eq!(outcome(&mut wire, 3), Outcome::Reset(code), "PROTOCOL_ERROR, STREAM_CLOSED");
        wire.raw(1 << 16);
        assert!(wire.is_closed());
    }
}

/// Frames that end a connection, by the code that its end names (RFC 9113, 7).
fn faults() -> Vec<(&'static str, u32, Vec<u8>)> {
    let block = |stream: u32, flags: u8, block: &[u8]| frame(HEADERS, END_HEADERS | flags, stream, block);
    let get = |stream: u32| block(stream, END_STREAM, &section(&GET));
    let post = |more: Vec<u8>| [block(1, 0, &section(&POST)), more].concat();
    let behind_fields = |more: &[u8]| block(1, END_STREAM, &[&section(&GET), more].concat());
    let setting = |value: u32| frame(SETTINGS, 0, 0, &[&[0, 4][..], &value.to_be_bytes()].concat());
    vec![
        ("a fragment in the path (8.3.1)", 1, block(1, END_STREAM, &section(&with(b":path", b"/case#b")))),
        ("a pseudo-field among trailers (8.1)", 1, post(block(1, END_STREAM, &section(&GET[..1])))),
        ("a window update of three bytes (6.9)", 6, frame(WINDOW_UPDATE, 0, 0, &[0, 0, 1])),
        ("settings of five bytes (6.5)", 6, frame(SETTINGS, 0, 0, &[0; 5])),
        ("a priority of four bytes (6.3)", 6, frame(PRIORITY, 0, 1, &[0; 4])),
        ("a priority of six bytes (6.3)", 6, frame(PRIORITY, 0, 1, &[0; 6])),
        ("fields without room for their priority (6.2)", 6, frame(HEADERS, 0x24, 1, &[0; 4])),
        ("data without room for its padding (6.1)", 6, post(frame(DATA, PADDED, 1, &[]))),
        ("a window of 2^31 (6.5.2)", 3, setting(1 << 31)),
        ("data behind a stream's end (5.1)", 5, [get(1), frame(DATA, 0, 1, b"more")].concat()),
        ("a request behind a stream's end (5.1)", 5, [get(1), get(1)].concat()),
        (
            "trailers behind a stream's end (5.1)",
            5,
            [get(1), block(1, END_STREAM, &section(&[(b"x", b"y")]))].concat(),
        ),
        ("a block that is none (4.3)", 9, behind_fields(b"\x80")),
        ("the table's size behind a field (RFC 7541, 4.2)", 9, behind_fields(b"\x20")),
        ("the code that ends nothing (RFC 7541, 5.2)", 9, behind_fields(b"\0\x01a\x84\xff\xff\xff\xff")),
        ("the same, never to be kept", 9, behind_fields(b"\x10\x01a\x84\xff\xff\xff\xff")),
        ("padding of more than seven bits (RFC 7541, 5.2)", 9, behind_fields(b"\0\x01a\x82\x1f\xff")),
        ("padding that is not of ones (RFC 7541, 5.2)", 9, behind_fields(b"\0\x01a\x81\x18")),
    ]
}

/// RFC 9113, 5.4.1: also where the server has not said anything yet, and behind the settings it says first (3.4).
#[test]
fn a_connection_ends_with_the_code_of_what_was_wrong_however_early_that_comes() {
    let (_proxy, subject) = optgate();
    for (what, code, frames) in faults() {
        for early in [true, false] {
            let mut wire = subject.connect_http2();
            if early {
                wire.send([hello(), frames.clone()].concat());
            } else {
                wire.send(hello());
                // Its settings, and something behind them: it has read ours.
                let length = usize::from(wire.raw(9)[2]);
                wire.raw(9 + length + 9);
                wire.send(&frames);
            }
            assert_eq!(outcome(&mut wire, 99), Outcome::Reset(code), "{what}, early: {early}");
            assert_eq!(wire.raw(9)[3], SETTINGS, "{what}");
            wire.raw(1 << 16);
            assert!(wire.is_closed(), "{what}");
        }
    }
    subject.echoes().unwrap();
}

/// RFC 9113, 3.4.
#[test]
fn a_client_that_does_not_begin_with_its_settings_is_refused() {
    let (_proxy, subject) = optgate();
    for first in [
        request(&GET, &[], None),
        frame(PING, 0, 0, &[7; 8]),
        frame(WINDOW_UPDATE, 0, 0, &1_u32.to_be_bytes()),
        frame(0xfa, 0, 0, b"x"),
        frame(SETTINGS, 1, 0, &[]),
    ] {
        let mut wire = subject.connect_http2();
        wire.send([PREFACE, &first, &frame(SETTINGS, 0, 0, &[]), &request(&GET, &[], None)].concat());
        assert_eq!(outcome(&mut wire, 1), Outcome::Reset(1), "{first:x?}");
    }
    assert_eq!(lines(&subject.origin.requests()), Vec::<String>::new());
}

/// RFC 9110, 9.3.2: whoever answers. A client of HTTP/2 takes data behind the answer to HEAD for an error.
#[test]
fn an_answer_of_our_own_to_head_has_a_length_and_no_data() {
    let (proxy, subject) = optgate();
    subject.origin.answer(Some(Script::of("nonsense\r\n\r\n")));
    let mut h2 = H2::prior_knowledge(proxy.addr());
    let many = (0..120).fold(http::Request::builder(), |r, n| r.header(format!("x-{n}"), "1"));
    for (status, request) in [
        (400, http::Request::builder().uri("http://a..b/case")),
        (502, http::Request::builder().uri("http://site.test/case")),
        (431, many.uri("http://site.test/case")),
    ] {
        let answer = h2.send(request.method("HEAD").body(Frames::new(b"", None)).unwrap());
        assert_eq!((answer.status, answer.body.len()), (status, 0));
        let length: usize = answer.headers["content-length"].to_str().unwrap().parse().unwrap();
        assert!(length > 20, "{status}: {length}");
    }
}

/// RFC 8441, 5: a tunnel is a stream of a connection, which has its place. More tunnels than there are connections take no
/// visitor's.
#[test]
fn tunnels_over_http2_take_no_connections_from_others() {
    let origin = crate::support::origin::Origin::start().on("/case", |x| {
        let accept = accept_of(&x.request().one("sec-websocket-key").unwrap());
        x.send(format!("{SWITCH}Sec-WebSocket-Accept: {accept}\r\n\r\n"))?;
        while !x.tunnel()?.is_empty() {}
        Ok(())
    });
    let proxy = crate::support::proxy::proxy().to(&origin).toml("[limits]\nconnections = 2\n").run();
    let mut wire = Wire::tcp(proxy.addr(), crate::support::DEADLINE);
    wire.send(hello());
    for stream in [1, 3, 5, 7] {
        wire.send(frame(HEADERS, END_HEADERS, stream, &section(&CONNECT)));
        assert_eq!(outcome(&mut wire, stream), Outcome::Answered(200));
    }
    assert_eq!(proxy.get("/", "").status(), 200, "another visitor's");
}
