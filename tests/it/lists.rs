//! The operator's filter lists: what they add, what they never touch, and how a changed one is taken.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::support::origin::{Origin, answer};
use super::support::proxy::{Builder, Proxy, proxy};
use super::support::{DEADLINE, beside};

const GPC: &str = "Accept: text/html\r\nSec-Fetch-Dest: document\r\nSec-GPC: 1\r\nOptgate-Explain: 1\r\n";

const PAGE: &str = "<!doctype html><html><head><title>t</title>\
    <link rel=preconnect href=https://ads.unlisted.example>\
    <script src=https://ads.unlisted.example/tag.js></script></head><body>\
    <img src=https://ads.unlisted.example/pixel.gif>\
    <img srcset=\"/own.png 1x, https://ads.unlisted.example/big.png 2x\">\
    <iframe src=https://frames.unlisted.example/ad.html></iframe>\
    <style>p{background:url(https://ads.unlisted.example/bg.png)}</style>\
    <script src=https://js.stripe.com/v3/></script>\
    <script src=https://static.hotjar.com/c/hotjar-1.js></script>\
    <script src=https://connect.facebook.net/en_US/fbevents.js></script>\
    <script src=https://static.site.test/banner/own.js></script>\
    <script src=/banner/own.js></script>\
    <img src=https://cdn.unlisted.example/banner/shoe.png>\
    </body></html>";

/// An origin with the page, under a `Link` header.
fn origin() -> Origin {
    let fields = "Content-Type: text/html\r\nETag: \"abc\"\r\n\
                  Link: <https://ads.unlisted.example/early.js>; rel=preload; as=script, </own.css>; rel=preload\r\n";
    Origin::start().answers("/", answer(fields, PAGE))
}

/// A list file in the builder's folder.
fn list(builder: &Builder, name: &str, text: &str) -> PathBuf {
    let file = builder.dir().join(name);
    std::fs::write(&file, text).unwrap();
    file
}

/// Settings that watch their lists closely.
fn with_lists(origin: &Origin, files: &[(&str, &str, &str)]) -> Builder {
    with_checks(origin, files, "")
}

/// The same with more of `[lists_check]`.
fn with_checks(origin: &Origin, files: &[(&str, &str, &str)], checks: &str) -> Builder {
    let builder = proxy().to(origin);
    let lists: Vec<String> = files
        .iter()
        .map(|(name, role, text)| {
            list(&builder, name, text);
            format!("{{ file = {name:?}, role = {role:?} }}")
        })
        .collect();
    builder.toml(&format!("lists = [{}]\n[lists_check]\nevery = \"20ms\"\n{checks}", lists.join(", ")))
}

fn page(proxy: &Proxy) -> String {
    proxy.get("/", GPC).text()
}

/// A figure of `/metrics`; 0 while it is not there.
fn figure(proxy: &Proxy, name: &str) -> f64 {
    let text = proxy.running().metrics().render();
    let line = text.lines().find(|line| line.starts_with(name));
    line.and_then(|line| line.rsplit(' ').next()?.parse().ok()).unwrap_or(0.0)
}

/// Waits until a counter has been counted up.
fn wait_for(proxy: &Proxy, counter: &str) {
    let start = Instant::now();
    while figure(proxy, counter) == 0.0 {
        assert!(start.elapsed() < DEADLINE, "{counter} was never counted");
        std::thread::park_timeout(Duration::from_millis(5));
    }
}

/// Writes a file whole, as a careful updater does.
fn replace(file: &Path, text: &[u8]) {
    let new = file.with_extension("new");
    std::fs::write(&new, text).unwrap();
    std::fs::rename(&new, file).unwrap();
}

/// The message that a start with these lists and checks is refused with, the folder's name taken out.
fn refusal(files: &[(&str, &str, &str)], checks: &str) -> String {
    let origin = origin();
    let builder = with_checks(&origin, files, checks);
    let folder = builder.dir().display().to_string();
    let error = builder.try_run().err().expect("this must be refused");
    format!("{error:#}").replace(&format!("{folder}/"), "")
}

