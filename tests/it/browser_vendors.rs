//! Vendors' SDKs as sites bundle them: the packages themselves, in a page's own script, in a real browser. No address in
//! the page's markup says who is called.

use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use optgate::config::VendorAction;
use serde_json::Value;

use super::support::browser::{Browser, Entry, Outcome, SIGNAL};
use super::support::guard::default_policy;
use super::support::leaks::Judge;
use super::support::npm::Packages;
use super::support::origin::Origin;
use super::support::proxy::proxy;

/// How long a vendor may take to be called.
const SOON: Duration = Duration::from_secs(10);

/// Pages opened side by side.
const AT_ONCE: usize = 3;

/// SDKs that call the site's own host, below this path.
const OWN_HOST: [(&str, &str); 2] = [("vercel", "/_vercel/"), ("speed-insights", "/_vercel/")];

/// What ends otherwise in spite of all, and why.
const GAPS: [(&str, &str, &str); 3] = [
    ("rudderstack", "ready", "it begins with settings that only its vendor has, as behind a blocker"),
    ("rudderstack", "tracked", "it begins with settings that only its vendor has, as behind a blocker"),
    ("mparticle", "identified", "it waits for an identity that only its vendor gives, as behind a blocker"),
];

/// Cookies of Optgate: all others of these pages are their vendors'.
const OURS: [&str; 3] = ["optgate", "optgate-said-u", "usprivacy"];

/// What SDKs may leave in storage: the number of a tab, which ends with it.
const TABS: [&str; 3] = ["mp_tab_id_", "mp_gen_new_tab_id_", "_dd_tab_id"];

/// Whether the default policy of the registry strips what reached the sink.
fn stripped(entry: &Entry) -> bool {
    let (policy, url) = (default_policy(), &entry.url);
    let host = url.host_str().unwrap_or_default();
    let hit = match (entry.method.as_str(), entry.requests) {
        ("CONNECT", 0) => policy.match_host(host),
        ("CONNECT", _) => None,
        _ => policy.match_url(host, &url[url::Position::BeforePath..url::Position::AfterQuery]),
    };
    hit.is_some_and(|hit| hit.action == VendorAction::Strip)
}

/// By the registry, and by the reference, which knows other hosts.
fn leaks(judge: &Judge, outcome: &Outcome) -> Vec<String> {
    let mut found = judge.leaks(outcome);
    let ours = outcome.entries.iter().filter(|entry| stripped(entry));
    found.extend(ours.map(|entry| format!("{} {}", entry.method, entry.url)));
    let cookies = outcome.cookies.iter().filter(|(_, name, _)| !OURS.contains(&name.as_str()));
    found.extend(cookies.map(|(_, name, _)| format!("cookie {name}")));
    found.sort();
    found.dedup();
    found
}

/// One page, without and with the signal.
struct Pair {
    name: String,
    before: Vec<String>,
    after: Vec<String>,
    faults: Vec<String>,
}

/// What one visit saw.
struct Visit {
    outcome: Outcome,
    /// How what the SDK handed out ended, by name.
    ended: Value,
    /// Names in the page's storage.
    stored: Vec<String>,
    /// What the site's own host was asked of its vendor, below the path of [`OWN_HOST`].
    own: Vec<String>,
}

/// A site of one page, whose script is the vendor's bundle.
fn site(name: &str, script: &Path) -> Origin {
    let script = std::fs::read(script).unwrap();
    let page = format!("<!doctype html><title>{name}</title><h1>x</h1><script src=/bundle.js></script>");
    Origin::start()
        .on("/", move |x| x.ok("text/html", page.as_bytes()))
        .on("/bundle.js", move |x| x.ok("text/javascript; charset=utf-8", &script))
        .on("/after", |x| x.ok("text/html", b"<!doctype html><title>after</title>"))
        .on("/_vercel/speed-insights/script.js", |x| x.ok("text/javascript", b""))
        .on("/_vercel/insights/script.js", |x| x.ok("text/javascript", b"fetch('/_vercel/insights/view')"))
}

