//! Whole pages in a real browser: the demo shop, pages with policies of their own, and copies from before an
//! opt-out.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use data_encoding::BASE64;
use sha2::{Digest, Sha256};

use super::browser_choices::press;
use super::support::browser::{Browser, Outcome, SIGNAL, Tab};
use super::support::leaks::Judge;
use super::support::origin::{Origin, answer};
use super::support::proxy::proxy;

/// How long something that must happen in a page may take.
const SOON: Duration = Duration::from_secs(5);

const TWIN: &str = "neutral.test";

/// Opens a page and gives it time to come to rest; that it never does is no fault.
fn open(tab: &mut Tab, url: &str) -> Outcome {
    tab.open(url).rest(SOON);
    tab.outcome()
}

fn fresh(browser: &Arc<Browser>, addr: SocketAddr, fields: &str, url: &str) -> (Tab, Outcome) {
    let mut tab = browser.tab(addr, fields);
    let outcome = open(&mut tab, url);
    (tab, outcome)
}

/// No page of the shop calls a tracker for an opted-out visitor, each works as before
/// (nothing is thrown that is not thrown anyway, the stand-ins answer the shop's own calls), and each
/// carries the link.
#[test]
fn the_demo_shop_works_and_calls_no_tracker_through_to_checkout() {
    let Some(browser) = Browser::shared("the_demo_shop_works_and_calls_no_tracker_through_to_checkout")
    else {
        return;
    };
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let shop = runtime.block_on(optgate::cli::demo::shop::spawn()).unwrap();
    let (proxy, judge) = (proxy().upstream(&format!("http://{shop}")).run(), Judge::new());
    for path in ["/", "/product/1", "/checkout"] {
        let url = format!("https://site.test{path}");
        let (_tab, control) = fresh(&browser, proxy.addr(), "", &url);
        let (tab, signal) = fresh(&browser, proxy.addr(), SIGNAL, &url);
        let (before, after) = (judge.leaks(&control), judge.leaks(&signal));
        println!("shop {path}: control: {} leaks, with the signal: {}", before.len(), after.len());
        assert!(before.len() > 9, "{path}: the shop is full of trackers: {before:?}");
        assert_eq!(after, Vec::<String>::new(), "{path}");
        assert_eq!(signal.new_exceptions(&control), Vec::<String>::new(), "{path}");
        assert!(tab.text("document.body.innerText").contains("Do Not Sell or Share"), "{path}");
    }
}

/// A policy of a page, as it is sent.
struct Policy {
    what: &'static str,
    /// Lines of fields, each ended by CR LF.
    fields: String,
    meta: String,
    nonce: bool,
    /// Whether the page's own script may run under it.
    runs: bool,
}

fn policies(script: &str) -> Vec<Policy> {
    let hash = BASE64.encode(&Sha256::digest(script.as_bytes()));
    let header = |text: &str| format!("Content-Security-Policy: {text}\r\n");
    let meta = |text: &str| format!("<meta http-equiv=\"Content-Security-Policy\" content=\"{text}\">");
    let with = |what, fields: String, nonce| Policy { what, fields, meta: String::new(), nonce, runs: true };
    let nonce = "script-src 'nonce-abc123'";
    let by_hash = format!("script-src 'sha256-{hash}'");
    vec![
        with("a nonce", header(nonce), true),
        with("a nonce and strict-dynamic", header(&format!("{nonce} 'strict-dynamic' https:")), true),
        with(
            "a nonce in default-src",
            header("default-src 'self' 'nonce-abc123'; img-src 'self' https:"),
            true,
        ),
        with("a hash", header(&by_hash), false),
        with("a hash and strict-dynamic", header(&format!("{by_hash} 'strict-dynamic'")), false),
        with("unsafe-inline", header("script-src 'self' 'unsafe-inline' https:"), false),
        with("unsafe-inline beside a nonce", header(&format!("{nonce} 'unsafe-inline'")), true),
        with("two fields", header(nonce) + &header(&by_hash), true),
        with("two policies in one field", header(&format!("{nonce}, script-src 'unsafe-inline'")), true),
        with(
            "trusted types",
            header(&format!("{nonce}; require-trusted-types-for 'script'; trusted-types none")),
            true,
        ),
        with("report-only", "Content-Security-Policy-Report-Only: script-src 'none'\r\n".to_owned(), false),
        Policy { meta: meta(nonce), ..with("a nonce in meta", String::new(), true) },
        Policy { meta: meta(&by_hash), ..with("a hash in meta", String::new(), false) },
        Policy { meta: meta(&by_hash), ..with("a nonce in the head, a hash in meta", header(nonce), true) },
        Policy { runs: false, ..with("no script at all", header("script-src 'none'"), false) },
    ]
}

