//! Which vendors the pages of opted-out visitors lost, by site and day: everybody else's pages loaded them.
//!
//! A bit for each vendor, set where a page is counted anyway and read in the background once a minute: a day's first
//! sight of a vendor costs a write of a row, every further one a load.

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

/// The vendors of one site that were seen today.
#[derive(Debug)]
pub struct SiteSightings {
    site: Arc<str>,
    /// Registry ids, by position.
    vendors: Vec<String>,
    seen: Box<[AtomicU64]>,
    /// Those of them that are on disk.
    kept: Box<[AtomicU64]>,
    wake: Arc<Notify>,
}

impl SiteSightings {
    /// A page had references of the vendor at this position of the registry.
    ///
    /// Cost: one relaxed load; once a day and vendor a write to the word.
    pub fn note(&self, vendor: u16) {
        let (at, bit) = (usize::from(vendor) / 64, 1_u64 << (vendor % 64));
        let Some(word) = self.seen.get(at) else { return };
        if word.load(Ordering::Relaxed) & bit == 0 && word.fetch_or(bit, Ordering::Relaxed) & bit == 0 {
            self.wake.notify_one();
        }
    }

    /// Words with those that are not on disk yet.
    fn new_words(&self) -> Vec<u64> {
        let words = self.seen.iter().zip(&self.kept);
        words.map(|(seen, kept)| seen.load(Ordering::Relaxed) & !kept.load(Ordering::Relaxed)).collect()
    }
}

/// A vendor that was seen on a site.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Sighting {
    pub(super) site: Arc<str>,
    pub(super) vendor: String,
}

/// What was taken out of memory, to be marked once it is on disk.
#[derive(Debug)]
pub(super) struct Taken(Vec<(Arc<SiteSightings>, Vec<u64>)>);

/// Those of all sites.
#[derive(Debug, Default)]
pub(super) struct Sightings {
    sites: Mutex<Vec<Arc<SiteSightings>>>,
    /// The day that the bits are of.
    day: AtomicI64,
}

impl Sightings {
    /// A site's, under settings that are coming into force.
    pub(super) fn site<'a>(
        &self,
        site: &Arc<str>,
        vendors: impl Iterator<Item = &'a str>,
        wake: &Arc<Notify>,
    ) -> Arc<SiteSightings> {
        let vendors: Vec<String> = vendors.map(str::to_owned).collect();
        let words = || (0..vendors.len().div_ceil(64)).map(|_| AtomicU64::new(0)).collect::<Box<[_]>>();
        let (seen, kept) = (words(), words());
        let own =
            Arc::new(SiteSightings { site: Arc::clone(site), vendors, seen, kept, wake: Arc::clone(wake) });
        self.lock().push(Arc::clone(&own));
        own
    }

    /// What is not on disk yet.
    pub(super) fn take(&self) -> (Vec<Sighting>, Taken) {
        let mut sites = self.lock();
        let mut found = Vec::new();
        let mut taken = Vec::new();
        sites.retain(|site| {
            let words = site.new_words();
            let any = words.iter().any(|word| *word != 0);
            for (at, vendor) in site.vendors.iter().enumerate() {
                if words.get(at / 64).is_some_and(|word| word >> (at % 64) & 1 == 1) {
                    found.push(Sighting { site: Arc::clone(&site.site), vendor: vendor.clone() });
                }
            }
            if any {
                taken.push((Arc::clone(site), words));
            }
            // Settings that are no longer in force, and whose last page is done.
            any || Arc::strong_count(site) > 1
        });
        (found, Taken(taken))
    }

    /// It is on disk. With the first look of another day everything is new again.
    pub(super) fn keep(&self, taken: Taken, day: i64) {
        for (site, words) in taken.0 {
            for (kept, word) in site.kept.iter().zip(words) {
                kept.fetch_or(word, Ordering::Relaxed);
            }
        }
        if self.day.swap(day, Ordering::Relaxed) != day {
            for site in self.lock().iter() {
                // What is set between the two is written once more, which changes nothing.
                site.kept.iter().chain(&site.seen).for_each(|word| word.store(0, Ordering::Relaxed));
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Arc<SiteSightings>>> {
        self.sites.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A page costs a write of a row once a day, site and vendor; nothing is lost when the disk fails.
    #[test]
    fn a_vendor_is_new_once_a_day_and_until_it_is_on_disk() {
        let (sightings, wake) = (Sightings::default(), Arc::new(Notify::new()));
        let ids: Vec<String> = (0..100).map(|n| format!("v{n}")).collect();
        let site = sightings.site(&"shop".into(), ids.iter().map(String::as_str), &wake);
        let new = || sightings.take().0.into_iter().map(|s| s.vendor).collect::<Vec<_>>();
        sightings.keep(sightings.take().1, 7);
        site.note(3);
        site.note(99);
        site.note(3);
        site.note(9_999);
        assert_eq!(new(), ["v3", "v99"]);
        assert_eq!(new(), ["v3", "v99"], "not on disk yet");
        sightings.keep(sightings.take().1, 7);
        site.note(3);
        assert_eq!(new(), Vec::<String>::new());
        sightings.keep(sightings.take().1, 8);
        site.note(3);
        assert_eq!(new(), ["v3"], "another day");
        drop(site);
        sightings.keep(sightings.take().1, 8);
        assert_eq!(new(), Vec::<String>::new());
        assert!(sightings.lock().is_empty(), "settings that are gone leave nothing");
    }
}
