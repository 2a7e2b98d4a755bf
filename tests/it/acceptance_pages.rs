//! What reaches the visitor and the origin for an opted-out page, through a running proxy.

use base64_of_sha256::csp_source;
use optgate::enforce::html::negotiate::Coding;

use super::acceptance_choices::{PAGE, PIXEL, post, shop};
use super::support::client::Response;
use super::support::coding::{decoded, encoded};
use super::support::origin::{Exchange, Origin, answer};
use super::support::proxy::proxy;

const GPC: &str = "Sec-GPC: 1\r\n";
const HONORED: &str = "Opt-Out Request Honored";

/// What a policy must hold to let an inline script run.
mod base64_of_sha256 {
    use sha2::{Digest as _, Sha256};

    pub fn csp_source(script: &str) -> String {
        format!("'sha256-{}'", data_encoding::BASE64.encode(&Sha256::digest(script)))
    }
}

fn is_enforced(answer: &Response) -> bool {
    answer.status() == 200 && answer.text().contains(HONORED) && !answer.text().contains(PIXEL)
}

/// A page with a tag, answered 304 to it: by the tag or by any date.
fn tagged(x: &mut Exchange<'_>) -> std::io::Result<()> {
    let knows = x.request().one("if-none-match").is_some_and(|tags| tags.contains("\"abc\""));
    if knows || x.request().one("if-modified-since").is_some() {
        return x.send("HTTP/1.1 304 Not Modified\r\nETag: \"abc\"\r\n\r\n");
    }
    let head = "Content-Type: text/html\r\nETag: \"abc\"\r\nCache-Control: public, max-age=600\r\n\
                Last-Modified: Thu, 01 Jan 2026 00:00:00 GMT";
    x.send(format!("HTTP/1.1 200 OK\r\n{head}\r\nContent-Length: {}\r\n\r\n", PAGE.len()))?;
    x.send(PAGE)
}

/// What a browser kept from before the opt-out must never be confirmed.
#[test]
fn a_tag_or_date_from_before_the_opt_out_gets_the_whole_page() {
    let proxy = proxy().to(&Origin::start().on("/", tagged)).run();
    let before = proxy.get("/", "");
    let tag = before.head.one("etag").unwrap().to_owned();
    let asked = |tag: &str, fields: &str| proxy.get("/", &format!("If-None-Match: {tag}\r\n{fields}"));
    for condition in [tag.as_str(), "\"abc\"", "W/\"abc\"", "*"] {
        assert!(is_enforced(&asked(condition, GPC)), "{condition}");
    }
    let date = format!("If-Modified-Since: Thu, 01 Jan 2026 00:00:00 GMT\r\n{GPC}");
    assert!(is_enforced(&proxy.get("/", &date)));
    assert_eq!(asked(&tag, "").status(), 304, "the same variant is confirmed");
    let after = proxy.get("/", GPC);
    let own = after.head.one("etag").unwrap();
    assert_ne!(own, tag);
    let confirmed = asked(own, GPC);
    assert_eq!(confirmed.status(), 304);
    assert_eq!(confirmed.head.one("etag"), Some(own));
    assert_eq!(asked(own, "").status(), 200, "nor the other way about");
    for answer in [&before, &after, &confirmed] {
        assert_eq!(answer.head.one("cache-control"), Some("private, no-cache"));
        let vary = answer.head.all("vary").join(", ");
        assert!(vary.contains("Sec-GPC") && vary.contains("Cookie"), "{vary}");
    }
}

/// Over plain http a browser does not say what it fetches: images must stay cached all the same.
#[test]
fn a_file_that_is_no_page_is_still_confirmed_over_plain_http() {
    let proxy = proxy().to(&Origin::start().on("/logo.png", tagged)).run();
    for condition in ["If-None-Match: \"abc\"\r\n", "If-Modified-Since: Thu, 01 Jan 2026 00:00:00 GMT\r\n"] {
        let answer = proxy.get("/logo.png", condition);
        assert_eq!((answer.status(), answer.head.one("etag")), (304, Some("\"abc\"")), "{condition}");
        assert_eq!(proxy.get("/logo.png", &format!("{condition}{GPC}")).status(), 200, "{condition}");
        let page = format!("{condition}Accept: text/html,application/xhtml+xml\r\n");
        assert_eq!(proxy.get("/logo.png", &page).status(), 200, "{condition}: a page from before us");
    }
}