/// A list adds strip candidates, in markup and in headers, under the vendor `operator-list`.
#[test]
fn what_only_a_list_names_is_stripped_and_counted_as_the_operators() {
    let origin = origin();
    let rules = "||ads.unlisted.example^\n||frames.unlisted.example^$subdocument\n";
    let proxy = with_lists(&origin, &[("ads.txt", "block", rules)]).run();
    let answer = proxy.get("/", GPC);
    let text = answer.text();
    assert!(!text.contains("unlisted.example/tag.js") && !text.contains("/pixel.gif"), "{text}");
    assert!(!text.contains("ads.unlisted.example") && !text.contains("frames.unlisted.example"), "{text}");
    assert!(text.contains("srcset=\"/own.png 1x\""), "{text}");
    assert!(text.contains("data-optgate=\"strip:operator-list\""), "{text}");
    assert!(text.contains("cdn.unlisted.example/banner/shoe.png"), "{text}");
    assert_eq!(answer.head.all("link"), ["</own.css>; rel=preload"]);
    let why = answer.head.one("optgate-why").unwrap();
    assert!(why.contains("; operator-list=") && why.ends_with(" rules=2"), "{why}");
    let counted = "optgate_elements_neutralised_total{vendor=\"operator-list\",action=\"strip\"}";
    wait_for(&proxy, counted);
    assert_eq!(figure(&proxy, counted), 6.0);
    let without = proxy.get("/", "Accept: text/html\r\nSec-Fetch-Dest: document\r\n").text();
    assert!(without.contains("https://ads.unlisted.example/tag.js"), "lists are for an opted-out visitor");
}

/// Some editors begin a file with it.
#[test]
fn a_lists_first_rule_counts_behind_a_byte_order_mark() {
    let origin = origin();
    let mark = "\u{feff}||ads.unlisted.example^\n";
    assert!(
        !page(&with_lists(&origin, &[("ads.txt", "block", mark)]).run()).contains("src=https://ads.unlisted")
    );
    let files = [("ads.txt", "block", "||ads.unlisted.example^\n"), ("ours.txt", "allow", mark)];
    assert!(page(&with_lists(&origin, &files).run()).contains("src=https://ads.unlisted"));
}

/// The request type is that of the element, and the page's host is the source.
#[test]
fn a_rules_type_and_domain_options_are_asked_of_the_element_and_the_page() {
    let origin = origin();
    let rules = "||ads.unlisted.example^$script\n||frames.unlisted.example^$domain=other.test\n\
                 ||cdn.unlisted.example^$image,domain=site.test\n";
    let proxy = with_lists(&origin, &[("ads.txt", "block", rules)]).run();
    let text = page(&proxy);
    assert!(!text.contains("tag.js"), "{text}");
    assert!(text.contains("ads.unlisted.example/pixel.gif"), "an image is no script: {text}");
    assert!(text.contains("frames.unlisted.example/ad.html"), "the rule is for another site: {text}");
    assert!(!text.contains("cdn.unlisted.example"), "{text}");
}

/// Never overrides essential or allow, nor what is the site's own.
#[test]
fn a_list_overrides_neither_the_registry_nor_the_sites_own_addresses() {
    let origin = origin();
    let rules = "||hotjar.com^\n||connect.facebook.net^\n/banner/*\n||stripe.com^$domain=~site.example\n\
                 ||unlisted.example^$domain=nowhere.test\n";
    let settings = "[[sites]]\nhosts = [\"site.test\", \"*.site.test\"]\n";
    let builder = proxy();
    list(&builder, "ads.txt", rules);
    let proxy = builder
        .toml(&format!(
            "lists = {{ file = \"ads.txt\" }}\n{settings}upstream = {:?}\n[sites.vendors]\nhotjar = \"allow\"\n",
            origin.url()
        ))
        .run();
    let text = page(&proxy);
    assert!(text.contains("https://js.stripe.com/v3/"), "essential: {text}");
    assert!(text.contains("static.hotjar.com"), "allowed by the operator: {text}");
    assert!(!text.contains("connect.facebook.net"), "the registry strips as before: {text}");
    assert!(text.contains("strip:meta-pixel"), "under its own name: {text}");
    assert!(
        text.contains("https://static.site.test/banner/own.js"),
        "another host of the site's own: {text}"
    );
    assert!(text.contains("src=/banner/own.js"), "{text}");
    assert!(!text.contains("cdn.unlisted.example/banner"), "{text}");
}

/// The roles: what an allow list matches stays, even against `$important`; exceptions in a blocking list hold.
#[test]
fn an_allow_list_excepts_and_so_does_an_exception() {
    let origin = origin();
    let block =
        "||ads.unlisted.example^$important\n||cdn.unlisted.example^\n@@||cdn.unlisted.example/banner/\n";
    let allow = "@@||ads.unlisted.example/pixel.gif\n||ads.unlisted.example^$script\n";
    let proxy = with_lists(&origin, &[("ads.txt", "block", block), ("own.txt", "allow", allow)]).run();
    let text = page(&proxy);
    assert!(text.contains("ads.unlisted.example/pixel.gif"), "{text}");
    assert!(text.contains("ads.unlisted.example/tag.js"), "{text}");
    assert!(text.contains("cdn.unlisted.example/banner/shoe.png"), "{text}");
    assert!(!text.contains("ads.unlisted.example/big.png"), "{text}");
}

