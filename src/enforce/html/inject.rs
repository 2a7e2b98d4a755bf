//! The opt-out link and its status: markup, place, and the page's own link.

use std::sync::LazyLock;

use super::references::{Place, decode};
use crate::config::{HONORED, LinkTitle};

/// Titles that make a link of the page's own count, folded to lower case.
const TITLES: [&str; 3] = [
    "do not sell or share my personal information",
    "your privacy choices",
    "your california privacy choices",
];

/// Bytes of anchor text kept; a longer text is no title, however much of it is white space.
const ANCHOR_TEXT: usize = 512;

/// Said beside the link when the opt-out is in force.
static STATUS: LazyLock<String> = LazyLock::new(|| said(HONORED));

/// The same to somebody who keeps a programme in spite of the opt-out (11 CCR 7025(c)(4)): what it needs is on this page.
static STATUS_BUT_PROGRAMME: LazyLock<String> =
    LazyLock::new(|| said(&format!("{HONORED}, except for the programme you keep")));

fn said(words: &str) -> String {
    format!(" <span class=\"ogc-status\" role=\"status\">{words}</span>")
}

/// The opt-out icon beside the words (11 CCR 7015(b)), drawn anew at the official 30 x 14: a pill, a tick
/// on white, a cross on blue. No class, no style: nothing of the page's or a list's can catch it.
const ICON: &str = concat!(
    " <svg xmlns=\"http://www.w3.org/2000/svg\" width=\"30\" height=\"14\" viewBox=\"0 0 30 14\" role=\"img\" ",
    "aria-label=\"California Consumer Privacy Act (CCPA) Opt-Out Icon\">",
    "<rect x=\".5\" y=\".5\" width=\"29\" height=\"13\" rx=\"6.5\" fill=\"#fff\" stroke=\"#06f\"/>",
    "<path d=\"M17 .5h6a6.5 6.5 0 0 1 0 13H13.5z\" fill=\"#06f\"/>",
    "<path d=\"M6 7.2l2.2 2.3 4-5\" fill=\"none\" stroke=\"#06f\" stroke-width=\"1.6\"/>",
    "<path d=\"M19.5 4.5l5 5m0-5l-5 5\" fill=\"none\" stroke=\"#fff\" stroke-width=\"1.6\"/>",
    "</svg>"
);

/// What is said beside the link when the opt-out is in force.
pub(super) fn status(keeps_programme: bool) -> &'static str {
    if keeps_programme { &STATUS_BUT_PROGRAMME } else { &STATUS }
}

/// Appends the whole line that is inserted. `address` is the portal's, absolute on pages with a foreign base; `status`
/// is empty where no opt-out is in force.
pub(super) fn line(title: LinkTitle, address: &str, status: &str, out: &mut String) {
    let icon = if title == LinkTitle::PrivacyChoices { ICON } else { "" };
    let address = attribute(address);
    for part in
        ["<p class=\"ogc-line\"><a href=\"", &address, "\">", title.words(), icon, "</a>", status, "</p>"]
    {
        out.push_str(part);
    }
}

fn attribute(value: &str) -> String {
    value.replace('&', "&amp;").replace('"', "&quot;")
}

/// Whether an anchor's text is one of the prescribed titles, after folding white space and case.
///
/// The bytes are the page's, in whatever charset; a no-break space in UTF-8 must fold too.
pub(super) fn is_title(text: &[u8]) -> bool {
    let utf8 = String::from_utf8_lossy(text);
    let decoded = decode(&utf8, Place::Text);
    let mut folded = String::with_capacity(decoded.len());
    for word in
        decoded.split(|c: char| c.is_whitespace() || matches!(c, '\u{fffd}' | '\u{200b}' | '\u{feff}'))
    {
        if !word.is_empty() {
            if !folded.is_empty() {
                folded.push(' ');
            }
            folded.push_str(word);
        }
    }
    folded.make_ascii_lowercase();
    TITLES.contains(&folded.as_str())
}

/// What has become of the link so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Placed {
    /// Not wanted in this body.
    Unwanted,
    /// Its place has not come.
    Waiting,
    /// The page brought its own before.
    Adopted,
    /// Ours is in.
    Inserted,
}

/// Follows the document until the link has its place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Link {
    /// What has become of it.
    pub placed: Placed,
    /// A link of the page's own came after ours.
    pub duplicate: bool,
    /// Open article, section and aside elements: their footers are not the page's.
    pub sections: u32,
    /// The page's footer has been found; later ones are not asked.
    pub footer: bool,
    /// The outermost body has been found.
    pub body: bool,
    /// A frameset came first: nothing of ours would be shown.
    pub frameset: bool,
    /// Open SVG elements inside the anchor: an icon's title is not the link's.
    pub drawings: u32,
    anchor: Option<Anchor>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Anchor {
    id: u32,
    text: Vec<u8>,
    /// It can no longer be a title.
    other: bool,
}

