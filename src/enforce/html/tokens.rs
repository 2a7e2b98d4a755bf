//! The tokenizer: finds tags and texts (HTML 13.2.5), and makes nothing of them.
//!
//! It reads from one buffer and says how much of it it is done with; the caller brings the rest again, first,
//! with more behind it. What it reports does not depend on where the input was cut.

use super::context::{Context, Space, Text, name};
use super::tag::{Name, is_space};

/// A whole tag.
#[derive(Debug, Clone, Copy)]
pub(super) struct Tag<'a> {
    /// Name.
    pub name: Name,
    /// From `<` to `>`.
    pub raw: &'a [u8],
    /// Place of its `<` in the buffer.
    pub at: usize,
    /// Written with `/>`.
    pub self_closing: bool,
    /// Namespace it stands in.
    pub space: Space,
    /// End tags that have to go before it, or readers might take it for something else.
    pub before: &'a [u8],
    /// A `frameset` that has to go for the same reason.
    pub stray: bool,
    /// Its values may hold what a reader takes for an end tag and markup behind it.
    pub hides: bool,
}

impl<'a> Tag<'a> {
    /// Name of a start tag, as written.
    pub(super) fn text(&self) -> &'a [u8] {
        let behind = self.raw.get(1..).unwrap_or_default();
        let length = behind.iter().position(|b| ENDS_NAME[usize::from(*b)]).unwrap_or(behind.len());
        &behind[..length]
    }

    /// The place behind its `>` in the buffer.
    pub(super) const fn end(&self) -> usize {
        self.at + self.raw.len()
    }
}

/// What a pass wants to hear.
pub(super) trait Watch {
    /// A start tag.
    fn start(&mut self, tag: &Tag<'_>);
    /// An end tag.
    fn end(&mut self, tag: &Tag<'_>);
    /// A piece of ordinary text (not of a script, title, comment and so on), and its place in the buffer.
    fn text(&mut self, text: &[u8], at: usize);
    /// A piece of the text of an element that holds no markup: a script, a style sheet, a title. `last`: it ends
    /// with this piece, which may be empty.
    fn raw(&mut self, _text: &[u8], _at: usize, _last: bool) {}
    /// A piece of a CDATA section.
    fn literal(&mut self, _text: &[u8], _at: usize, _last: bool) {}
    /// Ordinary text is interrupted by something that is no element: a comment, a declaration.
    fn gap(&mut self, _at: usize) {}
    /// A piece of a comment in which a reader may find an end tag, and markup behind it.
    fn remark(&mut self, _text: &[u8], _at: usize) {}
    /// A comment that readers may take for a CDATA section: its `!`, at this place, has to be a `?`.
    fn doubt(&mut self, _at: usize) {}
    /// Whether an element of this name may be open.
    fn is_open(&mut self, _name: Name) -> bool {
        false
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mode {
    Data,
    Tag,
    /// Between `<!--` and the end; the offset of the first byte of its content.
    Comment(usize),
    /// To the next `>`: bogus comments and doctypes, in which a quote has no meaning.
    Bogus,
    Cdata,
    Raw,
    Script(Escape),
    Plain,
}

/// Scripts that hold `<!--` (HTML 13.2.5.15-31).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Escape {
    None,
    Once,
    Twice,
}

/// Where inside a tag the reading stands (HTML 13.2.5.8, 32-40).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Part {
    Name,
    BeforeAttribute,
    Attribute,
    AfterAttribute,
    BeforeValue,
    Quoted(u8),
    Bare,
    Slash,
}

/// The tag under way; offsets count from its `<`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Open {
    end: bool,
    name: Name,
    part: Part,
    offset: usize,
}

enum Step {
    /// Go on from here.
    Go(usize),
    /// More input is needed; everything from here on has to come again.
    Wait(usize),
}

/// See the module's head.
#[derive(Debug, Clone)]
pub(super) struct Tokens {
    context: Context,
    mode: Mode,
    open: Open,
    /// The element whose raw text is read.
    raw: Name,
    /// Bytes behind the kept place that were looked at already.
    seen: usize,
}

const NO_TAG: Open = Open { end: false, name: Name(0), part: Part::Name, offset: 0 };

impl Tokens {
    /// At the start of a document.
    pub(super) const fn new() -> Self {
        Self { context: Context::new(), mode: Mode::Data, open: NO_TAG, raw: Name(0), seen: 0 }
    }

