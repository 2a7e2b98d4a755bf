//! Content-Security-Policy through a running proxy: the site's own, and the second wall from learning to
//! enforcing.

use std::net::SocketAddr;
use std::sync::Arc;

use optgate::app::{self, Running};
use optgate::config::{CspMode, Settings};
use optgate::enforce::keeper;

use super::acceptance_choices::{PAGE, shop};
use super::support::client::{Client, Response, get};
use super::support::origin::{Origin, answer};
use super::support::proxy::{Builder, figure, proxy};

const GPC: &str = "Sec-GPC: 1\r\n";
const CSP: &str = "content-security-policy";
const REPORT_ONLY: &str = "content-security-policy-report-only";
const REPORT: &str = "/privacy-choices/report";

fn learning(builder: &Builder) -> Settings {
    let mut settings = builder.settings();
    Arc::make_mut(&mut settings.sites[0]).csp.mode = CspMode::Learn;
    settings
}

fn admin(running: &Running, method: &str, path: &str) -> Response {
    let addr = running.admin();
    Client::connect(addr).send(format!("{method} {path} HTTP/1.1\r\nHost: {addr}\r\n\r\n")).response(method)
}

fn third_parties(running: &Running) -> serde_json::Value {
    let answer = admin(running, "GET", "/api/third-parties");
    let mut all: serde_json::Value = serde_json::from_slice(&answer.body).unwrap();
    all["sites"][0].take()
}

fn counted(running: &Running, name: &str) -> u64 {
    figure(&running.metrics().render(), name).unwrap_or(0)
}

/// A report as a browser sends it: no cookie, no signal.
fn report(addr: SocketAddr, kind: &str, fields: &str, body: &str) -> Response {
    let head = format!("POST {REPORT} HTTP/1.1\r\nHost: site.test\r\nContent-Type: {kind}\r\n{fields}");
    let length = body.len();
    Client::connect(addr).send(format!("{head}Content-Length: {length}\r\n\r\n{body}")).response("POST")
}

fn by_uri(blocked: &str) -> String {
    format!(
        r#"{{"csp-report":{{"document-uri":"http://site.test/a?mail=x","blocked-uri":"{blocked}",
        "effective-directive":"img-src","original-policy":"default-src 'self'","disposition":"report"}}}}"#
    )
}

fn by_api(blocked: &str) -> String {
    format!(
        r#"[{{"type":"csp-violation","age":0,"url":"http://site.test/a","user_agent":"Agent/1","body":{{
        "documentURL":"http://site.test/a","blockedURL":"{blocked}",
        "effectiveDirective":"script-src-elem","disposition":"report"}}}}]"#
    )
}

