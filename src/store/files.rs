//! Files that only this user may read, replaced whole.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

/// Makes a folder (mode 0700) with its parents, if it is missing. Durable when it returns: what is kept in a folder
/// lasts no longer than the folder's own name.
///
/// # Errors
/// As the system has it.
pub fn make_folder(folder: &Path) -> io::Result<()> {
    let missing: Vec<_> =
        folder.ancestors().take_while(|f| !f.as_os_str().is_empty() && !f.exists()).collect();
    DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    missing.into_iter().try_for_each(sync_folder_of)
}

/// Writes a file (mode 0600) beside its place and moves it there, so that after a crash there is a whole new one or
/// what was there before. Durable when it returns.
///
/// # Errors
/// As the system has it.
pub fn put(path: &Path, bytes: &[u8]) -> io::Result<()> {
    Unplaced::write(path, |mut file| file.write_all(bytes))?.place()
}

/// A key that others can read is worth a word, but no reason to stop: mounted secrets often are.
pub(super) fn warn_if_shared(path: &Path) {
    if let Ok(meta) = fs::metadata(path)
        && meta.permissions().mode() & 0o077 != 0
    {
        let mode = format!("{:o}", meta.permissions().mode() & 0o777);
        tracing::warn!(path = %path.display(), mode, "a key that others can read; chmod 600 it");
    }
}

/// Makes an empty file (mode 0600) where there is none.
pub(super) fn make_private(path: &Path) -> io::Result<()> {
    match OpenOptions::new().write(true).create_new(true).mode(0o600).open(path) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
        _ => Ok(()),
    }
}

/// A whole file (mode 0600) that is on the disk beside its place; removed if it is not to go there.
pub(super) struct Unplaced<'a> {
    path: &'a Path,
    beside: PathBuf,
}

impl<'a> Unplaced<'a> {
    /// Fills and syncs one.
    pub(super) fn write(path: &'a Path, fill: impl FnOnce(&File) -> io::Result<()>) -> io::Result<Self> {
        let beside = beside(path);
        // One that a crash left there may have other permissions.
        remove(&beside)?;
        let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&beside)?;
        let this = Self { path, beside };
        fill(&file)?;
        file.sync_all()?;
        Ok(this)
    }

    /// Moves it to its place; durable when it returns.
    pub(super) fn place(self) -> io::Result<()> {
        fs::rename(&self.beside, self.path)?;
        sync_folder_of(self.path)
    }
}

impl Drop for Unplaced<'_> {
    fn drop(&mut self) {
        // Once placed it is not there any more.
        let _ = remove(&self.beside);
    }
}

/// Where a file is written before it is whole.
pub(super) fn beside(path: &Path) -> PathBuf {
    with_ending(path, ".new")
}

/// Removes a file; whether there was one.
pub(super) fn remove(path: &Path) -> io::Result<bool> {
    match fs::remove_file(path) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

/// Makes a new name in a folder durable.
pub(super) fn sync_folder_of(path: &Path) -> io::Result<()> {
    match path.parent() {
        // A bare name lies in the folder the program runs in.
        Some(folder) if folder.as_os_str().is_empty() => File::open(".")?.sync_all(),
        Some(folder) => File::open(folder)?.sync_all(),
        None => Ok(()),
    }
}

/// A path with more behind its last name.
pub(super) fn with_ending(path: &Path, ending: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(ending);
    name.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a crash left beside it, readable by all, neither stays nor lends its permissions.
    #[test]
    fn a_file_is_replaced_whole_and_for_this_user_only() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("secret.key");
        fs::write(folder.path().join("secret.key.new"), "half").unwrap();
        for text in ["one", "two"] {
            put(&path, text.as_bytes()).unwrap();
            assert_eq!(fs::read_to_string(&path).unwrap(), text);
            assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        }
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }
}
