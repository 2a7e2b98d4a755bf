//! The body of an answer, out of the bytes that come (RFC 9112, 6 and 7).

use bytes::{Buf as _, Bytes, BytesMut};
use http_body::{Frame, SizeHint};

use super::super::answer_error::AnswerError;
use super::LIMITS;
use crate::edge::message::wire;
use crate::edge::strict::{Chunks, Framing, Reason};

/// How far a body has been read.
#[derive(Debug)]
pub(super) enum Decoder {
    /// It is at its end, or there is none.
    Ended,
    /// So many bytes are to come.
    Length(u64),
    /// Chunks, and the trailer section as far as it has come.
    Chunked(Chunks, Vec<u8>),
    /// It ends with the connection.
    UntilClosed,
}

/// What the bytes that are there make.
#[derive(Debug)]
pub(super) enum Decoded {
    /// A piece, or trailers.
    Frame(Frame<Bytes>),
    /// The end.
    End,
    /// More bytes are needed.
    More,
}

impl Decoder {
    /// For a body that its head announces so; `None`: with no word of its end.
    pub(super) fn new(framing: Option<Framing>) -> Self {
        match framing {
            Some(Framing::None | Framing::Length(0)) => Self::Ended,
            Some(Framing::Length(length)) => Self::Length(length),
            Some(Framing::Chunked) => Self::Chunked(Chunks::of_answer(LIMITS), Vec::new()),
            None => Self::UntilClosed,
        }
    }

    /// Whether nothing more is to come.
    pub(super) const fn has_ended(&self) -> bool {
        matches!(self, Self::Ended)
    }

    /// Bytes that will come before anything else can; 0 where that is not known.
    pub(super) const fn announced(&self) -> u64 {
        match self {
            Self::Ended | Self::UntilClosed => 0,
            Self::Length(left) => *left,
            Self::Chunked(chunks, _) => chunks.left(),
        }
    }

    /// What its head says of its length.
    pub(super) fn size_hint(&self) -> SizeHint {
        match self {
            Self::Ended => SizeHint::with_exact(0),
            Self::Length(left) => SizeHint::with_exact(*left),
            Self::Chunked(..) | Self::UntilClosed => SizeHint::default(),
        }
    }

    /// Takes what it can of the bytes that are there.
    ///
    /// # Errors
    /// They are no chunks.
    pub(super) fn decode(&mut self, bytes: &mut BytesMut) -> Result<Decoded, AnswerError> {
        match self {
            Self::Ended => Ok(Decoded::End),
            Self::UntilClosed | Self::Length(_) if bytes.is_empty() => Ok(Decoded::More),
            Self::UntilClosed => Ok(data(bytes, bytes.len())),
            Self::Length(left) => {
                let step = usize::try_from(*left).map_or(bytes.len(), |left| left.min(bytes.len()));
                *left -= step as u64;
                if *left == 0 {
                    *self = Self::Ended;
                }
                Ok(data(bytes, step))
            }
            Self::Chunked(chunks, trailers) => {
                let decoded = decode_chunks(chunks, trailers, bytes).map_err(AnswerError::Malformed)?;
                let ends = match &decoded {
                    Decoded::End => true,
                    Decoded::Frame(frame) => frame.is_trailers(),
                    Decoded::More => false,
                };
                if ends {
                    *self = Self::Ended;
                }
                Ok(decoded)
            }
        }
    }

    /// The connection was closed.
    ///
    /// # Errors
    /// More should have come.
    pub(super) fn closed(&mut self) -> Result<(), AnswerError> {
        match self {
            Self::Ended | Self::UntilClosed => {
                *self = Self::Ended;
                Ok(())
            }
            Self::Length(_) | Self::Chunked(..) => Err(AnswerError::Closed),
        }
    }
}

fn data(bytes: &mut BytesMut, length: usize) -> Decoded {
    Decoded::Frame(Frame::data(bytes.split_to(length).freeze()))
}

