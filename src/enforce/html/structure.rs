//! What the tags and texts of a document mean, and what becomes of them.

use std::borrow::Cow;

use super::characters::{Charset, as_bytes, as_text};
use super::context::{Space, is_void, name};
use super::edits::Edits;
use super::element::Element;
use super::elements::{is_kind, neutralise};
use super::joined::Joined;
use super::opened::{Opened, Role, Sheet};
use super::slots::fetches;
use super::state::State;
use super::tag::{Name, attribute, attributes};
use super::texts::{self, Form, Sheets};
use super::tokens::{Tag, Watch};
use super::{RewriteError, amp, charset, joined, quiet, room};

/// Most attributes of a tag that is judged: no page has so many, and each takes memory.
const MOST_ATTRIBUTES: usize = 16_384;

/// One document as it comes by.
#[derive(Debug, Clone)]
pub(super) struct Document {
    /// What is known of it.
    pub state: State,
    opened: Opened,
    /// Open elements whose text is judged.
    sheets: Sheets,
    /// What went out of texts that come in pieces.
    joined: Joined,
    /// A text that is judged once it is whole; its bytes are out of the buffer.
    text: Vec<u8>,
    edits: Edits,
    /// The probe was read as an element.
    probed: bool,
}

impl Document {
    /// Before the first byte.
    pub(super) fn new(state: State) -> Self {
        Self {
            state,
            opened: Opened::new(),
            sheets: Sheets::default(),
            joined: Joined::default(),
            text: Vec::new(),
            edits: Edits::default(),
            probed: false,
        }
    }

    /// Whether both would make the same of whatever comes next.
    pub(super) fn stands_as(&self, other: &Self) -> bool {
        self.state.stands_as(&other.state)
            && self.opened == other.opened
            && self.sheets == other.sheets
            && self.joined == other.joined
            && self.text == other.text
    }

    /// Memory it takes for what is open, in bytes.
    pub(super) fn size(&self) -> usize {
        self.opened.size() + self.joined.size() + self.text.len()
    }

    /// Writes the first `done` bytes of the buffer as they are to be. Nothing, once the pass has failed.
    pub(super) fn put(&mut self, buf: &[u8], done: usize, out: &mut Vec<u8>) {
        if self.state.failed.is_none() {
            self.edits.apply(buf, done, out);
        }
    }

    /// Writes what has found no other place, if the parser is in text, where it will show.
    pub(super) fn put_last(&mut self, out: &mut Vec<u8>) {
        if !self.probed {
            return;
        }
        if let Some(guard) = self.state.guard.take() {
            out.extend_from_slice(guard.element(self.state.urls.page_host()).as_bytes());
        }
        if self.state.link.takes_place() {
            out.extend_from_slice(self.state.line().as_bytes());
        }
    }

    fn place_link(&mut self, at: usize) {
        if self.state.link.takes_place() {
            self.edits.insert(at, self.state.line().as_bytes());
        }
    }

    /// A `meta` behind the first bytes names the charset: browsers begin anew (HTML, "changing the encoding").
    fn name_charset(&mut self, tag: &Tag<'_>) {
        let named = tag.raw.get(1 + tag.text().len()..).and_then(charset::meta).and_then(|(named, _)| named);
        self.state.urls.charset = Charset(named.filter(|charset| charset.is_ascii_compatible()));
    }

    /// Puts the guard before a tag that can fetch or run, never into a template; after `meta charset`, which is
    /// none. Gives the role of an element that only may have to hold it.
    fn place_guard(&mut self, tag: &Tag<'_>) -> Option<Role> {
        if self.state.guard.is_none() || self.state.templates > 0 {
            return None;
        }
        let tag_name = as_text(tag.text()).to_ascii_lowercase();
        match tag_name.as_str() {
            "html" | "base" | "param" => return None,
            other if !fetches(other) => return None,
            "head" if tag.space == Space::Html => return Some(Role::Head),
            "meta" if !is_meta(tag, "refresh") && !is_meta(tag, "content-security-policy") => return None,
            _ => {}
        }
        self.guard_goes(tag.at);
        None
    }

    fn guard_goes(&mut self, at: usize) {
        if let Some(guard) = self.state.guard.take() {
            self.edits.insert(at, guard.element(self.state.urls.page_host()).as_bytes());
        }
    }

