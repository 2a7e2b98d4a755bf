//! White space and comments in a script (ECMAScript 12.2-12.4).

use std::collections::HashMap;

/// Line ends: as ASCII, as the bytes of U+2028 and U+2029 in UTF-8, and as references stand for them.
pub(super) const LINE_ENDS: [&str; 7] =
    ["\r\n", "\n", "\r", "\u{e2}\u{20ac}\u{a8}", "\u{e2}\u{20ac}\u{a9}", "\u{f2028}", "\u{f2029}"];

/// Where a line ends (ECMAScript 12.3); the ends of other scripts stand here in their bytes.
pub(super) fn line_end(text: &str) -> Option<usize> {
    line_ends(text).next()
}

fn line_ends(text: &str) -> impl Iterator<Item = usize> {
    let first = |c: char| matches!(c, '\n' | '\r' | '\u{e2}' | '\u{f2028}' | '\u{f2029}');
    text.match_indices(first).map(|(at, _)| at).filter(|at| is_line_end(&text[*at..]).is_some())
}

/// Length of the line end that a text begins with.
fn is_line_end(text: &str) -> Option<usize> {
    LINE_ENDS.iter().find(|end| text.starts_with(*end)).map(|end| end.len())
}

/// What may stand between words, white space apart.
enum Comment {
    Line,
    Block,
    /// A line's end that is no white space in the page's bytes, so long.
    End(usize),
}

impl Comment {
    fn of(rest: &str) -> Option<Self> {
        match rest.get(..2) {
            _ if rest.starts_with(['\u{e2}', '\u{f2028}', '\u{f2029}']) => is_line_end(rest).map(Self::End),
            Some("/*") => Some(Self::Block),
            Some("//") => Some(Self::Line),
            _ => None,
        }
    }

    /// Also those that look like HTML's (ECMAScript B.1.1): where no operator may stand, for both begin with one.
    fn behind_word(rest: &str) -> Option<Self> {
        let html = rest.starts_with("<!--") || rest.starts_with("-->");
        if html { Some(Self::Line) } else { Self::of(rest) }
    }
}

/// The place behind white space and comments that follow a word behind which no operator may stand, like `import`.
pub(super) fn behind_word(script: &str, at: usize) -> usize {
    skipped(script, at, Comment::behind_word)
}

/// The place behind white space and comments.
pub(super) fn behind(script: &str, at: usize) -> usize {
    skipped(script, at, Comment::of)
}

fn skipped(script: &str, mut at: usize, comment: fn(&str) -> Option<Comment>) -> usize {
    loop {
        let rest = script[at..].trim_start();
        at = script.len() - rest.len();
        let length = match comment(rest) {
            Some(Comment::End(length)) => Some(length),
            Some(Comment::Block) => rest[2..].find("*/").map(|end| 2 + end + 2),
            Some(Comment::Line) => line_end(rest),
            None => None,
        };
        match length {
            Some(length) => at += length,
            None => return at,
        }
    }
}

/// [`behind`] for many places of one script. Every word of a comment may lead into the next one: each is read once
/// all the same, or a comment in the data of a page would cost its length squared.
#[derive(Debug)]
pub(super) struct Gaps<'a> {
    script: &'a str,
    /// Where lines and block comments end, once a comment was met.
    ends: Option<Ends>,
    /// Places behind a comment, and the place behind all that stands there.
    known: HashMap<usize, usize>,
}

#[derive(Debug)]
struct Ends {
    lines: Vec<usize>,
    blocks: Vec<usize>,
}

impl Ends {
    fn read(script: &str) -> Self {
        looked(script.len());
        let blocks = memchr::memmem::find_iter(script.as_bytes(), "*/").collect();
        Self { lines: line_ends(script).collect(), blocks }
    }
}

impl<'a> Gaps<'a> {
    pub(super) fn of(script: &'a str) -> Self {
        Self { script, ends: None, known: HashMap::new() }
    }

    pub(super) const fn script(&self) -> &'a str {
        self.script
    }

    /// The place behind white space and comments.
    pub(super) fn behind(&mut self, mut at: usize) -> usize {
        let mut passed = Vec::new();
        let end = loop {
            let rest = self.script[at..].trim_start();
            let start = self.script.len() - rest.len();
            looked(start - at + 1);
            let Some(next) = self.comment(start) else { break start };
            if let Some(end) = self.known.get(&next) {
                break *end;
            }
            passed.push(next);
            at = next;
        };
        self.known.extend(passed.into_iter().map(|place| (place, end)));
        end
    }

    /// Where the comment at a place ends.
    fn comment(&mut self, at: usize) -> Option<usize> {
        let script = self.script;
        let kind = Comment::behind_word(&script[at..])?;
        if let Comment::End(length) = kind {
            return Some(at + length);
        }
        let ends = self.ends.get_or_insert_with(|| Ends::read(script));
        let from = |places: &[usize], at: usize| places.get(places.partition_point(|end| *end < at)).copied();
        match kind {
            Comment::Block => from(&ends.blocks, at + 2).map(|end| end + 2),
            _ => from(&ends.lines, at),
        }
    }
}

/// Counts the bytes that were looked at, for tests.
#[cfg_attr(not(test), allow(clippy::missing_const_for_fn))]
pub(super) fn looked(bytes: usize) {
    #[cfg(test)]
    tests::LOOKED.with(|all| all.set(all.get() + bytes));
    #[cfg(not(test))]
    let _ = bytes;
}

#[cfg(test)]
pub(super) mod tests {
    use std::cell::Cell;

    use super::*;

    thread_local! {
        pub(super) static LOOKED: Cell<usize> = const { Cell::new(0) };
    }

    /// How many bytes were looked at meanwhile.
    pub(in super::super) fn bytes_looked_at(run: impl FnOnce()) -> usize {
        let before = LOOKED.get();
        run();
        LOOKED.get() - before
    }

    /// ECMAScript 12.4: from every place, with the memory of all others and without.
    #[test]
    fn the_place_behind_a_gap_is_the_same_from_wherever_it_was_asked_before() {
        for script in [
            "a /* b // c\n */ // d */\n e /*/ f */ g /* h",
            "/**//*a*//**/ //b\r\n/* // */c//",
            "// \u{e2}\u{20ac}\u{a8}x\u{e2}\u{20ac}\u{a9} /* \u{f2028} */ y // \u{f2029}z",
            "/*/*/*//*/ \u{e9}",
            "<!-- a --> b\n --> c <!-- d\r\n/* <!-- */e<!--",
            "",
        ] {
            let mut gaps = Gaps::of(script);
            let places = || (0..=script.len()).filter(|at| script.is_char_boundary(*at));
            for at in places().chain(places().rev()) {
                assert_eq!(gaps.behind(at), behind_word(script, at), "{script:?} from {at}");
            }
        }
        assert_eq!((behind_word("<!-- a\n(", 0), behind("<!-- a\n(", 0)), (7, 0));
        // The end of a comment is none of its beginning.
        assert_eq!(behind("/*/ a */b", 0), 8);
    }
}
