//! Which vendors' snippets an inline script holds.

use aho_corasick::{AhoCorasick, AhoCorasickKind};

use super::vendor::{Vendor, VendorId};

/// All inline markers in one automaton.
#[derive(Debug)]
pub(super) struct MarkerIndex {
    automaton: AhoCorasick,
    /// By pattern: whose, and whether the marker begins with a word character.
    owners: Vec<(VendorId, bool)>,
}

impl MarkerIndex {
    /// Builds the automaton; `None` when there are more markers than it can hold.
    pub(super) fn build(vendors: &[Vendor]) -> Option<Self> {
        let (mut texts, mut owners) = (Vec::new(), Vec::new());
        for (at, vendor) in vendors.iter().enumerate() {
            for marker in &vendor.inline_markers {
                owners.push((VendorId(u16::try_from(at).ok()?), marker.bytes().next().is_some_and(is_word)));
                texts.push(marker.as_bytes());
            }
        }
        let automaton = AhoCorasick::builder().kind(Some(AhoCorasickKind::DFA)).build(texts).ok()?;
        Some(Self { automaton, owners })
    }

    /// The vendors whose markers stand in a script, in the order of their ends; with repeats.
    ///
    /// Cost: about a nanosecond a byte; no allocation. Stop early once the answer cannot change.
    pub(super) fn find<'a>(&'a self, script: &'a [u8]) -> impl Iterator<Item = VendorId> {
        self.automaton.find_overlapping_iter(script).filter_map(|found| {
            let (vendor, word) = *self.owners.get(found.pattern().as_usize())?;
            (!word || begins_word(script, found.start())).then_some(vendor)
        })
    }
}

const fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_'
}

/// Whether a word begins at `at`: `at.js` in `/at.js`, not in `format.js`.
///
/// An escaped slash or line break before it counts as one, since scripts carry URLs in JSON
/// (`\u002F`, `\x2F`, `\n`) and percent-encoded (`%2F`).
fn begins_word(text: &[u8], at: usize) -> bool {
    let before = &text[..at];
    match before.last() {
        Some(last) if is_word(*last) => {
            before.len() >= 2 && before[before.len() - 2] == b'\\'
                || [&b"%2f"[..], b"\\x2f", b"\\u002f"].iter().any(|escape| {
                    before.len() >= escape.len()
                        && before[before.len() - escape.len()..].eq_ignore_ascii_case(escape)
                })
        }
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_marker_begins_a_word_and_an_escape_before_it_is_not_part_of_the_word() {
        let at = |text: &str, marker: &str| begins_word(text.as_bytes(), text.find(marker).unwrap());
        for text in ["at.js", "/at.js", "\"at.js", "\\u002Fat.js", "\\x2fat.js", "%2Fat.js", "\\nat.js"] {
            assert!(at(text, "at.js"), "{text}");
        }
        for text in ["format.js", "chat.js", "2Fat.js", "_at.js"] {
            assert!(!at(text, "at.js"), "{text}");
        }
    }
}
