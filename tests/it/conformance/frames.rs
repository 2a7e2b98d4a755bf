//! HTTP/2 frame by frame (RFC 9113, 4 and 6): written by hand, so that they can be wrong. Field sections are
//! literals without indexing and without Huffman coding (RFC 7541, 6.2.2).

use super::wire::Wire;

pub const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const GOAWAY: u8 = 7;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;

/// A field as it is sent.
pub type Field<'a> = (&'a [u8], &'a [u8]);

/// What became of stream 1.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// Its status.
    Answered(u16),
    /// Reset or given up with this code.
    Reset(u32),
    /// The connection ended without a word.
    Closed,
    /// Nothing came.
    Silent,
}

pub fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
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

/// Frames of a request: its head, pieces of data, and trailers.
pub fn request(fields: &[Field<'_>], data: &[&[u8]], trailers: Option<&[Field<'_>]>) -> Vec<u8> {
    let last = data.is_empty() && trailers.is_none();
    let mut out = frame(HEADERS, END_HEADERS | if last { END_STREAM } else { 0 }, 1, &section(fields));
    for (at, piece) in data.iter().enumerate() {
        let last = at + 1 == data.len() && trailers.is_none();
        out.extend(frame(DATA, if last { END_STREAM } else { 0 }, 1, piece));
    }
    if let Some(trailers) = trailers {
        out.extend(frame(HEADERS, END_HEADERS | END_STREAM, 1, &section(trailers)));
    }
    out
}

/// Sends these frames on a fresh connection; what became of stream 1.
pub fn ask(mut wire: Wire, frames: &[u8]) -> Outcome {
    wire.send([PREFACE, &frame(SETTINGS, 0, 0, &[])].concat());
    wire.send(frames);
    let mut want = 9;
    loop {
        let bytes = wire.raw(want);
        if bytes.len() < want {
            return if wire.is_closed() { Outcome::Closed } else { Outcome::Silent };
        }
        match read(&bytes) {
            Ok(outcome) => return outcome,
            Err(more) => want = more,
        }
    }
}

/// Opens a tunnel on stream 1 with this head (RFC 8441), sends bytes through it, and reads until as many have come
/// back: the status, and the bytes.
pub fn tunnel(mut wire: Wire, fields: &[Field<'_>], bytes: &[u8]) -> (u16, Vec<u8>) {
    wire.send([PREFACE, &frame(SETTINGS, 0, 0, &[])].concat());
    wire.send(frame(HEADERS, END_HEADERS, 1, &section(fields)));
    wire.send(frame(DATA, 0, 1, bytes));
    let (mut at, mut status_seen, mut data) = (0, 0, Vec::new());
    while data.len() < bytes.len() {
        let head = wire.raw(at + 9);
        let Some(head) = head.get(at..at + 9) else { break };
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
        let (kind, stream) = (head[3], head[8]);
        let all = wire.raw(at + 9 + length);
        let Some(payload) = all.get(at + 9..at + 9 + length) else { break };
        match (kind, stream) {
            (HEADERS, 1) => status_seen = status(payload),
            (DATA, 1) => data.extend_from_slice(payload),
            (RST_STREAM, 1) | (GOAWAY, 0) => break,
            _ => {}
        }
        if status_seen >= 300 {
            break;
        }
        at += 9 + length;
    }
    (status_seen, data)
}

/// The first thing said about stream 1, or how many bytes must be there to read on.
fn read(bytes: &[u8]) -> Result<Outcome, usize> {
    let mut at = 0;
    loop {
        let Some(head) = bytes.get(at..at + 9) else { return Err(at + 9) };
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
        let stream = u32::from_be_bytes([head[5] & 0x7f, head[6], head[7], head[8]]);
        let Some(payload) = bytes.get(at + 9..at + 9 + length) else { return Err(at + 9 + length) };
        let code = |from: usize| u32::from_be_bytes(payload[from..from + 4].try_into().unwrap());
        match (head[3], stream) {
            (HEADERS, 1) => return Ok(Outcome::Answered(status(payload))),
            (RST_STREAM, 1) => return Ok(Outcome::Reset(code(0))),
            (GOAWAY, 0) if code(4) != 0 => return Ok(Outcome::Reset(code(4))),
            _ => at += 9 + length,
        }
    }
}

/// The status in a field section that begins with it.
fn status(section: &[u8]) -> u16 {
    match section {
        [indexed @ 0x88..=0x8e, ..] => [200, 204, 206, 304, 400, 404, 500][usize::from(indexed - 0x88)],
        // A literal whose name is `:status`, with a value of three digits.
        [0x48 | 0x08 | 0x18, length, value @ ..] if length & 0x80 == 0 => {
            digits(value[..3].iter().map(|b| b - b'0'))
        }
        [0x48 | 0x08 | 0x18, length, value @ ..] => digits(huffman(&value[..usize::from(length & 0x7f)])),
        other => panic!("no status in {other:x?}"),
    }
}

fn digits(digits: impl IntoIterator<Item = u8>) -> u16 {
    digits.into_iter().fold(0, |number, digit| number * 10 + u16::from(digit))
}

/// RFC 7541, appendix B, as far as digits go: five bits for 0 to 2, six for 3 to 9.
fn huffman(bytes: &[u8]) -> Vec<u8> {
    let bits: Vec<u8> = bytes.iter().flat_map(|byte| (0..8).rev().map(move |bit| byte >> bit & 1)).collect();
    let number = |bits: &[u8]| bits.iter().fold(0, |number, bit| number * 2 + bit);
    let (mut at, mut out) = (0, Vec::new());
    while out.len() < 3 {
        let five = number(&bits[at..at + 5]);
        if five < 3 {
            (at, out) = (at + 5, [out, vec![five]].concat());
        } else {
            out.push(number(&bits[at..at + 6]) - 0x19 + 3);
            at += 6;
        }
    }
    out
}
