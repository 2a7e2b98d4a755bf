//! Third parties that nobody knows, where they go (`unknown = "strip"`): from markup
//! and headers, for opted-out visitors alone; what stays; what is said of them; and that settings carry it.

use super::support::browser::{Browser, SIGNAL};
use super::support::client::{Client, Response};
use super::support::origin::{Origin, answer};
use super::support::proxy::{Proxy, figure, proxy};
use super::support::wait_until;

const GPC: &str = "Accept: text/html\r\nSec-Fetch-Dest: document\r\nSec-GPC: 1\r\nOptgate-Explain: 1\r\n";

const STRANGER: &str = "stranger.example";

const STRICT: &str = "unknown = \"strip\"\nknown = [\"cdn.known.example\"]\n";

/// Every way of markup to a host that fetches from it.
fn ways(host: &str) -> String {
    "<link rel=preconnect href=https://H><link rel=stylesheet href=https://H/a.css><script src=https://H/a.js></script>\
     <img src=https://H/a.gif srcset=\"https://H/b.gif 2x\"><iframe src=https://H/f></iframe>\
     <style>p{background:url(https://H/c.png)} @font-face{font-family:x;src:url(https://H/x.woff2)}</style>\
     <p style=\"background:url(https://H/d.png)\"><video poster=https://H/p.png src=https://H/v.mp4></video>\
     <object data=https://H/o></object><svg><image href=https://H/s.png /></svg><a href=/ ping=https://H/ping>x</a>\
     <script type=module>import 'https://H/m.js'</script><img data-src=//H/lazy.gif>"
        .replace('H', host)
}

/// What a visitor follows, and what is no host's.
const STEPS: &str = "<a href=https://stranger.example/go>go</a><form action=https://stranger.example/post></form>\
    <img src=\"data:image/gif;base64,AA==\"><a href=\"mailto:a@stranger.example\">mail</a>\
    <iframe src=about:blank></iframe>";

fn page(hosts: &[&str]) -> String {
    let body: String = hosts.iter().map(|host| ways(host)).collect();
    format!(
        "<!doctype html><html><head><title>t</title><base href=/></head><body>{body}{STEPS}</body></html>"
    )
}

fn origin(hosts: &[&str]) -> Origin {
    let fields = "Content-Type: text/html\r\nETag: \"a\"\r\n\
        Link: <https://stranger.example/a.js>; rel=preload; as=script, <https://stranger.example>; rel=preconnect, \
        <https://cdn.known.example/b.js>; rel=preload; as=script, <android-app://stranger.example/x>; rel=alternate\r\n\
        Reporting-Endpoints: a=\"https://stranger.example/r\", b=\"/own\"\r\n";
    let page = page(hosts);
    Origin::start().answers("/", answer(fields, &page)).answers("/kept/", answer(fields, &page))
}

fn admin(proxy: &Proxy, path: &str) -> serde_json::Value {
    let addr = proxy.running().admin();
    let asked = format!("GET {path} HTTP/1.1\r\nHost: {addr}\r\n\r\n");
    serde_json::from_slice(&Client::connect(addr).send(asked).response("GET").body).unwrap()
}

/// Of the third parties of the one site: host, directive and whose it is.
fn listed(proxy: &Proxy) -> Vec<[String; 4]> {
    let all = admin(proxy, "/api/third-parties");
    let lines = all["sites"][0]["third_parties"].as_array().unwrap().clone();
    let word = |line: &serde_json::Value, key: &str| line[key].as_str().unwrap_or_default().to_owned();
    lines.iter().map(|line| ["host", "directive", "vendor", "action"].map(|key| word(line, key))).collect()
}

