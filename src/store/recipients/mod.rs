//! Who got an opted-out person's data between the request and its effect, and what they were told
//! (11 CCR 7026(f)(2)).
//!
//! ```text
//! pages ----> sightings --(once a day and vendor)--> windows
//! form, import --> requested --> [journal] --> recorded --> plan --> tasks --> app/recipients.rs, or a person
//!                     |                           ^
//!                     +-- a crash in between: the record is looked for again by its account --+
//! ```
//!
//! A request is on disk before its record is written, and a task goes only with a receipt: whatever ends the process,
//! a recipient is told at least once, by a message whose id never changes. Nothing of it stands in the journal. One
//! thread of its own holds the file; opting out never depends on it.

mod beside;
mod figures;
mod letter;
mod outbox;
mod plan;
mod schema;
mod seal;
mod sightings;
mod table;

use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use futures_util::future::LocalBoxFuture;
use tokio::sync::mpsc::{self, Receiver, Sender};
use tokio::sync::{Notify, oneshot};

pub use beside::{OptOut, Task, TaskText, account_text, bounced, done, of_record, open_tasks, retry};
pub(super) use beside::{check, copy, restore};
pub use figures::RecipientsCollector;
pub use letter::Letter;
pub(super) use schema::FILE;
pub use sightings::SiteSightings;

use super::signing::{SIGNATURE_BYTES, Signer};
use crate::config::Settings;
use crate::privacy::{Keys, Subject};
use crate::store::time;
use figures::Figures;
use plan::Planner;
use seal::Seal;
use sightings::Sightings;
use table::Table;

/// Orders that may wait for the thread.
const WAITING: usize = 4_096;

/// How long a page waits for the file: a disk that hangs must not keep a person from their answer.
const PATIENCE: Duration = Duration::from_secs(2);

/// Why the file could not be used.
#[derive(Debug, Clone, thiserror::Error)]
#[error("recipients.sqlite3: {0}")]
pub struct RecipientsError(String);

impl From<RecipientsError> for super::RecordError {
    fn from(error: RecipientsError) -> Self {
        Self::Journal(error.to_string())
    }
}

/// What a site calls an account. `Debug` shows nothing of it.
#[derive(Clone, PartialEq, Eq)]
pub struct AccountKey(pub Box<[u8]>);

impl std::fmt::Debug for AccountKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("AccountKey(..)")
    }
}

impl From<&[u8]> for AccountKey {
    fn from(key: &[u8]) -> Self {
        Self(key.into())
    }
}

impl From<Vec<u8>> for AccountKey {
    fn from(key: Vec<u8>) -> Self {
        Self(key.into())
    }
}

/// An opt-out that was asked for.
#[derive(Debug, Clone)]
pub struct Request {
    /// The account.
    pub subject: Subject,
    /// The site's name.
    pub site: String,
    /// When, in microseconds since the Unix epoch.
    pub requested_us: i64,
    /// What the site calls the account, if that is at hand; it is sealed, and kept until everybody was told.
    pub who: Option<AccountKey>,
}

/// An opt-out that is on record.
#[derive(Debug, Clone)]
pub struct Recorded {
    /// The account.
    pub subject: Subject,
    /// The record's reference.
    pub reference: String,
    /// When it took effect, in microseconds since the Unix epoch.
    pub effective_us: i64,
}

/// A request whose record is not known yet.
#[derive(Debug, Clone, Copy)]
pub struct Pending {
    /// The account.
    pub subject: Subject,
    /// When it was asked for, in microseconds since the Unix epoch.
    pub requested_us: i64,
}

/// A message that it is time for. Times in microseconds since the Unix epoch.
pub struct Due {
    /// The message's id, the same on every try.
    pub id: String,
    /// The recipient's name.
    pub recipient: String,
    /// Reference of the record.
    pub reference: String,
    /// The site's name.
    pub site: String,
    /// Registry ids of the recipient's vendors that were on the site.
    pub vendors: Vec<String>,
    /// When it was asked for.
    pub requested_us: i64,
    /// When it took effect.
    pub effective_us: i64,
    /// Until when data went to this recipient.
    pub until_us: i64,
    /// Tries so far.
    pub tries: u32,
    /// What the site calls the account. Only for the message itself.
    pub who: Vec<u8>,
}

impl std::fmt::Debug for Due {
    /// Without the account.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Due({} to {})", self.id, self.recipient)
    }
}

/// What came of a try.
#[derive(Debug, Clone)]
pub enum Settled {
    /// The recipient took it; its receipt.
    Told(String),
    /// It did not.
    Failed(Failed),
}

/// A try that failed.
#[derive(Debug, Clone)]
pub struct Failed {
    /// Why, in a few words.
    pub why: String,
    /// When to try again, in microseconds since the Unix epoch; `None`: the recipient wants no more of them.
    pub next_us: Option<i64>,
}

