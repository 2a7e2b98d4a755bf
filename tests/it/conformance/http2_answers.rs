//! Answers of a hostile HTTP/2 origin, frame by frame (RFC 9113): refused with 502 or cut where they went wrong,
//! never a wrong byte, and whoever asks next is served.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use super::SHORT;
use super::wire::{Heard, Wire};
use crate::support::binary::Binary;
use crate::support::client::get;
use crate::support::frames::{
    self, CONTINUATION, DATA, END_HEADERS, END_STREAM, Field, GOAWAY, HEADERS, PADDED, PING, RST_STREAM,
    SETTINGS, Then, WINDOW_UPDATE, data, frame, head, hello_of, raw_head, section,
};
use crate::support::h2::H2;
use crate::support::proxy::proxy;
use crate::support::{DEADLINE, wait_until};

/// What the visitor must get.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Want {
    BadGateway,
    /// A status of 200, then a body that is never whole; or 502.
    Cut,
    /// 200 and `ok`.
    Whole,
    /// 200 and `hello`: asked once more, because the origin said that it had done nothing (RFC 9113, 8.7).
    Again,
    /// 502; or as `Again`, where the connection had been idle and may have broken before it was asked (RFC 9110,
    /// 9.2.2): that is told by the clock.
    Broken,
    /// Any of these, or 504: what the standard leaves open, or must only be outlasted.
    Safe,
}

struct Case {
    name: &'static str,
    method: &'static str,
    want: Want,
    /// Frames for a stream.
    frames: Box<dyn Fn(u32) -> Vec<u8> + Send + Sync>,
    then: Then,
}

fn case(name: &'static str, want: Want, frames: impl Fn(u32) -> Vec<u8> + Send + Sync + 'static) -> Case {
    Case { name, method: "GET", want, frames: Box::new(frames), then: Then::Keeps }
}

impl Case {
    fn closes(self) -> Self {
        Self { then: Then::Closes, ..self }
    }

    fn head(self) -> Self {
        Self { method: "HEAD", ..self }
    }
}

/// `ok`, whole.
fn good(stream: u32) -> Vec<u8> {
    [head(stream, &[(b"content-type", b"text/plain")], false), data(stream, b"ok", true)].concat()
}

fn heads() -> Vec<Case> {
    let bad = |name, fields: &'static [Field<'static>]| {
        case(name, Want::BadGateway, move |s| [raw_head(s, fields, false), data(s, b"evil", true)].concat())
    };
    vec![
        bad("no status", &[(b"x-a", b"b")]),
        bad("two statuses", &[(b":status", b"200"), (b":status", b"404")]),
        bad("a status that is none", &[(b":status", b"abc")]),
        bad("a status of two digits", &[(b":status", b"20")]),
        bad("a status of four digits", &[(b":status", b"2000")]),
        bad("a switch of protocols", &[(b":status", b"101")]),
        bad("a pseudo-field behind a field", &[(b"x-a", b"b"), (b":status", b"200")]),
        bad("a name in capitals", &[(b":status", b"200"), (b"X-A", b"b")]),
        bad("a name with a blank", &[(b":status", b"200"), (b"x a", b"b")]),
        bad("a line end in a value", &[(b":status", b"200"), (b"x-a", b"b\r\nx-evil: 1")]),
        bad("NUL in a value", &[(b":status", b"200"), (b"x-a", b"b\0c")]),
        bad("Connection", &[(b":status", b"200"), (b"connection", b"close")]),
        bad("Transfer-Encoding", &[(b":status", b"200"), (b"transfer-encoding", b"chunked")]),
        bad("two lengths", &[(b":status", b"200"), (b"content-length", b"4"), (b"content-length", b"5")]),
        bad("a length that is none", &[(b":status", b"200"), (b"content-length", b"x")]),
        bad("an empty length", &[(b":status", b"200"), (b"content-length", b"")]),
        bad("a length of 00", &[(b":status", b"200"), (b"content-length", b"00")]),
        bad("a length that begins with 0", &[(b":status", b"200"), (b"content-length", b"04")]),
        bad("a blank before a value", &[(b":status", b"200"), (b"x-a", b" b")]),
        bad("a blank behind a value", &[(b":status", b"200"), (b"x-a", b"b\t")]),
        bad("a request's pseudo-field", &[(b":status", b"200"), (b":path", b"/evil")]),
        bad("a pseudo-field that nobody knows", &[(b":status", b"200"), (b":evil", b"1")]),
        case("an interim answer without end", Want::BadGateway, |s| {
            [raw_head(s, &[(b":status", b"103")], true), good(s)].concat()
        }),
        case("an interim answer first", Want::Whole, |s| {
            [raw_head(s, &[(b":status", b"103")], false), good(s)].concat()
        }),
        case("interim answers by the thousand", Want::Safe, |s| {
            [raw_head(s, &[(b":status", b"103")], false).repeat(5_000), good(s)].concat()
        }),
    ]
}

