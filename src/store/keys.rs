//! The secret file: made once, never replaced silently.
//!
//! Subjects in the journal are hashes under this secret. With another secret every account opt-out
//! would stop matching its account, so a lost or exchanged key is an error somebody has to read.

use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use data_encoding::{BASE64, HEXLOWER};
use sha2::{Digest, Sha256};

use super::{OpenError, files};
use crate::privacy::Keys;

/// Bytes of the secret.
const SECRET_BYTES: usize = 32;

/// The secret's keys, and a check value that may be stored beside the journal.
pub(super) struct Secret {
    pub(super) keys: Keys,
    /// First 16 hex digits of a SHA-256 over the secret; tells two secrets apart and nothing more.
    pub(super) check: String,
}

impl Secret {
    fn of(bytes: &[u8; SECRET_BYTES]) -> Self {
        let hash = Sha256::new().chain_update(b"optgate key check v1").chain_update(bytes).finalize();
        Self { keys: Keys::derive(bytes), check: HEXLOWER.encode(&hash[..8]) }
    }
}

/// Makes the data folder (mode 0700) with its parents, if it is missing.
pub(super) fn make_folder(folder: &Path) -> Result<(), OpenError> {
    let failed = |why: String| OpenError::Folder { path: folder.display().to_string(), why };
    files::make_folder(folder)
        .map_err(|e| failed(format!("cannot make the data folder: {e}; choose another with --data-dir")))
}

/// Reads the secret, or makes it when neither it nor a journal exists yet.
pub(super) fn load_or_create(path: &Path, journal_exists: bool) -> Result<Secret, OpenError> {
    let failed = |why: String| OpenError::Folder { path: path.display().to_string(), why };
    match fs::read_to_string(path) {
        Ok(text) => {
            warn_if_shared(path);
            if !journal_exists {
                // The sync of its name may be what ended an earlier start; the journal's must not come first.
                files::sync_folder_of(path).map_err(|e| failed(format!("its folder cannot be synced: {e}")))?;
            }
            decode(&text).map(|bytes| Secret::of(&bytes)).ok_or_else(|| {
                failed(
                    "is not a secret of 32 bytes in base64; restore it from a backup. Account opt-outs in \
                     the journal can only be matched with it"
                        .into(),
                )
            })
        }
        Err(e) if e.kind() == io::ErrorKind::NotFound && journal_exists => Err(failed(
            "is missing, but there is a journal whose account opt-outs can only be matched with it; restore \
             it from a backup, or move the journal and journal.mark away to start anew (browsers keep their opt-outs, \
             accounts would lose theirs)"
                .into(),
        )),
        Err(e) if e.kind() == io::ErrorKind::NotFound => {
            create(path).map(|bytes| Secret::of(&bytes)).map_err(|e| failed(format!("cannot be made: {e}")))
        }
        Err(e) => {
            Err(failed(format!("cannot be read: {e}; it must be readable by the user Optgate runs as")))
        }
    }
}

fn decode(text: &str) -> Option<[u8; SECRET_BYTES]> {
    BASE64.decode(text.trim().as_bytes()).ok()?.try_into().ok()
}

/// Writes a new secret.
fn create(path: &Path) -> io::Result<[u8; SECRET_BYTES]> {
    let mut secret = [0; SECRET_BYTES];
    getrandom::fill(&mut secret).map_err(io::Error::other)?;
    files::put(path, format!("{}\n", BASE64.encode(&secret)).as_bytes())?;
    Ok(secret)
}

/// A secret others can read is worth a word, but no reason to stop: mounted secrets often are.
fn warn_if_shared(path: &Path) {
    if let Ok(meta) = fs::metadata(path)
        && meta.permissions().mode() & 0o077 != 0
    {
        let mode = format!("{:o}", meta.permissions().mode() & 0o777);
        tracing::warn!(path = %path.display(), mode, "secret readable by others; chmod 600 it");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_secret_is_made_once_and_read_back() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("secret.key");
        let made = load_or_create(&path, false).unwrap().check;
        assert_eq!(load_or_create(&path, true).unwrap().check, made);
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    }

    /// A new key in place of a lost one would silently drop every account opt-out.
    #[test]
    fn a_lost_or_damaged_key_is_never_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("secret.key");
        let error = load_or_create(&path, true).map(|s| s.check).unwrap_err().to_string();
        assert!(error.contains("secret.key") && error.contains("missing"), "{error}");
        assert!(!path.exists());
        fs::write(&path, "c2hvcnQ=").unwrap();
        let error = load_or_create(&path, false).map(|s| s.check).unwrap_err().to_string();
        assert!(error.contains("secret.key") && error.contains("32 bytes"), "{error}");
        assert_eq!(fs::read_to_string(&path).unwrap(), "c2hvcnQ=");
    }
}
