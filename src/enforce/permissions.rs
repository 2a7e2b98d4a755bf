//! `Permissions-Policy`: the browser's advertising features denied to an opted-out page.

use http::HeaderMap;
use http::header::{HeaderName, HeaderValue};

use super::references::split_list;

const NAME: HeaderName = HeaderName::from_static("permissions-policy");

/// Features denied to the page and everything in it.
const DENIED: [&str; 6] = [
    "browsing-topics",
    "attribution-reporting",
    "run-ad-auction",
    "join-ad-interest-group",
    "shared-storage",
    "interest-cohort",
];

/// Them alone: what a page without a policy of its own gets.
const DENIALS: &str = "browsing-topics=(), attribution-reporting=(), run-ad-auction=(), \
                       join-ad-interest-group=(), shared-storage=(), interest-cohort=()";

/// Adds our denials to the page's own policy, and takes the hosts that `strips` names out of what it lets
/// others know of the browser (`ch-*`, User-Agent Client Hints, delegated by policy).
///
/// A policy is a dictionary (RFC 9651, 3.2): one malformed member makes browsers drop all of it, ours
/// included. So what is malformed, and therefore without effect today, is not carried on.
///
/// Cost: a look-up and an insertion where the page has no policy.
pub fn deny_advertising(headers: &mut HeaderMap, strips: &dyn Fn(&str) -> bool) {
    if !headers.contains_key(NAME) {
        headers.insert(NAME, HeaderValue::from_static(DENIALS));
        return;
    }
    let mut members: Vec<String> = Vec::new();
    let mut well_formed = true;
    for value in headers.get_all(NAME) {
        let Ok(text) = value.to_str() else {
            well_formed = false;
            break;
        };
        for member in split_list(text) {
            let key = member.split(['=', ';']).next().unwrap_or_default();
            well_formed &= is_member(member, key);
            if !DENIED.contains(&key) {
                members.push(if key.starts_with("ch-") {
                    without_hosts(member, strips)
                } else {
                    member.to_owned()
                });
            }
        }
    }
    if !well_formed {
        members.clear();
    }
    members.push(DENIALS.to_owned());
    if let Ok(value) = HeaderValue::try_from(members.join(", ")) {
        headers.insert(NAME, value);
    }
}

/// `key=(self "https://a" "https://b")` without the hosts that are named.
fn without_hosts(member: &str, strips: &dyn Fn(&str) -> bool) -> String {
    let mut out = String::with_capacity(member.len());
    for (at, piece) in member.split('"').enumerate() {
        match at % 2 {
            0 => out.push_str(piece),
            _ if strips(piece) => {}
            _ => out.push_str(&format!("\"{piece}\"")),
        }
    }
    // A value of one host alone needs another in its place.
    if out.ends_with('=') { out + "()" } else { out }
}

/// Whether a member has a dictionary's form, as far as policies use it: `key`, `key=value` or
/// `key=(list)`, parameters behind.
fn is_member(member: &str, key: &str) -> bool {
    let key_ok = key.starts_with(|c: char| c.is_ascii_lowercase() || c == '*')
        && key.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"_-.*".contains(&b));
    let rest = &member[key.len()..];
    let value_ok = match rest.strip_prefix('=') {
        None => rest.is_empty() || rest.starts_with(';'),
        Some(list) if list.starts_with('(') => list.find(')').is_some_and(|end| {
            !list[1..end].contains('(') && matches!(list[end + 1..].bytes().next(), None | Some(b';'))
        }),
        Some(value) => {
            !value.is_empty() && (value.starts_with('"') || !value.contains([' ', '\t', '(', ')']))
        }
    };
    key_ok && value_ok && rest.matches('"').count().is_multiple_of(2) && !rest.contains('\'')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn denied(lines: &[&'static str]) -> String {
        let mut map = HeaderMap::new();
        for line in lines {
            map.append(NAME, HeaderValue::from_static(line));
        }
        deny_advertising(&mut map, &|host| host.contains("ads.example"));
        let values: Vec<_> = map.get_all(NAME).iter().map(|v| v.to_str().unwrap()).collect();
        values.join(" | ")
    }

    #[test]
    fn every_denied_feature_is_denied() {
        let members: Vec<String> = DENIED.iter().map(|feature| format!("{feature}=()")).collect();
        assert_eq!(members.join(", "), DENIALS);
    }

    #[test]
    fn our_denials_join_the_pages_own_policy() {
        assert_eq!(denied(&[]), DENIALS);
        assert_eq!(
            denied(&["camera=(), geolocation=(self \"https://a.example\")", "usb=*"]),
            format!("camera=(), geolocation=(self \"https://a.example\"), usb=*, {DENIALS}")
        );
        assert_eq!(denied(&["browsing-topics=(self), usb=()"]), format!("usb=(), {DENIALS}"));
        assert_eq!(denied(&["usb=();report-to=x, midi"]), format!("usb=();report-to=x, midi, {DENIALS}"));
    }

    /// User-Agent Client Hints: what is delegated to a tracker is not.
    #[test]
    fn client_hints_are_not_delegated_to_trackers() {
        for (before, after) in [
            (
                "ch-ua-model=(self \"https://ads.example\" \"https://b.example\")",
                "ch-ua-model=(self  \"https://b.example\")",
            ),
            ("ch-dpr=\"https://ads.example\"", "ch-dpr=()"),
            ("ch-ua=*, camera=(\"https://ads.example\")", "ch-ua=*, camera=(\"https://ads.example\")"),
        ] {
            assert_eq!(denied(&[before]), format!("{after}, {DENIALS}"));
        }
    }

    /// RFC 9651: one malformed member drops the whole dictionary, and our denials with it.
    #[test]
    fn a_malformed_policy_is_replaced() {
        for bad in ["camera 'none'", "camera=(self", "Camera=()", "camera=", "usb=(), =x", "a=\"b"] {
            assert_eq!(denied(&[bad]), DENIALS, "{bad}");
        }
    }
}
