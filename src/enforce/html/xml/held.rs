//! A script or style sheet whose text is judged once it is whole.

use super::super::references::{Place, decode};
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
    /// Its text so far, each byte a character; from `run` on references are not decoded yet.
    pub text: String,
    run: usize,
}

impl Held {
    pub(super) const fn new(sheet: Sheet, depth: u32) -> Self {
        Self { sheet, depth, markup: Vec::new(), text: String::new(), run: 0 }
    }

    /// Takes a piece of its own text: that of its text nodes (DOM, "child text content").
    pub(super) fn push(&mut self, bytes: &[u8], literal: bool) {
        let text = encoding_rs::WINDOWS_1252.decode_without_bom_handling(bytes).0;
        if self.text.capacity() - self.text.len() < text.len() {
            self.text.reserve_exact(text.len().max(self.text.len() / 4));
        }
        self.text.push_str(&text);
        if literal {
            self.run = self.text.len();
        }
    }

    /// The run of character data ends: its references are decoded.
    pub(super) fn end_run(&mut self, entities: &Entities) -> Result<(), Broken> {
        let run = &self.text[self.run..];
        if run.contains('&') {
            let bytes = encoding_rs::WINDOWS_1252.encode(run).0;
            let expanded = entities.expand(&bytes)?;
            let text = encoding_rs::WINDOWS_1252.decode_without_bom_handling(&expanded).0;
            let decoded = decode(&text, Place::Text).into_owned();
            self.text.truncate(self.run);
            self.text.push_str(&decoded);
        }
        self.run = self.text.len();
        Ok(())
    }
}

/// Appends without the doubling that would make large texts take twice their size.
pub(super) fn append(held: &mut Vec<u8>, bytes: &[u8]) {
    if held.capacity() - held.len() < bytes.len() {
        held.reserve_exact(bytes.len().max(held.len() / 4));
    }
    held.extend_from_slice(bytes);
}
