//! Every way a page starts a request, in a real browser: the pages of `tests/browser/vectors/`.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use optgate::registry::{Registry, Role, Vendor};

use super::support::browser::{Browser, Outcome, SIGNAL, SITE, Tab};
use super::support::leaks::Judge;
use super::support::origin::Origin;
use super::support::proxy::{Builder, proxy};

/// Pages that may leak or break in spite of the signal, and why.
const GAPS: &[(&str, &str)] = &[
    ("prop-frame-location", FIRST_DOCUMENT),
    ("prop-frame-location-replace", FIRST_DOCUMENT),
    ("request-import-file", "nobody can patch import(), and scripts in files are passed as they are"),
];

/// HTML, "navigate": a frame's first, empty document fires no `navigate` event; `location` cannot be replaced.
const FIRST_DOCUMENT: &str = "a frame that is still at its first empty document hears nothing";

/// How long an attempt that works may take to reach the sink.
const ARRIVAL: Duration = Duration::from_secs(5);

/// Pages opened side by side.
const AT_ONCE: usize = 3;

/// How often a page is tried of which something did not come.
const TRIES: usize = 3;

/// Host of the twins.
const TWIN: &str = "neutral.test";

/// What starts the request.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Way {
    /// Markup or headers: the rewriter's.
    Static,
    /// A script: the guard's.
    Dynamic,
    /// The visitor's own move to another page: reported, not stopped.
    Navigation,
}

/// What tells that the attempt at a harmless place succeeded.
#[derive(Debug, Clone, PartialEq)]
enum Twin {
    Host,
    Cookie(String),
    None,
}

/// Which tab a page needs.
#[derive(Debug, Clone, Copy)]
enum Kind {
    /// [`Browser::hidden_tab`].
    Hidden,
    /// [`Browser::tab`].
    Shown,
    /// [`Browser::own_tab`].
    Own,
}

/// One page.
struct Vector {
    name: String,
    what: String,
    way: Way,
    twin: Twin,
    tab: Kind,
    /// The type it is served as.
    media: &'static str,
    page: String,
}

impl Vector {
    /// Reads a page; its first comment says what it is, and its ending of which type.
    fn read(path: &PathBuf) -> Self {
        let page = std::fs::read_to_string(path).unwrap();
        let name = path.file_stem().unwrap().to_string_lossy().into_owned();
        let head = page.split("-->").next().unwrap_or_default();
        let line = |key: &str| -> Option<String> {
            head.split(key).nth(1).and_then(|rest| rest.lines().next()).map(|v| v.trim().to_owned())
        };
        let way = match line("way:").as_deref() {
            Some("static") => Way::Static,
            Some("dynamic") => Way::Dynamic,
            Some("navigation") => Way::Navigation,
            other => panic!("{name}: no way {other:?}"),
        };
        let twin = match line("twin:").as_deref().map(|twin| twin.split_once(' ').unwrap_or((twin, ""))) {
            Some((TWIN, _)) => Twin::Host,
            Some(("cookie", cookie)) => Twin::Cookie(cookie.to_owned()),
            None => Twin::None,
            other => panic!("{name}: no twin {other:?}"),
        };
        let what = line("vector:").unwrap_or_else(|| panic!("{name}: no vector"));
        let tab = match line("tab:").as_deref() {
            None => Kind::Hidden,
            Some("shown") => Kind::Shown,
            Some("own") => Kind::Own,
            other => panic!("{name}: no tab {other:?}"),
        };
        let media = match path.extension().and_then(|ending| ending.to_str()) {
            Some("html") => "text/html",
            Some("svg") => "image/svg+xml",
            Some("xhtml") => "application/xhtml+xml",
            other => panic!("{name}: no type {other:?}"),
        };
        Self { name, what, way, twin, tab, media, page }
    }

    /// Whether the visit's twin came through.
    fn twin_came(&self, outcome: &Outcome) -> bool {
        match &self.twin {
            Twin::Host => outcome.entries.iter().any(|entry| entry.url.host_str() == Some(TWIN)),
            Twin::Cookie(wanted) => outcome.cookies.iter().any(|(_, name, _)| name == wanted),
            Twin::None => true,
        }
    }

    fn is_gap(&self) -> bool {
        GAPS.iter().any(|(name, _)| *name == self.name)
    }