/// A part of a page cannot be rewritten: the whole one is asked for.
#[test]
fn a_range_of_a_page_becomes_the_whole_page_for_an_opted_out_visitor() {
    let origin = Origin::start().on("/", |x| match x.request().one("range") {
        None => x.ok("text/html", PAGE),
        Some(_) => x.send(format!(
            "HTTP/1.1 206 Partial Content\r\nContent-Type: text/html\r\nContent-Range: bytes 0-9/{}\r\n\
             Content-Length: 10\r\n\r\n<!doctype ",
            PAGE.len()
        )),
    });
    let media = "HTTP/1.1 206 Partial Content\r\nContent-Type: video/mp4\r\nContent-Range: bytes 0-9/99\r\n\
                 Content-Length: 10\r\n\r\n0123456789";
    let origin = origin.answers("/film.mp4", media);
    let proxy = proxy().to(&origin).run();
    for accept in ["", "Accept: text/html,application/xhtml+xml\r\n"] {
        assert!(is_enforced(&proxy.get("/", &format!("Range: bytes=0-9\r\n{accept}{GPC}"))), "{accept}");
    }
    // Over plain http a browser does not say what it fetches; players need their parts.
    assert_eq!(proxy.get("/film.mp4", &format!("Range: bytes=0-9\r\n{GPC}")).status(), 206);
    assert!(origin.seen(4)[3].one("range").is_some());
    assert_eq!(proxy.get("/", "Range: bytes=0-9\r\n").status(), 206);
}

fn text_of(coding: Coding, bytes: &[u8]) -> String {
    String::from_utf8(decoded(coding, bytes).unwrap()).unwrap()
}

/// Bodies are decoded, and encoded anew to what the client accepts.
#[test]
fn a_coded_page_is_rewritten_and_comes_in_a_coding_the_client_accepts() {
    let codings = [
        ("gzip", Coding::Gzip),
        ("br", Coding::Brotli),
        ("zstd", Coding::Zstd),
        ("deflate", Coding::Deflate),
        ("identity", Coding::Identity),
    ];
    let origin = codings.iter().fold(Origin::start(), |origin, (name, coding)| {
        let (body, name) = (encoded(*coding, PAGE), *name);
        origin.on(&format!("/{name}"), move |x| {
            let length = body.len();
            x.send(format!(
                "HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Encoding: {name}\r\n\
                 Content-Length: {length}\r\n\r\n"
            ))?;
            x.send(&body)
        })
    });
    let proxy = proxy().to(&origin).run();
    for (from, _) in codings {
        for (to, coding) in codings {
            let answer = proxy.get(&format!("/{from}"), &format!("Accept-Encoding: {to}\r\n{GPC}"));
            let named = answer.head.one("content-encoding").unwrap_or("identity");
            // What came without a coding may stay so: every client takes that.
            assert!(named == to || (from, named) == ("identity", "identity"), "from {from}: {named}");
            let text = text_of(if named == to { coding } else { Coding::Identity }, &answer.body);
            assert!(text.contains(HONORED) && !text.contains(PIXEL), "{from} to {to}: {text}");
        }
        let bare = proxy.get(&format!("/{from}"), GPC);
        assert_eq!(bare.head.one("content-encoding"), None);
        assert!(is_enforced(&bare), "{from} for a client that names no coding");
    }
}

const STRANGE: &str = "HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Encoding: x-own\r\n\
                       Content-Length: 3\r\n\r\n???";

/// Asked again without a coding; then a 502, never the page as it came.
#[test]
fn a_coding_that_cannot_be_read_is_asked_about_again_and_then_refused() {
    let origin = Origin::start().answers("/never", STRANGE).on("/asked", |x| {
        match x.request().one("accept-encoding").as_deref() {
            Some("identity") => x.ok("text/html", PAGE),
            _ => x.send(STRANGE),
        }
    });
    let proxy = proxy().to(&origin).run();
    let gzip = "Accept-Encoding: gzip\r\n";
    let asked = proxy.get("/asked", &format!("{gzip}{GPC}"));
    assert_eq!(asked.head.one("content-encoding"), Some("gzip"));
    assert!(text_of(Coding::Gzip, &asked.body).contains(HONORED));
    let refused = proxy.get("/never", &format!("{gzip}{GPC}"));
    assert_eq!(refused.status(), 502);
    assert!(!refused.text().contains("???"));
    assert_eq!(origin.heads(), 4, "each was asked for twice");
    let passed = proxy.get("/never", gzip);
    assert_eq!((passed.status(), passed.text().as_str()), (200, "???"));
    assert_eq!(post(proxy.addr(), "/never", GPC, "").status(), 502, "a POST is not sent twice");
    assert_eq!(origin.heads(), 6);
}

