//! Faults and hostile pages: an opted-out visitor gets nothing that was not read, everybody else
//! what the origin sent; and each is counted by its reason.

use std::io;
use std::sync::{Arc, Mutex, mpsc};
use std::thread;

use optgate::enforce::html::coding::{Bounds, CodingError, Decoder};
use optgate::enforce::html::negotiate::Coding;

use super::support::DEADLINE;
use super::support::binary::Binary;
use super::support::client::{Client, Response};
use super::support::coding::encoded;
use super::support::origin::{Exchange, Origin};
use super::support::proxy::{Proxy, figure, proxy};

/// What a browser sends for a page over plain http: no `Sec-Fetch-Dest`.
const PAGE: &str = "Accept: text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8\r\nAccept-Encoding: gzip, br, zstd\r\n";
const OUT: &str = "Sec-GPC: 1\r\n";
/// As a browser asks, and without codings.
const PLAIN: &str = "Accept: text/html,application/xhtml+xml\r\n";
/// Nobody opted out may see this.
const TRACKER: &str = "<script src=\"https://static.criteo.net/a.js\"></script>";

/// The text of an answer, its coding taken off.
fn decoded(response: &Response) -> String {
    let coding = Coding::of(response.head.one("content-encoding").unwrap_or_default()).unwrap();
    let (mut decoder, mut out) = (Decoder::new(coding, Bounds::ratio(1000)).unwrap(), Vec::new());
    let mut keep = |piece: &[u8]| -> Result<(), CodingError> {
        out.extend_from_slice(piece);
        Ok(())
    };
    decoder.write(&response.body, &mut keep).unwrap();
    String::from_utf8_lossy(&out).into_owned()
}

/// An answer with a length.
fn answer(status: u16, fields: &str, body: &[u8]) -> Vec<u8> {
    let head = format!("HTTP/1.1 {status} X\r\n{fields}Content-Length: {}\r\n\r\n", body.len());
    [head.as_bytes(), body].concat()
}

/// One page for both visitors: opted out, and not.
fn both(proxy: &Proxy, path: &str) -> (Response, Response) {
    (proxy.get(path, &format!("{OUT}{PAGE}")), proxy.get(path, PAGE))
}

/// A counter's value; 0 when it was never counted.
fn metric(proxy: &Proxy, series: &str) -> u64 {
    figure(&proxy.running().metrics().render(), series).unwrap_or(0)
}

/// Waits until a body's end was counted: its connection may be closed a moment before.
fn await_bypass(proxy: &Proxy, reason: &str, count: u64) {
    let series = format!("optgate_rewrite_bypass_total{{reason=\"{reason}\"}}");
    let start = std::time::Instant::now();
    while metric(proxy, &series) < count {
        assert!(start.elapsed() < DEADLINE, "{series} is {}", metric(proxy, &series));
        thread::yield_now();
    }
    assert_eq!(metric(proxy, &series), count, "{series}");
}

fn outcome(proxy: &Proxy, outcome: &str) -> u64 {
    let series =
        format!("optgate_optout_decisions_total{{site=\"site\",signal=\"gpc\",outcome=\"{outcome}\"}}");
    metric(proxy, &series)
}

/// A site called `site`.
fn site(origin: &Origin) -> super::support::proxy::Builder {
    let sites =
        format!("[[sites]]\nname = \"site\"\nhosts = [\"site.test\"]\nupstream = {:?}\n", origin.url());
    proxy().toml(&sites)
}

