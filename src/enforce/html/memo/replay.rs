//! A page that is compared with what is remembered of it.

use std::rc::Rc;

use bytes::Bytes;

use super::{Entry, Point, Ticket};
use crate::config::VendorAction;
use crate::enforce::html::{Rewriter, Summary};
use crate::registry::VendorId;

/// Bytes by which a place of the page is found again.
const SIGN: usize = 32;
/// Points that are looked for at a time.
const AHEAD: usize = 4;
/// How far a place may have moved, in bytes, to be found again.
const SHIFT: usize = 16 << 10;
/// How often a page may part with its entry before it is left to the rewriter.
const PARTINGS: u8 = 16;

/// See the module's head.
#[derive(Debug)]
pub(in super::super) struct Replay {
    ticket: Ticket,
    entry: Rc<Entry>,
    /// Bytes of the entry's page that came, or would have.
    at: usize,
    /// Bytes of its output that went out, or would have.
    sent: usize,
    /// The rewriter is at work; points from here on may be where it stops.
    live: Option<usize>,
    /// Where in the entry's page it took over, and bytes it has read since.
    parted: usize,
    since: usize,
    partings: u8,
    /// Bytes compared and found the same, and all bytes.
    compared: usize,
    of: usize,
    /// What this page counts beyond what the entry's counts say.
    beyond: Vec<(VendorId, VendorAction, i64)>,
    siblings: Vec<String>,
}

/// What a piece of the page turned out to be.
#[derive(Debug)]
pub(in super::super) enum Taken {
    /// What came before.
    Same,
    /// Other, from some place on.
    Other(Parting),
}

/// Where the rewriter has to take over.
#[derive(Debug)]
pub(in super::super) struct Parting {
    /// What may still go out before.
    pub out: Bytes,
    /// The rewriter; `None`: the page's own, which has read nothing yet.
    pub rewriter: Option<Rewriter>,
    /// What it has to be given first: it came already.
    pub again: Bytes,
    /// Bytes of the piece that are in that.
    pub matched: usize,
}

impl Replay {
    pub(super) fn new(ticket: Ticket, entry: Rc<Entry>) -> Self {
        Self {
            ticket,
            entry,
            at: 0,
            sent: 0,
            live: None,
            parted: 0,
            since: 0,
            partings: 0,
            compared: 0,
            of: 0,
            beyond: Vec::new(),
            siblings: Vec::new(),
        }
    }

    /// Whether the page's bytes are compared; else the rewriter reads them.
    pub(in super::super) const fn compares(&self) -> bool {
        self.live.is_none()
    }

    /// Compares a piece.
    ///
    /// Cost: a comparison of memory.
    pub(in super::super) fn take(&mut self, piece: &[u8]) -> Taken {
        let rest = &self.entry.original[self.at..];
        let length = piece.len().min(rest.len());
        let matched = if piece[..length] == rest[..length] { length } else { common(piece, rest) };
        self.at += matched;
        self.compared += matched;
        self.of += matched;
        if matched == piece.len() {
            return Taken::Same;
        }
        Taken::Other(self.part(matched))
    }

    /// The page has ended while it was compared: what may go out, and its summary if it is the same.
    pub(in super::super) fn end(&mut self) -> Result<(Bytes, Summary), Parting> {
        if self.at < self.entry.original.len() {
            return Err(self.part(0));
        }
        let out = self.entry.output.slice(self.sent..);
        Ok((out, self.summary(self.entry.summary.clone())))
    }

    /// What of the output the rewriter would have given out for what came.
    pub(in super::super) fn due(&mut self) -> Bytes {
        let to = self.point().map_or(0, |(_, point)| point.output).max(self.sent);
        let out = self.entry.output.slice(self.sent..to);
        self.sent = to;
        out
    }

    /// The last point that was passed.
    fn point(&self) -> Option<(usize, &Point)> {
        let passed = self.entry.points.partition_point(|point| point.input <= self.at);
        let last = passed.checked_sub(1)?;
        self.entry.points.get(last).map(|point| (last, point))
    }

