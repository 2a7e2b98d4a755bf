//! What an operator orders of the records: prune, erase, hold, and retire what earlier secrets hashed.

use std::sync::Arc;

use super::journal::forget::{Erased, Pruned};
use super::journal::hold::{Hold, HoldOrder};
use super::journal::seal::There;
use super::journal::tied::{tied_to, under_earlier};
use super::writer::Command;
use super::{OpenError, RecordError, Shared, Store};
use crate::privacy::Subject;

impl Store {
    /// Prunes every record of before a time (microseconds since the Unix epoch) that is not held: its bytes give
    /// way to their digest. An account whose last record goes stays opted out. `dry_run` only counts.
    ///
    /// # Errors
    /// When the journal cannot be written; what was pruned until then stays pruned.
    pub async fn prune(&self, before_us: i64, dry_run: bool) -> Result<Pruned, RecordError> {
        if !dry_run {
            self.0.recipients.prune(before_us).await?;
        }
        self.ask(|answer| Command::Prune { before_us, dry_run, answer }).await
    }

    /// Takes what ties records to these accounts out of the journal. Who is opted out stays so: of that, the
    /// account's hash and its standing are kept. With a database that nodes share, its records of all nodes first; the
    /// journals of the others are for those nodes to erase.
    ///
    /// # Errors
    /// When the journal, or the database, cannot be written; it may be asked again.
    pub async fn erase(&self, subjects: Vec<Subject>) -> Result<Erased, RecordError> {
        let there = match &self.0.state.feed {
            Some(feed) => feed.erase_all(&subjects, |subject| self.0.state.index.standing(subject)).await?,
            None => There::default(),
        };
        self.0.recipients.erase(subjects.clone()).await?;
        let of = subjects.clone();
        let tied = self.beside_writer(move |shared| tied_to(shared.place.path(), &of)).await?;
        let erased =
            self.ask(|answer| Command::Erase { subjects: subjects.clone(), tied, there, answer }).await?;
        if let Some(feed) = &self.0.state.feed {
            // What was read from the journal before, and reached the database after.
            feed.untie(subjects).await?;
        }
        Ok(erased)
    }

    /// Adds or ends a legal hold; the list as it is then.
    ///
    /// # Errors
    /// What it names is not there, or the journal cannot be written.
    pub async fn hold(&self, order: HoldOrder) -> Result<Vec<Hold>, RecordError> {
        self.ask(|answer| Command::Hold { order, answer }).await
    }

    /// Has the journal need the live secret only; answers how many opted-out accounts stand against it because
    /// they are known under an earlier one alone. With none,
    /// [`forget_earlier_secrets`](super::forget_earlier_secrets) may follow.
    ///
    /// # Errors
    /// When the journal cannot be written, or other nodes have records in the database that they share.
    pub async fn retire(&self) -> Result<u64, RecordError> {
        if let Some(feed) = &self.0.state.feed {
            match feed.others().await? {
                0 => {}
                others => return Err(RecordError::Shared(others)),
            }
        }
        self.0.recipients.reseal().await?;
        // Whoever is on the way to be recorded anew is, then.
        self.ask(|answer| Command::Settle { answer }).await?;
        let find = |shared: &Shared| {
            let is_out = |subject: &Subject| shared.state.index.standing(subject).is_out();
            under_earlier(shared.place.path(), &shared.key_check, &is_out)
        };
        let earlier = self.beside_writer(find).await?;
        let left = self.ask(|answer| Command::Retire { earlier, answer }).await?;
        if let (0, Some(feed)) = (left, &self.0.state.feed) {
            feed.retired().await?;
        }
        Ok(left)
    }

    /// Does something with the journal beside the writer, however long that takes.
    pub(super) async fn beside_writer<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Shared) -> Result<T, OpenError> + Send + 'static,
    ) -> Result<T, RecordError> {
        let shared = Arc::clone(&self.0);
        let done = tokio::task::spawn_blocking(move || work(&shared)).await;
        done.map_err(|e| RecordError::Journal(e.to_string()))?
            .map_err(|e| RecordError::Journal(e.to_string()))
    }
}