/// Asked again without coding, range and conditions; once.
#[test]
fn a_page_in_a_coding_nobody_reads_is_asked_for_again_and_then_refused() {
    let page = format!("<!doctype html><html><body>{TRACKER}<p>x</p></body></html>");
    let wide = || {
        let mut coded = Vec::new();
        let mut writer = brotli::CompressorWriter::new(&mut coded, 4096, 5, 24);
        io::Write::write_all(&mut writer, page.as_bytes()).unwrap();
        drop(writer);
        coded
    };
    let html = "Content-Type: text/html\r\n";
    let faults = [
        ("/stacked", "gzip, br", encoded(Coding::Gzip, page.as_bytes()), "coding-unknown"),
        ("/unknown", "compress", page.clone().into_bytes(), "coding-unknown"),
        ("/window", "br", wide(), "coding-window"),
        ("/lie", "gzip", page.clone().into_bytes(), "coding-corrupt"),
    ];
    let mut origin = Origin::start();
    for (path, coding, body, _) in &faults {
        let coded = answer(200, &format!("{html}Content-Encoding: {coding}\r\n"), body);
        let plain = answer(200, html, page.as_bytes());
        let never = coded.clone();
        let asked_again =
            |x: &Exchange<'_>| x.request().one("accept-encoding").as_deref() == Some("identity");
        origin = origin
            .on(path, move |x| if asked_again(x) { x.send(&plain) } else { x.send(&coded) })
            .on(&format!("{path}/always"), move |x| x.send(&never));
    }
    let proxy = site(&origin).run();
    for (path, _, body, reason) in &faults {
        let (out, other) = both(&proxy, path);
        assert_eq!(out.status(), 200, "{path}");
        let text = decoded(&out);
        assert!(!text.contains("criteo.net") && text.contains("Opt-Out Request Honored"), "{path}: {text}");
        assert!(other.body == *body, "{path}: as it came");
        let seen = proxy.get(
            &format!("{path}/always"),
            &format!("{OUT}{PAGE}Range: bytes=0-\r\nIf-None-Match: \"x\"\r\n"),
        );
        assert_eq!(seen.status(), 502, "{path}");
        assert!(
            metric(&proxy, &format!("optgate_rewrite_bypass_total{{reason=\"{reason}\"}}")) > 0,
            "{path}"
        );
    }
    let seen = origin.seen(5 * faults.len());
    assert_eq!(seen.len(), 5 * faults.len(), "asked again once each");
    let second: Vec<_> =
        seen.iter().filter(|r| r.one("accept-encoding").as_deref() == Some("identity")).collect();
    assert_eq!(second.len(), 2 * faults.len());
    for request in second {
        assert!(request.one("range").is_none() && request.one("if-none-match").is_none());
    }
    assert_eq!(outcome(&proxy, "refused"), faults.len() as u64);
    assert_eq!(outcome(&proxy, "enforced"), faults.len() as u64);
}

/// RFC 9110, 9.2.2: a POST may not be sent twice; its answer is a 502.
#[test]
fn a_post_whose_answer_cannot_be_read_is_never_sent_again() {
    let origin = Origin::start().on("/", |x| {
        x.body()?;
        x.send(answer(200, "Content-Type: text/html\r\nContent-Encoding: compress\r\n", b"opaque"))
    });
    let proxy = site(&origin).run();
    for (signal, status) in [(OUT, 502), ("", 200)] {
        let mut client = proxy.client();
        client.send(format!(
            "POST / HTTP/1.1\r\nHost: site.test\r\n{signal}{PAGE}Content-Length: 3\r\n\r\na=b"
        ));
        assert_eq!(client.response("POST").status(), status);
    }
    assert_eq!(origin.seen(2).len(), 2);
    assert_eq!(origin.heads(), 2);
}

/// `limits.decode_ratio`, `limits.decoded_page`: a bomb is stopped; nobody else is stopped by it.
#[test]
fn a_bomb_is_refused_or_stopped_and_passes_for_other_visitors() {
    let bomb = [b"<!doctype html><html><body>".to_vec(), vec![b' '; 4 << 20], TRACKER.into()].concat();
    let mut origin = Origin::start();
    for (coding, name) in [(Coding::Gzip, "gzip"), (Coding::Brotli, "br"), (Coding::Zstd, "zstd")] {
        let fields = format!("Content-Type: text/html\r\nContent-Encoding: {name}\r\n");
        origin = origin.answers(&format!("/{name}"), answer(200, &fields, &encoded(coding, &bomb)));
    }
    for (limits, reason, limit) in [
        ("decode_ratio = 2", "coding-ratio", "decode_ratio"),
        ("decoded_page = \"2MiB\"\ndecode_ratio = 1000000", "coding-size", "decoded_page"),
    ] {
        let proxy = site(&origin).toml(&format!("[limits]\n{limits}\n")).run();
        for (n, name) in (1..).zip(["gzip", "br", "zstd"]) {
            let (status, body, whole) = read(proxy.addr(), &format!("/{name}"), &format!("{OUT}{PLAIN}"));
            assert!(status == 200 && !whole && !contains(&body, "criteo.net"), "{name}: {status}");
            await_bypass(&proxy, reason, 2 * n - 1);
            let other = proxy.get(&format!("/{name}"), PLAIN);
            assert!(other.text().contains(TRACKER), "{name}");
            await_bypass(&proxy, reason, 2 * n);
            assert_eq!(proxy.limit_reached(limit), 2 * n, "{name}");
        }
        assert_eq!(outcome(&proxy, "refused"), 3, "{reason}");
    }
}