/// CSP3: the guard runs when every policy admits its nonce or its very hash; beside `'unsafe-inline'` a hash would
/// switch the page's own scripts off.
#[test]
fn the_guard_runs_under_the_policies_of_a_page_or_is_not_there() {
    let cases = [
        ("script-src 'nonce-r4nd' 'strict-dynamic'", true, false),
        ("script-src 'sha256-abc='", true, true),
        ("default-src 'self'", true, true),
        ("script-src 'self' 'unsafe-inline'", true, false),
        ("default-src 'none'", false, false),
        ("script-src 'none'; img-src *", false, false),
    ];
    for (policy, runs, hashed) in cases {
        let fields = format!("Content-Type: text/html\r\nContent-Security-Policy: {policy}\r\n");
        let proxy = proxy().to(&Origin::start().answers("/", answer(&fields, PAGE))).run();
        let answer = proxy.get("/", GPC);
        assert!(is_enforced(&answer), "{policy}");
        let text = answer.text();
        let element = text.split_once("<script data-optgate=\"guard\"").map(|(_, rest)| rest);
        let (tag, script) = element
            .and_then(|rest| rest.split("</script>").next()?.split_once('>'))
            .map_or((None, None), |(tag, script)| (Some(tag), Some(script)));
        // The page's own nonce admits it without another word in the policy.
        assert_eq!(
            tag.is_some_and(|tag| tag.contains(" nonce=\"r4nd\"")),
            policy.contains("r4nd"),
            "{policy}"
        );
        assert_eq!(script.is_some(), runs, "{policy}");
        let sent = answer.head.one("content-security-policy").unwrap();
        assert!(sent.starts_with(policy.split(';').next().unwrap()), "{sent}");
        let admitted = script.is_some_and(|script| sent.contains(&csp_source(script)));
        assert_eq!(admitted, hashed, "{policy}: {sent}");
    }
}

/// Server-side tagging passes through this proxy: for an opted-out visitor it ends here.
#[test]
fn a_collector_behind_the_site_is_answered_here_and_never_reached() {
    let origin = Origin::start();
    let proxy = proxy().to(&origin).run();
    let collect = "/g/collect?v=2&tid=G-ABC123";
    assert_eq!(proxy.get(collect, GPC).status(), 204);
    assert_eq!(post(proxy.addr(), collect, GPC, "").status(), 204);
    let script =
        proxy.get("/cdp/analytics.js/v1/KEY/analytics.min.js", &format!("Sec-Fetch-Dest: script\r\n{GPC}"));
    assert_eq!(
        (script.status(), script.head.one("content-type")),
        (200, Some("text/javascript; charset=utf-8"))
    );
    let pixel = proxy.get("/m/tr/?id=1&ev=PageView&dl=x", &format!("Sec-Fetch-Dest: image\r\n{GPC}"));
    assert_eq!((pixel.status(), &pixel.body[..6]), (200, &b"GIF89a"[..]));
    assert_eq!(origin.heads(), 0);
    assert_eq!(proxy.get(collect, "").text(), "hello");
}

/// The setting `collectors`, at the top for every site and on a site for itself.
#[test]
fn a_collector_that_the_settings_name_is_answered_here() {
    let origin = Origin::start();
    let proxy = proxy().to(&origin).toml("collectors = [\"/ingest\", \"/x*/beacon\"]\n").run();
    for path in ["/ingest/e", "/x1/beacon?a=1"] {
        assert_eq!(proxy.get(path, GPC).status(), 204, "{path}");
    }
    assert_eq!(origin.heads(), 0);
    assert_eq!(proxy.get("/ingest/e", "").text(), "hello");
    assert_eq!(proxy.get("/ingestion", GPC).text(), "hello");
}

/// The setting `not_collectors`: a path of the site's own that has a collector's shape. What `collectors` names goes all
/// the same, and so does everybody else's.
#[test]
fn a_path_that_only_looks_like_a_collector_reaches_the_site() {
    let origin = Origin::start();
    let settings = "not_collectors = [\"/api/v2/pixel\", \"/own/in\"]\ncollectors = [\"/own\"]\n";
    let proxy = proxy().to(&origin).toml(settings).run();
    for own in ["/api/v2/pixel", "/api/v2//pixel/batch"] {
        assert_eq!(post(proxy.addr(), own, GPC, "").text(), "hello", "{own}");
    }
    for answered in ["/x/api/v2/pixel", "/own/in"] {
        assert_eq!(post(proxy.addr(), answered, GPC, "").status(), 204, "{answered}");
    }
    assert_eq!(proxy.get("/g/collect?v=2&tid=G-1", GPC).status(), 204);
}

/// `strip_link_params`: known identifiers go, every other byte stays.
#[test]
fn click_identifiers_go_only_where_the_setting_says_so_and_somebody_opted_out() {
    let target = "/?a=1&fbclid=x&gclid=y&b=%2f";
    for (setting, fields, want) in [(true, GPC, "/?a=1&b=%2f"), (true, "", target), (false, GPC, target)] {
        let origin = Origin::start();
        let proxy = proxy().to(&origin).toml(&format!("strip_link_params = {setting}\n")).run();
        proxy.get(target, &format!("Referer: https://shop.example{target}\r\n{fields}"));
        assert_eq!(origin.first().line(), format!("GET {want} HTTP/1.1"));
        let referer = origin.first().one("referer").map(|referer| referer.to_owned());
        assert_eq!(referer, Some(format!("https://shop.example{want}")));
    }
}

