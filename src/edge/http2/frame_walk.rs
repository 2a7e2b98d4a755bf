//! Where HTTP/2 frames begin and end in a stream of bytes, as these come (RFC 9113, 4.1).

use super::frame_rules::HEAD;

/// A stream's number has one bit less than its field.
const STREAM: u32 = u32::MAX >> 1;

/// How far a stream of frames was read.
#[derive(Debug, Default)]
pub struct FrameWalk {
    /// Bytes left that are no frame's head: those before the first frame, then payloads.
    skip: u32,
    head: [u8; HEAD],
    have: usize,
}

/// What comes next.
#[derive(Debug, PartialEq, Eq)]
pub enum Step<'b> {
    /// A frame's head is whole.
    Head(Head),
    /// A piece of the payload; `ends`: its last. A payload without bytes has no piece.
    Payload {
        /// The bytes.
        piece: &'b [u8],
        /// Nothing of the payload follows.
        ends: bool,
    },
}

/// The head of a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Head {
    /// Bytes of the payload.
    pub length: u32,
    /// RFC 9113, 6.
    pub kind: u8,
    /// What they mean depends on the kind.
    pub flags: u8,
    /// 0: the connection.
    pub stream: u32,
}

impl FrameWalk {
    /// A stream that begins with so many bytes of another kind, which come as pieces of a payload.
    #[must_use]
    pub const fn behind(bytes: u32) -> Self {
        Self { skip: bytes, head: [0; HEAD], have: 0 }
    }

    /// Kind of the last frame whose head has come; while one comes, of that one, as soon as it is there.
    #[must_use]
    pub const fn kind(&self) -> u8 {
        self.head[3]
    }

    /// Whether the frame under way is of the kind that [`Self::kind`] says.
    #[must_use]
    pub const fn is_known(&self) -> bool {
        self.skip > 0 || self.have > 3
    }

    /// Whether a frame has come in part.
    #[must_use]
    pub const fn is_within(&self) -> bool {
        self.skip > 0 || self.have > 0
    }

    /// Takes the next step off the front of `bytes`; `None`: they are used up.
    pub fn step<'b>(&mut self, bytes: &mut &'b [u8]) -> Option<Step<'b>> {
        while !bytes.is_empty() {
            if self.skip > 0 {
                let (piece, rest) = bytes.split_at(bytes.len().min(self.skip as usize));
                *bytes = rest;
                self.skip -= u32::try_from(piece.len()).unwrap_or(self.skip);
                return Some(Step::Payload { piece, ends: self.skip == 0 });
            }
            let (piece, rest) = bytes.split_at(bytes.len().min(HEAD - self.have));
            *bytes = rest;
            self.head[self.have..self.have + piece.len()].copy_from_slice(piece);
            self.have += piece.len();
            if self.have == HEAD {
                self.have = 0;
                let [a, b, c, kind, flags, stream @ ..] = self.head;
                self.skip = u32::from_be_bytes([0, a, b, c]);
                let stream = u32::from_be_bytes(stream) & STREAM;
                return Some(Step::Head(Head { length: self.skip, kind, flags, stream }));
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_are_found_at_every_cut() {
        let all = b"xx\0\0\x03\x01\x04\x80\0\0\x05abc\0\0\0\x04\x01\0\0\0\0";
        let first = Head { length: 3, kind: 1, flags: 4, stream: 5 };
        let second = Head { length: 0, kind: 4, flags: 1, stream: 0 };
        for cut in 0..=all.len() {
            let mut walk = FrameWalk::behind(2);
            let (mut heads, mut payloads, mut ends) = (Vec::new(), Vec::new(), 0);
            for mut part in [&all[..cut], &all[cut..]] {
                while let Some(step) = walk.step(&mut part) {
                    match step {
                        Step::Head(head) => heads.push(head),
                        Step::Payload { piece, ends: last } => {
                            payloads.extend_from_slice(piece);
                            ends += usize::from(last);
                        }
                    }
                }
                assert!(part.is_empty());
            }
            assert_eq!(
                (&heads[..], &payloads[..], ends),
                (&[first, second][..], &b"xxabc"[..], 2),
                "cut at {cut}"
            );
            assert!(!walk.is_within());
        }
    }
}
