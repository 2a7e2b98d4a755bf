//! Real saved pages through the proxy, judged by [`super::support::checker`].

use std::path::Path;

use encoding_rs::{Encoding, UTF_8, UTF_16LE, WINDOWS_1252};
use url::Url;

use super::support::beside;
use super::support::checker::{Class, Comparison, Page, Trackers, without_injected};
use super::support::client::Response;
use super::support::dom::{Element, parse};
use super::support::origin::Origin;
use super::support::proxy::{Proxy, proxy};

/// One page of the corpus.
pub struct Saved {
    /// Its name there.
    pub file: String,
    /// The host that it was saved from.
    pub host: String,
    bytes: Vec<u8>,
    encoding: &'static Encoding,
}

impl Saved {
    /// UTF-16 names itself in the header; all others are served without a charset.
    fn content_type(&self) -> &'static str {
        if self.encoding == UTF_16LE { "text/html; charset=utf-16le" } else { "text/html" }
    }

    fn url(&self) -> Url {
        Url::parse(&format!("http://{}/{}", self.host, self.file)).unwrap()
    }

    /// What a browser reads.
    pub fn text(&self) -> String {
        self.encoding.decode_with_bom_removal(&self.bytes).0.into_owned()
    }

    /// The answer's text: UTF-16 comes back as UTF-8, everything else as it was.
    fn answer_text(&self, answer: &Response) -> String {
        let encoding = if self.encoding == UTF_16LE { UTF_8 } else { self.encoding };
        encoding.decode_with_bom_removal(&answer.body).0.into_owned()
    }
}

/// The pages; `None`, after a line that says so, where they are not.
pub fn corpus(test: &str) -> Option<Vec<Saved>> {
    let folder = beside("corpus", test)?;
    let index = std::fs::read_to_string(folder.join("index.tsv")).unwrap();
    Some(index.lines().skip(1).map(|line| saved(&folder, line)).collect())
}

fn saved(folder: &Path, line: &str) -> Saved {
    let columns: Vec<_> = line.split('\t').collect();
    let bytes = std::fs::read(folder.join(columns[0])).unwrap();
    let nuls = bytes.iter().filter(|b| **b == 0).count();
    // Any reading will do that keeps ASCII apart: both sides are read alike.
    let encoding = if nuls > bytes.len() / 4 {
        UTF_16LE
    } else if columns[7].contains("utf-8") && !columns[7].contains("not utf-8") {
        UTF_8
    } else {
        WINDOWS_1252
    };
    let host = if columns[8].is_empty() { "site.test" } else { columns[8] };
    Saved { file: columns[0].to_owned(), host: host.to_owned(), bytes, encoding }
}

/// An origin with these pages, and Optgate in front of it.
pub fn serve(pages: &[Saved]) -> (Origin, Proxy) {
    let mut origin = Origin::start();
    for page in pages {
        let (bytes, content_type) = (page.bytes.clone(), page.content_type());
        origin = origin.on(&format!("/{}", page.file), move |x| x.ok(content_type, &bytes));
    }
    let proxy = proxy().to(&origin).run();
    (origin, proxy)
}

fn fetch(proxy: &Proxy, page: &Saved, signal: &str) -> Response {
    let mut client = proxy.client();
    client.send(format!(
        "GET /{} HTTP/1.1\r\nHost: {}\r\nAccept: text/html\r\nSec-Fetch-Dest: document\r\n{signal}\r\n",
        page.file, page.host
    ));
    client.response("GET")
}

/// Pages nest deeply; a test's own thread has a small stack.
fn with_a_deep_stack(work: impl FnOnce() + Send + 'static) {
    let thread = std::thread::Builder::new().stack_size(256 << 20).spawn(work).unwrap();
    if let Err(panic) = thread.join() {
        std::panic::resume_unwind(panic);
    }
}

