//! Sites that frameworks build and serve, in a real browser: Next, React Router, SvelteKit and Astro as their own
//! production servers run them, each with trackers where its guides put them.
//!
//! Slow: each is installed and built first. Run by `OPTGATE_FRAMEWORKS=all`, or by some of their names.

use std::sync::Arc;
use std::time::Duration;

use super::browser_keeper::LINK_COMES_BACK;
use super::support::browser::{Browser, Outcome, SIGNAL};
use super::support::leaks::Judge;
use super::support::npm::Packages;
use super::support::proxy::{Proxy, proxy};
use super::support::skipped;

const SOON: Duration = Duration::from_secs(5);

/// What builds and what serves a site, each a script of the packages or of what was built, with its arguments.
struct Framework {
    name: &'static str,
    build: (&'static str, &'static [&'static str]),
    serve: (&'static str, &'static [&'static str]),
    /// What the control run must call.
    called: &'static [&'static str],
}

/// Called by all of them: from the markup or the document's own script, by a component's handler, and after a step to
/// another page within the document.
const CALLED: &[&str] = &["criteo.net", "ev=PageView", "ev=ViewContent", "doubleclick.net", "pinterest.com"];

const FRAMEWORKS: [Framework; 4] = [
    Framework {
        name: "next",
        build: ("node_modules/next/dist/bin/next", &["build"]),
        serve: ("node_modules/next/dist/bin/next", &["start", "--port", "$PORT", "--hostname", "127.0.0.1"]),
        called: &["connect.facebook.net", "analytics.tiktok.com", "bat.bing.com"],
    },
    Framework {
        name: "router",
        build: ("node_modules/@react-router/dev/bin.js", &["build"]),
        serve: ("node_modules/@react-router/serve/bin.js", &["build/server/index.js"]),
        called: &[],
    },
    Framework {
        name: "sveltekit",
        build: ("node_modules/vite/bin/vite.js", &["build"]),
        serve: ("build/index.js", &[]),
        called: &[],
    },
    Framework {
        name: "astro",
        build: ("node_modules/astro/astro.js", &["build"]),
        serve: ("node_modules/astro/astro.js", &["preview", "--port", "$PORT", "--host", "127.0.0.1"]),
        called: &[],
    },
];

/// One visit to the first page and on to the second.
struct Visit {
    outcome: Outcome,
    /// How often the link was there: once the page works, after a press of its button, and on the second page.
    links: Vec<u64>,
    shown: String,
    /// Whether the second page came into the first one's document.
    within: bool,
}

/// Waits for an expression to be true.
fn until(expression: &str) -> String {
    format!(
        "new Promise((resolve, reject) => {{ const start = performance.now(); (function look() {{
            if ({expression}) resolve(1);
            else if (performance.now() - start > 5000) reject(new Error({expression:?}));
            else setTimeout(look, 20);
        }})() }})"
    )
}

fn visit(browser: &Arc<Browser>, proxy: &Proxy, fields: &str, look: &str) -> Result<Visit, String> {
    let mut tab = browser.tab(proxy.addr(), fields);
    tab.open("https://site.test/");
    let steps = [
        ("window.mark = 1", "document.documentElement.dataset.hydrated == 'yes'"),
        (
            "document.getElementById('count').click()",
            "document.getElementById('count').innerText == 'Pressed 1'",
        ),
        ("document.querySelector('nav a[href=\"/second\"]').click()", "document.getElementById('second')"),
    ];
    let mut links = Vec::new();
    for (act, came) in steps {
        tab.gesture(act)
            .and_then(|_| tab.eval(&until(came)))
            .map_err(|error| format!("{error} {:?}", tab.outcome()))?;
        links.push(tab.eval(look)?.as_u64().unwrap_or_default());
    }
    tab.eval("fetch('https://neutral.test/last', { mode: 'no-cors' }).then(() => 1)")?;
    tab.rest(SOON);
    let within = tab.eval("window.mark")? == 1;
    Ok(Visit { outcome: tab.outcome(), links, shown: tab.text("document.body.innerText"), within })
}

/// What is wrong with a visit through an enforcing proxy.
fn faults(visit: &Visit, control: &Visit, judge: &Judge, opted_out: bool) -> Vec<String> {
    let mut faults = visit.outcome.new_exceptions(&control.outcome);
    let said = visit.outcome.errors.iter().filter(|line| !control.outcome.errors.contains(line));
    faults.extend(said.map(|line| format!("says {line}")));
    if visit.links != [1, 1, 1] {
        faults.push(format!("links {:?}", visit.links));
    }
    if visit.within != control.within {
        faults.push("left its document".to_owned());
    }
    if visit.shown.contains("Request Honored") != opted_out {
        faults.push(format!("shows {:?}", visit.shown));
    }
    if opted_out {
        faults.extend(judge.leaks(&visit.outcome).into_iter().map(|leak| format!("leaks {leak}")));
    }
    faults
}

/// The frameworks' own pages hydrate, work and lead on to one another as without us, keep
/// the link and the status, and call no tracker for an opted-out visitor, wherever the framework has it from.
#[test]
fn sites_that_frameworks_build_keep_the_link_work_as_before_and_leak_nothing() {
    const TEST: &str = "sites_that_frameworks_build_keep_the_link_work_as_before_and_leak_nothing";
    let wanted = std::env::var("OPTGATE_FRAMEWORKS").unwrap_or_default();
    let is_wanted = |one: &&Framework| wanted == "all" || wanted.split(',').any(|name| name == one.name);
    let wanted: Vec<_> = FRAMEWORKS.iter().filter(is_wanted).collect();
    if wanted.is_empty() {
        return skipped(TEST, "OPTGATE_FRAMEWORKS names none");
    }
    let Some(browser) = Browser::shared(TEST) else { return };
    let (judge, mut all) = (Judge::new(), Vec::new());
    for Framework { name, build, serve, called } in wanted {
        let Some(packages) = Packages::installed(name, TEST) else { return };
        packages.lay();
        packages.node(&packages.file(build.0), build.1);
        let server = packages.serve(&packages.file(serve.0), serve.1);
        let [plain, enforcing] =
            ["mode = \"observe\"\n", ""].map(|mode| proxy().upstream(server.url()).toml(mode).run());
        let control = visit(&browser, &plain, "", "0").unwrap_or_else(|error| panic!("{name}: {error}"));
        let before = judge.leaks(&control.outcome);
        for part in CALLED.iter().chain(*called) {
            assert!(
                before.iter().any(|leak| leak.contains(part)),
                "{name}: nobody calls {part}: {before:#?}"
            );
        }
        for (visitor, fields) in [("every visitor", ""), ("an opted-out visitor", SIGNAL)] {
            let (leaks, faults) = match visit(&browser, &enforcing, fields, LINK_COMES_BACK) {
                Ok(visit) => {
                    (judge.leaks(&visit.outcome).len(), faults(&visit, &control, &judge, !fields.is_empty()))
                }
                Err(error) => (0, vec![error]),
            };
            println!(
                "{name}, {visitor}: control: {} leaks, here: {leaks}, {} broken",
                before.len(),
                usize::from(!faults.is_empty())
            );
            all.extend(faults.into_iter().map(|fault| format!("\n  {name}, {visitor}: {fault}")));
        }
    }
    assert!(all.is_empty(), "{}", all.concat());
}
