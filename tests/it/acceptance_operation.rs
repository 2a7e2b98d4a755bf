//! What an operator relies on: switches, figures, logs, failures, and a process that ends well.

use std::net::{SocketAddr, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, mpsc};

use optgate::app;
use rustix::process::{Pid, Resource, Rlimit, Signal, kill_process, prlimit};

use super::acceptance_choices::{PAGE, PIXEL, post, shop};
use super::support::DEADLINE;
use super::support::binary::{Binary, command, own_address};
use super::support::client::{Client, Response, get};
use super::support::h2::{Frames, H2};
use super::support::origin::Origin;
use super::support::pki::Authority;
use super::support::proxy::{Builder, figure, proxy};

const GPC: &str = "Sec-GPC: 1\r\n";

/// Where no test listens: ports that are free for a moment may be another test's in the next.
const NOBODY: &str = "http://127.0.0.3:1";

/// One request to the admin listener, under its own name.
fn admin(addr: SocketAddr, method: &str, path: &str, body: &str) -> Response {
    let length = body.len();
    let head = format!("{method} {path} HTTP/1.1\r\nHost: {addr}\r\nContent-Type: application/json\r\n");
    Client::connect(addr).send(format!("{head}Content-Length: {length}\r\n\r\n{body}")).response(method)
}

/// All figures of a family that hold this label, added up.
fn sum(metrics: &str, family: &str, label: &str) -> u64 {
    let lines = metrics.lines().filter(|line| line.starts_with(family) && line.contains(label));
    lines.map(|line| line.rsplit(' ').next().unwrap().parse::<u64>().unwrap()).sum()
}

/// A kill switch takes effect without a restart; a restart must not undo it.
#[test]
fn a_kill_switch_holds_at_once_and_over_a_restart() {
    let origin = shop(&["/", "/privacy-choices"]);
    let builder = proxy().to(&origin);
    let thrown = |running: &app::Running, engaged: bool| {
        let body = format!("{{\"engaged\": {engaged}}}");
        let answer = admin(running.admin(), "POST", "/api/sites/default/kill-switch", &body);
        assert_eq!(answer.status(), 200, "{}", answer.text());
    };
    let page = |running: &app::Running, path: &str| get(running.listen()[0], path, GPC);
    let first = app::start(builder.settings()).unwrap();
    assert!(!page(&first, "/").text().contains(PIXEL));
    thrown(&first, true);
    assert_eq!(page(&first, "/").body, PAGE);
    assert_eq!(page(&first, "/privacy-choices").body, PAGE, "the site has its paths back");
    first.stop().unwrap();
    let second = app::start(builder.settings()).unwrap();
    assert_eq!(page(&second, "/").body, PAGE);
    thrown(&second, false);
    assert!(!page(&second, "/").text().contains(PIXEL));
    second.stop().unwrap();
}

/// Observing changes nothing for anybody and tells the origin nothing.
#[test]
fn observe_mode_only_counts() {
    let paths = ["/", "/privacy-choices", "/.well-known/gpc.json", "/g/collect"];
    let origin = shop(&paths);
    let proxy = proxy().to(&origin).toml("mode = \"observe\"\n").run();
    for path in paths {
        let answer = proxy.get(path, &format!("{GPC}Cookie: _fbp=1; optgate=v1.out\r\n"));
        assert_eq!(answer.body, PAGE, "{path}");
        assert!(answer.head.all("set-cookie").is_empty() && answer.head.all("vary").is_empty(), "{path}");
    }
    for request in origin.seen(paths.len()) {
        assert_eq!(request.one("optgate-decision"), None);
        assert_eq!(request.one("cookie").as_deref(), Some("_fbp=1; optgate=v1.out"));
    }
    let metrics = admin(proxy.running().admin(), "GET", "/metrics", "").text();
    assert_eq!(sum(&metrics, "optgate_optout_decisions_total", "outcome=\"observed\""), 4);
    assert_eq!(proxy.running().store().health().records, 0);
}

