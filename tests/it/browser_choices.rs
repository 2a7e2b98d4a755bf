//! One person's choices in a real browser, one after the other, with one profile.

use std::time::Duration;

use super::browser_pages::since;
use super::support::browser::{Browser, SIGNAL, Tab};
use super::support::leaks::Judge;
use super::support::origin::{Origin, answer};
use super::support::proxy::proxy;
use super::support::wait_until;

/// How long something that must happen in a page may take.
const SOON: Duration = Duration::from_secs(5);

const PAGE: &str = "https://site.test/";

const CHOICES: &str = "https://site.test/privacy-choices";

/// Opens a page, and gives the trackers that were called since then.
fn called(judge: &Judge, tab: &mut Tab, load: impl FnOnce(&mut Tab)) -> Vec<String> {
    let known = tab.sink.entries().len();
    load(tab);
    tab.rest(SOON);
    since(judge, tab, known)
}

fn show(tab: &mut Tab) {
    tab.open(PAGE);
}

fn again(tab: &mut Tab) {
    tab.reload();
}

/// Presses the button of a form, as a person does, and waits for the answer's page.
pub fn press(tab: &mut Tab, form: &str) {
    tab.follow(&format!("document.querySelector('form[action$=\"{form}\"] button').click()")).rest(SOON);
}

fn opts_out(tab: &mut Tab) {
    tab.open(CHOICES);
    press(tab, "/opt-out");
}

/// Two steps (11 CCR 7028).
fn opts_in(tab: &mut Tab) {
    tab.open(CHOICES);
    press(tab, "/opt-in");
    press(tab, "/opt-in/confirm");
}

/// The value of a cookie of the site; fails where it is there twice.
fn cookie(tab: &Tab, name: &str) -> Option<String> {
    let all = tab.outcome().cookies;
    let mut found = all.iter().filter(|(_, known, _)| known == name);
    let value = found.next().map(|(.., value)| value.clone());
    assert_eq!(found.next(), None, "{name} is there twice: {all:?}");
    value
}

fn honoured(tab: &Tab) -> bool {
    tab.text("document.body.innerText").contains("Opt-Out Request Honored")
}

/// The full round out -> in -> out in one profile. An opt-out stops
/// the trackers and is said everywhere; the two steps back take our words back, and nothing we wrote holds
/// the person.
#[test]
fn a_browser_goes_the_full_round_of_choices() {
    let Some(browser) = Browser::shared("a_browser_goes_the_full_round_of_choices") else { return };
    let page = include_str!("../browser/choices.html");
    let site = Origin::start().on("/", move |x| x.ok("text/html", page.as_bytes()));
    let (proxy, judge) = (proxy().to(&site).run(), Judge::new());
    let mut tab = browser.tab(proxy.addr(), "");
    for round in 1..=2 {
        for load in [show, again] {
            assert!(called(&judge, &mut tab, load).len() > 2, "round {round}: trackers are called");
            assert!(!honoured(&tab), "round {round}");
        }
        let ours = tab.outcome().cookies.into_iter().filter(|(_, name, _)| name.starts_with("optgate-said"));
        assert_eq!(ours.count(), 0, "round {round}: nothing of ours is left");
        assert_eq!(cookie(&tab, "usprivacy"), None, "round {round}");
        let state = cookie(&tab, "OptanonConsent").unwrap();
        assert!(state.contains("isGpcEnabled=0") && state.contains("C0004%3A1"), "round {round}: {state}");
        assert!(!state.contains("optgate"), "round {round}: {state}");

        assert_eq!(called(&judge, &mut tab, opts_out), Vec::<String>::new(), "round {round}: the form");
        for load in [show, again] {
            assert_eq!(called(&judge, &mut tab, load), Vec::<String>::new(), "round {round}: opted out");
            assert!(honoured(&tab), "round {round}");
            let said = "new Promise(said => __uspapi('getUSPData', 1, data => said(data.uspString)))";
            assert_eq!(tab.text(said), "1YYN", "round {round}");
            assert_eq!(cookie(&tab, "usprivacy").as_deref(), Some("1YYN"), "round {round}");
            let state = cookie(&tab, "OptanonConsent").unwrap();
            assert!(
                state.contains("isGpcEnabled=1") && state.contains("C0004%3A0"),
                "round {round}: {state}"
            );
        }
        opts_in(&mut tab);
    }
    assert!(called(&judge, &mut tab, show).len() > 2, "the second opt-in holds as the first did");
}

