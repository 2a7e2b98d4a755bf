//! A body without a usable `Content-Type`: would a browser read it as a page?

/// Bytes a browser looks at (WHATWG MIME Sniffing, 7: the resource header).
pub const WINDOW: usize = 1445;

/// What a body is to a browser that sniffs it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sniffed {
    /// HTML.
    Html,
    /// XML; its root says whether it is a page.
    Xml,
    /// Nothing of ours.
    Other,
}

/// What the first bytes are to a browser; `None` when more are needed to say.
///
/// The standard lists tags (WHATWG MIME Sniffing, 7.1). Chromium compares their beginnings only, so that
/// `<b` is any name with a `b`, and Firefox takes any `<!` and `<?`. So whatever begins like markup is read as
/// a page: that costs nothing where nobody reads it as one. `start` may begin with a UTF-8 byte order mark;
/// browsers call such a body plain text, and reading it does no harm either.
#[must_use]
pub fn sniff(start: &[u8], ended: bool) -> Option<Sniffed> {
    let window = &start[..start.len().min(WINDOW)];
    let text = window.strip_prefix(b"\xef\xbb\xbf").unwrap_or(window).trim_ascii_start();
    let more = !ended && start.len() < WINDOW;
    match text {
        [b'<', b'?', ..] if text.starts_with(b"<?xml") => Some(Sniffed::Xml),
        [b'<', b'?', ..] if more && b"<?xml".starts_with(text) => None,
        [b'<', b'!' | b'?' | b'a'..=b'z' | b'A'..=b'Z', ..] => Some(Sniffed::Html),
        [] | [b'<'] | [0xef] | [0xef, 0xbb] if more => None,
        _ => Some(Sniffed::Other),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// WHATWG MIME Sniffing, 7.1, the first table, as widely as any browser reads it.
    #[test]
    fn what_a_browser_reads_as_a_page_is_one() {
        for yes in [
            "<!DOCTYPE html>",
            " \r\n<HTML lang=en>",
            "<p>",
            "<!-- x",
            "<h1 id=x>",
            "\u{feff}<br>",
            "<article>",
            "<?php",
        ] {
            assert_eq!(sniff(yes.as_bytes(), false), Some(Sniffed::Html), "{yes}");
        }
        assert_eq!(sniff(b" <?xml version='1.0'?>", false), Some(Sniffed::Xml));
        for no in ["%PDF-1.7", "text <html>", "{\"a\":1}", "< p", "</p>", "<1", "\u{fe}", "<\0h\0"] {
            assert_eq!(sniff(no.as_bytes(), false), Some(Sniffed::Other), "{no}");
        }
        for wait in [&b""[..], b" ", b"<", b"\xef", b"\xef\xbb"] {
            assert_eq!(sniff(wait, false), None, "{wait:?}");
            assert_eq!(sniff(wait, true), Some(Sniffed::Other), "{wait:?}");
        }
        assert_eq!((sniff(b"<?x", false), sniff(b"<?x", true)), (None, Some(Sniffed::Html)));
        assert_eq!(sniff(&[b' '; WINDOW], false), Some(Sniffed::Other));
    }
}
