//! One start tag of XML (XML 1.0, 3.1): its name and attributes, read strictly.

use super::tokens::{Broken, begins_name};

/// One attribute as it stands in the tag.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Attribute<'a> {
    /// With its prefix.
    pub name: &'a [u8],
    /// Between the quotes.
    pub value: &'a [u8],
    /// Where it begins in the tag, white space before it included.
    pub start: usize,
    /// Where its value begins, quote included.
    pub quote: usize,
    /// The byte behind its closing quote.
    pub end: usize,
}

/// A start tag.
#[derive(Debug, Clone, Copy)]
pub(super) struct Tag<'a> {
    /// Everything from `<` to `>`.
    pub bytes: &'a [u8],
    /// With its prefix.
    pub name: &'a [u8],
    /// It has no content and no end tag.
    pub empty: bool,
}

impl<'a> Tag<'a> {
    /// Reads a whole tag's name; its attributes are read by [`Tag::attributes`].
    pub(super) fn read(bytes: &'a [u8]) -> Self {
        let inner = bytes.get(1..bytes.len() - 1).unwrap_or_default();
        let length = inner.iter().position(|b| is_space(*b) || *b == b'/').unwrap_or(inner.len());
        Self { bytes, name: &inner[..length], empty: inner.ends_with(b"/") }
    }

    /// Its attributes in order, the first fault instead of what follows it.
    pub(super) fn attributes(&self) -> Attributes<'a> {
        let end = self.bytes.len() - 1 - usize::from(self.empty);
        Attributes { bytes: &self.bytes[..end], at: 1 + self.name.len() }
    }

    /// The value of an attribute; of several (no parser takes that) the first.
    pub(super) fn attribute(&self, name: &[u8]) -> Option<&'a [u8]> {
        self.attributes().filter_map(Result::ok).find(|a| a.name == name).map(|a| a.value)
    }
}

/// The attributes of an instruction such as `xml-stylesheet`, behind its target.
pub(super) fn pseudo_attributes(bytes: &[u8], target: usize) -> Attributes<'_> {
    Attributes { bytes: &bytes[..bytes.len() - 2], at: 2 + target }
}

/// See [`Tag::attributes`].
#[derive(Debug)]
pub(super) struct Attributes<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Attributes<'a> {
    fn blank(&self, at: usize) -> usize {
        at + self.bytes[at..].iter().take_while(|b| is_space(**b)).count()
    }

    fn read(&mut self) -> Option<Attribute<'a>> {
        let start = self.at;
        let from = self.blank(start);
        let length = self.bytes[from..].iter().position(|b| is_space(*b) || *b == b'=')?;
        let name = &self.bytes[from..from + length];
        let named = name.first().is_some_and(|b| begins_name(*b))
            && !name.iter().any(|b| matches!(b, b'"' | b'\'' | b'<' | b'/' | b'&'));
        let equals = self.blank(from + length);
        if from == start || !named || self.bytes.get(equals) != Some(&b'=') {
            return None;
        }
        let quote = self.blank(equals + 1);
        let byte = *self.bytes.get(quote).filter(|b| matches!(b, b'"' | b'\''))?;
        let length = memchr::memchr(byte, &self.bytes[quote + 1..])?;
        let value = &self.bytes[quote + 1..quote + 1 + length];
        let end = quote + 1 + length + 1;
        self.at = end;
        (!value.contains(&b'<')).then_some(Attribute { name, value, start, quote, end })
    }
}

impl<'a> Iterator for Attributes<'a> {
    type Item = Result<Attribute<'a>, Broken>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.at >= self.bytes.len() || self.blank(self.at) == self.bytes.len() {
            return None;
        }
        let read = self.read();
        if read.is_none() {
            self.at = self.bytes.len();
        }
        Some(read.ok_or(Broken))
    }
}

/// XML white space (XML 1.0, 2.3).
pub(super) const fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\r' | b'\n')
}

/// Splits a name at its prefix.
pub(super) fn split(name: &[u8]) -> (&[u8], &[u8]) {
    match memchr::memchr(b':', name) {
        Some(at) => (&name[..at], &name[at + 1..]),
        None => (b"", name),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(tag: &str) -> (String, bool, Vec<Option<(String, String)>>) {
        let read = Tag::read(tag.as_bytes());
        let text = |b: &[u8]| String::from_utf8_lossy(b).into_owned();
        let attributes = read.attributes().map(|a| a.ok().map(|a| (text(a.name), text(a.value)))).collect();
        (text(read.name), read.empty, attributes)
    }

    #[test]
    fn a_tag_is_read_with_its_attributes() {
        let pair = |n: &str, v: &str| Some((n.to_owned(), v.to_owned()));
        assert_eq!(read("<a>"), ("a".into(), false, vec![]));
        assert_eq!(read("<x:a\n/>"), ("x:a".into(), true, vec![]));
        assert_eq!(read("<a b='1>' c = \"/\" />"), ("a".into(), true, vec![pair("b", "1>"), pair("c", "/")]));
        let tag = Tag::read(b"<a  b='1'>");
        let b = tag.attributes().next().unwrap().unwrap();
        assert_eq!((b.start, b.quote, b.end), (2, 6, 9));
    }

    /// XML 1.0, 3.1: well-formedness of attributes.
    #[test]
    fn attributes_that_no_parser_takes_are_broken() {
        for tag in [
            "<a b>",
            "<a b=1>",
            "<a b='1'c='2'>",
            "<a b='<'>",
            "<a =''>",
            "<a 1='2'>",
            "<a \"b\"='c'>",
            "<a / b='c'>",
        ] {
            assert!(read(tag).2.contains(&None), "{tag}");
        }
    }
}
