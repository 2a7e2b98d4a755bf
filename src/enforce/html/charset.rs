//! The character encoding of a page, as far as it matters here.
//!
//! The rewriter reads every encoding in which the bytes of ASCII mean ASCII; those of a character's second
//! half, as in Shift_JIS, it tells apart (`characters`), so that the page keeps its encoding, on which its forms,
//! links and files rest. UTF-16 and ISO-2022-JP are not among them: they are transcoded to UTF-8. The result begins with a UTF-8 byte order mark,
//! which browsers trust above the head and any `meta` (WHATWG HTML, "determining the character
//! encoding"), so that no later word about the old encoding can mislead them.

use encoding_rs::{Decoder, Encoding, ISO_2022_JP, UTF_8, UTF_16BE, UTF_16LE};

/// Bytes in which a `meta` may name the encoding (WHATWG HTML, "prescan a byte stream").
pub const PRESCAN: usize = 1024;

/// The UTF-8 byte order mark.
pub const BOM: &[u8] = b"\xef\xbb\xbf";

/// What the first bytes say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Opening {
    /// More bytes are needed.
    More,
    /// ASCII means ASCII; so many bytes of byte order mark come first.
    Plain {
        /// Length of a UTF-8 byte order mark: 3 or 0.
        bom: usize,
        /// What is named.
        charset: Option<&'static Encoding>,
    },
    /// To be transcoded to UTF-8; so many bytes of byte order mark come first.
    Transcode {
        /// From what.
        from: &'static Encoding,
        /// Length of its byte order mark: 2 or 0.
        bom: usize,
    },
}

/// Reads the `charset` of the last `Content-Type`.
#[must_use]
pub fn of_content_type(value: &str) -> Option<&'static Encoding> {
    // What most pages say.
    if value.eq_ignore_ascii_case("text/html; charset=utf-8") {
        return Some(UTF_8);
    }
    value.split(';').skip(1).find_map(|parameter| {
        let (name, value) = parameter.split_once('=')?;
        let value = value.trim().trim_matches(['"', '\'']);
        name.trim().eq_ignore_ascii_case("charset").then(|| Encoding::for_label(value.as_bytes()))?
    })
}

/// Decides how a body is read: byte order mark, then the head, then the XML declaration or, in HTML, a
/// `meta` in the first 1,024 bytes. A page that says nothing and shifts to Japanese is ISO-2022-JP: browsers
/// guess so.
///
/// `start` is the body so far, `ended` whether that is all of it, `xml` how it is read.
#[must_use]
pub fn open(start: &[u8], ended: bool, head: Option<&'static Encoding>, xml: bool) -> Opening {
    match start {
        [0xef, 0xbb, 0xbf, ..] => return Opening::Plain { bom: 3, charset: Some(UTF_8) },
        [0xfe, 0xff, ..] => return Opening::Transcode { from: UTF_16BE, bom: 2 },
        [0xff, 0xfe, ..] => return Opening::Transcode { from: UTF_16LE, bom: 2 },
        [] | [0xfe | 0xff | 0xef] | [0xef, 0xbb] if !ended => return Opening::More,
        _ => {}
    }
    if let Some(encoding) = head {
        return by_encoding(encoding);
    }
    match start {
        [b'<', 0, b'?', 0, b'x', 0, ..] => return Opening::Transcode { from: UTF_16LE, bom: 0 },
        [0, b'<', 0, b'?', 0, b'x', ..] => return Opening::Transcode { from: UTF_16BE, bom: 0 },
        _ => {}
    }
    let named = |start| if xml { None } else { prescan(start) };
    if start.len() < PRESCAN && !ended {
        // Enough is known once a declaration or a `meta` has spoken; else wait for the whole window, as
        // browsers do. In HTML a `meta` behind a declaration still overrules it.
        let declared = if xml { declared(start) } else { None };
        return declared.or_else(|| named(start)).map_or(Opening::More, by_encoding);
    }
    let window = &start[..start.len().min(PRESCAN)];
    named(window)
        .or_else(|| declared(window))
        .or_else(|| shifts_to_japanese(window).then_some(ISO_2022_JP))
        .map_or(Opening::Plain { bom: 0, charset: None }, by_encoding)
}

/// The encoding an XML declaration names; UTF-16 is none in which it could be read so.
fn declared(start: &[u8]) -> Option<&'static Encoding> {
    let tail =
        start.strip_prefix(b"<?xml").filter(|tail| tail.first().is_some_and(u8::is_ascii_whitespace))?;
    let declaration = &tail[..memchr::memchr(b'>', tail)?];
    let at = memchr::memmem::find(declaration, b"encoding")?;
    let value = declaration[at + 8..].trim_ascii_start().strip_prefix(b"=")?.trim_ascii_start();
    let (quote, value) = value.split_first().filter(|(q, _)| matches!(q, b'"' | b'\''))?;
    let found = Encoding::for_label(&value[..memchr::memchr(*quote, value)?])?;
    Some(if found == UTF_16BE || found == UTF_16LE { UTF_8 } else { found })
}

