//! The schema of the database that nodes share.

use sqlx::Row as _;
use sqlx::postgres::PgConnection;

use super::postgres::{Database, Trouble, query};

/// Taken while the schema is looked at, so that nodes that start together migrate once (`OPTG`).
const MIGRATION_LOCK: i64 = 0x4f50_5447;

/// Before a secret's check, in `meta`: a node has started with it as the live one.
const IN_USE: &str = "secret ";

/// Forward only; a step is never changed once released, only followed by another.
///
/// The second lets no row of `suppression` take another's place, so that the record of the erasure that put it in can
/// seal it: see [`super::seal::Shared`]. Rows of before, of an erasure that was broken off,
/// and of accounts whose pruned records were lost ([`Database::keep`]) are sealed by none.
const MIGRATIONS: &[&str] = &[
    "
    CREATE TABLE optgate.nodes (
        node text PRIMARY KEY,
        seq bigint NOT NULL,
        chain bytea NOT NULL,
        heard timestamptz NOT NULL DEFAULT now()
    ) WITH (fillfactor = 50);
    CREATE TABLE optgate.records (
        node text NOT NULL,
        seq bigint NOT NULL,
        time_us bigint NOT NULL,
        site text NOT NULL,
        kind text NOT NULL,
        signal text NOT NULL,
        subject bytea,
        blinding bytea,
        seen text,
        reference text,
        canonical bytea,
        digest bytea,
        chain bytea NOT NULL,
        PRIMARY KEY (node, seq)
    );
    CREATE INDEX records_reference ON optgate.records (reference);
    CREATE INDEX records_subject ON optgate.records (subject) WHERE subject IS NOT NULL;
    CREATE TABLE optgate.suppression (subject bytea PRIMARY KEY, standing text NOT NULL);
    ",
    "
    ALTER TABLE optgate.suppression DROP CONSTRAINT suppression_pkey;
    ALTER TABLE optgate.suppression ADD COLUMN erasure bytea;
    CREATE INDEX suppression_subject ON optgate.suppression (subject);
    ",
];

impl Database {
    /// Brings the schema up to date, and refuses one that is newer, or a database of nodes with another secret.
    /// `key_checks`: of this node's secrets, the live one first. `let_in`: this node was, so that its records go on to reach
    /// the others when one of them has a secret that it does not have yet.
    pub(in crate::store) async fn migrate(
        &mut self,
        key_checks: &[String],
        let_in: bool,
    ) -> Result<(), Trouble> {
        self.call(async |connection| {
            let live = key_checks.first().map_or("", String::as_str);
            query("SELECT pg_advisory_xact_lock($1)").bind(MIGRATION_LOCK).execute(&mut *connection).await?;
            let known: bool = query("SELECT to_regclass('optgate.meta') IS NOT NULL")
                .fetch_one(&mut *connection)
                .await?
                .try_get(0)?;
            if !known {
                sqlx::raw_sql(
                    "CREATE SCHEMA IF NOT EXISTS optgate;
                     CREATE TABLE optgate.meta (key text PRIMARY KEY, value text NOT NULL);",
                )
                .execute(&mut *connection)
                .await?;
                put_meta(connection, "key_check", live).await?;
            }
            let (have, latest) = checked_version(connection, key_checks, let_in).await?;
            // After a rotation, nodes that do not have the new secret yet would not know the accounts of those that do.
            if latest.is_none_or(|latest| key_checks.contains(&latest)) {
                put_meta(connection, "key_check", live).await?;
            }
            put_meta(connection, &format!("{IN_USE}{live}"), "").await?;
            for step in &MIGRATIONS[have..] {
                sqlx::raw_sql(*step).execute(&mut *connection).await?;
            }
            if have < MIGRATIONS.len() {
                put_meta(connection, "schema", &MIGRATIONS.len().to_string()).await?;
            }
            Ok(())
        })
        .await
    }

    /// Looks whether a database that is only read can be used.
    pub(in crate::store) async fn check(
        &mut self,
        key_checks: &[String],
        let_in: bool,
    ) -> Result<(), Trouble> {
        self.call(async |connection| {
            checked_version(connection, key_checks, let_in).await?;
            Ok(())
        })
        .await
    }

    /// Checks of the secrets that accounts are hashed under here.
    pub(in crate::store) async fn secrets(&mut self) -> Result<Vec<String>, Trouble> {
        self.call(async |connection| {
            let rows = query(
                "SELECT substr(key, length($1::text) + 1) FROM optgate.meta WHERE starts_with(key, $1::text)",
            )
            .bind(IN_USE)
            .fetch_all(&mut *connection)
            .await?;
            Ok(rows.iter().map(|row| row.try_get(0)).collect::<Result<_, _>>()?)
        })
        .await
    }

    /// Accounts are hashed under this secret alone from here on.
    pub(in crate::store) async fn retire_secrets(&mut self, live: &str) -> Result<(), Trouble> {
        self.call(async |connection| {
            query(
                "DELETE FROM optgate.meta WHERE starts_with(key, $1::text) AND key <> $1::text || $2::text",
            )
            .bind(IN_USE)
            .bind(live)
            .execute(&mut *connection)
            .await?;
            Ok(())
        })
        .await
    }
}

pub(super) async fn put_meta(connection: &mut PgConnection, key: &str, value: &str) -> Result<(), Trouble> {
    // Mostly it stands there already, and then nothing is written.
    query(
        "INSERT INTO optgate.meta AS m VALUES ($1, $2) ON CONFLICT (key) DO UPDATE SET value = excluded.value \
         WHERE m.value <> excluded.value",
    )
        .bind(key)
        .bind(value)
        .execute(connection)
        .await?;
    Ok(())
}

fn unknown_secret() -> Trouble {
    let why = "its nodes use another secret.key, so account opt-outs of theirs would match nobody here; copy secret.key of \
               one of them, which has all that are in use, into this data folder";
    Trouble::Refused(why.into())
}

/// The schema's version, if this program and its secrets fit the database, and the check of the secret with which a node
/// came last.
async fn checked_version(
    connection: &mut PgConnection,
    key_checks: &[String],
    let_in: bool,
) -> Result<(usize, Option<String>), Trouble> {
    let rows = query("SELECT key, value FROM optgate.meta").fetch_all(connection).await?;
    let lacks = |check: &str| !let_in && !key_checks.iter().any(|known| known == check);
    let (mut version, mut latest) = (0, None);
    for row in rows {
        let (key, value): (String, String) = (row.try_get(0)?, row.try_get(1)?);
        match key.as_str() {
            "key_check" if lacks(&value) => return Err(unknown_secret()),
            "key_check" => latest = Some(value),
            key if key.strip_prefix(IN_USE).is_some_and(lacks) => return Err(unknown_secret()),
            "schema" => {
                version = value.parse().map_err(|_| {
                    Trouble::Refused(format!("its schema version is `{value}`, which is no number"))
                })?;
            }
            _ => {}
        }
    }
    if version > MIGRATIONS.len() {
        return Err(Trouble::Refused(format!(
            "it was written by a newer Optgate (schema {version}, this one knows {}); run that version or a newer one",
            MIGRATIONS.len()
        )));
    }
    Ok((version, latest))
}
