//! `POST PREFIX/report`: what opted-out pages tell about the second wall and the guard.
//!
//! The address needs no cookie and sets none, keeps nothing of the sender, and bounds size and rate, since
//! anybody may send to it. A report of another site's page is refused where the browser says so.

use axum::Extension;
use axum::body::{Body, Bytes};
use axum::extract::{FromRequest as _, Request, State};
use http::header::CONTENT_TYPE;
use http::{Response, StatusCode};

use super::{Asked, Pages, Shared, Visit, VisitOf, origin};
use crate::config::{CspMode, VendorAction};
use crate::enforce::told::{self, Told, Unreadable};
use crate::registry::{Policy, VendorId};
use crate::store::ThirdParty;
use crate::telemetry::metrics::{GuardSide, ReportOutcome};

/// Largest body: browsers send a page's violations together.
pub(super) const BODY_BYTES: usize = 64 * 1024;

pub(super) async fn take(
    State(pages): Shared,
    Extension(visit): VisitOf,
    request: Request,
) -> Response<Body> {
    let (status, outcome) = read(&pages, &visit, request).await;
    pages.metrics.report(outcome);
    let mut response = Response::new(Body::empty());
    *response.status_mut() = status;
    response
}

async fn read(pages: &Pages, visit: &Visit, request: Request) -> (StatusCode, ReportOutcome) {
    if !pages.store.third_parties().has_room() {
        return (StatusCode::TOO_MANY_REQUESTS, ReportOutcome::Dropped);
    }
    let asked =
        request.extensions().get::<Asked>().map_or_else(|| request.uri().clone(), |asked| asked.0.clone());
    if origin::is_cross_site(&asked, request.headers()) {
        return (StatusCode::FORBIDDEN, ReportOutcome::Refused);
    }
    let kind =
        request.headers().get(CONTENT_TYPE).and_then(|v| v.to_str().ok()).unwrap_or_default().to_owned();
    let Ok(body) = Bytes::from_request(request, &()).await else {
        return (StatusCode::PAYLOAD_TOO_LARGE, ReportOutcome::Refused);
    };
    match told::read(&kind, &body, &visit.host) {
        Ok(told) => {
            keep(pages, visit, told);
            (StatusCode::NO_CONTENT, ReportOutcome::Read)
        }
        Err(Unreadable::MediaType) => (StatusCode::UNSUPPORTED_MEDIA_TYPE, ReportOutcome::Refused),
        Err(Unreadable::Malformed) => (StatusCode::BAD_REQUEST, ReportOutcome::Refused),
    }
}

fn keep(pages: &Pages, visit: &Visit, told: Told) {
    match told {
        // A page from before the wall was taken down.
        Told::Wall(_) if visit.site.csp.mode == CspMode::Off => {}
        Told::Wall(met) => {
            let now = jiff::Timestamp::now();
            for one in met {
                pages.store.third_parties().note(&visit.site.name, &one.host, one.directive, now);
            }
        }
        Told::Guard { blocked, slipped } => {
            for (side, counts) in [(GuardSide::Blocked, blocked), (GuardSide::Slipped, slipped)] {
                for (host, count) in counts {
                    if host.is_empty() {
                        pages.metrics.guard(side, "unattributed", count);
                        continue;
                    }
                    let unknown = || unknown_vendor(pages, visit, &host);
                    if let Some(vendor) = stripped_vendor(&visit.policy, &host).or_else(unknown) {
                        pages.metrics.guard(side, &visit.policy.registry().vendor(vendor).id, count);
                    }
                }
            }
        }
    }
}

/// As whom a host counts that nobody knows; it is noted, where it can be one.
fn unknown_vendor(pages: &Pages, visit: &Visit, host: &str) -> Option<VendorId> {
    let hit = visit.policy.match_unknown(host, &visit.host)?;
    if told::is_host(host) {
        let now = jiff::Timestamp::now();
        pages.store.third_parties().note(&visit.site.name, host, ThirdParty::GUARD, now);
    }
    Some(hit.vendor)
}

/// Whom the guard met at a host: the vendor that decides for the host, or, where that one is allowed, the
/// first with a path there that is not.
fn stripped_vendor(policy: &Policy, host: &str) -> Option<VendorId> {
    let hit = policy.match_host(host)?;
    if hit.action != VendorAction::Allow {
        return Some(hit.vendor);
    }
    let at_host =
        |rule: &str| host.strip_suffix(rule).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'));
    policy
        .registry()
        .vendors()
        .find(|(id, vendor)| {
            policy.action(*id) != VendorAction::Allow && vendor.hosts.iter().any(|rule| at_host(&rule.host))
        })
        .map(|(id, _)| id)
}
