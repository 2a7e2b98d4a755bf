//! Inline scripts: which ones run, at once (HTML, "prepare the script element") or later by a loader.

use std::borrow::Cow;
use std::collections::HashSet;
use std::iter;
use std::ops::Range;

use super::characters::push_meant;
use super::gaps::{Gaps, LINE_ENDS, looked};

/// JavaScript MIME type essences (MIME Sniffing 4.6).
const JAVASCRIPT: [&str; 16] = [
    "application/ecmascript",
    "application/javascript",
    "application/x-ecmascript",
    "application/x-javascript",
    "text/ecmascript",
    "text/javascript",
    "text/javascript1.0",
    "text/javascript1.1",
    "text/javascript1.2",
    "text/javascript1.3",
    "text/javascript1.4",
    "text/javascript1.5",
    "text/jscript",
    "text/livescript",
    "text/x-ecmascript",
    "text/x-javascript",
];

/// Types under which delaying loaders and consent managers park a script until they run it themselves.
/// Cloudflare's Rocket Loader writes a number before a real type, and others a prefix of their own, so
/// that any type with `javascript` in it counts too.
const PARKED: [&str; 5] =
    ["rocketlazyloadscript", "text/cjs", "text/partytown", "text/plain", "text/rocketscript"];

/// What the text of a script element is to a browser.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Holds {
    /// A script that runs, or is parked until a loader runs it.
    Script,
    /// Where imports of modules lead (HTML, 8.1.6.2).
    ImportMap,
    /// Which pages to load before they are asked for (Speculation Rules).
    Rules,
    /// What an AMP component is to send.
    Config,
    /// Which resources come in a file together (Web Bundles).
    Bundle,
}

/// What a script with these (decoded) attributes holds; `None` for state data and templates, which are
/// left alone.
pub(super) fn holds(kind: Option<&str>, language: Option<&str>) -> Option<Holds> {
    let is = |known: &str| kind.is_some_and(|kind| kind.trim_matches(SPACE).eq_ignore_ascii_case(known));
    if is("importmap") {
        Some(Holds::ImportMap)
    } else if is("speculationrules") {
        Some(Holds::Rules)
    } else if is("webbundle") {
        Some(Holds::Bundle)
    } else {
        executable(kind, language).then_some(Holds::Script)
    }
}

const SPACE: [char; 5] = [' ', '\t', '\n', '\r', '\x0C'];

/// Whether a script may run.
pub(super) fn executable(kind: Option<&str>, language: Option<&str>) -> bool {
    match (kind, language) {
        (Some(""), _) | (None, None | Some("")) => true,
        (Some(kind), _) => {
            let kind = kind.trim_matches(SPACE);
            let is = |known: &&str| kind.eq_ignore_ascii_case(known);
            is(&"module")
                || JAVASCRIPT.iter().any(&is)
                || PARKED.iter().any(is)
                || kind.to_ascii_lowercase().contains("javascript")
        }
        (None, Some(language)) => JAVASCRIPT
            .iter()
            .filter_map(|j| j.strip_prefix("text/"))
            .any(|j| language.eq_ignore_ascii_case(j)),
    }
}

/// An import in a script. No guard can stop one: what it names is changed, or judged on its way in.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Import<'a> {
    /// Where the quoted text stands.
    pub at: Range<usize>,
    /// What it says; nothing where no text is quoted.
    pub address: Cow<'a, str>,
    /// The text is all there is. Otherwise what is imported is known at run time only.
    pub whole: bool,
}

/// What a script imports (`import "x"`, `import("x")`, `... from "x"`). Found by their words, so that a text
/// about an import counts too; what several words lead to is given once.
///
/// Cost: two byte searches where there is none.
pub(super) fn imports(script: &str) -> impl Iterator<Item = Import<'_>> {
    let mut found = Imports { script, gaps: Gaps::of(script), met: HashSet::new() };
    let (mut called, mut named) = (words(script, "import"), words(script, "from"));
    iter::from_fn(move || {
        called.find_map(|at| found.called(at)).or_else(|| named.find_map(|at| found.named(at)))
    })
}

/// What leads to an import.
#[derive(Debug, PartialEq, Eq, Hash)]
enum By {
    Import,
    Phase,
    Call,
    From,
}

struct Imports<'a> {
    script: &'a str,
    gaps: Gaps<'a>,
    /// Places that were read: many words may lead to one, through the comment in which they stand.
    met: HashSet<(By, usize)>,
}

impl<'a> Imports<'a> {
    /// The place behind a gap; `None` if it was met before.
    fn behind(&mut self, at: usize, by: By) -> Option<usize> {
        let next = self.gaps.behind(at);
        self.met.insert((by, next)).then_some(next)
    }

