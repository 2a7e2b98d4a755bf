//! Changes that end or ease an opt-out: what a person was asked and confirmed. They are recorded together or not at all,
//! and only where no opt-out of the person's own hand came after the question, on whichever node it was: decided under the
//! lock under which opt-outs are handed over, so that an acknowledged one is never undone by a confirmation from before it.

use tokio::sync::oneshot;

use super::counts::Became;
use super::recent_opt_outs::Moment;
use super::record::{Change, Kind, Receipt};
use super::writer::{Answer, Waiting};
use super::{RecordError, Store, time};
use crate::privacy::{Standing, Subject};

/// A change of one level, and the account's hashes under the other secrets that are tried.
#[derive(Debug)]
pub struct Level<'a> {
    /// Under the live secret.
    pub change: Change,
    /// The same account's, in the order of the secrets.
    pub others: &'a [Subject],
}

/// What becomes of a change.
enum Handed {
    /// It is on record already.
    Known(Receipt),
    /// The writer has it.
    Over(oneshot::Receiver<Result<Receipt, RecordError>>),
}

impl Store {
    /// Now, for a question that is asked now; later than all before.
    #[must_use]
    pub fn moment(&self) -> Moment {
        self.0.state.recent_opt_outs.now(time::now_us())
    }

    /// Whether an account may have opted out by its own hand, or by an import, since something was asked.
    #[must_use]
    pub fn opted_out_since(&self, subject: &Subject, asked: Moment) -> bool {
        let of = std::iter::once(subject);
        self.0.state.recent_opt_outs.unless_out_since(of, (asked, self.is_alone()), || ()).is_none()
    }

    /// Records what was asked at a moment and is confirmed now: a change for each level, and one under the other secrets
    /// that are tried where an opt-out stands under them that it ends or eases. All go to the writer at once, and only if
    /// nobody of `of` opted out by hand, or by an import, since it was asked: so no opt-out comes between them, and none
    /// that was acknowledged before is undone. Of a process that is gone, and of one whose clock differs from ours by more
    /// than [`AHEAD_US`](super::AHEAD_US), nobody can say when it asked.
    ///
    /// In a flood the records of those who are named stand for the browser's. `crowding` as in
    /// [`Store::record_crowding`]. Gives the receipt of the last level. For somebody who waits for a page: what takes longer
    /// than some seconds goes on behind it, and this ends with an error.
    ///
    /// # Errors
    /// [`RecordError::OptedOut`]: nothing is recorded. Else see [`RecordError`]: of the first that was not recorded, or that
    /// it takes too long.
    pub async fn ease(
        &self,
        asked: Moment,
        of: &[&Subject],
        levels: Vec<Level<'_>>,
        crowding: bool,
    ) -> Result<Receipt, RecordError> {
        self.in_time(self.ease_at_once(asked, of, levels, crowding)).await?
    }

    async fn ease_at_once(
        &self,
        asked: Moment,
        of: &[&Subject],
        levels: Vec<Level<'_>>,
        crowding: bool,
    ) -> Result<Receipt, RecordError> {
        // Before anything counts for it.
        if of.iter().any(|subject| self.opted_out_since(subject, asked)) {
            return Err(RecordError::OptedOut);
        }
        let names_somebody = levels.iter().any(|level| level.change.subject.is_some());
        let (mut handed, mut new) = (Vec::new(), Vec::new());
        for Level { change, others } in levels {
            let under_others = self.under_others(&change, others);
            let all = under_others.into_iter().map(|change| (change, false)).chain([(change, crowding)]);
            for (change, crowding) in all {
                match self.admit(self.fits(crowding), &change).await {
                    Ok(None) => {
                        let (answer, answered) = oneshot::channel();
                        new.push((change, answer));
                        handed.push(Handed::Over(answered));
                    }
                    Ok(Some(receipt)) => {
                        self.0.state.count_flood();
                        self.0.state.counts.count(&change, Became::Known);
                        handed.push(Handed::Known(receipt));
                    }
                    Err(RecordError::Flood) if change.subject.is_none() && names_somebody => {}
                    Err(error) => return Err(error),
                }
            }
        }
        self.hand_over_unless_out(asked, of, new)?;
        let (mut last, mut failed) = (Err(RecordError::Flood), None);
        for one in handed {
            let recorded = match one {
                Handed::Known(receipt) => Ok(receipt),
                Handed::Over(answered) => answered.await.unwrap_or(Err(RecordError::Closed)),
            };
            match recorded {
                Ok(receipt) => last = Ok(receipt),
                Err(error) => failed = failed.or(Some(error)),
            }
        }
        failed.map_or(last, Err)
    }

    /// No await comes between the look at who opted out and the last of the changes.
    fn hand_over_unless_out(
        &self,
        asked: Moment,
        of: &[&Subject],
        new: Vec<(Change, Answer<Receipt>)>,
    ) -> Result<(), RecordError> {
        let shared = &*self.0;
        let (of, recent) = (of.iter().copied(), &shared.state.recent_opt_outs);
        let sent = recent.unless_out_since(of, (asked, self.is_alone()), || {
            // An opt-out of another node that arrives from now on was not known.
            let seen = shared.state.feed.as_ref().map(|feed| feed.seen());
            new.into_iter().all(|(change, answer)| {
                shared.state.counts.count(&change, Became::Recorded);
                let (answer, easing) = (Some(answer), Some(recent.ease()));
                shared.hand_over(Waiting { change, answer, seen: seen.clone(), easing })
            })
        });
        match sent {
            Some(true) => Ok(()),
            Some(false) => Err(RecordError::Closed),
            None => Err(RecordError::OptedOut),
        }
    }

    /// The change under the other secrets, where that is needed. Without a database that nodes share, the order of the
    /// records tells which word is the last, and nothing is.
    fn under_others(&self, change: &Change, others: &[Subject]) -> Vec<Change> {
        if self.is_alone() || change.kind == Kind::OptOut || change.subject.is_none() {
            return Vec::new();
        }
        let (live, checks) = (&self.0.key_check, self.0.other_checks.iter());
        let ended = |subject: &Subject| {
            let standing = self.0.state.index.standing(subject);
            standing.is_out() && (change.kind == Kind::OptIn || standing != Standing::Programme)
        };
        let ended = others.iter().zip(checks).filter(|(subject, _)| ended(subject));
        let under = |subject: &Subject, check: &str| {
            Change { subject: Some(*subject), ..change.clone() }.hashed_under(check, live)
        };
        ended.map(|(subject, check)| under(subject, check)).collect()
    }
}
