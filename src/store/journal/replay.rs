//! A journal read from a record on, in order: its chain verified, every record handed to who makes something of it.

use std::path::Path;

use data_encoding::HEXUPPER;
use sqlx::sqlite::SqliteConnection;
use sqlx::{Result, Row};

use super::chain::{self, Account, BLINDING, Fields, Head, Link};
use super::schema::TIMELESS;
use super::seal::EVIDENCE;
use super::signed::Unsigned;
use super::upkeep;
use super::{BROKEN, explain, refuse};
use crate::privacy::{Standing, Subject};
use crate::store::OpenError;
use crate::store::record::{Kind, Source};

/// What a start makes of a journal.
pub(in crate::store) trait Fold: Send {
    /// The record up to which everything may be known without being read; `None`: nothing is.
    fn known_to(&self) -> Option<Head> {
        None
    }

    /// That record is in the journal. Whether everything up to it is known: then only what follows is read.
    fn resume(&mut self) -> bool {
        false
    }

    /// Before all records: an account whose records up to `seq` are pruned or erased, and how it stood then. What is
    /// recorded later was chosen in front of that.
    fn stood(&mut self, _subject: Subject, _standing: Standing, _seq: i64) {}

    /// A record, in order. `account` is whose it is.
    fn record(&mut self, fields: &Fields<'_>, account: Account);

    /// The same accounts, after all records.
    fn suppressed(&mut self, subject: Subject, standing: Standing, seq: i64);
}

/// A record that is in the journal though its commit reported an error.
pub(in crate::store) struct Found {
    pub(in crate::store) subject: Option<Subject>,
    /// Which choice; `None` for what is none.
    pub(in crate::store) kind: Option<Kind>,
    /// It is about the journal itself.
    pub(in crate::store) upkeep: bool,
    pub(in crate::store) source: Option<Source>,
    pub(in crate::store) seq: i64,
}

impl Fold for Vec<Found> {
    fn record(&mut self, fields: &Fields<'_>, account: Account) {
        let subject = if let Account::Known(subject) = account { Some(subject) } else { None };
        let (kind, source) = (Kind::parse(fields.kind), Source::parse(fields.signal));
        let upkeep = fields.kind == upkeep::KIND;
        self.push(Found { subject, kind, upkeep, source, seq: fields.seq });
    }

    /// Only a start reads those.
    fn suppressed(&mut self, _: Subject, _: Standing, _: i64) {}
}

/// What is looked for in the records on the way.
#[derive(Debug, Default)]
pub(super) struct Look<'a> {
    /// Whose journal it is, where that is to be held against the records.
    node: Option<&'a str>,
    /// Pruned records may have a time beside their digest, as earlier versions left it.
    timed: bool,
    /// Whole records that have lost what tied them to an account, by their numbers.
    pub(super) untied: Vec<i64>,
    /// Who wrote a record that is another's.
    stranger: Option<String>,
}

impl<'a> Look<'a> {
    /// At a journal that calls itself by this name and has this schema.
    pub(super) fn at(node: &'a str, schema: usize) -> Self {
        Self { node: Some(node), timed: schema < TIMELESS, ..Self::default() }
    }
}

/// Reads all records after a head in order, verifies the chain, returns its new head.
///
/// One row a record would pass two threads' queue and half a dozen allocations each; so SQLite packs
/// a page of records into one text, in hexadecimal because only text is joined by its rules. It also looks whether the
/// reference beside a record is the one that its bytes end with.
pub(super) async fn read_records(
    path: &Path,
    connection: &mut SqliteConnection,
    mut head: Head,
    (signed, unsigned): (&Head, &mut Unsigned),
    (look, fold): (&mut Look<'_>, &mut dyn Fold),
) -> Result<Head, OpenError> {
    let mut bytes = Vec::new();
    loop {
        let page: Option<String> = sqlx::query(
            "SELECT group_concat(
                CASE WHEN canonical IS NULL THEN 'P'
                     WHEN substr(hex(canonical), -8 - 2 * length(reference))
                          IS NOT printf('%08X', length(reference)) || hex(reference) THEN 'X'
                     WHEN blinding IS NOT NULL THEN 'B' WHEN subject IS NOT NULL THEN 'S' ELSE 'N' END
                || printf('%016X', time_us) || hex(chain) || hex(subject) || hex(blinding)
                || hex(coalesce(canonical, digest))) FROM
             (SELECT time_us, reference, chain, subject, blinding, canonical, digest FROM journal
              WHERE seq > ? ORDER BY seq LIMIT 1024)",
        )
        .bind(head.seq)
        .fetch_one(&mut *connection)
        .await
        .and_then(|row| row.try_get(0))
        .map_err(|e| explain(path, &e))?;
        let Some(page) = page else { break };
        for record in page.split(',') {
            let next = follow(&head, record, &mut bytes, unsigned, (look, fold));
            // What was signed stands above what the rows say among themselves.
            let next = next.filter(|next| next.seq != signed.seq || next == signed);
            head = next.ok_or_else(|| match (look.node, &look.stranger) {
                (Some(node), Some(stranger)) => refuse(path, of_another(head.seq + 1, stranger, node)),
                _ => refuse(path, format!("record {} {BROKEN}", head.seq + 1)),
            })?;
        }
    }
    if head.seq < signed.seq {
        let (have, had) = (head.seq, signed.seq);
        return Err(refuse(path, format!("ends with record {have}, but record {had} was signed: {LOST}")));
    }
    Ok(head)
}