    /// By the end of the word `import`.
    fn called(&mut self, at: usize) -> Option<Import<'a>> {
        let mut next = self.behind(at, By::Import)?;
        // `import.source(...)` and `import.defer(...)` (stage 3), but not `import.meta`.
        if self.script[next..].starts_with('.') {
            let phase = self.behind(next + 1, By::Phase)?;
            let length = name_length(&self.script[phase..]);
            looked(length);
            next = self.gaps.behind(phase + length);
        }
        match self.script[next..].chars().next() {
            Some('(') => {
                let next = self.behind(next + 1, By::Call)?;
                Some(self.argument(next))
            }
            Some('"' | '\'') => Some(quoted(self.script, next)),
            // White space of other scripts would stand here in its bytes.
            Some(other) if !other.is_ascii() => {
                Some(Import { at: next..next, address: "".into(), whole: false })
            }
            _ => None,
        }
    }

    /// By the end of the word `from`.
    fn named(&mut self, at: usize) -> Option<Import<'a>> {
        let next = self.behind(at, By::From)?;
        self.script[next..].starts_with(['"', '\'', '`']).then(|| quoted(self.script, next))
    }

    /// What a call of `import` is given, at the place behind the bracket.
    fn argument(&mut self, at: usize) -> Import<'a> {
        let script = self.script;
        if !script[at..].starts_with(['"', '\'', '`']) {
            return Import { at: at..at, address: "".into(), whole: false };
        }
        let mut import = quoted(script, at);
        let code = script[at..].starts_with('`') && script[import.at.clone()].contains("${");
        let end =
            script[import.at.end..].chars().next().map_or(script.len(), |c| import.at.end + c.len_utf8());
        import.whole = !code && script[self.gaps.behind(end)..].starts_with([')', ',']);
        import
    }
}

/// The stand-in for what an import asks for, by the type that stands behind its address (`with { type: "json" }`, also
/// as the second thing that a call is given). Chromium gives to a page what it has loaded under an address before
/// whatever the type, so that one address could not stand for all.
pub(super) fn stand_in(behind_address: &str) -> &'static str {
    let rest = behind_address.trim_start_matches(['"', '\'', '`']).trim_start();
    let given = ["with", "assert", ","].into_iter().find_map(|word| rest.strip_prefix(word));
    let table = given.and_then(|given| given.trim_start().strip_prefix('{')?.split_once('}'));
    match table.map_or("", |(attributes, _)| attributes) {
        attributes if attributes.contains("json") => "e.json",
        attributes if attributes.contains("css") => "e.css",
        _ => "e.mjs",
    }
}

/// Whether a script moves a frame, which no guard can hold while the frame is empty. By words, and rather
/// once too often.
pub(super) fn moves_frames(script: &str) -> bool {
    let (mut gaps, mut met) = (Gaps::of(script), HashSet::new());
    words(script, "location").any(|at| {
        let before = &script[..at - "location".len()];
        // What one place does not do, it does not for the next word that leads to it.
        !is_the_pages(before) && {
            let next = gaps.behind(at);
            met.insert((next, false)) && is_moved(&mut gaps, next, &mut met)
        }
    })
}

/// Objects whose `location` is the page's own: where that leads is the visitor's own step.
const PAGES: [&str; 9] = ["window", "document", "self", "top", "parent", "globalThis", "this", "w", "d"];

/// Whether a `location` behind this is the page's own, or nobody's.
fn is_the_pages(before: &str) -> bool {
    let Some(before) = before.trim_end().strip_suffix('.') else { return true };
    let before = before.trim_end().trim_end_matches('?');
    let owner = before.rsplit(|c| !in_a_name(c)).next().unwrap_or_default();
    PAGES.contains(&owner)
}

/// Whether a `location` is set by what stands behind it. `met`: places that were read, the names behind a dot apart.
fn is_moved(gaps: &mut Gaps<'_>, mut next: usize, met: &mut HashSet<(usize, bool)>) -> bool {
    let script = gaps.script();
    if script[next..].starts_with('.') {
        let from = gaps.behind(next + 1);
        if !met.insert((from, true)) {
            return false;
        }
        looked(name_length(&script[from..]));
        next = from + name_length(&script[from..]);
        match &script[from..next] {
            "replace" | "assign" => return true,
            "href" => next = gaps.behind(next),
            _ => return false,
        }
    }
    script[next..].starts_with('=') && !script[next..].starts_with("==")
}

/// The ends of a word in a script.
fn words<'a>(script: &'a str, word: &'static str) -> impl Iterator<Item = usize> + 'a {
    let places = memchr::memmem::find_iter(script.as_bytes(), word);
    places.filter(|at| !script[..*at].ends_with(in_a_name)).map(|at| at + word.len())
}

