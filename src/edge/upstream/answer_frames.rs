//! An HTTP/2 origin's frames, looked at in front of hyper's reader, for two things that it keeps to itself.
//!
//! It drops a pseudo-field that has no place in an answer: a request's, and any among trailers. Such an answer is
//! malformed (RFC 9113, 8.1 and 8.3) and is not passed on: its connection ends.
//!
//! It holds back streams that are more than the origin allows at a time, without a word, until one ends; so whoever
//! shares the connection has to know. An origin's first frame is its SETTINGS (RFC 9113, 3.4), and the connection is
//! nobody's before it has come. What the origin says later is hyper's to heed.
//!
//! Cost: a look at nine bytes of each frame, and at each field; no allocation where a block comes in one piece.

use std::collections::VecDeque;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::shared::Uses;
use crate::edge::http2::frame_rules::{CONTINUATION, DATA, END_STREAM, HEADERS, RST_STREAM, SETTINGS};
use crate::edge::http2::frame_walk::{FrameWalk, Head, Step};
use crate::edge::http2::header_blocks::HeaderBlocks;
use crate::edge::http2::hpack::{Seen, Status};
use crate::edge::strict::Reason;

/// Answers that are remembered to be under way. What visitors gave up is not heard of again, so the oldest go.
const REMEMBERED: usize = 1024;

/// SETTINGS_MAX_CONCURRENT_STREAMS (RFC 9113, 6.5.2).
const MAX_CONCURRENT_STREAMS: u16 = 3;
/// Largest frame that an origin may send before it was told of larger ones (RFC 9113, 6.5.2).
const MOST: u32 = 16 * 1024;

/// What is known of an origin's answers on a connection.
#[derive(Debug, Default)]
struct Answers {
    walk: FrameWalk,
    /// The first frame was read.
    greeted: bool,
    /// Its settings, as far as they have come.
    settings: Vec<u8>,
    /// How many streams it allows, until somebody is told.
    allowed: Option<u32>,
    blocks: HeaderBlocks,
    /// Stream of the block under way.
    stream: u32,
    /// The block under way is its stream's last.
    last: bool,
    /// Streams whose head has come and whose end has not, the newest last.
    begun: VecDeque<u32>,
}

impl Answers {
    /// Looks at bytes as they were read.
    fn read(&mut self, mut bytes: &[u8]) -> Result<(), Reason> {
        while let Some(step) = self.walk.step(&mut bytes) {
            match step {
                Step::Head(head) => self.frame(head)?,
                Step::Payload { piece, ends } => self.payload(piece, ends)?,
            }
        }
        Ok(())
    }

    fn frame(&mut self, head: Head) -> Result<(), Reason> {
        if !self.greeted && (head.kind != SETTINGS || head.length > MOST) {
            // hyper ends that connection.
            self.greet();
        }
        match head.kind {
            HEADERS => {
                (self.stream, self.last) = (head.stream, head.flags & END_STREAM != 0);
                self.blocks.begin(head.flags);
            }
            CONTINUATION => self.blocks.go_on(head.flags),
            DATA if head.flags & END_STREAM != 0 => self.end(head.stream),
            RST_STREAM => self.end(head.stream),
            _ => {}
        }
        if head.length == 0 { self.payload(&[], true) } else { Ok(()) }
    }

    fn payload(&mut self, piece: &[u8], ends: bool) -> Result<(), Reason> {
        match self.walk.kind() {
            HEADERS | CONTINUATION => match self.blocks.piece(piece, ends)? {
                Some(seen) => self.judge(seen),
                None => Ok(()),
            },
            SETTINGS if !self.greeted => {
                self.settings.extend_from_slice(piece);
                if ends {
                    self.greet();
                }
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// The first frame was read.
    fn greet(&mut self) {
        let settings = std::mem::take(&mut self.settings);
        let mut values = settings.chunks_exact(6).filter_map(|setting| match *setting {
            [a, b, c, d, e, f] if u16::from_be_bytes([a, b]) == MAX_CONCURRENT_STREAMS => {
                Some(u32::from_be_bytes([c, d, e, f]))
            }
            _ => None,
        });
        // The last one counts (RFC 9113, 6.5.3); without one there is no limit.
        (self.greeted, self.allowed) = (true, Some(values.next_back().unwrap_or(u32::MAX)));
    }

    fn judge(&mut self, seen: Seen) -> Result<(), Reason> {
        if self.begun.contains(&self.stream) && seen.pseudo() {
            return Err(Reason::PseudoTrailer);
        }
        if seen.asks {
            return Err(Reason::PseudoField);
        }
        if self.last {
            self.end(self.stream);
        } else if seen.status == Some(Status::Final) {
            if self.begun.len() == REMEMBERED {
                self.begun.pop_front();
            }
            self.begun.push_back(self.stream);
        }
        Ok(())
    }

    fn end(&mut self, stream: u32) {
        self.begun.retain(|begun| *begun != stream);
    }
}

/// A connection that cannot be read any further once an answer on it is malformed.
#[derive(Debug)]
pub struct AnswerFrames<S> {
    io: S,
    answers: Answers,
    uses: Rc<Uses>,
}

impl<S> AnswerFrames<S> {
    /// A connection that nothing was read from yet; its uses are told how many streams there may be, and of what ends it.
    pub fn new(io: S, uses: Rc<Uses>) -> Self {
        Self { io, answers: Answers::default(), uses }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for AnswerFrames<S> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let start = buf.filled().len();
        let read = Pin::new(&mut this.io).poll_read(cx, buf)?;
        let looked_at = this.answers.read(&buf.filled()[start..]);
        if let Some(most) = this.answers.allowed.take() {
            this.uses.allow(most);
        }
        looked_at.map_err(|reason| {
            this.uses.note_malformed(reason);
            reason.into_io()
        })?;
        read.map(Ok)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for AnswerFrames<S> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().io).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().io).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().io).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().io).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::edge::http2::frame_rules::END_HEADERS;

