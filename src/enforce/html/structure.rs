//! The one dispatch function for elements, and the places of guard and link in the document.

use std::rc::Rc;

use lol_html::HandlerResult;
use lol_html::html_content::{ContentType, Element, EndTag};

use super::elements::{is_meta, neutralise};
use super::inject::{self, Placed};
use super::rewriter::{PROBE_TAG, fail};
use super::slots::fetches;
use super::state::{Shared, State};
use super::{amp, quiet, texts};

/// Namespace of ordinary elements.
pub(super) const HTML: &str = "http://www.w3.org/1999/xhtml";

/// The one dispatch function.
pub(super) fn element(shared: &Shared, el: &mut Element<'_, '_>) -> HandlerResult {
    let mut state = shared.borrow_mut();
    state.turns = state.turns.wrapping_add(1);
    let place = el.source_location().bytes();
    if let Some(raw) = state.window.tag(&place)
        && quiet::is_quiet(&state, raw, state.window.behind(place.end))
    {
        return Ok(());
    }
    let tag = el.tag_name();
    if state.probing {
        if tag == PROBE_TAG {
            place_at_end(&mut state, el);
        }
        return Ok(());
    }
    let html = el.namespace_uri() == HTML;
    if html && tag == "html" && is_amp(el) {
        state.forbid_scripts();
    }
    if state.guard.is_some() {
        place_guard(&mut state, shared, el, &tag, html);
    }
    if html && tag == "meta" && is_meta(el, "content-security-policy") {
        let content = el.get_attribute("content").unwrap_or_default();
        if let Some(content) = state.policy_begins(&content) {
            // The name is a good one, which is all that could be refused.
            let _ = el.set_attribute("content", &content);
        }
    }
    if state.opted_out {
        let before = state.stripped();
        if let Err(error) = neutralise(&mut state, el, &tag) {
            return fail(&mut state, error);
        }
        if tag == "script" {
            state.script = texts::holds(el, state.component.is_some()).map(|holds| (holds, String::new()));
        } else if amp::is_configured(&tag) {
            let neutralised = state.stripped() > before;
            if at_end(shared, el, |state, _| state.component = None) {
                state.component = Some(neutralised);
            }
        }
    }
    if html {
        structure(&mut state, shared, el, &tag);
    } else if tag == "svg" && state.link.in_anchor() {
        drawing(&mut state, shared, el);
    }
    Ok(())
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
            let counted = at_end(shared, el, |state, _| state.templates = state.templates.saturating_sub(1));
            state.templates += u32::from(counted);
        }
        "article" | "section" | "aside" => {
            let sections = |state: &mut State| state.link.sections = state.link.sections.saturating_sub(1);
            let counted = at_end(shared, el, move |state, _| sections(state));
            state.link.sections += u32::from(counted);
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

fn is_amp(el: &Element<'_, '_>) -> bool {
    let names = el.attributes().iter().map(|attribute| attribute.name());
    names.into_iter().any(|name| amp::is_mark(&encoding_rs::WINDOWS_1252.encode(&name).0))
}

/// The guard goes before the first element that can fetch or run, never into a template; after
/// `meta charset`, which is none.
fn place_guard(state: &mut State, shared: &Shared, el: &mut Element<'_, '_>, tag: &str, html: bool) {
    if state.templates > 0 {
        return;
    }
    match tag {
        "html" | "base" | "param" => {}
        other if !fetches(other) => {}
        "head" if html => {
            at_end(shared, el, |state, end| {
                if let Some(guard) = state.guard.take() {
                    end.before(&guard.element(), ContentType::Html);
                }
            });
        }
        "meta" if !is_meta(el, "refresh") && !is_meta(el, "content-security-policy") => {}
        _ => {
            if let Some(guard) = state.guard.take() {
                el.before(&guard.element(), ContentType::Html);
            }
        }
    }
}

/// The probe was read as an element: the parser is in text, and what we write here will show.
fn place_at_end(state: &mut State, el: &mut Element<'_, '_>) {
    let mut content = String::new();
    if let Some(guard) = state.guard.take() {
        content.push_str(&guard.element());
    }
    if state.link.placed == Placed::Waiting && !state.link.frameset {
        content.push_str(&state.line());
        state.link.placed = Placed::Inserted;
    }
    el.replace(&content, ContentType::Html);
}
