//! Who is opted out by a journal's own word: what somebody else records who takes over from it.

use std::collections::HashMap;
use std::path::Path;

use sqlx::sqlite::SqliteConnection;
use sqlx::{Result, Row as _};

use super::beside::reading;
use super::chain::Fields;
use super::forget::EARLIER;
use super::schema::{SEALED, meta, schema_version};
use super::secrets::listed;
use super::{explain, refuse};
use crate::privacy::Subject;
use crate::store::OpenError;
use crate::store::record::{Kind, said_under};

/// Rows read in one transaction.
const PAGE: i64 = 4096;

/// What a journal leaves.
#[derive(Debug, Default)]
pub(in crate::store) struct Left {
    /// Who wrote it.
    pub(in crate::store) node: String,
    /// Of the secrets that its accounts are hashed under.
    pub(in crate::store) key_checks: Vec<String>,
    /// In the order of their records.
    pub(in crate::store) outs: Vec<LeftOut>,
    /// Opt-outs that name no account.
    pub(in crate::store) of_browsers: u64,
}

/// An account that is opted out, by its last record.
#[derive(Debug)]
pub(in crate::store) struct LeftOut {
    pub(in crate::store) subject: Subject,
    /// 0 where only that it is opted out was kept.
    pub(in crate::store) seq: i64,
    pub(in crate::store) time_us: i64,
    /// Empty where no record says it any more.
    pub(in crate::store) site: String,
    /// The secret that it is hashed under, by its check; another word where that is not known.
    pub(in crate::store) under: String,
}

/// Reads it, beside whoever may be writing it.
pub(in crate::store) fn left(path: &Path) -> Result<Left, OpenError> {
    reading(path, async move |connection| {
        let named = |e: sqlx::Error| explain(path, &e);
        if schema_version(connection).await.map_err(named)? < SEALED {
            return Err(refuse(
                path,
                "is of an earlier version; start this version on a copy of it once, then try again",
            ));
        }
        read(connection).await.map_err(named)
    })
}

async fn read(connection: &mut SqliteConnection) -> Result<Left> {
    let secrets = listed(connection).await?;
    let mut left = Left {
        node: meta(connection, "node").await?.unwrap_or_default(),
        key_checks: secrets.iter().map(|(check, _)| check.clone()).collect(),
        ..Left::default()
    };
    let mut outs: HashMap<Subject, LeftOut> = HashMap::new();
    let under = |seq: i64, policy: &str| {
        let since = secrets.iter().rev().find(|(_, since)| *since <= seq).map(|(check, _)| check.as_str());
        said_under(policy).or(since).unwrap_or(EARLIER).to_owned()
    };
    let kept = sqlx::query("SELECT subject, key_check FROM suppression WHERE subject IS NOT NULL")
        .fetch_all(&mut *connection)
        .await?;
    for row in &kept {
        let Some(subject) = subject(row.try_get(0)?) else { continue };
        let under = row.try_get(1)?;
        outs.insert(subject, LeftOut { subject, seq: 0, time_us: 0, site: String::new(), under });
    }
    let mut after = 0;
    loop {
        let rows = sqlx::query(
            "SELECT seq, time_us, subject, canonical FROM journal WHERE seq > ? AND canonical IS NOT NULL \
             ORDER BY seq LIMIT ?",
        )
        .bind(after)
        .bind(PAGE)
        .fetch_all(&mut *connection)
        .await?;
        let Some(last) = rows.last() else { break };
        after = last.try_get(0)?;
        for row in &rows {
            let (seq, time_us) = (row.try_get(0)?, row.try_get(1)?);
            let Some(said) = row.try_get::<Option<&[u8]>, _>(3)?.and_then(Fields::decode) else { continue };
            let subject = row.try_get::<Option<&[u8]>, _>(2)?.and_then(subject);
            match (subject, Kind::parse(said.kind)) {
                (None, Some(Kind::OptOut)) => left.of_browsers += 1,
                (Some(subject), Some(Kind::OptOut)) => {
                    let (site, under) = (said.site.to_owned(), under(seq, said.policy));
                    outs.insert(subject, LeftOut { subject, seq, time_us, site, under });
                }
                // The opt-out that it is an exception to, where no record says that any more.
                (Some(subject), Some(Kind::Programme)) => {
                    let (site, under) = (said.site.to_owned(), under(seq, said.policy));
                    outs.entry(subject).or_insert(LeftOut { subject, seq, time_us, site, under });
                }
                (Some(subject), Some(Kind::OptIn)) => _ = outs.remove(&subject),
                (None, _) | (_, None | Some(Kind::Denied(_))) => {}
            }
        }
    }
    left.outs = outs.into_values().collect();
    left.outs.sort_by_key(|out| out.seq);
    Ok(left)
}

fn subject(bytes: &[u8]) -> Option<Subject> {
    bytes.try_into().ok().map(Subject::from_bytes)
}
