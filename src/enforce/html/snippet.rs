//! Whether an inline script is a vendor's snippet and nothing else.
//!
//! Such a script goes, and the guard's stub answers in its place. A script in which anything else stands is
//! the site's own too, and is kept where the guard holds what it calls. In doubt it is no snippet.

/// Words of the language and of the browser that loaders are written with. None of them changes what a
/// page shows, and none defines a name for the rest of the page.
const WORDS: &str = " var let const function return if else for while in of new typeof void null true false \
    this undefined try catch async arguments window document navigator screen location self top Array Date Math \
    Object String encodeURIComponent escape setTimeout createElement getElementsByTagName getElementById \
    querySelector parentNode insertBefore appendChild firstChild head body documentElement protocol href host \
    hostname pathname search referrer userAgent title addEventListener attachEvent apply call concat slice \
    prototype length getTime now random floor round toString indexOf join ";

/// Properties that a loader sets: of the element it inserts, and of its queue.
const SET: &str = " async defer src type id charset crossOrigin onload onerror onreadystatechange readyState \
    width height loaded version queue push callMethod cmd ";

/// Whether nothing but a loader and calls of these names stands in a script.
///
/// Cost: one pass over the text; for scripts with a vendor's marker.
pub(super) fn is_snippet(script: &str, names: &[String]) -> bool {
    let bytes = script.as_bytes();
    let (mut at, mut last) = (0, Last::Nothing);
    while let Some(&byte) = bytes.get(at) {
        let rest = &script[at..];
        match byte {
            b if b.is_ascii_whitespace() => at += 1,
            b'/' if rest.starts_with("//") => at += line(rest),
            b'<' if rest.starts_with("<!--") => at += line(rest),
            b'-' if rest.starts_with("-->") => at += line(rest),
            b'/' if rest.starts_with("/*") => {
                let Some(end) = rest[2..].find("*/") else { return false };
                at += 2 + end + 2;
            }
            // Behind a value it divides; a pattern is left to the guard.
            b'/' if last != Last::Value => return false,
            b'"' | b'\'' => {
                let Some(length) = quoted(rest) else { return false };
                (at, last) = (at + length, Last::Value);
            }
            b if b.is_ascii_digit() => {
                let inside = |c: char| c.is_ascii_alphanumeric() || c == '.';
                (at, last) = (at + rest.find(|c| !inside(c)).unwrap_or(rest.len()), Last::Value);
            }
            b if is_word(b) => {
                let word = &rest[..rest.bytes().position(|b| !is_word(b)).unwrap_or(rest.len())];
                let behind = rest[word.len()..].trim_start();
                let own = names.iter().any(|name| name == word);
                let sets = last == Last::Dot && behind.starts_with('=') && !behind.starts_with("==");
                let known = own
                    || last == Last::DotOfVendor
                    || behind.starts_with(':') && !matches!(last, Last::Dot)
                    || is_short(word)
                    || among(SET, word)
                    || !sets && among(WORDS, word);
                if !known {
                    return false;
                }
                (at, last) = (at + word.len(), if own { Last::Vendor } else { Last::Value });
            }
            b'.' => (at, last) = (at + 1, if last == Last::Vendor { Last::DotOfVendor } else { Last::Dot }),
            b')' | b']' => (at, last) = (at + 1, Last::Value),
            // Text with code in it, and letters of other scripts.
            b'`' | b'\\' | b'@' | b'#' | 0x80.. => return false,
            _ => (at, last) = (at + 1, Last::Mark),
        }
    }
    true
}

/// What stands before the place that is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Last {
    Nothing,
    Value,
    /// One of the vendor's names.
    Vendor,
    Dot,
    DotOfVendor,
    Mark,
}

const fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'$')
}

/// Names that a minifier gives.
fn is_short(word: &str) -> bool {
    word.len() <= 2 && word.bytes().all(|b| b.is_ascii_alphanumeric())
}

fn among(list: &str, word: &str) -> bool {
    list.split(' ').any(|known| known == word)
}

fn line(rest: &str) -> usize {
    rest.find(['\n', '\r']).unwrap_or(rest.len())
}

/// Length of a quoted text; `None` when it does not end on its line.
pub(super) fn quoted(rest: &str) -> Option<usize> {
    let quote = rest.bytes().next()?;
    let (mut escaped, mut carriage) = (false, false);
    for (at, byte) in rest.bytes().enumerate().skip(1) {
        let before = std::mem::replace(&mut carriage, escaped && byte == b'\r');
        match byte {
            _ if escaped => escaped = false,
            // Two bytes may be one line's end.
            b'\n' if before => {}
            b'\\' => escaped = true,
            b'\n' | b'\r' => return None,
            b if b == quote => return Some(at + 1),
            _ => {}
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn snippet(script: &str) -> bool {
        is_snippet(script, &["pix".to_owned(), "_pix".to_owned()])
    }

    /// Loaders as vendors hand them out, in our own words, and calls of what they define.
    #[test]
    fn a_loader_and_calls_of_its_vendor_are_a_snippet() {
        for script in [
            "pix('init', '1');pix('track', 'Purchase', {value: 3, currency: \"USD\"})",
            "<!-- old browsers\npix('init') // 'x\n//-->",
            "!function(f,b,e,v,n,t,s){if(f.pix)return;n=f.pix=function(){n.callMethod?n.callMethod.apply(n,arguments)\
             :n.queue.push(arguments)};if(!f._pix)f._pix=n;n.push=n;n.loaded=!0;n.version='2.0';n.queue=[];\
             t=b.createElement(e);t.async=!0;t.src=v;s=b.getElementsByTagName(e)[0];\
             s.parentNode.insertBefore(t,s)}(window,document,'script','https://pix.example/a.js');",
            "pix.load(1 / 2); pix.anything.push([]); /* pix */",
        ] {
            assert!(snippet(script), "{script}");
        }
    }

    /// Whatever the site wrote beside it is not the vendor's to lose.
    #[test]
    fn whatever_else_stands_in_it_makes_it_the_sites() {
        for script in [
            "pix('init'); var basket = 1",
            "pix('init'); start()",
            "$(function () { pix('init') })",
            "pix('init'); window.basket = pix",
            "pix('init'); document.body.className = 'x'",
            "pix('init'); document.title = 'x'",
            "pix('init'); location.href = '/x'",
            "pix('init'); /x/.test('x')",
            "pix('init', `${1}`)",
            "pix('init'); caf\u{c3}\u{a9}()",
            "pix('init', 'open",
            "pix('init') /* open",
            "pix('init') /*/ pix() */ start()",
            "pix('init'); import('x')",
        ] {
            assert!(!snippet(script), "{script}");
        }
    }
}
