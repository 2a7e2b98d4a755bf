//! Forgetting: what is too old is pruned to its digest, and an account is erased from its records.
//!
//! Neither loses an opt-out. When the last record of an opted-out account goes, `suppression` keeps the account's
//! hash and its standing, and nothing that leads to a record: see [`super::kept`].

use serde::{Deserialize, Serialize};
use sqlx::{Result, Row};

use super::chain::{Account, Beside, Fields, Link, Version, digest};
use super::kept::Sealing;
use super::seal::{Seal, There};
use super::sqlite::Journal;
use super::tied::Tied;
use super::upkeep::{self, By, Deed};
use super::{BROKEN, hold};
use crate::privacy::{Standing, Subject};
use crate::store::record::said_under;

/// Rows looked at in one transaction; opt-outs that come meanwhile wait for no more than these.
const PAGE: i64 = 512;

/// An account's records after one.
pub(super) const LATER_OF: &str = "SELECT seq FROM journal WHERE seq > ? AND subject = ?";

/// Takes what ties a record to an account out of it; whether it is of the first format.
pub(super) const UNTIE: &str =
    "UPDATE journal SET subject = NULL, blinding = NULL WHERE seq = ? AND subject = ?
     RETURNING coalesce(substr(canonical, 1, 1) = x'01', 0)";

/// Stands for the check of a secret before the live one.
pub(super) const EARLIER: &str = "earlier";

/// What was pruned, or would be.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pruned {
    /// Records that gave their bytes for a digest.
    pub records: u64,
    /// Old enough, but held.
    pub held: u64,
    /// Old enough, but of the first format, whose chain needs the bytes.
    pub first_format: u64,
    /// Opted-out accounts that lost their last record and are kept by their hash alone.
    pub accounts_kept: u64,
}

impl Pruned {
    pub(in crate::store) fn add(&mut self, more: &Self) {
        self.records += more.records;
        self.held += more.held;
        self.first_format += more.first_format;
        self.accounts_kept += more.accounts_kept;
    }
}

/// What became of a page of the journal.
#[derive(Debug, Default)]
pub(in crate::store) struct PrunedPage {
    pub(in crate::store) pruned: Pruned,
    /// Accounts that lost their last record, and its number.
    pub(in crate::store) gone: Vec<(Subject, i64)>,
    /// Where the page ended; `None` at the end of the journal.
    pub(in crate::store) last: Option<i64>,
}

/// What was erased.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Erased {
    /// Records that nothing ties to the account any more.
    pub records: u64,
    /// Of them, those of the first format: their bytes hold the account's hash as long as they are kept.
    pub first_format: u64,
    /// The account is opted out, which is kept.
    pub suppressed: bool,
}

impl Journal {
    /// When the newest whole record of a choice was made, in microseconds since the Unix epoch.
    pub(in crate::store) async fn newest_us(&mut self) -> Result<Option<i64>> {
        // What was done to the journal, a start under a wrong clock may have written just now.
        let query = sqlx::query_scalar(
            "SELECT time_us FROM journal WHERE instr(canonical, x'000000000000000675706b656570') = 0
             ORDER BY seq DESC LIMIT 1",
        );
        query.fetch_optional(self.connection()?).await
    }

    /// Prunes what is older than `before_us` among the records that follow `after`, up to a page; `by`: who has it done,
    /// `None` only counts. `last_word` tells how an account stands, and by which record.
    pub(in crate::store) async fn prune_page(
        &mut self,
        after: i64,
        before_us: i64,
        last_word: &dyn Fn(&Subject) -> (Standing, i64),
        by: Option<By>,
    ) -> Result<PrunedPage> {
        self.settle_doubt().await?;
        let done = self.prune_rows(after, before_us, last_word, by).await;
        if let Err(error) = &done {
            self.doubt(error).await;
        }
        done
    }

    async fn prune_rows(
        &mut self,
        after: i64,
        before_us: i64,
        last_word: &dyn Fn(&Subject) -> (Standing, i64),
        by: Option<By>,
    ) -> Result<PrunedPage> {
        let (mut page, doomed) = self.look_through(after, before_us, last_word).await?;
        let Some(by) = by.filter(|_| !doomed.is_empty()) else { return Ok(page) };
        self.give_way(&doomed, (by, before_us)).await?;
        let lost = |row: &Doomed| row.lasting.map(|(subject, _)| (subject, row.seq));
        page.gone = doomed.iter().filter_map(lost).collect();
        Ok(page)
    }

