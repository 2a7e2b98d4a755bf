//! Origins that break off, reset, fall silent or talk nonsense, at every byte of an answer.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use socket2::{Domain, SockRef, Socket, Type};

use super::super::support::client::Client;
use super::super::support::h2::H2;
use super::super::support::origin::Origin;
use super::super::support::proxy::proxy;
use super::super::support::random::Random;
use super::super::support::restarted::Restarted;
use super::super::support::wait_until;
use super::{Bench, PAGE, SHORT, TRACKER, get, head, read};

/// What an origin does behind the last byte that it sends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Then {
    Closes,
    /// RST instead of FIN: what is under way may be lost.
    Resets,
    /// Says nothing, and waits for the peer to end it.
    IsSilent,
}

/// An answer in one of the framings.
fn answer(kind: &str) -> Vec<u8> {
    let text = "what the origin says ".repeat(6);
    match kind {
        "length" => format!(
            "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: {}\r\n\r\n{text}",
            text.len()
        ),
        "chunks" => {
            let chunk = |part: &str| format!("{:x}\r\n{part}\r\n", part.len());
            let (a, b) = text.split_at(50);
            let head = "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nTransfer-Encoding: chunked\r\n\r\n";
            format!("{head}{}{}0\r\n\r\n", chunk(a), chunk(b))
        }
        "page" => format!(
            "HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: {}\r\n\r\n{PAGE}",
            PAGE.len()
        ),
        _ => return b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello".to_vec(),
    }
    .into_bytes()
}

/// An origin that sends so many bytes of an answer as its target says: `/<kind>?<bytes>`. Counts its open connections.
fn breaking(then: Then) -> (SocketAddr, Arc<AtomicUsize>) {
    // Room for all that ask at once: what the kernel drops would be sent again seconds later.
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
    socket.listen(1024).unwrap();
    let listener = TcpListener::from(socket);
    let addr = listener.local_addr().unwrap();
    let open = Arc::new(AtomicUsize::new(0));
    let counting = Arc::clone(&open);
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let open = Arc::clone(&counting);
            open.fetch_add(1, Ordering::SeqCst);
            thread::spawn(move || {
                serve(stream, then);
                open.fetch_sub(1, Ordering::SeqCst);
            });
        }
    });
    (addr, open)
}

fn serve(mut stream: TcpStream, then: Then) {
    let (mut request, mut buffer) = (Vec::new(), [0; 4096]);
    loop {
        while !request.windows(4).any(|window| window == b"\r\n\r\n") {
            match stream.read(&mut buffer) {
                Ok(read @ 1..) => request.extend_from_slice(&buffer[..read]),
                _ => return,
            }
        }
        let line = String::from_utf8_lossy(&request).into_owned();
        request.clear();
        let target = line.split(' ').nth(1).unwrap_or_default();
        let (kind, bytes) = target.trim_start_matches('/').split_once('?').unwrap_or_default();
        let answer = answer(kind);
        let whole = kind.is_empty();
        let count = if whole { answer.len() } else { bytes.parse().unwrap_or(0) };
        if stream.write_all(&answer[..count]).is_err() {
            return;
        }
        match then {
            _ if whole => {}
            Then::Closes => return,
            Then::Resets => return drop(SockRef::from(&stream).set_linger(Some(std::time::Duration::ZERO))),
            Then::IsSilent => while matches!(stream.read(&mut buffer), Ok(1..)) {},
        }
    }
}

/// Asks for every number of bytes of an answer, all at a time, and looks at what the visitor got.
fn broken_at_every_byte(then: Then) {
    let (addr, open) = breaking(then);
    let bench = Bench::start(proxy().upstream(&format!("http://{addr}")).toml(SHORT));
    for (kind, fields) in [
        ("length", ""),
        ("length", "Sec-GPC: 1\r\n"),
        ("chunks", ""),
        ("page", ""),
        ("page", "Sec-GPC: 1\r\nAccept: text/html\r\nSec-Fetch-Dest: document\r\n"),
    ] {
        let whole = answer(kind);
        let body_at = whole.windows(4).position(|window| window == b"\r\n\r\n").unwrap() + 4;
        let (opted_out, page) = (!fields.is_empty(), kind == "page");
        let truth = match kind {
            "page" => PAGE.to_owned(),
            _ => "what the origin says ".repeat(6),
        };
        let ask = |bytes: usize| {
            let mut client = Client::connect(bench.addr());
            client.send(head(&format!("/{kind}?{bytes}"), &format!("{fields}Connection: close\r\n")));
            client
        };
        let clients: Vec<_> = (0..whole.len()).map(ask).collect();
        for (bytes, mut client) in clients.into_iter().enumerate() {
            let case = format!("{kind} {fields:?} {then:?} behind {bytes} of {} bytes", whole.len());
            let (status, body, complete) = read(&mut client).unwrap_or_else(|| panic!("{case}: no answer"));
            let text = String::from_utf8_lossy(&body);
            let failure = if then == Then::IsSilent { 504 } else { 502 };
            if bytes < body_at {
                assert_eq!((status, complete), (failure, true), "{case}");
            } else if page && status != 200 {
                // Nothing of the page was out yet.
                assert_eq!(status, 502, "{case}");
            } else {
                assert_eq!((status, complete), (200, false), "{case}: {text}");
                // Pages have more in them than the origin said.
                assert!(page || truth.starts_with(&*text), "{case}: {text}");
            }
            assert!(!page || !opted_out || !text.contains(TRACKER), "{case}: {text}");
        }
        if then == Then::Closes {
            let (status, body, complete) = read(&mut ask(whole.len())).unwrap();
            assert!(status == 200 && complete && (page || body == truth.as_bytes()), "{kind}: whole");
        }
    }
    bench.is_as_before();
    wait_until("the origin's connections are closed", || open.load(Ordering::SeqCst) == 0);
}

