//! Optgate as a strict intermediary (RFC 9110, 9112, 9113): raw bytes in, and an origin that keeps what it
//! received. What reached the origin and what the client got is the judge; after every case two fresh clients
//! must get their own answers.
//!
//! The cases are data, a file a topic. The same requests are put to Debian's nginx and HAProxy, side by side.

mod answers;
mod authority;
mod case;
mod chunks;
mod expectations;
mod fields;
mod frames;
mod framing;
mod hop_by_hop;
mod http2;
mod isolation;
mod peers;
mod recorder;
mod request_line;
mod retries;
mod upgrades;
mod wire;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use self::case::{Case, Level, Seen, Want};
use self::recorder::{Recorder, Request};
use self::wire::{Heard, Wire};
use super::support::client::Client;
use super::support::pki::Authority;
use super::support::proxy::{Proxy, proxy};
use super::support::{DEADLINE, wait_until};

/// All cases about requests.
fn requests() -> Vec<Case> {
    let all = [
        request_line::cases(),
        authority::cases(),
        fields::cases(),
        framing::cases(),
        framing::cut_cases(),
        chunks::cases(),
        hop_by_hop::cases(),
        isolation::cases(),
    ];
    all.into_iter().flatten().collect()
}

/// How the bytes of a case go out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sending {
    Whole,
    Bytes,
    /// In two pieces, cut in the middle.
    Halves,
}

/// A proxy that is put to the test, and the origin behind it.
struct Subject {
    addr: SocketAddr,
    tls: Option<Arc<rustls::ClientConfig>>,
    origin: Arc<Recorder>,
    patience: Duration,
    /// Ours is held to the exact status and to closing; others only to what reaches the origin.
    exact: bool,
    /// A field that the proxy puts on every request: what comes without it was no request to the proxy.
    stamp: &'static str,
}

/// What a case came to.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Verdict {
    Pass,
    Fail(String),
    /// One client's bytes became another request or another client's answer.
    Critical(String),
}

impl Subject {
    fn connect(&self) -> Wire {
        match &self.tls {
            Some(config) => Wire::tls(self.addr, config, self.patience),
            None => Wire::tcp(self.addr, self.patience),
        }
    }

    /// Runs one case and looks whether two fresh clients are served.
    fn run(&self, case: &Case, sending: Sending) -> Verdict {
        let before = self.origin.requests().len();
        let malformed = self.origin.malformed().len();
        let heard = self.converse(case, sending);
        if let Err(what) = self.echoes() {
            return Verdict::Critical(format!("a fresh client: {what}; the case's client heard {heard:?}"));
        }
        let seen: Vec<_> =
            self.origin.requests().split_off(before).into_iter().filter(|r| r.target() != ECHO).collect();
        let malformed = self.origin.malformed().split_off(malformed);
        if let Some(request) = seen.iter().find(|request| request.all(self.stamp).is_empty()) {
            return Verdict::Critical(format!("nobody's request at the origin: {:?}", request.line()));
        }
        if seen.iter().any(|request| request.target().contains("smuggled")) {
            return Verdict::Fail(format!("read on behind it: the origin saw {:?}", lines(&seen)));
        }
        if let Some((reason, bytes)) = malformed.first() {
            let text = String::from_utf8_lossy(&bytes[..bytes.len().min(300)]).into_owned();
            return Verdict::Fail(format!("the origin cannot read {reason}: {text:?}"));
        }
        match self.judge(&case.want, &heard, &seen) {
            Ok(()) => Verdict::Pass,
            Err(why) => {
                Verdict::Fail(format!("{why}; heard {}, the origin saw {:?}", brief(&heard), lines(&seen)))
            }
        }
    }

