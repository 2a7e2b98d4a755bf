//! AMP components that name a vendor by a word instead of an address (amp.dev, component reference).
//!
//! An AMP page is checked as a whole and would not take our guard, so that `restrict` is `strip` here.

/// Component, its `type` (`-`: whatever it is), an address that it calls.
const TABLE: &str = include_str!("amp_vendors.txt");

/// The address that a component calls, by its (lower-case) name and its `type`.
///
/// Cost: one pass over a few dozen lines, for AMP components only.
pub(super) fn address(tag: &str, kind: &str) -> Option<&'static str> {
    // They differ in their place on the page, not in what they call.
    let tag = match tag {
        "amp-embed" | "amp-auto-ads" | "amp-sticky-ad" | "amp-story-auto-ads" => "amp-ad",
        "amp-story-auto-analytics" => "amp-analytics",
        other => other,
    };
    TABLE.lines().find_map(|line| {
        let mut words = line.split(' ');
        let same = words.next()? == tag && words.next().is_some_and(|k| k == "-" || k == kind);
        same.then(|| words.next())?
    })
}

/// Whether an attribute of the `html` element says that the page is AMP: it is checked as a whole, and a
/// script of ours would make it invalid.
///
/// The lightning (U+26A1) may have a selector of variants behind it, and both have forms for mail and
/// advertisements (`amp4ads`). `name` is the page's bytes.
pub(super) fn is_mark(name: &[u8]) -> bool {
    name.starts_with(b"\xE2\x9A\xA1")
        || [&b"amp"[..], b"amp4ads", b"amp4email"].iter().any(|known| name.eq_ignore_ascii_case(known))
}

/// Whether a component's script element tells it what to send.
pub(super) fn is_configured(tag: &str) -> bool {
    matches!(
        tag,
        "amp-analytics"
            | "amp-story-auto-analytics"
            | "amp-auto-ads"
            | "amp-story-auto-ads"
            | "amp-ad"
            | "amp-embed"
            | "amp-consent"
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{VendorAction, VendorPolicy};
    use crate::registry::{Policy, Registry};

    /// Every address of the table belongs to someone in the registry: a word nobody judges is a typo.
    #[test]
    fn every_word_of_amp_leads_to_a_vendor() {
        let registry = std::sync::Arc::new(Registry::builtin().unwrap());
        let policy = Policy::resolve(registry, &VendorPolicy::default()).unwrap();
        for line in TABLE.lines() {
            let url = url::Url::parse(line.split(' ').nth(2).unwrap()).unwrap();
            let hit = policy.match_url(url.host_str().unwrap(), url.path());
            assert!(hit.is_some_and(|hit| hit.action != VendorAction::Allow), "{line}: {hit:?}");
        }
    }

    /// amp.dev, "Required markup": the word or the sign, in any case, and nothing that only begins like it.
    #[test]
    fn an_amp_page_is_known_by_its_mark() {
        for name in ["amp", "AMP", "amp4ads", "\u{26a1}", "\u{26a1}4email"] {
            assert!(is_mark(name.as_bytes()), "{name}");
        }
        for name in ["amp-version", "class", "", "\u{26a0}"] {
            assert!(!is_mark(name.as_bytes()), "{name}");
        }
    }

    #[test]
    fn a_component_is_read_by_its_type() {
        assert_eq!(address("amp-analytics", "facebookpixel"), Some("https://www.facebook.com/tr"));
        assert_eq!(address("amp-facebook-like", ""), Some("https://connect.facebook.net/en_US/sdk.js"));
        assert!(address("amp-embed", "taboola").is_some());
        assert_eq!(address("amp-analytics", "own"), None);
        assert_eq!(address("amp-carousel", "taboola"), None);
    }
}