/// Signals seen equal the sum of outcomes, whatever happened to the pages.
#[test]
fn signals_seen_equal_the_sum_of_outcomes_after_a_mixed_run() {
    let odd =
        "HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Encoding: x-own\r\nContent-Length: 0\r\n\r\n";
    let origin = shop(&["/", "/raw", "/watched"]).answers("/odd", odd);
    let upstream = origin.url();
    let proxy = proxy()
        .toml(&format!(
            "[[sites]]\nname = \"shop\"\nupstream = {upstream:?}\n\
             [[sites.paths]]\nprefix = \"/raw\"\nrewrite = false\n\
             [[sites.paths]]\nprefix = \"/watched\"\nmode = \"observe\"\n"
        ))
        .run();
    for path in ["/", "/raw", "/watched", "/odd", "/text"] {
        for fields in [GPC, "Cookie: optgate=v1.out\r\n", "Cookie: usprivacy=1YYN\r\n", ""] {
            proxy.get(path, fields);
        }
    }
    for fields in ["Sec-GPC: true\r\n", "Sec-GPC: 1, 1\r\n", "Cookie: optgate=v9\r\n"] {
        assert!(proxy.get("/", fields).text().contains(PIXEL), "{fields}");
    }
    let metrics = admin(proxy.running().admin(), "GET", "/metrics", "").text();
    for signal in ["gpc", "cookie", "cmp"] {
        let label = format!("signal=\"{signal}\"");
        assert_eq!(sum(&metrics, "optgate_signals_seen_total", &label), 4, "{signal}");
        for outcome in ["enforced", "refused", "passed", "observed"] {
            let name = format!(
                "optgate_optout_decisions_total{{site=\"shop\",signal=\"{signal}\",outcome=\"{outcome}\"}}"
            );
            assert_eq!(figure(&metrics, &name), Some(1), "{signal} {outcome}");
        }
    }
    let pixels = "optgate_elements_neutralised_total{vendor=\"meta-pixel\",action=\"strip\"}";
    assert_eq!(figure(&metrics, pixels), Some(3));
    assert_eq!(figure(&metrics, "optgate_malformed_signals_total"), Some(3));
    let summary = admin(proxy.running().admin(), "GET", "/api/summary", "");
    let summary: serde_json::Value = serde_json::from_slice(&summary.body).unwrap();
    assert_eq!(summary["requests"], 23);
    assert_eq!(summary["sites"][0]["signals"][0]["seen"], 4);
    assert_eq!(summary["elements"][0]["vendor"], "meta-pixel");
}

/// The why is told to those who may ask, on pages of every kind, and to nobody else.
#[test]
fn the_why_is_told_to_trusted_addresses_only() {
    let ask = "Optgate-Explain: 1\r\n";
    for (ranges, told) in [("127.0.0.0/8", true), ("10.0.0.0/8", false)] {
        let origin = shop(&["/"]);
        let proxy = proxy().to(&origin).toml(&format!("explain_to = [\"{ranges}\"]\n")).run();
        for path in ["/", "/text", "/privacy-choices", "/g/collect?v=2&tid=G-ABC123"] {
            let answer = proxy.get(path, &format!("{GPC}{ask}"));
            let why = answer.head.one("optgate-why");
            assert_eq!(why.is_some_and(|why| why.starts_with("opted-out;basis=gpc; site=default;")), told);
            assert_eq!(proxy.get(path, GPC).head.one("optgate-why"), None, "{path}: not asked");
        }
        assert!(origin.seen(4).iter().all(|r| r.one("optgate-explain").is_none()));
    }
}

/// The program on its own, with all that it says kept to be read at its end.
struct Process {
    /// `None` once it was ended.
    child: Option<Child>,
    addr: SocketAddr,
    admin: SocketAddr,
    _dir: tempfile::TempDir,
}

impl Process {
    /// Starts it on an address of its own.
    fn start(builder: Builder, format: &str) -> Self {
        let addr = own_address();
        Self::listening(builder, addr, format, &["--listen", &addr.to_string(), "--log-level", "info"])
    }

    /// Starts it; a write above a limit on file size fails in it instead of ending it.
    fn listening(builder: Builder, addr: SocketAddr, format: &str, more: &[&str]) -> Self {
        let admin = own_address();
        let mut child = Command::new("sh")
            .args([
                "-c",
                "trap '' XFSZ; exec \"$0\" \"$@\"",
                env!("CARGO_BIN_EXE_optgate"),
                "run",
                "--config",
            ])
            .arg(builder.write())
            .args(["--admin", &admin.to_string(), "--log-format", format])
            .args(more)
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        for address in [addr, admin] {
            while TcpStream::connect(address).is_err() {
                assert!(child.try_wait().unwrap().is_none(), "it ended");
                std::thread::yield_now();
            }
        }
        Self { child: Some(child), addr, admin, _dir: builder.into_dir() }
    }