/// A policy that names the trackers and not the page's own origin lets the stand-ins in all the
/// same. What waits for a stripped file hears that it came, nothing is reported, and nobody else's file comes in.
#[test]
fn a_stand_in_comes_through_a_policy_that_names_its_tracker_alone() {
    let Some(browser) = Browser::shared("a_stand_in_comes_through_a_policy_that_names_its_tracker_alone")
    else {
        return;
    };
    let trackers = "https://connect.facebook.net https://static.criteo.net https://www.facebook.com";
    let all = format!("default-src 'unsafe-inline' 'nonce-abc123' {trackers}");
    let each = format!(
        "script-src 'nonce-abc123' {trackers}; style-src 'nonce-abc123' https://static.criteo.net; img-src \
         https://www.facebook.com"
    );
    let judge = Judge::new();
    for (policy, in_meta) in [(&all, false), (&all, true), (&each, false), (&each, true)] {
        let what = format!("{policy}, in a meta: {in_meta}");
        let meta = match in_meta {
            true => format!("<meta http-equiv=\"Content-Security-Policy\" content=\"{policy}\">"),
            false => String::new(),
        };
        let fields = if in_meta { String::new() } else { format!("Content-Security-Policy: {policy}\r\n") };
        let page = include_str!("../browser/stand-ins.html").replace("@META@", &meta);
        let own = answer("Content-Type: text/javascript\r\n", "window.own = 1;");
        let origin = Origin::start()
            .answers("/", answer(&format!("Content-Type: text/html\r\n{fields}"), page))
            .answers("/own.js", own);
        let proxy = proxy().to(&origin).run();
        let (tab, control) = fresh(&browser, proxy.addr(), "", "https://site.test/");
        let before = tab.text("window.told()");
        let (tab, signal) = fresh(&browser, proxy.addr(), SIGNAL, "https://site.test/");
        let after = tab.text("window.told()");
        assert!(judge.leaks(&control).len() > 2, "{what}: {before}");
        assert_eq!(judge.leaks(&signal), Vec::<String>::new(), "{what}");
        assert_eq!(
            before, "IMG load, LINK load, SCRIPT load, made IMG load, made SCRIPT load, own SCRIPT error",
            "{what}"
        );
        assert_eq!(after, before, "{what}");
    }
}

