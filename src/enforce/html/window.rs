//! The page's bytes as they came, next to what the tokenizer makes of them: a look at them tells that most
//! tags need nothing, without asking for a name or a value.

use std::ops::Range;

/// Bytes kept of what went before the piece under way, so that few tags lie across its edge.
const KEPT: usize = 4 * 1024;

/// The latest bytes of the input, by their place in it.
#[derive(Debug, Default)]
pub(super) struct Window {
    base: usize,
    bytes: Vec<u8>,
    #[cfg(test)]
    closed: bool,
}

impl Window {
    /// Takes the next piece.
    ///
    /// Cost: one copy.
    pub(super) fn feed(&mut self, piece: &[u8]) {
        let gone = self.bytes.len().saturating_sub(KEPT);
        self.bytes.drain(..gone);
        self.base += gone;
        self.bytes.extend_from_slice(piece);
    }

    /// A whole tag, if its bytes are still here.
    pub(super) fn tag(&self, place: &Range<usize>) -> Option<&[u8]> {
        #[cfg(test)]
        if self.closed {
            return None;
        }
        let start = place.start.checked_sub(self.base)?;
        let tag = self.bytes.get(start..place.end.checked_sub(self.base)?)?;
        (tag.starts_with(b"<") && tag.ends_with(b">")).then_some(tag)
    }

    /// Shows no tag any more: everything takes the full way.
    #[cfg(test)]
    pub(super) const fn close(&mut self) {
        self.closed = true;
    }

    /// What is here already of the bytes behind a place.
    pub(super) fn behind(&self, place: usize) -> &[u8] {
        place.checked_sub(self.base).and_then(|at| self.bytes.get(at..)).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A tag is found by its place in the whole input, or not at all.
    #[test]
    fn a_tag_is_found_while_its_bytes_are_kept() {
        let mut window = Window::default();
        window.feed(b"ab<i x>cd");
        assert_eq!(window.tag(&(2..7)), Some(&b"<i x>"[..]));
        assert_eq!(window.behind(7), b"cd");
        assert_eq!(window.tag(&(3..7)), None);
        assert_eq!(window.tag(&(2..70)), None);
        window.feed(&[b'x'; 3 * KEPT]);
        assert_eq!(window.tag(&(2..7)), Some(&b"<i x>"[..]));
        window.feed(b"<b>");
        assert_eq!(window.tag(&(2..7)), None);
        assert_eq!(window.tag(&(9 + 3 * KEPT..12 + 3 * KEPT)), Some(&b"<b>"[..]));
        assert_eq!(window.behind(usize::MAX), b"");
    }
}
