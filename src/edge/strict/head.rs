//! The heads of messages, line by line (RFC 9112, 2 to 6).

use memchr::memchr;

use super::Reason;
use super::bytes::{is_target, is_text, is_token, token_end};
use super::known::Known;

/// Empty lines before a request line that are passed over (RFC 9112, 2.2 asks for at least one).
const EMPTY_LINES: u8 = 2;
/// Longest method; the longest registered has 17.
const MAX_METHOD: usize = 32;

/// How large a head may be.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Bytes, first line and line ends included.
    pub bytes: usize,
    /// Fields.
    pub fields: usize,
}

/// How a body ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Framing {
    /// There is none.
    None,
    /// After so many bytes.
    Length(u64),
    /// With its last chunk.
    Chunked,
}

/// What must be known of a request head to read on behind it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RequestHead {
    /// Its bytes.
    pub length: usize,
    /// How its body ends.
    pub framing: Framing,
    /// What follows may be another protocol: it has an `Upgrade` field and no body.
    pub upgrade: bool,
}

/// What must be known of an answer's head to read on behind it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AnswerHead {
    /// Its bytes.
    pub length: usize,
    /// Its status.
    pub status: u16,
    /// Whether it is HTTP/1.0.
    pub old: bool,
    /// How a body behind it ends; `None`: with the connection.
    pub framing: Option<Framing>,
}

/// How far a head has been read. Made anew for each.
#[derive(Debug, Default)]
pub struct Scan {
    /// Where the first line that has not been read begins.
    line: usize,
    /// Bytes known to hold no line end.
    searched: usize,
    empty_lines: u8,
    begun: bool,
    old: bool,
    status: u16,
    /// Where the fields begin.
    first: usize,
    fields: usize,
    said: Said,
}

/// What a head says of what follows it.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Said {
    length: Option<u64>,
    chunked: bool,
    upgrade: bool,
}

impl Scan {
    /// Reads a request head as far as it is there; `bytes` are all of it so far. `known`: the connection's last head.
    ///
    /// # Errors
    /// The first thing wrong with it.
    pub fn request(
        &mut self,
        bytes: &[u8],
        limits: Limits,
        known: &mut Known,
    ) -> Result<Option<RequestHead>, Reason> {
        let done = self.lines(bytes, limits, known, false)?;
        let head = |length| {
            let framing = match (self.said.chunked, self.said.length) {
                (true, _) => Framing::Chunked,
                (_, Some(0) | None) => Framing::None,
                (_, Some(length)) => Framing::Length(length),
            };
            RequestHead { length, framing, upgrade: self.said.upgrade && framing == Framing::None }
        };
        Ok(done.map(head))
    }

    /// Whether any of it has been seen.
    pub(super) const fn has_begun(&self) -> bool {
        self.searched > 0
    }

    /// Reads an answer's head as far as it is there; `bytes` are all of it so far. `known`: the connection's last head.
    ///
    /// # Errors
    /// The first thing wrong with it.
    pub fn answer(
        &mut self,
        bytes: &[u8],
        limits: Limits,
        known: &mut Known,
    ) -> Result<Option<AnswerHead>, Reason> {
        let done = self.lines(bytes, limits, known, true)?;
        let framing = match (self.said.chunked, self.said.length) {
            (true, _) => Some(Framing::Chunked),
            (_, length) => length.map(Framing::Length),
        };
        Ok(done.map(|length| AnswerHead { length, status: self.status, old: self.old, framing }))
    }