/// Why a record is refused whose node is not the one that the journal names as its own.
pub(super) fn of_another(seq: i64, wrote: &str, node: &str) -> String {
    format!(
        "record {seq} was written by node {wrote}, and the journal calls itself node {node}: its name was changed, in \
         which other nodes would take its records for another's. {EVIDENCE}"
    )
}

/// What to do about records that were signed and are not there.
const LOST: &str = "what came after it is lost. Restore the journal from a backup and keep this file: it is \
                    evidence";

/// The head after a record as [`read_records`] packs it; `None` when it does not follow. `bytes` is room to
/// work in.
fn follow(
    head: &Head,
    record: &str,
    bytes: &mut Vec<u8>,
    unsigned: &mut Unsigned,
    (look, fold): (&mut Look<'_>, &mut dyn Fold),
) -> Option<Head> {
    let (shape, digits) = record.split_at_checked(1)?;
    bytes.resize(HEXUPPER.decode_len(digits.len()).ok()?, 0);
    HEXUPPER.decode_mut(digits.as_bytes(), bytes).ok()?;
    let (time_us, rest) = bytes.split_first_chunk()?;
    let time_us = i64::from_be_bytes(*time_us);
    let (link, rest) = rest.split_first_chunk::<32>()?;
    let (subject, blinding, canonical) = match shape {
        "P" => {
            let digest: Link = rest.try_into().ok()?;
            let next = head.next_digest(&digest);
            unsigned.push(next.seq, || digest);
            let timeless = look.timed || time_us == 0;
            return (timeless && *link == next.link).then_some(next);
        }
        "B" => {
            let (subject, rest) = rest.split_at_checked(16)?;
            let (blinding, canonical) = rest.split_at_checked(BLINDING)?;
            (Some(subject), Some(blinding), canonical)
        }
        "S" => {
            let (subject, canonical) = rest.split_at_checked(16)?;
            (Some(subject), None, canonical)
        }
        "N" => (None, None, rest),
        _ => return None,
    };
    let next = head.next(canonical);
    let fields = Fields::decode(canonical)?;
    let account = fields.account(subject, blinding)?;
    if look.node.is_some_and(|node| fields.node != node) && *link == next.link {
        look.stranger = Some(fields.node.to_owned());
        return None;
    }
    look.untied.extend((account == Account::Erased).then_some(next.seq));
    (fields.seq == next.seq && fields.time_us == time_us && *link == next.link).then(|| {
        fold.record(&fields, account);
        unsigned.push(next.seq, || chain::digest(canonical));
        next
    })
}

pub(super) async fn read_head(connection: &mut SqliteConnection) -> Result<Head> {
    let row = sqlx::query("SELECT seq, chain FROM journal ORDER BY seq DESC LIMIT 1")
        .fetch_optional(connection)
        .await?;
    let Some(row) = row else { return Ok(Head::default()) };
    let link = row.try_get::<&[u8], _>(1)?.try_into();
    Ok(Head { seq: row.try_get(0)?, link: link.map_err(|_| sqlx::Error::Protocol(BROKEN.into()))? })
}

/// Whether a journal that was signed up to a record holds that record, and another.
pub(super) async fn is_there(connection: &mut SqliteConnection, known: &Head, signed: &Head) -> Result<bool> {
    for head in [known, signed].into_iter().filter(|head| head.seq > 0) {
        if link_of(connection, head.seq).await? != Some(head.link) {
            return Ok(false);
        }
    }
    Ok(true)
}

/// The chain value of a record.
pub(super) async fn link_of(connection: &mut SqliteConnection, seq: i64) -> Result<Option<Link>> {
    let link: Option<Vec<u8>> = sqlx::query_scalar("SELECT chain FROM journal WHERE seq = ?")
        .bind(seq)
        .fetch_optional(connection)
        .await?;
    Ok(link.and_then(|link| link.try_into().ok()))
}
