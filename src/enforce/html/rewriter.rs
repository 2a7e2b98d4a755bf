//! lol_html with our handlers: one dispatch function, few tag-name selectors, text handlers that wait
//! for the end of the text node.
//!
//! The markup is read as windows-1252 whatever the page's charset is: every byte is a character, so
//! untouched text comes out byte-identical, and all we insert is ASCII.

use std::borrow::Cow;
use std::cell::RefCell;
use std::rc::Rc;
use std::sync::{Arc, LazyLock};

use lol_html::html_content::{ContentType, Element, EndTag, TextChunk, TextType};
use lol_html::{
    AsciiCompatibleEncoding, ElementContentHandlers, HandlerResult, HtmlRewriter, MemorySettings, OutputSink,
    Selector, Settings,
};

use super::elements::{self, is_meta, neutralise};
use super::inject::{self, Link, Placed};
use super::references::{Place, decode, encode};
use super::urls::Urls;
use super::{Plan, RewriteError, css, inline};
use crate::config::{LinkTitle, VendorAction};
use crate::enforce::guard;
use crate::registry::{Hit, Policy, VendorId};

/// Written behind the last byte: if its handler runs, the parser was in ordinary text.
pub(super) const PROBE: &str = "<optgate-probe>";
const PROBE_TAG: &str = "optgate-probe";

const HTML: &str = "http://www.w3.org/1999/xhtml";

/// How deep documents inside attributes are followed.
const MAX_DEPTH: u8 = 3;

/// Memory the tokenizer may take beyond the limit of one tag: a piece, and the stack of open elements.
const SLACK: usize = 256 * 1024;

/// Everything the handlers know.
#[derive(Debug)]
pub(super) struct State {
    pub opted_out: bool,
    pub policy: Arc<Policy>,
    pub urls: Urls,
    pub link: Link,
    pub counts: Vec<(VendorId, VendorAction, u32)>,
    /// The guard is still to be placed.
    pub guard: bool,
    /// The end of the input has come; only the probe may act.
    pub probing: bool,
    /// Why a handler stopped.
    pub failed: Option<RewriteError>,
    can_restrict: bool,
    title: LinkTitle,
    prefix: Arc<str>,
    memory: usize,
    depth: u8,
    templates: u32,
    /// Text of the inline script under way, when it runs.
    script: Option<String>,
    noscript: String,
    style: String,
}

type Shared = Rc<RefCell<State>>;

impl State {
    /// The state before the first byte; `document` is whether the link is wanted, `page` whether the guard is.
    pub(super) fn new(plan: Plan, document: bool, page: bool) -> Self {
        Self {
            opted_out: plan.opted_out,
            policy: plan.policy,
            urls: Urls::new(plan.page),
            link: Link::new(document),
            counts: Vec::new(),
            guard: plan.opted_out && plan.guard && page,
            probing: false,
            failed: None,
            can_restrict: plan.guard && page && guard::can_restrict(),
            title: plan.link,
            prefix: plan.prefix,
            memory: plan.memory,
            depth: 0,
            templates: 0,
            script: None,
            noscript: String::new(),
            style: String::new(),
        }
    }

    /// For markup inside this document where no script of ours runs.
    fn inner(&self) -> Self {
        Self {
            opted_out: true,
            policy: Arc::clone(&self.policy),
            urls: self.urls.clone(),
            link: Link::new(false),
            counts: Vec::new(),
            guard: false,
            probing: false,
            failed: None,
            can_restrict: false,
            title: self.title,
            prefix: Arc::clone(&self.prefix),
            memory: self.memory,
            depth: self.depth + 1,
            templates: 0,
            script: None,
            noscript: String::new(),
            style: String::new(),
        }
    }

    /// Counts a hit; `Some` when it has to go.
    pub(super) fn strip(&mut self, hit: Hit) -> Option<VendorId> {
        let action = match hit.action {
            VendorAction::Restrict if !self.can_restrict => VendorAction::Strip,
            action => action,
        };
        self.count(hit.vendor, action, 1);
        (action == VendorAction::Strip).then_some(hit.vendor)
    }

    fn count(&mut self, vendor: VendorId, action: VendorAction, by: u32) {
        match self.counts.iter_mut().find(|(v, a, _)| *v == vendor && *a == action) {
            Some((_, _, count)) => *count += by,
            None => self.counts.push((vendor, action, by)),
        }
    }

