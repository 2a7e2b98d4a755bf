//! What keeps the records: SQLite alone, or with a PostgreSQL that nodes share. A promise is kept by both.

use std::path::Path;
use std::sync::Arc;

use optgate::config;
use optgate::store::proof::{Proven, Verifier};
use optgate::store::{self, Store};

use crate::support::opened;
use crate::support::postgres::Cluster;

/// What keeps records, of the two that the settings name.
pub(super) struct Engine(pub(super) Option<(Arc<Cluster>, config::Shared)>);

impl Engine {
    /// A database of its own; `None`, after a line that says so, where there is no PostgreSQL.
    pub(super) async fn postgres(test: &str) -> Option<Self> {
        let cluster = Cluster::shared(test)?;
        let shared = crate::nodes::shared(&cluster.database().await);
        Some(Self(Some((cluster, shared))))
    }

    /// A store that knows everything there is to know.
    pub(super) async fn open(&self, folder: &Path, limits: &config::Store) -> Store {
        let shared = self.0.as_ref().map(|(_, shared)| shared.clone());
        let store = opened(folder, &config::Store { shared, ..limits.clone() }).unwrap();
        while !store.health().loaded {
            tokio::task::yield_now().await;
        }
        store
    }

    /// Closes a store, and proves what its folder says, and what the database does where there is one.
    pub(super) async fn proven(&self, folder: &Path, store: Store) -> Proven {
        while store.health().feed.is_some_and(|feed| feed.unshipped > 0) {
            tokio::task::yield_now().await;
        }
        store.close().await;
        if let Some((_, shared)) = &self.0 {
            let read = apart(|| store::export_shared(&shared.url, folder, &mut |_| Ok(())));
            assert!(read.unwrap(), "by its secret too");
        }
        let mut verifier = Verifier::new(&[store::public_key(folder).unwrap()]);
        store::evidence(folder, &mut |item| verifier.take(&item).map_err(std::io::Error::other)).unwrap();
        verifier.finish().unwrap()
    }
}

/// Does what blocks, as a command does, on a thread without a runtime.
pub(super) fn apart<T: Send>(work: impl FnOnce() -> T + Send) -> T {
    std::thread::scope(|scope| scope.spawn(work).join().unwrap())
}

/// Promises that hold whatever keeps the records: each is a test of `sqlite` and one of `postgres`.
macro_rules! on_both_engines {
    ($($(#[$meta:meta])* async fn $name:ident($engine:ident: &Engine) $body:block)*) => {
        $($(#[$meta])* async fn $name($engine: &crate::store::engines::Engine) $body)*

        mod sqlite {
            use crate::store::engines::Engine;
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() {
                super::$name(&Engine(None)).await;
            })*
        }

        mod postgres {
            use crate::store::engines::Engine;
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() {
                if let Some(engine) = Engine::postgres(stringify!($name)).await {
                    super::$name(&engine).await;
                }
            })*
        }
    };
}

pub(super) use on_both_engines;
