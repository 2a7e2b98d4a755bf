//! What is kept of ACME in the data folder: the account, and one file a host with key and chain.
//!
//! Files are written beside and moved into place, so that after a crash there is a whole one or the one before.
//! Only this user may read them.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use instant_acme::AccountCredentials;
use serde::{Deserialize, Serialize};

/// The folder, below the data folder.
#[derive(Debug, Clone)]
pub struct Cupboard(PathBuf);

/// An account with the authority that knows it.
#[derive(Serialize, Deserialize)]
struct Kept {
    directory: String,
    credentials: AccountCredentials,
}

impl Cupboard {
    /// In a data folder; made when something is put in.
    #[must_use]
    pub fn below(data_dir: &Path) -> Self {
        Self(data_dir.join("acme"))
    }

    /// File of a host's key and chain.
    #[must_use]
    pub fn file(&self, host: &str) -> PathBuf {
        self.0.join(format!("{host}.pem"))
    }

    /// The account at an authority, if there is one.
    ///
    /// # Errors
    /// There is one that cannot be read: another must not quietly take its place.
    pub fn account(&self, directory: &str) -> anyhow::Result<Option<AccountCredentials>> {
        let path = self.0.join("account.json");
        let text = match fs::read(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error).with_context(|| path.display().to_string()),
        };
        let kept: Kept = serde_json::from_slice(&text)
            .with_context(|| format!("{}: is no account; remove the file to make another", path.display()))?;
        Ok((kept.directory == directory).then_some(kept.credentials))
    }

    /// Keeps an account.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn keep_account(&self, directory: &str, credentials: AccountCredentials) -> anyhow::Result<()> {
        let kept = Kept { directory: directory.to_owned(), credentials };
        self.put("account.json", &serde_json::to_vec(&kept)?)
    }

    /// Keeps a host's key and chain, as PEM.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn keep(&self, host: &str, key: &str, chain: &str) -> anyhow::Result<()> {
        self.put(&format!("{host}.pem"), format!("{}\n{chain}", key.trim_end()).as_bytes())
    }

    fn put(&self, name: &str, bytes: &[u8]) -> anyhow::Result<()> {
        let path = self.0.join(name);
        let write = || {
            DirBuilder::new().recursive(true).mode(0o700).create(&self.0)?;
            let beside = self.0.join(format!("{name}.new"));
            // One that a crash left there may have other permissions.
            let _ = fs::remove_file(&beside);
            let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&beside)?;
            file.write_all(bytes)?;
            file.sync_all()?;
            fs::rename(&beside, &path)?;
            File::open(&self.0)?.sync_all()
        };
        write().with_context(|| format!("{}: cannot be written", path.display()))
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn only_this_user_may_read_what_is_kept() {
        let dir = tempfile::tempdir().unwrap();
        let cupboard = Cupboard::below(dir.path());
        for turn in ["one", "two"] {
            cupboard.keep("a.test", turn, "chain").unwrap();
            let meta = fs::metadata(cupboard.file("a.test")).unwrap();
            assert_eq!(meta.permissions().mode() & 0o777, 0o600);
            assert_eq!(fs::read_to_string(cupboard.file("a.test")).unwrap(), format!("{turn}\nchain"));
        }
        assert_eq!(fs::metadata(dir.path().join("acme")).unwrap().permissions().mode() & 0o777, 0o700);
    }

    #[test]
    fn an_account_that_cannot_be_read_is_not_replaced_quietly() {
        let dir = tempfile::tempdir().unwrap();
        let cupboard = Cupboard::below(dir.path());
        assert!(cupboard.account("https://ca.test/").unwrap().is_none());
        cupboard.put("account.json", b"{").unwrap();
        let error = cupboard.account("https://ca.test/").err().unwrap();
        assert!(format!("{error:#}").contains("account.json"), "{error:#}");
    }
}
