//! `server_timing` (W3C Server Timing) and the stages in `/metrics`. No duration is compared with a clock of ours
//! but where one must contain the other.

use std::time::{Duration, Instant};

use super::support::origin::{Origin, answer, held};
use super::support::proxy::{Builder, figure, proxy};

const PAGE: &str = "<!doctype html><html><head><title>Shop</title>\
     <script src=\"https://connect.facebook.net/en_US/fbevents.js\"></script></head><body>Hello</body></html>";
const DOCUMENT: &str = "Accept: text/html\r\nSec-Fetch-Dest: document\r\n";

/// A proxy that tells of a share of its answers.
fn telling(origin: &Origin, share: &str) -> Builder {
    proxy().to(origin).toml(&format!("server_timing = {share}\n"))
}

/// The metrics of a field of ours: name, and milliseconds if it has them.
fn metrics(field: &str) -> Vec<(&str, Option<f64>)> {
    field
        .split(", ")
        .map(|part| {
            let (name, parameter) = part.split_once(';').unwrap_or((part, ""));
            (name, parameter.strip_prefix("dur=").map(|ms| ms.parse().unwrap()))
        })
        .collect()
}

fn stage(text: &str, name: &str) -> u64 {
    let series = format!("optgate_stage_duration_seconds_count{{stage=\"{name}\"}}");
    figure(text, &series).unwrap_or_else(|| panic!("{series} is not in {text}"))
}

/// Nothing is told unless it is asked for, in settings and not by a visitor.
#[test]
fn answers_say_nothing_of_their_time_by_default() {
    let origin = Origin::start();
    for proxy in [proxy().to(&origin).run(), telling(&origin, "\"off\"").run(), telling(&origin, "0").run()] {
        for _ in 0..40 {
            assert_eq!(proxy.get("/", "Server-Timing: optgate\r\n").head.one("server-timing"), None);
        }
    }
}

/// W3C Server Timing, 3: a metric each, with `dur` in milliseconds. The wait for the origin is the origin's; ours
/// is what is left of the whole.
#[test]
fn the_wait_for_the_origin_is_told_apart_from_our_own_time() {
    let (handler, asked, release) = held("late");
    let origin = Origin::start().on("/", handler);
    let proxy = telling(&origin, "\"on\"").run();
    let begun = Instant::now();
    let mut client = proxy.client();
    client.send("GET / HTTP/1.1\r\nHost: site.test\r\n\r\n");
    asked.recv().unwrap();
    let held_at = Instant::now();
    while held_at.elapsed() < Duration::from_millis(20) {
        std::thread::yield_now();
    }
    let wait = held_at.elapsed().as_secs_f64() * 1_000.0;
    release.send(()).unwrap();
    let answer = client.response("GET");
    let whole = begun.elapsed().as_secs_f64() * 1_000.0;
    let found = metrics(answer.head.one("server-timing").unwrap());
    let [("optgate", Some(own)), ("origin", Some(origin))] = found[..] else { panic!("{found:?}") };
    // Each is rounded to a hundredth.
    assert!(origin + 0.01 >= wait && own <= whole - wait + 0.01, "{found:?}, {wait} of {whole}");
}

/// The origin's own metrics stay, and so does its word on who may read them: Timing-Allow-Origin is not ours.
#[test]
fn the_origins_own_timing_and_whom_it_allows_are_left_alone() {
    let fields = "Server-Timing: db;dur=53\r\n";
    let allowed = format!("{fields}Timing-Allow-Origin: https://a.test\r\n");
    let origin = Origin::start().answers("/", answer(fields, "x")).answers("/allowed", answer(&allowed, "x"));
    let proxy = telling(&origin, "\"on\"").run();
    let plain = proxy.get("/", "Origin: https://b.test\r\n").head;
    let lines = plain.all("server-timing");
    assert!(lines.len() == 2 && lines[0] == "db;dur=53" && lines[1].starts_with("optgate;dur="), "{lines:?}");
    assert_eq!(plain.one("timing-allow-origin"), None);
    let allowed = proxy.get("/allowed", "").head;
    assert_eq!(allowed.one("timing-allow-origin"), Some("https://a.test"));
}

