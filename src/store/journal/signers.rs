//! The keys that sign a journal, as it knows them.

use std::path::Path;

use sqlx::Connection;
use sqlx::sqlite::SqliteConnection;

use super::beside::changing;
use super::checkpoint::vouched;
use super::explain;
use crate::store::OpenError;
use crate::store::signing::Signer;

/// Makes a new signer known; it and `old` vouch for each other. Works beside a running server.
pub(in crate::store) fn add(path: &Path, old: Option<&Signer>, new: &Signer) -> Result<(), OpenError> {
    changing(path, async move |connection| write(connection, old, new).await.map_err(|e| explain(path, &e)))
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