type Job = Box<dyn for<'a> FnOnce(&'a mut Table) -> LocalBoxFuture<'a, ()> + Send>;

enum Order {
    Work(Job),
    Close(oneshot::Sender<()>),
}

/// Handle to the file; one a store.
pub struct Recipients {
    orders: Sender<Order>,
    thread: Mutex<Option<JoinHandle<()>>>,
    sightings: Sightings,
    figures: Arc<Figures>,
    changed: Arc<Notify>,
    signing: PathBuf,
    signer: OnceLock<Signer>,
}

impl std::fmt::Debug for Recipients {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Recipients")
    }
}

impl Recipients {
    /// Starts the thread. The file is opened when it is first needed.
    ///
    /// # Errors
    /// When the thread cannot be started.
    pub(super) fn open(data_dir: &Path, keys: &Keys) -> std::io::Result<Self> {
        let (orders, inbox) = mpsc::channel(WAITING);
        let figures = Arc::<Figures>::default();
        let table = Table::new(data_dir.join(FILE), Seal::of(keys), Arc::clone(&figures));
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let thread = std::thread::Builder::new()
            .name("recipients".into())
            .spawn(move || runtime.block_on(work(inbox, table)))?;
        Ok(Self {
            orders,
            thread: Mutex::new(Some(thread)),
            sightings: Sightings::default(),
            figures,
            changed: Arc::default(),
            signing: data_dir.join(super::SIGNING),
            signer: OnceLock::new(),
        })
    }

