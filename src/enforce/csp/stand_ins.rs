//! The files that stand in for stripped ones, let in by the policies of a page.
//!
//! They are of the page's own origin. A policy that names a tracker's host and not `'self'` would block them, and
//! what waits for the tracker's file would see an error. Such a policy gets the one folder that they are in: a host
//! source with a path (CSP3, 6.7.2.8), which lets in nobody else's file. Where it lets in no host's files (`'none'`,
//! hashes alone) the tracker's was an error too; and what comes in by its nonce still has it, also where
//! `'strict-dynamic'` lets nothing else count: those stay as they are.

use http::HeaderMap;
use http::header::CONTENT_SECURITY_POLICY;
use url::Url;

use super::edit;
use super::policy::{Directive, directives, find, policies};

/// For each kind of stand-in the directives that may govern it, the first one that is there (CSP3, 6.8.3).
const GOVERNING: [&[&str]; 4] = [
    &["script-src-elem", "script-src", "default-src"],
    &["style-src-elem", "style-src", "default-src"],
    &["img-src", "default-src"],
    // The guard gives it to workers.
    &["worker-src", "child-src", "script-src", "default-src"],
];

/// The folder of the stand-ins on a page's origin; `None` where no policy can name it.
#[must_use]
pub fn folder(page: &Url, path: &str) -> Option<Url> {
    let folder = page.join(path).ok()?;
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"-._~:/%".contains(&b);
    (folder.origin() == page.origin() && folder.as_str().bytes().all(plain)).then_some(folder)
}

/// Lets the stand-ins in this folder through every enforced policy of the head that would block them.
///
/// Cost: a look-up where the head has no policy.
pub fn admit_stand_ins(headers: &mut HeaderMap, folder: &Url) {
    edit(headers, &CONTENT_SECURITY_POLICY, |text| with_stand_ins(text, folder));
}

/// The same for the text of a field, or the content of a `meta`. `None`: nothing is to be added.
#[must_use]
pub fn with_stand_ins(text: &str, folder: &Url) -> Option<String> {
    let mut places = Vec::new();
    for (start, policy) in policies(text) {
        let directives = directives(policy);
        for names in GOVERNING {
            let governing = names.iter().find_map(|name| find(&directives, name));
            places.extend(governing.filter(|one| blocks(one, folder)).map(|one| start + one.end));
        }
    }
    places.sort_unstable();
    places.dedup();
    let mut edited = text.to_owned();
    // From the last to the first, so that places found earlier stay right.
    places.iter().rev().for_each(|end| edited.insert_str(*end, &format!(" {folder}")));
    (!places.is_empty()).then_some(edited)
}

/// Whether a directive lets in files of some host, and not the stand-ins.
fn blocks(directive: &Directive<'_>, folder: &Url) -> bool {
    let is = |source: &str, known: &str| source.eq_ignore_ascii_case(known);
    // Styles and pictures do not care for it, and `script-src` and `default-src` govern those without it too.
    let dynamic =
        !is(directive.name, "img-src") && !directive.name.to_ascii_lowercase().starts_with("style-");
    let mut any = false;
    for source in directive.values() {
        if lets_in(source, folder) || dynamic && is(source, "'strict-dynamic'") {
            return false;
        }
        let local = ["data:", "blob:", "filesystem:", "mediastream:"].iter().any(|scheme| is(source, scheme));
        any |= !source.starts_with('\'') && !local;
    }
    any
}

/// Whether a source lets in whatever is in the folder, on a page of the same origin. Errs on the side of no.
fn lets_in(source: &str, folder: &Url) -> bool {
    if source == "*" || source.eq_ignore_ascii_case("'self'") {
        return true;
    }
    if let Some(scheme) = source.strip_suffix(':') {
        return same_scheme(scheme, folder);
    }
    let (scheme, rest) =
        source.split_once("://").map_or((None, source), |(scheme, rest)| (Some(scheme), rest));
    let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    let (host, port) = authority.split_once(':').map_or((authority, None), |(host, port)| (host, Some(port)));
    let own_host = folder.host_str().unwrap_or_default();
    let host_fits = match host.strip_prefix('*') {
        Some(below) => {
            let own = own_host.to_ascii_lowercase();
            host == "*" || own.len() > below.len() && own.ends_with(&below.to_ascii_lowercase())
        }
        None => host.eq_ignore_ascii_case(own_host),
    };
    let port_fits = match port {
        None => folder.port().is_none(),
        Some(port) => {
            port == "*" || folder.port_or_known_default().is_some_and(|own| port == own.to_string())
        }
    };
    let path_fits = path.is_empty() || path.ends_with('/') && folder.path().starts_with(path);
    scheme.is_none_or(|scheme| same_scheme(scheme, folder)) && host_fits && port_fits && path_fits
}

