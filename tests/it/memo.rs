//! Pages that come again, through a running proxy: they go out as before, and only to whom they would have gone.
//!
//! That what goes out is what the rewriter would have made is `enforce::html::memo`'s.

use std::io::{Read, Write};
use std::sync::atomic::{AtomicUsize, Ordering};

use super::support::client::Response;
use super::support::origin::{Origin, answer};
use super::support::proxy::{Proxy, proxy};
use super::support::wait_until;

const VISIT: &str = "Sec-Fetch-Dest: document\r\nAccept: text/html\r\n";
const GPC: &str = "Sec-GPC: 1\r\n";
const PIXEL: &str = "<img src=\"https://www.facebook.com/tr?id=1\">";

fn page(words: &str) -> String {
    let lines = "<p>A line of the page that is long enough.</p>\n".repeat(2_000);
    format!("<!doctype html><html><head><title>x</title></head><body>{words}{lines}{PIXEL}</body></html>")
}

fn ask(proxy: &Proxy, signal: &str) -> Response {
    let response = proxy.get("/", &format!("{VISIT}{signal}"));
    assert_eq!(response.status(), 200);
    response
}

/// Whole, in part, not at all.
fn figures(proxy: &Proxy) -> [u64; 3] {
    let memo = &proxy.running().metrics().memo;
    [memo.hits.get(), memo.partial.get(), memo.misses.get()]
}

fn serve(fields: &str, words: impl Fn(usize) -> String + Send + Sync + 'static) -> (Origin, Proxy) {
    let (count, fields) = (AtomicUsize::new(0), fields.to_owned());
    let site = Origin::start().on("/", move |x| {
        let turn = count.fetch_add(1, Ordering::Relaxed);
        x.send(answer(&format!("Content-Type: text/html\r\n{fields}"), page(&words(turn))))
    });
    let proxy = proxy().to(&site).run();
    (site, proxy)
}

/// The third visit is compared and not read; it is announced with its length, since all of it is known.
#[test]
fn a_page_that_comes_again_goes_out_as_before() {
    let (_site, proxy) = serve("", |_| String::new());
    for signal in [GPC, ""] {
        let [hits, partial, _] = figures(&proxy);
        let first = ask(&proxy, signal);
        ask(&proxy, signal);
        let third = ask(&proxy, signal);
        assert_eq!(figures(&proxy)[..2], [hits + 1, partial], "{signal}");
        assert!(first.body == third.body, "{signal}");
        assert_eq!(third.text().contains(PIXEL), signal.is_empty());
        assert_eq!(third.head.one("content-length").is_some(), !signal.is_empty(), "{signal}");
    }
}

/// One visitor's bytes never reach another: what differs is the visitor's own.
#[test]
fn what_differs_in_a_page_is_each_visitors_own() {
    let (_site, proxy) = serve("", |turn| format!("<p>Hello, visitor {turn}. <i data-token={turn}>"));
    for turn in 0..5 {
        let text = ask(&proxy, GPC).text();
        assert!(text.contains(&format!("Hello, visitor {turn}. <i data-token={turn}>")), "{turn}");
        assert!(!text.contains(PIXEL) && text.contains("Opt-Out Request Honored"));
    }
    // The last one was recorded anew: by then it was known where the page differs.
    assert_eq!(figures(&proxy), [0, 2, 3]);
}

/// RFC 9111, 5.2.2.5: what must not be stored is not; CSP3: a nonce is another each time.
#[test]
fn what_must_not_be_kept_is_not() {
    for fields in
        ["Cache-Control: private, No-Store\r\n", "Content-Security-Policy: script-src 'nonce-a'\r\n"]
    {
        let (_site, proxy) = serve(fields, |_| String::new());
        for _ in 0..4 {
            assert!(!ask(&proxy, GPC).text().contains(PIXEL));
        }
        assert_eq!(figures(&proxy), [0, 0, 0], "{fields}");
    }
}

/// Nothing of what other settings made goes out once these are in force.
#[test]
fn a_reload_forgets_what_older_settings_made() {
    let (_site, proxy) = serve("", |_| String::new());
    let title = "Do Not Sell or Share My Personal Information";
    for _ in 0..3 {
        assert!(ask(&proxy, GPC).text().contains(title));
    }
    proxy.reload(|text| format!("{text}\n[portal]\nlink = \"privacy-choices\"\n")).unwrap();
    for _ in 0..3 {
        let text = ask(&proxy, GPC).text();
        assert!(text.contains("Your Privacy Choices") && !text.contains(title));
    }
}

/// `limits.rewrite_memo = 0`: as if it were not there.
#[test]
fn the_memo_can_be_switched_off() {
    let (site, _) = serve("", |_| String::new());
    let proxy = proxy().to(&site).toml("[limits]\nrewrite_memo = \"0B\"\n").run();
    for _ in 0..4 {
        assert!(!ask(&proxy, GPC).text().contains(PIXEL));
    }
    assert_eq!(figures(&proxy), [0, 0, 0]);
}

/// Compressed pages that come often are compressed better, once, where no visitor waits for it.
#[test]
fn a_compressed_page_that_comes_often_goes_out_in_fewer_bytes() {
    let lines = (0..2_000).map(|n| format!("<p class=\"c{}\">Line {} of it.</p>", n % 7, n * 7_919 % 1_000));
    let page = page(&lines.collect::<String>());
    let mut coder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    coder.write_all(page.as_bytes()).unwrap();
    let coded = coder.finish().unwrap();
    let site = Origin::start()
        .on("/", move |x| x.send(answer("Content-Type: text/html\r\nContent-Encoding: gzip\r\n", &coded)));
    let proxy = proxy().to(&site).run();
    let ask = || {
        let response = proxy.get("/", &format!("{VISIT}{GPC}Accept-Encoding: gzip\r\n"));
        assert_eq!(response.head.one("content-encoding"), Some("gzip"));
        response.body
    };
    let first = ask();
    let memo = &proxy.running().metrics().memo;
    let bytes = || memo.bytes.get();
    (0..50).for_each(|_| assert!(ask() == first));
    let before = bytes();
    wait_until("it is compressed anew", || {
        ask();
        memo.recoded.get() == 1
    });
    let last = ask();
    assert!(last.len() < first.len(), "{} of {}", last.len(), first.len());
    assert_eq!(before - bytes(), i64::try_from(first.len() - last.len()).unwrap());
    assert!(plain(&last) == plain(&first));
}

fn plain(coded: &[u8]) -> String {
    let mut text = String::new();
    flate2::read::GzDecoder::new(coded).read_to_string(&mut text).unwrap();
    text
}
