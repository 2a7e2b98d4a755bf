//! Mixed traffic for a while, with reloads and origin restarts all along: no error that they do not explain, and
//! memory and descriptors stay flat. A minute in CI; `OPTGATE_SOAK=3600` makes it an hour.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use super::conformance::wire::parse;
use super::support::binary::{Binary, own_address};
use super::support::client::{Client, SOCKET, TlsClient, get, metrics};
use super::support::h2::{Frames, H2};
use super::support::origin::{Origin, echoes};
use super::support::pki::Authority;
use super::support::proxy::{figure, proxy};
use super::support::restarted::Restarted;
use super::support::wait_until;

const KINDS: [&str; 10] = [
    "HTTP/1.1, kept",
    "HTTP/1.1, fresh",
    "opted-out pages",
    "TLS",
    "HTTP/2",
    "HTTP/2 over TLS",
    "uploads",
    "WebSockets",
    "slow readers",
    "restarted origin",
];

/// What memory may grow by between warm-up and the end, KiB.
const GROWTH: u64 = 32 * 1024;

/// A pause between two requests of one visitor: the tests beside this one want to run, too.
const PAUSE: Duration = Duration::from_millis(5);

const LARGE: usize = 400_000;

fn large() -> Vec<u8> {
    (0..LARGE).map(|n| b'a' + u8::try_from(n % 23).unwrap()).collect()
}

/// A body that belongs to one request only.
fn own_body(number: &str) -> String {
    format!("the answer to request {number};").repeat(200)
}

fn origin() -> Origin {
    let page = format!(
        "<!doctype html><html><head><title>t</title><script src=\"https://connect.facebook.net/en_US/fbevents.js\">\
         </script></head><body>{}</body></html>",
        "<p>A paragraph with a <a href=\"/link\">link</a> in it.</p>".repeat(300)
    );
    Origin::start()
        .forgetting()
        .on("/page", move |x| x.ok("text/html", page.as_bytes()))
        .on("/upload", |x| {
            let length = x.count_body()?;
            x.ok("text/plain", length.to_string().as_bytes())
        })
        .on("/own", |x| {
            let line = x.request().line();
            x.ok("text/plain", own_body(line.split(['?', ' ']).nth(2).unwrap_or_default()).as_bytes())
        })
        .on("/large", |x| x.ok("text/plain", &large()))
        .on("/ws", echoes)
}

/// What all visitors share.
struct Town {
    addr: SocketAddr,
    tls: SocketAddr,
    authority: Authority,
    done: AtomicBool,
    counts: [AtomicU64; KINDS.len()],
    /// Goes up when the origin is killed and when it is back: odd in between.
    restarts: AtomicUsize,
    explained: AtomicU64,
    /// Requests so far whose bodies are theirs alone.
    own: AtomicU64,
    /// The longest that this machine stood still, in milliseconds: a virtual one is stopped now and then, and every
    /// limit of time that ran out meanwhile ends something at once.
    standstill: AtomicU64,
}

impl Town {
    fn watch(&self) {
        while !self.done.load(Ordering::Acquire) {
            let began = Instant::now();
            thread::sleep(PAUSE);
            let late = u64::try_from(began.elapsed().as_millis()).unwrap();
            self.standstill.fetch_max(late, Ordering::Relaxed);
        }
    }

    fn visit(&self, kind: usize) {
        let kept = &mut Client::connect(self.addr);
        let h2 = &mut None;
        let socket = &mut None;
        while !self.done.load(Ordering::Acquire) {
            match kind {
                0 => self.own(kept, ""),
                1 => self.own(&mut Client::connect(self.addr), "Connection: close\r\n"),
                2 => self.page(kept),
                3 => {
                    let config = self.authority.client(&["http/1.1"]);
                    let mut client = TlsClient::connect_tls(self.tls, "site.test", config);
                    (0..5).for_each(|_| self.own(&mut client, ""));
                }
                4 => self.http2(h2.get_or_insert_with(|| H2::prior_knowledge(self.addr)), "http"),
                5 => {
                    let config = self.authority.client(&["h2"]);
                    self.http2(h2.get_or_insert_with(|| H2::tls(self.tls, "site.test", config)), "https");
                }
                6 => self.upload(kept),
                7 => self.talk(socket),
                8 => self.read_slowly(),
                _ => self.ask_restarted(),
            }
            self.counts[kind].fetch_add(1, Ordering::Relaxed);
            thread::sleep(PAUSE);
        }
    }

