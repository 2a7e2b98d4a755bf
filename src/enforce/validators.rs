//! Entity tags that tell the variants of a page apart.
//!
//! A browser that holds the page with its trackers and then opts out must not be told "not modified".
//! So every rewritten page has a weak tag of ours that names the rules in force, the choice and the
//! kind of document; only a tag of the same variant is mapped back for the origin (RFC 9110, 8.8.3
//! and 13.1.2).

use http::HeaderMap;
use http::header::{ETAG, HeaderValue, IF_NONE_MATCH};
use sha2::{Digest as _, Sha256};

use super::html::Kind;
use super::keeper;
use crate::config;

/// First word of our tags; changes when their form does.
const MARK: &str = "og1";

/// Which variant of a page.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Variant<'a> {
    /// The rules in force, from [`variant_version`].
    pub version: &'a str,
    /// The visitor has opted out.
    pub opted_out: bool,
    /// A framed page has no link, a fragment no guard: they are variants too.
    pub kind: Kind,
}

impl Variant<'_> {
    /// Everything of our tag before the origin's own: `og1.VERSION.od.`.
    fn prefix(&self) -> String {
        let choice = if self.opted_out { "o" } else { "n" };
        let kind = match self.kind {
            Kind::Document => "d",
            Kind::Frame => "f",
            Kind::Fragment => "p",
            Kind::Unsure => "u",
            Kind::Worker => "w",
        };
        [MARK, ".", self.version, ".", choice, kind, "."].concat()
    }
}

/// Short text (16 hex digits) that changes with anything that changes a rewritten page: this release,
/// the registry, the site's rules, the link, its keeper and the portal's place, what vendors are told. Made
/// once when settings load.
#[must_use]
pub fn variant_version(
    registry_version: &str,
    site: &config::Site,
    portal: &config::Portal,
    signals: &config::SignalSettings,
) -> String {
    let mut hash = Sha256::new();
    // `Debug` shows every field, so that a new setting can never be forgotten here.
    for part in [
        env!("CARGO_PKG_VERSION"),
        registry_version,
        keeper::csp_hash(),
        &format!("{:?}{:?}{:?}", site.policy, site.paths, site.csp),
        &format!("{portal:?}{signals:?}"),
    ] {
        hash.update((part.len() as u64).to_be_bytes());
        hash.update(part);
    }
    data_encoding::HEXLOWER.encode(&hash.finalize()[..8])
}

/// The version of the same rules with hosts found to be vendors' while running; without any it is the
/// version itself. Any earlier list in `version` is replaced.
#[must_use]
pub fn version_with_hosts<'a>(version: &str, hosts: impl IntoIterator<Item = (&'a str, &'a str)>) -> String {
    let rules = version.split('-').next().unwrap_or_default();
    let mut lines: Vec<String> =
        hosts.into_iter().map(|(host, vendor)| format!("{host} {vendor}\n")).collect();
    if lines.is_empty() {
        return rules.to_owned();
    }
    lines.sort_unstable();
    let hash = Sha256::digest(lines.concat());
    format!("{rules}-{}", data_encoding::HEXLOWER.encode(&hash[..4]))
}

/// The variant's weak tag for the origin's tag; `None` when that is malformed.
#[must_use]
pub fn variant_tag(origin: &HeaderValue, variant: &Variant<'_>) -> Option<HeaderValue> {
    let bytes = origin.as_bytes();
    let (strength, quoted) = match bytes.strip_prefix(b"W/") {
        Some(quoted) => (&b"w."[..], quoted),
        None => (&b"s."[..], bytes),
    };
    let opaque = quoted.strip_prefix(b"\"")?.strip_suffix(b"\"")?;
    if !opaque.iter().all(|&b| is_tag_byte(b)) {
        return None;
    }
    let tag = [b"W/\"", variant.prefix().as_bytes(), strength, opaque, b"\""].concat();
    HeaderValue::from_maybe_shared(bytes::Bytes::from(tag)).ok()
}

/// The origin's tag behind one of ours; `None` when it is not ours or of another variant.
#[must_use]
pub fn unvariant_tag(tag: &[u8], variant: &Variant<'_>) -> Option<Vec<u8>> {
    // A front that re-codes may have dropped the `W/`.
    let quoted = tag.strip_prefix(b"W/").unwrap_or(tag);
    let opaque = quoted.strip_prefix(b"\"")?.strip_suffix(b"\"")?;
    let (weak, opaque) = match opaque.strip_prefix(variant.prefix().as_bytes())? {
        [b'w', b'.', opaque @ ..] => (true, opaque),
        [b's', b'.', opaque @ ..] => (false, opaque),
        _ => return None,
    };
    let mut origin = if weak { b"W/\"".to_vec() } else { b"\"".to_vec() };
    origin.extend_from_slice(opaque);
    origin.push(b'"');
    Some(origin)
}

