//! Answers of a hostile or broken origin: refused with 502, or cut where they went wrong; the connection is not
//! used again, and no byte of it reaches another client (RFC 9112, 4 to 8).

use http::{HeaderName, HeaderValue, Request};

use super::case::Level;
use super::recorder::{After, Script};
use super::wire::{Answer, Heard};
use super::{Subject, Verdict, assert_none, optgate, optgate_with_tls};
use crate::support::h2::{Frames, H2};

/// What the client must get.
#[derive(Debug, Clone)]
enum Want {
    BadGateway,
    /// A status, then a body that is never whole.
    Cut(u16),
    /// This status and body, whole.
    Whole(u16, &'static str),
    /// Whole, or a bad gateway.
    Either(u16, &'static str),
}

struct Case {
    name: String,
    clause: &'static str,
    level: Level,
    method: &'static str,
    answer: Vec<u8>,
    after: After,
    want: Want,
    /// Whether the origin's connection may carry another request.
    reusable: bool,
    lacks: &'static [&'static str],
}

fn case(name: impl Into<String>, clause: &'static str, answer: impl AsRef<[u8]>, want: Want) -> Case {
    Case {
        name: name.into(),
        clause,
        level: Level::Must,
        method: "GET",
        answer: answer.as_ref().to_vec(),
        after: After::Keep,
        want,
        reusable: false,
        lacks: &[],
    }
}

/// A head with a status line of 200 and a plain type, then what follows.
fn ok(fields: &str, rest: &str) -> String {
    format!("HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n{fields}\r\n{rest}")
}

impl Case {
    fn should(self) -> Self {
        Self { level: Level::Should, ..self }
    }

    fn closes(self) -> Self {
        Self { after: After::Close, ..self }
    }

    fn method(self, method: &'static str) -> Self {
        Self { method, ..self }
    }

    fn reusable(self) -> Self {
        Self { reusable: true, ..self }
    }

    fn lacks(self, lacks: &'static [&'static str]) -> Self {
        Self { lacks, ..self }
    }
}

/// What another client would get if bytes behind an answer were kept.
const EVIL: &str = "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 4\r\n\r\nevil";

