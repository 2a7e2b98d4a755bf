//! How text is read behind a tag, and in which namespace an element stands.
//!
//! A tokenizer needs both from the tree builder (HTML 13.2.6). They are followed without a tree: outside foreign
//! content by name alone, from the outermost `svg` or `math` on with the elements that are open. Where only the
//! tree could say what a tag closes, end tags are asked for that leave nothing open to be closed; with them, every
//! reader finds the same.

use super::frames::Frames;
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
        ANNOTATION = b"annotation-xml", TABLE = b"table", MGLYPH = b"mglyph", MALIGNMARK = b"malignmark",
        PROBE = b"optgate-probe", P = b"p", BR = b"br",
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

/// More open elements than any drawing has; all of them are closed then, or every further tag would have to be looked for
/// among however many a page leaves open.
const DEEPEST: usize = 1_024;

/// Parts of a table, which end what stands in a cell.
const TABLE_PARTS: &[Name] =
    list!(b"caption" b"col" b"colgroup" b"tbody" b"td" b"tfoot" b"th" b"thead" b"tr");

/// Elements whose end tags close an integration point inside them.
const CROSSING: &[Name] = list!(
    b"caption" b"col" b"colgroup" b"select" b"table" b"tbody" b"td" b"template" b"tfoot" b"th" b"thead" b"tr"
);

const HEADINGS: &[Name] = list!(b"h1" b"h2" b"h3" b"h4" b"h5" b"h6");

/// Elements that no end tag closes.
const ROOTS: &[Name] = list!(b"html" b"head" b"body");

/// Names that elements of HTML do not have while they hold markup: an end tag too many closes nothing.
const FOREIGN: &[Name] = list!(
    b"svg" b"math" b"path" b"g" b"use" b"circle" b"rect" b"line" b"polyline" b"polygon" b"ellipse" b"text"
    b"tspan" b"textpath" b"defs" b"symbol" b"lineargradient" b"radialgradient" b"stop" b"clippath" b"mask"
    b"pattern" b"image" b"filter" b"marker" b"animate" b"animatetransform" b"animatemotion" b"set" b"desc"
    b"title" b"style" b"script" b"switch" b"foreignobject" b"metadata" b"mi" b"mo" b"mn" b"ms" b"mtext"
);

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
    /// Open elements from the outermost foreign one on.
    open: Vec<Entry>,
    /// Their names as written, one behind the other.
    names: Vec<u8>,
    frames: Frames,
}

/// An open element.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Entry {
    name: Name,
    /// Where its name begins.
    from: usize,
    space: Space,
    /// The namespace of what stands in it.
    inside: Space,
}

/// What a tag means to the tokenizer, and what has to go before it.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Meaning {
    /// End tags; with them before it, nothing else can be closed by the tag.
    pub before: Vec<u8>,
    /// A `frameset` that must not be one: only the tree could say whether it is.
    pub stray: bool,
}

impl Context {
    /// At the start of a document.
    pub(super) const fn new() -> Self {
        Self { open: Vec::new(), names: Vec::new(), frames: Frames::new() }
    }

    /// The namespace that a tag stands in.
    pub(super) fn space(&self) -> Space {
        self.open.last().map_or(Space::Html, |top| top.inside)
    }

    /// Whether a CDATA section may begin: the namespace is that of the element itself, and not of what stands in it
    /// (HTML 13.2.5.42). `None`: in HTML inside foreign content, only the tree could say which element it is.
    pub(super) fn takes_cdata(&self) -> Option<bool> {
        match self.open.last() {
            None => Some(false),
            Some(top) if top.space != Space::Html => Some(true),
            Some(_) => None,
        }
    }

    /// Whether an element of foreign content is open whose text ends only at its end tag for a reader that knows
    /// nothing of foreign content: Chromium's, which looks ahead for what to fetch.
    pub(super) fn seems_raw(&self) -> bool {
        self.open.iter().any(|entry| entry.space != Space::Html && text(entry.name) != Text::Data)
    }

    /// Takes ordinary text.
    pub(super) fn text(&mut self, text: &[u8]) {
        self.frames.text(text);
    }

    /// Takes a start tag, given whole, with its name as written.
    pub(super) fn start(
        &mut self,
        name: Name,
        written: &[u8],
        tag: &[u8],
        self_closing: bool,
    ) -> (Text, Meaning) {
        let mut meaning = Meaning::default();
        if self.frames.are_open() {
            return (if name == name::NOFRAMES { Text::Raw } else { Text::Data }, meaning);
        }
        if self.open.len() >= DEEPEST {
            meaning.before = self.close(0);
        }
        if self.space() != Space::Html && breaks_out(name, tag) {
            self.leave_foreign();
        }
        let space = self.space();
        if space != Space::Html {
            if !self_closing {
                let entered = name == name::SVG && self.is_in(name::ANNOTATION);
                let space = if entered { Space::Svg } else { space };
                self.push(name, written, space, inside(space, name, tag));
            }
            return (Text::Data, meaning);
        }
        if name.is_one_of(TABLE_PARTS) && !self.open.is_empty() && !self.holds_table() {
            meaning.before = self.close(0);
        }
        meaning.stray = !self.frames.start(name);
        if self.frames.are_open() {
            self.truncate(0);
        }
        match name {
            name::SVG | name::MATH if self_closing => {}
            name::SVG => self.push(name, written, Space::Svg, Space::Svg),
            name::MATH => self.push(name, written, Space::Math, Space::Math),
            name::MGLYPH | name::MALIGNMARK if self.is_in_math_text() => {
                if !self_closing {
                    self.push(name, written, Space::Math, Space::Math);
                }
            }
            // Before the first foreign element nobody asks what is open.
            _ if self.open.is_empty() || is_void(name) || name.is_one_of(ROOTS) => {
                return (text(name), meaning);
            }
            _ => {
                self.push(name, written, Space::Html, Space::Html);
                return (text(name), meaning);
            }
        }
        (Text::Data, meaning)
    }

