//! A start tag of the page as it is judged, and written anew when it changes.

use std::borrow::Cow;

use super::characters::{Charset, as_bytes, as_text};
use super::tag::attributes;
use super::tokens::Tag;

/// In lower case, borrowed where it is already.
fn lower(text: Cow<'_, str>) -> Cow<'_, str> {
    if text.bytes().any(|b| b.is_ascii_uppercase()) { Cow::Owned(text.to_ascii_lowercase()) } else { text }
}

/// An attribute; its texts are [`super::characters`]'.
#[derive(Debug)]
pub(super) struct Item<'a> {
    /// Name in lower case.
    pub name: Cow<'a, str>,
    /// Value without quotes, references as written.
    pub value: Cow<'a, str>,
    /// Name as written.
    written: &'a [u8],
    /// Name and value as they stand in the tag; `None` once the value is another.
    raw: Option<&'a [u8]>,
}

/// A start tag and its attributes.
///
/// Only the first attribute of a name counts (HTML 13.2.5.33), and is what is read and set here.
#[derive(Debug)]
pub(super) struct Element<'a> {
    /// Name in lower case.
    pub name: Cow<'a, str>,
    tag: Tag<'a>,
    items: Vec<Item<'a>>,
    changed: bool,
}

impl<'a> Element<'a> {
    /// Reads a tag.
    ///
    /// Cost: an allocation, and one for each value that is not ASCII.
    pub(super) fn new(tag: &Tag<'a>, charset: Charset) -> Self {
        let raw = tag.raw;
        let items = attributes(raw).map(|a| Item {
            name: lower(as_text(a.name)),
            value: charset.text(a.value),
            written: a.name,
            raw: raw.get(a.place),
        });
        Self { name: lower(as_text(tag.text())), tag: *tag, items: items.collect(), changed: false }
    }

    /// All attributes, in order.
    pub(super) fn items(&self) -> &[Item<'a>] {
        &self.items
    }

    /// The value of an attribute, by its (lower-case) name.
    pub(super) fn get(&self, name: &str) -> Option<&str> {
        self.items.iter().find(|item| item.name == name).map(|item| &*item.value)
    }

    /// Gives an attribute another value, whose references stay as they are; adds it where it is missing.
    pub(super) fn set(&mut self, name: &'static str, value: String) {
        match self.items.iter().position(|item| item.name == name) {
            Some(at) => self.set_at(at, value),
            None => {
                let written = name.as_bytes();
                self.items.push(Item { name: name.into(), value: value.into(), written, raw: None });
                self.changed = true;
            }
        }
    }

    /// The same for the attribute at a place of [`Element::items`].
    pub(super) fn set_at(&mut self, at: usize, value: String) {
        if let Some(item) = self.items.get_mut(at) {
            (item.value, item.raw) = (value.into(), None);
            self.changed = true;
        }
    }

    /// Writes what looks like markup in a value as a reference: it says the same, and nobody takes it for markup.
    pub(super) fn show_hidden(&mut self) {
        for item in self.items.iter_mut().filter(|item| item.value.contains('<')) {
            (item.value, item.raw) = (item.value.replace('<', "&lt;").into(), None);
            self.changed = true;
        }
    }

    /// Takes all attributes away that this is said of.
    pub(super) fn remove(&mut self, goes: impl Fn(&str) -> bool) {
        let before = self.items.len();
        self.items.retain(|item| !goes(&item.name));
        self.changed |= self.items.len() < before;
    }

    /// The tag as it is now; `None` when nothing changed.
    pub(super) fn written(&self) -> Option<Vec<u8>> {
        if !self.changed {
            return None;
        }
        let mut out = Vec::with_capacity(self.tag.raw.len() + 64);
        out.push(b'<');
        out.extend_from_slice(self.tag.text());
        for item in &self.items {
            out.push(b' ');
            match item.raw {
                Some(raw) => out.extend_from_slice(raw),
                None => {
                    out.extend_from_slice(item.written);
                    out.extend_from_slice(b"=\"");
                    out.extend_from_slice(&as_bytes(&item.value.replace('"', "&quot;")));
                    out.push(b'"');
                }
            }
        }
        // A slash right behind a value without quotes would be part of it.
        out.extend_from_slice(match (self.tag.self_closing, self.items.is_empty()) {
            (false, _) => b">",
            (true, true) => b"/>",
            (true, false) => b" />",
        });
        Some(out)
    }
}

#[cfg(test)]
mod tests {
    use super::super::context::{Space, name};
    use super::*;

    fn changed(raw: &str, self_closing: bool, change: impl FnOnce(&mut Element<'_>)) -> Option<String> {
        let tag = Tag {
            name: name::A,
            raw: raw.as_bytes(),
            at: 0,
            self_closing,
            space: Space::Html,
            before: &[],
            stray: false,
            hides: false,
        };
        let mut element = Element::new(&tag, Charset::default());
        change(&mut element);
        element.written().map(|bytes| String::from_utf8(bytes).unwrap())
    }

    /// What is not changed stays as it was written, and a value can end neither itself nor the tag.
    #[test]
    fn a_changed_tag_keeps_what_was_not_changed() {
        let raw = "<A  Href = '/x&amp;y' b=c/>";
        assert_eq!(changed(raw, false, |_| ()), None);
        assert_eq!(changed(raw, false, |el| el.remove(|name| name == "z")), None);
        let set = |el: &mut Element<'_>| el.set("href", "\"&lt;>".into());
        assert_eq!(changed(raw, false, set).as_deref(), Some("<A Href=\"&quot;&lt;>\" b=c/>"));
        let add = |el: &mut Element<'_>| el.set("data-x", "1".into());
        assert_eq!(changed(raw, false, add).as_deref(), Some("<A Href = '/x&amp;y' b=c/ data-x=\"1\">"));
        let none = |el: &mut Element<'_>| el.remove(|_| true);
        assert_eq!(changed("<br a a=b />", true, none).as_deref(), Some("<br/>"));
        let one = |el: &mut Element<'_>| el.remove(|name| name == "a");
        assert_eq!(changed("<br A c=d a=b />", true, one).as_deref(), Some("<br c=d />"));
    }

    /// HTML 13.2.5.33: later attributes of a name do not count.
    #[test]
    fn the_first_attribute_of_a_name_is_read_and_set() {
        let change = |el: &mut Element<'_>| {
            assert_eq!(el.get("src"), Some("1"));
            el.set("src", "3".into());
        };
        assert_eq!(changed("<a SRC=1 src=2>", false, change).as_deref(), Some("<a SRC=\"3\" src=2>"));
    }
}
