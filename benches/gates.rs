//! What a request costs, in numbers that a busy machine does not change: instructions, system calls and
//! allocations. `gates.toml` holds what they were when they were last looked at; more than that, and this fails.
//!
//! Instructions are counted by valgrind and system calls by strace, both on the program as it is shipped but for
//! its profile; each figure is the difference of a long and a short run, so that a start costs nothing.
//! Allocations are counted in this process, where client and origin make none. One client asks one thing after
//! another: waits are counted at their dearest, and every run is like the last.
//!
//! `cargo bench --bench gates` checks; `-- --record` writes what it found into `gates.toml`; `-- --program PATH`
//! counts another build of the program. `cargo test --bench gates` does the same for a debug build, which CI has
//! anyway, with records of its own and fewer requests.

#![allow(clippy::unwrap_used)] // what cannot be measured should say so and stop

use std::fmt::Write as _;
use std::io::{Read, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};
use std::sync::{Arc, LazyLock};
use std::thread;
use std::time::{Duration, Instant};

use optgate::app;
use optgate::config::load::{Inputs, load};
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};

#[global_allocator]
static COUNTED: &StatsAlloc<std::alloc::System> = &INSTRUMENTED_SYSTEM;

/// Whose records are meant. A debug build does the same work in many more instructions.
const PROFILE: &str = if cfg!(debug_assertions) { "dev" } else { "release" };

/// A debug build under valgrind is so slow that it is asked so many times less.
const LESS: u32 = if cfg!(debug_assertions) { 10 } else { 1 };

/// Requests of a short run: pools, maps and buffers have their sizes after it.
const SHORT: u32 = 500;
const RECORDED: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/benches/gates.toml");

/// Something that is asked for again and again.
struct Scenario {
    name: &'static str,
    /// Fields of the request beside `Host`.
    asks: &'static str,
    /// Fields of the answer beside its length.
    answers: &'static str,
    body: fn() -> Vec<u8>,
    /// Requests of the long run more than in the short one.
    more: u32,
    /// How the body is read, if it is a page.
    page: Option<Page>,
    over: Over,
}

/// What the client speaks.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Over {
    Http1,
    /// In clear, one stream after another.
    Http2,
    /// HTTP/1.1 over TLS 1.3. The client's own allocations could not be told apart, so none are counted.
    Tls,
}

/// What the rewriter has to read of a page.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Page {
    /// All of it: it differs every time, and nothing is remembered.
    Whole,
    /// What differs: it differs every time by a number, and is remembered.
    Part,
    /// Nothing: it is the same every time, and is remembered.
    Nothing,
}

const BROWSER: &str = "User-Agent: Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0\r\n\
    Accept-Language: en-US,en;q=0.5\r\nAccept-Encoding: identity\r\nSec-GPC: 1\r\nConnection: keep-alive\r\n\
    Cookie: session=8f14e45fceea167a5a36dedd4bea2543; theme=dark; basket=3\r\nSec-Fetch-Mode: no-cors\r\n\
    Sec-Fetch-Site: same-origin\r\nPriority: u=0, i\r\n";

