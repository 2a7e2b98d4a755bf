//! Serving what is not for visitors, on the background threads, until another process does.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use tokio::runtime::Runtime;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::admin_door::{AdminDoor, AdminListener};
use crate::admin::{self, AdminState};
use crate::edge::Phase;

/// Serves the admin listener behind its door; `patience` is how long a handshake may take.
///
/// # Errors
/// The socket cannot be served.
pub fn serve_admin(
    background: &Runtime,
    socket: std::net::TcpListener,
    (door, patience): (Arc<AdminDoor>, Duration),
    state: AdminState,
    phase: watch::Receiver<Phase>,
) -> anyhow::Result<JoinHandle<()>> {
    let router = admin::router(state);
    let _entered = background.enter();
    let socket = tokio::net::TcpListener::from_std(socket).context("cannot serve the admin socket")?;
    let socket = AdminListener::new(background, socket, door, patience)?;
    Ok(background.spawn(serve_until_replaced(socket, router, phase, "the admin listener")))
}

/// Serves some of our own pages until another process does. It goes on answering while this process stops, so that
/// `/readyz` can say so; it ends with the runtime.
pub async fn serve_until_replaced<L>(
    socket: L,
    router: axum::Router,
    mut phase: watch::Receiver<Phase>,
    name: &'static str,
) where
    L: axum::serve::Listener<Addr: std::fmt::Debug>,
{
    let replaced = async move {
        // A closed channel means that the process ends: the same.
        let _ = phase.wait_for(|phase| *phase == Phase::Finishing).await;
    };
    let served = axum::serve(socket, router).with_graceful_shutdown(replaced).await;
    if let Err(error) = served {
        tracing::error!("{name} ended: {error}");
    }
}