/// WHATWG Encoding and MIME Sniffing: how a page is labelled does not hide it.
#[test]
fn pages_in_other_encodings_and_without_a_type_are_rewritten() {
    let page =
        format!("<!doctype html><html><head><title>\u{3042}</title>{TRACKER}</head><body></body></html>");
    let wide = |big: bool| -> Vec<u8> {
        let unit = |u: u16| if big { u.to_be_bytes() } else { u.to_le_bytes() };
        page.encode_utf16().flat_map(unit).collect()
    };
    let marked =
        |big: bool, text: Vec<u8>| [if big { vec![0xfe, 0xff] } else { vec![0xff, 0xfe] }, text].concat();
    let japanese = encoding_rs::ISO_2022_JP.encode(&page).0.into_owned();
    let xhtml = format!(
        "<?xml version=\"1.0\"?><html xmlns=\"http://www.w3.org/1999/xhtml\"><head>{TRACKER}</head><body/></html>"
    );
    let xhtml_wide = xhtml
        .replace("\"1.0\"", "\"1.0\" encoding=\"UTF-16\"")
        .encode_utf16()
        .flat_map(u16::to_be_bytes)
        .collect::<Vec<_>>();
    let svg = format!("<svg xmlns=\"http://www.w3.org/2000/svg\">{}</svg>", TRACKER.replace("src", "href"));
    let bytes = page.clone().into_bytes();
    let cases: Vec<(&str, &str, Vec<u8>)> = vec![
        ("utf-16le by head", "text/html; charset=utf-16le", wide(false)),
        ("utf-16be by head", "text/html; charset=utf-16be", wide(true)),
        ("utf-16le by mark", "text/html; charset=utf-8", marked(false, wide(false))),
        ("utf-16be by mark", "text/html", marked(true, wide(true))),
        ("iso-2022-jp by head", "text/html; charset=iso-2022-jp", japanese.clone()),
        ("iso-2022-jp unsaid", "text/html", japanese),
        ("no type", "", bytes.clone()),
        ("any type", "*/*", bytes.clone()),
        ("unknown type", "application/unknown", bytes.clone()),
        ("broken type", "text/html charset=utf-8", bytes.clone()),
        ("two types", "text/plain, text/html", bytes),
        ("xhtml", "application/xhtml+xml", xhtml.clone().into_bytes()),
        ("xhtml as xml", "text/xml", xhtml.clone().into_bytes()),
        ("xhtml as xsl", "text/xsl", xhtml.clone().into_bytes()),
        ("xhtml in utf-16", "application/xhtml+xml; charset=utf-16be", xhtml_wide),
        ("xhtml without a type", "", xhtml.clone().into_bytes()),
        ("xhtml of another kind", "application/vnd.x+xml", xhtml.into_bytes()),
        ("svg", "image/svg+xml", svg.clone().into_bytes()),
        ("svg as xml", "application/xml", svg.into_bytes()),
    ];
    let mut origin = Origin::start();
    for (n, (_, media, body)) in cases.iter().enumerate() {
        for status in [200, 404, 503] {
            let field = if media.is_empty() { String::new() } else { format!("Content-Type: {media}\r\n") };
            origin = origin.answers(&format!("/{n}/{status}"), answer(status, &field, body));
        }
    }
    let proxy = site(&origin).toml("compress = \"as-origin\"\n").run();
    let decode = |response: &Response| -> String {
        let text = response.text();
        text.strip_prefix('\u{feff}').map_or(text.clone(), str::to_owned)
    };
    for (n, (case, media, body)) in cases.iter().enumerate() {
        for status in [200, 404, 503] {
            let (out, other) = both(&proxy, &format!("/{n}/{status}"));
            assert_eq!(out.status(), status, "{case}");
            let text = decode(&out);
            assert!(
                text.contains("data-optgate=\"strip:criteo-onetag\"") && !text.contains("criteo.net"),
                "{case}: {text}"
            );
            let drawing = media.contains("svg") || case.starts_with("svg");
            assert_eq!(text.contains("Opt-Out Request Honored"), !drawing, "{case}: {text}");
            if drawing {
                assert!(other.body == *body, "{case}");
            } else {
                assert!(decode(&other).contains("static.criteo.net"), "{case}");
                assert!(decode(&other).contains("Do Not Sell"), "{case}");
            }
            if case.contains("xhtml") {
                let whole = roxmltree::Document::parse(&text);
                assert!(whole.is_ok(), "{case}: {whole:?}\n{text}");
                assert!(!text.contains("UTF-16") && text.matches("<script").count() == 1, "{case}: no guard");
            }
        }
    }
}

