//! What the second wall met, and what went as unknown: the list with whose each host is, and `csp.allow` made from it.

use std::fmt::Write as _;

use axum::Json;
use axum::body::Body;
use axum::extract::{Path, State};
use axum::response::IntoResponse as _;
use http::header::CONTENT_TYPE;
use http::{HeaderValue, Response, StatusCode};
use serde::Serialize;

use super::AdminState;
use super::api::no_site;
use crate::config::{self, VendorAction};
use crate::registry::Policy;
use crate::store::{Store, ThirdParty};

#[derive(Serialize)]
struct Site<'a> {
    site: &'a str,
    mode: &'static str,
    /// Reports left out because the list was full.
    not_kept: u64,
    third_parties: Vec<Line>,
}

#[derive(Serialize)]
struct Line {
    #[serde(flatten)]
    seen: ThirdParty,
    /// `None`: not in the registry.
    vendor: Option<String>,
    action: Option<&'static str>,
}

/// `GET /api/third-parties`.
pub(super) async fn list(State(state): State<AdminState>) -> Response<Body> {
    let in_force = state.in_force.load();
    let sites = in_force.settings.sites.iter().zip(&in_force.policies);
    let sites: Vec<_> = sites.map(|(site, policy)| seen_at(&state.store, site, policy)).collect();
    Json(serde_json::json!({ "sites": sites })).into_response()
}

fn seen_at<'a>(store: &Store, site: &'a config::Site, policy: &Policy) -> Site<'a> {
    let (seen, not_kept) = store.third_parties().list(&site.name);
    let line = |seen: ThirdParty| {
        let (vendor, action) = owner(policy, &seen.host, seen.was_held()).unzip();
        Line { vendor, action: action.map(VendorAction::as_str), seen }
    };
    let third_parties = seen.into_iter().map(line).collect();
    Site { site: &site.name, mode: site.csp.mode.as_str(), not_kept, third_parties }
}

/// `DELETE /api/sites/{name}/third-parties`: learn anew.
pub(super) async fn forget(State(state): State<AdminState>, Path(name): Path<String>) -> Response<Body> {
    let in_force = state.in_force.load();
    if !in_force.settings.sites.iter().any(|site| site.name == name) {
        return no_site(&in_force.settings, &name);
    }
    state.store.third_parties().forget(&name);
    StatusCode::NO_CONTENT.into_response()
}

/// `GET /api/sites/{name}/csp-allow`: the learnt list as settings, ready to paste.
pub(super) async fn allow_list(State(state): State<AdminState>, Path(name): Path<String>) -> Response<Body> {
    let in_force = state.in_force.load();
    let mut sites = in_force.settings.sites.iter().zip(&in_force.policies);
    let Some((site, policy)) = sites.find(|(site, _)| site.name == name) else {
        return no_site(&in_force.settings, &name);
    };
    let (seen, not_kept) = state.store.third_parties().list(&name);
    let named = |host: &str, held: bool| owner(policy, host, held);
    let already: Vec<String> = site.csp.allow.iter().map(ToString::to_string).collect();
    let mut response = Response::new(Body::from(toml(&name, &already, &seen, not_kept, named)));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/toml"));
    response
}

/// Whose a host is, under the policy of a site; `held`: pages lost it as an unknown third party's.
fn owner(policy: &Policy, host: &str, held: bool) -> Option<(String, VendorAction)> {
    let name = host.split(':').next().unwrap_or(host);
    let unknown = || if held { policy.match_unknown(host, "") } else { None };
    let hit = policy.match_host(name).or_else(unknown)?;
    Some((policy.registry().vendor(hit.vendor).id.clone(), hit.action))
}

/// Settings text: what is allowed already, then what was met; hosts of stripped vendors as comments.
fn toml(
    site: &str,
    already: &[String],
    seen: &[ThirdParty],
    not_kept: u64,
    owner: impl Fn(&str, bool) -> Option<(String, VendorAction)>,
) -> String {
    let (said, mode) = match already.is_empty() && seen.is_empty() {
        // Enforced as it stands, it would let in nobody.
        true => (
            format!("Nothing was learnt of {site} yet: serve with this for some days, and ask again."),
            "learn",
        ),
        false => (
            format!(
                "Third parties that opted-out pages of {site} were seen to use. Keep the ones they need."
            ),
            "enforce",
        ),
    };
    let mut out = format!("# {said}\n[csp]\nmode = \"{mode}\"\nallow = [\n");
    // Writing to a String cannot fail.
    for source in already {
        let _ = writeln!(out, "  \"{source}\", # allowed already");
    }
    for lines in seen.chunk_by(|a, b| a.host == b.host) {
        let Some(first) = lines.iter().min_by_key(|line| line.first_seen) else { continue };
        let host = &first.host;
        if already.contains(host) {
            continue;
        }
        let directives: Vec<&str> = lines.iter().map(|line| line.directive.as_str()).collect();
        let day = first.first_seen.strftime("%Y-%m-%d");
        let (sign, whose) = match owner(host, lines.iter().any(ThirdParty::was_held)) {
            Some((id, VendorAction::Strip)) => ("# ", format!("{id} is stripped and never let in; ")),
            Some((id, action)) => ("", format!("{id} ({}); ", action.as_str())),
            None => ("", String::new()),
        };
        let _ = writeln!(out, "  {sign}\"{host}\", # {whose}{}; first seen {day}", directives.join(", "));
    }
    out.push_str("]\n");
    if not_kept > 0 {
        let _ = writeln!(out, "# {not_kept} reports were not kept: the list was full.");
    }
    out
}
