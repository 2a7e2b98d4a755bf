//! Tags that need nothing, found out from their bytes: most of a page.
//!
//! Nothing here decides what becomes of a tag. A tag in doubt is not quiet, and `elements` and `structure`
//! judge it.

use super::listed;
use super::slots::{Meta, Slot, is_style, may_count, slot};
use super::state::State;
use super::tag::{Attribute, attributes};
use super::tokens::Tag;
use super::{css, srcset, urls};
use crate::registry::lists::RequestType;

/// Longest name that is looked at; a longer one takes the long way.
const LONGEST: usize = 40;

/// Most attributes that are looked at; of more the long way takes the first of each name, and bounds them.
const MOST: usize = 64;

/// Whether what a start tag of an opted-out visitor's page refers to can stay as it is.
///
/// Cost: no allocation; a look-up for each address that leads to another host.
pub(super) fn is_quiet(state: &State, tag: &Tag<'_>) -> bool {
    #[cfg(test)]
    if state.thorough {
        return false;
    }
    let text = tag.text();
    if tag.raw.len() == text.len() + 2 && !text.starts_with(b"amp-") {
        return true;
    }
    let mut lower = [0; LONGEST];
    let Some(lower) = lower.get_mut(..text.len()) else { return false };
    lower.copy_from_slice(text);
    lower.make_ascii_lowercase();
    let Ok(name) = std::str::from_utf8(lower) else { return false };
    if name.starts_with("amp-") {
        return false;
    }
    let link =
        if state.asks_beyond_registry() { listed::of_tag(name, tag.raw) } else { Some(RequestType::Guess) };
    let Some(link) = link else { return false };
    let mut left = MOST;
    attributes(tag.raw).all(|attribute| {
        left = left.saturating_sub(1);
        left > 0 && is_clean(state, name, &attribute, link)
    })
}

/// Whether an attribute leads to nobody that the registry or a list knows.
fn is_clean(state: &State, tag: &str, attribute: &Attribute<'_>, link: RequestType) -> bool {
    let value = attribute.value;
    let policy = tag == "meta" && matches!(attribute.name.len(), 4 | 10);
    if !policy && !may_count(attribute.name) {
        return true;
    }
    let Ok(attribute) = std::str::from_utf8(attribute.name) else { return false };
    if attribute.bytes().any(|b| b.is_ascii_uppercase()) {
        return false;
    }
    // What the `content` of a `meta` means is asked elsewhere.
    if tag == "meta" && (attribute == "http-equiv" || attribute == "name" && may_be_referrer(value)) {
        return false;
    }
    let Some(slot) = slot(tag, attribute, Meta::Other) else { return true };
    let text = std::str::from_utf8(value);
    if slot == Slot::Target {
        // The commonest of all: most bytes of it need not be looked at.
        return text.is_ok_and(|value| !urls::may_be_content(value));
    }
    let Ok(value) = text else { return false };
    if !value.is_ascii() {
        return false;
    }
    if state.asks_beyond_registry() {
        state.asking.set(listed::asking(tag, attribute, link));
    }
    let bare = !value.contains('&');
    match slot {
        Slot::Image | Slot::Url => !state.knows(value),
        Slot::Script | Slot::Frame | Slot::Plugin => !urls::may_be_content(value) && !state.knows(value),
        Slot::Link => !urls::may_be_content(value) && !state.knows(value) && !state.knows_host(value),
        Slot::Set => bare && srcset::candidates(value).iter().all(|c| !state.knows(c.url)),
        Slot::Handler => bare && !state.knows_inline(value),
        Slot::Picture if !is_style(value) => !state.knows(value),
        Slot::Style | Slot::Picture => {
            bare && (!css::may_lead(value) || css::addresses(value, |url| state.knows(url)).is_empty())
        }
        Slot::List | Slot::Hosts | Slot::Refresh | Slot::Referrer | Slot::Document => false,
        Slot::Target | Slot::Steps | Slot::Signal => false,
    }
}

/// `name=referrer`, which says how much of the page's address others see.
fn may_be_referrer(value: &[u8]) -> bool {
    value.contains(&b'&') || value.trim_ascii().eq_ignore_ascii_case(b"referrer")
}

#[cfg(test)]
mod tests {
    use super::super::context::Space;
    use super::super::pass::Pass;
    use super::super::tag::Name;
    use super::super::testing;
    use super::*;
    use proptest::prelude::*;

