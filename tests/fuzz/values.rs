//! Values with a grammar of their own: srcset, style, refreshes, `Link`. Nothing panics, nothing that leads to
//! the tracker is left, and what is not a tracker's stays.

use http::{HeaderMap, HeaderValue};
use optgate::enforce::references;

use super::{Random, as_attribute, page, rounds};
use crate::support::dom::{Element, parse};
use crate::support::vectors::{candidates, css, css_skeleton};

const T: &str = "//dis.criteo.com/";

fn is_tracker(url: &str) -> bool {
    let url = url::Url::parse("https://shop.example/").unwrap().join(url);
    url.is_ok_and(|url| {
        matches!(url.scheme(), "http" | "https")
            && url.host_str().is_some_and(|host| host.ends_with("criteo.com"))
    })
}

fn joined(random: &mut Random, pieces: &[&str], most: usize) -> String {
    (0..random.below(most)).map(|_| random.one_of(pieces)).collect()
}

/// The only element of a name in a page.
fn find(html: &str, name: &str) -> Element {
    let mut found = None;
    parse(html, true).walk(&mut |element| {
        if element.name == name && found.is_none() {
            found = Some(element.clone());
        }
    });
    found.unwrap_or_else(|| panic!("no {name} in {html}"))
}

/// Candidates go one by one; the others stay, in order, with their descriptors.
#[test]
fn a_srcset_keeps_exactly_the_candidates_of_others() {
    const PIECES: &[&str] = &[
        "/a.png",
        " ",
        " ",
        ",",
        ", ",
        " 1x",
        " 2x",
        " 100w",
        "//dis.criteo.com/b",
        "https://dis.criteo.com/c,d",
        "b.png",
        "(",
        ")",
        "\n",
        ",,",
        "data:image/png;base64,AA==",
        "\t",
        " x",
    ];
    rounds("srcset", 6_000, |random| {
        let value = joined(random, PIECES, 14);
        let html = format!("<body><img srcset=\"{}\"></body>", as_attribute(random, &value));
        let out = page(&html);
        let left = find(&out, "img").attr("srcset").map(candidates).unwrap_or_default();
        let expected: Vec<_> = candidates(&value).into_iter().filter(|(url, _)| !is_tracker(url)).collect();
        assert_eq!(left, expected, "{value:?} became {out}");
    });
}

/// Style loses the tracker's addresses and nothing else, in an element and in an attribute.
#[test]
fn style_loses_the_addresses_of_the_tracker_alone() {
    const PIECES: &[&str] = &[
        "url(",
        "URL(",
        "u\\72l(",
        "\\75 rl( ",
        ")",
        "\"",
        "'",
        T,
        "https://dis.criteo.com/x",
        "/own",
        "a{b:",
        "}",
        ";",
        " ",
        "\n",
        "/*",
        "*/",
        "@import ",
        "image-set(",
        "\\2f",
        "\\",
        "dis\\2e criteo.com",
        ",",
        "\u{e9}",
        "{",
        "-",
        "\\\n",
    ];
    rounds("style", 12_000, |random| {
        let sheet = joined(random, PIECES, 16);
        let out = page(&format!("<head><style>{sheet}</style></head>"));
        let left = find(&out, "style").text();
        for (where_, left) in [
            ("element", left),
            ("attribute", {
                let html = format!("<body><p style=\"{}\">x</p></body>", as_attribute(random, &sheet));
                find(&page(&html), "p").attr("style").unwrap_or_default().to_owned()
            }),
        ] {
            let tracker = css(&left).iter().find(|address| is_tracker(&address.text)).map(|a| a.text.clone());
            assert_eq!(tracker, None, "{where_}: {sheet:?} became {left:?}");
            assert_eq!(css_skeleton(&left), css_skeleton(&sheet), "{where_}: {sheet:?} became {left:?}");
            if css(&sheet).iter().all(|address| !is_tracker(&address.text)) {
                assert_eq!(left, sheet, "{where_}");
            }
        }
    });
}

/// HTML, "shared declarative refresh steps", word for word.
fn refresh(input: &str) -> Option<String> {
    let space = |c: &char| matches!(c, ' ' | '\t' | '\n' | '\r' | '\u{c}');
    let chars: Vec<char> = input.chars().collect();
    let skip = |mut at: usize, what: &dyn Fn(&char) -> bool| {
        while chars.get(at).is_some_and(what) {
            at += 1;
        }
        at
    };
    let start = skip(0, &space);
    let digits = skip(start, &|c| c.is_ascii_digit());
    if digits == start && chars.get(digits) != Some(&'.') {
        return None;
    }
    let mut at = skip(digits, &|c| c.is_ascii_digit() || *c == '.');
    if !chars.get(at).is_some_and(|c| matches!(c, ';' | ',') || space(c)) {
        return None;
    }
    at = skip(at, &space);
    at += usize::from(matches!(chars.get(at), Some(';' | ',')));
    at = skip(at, &space);
    let rest = |at: usize| chars[at..].iter().collect::<String>();
    let mut url = rest(at);
    let word: String = chars[at..].iter().take(3).collect();
    let quotes = if word.eq_ignore_ascii_case("url") {
        let sign = skip(at + 3, &space);
        if chars.get(sign) != Some(&'=') {
            return Some(url).filter(|url| !url.is_empty());
        }
        skip(sign + 1, &space)
    } else if word.to_ascii_lowercase().starts_with('u') {
        return Some(url);
    } else {
        at
    };
    match chars.get(quotes) {
        Some(quote @ ('"' | '\'')) => {
            url = rest(quotes + 1);
            url.truncate(url.find(*quote).unwrap_or(url.len()));
        }
        _ => url = rest(quotes),
    }
    Some(url).filter(|url| !url.is_empty())
}

