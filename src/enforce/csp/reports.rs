//! `report-uri` of the page's own policies: never to a tracker.

use http::HeaderMap;
use http::header::{CONTENT_SECURITY_POLICY, CONTENT_SECURITY_POLICY_REPORT_ONLY};

use super::edit;
use super::policy::{directives, policies};

/// Drops `report-uri` addresses for which `strips` says so, from enforced and report-only policies.
pub fn drop_reports(headers: &mut HeaderMap, strips: &dyn Fn(&str) -> bool) {
    for name in [CONTENT_SECURITY_POLICY, CONTENT_SECURITY_POLICY_REPORT_ONLY] {
        edit(headers, &name, |text| without_reports(text, strips));
    }
}

/// `None` when nothing is to be dropped.
fn without_reports(text: &str, strips: &dyn Fn(&str) -> bool) -> Option<String> {
    let mut edited = text.to_owned();
    let mut changed = false;
    for (start, policy) in policies(text).into_iter().rev() {
        for directive in directives(policy).iter().rev() {
            if !directive.name.eq_ignore_ascii_case("report-uri") || !directive.values().any(strips) {
                continue;
            }
            let kept: Vec<&str> = directive.values().filter(|uri| !strips(uri)).collect();
            let line = if kept.is_empty() { String::new() } else { format!("report-uri {}", kept.join(" ")) };
            edited.replace_range(start + directive.start..start + directive.end, &line);
            changed = true;
        }
    }
    changed.then_some(edited)
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;

    #[test]
    fn reports_to_trackers_are_dropped_one_by_one() {
        let strips = |uri: &str| uri.contains("ads.example");
        for (before, after) in [
            ("img-src *; report-uri https://ads.example/r /own", "img-src *; report-uri /own"),
            ("report-uri //ads.example; img-src *", "; img-src *"),
            ("img-src ads.example", "img-src ads.example"),
            ("a b, REPORT-URI https://ads.example/", "a b, "),
        ] {
            for name in [CONTENT_SECURITY_POLICY, CONTENT_SECURITY_POLICY_REPORT_ONLY] {
                let mut map = HeaderMap::new();
                map.insert(&name, HeaderValue::from_static(before));
                drop_reports(&mut map, &strips);
                assert_eq!(map[&name], after, "{before}");
            }
        }
        let mut map = HeaderMap::new();
        let value = HeaderValue::from_bytes(b"img-src \xe9; report-uri https://ads.example/r /own").unwrap();
        map.insert(CONTENT_SECURITY_POLICY, value);
        drop_reports(&mut map, &strips);
        assert_eq!(map[CONTENT_SECURITY_POLICY].as_bytes(), b"img-src \xe9; report-uri /own");
    }
}
