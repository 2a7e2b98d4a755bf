//! Texts that a browser reads as one though markup parts them: in SVG, a comment, a CDATA section or an element
//! may stand in a script or style sheet (DOM, "child text content").
//!
//! Each piece is judged by itself and goes out before the next is there. So the pieces so far are judged with
//! every further one: it is left out where something comes together that has to go, and `BREAK` in its place
//! keeps what went out before from being read. What goes out has then been judged as it will be read.

use super::state::State;
use super::texts::{Form, Sheets, as_read, is_clean};

/// Ends what a style sheet's text has begun: no string goes on behind a line's end, and no address in `url()` has
/// a bracket behind white space. A script does not run with it.
pub(super) const BREAK: &str = "\n(\n";

/// Most pieces of one text: all of it is judged with each.
const MOST: usize = 64;

/// What went out of the texts that are open, the innermost last.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Joined(Vec<Text>);

#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Text {
    /// Open elements, its own the last.
    depth: usize,
    /// References resolved.
    text: String,
    pieces: usize,
}

impl Joined {
    /// A script or style sheet opens whose text may come in pieces.
    pub(super) fn open(&mut self, depth: usize) {
        self.0.push(Text { depth, ..Text::default() });
    }

    /// So many elements are still open.
    pub(super) fn close(&mut self, depth: usize) {
        while self.0.last().is_some_and(|text| text.depth > depth) {
            self.0.pop();
        }
    }

    /// Memory it takes, in bytes.
    pub(super) fn size(&self) -> usize {
        self.0.iter().map(|text| size_of::<Text>() + text.text.len()).sum()
    }

    /// Whether a piece may go out behind those before it, at this depth.
    pub(super) fn takes(
        &mut self,
        state: &mut State,
        sheets: Sheets,
        depth: usize,
        piece: &str,
        form: Form,
    ) -> bool {
        let Some(text) = self.0.last_mut().filter(|text| text.depth == depth) else { return true };
        let before = text.text.len();
        text.text.push_str(as_read(piece, form).text());
        text.pieces += 1;
        if before == 0 || text.pieces <= MOST && is_clean(state, sheets, &text.text) {
            return true;
        }
        text.text.truncate(before);
        text.text.push_str(BREAK);
        false
    }
}