    /// Line after line; the length of the head once its empty line is there.
    fn lines(
        &mut self,
        bytes: &[u8],
        limits: Limits,
        known: &mut Known,
        answer: bool,
    ) -> Result<Option<usize>, Reason> {
        loop {
            let start = self.line;
            let rest = bytes.get(start..).unwrap_or_default();
            let again = if self.begun { known.again(self.fields, rest) } else { None };
            let end = match again {
                Some(again) => start + again.length - 1,
                None => match memchr(b'\n', bytes.get(self.searched..).unwrap_or_default()) {
                    Some(found) => self.searched + found,
                    None => break,
                },
            };
            let whole = &bytes[start..end];
            if end >= limits.bytes {
                return Err(self.too_long());
            }
            let Some(line) = whole.strip_suffix(b"\r") else { return Err(Reason::BareLf) };
            (self.line, self.searched) = (end + 1, end + 1);
            if !line.is_empty() && self.begun {
                self.fields += 1;
                if self.fields > limits.fields {
                    return Err(Reason::ManyFields);
                }
                let telling = match again {
                    Some(again) if !again.telling => false,
                    _ => self.field(line, answer)?,
                };
                let (start, end) = (start - self.first, self.line - self.first);
                known.note(self.fields - 1, start, end, telling, again.is_some());
            } else if self.begun {
                self.check_framing()?;
                known.end(&bytes[self.first..start], (self.old, self.said));
                return Ok(Some(self.line));
            } else if !line.is_empty() {
                if answer {
                    self.status_line(line)?
                } else {
                    self.request_line(line)?
                }
                (self.begun, self.first) = (true, self.line);
                known.begin();
                if self.comes_again(bytes, limits, known) {
                    return Ok(Some(self.line));
                }
            } else if answer || self.empty_lines == EMPTY_LINES {
                return Err(if answer { Reason::StatusLine } else { Reason::RequestLine });
            } else {
                self.empty_lines += 1;
            }
        }
        match self.unfinished(bytes, limits) {
            Err(Reason::RequestLine) if answer => Err(Reason::StatusLine),
            unfinished => unfinished.map(|()| None),
        }
    }

    /// Reads the fields at once where all of them, and the head's end, stood behind the last first line too: whether they
    /// did. What they say is the same in the same version.
    fn comes_again(&mut self, bytes: &[u8], limits: Limits, known: &mut Known) -> bool {
        let rest = bytes.get(self.first..).unwrap_or_default();
        let Some((length, said)) = known.all_again(rest, self.old) else { return false };
        let end = self.first + length + 2;
        if end > limits.bytes || known.count() > limits.fields {
            return false;
        }
        (self.line, self.searched, self.fields, self.said) = (end, end, known.count(), said);
        true
    }

    /// What comes without a line end must at least be able to become a line: whoever speaks another
    /// protocol is told at once.
    fn unfinished(&mut self, bytes: &[u8], limits: Limits) -> Result<(), Reason> {
        if bytes.len() > limits.bytes {
            return Err(self.too_long());
        }
        let from = self.searched.max(self.line);
        self.searched = bytes.len();
        let mut rest = bytes.get(from..).unwrap_or_default();
        if from > self.line && bytes.get(from - 1) == Some(&b'\r') && !rest.is_empty() {
            return Err(Reason::BareCr);
        }
        if let [before @ .., b'\r'] = rest {
            rest = before;
        }
        if is_text(rest) { Ok(()) } else { Err(self.control(rest)) }
    }

    const fn too_long(&self) -> Reason {
        if self.begun { Reason::LongHead } else { Reason::LongTarget }
    }

    fn control(&self, text: &[u8]) -> Reason {
        match (text.contains(&b'\r'), self.begun) {
            (true, _) => Reason::BareCr,
            (_, true) => Reason::FieldValue,
            (_, false) => Reason::RequestLine,
        }
    }

    fn request_line(&mut self, line: &[u8]) -> Result<(), Reason> {
        if line.contains(&b'\r') {
            return Err(Reason::BareCr);
        }
        let mut parts = line.splitn(3, |byte| *byte == b' ');
        let (method, target, version) = (parts.next(), parts.next(), parts.next());
        let method = method.unwrap_or_default();
        if !is_token(method) {
            return Err(Reason::Method);
        }
        if method.len() > MAX_METHOD {
            return Err(Reason::LongMethod);
        }
        let (Some(target), Some(version)) = (target, version) else { return Err(Reason::RequestLine) };
        if target.is_empty() {
            return Err(Reason::RequestLine);
        }
        if !is_target(target) {
            return Err(Reason::Target);
        }
        self.old = match version {
            b"HTTP/1.1" => false,
            b"HTTP/1.0" => true,
            [b'H', b'T', b'T', b'P', b'/', major, b'.', minor]
                if major.is_ascii_digit() && minor.is_ascii_digit() =>
            {
                return Err(Reason::UnknownVersion);
            }
            _ if version.contains(&b' ') => return Err(Reason::RequestLine),
            _ => return Err(Reason::Version),
        };
        Ok(())
    }