    /// The page, and what was counted; with the look at the bytes and without.
    fn both(page: &[u8]) -> [(String, usize); 2] {
        [true, false].map(|looks| {
            let mut state = State::new(testing::plan(true), true, true);
            state.thorough = !looks;
            let (mut out, mut pass) = (Vec::new(), Pass::new(state));
            pass.write(page, &mut out).unwrap();
            let counts = pass.end(&mut out).unwrap().counts.len();
            (String::from_utf8_lossy(&out).into_owned(), counts)
        })
    }

    /// No fixture is told apart by the look at its bytes: what it passes over needs nothing.
    #[test]
    fn the_short_look_and_the_full_one_agree_on_every_page_there_is() {
        let pages = testing::pages();
        assert!(pages.len() > 90, "only {} pages", pages.len());
        for path in pages {
            let [looked, read] = both(&std::fs::read(&path).unwrap());
            assert!(looked == read, "{}", path.display());
        }
    }

    /// Threat: a tag of nothing but one attribute, each of which is put to the lists.
    #[test]
    fn a_tag_of_many_attributes_takes_the_long_way() {
        let quiet = |tag: &str, count: usize| {
            let raw = format!("<{tag}{}>", " href=/".repeat(count));
            let name = Name::of(tag.as_bytes());
            let tag = Tag {
                name,
                raw: raw.as_bytes(),
                at: 0,
                self_closing: false,
                space: Space::Html,
                before: &[],
                stray: false,
                hides: false,
            };
            is_quiet(&State::new(testing::plan(true), true, true), &tag)
        };
        assert_eq!(["link", "a"].map(|tag| (quiet(tag, MOST - 1), quiet(tag, MOST))), [(true, false); 2]);
    }

    const TAGS: &[&str] = &[
        "a", "area", "img", "image", "iframe", "object", "embed", "link", "source", "video", "meta", "use",
        "set", "animate", "div", "svg", "mi", "form", "button", "input", "td", "html", "amp-ad", "amp-img",
        "pattern", "script", "IMG",
    ];
    const NAMES: &[&str] = &[
        "src",
        "href",
        "xlink:href",
        "srcset",
        "srcdoc",
        "style",
        "fill",
        "onload",
        "onclick",
        "data",
        "to",
        "data-src",
        "data-bg",
        "data-srcset",
        "ping",
        "attributionsrc",
        "content",
        "http-equiv",
        "name",
        "rel",
        "action",
        "formaction",
        "background",
        "amp",
        "type",
        "SRC",
        "poster",
        "value",
    ];
    const VALUES: &[&str] = &[
        "",
        "/own.png",
        "jobs.html",
        "//dis.criteo.com/a",
        "https&#58;//dis.criteo.com/a",
        "https://www.facebook.com/tr?x",
        "https://www.facebook.com/x",
        "\\\\dis.criteo.com",
        "javascript:fbq('init',1)",
        "java&Tab;script:import('//dis.criteo.com/')",
        "javascript:own()",
        "fbq('init',1)",
        "own()",
        "data:text/html,<img src=//dis.criteo.com/a>",
        "data:text/css,@import '//dis.criteo.com/a'",
        "data:image/gif;base64,AA==",
        "background:url(//dis.criteo.com/a)",
        "background:u\\72l(/own)",
        "color:red",
        "/a 1x, //dis.criteo.com/b 2x",
        "0;url=//dis.criteo.com/",
        "refresh",
        "referrer",
        "unsafe-url",
        "stylesheet",
        "preconnect",
        "doubleclick",
        "<img src=//dis.criteo.com/a>",
        "&lt;img src=//dis.criteo.com/a>",
        "caf\u{e9}",
        " \u{1}//dis.criteo.com/a",
    ];

    proptest! {
        #![proptest_config(ProptestConfig { cases: 4_000, failure_persistence: None, ..ProptestConfig::default() })]

        /// Whatever an element carries.
        #[test]
        fn the_short_look_and_the_full_one_agree_on_any_tag(
            tag in proptest::sample::select(TAGS),
            attributes in proptest::collection::vec(
                (proptest::sample::select(NAMES), proptest::sample::select(VALUES)), 0..5),
        ) {
            let attributes: String =
                attributes.iter().map(|(name, value)| format!(" {name}=\"{value}\"")).collect();
            let page = format!("<{tag}{attributes}>x</{tag}>y");
            let [looked, read] = both(page.as_bytes());
            prop_assert_eq!(looked, read, "{}", page);
        }
    }
}
