//! The policy as the guard in the browser reads it: the same verdicts in a few kilobytes.

use std::fmt::Write as _;

use crate::registry::Policy;

/// Domains separated by spaces: `name`, with `!` before it when an essential vendor lives there too, and
/// each path pattern behind a `#`, with `-` before it when it stays. A name alone goes with every path.
///
/// `match.js` reads it; a test in a browser compares its verdicts with [`Policy::match_url`]'s.
#[must_use]
pub fn domains(policy: &Policy) -> String {
    let mut table = String::new();
    for domain in policy.verdicts() {
        if !table.is_empty() {
            table.push(' ');
        }
        if domain.essential {
            table.push('!');
        }
        table.push_str(&domain.name);
        if domain.paths == [("/".to_owned(), true)] {
            continue;
        }
        for (path, strips) in &domain.paths {
            // Writing to a string cannot fail.
            let _ = write!(table, "#{}{path}", if *strips { "" } else { "-" });
        }
    }
    table
}

/// Names of cookies that go, names of those that stay all the same, and storage keys that go: each
/// separated by line ends.
#[must_use]
pub fn names(policy: &Policy) -> [String; 3] {
    let (gone, kept) = policy.cookie_verdicts();
    [gone.join("\n"), kept.join("\n"), policy.storage_verdicts().join("\n")]
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
    fn a_domain_that_goes_whole_is_its_name_and_a_mixed_one_has_its_paths() {
        let table = domains(&policy());
        let entries: Vec<&str> = table.split(' ').collect();
        assert!(entries.contains(&"doubleclick.net"), "{table}");
        assert!(entries.iter().any(|e| e.starts_with("facebook.com#") && e.contains("#/tr")), "{table}");
        assert!(table.is_ascii() && !table.contains('\n'));
    }

    #[test]
    fn a_literal_cannot_leave_its_script() {
        assert_eq!(
            literal("a\"\\\n</script>\u{e9}\u{1f600}"),
            "\"a\\\"\\\\\\n\\x3c/script\\x3e\\u00e9\\ud83d\\ude00\""
        );
    }
}