fn bodies() -> Vec<Case> {
    vec![
        case("a good answer", Want::Whole, good),
        case("a good answer with padding", Want::Whole, |s| {
            [head(s, &[], false), frame(DATA, PADDED | END_STREAM, s, b"\x03ok\0\0\0")].concat()
        }),
        case("less than its length", Want::Cut, |s| {
            [head(s, &[(b"content-length", b"9")], false), data(s, b"ok", true)].concat()
        }),
        case("more than its length", Want::Cut, |s| {
            [head(s, &[(b"content-length", b"1")], false), data(s, b"ok", true)].concat()
        }),
        case("a length of 0 and more", Want::Cut, |s| {
            [head(s, &[(b"content-length", b"0")], false), data(s, b"evil", true)].concat()
        }),
        case("a length and nothing", Want::Cut, |s| head(s, &[(b"content-length", b"9")], true)),
        case("reset before its head", Want::BadGateway, |s| frame(RST_STREAM, 0, s, &2u32.to_be_bytes())),
        case("refused", Want::Again, |s| frame(RST_STREAM, 0, s, &7u32.to_be_bytes())),
        case("reset in its body", Want::Cut, |s| {
            [head(s, &[], false), data(s, b"ok", false), frame(RST_STREAM, 0, s, &2u32.to_be_bytes())]
                .concat()
        }),
        case("reset in its body without an error", Want::Cut, |s| {
            [head(s, &[], false), data(s, b"ok", false), frame(RST_STREAM, 0, s, &0u32.to_be_bytes())]
                .concat()
        }),
        case("reset behind its end", Want::Whole, |s| {
            [good(s), frame(RST_STREAM, 0, s, &0u32.to_be_bytes())].concat()
        }),
        case("data behind its end", Want::Safe, |s| [good(s), data(s, b"evil", true)].concat()),
        case("a second answer behind its end", Want::Safe, |s| [good(s), good(s)].concat()),
        case("data before its head", Want::BadGateway, |s| [data(s, b"evil", false), good(s)].concat()),
        case("data of the connection's own", Want::BadGateway, |s| {
            [data(0, b"evil", false), good(s)].concat()
        }),
        case("an answer to nobody", Want::Safe, |s| [good(s + 2), good(s)].concat()),
        case("an answer on a stream of its own", Want::Safe, |s| [good(2), good(s)].concat()),
        case("a promise", Want::BadGateway, |s| {
            let promised =
                [&2u32.to_be_bytes()[..], &section(&[(b":method", b"GET"), (b":path", b"/evil")])].concat();
            [frame(5, END_HEADERS, s, &promised), good(s)].concat()
        }),
        case("padding longer than its frame", Want::BadGateway, |s| {
            [frame(HEADERS, END_HEADERS | PADDED, s, b"\xffx"), good(s)].concat()
        }),
        case("a frame larger than any", Want::Cut, |s| {
            [head(s, &[], false), data(s, &[b'x'; 20_000], true)].concat()
        }),
        case("more than the window", Want::Cut, |s| {
            [head(s, &[], false), data(s, &[b'x'; 16_384], false).repeat(1_000), data(s, b"", true)].concat()
        }),
        case("cut in its body", Want::Cut, |s| [head(s, &[], false), data(s, b"ok", false)].concat())
            .closes(),
        case("cut in a frame", Want::Cut, |s| {
            let cut = data(s, b"ok and more", true);
            [head(s, &[], false), cut[..12].to_vec()].concat()
        })
        .closes(),
        case("cut in its head", Want::Broken, |s| good(s)[..11].to_vec()).closes(),
        case("nothing", Want::Broken, |_| Vec::new()).closes(),
        case("silence", Want::Safe, |_| Vec::new()),
        case("HTTP/1.1", Want::BadGateway, |_| b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil".to_vec()),
        case("garbage", Want::BadGateway, |_| (0..2_000u32).map(|n| (n * 7_919 % 251) as u8).collect()),
        case("a 204 with data", Want::Safe, |s| {
            [raw_head(s, &[(b":status", b"204")], false), data(s, b"evil", true)].concat()
        }),
        case("a HEAD with data", Want::Safe, |s| [head(s, &[], false), data(s, b"evil", true)].concat())
            .head(),
        case("a HEAD with a length", Want::Safe, |s| head(s, &[(b"content-length", b"9")], true)).head(),
        case("goodbye before an answer", Want::Again, |_| frame(GOAWAY, 0, 0, &[0; 8])).closes(),
        case("goodbye and an answer", Want::Whole, |s| {
            [frame(GOAWAY, 0, 0, &[&s.to_be_bytes()[..], &[0; 4]].concat()), good(s)].concat()
        }),
    ]
}

fn trailers() -> Vec<Case> {
    let with = |name, want, fields: &'static [Field<'static>]| {
        case(name, want, move |s| {
            [head(s, &[], false), data(s, b"ok", false), raw_head(s, fields, true)].concat()
        })
    };
    vec![
        with("trailers", Want::Whole, &[(b"x-sum", b"1")]),
        with("a pseudo-field in trailers", Want::Cut, &[(b":status", b"500")]),
        with("a request's pseudo-field in trailers", Want::Cut, &[(b":path", b"/evil")]),
        with("a length in trailers", Want::Safe, &[(b"content-length", b"9")]),
        with("a cookie in trailers", Want::Safe, &[(b"set-cookie", b"evil=1")]),
        with("Connection in trailers", Want::Cut, &[(b"connection", b"evil")]),
        with("a blank before a value in trailers", Want::Cut, &[(b"x-a", b" b")]),
        with("a blank behind a value in trailers", Want::Cut, &[(b"x-a", b"b\t")]),
        with("a name in capitals in trailers", Want::Cut, &[(b"X-Evil", b"1")]),
        with("a line end in trailers", Want::Cut, &[(b"x-a", b"b\r\nx-evil: 1")]),
        case("trailers that do not end", Want::Cut, |s| {
            let open = raw_head(s, &[(b"x-evil", b"1")], false);
            [head(s, &[], false), data(s, b"ok", false), open, data(s, b"evil", true)].concat()
        }),
    ]
}

