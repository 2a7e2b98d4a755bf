//! Which secrets the accounts of a journal are hashed under.

use std::collections::HashSet;
use std::path::Path;

use data_encoding::HEXLOWER;
use sha2::{Digest as _, Sha256};
use sqlx::sqlite::SqliteConnection;
use sqlx::{Connection as _, Result, Row};

use super::chain::{Head, put};
use super::noted::{self, Noted};
use super::schema::meta;
use super::seal::{EVIDENCE, Seal};
use super::sqlite::Journal;
use super::tied::{Earlier, under_earlier_page, whole_account};
use super::upkeep::{By, Deed, Secrets, Upkeep};
use super::{explain, refuse};
use crate::privacy::Subject;
use crate::store::OpenError;

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
/// somebody else. `told`: its records of upkeep, in order; those of a running server as of the moment when the list is
/// read. Whether they tell all of the list: those of a journal that an earlier version made may not.
pub(super) async fn check(
    path: &Path,
    connection: &mut SqliteConnection,
    told: &[(i64, Upkeep)],
) -> Result<bool, OpenError> {
    let named = |e: sqlx::Error| explain(path, &e);
    let listed = listed(connection).await.map_err(named)?;
    let first = meta(connection, "key_check").await.map_err(named)?;
    let changed = |why: String| {
        let hint = "the list was changed, and with another secret.key every account would be somebody else";
        Err(refuse(path, format!("{why}: {hint}. {EVIDENCE}")))
    };
    let Some((newest, since)) = listed.last() else {
        return changed("names no secret that its accounts are hashed under".to_owned());
    };
    let last = told.iter().rev().find_map(|(seq, upkeep)| Some((*seq, upkeep.secret.as_deref()?)));
    if let Some((seq, check)) = last
        && (newest.as_str(), *since) != (check, seq)
    {
        return changed(format!(
            "lists secret {newest} since record {since} as the newest that its accounts are hashed under, and record \
             {seq} tells of {check}"
        ));
    }
    // Since its first record there is the one that it was made with, and one that came in before there was any.
    let came_first = |check: &str| {
        told.first().is_some_and(|(seq, upkeep)| *seq == 1 && upkeep.secret.as_deref() == Some(check))
    };
    let stranger = listed.iter().find(|(check, since)| {
        *since == 1 && first.as_ref().is_some_and(|first| first != check) && !came_first(check)
    });
    if let Some((check, _)) = stranger {
        return changed(format!("lists secret {check} since its first record, and was made with another"));
    }
    let node = meta(connection, "node").await.map_err(named)?.unwrap_or_default();
    let born = meta(connection, BORN).await.map_err(named)?;
    let first = match (is_of_secret(&node), first) {
        (false, _) => None,
        (true, Some(first)) if born.is_some_and(|born| name(&born, &first) == node) => Some(first),
        (true, _) => {
            return changed(format!(
                "calls itself node {node}, which is made of the secret that it began with, and that is not the one which \
                 it says it began with"
            ));
        }
    };
    match all_told(first, told) {
        Some(said) if said != listed => changed(format!(
            "lists {} as the secrets that its accounts are hashed under, and its records tell of {}",
            checks(&listed),
            checks(&said)
        )),
        said => Ok(said.is_some()),
    }
}

/// The list, oldest first. Where a secret came in before there was a record, two are there since the first, and the later
/// is not the one that the journal was made with.
pub(super) async fn listed(connection: &mut SqliteConnection) -> Result<Secrets> {
    sqlx::query_as(
        "SELECT key_check, since FROM secrets
         ORDER BY since, key_check IS NOT (SELECT value FROM meta WHERE key = 'key_check')",
    )
    .fetch_all(connection)
    .await
}

fn checks(secrets: &Secrets) -> String {
    let checks: Vec<_> = secrets.iter().map(|(check, since)| format!("{check} since {since}")).collect();
    checks.join(" and ")
}