    /// What a page holds that is to be pruned.
    async fn look_through(
        &mut self,
        after: i64,
        before_us: i64,
        last_word: &dyn Fn(&Subject) -> (Standing, i64),
    ) -> Result<(PrunedPage, Vec<Doomed>)> {
        let connection = self.connection()?;
        let rows = sqlx::query(
            "SELECT seq, time_us, reference, subject, blinding, CASE WHEN time_us < ? THEN canonical END
             FROM journal WHERE seq > ? ORDER BY seq LIMIT ?",
        )
        .bind(before_us)
        .bind(after)
        .bind(PAGE)
        .fetch_all(&mut *connection)
        .await?;
        let last = rows.last().map(|row| row.try_get(0)).transpose()?;
        let holds = hold::list(connection).await?;
        let (mut pruned, mut doomed) = (Pruned::default(), Vec::new());
        for row in &rows {
            let (seq, canonical): (i64, Option<&[u8]>) = (row.try_get(0)?, row.try_get(5)?);
            let Some(canonical) = canonical else { continue };
            // Only what the chain is over tells how old a record is, and whose: what goes here is gone.
            let (time_us, reference) = (row.try_get(1)?, row.try_get(2)?);
            let beside =
                Beside { seq, time_us, reference, subject: row.try_get(3)?, blinding: row.try_get(4)? };
            let (fields, account) = beside
                .fields_of(canonical)
                .ok_or_else(|| sqlx::Error::Protocol(format!("record {seq} {BROKEN}")))?;
            // What it seals stands on it.
            if fields.kind == upkeep::KIND {
                continue;
            }
            if fields.version == Version::First {
                pruned.first_format += 1;
                continue;
            }
            if holds.iter().any(|hold| hold.covers(&fields)) {
                pruned.held += 1;
                continue;
            }
            pruned.records += 1;
            let subject = if let Account::Known(subject) = account { Some(subject) } else { None };
            let stands = subject.map(|subject| (subject, last_word(&subject)));
            let lasting = stands.filter(|(_, (_, by))| *by == seq).map(|(subject, (how, _))| (subject, how));
            pruned.accounts_kept += u64::from(lasting.is_some_and(|(_, how)| word(how).is_some()));
            let hashed = under(Some(fields.policy), seq, (self.live_since, &self.key_check)).to_owned();
            doomed.push(Doomed { seq, digest: digest(canonical), lasting, account, under: hashed });
        }
        Ok((PrunedPage { pruned, gone: Vec::new(), last }, doomed))
    }

    /// Puts digests in the place of records, keeps how accounts stood that lose their last, and notes it, as one.
    async fn give_way(&mut self, doomed: &[Doomed], (by, before_us): (By, i64)) -> Result<()> {
        let head = self.end.head.seq;
        let mut sealing = Sealing::by(head + 1);
        self.begin().await?;
        let connection = self.connection()?;
        for Doomed { seq, digest, lasting, under, .. } in doomed {
            sqlx::query(
                "UPDATE journal SET canonical = NULL, digest = ?, time_us = 0, reference = NULL, subject = NULL,
                 blinding = NULL WHERE seq = ?",
            )
            .bind(digest.to_vec())
            .bind(seq)
            .execute(&mut *connection)
            .await?;
            if let Some((subject, how)) = lasting {
                sealing.word(connection, (subject, *how), head, under).await?;
            }
        }
        let of = |account: Account| doomed.iter().filter(|row| row.account == account).count() as u64;
        let (records, untied) = (doomed.len() as u64, of(Account::Erased));
        let tied = records - untied - of(Account::None);
        let deed = Deed::Prune { records, before_us, untied, tied };
        let noted = self.note(by, &deed, &sealing.done()).await?;
        self.commit(Some(noted)).await
    }

