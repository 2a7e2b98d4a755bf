//! In place of `engine.rs` where the `lists` feature is off: settings with lists are refused before any of
//! this is called.

use super::{FilterList, Question};

/// What a line of a list is.
pub(super) enum Line {
    /// A rule about requests.
    Rule,
    /// Anything else.
    Aside,
    /// A rule that cannot be used; why.
    Wrong(String),
}

/// Nothing is a rule.
pub(super) fn read_line(_: &str) -> Line {
    Line::Aside
}

/// Matches nothing.
pub(super) struct Engine;

impl Engine {
    /// An engine without rules.
    pub(super) fn build(_: &[&FilterList], _: bool) -> Self {
        Self
    }

    /// Another one.
    pub(super) fn copy(&self, _: &[&FilterList]) -> Self {
        Self
    }

    /// Nothing matches.
    pub(super) fn matches(&self, _: &Question<'_>) -> bool {
        false
    }

    /// There is no rule.
    pub(super) fn rule(&self, _: &Question<'_>) -> Option<(usize, usize, String)> {
        None
    }
}
