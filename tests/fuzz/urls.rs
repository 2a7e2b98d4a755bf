//! Spellings of addresses, against the `url` crate as the browser-grade parser.

use url::Url;

use super::{Random, as_attribute, page, rounds};

const SCHEMES: &[&str] = &[
    "https:",
    "http:",
    "HTTPS:",
    "hTTp:",
    "",
    "",
    "",
    "wss:",
    "ftp:",
    "javascript:",
    "mailto:",
    "x:",
    "ht\ntps:",
];
const SLASHES: &[&str] = &["//", "//", "//", "\\\\", "/\\", "/\t/", "///", "/", "", "//\n"];
const USERS: &[&str] = &["", "", "", "", "u@", "u:p@", "shop.example@", "@", "%40@"];
const HOSTS: &[&str] = &[
    "dis.criteo.com",
    "criteo.com",
    "x.y.criteo.net",
    "xcriteo.com",
    "criteo.com.example",
    "shop.example",
    "cdn.example",
    "criteo",
    "",
];
const PORTS: &[&str] = &["", "", "", "", ":443", ":8443", ":", ":0443", ":99999", ":x"];
const PATHS: &[&str] = &["", "/", "/a", "\\a", "?x=1", "#x", "/../a b", "/a;b,c", "/%zz", " "];
const EDGES: &[&str] = &["", "", "", " ", "\n", "\u{1}", "\t ", "\u{a0}"];

/// One character of a host, as it is or disguised.
fn disguised(random: &mut Random, c: char, out: &mut String) {
    match random.below(30) {
        0 => out.extend(c.to_uppercase()),
        1 => out.push_str(&format!("%{:02x}", u32::from(c))),
        2 if c.is_ascii_graphic() => out.extend(char::from_u32(u32::from(c) + 0xFEE0)),
        3 => out.extend([c, '\u{ad}']),
        4 => out.extend([c, '\t']),
        5 if c == '.' => out.push('\u{3002}'),
        6 => out.extend([c, '\u{e9}']),
        _ => out.push(c),
    }
}

fn spelling(random: &mut Random) -> String {
    let mut out = random.one_of(EDGES).to_owned() + random.one_of(SCHEMES) + random.one_of(SLASHES);
    out += random.one_of(USERS);
    for c in random.one_of(HOSTS).chars() {
        disguised(random, c, &mut out);
    }
    if random.once_in(8) {
        out.push('.');
    }
    out + random.one_of(PORTS) + random.one_of(PATHS) + random.one_of(EDGES)
}

/// Where a browser goes for a text in an attribute. `https:host` stays with a base of its own scheme, and goes there with
/// any other, which a script may write behind it: both are judged.
fn leads_to_criteo(base: &Url, text: &str) -> bool {
    let Ok(url) = base.join(text) else { return false };
    let elsewhere = Url::parse(text).ok().filter(|_| url.host() == base.host());
    is_of_criteo(&url) || elsewhere.is_some_and(|url| is_of_criteo(&url))
}

fn is_of_criteo(url: &Url) -> bool {
    let web = matches!(url.scheme(), "http" | "https" | "ws" | "wss" | "ftp");
    let host = url.host_str().unwrap_or_default().trim_end_matches('.');
    let under = |domain: &str| host == domain || host.ends_with(&format!(".{domain}"));
    web && (under("criteo.com") || under("criteo.net"))
}

/// An address goes exactly when the browser would ask the tracker: no spelling slips by, and none that leads
/// elsewhere is taken for one.
#[test]
fn an_address_goes_exactly_when_it_leads_to_a_tracker() {
    let base = Url::parse("https://shop.example/page").unwrap();
    let mut led = 0;
    rounds("spellings", 20_000, |random| {
        let text = spelling(random);
        let written = as_attribute(random, &text);
        let expected = leads_to_criteo(&base, &text);
        led += usize::from(expected);
        let html = format!("<!doctype html><html><body><img src=\"{written}\"></body></html>");
        let out = page(&html);
        let kept = out.contains(&format!("<img src=\"{written}\">"));
        let became = out.rsplit("<body>").next();
        assert_eq!(!kept, expected, "{text:?} written {written:?} became {became:?}");
    });
    assert!(led > 500, "{led} led to the tracker");
}
