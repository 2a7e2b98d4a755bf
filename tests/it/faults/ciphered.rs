//! The same over TLS: a line to the origin that is cut at any byte of what it sends, handshake and all. Only TLS' own
//! end says that an answer without a length is whole (RFC 9112, 9.8; RFC 8446, 6.1).

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;

use rustls::{ServerConfig, ServerConnection, StreamOwned};

use super::super::support::client::Client;
use super::super::support::pki::Authority;
use super::super::support::proxy::proxy;
use super::{Bench, PAGE, SHORT, TRACKER, head, read};

const TEXT: &str = "what the origin says, in a few words and some more";

/// Bytes of an answer in one record, and what a record adds to them at most.
const PIECE: usize = 25;
const RECORD: usize = 24;

fn answer(kind: &str) -> String {
    let begin = "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Type: text/plain\r\n";
    match kind {
        "length" => format!("{begin}Content-Length: {}\r\n\r\n{TEXT}", TEXT.len()),
        "chunks" => {
            format!("{begin}Transfer-Encoding: chunked\r\n\r\n{:x}\r\n{TEXT}\r\n0\r\n\r\n", TEXT.len())
        }
        "end" => format!("{begin}\r\n{TEXT}"),
        "page" => format!("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Type: text/html\r\n\r\n{PAGE}"),
        _ => "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 5\r\n\r\nhello".to_owned(),
    }
}

/// An origin that answers one request of each connection and ends it as TLS wants it.
fn origin(config: Arc<ServerConfig>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap();
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let config = Arc::clone(&config);
            thread::spawn(move || serve(stream, config));
        }
    });
    addr
}

fn serve(stream: TcpStream, config: Arc<ServerConfig>) -> Option<()> {
    let mut tls = StreamOwned::new(ServerConnection::new(config).ok()?, stream);
    let (mut request, mut buffer) = (Vec::new(), [0; 4096]);
    while !request.windows(4).any(|window| window == b"\r\n\r\n") {
        let read = tls.read(&mut buffer).ok().filter(|read| *read > 0)?;
        request.extend_from_slice(&buffer[..read]);
    }
    let line = String::from_utf8_lossy(&request).into_owned();
    let kind = line.split(' ').nth(1)?.trim_start_matches('/').to_owned();
    // In several records: nobody sees half of one.
    for piece in answer(&kind).as_bytes().chunks(PIECE) {
        tls.write_all(piece).ok()?;
        tls.flush().ok()?;
    }
    tls.conn.send_close_notify();
    tls.flush().ok()
}

/// A line to an origin, of whose bytes it lets so many through on each connection.
struct Line {
    addr: SocketAddr,
    lets: Arc<AtomicUsize>,
    /// What the last connection's origin sent at most, and whether all of it went through.
    sent: Arc<AtomicUsize>,
    whole: Arc<AtomicBool>,
}

impl Line {
    fn to(origin: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let addr = listener.local_addr().unwrap();
        let line = Self { addr, lets: Arc::default(), sent: Arc::default(), whole: Arc::default() };
        line.lets.store(usize::MAX, Ordering::SeqCst);
        let (lets, sent, whole) = (Arc::clone(&line.lets), Arc::clone(&line.sent), Arc::clone(&line.whole));
        thread::spawn(move || {
            for down in listener.incoming().flatten() {
                let up = TcpStream::connect(origin).unwrap();
                let (mut from, mut to) = (down.try_clone().unwrap(), up.try_clone().unwrap());
                thread::spawn(move || std::io::copy(&mut from, &mut to));
                let (through, all) = pass(&up, &down, lets.load(Ordering::SeqCst));
                sent.store(through, Ordering::SeqCst);
                whole.store(all, Ordering::SeqCst);
                let _ = (down.shutdown(Shutdown::Both), up.shutdown(Shutdown::Both));
            }
        });
        line
    }
}

/// Passes at most so many bytes on; how many it was, and whether that was all.
fn pass(mut from: &TcpStream, mut to: &TcpStream, lets: usize) -> (usize, bool) {
    let (mut through, mut buffer) = (0, [0; 4096]);
    while through < lets {
        let room = (lets - through).min(buffer.len());
        let Some(read) = from.read(&mut buffer[..room]).ok().filter(|read| *read > 0) else {
            return (through, true);
        };
        if to.write_all(&buffer[..read]).is_err() {
            return (through, false);
        }
        through += read;
    }
    (through, matches!(from.read(&mut buffer[..1]), Ok(0)))
}

#[test]
fn an_answer_over_tls_cut_at_any_byte_never_looks_whole() {
    let authority = Authority::new();
    // Nothing to resume: every handshake has the same length.
    let mut config = ServerConfig::clone(&authority.leaf("127.0.0.1").server());
    config.send_tls13_tickets = 0;
    let line = Line::to(origin(Arc::new(config)));
    let builder = proxy();
    let roots = authority.write(builder.dir());
    let site = format!(
        "[[sites]]\nname = \"site\"\nhosts = [\"site.test\"]\nupstream = {{ url = \"https://{}\", roots = {roots:?} }}\n",
        line.addr
    );
    let bench = Bench::start(builder.toml(&format!("{SHORT}{site}")));
    let mut counts = [0; 3];
    for (kind, fields) in [
        ("length", ""),
        ("chunks", ""),
        ("end", ""),
        ("page", "Sec-GPC: 1\r\nAccept: text/html\r\nSec-Fetch-Dest: document\r\n"),
    ] {
        let ask = |lets: usize| {
            line.lets.store(lets, Ordering::SeqCst);
            let mut client = Client::connect(bench.addr());
            client.send(head(&format!("/{kind}"), &format!("{fields}Connection: close\r\n")));
            read(&mut client).unwrap_or_else(|| panic!("{kind} behind {lets} bytes: no answer"))
        };
        let (status, _, complete) = ask(usize::MAX);
        assert_eq!((status, complete), (200, true), "{kind}");
        let total = line.sent.load(Ordering::SeqCst);
        // The handshake in steps, the answer byte by byte; signatures differ in length by a few.
        let length = answer(kind).len();
        let answer_at = total - length - (length / PIECE + 3) * RECORD;
        let step = if kind == "page" { 7 } else { 1 };
        for lets in (0..answer_at).step_by(61).chain((answer_at..total + 4).step_by(step)) {
            let (status, body, complete) = ask(lets);
            let (text, whole) =
                (String::from_utf8_lossy(&body).into_owned(), line.whole.load(Ordering::SeqCst));
            let case = format!("{kind} behind {lets} of {total} bytes, whole {whole}: {status} {text}");
            assert!(!text.contains(TRACKER), "{case}");
            match (status, complete) {
                (502, true) => counts[0] += 1,
                (200, false) => {
                    assert!(kind == "page" || TEXT.starts_with(&*text), "{case}");
                    counts[1] += 1;
                }
                (200, true) => {
                    assert!(if kind == "page" { text.contains("</html>") } else { text == TEXT }, "{case}");
                    // Without a length, only the end that TLS tells is one.
                    assert!(matches!(kind, "length" | "chunks") || whole, "{case}");
                    counts[2] += 1;
                }
                _ => panic!("{case}"),
            }
        }
    }
    let [refused, cut, whole] = counts;
    assert!(counts.iter().all(|count| *count > 0), "{counts:?}");
    println!("faults over TLS: {refused} refused, {cut} cut, {whole} whole");
    line.lets.store(usize::MAX, Ordering::SeqCst);
    bench.is_as_before();
}
