//! Text that is held until its node ends: scripts, noscripts, style sheets, the words of an anchor.
//!
//! Pieces of a text node depend on how the input was cut; only whole nodes are judged.

use lol_html::html_content::{ContentType, Element, TextChunk, TextType};

use super::references::{Place, decode};
use super::state::State;
use super::structure::HTML;
use super::{RewriteError, css, inline, room};

/// Whether a script element holds a script that runs.
pub(super) fn runs_inline(el: &Element<'_, '_>) -> bool {
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
pub(super) fn script_text(state: &mut State, chunk: &mut TextChunk<'_>) -> Result<(), RewriteError> {
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
pub(super) fn noscript_text(state: &mut State, chunk: &mut TextChunk<'_>) -> Result<(), RewriteError> {
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
pub(super) fn style_text(state: &mut State, chunk: &mut TextChunk<'_>) -> Result<(), RewriteError> {
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
