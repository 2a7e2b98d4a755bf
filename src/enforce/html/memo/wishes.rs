//! Places at which an entry lacks a point. A page that is another each time, by a token or a date, mostly differs at the
//! same places. It is recorded anew once they are known, with points around each of them: from then on the rewriter
//! reads little more than what differs.

use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;

/// Pages that have to differ from an entry before it is recorded anew, and how often that is done.
const PAGES: u8 = 2;
pub(super) const ROUNDS: u8 = 3;
/// Most places of an entry.
const MOST: usize = 48;
/// Bytes that a point has to spare the rewriter.
const WORTH: usize = 512;
/// How far behind a difference points are put: where it is in a script, say, the rewriter is not as it was before the
/// script's end.
const BEHIND: [usize; 3] = [0, 256, 1024];

/// See the module's head.
#[derive(Debug, Default)]
pub(super) struct Wishes {
    /// Those that the entry was made with go first.
    places: RefCell<BTreeSet<usize>>,
    /// How many of them are new.
    new: Cell<usize>,
    pages: Cell<u8>,
    round: u8,
}

/// Where a recording is to keep points beside its own.
#[derive(Debug, Default)]
pub(super) struct Cuts {
    /// In bytes of the page as it comes; in order.
    places: Vec<usize>,
    round: u8,
}

/// Where a page differed, in bytes of its entry's.
#[derive(Debug, Clone, Copy)]
pub(super) struct Difference {
    /// The rewriter read from here,
    pub from: usize,
    /// though all was the same up to here
    pub parted: usize,
    /// and from here on,
    pub same: usize,
    /// to here.
    pub to: usize,
}

impl Wishes {
    /// Of the entry that such a recording makes.
    pub(super) fn after(cuts: &Cuts) -> Self {
        Self {
            places: RefCell::new(cuts.places.iter().copied().collect()),
            round: cuts.round,
            ..Self::default()
        }
    }

    /// Whether the entry may still be recorded anew.
    pub(super) const fn are_open(&self) -> bool {
        self.round < ROUNDS
    }

    /// A page differed from its entry there.
    ///
    /// Cost: a search for the tag before it and some behind it.
    pub(super) fn note(&self, original: &[u8], Difference { from, parted, same, to }: Difference) {
        let before = original.get(from..=parted).and_then(|read| memchr::memrchr(b'<', read));
        let before = before.filter(|length| *length >= WORTH).map(|length| from + length);
        let behind = BEHIND.iter().filter_map(|far| {
            let place = same + far;
            let end = place + memchr::memchr(b'>', original.get(place..to)?)? + 1;
            (to - end >= WORTH).then_some(end)
        });
        let mut places = self.places.borrow_mut();
        for place in before.into_iter().chain(behind) {
            if places.len() < MOST && places.insert(place) {
                self.new.update(|new| new + 1);
            }
        }
    }

    /// A page that differed is over.
    pub(super) fn page_over(&self) {
        self.pages.update(|pages| pages.saturating_add(1));
    }

    /// What to record the page with, if it is time to. The next call has none.
    pub(super) fn take(&self) -> Option<Cuts> {
        if !self.are_open() || self.pages.get() < PAGES || self.new.get() == 0 {
            return None;
        }
        self.new.set(0);
        let places = self.places.borrow().iter().copied().collect();
        Some(Cuts { places, round: self.round + 1 })
    }
}

impl Cuts {
    /// Bytes from a place of the page to the next cut.
    pub(super) fn ahead(&self, of: usize) -> Option<usize> {
        let next = self.places.partition_point(|place| *place <= of);
        self.places.get(next).map(|place| place - of)
    }

    /// Whether one is there.
    pub(super) fn are_at(&self, place: usize) -> bool {
        self.places.binary_search(&place).is_ok()
    }
}
