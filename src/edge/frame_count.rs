//! HTTP/2 frames that make work without being any: counted as they are read, in front of hyper's reader.
//!
//! hyper's reader bounds what such frames hold in memory; nothing there bounds how many it answers. A frame
//! without a request or data costs a token, and every request and every piece of data earns some, since window
//! updates and acknowledgements come with them. Streams that a client resets have tokens of their own, which
//! nothing earns: opening and resetting is the attack (CVE-2023-44487), and hyper only counts streams that were
//! reset before they were read.
//!
//! Of the fields that stand in frames the blocks are looked at on the same way; see [`HeaderBlocks`].
//!
//! Cost: a look at nine bytes of each frame, and at each field; no allocation where a block comes in one piece.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Instant;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::header_blocks::HeaderBlocks;
use super::refused_streams::RefusedStreams;
use super::strict::Reason;
use super::timer;
use crate::telemetry::events;
use crate::telemetry::limits::Limit;
use crate::telemetry::metrics::SharedMetrics;

/// Bytes of the client's preface (RFC 9113, 3.4).
const PREFACE: u32 = 24;
/// Bytes of a frame's head (RFC 9113, 4.1).
const HEAD: usize = 9;
/// Control frames that one request explains: priorities, a window, an acknowledgement.
const BY_REQUEST: u32 = 4;
/// Bytes of data, either way, that explain one more.
const BY_BYTES: u32 = 1024;

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
const WINDOW_UPDATE: u8 = 8;
const CONTINUATION: u8 = 9;
const END_STREAM: u8 = 1;
const ACK: u8 = 1;
/// A stream's number has one bit less than its field.
const STREAM: u32 = u32::MAX >> 1;

/// So many at once, a tenth as many more each second.
#[derive(Debug)]
struct Tokens {
    left: u32,
    most: u32,
    since: Instant,
}

impl Tokens {
    fn new(most: u32) -> Self {
        Self { left: most, most, since: timer::now() }
    }

    fn earn(&mut self, more: u32) {
        self.left = self.left.saturating_add(more).min(self.most);
    }

    fn spend(&mut self) -> bool {
        if self.left == 0 {
            let now = timer::now();
            let passed = now.saturating_duration_since(self.since).as_millis();
            let more = u128::from(self.most) * passed / 10_000;
            if more > 0 {
                self.since = now;
                self.earn(u32::try_from(more).unwrap_or(self.most));
            }
        }
        let spent = self.left > 0;
        self.left -= u32::from(spent);
        spent
    }
}

/// What is known of a connection's frames.
#[derive(Debug)]
struct Frames {
    /// Bytes that are no frame's head: the preface, then payloads.
    skip: u32,
    head: [u8; HEAD],
    have: usize,
    control: Tokens,
    resets: Tokens,
    /// Bytes that have not earned a token yet.
    bytes: u32,
    blocks: HeaderBlocks,
    /// The frame under way belongs to a block.
    in_block: bool,
}

/// Why a connection ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fault {
    Flood(Limit),
    Malformed(Reason),
}

impl Fault {
    /// `GOAWAY` for it (RFC 9113, 5.4.1): what a client sent after `last_stream` it may send again elsewhere.
    fn goodbye(self, last_stream: u32) -> [u8; HEAD + 8] {
        // RFC 9113, 7.
        let code = match self {
            Self::Flood(_) => 0xb,
            Self::Malformed(Reason::FieldBlock) => 9,
            Self::Malformed(Reason::FrameSize) => 6,
            Self::Malformed(_) => 1,
        };
        let [a, b, c, d] = last_stream.to_be_bytes();
        [0, 0, 8, GOAWAY, 0, 0, 0, 0, 0, a, b, c, d, 0, 0, 0, code]
    }
}

impl From<Limit> for Fault {
    fn from(limit: Limit) -> Self {
        Self::Flood(limit)
    }
}

