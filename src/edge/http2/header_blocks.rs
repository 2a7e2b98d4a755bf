//! Blocks of fields in HTTP/2 messages, which hyper's reader makes good where they are malformed: it drops pseudo-fields
//! where they have no place (RFC 9113, 8.1 and 8.3) and cuts a fragment off a path (RFC 9113, 8.3.1).
//!
//! A block is looked at before hyper has the last octet of it.

use super::frame_rules::{END_HEADERS, PADDED, WITH_PRIORITY};
use super::hpack::{Seen, Table};
use crate::edge::strict::Reason;

/// Most octets of a block; hyper takes blocks of far fewer for too large, and reads them to their end.
const MOST: usize = 256 * 1024;

/// The blocks that one side of a connection sends.
#[derive(Debug, Default)]
pub struct HeaderBlocks {
    table: Table,
    /// Fragments before the frame under way.
    block: Vec<u8>,
    /// The frame under way, where it came in pieces.
    payload: Vec<u8>,
    flags: u8,
}

impl HeaderBlocks {
    /// A `HEADERS` frame begins.
    pub fn begin(&mut self, flags: u8) {
        self.flags = flags;
        self.block.clear();
    }

    /// A `CONTINUATION` frame begins: neither padded nor with a priority.
    pub fn go_on(&mut self, flags: u8) {
        self.flags = flags & END_HEADERS;
    }

    /// The next piece of the frame's payload; `ends`: its last. `Some`: with it the block is whole.
    ///
    /// Cost: no copy of a block that comes at once, in one frame.
    ///
    /// # Errors
    /// The block is whole and is none, or too long.
    pub fn piece(&mut self, piece: &[u8], ends: bool) -> Result<Option<Seen>, Reason> {
        if self.block.len() + self.payload.len() + piece.len() > MOST {
            return Err(Reason::LongHead);
        }
        if !ends || !self.payload.is_empty() {
            self.payload.extend_from_slice(piece);
        }
        if !ends {
            return Ok(None);
        }
        let payload = std::mem::take(&mut self.payload);
        let fragment = fragment(self.flags, if payload.is_empty() { piece } else { &payload });
        let whole = self.flags & END_HEADERS != 0;
        if whole && self.block.is_empty() {
            return self.read(fragment).map(Some);
        }
        self.block.extend_from_slice(fragment);
        if !whole {
            return Ok(None);
        }
        let block = std::mem::take(&mut self.block);
        self.read(&block).map(Some)
    }

    fn read(&mut self, block: &[u8]) -> Result<Seen, Reason> {
        self.table.read(block).ok_or(Reason::FieldBlock)
    }
}

/// The fields of a frame's payload (RFC 9113, 6.2). Padding that cannot be is hyper's to refuse.
fn fragment(flags: u8, payload: &[u8]) -> &[u8] {
    let (mut start, mut end) = (0, payload.len());
    if flags & PADDED != 0 {
        start = 1;
        end = end.saturating_sub(payload.first().map_or(0, |&padding| padding.into()));
    }
    if flags & WITH_PRIORITY != 0 {
        start += 5;
    }
    payload.get(start..end).unwrap_or_default()
}