    /// Whether what is left over is a tag under way.
    pub(super) fn is_in_tag(&self) -> bool {
        self.mode == Mode::Tag
    }

    /// Whether both would find the same in whatever comes next, from the same kept bytes on.
    pub(super) fn stands_as(&self, other: &Self) -> bool {
        // What the other fields hold is left over from what went before.
        let alike = match self.mode {
            Mode::Tag => self.open == other.open,
            Mode::Raw | Mode::Script(_) => self.raw == other.raw,
            Mode::Comment(_) => self.seen == other.seen,
            Mode::Data | Mode::Bogus | Mode::Cdata | Mode::Plain => true,
        };
        self.mode == other.mode && alike && self.context == other.context
    }

    /// Reads a buffer and answers how many bytes of it are done with.
    ///
    /// Cost: 0.1-0.3 ns a byte of text and quoted values, about 10 ns a tag.
    pub(super) fn read(&mut self, buf: &[u8], watch: &mut impl Watch) -> usize {
        let mut at = 0;
        loop {
            let step = match self.mode {
                Mode::Data => self.data(buf, at, watch),
                Mode::Tag => self.tag(buf, at, watch),
                Mode::Comment(start) => {
                    let step = self.comment(buf, at, start);
                    if self.context.depth() > 0 && self.context.seems_raw() {
                        let (Step::Go(end) | Step::Wait(end)) = step;
                        watch.remark(&buf[at..end], at);
                    }
                    step
                }
                Mode::Bogus => self.until(buf, at, b">"),
                Mode::Cdata => self.cdata(buf, at, watch),
                Mode::Raw => {
                    let step = self.raw_text(buf, at);
                    Self::tell_raw(buf, at, step, watch)
                }
                Mode::Script(escape) => {
                    let step = self.script(buf, at, escape);
                    Self::tell_raw(buf, at, step, watch)
                }
                Mode::Plain => Step::Wait(buf.len()),
            };
            match step {
                Step::Go(next) => at = next,
                Step::Wait(keep) => return keep,
            }
        }
    }

    /// How deep foreign content is nested, for the memory limit.
    pub(super) const fn depth(&self) -> usize {
        self.context.depth()
    }

    fn data(&mut self, buf: &[u8], at: usize, watch: &mut impl Watch) -> Step {
        let rest = &buf[at..];
        let text = match rest.first() {
            Some(b'<') => 0,
            _ => memchr::memchr(b'<', rest).unwrap_or(rest.len()),
        };
        if text > 0 {
            self.context.text(&rest[..text]);
            watch.text(&rest[..text], at);
        }
        let start = at + text;
        match (buf.get(start + 1), buf.get(start + 2)) {
            (Some(b), _) if b.is_ascii_alphabetic() => {
                self.open = Open { offset: 1, ..NO_TAG };
                self.tag(buf, start, watch)
            }
            (Some(b'/'), Some(b)) if b.is_ascii_alphabetic() => {
                self.open = Open { end: true, offset: 2, ..NO_TAG };
                self.tag(buf, start, watch)
            }
            (Some(b'/'), Some(b'>')) => {
                watch.gap(start);
                Step::Go(start + 3)
            }
            (Some(b'/'), Some(_)) | (Some(b'?'), _) => {
                watch.gap(start);
                self.mode = Mode::Bogus;
                Step::Go(start + 2)
            }
            (Some(b'!'), _) => {
                watch.gap(start);
                self.declaration(buf, start, watch)
            }
            (None, _) | (Some(b'/'), None) => Step::Wait(start),
            _ => {
                self.context.text(b"<");
                watch.text(b"<", start);
                Step::Go(start + 1)
            }
        }
    }

    /// `<!`: a comment, a CDATA section, or something that ends at the next `>`.
    fn declaration(&mut self, buf: &[u8], start: usize, watch: &mut impl Watch) -> Step {
        let rest = &buf[start + 2..];
        let cdata = self.context.takes_cdata();
        for (sign, mode, allowed) in
            [(&b"--"[..], Mode::Comment(0), true), (b"[CDATA[", Mode::Cdata, cdata != Some(false))]
        {
            if allowed && rest.starts_with(sign) {
                if mode == Mode::Cdata && cdata.is_none() {
                    watch.doubt(start + 1);
                    break;
                }
                self.mode = mode;
                self.seen = 0;
                return Step::Go(start + 2 + sign.len());
            }
            if allowed && sign.starts_with(rest) {
                return Step::Wait(start);
            }
        }
        self.mode = Mode::Bogus;
        Step::Go(start + 2)
    }