    /// The registry id of a vendor.
    pub(super) fn vendor(&self, id: VendorId) -> &str {
        &self.policy.registry().vendor(id).id
    }

    /// The address of a stand-in; absolute when the page's base is elsewhere.
    pub(super) fn asset(&self, name: &str) -> String {
        self.own(&format!("{}/assets/{name}", self.prefix))
    }

    fn own(&self, path: &str) -> String {
        if self.urls.base_is_foreign() { format!("{}{path}", self.urls.origin()) } else { path.to_owned() }
    }

    fn line(&self) -> String {
        inject::line(self.title, &self.own(&self.prefix), self.opted_out)
    }

    /// Rewrites markup that stands inside the document (a noscript's text). `None`: nothing changed.
    fn inside(&mut self, html: &str) -> Result<Option<String>, RewriteError> {
        if self.depth >= MAX_DEPTH || !html.contains('<') {
            return Ok(None);
        }
        let (bytes, _, _) = encoding_rs::WINDOWS_1252.encode(html);
        let mut out = Vec::with_capacity(bytes.len() + 64);
        let mut engine = Engine::new(self.inner())?;
        engine.write(&bytes, &mut out)?;
        let inner = engine.end(&mut out)?;
        for (vendor, action, count) in inner.counts {
            self.count(vendor, action, count);
        }
        let changed = out != *bytes;
        Ok(changed.then(|| encoding_rs::WINDOWS_1252.decode_without_bom_handling(&out).0.into_owned()))
    }

