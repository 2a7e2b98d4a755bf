//! HTTP/2 frames that make work without being any: counted as they are read, in front of hyper's reader.
//!
//! hyper's reader bounds what such frames hold in memory; nothing there bounds how many it answers. A frame
//! without a request or data costs a token, and every request and every piece of data earns some, since window
//! updates and acknowledgements come with them. Streams that a client resets have tokens of their own, which
//! nothing earns: opening and resetting is the attack (CVE-2023-44487), and hyper only counts streams that were
//! reset before they were read.
//!
//! On the same way frames are held to their rules, see [`FrameRules`], and the blocks of fields in them looked at, see
//! [`HeaderBlocks`]; and what has begun must end in time.
//!
//! Cost: a look at nine bytes of each frame, and at each field; no allocation where a block comes in one piece.

use std::cell::Cell;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::PIECE;
use super::frame_rules::{
    CONTINUATION, DATA, END_HEADERS, END_STREAM, FrameRules, GOAWAY, HEAD, HEADERS, RST_STREAM, SETTINGS,
};
use super::frame_walk::{FrameWalk, Head, Step};
use super::header_blocks::HeaderBlocks;
use super::hpack::Seen;
use super::refused_streams::RefusedStreams;
use crate::edge::downstream::unsent::Unsent;
use crate::edge::strict::Reason;
use crate::edge::timer::{self, Deadline};
use crate::telemetry::events;
use crate::telemetry::limits::Limit;
use crate::telemetry::metrics::SharedMetrics;
use crate::telemetry::side::Side;

/// Bytes of the client's preface (RFC 9113, 3.4).
const PREFACE: u32 = 24;
/// Control frames that one request explains: priorities, a window, an acknowledgement.
const BY_REQUEST: u32 = 4;
/// Bytes of data, either way, that explain one more.
const BY_BYTES: u32 = 1024;

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
        self.spend_at(timer::now())
    }

    /// Time brings some back while any are missing, never more than there may be: who was quiet for long has a burst and
    /// not two.
    fn spend_at(&mut self, now: Instant) -> bool {
        let passed = now.saturating_duration_since(self.since).as_millis();
        let more = u128::from(self.most) * passed / 10_000;
        if self.left == self.most {
            self.since = now;
        } else if more > 0 {
            self.since = now;
            self.earn(u32::try_from(more).unwrap_or(self.most));
        }
        let spent = self.left > 0;
        self.left -= u32::from(spent);
        spent
    }
}

