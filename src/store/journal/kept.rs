//! What is kept of accounts whose records were forgotten: that they are opted out, by their hash alone; and what seals it.
//!
//! A row is one word about one account. It is never taken out and never changed but in one way: when a later word comes,
//! or nothing is to be kept any more, it gives what it says for its digest, so that it leads to nobody. Whichever is done,
//! the record of the order that does it ([`super::upkeep`]) tells of exactly the rows that it put in and of those that it
//! emptied: their number, and a digest over them in the order of their ids. So the chain and what signs it stand for these
//! rows as for records.
//!
//! ```text
//! leaf   = SHA-256( "optgate kept v1" | blinding 16 bytes | subject 16 bytes | seq 8 bytes big endian
//!                   | field( standing ) | field( key_check ) )                fields as in `chain`
//! digest = SHA-256( leaf | leaf | ... )
//!
//! row: id · subject, blinding, standing, seq, key_check · seal              the record that put it in
//!      id · digest, its leaf · seal · gone                                  the record that emptied it
//! ```
//!
//! The blinding is random, new for every row: without it a leaf cannot be held against an account, not even with the
//! secret. A whole row of an account that is not opted out does not exist, and an account has one at most.

use std::path::Path;

use data_encoding::HEXUPPER;
use sha2::{Digest as _, Sha256};
use sqlx::sqlite::SqliteConnection;
use sqlx::{Result, Row as _};

use super::chain::{Account, BLINDING, Fields, Head, Link, put};
use super::forget::word;
use super::noted::{self, Noted};
use super::seal::{Growing, Left, Seal, Seals, unsealed};
use super::upkeep::{By, Deed, Upkeep};
use super::{explain, refuse};
use crate::privacy::{Standing, Subject};
use crate::store::OpenError;

/// Says what a leaf is over.
const LEAF: &[u8] = b"optgate kept v1";

fn leaf(subject: &[u8], blinding: &[u8], seq: i64, standing: &[u8], key_check: &[u8]) -> Link {
    let mut bytes = Vec::with_capacity(128);
    for part in [LEAF, blinding, subject, &seq.to_be_bytes()] {
        bytes.extend_from_slice(part);
    }
    put(&mut bytes, standing);
    put(&mut bytes, key_check);
    Sha256::digest(&bytes).into()
}

/// The rows of one record, while its transaction is under way.
#[derive(Debug)]
pub(super) struct Sealing {
    /// That record.
    seal: i64,
    kept: Growing,
    dropped: Vec<(i64, Link)>,
}

impl Sealing {
    /// Of the record with this number.
    pub(super) fn by(seal: i64) -> Self {
        Self { seal, kept: Growing::default(), dropped: Vec::new() }
    }

    /// The latest word about an account: how it stood at record `seq`. Where nothing is to be kept, nothing is left of
    /// what was.
    pub(super) async fn word(
        &mut self,
        connection: &mut SqliteConnection,
        (subject, standing): (&Subject, Standing),
        seq: i64,
        key_check: &str,
    ) -> Result<()> {
        // A second word about an account keeps the secret of the first: by then no record tells it.
        let earlier = self.drop_word(connection, subject).await?;
        let Some(word) = word(standing) else { return Ok(()) };
        let key_check = earlier.as_deref().unwrap_or(key_check);
        self.put(connection, subject, word, (seq, key_check)).await
    }

    /// Puts a row in.
    pub(super) async fn put(
        &mut self,
        connection: &mut SqliteConnection,
        subject: &Subject,
        standing: &str,
        (seq, key_check): (i64, &str),
    ) -> Result<()> {
        let mut blinding = [0; BLINDING];
        getrandom::fill(&mut blinding).map_err(|e| sqlx::Error::Io(std::io::Error::other(e)))?;
        let leaf = leaf(subject.as_bytes(), &blinding, seq, standing.as_bytes(), key_check.as_bytes());
        sqlx::query(
            "INSERT INTO suppression (subject, blinding, standing, seq, key_check, seal) VALUES (?, ?, ?, ?, ?, ?)",
        )
        .bind(subject.as_bytes().to_vec())
        .bind(blinding.to_vec())
        .bind(standing.to_owned())
        .bind(seq)
        .bind(key_check.to_owned())
        .bind(self.seal)
        .execute(connection)
        .await?;
        self.kept.push(&leaf);
        Ok(())
    }

