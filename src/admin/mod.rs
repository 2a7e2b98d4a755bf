//! The admin listener, apart from the visitors'.
//!
//! ```text
//! GET       /livez                            health         the process answers
//! GET       /readyz                           health         it can take visitors; `?verbose` says why not
//! GET       /metrics                          exposition     every counter, for Prometheus
//! GET       /api/summary                      api            figures since the start, by site
//! GET       /api/records/{reference}          api            one record
//! GET       /api/third-parties                third_parties  what opted-out pages were seen to use
//! DELETE    /api/sites/{name}/third-parties   third_parties  forgets those of a site
//! GET       /api/sites/{name}/csp-allow       third_parties  the settings made from them, to prune and paste
//! GET POST  /api/sites/{name}/kill-switch     api            whether it is engaged; engages or releases it
//! POST      /api/reload                       orders         reads the settings again
//! POST      /api/upgrade                      orders         starts another process in this one's place
//! ```
//!
//! Nobody logs in. In clear it answers only who asks by a loopback name or address, by the address it listens on, or by a
//! name of `admin.names`; by TLS whoever reaches it, or with `client_roots` whoever has a certificate of theirs. No form
//! of another page changes anything (`door`). Orders about the journal come by another way (`journal_orders`).

mod api;
mod collector;
mod door;
mod exposition;
mod health;
pub mod journal_orders;
mod orders;
mod third_parties;

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Instant;

use arc_swap::ArcSwap;
use axum::Router;
use axum::body::Body;
use axum::extract::DefaultBodyLimit;
use axum::routing::{delete, get, post};
use http::header::CONTENT_TYPE;
use http::{HeaderValue, Response, StatusCode};
use tokio::sync::mpsc;

pub use collector::SwitchFigures;
pub use orders::{Done, NotDone, Order};

use crate::config::{Settings, Switches};
use crate::registry::{Policy, Registry};
use crate::store::Store;
use crate::telemetry::metrics::SharedMetrics;

/// Everything the admin answers are made from; cheap to clone.
#[derive(Clone)]
pub struct AdminState {
    /// What holds now.
    pub in_force: Arc<ArcSwap<InForce>>,
    /// To whoever carries orders out.
    pub orders: mpsc::Sender<Order>,
    /// The store.
    pub store: Store,
    /// All counters.
    pub metrics: SharedMetrics,
    /// Kill switches, shared with the edge.
    pub switches: Arc<Switches>,
    /// Set when a stop signal arrived.
    pub draining: Arc<AtomicBool>,
    /// When this process began to serve.
    pub started: Instant,
}

/// Settings and what was made of them; replaced whole on a reload.
#[derive(Debug)]
pub struct InForce {
    /// As configured.
    pub settings: Arc<Settings>,
    /// Vendors and their actions, by the sites' positions.
    pub policies: Vec<Arc<Policy>>,
    /// Who is a tracker.
    pub registry: Arc<Registry>,
}

/// Largest request body, bytes; the only one is `{"engaged": true}`.
const BODY_BYTES: usize = 4096;

/// The admin listener's routes; the caller serves them on `settings.admin`.
pub fn router(state: AdminState) -> Router {
    Router::new()
        .route("/livez", get(health::live))
        .route("/readyz", get(health::ready))
        .route("/metrics", get(exposition::metrics))
        .route("/api/summary", get(api::summary))
        .route("/api/records/{reference}", get(api::record))
        .route("/api/third-parties", get(third_parties::list))
        .route("/api/sites/{name}/third-parties", delete(third_parties::forget))
        .route("/api/sites/{name}/csp-allow", get(third_parties::allow_list))
        .route("/api/sites/{name}/kill-switch", get(api::kill_switch).post(api::throw_kill_switch))
        .route("/api/reload", post(orders::reload))
        .route("/api/upgrade", post(orders::upgrade))
        .fallback(missing)
        .method_not_allowed_fallback(wrong_method)
        .layer(DefaultBodyLimit::max(BODY_BYTES))
        .layer(axum::middleware::from_fn_with_state(state.clone(), door::check))
        .with_state(state)
}

async fn missing() -> Response<Body> {
    problem(StatusCode::NOT_FOUND, "There is nothing at this address.")
}

async fn wrong_method() -> Response<Body> {
    problem(StatusCode::METHOD_NOT_ALLOWED, "This address does not answer that method; see Allow.")
}

/// An error as RFC 9457 wants it.
fn problem(status: StatusCode, detail: &str) -> Response<Body> {
    let body = serde_json::json!({
        "type": "about:blank",
        "title": status.canonical_reason().unwrap_or("Error"),
        "status": status.as_u16(),
        "detail": detail,
    });
    let mut response = Response::new(Body::from(body.to_string()));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
    response
}
