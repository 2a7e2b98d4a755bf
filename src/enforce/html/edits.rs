//! Changes to the buffer under way, in the order of their places.

use std::ops::Range;

/// What stands in the place of some of a buffer's bytes.
#[derive(Debug, Clone, Default)]
pub(super) struct Edits {
    /// Places in the buffer, each with the end of its replacement in `text`.
    places: Vec<(Range<usize>, usize)>,
    text: Vec<u8>,
}

impl Edits {
    /// Puts bytes in a place; no place lies before an earlier one.
    pub(super) fn replace(&mut self, place: Range<usize>, by: &[u8]) {
        self.text.extend_from_slice(by);
        self.places.push((place, self.text.len()));
    }

    /// Puts bytes before those at a place.
    pub(super) fn insert(&mut self, at: usize, bytes: &[u8]) {
        self.replace(at..at, bytes);
    }

    /// Takes bytes away.
    pub(super) fn cut(&mut self, place: Range<usize>) {
        self.replace(place, &[]);
    }

    /// Writes the first `done` bytes of the buffer with their changes, and forgets these.
    pub(super) fn apply(&mut self, buf: &[u8], done: usize, out: &mut Vec<u8>) {
        let (mut copied, mut told) = (0, 0);
        for (place, end) in self.places.drain(..) {
            out.extend_from_slice(&buf[copied..place.start]);
            out.extend_from_slice(&self.text[told..end]);
            (copied, told) = (place.end, end);
        }
        out.extend_from_slice(&buf[copied..done]);
        self.text.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changes_are_applied_in_their_order_and_forgotten() {
        let mut edits = Edits::default();
        let mut out = Vec::new();
        edits.insert(0, b"<");
        edits.replace(1..2, b"XY");
        edits.insert(2, b"1");
        edits.insert(2, b"2");
        edits.cut(3..5);
        edits.apply(b"abcdefg", 6, &mut out);
        assert_eq!(out, b"<aXY12cf");
        edits.apply(b"gh", 2, &mut out);
        assert_eq!(out, b"<aXY12cfgh");
    }
}
