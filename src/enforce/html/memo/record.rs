//! A page that is remembered while it is rewritten.

use std::time::Duration;

use super::{Cuts, Entry, MOST_PAGE, Point, Ticket, Wishes};
use crate::enforce::html::{Rewriter, Summary};

/// Bytes between two points, while the page is small; later a part of what has come.
const BETWEEN: usize = 4 << 10;

/// Points of a page, whatever its pauses are.
const MOST_POINTS: usize = 128;

/// See the module's head.
#[derive(Debug)]
pub(in super::super) struct Recording {
    ticket: Ticket,
    original: Vec<u8>,
    output: Vec<u8>,
    points: Vec<Point>,
    cuts: Cuts,
    coded: bool,
    given_up: bool,
}

impl Recording {
    pub(super) fn new(ticket: Ticket, cuts: Cuts) -> Self {
        let coded = ticket.is_coded();
        Self {
            ticket,
            original: Vec::new(),
            output: Vec::new(),
            points: vec![Point { input: 0, output: 0, rewriter: None }],
            cuts,
            coded,
            given_up: false,
        }
    }

    /// Most bytes to give the rewriter at a time, so that points have their places.
    pub(in super::super) fn block(&self) -> usize {
        if self.coded || self.given_up {
            return usize::MAX;
        }
        self.cuts.ahead(self.original.len()).map_or(BETWEEN, |ahead| ahead.min(BETWEEN))
    }

    /// Bytes came, and others went out for them.
    pub(in super::super) fn add(&mut self, came: &[u8], went: &[u8]) {
        if self.given_up
            || self.original.len() + came.len() > MOST_PAGE
            || self.output.len() + went.len() > MOST_PAGE
        {
            self.give_up();
            return;
        }
        self.original.extend_from_slice(came);
        self.output.extend_from_slice(went);
    }

    /// Keeps the rewriter's state, if it is time; `pause`: the origin lets its visitor wait here, who must have
    /// by then what he had the first time.
    pub(in super::super) fn point(&mut self, pause: bool, rewriter: impl FnOnce() -> Option<Rewriter>) {
        let (input, output) = (self.original.len(), self.output.len());
        let last = self.points.last().map_or(0, |point| point.input);
        let least = if pause || self.cuts.are_at(input) { 1 } else { BETWEEN.max(input / 32) };
        if self.coded || self.given_up || input - last < least || self.points.len() >= MOST_POINTS {
            return;
        }
        if let Some(rewriter) = rewriter() {
            self.points.push(Point { input, output, rewriter: Some(rewriter) });
        }
    }

    /// What was recorded is of no use.
    pub(in super::super) fn give_up(&mut self) {
        self.given_up = true;
        (self.original, self.output, self.points) = (Vec::new(), Vec::new(), Vec::new());
    }

    /// The page has ended well, and took so long to come.
    pub(in super::super) fn finish(mut self, summary: &Summary, took: Duration) {
        let slow = self.coded && took > self.ticket.patience();
        if self.given_up || slow || self.original.is_empty() {
            return;
        }
        let entry = Entry::new(
            std::mem::take(&mut self.original).into(),
            std::mem::take(&mut self.output).into(),
            std::mem::take(&mut self.points),
            summary.clone(),
            Wishes::after(&self.cuts),
        );
        self.ticket.remember(entry);
    }
}

impl Drop for Recording {
    fn drop(&mut self) {
        self.ticket.recorded(self.given_up);
    }
}
