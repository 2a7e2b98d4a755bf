//! Twenty upgrades and twenty reloads under load, and nobody notices.
//!
//! Not one failed request in 20 upgrades and 20 reloads at 1,000 requests a second or more, half
//! on new connections, with slow downloads and a WebSocket open. A debug build beside other tests is asked 200 times a
//! second. The whole of it, of a release build:
//!
//! `OPTGATE_PROGRAM=target/release/optgate OPTGATE_RATE=1200 cargo test --test it seamless -- --nocapture`

use std::collections::HashMap;
use std::io::{Read, Write};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::thread;
use std::time::Duration;

use rustix::process::Signal;
use tokio::task::JoinHandle;

use super::support::binary::{Binary, own_address, serving};
use super::support::client::{Client, SOCKET, TlsClient};
use super::support::origin::{Exchange, Origin, echoes};
use super::support::paced::{Door, Load, Matter, Way, time};
use super::support::pki::Authority;
use super::support::proxy::proxy;
use super::support::{DEADLINE, Ends, edit, wait_until};

/// Upgrades and reloads, one after the other in turn.
const EVENTS: usize = 40;

/// Requests a second, unless `OPTGATE_RATE` says otherwise.
const RATE: u32 = 200;

/// Words that a WebSocket has under way at a time.
const WORDS: u64 = 16;

/// How many events are over: a download gets a piece for each.
#[derive(Default)]
struct Events {
    over: Mutex<usize>,
    changed: Condvar,
}

impl Events {
    fn one_more(&self) {
        *self.over.lock().unwrap() += 1;
        self.changed.notify_all();
    }

    /// False when it takes too long.
    fn wait_for(&self, count: usize) -> bool {
        let over = self.over.lock().unwrap();
        !self.changed.wait_timeout_while(over, DEADLINE * 4, |over| *over < count).unwrap().1.timed_out()
    }
}

fn piece(event: usize) -> String {
    format!("after event {event};")
}

/// The pieces of a download that begins after `from` events and ends after `upto`.
fn pieces(from: usize, upto: usize) -> String {
    (from..=upto).map(piece).collect()
}

/// `/slow?FROM-UPTO`: a piece after each of these events.
fn slow(events: &Events, x: &mut Exchange<'_>) -> std::io::Result<()> {
    let line = x.request().line();
    let range = line.split(['?', ' ']).nth(2).and_then(|range| range.split_once('-')).unwrap();
    let [from, upto] = [range.0, range.1].map(|number| number.parse::<usize>().unwrap());
    x.send("HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nTransfer-Encoding: chunked\r\n\r\n")?;
    for event in from..=upto {
        if !events.wait_for(event) {
            return Err(std::io::ErrorKind::TimedOut.into());
        }
        x.chunk(piece(event).as_bytes())?;
    }
    x.chunk(b"")
}

/// How often each request has come to an origin.
type Asked = Mutex<HashMap<u64, u32>>;

/// One in eight of each kind is for a page, the others are for a text.
fn is_page(number: u64) -> bool {
    (number / 6).is_multiple_of(8)
}

fn path(number: u64) -> String {
    format!("/own?{number}")
}

/// A text that names the request that it answers, or a page that does, with a tracker on it.
fn own(asked: &Asked, x: &mut Exchange<'_>) -> std::io::Result<()> {
    let line = x.request().line();
    let number: u64 = line.split(['?', ' ']).nth(2).unwrap_or_default().parse().unwrap();
    *asked.lock().unwrap().entry(number).or_default() += 1;
    if !is_page(number) {
        return x.ok("text/plain", format!("request {number}.").as_bytes());
    }
    let text = format!(
        "<!doctype html><html><head><title>t</title>\
         <script src=\"https://connect.facebook.net/en_US/fbevents.js\"></script></head>\
         <body><p>request {number}.</p></body></html>"
    );
    x.ok("text/html", text.as_bytes())
}

/// The answer to this request, whole, a page without its tracker.
fn fits(number: u64, body: &str) -> bool {
    if !is_page(number) {
        return body == format!("request {number}.");
    }
    body.contains(&format!("<p>request {number}.</p>"))
        && body.ends_with("</html>")
        && !body.contains("connect.facebook.net/en_US")
}

fn origin(events: &Arc<Events>, asked: &Arc<Asked>) -> Origin {
    let (events, asked) = (Arc::clone(events), Arc::clone(asked));
    let origin = Origin::start().forgetting().on("/ws", echoes).on("/slow", move |x| slow(&events, x));
    origin.on("/own", move |x| own(&asked, x))
}

/// A download under way: how much of it has come, and in the end whether it was whole.
struct Download {
    come: Arc<AtomicUsize>,
    ended: JoinHandle<Result<(), String>>,
    what: String,
}

impl Download {
    fn begin(load: &Load, door: &Arc<Door>, way: Way, from: usize, upto: usize) -> Self {
        let (door, come) = (Arc::clone(door), Arc::new(AtomicUsize::new(0)));
        let counted = Arc::clone(&come);
        let ended = load.spawn(async move {
            let mut answer = door.ask(way, &format!("/slow?{from}-{upto}")).await?;
            let mut all = Vec::new();
            while let Some(piece) = answer.piece().await {
                all.extend_from_slice(&piece?);
                counted.store(all.len(), Ordering::Release);
            }
            if all == pieces(from, upto).as_bytes() { Ok(()) } else { Err("not what was sent".into()) }
        });
        Self { come, ended, what: format!("{way:?}, events {from} to {upto}") }
    }

