//! The pass for a visitor who has not opted out: nothing changes but the place of the link.
//!
//! It answers what the full rewriter would (a test compares them on every page there is), for a part of
//! its price: most visits take this way.

use super::context::{Space, is_void, name};
use super::elements::is_kind;
use super::inject::Placed;
use super::rewriter::{PROBE, SLACK};
use super::state::State;
use super::tag::{Name, attribute, attributes};
use super::tokens::{Tag, Tokens, Watch};
use super::{RewriteError, amp};

/// What the end of an open element means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Role {
    Plain,
    Template,
    Section,
    Place,
    Anchor(u32),
    Drawing,
}

/// Open elements, as lol_html keeps them: an end tag closes the nearest of its name and all inside.
#[derive(Debug)]
struct Opened {
    items: Vec<(Name, Role)>,
    /// How many names of each bucket are open: a stray end tag must not search the whole stack.
    buckets: Box<[u32; 256]>,
}

impl Opened {
    fn push(&mut self, name: Name, role: Role) {
        self.items.push((name, role));
        self.buckets[bucket(name)] += 1;
    }

    /// The place of the element that an end tag of this name closes.
    fn closes(&self, name: Name) -> Option<usize> {
        if self.items.last().is_some_and(|(last, _)| *last == name) {
            return Some(self.items.len() - 1);
        }
        if self.buckets[bucket(name)] == 0 {
            return None;
        }
        self.items.iter().rposition(|(open, _)| *open == name)
    }

    fn pop(&mut self) -> Option<Role> {
        let (name, role) = self.items.pop()?;
        self.buckets[bucket(name)] -= 1;
        Some(role)
    }
}

const fn bucket(name: Name) -> usize {
    (name.0.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 56) as usize
}

/// One pass over one page.
#[derive(Debug)]
pub(super) struct Linker {
    tokens: Tokens,
    watch: Places,
    held: Vec<u8>,
}

#[derive(Debug)]
struct Places {
    state: State,
    opened: Opened,
    /// Where the line goes in the buffer under way, and the line as the base was then.
    place: Option<(usize, String)>,
}

impl Linker {
    /// For a state that only waits for the link.
    pub(super) fn new(state: State) -> Self {
        let opened = Opened { items: Vec::with_capacity(64), buckets: Box::new([0; 256]) };
        Self { tokens: Tokens::new(), watch: Places { state, opened, place: None }, held: Vec::new() }
    }

    /// Feeds a piece.
    ///
    /// # Errors
    /// [`RewriteError::Memory`]; every byte given so far is then in `out`.
    pub(super) fn write(&mut self, piece: &[u8], out: &mut Vec<u8>) -> Result<(), RewriteError> {
        if self.watch.state.link.placed == Placed::Adopted {
            // The page has its own: nothing is left to do or to count.
            out.append(&mut self.held);
            out.extend_from_slice(piece);
            return Ok(());
        }
        if self.held.is_empty() {
            let done = self.pass(piece, out);
            self.held.extend_from_slice(&piece[done..]);
        } else {
            let mut held = std::mem::take(&mut self.held);
            held.extend_from_slice(piece);
            let done = self.pass(&held, out);
            held.drain(..done);
            self.held = held;
        }
        let stack = size_of::<(Name, Role)>() * self.watch.opened.items.len() + self.tokens.depth();
        if self.held.len() + stack > self.watch.state.memory.saturating_add(SLACK) {
            out.append(&mut self.held);
            return Err(RewriteError::Memory);
        }
        Ok(())
    }

    fn pass(&mut self, buf: &[u8], out: &mut Vec<u8>) -> usize {
        let done = self.tokens.read(buf, &mut self.watch);
        match self.watch.place.take() {
            Some((at, line)) => {
                out.extend_from_slice(&buf[..at]);
                out.extend_from_slice(line.as_bytes());
                out.extend_from_slice(&buf[at..done]);
            }
            None => out.extend_from_slice(&buf[..done]),
        }
        done
    }

    /// Ends the input, finds the link's last place, and gives back the state.
    pub(super) fn end(mut self, out: &mut Vec<u8>) -> State {
        out.extend_from_slice(&self.held);
        if self.watch.state.wants_probe() {
            self.watch.state.probing = true;
            self.held.extend_from_slice(PROBE.as_bytes());
            self.tokens.read(&self.held, &mut self.watch);
            // The probe was read as an element: the parser is in text, and what we write here will show.
            if let Some((_, line)) = self.watch.place.take() {
                out.extend_from_slice(line.as_bytes());
            }
        }
        self.watch.state
    }
}

impl Watch for Places {
    fn start(&mut self, tag: &Tag<'_>) {
        if self.state.probing {
            if tag.name == name::PROBE {
                self.insert(tag.at);
            }
            return;
        }
        let html = tag.space == Space::Html;
        let content = if html { !is_void(tag.name) } else { !tag.self_closing };
        let role = if html { self.html(tag) } else { self.foreign(tag, content) };
        if content {
            self.opened.push(tag.name, role);
        }
    }

