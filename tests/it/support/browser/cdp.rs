//! The Chrome DevTools Protocol over a pipe: JSON messages ended by NUL
//! (<https://chromedevtools.github.io/devtools-protocol/>, `--remote-debugging-pipe`).

use std::collections::{HashMap, HashSet};
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::super::DEADLINE;

/// The browser's side of the pipe.
pub struct Cdp {
    child: Child,
    wire: Arc<Wire>,
}

/// What the reader and every session share.
struct Wire {
    to_browser: Mutex<ChildStdin>,
    next: AtomicU64,
    replies: Mutex<HashMap<u64, mpsc::Sender<Value>>>,
    sessions: Mutex<HashMap<String, Arc<Events>>>,
}

/// What one page's session has reported so far.
#[derive(Default)]
pub struct Seen {
    /// Load events of the page.
    pub loads: usize,
    /// Script exceptions that nobody caught, frames' too.
    pub exceptions: Vec<String>,
    /// `console.error` and the browser's own error lines.
    pub errors: Vec<String>,
    /// Requests under way: id and the loader that asked.
    under_way: HashMap<String, String>,
    /// Frames that are loading.
    loading: HashSet<String>,
}

/// The events of one session, to be waited for.
#[derive(Default)]
pub struct Events {
    seen: Mutex<Seen>,
    changed: Condvar,
}

impl Events {
    /// Reads what was seen.
    pub fn read<T>(&self, read: impl FnOnce(&Seen) -> T) -> T {
        read(&self.seen.lock().unwrap())
    }

    /// Forgets what was seen.
    pub fn clear(&self) {
        *self.seen.lock().unwrap() = Seen::default();
    }

    /// Waits until `met`; `false` when that takes too long.
    pub fn wait(&self, limit: Duration, met: impl Fn(&Seen) -> bool) -> bool {
        let seen = self.seen.lock().unwrap();
        !self.changed.wait_timeout_while(seen, limit, |seen| !met(seen)).unwrap().1.timed_out()
    }

    /// Waits until no frame is loading and no request of the page is under way.
    pub fn wait_for_idle(&self, limit: Duration) -> bool {
        self.wait(limit, |seen| seen.under_way.is_empty() && seen.loading.is_empty())
    }

    fn take(&self, method: &str, params: &Value) {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let mut seen = self.seen.lock().unwrap();
        match method {
            "Page.loadEventFired" => seen.loads += 1,
            // Requests of the page before it are never reported as ended.
            "Page.frameNavigated" if params["frame"]["parentId"].is_null() => {
                let loader = text(&params["frame"]["loaderId"]);
                seen.under_way.retain(|_, of| *of == loader);
            }
            // A document's own request: its end is not always reported, its frame's loading is.
            // So it is of a worker's script, whose session is another.
            "Network.requestWillBeSent"
                if params["requestId"] == params["loaderId"] || params["loaderId"] == "" => {}
            "Network.requestWillBeSent" => {
                drop(seen.under_way.insert(text(&params["requestId"]), text(&params["loaderId"])));
            }
            "Network.loadingFinished" | "Network.loadingFailed" => {
                drop(seen.under_way.remove(&text(&params["requestId"])));
            }
            "Page.frameStartedLoading" => {
                seen.loading.insert(text(&params["frameId"]));
            }
            "Page.frameStoppedLoading" | "Page.frameDetached" => {
                seen.loading.remove(&text(&params["frameId"]));
            }
            "Runtime.exceptionThrown" => seen.exceptions.push(exception(&params["exceptionDetails"])),
            "Runtime.consoleAPICalled" if params["type"] == "error" => {
                let args = params["args"].as_array().map(Vec::as_slice).unwrap_or_default();
                let words: Vec<_> = args.iter().map(|arg| text(&arg["value"])).collect();
                seen.errors.push(words.join(" "));
            }
            "Log.entryAdded" if params["entry"]["level"] == "error" => {
                let entry = &params["entry"];
                seen.errors.push(format!("{} {}", text(&entry["text"]), text(&entry["url"])));
            }
            _ => return,
        }
        self.changed.notify_all();
    }
}

/// The first line of an exception, with its place.
fn exception(details: &Value) -> String {
    let words = details["exception"]["description"].as_str().or(details["text"].as_str());
    let first = words.unwrap_or_default().lines().next().unwrap_or_default();
    format!("{first} ({}:{})", details["url"].as_str().unwrap_or_default(), details["lineNumber"])
}

impl Wire {
    /// Sends a command; the answer comes over the receiver.
    fn post(&self, session: Option<&str>, method: &str, params: Value) -> (u64, mpsc::Receiver<Value>) {
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        let (sender, receiver) = mpsc::channel();
        self.replies.lock().unwrap().insert(id, sender);
        let mut message = json!({ "id": id, "method": method, "params": params });
        if let Some(session) = session {
            message["sessionId"] = session.into();
        }
        let mut bytes = message.to_string().into_bytes();
        bytes.push(0);
        // A browser that has ended is noticed by whoever waits for the answer.
        let _ = self.to_browser.lock().unwrap().write_all(&bytes);
        (id, receiver)
    }

