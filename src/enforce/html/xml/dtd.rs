//! The internal subset of a document type declaration (XML 1.0, 2.8 and 4).
//!
//! It can hide an address from whoever reads tags alone. Entities of plain text are expanded where a value
//! is judged. What could bring markup of its own is refused: entities that hold a `<`, parameter entities
//! that are used, and default values that lead somewhere. External subsets and entities are not looked
//! at: no browser loads them.

use std::borrow::Cow;
use std::cell::Cell;
use std::collections::HashMap;

use super::tag::is_space;
use super::tokens::Broken;

/// Replacement texts together; more is no document.
const MOST_TEXT: usize = 64 * 1024;
/// Bytes a value may grow to by expansion ("billion laughs").
const MOST_EXPANDED: usize = 64 * 1024;
/// Bytes that a whole document may take by expansion, each use of an entity counted as [`STEP`] more.
const MOST_SPENT: usize = 8 << 20;
const STEP: usize = 16;
/// How deep entities may name each other.
const MOST_DEPTH: u8 = 8;

/// The internal entities of a document.
#[derive(Debug, Default)]
pub(super) struct Entities {
    texts: HashMap<Box<[u8]>, Box<[u8]>>,
    spent: Cell<usize>,
    /// Default values bind prefixes: a prefix may stand for any namespace.
    pub binds: bool,
}

impl Entities {
    /// Reads a whole `<!DOCTYPE ...>`.
    ///
    /// # Errors
    /// [`Broken`] for what cannot be read and for what is refused.
    pub(super) fn read(doctype: &[u8]) -> Result<Self, Broken> {
        let mut entities = Self::default();
        let Some(mut rest) = subset(doctype) else { return Ok(entities) };
        let mut size = 0;
        loop {
            rest = skip_space(rest);
            let (declaration, behind) = match rest {
                [] | [b']', ..] => return Ok(entities),
                [b'<', b'!', b'-', b'-', tail @ ..] => (None, after(tail, b"-->")?),
                [b'<', b'?', tail @ ..] => (None, after(tail, b"?>")?),
                [b'<', b'!', ..] => {
                    let end = declaration_end(rest).ok_or(Broken)?;
                    (Some(&rest[2..end]), &rest[end + 1..])
                }
                // `%name;` brings declarations from elsewhere.
                _ => return Err(Broken),
            };
            rest = behind;
            let Some(declaration) = declaration else { continue };
            if let Some(tail) = declaration.strip_prefix(b"ENTITY") {
                size += entities.entity(tail)?;
            } else if let Some(tail) = declaration.strip_prefix(b"ATTLIST") {
                entities.defaults(tail)?;
            }
            if size > MOST_TEXT {
                return Err(Broken);
            }
        }
    }

    /// Takes one declaration; gives the size of its text. The first of a name counts (4.2).
    fn entity(&mut self, tail: &[u8]) -> Result<usize, Broken> {
        let tail = skip_space(tail);
        if tail.first() == Some(&b'%') {
            // Declared and never used does nothing; a use is refused where it stands.
            return Ok(0);
        }
        let length = tail.iter().position(|b| is_space(*b)).ok_or(Broken)?;
        let (name, value) = (&tail[..length], skip_space(&tail[length..]));
        let Some(quote @ (b'"' | b'\'')) = value.first() else { return Ok(0) };
        let end = memchr::memchr(*quote, &value[1..]).ok_or(Broken)?;
        let text = replacement(&value[1..=end])?;
        let size = text.len();
        self.texts.entry(name.into()).or_insert_with(|| text.into());
        Ok(size)
    }

    /// Looks at the default values of one `ATTLIST`.
    fn defaults(&mut self, tail: &[u8]) -> Result<(), Broken> {
        let mut rest = tail;
        while let Some(at) = rest.iter().position(|b| matches!(b, b'"' | b'\'')) {
            let end = memchr::memchr(rest[at], &rest[at + 1..]).ok_or(Broken)?;
            let value = &rest[at + 1..at + 1 + end];
            // An address, a script or a reference: what an element gets from here nobody would see.
            let leads = value.iter().any(|b| matches!(b, b'/' | b'\\' | b'&' | b'(' | b'%'));
            // `xmlns:x CDATA #FIXED "..."`
            let words = rest[..at].split(|b| is_space(*b)).rev().filter(|w| !w.is_empty());
            let binds = words.take(3).any(|word| word.starts_with(b"xmlns"));
            if leads && !binds {
                return Err(Broken);
            }
            self.binds |= binds;
            rest = &rest[at + 1 + end + 1..];
        }
        Ok(())
    }

