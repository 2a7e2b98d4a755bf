//! No byte of one visitor's answer is ever another's.
//!
//! Many visitors over kept connections, HTTP/1.1 and HTTP/2, each ask for bodies that name visitor and request; one in
//! twenty leaves in the middle of an answer. CI asks 20,000 times; `OPTGATE_ISOLATION=1000000` asks as often as wanted.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use super::support::h2::{Answer, H2};
use super::support::origin::{Exchange, Origin};
use super::support::proxy::{Proxy, proxy};
use super::support::random::Random;

/// Visitors with a connection of HTTP/1.1 each, and with one of HTTP/2.
const VISITORS: [u64; 2] = [34, 22];

/// Streams that an HTTP/2 visitor opens at once.
const AT_ONCE: u64 = 8;

const PATHS: [&str; 3] = ["/text", "/chunks", "/page"];

/// How often a body names its visitor and request: from a few bytes to more than one piece of an HTTP/2 stream.
const TIMES: [usize; 5] = [1, 40, 700, 3, 2_500];

/// What names a request, as a target has it and as the body has it.
fn name(visitor: u64, number: u64) -> String {
    format!("v{visitor}-r{number}")
}

fn target(visitor: u64, number: u64) -> String {
    format!("{}?{}", PATHS[usize::try_from(number % 3).unwrap()], name(visitor, number))
}

/// The body of a text, by the request's name.
fn text(name: &str) -> Vec<u8> {
    let number: usize = name.rsplit('r').next().unwrap().parse().unwrap();
    format!("{name};").repeat(TIMES[number % TIMES.len()]).into_bytes()
}

/// The name in the target that the origin was asked for.
fn asked(x: &Exchange<'_>) -> String {
    let line = x.request().line();
    line.split(['?', ' ']).nth(2).unwrap_or_default().to_owned()
}

fn origin() -> Origin {
    Origin::start()
        .forgetting()
        .on("/text", |x| {
            let body = text(&asked(x));
            x.ok("text/plain", &body)
        })
        .on("/chunks", |x| {
            x.send("HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nTransfer-Encoding: chunked\r\n\r\n")?;
            for piece in text(&asked(x)).chunks(4_000) {
                x.chunk(piece)?;
            }
            x.send("0\r\n\r\n")
        })
        .on("/page", |x| {
            let name = asked(x);
            let named = format!("<p title=\"{name};\">{name};</p>").repeat(20);
            let page = format!(
                "<!doctype html><html><head><title>{name};</title>\
                 <script src=\"https://connect.facebook.net/{name};\"></script></head><body>{named}</body></html>"
            );
            x.ok("text/html", page.as_bytes())
        })
}

/// What has been asked so far, and what was another's.
#[derive(Default)]
struct Tally {
    cases: AtomicU64,
    left: AtomicU64,
    crossings: Mutex<Vec<String>>,
}

impl Tally {
    /// Looks at a body, or at its beginning.
    fn check(&self, visitor: u64, number: u64, body: &[u8], whole: bool) {
        self.cases.fetch_add(1, Ordering::Relaxed);
        let own = name(visitor, number);
        let right = match number % 3 {
            2 => {
                let said = String::from_utf8_lossy(body);
                // A beginning may end within a name.
                let said = if whole { &said[..] } else { said.rsplit_once(';').map_or("", |(said, _)| said) };
                let said = format!("{said};");
                // Forty in the body, one in the title; where a tracker's address goes is another test's matter.
                let names = said.matches(&format!("{own};")).count();
                let own = format!("{};", &own[1..]);
                let foreign = said.split('v').skip(1).any(|rest| is_name(rest) && !rest.starts_with(&own));
                !foreign && (!whole || names >= 41)
            }
            _ if whole => body == text(&own),
            _ => text(&own).starts_with(body),
        };
        if !right {
            let said = String::from_utf8_lossy(&body[..body.len().min(300)]).into_owned();
            self.crossings.lock().unwrap().push(format!("{own}, whole {whole}: {said}"));
        }
    }
}

/// Whether what follows a `v` is the rest of a name.
fn is_name(rest: &str) -> bool {
    let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
    digits > 0 && rest[digits..].starts_with("-r")
}

const FIELDS: &str = "Sec-GPC: 1\r\nAccept: text/html\r\nSec-Fetch-Dest: document\r\n";

