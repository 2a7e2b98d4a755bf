//! The fields of an HTTP/2 message, which its library reads leniently: it will stand as HTTP/1.1 on the other side.

use http::HeaderMap;
use http::header::CONTENT_LENGTH;

use super::Reason;
use super::head::decimal;

/// Holds a message's fields to what they would be in HTTP/1.1. `ended`: its body has.
///
/// Values as by [`hold_values_to_http1`]; refused is also a length that is not one plain number (RFC 9110, 8.6): the
/// library takes an empty one for 0, and `00` too. A body that is said to be empty before it has ended loses its
/// length: with data behind it the message is malformed (RFC 9113, 8.1.1), which must show before anybody takes it for
/// whole.
///
/// Cost: one pass over the fields.
///
/// # Errors
/// What is wrong.
pub fn hold_to_http1(headers: &mut HeaderMap, ended: bool) -> Result<(), Reason> {
    hold_values_to_http1(headers)?;
    let mut lengths = headers.get_all(CONTENT_LENGTH).iter();
    let length = match (lengths.next(), lengths.next()) {
        (_, Some(_)) => return Err(Reason::RepeatedLength),
        (Some(length), None) => Some(decimal(length.as_bytes()).ok_or(Reason::Length)?),
        (None, None) => None,
    };
    if length == Some(0) && !ended {
        headers.remove(CONTENT_LENGTH);
    }
    Ok(())
}

/// Refuses values that begin or end with white space (RFC 9113, 8.2.1), which HTTP/1.1 would lose.
///
/// # Errors
/// There is one.
pub fn hold_values_to_http1(fields: &HeaderMap) -> Result<(), Reason> {
    let blank = |byte: Option<&u8>| matches!(byte, Some(b' ' | b'\t'));
    match fields.values().any(|v| blank(v.as_bytes().first()) || blank(v.as_bytes().last())) {
        true => Err(Reason::FieldValue),
        false => Ok(()),
    }
}
