//! A new process takes over: the program file is started anew, with the same arguments, and gets every
//! listening socket and the journal. Only when it accepts does this one cease to, and finishes what is under way.
//!
//! The sockets themselves go over, so nobody who waits in their queues is lost: closing one member of a
//! `SO_REUSEPORT` group would reset what is queued on it (socket(7)).

use std::os::unix::process::ExitStatusExt as _;
use std::path::PathBuf;
use std::process::{Child, Command};
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::Context as _;
use tokio::runtime::Handle;
use tokio::sync::{mpsc, watch};

use super::handover::{Channel, Listener, Message, VARIABLE, WireChange};
use super::origins::Known;
use crate::config::error::EX_CONFIG;
use crate::edge::downstream::unix::SocketFile;
use crate::edge::{House, Phase};
use crate::store::{Forwarded, Receipt, RecordError, Store};

/// What an upgrade needs and changes.
#[derive(Debug)]
pub struct Upgrader {
    /// The edge.
    pub(super) house: Arc<House>,
    /// Copies of every listening socket; empty once handed over or closed.
    pub(super) listeners: Mutex<Vec<Listener>>,
    /// Files of Unix sockets: removed at the end, unless the new process has them.
    pub(super) files: Mutex<Vec<SocketFile>>,
    /// Tells everybody what this process is about to do.
    pub(super) phase: watch::Sender<Phase>,
}

impl Upgrader {
    /// Starts the new process and waits until it serves; gives its id. From then on this one finishes.
    ///
    /// Blocks: not for an edge core. `runtime` is where the store is waited for.
    ///
    /// # Errors
    /// The new process could not be started, refuses its settings or falls silent: then this one serves on.
    pub fn upgrade(&self, runtime: &Handle) -> Result<u32, NotUpgraded> {
        let (channel, mut child) = start()?;
        match self.hand_over(&channel, runtime) {
            Ok(()) => {
                let id = child.id();
                super::systemd::new_main_process(id);
                self.files().drain(..).for_each(SocketFile::leave);
                self.close_listeners();
                self.phase.send_replace(Phase::Finishing);
                Ok(id)
            }
            Err(error) => Err(ended(&mut child, error)),
        }
    }

    fn hand_over(&self, channel: &Channel, runtime: &Handle) -> anyhow::Result<()> {
        for listener in self.lock().iter() {
            channel.hand_over(listener)?;
        }
        channel.say(&Message::no_more_listeners(Known::of(&self.house.snapshot.load())))?;
        channel.wait_for("checked", |message| matches!(message, Message::Checked))?;
        // All that may fail comes before the journal is another's.
        let (to, changes) = mpsc::unbounded_channel();
        let forwarded = channel.try_clone().context("no descriptor is left")?;
        std::thread::Builder::new()
            .name("forward".into())
            .spawn({
                let check = self.house.store.key_check().to_owned();
                move || forward(&forwarded, &check, changes)
            })
            .context("cannot start a thread")?;
        let store = &self.house.store;
        let lent = runtime.block_on(store.lend()).context("the journal cannot be handed over now")?;
        let taken = channel
            .say(&Message::JournalIsFree)
            .and_then(|()| channel.wait_for("serving", |message| matches!(message, Message::Serving)))
            .and_then(|()| channel.wait_without_end());
        if let Err(error) = taken {
            store.take_back(lent);
            return Err(error);
        }
        lent.forward(to);
        Ok(())
    }

    /// Ceases to hold the sockets; what the cores accept on ends with the phase.
    pub fn close_listeners(&self) {
        self.files().clear();
        self.lock().clear();
    }

    /// The files of Unix sockets are this process's from now on.
    pub fn adopt(&self, paths: &[PathBuf]) {
        self.files().extend(paths.iter().filter_map(|path| SocketFile::adopted(path).ok()));
    }

    fn files(&self) -> std::sync::MutexGuard<'_, Vec<SocketFile>> {
        self.files.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<Listener>> {
        // A list that is only read and emptied is whole after a panic.
        self.listeners.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Why no new process serves.
#[derive(Debug)]
pub struct NotUpgraded {
    /// It refused its settings.
    pub of_settings: bool,
    /// In words.
    pub error: anyhow::Error,
}

impl From<anyhow::Error> for NotUpgraded {
    fn from(error: anyhow::Error) -> Self {
        Self { of_settings: false, error }
    }
}

/// Starts the program anew, at the other end of a channel.
fn start() -> anyhow::Result<(Channel, Child)> {
    let (channel, theirs) = Channel::pair()?;
    let mut arguments = std::env::args_os();
    // As it was typed, so that a link or a new file at its place is what starts.
    let program = arguments.next().context("this process does not know its own program")?;
    let child = Command::new(&program)
        .args(arguments)
        .env(VARIABLE, "stdin")
        .env_remove("LISTEN_FDS")
        .env_remove("LISTEN_PID")
        // From the take-over on the watchdog listens to the new process.
        .env_remove("WATCHDOG_PID")
        .stdin(theirs)
        .spawn()
        .with_context(|| format!("cannot start {}", program.display()))?;
    Ok((channel, child))
}

/// Sees to it that the new process is gone, and says how it ended.
fn ended(child: &mut Child, error: anyhow::Error) -> NotUpgraded {
    // It may have ended by itself already.
    let _ = child.kill();
    let (how, of_settings) = match child.wait() {
        Ok(status) => match (status.code(), status.signal()) {
            (Some(code), _) => (format!("exit code {code}"), code == i32::from(EX_CONFIG)),
            (None, Some(signal)) => (format!("signal {signal}"), false),
            (None, None) => ("no status".to_owned(), false),
        },
        Err(error) => (error.to_string(), false),
    };
    let what = format!(
        "the new process did not take over ({how}; its own words are in the log), this one serves on"
    );
    NotUpgraded { of_settings, error: error.context(what) }
}

/// Sends what the last requests have to record to the new process, one after another.
fn forward(channel: &Channel, check: &str, mut changes: mpsc::UnboundedReceiver<Forwarded>) {
    while let Some(Forwarded { change, answer }) = changes.blocking_recv() {
        let heard =
            channel.say(&Message::Change(WireChange::of(&change, check))).and_then(|()| channel.hear());
        let recorded = match heard {
            Ok(Some(Message::Recorded { reference, seq, time_us })) => {
                Ok(Receipt { reference, seq, time_us })
            }
            Ok(Some(Message::NotRecorded { why })) => Err(RecordError::Journal(why)),
            Ok(other) => Err(RecordError::Journal(format!("the new process said {other:?}"))),
            Err(error) => Err(RecordError::Journal(format!("{error:#}"))),
        };
        // Whoever stopped waiting has its record all the same.
        let _ = answer.send(recorded);
    }
}

/// The other side of it: records what the process before sends, until it ends.
///
/// # Errors
/// When no thread can be started.
pub fn record_for_predecessor(channel: Channel, store: Store, runtime: Handle) -> anyhow::Result<()> {
    channel.wait_without_end()?;
    let listen = move || {
        while let Ok(Some(message)) = channel.hear() {
            let Message::Change(wire) = message else { return };
            let recorded = match wire.change(store.key_check()) {
                None => Err("the change has words of another version".to_owned()),
                Some(change) => runtime.block_on(store.record(change)).map_err(|error| error.to_string()),
            };
            let answer = recorded.map_or_else(|why| Message::NotRecorded { why }, Message::from);
            if channel.say(&answer).is_err() {
                return;
            }
        }
    };
    std::thread::Builder::new().name("predecessor".into()).spawn(listen).context("cannot start a thread")?;
    Ok(())
}
