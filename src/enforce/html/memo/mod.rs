//! What became of pages before: a page whose bytes come again is not read again.
//!
//! Rewriting is a function of the page's bytes and of a [`Key`]. An entry holds a page as it came and as it went
//! out. The bytes of a page that comes are compared with those that came then, every one of them, and what went out
//! then goes out again: nothing rests on an address, a date or a tag. Where a byte differs the rewriter takes over
//! from the nearest point at which the entry keeps its state (`replay`), and where its state is again what it was
//! then, the entry takes over from it. Where pages keep differing, the entry gets points of their own (`wishes`).
//!
//! What was compared is given out only as far as the rewriter itself would have given it out by then: the points
//! say how far that is. Coded bodies have no points: they are compared whole, which takes no decoding, and given
//! out whole; those that are given out often are coded anew, in fewer bytes (`better`).
//!
//! An entry is of one core and one state of the settings; it costs the page twice, and some kilobytes for its
//! points. A page is remembered when it is asked for the second time.

mod better;
mod record;
mod replay;
mod wishes;

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;

use super::plan::Recipe;
use super::{Rewriter, Summary};
use crate::enforce::guard::Placement;
use crate::telemetry::memo::MemoMetrics;

use better::Recoding;
pub use better::{Aside, Work as AsideWork};
pub(super) use record::Recording;
pub(super) use replay::{Parting, Replay, Taken};
use wishes::{Cuts, Wishes};

/// Largest page that is remembered, in bytes as it comes or goes.
const MOST_PAGE: usize = 1 << 20;
/// Pages that are recorded at a time: each takes its size twice while it comes.
const RECORDINGS: usize = 2;
/// Pages whose first sight is remembered.
const SEEN: usize = 4096;
/// How long a coded page may take to come if it is to be remembered: its visitors will wait for its end.
const PATIENCE: Duration = Duration::from_millis(100);
/// Pages in a row that were mostly other than their entry, before it is made anew.
const MISFITS: u8 = 2;

/// What a page's rewriting depends on beside its bytes and the settings in force.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Key {
    /// Position of the site, and of its path rule.
    pub rule: (usize, Option<usize>),
    /// Address of the page.
    pub page: String,
    /// How it is rewritten.
    pub recipe: Recipe,
    /// The guard is placed.
    pub guard: Option<Guarded>,
    /// The keeper is placed.
    pub keeper: bool,
}

/// What the page's guard depends on beside the settings; see [`Placement`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Guarded {
    /// The browser itself sent the signal.
    pub gpc: bool,
    /// The texts of scripts must stay as they are.
    pub sealed: bool,
}

impl Guarded {
    /// Of a guard without a nonce; with one it is another on every page.
    #[must_use]
    pub fn of(placed: &Placement) -> Self {
        Self { gpc: placed.gpc, sealed: placed.sealed }
    }
}

/// A place in a page at which the rewriter can go on.
#[derive(Debug)]
struct Point {
    /// Bytes that had come.
    input: usize,
    /// Bytes that had gone out.
    output: usize,
    /// The rewriter as it was; `None` at the start.
    rewriter: Option<Rewriter>,
}

/// A page as it came, and as it went out.
#[derive(Debug)]
pub(super) struct Entry {
    original: Bytes,
    output: RefCell<Bytes>,
    /// In order; the first is the start.
    points: Vec<Point>,
    summary: Summary,
    wishes: Wishes,
    misfits: Cell<u8>,
    used: Cell<u64>,
    /// How often it was given out whole; and it was coded anew, or that was tried.
    given: Cell<u32>,
    recoded: Cell<bool>,
}

/// Bytes that a rewriter's state takes, about.
const POINT: usize = 4 << 10;

impl Entry {
    fn new(original: Bytes, output: Bytes, points: Vec<Point>, summary: Summary, wishes: Wishes) -> Self {
        let (misfits, used, given, recoded) = Default::default();
        Self {
            original,
            output: RefCell::new(output),
            points,
            summary,
            wishes,
            misfits,
            used,
            given,
            recoded,
        }
    }

