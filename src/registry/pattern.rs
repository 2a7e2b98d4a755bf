//! The two small pattern languages of the registry.
//!
//! - **Path prefixes**: `/tr` matches `/tr`, `/tr/x`, `/tr;x` and `/tr?x` but not
//!   `/track`; `/tr/` matches below it; `/tr*` matches any continuation; `*` inside stands for any
//!   run of characters of the path (never of the query).
//! - **Globs** for names (cookies, parameters, hosts): `*` stands for any run of bytes.

use std::borrow::Cow;

/// Whether `pattern` (with `*` for any run of bytes) is the whole of `text`.
///
/// Cost: linear for patterns with one `*`; no allocation, no recursion.
#[must_use]
pub(super) fn glob(pattern: &[u8], text: &[u8]) -> bool {
    let (mut p, mut t) = (0, 0);
    let mut retry: Option<(usize, usize)> = None;
    while t < text.len() {
        match pattern.get(p) {
            Some(b'*') => {
                retry = Some((p + 1, t));
                p += 1;
            }
            Some(byte) if *byte == text[t] => {
                p += 1;
                t += 1;
            }
            _ => {
                let Some((after_star, from)) = retry else { return false };
                retry = Some((after_star, from + 1));
                (p, t) = (after_star, from + 1);
            }
        }
    }
    pattern[p..].iter().all(|byte| *byte == b'*')
}

/// A path prefix, ready to match.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct PathPrefix {
    text: String,
    literal: usize,
}

impl PathPrefix {
    /// Every path.
    pub(super) const ROOT: &'static str = "/";

    /// Takes a checked pattern. A `*` after a final `/` adds nothing and is dropped, so that
    /// `/a/` and `/a/*` are seen to be the same rule.
    pub(super) fn new(written: &str) -> Self {
        let written = &*plain(written);
        let trimmed = written.trim_end_matches('*');
        let text = if trimmed.ends_with('/') {
            trimmed.to_owned()
        } else if trimmed.len() < written.len() {
            format!("{trimmed}*")
        } else {
            written.to_owned()
        };
        let literal = text.bytes().filter(|b| *b != b'*').count();
        Self { text, literal }
    }

    /// What is wrong with a written prefix, if anything.
    pub(super) fn fault(written: &str) -> Option<&'static str> {
        if written.is_empty() {
            Some("it is empty")
        } else if !written.starts_with('/') {
            Some("it does not start with `/`")
        } else if written.contains(['?', '#']) {
            Some("it holds a query or fragment; only the path is matched")
        } else if written.bytes().any(|b| b.is_ascii_whitespace() || b.is_ascii_control() || !b.is_ascii()) {
            Some("it holds a character that a path on the wire cannot have")
        } else {
            None
        }
    }

    /// The normalised text.
    pub(super) fn as_str(&self) -> &str {
        &self.text
    }

    /// Characters that are not wildcards; the longer one wins.
    pub(super) const fn literal(&self) -> usize {
        self.literal
    }

    /// Whether it matches every path.
    pub(super) fn is_root(&self) -> bool {
        self.text == Self::ROOT
    }

    /// Whether a path, with or without its query, lies under this prefix.
    ///
    /// Cost: one comparison without `*`; no allocation.
    pub(super) fn matches(&self, path: &str) -> bool {
        if self.literal == self.text.len() {
            return path
                .strip_prefix(self.text.as_str())
                .is_some_and(|rest| self.text.ends_with('/') || ends_here(rest.as_bytes()))
                || (self.is_root() && path.is_empty());
        }
        let path = path.split('?').next().unwrap_or_default();
        let mut parts = self.text.split('*');
        let Some(mut rest) = parts.next().and_then(|first| path.strip_prefix(first)) else { return false };
        let Some(last) = parts.next_back() else { return true };
        for part in parts {
            let Some(at) = rest.find(part) else { return false };
            rest = &rest[at + part.len()..];
        }
        if last.is_empty() {
            return true;
        }
        // Every occurrence, overlapping ones too: only one of them may end at a boundary.
        rest.as_bytes().windows(last.len()).enumerate().any(|(at, found)| {
            found == last.as_bytes()
                && (last.ends_with('/') || ends_here(&rest.as_bytes()[at + last.len()..]))
        })
    }
}

/// A prefix ends at `/`, `?`, `;` or the end.
const fn ends_here(rest: &[u8]) -> bool {
    matches!(rest.first(), None | Some(b'/' | b'?' | b';'))
}

/// A path, with or without its query, as it is commonly written: no slash twice, and nothing as `%xx` that stands
/// for itself (RFC 3986, 6.2.2.2). A server takes the other spellings for it.
///
/// Cost: a look at the path where it is written so.
pub(super) fn plain(path: &str) -> Cow<'_, str> {
    let end = memchr::memchr(b'?', path.as_bytes()).unwrap_or(path.len());
    let (mut rest, query) = path.split_at(end);
    if !rest.contains('%') && !rest.contains("//") {
        return Cow::Borrowed(path);
    }
    let mut out = String::with_capacity(path.len());
    while let Some(c) = rest.chars().next() {
        let (decoded, behind) = unreserved(rest).map_or((c, &rest[c.len_utf8()..]), |c| (c, &rest[3..]));
        if decoded != '/' || !out.ends_with('/') {
            out.push(decoded);
        }
        rest = behind;
    }
    out.push_str(query);
    Cow::Owned(out)
}

