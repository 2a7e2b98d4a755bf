//! The composition root: builds every part in order, binds, serves, drains.
//!
//! Nothing is bound before everything that can be refused has been checked.

mod acme;
mod admin_door;
mod bound;
mod build;
mod cloaked_hosts;
mod core_thread;
mod descriptors;
mod dns;
mod files;
mod handover;
mod jobs;
mod jwks;
mod lists;
mod memory;
mod order_socket;
mod orders;
mod origins;
mod outward;
mod own_pages;
mod pauses;
mod recipients;
mod reload;
mod site;
mod smtp;
mod sockets;
mod stop_signals;
mod systemd;
mod upgrade;

pub use admin_door::AdminKey;
pub use build::{UnknownVendor, registry, unknown_vendor};
pub use files::{FileProblem, Files, look_at_files};
pub use stop_signals::StopSignals;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use futures_util::future::join_all;
use tokio::runtime::Runtime;
use tokio::sync::{Notify, mpsc, watch};
use tokio::task::JoinError;

use self::acme::Upkeep;
use self::bound::{Addresses, Bound};
use self::handover::{Channel, Message};
use self::jwks::KeyFetcher;
use self::lists::SharedShelf;
use self::origins::Origins;
use self::reload::Reloader;
use self::sockets::Sockets;
use self::systemd::Pulses;
use self::upgrade::Upgrader;
use crate::admin::Order;
use crate::config::Settings;
use crate::edge::downstream::tls::{self, Server};
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

const NO_DESCRIPTOR: &str = "no descriptor is left for the listening sockets";

/// Between two looks at the data folder.
const LOOKS_AT_FOLDER: Duration = Duration::from_secs(60);

/// A serving Optgate.
#[derive(Debug)]
pub struct Running {
    addresses: Addresses,
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
    serve(settings, None, background_threads()?).map(|(running, _)| running)
}

/// As [`start`], with what the admin listener asks of the process. `predecessor` hands its sockets and its
/// journal over, and serves on until [`Running::replace`].
fn serve(
    settings: Settings,
    predecessor: Option<&Channel>,
    background: Runtime,
) -> anyhow::Result<(Running, mpsc::Receiver<Order>)> {
    let (sockets, known) = Sockets::inherited(predecessor, &settings)?;
    let parts = build::build(settings, || match predecessor {
        None => Ok(()),
        Some(channel) => {
            channel.say(&Message::Checked)?;
            channel.wait_for("journal-is-free", |message| matches!(message, Message::JournalIsFree))
        }
    })?;
    origins::begin_with(&parts.house.snapshot.load(), &known);
    let settings = Arc::clone(&parts.house.snapshot.load().settings);
    let server = parts.certificates.clone().map(Server::new).transpose()?;
    let mut bound = Bound::bind(sockets, &settings)?;
    let addresses = bound.addresses()?;
    let house = Arc::clone(&parts.house);
    let (phase, phases) = watch::channel(Phase::Serving);
    let copies = bound.copies().context(NO_DESCRIPTOR)?;
    let upgrader = Arc::new(Upgrader {
        house: Arc::clone(&house),
        listeners: Mutex::new(copies),
        files: Mutex::new(bound.take_files()),
        phase,
    });
    let plan = core_thread::plan(&bound.plain, &bound.tls, server.as_ref(), settings.workers)
        .context(NO_DESCRIPTOR)?;
    let door = (Arc::clone(&parts.admin_door), settings.timeouts.tls_handshake);
    let mut own_pages = Vec::new();
    if let Some(entrance) = bound.orders.take() {
        own_pages.extend(order_socket::serve(&background, entrance, &parts.admin, &phases)?);
    }
    let socket = bound.take_admin()?;
    own_pages.push(own_pages::serve_admin(&background, socket, door, parts.admin, phases.clone())?);
    let upkeep = parts.certificates.clone().map(|certificates| {
        Arc::new(Upkeep { house: Arc::clone(&house), certificates, wake: Notify::new() })
    });
    start_background_work(&background, &house, &parts.shelf, upkeep.as_ref(), &phases);
    let origins = Origins::new(background.handle().clone());
    origins.follow(&house, &house.snapshot.load());
    let keys = KeyFetcher::new(background.handle().clone());
    keys.follow(&house, house.snapshot.load().verifier.as_ref());
    let (cores, pulses) = start_cores(plan, &house, &phases)?;
    jobs::keep(&background, "the watchdog", move || systemd::watchdog(Arc::clone(&pulses)));
    let reloader = Arc::new(Reloader {
        house: Arc::clone(&house),
        lasting: parts.lasting,
        in_force: parts.in_force,
        shelf: parts.shelf,
        certificates: parts.certificates,
        admin_door: parts.admin_door,
        upkeep,
        origins,
        keys,
        started: settings,
    });
    let running = Running { addresses, house, reloader, upgrader, cores, own_pages, background };
    Ok((running, parts.orders))
}