    fn size(&self) -> usize {
        self.original.len() + self.output.borrow().len() + self.points.len() * POINT
    }
}

/// The pages that one core remembers.
pub struct Memo {
    entries: HashMap<Key, Rc<Entry>>,
    /// Marks of the pages that were seen once: odd, or even where a recording of the page was of no use.
    seen: Box<[u32]>,
    hasher: RandomState,
    bytes: usize,
    most: usize,
    uses: u64,
    /// Changes whenever everything is forgotten.
    epoch: u64,
    patience: Duration,
    /// Pages that are being recorded.
    recordings: usize,
    aside: Option<Aside>,
    recoding: Option<Recoding>,
    metrics: MemoMetrics,
}

impl std::fmt::Debug for Memo {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Memo")
            .field("pages", &self.entries.len())
            .field("bytes", &self.bytes)
            .finish_non_exhaustive()
    }
}

/// A core's memo, as the bodies under way share it.
pub type Shared = Rc<RefCell<Memo>>;

/// What is known of a page.
enum Known {
    /// Nothing, or not enough.
    New,
    /// It is worth remembering: it was seen before, or has to get points there.
    Seen(Cuts),
    /// What became of it.
    Entry(Rc<Entry>),
}

impl Memo {
    /// Remembers nothing yet, and at most so many bytes; with none it never will.
    #[must_use]
    pub fn new(most: usize, metrics: MemoMetrics) -> Shared {
        let seen = marks(most);
        let hasher = RandomState::new();
        let entries = HashMap::new();
        let (bytes, uses, epoch, recordings) = (0, 0, 0, 0);
        let (patience, aside, recoding) = (PATIENCE, None, None);
        Rc::new(RefCell::new(Self {
            entries,
            seen,
            hasher,
            bytes,
            most,
            uses,
            epoch,
            patience,
            recordings,
            aside,
            recoding,
            metrics,
        }))
    }

    /// Pages that go out coded and often are coded better, there.
    pub fn work_aside(&mut self, aside: Aside) {
        self.aside = Some(aside);
    }

    /// Forgets everything: other settings are in force. `most` is the bound from now on.
    pub fn clear(&mut self, most: usize) {
        let bytes = self.bytes;
        self.entries.clear();
        self.seen = marks(most);
        (self.bytes, self.most) = (0, most);
        self.epoch += 1;
        self.recoding = None;
        self.metrics.shrink(bytes);
    }

    fn look_up(&mut self, key: &Key) -> Known {
        self.uses += 1;
        self.take_recoded();
        let busy = self.recordings >= RECORDINGS;
        if let Some(entry) = self.entries.get(key) {
            if !busy && let Some(cuts) = entry.wishes.take() {
                return Known::Seen(cuts);
            }
            entry.used.set(self.uses);
            return Known::Entry(Rc::clone(entry));
        }
        match self.mark(key) {
            Some((seen, mark)) if *seen == mark && !busy => Known::Seen(Cuts::default()),
            Some((seen, mark)) if *seen != in_vain(mark) => {
                *seen = mark;
                Known::New
            }
            _ => Known::New,
        }
    }

    /// The place of a page's mark, and the mark; `None` where nothing is remembered.
    fn mark(&mut self, key: &Key) -> Option<(&mut u32, u32)> {
        let hash = self.hasher.hash_one(key);
        let slots = self.seen.len() as u64;
        let seen = self.seen.get_mut((hash % slots.max(1)) as usize)?;
        Some((seen, (hash >> 32) as u32 | 1))
    }