impl Frames {
    fn new(resets: u32, control: u32) -> Self {
        let (control, resets) = (Tokens::new(control), Tokens::new(resets));
        let blocks = HeaderBlocks::default();
        Self { skip: PREFACE, head: [0; HEAD], have: 0, control, resets, bytes: 0, blocks, in_block: false }
    }

    /// Looks at bytes as they were read.
    fn read(&mut self, mut bytes: &[u8]) -> Result<(), Fault> {
        while !bytes.is_empty() {
            if self.skip > 0 {
                let step = bytes.len().min(self.skip as usize);
                self.skip -= u32::try_from(step).unwrap_or(self.skip);
                if self.in_block {
                    self.blocks.piece(&bytes[..step], self.skip == 0).map_err(Fault::Malformed)?;
                }
                bytes = &bytes[step..];
                continue;
            }
            let step = bytes.len().min(HEAD - self.have);
            self.head[self.have..self.have + step].copy_from_slice(&bytes[..step]);
            self.have += step;
            bytes = &bytes[step..];
            if self.have == HEAD {
                self.have = 0;
                self.frame()?;
            }
        }
        Ok(())
    }

    fn frame(&mut self) -> Result<(), Fault> {
        let [a, b, c, kind, flags, stream @ ..] = self.head;
        let length = u32::from_be_bytes([0, a, b, c]);
        self.skip = length;
        self.in_block = matches!(kind, HEADERS | CONTINUATION);
        if !has_its_length(kind, flags, length) {
            return Err(Fault::Malformed(Reason::FrameSize));
        }
        match kind {
            HEADERS => self.blocks.begin(u32::from_be_bytes(stream) & STREAM, flags),
            CONTINUATION => self.blocks.go_on(flags),
            _ => {}
        }
        if self.in_block && length == 0 {
            self.blocks.piece(&[], true).map_err(Fault::Malformed)?;
        }
        match kind {
            HEADERS => self.control.earn(BY_REQUEST),
            DATA if length > 0 || flags & END_STREAM != 0 => {
                self.control.earn(1);
                self.moved(length);
            }
            RST_STREAM if !self.resets.spend() => return Err(Limit::Http2Resets.into()),
            RST_STREAM => {}
            _ if !self.control.spend() => return Err(Limit::Http2ControlFrames.into()),
            _ => {}
        }
        Ok(())
    }

    fn moved(&mut self, bytes: u32) {
        self.bytes = self.bytes.saturating_add(bytes);
        if self.bytes >= BY_BYTES {
            self.control.earn(self.bytes / BY_BYTES);
            self.bytes %= BY_BYTES;
        }
    }
}

/// Whether a frame is as long as its kind must be (RFC 9113, 6.4 to 6.9).
const fn has_its_length(kind: u8, flags: u8, length: u32) -> bool {
    match kind {
        RST_STREAM | WINDOW_UPDATE => length == 4,
        SETTINGS if flags & ACK != 0 => length == 0,
        SETTINGS => length.is_multiple_of(6),
        PING => length == 8,
        GOAWAY => length >= 8,
        _ => true,
    }
}

/// An HTTP/2 connection that ends when its frames are a flood.
#[derive(Debug)]
pub struct FrameCount<S> {
    io: S,
    frames: Frames,
    refused: RefusedStreams,
    metrics: SharedMetrics,
    /// Everything written has gone, so the next byte begins a frame. The first is hyper's to write.
    between_frames: bool,
}

impl<S> FrameCount<S> {
    /// With `limits.http2_resets` and `limits.http2_control_frames`.
    pub fn new(io: S, resets: u32, control: u32, metrics: SharedMetrics) -> Self {
        let (frames, refused) = (Frames::new(resets, control), RefusedStreams::default());
        Self { io, frames, refused, metrics, between_frames: false }
    }