    fn end(&mut self, tag: &Tag<'_>) {
        if self.state.probing {
            return;
        }
        let Some(closed) = self.opened.closes(tag.name) else { return };
        while self.opened.items.len() > closed {
            match self.opened.pop() {
                None | Some(Role::Plain) => {}
                Some(Role::Template) => self.state.templates = self.state.templates.saturating_sub(1),
                Some(Role::Section) => {
                    self.state.link.sections = self.state.link.sections.saturating_sub(1);
                }
                Some(Role::Drawing) => {
                    self.state.link.drawings = self.state.link.drawings.saturating_sub(1);
                }
                Some(Role::Anchor(id)) => {
                    self.state.link.anchor_ends(Some(id));
                }
                Some(Role::Place) => self.insert(tag.at),
            }
        }
    }

    fn text(&mut self, text: &[u8]) {
        if self.state.link.in_anchor() && !self.state.probing {
            self.state.link.anchor_bytes(text);
        }
    }
}

impl Places {
    fn insert(&mut self, at: usize) {
        if self.state.link.placed == Placed::Waiting && !self.state.link.frameset {
            self.state.link.placed = Placed::Inserted;
            self.place = Some((at, self.state.line()));
        }
    }

    /// What the end of an HTML element will mean; see `structure` for the same in the full rewriter.
    fn html(&mut self, tag: &Tag<'_>) -> Role {
        let outside = self.state.templates == 0;
        let link = &mut self.state.link;
        match tag.name {
            name::BASE if outside => {
                if let Some(href) = attribute(tag.raw, b"href") {
                    let href = encoding_rs::WINDOWS_1252.decode_without_bom_handling(href).0;
                    self.state.urls.set_base(&href);
                }
            }
            name::TEMPLATE => {
                self.state.templates += 1;
                return Role::Template;
            }
            name::ARTICLE | name::SECTION | name::ASIDE => {
                link.sections += 1;
                return Role::Section;
            }
            name::FOOTER if !link.footer && link.sections == 0 && outside => {
                link.footer = true;
                return Role::Place;
            }
            name::BODY if !link.body && outside => {
                link.body = true;
                return Role::Place;
            }
            name::FRAMESET if !link.body => link.frameset = true,
            name::HTML if attributes(tag.raw).any(|(name, _)| amp::is_mark(name)) => {
                self.state.forbid_scripts();
            }
            name::META => self.meta(tag.raw),
            name::A if outside => {
                // A new anchor ends an open one (HTML 13.2.6.4.7).
                link.anchor_ends(None);
                if attribute(tag.raw, b"href").is_some() {
                    return Role::Anchor(link.anchor_begins());
                }
            }
            _ => {}
        }
        Role::Plain
    }

    /// A policy that does not let our script run: there will be none, since nothing else is changed here.
    fn meta(&mut self, raw: &[u8]) {
        let Some(kind) = attribute(raw, b"http-equiv") else { return };
        let text = |bytes| encoding_rs::WINDOWS_1252.decode_without_bom_handling(bytes).0;
        if is_kind(&text(kind), "content-security-policy") {
            self.state.policy_begins(&text(attribute(raw, b"content").unwrap_or_default()));
        }
    }

