//! Third parties first seen: what the second wall met on opted-out pages, and what nobody knows and went, by site.
//!
//! A bounded table in memory, kept as `DATA/third-parties.json` by a thread of its own: a new line is written
//! at once, higher counts once a minute and when the store closes. It is an operator's working list and no
//! record of anybody: a host, what it was asked for, when first, how often.
//!
//! ```text
//! { "version": 1, "sites": { "shop": { "not_kept": 0, "third_parties": [
//!     { "host": "cdn.example", "directive": "script-src-elem", "first_seen": "2026-11-26T10:00:00Z", "count": 3 } ] } } }
//! ```

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::bound::Bound;
use super::files;

/// The file's name.
const FILE: &str = "third-parties.json";

/// Form of the file.
const VERSION: u32 = 1;

/// Lines kept of one site; a page has dozens of third parties, and reports can be forged.
const MOST_LINES: usize = 1_000;

/// Bodies read a second, and how many a burst may add: a browser sends a few for each page.
const BODIES_PER_SECOND: u32 = 100;
const BURST: u32 = 500;

/// How long higher counts may wait for the disk.
const SAVE_EVERY: Duration = Duration::from_secs(60);

/// A third party on one site's opted-out pages.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ThirdParty {
    /// Host, with the port if that is not the scheme's own.
    pub host: String,
    /// CSP directive that it was met under; [`Self::MARKUP`] or [`Self::GUARD`] where it was held.
    pub directive: String,
    /// When it was first reported.
    pub first_seen: Timestamp,
    /// Reports so far.
    pub count: u64,
}

impl ThirdParty {
    /// Nobody knows it, and references in a page's markup went. Each process tells of a host once.
    pub const MARKUP: &str = "markup";
    /// The same of what a page's scripts did.
    pub const GUARD: &str = "guard";

    /// Whether opted-out pages lost it, as an unknown third party.
    #[must_use]
    pub fn was_held(&self) -> bool {
        matches!(self.directive.as_str(), Self::MARKUP | Self::GUARD)
    }
}

#[derive(Debug, Default, Clone, Serialize, Deserialize)]
struct Lines {
    /// Reports left out because the site's list was full.
    #[serde(default)]
    not_kept: u64,
    third_parties: Vec<ThirdParty>,
}

#[derive(Debug, Serialize, Deserialize)]
struct File {
    version: u32,
    sites: BTreeMap<String, Lines>,
}

#[derive(Debug, Default)]
struct Table {
    sites: BTreeMap<String, Lines>,
    /// Something is not on disk yet.
    dirty: bool,
}

/// The list; shared by every handle of the store.
#[derive(Debug)]
pub struct ThirdParties {
    path: PathBuf,
    table: Arc<Mutex<Table>>,
    wake: Mutex<Option<SyncSender<()>>>,
    saver: Mutex<Option<JoinHandle<()>>>,
    bound: Bound,
    opened: Instant,
}

impl ThirdParties {
    /// Reads the list of a data folder and starts its thread. A file that cannot be read is put aside as
    /// `third-parties.json.damaged`, and an empty list begun: nothing is enforced by it.
    ///
    /// # Errors
    /// When the thread cannot be started.
    pub(super) fn open(folder: &Path) -> io::Result<Self> {
        let path = folder.join(FILE);
        let table = Arc::new(Mutex::new(Table { sites: load(&path), dirty: false }));
        let list = Self {
            path,
            table,
            wake: Mutex::default(),
            saver: Mutex::default(),
            bound: Bound::new(BODIES_PER_SECOND, BURST),
            opened: Instant::now(),
        };
        list.keep_saved()?;
        Ok(list)
    }

    /// Starts the thread, at first or after [`Self::close`].
    ///
    /// # Errors
    /// When the thread cannot be started.
    pub(super) fn keep_saved(&self) -> io::Result<()> {
        // One waiting wake says all that many would.
        let (wake, woken) = sync_channel(1);
        let (path, shared) = (self.path.clone(), Arc::clone(&self.table));
        let saver = std::thread::Builder::new()
            .name("third-parties".into())
            .spawn(move || keep_saved(&path, &shared, &woken))?;
        *lock(&self.wake) = Some(wake);
        *lock(&self.saver) = Some(saver);
        Ok(())
    }

    /// Whether one more body of reports may be read now: a flood of them must not cost the pages' visitors.
    ///
    /// Cost: one compare-and-swap.
    #[must_use]
    pub fn has_room(&self) -> bool {
        self.bound.take(u64::try_from(self.opened.elapsed().as_nanos()).unwrap_or(u64::MAX))
    }

    /// Notes that a third party was met. Above 1,000 lines a site, new ones are only counted.
    ///
    /// Cost: a lock and a walk through the site's lines.
    pub fn note(&self, site: &str, host: &str, directive: &str, now: Timestamp) {
        let mut table = lock(&self.table);
        table.dirty = true;
        if !table.sites.contains_key(site) {
            table.sites.insert(site.to_owned(), Lines::default());
        }
        let Some(lines) = table.sites.get_mut(site) else { return };
        let known = lines.third_parties.iter_mut().find(|l| l.host == host && l.directive == directive);
        if let Some(line) = known {
            line.count = line.count.saturating_add(1);
        } else if lines.third_parties.len() >= MOST_LINES {
            lines.not_kept = lines.not_kept.saturating_add(1);
        } else {
            lines.third_parties.push(ThirdParty {
                host: host.to_owned(),
                directive: directive.to_owned(),
                first_seen: now,
                count: 1,
            });
            drop(table);
            self.wake();
        }
    }

