//! Ways to start a request that a page of `tests/browser/vectors/` cannot show: they need a person's gesture or leave, an
//! option that this browser does not have yet, or they make a connection that no sink sees.

use std::time::Duration;

use super::support::browser::{Browser, SIGNAL, Tab};
use super::support::leaks::Judge;
use super::support::origin::{Origin, answer};
use super::support::proxy::{Proxy, proxy};

/// How long something that must happen in a page may take.
const SOON: Duration = Duration::from_secs(5);

/// A tracker's picture, and one of a host that nobody strips.
const PICTURES: [&str; 2] = ["https://www.facebook.com/tr?id=1", "https://neutral.test/tr?id=1"];

const TWIN: &str = "neutral.test";

/// A site with an empty page.
fn site(page: &str) -> (Origin, Proxy) {
    let page = format!("<!doctype html><title>ways</title><body>{page}");
    let site = Origin::start()
        .answers("/page", answer("Content-Type: text/html\r\n", page))
        .on("/kit.js", |x| x.ok("text/javascript", b""))
        .on("/worker-notification.js", |x| {
            x.ok("text/javascript", include_bytes!("../browser/worker-notification.js"))
        });
    let proxy = proxy().to(&site).run();
    (site, proxy)
}

/// Without the signal both pictures are asked for by what `script` makes of their addresses, with it the tracker's is not.
/// `tab` makes a tab that sends these fields.
fn only_the_twin_comes(tab: impl Fn(&str) -> Tab, script: &str) {
    let judge = Judge::new();
    for (fields, leaks) in [("", true), (SIGNAL, false)] {
        let mut tab = tab(fields);
        tab.open("https://site.test/page");
        for picture in PICTURES {
            tab.gesture(&script.replace("PICTURE", &format!("{picture:?}"))).unwrap();
        }
        assert!(tab.sink.wait(SOON, |entry| entry.url.host_str() == Some(TWIN)), "{fields}: the twin comes");
        if leaks {
            assert!(tab.sink.wait(SOON, |entry| judge.is_leak(entry)), "the control leaks");
            continue;
        }
        assert_eq!(judge.leaks(&tab.outcome()), Vec::<String>::new(), "{fields}");
    }
}

/// A window in front of the others (Document Picture-in-Picture) has the page's origin, and no
/// guard of its own.
#[test]
fn a_window_that_stays_in_front_is_guarded() {
    let Some(browser) = Browser::shared("a_window_that_stays_in_front_is_guarded") else { return };
    let (_site, proxy) = site("");
    let script = "documentPictureInPicture.requestWindow().then(w => {\
        const e = w.document.createElement('img'); e.src = PICTURE; w.document.body.append(e); })";
    only_the_twin_comes(|fields| browser.tab(proxy.addr(), fields), script);
}

/// Notifications API, "fetch a notification's resources": its pictures are fetched before anybody sees it.
#[test]
fn a_notification_brings_no_trackers_picture_from_a_page_or_a_service_worker() {
    let test = "a_notification_brings_no_trackers_picture_from_a_page_or_a_service_worker";
    let Some(browser) = Browser::shared(test) else { return };
    let (_site, proxy) = site("");
    // In a private window nobody may notify.
    let tab = |fields: &str| {
        let tab = browser.own_tab(proxy.addr(), fields);
        tab.grant("notifications");
        tab
    };
    only_the_twin_comes(
        tab,
        "new Notification('x', { icon: PICTURE, data: Object.create({ go() {} }) }).title",
    );
    // Each has a worker of its own: nobody closes the first one's.
    let worker = "navigator.serviceWorker.register('/worker-notification.js?' + encodeURIComponent(PICTURE),\
        { scope: '/' + new URL(PICTURE).host }).then(() => 1)";
    only_the_twin_comes(tab, worker);
}

