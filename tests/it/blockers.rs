//! Filter lists that visitors use leave our link, pages and files alone.

use std::cell::RefCell;
use std::collections::{BTreeSet, HashSet};
use std::rc::Rc;

use adblock::Engine;
use adblock::lists::{FilterSet, ParseOptions};
use adblock::request::Request;
use lol_html::{HtmlRewriter, Settings, element};

use super::support::beside;
use super::support::origin::Origin;
use super::support::proxy::{Proxy, proxy};

const PAGE: &[u8] = b"<!doctype html><html><head><title>t</title></head><body><p>x</p></body></html>";
const DOCUMENT: &str = "Accept: text/html\r\nSec-Fetch-Dest: document\r\n";

/// Every list of the folder as a blocker holds them; `None`, with a printed reason, when they are not here.
fn blocker(test: &str) -> Option<Engine> {
    let folder = beside("lists", test)?;
    let mut filters = FilterSet::new(false);
    let mut read = 0;
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|ending| ending == "txt") {
            filters.add_filter_list(std::fs::read_to_string(&path).unwrap(), ParseOptions::default());
            read += 1;
        }
    }
    assert!(read > 0, "the folder holds lists");
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

/// Elements that selectors hide in a page, and how many selectors could be tried; the others speak of what
/// stands around an element, which a streaming matcher cannot see.
fn hidden(page: &str, selectors: &HashSet<String>) -> (Vec<String>, usize) {
    let found = Rc::new(RefCell::new(Vec::new()));
    let (mut settings, mut tried) = (Settings::new(), 0);
    for selector in selectors {
        if selector.parse::<lol_html::Selector>().is_err() {
            continue;
        }
        tried += 1;
        let (found, selector) = (Rc::clone(&found), selector.clone());
        settings = settings.append_element_content_handler(element!(selector.clone(), move |el| {
            found.borrow_mut().push(format!("{selector} hides <{}>", el.tag_name()));
            Ok(())
        }));
    }
    let mut rewriter = HtmlRewriter::new(settings, |_: &[u8]| {});
    rewriter.write(page.as_bytes()).unwrap();
    rewriter.end().unwrap();
    (found.take(), tried)
}

/// Pages that hold markup of ours: the link alone and with the status, and every kind of consumer page.
fn pages(proxy: &Proxy) -> Vec<(String, String)> {
    let gpc = format!("{DOCUMENT}Sec-GPC: 1\r\n");
    let mut pages = Vec::new();
    for (fields, who) in [(DOCUMENT, "without"), (gpc.as_str(), "with")] {
        for path in ["/", "/privacy-choices", "/privacy-choices/receipt/5358-K6S6-G4HH-2G5R"] {
            pages.push((format!("{path} {who} the signal"), proxy.get(path, fields).text()));
        }
    }
    for path in ["/privacy-choices/opt-out", "/privacy-choices/opt-in"] {
        let mut client = proxy.client();
        client.send(format!(
            "POST {path} HTTP/1.1\r\nHost: site.test\r\nOrigin: http://site.test\r\n{DOCUMENT}Content-Length: 0\r\n\r\n"
        ));
        pages.push((format!("POST {path}"), client.response("POST").text()));
    }
    pages
}

/// A link nobody sees is no link (Civil Code 1798.135(a)).
#[test]
fn filter_lists_hide_neither_our_link_nor_our_pages() {
    let Some(engine) = blocker("filter_lists_hide_neither_our_link_nor_our_pages") else { return };
    let by_name = engine.hidden_class_id_selectors(["adsbox", "ad-banner"], ["adsbox"], &HashSet::new());
    assert!(!by_name.is_empty(), "the lists are in force");
    let resources = engine.url_cosmetic_resources("https://site.test/");
    let advert = "<a href=\"https://www.mgid.com/\">x</a><div data-ad-module=\"x\"></div>\
                  <a href=\"https://ad.doubleclick.net/x\">x</a>";
    let (found, tried) = hidden(advert, &resources.hide_selectors);
    assert!(!found.is_empty() && tried > 100, "{tried} of {} selectors", resources.hide_selectors.len());
    println!("{tried} of {} generic selectors tried", resources.hide_selectors.len());
    let origin = Origin::start().on("/", |x| x.ok("text/html", PAGE));
    for link in ["do-not-sell", "privacy-choices"] {
        let proxy = proxy().to(&origin).toml(&format!("[portal]\nlink = {link:?}\n")).run();
        for (what, page) in pages(&proxy) {
            let (classes, ids) = (words(&page, "class"), words(&page, "id"));
            assert!(page.contains("privacy-choices"), "{what} holds markup of ours: {page}");
            let by_name = engine.hidden_class_id_selectors(&classes, &ids, &HashSet::new());
            assert_eq!(by_name, Vec::<String>::new(), "{what}: {classes:?} {ids:?}");
            assert_eq!(hidden(&page, &resources.hide_selectors).0, Vec::<String>::new(), "{what}");
        }
    }
    // What can only be tried by eye: nothing names a word of ours.
    let ours = resources.hide_selectors.iter().chain(&resources.procedural_actions);
    let ours = ours.filter(|s| ["privacy-choices", "ogc-", "optgate"].iter().any(|word| s.contains(word)));
    assert_eq!(ours.count(), 0);
}

/// A blocked opt-out page would be no way to opt out.
#[test]
fn filter_lists_block_none_of_our_addresses() {
    let Some(engine) = blocker("filter_lists_block_none_of_our_addresses") else { return };
    let blocks = |url: &str, source: &str, kind: &str| {
        let request = Request::new(url, source, kind, "get").unwrap();
        engine.check_network_request(&request).should_block()
    };
    assert!(
        blocks("https://www.google-analytics.com/collect?v=1", "https://site.test/", "ping"),
        "the lists are in force"
    );
    let mut addresses: BTreeSet<(String, &str)> = [
        ("", "document"),
        ("/opt-out", "document"),
        ("/opt-in", "document"),
        ("/opt-in/confirm", "document"),
        ("/receipt/5358-K6S6-G4HH-2G5R", "document"),
        ("/assets/e.js", "script"),
        ("/assets/e.mjs", "script"),
        ("/assets/e.gif", "image"),
        ("/assets/e.css", "stylesheet"),
        ("/assets/page.css", "stylesheet"),
        ("/assets/icon.svg", "image"),
        ("/report", "ping"),
        ("/report", "csp_report"),
        ("/report", "xmlhttprequest"),
    ]
    .map(|(path, kind)| (format!("/privacy-choices{path}"), kind))
    .into();
    addresses.insert(("/.well-known/gpc.json".to_owned(), "xmlhttprequest"));
    // Whatever our markup refers to, beside what is listed here.
    let origin = Origin::start().on("/", |x| x.ok("text/html", PAGE));
    let proxy = proxy().to(&origin).run();
    let listed = addresses.len();
    for (_, page) in pages(&proxy) {
        let ours = ["href", "src", "action"].map(|name| words(&page, name)).concat();
        let ours = ours.into_iter().filter(|path| path.starts_with("/privacy-choices/assets/"));
        addresses.extend(
            ours.flat_map(|path| {
                ["script", "image", "stylesheet", "other"].map(|kind| (path.to_owned(), kind))
            }),
        );
    }
    assert!(addresses.len() > listed, "our pages refer to files of ours");
    for (path, kind) in addresses {
        for site in ["https://site.test", "https://www.shop.example", "http://127.0.0.1:8080"] {
            let url = format!("{site}{path}");
            assert!(!blocks(&url, &format!("{site}/"), kind), "{url} as {kind}");
        }
    }
}
