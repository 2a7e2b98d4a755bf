//! The admin listener's answers, with a real store beneath.

#![allow(clippy::unwrap_used)] // helpers outside #[test] functions fail the same way

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use arc_swap::ArcSwap;
use axum::Router;
use axum::body::Body;
use http::{HeaderMap, Request, StatusCode};
use http_body_util::BodyExt as _;
use optgate::admin::{AdminState, InForce, SwitchFigures, router};
use optgate::config::{Settings, Switches, VendorAction};
use optgate::privacy::Basis;
use optgate::registry::Registry;
use optgate::store::{Change, Kind, Source, Store, StoreCollector};
use optgate::telemetry::metrics::{Metrics, Outcome};
use tokio::sync::mpsc;
use tower::ServiceExt as _;

use crate::support::guard::default_policy;
use crate::surface::settings;

struct Office {
    router: Router,
    state: AdminState,
    folder: tempfile::TempDir,
}

fn office(change: impl FnOnce(&mut Settings)) -> Office {
    let folder = tempfile::tempdir().unwrap();
    let mut settings = settings(folder.path());
    change(&mut settings);
    let store = Store::open(folder.path(), &settings.store).unwrap();
    let switches = Arc::new(Switches::open(folder.path()).unwrap());
    switches.follow([("shop".to_owned(), switches.of("shop").unwrap())].into_iter());
    let mut metrics = Metrics::new();
    metrics.register_collector(Box::new(StoreCollector::new(&store)));
    metrics.register_collector(Box::new(SwitchFigures::new(switches.clone())));
    let policy = default_policy();
    let state = AdminState {
        in_force: Arc::new(ArcSwap::from_pointee(InForce {
            settings: Arc::new(settings),
            registry: Arc::new(Registry::builtin().unwrap()),
            policies: vec![policy],
        })),
        orders: mpsc::channel(1).0,
        store,
        metrics: Arc::new(metrics),
        switches,
        draining: Arc::new(AtomicBool::new(false)),
        started: Instant::now(),
    };
    Office { router: router(state.clone()), state, folder }
}

impl Office {
    async fn ask(&self, request: http::request::Builder, body: &str) -> (StatusCode, HeaderMap, String) {
        let request = request.body(Body::from(body.to_owned())).unwrap();
        let (head, body) = self.router.clone().oneshot(request).await.unwrap().into_parts();
        let body = body.collect().await.unwrap().to_bytes().to_vec();
        (head.status, head.headers, String::from_utf8(body).unwrap())
    }

    async fn get(&self, path: &str) -> (StatusCode, String) {
        let request = Request::get(path).header("host", "127.0.0.1:9180");
        let (status, _, body) = self.ask(request, "").await;
        (status, body)
    }

    async fn json(&self, path: &str) -> serde_json::Value {
        let (status, body) = self.get(path).await;
        assert_eq!(status, StatusCode::OK, "{body}");
        serde_json::from_str(&body).unwrap()
    }

    async fn throw(&self, site: &str, body: &str) -> (StatusCode, String) {
        let request = Request::post(format!("/api/sites/{site}/kill-switch"))
            .header("host", "localhost:9180")
            .header("content-type", "application/json");
        let (status, _, body) = self.ask(request, body).await;
        (status, body)
    }
}

/// Not ready while draining, whatever else is well; alive all the same.
#[tokio::test]
async fn readiness_ends_when_draining_begins() {
    let office = office(|_| ());
    assert_eq!(office.get("/readyz").await, (StatusCode::OK, "ok\n".into()));
    let (_, verbose) = office.get("/readyz?verbose").await;
    assert!(verbose.contains("[+] state: loaded") && verbose.contains("[+] journal: writing"), "{verbose}");
    office.state.draining.store(true, Ordering::Relaxed);
    let (status, body) = office.get("/readyz").await;
    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
    assert!(body.contains("[-] serving: stopping"), "{body}");
    assert_eq!(office.get("/livez").await.0, StatusCode::OK);
}

