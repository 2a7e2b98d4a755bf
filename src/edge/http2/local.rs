//! Tasks stay on the core that made them.

use hyper::rt::Executor;

/// Spawns on the current core's runtime; hyper's HTTP/2 needs an executor.
#[derive(Debug, Clone, Copy)]
pub struct LocalExecutor;

impl<F> Executor<F> for LocalExecutor
where
    F: Future + 'static,
{
    fn execute(&self, future: F) {
        tokio::task::spawn_local(async move {
            future.await;
        });
    }
}