    /// Where a site's pages note the vendors they lost; `vendors` are the registry's ids by position.
    #[must_use]
    pub fn sightings<'a>(
        &self,
        site: &Arc<str>,
        vendors: impl Iterator<Item = &'a str>,
    ) -> Arc<SiteSightings> {
        self.sightings.site(site, vendors, &self.changed)
    }

    /// Writes down which vendors were seen today that were not yet. Blocks nobody who serves.
    ///
    /// # Errors
    /// The file cannot be written; they stay in memory.
    pub async fn keep_sightings(&self) -> Result<(), RecipientsError> {
        let day = plan::day_of(time::now_us());
        let (new, taken) = self.sightings.take();
        if !new.is_empty() {
            self.run(move |table| Box::pin(async move { table.seen(day, &new).await })).await?;
        }
        self.sightings.keep(taken, day);
        Ok(())
    }

    /// Keeps requests before their opt-outs are recorded; durable when it returns.
    ///
    /// # Errors
    /// The file cannot be written.
    pub async fn requested(&self, requests: Vec<Request>) -> Result<(), RecipientsError> {
        self.run(move |table| Box::pin(async move { table.requested(&requests).await })).await
    }

    /// For somebody who is waiting for a page: what takes longer goes on behind it, and this ends with an error.
    ///
    /// # Errors
    /// As the work's, or that it takes too long.
    pub async fn for_a_page(
        &self,
        work: impl Future<Output = Result<(), RecipientsError>>,
    ) -> Result<(), RecipientsError> {
        tokio::time::timeout(PATIENCE, work)
            .await
            .unwrap_or_else(|_| Err(RecipientsError("it takes too long".into())))
    }

    /// As [`Self::requested`], for one whose opt-out is recorded without waiting: neither does this. One that cannot be
    /// kept is counted and logged.
    pub fn note(&self, request: Request) {
        let figures = Arc::clone(&self.figures);
        let job: Job = Box::new(move |table| {
            Box::pin(async move {
                let done = table.requested(&[request]).await;
                table.used(done.is_err()).await;
                if let Err(error) = done {
                    figures.lost.fetch_add(1, Ordering::Relaxed);
                    tracing::error!(%error, "nobody will be told of an opt-out: it could not be kept");
                }
            })
        });
        if self.orders.try_send(Order::Work(job)).is_err() {
            self.figures.lost.fetch_add(1, Ordering::Relaxed);
        }
        self.changed.notify_one();
    }

    /// Opt-outs of requests that were kept are on record; others are passed over.
    ///
    /// # Errors
    /// The file cannot be written: they are found again by their accounts.
    pub async fn recorded(&self, records: Vec<Recorded>) -> Result<(), RecipientsError> {
        let done = self.run(move |table| Box::pin(async move { table.recorded(&records).await })).await;
        self.changed.notify_one();
        done
    }

    /// Requests whose record is not known yet.
    ///
    /// # Errors
    /// The file cannot be read.
    pub async fn pending(&self) -> Result<Vec<Pending>, RecipientsError> {
        self.run(|table| Box::pin(table.pending())).await
    }

    /// Makes the tasks of what was recorded since, by these settings.
    ///
    /// # Errors
    /// The file cannot be written.
    pub async fn plan(&self, settings: &Settings) -> Result<(), RecipientsError> {
        let planner = Planner::of(settings);
        let now_us = time::now_us();
        self.run(move |table| Box::pin(async move { table.plan(&planner, now_us).await })).await
    }

    /// The next messages for a recipient that it is time for, by a [way](crate::config::Way::word), at most so many.
    ///
    /// # Errors
    /// The file cannot be read.
    pub async fn due(
        &self,
        recipient: String,
        way: &'static str,
        most: i64,
    ) -> Result<Vec<Due>, RecipientsError> {
        let now_us = time::now_us();
        self.run(move |table| Box::pin(async move { table.due((&recipient, way), now_us, most).await })).await
    }

    /// When the next message to a recipient by a way is due, in microseconds since the Unix epoch.
    ///
    /// # Errors
    /// The file cannot be read.
    pub async fn next_due(
        &self,
        recipient: String,
        way: &'static str,
    ) -> Result<Option<i64>, RecipientsError> {
        self.run(move |table| Box::pin(async move { table.next_due((&recipient, way)).await })).await
    }

    /// What came of a message.
    ///
    /// # Errors
    /// The file cannot be written: it will be sent once more.
    pub async fn tried(&self, id: String, settled: Settled) -> Result<(), RecipientsError> {
        let at_us = time::now_us();
        self.run(move |table| Box::pin(async move { table.tried(&id, at_us, &settled).await })).await
    }

    /// Brings the gauges up to date.
    ///
    /// # Errors
    /// The file cannot be read.
    pub async fn count(&self) -> Result<(), RecipientsError> {
        self.run(|table| Box::pin(table.count())).await
    }

    /// Forgets what is older than a time (microseconds since the Unix epoch) and not open.
    ///
    /// # Errors
    /// The file cannot be written.
    pub async fn prune(&self, before_us: i64) -> Result<(), RecipientsError> {
        self.run(move |table| Box::pin(table.prune(before_us))).await
    }

    /// Signs a message with the key that signs the journal. What a message begins with is never what a checkpoint or a
    /// vouching does, so that none can pass for another.
    ///
    /// # Errors
    /// The key cannot be read.
    pub fn sign(&self, message: &[u8]) -> std::io::Result<[u8; SIGNATURE_BYTES]> {
        let signer = match self.signer.get() {
            Some(signer) => signer,
            None => {
                let missing = || std::io::Error::other("signing.key is missing");
                let signer = Signer::load(&self.signing)?.ok_or_else(missing)?;
                self.signer.get_or_init(|| signer)
            }
        };
        signer.sign(message)
    }

    /// Waits until there is something to do.
    pub async fn changed(&self) {
        self.changed.notified().await;
    }

    pub(super) async fn erase(&self, subjects: Vec<Subject>) -> Result<(), RecipientsError> {
        self.run(move |table| Box::pin(async move { table.erase(&subjects).await })).await
    }

    /// Seals with the live secret what earlier ones sealed.
    pub(super) async fn reseal(&self) -> Result<(), RecipientsError> {
        self.run(|table| Box::pin(table.reseal())).await
    }

    /// Writes what is in memory and closes the file. Later calls fail.
    pub(super) async fn close(&self) {
        if let Err(error) = self.keep_sightings().await {
            tracing::error!(%error, "the vendors seen last could not be kept");
        }
        let (done, ended) = oneshot::channel();
        if self.orders.send(Order::Close(done)).await.is_ok() {
            // Closed before, it is closed all the same.
            let _ = ended.await;
        }
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        if thread.is_some_and(|thread| thread.join().is_err()) {
            tracing::error!("the thread that keeps recipients.sqlite3 panicked");
        }
    }

    fn figures(&self) -> Arc<Figures> {
        Arc::clone(&self.figures)
    }

    /// Has the thread do something with the file.
    async fn run<T: Send + 'static>(
        &self,
        work: impl for<'a> FnOnce(&'a mut Table) -> LocalBoxFuture<'a, Result<T, sqlx::Error>> + Send + 'static,
    ) -> Result<T, RecipientsError> {
        let (answer, answered) = oneshot::channel();
        let job: Job = Box::new(move |table| {
            Box::pin(async move {
                let done = work(table).await;
                table.used(done.is_err()).await;
                // Whoever stopped waiting has it done all the same.
                let _ = answer.send(done.map_err(|error| RecipientsError(error.to_string())));
            })
        });
        let closed = || RecipientsError("it is closed".into());
        self.orders.send(Order::Work(job)).await.map_err(|_| closed())?;
        answered.await.unwrap_or_else(|_| Err(closed()))
    }
}

async fn work(mut inbox: Receiver<Order>, mut table: Table) {
    while let Some(order) = inbox.recv().await {
        match order {
            Order::Work(job) => job(&mut table).await,
            Order::Close(done) => {
                inbox.close();
                while let Some(order) = inbox.recv().await {
                    if let Order::Work(job) = order {
                        job(&mut table).await;
                    }
                }
                table.close().await;
                // Nobody may wait for it.
                let _ = done.send(());
                return;
            }
        }
    }
    table.close().await;
}