    fn read(&self, from_browser: ChildStdout) {
        let mut from_browser = BufReader::new(from_browser);
        let mut message = Vec::new();
        while from_browser.read_until(0, &mut message).is_ok_and(|n| n > 0) {
            message.pop();
            if let Ok(value) = serde_json::from_slice::<Value>(&message) {
                self.dispatch(value);
            }
            message.clear();
        }
        // Whoever still waits learns that nothing will come.
        self.replies.lock().unwrap().clear();
    }

    fn dispatch(&self, message: Value) {
        if let Some(id) = message["id"].as_u64() {
            let sender = self.replies.lock().unwrap().remove(&id);
            // Nobody waits for the answers of commands that were only posted.
            let _ = sender.map(|sender| sender.send(message));
            return;
        }
        let (session, method) = (message["sessionId"].as_str(), message["method"].as_str());
        let (Some(session), Some(method)) = (session, method) else { return };
        if method == "Page.javascriptDialogOpening" {
            // An open dialog would hold the page for ever.
            drop(self.post(Some(session), "Page.handleJavaScriptDialog", json!({ "accept": true })));
        }
        let events = self.sessions.lock().unwrap().get(session).cloned();
        if let Some(events) = events {
            events.take(method, &message["params"]);
        }
    }
}

impl Cdp {
    /// Starts a browser. The shell puts the pipe where Chromium looks for it: commands on descriptor 3,
    /// answers on 4.
    pub fn start(program: &std::path::Path, args: &[String]) -> Self {
        let mut child = Command::new("sh")
            .args(["-c", "exec \"$0\" \"$@\" 3<&0 4>&1 </dev/null >/dev/null 2>/dev/null"])
            .arg(program)
            .args(args)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let (to_browser, from_browser) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
        let wire = Arc::new(Wire {
            to_browser: Mutex::new(to_browser),
            next: AtomicU64::new(1),
            replies: Mutex::default(),
            sessions: Mutex::default(),
        });
        let reader = Arc::clone(&wire);
        thread::spawn(move || reader.read(from_browser));
        Self { child, wire }
    }

    /// Runs a command of the browser as a whole.
    pub fn call(&self, method: &str, params: Value) -> Value {
        answer(method, &self.wire.post(None, method, params).1, DEADLINE)
            .unwrap_or_else(|error| panic!("{method}: {error}"))
    }

    /// Attaches to a page.
    pub fn attach(&self, target: &str) -> Session {
        let attached = self.call("Target.attachToTarget", json!({ "targetId": target, "flatten": true }));
        let id = attached["sessionId"].as_str().unwrap().to_owned();
        let events = Arc::new(Events::default());
        self.wire.sessions.lock().unwrap().insert(id.clone(), Arc::clone(&events));
        let session = Session { wire: Arc::clone(&self.wire), id, events };
        // All have to be answered before the first navigation: the page's process changes then, and the new
        // one is told only of what the old one had confirmed.
        let enabled = ["Page", "Runtime", "Network", "Log"]
            .map(|domain| session.wire.post(Some(&session.id), &format!("{domain}.enable"), json!({})).1);
        for receiver in enabled {
            answer("enable", &receiver, DEADLINE).unwrap_or_else(|error| panic!("{error}"));
        }
        session
    }
}

impl Drop for Cdp {
    fn drop(&mut self) {
        // Asked to close it ends its helpers first: killed, they would still write to a folder that goes.
        drop(self.wire.post(None, "Browser.close", json!({})));
        let start = Instant::now();
        while matches!(self.child.try_wait(), Ok(None)) && start.elapsed() < DEADLINE {
            thread::yield_now();
        }
        // Both fail only when it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// One attached page.
pub struct Session {
    wire: Arc<Wire>,
    id: String,
    /// What it has reported.
    pub events: Arc<Events>,
}

impl Session {
    /// Runs a command and waits for its answer.
    pub fn call(&self, method: &str, params: Value, limit: Duration) -> Result<Value, String> {
        answer(method, &self.wire.post(Some(&self.id), method, params).1, limit)
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.wire.sessions.lock().unwrap().remove(&self.id);
    }
}

fn answer(method: &str, receiver: &mpsc::Receiver<Value>, limit: Duration) -> Result<Value, String> {
    let start = Instant::now();
    let mut message = receiver
        .recv_timeout(limit)
        .map_err(|_| format!("{method} had no answer for {:?}", start.elapsed()))?;
    match message["error"]["message"].as_str() {
        Some(error) => Err(error.to_owned()),
        None => Ok(message["result"].take()),
    }
}