    /// Whether this page's promise is kept already, or only counted.
    fn is_promised(&self) -> bool {
        self.way != Way::Navigation && !self.is_gap()
    }
}

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/browser")
}

fn vectors() -> Vec<Vector> {
    let only = std::env::var("OPTGATE_VECTOR").unwrap_or_default();
    let files = std::fs::read_dir(folder().join("vectors")).unwrap();
    let mut paths: Vec<_> = files.map(|file| file.unwrap().path()).collect();
    paths.sort();
    let wanted = |vector: &Vector| only.split(',').any(|part| vector.name.contains(part));
    paths.iter().map(Vector::read).filter(wanted).collect()
}

/// The site: every page, and the files they share.
fn site(vectors: &[Vector]) -> Origin {
    let mut origin = Origin::start();
    for (file, kind) in [
        ("kit.js", "text/javascript"),
        ("import.js", "text/javascript"),
        ("worker.js", "text/javascript"),
        ("worker-import.js", "text/javascript"),
        ("worker-shared.js", "text/javascript"),
        ("worker-service.js", "text/javascript"),
        ("frame.html", "text/html"),
        ("frame-embeds.html", "text/html"),
    ] {
        let bytes = std::fs::read(folder().join(file)).unwrap();
        origin = origin.on(&format!("/{file}"), move |x| x.ok(kind, &bytes));
    }
    for vector in vectors {
        let (media, bytes) = (vector.media, vector.page.clone());
        origin = origin.on(&format!("/{}", vector.name), move |x| x.ok(media, bytes.as_bytes()));
    }
    origin
}

/// One visit to a page.
struct Visit {
    outcome: Outcome,
    leaks: Vec<String>,
    twin: bool,
}

/// One page, without and with the signal.
struct Tried<'a> {
    vector: &'a Vector,
    control: Visit,
    signal: Visit,
}

impl Tried<'_> {
    /// Exceptions that only the opted-out visitor sees.
    fn broken(&self) -> Vec<String> {
        self.signal.outcome.new_exceptions(&self.control.outcome)
    }

    /// What is wrong with the control: a page that cannot leak proves nothing.
    fn is_vain(&self) -> bool {
        self.control.leaks.is_empty() || !self.control.twin
    }

    /// Whether something did not come that is waited for: the control's leak, a twin, the end, or a gap's leak.
    fn lacks(&self) -> bool {
        if !self.signal.leaks.is_empty() {
            return self.is_vain() && self.vector.is_gap();
        }
        let ended = self.signal.outcome.finished || !self.control.outcome.finished;
        self.is_vain() || !self.signal.twin || !ended || self.vector.is_gap()
    }

    /// What is wrong with the opted-out visit.
    fn faults(&self) -> Vec<String> {
        let mut faults: Vec<_> = self.signal.leaks.iter().map(|leak| format!("leaks {leak}")).collect();
        faults.extend(self.broken().iter().map(|thrown| format!("throws {thrown}")));
        if !self.signal.twin {
            faults.push("holds back its twin".to_owned());
        }
        if self.control.outcome.finished && !self.signal.outcome.finished {
            faults.push("never finishes".to_owned());
        }
        faults
    }

    fn print(&self) {
        let (name, what) = (&self.vector.name, &self.vector.what);
        let (control, signal) = (self.control.leaks.len(), self.signal.leaks.len());
        println!("{name}: control: {control} leaks, with the signal: {signal} ({what})");
    }
}

/// Opens a page in a tab that is as good as new; waits for the twin, and for a leak where one must come.
fn visit(tab: &mut Tab, vector: &Vector, judge: &Judge, control: bool) -> Visit {
    tab.open(&format!("https://site.test/{}", vector.name));
    if vector.twin == Twin::Host {
        tab.sink.wait(ARRIVAL, |entry| entry.url.host_str() == Some(TWIN));
    }
    if control && !matches!(vector.twin, Twin::Cookie(_)) {
        tab.sink.wait(ARRIVAL, |entry| judge.is_leak(entry));
    }
    // One more way there and back: what was started before the twin is seen by now. A page that went
    // elsewhere cannot do it.
    let _ = tab.eval("fetch('/kit.js').then(() => 1)");
    let outcome = tab.outcome();
    Visit { leaks: judge.leaks(&outcome), twin: vector.twin_came(&outcome), outcome }
}

