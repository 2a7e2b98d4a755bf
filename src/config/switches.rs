//! Kill switches: one for each site, thrown without a restart and kept over one.
//!
//! A switch that is engaged is a file `DATA/kill-switch/SITE`; a site's file is read when the site comes.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// In the data folder.
const FOLDER: &str = "kill-switch";

/// The switches of the sites in force, by the sites' names.
#[derive(Debug)]
pub struct Switches {
    known: Mutex<BTreeMap<String, Arc<Switch>>>,
    folder: PathBuf,
}

/// One site's switch.
#[derive(Debug)]
pub struct Switch {
    engaged: AtomicBool,
    file: PathBuf,
}

impl Switch {
    /// Whether it is engaged.
    ///
    /// Cost: one relaxed load; meant for every request.
    #[must_use]
    pub fn engaged(&self) -> bool {
        self.engaged.load(Ordering::Relaxed)
    }
}

impl Switches {
    /// The switches kept in a data folder, of no site yet.
    ///
    /// # Errors
    /// When the folder cannot be made; the message names it.
    pub fn open(data_dir: &Path) -> io::Result<Self> {
        let folder = data_dir.join(FOLDER);
        fs::create_dir_all(&folder).map_err(|e| named(&folder, &e))?;
        Ok(Self { known: Mutex::default(), folder })
    }

    /// The switch of a site: the one known already, or as its file says.
    ///
    /// # Errors
    /// When it cannot be read; the message names its file.
    pub fn of(&self, site: &str) -> io::Result<Arc<Switch>> {
        if let Some(known) = self.lock().get(site) {
            return Ok(Arc::clone(known));
        }
        let file = self.folder.join(file_name(site));
        let engaged = file.try_exists().map_err(|e| named(&file, &e))?;
        Ok(Arc::new(Switch { engaged: AtomicBool::new(engaged), file }))
    }

    /// Whether a data folder says that a site's switch is engaged; what cannot be read says nothing.
    #[must_use]
    pub fn engaged_in(data_dir: &Path, site: &str) -> bool {
        data_dir.join(FOLDER).join(file_name(site)).exists()
    }

    /// From now on these sites and no others are known.
    pub fn follow(&self, sites: impl Iterator<Item = (String, Arc<Switch>)>) {
        *self.lock() = sites.collect();
    }

    /// Every site's name, and whether its switch is engaged.
    #[must_use]
    pub fn list(&self) -> Vec<(String, bool)> {
        self.lock().iter().map(|(site, switch)| (site.clone(), switch.engaged())).collect()
    }

    /// Whether a site's switch is engaged; `None` for a site that does not exist.
    #[must_use]
    pub fn engaged(&self, site: &str) -> Option<bool> {
        self.lock().get(site).map(|switch| switch.engaged())
    }

    /// Engages or releases a site's switch, at once and then on disk.
    ///
    /// Blocks for a file's creation and two syncs: off the edge cores only.
    ///
    /// # Errors
    /// `NotFound` for a site that does not exist. Any other error means: in force now, but a restart
    /// would forget it.
    pub fn set(&self, site: &str, engaged: bool) -> io::Result<()> {
        let switch = self.lock().get(site).cloned();
        let switch = switch
            .ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, format!("no site is called `{site}`")))?;
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

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Arc<Switch>>> {
        // The map is replaced whole, so a panic elsewhere leaves it as good as it was.
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
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

    fn open(folder: &Path, sites: &[&str]) -> Switches {
        let switches = Switches::open(folder).unwrap();
        follow(&switches, sites);
        switches
    }

    fn follow(switches: &Switches, sites: &[&str]) -> Vec<Arc<Switch>> {
        let all: Vec<_> = sites.iter().map(|site| switches.of(site).unwrap()).collect();
        switches.follow(sites.iter().map(|site| (*site).to_owned()).zip(all.iter().cloned()));
        all
    }

    /// A kill switch takes effect without a restart; a restart must not undo it.
    #[test]
    fn a_switch_is_kept_over_a_restart_and_is_its_own_sites_only() {
        let folder = tempfile::tempdir().unwrap();
        let load = || open(folder.path(), &["shop", "blog"]);
        let first = load();
        assert_eq!((first.engaged("shop"), first.engaged("blog")), (Some(false), Some(false)));
        first.set("blog", true).unwrap();
        assert_eq!((first.engaged("shop"), first.engaged("blog")), (Some(false), Some(true)));
        let second = load();
        assert_eq!((second.engaged("shop"), second.engaged("blog")), (Some(false), Some(true)));
        second.set("blog", false).unwrap();
        second.set("blog", false).unwrap();
        assert_eq!(load().engaged("blog"), Some(false));
    }

    #[test]
    fn a_site_that_does_not_exist_has_no_switch() {
        let folder = tempfile::tempdir().unwrap();
        let switches = open(folder.path(), &["shop"]);
        assert_eq!(switches.engaged("blog"), None);
        assert_eq!(switches.set("blog", true).unwrap_err().kind(), io::ErrorKind::NotFound);
    }

    /// A reload brings and takes sites: a site that stays keeps the very switch that its requests look at.
    #[test]
    fn sites_that_stay_keep_their_switch_and_those_that_come_read_theirs() {
        let folder = tempfile::tempdir().unwrap();
        open(folder.path(), &["new"]).set("new", true).unwrap();
        let switches = Switches::open(folder.path()).unwrap();
        let before = follow(&switches, &["shop", "blog"]);
        let after = follow(&switches, &["new", "shop"]);
        assert!(Arc::ptr_eq(&before[0], &after[1]));
        assert_eq!(switches.list(), [("new".to_owned(), true), ("shop".to_owned(), false)]);
    }

    /// A switch that cannot be saved is in force all the same, and the error names the file.
    #[test]
    fn a_switch_that_cannot_be_saved_is_still_in_force() {
        let folder = tempfile::tempdir().unwrap();
        let switches = open(folder.path(), &["shop"]);
        fs::remove_dir(folder.path().join("kill-switch")).unwrap();
        let error = switches.set("shop", true).unwrap_err();
        assert_eq!(switches.engaged("shop"), Some(true));
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
