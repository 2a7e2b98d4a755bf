//! A chunked body (RFC 9112, 7.1), byte by byte at its lines and in one step over its data.

use super::Reason;
use super::bytes::{is_text_byte, is_token_byte};
use super::head::Limits;

/// Most digits of a size: more than any body has, less than can overflow.
const MAX_DIGITS: u8 = 15;
/// Longest extension of one chunk; nobody is known to use any.
const MAX_EXTENSION: u16 = 512;
/// Longest trailer section.
const MAX_TRAILERS: usize = 16 * 1024;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum At {
    /// Digits of the size, so many seen.
    Size(u8),
    /// White space that only an extension may follow, so many seen.
    Blank(u16),
    /// Bytes of an extension, so many seen.
    Extension(u16),
    SizeEnd,
    Data,
    DataCr,
    DataLf,
    TrailerLine,
    TrailerName,
    TrailerValue,
    TrailerEnd,
    LastLf,
}

/// How far a chunked body has been read.
#[derive(Debug, Clone, Copy)]
pub struct Chunks {
    at: At,
    left: u64,
    trailer_bytes: usize,
    trailers: usize,
    limits: Limits,
    /// Blanks may stand between a size and the end of its line.
    padded: bool,
}

/// What a step found: bytes that may pass, and whether the body ends with them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Step {
    pub(super) passed: usize,
    pub(super) outcome: Result<bool, Reason>,
}

impl Chunks {
    /// The beginning of a request's body; its trailer section is held to the limits of heads.
    pub(super) fn new(limits: Limits) -> Self {
        let bytes = limits.bytes.min(MAX_TRAILERS);
        let limits = Limits { bytes, ..limits };
        Self { at: At::Size(0), left: 0, trailer_bytes: 0, trailers: 0, limits, padded: false }
    }

    /// The beginning of an answer's body. Old servers pad the sizes of chunks with blanks, which nobody reads as
    /// anything else; toward the visitor the body is framed anew.
    #[must_use]
    pub fn of_answer(limits: Limits) -> Self {
        Self { padded: true, ..Self::new(limits) }
    }

    /// Takes data: of so many bytes that are here, so many; none at lines.
    pub fn data(&mut self, here: usize) -> usize {
        if self.at != At::Data {
            return 0;
        }
        let step = usize::try_from(self.left).map_or(here, |left| left.min(here));
        self.left -= step as u64;
        if self.left == 0 {
            self.at = At::DataCr;
        }
        step
    }

    /// Bytes of the chunk that is being read that are still to come.
    #[must_use]
    pub const fn left(&self) -> u64 {
        self.left
    }

    /// Whether the next byte is of the trailer section or of the empty line behind it.
    #[must_use]
    pub const fn is_behind(&self) -> bool {
        use At::{LastLf, TrailerEnd, TrailerLine, TrailerName, TrailerValue};
        matches!(self.at, TrailerLine | TrailerName | TrailerValue | TrailerEnd | LastLf)
    }

    /// Reads on.
    pub(super) fn read(&mut self, bytes: &[u8]) -> Step {
        let mut passed = 0;
        while let Some(byte) = bytes.get(passed) {
            if let step @ 1.. = self.data(bytes.len() - passed) {
                passed += step;
                continue;
            }
            match self.line_byte(*byte) {
                Ok(false) => passed += 1,
                Ok(true) => return Step { passed: passed + 1, outcome: Ok(true) },
                Err(reason) => return Step { passed, outcome: Err(reason) },
            }
        }
        Step { passed, outcome: Ok(false) }
    }

    /// One byte outside of data; true for the last one of the body.
    ///
    /// # Errors
    /// It may not stand there.
    pub fn line_byte(&mut self, byte: u8) -> Result<bool, Reason> {
        self.at = match self.at {
            At::Size(digits) => self.size_byte(byte, digits)?,
            // RFC 9112, 7.1.1, and RFC 9110, 5.6.3: bad, and to be read all the same.
            At::Blank(seen) if matches!(byte, b' ' | b'\t') && seen < MAX_EXTENSION => At::Blank(seen + 1),
            At::Blank(seen) if byte == b';' => At::Extension(seen),
            At::Blank(_) if byte == b'\r' && self.padded => At::SizeEnd,
            At::Blank(_) => return Err(Reason::ChunkSize),
            At::Extension(_) if byte == b'\r' => At::SizeEnd,
            At::Extension(seen) if is_text_byte(byte) && seen < MAX_EXTENSION => At::Extension(seen + 1),
            At::Extension(_) if byte == b'\n' => return Err(Reason::BareLf),
            At::Extension(_) => return Err(Reason::ChunkExtension),
            At::SizeEnd if byte != b'\n' => return Err(Reason::BareCr),
            At::SizeEnd if self.left == 0 => At::TrailerLine,
            At::SizeEnd => At::Data,
            At::DataCr if byte == b'\r' => At::DataLf,
            At::DataLf if byte == b'\n' => At::Size(0),
            At::Data | At::DataCr | At::DataLf => return Err(Reason::ChunkEnd),
            At::LastLf if byte == b'\n' => return Ok(true),
            At::LastLf => return Err(Reason::BareCr),
            _ => self.trailer_byte(byte)?,
        };
        Ok(false)
    }

