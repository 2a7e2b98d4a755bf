//! A body without a usable `Content-Type`: would a browser read it as HTML?

/// Bytes a browser looks at (WHATWG MIME Sniffing, 7: the resource header).
pub const WINDOW: usize = 1445;

/// Tags that make a body HTML when it begins with one and a blank or `>` follows.
const TAGS: [&[u8]; 16] = [
    b"<!doctype html",
    b"<html",
    b"<head",
    b"<script",
    b"<iframe",
    b"<h1",
    b"<div",
    b"<font",
    b"<table",
    b"<a",
    b"<style",
    b"<title",
    b"<b",
    b"<body",
    b"<br",
    b"<p",
];

/// Whether a browser would sniff these bytes as HTML; `None` when more are needed to say.
///
/// Leading white space is skipped (WHATWG MIME Sniffing, 7.1). `start` may begin with a UTF-8 byte
/// order mark: browsers call such a body plain text, but an opted-out visitor loses nothing when it is
/// read as HTML too.
#[must_use]
pub fn is_html(start: &[u8], ended: bool) -> Option<bool> {
    let window = &start[..start.len().min(WINDOW)];
    let text = window.strip_prefix(b"\xef\xbb\xbf").unwrap_or(window).trim_ascii_start();
    if text.starts_with(b"<!--") {
        return Some(true);
    }
    let mut open = b"<!--".starts_with(text);
    for tag in TAGS {
        match text.get(..tag.len()) {
            Some(head) if head.eq_ignore_ascii_case(tag) => match text.get(tag.len()) {
                Some(b' ' | b'>' | b'\t' | b'\n' | b'\r' | b'\x0c') => return Some(true),
                Some(_) => {}
                None => open = true,
            },
            Some(_) => {}
            None => open |= tag[..text.len()].eq_ignore_ascii_case(text),
        }
    }
    if open && !ended && start.len() < WINDOW { None } else { Some(false) }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// WHATWG MIME Sniffing, 7.1, the first table.
    #[test]
    fn what_a_browser_reads_as_html_is_html() {
        for yes in
            ["<!DOCTYPE html>", " \r\n<HTML lang=en>", "<p>", "<!-- x", "<!--", "<h1 id=x>", "\u{feff}<br>"]
        {
            assert_eq!(is_html(yes.as_bytes(), false), Some(true), "{yes}");
        }
        for no in ["%PDF-1.7", "text <html>", "<article>", "<p/>", "{\"a\":1}", "<?xml"] {
            assert_eq!(is_html(no.as_bytes(), false), Some(false), "{no}");
        }
        for wait in ["", " ", "<", "<!d", "<!-", "<scr", "<html"] {
            assert_eq!(is_html(wait.as_bytes(), false), None, "{wait}");
            assert_eq!(is_html(wait.as_bytes(), true), Some(false), "{wait}");
        }
        assert_eq!(is_html(&[b' '; WINDOW], false), Some(false));
    }
}