/// Whether ISO-2022-JP's escapes to two-byte sets are there (ISO 2022; Encoding, 12.2).
fn shifts_to_japanese(window: &[u8]) -> bool {
    memchr::memchr_iter(0x1b, window).any(|at| matches!(window[at + 1..], [b'$', b'@' | b'B', ..]))
}

fn by_encoding(encoding: &'static Encoding) -> Opening {
    if encoding == UTF_16BE || encoding == UTF_16LE || encoding == ISO_2022_JP {
        Opening::Transcode { from: encoding, bom: 0 }
    } else {
        Opening::Plain { bom: 0, charset: Some(encoding) }
    }
}

/// The encoding a `meta` names, by the standard's rules: comments are skipped, UTF-16 means UTF-8
/// (its `meta` could not be read otherwise).
fn prescan(bytes: &[u8]) -> Option<&'static Encoding> {
    let mut at = 0;
    while let Some(offset) = memchr::memchr(b'<', bytes.get(at..)?) {
        at += offset;
        let rest = &bytes[at..];
        if rest.starts_with(b"<!--") {
            // The two dashes that open a comment may close it as well: `<!-->`.
            at += 2 + memchr::memmem::find(&rest[2..], b"-->")? + 3;
        } else if is_tag(rest, b"meta") {
            let (found, length) = meta(&rest[5..])?;
            if found.is_some() {
                return found;
            }
            at += 5 + length;
        } else if matches!(rest, [b'<', b'/', c, ..] | [b'<', c, ..] if c.is_ascii_alphabetic()) {
            let name = rest[1..].iter().position(|b| b.is_ascii_whitespace() || *b == b'>')?;
            let mut attributes = Attributes { bytes: &rest[1 + name..], at: 0 };
            while attributes.next()?.is_some() {}
            at += 1 + name + attributes.at;
        } else if matches!(rest, [b'<', b'!' | b'/' | b'?', ..]) {
            at += memchr::memchr(b'>', rest)?;
        } else {
            at += 1;
        }
    }
    None
}

fn is_tag(bytes: &[u8], name: &[u8]) -> bool {
    bytes.get(1..=name.len()).is_some_and(|n| n.eq_ignore_ascii_case(name))
        && bytes.get(name.len() + 1).is_some_and(|b| b.is_ascii_whitespace() || *b == b'/')
}

/// Reads a `meta`'s attributes: the encoding it names, and how long the tag is. `None`: it is cut.
pub(super) fn meta(bytes: &[u8]) -> Option<(Option<&'static Encoding>, usize)> {
    let (mut pragma, mut in_content, mut in_charset) = (false, None, None);
    let mut attributes = Attributes { bytes, at: 0 };
    while let Some((name, value)) = attributes.next()? {
        if name.eq_ignore_ascii_case(b"http-equiv") {
            pragma |= value.eq_ignore_ascii_case(b"content-type");
        } else if name.eq_ignore_ascii_case(b"content") && in_content.is_none() {
            in_content = charset_in_content(value);
        } else if name.eq_ignore_ascii_case(b"charset") && in_charset.is_none() {
            in_charset = Some(value);
        }
    }
    let label = in_charset.or(in_content.filter(|_| pragma));
    let found =
        label.and_then(Encoding::for_label).map(|e| if e == UTF_16BE || e == UTF_16LE { UTF_8 } else { e });
    Some((found, attributes.at))
}

/// `charset=...` within a `content` attribute (WHATWG HTML, "extracting a character encoding").
fn charset_in_content(value: &[u8]) -> Option<&[u8]> {
    let mut rest = value;
    loop {
        let at = rest.windows(7).position(|w| w.eq_ignore_ascii_case(b"charset"))?;
        rest = rest[at + 7..].trim_ascii_start();
        if let [b'=', tail @ ..] = rest {
            let tail = tail.trim_ascii_start();
            return match tail {
                [quote @ (b'"' | b'\''), inner @ ..] => {
                    inner.iter().position(|b| b == quote).map(|end| &inner[..end])
                }
                _ => {
                    let end = tail.iter().position(|b| b.is_ascii_whitespace() || *b == b';');
                    Some(&tail[..end.unwrap_or(tail.len())])
                }
            };
        }
    }
}