fn cases() -> Vec<Case> {
    let bad = |name: &str, clause, answer: String| case(name, clause, answer, Want::BadGateway);
    let mut cases = vec![
        case("a plain answer", "RFC 9112, 4", ok("Content-Length: 2\r\n", "ok"), Want::Whole(200, "ok")).reusable(),
        case("an answer in chunks", "RFC 9112, 7.1", ok("Transfer-Encoding: chunked\r\n", "2\r\nok\r\n0\r\n\r\n"), Want::Whole(200, "ok")).reusable(),
        case("an answer that ends with its connection", "RFC 9112, 6.3", ok("", "ok"), Want::Whole(200, "ok")).closes(),
        case("an answer of HTTP/1.0", "RFC 9112, 9.3", "HTTP/1.0 200 OK\r\nContent-Type: text/plain\r\n\r\nok", Want::Whole(200, "ok")).closes(),
        case("an answer that closes", "RFC 9112, 9.6", ok("Connection: close\r\nContent-Length: 2\r\n", "ok"), Want::Whole(200, "ok")),
        case("a status without a reason", "RFC 9112, 4", "HTTP/1.1 200 \r\nContent-Type: text/plain\r\nContent-Length: 2\r\n\r\nok", Want::Whole(200, "ok")).reusable(),
        case("an interim answer first", "RFC 9110, 15.2", format!("HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n{}", ok("Content-Length: 2\r\n", "ok")), Want::Whole(200, "ok")).reusable(),
        case("a 100 that nobody asked for", "RFC 9110, 15.2.1", format!("HTTP/1.1 100 Continue\r\n\r\n{}", ok("Content-Length: 2\r\n", "ok")), Want::Whole(200, "ok")).reusable(),
        case("a blank before the colon is removed", "RFC 9112, 5.1", ok("Content-Length : 2\r\nX-A : b\r\n", "ok"), Want::Whole(200, "ok")).reusable(),
        bad("different lengths", "RFC 9112, 6.3", ok("Content-Length: 2\r\nContent-Length: 3\r\n", "ok!")),
        bad("a list of different lengths", "RFC 9112, 6.3", ok("Content-Length: 2, 3\r\n", "ok!")),
        bad("the same length twice", "RFC 9112, 6.3", ok("Content-Length: 2\r\nContent-Length: 2\r\n", "ok")).should(),
        bad("a list of the same lengths", "RFC 9112, 6.3", ok("Content-Length: 2, 2\r\n", "ok")).should(),
        bad("a length beside chunked", "RFC 9112, 6.3", ok("Content-Length: 2\r\nTransfer-Encoding: chunked\r\n", "2\r\nok\r\n0\r\n\r\n")).should(),
        bad("chunked beside a length", "RFC 9112, 6.3", ok("Transfer-Encoding: chunked\r\nContent-Length: 2\r\n", "2\r\nok\r\n0\r\n\r\n")).should(),
        bad("an unknown coding", "RFC 9112, 6.1", ok("Transfer-Encoding: cow\r\n", "ok")).should(),
        bad("gzip, chunked", "RFC 9112, 6.1", ok("Transfer-Encoding: gzip, chunked\r\n", "2\r\nok\r\n0\r\n\r\n")).should(),
        bad("chunked twice", "RFC 9112, 6.1", ok("Transfer-Encoding: chunked, chunked\r\n", "2\r\nok\r\n0\r\n\r\n")),
        bad("two codings in two fields", "RFC 9112, 6.1", ok("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n", "2\r\nok\r\n0\r\n\r\n")),
        bad("chunked in HTTP/1.0", "RFC 9112, 6.1", "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n".into()),
        bad("lines that end with LF only", "RFC 9112, 2.2", "HTTP/1.1 200 OK\nContent-Length: 2\n\nok".into()).should(),
        bad("one field that ends with LF only", "RFC 9112, 2.2", ok("X-A: b\nX-B: c\r\nContent-Length: 2\r\n", "ok")).should(),
        bad("a bare CR in a value", "RFC 9112, 2.2", ok("X-A: b\rX-B: c\r\nContent-Length: 2\r\n", "ok")),
        bad("a folded field", "RFC 9112, 5.2", ok("X-A: b\r\n c\r\nContent-Length: 2\r\n", "ok")),
        bad("a field folded with a tabulator", "RFC 9112, 5.2", ok("X-A: b\r\n\tc\r\nContent-Length: 2\r\n", "ok")),
        bad("white space before the first field", "RFC 9112, 2.2", "HTTP/1.1 200 OK\r\n X-A: b\r\nContent-Length: 2\r\n\r\nok".into()),
        bad("NUL in a value", "RFC 9110, 5.5", ok("X-A: b\0c\r\nContent-Length: 2\r\n", "ok")),
        bad("a control byte in a value", "RFC 9110, 5.5", ok("X-A: b\x01c\r\nContent-Length: 2\r\n", "ok")),
        bad("no colon", "RFC 9112, 5", ok("nonsense\r\nContent-Length: 2\r\n", "ok")),
        bad("no name", "RFC 9112, 5", ok(": b\r\nContent-Length: 2\r\n", "ok")),
        bad("a blank in a name", "RFC 9110, 5.1", ok("X A: b\r\nContent-Length: 2\r\n", "ok")),
        bad("a head that is too long", "RFC 9110, 15.6.3", ok(&format!("X-A: {}\r\nContent-Length: 2\r\n", "b".repeat(300_000)), "ok")),
        bad("too many fields", "RFC 9110, 15.6.3", ok(&format!("{}Content-Length: 2\r\n", "X-A: b\r\n".repeat(3_000)), "ok")),
        bad("interim answers without end", "RFC 9110, 15.2", format!("{}{}", "HTTP/1.1 103 Early Hints\r\nX: y\r\n\r\n".repeat(2_000), ok("Content-Length: 2\r\n", "ok"))).should(),
        bad("a 101 that nobody asked for", "RFC 9110, 15.2.2", "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\nevil".into()),
        bad("a 101 with a body, that nobody asked for", "RFC 9110, 15.2.2", format!("HTTP/1.1 101 Switching Protocols\r\nContent-Length: 4\r\n\r\n{EVIL}")),
        bad("nothing", "RFC 9110, 15.6.3", String::new()).closes(),
        bad("only a status line", "RFC 9112, 8", "HTTP/1.1 200 OK\r\n".into()).closes(),
        bad("half a head", "RFC 9112, 8", "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n".into()).closes(),
        bad("an interim answer, then nothing", "RFC 9112, 8", "HTTP/1.1 103 Early Hints\r\n\r\n".into()).closes(),
        bad("a page without a head", "RFC 9112, 4", "<html>HTTP/0.9</html>".into()).closes(),
        bad("a request as an answer", "RFC 9112, 4", "GET / HTTP/1.1\r\nHost: site.test\r\n\r\n".into()),
        bad("another protocol", "RFC 9112, 4", "SSH-2.0-OpenSSH_9.2\r\n".into()).closes(),
        bad("garbage before the status line", "RFC 9112, 4", format!("xx{}", ok("Content-Length: 2\r\n", "ok"))),
        bad("an empty line before the status line", "RFC 9112, 4", format!("\r\n{}", ok("Content-Length: 2\r\n", "ok"))).should(),
        case("a body shorter than its length", "RFC 9112, 8", ok("Content-Length: 9\r\n", "ok"), Want::Cut(200)).closes(),
        case("chunks without a last one", "RFC 9112, 8", ok("Transfer-Encoding: chunked\r\n", "2\r\nok\r\n"), Want::Cut(200)).closes(),
        case("a chunk that is cut", "RFC 9112, 8", ok("Transfer-Encoding: chunked\r\n", "9\r\nok"), Want::Cut(200)).closes(),
        case("a last chunk without its end", "RFC 9112, 8", ok("Transfer-Encoding: chunked\r\n", "2\r\nok\r\n0\r\n"), Want::Cut(200)).closes(),
        case("a body longer than its length", "RFC 9112, 6.3", ok("Content-Length: 2\r\n", "okmore"), Want::Whole(200, "ok")),
        case("another answer behind its length", "RFC 9112, 6.3", ok("Content-Length: 2\r\n", &format!("ok{EVIL}")), Want::Whole(200, "ok")),
        case("another answer behind its chunks", "RFC 9112, 7.1", ok("Transfer-Encoding: chunked\r\n", &format!("2\r\nok\r\n0\r\n\r\n{EVIL}")), Want::Whole(200, "ok")),
        case("another answer behind no body", "RFC 9112, 6.3", ok("Content-Length: 0\r\n", EVIL), Want::Whole(200, "")),
        case("a 204 without a body", "RFC 9110, 15.3.5", "HTTP/1.1 204 No Content\r\n\r\n", Want::Whole(204, "")).reusable(),
        case("a 204 with a length", "RFC 9110, 8.6", "HTTP/1.1 204 No Content\r\nContent-Length: 4\r\n\r\nevil", Want::Whole(204, "")).lacks(&["content-length", "transfer-encoding"]),
        case("a 204 with chunks", "RFC 9112, 6.1", "HTTP/1.1 204 No Content\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nevil\r\n0\r\n\r\n", Want::Whole(204, "")).lacks(&["content-length", "transfer-encoding"]),
        case("a 204 with an answer behind it", "RFC 9110, 15.3.5", format!("HTTP/1.1 204 No Content\r\n\r\n{EVIL}"), Want::Whole(204, "")),
        case("a 304 with a body", "RFC 9110, 15.4.5", format!("HTTP/1.1 304 Not Modified\r\nContent-Length: 4\r\n\r\n{EVIL}"), Want::Whole(304, "")),
        case("a HEAD with a length", "RFC 9110, 9.3.2", ok("Content-Length: 9\r\n", ""), Want::Whole(200, "")).method("HEAD").reusable(),
        case("a HEAD with a body", "RFC 9110, 9.3.2", ok("Content-Length: 4\r\n", EVIL), Want::Whole(200, "")).method("HEAD"),
        case("a HEAD with chunks", "RFC 9110, 9.3.2", ok("Transfer-Encoding: chunked\r\n", "4\r\nevil\r\n0\r\n\r\n"), Want::Whole(200, "")).method("HEAD"),
        case("fields named in Connection end here", "RFC 9110, 7.6.1", ok("Connection: X-Hop\r\nX-Hop: 1\r\nKeep-Alive: 1\r\nProxy-Connection: a\r\nContent-Length: 2\r\n", "ok"), Want::Whole(200, "ok"))
            .lacks(&["x-hop", "keep-alive", "proxy-connection"])
            .reusable(),
        case("Proxy-Authenticate ends here", "RFC 9110, 11.7", ok("Proxy-Authenticate: Basic\r\nProxy-Authentication-Info: a\r\nContent-Length: 2\r\n", "ok"), Want::Whole(200, "ok"))
            .lacks(&["proxy-authenticate", "proxy-authentication-info"])
            .reusable(),
        case("Upgrade ends here", "RFC 9110, 7.8", ok("Upgrade: h2c\r\nConnection: Upgrade\r\nContent-Length: 2\r\n", "ok"), Want::Whole(200, "ok"))
            .lacks(&["upgrade"])
            .reusable(),
        case("a forbidden trailer does not pass", "RFC 9110, 6.5.1", ok("Trailer: Set-Cookie\r\nTransfer-Encoding: chunked\r\n", "2\r\nok\r\n0\r\nSet-Cookie: a=b\r\n\r\n"), Want::Whole(200, "ok"))
            .lacks(&["set-cookie"])
            .reusable(),
    ];
    for size in ["x", "+2", "-2", "0x2", "", "fffffffffffffffff", "ffffffffffffffffff2", " 2", "2\n", "2_"] {
        let answer = ok("Transfer-Encoding: chunked\r\n", &format!("{size}\r\nok\r\n0\r\n\r\n"));
        cases.push(case(format!("the chunk size {size:?}"), "RFC 9112, 7.1", answer, Want::Cut(200)));
    }
    for (name, rest) in [
        ("data that ends with LF only", "2\r\nok\n0\r\n\r\n"),
        ("data longer than its size", "2\r\nok!\r\n0\r\n\r\n"),
        ("an extension that ends with LF only", "2;a\nok\r\n0\r\n\r\n"),
        ("a size that ends with a bare CR", "2\rok\r\n0\r\n\r\n"),
        ("a trailer that ends with LF only", "2\r\nok\r\n0\r\nX: y\nZ: a\r\n\r\n"),
        ("a trailer that is no field", "2\r\nok\r\n0\r\nnonsense\r\n\r\n"),
    ] {
        cases.push(case(name, "RFC 9112, 7.1", ok("Transfer-Encoding: chunked\r\n", rest), Want::Cut(200)));
    }
    for line in [
        "HTTP/1.1",
        "HTTP/1.1 ",
        "HTTP/1.1 20 OK",
        "HTTP/1.1 2000 OK",
        "HTTP/1.1 abc OK",
        "HTTP/1.1 -20 OK",
        "HTTP/1.1 2 00 OK",
        "HTTP/1.1  200 OK",
        "HTTP/2 200 OK",
        "HTTP/2.0 200 OK",
        "HTTP/0.9 200 OK",
        "HTTP/1.2 200 OK",
        "HTTP/1.10 200 OK",
        "http/1.1 200 OK",
        "HTTP 200 OK",
        "ICY 200 OK",
        " HTTP/1.1 200 OK",
        "HTTP/1.1\t200 OK",
        "HTTP/1.1 000 OK",
        "HTTP/1.1 099 OK",
        "HTTP/1.1 200 O\0K",
        "HTTP/1.1 200 O\rK",
        "HTTP/1.1 200\tOK",
        "200 OK",
        "HTTP/1.1 200OK",
    ] {
        cases.push(case(
            format!("the status line {line:?}"),
            "RFC 9112, 4",
            format!("{line}\r\nContent-Length: 2\r\n\r\nok"),
            Want::BadGateway,
        ));
    }
    for length in [
        "x",
        "+2",
        "-2",
        "0x2",
        "2.0",
        "",
        "2 2",
        "99999999999999999999",
        "18446744073709551616",
        "\"2\"",
        "2;",
    ] {
        let answer = ok(&format!("Content-Length: {length}\r\n"), "ok");
        cases.push(case(format!("the length {length:?}"), "RFC 9112, 6.3", answer, Want::BadGateway));
    }
    cases.push(
        case(
            "an invalid but plain status",
            "RFC 9110, 15",
            "HTTP/1.1 799 Odd\r\nContent-Type: text/plain\r\nContent-Length: 2\r\n\r\nok",
            Want::Either(799, "ok"),
        )
        .should()
        .reusable(),
    );
    cases
}

