//! The elements that are open: an end tag closes the nearest of its name, and all inside.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use super::gaps::looked;
use super::tag::Name;

/// What the end of an open element means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    /// Nothing.
    Plain,
    /// The guard's last place in the head.
    Head,
    /// The link's place, if it has none yet.
    Place,
    /// What is inside is not shown and not run.
    Template,
    /// Its footer is not the page's.
    Section,
    /// Its words may be the link's; named by its depth.
    Anchor(u32),
    /// A picture inside an anchor.
    Drawing,
    /// An AMP component that a script element configures.
    Component,
    /// Its text is judged.
    Judged(Sheet),
}

/// What kind of text an element holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sheet {
    /// A script, or data for one.
    Script,
    /// A style sheet.
    Style,
    /// Markup for browsers without scripts.
    Noscript,
}

/// The stack of open elements.
#[derive(Debug, Clone)]
pub(super) struct Opened {
    items: Vec<(Name, Role)>,
    /// How many names of each bucket are open: a stray end tag must not search the whole stack.
    buckets: Box<[u32; 256]>,
    /// How many elements of each name are open, once a page is deep and an end tag would have searched it: pages may
    /// choose names that share a bucket.
    counts: Option<HashMap<u64, u32>>,
}

/// Open elements that an end tag may always search.
const SHALLOW: usize = 64;

impl PartialEq for Opened {
    fn eq(&self, other: &Self) -> bool {
        self.items == other.items
    }
}

impl Opened {
    pub(super) fn new() -> Self {
        Self { items: Vec::with_capacity(SHALLOW), buckets: Box::new([0; 256]), counts: None }
    }

    /// How many are open.
    pub(super) const fn depth(&self) -> usize {
        self.items.len()
    }

    /// Memory it takes, in bytes.
    pub(super) const fn size(&self) -> usize {
        size_of::<(Name, Role)>() * self.items.len()
    }

    pub(super) fn push(&mut self, name: Name, role: Role) {
        self.items.push((name, role));
        self.buckets[bucket(name)] += 1;
        if let Some(counts) = &mut self.counts {
            *counts.entry(name.0).or_default() += 1;
        }
    }

    /// The place of the element that an end tag of this name closes.
    ///
    /// Cost: as many steps as it closes, and where it closes none, those of [`SHALLOW`].
    pub(super) fn closes(&mut self, name: Name) -> Option<usize> {
        if self.items.last().is_some_and(|(last, _)| *last == name) {
            return Some(self.items.len() - 1);
        }
        if self.buckets[bucket(name)] == 0 {
            return None;
        }
        if self.items.len() > SHALLOW && !self.is_counted(name) {
            return None;
        }
        looked(self.items.len());
        self.items.iter().rposition(|(open, _)| *open == name)
    }

    /// Whether an element of this name is open, by their exact numbers.
    fn is_counted(&mut self, name: Name) -> bool {
        let counts = self.counts.get_or_insert_with(|| {
            looked(self.items.len());
            let mut counts = HashMap::new();
            for (name, _) in &self.items {
                *counts.entry(name.0).or_default() += 1;
            }
            counts
        });
        counts.contains_key(&name.0)
    }

    pub(super) fn pop(&mut self) -> Option<Role> {
        let (name, role) = self.items.pop()?;
        self.buckets[bucket(name)] -= 1;
        if let Some(counts) = &mut self.counts
            && let Entry::Occupied(mut count) = counts.entry(name.0)
        {
            *count.get_mut() -= 1;
            if *count.get() == 0 {
                count.remove();
            }
        }
        Some(role)
    }
}

const fn bucket(name: Name) -> usize {
    (name.0.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 56) as usize
}

#[cfg(test)]
mod tests {
    use super::super::gaps::tests::bytes_looked_at;
    use super::*;

    /// Threat: a deep page, and end tags of a name that shares a bucket with what is open.
    #[test]
    fn stray_end_tags_cost_nothing_however_deep_the_page_is() {
        let (div, other) = (Name::of(b"div"), Name::of(b"ht"));
        assert_eq!(bucket(div), bucket(other), "the names do not share a bucket any more");
        let work = |n: usize| {
            bytes_looked_at(|| {
                let mut opened = Opened::new();
                (0..n).for_each(|_| opened.push(div, Role::Plain));
                assert!((0..n).all(|_| opened.closes(other).is_none()));
                opened.push(other, Role::Plain);
                opened.push(div, Role::Head);
                assert_eq!(opened.closes(other), Some(n));
                assert_eq!((opened.pop(), opened.pop()), (Some(Role::Head), Some(Role::Plain)));
                assert_eq!((opened.closes(other), opened.closes(div)), (None, Some(n - 1)));
            })
        };
        let (once, twice) = (work(1_000), work(2_000));
        assert!(twice <= once * 5 / 2, "{once}, then {twice} elements");
    }
}
