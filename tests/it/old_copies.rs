//! A copy from before the opt-out never comes back: what browsers send
//! when a page is reloaded or visited again, against an origin that likes to answer 304.

use crate::support::client::{Client, Response};
use crate::support::origin::{Exchange, Origin, answer};
use crate::support::proxy::{Proxy, proxy};

const DOCUMENT: &str = "Sec-Fetch-Dest: document\r\nAccept: text/html,application/xhtml+xml\r\n";
const RELOAD: &str = "Cache-Control: max-age=0\r\n";
const DATE: &str = "Mon, 23 Nov 2026 00:00:00 GMT";
const TRACKER: &str = "connect.facebook.net";
const PAGE: &str = "<!doctype html><title>Shop</title>\
    <script src=\"https://connect.facebook.net/en_US/fbevents.js\"></script><p>Hello</p>";

/// A shop that answers 304 whenever a condition of its own fits (RFC 9110, 13.2.2), with a page every
/// cache may keep.
fn shop() -> Origin {
    Origin::start().on("/", |x: &mut Exchange<'_>| {
        let asked = x.request().clone();
        let fits = match asked.one("if-none-match") {
            Some(tags) => tags == "*" || tags.split(", ").any(|tag| tag == "\"v1\""),
            None => asked.one("if-modified-since").as_deref() == Some(DATE),
        };
        let fields =
            format!("ETag: \"v1\"\r\nLast-Modified: {DATE}\r\nCache-Control: public, max-age=600\r\n");
        if fits {
            return x.send(format!("HTTP/1.1 304 Not Modified\r\n{fields}\r\n"));
        }
        if asked.one("range").is_some() {
            return x.send(format!(
                "HTTP/1.1 206 Partial Content\r\nContent-Type: text/html\r\n{fields}\
                 Content-Range: bytes 0-9/{}\r\nContent-Length: 10\r\n\r\n{}",
                PAGE.len(),
                &PAGE[..10]
            ));
        }
        x.send(answer(&format!("Content-Type: text/html\r\n{fields}"), PAGE))
    })
}

/// `POST .../opt-out`; gives the choice's cookie as it is sent back.
fn opt_out(proxy: &Proxy) -> String {
    let request = "POST /privacy-choices/opt-out HTTP/1.1\r\nHost: site.test\r\nContent-Length: 0\r\n\r\n";
    let mut client: Client = proxy.client();
    let answer = client.send(request).response("POST");
    assert_eq!(answer.head.one("clear-site-data"), Some("\"cache\""));
    assert_eq!(answer.head.one("cache-control"), Some("no-store"), "the confirmation is not kept either");
    let line = answer.head.all("set-cookie").into_iter().find(|line| line.starts_with("optgate=")).unwrap();
    format!("Cookie: {}\r\n", line.split(';').next().unwrap())
}

fn tag(page: &Response) -> String {
    page.head.one("etag").unwrap().to_owned()
}

fn is_clean(page: &Response, how: &str) {
    assert_eq!(page.status(), 200, "{how}");
    assert!(page.text().contains("<p>Hello</p>") && !page.text().contains(TRACKER), "{how}: {}", page.text());
}

#[test]
fn a_page_cached_before_the_opt_out_is_whole_and_clean_on_reload_and_on_navigation() {
    let origin = shop();
    let proxy = proxy().to(&origin).run();
    let before = proxy.get("/", DOCUMENT);
    assert!(before.text().contains(TRACKER));
    // Kept only to be asked about: else a browser would show it again without a word.
    assert_eq!(before.head.one("cache-control"), Some("private, no-cache"));
    assert!(before.head.one("last-modified").is_none(), "no date to ask with");
    let out = opt_out(&proxy);
    // What the browser holds: our tag of the other variant, the origin's own tag and date from before
    // Optgate was there, and combinations of them.
    let (ours, theirs) = (tag(&before), "\"v1\"");
    for copy in [
        format!("If-None-Match: {ours}\r\n"),
        format!("If-None-Match: {theirs}\r\n"),
        format!("If-None-Match: {ours}, {theirs}\r\n"),
        "If-None-Match: *\r\n".to_owned(),
        format!("If-Modified-Since: {DATE}\r\n"),
        format!("If-None-Match: {theirs}\r\nIf-Modified-Since: {DATE}\r\n"),
        format!("Range: bytes=0-9\r\nIf-Range: {theirs}\r\n"),
    ] {
        for way in ["", RELOAD] {
            for who in [out.as_str(), "Sec-GPC: 1\r\n"] {
                let page = proxy.get("/", &format!("{DOCUMENT}{way}{who}{copy}"));
                is_clean(&page, &format!("{way}{who}{copy}"));
                assert_ne!(tag(&page), ours);
            }
        }
    }
}

#[test]
fn the_clean_copy_is_confirmed_and_ends_with_the_opt_out() {
    let origin = shop();
    let proxy = proxy().to(&origin).run();
    let out = opt_out(&proxy);
    let clean = proxy.get("/", &format!("{DOCUMENT}{out}"));
    is_clean(&clean, "first");
    let copy = format!("If-None-Match: {}\r\n", tag(&clean));
    for way in ["", RELOAD] {
        let again = proxy.get("/", &format!("{DOCUMENT}{way}{out}{copy}"));
        assert_eq!((again.status(), tag(&again)), (304, tag(&clean)));
        assert_eq!(again.head.one("cache-control"), Some("private, no-cache"));
        let vary = again.head.all("vary").join(", ");
        assert!(vary.contains("Sec-GPC") && vary.contains("Cookie"), "{vary}");
    }
    assert_eq!(origin.seen(3)[2].one("if-none-match").as_deref(), Some("\"v1\""), "the origin's own tag");
    // Somebody else at this browser, or the choice undone: the clean copy is not theirs.
    let other = proxy.get("/", &format!("{DOCUMENT}{copy}"));
    assert_eq!(other.status(), 200);
    assert!(other.text().contains(TRACKER));
}

/// A framed page and a fragment have other bytes: a tag of one is no condition for the other.
#[test]
fn a_tag_of_another_kind_of_page_is_no_condition() {
    let origin = shop();
    let proxy = proxy().to(&origin).run();
    let gpc = "Sec-GPC: 1\r\n";
    let document = tag(&proxy.get("/", &format!("{DOCUMENT}{gpc}")));
    for dest in ["iframe", "empty"] {
        let fields = format!("Sec-Fetch-Dest: {dest}\r\n{gpc}If-None-Match: {document}\r\n");
        is_clean(&proxy.get("/", &fields), dest);
    }
}

/// Both variants say what they differ by, so that a cache that follows it never mixes them.
#[test]
fn both_variants_vary_by_signal_and_cookie() {
    let origin = shop();
    let proxy = proxy().to(&origin).run();
    for who in ["", "Sec-GPC: 1\r\n"] {
        let page = proxy.get("/", &format!("{DOCUMENT}{who}"));
        let vary = page.head.all("vary").join(", ");
        assert!(vary.contains("Sec-GPC") && vary.contains("Cookie"), "{who:?}: {vary}");
        assert_eq!(page.head.one("cache-control"), Some("private, no-cache"), "{who:?}");
    }
}
