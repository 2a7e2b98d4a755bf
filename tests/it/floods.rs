//! HTTP/2 attacks, frame by frame, against the running program: rapid reset,
//! MadeYouReset, floods of frames without work, HPACK bombs, windows that never open; and heads and bodies that
//! trickle. A bystander is answered all the while, and memory comes back. Floods end by their number of frames and by
//! how many answers the bystander got meanwhile, not by the clock.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use super::client_limits::endless;
use super::support::binary::Binary;
use super::support::client::{Client, metrics};
use super::support::frames::{
    CONTINUATION, DATA, END_HEADERS, END_STREAM, HEADERS, PADDED, PING, PREFACE, PRIORITY, RST_STREAM,
    SETTINGS, WINDOW_UPDATE, frame, hello, next_frame, section,
};
use super::support::h2::H2;
use super::support::origin::{Origin, answer};
use super::support::proxy::{figure, proxy};
use super::support::{DEADLINE, wait_until};

/// What ends resets: ours, or the reader's own.
const RESETS: End = End::Ended(&["http2_resets", "http2_calm"]);

/// Payload of the ping behind a flood: whoever answers it has read all of the flood and goes on.
const LAST: &[u8; 8] = b"the last";

/// Frames that a flood sends, unless it is ended before.
const MANY: u32 = 20_000;

/// Answers that a bystander must get while a flood is under way: a third each on a kept connection, on new ones, and
/// over HTTP/2.
const ANSWERS: u64 = 30;

/// A flood is sent again until the bystander has them, but not more often: then it was kept waiting.
const ROUNDS: usize = 1_000;

/// `GET` or `POST`, http, `/` or another path.
fn request(method: &[u8], path: &[u8]) -> Vec<u8> {
    section(&[(b":method", method), (b":scheme", b"http"), (b":path", path), (b":authority", b"a.test")])
}

fn get(stream: u32) -> Vec<u8> {
    frame(HEADERS, END_HEADERS | END_STREAM, stream, &request(b"GET", b"/"))
}

/// A head in one HEADERS frame and as many CONTINUATIONs as it needs.
fn long_head(stream: u32, section: &[u8]) -> Vec<u8> {
    let pieces: Vec<_> = section.chunks(16_384).collect();
    let mut out = Vec::new();
    for (at, piece) in pieces.iter().enumerate() {
        let (kind, first) = if at == 0 { (HEADERS, END_STREAM) } else { (CONTINUATION, 0) };
        let last = if at + 1 == pieces.len() { END_HEADERS } else { 0 };
        out.extend(frame(kind, first | last, stream, piece));
    }
    out
}

/// Odd stream ids from 1 on.
fn streams() -> impl Iterator<Item = u32> + Clone {
    (0..).map(|n| 2 * n + 1)
}

/// How a flood ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    /// The connection is ended, and one of these limits counted.
    Ended(&'static [&'static str]),
    /// Requests are refused, and this limit counted.
    Refused(&'static str),
    /// The reader may end it or throw all of it away.
    Outlasted,
}

struct Flood {
    name: &'static str,
    /// Frames, one after the other; anew each time.
    frames: Box<dyn Fn() -> Box<dyn Iterator<Item = Vec<u8>>>>,
    end: End,
}

fn flood(name: &'static str, end: End, frames: impl Iterator<Item = Vec<u8>> + Clone + 'static) -> Flood {
    Flood { name, end, frames: Box::new(move || Box::new(frames.clone())) }
}

fn repeated(times: u32, frame: Vec<u8>) -> impl Iterator<Item = Vec<u8>> + Clone {
    (0..times).map(move |_| frame.clone())
}

/// An open `POST`, and then.
fn posting(then: impl Iterator<Item = Vec<u8>> + Clone) -> impl Iterator<Item = Vec<u8>> + Clone {
    std::iter::once(frame(HEADERS, END_HEADERS, 1, &request(b"POST", b"/"))).chain(then)
}

