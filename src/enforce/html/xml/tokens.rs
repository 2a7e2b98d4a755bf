//! XML cut into tokens (XML 1.0, 2 and 3), as far as a rewriter needs them.
//!
//! Well-formed input is read as a browser's XML parser reads it. Of other input only so much is promised:
//! whatever makes the extent of a tag unsure is [`Broken`], and no browser reads on behind it.

use memchr::{memchr, memmem};

/// One token; its bytes are the input's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Token<'a> {
    /// Character data with references, in pieces of any size.
    Text(&'a [u8]),
    /// Inside a CDATA section, in pieces: references mean nothing.
    Literal(&'a [u8]),
    /// A comment or the edge of a CDATA section, in pieces: nothing in it means anything.
    Other(&'a [u8]),
    /// A start tag or an empty-element tag, whole.
    Start(&'a [u8]),
    /// An end tag, whole.
    End(&'a [u8]),
    /// A processing instruction or the XML declaration, whole.
    Instruction(&'a [u8]),
    /// The document type declaration with its internal subset, whole.
    Doctype(&'a [u8]),
}

impl<'a> Token<'a> {
    /// Its bytes as they came.
    pub(super) const fn bytes(self) -> &'a [u8] {
        match self {
            Self::Text(b)
            | Self::Literal(b)
            | Self::Other(b)
            | Self::Start(b)
            | Self::End(b)
            | Self::Instruction(b)
            | Self::Doctype(b) => b,
        }
    }
}

/// The input is not well-formed where it matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Broken;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mode {
    Content,
    Comment,
    Literal,
    /// In a tag; the quote it stands in.
    Tag(Option<u8>),
    Instruction,
    Doctype(Part),
}

/// Where in a document type declaration.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Part {
    Outside,
    Subset,
    Quote { byte: u8, subset: bool },
    Comment,
    Instruction,
}

/// Cuts tokens off the front of a growing buffer.
#[derive(Debug)]
pub(super) struct Tokens {
    mode: Mode,
    /// Bytes of the token under way that need no second look.
    scanned: usize,
}

impl Tokens {
    /// At the start of a document.
    pub(super) const fn new() -> Self {
        Self { mode: Mode::Content, scanned: 0 }
    }

    /// The token at the front of `buf`; `None` when more bytes are needed. Give the same bytes again then,
    /// with more behind them.
    ///
    /// # Errors
    /// [`Broken`].
    pub(super) fn next<'a>(&mut self, buf: &'a [u8]) -> Result<Option<Token<'a>>, Broken> {
        if self.mode == Mode::Content {
            if buf.is_empty() {
                return Ok(None);
            }
            let text = memchr(b'<', buf).unwrap_or(buf.len());
            if text > 0 {
                return Ok(Some(Token::Text(&buf[..text])));
            }
            let Some((mode, length)) = opening(buf)? else { return Ok(None) };
            self.mode = mode;
            self.scanned = length;
            if matches!(mode, Mode::Comment | Mode::Literal) {
                return Ok(Some(Token::Other(&buf[..length])));
            }
        }
        Ok(match self.mode {
            Mode::Content => None,
            Mode::Comment => self.piece(buf, b"-->", Token::Other),
            Mode::Literal => self.piece(buf, b"]]>", Token::Literal),
            Mode::Instruction => self.instruction(buf),
            Mode::Tag(quote) => self.tag(buf, quote),
            Mode::Doctype(part) => self.doctype(buf, part)?,
        })
    }

    fn done<'a>(&mut self, token: Token<'a>) -> Option<Token<'a>> {
        self.mode = Mode::Content;
        self.scanned = 0;
        Some(token)
    }

    /// What stands before an end mark, then the mark itself.
    fn piece<'a>(
        &mut self,
        buf: &'a [u8],
        end: &[u8],
        token: impl Fn(&'a [u8]) -> Token<'a>,
    ) -> Option<Token<'a>> {
        match memmem::find(buf, end) {
            Some(0) => self.done(Token::Other(&buf[..end.len()])),
            Some(at) => Some(token(&buf[..at])),
            // The mark may have begun.
            None => {
                let sure = buf.len().saturating_sub(end.len() - 1);
                (sure > 0).then(|| token(&buf[..sure]))
            }
        }
    }

    fn instruction<'a>(&mut self, buf: &'a [u8]) -> Option<Token<'a>> {
        match memmem::find(&buf[self.scanned..], b"?>") {
            Some(at) => {
                let end = self.scanned + at + 2;
                self.done(Token::Instruction(&buf[..end]))
            }
            None => {
                self.scanned = self.scanned.max(buf.len() - 1);
                None
            }
        }
    }

    fn tag<'a>(&mut self, buf: &'a [u8], mut quote: Option<u8>) -> Option<Token<'a>> {
        let mut at = self.scanned;
        while let Some(rest) = buf.get(at..).filter(|rest| !rest.is_empty()) {
            let found = match quote {
                Some(byte) => memchr(byte, rest),
                None => rest.iter().position(|b| matches!(b, b'"' | b'\'' | b'>')),
            };
            let Some(found) = found else { break };
            at += found + 1;
            match (quote, rest[found]) {
                (Some(_), _) => quote = None,
                (None, b'>') => {
                    let tag = &buf[..at];
                    let end = tag.get(1) == Some(&b'/');
                    return self.done(if end { Token::End(tag) } else { Token::Start(tag) });
                }
                (None, byte) => quote = Some(byte),
            }
        }
        self.mode = Mode::Tag(quote);
        self.scanned = buf.len();
        None
    }

    fn doctype<'a>(&mut self, buf: &'a [u8], mut part: Part) -> Result<Option<Token<'a>>, Broken> {
        let mut at = self.scanned;
        while let Some(rest) = buf.get(at..).filter(|rest| !rest.is_empty()) {
            let subset = part == Part::Subset;
            let (next, used) = match (part, rest[0]) {
                (Part::Outside, b'>') => return Ok(self.done(Token::Doctype(&buf[..=at]))),
                (Part::Outside, b'[') => (Part::Subset, 1),
                (Part::Subset, b']') => (Part::Outside, 1),
                (Part::Outside | Part::Subset, byte @ (b'"' | b'\'')) => (Part::Quote { byte, subset }, 1),
                (Part::Outside, b'<') => return Err(Broken),
                (Part::Subset, b'<') => match rest {
                    [_, b'!', b'-', b'-', ..] => (Part::Comment, 4),
                    [_, b'?', ..] => (Part::Instruction, 2),
                    [_] | [_, b'!'] | [_, b'!', b'-'] => break,
                    _ => (Part::Subset, 1),
                },
                (Part::Quote { byte, subset }, _) => match memchr(byte, rest) {
                    Some(end) => (if subset { Part::Subset } else { Part::Outside }, end + 1),
                    None => (part, rest.len()),
                },
                (Part::Comment | Part::Instruction, _) => {
                    let mark: &[u8] = if part == Part::Comment { b"-->" } else { b"?>" };
                    match memmem::find(rest, mark) {
                        Some(end) => (Part::Subset, end + mark.len()),
                        None if rest.len() < mark.len() => break,
                        None => (part, rest.len() - (mark.len() - 1)),
                    }
                }
                _ => (part, 1),
            };
            part = next;
            at += used;
        }
        self.mode = Mode::Doctype(part);
        self.scanned = at;
        Ok(None)
    }
}

