//! A real browser behind the proxy: what scripts see, and what leaves for a tracker.

use super::support::DEADLINE;
use super::support::browser::{Browser, SIGNAL};
use super::support::origin::Origin;
use super::support::proxy::proxy;

const PAGE: &str = include_str!("../browser/signal.html");

/// For an opted-out visitor `navigator.globalPrivacyControl` is `true`, from the
/// first script on, and no tracker is called; the same page without the signal calls them (so the
/// sink would have seen it).
#[test]
fn a_browser_sees_the_signal_and_calls_no_tracker() {
    let Some(browser) = Browser::shared("a_browser_sees_the_signal_and_calls_no_tracker") else { return };
    let site = Origin::start().on("/", |x| x.ok("text/html", PAGE.as_bytes()));
    let proxy = proxy().to(&site).run();

    let mut tab = browser.tab(proxy.addr(), "");
    assert!(tab.open("http://site.test/").outcome().finished, "the browser shows the page");
    let entries = tab.outcome().entries;
    let hosts: Vec<_> = entries.iter().filter_map(|entry| entry.url.host_str()).collect();
    assert!(hosts.contains(&"connect.facebook.net") && hosts.contains(&"www.facebook.com"), "{hosts:?}");

    let mut tab = browser.tab(proxy.addr(), SIGNAL);
    tab.open("http://site.test/").rest(DEADLINE);
    assert_eq!(tab.text("document.documentElement.getAttribute('data-first')"), "true");
    let shown = tab.text("document.body.innerText");
    assert!(shown.contains("signal=true after=true"), "{shown}");
    assert!(shown.contains("Opt-Out Request Honored"), "{shown}");
    let outcome = tab.outcome();
    assert!(outcome.entries.is_empty(), "a tracker was called: {outcome:?}");
    assert_eq!(outcome.exceptions, Vec::<String>::new());
}
