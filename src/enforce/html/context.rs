//! How text is read behind a tag, and in which namespace an element stands.
//!
//! A tokenizer needs both from the tree builder (HTML 13.2.6). They are followed without a tree, as lol_html
//! follows them: a test reads pages with both.

use super::tag::{Name, attribute, attributes};

macro_rules! names {
    ($($name:ident = $text:literal),* $(,)?) => { $(pub(in super::super) const $name: Name = Name::of($text);)* };
}

/// Names that mean something here, as patterns.
pub(super) mod name {
    use super::Name;

    names! {
        A = b"a", ARTICLE = b"article", ASIDE = b"aside", BASE = b"base", BODY = b"body", FONT = b"font",
        FOOTER = b"footer", FRAMESET = b"frameset", HTML = b"html", MATH = b"math", META = b"meta", PLAINTEXT = b"plaintext",
        SCRIPT = b"script", SECTION = b"section", SVG = b"svg", TEMPLATE = b"template",
        TEXTAREA = b"textarea", TITLE = b"title", STYLE = b"style", IFRAME = b"iframe", XMP = b"xmp",
        NOEMBED = b"noembed", NOFRAMES = b"noframes", NOSCRIPT = b"noscript",
        ANNOTATION = b"annotation-xml", PROBE = b"optgate-probe", P = b"p", BR = b"br",
    }
}

macro_rules! list {
    ($($text:literal)*) => { &[$(Name::of($text)),*] };
}

/// Elements without content.
const VOID: &[Name] = list!(
    b"img" b"br" b"input" b"meta" b"link" b"hr" b"source" b"area" b"base" b"basefont" b"bgsound" b"col"
    b"embed" b"keygen" b"param" b"track" b"wbr"
);

/// Start tags that end foreign content (HTML 13.2.6.5).
const BREAKOUT: &[Name] = list!(
    b"b" b"big" b"blockquote" b"body" b"br" b"center" b"code" b"dd" b"div" b"dl" b"dt" b"em" b"embed"
    b"h1" b"h2" b"h3" b"h4" b"h5" b"h6" b"head" b"hr" b"i" b"img" b"li" b"listing" b"menu" b"meta"
    b"nobr" b"ol" b"p" b"pre" b"ruby" b"s" b"small" b"span" b"strong" b"strike" b"sub" b"sup" b"table"
    b"tt" b"u" b"ul" b"var"
);

const IN_SVG: &[Name] = list!(b"desc" b"title" b"foreignobject");
const IN_MATH: &[Name] = list!(b"mi" b"mo" b"mn" b"ms" b"mtext");

/// Namespace of an element.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Space {
    Html,
    Svg,
    Math,
}

/// How the text behind a start tag is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Text {
    /// Markup.
    Data,
    /// To the element's own end tag (raw text and escapable raw text).
    Raw,
    /// As [`Text::Raw`], with the rules for scripts.
    Script,
    /// To the end of the document.
    Plain,
}

/// The part of the tree builder's state that a tokenizer needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Context {
    outer: Vec<Space>,
    space: Space,
}

impl Context {
    /// At the start of a document.
    pub(super) const fn new() -> Self {
        Self { outer: Vec::new(), space: Space::Html }
    }

    /// The namespace that a tag stands in.
    pub(super) const fn space(&self) -> Space {
        self.space
    }

    /// Takes a start tag, given whole.
    pub(super) fn start(&mut self, name: Name, tag: &[u8], self_closing: bool) -> Text {
        match (name, self.space) {
            (name::SVG, _) => self.enter(Space::Svg),
            (name::MATH, _) => self.enter(Space::Math),
            (_, Space::Html) => return text(name),
            _ => self.start_in_foreign(name, tag, self_closing),
        }
        Text::Data
    }

    fn start_in_foreign(&mut self, name: Name, tag: &[u8], self_closing: bool) {
        let font = || {
            attributes(tag).any(|a| {
                [&b"color"[..], b"size", b"face"].iter().any(|known| a.name.eq_ignore_ascii_case(known))
            })
        };
        if name.is_one_of(BREAKOUT) || name == name::FONT && font() {
            self.leave();
        } else if !self_closing && self.holds_html(name, tag) {
            self.enter(Space::Html);
        }
    }

    /// Whether a foreign element is an integration point: its content is HTML.
    fn holds_html(&self, name: Name, tag: &[u8]) -> bool {
        let html = |value: &[u8]| {
            value.eq_ignore_ascii_case(b"text/html") || value.eq_ignore_ascii_case(b"application/xhtml+xml")
        };
        match self.space {
            Space::Svg => name.is_one_of(IN_SVG),
            Space::Math if name == name::ANNOTATION => attribute(tag, b"encoding").is_some_and(html),
            Space::Math => name.is_one_of(IN_MATH),
            Space::Html => false,
        }
    }

    /// Takes an end tag.
    pub(super) fn end(&mut self, name: Name) {
        let leaves = match (self.space, self.outer.last()) {
            (Space::Html, Some(Space::Svg)) => name.is_one_of(IN_SVG),
            (Space::Html, Some(Space::Math)) => name == name::ANNOTATION || name.is_one_of(IN_MATH),
            (Space::Html, _) => false,
            (Space::Svg, _) => matches!(name, name::SVG | name::P | name::BR),
            (Space::Math, _) => matches!(name, name::MATH | name::P | name::BR),
        };
        if leaves {
            self.leave();
        }
    }

    fn enter(&mut self, space: Space) {
        self.outer.push(self.space);
        self.space = space;
    }

    fn leave(&mut self) {
        self.space = self.outer.pop().unwrap_or(Space::Html);
    }

    /// How deep foreign content is nested, for the memory limit.
    pub(super) const fn depth(&self) -> usize {
        self.outer.len()
    }
}

/// Whether an element of ordinary HTML has no content.
pub(super) fn is_void(name: Name) -> bool {
    name.is_one_of(VOID)
}

const fn text(name: Name) -> Text {
    match name {
        name::SCRIPT => Text::Script,
        name::PLAINTEXT => Text::Plain,
        name::TEXTAREA
        | name::TITLE
        | name::STYLE
        | name::IFRAME
        | name::XMP
        | name::NOEMBED
        | name::NOFRAMES
        | name::NOSCRIPT => Text::Raw,
        _ => Text::Data,
    }
}
