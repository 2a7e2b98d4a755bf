//! HTTP/2 connections that many visitors share: whoever does not take what was sent for them (RFC 9113, 5.2), or has
//! no end of it (RFC 9113, 5.1.2), holds up nobody else.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use super::support::DEADLINE;
use super::support::client::Client;
use super::support::frames::{
    DATA, END_HEADERS, END_STREAM, HEADERS, PREFACE, RST_STREAM, SETTINGS, WINDOW_UPDATE, data, frame, head,
    hello_of, next_frame, section,
};
use super::support::origin::{Origin, held};
use super::support::proxy::proxy;

/// Streams that stand still, and the one behind them.
const STILL: u32 = 16;
const NEXT: u32 = 2 * STILL + 1;

/// An end of a connection that sends as much as the other end's windows allow.
struct End {
    wire: TcpStream,
    /// Windows that the other end gave: of a fresh stream, what is left of the connection's, and of streams that
    /// have no end of what they send.
    fresh: usize,
    connection: usize,
    endless: BTreeMap<u32, usize>,
}

impl End {
    /// Says hello as a client or as a server, with these settings.
    fn new(mut wire: TcpStream, preface: &[u8], settings: &[u8]) -> Self {
        wire.set_read_timeout(Some(DEADLINE)).unwrap();
        wire.write_all(&[preface, &frame(SETTINGS, 0, 0, settings)].concat()).unwrap();
        Self { wire, fresh: 65_535, connection: 65_535, endless: BTreeMap::new() }
    }

    fn send(&mut self, bytes: &[u8]) {
        self.wire.write_all(bytes).unwrap();
    }

    /// Reads a client's preface.
    fn greeted(&mut self) {
        self.wire.read_exact(&mut [0; PREFACE.len()]).unwrap();
    }

    /// Kind, stream and payload of the next frame; `None` when none comes.
    fn next(&mut self) -> Option<(u8, u32, Vec<u8>)> {
        let (head, payload) = next_frame(&self.wire).ok()?;
        let number = |bytes: &[u8]| u32::from_be_bytes(bytes.try_into().unwrap());
        let stream = number(&head[5..]);
        match (head[3], stream) {
            (SETTINGS, _) if head[4] == 0 => {
                let window = payload.chunks(6).find(|setting| setting[..2] == [0, 4]);
                self.fresh = window.map_or(self.fresh, |setting| number(&setting[2..]) as usize);
                self.send(&frame(SETTINGS, 1, 0, &[]));
            }
            (WINDOW_UPDATE, stream) => {
                let more = number(&payload) as usize;
                match self.endless.get_mut(&stream) {
                    Some(window) => *window += more,
                    None if stream == 0 => self.connection += more,
                    None => {}
                }
                self.send_more();
            }
            _ => {}
        }
        Some((head[3], stream, payload))
    }

    /// Sends what the windows allow on a fresh stream, from now on.
    fn fill(&mut self, stream: u32) {
        self.endless.insert(stream, self.fresh);
        self.send_more();
    }

    fn send_more(&mut self) {
        let mut frames = Vec::new();
        for (stream, window) in &mut self.endless {
            while *window > 0 && self.connection > 0 {
                let piece = 16_384.min(*window).min(self.connection);
                frames.extend(data(*stream, &vec![b'x'; piece], false));
                (*window, self.connection) = (*window - piece, self.connection - piece);
            }
        }
        self.send(&frames);
    }

    /// Waits until the connection's window has room for so many bytes; false when that does not come to pass, or
    /// not before a stream is given up.
    fn has_room(&mut self, bytes: usize) -> bool {
        while self.connection < bytes {
            if self.next().is_none_or(|(kind, ..)| kind == RST_STREAM) {
                return false;
            }
        }
        true
    }

    /// The first data of the stream behind those that stand still; `None` when one of them is given up first.
    fn next_data(&mut self) -> Option<Vec<u8>> {
        loop {
            match self.next()? {
                (RST_STREAM, ..) => return None,
                (DATA, NEXT, payload) => return Some(payload),
                _ => {}
            }
        }
    }
}

fn request(stream: u32, method: &[u8], host: &[u8]) -> Vec<u8> {
    let fields = [(&b":method"[..], method), (b":scheme", b"http"), (b":path", b"/"), (b":authority", host)];
    let end = if method == b"GET" { END_STREAM } else { 0 };
    frame(HEADERS, END_HEADERS | end, stream, &section(&fields))
}

fn streams() -> impl Iterator<Item = u32> {
    (0..STILL).map(|n| 2 * n + 1)
}