    /// What ends a connection, told; hyper makes an end of it without a word.
    fn end(&mut self, fault: Fault, cx: &mut Context<'_>) -> io::Error
    where
        S: AsyncWrite + Unpin,
    {
        if self.between_frames {
            let goodbye = fault.goodbye(self.frames.blocks.last_stream);
            // A client that takes nothing hears nothing.
            let _ = Pin::new(&mut self.io).poll_write(cx, &goodbye);
            let _ = Pin::new(&mut self.io).poll_flush(cx);
        }
        match fault {
            Fault::Flood(limit) => {
                events::limit_reached(&self.metrics, limit);
                io::Error::new(io::ErrorKind::ConnectionAborted, limit.as_str())
            }
            Fault::Malformed(reason) => {
                events::message_refused(&self.metrics, "downstream", reason.label(), &reason);
                reason.into_io()
            }
        }
    }

    fn written<'a>(&mut self, bytes: usize, offered: impl Iterator<Item = &'a [u8]>) {
        self.between_frames = false;
        self.frames.moved(u32::try_from(bytes).unwrap_or(u32::MAX));
        let mut left = bytes;
        for piece in offered {
            let gone = &piece[..piece.len().min(left)];
            left -= gone.len();
            for _ in 0..self.refused.sent(gone) {
                events::limit_reached(&self.metrics, Limit::Http2Streams);
            }
        }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for FrameCount<S> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let start = buf.filled().len();
        ready!(Pin::new(&mut this.io).poll_read(cx, buf))?;
        Poll::Ready(this.frames.read(&buf.filled()[start..]).map_err(|fault| this.end(fault, cx)))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for FrameCount<S> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let written = ready!(Pin::new(&mut this.io).poll_write(cx, buf))?;
        this.written(written, std::iter::once(buf));
        Poll::Ready(Ok(written))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let written = ready!(Pin::new(&mut this.io).poll_write_vectored(cx, bufs))?;
        this.written(written, bufs.iter().map(|buf| &**buf));
        Poll::Ready(Ok(written))
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let flushed = Pin::new(&mut this.io).poll_flush(cx);
        this.between_frames |= matches!(flushed, Poll::Ready(Ok(())));
        flushed
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().io).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(kind: u8, flags: u8, length: u8) -> Vec<u8> {
        let head = [0, 0, length, kind, flags, 0, 0, 0, 1];
        [&head[..], &vec![kind; usize::from(length)]].concat()
    }

    fn conversation(frames: &[Vec<u8>]) -> Vec<u8> {
        [&[b'x'; PREFACE as usize][..], &frames.concat()].concat()
    }

    #[test]
    fn frames_are_found_at_every_cut() {
        let frames: Vec<_> = (0..6).map(|_| frame(PING, 0, 8)).collect();
        let all = conversation(&frames);
        for cut in 0..=all.len() {
            for (most, fits) in [(6, true), (5, false)] {
                let mut seen = Frames::new(1, most);
                let (a, b) = all.split_at(cut);
                assert_eq!(seen.read(a).and_then(|()| seen.read(b)).is_ok(), fits, "cut at {cut}, {most}");
            }
        }
    }

    #[test]
    fn requests_and_data_earn_control_frames_and_no_resets() {
        let mut seen = Frames::new(5, 10);
        seen.skip = 0;
        for _ in 0..100 {
            let busy = [frame(HEADERS, 4, 0), frame(PING, 0, 8), frame(DATA, 0, 200), frame(PING, 0, 8)];
            assert_eq!(seen.read(&busy.concat()), Ok(()));
        }
        let reset = [frame(HEADERS, 5, 0), frame(RST_STREAM, 0, 4)].concat();
        let read: Vec<_> = (0..6).map(|_| seen.read(&reset)).collect();
        assert_eq!((read[4], read[5]), (Ok(()), Err(Limit::Http2Resets.into())));
    }

