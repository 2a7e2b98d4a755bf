//! `optgate bench` as an engineer types it, against origins on loopback. What it measures depends on the machine;
//! what it says, and how it ends, does not.

use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value as Json;
use tempfile::TempDir;

use super::support::binary::own_address;
use super::support::origin::{Origin, Recorded, answer};
use super::support::pki::Authority;
use super::support::proxy::proxy;
use super::support::wait_until;

const PAGE: &str = "<!doctype html><html><head><title>Shop</title>\
     <script src=\"https://connect.facebook.net/en_US/fbevents.js\"></script></head><body>Hello</body></html>";

/// A desk of its own: an empty folder, also for temporary files.
struct Desk(TempDir);

impl Desk {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    fn command(&self, args: &[&str]) -> Command {
        let temporary = self.path().join("tmp");
        std::fs::create_dir_all(&temporary).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_optgate"));
        command.arg("bench").args(args).current_dir(self.path()).env("TMPDIR", temporary);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    /// Half a second of fifty requests, and what else is said.
    fn run(&self, args: &[&str]) -> Output {
        self.command(&[&["--rate", "50", "--duration", "500ms"], args].concat()).output().unwrap()
    }

    /// Nothing is left of it: no folder, no process.
    fn assert_clean(&self) {
        let left = std::fs::read_dir(self.path().join("tmp")).unwrap();
        let left: Vec<_> = left.map(|entry| entry.unwrap().path()).collect();
        assert!(left.is_empty(), "{left:?}");
        let name = self.path().to_str().unwrap();
        let lines = std::fs::read_dir("/proc").unwrap().flatten();
        let lines = lines.filter_map(|process| std::fs::read(process.path().join("cmdline")).ok());
        let lines: Vec<_> = lines.map(|line| String::from_utf8_lossy(&line).into_owned()).collect();
        assert!(!lines.iter().any(|line| line.contains(name)), "{lines:?}");
    }
}

fn out(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn words(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

/// The report of `--format json`, with the exit code that belongs to it.
fn report(output: &Output) -> Json {
    let report: Json =
        serde_json::from_slice(&output.stdout).unwrap_or_else(|e| panic!("{e}: {}", words(output)));
    let verdict = &report["verdict"];
    let code = match (verdict["inconclusive"].as_array().unwrap().is_empty(), &verdict["within"]) {
        (false, _) => 3,
        (true, Json::Bool(false)) => 1,
        _ => 0,
    };
    assert_eq!(output.status.code(), Some(code), "{verdict:#} {}", words(output));
    report
}

/// Whether a request came through Optgate (RFC 9110, 7.6.3: it names itself in `Via`).
fn proxied(request: &Recorded) -> bool {
    request.one("via").is_some()
}

/// Data on stdout, words on stderr; every figure has its line, and what is often misread is said.
#[test]
fn the_text_says_what_was_measured_where_and_what_it_means() {
    let plain = answer("Content-Type: text/plain\r\n", "x".repeat(1_000));
    let (desk, origin) = (Desk::new(), Origin::start().answers("/page", plain));
    let output = desk.run(&["--upstream", origin.url(), "--path", "/page?a=1"]);
    let text = out(&output);
    assert!(
        text.starts_with(&format!("optgate {} (debug build), Linux ", env!("CARGO_PKG_VERSION"))),
        "{text}"
    );
    for part in [
        "GET /page?a=1: direct from http://127.0.0.1:",
        "proxied by an Optgate of its own at http://127.0.0.1:",
        "0.5 s a rate after 0.5 s of warm-up; up to 8 connections each",
        "50 requests/s each; achieved ",
        "errors 0 direct, 0 proxied",
        "last byte ",
        "first byte ",
        "    p50 ",
        "    p90* ",
        "    p99* ",
        "    p99.9* ",
        "    max ",
        "difference   95 % interval",
        " us a request",
        " MiB\n",
        "bodies 1000 and 1000 (0 saved)",
        "rewrite memo       not used",
        "sender's lag       p50 ",
        "halves             direct p50 ",
        "The difference of two percentiles is not a percentile of differences",
        "* Fewer than 10 answers lie beyond it",
    ] {
        assert!(text.contains(part), "{part:?} is not in {text}");
    }
    let inconclusive = text.contains("\ninconclusive:\n");
    assert_eq!(output.status.code(), Some(if inconclusive { 3 } else { 0 }), "{text}");
    assert_ne!(inconclusive, text.contains("\nadded p99: "), "{text}");
    assert!(words(&output).starts_with("note: this is a debug build"), "{}", words(&output));
    desk.assert_clean();
}

/// Direct and proxied requests alternate on one schedule: drift of the machine falls on both. The rewritten page is
/// longer, and its fields are sent both ways.
#[test]
fn direct_and_proxied_requests_are_the_same_and_alternate() {
    let origin = Origin::start().answers("/", answer("Content-Type: text/html\r\n", PAGE));
    let desk = Desk::new();
    let output = desk.run(&[
        "--upstream",
        origin.url(),
        "--header",
        "Sec-GPC: 1",
        "--header",
        "Cookie: a=b",
        "--rate",
        "40,60",
        "--format",
        "json",
        "--html",
        "report.html",
    ]);
    let report = report(&output);
    assert_eq!(
        report["subject"]["headers"],
        serde_json::json!(["sec-gpc", "cookie"]),
        "values may be secrets"
    );
    assert_eq!(report["subject"]["own"], true);
    let runs = report["runs"].as_array().unwrap();
    // The first rate is the one of all runs here.
    assert_eq!(runs.iter().map(|run| run["rate"].as_u64().unwrap()).collect::<Vec<_>>(), [50, 40, 60]);
    for run in runs {
        let answers = run["rate"].as_u64().unwrap() / 2;
        for side in ["direct", "proxied"] {
            assert_eq!(run[side]["answers"], answers, "{run:#}");
            assert_eq!(run[side]["errors"], serde_json::json!({}));
            assert!(run[side]["achieved_rate"].as_f64().unwrap() > 0.0);
        }
        assert_eq!(run["direct"]["body_bytes"], PAGE.len() as f64);
        assert!(run["body_bytes_saved"].as_f64().unwrap() < -1_000.0, "the guard is in the page: {run:#}");
        for rows in ["last_byte", "first_byte"] {
            let rows = run[rows].as_array().unwrap();
            let names: Vec<_> = rows.iter().map(|row| row["percentile"].as_str().unwrap()).collect();
            assert_eq!(names, ["p50", "p90", "p99", "p99.9", "max"]);
            for row in rows {
                let (direct, proxied) =
                    (row["direct_us"].as_f64().unwrap(), row["proxied_us"].as_f64().unwrap());
                assert!((proxied - direct - row["difference_us"].as_f64().unwrap()).abs() < 0.01, "{row}");
                let interval = row["interval_us"].as_array();
                assert_eq!(interval.is_some(), row["percentile"] != "max", "{row}");
                assert!(interval.is_none_or(|ends| ends[0].as_f64() <= ends[1].as_f64()), "{row}");
            }
        }
        assert!(
            run["cpu"]["us_per_request"].as_f64().unwrap() > 0.0
                && run["resident_bytes"].as_u64() > Some(1 << 20)
        );
        assert!(run["memo"]["hits"].as_u64() > Some(10), "the same page each time: {run:#}");
        assert!(run["lag"]["late_percent"].is_number() && run["control"]["drift_percent"].is_number());
    }
    let (through, straight): (Vec<_>, Vec<_>) = origin.seen(1).into_iter().partition(proxied);
    assert_eq!(through.len(), straight.len());
    for request in through.iter().chain(&straight) {
        assert_eq!(request.one("sec-gpc").as_deref(), Some("1"), "{}", request.text());
        assert_eq!(format!("http://{}", request.one("host").unwrap()), origin.url());
        assert_eq!(request.one("cookie").as_deref(), Some("a=b"));
    }
    let page = std::fs::read_to_string(desk.path().join("report.html")).unwrap();
    assert!(page.starts_with("<!DOCTYPE html>"), "{page}");
    assert_eq!(
        (page.matches("<svg ").count(), page.matches("<polyline ").count()),
        (3, 6),
        "a plot for each rate"
    );
    assert_eq!(page.matches("</table>").count(), 6);
    for outside in ["<script", "src=", "<link", "url(", "@import"] {
        assert!(!page.contains(outside), "{outside} in {page}");
    }
    desk.assert_clean();
}

/// The order of arrival: between the first tenth and the last of one side there are about as many of the other.
#[test]
fn neither_side_is_measured_before_the_other() {
    let origin = Origin::start();
    let output = Desk::new().run(&["--upstream", origin.url(), "--format", "json"]);
    report(&output);
    let order: Vec<bool> = origin.seen(1).iter().map(proxied).collect();
    // Two to look, then warm-up and measurement.
    let order = &order[2..];
    for part in order.chunks_exact(order.len() / 5) {
        let share = part.iter().filter(|through| **through).count() as f64 / part.len() as f64;
        assert!((0.2..=0.8).contains(&share), "{order:?}");
    }
}

/// The open loop: an answer's time counts from when its request was due. Over its one connection a server that takes 50
/// ms for each of 50 requests a second is behind by 30 ms more with every one; who counted from the sending would
/// see 50 ms, however long the queue.
#[test]
fn waiting_for_a_slow_server_counts_in_full() {
    let origin = Origin::start().on("/", |x| {
        std::thread::sleep(std::time::Duration::from_millis(50));
        x.ok("text/plain", b"hello")
    });
    let output = Desk::new().run(&["--upstream", origin.url(), "--connections", "1", "--format", "json"]);
    let run = &report(&output)["runs"][0];
    assert_eq!(run["direct"]["answers"], 25, "{run:#}");
    let max = run["last_byte"].as_array().unwrap().last().unwrap();
    // The last of 25 is due after 24 * 20 ms, and answered after 25 * 50 ms at the earliest; the first was warm.
    assert!(max["direct_us"].as_f64().unwrap() >= 700_000.0, "{max}");
}

/// RFC 9112, 9.6: a server that closes after each answer is asked over new connections, and that is no error.
#[test]
fn a_site_without_kept_connections_is_measured_all_the_same() {
    let closing = "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok";
    let origin = Origin::start().on("/", move |x| {
        x.cut();
        x.send(closing)
    });
    let run = &report(&Desk::new().run(&["--upstream", origin.url(), "--format", "json"]))["runs"][0];
    for (side, opened) in [("direct", 25..=50), ("proxied", 0..=8)] {
        assert_eq!(
            (&run[side]["errors"], run[side]["answers"].as_u64()),
            (&serde_json::json!({}), Some(25)),
            "{run:#}"
        );
        assert!(opened.contains(&run[side]["connections_opened"].as_u64().unwrap()), "{run:#}");
    }
}

/// It says "inconclusive" and why, and ends with 3.
#[test]
fn an_origin_that_fails_some_requests_makes_it_inconclusive() {
    let count = AtomicU64::new(0);
    let origin = Origin::start().on("/", move |x| {
        let number = count.fetch_add(1, Ordering::SeqCst);
        match number {
            n if n > 10 && n % 5 == 0 => x.send("HTTP/1.1 500 Oops\r\nContent-Length: 0\r\n\r\n"),
            _ => x.ok("text/plain", b"fine"),
        }
    });
    let desk = Desk::new();
    let output = desk.run(&["--upstream", origin.url(), "--max-added-p99", "1h"]);
    let text = out(&output);
    assert_eq!(output.status.code(), Some(3), "{text}{}", words(&output));
    assert!(text.contains(": answered 500 Internal Server Error, not 200 OK"), "{text}");
    assert!(
        text.contains("inconclusive:\n  rate 50: ") && text.contains(" requests failed, most of them:"),
        "{text}"
    );
    assert!(words(&output).contains("optgate: inconclusive: rate 50: "), "{}", words(&output));
    let json = report(&desk.run(&["--upstream", origin.url(), "--format", "json"]));
    assert_eq!(json["verdict"]["within"], Json::Null);
    assert!(
        json["runs"][0]["direct"]["errors"].as_object().unwrap().keys().any(|why| why.contains("500")),
        "{json}"
    );
    desk.assert_clean();
}

/// Errors say what, where, why and what to type next; nothing is printed that looks like a figure.
#[test]
fn a_site_that_cannot_be_measured_is_named_with_what_to_do() {
    let origin = Origin::start()
        .answers("/gone", "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n")
        .answers("/garbage", "no HTTP at all\r\n\r\n");
    let nobody = format!("http://{}", own_address());
    let foreign = Origin::start_tls(Authority::new().leaf("127.0.0.1").server());
    let table: [(&str, &[&str], &[&str]); 8] = [
        (&nobody, &[], &[&nobody, "(--upstream)", "Connection refused", "curl -v"]),
        (origin.url(), &["--path", "/gone"], &["404 Not Found", "GET /gone", "--path", "--header"]),
        (origin.url(), &["--path", "/garbage"], &["no answer from", "GET /garbage"]),
        (foreign.url(), &[], &["no TLS with https://127.0.0.1", "SSL_CERT_FILE"]),
        ("127.0.0.1:3000", &[], &["--upstream", "has no scheme", "http://127.0.0.1:3000"]),
        ("http://127.0.0.1:3000/shop", &[], &["--upstream", "--path"]),
        (origin.url(), &["--data-dir", "data"], &["--data-dir data", "leave the flag away"]),
        (origin.url(), &["--through", &nobody], &[&nobody, "(--through)", "Connection refused"]),
    ];
    let desk = Desk::new();
    for (upstream, more, said) in table {
        let output = desk.run(&[&["--upstream", upstream], more].concat());
        assert_eq!(
            (output.status.code(), out(&output).as_str()),
            (Some(1), ""),
            "{upstream}: {}",
            words(&output)
        );
        for part in said {
            assert!(words(&output).contains(part), "{part:?} is not in {}", words(&output));
        }
    }
    desk.assert_clean();
}

/// 2 is wrong usage.
#[test]
fn flags_that_make_no_sense_are_wrong_usage() {
    for flags in [
        &["--rate", "0"][..],
        &["--rate", "a"],
        &["--path", "shop"],
        &["--header", "Sec-GPC"],
        &["--duration", "10"],
        &["--max-added-p99", "2"],
        &["--connections", "0"],
        &["--pid", "1"],
        &["--format", "xml"],
    ] {
        let output =
            Desk::new().command(&[&["--upstream", "http://127.0.0.1:1"], flags].concat()).output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{flags:?}: {}", words(&output));
    }
}

/// RFC 9110, 4.2.2: an https origin is verified, by the bench as by the Optgate that it starts.
#[test]
fn an_https_site_is_measured_once_its_authority_is_trusted() {
    let (desk, authority) = (Desk::new(), Authority::new());
    let origin = Origin::start_tls(authority.leaf("127.0.0.1").server());
    let roots = authority.write(desk.path());
    let args = ["--rate", "50", "--duration", "500ms", "--format", "json", "--upstream", origin.url()];
    let output = desk.command(&args).env("SSL_CERT_FILE", &roots).output().unwrap();
    let run = &report(&output)["runs"][0];
    assert_eq!((run["direct"]["answers"].as_u64(), run["proxied"]["answers"].as_u64()), (Some(25), Some(25)));
    // Both sides' heads and bodies are small; only the direct one is in records of TLS.
    assert!(
        run["direct"]["wire_bytes_sent"].as_f64() > run["proxied"]["wire_bytes_sent"].as_f64(),
        "{run:#}"
    );
}

/// `--config`: the settings measured are the user's, but nothing of theirs is opened, fetched or written to.
#[test]
fn the_settings_given_are_those_that_are_measured() {
    let (desk, origin) = (Desk::new(), Origin::start());
    let site = format!(
        "listen = \"127.0.0.1:1\"\ndefault_site = \"none\"\nserver_timing = \"on\"\n\
         data_dir = \"must-not-be-made\"\n[tls]\nredirect = true\n\
         [[sites]]\nhosts = [\"shop.test\"]\nupstream = {:?}\nstrip_link_params = true\n",
        origin.url()
    );
    std::fs::write(desk.path().join("site.toml"), site).unwrap();
    let args = ["--upstream", origin.url(), "--config", "site.toml", "--format", "json"];
    let without_host = desk.run(&args);
    assert_eq!(without_host.status.code(), Some(1), "{}", words(&without_host));
    let said = words(&without_host);
    assert!(said.contains("421 Misdirected") && said.contains("--header 'Host: NAME'"), "{said}");
    let json = report(&desk.run(&[&args[..], &["--header", "Host: shop.test"]].concat()));
    assert_eq!(json["runs"][0]["proxied"]["answers"], 25);
    let seen = origin.seen(4);
    assert!(seen.iter().skip(2).all(|request| request.one("host").as_deref() == Some("shop.test")));
    assert!(!desk.path().join("must-not-be-made").exists());

    std::fs::write(desk.path().join("site.toml"), "lisen = 1\n").unwrap();
    let wrong = desk.run(&args);
    assert_eq!(wrong.status.code(), Some(78), "{}", words(&wrong));
    assert!(words(&wrong).contains("did you mean `listen`?"), "{}", words(&wrong));
    desk.assert_clean();
}

/// `--through`: an Optgate that runs already, and what is known of it.
#[test]
fn one_that_runs_already_can_be_measured() {
    let (desk, origin) = (Desk::new(), Origin::start());
    let proxy = proxy().to(&origin).run();
    let through = format!("http://{}", proxy.addr());
    let args = ["--upstream", origin.url(), "--through", &through, "--format", "json"];
    let json = report(&desk.run(&args));
    let run = &json["runs"][0];
    assert_eq!(
        (&json["subject"]["own"], &run["cpu"], &run["resident_bytes"]),
        (&Json::Bool(false), &Json::Null, &Json::Null)
    );
    // One that knows how often its memo helped: nine times in ten, after what it said first.
    let asked = AtomicU64::new(0);
    let admin = Origin::start().on("/metrics", move |x| {
        let (hits, misses) = if asked.fetch_add(1, Ordering::SeqCst) == 0 { (5, 5) } else { (14, 6) };
        let text = format!("optgate_memo_hits_total {hits}\noptgate_memo_misses_total {misses}\n# EOF\n");
        x.ok("text/plain", text.as_bytes())
    });
    let admin = admin.url().strip_prefix("http://").unwrap().to_owned();
    let pid = std::process::id().to_string();
    let json = report(&desk.run(&[&args[..], &["--admin", &admin, "--pid", &pid]].concat()));
    let run = &json["runs"][0];
    assert!(run["cpu"]["us_per_request"].as_f64().unwrap() > 0.0, "{run:#}");
    assert_eq!(run["memo"], serde_json::json!({ "hits": 9, "misses": 1, "hit_percent": 90.0 }));
    desk.assert_clean();
}

/// `--max-added-p99`: 1 when more is added, unless nothing sure can be said. What stands between is as slow as the
/// test wants: each answer comes a twentieth of a second late.
#[test]
fn a_threshold_decides_the_exit_code() {
    let (desk, origin) = (Desk::new(), Origin::start());
    let slow = Origin::start().on("/", |x| {
        std::thread::sleep(std::time::Duration::from_millis(50));
        x.ok("text/plain", b"hello")
    });
    let args = ["--upstream", origin.url(), "--through", slow.url(), "--format", "json", "--max-added-p99"];
    let over = report(&desk.run(&[&args[..], &["300us"]].concat()));
    let under = report(&desk.run(&[&args[..], &["1h"]].concat()));
    for (report, within) in [(over, false), (under, true)] {
        let verdict = &report["verdict"];
        let sure = verdict["inconclusive"].as_array().unwrap().is_empty();
        assert_eq!(verdict["within"], if sure { Json::Bool(within) } else { Json::Null }, "{verdict:#}");
        let p50 = &report["runs"][0]["last_byte"][0];
        assert!(p50["proxied_us"].as_f64().unwrap() >= 50_000.0, "{p50}");
    }
}

/// Ctrl-C, and a stop: no figures of half a run, and what was started ends.
#[test]
fn an_interrupted_measurement_leaves_nothing_behind() {
    for signal in [Signal::INT, Signal::TERM] {
        let (desk, origin) = (Desk::new(), Origin::start());
        let args = ["--upstream", origin.url(), "--rate", "20", "--duration", "10m"];
        let child = desk.command(&args).spawn().unwrap();
        wait_until("a request through Optgate", || origin.seen(1).iter().filter(|r| proxied(r)).count() > 1);
        kill_process(Pid::from_child(&child), signal).unwrap();
        let output = child.wait_with_output().unwrap();
        assert_eq!((output.status.code(), out(&output).as_str()), (Some(1), ""), "{}", words(&output));
        assert!(words(&output).contains("nothing is reported"), "{}", words(&output));
        desk.assert_clean();
    }
}
