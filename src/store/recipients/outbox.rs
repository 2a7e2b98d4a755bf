//! What is to be sent, when, and what came of it.

use std::sync::atomic::Ordering;

use sqlx::sqlite::SqliteConnection;
use sqlx::{Connection as _, Result, Row as _};

use super::table::{Table, list, subject};
use super::{Due, Failed, Settled};

/// How long a recipient is tried.
const TRIED_FOR_US: i64 = 3 * 86_400 * 1_000_000;

/// The way stands in the statement itself: the index of webhooks' tasks holds for those alone.
macro_rules! due {
    ($way:literal) => {
        concat!(
            "SELECT t.id, t.recipient, t.vendors, t.until_us, t.tries,
                    r.subject, r.site, r.requested_us, r.effective_us, r.reference, r.who
             FROM tasks t JOIN requests r ON r.id = t.request
             WHERE t.state = 'open' AND t.way = '",
            $way,
            "' AND t.recipient = ? AND t.due_us <= ? ORDER BY t.due_us LIMIT ?"
        )
    };
}

/// As [`due`], only when.
macro_rules! next_due {
    ($way:literal) => {
        concat!("SELECT min(due_us) FROM tasks WHERE state = 'open' AND way = '", $way, "' AND recipient = ?")
    };
}

impl Table {
    /// The next tasks of a recipient that it is time for. What cannot be opened any more is for a person.
    pub(super) async fn due(
        &mut self,
        (recipient, way): (&str, &str),
        now_us: i64,
        most: i64,
    ) -> Result<Vec<Due>> {
        let seal = self.seal.clone();
        let Some(connection) = self.open(false).await? else { return Ok(Vec::new()) };
        let rows = sqlx::query(if way == "mail" { due!("mail") } else { due!("webhook") });
        let rows = rows.bind(recipient).bind(now_us).bind(most).fetch_all(&mut *connection).await?;
        let mut found = Vec::new();
        for row in rows {
            let (subject, who) = (subject(&row, 5)?, row.try_get::<Option<Vec<u8>>, _>(10)?);
            let id: String = row.try_get(0)?;
            let Some(opened) = who.and_then(|who| seal.as_ref()?.open(&who, &subject)) else {
                let stuck = sqlx::query("UPDATE tasks SET state = 'unnamed' WHERE id = ?").bind(&id);
                stuck.execute(&mut *connection).await?;
                continue;
            };
            found.push(Due {
                id,
                recipient: row.try_get(1)?,
                vendors: list(&row, 2)?,
                until_us: row.try_get(3)?,
                tries: u32::try_from(row.try_get::<i64, _>(4)?).unwrap_or(u32::MAX),
                site: row.try_get(6)?,
                requested_us: row.try_get(7)?,
                effective_us: row.try_get(8)?,
                reference: row.try_get(9)?,
                who: opened.plain,
            });
        }
        Ok(found)
    }

    /// When the next message to a recipient is due.
    pub(super) async fn next_due(&mut self, (recipient, way): (&str, &str)) -> Result<Option<i64>> {
        let Some(connection) = self.open(false).await? else { return Ok(None) };
        let row = sqlx::query(if way == "mail" { next_due!("mail") } else { next_due!("webhook") });
        row.bind(recipient).fetch_one(connection).await?.try_get(0)
    }

    /// A recipient was asked, with this result.
    pub(super) async fn tried(&mut self, id: &str, at_us: i64, settled: &Settled) -> Result<()> {
        let Some(connection) = self.open(false).await? else { return Ok(()) };
        match settled {
            Settled::Told(receipt) => {
                done(connection, id, at_us, receipt, true).await?;
                self.figures.sent.fetch_add(1, Ordering::Relaxed);
            }
            Settled::Failed(Failed { why, next_us }) => {
                let failed = sqlx::query(
                    "UPDATE tasks SET tries = tries + 1, first_us = coalesce(first_us, ?2), error = ?3,
                            due_us = coalesce(?4, due_us),
                            state = CASE WHEN ?4 IS NULL THEN 'refused'
                                         WHEN ?4 - coalesce(first_us, ?2) > ?5 THEN 'failed' ELSE state END
                     WHERE id = ?1 AND state = 'open'",
                );
                let failed = failed.bind(id).bind(at_us).bind(why).bind(next_us).bind(TRIED_FOR_US);
                failed.execute(connection).await?;
                self.figures.failed.fetch_add(1, Ordering::Relaxed);
            }
        }
        Ok(())
    }
}