/// Figures of the whole corpus.
#[derive(Default)]
struct Report {
    pages: usize,
    before: usize,
    left: usize,
    residue: Vec<String>,
    unexplained: Vec<String>,
    scripts_left: usize,
}

impl Report {
    fn judge(&mut self, trackers: &Trackers, saved: &Saved, answer: &Response) {
        self.pages += 1;
        let file = &saved.file;
        if answer.status() != 200 {
            self.unexplained.push(format!("{file}: status {}", answer.status()));
            return;
        }
        let (before, after) = (saved.text(), saved.answer_text(answer));
        for scripting in [false, true] {
            let (old, new) = (parse(&before, scripting), parse(&after, scripting));
            let page = Page::of(&saved.url(), &old);
            let left = trackers.stripped(&Page::of(&saved.url(), &new), &new);
            self.residue.extend(left.iter().map(|r| {
                format!("{file} (scripting {scripting}): <{} {}={:?}> {}", r.element, r.attr, r.url, r.vendor)
            }));
            let mut comparison = Comparison { trackers, page: &page, unexplained: Vec::new() };
            comparison.compare(&without_injected(&old), &without_injected(&new), "");
            let found = comparison.unexplained.into_iter();
            self.unexplained.extend(found.map(|d| format!("{file} (scripting {scripting}): {d}")));
            if !scripting {
                self.before += trackers.stripped(&page, &old).len();
                self.left += left.len();
                self.scripts_left += marked_scripts(trackers, &new);
            }
        }
    }

    fn print(&self) {
        println!(
            "corpus: {} pages, {} sale/share references neutralised, {} left, {} DOM differences unexplained, \
             {} inline scripts with a sale/share marker left to the guard",
            self.pages,
            self.before.saturating_sub(self.left),
            self.left,
            self.unexplained.len(),
            self.scripts_left
        );
    }
}

fn marked_scripts(trackers: &Trackers, root: &Element) -> usize {
    let mut count = 0;
    root.walk(&mut |element| {
        let runs =
            element.attr("type").is_none_or(|t| t.is_empty() || t.contains("javascript") || t == "module");
        let marked = element.name == "script" && runs && trackers.marked(&element.text(), Class::SaleShare);
        count += usize::from(marked);
    });
    count
}

fn first_few(offenders: &[String]) -> String {
    offenders.iter().take(25).map(|line| format!("\n  {line}")).collect()
}

/// With the signal no element refers to a sale/share host, scripting on or off, and the
/// rest of the page is what it was.
#[test]
fn no_page_of_the_corpus_keeps_a_reference_to_a_stripped_host() {
    const TEST: &str = "corpus with the signal";
    let (Some(pages), Some(json)) = (corpus(TEST), beside("reference/trackers.json", TEST)) else { return };
    with_a_deep_stack(move || judge_all(&pages, &json));
}

fn judge_all(pages: &[Saved], json: &Path) {
    let trackers = Trackers::read(json);
    let (_origin, proxy) = serve(pages);
    let mut report = Report::default();
    for page in pages {
        let answer = fetch(&proxy, page, "Sec-GPC: 1\r\n");
        report.judge(&trackers, page, &answer);
    }
    report.print();
    assert!(report.before > 0, "the judge sees no tracker in the corpus: it is blind");
    let faults = [("references left", &report.residue), ("differences unexplained", &report.unexplained)];
    let found = faults.map(|(what, list)| format!("{} {what}:{}", list.len(), first_few(list)));
    assert!(faults.iter().all(|(_, list)| list.is_empty()), "{}", found.join("\n"));
}

