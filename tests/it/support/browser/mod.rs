//! A real browser whose every byte passes a [`Sink`]: what a page calls, throws and stores.

mod answers;
mod cdp;
mod sink;

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, Weak};
use std::time::Duration;

use serde_json::{Value, json};
use tempfile::TempDir;

use super::{DEADLINE, skipped};
use cdp::{Cdp, Session};
pub use sink::{Entry, Sink};

/// Host of the pages that tests open. Over `https` a browser says what each request is for
/// (`Sec-Fetch-Dest`) and has workers, as on a real site; the sink ends TLS for it.
pub const SITE: &str = "site.test";

/// How long a page may take before it counts as never ready.
const PAGE_LIMIT: Duration = Duration::from_secs(10);

/// The page is done, and laid out: one in no window is not, until somebody asks for a measure.
const DONE: &str = "Promise.resolve(window.done).then(() => document.documentElement.offsetWidth)";

/// Field that a visitor with the signal sends.
pub const SIGNAL: &str = "Sec-GPC: 1\r\n";

/// A running Chromium. Tests share one; it ends with the last test that holds it.
pub struct Browser {
    cdp: Cdp,
    own: Arc<Sink>,
    program: PathBuf,
    _profile: TempDir,
}

/// What one visit did.
#[derive(Debug, Clone, Default)]
pub struct Outcome {
    /// What reached other hosts than the site's.
    pub entries: Vec<Entry>,
    /// Script exceptions that nobody caught.
    pub exceptions: Vec<String>,
    /// `console.error` and the browser's own error lines.
    pub errors: Vec<String>,
    /// Cookies: domain, name, value.
    pub cookies: Vec<(String, String, String)>,
    /// Whether every page loaded and came to its `window.done` in time.
    pub finished: bool,
}

impl Outcome {
    /// Exceptions that another visit to the same page does not know. The guard moves lines, so places do
    /// not count.
    pub fn new_exceptions(&self, control: &Self) -> Vec<String> {
        let words = |outcome: &Self| -> BTreeSet<String> {
            let lines = outcome.exceptions.iter().map(String::as_str);
            lines.map(|line| line.rsplit_once(" (").map_or(line, |(words, _)| words).to_owned()).collect()
        };
        words(self).difference(&words(control)).cloned().collect()
    }
}

impl Browser {
    /// The browser of this run of tests; `None`, after a line that says so, where there is none.
    pub fn shared(test: &str) -> Option<Arc<Self>> {
        static SHARED: Mutex<Weak<Browser>> = Mutex::new(Weak::new());
        let mut shared = SHARED.lock().unwrap();
        if let Some(browser) = shared.upgrade() {
            return Some(browser);
        }
        let Some(program) = chromium() else {
            skipped(test, "no chromium in PATH");
            return None;
        };
        // What a tab showed before must not go on beside what it shows now.
        let browser = Arc::new(Self::start(&program, &format!("{WITHOUT},BackForwardCache")));
        *shared = Arc::downgrade(&browser);
        Some(browser)
    }

    fn start(program: &std::path::Path, without: &str) -> Self {
        let profile = TempDir::with_prefix("optgate-browser-").unwrap();
        let mut args: Vec<_> = FLAGS.iter().map(|flag| (*flag).to_owned()).collect();
        args.push(without.to_owned());
        args.push(format!("--user-data-dir={}", profile.path().display()));
        let sink = Arc::new(Sink::start());
        // A private window has a proxy; the own profile looks every name up, and finds its sink.
        args.push(format!("--host-resolver-rules=MAP * {}, EXCLUDE 127.0.0.1", sink.addr()));
        args.push("about:blank".to_owned());
        Self { cdp: Cdp::start(program, &args), own: sink, program: program.to_owned(), _profile: profile }
    }

    /// A tab with cookies, storage, cache and sink of its own, in front of the proxy at `addr`.
    pub fn tab(self: &Arc<Self>, addr: SocketAddr, fields: &str) -> Tab {
        self.tab_for(&[SITE], addr, fields)
    }

    /// [`Self::tab`] for a site with these hosts.
    pub fn tab_for(self: &Arc<Self>, hosts: &[&str], addr: SocketAddr, fields: &str) -> Tab {
        let sink = Arc::new(Sink::start());
        sink.route(hosts, addr, fields);
        let context = self.context(&sink);
        self.tab_in(Some(context), false, sink)
    }

