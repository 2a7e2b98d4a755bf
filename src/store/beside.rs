//! What is read from a data folder, or from the database that nodes share, beside a running server.

use std::fs;
use std::io;
use std::path::Path;

use super::{Count, Hold, JOURNAL, OpenError, PublicKey, RecordView, SECRET, SIGNING};
use super::{journal, keys, proof, reference, signing};
use crate::config;
use crate::privacy::Subject;

/// Refuses a data folder without a journal, and one that this user may not look into.
///
/// # Errors
/// Says which of the two.
pub fn require_journal(data_dir: &Path) -> Result<(), OpenError> {
    journal_there(&data_dir.join(JOURNAL))
}

/// As [`require_journal`], of the journal's file.
pub(super) fn journal_there(path: &Path) -> Result<(), OpenError> {
    let why = match fs::metadata(path) {
        Ok(meta) if meta.is_file() => return Ok(()),
        Ok(_) => "is no regular file; check --data-dir".to_owned(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            "there is no journal here; check --data-dir".to_owned()
        }
        Err(error) => {
            format!("cannot be looked at: {error}; type this as the user that the server runs as")
        }
    };
    Err(OpenError::Journal { path: path.display().to_string(), why })
}

/// Reads every record of a journal, in order, beside a running server (read-only connection). The
/// chain is verified on the way, and every column against it. Pruned records are left out.
///
/// # Errors
/// Names the file, and the first record that does not fit; [`OpenError::Output`] when `each` fails.
pub fn export(data_dir: &Path, each: &mut dyn FnMut(RecordView) -> io::Result<()>) -> Result<(), OpenError> {
    evidence(data_dir, &mut |item| match item.view() {
        Some(view) => each(view),
        None => Ok(()),
    })
}

/// As [`export`], everything that proves the journal: keys, records, checkpoints; see [`proof`].
///
/// # Errors
/// As [`export`].
pub fn evidence(
    data_dir: &Path,
    each: &mut dyn FnMut(proof::Item) -> io::Result<()>,
) -> Result<(), OpenError> {
    journal::audit::read(&data_dir.join(JOURNAL), each)
}

/// The record behind a reference, as a person types it, beside a running server; `None`: there is none that is not
/// pruned.
///
/// # Errors
/// The journal cannot be read.
pub fn record(data_dir: &Path, reference: &str) -> Result<Option<RecordView>, OpenError> {
    let Some(reference) = reference::normalise(reference) else { return Ok(None) };
    journal::audit::record(&data_dir.join(JOURNAL), &reference)
}

/// What proves one record alone, beside a running server.
///
/// # Errors
/// There is no such record, it is not signed yet, or the journal does not fit together.
pub fn inclusion(data_dir: &Path, reference: &str) -> Result<proof::Inclusion, OpenError> {
    let journal = data_dir.join(JOURNAL);
    let reference = reference::normalise(reference).ok_or_else(|| OpenError::Journal {
        path: journal.display().to_string(),
        why: format!("has no record {reference}: a reference is 16 letters and digits"),
    })?;
    journal::audit::inclusion(&journal, &reference)
}

/// How many changes came by the minute, oldest first, beside a running server; the last minute may be missing.
///
/// # Errors
/// The journal cannot be read.
pub fn counts(data_dir: &Path) -> Result<Vec<Count>, OpenError> {
    journal::audit::counts(&data_dir.join(JOURNAL))
}

/// Whether a record that is not pruned is of a site of this name. Cost: may read the whole journal.
///
/// # Errors
/// The journal cannot be read.
pub fn has_records_of(data_dir: &Path, site: &str) -> Result<bool, OpenError> {
    journal::audit::has_records_of(&data_dir.join(JOURNAL), site)
}

/// Legal holds of a data folder: what is not pruned. Works beside a running server.
///
/// # Errors
/// The journal cannot be read.
pub fn holds(data_dir: &Path) -> Result<Vec<Hold>, OpenError> {
    journal::hold::holds(&data_dir.join(JOURNAL))
}

/// Records tied to these accounts that are under a legal hold of a data folder. Works beside a running server.
///
/// # Errors
/// The journal cannot be read.
pub fn held_records(data_dir: &Path, subjects: &[Subject]) -> Result<u64, OpenError> {
    journal::hold::held_records(&data_dir.join(JOURNAL), subjects)
}

/// The public half of the key that signs a data folder's journal.
///
/// # Errors
/// The key file is not there or cannot be read.
pub fn public_key(data_dir: &Path) -> Result<PublicKey, OpenError> {
    let path = data_dir.join(SIGNING);
    let failed = |why: String| OpenError::Folder { path: path.display().to_string(), why };
    match signing::Signer::load(&path) {
        Ok(Some(signer)) => Ok(signer.public()),
        Ok(None) => Err(failed("is missing; it is made when a server first opens this data folder".into())),
        Err(error) => Err(failed(format!("cannot be used: {error}"))),
    }
}

/// The chain value of a record of a data folder, if it is there. Works beside a running server.
///
/// # Errors
/// The journal cannot be read.
pub fn chain_at(data_dir: &Path, seq: i64) -> Result<Option<[u8; 32]>, OpenError> {
    journal::audit::chain_at(&data_dir.join(JOURNAL), seq)
}

/// Reads every record of every node from the database that nodes share: by node, in its order. Each node's chain is
/// verified on the way, and every column against it. With the secret of a data folder, if it has one, also whose the
/// records are of which only the digest is left; `false`: it has none, so that was not looked at.
///
/// # Errors
/// Names the database, and the first record that does not fit, or says that its nodes have another secret;
/// [`OpenError::Output`] when `each` fails.
pub fn export_shared(
    url: &config::DatabaseUrl,
    data_dir: &Path,
    each: &mut dyn FnMut(RecordView) -> io::Result<()>,
) -> Result<bool, OpenError> {
    let path = data_dir.join(SECRET);
    // An auditor's machine need not have it, and none is made for this.
    let secret = path.exists().then(|| keys::load_or_create(&path, true)).transpose()?;
    let keys = secret.as_ref().map(|secret| (&secret.keys, &*secret.checks));
    journal::shared_audit::export(url, keys, each)?;
    Ok(secret.is_some())
}
