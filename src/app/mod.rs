//! The composition root: builds every part in order, binds, serves, drains.
//!
//! Nothing is bound before everything that can be refused has been checked.

mod build;
mod core_thread;
mod dns;
mod lists;
mod orders;
mod reload;

pub use build::{file_problems, registry};

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use tokio::runtime::Runtime;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{mpsc, watch};

use self::reload::Reloader;
use crate::admin::{self, Order};
use crate::config::Settings;
use crate::edge::{House, listener, tls};
use crate::store::Store;
use crate::telemetry::{self, metrics::SharedMetrics};

/// Threads for journal reads, admin and signals.
const BACKGROUND_THREADS: usize = 2;

/// A serving Optgate.
#[derive(Debug)]
pub struct Running {
    listen: Vec<SocketAddr>,
    tls: Vec<SocketAddr>,
    admin: SocketAddr,
    house: Arc<House>,
    reloader: Arc<Reloader>,
    drain: watch::Sender<bool>,
    cores: Vec<JoinHandle<()>>,
    background: Runtime,
}

/// Builds and binds everything and starts serving.
///
/// # Errors
/// Says which part, what is wrong and what to do: a registry file, the data folder, a certificate, an
/// address in use.
pub fn start(settings: Settings) -> anyhow::Result<Running> {
    serve(settings).map(|(running, _)| running)
}

/// As [`start`], with what the admin listener asks of the process.
fn serve(settings: Settings) -> anyhow::Result<(Running, mpsc::Receiver<Order>)> {
    let parts = build::build(settings)?;
    let settings = Arc::clone(&parts.house.snapshot.load().settings);
    let tls_config = parts.certificates.map(tls::server_config).transpose()?.map(Arc::new);
    let bound = settings
        .listen
        .iter()
        .map(|a| listener::bind(*a, settings.workers))
        .collect::<Result<Vec<_>, _>>()?;
    let bound_tls = settings
        .tls
        .listen
        .iter()
        .map(|a| listener::bind(*a, settings.workers))
        .collect::<Result<Vec<_>, _>>()?;
    let admin_socket = listener::bind_one(settings.admin)?;
    let admin = admin_socket.local_addr().context("the admin socket has no address")?;

    let background = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(BACKGROUND_THREADS)
        .thread_name("background")
        .enable_all()
        .build()
        .context("cannot start the background threads")?;
    let (drain, drained) = watch::channel(false);
    let house = Arc::clone(&parts.house);
    serve_admin(&background, admin_socket, parts.admin)?;
    look_up_hosts(&background, &settings, &house);
    background.spawn(lists::watch(Arc::clone(&parts.reloader.shelf), Arc::clone(&house)));

    let addresses = |bound: &[listener::Bound]| bound.iter().map(|b| b.address).collect::<Vec<_>>();
    let (listen, tls) = (addresses(&bound), addresses(&bound_tls));
    let plan = core_thread::plan(bound, bound_tls, tls_config, settings.workers);
    let cores = plan
        .into_iter()
        .enumerate()
        .map(|(index, sockets)| {
            core_thread::start(index, settings.workers, Arc::clone(&house), sockets, drained.clone())
        })
        .collect::<Result<Vec<_>, _>>()?;
    let reloader = Arc::new(parts.reloader);
    Ok((Running { listen, tls, admin, house, reloader, drain, cores, background }, parts.orders))
}

fn serve_admin(
    background: &Runtime,
    socket: std::net::TcpListener,
    state: admin::AdminState,
) -> anyhow::Result<()> {
    let router = admin::router(state);
    let _entered = background.enter();
    let socket = tokio::net::TcpListener::from_std(socket).context("cannot serve the admin socket")?;
    background.spawn(async move {
        // Admin goes on answering while the edge drains, so that `/readyz` can say so; it ends with the runtime.
        let served = axum::serve(socket, router).await;
        if let Err(error) = served {
            tracing::error!("the admin listener ended: {error}");
        }
    });
    Ok(())
}

