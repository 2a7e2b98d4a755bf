//! The data folder, for a command that needs it: opened here, or asked of the server that has it.

use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use http::header::{CONTENT_TYPE, RETRY_AFTER};
use http::{Request, StatusCode};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::runtime::Runtime;

use super::ask::{ask_socket, said};
use crate::admin::journal_orders::{EraseOrder, ImportOrder, PruneOrder, SECRET};
use crate::config::{self, Settings};
use crate::privacy::{Keys, Subject};
use crate::store::import::{Arrival, Imported, write_digits};
use crate::store::{self, Erased, Hold, HoldOrder, OpenError, Pruned, Store};

/// How long an order waits for the process that an upgrade brings, and the pause between two tries.
const PATIENCE: Duration = Duration::from_secs(10);
const AGAIN: Duration = Duration::from_millis(100);

/// How long a folder is waited for that somebody has who does not listen: most commands are done before.
const COMMAND: Duration = Duration::from_secs(2);

/// Who has the folder.
pub struct DataFolder {
    holder: Holder,
    runtime: Runtime,
}

enum Holder {
    /// This process.
    Here(Store),
    /// A server.
    Server(Box<Server>),
}

/// A server, which listens at a socket.
struct Server {
    socket: PathBuf,
    keys: Keys,
    key_check: String,
}

impl DataFolder {
    /// Opens the folder of these settings, or finds the server that has it.
    ///
    /// # Errors
    /// There is no journal; it cannot be opened; a server has it and does not listen.
    pub fn open(settings: &Settings) -> anyhow::Result<Self> {
        let data_dir = &settings.data_dir;
        store::require_journal(data_dir)?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let socket = store::socket(data_dir);
        let holder = match take(settings, &socket)? {
            Some(store) => Holder::Here(store),
            None => {
                let (keys, key_check) = store::live_secret(data_dir)?;
                Holder::Server(Box::new(Server { socket, keys, key_check }))
            }
        };
        Ok(Self { holder, runtime })
    }

    /// The keys that subjects are hashed with.
    pub fn keys(&self) -> &Keys {
        match &self.holder {
            Holder::Here(store) => store.keys(),
            Holder::Server(server) => &server.keys,
        }
    }

    /// As [`Store::prune`].
    ///
    /// # Errors
    /// The journal cannot be written, or the server does not answer.
    pub fn prune(&self, before_us: i64, dry_run: bool) -> anyhow::Result<Pruned> {
        match &self.holder {
            Holder::Here(store) => Ok(self.runtime.block_on(store.prune(before_us, dry_run))?),
            Holder::Server(server) => self.order(server, "/prune", &PruneOrder { before_us, dry_run }),
        }
    }

    /// As [`Store::erase`].
    ///
    /// # Errors
    /// The journal cannot be written, or the server does not answer.
    pub fn erase(&self, subjects: Vec<Subject>) -> anyhow::Result<Erased> {
        match &self.holder {
            Holder::Here(store) => Ok(self.runtime.block_on(store.erase(subjects))?),
            Holder::Server(server) => {
                let subjects = subjects.iter().map(write_digits).collect();
                self.order(server, "/erase", &EraseOrder { subjects })
            }
        }
    }

    /// As [`Store::hold`].
    ///
    /// # Errors
    /// What it names is not there, the journal cannot be written, or the server does not answer.
    pub fn hold(&self, order: HoldOrder) -> anyhow::Result<Vec<Hold>> {
        match &self.holder {
            Holder::Here(store) => Ok(self.runtime.block_on(store.hold(order))?),
            Holder::Server(server) => self.order(server, "/hold", &order),
        }
    }

    /// As [`Store::import`]; a server knows itself whom it tells.
    ///
    /// # Errors
    /// The journal cannot be written, or the server does not answer.
    pub fn import(&self, arrivals: Vec<Arrival>, told: bool, dry_run: bool) -> anyhow::Result<Imported> {
        match &self.holder {
            Holder::Here(store) => Ok(self.runtime.block_on(store.import(arrivals, told, dry_run))?),
            Holder::Server(server) => self.order(server, "/import", &ImportOrder { arrivals, dry_run }),
        }
    }

    /// Works out who is to be told of what was imported. A server does so by itself.
    ///
    /// # Errors
    /// What recipients are told from cannot be written.
    pub fn plan(&self, settings: &Settings) -> anyhow::Result<()> {
        match &self.holder {
            Holder::Here(store) => Ok(self.runtime.block_on(store.recipients().plan(settings))?),
            Holder::Server(_) => Ok(()),
        }
    }

    /// As [`Store::retire`].
    ///
    /// # Errors
    /// The journal cannot be written, or the server does not answer.
    pub fn retire(&self) -> anyhow::Result<u64> {
        match &self.holder {
            Holder::Here(store) => Ok(self.runtime.block_on(store.retire())?),
            Holder::Server(server) => self.order(server, "/retire", &()),
        }
    }

    fn order<T: DeserializeOwned>(
        &self,
        Server { socket, key_check, .. }: &Server,
        path: &'static str,
        order: &impl Serialize,
    ) -> anyhow::Result<T> {
        let order = serde_json::to_vec(order)?;
        let asked = async {
            let until = Instant::now() + PATIENCE;
            loop {
                let request = Request::post(path)
                    .header(CONTENT_TYPE, "application/json")
                    .header(SECRET, key_check.as_str());
                let (head, body) = ask_socket(socket, request, order.clone()).await?;
                // Only this answer says that the order was not begun. One that did not come, or another, may stand for
                // something done, and counting that twice would be untrue.
                let handed_over =
                    head.status == StatusCode::SERVICE_UNAVAILABLE && head.headers.contains_key(RETRY_AFTER);
                if !handed_over || Instant::now() >= until {
                    return Ok::<_, anyhow::Error>((head, body));
                }
                tokio::time::sleep(AGAIN).await;
            }
        };
        let (head, body) = self.runtime.block_on(asked).with_context(|| {
            format!(
                "another optgate has the data folder and does not listen at {}; stop it, or wait until it is done",
                socket.display()
            )
        })?;
        if head.status == StatusCode::OK {
            return serde_json::from_slice(&body).context("the server's answer cannot be understood");
        }
        let text = said(&body, "detail").unwrap_or_else(|| String::from_utf8_lossy(&body).into_owned());
        anyhow::bail!("the server that has the data folder answered {}: {text}", head.status)
    }
}

impl Drop for DataFolder {
    fn drop(&mut self) {
        if let Holder::Here(store) = &self.holder {
            self.runtime.block_on(store.close());
        }
    }
}

/// The store of these settings; none where another process has it.
fn take(settings: &Settings, socket: &Path) -> anyhow::Result<Option<Store>> {
    // Nothing is to be pruned by the way.
    let limits = config::Store { retention: None, ..settings.store.clone() };
    let mut until = None;
    loop {
        // A server that listens has the folder, also while an upgrade lets go of its lock for a moment: taken then, the
        // next process could not open it. A file that a killed server left behind takes nobody.
        if UnixStream::connect(socket).is_ok() {
            return Ok(None);
        }
        match Store::open(&settings.data_dir, &limits) {
            Ok(store) => return Ok(Some(store)),
            Err(OpenError::InUse { path }) => {
                let until = *until.get_or_insert_with(|| {
                    eprintln!("{path}: another optgate uses this data folder; waiting for it");
                    Instant::now() + COMMAND
                });
                if Instant::now() >= until {
                    return Ok(None);
                }
                std::thread::sleep(AGAIN);
            }
            Err(error) => return Err(error.into()),
        }
    }
}