    fn insert(&mut self, key: Key, entry: Entry) {
        let size = entry.size();
        if size > self.most / 4 {
            return;
        }
        self.forget(&key);
        while self.bytes + size > self.most {
            let oldest = self.entries.iter().min_by_key(|(_, entry)| entry.used.get());
            let Some(oldest) = oldest.map(|(key, _)| key.clone()) else { break };
            self.forget(&oldest);
        }
        entry.used.set(self.uses);
        self.bytes += size;
        self.metrics.grow(size);
        self.entries.insert(key, Rc::new(entry));
    }

    fn forget(&mut self, key: &Key) {
        if let Some(entry) = self.entries.remove(key) {
            self.bytes -= entry.size();
            self.metrics.shrink(entry.size());
        }
    }
}

/// The mark of a page that is not to be recorded again.
const fn in_vain(mark: u32) -> u32 {
    mark & !1
}

/// Room for marks, where anything will be remembered.
fn marks(most: usize) -> Box<[u32]> {
    vec![0; if most == 0 { 0 } else { SEEN }].into()
}

impl Drop for Memo {
    fn drop(&mut self) {
        self.metrics.shrink(self.bytes);
    }
}

/// A page's place in the memo.
#[derive(Debug)]
pub struct Ticket {
    memo: Shared,
    key: Key,
    epoch: u64,
}

/// What the memo has for a page.
#[derive(Debug)]
pub(super) enum Work {
    /// Nothing.
    None,
    /// It is to be remembered.
    Record(Recording),
    /// It is remembered.
    Replay(Replay),
}

impl Ticket {
    /// For one page.
    #[must_use]
    pub fn new(memo: &Shared, key: Key) -> Self {
        let epoch = memo.borrow().epoch;
        Self { memo: Rc::clone(memo), key, epoch }
    }

    /// Looks the page up.
    pub(super) fn work(self) -> Work {
        let known = self.memo.borrow_mut().look_up(&self.key);
        match known {
            Known::Entry(entry) => Work::Replay(Replay::new(self, entry)),
            Known::Seen(cuts) => {
                let mut memo = self.memo.borrow_mut();
                memo.metrics.misses.inc();
                memo.recordings += 1;
                drop(memo);
                Work::Record(Recording::new(self, cuts))
            }
            Known::New => {
                self.memo.borrow().metrics.misses.inc();
                Work::None
            }
        }
    }

    /// Whether the body, coming or going, is coded.
    fn is_coded(&self) -> bool {
        use super::negotiate::Coding;
        self.key.recipe.from != Coding::Identity || self.key.recipe.to != Coding::Identity
    }

    fn patience(&self) -> Duration {
        self.memo.borrow().patience
    }

    fn remember(&self, entry: Entry) {
        let mut memo = self.memo.borrow_mut();
        if memo.epoch == self.epoch {
            memo.insert(self.key.clone(), entry);
        }
    }

    /// A recording is over, well or not. `useless`: so would the next one be.
    fn recorded(&self, useless: bool) {
        let mut memo = self.memo.borrow_mut();
        memo.recordings -= 1;
        if useless && let Some((seen, mark)) = memo.mark(&self.key) {
            *seen = in_vain(mark);
        }
    }

    /// Notes how well the page fitted its entry.
    fn fitted(&self, entry: &Entry, compared: usize, of: usize) {
        let mut memo = self.memo.borrow_mut();
        memo.metrics.compared_bytes.inc_by(compared as u64);
        memo.metrics.read_bytes.inc_by((of - compared) as u64);
        let whole = compared == of;
        if whole {
            memo.metrics.hits.inc();
        } else {
            memo.metrics.partial.inc();
            entry.wishes.page_over();
        }
        if compared >= of / 2 {
            entry.misfits.set(0);
            return;
        }
        entry.misfits.set(entry.misfits.get().saturating_add(1));
        let same = memo.entries.get(&self.key).is_some_and(|known| std::ptr::eq(&**known, entry));
        if same && entry.misfits.get() >= MISFITS {
            memo.forget(&self.key);
        }
    }
}
