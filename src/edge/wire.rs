//! Heads as they stand on the wire, for the few that do not go through hyper. They have been found well-formed.

use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};

/// The lines of a head, without their ends.
fn lines(head: &[u8]) -> impl Iterator<Item = &[u8]> {
    head.split(|byte| *byte == b'\n').map(<[u8]>::trim_ascii)
}

/// A head's fields. Names and values that the types refuse are left out.
fn fields<'a>(lines: impl Iterator<Item = &'a [u8]>) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for line in lines {
        let Some(colon) = line.iter().position(|byte| *byte == b':') else { continue };
        let name = HeaderName::from_bytes(line[..colon].trim_ascii_end());
        let value = HeaderValue::from_bytes(line[colon + 1..].trim_ascii());
        if let (Ok(name), Ok(value)) = (name, value) {
            headers.append(name, value);
        }
    }
    headers
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
    for (name, value) in headers {
        for part in [name.as_str().as_bytes(), b": ", value.as_bytes(), b"\r\n"] {
            head.extend_from_slice(part);
        }
    }
    head.extend_from_slice(b"\r\n");
    head
}