/// A whole page in every way of its markup: what stays is as it came, byte by byte.
#[test]
fn what_nobody_knows_goes_from_markup_and_headers_and_everything_else_stays() {
    let kept = ["www.site.test", "js.stripe.com", "cdn.known.example", "a.cdn.known.example", "site.test"];
    let origin = origin(&[&[STRANGER, "10.0.0.9"], &kept[..]].concat());
    let proxy = proxy().to(&origin).toml(STRICT).run();
    let got = proxy.get("/", GPC);
    let text = got.text();
    let left: Vec<_> = text.match_indices(STRANGER).map(|(at, _)| &text[at - 20..at + 30]).collect();
    assert_eq!(left.len(), 3, "a link, a form and a mail: {left:#?}");
    assert!(text.contains(STEPS), "what is followed, or no host's: {text}");
    assert!(!text.contains("//10.0.0.9"), "an address is nobody's name");
    assert!(text.contains("data-optgate=\"strip:unknown-third-party\""), "{text}");
    for host in kept {
        assert!(text.contains(&ways(host)), "{host}");
    }
    let links: Vec<_> = got.head.all("link").iter().flat_map(|v| v.split(", ")).map(str::to_owned).collect();
    assert_eq!(
        links,
        [
            "<https://cdn.known.example/b.js>; rel=preload; as=script",
            "<android-app://stranger.example/x>; rel=alternate"
        ]
    );
    assert_eq!(got.head.all("reporting-endpoints"), ["b=\"/own\""]);
    let why = got.head.one("optgate-why").unwrap();
    assert!(why.ends_with("; unknown-third-party=strip known=1"), "{why}");
    let other = proxy.get("/", "Accept: text/html\r\nSec-Fetch-Dest: document\r\n");
    assert!(other.text().contains(&ways(STRANGER)), "for opted-out visitors alone");
    assert_eq!(other.head.all("link").len(), 1);

    let counted = "optgate_elements_neutralised_total{vendor=\"unknown-third-party\",action=\"strip\"}";
    wait_until(counted, || figure(&proxy.running().metrics().render(), counted).is_some_and(|n| n > 20));
    let line = |host: &str| [host, "markup", "unknown-third-party", "strip"].map(str::to_owned);
    wait_until("the list", || listed(&proxy) == [line("10.0.0.9"), line(STRANGER)]);
}

/// The hosts of the site and of its group, with what has a registrable domain with them; of another site of the same
/// operator that is in no group, not.
#[test]
fn the_hosts_of_a_site_and_of_its_group_are_its_own() {
    let origin = origin(&["static.shop.example", "media.blog.example", "own.alone.example"]);
    let upstream = origin.url();
    let site = |name: &str, more: &str| {
        format!(
            "[[sites]]\nname = \"{name}\"\nhosts = [\"www.{name}.example\"]\nupstream = {upstream:?}\n{more}"
        )
    };
    let sites = site("shop", "unknown = \"strip\"\n") + &site("blog", "") + &site("alone", "");
    let group = "[[groups]]\nname = \"all\"\nsites = [\"shop\", \"blog\"]\n";
    let proxy = proxy().toml(&format!("{sites}{group}")).run();
    let ask = |host: &str| -> Response {
        let head = format!("GET / HTTP/1.1\r\nHost: {host}\r\n{GPC}\r\n");
        Client::connect(proxy.addr()).send(head).response("GET")
    };
    let text = ask("www.shop.example").text();
    assert!(
        text.contains(&ways("static.shop.example")) && text.contains(&ways("media.blog.example")),
        "{text}"
    );
    assert!(!text.contains("https://own.alone.example"), "{text}");
    assert!(
        ask("www.blog.example").text().contains(&ways("own.alone.example")),
        "each site has its own word"
    );
}

/// A site's word can be another on a path, like that for any vendor; observe mode changes nothing, and counts.
#[test]
fn a_path_can_keep_them_and_observing_only_counts() {
    let origin = origin(&[STRANGER]);
    let sites = format!(
        "unknown = \"strip\"\n[[sites]]\nupstream = {:?}\n[[sites.paths]]\nprefix = \"/kept\"\n\
         vendors = {{ unknown-third-party = \"allow\" }}\n",
        origin.url()
    );
    let strict = proxy().toml(&sites).run();
    assert!(strict.get("/kept/", GPC).text().contains(&ways(STRANGER)));
    assert!(!strict.get("/", GPC).text().contains(&ways(STRANGER)));

    let observing = proxy().to(&origin).toml("mode = \"observe\"\nunknown = \"strip\"\n").run();
    assert_eq!(observing.get("/", GPC).text(), page(&[STRANGER]));
    let counted = "optgate_elements_observed_total{vendor=\"unknown-third-party\",action=\"strip\"}";
    wait_until(counted, || figure(&observing.running().metrics().render(), counted).is_some_and(|n| n > 10));
    assert_eq!(listed(&observing), Vec::<[String; 4]>::new(), "nothing is kept");
}

/// Both settings come into force with a reload, and a page that a browser keeps is asked for anew.
#[test]
fn a_reload_carries_both_settings() {
    let origin = origin(&[STRANGER]);
    let proxy = proxy().to(&origin).run();
    let kept = || proxy.get("/", GPC).text().contains(&ways(STRANGER));
    let tag = || proxy.get("/", GPC).head.one("etag").unwrap().to_owned();
    let (before, first) = (kept(), tag());
    proxy.reload(|text| format!("unknown = \"strip\"\n{text}")).unwrap();
    let (strict, second) = (kept(), tag());
    proxy.reload(|text| format!("known = [\"{STRANGER}\"]\n{text}")).unwrap();
    assert_eq!([before, strict, kept()], [true, false, true]);
    assert!(first != second && second != tag());
}

