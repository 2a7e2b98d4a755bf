//! The elements that are open: an end tag closes the nearest of its name, and all inside.

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
}

impl PartialEq for Opened {
    fn eq(&self, other: &Self) -> bool {
        self.items == other.items
    }
}

impl Opened {
    pub(super) fn new() -> Self {
        Self { items: Vec::with_capacity(64), buckets: Box::new([0; 256]) }
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
    }

    /// The place of the element that an end tag of this name closes.
    pub(super) fn closes(&self, name: Name) -> Option<usize> {
        if self.items.last().is_some_and(|(last, _)| *last == name) {
            return Some(self.items.len() - 1);
        }
        if self.buckets[bucket(name)] == 0 {
            return None;
        }
        self.items.iter().rposition(|(open, _)| *open == name)
    }

    pub(super) fn pop(&mut self) -> Option<Role> {
        let (name, role) = self.items.pop()?;
        self.buckets[bucket(name)] -= 1;
        Some(role)
    }
}

const fn bucket(name: Name) -> usize {
    (name.0.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 56) as usize
}