/// Opens the page, waits until its SDK is done, and leaves it: many send the rest then.
fn visit(browser: &Arc<Browser>, name: &str, script: &Path, fields: &str) -> Visit {
    let site = site(name, script);
    let proxy = proxy().to(&site).run();
    let own_path = OWN_HOST.iter().find(|(vendor, _)| *vendor == name).map(|(_, path)| *path);
    let mut tab = browser.tab(proxy.addr(), fields);
    tab.open("https://site.test/");
    if fields.is_empty() && own_path.is_none() {
        tab.sink.wait(SOON, stripped);
    }
    tab.rest(Duration::from_secs(2));
    let ended = tab.eval("window.ended").unwrap_or_default();
    let stored = tab.eval("[...Object.keys(localStorage), ...Object.keys(sessionStorage)]").unwrap();
    let stored = stored.as_array().unwrap().iter().map(|key| key.as_str().unwrap().to_owned()).collect();
    // What comes behind it would be the next page's.
    let seen = tab.outcome();
    tab.follow("location.href = '/after'");
    let outcome = Outcome { exceptions: seen.exceptions, errors: seen.errors, ..tab.outcome() };
    let asked = site.seen(site.heads()).into_iter().map(|request| request.line());
    let own = asked.filter(|line| own_path.is_some_and(|path| line.contains(path))).collect();
    Visit { outcome, ended, stored, own }
}

/// What is wrong with the page for an opted-out visitor.
fn faults(name: &str, control: &Visit, signal: &Visit) -> Vec<String> {
    let mut faults = signal.outcome.new_exceptions(&control.outcome);
    if !signal.outcome.finished {
        faults.push("never done".to_owned());
    }
    for (promise, end) in control.ended.as_object().into_iter().flatten() {
        let gap = GAPS.iter().any(|(vendor, known, _)| (*vendor, *known) == (name, promise));
        if end != "open" && signal.ended[promise] != *end && !gap {
            faults.push(format!("{promise} is {}, without the signal {end}", signal.ended[promise]));
        }
    }
    faults
}

fn try_one(browser: &Arc<Browser>, judge: &Judge, name: &str, script: &Path) -> Pair {
    let [control, signal] = ["", SIGNAL].map(|fields| visit(browser, name, script, fields));
    let [before, after] = [&control, &signal].map(|visit| {
        let kept = visit.stored.iter().filter(|key| !TABS.iter().any(|tab| key.starts_with(tab)));
        let kept = kept.map(|key| format!("storage {key}"));
        leaks(judge, &visit.outcome).into_iter().chain(kept).chain(visit.own.clone()).collect()
    });
    let faults = faults(name, &control, &signal);
    Pair { name: name.to_owned(), before, after, faults }
}