/// Policy stands over lists: a site can keep what they name, and it is counted as allowed.
#[test]
fn what_lists_name_can_be_allowed_like_any_vendor() {
    let origin = origin();
    let files = [("ads.txt", "block", "||ads.unlisted.example^\n")];
    let proxy = with_lists(&origin, &files).toml("[vendors]\noperator-list = \"allow\"\n").run();
    assert!(page(&proxy).contains("ads.unlisted.example/tag.js"));
    wait_for(&proxy, "optgate_elements_neutralised_total{vendor=\"operator-list\",action=\"allow\"}");
}

/// Wrong at start is refused, with file, line and what to do.
#[test]
fn a_bad_file_at_start_is_refused_with_file_and_line() {
    let good = "||ads.unlisted.example^\n";
    for (text, expected) in [
        ("\n<!DOCTYPE html><html><body>Sign in</body></html>\n", "ads.txt:2: this is a web page"),
        ("! a list\n||ads.example^\n\0\0\n", "ads.txt:3: this is no text"),
        (
            "! hosts\n0.0.0.0 ads.example\n0.0.0.0 b.example\n||c.example^\n",
            "ads.txt:2: this is no filter list: `0.0.0.0 ads.example`",
        ),
        ("||a.example^$nonsense\n||b.example^$more\n||c.example^\n", "ads.txt:1: this is no filter list"),
        ("! only words\nexample.com##.ad\n", "ads.txt: the list holds no rule about requests"),
    ] {
        let said = refusal(&[("good.txt", "block", good), ("ads.txt", "block", text)], "");
        assert!(said.starts_with(expected) && said.contains("\n  next: "), "{said}");
    }
    let comments =
        with_lists(&origin(), &[("ads.txt", "block", good), ("own.txt", "allow", "! nothing yet\n")]);
    assert!(comments.try_run().is_ok(), "an allow list may be empty");
}

/// Refused when it fails its canary URLs; the rule to blame is named.
#[test]
fn lists_that_fail_a_canary_are_refused_at_start() {
    let over = [("ads.txt", "block", "! over-broad\n/privacy-choices/*\n")];
    let said = refusal(&over, "");
    assert!(
        said.starts_with("ads.txt:2: the lists would block https://site.example/privacy-choices/"),
        "{said}"
    );
    assert!(said.contains("by `/privacy-choices/*`"), "{said}");
    let said = refusal(&[("ads.txt", "block", "||stripe.com^\n")], "");
    assert!(said.contains("would block https://js.stripe.com/v3/"), "{said}");
    let mine = [("ads.txt", "block", "||ads.unlisted.example^$script\n")];
    let said = refusal(&mine, "must_not_match = \"https://ads.unlisted.example/needed.js\"\n");
    assert!(said.contains("would block https://ads.unlisted.example/needed.js"), "{said}");
    let said =
        refusal(&mine, "must_match = [\"https://ads.unlisted.example/a.js\", \"https://other.example/\"]\n");
    assert!(said.starts_with("ads.txt: the lists do not block https://other.example/"), "{said}");
}

/// Swapped without a restart; the tags of rewritten pages change with the lists.
#[test]
fn a_changed_file_is_taken_without_a_restart_and_changes_the_tag() {
    let origin = origin();
    let builder = with_lists(&origin, &[("ads.txt", "block", "||ads.unlisted.example^\n")]);
    let file = builder.dir().join("ads.txt");
    let proxy = builder.run();
    let before = proxy.get("/", GPC);
    assert!(before.text().contains("cdn.unlisted.example/banner"));
    replace(&file, b"||ads.unlisted.example^\n||cdn.unlisted.example^\n");
    wait_for(&proxy, "optgate_list_changes_total{result=\"taken\"}");
    let after = proxy.get("/", GPC);
    assert!(!after.text().contains("cdn.unlisted.example/banner"), "{}", after.text());
    assert!(!after.text().contains("ads.unlisted.example"));
    let (old, new) = (before.head.one("etag").unwrap(), after.head.one("etag").unwrap());
    assert_ne!(old, new);
    // A page made under the old rules is never confirmed under the new ones.
    let asked = proxy.get("/", &format!("{GPC}If-None-Match: {old}\r\n"));
    assert_eq!(asked.status(), 200);
    assert!(figure(&proxy, "optgate_list_rules{file=") == 2.0);
}

