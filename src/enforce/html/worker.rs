//! Where our statements go in a worker's script: behind its directives, before its first statement.
//!
//! A directive (`"use strict"`) counts only at the head of a script (ECMA-262, 11.2.1): what stands before
//! it would switch it off. A byte order mark and a `#!` line count only at the very start.

/// Comments and directives looked through; in a script with a longer head our statements go first.
const WINDOW: usize = 64 * 1024;

const BOM: &[u8] = b"\xef\xbb\xbf";

/// The offset for our statements; `None` when more bytes are needed to say.
///
/// `start` are the script's first bytes, `last` says that they are all. They are read as UTF-8 (HTML, "fetch a classic
/// worker script"); what browsers read otherwise has been transcoded.
pub(super) fn place(start: &[u8], last: bool) -> Option<usize> {
    let mut head = Head { text: start, at: 0, ended: last || start.len() >= WINDOW };
    match head.read() {
        Ok(at) => Some(at),
        Err(More) if head.ended => Some(head.first()),
        Err(More) => None,
    }
}

/// The bytes end where more could change the answer.
struct More;

struct Head<'a> {
    text: &'a [u8],
    at: usize,
    ended: bool,
}

impl Head<'_> {
    /// Behind a byte order mark: the first place that does no harm when nothing more is known.
    fn first(&self) -> usize {
        if self.text.starts_with(BOM) { BOM.len() } else { 0 }
    }

    fn read(&mut self) -> Result<usize, More> {
        if BOM.starts_with(self.text) && !self.text.is_empty() && self.text.len() < BOM.len() {
            return Err(More);
        }
        self.at = self.first();
        let mut place = self.at;
        if self.starts(b"#!")? {
            self.skip_line()?;
            // Its end belongs to it: behind `#!` everything is a comment.
            self.at += self.line_end()?;
            place = self.at;
        }
        loop {
            self.skip_blank()?;
            let Some(quote @ (b'"' | b'\'')) = self.peek()? else { return Ok(place) };
            let Some(end) = self.literal_end(quote)? else { return Ok(place) };
            self.at = end;
            if !self.ends_statement()? {
                return Ok(place);
            }
            place = end;
        }
    }

    /// The byte at the reading place; `None` at the end of the script.
    fn peek(&self) -> Result<Option<u8>, More> {
        match self.text.get(self.at) {
            Some(byte) => Ok(Some(*byte)),
            None if self.ended => Ok(None),
            None => Err(More),
        }
    }

    fn starts(&self, with: &[u8]) -> Result<bool, More> {
        let rest = &self.text[self.at..];
        if rest.len() < with.len() && with.starts_with(rest) && !self.ended {
            return Err(More);
        }
        Ok(rest.starts_with(with))
    }

    /// Skips white space and comments; gives whether a line ended in them.
    fn skip_blank(&mut self) -> Result<bool, More> {
        let mut line = false;
        loop {
            match self.peek()? {
                Some(b'\n' | b'\r') => {
                    line = true;
                    self.at += 1;
                }
                Some(b' ' | b'\t' | 0x0b | 0x0c) => self.at += 1,
                Some(b'/') if self.starts(b"//")? => self.skip_line()?,
                Some(b'/') if self.starts(b"/*")? => line |= self.skip_block()?,
                Some(0xc2) if self.starts(b"\xc2\xa0")? => self.at += 2,
                Some(0xef) if self.starts(BOM)? => self.at += 3,
                Some(0xe2) if self.starts(b"\xe2\x80\xa8")? || self.starts(b"\xe2\x80\xa9")? => {
                    line = true;
                    self.at += 3;
                }
                _ => return Ok(line),
            }
        }
    }

    /// To the end of the line, which stays.
    fn skip_line(&mut self) -> Result<(), More> {
        while !matches!(self.peek()?, None | Some(b'\n' | b'\r'))
            && !self.starts(b"\xe2\x80\xa8")?
            && !self.starts(b"\xe2\x80\xa9")?
        {
            self.at += 1;
        }
        Ok(())
    }

    /// Bytes of the line's end at the reading place.
    fn line_end(&self) -> Result<usize, More> {
        Ok(match self.peek()? {
            None => 0,
            Some(b'\r') if self.starts(b"\r\n")? => 2,
            Some(b'\n' | b'\r') => 1,
            Some(_) => 3,
        })
    }

    /// Behind a block comment; gives whether a line ended in it.
    fn skip_block(&mut self) -> Result<bool, More> {
        let body = &self.text[self.at + 2..];
        let Some(length) = memchr::memmem::find(body, b"*/") else { return Err(More) };
        self.at += 2 + length + 2;
        Ok(body[..length].contains(&b'\n') || body[..length].contains(&b'\r'))
    }

    /// Behind a string literal on one line; `None` when it is none.
    fn literal_end(&self, quote: u8) -> Result<Option<usize>, More> {
        let mut at = self.at + 1;
        loop {
            match self.text.get(at) {
                None if self.ended => return Ok(None),
                None => return Err(More),
                Some(b'\n' | b'\r') => return Ok(None),
                Some(b'\\') => at += 2,
                Some(byte) if *byte == quote => return Ok(Some(at + 1)),
                Some(_) => at += 1,
            }
        }
    }

    /// Whether the literal just read is a statement of its own; reads on to the next token. Without a
    /// semicolon it is one when a line ends and the next token cannot continue it (ECMA-262, 12.10).
    fn ends_statement(&mut self) -> Result<bool, More> {
        let line = self.skip_blank()?;
        match self.peek()? {
            None => Ok(true),
            Some(b';') => {
                self.at += 1;
                Ok(true)
            }
            Some(b'}') => Ok(true),
            Some(next) => {
                let continues = b".([`+-*/%,?:=!<>&|^".contains(&next)
                    || self.starts(b"in ")?
                    || self.starts(b"instanceof ")?;
                Ok(line && !continues)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The script with `|` where our statements go; found whole, and at every cut.
    fn placed(script: &str) -> String {
        let bytes = script.as_bytes();
        let at = place(bytes, true).unwrap();
        for cut in 0..bytes.len() {
            let early = place(&bytes[..cut], false);
            assert!(early.is_none_or(|early| early == at), "{script:?} cut at {cut}: {early:?} and {at}");
        }
        format!("{}|{}", &script[..at], &script[at..])
    }

    /// ECMA-262 11.2.1: a directive stays one, and nothing becomes one.
    #[test]
    fn our_statements_go_behind_the_directives_and_before_everything_else() {
        for (script, want) in [
            ("", "|"),
            ("a()", "|a()"),
            ("\u{feff}a()", "\u{feff}|a()"),
            ("'use strict';a()", "'use strict'|;a()"),
            ("\"use strict\"\na()", "\"use strict\"|\na()"),
            ("'use strict'", "'use strict'|"),
            ("\u{feff}'use strict' ; a()", "\u{feff}'use strict'| ; a()"),
            ("/* (c) */ // x\n'use strict';a", "/* (c) */ // x\n'use strict'|;a"),
            ("'ngInject';'use strict';a", "'ngInject';'use strict'|;a"),
            ("'a\\'b';'use strict'/*\n*/b", "'a\\'b';'use strict'|/*\n*/b"),
            ("'use strict'.length", "|'use strict'.length"),
            ("'use strict'\n+ a", "|'use strict'\n+ a"),
            ("'use strict'\n[1]", "|'use strict'\n[1]"),
            ("'use strict'\nin x", "|'use strict'\nin x"),
            ("'use strict'\nindex()", "'use strict'|\nindex()"),
            ("'use strict' a", "|'use strict' a"),
            ("'broken\n'", "|'broken\n'"),
            ("#!/usr/bin/x\na", "#!/usr/bin/x\n|a"),
            ("#!/usr/bin/x\r\na", "#!/usr/bin/x\r\n|a"),
            ("#!/usr/bin/x", "#!/usr/bin/x|"),
            ("#!/usr/bin/x\n'use strict';a", "#!/usr/bin/x\n'use strict'|;a"),
            ("/* never closed", "|/* never closed"),
            ("import a from './a.js';", "|import a from './a.js';"),
            ("\u{a0}\u{2028}'use strict';", "\u{a0}\u{2028}'use strict'|;"),
            ("\u{feff}", "\u{feff}|"),
        ] {
            assert_eq!(placed(script), want);
        }
    }

    #[test]
    fn a_long_head_is_not_held_for_ever() {
        let long = format!("/*{}", "x".repeat(WINDOW));
        assert_eq!(place(long.as_bytes(), false), Some(0));
        assert_eq!(place(&long.as_bytes()[..100], false), None);
    }
}