/// How a visitor asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Asking {
    Http1,
    /// ... while the origin's bytes come one by one.
    InBytes,
    Http2,
}

/// What a visitor of HTTP/1.1 gets.
fn hear(subject: &Subject, case: &Case) -> Heard {
    let mut wire = subject.connect();
    wire.send(format!("{} /case HTTP/1.1\r\nHost: site.test\r\nTE: trailers\r\n\r\n", case.method));
    wire.hear(&[case.method], Heard::whole)
}

/// What one of HTTP/2 gets, in the terms of the other: a stream that was ended is a connection that was closed.
fn hear_by_http2(subject: &Subject, case: &Case) -> Heard {
    let request =
        Request::builder().method(case.method).uri("http://site.test/case").header("te", "trailers");
    let answer =
        H2::prior_knowledge(subject.addr).send_to_the_end(request.body(Frames::new(b"", None)).unwrap());
    let whole = answer.as_ref().is_some_and(|(_, whole)| *whole);
    let heard = answer.map(|(answer, whole)| {
        let line =
            |(name, value): (&HeaderName, &HeaderValue)| format!("\r\n{name}: {}", value.to_str().unwrap());
        let head = format!("HTTP/2 {}", answer.status) + &answer.headers.iter().map(line).collect::<String>();
        Answer { status: answer.status, head, body: answer.body.into(), whole }
    });
    Heard { answers: heard.into_iter().collect(), closed: !whole, ..Heard::default() }
}