    /// Empties the account's row, if there is one; the secret that it named.
    async fn drop_word(
        &mut self,
        connection: &mut SqliteConnection,
        subject: &Subject,
    ) -> Result<Option<String>> {
        let row =
            sqlx::query("SELECT id, blinding, seq, standing, key_check FROM suppression WHERE subject = ?")
                .bind(subject.as_bytes().to_vec())
                .fetch_optional(&mut *connection)
                .await?;
        let Some(row) = row else { return Ok(None) };
        let (id, blinding): (i64, &[u8]) = (row.try_get(0)?, row.try_get(1)?);
        let (standing, key_check): (&str, &str) = (row.try_get(3)?, row.try_get(4)?);
        let seq = row.try_get(2)?;
        let leaf = leaf(subject.as_bytes(), blinding, seq, standing.as_bytes(), key_check.as_bytes());
        sqlx::query(
            "UPDATE suppression SET subject = NULL, blinding = NULL, standing = NULL, seq = NULL, key_check = NULL,
             digest = ?, gone = ? WHERE id = ?",
        )
        .bind(leaf.to_vec())
        .bind(self.seal)
        .bind(id)
        .execute(connection)
        .await?;
        self.dropped.push((id, leaf));
        Ok(Some(key_check.to_owned()))
    }

    /// What its record is to say.
    pub(super) fn done(mut self) -> Seal {
        self.dropped.sort_unstable();
        let mut dropped = Growing::default();
        self.dropped.iter().for_each(|(_, leaf)| dropped.push(leaf));
        Seal { kept: self.kept.tally(), dropped: dropped.tally() }
    }
}

/// A row as it stands there.
#[derive(Debug)]
pub(super) struct Row {
    /// The record that put it in, and the one that emptied it.
    pub(super) seal: i64,
    pub(super) gone: Option<i64>,
    pub(super) leaf: Link,
    /// Whose it is, how the account stood (`None` for a word that is not known here) and at which record.
    pub(super) account: Option<(Subject, Option<Standing>, i64)>,
}

/// A page of rows after an id, in order, and the last id; `None` at the end.
///
/// SQLite packs them into one text, as it does records: see `replay`.
pub(super) async fn rows_after(
    connection: &mut SqliteConnection,
    id: i64,
) -> Result<Option<(Vec<Row>, i64)>> {
    let page = sqlx::query(
        "SELECT group_concat(
            printf('%016X%016X', seal, coalesce(gone, 0)) || CASE WHEN gone IS NULL
            THEN printf('%016X', coalesce(seq, 0)) || hex(subject) || hex(blinding)
                 || printf('%08X', length(standing)) || hex(standing) || hex(key_check)
            ELSE hex(digest) END), max(id) FROM
         (SELECT * FROM suppression WHERE id > ? ORDER BY id LIMIT 1024)",
    )
    .bind(id)
    .fetch_one(connection)
    .await?;
    let (Some(page), Some(last)) = (page.try_get::<Option<&str>, _>(0)?, page.try_get(1)?) else {
        return Ok(None);
    };
    let mut bytes = Vec::new();
    let rows: Option<Vec<Row>> = page.split(',').map(|row| unpack(row, &mut bytes)).collect();
    rows.map(|rows| Some((rows, last))).ok_or_else(|| sqlx::Error::Protocol(UNREADABLE.into()))
}

/// Said of a row that no version has written like this.
const UNREADABLE: &str = "an account that is kept by its hash alone cannot be read: it was changed after it was written. \
                          Restore the journal from a backup and keep this file: it is evidence";

