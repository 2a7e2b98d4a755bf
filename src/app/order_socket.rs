//! The socket in the data folder, over which commands reach the server that has it.

use anyhow::Context as _;
use tokio::runtime::Runtime;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::handover::Role;
use super::own_pages::serve_until_replaced;
use super::sockets::Sockets;
use crate::admin::{AdminState, journal_orders};
use crate::config::{Listen, ListenAt, Settings};
use crate::edge::Phase;
use crate::edge::downstream::listener::{Entrance, Listener};
use crate::store;

/// Longest path of a Unix socket, bytes (unix(7): 108 with the NUL).
const LONGEST_PATH: usize = 107;

/// Opens it, or takes it over. A server works without one: what needs the folder then waits until it is stopped.
pub fn bind(sockets: &mut Sockets, settings: &Settings) -> Option<Entrance> {
    let path = store::socket(&settings.data_dir);
    let shown = path.display().to_string();
    let bound = if path.as_os_str().len() > LONGEST_PATH {
        Err(anyhow::anyhow!("its path is longer than {LONGEST_PATH} bytes"))
    } else {
        let listen = Listen { at: ListenAt::Unix { path, mode: 0o600 }, proxy_protocol: false };
        sockets.take(Role::Orders, &listen, 1)
    };
    let told = |error: &anyhow::Error| {
        tracing::warn!(
            path = shown,
            "`optgate ledger prune`, `erase` and `import` will need a stop: {error:#}"
        );
    };
    bound.inspect_err(told).ok()
}

/// Serves it until another process does; the tasks end when the last order is answered.
///
/// # Errors
/// The socket cannot be served.
pub fn serve(
    background: &Runtime,
    entrance: Entrance,
    state: &AdminState,
    phase: &watch::Receiver<Phase>,
) -> anyhow::Result<Vec<JoinHandle<()>>> {
    let mut tasks = Vec::new();
    let _entered = background.enter();
    for socket in entrance.sockets {
        let Listener::Unix(socket) = socket else { continue };
        let socket = tokio::net::UnixListener::from_std(socket);
        let socket = socket.context("cannot serve the data folder's socket")?;
        let (router, name) = (journal_orders::router(state.clone()), "the data folder's socket");
        tasks.push(background.spawn(serve_until_replaced(socket, router, phase.clone(), name)));
    }
    Ok(tasks)
}
