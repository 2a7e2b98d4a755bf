//! Which secrets the accounts of a journal are hashed under.

use std::path::Path;

use sqlx::sqlite::SqliteConnection;
use sqlx::{Connection as _, Row};

use super::chain::Head;
use super::schema::meta;
use super::seal::{EVIDENCE, Seal};
use super::sqlite::Journal;
use super::upkeep::{self, By, Deed, Noted};
use super::{explain, refuse};
use crate::privacy::Subject;
use crate::store::OpenError;

type Result<T, E = sqlx::Error> = std::result::Result<T, E>;

/// Refuses a secret file that lacks a secret which accounts are hashed under.
pub(super) async fn refuse_other(
    path: &Path,
    connection: &mut SqliteConnection,
    checks: &[String],
) -> Result<(), OpenError> {
    let known: Vec<String> = sqlx::query_scalar("SELECT key_check FROM secrets")
        .fetch_all(connection)
        .await
        .map_err(|e| explain(path, &e))?;
    if known.iter().all(|check| checks.contains(check)) {
        return Ok(());
    }
    Err(refuse(
        path,
        "was written with another secret.key, so its account opt-outs would match nobody; restore the \
         secret.key that belongs to it",
    ))
}

/// Refuses a journal whose list of secrets is not what its other words say: with another secret every account would be
/// somebody else. `told`: the last record that tells of a new secret, and its check; one from before there were such
/// records is in the list alone. `head`: the last record that was read; a start may have put in another secret after it.
pub(super) async fn check(
    path: &Path,
    connection: &mut SqliteConnection,
    (head, told): (i64, Option<(i64, &str)>),
) -> Result<(), OpenError> {
    let named = |e: sqlx::Error| explain(path, &e);
    let listed: Vec<(String, i64)> =
        sqlx::query_as("SELECT key_check, since FROM secrets ORDER BY since DESC")
            .fetch_all(&mut *connection)
            .await
            .map_err(named)?;
    let first = meta(connection, "key_check").await.map_err(named)?;
    let changed = |why: String| {
        let hint = "the list was changed, and with another secret.key every account would be somebody else";
        Err(refuse(path, format!("{why}: {hint}. {EVIDENCE}")))
    };
    let Some((newest, since)) = listed.first() else {
        return changed("names no secret that its accounts are hashed under".to_owned());
    };
    match told {
        Some((seq, check)) if *since <= head && (newest.as_str(), *since) != (check, seq) => {
            return changed(format!(
                "lists secret {newest} since record {since} as the newest that its accounts are hashed under, and record \
                 {seq} tells of {check}"
            ));
        }
        _ => {}
    }
    // The one that it was made with stands there from its first record on, until it is retired.
    match listed.iter().find(|(_, since)| *since == 1) {
        Some((check, _)) if first.as_ref().is_some_and(|first| first != check) => {
            changed(format!("lists secret {check} since its first record, and was made with another"))
        }
        _ => Ok(()),
    }
}

/// From which record on accounts are hashed under the live secret. One that is new since the record `head` of this node
/// is noted in the journal.
pub(super) async fn live_since(
    connection: &mut SqliteConnection,
    live: &str,
    (node, head): (&str, &Head),
) -> Result<(i64, Option<Noted>)> {
    let newest: Option<(String, i64)> =
        sqlx::query_as("SELECT key_check, since FROM secrets ORDER BY since DESC LIMIT 1")
            .fetch_optional(&mut *connection)
            .await?;
    match newest {
        Some((check, since)) if check == live => Ok((since, None)),
        _ => {
            let next = head.seq + 1;
            let mut transaction = connection.begin_with("BEGIN IMMEDIATE").await?;
            sqlx::query("INSERT OR REPLACE INTO secrets VALUES (?, ?)")
                .bind(live.to_owned())
                .bind(next)
                .execute(&mut *transaction)
                .await?;
            let deed = Deed::Secret { check: live.to_owned() };
            let noted =
                upkeep::note(&mut transaction, node, head, (By::Start, &deed, &Seal::default())).await?;
            transaction.commit().await?;
            Ok((next, Some(noted)))
        }
    }
}