/// A task is done; once all of a request are, nobody needs to know any more who it was. Whether there was such a task
/// that was not done.
pub(super) async fn done(
    connection: &mut SqliteConnection,
    id: &str,
    at_us: i64,
    receipt: &str,
    by_message: bool,
) -> Result<bool> {
    let mut transaction = connection.begin_with("BEGIN IMMEDIATE").await?;
    let told = sqlx::query(
        "UPDATE tasks SET state = 'done', told_us = ?2, receipt = ?3, error = NULL, tries = tries + ?4
         WHERE id = ?1 AND state <> 'done'",
    );
    let told = told.bind(id).bind(at_us).bind(receipt).bind(i64::from(by_message));
    let new = told.execute(&mut *transaction).await?.rows_affected() > 0;
    let forgotten = sqlx::query(
        "UPDATE requests SET who = NULL WHERE id = (SELECT request FROM tasks WHERE id = ?) AND NOT EXISTS
             (SELECT 1 FROM tasks WHERE tasks.request = requests.id AND tasks.state <> 'done')",
    );
    forgotten.bind(id).execute(&mut *transaction).await?;
    transaction.commit().await?;
    Ok(new)
}

#[cfg(test)]
mod tests {
    use super::super::retry;
    use super::super::table::tests::{DAY_US, block_on, opt_out, table};
    use super::*;

    const ADS: (&str, &str) = ("Ads", "webhook");
    const HOUR_US: i64 = DAY_US / 24;

    async fn stands(table: &mut Table) -> (String, i64) {
        let row = sqlx::query("SELECT state, tries FROM tasks");
        let row = row.fetch_one(table.open(false).await.unwrap().unwrap()).await.unwrap();
        (row.get(0), row.get(1))
    }

    /// README, "Recipients": tried for three days from the first failure, then a person's to see to. Sent again by hand, it
    /// has three days once more.
    #[test]
    fn a_message_is_given_up_three_days_after_it_first_failed() {
        let dir = tempfile::tempdir().unwrap();
        let mut table = table(dir.path());
        block_on(async {
            opt_out(&mut table, 1, 100).await;
            // It waited a week for its first try, which counts for nothing.
            let first = 107 * DAY_US;
            let id = table.due(ADS, first, 9).await.unwrap().remove(0).id;
            let failed = |next_us: i64| {
                Settled::Failed(Failed { why: "it answered 503".into(), next_us: Some(next_us) })
            };
            for (at, next) in [
                (first, first + HOUR_US),
                (first + HOUR_US, first + 5 * HOUR_US),
                (first + 71 * HOUR_US, first + 72 * HOUR_US),
            ] {
                table.tried(&id, at, &failed(next)).await.unwrap();
                assert!(table.due(ADS, next - 1, 9).await.unwrap().is_empty(), "not before its time");
                assert_eq!(table.due(ADS, next, 9).await.unwrap().len(), 1);
                assert_eq!(table.next_due(ADS).await.unwrap(), Some(next));
            }
            table.tried(&id, first + 72 * HOUR_US, &failed(first + 76 * HOUR_US)).await.unwrap();
            assert_eq!(stands(&mut table).await, ("failed".into(), 4));
            assert!(table.due(ADS, i64::MAX, 9).await.unwrap().is_empty());
            assert_eq!(table.next_due(ADS).await.unwrap(), None);
            table.count().await.unwrap();
            let figures = &table.figures;
            assert_eq!(figures.open.load(Ordering::Relaxed), 1, "it is not over");
            assert_eq!(figures.stuck.load(Ordering::Relaxed), 1);
        });
        assert!(retry(dir.path(), "none").unwrap_err().to_string().contains("there is no journal here"));
        std::fs::write(dir.path().join(crate::store::JOURNAL), "").unwrap();
        assert!(retry(dir.path(), &id_of(&mut table)).unwrap());
        block_on(async {
            let again = jiff::Timestamp::now().as_microsecond();
            let due = table.due(ADS, again, 9).await.unwrap().remove(0);
            let failed = |next_us: i64| Settled::Failed(Failed { why: "503".into(), next_us: Some(next_us) });
            table.tried(&due.id, again, &failed(again + 72 * HOUR_US)).await.unwrap();
            assert_eq!(stands(&mut table).await, ("open".into(), 5));
            table.tried(&due.id, again + 72 * HOUR_US, &failed(again + 73 * HOUR_US)).await.unwrap();
            assert_eq!(stands(&mut table).await, ("failed".into(), 6));
            table.close().await;
        });
    }

    fn id_of(table: &mut Table) -> String {
        block_on(async {
            let row = sqlx::query("SELECT id FROM tasks");
            row.fetch_one(table.open(false).await.unwrap().unwrap()).await.unwrap().get(0)
        })
    }
}
