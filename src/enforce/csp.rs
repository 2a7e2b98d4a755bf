//! Content-Security-Policy: our guard admitted, reports to trackers dropped.
//!
//! All policies of all fields apply at once (CSP3, 2.4), so the guard runs only when every one of
//! them lets it. Report-only policies block nothing and are left as they are, but for their reports.

use http::HeaderMap;
use http::header::{CONTENT_SECURITY_POLICY, CONTENT_SECURITY_POLICY_REPORT_ONLY, HeaderName, HeaderValue};

/// What one policy says about our inline script.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    /// It runs as it is.
    Runs,
    /// It runs once its hash is added behind the directive that ends at this byte.
    AddAt(usize),
    /// Nothing we may add makes it run.
    Cannot,
}

/// Makes every enforced policy admit the inline script with this hash (`'sha256-...'`, quotes
/// included); gives whether the script can run.
///
/// The hash is added only where inline scripts are not allowed already: beside `'unsafe-inline'` it
/// would switch that off for the page's own scripts. A policy without any script (`'none'`, an empty
/// list, a sandbox without scripts) stays as it is, and then so does every other.
#[must_use]
pub fn admit_guard(headers: &mut HeaderMap, hash: &str) -> bool {
    let mut fields = Vec::new();
    let mut changed = false;
    for value in headers.get_all(CONTENT_SECURITY_POLICY) {
        // Bytes that are no text cannot be judged, so that nothing is promised.
        let Ok(text) = value.to_str() else { return false };
        let mut admitted = text.to_owned();
        // From the last to the first, so that places found earlier stay right.
        for (start, policy) in policies(text).into_iter().rev() {
            match judge(policy, hash) {
                Verdict::Runs => {}
                Verdict::Cannot => return false,
                Verdict::AddAt(end) => {
                    admitted.insert_str(start + end, &format!(" {hash}"));
                    changed = true;
                }
            }
        }
        let Ok(value) = HeaderValue::try_from(admitted) else { return false };
        fields.push(value);
    }
    if changed {
        replace(headers, CONTENT_SECURITY_POLICY, fields);
    }
    true
}

fn judge(policy: &str, hash: &str) -> Verdict {
    let directives = directives(policy);
    // Of a repeated directive the first counts.
    let find = |wanted: &str| directives.iter().find(|d| d.name.eq_ignore_ascii_case(wanted));
    if find("sandbox").is_some_and(|d| !d.sources().any(|token| token.eq_ignore_ascii_case("allow-scripts")))
    {
        return Verdict::Cannot;
    }
    let Some(directive) =
        find("script-src-elem").or_else(|| find("script-src")).or_else(|| find("default-src"))
    else {
        return Verdict::Runs;
    };
    let (mut inline, mut narrowed, mut any) = (false, false, false);
    for source in directive.sources() {
        let is = |known: &str| source.eq_ignore_ascii_case(known);
        if is("'none'") {
            continue;
        }
        any = true;
        if source == hash {
            return Verdict::Runs;
        }
        inline |= is("'unsafe-inline'");
        narrowed |= is("'strict-dynamic'") || is_nonce_or_hash(source);
    }
    match () {
        () if !any => Verdict::Cannot,
        () if inline && !narrowed => Verdict::Runs,
        () => Verdict::AddAt(directive.end),
    }
}

/// A nonce or hash switches `'unsafe-inline'` off (CSP3, "does a source list allow all inline behavior").
fn is_nonce_or_hash(source: &str) -> bool {
    ["'nonce-", "'sha256-", "'sha384-", "'sha512-"]
        .iter()
        .any(|prefix| source.get(..prefix.len()).is_some_and(|head| head.eq_ignore_ascii_case(prefix)))
}

/// Drops `report-uri` addresses for which `strips` says so, from enforced and report-only policies.
pub fn drop_reports(headers: &mut HeaderMap, strips: &dyn Fn(&str) -> bool) {
    for name in [CONTENT_SECURITY_POLICY, CONTENT_SECURITY_POLICY_REPORT_ONLY] {
        let mut changed = false;
        let mut fields: Vec<HeaderValue> = Vec::new();
        for value in headers.get_all(&name) {
            let edited = value.to_str().ok().and_then(|text| without_reports(text, strips));
            match edited.map(HeaderValue::try_from) {
                Some(Ok(value)) => {
                    changed = true;
                    fields.push(value);
                }
                _ => fields.push(value.clone()),
            }
        }
        if changed {
            replace(headers, name, fields);
        }
    }
}

/// `None` when nothing is to be dropped.
fn without_reports(text: &str, strips: &dyn Fn(&str) -> bool) -> Option<String> {
    let mut edited = text.to_owned();
    let mut changed = false;
    for (start, policy) in policies(text).into_iter().rev() {
        for directive in directives(policy).iter().rev() {
            if !directive.name.eq_ignore_ascii_case("report-uri") || !directive.sources().any(strips) {
                continue;
            }
            let kept: Vec<&str> = directive.sources().filter(|uri| !strips(uri)).collect();
            let line = if kept.is_empty() { String::new() } else { format!("report-uri {}", kept.join(" ")) };
            edited.replace_range(start + directive.start..start + directive.end, &line);
            changed = true;
        }
    }
    changed.then_some(edited)
}