    /// Judges what a tag refers to: the tag as it will be, and whether something of it was stripped. `None`: it
    /// needs nothing.
    fn judge<'a>(&mut self, tag: &Tag<'a>) -> Option<(Element<'a>, bool)> {
        let policy =
            tag.space == Space::Html && tag.name == name::META && is_meta(tag, "content-security-policy");
        if !self.state.opted_out {
            if policy {
                let content = attribute(tag.raw, b"content").unwrap_or_default();
                self.state.policy_begins(&as_text(content));
            }
            return None;
        }
        if quiet::is_quiet(&self.state, tag) {
            return None;
        }
        if attributes(tag.raw).nth(MOST_ATTRIBUTES).is_some() {
            self.state.failed = Some(RewriteError::Memory);
            return None;
        }
        let mut el = Element::new(tag, self.state.urls.charset);
        if policy {
            let content = el.get("content").unwrap_or_default().to_owned();
            if let Some(content) = self.state.policy_begins(&content) {
                el.set("content", content);
            }
        }
        let before = self.state.stripped();
        if let Err(error) = neutralise(&mut self.state, &mut el) {
            self.state.failed = Some(error);
        }
        Some((el, self.state.stripped() > before))
    }

    /// What the end of an element will mean, where its text or its vendor matters.
    fn sheet(&mut self, tag: &Tag<'_>, el: Option<&Element<'_>>) -> Option<Role> {
        if !self.state.opted_out {
            return None;
        }
        match tag.name {
            name::SCRIPT => {
                let component = self.state.component.is_some();
                self.state.script = texts::holds(tag, component, |name| value(tag, el, name));
                Some(Role::Judged(Sheet::Script))
            }
            name::STYLE => Some(Role::Judged(Sheet::Style)),
            name::NOSCRIPT => Some(Role::Judged(Sheet::Noscript)),
            _ if el.is_some_and(|el| amp::is_configured(&el.name)) => Some(Role::Component),
            _ => None,
        }
    }

    /// Link, base and template: what both kinds of visitor need.
    fn html(&mut self, tag: &Tag<'_>, el: Option<&Element<'_>>) -> Role {
        let outside = self.state.templates == 0;
        match tag.name {
            name::BASE if outside => {
                if let Some(href) = value(tag, el, "href") {
                    self.state.urls.set_base(&href);
                }
            }
            name::TEMPLATE => {
                self.state.templates += 1;
                return Role::Template;
            }
            name::ARTICLE | name::SECTION | name::ASIDE => {
                self.state.link.sections += 1;
                return Role::Section;
            }
            name::FOOTER if !self.state.link.footer && self.state.link.sections == 0 && outside => {
                self.state.link.footer = true;
                return Role::Place;
            }
            name::BODY if !self.state.link.body && outside => {
                self.state.link.body = true;
                return Role::Place;
            }
            name::FRAMESET if !tag.stray && !self.state.link.body => self.state.link.frameset = true,
            name::A if outside && self.state.link.is_wanted() => return self.anchor(tag),
            _ => {}
        }
        Role::Plain
    }

    fn anchor(&mut self, tag: &Tag<'_>) -> Role {
        // A new anchor ends an open one (HTML 13.2.6.4.7).
        if self.state.link.anchor_ends(None) && self.state.opted_out {
            self.edits.insert(tag.at, self.state.status().as_bytes());
        }
        if attribute(tag.raw, b"href").is_none() {
            return Role::Plain;
        }
        let depth = u32::try_from(self.opened.depth()).unwrap_or(u32::MAX);
        self.state.link.anchor_begins(depth);
        Role::Anchor(depth)
    }

    /// An element has ended; `at` is before the end tag that ended it. True: the page's own link has, and is
    /// adopted.
    fn close(&mut self, role: Role, at: usize) -> bool {
        let link = &mut self.state.link;
        match role {
            Role::Plain => {}
            Role::Head => self.guard_goes(at),
            Role::Place => self.place_link(at),
            Role::Template => self.state.templates = self.state.templates.saturating_sub(1),
            Role::Section => link.sections = link.sections.saturating_sub(1),
            Role::Drawing => link.drawings = link.drawings.saturating_sub(1),
            Role::Anchor(id) => return link.anchor_ends(Some(id)),
            Role::Component => self.state.component = None,
            Role::Judged(sheet) => self.sheets.close(sheet),
        }
        false
    }

    /// An end tag before this place closes the nearest element of its name, and all inside. True: the status goes
    /// behind the link that was adopted.
    fn closed(&mut self, name: Name, at: usize) -> bool {
        let Some(closed) = self.opened.closes(name) else { return false };
        let mut adopted = false;
        while self.opened.depth() > closed {
            let Some(role) = self.opened.pop() else { break };
            adopted |= self.close(role, at);
        }
        self.joined.close(self.opened.depth());
        adopted && self.state.opted_out
    }

    /// Writes the end tags that have to go before a tag.
    fn close_before(&mut self, tag: &Tag<'_>) {
        for end in tag.before.split_inclusive(|byte| *byte == b'>') {
            let name = Name::of(end.get(2..end.len() - 1).unwrap_or_default());
            let adopted = self.closed(name, tag.at);
            if self.state.opted_out {
                self.edits.insert(tag.at, end);
            }
            if adopted {
                self.edits.insert(tag.at, self.state.status().as_bytes());
            }
        }
    }

    /// Keeps a piece of a text that is judged when it is whole.
    fn keep(&mut self, text: &[u8], at: usize) {
        if self.text.len() + text.len() > self.state.memory {
            self.state.failed = Some(RewriteError::Memory);
            return;
        }
        self.text.reserve_exact(room(self.text.len(), self.text.capacity(), text.len(), self.state.memory));
        self.text.extend_from_slice(text);
        self.edits.cut(at..at + text.len());
    }

    /// Takes a piece of a text that ends where the tokenizer says.
    fn piece(&mut self, text: &[u8], at: usize, last: bool, form: Form) {
        if !self.state.opted_out || self.is_over() || !self.sheets.judge(form) {
            return;
        }
        if !last || !self.text.is_empty() || text.len() > self.state.memory {
            self.keep(text, at);
            if last {
                self.whole(at + text.len(), form);
            }
        } else if let Some(changed) = self.judged(text, form) {
            self.edits.replace(at..at + text.len(), &changed);
        }
    }

    /// A text is whole; `at` is behind it.
    fn whole(&mut self, at: usize, form: Form) {
        if self.text.is_empty() || self.is_over() {
            return;
        }
        let text = std::mem::take(&mut self.text);
        let changed = self.judged(&text, form);
        self.edits.insert(at, changed.as_deref().unwrap_or(&text));
    }

    fn judged(&mut self, text: &[u8], form: Form) -> Option<Vec<u8>> {
        if text.is_empty() {
            return None;
        }
        let read = self.state.urls.charset.text(text);
        match texts::judge(&mut self.state, self.sheets, &read, form) {
            Ok(changed) => {
                let (piece, depth) = (changed.as_deref().unwrap_or(&read), self.opened.depth());
                let takes =
                    form == Form::Raw || self.joined.takes(&mut self.state, self.sheets, depth, piece, form);
                if !takes {
                    return Some(joined::BREAK.as_bytes().to_vec());
                }
                let changed = changed.map(|text| as_bytes(&text).into_owned());
                if form == Form::Literal {
                    shown(changed.as_deref().unwrap_or(text)).or(changed)
                } else {
                    changed
                }
            }
            Err(error) => {
                self.state.failed = Some(error);
                None
            }
        }
    }

    /// An ordinary text has ended before this place.
    pub(super) fn end_text(&mut self, at: usize) {
        self.whole(at, Form::Ordinary);
    }

    const fn is_over(&self) -> bool {
        self.state.failed.is_some() || self.state.probing
    }
}