    /// Rewrites a document in an attribute (`srcdoc`). `None`: nothing changed.
    pub(super) fn embedded(&mut self, raw: &str) -> Option<String> {
        let html = decode(raw, Place::Attribute);
        match self.inside(&html) {
            Ok(changed) => changed.map(|html| encode(&html).into_owned()),
            Err(error) => {
                self.failed = Some(error);
                None
            }
        }
    }
}

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
        static OPTED_OUT: LazyLock<Option<Selector>> = LazyLock::new(|| elements::OPTED_OUT.parse().ok());
        static LINK_ONLY: LazyLock<Option<Selector>> = LazyLock::new(|| elements::LINK_ONLY.parse().ok());
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
        let element =
            ElementContentHandlers::default().element(move |el: &mut Element<'_, '_>| element(&shared, el));
        let all = if opted_out { &OPTED_OUT } else { &LINK_ONLY };
        settings = settings.append_element_content_handler((selector(all)?, element));
        if opted_out {
            settings = settings
                .append_element_content_handler((selector(&SCRIPT)?, text(&state, script_text)))
                .append_element_content_handler((selector(&NOSCRIPT)?, text(&state, noscript_text)))
                .append_element_content_handler((selector(&STYLE)?, text(&state, style_text)));
        }
        if link {
            settings =
                settings.append_element_content_handler((selector(&ANCHOR)?, text(&state, anchor_text)));
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
        if probe {
            self.write(PROBE.as_bytes(), out)?;
        }
        let Self { rewriter, out: lent, state } = self;
        std::mem::swap(&mut *lent.borrow_mut(), out);
        let done = rewriter.end();
        std::mem::swap(&mut *lent.borrow_mut(), out);
        done.map_err(|e| reason(&state, &e))?;
        // Not in text: the probe went through as part of a script, a comment, a tag, and is the last we wrote.
        if probe && out.ends_with(PROBE.as_bytes()) {
            out.truncate(out.len() - PROBE.len());
        }
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

fn fail(state: &mut State, error: RewriteError) -> HandlerResult {
    state.failed = Some(error);
    Err(Box::new(error))
}

impl State {
    const fn wants_probe(&self) -> bool {
        self.templates == 0
            && (self.guard || (matches!(self.link.placed, Placed::Waiting) && !self.link.frameset))
    }
}

/// The one dispatch function.
fn element(shared: &Shared, el: &mut Element<'_, '_>) -> HandlerResult {
    let tag = el.tag_name();
    let mut state = shared.borrow_mut();
    if state.probing {
        if tag == PROBE_TAG {
            place_at_end(&mut state, el);
        }
        return Ok(());
    }
    let html = el.namespace_uri() == HTML;
    if state.guard {
        place_guard(&mut state, shared, el, &tag, html);
    }
    if state.opted_out {
        neutralise(&mut state, el, &tag);
        if tag == "script" {
            state.script = runs_inline(el).then(String::new);
        }
    }
    if html {
        structure(&mut state, shared, el, &tag);
    } else if tag == "svg" && state.link.in_anchor() {
        drawing(&mut state, shared, el);
    }
    match state.failed {
        Some(error) => fail(&mut state, error),
        None => Ok(()),
    }
}

/// Link, base and template: what both kinds of visitor need.
fn structure(state: &mut State, shared: &Shared, el: &mut Element<'_, '_>, tag: &str) {
    match tag {
        "base" if state.templates == 0 => {
            if let Some(href) = el.get_attribute("href") {
                state.urls.set_base(&href);
            }
        }
        "template" => {
            if at_end(shared, el, |state, _| state.templates = state.templates.saturating_sub(1)) {
                state.templates += 1;
            }
        }
        "article" | "section" | "aside" => {
            if at_end(shared, el, |state, _| state.link.sections = state.link.sections.saturating_sub(1)) {
                state.link.sections += 1;
            }
        }
        "footer" if !state.link.footer && state.link.sections == 0 && state.templates == 0 => {
            state.link.footer = at_end(shared, el, place);
        }
        "body" if !state.link.body && state.templates == 0 => {
            state.link.body = at_end(shared, el, place);
        }
        "frameset" if !state.link.body => state.link.frameset = true,
        "a" if state.link.placed != Placed::Unwanted && state.templates == 0 => anchor(state, shared, el),
        "svg" if state.link.in_anchor() => drawing(state, shared, el),
        _ => {}
    }
}

/// Registers what to do at the element's end (its end tag, or the one that closes it). False for
/// elements without content.
fn at_end(
    shared: &Shared,
    el: &mut Element<'_, '_>,
    act: impl FnOnce(&mut State, &mut EndTag<'_>) + 'static,
) -> bool {
    let shared = Rc::clone(shared);
    let Some(handlers) = el.end_tag_handlers() else { return false };
    handlers.push(Box::new(move |end: &mut EndTag<'_>| {
        let mut state = shared.borrow_mut();
        if !state.probing {
            act(&mut state, end);
        }
        Ok(())
    }));
    true
}

/// The link's place has come: before this end tag.
fn place(state: &mut State, end: &mut EndTag<'_>) {
    if state.link.placed == Placed::Waiting && !state.link.frameset {
        end.before(&state.line(), ContentType::Html);
        state.link.placed = Placed::Inserted;
    }
}

fn anchor(state: &mut State, shared: &Shared, el: &mut Element<'_, '_>) {
    // A new anchor ends an open one (HTML 13.2.6.4.7).
    if state.link.anchor_ends(None) && state.opted_out {
        el.before(inject::STATUS, ContentType::Html);
    }
    if !el.has_attribute("href") {
        return;
    }
    let id = state.link.anchor_begins();
    at_end(shared, el, move |state, end| {
        if state.link.anchor_ends(Some(id)) && state.opted_out {
            if end.name() == "a" {
                end.after(inject::STATUS, ContentType::Html);
            } else {
                end.before(inject::STATUS, ContentType::Html);
            }
        }
    });
}

fn drawing(state: &mut State, shared: &Shared, el: &mut Element<'_, '_>) {
    if at_end(shared, el, |state, _| state.link.drawings = state.link.drawings.saturating_sub(1)) {
        state.link.drawings += 1;
    }
}

/// The guard goes before the first element that can fetch or run, never into a template; after
/// `meta charset`, which is none.
fn place_guard(state: &mut State, shared: &Shared, el: &mut Element<'_, '_>, tag: &str, html: bool) {
    if state.templates > 0 {
        return;
    }
    match tag {
        // AMP pages are checked as a whole: a script of ours would make them invalid.
        "html" if el.has_attribute("amp") || el.has_attribute("\u{e2}\u{161}\u{a1}") => state.guard = false,
        "html" | "base" | "param" => {}
        "head" if html => {
            at_end(shared, el, |state, end| {
                if std::mem::take(&mut state.guard) {
                    end.before(guard::element(), ContentType::Html);
                }
            });
        }
        "meta" if !is_meta(el, "refresh") && !is_meta(el, "content-security-policy") => {}
        _ => {
            el.before(guard::element(), ContentType::Html);
            state.guard = false;
        }
    }
}

/// The probe was read as an element: the parser is in text, and what we write here will show.
fn place_at_end(state: &mut State, el: &mut Element<'_, '_>) {
    let mut content = String::new();
    if std::mem::take(&mut state.guard) {
        content.push_str(guard::element());
    }
    if state.link.placed == Placed::Waiting && !state.link.frameset {
        content.push_str(&state.line());
        state.link.placed = Placed::Inserted;
    }
    el.replace(&content, ContentType::Html);
}

fn runs_inline(el: &Element<'_, '_>) -> bool {
    let external = if el.namespace_uri() == HTML {
        el.has_attribute("src")
    } else {
        el.has_attribute("href") || el.has_attribute("xlink:href")
    };
    if external {
        return false;
    }
    let read = |name| el.get_attribute(name).map(|v| decode(&v, Place::Attribute).into_owned());
    inline::executable(read("type").as_deref(), read("language").as_deref())
}

/// Keeps a running script's text until it is whole, then lets it through or empties it.
fn script_text(state: &mut State, chunk: &mut TextChunk<'_>) -> Result<(), RewriteError> {
    let Some(script) = state.script.as_mut() else { return Ok(()) };
    hold(script, chunk, state.memory)?;
    if !chunk.last_in_text_node() {
        return Ok(());
    }
    let script = std::mem::take(script);
    let hit = if chunk.text_type() == TextType::ScriptData {
        state.policy.match_inline(script.as_bytes())
    } else {
        // SVG: references in the text are decoded before it runs.
        state.policy.match_inline(decode(&script, Place::Text).as_bytes())
    };
    match hit.and_then(|hit| state.strip(hit)) {
        Some(vendor) => chunk.replace(&inline::emptied(state.vendor(vendor)), ContentType::Html),
        None => chunk.replace(&script, ContentType::Html),
    }
    Ok(())
}

/// A noscript is raw text to a browser with scripts and markup to one without: a second pass reads it.
fn noscript_text(state: &mut State, chunk: &mut TextChunk<'_>) -> Result<(), RewriteError> {
    let memory = state.memory;
    hold(&mut state.noscript, chunk, memory)?;
    if chunk.last_in_text_node() {
        let mut html = std::mem::take(&mut state.noscript);
        html.truncate(whole_tags(&html));
        let changed = state.inside(&html)?;
        chunk.replace(changed.as_deref().unwrap_or(&html), ContentType::Html);
    }
    Ok(())
}

/// Length without a tag that is still open at the end: without scripts the browser would complete it with
/// the `</noscript>` behind, so it must not go out unread.
fn whole_tags(html: &str) -> usize {
    let Some(open) = html.rfind('<') else { return html.len() };
    let tail = &html[open + 1..];
    if tail.starts_with(|c: char| c.is_ascii_alphabetic()) && !tail.contains('>') { open } else { html.len() }
}

/// Keeps a style sheet until it is whole, then lets it through without the addresses that have to go.
fn style_text(state: &mut State, chunk: &mut TextChunk<'_>) -> Result<(), RewriteError> {
    let memory = state.memory;
    hold(&mut state.style, chunk, memory)?;
    if chunk.last_in_text_node() {
        let sheet = std::mem::take(&mut state.style);
        let changed = css::filter(&sheet, |url| state.strip_url(url).is_some());
        chunk.replace(changed.as_deref().unwrap_or(&sheet), ContentType::Html);
    }
    Ok(())
}

fn hold(held: &mut String, chunk: &mut TextChunk<'_>, memory: usize) -> Result<(), RewriteError> {
    if held.len() + chunk.as_str().len() > memory {
        return Err(RewriteError::Memory);
    }
    held.push_str(chunk.as_str());
    chunk.remove();
    Ok(())
}

fn anchor_text(state: &mut State, chunk: &mut TextChunk<'_>) -> Result<(), RewriteError> {
    if chunk.text_type() == TextType::Data {
        state.link.anchor_text(chunk.as_str());
    }
    Ok(())
}
