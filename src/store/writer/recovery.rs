//! A start and an end: the journal is opened and the index made from its file and what came after it, or from the whole
//! journal.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use crate::privacy::{Standing, Subject};
use crate::store::OpenError;
use crate::store::journal::chain::{Account, Fields, Head};
use crate::store::journal::replay::Fold;
use crate::store::journal::sqlite::Journal;
use crate::store::look;
use crate::store::merge::Seen;
use crate::store::packed::{Packed, Packer, Point, Sealers};
use crate::store::record::{Kind, Source};
use crate::store::state::State;

/// A journal that was folded into the index, and who writes the index's file.
pub(super) struct Opened {
    pub(super) journal: Journal,
    pub(super) packer: Packer,
}

/// Opens the journal and folds it into the index.
pub(super) async fn load(
    path: &Path,
    key_checks: &[String],
    signing_key: &Path,
    (state, sealers, pack_after): (&Arc<State>, &Sealers, Option<u64>),
) -> Result<Opened, OpenError> {
    let mut loading = Loading::new((path, sealers), state, pack_after);
    let journal = Journal::open(path, key_checks, signing_key, &mut loading).await?;
    let resumed = loading.resumed;
    state.records.store(journal.len(), Ordering::Relaxed);
    state.open.store(true, Ordering::Relaxed);
    if let Some(feed) = &state.feed {
        feed.committed(journal.last());
        // What a file says of other nodes holds for the records that it says it of.
        if let Some(point) = &resumed {
            feed.resume_from(point);
        }
    }
    if resumed.is_some() {
        look::over(path, state);
    }
    Ok(Opened { packer: Packer::new(path, sealers, pack_after, resumed.is_some()), journal })
}

/// A start: the file of the index, if it is of this journal, then the journal.
struct Loading<'a> {
    state: &'a State,
    packed: Option<Packed>,
    /// What the file told, once it is in the index.
    resumed: Option<Point>,
}

impl<'a> Loading<'a> {
    fn new((path, sealers): (&Path, &Sealers), state: &'a State, pack_after: Option<u64>) -> Self {
        // Taken back from another process, the index knows more than its file.
        let wanted = pack_after.is_some() && state.index.len() == 0;
        let packed = wanted.then(|| Packed::open(path, sealers)).flatten();
        // What other nodes told holds among them only.
        let fits = |packed: &Packed| state.feed.is_some() || packed.point.seen == Seen::default();
        Self { state, packed: packed.filter(fits), resumed: None }
    }
}

impl Fold for Loading<'_> {
    fn known_to(&self) -> Option<Head> {
        self.packed.as_ref().map(|packed| packed.point.head)
    }

    fn resume(&mut self) -> bool {
        let Some(packed) = self.packed.take() else { return false };
        let point = packed.point.clone();
        match packed.load(&self.state.index) {
            Ok(()) => self.resumed = Some(point),
            Err(error) => {
                tracing::warn!(%error, "index.packed cannot be used; the whole journal is read instead")
            }
        }
        self.resumed.is_some()
    }

    fn stood(&mut self, subject: Subject, standing: Standing, seq: i64) {
        self.state.index.stood(subject, standing, seq);
    }

    fn record(&mut self, fields: &Fields<'_>, account: Account) {
        if let (Account::Known(subject), Some(kind), Some(source)) =
            (account, Kind::parse(fields.kind), Source::parse(fields.signal))
        {
            // What is known already must not be gone through again, as if the person were choosing anew.
            let later = self.state.index.settle_later(subject, kind, source, fields.seq);
            if later && self.resumed.is_some() {
                self.state.note_taken(subject, kind);
            }
        }
    }

    fn suppressed(&mut self, subject: Subject, standing: Standing, seq: i64) {
        self.state.index.suppress(subject, standing, seq);
    }
}

pub(super) async fn close_journal(journal: Journal, state: &State) {
    state.open.store(false, Ordering::Relaxed);
    if let Err(error) = journal.close().await {
        tracing::warn!(%error, "the journal was not closed cleanly; it will recover when opened");
    }
}
