//! Addresses inside a style sheet (CSS Syntax 4): `url(...)`, and strings, which `@import`, `image-set()`
//! and `src()` read as addresses.

use std::ops::Range;

use super::characters::push_meant;

/// An address that loads nothing, whatever kind of file was asked for.
pub(super) const NOTHING: &str = "data:,";

/// The places of the addresses that `drop` names, in order.
///
/// `drop` is asked for every string and every unquoted `url()`, escapes resolved, in order. What an
/// escape stands for is given as [`super::characters`] says.
///
/// Cost: one pass; allocation only for addresses with escapes and for what is found.
pub(super) fn addresses(css: &str, mut drop: impl FnMut(&str) -> bool) -> Vec<Range<usize>> {
    let (mut found, mut at) = (Vec::new(), 0);
    while let Some(address) = next_address(css, at) {
        if drop(&unescape(&css[address.start..address.end])) {
            found.push(address.start..address.end);
        }
        at = address.resume;
    }
    found
}

/// Whether a text can hold an address at all.
///
/// Cost: one pass over a few bytes' search.
pub(super) fn may_lead(css: &str) -> bool {
    css.bytes().any(|b| matches!(b, b'(' | b'"' | b'\'' | b'\\'))
}

struct Address {
    start: usize,
    end: usize,
    /// Where to read on.
    resume: usize,
}

/// Finds the next string or unquoted `url()` from a place between tokens.
fn next_address(css: &str, mut at: usize) -> Option<Address> {
    let bytes = css.as_bytes();
    while let Some(&byte) = bytes.get(at) {
        match byte {
            b'/' if bytes.get(at + 1) == Some(&b'*') => {
                at = css[at + 2..].find("*/").map_or(css.len(), |n| at + 2 + n + 2);
            }
            b'"' | b'\'' => {
                let end = string_end(bytes, at + 1, byte);
                return Some(Address { start: at + 1, end, resume: (end + 1).min(css.len()) });
            }
            // A word behind one of these is no function's name: `1url(`, `#url(`, `@url(`.
            b'#' | b'@' => at = word_end(bytes, at + 1),
            b'<' if bytes[at..].starts_with(b"<!--") => at += 4,
            _ => {
                let end = word_end(bytes, at);
                let url =
                    bytes.get(end) == Some(&b'(') && unescape(&css[at..end]).eq_ignore_ascii_case("url");
                at = end.max(at + 1);
                if url {
                    let start = end + 1 + bytes[end + 1..].iter().take_while(|b| is_space(**b)).count();
                    if !matches!(bytes.get(start), Some(b'"' | b'\'')) {
                        let end = bare_end(bytes, start);
                        return Some(Address { start, end, resume: url_end(bytes, end) });
                    }
                    at = start;
                }
            }
        }
    }
    None
}

/// The closing quote, the line end that breaks the string off, or the end.
fn string_end(bytes: &[u8], mut at: usize, quote: u8) -> usize {
    while let Some(&byte) = bytes.get(at) {
        match byte {
            b'\\' => at = escape_end(bytes, at),
            b'\n' | b'\r' | b'\x0C' => return at,
            _ if byte == quote => return at,
            _ => at += 1,
        }
    }
    bytes.len()
}

/// The end of a name, or of a number with its unit; an escape belongs to it whatever it stands for. A backslash
/// before a line's end is none, and a zero byte stands for U+FFFD (CSS Syntax, 3.3 and 4.3.8).
fn word_end(bytes: &[u8], mut at: usize) -> usize {
    while let Some(&byte) = bytes.get(at) {
        match byte {
            b'\\' if !matches!(bytes.get(at + 1), Some(b'\n' | b'\r' | b'\x0C')) => {
                at = escape_end(bytes, at)
            }
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'_' | b'-' | 0 | 0x80.. => at += 1,
            _ => return at,
        }
    }
    bytes.len()
}

/// The end of an unquoted address: white space or the closing bracket.
fn bare_end(bytes: &[u8], mut at: usize) -> usize {
    while let Some(&byte) = bytes.get(at) {
        match byte {
            b'\\' => at = escape_end(bytes, at),
            b')' => return at,
            _ if is_space(byte) => return at,
            _ => at += 1,
        }
    }
    bytes.len()
}

/// Where an unquoted `url()` ends: at the first bracket that is not escaped. What else stands before it makes a bad
/// address of it, which loads nothing but hides what it holds (CSS Syntax, 4.3.6 and 4.3.14).
fn url_end(bytes: &[u8], mut at: usize) -> usize {
    while let Some(&byte) = bytes.get(at) {
        match byte {
            b'\\' => at = escape_end(bytes, at),
            b')' => return at,
            _ => at += 1,
        }
    }
    bytes.len()
}

/// The byte behind an escape that begins at `at`, one white space after hexadecimal digits included.
fn escape_end(bytes: &[u8], at: usize) -> usize {
    let digits = bytes[at + 1..].iter().take(6).take_while(|b| b.is_ascii_hexdigit()).count();
    let behind = at + 1 + digits;
    // A line end may be two bytes (CSS Syntax, 3.3).
    let end = if bytes[behind..].starts_with(b"\r\n") {
        behind + 2
    } else if digits == 0 {
        // The escaped character may have several bytes; only its first may be special.
        behind + 1
    } else {
        behind + usize::from(bytes.get(behind).is_some_and(|b| is_space(*b)))
    };
    end.min(bytes.len())
}

