//! Addresses that are content themselves: `data:` (WHATWG Fetch, "data: URL processor") and `javascript:`.
//!
//! An address is decoded when it comes here; what it brings has a charset of its own.

use std::borrow::Cow;

use data_encoding::{BASE64_NOPAD, Specification};
use encoding_rs::UTF_8;

use super::characters::{Charset, as_bytes, as_meant};
use super::charset;

/// What a `data:` address brings.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Data {
    /// Its media type with parameters, as written, without `;base64`.
    media: String,
    bytes: Vec<u8>,
}

/// What the content is read as.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    /// HTML.
    Html,
    /// XML, with pictures and scripts in it perhaps.
    Xml,
    /// Neither: no markup.
    Other,
}

impl Data {
    /// Reads a decoded address. `None`: another scheme, or without content.
    pub(super) fn read(address: &str) -> Option<Self> {
        let address = tidy(address);
        let rest = behind(&address, "data:")?;
        let (media, body) = rest.split_once(',')?;
        let body = percent_decoded(body.split('#').next().unwrap_or_default());
        let media = media.trim_matches(' ');
        let (media, coded) = match media.rsplit_once(';') {
            Some((before, last)) if last.trim_matches(' ').eq_ignore_ascii_case("base64") => (before, true),
            _ => (media, false),
        };
        let bytes = if coded { forgiving_base64(&body)? } else { body };
        Some(Self { media: media.to_owned(), bytes })
    }

    /// Its charset, or the one of what it stands in.
    pub(super) fn charset(&self, around: Charset) -> Charset {
        Charset(charset::of_content_type(&self.media).or(around.0))
    }

    /// What it brings, in a charset.
    pub(super) fn text(&self, charset: Charset) -> Cow<'_, str> {
        charset.text(&self.bytes)
    }

    /// Whether a style sheet or a script may be made of it. A picture or a font is large, and never is.
    pub(super) fn may_be_code(address: &str) -> bool {
        let address = address.trim_start_matches(|c| c <= ' ');
        let media = behind(address, "data:").unwrap_or("image/");
        !["image/", "font/", "audio/", "video/", "application/font", "application/x-font"]
            .iter()
            .any(|other| behind(media, other).is_some())
    }

    /// What a frame or plug-in makes of it. `None`: a charset in which our reading would be another.
    pub(super) fn form(&self) -> Option<Form> {
        let essence = self.media.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
        let form = match essence.as_str() {
            "text/html" => Form::Html,
            other if other.contains("xml") || other.contains("html") || other == "text/xsl" => Form::Xml,
            _ => Form::Other,
        };
        (form == Form::Other || self.is_readable()).then_some(form)
    }

    /// Whether [`Data::text`] is what a browser reads: neither type nor mark names a charset in which ASCII is not one
    /// byte each.
    pub(super) fn is_readable(&self) -> bool {
        let marked = self.bytes.starts_with(b"\xfe\xff") || self.bytes.starts_with(b"\xff\xfe");
        !marked && charset::of_content_type(&self.media).is_none_or(|e| e.is_ascii_compatible())
    }

    /// What it brings in such a charset.
    pub(super) fn decoded(&self) -> Option<String> {
        let named = charset::of_content_type(&self.media).unwrap_or(UTF_8);
        (!self.is_readable()).then(|| as_meant(&named.decode(&self.bytes).0))
    }

    /// The address of other content of the same type. ASCII only.
    pub(super) fn with(&self, text: &str) -> String {
        format!("data:{},", self.media) + &percent_encoded(text)
    }
}

/// The `javascript:` address of a script. ASCII only.
pub(super) fn address(script: &str) -> String {
    "javascript:".to_owned() + &percent_encoded(script)
}

fn percent_encoded(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in as_bytes(text).iter() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' => out.push(char::from(*byte)),
            b'-' | b'_' | b'.' | b'~' | b'/' | b':' | b';' | b'=' | b',' | b'+' | b'@' | b'(' | b')' => {
                out.push(char::from(*byte));
            }
            _ => out.push_str(&format!("%{byte:02X}")),
        }
    }
    out
}

/// The script in a decoded `javascript:` address.
pub(super) fn script(address: &str) -> Option<String> {
    let address = tidy(address);
    let bytes = percent_decoded(behind(&address, "javascript:")?);
    Some(as_meant(&String::from_utf8_lossy(&bytes)))
}

/// As a URL parser begins: no white space and controls around, no tabs and line ends inside.
fn tidy(address: &str) -> Cow<'_, str> {
    let address = address.trim_matches(|c| c <= ' ');
    if address.contains(['\t', '\n', '\r']) {
        return address.replace(['\t', '\n', '\r'], "").into();
    }
    address.into()
}

