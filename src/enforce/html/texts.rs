//! Text that is held until its node ends: scripts, noscripts, style sheets, the words of an anchor.
//!
//! Pieces of a text node depend on how the input was cut; only whole nodes are judged.

use lol_html::html_content::{ContentType, Element, TextChunk, TextType};

use super::inline::Holds;
use super::json::{self, Verdict};
use super::listed::Asking;
use super::references::{Place, Resolved, decode, push_as_bytes};
use super::rewriter::PROBE;
use super::state::{Inside, State};
use super::structure::HTML;
use super::tokens::{Tag, Tokens, Watch};
use super::{RewriteError, inline, room};
use crate::registry::lists::RequestType;

/// What the text of a script element is; `None` when it is nothing to a browser, or stands elsewhere.
/// `component`: inside an AMP component that is configured this way.
pub(super) fn holds(el: &Element<'_, '_>, component: bool) -> Option<Holds> {
    let external = if el.namespace_uri() == HTML {
        el.has_attribute("src")
    } else {
        el.has_attribute("href") || el.has_attribute("xlink:href")
    };
    if external {
        return None;
    }
    let read = |name| el.get_attribute(name).map(|v| decode(&v, Place::Attribute).into_owned());
    let holds = inline::holds(read("type").as_deref(), read("language").as_deref());
    let access = read("id").is_some_and(|id| id == "amp-access");
    holds.or((component || access).then_some(Holds::Config))
}

/// Keeps a script's text until it is whole, then lets it through or empties it.
pub(super) fn script_text(state: &mut State, chunk: &mut TextChunk<'_>) -> Result<(), RewriteError> {
    let memory = state.memory;
    let Some((holds, text)) = state.script.as_mut() else { return Ok(()) };
    hold(text, chunk, memory)?;
    if !chunk.last_in_text_node() {
        return Ok(());
    }
    let (holds, script) = (*holds, std::mem::take(text));
    let resolved = as_read(&script, chunk);
    let whole = chunk.text_type() != TextType::Data;
    // Behind the page's last byte stands our own probe, if the script has no end.
    let text = resolved.text();
    let text = text.strip_suffix(PROBE).filter(|_| state.probing).unwrap_or(text);
    let changed = judged(state, holds, text, whole);
    chunk.replace(changed.as_deref().unwrap_or(&script), ContentType::Html);
    Ok(())
}

/// What stands in the place of a script element's text; `None`: it stays. `whole`: it is written as it is
/// read, and no other text of the element follows, as one may in SVG.
fn judged(state: &mut State, holds: Holds, text: &str, whole: bool) -> Option<String> {
    let (stub, origin) = (state.asset("e.js"), state.urls.origin());
    let neutralised = state.component == Some(true);
    let mut strips = |url: &str| state.strip_text(&urls_text(url)).is_some();
    let verdict = match holds {
        Holds::Script if whole => return state.without_trackers(text),
        Holds::Script => {
            let vendor = state.strip_inline(text)?;
            return Some(inline::emptied(state.vendor(vendor)));
        }
        Holds::ImportMap => json::import_map(text, &stub, &mut strips),
        Holds::Rules => json::rules(text, &origin, &mut strips),
        Holds::Config if neutralised => return Some(json::EMPTY.to_owned()),
        Holds::Config => json::config(text, &mut strips),
    };
    match verdict {
        Verdict::Keep => None,
        Verdict::Replace(text) => Some(text),
    }
}

/// A text of Unicode as the page's bytes are read.
fn urls_text(url: &str) -> String {
    let mut text = String::with_capacity(url.len());
    push_as_bytes(url, &mut text);
    text
}

/// A noscript is raw text to a browser with scripts and markup to one without: a second pass reads it.
pub(super) fn noscript_text(state: &mut State, chunk: &mut TextChunk<'_>) -> Result<(), RewriteError> {
    let memory = state.memory;
    hold(&mut state.noscript, chunk, memory)?;
    if chunk.last_in_text_node() {
        let mut html = std::mem::take(&mut state.noscript);
        html.truncate(whole_tags(&html));
        let shown = match state.inside(&html, false)? {
            Inside::Same => html,
            Inside::Changed(html) => html,
            Inside::Unread => String::new(),
        };
        chunk.replace(&shown, ContentType::Html);
    }
    Ok(())
}

/// Length without a tag that is still open at the end: without scripts the browser would complete it with
/// the `</noscript>` behind, so it must not go out unread.
fn whole_tags(html: &str) -> usize {
    struct Nothing;
    impl Watch for Nothing {
        fn start(&mut self, _: &Tag<'_>) {}
        fn end(&mut self, _: &Tag<'_>) {}
        fn text(&mut self, _: &[u8]) {}
    }
    let (bytes, _, _) = encoding_rs::WINDOWS_1252.encode(html);
    let mut tokens = Tokens::new();
    let read = tokens.read(&bytes, &mut Nothing);
    if !tokens.is_in_tag() {
        return html.len();
    }
    // Every byte of the page is one character.
    html.char_indices().nth(read).map_or(html.len(), |(at, _)| at)
}

/// Keeps a style sheet until it is whole, then lets it through without the addresses that have to go.
pub(super) fn style_text(state: &mut State, chunk: &mut TextChunk<'_>) -> Result<(), RewriteError> {
    let memory = state.memory;
    hold(&mut state.style, chunk, memory)?;
    if chunk.last_in_text_node() {
        let sheet = std::mem::take(&mut state.style);
        state.asking.set(Asking::As(RequestType::OfStyle));
        let changed = state.without_addresses(&as_read(&sheet, chunk)).map(|(_, sheet)| sheet);
        chunk.replace(changed.as_deref().unwrap_or(&sheet), ContentType::Html);
    }
    Ok(())
}

/// In SVG scripts and style sheets are ordinary text, whose references are resolved first.
fn as_read<'a>(text: &'a str, chunk: &TextChunk<'_>) -> Resolved<'a> {
    if chunk.text_type() == TextType::Data { Resolved::new(text, Place::Text) } else { Resolved::plain(text) }
}

fn hold(held: &mut String, chunk: &mut TextChunk<'_>, memory: usize) -> Result<(), RewriteError> {
    if held.len() + chunk.as_str().len() > memory {
        return Err(RewriteError::Memory);
    }
    held.reserve_exact(room(held.len(), held.capacity(), chunk.as_str().len(), memory));
    held.push_str(chunk.as_str());
    chunk.remove();
    Ok(())
}

/// Collects the words of an anchor.
pub(super) fn anchor_text(state: &mut State, chunk: &mut TextChunk<'_>) -> Result<(), RewriteError> {
    if chunk.text_type() == TextType::Data {
        state.link.anchor_text(chunk.as_str());
    }
    Ok(())
}
