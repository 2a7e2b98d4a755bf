//! Inline scripts: which ones run, at once (HTML, "prepare the script element") or later by a loader.

use std::borrow::Cow;

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
}

/// What a script with these (decoded) attributes holds; `None` for state data and templates, which are
/// left alone.
pub(super) fn holds(kind: Option<&str>, language: Option<&str>) -> Option<Holds> {
    let is = |known: &str| kind.is_some_and(|kind| kind.trim_matches(SPACE).eq_ignore_ascii_case(known));
    if is("importmap") {
        Some(Holds::ImportMap)
    } else if is("speculationrules") {
        Some(Holds::Rules)
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

/// The addresses that a script imports by name (`import "x"`, `import("x")`, `... from "x"`): no guard can
/// stop those. Found by their words, so that a text about an import counts too.
///
/// Cost: two byte searches where there is none.
pub(super) fn imports(script: &str) -> impl Iterator<Item = Cow<'_, str>> {
    let places = |word: &'static str| memchr::memmem::find_iter(script.as_bytes(), word);
    let called = places("import").filter_map(|at| specifier(script, at, "import", true));
    called.chain(places("from").filter_map(|at| specifier(script, at, "from", false)))
}

/// The quoted text behind a word.
fn specifier<'a>(script: &'a str, at: usize, word: &str, call: bool) -> Option<Cow<'a, str>> {
    let inside_a_name = |c: char| c.is_alphanumeric() || matches!(c, '_' | '$');
    if script[..at].ends_with(inside_a_name) {
        return None;
    }
    let rest = script[at + word.len()..].trim_start();
    let rest = rest.strip_prefix('(').filter(|_| call).map_or(rest, str::trim_start);
    let quote = rest.chars().next().filter(|c| matches!(c, '"' | '\'' | '`'))?;
    let text = rest[1..].split([quote, '\n']).next()?;
    Some(if text.contains('\\') { text.replace('\\', "").into() } else { text.into() })
}

/// What stands in a script instead of a vendor's snippet.
pub(super) fn emptied(vendor: &str) -> String {
    format!("/* optgate strip:{vendor} */")
}

#[cfg(test)]
mod tests {
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
        assert_eq!(holds(Some("application/json"), None), None);
    }

    /// ECMAScript 16.2: imports by name, static and dynamic, in whatever quotes.
    #[test]
    fn imported_addresses_are_found_by_their_words() {
        for (script, expected) in [
            ("import 'a'; import b from \"b\";", &["a", "b"][..]),
            ("import{c}from'c';export * from `d`", &["c", "d"]),
            ("await import( 'e' )", &["e"]),
            ("import 'https:\\/\\/f'", &["https://f"]),
            ("Array.from('g'); important 'h'; reimport 'i'", &[]),
            ("import('open", &["open"]),
            ("import", &[]),
            ("", &[]),
        ] {
            assert_eq!(imports(script).collect::<Vec<_>>(), expected, "{script}");
        }
    }
}