    fn limit_files(&self, current: Option<u64>) {
        let limits = Rlimit { current, maximum: None };
        let pid = self.child.as_ref().map(Pid::from_child);
        prlimit(pid, Resource::Fsize, limits).unwrap();
    }

    /// Ends it well and gives what it said.
    fn end(mut self) -> String {
        let child = self.child.take().unwrap();
        kill_process(Pid::from_child(&child), Signal::TERM).unwrap();
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stderr).unwrap()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Only after a failed test: left alone it would hold on to the test's own output.
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let output = child.wait_with_output();
            println!(
                "{}",
                output.map(|o| String::from_utf8_lossy(&o.stderr).into_owned()).unwrap_or_default()
            );
        }
    }
}

/// No query, no cookie, no whole address in a log; a cause is named once.
#[test]
fn the_log_holds_nothing_about_a_person_and_names_a_cause_once() {
    for format in ["text", "json"] {
        let process = Process::start(proxy().upstream(NOBODY), format);
        let secrets = "Cookie: session=crumbly\r\nAuthorization: Basic crumbly\r\n";
        assert_eq!(get(process.addr, "/path?query=crumbly", secrets).status(), 502);
        assert_eq!(post(process.addr, "/privacy-choices/opt-out", secrets, "crumbly=1").status(), 200);
        let said = process.end();
        assert!(!said.contains("crumbly"), "{said}");
        assert_eq!(said.matches("cannot connect to the origin").count(), 1, "{said}");
        let access: Vec<&str> = said.lines().filter(|line| line.contains("/path")).collect();
        assert_eq!(access.len(), 1, "{said}");
        assert!(access[0].contains("127.0.0.0") && access[0].contains("502"), "{said}");
        let why = format!("{NOBODY}: cannot connect to the origin");
        assert!(access[0].contains(&why), "on the request's own line: {said}");
        assert!(!access[0].contains("127.0.0.1"), "{said}");
        if format == "json" {
            assert!(said.lines().all(|l| serde_json::from_str::<serde_json::Value>(l).is_ok()), "{said}");
        }
    }
}

/// Whatever goes wrong with a connection, and however much is logged: an address loses its tail, and what a visitor
/// sends stays out.
#[test]
fn at_the_debug_level_too_the_log_holds_nothing_about_a_person() {
    const VISITOR: &str = "127.3.2.9";
    let (addr, introduced, tls) = (own_address(), own_address(), own_address());
    let builder = proxy();
    let certificate = Authority::new().leaf("site.test").toml(builder.dir(), "site");
    let listen = format!("[\"{addr}\", {{ address = \"{introduced}\", proxy_protocol = true }}]");
    let builder = builder
        .replacing("[\"127.0.0.1:0\"]", &listen)
        .upstream(NOBODY)
        .toml(&format!("trusted_proxies = [\"127.9.9.9\"]\n[tls]\nlisten = [\"{tls}\"]\n{certificate}"));
    let process = Process::listening(builder, addr, "text", &["--log-level", "debug"]);
    let secrets =
        "Cookie: session=crumbly\r\nAuthorization: Basic crumbly\r\nX-Forwarded-For: 198.51.100.77\r\n";
    let from_visitor = |to| Client::connect_from(VISITOR, to);
    assert_eq!(from_visitor(addr).get("/path?query=crumbly", secrets).status(), 502);
    assert_eq!(from_visitor(addr).get("/crumbly page?crumbly", secrets).status(), 400);
    let length = "Content-Length: 9\r\n\r\ncrumbly=1";
    let opt_out = format!("POST /privacy-choices/opt-out HTTP/1.1\r\nHost: site.test\r\n{secrets}{length}");
    assert_eq!(from_visitor(addr).send(opt_out).response("POST").status(), 200);
    let request = http::Request::get("http://site.test/two?crumbly").header("cookie", "crumbly=crumbly");
    let answer = H2::prior_knowledge(addr).send(request.body(Frames::new(b"", None)).unwrap());
    assert_eq!(answer.status, 502);
    let first = "PROXY TCP4 198.51.100.77 192.0.2.1 4711 80\r\n";
    for (to, sends) in [(introduced, first), (tls, "GET /crumbly HTTP/1.1\r\n\r\n")] {
        let mut client = from_visitor(to);
        client.try_send(sends);
        client.rest();
    }
    let said = process.end();
    for event in ["/path", "no usable PROXY protocol header", "TLS handshake failed", "message refused"] {
        assert!(said.contains(event), "no {event:?} in {said}");
    }
    assert!(said.contains("127.3.2.0"), "{said}");
    for secret in [VISITOR, "crumbly", "198.51.100.77"] {
        let telling: Vec<&str> = said.lines().filter(|line| line.contains(secret)).collect();
        assert!(telling.is_empty(), "{secret}: {telling:#?}");
    }
}