fn resets() -> Vec<Flood> {
    let each = |count: usize, then: fn(u32) -> Vec<u8>| streams().take(count).map(then);
    let reset = |id: u32| [get(id), frame(RST_STREAM, 0, id, &8u32.to_be_bytes())].concat();
    let reset_post = |id: u32| {
        let open = frame(HEADERS, END_HEADERS, id, &request(b"POST", b"/"));
        [open, frame(RST_STREAM, 0, id, &8u32.to_be_bytes())].concat()
    };
    // MadeYouReset (CVE-2025-8671): each is a fault of one stream, for which we have to reset it.
    let no_window = |id: u32| [get(id), frame(WINDOW_UPDATE, 0, id, &[0; 4])].concat();
    let wide_window =
        |id: u32| [get(id), frame(WINDOW_UPDATE, 0, id, &0x7fff_ffff_u32.to_be_bytes())].concat();
    let data_after_end = |id: u32| [get(id), frame(DATA, 0, id, b"x")].concat();
    let wrong_length = |id: u32| {
        let head = [request(b"POST", b"/"), section(&[(b"content-length", b"1")])].concat();
        [frame(HEADERS, END_HEADERS, id, &head), frame(DATA, END_STREAM, id, b"xy")].concat()
    };
    let bad_head = |id: u32| {
        let head = [request(b"GET", b"/"), section(&[(b"connection", b"close")])].concat();
        frame(HEADERS, END_HEADERS | END_STREAM, id, &head)
    };
    vec![
        flood("rapid reset", RESETS, each(5_000, reset)),
        flood("rapid reset of uploads", RESETS, each(5_000, reset_post)),
        // The reader takes these two for faults of the whole connection.
        flood("made to reset: a window of nothing", End::Ended(&[]), each(5_000, no_window)),
        flood("made to reset: a window too wide", RESETS, each(5_000, wide_window)),
        flood("made to reset: data behind the end", End::Ended(&[]), each(5_000, data_after_end)),
        flood("made to reset: another length", RESETS, each(5_000, wrong_length)),
        flood("made to reset: a head that is none", RESETS, each(5_000, bad_head)),
    ]
}

fn without_work() -> Vec<Flood> {
    let control = End::Ended(&["http2_control_frames"]);
    let either = End::Ended(&["http2_control_frames", "http2_calm"]);
    let one = 1u32.to_be_bytes();
    vec![
        flood("settings", control, repeated(MANY, frame(SETTINGS, 0, 0, &[]))),
        flood(
            "settings with values",
            control,
            repeated(MANY, frame(SETTINGS, 0, 0, &[0, 4, 0, 0, 255, 255])),
        ),
        flood("pings", control, repeated(MANY, frame(PING, 0, 0, &[7; 8]))),
        flood("answers to no ping", control, repeated(MANY, frame(PING, 1, 0, &[7; 8]))),
        flood("priorities", control, repeated(MANY, frame(PRIORITY, 0, 3, &[0, 0, 0, 1, 9]))),
        flood(
            "priorities of new streams",
            control,
            streams().take(MANY as usize).map(|id| frame(PRIORITY, 0, id, &[0, 0, 0, 0, 9])),
        ),
        flood("windows", control, repeated(MANY, frame(WINDOW_UPDATE, 0, 0, &one))),
        flood("unknown frames", control, repeated(MANY, frame(0xfa, 0, 0, b"x"))),
        flood("empty data", either, posting(repeated(MANY, frame(DATA, 0, 1, &[])))),
        flood("padded data", either, posting(repeated(MANY, frame(DATA, PADDED, 1, &[3, 0, 0, 0])))),
        flood(
            "empty continuations",
            either,
            std::iter::once(frame(HEADERS, 0, 1, &request(b"GET", b"/")))
                .chain(repeated(MANY, frame(CONTINUATION, 0, 1, &[]))),
        ),
        flood(
            "tiny continuations",
            either,
            std::iter::once(frame(HEADERS, 0, 1, &request(b"GET", b"/")))
                .chain(repeated(MANY, frame(CONTINUATION, 0, 1, &section(&[(b"a", b"")])))),
        ),
    ]
}

