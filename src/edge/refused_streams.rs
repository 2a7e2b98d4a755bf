//! What only the frames tell that go out: streams that hyper's reader refuses because a client has as many open as
//! `limits.http2_streams` allows (RFC 9113, 5.1.2 and 6.4), and how much of answers' bodies a client has taken.

use super::frame_rules::{DATA, HEAD, RST_STREAM};

/// `REFUSED_STREAM` (RFC 9113, 7), with the head before it.
const REFUSED: [u8; 4] = 7_u32.to_be_bytes();

/// Reads along with what a connection sends, from its first byte on.
#[derive(Debug, Default)]
pub struct RefusedStreams {
    /// Bytes of a payload that are of no interest.
    skip: u32,
    /// A frame's head, and the payload of a reset behind it.
    held: [u8; HEAD + REFUSED.len()],
    have: usize,
    /// Bytes of bodies since that was last asked.
    taken: usize,
}

impl RefusedStreams {
    /// Whether all frames that were begun have gone out whole.
    #[must_use]
    pub const fn is_between(&self) -> bool {
        self.skip == 0 && self.have == 0
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
        while !bytes.is_empty() {
            if self.skip > 0 {
                let step = bytes.len().min(self.skip as usize);
                self.skip -= u32::try_from(step).unwrap_or(self.skip);
                bytes = &bytes[step..];
                // What is skipped is the payload behind this head.
                if self.held[3] == DATA {
                    self.taken += step;
                }
                continue;
            }
            let whole = if self.have >= HEAD { self.held.len() } else { HEAD };
            let step = bytes.len().min(whole - self.have);
            self.held[self.have..self.have + step].copy_from_slice(&bytes[..step]);
            self.have += step;
            bytes = &bytes[step..];
            if self.have == self.held.len() {
                self.have = 0;
                refused += u32::from(self.held[HEAD..] == REFUSED);
            } else if self.have == HEAD {
                let [a, b, c, kind, ..] = self.held;
                let length = u32::from_be_bytes([0, a, b, c]);
                if kind != RST_STREAM || length as usize != REFUSED.len() {
                    (self.skip, self.have) = (length, 0);
                }
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
            frame(RST_STREAM, &REFUSED),
            frame(0, &REFUSED),
            frame(RST_STREAM, &8_u32.to_be_bytes()),
            frame(1, &[RST_STREAM; 40]),
            frame(RST_STREAM, &REFUSED),
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