    fn status_line(&mut self, line: &[u8]) -> Result<(), Reason> {
        let Some(([b'H', b'T', b'T', b'P', b'/', b'1', b'.', minor @ (b'0' | b'1'), b' '], rest)) =
            line.split_first_chunk::<9>()
        else {
            return Err(Reason::StatusLine);
        };
        self.old = *minor == b'0';
        let (code, reason) = rest.split_first_chunk::<3>().ok_or(Reason::StatusLine)?;
        // The blank before an absent reason phrase is often forgotten.
        let good = code[0] != b'0'
            && code.iter().all(u8::is_ascii_digit)
            && matches!(reason, [] | [b' ', ..])
            && is_text(reason);
        if !good {
            return Err(if reason.contains(&b'\r') { Reason::BareCr } else { Reason::StatusLine });
        }
        self.status = code.iter().fold(0, |status, digit| status * 10 + u16::from(digit - b'0'));
        Ok(())
    }

    /// One field line; whether it tells how to read on behind the head. Blanks before the colon are an error in a
    /// request and nothing in an answer (RFC 9112, 5.1).
    fn field(&mut self, line: &[u8], answer: bool) -> Result<bool, Reason> {
        if matches!(line, [b' ' | b'\t', ..]) {
            return Err(Reason::Folded);
        }
        let end = token_end(line);
        let (name, mut rest) = line.split_at(end);
        while let [b' ' | b'\t', after @ ..] = rest
            && answer
        {
            rest = after;
        }
        let [b':', value @ ..] = rest else {
            return Err(if line.contains(&b'\r') { Reason::BareCr } else { Reason::FieldName });
        };
        if name.is_empty() {
            return Err(Reason::FieldName);
        }
        if !is_text(value) {
            return Err(self.control(value));
        }
        match name.len() {
            7 if name.eq_ignore_ascii_case(b"upgrade") => self.said.upgrade = !self.old,
            14 if name.eq_ignore_ascii_case(b"content-length") => {
                let length = decimal(blanks_off(value)).ok_or(Reason::Length)?;
                if self.said.length.replace(length).is_some() {
                    return Err(Reason::RepeatedLength);
                }
            }
            17 if name.eq_ignore_ascii_case(b"transfer-encoding") => {
                if self.old || self.said.chunked || !blanks_off(value).eq_ignore_ascii_case(b"chunked") {
                    return Err(Reason::Coding);
                }
                self.said.chunked = true;
            }
            _ => return Ok(false),
        }
        Ok(true)
    }

    fn check_framing(&self) -> Result<(), Reason> {
        if self.said.chunked && self.said.length.is_some() { Err(Reason::LengthAndCoding) } else { Ok(()) }
    }
}

/// A value without the blanks around it (RFC 9110, 5.6.3).
fn blanks_off(mut value: &[u8]) -> &[u8] {
    while let [b' ' | b'\t', rest @ ..] | [rest @ .., b' ' | b'\t'] = value {
        value = rest;
    }
    value
}