const SCENARIOS: [Scenario; 8] = [
    // A load generator's request, as `small` of most benchmarks.
    Scenario {
        name: "small",
        asks: "",
        answers: "Content-Type: text/plain\r\nETag: \"65a1b2c3-400\"\r\nAccept-Ranges: bytes\r\n",
        body: || vec![b'x'; 1024],
        more: 4000,
        page: None,
        over: Over::Http1,
    },
    // The same over TLS, and over HTTP/2 in clear.
    Scenario {
        name: "small_tls",
        asks: "",
        answers: "Content-Type: text/plain\r\nETag: \"65a1b2c3-400\"\r\nAccept-Ranges: bytes\r\n",
        body: || vec![b'x'; 1024],
        more: 4000,
        page: None,
        over: Over::Tls,
    },
    Scenario {
        name: "small_http2",
        asks: "",
        answers: "Content-Type: text/plain\r\nETag: \"65a1b2c3-400\"\r\nAccept-Ranges: bytes\r\n",
        body: || vec![b'x'; 1024],
        more: 4000,
        page: None,
        over: Over::Http2,
    },
    // A browser's request for a picture, from a visitor who has opted out.
    Scenario {
        name: "picture",
        asks: "Accept: image/avif,image/webp,*/*;q=0.8\r\nSec-Fetch-Dest: image\r\n",
        answers: "Content-Type: image/webp\r\nETag: \"65a1b2c3-4000\"\r\nCache-Control: max-age=3600\r\n",
        body: || vec![b'x'; 16 * 1024],
        more: 4000,
        page: None,
        over: Over::Http1,
    },
    // Pages that are read whole, opted out and not, for a visitor who was here before: a first visit is recorded, and how
    // many records share a commit is the machine's affair.
    Scenario {
        name: "page_opted_out",
        asks: "Accept: text/html,application/xhtml+xml\r\nSec-Fetch-Dest: document\r\n",
        answers: "Content-Type: text/html; charset=utf-8\r\n",
        body: page,
        more: 100,
        page: Some(Page::Whole),
        over: Over::Http1,
    },
    // The same page again, and one that is unlike it by a number, as the memo answers them.
    Scenario {
        name: "page_memo_same",
        asks: "Accept: text/html,application/xhtml+xml\r\nSec-Fetch-Dest: document\r\n",
        answers: "Content-Type: text/html; charset=utf-8\r\n",
        body: page,
        more: 1000,
        page: Some(Page::Nothing),
        over: Over::Http1,
    },
    Scenario {
        name: "page_memo_unlike",
        asks: "Accept: text/html,application/xhtml+xml\r\nSec-Fetch-Dest: document\r\n",
        answers: "Content-Type: text/html; charset=utf-8\r\n",
        body: page,
        more: 1000,
        page: Some(Page::Part),
        over: Over::Http1,
    },
    Scenario {
        name: "page_link_only",
        asks: "Accept: text/html,application/xhtml+xml\r\nSec-Fetch-Dest: document\r\n",
        answers: "Content-Type: text/html; charset=utf-8\r\n",
        body: page,
        more: 100,
        page: Some(Page::Whole),
        over: Over::Http1,
    },
];

/// Where the number of an answer stands in a body that differs every time.
const NUMBER: &[u8] = b"00000000";

/// A page of some 30 kB with the usual trackers.
fn page() -> Vec<u8> {
    let mut html = String::from(
        "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><meta name=\"r\" content=\"00000000\">\
         <title>News</title>\n<script async src=\"https://www.googletagmanager.com/gtm.js?id=GTM-XXXX\"></script>\n\
         <script>!function(f,b,e,v,n,t,s){n=f.fbq=function(){}}(window);fbq('init','1');</script></head><body>\n",
    );
    for id in 0..60 {
        let _ = write!(
            html,
            "<article class=\"card card--{}\" data-id=\"{id}\"><a class=\"card__link\" href=\"/politics/{id}/the-new-\
             harbour\"><picture><source type=\"image/webp\" srcset=\"https://img.news.example/w320/{id}.webp 320w\">\
             <img class=\"lazy\" src=\"https://img.news.example/w320/{id}.jpg\" alt=\"The harbour\" width=\"320\">\
             </picture><h3>Council votes on harbour plan {id}</h3></a>\n<p>Members argued for hours about costs, \
             ferries and the old cranes before number {id} was put to a vote &amp; passed.</p>\
             <svg width=\"16\" viewBox=\"0 0 16 16\"><path d=\"M2 8h12M8 2v12\"/></svg></article>\n",
            id % 4
        );
        if id % 10 == 0 {
            let _ = writeln!(html, "<script>window.__STATE__={{\"story\":{id},\"words\":[{id}]}};</script>");
        }
    }
    html.push_str("<noscript><img src=\"https://www.facebook.com/tr?id=1\"></noscript><footer></footer></body></html>\n");
    html.into_bytes()
}

impl Scenario {
    /// Whether a visitor asks who has opted out and was here before.
    fn comes_back(&self) -> bool {
        self.page.is_some() && self.name != "page_link_only"
    }

    fn differs(&self) -> bool {
        matches!(self.page, Some(Page::Whole | Page::Part))
    }