    /// RFC 9113, 4.2, 4.3 and 7: what a connection ends with says what was wrong.
    #[test]
    fn a_goodbye_names_the_error() {
        for (bad, code) in [
            (frame(PING, 0, 7), 6),
            (frame(WINDOW_UPDATE, 0, 5), 6),
            (frame(RST_STREAM, 0, 3), 6),
            (frame(SETTINGS, 0, 5), 6),
            (frame(SETTINGS, ACK, 6), 6),
            (frame(GOAWAY, 0, 7), 6),
            (frame(HEADERS, 4, 1), 9),
            (frame(DATA, 0, 0), 0xb),
        ] {
            let mut seen = Frames::new(0, 0);
            seen.skip = 0;
            let fault = seen.read(&bad).unwrap_err();
            assert_eq!(fault.goodbye(0)[HEAD + 7], code, "{bad:x?}");
        }
        let mut seen = Frames::new(5, 10);
        seen.skip = 0;
        let good =
            [frame(SETTINGS, 0, 12), frame(SETTINGS, ACK, 0), frame(PING, 0, 8), frame(WINDOW_UPDATE, 0, 4)];
        assert_eq!(seen.read(&good.concat()), Ok(()));
    }

    #[test]
    fn empty_data_is_no_data() {
        let mut seen = Frames::new(5, 10);
        seen.skip = 0;
        let read: Vec<_> = (0..11).map(|_| seen.read(&frame(DATA, 0, 0))).collect();
        assert_eq!(read[10], Err(Limit::Http2ControlFrames.into()));
        assert!(read[..10].iter().all(Result::is_ok));
    }

    /// RFC 9113, 8.1, 8.3.1 and 6.2: wherever the bytes are cut, in frames of any make, before the last of them.
    #[test]
    fn malformed_blocks_are_found_at_every_cut_before_their_end() {
        let frame = |kind: u8, flags: u8, stream: u8, payload: &[u8]| {
            let head = [0, 0, u8::try_from(payload.len()).unwrap(), kind, flags, 0, 0, 0, stream];
            [&head[..], payload].concat()
        };
        // `:method: GET`, `:path` as it is kept in the table, `x: y`.
        let asks = |path: &[u8]| {
            [&[0x82, 0x44, u8::try_from(path.len()).unwrap()][..], path, b"\0\x01x\x01y"].concat()
        };
        let good = frame(HEADERS, 4, 1, &asks(b"/a"));
        let data = frame(DATA, 0, 1, b"body");
        let padded = [&[3, 0, 0, 0, 0, 9][..], &asks(b"/#"), &[0; 3]].concat();
        for (bad, reason) in [
            (frame(HEADERS, 5, 1, b"\0\x05:path\x01/"), Some(Reason::PseudoTrailer)),
            (frame(HEADERS, 5, 1, b"\xbe"), Some(Reason::PseudoTrailer)),
            (frame(HEADERS, 5, 1, b"\0\x05x-sum\x01#"), None),
            (frame(HEADERS, 5, 3, &asks(b"/b?c%23")), None),
            (frame(HEADERS, 5, 3, &asks(b"/b#c")), Some(Reason::Target)),
            (frame(HEADERS, 0x2d, 3, &padded), Some(Reason::Target)),
            (
                [
                    frame(HEADERS, 1, 3, &asks(b"/#")),
                    frame(CONTINUATION, 0, 3, b""),
                    frame(CONTINUATION, 4, 3, b"\x87"),
                ]
                .concat(),
                Some(Reason::Target),
            ),
            (frame(HEADERS, 5, 3, b"\xbf"), Some(Reason::FieldBlock)),
        ] {
            let all = conversation(&[good.clone(), data.clone(), bad]);
            for cut in 0..all.len() {
                let mut seen = Frames::new(1, 9);
                assert_eq!(seen.read(&all[..cut]), Ok(()), "cut at {cut}");
                assert_eq!(seen.read(&all[cut..]).err(), reason.map(Fault::Malformed), "cut at {cut}");
            }
        }
    }
}
