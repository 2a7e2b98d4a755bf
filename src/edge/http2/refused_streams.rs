//! What only the frames tell that go out: streams that hyper's reader refuses because a client has as many open as
//! `limits.http2_streams` allows (RFC 9113, 5.1.2 and 6.4), and how much of answers' bodies a client has taken.

use super::frame_rules::{DATA, RST_STREAM};
use super::frame_walk::{FrameWalk, Step};

/// `REFUSED_STREAM` (RFC 9113, 7).
const REFUSED: u32 = 7;

/// Reads along with what a connection sends, from its first byte on.
#[derive(Debug, Default)]
pub struct RefusedStreams {
    walk: FrameWalk,
    /// Error code of the frame under way, as far as it has come; `None`: it is no reset.
    code: Option<u32>,
    /// Bytes of bodies since that was last asked.
    taken: usize,
}

impl RefusedStreams {
    /// Whether all frames that were begun have gone out whole.
    #[must_use]
    pub const fn is_between(&self) -> bool {
        !self.walk.is_within()
    }

    /// Whether so many bytes of answers' bodies have gone out since this last was so.
    pub const fn has_taken(&mut self, bytes: usize) -> bool {
        let so = self.taken >= bytes;
        if so {
            self.taken = 0;
        }
        so
    }

    /// The next bytes that have gone out; how many streams they refuse.
    ///
    /// Cost: a copy of nine bytes for each frame.
    pub fn sent(&mut self, mut bytes: &[u8]) -> u32 {
        let mut refused = 0;
        while let Some(step) = self.walk.step(&mut bytes) {
            match (step, &mut self.code) {
                // A reset is a code and nothing else (RFC 9113, 6.4).
                (Step::Head(head), code) => {
                    *code = (head.kind == RST_STREAM && head.length == 4).then_some(0);
                }
                (Step::Payload { piece, ends }, Some(code)) => {
                    *code = piece.iter().fold(*code, |code, byte| code << 8 | u32::from(*byte));
                    refused += u32::from(ends && *code == REFUSED);
                }
                (Step::Payload { piece, .. }, None) if self.walk.kind() == DATA => self.taken += piece.len(),
                (Step::Payload { .. }, None) => {}
            }
        }
        refused
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(kind: u8, payload: &[u8]) -> Vec<u8> {
        [&[0, 0, u8::try_from(payload.len()).unwrap(), kind, 0, 0, 0, 0, 1], payload].concat()
    }

    #[test]
    fn refused_streams_are_found_at_every_cut_and_other_resets_are_not() {
        let sent = [
            frame(4, &[]),
            frame(RST_STREAM, &REFUSED.to_be_bytes()),
            frame(0, &REFUSED.to_be_bytes()),
            frame(RST_STREAM, &8_u32.to_be_bytes()),
            frame(1, &[RST_STREAM; 40]),
            frame(RST_STREAM, &REFUSED.to_be_bytes()),
        ]
        .concat();
        for cut in 0..=sent.len() {
            let mut seen = RefusedStreams::default();
            assert_eq!(seen.sent(&sent[..cut]) + seen.sent(&sent[cut..]), 2, "cut at {cut}");
        }
        let mut seen = RefusedStreams::default();
        let data = frame(DATA, &[9; 200]);
        for byte in [&sent[..], &data].concat() {
            seen.sent(&[byte]);
        }
        assert!(
            !seen.has_taken(205) && seen.has_taken(204) && !seen.has_taken(1),
            "other frames' bytes do not count"
        );
        let mut seen = RefusedStreams::default();
        assert_eq!(sent.iter().map(|byte| seen.sent(&[*byte])).sum::<u32>(), 2);
    }
}
