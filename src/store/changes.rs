//! What is known of an account, and what changes it: look-ups in memory, and changes on their way to the writer.

use std::sync::atomic::Ordering;

use tokio::sync::oneshot;

use super::counts::Became;
use super::journal::sqlite::Key;
use super::record::{Change, Kind, Receipt, Source};
use super::writer::{Command, Outlived, Waiting};
use super::{RecordError, Shared, Store, stall, time};
use crate::privacy::{Basis, Standing, Subject};

impl Store {
    /// What is known about an account. Memory only: one shard's read lock and one probe.
    #[must_use]
    pub fn lookup(&self, subject: &Subject) -> Standing {
        match self.0.state.index.standing(subject) {
            out if out.is_out() => out,
            _ if !self.0.state.is_loaded() => Standing::NotLoaded,
            known => known,
        }
    }

    /// What is known about an account under the secret that is live and under the others that are tried. An opt-out under
    /// any of them holds, unless this node is alone and knows an opt-in under another to be the later word. Not to be asked
    /// while [`Standing::NotLoaded`] is the answer of [`Store::lookup`].
    ///
    /// Cost: as [`Store::lookup`], for each of them.
    #[must_use]
    pub fn lookup_all(&self, live: &Subject, others: &[Subject]) -> Standing {
        self.0.state.index.together(live, others, self.is_alone()).0
    }

    /// As [`Store::lookup_all`], of the account of `live`. An opt-out that only another hash tells of is recorded under
    /// the live one; until then it holds all the same. It goes over as an import where it was one, else as carried, for
    /// nobody chose anything now; but as it arrived where it has to stand against a word under the live hash. `basis` and
    /// `policy` as for any record.
    pub fn carry(&self, others: &[Subject], live: Change) -> Standing {
        let index = &self.0.state.index;
        let Some(subject) = live.subject else { return Standing::Unknown };
        let (standing, found) = index.together(&subject, others, self.is_alone());
        if let Some((other, source)) = found {
            let source = match source {
                Source::Import => source,
                _ if index.standing(&subject) == Standing::Unknown => Source::Carried,
                _ => source,
            };
            let change = Change { kind: Kind::OptOut, source, ..live };
            // No flood: there are no more of these than accounts that opted out. If the queue is full the next
            // request tries again; the opt-out holds all the same.
            if index.claim(subject, Kind::OptOut, source) {
                if self.0.enqueue(change) {
                    index.set_outlived(other);
                    // Closed, there is no next start to tell either.
                    self.0.to_writer.send(Command::Outlived(Outlived { other, by: None }));
                } else {
                    index.unclaim(subject, source);
                }
            }
        }
        standing
    }

    /// Has it noted that an account is not needed any more under these hashes, which are of earlier secrets, where what is on
    /// record of it under the live one holds whatever they say: `keys retire` would wait for them for ever.
    ///
    /// Cost: two probes each; a message where it is news.
    pub fn outlive(&self, live: &Subject, others: impl IntoIterator<Item = Subject>) {
        if self.has_others() {
            return;
        }
        let index = &self.0.state.index;
        for other in others {
            if index.outlives(live, &other, self.is_alone()) && index.set_outlived(other) {
                self.0.to_writer.send(Command::Outlived(Outlived { other, by: Some(*live) }));
            }
        }
    }

    /// Whether the order of this node's records is that of everybody's choices.
    pub(super) fn is_alone(&self) -> bool {
        self.0.state.feed.is_none()
    }

    /// As [`Store::record`], for somebody who waits for a page: what takes longer than some seconds goes on behind it, and
    /// this ends with an error. `crowding` as in [`Store::record_crowding`].
    ///
    /// # Errors
    /// See [`RecordError`]; or that it takes too long.
    pub async fn record_for_a_page(&self, change: Change, crowding: bool) -> Result<Receipt, RecordError> {
        let fits = self.fits(crowding);
        self.in_time(self.record_if(fits, change)).await?
    }

