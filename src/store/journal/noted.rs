//! Records of upkeep in the journal: written, and read again. [`super::upkeep`] has what they say.

use sqlx::sqlite::SqliteConnection;
use sqlx::{Result, Row as _};

use super::chain::{self, Fields, Head, Link, Version};
use super::seal::Seal;
use super::upkeep::{By, Deed, KIND, Upkeep};
use crate::store::reference;
use crate::store::time;

/// A record of upkeep that is written and not committed yet.
#[derive(Debug)]
#[must_use]
pub(super) struct Noted {
    pub(super) head: Head,
    pub(super) digest: Link,
}

/// Writes what is done in the transaction under way. It counts once that is committed.
pub(super) async fn note(
    connection: &mut SqliteConnection,
    node: &str,
    head: &Head,
    (by, deed, seal): (By, &Deed, &Seal),
) -> Result<Noted> {
    let mut random = [0; reference::RANDOM];
    getrandom::fill(&mut random).map_err(|e| sqlx::Error::Io(std::io::Error::other(e)))?;
    let time_us = time::now_us();
    let reference = reference::make(time_us, random);
    let canonical = Fields {
        version: Version::Second,
        seq: head.seq + 1,
        node,
        time_us,
        site: "",
        kind: KIND,
        signal: deed.word(),
        basis: by.word(),
        policy: &deed.text(seal),
        person: None,
        reference: &reference,
    }
    .encode();
    let digest = chain::digest(&canonical);
    let head = head.next_digest(&digest);
    sqlx::query("INSERT INTO journal (seq, time_us, reference, canonical, chain) VALUES (?, ?, ?, ?, ?)")
        .bind(head.seq)
        .bind(time_us)
        .bind(reference)
        .bind(canonical)
        .bind(head.link.to_vec())
        .execute(connection)
        .await?;
    Ok(Noted { head, digest })
}

/// The condition is that of an index: see the schema. What it finds too much, a site of that name, is no upkeep.
pub(super) const ALL: &str = "SELECT it.seq, it.canonical, it.chain, before.chain
    FROM journal AS it LEFT JOIN journal AS before ON before.seq = it.seq - 1
    WHERE instr(it.canonical, x'000000000000000675706b656570') > 0 ORDER BY it.seq";

/// Every record of upkeep, each held against the record before it, in order.
pub(super) async fn all(connection: &mut SqliteConnection) -> Result<Vec<(i64, Upkeep)>> {
    let rows = sqlx::query(ALL).fetch_all(connection).await?;
    let mut all = Vec::new();
    for row in &rows {
        let (seq, canonical, link): (i64, &[u8], &[u8]) = (row.try_get(0)?, row.try_get(1)?, row.try_get(2)?);
        let before = row.try_get::<Option<&[u8]>, _>(3)?.map_or(Ok(Link::default()), Link::try_from);
        let before = Head { seq: seq - 1, link: before.map_err(|_| broken_at(seq))? };
        let fields = Fields::decode(canonical).filter(|fields| fields.seq == seq);
        let fields = fields.filter(|_| before.next(canonical).link == link).ok_or_else(|| broken_at(seq))?;
        let upkeep = Upkeep::of(&fields);
        let upkeep =
            upkeep.map_err(|unreadable| sqlx::Error::Protocol(format!("record {seq} {unreadable}")))?;
        all.extend(upkeep.map(|upkeep| (seq, upkeep)));
    }
    Ok(all)
}

fn broken_at(seq: i64) -> sqlx::Error {
    sqlx::Error::Protocol(format!("record {seq} {}", super::BROKEN))
}
