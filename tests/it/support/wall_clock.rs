//! The wall clock of a child, moved by Debian's faketime; clocks that measure go on as they are.

use std::path::PathBuf;
use std::process::Command;

use super::skipped;

/// A clock that can be moved while its program runs.
pub struct WallClock {
    library: PathBuf,
    folder: tempfile::TempDir,
}

impl WallClock {
    /// A clock that is right; `None` after a line that says that faketime is absent.
    pub fn of(test: &str) -> Option<Self> {
        let folders = std::fs::read_dir("/usr/lib").into_iter().flatten().flatten();
        let files = folders.map(|folder| folder.path().join("faketime/libfaketimeMT.so.1"));
        let found = files.chain(["/usr/lib/faketime/libfaketimeMT.so.1".into()]).find(|file| file.is_file());
        if found.is_none() {
            skipped(test, "faketime is absent");
        }
        let clock = Self { library: found?, folder: tempfile::tempdir().unwrap() };
        clock.shift("+0");
        Some(clock)
    }

    /// Puts the clock under a program.
    pub fn under(&self, command: &mut Command) {
        command
            .env("LD_PRELOAD", &self.library)
            .env("FAKETIME_TIMESTAMP_FILE", self.folder.path().join("shift"));
        command.env("FAKETIME_NO_CACHE", "1").env("FAKETIME_DONT_FAKE_MONOTONIC", "1");
    }

    /// Moves it away from the right time: `+9y`, `-1h`.
    pub fn shift(&self, by: &str) {
        // By renaming, so that it is never read half.
        let text = self.folder.path().join("new");
        std::fs::write(&text, format!("{by}\n")).unwrap();
        std::fs::rename(&text, self.folder.path().join("shift")).unwrap();
    }
}