/// CSP3, 6.7.2.7: the same, or the safer form of it.
fn same_scheme(scheme: &str, folder: &Url) -> bool {
    scheme.eq_ignore_ascii_case(folder.scheme())
        || scheme.eq_ignore_ascii_case("http") && folder.scheme() == "https"
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;
    use http::header::CONTENT_SECURITY_POLICY_REPORT_ONLY;

    use super::*;

    const FOLDER: &str = "https://shop.example/privacy-choices/assets/";

    fn own() -> Url {
        folder(&Url::parse("https://shop.example/a?b").unwrap(), "/privacy-choices/assets/").unwrap()
    }

    fn with(policy: &str) -> Option<String> {
        with_stand_ins(policy, &own())
    }

    /// A policy is touched only if needed, and in the directive that governs.
    #[test]
    fn the_folder_goes_to_each_directive_that_would_block_a_stand_in() {
        for (policy, want) in [
            ("script-src t.example", "script-src t.example [F]"),
            ("script-src 'nonce-x' t.example; img-src *", "script-src 'nonce-x' t.example [F]; img-src *"),
            (
                "script-src-elem t.example; script-src 'self'",
                "script-src-elem t.example [F]; script-src 'self'",
            ),
            // For scripts the first, for workers the second.
            (
                "script-src-elem t.example; script-src u.example",
                "script-src-elem t.example [F]; script-src u.example [F]",
            ),
            ("default-src t.example", "default-src t.example [F]"),
            (
                "default-src t.example; script-src 'self'; style-src 'self'; img-src https: ; worker-src 'self'",
                "default-src t.example; script-src 'self'; style-src 'self'; img-src https: ; worker-src 'self'",
            ),
            ("default-src 'self'; IMG-SRC t.example", "default-src 'self'; IMG-SRC t.example [F]"),
            ("style-src t.example 'unsafe-inline'", "style-src t.example 'unsafe-inline' [F]"),
            ("style-src-elem t.example; style-src 'self'", "style-src-elem t.example [F]; style-src 'self'"),
            ("child-src t.example; script-src 'self'", "child-src t.example [F]; script-src 'self'"),
            (
                "script-src a, script-src 'self', script-src b ;",
                "script-src a [F], script-src 'self', script-src b [F] ;",
            ),
            ("script-src t.example; script-src u.example", "script-src t.example [F]; script-src u.example"),
            ("script-src 'none' t.example", "script-src 'none' t.example [F]"),
            ("img-src t.example 'strict-dynamic'", "img-src t.example 'strict-dynamic' [F]"),
        ] {
            let want = want.replace("[F]", FOLDER);
            assert_eq!(with(policy).as_deref().unwrap_or(policy), want, "{policy}");
        }
    }

    /// What lets nothing in was an error before, and nothing is opened where the stand-ins come through.
    #[test]
    fn a_policy_that_lets_nothing_in_or_the_stand_ins_already_stays_as_it_is() {
        for policy in [
            "",
            "script-src 'none'",
            "default-src 'NONE'",
            "script-src",
            "script-src 'nonce-x' 'unsafe-inline' 'report-sample'",
            "script-src 'sha256-abc=' 'unsafe-eval'",
            "img-src data: blob:",
            "connect-src t.example; frame-src t.example",
            "script-src 'self' t.example",
            "script-src *",
            "default-src https:",
            "default-src http:",
            "script-src shop.example",
            "script-src SHOP.example:443",
            "script-src https://shop.example:*",
            "script-src http://shop.example",
            "script-src *.example",
            "script-src https://shop.example/privacy-choices/assets/",
            "script-src shop.example/privacy-choices/",
            "script-src 'nonce-x' 'strict-dynamic' t.example",
            "default-src 'nonce-x' 'strict-dynamic'",
            "frame-ancestors t.example; sandbox allow-scripts; upgrade-insecure-requests",
        ] {
            assert_eq!(with(policy), None, "{policy}");
        }
    }

    #[test]
    fn a_source_that_only_looks_like_ours_does_not_count() {
        for source in [
            "xshop.example",
            "*.shop.example",
            "shop.example:8443",
            "wss:",
            "shop.example/privacy-choices/assets",
            "shop.example/privacy-choices/assets/e.js",
            "shop.example/other/",
            "https://t.example/https://shop.example/",
        ] {
            let policy = format!("script-src {source}");
            assert_eq!(with(&policy), Some(format!("{policy} {FOLDER}")), "{source}");
        }
        let clear = Url::parse("http://shop.example/").unwrap();
        let clear = folder(&clear, "/privacy-choices/assets/").unwrap();
        assert!(with_stand_ins("script-src https:", &clear).is_some());
    }

    /// Report-only policies block nothing, and stay the site's.
    #[test]
    fn every_enforced_field_of_the_head_is_changed_and_no_other() {
        let mut headers = HeaderMap::new();
        for (name, policy) in [
            (CONTENT_SECURITY_POLICY, "script-src t.example"),
            (CONTENT_SECURITY_POLICY, "img-src 'self', style-src t.example"),
            (CONTENT_SECURITY_POLICY_REPORT_ONLY, "script-src t.example"),
        ] {
            headers.append(name, HeaderValue::from_static(policy));
        }
        admit_stand_ins(&mut headers, &own());
        let fields: Vec<_> =
            headers.get_all(CONTENT_SECURITY_POLICY).iter().map(|v| v.to_str().unwrap()).collect();
        let want = [
            format!("script-src t.example {FOLDER}"),
            format!("img-src 'self', style-src t.example {FOLDER}"),
        ];
        assert_eq!(fields, want);
        assert_eq!(headers[CONTENT_SECURITY_POLICY_REPORT_ONLY], "script-src t.example");
    }

    /// `;` and `,` would end a directive or a policy; a browser reads no host source with `"` or brackets.
    #[test]
    fn a_folder_that_no_policy_can_name_is_none() {
        let page = |text: &str| Url::parse(text).unwrap();
        assert!(folder(&page("https://shop.example/"), "/a;b/assets/").is_none());
        assert!(folder(&page("https://shop.example/"), "/a,b/assets/").is_none());
        assert!(folder(&page("https://[::1]/"), "/a/assets/").is_none());
        assert!(folder(&page("https://shop.example/"), "//t.example/assets/").is_none());
        let ported = folder(&page("http://127.0.0.1:8080/x"), "/a/assets/").unwrap();
        assert_eq!(ported.as_str(), "http://127.0.0.1:8080/a/assets/");
    }
}
