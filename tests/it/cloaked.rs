//! CNAME-cloaked trackers: a host under the site's own name that leads to a vendor is treated as it.

use std::time::Duration;

use optgate::app::Running;

use crate::support::browser::{Browser, SIGNAL};
use crate::support::client::get;
use crate::support::dns::Dns;
use crate::support::origin::{Origin, answer};
use crate::support::proxy::{Proxy, proxy};
use crate::support::wait_until;

/// How long something that must happen in a page may take.
const SOON: Duration = Duration::from_secs(5);

const VISIT: &str = "Sec-Fetch-Dest: document\r\nSec-GPC: 1\r\n";
const PAGE: &str = "<!doctype html><title>Shop</title><script src=\"https://metrics.site.test/b/ss/x.js\"></script>\
    <img src=\"https://img.site.test/a.png\">";

fn shop() -> Origin {
    Origin::start().answers("/", answer("Content-Type: text/html\r\nETag: \"1\"\r\n", PAGE))
}

fn run(origin: &Origin, dns: &Dns, more: &str) -> Proxy {
    let settings = format!("{more}\n[dns]\nservers = [\"{}\"]\n", dns.addr());
    proxy().to(origin).toml(&settings).run()
}

fn cloaked(proxy: &Proxy) -> i64 {
    proxy.running().metrics().cloaked_hosts.get()
}

#[test]
fn a_host_that_the_settings_name_is_looked_up_at_start_and_stripped() {
    let (origin, dns) = (shop(), Dns::start());
    dns.cname("metrics.site.test", "site.test.102.122.2o7.edge.test");
    dns.cname("site.test.102.122.2o7.edge.test", "site.sc.OMTRDC.net");
    let proxy = run(&origin, &dns, "first_party_hosts = [\"metrics.site.test\"]\n");
    wait_until("the host is found", || cloaked(&proxy) == 1);
    let page = proxy.get("/", VISIT);
    assert!(!page.text().contains("metrics.site.test"), "{}", page.text());
    assert!(page.text().contains("img.site.test"));
    // Who has not opted out gets the page as it is.
    assert!(proxy.get("/", "Sec-Fetch-Dest: document\r\n").text().contains("metrics.site.test"));
}

/// The first page still refers to it; its host is looked up behind, and the next one is another variant.
#[test]
fn a_host_seen_in_a_page_is_looked_up_behind_it() {
    let (origin, dns) = (shop(), Dns::start());
    dns.cname("metrics.site.test", "site.sc.omtrdc.net");
    let proxy = run(&origin, &dns, "");
    let first = proxy.get("/", VISIT);
    assert!(first.text().contains("metrics.site.test"));
    wait_until("the host is found", || cloaked(&proxy) == 1);
    let tag = first.head.one("etag").unwrap();
    let second = proxy.get("/", &format!("{VISIT}If-None-Match: {tag}\r\n"));
    assert_eq!(second.status(), 200, "the page of before is not confirmed");
    assert!(!second.text().contains("metrics.site.test"));
    assert_ne!(second.head.one("etag"), Some(tag));
    wait_until("the other host is asked about too", || dns.asked().contains(&"img.site.test".to_owned()));
    assert!(!dns.asked().contains(&"site.test".to_owned()), "the page's own host is never asked about");
}

/// What was known holds, and the failure is counted.
#[test]
fn a_failed_look_up_keeps_the_last_answer_and_is_counted() {
    let (origin, dns) = (shop(), Dns::start());
    dns.cname("metrics.site.test", "site.sc.omtrdc.net");
    let settings = format!(
        "first_party_hosts = [\"metrics.site.test\"]\n[dns]\nservers = [\"{}\"]\ninterval = \"100ms\"\n",
        dns.addr()
    );
    let proxy = proxy().to(&origin).toml(&settings).run();
    wait_until("the host is found", || cloaked(&proxy) == 1);
    dns.fails("metrics.site.test");
    wait_until("a look-up fails", || proxy.running().metrics().dns_failures.get() > 0);
    assert_eq!(cloaked(&proxy), 1);
    assert!(!proxy.get("/", VISIT).text().contains("metrics.site.test"));
    // The name leads elsewhere now: it is the site's own again.
    dns.cname("metrics.site.test", "shop.hosting.test");
    wait_until("the host is free again", || cloaked(&proxy) == 0);
    assert!(proxy.get("/", VISIT).text().contains("metrics.site.test"));
}