    /// Takes an end tag; `is_open`: whether an element of that name may be open outside foreign content.
    pub(super) fn end(&mut self, name: Name, is_open: impl FnOnce() -> bool) -> Meaning {
        let mut meaning = Meaning::default();
        if self.frames.are_open() {
            return meaning;
        }
        self.frames.end(name);
        let Some(top) = self.open.last() else { return meaning };
        let foreign = top.space != Space::Html;
        let heading = name.is_one_of(HEADINGS);
        let is_meant = |entry: &Entry| entry.name == name || heading && entry.name.is_one_of(HEADINGS);
        match self.open.iter().rposition(is_meant) {
            // The nearest of its name, or one in a row of foreign elements (HTML 13.2.6.5).
            Some(at) if self.open[at..].iter().all(|entry| entry.space != Space::Html) => {
                self.truncate(at);
            }
            Some(at) => {
                meaning.before = self.close(at + 1);
                self.truncate(at);
            }
            None if foreign && matches!(name, name::P | name::BR) => self.leave_foreign(),
            None if if foreign {
                name.is_one_of(FOREIGN) && !is_open()
            } else {
                !name.is_one_of(CROSSING)
            } => {}
            None => meaning.before = self.close(0),
        }
        meaning
    }

    fn push(&mut self, name: Name, written: &[u8], space: Space, inside: Space) {
        self.open.push(Entry { name, from: self.names.len(), space, inside });
        self.names.extend_from_slice(written);
    }

    fn truncate(&mut self, length: usize) {
        if let Some(first) = self.open.get(length) {
            self.names.truncate(first.from);
            self.open.truncate(length);
        }
    }

    /// Closes all but the first; the end tags that do it, inner ones first.
    fn close(&mut self, first: usize) -> Vec<u8> {
        let mut tags = Vec::new();
        while self.open.len() > first {
            let Some(entry) = self.open.pop() else { break };
            tags.extend_from_slice(b"</");
            tags.extend(self.names.drain(entry.from..));
            tags.push(b'>');
        }
        tags
    }

    /// To the nearest element in which HTML stands.
    fn leave_foreign(&mut self) {
        let length = self.open.iter().rposition(|entry| entry.inside == Space::Html).map_or(0, |at| at + 1);
        self.truncate(length);
    }

    fn is_in(&self, name: Name) -> bool {
        self.open.last().is_some_and(|top| top.name == name)
    }

    fn is_in_math_text(&self) -> bool {
        self.open.last().is_some_and(|top| top.space == Space::Math && top.name.is_one_of(IN_MATH))
    }

    fn holds_table(&self) -> bool {
        self.open.iter().any(|entry| matches!(entry.name, name::TABLE | name::TEMPLATE))
    }

    /// How much is open, for the memory limit, in bytes.
    pub(super) const fn depth(&self) -> usize {
        self.open.len() * size_of::<Entry>() + self.names.len()
    }
}

/// Whether a start tag ends foreign content.
fn breaks_out(name: Name, tag: &[u8]) -> bool {
    let font = || {
        attributes(tag)
            .any(|a| [&b"color"[..], b"size", b"face"].iter().any(|known| a.name.eq_ignore_ascii_case(known)))
    };
    name.is_one_of(BREAKOUT) || name == name::FONT && font()
}

/// The namespace of what stands in a foreign element: HTML in an integration point.
fn inside(space: Space, name: Name, tag: &[u8]) -> Space {
    let html = |value: &[u8]| {
        value.eq_ignore_ascii_case(b"text/html") || value.eq_ignore_ascii_case(b"application/xhtml+xml")
    };
    let point = match space {
        Space::Svg => name.is_one_of(IN_SVG),
        Space::Math if name == name::ANNOTATION => attribute(tag, b"encoding").is_some_and(html),
        Space::Math => name.is_one_of(IN_MATH),
        Space::Html => false,
    };
    if point { Space::Html } else { space }
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

#[cfg(test)]
mod tests {
    use super::*;

    /// Threat: a page that opens without end, so that each further tag costs as much as all before it.
    #[test]
    fn what_is_open_is_bounded() {
        let mut context = Context::new();
        let (g, svg) = (Name::of(b"g"), Name::of(b"svg"));
        let mut closed = 0;
        for round in 0..10 * DEEPEST {
            let (name, written) = if context.open.is_empty() { (svg, "svg") } else { (g, "g") };
            let (_, meaning) =
                context.start(name, written.as_bytes(), format!("<{written}>").as_bytes(), false);
            let before = String::from_utf8(meaning.before).unwrap();
            if !before.is_empty() {
                assert_eq!(before, "</g>".repeat(DEEPEST - 1) + "</svg>", "{round}");
                closed += 1;
            }
            assert!(context.open.len() <= DEEPEST);
        }
        assert_eq!(closed, 9);
    }
}
