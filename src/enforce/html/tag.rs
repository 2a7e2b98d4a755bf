//! One tag as it stands in the page: its name as a number, and its attributes (HTML 13.2.5.6-40).

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

/// The attributes of a whole start tag, in order; `tag` is everything from `<` to `>`.
pub(super) fn attributes(tag: &[u8]) -> Attributes<'_> {
    let inner = tag.strip_suffix(b">").unwrap_or(tag);
    let name = inner.iter().position(|b| is_space(*b) || *b == b'/').unwrap_or(inner.len());
    Attributes { rest: &inner[name..] }
}

/// See [`attributes`].
#[derive(Debug)]
pub(super) struct Attributes<'a> {
    rest: &'a [u8],
}

impl<'a> Iterator for Attributes<'a> {
    type Item = (&'a [u8], &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        let start = self.rest.iter().position(|b| !is_space(*b) && *b != b'/')?;
        let rest = &self.rest[start..];
        // The first byte belongs to the name, even `=`.
        let end = rest[1..].iter().position(|b| is_space(*b) || matches!(b, b'=' | b'/'));
        let (name, rest) = rest.split_at(end.map_or(rest.len(), |n| n + 1));
        let after = trim(rest);
        let Some(value) = after.strip_prefix(b"=").map(trim) else {
            self.rest = rest;
            return Some((name, b""));
        };
        let (value, rest) = match value.first() {
            Some(quote @ (b'"' | b'\'')) => {
                let end = memchr::memchr(*quote, &value[1..]).map_or(value.len(), |n| n + 1);
                (&value[1..end], value.get(end + 1..).unwrap_or_default())
            }
            _ => value.split_at(value.iter().position(|b| is_space(*b)).unwrap_or(value.len())),
        };
        self.rest = rest;
        Some((name, value))
    }
}

fn trim(bytes: &[u8]) -> &[u8] {
    &bytes[bytes.iter().take_while(|b| is_space(**b)).count()..]
}

/// The value of the first attribute of this (lower-case) name.
pub(super) fn attribute<'a>(tag: &'a [u8], wanted: &[u8]) -> Option<&'a [u8]> {
    attributes(tag).find(|(name, _)| name.eq_ignore_ascii_case(wanted)).map(|(_, value)| value)
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
                .map(|(n, v)| (std::str::from_utf8(n).unwrap(), std::str::from_utf8(v).unwrap()))
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
