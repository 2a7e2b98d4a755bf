//! A visitor's way through a site behind Optgate, from end to end.

use std::io::Read;

use super::support::client::Response;
use super::support::origin::{Origin, answer};
use super::support::proxy::{Builder, Proxy, proxy};

const PAGE: &str = "<!doctype html><html><head><meta charset=\"utf-8\"><title>Shop</title>\
     <script src=\"https://connect.facebook.net/en_US/fbevents.js\"></script></head>\
     <body><p>Hello</p><img src=\"https://www.facebook.com/tr?id=1\"><footer>Imprint</footer></body></html>";
const DOCUMENT: &str = "Accept: text/html\r\nSec-Fetch-Dest: document\r\n";
const LINK: &str = "Do Not Sell or Share My Personal Information";
const STATUS: &str = "Opt-Out Request Honored";

/// RFC 9111, 5.2.2.6: an origin's `no-transform` keeps a page as it is, unless its visitor has opted out or the
/// setting says otherwise; caches keep the variants apart all the same.
#[test]
fn no_transform_is_kept_for_those_who_have_not_opted_out() {
    for (setting, linked) in [("", false), ("no_transform = \"override\"\n", true)] {
        let fields = "Content-Type: text/html\r\nCache-Control: max-age=60, no-transform\r\n";
        let origin = Origin::start().answers("/", answer(fields, PAGE));
        let proxy = proxy().to(&origin).toml(setting).run();
        let plain = proxy.get("/", DOCUMENT);
        assert_eq!(plain.text() == PAGE, !linked, "{setting}");
        assert_eq!(plain.text().contains(LINK), linked, "{setting}");
        assert!(plain.head.all("vary").join(", ").contains("Sec-GPC"), "{:?}", plain.head);
        assert!(plain.head.all("cache-control").join(", ").contains("private"), "{:?}", plain.head);
        let out = proxy.get("/", &format!("{DOCUMENT}Sec-GPC: 1\r\n")).text();
        assert!(
            out.contains(LINK) && out.contains(STATUS) && !out.contains("src=\"https://www.facebook.com")
        );
        let kept = proxy.running().metrics().render();
        assert_eq!(
            kept.contains("optgate_rewrite_bypass_total{reason=\"no-transform\"} 1"),
            !linked,
            "{kept}"
        );
    }
}

/// A shop: a page with trackers, and tracker cookies beside a session.
fn shop() -> Origin {
    Origin::start()
        .answers(
            "/",
            answer(
                "Content-Type: text/html; charset=utf-8\r\nETag: \"v1\"\r\n\
                 Set-Cookie: session=1; Path=/\r\nSet-Cookie: _fbp=fb.1.2; Path=/\r\n\
                 Link: <https://connect.facebook.net>; rel=preconnect, </own.css>; rel=preload; as=style\r\n",
                PAGE,
            ),
        )
        .on("/gzip", |x| {
            let mut coder = flate2::read::GzEncoder::new(PAGE.as_bytes(), flate2::Compression::fast());
            let mut coded = Vec::new();
            coder.read_to_end(&mut coded)?;
            x.send(answer("Content-Type: text/html; charset=utf-8\r\nContent-Encoding: gzip\r\n", coded))
        })
        .on("/.well-known/gpc.json", |x| x.ok("application/json", b"the origin's own"))
}

fn page(proxy: &Proxy, path: &str, fields: &str) -> Response {
    let answer = proxy.get(path, &format!("{DOCUMENT}{fields}"));
    assert_eq!(answer.status(), 200, "{}", answer.text());
    answer
}

/// Fails unless the answer is the page of somebody who opted out.
fn assert_enforced(answer: &Response) {
    let text = answer.text();
    assert!(!text.contains("facebook"), "{text}");
    assert!(text.contains(LINK) && text.contains(STATUS) && text.contains("globalPrivacyControl"), "{text}");
}

/// Fails unless the answer is the page as it is, with the link alone.
fn assert_untouched(answer: &Response) {
    let text = answer.text();
    assert!(text.contains(LINK) && !text.contains(STATUS), "{text}");
    assert_eq!(
        text.replace(&text[text.find("<p class=\"ogc-line\"").unwrap()..text.find("</footer>").unwrap()], ""),
        PAGE
    );
}

