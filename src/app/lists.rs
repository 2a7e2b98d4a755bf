//! Filter lists on disk: read at start, watched while running, swapped whole or not at all.
//!
//! The files are looked at every `lists_check.every`. One that has changed is read, checked and built on a
//! background thread; only when every set of lists it belongs to has passed its canaries do the cores see
//! it. Whatever is wrong with it, the list in force stays, with a log line and a counter.

use std::collections::HashMap;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use crate::config::{List, Settings};
use crate::edge::House;
use crate::registry::lists::{Canaries, FilterList, ListError, ListFault, ListSet};
use crate::telemetry::events;

/// What tells a changed file without reading it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stamp {
    changed: Option<SystemTime>,
    bytes: u64,
    inode: u64,
}

impl Stamp {
    /// `None`: the file is not there, or cannot be asked about.
    fn of(file: &Path) -> Option<Self> {
        use std::os::unix::fs::MetadataExt as _;
        let meta = std::fs::metadata(file).ok()?;
        Some(Self { changed: meta.modified().ok(), bytes: meta.len(), inode: meta.ino() })
    }
}

/// A file with a role.
#[derive(Debug)]
struct Watched {
    list: List,
    stamp: Option<Stamp>,
    /// The reading in force.
    good: FilterList,
}

/// All files, and the sets they make.
#[derive(Debug)]
pub struct Shelf {
    files: Vec<Watched>,
    /// Positions in `files`, by set.
    sets: Vec<Vec<usize>>,
    canaries: Canaries,
    keep_percent: u32,
    cores: usize,
    every: Duration,
}

/// A changed list that has passed, and the sets with it in place, by their positions.
struct Taken {
    list: FilterList,
    sets: Vec<(usize, ListSet)>,
}

/// What the sites get.
#[derive(Debug, Default)]
pub struct Built {
    /// The different sets of lists.
    pub sets: Vec<Arc<ListSet>>,
    /// Each site's set, in the sites' order.
    pub of_site: Vec<Option<usize>>,
}

impl Shelf {
    /// Reads every list that the settings name and builds the sets.
    ///
    /// # Errors
    /// The first list that cannot be used: file, line, why, and what to do.
    pub fn open(settings: &Settings) -> Result<(Self, Built), ListError> {
        Self::open_after(settings, None)
    }

