//! Bodies flow: piece by piece, in bounded memory, and an end that was cut is never made whole.

use std::sync::{Mutex, mpsc};

use super::support::DEADLINE;
use super::support::binary::Binary;
use super::support::client::{Client, get};
use super::support::origin::{Exchange, Origin};
use super::support::proxy::proxy;

const BIG: u64 = 256 * 1024 * 1024;
/// Far above what a streaming proxy holds, far below the body.
const MUCH_MEMORY: u64 = 160 * 1024 * 1024;

/// An origin that sends `first`, waits for the word to go on, then sends `second`.
fn in_two_pieces(
    content_type: &'static str,
    first: &'static [u8],
    second: &'static [u8],
) -> (Origin, mpsc::Sender<()>) {
    let (go, gate) = mpsc::channel::<()>();
    let gate = Mutex::new(gate);
    let origin = Origin::start().on("/", move |x| {
        x.send(format!(
            "HTTP/1.1 200 OK\r\nContent-Type: {content_type}\r\nTransfer-Encoding: chunked\r\n\r\n"
        ))?;
        x.chunk(first)?;
        let _ = gate.lock().unwrap().recv_timeout(DEADLINE);
        x.chunk(second)?;
        x.send("0\r\n\r\n")
    });
    (origin, go)
}

/// Server-sent events arrive one by one, with the signal and without.
#[test]
fn an_event_arrives_before_the_next_one_is_sent() {
    for signal in ["", "Sec-GPC: 1\r\n"] {
        let (origin, go) = in_two_pieces("text/event-stream", b"data: 1\n\n", b"data: 2\n\n");
        let proxy = proxy().to(&origin).run();
        let mut client = proxy.client();
        client
            .send(format!("GET / HTTP/1.1\r\nHost: site.test\r\nAccept: text/event-stream\r\n{signal}\r\n"));
        client.until("data: 1\n\n");
        go.send(()).unwrap();
        assert!(client.until("\r\n0\r\n\r\n").contains("data: 2\n\n"));
    }
}

/// A page that the origin sends in pieces is shown in pieces: rewritten or not, asked for by a browser or by
/// a client that does not say what it wants.
#[test]
fn the_top_of_a_page_arrives_before_its_end_is_sent() {
    let browser = "Accept: text/html\r\nSec-Fetch-Dest: document\r\n";
    for fields in ["", "Sec-GPC: 1\r\n", browser, &format!("{browser}Sec-GPC: 1\r\n")] {
        let (origin, go) = in_two_pieces(
            "text/html; charset=utf-8",
            b"<!doctype html><html><head><title>t</title></head><body><h1>top of the page</h1><p>",
            b"end of the page</p></body></html>",
        );
        let proxy = proxy().to(&origin).run();
        let mut client = proxy.client();
        client.send(format!("GET / HTTP/1.1\r\nHost: site.test\r\n{fields}\r\n"));
        client.until("top of the page");
        go.send(()).unwrap();
        assert!(client.until("\r\n0\r\n\r\n").contains("end of the page"), "{fields:?}");
    }
}

/// A chunked request streams: its first piece is at the origin before the second is sent.
#[test]
fn the_first_piece_of_an_upload_arrives_before_the_second_is_sent() {
    let (sender, pieces) = mpsc::channel();
    let sender = Mutex::new(sender);
    let origin = Origin::start().on("/up", move |x| {
        loop {
            let piece = x.piece()?;
            let end = piece.is_empty();
            let _ = sender.lock().unwrap().send(piece);
            if end {
                return x.ok("text/plain", b"done");
            }
        }
    });
    let proxy = proxy().to(&origin).run();
    let mut client = proxy.client();
    client.send("POST /up HTTP/1.1\r\nHost: site.test\r\nTransfer-Encoding: chunked\r\n\r\n3\r\none\r\n");
    assert_eq!(pieces.recv_timeout(DEADLINE).unwrap(), b"one");
    client.send("3\r\ntwo\r\n0\r\n\r\n");
    assert_eq!(pieces.recv_timeout(DEADLINE).unwrap(), b"two");
    assert_eq!(client.response("POST").text(), "done");
}

fn send_big(x: &mut Exchange<'_>) -> std::io::Result<()> {
    x.send(format!(
        "HTTP/1.1 200 OK\r\nContent-Type: application/octet-stream\r\nContent-Length: {BIG}\r\n\r\n"
    ))?;
    let block = vec![7; 1024 * 1024];
    for _ in 0..BIG / block.len() as u64 {
        x.send(&block)?;
    }
    Ok(())
}