fn in_a_name(c: char) -> bool {
    c.is_alphanumeric() || matches!(c, '_' | '$')
}

fn name_length(text: &str) -> usize {
    text.find(|c| !in_a_name(c)).unwrap_or(text.len())
}

/// The text in quotes that begins at a place.
fn quoted(script: &str, at: usize) -> Import<'_> {
    let quote = script.as_bytes()[at];
    let (from, mut escaped, mut carriage) = (at + 1, false, false);
    let ends = |byte: &u8| {
        // Two bytes may be one line's end.
        if *byte == b'\n' && std::mem::take(&mut carriage) {
            return false;
        }
        let over = !escaped && (*byte == quote || *byte == b'\n');
        carriage = escaped && *byte == b'\r';
        escaped = !escaped && *byte == b'\\';
        over
    };
    let to = script.as_bytes()[from..].iter().position(ends).map_or(script.len(), |length| from + length);
    looked(to - at);
    Import { at: from..to, address: unescaped(&script[from..to]), whole: true }
}

/// A text with its escapes resolved (ECMAScript 12.9.4).
fn unescaped(text: &str) -> Cow<'_, str> {
    if !text.contains('\\') {
        return text.into();
    }
    let (mut out, mut rest) = (String::with_capacity(text.len()), text);
    while let Some((plain, escape)) = rest.split_once('\\') {
        out.push_str(plain);
        let digits = |from: usize, to: usize| u32::from_str_radix(escape.get(from..to)?, 16).ok();
        let (code, length) = match escape.as_bytes() {
            [b'x', ..] => (digits(1, 3), 3),
            [b'u', b'{', ..] => {
                let end = escape.find('}').unwrap_or(2);
                (digits(2, end), end + 1)
            }
            [b'u', ..] => (digits(1, 5), 5),
            _ => (None, 0),
        };
        match code.and_then(char::from_u32) {
            Some(c) => {
                push_meant(c.encode_utf8(&mut [0; 4]), &mut out);
                rest = &escape[length..];
            }
            // Of itself, or of a line's end that means nothing.
            None => {
                let end = LINE_ENDS.iter().find(|end| escape.starts_with(*end)).map(|end| end.len());
                let first = escape.chars().next().filter(|_| end.is_none());
                out.extend(first);
                rest = &escape[end.unwrap_or_else(|| first.map_or(0, char::len_utf8))..];
            }
        }
    }
    out.push_str(rest);
    out.into()
}

/// What stands in a script instead of a vendor's snippet.
pub(super) fn emptied(vendor: &str) -> String {
    format!("/* optgate strip:{vendor} */")
}

#[cfg(test)]
mod tests {
    use super::super::gaps::tests::bytes_looked_at;
    use super::*;

    /// HTML 4.12.1.1, steps 8-13, and the types that loaders run later: a parked pixel is still a pixel.
    #[test]
    fn only_what_a_browser_or_a_loader_runs_is_executable() {
        for (kind, language, expected) in [
            (None, None, true),
            (Some(""), Some("vbscript"), true),
            (None, Some(""), true),
            (None, Some("JavaScript1.2"), true),
            (None, Some("vbscript"), false),
            (Some(" Text/JavaScript "), None, true),
            (Some("module"), None, true),
            (Some("application/ld+json"), None, false),
            (Some("application/json"), None, false),
            (Some("importmap"), None, false),
            (Some("text/plain"), None, true),
            (Some("rocketlazyloadscript"), None, true),
            (Some("837bc6f3918be9ef-text/javascript"), None, true),
            (Some("text/javascript; charset=utf-8"), None, true),
            (Some("text/x-template"), None, false),
            (Some(" "), None, false),
        ] {
            assert_eq!(executable(kind, language), expected, "{kind:?} {language:?}");
        }
        assert_eq!(holds(Some(" ImportMap"), None), Some(Holds::ImportMap));
        assert_eq!(holds(Some("speculationrules"), None), Some(Holds::Rules));
        assert_eq!(holds(Some("webbundle"), None), Some(Holds::Bundle));
        assert_eq!(holds(Some("application/json"), None), None);
    }

