//! Real frameworks in a real browser: pages that React renders on a server and takes over whole, `<html>` and all.

use std::sync::Arc;
use std::time::Duration;

use super::browser_keeper::LINK_COMES_BACK;
use super::support::browser::{Browser, Outcome, SIGNAL};
use super::support::leaks::Judge;
use super::support::npm::Packages;
use super::support::origin::Origin;
use super::support::proxy::{Proxy, proxy};

const SOON: Duration = Duration::from_secs(5);

/// Host that nobody strips.
const TWIN: &str = "neutral.test";

/// React's pages, by what is particular about them.
const KINDS: [&str; 3] = ["plain", "footer", "mismatch"];

/// As React Router names it.
const ENTRY: &str = "/assets/entry.client-made.js";

/// Renders the pages of one version of React; gives the site.
fn react(packages: &Packages, version: &str) -> Origin {
    let built = packages.built(&format!("react-{version}"));
    let alias = ["react", "react-dom"].map(|name| format!("--alias:{name}={name}-{version}"));
    let alias: Vec<_> = if version == "18" { alias.iter().map(String::as_str).collect() } else { Vec::new() };
    let entry = |name: &str| [packages.source("react").join(name)];
    packages.bundle(&entry("server.jsx"), &built, &[&["--platform=node"], &alias[..]].concat());
    packages.bundle(&entry("client.jsx"), &built, &[&["--minify", "--format=esm"], &alias[..]].concat());
    packages.node(&built.join("server.js"), &[built.as_os_str(), ENTRY.as_ref()]);
    let client = std::fs::read(built.join("client.js")).unwrap();
    let mut site = Origin::start()
        .on(ENTRY, move |x| x.ok("text/javascript", &client))
        .on("/early.js", |x| x.ok("text/javascript", b""));
    for kind in KINDS {
        let page = std::fs::read(built.join(kind).with_extension("html")).unwrap();
        site = site.on(&format!("/{kind}"), move |x| x.ok("text/html; charset=utf-8", &page));
    }
    site
}

/// One visit.
struct Visit {
    outcome: Outcome,
    /// How often the link was there: after hydration and after each rendering since.
    links: Vec<u64>,
    shown: String,
    step: String,
}

/// Opens a page, has React render it anew twice, and counts links by `look` each time.
fn visit(browser: &Arc<Browser>, proxy: &Proxy, fields: &str, kind: &str, look: &str) -> Visit {
    let mut tab = browser.tab(proxy.addr(), fields);
    tab.open(&format!("https://site.test/{kind}"));
    let count = |before: &str| tab.eval(&format!("{before}; {look}")).unwrap().as_u64().unwrap();
    let links = ["0", "next()", "next()"].map(count);
    let twin = format!("https://{TWIN}/own.gif?step=2");
    assert!(tab.sink.wait(SOON, |entry| entry.url.as_str() == twin), "{kind}, {fields}: {:?}", tab.outcome());
    tab.rest(SOON);
    Visit {
        outcome: tab.outcome(),
        links: links.to_vec(),
        shown: tab.text("document.body.innerText"),
        step: tab.text("document.documentElement.dataset.step"),
    }
}

/// React 18 and 19 hydrate a document of which everything is theirs. It leaks nothing with
/// the signal, keeps the link and the status through hydration and what is rendered afterwards, and nothing of ours is a
/// mismatch: React says nothing that it does not say of the page as the origin sent it.
#[test]
fn a_page_that_is_reacts_from_its_root_on_hydrates_keeps_the_link_and_leaks_nothing() {
    const TEST: &str = "a_page_that_is_reacts_from_its_root_on_hydrates_keeps_the_link_and_leaks_nothing";
    let Some(browser) = Browser::shared(TEST) else { return };
    let Some(packages) = Packages::installed("bundled", TEST) else { return };
    let judge = Judge::new();
    let mut faults = Vec::new();
    for version in ["18", "19"] {
        let site = react(&packages, version);
        let [plain, enforcing] = ["mode = \"observe\"\n", ""].map(|mode| proxy().to(&site).toml(mode).run());
        for kind in KINDS {
            let control = visit(&browser, &plain, "", kind, "0");
            let leaks = judge.leaks(&control.outcome).len();
            assert!(leaks > 0 && control.step == "2", "React {version}, {kind}: {:?}", control.outcome);
            assert_eq!(control.outcome.exceptions.is_empty(), kind != "mismatch", "{:?}", control.outcome);
            for (visitor, fields) in [("every visitor", ""), ("an opted-out visitor", SIGNAL)] {
                let Visit { outcome, links, shown, step } =
                    visit(&browser, &enforcing, fields, kind, LINK_COMES_BACK);
                let mut fault = |what: String| {
                    faults.push(format!("\n  React {version}, {kind}, {visitor}: {what}"));
                };
                let (broken, found) = (outcome.new_exceptions(&control.outcome), judge.leaks(&outcome));
                println!(
                    "React {version}, {kind}, {visitor}: control: {leaks} leaks, here: {}; {} new exceptions",
                    found.len(),
                    broken.len()
                );
                if !outcome.finished || step != "2" {
                    fault(format!("came to step {step} only"));
                }
                if links != [1, 1, 1] {
                    fault(format!("links {links:?}"));
                }
                if shown.contains("Request Honored") == fields.is_empty() {
                    fault(format!("shows {shown:?}"));
                }
                if !broken.is_empty() || outcome.errors.len() > control.outcome.errors.len() {
                    fault(format!("breaks: {broken:?} {:?}", outcome.errors));
                }
                if !fields.is_empty() && !found.is_empty() {
                    fault(format!("leaks {found:?}"));
                }
            }
        }
    }
    assert!(faults.is_empty(), "{}", faults.concat());
}