impl Watch for Document {
    fn start(&mut self, tag: &Tag<'_>) {
        self.end_text(tag.at);
        if self.is_over() {
            self.probed |= self.state.probing && tag.name == name::PROBE;
            return;
        }
        self.close_before(tag);
        if tag.stray && self.state.opted_out {
            self.edits.cut(tag.at..tag.end());
            return;
        }
        let html = tag.space == Space::Html;
        if html && tag.name == name::HTML && attributes(tag.raw).any(|a| amp::is_mark(a.name)) {
            self.state.forbid_scripts();
        }
        if self.state.opted_out && html && tag.name == name::META && self.state.urls.charset.0.is_none() {
            self.name_charset(tag);
        }
        let head = self.place_guard(tag);
        let (mut el, stripped) = self.judge(tag).map_or((None, false), |(el, stripped)| (Some(el), stripped));
        let content = if html { !is_void(tag.name) } else { !tag.self_closing };
        let drawing = tag.name == name::SVG && content && self.state.link.in_anchor();
        let role = match head.or_else(|| self.sheet(tag, el.as_ref())) {
            Some(role) => role,
            None if html => self.html(tag, el.as_ref()),
            None if drawing => {
                self.state.link.drawings += 1;
                Role::Drawing
            }
            None => Role::Plain,
        };
        if content {
            self.opened.push(tag.name, role);
            self.sheets.open(role);
            if !html && matches!(role, Role::Judged(_)) {
                self.joined.open(self.opened.depth());
            }
            if role == Role::Component {
                self.state.component = Some(stripped);
            }
        }
        if tag.hides && self.state.opted_out && self.state.failed.is_none() {
            el.get_or_insert_with(|| Element::new(tag, self.state.urls.charset)).show_hidden();
        }
        if let Some(written) = el.and_then(|el| el.written()) {
            self.edits.replace(tag.at..tag.end(), &written);
        }
    }

