//! One thread a core: its runtime, its sockets, its drain.

use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::Sender;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use tokio::runtime::{Builder, LocalOptions};
use tokio::sync::watch;

use super::jobs;
use super::systemd::Pulses;
use crate::edge::downstream::connection;
use crate::edge::downstream::connection::Beginning;
use crate::edge::downstream::listener::{Entrance, Listener};
use crate::edge::downstream::tls::Server;
use crate::edge::house::busy;
use crate::edge::{Core, House, Phase, timer};

/// How many ticks pass between looks at idle origin connections.
const EXPIRE_EVERY: u32 = 50;

/// A listening socket of one core that its runtime does not watch yet, and how its connections begin.
pub type Socket = (Listener, Beginning);

/// Deals the bound sockets out: one of each address to each core. Sockets that were passed to the process may
/// be fewer, then cores share one, or more, then a core has several: none is left without a core.
///
/// # Errors
/// When the system has no descriptor left.
pub fn plan(
    plain: &[Entrance],
    tls: &[Entrance],
    server: Option<&Server>,
    cores: usize,
) -> std::io::Result<Vec<Vec<Socket>>> {
    let mut dealt: Vec<Vec<Socket>> = (0..cores).map(|_| Vec::new()).collect();
    let plain = plain.iter().map(|entrance| (entrance, None));
    let tls = tls.iter().map(|entrance| (entrance, server.cloned()));
    for (entrance, tls) in plain.chain(tls) {
        let sockets = &entrance.sockets;
        let beginning = Beginning { tls, proxy_protocol: entrance.proxy_protocol };
        for at in 0..sockets.len().max(cores) {
            if let (Some(listener), Some(core)) =
                (sockets.get(at % sockets.len().max(1)), dealt.get_mut(at % cores))
            {
                core.push((listener.try_clone()?, beginning.clone()));
            }
        }
    }
    Ok(dealt)
}

/// How a core says that it accepts on all of its sockets, or why it never will.
pub type Begun = Sender<anyhow::Result<()>>;

/// Starts one core's thread, which says once by `begun` how that went; it ends when the drain has ended. A core that
/// did not begin must not go unnoticed: the system goes on dealing connections to its sockets.
///
/// # Errors
/// When the system gives no random bytes or no thread.
pub fn start(
    index: usize,
    house: Arc<House>,
    sockets: Vec<Socket>,
    phase: watch::Receiver<Phase>,
    pulses: Pulses,
    begun: Begun,
) -> anyhow::Result<JoinHandle<()>> {
    let mut seed = [0; 16];
    getrandom::fill(&mut seed)
        .map_err(|error| anyhow::anyhow!("the system gives no random bytes: {error}"))?;
    let seed = u128::from_ne_bytes(seed);
    std::thread::Builder::new()
        .name(format!("core-{index}"))
        .spawn(move || {
            pin(index, pulses.len());
            let runtime = Builder::new_current_thread().enable_all().build_local(LocalOptions::default());
            match runtime.context("cannot start a core's event loop") {
                Ok(runtime) => runtime.block_on(serve(house, seed, sockets, phase, index, &pulses, begun)),
                Err(error) => drop(begun.send(Err(error))),
            }
        })
        .context("cannot start a core's thread")
}

async fn serve(
    house: Arc<House>,
    seed: u128,
    sockets: Vec<Socket>,
    phase: watch::Receiver<Phase>,
    index: usize,
    pulses: &Pulses,
    begun: Begun,
) {
    let core = Core::new(house, seed);
    let watched = sockets.into_iter().map(|(listener, beginning)| Ok((listener.watched()?, beginning)));
    let watched =
        match watched.collect::<std::io::Result<Vec<_>>>().context("cannot serve a listening socket") {
            Ok(watched) => watched,
            Err(error) => return drop(begun.send(Err(error))),
        };
    jobs::keep_here("the timer", timer::sweep);
    let busy = Rc::clone(&core);
    jobs::keep_here("the look at how busy a core is", move || busy::watch(Rc::clone(&busy)));
    let expiring = Rc::clone(&core);
    jobs::keep_here("the closing of idle origin connections", move || expire(Rc::clone(&expiring)));
    let beating = Arc::clone(pulses);
    jobs::keep_here("the pulse of a core", move || beat(Arc::clone(&beating), index));
    for (socket, beginning) in watched {
        // The socket outlives the job, so that a new one accepts what has come meanwhile.
        let (core, socket, phase) = (Rc::clone(&core), Rc::new(socket), phase.clone());
        let accept = move || {
            connection::accept(Rc::clone(&core), Rc::clone(&socket), beginning.clone(), phase.clone())
        };
        jobs::keep_here("accepting", accept);
    }
    // Nobody hears it when another core could not begin: then the phase ends too.
    let _ = begun.send(Ok(()));
    drop(begun);
    connection::not_serving(phase).await;
    let until = Instant::now() + core.snapshot().settings.drain_timeout;
    while core.house.connections.load(Ordering::Acquire) > 0 && Instant::now() < until {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Closes what has been idle for too long, for ever.
async fn expire(core: Rc<Core>) {
    loop {
        tokio::time::sleep(timer::TICK * EXPIRE_EVERY).await;
        core.expire_pools();
        core.turned_away.expire();
    }
}

/// Shows for ever that the core's event loop runs.
async fn beat(pulses: Pulses, index: usize) {
    while let Some(pulse) = pulses.get(index) {
        pulse.fetch_add(1, Ordering::Relaxed);
        tokio::time::sleep(timer::TICK).await;
    }
}

/// Keeps the thread on its processor when there is one thread for each that we may use.
///
/// Failing to pin costs a little speed and nothing else.
fn pin(index: usize, cores: usize) {
    use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
    let Ok(usable) = sched_getaffinity(None) else { return };
    if usable.count() as usize != cores {
        return;
    }
    if let Some(processor) = (0..CpuSet::MAX_CPU).filter(|cpu| usable.is_set(*cpu)).nth(index) {
        let mut own = CpuSet::new();
        own.set(processor);
        let _ = sched_setaffinity(None, &own);
    }
}
