//! Filter lists that visitors use leave our link, pages and files alone.

use std::collections::HashSet;
use std::path::Path;

use adblock::Engine;
use adblock::lists::{FilterSet, ParseOptions};
use adblock::request::Request;

use super::support::origin::Origin;
use super::support::proxy::proxy;

const PAGE: &[u8] = b"<!doctype html><html><head><title>t</title></head><body><p>x</p></body></html>";

/// EasyList and EasyPrivacy as a blocker holds them; `None`, with a printed reason, when they are not here.
fn blocker() -> Option<Engine> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/lists");
    let mut filters = FilterSet::new(false);
    for name in ["easylist.txt", "easyprivacy.txt"] {
        let Ok(text) = std::fs::read_to_string(folder.join(name)) else {
            println!("skipped: {} is not here", folder.join(name).display());
            return None;
        };
        filters.add_filter_list(text, ParseOptions::default());
    }
    Some(Engine::new_with_filter_set(filters))
}

/// Values of an attribute in markup that is ours, one word each.
fn words<'a>(markup: &'a str, attribute: &str) -> Vec<&'a str> {
    let mark = format!("{attribute}=\"");
    markup
        .split(&mark)
        .skip(1)
        .filter_map(|rest| rest.split('"').next())
        .flat_map(str::split_whitespace)
        .collect()
}

/// A link nobody sees is no link (Civil Code 1798.135(a)).
#[test]
fn filter_lists_hide_neither_our_link_nor_our_pages() {
    let Some(engine) = blocker() else { return };
    let hidden = engine.hidden_class_id_selectors(["adsbox", "ad-banner"], ["adsbox"], &HashSet::new());
    assert!(!hidden.is_empty(), "the lists are in force");
    let origin = Origin::start().on("/", |x| x.ok("text/html", PAGE));
    let proxy = proxy().to(&origin).run();
    let document = "Accept: text/html\r\nSec-Fetch-Dest: document\r\nSec-GPC: 1\r\n";
    for path in ["/", "/privacy-choices"] {
        let page = proxy.get(path, document).text();
        let (classes, ids) = (words(&page, "class"), words(&page, "id"));
        assert!(!classes.is_empty(), "{path} holds markup of ours");
        let hidden = engine.hidden_class_id_selectors(&classes, &ids, &HashSet::new());
        assert_eq!(hidden, Vec::<String>::new(), "{path}: {classes:?} {ids:?}");
    }
    let generic = engine.url_cosmetic_resources("https://site.test/").hide_selectors;
    let ours =
        generic.iter().filter(|selector| selector.contains("privacy-choices") || selector.contains("ogc-"));
    assert_eq!(ours.count(), 0);
}

/// A blocked opt-out page would be no way to opt out.
#[test]
fn filter_lists_block_none_of_our_addresses() {
    let Some(engine) = blocker() else { return };
    let blocks = |url: &str, source: &str, kind: &str| {
        let request = Request::new(url, source, kind, "get").unwrap();
        engine.check_network_request(&request).should_block()
    };
    assert!(
        blocks("https://www.google-analytics.com/collect?v=1", "https://site.test/", "ping"),
        "the lists are in force"
    );
    for (path, kind) in [
        ("", "document"),
        ("/opt-out", "document"),
        ("/opt-in", "document"),
        ("/opt-in/confirm", "document"),
        ("/receipt/5358-K6S6-G4HH-2G5R", "document"),
        ("/assets/e.js", "script"),
        ("/assets/e.gif", "image"),
        ("/assets/e.css", "stylesheet"),
        ("/assets/page.css", "stylesheet"),
        ("/assets/icon.svg", "image"),
        ("/report", "ping"),
    ] {
        let url = format!("https://site.test/privacy-choices{path}");
        assert!(!blocks(&url, "https://site.test/", kind), "{url} as {kind}");
    }
    assert!(!blocks("https://site.test/.well-known/gpc.json", "https://site.test/", "xmlhttprequest"));
}