/// What a visit without an opt-out leaves behind, as trackers and the site write it.
const WRITTEN: &str = "
    document.cookie = '_fbp=fb.1.1.1; path=/';
    document.cookie = '_uetsid=1; path=/; domain=site.test; max-age=10000';
    document.cookie = '_ttp=1; path=/; domain=.www.site.test; max-age=10000';
    document.cookie = 'basket=1; path=/; domain=site.test; max-age=10000';
    document.cookie = 'theme=dark; path=/';
    for (const kind of [localStorage, sessionStorage]) {
        kind.setItem('_uetsid', '1');
        kind.setItem('_hjSessionUser_77', '1');
        kind.setItem('basket', '[1]');
    }
";

/// What of it is there: cookies that any part of the site sees, and the keys of both storages.
fn there(tab: &Tab) -> (Vec<String>, String) {
    let mut cookies: Vec<_> = tab.outcome().cookies.into_iter().map(|(_, name, _)| name).collect();
    cookies.retain(|name| !name.starts_with("optgate") && name != "usprivacy");
    cookies.sort();
    let keys = "[localStorage, sessionStorage].map(kind => Object.keys(kind).sort().join()).join(' | ')";
    (cookies, tab.text(keys))
}

/// What trackers stored before the opt-out is gone with the first
/// opted-out page, whoever set it and for whichever domain; the site's own stays.
#[test]
fn what_trackers_stored_before_the_opt_out_goes_with_the_first_page_after_it() {
    const TEST: &str = "what_trackers_stored_before_the_opt_out_goes_with_the_first_page_after_it";
    let Some(browser) = Browser::shared(TEST) else { return };
    let site = Origin::start().on("/", |x| {
        let body = "<!doctype html><title>x</title><p>x";
        let cookies = [
            "_gcl_au=1.1; Path=/; Domain=site.test; Max-Age=10000; HttpOnly",
            "_fbc=1; Path=/; Max-Age=10000; Secure; HttpOnly",
            "sid=1; Path=/; HttpOnly",
        ];
        let set: String = cookies.iter().map(|line| format!("Set-Cookie: {line}\r\n")).collect();
        x.send(answer(&format!("Content-Type: text/html\r\n{set}"), body))
    });
    let proxy = proxy().to(&site).run();
    let host = "www.site.test";
    for (how, by_form) in [("by signal", false), ("by a choice", true)] {
        let mut tab = browser.tab_for(&[host], proxy.addr(), "");
        tab.open(&format!("https://{host}/"));
        tab.eval(WRITTEN).unwrap();
        // What a page writes reaches the browser's own store a moment after the script goes on.
        wait_until("the page's cookies are stored", || there(&tab).0.len() == 8);
        let trackers = ["_fbc", "_fbp", "_gcl_au", "_ttp", "_uetsid"];
        let (cookies, keys) = there(&tab);
        assert_eq!(cookies, [&trackers[..], &["basket", "sid", "theme"]].concat(), "{how}: before");
        assert_eq!(
            keys, "_hjSessionUser_77,_uetsid,basket | _hjSessionUser_77,_uetsid,basket",
            "{how}: before"
        );
        if by_form {
            tab.open(&format!("https://{host}/privacy-choices"));
            press(&mut tab, "/opt-out");
        } else {
            tab.sink.route(&[host], proxy.addr(), SIGNAL);
        }
        tab.open(&format!("https://{host}/")).rest(SOON);
        assert!(honoured(&tab), "{how}");
        let (cookies, keys) = there(&tab);
        assert_eq!(cookies, ["basket", "sid", "theme"], "{how}");
        assert_eq!(keys, "basket | basket", "{how}");
    }
}
