//! Heads as they stand on the wire, for the few that do not go through hyper. They have been found well-formed.

use std::ops::Range;

use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use memchr::memchr;

/// The lines of a head, without their ends.
fn lines(head: &[u8]) -> impl Iterator<Item = &[u8]> {
    head.split(|byte| *byte == b'\n').map(<[u8]>::trim_ascii)
}

/// A head's fields. Names and values that the types refuse are left out.
fn fields<'a>(lines: impl Iterator<Item = &'a [u8]>) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for line in lines {
        if let Some((name, value)) = split(line)
            && let Ok(value) = HeaderValue::from_bytes(&line[value])
        {
            headers.append(name, value);
        }
    }
    headers
}

/// A field line's name, and where its value stands in it without the blanks around (RFC 9112, 5). `None` where there is no
/// name that the types take.
#[must_use]
pub fn split(line: &[u8]) -> Option<(HeaderName, Range<usize>)> {
    let colon = memchr(b':', line)?;
    let name = HeaderName::from_bytes(line[..colon].trim_ascii_end()).ok()?;
    let value = line[colon + 1..].trim_ascii_start();
    let start = line.len() - value.len();
    Some((name, start..start + value.trim_ascii_end().len()))
}

/// The fields of a trailer section.
#[must_use]
pub fn read_fields(section: &[u8]) -> HeaderMap {
    fields(lines(section))
}

/// The parts of an answer's head; `None` where it has no status.
#[must_use]
pub fn read_answer(head: &[u8]) -> Option<(StatusCode, HeaderMap)> {
    let mut lines = lines(head);
    let status = StatusCode::from_bytes(lines.next()?.split(|byte| *byte == b' ').nth(1)?).ok()?;
    Some((status, fields(lines)))
}

/// The bytes of an answer's head.
#[must_use]
pub fn write_answer(status: StatusCode, headers: &HeaderMap) -> Vec<u8> {
    let reason = status.canonical_reason().unwrap_or_default();
    let mut head = format!("HTTP/1.1 {} {reason}\r\n", status.as_str()).into_bytes();
    write_fields(&mut head, headers);
    head.extend_from_slice(b"\r\n");
    head
}

/// Adds the lines of fields.
pub fn write_fields(out: &mut Vec<u8>, fields: &HeaderMap) {
    for (name, value) in fields {
        let (name, value) = (name.as_str().as_bytes(), value.as_bytes());
        out.reserve(name.len() + value.len() + 4);
        for part in [name, b": ", value, b"\r\n"] {
            out.extend_from_slice(part);
        }
    }
}
