//! Under which names the accounts of all nodes are kept, noted in the database they share (`meta`, a line a name).

use std::collections::{BTreeMap, BTreeSet};

use sqlx::Row as _;
use sqlx::postgres::PgConnection;

use super::postgres::{Database, Trouble, query};
use super::shared_schema::put_meta;

/// Names, each with the sites that keep accounts under it.
type Kept = BTreeMap<String, BTreeSet<String>>;

/// Begins the keys.
const NOTED: &str = "name:";

impl Database {
    /// Notes names beside those that are noted.
    pub(in crate::store) async fn note_names(&mut self, kept: &Kept) -> Result<(), Trouble> {
        self.call(async |connection| {
            let noted = noted(connection).await?;
            for (name, sites) in kept {
                let before = noted.get(name);
                if before.is_none_or(|before| !before.is_superset(sites)) {
                    let sites: BTreeSet<&String> = before.into_iter().flatten().chain(sites).collect();
                    let sites = serde_json::to_string(&sites).unwrap_or_default();
                    put_meta(connection, &format!("{NOTED}{name}"), &sites).await?;
                }
            }
            Ok(())
        })
        .await
    }

    /// Every name that was noted.
    pub(in crate::store) async fn names(&mut self) -> Result<Kept, Trouble> {
        self.call(async |connection| Ok(noted(connection).await?)).await
    }

    /// How many accounts have an opt-out of one of these sites, and of how many nothing tells the site any more.
    pub(in crate::store) async fn kept_under(
        &mut self,
        sites: BTreeSet<String>,
    ) -> Result<(u64, u64), Trouble> {
        self.call(async |connection| {
            let row = query(
                "SELECT (SELECT count(DISTINCT subject) FROM optgate.records WHERE subject IS NOT NULL AND \
                 kind = 'opt-out' AND site = ANY($1)), (SELECT count(DISTINCT subject) FROM optgate.records WHERE \
                 subject IS NOT NULL AND kind = 'opt-out' AND site = '') + (SELECT count(DISTINCT subject) FROM \
                 optgate.suppression)",
            )
            .bind(sites.into_iter().collect::<Vec<_>>())
            .fetch_one(connection)
            .await?;
            Ok((row.try_get::<i64, _>(0)?.unsigned_abs(), row.try_get::<i64, _>(1)?.unsigned_abs()))
        })
        .await
    }
}

async fn noted(connection: &mut PgConnection) -> Result<Kept, sqlx::Error> {
    let rows =
        query("SELECT key, value FROM optgate.meta WHERE key LIKE 'name:%'").fetch_all(connection).await?;
    let mut kept = Kept::new();
    for row in rows {
        let (key, value): (String, String) = (row.try_get(0)?, row.try_get(1)?);
        if let (Some(name), Ok(sites)) = (key.strip_prefix(NOTED), serde_json::from_str(&value)) {
            kept.insert(name.to_owned(), sites);
        }
    }
    Ok(kept)
}