    /// Threat: a comment in the data of a page, with a word in it that may import, so that each such word costs as
    /// much as all that stands behind it.
    #[test]
    fn twice_the_script_takes_twice_the_work() {
        let long = |n: usize| "x".repeat(8 * n);
        let scripts: [&dyn Fn(usize) -> String; 14] = [
            &|n| "import//".repeat(n),
            &|n| "import/*".repeat(n),
            &|n| "f.location//".repeat(n),
            &|n| "f.location/*".repeat(n),
            &|n| "import/* ".repeat(n) + "*/",
            &|n| "import//".repeat(n) + "\n'" + &long(n),
            &|n| "from/*".repeat(n) + "*/'" + &long(n),
            &|n| "import(/*".repeat(n) + "*/'" + &long(n),
            &|n| "import/*".repeat(n) + "*/" + &"/**/".repeat(n),
            &|n| "/*import/**/".repeat(n),
            &|n| "import/*\nimport//\n* ".repeat(n) + "*/'" + &long(n),
            &|n| "f.location/*".repeat(n) + "*/." + &" ".repeat(8 * n),
            &|n| "f.location./*".repeat(n) + "*/" + &long(n),
            &|n| "import./*".repeat(n) + "*/" + &long(n),
        ];
        for (case, script) in scripts.iter().enumerate() {
            let work = |n: usize| {
                let script = script(n);
                bytes_looked_at(|| {
                    let _ = (imports(&script).count(), moves_frames(&script));
                })
            };
            let (once, twice) = (work(1_000), work(2_000));
            assert!(twice <= once * 5 / 2, "case {case}: {once}, then {twice} bytes");
        }
    }

    /// ECMAScript 16.2: imports by name, static and dynamic, in whatever quotes.
    #[test]
    fn imported_addresses_are_found_by_their_words() {
        for (script, expected) in [
            ("import 'a'; import b from \"b\";", &["a", "b"][..]),
            ("import{c}from'c';export * from `d`", &["c", "d"]),
            ("await import( 'e' )", &["e"]),
            ("import 'https:\\/\\/f'", &["https://f"]),
            ("import('\\x2f\\u002F\\u{66}\\\n\\'')", &["//f'"]),
            ("import/**/(// x\n'h' , {})", &["h"]),
            ("import 'h\\\u{e2}\u{20ac}\u{a8}i\\\r\nj\\\u{e2}\u{20ac}\u{a9}k'", &["hijk"]),
            ("import.source('i'); import.meta.url", &["i"]),
            ("Array.from('g'); important 'h'; reimport 'i'; import * as x", &[]),
            ("import('open", &["open"]),
            ("import", &[]),
            ("import/*/ 'i' /**/'j'", &["j"]),
            ("import/*import*/'k'", &["k"]),
            ("import.meta; import . /**/ defer('l')", &["l"]),
            ("import(/*import(*/'m'); from/*from/**/'n'", &["m", "", "n"]),
            ("", &[]),
        ] {
            let found: Vec<_> = imports(script).map(|import| import.address).collect();
            assert_eq!(found, expected, "{script}");
            for import in imports(script) {
                assert_eq!(unescaped(&script[import.at]), import.address, "{script}");
            }
        }
    }

    /// Nobody can say where these lead but the script itself.
    #[test]
    fn an_import_of_anything_but_one_text_is_known_at_run_time_only() {
        let known = |script: &str| imports(script).all(|import| import.whole);
        for script in [
            "import(a)",
            "import('//x/' + a)",
            "import(`//x/${a}`)",
            "import/**/(a)",
            "import('open",
            "import.defer(a)",
            "import\u{c2}\u{a0}(x)",
            "import<!-- x\n(a)",
            "import\n--> x\n(a)",
        ] {
            assert!(!known(script), "{script}");
        }
        for script in
            ["import('x')", "import ( 'x', {with: {}} ); import 'y'", "import.meta.url; important(a)"]
        {
            assert!(known(script), "{script}");
        }
    }

    /// HTML 8.1.4.2: what is imported with a type must be of that type.
    #[test]
    fn an_import_finds_the_stand_in_of_the_type_that_it_asks_for() {
        for (behind, expected) in [
            ("\"", "e.mjs"),
            ("' with { type: 'json' };", "e.json"),
            ("\"assert{\"type\":\"json\"}", "e.json"),
            ("', { with: { type: 'css' } })", "e.css"),
            ("', options); let json = {}", "e.mjs"),
        ] {
            assert_eq!(stand_in(behind), expected, "{behind}");
        }
    }

    /// The gaps of the browser's vectors: a script may be kept for the guard only when
    /// the guard can hold it.
    #[test]
    fn a_move_of_a_frame_escapes_the_guard() {
        for script in [
            "f.contentWindow.location = a",
            "frames[0].location.href = a",
            "frames[0]?.location = a",
            "f().location . replace(a)",
        ] {
            assert!(moves_frames(script), "{script}");
        }
        for script in [
            "location = a; window.location.href = a; document.location.replace(a)",
            "a.location.href == b; f.location.host; f.location",
        ] {
            assert!(!moves_frames(script), "{script}");
        }
    }
}
