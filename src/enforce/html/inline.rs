//! Inline scripts: which ones run, at once (HTML, "prepare the script element") or later by a loader.

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

/// Whether a script with these (decoded) attributes may run; state data, import maps and templates do not
/// and are left alone.
pub(super) fn executable(kind: Option<&str>, language: Option<&str>) -> bool {
    let space = [' ', '\t', '\n', '\r', '\x0C'];
    match (kind, language) {
        (Some(""), _) | (None, None | Some("")) => true,
        (Some(kind), _) => {
            let kind = kind.trim_matches(space);
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
    }
}
