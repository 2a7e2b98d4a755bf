//! Which requests were denied before: the same file of them again adds no second record.
//!
//! `meta` has a line for each, by the digest of where the request came from: nothing in it leads to a person, and it is
//! found whichever secret hashed them.

use std::path::Path;

use data_encoding::HEXLOWER;
use sha2::{Digest as _, Sha256};
use sqlx::Connection as _;

use super::beside::{changing, reading};
use super::explain;
use crate::store::OpenError;

/// Begins the keys.
const NOTED: &str = "denied:";

fn key(policy: &str) -> String {
    format!("{NOTED}{}", HEXLOWER.encode(&Sha256::digest(policy)[..16]))
}

/// Of these policies, in their order, whether a denial with it is on record.
///
/// # Errors
/// The journal cannot be read.
pub(in crate::store) fn known(path: &Path, policies: &[String]) -> Result<Vec<bool>, OpenError> {
    reading(path, async move |connection| {
        let mut known = Vec::with_capacity(policies.len());
        for policy in policies {
            let line = sqlx::query_scalar("SELECT 1 FROM meta WHERE key = ?").bind(key(policy));
            let line: Option<i64> =
                line.fetch_optional(&mut *connection).await.map_err(|e| explain(path, &e))?;
            known.push(line.is_some());
        }
        Ok(known)
    })
}

/// Notes that denials with these policies are on record.
///
/// # Errors
/// The journal cannot be written.
pub(in crate::store) fn note(path: &Path, policies: &[String]) -> Result<(), OpenError> {
    changing(path, async move |connection| {
        let written = async {
            let mut transaction = connection.begin_with("BEGIN IMMEDIATE").await?;
            for policy in policies {
                let line = sqlx::query("INSERT OR REPLACE INTO meta VALUES (?, '')").bind(key(policy));
                line.execute(&mut *transaction).await?;
            }
            transaction.commit().await
        };
        written.await.map_err(|e| explain(path, &e))
    })
}