    const END: u8 = END_HEADERS | END_STREAM;
    /// `:status: 200`, and `x: y`.
    const OK: &[u8] = b"\x88\0\x01x\x01y";
    const EARLY: &[u8] = b"\x08\x03103";

    fn frame(kind: u8, flags: u8, stream: u8, payload: &[u8]) -> Vec<u8> {
        let head = [0, 0, u8::try_from(payload.len()).unwrap(), kind, flags, 0, 0, 0, stream];
        [&head[..], payload].concat()
    }

    #[test]
    fn the_last_value_of_the_first_settings_counts_wherever_they_are_cut() {
        let first: &[u8] =
            &[0, 0, 18, 4, 0, 0, 0, 0, 0, 0, 4, 0, 1, 0, 0, 0, 3, 0, 0, 0, 7, 0, 3, 0, 0, 1, 0];
        let later: &[u8] = &[0, 0, 6, 4, 0, 0, 0, 0, 0, 0, 3, 0, 0, 0, 9];
        for cut in 0..first.len() {
            let mut seen = Answers::default();
            seen.read(&first[..cut]).unwrap();
            assert_eq!(seen.allowed, None, "{cut}");
            seen.read(&[&first[cut..], later].concat()).unwrap();
            assert_eq!(seen.allowed, Some(256), "{cut}");
        }
    }

    #[test]
    fn settings_without_it_and_what_is_no_settings_set_no_limit() {
        let other = [0, 0, 6, 4, 0, 0, 0, 0, 0, 0, 4, 0, 1, 0, 0];
        let huge = [0xff, 0xff, 0xff, 4, 0, 0, 0, 0, 0];
        for bytes in [&other[..], &[0, 0, 0, 4, 0, 0, 0, 0, 0], b"HTTP/1.1 400 Bad Request\r\n", &huge] {
            let mut seen = Answers::default();
            seen.read(bytes).unwrap();
            assert_eq!(seen.allowed, Some(u32::MAX), "{bytes:?}");
        }
    }

    /// RFC 9113, 8.1 and 8.3: wherever the bytes are cut, before the last of them.
    #[test]
    fn a_pseudo_field_out_of_its_place_is_found_at_every_cut() {
        let head = |payload: &[u8]| frame(HEADERS, END_HEADERS, 1, payload);
        let early = head(EARLY);
        let begun = [early.clone(), early, head(OK), frame(DATA, 0, 1, b"body")].concat();
        let cases: [(Vec<u8>, Option<Reason>); 9] = [
            (frame(HEADERS, END, 1, b"\0\x05x-sum\x011"), None),
            (frame(HEADERS, END, 1, b"\x88"), Some(Reason::PseudoTrailer)),
            (frame(HEADERS, END, 1, b"\x84"), Some(Reason::PseudoTrailer)),
            (frame(HEADERS, END_HEADERS, 1, EARLY), Some(Reason::PseudoTrailer)),
            ([frame(DATA, END_STREAM, 1, b""), frame(HEADERS, END, 3, OK)].concat(), None),
            (
                [frame(RST_STREAM, 0, 1, &[0; 4]), frame(HEADERS, END, 3, b"\x88\x84")].concat(),
                Some(Reason::PseudoField),
            ),
            (
                [frame(HEADERS, 1, 3, b"\x88"), frame(CONTINUATION, 4, 3, b"\x87")].concat(),
                Some(Reason::PseudoField),
            ),
            (frame(HEADERS, END, 3, b"\x88\0\x04:odd\x011"), Some(Reason::PseudoField)),
            (frame(HEADERS, END, 3, b"\xbf"), Some(Reason::FieldBlock)),
        ];
        for (rest, reason) in cases {
            let all = [begun.clone(), rest].concat();
            for cut in 0..all.len() {
                let mut seen = Answers::default();
                assert_eq!(seen.read(&all[..cut]), Ok(()), "cut at {cut}");
                assert_eq!(seen.read(&all[cut..]).err(), reason, "cut at {cut}");
            }
        }
    }

    #[test]
    fn no_more_answers_are_remembered_than_may_be() {
        let mut seen = Answers::default();
        for stream in (1..).step_by(2).take(3 * REMEMBERED) {
            (seen.stream, seen.last) = (stream, false);
            seen.judge(Seen { status: Some(Status::Final), ..Seen::default() }).unwrap();
        }
        assert_eq!(seen.begun.len(), REMEMBERED);
    }
}