/// The browser's cookies out of an answer.
fn cookies(answer: &Response) -> String {
    let pairs: Vec<_> =
        answer.head.all("set-cookie").iter().filter_map(|c| c.split(';').next().map(str::to_owned)).collect();
    format!("Cookie: {}\r\n", pairs.join("; "))
}

/// The signal is true from the very response that carries it: markup, cookies, headers.
#[test]
fn the_signal_is_true_from_the_first_response() {
    let origin = shop();
    let proxy = proxy().to(&origin).run();
    let answer = page(&proxy, "/", "Sec-GPC: 1\r\nCookie: session=1; _fbp=fb.1.2\r\n");
    assert_enforced(&answer);
    let set = answer.head.all("set-cookie").join("\n");
    assert!(set.contains("session=1") && set.contains("optgate=v1.out."), "{set}");
    assert!(!set.contains("_fbp=fb"), "{set}");
    let links = answer.head.all("link").join(", ");
    assert!(links.contains("own.css") && !links.contains("facebook"), "{links}");
    let seen = origin.first();
    assert_eq!(seen.one("cookie").as_deref(), Some("session=1"));
    assert_eq!(seen.one("sec-gpc").as_deref(), Some("1"));
}

/// Without a signal a visitor gets the page as it is, with the link, and no cookie of ours.
#[test]
fn without_a_signal_only_the_link_is_added() {
    let origin = shop();
    let proxy = proxy().to(&origin).run();
    let answer = page(&proxy, "/", "Sec-GPC: 0\r\n");
    assert_untouched(&answer);
    assert_eq!(answer.head.all("set-cookie"), ["session=1; Path=/", "_fbp=fb.1.2; Path=/"]);
    assert!(answer.head.all("link").join(", ").contains("facebook"));
}

/// One POST with nothing to fill in opts out; from then on the cookie alone does.
#[test]
fn one_post_opts_out_and_the_cookie_holds() {
    let origin = shop();
    let proxy = proxy().to(&origin).run();
    assert_untouched(&page(&proxy, "/", ""));
    let mut client = proxy.client();
    client.send("POST /privacy-choices/opt-out HTTP/1.1\r\nHost: site.test\r\nContent-Length: 0\r\n\r\n");
    let receipt = client.response("POST");
    assert_eq!(receipt.status(), 200, "{}", receipt.text());
    assert_eq!(receipt.head.one("clear-site-data"), Some("\"cache\""));
    let cookie = cookies(&receipt);
    assert!(cookie.contains("optgate=v1.out."), "{cookie}");
    assert_enforced(&page(&proxy, "/", &cookie));
    let seen = origin.seen(2);
    assert_eq!(seen[1].one("sec-gpc").as_deref(), Some("1"), "the origin hears of it");
    assert_eq!(seen[1].one("optgate-decision").as_deref(), Some("opted-out;basis=cookie"));
}

/// What the store holds survives a restart on the same folder, and an account's opt-out with it.
#[test]
fn an_accounts_opt_out_survives_a_restart() {
    let origin = shop();
    let account = "trusted_proxies = [\"127.0.0.0/8\"]\n[account]\nheader = \"x-account\"\n";
    let builder: Builder = proxy().to(&origin).toml(account);
    let running = optgate::app::start(builder.settings()).unwrap();
    let post = "POST /privacy-choices/opt-out HTTP/1.1\r\nHost: site.test\r\nX-Account: ann\r\nContent-Length: 0\r\n\r\n";
    let mut client = super::support::client::Client::connect(running.listen()[0]);
    client.send(post);
    assert_eq!(client.response("POST").status(), 200);
    drop(client);
    running.stop().unwrap();
    let proxy = builder.run();
    assert_enforced(&page(&proxy, "/", "X-Account: ann\r\n"));
    assert_untouched(&page(&proxy, "/", "X-Account: bob\r\n"));
}

