//! Bytes that a gate keeps back from hyper.

use tokio::io::ReadBuf;

/// What was read and is not with hyper yet: the first `passed` bytes may go there, `sent` of them have gone.
#[derive(Debug, Default)]
pub(super) struct Held {
    bytes: Vec<u8>,
    sent: usize,
    passed: usize,
}

impl Held {
    pub(super) fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// Gives hyper what may go; false when there is nothing.
    pub(super) fn give(&mut self, buf: &mut ReadBuf<'_>) -> bool {
        let ready = &self.bytes[self.sent..self.passed];
        if ready.is_empty() {
            return false;
        }
        let step = ready.len().min(buf.remaining());
        buf.put_slice(&ready[..step]);
        self.sent += step;
        if self.sent == self.passed {
            self.bytes.drain(..self.passed);
            (self.sent, self.passed) = (0, 0);
            if self.bytes.is_empty() {
                // An idle connection keeps no room for a head that came in pieces once.
                self.bytes = Vec::new();
            }
        }
        true
    }

    /// Takes in what was just read to the end of `buf`, from `start` on. `look` sees it from the first byte that
    /// has not passed and says how many may: where nothing was held they stay in `buf`. True when hyper has bytes.
    pub(super) fn take(
        &mut self,
        buf: &mut ReadBuf<'_>,
        start: usize,
        look: impl FnOnce(&[u8]) -> usize,
    ) -> bool {
        let fresh = &buf.filled()[start..];
        if self.bytes.is_empty() {
            let passed = look(fresh);
            self.bytes.extend_from_slice(&fresh[passed..]);
            buf.set_filled(start + passed);
            return passed > 0;
        }
        self.bytes.extend_from_slice(fresh);
        buf.set_filled(start);
        self.look_again(look);
        false
    }

    /// Takes in bytes that nobody has looked at.
    pub(super) fn keep(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    /// Has what has not passed looked at.
    pub(super) fn look_again(&mut self, look: impl FnOnce(&[u8]) -> usize) {
        self.passed += look(&self.bytes[self.passed..]);
    }

    /// Puts other bytes in the place of those that have not passed; they may go.
    pub(super) fn replace_rest(&mut self, bytes: &[u8]) {
        self.bytes.truncate(self.passed);
        self.bytes.extend_from_slice(bytes);
        self.passed = self.bytes.len();
    }
}