    /// Asks for a body that nobody else asks for.
    fn own<S: std::io::Read + std::io::Write>(&self, client: &mut Client<S>, fields: &str) {
        let number = self.own.fetch_add(1, Ordering::Relaxed).to_string();
        let text = client.get(&format!("/own?{number}"), fields).text();
        assert!(text == own_body(&number), "{number}: {text:.300}");
    }

    fn page(&self, client: &mut Client) {
        let answer = client.get("/page", "Sec-GPC: 1\r\nAccept: text/html\r\nSec-Fetch-Dest: document\r\n");
        let text = answer.text();
        assert_eq!(answer.status(), 200);
        assert!(text.ends_with("</html>") && !text.contains("connect.facebook.net/en_US"), "{text:.300}");
    }

    fn http2(&self, h2: &mut H2, scheme: &str) {
        let number = self.own.fetch_add(1, Ordering::Relaxed).to_string();
        let answer = h2.get(&format!("{scheme}://site.test/own?{number}"));
        assert!(answer.body == own_body(&number), "{number}: {answer:?}");
        let upload = http::Request::post(format!("{scheme}://site.test/upload"));
        let answer = h2.send(upload.body(Frames::new(&[b'u'; 3_000], None)).unwrap());
        assert_eq!((answer.status, &answer.body[..]), (200, b"3000".as_slice()));
    }

    fn upload(&self, client: &mut Client) {
        client.send("POST /upload HTTP/1.1\r\nHost: site.test\r\nTransfer-Encoding: chunked\r\n\r\n");
        for _ in 0..20 {
            client.send([b"2710\r\n".as_slice(), &[b'u'; 10_000], b"\r\n"].concat());
        }
        client.send("0\r\n\r\n");
        assert_eq!(client.response("POST").text(), "200000");
    }

    /// Most tunnels are short, one lasts.
    fn talk(&self, lasting: &mut Option<Client>) {
        let open = || {
            let mut client = Client::connect(self.addr);
            client.send(SOCKET);
            assert_eq!(client.head().status, 101);
            client
        };
        let talk = |client: &mut Client| {
            for n in 0..5 {
                client.send(format!("word {n}"));
                assert_eq!(client.take(6), format!("word {n}").into_bytes());
            }
        };
        talk(&mut open());
        talk(lasting.get_or_insert_with(open));
    }

    fn read_slowly(&self) {
        let mut client = Client::connect(self.addr);
        client.send("GET /large HTTP/1.1\r\nHost: site.test\r\nConnection: close\r\n\r\n");
        assert_eq!(client.final_head().status, 200);
        let mut body = Vec::new();
        while body.len() < LARGE {
            body.extend(client.take((LARGE - body.len()).min(20_000)));
            thread::sleep(PAUSE);
        }
        assert!(body == large(), "not what was sent");
    }

    /// Fails only where a restart explains it.
    fn ask_restarted(&self) {
        let before = self.restarts.load(Ordering::SeqCst);
        let mut client = Client::connect(self.addr);
        client.send("GET /large HTTP/1.1\r\nHost: again.test\r\nConnection: close\r\n\r\n");
        let heard = parse(&client.rest(), &["GET"], true);
        let [answer] = &heard.answers[..] else { panic!("no answer: {heard:?}") };
        if answer.status == 200 && answer.whole {
            assert!(answer.body == large(), "not what was sent");
            return;
        }
        let after = self.restarts.load(Ordering::SeqCst);
        assert!(
            before % 2 == 1 || after != before,
            "no restart explains {} whole {}",
            answer.status,
            answer.whole
        );
        assert!(answer.status == 502 || large().starts_with(&answer.body), "{}", answer.status);
        self.explained.fetch_add(1, Ordering::Relaxed);
    }
}

/// Ends the visits however the test ends.
struct Ends<'a>(&'a Town);

impl Drop for Ends<'_> {
    fn drop(&mut self) {
        self.0.done.store(true, Ordering::Release);
        let standstill = self.0.standstill.load(Ordering::Relaxed);
        println!("soak: the machine stood still for {standstill} ms at most");
    }
}