/// Without the signal every page is byte-identical apart from the one insertion.
#[test]
fn a_page_without_the_signal_is_unchanged_but_for_one_insertion() {
    let Some(pages) = corpus("corpus without the signal") else { return };
    let (_origin, proxy) = serve(&pages);
    let (mut inserted, mut wrong) = (0, Vec::new());
    for page in &pages {
        let answer = fetch(&proxy, page, "");
        let (before, after) = if page.encoding == UTF_16LE {
            (page.text().into_bytes(), page.answer_text(&answer).into_bytes())
        } else {
            (page.bytes.clone(), answer.body.clone())
        };
        match insertion(&before, &after) {
            Some("") => {}
            Some(text) if is_link_line(text) => inserted += 1,
            other => wrong.push(format!("{}: status {}, {:?}", page.file, answer.status(), other)),
        }
    }
    println!(
        "corpus: {} pages without the signal, {inserted} with the link inserted, {} changed",
        pages.len(),
        wrong.len()
    );
    assert!(inserted > pages.len() / 2, "the link is on {inserted} of {} pages only", pages.len());
    assert!(wrong.is_empty(), "{} pages changed:{}", wrong.len(), first_few(&wrong));
}

/// What was inserted at one place; `None` when more than that differs or the insertion is not ASCII.
fn insertion<'a>(before: &[u8], after: &'a [u8]) -> Option<&'a str> {
    let prefix = before.iter().zip(after).take_while(|(a, b)| a == b).count();
    let suffix =
        before[prefix..].iter().rev().zip(after[prefix..].iter().rev()).take_while(|(a, b)| a == b).count();
    if prefix + suffix < before.len() {
        return None;
    }
    let text = &after[prefix..after.len() - suffix];
    if text.is_ascii() { std::str::from_utf8(text).ok() } else { None }
}

/// The insertion is the line with the link, the keeper behind it, and nothing else. The common prefix may have eaten its
/// first bytes when they stand in the page too, so only its middle is certain.
fn is_link_line(text: &str) -> bool {
    text.contains("ogc-line")
        && text.matches("<a ").count() == 1
        && text.contains("Do Not Sell or Share My Personal Information</a>")
        && !text.contains("Opt-Out Request Honored")
        && text.matches("<script").count() == text.matches("</p><script data-optgate=\"keeper\">").count()
}

/// The judge, which shares nothing with the rewriter, sees a tracker in the vectors that
/// it reads before, and none in any expected page.
#[test]
fn the_judge_finds_nothing_left_in_the_expected_pages_of_the_fixtures() {
    let Some(json) = beside("reference/trackers.json", "the judge of fixtures") else { return };
    let trackers = Trackers::read(&json);
    let url = Url::parse("https://shop.example/page").unwrap();
    let (mut before, mut left) = (0, Vec::new());
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/html");
    for case in std::fs::read_dir(folder).unwrap().map(|e| e.unwrap().path()).filter(|p| p.is_dir()) {
        let plan = std::fs::read_to_string(case.join("plan.txt")).unwrap_or_default();
        if plan.contains("opted-out no") || plan.contains("page ") {
            continue;
        }
        for scripting in [false, true] {
            let references = |file: &str| {
                let bytes = std::fs::read(case.join(file)).unwrap();
                let tree = parse(&String::from_utf8_lossy(&bytes), scripting);
                trackers.stripped(&Page::of(&url, &tree), &tree)
            };
            before += usize::from(!references("input.html").is_empty());
            let name = case.file_name().unwrap().to_string_lossy();
            left.extend(references("expected.html").iter().map(|r| format!("{name} ({scripting}): {r:?}")));
        }
    }
    println!("fixtures: the judge sees a tracker in {before} inputs, {} references left", left.len());
    assert!(before > 80, "the judge sees a tracker in {before} inputs only");
    assert!(left.is_empty(), "{} left:{}", left.len(), first_few(&left));
}

