//! The script that puts the link back, in a real browser: pages that own their document, move it, replace it,
//! fight for it, and pages whose policies do not let it run.

use std::sync::Arc;
use std::time::Duration;

use super::support::browser::{Browser, SIGNAL, Tab};
use super::support::origin::{Origin, answer};
use super::support::proxy::{Proxy, proxy};
use super::support::wait_until;

const SOON: Duration = Duration::from_secs(5);
const VISITORS: [(&str, &str); 2] = [("every visitor", ""), ("an opted-out visitor", SIGNAL)];

/// Looks for the link until it is there, for five seconds; gives how often it is there.
pub const LINK_COMES_BACK: &str = "new Promise(resolve => {
  const start = performance.now();
  (function look() {
    const links = document.querySelectorAll('a[href*=\"privacy-choices\"]').length;
    if (links || performance.now() - start > 5000) return resolve(links);
    setTimeout(look, 20);
  })();
})";

fn site(page: String) -> (Origin, Proxy) {
    let site = Origin::start().on("/", move |x| x.ok("text/html", page.as_bytes()));
    let proxy = proxy().to(&site).run();
    (site, proxy)
}

fn visit(browser: &Arc<Browser>, proxy: &Proxy, fields: &str) -> Tab {
    let mut tab = browser.tab(proxy.addr(), fields);
    tab.open("https://site.test/").rest(Duration::from_secs(5));
    tab
}

/// A page that owns its whole document throws out what it did not render;
/// the legal link comes back, for every visitor.
#[test]
fn the_link_comes_back_to_a_page_that_owns_its_document() {
    let Some(browser) = Browser::shared("the_link_comes_back_to_a_page_that_owns_its_document") else {
        return;
    };
    let (_site, proxy) = site(include_str!("../browser/hydrate.html").to_owned());
    for (visitor, fields) in VISITORS {
        let tab = visit(&browser, &proxy, fields);
        let outcome = tab.outcome();
        assert_eq!(tab.text("document.getElementById('app').dataset.hydrated"), "yes", "{outcome:?}");
        assert_eq!(tab.eval(LINK_COMES_BACK).unwrap(), 1, "{visitor}");
        assert_eq!(outcome.exceptions, Vec::<String>::new(), "{visitor}");
    }
}

/// A framework that hydrates the document meets the line in its own footer,
/// renders everything anew, and the link comes back; behind the body's own children it and its keeper are let be,
/// and hydration is not disturbed. What the framework patches afterwards arrives.
#[test]
fn a_hydrating_framework_keeps_its_document_and_the_page_keeps_the_link() {
    let Some(browser) =
        Browser::shared("a_hydrating_framework_keeps_its_document_and_the_page_keeps_the_link")
    else {
        return;
    };
    let page = include_str!("../browser/hydrate-root.html");
    for (footer, hydrated) in [("", "kept"), ("<footer><p>Imprint</p></footer>", "anew")] {
        let (_site, proxy) = site(page.replace("@FOOTER@", footer));
        for (visitor, fields) in VISITORS {
            let tab = visit(&browser, &proxy, fields);
            let outcome = tab.outcome();
            assert_eq!(tab.text("document.documentElement.dataset.hydrated"), hydrated, "{visitor}");
            assert_eq!(tab.eval(LINK_COMES_BACK).unwrap(), 1, "{visitor}, {hydrated}");
            let shown = tab.text("document.body.innerText");
            assert!(shown.contains("1") && shown.contains("patched"), "{visitor}, {hydrated}: {shown}");
            assert_eq!(shown.contains("Request Honored"), !fields.is_empty(), "{visitor}: {shown}");
            assert_eq!(outcome.exceptions, Vec::<String>::new(), "{visitor}, {hydrated}");
        }
    }
}

/// A line that is still in the page stays where it is; one that is lost comes back once for each time, whether the
/// keeper's own element is still there or not, and a copy that the page made is not doubled.
#[test]
fn the_link_is_there_once_whatever_the_page_does_to_its_body() {
    let Some(browser) = Browser::shared("the_link_is_there_once_whatever_the_page_does_to_its_body") else {
        return;
    };
    let (_site, proxy) = site(include_str!("../browser/moves.html").to_owned());
    let tab = visit(&browser, &proxy, "");
    let steps = tab.text("JSON.stringify(steps)");
    for step in [
        "moved 1 in footer",
        "put back 1 in footer",
        "copied 1 in footer",
        "new body 1 in body",
        "new bodies 1 in body",
    ] {
        assert!(steps.contains(&format!("\"{step}\"")), "{step}: {steps}");
    }
    println!("after document.write the link is there {} times", tab.eval(LINK_COMES_BACK).unwrap());
    assert_eq!(tab.outcome().exceptions, Vec::<String>::new());
}

/// It gives in: whatever the page wants, it is not to be kept busy for ever.
#[test]
fn a_page_that_never_wants_the_link_is_left_alone_after_twenty_times() {
    let Some(browser) = Browser::shared("a_page_that_never_wants_the_link_is_left_alone_after_twenty_times")
    else {
        return;
    };
    let (_site, proxy) = site(include_str!("../browser/fights.html").to_owned());
    let tab = visit(&browser, &proxy, "");
    assert_eq!(tab.eval("window.returns").unwrap(), 20);
    assert_eq!(tab.outcome().exceptions, Vec::<String>::new());
}

