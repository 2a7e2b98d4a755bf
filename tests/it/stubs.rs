//! The stand-ins of stripped vendors in a real browser: pages of `tests/browser/stubs`, and snippets of
//! saved pages.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::{Command, Stdio};

use optgate::config::VendorAction;
use optgate::enforce::guard::stubs;
use optgate::registry::{Policy, Registry};

use super::support::browser::chromium;
use super::support::dom::{Element, parse};
use super::support::guard::default_policy;
use super::support::{beside, skipped};

const CHECK: &str = include_str!("../browser/stubs/check.js");
const STRIPPED: &str = include_str!("../browser/stubs/stripped.html");

/// Opens a page of this text, lets its timers run, and returns its DOM. No host name resolves.
fn dump_dom(browser: &Path, page: &str) -> String {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("page.html");
    std::fs::write(&file, page).unwrap();
    let output = Command::new(browser)
        .args(["--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-sync"])
        .args(["--disable-background-networking", "--disable-component-update"])
        .args(["--host-resolver-rules=MAP * ~NOTFOUND", "--virtual-time-budget=600000"])
        .arg(format!("--user-data-dir={}", folder.path().join("profile").display()))
        .arg("--dump-dom")
        .arg(format!("file://{}", file.display()))
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .output()
        .unwrap();
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// The page with the stubs of these vendors first, as the guard has them.
fn with_stubs(page: &str, stripped: &[&str]) -> String {
    let script = stubs::script(stripped.iter().copied());
    // As if the page embedded all of them.
    let late: String = stripped.iter().filter_map(|id| stubs::late(id)).collect();
    let mark = "window[Symbol.for(\"optgate\")] = {};";
    page.replace(
        "<!--stubs-->",
        &format!("<script>\"use strict\";\n{mark}{script}\nstubs(window);{late}</script>"),
    )
    .replace("<!--check-->", &format!("<script>{CHECK}</script>"))
}

/// Runs a page and asserts that each of its checks passed.
fn all_pass(browser: &Path, page: &str, stripped: &[&str]) {
    let dom = dump_dom(browser, &with_stubs(page, stripped));
    let lines: Vec<_> = lines(&dom);
    let failed: Vec<_> = lines.iter().filter(|line| line.starts_with("FAIL ")).collect();
    assert!(failed.is_empty(), "{failed:#?}");
    let passed = lines.iter().filter(|line| line.starts_with("PASS ")).count();
    assert!(passed > 0 && lines.contains(&format!("DONE {passed}")), "{dom}");
}

/// The lines that the page wrote into its `pre`.
fn lines(dom: &str) -> Vec<String> {
    let mut lines = Vec::new();
    parse(dom, true).walk(&mut |element| {
        if element.name == "pre" && element.attr("id") == Some("out") {
            lines.extend(element.text().lines().map(str::to_owned));
        }
    });
    lines
}

fn every_vendor(registry: &Registry) -> Vec<&str> {
    registry.vendors().map(|(_, vendor)| vendor.id.as_str()).collect()
}

fn stripped_by(policy: &Policy) -> Vec<&str> {
    let stripped = |(id, _): &(_, _)| policy.action(*id) == VendorAction::Strip;
    policy.registry().vendors().filter(stripped).map(|(_, vendor)| vendor.id.as_str()).collect()
}

/// Stubs are defined before any vendor's snippet runs, call back, resolve their promises, and go on where
/// an `event_callback` does. A page whose snippet returns early when the global exists must return early.
#[test]
fn with_every_vendor_stripped_snippets_return_early_and_whoever_waits_is_answered() {
    let test = "with_every_vendor_stripped_snippets_return_early_and_whoever_waits_is_answered";
    let Some(browser) = chromium() else { return skipped(test, "no chromium in PATH") };
    all_pass(&browser, STRIPPED, &every_vendor(default_policy().registry()));
}

/// The control of the test above: it can fail.
#[test]
fn without_stubs_each_of_those_snippets_makes_its_script_element() {
    let test = "without_stubs_each_of_those_snippets_makes_its_script_element";
    let Some(browser) = chromium() else { return skipped(test, "no chromium in PATH") };
    let lines = lines(&dump_dom(&browser, &with_stubs(STRIPPED, &[])));
    let of_snippets: Vec<_> = lines.iter().filter(|line| line.contains(" returns early")).collect();
    assert!(of_snippets.len() > 30, "{lines:#?}");
    for line in of_snippets {
        assert!(line.starts_with("FAIL ") && line.ends_with(": it made a script element"), "{line}");
    }
}

/// Under `restrict` the container is kept and reads the page's own data layer.
#[test]
fn under_the_default_policy_the_data_layer_is_as_the_page_left_it() {
    let test = "under_the_default_policy_the_data_layer_is_as_the_page_left_it";
    let Some(browser) = chromium() else { return skipped(test, "no chromium in PATH") };
    all_pass(&browser, include_str!("../browser/stubs/restricted.html"), &stripped_by(&default_policy()));
}

/// Whichever of the data layer's two readers is stripped: the one that is kept sees every entry, each
/// callback is called once, and also when nobody comes to read.
#[test]
fn a_kept_container_sees_every_entry_and_each_callback_is_called_once() {
    let test = "a_kept_container_sees_every_entry_and_each_callback_is_called_once";
    let Some(browser) = chromium() else { return skipped(test, "no chromium in PATH") };
    let policy = default_policy();
    for stripped in [&stripped_by(&policy)[..], &["google-gtag"], &["google-tag-manager"]] {
        all_pass(&browser, include_str!("../browser/stubs/container.html"), stripped);
    }
}

/// Inline scripts of saved pages that carry a vendor's marker or use a global that has a stub.
fn snippets(corpus: &Path, policy: &Policy, globals: &BTreeSet<String>) -> Vec<String> {
    let mut files: Vec<_> = std::fs::read_dir(corpus).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.retain(|file| file.extension().is_some_and(|ext| ext == "html"));
    files.sort();
    let mut snippets = BTreeSet::new();
    for file in files {
        let text = String::from_utf8_lossy(&std::fs::read(file).unwrap()).into_owned();
        parse(&text, true).walk(&mut |element| {
            let text = element.text();
            let wanted = || policy.match_inline(text.as_bytes()).is_some() || uses(&text, globals);
            if classic(element) && text.len() < 20_000 && wanted() {
                snippets.insert(text);
            }
        });
    }
    snippets.into_iter().collect()
}

fn classic(element: &Element) -> bool {
    let script = element.name == "script" && element.attr("src").is_none();
    script && element.attr("type").is_none_or(|kind| kind.is_empty() || kind == "text/javascript")
}

fn uses(script: &str, globals: &BTreeSet<String>) -> bool {
    let name = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '$';
    script.split(|c| !name(c)).any(|word| word.len() > 2 && globals.contains(word))
}

/// Every name that the registry's entries give as a global of a vendor.
fn globals(registry: &Registry) -> BTreeSet<String> {
    registry.vendors().flat_map(|(_, vendor)| vendor.globals.iter().cloned()).collect()
}

/// An error about a name that only the rest of the page defines: a callback that runs now gets further
/// than one that nobody calls, and a snippet stands alone here.
fn of_the_page(error: &str, globals: &BTreeSet<String>) -> bool {
    let name =
        error.strip_prefix("Uncaught ReferenceError: ").and_then(|e| e.strip_suffix(" is not defined"));
    name.is_some_and(|name| !globals.contains(name))
}

/// Runs each snippet in a frame of its own, without and with the stubs, and writes what each did.
const FRAMES: &str = r#"<!doctype html><meta charset="utf-8"><pre id="out"></pre>
<script type="application/json" id="data">DATA</script>
<script>
var data = JSON.parse(document.getElementById("data").textContent);
// Errors of the snippet and of its timers, and the script elements with an address that it makes.
var watch = "var errors=[],made=0,create=Document.prototype.createElement;onerror=function(m){errors.push(m);return true};" +
  "Document.prototype.createElement=function(n){var e=create.apply(this,arguments);if((n+'').toLowerCase()==='script')made++;return e}";
function run(code, stubs) {
  return new Promise(function (resolve) {
    var frame = document.createElement("iframe");
    frame.setAttribute("sandbox", "allow-scripts allow-same-origin");
    var script = function (text) { return "<script>" + text.replace(/<\/(script)/gi, "<\\/$1") + "<\/script>"; };
    frame.srcdoc = "<!doctype html><meta http-equiv=content-security-policy content=\"default-src 'none'; script-src 'unsafe-inline' 'unsafe-eval'\"><body><div id=fb-root></div>" + script(watch) + (stubs ? script(stubs + "\nstubs(window)") : "") +
      script(code) + script("var reached=1");
    var ended = function () {
      var w = frame.contentWindow, result = null;
      try { result = { errors: w.errors || [], made: w.made || 0, ran: !!w.errors }; } catch (e) {}
      frame.remove();
      resolve(result || { errors: [], made: 0, ran: false });
    };
    frame.onload = function () { frame.onload = null; setTimeout(ended, 100); };
    document.body.appendChild(frame);
  });
}
async function all() {
  var next = 0, out = [];
  async function worker() {
    while (next < data.snippets.length) {
      var i = next++, without = await run(data.snippets[i], ""), with_ = await run(data.snippets[i], data.stubs);
      out[i] = { without: without, with_: with_ };
    }
  }
  await Promise.all([1, 2, 3, 4, 5, 6, 7, 8].map(worker));
  document.getElementById("out").textContent = JSON.stringify(out);
}
onload = all;
</script>"#;

/// Snippets as sites embed them, read at test time. With the stubs none throws that does
/// not throw without, and some of those that fetch do not fetch any more.
#[test]
fn snippets_of_saved_pages_run_beside_the_stubs_without_a_new_error() {
    let test = "snippets_of_saved_pages_run_beside_the_stubs_without_a_new_error";
    let Some(browser) = chromium() else {
        return skipped(test, "no chromium in PATH");
    };
    let Some(corpus) = beside("corpus", test) else { return };
    let policy = default_policy();
    let globals = globals(policy.registry());
    let snippets = snippets(&corpus, &policy, &globals);
    let stubs = stubs::script(stripped_by(&policy).into_iter());
    let data = serde_json::json!({ "snippets": snippets, "stubs": stubs }).to_string();
    let dom = dump_dom(&browser, &FRAMES.replace("DATA", &data.replace('<', "\\u003c")));
    let results: Vec<serde_json::Value> = serde_json::from_str(&lines(&dom).join("\n")).unwrap();
    assert_eq!(results.len(), snippets.len());

    let (mut quiet, mut early, mut fetch, mut new) = (0, 0, 0, Vec::new());
    for (result, snippet) in results.iter().zip(&snippets) {
        let errors = |side: &str| -> BTreeSet<String> {
            result[side]["errors"]
                .as_array()
                .unwrap()
                .iter()
                .map(|e| e.as_str().unwrap_or("?").to_owned())
                .collect()
        };
        let made = |side: &str| result[side]["made"].as_u64().unwrap();
        let (without, with) = (errors("without"), errors("with_"));
        quiet += usize::from(!without.is_empty() && with.is_empty());
        fetch += usize::from(made("without") > 0);
        early += usize::from(made("without") > 0 && made("with_") == 0);
        let with: BTreeSet<_> =
            with.difference(&without).filter(|error| !of_the_page(error, &globals)).collect();
        if !with.is_empty() {
            new.push((format!("{with:?}"), snippet.chars().take(300).collect::<String>()));
        }
    }
    println!(
        "stubs: {} snippets of saved pages; {fetch} make a script element, {early} of them not beside the stubs; \
         {quiet} throw only without the stubs, {} only with them",
        snippets.len(),
        new.len(),
    );
    assert!(!snippets.is_empty() && early > 0, "the corpus has snippets that return early");
    assert!(new.is_empty(), "{new:#?}");
}