    fn request(&self, host: SocketAddr) -> Vec<u8> {
        if self.over == Over::Http2 {
            return http2_request(&format!("/{}", self.name), &host.to_string());
        }
        let browser = match self.name {
            "small" | "small_tls" => String::new(),
            "page_link_only" => BROWSER.replace("Sec-GPC: 1\r\n", ""),
            _ => BROWSER.to_owned(),
        };
        let host = if self.over == Over::Tls { NAME.to_owned() } else { host.to_string() };
        format!("GET /{} HTTP/1.1\r\nHost: {host}\r\n{browser}{}\r\n", self.name, self.asks).into_bytes()
    }

    /// An origin on loopback; no allocation for an answer.
    fn origin(&self) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let addr = listener.local_addr().unwrap();
        let body = (self.body)();
        let head = format!(
            "HTTP/1.1 200 OK\r\nServer: origin\r\nDate: Thu, 26 Nov 2026 17:00:00 GMT\r\nContent-Length: {}\r\n\
             Connection: keep-alive\r\nLast-Modified: Thu, 26 Nov 2026 16:00:00 GMT\r\n{}\r\n",
            body.len(),
            self.answers
        );
        let answer = [head.into_bytes(), body].concat();
        let number = memchr::memmem::find(&answer, NUMBER).filter(|_| self.differs());
        thread::spawn(move || {
            while let Ok((stream, _)) = listener.accept() {
                let answer = answer.clone();
                thread::spawn(move || answer_all(&stream, answer, number));
            }
        });
        addr
    }
}

fn answer_all(mut stream: &TcpStream, mut answer: Vec<u8>, number: Option<usize>) {
    stream.set_nodelay(true).unwrap();
    let (mut request, mut count) = ([0; 8192], 0_u32);
    while let Ok(read @ 1..) = stream.read(&mut request) {
        assert!(request[..read].ends_with(b"\r\n\r\n"), "a request in pieces");
        if let Some(at) = number {
            count += 1;
            let _ = write!(&mut answer[at..at + NUMBER.len()], "{count:08}");
        }
        if stream.write_all(&answer).is_err() {
            return;
        }
    }
}

/// What opens an HTTP/2 connection (RFC 9113, 3.4): settings, the answer to the server's, and a window for all that will
/// ever come.
const HTTP2_BEGINNING: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0\0\0\0\x04\x01\0\0\0\0\
    \0\0\x04\x08\0\0\0\0\0\x7f\xfe\0\0";

/// A frame's head: length, type, flags, stream.
const FRAME: usize = 9;

/// A request in one HEADERS frame without a stream's number, in static fields and plain literals (RFC 7541, 6).
fn http2_request(path: &str, host: &str) -> Vec<u8> {
    const GET: u8 = 0x82;
    const HTTP: u8 = 0x86;
    const PATH: u8 = 0x04;
    const AUTHORITY: u8 = 0x01;
    const END_OF_STREAM_AND_HEADERS: u8 = 0x05;
    let literal =
        |name: u8, value: &str| [&[name, u8::try_from(value.len()).unwrap()], value.as_bytes()].concat();
    let block = [vec![GET, HTTP], literal(PATH, path), literal(AUTHORITY, host)].concat();
    let mut frame = vec![0, 0, u8::try_from(block.len()).unwrap(), 1, END_OF_STREAM_AND_HEADERS, 0, 0, 0, 0];
    frame.extend(block);
    frame
}

/// Whether these bytes are frames of which the last one ends this stream.
fn ends_stream(mut bytes: &[u8], stream: u32) -> bool {
    while let Some((head, rest)) = bytes.split_at_checked(FRAME) {
        let length = usize::from(head[0]) << 16 | usize::from(head[1]) << 8 | usize::from(head[2]);
        assert!(![3, 7].contains(&head[3]), "the stream or the connection was ended: {head:?}");
        let Some(behind) = rest.get(length..) else { return false };
        // DATA or HEADERS, with the flag for the end.
        if head[3] <= 1 && head[4] & 1 == 1 && head[5..] == stream.to_be_bytes() {
            return behind.is_empty();
        }
        bytes = behind;
    }
    false
}

/// The site's name over TLS.
const NAME: &str = "site.test";

/// One certificate for all runs, which is its own authority.
static CERTIFICATE: LazyLock<rcgen::CertifiedKey<rcgen::KeyPair>> =
    LazyLock::new(|| rcgen::generate_simple_self_signed([NAME.to_owned()]).unwrap());

