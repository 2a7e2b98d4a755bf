//! Forgetting in the database that nodes share: what a node pruned is pruned there, and an account is erased from every
//! node's records. Neither loses an opt-out.

use sqlx::Row as _;
use sqlx::postgres::PgRow;

use super::believed::with_mac;
use super::chain::{Account, BLINDING, Fields, Link, digest};
use super::postgres::{Database, Trouble, query, subject};
use super::seal::shared_leaf;
use crate::privacy::{Keys, Subject};

/// Takes what ties rows to an account out of them: also the MAC, which whoever has the secret could try accounts on.
macro_rules! untie {
    () => {
        "UPDATE optgate.records SET subject = NULL, blinding = NULL, seen = split_part(seen, ',=', 1)"
    };
}

/// A record that its node's file has pruned.
#[derive(Debug)]
pub(in crate::store) struct Pruned {
    pub(in crate::store) seq: i64,
    pub(in crate::store) digest: Vec<u8>,
    /// What its node had heard of the others.
    pub(in crate::store) seen: Option<String>,
}

impl Pruned {
    /// What its row says while it has its bytes, and of whom; `None` for one that its node did not write so.
    fn whose<'r>(
        &self,
        canonical: &'r [u8],
        (subject, blinding): (Option<&[u8]>, Option<&[u8]>),
    ) -> Option<(Fields<'r>, Account)> {
        let fields = Fields::decode(canonical).filter(|_| digest(canonical)[..] == self.digest[..])?;
        Some((fields, fields.account(subject, blinding)?))
    }
}

/// What stays of rows, a column each.
#[derive(Debug, Default)]
struct Told {
    seqs: Vec<i64>,
    digests: Vec<Vec<u8>>,
    seen: Vec<Option<String>>,
    kinds: Vec<Option<String>>,
    signals: Vec<Option<String>>,
}

impl Told {
    fn push(&mut self, node: &str, record: &Pruned, said: Option<(Fields<'_>, Account)>, keys: &Keys) {
        self.seqs.push(record.seq);
        self.digests.push(record.digest.clone());
        self.kinds.push(said.map(|(fields, _)| fields.kind.to_owned()));
        self.signals.push(said.map(|(fields, _)| fields.signal.to_owned()));
        self.seen.push(match said {
            Some((fields, Account::Known(subject))) => {
                let seen = record.seen.as_deref().unwrap_or_default();
                Some(with_mac((node, record.seq), (fields.kind, fields.signal), &subject, (seen, keys)))
            }
            _ => record.seen.clone(),
        });
    }
}

impl Database {
    /// Puts digests in the place of records that their node has pruned. Whose they were, which way and how stays, as
    /// the entry by which a node that comes later honours the opt-out, with a MAC: their bytes do not tell any more. Those
    /// that are here and say another thing than their node wrote get none, and are returned.
    pub(in crate::store) async fn prune(
        &mut self,
        node: &str,
        pruned: &[Pruned],
        keys: &Keys,
    ) -> Result<Vec<i64>, Trouble> {
        self.call(async |connection| {
            let rows = query(
                "SELECT seq, subject, blinding, canonical FROM optgate.records WHERE node = $1 AND seq = ANY($2) \
                 AND canonical IS NOT NULL ORDER BY seq FOR UPDATE",
            )
            .bind(node.to_owned())
            .bind(pruned.iter().map(|record| record.seq).collect::<Vec<_>>())
            .fetch_all(&mut *connection)
            .await?;
            if rows.is_empty() {
                return Ok(Vec::new());
            }
            let (mut others, mut told) = (Vec::new(), Told::default());
            for row in &rows {
                let seq: i64 = row.try_get(0)?;
                let of_file = pruned.binary_search_by_key(&seq, |record| record.seq).ok();
                let Some(record) = of_file.and_then(|at| pruned.get(at)) else { continue };
                let said = record.whose(row.try_get(3)?, (row.try_get(1)?, row.try_get(2)?));
                if said.is_none() {
                    others.push(seq);
                }
                told.push(node, record, said, keys);
            }
            // A column that says another thing than the bytes did is put right, while they are there.
            query(
                "UPDATE optgate.records r SET canonical = NULL, digest = p.digest, time_us = 0, reference = NULL, \
                 blinding = NULL, site = '', seen = p.seen, kind = coalesce(p.kind, r.kind), \
                 signal = coalesce(p.signal, r.signal) FROM unnest($2::bigint[], $3::bytea[], $4::text[], $5::text[], \
                 $6::text[]) AS p (seq, digest, seen, kind, signal) \
                 WHERE r.node = $1 AND r.seq = p.seq AND r.canonical IS NOT NULL",
            )
            .bind(node.to_owned())
            .bind(told.seqs)
            .bind(told.digests)
            .bind(told.seen)
            .bind(told.kinds)
            .bind(told.signals)
            .execute(&mut *connection)
            .await?;
            Ok(others)
        })
        .await
    }