fn background_threads() -> anyhow::Result<Runtime> {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(BACKGROUND_THREADS)
        .thread_name("background")
        .enable_all()
        .build()
        .context("cannot start the background threads")
}

/// Starts what goes on for ever beside the requests.
fn start_background_work(
    background: &Runtime,
    house: &Arc<House>,
    shelf: &SharedShelf,
    upkeep: Option<&Arc<Upkeep>>,
    phases: &watch::Receiver<Phase>,
) {
    look_up_hosts(background, &house.snapshot.load().settings, house);
    if let Some(upkeep) = upkeep {
        let (upkeep, phases) = (Arc::clone(upkeep), phases.clone());
        jobs::keep(background, "certificates", move || Arc::clone(&upkeep).work(phases.clone()));
    }
    let (shelf, of_lists) = (Arc::clone(shelf), Arc::clone(house));
    jobs::keep(background, "the look at filter lists", move || {
        lists::watch(Arc::clone(&shelf), Arc::clone(&of_lists))
    });
    let of_memory = Arc::clone(house);
    jobs::keep(background, "the look at memory", move || memory::watch(Arc::clone(&of_memory)));
    let store = house.store.clone();
    jobs::keep(background, "the look at the data folder", move || look_at_folder(store.clone()));
    let (of_recipients, phases) = (Arc::clone(house), phases.clone());
    jobs::keep(background, "telling recipients", move || {
        recipients::tell(Arc::clone(&of_recipients), phases.clone())
    });
}

/// Starts a thread for each core's share of the sockets, and waits until all of them accept.
fn start_cores(
    plan: Vec<Vec<core_thread::Socket>>,
    house: &Arc<House>,
    phases: &watch::Receiver<Phase>,
) -> anyhow::Result<(Vec<JoinHandle<()>>, Pulses)> {
    let planned = plan.len();
    let pulses: Pulses = (0..planned).map(|_| AtomicU64::new(0)).collect();
    let (begun, beginnings) = std::sync::mpsc::channel();
    let cores = plan
        .into_iter()
        .enumerate()
        .map(|(index, sockets)| {
            let (house, phases, pulses) = (Arc::clone(house), phases.clone(), Arc::clone(&pulses));
            core_thread::start(index, house, sockets, phases, pulses, begun.clone())
        })
        .collect::<Result<Vec<_>, _>>()?;
    drop(begun);
    let begun = beginnings.into_iter().collect::<anyhow::Result<Vec<()>>>()?.len();
    anyhow::ensure!(begun == planned, "{begun} of {planned} cores' threads began");
    Ok((cores, pulses))
}

/// Looks for ever whether the data folder is still there.
async fn look_at_folder(store: Store) {
    loop {
        tokio::time::sleep(LOOKS_AT_FOLDER).await;
        let store = store.clone();
        // A folder on a network may keep who looks at it waiting.
        let looked = tokio::task::spawn_blocking(move || store.look_at_place()).await;
        match looked.map_err(JoinError::try_into_panic) {
            Ok(_) => {}
            Err(Ok(panic)) => std::panic::resume_unwind(panic),
            Err(Err(_)) => return,
        }
    }
}

/// Starts the CNAME look-ups. Without a name server everything else works all the same.
fn look_up_hosts(background: &Runtime, settings: &Settings, house: &Arc<House>) {
    if !settings.dns.enabled {
        return;
    }
    let _entered = background.enter();
    match dns::resolver(&settings.dns, dns::Asked::Cnames) {
        Ok(resolver) => {
            dns::remember(house);
            let house = Arc::clone(house);
            jobs::keep(background, "the look-up of hosts", move || {
                dns::watch(Arc::clone(&house), resolver.clone())
            });
        }
        Err(error) => tracing::warn!("first-party hosts are not looked up: {error:#}"),
    }
}