fn unpack(digits: &str, bytes: &mut Vec<u8>) -> Option<Row> {
    bytes.resize(HEXUPPER.decode_len(digits.len()).ok()?, 0);
    HEXUPPER.decode_mut(digits.as_bytes(), bytes).ok()?;
    let mut rest = bytes.as_slice();
    let seal = take_number(&mut rest)?;
    let gone = Some(take_number(&mut rest)?).filter(|gone| *gone != 0);
    if gone.is_some() {
        return Some(Row { seal, gone, leaf: rest.try_into().ok()?, account: None });
    }
    let seq = take_number(&mut rest)?;
    let (subject, rest) = rest.split_first_chunk::<16>()?;
    let (blinding, rest) = rest.split_first_chunk::<BLINDING>()?;
    let (length, rest) = rest.split_first_chunk::<4>()?;
    let (standing, key_check) = rest.split_at_checked(u32::from_be_bytes(*length) as usize)?;
    let leaf = leaf(subject, blinding, seq, standing, key_check);
    let account = (Subject::from_bytes(*subject), read_word(standing), seq);
    Some(Row { seal, gone: None, leaf, account: Some(account) })
}

fn take_number(rest: &mut &[u8]) -> Option<i64> {
    let (number, after) = rest.split_first_chunk()?;
    *rest = after;
    Some(i64::from_be_bytes(*number))
}

fn read_word(word: &[u8]) -> Option<Standing> {
    match word {
        b"opted-out" => Some(Standing::OptedOut),
        b"opted-out-by-import" => Some(Standing::OptedOutByImport),
        _ => None,
    }
}

/// What a start reads of the accounts that are kept.
#[derive(Debug, Default)]
pub(super) struct Kept {
    pub(super) accounts: Vec<(Subject, Standing, i64)>,
    seals: Seals,
}

impl Kept {
    /// Reads them; what they are is not shown before [`Kept::check`].
    pub(super) async fn read(path: &Path, connection: &mut SqliteConnection) -> Result<Self, OpenError> {
        let named = |e: sqlx::Error| explain(path, &e);
        let (mut kept, mut last) = (Self::default(), 0);
        while let Some((rows, end)) = rows_after(connection, last).await.map_err(named)? {
            last = end;
            for row in rows {
                kept.seals.find(row.seal, row.gone, &row.leaf);
                let Some((subject, standing, seq)) = row.account else { continue };
                // A word that nobody wrote does not bear its seal either.
                kept.accounts.push((subject, standing.unwrap_or(Standing::OptedOut), seq));
            }
        }
        Ok(kept)
    }

    /// Holds them against the records, which are those of the chain; those records of upkeep, and whether they leave open
    /// how many records are untied. `untied`: those among the records that were read.
    pub(super) async fn check(
        mut self,
        path: &Path,
        connection: &mut SqliteConnection,
        untied: Vec<i64>,
    ) -> Result<(Vec<(i64, Upkeep)>, bool), OpenError> {
        let named = |e: sqlx::Error| explain(path, &e);
        let all = noted::all(connection).await.map_err(named)?;
        all.iter().for_each(|(seq, upkeep)| self.seals.say(*seq, upkeep));
        let pruned = pruned(connection).await.map_err(named)?;
        self.seals.check(&Left { pruned, untied }).map_err(|why| unsealed(path, &why))?;
        Ok((all, self.seals.is_vague()))
    }

    /// As [`Kept::read`], before rows were sealed.
    pub(super) async fn read_unsealed(
        path: &Path,
        connection: &mut SqliteConnection,
    ) -> Result<Self, OpenError> {
        let named = |e: sqlx::Error| explain(path, &e);
        let (mut kept, mut last) = (Self::default(), Vec::new());
        loop {
            let rows = earlier_after(connection, EARLIER_ROWS, &last).await.map_err(named)?;
            let Some(row) = rows.last() else { return Ok(kept) };
            last = row.subject.as_bytes().to_vec();
            for row in rows {
                let standing = read_word(row.standing.as_bytes());
                let standing = standing.ok_or_else(|| refuse(path, UNREADABLE))?;
                kept.accounts.push((row.subject, standing, row.seq));
            }
        }
    }
}