/// RFC 9112, 8: an answer that is not whole never looks whole, wherever it is cut.
#[test]
fn an_answer_cut_at_any_byte_is_a_bad_gateway_or_cut() {
    broken_at_every_byte(Then::Closes);
}

/// The same where the connection is reset.
#[test]
fn an_answer_reset_at_any_byte_is_a_bad_gateway_or_cut() {
    broken_at_every_byte(Then::Resets);
}

/// The same where the origin falls silent: `first_byte` ends it before the head's end, `between_bytes` behind it.
#[test]
fn an_answer_that_stalls_at_any_byte_ends_by_its_own_timeout() {
    broken_at_every_byte(Then::IsSilent);
}

/// Over HTTP/2 a cut answer is a reset stream, and the connection's other streams go on.
#[test]
fn an_answer_cut_at_any_byte_resets_its_stream_only() {
    for then in [Then::Closes, Then::Resets] {
        let (addr, open) = breaking(then);
        let bench = Bench::start(proxy().upstream(&format!("http://{addr}")).toml(SHORT));
        let mut h2 = H2::prior_knowledge(bench.addr());
        for kind in ["length", "chunks"] {
            let whole = answer(kind);
            let body_at = whole.windows(4).position(|window| window == b"\r\n\r\n").unwrap() + 4;
            for bytes in 0..whole.len() {
                let got = h2.try_get(&format!("http://site.test/{kind}?{bytes}"));
                let case = format!("{kind} {then:?} behind {bytes} bytes: {got:?}");
                assert_eq!(got.map(|answer| answer.status), (bytes < body_at).then_some(502), "{case}");
                assert_eq!(&h2.get("http://site.test/").body[..], b"hello");
            }
        }
        drop(h2);
        bench.is_as_before();
        wait_until("the origin's connections are closed", || open.load(Ordering::SeqCst) == 0);
    }
}

/// Random bytes, with and without the beginning of an answer before them: never more than a bad gateway or a cut
/// body, never a byte of it as an answer of its own.
#[test]
fn garbage_is_no_answer() {
    let mut random = Random(0x0005_eed0_fa11);
    let beginnings = [
        "",
        "HTTP/1.1 ",
        "HTTP/1.1 200 OK\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: ",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello",
        "HTTP/1.1 103 Early Hints\r\n\r\n",
    ];
    let mut cases = Vec::new();
    for n in 0..300 {
        let mut bytes = beginnings[n % beginnings.len()].as_bytes().to_vec();
        let garbage = (0..1 + random.below(2_000)).map(|_| u8::try_from(random.below(256)).unwrap());
        bytes.extend(garbage);
        cases.push(bytes);
    }
    let (count, sent) = (cases.len(), Arc::new(AtomicUsize::new(0)));
    let origin = Origin::start().on("/garbage", move |x| {
        x.cut();
        x.send(&cases[sent.fetch_add(1, Ordering::SeqCst) % count])
    });
    let bench = Bench::start(proxy().to(&origin).toml(SHORT));
    for n in 0..count {
        let mut client = Client::connect(bench.addr());
        client.send(head("/garbage", "Connection: close\r\n"));
        let (status, body, complete) = read(&mut client).unwrap_or_else(|| panic!("case {n}: no answer"));
        let cut = status == 200 && !complete;
        assert!(status == 502 && complete || cut, "case {n}: {status} {complete} {body:?}");
    }
    bench.is_as_before();
}

/// Its process is killed in the middle of an answer, and comes back: Optgate itself stands for the origin.
#[test]
fn an_origin_killed_in_the_middle_of_an_answer_is_cut_and_served_again() {
    let endless = Origin::start().on("/endless", |x| {
        x.send("HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nTransfer-Encoding: chunked\r\n\r\n")?;
        loop {
            x.chunk(&[b'x'; 1_000])?;
        }
    });
    let mut origin = Restarted::start(&endless);
    for scheme in ["http", "h2c"] {
        let upstream = format!("{scheme}://{}", origin.addr());
        let bench = Bench::start(proxy().upstream(&upstream).toml(SHORT));
        for _ in 0..3 {
            let mut clients: Vec<_> = (0..5).map(|_| Client::connect(bench.addr())).collect();
            for client in &mut clients {
                client.send(head("/endless", ""));
                assert_eq!(client.final_head().status, 200);
                assert!(client.count(50_000) >= 50_000);
            }
            origin.kill();
            for client in &mut clients {
                assert!(!client.rest().ends_with(b"0\r\n\r\n"), "it never looks whole");
            }
            assert_eq!(get(bench.addr(), "/", "").status(), 502);
            origin.again();
            wait_until("it is asked again", || get(bench.addr(), "/", "").status() == 200);
        }
        bench.is_as_before();
    }
}