/// Tracker cookies in both directions, and `Link` entries.
#[test]
fn tracker_cookies_and_links_are_taken_out_of_both_heads() {
    let head = "Content-Type: text/html\r\nSet-Cookie: _fbp=fb.1; Path=/\r\nSet-Cookie: session=1\r\n\
                Link: <https://connect.facebook.net/en_US/fbevents.js>; rel=preload; as=script, </a.css>; rel=preload";
    let whole = format!("HTTP/1.1 200 OK\r\n{head}\r\nContent-Length: 0\r\n\r\n");
    let origin = Origin::start().answers("/", whole);
    let proxy = proxy().to(&origin).run();
    let cookies = "Cookie: a=1; _fbp=fb.1; session=2; optgate=v1.out\r\n";
    let answer = proxy.get("/", &format!("{cookies}{GPC}"));
    assert_eq!(origin.first().one("cookie").as_deref(), Some("a=1; session=2"));
    assert_eq!(answer.head.all("link"), ["</a.css>; rel=preload"]);
    let lines = answer.head.all("set-cookie");
    assert!(lines.iter().any(|l| l.starts_with("_fbp=; ") && l.contains("Max-Age=0")), "{lines:?}");
    assert!(!lines.iter().any(|l| l.contains("fb.1")), "{lines:?}");
    assert!(lines.contains(&"session=1"), "{lines:?}");
    let other = proxy.get("/", "Cookie: _fbp=fb.1\r\n");
    assert_eq!(origin.seen(2)[1].one("cookie").as_deref(), Some("_fbp=fb.1"));
    assert!(other.head.all("set-cookie").contains(&"_fbp=fb.1; Path=/"));
    assert!(other.head.one("link").unwrap().contains("connect.facebook.net"));
}

/// A head that switches protocols is a head like any other.
#[test]
fn a_tunnels_head_sets_no_tracker_cookie() {
    let switch = "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\
                  Set-Cookie: _fbp=fb.1\r\nSet-Cookie: session=1\r\n\r\n";
    let origin = Origin::start().answers("/", switch);
    let proxy = proxy().to(&origin).run();
    let mut client = proxy.client();
    client.send(format!(
        "GET / HTTP/1.1\r\nHost: site.test\r\nConnection: upgrade\r\nUpgrade: websocket\r\n{GPC}\r\n"
    ));
    let head = client.head();
    assert_eq!(head.status, 101);
    assert_eq!(head.all("set-cookie"), ["session=1"]);
}

/// Per-path rules for mode, rewriting and vendors.
#[test]
fn a_path_may_have_its_own_mode_rewriting_and_vendors() {
    let origin = shop(&["/", "/watched", "/watched/x", "/watchedness", "/raw", "/kept"]);
    let upstream = origin.url();
    let proxy = proxy()
        .toml(&format!(
            "[[sites]]\nname = \"shop\"\nupstream = {upstream:?}\n\
             [[sites.paths]]\nprefix = \"/watched\"\nmode = \"observe\"\n\
             [[sites.paths]]\nprefix = \"/raw\"\nrewrite = false\n\
             [[sites.paths]]\nprefix = \"/kept\"\nvendors = {{ meta-pixel = \"allow\" }}\n\
             [contracts.meta-pixel]\nentity = \"Meta Platforms\"\nreference = \"r\"\ndate = \"2026-01-31\"\n"
        ))
        .run();
    for path in ["/", "/watchedness"] {
        assert!(is_enforced(&proxy.get(path, GPC)), "{path}");
    }
    for path in ["/watched", "/watched/x"] {
        let watched = proxy.get(path, GPC);
        assert_eq!((watched.body.as_slice(), watched.head.all("set-cookie").len()), (PAGE, 0), "{path}");
    }
    let raw = proxy.get("/raw", GPC);
    assert_eq!(raw.body, PAGE);
    assert!(raw.head.one("set-cookie").is_some_and(|line| line.starts_with("optgate=v1.out.")));
    let kept = proxy.get("/kept", GPC).text();
    assert!(kept.contains(PIXEL) && kept.contains(HONORED), "{kept}");
    let told: Vec<_> = origin.seen(6).iter().map(|r| r.one("optgate-decision")).collect();
    assert_eq!(told.iter().filter(|decision| decision.is_none()).count(), 2, "observed paths are not told");
}
