//! What commands ask of the server that has the data folder which they are about: the orders of `optgate ledger prune`,
//! `erase`, `hold` and `import` and of `optgate keys retire`.
//!
//! They come over a socket in the folder itself, so that whoever may write the folder may ask, nobody else, and never the
//! wrong server. Each request names the live secret that its subjects were hashed with: a server that runs with another
//! would not know whose they are. A refusal with `Retry-After` says that an upgrade came first: nothing of the order was
//! carried out that carrying it out again would not do just so, and the next process takes it over the same socket.

use axum::body::Body;
use axum::extract::{DefaultBodyLimit, Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use axum::routing::post;
use axum::{Json, Router, middleware};
use http::header::RETRY_AFTER;
use http::{HeaderName, HeaderValue, StatusCode};
use serde::{Deserialize, Serialize};

use super::{AdminState, problem};
use crate::store::import::{Arrival, parse_subject};
use crate::store::{HoldOrder, RecordError, Store};

/// Names the live secret, by its check value.
pub const SECRET: HeaderName = HeaderName::from_static("optgate-secret");

/// Largest request body, bytes: a thousand arrivals with long names.
const BODY_BYTES: usize = 16 << 20;

/// `POST /prune`.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PruneOrder {
    /// Records of before this, in microseconds since the Unix epoch.
    pub before_us: i64,
    /// Only count.
    pub dry_run: bool,
}

/// `POST /erase`.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EraseOrder {
    /// Subjects, 32 hexadecimal digits each.
    pub subjects: Vec<String>,
}

/// `POST /import`.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ImportOrder {
    /// At most some thousand at once.
    pub arrivals: Vec<Arrival>,
    /// Only count.
    pub dry_run: bool,
}

/// The routes; the caller serves them on the folder's socket.
pub fn router(state: AdminState) -> Router {
    Router::new()
        .route("/prune", post(prune))
        .route("/erase", post(erase))
        .route("/hold", post(hold))
        .route("/import", post(import))
        .route("/retire", post(retire))
        .layer(DefaultBodyLimit::max(BODY_BYTES))
        .layer(middleware::from_fn_with_state(state.store.clone(), check))
        .with_state(state)
}

async fn check(State(store): State<Store>, request: Request, next: Next) -> Response {
    let named = request.headers().get(SECRET).map(HeaderValue::as_bytes);
    match named == Some(store.key_check().as_bytes()) {
        true => next.run(request).await,
        false => problem(
            StatusCode::CONFLICT,
            "The server still runs with an earlier secret than the first in secret.key: start it anew, then try again.",
        ),
    }
}

async fn prune(State(state): State<AdminState>, Json(order): Json<PruneOrder>) -> http::Response<Body> {
    let PruneOrder { before_us, dry_run } = order;
    let done = state.store.prune(before_us, dry_run).await;
    if let (Ok(done), false) = (&done, dry_run) {
        tracing::warn!(before_us, records = done.records, held = done.held, "records pruned by order");
    }
    answer(done)
}

async fn erase(State(state): State<AdminState>, Json(order): Json<EraseOrder>) -> http::Response<Body> {
    let subjects: Option<Vec<_>> = order.subjects.iter().map(|digits| parse_subject(digits)).collect();
    match subjects {
        Some(subjects) => {
            let done = state.store.erase(subjects).await;
            if let Ok(done) = &done {
                tracing::warn!(records = done.records, "an account erased by order");
            }
            answer(done)
        }
        None => problem(StatusCode::BAD_REQUEST, "A subject is 32 hexadecimal digits."),
    }
}

async fn hold(State(state): State<AdminState>, Json(order): Json<HoldOrder>) -> http::Response<Body> {
    let done = state.store.hold(order.clone()).await;
    if done.is_ok() {
        let ended = matches!(order, HoldOrder::Remove(_));
        tracing::warn!(ended, "a hold of records changed by order");
    }
    answer(done)
}

async fn import(State(state): State<AdminState>, Json(order): Json<ImportOrder>) -> http::Response<Body> {
    let told = !state.in_force.load().settings.recipients.is_empty();
    let (arrivals, dry_run) = (order.arrivals.len(), order.dry_run);
    let done = state.store.import(order.arrivals, told, dry_run).await;
    if let (Ok(_), false) = (&done, dry_run) {
        tracing::info!(arrivals, "opt-outs imported by order");
    }
    answer(done)
}

async fn retire(State(state): State<AdminState>) -> http::Response<Body> {
    let done = state.store.retire().await;
    if done.is_ok() {
        tracing::warn!("older secrets retired by order");
    }
    answer(done)
}

fn answer<T: Serialize>(done: Result<T, RecordError>) -> http::Response<Body> {
    match done {
        Ok(done) => Json(done).into_response(),
        Err(error @ RecordError::HandedOver) => {
            let mut response = problem(StatusCode::SERVICE_UNAVAILABLE, &format!("{error}."));
            response.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static("0"));
            response
        }
        Err(error @ RecordError::NotThere(_)) => problem(StatusCode::NOT_FOUND, &format!("{error}.")),
        Err(error) => problem(StatusCode::SERVICE_UNAVAILABLE, &format!("{error}.")),
    }
}
