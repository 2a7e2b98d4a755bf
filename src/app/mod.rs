//! The composition root: builds every part in order, binds, serves, drains.
//!
//! Nothing is bound before everything that can be refused has been checked.

mod acme;
mod admin_door;
mod books;
mod build;
mod core_thread;
mod dns;
mod handover;
mod jwks;
mod lists;
mod memory;
mod orders;
mod origins;
mod outward;
mod recipients;
mod reload;
mod service;
mod sockets;
mod upgrade;

pub use admin_door::AdminKey;
pub use build::{UnknownVendor, file_problems, registry, unknown_vendor};

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use futures_util::future::join_all;
use tokio::runtime::Runtime;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{Notify, mpsc, watch};

use self::acme::Upkeep;
use self::admin_door::{AdminDoor, AdminListener};
use self::handover::{Channel, Listener, Message, Role};
use self::jwks::KeyFetcher;
use self::origins::Origins;
use self::reload::Reloader;
use self::service::Pulses;
use self::sockets::Sockets;
use self::upgrade::Upgrader;
use crate::admin::{self, Order};
use crate::config::{Listen, ListenAt, Settings};
use crate::edge::listener::{self, Entrance};
use crate::edge::tls::{self, Server};
use crate::edge::{House, Phase};
use crate::store::Store;
use crate::telemetry::{self, metrics::SharedMetrics};

/// How our own commands verify a site: by the system's roots.
///
/// # Errors
/// The system has none.
pub fn verifying() -> anyhow::Result<rustls::ClientConfig> {
    tls::client_config(None, false)
}

/// Threads for journal reads, admin and signals.
const BACKGROUND_THREADS: usize = 2;

/// Between two looks at the data folder.
const LOOKS_AT_FOLDER: Duration = Duration::from_secs(60);

/// A serving Optgate.
#[derive(Debug)]
pub struct Running {
    listen: Vec<SocketAddr>,
    tls: Vec<SocketAddr>,
    admin: SocketAddr,
    unix: Vec<PathBuf>,
    /// Those of them that the process before bound.
    inherited: Vec<PathBuf>,
    house: Arc<House>,
    reloader: Arc<Reloader>,
    upgrader: Arc<Upgrader>,
    cores: Vec<JoinHandle<()>>,
    /// What serves our own pages and orders.
    own_pages: Vec<tokio::task::JoinHandle<()>>,
    background: Runtime,
}

/// Builds and binds everything and starts serving.
///
/// # Errors
/// Says which part, what is wrong and what to do: a registry file, the data folder, a certificate, an
/// address in use.
pub fn start(settings: Settings) -> anyhow::Result<Running> {
    serve(settings, None).map(|(running, _)| running)
}

