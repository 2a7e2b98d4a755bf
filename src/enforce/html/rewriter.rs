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
use super::{RewriteError, structure, texts};

/// Written behind the last byte: if its handler runs, the parser was in ordinary text.
pub(super) const PROBE: &str = "<optgate-probe>";
pub(super) const PROBE_TAG: &str = "optgate-probe";

/// Memory the tokenizer may take beyond the limit of one tag: a piece, and the stack of open elements.
pub(super) const SLACK: usize = 256 * 1024;

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
        let limit = state.memory.saturating_add(SLACK);
        let state = Rc::new(RefCell::new(state));
        let mut settings = Settings::new()
            .with_encoding(
                AsciiCompatibleEncoding::new(encoding_rs::WINDOWS_1252).ok_or(RewriteError::Handler)?,
            )
            .with_strict(false)
            .with_memory_settings(
                MemorySettings::new()
                    .with_max_allowed_memory_usage(limit)
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
        Ok(Self { rewriter, out, state })
    }

    /// Feeds a piece.
    ///
    /// # Errors
    /// As [`super::Rewriter::write`]; the engine must then be dropped (lol_html panics on reuse).
    pub(super) fn write(&mut self, piece: &[u8], out: &mut Vec<u8>) -> Result<(), RewriteError> {
        self.state.borrow_mut().window.feed(piece);
        std::mem::swap(&mut *self.out.borrow_mut(), out);
        let done = self.rewriter.write(piece);
        std::mem::swap(&mut *self.out.borrow_mut(), out);
        done.map_err(|e| reason(&self.state, &e))
    }

    /// Ends the input, finds the link's and guard's last place, and gives back the state.
    ///
    /// # Errors
    /// As [`Engine::write`].
    pub(super) fn end(mut self, out: &mut Vec<u8>) -> Result<State, RewriteError> {
        let probe = self.state.borrow().wants_probe();
        self.state.borrow_mut().probing = true;
        let mut done = if probe { self.write(PROBE.as_bytes(), out) } else { Ok(()) };
        let Self { rewriter, out: lent, state } = self;
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