    fn part(&mut self, matched: usize) -> Parting {
        let out = self.due();
        let (at, input, rewriter) = match self.point() {
            Some((at, point)) => (at, point.input, point.rewriter.as_ref().and_then(Rewriter::fork)),
            None => (0, 0, None),
        };
        self.partings = self.partings.saturating_add(1);
        self.live = Some(if self.partings < PARTINGS { at + 1 } else { usize::MAX });
        (self.parted, self.since) = (self.at, 0);
        Parting { out, rewriter, again: self.entry.original.slice(input..self.at), matched }
    }

    /// Where in a piece that the rewriter is about to read the page may become what it was again: the place, and
    /// the point.
    ///
    /// Cost: a few searches through as many bytes as a place may have moved.
    pub(in super::super) fn look_for(&self, piece: &[u8]) -> Option<(usize, usize)> {
        let from = self.live?;
        let points = self.entry.points.get(from..)?;
        points.iter().take(AHEAD).enumerate().find_map(|(ahead, point)| {
            let sign = self.entry.original.get(point.input..point.input + SIGN)?;
            // Where it is if nothing has moved: pages repeat themselves, and another place would be a wrong one.
            let unmoved = point.input.saturating_sub(self.parted);
            let window = (unmoved + SHIFT + SIGN).checked_sub(self.since)?.min(piece.len());
            let start = unmoved.saturating_sub(SHIFT + self.since).min(window);
            let moved = |place: &usize| (start + place + self.since).abs_diff(unmoved);
            let place = memchr::memmem::find_iter(&piece[start..window], sign).min_by_key(moved)?;
            Some((start + place, from + ahead))
        })
    }

    /// The rewriter has read a piece.
    pub(in super::super) const fn read(&mut self, bytes: usize) {
        self.of += bytes;
        self.since += bytes;
    }

    /// Where the rewriter, at the place of a point, is as it was then, the rest is compared again.
    pub(in super::super) fn rejoin(&mut self, at: usize, rewriter: Option<&Rewriter>) {
        let point = self.entry.points.get(at);
        let same = point.zip(rewriter).and_then(|(point, rewriter)| {
            let then = point.rewriter.as_ref().filter(|then| rewriter.stands_as(then))?;
            Some((point, rewriter, then))
        });
        let Some((point, rewriter, then)) = same else {
            self.live = Some(at + 1);
            return;
        };
        let (now, then) = (rewriter.counted(), then.counted());
        add(&mut self.beyond, &now.vendors, 1);
        add(&mut self.beyond, &then.vendors, -1);
        self.siblings.extend(now.siblings);
        (self.at, self.sent, self.live) = (point.input, point.output, None);
    }

    /// The summary of this page, from that of its end.
    pub(in super::super) fn summary(&self, mut end: Summary) -> Summary {
        let mut counts = self.beyond.clone();
        add(&mut counts, &end.vendors, 1);
        let counted =
            |(vendor, action, count)| Some((vendor, action, u32::try_from(count).ok().filter(|n| *n > 0)?));
        end.vendors = counts.into_iter().filter_map(counted).collect();
        for host in &self.siblings {
            if !end.siblings.contains(host) {
                end.siblings.push(host.clone());
            }
        }
        end
    }
}

impl Drop for Replay {
    fn drop(&mut self) {
        if self.of > 0 {
            self.ticket.fitted(&self.entry, self.compared, self.of);
        }
    }
}

/// Length of what both begin with.
fn common(a: &[u8], b: &[u8]) -> usize {
    let (blocks, others) = (a.chunks_exact(64), b.chunks_exact(64));
    let whole = blocks.zip(others).take_while(|(a, b)| a == b).count() * 64;
    whole + a[whole..].iter().zip(&b[whole..]).take_while(|(a, b)| a == b).count()
}

fn add(counts: &mut Vec<(VendorId, VendorAction, i64)>, more: &[(VendorId, VendorAction, u32)], sign: i64) {
    for (vendor, action, count) in more {
        let by = i64::from(*count) * sign;
        match counts.iter_mut().find(|(v, a, _)| v == vendor && a == action) {
            Some((.., count)) => *count += by,
            None => counts.push((*vendor, *action, by)),
        }
    }
}