    /// A tab that is in no window, to be renewed for many visits: without a window a visit costs a third.
    /// It is laid out only when asked, and cannot open others by a link or a form.
    pub fn hidden_tab(self: &Arc<Self>) -> Tab {
        let sink = Arc::new(Sink::start());
        let context = self.context(&sink);
        self.tab_in(Some(context), true, sink)
    }

    fn context(&self, sink: &Sink) -> String {
        let params = json!({
            "disposeOnDetach": true,
            "proxyServer": format!("http://{}", sink.addr()),
            // Without this, loopback addresses would go round the sink.
            "proxyBypassList": "<-loopback>",
        });
        let made = self.cdp.call("Target.createBrowserContext", params);
        made["browserContextId"].as_str().unwrap().to_owned()
    }

    /// A tab of the own profile of a browser of its own. Chromium preconnects and prefetches for no
    /// other: the tabs of [`Self::tab`] are private windows behind a proxy. It also has a back/forward cache.
    /// Costs a start, about a second.
    pub fn own_tab(&self, addr: SocketAddr, fields: &str) -> Tab {
        let browser = Arc::new(Self::start(&self.program, WITHOUT));
        let sink = Arc::clone(&browser.own);
        sink.route(&[SITE], addr, fields);
        browser.tab_in(None, false, sink)
    }

    fn tab_in(self: &Arc<Self>, context: Option<String>, hidden: bool, sink: Arc<Sink>) -> Tab {
        let mut params = json!({ "url": "about:blank", "hidden": hidden });
        if let Some(context) = &context {
            params["browserContextId"] = context.as_str().into();
        }
        let target = self.cdp.call("Target.createTarget", params);
        let target = target["targetId"].as_str().unwrap().to_owned();
        let session = self.cdp.attach(&target);
        Tab { browser: Arc::clone(self), context, hidden, target, session, sink, finished: true }
    }
}

/// A visitor's tab.
pub struct Tab {
    browser: Arc<Browser>,
    context: Option<String>,
    hidden: bool,
    target: String,
    session: Session,
    /// Where everything that is not the site's ends.
    pub sink: Arc<Sink>,
    finished: bool,
}

impl Tab {
    /// Opens a page and waits for its load event and its own `window.done` (a promise, or nothing).
    pub fn open(&mut self, url: &str) -> &mut Self {
        self.after_load("Page.navigate", json!({ "url": url }))
    }

    /// Loads the page again.
    pub fn reload(&mut self) -> &mut Self {
        self.after_load("Page.reload", json!({}))
    }

    /// Makes the tab as good as new, for the next of many visits: a fresh one costs Chromium half a second of
    /// work. What the last page left running may still call out for a moment.
    pub fn renew(&mut self, hosts: &[&str], addr: SocketAddr, fields: &str) -> &mut Self {
        let open = self.browser.cdp.call("Target.getTargets", json!({}));
        let open = open["targetInfos"].as_array().map(Vec::as_slice).unwrap_or_default().iter();
        let ours = open.filter(|info| info["browserContextId"].as_str() == self.context.as_deref());
        for popup in ours.filter(|info| info["type"] == "page" && info["targetId"] != self.target.as_str()) {
            self.browser.cdp.call("Target.closeTarget", json!({ "targetId": popup["targetId"] }));
        }
        self.after_load("Page.navigate", json!({ "url": "about:blank" }));
        let commands = ["Network.clearBrowserCookies", "Network.clearBrowserCache"].map(|c| (c, json!({})));
        let origins = hosts.iter().flat_map(|host| ["http", "https"].map(|s| format!("{s}://{host}")));
        let origins = origins
            .map(|origin| ("Storage.clearDataForOrigin", json!({ "origin": origin, "storageTypes": "all" })));
        for (method, params) in commands.into_iter().chain(origins) {
            self.session.call(method, params, DEADLINE).unwrap_or_else(|error| panic!("{method}: {error}"));
        }
        self.session.events.clear();
        self.sink.clear();
        self.sink.route(hosts, addr, fields);
        self.finished = true;
        self
    }

    /// Runs a script that leads to another page, and waits for that.
    pub fn follow(&mut self, script: &str) -> &mut Self {
        self.after_load("Runtime.evaluate", json!({ "expression": script, "userGesture": true }))
    }

    /// Runs a script as a person's gesture does, and waits for its promise.
    pub fn gesture(&self, script: &str) -> Result<Value, String> {
        self.evaluate(script, true)
    }