/// As [`start`], with what the admin listener asks of the process. `predecessor` hands its sockets and its
/// journal over, and serves on until [`Running::replace`].
fn serve(
    settings: Settings,
    predecessor: Option<&Channel>,
) -> anyhow::Result<(Running, mpsc::Receiver<Order>)> {
    let mut sockets = Sockets::inherited(predecessor, &settings)?;
    let parts = build::build(settings, || match predecessor {
        None => Ok(()),
        Some(channel) => {
            channel.say(&Message::Checked)?;
            channel.wait_for("journal-is-free", |message| matches!(message, Message::JournalIsFree))
        }
    })?;
    let settings = Arc::clone(&parts.house.snapshot.load().settings);
    let upkeep = parts.certificates.clone().map(|certificates| {
        Arc::new(Upkeep { house: Arc::clone(&parts.house), certificates, wake: Notify::new() })
    });
    let server = parts.certificates.map(Server::new).transpose()?;
    let mut bind = |role, listen: &[Listen]| {
        listen.iter().map(|l| sockets.take(role, l, settings.workers)).collect::<Result<Vec<_>, _>>()
    };
    let mut plain = bind(Role::Plain, &settings.listen)?;
    let mut encrypted = bind(Role::Tls, &settings.tls.listen)?;
    let for_admin = bind(Role::Admin, &[Listen::from(settings.admin)])?;
    let mut for_books: Vec<_> = books::bind(&mut sockets, &settings).into_iter().collect();
    let all = [
        (Role::Plain, &plain),
        (Role::Tls, &encrypted),
        (Role::Admin, &for_admin),
        (Role::Books, &for_books),
    ];
    let copies = copies(&all).context("no descriptor is left for the listening sockets")?;
    let with_files = plain.iter_mut().chain(&mut encrypted).chain(&mut for_books);
    let files = with_files.filter_map(|entrance| entrance.file.take()).collect();

    let background = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(BACKGROUND_THREADS)
        .thread_name("background")
        .enable_all()
        .build()
        .context("cannot start the background threads")?;
    let (phase, phases) = watch::channel(Phase::Serving);
    let house = Arc::clone(&parts.house);
    let upgrader = Arc::new(Upgrader {
        house: Arc::clone(&house),
        listeners: Mutex::new(copies),
        files: Mutex::new(files),
        phase,
    });
    let addresses = |bound: &[Entrance]| bound.iter().filter_map(Entrance::address).collect::<Vec<_>>();
    let (listen, tls, admin) = (addresses(&plain), addresses(&encrypted), addresses(&for_admin));
    let plan = core_thread::plan(&plain, &encrypted, server.as_ref(), settings.workers)
        .context("no descriptor is left for the listening sockets")?;
    let for_admin = for_admin.into_iter().flat_map(|bound| bound.sockets).next();
    let for_admin = match for_admin {
        Some(listener::Listener::Tcp(socket)) => Some(socket),
        _ => None,
    };
    let door = (Arc::clone(&parts.reloader.admin_door), settings.timeouts.tls_handshake);
    let unix = paths(plain.iter().chain(&encrypted), |_| true);
    let inherited =
        paths(plain.iter().chain(&encrypted).chain(&for_books), |entrance| entrance.inherits_file);
    let mut own_pages = Vec::new();
    for entrance in for_books {
        own_pages.extend(books::serve(&background, entrance, &parts.admin, &phases)?);
    }
    own_pages.push(serve_admin(&background, for_admin, door, parts.admin, phases.clone())?);
    look_up_hosts(&background, &settings, &house);
    if let Some(upkeep) = &upkeep {
        background.spawn(Arc::clone(upkeep).work(phases.clone()));
    }
    background.spawn(lists::watch(Arc::clone(&parts.reloader.shelf), Arc::clone(&house)));
    background.spawn(memory::watch(Arc::clone(&house)));
    background.spawn(look_at_folder(house.store.clone()));
    background.spawn(recipients::tell(Arc::clone(&house), phases.clone()));
    let origins = Origins::new(background.handle().clone());
    origins.follow(&house, &house.snapshot.load());
    let keys = KeyFetcher::new(background.handle().clone());
    keys.follow(&house, house.snapshot.load().verifier.as_ref());
    let pulses: Pulses = (0..settings.workers).map(|_| AtomicU64::new(0)).collect();
    let (begun, beginnings) = std::sync::mpsc::channel();
    let cores = plan
        .into_iter()
        .enumerate()
        .map(|(index, sockets)| {
            let (house, phases, pulses) = (Arc::clone(&house), phases.clone(), Arc::clone(&pulses));
            core_thread::start(index, house, sockets, phases, pulses, begun.clone())
        })
        .collect::<Result<Vec<_>, _>>()?;
    drop(begun);
    let begun = beginnings.into_iter().collect::<anyhow::Result<Vec<()>>>()?.len();
    anyhow::ensure!(begun == settings.workers, "{begun} of {} cores' threads began", settings.workers);
    background.spawn(service::watchdog(pulses));
    let admin = admin.first().copied().context("the admin listener has no address")?;
    let reloader = Arc::new(Reloader { origins: Some(origins), keys: Some(keys), upkeep, ..parts.reloader });
    Ok((
        Running {
            listen,
            tls,
            admin,
            unix,
            inherited,
            house,
            reloader,
            upgrader,
            cores,
            own_pages,
            background,
        },
        parts.orders,
    ))
}

/// Looks for ever whether the data folder is still there.
async fn look_at_folder(store: Store) {
    loop {
        tokio::time::sleep(LOOKS_AT_FOLDER).await;
        let store = store.clone();
        // A folder on a network may keep who looks at it waiting.
        let looked = tokio::task::spawn_blocking(move || store.look_at_place()).await;
        if looked.is_err() {
            return;
        }
    }
}

/// Every socket once more, to be handed over.
fn copies(all: &[(Role, &Vec<Entrance>)]) -> std::io::Result<Vec<Listener>> {
    let mut copies = Vec::new();
    for (role, entrances) in all {
        for entrance in *entrances {
            let (wanted, owned) =
                (entrance.wanted.to_string(), entrance.file.is_some() || entrance.inherits_file);
            for socket in &entrance.sockets {
                copies.push(Listener {
                    role: *role,
                    wanted: wanted.clone(),
                    owned,
                    socket: socket.try_clone()?,
                });
            }
        }
    }
    Ok(copies)
}

/// Paths of some of the Unix sockets.
fn paths<'a>(
    entrances: impl Iterator<Item = &'a Entrance>,
    fits: impl Fn(&Entrance) -> bool,
) -> Vec<PathBuf> {
    let fitting = entrances.filter(|entrance| fits(entrance));
    let path = |entrance: &Entrance| match &entrance.wanted {
        ListenAt::Unix { path, .. } => Some(path.clone()),
        ListenAt::Tcp(_) => None,
    };
    fitting.filter_map(path).collect()
}