/// Bytes that a title can begin with: its own letters, a reference, or a space that is not ASCII.
pub(super) const fn begins_title(byte: u8) -> bool {
    matches!(byte, b'd' | b'D' | b'y' | b'Y' | b'&' | 0x80..)
}

impl Link {
    /// Before the first byte.
    pub(super) const fn new(wanted: bool) -> Self {
        Self {
            placed: if wanted { Placed::Waiting } else { Placed::Unwanted },
            duplicate: false,
            sections: 0,
            footer: false,
            body: false,
            frameset: false,
            drawings: 0,
            anchor: None,
        }
    }

    /// Whether the page's own links matter here.
    pub(super) fn is_wanted(&self) -> bool {
        self.placed != Placed::Unwanted
    }

    /// Whether ours is to be put in, when its place comes.
    pub(super) fn is_awaited(&self) -> bool {
        self.placed == Placed::Waiting && !self.frameset
    }

    /// Its place has come: true once, if ours is to be put there.
    pub(super) fn takes_place(&mut self) -> bool {
        let takes = self.is_awaited();
        if takes {
            self.placed = Placed::Inserted;
        }
        takes
    }

    /// An `a href` begins; `id` names it for [`Link::anchor_ends`] while it is open.
    pub(super) fn anchor_begins(&mut self, id: u32) {
        self.drawings = 0;
        self.anchor = Some(Anchor { id, text: Vec::new(), other: false });
    }

    /// Whether an anchor is open.
    pub(super) const fn in_anchor(&self) -> bool {
        self.anchor.is_some()
    }

    /// The page's bytes inside the anchor, in pieces.
    ///
    /// Cost: nothing is kept of a text that does not begin like a title.
    pub(super) fn anchor_bytes(&mut self, text: &[u8]) {
        let Some(anchor) = self.anchor.as_mut() else { return };
        if self.drawings > 0 || anchor.other {
            return;
        }
        let text = if anchor.text.is_empty() {
            let white = text.iter().take_while(|b| b.is_ascii_whitespace() || **b == b'\x0B').count();
            &text[white..]
        } else {
            text
        };
        let Some(first) = text.first() else { return };
        let begins = !anchor.text.is_empty() || begins_title(*first);
        if !begins || anchor.text.len() + text.len() > ANCHOR_TEXT {
            anchor.other = true;
        } else {
            anchor.text.extend_from_slice(text);
        }
    }

    /// The anchor ends (`None`: whichever is open). True when it is the page's own link and now adopted.
    pub(super) fn anchor_ends(&mut self, id: Option<u32>) -> bool {
        if id.is_some_and(|id| self.anchor.as_ref().is_none_or(|a| a.id != id)) {
            return false;
        }
        let Some(anchor) = self.anchor.take() else { return false };
        if anchor.other || !is_title(&anchor.text) {
            return false;
        }
        match self.placed {
            Placed::Waiting => {
                self.placed = Placed::Adopted;
                true
            }
            Placed::Inserted => {
                self.duplicate = true;
                false
            }
            Placed::Unwanted | Placed::Adopted => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::characters::as_bytes;
    use super::*;

    /// 11 CCR 7015: the words are prescribed, and only white space and case may differ.
    #[test]
    fn only_the_prescribed_titles_count_as_the_pages_own_link() {
        for (text, expected) in [
            ("Do Not Sell or Share My Personal Information", true),
            ("  do not\n sell OR share&nbsp;my personal information ", true),
            ("Your\u{c2}\u{a0}Privacy Choices", true),
            ("Your\u{a0}Privacy Choices", true),
            ("Your California Privacy Choices", true),
            ("Your Privacy Choice", false),
            ("Privacy Choices", false),
            ("Do Not Sell My Personal Information", false),
            ("Your Privacy Choices!", false),
            ("", false),
        ] {
            let bytes = as_bytes(text);
            assert_eq!(is_title(&bytes), expected, "{text:?}");
        }
    }

    /// ASCII only, the exact words, the exact status.
    #[test]
    fn the_line_says_the_prescribed_words_in_ascii() {
        let written = |title, address, status| {
            let mut out = String::new();
            line(title, address, status, &mut out);
            out
        };
        assert_eq!(
            written(LinkTitle::DoNotSell, "/privacy-choices", ""),
            "<p class=\"ogc-line\"><a href=\"/privacy-choices\">Do Not Sell or Share My Personal Information</a></p>"
        );
        let choices = written(LinkTitle::PrivacyChoices, "/a&b", status(false));
        assert!(choices.is_ascii());
        assert!(choices.contains("href=\"/a&amp;b\">Your Privacy Choices <svg "), "{choices}");
        assert!(
            choices.ends_with(
                "</a> <span class=\"ogc-status\" role=\"status\">Opt-Out Request Honored</span></p>"
            )
        );
        assert!(!choices.contains("style") && !choices.contains("script"));
        let kept = written(LinkTitle::DoNotSell, "/", status(true));
        assert!(kept.is_ascii());
        assert!(
            kept.ends_with(">Opt-Out Request Honored, except for the programme you keep</span></p>"),
            "{kept}"
        );
    }
}