    /// Puts the texts of internal entities in their places; other references stay for the next reader.
    ///
    /// Cost: one look without entities or without `&`.
    ///
    /// # Errors
    /// [`Broken`]: too deep, too long, or an entity within itself.
    pub(super) fn expand<'a>(&self, raw: &'a [u8]) -> Result<Cow<'a, [u8]>, Broken> {
        if self.texts.is_empty() || !raw.contains(&b'&') {
            return Ok(Cow::Borrowed(raw));
        }
        let mut out = Vec::with_capacity(raw.len());
        let most = raw.len() + MOST_EXPANDED;
        self.expand_into(raw, &mut out, most, 0)?;
        Ok(Cow::Owned(out))
    }

    fn expand_into(&self, mut raw: &[u8], out: &mut Vec<u8>, most: usize, depth: u8) -> Result<(), Broken> {
        while let Some(at) = memchr::memchr(b'&', raw) {
            out.extend_from_slice(&raw[..at]);
            raw = &raw[at..];
            // A long value without a `;` is not searched to its end each time.
            let near = &raw[1..raw.len().min(1 + 256)];
            let name = memchr::memchr(b';', near).map(|end| &near[..end]);
            match name.and_then(|name| Some((name, self.texts.get(name)?))) {
                Some((name, text)) => {
                    self.spent.set(self.spent.get() + text.len() + STEP);
                    if depth == MOST_DEPTH || self.spent.get() > MOST_SPENT {
                        return Err(Broken);
                    }
                    self.expand_into(text, out, most, depth + 1)?;
                    raw = &raw[name.len() + 2..];
                }
                None => {
                    out.push(b'&');
                    raw = &raw[1..];
                }
            }
            if out.len() > most {
                return Err(Broken);
            }
        }
        out.extend_from_slice(raw);
        if out.len() > most { Err(Broken) } else { Ok(()) }
    }
}

/// The replacement text of an entity value: character references are decoded, the others stay (4.4).
fn replacement(value: &[u8]) -> Result<Vec<u8>, Broken> {
    let mut out = Vec::with_capacity(value.len());
    let mut rest = value;
    while let Some((&byte, tail)) = rest.split_first() {
        rest = tail;
        match (byte, tail) {
            // Markup within, or text from a parameter entity.
            (b'<' | b'%', _) => return Err(Broken),
            (b'&', [b'#', number @ ..]) => {
                let end = memchr::memchr(b';', number).ok_or(Broken)?;
                let digits = std::str::from_utf8(&number[..end]).map_err(|_| Broken)?;
                let code = match digits.strip_prefix('x') {
                    Some(hex) => u32::from_str_radix(hex, 16),
                    None => digits.parse(),
                };
                let character = code.ok().and_then(char::from_u32).ok_or(Broken)?;
                if character == '<' {
                    return Err(Broken);
                }
                out.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes());
                rest = &number[end + 1..];
            }
            _ => out.push(byte),
        }
    }
    // `&#38;#60;` and `&#38;lt;` are `<` once more when they are used; as text only.
    Ok(out)
}

/// What stands behind the `[`; `None` without an internal subset.
fn subset(doctype: &[u8]) -> Option<&[u8]> {
    let mut quote = None;
    for (at, byte) in doctype.iter().enumerate() {
        match (quote, byte) {
            (Some(open), byte) if open == *byte => quote = None,
            (Some(_), _) => {}
            (None, b'"' | b'\'') => quote = Some(*byte),
            (None, b'[') => return Some(&doctype[at + 1..]),
            (None, _) => {}
        }
    }
    None
}

