//! The page's bytes as text, so that places in the text are places in the page.
//!
//! Nothing is decoded to be read: every byte is the character that it is in windows-1252, whatever the page's
//! charset. Two more kinds of character stand among these, from the areas for private use, which no byte is:
//!
//! - `TRAIL` and a byte: an ASCII byte that is the second half of a character, as in Shift_JIS, whose 表 ends in
//!   a backslash's byte. Nobody who reads style or script may take it for the character it looks like.
//! - `MEANT` and a unit of UTF-16: what a reference or an escape stands for. It is no byte of the page.
//!
//! Only what an address or a value says is decoded, by [`Charset::meaning`].

use std::borrow::Cow;

use encoding_rs::{BIG5, EUC_KR, Encoding, GB18030, GBK, SHIFT_JIS, UTF_8, WINDOWS_1252};

const TRAIL: u32 = 0xE000;
const MEANT: u32 = 0xF_0000;

/// The page's bytes as text: each byte is a character, whatever the page's charset.
///
/// Cost: one look at the bytes where all are ASCII.
pub(super) fn as_text(bytes: &[u8]) -> Cow<'_, str> {
    WINDOWS_1252.decode_without_bom_handling(bytes).0
}

/// The way back, of [`Charset::text`] too; what a reference stands for is written in UTF-8.
pub(super) fn as_bytes(text: &str) -> Cow<'_, [u8]> {
    let (bytes, _, others) = WINDOWS_1252.encode(text);
    if !others {
        return bytes;
    }
    let mut out = Vec::with_capacity(text.len());
    for run in runs(text) {
        match run {
            Run::Page(bytes) => out.extend_from_slice(&bytes),
            Run::Meant(text) => out.extend_from_slice(text.as_bytes()),
        }
    }
    out.into()
}

/// Appends what a reference or an escape stands for.
pub(super) fn push_meant(text: &str, out: &mut String) {
    if text.is_ascii() {
        out.push_str(text);
        return;
    }
    for unit in text.encode_utf16() {
        let code = u32::from(unit);
        out.extend(char::from_u32(if unit < 0x80 { code } else { MEANT + code }));
    }
}

/// A text of Unicode as the page's texts are read.
pub(super) fn as_meant(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    push_meant(text, &mut out);
    out
}

/// A piece of a text.
enum Run {
    /// Bytes of the page.
    Page(Vec<u8>),
    /// What references stand for.
    Meant(String),
}

fn runs(text: &str) -> impl Iterator<Item = Run> {
    let mut rest = text;
    std::iter::from_fn(move || {
        let meant = meant_unit(rest.chars().next()?).is_some();
        let end = rest.find(|c| meant_unit(c).is_some() != meant).unwrap_or(rest.len());
        let (run, behind) = rest.split_at(end);
        rest = behind;
        Some(match meant {
            true => {
                let units: Vec<u16> = run.chars().filter_map(meant_unit).collect();
                Run::Meant(String::from_utf16_lossy(&units))
            }
            false => Run::Page(page_bytes(run)),
        })
    })
}

fn meant_unit(c: char) -> Option<u16> {
    u16::try_from(u32::from(c).checked_sub(MEANT)?).ok()
}

fn page_bytes(text: &str) -> Vec<u8> {
    let trail = |c: char| u32::from(c).checked_sub(TRAIL).filter(|byte| *byte < 0x80);
    let (mut out, mut rest) = (Vec::with_capacity(text.len()), text);
    while let Some(at) = rest.find(|c| trail(c).is_some()) {
        let (before, behind) = rest.split_at(at);
        out.extend_from_slice(&WINDOWS_1252.encode(before).0);
        let mut chars = behind.chars();
        out.extend(chars.next().and_then(trail).and_then(|byte| u8::try_from(byte).ok()));
        rest = chars.as_str();
    }
    out.extend_from_slice(&WINDOWS_1252.encode(rest).0);
    out
}

/// In which encoding a page's bytes are characters; `None`: it says nothing, and browsers guess.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Charset(pub Option<&'static Encoding>);

impl Charset {
    /// Bytes as text, in which no second half of a character is taken for ASCII. A text begins with a whole
    /// character: what stands before it in markup is no first half.
    ///
    /// Cost: as [`as_text`] but where such halves are, in five encodings.
    pub(super) fn text(self, bytes: &[u8]) -> Cow<'_, str> {
        let Some(encoding) = self.0.filter(|e| [SHIFT_JIS, BIG5, GBK, GB18030, EUC_KR].contains(e)) else {
            return as_text(bytes);
        };
        if bytes.is_ascii() {
            return as_text(bytes);
        }
        let (mut out, mut copied) = (String::with_capacity(bytes.len() * 2), 0);
        for at in trails(encoding, bytes) {
            out.push_str(&as_text(&bytes[copied..at]));
            out.extend(char::from_u32(TRAIL + u32::from(bytes[at])));
            copied = at + 1;
        }
        out.push_str(&as_text(&bytes[copied..]));
        out.into()
    }

    /// What a text says, as the browser reads it.
    ///
    /// Cost: nothing where all is ASCII.
    pub(super) fn meaning(self, text: &str) -> Cow<'_, str> {
        if text.is_ascii() {
            return Cow::Borrowed(text);
        }
        let mut out = String::with_capacity(text.len());
        for run in runs(text) {
            match run {
                Run::Page(bytes) => out.push_str(&self.decoded(&bytes)),
                Run::Meant(text) => out.push_str(&text),
            }
        }
        Cow::Owned(out)
    }

    /// Without a name what is UTF-8 is taken for it, and anything else for what Western browsers guess.
    fn decoded(self, bytes: &[u8]) -> Cow<'_, str> {
        let guessed = || if std::str::from_utf8(bytes).is_ok() { UTF_8 } else { WINDOWS_1252 };
        let text = self.0.unwrap_or_else(guessed).decode_without_bom_handling(bytes).0;
        Cow::Owned(text.into_owned())
    }
}

