//! A copy of the journal that can be put back: taken beside a running server, proven before it is put in place.
//!
//! A backup is a folder that looks like a data folder: `journal.sqlite3`, `recipients.sqlite3` if there is one, and
//! with the keys `secret.key` and `signing.key`. `backup.signed` says what was in it: see [`manifest`]. Whoever has
//! journal and secret can tell whether an account they know is in it, so the keys are only taken along when that is
//! asked for.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use super::journal::chain::Head;
use super::proof::{Proven, Verifier};
use super::signing::Signer;
use super::{
    JOURNAL, LOCK, OpenError, SECRET, SIGNING, Store, chain_at, evidence, files, journal, manifest,
    recipients,
};
use crate::config;

fn failed(path: &Path, why: impl Into<String>) -> OpenError {
    OpenError::Folder { path: path.display().to_string(), why: why.into() }
}

/// Copies the journal of a data folder, as it is at one moment, into a new folder, beside a running server; with
/// its keys if wanted. The copy is verified, and durable when this returns.
///
/// # Errors
/// The folder is there already, or something cannot be read or written. What was begun is left.
pub fn backup(data_dir: &Path, to: &Path, with_keys: bool) -> Result<Proven, OpenError> {
    if to.exists() {
        return Err(failed(to, "is there already; a backup goes into a new folder"));
    }
    let written = |e: io::Error| failed(to, format!("cannot be written: {e}"));
    // Before the journal: what that needs, it needs already then.
    let keys = read_keys(data_dir, with_keys)?;
    files::make_folder(to).map_err(written)?;
    let copy = copy_journal(data_dir, to)?;
    recipients::copy(data_dir, to).map_err(written)?;
    if with_keys {
        for (name, key) in &keys {
            files::put(&to.join(name), key).map_err(written)?;
        }
    }
    if read_keys(data_dir, with_keys)? != keys {
        return Err(failed(to, "is of no use: a key was rotated while it was made. Take another"));
    }
    let (proven, head) = verified(to)?;
    let key = data_dir.join(SIGNING);
    let signer = Signer::load(&key).map_err(|e| failed(&key, format!("cannot be used: {e}")))?;
    let missing = "is missing, and what is in a backup is signed with it; restore it, or type `optgate keys new-signer`";
    manifest::write(to, &head, &signer.ok_or_else(|| failed(&key, missing))?).map_err(written)?;
    files::sync_folder_of(&copy).and_then(|()| files::sync_folder_of(to)).map_err(written)?;
    Ok(proven)
}

/// Copies a folder's journal into another, with what lies in its WAL; the copy is on the disk when this returns.
fn copy_journal(from: &Path, to: &Path) -> Result<PathBuf, OpenError> {
    let copy = to.join(JOURNAL);
    journal::audit::copy(&from.join(JOURNAL), &copy)?;
    fs::set_permissions(&copy, fs::Permissions::from_mode(0o600))
        .and_then(|()| File::open(&copy)?.sync_all())
        .map_err(|e| failed(to, format!("cannot be written: {e}")))?;
    Ok(copy)
}

/// The key files that a backup is signed by, and has in it.
fn read_keys(data_dir: &Path, with_keys: bool) -> Result<Vec<(&'static str, Vec<u8>)>, OpenError> {
    let read = |name| {
        let path = data_dir.join(name);
        match fs::read(&path) {
            Ok(key) => Ok(Some((name, key))),
            // Said where it is needed.
            Err(e) if e.kind() == io::ErrorKind::NotFound && !with_keys => Ok(None),
            Err(e) => Err(failed(&path, format!("cannot be read: {e}"))),
        }
    };
    [SECRET, SIGNING].into_iter().filter_map(|name| read(name).transpose()).collect()
}

/// Reads a whole folder as evidence: what is proven, and where it ends. What is signed must fit; that all of it is signed is
/// not asked for.
pub(super) fn verified(folder: &Path) -> Result<(Proven, Head), OpenError> {
    let mut verifier = Verifier::new(&[]);
    let mut unproven = None;
    let read = evidence(folder, &mut |item| {
        verifier.take(&item).map_err(|why| {
            unproven = Some(why);
            io::ErrorKind::InvalidData.into()
        })
    });
    match (unproven, read) {
        (Some(why), _) => Err(failed(folder, format!("is not what was written: {why}"))),
        (None, Err(error)) => Err(error),
        (None, Ok(())) => match verifier.sealed() {
            Ok(()) => Ok((verifier.so_far(), verifier.head())),
            Err(why) => Err(failed(folder, format!("is not what was written: {why}"))),
        },
    }
}