trait Wire: Read + std::io::Write {}

impl<T: Read + std::io::Write> Wire for T {}

fn ciphered(tcp: TcpStream) -> Box<dyn Wire> {
    let mut roots = rustls::RootCertStore::empty();
    roots.add(CERTIFICATE.cert.der().clone()).unwrap();
    let config = rustls::ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
    let tls = rustls::ClientConnection::new(Arc::new(config), NAME.try_into().unwrap()).unwrap();
    Box::new(rustls::StreamOwned::new(tls, tcp))
}

/// One connection that asks one thing after another.
struct Client {
    stream: Box<dyn Wire>,
    request: Vec<u8>,
    room: Vec<u8>,
    /// The last stream's number, over HTTP/2.
    http2: Option<u32>,
}

impl Client {
    fn new(addr: SocketAddr, scenario: &Scenario) -> std::io::Result<Self> {
        let stream = TcpStream::connect(addr)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(Duration::from_secs(60)))?;
        let stream = if scenario.over == Over::Tls { ciphered(stream) } else { Box::new(stream) };
        let http2 = (scenario.over == Over::Http2).then_some(0);
        let mut client = Self { stream, request: scenario.request(addr), room: vec![0; 1 << 20], http2 };
        if scenario.over == Over::Http2 {
            client.stream.write_all(HTTP2_BEGINNING)?;
        }
        if scenario.comes_back() {
            client.come_back();
        }
        Ok(client)
    }

    /// Asks once, and keeps the cookie of the choice for all that follows.
    fn come_back(&mut self) {
        self.ask(1);
        let text = String::from_utf8_lossy(&self.room);
        let choice = text.split("optgate=").nth(1).and_then(|rest| rest.split(';').next()).unwrap();
        let request = String::from_utf8_lossy(&self.request);
        self.request = request.replace("basket=3", &format!("basket=3; optgate={choice}")).into_bytes();
    }

    fn ask(&mut self, times: u32) {
        for _ in 0..times {
            if let Some(stream) = &mut self.http2 {
                *stream += if *stream == 0 { 1 } else { 2 };
                self.request[5..FRAME].copy_from_slice(&stream.to_be_bytes());
            }
            self.stream.write_all(&self.request).unwrap();
            let mut have = 0;
            loop {
                let read = self.stream.read(&mut self.room[have..]).unwrap();
                assert!(read > 0, "closed: {}", String::from_utf8_lossy(&self.room[..have]));
                have += read;
                let whole = match self.http2 {
                    Some(stream) => ends_stream(&self.room[..have], stream),
                    None => is_whole(&self.room[..have]),
                };
                if whole {
                    break;
                }
            }
        }
    }
}

/// Whether these bytes are an answer to its end.
fn is_whole(bytes: &[u8]) -> bool {
    let Some(end) = memchr::memmem::find(bytes, b"\r\n\r\n").map(|at| at + 4) else { return false };
    let (head, body) = bytes.split_at(end);
    assert!(head.starts_with(b"HTTP/1.1 200"), "{}", String::from_utf8_lossy(head));
    match memchr::memmem::find(head, b"content-length: ").or(memchr::memmem::find(head, b"Content-Length: "))
    {
        Some(at) => {
            let digits = head[at + 16..].split(|byte| *byte == b'\r').next().unwrap_or_default();
            let length = digits.iter().fold(0, |length, digit| length * 10 + usize::from(digit - b'0'));
            body.len() >= length
        }
        None => body.ends_with(b"\r\n0\r\n\r\n"),
    }
}

/// The program under another one, which counts.
struct Counted {
    child: Child,
    addr: SocketAddr,
    _dir: tempfile::TempDir,
}

