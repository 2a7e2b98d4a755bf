//! Our inline scripts let in by the policies of a page.

use std::borrow::Cow;

use http::HeaderMap;
use http::header::{CONTENT_SECURITY_POLICY, CONTENT_SECURITY_POLICY_REPORT_ONLY, HeaderName, HeaderValue};

use super::policy::{Verdict, directives, find, judge, lists_hashes, policies};
use super::{edit, replace, text_of, value_of};

/// The name of the guard's Trusted Types policy.
pub const TRUSTED_TYPES_POLICY: &str = "optgate";

/// Whether inline scripts of ours run on a page, and how.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Admission {
    /// They run; with a nonce, only when every one of their elements carries it.
    Runs {
        /// The page's own nonce: base64 characters only, so that it may stand in an attribute as it is.
        nonce: Option<String>,
    },
    /// No policy we may write lets them.
    Cannot,
}

/// What a policy in a `meta` means for inline scripts of ours behind it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum InMeta {
    /// They run under it as it is.
    Runs,
    /// They run once this is its content.
    Edited(String),
    /// Nothing we may write lets them.
    Cannot,
}

/// Which nonce the elements of our scripts carry.
#[derive(Debug, Clone, Copy)]
enum Nonce<'a> {
    /// The one that serves most policies, if there is any.
    Best,
    /// This, or none.
    Given(Option<&'a str>),
}

/// Makes every enforced policy of the head admit the inline scripts with these hashes (`'sha256-...'`,
/// quotes included).
///
/// A nonce of the page is used where one policy or more need something and have one; the policies that do
/// not hold it get the hashes. Nothing is added where inline scripts are allowed already: beside
/// `'unsafe-inline'` a hash would switch that off for the page's own scripts. A policy without any script
/// (`'none'`, an empty list, a sandbox without scripts) stays as it is, and then so does every other.
#[must_use]
pub fn admit(headers: &mut HeaderMap, hashes: &[&str]) -> Admission {
    admit_with(headers, &CONTENT_SECURITY_POLICY, hashes, Nonce::Best)
}

/// As [`admit`], for elements that carry no nonce: every policy that needs something gets the hashes.
///
/// For a 304, too: the page it renews has the nonce of its own time.
#[must_use]
pub fn admit_by_hash(headers: &mut HeaderMap, hashes: &[&str]) -> bool {
    admit_with(headers, &CONTENT_SECURITY_POLICY, hashes, Nonce::Given(None)) != Admission::Cannot
}

/// Makes the report-only policies say nothing of these scripts either; false where one must. They block
/// nothing, so this is for scripts of ours that are not worth a report on every page.
///
/// `nonce` is the one on their elements, from [`Admission::Runs`].
#[must_use]
pub fn admit_reported(headers: &mut HeaderMap, hashes: &[&str], nonce: Option<&str>) -> bool {
    let name = &CONTENT_SECURITY_POLICY_REPORT_ONLY;
    admit_with(headers, name, hashes, Nonce::Given(nonce)) != Admission::Cannot
}

/// Whether a policy of the head lets inline scripts in by the hash of their text, so that none may be changed.
#[must_use]
pub fn know_scripts_by_hash(headers: &HeaderMap) -> bool {
    let mut fields = headers.get_all(CONTENT_SECURITY_POLICY).iter();
    fields.any(|value| knows_scripts_by_hash(&text_of(value)))
}

/// The same for the text of a field, or the content of a `meta`.
#[must_use]
pub fn knows_scripts_by_hash(text: &str) -> bool {
    policies(text).into_iter().any(|(_, policy)| lists_hashes(policy))
}

/// Cost: no allocation where the head has no policy.
fn admit_with(headers: &mut HeaderMap, name: &HeaderName, hashes: &[&str], nonce: Nonce<'_>) -> Admission {
    let fields: Vec<Cow<'_, str>> = headers.get_all(name).iter().map(text_of).collect();
    let mut needs = Vec::new();
    for (field, text) in fields.iter().enumerate() {
        for (start, policy) in policies(text) {
            match judge(policy, hashes, true) {
                Verdict::Runs => {}
                Verdict::Cannot => return Admission::Cannot,
                Verdict::Needs { nonces, missing, end, opening } => {
                    needs.push((field, start + end, nonces, opening + &list(hashes, &missing)));
                }
            }
        }
    }
    let nonce = match nonce {
        Nonce::Best => commonest(needs.iter().map(|(_, _, nonces, _)| nonces.as_slice())),
        Nonce::Given(nonce) => nonce,
    };
    let mut edited: Vec<Cow<'_, str>> = fields.iter().map(|text| Cow::Borrowed(&**text)).collect();
    // From the last to the first, so that places found earlier stay right.
    for (field, end, nonces, addition) in needs.iter().rev() {
        if nonce.is_none_or(|nonce| !nonces.contains(&nonce)) {
            edited[*field].to_mut().insert_str(*end, addition);
        }
    }
    let nonce = nonce.map(str::to_owned);
    let changed = edited.iter().any(|text| matches!(text, Cow::Owned(_)));
    let values: Option<Vec<HeaderValue>> = edited.iter().map(|text| value_of(text)).collect();
    match values {
        None => return Admission::Cannot,
        Some(values) if changed => replace(headers, name.clone(), values),
        Some(_) => {}
    }
    Admission::Runs { nonce }
}

