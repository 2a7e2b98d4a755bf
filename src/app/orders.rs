//! Orders to the serving process: from signals and from the admin listener, carried out one after another.

use std::sync::Arc;

use anyhow::Context as _;
use tokio::runtime::{Handle, Runtime};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc;
use tokio::task::JoinError;

use super::reload::Reloader;
use super::upgrade::{NotUpgraded, Upgrader};
use super::{Running, systemd};
use crate::admin::{Done, NotDone, Order};
use crate::config::Settings;
use crate::telemetry::{self, events};

/// The signals that order something. One that comes before [`attend`] is carried out then.
#[derive(Debug)]
pub struct Signals {
    hangup: Signal,
    user1: Signal,
    user2: Signal,
}

impl Signals {
    /// From here on they do not end the process.
    ///
    /// # Errors
    /// When signals cannot be received.
    pub fn listen(background: &Runtime) -> anyhow::Result<Self> {
        let _entered = background.enter();
        Ok(Self {
            hangup: signal(SignalKind::hangup()).context("cannot listen for SIGHUP")?,
            user1: signal(SignalKind::user_defined1()).context("cannot listen for SIGUSR1")?,
            user2: signal(SignalKind::user_defined2()).context("cannot listen for SIGUSR2")?,
        })
    }
}

/// Takes orders until the process ends. SIGHUP reloads and SIGUSR2 upgrades, each with its answer in
/// the log; SIGUSR1 opens the log file anew.
pub fn attend(
    running: &Running,
    signals: Signals,
    mut orders: mpsc::Receiver<Order>,
    reread: impl Fn() -> anyhow::Result<Settings> + Send + Sync + 'static,
) {
    let Signals { mut hangup, mut user1, mut user2 } = signals;
    let (reloader, upgrader) = (Arc::clone(&running.reloader), Arc::clone(&running.upgrader));
    let reread = Arc::new(reread);
    running.background.spawn(async move {
        loop {
            let unheard = || tokio::sync::oneshot::channel().0;
            let order = tokio::select! {
                Some(()) = hangup.recv() => Order::Reload(unheard()),
                Some(()) = user2.recv() => Order::Upgrade(unheard()),
                Some(order) = orders.recv() => order,
                Some(()) = user1.recv() => {
                    reopen_logs();
                    continue;
                }
                else => return,
            };
            let (done, answer) = match order {
                Order::Reload(answer) => (reload(&reloader, &reread).await, answer),
                Order::Upgrade(answer) => (upgrade(&upgrader).await, answer),
            };
            // Whoever asked may be gone; the log has it too.
            let _ = answer.send(done);
        }
    });
}

fn reopen_logs() {
    match telemetry::sink::reopen() {
        Ok(()) => tracing::info!("log opened anew"),
        Err(error) => {
            tracing::error!("the log file cannot be opened anew, lines go where they went: {error}")
        }
    }
}

async fn reload<R>(reloader: &Arc<Reloader>, reread: &Arc<R>) -> Done
where
    R: Fn() -> anyhow::Result<Settings> + Send + Sync + 'static,
{
    let (reloader, reread) = (Arc::clone(reloader), Arc::clone(reread));
    systemd::reloading();
    let done = tokio::task::spawn_blocking(move || reloader.reload(&*reread)).await;
    systemd::ready();
    done.map_err(failed)?.map_err(|error| NotDone::Refused(format!("{error:#}")))
}

async fn upgrade(upgrader: &Arc<Upgrader>) -> Done {
    let upgrader = Arc::clone(upgrader);
    let runtime = Handle::current();
    let done = tokio::task::spawn_blocking(move || match upgrader.upgrade(&runtime) {
        Ok(process) => {
            events::upgraded(process);
            Ok(format!("process {process} serves; process {} finishes what is under way", std::process::id()))
        }
        Err(NotUpgraded { of_settings, error }) => {
            let why = format!("{error:#}");
            events::upgrade_failed(&why);
            Err(if of_settings { NotDone::Refused(why) } else { NotDone::Failed(why) })
        }
    });
    done.await.map_err(failed)?
}

/// A fault of ours has ended what carried an order out.
fn failed(error: JoinError) -> NotDone {
    NotDone::Failed(error.to_string())
}