/// What a `<` begins, and how many bytes of it are sure. `None`: more bytes are needed.
fn opening(buf: &[u8]) -> Result<Option<(Mode, usize)>, Broken> {
    const MARKS: [(&[u8], Mode); 3] = [
        (b"<!--", Mode::Comment),
        (b"<![CDATA[", Mode::Literal),
        (b"<!DOCTYPE", Mode::Doctype(Part::Outside)),
    ];
    match buf.get(1) {
        None => Ok(None),
        Some(b'?') => Ok(Some((Mode::Instruction, 2))),
        Some(b'!') => {
            if let Some((mark, mode)) = MARKS.iter().find(|(mark, _)| buf.starts_with(mark)) {
                return Ok(Some((*mode, mark.len())));
            }
            if MARKS.iter().any(|(mark, _)| mark.starts_with(buf)) { Ok(None) } else { Err(Broken) }
        }
        Some(b'/') => Ok(Some((Mode::Tag(None), 2))),
        Some(&byte) if begins_name(byte) => Ok(Some((Mode::Tag(None), 1))),
        Some(_) => Err(Broken),
    }
}

/// Whether a byte may begin a name (XML 1.0, 2.3); a non-ASCII letter's may.
pub(super) const fn begins_name(byte: u8) -> bool {
    matches!(byte, b'a'..=b'z' | b'A'..=b'Z' | b'_' | b':' | 0x80..)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Tokens with pieces of a kind joined, so that cuts do not show.
    fn read(pieces: &[&[u8]]) -> Result<Vec<(char, String)>, Broken> {
        let (mut tokens, mut buf, mut out) = (Tokens::new(), Vec::new(), Vec::<(char, String)>::new());
        for piece in pieces {
            buf.extend_from_slice(piece);
            while let Some(token) = tokens.next(&buf)? {
                let kind = match token {
                    Token::Text(_) => 't',
                    Token::Literal(_) => 'l',
                    Token::Other(_) => 'o',
                    Token::Start(_) => 's',
                    Token::End(_) => 'e',
                    Token::Instruction(_) => 'i',
                    Token::Doctype(_) => 'd',
                };
                let text = String::from_utf8_lossy(token.bytes()).into_owned();
                let length = token.bytes().len();
                match out.last_mut() {
                    Some((last, joined)) if *last == kind && matches!(kind, 't' | 'l' | 'o') => {
                        joined.push_str(&text)
                    }
                    _ => out.push((kind, text)),
                }
                buf.drain(..length);
            }
        }
        out.push(('.', String::from_utf8_lossy(&buf).into_owned()));
        Ok(out)
    }

    /// XML 1.0, 2.4 to 2.8 and 3.1: `>` in quotes, `<` in comments, brackets in a subset.
    #[test]
    fn a_document_is_cut_alike_at_every_cut() {
        let text = concat!(
            "<?xml version='1.0'?><!-- <a> - -- --><!DOCTYPE svg PUBLIC \"]>\" '>' [<!-- ' ]> --><?p ]>?>",
            "<!ENTITY a '<b>]>'><!ENTITY b \"'\">] ><svg a='>' b=\"'>\">x &amp; y<![CDATA[<c>]]]]>",
            "<g/></svg ><!---->"
        );
        let whole = read(&[text.as_bytes()]).unwrap();
        let kinds: String = whole.iter().map(|(kind, _)| *kind).collect();
        assert_eq!(kinds, "iodstoloseo.", "{whole:#?}");
        assert_eq!(whole[2].1.len(), text.find("<svg").unwrap() - text.find("<!DOCTYPE").unwrap());
        assert_eq!(whole.iter().map(|(_, text)| text.as_str()).collect::<String>(), text);
        for cut in 0..=text.len() {
            let (a, b) = text.as_bytes().split_at(cut);
            assert_eq!(read(&[a, b]).unwrap(), whole, "cut at {cut}");
        }
        let bytes: Vec<&[u8]> = text.as_bytes().chunks(1).collect();
        assert_eq!(read(&bytes).unwrap(), whole);
    }

    #[test]
    fn what_no_parser_reads_is_broken() {
        for text in ["<1>", "< a>", "<>", "<!a>", "<![cdata[", "<!doctype x>", "a<=", "<!DOCTYPE <"] {
            assert_eq!(read(&[text.as_bytes()]), Err(Broken), "{text}");
        }
        for text in ["<a b='>", "<?x >", "<!--->", "<![CDATA[>", "<!DOCTYPE a [ > ", "<", "<!", "<!D"] {
            let tokens = read(&[text.as_bytes()]).unwrap();
            assert_ne!(tokens.last(), Some(&('.', String::new())), "{text}");
        }
    }
}
