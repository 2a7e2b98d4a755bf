//! What a connection that waits for its next request holds in memory, of Optgate and of nginx beside it.
//!
//! Connections are opened one after the other, so that what many requests at once need is not counted. Each asks once,
//! and then nothing more is sent. `OPTGATE_CONNECTIONS=20000 cargo bench --bench idle` holds so many at once, or as
//! many as Optgate takes by the descriptors that it may have; `-- --program PATH` measures another build of Optgate.

#![allow(clippy::unwrap_used)] // a bench that cannot run should say so and stop

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use rustls::ClientConfig;

#[expect(dead_code, reason = "other benches use the rest")]
mod beside;

#[path = "../tests/it/support/frames.rs"]
#[expect(dead_code, reason = "the tests use the rest")]
mod frames;

use beside::{NAME, Proxy, Stage, read_answer};

/// Held before the first look at the memory: by then pools and tables have their sizes.
const BEFORE: usize = 500;

/// Connections of one address of loopback, which has ports for some more.
const OF_ADDRESS: usize = 10_000;

/// Descriptors that a process needs beside those of its connections.
const OTHER: u64 = 100;

/// How often memory is looked at, a second apart, after the last request: some of it is given back later.
const LOOKS: usize = 12;

/// What a connection speaks.
#[derive(Debug, Clone, Copy)]
enum Kind {
    Clear,
    Tls,
    Http2,
}

impl Kind {
    const ALL: [(Self, &'static str); 3] =
        [(Self::Clear, "HTTP/1.1"), (Self::Tls, "HTTP/1.1 over TLS"), (Self::Http2, "HTTP/2 over TLS")];

    /// Connects, asks once, and gives back the bare socket: nothing more is to be said on it.
    fn open(self, proxy: &Proxy, from: [u8; 4], config: &Arc<ClientConfig>) -> TcpStream {
        let mut tcp = connect(from, if matches!(self, Self::Clear) { proxy.clear } else { proxy.tls });
        match self {
            Self::Clear => ask(&mut tcp),
            Self::Tls => ask(&mut rustls::Stream::new(&mut handshake(&mut tcp, config), &mut tcp)),
            Self::Http2 => ask_http2(&mut rustls::Stream::new(&mut handshake(&mut tcp, config), &mut tcp)),
        }
        tcp
    }
}

fn connect(from: [u8; 4], to: SocketAddr) -> TcpStream {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    socket.bind(&SocketAddr::from((from, 0)).into()).unwrap();
    socket.connect(&to.into()).unwrap();
    let stream = TcpStream::from(socket);
    stream.set_nodelay(true).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    stream
}

fn handshake(tcp: &mut TcpStream, config: &Arc<ClientConfig>) -> rustls::ClientConnection {
    let mut tls = rustls::ClientConnection::new(Arc::clone(config), NAME.try_into().unwrap()).unwrap();
    while tls.is_handshaking() {
        tls.complete_io(tcp).unwrap();
    }
    tls
}

fn ask(wire: &mut (impl Read + Write)) {
    wire.write_all(format!("GET / HTTP/1.1\r\nHost: {NAME}\r\n\r\n").as_bytes()).unwrap();
    wire.flush().unwrap();
    read_answer(wire, &mut [0; 4096]);
}

fn ask_http2(wire: &mut (impl Read + Write)) {
    let fields: [frames::Field<'_>; 4] =
        [(b":method", b"GET"), (b":scheme", b"https"), (b":path", b"/"), (b":authority", NAME.as_bytes())];
    let request = [frames::hello(), frames::raw_head(1, &fields, true)].concat();
    wire.write_all(&request).unwrap();
    wire.flush().unwrap();
    loop {
        let mut head = [0; 9];
        wire.read_exact(&mut head).unwrap();
        let [a, b, c, kind, flags, ..] = head;
        let mut payload = vec![0; u32::from_be_bytes([0, a, b, c]) as usize];
        wire.read_exact(&mut payload).unwrap();
        match kind {
            frames::SETTINGS if flags == 0 => {
                wire.write_all(&frames::frame(frames::SETTINGS, 1, 0, &[])).unwrap();
                wire.flush().unwrap();
            }
            frames::DATA if flags & frames::END_STREAM != 0 => return,
            frames::GOAWAY | frames::RST_STREAM => panic!("refused: {payload:?}"),
            _ => {}
        }
    }
}

/// Whether the other side has said nothing more and not closed.
fn is_held(stream: &TcpStream) -> bool {
    stream.set_nonblocking(true).unwrap();
    let mut rest = [0; 4096];
    // Tickets and settings may be unread; the end would come behind them.
    loop {
        match (&*stream).read(&mut rest) {
            Ok(0) => return false,
            Ok(_) => {}
            Err(error) => return error.kind() == ErrorKind::WouldBlock,
        }
    }
}

/// KiB for each connection but the first; so many are held.
fn each(proxy: &Proxy, stage: &Stage, kind: Kind, count: usize) -> f64 {
    let config = Arc::new(stage.client(if matches!(kind, Kind::Http2) { "h2" } else { "http/1.1" }));
    let open = |number: usize| {
        let address = u8::try_from(1 + number / OF_ADDRESS).unwrap();
        kind.open(proxy, [127, 0, kind as u8 + 1, address], &config)
    };
    let mut held: Vec<TcpStream> = (0..BEFORE).map(open).collect();
    let settled = |proxy: &Proxy| {
        let mut found = proxy.memory();
        for _ in 0..LOOKS {
            thread::sleep(Duration::from_secs(1));
            // What was freed goes back to the system with what a thread does next.
            drop(Kind::Clear.open(proxy, [127, 0, 0, 1], &config));
            found = found.min(proxy.memory());
        }
        found
    };
    let before = settled(proxy);
    held.extend((BEFORE..count).map(open));
    let after = settled(proxy);
    let lost = held.iter().filter(|stream| !is_held(stream)).count();
    assert_eq!(lost, 0, "{} closed connections", proxy.name);
    after.saturating_sub(before) as f64 / (count - BEFORE) as f64
}

/// As many as are asked for, or as Optgate takes: three quarters of the descriptors that a process may have.
fn count() -> usize {
    let most = getrlimit(Resource::Nofile).maximum;
    setrlimit(Resource::Nofile, Rlimit { current: most, maximum: most }).unwrap();
    let wanted: usize = std::env::var("OPTGATE_CONNECTIONS").map_or(2_500, |text| text.parse().unwrap());
    let able = most.map_or(usize::MAX, |most| usize::try_from(most.saturating_sub(OTHER) / 4 * 3).unwrap());
    if able < wanted {
        println!("a process may have {} descriptors here, so {able} are held", most.unwrap_or_default());
    }
    wanted.min(able).max(BEFORE + 1)
}

fn main() {
    let count = count();
    let stage = Stage::new();
    println!("KiB of an idle connection; {count} held");
    for (kind, name) in Kind::ALL {
        // A process of its own for each: memory that a kind leaves behind would be the next one's to use.
        let ours = each(&stage.optgate(), &stage, kind, count);
        let theirs = stage.nginx().map(|nginx| each(&nginx, &stage, kind, count));
        let theirs = theirs.map_or_else(|| "-".to_owned(), |theirs| format!("{theirs:.1}"));
        println!("{name:18} optgate {ours:6.1}  nginx {theirs:>6}");
    }
}