/// A part of it may be a page, and WebKit shows it as one: who goes to it gets none. In a page it is a picture.
#[test]
fn documents_in_each_others_place_are_refused_to_who_goes_to_them() {
    let parts = format!("--x\r\nContent-Type: text/html\r\n\r\n{TRACKER}\r\n--x--\r\n");
    let fields = "Content-Type: multipart/x-mixed-replace; boundary=x\r\n";
    let origin = Origin::start().answers("/", answer(200, fields, parts.as_bytes()));
    let proxy = site(&origin).run();
    let (out, other) = both(&proxy, "/");
    assert_eq!((out.status(), other.text()), (502, parts.clone()));
    assert!(!out.text().contains("criteo"), "{}", out.text());
    let picture = proxy.get("/", &format!("{OUT}Sec-Fetch-Dest: image\r\nAccept: image/*\r\n"));
    assert_eq!(picture.text(), parts);
}

/// MIME Sniffing, 7; RFC 6266; RFC 2046: what no browser shows as a page passes byte for byte.
#[test]
fn what_no_browser_shows_as_a_page_passes_untouched() {
    let text = TRACKER;
    let feed = format!("<?xml version=\"1.0\"?><rss><channel>{TRACKER}</channel></rss>");
    let cases = [
        ("Content-Type: text/plain\r\n", text),
        ("Content-Type: text/plain; charset=ISO-8859-1\r\n", text),
        ("Content-Type: application/octet-stream\r\n", text),
        ("X-Content-Type-Options: nosniff\r\n", text),
        ("Content-Type: unknown/unknown\r\nX-Content-Type-Options: nosniff\r\n", text),
        ("Content-Type: text/html\r\nContent-Disposition: attachment; filename=\"x.html\"\r\n", text),
        ("Content-Type: multipart/byteranges; boundary=x\r\n", text),
        ("", "%PDF-1.7 <script src=\"https://static.criteo.net/a.js\"></script>"),
        ("", "plain words <script src=\"https://static.criteo.net/a.js\"></script>"),
        ("Content-Type: application/rss+xml\r\n", &feed),
        ("Content-Type: text/xml\r\n", &feed),
        ("", &feed),
    ];
    let mut origin = Origin::start();
    for (n, (fields, body)) in cases.iter().enumerate() {
        origin = origin.answers(&format!("/{n}"), answer(200, fields, body.as_bytes()));
    }
    let proxy = site(&origin).run();
    for (n, (fields, body)) in cases.iter().enumerate() {
        let (out, other) = both(&proxy, &format!("/{n}"));
        assert_eq!((out.text(), other.text()), (body.to_string(), body.to_string()), "{fields}");
    }
    // An image and a style sheet over plain http, by what the browser accepts.
    let svg = format!("<svg xmlns=\"http://www.w3.org/2000/svg\">{TRACKER}</svg>");
    let origin =
        Origin::start().answers("/i.svg", answer(200, "Content-Type: image/svg+xml\r\n", svg.as_bytes()));
    let proxy = site(&origin).run();
    let image = proxy
        .get("/i.svg", &format!("{OUT}Accept: image/avif,image/webp,image/svg+xml,image/*,*/*;q=0.8\r\n"));
    assert_eq!(image.text(), svg);
    assert!(image.head.one("content-length").is_some() && image.head.one("vary").is_none());
}

/// RFC 9110, 15.3.7: an origin that sends a part of a page although nobody asked for one.
#[test]
fn a_part_of_a_page_is_asked_for_whole_or_refused() {
    let part = answer(206, "Content-Type: text/html\r\nContent-Range: bytes 0-9/999\r\n", TRACKER.as_bytes());
    let whole = answer(200, "Content-Type: text/html\r\n", format!("<body>{TRACKER}</body>").as_bytes());
    let always = part.clone();
    let origin = Origin::start()
        .on("/once", move |x| match x.request().one("range").is_some() {
            true => x.send(&part),
            false => x.send(&whole),
        })
        .answers("/always", always);
    let proxy = site(&origin).run();
    // Without Accept nobody knows that it is a page, so that the range goes on.
    let out = proxy.get("/once", &format!("{OUT}Range: bytes=0-9\r\n"));
    assert_eq!(out.status(), 200);
    assert!(!out.text().contains("criteo.net") && out.text().contains("data-optgate"));
    let (out, other) = both(&proxy, "/always");
    assert_eq!((out.status(), other.status()), (502, 206));
    assert_eq!(other.text(), TRACKER);
    await_bypass(&proxy, "partial", 2);
}

