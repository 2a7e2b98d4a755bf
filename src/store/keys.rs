//! The secret file: made once, never replaced silently.
//!
//! One secret a line, in base64. The first one signs cookies and hashes accounts; those after it are earlier ones,
//! newest first, under which browsers and accounts are still known: `optgate keys rotate` puts a new one in front,
//! `optgate keys retire` takes the earlier ones away once nobody needs them. A line with `next` in front has one that is
//! only tried as yet, like those: `optgate keys rotate --next` makes it, the next `rotate` puts it in front. So several nodes
//! can all know a secret before the first of them uses it.
//!
//! Subjects in the journal are hashes under this secret. With another secret every account opt-out
//! would stop matching its account, so a lost or exchanged key is an error somebody has to read.

use std::fs;
use std::io;
use std::path::Path;

use data_encoding::{BASE64, HEXLOWER};
use sha2::{Digest, Sha256};

use super::{OpenError, files};
use crate::privacy::Keys;

/// Bytes of the secret.
const SECRET_BYTES: usize = 32;

/// The secrets' keys, and check values that may be stored beside the journal.
pub(super) struct Secret {
    pub(super) keys: Keys,
    /// One a secret, in the file's order: the first 16 hex digits of a SHA-256 over it; tells two secrets apart
    /// and nothing more.
    pub(super) checks: Vec<String>,
    lines: Vec<[u8; SECRET_BYTES]>,
    /// The second is the next one.
    next: bool,
}

/// Before a secret that is not to be used yet.
const NEXT: &str = "next ";

impl Secret {
    fn of(first: [u8; SECRET_BYTES], older: &[[u8; SECRET_BYTES]], next: bool) -> Self {
        let check = |bytes: &[u8; SECRET_BYTES]| {
            let hash = Sha256::new().chain_update(b"optgate key check v1").chain_update(bytes).finalize();
            HEXLOWER.encode(&hash[..8])
        };
        let lines = [&[first], older].concat();
        let checks = lines.iter().map(check).collect();
        Self { keys: Keys::derive(&first).with_older(older), checks, lines, next }
    }

    /// Whether the second is one that is to be used next.
    pub(super) const fn has_next(&self) -> bool {
        self.next
    }

    /// Puts the next secret in front, or a new one where there is none; durable when this returns. A process that runs goes
    /// on with what it has read.
    pub(super) fn rotate(&self, path: &Path) -> io::Result<Self> {
        let rotated = match self.lines.as_slice() {
            [live, next, earlier @ ..] if self.next => Self::of(*next, &[&[*live], earlier].concat(), false),
            all => Self::of(fresh()?, all, false),
        };
        rotated.save(path)?;
        Ok(rotated)
    }

    /// Puts a new secret behind the first, to be used next; durable when this returns.
    pub(super) fn prepare(&self, path: &Path) -> io::Result<Self> {
        let [live, earlier @ ..] = self.lines.as_slice() else { return Err(io::Error::other("is empty")) };
        if self.next {
            return Err(io::Error::other(
                "there is a next secret already; `optgate keys rotate` puts it in front",
            ));
        }
        let prepared = Self::of(*live, &[&[fresh()?], earlier].concat(), true);
        prepared.save(path)?;
        Ok(prepared)
    }

    /// Leaves only the first, and the one to be used next.
    pub(super) fn retire(&self, path: &Path) -> io::Result<()> {
        match self.lines.as_slice() {
            [live, next, ..] if self.next => Self::of(*live, &[*next], true).save(path),
            [live, ..] => Self::of(*live, &[], false).save(path),
            [] => Ok(()),
        }
    }

    fn save(&self, path: &Path) -> io::Result<()> {
        let line = |(number, line): (usize, &[u8; SECRET_BYTES])| {
            let mark = if self.next && number == 1 { NEXT } else { "" };
            format!("{mark}{}\n", BASE64.encode(line))
        };
        let text: String = self.lines.iter().enumerate().map(line).collect();
        files::put(path, text.as_bytes())
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
            files::warn_if_shared(path);
            if !journal_exists {
                // The sync of its name may be what ended an earlier start; the journal's must not come first.
                files::sync_folder_of(path).map_err(|e| failed(format!("its folder cannot be synced: {e}")))?;
            }
            decode(&text).ok_or_else(|| {
                failed(
                    "is not a secret of 32 bytes in base64, or several, one a line; restore it from a backup. Account opt-outs in \
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
            create(path).map_err(|e| failed(format!("cannot be made: {e}")))
        }
        Err(e) => {
            Err(failed(format!("cannot be read: {e}; it must be readable by the user Optgate runs as")))
        }
    }
}

fn decode(text: &str) -> Option<Secret> {
    let lines: Vec<&str> = text.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    let next = lines.get(1).is_some_and(|line| line.starts_with(NEXT));
    let secret = |(number, line): (usize, &&str)| -> Option<[u8; SECRET_BYTES]> {
        let line = if next && number == 1 { line.strip_prefix(NEXT)?.trim() } else { line };
        BASE64.decode(line.as_bytes()).ok()?.try_into().ok()
    };
    let secrets = lines.iter().enumerate().map(secret).collect::<Option<Vec<_>>>()?;
    let (first, older) = secrets.split_first()?;
    Some(Secret::of(*first, older, next))
}

fn fresh() -> io::Result<[u8; SECRET_BYTES]> {
    let mut secret = [0; SECRET_BYTES];
    getrandom::fill(&mut secret).map_err(io::Error::other)?;
    Ok(secret)
}

/// Writes a new secret.
fn create(path: &Path) -> io::Result<Secret> {
    let secret = Secret::of(fresh()?, &[], false);
    secret.save(path)?;
    Ok(secret)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn the_secret_is_made_once_and_read_back() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("secret.key");
        let made = load_or_create(&path, false).unwrap().checks;
        assert_eq!(load_or_create(&path, true).unwrap().checks, made);
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    }

    /// A new key in place of a lost one would silently drop every account opt-out.
    #[test]
    fn a_lost_or_damaged_key_is_never_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("secret.key");
        let error = load_or_create(&path, true).map(|s| s.checks).unwrap_err().to_string();
        assert!(error.contains("secret.key") && error.contains("missing"), "{error}");
        assert!(!path.exists());
        fs::write(&path, "c2hvcnQ=").unwrap();
        let error = load_or_create(&path, false).map(|s| s.checks).unwrap_err().to_string();
        assert!(error.contains("secret.key") && error.contains("32 bytes"), "{error}");
        assert_eq!(fs::read_to_string(&path).unwrap(), "c2hvcnQ=");
    }
}