/// The character that a text's first three stand for, if it never needs that.
fn unreserved(text: &str) -> Option<char> {
    let digits = text.strip_prefix('%')?.get(..2).filter(|two| two.bytes().all(|b| b.is_ascii_hexdigit()))?;
    let decoded = char::from(u8::from_str_radix(digits, 16).ok()?);
    (decoded.is_ascii_alphanumeric() || matches!(decoded, '-' | '.' | '_' | '~')).then_some(decoded)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hits(pattern: &str, path: &str) -> bool {
        PathPrefix::new(pattern).matches(path)
    }

    /// A prefix ends at `/`, `?` or the end unless it ends in `*`.
    #[test]
    fn a_prefix_ends_at_a_segment_boundary() {
        assert!(hits("/tr", "/tr") && hits("/tr", "/tr/") && hits("/tr", "/tr?id=1"));
        assert!(hits("/tr", "/tr;x") && hits("/*/tr", "/a/tr;x"));
        assert!(!hits("/tr", "/track") && !hits("/tr", "/x/tr") && !hits("/tr", "/t"));
        assert!(
            hits("/pagead/", "/pagead/1p") && !hits("/pagead/", "/pagead") && !hits("/pagead/", "/pageads/")
        );
        assert!(hits("/npm/prebid*", "/npm/prebid.js@9/dist/x.js"));
        assert!(hits("/", "/") && hits("/", "/any?x") && hits("/", "") && hits("/*", "/any"));
    }

    #[test]
    fn a_wildcard_inside_stands_for_any_run_of_the_path_but_not_of_the_query() {
        assert!(hits("/*/fbevents.js", "/en_US/fbevents.js?v=1"));
        assert!(!hits("/*/fbevents.js", "/en_US/fbevents.json"));
        assert!(!hits("/*/fbevents.js", "/en_US/?x=/fbevents.js"));
        assert!(hits("/v*/plugins/", "/v18.0/plugins/like.php") && !hits("/v*/plugins/", "/v18.0/plugins"));
        assert!(hits("/up_loader*.js", "/up_loader.1.1.0.js") && !hits("/up_loader*.js", "/up.js"));
        // The first occurrence does not end at a boundary; a later one does.
        assert!(hits("/a*b", "/axbyb") && hits("/*aa", "/aaa/"));
    }

    /// RFC 3986, 6.2.2.2; many slashes are one to most servers.
    #[test]
    fn a_path_is_matched_as_it_is_commonly_written() {
        for (path, expected) in [
            ("//tr", "/tr"),
            ("/%74r", "/tr"),
            ("///a//%7Eb%2f%2573?x=//%74", "/a/~b%2f%2573?x=//%74"),
            ("/%7", "/%7"),
            ("/%+4", "/%+4"),
            ("/%%74", "/%t"),
            ("/a/b?//", "/a/b?//"),
            ("", ""),
        ] {
            assert_eq!(plain(path), expected, "{path}");
        }
        assert_eq!(PathPrefix::new("//%74r*"), PathPrefix::new("/tr*"));
    }

    #[test]
    fn equal_rules_have_equal_text() {
        assert_eq!(PathPrefix::new("/a/*"), PathPrefix::new("/a/"));
        assert_eq!(PathPrefix::new("/*"), PathPrefix::new("/"));
        assert_eq!(PathPrefix::new("/a**"), PathPrefix::new("/a*"));
    }

    #[test]
    fn globs_match_whole_names() {
        for (pattern, text, expected) in [
            ("_ga", "_ga", true),
            ("_ga", "_gat", false),
            ("_ga_*", "_ga_ABC", true),
            ("mp_*_mixpanel", "mp_1_mixpanel", true),
            ("mp_*_mixpanel", "mp_1_mixpanel2", false),
            ("*_X_*", "a_X_b_X_", true),
            ("*", "", true),
            ("a*", "", false),
        ] {
            assert_eq!(glob(pattern.as_bytes(), text.as_bytes()), expected, "{pattern} {text}");
        }
    }

    /// The definition of a glob, without regard to cost.
    fn plainly(pattern: &[u8], text: &[u8]) -> bool {
        match pattern.split_first() {
            None => text.is_empty(),
            Some((b'*', rest)) => (0..=text.len()).any(|at| plainly(rest, &text[at..])),
            Some((byte, rest)) => text.first() == Some(byte) && plainly(rest, &text[1..]),
        }
    }

    proptest::proptest! {
        #[test]
        fn globs_agree_with_their_definition(pattern in "[ab*]{0,7}", text in "[ab]{0,9}") {
            let (pattern, text) = (pattern.as_bytes(), text.as_bytes());
            proptest::prop_assert_eq!(glob(pattern, text), plainly(pattern, text));
        }

        /// Against the same definition: a prefix, then the end or a boundary.
        #[test]
        fn path_prefixes_agree_with_their_definition(pattern in "/[a/*]{0,5}", path in "/[a/;]{0,7}(\\?[a/]{0,3})?") {
            let bare = path.split('?').next().unwrap();
            let pattern = &*plain(&pattern);
            let open = pattern.ends_with(['*', '/']);
            let expected = (0..=bare.len()).any(|at| {
                let boundary = open || at == bare.len() || matches!(bare.as_bytes()[at], b'/' | b';');
                boundary && plainly(pattern.as_bytes(), &bare.as_bytes()[..at])
            });
            proptest::prop_assert_eq!(PathPrefix::new(pattern).matches(&path), expected, "{} {}", pattern, path);
        }
    }
}