    /// A comment ends at the first `>` behind `--` or `--!`, and at once behind `<!--` or `<!---`.
    ///
    /// `at` is the first byte that was kept, `seen` counts the kept bytes that were looked at, and `start`
    /// says how many bytes of content went before.
    fn comment(&mut self, buf: &[u8], at: usize, start: usize) -> Step {
        let mut from = at + self.seen;
        while let Some(found) = memchr::memchr(b'>', &buf[from..]) {
            let end = from + found;
            let content = &buf[at..end];
            let short = start == 0 && matches!(content, b"" | b"-");
            if short || content.ends_with(b"--") || content.ends_with(b"--!") {
                self.mode = Mode::Data;
                return Step::Go(end + 1);
            }
            from = end + 1;
        }
        let keep = at.max(buf.len().saturating_sub(3));
        self.mode = Mode::Comment(start + (keep - at));
        self.seen = buf.len() - keep;
        Step::Wait(keep)
    }

    /// Passes over everything to a sign, that included.
    fn until(&mut self, buf: &[u8], at: usize, sign: &[u8]) -> Step {
        if let Some(found) = memchr::memmem::find(&buf[at..], sign) {
            self.mode = Mode::Data;
            return Step::Go(at + found + sign.len());
        }
        Step::Wait(at.max(buf.len().saturating_sub(sign.len() - 1)))
    }

    fn cdata(&mut self, buf: &[u8], at: usize, watch: &mut impl Watch) -> Step {
        let step = self.until(buf, at, b"]]>");
        let (end, last) = match step {
            Step::Go(next) => (next - 3, true),
            Step::Wait(keep) => (keep, false),
        };
        self.context.text(&buf[at..end]);
        watch.literal(&buf[at..end], at, last);
        step
    }

    /// Passes on what was read of a raw text.
    fn tell_raw(buf: &[u8], at: usize, step: Step, watch: &mut impl Watch) -> Step {
        match step {
            Step::Go(end) => watch.raw(&buf[at..end], at, true),
            Step::Wait(keep) if keep > at => watch.raw(&buf[at..keep], at, false),
            Step::Wait(_) => {}
        }
        step
    }

    /// Ends the input: what was left over of a text is its end.
    pub(super) fn end(&mut self, left: &[u8], watch: &mut impl Watch) {
        match self.mode {
            Mode::Raw | Mode::Script(_) => watch.raw(left, 0, true),
            Mode::Cdata => watch.literal(left, 0, true),
            _ => {}
        }
    }

    /// Reads a tag from its `<` at `start` to its end.
    fn tag(&mut self, buf: &[u8], start: usize, watch: &mut impl Watch) -> Step {
        let mut at = start + self.open.offset;
        let mut part = self.open.part;
        let self_closing = loop {
            let Some(&byte) = buf.get(at) else {
                self.open = Open { part, offset: at - start, ..self.open };
                self.mode = Mode::Tag;
                return Step::Wait(start);
            };
            match part {
                Part::BeforeAttribute | Part::AfterAttribute => match byte {
                    b'>' => break false,
                    b'/' => part = Part::Slash,
                    b'=' if part == Part::AfterAttribute => part = Part::BeforeValue,
                    _ if is_space(byte) => {}
                    // The first byte of a name belongs to it, whatever it is.
                    _ => part = Part::Attribute,
                },
                Part::Slash if byte == b'>' => break true,
                Part::BeforeValue => match byte {
                    b'>' => break false,
                    b'"' | b'\'' => part = Part::Quoted(byte),
                    _ if is_space(byte) => {}
                    _ => part = Part::Bare,
                },
                Part::Quoted(quote) => match memchr::memchr(quote, &buf[at..]) {
                    Some(length) => {
                        at += length;
                        part = Part::BeforeAttribute;
                    }
                    None => at = buf.len() - 1,
                },
                Part::Name | Part::Slash | Part::Attribute | Part::Bare => {
                    at += run(&buf[at..], part);
                    if at < buf.len() {
                        if part == Part::Name {
                            self.open.name = Name::of(&buf[start + 1 + usize::from(self.open.end)..at]);
                        }
                        let named = part == Part::Attribute;
                        part = if named { Part::AfterAttribute } else { Part::BeforeAttribute };
                    }
                    continue;
                }
            }
            at += 1;
        };
        self.finish(buf, start, at + 1, self_closing, watch);
        Step::Go(at + 1)
    }

