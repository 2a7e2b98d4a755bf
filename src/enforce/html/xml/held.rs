//! A script or style sheet whose text is judged once it is whole.

use std::borrow::Cow;

use super::super::characters::{Charset, as_bytes};
use super::super::references::{Place, Resolved};
use super::dtd::Entities;
use super::tokens::Broken;

/// Whose text is held.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sheet {
    Script,
    Style,
}

/// A script or style sheet under way.
#[derive(Debug)]
pub(super) struct Held {
    pub sheet: Sheet,
    pub depth: u32,
    /// Everything since its start tag, nested elements judged.
    pub markup: Vec<u8>,
    /// Where its own text stands in the markup.
    pieces: Vec<Piece>,
}

/// A run of text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Piece {
    start: u32,
    end: u32,
    /// From a CDATA section: references mean nothing.
    literal: bool,
}

impl Held {
    pub(super) const fn new(sheet: Sheet, depth: u32) -> Self {
        Self { sheet, depth, markup: Vec::new(), pieces: Vec::new() }
    }

    /// Bytes it takes.
    pub(super) const fn size(&self) -> usize {
        self.markup.len() + self.pieces.len() * size_of::<Piece>()
    }

    /// Notes that the markup's last bytes are its own text: that of its text nodes (DOM, "child text
    /// content").
    pub(super) fn note(&mut self, length: usize, literal: bool) {
        let end = u32::try_from(self.markup.len()).unwrap_or(u32::MAX);
        let start = end.saturating_sub(u32::try_from(length).unwrap_or(u32::MAX));
        match self.pieces.last_mut() {
            Some(last) if last.end == start && last.literal == literal => last.end = end,
            _ => self.pieces.push(Piece { start, end, literal }),
        }
    }

    /// Its text, references decoded.
    ///
    /// # Errors
    /// What cannot be expanded.
    pub(super) fn text(&self, entities: &Entities, charset: Charset) -> Result<Cow<'_, str>, Broken> {
        let mut text = Cow::Borrowed("");
        for piece in &self.pieces {
            let bytes = self.markup.get(piece.start as usize..piece.end as usize).unwrap_or_default();
            let part = match !piece.literal && bytes.contains(&b'&') {
                true => {
                    let expanded = entities.expand(bytes)?;
                    let raw = charset.text(&expanded);
                    Cow::Owned(Resolved::new(&raw, Place::Text).text().to_owned())
                }
                false => charset.text(bytes),
            };
            text += part;
        }
        Ok(text)
    }
}

/// Appends text that was changed, its references written anew.
pub(super) fn append_escaped(out: &mut Vec<u8>, text: &str) {
    let mut rest = text;
    while let Some(at) = rest.find(['&', '<', '>']) {
        out.extend_from_slice(&as_bytes(&rest[..at]));
        out.extend_from_slice(match rest.as_bytes()[at] {
            b'&' => b"&amp;",
            b'<' => b"&lt;",
            _ => b"&gt;",
        });
        rest = &rest[at + 1..];
    }
    out.extend_from_slice(&as_bytes(rest));
}