fn bombs() -> Vec<Flood> {
    // One large field in the table (RFC 7541, 6.2.1), named again and again by one octet (CVE-2026-49975).
    let mut large = [&[0x40, 1, b'a', 0x7f][..], &[0xa1, 0x1e], &[b'x'; 4_000]].concat();
    large.extend(vec![0xbe; 60_000]);
    let large = [request(b"GET", b"/"), large].concat();
    let small = [request(b"GET", b"/"), vec![0x40, 1, b'a', 0], vec![0xbe; 60_000]].concat();
    let crumbs = [request(b"GET", b"/"), section(&[(b"cookie", b"a")]).repeat(1_000)].concat();
    let unique: Vec<u8> = (0..30_000).flat_map(|n| section(&[(format!("a{n}").as_bytes(), b"")])).collect();
    let unique = [request(b"GET", b"/"), unique].concat();
    let heads = |section: Vec<u8>| streams().take(64).map(move |id| long_head(id, &section));
    vec![
        flood("one large field many times", End::Outlasted, heads(large)),
        flood("one small field many times", End::Outlasted, heads(small)),
        flood("cookies in a thousand pieces", End::Refused("http2_cookie_crumbs"), heads(crumbs)),
        flood("names that are all different", End::Outlasted, heads(unique)),
    ]
}

/// Sends a flood and reads along, until it is over or ended. True when the connection was ended.
fn attack(addr: SocketAddr, frames: impl Iterator<Item = Vec<u8>>) -> bool {
    let mut out = TcpStream::connect(addr).unwrap();
    out.set_write_timeout(Some(DEADLINE)).unwrap();
    let mut reader = out.try_clone().unwrap();
    reader.set_read_timeout(Some(DEADLINE)).unwrap();
    let reading = thread::spawn(move || {
        let (mut buffer, mut tail) = (vec![0; 64 * 1024], Vec::new());
        loop {
            match reader.read(&mut buffer) {
                Ok(read @ 1..) => tail.extend_from_slice(&buffer[..read]),
                _ => return true,
            }
            if tail.windows(LAST.len()).any(|window| window == LAST) {
                return false;
            }
            tail.drain(..tail.len().saturating_sub(LAST.len() - 1));
        }
    });
    let mut block = hello();
    for frame in frames.chain([frame(PING, 0, 0, LAST)]) {
        block.extend(frame);
        if block.len() >= 16_384 {
            if out.write_all(&block).is_err() {
                break;
            }
            block.clear();
        }
    }
    // It may have been ended before.
    let _ = out.write_all(&block);
    reading.join().unwrap()
}

/// Somebody else, who asks on and on until told to stop: on a kept connection, on a new one, and over HTTP/2 in turn.
struct Bystander {
    stop: Arc<AtomicBool>,
    answers: Arc<AtomicU64>,
    asking: thread::JoinHandle<Duration>,
}

impl Bystander {
    fn of(addr: SocketAddr) -> Self {
        let (stop, answers) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let (stopped, answered) = (Arc::clone(&stop), Arc::clone(&answers));
        let asking = thread::spawn(move || {
            let new = || Client::connect_from("127.0.0.9", addr);
            let (mut kept, mut http2, mut longest) = (new(), H2::prior_knowledge(addr), Duration::ZERO);
            while !stopped.load(Ordering::Acquire) {
                let start = Instant::now();
                let text = match answered.load(Ordering::Acquire) % 3 {
                    0 => kept.get("/", "").text(),
                    1 => new().get("/", "Connection: close\r\n").text(),
                    _ => String::from_utf8_lossy(&http2.get("http://a.test/").body).into_owned(),
                };
                assert_eq!(text, "hello");
                longest = longest.max(start.elapsed());
                answered.fetch_add(1, Ordering::AcqRel);
            }
            longest
        });
        Self { stop, answers, asking }
    }