    fn finish(&mut self, buf: &[u8], at: usize, end: usize, self_closing: bool, watch: &mut impl Watch) {
        let (name, raw) = (self.open.name, &buf[at..end]);
        self.mode = Mode::Data;
        let hides = self.context.depth() > 0
            && memchr::memmem::find(&raw[2..], b"</").is_some()
            && self.context.seems_raw();
        let mut tag =
            Tag { name, raw, at, self_closing, space: Space::Html, before: &[], stray: false, hides };
        if self.open.end {
            let meaning = self.context.end(name, || watch.is_open(name));
            watch.end(&Tag { space: self.context.space(), before: &meaning.before, ..tag });
            return;
        }
        let (text, meaning) = self.context.start(name, tag.text(), raw, self_closing);
        self.mode = match text {
            Text::Data => Mode::Data,
            Text::Raw => Mode::Raw,
            Text::Script => Mode::Script(Escape::None),
            Text::Plain => Mode::Plain,
        };
        self.raw = name;
        let space = match (self.context.space(), name) {
            // Nothing stands in it.
            (Space::Html, name::SVG) => Space::Svg,
            (Space::Html, name::MATH) => Space::Math,
            (space, _) => space,
        };
        tag = Tag { space, before: &meaning.before, stray: meaning.stray, ..tag };
        watch.start(&tag);
    }

    /// Raw text ends at the element's own end tag.
    fn raw_text(&mut self, buf: &[u8], at: usize) -> Step {
        let mut from = at;
        while let Some(found) = memchr::memchr(b'<', &buf[from..]) {
            let start = from + found;
            match self.own_end(buf, start) {
                Some(true) => return Step::Go(start),
                Some(false) => from = start + 1,
                None => return Step::Wait(start),
            }
        }
        Step::Wait(buf.len())
    }

    /// Whether the end tag of the raw text's element is at `start`; `None` if more input is needed. If it is,
    /// the next mode is the tag's.
    fn own_end(&mut self, buf: &[u8], start: usize) -> Option<bool> {
        if *buf.get(start + 1)? != b'/' {
            return Some(false);
        }
        let name = &buf[start + 2..];
        // No name of such an element is longer.
        let length = name.iter().take(12).take_while(|b| b.is_ascii_alphabetic()).count();
        let behind = name.get(length)?;
        if Name::of(&name[..length]) != self.raw || !ENDS_NAME[usize::from(*behind)] {
            return Some(false);
        }
        self.open = Open { end: true, name: self.raw, part: Part::BeforeAttribute, offset: 2 + length };
        self.mode = Mode::Tag;
        Some(true)
    }

