//! The script that puts the link back, through a running proxy: which pages carry it, and what their policies are
//! told of it. What it does is `browser_keeper`'s.

use optgate::enforce::keeper;

use super::support::client::Response;
use super::support::origin::{Origin, answer};
use super::support::proxy::{Proxy, proxy};

const GPC: &str = "Sec-GPC: 1\r\n";
const DOCUMENT: &str = "Sec-Fetch-Dest: document\r\nAccept: text/html\r\n";
const CSP: &str = "content-security-policy";
const REPORT_ONLY: &str = "content-security-policy-report-only";
const PAGE: &str = "<!doctype html><title>x</title><body><p>x</p></body>";

/// A site with one page, its head's fields each ended by CR LF.
fn serve(page: &str, fields: &str) -> (Origin, Proxy) {
    let site = Origin::start().answers("/", answer(&format!("Content-Type: text/html\r\n{fields}"), page));
    let proxy = proxy().to(&site).run();
    (site, proxy)
}

/// The keeper's start tag.
fn tag(answer: &Response) -> Option<String> {
    let text = answer.text();
    let (_, rest) = text.split_once("<script data-optgate=\"keeper\"")?;
    Some(rest.split_once('>')?.0.to_owned())
}

/// For every visitor, whose page may render itself anew. Where there is no line of ours, or
/// a script of ours must not stand, there is none, and the policies of the head are as they were.
#[test]
fn every_visitors_pages_carry_the_keeper_and_nothing_else_does() {
    let own = PAGE.replace("<p>x", "<a href=/o>Your Privacy Choices</a><p>x");
    let amp = PAGE.replace("<title>", "<html amp><title>");
    let frames = "<html><head><title>x</title></head><frameset><frame src=/a></frameset></html>";
    for (what, page, dest, kept) in [
        ("a page", PAGE, "document", true),
        ("a page with a link of its own", own.as_str(), "document", false),
        ("an AMP page", amp.as_str(), "document", false),
        ("a frameset", frames, "document", false),
        ("a framed page", PAGE, "iframe", false),
        ("a fragment", PAGE, "empty", false),
    ] {
        for signal in ["", GPC] {
            let (_site, proxy) = serve(page, "Content-Security-Policy: script-src 'self'\r\n");
            let answer = proxy.get("/", &format!("Sec-Fetch-Dest: {dest}\r\nAccept: text/html\r\n{signal}"));
            assert_eq!(tag(&answer), kept.then(String::new), "{what} {signal}");
            if kept {
                let at = answer.text().find("</p><script data-optgate=\"keeper\">");
                assert!(at.is_some(), "{what} {signal}: behind the line");
            }
            if dest != "document" && signal.is_empty() {
                assert_eq!(answer.head.all(CSP), ["script-src 'self'"], "{what}");
            }
        }
    }
}

/// CSP3: the page's nonce where there is one, else our hash; nothing beside `'unsafe-inline'`,
/// and no script where no policy we may write would let it run.
#[test]
fn the_policies_of_a_page_let_the_keeper_run_or_it_is_not_there() {
    let hash = keeper::csp_hash();
    for (policy, want, tagged) in [
        ("script-src 'self'", format!("script-src 'self' {hash}"), Some("")),
        ("default-src 'self'; img-src *", format!("default-src 'self' {hash}; img-src *"), Some("")),
        (
            "script-src 'sha256-abc=' 'strict-dynamic'",
            format!("script-src 'sha256-abc=' 'strict-dynamic' {hash}"),
            Some(""),
        ),
        ("script-src 'nonce-r4' 'strict-dynamic'", String::new(), Some(" nonce=\"r4\"")),
        (
            "script-src 'nonce-r4'; require-trusted-types-for 'script'; trusted-types a",
            String::new(),
            Some(" nonce=\"r4\""),
        ),
        (
            "script-src 'nonce-r4', default-src 'self'",
            format!("script-src 'nonce-r4', default-src 'self' {hash}"),
            Some(" nonce=\"r4\""),
        ),
        ("script-src 'self' 'unsafe-inline'", String::new(), Some("")),
        ("img-src 'none'", String::new(), Some("")),
        ("script-src 'none'", String::new(), None),
        ("sandbox; script-src 'self'", String::new(), None),
    ] {
        let (_site, proxy) = serve(PAGE, &format!("Content-Security-Policy: {policy}\r\n"));
        let answer = proxy.get("/", DOCUMENT);
        let want = if want.is_empty() { policy } else { &want };
        assert_eq!(answer.head.all(CSP), [want], "{policy}");
        assert_eq!(tag(&answer).as_deref(), tagged, "{policy}");
        let out = proxy.get("/", &format!("{DOCUMENT}{GPC}"));
        assert_eq!(tag(&out).as_deref(), tagged, "{policy}, opted out");
        assert_eq!(out.head.one(CSP).unwrap().contains(hash), want.contains(hash), "{policy}, opted out");
    }
}

/// A site that collects reports before it enforces gets none about a script on every page.
#[test]
fn report_only_policies_are_told_of_the_keeper_or_it_is_not_there() {
    let hash = keeper::csp_hash();
    for (policy, want, kept) in [
        ("default-src 'self'; report-uri /r", format!("default-src 'self' {hash}; report-uri /r"), true),
        ("script-src 'none'; report-uri /r", "script-src 'none'; report-uri /r".to_owned(), false),
    ] {
        let (_site, proxy) = serve(PAGE, &format!("Content-Security-Policy-Report-Only: {policy}\r\n"));
        for signal in ["", GPC] {
            let answer = proxy.get("/", &format!("{DOCUMENT}{signal}"));
            assert_eq!(answer.head.all(REPORT_ONLY), [&want], "{policy} {signal}");
            assert_eq!(tag(&answer).is_some(), kept, "{policy} {signal}");
        }
    }
}

/// RFC 9111 3.2: the fields of a 304 replace those of the page the browser holds, whose keeper has the nonce of
/// its own time, or none.
#[test]
fn the_head_that_renews_a_page_admits_its_keeper_by_hash() {
    let site = Origin::start().on("/", |x| {
        let policy = "ETag: \"a\"\r\nContent-Security-Policy: script-src 'nonce-now'\r\n";
        if x.request().one("if-none-match").is_some() {
            return x.send(format!("HTTP/1.1 304 Not Modified\r\n{policy}\r\n"));
        }
        x.send(answer(&format!("Content-Type: text/html\r\n{policy}"), PAGE))
    });
    let proxy = proxy().to(&site).run();
    let hash = keeper::csp_hash();
    for (dest, admitted) in [("document", true), ("iframe", false)] {
        for signal in ["", GPC] {
            let fields = format!("Sec-Fetch-Dest: {dest}\r\nAccept: text/html\r\n{signal}");
            let tag = proxy.get("/", &fields).head.one("etag").unwrap().to_owned();
            let renewed = proxy.get("/", &format!("{fields}If-None-Match: {tag}\r\n"));
            let policy = renewed.head.one(CSP).unwrap();
            assert_eq!(renewed.status(), 304, "{dest} {signal}");
            assert!(policy.starts_with("script-src 'nonce-now'"), "{policy}");
            assert_eq!(policy.contains(hash), admitted, "{dest} {signal}: {policy}");
        }
    }
}
