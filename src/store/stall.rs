//! A disk that hangs: it refuses nothing and answers nothing, so that no error tells of it. What the writer is at is noted
//! while it lasts, and nobody who waits for a page waits longer than [`PATIENCE`].

use std::pin::pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tokio::time::timeout;

use super::{RecordError, Store};

/// How long the writer may be at one thing before the journal counts as failing, and somebody waits for a record before
/// they are told that it could not be saved.
pub(super) const PATIENCE: Duration = Duration::from_secs(5);

/// Records that may wait with somebody waiting for each: what a disk that hangs piles up is bounded.
pub(super) const MOST_WAITING: usize = 65_536;

/// What the writer is at.
#[derive(Debug)]
pub(super) struct Stall {
    opened: Instant,
    /// When it began, in nanoseconds since then and at least 1; 0 while it is at nothing.
    since: AtomicU64,
    /// It was said that it takes too long.
    said: AtomicBool,
}

impl Default for Stall {
    fn default() -> Self {
        Self { opened: Instant::now(), since: AtomicU64::new(0), said: AtomicBool::new(false) }
    }
}

impl Stall {
    /// The writer begins something with the file; it is done when what this returns is dropped.
    pub(super) fn begin(&self) -> Working<'_> {
        let nanos = u64::try_from(self.opened.elapsed().as_nanos()).unwrap_or(u64::MAX);
        self.since.store(nanos.max(1), Ordering::Relaxed);
        Working(self)
    }

    /// Why the journal counts as failing, where that takes too long.
    pub(super) fn error(&self) -> Option<String> {
        let since = Some(self.since.load(Ordering::Relaxed)).filter(|since| *since > 0)?;
        let lasts = self.opened.elapsed().saturating_sub(Duration::from_nanos(since));
        (lasts >= PATIENCE)
            .then(|| format!("it takes too long: no answer from its disk for {} s", lasts.as_secs()))
    }

    /// Somebody waited in vain. Logged once a stall.
    pub(super) fn note_timeout(&self) {
        if !self.said.swap(true, Ordering::Relaxed) {
            tracing::error!(
                "the journal takes too long; opt-outs are honoured, and those who wait are told that nothing is saved"
            );
        }
    }
}

impl Store {
    /// What somebody waits for who waits for a page. While an upgrade has the journal, which may take longer to open, that
    /// is waited for.
    pub(super) async fn in_time<T>(&self, work: impl Future<Output = T>) -> Result<T, RecordError> {
        let mut work = pin!(work);
        loop {
            match timeout(self.0.patience, work.as_mut()).await {
                Ok(done) => return Ok(done),
                Err(_) if !self.0.state.open.load(Ordering::Relaxed) => {}
                Err(_) => {
                    self.0.state.stall.note_timeout();
                    return Err(RecordError::TooLong);
                }
            }
        }
    }
}

/// The writer is at something.
pub(super) struct Working<'a>(&'a Stall);

impl Drop for Working<'_> {
    fn drop(&mut self) {
        self.0.since.store(0, Ordering::Relaxed);
        if self.0.said.swap(false, Ordering::Relaxed) {
            tracing::info!("the journal answers again");
        }
    }
}
