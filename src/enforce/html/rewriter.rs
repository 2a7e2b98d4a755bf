//! lol_html with our handlers: one dispatch function, few tag-name selectors, text handlers that wait
//! for the end of the text node.
//!
//! The markup is read as windows-1252 whatever the page's charset is: every byte is a character, so
//! untouched text comes out byte-identical, and all we insert is ASCII.

use std::borrow::Cow;
use std::cell::RefCell;
use std::rc::Rc;
use std::sync::LazyLock;

use lol_html::html_content::{Element, TextChunk};
use lol_html::{
    AsciiCompatibleEncoding, ElementContentHandlers, HandlerResult, HtmlRewriter, MemorySettings, OutputSink,
    Selector, Settings,
};

use super::inject::Placed;
use super::state::{Shared, State};
use super::{PIECE, RewriteError, structure, texts};

/// Written behind the last byte: if its handler runs, the parser was in ordinary text.
pub(super) const PROBE: &str = "<optgate-probe>";
pub(super) const PROBE_TAG: &str = "optgate-probe";

/// Memory a pass may take beyond the limit of one tag: a piece, and the stack of open elements.
pub(super) const SLACK: usize = 256 * 1024;

/// The same where the tag's own room is asked for at once: the places of its attributes (16,384 of them), and
/// the stack of open elements.
const BESIDE: usize = 1536 * 1024;

/// Most of a tag's room that is asked for at once. The tokenizer grows its buffer by a piece at a time, and copies
/// all of it each time; what is not written costs no memory.
const AT_ONCE: usize = 4 << 20;

/// Sink of lol_html: appends to a vector that [`Engine::write`] lends.
#[derive(Debug)]
struct Out(Rc<RefCell<Vec<u8>>>);

impl OutputSink for Out {
    fn handle_chunk(&mut self, chunk: &[u8]) {
        self.0.borrow_mut().extend_from_slice(chunk);
    }
}

/// One pass over one piece of markup.
#[derive(Debug)]
pub(super) struct Engine {
    rewriter: HtmlRewriter<'static, Out>,
    out: Rc<RefCell<Vec<u8>>>,
    state: Shared,
    /// Bytes that the tokenizer keeps, as far as whole pieces went into it and nothing came out.
    kept: usize,
}

impl Engine {
    /// Registers the handlers that this state needs.
    ///
    /// # Errors
    /// [`RewriteError::Handler`] if lol_html refuses our selectors, which a test rules out.
    pub(super) fn new(state: State) -> Result<Self, RewriteError> {
        static ALL: LazyLock<Option<Selector>> = LazyLock::new(|| "*".parse().ok());
        static SCRIPT: LazyLock<Option<Selector>> = LazyLock::new(|| "script".parse().ok());
        static NOSCRIPT: LazyLock<Option<Selector>> = LazyLock::new(|| "noscript".parse().ok());
        static STYLE: LazyLock<Option<Selector>> = LazyLock::new(|| "style".parse().ok());
        static ANCHOR: LazyLock<Option<Selector>> = LazyLock::new(|| "a".parse().ok());

        let opted_out = state.opted_out;
        let link = state.link.placed == Placed::Waiting;
        let settings = MemorySettings::new();
        // Markup inside a document comes in one piece, and nothing of it waits for a next one.
        let memory = if opted_out && !state.is_inner() {
            let room = state.memory.min(AT_ONCE) + 2 * PIECE;
            let most = state.memory.max(room).saturating_add(BESIDE);
            settings.with_preallocated_parsing_buffer_size(room).with_max_allowed_memory_usage(most)
        } else {
            settings.with_max_allowed_memory_usage(state.memory.saturating_add(SLACK))
        };
        let state = Rc::new(RefCell::new(state));
        let mut settings = Settings::new()
            .with_encoding(
                AsciiCompatibleEncoding::new(encoding_rs::WINDOWS_1252).ok_or(RewriteError::Handler)?,
            )
            .with_strict(false)
            .with_memory_settings(
                memory
                    // Nobody is harmed when the rest goes out raw, so nothing may be lost.
                    .with_graceful_bail_out_on_memory_limit_exceeded(!opted_out),
            )
            .with_graceful_bail_out_on_content_handler_error(!opted_out);
        let selector =
            |s: &'static Option<Selector>| s.as_ref().map(Cow::Borrowed).ok_or(RewriteError::Handler);

        let shared = Rc::clone(&state);
        let element = ElementContentHandlers::default()
            .element(move |el: &mut Element<'_, '_>| structure::element(&shared, el));
        // One selector for all: each tag name would be compared with every tag of the page.
        settings = settings.append_element_content_handler((selector(&ALL)?, element));
        if opted_out {
            settings = settings
                .append_element_content_handler((selector(&SCRIPT)?, text(&state, texts::script_text)))
                .append_element_content_handler((selector(&NOSCRIPT)?, text(&state, texts::noscript_text)))
                .append_element_content_handler((selector(&STYLE)?, text(&state, texts::style_text)));
        }
        if link {
            settings = settings
                .append_element_content_handler((selector(&ANCHOR)?, text(&state, texts::anchor_text)));
        }
        let out = Rc::new(RefCell::new(Vec::new()));
        let rewriter = HtmlRewriter::new(settings, Out(Rc::clone(&out)));
        Ok(Self { rewriter, out, state, kept: 0 })
    }

