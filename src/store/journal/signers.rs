//! The keys that sign a journal, as it knows them.

use std::path::Path;

use sqlx::Connection;
use sqlx::sqlite::SqliteConnection;

use super::beside::changing;
use super::checkpoint::vouched;
use super::{explain, refuse};
use crate::store::signing::Signer;
use crate::store::{OpenError, files, time};

/// Makes a new signer known; it and `old` vouch for each other. Works beside a running server.
pub(in crate::store) fn add(path: &Path, old: Option<&Signer>, new: &Signer) -> Result<(), OpenError> {
    changing(path, async move |connection| write(connection, old, new).await.map_err(|e| explain(path, &e)))
}

async fn write(connection: &mut SqliteConnection, old: Option<&Signer>, new: &Signer) -> sqlx::Result<()> {
    let now_us = time::now_us();
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

/// The key that signs this journal; made when the journal was never signed.
pub(super) async fn of_journal(
    path: &Path,
    connection: &mut SqliteConnection,
    key_file: &Path,
) -> Result<Signer, OpenError> {
    let named = |e: sqlx::Error| explain(path, &e);
    let unusable = |e: std::io::Error| refuse(key_file, format!("cannot be used: {e}"));
    let known: Vec<String> =
        sqlx::query_scalar("SELECT id FROM signers").fetch_all(&mut *connection).await.map_err(named)?;
    files::warn_if_shared(key_file);
    let signer = match Signer::load(key_file).map_err(unusable)? {
        Some(signer) if known.contains(&signer.public().id()) => return Ok(signer),
        Some(signer) if known.is_empty() => signer,
        None if known.is_empty() => {
            let (signer, seed) = Signer::generate().map_err(unusable)?;
            Signer::save(key_file, &seed).map_err(|e| refuse(key_file, format!("cannot be made: {e}")))?;
            signer
        }
        None => return Err(refuse(key_file, format!("is missing, but {SIGNED}"))),
        Some(_) => return Err(refuse(key_file, format!("is another key, but {SIGNED}"))),
    };
    sqlx::query("INSERT INTO signers VALUES (?, ?, ?)")
        .bind(signer.public().id())
        .bind(signer.public().as_bytes().to_vec())
        .bind(time::now_us())
        .execute(connection)
        .await
        .map_err(named)?;
    Ok(signer)
}

/// What to do about a signing key that is not the journal's.
const SIGNED: &str = "there is a journal that is signed with one. Restore it from a backup; if it is lost, \
                      `optgate keys new-signer` makes another, which no earlier key vouches for";
