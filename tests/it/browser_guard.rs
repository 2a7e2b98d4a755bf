//! What a page must not notice of the guard, in a real browser: its workers run, its constructors are what they
//! were, its own names are its own.

use std::sync::Arc;
use std::time::Duration;

use super::support::browser::{Browser, Outcome, SIGNAL, Tab};
use super::support::leaks::Judge;
use super::support::origin::{Origin, answer};
use super::support::proxy::{Proxy, proxy};

/// How long something that must happen in a page may take.
const SOON: Duration = Duration::from_secs(5);

/// A site with one page.
fn site(fields: &str, page: &str) -> (Origin, Proxy) {
    let site =
        Origin::start().answers("/page", answer(&format!("Content-Type: text/html\r\n{fields}"), page));
    let proxy = proxy().to(&site).run();
    (site, proxy)
}

/// A visit, and what the page's `done` came to.
fn visit(browser: &Arc<Browser>, proxy: &Proxy, fields: &str) -> (Tab, Outcome, String) {
    let mut tab = browser.tab(proxy.addr(), fields);
    tab.open("https://site.test/page").rest(SOON);
    let said = tab.text("window.done");
    let outcome = tab.outcome();
    (tab, outcome, said)
}

/// A worker made of a text runs under whatever policy it ran under, and calls no tracker.
#[test]
fn workers_made_of_texts_run_guarded_under_every_policy() {
    let Some(browser) = Browser::shared("workers_made_of_texts_run_guarded_under_every_policy") else {
        return;
    };
    let judge = Judge::new();
    let nonce = "script-src 'nonce-abc123'; worker-src blob: data:";
    let mut faults = Vec::new();
    for (what, policy) in [
        ("no policy", String::new()),
        ("a nonce", format!("Content-Security-Policy: {nonce}\r\n")),
        (
            "trusted types",
            format!(
                "Content-Security-Policy: {nonce}; require-trusted-types-for 'script'; trusted-types page\r\n"
            ),
        ),
        ("a sandbox", "Content-Security-Policy: sandbox allow-scripts\r\n".to_owned()),
        ("a sandbox and a nonce", format!("Content-Security-Policy: {nonce}; sandbox allow-scripts\r\n")),
    ] {
        let (_site, proxy) = site(&policy, include_str!("../browser/made-workers.html"));
        let (_, control, before) = visit(&browser, &proxy, "");
        let (_, signal, after) = visit(&browser, &proxy, SIGNAL);
        println!("{what}: control: {before}; with the signal: {after}");
        assert!(!judge.leaks(&control).is_empty(), "{what}: the page's workers call a tracker");
        let expected = before.replace("signal undefined", "signal true");
        if after != expected {
            faults.push(format!("\n  {what}: {after}, and not {expected}"));
        }
        let leaks = judge.leaks(&signal);
        if !leaks.is_empty() {
            faults.push(format!("\n  {what}: leaks {leaks:?}"));
        }
    }
    assert!(faults.is_empty(), "{}", faults.concat());
}

/// ECMAScript 10.2.5: a constructor and its prototype name each other, whoever stands before it.
#[test]
fn constructors_are_what_they_were() {
    let Some(browser) = Browser::shared("constructors_are_what_they_were") else { return };
    let (_site, proxy) = site("", include_str!("../browser/constructors.html"));
    let (_, control, before) = visit(&browser, &proxy, "");
    let (_, signal, after) = visit(&browser, &proxy, SIGNAL);
    assert!(!before.contains("false"), "{before}");
    assert_eq!(after, before);
    assert_eq!(signal.new_exceptions(&control), Vec::<String>::new());
}

/// A name that is a word is the page's, unless the page embeds the vendor that has it, too.
#[test]
fn a_pages_own_names_are_its_own_and_a_vendors_answer_where_it_is_embedded() {
    let test = "a_pages_own_names_are_its_own_and_a_vendors_answer_where_it_is_embedded";
    let Some(browser) = Browser::shared(test) else { return };
    let (_site, proxy) = site("", include_str!("../browser/own-names.html"));
    let (_, control, before) = visit(&browser, &proxy, "");
    let (_, signal, after) = visit(&browser, &proxy, SIGNAL);
    assert!(before.contains("heap true heap") && !before.contains("false"), "{before}");
    assert_eq!(after, before);
    assert_eq!(signal.new_exceptions(&control), Vec::<String>::new());

    let nonce = "Content-Security-Policy: script-src 'nonce-abc123' 'self' https://www.everestjs.net\r\n";
    for policy in ["", nonce] {
        let (_site, proxy) = site(policy, include_str!("../browser/late-stubs.html"));
        let (_, control, _) = visit(&browser, &proxy, "");
        let (_, signal, after) = visit(&browser, &proxy, SIGNAL);
        assert!(!Judge::new().leaks(&control).is_empty(), "the page embeds trackers");
        assert_eq!(Judge::new().leaks(&signal), Vec::<String>::new());
        assert_eq!(after, "EF answers, analytics answers");
    }
}

/// ECMAScript 16.2.1.7 and HTML 8.1.4.2: a module that imports a name its tracker's stand-in does not have, or a type
/// that it is not of, would not run at all.
#[test]
fn a_module_that_imports_a_tracker_runs_without_it() {
    let Some(browser) = Browser::shared("a_module_that_imports_a_tracker_runs_without_it") else { return };
    let module = "import pixel, { init } from 'https://connect.facebook.net/en_US/fbevents.js';\
        init('1'); new pixel.Tracker().track('x');\
        import data from 'https://connect.facebook.net/a.json' with { type: 'json' };\
        import sheet from 'https://connect.facebook.net/a.css' with { type: 'css' };\
        const again = await import('https://connect.facebook.net/b.json', { with: { type: 'json' } });\
        say(`ran${pixel} ${JSON.stringify([data, again.default])} ${sheet.cssRules.length}`)";
    let late = "const data = await import('https://connect.facebook.net/' + 'b.json', { with: { type: 'json' } });\
        say(JSON.stringify(data.default))";
    for (module, expected) in [(module, "ran [{},{}] 0"), (late, "{}")] {
        let page = format!(
            "<!doctype html><title>module</title><script>window.done = new Promise(say => {{ window.say = say }})\
             </script><script type=module>{module}</script>"
        );
        let (_site, proxy) = site("", &page);
        // Without the signal it fails, and says nothing.
        let mut control = browser.tab(proxy.addr(), "");
        control.open("https://site.test/page").rest(SOON);
        assert!(!Judge::new().leaks(&control.outcome()).is_empty(), "the page imports a tracker");
        let (_, signal, said) = visit(&browser, &proxy, SIGNAL);
        assert_eq!(said, expected);
        assert_eq!(Judge::new().leaks(&signal), Vec::<String>::new());
    }
}
