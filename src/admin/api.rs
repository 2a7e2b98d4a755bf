//! `/api/...`: figures, records and the kill switch, as JSON; errors as problem documents.

use axum::body::Body;
use axum::extract::rejection::JsonRejection;
use axum::extract::{Path, State};
use axum::response::IntoResponse as _;
use axum::{Json, response};
use http::{Response, StatusCode};
use serde::{Deserialize, Serialize};

use super::{AdminState, problem};
use crate::config::Settings;
use crate::registry::Registry;
use crate::store::RecordView;
use crate::telemetry::metrics::{Metrics, SiteMetrics};

#[derive(Serialize)]
struct Summary<'a> {
    version: &'static str,
    registry_version: &'a str,
    uptime_seconds: u64,
    requests: u64,
    signals: Vec<Signal>,
    elements: Vec<Elements<'a>>,
    cookies_removed: Cookies,
    choices: u64,
    records: Records,
    journal: Journal,
    sites: Vec<Site<'a>>,
}

/// One basis: responses with that signal, and what became of them.
#[derive(Serialize, Clone, Copy)]
struct Signal {
    basis: &'static str,
    seen: u64,
    enforced: u64,
    refused: u64,
    passed: u64,
    observed: u64,
}

#[derive(Serialize)]
struct Elements<'a> {
    vendor: &'a str,
    stripped: u64,
    restricted: u64,
    allowed: u64,
}

#[derive(Serialize)]
struct Cookies {
    response: u64,
    request: u64,
    expired: u64,
}

#[derive(Serialize)]
struct Records {
    stored: u64,
    accounts_opted_out: u64,
    flood_dropped: u64,
    overflowed: u64,
}

#[derive(Serialize)]
struct Journal {
    ok: bool,
    error: Option<String>,
    loaded: bool,
    backlog: usize,
    commits: u64,
    commit_seconds: f64,
}

#[derive(Serialize)]
struct Site<'a> {
    name: &'a str,
    hosts: &'a [String],
    mode: &'static str,
    kill_switch: bool,
    requests: u64,
    signals: Vec<Signal>,
    origins: Vec<Origin>,
}

/// An origin as the balancer sees it.
#[derive(Serialize)]
struct Origin {
    upstream: String,
    state: &'static str,
    weight: u32,
    backup: bool,
    connections: i64,
    waiting: i64,
    failures: u64,
    bad_checks: u64,
}

/// `GET /api/summary`.
pub(super) async fn summary(State(state): State<AdminState>) -> Response<Body> {
    let in_force = state.in_force.load();
    let sites: Vec<_> = in_force
        .settings
        .sites
        .iter()
        .map(|site| {
            let metrics = state.metrics.site(&site.name);
            Site {
                name: &site.name,
                hosts: &site.hosts,
                mode: site.mode.as_str(),
                kill_switch: state.switches.engaged(&site.name).unwrap_or_default(),
                requests: metrics.request_count(),
                signals: signals(&metrics),
                origins: origins(&state, &site.name),
            }
        })
        .collect();
    let [response, request, expired] = state.metrics.cookie_counts();
    let health = state.store.health();
    let body = Summary {
        version: env!("CARGO_PKG_VERSION"),
        registry_version: in_force.registry.version(),
        uptime_seconds: state.started.elapsed().as_secs(),
        requests: sites.iter().map(|s| s.requests).sum(),
        signals: total(&sites),
        elements: elements(&in_force.registry, &state.metrics),
        cookies_removed: Cookies { response, request, expired },
        choices: state.metrics.choices.get(),
        records: Records {
            stored: health.records,
            accounts_opted_out: health.accounts_opted_out,
            flood_dropped: health.flood_dropped,
            overflowed: health.overflowed,
        },
        journal: Journal {
            ok: health.journal_error.is_none(),
            error: health.journal_error,
            loaded: health.loaded,
            backlog: health.backlog,
            commits: health.commits.1,
            commit_seconds: health.commits.0,
        },
        sites,
    };
    Json(body).into_response()
}

fn origins(state: &AdminState, site: &str) -> Vec<Origin> {
    let of_site = state.metrics.upstreams().filter(|figures| figures.site == site);
    of_site
        .map(|figures| Origin {
            state: figures.state().as_str(),
            weight: figures.weight,
            backup: figures.backup,
            connections: figures.connections.get(),
            waiting: figures.waiting.get(),
            failures: figures.failures.get(),
            bad_checks: figures.bad_checks.get(),
            upstream: figures.upstream.clone(),
        })
        .collect()
}

