//! Heads and chunks, changed at random, through the running program to an origin that reads to the letter.
//!
//! Invariants: what reaches the origin is what a strict reader finds in the very bytes that were sent, request by
//! request, up to a point, and nothing else; each is answered with its own answer; what is refused is refused with
//! one answer of the 400s (or 501, 505) and the end; the connection always ends; and a canary, which mostly travels on
//! the same connection to the origin, gets its own answer every time.

use std::sync::Arc;

use super::{Random, rounds};
use crate::conformance::judge::Subject;
use crate::conformance::recorder::{Recorder, Request, strict_request};
use crate::conformance::wire::{Heard, Wire};
use crate::support::DEADLINE;
use crate::support::binary::Binary;
use crate::support::proxy::proxy;

/// What is put in somewhere: bytes that readers disagree about.
const PIECES: [&str; 42] = [
    "\r",
    "\n",
    "\r\n",
    "\r\n\r\n",
    "\n\n",
    "\0",
    "\t",
    " ",
    ":",
    ";",
    ",",
    "\x0b",
    "\x0c",
    "\x7f",
    "\u{80}",
    "\"",
    "0",
    "1",
    "a",
    "f",
    "+",
    "-",
    "_",
    "0x",
    "00",
    "=",
    "chunked",
    "identity",
    "Content-Length: 3\r\n",
    "Content-Length: 0\r\n",
    "Transfer-Encoding: chunked\r\n",
    "Transfer-Encoding: identity\r\n",
    "Host: other.test\r\n",
    "Host: site.test\r\n",
    "Connection: close\r\n",
    "Connection: X-Id\r\n",
    "TE: trailers\r\n",
    " HTTP/1.0",
    "HTTP/1.1",
    "0\r\n\r\n",
    "GET /smuggled HTTP/1.1\r\nHost: site.test\r\n\r\n",
    "5\r\nhello\r\n",
];

/// A request as it should be.
fn request(random: &mut Random, number: usize) -> Vec<u8> {
    let body: Vec<u8> = (0..random.below(60)).map(|_| b"abc \r\n0:"[random.below(8)]).collect();
    let id = format!("X-Id: {number}\r\n");
    let some =
        ["", "Accept: */*\r\n", "Cookie: a=b\r\n", "X-Empty:\r\n", "X-Blank:  b  \r\n"][random.below(5)];
    let head = format!("HTTP/1.1\r\nHost: site.test\r\n{id}{some}");
    match random.below(4) {
        0 => format!("GET /fuzz/{number} {head}\r\n").into_bytes(),
        1 => [format!("POST /fuzz/{number} {head}Content-Length: {}\r\n\r\n", body.len()).as_bytes(), &body]
            .concat(),
        _ => {
            let mut out = format!("PUT /fuzz/{number} {head}Transfer-Encoding: chunked\r\n\r\n").into_bytes();
            for piece in random.cut(&body) {
                let extension = ["", "", ";a=b", ";x=\"y\""][random.below(4)];
                if !piece.is_empty() {
                    out.extend(format!("{:x}{extension}\r\n", piece.len()).bytes());
                    out.extend([piece, b"\r\n"].concat());
                }
            }
            out.extend(["0\r\n\r\n", "0\r\nX-Sum: 1\r\n\r\n", "000;a\r\n\r\n"][random.below(3)].bytes());
            out
        }
    }
}

/// One change somewhere.
fn change(random: &mut Random, bytes: &mut Vec<u8>) {
    let at = random.below(bytes.len() + 1);
    let to = (at + 1 + random.below(8)).min(bytes.len());
    match random.below(6) {
        0 | 1 => drop(bytes.splice(at..at, random.one_of(&PIECES).bytes())),
        2 if at < bytes.len() => bytes[at] = u8::try_from(random.below(256)).unwrap(),
        3 => drop(bytes.drain(at..to)),
        4 => {
            let copy = bytes[at..to].to_vec();
            let place = random.below(bytes.len() + 1);
            bytes.splice(place..place, copy);
        }
        _ => bytes.truncate(bytes.len() - random.below(bytes.len().min(20) + 1)),
    }
}

/// What a strict reader finds, up to the first byte that it cannot read.
fn strictly(mut bytes: &[u8]) -> Vec<Request> {
    let mut all = Vec::new();
    loop {
        // RFC 9112, 2.2: empty lines before a request are passed over.
        while let Some(rest) = bytes.strip_prefix(b"\r\n") {
            bytes = rest;
        }
        match strict_request(bytes) {
            Ok(Some((request, used))) => {
                all.push(request);
                bytes = &bytes[used..];
            }
            _ => return all,
        }
    }
}

fn brief(request: &Request) -> (String, Vec<String>, Vec<u8>) {
    let line = request.line();
    let what = line.rsplit_once(' ').map_or(line.as_str(), |(what, _)| what).to_owned();
    (what, request.all("x-id"), request.body.clone())
}