/// The choice holds on this browser, and nobody is told otherwise.
#[test]
fn on_a_full_disk_an_opt_out_is_in_force_and_the_page_says_what_is_missing() {
    let process = Process::start(proxy().to(&shop(&["/"])), "text");
    let up = || figure(&admin(process.admin, "GET", "/metrics", "").text(), "optgate_journal_up");
    process.limit_files(Some(4096));
    for _ in 0..4 {
        let answer = post(process.addr, "/privacy-choices/opt-out", "", "");
        assert_eq!(answer.status(), 503);
        let cookie = answer.head.all("set-cookie")[0];
        assert!(cookie.starts_with("optgate=v1.out."), "{cookie}");
        assert!(answer.text().contains("could not be saved"), "{}", answer.text());
    }
    assert!(!get(process.addr, "/", "Cookie: optgate=v1.out\r\n").text().contains(PIXEL));
    let ready = admin(process.admin, "GET", "/readyz?verbose", "");
    assert!(ready.status() == 200 && ready.text().contains("[!] journal: cannot write"), "{}", ready.text());
    assert_eq!(up(), Some(0));
    process.limit_files(None);
    assert_eq!(
        post(process.addr, "/privacy-choices/opt-out", "", "").status(),
        200,
        "the first try after it"
    );
    assert_eq!(up(), Some(1));
    let said = process.end();
    // Each cause once, however many people tried: the full disk, and the file that cannot be opened anew.
    let causes = said.matches("the journal cannot write; ").count();
    assert!((1..=2).contains(&causes), "{said}");
    let lines = said.matches("POST /privacy-choices/opt-out").count();
    assert_eq!(lines, 5, "the last line is written before the process ends: {said}");
}

/// Two writers on one journal would break its chain.
#[test]
fn a_second_process_on_one_data_folder_is_refused_by_name() {
    let builder = proxy().to(&Origin::start());
    let running = app::start(builder.settings()).unwrap();
    let output = command(&builder.write()).output().unwrap();
    let words = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{words}");
    let folder = builder.settings().data_dir.display().to_string();
    assert!(words.contains(&folder) && words.contains("--data-dir"), "{words}");
    running.stop().unwrap();
}

/// `ledger export` beside a running server, in both forms; never the subject.
#[test]
fn the_ledger_is_exported_beside_a_running_server_in_both_forms() {
    let builder = proxy().to(&Origin::start());
    let running = app::start(builder.settings()).unwrap();
    assert_eq!(post(running.listen()[0], "/privacy-choices/opt-out", "", "").status(), 200);
    let export = |format: &str| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_optgate"));
        command.args(["ledger", "export", "--format", format, "--data-dir"]);
        let output = command.arg(builder.settings().data_dir).output().unwrap();
        assert!(output.status.success() && output.stderr.is_empty(), "{output:?}");
        String::from_utf8(output.stdout).unwrap()
    };
    const FIELDS: [&str; 9] =
        ["seq", "node", "time", "site", "kind", "signal", "basis", "policy", "reference"];
    let json: serde_json::Map<String, serde_json::Value> = serde_json::from_str(&export("jsonl")).unwrap();
    let mut names: Vec<&str> = json.keys().map(String::as_str).collect();
    names.sort_unstable();
    let mut wanted = FIELDS;
    wanted.sort_unstable();
    assert_eq!(names, wanted);
    let csv = export("csv");
    let lines: Vec<&str> = csv.lines().collect();
    assert_eq!((lines.len(), lines[0]), (2, FIELDS.join(",").as_str()));
    assert!(lines[1].ends_with(json["reference"].as_str().unwrap()), "{csv}");
    running.stop().unwrap();
}