fn floods() -> Vec<Case> {
    // One large field in the table, named again and again by one octet (CVE-2026-49975).
    let mut bomb = section(&[(b":status", b"200")]);
    bomb.extend([&[0x40, 1, b'a', 0x7f][..], &[0xa1, 0x1e], &[b'x'; 4_000]].concat());
    bomb.extend(vec![0xbe; 10_000]);
    let endless = |stream: u32, piece: &[u8]| {
        let open = frame(HEADERS, 0, stream, &section(&[(b":status", b"200")]));
        [open, frame(CONTINUATION, 0, stream, piece).repeat(3_000)].concat()
    };
    vec![
        case("a bomb of fields", Want::BadGateway, move |s| {
            [frame(HEADERS, END_HEADERS, s, &bomb), data(s, b"evil", true)].concat()
        }),
        case("fields by the megabyte", Want::BadGateway, |s| {
            let open = frame(HEADERS, 0, s, &section(&[(b":status", b"200")]));
            let piece = section(&[(b"x-a", &[b'x'; 16_000])]);
            [open, frame(CONTINUATION, 0, s, &piece).repeat(100), frame(CONTINUATION, END_HEADERS, s, b"")]
                .concat()
        }),
        case("continuations without end", Want::Safe, move |s| endless(s, &section(&[(b"a", b"b")]))),
        case("empty continuations without end", Want::Safe, move |s| endless(s, b"")),
        case("pings", Want::Safe, |s| [frame(PING, 0, 0, &[7; 8]).repeat(20_000), good(s)].concat()),
        case("settings", Want::Safe, |s| {
            [frame(SETTINGS, 0, 0, &[0, 4, 0, 0, 255, 255]).repeat(20_000), good(s)].concat()
        }),
        case("windows", Want::Safe, |s| {
            [frame(WINDOW_UPDATE, 0, 0, &1u32.to_be_bytes()).repeat(20_000), good(s)].concat()
        }),
        case("a window too wide", Want::Safe, |s| {
            [frame(WINDOW_UPDATE, 0, s, &0x7fff_ffff_u32.to_be_bytes()).repeat(2), good(s)].concat()
        }),
        case("empty data", Want::Safe, |s| {
            [head(s, &[], false), data(s, b"", false).repeat(20_000), data(s, b"ok", true)].concat()
        }),
        case("unknown frames", Want::Safe, |s| [frame(0xfa, 0, s, b"x").repeat(20_000), good(s)].concat()),
        case("resets of streams that were never", Want::Safe, |s| {
            let resets = (0..5_000u32).flat_map(|n| frame(RST_STREAM, 0, 101 + 2 * n, &8u32.to_be_bytes()));
            resets.chain(good(s)).collect()
        }),
    ]
}

