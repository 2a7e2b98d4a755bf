//! What is kept of ACME in the data folder: for each authority the account, and one file a host with key and chain.
//!
//! A folder for each, so that a certificate of an authority for trials is not taken for one of another.
//! Files are replaced whole, and only this user may read them.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use data_encoding::HEXLOWER;
use instant_acme::AccountCredentials;
use sha2::{Digest as _, Sha256};

use crate::store::files;

/// An authority's folder, below the data folder.
#[derive(Debug, Clone)]
pub struct AcmeFiles(PathBuf);

impl AcmeFiles {
    /// The one for an authority's directory (URL); made when something is put in.
    #[must_use]
    pub fn of(data_dir: &Path, directory: &str) -> Self {
        let url = url::Url::parse(directory).ok();
        let host = url.as_ref().and_then(|url| url.host_str()).unwrap_or_default();
        let plain = |c: char| if c.is_ascii_alphanumeric() || c == '.' { c } else { '-' };
        let host: String = host.chars().map(plain).collect();
        let hash = HEXLOWER.encode(&Sha256::digest(directory)[..4]);
        Self(data_dir.join("acme").join(format!("{host}-{hash}")))
    }

    /// File of a host's key and chain.
    #[must_use]
    pub fn file(&self, host: &str) -> PathBuf {
        self.0.join(format!("{host}.pem"))
    }

    /// The account, if there is one.
    ///
    /// # Errors
    /// There is one that cannot be read: another must not quietly take its place.
    pub fn account(&self) -> anyhow::Result<Option<AccountCredentials>> {
        let path = self.0.join("account.json");
        let text = match fs::read(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error).with_context(|| path.display().to_string()),
        };
        let credentials = serde_json::from_slice(&text)
            .with_context(|| format!("{}: is no account; remove the file to make another", path.display()))?;
        Ok(Some(credentials))
    }

    /// Keeps an account.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn keep_account(&self, credentials: &AccountCredentials) -> anyhow::Result<()> {
        self.put("account.json", &serde_json::to_vec(credentials)?)
    }

    /// Puts an account aside that the authority does not have, with its key: another can take its place.
    ///
    /// # Errors
    /// The file cannot be moved.
    pub fn put_account_aside(&self) -> anyhow::Result<()> {
        let (path, aside) = (self.0.join("account.json"), self.0.join("account.gone.json"));
        fs::rename(&path, aside).with_context(|| format!("{}: cannot be put aside", path.display()))
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
        let written = files::make_folder(&self.0).and_then(|()| files::put(&path, bytes));
        written.with_context(|| format!("{}: cannot be written", path.display()))
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    const CA: &str = "https://ca.test:14000/dir";

    #[test]
    fn only_this_user_may_read_what_is_kept() {
        let dir = tempfile::tempdir().unwrap();
        let files = AcmeFiles::of(dir.path(), CA);
        for turn in ["one", "two"] {
            files.keep("a.test", turn, "chain").unwrap();
            let meta = fs::metadata(files.file("a.test")).unwrap();
            assert_eq!(meta.permissions().mode() & 0o777, 0o600);
            assert_eq!(fs::read_to_string(files.file("a.test")).unwrap(), format!("{turn}\nchain"));
        }
        assert_eq!(fs::metadata(&files.0).unwrap().permissions().mode() & 0o777, 0o700);
    }

    /// Trials at one authority leave nothing that another's place is taken by.
    #[test]
    fn authorities_are_kept_apart() {
        let folder = |url| AcmeFiles::of(Path::new("/d"), url).0.display().to_string();
        let (trial, real) = (folder("https://ca.test/trial"), folder("https://ca.test/real"));
        assert!(trial.starts_with("/d/acme/ca.test-") && trial != real);
        assert!(folder("https://[::1]:14000/dir").starts_with("/d/acme/---1--"));
    }

    #[test]
    fn an_account_that_cannot_be_read_is_not_replaced_quietly() {
        let dir = tempfile::tempdir().unwrap();
        let files = AcmeFiles::of(dir.path(), CA);
        assert!(files.account().unwrap().is_none());
        files.put("account.json", b"{").unwrap();
        let error = files.account().err().unwrap();
        assert!(format!("{error:#}").contains("account.json"), "{error:#}");
    }
}