impl Counted {
    fn start(by: &[&str], origin: SocketAddr, scenario: &Scenario) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let addr = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let file = settings_file(dir.path(), addr, origin, scenario);
        let child = Command::new(by[0])
            .args(&by[1..])
            .arg(program())
            .args(["run", "--config"])
            .arg(file)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        Self { child, addr, _dir: dir }
    }

    /// Asks so many times, then stops the program and waits until all is counted.
    fn serve(mut self, scenario: &Scenario, times: u32) {
        let until = Instant::now() + Duration::from_secs(120);
        let mut client = loop {
            // A start listens for an instant to see that the address is free, and whoever connects then is reset: so the
            // second connection counts.
            let there = TcpStream::connect(self.addr);
            thread::sleep(Duration::from_millis(50));
            match there.and_then(|_| Client::new(self.addr, scenario)) {
                Ok(client) => break client,
                Err(error) => assert!(Instant::now() < until, "it does not start: {error}"),
            }
        };
        client.ask(times);
        drop(client);
        // strace passes no signal on, so the program itself is told.
        let traced = std::fs::read_to_string(format!("/proc/{0}/task/{0}/children", self.child.id()));
        let program = traced.ok().and_then(|pids| pids.split_whitespace().next()?.parse().ok());
        let program = program.unwrap_or(self.child.id());
        let pid = rustix::process::Pid::from_raw(i32::try_from(program).unwrap()).unwrap();
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
        self.child.wait().unwrap();
    }
}

/// The program that is counted.
fn program() -> String {
    let mut words = std::env::args().skip_while(|word| word != "--program").skip(1);
    words.next().unwrap_or_else(|| env!("CARGO_BIN_EXE_optgate").to_owned())
}

/// Settings of a listener with TLS.
fn tls(dir: &Path, listen: SocketAddr) -> String {
    let (chain, key) = (dir.join("chain.pem"), dir.join("key.pem"));
    std::fs::write(&chain, CERTIFICATE.cert.pem()).unwrap();
    std::fs::write(&key, CERTIFICATE.signing_key.serialize_pem()).unwrap();
    format!("[tls]\nlisten = [\"{listen}\"]\n[[tls.certificates]]\nchain = {chain:?}\nkey = {key:?}\n")
}

fn settings_file(dir: &Path, listen: SocketAddr, origin: SocketAddr, scenario: &Scenario) -> PathBuf {
    let file = dir.join("optgate.toml");
    let data = dir.join("data").display().to_string();
    // The memo would have little more read than what differs.
    let memo = if scenario.page == Some(Page::Whole) { "[limits]\nrewrite_memo = \"0B\"\n" } else { "" };
    let (plain, tls) = match scenario.over {
        Over::Tls => (SocketAddr::from(([127, 0, 0, 1], 0)), tls(dir, listen)),
        _ => (listen, String::new()),
    };
    let text = format!(
        "listen = [\"{plain}\"]\nworkers = 1\ndata_dir = {data:?}\nupstream = \"http://{origin}\"\n\
         [admin]\nlisten = \"127.0.0.1:0\"\n[log]\nlevel = \"error\"\n{memo}{tls}"
    );
    std::fs::write(&file, text).unwrap();
    file
}

/// What is counted in a short and a long run, for one request. Both have `less` times fewer than they could.
fn each(scenario: &Scenario, less: u32, count: impl Fn(u32) -> u64) -> f64 {
    let (short, more) = (SHORT / less, scenario.more / less);
    let (short, long) = (count(short), count(short + more));
    long.saturating_sub(short) as f64 / f64::from(more)
}

fn instructions(scenario: &Scenario) -> f64 {
    let origin = scenario.origin();
    each(scenario, LESS, |times| {
        let dir = tempfile::tempdir().unwrap();
        let log = dir.path().join("log").display().to_string();
        let (log_file, out) = (format!("--log-file={log}"), "--cachegrind-out-file=/dev/null");
        let by = ["valgrind", "--tool=cachegrind", "--cache-sim=no", out, &log_file];
        Counted::start(&by, origin, scenario).serve(scenario, times);
        let said = std::fs::read_to_string(&log).unwrap();
        let refs = said.lines().find_map(|line| line.split_once("I   refs:")).map(|(_, number)| number);
        refs.unwrap_or_else(|| panic!("valgrind counted nothing: {said}"))
            .replace([',', ' '], "")
            .parse()
            .unwrap()
    })
}