/// Serves admin until another process does.
fn serve_admin(
    background: &Runtime,
    socket: Option<std::net::TcpListener>,
    (door, patience): (Arc<AdminDoor>, Duration),
    state: admin::AdminState,
    phase: watch::Receiver<Phase>,
) -> anyhow::Result<tokio::task::JoinHandle<()>> {
    let router = admin::router(state);
    let _entered = background.enter();
    let socket = socket.context("the admin listener has no socket")?;
    let socket = tokio::net::TcpListener::from_std(socket).context("cannot serve the admin socket")?;
    let socket = AdminListener::new(socket, door, patience)?;
    Ok(background.spawn(serve_until_replaced(socket, router, phase, "the admin listener")))
}

/// Serves some of our own pages until another process does. It goes on answering while this process stops, so that
/// `/readyz` can say so; it ends with the runtime.
async fn serve_until_replaced<L>(
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

/// Starts the CNAME look-ups. Without a name server everything else works all the same.
fn look_up_hosts(background: &Runtime, settings: &Settings, house: &Arc<House>) {
    if !settings.dns.enabled {
        return;
    }
    let _entered = background.enter();
    match dns::resolver(&settings.dns, dns::Asked::Cnames) {
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

    /// Files of bound Unix sockets, in settings order.
    pub fn unix(&self) -> impl Iterator<Item = &std::path::Path> {
        self.unix.iter().map(PathBuf::as_path)
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

    /// Has the process before this one finish: from now on this one serves, and records what it still sends.
    fn replace(&self, predecessor: Channel) -> anyhow::Result<()> {
        predecessor.say(&Message::Serving)?;
        // Until now the one before would have served on with them.
        self.upgrader.adopt(&self.inherited);
        let (store, runtime) = (self.house.store.clone(), self.background.handle().clone());
        upgrade::record_for_predecessor(predecessor, store, runtime)
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
        // Files of Unix sockets first of all, so that nobody begins what would not be finished.
        self.upgrader.close_listeners();
        // After an upgrade connections end with their next answer.
        self.upgrader.phase.send_if_modified(|phase| {
            let serving = *phase == Phase::Serving;
            if serving {
                *phase = Phase::Stopping;
            }
            serving
        });
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
        if *self.upgrader.phase.borrow() == Phase::Finishing {
            // Whoever ordered the upgrade gets its answer, and whoever ordered something of the journal just then.
            let pages = join_all(self.own_pages);
            let answered = async { tokio::time::timeout(Duration::from_secs(1), pages).await };
            drop(self.background.block_on(answered));
        }
        self.background.block_on(self.house.store.close());
        if let Some(log) = &self.house.access_log {
            log.flush(Duration::from_secs(1));
        }
        self.background.shutdown_timeout(Duration::from_secs(1));
        anyhow::ensure!(panicked == 0, "{panicked} core threads panicked");
        Ok(())
    }
}

/// Runs until SIGTERM or SIGINT, or until a new process has taken over; drains, and returns; a second signal
/// ends the process at once. SIGHUP and the admin listener have `reread` called for a reload.
///
/// # Errors
/// As [`start`].
pub fn run(
    settings: Settings,
    reread: impl Fn() -> anyhow::Result<Settings> + Send + Sync + 'static,
) -> anyhow::Result<()> {
    telemetry::start_logging(&settings.log)?;
    let predecessor = Channel::to_predecessor()?;
    let (running, orders) = serve(settings, predecessor.as_ref())?;
    // Before anything says that it listens: whoever waits for that line may send a signal right behind it.
    let signals = StopSignals::listen(&running)?;
    orders::attend(&running, orders, reread)?;
    if let Some(predecessor) = predecessor {
        running.replace(predecessor)?;
    }
    for address in running.listen() {
        tracing::info!("listening on http://{address}");
    }
    for address in running.tls() {
        tracing::info!("listening on https://{address}");
    }
    for path in running.unix() {
        tracing::info!("listening on unix:{}", path.display());
    }
    let scheme = if running.house.snapshot.load().settings.admin_tls.is_some() { "https" } else { "http" };
    tracing::info!("admin on {scheme}://{}", running.admin());
    service::ready();
    if signals.wait(&running) == Phase::Stopping {
        service::stopping();
        tracing::info!(
            "stopping: no new connections, finishing what is under way; a second signal ends at once"
        );
    }
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

    /// Blocks until the first one, or until a new process serves, and says which. From then on the next signal
    /// stops a process that finishes, and ends one that stops.
    pub fn wait(mut self, running: &Running) -> Phase {
        let (phase, mut phases) = (running.upgrader.phase.clone(), running.upgrader.phase.subscribe());
        running.background.block_on(async {
            tokio::select! {
                () = self.next() => {}
                _ = phases.wait_for(|phase| *phase == Phase::Finishing) => {}
            }
            let now = if *phase.borrow() == Phase::Finishing { Phase::Finishing } else { Phase::Stopping };
            tokio::spawn(async move {
                self.next().await;
                if now == Phase::Finishing && *phase.borrow() == Phase::Finishing {
                    phase.send_replace(Phase::Stopping);
                    self.next().await;
                }
                std::process::exit(1);
            });
            now
        })
    }

    async fn next(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}
