//! The fields of the last head on a connection: a line that comes again need not be judged again.
//!
//! Clients and origins say most of what they say with every message. A line that is, byte for byte, the one that
//! stood in the same place of the last head has been found good; comparing costs a tenth of reading.

use super::head::Said;

/// Longer heads are not remembered, bytes of their fields.
const MOST: usize = 2048;

/// The field lines of the last whole head, and of the one that is being read where it differs.
///
/// Cost: two allocations once a connection, and a copy of a head that differs from the one before.
#[derive(Debug, Default)]
pub struct Known {
    /// The fields as they came, line ends included.
    bytes: Vec<u8>,
    lines: Vec<Line>,
    /// Lines of the head that is being read, from the time on that one of them was another.
    now: Vec<Line>,
    changed: bool,
    /// Places whose line came again in the head that was read last, the first of them in the lowest bit.
    again: u128,
    /// Whether the last head was of HTTP/1.0, and what it said.
    said: (bool, Said),
}

/// Where a line stands.
#[derive(Debug, Clone, Copy)]
struct Line {
    start: u16,
    end: u16,
    /// It says how the body ends, or what follows: that is read every time.
    telling: bool,
}

/// A line that is known to be good.
#[derive(Debug, Clone, Copy)]
pub(super) struct Again {
    /// Its bytes, line end included.
    pub(super) length: usize,
    /// What it says must be read.
    pub(super) telling: bool,
}

impl Known {
    /// A head's fields begin.
    pub(super) fn begin(&mut self) {
        self.changed = false;
        self.again = 0;
    }

    /// Whether the line in this place of the head that was read last is the one of the head before it.
    pub fn came_again(&self, place: usize) -> bool {
        place < u128::BITS as usize && self.again & (1 << place) != 0
    }

    /// How many fields the last head had.
    pub(super) const fn count(&self) -> usize {
        self.lines.len()
    }

    /// Whether these bytes are the last head's fields and its end, behind a first line of the same version: their length
    /// without that, and what they say.
    pub(super) fn all_again(&mut self, bytes: &[u8], old: bool) -> Option<(usize, Said)> {
        let length = self.bytes.len();
        let whole = length > 0 && self.count() <= u128::BITS as usize && self.said.0 == old;
        let again = whole && bytes.starts_with(&self.bytes) && bytes[length..].starts_with(b"\r\n");
        if !again {
            return None;
        }
        self.again = u128::MAX >> (u128::BITS as usize - self.count());
        Some((length, self.said.1))
    }

    /// Where the line in this place of the head that was read last ends, counted from the first field's start. `None`:
    /// there is none, or it is not known.
    pub fn end_of(&self, place: usize) -> Option<usize> {
        self.lines.get(place).map(|line| line.end.into())
    }

    /// Whether these bytes begin with the line that stood in this place of the last head; places count from 0.
    pub(super) fn again(&self, place: usize, bytes: &[u8]) -> Option<Again> {
        let line = self.lines.get(place)?;
        let known = self.bytes.get(usize::from(line.start)..usize::from(line.end))?;
        bytes.starts_with(known).then_some(Again { length: known.len(), telling: line.telling })
    }

    /// The line in this place was found good. `start` and `end` are counted from the first field's start.
    pub(super) fn note(&mut self, place: usize, start: usize, end: usize, telling: bool, again: bool) {
        if again && place < u128::BITS as usize {
            self.again |= 1 << place;
        }
        if again && !self.changed {
            return;
        }
        if !self.changed {
            self.changed = true;
            // All lines before it were the same, so they stand where they stood.
            self.now.clear();
            self.now.extend_from_slice(&self.lines[..place.min(self.lines.len())]);
        }
        if end <= MOST {
            self.now.push(Line { start: start as u16, end: end as u16, telling });
        }
    }

    /// The head is whole, and these are its fields. `said`: whether it is of HTTP/1.0, and what they say.
    pub(super) fn end(&mut self, fields: &[u8], said: (bool, Said)) {
        self.said = said;
        if !self.changed {
            // It may have ended sooner than the one before.
            self.bytes.truncate(fields.len());
            while self.lines.last().is_some_and(|line| usize::from(line.end) > fields.len()) {
                self.lines.pop();
            }
            return;
        }
        self.bytes.clear();
        self.lines.clear();
        if fields.len() <= MOST {
            self.bytes.extend_from_slice(fields);
            std::mem::swap(&mut self.lines, &mut self.now);
        }
    }
}
