//! Whether a document is one of frames (HTML 13.2.6.4.6, .7 and .20).
//!
//! Behind its first `frameset` a document has nothing but frames: other tags are passed over, and no text is read
//! in another way than markup. Which `frameset` is the first, only the tree says for certain: where it is in doubt,
//! the answer is none, and the tag must go.

use super::context::name;
use super::tag::{Name, is_space};

macro_rules! list {
    ($($text:literal)*) => { &[$(Name::of($text)),*] };
}

/// Start tags that may stand before the body.
const HEAD: &[Name] = list!(
    b"html" b"head" b"base" b"basefont" b"bgsound" b"link" b"meta" b"title" b"noscript" b"noframes" b"style"
    b"script" b"template" b"frameset"
);

/// Start tags behind which no `frameset` counts any more.
const SHOWN: &[Name] = list!(
    b"body" b"pre" b"listing" b"li" b"dd" b"dt" b"button" b"applet" b"marquee" b"object" b"table" b"area" b"br"
    b"embed" b"img" b"image" b"keygen" b"wbr" b"input" b"hr" b"textarea" b"xmp" b"iframe" b"select"
);

/// What of a document decides.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Frames {
    /// There is a body.
    body: bool,
    /// Something is shown in it.
    shown: bool,
    templates: u32,
    open: bool,
}

impl Frames {
    /// At the start of a document.
    pub(super) const fn new() -> Self {
        Self { body: false, shown: false, templates: 0, open: false }
    }

    /// Whether the document is one of frames.
    pub(super) const fn are_open(&self) -> bool {
        self.open
    }

    /// No `frameset` can count any more.
    const fn is_settled(&self) -> bool {
        self.body && self.shown
    }

    /// Takes a start tag of HTML; false for a `frameset` that does not count, or may not.
    pub(super) fn start(&mut self, name: Name) -> bool {
        if name == name::FRAMESET {
            self.open = !self.is_settled() && self.templates == 0;
            return self.open;
        }
        if !self.is_settled() {
            self.body |= self.templates == 0 && !name.is_one_of(HEAD);
            self.shown |= name.is_one_of(SHOWN);
            self.templates += u32::from(name == name::TEMPLATE);
        }
        true
    }

    /// Takes an end tag.
    pub(super) fn end(&mut self, name: Name) {
        match name {
            name::TEMPLATE => self.templates = self.templates.saturating_sub(1),
            name::BR | name::BODY | name::HTML => {
                self.body |= self.templates == 0;
                self.shown |= name == name::BR;
            }
            _ => {}
        }
    }

    /// Takes ordinary text. A reference is taken for more than a space.
    pub(super) fn text(&mut self, text: &[u8]) {
        if !self.is_settled() && text.iter().any(|byte| !is_space(*byte) && *byte != 0) {
            self.body |= self.templates == 0;
            self.shown = true;
        }
    }
}