    /// Waits until so many bytes are there.
    fn has(&self, bytes: usize) {
        wait_until(&self.what, || self.ended.is_finished() || self.come.load(Ordering::Acquire) >= bytes);
    }

    /// Waits for the end of it.
    fn end_whole(self) {
        wait_until(&self.what, || self.ended.is_finished());
        let ended = tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(self.ended);
        assert_eq!(ended.unwrap(), Ok(()), "{}", self.what);
    }
}

/// Counts up over a WebSocket, many words at a time, until told to end; each comes back in its turn.
fn talk<S: Read + Write>(mut socket: Client<S>, done: &AtomicBool, said: &AtomicU64) {
    socket.send(SOCKET);
    assert_eq!(socket.head().status, 101);
    let mut next = 0;
    while !done.load(Ordering::Acquire) {
        let words: Vec<u8> = (next..next + WORDS).flat_map(u64::to_be_bytes).collect();
        socket.send(&words);
        assert_eq!(socket.take(words.len()), words, "from word {next} on");
        next += WORDS;
        said.store(next, Ordering::Release);
        // Its rate is no matter.
        thread::sleep(Duration::from_millis(2));
    }
}

/// In each turn a download of every way begins before the event and ends after it; others last from before the first event
/// until after the last.
#[test]
fn no_request_is_lost_over_twenty_upgrades_and_twenty_reloads() {
    let rate = std::env::var("OPTGATE_RATE").ok().and_then(|rate| rate.parse().ok()).unwrap_or(RATE);
    let (events, asked) = (Arc::<Events>::default(), Arc::<Asked>::default());
    let (one, two, authority) = (origin(&events, &asked), origin(&events, &asked), Authority::new());
    let (addr, tls) = (own_address(), own_address());
    let builder = proxy().to(&one);
    let certificate = authority.leaf("site.test").toml(builder.dir(), "site");
    let builder =
        builder.toml(&format!("drain_timeout = \"1h\"\n[tls]\nlisten = [\"{tls}\"]\n{certificate}"));
    let mut binary = Binary::of(serving(&builder.write(), addr), addr, builder.into_dir());
    let door = Arc::new(Door::new(addr, tls, &authority));
    let (done, said) = (AtomicBool::new(false), [AtomicU64::new(0), AtomicU64::new(0)]);
    let mut times = Vec::new();
    let outcome = thread::scope(|scope| {
        scope.spawn(|| talk(Client::connect(addr), &done, &said[0]));
        let secure = TlsClient::connect_tls(tls, "site.test", authority.client(&["http/1.1"]));
        scope.spawn(|| talk(secure, &done, &said[1]));
        let _end = Ends(&done);
        let load = Load::begin(&door, rate, Matter { path, fits });
        let begin = |from, upto| Way::ALL.map(|way| Download::begin(&load, &door, way, from, upto));
        let long = begin(0, EVENTS);
        for event in 0..EVENTS {
            let short = begin(event, event + 1);
            short.iter().for_each(|download| download.has(piece(event).len()));
            long.iter().for_each(|download| download.has(pieces(0, event).len()));
            let heard = [0, 1].map(|socket| said[socket].load(Ordering::Acquire));
            let begun = time();
            if event % 2 == 0 {
                binary.upgrade();
            } else {
                let (from, to) = if event % 4 == 1 { (&one, &two) } else { (&two, &one) };
                edit(&binary.file(), from.url(), to.url());
                binary.signal(Signal::HUP);
                binary.wait_for_line("reloaded: 1 sites");
            }
            times.push((event, begun, time()));
            events.one_more();
            short.into_iter().for_each(Download::end_whole);
            load.goes_on(u64::from(rate / 2));
            for (said, heard) in said.iter().zip(heard) {
                wait_until("a WebSocket goes on", || said.load(Ordering::Acquire) > heard + WORDS);
            }
        }
        long.into_iter().for_each(Download::end_whole);
        load.end()
    });
    let failed = outcome.failures.len();
    println!(
        "{} upgrades and {} reloads: {} requests, {} of them on new connections, {:.0} a second; {failed} failed; \
         words over WebSockets: {} in clear, {} over TLS",
        EVENTS / 2,
        EVENTS / 2,
        outcome.answered,
        outcome.fresh,
        outcome.rate,
        said[0].load(Ordering::Acquire),
        said[1].load(Ordering::Acquire),
    );
    assert!(
        failed == 0,
        "{failed} failed, among them: {:#?}; upgrades and reloads, each from when to when: {times:?}",
        outcome.failures.iter().take(10).collect::<Vec<_>>()
    );
    assert!(outcome.fresh * 2 >= outcome.answered - 1, "half on new connections");
    // What the server says it did not read has gone nowhere.
    let asked = asked.lock().unwrap();
    assert!(asked.len() as u64 == outcome.answered && asked.values().all(|times| *times == 1), "each once");
    assert!(one.heads() > 100 && two.heads() > 100, "both origins were asked");
    assert_eq!(binary.wait().code(), Some(0), "what was open is over, and so is the first process");
}