fn decode_chunks(
    chunks: &mut Chunks,
    trailers: &mut Vec<u8>,
    bytes: &mut BytesMut,
) -> Result<Decoded, Reason> {
    let mut read = 0;
    while let Some(byte) = bytes.get(read) {
        let step = chunks.data(bytes.len() - read);
        if step > 0 {
            bytes.advance(read);
            return Ok(data(bytes, step));
        }
        if chunks.is_behind() {
            trailers.push(*byte);
        }
        read += 1;
        if chunks.line_byte(*byte)? {
            bytes.advance(read);
            let fields = wire::read_fields(trailers);
            return Ok(if fields.is_empty() {
                Decoded::End
            } else {
                Decoded::Frame(Frame::trailers(fields))
            });
        }
    }
    bytes.clear();
    Ok(Decoded::More)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Data, trailers, and how it ended: `None` where more is needed.
    type Read = (Vec<u8>, Option<http::HeaderMap>, Option<Result<(), String>>);

    /// Reads `body` in pieces of so many bytes; what is behind its end stays.
    fn read(framing: Option<Framing>, body: &[u8], piece: usize) -> (Read, usize) {
        let (mut decoder, mut bytes) = (Decoder::new(framing), BytesMut::new());
        let (mut whole, mut trailers, mut left) = (Vec::new(), None, body);
        loop {
            match decoder.decode(&mut bytes) {
                Ok(Decoded::Frame(frame)) => match frame.into_data() {
                    Ok(data) => whole.extend_from_slice(&data),
                    Err(frame) => trailers = frame.into_trailers().ok(),
                },
                Ok(Decoded::End) => return ((whole, trailers, Some(Ok(()))), bytes.len() + left.len()),
                Ok(Decoded::More) if left.is_empty() => return ((whole, trailers, None), 0),
                Ok(Decoded::More) => {
                    let (now, later) = left.split_at(piece.min(left.len()));
                    bytes.extend_from_slice(now);
                    left = later;
                }
                Err(error) => return ((whole, trailers, Some(Err(error.to_string()))), 0),
            }
        }
    }

    #[test]
    fn a_body_is_read_alike_at_every_cut() {
        let chunked = b"3\r\nabc\r\n0A;x=\"y\"\r\n0123456789\r\n2  \r\nde\r\n0\r\nX-Sum: 1\r\n\r\n";
        let bodies: [(Option<Framing>, &[u8], &[u8]); 5] = [
            (Some(Framing::Chunked), chunked, b"abc0123456789de"),
            (Some(Framing::Chunked), b"0\r\n\r\n", b""),
            (Some(Framing::Length(4)), b"abcd", b"abcd"),
            (Some(Framing::Length(0)), b"", b""),
            (Some(Framing::None), b"", b""),
        ];
        for (framing, body, data) in bodies {
            let with_more = [body, b"HTTP"].concat();
            for piece in 1..=with_more.len() {
                let ((whole, trailers, end), left) = read(framing, &with_more, piece);
                assert_eq!((whole.as_slice(), end, left), (data, Some(Ok(())), 4), "{framing:?} by {piece}");
                let summed = trailers.map(|map| map["x-sum"].clone());
                assert_eq!(summed.is_some(), body == chunked, "{framing:?} by {piece}");
            }
            // And whatever is missing is missed.
            for cut in 0..body.len() {
                let ((_, _, end), _) = read(framing, &body[..cut], body.len());
                assert_eq!(end, None, "{framing:?}, {cut}");
                let mut decoder = Decoder::new(framing);
                let mut bytes = BytesMut::from(&body[..cut]);
                while let Decoded::Frame(_) = decoder.decode(&mut bytes).unwrap() {}
                assert!(decoder.closed().is_err(), "{framing:?}, {cut}");
            }
        }
    }

    #[test]
    fn what_is_no_chunk_is_refused_at_every_cut() {
        for body in
            [&b"\r\n"[..], b"x\r\n", b"1\n", b"1\r\nab", b"1\r\na\n", b"0\r\nX: a\n", b"0\r\nX : a\r\n\r\n"]
        {
            for piece in 1..=body.len() {
                let ((_, _, end), _) = read(Some(Framing::Chunked), body, piece);
                assert!(matches!(end, Some(Err(_))), "{:?} by {piece}", body.escape_ascii().to_string());
            }
        }
    }

    #[test]
    fn a_body_without_a_length_ends_with_the_connection() {
        let ((whole, _, end), _) = read(None, b"abc", 2);
        assert_eq!((whole.as_slice(), end), (&b"abc"[..], None));
        let mut decoder = Decoder::new(None);
        assert!(decoder.closed().is_ok() && decoder.has_ended());
    }
}