/// Vendors of the registry that were met.
fn elements<'a>(registry: &'a Registry, metrics: &Metrics) -> Vec<Elements<'a>> {
    let counted = registry.vendors().map(|(_, vendor)| {
        let [allowed, restricted, stripped] = metrics.vendor_counts(&vendor.id);
        Elements { vendor: &vendor.id, stripped, restricted, allowed }
    });
    counted.filter(|counts| counts.stripped + counts.restricted + counts.allowed > 0).collect()
}

fn signals(metrics: &SiteMetrics) -> Vec<Signal> {
    metrics
        .signal_counts()
        .into_iter()
        .map(|(basis, seen, [enforced, refused, passed, observed])| Signal {
            basis,
            seen,
            enforced,
            refused,
            passed,
            observed,
        })
        .collect()
}

/// The sites' signals added up; every site lists the same bases in the same order.
fn total(sites: &[Site<'_>]) -> Vec<Signal> {
    let mut sum: Vec<Signal> = Vec::new();
    for (at, one) in sites.iter().flat_map(|s| s.signals.iter().enumerate()) {
        match sum.get_mut(at) {
            None => sum.push(*one),
            Some(all) => {
                all.seen += one.seen;
                all.enforced += one.enforced;
                all.refused += one.refused;
                all.passed += one.passed;
                all.observed += one.observed;
            }
        }
    }
    sum
}

/// A record under the names of its export; never the subject, but whether there was one.
#[derive(Serialize)]
struct Record<'a> {
    #[serde(flatten)]
    view: &'a RecordView,
    account: bool,
}

/// `GET /api/records/{reference}`.
pub(super) async fn record(State(state): State<AdminState>, Path(reference): Path<String>) -> Response<Body> {
    match state.store.find(&reference).await {
        Ok(Some(view)) => Json(Record { account: view.account, view: &view }).into_response(),
        Ok(None) => problem(StatusCode::NOT_FOUND, "No record has this reference. Check that it is whole."),
        Err(error) => problem(
            StatusCode::SERVICE_UNAVAILABLE,
            &format!("The journal could not be read: {error}. See /readyz?verbose."),
        ),
    }
}

/// Body of the kill switch, asked and answered.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct KillSwitch {
    engaged: bool,
}

/// `GET /api/sites/{name}/kill-switch`.
pub(super) async fn kill_switch(State(state): State<AdminState>, Path(name): Path<String>) -> Response<Body> {
    match state.switches.engaged(&name) {
        Some(engaged) => Json(KillSwitch { engaged }).into_response(),
        None => no_site(&state.in_force.load().settings, &name),
    }
}

/// `POST /api/sites/{name}/kill-switch`.
pub(super) async fn throw_kill_switch(
    State(state): State<AdminState>,
    Path(name): Path<String>,
    body: Result<Json<KillSwitch>, JsonRejection>,
) -> response::Response {
    if state.switches.engaged(&name).is_none() {
        return no_site(&state.in_force.load().settings, &name);
    }
    let engaged = match body {
        Ok(Json(KillSwitch { engaged })) => engaged,
        Err(refused) => {
            let why = refused.body_text();
            let detail = format!("{why}. Send {{\"engaged\": true}} or false as application/json.");
            return problem(refused.status(), &detail);
        }
    };
    let (switches, site) = (state.switches.clone(), name.clone());
    // Writing and syncing a file blocks.
    let saved = tokio::task::spawn_blocking(move || switches.set(&site, engaged)).await;
    let why = match saved {
        Ok(Ok(())) => {
            tracing::warn!(site = %name, engaged, "kill switch set");
            return Json(KillSwitch { engaged }).into_response();
        }
        Ok(Err(error)) => error.to_string(),
        Err(error) => error.to_string(),
    };
    tracing::error!(site = %name, engaged, error = %why, "kill switch set, but not saved");
    let word = if engaged { "engaged" } else { "released" };
    problem(
        StatusCode::INTERNAL_SERVER_ERROR,
        &format!(
            "The switch is {word} now, but a restart would forget it: {why}. Mend that and send it again."
        ),
    )
}

pub(super) fn no_site(settings: &Settings, name: &str) -> Response<Body> {
    let known: Vec<_> = settings.sites.iter().map(|s| s.name.as_str()).collect();
    problem(
        StatusCode::NOT_FOUND,
        &format!("No site is called {name:?}. The sites are: {}.", known.join(", ")),
    )
}
