//! Jobs that go on for ever. One that panics is begun anew: a core that no longer accepts, or a process that no longer
//! looks at its memory, would be a fault that nobody sees.

use std::time::Duration;

use tokio::runtime::{Handle, Runtime};
use tokio::task::{JoinError, JoinSet};

use crate::telemetry::events;

/// Before a job is begun anew, so that one which panics at once does not take the core for itself.
const PAUSE: Duration = Duration::from_millis(100);

/// The same for jobs that ask somebody else, who is not to be asked ten times a second because of our fault.
const LONG_PAUSE: Duration = Duration::from_secs(1);

/// Keeps a job on this core's event loop. `begin` makes it, each time anew.
pub fn keep_here<F: Future<Output = ()> + 'static>(job: &'static str, begin: impl Fn() -> F + 'static) {
    drop(tokio::task::spawn_local(kept(job, PAUSE, move || tokio::task::spawn_local(begin()))));
}

/// Keeps a job on the background threads. `begin` makes it, each time anew.
pub fn keep<F: Future<Output = ()> + Send + 'static>(
    background: &Runtime,
    job: &'static str,
    begin: impl Fn() -> F + Send + Sync + 'static,
) {
    drop(background.spawn(kept(job, PAUSE, move || tokio::spawn(begin()))));
}

/// Jobs that are kept for as long as certain settings are in force: they end when this is dropped.
#[derive(Debug)]
pub struct Jobs {
    runtime: Handle,
    tasks: JoinSet<()>,
}

impl Jobs {
    /// None yet; they will run on these threads.
    #[must_use]
    pub fn new(runtime: Handle) -> Self {
        Self { runtime, tasks: JoinSet::new() }
    }

    /// Keeps a job. `begin` makes it, each time anew.
    pub fn keep<F: Future<Output = ()> + Send + 'static>(
        &mut self,
        job: &'static str,
        begin: impl Fn() -> F + Send + 'static,
    ) {
        self.tasks.spawn_on(kept(job, LONG_PAUSE, move || one(begin())), &self.runtime);
    }
}

/// A task that ends with whoever waits for it.
async fn one(job: impl Future<Output = ()> + Send + 'static) -> Result<(), JoinError> {
    let mut task = JoinSet::new();
    task.spawn(job);
    task.join_next().await.unwrap_or(Ok(()))
}

/// Ends when a job ends by itself, or with its runtime.
async fn kept<T: Future<Output = Result<(), JoinError>>>(
    job: &'static str,
    pause: Duration,
    begin: impl Fn() -> T,
) {
    while begin().await.is_err_and(|error| error.is_panic()) {
        events::job_begun_anew(job);
        tokio::time::sleep(pause).await;
    }
}

#[cfg(test)]
mod tests {
    use std::rc::Rc;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU32, Ordering};

    use tokio::runtime::{Builder, LocalOptions};
    use tokio::sync::Notify;

    use super::*;

    /// A panic costs what it happened in, and nothing else ends with it.
    #[test]
    fn a_job_of_a_core_that_panics_is_begun_anew_until_it_ends_by_itself() {
        let runtime =
            Builder::new_current_thread().enable_all().build_local(LocalOptions::default()).unwrap();
        let (begun, ended) = (Rc::new(AtomicU32::new(0)), Rc::new(Notify::new()));
        let (count, end) = (Rc::clone(&begun), Rc::clone(&ended));
        runtime.block_on(async {
            keep_here("a job", move || {
                let (count, end) = (Rc::clone(&count), Rc::clone(&end));
                async move {
                    let times = count.fetch_add(1, Ordering::Relaxed);
                    assert!(times >= 2, "on purpose");
                    end.notify_one();
                }
            });
            ended.notified().await;
        });
        assert_eq!(begun.load(Ordering::Relaxed), 3);
    }

    #[test]
    fn a_job_in_the_background_is_too() {
        let background = Runtime::new().unwrap();
        let (begun, ended) = (Arc::new(AtomicU32::new(0)), Arc::new(Notify::new()));
        let (count, end) = (Arc::clone(&begun), Arc::clone(&ended));
        keep(&background, "a job", move || {
            let (count, end) = (Arc::clone(&count), Arc::clone(&end));
            async move {
                assert!(count.fetch_add(1, Ordering::Relaxed) > 0, "on purpose");
                end.notify_one();
            }
        });
        background.block_on(ended.notified());
        assert_eq!(begun.load(Ordering::Relaxed), 2);
    }

    /// Those of settings too, and none of them outlives the settings.
    #[test]
    fn jobs_of_settings_are_begun_anew_and_end_with_them() {
        let background = Runtime::new().unwrap();
        let (begun, lives) = (Arc::new(AtomicU32::new(0)), Arc::new(Notify::new()));
        let (held, ended) = tokio::sync::mpsc::channel::<()>(1);
        let mut jobs = Jobs::new(background.handle().clone());
        let (count, alive) = (Arc::clone(&begun), Arc::clone(&lives));
        jobs.keep("a job", move || {
            let (count, alive, held) = (Arc::clone(&count), Arc::clone(&alive), held.clone());
            async move {
                assert!(count.fetch_add(1, Ordering::Relaxed) > 0, "on purpose");
                alive.notify_one();
                held.closed().await;
            }
        });
        background.block_on(lives.notified());
        assert_eq!(begun.load(Ordering::Relaxed), 2);
        drop(jobs);
        // Nothing is ever sent: it ends when nobody holds the other end any more.
        let mut ended = ended;
        assert_eq!(background.block_on(ended.recv()), None);
    }
}
