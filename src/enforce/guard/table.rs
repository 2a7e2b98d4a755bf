//! The policy as the guard in the browser reads it: the same verdicts in a few kilobytes.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use data_encoding::BASE64;

use crate::registry::{DomainVerdicts, Policy};

/// Domains of which some paths go, separated by spaces: `name`, with `!` before it when an essential vendor
/// lives there too, and each path pattern behind a `#`, with `-` before it when it stays. Those that go with
/// every path are among [`names`].
///
/// `match.js` reads it; a test in a browser compares its verdicts with [`Policy::match_url`]'s.
#[must_use]
pub fn domains(policy: &Policy) -> String {
    let mut table = String::new();
    for domain in policy.verdicts().into_iter().filter(|domain| !goes_whole(domain)) {
        if !table.is_empty() {
            table.push(' ');
        }
        if domain.essential {
            table.push('!');
        }
        table.push_str(&domain.name);
        for (path, strips) in &domain.paths {
            // Writing to a string cannot fail.
            let _ = write!(table, "#{}{path}", if *strips { "" } else { "-" });
        }
    }
    table
}

/// Domains that go whole, cookies and storage keys that go, as the guard in the browser finds them.
///
/// Of a name, a hash is enough to know it again. A name's kind stands before it: `.` domain, `=` cookie,
/// `$` storage key.
#[derive(Debug)]
pub struct Names {
    /// Base64 of the sorted [`hash`]es, each as three bytes: how much it is above the one before. A `*` at a
    /// name's end is hashed with it and stands for any rest.
    pub hashes: String,
    /// Patterns with `*` elsewhere, separated by spaces.
    pub patterns: String,
    /// Patterns of names that stay although they are among the others, separated by spaces.
    pub kept: String,
}

/// The names of a policy.
///
/// There are 2^32 hashes: with a thousand names listed, one that is not listed is taken for one of them with
/// a chance of about 1 : 4,000,000.
#[must_use]
pub fn names(policy: &Policy) -> Names {
    let (cookies, kept) = policy.cookie_verdicts();
    let kept: Vec<_> = kept.iter().map(|name| format!("={name}")).collect();
    let whole = policy.verdicts().into_iter().filter(goes_whole);
    let mut all: Vec<_> = whole.map(|domain| format!(".{}", domain.name)).collect();
    all.extend(cookies.iter().map(|name| format!("={name}")));
    all.extend(policy.storage_verdicts().iter().map(|name| format!("${name}")));
    let (patterns, plain): (Vec<_>, Vec<_>) =
        all.into_iter().partition(|name| name.trim_end_matches('*').contains('*'));
    Names { hashes: gaps(&plain), patterns: patterns.join(" "), kept: kept.join(" ") }
}

fn goes_whole(domain: &DomainVerdicts) -> bool {
    !domain.essential && domain.paths == [("/".to_owned(), true)]
}

/// What the browser computes of a name: FNV-1a of 32 bits over its UTF-16 units.
fn hash(name: &str) -> u32 {
    name.encode_utf16().fold(0x811C_9DC5, |hash, unit| (hash ^ u32::from(unit)).wrapping_mul(0x0100_0193))
}

/// The hashes as [`Names::hashes`] holds them.
fn gaps(names: &[String]) -> String {
    const WIDEST: u32 = 0xFF_FFFF;
    let hashes: BTreeSet<u32> = names.iter().map(|name| hash(name)).collect();
    let (mut bytes, mut last) = (Vec::new(), 0);
    for hash in hashes {
        // A wider gap is crossed in steps, at the price of a hash that no name has.
        while hash - last > WIDEST {
            last += WIDEST;
            bytes.extend(&WIDEST.to_be_bytes()[1..]);
        }
        bytes.extend(&(hash - last).to_be_bytes()[1..]);
        last = hash;
    }
    BASE64.encode(&bytes)
}

/// A text as a JavaScript string, ASCII only, that cannot end or open an element.
#[must_use]
pub fn literal(text: &str) -> String {
    let mut literal = String::with_capacity(text.len() + 2);
    literal.push('"');
    for c in text.chars() {
        match c {
            '"' | '\\' => literal.extend(['\\', c]),
            '\n' => literal.push_str("\\n"),
            '<' | '>' | '&' => {
                let _ = write!(literal, "\\x{:02x}", u32::from(c));
            }
            ' '..='~' => literal.push(c),
            _ => {
                let mut units = [0; 2];
                for unit in c.encode_utf16(&mut units) {
                    let _ = write!(literal, "\\u{unit:04x}");
                }
            }
        }
    }
    literal.push('"');
    literal
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::config::VendorPolicy;
    use crate::registry::Registry;

    fn policy() -> Policy {
        let registry = Arc::new(Registry::builtin().unwrap());
        Policy::resolve(registry, &VendorPolicy::default()).unwrap()
    }

    #[test]
    fn a_mixed_domain_has_its_paths_and_one_that_goes_whole_is_a_name() {
        let table = domains(&policy());
        let entries: Vec<&str> = table.split(' ').collect();
        assert!(!entries.contains(&"doubleclick.net"), "{table}");
        assert!(entries.iter().any(|e| e.starts_with("facebook.com#") && e.contains("#/tr")), "{table}");
        assert!(table.is_ascii() && !table.contains('\n'));
        let found = read(&names(&policy()).hashes);
        assert!(found.contains(&hash(".doubleclick.net")) && !found.contains(&hash(".facebook.com")));
        assert!(found.contains(&hash("=_fbp")) && found.contains(&hash("=_ga_*")));
    }

    /// As `match.js` reads them.
    fn read(hashes: &str) -> BTreeSet<u32> {
        let bytes = BASE64.decode(hashes.as_bytes()).unwrap();
        let gaps = bytes.chunks(3).map(|gap| u32::from_be_bytes([0, gap[0], gap[1], gap[2]]));
        gaps.scan(0, |sum, gap| {
            Some({
                *sum += gap;
                *sum
            })
        })
        .collect()
    }

    /// Every hash comes back, however wide the gap before it.
    #[test]
    fn the_gaps_add_up_to_the_hashes() {
        assert_eq!(hash(""), 0x811C_9DC5, "FNV-1a's offset basis");
        assert_eq!(hash("a"), 0xE40C_292C, "FNV-1a's published value");
        for count in [0, 1, 2, 300] {
            let names: Vec<_> = (0..count).map(|at| format!("name {at}")).collect();
            let found = read(&gaps(&names));
            assert!(names.iter().all(|name| found.contains(&hash(name))), "{count}");
            assert!(found.len() < count + 256 + 2, "{count}");
        }
    }

    #[test]
    fn a_literal_cannot_leave_its_script() {
        assert_eq!(
            literal("a\"\\\n</script>\u{e9}\u{1f600}"),
            "\"a\\\"\\\\\\n\\x3c/script\\x3e\\u00e9\\ud83d\\ude00\""
        );
    }
}
