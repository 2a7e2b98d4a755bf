//! Is it a document or a part of one? Only for requests that do not say ([`super::Kind::Unsure`]).

use memchr::memmem;

/// Bytes looked at, as a browser's encoding prescan.
pub(super) const WINDOW: usize = 1024;

/// Tags that only a document brings.
const DOCUMENT: [&[u8]; 5] = [b"html", b"head", b"body", b"title", b"meta"];

/// Elements whose content is not the document's own markup: a `title` in an icon says nothing.
const OPAQUE: [&[u8]; 6] = [b"script", b"style", b"svg", b"textarea", b"template", b"noscript"];

/// Judges the first bytes: `Some` when they are enough. With `last` (no more bytes come, or the
/// window is full) there is always an answer.
///
/// The answer depends on the bytes alone, not on how they were cut.
pub(super) fn document(bytes: &[u8], last: bool) -> Option<bool> {
    let (window, last) = match bytes.get(..WINDOW) {
        Some(window) => (window, true),
        None => (bytes, last),
    };
    let unsure = if last { Some(false) } else { None };
    let mut at = 0;
    while let Some(next) = memchr::memchr(b'<', &window[at..]) {
        at += next + 1;
        let rest = &window[at..];
        if rest.starts_with(b"!--") {
            let Some(end) = memmem::find(&rest[3..], b"-->") else { return unsure };
            at += 3 + end + 3;
            continue;
        }
        let (name, ended) = name(rest);
        if !ended {
            return unsure;
        }
        if name.eq_ignore_ascii_case(b"!doctype") || DOCUMENT.iter().any(|n| name.eq_ignore_ascii_case(n)) {
            return Some(true);
        }
        if let Some(open) = OPAQUE.iter().find(|n| name.eq_ignore_ascii_case(n)) {
            let Some(end) = closing(rest, open) else { return unsure };
            at += end;
        }
    }
    unsure
}

/// The tag name at the start, and whether a byte behind it shows its end.
fn name(rest: &[u8]) -> (&[u8], bool) {
    let len = rest
        .iter()
        .position(|b| matches!(b, b'>' | b'/' | b' ' | b'\t' | b'\n' | b'\r' | b'\x0C' | b'<'))
        .unwrap_or(rest.len());
    (&rest[..len], len < rest.len())
}

fn closing(rest: &[u8], open: &[u8]) -> Option<usize> {
    memmem::find_iter(rest, b"</")
        .find(|at| rest.get(at + 2..at + 2 + open.len()).is_some_and(|n| n.eq_ignore_ascii_case(open)))
        .map(|at| at + 2)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// For a request that does not say what it asks for.
    #[test]
    fn a_document_is_told_from_a_fragment_by_its_first_kilobyte() {
        for (bytes, expected) in [
            (&b"<!DOCTYPE html><p>x"[..], true),
            (b"\xEF\xBB\xBF <HTML lang=en>", true),
            (b"<!-- <html> --><div>", false),
            (b"<!-- c --><meta charset=utf-8>", true),
            (b"<title>x</title>", true),
            (b"<header>x</header>", false),
            (b"<htmlx>", false),
            (b"<svg><title>icon</title></svg><p>", false),
            (b"<script>'<html>'</script><p>", false),
            (b"<script></script><body>", true),
            (b"text", false),
            (b"", false),
            (b"<!-- <html>", false),
        ] {
            assert_eq!(document(bytes, true), Some(expected), "{}", String::from_utf8_lossy(bytes));
        }
        let mut far = vec![b' '; WINDOW];
        far.extend_from_slice(b"<html>");
        assert_eq!(document(&far, true), Some(false));
    }

    /// The first answer given to any prefix is the answer to the whole.
    #[test]
    fn more_bytes_never_change_the_answer() {
        for bytes in
            [&b"<!-- x --><div><svg><title>i</title></svg><p></p><body>"[..], b"<p>a<b>c", b"<!doctype html>"]
        {
            let whole = document(bytes, true);
            for cut in 0..bytes.len() {
                let early = document(&bytes[..cut], false);
                assert!(early.is_none() || early == whole, "cut {cut}");
            }
        }
    }
}
