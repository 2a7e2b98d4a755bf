//! The journal's tables, their versions, and what is refused before anything is written.

use std::collections::BTreeMap;
use std::path::Path;

use sqlx::sqlite::SqliteConnection;
use sqlx::{Connection, Result, Row};

use super::chain::Head;
use super::noted::Noted;
use super::seal::EVIDENCE;
use super::{explain, kept, refuse, secrets};
use crate::store::OpenError;

/// `OPTG`: marks the file as ours (sqlite.org/pragma, application_id).
const APPLICATION_ID: i64 = 0x4f50_5447;

/// Forward only; a step is never changed once released, only followed by another.
///
/// The second step gives room to forget: see the drawing in `chain`. Its rows may lose what ties them to an
/// account, and give their bytes for a digest; nothing else. `suppression` keeps how an account stood when its
/// records were forgotten, and up to which record that word holds: the journal's head then, which says nothing
/// about which records were the account's; and the secret that the account was hashed with.
///
/// The third holds what signs: see `checkpoint`. The fourth what is not to be pruned: see `forget`.
///
/// The fifth tells from which record on accounts are hashed under which secret, and which hashes of earlier ones
/// are not needed any more: their accounts were recorded anew. The sixth counts, see `counts`.
///
/// The eighth seals `suppression`: see `kept`. Its indexes find the records of upkeep, and those that are pruned, without
/// reading all of them; one of them is only used for what has its condition, so that a query without it reads more, and
/// never another thing.
const MIGRATIONS: &[&str] = &["
    CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT, WITHOUT ROWID;
    CREATE TABLE journal (
        seq INTEGER PRIMARY KEY,
        node TEXT NOT NULL,
        time_us INTEGER NOT NULL,
        site TEXT NOT NULL,
        kind TEXT NOT NULL,
        signal TEXT NOT NULL,
        basis TEXT NOT NULL,
        policy TEXT NOT NULL,
        subject BLOB,
        reference TEXT NOT NULL UNIQUE,
        canonical BLOB NOT NULL,
        chain BLOB NOT NULL
    ) STRICT;
    CREATE TRIGGER journal_keeps_its_rows BEFORE DELETE ON journal
        BEGIN SELECT RAISE(ABORT, 'the journal is append-only'); END;
    CREATE TRIGGER journal_never_changes BEFORE UPDATE ON journal
        BEGIN SELECT RAISE(ABORT, 'the journal is append-only'); END;
    ", "
    DROP TRIGGER journal_keeps_its_rows;
    DROP TRIGGER journal_never_changes;
    ALTER TABLE journal RENAME TO journal_before;
    CREATE TABLE journal (
        seq INTEGER PRIMARY KEY,
        time_us INTEGER NOT NULL,
        reference TEXT UNIQUE,
        subject BLOB,
        blinding BLOB,
        canonical BLOB,
        digest BLOB,
        chain BLOB NOT NULL
    ) STRICT;
    INSERT INTO journal
        SELECT seq, time_us, reference, subject, NULL, canonical, NULL, chain FROM journal_before ORDER BY seq;
    DROP TABLE journal_before;
    CREATE TRIGGER journal_keeps_its_rows BEFORE DELETE ON journal
        BEGIN SELECT RAISE(ABORT, 'the journal is append-only'); END;
    CREATE TRIGGER journal_only_forgets BEFORE UPDATE ON journal
        WHEN NOT (
            NEW.seq = OLD.seq AND NEW.time_us = OLD.time_us AND NEW.chain = OLD.chain
            AND NEW.subject IS NULL AND NEW.blinding IS NULL
            AND (
                (NEW.canonical IS OLD.canonical AND NEW.digest IS OLD.digest AND NEW.reference IS OLD.reference)
                OR (substr(OLD.canonical, 1, 1) IS x'02' AND OLD.digest IS NULL AND NEW.canonical IS NULL
                    AND length(NEW.digest) IS 32 AND NEW.reference IS NULL)
            )
        )
        BEGIN SELECT RAISE(ABORT, 'the journal is append-only'); END;
    CREATE TABLE suppression (
        subject BLOB PRIMARY KEY,
        standing TEXT NOT NULL,
        seq INTEGER NOT NULL,
        key_check TEXT NOT NULL
    ) STRICT, WITHOUT ROWID;
    ", "
    CREATE TABLE signers (
        id TEXT PRIMARY KEY,
        public BLOB NOT NULL,
        time_us INTEGER NOT NULL
    ) STRICT, WITHOUT ROWID;
    CREATE TABLE vouches (
        signer TEXT NOT NULL,
        vouched TEXT NOT NULL,
        time_us INTEGER NOT NULL,
        signature BLOB NOT NULL,
        PRIMARY KEY (signer, vouched)
    ) STRICT, WITHOUT ROWID;
    CREATE TABLE checkpoints (
        seq INTEGER PRIMARY KEY,
        canonical BLOB NOT NULL,
        signature BLOB NOT NULL
    ) STRICT;
    CREATE TRIGGER checkpoints_stay BEFORE DELETE ON checkpoints
        BEGIN SELECT RAISE(ABORT, 'checkpoints are append-only'); END;
    CREATE TRIGGER checkpoints_never_change BEFORE UPDATE ON checkpoints
        BEGIN SELECT RAISE(ABORT, 'checkpoints are append-only'); END;
    ", "
    CREATE TABLE holds (
        id INTEGER PRIMARY KEY,
        site TEXT,
        reference TEXT,
        reason TEXT NOT NULL,
        time_us INTEGER NOT NULL,
        CHECK ((site IS NULL) <> (reference IS NULL))
    ) STRICT;
    ", "
    CREATE TABLE secrets (
        key_check TEXT PRIMARY KEY,
        since INTEGER NOT NULL
    ) STRICT, WITHOUT ROWID;
    INSERT INTO secrets SELECT value, 1 FROM meta WHERE key = 'key_check';
    CREATE TABLE carried (subject BLOB PRIMARY KEY) STRICT, WITHOUT ROWID;
    ", "
    CREATE TABLE counts (
        minute INTEGER NOT NULL,
        site TEXT NOT NULL,
        signal TEXT NOT NULL,
        basis TEXT NOT NULL,
        policy TEXT NOT NULL,
        state TEXT NOT NULL,
        count INTEGER NOT NULL,
        PRIMARY KEY (minute, site, signal, basis, policy, state)
    ) STRICT, WITHOUT ROWID;
    ", "
    ALTER TABLE journal ADD COLUMN seen TEXT;
    ", "
    CREATE INDEX journal_upkeep ON journal (seq) WHERE instr(canonical, x'000000000000000675706b656570') > 0;
    CREATE INDEX journal_pruned ON journal (seq) WHERE digest IS NOT NULL;
    ALTER TABLE suppression RENAME TO suppression_before;
    CREATE TABLE suppression (
        id INTEGER PRIMARY KEY,
        subject BLOB,
        blinding BLOB,
        standing TEXT,
        seq INTEGER,
        key_check TEXT,
        seal INTEGER NOT NULL,
        digest BLOB,
        gone INTEGER
    ) STRICT;
    CREATE UNIQUE INDEX suppression_subject ON suppression (subject) WHERE subject IS NOT NULL;
    CREATE TRIGGER suppression_keeps_its_rows BEFORE DELETE ON suppression
        BEGIN SELECT RAISE(ABORT, 'suppression is append-only'); END;
    CREATE TRIGGER suppression_only_forgets BEFORE UPDATE ON suppression
        WHEN NOT (
            NEW.id = OLD.id AND NEW.seal = OLD.seal AND OLD.gone IS NULL AND NEW.gone > 0
            AND length(NEW.digest) IS 32 AND NEW.subject IS NULL AND NEW.blinding IS NULL AND NEW.standing IS NULL
            AND NEW.seq IS NULL AND NEW.key_check IS NULL
        )
        BEGIN SELECT RAISE(ABORT, 'suppression is append-only'); END;
    ", "
    DROP TRIGGER IF EXISTS journal_only_forgets;
    UPDATE journal SET time_us = 0 WHERE digest IS NOT NULL;
    CREATE TRIGGER journal_only_forgets BEFORE UPDATE ON journal
        WHEN NOT (
            NEW.seq = OLD.seq AND NEW.chain = OLD.chain AND NEW.subject IS NULL AND NEW.blinding IS NULL
            AND (
                (NEW.canonical IS OLD.canonical AND NEW.digest IS OLD.digest AND NEW.reference IS OLD.reference
                    AND NEW.time_us = OLD.time_us)
                OR (substr(OLD.canonical, 1, 1) IS x'02' AND OLD.digest IS NULL AND NEW.canonical IS NULL
                    AND length(NEW.digest) IS 32 AND NEW.reference IS NULL AND NEW.time_us = 0)
            )
        )
        BEGIN SELECT RAISE(ABORT, 'the journal is append-only'); END;
    "];

/// The step from which on rows of `suppression` are sealed: see [`seal`].
pub(super) const SEALED: usize = 8;

/// The step from which on a pruned record has no time beside its digest, which nothing would seal.
pub(super) const TIMELESS: usize = 9;

/// Steps of this program.
pub(super) const LATEST: usize = MIGRATIONS.len();

/// Reads the whole file's structure (about 0.2 s for a million records); changes nothing.
pub(super) async fn refuse_damage(path: &Path, connection: &mut SqliteConnection) -> Result<(), OpenError> {
    let row = sqlx::query("PRAGMA quick_check(1)").fetch_one(connection).await;
    let fault: String = row.and_then(|row| row.try_get(0)).map_err(|e| explain(path, &e))?;
    if fault == "ok" {
        return Ok(());
    }
    Err(refuse(path, format!("is damaged: {fault}; restore it from a backup (Optgate never overwrites it)")))
}

/// Refuses what is not our journal, or newer than this program; changes nothing.
pub(super) async fn refuse_strangers(
    path: &Path,
    connection: &mut SqliteConnection,
) -> Result<(), OpenError> {
    let checked: Result<(i64, i64)> = async {
        let objects = sqlx::query("SELECT count(*) FROM sqlite_master").fetch_one(&mut *connection).await?;
        let id = sqlx::query("PRAGMA application_id").fetch_one(&mut *connection).await?;
        Ok((objects.try_get(0)?, id.try_get(0)?))
    }
    .await;
    let (objects, id) = checked.map_err(|e| explain(path, &e))?;
    if objects == 0 && id == 0 {
        return Ok(());
    }
    if id != APPLICATION_ID {
        return Err(refuse(path, "is a database of another program; choose another folder with --data-dir"));
    }
    refuse_nameless(path, connection).await?;
    let schema = schema_version(connection).await.map_err(|e| explain(path, &e))?;
    if schema > MIGRATIONS.len() {
        return Err(refuse(
            path,
            format!(
                "was written by a newer Optgate (schema {schema}, this one knows {}); run that version or a \
                 newer one",
                MIGRATIONS.len()
            ),
        ));
    }
    refuse_foreign_triggers(path, connection, schema).await
}

/// The triggers of a schema, by name, as they were typed.
fn triggers(schema: usize) -> BTreeMap<&'static str, &'static str> {
    let mut triggers = BTreeMap::new();
    for step in &MIGRATIONS[..schema.min(LATEST)] {
        // A step takes away the triggers of those before it, if any, and then makes its own.
        for (at, _) in step.match_indices("DROP TRIGGER ") {
            let name = step[at + "DROP TRIGGER ".len()..].split(';').next().unwrap_or_default();
            triggers.remove(name.trim_start_matches("IF EXISTS ").trim());
        }
        for (at, _) in step.match_indices("CREATE TRIGGER ") {
            let sql =
                step[at..].split_once("END;").map_or(&step[at..], |(sql, _)| &step[at..at + sql.len() + 3]);
            triggers.insert(sql.split_whitespace().nth(2).unwrap_or_default(), sql);
        }
    }
    triggers
}

/// Refuses triggers and views that no version made: with one, what is recorded is not what was chosen. One of ours that
/// is gone is no reason to refuse; see [`put_triggers_back`].
async fn refuse_foreign_triggers(
    path: &Path,
    connection: &mut SqliteConnection,
    schema: usize,
) -> Result<(), OpenError> {
    let rows = sqlx::query("SELECT type, name, sql FROM sqlite_master WHERE type IN ('trigger', 'view')");
    let rows = rows.fetch_all(connection).await.map_err(|e| explain(path, &e))?;
    let (ours, latest) = (triggers(schema), triggers(LATEST));
    for row in rows {
        let text = |at: usize| row.try_get::<String, _>(at).map_err(|e| explain(path, &e));
        let (kind, name, sql) = (text(0)?, text(1)?, text(2)?);
        let same = |known: Option<&&str>| {
            known.is_some_and(|known| known.split_whitespace().eq(sql.split_whitespace()))
        };
        if kind == "trigger" && same(ours.get(name.as_str())) {
            continue;
        }
        if kind == "trigger" && same(latest.get(name.as_str())) {
            return Err(refuse(
                path,
                format!(
                    "says that its schema is {schema}, and has `{name}`, which a later one made: the number was set \
                     back. {EVIDENCE}"
                ),
            ));
        }
        let file = path.display();
        return Err(refuse(
            path,
            format!(
                "has a {kind} `{name}` that Optgate did not make like this: what is recorded with it may not be what was \
                 chosen. Copy the file, which is evidence; take the {kind} out with \
                 `sqlite3 {file} 'DROP {} {name}'`, and see with `optgate ledger verify` whether records lost anything \
                 by it. A trigger of Optgate's own that is taken out is put back at the next start",
                kind.to_uppercase()
            ),
        ));
    }
    Ok(())
}

/// Makes the triggers anew that somebody took away: they keep a slip of the hand from changing records.
pub(super) async fn put_triggers_back(path: &Path, connection: &mut SqliteConnection) -> Result<()> {
    let there: Vec<String> = sqlx::query_scalar("SELECT name FROM sqlite_master WHERE type = 'trigger'")
        .fetch_all(&mut *connection)
        .await?;
    for (name, sql) in triggers(LATEST) {
        if !there.iter().any(|there| there == name) {
            tracing::warn!(path = %path.display(), trigger = name, "was taken out of the journal, and is put back");
            sqlx::raw_sql(sql).execute(&mut *connection).await?;
        }
    }
    Ok(())
}

/// Sets a connection that writes up to be durable.
pub(super) async fn configure(connection: &mut SqliteConnection) -> Result<()> {
    // To its end, and then asked: the answer comes before the commit, which may yet fail and leave the old mode, in
    // which a power cut could take back what was committed.
    sqlx::query("PRAGMA journal_mode = WAL").execute(&mut *connection).await?;
    let mode: String = sqlx::query("PRAGMA journal_mode").fetch_one(&mut *connection).await?.try_get(0)?;
    if mode != "wal" {
        let why = "its file system has no shared memory for SQLite's WAL; use a local disk";
        return Err(sqlx::Error::Protocol(why.into()));
    }
    sqlx::raw_sql(
        "PRAGMA synchronous = FULL;
         PRAGMA cache_size = -32768;
         PRAGMA wal_autocheckpoint = 4000;
         PRAGMA journal_size_limit = 67108864;",
    )
    .execute(connection)
    .await
    .map(drop)
}

/// Brings the schema up to where what comes after needs a journal that was read: see [`seal`]. One transaction a step;
/// returns the node's id.
pub(super) async fn migrate(connection: &mut SqliteConnection, key_check: &str) -> Result<String> {
    migrate_to(SEALED - 1, connection, key_check).await
}

/// Takes the step that seals what earlier versions kept of accounts, in one transaction with the record of it, which
/// follows `head`; `None` where there is nothing to say.
pub(super) async fn seal(
    connection: &mut SqliteConnection,
    node: &str,
    head: &Head,
) -> Result<Option<Noted>> {
    let mut transaction = connection.begin_with("BEGIN IMMEDIATE").await?;
    sqlx::raw_sql(MIGRATIONS[SEALED - 1]).execute(&mut *transaction).await?;
    let noted = kept::seal_earlier(&mut transaction, node, head).await?;
    sqlx::query("UPDATE meta SET value = ? WHERE key = 'schema'")
        .bind(SEALED.to_string())
        .execute(&mut *transaction)
        .await?;
    transaction.commit().await?;
    Ok(noted)
}

/// The steps after that one.
pub(super) async fn migrate_on(connection: &mut SqliteConnection) -> Result<()> {
    migrate_to(LATEST, connection, "").await.map(drop)
}

/// As [`migrate`], up to another schema; an earlier one is how a test makes an old journal.
pub(super) async fn migrate_to(
    schema: usize,
    connection: &mut SqliteConnection,
    key_check: &str,
) -> Result<String> {
    let id: i64 = sqlx::query("PRAGMA application_id").fetch_one(&mut *connection).await?.try_get(0)?;
    let have = if id == APPLICATION_ID { schema_version(connection).await? } else { 0 };
    for (step, sql) in MIGRATIONS.iter().enumerate().take(schema).skip(have) {
        let mut transaction = connection.begin_with("BEGIN IMMEDIATE").await?;
        sqlx::raw_sql(*sql).execute(&mut *transaction).await?;
        if step == 0 {
            sqlx::raw_sql("PRAGMA application_id = 1330664519").execute(&mut *transaction).await?;
            let name = secrets::new_name(key_check)?;
            for (key, value) in name.into_iter().chain([("key_check", key_check.to_owned())]) {
                let put = sqlx::query("INSERT INTO meta VALUES (?, ?)").bind(key).bind(value);
                put.execute(&mut *transaction).await?;
            }
        }
        sqlx::query("INSERT OR REPLACE INTO meta VALUES ('schema', ?)")
            .bind((step + 1).to_string())
            .execute(&mut *transaction)
            .await?;
        transaction.commit().await?;
    }
    meta(connection, "node").await?.ok_or(sqlx::Error::RowNotFound)
}

/// Rows of `meta` that every journal has.
const ALWAYS_THERE: [&str; 3] = ["schema", "node", "key_check"];

/// Refuses a journal that has lost a row of `meta`, or all of it: without them nobody can say whose it is.
async fn refuse_nameless(
    path: &Path,
    connection: &mut SqliteConnection,
) -> std::result::Result<(), OpenError> {
    let named = |e: sqlx::Error| explain(path, &e);
    let lost = |what: String| {
        refuse(path, format!("has lost {what}: it was changed by another program. {EVIDENCE}"))
    };
    let there =
        sqlx::query_scalar("SELECT count(*) FROM sqlite_master WHERE type = 'table' AND name = 'meta'");
    let there: i64 = there.fetch_one(&mut *connection).await.map_err(named)?;
    if there == 0 {
        return Err(lost("its table `meta`".to_owned()));
    }
    for key in ALWAYS_THERE {
        if meta(connection, key).await.map_err(named)?.is_none() {
            return Err(lost(format!("the row `{key}` of its table `meta`")));
        }
    }
    Ok(())
}

/// The schema of a journal, which the program may know only in part.
pub(super) async fn schema_version(connection: &mut SqliteConnection) -> Result<usize> {
    let written = meta(connection, "schema").await?;
    written
        .and_then(|v| v.parse().ok())
        .ok_or_else(|| sqlx::Error::Protocol("its schema version cannot be read".into()))
}

/// A value of the `meta` table.
pub(super) async fn meta(connection: &mut SqliteConnection, key: &'static str) -> Result<Option<String>> {
    let row =
        sqlx::query("SELECT value FROM meta WHERE key = ?").bind(key).fetch_optional(connection).await?;
    row.map(|row| row.try_get(0)).transpose()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a trigger does is compared with what was typed here, so each must be found here, whole.
    #[test]
    fn the_triggers_of_a_schema_are_those_that_its_steps_made() {
        let names = |schema| triggers(schema).into_keys().collect::<Vec<_>>();
        assert_eq!(names(0), [""; 0]);
        assert_eq!(names(1), ["journal_keeps_its_rows", "journal_never_changes"]);
        assert_eq!(names(2), ["journal_keeps_its_rows", "journal_only_forgets"]);
        assert_eq!(names(LATEST).len(), 6);
        assert!(
            triggers(LATEST).values().all(|sql| sql.starts_with("CREATE TRIGGER") && sql.ends_with("; END"))
        );
    }

    /// The pragma's text and the constant say the same number.
    #[test]
    fn the_application_id_spells_optg() {
        assert_eq!(APPLICATION_ID.to_string(), "1330664519");
        assert_eq!(&APPLICATION_ID.to_be_bytes()[4..], b"OPTG");
    }
}