/// The nonce that most of the lists hold; of equals the first.
fn commonest<'a>(lists: impl Iterator<Item = &'a [&'a str]>) -> Option<&'a str> {
    let mut counts: Vec<(&str, usize)> = Vec::new();
    for nonce in lists.flatten() {
        match counts.iter_mut().find(|(known, _)| known == nonce) {
            Some((_, count)) => *count += 1,
            None => counts.push((nonce, 1)),
        }
    }
    let most = counts.iter().map(|(_, count)| *count).max()?;
    counts.into_iter().find(|(_, count)| *count == most).map(|(nonce, _)| nonce)
}

fn list(hashes: &[&str], which: &[usize]) -> String {
    let mut out = String::new();
    for at in which {
        out.push(' ');
        out.push_str(hashes[*at]);
    }
    out
}

/// What the content of a `meta` policy means for scripts of ours with these hashes, and with this nonce from
/// [`Admission::Runs`] on their elements.
///
/// The directives that a `meta` cannot set, `sandbox` among them, mean nothing here (HTML, 4.2.5.3). The
/// guard's Trusted Types policy is made before the `meta` is read, so that its name need not be added.
#[must_use]
pub fn admit_in_meta(content: &str, hashes: &[&str], nonce: Option<&str>) -> InMeta {
    let mut edited = Cow::Borrowed(content);
    for (start, policy) in policies(content).into_iter().rev() {
        match judge(policy, hashes, false) {
            Verdict::Runs => {}
            Verdict::Cannot => return InMeta::Cannot,
            Verdict::Needs { nonces, missing, end, opening } => {
                if !nonce.is_some_and(|nonce| nonces.contains(&nonce)) {
                    edited.to_mut().insert_str(start + end, &(opening + &list(hashes, &missing)));
                }
            }
        }
    }
    match edited {
        Cow::Borrowed(_) => InMeta::Runs,
        Cow::Owned(edited) => InMeta::Edited(edited),
    }
}

/// Lets the guard make its Trusted Types policy: its name is added to every list of names in the head.
///
/// The guard makes it before any other script runs, and a name is given once; so nobody else gains a
/// policy. Beside `'allow-duplicates'` that would not hold, and nothing is added. Lists count without
/// `require-trusted-types-for` too: a `meta` may still bring that.
pub fn admit_policy_name(headers: &mut HeaderMap) {
    edit(headers, &CONTENT_SECURITY_POLICY, with_policy_name);
}

/// `None` when nothing is to be added.
fn with_policy_name(text: &str) -> Option<String> {
    let mut edited = text.to_owned();
    let mut changed = false;
    for (start, policy) in policies(text).into_iter().rev() {
        let directives = directives(policy);
        let Some(directive) = find(&directives, "trusted-types") else { continue };
        let settled = |value: &str| {
            matches!(value, "*" | TRUSTED_TYPES_POLICY) || value.eq_ignore_ascii_case("'allow-duplicates'")
        };
        if !directive.values().any(settled) {
            edited.insert_str(start + directive.end, &format!(" {TRUSTED_TYPES_POLICY}"));
            changed = true;
        }
    }
    changed.then_some(edited)
}

/// What was settled with Chromium 156 by hand is said so; the browser tests repeat it.
#[cfg(test)]
mod tests {
    use super::*;

    const A: &str = "'sha256-abc='";
    const B: &str = "'sha256-d+/f'";

    fn fields(map: &HeaderMap) -> Vec<String> {
        map.get_all(CONTENT_SECURITY_POLICY).iter().map(|v| v.to_str().unwrap().to_owned()).collect()
    }

    fn head(fields: &[&'static str]) -> HeaderMap {
        let mut map = HeaderMap::new();
        for field in fields {
            map.append(CONTENT_SECURITY_POLICY, HeaderValue::from_static(field));
        }
        map
    }

    /// By hash alone: whether it runs, and the fields after.
    fn by_hash(before: &[&'static str]) -> (bool, Vec<String>) {
        let mut map = head(before);
        let runs = admit_by_hash(&mut map, &[A]);
        (runs, fields(&map))
    }

    fn with(before: &[&'static str], hashes: &[&str]) -> (Admission, Vec<String>) {
        let mut map = head(before);
        let admission = admit(&mut map, hashes);
        (admission, fields(&map))
    }

    fn runs(nonce: Option<&str>) -> Admission {
        Admission::Runs { nonce: nonce.map(str::to_owned) }
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
                "script-src 'strict-dynamic' 'unsafe-inline'",
                "script-src 'strict-dynamic' 'unsafe-inline' 'sha256-abc='",
            ),
            (
                "script-src 'self', default-src b",
                "script-src 'self' 'sha256-abc=', default-src b 'sha256-abc='",
            ),
            ("script-src 'self'; script-src 'none'", "script-src 'self' 'sha256-abc='; script-src 'none'"),
            ("script-src 'none' 'self'", "script-src 'none' 'self' 'sha256-abc='"),
            ("sandbox allow-scripts; script-src a", "sandbox allow-scripts; script-src a 'sha256-abc='"),
            ("script-src-attr 'none'; script-src a", "script-src-attr 'none'; script-src a 'sha256-abc='"),
        ] {
            assert_eq!(by_hash(&[policy]), (true, vec![want.to_owned()]), "{policy}");
        }
    }

    /// Inline styles do not care for `'strict-dynamic'`, but a hash in the directive that governs them would
    /// switch them off (CSP3 6.7.3.2): scripts then get a directive of their own.
    #[test]
    fn a_hash_for_scripts_leaves_inline_styles_as_they_are() {
        for (policy, want) in [
            (
                "default-src 'unsafe-inline' 'strict-dynamic' ; img-src *",
                "default-src 'unsafe-inline' 'strict-dynamic'; script-src 'unsafe-inline' 'strict-dynamic' \
                 'sha256-abc=' ; img-src *",
            ),
            (
                "style-src *; default-src 'unsafe-inline' 'strict-dynamic'",
                "style-src *; default-src 'unsafe-inline' 'strict-dynamic' 'sha256-abc='",
            ),
            ("default-src 'unsafe-inline' 'nonce-x'", "default-src 'unsafe-inline' 'nonce-x' 'sha256-abc='"),
        ] {
            assert_eq!(by_hash(&[policy]), (true, vec![want.to_owned()]), "{policy}");
        }
    }

    /// CSP3 6.7.3.2: of the directive that governs script elements only, in any of the policies.
    #[test]
    fn a_policy_with_hashes_of_scripts_is_known() {
        for (policy, known) in [
            ("script-src 'sha256-abc='", true),
            ("img-src *, default-src 'SHA384-abc='", true),
            ("script-src-elem 'self'; script-src 'sha256-abc='", false),
            ("script-src 'self' 'nonce-x'; style-src 'sha256-abc='", false),
            ("script-src 'sha256-!!'", false),
            ("", false),
        ] {
            assert_eq!(knows_scripts_by_hash(policy), known, "{policy}");
            assert_eq!(know_scripts_by_hash(&head(&[policy])), known, "{policy}");
        }
    }

    /// Adding a hash beside `'unsafe-inline'` would switch it off (CSP3). What only looks like a nonce or hash
    /// does not: Chromium ran an inline script under each of these.
    #[test]
    fn nothing_is_added_where_our_scripts_run_already() {
        for policy in [
            "script-src 'self' 'unsafe-inline'",
            "script-src 'UNSAFE-INLINE'",
            "script-src 'unsafe-inline' 'nonce-'",
            "script-src 'unsafe-inline' 'nonce-a.b'",
            "script-src 'unsafe-inline' 'sha256-!!'",
            "script-src 'unsafe-inline' 'url-sha256-abc='",
            "script-src-elem 'unsafe-inline'; script-src 'none'",
            "script-src 'unsafe-inline'; script-src 'none'",
            "script-src 'sha256-abc='",
            "script-src 'SHA256-abc='",
            "script-src-attr 'none'",
            "img-src 'none'; upgrade-insecure-requests",
            "",
            " ; ;, ",
        ] {
            assert_eq!(by_hash(&[policy]), (true, vec![policy.to_owned()]), "{policy}");
            assert_eq!(with(&[policy], &[A]), (runs(None), vec![policy.to_owned()]), "{policy}");
        }
        assert_eq!(by_hash(&[]), (true, vec![]));
    }

    #[test]
    fn one_policy_without_scripts_keeps_us_out_and_leaves_all_policies_as_they_are() {
        for policy in [
            "script-src 'none'",
            "script-src",
            "default-src 'none'; img-src *",
            "sandbox",
            "img-src \u{e9}; script-src 'none'",
        ] {
            let fields = ["script-src 'self'", policy];
            let mut map = HeaderMap::new();
            for field in fields {
                map.append(CONTENT_SECURITY_POLICY, HeaderValue::from_bytes(field.as_bytes()).unwrap());
            }
            let before = map.clone();
            assert_eq!(admit(&mut map, &[A, B]), Admission::Cannot, "{policy}");
            assert!(!admit_by_hash(&mut map, &[A]), "{policy}");
            assert_eq!(map, before, "{policy}");
        }
    }

    /// CSP3, 2.2.1: a directive that is not all ASCII is passed over, and the others hold. The bytes stay.
    #[test]
    fn letters_in_a_directive_keep_nobody_out() {
        for (before, after) in [
            (&b"img-src \xe9; script-src 'self'"[..], &b"img-src \xe9; script-src 'self' 'sha256-abc='"[..]),
            (
                b"script-src 'self'; report-uri /\xc3\xa9, default-src a",
                b"script-src 'self' 'sha256-abc='; report-uri /\xc3\xa9, default-src a 'sha256-abc='",
            ),
            (b"\xe9", b"\xe9"),
            // Chromium 156 runs inline scripts under either.
            (b"script-src \xe9 'none'", b"script-src \xe9 'none'"),
            (b"script-src\xa0'none'; sandbox \xe9", b"script-src\xa0'none'; sandbox \xe9"),
        ] {
            let mut map = HeaderMap::new();
            map.insert(CONTENT_SECURITY_POLICY, HeaderValue::from_bytes(before).unwrap());
            assert!(admit_by_hash(&mut map, &[A]), "{before:?}");
            assert_eq!(map[CONTENT_SECURITY_POLICY].as_bytes(), after, "{before:?}");
        }
    }

    /// The page's nonce is used where there is one, and then no policy is touched for it.
    #[test]
    fn a_nonce_of_the_page_is_used_before_a_hash_is_added() {
        for policy in [
            "script-src 'nonce-x1'",
            "script-src 'nonce-x1' 'strict-dynamic' 'unsafe-inline' https:",
            "default-src 'self' 'NONCE-x1'",
            "script-src 'none' 'nonce-x1'",
            "img-src *, script-src 'nonce-x1' 'nonce-second'",
        ] {
            assert_eq!(with(&[policy], &[A, B]), (runs(Some("x1")), vec![policy.to_owned()]), "{policy}");
        }
    }

    /// All policies apply at once: one nonce for the elements, hashes for the policies that do not hold it.
    /// Chromium runs a script whose nonce is in one policy and whose hash is in the other.
    #[test]
    fn nonce_and_hash_serve_different_policies_of_one_page() {
        let want = |fields: &[&str]| fields.iter().map(|f| (*f).to_owned()).collect::<Vec<_>>();
        assert_eq!(
            with(&["script-src 'nonce-x'", "script-src 'self', default-src 'unsafe-inline'"], &[A, B]),
            (
                runs(Some("x")),
                want(&[
                    "script-src 'nonce-x'",
                    "script-src 'self' 'sha256-abc=' 'sha256-d+/f', default-src 'unsafe-inline'"
                ])
            )
        );
        // The nonce that most of them hold.
        assert_eq!(
            with(&["script-src 'nonce-a' 'nonce-b'", "script-src 'nonce-b'", "script-src 'nonce-c'"], &[A]),
            (
                runs(Some("b")),
                want(&[
                    "script-src 'nonce-a' 'nonce-b'",
                    "script-src 'nonce-b'",
                    "script-src 'nonce-c' 'sha256-abc='"
                ])
            )
        );
    }

    /// Of several scripts only those are added that are not listed, in either base64 alphabet.
    #[test]
    fn every_script_of_ours_is_admitted_and_none_twice() {
        let (admission, after) = with(&["script-src 'self' 'sha256-d-_f'"], &[A, B]);
        assert_eq!(
            (admission, after),
            (runs(None), vec!["script-src 'self' 'sha256-d-_f' 'sha256-abc='".into()])
        );
        let (admission, after) = with(&["script-src 'sha256-abc=' 'sha256-d+/f' 'nonce-x'"], &[A, B]);
        assert_eq!(
            (admission, after),
            (runs(None), vec!["script-src 'sha256-abc=' 'sha256-d+/f' 'nonce-x'".into()])
        );
        assert_eq!(with(&["script-src 'self'"], &[]), (runs(None), vec!["script-src 'self'".into()]));
    }

    #[test]
    fn report_only_policies_are_untouched_for_what_must_run() {
        let mut map = HeaderMap::new();
        let value = HeaderValue::from_static("script-src 'none'; trusted-types 'none'");
        map.insert(CONTENT_SECURITY_POLICY_REPORT_ONLY, value.clone());
        assert_eq!(admit(&mut map, &[A]), runs(None));
        admit_policy_name(&mut map);
        assert_eq!(map[CONTENT_SECURITY_POLICY_REPORT_ONLY], value);
    }

    /// A `meta` policy applies to the scripts behind it; Chromium splits it at commas and ignores `sandbox`.
    #[test]
    fn a_meta_policy_admits_the_scripts_that_come_after_it() {
        let edited = |content: &str| InMeta::Edited(content.to_owned());
        for (content, nonce, want) in [
            ("script-src 'self'", None, edited("script-src 'self' 'sha256-abc='")),
            (
                "img-src *, script-src 'self'; object-src 'none'",
                None,
                edited("img-src *, script-src 'self' 'sha256-abc='; object-src 'none'"),
            ),
            ("sandbox; default-src 'self'", None, edited("sandbox; default-src 'self' 'sha256-abc='")),
            ("script-src 'nonce-x'", Some("x"), InMeta::Runs),
            ("script-src 'nonce-x'", Some("y"), edited("script-src 'nonce-x' 'sha256-abc='")),
            ("script-src 'nonce-x'", None, edited("script-src 'nonce-x' 'sha256-abc='")),
            ("script-src 'unsafe-inline'", None, InMeta::Runs),
            ("script-src 'sha256-abc='", None, InMeta::Runs),
            ("script-src 'none'", None, InMeta::Cannot),
            ("script-src 'self', default-src 'none'", None, InMeta::Cannot),
            ("upgrade-insecure-requests", None, InMeta::Runs),
        ] {
            assert_eq!(admit_in_meta(content, &[A], nonce), want, "{content}");
        }
    }

    /// What only reports is told of a script that goes to everybody, by its nonce or its hash; where it would
    /// report it all the same, nothing is changed.
    #[test]
    fn report_only_policies_say_nothing_of_a_script_that_they_can_be_told_of() {
        for (policy, nonce, want) in [
            (
                "script-src 'self'; report-uri /r",
                None,
                Some("script-src 'self' 'sha256-abc='; report-uri /r"),
            ),
            ("script-src 'nonce-x'", Some("x"), Some("script-src 'nonce-x'")),
            ("script-src 'nonce-x'", None, Some("script-src 'nonce-x' 'sha256-abc='")),
            ("script-src 'unsafe-inline'", None, Some("script-src 'unsafe-inline'")),
            ("require-trusted-types-for 'script'", None, Some("require-trusted-types-for 'script'")),
            ("script-src 'none'", None, None),
        ] {
            let mut map = HeaderMap::new();
            map.insert(CONTENT_SECURITY_POLICY_REPORT_ONLY, HeaderValue::from_static(policy));
            map.insert(CONTENT_SECURITY_POLICY, HeaderValue::from_static("default-src 'none'"));
            assert_eq!(admit_reported(&mut map, &[A], nonce), want.is_some(), "{policy}");
            assert_eq!(map[CONTENT_SECURITY_POLICY_REPORT_ONLY], want.unwrap_or(policy), "{policy}");
            assert_eq!(map[CONTENT_SECURITY_POLICY], "default-src 'none'");
        }
    }

    /// Trusted Types, 4.2.5: names are compared as they are, `'none'` beside a name means nothing. Chromium
    /// refuses a second policy of a name unless `'allow-duplicates'` is there.
    #[test]
    fn the_guards_trusted_types_policy_is_named_where_names_are_listed() {
        for (before, after) in [
            ("require-trusted-types-for 'script'", "require-trusted-types-for 'script'"),
            ("trusted-types a b", "trusted-types a b optgate"),
            ("Trusted-Types; img-src *", "Trusted-Types optgate; img-src *"),
            (
                "trusted-types 'none', trusted-types x",
                "trusted-types 'none' optgate, trusted-types x optgate",
            ),
            ("trusted-types OPTGATE", "trusted-types OPTGATE optgate"),
            ("trusted-types optgate", "trusted-types optgate"),
            ("trusted-types *", "trusted-types *"),
            ("trusted-types a 'allow-duplicates'", "trusted-types a 'allow-duplicates'"),
        ] {
            let mut map = head(&[before]);
            admit_policy_name(&mut map);
            assert_eq!(fields(&map), [after], "{before}");
        }
    }
}