/// SDKs in a site's own bundle call nobody whom the registry strips, the page's script has
/// no error that it does not have without the signal, and what the SDK handed out ends as it does then.
#[test]
fn no_vendors_sdk_in_a_sites_own_bundle_leaks_or_breaks_its_page() {
    const TEST: &str = "no_vendors_sdk_in_a_sites_own_bundle_leaks_or_breaks_its_page";
    let Some(browser) = Browser::shared(TEST) else { return };
    let only = std::env::var("OPTGATE_VENDOR").unwrap_or_default();
    let sets: &[&str] =
        if std::env::var_os("OPTGATE_VENDORS_ALL").is_some() { &["bundled", "more"] } else { &["bundled"] };
    let name = |path: &Path| path.file_stem().unwrap().to_string_lossy().into_owned();
    let mut entries = Vec::new();
    for set in sets {
        let Some(packages) = Packages::installed(set, TEST) else { return };
        let files = std::fs::read_dir(packages.source("vendors")).unwrap().map(|file| file.unwrap().path());
        let own: Vec<_> = files.filter(|path| name(path) != "kit" && name(path).contains(&only)).collect();
        let built = packages.built("vendors");
        packages.bundle(&own, &built, &["--minify"]);
        entries.extend(own.iter().map(|entry| (name(entry), built.join(name(entry)).with_extension("js"))));
    }
    let judge = Judge::new();
    let (next, pairs) = (Mutex::new(entries.iter()), Mutex::new(Vec::new()));
    std::thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            scope.spawn(|| {
                loop {
                    let Some((name, script)) = next.lock().unwrap().next() else { return };
                    let pair = try_one(&browser, &judge, name, script);
                    pairs.lock().unwrap().push(pair);
                }
            });
        }
    });
    let mut pairs = pairs.into_inner().unwrap();
    pairs.sort_by(|a, b| a.name.cmp(&b.name));
    for Pair { name, before, after, .. } in &pairs {
        println!("{name}: control: {} leaks, with the signal: {}", before.len(), after.len());
    }
    println!(
        "bundled SDKs: {} tried, {} leaks without the signal, {} with it, {} broken",
        pairs.len(),
        pairs.iter().map(|pair| pair.before.len()).sum::<usize>(),
        pairs.iter().map(|pair| pair.after.len()).sum::<usize>(),
        pairs.iter().filter(|pair| !pair.faults.is_empty()).count(),
    );
    let calls = |pair: &&Pair| pair.before.iter().any(|leak| leak.contains('/'));
    let vain = pairs.iter().filter(|pair| !calls(pair));
    let vain: Vec<_> = vain.map(|pair| &pair.name).collect();
    assert!(vain.is_empty(), "these call nobody even without the signal: {vain:?}");
    let faults =
        pairs.iter().flat_map(|pair| pair.after.iter().chain(&pair.faults).map(move |f| (&pair.name, f)));
    let faults: Vec<_> = faults.map(|(name, fault)| format!("\n  {name}: {fault}")).collect();
    assert!(faults.is_empty(), "with the signal:{}", faults.concat());
}

/// Partytown runs a page's trackers in a worker, through a frame that its own service
/// worker makes up; what they send from there is held, and what else runs there arrives.
#[test]
fn trackers_that_partytown_keeps_in_a_worker_send_nothing() {
    const TEST: &str = "trackers_that_partytown_keeps_in_a_worker_send_nothing";
    let Some(browser) = Browser::shared(TEST) else { return };
    let Some(packages) = Packages::installed("bundled", TEST) else { return };
    let library = packages.package("@builder.io/partytown/lib");
    let snippet = std::fs::read_to_string(library.join("partytown.js")).unwrap();
    let page =
        std::fs::read_to_string(packages.source("partytown.html")).unwrap().replace("@SNIPPET@", &snippet);
    let mut site = Origin::start().on("/", move |x| x.ok("text/html", page.as_bytes()));
    for file in std::fs::read_dir(library).unwrap() {
        let path = file.unwrap().path();
        if let Ok(script) = std::fs::read(&path) {
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            site = site.on(&format!("/~partytown/{name}"), move |x| x.ok("text/javascript", &script));
        }
    }
    let (proxy, judge) = (proxy().to(&site).run(), Judge::new());
    let [control, signal] = ["", SIGNAL].map(|fields| {
        let mut tab = browser.own_tab(proxy.addr(), fields);
        tab.open("https://site.test/");
        let twin = tab.sink.wait(SOON, |entry| entry.url.as_str() == "https://neutral.test/last");
        tab.rest(Duration::from_secs(2));
        let outcome = tab.outcome();
        assert!(twin, "{fields}: what else runs there arrives: {outcome:#?}");
        outcome
    });
    let (before, after) = (leaks(&judge, &control), leaks(&judge, &signal));
    println!("Partytown: control: {} leaks, with the signal: {}", before.len(), after.len());
    for part in ["fbevents.js", "ev=PageView", "/g/collect", "/2/httpapi"] {
        assert!(before.iter().any(|leak| leak.contains(part)), "{part} is not called: {before:?}");
    }
    assert_eq!(after, Vec::<String>::new());
    assert_eq!(signal.new_exceptions(&control), Vec::<String>::new());
}
