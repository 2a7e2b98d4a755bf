//! HTTP/2 frames (RFC 9113, 4 and 6), written by hand so that they can be wrong. Field sections are literals
//! without indexing and without Huffman coding (RFC 7541, 6.2.2). And an origin that answers with such frames.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, mpsc};
use std::thread;

pub const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

pub const DATA: u8 = 0;
pub const HEADERS: u8 = 1;
pub const PRIORITY: u8 = 2;
pub const RST_STREAM: u8 = 3;
pub const SETTINGS: u8 = 4;
pub const PING: u8 = 6;
pub const GOAWAY: u8 = 7;
pub const WINDOW_UPDATE: u8 = 8;
pub const CONTINUATION: u8 = 9;
pub const END_STREAM: u8 = 1;
pub const END_HEADERS: u8 = 4;
pub const PADDED: u8 = 8;

/// A field as it is sent.
pub type Field<'a> = (&'a [u8], &'a [u8]);

pub fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// Head and payload of the next frame.
pub fn next_frame(mut wire: &TcpStream) -> io::Result<([u8; 9], Vec<u8>)> {
    let mut head = [0; 9];
    wire.read_exact(&mut head)?;
    let mut payload = vec![0; u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize];
    wire.read_exact(&mut payload)?;
    Ok((head, payload))
}

/// What a client says first: the preface and settings of nothing.
pub fn hello() -> Vec<u8> {
    [PREFACE, &frame(SETTINGS, 0, 0, &[])].concat()
}

/// A field section.
pub fn section(fields: &[Field<'_>]) -> Vec<u8> {
    let mut out = Vec::new();
    for (name, value) in fields {
        out.push(0);
        string(name, &mut out);
        string(value, &mut out);
    }
    out
}

fn string(bytes: &[u8], out: &mut Vec<u8>) {
    // RFC 7541, 5.1: seven bits, then seven at a time.
    let mut rest = bytes.len();
    if rest < 127 {
        out.push(u8::try_from(rest).unwrap());
    } else {
        out.push(127);
        rest -= 127;
        while rest >= 128 {
            out.push(u8::try_from(rest % 128).unwrap() | 128);
            rest /= 128;
        }
        out.push(u8::try_from(rest).unwrap());
    }
    out.extend_from_slice(bytes);
}

/// A head with `:status: 200`, then more fields.
pub fn head(stream: u32, more: &[Field<'_>], end: bool) -> Vec<u8> {
    let fields = [&[(b":status".as_slice(), b"200".as_slice())], more].concat();
    raw_head(stream, &fields, end)
}

pub fn raw_head(stream: u32, fields: &[Field<'_>], end: bool) -> Vec<u8> {
    frame(HEADERS, END_HEADERS | if end { END_STREAM } else { 0 }, stream, &section(fields))
}

pub fn data(stream: u32, bytes: &[u8], end: bool) -> Vec<u8> {
    frame(DATA, if end { END_STREAM } else { 0 }, stream, bytes)
}

/// An answer of `hello`.
pub fn hello_of(stream: u32) -> Vec<u8> {
    let fields: [Field<'_>; 2] = [(b"content-type", b"text/plain"), (b"content-length", b"5")];
    [head(stream, &fields, false), data(stream, b"hello", true)].concat()
}

/// What an origin does behind its frames.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Then {
    Keeps,
    Closes,
}

/// An origin that answers each head of a request with the frames made for its stream.
pub fn origin(answer: impl Fn(u32) -> (Vec<u8>, Then) + Send + Sync + 'static) -> SocketAddr {
    origin_of(move |asked| match asked {
        Asked::Head(stream, _) => Some(answer(stream)),
        Asked::Data(..) => None,
    })
}

/// What comes of a request; the flag: nothing more does.
#[derive(Debug)]
pub enum Asked<'a> {
    Head(u32, bool),
    Data(u32, &'a [u8], bool),
}

/// What is answered to a piece of a request, if anything.
type Answers = dyn Fn(Asked<'_>) -> Option<(Vec<u8>, Then)> + Send + Sync;

/// An origin that answers pieces of requests with frames.
pub fn origin_of(
    answer: impl Fn(Asked<'_>) -> Option<(Vec<u8>, Then)> + Send + Sync + 'static,
) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap();
    let answer = Arc::new(answer);
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let answer = Arc::clone(&answer);
            thread::spawn(move || serve(&stream, &*answer));
        }
    });
    addr
}

fn serve(mut stream: &TcpStream, answer: &Answers) -> Option<()> {
    // In the background, so that what comes meanwhile is read; in one place, so that no frame is put into another.
    let mut writing = stream.try_clone().ok()?;
    let (writer, frames) = mpsc::channel::<Vec<u8>>();
    thread::spawn(move || frames.iter().try_for_each(|frames| writing.write_all(&frames)));
    stream.read_exact(&mut [0; PREFACE.len()]).ok()?;
    writer.send(frame(SETTINGS, 0, 0, &[])).ok()?;
    loop {
        let (head, payload) = next_frame(stream).ok()?;
        let id = u32::from_be_bytes([head[5], head[6], head[7], head[8]]);
        match head[3] {
            SETTINGS if head[4] == 0 => writer.send(frame(SETTINGS, 1, 0, &[])).ok()?,
            PING if head[4] == 0 => writer.send(frame(PING, 1, 0, &payload)).ok()?,
            HEADERS | DATA => {
                let ends = head[4] & END_STREAM != 0;
                if let Ok(more) = u32::try_from(payload.len())
                    && head[3] == DATA
                    && more > 0
                {
                    writer.send(frame(WINDOW_UPDATE, 0, 0, &more.to_be_bytes())).ok()?;
                    writer.send(frame(WINDOW_UPDATE, 0, id, &more.to_be_bytes())).ok()?;
                }
                let asked =
                    if head[3] == DATA { Asked::Data(id, &payload, ends) } else { Asked::Head(id, ends) };
                if let Some((frames, then)) = answer(asked) {
                    writer.send(frames).ok()?;
                    if then == Then::Closes {
                        return None;
                    }
                }
            }
            _ => {}
        }
    }
}