impl Journal {
    /// Accounts that are known under earlier secrets and were not recorded anew.
    ///
    /// That they were, the list `carried` says: nothing in a record leads from the hash under one secret to that under
    /// another. Each of its lines came with a record, so a list that is longer than the records is refused.
    pub(in crate::store) async fn under_earlier_secrets(&mut self) -> Result<Vec<Subject>> {
        self.refuse_longer_list().await?;
        let (since, live) = (self.live_since, self.key_check.clone());
        let rows = sqlx::query(
            "SELECT subject FROM (
                SELECT subject FROM journal WHERE seq < ? AND subject IS NOT NULL
                UNION SELECT subject FROM suppression WHERE key_check <> ?
             ) WHERE subject NOT IN (SELECT subject FROM carried)",
        )
        .bind(since)
        .bind(live)
        .fetch_all(self.connection()?)
        .await?;
        let subject = |row: &sqlx::sqlite::SqliteRow| {
            let bytes = row.try_get::<&[u8], _>(0)?.try_into();
            let bytes = bytes.map_err(|_| sqlx::Error::Protocol("a subject is not 16 bytes".into()))?;
            Ok(Subject::from_bytes(bytes))
        };
        rows.iter().map(subject).collect()
    }

    /// Refuses a list of accounts that were recorded anew with more of them than records of choices since there is more
    /// than one secret.
    async fn refuse_longer_list(&mut self) -> Result<()> {
        let upkeep = upkeep::all(self.connection()?).await?;
        let Some((first, _)) = upkeep.iter().find(|(_, upkeep)| upkeep.secret.is_some()) else {
            return Ok(());
        };
        let of_upkeep = upkeep.iter().filter(|(seq, _)| seq >= first).count();
        let records = (self.end.head.seq - first + 1).saturating_sub_unsigned(of_upkeep as u64);
        let carried: i64 =
            sqlx::query_scalar("SELECT count(*) FROM carried").fetch_one(self.connection()?).await?;
        if carried <= records {
            return Ok(());
        }
        let why = format!(
            "its list `carried` says that {carried} accounts were recorded anew under a newer secret, and only {records} \
             choices were recorded since there is one: the list was changed, so nothing is retired. {EVIDENCE}"
        );
        Err(sqlx::Error::Protocol(why))
    }

    /// Notes that an account of an earlier secret is recorded under the live one.
    pub(in crate::store) async fn carried(&mut self, subjects: &[Subject]) -> Result<()> {
        self.settle_doubt().await?;
        let done = self.note_carried(subjects).await;
        if let Err(error) = &done {
            self.doubt(error).await;
        }
        done
    }

    async fn note_carried(&mut self, subjects: &[Subject]) -> Result<()> {
        let connection = self.connection()?;
        sqlx::query("BEGIN IMMEDIATE").execute(&mut *connection).await?;
        for subject in subjects {
            sqlx::query("INSERT OR IGNORE INTO carried VALUES (?)")
                .bind(subject.as_bytes().to_vec())
                .execute(&mut *connection)
                .await?;
        }
        sqlx::query("COMMIT").execute(connection).await.map(drop)
    }

    /// The journal needs only the live secret from here on.
    pub(in crate::store) async fn retire(&mut self) -> Result<()> {
        self.settle_doubt().await?;
        let done = self.retire_earlier().await;
        if let Err(error) = &done {
            self.doubt(error).await;
        }
        done
    }

    async fn retire_earlier(&mut self) -> Result<()> {
        let live = self.key_check.clone();
        self.begin().await?;
        let gone = sqlx::query("DELETE FROM secrets WHERE key_check <> ?")
            .bind(live)
            .execute(self.connection()?)
            .await?
            .rows_affected();
        let noted = match gone {
            0 => None,
            secrets => Some(self.note(By::Order, &Deed::Retire { secrets }, &Seal::default()).await?),
        };
        self.commit(noted).await
    }
}
