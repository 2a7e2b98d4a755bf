//! Shared caches in front keep the variants apart: two visitors through
//! Debian's nginx and Varnish, with the sample files of `deploy/`, for each value of `cache.front`.

use std::path::Path;

use crate::support::client::Client;
use crate::support::front::Kind;
use crate::support::origin::{Origin, answer};
use crate::support::proxy::{Proxy, proxy};

const REQUESTS: usize = 10_000;
const DOCUMENT: &str = "Sec-Fetch-Dest: document\r\nAccept: text/html\r\n";
const TRACKER: &str = "connect.facebook.net";
const PAGE: &str = "<!doctype html><title>Shop</title>\
    <script src=\"https://connect.facebook.net/en_US/fbevents.js\"></script><p>Hello</p>";

/// A shop whose pages every cache may keep.
fn shop() -> Origin {
    let fields = "Content-Type: text/html\r\nCache-Control: public, max-age=3600\r\nETag: \"1\"\r\n";
    Origin::start().answers("/", answer(fields, PAGE))
}

fn optgate(origin: &Origin, front: &str) -> Proxy {
    proxy().to(origin).toml(&format!("[cache]\nfront = \"{front}\"\n")).run()
}

/// What an opted-out visitor's browser has after its first page.
fn cookie(proxy: &Proxy) -> String {
    let first = proxy.get("/", &format!("{DOCUMENT}Sec-GPC: 1\r\n"));
    let line = first.head.all("set-cookie").into_iter().find(|line| line.starts_with("optgate=")).unwrap();
    line.split(';').next().unwrap().to_owned()
}

/// The two visitors in turn; gives how often one of them got the other's page. The one who is opted out says
/// so by signal and cookie, then by cookie alone.
fn crossings(client: &mut Client, cookie: &str, requests: usize) -> usize {
    let out =
        [format!("{DOCUMENT}Sec-GPC: 1\r\nCookie: {cookie}\r\n"), format!("{DOCUMENT}Cookie: {cookie}\r\n")];
    let mut crossed = 0;
    for turn in 0..requests {
        let opted_out = turn % 2 == 0;
        let fields = if opted_out { &out[turn / 2 % 2] } else { DOCUMENT };
        let page = client.get("/", fields);
        assert_eq!(page.status(), 200);
        let text = page.text();
        assert!(text.contains("<p>Hello</p>"), "{text}");
        crossed += usize::from(text.contains(TRACKER) == opted_out);
    }
    crossed
}

/// One value of `cache.front` behind one program; gives how many pages the origin was asked for.
fn asked_of_the_origin(kind: Kind, program: &Path, front: &str) -> usize {
    let origin = shop();
    let proxy = optgate(&origin, front);
    let cookie = cookie(&proxy);
    let sample = if front == "keyed" { "keyed" } else { "vary" };
    let cache = kind.start(program, &kind.sample(sample), proxy.addr());
    let before = origin.heads();
    let crossed = crossings(&mut Client::connect(cache.addr()), &cookie, REQUESTS);
    assert_eq!(crossed, 0, "{kind:?}, cache.front = {front:?}");
    origin.heads() - before
}

fn no_page_crosses(kind: Kind, test: &str) {
    let Some(program) = kind.find(test) else { return };
    // Nothing is kept: a cache that nobody declared cannot mix what it does not have.
    assert_eq!(asked_of_the_origin(kind, &program, "none"), REQUESTS);
    for front in ["vary", "keyed"] {
        let asked = asked_of_the_origin(kind, &program, front);
        assert!(asked < 20, "{kind:?}, cache.front = {front:?}: the cache kept nothing, {asked} asked");
    }
}

#[test]
fn two_visitors_behind_nginx_never_get_each_others_page() {
    no_page_crosses(Kind::Nginx, "two_visitors_behind_nginx_never_get_each_others_page");
}

#[test]
fn two_visitors_behind_varnish_never_get_each_others_page() {
    no_page_crosses(Kind::Varnish, "two_visitors_behind_varnish_never_get_each_others_page");
}

/// Why `cache.front` is a promise the operator makes: the same cache told to ignore `Vary` does mix them, so
/// that the tests above can fail.
#[test]
fn a_cache_that_ignores_vary_crosses_when_it_was_declared_to_follow_it() {
    let Some(program) =
        Kind::Nginx.find("a_cache_that_ignores_vary_crosses_when_it_was_declared_to_follow_it")
    else {
        return;
    };
    let origin = shop();
    let proxy = optgate(&origin, "vary");
    let cookie = cookie(&proxy);
    let sample = Kind::Nginx.sample("vary");
    let deaf = sample.replace("proxy_cache     optgate;", "proxy_cache optgate; proxy_ignore_headers Vary;");
    assert_ne!(deaf, sample);
    let cache = Kind::Nginx.start(&program, &deaf, proxy.addr());
    assert!(crossings(&mut Client::connect(cache.addr()), &cookie, 10) > 0);
}
