//! Blocks of fields in HTTP/2 requests that hyper's reader makes good where they are malformed: it drops
//! pseudo-fields among trailers (RFC 9113, 8.1) and cuts a fragment off a path (RFC 9113, 8.3.1).
//!
//! A block is looked at before hyper has the last octet of it.

use super::frame_rules::{END_HEADERS, PADDED, WITH_PRIORITY};
use super::hpack::Table;
use super::strict::Reason;

/// Most octets of a block; hyper takes blocks of far fewer for too large, and reads them to their end.
const MOST: usize = 256 * 1024;

/// The blocks of one connection.
#[derive(Debug, Default)]
pub struct HeaderBlocks {
    table: Table,
    /// The last stream that a request began.
    pub last_stream: u32,
    /// The block under way is one of trailers.
    trailers: bool,
    /// Fragments before the frame under way.
    block: Vec<u8>,
    /// The frame under way, where it came in pieces.
    payload: Vec<u8>,
    flags: u8,
}

impl HeaderBlocks {
    /// A `HEADERS` frame begins.
    pub fn begin(&mut self, stream: u32, flags: u8) {
        self.trailers = stream <= self.last_stream;
        self.last_stream = self.last_stream.max(stream);
        self.flags = flags;
        self.block.clear();
    }

    /// A `CONTINUATION` frame begins: neither padded nor with a priority.
    pub fn go_on(&mut self, flags: u8) {
        self.flags = flags & END_HEADERS;
    }

    /// The next piece of the frame's payload; `ends`: its last.
    ///
    /// Cost: no copy of a block that comes at once, in one frame.
    ///
    /// # Errors
    /// The block is whole and malformed.
    pub fn piece(&mut self, piece: &[u8], ends: bool) -> Result<(), Reason> {
        if self.block.len() + self.payload.len() + piece.len() > MOST {
            return Err(Reason::LongHead);
        }
        if !ends || !self.payload.is_empty() {
            self.payload.extend_from_slice(piece);
        }
        if !ends {
            return Ok(());
        }
        let payload = std::mem::take(&mut self.payload);
        let fragment = fragment(self.flags, if payload.is_empty() { piece } else { &payload });
        let whole = self.flags & END_HEADERS != 0;
        if whole && self.block.is_empty() {
            return self.judge(fragment);
        }
        self.block.extend_from_slice(fragment);
        if !whole {
            return Ok(());
        }
        let block = std::mem::take(&mut self.block);
        self.judge(&block)
    }

    fn judge(&mut self, block: &[u8]) -> Result<(), Reason> {
        let seen = self.table.read(block).ok_or(Reason::FieldBlock)?;
        match seen.pseudo && self.trailers {
            true => Err(Reason::PseudoTrailer),
            false if seen.fragment => Err(Reason::Target),
            false => Ok(()),
        }
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