    fn end(&mut self, tag: &Tag<'_>) {
        self.end_text(tag.at);
        if self.is_over() {
            return;
        }
        self.close_before(tag);
        if self.closed(tag.name, tag.at) {
            let at = if tag.name == name::A { tag.end() } else { tag.at };
            self.edits.insert(at, self.state.status().as_bytes());
        }
    }

    fn is_open(&mut self, name: Name) -> bool {
        self.opened.closes(name).is_some()
    }

    fn text(&mut self, text: &[u8], at: usize) {
        if self.is_over() {
            return;
        }
        if self.state.link.in_anchor() {
            self.state.link.anchor_bytes(text);
        }
        if self.state.opted_out && self.sheets.judge(Form::Ordinary) {
            self.keep(text, at);
        }
    }

    fn raw(&mut self, text: &[u8], at: usize, last: bool) {
        self.piece(text, at, last, Form::Raw);
    }

    fn literal(&mut self, text: &[u8], at: usize, last: bool) {
        if self.sheets.judge(Form::Literal) {
            self.piece(text, at, last, Form::Literal);
        } else if self.state.opted_out && !self.is_over() {
            for place in memchr::memchr_iter(b'<', text) {
                self.edits.replace(at + place..at + place + 1, SHOWN);
            }
        }
    }

    fn remark(&mut self, text: &[u8], at: usize) {
        if self.state.opted_out && !self.is_over() {
            for place in memchr::memchr_iter(b'<', text) {
                self.edits.replace(at + place..at + place + 1, b" ");
            }
        }
    }

    fn gap(&mut self, at: usize) {
        self.end_text(at);
    }

    fn doubt(&mut self, at: usize) {
        if self.state.opted_out && !self.is_over() {
            self.edits.replace(at..at + 1, b"?");
        }
    }
}

/// In a CDATA section, the same character outside of it: to a reader that knows no such sections, and so finds markup
/// in them, it is text as well.
const SHOWN: &[u8] = b"]]>&lt;<![CDATA[";

/// The text of a CDATA section in a script or style sheet without what looks like an end tag; `None`: there is none.
fn shown(text: &[u8]) -> Option<Vec<u8>> {
    memchr::memmem::find(text, b"</")?;
    let mut out = Vec::with_capacity(text.len() + 4 * SHOWN.len());
    let mut copied = 0;
    for at in memchr::memmem::find_iter(text, b"</") {
        out.extend_from_slice(&text[copied..at]);
        out.extend_from_slice(SHOWN);
        copied = at + 1;
    }
    out.extend_from_slice(&text[copied..]);
    Some(out)
}

/// An attribute's value, as it will be; references as written.
fn value<'a>(tag: &Tag<'a>, el: Option<&'a Element<'_>>, name: &str) -> Option<Cow<'a, str>> {
    match el {
        Some(el) => el.get(name).map(Cow::Borrowed),
        None => attribute(tag.raw, name.as_bytes()).map(as_text),
    }
}

/// Whether a `meta` has this `http-equiv`.
fn is_meta(tag: &Tag<'_>, kind: &str) -> bool {
    attribute(tag.raw, b"http-equiv").is_some_and(|raw| is_kind(&as_text(raw), kind))
}