    /// Allows the site what a person is asked for otherwise; in a tab of [`Browser::own_tab`].
    pub fn grant(&self, permission: &str) {
        let params = json!({ "origin": format!("https://{SITE}"), "permissions": [permission] });
        self.browser.cdp.call("Browser.grantPermissions", params);
    }

    /// Runs a script in each document to come, before everything of its own.
    pub fn before(&self, script: &str) {
        let params = json!({ "source": script });
        self.session.call("Page.addScriptToEvaluateOnNewDocument", params, DEADLINE).unwrap();
    }

    fn after_load(&mut self, method: &str, params: Value) -> &mut Self {
        let before = self.session.events.read(|seen| seen.loads);
        let loads = self.session.call(method, params, DEADLINE).and_then(|answer| match answer["errorText"]
            .as_str()
        {
            Some(error) => Err(error.to_owned()),
            None => Ok(()),
        });
        let loaded = loads.is_ok() && self.session.events.wait(PAGE_LIMIT, |seen| seen.loads > before);
        self.finished &= loaded && self.eval(DONE).is_ok();
        self
    }

    /// Waits until the page has no request under way, as far as it reports them.
    pub fn rest(&mut self, limit: Duration) -> bool {
        self.session.events.wait_for_idle(limit)
    }

    /// The value of an expression in the page; promises are waited for.
    pub fn eval(&self, expression: &str) -> Result<Value, String> {
        self.evaluate(expression, false)
    }

    fn evaluate(&self, expression: &str, gesture: bool) -> Result<Value, String> {
        let params = json!({
            "expression": expression, "awaitPromise": true, "returnByValue": true, "userGesture": gesture
        });
        let mut answer = self.session.call("Runtime.evaluate", params, PAGE_LIMIT)?;
        match answer["exceptionDetails"].take() {
            Value::Null => Ok(answer["result"]["value"].take()),
            thrown => Err(thrown["exception"]["description"].to_string()),
        }
    }

    /// [`Self::eval`] as text.
    pub fn text(&self, expression: &str) -> String {
        let value = self.eval(expression).unwrap_or_else(|error| panic!("{expression}: {error}"));
        value.as_str().map_or_else(|| value.to_string(), str::to_owned)
    }

    /// Everything up to now.
    pub fn outcome(&self) -> Outcome {
        let params = self.context.as_ref().map_or(json!({}), |id| json!({ "browserContextId": id }));
        let cookies = self.browser.cdp.call("Storage.getCookies", params);
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let cookies = cookies["cookies"].as_array().map(Vec::as_slice).unwrap_or_default().iter();
        let (exceptions, errors) =
            self.session.events.read(|seen| (seen.exceptions.clone(), seen.errors.clone()));
        Outcome {
            entries: self.sink.entries(),
            exceptions,
            errors,
            cookies: cookies.map(|c| (text(&c["domain"]), text(&c["name"]), text(&c["value"]))).collect(),
            finished: self.finished,
        }
    }
}

impl Drop for Tab {
    fn drop(&mut self) {
        if std::thread::panicking() {
            return;
        }
        match &self.context {
            Some(context) if !self.hidden => {
                let params = json!({ "browserContextId": context });
                self.browser.cdp.call("Target.disposeBrowserContext", params)
            }
            // With its context disposed of, a hidden tab takes Chromium 156 down, and every other test's tabs with
            // it (`NOTREACHED` in browser_context_impl.cc); the context ends with the browser.
            _ => self.browser.cdp.call("Target.closeTarget", json!({ "targetId": self.target })),
        };
    }
}

/// The browser of this machine.
pub fn chromium() -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    let names = ["chromium", "chromium-browser", "google-chrome"];
    std::env::split_paths(&path).flat_map(|dir| names.map(|name| dir.join(name))).find(|file| file.is_file())
}

const FLAGS: [&str; 18] = [
    "--headless",
    "--remote-debugging-pipe",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--disable-dev-shm-usage",
    "--disable-extensions",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-default-apps",
    "--disable-sync",
    "--disable-breakpad",
    "--disable-popup-blocking",
    "--no-first-run",
    "--no-default-browser-check",
    "--mute-audio",
    "--ignore-certificate-errors",
    // Frames of other sites stay in the page's process: one session sees them all.
    "--disable-site-isolation-trials",
];

const WITHOUT: &str = "--disable-features=HttpsUpgrades,HttpsFirstBalancedModeAutoEnable,LocalNetworkAccessChecks,\
                       IsolateOrigins,site-per-process,MediaRouter,OptimizationHints,Translate";