    /// A site's third parties by host and directive, and how many reports were not kept.
    #[must_use]
    pub fn list(&self, site: &str) -> (Vec<ThirdParty>, u64) {
        let lines = lock(&self.table).sites.get(site).cloned().unwrap_or_default();
        let mut all = lines.third_parties;
        all.sort_by(|a, b| (&a.host, &a.directive).cmp(&(&b.host, &b.directive)));
        (all, lines.not_kept)
    }

    /// Forgets a site's list, to learn it anew.
    pub fn forget(&self, site: &str) {
        let mut table = lock(&self.table);
        table.dirty |= table.sites.remove(site).is_some();
        drop(table);
        self.wake();
    }

    fn wake(&self) {
        if let Some(wake) = &*lock(&self.wake) {
            match wake.try_send(()) {
                // A wake is waiting already, or the thread ended with an error it has logged.
                Ok(()) | Err(TrySendError::Full(()) | TrySendError::Disconnected(())) => {}
            }
        }
    }

    /// Writes what is not on disk yet and ends the thread. Blocks for one write.
    pub(super) fn close(&self) {
        drop(lock(&self.wake).take());
        let saver = lock(&self.saver).take();
        if saver.is_some_and(|saver| saver.join().is_err()) {
            tracing::error!("the thread that keeps third-parties.json panicked");
        }
    }
}

impl Drop for ThirdParties {
    fn drop(&mut self) {
        self.close();
    }
}

/// A line is whole whatever its holder was doing.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn keep_saved(path: &Path, table: &Mutex<Table>, woken: &Receiver<()>) {
    let mut failing = false;
    loop {
        let ends = matches!(woken.recv_timeout(SAVE_EVERY), Err(RecvTimeoutError::Disconnected));
        let file = {
            let mut table = lock(table);
            let dirty = std::mem::take(&mut table.dirty);
            dirty.then(|| File { version: VERSION, sites: table.sites.clone() })
        };
        if let Some(file) = file {
            match save(path, &file) {
                Ok(()) => failing = false,
                Err(error) => {
                    lock(table).dirty = true;
                    if !failing {
                        tracing::error!(path = %path.display(), "third parties could not be saved: {error}");
                    }
                    failing = true;
                }
            }
        }
        if ends {
            return;
        }
    }
}

fn save(path: &Path, file: &File) -> io::Result<()> {
    files::put(path, &serde_json::to_vec_pretty(file).map_err(io::Error::other)?)
}

fn load(path: &Path) -> BTreeMap<String, Lines> {
    let text = match fs::read(path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return BTreeMap::new(),
        Err(error) => {
            tracing::warn!(path = %path.display(), "third parties cannot be read, beginning an empty list: {error}");
            return BTreeMap::new();
        }
    };
    let why = match serde_json::from_slice::<File>(&text) {
        Ok(file) if file.version == VERSION => return file.sites,
        Ok(file) => format!("it has version {}", file.version),
        Err(error) => error.to_string(),
    };
    let aside = files::with_ending(path, ".damaged");
    // Whether it could be moved shows in the folder; the list is empty either way.
    let _ = fs::rename(path, &aside);
    tracing::warn!(path = %path.display(), "third parties begin an empty list, the old file is kept beside: {why}");
    BTreeMap::new()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(1_795_000_000 + second).unwrap()
    }

    /// First seen, counted, and there after a restart.
    #[test]
    fn a_third_party_is_seen_first_once_and_counted_after() {
        let folder = tempfile::tempdir().unwrap();
        let list = ThirdParties::open(folder.path()).unwrap();
        list.note("shop", "b.example", "img-src", at(0));
        list.note("shop", "a.example", "img-src", at(1));
        list.note("shop", "b.example", "img-src", at(2));
        list.note("blog", "b.example", "img-src", at(3));
        let (before, not_kept) = list.list("shop");
        assert_eq!(
            before.iter().map(|l| (l.host.as_str(), l.count)).collect::<Vec<_>>(),
            [("a.example", 1), ("b.example", 2)]
        );
        assert_eq!((before[1].first_seen, not_kept), (at(0), 0));
        list.close();
        let again = ThirdParties::open(folder.path()).unwrap();
        assert_eq!(again.list("shop"), (before, 0));
        again.forget("shop");
        drop(again);
        let again = ThirdParties::open(folder.path()).unwrap();
        assert_eq!((again.list("shop").0.len(), again.list("blog").0.len()), (0, 1));
    }

    /// Reports can be forged by anybody: they fill neither memory nor disk.
    #[test]
    fn a_flood_of_hosts_is_counted_and_not_kept() {
        let folder = tempfile::tempdir().unwrap();
        let list = ThirdParties::open(folder.path()).unwrap();
        for n in 0..MOST_LINES + 5 {
            list.note("shop", &format!("h{n}.example"), "img-src", at(0));
        }
        list.note("shop", "h0.example", "img-src", at(1));
        let (lines, not_kept) = list.list("shop");
        assert_eq!((lines.len(), not_kept), (MOST_LINES, 5));
        let taken = (0..10_000).filter(|_| list.has_room()).count();
        assert!(taken >= BURST as usize && taken < 10_000, "{taken}");
    }

    #[test]
    fn a_damaged_file_is_put_aside_and_not_lost() {
        let folder = tempfile::tempdir().unwrap();
        for text in ["{", r#"{"version":9,"sites":{}}"#] {
            fs::write(folder.path().join(FILE), text).unwrap();
            let list = ThirdParties::open(folder.path()).unwrap();
            assert_eq!(list.list("shop"), (Vec::new(), 0));
            assert_eq!(fs::read_to_string(folder.path().join("third-parties.json.damaged")).unwrap(), text);
        }
    }
}