fn run(subject: &Subject, case: &Case, asking: Asking) -> Verdict {
    let before = subject.origin.mark();
    let in_bytes = asking == Asking::InBytes;
    subject.origin.answer(Some(Script { after: case.after, in_bytes, ..Script::of(&case.answer) }));
    let heard = if asking == Asking::Http2 { hear_by_http2(subject, case) } else { hear(subject, case) };
    subject.origin.answer(None);
    subject.origin.has_written();
    if let Err(what) = subject.echoes() {
        return Verdict::Critical(format!("a fresh client: {what}"));
    }
    // The client's own connection, where it goes on, is clean too.
    let seen = subject.origin.since(before);
    let asked: Vec<_> = seen.iter().filter(|request| request.target() == "/case").collect();
    // What an idle connection loses without a byte of an answer may be asked for again.
    let again = case.answer.is_empty() && asked.len() == 2;
    if asked.len() != 1 && !again {
        return Verdict::Fail(format!("asked {} times", asked.len()));
    }
    if !case.reusable && seen.iter().filter(|request| request.connection == asked[0].connection).count() > 1 {
        return Verdict::Critical("the connection was used again".to_owned());
    }
    let [answer] = &heard.answers[..] else { return Verdict::Fail(format!("{heard:?}")) };
    if let Some(name) = case.lacks.iter().find(|name| !answer.all(name).is_empty()) {
        return Verdict::Fail(format!("{name} passed"));
    }
    let body = String::from_utf8_lossy(&answer.body);
    let whole = |status: u16, text: &str| answer.whole && answer.status == status && body == text;
    let good = match &case.want {
        Want::BadGateway => answer.whole && answer.status == 502 && !body.contains("evil"),
        Want::Cut(status) => {
            answer.status == *status && !answer.whole && heard.closed || answer.status == 502
        }
        Want::Whole(status, text) => whole(*status, text),
        Want::Either(status, text) => answer.status == 502 || whole(*status, text),
    };
    if good { Verdict::Pass } else { Verdict::Fail(format!("{heard:?}")) }
}