/// Kept on failure, whatever is wrong, and said so.
#[test]
fn a_broken_shrunk_or_failing_file_leaves_the_old_one_in_force() {
    let many: String = (0..10).map(|id| format!("||ads{id}.example^\n")).collect();
    let rules = format!("||ads.unlisted.example^\n{many}");
    let longer = format!("/assets/*$script,stylesheet,image\n{rules}");
    for (bytes, reason) in [
        (&b"||ads.unlisted.example^\n\xff\xfe\n"[..], "malformed"),
        (b"||ads0.example^\n||ads1.example^\n", "shrunk"),
        (longer.as_bytes(), "canary"),
    ] {
        let origin = origin();
        let builder = with_lists(&origin, &[("ads.txt", "block", rules.as_str())]);
        let file = builder.dir().join("ads.txt");
        let proxy = builder.run();
        let before = proxy.get("/", GPC);
        replace(&file, bytes);
        wait_for(&proxy, &format!("optgate_list_changes_total{{result={reason:?}}}"));
        let after = proxy.get("/", GPC);
        assert_eq!(
            (after.text(), after.head.one("etag")),
            (before.text(), before.head.one("etag")),
            "{reason}"
        );
        // The next good one is taken.
        replace(&file, format!("{rules}||cdn.unlisted.example^\n").as_bytes());
        wait_for(&proxy, "optgate_list_changes_total{result=\"taken\"}");
        assert!(!page(&proxy).contains("cdn.unlisted.example"), "{reason}");
    }
    let origin = origin();
    let builder = with_lists(&origin, &[("ads.txt", "block", rules.as_str())]);
    let file = builder.dir().join("ads.txt");
    let proxy = builder.run();
    std::fs::remove_file(&file).unwrap();
    wait_for(&proxy, "optgate_list_changes_total{result=\"unreadable\"}");
    assert!(!page(&proxy).contains("ads.unlisted.example"));
}

/// Lists of one site are for that site; those at the top are for all.
#[test]
fn a_sites_own_lists_are_added_to_those_of_all_sites() {
    let origin = origin();
    let builder = proxy();
    list(&builder, "all.txt", "||ads.unlisted.example^\n");
    list(&builder, "shop.txt", "||cdn.unlisted.example^\n");
    let site = |host: &str| format!("[[sites]]\nhosts = [{host:?}]\nupstream = {:?}\n", origin.url());
    let proxy = builder
        .toml(&format!(
            "lists = {{ file = \"all.txt\" }}\n{}lists = [{{ file = \"shop.txt\", role = \"block\" }}]\n{}",
            site("site.test"),
            site("blog.test")
        ))
        .run();
    let shop = page(&proxy);
    assert!(!shop.contains("ads.unlisted.example") && !shop.contains("cdn.unlisted.example"), "{shop}");
    let client = &mut proxy.client();
    client.send(format!("GET / HTTP/1.1\r\nHost: blog.test\r\n{GPC}\r\n"));
    let blog = client.response("GET").text();
    assert!(!blog.contains("ads.unlisted.example") && blog.contains("cdn.unlisted.example"), "{blog}");
}

/// Real lists load whole; a second look at the same page says the same from memory.
#[test]
fn the_published_lists_load_and_strip_what_the_registry_does_not_know() {
    let Some(folder) = beside("lists", "the_published_lists_load") else { return };
    let origin = Origin::start().on("/", |x| {
        x.ok(
            "text/html",
            b"<!doctype html><html><head><title>t</title></head><body>\
              <img src=https://example.org/photo.jpg>\
              <script src=https://cdn.example.net/app.js></script>\
              <img src=https://track.example.net/pixel/ad_banner_728x90/>\
              </body></html>",
        )
    });
    let files =
        ["easylist.txt", "easyprivacy.txt"].map(|name| format!("{{ file = {:?} }}", folder.join(name)));
    let proxy = proxy().to(&origin).toml(&format!("lists = [{}]\n", files.join(", "))).run();
    for _ in 0..2 {
        let text = page(&proxy);
        assert!(
            text.contains("https://example.org/photo.jpg") && text.contains("cdn.example.net/app.js"),
            "{text}"
        );
        assert!(!text.contains("track.example.net") && text.contains("strip:operator-list"), "{text}");
    }
    assert!(figure(&proxy, "optgate_list_rules{file=") > 10_000.0);
}