    /// A script, in which `<!--` and `<script` hide the end tag.
    fn script(&mut self, buf: &[u8], at: usize, mut escape: Escape) -> Step {
        let mut from = at;
        let keep = loop {
            let rest = &buf[from..];
            let found = match escape {
                Escape::None => memchr::memchr(b'<', rest),
                Escape::Once | Escape::Twice => memchr::memchr2(b'<', b'-', rest),
            };
            let Some(found) = found else { break buf.len() };
            let start = from + found;
            if buf[start] == b'-' {
                let dashes = buf[start..].iter().take_while(|b| **b == b'-').count();
                from = start + dashes;
                match buf.get(from) {
                    // Two of them are as good as more.
                    None => break start.max(buf.len().saturating_sub(2)),
                    Some(b'>') if dashes >= 2 => escape = Escape::None,
                    Some(_) => {}
                }
                continue;
            }
            if escape != Escape::Twice {
                match self.own_end(buf, start) {
                    Some(true) => return Step::Go(start),
                    Some(false) => {}
                    None => break start,
                }
            }
            let (sign, next) = match escape {
                Escape::None => (&b"<!--"[..], Escape::Once),
                Escape::Once => (&b"<script"[..], Escape::Twice),
                Escape::Twice => (&b"</script"[..], Escape::Once),
            };
            match hidden(&buf[start..], sign) {
                None => break start,
                // The dashes of `<!--` may be those of `-->`.
                Some(true) if escape == Escape::None => {
                    escape = next;
                    from = start + 2;
                }
                Some(true) => {
                    escape = next;
                    from = start + sign.len() + 1;
                }
                Some(false) => from = start + 1,
            }
        };
        self.mode = Mode::Script(escape);
        Step::Wait(keep)
    }
}

/// Whether a sign that changes how a script is read is here; a tag's name must end behind it.
fn hidden(rest: &[u8], sign: &[u8]) -> Option<bool> {
    let length = rest.len().min(sign.len());
    if !rest[..length].eq_ignore_ascii_case(&sign[..length]) {
        return Some(false);
    }
    if sign.ends_with(b"--") {
        return (length == sign.len()).then_some(true);
    }
    rest.get(sign.len()).map(|b| ENDS_NAME[usize::from(*b)])
}

/// Length of what belongs to a name or an unquoted value; nothing belongs to a slash.
fn run(rest: &[u8], part: Part) -> usize {
    let ends = match part {
        Part::Name => &ENDS_NAME,
        Part::Attribute => &ENDS_ATTRIBUTE,
        Part::Bare => &ENDS_VALUE,
        _ => return 0,
    };
    rest.iter().position(|b| ends[usize::from(*b)]).unwrap_or(rest.len())
}

const fn table(signs: &[u8]) -> [bool; 256] {
    let mut table = [false; 256];
    let mut at = 0;
    while at < signs.len() {
        table[signs[at] as usize] = true;
        at += 1;
    }
    table
}

const ENDS_NAME: [bool; 256] = table(b" \t\n\r\x0C/>");
const ENDS_ATTRIBUTE: [bool; 256] = table(b" \t\n\r\x0C/>=");
const ENDS_VALUE: [bool; 256] = table(b" \t\n\r\x0C>");

#[cfg(test)]
mod tests {
    use std::borrow::Cow;
    use std::cell::RefCell;
    use std::rc::Rc;

    use lol_html::html_content::{Element, EndTag};
    use lol_html::{ElementContentHandlers, HtmlRewriter, Settings};
    use proptest::prelude::*;

    use super::super::characters::as_text;
    use super::super::context::is_void;
    use super::super::opened::{Opened, Role};
    use super::super::testing;
    use super::*;

    /// An element: its name, the place of its start tag, its namespace, and where the tag that closed it begins.
    type Found = (String, usize, Space, Option<usize>);

    #[derive(Default)]
    struct Elements {
        base: usize,
        found: Vec<Found>,
        open: Vec<usize>,
        opened: Option<Opened>,
        /// End tags had to be added: the other one does not ask for any.
        doubts: bool,
    }

    impl Watch for Elements {
        fn start(&mut self, tag: &Tag<'_>) {
            self.doubts |= !tag.before.is_empty();
            let name = as_text(tag.text()).to_ascii_lowercase();
            self.found.push((name, self.base + tag.at, tag.space, None));
            let content = if tag.space == Space::Html { !is_void(tag.name) } else { !tag.self_closing };
            if content {
                self.opened.get_or_insert_with(Opened::new).push(tag.name, Role::Plain);
                self.open.push(self.found.len() - 1);
            }
        }

        fn end(&mut self, tag: &Tag<'_>) {
            self.doubts |= !tag.before.is_empty();
            let Some(opened) = &mut self.opened else { return };
            let Some(closed) = opened.closes(tag.name) else { return };
            while opened.depth() > closed {
                opened.pop();
                let element = self.open.pop().unwrap();
                self.found[element].3 = Some(self.base + tag.at);
            }
        }

        fn text(&mut self, _: &[u8], _: usize) {}

        /// The other one asks what may stand in an element, and not for the element, when a CDATA section begins.
        fn literal(&mut self, _: &[u8], _: usize, _: bool) {
            let current = self.open.last().map_or("", |element| self.found[*element].0.as_str());
            self.doubts |= POINTS.contains(&current);
        }

        fn doubt(&mut self, _: usize) {
            self.doubts = true;
        }
    }

    /// Elements in which HTML stands.
    const POINTS: [&str; 9] =
        ["desc", "title", "foreignobject", "mi", "mo", "mn", "ms", "mtext", "annotation-xml"];