    /// Answers so far; each was the right one. Fails with the first that was not.
    fn answers(&self) -> u64 {
        assert!(!self.asking.is_finished(), "the bystander was not answered");
        self.answers.load(Ordering::Acquire)
    }

    /// All of its answers, and the longest wait for one.
    fn leaves(self) -> (u64, Duration) {
        self.stop.store(true, Ordering::Release);
        let longest = self.asking.join().unwrap();
        (self.answers.load(Ordering::Acquire), longest)
    }
}

/// The program in front of an origin, and its admin address.
fn program(settings: &str, origin: &Origin) -> (Binary, SocketAddr) {
    Binary::observed(proxy().to(origin).toml(settings))
}

fn counted(admin: SocketAddr, limit: &str) -> u64 {
    figure(&metrics(admin), &format!("optgate_limit_reached_total{{limit=\"{limit}\"}}")).unwrap()
}

/// Memory of the program that no file backs, KiB.
fn memory(binary: &Binary) -> u64 {
    binary.memory("RssAnon")
}

/// What a flood may take of memory, KiB.
const GROWTH: u64 = 64 * 1024;

fn endure(floods: Vec<Flood>) {
    let origin = Origin::start().on("/", |x| {
        x.body()?;
        x.ok("text/plain", b"hello")
    });
    let (binary, admin) = program("[timeouts]\nslow_send = \"1s\"\nidle = \"2s\"\n", &origin);
    let addr = binary.addr();
    assert_eq!(Client::connect(addr).get("/", "").text(), "hello");
    let before = memory(&binary);
    for flood in floods {
        let (name, end) = (flood.name, flood.end);
        let limits: &[_] = match &end {
            End::Ended(limits) => limits,
            End::Refused(limit) => std::slice::from_ref(limit),
            End::Outlasted => &[],
        };
        let reached = || limits.iter().map(|limit| counted(admin, limit)).sum::<u64>();
        let was = reached();
        let bystander = Bystander::of(addr);
        let (mut rounds, mut meanwhile) = (0, 0);
        while meanwhile < ANSWERS && rounds < ROUNDS {
            let before = bystander.answers();
            let ended = attack(addr, (flood.frames)());
            meanwhile += bystander.answers() - before;
            rounds += 1;
            match end {
                End::Ended(_) => assert!(ended, "{name}"),
                End::Refused(_) => assert!(!ended, "{name}"),
                End::Outlasted => {}
            }
        }
        let (answers, longest) = bystander.leaves();
        let grown = memory(&binary).saturating_sub(before);
        println!(
            "{name}: {rounds} times, a bystander had {meanwhile} answers meanwhile and {answers} in all, the longest after \
             {longest:?}; grown {grown} KiB"
        );
        assert!(meanwhile >= ANSWERS, "{name}: {meanwhile} answers in {rounds} floods");
        if !limits.is_empty() {
            wait_until(name, || reached() > was);
        }
    }
    let grown = || memory(&binary).saturating_sub(before);
    wait_until("memory is back", || grown() < GROWTH);
    let peak = binary.peak_memory() / 1024;
    println!("before {before} KiB, after {} KiB, peak {peak} KiB", memory(&binary));
}

/// CVE-2023-44487 and CVE-2025-8671.
#[test]
fn floods_of_resets_are_outlasted() {
    endure(resets());
}

/// RFC 9113, 10.5: features that cost the receiver more than the sender.
#[test]
fn floods_of_frames_without_work_are_ended() {
    endure(without_work());
}

/// CVE-2026-49975, RUSTSEC-2024-0332, and h2's panic before 0.4.15.
#[test]
fn bombs_of_fields_are_outlasted() {
    endure(bombs());
}