/// A refresh to the tracker goes; one that a browser would follow elsewhere stays.
#[test]
fn a_refresh_to_the_tracker_goes_however_it_is_written() {
    const PIECES: &[&str] = &[
        "0",
        "5",
        ".",
        ";",
        ",",
        " ",
        "\t",
        "\n",
        "url",
        "URL",
        "uRl",
        "=",
        "'",
        "\"",
        T,
        "https://dis.criteo.com/",
        "/own",
        "x",
        "u",
        "ur",
    ];
    rounds("refresh", 12_000, |random| {
        let value = match random.below(3) {
            0 => joined(random, PIECES, 12),
            _ => random.below(9).to_string() + random.one_of(&[";", ",", " "]) + &joined(random, PIECES, 9),
        };
        let html = format!(
            "<head><meta http-equiv=\"refresh\" content=\"{}\"></head>",
            as_attribute(random, &value)
        );
        let meta = find(&page(&html), "meta");
        match (refresh(&value), meta.attr("content")) {
            (Some(url), Some(_)) => assert!(!is_tracker(&url), "{value:?} stayed"),
            (Some(url), None) => assert!(is_tracker(&url), "{value:?} went, which leads to {url:?}"),
            // Not followed by the standard's steps: either will do.
            (None, Some(_) | None) => {}
        }
        let mut headers = HeaderMap::new();
        if let Ok(header) = HeaderValue::from_str(value.trim()) {
            headers.insert("refresh", header);
            references::filter(&mut headers, &|url, _| is_tracker(url));
            let gone = !headers.contains_key("refresh");
            let followed = refresh(value.trim()).is_some_and(|url| is_tracker(&url));
            assert!(gone || !followed, "header {value:?} stayed");
        }
    });
}

/// RFC 8288: entries of the tracker go, the others stay as written, in order.
#[test]
fn a_link_header_keeps_exactly_the_entries_of_others() {
    const URIS: &[&str] = &[
        "/a",
        "//dis.criteo.com/x",
        "https://dis.criteo.com/a,b;c",
        "/own?u=//dis.criteo.com/",
        "\\\\dis.criteo.com",
    ];
    const PARAMETERS: &[&str] = &[
        "; rel=preload",
        ";rel=\"preconnect\"",
        "; as=image",
        "; title=\"a, <//b>; \\\" c\"",
        ";x",
        "; imagesrcset=\"/a 1x\"",
        " ; rel = next",
    ];
    rounds("link", 6_000, |random| {
        let (mut entries, mut kept) = (Vec::new(), Vec::new());
        for _ in 0..=random.below(5) {
            let uri = random.one_of(URIS);
            let entry = format!("<{uri}>{}", joined(random, PARAMETERS, 4));
            kept.extend((!is_tracker(uri)).then(|| entry.clone()));
            entries.push(entry);
        }
        let value = entries.join(random.one_of(&[", ", ",", " ,\t"]));
        let mut headers = HeaderMap::new();
        headers.insert("link", HeaderValue::from_str(&value).unwrap());
        let removed = references::filter(&mut headers, &|url, _| is_tracker(url));
        assert_eq!(removed as usize, entries.len() - kept.len(), "{value:?}");
        let left = headers.get("link").map_or("", |v| v.to_str().unwrap());
        if removed > 0 {
            assert_eq!(left, kept.join(", "), "{value:?}");
        } else {
            assert_eq!(left, value);
        }
    });
}

/// Any bytes at all in the headers that are read: nothing panics, and what stays was there before.
#[test]
fn odd_bytes_in_headers_are_read_without_a_fault() {
    const NAMES: &[&str] = &[
        "link",
        "refresh",
        "report-to",
        "reporting-endpoints",
        "speculation-rules",
        "sourcemap",
        "nel",
        "location",
    ];
    const PIECES: &[&str] = &[
        "<",
        ">",
        "\"",
        "\\",
        ";",
        ",",
        "=",
        "(",
        ")",
        " ",
        "\t",
        T,
        "rel",
        "preconnect",
        "imagesrcset",
        "{",
        "}",
        "[",
        "]",
        ":",
        "url",
        "endpoints",
        "\u{e9}",
        "0",
        "a",
        "'",
    ];
    rounds("headers", 20_000, |random| {
        let (name, value) = (random.one_of(NAMES), joined(random, PIECES, 24));
        let Ok(value) = HeaderValue::from_bytes(value.trim().as_bytes()) else { return };
        let mut headers = HeaderMap::new();
        headers.insert(name, value.clone());
        let removed = references::filter(&mut headers, &|url, _| is_tracker(url))
            + references::filter_location(&mut headers, &|url, _| is_tracker(url));
        assert!(removed > 0 || headers.get(name) == Some(&value), "{name}: {value:?}");
    });
}