/// Hostile pages by name, and what an opted-out visitor's answer to them ends with.
fn hostile() -> Vec<(&'static str, &'static str, Vec<u8>)> {
    let page = |middle: String| format!("<!doctype html><html><body>{middle}</body></html>").into_bytes();
    let xml = |middle: String| {
        format!("<html xmlns=\"http://www.w3.org/1999/xhtml\"><body>{middle}</body></html>").into_bytes()
    };
    let (html, xhtml) = ("text/html", "application/xhtml+xml");
    let (padding, long) = ("x".repeat(4 << 20), "x".repeat(20 << 20));
    vec![
        ("attribute", html, page(format!("<p>first</p><a title=\"{long}\" href=x>{TRACKER}"))),
        ("xml-attribute", xhtml, xml(format!("<p>first</p><a title=\"{long}\" href=\"x\"/>{TRACKER}"))),
        ("script", html, page(format!("<script>{padding};fbq('init')</script>{TRACKER}"))),
        ("xml-script", xhtml, xml(format!("<script>{padding};fbq('init')</script>{TRACKER}"))),
        ("comment", html, page(format!("<!--{padding}-->{TRACKER}"))),
        ("xml-comment", xhtml, xml(format!("<!--{padding}-->{TRACKER}"))),
        ("text", html, page(format!("{padding}{TRACKER}"))),
        ("unclosed", html, page(format!("{}{TRACKER}", "<b>".repeat(1_000_000)))),
        ("paragraphs", html, page(format!("{}{TRACKER}", "<p>x".repeat(1_000_000)))),
        ("sections", html, page(format!("{}{TRACKER}", "<section>".repeat(1_000_000)))),
        ("xml-nested", xhtml, xml(format!("{}{TRACKER}", "<section>".repeat(1_000_000)))),
        ("xml-scopes", xhtml, xml(format!("{}{TRACKER}", "<b xmlns:x=\"y\">".repeat(100_000)))),
        ("attributes", html, page(format!("<p {}>{TRACKER}", many(100_000)))),
        ("one-attribute", html, page(format!("<p {} data-src=//dis.criteo.com/x>{TRACKER}", many(90_000)))),
        (
            "all-attributes",
            html,
            page(format!("<p {}>{TRACKER}", many(60_000).replace("\"/", "\"//dis.criteo.com/"))),
        ),
        ("xml-attributes", xhtml, xml(format!("<p {}>{TRACKER}</p>", many(100_000)))),
        ("ends", html, page(format!("{}{}{TRACKER}", "<b>".repeat(20_000), "</i>".repeat(200_000)))),
        ("select", html, page(format!("<select><xmp><script></xmp></select>{TRACKER}"))),
        ("frameset", html, page(format!("<frameset><noscript><xmp></noscript></frameset>{TRACKER}"))),
    ]
}

fn many(count: usize) -> String {
    (0..count).map(|n| format!("data-{n}src=\"/{n}\" ")).collect()
}

fn sends(pages: Vec<(&'static str, &'static str, Vec<u8>)>) -> Origin {
    pages.into_iter().fold(Origin::start(), |origin, (name, media, body)| {
        origin.on(&format!("/{name}"), move |x| {
            // The proxy may stop reading: that is what is tested.
            let _ = x.ok(media, &body);
            x.cut();
            Ok(())
        })
    })
}

/// Reads an answer to its end or its break; `None` for the body of one that is not whole.
fn read(proxy: std::net::SocketAddr, path: &str, fields: &str) -> (u16, Vec<u8>, bool) {
    let mut client = Client::connect(proxy);
    client.send(format!("GET {path} HTTP/1.1\r\nHost: site.test\r\nConnection: close\r\n{fields}\r\n"));
    let head = client.final_head();
    let body = client.rest();
    let whole =
        body.ends_with(b"\r\n0\r\n\r\n") || head.one("content-length") == Some(&body.len().to_string());
    (head.status, body, whole)
}