/// The guard knows it, too: what a script puts together at run time is held, in a real browser.
#[test]
fn a_cloaked_host_is_held_at_run_time() {
    let Some(browser) = Browser::shared("a_cloaked_host_is_held_at_run_time") else { return };
    let page = "<!doctype html><title>Shop</title><p>x<script>for (const host of ['metrics', 'img'])\
        new Image().src = `https://${host}.site.test/b/ss/1`</script>";
    let origin = Origin::start().answers("/", answer("Content-Type: text/html\r\n", page));
    let dns = Dns::start();
    dns.cname("metrics.site.test", "site.sc.omtrdc.net");
    let proxy = run(&origin, &dns, "first_party_hosts = [\"metrics.site.test\"]\n");
    wait_until("the host is found", || cloaked(&proxy) == 1);
    for (fields, called) in [("", true), (SIGNAL, false)] {
        let mut tab = browser.tab(proxy.addr(), fields);
        tab.open("https://site.test/");
        let reached = |host: &str| tab.sink.wait(SOON, |entry| entry.url.host_str() == Some(host));
        assert!(reached("img.site.test"), "{fields}: the site's own host is called");
        if called {
            assert!(reached("metrics.site.test"), "the control leaks");
            continue;
        }
        tab.rest(SOON);
        let calls = tab.sink.entries();
        assert!(!calls.iter().any(|entry| entry.url.host_str() == Some("metrics.site.test")), "{calls:?}");
    }
}

#[test]
fn no_name_is_asked_for_when_look_ups_are_off() {
    let (origin, dns) = (shop(), Dns::start());
    let settings = format!(
        "first_party_hosts = [\"metrics.site.test\"]\n[dns]\nenabled = false\nservers = [\"{}\"]\n",
        dns.addr()
    );
    let proxy = proxy().to(&origin).toml(&settings).run();
    assert!(proxy.get("/", VISIT).text().contains("metrics.site.test"));
    drop(proxy);
    assert_eq!(dns.asked(), Vec::<String>::new());
}

/// A name whose servers say nothing is one of several that are asked for; what the others lead to is in force meanwhile.
#[test]
fn a_silent_name_holds_up_no_other() {
    let (origin, dns) = (shop(), Dns::start());
    let silent: Vec<String> = (0..5).map(|number| format!("silent{number}.site.test")).collect();
    silent.iter().for_each(|name| dns.is_silent(name));
    dns.cname("metrics.site.test", "site.sc.omtrdc.net");
    let settings =
        format!("first_party_hosts = {silent:?}\n[dns]\nservers = [\"{}\"]\ntimeout = \"1h\"\n", dns.addr());
    let proxy = proxy().to(&origin).toml(&settings).run();
    wait_until("all are asked for", || silent.iter().all(|name| dns.asked().contains(name)));
    // Only this page says that there is another host.
    proxy.get("/", VISIT);
    wait_until("the host is found", || cloaked(&proxy) == 1);
    assert!(!proxy.get("/", VISIT).text().contains("metrics.site.test"));
}

/// A start does not wait for its name server, nor for a page that names the host: it begins with what was known.
#[test]
fn a_host_that_was_found_is_known_at_the_next_start() {
    let (origin, dns) = (shop(), Dns::start());
    dns.cname("metrics.site.test", "site.sc.omtrdc.net");
    let settings = format!("[dns]\nservers = [\"{}\"]\ninterval = \"100ms\"\ntimeout = \"1s\"\n", dns.addr());
    let builder = proxy().to(&origin).toml(&settings);
    let first = optgate::app::start(builder.settings()).unwrap();
    get(first.listen()[0], "/", VISIT);
    let found = |running: &Running| running.metrics().cloaked_hosts.get();
    wait_until("the host is found", || found(&first) == 1);
    first.stop().unwrap();
    dns.is_silent("metrics.site.test");
    let second = optgate::app::start(builder.settings()).unwrap();
    assert_eq!(found(&second), 1);
    assert!(!get(second.listen()[0], "/", VISIT).text().contains("metrics.site.test"), "the very first page");
    // It is looked up again like any other.
    dns.cname("metrics.site.test", "shop.hosting.test");
    wait_until("the host is free again", || found(&second) == 0);
    second.stop().unwrap();
    let third = optgate::app::start(builder.settings()).unwrap();
    assert_eq!(found(&third), 0);
    third.stop().unwrap();
}