/// What is known of a connection's frames.
#[derive(Debug)]
struct Frames {
    walk: FrameWalk,
    control: Tokens,
    resets: Tokens,
    /// Bytes that have not earned a token yet.
    bytes: u32,
    rules: FrameRules,
    blocks: HeaderBlocks,
    /// The last stream that a request began.
    last_stream: u32,
    /// The block under way is one of trailers.
    trailers: bool,
    /// A byte has come.
    begun: bool,
    /// Frames of a block are still to come.
    open_block: bool,
    /// What has come whole: frames, and blocks with all of theirs.
    whole: u64,
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
            Self::Malformed(Reason::StreamClosed) => 5,
            Self::Malformed(Reason::WindowSize) => 3,
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
        Self {
            walk: FrameWalk::behind(PREFACE),
            control: Tokens::new(control),
            resets: Tokens::new(resets),
            bytes: 0,
            rules: FrameRules::default(),
            blocks: HeaderBlocks::default(),
            last_stream: 0,
            trailers: false,
            begun: false,
            open_block: false,
            whole: 0,
        }
    }

    /// Whether something has come in part that is to come whole within the time of a head: anything but data, of which
    /// bodies have their own. The preface goes with the settings behind it.
    const fn is_in_head(&self) -> bool {
        if !self.rules.is_greeted() {
            return self.begun;
        }
        let data = self.walk.is_known() && self.walk.kind() == DATA;
        self.open_block || self.walk.is_within() && !data
    }

    /// Looks at bytes as they were read.
    fn read(&mut self, mut bytes: &[u8]) -> Result<(), Fault> {
        self.begun |= !bytes.is_empty();
        while let Some(step) = self.walk.step(&mut bytes) {
            match step {
                Step::Head(head) => self.frame(head)?,
                Step::Payload { piece, ends } => self.payload(piece, ends).map_err(Fault::Malformed)?,
            }
        }
        Ok(())
    }

    /// The next piece of a payload, or of the preface.
    fn payload(&mut self, piece: &[u8], ends: bool) -> Result<(), Reason> {
        if !self.rules.is_greeted() {
            return Ok(());
        }
        match self.walk.kind() {
            HEADERS | CONTINUATION => {
                if let Some(seen) = self.blocks.piece(piece, ends)? {
                    judge(seen, self.trailers)?;
                }
            }
            SETTINGS => self.rules.settings(piece)?,
            _ => {}
        }
        self.whole += u64::from(ends && !self.open_block);
        Ok(())
    }

    fn frame(&mut self, head: Head) -> Result<(), Fault> {
        let Head { length, kind, flags, stream } = head;
        let is_new = stream > self.last_stream;
        self.rules.begin(kind, flags, stream, length, is_new).map_err(Fault::Malformed)?;
        match kind {
            HEADERS => {
                self.trailers = !is_new;
                self.last_stream = self.last_stream.max(stream);
                self.blocks.begin(flags);
            }
            CONTINUATION => self.blocks.go_on(flags),
            _ => {}
        }
        if matches!(kind, HEADERS | CONTINUATION) {
            self.open_block = flags & END_HEADERS == 0;
        }
        if length == 0 {
            self.payload(&[], true).map_err(Fault::Malformed)?;
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

/// A request's head may have no fragment, and its trailers no pseudo-field (RFC 9113, 8.3.1 and 8.1).
const fn judge(seen: Seen, trailers: bool) -> Result<(), Reason> {
    match seen.pseudo() && trailers {
        true => Err(Reason::PseudoTrailer),
        false if seen.fragment => Err(Reason::Target),
        false => Ok(()),
    }
}

/// An HTTP/2 connection that ends when its frames are a flood, are none, or come too slowly.
#[derive(Debug)]
pub struct FrameCount<S> {
    io: S,
    frames: Frames,
    refused: RefusedStreams,
    /// When its client last took a piece of answers.
    taken_at: Rc<Cell<Instant>>,
    metrics: SharedMetrics,
    /// `timeouts.header_read`.
    header_read: Duration,
    /// Since when what is under way is, told by what had come whole before it.
    late: Option<(u64, Deadline)>,
    /// What is said last. hyper makes an end of a connection that cannot be read without a word.
    goodbye: Unsent,
}

impl<S> FrameCount<S> {
    /// With `limits.http2_resets` and `limits.http2_control_frames`, and with `timeouts.header_read`. `taken_at` is moved
    /// whenever the client has taken [`PIECE`] more of answers' bodies: with less for each look at it, a client that opens
    /// its windows by a byte at a time would keep what is held for it for ever.
    pub fn new(
        io: S,
        (resets, control): (u32, u32),
        header_read: Duration,
        taken_at: Rc<Cell<Instant>>,
        metrics: SharedMetrics,
    ) -> Self {
        let (frames, refused) = (Frames::new(resets, control), RefusedStreams::default());
        Self { io, frames, refused, taken_at, metrics, header_read, late: None, goodbye: Unsent::default() }
    }

    /// Nothing more has come. Gives up when it was the rest of a head that did not.
    fn wait(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if !self.frames.is_in_head() {
            self.late = None;
            return Poll::Pending;
        }
        let (whole, limit) = (self.frames.whole, self.header_read);
        let begun = || (whole, Deadline::new(limit));
        let late = self.late.get_or_insert_with(begun);
        if late.0 != whole {
            *late = begun();
        }
        late.1.poll(cx)
    }

    /// What ends a connection, told.
    fn end(&mut self, fault: Fault) -> io::Error {
        self.goodbye = fault.goodbye(self.frames.last_stream).to_vec().into();
        match fault {
            Fault::Flood(limit) => {
                events::limit_reached(&self.metrics, limit);
                io::Error::new(io::ErrorKind::ConnectionAborted, limit.as_str())
            }
            Fault::Malformed(reason) => {
                events::message_refused(&self.metrics, Side::Downstream, reason.label(), &reason);
                reason.into_io()
            }
        }
    }

    fn written<'a>(&mut self, bytes: usize, offered: impl Iterator<Item = &'a [u8]>) {
        self.frames.moved(u32::try_from(bytes).unwrap_or(u32::MAX));
        let mut left = bytes;
        for piece in offered {
            let gone = &piece[..piece.len().min(left)];
            left -= gone.len();
            for _ in 0..self.refused.sent(gone) {
                events::limit_reached(&self.metrics, Limit::Http2Streams);
            }
        }
        if self.refused.has_taken(PIECE) {
            self.taken_at.set(timer::now());
        }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for FrameCount<S> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let start = buf.filled().len();
        if Pin::new(&mut this.io).poll_read(cx, buf)?.is_pending() {
            ready!(this.wait(cx));
            return Poll::Ready(Err(this.end(Limit::HeaderRead.into())));
        }
        Poll::Ready(this.frames.read(&buf.filled()[start..]).map_err(|fault| this.end(fault)))
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
        // Behind all that hyper has written, its settings first; inside of a frame it would be none.
        if !this.goodbye.is_empty() && this.refused.is_between() {
            ready!(this.goodbye.poll_write(&mut this.io, cx))?;
        }
        Pin::new(&mut this.io).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().io).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::super::frame_rules::{ACK, PING, WINDOW_UPDATE};
    use super::*;

    /// A connection whose client has begun as it must.
    fn begun(resets: u32, control: u32) -> Frames {
        let mut frames = Frames::new(resets, control.max(1));
        frames.read(&conversation(&[])).unwrap();
        frames.control = Tokens::new(control);
        frames
    }

    fn frame(kind: u8, flags: u8, length: u8) -> Vec<u8> {
        let head = [0, 0, length, kind, flags, 0, 0, 0, 1];
        [&head[..], &vec![kind; usize::from(length)]].concat()
    }

    fn conversation(frames: &[Vec<u8>]) -> Vec<u8> {
        [&[b'x'; PREFACE as usize][..], &frame(SETTINGS, 0, 0), &frames.concat()].concat()
    }

    #[test]
    fn frames_are_found_at_every_cut() {
        let frames: Vec<_> = (0..6).map(|_| frame(PING, 0, 8)).collect();
        let all = conversation(&frames);
        for cut in 0..=all.len() {
            for (most, fits) in [(7, true), (6, false)] {
                let mut seen = Frames::new(1, most);
                let (a, b) = all.split_at(cut);
                assert_eq!(seen.read(a).and_then(|()| seen.read(b)).is_ok(), fits, "cut at {cut}, {most}");
            }
        }
    }

    /// `limits.http2_resets` and its like, "at once, and a tenth as many more each second": also for a client that has done
    /// nothing for a while, or comes again and again.
    #[test]
    fn a_client_has_one_burst_and_then_what_time_brings() {
        let mut tokens = Tokens::new(200);
        let start = tokens.since;
        let at = |ms: u64| start + Duration::from_millis(ms);
        let burst = |tokens: &mut Tokens, ms| (0..1_000).filter(|_| tokens.spend_at(at(ms))).count();
        assert_eq!(burst(&mut tokens, 3_600_000), 200);
        assert_eq!(burst(&mut tokens, 3_601_000), 20);
        assert_eq!(burst(&mut tokens, 3_601_049), 0);
        assert_eq!(burst(&mut tokens, 3_606_000), 100);
        assert_eq!(burst(&mut tokens, 9_000_000), 200);
    }

    #[test]
    fn requests_and_data_earn_control_frames_and_no_resets() {
        let mut seen = begun(5, 10);
        for _ in 0..100 {
            let busy = [frame(HEADERS, 4, 0), frame(PING, 0, 8), frame(DATA, 0, 200), frame(PING, 0, 8)];
            assert_eq!(seen.read(&busy.concat()), Ok(()));
        }
        let reset = [frame(HEADERS, 4, 0), frame(RST_STREAM, 0, 4)].concat();
        let read: Vec<_> = (0..6).map(|_| seen.read(&reset)).collect();
        assert_eq!((read[4], read[5]), (Ok(()), Err(Limit::Http2Resets.into())));
    }

    /// RFC 9113, 4.2, 4.3, 5.1, 6.5.2 and 7: what a connection ends with says what was wrong.
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
            ([frame(HEADERS, 5, 0), frame(DATA, 0, 1)].concat(), 5),
            (vec![0, 0, 6, SETTINGS, 0, 0, 0, 0, 0, 0, 4, 0x80, 0, 0, 0], 3),
            (frame(DATA, 0, 0), 0xb),
        ] {
            let mut seen = begun(0, u32::from(bad[3] == SETTINGS));
            let fault = seen.read(&bad).unwrap_err();
            assert_eq!(fault.goodbye(0)[HEAD + 7], code, "{bad:x?}");
        }
        let mut seen = begun(5, 10);
        let good =
            [frame(SETTINGS, 0, 12), frame(SETTINGS, ACK, 0), frame(PING, 0, 8), frame(WINDOW_UPDATE, 0, 4)];
        assert_eq!(seen.read(&good.concat()), Ok(()));
    }

    /// T13: a block is one head, however many frames it has; the preface goes with the settings behind it; bodies are
    /// given the time of bodies.
    #[test]
    fn what_has_begun_is_told_from_what_is_whole() {
        let all = conversation(&[frame(HEADERS, 0, 3), frame(CONTINUATION, 0, 2), frame(CONTINUATION, 4, 1)]);
        let (settings, head) = (PREFACE as usize + HEAD, 3 * HEAD + 6);
        for cut in 0..settings + head {
            let mut seen = Frames::new(1, 10);
            // The fields are none, which only their end shows.
            seen.read(&all[..cut]).unwrap();
            let between = cut == 0 || cut == settings;
            assert_eq!(
                (seen.is_in_head(), seen.whole),
                (!between, u64::from(cut >= settings)),
                "cut at {cut}"
            );
        }
        let data = frame(DATA, 0, 9);
        for cut in 0..=data.len() {
            let mut seen = begun(1, 10);
            seen.read(&data[..cut]).unwrap();
            assert_eq!(seen.is_in_head(), (1..4).contains(&cut), "cut at {cut}");
        }
    }

    #[test]
    fn empty_data_is_no_data() {
        let mut seen = begun(5, 10);
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
                let mut seen = Frames::new(1, 10);
                assert_eq!(seen.read(&all[..cut]), Ok(()), "cut at {cut}");
                assert_eq!(seen.read(&all[cut..]).err(), reason.map(Fault::Malformed), "cut at {cut}");
            }
        }
    }
}