/// Resolves escapes.
fn unescape(text: &str) -> std::borrow::Cow<'_, str> {
    if !text.contains('\\') {
        return text.into();
    }
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('\\') {
        out.push_str(&rest[..at]);
        let tail = &rest[at + 1..];
        let digits = tail.bytes().take(6).take_while(u8::is_ascii_hexdigit).count();
        if digits == 0 {
            // An escaped line end in a string stands for nothing; any other character for itself.
            let mut chars = tail.chars();
            let next = chars.next();
            out.extend(next.filter(|c| !matches!(c, '\n' | '\r' | '\x0C')));
            rest = chars.as_str();
            if next == Some('\r') {
                rest = rest.strip_prefix('\n').unwrap_or(rest);
            }
            continue;
        }
        let code =
            u32::from_str_radix(&tail[..digits], 16).ok().and_then(char::from_u32).filter(|c| *c != '\0');
        push_meant(code.unwrap_or(char::REPLACEMENT_CHARACTER).encode_utf8(&mut [0; 4]), &mut out);
        rest = &tail[digits..];
        let white = ["\r\n", " ", "\t", "\n", "\r", "\x0C"];
        rest = white.iter().find_map(|white| rest.strip_prefix(white)).unwrap_or(rest);
    }
    out.push_str(rest);
    out.into()
}

const fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\n' | b'\r' | b'\x0C')
}

#[cfg(test)]
mod tests {
    use super::super::references::Resolved;
    use super::*;

    fn filter(css: &str) -> Option<String> {
        let found = addresses(css, |url| url.starts_with("//t"));
        assert!(found.is_empty() || may_lead(css), "{css}");
        (!found.is_empty()).then(|| Resolved::plain(css).replace(&found, NOTHING))
    }

    /// CSS Syntax 4.3: quoted and bare addresses, escapes in the word and in the address, comments.
    #[test]
    fn every_way_to_write_an_address_is_read() {
        for (css, expected) in [
            ("a{b:url(//t/x)}", "a{b:url(data:,)}"),
            ("a{b:URL( '//t/x' )}", "a{b:URL( 'data:,' )}"),
            ("a{b:u\\72l(//t/x)}", "a{b:u\\72l(data:,)}"),
            ("a{b:\\75 rl(\\2f\\2f t/x)}", "a{b:\\75 rl(data:,)}"),
            (
                "@import \"//t/a.css\" layer(x);@import url(/own.css);",
                "@import \"data:,\" layer(x);@import url(/own.css);",
            ),
            ("a{b:image-set('//t/a' 1x,\"/b\" 2x)}", "a{b:image-set('data:,' 1x,\"/b\" 2x)}"),
            ("/* url(//t/x) ' */a{b:url(//t/x)}", "/* url(//t/x) ' */a{b:url(data:,)}"),
            ("a{b:url(//t/x", "a{b:url(data:,"),
            ("a{c:'x\\'//t';b:url(//t)}", "a{c:'x\\'//t';b:url(data:,)}"),
            ("a{b:'broken\n;c:url(//t)}", "a{b:'broken\n;c:url(data:,)}"),
            ("@import '\\2f\n/t/x';", "@import 'data:,';"),
            ("@import '\\2f\r\n\\2f\tt/x';", "@import 'data:,';"),
            ("@import '\\\r\n//t/x';", "@import 'data:,';"),
            ("\u{e9}{b:url(//t/\u{e9})}", "\u{e9}{b:url(data:,)}"),
            ("a{b:url( //t/x )}", "a{b:url( data:, )}"),
        ] {
            let got = filter(css);
            assert_eq!(got.as_deref(), Some(expected), "{css}");
        }
    }

    /// CSS Syntax 4.3.4, 4.3.6, 4.3.14: a quote within what is no text begins none, so that nothing behind it is
    /// hidden; nor does a bracket end what has not begun.
    #[test]
    fn an_address_behind_a_bad_one_is_read() {
        for before in [
            "b:url(x y\"z)",
            "b:url(my joe's.jpg)",
            "b:url(a\"b 'c\\)d)",
            "b:url(a(b \"c)",
            "b:url(x /*)",
            "b:url(\\\n\")",
            "b:1url(\"x)\"",
            "b:1.5e3url(')'",
            "b:#url(x')'",
            "@url(x')'",
            "b:-url(\")\"",
            "b:a\0url(x')'",
            "<!--url(x'y)",
            "b:a\\\nurl(x'y)",
            "b:\\\nurl(x'y)",
            "b:1%url(x'y)",
            "b:url(x y\n')",
        ] {
            let css = format!("a{{{before};c:url(//t/x)}}\n");
            let clean = format!("a{{{before};c:url(data:,)}}\n");
            assert_eq!(filter(&css).as_deref(), Some(&*clean), "{css}");
        }
    }

    /// Style sheets without such an address stay as they are, broken ones too.
    #[test]
    fn a_sheet_without_a_named_address_is_left_alone() {
        for css in [
            "",
            "a{b:url(/x)}",
            "/* url(//t/x)",
            "a{b:xurl(//t)}",
            "a{b:1url(//t)}",
            "a{b:#url(//t)}",
            "@url(//t)",
            "url(x //t/y)",
            "#",
            "@\\",
            "\\",
            "'\\",
            "url(",
            "url(\\",
            "a{b:url(x\\",
            "\\e9",
        ] {
            assert_eq!(filter(css), None, "{css}");
        }
    }
}