    /// Takes what ties records to these accounts out of the journal, as one; each with how it stands and by which record.
    /// `tied`: those that were found before; what came since is looked for. `there`: what was done in the database that nodes
    /// share. Says up to which record that holds.
    pub(in crate::store) async fn erase(
        &mut self,
        accounts: &[(Subject, (Standing, i64))],
        tied: &Tied,
        there: There,
    ) -> Result<(Erased, i64)> {
        self.settle_doubt().await?;
        let head = self.end.head.seq;
        let done = self.erase_rows(accounts, tied, there).await;
        if let Err(error) = &done {
            self.doubt(error).await;
        }
        done.map(|erased| (erased, head))
    }

    async fn erase_rows(
        &mut self,
        accounts: &[(Subject, (Standing, i64))],
        tied: &Tied,
        there: There,
    ) -> Result<Erased> {
        let (head, live_since, live) = (self.end.head.seq, self.live_since, self.key_check.clone());
        let (mut erased, mut sealing) = (Erased::default(), Sealing::by(head + 1));
        self.begin().await?;
        let connection = self.connection()?;
        for (subject, (standing, by)) in accounts {
            let bytes = subject.as_bytes().to_vec();
            let later: Vec<i64> = sqlx::query_scalar(LATER_OF)
                .bind(tied.up_to)
                .bind(bytes.clone())
                .fetch_all(&mut *connection)
                .await?;
            for seq in tied.records_of(subject).iter().chain(&later) {
                let untied: Option<bool> = sqlx::query_scalar(UNTIE)
                    .bind(*seq)
                    .bind(bytes.clone())
                    .fetch_optional(&mut *connection)
                    .await?;
                erased.records += u64::from(untied.is_some());
                erased.first_format += u64::from(untied == Some(true));
            }
            erased.suppressed |= word(*standing).is_some();
            let last: Option<Vec<u8>> = sqlx::query_scalar("SELECT canonical FROM journal WHERE seq = ?")
                .bind(*by)
                .fetch_optional(&mut *connection)
                .await?
                .flatten();
            let policy = last.as_deref().and_then(Fields::decode).map(|fields| fields.policy);
            let key_check = under(policy, *by, (live_since, &live));
            sealing.word(connection, (subject, *standing), head, key_check).await?;
        }
        let seal = sealing.done();
        // An order about somebody who is not known does nothing.
        let noted = match erased.records > 0 || there != There::default() || !seal.is_empty() {
            true => {
                let deed = Deed::Erase { records: erased.records, there };
                Some(self.note(By::Order, &deed, &seal).await?)
            }
            false => None,
        };
        self.commit(noted).await?;
        Ok(erased)
    }

    /// Notes that so many pruned records go to the database that nodes share without whose they were.
    pub(in crate::store) async fn note_sent(&mut self, records: u64) -> Result<()> {
        self.settle_doubt().await?;
        let done = async {
            self.begin().await?;
            let noted = self.note(By::Feed, &Deed::Sent { records }, &Seal::default()).await?;
            self.commit(Some(noted)).await
        };
        let done = done.await;
        if let Err(error) = &done {
            self.doubt(error).await;
        }
        done
    }
}

/// The secret that the account of record `seq` is hashed under, the live one since a record. `policy`: what the record
/// says, while it is whole.
fn under<'a>(policy: Option<&'a str>, seq: i64, (live_since, live): (i64, &'a str)) -> &'a str {
    match policy.and_then(said_under) {
        Some(check) => check,
        None if seq < live_since => EARLIER,
        None => live,
    }
}

/// A record that is to be pruned.
struct Doomed {
    seq: i64,
    digest: Link,
    /// Whose last it is, and how that account stands.
    lasting: Option<(Subject, Standing)>,
    /// Whose it is.
    account: Account,
    /// The secret that the account is hashed under.
    under: String,
}

/// How a standing is kept; `None` when there is nothing to keep.
pub(in crate::store) const fn word(standing: Standing) -> Option<&'static str> {
    match standing {
        // Of a conflict and of a programme nothing is kept: only that the opt-out holds.
        Standing::OptedOut | Standing::Overruled | Standing::Programme => Some("opted-out"),
        Standing::OptedOutByImport => Some("opted-out-by-import"),
        Standing::NoAccount | Standing::Unknown | Standing::OptedIn | Standing::NotLoaded => None,
    }
}