    fn converse(&self, case: &Case, sending: Sending) -> Heard {
        let mut wire = self.connect();
        match sending {
            Sending::Whole => {
                wire.send(&case.bytes);
            }
            Sending::Bytes => wire.send_bytes(&case.bytes),
            Sending::Halves => {
                let (a, b) = case.bytes.split_at(case.bytes.len() / 2);
                wire.send(a);
                // The first half is read on its own: a round trip of somebody else's lies between.
                let _ = self.echoes();
                wire.send(b);
            }
        }
        if case.half_close {
            wire.finish();
        }
        let wanted = match &case.want {
            Want::Forwarded(seen) => seen.len(),
            Want::Answered(_) => 1,
            Want::Either(..) if !self.exact => 1,
            _ => usize::MAX,
        };
        let methods: Vec<_> =
            case.bytes.split(|b| *b == b' ').next().map_or(Vec::new(), |m| vec![m.to_vec()]);
        let methods: Vec<_> = methods.iter().map(|m| String::from_utf8_lossy(m).into_owned()).collect();
        let methods: Vec<_> = methods.iter().map(|m| m.trim()).collect();
        wire.hear(&methods, |heard| {
            heard.answers.iter().filter(|answer| answer.whole).count() >= wanted
                // A refusal is complete with its connection's end; others may keep it open.
                || !self.exact && heard.answers.last().is_some_and(|a| a.whole && a.status >= 400)
        })
    }

    /// Two fresh clients, each with its own echo.
    fn echoes(&self) -> Result<(), String> {
        for _ in 0..2 {
            let mut wire = self.connect();
            wire.be_patient(DEADLINE);
            wire.send(format!("GET {ECHO} HTTP/1.1\r\nHost: site.test\r\n\r\n"));
            let heard = wire.hear(&["GET"], |heard| heard.answers.first().is_some_and(|a| a.whole));
            let good = heard.answers.len() == 1
                && heard.answers[0].status == 200
                && heard.answers[0].body == format!("echo GET {ECHO} HTTP/1.1").as_bytes()
                && heard.rest.is_empty();
            if !good {
                return Err(format!("{heard:?}"));
            }
        }
        Ok(())
    }

    fn judge(&self, want: &Want, heard: &Heard, seen: &[Request]) -> Result<(), String> {
        match want {
            Want::Refused(statuses) => self.refused(statuses, heard, seen),
            Want::Forwarded(requests) => self.forwarded(requests, heard, seen),
            Want::ThenRefused(requests) => {
                let first = heard.answers.len().saturating_sub(1);
                let (answered, refusal) = heard.answers.split_at(first);
                let before = Heard { answers: answered.to_vec(), ..Heard::default() };
                let after = Heard { answers: refusal.to_vec(), ..heard.clone() };
                self.forwarded(requests, &before, seen)?;
                self.refused(&[400], &after, &[])
            }
            Want::Either(statuses, requests) => {
                self.refused(statuses, heard, seen).or_else(|_| self.forwarded(requests, heard, seen))
            }
            Want::Answered(status) => {
                let statuses: Vec<_> = heard.answers.iter().map(|a| a.status).collect();
                if statuses == [*status] && seen.is_empty() { Ok(()) } else { Err(format!("not {status}")) }
            }
            Want::Ended => {
                let fine = heard.answers.iter().all(|a| a.status >= 400) && heard.answers.len() < 2;
                match (fine, heard.closed || !self.exact, seen.is_empty()) {
                    (true, true, true) => Ok(()),
                    _ => Err("not ended".to_owned()),
                }
            }
        }
    }

    fn refused(&self, statuses: &[u16], heard: &Heard, seen: &[Request]) -> Result<(), String> {
        if !seen.is_empty() {
            return Err("reached the origin".to_owned());
        }
        if !self.exact {
            let refused = heard.answers.iter().all(|answer| answer.status >= 400);
            return if refused { Ok(()) } else { Err("not refused".to_owned()) };
        }
        match &heard.answers[..] {
            [answer] if !statuses.contains(&answer.status) => Err(format!("not one of {statuses:?}")),
            [answer] if !answer.whole => Err("the refusal is cut".to_owned()),
            [answer] if !answer.all("connection").iter().any(|c| c == "close") => {
                Err("does not say close".to_owned())
            }
            [_] if !heard.closed => Err("not closed".to_owned()),
            [_] if !heard.rest.is_empty() => Err("bytes behind the refusal".to_owned()),
            [_] => Ok(()),
            _ => Err("not one answer".to_owned()),
        }
    }