fn run_all(title: &str, subject: &Subject, asking: Asking) -> Vec<String> {
    let mut cases = cases();
    cases.retain(|case| asking != Asking::InBytes || case.answer.len() < 4096);
    let run = |case| run(subject, case, asking);
    let verdicts = cases.iter().map(|case| (case.name.as_str(), case.clause, case.level, run(case)));
    super::run_all(&format!("answers, {title}"), verdicts)
}

/// Name, clause and level of each case.
pub fn rows() -> Vec<(String, &'static str, Level)> {
    cases().into_iter().map(|case| (case.name, case.clause, case.level)).collect()
}

/// What a proxy makes of each, in that order.
pub fn verdicts(subject: &Subject) -> Vec<Verdict> {
    cases().iter().map(|case| run(subject, case, Asking::Http1)).collect()
}

/// RFC 9112: ambiguous answers are bad gateways, cut ones stay cut, and nothing of them is kept.
#[test]
fn answers_of_a_hostile_origin_are_refused_or_cut() {
    let (_proxy, subject) = optgate();
    assert_none(&run_all("HTTP/1.1", &subject, Asking::Http1));
}

/// The same for visitors with TLS.
#[test]
fn answers_of_a_hostile_origin_are_refused_or_cut_over_tls() {
    let (_proxy, subject) = optgate_with_tls();
    assert_none(&run_all("HTTP/1.1 over TLS", &subject, Asking::Http1));
}