fn replace(headers: &mut HeaderMap, name: HeaderName, fields: Vec<HeaderValue>) {
    headers.remove(&name);
    for field in fields {
        headers.append(&name, field);
    }
}

/// The policies of one field value with their places.
fn policies(text: &str) -> Vec<(usize, &str)> {
    let mut start = 0;
    text.split(',')
        .map(|policy| {
            let at = start;
            start += policy.len() + 1;
            (at, policy)
        })
        .collect()
}

struct Directive<'a> {
    name: &'a str,
    rest: &'a str,
    /// Where it begins and ends within its policy, white space around it left out.
    start: usize,
    end: usize,
}

impl<'a> Directive<'a> {
    fn sources(&self) -> impl Iterator<Item = &'a str> + use<'a> {
        self.rest.split_ascii_whitespace()
    }
}

fn directives(policy: &str) -> Vec<Directive<'_>> {
    let mut at = 0;
    policy
        .split(';')
        .filter_map(|raw| {
            let begins = at;
            at += raw.len() + 1;
            let text = raw.trim_ascii();
            let start = begins + raw.len() - raw.trim_ascii_start().len();
            let (name, rest) = text.split_once(|c: char| c.is_ascii_whitespace()).unwrap_or((text, ""));
            (!name.is_empty()).then_some(Directive { name, rest, start, end: start + text.len() })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const HASH: &str = "'sha256-abc='";

    fn admit(fields: &[&'static str]) -> (bool, Vec<String>) {
        let mut map = HeaderMap::new();
        for field in fields {
            map.append(CONTENT_SECURITY_POLICY, HeaderValue::from_static(field));
        }
        let runs = admit_guard(&mut map, HASH);
        let after = map.get_all(CONTENT_SECURITY_POLICY).iter();
        (runs, after.map(|v| v.to_str().unwrap().to_owned()).collect())
    }

    #[test]
    fn the_hash_goes_to_the_directive_that_governs_script_elements() {
        for (policy, want) in [
            ("script-src 'self'", "script-src 'self' 'sha256-abc='"),
            ("default-src 'self'; img-src *", "default-src 'self' 'sha256-abc='; img-src *"),
            (
                "script-src-elem a.example ; script-src *",
                "script-src-elem a.example 'sha256-abc=' ; script-src *",
            ),
            ("SCRIPT-SRC 'nonce-x' 'strict-dynamic'", "SCRIPT-SRC 'nonce-x' 'strict-dynamic' 'sha256-abc='"),
            ("script-src 'unsafe-inline' 'nonce-x'", "script-src 'unsafe-inline' 'nonce-x' 'sha256-abc='"),
            (
                "script-src 'self', default-src b",
                "script-src 'self' 'sha256-abc=', default-src b 'sha256-abc='",
            ),
            ("script-src 'self'; script-src 'none'", "script-src 'self' 'sha256-abc='; script-src 'none'"),
            ("script-src 'none' 'self'", "script-src 'none' 'self' 'sha256-abc='"),
            ("sandbox allow-scripts; script-src a", "sandbox allow-scripts; script-src a 'sha256-abc='"),
        ] {
            assert_eq!(admit(&[policy]), (true, vec![want.to_owned()]), "{policy}");
        }
    }

    /// Adding a hash beside `'unsafe-inline'` would switch it off (CSP3).
    #[test]
    fn nothing_is_added_where_the_guard_runs_already() {
        for policy in [
            "script-src 'self' 'unsafe-inline'",
            "script-src 'UNSAFE-INLINE'",
            "script-src 'sha256-abc='",
            "img-src 'none'; upgrade-insecure-requests",
            "",
            " ; ;, ",
        ] {
            assert_eq!(admit(&[policy]), (true, vec![policy.to_owned()]), "{policy}");
        }
        assert_eq!(admit(&[]), (true, vec![]));
    }

    #[test]
    fn one_policy_without_scripts_keeps_the_guard_out_and_all_policies_as_they_are() {
        for policy in ["script-src 'none'", "script-src", "default-src 'none'; img-src *", "sandbox"] {
            let fields = ["script-src 'self'", policy];
            assert_eq!(admit(&fields), (false, fields.map(str::to_owned).to_vec()), "{policy}");
        }
    }

    #[test]
    fn report_only_policies_are_untouched() {
        let mut map = HeaderMap::new();
        let value = HeaderValue::from_static("script-src 'none'");
        map.insert(CONTENT_SECURITY_POLICY_REPORT_ONLY, value.clone());
        assert!(admit_guard(&mut map, HASH));
        assert_eq!(map[CONTENT_SECURITY_POLICY_REPORT_ONLY], value);
    }

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
    }
}