    fn forwarded(&self, wanted: &[Seen], heard: &Heard, seen: &[Request]) -> Result<(), String> {
        if seen.len() != wanted.len() {
            return Err(format!("{} requests reached the origin", seen.len()));
        }
        if heard.answers.len() != wanted.len() || heard.answers.iter().any(|a| a.status != 200 || !a.whole) {
            return Err("not answered".to_owned());
        }
        for (wanted, seen) in wanted.iter().zip(seen) {
            self.matches(wanted, seen)?;
        }
        Ok(())
    }

    fn matches(&self, wanted: &Seen, seen: &Request) -> Result<(), String> {
        if seen.line() != wanted.line {
            return Err(format!("the line is {:?}", seen.line()));
        }
        for (name, value) in &wanted.has {
            let value = match value.as_str() {
                "SCHEME" if self.tls.is_some() => "https",
                "SCHEME" => "http",
                value => value,
            };
            // What other proxies say of themselves is not ours to judge.
            let here = seen.all(name);
            if here != [value] {
                return Err(format!("{name} is {here:?}"));
            }
        }
        if let Some(name) = wanted.lacks.iter().find(|name| !seen.all(name).is_empty()) {
            return Err(format!("{name} passed"));
        }
        if wanted.body.as_ref().is_some_and(|body| *body != seen.body) {
            return Err(format!("the body is {:?}", String::from_utf8_lossy(&seen.body)));
        }
        match &wanted.trailers {
            Some(trailers) if *trailers != seen.trailer_lines() => {
                Err(format!("trailers are {:?}", seen.trailer_lines()))
            }
            _ => Ok(()),
        }
    }
}

/// What fresh clients ask for.
const ECHO: &str = "/echo";

fn brief(heard: &Heard) -> String {
    let statuses: Vec<_> = heard.answers.iter().map(|answer| answer.status).collect();
    format!("{statuses:?} closed {} and {} bytes", heard.closed, heard.rest.len())
}

fn lines(seen: &[Request]) -> Vec<String> {
    seen.iter().map(Request::line).collect()
}

/// Passes and cases, by level, and cases where clients' bytes mixed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Totals {
    must: [usize; 2],
    should: [usize; 2],
    critical: usize,
}

impl Totals {
    fn add(&mut self, level: Level, verdict: &Verdict) {
        let counts = if level == Level::Must { &mut self.must } else { &mut self.should };
        counts[0] += usize::from(*verdict == Verdict::Pass);
        counts[1] += 1;
        self.critical += usize::from(matches!(verdict, Verdict::Critical(_)));
    }
}

impl std::fmt::Display for Totals {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let ([must, all_must], [should, all_should]) = (self.must, self.should);
        write!(f, "MUST {must}/{all_must}, SHOULD {should}/{all_should}, critical {}", self.critical)
    }
}

/// Runs cases; prints the totals and what failed.
fn run_all(title: &str, subject: &Subject, cases: &[Case], sending: Sending) -> (Totals, Vec<String>) {
    let mut totals = Totals::default();
    let mut failed = Vec::new();
    for case in cases {
        let verdict = subject.run(case, sending);
        totals.add(case.level, &verdict);
        if verdict != Verdict::Pass {
            failed.push(format!("{} ({}): {verdict:?}", case.name, case.clause));
        }
    }
    println!("conformance, {title}: {} cases, {totals}", cases.len());
    (totals, failed)
}

/// Settings under which a message that never ends is soon given up.
const SHORT: &str = "[timeouts]\nheader_read = \"2s\"\nidle = \"5s\"\nbetween_bytes = \"2s\"\n";

