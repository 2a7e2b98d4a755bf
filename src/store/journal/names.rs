//! Under which names the accounts of a journal are kept: what was noted of them (`meta`, a line a name), and what the
//! records say.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::Path;

use sqlx::sqlite::SqliteConnection;
use sqlx::{Connection as _, Result, Row as _};

use super::beside::{changing, reading};
use super::chain::Fields;
use super::{explain, refuse};
use crate::privacy::Subject;
use crate::store::OpenError;
use crate::store::record::{DENIED, Kind};

/// Begins the keys of what was noted.
const NOTED: &str = "name:";

/// Rows read in one transaction. Short transactions let the server's WAL be reset meanwhile.
const PAGE: i64 = 4096;

/// What a journal tells of names.
#[derive(Debug, Default)]
pub(in crate::store) struct Told {
    /// Names under which accounts were kept, each with the sites that kept them there.
    pub(in crate::store) noted: BTreeMap<String, BTreeSet<String>>,
    /// Opted-out accounts and profiles by the site of their last record; empty where nobody had to ask.
    pub(in crate::store) out: BTreeMap<String, u64>,
    /// Those whose records tell no site any more, because they were pruned or erased.
    pub(in crate::store) silent: u64,
}

/// Reads what was noted, and the records where that leaves `open` something.
pub(in crate::store) fn told(
    path: &Path,
    open: impl FnOnce(&BTreeMap<String, BTreeSet<String>>) -> bool + Send,
) -> Result<Told, OpenError> {
    reading(path, async move |connection| {
        let read: Result<Told> = async {
            let mut told = Told { noted: noted(connection).await?, ..Told::default() };
            if open(&told.noted) {
                read_records(connection, &mut told).await?;
            }
            Ok(told)
        }
        .await;
        read.map_err(|e| explain(path, &e))
    })
}

/// Notes names, each with its sites, beside what was noted before.
pub(in crate::store) fn note(
    path: &Path,
    kept: &BTreeMap<String, BTreeSet<String>>,
) -> Result<(), OpenError> {
    let known = reading(path, async |connection| noted(connection).await.map_err(|e| explain(path, &e)))?;
    let new: Vec<(String, String)> = kept
        .iter()
        .filter_map(|(name, sites)| {
            let before = known.get(name);
            if before.is_some_and(|before| before.is_superset(sites)) {
                return None;
            }
            let sites: BTreeSet<&String> = before.into_iter().flatten().chain(sites).collect();
            Some((format!("{NOTED}{name}"), serde_json::to_string(&sites).ok()?))
        })
        .collect();
    if new.is_empty() {
        return Ok(());
    }
    changing(path, async move |connection| {
        let written: Result<()> = async {
            let mut transaction = connection.begin_with("BEGIN IMMEDIATE").await?;
            for (key, sites) in new {
                let put = sqlx::query("INSERT OR REPLACE INTO meta VALUES (?, ?)").bind(key).bind(sites);
                put.execute(&mut *transaction).await?;
            }
            transaction.commit().await
        }
        .await;
        written.map_err(|e| refuse(path, format!("the names of sites cannot be noted in it: {e}")))
    })
}

async fn noted(connection: &mut SqliteConnection) -> Result<BTreeMap<String, BTreeSet<String>>> {
    let rows: Vec<(String, String)> =
        sqlx::query_as("SELECT key, value FROM meta WHERE key >= 'name:' AND key < 'name;'")
            .fetch_all(connection)
            .await?;
    let name = |(key, sites): (String, String)| {
        Some((key.strip_prefix(NOTED)?.to_owned(), serde_json::from_str(&sites).ok()?))
    };
    Ok(rows.into_iter().filter_map(name).collect())
}

/// Folds the records down to who is opted out, and at which site that was said last.
async fn read_records(connection: &mut SqliteConnection, told: &mut Told) -> Result<()> {
    let (mut sites, mut out): (Vec<String>, HashMap<Subject, Option<usize>>) = Default::default();
    for table in ["suppression", "journal"] {
        // A journal that an earlier version left has no such table.
        let there: i64 =
            sqlx::query_scalar("SELECT count(*) FROM sqlite_master WHERE type = 'table' AND name = ?")
                .bind(table)
                .fetch_one(&mut *connection)
                .await?;
        if there == 0 {
            return Ok(());
        }
    }
    let kept: i64 =
        sqlx::query_scalar("SELECT count(subject) FROM suppression").fetch_one(&mut *connection).await?;
    let mut after = 0;
    loop {
        let rows = sqlx::query(
            "SELECT seq, subject, canonical FROM journal WHERE seq > ? AND subject IS NOT NULL ORDER BY seq LIMIT ?",
        )
        .bind(after)
        .bind(PAGE)
        .fetch_all(&mut *connection)
        .await?;
        let Some(last) = rows.last() else { break };
        after = last.try_get(0)?;
        for row in &rows {
            let (subject, canonical): (&[u8], Option<&[u8]>) = (row.try_get(1)?, row.try_get(2)?);
            let Ok(subject) = subject.try_into().map(Subject::from_bytes) else { continue };
            match canonical.and_then(Fields::decode) {
                None => _ = out.entry(subject).or_default(),
                Some(said) if said.kind == DENIED => {}
                Some(said) if Kind::parse(said.kind) == Some(Kind::OptIn) => _ = out.remove(&subject),
                Some(said) => {
                    let known = sites.iter().position(|site| site == said.site);
                    let at = known.unwrap_or_else(|| {
                        sites.push(said.site.to_owned());
                        sites.len() - 1
                    });
                    out.insert(subject, Some(at));
                }
            }
        }
    }
    told.silent = kept.unsigned_abs();
    for at in out.into_values() {
        match at.and_then(|at| sites.get(at)) {
            Some(site) => *told.out.entry(site.clone()).or_default() += 1,
            None => told.silent += 1,
        }
    }
    Ok(())
}