/// Under every kind of policy the guard runs before the page's script, which runs as
/// before; the tracker is not called, and no policy is hurt that was not hurt before.
#[test]
fn the_guard_runs_under_every_kind_of_policy() {
    let Some(browser) = Browser::shared("the_guard_runs_under_every_kind_of_policy") else { return };
    let script = include_str!("../browser/csp.js");
    let (policies, judge) = (policies(script), Judge::new());
    let mut site = Origin::start();
    for (at, policy) in policies.iter().enumerate() {
        let page = include_str!("../browser/csp.html")
            .replace("@WHAT@", policy.what)
            .replace("@META@", &policy.meta)
            .replace("@NONCE@", if policy.nonce { " nonce=\"abc123\"" } else { "" })
            .replace("@SCRIPT@", script);
        let fields = format!("Content-Type: text/html\r\n{}", policy.fields);
        site = site.answers(&format!("/{at}"), answer(&fields, page));
    }
    let proxy = proxy().to(&site).run();
    let mut faults = Vec::new();
    for (at, policy) in policies.iter().enumerate() {
        let url = format!("https://site.test/{at}");
        let (control_tab, control) = fresh(&browser, proxy.addr(), "", &url);
        let (tab, signal) = fresh(&browser, proxy.addr(), SIGNAL, &url);
        let saw = |tab: &Tab| tab.text("document.documentElement.dataset.saw || ''");
        let expected = if policy.runs { ("signal undefined", "signal true") } else { ("", "") };
        let twin = |o: &Outcome| o.entries.iter().any(|e| e.url.host_str() == Some(TWIN));
        let hurt = |o: &Outcome| o.errors.iter().filter(|e| e.contains("Content Security Policy")).count();
        let (before, after) = (judge.leaks(&control), judge.leaks(&signal));
        println!("{}: control: {} leaks, with the signal: {}", policy.what, before.len(), after.len());
        assert_eq!(saw(&control_tab), expected.0, "{}: the page itself", policy.what);
        assert_eq!(before.is_empty(), !policy.runs, "{}: {before:?}", policy.what);
        let mut fault = |text: String| faults.push(format!("\n  {}: {text}", policy.what));
        if saw(&tab) != expected.1 {
            fault(format!("its script saw {:?}", saw(&tab)));
        }
        if !after.is_empty() {
            fault(format!("leaks {after:?}"));
        }
        if twin(&signal) != policy.runs {
            fault("its harmless call does not come through".to_owned());
        }
        if hurt(&signal) > hurt(&control) {
            fault(format!("a policy is hurt: {:?}", signal.errors));
        }
    }
    assert!(faults.is_empty(), "{}", faults.concat());
}

/// ECMAScript 13.3.10 and HTML 8.1.6: an address that passes through the guard on its way into `import` still
/// resolves as it did (by the script's base, by an import map), with its options, and what only looks like
/// such a call stays.
#[test]
fn imports_of_the_site_itself_work_as_before() {
    let Some(browser) = Browser::shared("imports_of_the_site_itself_work_as_before") else { return };
    let mut site = Origin::start()
        .on("/imports", |x| x.ok("text/html", include_str!("../browser/imports.html").as_bytes()))
        .on("/deep/a.json", |x| x.ok("application/json", b"\"json\""));
    for path in ["/a.js", "/deep/a.js", "/deep/b.js"] {
        let module = format!("export default {path:?};");
        site = site.on(path, move |x| x.ok("text/javascript", module.as_bytes()));
    }
    let proxy = proxy().to(&site).run();
    let [before, after] = ["", SIGNAL].map(|fields| {
        let (tab, outcome) = fresh(&browser, proxy.addr(), fields, "https://site.test/imports");
        assert_eq!(outcome.exceptions, Vec::<String>::new(), "{fields}");
        let judged = tab.eval("[...document.scripts].filter(s => /optgateImport\\(/.test(s.text)).length");
        let expected = if fields.is_empty() { 0 } else { 4 };
        assert_eq!(judged.unwrap(), expected, "{fields}: scripts that ask the guard");
        tab.text("steps.join('\\n')")
    });
    println!("imports:\n{after}");
    assert!(before.contains("bare /deep/a.js\n") && before.ends_with("nested /deep/a.js"), "{before}");
    assert_eq!(after, before);
}

/// Leaks that reached the sink after the first `known` entries.
pub fn since(judge: &Judge, tab: &Tab, known: usize) -> Vec<String> {
    let mut outcome = tab.outcome();
    outcome.entries.drain(..known);
    outcome.cookies.clear();
    judge.leaks(&outcome)
}