/// Connections that send a byte now and then keep nobody else waiting, and each is given up.
#[test]
fn heads_and_bodies_that_trickle_keep_nobody_waiting() {
    const SLOW: usize = 200;
    let origin = Origin::start().on("/upload", |x| {
        x.body()?;
        x.ok("text/plain", b"read")
    });
    let settings =
        "[timeouts]\nheader_read = \"1s\"\nslow_body = \"1s\"\n[limits]\nmin_body_rate = \"1MiB\"\n";
    let (binary, admin) = program(settings, &origin);
    let heads = "GET / HTTP/1.1\r\nHost: a.test\r\nX: ";
    let bodies = "POST /upload HTTP/1.1\r\nHost: a.test\r\nContent-Length: 1000000\r\n\r\n";
    for (begins, limit) in [(heads, "header_read"), (bodies, "min_body_rate")] {
        let mut slow: Vec<_> = (0..SLOW).map(|_| Client::connect(binary.addr())).collect();
        for client in &mut slow {
            client.send(begins);
        }
        let bystander = Bystander::of(binary.addr());
        let mut rounds = 0;
        while counted(admin, limit) < SLOW as u64 {
            let before = bystander.answers();
            for client in &mut slow {
                // It may be given up already.
                client.try_send("x");
            }
            wait_until("the bystander is answered", || bystander.answers() >= before + 3);
            rounds += 1;
        }
        let (answers, longest) = bystander.leaves();
        println!(
            "{limit}: {rounds} bytes each of {SLOW}, a bystander had {answers} answers, the longest after {longest:?}"
        );
        assert!(rounds > 0 && answers >= 3 * rounds, "{limit}: {answers} in {rounds}");
    }
}

/// CVE-2023-44487: streams that are reset once they are under way are counted too, which hyper does not. The
/// client waits for a ping before each reset, so that none of them is still unread.
#[test]
fn resets_of_requests_under_way_are_counted() {
    let origin = Origin::start();
    let (binary, admin) = program("[limits]\nhttp2_resets = 20\n", &origin);
    let mut wire = TcpStream::connect(binary.addr()).unwrap();
    wire.set_read_timeout(Some(DEADLINE)).unwrap();
    wire.write_all(&hello()).unwrap();
    let (mut resets, mut buffer) = (0, vec![0; 16 * 1024]);
    for id in streams().take(2_000) {
        let mut sent = wire.write_all(&[get(id), frame(PING, 0, 0, &[1; 8])].concat()).is_ok();
        sent = sent && matches!(wire.read(&mut buffer), Ok(1..));
        sent = sent && wire.write_all(&frame(RST_STREAM, 0, id, &8u32.to_be_bytes())).is_ok();
        if !sent {
            break;
        }
        resets += 1;
    }
    assert!((20..2_000).contains(&resets), "{resets}");
    wait_until("it is counted", || counted(admin, "http2_resets") == 1);
}

/// CVE-2026-47774: an HTTP/2 client that opens no window and answers every ping holds its streams for
/// `slow_send`, and its connection for `idle` after that.
#[test]
fn streams_whose_window_never_opens_are_reset() {
    let (origin, gone) = endless();
    let (binary, admin) = program("[timeouts]\nslow_send = \"500ms\"\nidle = \"1s\"\n", &origin);
    for window in [0u8, 1] {
        let wire = TcpStream::connect(binary.addr()).unwrap();
        wire.set_read_timeout(Some(DEADLINE)).unwrap();
        // SETTINGS_INITIAL_WINDOW_SIZE.
        let settings = frame(SETTINGS, 0, 0, &[0, 4, 0, 0, 0, window]);
        (&wire).write_all(&[PREFACE, &settings].concat()).unwrap();
        for id in streams().take(20) {
            let head = frame(HEADERS, END_HEADERS | END_STREAM, id, &request(b"GET", b"/endless"));
            (&wire).write_all(&head).unwrap();
        }
        for _ in 0..20 {
            gone.recv_timeout(DEADLINE).expect("the origin is let go");
        }
        answer_pings(&wire);
    }
    assert!(counted(admin, "min_send_rate") >= 40);
}

