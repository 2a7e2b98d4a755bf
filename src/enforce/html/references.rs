//! Character references in attribute values and text (HTML, "named character reference state").
//!
//! The table holds the names whose value is ASCII, or becomes ASCII or nothing when a URL parser maps
//! a host (UTS 46): no other name can lead to a host of the registry. The rest stay as written.

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::LazyLock;

/// `name`, `+` when the semicolon may be missing, code points in hexadecimal.
const TABLE: &str = include_str!("named_references.txt");

/// Where a reference stands; the rules differ for a missing semicolon.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    /// In an attribute: `&copy=2` is not a reference.
    Attribute,
    /// In text.
    Text,
}

struct Named {
    text: String,
    bare: bool,
}

static NAMED: LazyLock<HashMap<&'static str, Named>> = LazyLock::new(|| {
    let mut names = HashMap::new();
    for line in TABLE.lines() {
        let mut parts = line.split(' ');
        let (Some(name), Some(bare)) = (parts.next(), parts.next()) else { continue };
        let text = parts.filter_map(|p| u32::from_str_radix(p, 16).ok().and_then(char::from_u32)).collect();
        names.insert(name, Named { text, bare: bare == "+" });
    }
    names
});

/// Decodes the references of a value. Borrowed when there is none.
///
/// Cost: one byte search without `&`.
pub(super) fn decode(raw: &str, place: Place) -> Cow<'_, str> {
    let Some(first) = memchr::memchr(b'&', raw.as_bytes()) else { return Cow::Borrowed(raw) };
    let mut out = String::with_capacity(raw.len());
    out.push_str(&raw[..first]);
    let mut rest = &raw[first..];
    while let Some(at) = rest.find('&') {
        out.push_str(&rest[..at]);
        let tail = &rest[at + 1..];
        let used = match tail.strip_prefix('#') {
            Some(number) => numeric(number, &mut out).map(|n| n + 1),
            None => named(tail, place, &mut out),
        };
        match used {
            Some(used) => rest = &tail[used..],
            None => {
                out.push('&');
                rest = tail;
            }
        }
    }
    out.push_str(rest);
    Cow::Owned(out)
}

/// Encodes a decoded value so that it can be written into an attribute again; `"` is the writer's part.
pub(super) fn encode(value: &str) -> Cow<'_, str> {
    if value.contains('&') { Cow::Owned(value.replace('&', "&amp;")) } else { Cow::Borrowed(value) }
}

fn named(tail: &str, place: Place, out: &mut String) -> Option<usize> {
    let len = tail.bytes().take_while(u8::is_ascii_alphanumeric).count();
    let next = tail.as_bytes().get(len).copied();
    if let Some(found) = NAMED.get(&tail[..len]) {
        if next == Some(b';') {
            out.push_str(&found.text);
            return Some(len + 1);
        }
        if found.bare && (place == Place::Text || next != Some(b'=')) {
            out.push_str(&found.text);
            return Some(len);
        }
    }
    None
}

fn numeric(number: &str, out: &mut String) -> Option<usize> {
    let (digits, radix, lead) = match number.as_bytes().first() {
        Some(b'x' | b'X') => (&number[1..], 16, 1),
        _ => (number, 10, 0),
    };
    let len = digits.bytes().take_while(|b| char::from(*b).is_digit(radix)).count();
    if len == 0 {
        return None;
    }
    let code = digits[..len].bytes().fold(0u32, |sum, b| {
        sum.saturating_mul(radix).saturating_add(char::from(b).to_digit(radix).unwrap_or(0))
    });
    out.push(character(code));
    let semicolon = usize::from(digits.as_bytes().get(len) == Some(&b';'));
    Some(lead + len + semicolon)
}

/// "Numeric character reference end state": 0x80-0x9F read as windows-1252.
fn character(code: u32) -> char {
    match code {
        0 => char::REPLACEMENT_CHARACTER,
        0x80..=0x9F => {
            let byte = [u8::try_from(code).unwrap_or(b'?')];
            encoding_rs::WINDOWS_1252.decode_without_bom_handling(&byte).0.chars().next().unwrap_or('?')
        }
        _ => char::from_u32(code).unwrap_or(char::REPLACEMENT_CHARACTER),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// HTML 13.2.5.73-80, and the ways to write `https://` that a byte search would miss.
    #[test]
    fn references_are_decoded_by_the_attribute_rules() {
        for (raw, expected) in [
            ("https&#58;//a.b", "https://a.b"),
            ("https&#58//a.b", "https://a.b"),
            ("https&#x3A;&#x2f;/a.b", "https://a.b"),
            ("https&colon;&sol;&sol;a&period;b", "https://a.b"),
            ("?a=1&copy=2&amp;b=3", "?a=1&copy=2&b=3"),
            ("?a&amp=1", "?a&amp=1"),
            ("?a&ampb", "?a&ampb"),
            ("?a&amp", "?a&"),
            ("&", "&"),
            ("&#;&#x;&#xg", "&#;&#x;&#xg"),
            ("&#0;&#x110000;", "\u{fffd}\u{fffd}"),
            ("&#x99999999999;", "\u{fffd}"),
            ("&#128;", "\u{20ac}"),
            ("&Tab;&NewLine;", "\t\n"),
            ("&fjlig;", "fj"),
            ("&eacute;", "&eacute;"),
            ("&bsol&sol", "&bsol&sol"),
        ] {
            assert_eq!(decode(raw, Place::Attribute), expected, "{raw}");
        }
        assert_eq!(decode("&amp=", Place::Text), "&=");
    }
}