/// A page that the browser kept from before the opt-out is not
/// shown again by a reload or by going there, whatever the origin said about keeping it.
#[test]
fn a_page_kept_from_before_the_opt_out_is_not_shown_again() {
    let Some(browser) = Browser::shared("a_page_kept_from_before_the_opt_out_is_not_shown_again") else {
        return;
    };
    let judge = Judge::new();
    let page = include_str!("../browser/signal.html");
    let fields = "Content-Type: text/html\r\nCache-Control: public, max-age=86400\r\n\
                  ETag: \"one\"\r\nLast-Modified: Sat, 01 Nov 2025 00:00:00 GMT\r\n";
    let answer = answer(fields, page);
    let site = Origin::start()
        .on("/", move |x| {
            if x.request().one("if-none-match").is_some() || x.request().one("if-modified-since").is_some() {
                return x.send("HTTP/1.1 304 Not Modified\r\nETag: \"one\"\r\n\r\n");
            }
            x.send(&answer)
        })
        .on("/other", |x| x.ok("text/html", b"<!doctype html><title>other</title><p>x"));
    let proxy = proxy().to(&site).run();
    for (how, by_cookie) in [("by signal", false), ("by a choice", true)] {
        let mut tab = browser.tab(proxy.addr(), "");
        open(&mut tab, "https://site.test/");
        assert!(!judge.leaks(&tab.outcome()).is_empty(), "{how}: the page leaks without an opt-out");
        open(&mut tab, "https://site.test/other");
        if by_cookie {
            let answer = "fetch('/privacy-choices/opt-out', { method: 'POST' }).then(r => r.status)";
            assert_eq!(tab.eval(answer).unwrap(), 200, "{how}");
        } else {
            tab.sink.route(&["site.test"], proxy.addr(), SIGNAL);
        }
        let known = tab.sink.entries().len();
        open(&mut tab, "https://site.test/");
        let shown = tab.text("document.body.innerText");
        assert!(shown.contains("Opt-Out Request Honored"), "{how}: {shown}");
        tab.reload().rest(SOON);
        let shown = tab.text("document.body.innerText");
        assert!(shown.contains("Opt-Out Request Honored"), "{how}, reloaded: {shown}");
        assert_eq!(since(&judge, &tab, known), Vec::<String>::new(), "{how}");
    }
}

/// The page that a worker keeps ahead, and answers with whatever is asked for, comes
/// as a fetch and is shown as a document; it has its guard.
#[test]
fn a_page_that_a_service_worker_keeps_ahead_has_its_guard() {
    let Some(browser) = Browser::shared("a_page_that_a_service_worker_keeps_ahead_has_its_guard") else {
        return;
    };
    let worker = "addEventListener('install', event => event.waitUntil(\
        caches.open('shell').then(kept => kept.addAll(['/shell'])).then(() => skipWaiting())));\
        addEventListener('activate', event => event.waitUntil(clients.claim()));\
        addEventListener('fetch', event => {\
        if (event.request.mode == 'navigate') event.respondWith(caches.match('/shell')); })";
    let shell = "<!doctype html><title>shell</title><p>kept<script>['www.facebook.com', 'neutral.test']\
        .forEach(host => { new Image().src = `https://${host}/tr?id=1` })</script>";
    let site = Origin::start()
        .on("/", |x| x.ok("text/html", b"<!doctype html><title>page</title>"))
        .on("/shell", move |x| x.ok("text/html", shell.as_bytes()))
        .on("/sw.js", move |x| x.ok("text/javascript", worker.as_bytes()));
    let (proxy, judge) = (proxy().to(&site).run(), Judge::new());
    for (fields, leaks) in [("", true), (SIGNAL, false)] {
        let mut tab = browser.tab(proxy.addr(), fields);
        open(&mut tab, "https://site.test/");
        let ready = "navigator.serviceWorker.register('/sw.js').then(() => navigator.serviceWorker.ready)\
            .then(() => navigator.serviceWorker.controller || new Promise(done => {\
            navigator.serviceWorker.oncontrollerchange = done })).then(() => 1)";
        assert_eq!(tab.eval(ready).unwrap(), 1, "{fields}");
        open(&mut tab, "https://site.test/deep");
        assert!(tab.text("document.body.innerText").contains("kept"), "{fields}");
        assert!(tab.sink.wait(SOON, |entry| entry.url.host_str() == Some(TWIN)), "{fields}");
        assert_eq!(!judge.leaks(&tab.outcome()).is_empty(), leaks, "{fields}");
    }
}