/// The place of the `>` that ends a declaration, quotes observed.
fn declaration_end(rest: &[u8]) -> Option<usize> {
    let mut quote = None;
    rest.iter().position(|byte| {
        match (quote, byte) {
            (Some(open), byte) if open == *byte => quote = None,
            (Some(_), _) => {}
            (None, b'"' | b'\'') => quote = Some(*byte),
            (None, b'>') => return true,
            (None, _) => {}
        }
        false
    })
}

fn after<'a>(rest: &'a [u8], mark: &[u8]) -> Result<&'a [u8], Broken> {
    let at = memchr::memmem::find(rest, mark).ok_or(Broken)?;
    Ok(&rest[at + mark.len()..])
}

fn skip_space(bytes: &[u8]) -> &[u8] {
    &bytes[bytes.iter().take_while(|b| is_space(**b)).count()..]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn expanded(subset: &str, raw: &str) -> Result<String, Broken> {
        let entities = Entities::read(format!("<!DOCTYPE x SYSTEM '[' [{subset}]>").as_bytes())?;
        Ok(String::from_utf8_lossy(&entities.expand(raw.as_bytes())?).into_owned())
    }

    /// XML 1.0, 4.2 to 4.5: first declaration, nested names, character references in the value.
    #[test]
    fn entities_of_plain_text_are_put_in_their_places() {
        for (subset, raw, want) in [
            ("<!ENTITY a 'x'>", "&a;-&b;-&amp;-&a", "x-&b;-&amp;-&a"),
            ("<!ENTITY a \"x\"> <!ENTITY a 'y'>", "&a;", "x"),
            ("<!ENTITY a '&b;!'><!ENTITY b 'it&#39;s'>", "&a;", "it's!"),
            ("<!ENTITY t '//t&#x2e;example'>", "&t;/p", "//t.example/p"),
            ("<!ENTITY t '&#38;#47;'>", "&t;", "&#47;"),
            ("<!-- <!ENTITY a 'x'> ]> --><?p <!ENTITY a 'x'?>", "&a;", "&a;"),
            ("<!ENTITY a SYSTEM 'https://t.example/x'>", "&a;", "&a;"),
            ("<!ELEMENT x ANY><!ATTLIST x y CDATA 'xMid YMid' z (a|b) 'a'>", "&a;", "&a;"),
            ("<!ENTITY % p 'x'>", "&p;", "&p;"),
            ("", "&a;", "&a;"),
        ] {
            assert_eq!(expanded(subset, raw).as_deref(), Ok(want), "{subset}");
        }
    }

    #[test]
    fn what_could_bring_markup_is_refused() {
        for subset in [
            "<!ENTITY a '<b/>'>",
            "<!ENTITY a '&#60;b/>'>",
            "<!ENTITY a '&#x3c;b/>'>",
            "<!ENTITY % p '<!ENTITY a \"x\">'> %p;",
            "%p;",
            "<!ENTITY a '%p;'>",
            "<!ATTLIST img src CDATA '//t.example/p'>",
            "<!ATTLIST img src CDATA 'x' alt CDATA \"&#47;\">",
            "<!ATTLIST x onload CDATA 'f()'>",
            "<!ENTITY a 'x",
            "<!ENTITY a",
            "x",
        ] {
            assert_eq!(expanded(subset, ""), Err(Broken), "{subset}");
        }
        let names = Entities::read(b"<!DOCTYPE x [<!ATTLIST x xmlns:y CDATA #FIXED 'http://z/'>]>").unwrap();
        assert!(names.binds);
    }

    /// "Billion laughs": small declarations that expand without end.
    #[test]
    fn expansion_is_bounded() {
        let mut subset = String::from("<!ENTITY e0 'ha'>");
        for n in 1..8 {
            subset += &format!("<!ENTITY e{n} '{}'>", format!("&e{};", n - 1).repeat(20));
        }
        assert_eq!(expanded(&subset, "&e7;"), Err(Broken));
        // Of nothing, too.
        assert_eq!(expanded(&subset.replace("'ha'", "''"), "&e7;"), Err(Broken));
        assert_eq!(expanded("<!ENTITY a '&b;'><!ENTITY b '&a;'>", "&a;"), Err(Broken));
        let many = format!("<!ENTITY a '{}'>", "x".repeat(MOST_TEXT + 1));
        assert_eq!(expanded(&many, ""), Err(Broken));
    }
}