/// The places of ASCII bytes, digits apart, that are the second half of a character.
fn trails(encoding: &'static Encoding, bytes: &[u8]) -> impl Iterator<Item = usize> {
    let mut at = 0;
    let one =
        move |range: &[u8]| encoding.decode_without_bom_handling_and_without_replacement(range).is_some();
    std::iter::from_fn(move || {
        loop {
            at += bytes.get(at..)?.iter().position(|b| !b.is_ascii())?;
            let rest = &bytes[at..];
            match rest {
                // Four bytes, two of them digits: with a digit less they would be something else.
                [_, b'0'..=b'9', third, b'0'..=b'9', ..] if encoding == GB18030 && !third.is_ascii() => {
                    at += if one(&rest[..4]) { 4 } else { 2 };
                }
                [lead, second, ..] if begins_pair(encoding, *lead) => {
                    let pair = !second.is_ascii() || second.is_ascii() && one(&rest[..2]);
                    // An ASCII byte that makes no pair stands for itself.
                    at += if pair { 2 } else { 1 };
                    if pair && second.is_ascii() {
                        return Some(at - 1);
                    }
                }
                _ => at += 1,
            }
        }
    })
}

/// Whether a byte is the first of two (Encoding, 10-14).
fn begins_pair(encoding: &'static Encoding, byte: u8) -> bool {
    match byte {
        0x80 | 0xFF => false,
        0xA0..=0xDF | 0xFD.. => encoding != SHIFT_JIS,
        _ => !byte.is_ascii(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const DOUBLE: [&Encoding; 5] = [SHIFT_JIS, BIG5, GBK, GB18030, EUC_KR];

    /// The ASCII that is left is the ASCII that a browser reads, whatever the bytes.
    fn ascii_agrees(encoding: &'static Encoding, bytes: &[u8]) {
        let charset = Charset(Some(encoding));
        let text = charset.text(bytes);
        let left =
            |text: &str| -> String { text.chars().filter(|c| c.is_ascii() && !c.is_ascii_digit()).collect() };
        let decoded = encoding.decode_without_bom_handling(bytes).0;
        assert_eq!(left(&text), left(&decoded), "{} {bytes:x?}", encoding.name());
        assert_eq!(*as_bytes(&text), *bytes);
        assert_eq!(charset.meaning(&text), decoded);
    }

    proptest! {
        /// Encoding, 10-14: lead bytes without a second half, unmapped pairs, four bytes of gb18030.
        #[test]
        fn no_half_of_a_character_is_taken_for_ascii(bytes in proptest::collection::vec(
            prop_oneof![0x80..=0xFF_u8, 0x30..=0x7F_u8, proptest::sample::select(&b"\x81\xfe\x7e\x5c\x30\x39"[..])],
            0..24,
        )) {
            for encoding in DOUBLE {
                ascii_agrees(encoding, &bytes);
            }
        }
    }

    #[test]
    fn every_pair_is_read_as_the_standard_reads_it() {
        for encoding in DOUBLE {
            for lead in 0x80..=0xFF {
                for second in 0x20..=0xFF {
                    ascii_agrees(encoding, &[lead, second, b'\\', b'"']);
                }
            }
        }
    }

    /// What a reference stands for is itself in any charset, astral characters too.
    #[test]
    fn what_is_meant_is_no_byte_of_the_page() {
        let text = format!("\u{e9}a{}", as_meant("b\u{e9}\u{3002}\u{1d41d}"));
        assert_eq!(Charset(Some(WINDOWS_1252)).meaning(&text), "\u{e9}ab\u{e9}\u{3002}\u{1d41d}");
        assert_eq!(
            *as_bytes(&text),
            *"\u{e9}ab\u{e9}\u{3002}\u{1d41d}"
                .replacen('\u{e9}', "?", 1)
                .into_bytes()
                .iter()
                .map(|b| if *b == b'?' { 0xE9 } else { *b })
                .collect::<Vec<_>>()
        );
        assert_eq!(Charset::default().meaning("caf\u{e9}"), "caf\u{e9}");
        assert_eq!(Charset::default().meaning("caf\u{c3}\u{a9}"), "caf\u{e9}");
    }
}