    fn foreign(&mut self, tag: &Tag<'_>, content: bool) -> Role {
        if tag.name == name::SVG && content && self.state.link.in_anchor() {
            self.state.link.drawings += 1;
            return Role::Drawing;
        }
        Role::Plain
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::sync::{Arc, LazyLock};

    use super::super::rewriter::Engine;
    use super::super::{Kind, Plan, Summary};
    use super::*;
    use crate::config::{LinkTitle, VendorPolicy};
    use crate::enforce::keeper::Keeper;
    use crate::registry::{Policy, Registry};
    use proptest::prelude::*;

    static POLICY: LazyLock<Arc<Policy>> = LazyLock::new(|| {
        let registry = Arc::new(Registry::builtin().expect("the built-in registry loads"));
        Arc::new(Policy::resolve(registry, &VendorPolicy::default()).expect("the default policy resolves"))
    });

    fn state() -> State {
        let plan = Plan {
            opted_out: false,
            policy: Arc::clone(&POLICY),
            page: url::Url::parse("https://shop.example/page").unwrap(),
            kind: Kind::Document,
            guard: None,
            keeper: Some(Keeper::default()),
            prefix: Arc::from("/privacy-choices"),
            link: LinkTitle::DoNotSell,
            memory: 1 << 20,
            lists: None,
        };
        State::new(plan, true, true)
    }

    fn by_linker(page: &[u8], size: usize) -> (Vec<u8>, Summary) {
        let (mut out, mut summary) = (Vec::new(), Summary::default());
        let mut linker = Linker::new(state());
        for piece in page.chunks(size) {
            linker.write(piece, &mut out).unwrap();
        }
        linker.end(&mut out).tell(&mut summary);
        (out, summary)
    }

    fn by_engine(page: &[u8]) -> (Vec<u8>, Summary) {
        let (mut out, mut summary) = (Vec::new(), Summary::default());
        let mut engine = Engine::new(state()).unwrap();
        engine.write(page, &mut out).unwrap();
        engine.end(&mut out).unwrap().tell(&mut summary);
        // Hosts to look up are only asked for on opted-out pages.
        summary.siblings.clear();
        (out, summary)
    }

    fn shown(page: &[u8]) -> String {
        String::from_utf8_lossy(page).into_owned()
    }

    /// Every page of the fixtures and the corpus: the short way and the full rewriter answer the same bytes.
    #[test]
    fn the_short_way_answers_what_the_full_rewriter_answers() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let mut pages: Vec<_> = std::fs::read_dir(root.join("tests/fixtures/html"))
            .unwrap()
            .map(|entry| entry.unwrap().path().join("input.html"))
            .collect();
        match std::fs::read_dir(root.join("../shared/corpus")) {
            Ok(entries) => pages.extend(entries.map(|entry| entry.unwrap().path())),
            Err(_) => println!("skipped: no saved pages beside the checkout"),
        }
        let mut read = 0;
        for path in pages.iter().filter(|p| p.extension().is_some_and(|e| e == "html")) {
            let page = std::fs::read(path).unwrap();
            let expected = by_engine(&page);
            for size in [page.len().max(1), 1_021, 7] {
                let got = by_linker(&page, size);
                assert!(got == expected, "{}, pieces of {size}", path.display());
            }
            read += 1;
        }
        assert!(read > 40, "only {read} pages");
    }

    /// Pieces that tokenizers go wrong with.
    const SOUP: &[&str] = &[
        "<body>",
        "</body>",
        "<footer>",
        "</footer>",
        "<div>",
        "</div>",
        "<p>",
        "<br>",
        "</br>",
        "</p>",
        "<section>",
        "</section>",
        "<template>",
        "</template>",
        "<a href=/x>",
        "<a>",
        "</a>",
        "</html>",
        "Your Privacy Choices",
        " your\nprivacy&nbsp;choices ",
        "Your Privacy <b>Choices</b>",
        "<svg>",
        "</svg>",
        "<svg/>",
        "<math>",
        "</math>",
        "<mi>",
        "</mi>",
        "<desc>",
        "</desc>",
        "<title>",
        "</title>",
        "<annotation-xml encoding=text/html>",
        "</annotation-xml>",
        "<font>",
        "<font size=1>",
        "<g/>",
        "<g>",
        "<script>",
        "</script>",
        "<script",
        "</script ",
        "<!--",
        "-->",
        "--!>",
        "<!-->",
        "<!--->",
        "<!---",
        "-",
        "--",
        ">",
        "<",
        "</",
        "<!",
        "<?",
        "<![CDATA[",
        "]]>",
        "]]",
        "<!DOCTYPE \"a>\" b",
        "<style>",
        "</style>",
        "<textarea>",
        "</textarea>",
        "<noscript>",
        "</noscript>",
        "<iframe>",
        "</iframe>",
        "<plaintext>",
        "<frameset>",
        "<html>",
        "<html AMP>",
        "<html \u{26a1}4ads=1>",
        "<meta charset=x>",
        "<meta http-equiv=Content-Security-Policy content=\"script-src 'self'\">",
        "<meta content='img-src *' http-equiv=' content-security-policy '>",
        "<META HTTP-EQUIV='content&#45;security-policy' content='script-src &apos;none&#39;'>",
        "<base href=//cdn.example/>",
        "<a href=\"",
        "\"",
        "'",
        "=",
        "/",
        " ",
        "x",
        "<i a=b\"c>",
        "<i =a='b'c>",
        "<i a = 'b>' c/>",
        "<i/",
        "</i a='>'>",
        "</footer x",
        "\u{e9}",
        "\u{a0}",
        "\n",
    ];

    proptest! {
        #![proptest_config(ProptestConfig { cases: 3_000, failure_persistence: None, ..ProptestConfig::default() })]

        /// Whatever the page is, and however it was cut.
        #[test]
        fn no_soup_tells_the_two_ways_apart(
            parts in proptest::collection::vec(proptest::sample::select(SOUP), 0..24),
            size in 1_usize..40,
        ) {
            let page = parts.concat();
            let expected = by_engine(page.as_bytes());
            let got = by_linker(page.as_bytes(), size);
            prop_assert!(
                got == expected,
                "{page:?}, pieces of {size}\n{}\n{}\n{:?}\n{:?}",
                shown(&got.0), shown(&expected.0), got.1, expected.1
            );
        }
    }
}