/// What the list must be by the records, oldest first. `first`: the secret that the journal's name says it began with;
/// without one the list is known from the first record on that has all of it.
fn all_told(first: Option<String>, told: &[(i64, Upkeep)]) -> Option<Secrets> {
    let mut all = first.map(|first| vec![(first, 1)]);
    for (seq, upkeep) in told {
        if upkeep.listed.is_some() {
            all.clone_from(&upkeep.listed);
        }
        let Some(all) = &mut all else { continue };
        if let Some(new) = &upkeep.secret {
            all.retain(|(check, _)| check != new);
            all.push((new.clone(), *seq));
        }
        if upkeep.retired {
            all.drain(..all.len().saturating_sub(1));
        }
    }
    all
}

/// As [`check`], beside a running server, which may put a new secret in or take earlier ones out at any moment.
pub(super) async fn check_beside(path: &Path, connection: &mut SqliteConnection) -> Result<(), OpenError> {
    let named = |e: sqlx::Error| explain(path, &e);
    let mut moment = connection.begin().await.map_err(named)?;
    let told = noted::all(&mut moment).await.map_err(named)?;
    check(path, &mut moment, &told).await?;
    moment.commit().await.map_err(named)
}

/// Notes the list in a journal whose records do not tell all of it.
pub(super) async fn note_list(connection: &mut SqliteConnection, node: &str, head: &Head) -> Result<Noted> {
    let deed = Deed::Listed { secrets: listed(connection).await? };
    noted::note(connection, node, head, (By::Start, &deed, &Seal::default())).await
}

/// Where `meta` has what a node's name is made of, beside the secret that it began with.
const BORN: &str = "born";

/// Bytes of it, and of a name.
const NAME: usize = 8;