    fn size_byte(&mut self, byte: u8, digits: u8) -> Result<At, Reason> {
        let digit = match byte {
            b'0'..=b'9' => byte - b'0',
            b'a'..=b'f' => byte - b'a' + 10,
            b'A'..=b'F' => byte - b'A' + 10,
            b'\r' if digits > 0 => return Ok(At::SizeEnd),
            b';' if digits > 0 => return Ok(At::Extension(0)),
            b' ' | b'\t' if digits > 0 => return Ok(At::Blank(1)),
            b'\n' if digits > 0 => return Err(Reason::BareLf),
            _ => return Err(Reason::ChunkSize),
        };
        if digits == 0 {
            self.left = 0;
        }
        if digits == MAX_DIGITS {
            return Err(Reason::ChunkSize);
        }
        self.left = self.left * 16 + u64::from(digit);
        Ok(At::Size(digits + 1))
    }

    fn trailer_byte(&mut self, byte: u8) -> Result<At, Reason> {
        self.trailer_bytes += 1;
        if self.trailer_bytes > self.limits.bytes {
            return Err(Reason::Trailer);
        }
        match (self.at, byte) {
            (At::TrailerLine, b'\r') => Ok(At::LastLf),
            (At::TrailerLine, b' ' | b'\t') => Err(Reason::Folded),
            (At::TrailerLine, _) if is_token_byte(byte) => {
                self.trailers += 1;
                if self.trailers > self.limits.fields { Err(Reason::Trailer) } else { Ok(At::TrailerName) }
            }
            (At::TrailerName, b':') => Ok(At::TrailerValue),
            (At::TrailerName, _) if is_token_byte(byte) => Ok(At::TrailerName),
            (At::TrailerValue, b'\r') => Ok(At::TrailerEnd),
            (At::TrailerValue, _) if is_text_byte(byte) => Ok(At::TrailerValue),
            (At::TrailerEnd, b'\n') => Ok(At::TrailerLine),
            (At::TrailerEnd, _) => Err(Reason::BareCr),
            (_, b'\n') => Err(Reason::BareLf),
            _ => Err(Reason::Trailer),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: Limits = Limits { bytes: 200, fields: 4 };

    /// Bytes passed and how it ended, with the body in one piece and in single bytes.
    fn read(body: &[u8]) -> (usize, Result<bool, Reason>) {
        let whole = Chunks::new(LIMITS).read(body);
        let mut chunks = Chunks::new(LIMITS);
        let mut passed = 0;
        let mut outcome = Ok(false);
        for byte in body {
            let step = chunks.read(std::slice::from_ref(byte));
            passed += step.passed;
            outcome = step.outcome;
            if outcome != Ok(false) {
                break;
            }
        }
        assert_eq!((whole.passed, whole.outcome), (passed, outcome), "{:?}", String::from_utf8_lossy(body));
        (passed, outcome)
    }

    #[test]
    fn the_end_is_found_and_what_follows_is_not_read() {
        let body = b"3\r\nabc\r\n0A;x=\"y\"\r\n0123456789\r\n0\r\nX-Sum: 1\r\n\r\n";
        assert_eq!(read(&[&body[..], b"GET /"].concat()), (body.len(), Ok(true)));
        let blanks = b"3 ;a\r\nabc\r\n2\t \t; a = b \r\nde\r\n0 ;\r\n\r\n";
        assert_eq!(read(blanks), (blanks.len(), Ok(true)), "RFC 9112, 7.1.1");
        assert_eq!(read(b"0\r\n\r\n"), (5, Ok(true)));
        assert_eq!(read(b"3\r\nab"), (5, Ok(false)));
    }

    #[test]
    fn every_fault_has_its_reason() {
        for (body, reason) in [
            (&b"\r\n"[..], Reason::ChunkSize),
            (b"+1\r\n", Reason::ChunkSize),
            (b"0x1\r\n", Reason::ChunkSize),
            (b"1 \r\n", Reason::ChunkSize),
            (b"1 \t\r\n", Reason::ChunkSize),
            (b"1 1;\r\n", Reason::ChunkSize),
            (b"1 \n", Reason::ChunkSize),
            (b" ;a\r\n", Reason::ChunkSize),
            (b" 1\r\n", Reason::ChunkSize),
            (b"0000000000000001\r\n", Reason::ChunkSize),
            (b"1\n", Reason::BareLf),
            (b"1\rX", Reason::BareCr),
            (b"1;a\n", Reason::BareLf),
            (b"1;a\rb", Reason::BareCr),
            (b"1;\0", Reason::ChunkExtension),
            (b"1\r\nab", Reason::ChunkEnd),
            (b"1\r\na\n", Reason::ChunkEnd),
            (b"1\r\na\rb", Reason::ChunkEnd),
            (b"0\r\nX: a\n", Reason::BareLf),
            (b"0\r\n\n", Reason::BareLf),
            (b"0\r\nX : a\r\n\r\n", Reason::Trailer),
            (b"0\r\nX: a\r\n b\r\n\r\n", Reason::Folded),
            (b"0\r\nX: a\rb", Reason::BareCr),
            (b"0\r\nX: a\0", Reason::Trailer),
            (b"0\r\n\rX", Reason::BareCr),
        ] {
            assert_eq!(read(body).1, Err(reason), "{:?}", String::from_utf8_lossy(body));
        }
        let long = [b"1;", &[b'a'; 600][..]].concat();
        assert_eq!(read(&long).1, Err(Reason::ChunkExtension));
        let blank = [b"1", &[b' '; 600][..]].concat();
        assert_eq!(read(&blank).1, Err(Reason::ChunkSize));
        let trailers = [b"0\r\nX: ", &[b'a'; 300][..]].concat();
        assert_eq!(read(&trailers).1, Err(Reason::Trailer));
    }
}