/// `Observe`: nothing injected, set or recorded, and the reserved paths are the origin's.
#[test]
fn observe_changes_nothing_and_counts() {
    let origin = shop();
    let proxy = proxy().to(&origin).toml("mode = \"observe\"\n").run();
    let answer = page(&proxy, "/", "Sec-GPC: 1\r\nCookie: _fbp=fb.1.2\r\n");
    assert_eq!(answer.text(), PAGE);
    assert_eq!(answer.head.all("set-cookie"), ["session=1; Path=/", "_fbp=fb.1.2; Path=/"]);
    assert_eq!(proxy.get("/.well-known/gpc.json", "").text(), "the origin's own");
    assert_eq!(origin.first().one("cookie").as_deref(), Some("_fbp=fb.1.2"));
    assert_eq!(outcomes(&proxy), [0, 0, 0, 1]);
    let figures = proxy.running().metrics().render();
    let would = r#"optgate_elements_observed_total{vendor="meta-pixel",action="strip"}"#;
    assert!(
        figures.lines().any(|line| line.starts_with(would) && !line.ends_with(" 0")),
        "what enforcing would do"
    );
    assert!(!figures.contains("optgate_elements_neutralised_total{"), "nothing was neutralised");
}

/// Enforced, refused, passed, observed: of all bases together, each signal once.
fn outcomes(proxy: &Proxy) -> [u64; 4] {
    let mut sums = [0; 4];
    for (basis, seen, outcomes) in proxy.running().metrics().site("default").signal_counts() {
        assert_eq!(seen, outcomes.iter().sum::<u64>(), "{basis}: signals seen equal their outcomes");
        sums.iter_mut().zip(outcomes).for_each(|(sum, n)| *sum += n);
    }
    sums
}

/// Every HTML response with a signal has exactly one outcome.
#[test]
fn every_signal_on_a_page_has_one_outcome() {
    let origin = shop().answers(
        "/opaque",
        "HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Encoding: x-unknown\r\nContent-Length: 1\r\n\r\nx",
    );
    let proxy = proxy().to(&origin).run();
    for _ in 0..3 {
        assert_enforced(&page(&proxy, "/", "Sec-GPC: 1\r\n"));
    }
    assert_eq!(proxy.get("/opaque", &format!("{DOCUMENT}Sec-GPC: 1\r\n")).status(), 502);
    page(&proxy, "/", "");
    assert_eq!(outcomes(&proxy), [3, 1, 0, 0]);
}

/// A path rule may leave bodies alone, or only observe.
#[test]
fn a_path_rule_holds_below_its_path_only() {
    let origin = shop()
        .on("/app/x", |x| x.ok("text/html", PAGE.as_bytes()))
        .on("/apple", |x| x.ok("text/html", PAGE.as_bytes()));
    let toml = format!(
        "[[sites]]\nname = \"shop\"\nhosts = [\"site.test\"]\nupstream = {:?}\n\
         [[sites.paths]]\nprefix = \"/app\"\nmode = \"observe\"\n",
        origin.url()
    );
    let proxy = proxy().toml(&toml).run();
    assert_eq!(page(&proxy, "/app/x", "Sec-GPC: 1\r\n").text(), PAGE);
    assert_enforced(&page(&proxy, "/apple", "Sec-GPC: 1\r\n"));
}

/// A page that comes coded is enforced and goes out in a coding the visitor reads.
#[test]
fn a_coded_page_is_enforced_too() {
    let origin = shop();
    let proxy = proxy().to(&origin).run();
    let plain = page(&proxy, "/gzip", "Sec-GPC: 1\r\n");
    assert_eq!(plain.head.one("content-encoding"), None, "nobody asked for a coding");
    assert_enforced(&plain);
    let mut coded = page(&proxy, "/gzip", "Sec-GPC: 1\r\nAccept-Encoding: gzip\r\n");
    assert_eq!(coded.head.one("content-encoding"), Some("gzip"));
    let mut text = Vec::new();
    flate2::read::MultiGzDecoder::new(coded.body.as_slice()).read_to_end(&mut text).unwrap();
    coded.body = text;
    assert_enforced(&coded);
}