/// The same for visitors of HTTP/2 (RFC 9113, 8.1).
#[test]
fn answers_of_a_hostile_origin_are_refused_or_cut_over_http2() {
    let (_proxy, subject) = optgate();
    assert_none(&run_all("HTTP/2", &subject, Asking::Http2));
}

/// An answer must not depend on how its bytes arrive.
#[test]
fn answers_are_read_alike_byte_by_byte() {
    let (_proxy, subject) = optgate();
    assert_none(&run_all("byte by byte", &subject, Asking::InBytes));
}

/// Bytes that come later than their answer, on a kept connection, are nobody's answer.
#[test]
fn bytes_that_come_while_nobody_asks_are_nobodys_answer() {
    use std::sync::{Mutex, mpsc};
    let (go, gate) = mpsc::channel::<()>();
    let (sent, done) = mpsc::channel::<()>();
    let (gate, sent) = (Mutex::new(gate), Mutex::new(sent));
    let origin = crate::support::origin::Origin::start().on("/case", move |x| {
        x.ok("text/plain", b"mine")?;
        let _ = gate.lock().unwrap().recv_timeout(crate::support::DEADLINE);
        x.send(EVIL)?;
        let _ = sent.lock().unwrap().send(());
        Ok(())
    });
    let proxy = crate::support::proxy::proxy().to(&origin).run();
    for _ in 0..20 {
        assert_eq!(proxy.get("/case", "").text(), "mine");
        go.send(()).unwrap();
        done.recv_timeout(crate::support::DEADLINE).unwrap();
        for _ in 0..3 {
            assert_eq!(proxy.get("/next", "").text(), "hello");
        }
    }
}