/// Optgate before a recording origin.
fn optgate() -> (Proxy, Subject) {
    let origin = Arc::new(Recorder::start());
    let proxy = proxy().upstream(&origin.url()).toml(SHORT).run();
    let subject = Subject {
        addr: proxy.addr(),
        tls: None,
        origin,
        patience: Duration::from_secs(10),
        exact: true,
        stamp: "via",
    };
    (proxy, subject)
}

fn optgate_with_tls() -> (Proxy, Subject) {
    let (origin, authority) = (Arc::new(Recorder::start()), Authority::new());
    let builder = proxy().upstream(&origin.url());
    let (chain, key) = authority.leaf("site.test").write(builder.dir(), "site");
    let tls = format!(
        "{SHORT}[tls]\nlisten = [\"127.0.0.1:0\"]\n[[tls.certificates]]\nchain = {chain:?}\nkey = {key:?}\n"
    );
    let proxy = builder.toml(&tls).run();
    let config = authority.client(&["http/1.1"]);
    let subject = Subject {
        addr: proxy.tls(),
        tls: Some(config),
        origin,
        patience: Duration::from_secs(10),
        exact: true,
        stamp: "via",
    };
    (proxy, subject)
}

fn assert_none(failed: &[String]) {
    assert!(failed.is_empty(), "{} failed: {failed:#?}", failed.len());
}

/// RFC 9110 and 9112: every case over HTTP/1.1.
#[test]
fn requests_are_read_to_the_letter() {
    let (proxy, subject) = optgate();
    let (_, failed) = run_all("HTTP/1.1", &subject, &requests(), Sending::Whole);
    assert_none(&failed);
    // Nothing of all this is left open.
    wait_for_figure(&proxy, "optgate_connections 0\n");
}

/// Waits until `/metrics` holds a line.
fn wait_for_figure(proxy: &Proxy, line: &str) {
    let admin = proxy.running().admin();
    wait_until(line, || {
        let mut client = Client::connect(admin);
        client.send(format!("GET /metrics HTTP/1.1\r\nHost: {admin}\r\n\r\n"));
        client.response("GET").text().contains(line)
    });
}

/// The same over TLS.
#[test]
fn requests_are_read_to_the_letter_over_tls() {
    let (_proxy, subject) = optgate_with_tls();
    let (_, failed) = run_all("HTTP/1.1 over TLS", &subject, &requests(), Sending::Whole);
    assert_none(&failed);
}

/// A reader must not depend on how bytes arrive: all cases in two pieces, those about framing byte by byte.
#[test]
fn requests_are_read_alike_in_pieces() {
    let (_proxy, subject) = optgate();
    let short = |case: &Case| case.bytes.len() < 4096;
    let all: Vec<_> = requests().into_iter().filter(short).collect();
    let (_, mut failed) = run_all("HTTP/1.1 in halves", &subject, &all, Sending::Halves);
    let framing: Vec<_> = all.into_iter().filter(|case| case.framing).collect();
    failed.extend(run_all("HTTP/1.1 byte by byte", &subject, &framing, Sending::Bytes).1);
    assert_none(&failed);
}

/// What is refused is counted by its reason, and what is refused inside a body too.
#[test]
fn refusals_are_counted_by_reason() {
    let (proxy, subject) = optgate();
    for bytes in [
        "GET / HTTP/1.1\nHost: site.test\n\n",
        "POST / HTTP/1.1\r\nHost: site.test\r\nTransfer-Encoding: chunked\r\n\r\n0x1\r\na\r\n0\r\n\r\n",
    ] {
        let mut wire = subject.connect();
        wire.send(bytes);
        assert_eq!(wire.hear(&["GET"], |_| false).answers[0].status, 400);
    }
    for reason in ["bare_lf", "chunk_size"] {
        let line = format!("optgate_refused_messages_total{{side=\"downstream\",reason=\"{reason}\"}} 1\n");
        wait_for_figure(&proxy, &line);
    }
}
