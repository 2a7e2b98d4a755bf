//! Where log lines go: standard error, or a file that is opened again when a log rotator has moved it.
//!
//! Events are written by a thread of their own, as access lines are: who stops reading a pipe or a terminal holds up no
//! core, neither by the write nor by the lock that another line's write holds meanwhile.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, LazyLock, OnceLock};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use prometheus_client::metrics::counter::Counter;

use super::events;

/// Lines of events that may wait.
const QUEUE: usize = 4096;

/// Least time between two lines about lost ones.
const PAUSE: Duration = Duration::from_secs(10);

/// How long the end of a process waits for a reader of its log.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// To the thread that writes events; unset where none was started, as in most commands.
static QUEUED: OnceLock<SyncSender<Entry>> = OnceLock::new();

/// Lines of events that were not written.
static LOST: LazyLock<Counter> = LazyLock::new(Counter::default);

enum Entry {
    Line(Box<[u8]>),
    /// To be answered when all lines before it are written.
    Flush(SyncSender<()>),
}

/// The file of this process; unset while lines go to standard error.
static FILE: OnceLock<LogFile> = OnceLock::new();

struct LogFile {
    path: PathBuf,
    open: ArcSwap<File>,
}

/// From now on lines go to a file, at its end. Only the first call in a process counts.
///
/// # Errors
/// When the file cannot be opened.
pub fn use_file(path: &Path) -> io::Result<()> {
    let file = LogFile { path: path.to_owned(), open: ArcSwap::from_pointee(open(path)?) };
    // Tests start many; as with the log itself, the first one wins.
    let _ = FILE.set(file);
    Ok(())
}

/// Opens the file anew by its name, so that lines follow a rotation. Nothing where lines go to standard error.
///
/// # Errors
/// When it cannot be opened; then lines go where they went before.
pub fn reopen() -> io::Result<()> {
    if let Some(file) = FILE.get() {
        file.open.store(Arc::new(open(&file.path)?));
    }
    Ok(())
}

/// Readable by the group, for those who collect logs.
fn open(path: &Path) -> io::Result<File> {
    OpenOptions::new().create(true).append(true).mode(0o640).open(path)
}

/// Says on standard error what the log's file cannot hold. Nothing where the log goes there itself: then nobody reads
/// either.
pub fn say_beside(line: &str) {
    if let Some(file) = FILE.get() {
        let _ = writeln!(io::stderr().lock(), "optgate: {}: {line}", file.path.display());
    }
}

/// Starts the thread that writes events, unless there is one.
///
/// # Errors
/// When no thread can be started.
pub fn start_thread() -> io::Result<()> {
    if QUEUED.get().is_some() {
        return Ok(());
    }
    let (sender, receiver) = sync_channel(QUEUE);
    std::thread::Builder::new().name("log".into()).spawn(move || write_events(&receiver))?;
    // The thread of whoever comes second ends.
    let _ = QUEUED.set(sender);
    Ok(())
}

/// Lines of events that were not written: they came faster than they could be, or it failed.
#[must_use]
pub fn lost() -> &'static Counter {
    &LOST
}

/// Waits until every event so far is written, for at most so long. Blocks; never on a core.
pub fn flush(limit: Duration) {
    let Some(queue) = QUEUED.get() else { return };
    let until = Instant::now() + limit;
    let (done, written) = sync_channel(1);
    // A full queue makes room when somebody reads.
    while let Err(TrySendError::Full(_)) = queue.try_send(Entry::Flush(done.clone())) {
        if Instant::now() >= until {
            return;
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    let _ = written.recv_timeout(until.saturating_duration_since(Instant::now()));
}

/// What waits is written when this is dropped, before the process says anything else and ends.
#[derive(Debug)]
#[must_use]
pub struct Flushed;

impl Drop for Flushed {
    fn drop(&mut self) {
        flush(LAST_WORDS);
    }
}

fn write_events(receiver: &Receiver<Entry>) {
    let (mut told, mut last) = (0, None::<Instant>);
    while let Ok(entry) = receiver.recv() {
        match entry {
            Entry::Line(line) if Sink.write_all(&line).is_err() => drop(LOST.inc()),
            Entry::Line(_) => {}
            // Whoever asked may have waited for long enough.
            Entry::Flush(done) => drop(done.try_send(())),
        }
        let lost = LOST.get();
        if lost > told && last.is_none_or(|last| last.elapsed() >= PAUSE) {
            (told, last) = (lost, Some(Instant::now()));
            events::log_lines_lost(lost);
        }
    }
}

/// Hands whole lines to the thread that writes them and never waits: what finds no room is counted. Where there is no
/// such thread it writes itself. For `tracing`; cheap to make.
#[derive(Debug, Clone, Copy, Default)]
pub struct Queued;

impl Write for Queued {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.write_all(bytes).map(|()| bytes.len())
    }

    fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        let Some(queue) = QUEUED.get() else { return Sink.write_all(bytes) };
        if queue.try_send(Entry::Line(bytes.into())).is_err() {
            LOST.inc();
        }
        Ok(())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Writes whole lines where the log goes. Cheap to make.
#[derive(Debug, Clone, Copy, Default)]
pub struct Sink;

impl Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.write_all(bytes).map(|()| bytes.len())
    }

    fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        match FILE.get() {
            Some(file) => (&**file.open.load()).write_all(bytes),
            None => io::stderr().lock().write_all(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