/// Learn, list, paste, enforce; and the list outlives the process.
#[test]
fn what_was_learnt_becomes_the_allow_list_that_is_enforced() {
    let origin = shop(&["/"]);
    let builder = proxy().to(&origin);
    let first = app::start(learning(&builder)).unwrap();
    let addr = first.listen()[0];
    let nothing = admin(&first, "GET", "/api/sites/default/csp-allow").text();
    assert!(nothing.contains("mode = \"learn\"") && !nothing.contains("enforce"), "{nothing}");
    let policy = get(addr, "/", GPC).head.one(REPORT_ONLY).unwrap().to_owned();
    assert!(policy.starts_with("default-src 'self' ") && policy.contains(REPORT), "{policy}");
    assert_eq!(get(addr, "/", GPC).head.one(CSP), None, "learning blocks nothing");
    for (kind, body) in [
        ("application/csp-report", by_uri("https://cdn.example/img/7?id=secret")),
        ("application/csp-report", by_uri("https://cdn.example/img/8")),
        ("application/reports+json", by_api("https://cdn.example/lib.js")),
        ("application/reports+json", by_api("https://connect.facebook.net/en_US/fbevents.js")),
    ] {
        let answer = report(addr, kind, "", &body);
        assert_eq!((answer.status(), answer.body.len()), (204, 0), "{kind}");
        assert!(answer.head.all("set-cookie").is_empty());
    }
    let site = third_parties(&first);
    assert_eq!((&site["site"], &site["mode"]), (&"default".into(), &"learn".into()));
    let seen = site["third_parties"].as_array().unwrap().clone();
    let line =
        |n: usize| (seen[n]["host"].as_str(), seen[n]["directive"].as_str(), seen[n]["count"].as_u64());
    assert_eq!(line(0), (Some("cdn.example"), Some("img-src"), Some(2)));
    assert_eq!(line(1), (Some("cdn.example"), Some("script-src-elem"), Some(1)));
    assert_eq!(line(2), (Some("connect.facebook.net"), Some("script-src-elem"), Some(1)));
    assert_eq!((&seen[2]["vendor"], &seen[2]["action"]), (&"facebook-sdk".into(), &"strip".into()));
    assert!(seen[0]["vendor"].is_null() && seen[0]["first_seen"].is_string());
    let settings = admin(&first, "GET", "/api/sites/default/csp-allow").text();
    first.stop().unwrap();
    let kept = std::fs::read_to_string(builder.dir().join("data/third-parties.json")).unwrap();
    for private in ["secret", "mail=x", "Agent/1", "127.0.0.1", "/lib.js"] {
        assert!(!kept.contains(private), "{private} in {kept}");
    }

    let builder = builder.toml(&settings);
    let second = app::start(builder.settings()).unwrap();
    assert_eq!(third_parties(&second)["third_parties"].as_array().unwrap(), &seen, "{settings}");
    let page = get(second.listen()[0], "/", GPC);
    let policy = page.head.one(CSP).unwrap();
    assert!(policy.contains(" cdn.example; ") && !policy.contains("facebook"), "{policy}");
    assert!(policy.contains("'unsafe-inline'") && policy.contains("'unsafe-eval'"), "{policy}");
    assert_eq!(page.head.one(REPORT_ONLY), None);
    assert_eq!(admin(&second, "DELETE", "/api/sites/default/third-parties").status(), 204);
    assert_eq!(third_parties(&second)["third_parties"], serde_json::json!([]));
    second.stop().unwrap();
}

/// The wall stands on opted-out documents and frames alone, and on the 304 that renews one.
#[test]
fn the_wall_is_for_opted_out_pages_only() {
    let tagged = "HTTP/1.1 304 Not Modified\r\nETag: \"a\"\r\n\r\n";
    let origin = shop(&["/"]).on("/tagged", move |x| {
        if x.request().one("if-none-match").is_some() {
            return x.send(tagged);
        }
        x.send(answer("Content-Type: text/html\r\nETag: \"a\"\r\n", PAGE))
    });
    let proxy = proxy().to(&origin).toml("[csp]\nmode = \"enforce\"\n").run();
    let walls = |path: &str, fields: &str| proxy.get(path, fields).head.all(CSP).len();
    for dest in ["document", "iframe"] {
        assert_eq!(walls("/", &format!("{GPC}Sec-Fetch-Dest: {dest}\r\n")), 1, "{dest}");
        assert_eq!(walls("/", &format!("Sec-Fetch-Dest: {dest}\r\n")), 0, "{dest}");
    }
    for dest in ["empty", "image", "script"] {
        assert_eq!(walls("/", &format!("{GPC}Sec-Fetch-Dest: {dest}\r\n")), 0, "{dest}");
    }
    assert_eq!(walls("/text", GPC), 0);
    let tag = proxy.get("/tagged", GPC).head.one("etag").unwrap().to_owned();
    let renewed = proxy.get("/tagged", &format!("{GPC}If-None-Match: {tag}\r\n"));
    assert_eq!((renewed.status(), renewed.head.all(CSP).len()), (304, 1));
}