/// Attributes of a start tag, as the prescan reads them.
struct Attributes<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Attributes<'a> {
    /// The next one: outer `None` when the bytes end first, inner `None` at the tag's end.
    fn next(&mut self) -> Option<Option<(&'a [u8], &'a [u8])>> {
        while self.bytes.get(self.at)?.is_ascii_whitespace() || self.bytes[self.at] == b'/' {
            self.at += 1;
        }
        if self.bytes[self.at] == b'>' {
            return Some(None);
        }
        let start = self.at;
        self.skip_until(|b, first| {
            (b == b'=' && !first) || b.is_ascii_whitespace() || b == b'/' || b == b'>'
        })?;
        let name = &self.bytes[start..self.at];
        let after_name = self.at;
        while self.bytes.get(self.at)?.is_ascii_whitespace() {
            self.at += 1;
        }
        if self.bytes[self.at] != b'=' {
            self.at = after_name;
            return Some(Some((name, b"")));
        }
        self.at += 1;
        while self.bytes.get(self.at)?.is_ascii_whitespace() {
            self.at += 1;
        }
        let value = match self.bytes[self.at] {
            quote @ (b'"' | b'\'') => {
                let start = self.at + 1;
                let length = memchr::memchr(quote, &self.bytes[start..])?;
                self.at = start + length + 1;
                &self.bytes[start..start + length]
            }
            _ => {
                let start = self.at;
                self.skip_until(|b, _| b.is_ascii_whitespace() || b == b'>')?;
                &self.bytes[start..self.at]
            }
        };
        Some(Some((name, value)))
    }

    fn skip_until(&mut self, stop: impl Fn(u8, bool) -> bool) -> Option<()> {
        let start = self.at;
        while !stop(*self.bytes.get(self.at)?, self.at == start) {
            self.at += 1;
        }
        Some(())
    }
}

/// Turns UTF-16 or ISO-2022-JP into UTF-8, piece by piece. What cannot be decoded becomes U+FFFD, as
/// in a browser.
pub struct Transcoder {
    decoder: Decoder,
}

impl std::fmt::Debug for Transcoder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Transcoder").field("from", &self.decoder.encoding().name()).finish()
    }
}

impl Transcoder {
    /// For a body whose byte order mark was taken off.
    #[must_use]
    pub fn new(from: &'static Encoding) -> Self {
        Self { decoder: from.new_decoder_without_bom_handling() }
    }