/// Speculation Rules: a link of the site that leads on to a tracker is
/// the visitor's own step when it is clicked, and a browser that fetches it ahead is not led there.
#[test]
fn what_a_browser_fetches_ahead_of_a_step_does_not_lead_to_a_tracker() {
    let Some(browser) = Browser::shared("what_a_browser_fetches_ahead_of_a_step_does_not_lead_to_a_tracker")
    else {
        return;
    };
    let page = "<!doctype html><title>links</title><a id=go href=/go>go</a><script type=speculationrules>\
        {\"prefetch\": [{\"urls\": [\"/go\", \"/on\"], \"eagerness\": \"immediate\"}]}</script>";
    let led = |to: &str| format!("HTTP/1.1 302 Found\r\nLocation: https://{to}\r\nContent-Length: 0\r\n\r\n");
    let site = Origin::start()
        .on("/", move |x| x.ok("text/html", page.as_bytes()))
        .answers("/go", led("ad.doubleclick.net/clk"))
        .answers("/on", led("neutral.test/on"));
    let (proxy, judge) = (proxy().to(&site).run(), Judge::new());
    for (fields, leaks) in [("", true), (SIGNAL, false)] {
        let mut tab = browser.own_tab(proxy.addr(), fields);
        open(&mut tab, "https://site.test/");
        assert!(tab.sink.wait(SOON, |entry| entry.url.host_str() == Some(TWIN)), "{fields}: fetched ahead");
        if leaks {
            assert!(tab.sink.wait(SOON, |entry| judge.is_leak(entry)), "{fields}");
            continue;
        }
        assert_eq!(judge.leaks(&tab.outcome()), Vec::<String>::new(), "{fields}");
        tab.eval("document.getElementById('go').click()").unwrap();
        assert!(tab.sink.wait(SOON, |entry| judge.is_leak(entry)), "{fields}: the visitor's own step");
    }
}

/// The confirmation page's own script unregisters service workers and
/// deletes what they keep, so that their old copy of a page is not shown again.
#[test]
fn a_service_workers_copy_from_before_the_opt_out_is_deleted() {
    let Some(browser) = Browser::shared("a_service_workers_copy_from_before_the_opt_out_is_deleted") else {
        return;
    };
    let judge = Judge::new();
    let (page, worker) = (include_str!("../browser/shell.html"), include_str!("../browser/shell-worker.js"));
    let site = Origin::start()
        .on("/shell", move |x| x.ok("text/html", page.as_bytes()))
        .on("/shell-worker.js", move |x| x.ok("text/javascript", worker.as_bytes()));
    let proxy = proxy().to(&site).run();
    let mut tab = browser.tab(proxy.addr(), "");
    open(&mut tab, "https://site.test/shell");
    let kept = "caches.match('/shell').then(kept => kept.text()).then(text => text.includes('facebook'))";
    assert_eq!(tab.eval(kept).unwrap(), true, "the worker keeps a copy with a tracker");
    open(&mut tab, "https://site.test/privacy-choices");
    press(&mut tab, "/opt-out");
    let confirmed = tab.text("document.body.innerText");
    let known = tab.sink.entries().len();
    open(&mut tab, "https://site.test/shell");
    let leaks = since(&judge, &tab, known);
    println!("a service worker's shell after the opt-out: {} leaks", leaks.len());
    assert!(confirmed.to_lowercase().contains("opt"), "{confirmed}");
    assert!(leaks.is_empty(), "{leaks:?}");
}