/// The site's own policy stays, with the guard admitted; ours is one more.
#[test]
fn the_sites_policy_and_the_wall_stand_side_by_side() {
    let fields =
        "Content-Type: text/html\r\nContent-Security-Policy: script-src 'self'; trusted-types app\r\n";
    let origin = Origin::start().answers("/", answer(fields, PAGE));
    let settings = "[csp]\nmode = \"enforce\"\nallow = [\"*.cdn.example\"]\n";
    let proxy = proxy().to(&origin).toml(settings).run();
    let page = proxy.get("/", GPC);
    let policies = page.head.all(CSP);
    assert!(policies[0].starts_with("script-src 'self' 'sha256-"), "{policies:?}");
    assert!(policies[0].ends_with("; trusted-types app optgate"), "{policies:?}");
    assert!(policies[1].contains(" *.cdn.example; report-uri"), "{policies:?}");
    let keeper = keeper::csp_hash();
    assert_eq!(proxy.get("/", "").head.all(CSP), [format!("script-src 'self' {keeper}; trusted-types app")]);
}

/// CSP3, 6.7.3.3: a script that a policy knows by the hash of its text would not run with another; so it keeps
/// it, and its imports are not asked about.
#[test]
fn a_script_that_a_policy_knows_by_its_hash_keeps_its_text() {
    let page = "<!doctype html><title>x</title><script>import(where)</script>";
    for (policy, script) in [
        ("script-src 'sha256-abc='", "<script>import(where)</script>"),
        ("script-src 'self' 'unsafe-inline'", "<script>import(optgateImport(where))</script>"),
    ] {
        let fields = format!("Content-Type: text/html\r\nContent-Security-Policy: {policy}\r\n");
        let proxy = proxy().to(&Origin::start().answers("/", answer(&fields, page))).run();
        let sent = proxy.get("/", GPC).text();
        assert!(sent.contains(script), "{policy}: {sent}");
    }
}

/// README: turning the wall on breaks no payment and no captcha, in either mode and under a path's own rules;
/// and nobody whom the site strips comes in beside them.
#[test]
fn essential_vendors_come_through_the_wall_by_themselves() {
    for (mode, field) in [("learn", REPORT_ONLY), ("enforce", CSP)] {
        let rules = format!("[csp]\nmode = \"{mode}\"\n[vendors]\ngoogle-tag-manager = \"strip\"\n");
        let proxy = proxy().to(&shop(&["/"])).toml(&rules).run();
        let page = proxy.get("/", GPC);
        let (sources, _) = page.head.one(field).unwrap().split_once("; ").unwrap();
        let sources: Vec<_> = sources.split(' ').collect();
        for source in ["js.stripe.com", "*.hcaptcha.com", "www.google.com/recaptcha/", "*.onetrust.com"] {
            assert!(sources.contains(&source), "{mode}: {source} in {sources:?}");
        }
        let others = ["facebook", "doubleclick", "googletagmanager", "google-analytics", "https:"];
        let open = |s: &&str| {
            others.iter().any(|o| s.contains(o)) || ["google.com", "*.google.com", "*"].contains(s)
        };
        assert_eq!(sources.into_iter().find(open), None, "{mode}");
        assert_eq!(proxy.get("/", "").head.all(field).len(), 0, "{mode}");
    }
}

/// Anybody may send to this address: size, kind and sender are bounded, and every body is counted.
#[test]
fn what_is_no_report_of_our_pages_is_refused_and_changes_nothing() {
    let builder = proxy().to(&shop(&["/"]));
    let running = app::start(learning(&builder)).unwrap();
    let addr = running.listen()[0];
    let good = by_uri("https://cdn.example/");
    let large = format!("{good}{}", " ".repeat(64 * 1024));
    let csp = "application/csp-report";
    for (status, kind, fields, body) in [
        (400, csp, "", "{"),
        (413, csp, "", large.as_str()),
        (415, "text/html", "", good.as_str()),
        (403, csp, "Sec-Fetch-Site: cross-site\r\n", good.as_str()),
        (403, csp, "Origin: https://evil.example\r\n", good.as_str()),
    ] {
        assert_eq!(report(addr, kind, fields, body).status(), status, "{kind} {fields}");
    }
    let foreign = good.replace("http://site.test/a", "https://evil.example/");
    assert_eq!(report(addr, csp, "", &foreign).status(), 204);
    assert_eq!(third_parties(&running)["third_parties"], serde_json::json!([]));
    assert_eq!(report(addr, csp, "Sec-Fetch-Site: same-origin\r\nOrigin: null\r\n", &good).status(), 204);
    assert_eq!(third_parties(&running)["third_parties"][0]["host"], "cdn.example");
    assert_eq!(counted(&running, "optgate_reports_total{result=\"refused\"}"), 5);
    assert_eq!(counted(&running, "optgate_reports_total{result=\"read\"}"), 2);
    assert_eq!(get(addr, REPORT, "").status(), 405);
    running.stop().unwrap();
}