fn behind<'a>(address: &'a str, scheme: &str) -> Option<&'a str> {
    let found = address.get(..scheme.len())?;
    found.eq_ignore_ascii_case(scheme).then(|| &address[scheme.len()..])
}

fn percent_decoded(text: &str) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&first, tail)) = rest.split_first() {
        let digit = |at: usize| tail.get(at).and_then(|b| char::from(*b).to_digit(16));
        let decoded = match (first, digit(0), digit(1)) {
            (b'%', Some(high), Some(low)) => u8::try_from(high * 16 + low).ok(),
            _ => None,
        };
        out.push(decoded.unwrap_or(first));
        rest = if decoded.is_some() { &tail[2..] } else { tail };
    }
    out
}

/// WHATWG Infra, "forgiving-base64 decode".
fn forgiving_base64(bytes: &[u8]) -> Option<Vec<u8>> {
    let mut kept: Vec<u8> = bytes.iter().copied().filter(|b| !b.is_ascii_whitespace()).collect();
    if kept.len().is_multiple_of(4) {
        let padding = kept.iter().rev().take(2).take_while(|b| **b == b'=').count();
        kept.truncate(kept.len() - padding);
    }
    // Bits left over may be anything.
    let mut lax: Specification = BASE64_NOPAD.specification();
    lax.check_trailing_bits = false;
    lax.encoding().ok()?.decode(&kept).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn data(address: &str) -> Option<(String, String)> {
        Data::read(address).map(|d| (d.media.clone(), d.text(Charset::default()).into_owned()))
    }

    /// WHATWG Fetch, data: URLs; WHATWG Infra, forgiving-base64.
    #[test]
    fn data_addresses_are_read_as_browsers_read_them() {
        for (address, media, text) in [
            ("data:,x", "", "x"),
            ("data:text/html,<b>", "text/html", "<b>"),
            (" DATA:text/html;charset=utf-8,%3Cb%3e%zz#x", "text/html;charset=utf-8", "<b>%zz"),
            ("da\nta:text/html; base64 ,PGI+", "text/html", "<b>"),
            ("data:text/html;BASE64,PG I%2B=", "text/html", ""),
            ("data:text/html;base64,PGI", "text/html", "<b"),
            ("data:;base64,PHA+eA==", "", "<p>x"),
            ("data:;base64,PHA+eB==", "", "<p>x"),
        ] {
            let expected = (!text.is_empty()).then(|| (media.to_owned(), text.to_owned()));
            assert_eq!(data(address), expected, "{address:?}");
        }
        for none in ["data:text/html", "http://x/,", "x", "", "d\u{e9}"] {
            assert_eq!(data(none), None, "{none}");
        }
    }

    #[test]
    fn content_is_written_so_that_it_is_read_again() {
        let read = Data::read("data:text/html;charset=utf-8,x").unwrap();
        let text = "<a href=\"/x?&y#z\">caf\u{c3}\u{a9} 100%\n</a>";
        let written = read.with(text);
        assert!(written.is_ascii() && !written.contains(['"', '&', '<', ' ', '#']), "{written}");
        assert_eq!(data(&written), Some(("text/html;charset=utf-8".to_owned(), text.to_owned())));
    }

    #[test]
    fn the_form_follows_the_type_and_a_foreign_charset_is_none() {
        for (address, expected) in [
            ("data:Text/HTML ,", Some(Form::Html)),
            ("data:image/svg+xml,", Some(Form::Xml)),
            ("data:application/xhtml+xml;a=b,", Some(Form::Xml)),
            ("data:Text/XSL,", Some(Form::Xml)),
            ("data:,<b>", Some(Form::Other)),
            ("data:text/html;charset=utf-16le,<", None),
            ("data:text/html,%FE%FF", None),
        ] {
            assert_eq!(Data::read(address).unwrap().form(), expected, "{address}");
        }
        for (address, text) in [
            ("data:text/css;charset=utf-16be;base64,AGkALwAv", Some("i//")),
            ("data:text/css;base64,//5pAC8ALwA=", Some("i//")),
            ("data:text/css;charset=utf-8,i//", None),
        ] {
            assert_eq!(Data::read(address).unwrap().decoded().as_deref(), text, "{address}");
        }
    }

    #[test]
    fn a_script_address_is_decoded() {
        assert_eq!(script("\u{1}Java\tScript:a%28)").as_deref(), Some("a()"));
        assert_eq!(script("javascript"), None);
    }
}
