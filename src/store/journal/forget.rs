//! Forgetting: what is too old is pruned to its digest, and an account is erased from its records.
//!
//! Neither loses an opt-out. When the last record of an opted-out account goes, `suppression` keeps the account's
//! hash and its standing, and nothing that leads to a record.

use std::path::Path;

use serde::{Deserialize, Serialize};
use sqlx::Row;
use sqlx::sqlite::SqliteConnection;

use super::beside::changing;
use super::chain::{Account, Beside, Fields, Version, digest};
use super::sqlite::Journal;
use super::{BROKEN, explain, refuse};
use crate::privacy::{Standing, Subject};
use crate::store::OpenError;
use crate::store::reference;

type Result<T, E = sqlx::Error> = std::result::Result<T, E>;

/// Rows looked at in one transaction; opt-outs that come meanwhile wait for no more than these.
const PAGE: i64 = 512;

/// Stands for the check of a secret before the live one.
const EARLIER: &str = "earlier";

/// A second word about an account keeps the secret of the first: by then no record tells it.
const KEEP: &str = "INSERT INTO suppression VALUES (?, ?, ?, ?)
    ON CONFLICT (subject) DO UPDATE SET standing = excluded.standing, seq = excluded.seq";

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

/// A legal hold: records that are not pruned.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hold {
    /// Names it.
    pub id: i64,
    /// Every record of this site,
    pub site: Option<String>,
    /// or the record with this reference.
    pub reference: Option<String>,
    /// Why, as it was typed.
    pub reason: String,
    /// Since when, in microseconds since the Unix epoch.
    pub time_us: i64,
}

impl Hold {
    fn covers(&self, fields: &Fields<'_>) -> bool {
        self.site.as_deref() == Some(fields.site) || self.reference.as_deref() == Some(fields.reference)
    }
}

/// What is asked about holds; the answer is the list as it is then.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HoldOrder {
    /// Hold a site's records.
    Site(String, String),
    /// Hold the record of a reference.
    Reference(String, String),
    /// End the hold with this number.
    Remove(i64),
    /// Only the list.
    List,
}

impl Journal {
    /// When the newest record was made, in microseconds since the Unix epoch.
    pub(in crate::store) async fn newest_us(&mut self) -> Result<Option<i64>> {
        let query = sqlx::query_scalar("SELECT time_us FROM journal ORDER BY seq DESC LIMIT 1");
        query.fetch_optional(self.connection()?).await
    }

    /// Prunes what is older than `before_us` among the records that follow `after`, up to a page. `last_word` tells
    /// how an account stands, and by which record.
    pub(in crate::store) async fn prune_page(
        &mut self,
        after: i64,
        before_us: i64,
        last_word: &dyn Fn(&Subject) -> (Standing, i64),
        dry_run: bool,
    ) -> Result<PrunedPage> {
        self.settle_doubt().await?;
        let done = self.prune_rows(after, before_us, last_word, dry_run).await;
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
        dry_run: bool,
    ) -> Result<PrunedPage> {
        let (head, live_since, live) = (self.head.seq, self.live_since, self.key_check.clone());
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
        let holds = list(connection).await?;
        let (mut pruned, mut gone) = (Pruned::default(), Vec::new());
        let mut begun = false;
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
            if dry_run {
                continue;
            }
            if !begun {
                sqlx::query("BEGIN IMMEDIATE").execute(&mut *connection).await?;
                begun = true;
            }
            sqlx::query(
                "UPDATE journal SET canonical = NULL, digest = ?, reference = NULL, subject = NULL,
                 blinding = NULL WHERE seq = ?",
            )
            .bind(digest(canonical).to_vec())
            .bind(seq)
            .execute(&mut *connection)
            .await?;
            if let Some((subject, how)) = lasting {
                let key_check = if seq < live_since { EARLIER } else { &live };
                suppress(connection, &subject, how, head, key_check).await?;
                gone.push((subject, seq));
            }
        }
        if begun {
            sqlx::query("COMMIT").execute(connection).await?;
        }
        Ok(PrunedPage { pruned, gone, last })
    }

    /// Takes what ties records to an account out of the journal; says up to which record that holds.
    pub(in crate::store) async fn erase(
        &mut self,
        subject: &Subject,
        (standing, by): (Standing, i64),
    ) -> Result<(Erased, i64)> {
        self.settle_doubt().await?;
        let done = self.erase_rows(subject, standing, by).await;
        if let Err(error) = &done {
            self.doubt(error).await;
        }
        done.map(|erased| (erased, self.head.seq))
    }

    async fn erase_rows(&mut self, subject: &Subject, standing: Standing, by: i64) -> Result<Erased> {
        let (head, live) = (self.head.seq, self.key_check.clone());
        let key_check = if by < self.live_since { EARLIER } else { &live };
        let connection = self.connection()?;
        sqlx::query("BEGIN IMMEDIATE").execute(&mut *connection).await?;
        let bytes = subject.as_bytes().to_vec();
        let first_format: i64 = sqlx::query_scalar(
            "SELECT count(*) FROM journal WHERE subject = ? AND substr(canonical, 1, 1) = x'01'",
        )
        .bind(bytes.clone())
        .fetch_one(&mut *connection)
        .await?;
        let done = sqlx::query("UPDATE journal SET subject = NULL, blinding = NULL WHERE subject = ?")
            .bind(bytes)
            .execute(&mut *connection)
            .await?;
        suppress(connection, subject, standing, head, key_check).await?;
        sqlx::query("COMMIT").execute(connection).await?;
        Ok(Erased {
            records: done.rows_affected(),
            first_format: first_format.unsigned_abs(),
            suppressed: word(standing).is_some(),
        })
    }
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

