//! Character references in attribute values and text (HTML, "named character reference state").
//!
//! The table holds the names whose value is ASCII, or becomes ASCII or nothing when a URL parser maps
//! a host (UTS 46): no other name can lead to a host of the registry. The rest stay as written.

use std::borrow::Cow;
use std::collections::HashMap;
use std::ops::Range;
use std::sync::LazyLock;

use super::characters::{as_text, push_meant};

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
    let (mut out, mut at) = (String::with_capacity(raw.len()), first);
    out.push_str(&raw[..first]);
    while let Some((start, used, meaning)) = next_reference(raw, at, place) {
        out.push_str(&raw[at..start]);
        out.push_str(&meaning);
        at = start + used;
    }
    out.push_str(&raw[at..]);
    Cow::Owned(out)
}

/// A value with its references resolved, and where each piece of it stands in the value as written.
///
/// Characters are those of [`super::characters`].
#[derive(Debug)]
pub(super) struct Resolved<'a> {
    raw: &'a str,
    text: Cow<'a, str>,
    /// Each reference: its place in the text, its place as written.
    seams: Vec<(Range<usize>, Range<usize>)>,
}

impl<'a> Resolved<'a> {
    /// A text in which references mean nothing: it is what it is.
    pub(super) const fn plain(raw: &'a str) -> Self {
        Self { raw, text: Cow::Borrowed(raw), seams: Vec::new() }
    }

    /// Resolves the references of a value.
    ///
    /// Cost: one byte search without `&`.
    pub(super) fn new(raw: &'a str, place: Place) -> Self {
        let Some(first) = memchr::memchr(b'&', raw.as_bytes()) else { return Self::plain(raw) };
        let mut text = String::with_capacity(raw.len());
        text.push_str(&raw[..first]);
        let (mut at, mut seams) = (first, Vec::new());
        while let Some((start, used, meaning)) = next_reference(raw, at, place) {
            text.push_str(&raw[at..start]);
            let from = text.len();
            push_meant(&meaning, &mut text);
            seams.push((from..text.len(), start..start + used));
            at = start + used;
        }
        text.push_str(&raw[at..]);
        Self { raw, text: Cow::Owned(text), seams }
    }

    /// The text with references resolved.
    pub(super) fn text(&self) -> &str {
        &self.text
    }

    /// A piece of the text as it was written; a reference that is only partly in it counts whole.
    pub(super) fn written(&self, piece: &Range<usize>) -> &'a str {
        let (raw, at) = (self.raw, self.place(piece));
        raw.get(at).unwrap_or_default()
    }

    /// The value as written, with other words in the place of some pieces of its text (in order).
    pub(super) fn replace(&self, pieces: &[Range<usize>], by: &str) -> String {
        let (mut out, mut copied) = (String::with_capacity(self.raw.len()), 0);
        for piece in pieces {
            let at = self.place(piece);
            out.push_str(self.raw.get(copied..at.start).unwrap_or_default());
            out.push_str(by);
            copied = at.end.max(copied);
        }
        out + self.raw.get(copied..).unwrap_or_default()
    }

    fn place(&self, piece: &Range<usize>) -> Range<usize> {
        let outside = |at: usize, inside: fn(&Range<usize>) -> usize| {
            let before = self.seams.partition_point(|(text, _)| text.end <= at);
            match self.seams.get(before) {
                Some((text, raw)) if text.start < at => inside(raw),
                _ => match before.checked_sub(1).and_then(|last| self.seams.get(last)) {
                    Some((text, raw)) => raw.end + (at - text.end),
                    None => at,
                },
            }
        };
        outside(piece.start, |raw| raw.start)..outside(piece.end, |raw| raw.end)
    }
}

/// Resolves what stands for ASCII; everything else stays as written, for markup that is written back.
pub(super) fn decode_ascii(raw: &str) -> Cow<'_, str> {
    if !raw.contains('&') {
        return Cow::Borrowed(raw);
    }
    let (mut out, mut at) = (String::with_capacity(raw.len()), 0);
    while let Some((start, used, meaning)) = next_reference(raw, at, Place::Attribute) {
        out.push_str(&raw[at..start]);
        out.push_str(if meaning.is_ascii() { &meaning } else { &raw[start..start + used] });
        at = start + used;
    }
    out.push_str(&raw[at..]);
    Cow::Owned(out)
}

/// The next reference from `at` on: its place, its length, its meaning.
fn next_reference(raw: &str, mut at: usize, place: Place) -> Option<(usize, usize, String)> {
    loop {
        at += memchr::memchr(b'&', raw.as_bytes().get(at..)?)?;
        let (tail, mut meaning) = (&raw[at + 1..], String::new());
        let used = match tail.strip_prefix('#') {
            Some(number) => numeric(number, &mut meaning).map(|n| n + 1),
            None => named(tail, place, &mut meaning),
        };
        match used {
            Some(used) => return Some((at, used + 1, meaning)),
            None => at += 1,
        }
    }
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
            as_text(&byte).chars().next().unwrap_or('?')
        }
        _ => char::from_u32(code).unwrap_or(char::REPLACEMENT_CHARACTER),
    }
}

#[cfg(test)]
mod tests {
    use super::super::characters::Charset;
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

    /// What is cut out of a resolved text is cut out of the value as written, references and all.
    #[test]
    fn pieces_of_a_resolved_text_are_found_as_written() {
        let value = Resolved::new("a&amp;b&#65294;c&d", Place::Attribute);
        assert_eq!(Charset::default().meaning(value.text()), "a&b\u{ff0e}c&d");
        let at = |piece: &str| {
            let start = value.text().find(piece).unwrap();
            start..start + piece.len()
        };
        assert_eq!(value.written(&at("a")), "a");
        assert_eq!(value.written(&at("&b")), "&amp;b");
        assert_eq!(value.written(&at("c&d")), "c&d");
        assert_eq!(value.written(&(0..value.text().len())), "a&amp;b&#65294;c&d");
        let dot = at("b").end..at("c").start;
        assert_eq!(value.written(&(dot.start + 1..dot.end)), "&#65294;");
        assert_eq!(value.replace(&[at("&b"), at("c")], "-"), "a-&#65294;-&d");
        assert_eq!(value.replace(&[], "-"), "a&amp;b&#65294;c&d");
        assert_eq!(Resolved::plain("a&amp;b").written(&(1..4)), "&am");
    }

    /// Markup that goes back into an attribute: bytes of another charset must not be invented.
    #[test]
    fn only_ascii_is_resolved_in_markup_that_is_written_back() {
        assert_eq!(decode_ascii("&lt;p&gt;&#233;&#65294;&amp;eacute;&x"), "<p>&#233;&#65294;&eacute;&x");
    }
}