type Script = Arc<Mutex<Option<Arc<Case>>>>;

/// An origin that answers the next request as a case says, and others with `hello`.
fn origin() -> (SocketAddr, Script) {
    let script = Script::default();
    let told = Arc::clone(&script);
    let addr = frames::origin(move |stream| {
        let case = told.lock().unwrap().take();
        case.map_or_else(|| (hello_of(stream), Then::Keeps), |case| ((case.frames)(stream), case.then))
    });
    (addr, script)
}

/// Whether this is what a case wants; `None`: the body was never whole.
fn is_wanted(case: &Case, status: u16, body: Option<&[u8]>) -> bool {
    let failed = matches!(status, 502 | 504) && body.is_some();
    let cut = status == 200 && body.is_none();
    // What a HEAD or a 204 has behind its head is nobody's.
    let bodiless = case.method == "HEAD" && status == 200 || status == 204;
    let (bad_gateway, again) = (status == 502 && body.is_some(), status == 200 && body == Some(b"hello"));
    let whole = status == 200 && body == Some(b"ok") || bodiless && body == Some(b"");
    match case.want {
        Want::BadGateway => bad_gateway,
        Want::Cut => cut || status == 502,
        Want::Whole => whole,
        Want::Again => again,
        Want::Broken => bad_gateway || again,
        Want::Safe => failed || cut || whole,
    }
}