/// Asks on a kept connection, or on a new one when that has ended.
fn canary(subject: &Subject, kept: &mut Option<Wire>, number: u64) {
    for again in [false, true] {
        let mut wire = kept.take().unwrap_or_else(|| subject.connect());
        wire.be_patient(DEADLINE);
        wire.send(format!("GET /canary/{number} HTTP/1.1\r\nHost: site.test\r\n\r\n"));
        let heard = wire.hear_next(&["GET"], Heard::whole);
        if heard.answers.is_empty() && heard.closed && !again {
            continue;
        }
        let echo = format!("echo GET /canary/{number} HTTP/1.1");
        assert!(
            heard.answers.len() == 1 && heard.answers[0].body == echo.as_bytes(),
            "the canary heard {heard:?}"
        );
        *kept = Some(wire);
        return;
    }
}

/// The program before a recording origin, as a subject of the conformance tests.
pub(super) fn subject() -> (Binary, Subject) {
    let origin = Arc::new(Recorder::start());
    let settings = "[timeouts]\nheader_read = \"5s\"\nbetween_bytes = \"5s\"\n";
    let binary = Binary::start(proxy().upstream(&origin.url()).toml(settings));
    let (addr, patience) = (binary.addr(), DEADLINE);
    (binary, Subject { addr, tls: None, http2: None, origin, patience, exact: true, stamp: "via" })
}

/// The program has said nothing of a panic.
pub(super) fn assert_no_panic(binary: &Binary) {
    let said = binary.said();
    assert!(!said.iter().any(|line| line.contains("panicked")), "{said:#?}");
}

#[test]
fn changed_requests_are_read_as_a_strict_reader_does_or_refused() {
    let (binary, subject) = subject();
    let (mut kept, mut number) = (None, 0);
    let [mut whole, mut refused, mut cut] = [0u64; 3];
    rounds("messages", 2_000, |random| {
        number += 1;
        let count = 1 + random.below(3);
        let mut bytes: Vec<u8> = (0..count).flat_map(|n| request(random, n)).collect();
        for _ in 0..random.below(5) {
            change(random, &mut bytes);
        }
        let mark = subject.origin.mark();
        let mut wire = subject.connect();
        let pieces = if random.once_in(2) { vec![&bytes[..]] } else { random.cut(&bytes) };
        pieces.into_iter().all(|piece| wire.send(piece));
        wire.finish();
        let wanted = strictly(&bytes);
        let methods: Vec<String> =
            wanted.iter().map(|r| r.line().split(' ').next().unwrap_or_default().to_owned()).collect();
        let methods: Vec<&str> = methods.iter().map(String::as_str).collect();
        let heard = wire.hear(&methods, |_| false);
        let sent = String::from_utf8_lossy(&bytes).into_owned();
        assert!(heard.closed, "it never ended: {sent:?}");
        canary(&subject, &mut kept, number);
        assert_eq!(subject.origin.malformed_since(mark), [], "of {sent:?}");
        let mut seen = subject.origin.since(mark);
        seen.retain(|request| !request.target().starts_with("/canary/"));
        assert!(seen.len() <= wanted.len(), "{} requests of {}: {sent:?}", seen.len(), wanted.len());
        for (seen, wanted) in seen.iter().zip(&wanted) {
            let here = brief(seen);
            let mut there = brief(wanted);
            let connection = wanted.all("connection").join(",").to_lowercase();
            if connection.split(',').any(|option| option.trim() == "x-id") {
                there.1.clear();
            }
            assert_eq!(here, there, "of {sent:?}");
        }
        for (n, answer) in heard.answers.iter().enumerate() {
            if let Some(seen) = seen.get(n).filter(|_| answer.status == 200) {
                let echo = if seen.line().starts_with("HEAD ") {
                    String::new()
                } else {
                    format!("echo {}", seen.line())
                };
                assert_eq!(String::from_utf8_lossy(&answer.body), echo, "of {sent:?}");
            }
            let last = n + 1 == heard.answers.len();
            let refusal = (400..500).contains(&answer.status) || matches!(answer.status, 501 | 505);
            assert!(answer.status == 200 || refusal && last, "{} of {sent:?}", answer.status);
        }
        let good = heard.answers.iter().filter(|answer| answer.status == 200).count();
        assert_eq!(good, seen.len(), "every request that arrived is answered: {sent:?}, {heard:?}");
        assert!(heard.rest.is_empty(), "{:?} of {sent:?}", heard.rest);
        match (heard.answers.len() > good, good == wanted.len()) {
            (true, _) => refused += 1,
            (_, true) => whole += 1,
            _ => cut += 1,
        }
    });
    println!("fuzz messages: {whole} served whole, {refused} refused, {cut} ended without a word");
    assert_no_panic(&binary);
    assert_eq!(crate::support::client::get(binary.addr(), "/", "").status(), 200);
}
