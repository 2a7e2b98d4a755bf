//! The keys that sign a journal, as it knows them.

use std::path::Path;

use sqlx::sqlite::SqliteConnection;
use sqlx::{ConnectOptions, Connection};

use super::checkpoint::vouched;
use super::schema::{LATEST, refuse_strangers, schema_version};
use super::sqlite::connect_options;
use super::{explain, refuse};
use crate::store::OpenError;
use crate::store::signing::Signer;

/// Makes a new signer known; it and `old` vouch for each other. Works beside a running server.
pub(in crate::store) fn add(path: &Path, old: Option<&Signer>, new: &Signer) -> Result<(), OpenError> {
    if !path.is_file() {
        return Err(refuse(path, "there is no journal here; check --data-dir"));
    }
    let named = |e: sqlx::Error| explain(path, &e);
    let work = move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(|e| refuse(path, format!("cannot be read: {e}")))?;
        runtime.block_on(async {
            let mut connection = connect_options(path).connect().await.map_err(named)?;
            refuse_strangers(path, &mut connection).await?;
            if schema_version(&mut connection).await.map_err(named)? < LATEST {
                return Err(refuse(
                    path,
                    "was not yet opened by this version; start it once, then try again",
                ));
            }
            let done = write(&mut connection, old, new).await.map_err(named);
            connection.close().await.map_err(named)?;
            done
        })
    };
    // The caller may already be inside a runtime.
    std::thread::scope(|scope| {
        let ended = scope.spawn(work).join();
        ended.unwrap_or_else(|_| Err(refuse(path, "could not be read: its thread panicked")))
    })
}

async fn write(connection: &mut SqliteConnection, old: Option<&Signer>, new: &Signer) -> sqlx::Result<()> {
    let now_us = jiff::Timestamp::now().as_microsecond();
    // Synced like a record: the key file follows it.
    sqlx::query("PRAGMA synchronous = FULL").execute(&mut *connection).await?;
    let mut transaction = connection.begin_with("BEGIN IMMEDIATE").await?;
    sqlx::query("INSERT INTO signers VALUES (?, ?, ?)")
        .bind(new.public().id())
        .bind(new.public().as_bytes().to_vec())
        .bind(now_us)
        .execute(&mut *transaction)
        .await?;
    let both = old.map(|old| [(old, new), (new, old)]);
    for (signer, other) in both.into_iter().flatten() {
        let signature = signer.sign(&vouched(other.public().as_bytes(), now_us))?;
        sqlx::query("INSERT INTO vouches VALUES (?, ?, ?, ?)")
            .bind(signer.public().id())
            .bind(other.public().id())
            .bind(now_us)
            .bind(signature.to_vec())
            .execute(&mut *transaction)
            .await?;
    }
    transaction.commit().await
}
