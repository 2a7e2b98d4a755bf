//! The fields of an HTTP/2 message, which its library reads leniently: it will stand as HTTP/1.1 on the other side.

use http::{HeaderMap, header};

use super::Reason;
use super::head::decimal;

/// Refuses values that begin or end with white space (RFC 9113, 8.2.1), which HTTP/1.1 would lose, and a length that is
/// not one plain number (RFC 9110, 8.6): the library takes an empty one for 0, and `00` too.
///
/// Cost: one pass over the fields.
///
/// # Errors
/// What is wrong.
pub fn check_fields(headers: &HeaderMap) -> Result<(), Reason> {
    let blank = |byte: Option<&u8>| matches!(byte, Some(b' ' | b'\t'));
    if headers.values().any(|v| blank(v.as_bytes().first()) || blank(v.as_bytes().last())) {
        return Err(Reason::FieldValue);
    }
    let mut lengths = headers.get_all(header::CONTENT_LENGTH).iter();
    match (lengths.next(), lengths.next()) {
        (_, Some(_)) => Err(Reason::RepeatedLength),
        (Some(length), None) if decimal(length.as_bytes()).is_none() => Err(Reason::Length),
        _ => Ok(()),
    }
}
