//! One pass over one piece of markup: the tokenizer, and a document that says what changes.
//!
//! The markup is read as windows-1252 whatever the page's charset is: every byte is a character, so
//! untouched text comes out byte-identical, and all we insert is ASCII.

use super::inject::Placed;
use super::state::State;
use super::structure::Document;
use super::tokens::Tokens;
use super::{RewriteError, SLACK, Summary, room};

/// Read behind the last byte: if it is found to be an element, the parser was in ordinary text.
const PROBE: &[u8] = b"<optgate-probe>";

/// See the module's head.
#[derive(Debug, Clone)]
pub(super) struct Pass {
    tokens: Tokens,
    document: Document,
    /// Input that the tokenizer wants to see again: part of a tag.
    held: Vec<u8>,
}

impl Pass {
    /// Before the first byte.
    pub(super) fn new(state: State) -> Self {
        Self { tokens: Tokens::new(), document: Document::new(state), held: Vec::new() }
    }

    /// Feeds a piece.
    ///
    /// # Errors
    /// As [`super::Rewriter::write`].
    pub(super) fn write(&mut self, piece: &[u8], out: &mut Vec<u8>) -> Result<(), RewriteError> {
        let state = &self.document.state;
        if !state.opted_out && state.link.placed == Placed::Adopted {
            // The page has its own link: nothing is left to do or to count.
            out.append(&mut self.held);
            out.extend_from_slice(piece);
            return Ok(());
        }
        if self.held.is_empty() {
            let done = self.read(piece, out);
            self.hold(&piece[done..]);
        } else {
            let mut held = std::mem::take(&mut self.held);
            let most = self.most();
            held.reserve_exact(room(held.len(), held.capacity(), piece.len(), most));
            held.extend_from_slice(piece);
            let done = self.read(&held, out);
            held.drain(..done);
            self.held = held;
        }
        let over = (self.kept() > self.most()).then_some(RewriteError::Memory);
        let failed = self.document.state.failed.or(over);
        let Some(error) = failed else { return Ok(()) };
        if !self.document.state.opted_out {
            out.append(&mut self.held);
        }
        Err(error)
    }

    /// Whether both would make the same of whatever comes next.
    pub(super) fn stands_as(&self, other: &Self) -> bool {
        self.held == other.held
            && self.tokens.stands_as(&other.tokens)
            && self.document.stands_as(&other.document)
    }

    /// What was counted so far.
    pub(super) fn counted(&self) -> Summary {
        let state = &self.document.state;
        let (siblings, strangers) = (state.urls.siblings(), state.strangers.all());
        Summary { vendors: state.counts.clone(), siblings, strangers, ..Summary::default() }
    }

    /// Bytes that are kept.
    pub(super) fn kept(&self) -> usize {
        self.held.len() + self.document.size() + self.tokens.depth()
    }

    /// Most bytes that are kept.
    fn most(&self) -> usize {
        self.document.state.memory.saturating_add(SLACK)
    }

    fn hold(&mut self, left: &[u8]) {
        if !left.is_empty() {
            self.held.reserve_exact(room(0, self.held.capacity(), left.len(), self.most()));
            self.held.extend_from_slice(left);
        }
    }

    fn read(&mut self, buf: &[u8], out: &mut Vec<u8>) -> usize {
        let done = self.tokens.read(buf, &mut self.document);
        self.document.put(buf, done, out);
        done
    }

    /// Ends the input, finds the link's and guard's last place, and gives back the state.
    ///
    /// # Errors
    /// As [`Pass::write`].
    pub(super) fn end(mut self, out: &mut Vec<u8>) -> Result<State, RewriteError> {
        let Self { tokens, document, held } = &mut self;
        tokens.end(held, document);
        document.end_text(0);
        document.put(held, held.len(), out);
        if let Some(error) = document.state.failed {
            return Err(error);
        }
        if document.state.wants_probe() {
            document.state.probing = true;
            held.extend_from_slice(PROBE);
            tokens.read(held, document);
            document.put_last(out);
        }
        Ok(self.document.state)
    }
}