/// Both visits to a page. `tabs` are the control's and the opted-out visitor's, apart from each other so
/// that nothing late of the one is laid to the other.
fn visits(
    browser: &Arc<Browser>,
    addr: SocketAddr,
    tabs: &mut [Tab; 2],
    vector: &Vector,
    judge: &Judge,
) -> [Visit; 2] {
    [("", 0), (SIGNAL, 1)].map(|(fields, at)| {
        let control = at == 0;
        match vector.tab {
            Kind::Hidden => visit(tabs[at].renew(&[SITE], addr, fields), vector, judge, control),
            Kind::Shown => visit(&mut browser.tab(addr, fields), vector, judge, control),
            Kind::Own => visit(&mut browser.own_tab(addr, fields), vector, judge, control),
        }
    })
}

/// Whatever the page does, an opted-out visitor causes no request, no connection
/// and no cookie of a strip-class host, the page throws nothing that it does not throw otherwise, and the
/// same attempt at a harmless host succeeds. Each page does leak without the signal.
#[test]
fn no_way_to_start_a_request_leaks_with_the_signal() {
    let Some(browser) = Browser::shared("no_way_to_start_a_request_leaks_with_the_signal") else { return };
    nothing_leaks(&browser, proxy(), vectors(), &[]);
}

/// The registry without the hosts of all that is not essential, so that nobody knows them.
fn without_hosts() -> String {
    let registry = Registry::builtin().unwrap();
    let vendors = registry.vendors().map(|(_, vendor)| vendor);
    let known = vendors.filter(|vendor| vendor.role != Role::Essential && !vendor.hosts.is_empty());
    let entry = |vendor: &Vendor| {
        let category = serde_json::to_value(vendor.category).unwrap();
        format!(
            "[[vendor]]\nid = {:?}\nvendor = \"V\"\nproduct = \"P\"\nrole = {:?}\ncategory = {category}\nhosts = []\n\
             first_party_cookies = {:?}\n",
            vendor.id,
            vendor.role.as_str(),
            vendor.first_party_cookies
        )
    };
    "schema = 1\n".to_owned() + &known.map(entry).collect::<String>()
}

/// The same pages where nobody knows the trackers' hosts, and what nobody knows goes (`unknown = "strip"`): a fifth of them,
/// or all with `OPTGATE_BROWSER_ALL`.
#[test]
fn no_way_to_start_a_request_leaks_to_whom_nobody_knows() {
    let Some(browser) = Browser::shared("no_way_to_start_a_request_leaks_to_whom_nobody_knows") else {
        return;
    };
    let proxy = proxy();
    std::fs::write(proxy.dir().join("none.toml"), without_hosts()).unwrap();
    let settings = format!(
        "unknown = \"strip\"\nknown = [\"{TWIN}\", \"own.test\"]\n[registry]\nfiles = [\"none.toml\"]\n"
    );
    let every = if std::env::var_os("OPTGATE_BROWSER_ALL").is_some() { 1 } else { 5 };
    let vectors = vectors().into_iter().step_by(every).collect();
    nothing_leaks(
        &browser,
        proxy.toml(&settings),
        vectors,
        &["insert-importmap-escaped", "insert-style-pieces"],
    );
}

/// Tries every page behind such a proxy; `torn` are those whose harmless address is not whole at first, or stands behind
/// escapes, so that its host is nobody's then.
fn nothing_leaks(browser: &Arc<Browser>, proxy: Builder, mut vectors: Vec<Vector>, torn: &[&str]) {
    let judge = Judge::new();
    vectors
        .iter_mut()
        .filter(|vector| torn.contains(&vector.name.as_str()))
        .for_each(|vector| vector.twin = Twin::None);
    let site = site(&vectors);
    let proxy = proxy.to(&site).run();
    let (next, tried) = (Mutex::new(vectors.iter()), Mutex::new(Vec::new()));
    std::thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            scope.spawn(|| {
                let mut tabs = [browser.hidden_tab(), browser.hidden_tab()];
                loop {
                    let Some(vector) = next.lock().unwrap().next() else { return };
                    let visits = || visits(browser, proxy.addr(), &mut tabs, vector, &judge);
                    let done = patiently(vector, visits);
                    tried.lock().unwrap().push(done);
                }
            });
        }
    });
    let mut tried = tried.into_inner().unwrap();
    tried.sort_by(|a, b| a.vector.name.cmp(&b.vector.name));
    report(&tried);
}