/// Several origins: a dead one costs no request, with and without an upgrade.
#[test]
fn a_dead_origin_among_several_costs_no_request() {
    let switch = "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n";
    let origin = Origin::start().answers("/switch", switch);
    let proxy = proxy().toml(&format!("upstream = [{NOBODY:?}, {:?}]\n", origin.url())).run();
    for _ in 0..4 {
        assert_eq!(proxy.get("/", "").text(), "hello");
        let mut client = proxy.client();
        client.send(
            "GET /switch HTTP/1.1\r\nHost: site.test\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n",
        );
        assert_eq!(client.head().status, 101);
    }
}

/// Oversize heads get 431, counted exactly: a read buffer alone takes half as much again.
#[test]
fn a_head_just_above_its_limit_is_refused() {
    let origin = Origin::start();
    let proxy = proxy().to(&origin).run();
    let field = |bytes: usize| format!("X-Long: {}\r\n", "a".repeat(bytes));
    assert_eq!(proxy.get("/", &field(60 * 1024)).status(), 200);
    assert_eq!(proxy.get("/", &field(66 * 1024)).status(), 431);
    assert_eq!(origin.heads(), 1);
}

/// SIGTERM: a stream under way goes on to its end.
#[test]
fn a_stream_under_way_finishes_after_the_stop_signal() {
    let (release, gate) = mpsc::channel::<()>();
    let gate = Mutex::new(gate);
    let origin = Origin::start().on("/events", move |x| {
        x.send("HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n")?;
        x.chunk(b"data: one\n\n")?;
        let _ = gate.lock().unwrap().recv_timeout(DEADLINE);
        x.chunk(b"data: two\n\n")?;
        x.send("0\r\n\r\n")
    });
    let mut binary = Binary::start(proxy().to(&origin).toml("drain_timeout = \"10m\"\n"));
    let mut client = Client::connect(binary.addr());
    client.send("GET /events HTTP/1.1\r\nHost: site.test\r\n\r\n");
    assert_eq!(client.head().status, 200);
    assert_eq!(client.chunk().unwrap(), b"data: one\n\n");
    binary.signal(Signal::TERM);
    binary.wait_until_refusing();
    release.send(()).unwrap();
    assert_eq!(client.chunk().unwrap(), b"data: two\n\n");
    assert_eq!(client.chunk(), None);
    assert!(binary.wait().success());
}

/// `init` writes a file that `check` takes.
#[test]
fn a_starter_file_passes_its_check() {
    let folder = tempfile::tempdir().unwrap();
    let optgate = |args: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_optgate"));
        command.args(args).current_dir(folder.path()).output().unwrap()
    };
    assert!(optgate(&["init"]).status.success());
    let checked = optgate(&["check", "--config", "optgate.toml", "--data-dir", "data"]);
    assert!(checked.status.success(), "{checked:?}");
}

/// A service manager must not start it again and again: what `run` refuses, `check` refuses, with 78.
#[test]
fn a_certificate_that_cannot_be_used_is_refused_by_check_and_run_alike() {
    let garbage = |builder: &Builder| {
        let file = builder.dir().join("garbage.pem");
        std::fs::write(&file, "this is no certificate").unwrap();
        file.display().to_string()
    };
    let listening = proxy().upstream("http://127.0.0.1:1");
    let file = garbage(&listening);
    let listening = listening.toml(&format!(
        "[tls]\nlisten = [\"127.0.0.1:0\"]\n[[tls.certificates]]\nchain = {file:?}\nkey = {file:?}\n"
    ));
    let asking = proxy();
    let file = garbage(&asking);
    let asking = asking.toml(&format!(
        "[[sites]]\nname = \"shop\"\nupstream = {{ url = \"https://127.0.0.1:1\", roots = {file:?} }}\n"
    ));
    for builder in [listening, asking] {
        for verb in ["check", "run"] {
            let mut command = Command::new(env!("CARGO_BIN_EXE_optgate"));
            let output = command.arg(verb).arg("--config").arg(builder.write()).output().unwrap();
            let words = String::from_utf8_lossy(&output.stderr).into_owned();
            assert_eq!(output.status.code(), Some(78), "{verb}: {words}");
            assert!(words.contains("garbage.pem"), "{verb}: {words}");
        }
    }
}
