//! Whether the journal that is written is still the one at its place: a folder that was moved, removed or mounted over
//! takes along what is recorded, and no write fails.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

/// The journal's file, as it was when it was opened.
pub(super) struct Place {
    path: PathBuf,
    /// Device and number; `None` where even the open one could not be looked at.
    id: Option<(u64, u64)>,
}

impl Place {
    /// Of a journal that is open.
    pub(super) fn of(path: PathBuf) -> Self {
        Self { id: id(&path).ok(), path }
    }

    /// The file's path.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Why what is written would not be found at the next start; `None` while it would.
    pub(super) fn lost(&self) -> Option<String> {
        let why = match (id(&self.path), self.id) {
            (_, None) => return None,
            (Ok(now), Some(opened)) if now == opened => return None,
            (Ok(_), Some(_)) => "is another file than the one that is open and written".to_owned(),
            (Err(error), Some(_)) => format!("is no longer at its place: {error}"),
        };
        Some(format!("{}: {why}", self.path.display()))
    }
}

fn id(path: &Path) -> std::io::Result<(u64, u64)> {
    fs::metadata(path).map(|meta| (meta.dev(), meta.ino()))
}
