//! Vendors as sites embed them, in a real browser: snippets of our own writing, and real saved pages.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::corpus::{Saved, corpus, serve};
use super::support::browser::{Browser, Outcome, SIGNAL};
use super::support::leaks::Judge;
use super::support::origin::Origin;
use super::support::proxy::proxy;

/// Pages opened side by side.
const AT_ONCE: usize = 3;

/// How long a page may be busy. Real pages may be so for ever.
const SOON: Duration = Duration::from_secs(5);

/// Every so many pages of the corpus one is opened, unless `OPTGATE_BROWSER_ALL=1`.
const SAMPLE: usize = 8;

/// One page, without and with the signal.
struct Pair {
    name: String,
    before: Vec<String>,
    after: Vec<String>,
    broken: Vec<String>,
    /// Of those: a name is missing that the page's own text defines.
    lost: Vec<String>,
}

/// A page to open: its name, host and address.
struct Page {
    name: String,
    host: String,
    url: String,
    text: String,
}

impl Page {
    /// Whether an exception is about a name that stands in the page itself. Others are defined by files
    /// that the sink answers without their content: no page has them, with or without the signal.
    fn defines(&self, exception: &str) -> bool {
        let Some((before, _)) = exception.split_once(" is not defined") else { return false };
        let name = before.rsplit(' ').next().unwrap_or_default();
        self.text.match_indices(name).any(|(at, _)| {
            let behind = self.text[at + name.len()..].trim_start();
            self.text[..at].ends_with("function ") || behind.starts_with('=') && !behind.starts_with("==")
        })
    }
}

fn visit(browser: &Arc<Browser>, addr: SocketAddr, page: &Page, fields: &str) -> Outcome {
    let mut tab = browser.tab_for(&[&page.host], addr, fields);
    tab.open(&page.url).rest(SOON);
    tab.outcome()
}

/// Opens all of them, several side by side.
fn visit_all(browser: &Arc<Browser>, addr: SocketAddr, pages: &[Page]) -> Vec<Pair> {
    let judge = Judge::new();
    let (next, pairs) = (Mutex::new(pages.iter()), Mutex::new(Vec::new()));
    std::thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            scope.spawn(|| {
                loop {
                    let Some(page) = next.lock().unwrap().next() else { return };
                    let control = visit(browser, addr, page, "");
                    let signal = visit(browser, addr, page, SIGNAL);
                    let (before, after) = (judge.leaks(&control), judge.leaks(&signal));
                    let broken = signal.new_exceptions(&control);
                    let lost = broken.iter().filter(|line| page.defines(line)).cloned().collect();
                    let pair = Pair { name: page.name.clone(), before, after, broken, lost };
                    pairs.lock().unwrap().push(pair);
                }
            });
        }
    });
    let mut pairs = pairs.into_inner().unwrap();
    pairs.sort_by(|a, b| a.name.cmp(&b.name));
    pairs
}

/// Lines of a list of faults.
fn lines(pairs: &[Pair], of: fn(&Pair) -> &Vec<String>) -> String {
    let lines = pairs.iter().flat_map(|pair| of(pair).iter().map(|fault| (&pair.name, fault)));
    lines.map(|(name, fault)| format!("\n  {name}: {fault}")).collect()
}

fn report(what: &str, pairs: &[Pair]) {
    for Pair { name, before, after, .. } in pairs {
        println!("{name}: control: {} leaks, with the signal: {}", before.len(), after.len());
    }
    println!(
        "{what}: {} pages, {} leaks without the signal, {} with it, {} pages throw something new, {} lost a name of \
         their own",
        pairs.len(),
        pairs.iter().map(|pair| pair.before.len()).sum::<usize>(),
        pairs.iter().map(|pair| pair.after.len()).sum::<usize>(),
        pairs.iter().filter(|pair| !pair.broken.is_empty()).count(),
        pairs.iter().filter(|pair| !pair.lost.is_empty()).count(),
    );
    println!("thrown with the signal only:{}", lines(pairs, |pair| &pair.broken));
}

/// The common vendors' snippets call nobody for an opted-out visitor, and the
/// page's own later calls of what they define do not fail.
#[test]
fn no_vendors_snippet_leaks_or_breaks_its_page() {
    let Some(browser) = Browser::shared("no_vendors_snippet_leaks_or_breaks_its_page") else { return };
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/browser/snippets");
    let mut site = Origin::start();
    let mut pages = Vec::new();
    for file in std::fs::read_dir(folder).unwrap() {
        let path = file.unwrap().path();
        let name = path.file_stem().unwrap().to_string_lossy().into_owned();
        let text = std::fs::read(&path).unwrap();
        site = site.on(&format!("/{name}"), move |x| x.ok("text/html", &text));
        let (host, url) = ("site.test".to_owned(), format!("https://site.test/{name}"));
        pages.push(Page { host, url, text: String::new(), name });
    }
    let proxy = proxy().to(&site).run();
    let pairs = visit_all(&browser, proxy.addr(), &pages);
    report("snippets", &pairs);
    let vain: Vec<_> = pairs.iter().filter(|pair| pair.before.is_empty()).map(|pair| &pair.name).collect();
    assert!(vain.is_empty(), "these call nobody even without the signal: {vain:?}");
    let leaks = lines(&pairs, |pair| &pair.after);
    assert!(leaks.is_empty(), "with the signal these are called:{leaks}");
    let broken = pairs.iter().filter(|pair| !pair.broken.is_empty());
    let broken: Vec<_> = broken.map(|pair| (&pair.name, &pair.broken)).collect();
    assert!(broken.is_empty(), "with the signal these break: {broken:?}");
}

/// Real saved pages call no strip-class host for an opted-out visitor, and lose
/// nothing that they define themselves. What else they throw is counted: the sink's empty scripts make much of
/// it, with and without the signal.
#[test]
fn no_page_of_the_corpus_leaks_in_a_browser() {
    const TEST: &str = "no_page_of_the_corpus_leaks_in_a_browser";
    let (Some(browser), Some(saved)) = (Browser::shared(TEST), corpus(TEST)) else { return };
    let step = if std::env::var_os("OPTGATE_BROWSER_ALL").is_some() { 1 } else { SAMPLE };
    let saved: Vec<Saved> = saved.into_iter().step_by(step).collect();
    let (_origin, proxy) = serve(&saved);
    let page = |saved: &Saved| Page {
        name: saved.file.clone(),
        host: saved.host.clone(),
        url: format!("http://{}/{}", saved.host, saved.file),
        text: saved.text(),
    };
    let pages: Vec<_> = saved.iter().map(page).collect();
    let pairs = visit_all(&browser, proxy.addr(), &pages);
    report("corpus in a browser", &pairs);
    assert!(pairs.iter().any(|pair| !pair.before.is_empty()), "no page calls anybody: the judge is blind");
    let leaks = lines(&pairs, |pair| &pair.after);
    assert!(leaks.is_empty(), "with the signal these are called:{leaks}");
    let lost = lines(&pairs, |pair| &pair.lost);
    assert!(lost.is_empty(), "with the signal these are missing:{lost}");
}