    /// Feeds a piece.
    ///
    /// # Errors
    /// As [`super::Rewriter::write`]; the engine must then be dropped (lol_html panics on reuse).
    pub(super) fn write(&mut self, piece: &[u8], out: &mut Vec<u8>) -> Result<(), RewriteError> {
        let before = {
            let mut state = self.state.borrow_mut();
            state.window.feed(piece);
            (state.turns, out.len())
        };
        std::mem::swap(&mut *self.out.borrow_mut(), out);
        let done = self.rewriter.write(piece);
        std::mem::swap(&mut *self.out.borrow_mut(), out);
        done.map_err(|e| reason(&self.state, &e))?;
        let state = self.state.borrow();
        self.kept = if before == (state.turns, out.len()) { self.kept + piece.len() } else { 0 };
        if state.opted_out && self.kept > state.memory { Err(RewriteError::Memory) } else { Ok(()) }
    }

    /// Ends the input, finds the link's and guard's last place, and gives back the state.
    ///
    /// # Errors
    /// As [`Engine::write`].
    pub(super) fn end(mut self, out: &mut Vec<u8>) -> Result<State, RewriteError> {
        let probe = self.state.borrow().wants_probe();
        self.state.borrow_mut().probing = true;
        let mut done = if probe { self.write(PROBE.as_bytes(), out) } else { Ok(()) };
        let Self { rewriter, out: lent, state, .. } = self;
        if done.is_ok() {
            std::mem::swap(&mut *lent.borrow_mut(), out);
            let ended = rewriter.end();
            std::mem::swap(&mut *lent.borrow_mut(), out);
            done = ended.map_err(|e| reason(&state, &e));
        } else {
            drop(rewriter);
        }
        // Not in text: the probe went through as part of a script, a comment, a tag, and is the last we wrote.
        if probe && out.ends_with(PROBE.as_bytes()) {
            out.truncate(out.len() - PROBE.len());
        }
        done?;
        Rc::try_unwrap(state).map(RefCell::into_inner).map_err(|_| RewriteError::Handler)
    }
}

fn reason(state: &Shared, error: &lol_html::errors::RewritingError) -> RewriteError {
    match error {
        lol_html::errors::RewritingError::MemoryLimitExceeded(_) => RewriteError::Memory,
        _ => state.borrow().failed.unwrap_or(RewriteError::Handler),
    }
}

fn text(
    state: &Shared,
    handler: fn(&mut State, &mut TextChunk<'_>) -> Result<(), RewriteError>,
) -> ElementContentHandlers<'static> {
    let shared = Rc::clone(state);
    ElementContentHandlers::default().text(move |chunk: &mut TextChunk<'_>| {
        let mut state = shared.borrow_mut();
        state.turns = state.turns.wrapping_add(1);
        match handler(&mut state, chunk) {
            Ok(()) => Ok(()),
            Err(error) => fail(&mut state, error),
        }
    })
}

/// Ends the pass, remembering why.
pub(super) fn fail(state: &mut State, error: RewriteError) -> HandlerResult {
    state.failed = Some(error);
    Err(Box::new(error))
}