/// Uploads and downloads of any size pass in bounded memory.
#[test]
fn a_large_upload_and_a_large_download_take_little_memory() {
    let origin = Origin::start().on("/down", send_big).on("/up", |x| {
        let counted = x.count_body()?;
        x.ok("text/plain", counted.to_string().as_bytes())
    });
    let binary = Binary::start(proxy().to(&origin));
    let mut client = Client::connect(binary.addr());
    client.send("GET /down HTTP/1.1\r\nHost: site.test\r\nSec-GPC: 1\r\n\r\n");
    assert_eq!(client.final_head().one("content-length"), Some(BIG.to_string().as_str()));
    assert_eq!(client.count(BIG), BIG);
    client.send(format!("POST /up HTTP/1.1\r\nHost: site.test\r\nContent-Length: {BIG}\r\n\r\n"));
    let block = vec![7; 1024 * 1024];
    for _ in 0..BIG / block.len() as u64 {
        client.send(&block);
    }
    assert_eq!(client.response("POST").text(), BIG.to_string());
    let peak = binary.peak_memory();
    assert!(peak < MUCH_MEMORY, "the proxy held {peak} bytes");
}

/// A client that stops reading stops the origin too; nothing piles up in between.
#[test]
fn a_client_that_stops_reading_stops_the_origin() {
    let (sender, sent) = mpsc::channel();
    let sender = Mutex::new(sender);
    let origin = Origin::start().on("/down", move |x| {
        let result = send_big(x);
        let _ = sender.lock().unwrap().send(result.is_ok());
        result
    });
    let binary = Binary::start(proxy().to(&origin));
    let mut client = Client::connect(binary.addr());
    client.send("GET /down HTTP/1.1\r\nHost: site.test\r\n\r\n");
    client.final_head();
    // Other visitors are served while this one does not read.
    for _ in 0..50 {
        assert_eq!(get(binary.addr(), "/other", "").text(), "hello");
    }
    assert!(sent.try_recv().is_err(), "the origin could send all of it");
    assert!(binary.peak_memory() < MUCH_MEMORY);
    assert_eq!(client.count(BIG), BIG, "and all of it arrives once it is read");
    assert!(sent.recv_timeout(DEADLINE).unwrap());
}

/// What a client reads of an answer that the origin cuts once `begun` has arrived.
fn cut_by_the_origin(head: &'static str, body: &'static str) -> String {
    let (cut, gate) = mpsc::channel::<()>();
    let gate = Mutex::new(gate);
    let origin = Origin::start().on("/", move |x| {
        x.send(head)?;
        x.send(body)?;
        let _ = gate.lock().unwrap().recv_timeout(DEADLINE);
        x.cut();
        Ok(())
    });
    let proxy = proxy().to(&origin).run();
    let mut client = proxy.client();
    client.send("GET / HTTP/1.1\r\nHost: site.test\r\nSec-Fetch-Dest: document\r\nSec-GPC: 1\r\n\r\n");
    assert_eq!(client.final_head().status, 200);
    let mut all = client.until("begun");
    cut.send(()).unwrap();
    all += &String::from_utf8_lossy(&client.rest());
    assert!(!all.contains("HTTP/1.1"), "an error page follows: {all:?}");
    all
}

/// An answer shorter than its length stays so; no error page follows its bytes.
#[test]
fn an_answer_cut_short_of_its_length_is_cut_for_the_client() {
    let head = "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 100\r\n\r\n";
    assert_eq!(cut_by_the_origin(head, "begun"), "begun");
}

/// Chunks without a last one are never given a last one.
#[test]
fn an_answer_cut_between_chunks_is_cut_for_the_client() {
    let head = "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nTransfer-Encoding: chunked\r\n\r\n";
    let rest = cut_by_the_origin(head, "5\r\nbegun\r\n");
    assert!(rest.contains("begun") && !rest.ends_with("0\r\n\r\n"), "{rest:?}");
}

/// A page cut by the origin is not completed by what the proxy adds at a page's end.
#[test]
fn a_page_cut_by_the_origin_is_not_completed() {
    let head =
        "HTTP/1.1 200 OK\r\nContent-Type: text/html; charset=utf-8\r\nTransfer-Encoding: chunked\r\n\r\n";
    let rest = cut_by_the_origin(head, "1f\r\n<!doctype html><body><p>begun</\r\n");
    assert!(rest.contains("<p>begun") && !rest.ends_with("0\r\n\r\n"), "{rest:?}");
    assert!(!rest.contains("Do Not Sell"), "{rest:?}");
}

/// An upload that the client cut never looks whole to the origin.
#[test]
fn an_upload_cut_by_the_client_is_cut_for_the_origin() {
    let (sender, ended) = mpsc::channel();
    let sender = Mutex::new(sender);
    let origin = Origin::start().on("/up", move |x| {
        let first = x.piece()?;
        let rest = x.body();
        let _ = sender.lock().unwrap().send((first, rest.is_err()));
        rest.map(drop)
    });
    let proxy = proxy().to(&origin).run();
    for body in ["Content-Length: 100\r\n\r\nbegun", "Transfer-Encoding: chunked\r\n\r\n5\r\nbegun\r\n"] {
        let mut client = proxy.client();
        client.send(format!("POST /up HTTP/1.1\r\nHost: site.test\r\n{body}"));
        client.finish();
        let (first, failed) = ended.recv_timeout(DEADLINE).unwrap();
        assert_eq!(first, b"begun");
        assert!(failed, "the origin took a cut upload for a whole one");
    }
}