#[test]
fn traffic_reloads_and_restarts_for_a_while_leave_nothing_behind() {
    let seconds = std::env::var("OPTGATE_SOAK").ok().and_then(|n| n.parse().ok()).unwrap_or(60);
    let (origin, authority) = (origin(), Authority::new());
    let mut restarted = Restarted::start(&origin);
    let tls = own_address();
    let builder = proxy();
    let certificate = authority.leaf("site.test").toml(builder.dir(), "site");
    let (first, second) = (origin.url(), restarted.addr());
    let (binary, admin) = Binary::observed(builder.toml(&format!(
        "[timeouts]\nupstream_idle = \"1s\"\nidle = \"30s\"\n[outlier]\nfailures = 0\n\
         [tls]\nlisten = [\"{tls}\"]\n{certificate}\
         [[sites]]\nname = \"site\"\nhosts = [\"site.test\"]\nupstream = {first:?}\n\
         [[sites]]\nname = \"again\"\nhosts = [\"again.test\"]\nupstream = \"http://{second}\"\n",
    )));
    // What it opens only when it is needed is open before anything is counted.
    let addr = binary.addr();
    assert_eq!(get(addr, "/", "").text(), "hello");
    let client = authority.client(&["http/1.1"]);
    wait_until("TLS is served", || TlsClient::try_connect_tls(tls, "site.test", Arc::clone(&client)).is_ok());
    wait_until("it is idle", || figure(&metrics(admin), "optgate_connections") == Some(0));
    let idle = binary.descriptors();
    let town = Arc::new(Town {
        addr,
        tls,
        authority,
        done: AtomicBool::new(false),
        counts: Default::default(),
        restarts: AtomicUsize::new(0),
        explained: AtomicU64::new(0),
        own: AtomicU64::new(0),
        standstill: AtomicU64::new(0),
    });
    let (mut reloads, mut warm, mut busiest) = (0, 0, 0);
    thread::scope(|scope| {
        let visitors: Vec<_> = (0..KINDS.len())
            .map(|kind| {
                (
                    kind,
                    scope.spawn({
                        let town = &town;
                        move || town.visit(kind)
                    }),
                )
            })
            .collect();
        scope.spawn(|| town.watch());
        let _end = Ends(&town);
        let begun = Instant::now();
        let (total, mut next_restart) = (Duration::from_secs(seconds), Duration::from_secs(3));
        while begun.elapsed() < total {
            for (kind, visitor) in &visitors {
                assert!(!visitor.is_finished(), "{} ended", KINDS[*kind]);
            }
            binary.signal(Signal::HUP);
            binary.wait_for_line("reloaded");
            reloads += 1;
            if begun.elapsed() > next_restart {
                town.restarts.fetch_add(1, Ordering::SeqCst);
                restarted.kill();
                restarted.again();
                town.restarts.fetch_add(1, Ordering::SeqCst);
                next_restart = begun.elapsed() + Duration::from_secs(3);
            }
            if warm == 0 && begun.elapsed() > total / 3 {
                warm = binary.memory("RssAnon");
            }
            busiest = busiest.max(binary.descriptors());
            thread::sleep(Duration::from_millis(500));
        }
    });
    let hot = binary.memory("RssAnon");
    for (kind, count) in KINDS.iter().zip(&town.counts) {
        println!("soak: {count:>8} {kind}", count = count.load(Ordering::Relaxed));
        assert!(count.load(Ordering::Relaxed) > 10, "{kind}");
    }
    let restarts = town.restarts.load(Ordering::SeqCst) / 2;
    let explained = town.explained.load(Ordering::Relaxed);
    println!(
        "soak: {seconds} s, {reloads} reloads, {restarts} restarts of an origin, {explained} requests failed by them"
    );
    println!(
        "soak: memory {warm} KiB warm, {hot} KiB at the end, peak {} KiB; descriptors {idle} idle, {busiest} busiest",
        binary.peak_memory() / 1024,
    );
    wait_until("descriptors are back", || binary.descriptors() <= idle);
    let metrics = metrics(admin);
    assert!(hot < warm + GROWTH, "memory grew from {warm} to {hot} KiB");
    assert!(reloads > 3 && restarts > 1);
    // Every reload was taken, and no page went out less carefully.
    assert_eq!(figure(&metrics, "optgate_reloads_total{result=\"taken\"}"), Some(reloads));
    assert!(!metrics.contains("optgate_errors_total{side=\"internal\""), "{metrics}");
}
