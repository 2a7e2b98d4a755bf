//! A journal just opened: checked, migrated and read, before anybody works with it.

use std::path::Path;

use sqlx::sqlite::SqliteConnection;

use super::chain::Head;
use super::kept::Kept;
use super::mark::{self, Mark};
use super::noted::{self, Noted};
use super::replay::{Fold, Look, is_there, of_another, read_records};
use super::schema::{self, SEALED, configure, migrate, refuse_damage, refuse_strangers, schema_version};
use super::seal::Seal;
use super::secrets::{self, live_since, refuse_other};
use super::signed::{Unsigned, last_checkpoint};
use super::upkeep::{By, Deed, Upkeep};
use super::{explain, refuse, signers, wal};
use crate::store::signing::Signer;
use crate::store::{OpenError, files};

/// What is known of a journal just opened.
pub(super) struct Prepared {
    pub(super) node: String,
    pub(super) live_since: i64,
    pub(super) signer: Signer,
    pub(super) end: End,
    pub(super) mark: Mark,
}

/// Where a journal ends, and what of it is not signed.
pub(super) struct End {
    pub(super) head: Head,
    pub(super) unsigned: Unsigned,
    /// Records of upkeep, which are no choices.
    pub(super) upkeep: u64,
}

impl End {
    /// A record of upkeep is committed, if there was something to say.
    pub(super) fn take(&mut self, noted: Option<Noted>) {
        let Some(Noted { head, digest }) = noted else { return };
        self.head = head;
        self.unsigned.push(head.seq, || digest);
        self.upkeep += 1;
    }
}

/// Checks, migrates and reads a journal just opened.
pub(super) async fn prepare(
    path: &Path,
    connection: &mut SqliteConnection,
    (key_checks, signing_key): (&[String], &Path),
    marked: Option<Head>,
    fold: &mut dyn Fold,
) -> Result<Prepared, OpenError> {
    let named = |e: sqlx::Error| explain(path, &e);
    refuse_damage(path, connection).await?;
    refuse_strangers(path, connection).await?;
    wal::write_again(path, connection).await.map_err(named)?;
    let live = key_checks.first().map_or("", String::as_str);
    let node = migrate(connection, live).await.map_err(named)?;
    configure(connection).await.map_err(named)?;
    refuse_other(path, connection, key_checks).await?;
    let signer = signers::of_journal(path, connection, signing_key).await?;
    let checkpoint = last_checkpoint(connection).await.map_err(named)?;
    let signed = checkpoint.as_ref().map_or_else(Head::default, |checkpoint| checkpoint.head);
    // A start that reads only what came after the index's file holds the last record that is signed against the name.
    if let Some(other) = checkpoint.as_ref().filter(|checkpoint| checkpoint.node != node) {
        return Err(refuse(path, of_another(other.head.seq, &other.node, &node)));
    }
    let Whole { mut end, upkeep, left } = read(path, connection, (&node, &signed), fold).await?;
    let all_told = secrets::check(path, connection, &upkeep).await?;
    mark::refuse_other(path, connection, marked.as_ref(), &end.head).await?;
    if marked.is_none() && end.head.seq > 0 {
        tracing::warn!(
            path = %path.display(),
            records = end.head.seq,
            "journal.mark is gone or empty: whether the journal has lost records at its end cannot be told"
        );
    }
    let mut mark = Mark::open(path)?;
    // From here on it is what it should be, and may be written.
    if schema_version(connection).await.map_err(named)? < SEALED {
        end.take(schema::seal(connection, &node, &end.head).await.map_err(named)?);
    }
    schema::migrate_on(connection).await.map_err(named)?;
    schema::put_triggers_back(path, connection).await.map_err(named)?;
    if let Some(untied) = left {
        let deed = Deed::Left { untied };
        let noted = noted::note(connection, &node, &end.head, (By::Start, &deed, &Seal::default())).await;
        end.take(Some(noted.map_err(named)?));
    }
    let (live_since, noted) = live_since(connection, live, (&node, &end.head)).await.map_err(named)?;
    end.take(noted);
    if !all_told {
        end.take(Some(secrets::note_list(connection, &node, &end.head).await.map_err(named)?));
    }
    let told = upkeep.iter().rev().find_map(|(_, upkeep)| upkeep.signer.as_deref());
    let before = told.or(checkpoint.as_ref().map(|checkpoint| checkpoint.key.as_str()));
    if before.is_some_and(|before| before != signer.public().id()) {
        let deed = Deed::Signer { key: signer.public().id() };
        let noted = noted::note(connection, &node, &end.head, (By::Start, &deed, &Seal::default())).await;
        end.take(Some(noted.map_err(named)?));
    }
    // Only now, because the first look made the WAL: SQLite syncs the folder for it too, and does not look whether
    // that failed.
    files::sync_folder_of(path).map_err(|e| refuse(path, format!("its folder cannot be synced: {e}")))?;
    mark.set(&end.head);
    Ok(Prepared { node, live_since, signer, end, mark })
}

/// What a journal comes to.
struct Whole {
    end: End,
    /// Its records of upkeep.
    upkeep: Vec<(i64, Upkeep)>,
    /// How many records are tied to no account any more, where that is known now and the records of upkeep leave it open.
    left: Option<u64>,
}

/// Reads what is in the journal, verifies it and hands it to `fold`.
///
/// Cost: a few instructions a record that is read, beside its two hashes; 8 bytes for each that is untied.
async fn read(
    path: &Path,
    connection: &mut SqliteConnection,
    (node, signed): (&str, &Head),
    fold: &mut dyn Fold,
) -> Result<Whole, OpenError> {
    let named = |e: sqlx::Error| explain(path, &e);
    let mut unsigned = Unsigned::after(signed.seq);
    let known_to = match fold.known_to() {
        Some(known) if is_there(connection, &known, signed).await.map_err(named)? && fold.resume() => known,
        _ => Head::default(),
    };
    if known_to.seq > signed.seq {
        unsigned.read_to(connection, known_to.seq).await.map_err(named)?;
    }
    let schema = schema_version(connection).await.map_err(named)?;
    let sealed = schema >= SEALED;
    let mut kept = match sealed {
        true => Kept::read(path, connection).await?,
        false => Kept::read_unsealed(path, connection).await?,
    };
    let accounts = std::mem::take(&mut kept.accounts);
    accounts.iter().for_each(|(subject, standing, seq)| fold.stood(*subject, *standing, *seq));
    let mut look = Look::at(node, schema);
    let head = read_records(path, connection, known_to, (signed, &mut unsigned), (&mut look, fold)).await?;
    // After the records: what is wrong with those comes first.
    let untied = look.untied.len() as u64;
    let (upkeep, vague) = match sealed {
        true => kept.check(path, connection, look.untied).await?,
        false => (Vec::new(), false),
    };
    let left = (vague && known_to.seq == 0).then_some(untied);
    accounts.into_iter().for_each(|(subject, standing, seq)| fold.suppressed(subject, standing, seq));
    let end = End { head, unsigned, upkeep: upkeep.len() as u64 };
    Ok(Whole { end, upkeep, left })
}