    /// The same for a reload: a list that was read before must not have shrunk too much.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub fn reopen(&self, settings: &Settings) -> Result<(Self, Built), ListError> {
        Self::open_after(settings, Some(self))
    }

    fn open_after(settings: &Settings, before: Option<&Self>) -> Result<(Self, Built), ListError> {
        let check = &settings.lists_check;
        let mut shelf = Self {
            files: Vec::new(),
            sets: Vec::new(),
            canaries: Canaries::new(&settings.portal.prefix, &check.must_match, &check.must_not_match),
            keep_percent: check.keep_percent,
            cores: settings.workers,
            every: check.every,
        };
        let mut built = Built::default();
        let (mut files, mut sets) = (HashMap::new(), HashMap::new());
        for site in &settings.sites {
            let mut set = Vec::new();
            for list in &site.lists {
                let at = match files.get(list) {
                    Some(at) => *at,
                    None => {
                        let at = shelf.files.len();
                        let file = watch_file(list.clone())?;
                        let good = before.and_then(|shelf| shelf.files.iter().find(|f| f.list == *list));
                        if let Some(before) = good {
                            file.good.succeeds(&before.good, check.keep_percent)?;
                        }
                        shelf.files.push(file);
                        files.insert(list, at);
                        at
                    }
                };
                if !set.contains(&at) {
                    set.push(at);
                }
            }
            if set.is_empty() {
                built.of_site.push(None);
                continue;
            }
            let at = match sets.get(&set) {
                Some(at) => *at,
                None => {
                    let at = shelf.sets.len();
                    sets.insert(set.clone(), at);
                    built.sets.push(Arc::new(shelf.build(&set, None)?));
                    shelf.sets.push(set);
                    at
                }
            };
            built.of_site.push(Some(at));
        }
        Ok((shelf, built))
    }

    /// Readings in force, for the log and the gauge.
    pub fn lists(&self) -> impl Iterator<Item = &FilterList> {
        self.files.iter().map(|file| &file.good)
    }

    /// Builds a set, with another reading in place of one file's.
    fn build(&self, set: &[usize], instead: Option<(usize, &FilterList)>) -> Result<ListSet, ListError> {
        let reading = |at: &usize| match instead {
            Some((other, list)) if other == *at => Some(list),
            _ => self.files.get(*at).map(|file| &file.good),
        };
        let lists: Vec<&FilterList> = set.iter().filter_map(reading).collect();
        ListSet::build(&lists, &self.canaries, self.cores)
    }

    /// Looks at every file once; what has changed and is good goes to the house.
    fn look(&mut self, house: &House) {
        for at in 0..self.files.len() {
            let Some(file) = self.files.get_mut(at) else { continue };
            let stamp = Stamp::of(&file.list.file);
            if stamp == file.stamp {
                continue;
            }
            // Whatever comes of it, it is looked at again only when it has changed again.
            file.stamp = stamp;
            match self.take(at) {
                Ok(None) => {}
                Ok(Some(Taken { list, sets })) => {
                    let was = self.files.get(at).map_or(0, |file| file.good.rules());
                    house.replace_lists(sets);
                    events::list_taken(&house.metrics, list.name(), list.rules(), was);
                    if let Some(file) = self.files.get_mut(at) {
                        file.good = list;
                    }
                }
                Err(error) => events::list_kept(&house.metrics, &error.file, error.fault.label(), &error),
            }
        }
    }

    /// Reads a changed file and builds the sets it belongs to; `None` when it says the same as before.
    fn take(&self, at: usize) -> Result<Option<Taken>, ListError> {
        let Some(file) = self.files.get(at) else { return Ok(None) };
        let list = read(&file.list)?;
        if list.same(&file.good) {
            return Ok(None);
        }
        list.succeeds(&file.good, self.keep_percent)?;
        let concerned = self.sets.iter().enumerate().filter(|(_, set)| set.contains(&at));
        let sets = concerned
            .map(|(number, set)| Ok((number, self.build(set, Some((at, &list)))?)))
            .collect::<Result<Vec<_>, ListError>>()?;
        Ok(Some(Taken { list, sets }))
    }
}

fn watch_file(list: List) -> Result<Watched, ListError> {
    // Before reading: a change in between is seen at the first look.
    let stamp = Stamp::of(&list.file);
    let good = read(&list)?;
    Ok(Watched { list, stamp, good })
}

fn read(list: &List) -> Result<FilterList, ListError> {
    let name = list.file.display().to_string();
    match std::fs::read(&list.file) {
        Ok(bytes) => FilterList::read(&name, list.role, bytes),
        Err(error) => {
            Err(ListError { file: name, line: None, fault: ListFault::Unreadable(error.to_string()) })
        }
    }
}

/// The shelf in force. A look and a reload take turns, so that a look's sets go where they belong.
pub type SharedShelf = Arc<Mutex<Shelf>>;

/// The shelf, for one at a time.
pub fn lock(shelf: &SharedShelf) -> MutexGuard<'_, Shelf> {
    // What a panicking look has left is what was in force before it.
    shelf.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Watches the files for as long as the runtime lives; for background threads.
pub async fn watch(shelf: SharedShelf, house: Arc<House>) {
    loop {
        let every = lock(&shelf).every;
        tokio::time::sleep(every).await;
        let (house, shelf) = (Arc::clone(&house), Arc::clone(&shelf));
        let looked = tokio::task::spawn_blocking(move || lock(&shelf).look(&house));
        if let Err(error) = looked.await {
            tracing::error!("filter lists could not be looked at, the ones in force stay: {error}");
        }
    }
}
