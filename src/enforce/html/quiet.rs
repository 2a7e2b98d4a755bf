//! Tags that need nothing, found out from their bytes: most of a page.
//!
//! Nothing here decides what becomes of a tag. A tag in doubt is not quiet, and `elements` and `structure`
//! judge it.

use super::context::{Space, name};
use super::inject::begins_title;
use super::listed;
use super::slots::{Meta, Slot, is_style, slot};
use super::state::State;
use super::tag::{Name, attributes, is_space};
use super::tokens::{Tag, Tokens, Watch};
use super::{css, srcset, urls};

macro_rules! list {
    ($($text:literal)*) => { &[$(Name::of($text)),*] };
}

/// Elements with a meaning for the document or for the text in them.
const MEANT: &[Name] = list!(
    b"script" b"noscript" b"style" b"template" b"article" b"section" b"aside" b"footer" b"body"
    b"frameset" b"base" b"html" b"optgate-probe"
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
    if name.is_one_of(MEANT) || tag.starts_with("amp-") || tag.bytes().any(|b| b.is_ascii_uppercase()) {
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
    if state.lists.is_some() {
        let Some(asking) = listed::asking_raw(tag, attribute, raw) else { return false };
        state.asking.set(asking);
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

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::sync::Arc;

    use super::super::rewriter::Engine;
    use super::super::{Kind, Plan};
    use super::*;
    use crate::config::{LinkTitle, VendorPolicy};
    use crate::registry::{Policy, Registry};
    use proptest::prelude::*;

    fn state() -> State {
        static POLICY: std::sync::LazyLock<Arc<Policy>> = std::sync::LazyLock::new(|| {
            let registry = Arc::new(Registry::builtin().unwrap());
            Arc::new(Policy::resolve(registry, &VendorPolicy::default()).unwrap())
        });
        let plan = Plan {
            opted_out: true,
            policy: Arc::clone(&POLICY),
            page: url::Url::parse("https://shop.example/page").unwrap(),
            kind: Kind::Document,
            guard: None,
            keeper: Some(Default::default()),
            lists: None,
            prefix: Arc::from("/privacy-choices"),
            link: LinkTitle::DoNotSell,
            memory: 1 << 20,
        };
        State::new(plan, true, true)
    }

    /// The page, and what was counted; with the look at the bytes and without.
    fn both(page: &[u8]) -> [(String, usize); 2] {
        [true, false].map(|looks| {
            let mut state = state();
            if !looks {
                state.window.close();
            }
            let (mut out, mut engine) = (Vec::new(), Engine::new(state).unwrap());
            engine.write(page, &mut out).unwrap();
            let counts = engine.end(&mut out).unwrap().counts.len();
            (String::from_utf8_lossy(&out).into_owned(), counts)
        })
    }

    /// No fixture is told apart by the look at its bytes: what it passes over needs nothing.
    #[test]
    fn the_short_look_and_the_full_one_agree_on_every_page_there_is() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let folders = [root.join("tests/fixtures/html"), root.join("../shared/corpus")];
        let mut pages = Vec::new();
        for entry in folders.iter().filter_map(|folder| std::fs::read_dir(folder).ok()).flatten() {
            let path = entry.unwrap().path();
            pages.push(if path.is_dir() { path.join("input.html") } else { path });
        }
        pages.retain(|path| path.extension().is_some_and(|e| e == "html"));
        assert!(pages.len() > 90, "only {} pages", pages.len());
        for path in pages {
            let [looked, read] = both(&std::fs::read(&path).unwrap());
            assert!(looked == read, "{}", path.display());
        }
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
