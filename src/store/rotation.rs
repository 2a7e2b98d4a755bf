//! New keys in place of old ones, without losing anyone's opt-out or any proof.
//!
//! A secret that is rotated stays in `secret.key` behind the new one: browsers and accounts that come under it are
//! honoured, and known under the new one from then on. A signing key and the one before it vouch for each other.

use std::fs;
use std::io;
use std::path::Path;

use super::keys::{self, Secret};
use super::signing::Signer;
use super::{JOURNAL, OpenError, SECRET, SIGNING, journal};
use crate::privacy::Keys;

/// A secret of the file, without itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyLine {
    /// Tells two secrets apart and nothing more.
    pub check: String,
    /// What it is for.
    pub use_of: KeyUse,
}

/// What a secret is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyUse {
    /// It hashes and signs; the others are only tried.
    Live,
    /// It is to be the live one next.
    Next,
    /// It was.
    Earlier,
}

impl KeyUse {
    /// In one word.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Live => "live",
            Self::Next => "next",
            Self::Earlier => "earlier",
        }
    }
}

fn failed(path: &Path, why: impl Into<String>) -> OpenError {
    OpenError::Folder { path: path.display().to_string(), why: why.into() }
}

fn secret(data_dir: &Path) -> Result<Secret, OpenError> {
    refuse_strange_folder(data_dir, SECRET)?;
    // As if there were a journal: none is made here.
    keys::load_or_create(&data_dir.join(SECRET), true)
}

/// Refuses a folder that holds neither this file nor a journal: no key of it is lost.
fn refuse_strange_folder(data_dir: &Path, name: &str) -> Result<(), OpenError> {
    let absent = |path: &Path| fs::metadata(path).is_err_and(|e| e.kind() == io::ErrorKind::NotFound);
    let path = data_dir.join(name);
    if absent(&path) && absent(&data_dir.join(JOURNAL)) {
        let why = "is missing, and so is the journal: a server makes both when it first opens its data folder; \
                   check --data-dir";
        return Err(failed(&path, why));
    }
    Ok(())
}

fn lines(secret: &Secret) -> Vec<KeyLine> {
    let use_of = |number| match number {
        0 => KeyUse::Live,
        1 if secret.has_next() => KeyUse::Next,
        _ => KeyUse::Earlier,
    };
    let line = |(n, check): (usize, &String)| KeyLine { check: check.clone(), use_of: use_of(n) };
    secret.checks.iter().enumerate().map(line).collect()
}

/// The secrets of a data folder, the live one first.
///
/// # Errors
/// The file is not there or cannot be read.
pub fn key_lines(data_dir: &Path) -> Result<Vec<KeyLine>, OpenError> {
    secret(data_dir).map(|secret| lines(&secret))
}

/// Puts a new secret behind the live one, to be tried from the next start on and used after the next rotation.
///
/// # Errors
/// The file is not there or cannot be written, or has one already.
pub fn prepare_secret(data_dir: &Path) -> Result<Vec<KeyLine>, OpenError> {
    let path = data_dir.join(SECRET);
    let prepared = secret(data_dir)?.prepare(&path);
    prepared.map(|secret| lines(&secret)).map_err(|e| failed(&path, format!("cannot be written: {e}")))
}

/// Puts the next secret, or else a new one, in front of the others. A running server takes it at its next start.
///
/// # Errors
/// The file is not there or cannot be written.
pub fn rotate_secret(data_dir: &Path) -> Result<Vec<KeyLine>, OpenError> {
    let path = data_dir.join(SECRET);
    let rotated = secret(data_dir)?.rotate(&path);
    rotated.map(|secret| lines(&secret)).map_err(|e| failed(&path, format!("cannot be written: {e}")))
}

/// The keys of a data folder, and what tells the live secret apart from others.
///
/// # Errors
/// The file is not there or cannot be read.
pub fn live_secret(data_dir: &Path) -> Result<(Keys, String), OpenError> {
    let secret = secret(data_dir)?;
    let check = secret.checks.first().cloned().unwrap_or_default();
    Ok((secret.keys, check))
}

/// Takes earlier secrets away, once [`Store::retire`](super::Store::retire) found nobody who is known under them alone.
///
/// # Errors
/// The file cannot be read or written.
pub fn forget_earlier_secrets(data_dir: &Path) -> Result<(), OpenError> {
    let path = data_dir.join(SECRET);
    secret(data_dir)?.retire(&path).map_err(|e| failed(&path, format!("cannot be written: {e}")))
}

/// Makes a new signing key; it and the one before it vouch for each other. A running server takes it at its next
/// start.
///
/// # Errors
/// There is no key, or something cannot be written.
pub fn rotate_signer(data_dir: &Path) -> Result<super::PublicKey, OpenError> {
    refuse_strange_folder(data_dir, SIGNING)?;
    let path = data_dir.join(SIGNING);
    let unusable = |e: io::Error| failed(&path, format!("cannot be used: {e}"));
    let old = Signer::load(&path)
        .map_err(unusable)?
        .ok_or_else(|| failed(&path, "is missing; if it is lost, `optgate keys new-signer` makes another"))?;
    replace(data_dir, Some(&old))
}

/// Makes a signing key in place of one that is lost. No earlier key vouches for it.
///
/// # Errors
/// The old key is there, or something cannot be written.
pub fn new_signer(data_dir: &Path) -> Result<super::PublicKey, OpenError> {
    let path = data_dir.join(SIGNING);
    if path.exists() {
        return Err(failed(&path, "is there; `optgate keys rotate --signing` replaces it"));
    }
    replace(data_dir, None)
}

fn replace(data_dir: &Path, old: Option<&Signer>) -> Result<super::PublicKey, OpenError> {
    let path = data_dir.join(SIGNING);
    let (new, seed) = Signer::generate().map_err(|e| failed(&path, format!("cannot be made: {e}")))?;
    // The journal first: a key that it knows and that never signs is nothing, the other way round would be refused.
    journal::signers::add(&data_dir.join(JOURNAL), old, &new)?;
    Signer::save(&path, &seed).map_err(|e| failed(&path, format!("cannot be written: {e}")))?;
    Ok(new.public())
}