    /// Appends the UTF-8 of the next piece to `out`; `last` says that no more comes.
    pub fn write(&mut self, mut input: &[u8], last: bool, out: &mut Vec<u8>) {
        loop {
            let start = out.len();
            // At most three bytes of UTF-8 for each byte, and a little for what was kept back.
            out.resize(start + input.len() * 3 + 16, 0);
            let (result, read, written, _) = self.decoder.decode_to_utf8(input, &mut out[start..], last);
            out.truncate(start + written);
            input = &input[read..];
            if result == encoding_rs::CoderResult::InputEmpty {
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use encoding_rs::{SHIFT_JIS, WINDOWS_1252};

    const JP: Opening = Opening::Transcode { from: ISO_2022_JP, bom: 0 };
    const PLAIN: Opening = Opening::Plain { bom: 0, charset: None };
    const IN_UTF_8: Opening = Opening::Plain { bom: 0, charset: Some(UTF_8) };

    /// WHATWG HTML: byte order mark, then the head, then the prescan.
    #[test]
    fn a_byte_order_mark_beats_the_head_and_the_head_beats_a_meta() {
        assert_eq!(
            open(b"\xef\xbb\xbfx", false, Some(UTF_16LE), false),
            Opening::Plain { bom: 3, charset: Some(UTF_8) }
        );
        assert_eq!(
            open(b"\xff\xfex\0", false, Some(UTF_8), false),
            Opening::Transcode { from: UTF_16LE, bom: 2 }
        );
        assert_eq!(open(b"\xfe\xff\0x", false, None, false), Opening::Transcode { from: UTF_16BE, bom: 2 });
        assert_eq!(open(b"<meta charset=iso-2022-jp>", false, Some(UTF_8), false), IN_UTF_8);
        assert_eq!(open(b"<", false, Some(UTF_16BE), false), Opening::Transcode { from: UTF_16BE, bom: 0 });
    }

    #[test]
    fn too_few_bytes_are_waited_for_and_an_end_decides() {
        for start in [&b""[..], b"\xef", b"\xef\xbb", b"\xfe", b"\xff"] {
            assert_eq!(open(start, false, Some(UTF_8), false), Opening::More, "{start:?}");
            assert_eq!(open(start, true, Some(UTF_8), false), IN_UTF_8, "{start:?}");
        }
        assert_eq!(open(b"<html>", false, None, false), Opening::More);
        assert_eq!(open(b"<html>", true, None, false), PLAIN);
        assert_eq!(open(&[b' '; PRESCAN], false, None, false), PLAIN);
    }

    /// WHATWG HTML, "prescan a byte stream to determine its encoding".
    #[test]
    fn a_meta_in_the_first_bytes_names_the_encoding() {
        for yes in [
            "<meta charset=iso-2022-jp>",
            "<META CHARSET='ISO-2022-JP' >",
            "<meta/charset=\"csiso2022jp\"/>",
            "<meta http-equiv=content-type content='text/html; charset=iso-2022-jp'>",
            "<meta content=\"text/html; charset = 'iso-2022-jp'\" http-equiv=Content-Type>",
            "<!doctype html><!-- x --><html a=1 b='>'><meta name=x><meta charset=iso-2022-jp>",
            "<!--><meta charset=iso-2022-jp>",
            "<?xml version='1.0'?></p x='<'><meta charset=iso-2022-jp>",
        ] {
            assert_eq!(open(yes.as_bytes(), true, None, false), JP, "{yes}");
        }
        for no in [
            "<meta content='text/html; charset=iso-2022-jp'>",
            "<!-- <meta charset=iso-2022-jp> -->",
            "<p title='<meta charset=iso-2022-jp>'>",
            "<metas charset=iso-2022-jp>",
            "<meta charset=iso-2022-jp",
            "<meta charset=none>",
            "text",
            "<",
            "<meta http-equiv=content-type content='charset'>",
        ] {
            assert_eq!(open(no.as_bytes(), true, None, false), PLAIN, "{no}");
        }
    }

    /// XML 1.0, F, and WHATWG HTML, "get an XML encoding": the declaration names it, without bytes of UTF-16 or
    /// with them.
    #[test]
    fn an_xml_declaration_names_the_encoding() {
        let declared = b"<?xml version='1.0' encoding = \"iso-2022-jp\"?><a/>";
        assert_eq!(open(declared, false, None, true), JP);
        assert_eq!(open(declared, true, None, false), JP);
        assert_eq!(open(declared, true, Some(UTF_8), true), IN_UTF_8);
        let both = b"<?xml encoding='iso-2022-jp'?><meta charset=utf-8>";
        assert_eq!(open(both, true, None, false), IN_UTF_8);
        assert_eq!(open(both, true, None, true), JP);
        for no in
            ["<?xmlx encoding='iso-2022-jp'?>", "<?xml encoding=iso-2022-jp?>", "<meta charset=iso-2022-jp>"]
        {
            assert_eq!(open(no.as_bytes(), true, None, true), PLAIN, "{no}");
        }
        assert_eq!(open(b"<?xml encoding='utf-16'?>", true, None, true), IN_UTF_8);
        assert_eq!(open(b"<meta charset=utf-16>", true, None, false), IN_UTF_8);
        let wide = |big: bool| -> Vec<u8> {
            "<?xml?>".bytes().flat_map(|b| if big { [0, b] } else { [b, 0] }).collect()
        };
        assert_eq!(open(&wide(false), false, None, true), Opening::Transcode { from: UTF_16LE, bom: 0 });
        assert_eq!(open(&wide(true), false, None, false), Opening::Transcode { from: UTF_16BE, bom: 0 });
    }

    /// Browsers guess ISO-2022-JP from its escapes; read as anything else, its text holds `<` and `"`.
    #[test]
    fn a_page_that_shifts_to_japanese_without_a_word_is_iso_2022_jp() {
        assert_eq!(open(b"<p>\x1b$B$\"<\x1b(B</p>", true, None, false), JP);
        assert_eq!(open(b"<p>\x1b$B$\"<\x1b(B</p>", true, Some(UTF_8), false), IN_UTF_8);
        assert_eq!(open(b"<meta charset=utf-8><p>\x1b$B", true, None, false), IN_UTF_8);
        assert_eq!(open(b"<p>\x1b[1m", true, None, false), PLAIN);
    }

    #[test]
    fn the_charset_of_a_content_type_is_read_with_and_without_quotes() {
        assert_eq!(of_content_type("text/html; charset=Shift_JIS"), Some(SHIFT_JIS));
        assert_eq!(of_content_type("text/html;x=y;Charset=\"latin1\""), Some(WINDOWS_1252));
        assert_eq!(of_content_type("text/html; charset=nonsense"), None);
        assert_eq!(of_content_type("text/html"), None);
    }

    #[test]
    fn a_transcoded_text_does_not_depend_on_the_cuts() {
        let text = "a\u{1f600}<b>\u{3042}\u{fffd}";
        let bytes: Vec<u8> = text.encode_utf16().flat_map(u16::to_le_bytes).collect();
        for cut in 0..=bytes.len() {
            let (mut coder, mut out) = (Transcoder::new(UTF_16LE), Vec::new());
            coder.write(&bytes[..cut], false, &mut out);
            coder.write(&bytes[cut..], true, &mut out);
            assert_eq!(String::from_utf8_lossy(&out), text, "cut at {cut}");
        }
    }
}