/// A flood of reports is turned away before its bodies are read.
#[test]
fn reports_above_the_rate_are_dropped_and_counted() {
    // The limit of one client is another's test.
    let proxy = proxy().to(&shop(&["/"])).toml("[limits]\nportal_rate = 0\n").run();
    let mut statuses = Vec::new();
    // Nothing is kept waiting: 3,000 answers take seconds, and the rate is 100 a second after 500.
    while statuses.len() < 3_000 && statuses.last() != Some(&429) {
        statuses.push(report(proxy.addr(), "text/plain", "", r#"{"v":1}"#).status());
    }
    assert_eq!(statuses.pop(), Some(429));
    assert!(statuses.len() > 500 && statuses.iter().all(|status| *status == 204), "{}", statuses.len());
    assert_eq!(counted(proxy.running(), "optgate_reports_total{result=\"dropped\"}"), 1);
}

/// The guard's counts: by vendor, whoever is unknown left out.
#[test]
fn the_guards_counts_become_metrics_by_vendor() {
    let proxy = proxy().to(&shop(&["/"])).run();
    let body = r#"{"v":1,"blocked":{"connect.facebook.net":3,"www.facebook.com":2,"nobody.example":9},
                   "slipped":{"bat.bing.com":1}}"#;
    for kind in ["text/plain;charset=UTF-8", "application/json"] {
        assert_eq!(report(proxy.addr(), kind, "Cookie: a=b\r\n", body).status(), 204);
    }
    let count = |name: &str| counted(proxy.running(), name);
    assert_eq!(count("optgate_guard_blocked_total{vendor=\"facebook-sdk\"}"), 6);
    assert_eq!(count("optgate_guard_blocked_total{vendor=\"meta-pixel\"}"), 4);
    assert_eq!(count("optgate_guard_slipped_total{vendor=\"microsoft-uet\"}"), 2);
    let in_all = r#"{"v":1,"blocked":{},"slipped":3}"#;
    assert_eq!(report(proxy.addr(), "text/plain;charset=UTF-8", "", in_all).status(), 204);
    assert_eq!(count("optgate_guard_slipped_total{vendor=\"unattributed\"}"), 3);
    let text = proxy.running().metrics().render();
    assert!(!text.contains("nobody.example"), "{text}");
}

/// Settings that would let a tracker in are refused at start, by name.
#[test]
fn an_allow_list_with_a_stripped_vendor_is_refused_at_start() {
    let origin = shop(&["/"]);
    let settings = "[csp]\nmode = \"enforce\"\nallow = [\"connect.facebook.net\"]\n";
    let refused = format!("{:#}", proxy().to(&origin).toml(settings).try_run().err().unwrap());
    assert!(refused.contains("connect.facebook.net") && refused.contains("facebook-sdk"), "{refused}");
}

/// A page shared by paths: a path's own rules count too.
#[test]
fn a_path_that_strips_more_keeps_its_vendor_out_of_the_list() {
    let origin = shop(&["/"]);
    let upstream = origin.url();
    let site = format!(
        "[csp]\nmode = \"enforce\"\n[[sites]]\nupstream = {upstream:?}\nvendors = {{ hotjar = \"allow\" }}\n\
         csp = {{ allow = [\"static.hotjar.com\"] }}\n"
    );
    let proxy_ok = proxy().toml(&site).run();
    assert!(proxy_ok.get("/", GPC).head.one(CSP).unwrap().contains(" static.hotjar.com;"));
    let path = "[[sites.paths]]\nprefix = \"/checkout\"\nvendors = { hotjar = \"strip\" }\n";
    let refused = format!("{:#}", proxy().toml(&format!("{site}{path}")).try_run().err().unwrap());
    assert!(refused.contains("hotjar"), "{refused}");
}