/// The name of a new node, and what it is made of. Every record and every signature has the name in it, so all of them
/// say which secret their accounts were hashed under from the first on.
///
/// ```text
/// name = SHA-256( "optgate node v1" | field( born, 16 hexadecimal digits ) | field( key check ) ), its first 8 bytes
/// ```
pub(super) fn new_name(key_check: &str) -> Result<[(&'static str, String); 2]> {
    let mut born = [0; NAME];
    getrandom::fill(&mut born).map_err(|e| sqlx::Error::Io(std::io::Error::other(e)))?;
    let born = HEXLOWER.encode(&born);
    Ok([("node", name(&born, key_check)), (BORN, born)])
}

fn name(born: &str, key_check: &str) -> String {
    let mut bytes = b"optgate node v1".to_vec();
    put(&mut bytes, born.as_bytes());
    put(&mut bytes, key_check.as_bytes());
    HEXLOWER.encode(&Sha256::digest(&bytes)[..NAME])
}

/// Whether a name is one of those that are made of a secret. Earlier versions made theirs of half as many digits.
fn is_of_secret(node: &str) -> bool {
    node.len() == 2 * NAME
}

/// From which record on accounts are hashed under the live secret. One that is new since the record `head` of this node
/// is noted in the journal.
pub(super) async fn live_since(
    connection: &mut SqliteConnection,
    live: &str,
    (node, head): (&str, &Head),
) -> Result<(i64, Option<Noted>)> {
    match listed(connection).await?.pop() {
        Some((check, since)) if check == live => Ok((since, None)),
        _ => {
            let next = head.seq + 1;
            let mut transaction = connection.begin_with("BEGIN IMMEDIATE").await?;
            sqlx::query("INSERT OR REPLACE INTO secrets VALUES (?, ?)")
                .bind(live.to_owned())
                .bind(next)
                .execute(&mut *transaction)
                .await?;
            let carried = carried(&mut transaction).await?;
            let deed = Deed::Secret { check: live.to_owned(), carried };
            let noted =
                noted::note(&mut transaction, node, head, (By::Start, &deed, &Seal::default())).await?;
            transaction.commit().await?;
            Ok((next, Some(noted)))
        }
    }
}

/// Lines of the list of accounts that were recorded anew.
async fn carried(connection: &mut SqliteConnection) -> Result<u64> {
    sqlx::query_scalar("SELECT count(*) FROM carried").fetch_one(connection).await.map(i64::unsigned_abs)
}

impl Journal {
    /// Accounts that are known under earlier secrets and were not recorded anew.
    ///
    /// That they were, the list `carried` says: nothing in a record leads from the hash under one secret to that under
    /// another. Each of its lines came with a record of the account, or of upkeep that says how many there were, so a list that
    /// is longer is refused. `earlier`: those that were found before; what came since is looked for.
    pub(in crate::store) async fn under_earlier_secrets(
        &mut self,
        earlier: Earlier,
    ) -> Result<HashSet<Subject>> {
        self.refuse_longer_list().await?;
        let (since, live, last) = (self.live_since, self.key_check.clone(), self.last());
        let Earlier { mut accounts, up_to } = earlier;
        accounts.extend(under_earlier_page(self.connection()?, (up_to, last), (since, &live)).await?);
        let kept = sqlx::query(
            "SELECT subject FROM suppression WHERE key_check <> ? AND subject NOT IN (SELECT subject FROM carried)",
        );
        for row in kept.bind(live).fetch_all(self.connection()?).await? {
            accounts.insert(whole_account(row.try_get(0)?)?);
        }
        Ok(accounts)
    }

    /// Refuses a list of accounts that are known under the live secret with more of them than records of choices since there is
    /// more than one secret, what upkeep tells of, and those that the first record of a secret says had gone over to another
    /// name before. Where an earlier version did not say how many, each of them had a record as well.
    async fn refuse_longer_list(&mut self) -> Result<()> {
        let carried = carried(self.connection()?).await?;
        let upkeep = noted::all(self.connection()?).await?;
        let Some((first, said)) = upkeep.iter().find(|(_, upkeep)| upkeep.secret.is_some()) else {
            return Ok(());
        };
        let since = || upkeep.iter().filter(|(seq, _)| seq >= first);
        let told = since().fold(0_u64, |told, (_, upkeep)| told.saturating_add(upkeep.outlived));
        let (before, records) = match said.carried {
            Some(before) => {
                let all = (self.end.head.seq - first + 1).unsigned_abs();
                (before, all.saturating_sub(since().count() as u64))
            }
            None => (0, self.len()),
        };
        let newer = carried.saturating_sub(before);
        if newer <= records.saturating_add(told) {
            return Ok(());
        }
        let why = format!(
            "its list `carried` says that {newer} accounts were recorded anew under a newer secret, and only {records} \
             choices were recorded since there is one, and {told} accounts found to be known under it: the list was changed, so \
             nothing is retired. {EVIDENCE}"
        );
        Err(sqlx::Error::Protocol(why))
    }

    /// Notes that accounts are not needed under these hashes of earlier secrets: those of the first list were recorded `anew`
    /// for that, of the others a record from `before` holds, and a record of upkeep says how many are new here.
    pub(in crate::store) async fn outlived(&mut self, anew: &[Subject], before: &[Subject]) -> Result<()> {
        if anew.is_empty() && before.is_empty() {
            return Ok(());
        }
        self.settle_doubt().await?;
        let done = self.note_outlived(anew, before).await;
        if let Err(error) = &done {
            self.doubt(error).await;
        }
        done
    }

    async fn note_outlived(&mut self, anew: &[Subject], before: &[Subject]) -> Result<()> {
        self.begin().await?;
        self.list_carried(anew).await?;
        let noted = match self.list_carried(before).await? {
            0 => None,
            hashes => Some(self.note(By::Server, &Deed::Outlived { hashes }, &Seal::default()).await?),
        };
        self.commit(noted).await
    }

    /// Adds to the list; how many it had not.
    async fn list_carried(&mut self, subjects: &[Subject]) -> Result<u64> {
        let connection = self.connection()?;
        let mut new = 0;
        for subject in subjects {
            let line =
                sqlx::query("INSERT OR IGNORE INTO carried VALUES (?)").bind(subject.as_bytes().to_vec());
            new += line.execute(&mut *connection).await?.rows_affected();
        }
        Ok(new)
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