    /// Records a change; resolves after it is durable. Dropping the future does not take it back.
    ///
    /// An account's own change of standing is never refused as flood; a browser's is, and a profile's
    /// ([`Basis::Profile`]), for whoever sends requests invents as many as they like. Over the bound, whoever is already in
    /// that standing gets the receipt it has.
    ///
    /// # Errors
    /// See [`RecordError`].
    pub async fn record(&self, change: Change) -> Result<Receipt, RecordError> {
        self.record_if(self.fits(false), change).await
    }

    /// As [`Store::record`], for somebody who asks more often than others: half of the burst stays for those.
    ///
    /// # Errors
    /// See [`RecordError`].
    pub async fn record_crowding(&self, change: Change) -> Result<Receipt, RecordError> {
        self.record_if(self.fits(true), change).await
    }

    /// Whether one more record fits now.
    pub(super) fn fits(&self, crowding: bool) -> bool {
        let (bound, nanos) = (&self.0.bound, self.0.nanos());
        if crowding { bound.take_below_half(nanos) } else { bound.take(nanos) }
    }

    /// Hands a change to the writer; resolves after it is durable.
    pub(super) async fn hand_over(&self, change: Change) -> Result<Receipt, RecordError> {
        self.0.send(change)?.await.unwrap_or(Err(RecordError::Closed))
    }

    async fn record_if(&self, fits: bool, change: Change) -> Result<Receipt, RecordError> {
        let shared = &*self.0;
        let known = self.admit(fits, &change).await?;
        let Some(subject) = change.subject else {
            shared.state.counts.count(&change, Became::Recorded);
            return self.hand_over(change).await;
        };
        let state = &shared.state;
        let what = (subject, change.kind, change.source);
        // Before it is on disk: a confirmation that comes meanwhile must not overtake it.
        let sent = state.recent_opt_outs.chose(what, time::now_us(), |easing| {
            let recorded = || state.index.recorded(&subject, change.kind, change.source);
            // What is on record is its record only if nothing that is on its way comes after that.
            let settled = !easing && !state.is_failing();
            if let Some(known) = known.filter(|known| settled && recorded() == Some(known.seq)) {
                state.count_flood();
                state.counts.count(&change, Became::Known);
                return Ok(Err(known));
            }
            state.counts.count(&change, Became::Recorded);
            shared.send(change).map(Ok)
        });
        match sent? {
            Ok(answered) => answered.await.unwrap_or(Err(RecordError::Closed)),
            Err(known) => Ok(known),
        }
    }

    /// What becomes of a change that is to be recorded: `None`, it is to be handed over; else the receipt that whoever is in
    /// that standing has, for there are too many.
    ///
    /// # Errors
    /// See [`RecordError`]: it is not recorded.
    pub(super) async fn admit(&self, fits: bool, change: &Change) -> Result<Option<Receipt>, RecordError> {
        let shared = &*self.0;
        if !fits {
            if let Some(subject) = change.subject
                && let Some(seq) = shared.state.index.recorded(&subject, change.kind, change.source)
                && let Some(view) = self.read(Key::Seq(seq)).await?
            {
                return Ok(Some(view.receipt()));
            }
            if change.subject.is_none() || change.basis == Some(Basis::Profile) {
                shared.state.count_flood();
                shared.state.counts.count(change, Became::Flood);
                return Err(RecordError::Flood);
            }
        }
        let (all, behind) = (&shared.state.backlog, &shared.state.behind);
        let waiting = all.load(Ordering::Relaxed).saturating_sub(behind.load(Ordering::Relaxed));
        if waiting >= stall::MOST_WAITING {
            return Err(RecordError::Journal("too many records wait for it".into()));
        }
        Ok(None)
    }

