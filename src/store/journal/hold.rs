//! Legal holds: what is not pruned, and by whose order that began and ended.

use std::fmt;
use std::path::Path;

use serde::{Deserialize, Serialize};
use sqlx::sqlite::{SqliteConnection, SqliteRow};
use sqlx::{Result, Row as _};

use super::beside::reading;
use super::chain::Fields;
use super::explain;
use super::noted::Noted;
use super::schema::schema_version;
use super::seal::Seal;
use super::sqlite::Journal;
use super::upkeep::{By, Deed};
use crate::privacy::Subject;
use crate::store::OpenError;
use crate::store::reference;
use crate::store::time;

/// A legal hold: records that are not pruned.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
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
    pub(super) fn covers(&self, fields: &Fields<'_>) -> bool {
        self.site.as_deref() == Some(fields.site) || self.reference.as_deref() == Some(fields.reference)
    }
}

/// What is asked about holds; the answer is the list as it is then.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum HoldOrder {
    /// Hold a site's records; why.
    Site(String, String),
    /// Hold the record of a reference; why.
    Reference(String, String),
    /// End the hold with this number.
    Remove(i64),
}

impl fmt::Display for HoldOrder {
    /// What it is about.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Site(site, _) => write!(f, "site {site}"),
            Self::Reference(typed, _) => write!(f, "record with the reference {typed}"),
            Self::Remove(id) => write!(f, "hold {id}; `optgate ledger hold list` shows them"),
        }
    }
}

impl Journal {
    /// Carries an order out, and notes it; `None`: what it names is not there.
    pub(in crate::store) async fn hold(&mut self, order: &HoldOrder) -> Result<Option<Vec<Hold>>> {
        self.settle_doubt().await?;
        let done = self.change_holds(order).await;
        if let Err(error) = &done {
            self.doubt(error).await;
        }
        match done? {
            true => list(self.connection()?).await.map(Some),
            false => Ok(None),
        }
    }

    /// Whether what it names is there.
    async fn change_holds(&mut self, order: &HoldOrder) -> Result<bool> {
        self.begin().await?;
        let noted = match order {
            HoldOrder::Site(site, reason) => {
                let hold = add(self.connection()?, (Some(site), None), reason).await?;
                Some(self.note_hold(&Deed::HoldSite { hold, site: site.clone() }).await?)
            }
            HoldOrder::Reference(typed, reason) => {
                let reference = reference::normalise(typed);
                let seq: Option<i64> = sqlx::query_scalar("SELECT seq FROM journal WHERE reference = ?")
                    .bind(reference.clone())
                    .fetch_optional(self.connection()?)
                    .await?;
                match seq {
                    Some(seq) => {
                        let hold = add(self.connection()?, (None, reference.as_deref()), reason).await?;
                        Some(self.note_hold(&Deed::HoldRecord { hold, seq }).await?)
                    }
                    None => None,
                }
            }
            HoldOrder::Remove(hold) => {
                let done = sqlx::query("DELETE FROM holds WHERE id = ?").bind(*hold);
                match done.execute(self.connection()?).await?.rows_affected() {
                    0 => None,
                    _ => Some(self.note_hold(&Deed::Release { hold: *hold }).await?),
                }
            }
        };
        let there = noted.is_some();
        self.commit(noted).await.map(|()| there)
    }

    async fn note_hold(&mut self, deed: &Deed) -> Result<Noted> {
        self.note(By::Order, deed, &Seal::default()).await
    }
}

/// Adds one; its number.
async fn add(
    connection: &mut SqliteConnection,
    (site, reference): (Option<&str>, Option<&str>),
    reason: &str,
) -> Result<i64> {
    let added = sqlx::query("INSERT INTO holds (site, reference, reason, time_us) VALUES (?, ?, ?, ?)")
        .bind(site.map(str::to_owned))
        .bind(reference.map(str::to_owned))
        .bind(reason.to_owned())
        .bind(time::now_us())
        .execute(connection)
        .await?;
    Ok(added.last_insert_rowid())
}

pub(super) async fn list(connection: &mut SqliteConnection) -> Result<Vec<Hold>> {
    let rows = sqlx::query("SELECT id, site, reference, reason, time_us FROM holds ORDER BY id");
    let rows = rows.fetch_all(connection).await?;
    let hold = |row: &SqliteRow| {
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
pub(in crate::store) fn holds(path: &Path) -> Result<Vec<Hold>, OpenError> {
    reading(path, async move |connection| {
        let named = |e: sqlx::Error| explain(path, &e);
        if schema_version(connection).await.map_err(named)? < 4 {
            return Ok(Vec::new());
        }
        list(connection).await.map_err(named)
    })
}

/// See [`crate::store::held_records`].
pub(in crate::store) fn held_records(path: &Path, subjects: &[Subject]) -> Result<u64, OpenError> {
    reading(path, async move |connection| {
        let named = |e: sqlx::Error| explain(path, &e);
        if schema_version(connection).await.map_err(named)? < 4 {
            return Ok(0);
        }
        let holds = list(connection).await.map_err(named)?;
        let mut held = 0;
        for subject in subjects.iter().filter(|_| !holds.is_empty()) {
            let rows =
                sqlx::query("SELECT canonical FROM journal WHERE subject = ? AND canonical IS NOT NULL")
                    .bind(subject.as_bytes().to_vec())
                    .fetch_all(&mut *connection)
                    .await
                    .map_err(named)?;
            for row in rows {
                let fields = Fields::decode(row.try_get(0).map_err(named)?);
                held += u64::from(fields.is_some_and(|fields| holds.iter().any(|hold| hold.covers(&fields))));
            }
        }
        Ok(held)
    })
}
