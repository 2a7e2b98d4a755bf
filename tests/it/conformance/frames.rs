//! Requests over HTTP/2, frame by frame, and what became of them.

use super::wire::Wire;
use crate::support::frames::{
    DATA, END_HEADERS, END_STREAM, Field, GOAWAY, HEADERS, RST_STREAM, frame, hello, section,
};

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
    wire.send(hello());
    wire.send(frames);
    outcome(&mut wire, 1)
}

/// What becomes of a stream.
pub fn outcome(wire: &mut Wire, of: u32) -> Outcome {
    let mut at = 0;
    while let Some((kind, stream, payload)) = frame_at(wire, at) {
        let code = |from: usize| u32::from_be_bytes(payload[from..from + 4].try_into().unwrap());
        match (kind, stream) {
            (HEADERS, stream) if stream == of => return Outcome::Answered(status(&payload)),
            (RST_STREAM, stream) if stream == of => return Outcome::Reset(code(0)),
            (GOAWAY, 0) if code(4) != 0 => return Outcome::Reset(code(4)),
            _ => at += 9 + payload.len(),
        }
    }
    if wire.is_closed() { Outcome::Closed } else { Outcome::Silent }
}

/// Opens a tunnel on stream 1 with this head (RFC 8441), sends bytes through it, and reads until as many have come
/// back: the status, and the bytes.
pub fn tunnel(mut wire: Wire, fields: &[Field<'_>], bytes: &[u8]) -> (u16, Vec<u8>) {
    wire.send(hello());
    wire.send(frame(HEADERS, END_HEADERS, 1, &section(fields)));
    wire.send(frame(DATA, 0, 1, bytes));
    let (mut at, mut status_seen, mut data) = (0, 0, Vec::new());
    while data.len() < bytes.len() && status_seen < 300 {
        let Some((kind, stream, payload)) = frame_at(&mut wire, at) else { break };
        at += 9 + payload.len();
        match (kind, stream) {
            (HEADERS, 1) => status_seen = status(&payload),
            (DATA, 1) => data.extend(payload),
            (RST_STREAM, 1) | (GOAWAY, 0) => break,
            _ => {}
        }
    }
    (status_seen, data)
}

/// Kind, stream and payload of the frame that begins at this byte; `None` when it does not come whole.
fn frame_at(wire: &mut Wire, at: usize) -> Option<(u8, u32, Vec<u8>)> {
    let start = at + 9;
    let bytes = wire.raw(start);
    let head = bytes.get(at..start)?;
    let end = start + u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
    let stream = u32::from_be_bytes([head[5] & 0x7f, head[6], head[7], head[8]]);
    Some((head[3], stream, wire.raw(end).get(start..end)?.to_vec()))
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