/// A plain number that every reader reads alike: digits, no leading zero, at most 2^63-1.
#[must_use]
pub fn decimal(digits: &[u8]) -> Option<u64> {
    let plain = match digits {
        [] => false,
        [b'0', _, ..] => false,
        _ => digits.len() <= 19,
    };
    if !plain || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let number = digits.iter().fold(0_u64, |number, digit| number * 10 + u64::from(digit - b'0'));
    i64::try_from(number).is_ok().then_some(number)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: Limits = Limits { bytes: 400, fields: 8 };

    fn whole(bytes: &[u8]) -> Result<Option<RequestHead>, Reason> {
        Scan::default().request(bytes, LIMITS, &mut Known::default())
    }

    /// The same bytes, one more at each look.
    fn in_pieces(bytes: &[u8]) -> Result<Option<RequestHead>, Reason> {
        let (mut scan, mut known) = (Scan::default(), Known::default());
        for end in 1..=bytes.len() {
            match scan.request(&bytes[..end], LIMITS, &mut known) {
                Ok(None) => {}
                done => return done,
            }
        }
        Ok(None)
    }

    #[test]
    fn a_head_is_read_alike_at_every_cut() {
        let head = b"\r\nPOST /a?b HTTP/1.1\r\nHost: a\r\nX: \t\r\nContent-Length:  12 \r\n\r\n";
        let read = RequestHead { length: head.len(), framing: Framing::Length(12), upgrade: false };
        assert_eq!(whole(head), Ok(Some(read)));
        assert_eq!(in_pieces(head), Ok(Some(read)));
        for end in 0..head.len() {
            assert_eq!(whole(&head[..end]), Ok(None), "{end}");
        }
    }

    /// What stood in the last head spares work and changes nothing: every head behind every other one, also behind
    /// one that was refused, at every cut.
    #[test]
    fn a_head_is_read_alike_behind_every_other_one() {
        let long = format!("GET / HTTP/1.1\r\nHost: a\r\nX: {}\r\n\r\n", "x".repeat(330));
        let longer = long.replace("X:", "X-Longer-By-A-Few-Bytes:").replace("Host: a", "Host: another");
        let heads = [
            "GET / HTTP/1.1\r\nHost: a\r\nX: b\r\nY: c\r\n\r\n",
            "GET /other HTTP/1.1\r\nHost: a\r\nX: b\r\nY: c\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a\r\nX: bb\r\nY: c\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a\r\nX: b\r\n\r\n",
            "GET / HTTP/1.1\r\n\r\n",
            "\r\nGET / HTTP/1.1\r\nHost: a\r\nX: b\nY: c\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a\r\nX: b\rY: c\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a\r\nX: b\r\nY: \0\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a\r\n X: b\r\nY: c\r\n\r\n",
            "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nY: c\r\n\r\n",
            "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\nY: c\r\n\r\n",
            "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nContent-Length: 3\r\n\r\n",
            "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n",
            "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n",
            "POST / HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: upgrade\r\n\r\n",
            "GET / HTTP/1.0\r\nHost: a\r\nUpgrade: websocket\r\nConnection: upgrade\r\n\r\n",
            "GET / HTTP/1.1\r\nA:\r\nB:\r\nC:\r\nD:\r\nE:\r\nF:\r\nG:\r\nH:\r\n\r\n",
            "GET / HTTP/1.1\r\nA:\r\nB:\r\nC:\r\nD:\r\nE:\r\nF:\r\nG:\r\nH:\r\nI:\r\n\r\n",
            &long,
            &longer,
        ];
        for (before, head) in heads.iter().flat_map(|before| heads.iter().map(move |head| (before, head))) {
            let head = head.as_bytes();
            for cut in 0..=head.len() {
                let mut known = Known::default();
                // Twice, so that a head which is remembered is also compared with.
                for _ in 0..2 {
                    let _ = Scan::default().request(before.as_bytes(), LIMITS, &mut known);
                }
                let mut scan = Scan::default();
                let read = match scan.request(&head[..cut], LIMITS, &mut known) {
                    Ok(None) => scan.request(head, LIMITS, &mut known),
                    done => done,
                };
                assert_eq!(read, whole(head), "{cut}: {before:?}, {head:?}", head = head.escape_ascii());
                // And the next one like it.
                assert_eq!(
                    Scan::default().request(head, LIMITS, &mut known),
                    whole(head),
                    "{cut}: {before:?}"
                );
            }
        }
    }

    /// A connection must not hold more than a little for this.
    #[test]
    fn a_long_head_is_not_remembered() {
        let limits = Limits { bytes: 8000, fields: 100 };
        let mut known = Known::default();
        for length in [10, 4000, 10, 4000] {
            let head = format!("GET / HTTP/1.1\r\nX: {}\r\nY: a\r\n\r\n", "x".repeat(length));
            let read = Scan::default().request(head.as_bytes(), limits, &mut known);
            assert!(matches!(read, Ok(Some(RequestHead { length, .. })) if length == head.len()));
            assert_eq!(known.again(1, b"Y: a\r\n").is_some(), length == 10);
        }
    }

    #[test]
    fn every_fault_has_its_reason_at_every_cut() {
        for (head, reason) in [
            (&b"GET / HTTP/1.1\nHost: a\n\n"[..], Reason::BareLf),
            (b"GET / HTTP/1.1\r\nHost: a\r\nX: b\rY: c\r\n\r\n", Reason::BareCr),
            (b"GET / HTTP/1.1\r\n Host: a\r\n\r\n", Reason::Folded),
            (b"GET / HTTP/1.1\r\nHost: a\r\n\tb\r\n\r\n", Reason::Folded),
            (b"GET / HTTP/1.1\r\nHost : a\r\n\r\n", Reason::FieldName),
            (b"GET / HTTP/1.1\r\n: a\r\n\r\n", Reason::FieldName),
            (b"GET / HTTP/1.1\r\nHost\r\n\r\n", Reason::FieldName),
            (b"GET / HTTP/1.1\r\nHost: \0\r\n\r\n", Reason::FieldValue),
            (b"GET  / HTTP/1.1\r\n\r\n", Reason::RequestLine),
            (b"GET /\r\n\r\n", Reason::RequestLine),
            (b"GET /a b HTTP/1.1\r\n\r\n", Reason::RequestLine),
            (b"GET /#a HTTP/1.1\r\n\r\n", Reason::Target),
            (b"GET /\xc3\xa4 HTTP/1.1\r\n\r\n", Reason::Target),
            (b"G(T / HTTP/1.1\r\n\r\n", Reason::Method),
            (b"GETGETGETGETGETGETGETGETGETGETGET / HTTP/1.1\r\n\r\n", Reason::LongMethod),
            (b"GET / HTTP/1.1 \r\n\r\n", Reason::RequestLine),
            (b"GET / http/1.1\r\n\r\n", Reason::Version),
            (b"GET / HTTP/2.0\r\n\r\n", Reason::UnknownVersion),
            (b"GET / HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\n", Reason::RepeatedLength),
            (b"GET / HTTP/1.1\r\nContent-Length: 1, 1\r\n\r\n", Reason::Length),
            (b"GET / HTTP/1.1\r\nContent-Length: 9223372036854775808\r\n\r\n", Reason::Length),
            (b"GET / HTTP/1.1\r\nTransfer-Encoding: gzip, chunked\r\n\r\n", Reason::Coding),
            (b"GET / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n", Reason::Coding),
            (
                b"GET / HTTP/1.1\r\nTransfer-Encoding: chunked\r\nContent-Length: 1\r\n\r\n",
                Reason::LengthAndCoding,
            ),
            (b"\x16\x03\x01", Reason::RequestLine),
            (b"\r\n\r\n\r\nGET / HTTP/1.1\r\n\r\n", Reason::RequestLine),
        ] {
            let text = String::from_utf8_lossy(head);
            assert_eq!(whole(head), Err(reason), "{text:?}");
            assert!(in_pieces(head).is_err(), "{text:?} in pieces");
        }
    }

    /// Else hyper answers, without a page, a counter or an access line.
    #[test]
    fn a_target_passes_if_the_types_behind_take_it() {
        for byte in b'!'..=b'~' {
            for target in [format!("/a{}b", char::from(byte)), format!("/a?b{}c", char::from(byte))] {
                let taken = target.parse::<http::Uri>().is_ok() && byte != b'#';
                assert_eq!(is_target(target.as_bytes()), taken, "{target}");
            }
        }
    }

    #[test]
    fn long_heads_are_told_from_long_targets() {
        let target = [b"GET /", &[b'a'; 500][..]].concat();
        assert_eq!(whole(&target), Err(Reason::LongTarget));
        let field = [b"GET / HTTP/1.1\r\nX: ", &[b'a'; 500][..]].concat();
        assert_eq!(whole(&field), Err(Reason::LongHead));
        let many = [b"GET / HTTP/1.1\r\n", &b"X: 1\r\n".repeat(9)[..]].concat();
        assert_eq!(whole(&many), Err(Reason::ManyFields));
    }

    #[test]
    fn an_answer_is_held_to_the_same() {
        let read = |bytes: &[u8]| Scan::default().answer(bytes, LIMITS, &mut Known::default());
        let good = b"HTTP/1.1 200\r\nX : a\r\n\r\n";
        let head = AnswerHead { length: good.len(), status: 200, old: false, framing: None };
        assert_eq!(read(good), Ok(Some(head)));
        for (head, reason) in [
            (&b"HTTP/2 200 OK\r\n\r\n"[..], Reason::StatusLine),
            (b"HTTP/1.1 20x OK\r\n\r\n", Reason::StatusLine),
            (b"HTTP/1.1 2000\r\n\r\n", Reason::StatusLine),
            (b"HTTP/1.1  200 OK\r\n\r\n", Reason::StatusLine),
            (b"HTTP/1.1 200 OK\nX: a\n\n", Reason::BareLf),
            (b"HTTP/1.1 200 OK\r\nX: a\r\n b\r\n\r\n", Reason::Folded),
        ] {
            assert_eq!(read(head), Err(reason), "{:?}", String::from_utf8_lossy(head));
        }
    }
}