/// RFC 9113, 8.1.1 and 10: for visitors of HTTP/1.1 and of HTTP/2.
#[test]
fn answers_of_a_hostile_http2_origin_are_refused_or_cut() {
    let (addr, script) = origin();
    let binary = Binary::start(
        proxy().upstream(&format!("h2c://{addr}")).toml(&format!("{SHORT}first_byte = \"3s\"\n")),
    );
    let mut failed = Vec::new();
    let mut count = 0;
    assert_eq!(get(binary.addr(), "/", "").text(), "hello");
    let memory = binary.memory("RssAnon");
    for case in [heads(), bodies(), trailers(), floods()].into_iter().flatten() {
        let case = Arc::new(case);
        count += 1;
        *script.lock().unwrap() = Some(Arc::clone(&case));
        let mut wire = Wire::tcp(binary.addr(), DEADLINE);
        let close = "TE: trailers\r\nConnection: close\r\n";
        wire.send(format!("{} / HTTP/1.1\r\nHost: site.test\r\n{close}\r\n", case.method));
        let heard: Heard = wire.hear(&[case.method], |_| false);
        *script.lock().unwrap() = None;
        let evil = format!("{heard:?}").to_lowercase().contains("evil");
        let fine = heard.closed && !evil && heard.rest.is_empty() && heard.answers.len() == 1 && {
            let answer = &heard.answers[0];
            is_wanted(&case, answer.status, answer.whole.then_some(&answer.body[..]))
        };
        if !fine {
            failed.push(format!("{} over HTTP/1.1: not {:?} but {heard:?}", case.name, case.want));
        }
        *script.lock().unwrap() = Some(Arc::clone(&case));
        let mut h2 = H2::prior_knowledge(binary.addr());
        let request = http::Request::builder().method(case.method).uri("http://site.test/");
        let answer = h2.try_send(request.body(crate::support::h2::Frames::new(b"", None)).unwrap());
        *script.lock().unwrap() = None;
        let evil = format!("{answer:?}").to_lowercase().contains("evil");
        let fine = !evil
            && match &answer {
                Ok(answer) => is_wanted(&case, answer.status, Some(&answer.body)),
                Err(_) => is_wanted(&case, 200, None),
            };
        if !fine {
            failed.push(format!("{} over HTTP/2: not {:?} but {answer:?}", case.name, case.want));
        }
        for _ in 0..2 {
            let next = get(binary.addr(), "/", "");
            if next.text() != "hello" {
                failed.push(format!("behind {}: {next:?}", case.name));
            }
        }
    }
    println!("conformance, answers over HTTP/2: {count} cases, each for two visitors");
    assert!(failed.is_empty(), "{} failed: {failed:#?}", failed.len());
    wait_until("memory is back", || binary.memory("RssAnon") < memory + 64 * 1024);
    let said = binary.said();
    assert!(!said.iter().any(|line| line.contains("panicked")), "{said:#?}");
}

/// RFC 9113, 8.1.1: what is said to be empty is whole with its end, and not with its head, however late more of it
/// comes: here with the next answer.
#[test]
fn an_answer_that_is_said_to_be_empty_is_whole_with_its_end() {
    for (late, whole) in [(&b""[..], true), (b"evil", false)] {
        let first = Arc::new(Mutex::new(None));
        let empty: [Field<'_>; 2] = [(b"content-type", b"text/plain"), (b"content-length", b"0")];
        let addr = frames::origin(move |stream| {
            let mut first = first.lock().unwrap();
            let frames = match *first {
                None => head(*first.insert(stream), &empty, false),
                Some(first) => [data(first, late, true), hello_of(stream)].concat(),
            };
            (frames, Then::Keeps)
        });
        let proxy = proxy().upstream(&format!("h2c://{addr}")).run();
        let mut wire = Wire::tcp(proxy.addr(), DEADLINE);
        wire.send("GET /empty HTTP/1.1\r\nHost: site.test\r\nConnection: close\r\n\r\n");
        let begun = wire.hear(&["GET"], |heard| !heard.answers.is_empty());
        assert!(!begun.closed && !begun.answers[0].whole, "{begun:?}");
        assert_eq!(get(proxy.addr(), "/next", "").text(), "hello");
        let heard = wire.hear(&["GET"], |_| false);
        assert!(heard.closed, "{heard:?}");
        assert_eq!(
            (heard.answers[0].whole, heard.answers[0].body.as_slice()),
            (whole, &b""[..]),
            "{heard:?}"
        );
    }
}
