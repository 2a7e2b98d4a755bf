//! Kill switches: one for each site, thrown without a restart and kept over one.
//!
//! A switch that is engaged is a file `DATA/kill-switch/SITE`; the files are read once, at start.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

/// The switches of all sites, by the sites' positions in the settings.
#[derive(Debug)]
pub struct Switches {
    switches: Vec<Switch>,
    folder: PathBuf,
}

#[derive(Debug)]
struct Switch {
    engaged: AtomicBool,
    file: PathBuf,
}

impl Switches {
    /// Reads the switches of these sites (names in settings order) from a data folder.
    ///
    /// # Errors
    /// When the folder cannot be made or a switch cannot be read; the message names the path.
    pub fn load<S: AsRef<str>>(data_dir: &Path, sites: impl IntoIterator<Item = S>) -> io::Result<Self> {
        let folder = data_dir.join("kill-switch");
        fs::create_dir_all(&folder).map_err(|e| named(&folder, &e))?;
        let switches = sites
            .into_iter()
            .map(|site| {
                let file = folder.join(file_name(site.as_ref()));
                let engaged = file.try_exists().map_err(|e| named(&file, &e))?;
                Ok(Switch { engaged: AtomicBool::new(engaged), file })
            })
            .collect::<io::Result<_>>()?;
        Ok(Self { switches, folder })
    }

    /// Whether a site's switch is engaged. A site that does not exist has none.
    ///
    /// Cost: one relaxed load; meant for every request.
    #[must_use]
    pub fn engaged(&self, site: usize) -> bool {
        self.switches.get(site).is_some_and(|s| s.engaged.load(Ordering::Relaxed))
    }

    /// Engages or releases a site's switch, at once and then on disk.
    ///
    /// Blocks for a file's creation and two syncs: off the edge cores only.
    ///
    /// # Errors
    /// `NotFound` for a site that does not exist. Any other error means: in force now, but a restart
    /// would forget it.
    pub fn set(&self, site: usize, engaged: bool) -> io::Result<()> {
        let switch = self
            .switches
            .get(site)
            .ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, format!("no site number {site}")))?;
        switch.engaged.store(engaged, Ordering::Relaxed);
        let changed = if engaged {
            fs::File::create(&switch.file).and_then(|file| file.sync_all())
        } else {
            match fs::remove_file(&switch.file) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
                _ => Ok(()),
            }
        };
        // The entry itself is durable only with its folder.
        changed
            .and_then(|()| fs::File::open(&self.folder)?.sync_all())
            .map_err(|error| named(&switch.file, &error))
    }
}

fn named(path: &Path, error: &io::Error) -> io::Error {
    // Kept apart from the NotFound of a missing site.
    let kind = match error.kind() {
        io::ErrorKind::NotFound => io::ErrorKind::Other,
        other => other,
    };
    io::Error::new(kind, format!("{}: {error}", path.display()))
}

/// A file name for any site name: plain bytes stay, all others become `%XX`.
fn file_name(site: &str) -> String {
    let mut name = String::with_capacity(site.len());
    for (at, byte) in site.bytes().enumerate() {
        let plain = byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_') || (byte == b'.' && at > 0);
        if plain {
            name.push(char::from(byte));
        } else {
            name.push_str(&format!("%{byte:02X}"));
        }
    }
    name
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Issue 2: a kill switch takes effect without a restart; a restart must not undo it.
    #[test]
    fn a_switch_is_kept_over_a_restart_and_is_its_own_sites_only() {
        let folder = tempfile::tempdir().unwrap();
        let load = || Switches::load(folder.path(), ["shop", "blog"]).unwrap();
        let first = load();
        assert!(!first.engaged(0) && !first.engaged(1));
        first.set(1, true).unwrap();
        assert!(!first.engaged(0) && first.engaged(1));
        let second = load();
        assert!(!second.engaged(0) && second.engaged(1));
        second.set(1, false).unwrap();
        second.set(1, false).unwrap();
        assert!(!load().engaged(1));
    }

    #[test]
    fn a_site_that_does_not_exist_has_no_switch() {
        let folder = tempfile::tempdir().unwrap();
        let switches = Switches::load(folder.path(), ["shop"]).unwrap();
        assert!(!switches.engaged(7));
        assert_eq!(switches.set(7, true).unwrap_err().kind(), io::ErrorKind::NotFound);
    }

    /// A switch that cannot be saved is in force all the same, and the error names the file.
    #[test]
    fn a_switch_that_cannot_be_saved_is_still_in_force() {
        let folder = tempfile::tempdir().unwrap();
        let switches = Switches::load(folder.path(), ["shop"]).unwrap();
        fs::remove_dir(folder.path().join("kill-switch")).unwrap();
        let error = switches.set(0, true).unwrap_err();
        assert!(switches.engaged(0));
        assert_ne!(error.kind(), io::ErrorKind::NotFound);
        assert!(error.to_string().contains("kill-switch"), "{error}");
    }

    #[test]
    fn no_site_name_leaves_the_folder() {
        assert_eq!(file_name("shop.example"), "shop.example");
        assert_eq!(file_name("../x"), "%2E.%2Fx");
        assert_eq!(file_name("."), "%2E");
        assert_eq!(file_name("a b"), "a%20b");
    }
}