impl Running {
    /// Bound cleartext addresses, in settings order.
    #[must_use]
    pub fn listen(&self) -> &[SocketAddr] {
        &self.addresses.plain
    }

    /// Bound TLS addresses, in settings order.
    #[must_use]
    pub fn tls(&self) -> &[SocketAddr] {
        &self.addresses.tls
    }

    /// Files of bound Unix sockets, in settings order.
    pub fn unix(&self) -> impl Iterator<Item = &std::path::Path> {
        self.addresses.unix.iter().map(PathBuf::as_path)
    }

    /// The bound admin address.
    #[must_use]
    pub const fn admin(&self) -> SocketAddr {
        self.addresses.admin
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
        self.upgrader.adopt(&self.addresses.inherited);
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

    /// Stops accepting, finishes what is under way for at most `drain_timeout`, flushes the journal, which is tried again for
    /// what is left of that time while it cannot write.
    ///
    /// # Errors
    /// When a core's thread panicked, or records are lost.
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
        let limit = self.house.snapshot.load().settings.drain_timeout;
        tracing::info!(
            duration_ms = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX),
            limit_ms = u64::try_from(limit.as_millis()).unwrap_or(u64::MAX),
            "drained"
        );
        if *self.upgrader.phase.borrow() == Phase::Finishing {
            // Whoever ordered the upgrade gets its answer, and whoever ordered something of the journal just then.
            let pages = join_all(self.own_pages);
            let answered = async { tokio::time::timeout(Duration::from_secs(1), pages).await };
            drop(self.background.block_on(answered));
        }
        let left = limit.saturating_sub(started.elapsed());
        let lost = self.background.block_on(self.house.store.close_within(left));
        if let Some(log) = &self.house.access_log {
            log.flush(Duration::from_secs(1));
        }
        self.background.shutdown_timeout(Duration::from_secs(1));
        anyhow::ensure!(panicked == 0, "{panicked} core threads panicked");
        anyhow::ensure!(
            lost == 0,
            "{lost} records are lost: the journal could not write them before the end"
        );
        Ok(())
    }
}

/// What a process that is to serve has before it reads its settings.
#[derive(Debug)]
pub struct Begun {
    background: Runtime,
    signals: orders::Signals,
}

/// From here on a signal that orders something does not end the process: whoever sends one means what it is to become.
///
/// # Errors
/// The system has no thread left, or signals cannot be received.
pub fn begin() -> anyhow::Result<Begun> {
    let background = background_threads()?;
    let signals = orders::Signals::listen(&background)?;
    Ok(Begun { background, signals })
}

/// Runs until SIGTERM or SIGINT, or until a new process has taken over; drains, and returns; a second signal
/// ends the process at once. SIGHUP and the admin listener have `reread` called for a reload.
///
/// # Errors
/// As [`start`].
pub fn run(
    begun: Begun,
    settings: Settings,
    reread: impl Fn() -> anyhow::Result<Settings> + Send + Sync + 'static,
) -> anyhow::Result<()> {
    let _log = telemetry::start_logging(&settings.log)?;
    let in_file = settings.log.file.is_some();
    serve_until_told(begun, settings, reread).inspect_err(|error| {
        // Whoever started it reads it from standard error; whoever reads the file looks there.
        if in_file {
            tracing::error!("ended: {error:#}");
        }
    })
}

/// As [`run`], with the log in place.
fn serve_until_told(
    begun: Begun,
    settings: Settings,
    reread: impl Fn() -> anyhow::Result<Settings> + Send + Sync + 'static,
) -> anyhow::Result<()> {
    let Begun { background, signals: ordering } = begun;
    let predecessor = Channel::to_predecessor()?;
    let (running, orders) = serve(settings, predecessor.as_ref(), background)?;
    telemetry::panics::tell_of_panics(Arc::clone(running.metrics()));
    // Before anything says that it listens: whoever waits for that line may send a signal right behind it.
    let signals = StopSignals::listen(&running)?;
    orders::attend(&running, ordering, orders, reread);
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
    systemd::ready();
    if signals.wait(&running) == Phase::Stopping {
        systemd::stopping();
        tracing::info!(
            "stopping: no new connections, finishing what is under way; a second signal ends at once"
        );
    }
    running.stop()
}
