//! The append-only record on disk.
//!
//! [`chain`] says what a record's bytes are and what ties them together; [`sqlite`] keeps them on one node, in the
//! tables of [`schema`], and [`replay`] reads them again; [`checkpoint`] says what is signed, over the trees of
//! [`merkle`], by the keys of [`signers`], and [`signed`] how far that is; [`audit`] reads all of it beside a running
//! server, and [`forget`] takes out of it what is too old or to be erased, but for what [`hold`] keeps; [`kept`] is
//! what stays of accounts then, and [`upkeep`] the record of all that was done so, which [`noted`] writes; [`seal`] holds the one against the
//! other, [`sealed`] does so beside a running server. [`wal`] and [`mark`] are for what a crash, a bad disk or a bad
//! hand left. [`postgres`] is where nodes share their records, in the tables of [`shared_schema`], [`believed`] what a node
//! believes of one there; [`shared_forget`] takes out of them what goes here, and [`shared_audit`] reads them all. The canonical bytes are the record. Time and reference stand beside them to
//! search by, and what ties a record to an account so that it can be forgotten.

pub(super) mod audit;
pub(super) mod believed;
pub(super) mod beside;
pub(super) mod chain;
pub(super) mod checkpoint;
pub(super) mod denied;
pub(super) mod forget;
pub(super) mod hold;
pub(super) mod kept;
pub(super) mod left;
pub(super) mod mark;
pub(super) mod merkle;
pub(super) mod names;
mod noted;
pub(super) mod postgres;
mod prepare;
pub(super) mod replay;
mod schema;
pub(super) mod seal;
mod sealed;
mod secrets;
pub(super) mod shared_audit;
pub(super) mod shared_forget;
mod shared_names;
mod shared_schema;
mod signed;
pub(super) mod signers;
pub(super) mod sqlite;
pub(super) mod tied;
pub(super) mod upkeep;
mod wal;

use std::path::Path;

use super::OpenError;
use crate::config::DatabaseUrl;

/// Why a record is refused when it is read.
const BROKEN: &str = "does not fit the chain: it, or one before it, was changed, lost or put in after it was \
                      written. Restore the journal from a backup and keep this file: it is evidence";

/// The same, for a record at hand.
fn broken() -> sqlx::Error {
    sqlx::Error::Protocol(format!("a record {BROKEN}"))
}

/// An error that names the journal.
fn refuse(path: &Path, why: impl Into<String>) -> OpenError {
    OpenError::Journal { path: path.display().to_string(), why: why.into() }
}

/// An error that names the database that nodes share.
fn shared_refusal(url: &DatabaseUrl, why: String) -> OpenError {
    OpenError::Database { url: url.to_string(), why }
}

/// Says what an SQLite error means for the person who starts Optgate (result codes: sqlite.org/rescode).
fn explain(path: &Path, error: &sqlx::Error) -> OpenError {
    let advice = match primary_code(error) {
        // SQLite says of both only that a file could not be opened.
        Some(10 | 14) if lacks_descriptors() => {
            "cannot be opened, for this process has too few file descriptors left; raise its limit (`ulimit -n`, \
             `LimitNOFILE=` in its unit) and start again"
        }
        Some(5 | 6) => "is locked by another program; close that program and start again",
        Some(8 | 14 | 23) => {
            "cannot be opened for writing; the user Optgate runs as must own it and its folder"
        }
        Some(10) => "cannot be read or written; check the disk, then start again",
        Some(11) => "is damaged; restore it from a backup (Optgate never overwrites it)",
        Some(13) => "cannot grow; make room on its disk and start again",
        Some(26) => {
            "is not a SQLite database, or its head is damaged; restore it from a backup (Optgate never \
             overwrites it)"
        }
        _ => "cannot be used",
    };
    refuse(path, format!("{advice} ({error})"))
}

/// Whether no more files can be opened than a journal takes: what opened it has given its own back by now.
fn lacks_descriptors() -> bool {
    // EMFILE and ENFILE (errno(3)).
    let exhausted = |error: &std::io::Error| matches!(error.raw_os_error(), Some(23 | 24));
    let opened: Result<Vec<_>, _> = (0..DESCRIPTORS).map(|_| std::fs::File::open("/dev/null")).collect();
    opened.is_err_and(|error| exhausted(&error))
}

/// Files that SQLite may have open for one journal: itself, its WAL and shared memory, their folder, a temporary one.
const DESCRIPTORS: usize = 8;