fn system_calls(scenario: &Scenario) -> f64 {
    let origin = scenario.origin();
    // A start and a stop differ by some hundred from run to run, which few requests would feel.
    each(scenario, 1, |times| {
        let dir = tempfile::tempdir().unwrap();
        let table = dir.path().join("table").display().to_string();
        Counted::start(&["strace", "-f", "-c", "-o", &table], origin, scenario).serve(scenario, times);
        let said = std::fs::read_to_string(&table).unwrap();
        let total = said.lines().rfind(|line| line.ends_with("total")).unwrap_or_default();
        // % time, seconds, usecs/call, calls
        total
            .split_whitespace()
            .nth(3)
            .and_then(|calls| calls.parse().ok())
            .unwrap_or_else(|| panic!("{said}"))
    })
}

fn allocations(scenario: &Scenario) -> f64 {
    let dir = tempfile::tempdir().unwrap();
    let file = settings_file(dir.path(), SocketAddr::from(([127, 0, 0, 1], 0)), scenario.origin(), scenario);
    let loaded = load(&Inputs { files: vec![file], ..Inputs::default() }).unwrap_or_else(|e| panic!("{e}"));
    let running = app::start(loaded.settings).unwrap();
    let mut client = Client::new(running.listen()[0], scenario).unwrap();
    client.ask(SHORT);
    // What the process does beside requests only ever adds, and more of it on a slow machine: the least counts.
    let rounds = (0..3).map(|_| {
        let region = Region::new(COUNTED);
        client.ask(scenario.more);
        let found = region.change();
        (found.allocations + found.reallocations) as f64 / f64::from(scenario.more)
    });
    rounds.fold(f64::INFINITY, f64::min)
}

/// A kind of figure.
struct Gate {
    name: &'static str,
    /// By how much a figure may be above its record, as a share of it and as a number.
    allowed: (f64, f64),
    /// The program that counts, if one does.
    needs: Option<&'static str>,
    count: fn(&Scenario) -> f64,
}

const GATES: [Gate; 3] = [
    // Versions of libc and valgrind move it by a little, and few requests by more.
    Gate {
        name: "instructions",
        allowed: (if cfg!(debug_assertions) { 0.12 } else { 0.04 }, 0.0),
        needs: Some("valgrind"),
        count: instructions,
    },
    // The timer's tick is in it, more of it on a slow machine.
    // One more a request is too many; a slower machine's timers wake more often meanwhile, up to half a call.
    Gate { name: "system_calls", allowed: (0.0, 0.8), needs: Some("strace"), count: system_calls },
    Gate { name: "allocations", allowed: (0.02, 0.3), needs: None, count: allocations },
];

fn runs(program: &str) -> bool {
    let quiet = Command::new(program).arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status();
    quiet.is_ok_and(|status| status.success())
}

fn main() -> ExitCode {
    let record = std::env::args().any(|word| word == "--record");
    let mut recorded: toml_edit::DocumentMut = std::fs::read_to_string(RECORDED).unwrap().parse().unwrap();
    let mut failed = false;
    for gate in &GATES {
        if let Some(program) = gate.needs.filter(|program| !runs(program)) {
            println!("skipped: {} cannot be counted: {program} is not installed", gate.name);
            continue;
        }
        for scenario in &SCENARIOS {
            // A page takes so long that the timer's calls hide its own.
            if scenario.page == Some(Page::Whole) && gate.name == "system_calls" {
                continue;
            }
            if scenario.over == Over::Tls && gate.name == "allocations" {
                continue;
            }
            let mut found = (gate.count)(scenario);
            let mut name = gate.name;
            if scenario.page.is_some() && gate.name == "instructions" {
                found /= (scenario.body)().len() as f64;
                name = "instructions_per_byte";
            }
            let entry = &mut recorded[PROFILE][scenario.name][name];
            let was = entry.as_float().unwrap_or(f64::INFINITY);
            let most = was + was * gate.allowed.0 + gate.allowed.1;
            let verdict = match (found > most, found < was - (most - was)) {
                (true, _) => "MORE THAN ALLOWED",
                (_, true) => "less: record it with -- --record",
                _ => "as recorded",
            };
            println!("{:16} {name:21} {found:11.2}  recorded {was:11.2}  {verdict}", scenario.name);
            failed |= found > most && !record;
            if record {
                *entry = toml_edit::value((found * 100.0).round() / 100.0);
            }
        }
    }
    if record {
        std::fs::write(RECORDED, recorded.to_string()).unwrap();
    }
    if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}