/// A folder that is moved away while it is written takes the records along, and no write fails.
#[tokio::test]
async fn a_data_folder_that_is_gone_is_found_out_and_makes_it_unready() {
    let office = office(|_| ());
    office.state.store.look_at_place();
    let (status, body) = office.get("/readyz?verbose").await;
    assert!(status == StatusCode::OK && body.contains("[+] data folder: at its place"), "{body}");
    let journal = office.folder.path().join("journal.sqlite3");
    let aside = office.folder.path().join("aside");
    std::fs::rename(&journal, &aside).unwrap();
    for (text, why) in [(None, "is no longer at its place"), (Some("other"), "is another file than")] {
        text.into_iter().for_each(|text| std::fs::write(&journal, text).unwrap());
        office.state.store.look_at_place();
        let (status, body) = office.get("/readyz").await;
        assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
        assert!(body.contains("[-] data folder: ") && body.contains(why), "{body}");
        assert!(office.get("/metrics").await.1.contains("optgate_journal_up 0"));
    }
    std::fs::rename(&aside, &journal).unwrap();
    office.state.store.look_at_place();
    assert_eq!(office.get("/readyz").await.0, StatusCode::OK);
}

/// While a switch is engaged nobody's opt-out is taken: that is not to be found out by chance.
#[tokio::test]
async fn an_engaged_kill_switch_shows_and_leaves_the_answer_green() {
    let office = office(|_| ());
    let (_, verbose) = office.get("/readyz?verbose").await;
    assert!(verbose.contains("[+] kill switch: none is engaged"), "{verbose}");
    office.throw("shop", r#"{"engaged": true}"#).await;
    let (status, verbose) = office.get("/readyz?verbose").await;
    assert_eq!(status, StatusCode::OK);
    assert!(verbose.contains("[!] kill switch: engaged for shop: nothing is enforced"), "{verbose}");
}

/// `/metrics` is OpenMetrics and holds every family once.
#[tokio::test]
async fn metrics_hold_the_stores_and_the_switches_figures() {
    let office = office(|_| ());
    let (status, headers, text) =
        office.ask(Request::get("/metrics").header("host", "127.0.0.1:9180"), "").await;
    assert_eq!(status, StatusCode::OK);
    assert_eq!(headers["content-type"], "application/openmetrics-text; version=1.0.0; charset=utf-8");
    for line in [
        "optgate_optout_records 0",
        "optgate_ledger_backlog 0",
        "optgate_kill_switch_engaged{site=\"shop\"} 0",
        "# EOF",
    ] {
        assert!(text.contains(line), "{line}: {text}");
    }
    let old = Request::get("/metrics").header("host", "127.0.0.1:9180");
    let (_, headers, older) = office.ask(old.header("accept", "text/plain;version=0.0.4"), "").await;
    assert_eq!(headers["content-type"], "text/plain; version=0.0.4; charset=utf-8");
    assert!(
        older.contains("# TYPE optgate_malformed_signals_total counter\n") && !older.contains("# EOF"),
        "{older}"
    );
    let mut helps: Vec<_> = text.lines().filter(|l| l.starts_with("# HELP")).collect();
    let families = helps.len();
    helps.sort_unstable();
    helps.dedup();
    assert_eq!(helps.len(), families, "no family twice");
}

/// The summary shows signals with outcomes, vendors, cookies, records, journal and sites.
#[tokio::test]
async fn the_summary_adds_up() {
    let office = office(|_| ());
    let site = office.state.metrics.site("shop");
    site.request(200, std::time::Duration::from_millis(1));
    site.signal(Basis::Gpc, Outcome::Enforced);
    site.signal(Basis::Gpc, Outcome::Refused);
    office.state.metrics.vendors(["meta-pixel"].into_iter()).neutralised(0, VendorAction::Strip, 3);
    let summary = office.json("/api/summary").await;
    assert_eq!(summary["requests"], 1);
    let gpc = &summary["signals"][0];
    assert_eq!((&gpc["basis"], &gpc["seen"]), (&"gpc".into(), &2.into()));
    assert_eq!((&gpc["enforced"], &gpc["refused"]), (&1.into(), &1.into()));
    assert_eq!(summary["elements"][0]["vendor"], "meta-pixel");
    assert_eq!(summary["elements"][0]["stripped"], 3);
    assert_eq!(summary["sites"][0]["mode"], "enforce");
    assert_eq!(summary["sites"][0]["kill_switch"], false);
    assert_eq!(summary["journal"]["ok"], true);
    assert_eq!(summary["registry_version"], Registry::builtin().unwrap().version());
}

/// A record has these names, its time as an export writes it, and never the subject.
#[tokio::test]
async fn a_record_is_shown_by_its_reference() {
    let office = office(|_| ());
    let change = Change {
        time_us: 1_795_464_000_000_000,
        site: "shop".into(),
        kind: Kind::OptOut,
        source: Source::Form,
        basis: Some(Basis::Cookie),
        policy: "0123456789ab".into(),
        subject: None,
    };
    let receipt = office.state.store.record(change).await.unwrap();
    let record = office.json(&format!("/api/records/{}", receipt.reference)).await;
    assert_eq!(record["time"], "2026-11-23T20:00:00.000000Z");
    let mut names: Vec<_> = record.as_object().unwrap().keys().map(String::as_str).collect();
    names.sort_unstable();
    let mut expected =
        ["seq", "node", "time", "site", "kind", "signal", "basis", "policy", "reference", "account"];
    expected.sort_unstable();
    assert_eq!(names, expected);
    let request = Request::get("/api/records/NOSUCH").header("host", "127.0.0.1");
    let (status, headers, _) = office.ask(request, "").await;
    assert_eq!(status, StatusCode::NOT_FOUND);
    assert_eq!(headers["content-type"], "application/problem+json");
}

/// The kill switch works without a restart, and a restart keeps it.
#[tokio::test]
async fn the_kill_switch_is_thrown_by_one_post() {
    let office = office(|_| ());
    let path = "/api/sites/shop/kill-switch";
    assert_eq!(office.json(path).await, serde_json::json!({ "engaged": false }));
    assert_eq!(office.throw("shop", r#"{"engaged": true}"#).await.0, StatusCode::OK);
    assert!(office.state.switches.engaged("shop").unwrap());
    assert_eq!(office.json(path).await, serde_json::json!({ "engaged": true }));
    assert!(Switches::open(office.folder.path()).unwrap().of("shop").unwrap().engaged());
    let (status, body) = office.throw("shop", r#"{"engaged": "yes"}"#).await;
    assert!(status.is_client_error() && body.contains("engaged"), "{status} {body}");
    let (status, body) = office.throw("blog", r#"{"engaged": true}"#).await;
    assert_eq!(status, StatusCode::NOT_FOUND);
    assert!(body.contains("The sites are: shop"), "{body}");
    assert!(office.state.switches.engaged("shop").unwrap());
}

/// DNS rebinding and forms of other pages (reliability: admin).
#[tokio::test]
async fn strangers_are_turned_away_at_the_door() {
    let office = office(|_| ());
    let (status, headers, body) =
        office.ask(Request::get("/api/summary").header("host", "evil.example"), "").await;
    assert_eq!(status, StatusCode::FORBIDDEN);
    assert_eq!(headers["content-type"], "application/problem+json");
    assert!(!body.contains("registry_version") && body.contains("admin.names"), "{body}");
    let named = self::office(|settings| settings.admin_names = vec!["optgate.internal".into()]);
    let asks = |host: &'static str| Request::get("/readyz").header("host", host);
    assert_eq!(named.ask(asks("optgate.internal:9180"), "").await.0, StatusCode::OK);
    assert_eq!(named.ask(asks("evil.example"), "").await.0, StatusCode::FORBIDDEN);
    let request = Request::post("/api/sites/shop/kill-switch")
        .header("host", "127.0.0.1:9180")
        .header("origin", "https://evil.example")
        .header("content-type", "application/json");
    assert_eq!(office.ask(request, r#"{"engaged": true}"#).await.0, StatusCode::FORBIDDEN);
    assert!(!office.state.switches.engaged("shop").unwrap());
}

/// RFC 9110, 15.5.6.
#[tokio::test]
async fn a_wrong_method_names_the_right_ones() {
    let office = office(|_| ());
    let request = Request::delete("/api/sites/shop/kill-switch").header("host", "127.0.0.1");
    let (status, headers, _) = office.ask(request, "").await;
    assert_eq!(status, StatusCode::METHOD_NOT_ALLOWED);
    assert_eq!(headers["allow"], "GET,HEAD,POST");
}