/// An HTTP/2 origin that fills the windows of its first streams, and answers the others when it may.
fn origin() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap();
    thread::spawn(move || {
        let mut end = End::new(listener.accept().unwrap().0, b"", &[]);
        end.greeted();
        while let Some((kind, stream, _)) = end.next() {
            if kind == HEADERS && stream < NEXT {
                end.send(&head(stream, &[], false));
                end.fill(stream);
            } else if kind == HEADERS && end.has_room(5) {
                end.send(&hello_of(stream));
            }
        }
    });
    addr
}

/// One connection to an HTTP/2 origin carries all visitors of a core.
#[test]
fn visitors_who_do_not_read_hold_up_no_others_of_an_http2_origin() {
    let proxy = proxy().upstream(&format!("h2c://{}", origin())).run();
    // Its windows are of no bytes.
    let mut visitor = End::new(TcpStream::connect(proxy.addr()).unwrap(), PREFACE, &[0, 4, 0, 0, 0, 0]);
    for stream in streams() {
        visitor.send(&request(stream, b"GET", b"site.test"));
    }
    let mut answered = 0;
    while answered < STILL {
        answered += u32::from(visitor.next().expect("heads of all answers").0 == HEADERS);
    }
    visitor.send(&request(NEXT, b"GET", b"site.test"));
    visitor.send(&frame(WINDOW_UPDATE, 0, NEXT, &100u32.to_be_bytes()));
    assert_eq!(visitor.next_data().as_deref(), Some(&b"hello"[..]));
}

/// A trusted proxy's connection carries the uploads of many visitors.
#[test]
fn uploads_that_nobody_takes_hold_up_no_others_of_a_trusted_proxy() {
    let (slow, heard, release) = held("slow");
    let (busy, free) = (Origin::start().on("/slow", slow), Origin::start());
    let proxy = proxy()
        .toml(&format!(
            "trusted_proxies = [\"127.0.0.1/32\"]\n\
             [[sites]]\nhosts = [\"busy.test\"]\nupstream = [{{ url = {}, max_connections = 1 }}]\n\
             [[sites]]\nhosts = [\"free.test\"]\nupstream = {}\n",
            busy.toml(),
            free.toml()
        ))
        .run();
    let mut first = Client::connect(proxy.addr());
    first.send("GET /slow HTTP/1.1\r\nHost: busy.test\r\n\r\n");
    heard.recv_timeout(DEADLINE).unwrap();
    let mut front = End::new(TcpStream::connect(proxy.addr()).unwrap(), PREFACE, &[]);
    while front.next().expect("its windows").0 != WINDOW_UPDATE {}
    for stream in streams() {
        front.send(&request(stream, b"POST", b"busy.test"));
        front.fill(stream);
    }
    front.send(&request(NEXT, b"POST", b"free.test"));
    assert!(front.has_room(5), "the window is closed");
    front.send(&data(NEXT, b"hello", true));
    assert_eq!(front.next_data().as_deref(), Some(&b"hello"[..]));
    assert_eq!(free.first().body, b"hello");
    release.send(()).unwrap();
    assert_eq!(first.response("GET").text(), "slow");
}

/// An origin that allows two streams on each connection, and never ends the first two; it counts its connections.
fn narrow_origin() -> (SocketAddr, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap();
    let connections = Arc::new(AtomicUsize::new(0));
    let counting = Arc::clone(&connections);
    thread::spawn(move || {
        for (number, wire) in listener.incoming().flatten().enumerate() {
            counting.fetch_add(1, Ordering::SeqCst);
            thread::spawn(move || {
                let mut end = End::new(wire, b"", &[0, 3, 0, 0, 0, 2]);
                end.greeted();
                while let Some((kind, stream, _)) = end.next() {
                    match (kind, number) {
                        (HEADERS, 0) => end.send(&head(stream, &[], false)),
                        (HEADERS, _) => end.send(&hello_of(stream)),
                        _ => {}
                    }
                }
            });
        }
    });
    (addr, connections)
}

/// What hyper has too much for a connection waits in it, without a word, for another stream's end.
#[test]
fn a_request_beyond_what_a_connection_carries_gets_another_connection() {
    let (addr, connections) = narrow_origin();
    let proxy = proxy().upstream(&format!("h2c://{addr}")).toml("drain_timeout = \"1s\"\n").run();
    let endless = || {
        let mut client = proxy.client();
        client.send("GET / HTTP/1.1\r\nHost: site.test\r\n\r\n");
        assert_eq!(client.final_head().status, 200);
        client
    };
    let _held = [endless(), endless()];
    for _ in 0..5 {
        assert_eq!(proxy.get("/", "").text(), "hello");
    }
    assert_eq!(connections.load(Ordering::SeqCst), 2, "the second is used again");
}