/// An old copy's validator never brings the other variant back.
#[test]
fn a_validator_of_the_other_variant_brings_no_304() {
    let origin = Origin::start().on("/", |x| {
        if x.request().one("if-none-match").is_some() {
            return x.send("HTTP/1.1 304 Not Modified\r\nETag: \"v1\"\r\n\r\n");
        }
        x.send(answer("Content-Type: text/html\r\nETag: \"v1\"\r\n", PAGE))
    });
    let proxy = proxy().to(&origin).run();
    let plain = page(&proxy, "/", "");
    let out = page(&proxy, "/", "Sec-GPC: 1\r\n");
    let (plain_tag, out_tag) = (plain.head.one("etag").unwrap(), out.head.one("etag").unwrap());
    assert_ne!(plain_tag, out_tag);
    for tag in [plain_tag, "\"v1\"", "W/\"v1\""] {
        assert_enforced(&page(&proxy, "/", &format!("Sec-GPC: 1\r\nIf-None-Match: {tag}\r\n")));
    }
    let same = proxy.get("/", &format!("{DOCUMENT}Sec-GPC: 1\r\nIf-None-Match: {out_tag}\r\n"));
    assert_eq!((same.status(), same.head.one("etag")), (304, Some(out_tag)));
}

/// The why-header answers those who may ask, and nobody else.
#[test]
fn only_trusted_addresses_may_ask_why() {
    let origin = shop();
    let asks = "Sec-GPC: 1\r\nOptgate-Explain: 1\r\n";
    let said =
        |answer: &Response| answer.head.fields.iter().filter(|(n, _)| n.starts_with("optgate-")).count();
    let trusted = proxy().to(&origin).run();
    assert!(said(&page(&trusted, "/", asks)) > 0);
    assert_eq!(said(&page(&trusted, "/", "Sec-GPC: 1\r\n")), 0, "nobody asked");
    let closed = proxy().to(&origin).toml("explain_to = [\"192.0.2.0/24\"]\n").run();
    assert_eq!(said(&page(&closed, "/", asks)), 0);
}

/// The kill switch takes effect without a restart, and lets go again.
#[test]
fn the_kill_switch_works_without_a_restart() {
    let origin = shop();
    let toml =
        format!("[[sites]]\nname = \"shop\"\nhosts = [\"site.test\"]\nupstream = {:?}\n", origin.url());
    let proxy = proxy().toml(&toml).run();
    let turn = |engaged: bool| {
        let body = format!("{{\"engaged\": {engaged}}}");
        let mut admin = super::support::client::Client::connect(proxy.running().admin());
        admin.send(format!(
            "POST /api/sites/shop/kill-switch HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n\
             Content-Length: {}\r\n\r\n{body}",
            body.len()
        ));
        let answer = admin.response("POST");
        assert_eq!(answer.status(), 200, "{}", answer.text());
    };
    assert_enforced(&page(&proxy, "/", "Sec-GPC: 1\r\n"));
    turn(true);
    assert_eq!(page(&proxy, "/", "Sec-GPC: 1\r\n").text(), PAGE);
    turn(false);
    assert_enforced(&page(&proxy, "/", "Sec-GPC: 1\r\n"));
}

/// Fragments of a page are cleaned and get nothing added.
#[test]
fn a_fragment_is_cleaned_and_gets_nothing_added() {
    const FRAGMENT: &str = "<li>one<img src=\"https://www.facebook.com/tr?id=1\"></li>";
    let origin = Origin::start().on("/part", |x| x.ok("text/html", FRAGMENT.as_bytes()));
    let proxy = proxy().to(&origin).run();
    for kind in ["Sec-Fetch-Dest: empty\r\n", "HX-Request: true\r\n", "Turbo-Frame: list\r\n"] {
        let out = proxy.get("/part", &format!("{kind}Sec-GPC: 1\r\n")).text();
        assert!(!out.contains("facebook"), "{out}");
        assert!(!out.contains(LINK) && !out.contains("<script"), "{out}");
        assert_eq!(proxy.get("/part", kind).text(), FRAGMENT);
    }
}