fn over_http1(proxy: &Proxy, tally: &Tally, visitor: u64, requests: u64) {
    let (mut client, mut random) = (proxy.client(), Random(visitor + 1));
    for number in 0..requests {
        let target = target(visitor, number);
        client.send(format!("GET {target} HTTP/1.1\r\nHost: site.test\r\n{FIELDS}\r\n"));
        let head = client.final_head();
        assert_eq!(head.status, 200, "{target}");
        if random.below(20) == 0 {
            let begun = match head.one("transfer-encoding") {
                Some(_) => client.chunk().unwrap_or_default(),
                None => client.take(3),
            };
            tally.check(visitor, number, &begun, false);
            tally.left.fetch_add(1, Ordering::Relaxed);
            client = proxy.client();
        } else {
            let (body, _) = client.body(&head, "GET");
            tally.check(visitor, number, &body, true);
        }
    }
}

fn over_http2(proxy: &Proxy, tally: &Tally, visitor: u64, requests: u64) {
    let (mut client, mut random) = (H2::prior_knowledge(proxy.addr()), Random(visitor + 1));
    for first in (0..requests).step_by(usize::try_from(AT_ONCE).unwrap()) {
        let numbers: Vec<u64> = (first..requests.min(first + AT_ONCE)).collect();
        let url = |number| format!("http://site.test{}", target(visitor, number));
        let (leaves, stays): (Vec<u64>, Vec<u64>) = numbers.into_iter().partition(|_| random.below(20) == 0);
        for number in &leaves {
            // Its stream is reset as soon as its head is there, beside the others.
            client.begin(&url(*number));
            tally.cases.fetch_add(1, Ordering::Relaxed);
            tally.left.fetch_add(1, Ordering::Relaxed);
        }
        let urls: Vec<String> = stays.iter().map(|number| url(*number)).collect();
        let answers: Vec<Answer> = client.get_all(&urls, &[("sec-gpc", "1"), ("accept", "text/html")]);
        for (number, answer) in stays.into_iter().zip(answers) {
            assert_eq!(answer.status, 200, "{}", url(number));
            tally.check(visitor, number, &answer.body, true);
        }
    }
}

#[test]
fn no_byte_of_one_visitors_answer_is_anothers() {
    let requests = std::env::var("OPTGATE_ISOLATION").ok().and_then(|n| n.parse().ok()).unwrap_or(20_000);
    let proxy = proxy()
        .to(&origin())
        .replacing("workers = 1", "workers = 2")
        .toml("[limits]\nhttp2_resets = 1000000\nhttp2_control_frames = 1000000\n")
        .run();
    let (tally, each) = (Tally::default(), requests / VISITORS.iter().sum::<u64>() + 1);
    thread::scope(|scope| {
        let (proxy, tally) = (&proxy, &tally);
        for visitor in 0..VISITORS[0] {
            scope.spawn(move || over_http1(proxy, tally, visitor, each));
        }
        for visitor in VISITORS[0]..VISITORS.iter().sum() {
            scope.spawn(move || over_http2(proxy, tally, visitor, each));
        }
    });
    let (cases, left) = (tally.cases.into_inner(), tally.left.into_inner());
    let crossings = tally.crossings.into_inner().unwrap();
    println!("isolation: {cases} cases, {left} left in the middle, {} crossings", crossings.len());
    assert!(crossings.is_empty(), "{crossings:#?}");
    assert!(cases >= requests && left > cases / 40, "{cases} cases, {left} left");
}

/// The judge itself: a foreign name anywhere, a missing one, a byte too many.
#[test]
fn the_look_at_a_body_sees_what_is_anothers() {
    let found = |number, body: &[u8], whole| {
        let tally = Tally::default();
        tally.check(3, number, body, whole);
        tally.crossings.into_inner().unwrap().len()
    };
    let own = text("v3-r1");
    assert_eq!((found(1, &own, true), found(1, &own[..7], false)), (0, 0));
    assert_eq!((found(1, &own[1..], true), found(1, b"v4-r1;", false)), (1, 1));
    let page = |name: &str| "v3-r2;".repeat(41) + name;
    assert_eq!((found(2, page("").as_bytes(), true), found(2, page("v3-r20;").as_bytes(), true)), (0, 1));
    assert_eq!((found(2, page("v13-r2;").as_bytes(), false), found(2, b"v3-r2;v3-", false)), (1, 0));
    assert_eq!(found(2, b"v3-r2;", true), 1);
}
