//! Optgate as a strict intermediary (RFC 9110, 9112, 9113): raw bytes in, and an origin that keeps what it
//! received. What reached the origin and what the client got is the judge; after every case two fresh clients
//! must get their own answers.
//!
//! The cases are data, a file a topic. The same requests are put to Debian's nginx and HAProxy, side by side.

mod answers;
mod authority;
pub mod case;
mod chunks;
mod expectations;
mod fields;
pub mod frames;
mod framing;
mod hop_by_hop;
mod http2;
mod http2_answers;
mod http2_retries;
mod isolation;
pub mod judge;
mod peers;
pub mod recorder;
mod request_line;
mod retries;
mod upgrades;
pub mod wire;

use std::sync::Arc;
use std::time::Duration;

use self::case::{Case, Level};
use self::judge::{Sending, Subject, Totals, Verdict, lines};
use self::recorder::{After, Recorder, Script};
use super::support::pki::Authority;
use super::support::proxy::{Proxy, proxy};
use super::support::wait_until;

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

/// Goes through cases with their names, clauses, levels and verdicts; prints the totals and gives what failed.
fn run_all<'a>(title: &str, cases: impl Iterator<Item = (&'a str, &'a str, Level, Verdict)>) -> Vec<String> {
    let (mut totals, mut failed) = (Totals::default(), Vec::new());
    for (name, clause, level, verdict) in cases {
        totals.add(level, &verdict);
        if verdict != Verdict::Pass {
            failed.push(format!("{name} ({clause}): {verdict:?}"));
        }
    }
    println!("conformance, {title}: {} cases, {totals}", totals.must[1] + totals.should[1]);
    failed
}

/// Puts requests to a proxy; gives what failed.
fn put(title: &str, subject: &Subject, cases: &[Case], sending: Sending) -> Vec<String> {
    let run = |case| subject.run(case, sending);
    run_all(title, cases.iter().map(|case| (case.name.as_str(), case.clause, case.level, run(case))))
}

/// Settings under which a message that never ends is soon given up.
const SHORT: &str = "[timeouts]\nheader_read = \"2s\"\nidle = \"5s\"\nbetween_bytes = \"2s\"\n";

/// Optgate before a recording origin.
pub fn optgate() -> (Proxy, Subject) {
    let origin = Arc::new(Recorder::start());
    let proxy = proxy().upstream(&origin.url()).toml(SHORT).run();
    let subject = Subject {
        addr: proxy.addr(),
        tls: None,
        http2: None,
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
    // Without the name in the handshake no host is another than its own (421).
    let nameless = |protocol| {
        let mut config = (*authority.client(&[protocol])).clone();
        config.enable_sni = false;
        Arc::new(config)
    };
    let subject = Subject {
        addr: proxy.tls(),
        tls: Some(nameless("http/1.1")),
        http2: Some(nameless("h2")),
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
    assert_none(&put("HTTP/1.1", &subject, &requests(), Sending::Whole));
    // Nothing of all this is left open.
    wait_for_figure(&proxy, "optgate_connections 0\n");
}

/// Waits until the metrics hold a line.
fn wait_for_figure(proxy: &Proxy, line: &str) {
    wait_until(line, || proxy.running().metrics().render().contains(line));
}

/// The same over TLS.
#[test]
fn requests_are_read_to_the_letter_over_tls() {
    let (_proxy, subject) = optgate_with_tls();
    assert_none(&put("HTTP/1.1 over TLS", &subject, &requests(), Sending::Whole));
}

/// A reader must not depend on how bytes arrive: all cases in two pieces, those about framing byte by byte.
#[test]
fn requests_are_read_alike_in_pieces() {
    let (_proxy, subject) = optgate();
    let short = |case: &Case| case.bytes.len() < 4096;
    let all: Vec<_> = requests().into_iter().filter(short).collect();
    let mut failed = put("HTTP/1.1 in halves", &subject, &all, Sending::Halves);
    let framing: Vec<_> = all.into_iter().filter(|case| case.framing).collect();
    failed.extend(put("HTTP/1.1 byte by byte", &subject, &framing, Sending::Bytes));
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
    let answer = "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\na";
    subject.origin.answer(Some(Script { after: After::Close, ..Script::of(answer) }));
    let mut wire = subject.connect();
    wire.send(case::get(""));
    assert_eq!(wire.hear(&["GET"], |heard| !heard.answers.is_empty()).answers[0].status, 502);
    for (side, reason) in
        [("downstream", "bare_lf"), ("downstream", "chunk_size"), ("upstream", "repeated_length")]
    {
        let line = format!("optgate_refused_messages_total{{side=\"{side}\",reason=\"{reason}\"}} 1\n");
        wait_for_figure(&proxy, &line);
    }
}
