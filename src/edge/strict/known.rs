//! The fields of the last head on a connection: a line that comes again need not be judged again.
//!
//! Clients and origins say most of what they say with every message. A line that is, byte for byte, the one that
//! stood in the same place of the last head has been found good; comparing costs a tenth of reading.

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

    /// The head is whole, and these are its fields.
    pub(super) fn end(&mut self, fields: &[u8]) {
        if !self.changed {
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