/// CSP3: under a policy that lets it run the keeper works, and where none of ours may run nothing is refused and
/// nothing reported, since there is none. The pages have no script of their own.
#[test]
fn no_policy_is_hurt_by_the_keeper() {
    let Some(browser) = Browser::shared("no_policy_is_hurt_by_the_keeper") else { return };
    let cases = [
        ("Content-Security-Policy", "script-src 'self'", true),
        ("Content-Security-Policy", "script-src 'nonce-abc123' 'strict-dynamic'", true),
        ("Content-Security-Policy", "script-src 'unsafe-inline'", true),
        ("Content-Security-Policy", "default-src 'self', script-src 'nonce-abc123'", true),
        ("Content-Security-Policy", "script-src 'self'; require-trusted-types-for 'script'", true),
        ("Content-Security-Policy", "default-src 'none'", false),
        ("Content-Security-Policy", "sandbox allow-same-origin", false),
        ("Content-Security-Policy-Report-Only", "script-src 'self'; report-uri /report", true),
        ("Content-Security-Policy-Report-Only", "script-src 'none'; report-uri /report", false),
        ("meta", "script-src 'unsafe-inline'", true),
        ("meta", "script-src 'none'", false),
        ("meta", "script-src 'self'", false),
    ];
    for (place, policy, runs) in cases {
        let meta = match place {
            "meta" => format!("<meta http-equiv=\"Content-Security-Policy\" content=\"{policy}\">"),
            _ => String::new(),
        };
        let field = if meta.is_empty() { format!("{place}: {policy}\r\n") } else { String::new() };
        let page =
            format!("<!doctype html><head><meta charset=utf-8>{meta}<title>x</title></head><body>x</body>");
        let answer = answer(&format!("Content-Type: text/html\r\n{field}"), page);
        let site = Origin::start().answers("/", answer).on("/report", |x| x.ok("text/plain", b""));
        let proxy = proxy().to(&site).run();
        let tab = visit(&browser, &proxy, "");
        let hurt = tab.outcome().errors.into_iter().filter(|e| e.contains("Content Security Policy"));
        assert_eq!(hurt.collect::<Vec<_>>(), Vec::<String>::new(), "{place}: {policy}");
        assert_eq!(tab.eval("document.scripts.length").unwrap(), usize::from(runs), "{place}: {policy}");
        if policy.starts_with("sandbox") {
            continue;
        }
        let back = "document.body.replaceChildren(), document.querySelectorAll('.ogc-line').length";
        assert_eq!(tab.eval(back).unwrap(), 0, "{place}: {policy}");
        if runs {
            assert_eq!(tab.eval(LINK_COMES_BACK).unwrap(), 1, "{place}: {policy}");
        }
    }
}

/// A page that the back/forward cache shows again as it stood before the
/// opt-out is loaded anew, once; one that was opted out before is shown as it stands.
#[test]
fn a_page_from_before_the_opt_out_is_loaded_anew_when_a_visitor_goes_back_to_it() {
    let test = "a_page_from_before_the_opt_out_is_loaded_anew_when_a_visitor_goes_back_to_it";
    let Some(browser) = Browser::shared(test) else { return };
    let page = "<!doctype html><title>x</title><script>addEventListener('pageshow', e => {\
                sessionStorage.shown = (sessionStorage.shown || '') + (e.persisted ? 'kept ' : 'loaded ');\
                })</script><p>x";
    let site = Origin::start()
        .on("/", move |x| x.ok("text/html", page.as_bytes()))
        .on("/other", |x| x.ok("text/html", b"<!doctype html><title>other</title><p>x"));
    let proxy = proxy().to(&site).run();
    let choice = "fetch('/privacy-choices/opt-out', { method: 'POST' }).then(r => r.status)";
    // Chromium itself drops what it keeps where a choice clears the cache; the cookie tells others.
    let by_cookie = "document.cookie = 'usprivacy=1YYN; Path=/'";
    for (how, act, shown) in [
        ("by nothing", "0", "loaded kept "),
        ("by a signal", "0", "loaded kept loaded "),
        ("by a cookie", by_cookie, "loaded kept loaded "),
        ("by a choice", choice, "loaded loaded "),
    ] {
        // A busy Chromium does not always keep a page.
        let came = (0..3).any(|_| {
            let mut tab = browser.own_tab(proxy.addr(), "");
            tab.open("https://site.test/").rest(SOON);
            if how == "by a signal" {
                tab.sink.route(&["site.test"], proxy.addr(), SIGNAL);
            }
            tab.open("https://site.test/other").rest(SOON);
            tab.eval(act).unwrap();
            let said = tab.text("document.cookie");
            assert_eq!(said.contains("usprivacy=1YYN"), how != "by nothing", "{how}: {said}");
            tab.eval("setTimeout(() => history.back()), 0").unwrap();
            let seen =
                || tab.eval("sessionStorage.shown").map_or_else(|_| String::new(), |seen| seen.to_string());
            wait_until(how, || [shown, "loaded loaded "].iter().any(|end| seen() == format!("{end:?}")));
            let text = tab.text("document.body.innerText");
            assert_eq!(text.contains("Opt-Out Request Honored"), how != "by nothing", "{how}: {text}");
            seen() == format!("{shown:?}")
        });
        assert!(came, "{how}: never {shown:?}");
    }
}
