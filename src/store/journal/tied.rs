//! What a journal has of some accounts, read beside its writer. There is no index by account, for each would cost every
//! opt-out that is recorded; so an order about accounts goes through the whole journal, a page at a time and on a connection
//! that only reads, and the writer looks only at what came since.

use std::collections::{HashMap, HashSet};
use std::path::Path;

use sqlx::sqlite::SqliteConnection;
use sqlx::{Result, Row as _};

use super::beside::reading;
use super::explain;
use super::replay::read_head;
use super::secrets::listed;
use crate::privacy::Subject;
use crate::store::OpenError;
use crate::store::record::{UNDER, under};

/// Records read in one transaction.
const PAGE: i64 = 4096;

/// Records of some accounts.
#[derive(Debug, Default)]
pub(in crate::store) struct Tied {
    records: HashMap<Subject, Vec<i64>>,
    /// None after this one was looked at.
    pub(super) up_to: i64,
}

impl Tied {
    /// Those of one of them.
    pub(super) fn records_of(&self, subject: &Subject) -> &[i64] {
        self.records.get(subject).map_or(&[], Vec::as_slice)
    }
}

/// Finds the records of these accounts.
pub(in crate::store) fn tied_to(path: &Path, subjects: &[Subject]) -> Result<Tied, OpenError> {
    reading(path, async |connection| {
        let mut tied = Tied { up_to: last(path, connection).await?, ..Tied::default() };
        tied.records.extend(subjects.iter().map(|subject| (*subject, Vec::new())));
        let mut after = 0;
        while after < tied.up_to {
            let rows = sqlx::query(
                "SELECT seq, subject FROM journal WHERE seq > ? AND seq <= ? AND subject IS NOT NULL ORDER BY seq",
            );
            let to = (after + PAGE).min(tied.up_to);
            let rows = rows.bind(after).bind(to).fetch_all(&mut *connection).await;
            for row in &rows.map_err(|e| explain(path, &e))? {
                let (seq, whose) = (row.try_get(0), row.try_get::<&[u8], _>(1));
                let (seq, whose) =
                    (seq.map_err(|e| explain(path, &e))?, whose.map_err(|e| explain(path, &e))?);
                if let Some(records) = account(whose).and_then(|whose| tied.records.get_mut(&whose)) {
                    records.push(seq);
                }
            }
            after = to;
        }
        Ok(tied)
    })
}

/// Accounts that are known under earlier secrets and were not recorded anew.
#[derive(Debug, Default)]
pub(in crate::store) struct Earlier {
    pub(in crate::store) accounts: HashSet<Subject>,
    /// No record after this one was looked at.
    pub(super) up_to: i64,
}

/// Records of a stretch whose accounts are hashed under an earlier secret than the live one, and are not on the list of
/// those that were recorded anew.
pub(super) const UNDER_EARLIER: &str =
    "SELECT subject FROM journal WHERE seq > ? AND seq <= ? AND subject IS NOT NULL
     AND (seq < ? OR (instr(canonical, ?) > 0 AND instr(canonical, ?) = 0))
     AND subject NOT IN (SELECT subject FROM carried)";

/// Finds those of them that `counts` is true of.
pub(in crate::store) fn under_earlier(
    path: &Path,
    live: &str,
    counts: &(dyn Fn(&Subject) -> bool + Sync),
) -> Result<Earlier, OpenError> {
    reading(path, async |connection| {
        let named = |e: sqlx::Error| explain(path, &e);
        let up_to = last(path, connection).await?;
        let secrets = listed(connection).await.map_err(named)?;
        // Not in force yet: all there is lies before it.
        let since = secrets.last().filter(|(check, _)| check == live).map_or(up_to + 1, |(_, since)| *since);
        let mut earlier = Earlier { up_to, ..Earlier::default() };
        let mut after = 0;
        while after < up_to {
            let to = (after + PAGE).min(up_to);
            let page = under_earlier_page(connection, (after, to), (since, live)).await.map_err(named)?;
            earlier.accounts.extend(page.into_iter().filter(|subject| counts(subject)));
            after = to;
        }
        Ok(earlier)
    })
}

/// Those of one stretch.
pub(super) async fn under_earlier_page(
    connection: &mut SqliteConnection,
    (after, to): (i64, i64),
    (since, live): (i64, &str),
) -> Result<Vec<Subject>> {
    let rows = sqlx::query(UNDER_EARLIER)
        .bind(after)
        .bind(to)
        .bind(since)
        .bind(UNDER.as_bytes())
        .bind(under("", live).into_bytes())
        .fetch_all(connection)
        .await?;
    rows.iter().map(|row| whole_account(row.try_get(0)?)).collect()
}

async fn last(path: &Path, connection: &mut SqliteConnection) -> Result<i64, OpenError> {
    read_head(connection).await.map(|head| head.seq).map_err(|e| explain(path, &e))
}

fn account(bytes: &[u8]) -> Option<Subject> {
    bytes.try_into().ok().map(Subject::from_bytes)
}

pub(super) fn whole_account(bytes: &[u8]) -> Result<Subject> {
    account(bytes).ok_or_else(|| sqlx::Error::Protocol("a subject is not 16 bytes".into()))
}

#[cfg(test)]
mod tests {
    use sqlx::Connection as _;
    use sqlx::{AssertSqlSafe, ConnectOptions as _};

    use super::super::forget::{LATER_OF, UNTIE};
    use super::super::sqlite::connect_options;
    use super::*;
    use crate::config;
    use crate::store::{JOURNAL, Store};

    /// Opt-outs wait for the writer: what it does for an order goes by the records' numbers, whatever the journal's length.
    #[tokio::test]
    async fn no_order_about_accounts_has_the_writer_go_through_the_journal() {
        let folder = tempfile::tempdir().unwrap();
        Store::open(folder.path(), &config::Store::default()).unwrap().close().await;
        let path = folder.path().join(JOURNAL);
        let mut connection = connect_options(&path).connect().await.unwrap();
        for sql in [LATER_OF, UNTIE, UNDER_EARLIER] {
            let plan = sqlx::query(AssertSqlSafe(format!("EXPLAIN QUERY PLAN {sql}")));
            let rows = plan.fetch_all(&mut connection).await.unwrap();
            let steps: Vec<String> = rows.iter().map(|row| row.get("detail")).collect();
            let by_number = |step: &String| step.starts_with("SEARCH journal USING INTEGER PRIMARY KEY");
            assert!(steps.iter().any(by_number), "{sql}: {steps:?}");
            assert!(!steps.iter().any(|step| step.contains("SCAN journal")), "{sql}: {steps:?}");
        }
        connection.close().await.unwrap();
    }
}
