//! The policy as the guard in the browser reads it: the same verdicts in a few kilobytes.

use std::collections::{BTreeSet, HashSet};
use std::fmt::Write as _;
use std::sync::LazyLock;

use crate::registry::{DomainVerdicts, Policy};

/// Domains of which some paths go, separated by spaces: `name`, with `!` before it when an essential vendor
/// lives there too, and behind a `#` each path pattern: without its first slash when it goes, with it when it
/// stays. Those that go with every path are among [`names`].
///
/// `match.js` reads it; a test in a browser compares its verdicts with [`Policy::match_url`]'s.
#[must_use]
pub fn domains(policy: &Policy) -> String {
    let verdicts = policy.verdicts();
    let stripping: HashSet<&str> = verdicts.iter().map(|domain| domain.name.as_str()).collect();
    let above = |name: &str| {
        let mut rest = name;
        std::iter::from_fn(|| {
            rest = rest.split_once('.')?.1;
            Some(rest)
        })
        .any(|name| stripping.contains(name))
    };
    let lines = verdicts.iter().filter(|domain| !goes_whole(domain)).map(|domain| {
        let mut line = format!("{}{}", if domain.essential { "!" } else { "" }, domain.name);
        for (path, strips) in telling(&domain.paths, policy.strips_unknown() || above(&domain.name)) {
            line.push('#');
            line.push_str(path.strip_prefix('/').filter(|_| strips).unwrap_or(path));
        }
        line
    });
    lines.collect::<Vec<_>>().join(" ")
}

/// Whether a pattern may hold what one before it holds: one with an inner wildcard may hold anything.
fn holds(wide: &str, narrow: &str) -> bool {
    let bare = wide.trim_end_matches('*');
    bare.contains('*') || narrow.contains('*') || narrow.starts_with(bare)
}

/// The patterns of a domain without those that change no verdict: one that only says again what a later one
/// says, and one that stays where nothing would go. `above`: a domain above this one is listed, or what nobody knows
/// goes.
fn telling(paths: &[(String, bool)], above: bool) -> impl Iterator<Item = (&str, bool)> {
    paths.iter().enumerate().filter_map(move |(at, (path, strips))| {
        let (mut same, mut other) = (false, false);
        for (later, goes) in &paths[at + 1..] {
            other |= goes != strips && holds(later, path);
            same |= !other && goes == strips && path.strip_suffix('/') == Some(later.as_str());
        }
        let same = same && !path.contains('*');
        let idle = !strips && !other && !above && path != "/";
        (!same && !idle).then_some((path.as_str(), *strips))
    })
}

/// Domains that go whole, cookies and storage keys that go, as the guard in the browser finds them.
///
/// Of a name, a hash is enough to know it again. A name's kind stands before it: `.` domain, `=` cookie,
/// `$` storage key.
#[derive(Debug)]
pub struct Names {
    /// The sorted [`hash`]es, each as four [`DIGITS`]: how much it is above the one before. A `*` at a name's end
    /// is hashed with it and stands for any rest.
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

/// What the browser computes of a name: FNV-1a of 32 bits over its UTF-16 units, from zero.
fn hash(name: &str) -> u32 {
    name.encode_utf16().fold(0, |hash, unit| (hash ^ u32::from(unit)).wrapping_mul(0x0100_0193))
}

/// Digits of the gaps, smallest first: what stands in a string as it is, lower case before the others, because
/// first digits are small and lower case is what scripts are made of. `match.js` counts the same.
static DIGITS: LazyLock<Vec<char>> =
    LazyLock::new(|| ('a'..='~').chain('\''..'a').filter(|c| !matches!(c, '<' | '>' | '\\')).collect());

/// The hashes as [`Names::hashes`] holds them.
fn gaps(names: &[String]) -> String {
    let digits = &*DIGITS;
    let base = u32::try_from(digits.len()).unwrap_or(u32::MAX);
    let widest = base.saturating_pow(4) - 1;
    let hashes: BTreeSet<u32> = names.iter().map(|name| hash(name)).collect();
    let (mut text, mut last) = (String::new(), 0);
    let mut write = |gap: u32| {
        let powers = [base.pow(3), base.pow(2), base, 1];
        text.extend(powers.iter().filter_map(|power| digits.get((gap / power % base) as usize)));
    };
    for hash in hashes {
        // A wider gap is crossed in steps, at the price of a hash that no name has.
        while hash - last > widest {
            last += widest;
            write(widest);
        }
        write(hash - last);
        last = hash;
    }
    text
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
        assert!(!table.contains("doubleclick"), "{table}");
        assert!(entries.iter().any(|e| e.starts_with("facebook.com#") && e.contains("#tr")), "{table}");
        assert!(table.is_ascii() && !table.contains('\n'));
        let found = read(&names(&policy()).hashes);
        assert!(found.contains(&hash(".doubleclick.net")) && !found.contains(&hash(".facebook.com")));
        assert!(found.contains(&hash("=_fbp")) && found.contains(&hash("=_ga_*")));
    }

    /// As `match.js` reads them.
    fn read(hashes: &str) -> BTreeSet<u32> {
        let digit = |c: char| {
            let code = u32::from(c);
            (code - 9 - u32::from(code > 60) - u32::from(code > 62) - u32::from(code > 92)) % 85
        };
        let codes: Vec<u32> = hashes.chars().map(digit).collect();
        let gaps = codes.chunks(4).map(|gap| gap.iter().fold(0, |sum, digit| sum * 85 + digit));
        gaps.scan(0, |sum, gap| {
            *sum += gap;
            Some(*sum)
        })
        .collect()
    }

    /// What changes no verdict costs no bytes.
    #[test]
    fn a_pattern_that_changes_no_verdict_is_left_out() {
        let told = |paths: &[(&str, bool)], above: bool| -> String {
            let paths: Vec<_> = paths.iter().map(|(path, strips)| ((*path).to_owned(), *strips)).collect();
            let kept: Vec<_> = telling(&paths, above).map(|(path, _)| path.to_owned()).collect();
            kept.join(" ")
        };
        assert_eq!(told(&[("/tr/", true), ("/tr", true)], false), "/tr");
        assert_eq!(told(&[("/tr/", true), ("/tr", false)], false), "/tr/");
        assert_eq!(told(&[("/sdk/js", false), ("/tag/", true)], false), "/tag/");
        assert_eq!(told(&[("/sdk/js", false), ("/tag/", true)], true), "/sdk/js /tag/");
        assert_eq!(told(&[("/a/b", false), ("/a/", true)], false), "/a/b /a/");
        assert_eq!(told(&[("/a/b", false), ("/*/b", true)], false), "/a/b /*/b");
        assert_eq!(told(&[("/v*/x/", true), ("/va/x", false), ("/v*/x", true)], false), "/v*/x/ /va/x /v*/x");
        assert_eq!(told(&[("/a/", true), ("/", false)], false), "/a/ /");
    }

    /// Every hash comes back, however wide the gap before it.
    #[test]
    fn the_gaps_add_up_to_the_hashes() {
        assert_eq!([hash(""), hash("a")], [0, 97 * 0x0100_0193], "FNV-1a's step");
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
