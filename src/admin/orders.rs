//! Orders to the process: what SIGHUP and SIGUSR2 ask for, with an answer.

use axum::body::Body;
use axum::extract::State;
use axum::response::IntoResponse as _;
use axum::{Json, response};
use http::{Response, StatusCode};
use tokio::sync::oneshot;

use super::{AdminState, problem};

/// What became of an order: what changed, or why all stays as it was.
pub type Done = Result<String, NotDone>;

/// Why an order was not carried out.
#[derive(Debug)]
pub enum NotDone {
    /// The settings, or what they name, cannot hold.
    Refused(String),
    /// Something failed that has nothing to do with them.
    Failed(String),
}

/// What an operator asks of the process.
#[derive(Debug)]
pub enum Order {
    /// Read the settings and everything they name again.
    Reload(oneshot::Sender<Done>),
    /// Start the program anew and hand everything over to it.
    Upgrade(oneshot::Sender<Done>),
}

/// `POST /api/reload`.
pub(super) async fn reload(State(state): State<AdminState>) -> response::Response {
    carry_out(&state, Order::Reload).await
}

/// `POST /api/upgrade`.
pub(super) async fn upgrade(State(state): State<AdminState>) -> response::Response {
    carry_out(&state, Order::Upgrade).await
}

async fn carry_out(state: &AdminState, order: impl FnOnce(oneshot::Sender<Done>) -> Order) -> Response<Body> {
    let (answer, answered) = oneshot::channel();
    if state.orders.send(order(answer)).await.is_err() {
        return problem(StatusCode::SERVICE_UNAVAILABLE, "The process is stopping.");
    }
    match answered.await {
        Ok(Ok(done)) => Json(serde_json::json!({ "done": done })).into_response(),
        Ok(Err(NotDone::Refused(why))) => problem(StatusCode::UNPROCESSABLE_ENTITY, &why),
        Ok(Err(NotDone::Failed(why))) => problem(StatusCode::INTERNAL_SERVER_ERROR, &why),
        Err(_) => problem(StatusCode::SERVICE_UNAVAILABLE, "The process is stopping."),
    }
}