fn contains(body: &[u8], text: &str) -> bool {
    memchr::memmem::find(body, text.as_bytes()).is_some()
}

/// Refused before the first byte, stopped after it, never raw; and
/// every byte for a visitor who has not opted out.
#[test]
fn hostile_pages_leak_nothing_to_an_opted_out_visitor_and_pass_for_others() {
    let pages = hostile();
    let lengths: Vec<_> = pages.iter().map(|(name, _, body)| (*name, body.len())).collect();
    let origin = sends(pages);
    let proxy = site(&origin).run();
    for (name, length) in lengths {
        let (status, body, whole) = read(proxy.addr(), &format!("/{name}"), &format!("{OUT}{PLAIN}"));
        assert!(!contains(&body, "criteo.net") && !contains(&body, "fbq("), "{name} leaks");
        assert!(status == 502 || !whole || contains(&body, "data-optgate"), "{name}: {status}");
        let (status, body, whole) = read(proxy.addr(), &format!("/{name}"), PLAIN);
        assert!(
            status == 200 && whole && body.len() >= length,
            "{name}: {status}, {} of {length}",
            body.len()
        );
        assert!(contains(&body, "criteo.net"), "{name}");
    }
    let text = proxy.running().metrics().render();
    assert!(metric(&proxy, "optgate_rewrite_bypass_total{reason=\"rewriter-memory\"}") > 4, "{text}");
    let seen = metric(&proxy, "optgate_signals_seen_total{site=\"site\",signal=\"gpc\"}");
    assert_eq!(seen, outcome(&proxy, "enforced") + outcome(&proxy, "refused"));
    assert_eq!(outcome(&proxy, "passed"), 0);
}

/// Inline scripts of 2.2 MB exist; a marker at the end counts, wherever it is cut.
#[test]
fn a_script_of_two_megabytes_is_judged_to_its_end() {
    let script = |mark: &str| {
        format!("<!doctype html><html><body><script>{}{mark}</script></body></html>", "a=1;".repeat(550_000))
    };
    let xml = |mark: &str| {
        script(mark).replace("<!doctype html><html>", "<html xmlns=\"http://www.w3.org/1999/xhtml\">")
    };
    let mut origin = Origin::start();
    for (name, media, body) in
        [("html", "text/html", script("fbq('init')")), ("xml", "application/xhtml+xml", xml("fbq('init')"))]
    {
        for (n, cut) in [1, 5, 10, 40].into_iter().enumerate() {
            let body = body.clone();
            origin = origin.on(&format!("/{name}{n}"), move |x| {
                let at = body.find("</script>").unwrap_or_default() - cut;
                x.send(format!(
                    "HTTP/1.1 200 OK\r\nContent-Type: {media}\r\nTransfer-Encoding: chunked\r\n\r\n"
                ))?;
                x.chunk(&body.as_bytes()[..at])?;
                x.chunk(&body.as_bytes()[at..])?;
                x.send("0\r\n\r\n")
            });
        }
    }
    let origin =
        origin.answers("/own", answer(200, "Content-Type: text/html\r\n", script("own()").as_bytes()));
    let proxy = site(&origin).run();
    for name in ["html", "xml"] {
        for n in 0..4 {
            let out = proxy.get(&format!("/{name}{n}"), &format!("{OUT}{PLAIN}"));
            assert!(out.text().contains("<script>/* optgate strip:meta-pixel */</script>"), "{name}{n}");
            assert!(!out.text().contains("fbq('init')") && out.body.len() < 100_000, "{name}{n}");
        }
    }
    assert!(proxy.get("/own", &format!("{OUT}{PLAIN}")).text().contains("own()"));
}