/// SQLite's result code without its extension.
fn primary_code(error: &sqlx::Error) -> Option<u32> {
    let code: u32 = error.as_database_error()?.code()?.parse().ok()?;
    Some(code & 0xff)
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;
    use std::path::Path;

    use sqlx::sqlite::SqliteConnection;
    use sqlx::{AssertSqlSafe, ConnectOptions, Connection};

    use super::chain::{Account, Fields, Head, Version};
    use super::forget::Pruned;
    use super::hold::HoldOrder;
    use super::replay::Fold;
    use super::seal::There;
    use super::sqlite::{Journal, Key, connect_options};
    use super::tied::Tied;
    use super::upkeep::By;
    use super::{audit, kept, noted, schema};
    use crate::privacy::{Standing, Subject};
    use crate::store::record::{Change, Kind, Receipt, Source};

    const CHECK: &str = "0123456789abcdef";
    const ANN: Subject = Subject::from_bytes(*b"the account: ann");
    const BEN: Subject = Subject::from_bytes(*b"the account: ben");

    /// What a start was told.
    #[derive(Debug, Default)]
    struct Told {
        accounts: HashMap<i64, Account>,
        suppressed: Vec<(Subject, Standing, i64)>,
    }

    impl Fold for Told {
        fn record(&mut self, fields: &Fields<'_>, account: Account) {
            assert!(self.accounts.insert(fields.seq, account).is_none());
        }

        fn suppressed(&mut self, subject: Subject, standing: Standing, seq: i64) {
            self.suppressed.push((subject, standing, seq));
        }
    }

    fn change(account: Option<Subject>) -> Change {
        Change {
            time_us: 1_795_000_000_000_000,
            site: "shop".into(),
            kind: Kind::OptOut,
            source: Source::Gpc,
            basis: None,
            policy: "p".into(),
            subject: account,
        }
    }

    async fn opened(path: &Path) -> (Journal, Told) {
        let mut told = Told::default();
        let key = path.with_file_name("signing.key");
        let journal = Journal::open(path, &[CHECK.to_owned()], &key, &mut told).await.unwrap();
        (journal, told)
    }

    async fn append(journal: &mut Journal, changes: &[Change]) -> Vec<Receipt> {
        journal.append(1_795_000_000_000_000, changes.iter().map(|change| (change, None))).await.unwrap()
    }

    fn exported(path: &Path) -> Result<Vec<i64>, String> {
        let mut seqs = Vec::new();
        let read = audit::read(path, &mut |item| {
            seqs.extend(item.view().map(|record| record.seq));
            Ok(())
        });
        read.map(|()| seqs).map_err(|error| error.to_string())
    }

    /// A journal as the first schema had it, with two records of the first format.
    async fn first_schema(path: &Path) {
        let mut connection = connect_options(path).create_if_missing(true).connect().await.unwrap();
        schema::migrate_to(1, &mut connection, CHECK).await.unwrap();
        sqlx::raw_sql("UPDATE meta SET value = 'n1' WHERE key = 'node'")
            .execute(&mut connection)
            .await
            .unwrap();
        let mut head = Head::default();
        for subject in [Some(ANN), None] {
            let reference = format!("0000-0000-0000-000{}", head.seq);
            let canonical = Fields {
                version: Version::First,
                seq: head.seq + 1,
                node: "n1",
                time_us: 7,
                site: "shop",
                kind: "opt-out",
                signal: "gpc",
                basis: "gpc",
                policy: "p",
                person: subject.map(|s| *s.as_bytes()),
                reference: &reference,
            }
            .encode();
            head = head.next(&canonical);
            sqlx::query(
                "INSERT INTO journal VALUES (?, 'n1', 7, 'shop', 'opt-out', 'gpc', 'gpc', 'p', ?, ?, ?, ?)",
            )
            .bind(head.seq)
            .bind(subject.map(|s| s.as_bytes().to_vec()))
            .bind(reference)
            .bind(canonical)
            .bind(head.link.to_vec())
            .execute(&mut connection)
            .await
            .unwrap();
        }
        connection.close().await.unwrap();
    }

    async fn execute(connection: &mut SqliteConnection, sql: &str) -> Result<(), String> {
        let done = sqlx::raw_sql(AssertSqlSafe(sql.to_owned())).execute(connection).await;
        done.map(drop).map_err(|error| error.to_string())
    }

    /// Nobody's opt-out is lost to a newer program, and the chain goes on over the change of form. Until a server
    /// has opened it, an old journal is exported as it is.
    #[tokio::test]
    async fn a_journal_of_the_first_schema_is_carried_over() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("journal.sqlite3");
        first_schema(&path).await;
        assert_eq!(exported(&path), Ok(vec![1, 2]));
        let (mut journal, told) = opened(&path).await;
        assert_eq!(told.accounts, HashMap::from([(1, Account::Known(ANN)), (2, Account::None)]));
        assert_eq!(append(&mut journal, &[change(Some(ANN))]).await[0].seq, 4, "after what says its secret");
        let found = journal.read(&Key::Reference("0000-0000-0000-0001".into())).await.unwrap().unwrap();
        assert_eq!((found.seq, found.account), (2, false));
        journal.close().await.unwrap();
        let (journal, told) = opened(&path).await;
        assert_eq!((journal.len(), told.accounts[&4]), (3, Account::Known(ANN)));
        journal.close().await.unwrap();
        assert_eq!(exported(&path), Ok(vec![1, 2, 3, 4]));
    }

    /// Domain 6: what is kept of a person in the record can be taken out of it. The bytes that are chained hold
    /// nothing that the secret and the account lead to.
    #[tokio::test]
    async fn an_erased_record_stands_in_the_chain_and_leads_to_nobody() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("journal.sqlite3");
        let (mut journal, _) = opened(&path).await;
        append(&mut journal, &[change(Some(ANN)), change(Some(BEN))]).await;
        journal.close().await.unwrap();
        let mut raw = connect_options(&path).connect().await.unwrap();
        let bytes: Vec<u8> = sqlx::query_scalar("SELECT canonical FROM journal WHERE seq = 1")
            .fetch_one(&mut raw)
            .await
            .unwrap();
        assert!(!bytes.windows(16).any(|part| part == ANN.as_bytes()));
        raw.close().await.unwrap();
        let (mut journal, _) = opened(&path).await;
        journal.erase(&[(ANN, (Standing::OptedOut, 1))], &Tied::default(), There::default()).await.unwrap();
        journal.close().await.unwrap();
        let (journal, told) = opened(&path).await;
        let left = [(1, Account::Erased), (2, Account::Known(BEN)), (3, Account::None)];
        assert_eq!(told.accounts, HashMap::from(left), "and the erasure's own record");
        journal.close().await.unwrap();
        assert_eq!(exported(&path), Ok(vec![1, 2, 3]));
    }

    /// Domain 2.10: after 24 months a record goes, and what comes after it can still be verified.
    #[tokio::test]
    async fn a_pruned_record_leaves_its_digest_and_the_chain_whole() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("journal.sqlite3");
        let (mut journal, _) = opened(&path).await;
        let receipts = append(&mut journal, &[change(Some(ANN)), change(None), change(None)]).await;
        hold(&mut journal, &receipts[1..]).await;
        let pruned = prune(&mut journal, |_| (Standing::OptedOut, 1)).await;
        assert_eq!((pruned.records, pruned.accounts_kept, pruned.held), (1, 1, 2));
        journal.close().await.unwrap();
        let (mut journal, told) = opened(&path).await;
        let known = told.accounts.keys().copied().collect::<std::collections::BTreeSet<_>>();
        assert_eq!(Vec::from_iter(known), [2, 3, 4, 5, 6], "two holds and the prune are records");
        assert_eq!(told.suppressed, [(ANN, Standing::OptedOut, 5)]);
        assert_eq!(journal.len(), 3, "and no choices");
        assert_eq!(journal.read(&Key::Reference(receipts[0].reference.clone())).await.unwrap(), None);
        assert_eq!(journal.read(&Key::Seq(1)).await.unwrap(), None);
        assert_eq!(append(&mut journal, &[change(None)]).await[0].seq, 7);
        journal.close().await.unwrap();
        assert_eq!(exported(&path), Ok(vec![2, 3, 4, 5, 6, 7]));
    }

    /// Holds these records.
    async fn hold(journal: &mut Journal, records: &[Receipt]) {
        for record in records {
            let order = HoldOrder::Reference(record.reference.clone(), "case 12".into());
            journal.hold(&order).await.unwrap().unwrap();
        }
    }

    /// Prunes all there is; `stands`: how accounts stand, and by which record.
    async fn prune(journal: &mut Journal, stands: impl Fn(&Subject) -> (Standing, i64)) -> Pruned {
        journal.prune_page(0, i64::MAX, &stands, Some(By::Order)).await.unwrap().pruned
    }

    /// A start that reads the index from its file must not read the whole journal for what was done to it.
    #[tokio::test]
    async fn records_of_upkeep_and_pruned_ones_are_found_without_reading_all() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("journal.sqlite3");
        opened(&path).await.0.close().await.unwrap();
        let mut raw = connect_options(&path).connect().await.unwrap();
        for (query, index) in [(noted::ALL, "journal_upkeep"), (kept::PRUNED, "journal_pruned")] {
            let plan: String = sqlx::query_as(AssertSqlSafe(format!("EXPLAIN QUERY PLAN {query}")))
                .fetch_all(&mut raw)
                .await
                .unwrap()
                .into_iter()
                .map(|(_, _, _, step): (i64, i64, i64, String)| step + "\n")
                .collect();
            assert!(plan.contains(index), "{plan}");
        }
        raw.close().await.unwrap();
    }

    /// What a start writes down under a wrong clock must not make it believe that clock: see `writer::retention`.
    #[tokio::test]
    async fn the_newest_record_is_the_newest_of_a_choice() {
        let folder = tempfile::tempdir().unwrap();
        let (mut journal, _) = opened(&folder.path().join("journal.sqlite3")).await;
        assert_eq!(journal.newest_us().await.unwrap(), None);
        let receipts = append(&mut journal, &[change(None), change(None)]).await;
        hold(&mut journal, &receipts[..1]).await;
        assert_eq!(journal.newest_us().await.unwrap(), Some(1_795_000_000_000_000));
        prune(&mut journal, |_| (Standing::Unknown, 0)).await;
        assert_eq!(
            journal.newest_us().await.unwrap(),
            Some(1_795_000_000_000_000),
            "of those that are whole"
        );
        journal.close().await.unwrap();
    }

    /// The journal forgets, and does nothing else: neither by a mistake of ours nor by a hand at a prompt.
    #[tokio::test]
    async fn rows_may_be_erased_or_pruned_and_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("journal.sqlite3");
        first_schema(&path).await;
        let (mut journal, _) = opened(&path).await;
        append(&mut journal, &[change(Some(ANN)), change(None)]).await;
        journal.close().await.unwrap();
        let mut raw = connect_options(&path).connect().await.unwrap();
        let pruned = "canonical = NULL, digest = randomblob(32), time_us = 0, reference = NULL, subject = NULL, blinding = NULL";
        for refused in [
            "DELETE FROM journal WHERE seq = 5".to_owned(),
            "UPDATE journal SET seq = 9 WHERE seq = 5".into(),
            "UPDATE journal SET chain = randomblob(32) WHERE seq = 5".into(),
            "UPDATE journal SET time_us = 8 WHERE seq = 5".into(),
            "UPDATE journal SET reference = 'other' WHERE seq = 5".into(),
            "UPDATE journal SET reference = NULL WHERE seq = 5".into(),
            "UPDATE journal SET canonical = x'02' WHERE seq = 5".into(),
            "UPDATE journal SET digest = randomblob(32) WHERE seq = 5".into(),
            "UPDATE journal SET canonical = NULL WHERE seq = 5".into(),
            "UPDATE journal SET subject = randomblob(16) WHERE seq = 4".into(),
            "UPDATE journal SET blinding = NULL WHERE seq = 4".into(),
            "UPDATE journal SET subject = randomblob(16), blinding = randomblob(16) WHERE seq = 5".into(),
            format!("UPDATE journal SET {pruned}, time_us = time_us WHERE seq = 4"),
            format!("UPDATE journal SET {pruned}, digest = randomblob(31) WHERE seq = 4"),
            // The first format's chain is over the bytes themselves.
            format!("UPDATE journal SET {pruned} WHERE seq = 1"),
        ] {
            let said = execute(&mut raw, &refused).await.unwrap_err();
            assert!(said.contains("append-only"), "{refused}: {said}");
        }
        execute(&mut raw, &format!("UPDATE journal SET {pruned} WHERE seq = 4")).await.unwrap();
        let again = format!("UPDATE journal SET {pruned} WHERE seq = 4");
        assert!(execute(&mut raw, &again).await.unwrap_err().contains("append-only"));
        raw.close().await.unwrap();
        // A digest that is not the record's is found like a changed record.
        assert!(exported(&path).unwrap_err().contains("record 4 does not fit the chain"));
    }
}