/// Starts the CNAME look-ups. Without a name server everything else works all the same.
fn look_up_hosts(background: &Runtime, settings: &Settings, house: &Arc<House>) {
    if !settings.dns.enabled {
        return;
    }
    let _entered = background.enter();
    match dns::resolver(&settings.dns) {
        Ok(resolver) => drop(background.spawn(dns::watch(Arc::clone(house), resolver))),
        Err(error) => tracing::warn!("first-party hosts are not looked up: {error:#}"),
    }
}

impl Running {
    /// Bound cleartext addresses, in settings order.
    #[must_use]
    pub fn listen(&self) -> &[SocketAddr] {
        &self.listen
    }

    /// Bound TLS addresses, in settings order.
    #[must_use]
    pub fn tls(&self) -> &[SocketAddr] {
        &self.tls
    }

    /// The bound admin address.
    #[must_use]
    pub const fn admin(&self) -> SocketAddr {
        self.admin
    }

    /// Counters.
    #[must_use]
    pub fn metrics(&self) -> &SharedMetrics {
        &self.house.metrics
    }

    /// Opt-outs.
    #[must_use]
    pub fn store(&self) -> &Store {
        &self.house.store
    }

    /// Puts other settings in force without losing a request; says what needs a restart.
    ///
    /// # Errors
    /// What is wrong and where; then nothing has changed.
    pub fn reload(&self, settings: Settings) -> anyhow::Result<String> {
        self.reloader.reload(|| Ok(settings))
    }

    /// Stops accepting, finishes what is under way for at most `drain_timeout`, flushes the journal.
    ///
    /// # Errors
    /// When a core's thread panicked.
    pub fn stop(self) -> anyhow::Result<()> {
        self.house.draining.store(true, Ordering::Release);
        self.drain.send_replace(true);
        let started = Instant::now();
        let mut panicked = 0;
        for core in self.cores {
            panicked += usize::from(core.join().is_err());
        }
        tracing::info!(
            duration_ms = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX),
            limit_ms = u64::try_from(self.house.snapshot.load().settings.drain_timeout.as_millis())
                .unwrap_or(u64::MAX),
            "drained"
        );
        self.background.block_on(self.house.store.close());
        if let Some(log) = &self.house.access_log {
            log.flush(Duration::from_secs(1));
        }
        self.background.shutdown_timeout(Duration::from_secs(1));
        anyhow::ensure!(panicked == 0, "{panicked} core threads panicked");
        Ok(())
    }
}

/// Runs until SIGTERM or SIGINT, drains, and returns; a second signal ends the process at once. SIGHUP
/// and the admin listener have `reread` called for a reload.
///
/// # Errors
/// As [`start`].
pub fn run(
    settings: Settings,
    reread: impl Fn() -> anyhow::Result<Settings> + Send + Sync + 'static,
) -> anyhow::Result<()> {
    telemetry::start_logging(&settings.log);
    let (running, orders) = serve(settings)?;
    // Before anything says that it listens: whoever waits for that line may send a signal right behind it.
    let signals = StopSignals::listen(&running)?;
    orders::attend(&running, orders, reread)?;
    for address in running.listen() {
        tracing::info!("listening on http://{address}");
    }
    for address in running.tls() {
        tracing::info!("listening on https://{address}");
    }
    tracing::info!("admin on http://{}", running.admin());
    signals.wait(&running);
    tracing::info!("stopping: no new connections, finishing what is under way; a second signal ends at once");
    running.stop()
}

/// SIGTERM and SIGINT, kept from ending the process.
#[derive(Debug)]
pub struct StopSignals {
    terminate: Signal,
    interrupt: Signal,
}

impl StopSignals {
    /// From here on the two signals are kept for [`Self::wait`].
    ///
    /// # Errors
    /// When signals cannot be received.
    pub fn listen(running: &Running) -> anyhow::Result<Self> {
        let _entered = running.background.enter();
        Ok(Self {
            terminate: signal(SignalKind::terminate()).context("cannot listen for SIGTERM")?,
            interrupt: signal(SignalKind::interrupt()).context("cannot listen for SIGINT")?,
        })
    }

    /// Blocks until the first one; from then on a second one ends the process.
    pub fn wait(mut self, running: &Running) {
        running.background.block_on(async {
            self.next().await;
            tokio::spawn(async move {
                self.next().await;
                std::process::exit(1);
            });
        });
    }

    async fn next(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}