/// `on_rewrite_failure`: what is out is out; the rest is stopped, or passes by the operator's choice.
#[test]
fn a_page_that_fails_half_way_is_stopped_or_passed_by_setting() {
    let gates: Arc<Mutex<Vec<mpsc::Receiver<()>>>> = Arc::default();
    let begin = |x: &mut Exchange<'_>, media: &str| {
        x.send(format!("HTTP/1.1 200 OK\r\nContent-Type: {media}\r\nTransfer-Encoding: chunked\r\n\r\n"))
    };
    let handlers = Arc::clone(&gates);
    let wait = move || {
        let gate = handlers.lock().unwrap().pop();
        gate.map(|gate| gate.recv_timeout(DEADLINE)).map_or(Ok(()), |got| got.map_err(io::Error::other))
    };
    let wait = Arc::new(wait);
    let (html, large, xml) = (Arc::clone(&wait), Arc::clone(&wait), wait);
    let origin = Origin::start()
        .on("/html", move |x| {
            begin(x, "text/html; charset=utf-8")?;
            x.chunk(b"<!doctype html><html><body><p>first</p>")?;
            html()?;
            x.chunk(format!("<img alt='{}' src=x>{TRACKER}", "x".repeat(600_000)).as_bytes())?;
            x.send("0\r\n\r\n")
        })
        .on("/large.xml", move |x| {
            begin(x, "application/xhtml+xml; charset=utf-8")?;
            x.chunk(b"<html xmlns=\"http://www.w3.org/1999/xhtml\"><body><p>first</p>")?;
            large()?;
            x.chunk(
                format!("<img alt='{}' src='x'/>{TRACKER}</body></html>", "x".repeat(600_000)).as_bytes(),
            )?;
            x.send("0\r\n\r\n")
        })
        .on("/xml", move |x| {
            begin(x, "application/xhtml+xml; charset=utf-8")?;
            x.chunk(b"<html xmlns=\"http://www.w3.org/1999/xhtml\"><body><p>first</p>")?;
            xml()?;
            x.chunk(format!("<a b=c>{}{TRACKER}", "x".repeat(100_000)).as_bytes())?;
            x.send("0\r\n\r\n")
        });
    for (choice, word) in [("close", "refused"), ("pass", "passed")] {
        let limits = format!("on_rewrite_failure = \"{choice}\"\n[limits]\nrewriter_memory = \"64KiB\"\n");
        let proxy = site(&origin).toml(&limits).run();
        let memory = "rewriter-memory";
        for (path, reason, count) in
            [("/html", memory, 1), ("/large.xml", memory, 2), ("/xml", "rewriter-xml", 1)]
        {
            let (open, gate) = mpsc::channel();
            gates.lock().unwrap().push(gate);
            let mut client = proxy.client();
            client.send(format!(
                "GET {path} HTTP/1.1\r\nHost: site.test\r\nConnection: close\r\n{OUT}{PLAIN}\r\n"
            ));
            let begun = client.until("first</p>");
            assert!(begun.starts_with("HTTP/1.1 200"), "{begun}");
            open.send(()).unwrap();
            let rest = client.rest();
            assert_eq!(contains(&rest, "criteo.net"), choice == "pass", "{path} {choice}");
            assert_eq!(
                rest.ends_with(b"0\r\n\r\n"),
                choice == "pass",
                "{path}: a stopped page is never marked whole"
            );
            await_bypass(&proxy, reason, count);
        }
        assert_eq!(proxy.limit_reached("rewriter_memory"), 2, "XML's memory is the same limit");
        assert_eq!(outcome(&proxy, word), 3, "{choice}");
    }
}

/// An origin that breaks off or falls silent; what came is rewritten, and the page is never whole.
#[test]
fn a_page_that_breaks_off_or_falls_silent_is_cut() {
    let (_keep, gate) = mpsc::channel::<()>();
    let gate = Mutex::new(gate);
    let half = format!("<!doctype html><html><body>{TRACKER}<p>half</p>");
    let coded = encoded(Coding::Gzip, format!("{half}{}", "<p>more</p>".repeat(1000)).as_bytes());
    let silent = half.clone();
    let origin = Origin::start()
        .on("/cut", move |x| {
            x.send(
                "HTTP/1.1 200 OK\r\nContent-Type: text/html; charset=utf-8\r\nContent-Length: 9999\r\n\r\n",
            )?;
            x.send(&half)?;
            x.cut();
            Ok(())
        })
        .answers(
            "/short",
            answer(
                200,
                "Content-Type: text/html; charset=utf-8\r\nContent-Encoding: gzip\r\n",
                &coded[..coded.len() - 12],
            ),
        )
        .on("/silent", move |x| {
            x.send(
                "HTTP/1.1 200 OK\r\nContent-Type: text/html; charset=utf-8\r\nContent-Length: 9999\r\n\r\n",
            )?;
            x.send(&silent)?;
            let _ = gate.lock().unwrap().recv_timeout(DEADLINE * 2);
            Ok(())
        });
    let proxy = site(&origin).toml("[timeouts]\nbetween_bytes = \"300ms\"\n").run();
    for path in ["/cut", "/short", "/silent"] {
        for signal in [OUT, ""] {
            let (status, body, whole) = read(proxy.addr(), path, &format!("{signal}{PLAIN}"));
            // One that broke before anything was sent may be an error page of ours.
            assert!(status == 502 || (status == 200 && !whole), "{path} {signal:?}: {status}");
            assert!(signal.is_empty() || !contains(&body, "criteo.net"), "{path}");
        }
    }
    let enforced = outcome(&proxy, "enforced") + outcome(&proxy, "refused");
    assert_eq!(enforced, metric(&proxy, "optgate_signals_seen_total{site=\"site\",signal=\"gpc\"}"));
}