/// CSSOM, `CSSStyleSheetInit.baseURL`: a path in the sheet's text is then a tracker's address. This browser does not know
/// the option; in its place stands a constructor that tells which base it was given.
#[test]
fn a_sheet_whose_base_is_a_trackers_host_has_the_pages_base() {
    let Some(browser) = Browser::shared("a_sheet_whose_base_is_a_trackers_host_has_the_pages_base") else {
        return;
    };
    let (_site, proxy) = site("");
    let knows = "window.bases = []; CSSStyleSheet = new Proxy(CSSStyleSheet, { construct(kind, [init]) {\
        bases.push(init && init.baseURL); return new kind(init) } })";
    let made = "for (const init of [undefined, { media: 'print' }, { baseURL: 'https://neutral.test/' },\
        { baseURL: '//www.facebook.com/', media: 'print' }]) bases.push(new CSSStyleSheet(init).media.mediaText);\
        JSON.stringify(bases)";
    for (fields, last) in [("", "//www.facebook.com/"), (SIGNAL, "")] {
        let mut tab = browser.tab(proxy.addr(), fields);
        tab.before(knows);
        tab.open("https://site.test/page");
        let expected = format!(r#"[null,"",null,"print","https://neutral.test/","","{last}","print"]"#);
        assert_eq!(tab.text(made), expected, "{fields}");
    }
}

/// WebTransport speaks QUIC, which no sink sees; what the browser says of its attempt
/// names the host.
#[test]
fn a_transport_to_a_tracker_goes_to_no_host() {
    let Some(browser) = Browser::shared("a_transport_to_a_tracker_goes_to_no_host") else { return };
    let (_site, proxy) = site("");
    let attempt = "Promise.all(['https://ad.doubleclick.net/wt', 'https://neutral.test/wt'].map(url => {\
        const t = new WebTransport(url); t.ready.catch(() => 0); return t.closed.then(() => 'closed', e => e.name) }))\
        .then(all => all.join())";
    for (fields, called) in [("", true), (SIGNAL, false)] {
        let mut tab = browser.tab(proxy.addr(), fields);
        tab.open("https://site.test/page");
        assert_eq!(tab.text(attempt), "WebTransportError,WebTransportError", "{fields}");
        let said = tab.outcome().errors.join("\n");
        assert!(said.contains("https://neutral.test/"), "{fields}: {said}");
        assert_eq!(said.contains("ad.doubleclick.net"), called, "{fields}: {said}");
    }
}

/// `attributionsrc`, whoever sets it, by attribute or by property. The browser asks for it only where its
/// advertising features are on.
#[test]
fn where_a_step_is_attributed_is_no_trackers_address() {
    let Some(browser) = Browser::shared("where_a_step_is_attributed_is_no_trackers_address") else { return };
    let (_site, proxy) = site("");
    let attempt = "['a', 'img', 'script'].flatMap(name => {\
        const one = document.createElement(name), two = document.createElement(name);\
        one.setAttribute('attributionsrc', '/own https://ad.doubleclick.net/x');\
        two.attributionSrc = 'https://ad.doubleclick.net/x';\
        return [one, two].map(e => /doubleclick/.test(e.outerHTML)) }).join()";
    for (fields, kept) in [("", "true"), (SIGNAL, "false")] {
        let mut tab = browser.tab(proxy.addr(), fields);
        tab.open("https://site.test/page");
        assert_eq!(tab.text(attempt), [kept; 6].join(","), "{fields}");
    }
}

/// A blocked request is one that failed, and not an empty answer that the page's code
/// would read. One that is waited for on the spot would throw: it has the empty answer.
#[test]
fn a_blocked_request_of_the_page_ends_in_its_error_event() {
    let Some(browser) = Browser::shared("a_blocked_request_of_the_page_ends_in_its_error_event") else {
        return;
    };
    let (_site, proxy) = site("");
    let attempt = "new Promise(done => { const x = new XMLHttpRequest(), seen = [];\
        x.open('POST', 'https://ad.doubleclick.net/collect');\
        for (const name of ['load', 'error', 'loadend']) x.addEventListener(name, () => {\
        seen.push(name + x.status); if (name == 'loadend') done(seen.join()) });\
        x.onload = () => JSON.parse(x.responseText); x.send('{}') })";
    let at_once = "(() => { const x = new XMLHttpRequest(); x.open('GET', 'https://ad.doubleclick.net/collect', false);\
        x.send(); return x.status + x.responseText })()";
    for (fields, events, answer) in [("", "load200,loadend200", "200{}"), (SIGNAL, "error0,loadend0", "200")]
    {
        let mut tab = browser.tab(proxy.addr(), fields);
        tab.open("https://site.test/page");
        assert_eq!(tab.text(attempt), events, "{fields}");
        assert_eq!(tab.text(at_once), answer, "{fields}");
        assert_eq!(tab.outcome().exceptions, Vec::<String>::new(), "{fields}");
    }
}

/// The container is fetched, finds consent denied before everything of the page's, and what it
/// puts into the page is held.
#[test]
fn a_tag_managers_container_runs_with_consent_denied_and_its_tags_are_held() {
    let test = "a_tag_managers_container_runs_with_consent_denied_and_its_tags_are_held";
    let Some(browser) = Browser::shared(test) else { return };
    let page = "<script>window.dataLayer = window.dataLayer || []; dataLayer.push({ 'gtm.start': Date.now(), event: 'gtm.js' });\
        var first = document.getElementsByTagName('script')[0], tag = document.createElement('script');\
        tag.async = true; tag.src = 'https://www.googletagmanager.com/gtm.js?id=GTM-OWN';\
        first.parentNode.insertBefore(tag, first);</script>";
    let (_site, proxy) = site(page);
    let judge = Judge::new();
    let [control, signal] = ["", SIGNAL].map(|fields| {
        let mut tab = browser.tab(proxy.addr(), fields);
        tab.open("https://site.test/page").rest(SOON);
        assert!(
            tab.sink.wait(SOON, |entry| entry.url.path() == "/gtm.js"),
            "{fields}: the container is fetched"
        );
        assert!(tab.sink.wait(SOON, |entry| entry.url.path() == "/tag"), "{fields}: its harmless tag runs");
        tab.rest(SOON);
        let (found, denied) = (tab.text("found.join()"), tab.text("JSON.stringify(window.denied || {})"));
        println!("{fields:?}: {found}; {denied}");
        (tab.outcome(), found, denied)
    });
    let leaks = judge.leaks(&control.0);
    for host in
        ["connect.facebook.net", "www.facebook.com", "fls.double", "ad.double", "clarity.ms", "bat.bing.com"]
    {
        assert!(leaks.iter().any(|leak| leak.contains(host)), "{host} in {leaks:?}");
    }
    assert_eq!((control.1.as_str(), control.2.as_str()), ("gtm.js", "{}"));
    assert_eq!(judge.leaks(&signal.0), Vec::<String>::new());
    assert_eq!(signal.0.new_exceptions(&control.0), Vec::<String>::new());
    assert!(signal.1.starts_with("consent default,") && signal.1.ends_with("gtm.js"), "{}", signal.1);
    for kind in ["ad_storage", "ad_user_data", "ad_personalization"] {
        assert!(signal.2.contains(&format!("\"{kind}\":\"denied\"")), "{kind} in {}", signal.2);
    }
}