/// What no script of ours can see is what the second wall is for. With it, the pages of
/// [`GAPS`] send no request either, and the same attempt at an allowed host succeeds. Chromium connects to the
/// host of a frame's navigation before it asks the policy: that connection carries nothing, and is printed.
#[test]
fn the_second_wall_holds_what_the_guard_cannot_see() {
    let Some(browser) = Browser::shared("the_second_wall_holds_what_the_guard_cannot_see") else { return };
    let (mut vectors, judge) = (vectors(), Judge::new());
    vectors.retain(Vector::is_gap);
    let site = site(&vectors);
    let wall = format!("[csp]\nmode = \"enforce\"\nallow = [\"https://{TWIN}\"]\n");
    let proxy = proxy().to(&site).toml(&format!("\n{wall}")).run();
    let mut tabs = [browser.hidden_tab(), browser.hidden_tab()];
    let mut faults = Vec::new();
    for vector in &vectors {
        let [control, signal] = visits(&browser, proxy.addr(), &mut tabs, vector, &judge);
        let tried = Tried { vector, control, signal };
        tried.print();
        assert!(!tried.is_vain(), "{} shows nothing even without the signal", vector.name);
        let (connections, requests): (Vec<_>, Vec<_>) =
            tried.signal.leaks.iter().partition(|leak| leak.starts_with("CONNECT "));
        println!("{}: connections without a request: {connections:?}", vector.name);
        faults.extend(requests.into_iter().map(|leak| format!("\n  {}: {leak}", vector.name)));
        if !tried.signal.twin {
            faults.push(format!("\n  {}: holds back its twin", vector.name));
        }
    }
    assert!(faults.is_empty(), "behind the wall:{}", faults.concat());
}

/// On a busy machine something may come later than anybody waits for: what did not come is tried again, a leak with the
/// signal never is.
fn patiently(vector: &Vector, mut visits: impl FnMut() -> [Visit; 2]) -> Tried<'_> {
    let mut tries = 1;
    loop {
        let [control, signal] = visits();
        let tried = Tried { vector, control, signal };
        if tries == TRIES || !tried.lacks() {
            return tried;
        }
        println!("{}: tried again, for on the {tries}. try not all came", vector.name);
        tries += 1;
    }
}

fn report(tried: &[Tried<'_>]) {
    tried.iter().for_each(Tried::print);
    println!(
        "vectors: {} tried, {} leaks without the signal, {} with it (from {} pages), {} pages broken",
        tried.len(),
        tried.iter().map(|t| t.control.leaks.len()).sum::<usize>(),
        tried.iter().map(|t| t.signal.leaks.len()).sum::<usize>(),
        tried.iter().filter(|t| !t.signal.leaks.is_empty()).count(),
        tried.iter().filter(|t| !t.broken().is_empty()).count(),
    );
    let vain: Vec<_> = tried.iter().filter(|t| t.is_vain()).collect();
    let vain: Vec<_> = vain
        .iter()
        .map(|t| {
            let Visit { outcome, leaks, twin } = &t.control;
            let (thrown, errors) = (&outcome.exceptions, &outcome.errors);
            let calls: Vec<_> = outcome.entries.iter().map(|e| format!("{} {}", e.method, e.url)).collect();
            format!(
                "\n  {}: {calls:?}, leaks {leaks:?}, twin {twin}, threw {thrown:?}, errors {errors:?}",
                t.vector.name
            )
        })
        .collect();
    let faulty = |t: &Tried<'_>| t.faults().iter().map(|f| format!("\n  {}: {f}", t.vector.name)).collect();
    let (promised, counted): (Vec<_>, Vec<_>) = tried.iter().partition(|t| t.vector.is_promised());
    let counted: Vec<String> = counted.into_iter().map(faulty).collect();
    println!("not promised:{}", counted.concat());
    let held = tried.iter().filter(|t| t.vector.is_gap() && t.faults().is_empty());
    let held: Vec<_> = held.map(|t| t.vector.name.as_str()).collect();
    assert!(held.is_empty(), "these hold now, take them out of GAPS: {held:?}");
    let faults: Vec<String> = promised.into_iter().map(faulty).collect();
    println!("promised:{}", faults.concat());
    assert!(vain.is_empty(), "pages that show nothing even without the signal:{}", vain.concat());
    assert!(faults.concat().is_empty(), "with the signal:{}", faults.concat());
}