/// Less than 8 MiB a response beside the decoder's window, whatever the page is.
#[test]
fn hostile_pages_at_once_stay_within_eight_mebibytes_each() {
    const AT_ONCE: u64 = 8;
    let wide = |text: &str| encoded(Coding::Gzip, format!("<!doctype html><html><body>{text}").as_bytes());
    let bomb = wide(&" ".repeat(24 << 20));
    let own = "a:1;".repeat(600_000);
    let (sheet, tracked) = (format!("b{{c:url(//dis.criteo.com/x)}}{own}"), "<img src=//dis.criteo.com/x>");
    let large = [
        ("large-script", wide(&format!("<script>{own}</script>"))),
        ("large-style", wide(&format!("<style>{sheet}</style>"))),
        ("large-set", wide(&format!("<img srcset='//dis.criteo.com/x,{own}'>"))),
        ("large-srcdoc", wide(&format!("<iframe srcdoc='{tracked}{own}'></iframe>"))),
        ("bytes", wide(&format!("<script>{}</script>", "\u{e9}".repeat(1_200_000)))),
        ("bomb", bomb),
    ];
    let mut pages = hostile();
    pages.retain(|(name, ..)| {
        ["attribute", "script", "xml-script", "xml-attribute", "attributes"].contains(name)
    });
    let names: Vec<_> =
        pages.iter().map(|(name, ..)| *name).chain(large.iter().map(|(name, _)| *name)).collect();
    let coded = "Content-Type: text/html\r\nContent-Encoding: gzip\r\n";
    let origin = large.iter().fold(sends(pages), |origin, (name, body)| {
        origin.answers(&format!("/{name}"), answer(200, coded, body))
    });
    let sites =
        format!("[[sites]]\nname = \"site\"\nhosts = [\"site.test\"]\nupstream = {:?}\n", origin.url());
    let mut above = Vec::new();
    for name in names {
        // A program of its own: what an allocator keeps of an earlier page is not this one's.
        let binary = Binary::start(proxy().toml(&sites));
        let addr = binary.addr();
        read(addr, "/none", OUT);
        let before = binary.peak_memory();
        let readers: Vec<_> = (0..AT_ONCE)
            .map(|_| thread::spawn(move || read(addr, &format!("/{name}"), &format!("{OUT}{PLAIN}"))))
            .collect();
        for reader in readers {
            let (_, body, _) = reader.join().unwrap();
            assert!(!contains(&body, "criteo.") && !contains(&body, "fbq("), "{name}");
        }
        let each = binary.peak_memory().saturating_sub(before) / AT_ONCE;
        println!("{name}: {} KiB each", each >> 10);
        if each >= 8 << 20 {
            above.push((name, each));
        }
    }
    assert!(above.is_empty(), "more than 8 MiB each: {above:?}");
}

/// RFC 9110, 9.3.1: a GET may have a body. It is not kept, and without it the origin would be asked for something else.
#[test]
fn a_get_with_a_body_whose_answer_cannot_be_read_is_never_sent_again() {
    let origin = Origin::start().on("/", |x| {
        x.body()?;
        x.send(answer(200, "Content-Type: text/html\r\nContent-Encoding: compress\r\n", b"opaque"))
    });
    let proxy = site(&origin).run();
    for framing in ["Content-Length: 3\r\n\r\na=b", "Transfer-Encoding: chunked\r\n\r\n3\r\na=b\r\n0\r\n\r\n"]
    {
        let mut client = proxy.client();
        client.send(format!("GET / HTTP/1.1\r\nHost: site.test\r\n{OUT}{PAGE}{framing}"));
        assert_eq!(client.response("GET").status(), 502, "{framing:?}");
    }
    assert_eq!(origin.seen(2).len(), 2);
    assert_eq!(origin.heads(), 2);
}
