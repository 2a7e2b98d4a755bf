//! Orders to the serving process: from signals and from the admin listener, carried out one after another.

use std::sync::Arc;

use anyhow::Context as _;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;

use super::Running;
use super::reload::Reloader;
use crate::admin::{Done, Order};
use crate::config::Settings;

/// Takes orders until the process ends. SIGHUP is an order to reload whose answer is the log's.
///
/// # Errors
/// When signals cannot be received.
pub fn attend(
    running: &Running,
    mut orders: mpsc::Receiver<Order>,
    reread: impl Fn() -> anyhow::Result<Settings> + Send + Sync + 'static,
) -> anyhow::Result<()> {
    let _entered = running.background.enter();
    let mut hangup = signal(SignalKind::hangup()).context("cannot listen for SIGHUP")?;
    let reloader = Arc::clone(&running.reloader);
    let reread = Arc::new(reread);
    running.background.spawn(async move {
        loop {
            let order = tokio::select! {
                Some(()) = hangup.recv() => None,
                Some(order) = orders.recv() => Some(order),
                else => return,
            };
            let done = reload(&reloader, &reread).await;
            if let Some(Order::Reload(answer)) = order {
                // Whoever asked may be gone; the log has it too.
                let _ = answer.send(done);
            }
        }
    });
    Ok(())
}

async fn reload<R>(reloader: &Arc<Reloader>, reread: &Arc<R>) -> Done
where
    R: Fn() -> anyhow::Result<Settings> + Send + Sync + 'static,
{
    let (reloader, reread) = (Arc::clone(reloader), Arc::clone(reread));
    let done = tokio::task::spawn_blocking(move || reloader.reload(&*reread)).await;
    done.map_err(|error| error.to_string())?.map_err(|error| format!("{error:#}"))
}
