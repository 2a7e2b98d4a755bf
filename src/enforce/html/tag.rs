//! One tag as it stands in the page: its name as a number, and its attributes (HTML 13.2.5.6-40).

use std::ops::Range;

/// A tag name, folded to lower case, as a number that is quick to compare.
///
/// Names of up to eight bytes are packed; longer ones are hashed (FNV-1a) with the top bit set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Name(pub u64);

impl Name {
    /// The number of a name.
    pub(super) const fn of(name: &[u8]) -> Self {
        let mut at = 0;
        if name.len() <= 8 {
            let mut packed = 0_u64;
            while at < name.len() {
                packed = packed << 8 | (name[at] | 0x20) as u64;
                at += 1;
            }
            return Self(packed);
        }
        let mut hash = 0xCBF2_9CE4_8422_2325_u64;
        while at < name.len() {
            hash = (hash ^ (name[at] | 0x20) as u64).wrapping_mul(0x0100_0000_01B3);
            at += 1;
        }
        Self(hash | 1 << 63)
    }

    /// Whether it is one of a list.
    pub(super) fn is_one_of(self, names: &[Self]) -> bool {
        names.contains(&self)
    }
}

/// HTML white space.
pub(super) const fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\n' | b'\r' | b'\x0C')
}

/// An attribute as it stands in a start tag.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Attribute<'a> {
    /// Name as written.
    pub name: &'a [u8],
    /// Value as written, without quotes; empty where there is none.
    pub value: &'a [u8],
    /// From its name to the end of its value, quotes included; counted from the tag's `<`.
    pub place: Range<usize>,
}

/// The attributes of a whole start tag, in order; `tag` is everything from `<` to `>`.
pub(super) fn attributes(tag: &[u8]) -> Attributes<'_> {
    let inner = tag.strip_suffix(b">").unwrap_or(tag);
    let at = inner.iter().position(|b| is_space(*b) || *b == b'/').unwrap_or(inner.len());
    Attributes { inner, at }
}

/// See [`attributes`].
#[derive(Debug)]
pub(super) struct Attributes<'a> {
    /// The tag without its `>`.
    inner: &'a [u8],
    at: usize,
}

impl Attributes<'_> {
    fn behind_space(&self, at: usize) -> usize {
        at + self.inner[at..].iter().take_while(|b| is_space(**b)).count()
    }
}

impl<'a> Iterator for Attributes<'a> {
    type Item = Attribute<'a>;

    fn next(&mut self) -> Option<Attribute<'a>> {
        let inner = self.inner;
        let to = |from: usize, ends: fn(u8) -> bool| {
            inner[from..].iter().position(|b| ends(*b)).map_or(inner.len(), |length| from + length)
        };
        let start = self.at + inner[self.at..].iter().position(|b| !is_space(*b) && *b != b'/')?;
        // The first byte belongs to the name, even `=`.
        let end = to(start + 1, |b| is_space(b) || matches!(b, b'=' | b'/'));
        let name = &inner[start..end];
        let sign = self.behind_space(end);
        if inner.get(sign) != Some(&b'=') {
            self.at = end;
            return Some(Attribute { name, value: b"", place: start..end });
        }
        let from = self.behind_space(sign + 1);
        let (value, end) = match inner.get(from) {
            Some(quote @ (b'"' | b'\'')) => {
                let rest = &inner[from + 1..];
                let length = memchr::memchr(*quote, rest).unwrap_or(rest.len());
                (&rest[..length], (from + length + 2).min(inner.len()))
            }
            _ => {
                let end = to(from, is_space);
                (&inner[from..end], end)
            }
        };
        self.at = end;
        Some(Attribute { name, value, place: start..end })
    }
}

/// The value of the first attribute of this (lower-case) name.
pub(super) fn attribute<'a>(tag: &'a [u8], wanted: &[u8]) -> Option<&'a [u8]> {
    attributes(tag).find(|a| a.name.eq_ignore_ascii_case(wanted)).map(|a| a.value)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// HTML 13.2.5.32-40: quotes, missing values, stray signs.
    #[test]
    fn attributes_are_read_as_the_tokenizer_reads_them() {
        let cases: [(&str, &[(&str, &str)]); 10] = [
            ("<a>", &[]),
            ("<a/>", &[]),
            ("<a href=/x>", &[("href", "/x")]),
            ("<a href = \"a b\" c>", &[("href", "a b"), ("c", "")]),
            ("<a href='a\"b'c=d/>", &[("href", "a\"b"), ("c", "d/")]),
            ("<a =x=y>", &[("=x", "y")]),
            ("<a b/c / d=>", &[("b", ""), ("c", ""), ("d", "")]),
            ("<a\nb\t=\r\nc>", &[("b", "c")]),
            ("<a b=c\"d e'>", &[("b", "c\"d"), ("e'", "")]),
            ("<a b=>", &[("b", "")]),
        ];
        for (tag, expected) in cases {
            let got: Vec<_> = attributes(tag.as_bytes())
                .map(|a| (std::str::from_utf8(a.name).unwrap(), std::str::from_utf8(a.value).unwrap()))
                .collect();
            assert_eq!(got, expected, "{tag}");
        }
        assert_eq!(attribute(b"<a HREF=x href=y>", b"href"), Some(&b"x"[..]));
    }

    /// A name is its letters, whatever their case and number.
    #[test]
    fn names_are_compared_without_case() {
        assert_eq!(Name::of(b"FOOTER"), Name::of(b"footer"));
        assert_eq!(Name::of(b"foreignObject"), Name::of(b"foreignobject"));
        assert_ne!(Name::of(b"h1"), Name::of(b"h2"));
        assert_ne!(Name::of(b"a"), Name::of(b"aa"));
    }
}