/// Puts a backup into a data folder that has no journal. The backup is opened and verified first, with the keys it
/// brings or else those of the data folder; the data folder is changed only when all is well. `force`: even where it is
/// not what it was when it was made, or nothing shows that.
///
/// # Errors
/// The data folder has a journal or is in use, a key is missing or another's, or the backup is damaged, or was cut.
pub fn restore(from: &Path, data_dir: &Path, force: bool) -> Result<Proven, OpenError> {
    let placed = data_dir.join(JOURNAL);
    let written = |e: io::Error| failed(data_dir, format!("cannot be written: {e}"));
    files::make_folder(data_dir).map_err(written)?;
    let _lock = super::lock(&data_dir.join(LOCK))?;
    let (told, stage) = (data_dir.join(recipients::FILE), data_dir.join("restoring"));
    // One that lies beside what was staged is of a restore that was broken off.
    let had_tasks = told.exists() && !stage.exists();
    for (there, file) in [(placed.exists(), &placed), (had_tasks, &told)] {
        if there {
            return Err(failed(file, "is there already; move it away, it is not overwritten"));
        }
    }
    let (proven, head) = verified(from)?;
    if !force {
        refuse_cut(from, data_dir, &proven, &head)?;
    }
    files::make_folder(&stage).map_err(written)?;
    // What one left that was broken off.
    let left = fs::read_dir(&stage).map_err(written)?;
    left.into_iter().try_for_each(|entry| fs::remove_file(entry?.path())).map_err(written)?;
    let done = place(from, &head, data_dir, &stage);
    if done.is_err() && !placed.exists() {
        files::remove(&told).map_err(written)?;
    }
    // Empty by then, or of no use.
    let _ = fs::remove_dir_all(&stage);
    done.map(|()| proven)
}

/// Refuses a backup that is not what it was when it was made, or of which nothing at all shows that it is.
fn refuse_cut(from: &Path, data_dir: &Path, proven: &Proven, head: &Head) -> Result<(), OpenError> {
    let refuse = |why: String| {
        let hint = "Take another backup; with --force what is left of this one is put in place";
        Err(failed(from, format!("{why}: it was cut or changed, and opt-outs may be missing. {hint}")))
    };
    let mut keys = [from, data_dir].into_iter().map(|folder| folder.join(SIGNING)).filter(|key| key.exists());
    let signer = match keys.next() {
        Some(key) => Signer::load(&key).map_err(|e| failed(&key, format!("cannot be used: {e}")))?,
        // Which is said where the keys are put in place.
        None => None,
    };
    let Some(signer) = signer else { return Ok(()) };
    let read = |e: io::Error| failed(from, format!("cannot be read: {e}"));
    if let Some(why) = manifest::differs(from, head, &signer.public()).map_err(read)? {
        return refuse(why);
    }
    // One of an earlier version, or the file was taken away.
    if !from.join(manifest::FILE).exists() && proven.records > 0 && proven.checkpoints == 0 {
        return refuse(format!(
            "has no {}, and none of its {} records is signed",
            manifest::FILE,
            proven.records
        ));
    }
    Ok(())
}

/// `head`: where the backup was proven to end.
fn place(from: &Path, head: &Head, data_dir: &Path, stage: &Path) -> Result<(), OpenError> {
    let written = |e: io::Error| failed(stage, format!("cannot be written: {e}"));
    let mut names = Vec::new();
    for name in [SECRET, SIGNING] {
        let (brought, there) = (fs::read(from.join(name)).ok(), fs::read(data_dir.join(name)).ok());
        let key = match (brought, there) {
            (Some(brought), Some(there)) if brought != there => {
                let why = "is another than the backup's; move away the one that is wrong";
                return Err(failed(&data_dir.join(name), why));
            }
            (_, Some(there)) => there,
            (Some(brought), None) => {
                names.push(name);
                brought
            }
            (None, None) => {
                let why =
                    "is neither in the backup nor in the data folder; put there the one that was kept apart";
                return Err(failed(&data_dir.join(name), why));
            }
        };
        files::put(&stage.join(name), &key).map_err(written)?;
    }
    copy_journal(from, stage)?;
    // The same checks as at a start: keys, every record, every account.
    let limits = config::Store { retention: None, ..config::Store::default() };
    let store = Store::open(stage, &limits)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(written)?;
    runtime.block_on(store.close());
    if head.seq > 0 && chain_at(stage, head.seq)? != Some(head.link) {
        return Err(failed(
            from,
            format!("changed while it was copied: record {} is not in the copy", head.seq),
        ));
    }
    files::remove(&stage.join(recipients::FILE)).map_err(written)?;
    let lacking = |error: String| {
        let hint = "Take another backup, or take that file out and type --force: who is still to be told of opt-outs is lost with it";
        failed(&from.join(recipients::FILE), format!("is not what was written ({error}). {hint}"))
    };
    recipients::copy(from, stage).map_err(|error| lacking(error.to_string()))?;
    recipients::check(stage).map_err(|error| lacking(error.to_string()))?;
    journal::mark::remove(&data_dir.join(JOURNAL)).map_err(written)?;
    super::packed::remove(&data_dir.join(JOURNAL)).map_err(written)?;
    recipients::restore(stage, data_dir).map_err(written)?;
    // The journal last: without it the folder is only keys, and the restore can be typed again.
    for name in names.into_iter().chain([JOURNAL]) {
        let place: PathBuf = data_dir.join(name);
        fs::rename(stage.join(name), &place).map_err(written)?;
        files::sync_folder_of(&place).map_err(written)?;
    }
    journal::mark::follow(&stage.join(JOURNAL), &data_dir.join(JOURNAL)).map_err(written)
}