/// Keeps how an account stood at record `seq`, or that nothing is to be kept.
async fn suppress(
    connection: &mut SqliteConnection,
    subject: &Subject,
    standing: Standing,
    seq: i64,
    key_check: &str,
) -> Result<()> {
    let bytes = subject.as_bytes().to_vec();
    let query = match word(standing) {
        Some(word) => sqlx::query(KEEP).bind(bytes).bind(word).bind(seq).bind(key_check.to_owned()),
        None => sqlx::query("DELETE FROM suppression WHERE subject = ?").bind(bytes),
    };
    query.execute(connection).await.map(drop)
}

async fn list(connection: &mut SqliteConnection) -> Result<Vec<Hold>> {
    let rows = sqlx::query("SELECT id, site, reference, reason, time_us FROM holds ORDER BY id");
    let rows = rows.fetch_all(connection).await?;
    let hold = |row: &sqlx::sqlite::SqliteRow| {
        Ok(Hold {
            id: row.try_get(0)?,
            site: row.try_get(1)?,
            reference: row.try_get(2)?,
            reason: row.try_get(3)?,
            time_us: row.try_get(4)?,
        })
    };
    rows.iter().map(hold).collect()
}

/// See [`crate::store::holds`].
pub(in crate::store) fn holds(path: &Path, order: HoldOrder) -> Result<Vec<Hold>, OpenError> {
    changing(path, async move |connection| change(path, connection, order).await)
}

async fn change(
    path: &Path,
    connection: &mut SqliteConnection,
    order: HoldOrder,
) -> Result<Vec<Hold>, OpenError> {
    let named = |e: sqlx::Error| explain(path, &e);
    let (site, reference, reason) = match order {
        HoldOrder::Site(site, reason) => (Some(site), None, reason),
        HoldOrder::Reference(typed, reason) => {
            let reference = reference::normalise(&typed);
            let there: i64 = sqlx::query_scalar("SELECT count(*) FROM journal WHERE reference = ?")
                .bind(reference.clone())
                .fetch_one(&mut *connection)
                .await
                .map_err(named)?;
            if there == 0 {
                return Err(refuse(path, format!("has no record with the reference {typed}")));
            }
            (None, reference, reason)
        }
        HoldOrder::Remove(id) => {
            let done = sqlx::query("DELETE FROM holds WHERE id = ?").bind(id).execute(&mut *connection).await;
            if done.map_err(named)?.rows_affected() == 0 {
                return Err(refuse(path, format!("has no hold {id}; `optgate ledger hold list` shows them")));
            }
            return list(connection).await.map_err(named);
        }
        HoldOrder::List => return list(connection).await.map_err(named),
    };
    sqlx::query("INSERT INTO holds (site, reference, reason, time_us) VALUES (?, ?, ?, ?)")
        .bind(site)
        .bind(reference)
        .bind(reason)
        .bind(jiff::Timestamp::now().as_microsecond())
        .execute(&mut *connection)
        .await
        .map_err(named)?;
    list(connection).await.map_err(named)
}