/// Answers pings until the peer ends the connection.
fn answer_pings(mut wire: &TcpStream) {
    while let Ok((head, payload)) = next_frame(wire) {
        if head[3] == PING && head[4] == 0 && wire.write_all(&frame(PING, 1, 0, &payload)).is_err() {
            return;
        }
    }
}

/// A trickled upload is given up over HTTP/2 too, and the connection's other streams go on.
#[test]
fn a_trickled_upload_ends_its_stream_only() {
    let origin = Origin::start().on("/upload", |x| {
        x.body()?;
        x.ok("text/plain", b"read")
    });
    let limits = "[timeouts]\nslow_body = \"400ms\"\n[limits]\nmin_body_rate = \"1MiB\"\n";
    let (binary, admin) = program(limits, &origin);
    let wire = TcpStream::connect(binary.addr()).unwrap();
    wire.set_read_timeout(Some(DEADLINE)).unwrap();
    let open = frame(HEADERS, END_HEADERS, 1, &request(b"POST", b"/upload"));
    (&wire).write_all(&[hello(), open].concat()).unwrap();
    while counted(admin, "min_body_rate") == 0 {
        // Goes on sending: that is the attack.
        (&wire).write_all(&frame(DATA, 0, 1, b"x")).unwrap();
    }
    (&wire).write_all(&get(3)).unwrap();
    let mut answered = Vec::new();
    while !answered.contains(&3) {
        let (head, _) = next_frame(&wire).unwrap();
        if head[3] == HEADERS {
            answered.push(head[8]);
        }
    }
    assert_eq!(answered, [1, 3], "the upload is told, and the next request served");
}

/// A visitor who takes an answer slowly takes all of it: what lies in the reader's own buffers when the last stream's task
/// has ended is under way still.
#[test]
fn answers_still_on_their_way_to_a_slow_visitor_are_not_cut_off_as_idle() {
    let origin = Origin::start().answers("/file", answer("Content-Type: text/plain\r\n", vec![b'x'; 63_000]));
    let count = 240;
    let more = "[timeouts]\nidle = \"4s\"\n[limits]\nhttp2_streams = 256\n";
    let (binary, _) = program(more, &origin);
    let wire = TcpStream::connect(binary.addr()).unwrap();
    rustix::net::sockopt::set_socket_recv_buffer_size(&wire, 64 * 1024).unwrap();
    wire.set_read_timeout(Some(DEADLINE)).unwrap();
    // SETTINGS_INITIAL_WINDOW_SIZE and the connection's: nothing but the socket is slow.
    let settings = frame(SETTINGS, 0, 0, &[0, 4, 0, 0x10, 0, 0]);
    let window = frame(WINDOW_UPDATE, 0, 0, &(64_u32 << 20).to_be_bytes());
    (&wire).write_all(&[PREFACE, &settings, &window].concat()).unwrap();
    for id in streams().take(count) {
        let head = frame(HEADERS, END_HEADERS | END_STREAM, id, &request(b"GET", b"/file"));
        (&wire).write_all(&head).unwrap();
    }
    let (mut ended, mut bytes) = (0, 0);
    while ended < count {
        let (head, payload) =
            next_frame(&wire).unwrap_or_else(|error| panic!("{error} after {ended} answers"));
        if head[3] == DATA {
            bytes += payload.len();
            ended += usize::from(head[4] & END_STREAM != 0);
            // A reader that pauses is what is tried here: 1 MB/s at most.
            thread::sleep(Duration::from_millis(payload.len() as u64 / 1024));
        } else if head[3] == PING && head[4] == 0 {
            (&wire).write_all(&frame(PING, 1, 0, &payload)).unwrap();
        }
    }
    assert_eq!(bytes, count * 63_000);
}