/// What is known when the head goes: an opted-out visitor's page has its beginning rewritten before, so that a fault
/// can still be answered; another's streams behind its head.
#[test]
fn the_rewriters_time_is_told_as_far_as_it_is_known() {
    let origin = Origin::start().answers("/", answer("Content-Type: text/html\r\n", PAGE));
    let proxy = telling(&origin, "\"on\"").run();
    let out = proxy.get("/", &format!("{DOCUMENT}Sec-GPC: 1\r\n"));
    let field = out.head.one("server-timing").unwrap().to_owned();
    let found = metrics(&field);
    let [("optgate", Some(own)), ("rewrite", Some(rewrite)), ("origin", Some(_))] = found[..] else {
        panic!("{field}")
    };
    assert!(rewrite <= own + 0.01, "ours includes the rewriter's: {field}");
    let plain = proxy.get("/", DOCUMENT);
    let field = plain.head.one("server-timing").unwrap();
    assert!(field.contains(", rewrite;desc=\"after the head\", origin;dur="), "{field}");
}

/// Answers that are ours: no origin was asked, so there is no time of one. One that fails was waited for.
#[test]
fn answers_of_our_own_name_no_origin() {
    let origin = Origin::start().on("/dead", |x| {
        x.cut();
        Ok(())
    });
    let proxy = telling(&origin, "\"on\"").run();
    let portal = proxy.get("/privacy-choices", "").head;
    let found = metrics(portal.one("server-timing").unwrap());
    assert!(matches!(found[..], [("optgate", Some(_))]), "{found:?}");
    let dead = proxy.get("/dead", "").head;
    assert_eq!(dead.status, 502);
    let found = metrics(dead.one("server-timing").unwrap());
    assert!(matches!(found[..], [("optgate", Some(_)), ("origin", Some(_))]), "{found:?}");
}

/// A share of the answers tells; on one core the draw is the same every time.
#[test]
fn a_share_of_the_answers_can_tell() {
    let origin = Origin::start();
    let proxy = telling(&origin, "0.25").run();
    let mut client = proxy.client();
    let told = (0..200).filter(|_| client.get("/", "").head.one("server-timing").is_some()).count();
    assert!((45..=55).contains(&told), "{told} of 200");
}

/// The overhead by stage. Who tells measures each answer; else it is one in sixteen, and the help says so.
#[test]
fn metrics_show_where_the_time_of_measured_exchanges_went() {
    let origin = Origin::start().answers("/", answer("Content-Type: text/html\r\n", PAGE));
    let proxy = telling(&origin, "\"on\"").run();
    let gpc = format!("{DOCUMENT}Sec-GPC: 1\r\n");
    for (path, fields) in [("/", gpc.as_str()), ("/", DOCUMENT), ("/plain", ""), ("/privacy-choices", "")] {
        assert_eq!(proxy.get(path, fields).status(), 200);
    }
    proxy.wait_for_line("optgate_stage_duration_seconds_count{stage=\"rewrite\"} 2");
    let text = proxy.running().metrics().render();
    for name in ["request", "origin", "head"] {
        assert_eq!(stage(&text, name), 3, "not of what was ours alone: {name}");
    }
    let help = text.lines().find(|line| line.starts_with("# HELP optgate_stage_duration_seconds ")).unwrap();
    assert!(help.contains("one in sixteen") && help.contains("Server-Timing"), "{help}");

    let proxy = super::support::proxy::proxy().to(&origin).run();
    let mut client = proxy.client();
    for _ in 0..320 {
        client.get("/plain", "");
    }
    let counted = stage(&proxy.running().metrics().render(), "request");
    assert!((18..=22).contains(&counted), "{counted} of 320");
}