    /// Takes what ties records to an account out of every node's, and keeps how it stood, if that is to be kept. How many
    /// whole records that were, but for `own`, those that are tied to it in the file of `node`, which ends with record
    /// `last`; and how many pruned ones.
    pub(in crate::store) async fn erase(
        &mut self,
        subject: &Subject,
        (node, own, last): (&str, &[i64], i64),
        (standing, erasure): (Option<&str>, &[u8; BLINDING]),
    ) -> Result<(u64, u64), Trouble> {
        self.call(async |connection| {
            let row = query(
                "SELECT count(*) FILTER (WHERE canonical IS NOT NULL AND \
                 (node <> $2 OR (seq <= $3 AND NOT seq = ANY($4)))), \
                 count(*) FILTER (WHERE canonical IS NULL) FROM optgate.records WHERE subject = $1",
            )
            .bind(subject.as_bytes().as_slice())
            .bind(node)
            .bind(last)
            .bind(own.to_vec())
            .fetch_one(&mut *connection)
            .await?;
            let (whole, pruned): (i64, i64) = (row.try_get(0)?, row.try_get(1)?);
            query(concat!(untie!(), " WHERE subject = $1"))
                .bind(subject.as_bytes().as_slice())
                .execute(&mut *connection)
                .await?;
            if let Some(standing) = standing {
                query("INSERT INTO optgate.suppression (subject, standing, erasure) VALUES ($1, $2, $3)")
                    .bind(subject.as_bytes().as_slice())
                    .bind(standing.to_owned())
                    .bind(erasure.as_slice())
                    .execute(&mut *connection)
                    .await?;
            }
            Ok((whole.unsigned_abs(), pruned.unsigned_abs()))
        })
        .await
    }

    /// Takes what ties a node's records up to a number to these accounts out of them.
    pub(in crate::store) async fn untie(
        &mut self,
        node: &str,
        last: i64,
        subjects: &[Subject],
    ) -> Result<(), Trouble> {
        self.call(async |connection| {
            let subjects: Vec<Vec<u8>> = subjects.iter().map(|subject| subject.as_bytes().to_vec()).collect();
            query(concat!(untie!(), " WHERE node = $1 AND seq <= $2 AND subject = ANY($3)"))
                .bind(node.to_owned())
                .bind(last)
                .bind(subjects)
                .execute(&mut *connection)
                .await?;
            Ok(())
        })
        .await
    }

    /// Keeps accounts as opted out of whom nothing else is here, each with how it stood.
    pub(in crate::store) async fn keep(&mut self, accounts: Vec<(Vec<u8>, String)>) -> Result<(), Trouble> {
        self.call(async |connection| {
            let (subjects, standings): (Vec<_>, Vec<_>) = accounts.into_iter().unzip();
            query(
                "INSERT INTO optgate.suppression (subject, standing) SELECT * FROM unnest($1::bytea[], $2::text[]) AS \
                 k (subject, standing) WHERE NOT EXISTS (SELECT 1 FROM optgate.records r WHERE r.subject = k.subject) \
                 AND NOT EXISTS (SELECT 1 FROM optgate.suppression s WHERE s.subject = k.subject)",
            )
            .bind(subjects)
            .bind(standings)
            .execute(connection)
            .await?;
            Ok(())
        })
        .await
    }

    /// Erased accounts that are opted out, and those of pruned records that were lost.
    pub(in crate::store) async fn suppressed(&mut self) -> Result<Vec<Subject>, Trouble> {
        self.call(async |connection| {
            let rows = query("SELECT DISTINCT subject FROM optgate.suppression");
            let rows = rows.fetch_all(&mut *connection).await?;
            Ok(rows.iter().filter_map(subject).collect())
        })
        .await
    }

    /// What is kept of accounts by one erasure: their leaves.
    pub(in crate::store) async fn kept_by(&mut self, erasure: &[u8; BLINDING]) -> Result<Vec<Link>, Trouble> {
        self.call(async |connection| {
            let rows = query("SELECT subject, standing FROM optgate.suppression WHERE erasure = $1")
                .bind(erasure.as_slice())
                .fetch_all(&mut *connection)
                .await?;
            let leaf = |row: &PgRow| -> Result<_, sqlx::Error> {
                Ok(shared_leaf(row.try_get(0)?, row.try_get(1)?, erasure))
            };
            Ok(rows.iter().map(leaf).collect::<Result<_, _>>()?)
        })
        .await
    }
}
