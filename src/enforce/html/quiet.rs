//! Tags that need nothing, found out from their bytes: most of a page.
//!
//! Nothing here decides what becomes of a tag. A tag in doubt is not quiet, and `elements` and `structure`
//! judge it.

use super::context::{Space, name};
use super::elements::{Slot, slot};
use super::inject::begins_title;
use super::listed;
use super::srcset;
use super::state::State;
use super::tag::{Name, attributes, is_space};
use super::tokens::{Tag, Tokens, Watch};

macro_rules! list {
    ($($text:literal)*) => { &[$(Name::of($text)),*] };
}

/// Elements with a meaning for the document or for the text in them.
const MEANT: &[Name] = list!(
    b"script" b"noscript" b"style" b"template" b"article" b"section" b"aside" b"footer" b"body"
    b"frameset" b"base" b"optgate-probe"
);

/// Bytes behind an anchor that are looked at for its first word.
const PEEK: usize = 512;

/// Whether a start tag needs nothing from an opted-out visitor's pass. `raw` is the whole tag, `behind`
/// what follows it as far as it is here already.
///
/// Cost: no allocation; a look-up for each address that leads to another host.
pub(super) fn is_quiet(state: &State, raw: &[u8], behind: &[u8]) -> bool {
    if state.guard.is_some() || state.probing {
        return false;
    }
    let length = raw[1..].iter().position(|b| is_space(*b) || matches!(b, b'/' | b'>')).unwrap_or(0);
    let text = &raw[1..1 + length];
    let name = Name::of(text);
    let Ok(tag) = std::str::from_utf8(text) else { return false };
    if name.is_one_of(MEANT) || tag.bytes().any(|b| b.is_ascii_uppercase()) {
        return false;
    }
    if name == name::A && !is_plain_anchor(state, behind) || name == name::SVG && state.link.in_anchor() {
        return false;
    }
    attributes(raw).all(|(attribute, value)| is_clean(state, tag, attribute, value, raw))
}

/// Whether an attribute leads to nobody that the registry or a list knows.
fn is_clean(state: &State, tag: &str, attribute: &[u8], value: &[u8], raw: &[u8]) -> bool {
    let Ok(attribute) = std::str::from_utf8(attribute) else { return false };
    if attribute.bytes().any(|b| b.is_ascii_uppercase()) {
        return false;
    }
    // Every `meta` that could be a refresh is asked elsewhere.
    if tag == "meta" && attribute == "http-equiv" {
        return false;
    }
    let Some(slot) = slot(tag, attribute, false) else { return true };
    if !value.is_ascii() {
        return false;
    }
    let Ok(value) = std::str::from_utf8(value) else { return false };
    if state.lists.is_some() {
        let Some(asking) = listed::asking_raw(tag, attribute, raw) else { return false };
        state.asking.set(asking);
    }
    match slot {
        Slot::Stub(_) | Slot::Blank | Slot::Url => !state.knows(value),
        Slot::Link => !state.knows(value) && !state.knows_host(value),
        Slot::Set => !value.contains('&') && srcset::candidates(value).iter().all(|c| !state.knows(c.url)),
        Slot::List => !value.contains('&') && value.split_ascii_whitespace().all(|url| !state.knows(url)),
        Slot::Refresh | Slot::Document => false,
    }
}

/// Whether an anchor cannot be the page's own opt-out link: its first letter is another.
fn is_plain_anchor(state: &State, behind: &[u8]) -> bool {
    if state.link.in_anchor() {
        return false;
    }
    if !state.link.is_wanted() {
        return true;
    }
    let mut first = First { letter: None, stop: false };
    let near = &behind[..behind.len().min(PEEK)];
    // Nothing behind the first end tag would count.
    let near = memchr::memmem::find(near, b"</").map_or(near, |end| &near[..end]);
    Tokens::new().read(near, &mut first);
    first.letter.is_some_and(|letter| !begins_title(letter))
}

/// Finds the first letter of a text.
struct First {
    letter: Option<u8>,
    /// Something came before it that could take it out of the anchor's words.
    stop: bool,
}

impl Watch for First {
    fn start(&mut self, tag: &Tag<'_>) {
        self.stop |= tag.space != Space::Html || tag.name == name::A || tag.name.is_one_of(MEANT);
    }

    fn end(&mut self, _: &Tag<'_>) {
        self.stop |= self.letter.is_none();
    }

    fn text(&mut self, text: &[u8]) {
        if self.letter.is_none() && !self.stop {
            self.letter = text.iter().copied().find(|b| !b.is_ascii_whitespace() && *b != b'\x0B');
        }
    }
}