    /// `None`: the two cannot agree.
    fn by_us(page: &[u8], size: usize) -> Option<Vec<Found>> {
        let (mut tokens, mut elements, mut held) = (Tokens::new(), Elements::default(), Vec::new());
        for piece in page.chunks(size) {
            held.extend_from_slice(piece);
            let done = tokens.read(&held, &mut elements);
            held.drain(..done);
            elements.base += done;
        }
        (!elements.doubts).then_some(elements.found)
    }

    fn by_lol_html(page: &[u8]) -> Vec<Found> {
        let found: Rc<RefCell<Vec<Found>>> = Rc::default();
        let shared = Rc::clone(&found);
        let handler = move |el: &mut Element<'_, '_>| {
            let space = match el.namespace_uri() {
                "http://www.w3.org/1999/xhtml" => Space::Html,
                "http://www.w3.org/2000/svg" => Space::Svg,
                _ => Space::Math,
            };
            let place = el.source_location().bytes().start;
            shared.borrow_mut().push((el.tag_name(), place, space, None));
            let (at, inner) = (shared.borrow().len() - 1, Rc::clone(&shared));
            if let Some(handlers) = el.end_tag_handlers() {
                handlers.push(Box::new(move |end: &mut EndTag<'_>| {
                    inner.borrow_mut()[at].3 = Some(end.source_location().bytes().start);
                    Ok(())
                }));
            }
            Ok(())
        };
        let handlers = ElementContentHandlers::default().element(handler);
        let encoding = lol_html::AsciiCompatibleEncoding::new(encoding_rs::WINDOWS_1252).unwrap();
        let settings = Settings::new()
            .with_encoding(encoding)
            .with_strict(false)
            .append_element_content_handler((Cow::Owned("*".parse().unwrap()), handlers));
        let mut rewriter = HtmlRewriter::new(settings, |_: &[u8]| ());
        rewriter.write(page).unwrap();
        rewriter.end().unwrap();
        found.take()
    }

    /// HTML 13.2.5 and 13.2.6.5, on every page of the fixtures and the corpus: a tokenizer of other hands finds the
    /// same elements, in the same namespaces, closed by the same tags.
    #[test]
    fn pages_have_the_elements_that_another_tokenizer_finds() {
        let mut read = 0;
        for path in testing::pages() {
            let page = std::fs::read(&path).unwrap();
            // It knows nothing of frames, and not that `mglyph` is an element of MathML.
            let path_text = path.to_string_lossy();
            if ["frameset-", "mathml"].iter().any(|case| path_text.contains(case)) {
                continue;
            }
            let expected = by_lol_html(&page);
            for size in [page.len().max(1), 1_021].into_iter().take(if page.len() < 300_000 { 2 } else { 1 })
            {
                assert!(
                    by_us(&page, size).is_none_or(|found| found == expected),
                    "{}, pieces of {size}",
                    path.display()
                );
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
        "<title>",
        "</title>",
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
        "<svg><title>a</title><style><a b='</style>'></style><g/></svg>",
        "<svg><desc><p>a</p><title><g></title><svg><style></style></svg></desc><path/></svg>",
        "<svg><desc><![CDATA[ > <style> ]]></desc></svg>",
        "<svg><g><p>",
        "<svg><font size=1>",
        "<math><mi><p>a</p></mi><annotation-xml encoding=text/html><b>a</b></annotation-xml><mo/></math>",
        "<svg></g></path></svg>",
        "</footer x",
        "\u{e9}",
        "\u{a0}",
        "\n",
    ];

    proptest! {
        #![proptest_config(ProptestConfig { cases: 3_000, failure_persistence: None, ..ProptestConfig::default() })]

        /// Whatever the page is, and however it was cut. The other one knows nothing of what is open: foreign content is
        /// whole here.
        #[test]
        fn no_soup_has_elements_that_another_tokenizer_does_not_find(
            parts in proptest::collection::vec(proptest::sample::select(SOUP), 0..24),
            size in 1_usize..40,
        ) {
            let page = parts.concat();
            let expected = by_lol_html(page.as_bytes());
            let found = by_us(page.as_bytes(), size);
            prop_assert_eq!(found.as_ref().unwrap_or(&expected), &expected, "{:?}, pieces of {}", page, size);
        }
    }
}