    /// Hands a change to the writer without waiting. The index knows an opt-out at once, an opt-in
    /// once it is durable; an overflow is counted, and of a browser a flood. A change of an account that is
    /// already recorded is not recorded again; an account's opt-out that finds the queue full is honoured, and
    /// [`Store::dropped`] until a request hands it over again.
    ///
    /// Cost: without a subject one compare-and-swap and one message; with one also a shard's write
    /// lock.
    pub fn record_behind(&self, change: Change) {
        let shared = &*self.0;
        let (subject, kind, source) = (change.subject, change.kind, change.source);
        let counts = &shared.state.counts;
        if subject.is_some_and(|subject| !shared.state.index.claim(subject, kind, source)) {
            return counts.count(&change, Became::Known);
        }
        // An account's uses up what there is as well, but is never refused: it would be lost with this process.
        let fits = shared.bound.take(shared.nanos()) || subject.is_some();
        let taken = if !fits {
            shared.state.count_flood();
            counts.count(&change, Became::Flood);
            false
        } else {
            shared.enqueue(change)
        };
        if let (false, Some(subject), Kind::OptOut) = (taken, subject, kind) {
            shared.state.index.unclaim(subject, source);
        }
    }

    /// As [`Store::record_behind`], of a profile. Whoever sends requests invents as many of those as they like: of one that
    /// is not recorded nothing is kept, for what its browser sent opts it out each time.
    pub fn record_behind_of_profile(&self, change: Change) {
        let shared = &*self.0;
        let counts = &shared.state.counts;
        let Some(subject) = change.subject else { return };
        if !shared.state.index.would_change(&subject, change.kind, change.source) {
            return counts.count(&change, Became::Known);
        }
        if !shared.bound.take(shared.nanos()) {
            shared.state.count_flood();
            return counts.count(&change, Became::Flood);
        }
        if shared.state.behind.load(Ordering::Relaxed) >= shared.queue {
            shared.state.count_overflow(1);
            return counts.count(&change, Became::Overflow);
        }
        let (kind, source) = (change.kind, change.source);
        if !shared.state.index.claim(subject, kind, source) {
            return counts.count(&change, Became::Known);
        }
        if !shared.enqueue(change) && kind == Kind::OptOut {
            shared.state.index.unclaim(subject, source);
        }
    }

    /// Whether a signal opted an account out after it had opted back in, and its person has not settled that since; also
    /// where a programme stands.
    #[must_use]
    pub fn is_overruled(&self, subject: &Subject) -> bool {
        self.0.state.index.is_overruled(subject)
    }

    /// The way of an account's opt-out that is honoured here and could not be handed to the writer: it is to be handed over
    /// again, or it is lost with this process.
    ///
    /// Cost: one load where there is no such account, as nearly always.
    #[must_use]
    pub fn dropped(&self, subject: &Subject) -> Option<Source> {
        self.0.state.index.dropped(subject)
    }

    /// Whether this very change of this account is recorded already.
    #[must_use]
    pub fn knows(&self, change: &Change) -> bool {
        let holds = |subject| self.0.state.index.holds(&subject, change.kind, change.source);
        change.subject.is_some_and(holds)
    }
}

impl Shared {
    /// Nanoseconds since the store was opened; enough for 584 years.
    fn nanos(&self) -> u64 {
        u64::try_from(self.opened.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }

    /// Queues a change nobody waits for; `false` when the queue is full or the store is closed.
    ///
    /// Either way it is counted.
    fn enqueue(&self, change: Change) -> bool {
        let behind = &self.state.behind;
        let fits = behind.fetch_add(1, Ordering::Relaxed) < self.queue;
        self.state.counts.count(&change, if fits { Became::Recorded } else { Became::Overflow });
        if fits && self.hand_over(Waiting::behind(change)) {
            return true;
        }
        behind.fetch_sub(1, Ordering::Relaxed);
        self.state.count_overflow(1);
        false
    }

    /// Hands a change to the writer; where its receipt comes.
    fn send(&self, change: Change) -> Result<oneshot::Receiver<Result<Receipt, RecordError>>, RecordError> {
        let (answer, answered) = oneshot::channel();
        let waiting = Waiting { answer: Some(answer), ..Waiting::behind(change) };
        if self.hand_over(waiting) { Ok(answered) } else { Err(RecordError::Closed) }
    }

    pub(super) fn hand_over(&self, waiting: Waiting) -> bool {
        // Counted first, so that the writer can never count down below nothing.
        self.state.backlog.fetch_add(1, Ordering::Relaxed);
        let sent = self.to_writer.send(Command::Record(waiting));
        if !sent {
            self.state.backlog.fetch_sub(1, Ordering::Relaxed);
        }
        sent
    }
}