pub(super) const PRUNED: &str = "SELECT count(*) FROM journal WHERE digest IS NOT NULL";

/// Records of which only the digest is left.
pub(super) async fn pruned(connection: &mut SqliteConnection) -> Result<u64> {
    sqlx::query_scalar(PRUNED).fetch_one(connection).await.map(i64::unsigned_abs)
}

/// Whole records that have lost what tied them to an account. Reads all that are tied to none.
async fn untied(connection: &mut SqliteConnection) -> Result<u64> {
    let (mut untied, mut last) = (0, 0_i64);
    loop {
        let rows = sqlx::query(
            "SELECT seq, canonical FROM journal WHERE seq > ? AND subject IS NULL AND canonical IS NOT NULL
             ORDER BY seq LIMIT 1024",
        );
        let rows = rows.bind(last).fetch_all(&mut *connection).await?;
        let Some(row) = rows.last() else { return Ok(untied) };
        last = row.try_get(0)?;
        for row in &rows {
            let account = Fields::decode(row.try_get(1)?).and_then(|fields| fields.account(None, None));
            untied += u64::from(account == Some(Account::Erased));
        }
    }
}

/// A row as it was before rows were sealed.
struct Earlier {
    subject: Subject,
    standing: String,
    seq: i64,
    key_check: String,
}

const EARLIER_ROWS: &str =
    "SELECT subject, standing, seq, key_check FROM suppression WHERE subject > ? ORDER BY subject LIMIT 1024";

/// The same, once the table has given its name to the one that is sealed.
const EARLIER_ROWS_ASIDE: &str = "SELECT subject, standing, seq, key_check FROM suppression_before WHERE subject > ? ORDER BY subject LIMIT 1024";

async fn earlier_after(
    connection: &mut SqliteConnection,
    query: &'static str,
    subject: &[u8],
) -> Result<Vec<Earlier>> {
    let rows = sqlx::query(query).bind(subject).fetch_all(connection).await?;
    let unreadable = || sqlx::Error::Protocol(UNREADABLE.into());
    let earlier = |row: &sqlx::sqlite::SqliteRow| {
        let subject = row.try_get::<&[u8], _>(0)?.try_into().map_err(|_| unreadable())?;
        Ok(Earlier {
            subject: Subject::from_bytes(subject),
            standing: row.try_get(1)?,
            seq: row.try_get(2)?,
            key_check: row.try_get(3)?,
        })
    };
    rows.iter().map(earlier).collect()
}

/// Seals what an earlier version kept of accounts, and says how many records it had pruned, in the transaction that
/// brings the schema to where rows are sealed. What was done to them before that, nothing shows.
pub(super) async fn seal_earlier(
    connection: &mut SqliteConnection,
    node: &str,
    head: &Head,
) -> Result<Option<Noted>> {
    let (mut sealing, mut last) = (Sealing::by(head.seq + 1), Vec::new());
    loop {
        let rows = earlier_after(connection, EARLIER_ROWS_ASIDE, &last).await?;
        let Some(row) = rows.last() else { break };
        last = row.subject.as_bytes().to_vec();
        for Earlier { subject, standing, seq, key_check } in &rows {
            sealing.put(connection, subject, standing, (*seq, key_check)).await?;
        }
    }
    sqlx::query("DROP TABLE suppression_before").execute(&mut *connection).await?;
    let (seal, pruned, untied) = (sealing.done(), pruned(connection).await?, untied(connection).await?);
    if seal.is_empty() && pruned == 0 && untied == 0 {
        return Ok(None);
    }
    let deed = Deed::Seal { pruned, untied };
    let noted = noted::note(connection, node, head, (By::Start, &deed, &seal)).await?;
    Ok(Some(noted))
}