/// What the guard tells of hosts that nobody knows is counted and listed; anybody can send it, so that no text but a
/// host is kept.
#[test]
fn what_the_guard_met_is_listed_by_host_alone() {
    let origin = origin(&[]);
    let proxy = proxy().to(&origin).toml(STRICT).run();
    let body = r#"{"v":1,"blocked":{"late.example":3,"no host":1,"A.example":1,"static.site.test":1,"cdn.known.example":1,"www.facebook.com":2},"slipped":{}}"#;
    let head = "POST /privacy-choices/report HTTP/1.1\r\nHost: site.test\r\nContent-Type: text/plain\r\n";
    let asked = format!("{head}Content-Length: {}\r\n\r\n{body}", body.len());
    assert_eq!(Client::connect(proxy.addr()).send(asked).response("POST").status(), 204);
    assert_eq!(
        listed(&proxy),
        [["late.example", "guard", "unknown-third-party", "strip"].map(str::to_owned)]
    );
    let counted = "optgate_guard_blocked_total{vendor=\"unknown-third-party\"}";
    assert_eq!(figure(&proxy.running().metrics().render(), counted), Some(5), "three, and what is no host");
}

/// A page's scripts in a window, a frame and workers: nothing reaches whom nobody knows, and everything reaches the site's
/// own hosts, an essential vendor and a known one. The same page without the signal reaches everybody.
#[test]
fn scripts_reach_whom_somebody_knows_and_nobody_else() {
    let Some(browser) = Browser::shared("scripts_reach_whom_somebody_knows_and_nobody_else") else { return };
    let origin = Origin::start()
        .answers("/", answer("Content-Type: text/html\r\n", include_str!("../browser/unknown.html")))
        .answers(
            "/frame",
            answer("Content-Type: text/html\r\n", include_str!("../browser/unknown-frame.html")),
        )
        .answers(
            "/worker.js",
            answer("Content-Type: text/javascript\r\n", include_str!("../browser/unknown.js")),
        )
        .answers(
            "/unknown.js",
            answer("Content-Type: text/javascript\r\n", include_str!("../browser/unknown.js")),
        );
    let proxy = proxy().to(&origin).toml(STRICT).run();
    let known = ["static.site.test", "js.stripe.com", "cdn.known.example"];
    let reached = |fields: &str| {
        let mut tab = browser.tab(proxy.addr(), fields);
        tab.open("https://site.test/");
        assert_eq!(tab.text("window.broken"), "", "no script may break");
        let outcome = tab.outcome();
        assert!(outcome.finished, "{:?}", outcome.errors);
        let calls = outcome.entries.iter().filter(|entry| entry.method != "CONNECT");
        let mut calls: Vec<(String, String)> = calls
            .map(|entry| (entry.url.path().to_owned(), entry.url.host_str().unwrap_or_default().to_owned()))
            .collect();
        calls.sort();
        calls.dedup();
        println!("unknown: {} hosts and paths were reached with {fields:?}", calls.len());
        // The guard tells at the end of a page.
        tab.open("https://site.test/unknown.js");
        calls
    };
    let (control, signal) = (reached(""), reached(SIGNAL));
    let paths: std::collections::BTreeSet<_> = control.iter().map(|(path, _)| path).collect();
    assert!(paths.len() > 20, "{paths:?}");
    let strangers = |calls: &[(String, String)]| calls.iter().filter(|(_, host)| host == STRANGER).count();
    assert!(strangers(&control) > 20 && strangers(&signal) == 0, "{signal:?}");
    let missing: Vec<_> = control.iter().filter(|(_, host)| known.contains(&host.as_str())).collect();
    let missing: Vec<_> = missing.into_iter().filter(|call| !signal.contains(call)).collect();
    assert!(missing.is_empty(), "held back: {missing:?}");
    wait_until("the guard's report", || {
        listed(&proxy).iter().any(|[host, told, ..]| host == STRANGER && told == "guard")
    });
}

/// RFC 8297: a hint is fetched before the answer is there.
#[test]
fn an_early_hint_of_a_stranger_is_not_passed_on() {
    let hints = "HTTP/1.1 103 Early Hints\r\nLink: <https://stranger.example/a.js>; rel=preload; as=script, \
                 <https://cdn.known.example/b.js>; rel=preload; as=script\r\n\r\n";
    let page = answer("Content-Type: text/html\r\n", page(&[]));
    let origin = Origin::start().answers("/", [hints.as_bytes(), &page].concat());
    let proxy = proxy().to(&origin).toml(STRICT).run();
    let mut client = proxy.client();
    client.send(format!("GET / HTTP/1.1\r\nHost: site.test\r\n{GPC}\r\n"));
    let hint = client.head();
    assert_eq!(
        (hint.status, hint.all("link")),
        (103, vec!["<https://cdn.known.example/b.js>; rel=preload; as=script"])
    );
}
