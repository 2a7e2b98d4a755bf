//! Every way a response head starts a request or hands something on,
//! from a real origin to the visitor.

use super::support::client::Head;
use super::support::origin::{Origin, answer};
use super::support::proxy::{Proxy, proxy};

const GPC: &str = "Sec-GPC: 1\r\n";
const PAGE: &str = "Accept: text/html,application/xhtml+xml\r\n";
const T: &str = "https://static.criteo.net";

/// Field name, value sent by the origin, value an opted-out visitor gets (`None`: it goes).
fn table() -> Vec<(&'static str, String, Option<String>)> {
    let same = |name, value: &str| (name, value.to_owned(), Some(value.to_owned()));
    let gone = |name, value: &str| (name, value.replace("{T}", T), None);
    let less = |name, value: &str, left: &str| (name, value.replace("{T}", T), Some(left.to_owned()));
    // What is written anew has its members in order.
    let group = r#"{"endpoints":[{"url":"https://own.example/r"}],"group":"own","max_age":9}"#;
    vec![
        less("Link", "<{T}/a.js>; rel=preload; as=script, </b.js>; rel=preload", "</b.js>; rel=preload"),
        gone("Link", "<{T}>; rel=\"dns-prefetch\""),
        gone("Link", "</a.png>; rel=preload; as=image; imagesrcset=\"/a.png 1x, {T}/b.png 2x\""),
        gone("Link", "<\\\\STATIC.criteo.net\\a.js>; rel=modulepreload"),
        same("Link", "</next?u=https://static.criteo.net/>; rel=prefetch"),
        gone("Refresh", "3; URL='{T}/r'"),
        same("Refresh", "3; url=/next"),
        less("Reporting-Endpoints", "a=\"{T}/r\", b=\"/own\"", "b=\"/own\""),
        less(
            "Report-To",
            r#"{"group":"own","max_age":9,"endpoints":[{"url":"https://own.example/r"}]}, {"group":"t","endpoints":[{"url":"{T}/r"}]}"#,
            group,
        ),
        same("NEL", r#"{"report_to":"own","max_age":9}"#),
        less(
            "Content-Security-Policy-Report-Only",
            "img-src *; report-uri {T}/r /own",
            "img-src *; report-uri /own",
        ),
        gone("Speculation-Rules", "\"{T}/rules.json\""),
        same("Speculation-Rules", "\"/rules.json\""),
        gone("SourceMap", "{T}/a.map"),
        gone("X-SourceMap", "{T}/a.map"),
        gone("Observe-Browsing-Topics", "?1"),
        gone("Attribution-Reporting-Register-Source", "{}"),
        gone("Attribution-Reporting-Register-Trigger", "{}"),
        gone("Attribution-Reporting-Info", "x"),
        gone("Shared-Storage-Write", "set;key=\"a\";value=\"b\""),
        gone("Shared-Storage-Cross-Origin-Worklet-Allowed", "?1"),
        gone("Ad-Auction-Signals", "[]"),
        gone("X-Allow-FLEDGE", "true"),
        less("Supports-Loading-Mode", "fenced-frame, credentialed-prerender", "credentialed-prerender"),
        gone("Use-As-Dictionary", "match=\"/*\""),
        gone("Set-Cookie", "_fbp=fb.1.2.3; Path=/"),
        same("Set-Login", "logged-in"),
        same("Accept-CH", "DPR"),
        same("Critical-CH", "DPR"),
        same("Cross-Origin-Opener-Policy-Report-Only", "same-origin; report-to=\"own\""),
        less("Referrer-Policy", "unsafe-url", "strict-origin-when-cross-origin"),
        same("Referrer-Policy", "no-referrer"),
    ]
}

fn serve(field: &str, value: &str) -> Proxy {
    let body = "<html><body>x</body></html>";
    let head = format!("Content-Type: text/html\r\nContent-Length: {}\r\n{field}: {value}", body.len());
    proxy().to(&Origin::start().answers("/", format!("HTTP/1.1 200 OK\r\n{head}\r\n\r\n{body}"))).run()
}

/// One by one; without the signal each arrives as it was sent.
#[test]
fn every_header_that_leads_to_a_tracker_goes_and_its_neighbours_stay() {
    for (field, value, expected) in table() {
        let proxy = serve(field, &value);
        let seen = |answer: &super::support::client::Response| {
            let all = answer.head.all(field);
            all.iter().filter(|v| !v.starts_with("optgate=") && !v.contains("Max-Age=0")).count() > 0
        };
        let plain = proxy.get("/", PAGE);
        if field != "Use-As-Dictionary" {
            assert!(plain.head.all(field).iter().any(|v| *v == value), "{field}: {value} without the signal");
        }
        let answer = proxy.get("/", &format!("{PAGE}{GPC}"));
        assert_eq!(answer.status(), 200);
        match expected {
            Some(expected) => assert_eq!(answer.head.all(field), [expected.as_str()], "{field}: {value}"),
            None => assert!(!seen(&answer), "{field}: {value} became {:?}", answer.head.all(field)),
        }
    }
}

/// The policies that an opted-out document always has.
#[test]
fn an_opted_out_document_denies_advertising_and_bounds_its_referrer() {
    let value = "ch-ua-model=(self \"https://static.criteo.net\"), camera=()";
    let proxy = serve("Permissions-Policy", value);
    let answer = proxy.get("/", &format!("{PAGE}{GPC}"));
    let policy = answer.head.all("permissions-policy").join(" | ");
    assert!(policy.starts_with("ch-ua-model=(self ), camera=(), browsing-topics=()"), "{policy}");
    for feature in [
        "attribution-reporting",
        "shared-storage",
        "run-ad-auction",
        "join-ad-interest-group",
        "interest-cohort",
    ] {
        assert!(policy.contains(&format!("{feature}=()")), "{feature}: {policy}");
    }
    assert_eq!(answer.head.all("referrer-policy"), ["strict-origin-when-cross-origin"]);
    let plain = proxy.get("/", PAGE);
    assert_eq!(
        (plain.head.all("permissions-policy"), plain.head.all("referrer-policy")),
        (vec![value], vec![])
    );
}

/// What a page loads is not led on to one; a visitor's own
/// step to another page is, but not what a browser fetches ahead of it. A redirect that lost its address is kept by
/// nobody, or the step itself would find it.
#[test]
fn a_file_of_the_page_is_not_led_on_to_a_tracker() {
    let origin = Origin::start().answers(
        "/pixel.gif",
        format!(
            "HTTP/1.1 302 Found\r\nLocation: {T}/sync?x=1\r\nCache-Control: max-age=600\r\nSurrogate-Control: max-age=9\r\n\
             Content-Length: 5\r\n\r\nmoved"
        ),
    );
    let origin =
        origin.answers("/own.gif", "HTTP/1.1 302 Found\r\nLocation: /b.gif\r\nContent-Length: 0\r\n\r\n");
    let proxy = proxy().to(&origin).run();
    let location = format!("{T}/sync?x=1");
    for (fields, led) in [
        (format!("Sec-Fetch-Dest: image\r\n{GPC}"), false),
        (format!("Sec-Fetch-Dest: script\r\n{GPC}"), false),
        (format!("Sec-Fetch-Dest: empty\r\n{GPC}"), false),
        (format!("Sec-Fetch-Dest: iframe\r\n{GPC}"), false),
        (format!("Accept: image/avif,*/*\r\n{GPC}"), false),
        (format!("Sec-Fetch-Dest: document\r\nSec-Purpose: prefetch\r\n{GPC}"), false),
        (format!("{PAGE}Sec-Purpose: prefetch;prerender\r\n{GPC}"), false),
        (format!("Sec-Fetch-Dest: document\r\n{GPC}"), true),
        (format!("{PAGE}{GPC}"), true),
        ("Sec-Fetch-Dest: image\r\n".to_owned(), true),
    ] {
        let answer = proxy.get("/pixel.gif", &fields);
        let expected = if led { vec![location.as_str()] } else { vec![] };
        assert_eq!((answer.status(), answer.head.all("location")), (302, expected), "{fields}");
        let kept = !answer.head.all("cache-control").concat().contains("no-store");
        assert_eq!((kept, !answer.head.all("surrogate-control").is_empty()), (led, led), "{fields}");
        assert_eq!(answer.text(), "moved");
    }
    let own = proxy.get("/own.gif", &format!("Sec-Fetch-Dest: image\r\n{GPC}"));
    assert_eq!(own.head.all("location"), ["/b.gif"]);
}

/// RFC 8297: a browser follows a hint before the page is there.
#[test]
fn early_hints_never_carry_a_stripped_host() {
    let page = "<html><body>x</body></html>";
    let hint = format!("HTTP/1.1 103 Early Hints\r\nLink: <{T}/a.js>; rel=preload\r\n\r\n");
    let last = answer(&format!("Content-Type: text/html\r\nLink: <{T}/a.js>; rel=preload\r\n"), page);
    let interim = format!("{hint}HTTP/1.1 100 Continue\r\n\r\n{hint}");
    let origin = Origin::start().answers("/", [interim.into_bytes(), last].concat());
    let proxy = proxy().to(&origin).run();
    for (signal, hinted) in [(GPC, false), ("", true)] {
        let mut client = proxy.client();
        client.send(format!("GET / HTTP/1.1\r\nHost: site.test\r\n{PAGE}{signal}\r\n"));
        let mut head = Head { status: 0, fields: Vec::new() };
        for status in [103, 100, 103, 200] {
            head = client.head();
            assert_eq!(head.status, status);
            assert_eq!(!head.all("link").is_empty(), hinted && status != 100, "{status}");
        }
        let body = client.body(&head, "GET").0;
        assert!(String::from_utf8_lossy(&body).starts_with("<html>"), "and the page is whole");
    }
}

/// RFC 7838: an alternative of the origin's is a way around the proxy, for whoever opts out later too. What browsers know
/// already they forget; a front's own alternatives are its own matter.
#[test]
fn a_way_around_the_proxy_is_never_offered_and_forgotten_where_it_was() {
    let offer = "h3=\":8443\"; ma=2592000";
    let origin = Origin::start().answers("/", answer(&format!("Alt-Svc: {offer}\r\n"), "text"));
    let direct = proxy().to(&origin).run();
    let fronted = proxy().to(&origin).toml("trusted_proxies = [\"127.0.0.1\"]\n").run();
    let observing = proxy().to(&origin).toml("mode = \"observe\"\n").run();
    for signal in ["", GPC] {
        for (proxy, offered) in [(&direct, Some("clear")), (&fronted, None), (&observing, Some(offer))] {
            assert_eq!(proxy.get("/", signal).head.one("alt-svc"), offered, "{signal:?}");
        }
    }
}
