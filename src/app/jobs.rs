//! Jobs that go on for ever. One that panics is begun anew: a core that no longer accepts, or a process that no longer
//! looks at its memory, would be a fault that nobody sees.

use std::time::Duration;

use tokio::runtime::Runtime;
use tokio::task::JoinHandle;

use crate::telemetry::events;

/// Before a job is begun anew, so that one which panics at once does not take the core for itself.
const PAUSE: Duration = Duration::from_millis(100);

/// Keeps a job on this core's event loop. `begin` makes it, each time anew.
pub fn keep_here<F: Future<Output = ()> + 'static>(job: &'static str, begin: impl Fn() -> F + 'static) {
    drop(tokio::task::spawn_local(kept(job, move || tokio::task::spawn_local(begin()))));
}

/// Keeps a job on the background threads. `begin` makes it, each time anew.
pub fn keep<F: Future<Output = ()> + Send + 'static>(
    background: &Runtime,
    job: &'static str,
    begin: impl Fn() -> F + Send + Sync + 'static,
) {
    drop(background.spawn(kept(job, move || tokio::spawn(begin()))));
}

/// Ends when a job ends by itself, or with its runtime.
async fn kept(job: &'static str, begin: impl Fn() -> JoinHandle<()>) {
    while begin().await.is_err_and(|error| error.is_panic()) {
        events::job_begun_anew(job);
        tokio::time::sleep(PAUSE).await;
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

    /// reliability.md 8: a panic costs what it happened in, and nothing else ends with it.
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
}