/// Maps `If-None-Match` back for the origin; gives whether a tag of ours is among what is sent.
///
/// With `keep_foreign` other tags stay (bodies that nobody rewrites); without it they and `*` go,
/// since the origin's "not modified" about them would bring another variant back.
pub fn map_if_none_match(headers: &mut HeaderMap, variant: &Variant<'_>, keep_foreign: bool) -> bool {
    let (mut kept, mut ours): (Vec<u8>, _) = (Vec::new(), false);
    for value in headers.get_all(IF_NONE_MATCH) {
        for tag in tags(value.as_bytes()) {
            let mapped = unvariant_tag(tag, variant);
            ours |= mapped.is_some();
            let Some(tag) = mapped.or_else(|| keep_foreign.then(|| tag.to_vec())) else { continue };
            if !kept.is_empty() {
                kept.extend_from_slice(b", ");
            }
            kept.extend_from_slice(&tag);
        }
    }
    match HeaderValue::from_bytes(&kept) {
        Ok(value) if !kept.is_empty() => {
            headers.insert(IF_NONE_MATCH, value);
            ours
        }
        _ => {
            headers.remove(IF_NONE_MATCH);
            false
        }
    }
}

/// Turns the response's tag into the variant's; a malformed one is removed.
pub fn mark_etag(headers: &mut HeaderMap, variant: &Variant<'_>) {
    let Some(tag) = headers.remove(ETAG) else { return };
    if let Some(tag) = variant_tag(&tag, variant) {
        headers.insert(ETAG, tag);
    }
}

/// RFC 9110, 8.8.3: `etagc`.
const fn is_tag_byte(b: u8) -> bool {
    b == 0x21 || (b >= 0x23 && b != 0x7f)
}

/// Splits a list of entity tags; commas inside quotes do not count.
fn tags(list: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut quoted = false;
    list.split(move |&b| {
        quoted ^= b == b'"';
        b == b',' && !quoted
    })
    .map(<[u8]>::trim_ascii)
    .filter(|tag| !tag.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    const OUT: Variant<'static> = Variant { version: "0a1b", opted_out: true, kind: Kind::Document };

    fn mapped(list: &'static str, keep_foreign: bool) -> (Option<String>, bool) {
        let mut map = HeaderMap::new();
        map.insert(IF_NONE_MATCH, HeaderValue::from_static(list));
        let ours = map_if_none_match(&mut map, &OUT, keep_foreign);
        (map.get(IF_NONE_MATCH).map(|v| v.to_str().unwrap().to_owned()), ours)
    }

    /// Strong or weak, the origin gets its own bytes back, and clients a weak tag.
    #[test]
    fn a_tag_goes_out_weak_and_comes_back_as_it_was() {
        for origin in ["\"abc\"", "W/\"abc\"", "\"\"", "\"a,b.c\"", "W/\"og1.x\""] {
            let tag = variant_tag(&HeaderValue::from_static(origin), &OUT).unwrap();
            assert!(tag.as_bytes().starts_with(b"W/\"og1.0a1b.od."), "{origin}");
            assert_eq!(unvariant_tag(tag.as_bytes(), &OUT).unwrap(), origin.as_bytes());
        }
        for bad in ["abc", "\"abc", "w/\"a\"", "\"a\"b\"", "\"a b\"", ""] {
            assert_eq!(variant_tag(&HeaderValue::from_static(bad), &OUT), None, "{bad}");
        }
    }

    #[test]
    fn a_tag_of_another_variant_is_none_of_ours() {
        let tag = variant_tag(&HeaderValue::from_static("\"a\""), &OUT).unwrap();
        for other in [
            Variant { opted_out: false, ..OUT },
            Variant { kind: Kind::Frame, ..OUT },
            Variant { version: "0a1c", ..OUT },
        ] {
            assert_eq!(unvariant_tag(tag.as_bytes(), &other), None, "{other:?}");
        }
    }

    #[test]
    fn only_tags_of_the_current_variant_reach_the_origin() {
        for (list, want, ours) in [
            ("W/\"og1.0a1b.od.s.x\"", Some("\"x\""), true),
            ("\"x\", W/\"og1.0a1b.od.w.a,b\", \"y\"", Some("W/\"a,b\""), true),
            ("W/\"og1.0a1b.od.s.x\",W/\"og1.0a1b.od.s.y\"", Some("\"x\", \"y\""), true),
            ("W/\"og1.0a1b.nd.s.x\"", None, false),
            ("\"x\"", None, false),
            ("*", None, false),
        ] {
            assert_eq!(mapped(list, false), (want.map(str::to_owned), ours), "{list}");
        }
        assert_eq!(mapped("\"x\", *", true), (Some("\"x\", *".to_owned()), false));
    }

    /// A page in a browser's cache must not outlive the day its host is found to be a tracker's.
    #[test]
    fn hosts_found_while_running_make_another_version() {
        let found = [("m.shop.example", "adobe-analytics"), ("b.shop.example", "criteo")];
        let version = version_with_hosts("0a1b", found);
        assert_ne!(version, "0a1b");
        assert_eq!(version_with_hosts(&version, found.into_iter().rev()), version, "order does not count");
        assert_ne!(version_with_hosts(&version, [found[0]]), version);
        assert_eq!(version_with_hosts(&version, []), "0a1b");
    }

    #[test]
    fn a_malformed_tag_is_removed_rather_than_passed() {
        let mut map = HeaderMap::new();
        map.insert(ETAG, HeaderValue::from_static("abc"));
        mark_etag(&mut map, &OUT);
        assert!(map.is_empty());
    }
}
