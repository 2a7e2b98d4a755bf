//! What somebody asked to be forgotten: an account is erased, earlier secrets are retired, records of before a day are
//! pruned; and what is to be held.

use super::retention::Pruning;
use super::{Answer, Writer};
use crate::privacy::Subject;
use crate::store::RecordError;
use crate::store::journal::forget::Erased;
use crate::store::journal::hold::{Hold, HoldOrder};
use crate::store::journal::seal::There;
use crate::store::journal::tied::{Earlier, Tied};

/// What somebody asked to be forgotten, and who.
pub(super) enum Forget {
    Before(Pruning),
    Accounts {
        subjects: Vec<Subject>,
        tied: Tied,
        there: There,
        answer: Answer<Erased>,
    },
    Hold {
        order: HoldOrder,
        answer: Answer<Vec<Hold>>,
    },
    /// Nothing: what came before is on disk.
    Nothing {
        answer: Answer<()>,
    },
    Secrets {
        earlier: Earlier,
        answer: Answer<u64>,
    },
    /// The database that nodes share forgot it.
    Sent {
        records: u64,
        answer: Answer<()>,
    },
}

impl Forget {
    /// Another process has the journal next, which is the one to ask again.
    pub(super) fn break_off(self) {
        match self {
            Self::Before(Pruning { pruned, dry_run: false, answer, .. }) if pruned.records > 0 => {
                drop(answer.send(Err(RecordError::HalfPruned(pruned.records))));
            }
            Self::Before(Pruning { answer, .. }) => drop(answer.send(Err(RecordError::HandedOver))),
            Self::Accounts { answer, .. } => drop(answer.send(Err(RecordError::HandedOver))),
            Self::Hold { answer, .. } => drop(answer.send(Err(RecordError::HandedOver))),
            Self::Nothing { answer } => drop(answer.send(Err(RecordError::HandedOver))),
            Self::Secrets { answer, .. } => drop(answer.send(Err(RecordError::HandedOver))),
            Self::Sent { answer, .. } => drop(answer.send(Err(RecordError::HandedOver))),
        }
    }
}

impl Writer {
    /// What somebody asked to be forgotten, and what not.
    pub(super) async fn forget(&mut self) {
        if self.forget.is_empty() {
            return;
        }
        for order in std::mem::take(&mut self.forget) {
            let told = |error: sqlx::Error| RecordError::Journal(error.to_string());
            match order {
                Forget::Before(pruning) => self.prune(pruning).await,
                Forget::Nothing { answer } => drop(answer.send(Ok(()))),
                Forget::Secrets { earlier, answer } => {
                    drop(answer.send(self.retire(earlier).await.map_err(told)));
                }
                Forget::Sent { records, answer } => {
                    drop(answer.send(self.journal.note_sent(records).await.map_err(told)));
                }
                Forget::Hold { order, answer } => {
                    let held = self.journal.hold(&order).await.map_err(told);
                    let none = || RecordError::NotThere(order.to_string());
                    drop(answer.send(held.and_then(|held| held.ok_or_else(none))));
                }
                Forget::Accounts { subjects, tied, there, answer } => {
                    drop(answer.send(self.erase(&subjects, &tied, there).await.map_err(told)));
                }
            }
        }
        self.upkeep_is_noted();
    }

    async fn erase(
        &mut self,
        subjects: &[Subject],
        tied: &Tied,
        there: There,
    ) -> Result<Erased, sqlx::Error> {
        self.packer.discard()?;
        let stands = |subject: &Subject| (*subject, self.state.index.last_word(subject));
        let accounts: Vec<_> = subjects.iter().map(stands).collect();
        let (erased, seq) = self.journal.erase(&accounts, tied, there).await?;
        for (subject, (standing, _)) in accounts {
            self.state.index.suppress(subject, standing, seq);
        }
        Ok(erased)
    }

    /// Has the journal need the live secret only, unless opted-out accounts are known under others alone.
    async fn retire(&mut self, earlier: Earlier) -> Result<u64, sqlx::Error> {
        let left = self.journal.under_earlier_secrets(earlier).await?;
        let left = left.iter().filter(|subject| self.state.index.standing(subject).is_out()).count() as u64;
        if left == 0 {
            self.journal.retire().await?;
        }
        Ok(left)
    }
}
