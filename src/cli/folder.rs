//! A data folder for a while.

use std::path::PathBuf;

use super::Global;

/// The folder that was named, or a fresh one that goes with this value.
pub(super) struct Folder {
    /// Where it is. A fresh one is made by whoever first writes there.
    pub(super) path: PathBuf,
    temporary: bool,
}

impl Folder {
    /// `--data-dir`, or a fresh one for a verb.
    ///
    /// # Errors
    /// The system gives no random bytes.
    pub(super) fn of(global: &Global, verb: &str) -> anyhow::Result<Self> {
        if let Some(path) = &global.data_dir {
            return Ok(Self { path: path.clone(), temporary: false });
        }
        let mut random = [0; 8];
        getrandom::fill(&mut random)
            .map_err(|error| anyhow::anyhow!("the system gives no random bytes: {error}"))?;
        let name = format!("optgate-{verb}-{:016x}", u64::from_ne_bytes(random));
        Ok(Self { path: std::env::temp_dir().join(name), temporary: true })
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        if self.temporary {
            // Left behind it is a few kilobytes in the system's folder for such things.
            let _ = std::fs::remove_dir_all(&self.path);
        }
    }
}