/// The judge itself: it must see what it is to judge.
#[test]
fn the_judge_sees_references_and_differences() {
    let Some(json) = beside("reference/trackers.json", "the judge") else { return };
    let trackers = Trackers::read(&json);
    let url = Url::parse("http://site.test/").unwrap();
    let seen = [
        r#"<script src="https://connect.facebook.net/en_US/fbevents.js"></script>"#,
        r#"<script src="https&#58;//connect.facebook.net/en_US/fbevents.js"></script>"#,
        r#"<img src="//www.facebook.com/tr?id=1&noscript=1">"#,
        r#"<img src="\\www.facebook.com\tr?id=1">"#,
        r#"<img srcset="/a.png 1x, https://www.facebook.com/tr?id=1 2x">"#,
        r#"<link rel="dns-prefetch" href="//connect.facebook.net">"#,
        r#"<svg><image xlink:href="https://www.facebook.com/tr?id=1"/></svg>"#,
        r#"<template><img data-src="https://www.facebook.com/tr?id=1"></template>"#,
        r#"<meta http-equiv="refresh" content="0; url='https://www.facebook.com/tr?id=1'">"#,
        r#"<a ping="/own https://www.facebook.com/tr?id=1" href="/x">x</a>"#,
        r#"<noscript><img src="https://www.facebook.com/tr?id=1"></noscript>"#,
        r#"<p style="background:url(&quot;https://www.facebook.com/tr?id=1&quot;)">x</p>"#,
        r#"<p style="background:u\72l(//www.faceboo\6b .com/tr)">x</p>"#,
        r#"<svg><path fill="url(//www.facebook.com/tr)"/></svg>"#,
        r#"<style>@import "//www.facebook.com/tr";</style>"#,
        r#"<svg><image href="/x"><set attributeName="href" to="//www.facebook.com/tr"/></image></svg>"#,
        r#"<iframe srcdoc="<img src=//www.facebook.com/tr>"></iframe>"#,
        r#"<iframe src="data:text/html,<img src=//www.facebook.com/tr>"></iframe>"#,
        r#"<a href="javascript:fbq('init',1)">x</a>"#,
        r#"<p onclick="fbq('init',1)">x</p>"#,
        r#"<script type="importmap">{"imports":{"a":"//www.facebook.com/tr"}}</script>"#,
        r#"<meta http-equiv="refresh" content="0 //www.facebook.com/tr">"#,
    ];
    for html in seen {
        let tree = parse(html, false);
        assert_eq!(trackers.stripped(&Page::of(&url, &tree), &tree).len(), 1, "{html}");
    }
    let unseen = [
        r#"<a href="https://www.facebook.com/tr?id=1">x</a>"#,
        r#"<img src="/proxy?url=https://www.facebook.com/tr">"#,
        r#"<img src="https://www.facebook.com.site.test/tr">"#,
    ];
    for html in unseen {
        let tree = parse(html, false);
        assert!(trackers.stripped(&Page::of(&url, &tree), &tree).is_empty(), "{html}");
    }
    let differs = |before: &str, after: &str| {
        let (before, after) = (parse(before, true), parse(after, true));
        let page = Page::of(&url, &before);
        let mut comparison = Comparison { trackers: &trackers, page: &page, unexplained: Vec::new() };
        comparison.compare(&without_injected(&before), &without_injected(&after), "");
        !comparison.unexplained.is_empty()
    };
    let pixel = r#"<p>a<img src="https://www.facebook.com/tr?id=1">b</p>"#;
    let neutral = r#"<p>a<img src="/privacy-choices/assets/e.gif" data-optgate="strip:meta-pixel">b</p>"#;
    assert!(!differs(pixel, neutral));
    assert!(differs(
        "<p>a<img src=/b.png>",
        "<p>a<img src=/privacy-choices/assets/e.gif data-optgate=strip:x>"
    ));
    assert!(differs("<p>a</p><p>b</p>", "<p>a</p>"));
    assert!(differs("<p>a</p>", "<p>a</p><b>c</b>"));
    assert!(differs("<script>var own = 1;</script>", "<script>/* optgate strip:x */</script>"));
    assert!(!differs("<p>a</p>", "<p>a</p><p class=ogc-line><a href=/privacy-choices>Do Not</a></p>"));
}
