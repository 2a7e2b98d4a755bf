//! The `srcset` attribute (HTML, "parse a srcset attribute"): single candidates out, the others kept.

use std::ops::Range;

use super::references::Resolved;

/// Drops the candidates that `drop` names. `None`: nothing to change; `Some("")`: none is left.
///
/// `drop` is asked once for each candidate's URL, in order. Kept candidates stay as written.
pub(super) fn filter(value: &Resolved<'_>, mut drop: impl FnMut(&str) -> bool) -> Option<String> {
    let mut kept: Vec<&str> = Vec::new();
    let mut dropped = false;
    for candidate in candidates(value.text()) {
        if drop(candidate.url) {
            dropped = true;
        } else {
            kept.push(value.written(&candidate.place));
        }
    }
    dropped.then(|| kept.join(", "))
}

/// One image candidate string.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Candidate<'a> {
    /// Its URL.
    pub url: &'a str,
    /// Where URL and descriptors stand, without the comma behind.
    pub place: Range<usize>,
}

/// Splits a value into its candidates, valid descriptors or not: a browser that reads descriptors
/// otherwise must not find one that we did not look at.
pub(super) fn candidates(value: &str) -> Vec<Candidate<'_>> {
    let mut found = Vec::new();
    let mut rest = value;
    loop {
        rest = rest.trim_start_matches(|c: char| is_space(c) || c == ',');
        if rest.is_empty() {
            return found;
        }
        let start = value.len() - rest.len();
        let end = rest.find(is_space).unwrap_or(rest.len());
        let url = rest[..end].trim_end_matches(',');
        if url.len() < end {
            found.push(Candidate { url, place: start..start + url.len() });
            rest = &rest[end..];
            continue;
        }
        let stop = end + descriptors(&rest[end..]);
        let whole = rest[..stop].trim_end_matches(is_space);
        found.push(Candidate { url, place: start..start + whole.len() });
        rest = &rest[stop..];
    }
}

/// Length of the descriptors: to a comma outside parentheses, or the end.
fn descriptors(text: &str) -> usize {
    let mut inside = false;
    for (at, byte) in text.bytes().enumerate() {
        match byte {
            b',' if !inside => return at,
            b'(' => inside = true,
            b')' => inside = false,
            _ => {}
        }
    }
    text.len()
}

const fn is_space(c: char) -> bool {
    matches!(c, ' ' | '\t' | '\n' | '\r' | '\x0C')
}

#[cfg(test)]
mod tests {
    use super::super::references::Place;
    use super::*;

    /// HTML 4.8.4.3.10: commas inside URLs, trailing commas, parentheses, missing descriptors.
    #[test]
    fn candidates_are_split_as_the_standard_splits_them() {
        let cases: [(&str, &[(&str, &str)]); 10] = [
            ("", &[]),
            (" , ,\t", &[]),
            ("a.png", &[("a.png", "a.png")]),
            ("a.png 1x, b.png 2x", &[("a.png", "a.png 1x"), ("b.png", "b.png 2x")]),
            ("a.png,b.png 2x", &[("a.png,b.png", "a.png,b.png 2x")]),
            ("a.png, b.png", &[("a.png", "a.png"), ("b.png", "b.png")]),
            ("a.png,, b.png 2x", &[("a.png", "a.png"), ("b.png", "b.png 2x")]),
            ("a.png 1x (x,y) z, b", &[("a.png", "a.png 1x (x,y) z"), ("b", "b")]),
            ("a 1x(, b 2x", &[("a", "a 1x(, b 2x")]),
            ("//h/a,b/c.png 100w 50h,d 2x", &[("//h/a,b/c.png", "//h/a,b/c.png 100w 50h"), ("d", "d 2x")]),
        ];
        for (value, expected) in cases {
            let got: Vec<_> = candidates(value).iter().map(|c| (c.url, &value[c.place.clone()])).collect();
            assert_eq!(got, expected, "{value:?}");
        }
    }

    /// Only the named candidate goes; a value without one stays untouched.
    #[test]
    fn one_candidate_is_dropped_and_the_others_stay_as_written() {
        let left = |value: &str| {
            let value = Resolved::new(value, Place::Attribute);
            filter(&value, |url| url.starts_with("//t"))
        };
        assert_eq!(left("a 1x,  b 2x"), None);
        assert_eq!(left("a   1x, //t/p 2x,c  3x").as_deref(), Some("a   1x, c  3x"));
        assert_eq!(left("//t/p 2x").as_deref(), Some(""));
        assert_eq!(left("//t/p, b").as_deref(), Some("b"));
        assert_eq!(left("/a?b&amp;c 1x&#44;/&sol;t/p&#32;2x").as_deref(), Some("/a?b&amp;c 1x"));
    }
}
