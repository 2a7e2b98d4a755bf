//! What ends the process from outside.

use std::time::Duration;

use anyhow::Context as _;
use tokio::signal::unix::{Signal, SignalKind, signal};

use super::Running;
use crate::edge::Phase;
use crate::telemetry;

/// How long the end that is asked for twice waits for the log.
const LAST_WORDS: Duration = Duration::from_millis(100);

/// SIGTERM, SIGINT and SIGQUIT, kept from ending the process. The last is what stops nginx with grace, and what images made
/// like nginx's send; by itself it would dump the core.
#[derive(Debug)]
pub struct StopSignals {
    terminate: Signal,
    interrupt: Signal,
    quit: Signal,
}

impl StopSignals {
    /// From here on the signals are kept for [`Self::wait`].
    ///
    /// # Errors
    /// When signals cannot be received.
    pub fn listen(running: &Running) -> anyhow::Result<Self> {
        let _entered = running.background.enter();
        Ok(Self {
            terminate: signal(SignalKind::terminate()).context("cannot listen for SIGTERM")?,
            interrupt: signal(SignalKind::interrupt()).context("cannot listen for SIGINT")?,
            quit: signal(SignalKind::quit()).context("cannot listen for SIGQUIT")?,
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
                telemetry::sink::flush(LAST_WORDS);
                std::process::exit(1);
            });
            now
        })
    }

    async fn next(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
            _ = self.quit.recv() => {}
        }
    }
}
