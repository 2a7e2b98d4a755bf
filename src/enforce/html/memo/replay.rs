//! A page that is compared with what is remembered of it.

use std::rc::Rc;

use bytes::Bytes;

use super::wishes::Difference;
use super::{Entry, Point, Ticket};
use crate::config::VendorAction;
use crate::enforce::html::{Rewriter, Summary};
use crate::registry::VendorId;

/// Bytes by which a place of the page is found again.
const SIGN: usize = 32;
/// Points that are looked for at a time.
const AHEAD: usize = 8;
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
    /// Where it began to read for that, and where both pages seem to be the same again.
    from: usize,
    same: usize,
    /// What it has read since, of the first `SHIFT` bytes, while that is asked for.
    pieces: Vec<Bytes>,
    partings: u8,
    /// Bytes compared and found the same, and all bytes.
    compared: usize,
    of: usize,
    /// What this page counts beyond what the entry's counts say.
    beyond: Vec<(VendorId, VendorAction, i64)>,
    siblings: Vec<String>,
    strangers: Vec<String>,
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
            from: 0,
            same: 0,
            pieces: Vec::new(),
            partings: 0,
            compared: 0,
            of: 0,
            beyond: Vec::new(),
            siblings: Vec::new(),
            strangers: Vec::new(),
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
        let out = self.entry.output.borrow().slice(self.sent..);
        self.ticket.given(&self.entry);
        Ok((out, self.summary(self.entry.summary.clone())))
    }

    /// What of the output the rewriter would have given out for what came.
    pub(in super::super) fn due(&mut self) -> Bytes {
        let to = self.point().map_or(0, |(_, point)| point.output).max(self.sent);
        let out = self.entry.output.borrow().slice(self.sent..to);
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
        (self.parted, self.since, self.from) = (self.at, 0, input);
        self.pieces.clear();
        Parting { out, rewriter, again: self.entry.original.slice(input..self.at), matched }
    }

    /// Where in a piece that the rewriter is about to read the page may become what it was again: the place, and
    /// the point.
    ///
    /// Cost: a few searches through as many bytes as a place may have moved; none where nothing has.
    pub(in super::super) fn look_for(&mut self, piece: &[u8]) -> Option<(usize, usize)> {
        let from = self.live?;
        let points = self.entry.points.get(from..)?;
        let (place, ahead) = points.iter().take(AHEAD).enumerate().find_map(|(ahead, point)| {
            let sign = self.entry.original.get(point.input..point.input + SIGN)?;
            // Where it is if nothing has moved: pages repeat themselves, and another place would be a wrong one.
            let unmoved = point.input.saturating_sub(self.parted);
            let there = unmoved.checked_sub(self.since);
            if let Some(there) =
                there.filter(|there| piece.get(*there..).is_some_and(|p| p.starts_with(sign)))
            {
                return Some((there, ahead));
            }
            // Nor is another place looked at before that one came.
            let window = (unmoved + SHIFT + SIGN).checked_sub(self.since)?.min(piece.len());
            if unmoved + SIGN > self.since + window {
                return None;
            }
            let start = unmoved.saturating_sub(SHIFT + self.since).min(window);
            let moved = |place: &usize| (start + place + self.since).abs_diff(unmoved);
            let place = memchr::memmem::find_iter(&piece[start..window], sign).min_by_key(moved)?;
            Some((start + place, ahead))
        })?;
        if self.entry.wishes.are_open() {
            let to = points[ahead].input;
            let earlier = self.pieces.iter().rev().map(|piece| &**piece);
            let read = std::iter::once(&piece[..place]).chain(earlier);
            self.same = to - common_end(read, &self.entry.original[self.parted..to]);
        }
        Some((place, from + ahead))
    }

    /// The rewriter reads a piece.
    pub(in super::super) fn read(&mut self, piece: &Bytes) {
        self.of += piece.len();
        if self.since >= SHIFT {
            self.pieces.clear();
        } else if self.entry.wishes.are_open() {
            self.pieces.push(piece.clone());
        }
        self.since += piece.len();
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
        let (now, then, to) = (rewriter.counted(), then.counted(), point.input);
        self.differed(self.same, to);
        add(&mut self.beyond, &now.vendors, 1);
        add(&mut self.beyond, &then.vendors, -1);
        self.siblings.extend(now.siblings);
        self.strangers.extend(now.strangers);
        (self.at, self.sent, self.live) = (to, point.output, None);
    }

    /// The rewriter has read to there, though both pages were the same from `same` on.
    fn differed(&self, same: usize, to: usize) {
        let Entry { original, points, wishes, .. } = &*self.entry;
        // What is coded has none.
        if points.len() > 1 && wishes.are_open() {
            wishes.note(original, Difference { from: self.from, parted: self.parted, same, to });
        }
    }

    /// The summary of this page, from that of its end.
    pub(in super::super) fn summary(&self, mut end: Summary) -> Summary {
        let mut counts = self.beyond.clone();
        add(&mut counts, &end.vendors, 1);
        let counted =
            |(vendor, action, count)| Some((vendor, action, u32::try_from(count).ok().filter(|n| *n > 0)?));
        end.vendors = counts.into_iter().filter_map(counted).collect();
        for (told, hosts) in [(&mut end.siblings, &self.siblings), (&mut end.strangers, &self.strangers)] {
            for host in hosts {
                if !told.contains(host) {
                    told.push(host.clone());
                }
            }
        }
        end
    }
}

impl Drop for Replay {
    fn drop(&mut self) {
        if self.live.is_some() {
            let end = self.entry.original.len();
            self.differed(end, end);
        }
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

/// Length of what both end with; one comes in pieces, its last first.
fn common_end<'a>(pieces: impl Iterator<Item = &'a [u8]>, whole: &[u8]) -> usize {
    let bytes = pieces.flat_map(|piece| piece.iter().rev());
    bytes.zip(whole.iter().rev()).take_while(|(a, b)| a == b).count()
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

/// What the memo gives out is what the rewriter would have made, for every page there is, at every cut, with any
/// change.
#[cfg(test)]
mod tests {
    use std::collections::VecDeque;
    use std::convert::Infallible;
    use std::pin::Pin;
    use std::sync::{Arc, LazyLock};
    use std::task::{Context, Poll, Waker};

    use bytes::Bytes;
    use http_body::{Body, Frame};
    use proptest::prelude::*;

    use super::super::super::body::{Done, RewriteBody};
    use super::super::super::coding::{Bounds, Decoder, Effort, Encoder};
    use super::super::super::negotiate::Coding;
    use super::super::super::{Kind, Plan, Summary, testing};
    use super::super::*;
    use crate::config::{OnRewriteFailure, SignalSettings};
    use crate::enforce::guard::{Guard, Placement};

    static GUARD: LazyLock<Arc<Guard>> = LazyLock::new(|| {
        Arc::new(Guard::new(&testing::POLICY, "/privacy-choices", &SignalSettings::default()))
    });

    fn plan(opted_out: bool) -> Plan {
        let guard = Some(Placement { guard: Arc::clone(&GUARD), gpc: true, nonce: None, sealed: false });
        Plan { guard, memory: 2 << 20, ..testing::plan(opted_out) }
    }

    fn recipe(opted_out: bool, coding: Coding) -> Recipe {
        Recipe {
            opted_out,
            kind: Kind::Document,
            sniff: false,
            xml: false,
            charset: None,
            from: coding,
            to: coding,
            bodiless: false,
        }
    }

    /// A body in pieces; an empty piece is a pause.
    struct Pieces(VecDeque<Bytes>);

    impl Body for Pieces {
        type Data = Bytes;
        type Error = Infallible;

        fn poll_frame(
            mut self: Pin<&mut Self>,
            cx: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
            match self.0.pop_front() {
                Some(piece) if piece.is_empty() => {
                    cx.waker().wake_by_ref();
                    Poll::Pending
                }
                piece => Poll::Ready(piece.map(|piece| Ok(Frame::data(piece)))),
            }
        }
    }

    fn cut(page: &[u8], sizes: &[usize]) -> VecDeque<Bytes> {
        let (mut pieces, mut at) = (VecDeque::new(), 0);
        for (turn, size) in sizes.iter().cycle().enumerate() {
            let end = (at + size.max(&1)).min(page.len());
            pieces.push_back(Bytes::copy_from_slice(&page[at..end]));
            if turn % 3 == 2 {
                pieces.push_back(Bytes::new());
            }
            at = end;
            if at == page.len() {
                return pieces;
            }
        }
        pieces
    }

    fn key(recipe: Recipe) -> Key {
        Key {
            rule: (0, None),
            page: "https://shop.example/page".into(),
            recipe,
            guard: Some(Guarded { gpc: true, sealed: false }),
            keeper: true,
        }
    }

    /// What goes out for a page, and its summary.
    fn run(memo: Option<&Shared>, page: &[u8], sizes: &[usize], recipe: Recipe) -> (Vec<u8>, Summary) {
        let ticket = memo.map(|memo| Ticket::new(memo, key(recipe)));
        let bounds = Bounds { ratio: 1_000, bytes: 1 << 30, strict: true };
        let pieces = Pieces(if page.is_empty() { VecDeque::new() } else { cut(page, sizes) });
        let done: Rc<RefCell<Option<Done>>> = Rc::default();
        let told = Rc::clone(&done);
        let mut body =
            RewriteBody::new(pieces, &recipe, plan(recipe.opted_out), bounds, OnRewriteFailure::Close)
                .with_memo(ticket)
                .with_on_done(Box::new(move |done| *told.borrow_mut() = Some(done)));
        let (mut out, mut cx) = (Vec::new(), Context::from_waker(Waker::noop()));
        loop {
            match Pin::new(&mut body).poll_frame(&mut cx) {
                Poll::Pending => {}
                Poll::Ready(Some(frame)) => out.extend_from_slice(&frame.unwrap().into_data().unwrap()),
                Poll::Ready(None) => break,
            }
        }
        drop(body);
        let Some(Done::Finished(mut summary)) = done.take() else { panic!("the page did not end well") };
        summary.vendors.sort_by_key(|(vendor, action, _)| (vendor.0, *action as u8));
        // Hosts of the entry's page may be told of once more.
        summary.siblings.clear();
        summary.strangers.clear();
        (out, summary)
    }

    fn memo() -> Shared {
        let memo = Memo::new(64 << 20, MemoMetrics::default());
        memo.borrow_mut().patience = Duration::MAX;
        memo
    }

    /// Has a page remembered.
    fn remember(memo: &Shared, page: &[u8], sizes: &[usize], recipe: Recipe) {
        for _ in 0..2 {
            run(Some(memo), page, sizes, recipe);
        }
        assert!(page.is_empty() || memo.borrow().entries.len() == 1, "it was remembered");
    }

    fn pages() -> Vec<Vec<u8>> {
        testing::pages().into_iter().map(|path| std::fs::read(path).unwrap()).collect()
    }

    fn code(coding: Coding, page: &[u8]) -> Vec<u8> {
        let (mut encoder, mut out) = (Encoder::new(coding, Effort::Fast).unwrap(), Vec::new());
        encoder.write(page, &mut out).unwrap();
        encoder.finish(&mut out).unwrap();
        out
    }

    fn decode(coding: Coding, coded: &[u8]) -> Vec<u8> {
        let (mut decoder, mut out) = (Decoder::new(coding, Bounds::ratio(10_000)).unwrap(), Vec::new());
        let mut sink = |piece: &[u8]| {
            out.extend_from_slice(piece);
            Ok::<_, super::super::super::coding::CodingError>(())
        };
        decoder.write(coded, &mut sink).unwrap();
        decoder.finish().unwrap();
        out
    }

    /// The memo is exact by construction, so every page of the fixtures and the corpus must agree byte for
    /// byte; the same again, and with a change in its middle, as a token or a date makes one.
    #[test]
    fn every_page_goes_out_as_the_rewriter_makes_it() {
        let (mut hits, mut partly, mut compared) = (0, 0, 0);
        let pages = pages();
        for (at, page) in pages.iter().enumerate() {
            let recipe = recipe(at % 4 != 3, Coding::Identity);
            let (memo, sizes) = (memo(), [16_384, 1_000 + at]);
            let expected = run(None, page, &sizes, recipe);
            remember(&memo, page, &[7_000 + 13 * at], recipe);
            assert!(run(Some(&memo), page, &sizes, recipe) == expected, "page {at} again");
            hits += memo.borrow().metrics.hits.get();
            let middle = page.len() / 3;
            let mut changed = page.clone();
            changed.splice(middle..middle + page.len().min(3) / 3, format!("<!-- {at} -->").into_bytes());
            let expected = run(None, &changed, &sizes, recipe);
            assert!(run(Some(&memo), &changed, &sizes, recipe) == expected, "page {at} changed");
            partly += memo.borrow().metrics.partial.get();
            compared += changed.len();
        }
        println!("{} pages: {hits} the same again, {partly} of them changed, {compared} bytes", pages.len());
        assert_eq!(hits as usize, pages.iter().filter(|page| !page.is_empty()).count());
        assert!(pages.len() > 40 && partly > 40);
    }

    /// As above, of pages that come and go coded: the third time from the memo, and then with a change.
    #[test]
    fn every_coded_page_goes_out_as_the_rewriter_makes_it() {
        let (mut hits, mut partly) = (0, 0);
        let pages = pages();
        for (at, page) in pages.iter().enumerate() {
            let coding = [Coding::Gzip, Coding::Zstd, Coding::Brotli][at % 3];
            let (recipe, plain) = (recipe(true, coding), recipe(true, Coding::Identity));
            let mut changed = page.clone();
            changed.splice(page.len() / 2.., b"<!-- another -->".to_vec());
            let memo = memo();
            for (turn, page) in [page, page, page, &changed].into_iter().enumerate() {
                let (out, summary) = run(Some(&memo), &code(coding, page), &[9_000], recipe);
                let expected = run(None, page, &[30_000], plain);
                assert!(
                    decode(coding, &out) == expected.0 && summary == expected.1,
                    "page {at}, {coding:?}, {turn}"
                );
            }
            hits += memo.borrow().metrics.hits.get();
            partly += memo.borrow().metrics.partial.get();
        }
        println!("{} coded pages: {hits} the same again, {partly} of them changed", pages.len());
        assert!(hits > 40 && partly > 40);
    }

    /// A coded page is compared as it is, and nothing of it is sent before it is known whole.
    #[test]
    fn a_coded_page_goes_out_as_it_did_and_a_changed_one_is_rewritten() {
        for coding in [Coding::Gzip, Coding::Zstd, Coding::Brotli] {
            let page = "<body>".to_owned() + &"<p>text<img src=//dis.criteo.com/a>".repeat(2_000) + "</body>";
            let other = page.replacen("text", "more text", 1_500);
            let (recipe, plain) = (recipe(true, coding), recipe(true, Coding::Identity));
            let memo = memo();
            remember(&memo, &code(coding, page.as_bytes()), &[500], recipe);
            for (page, hits, partial) in [(&page, 1, 0), (&other, 1, 1), (&page, 2, 1)] {
                let expected = run(None, page.as_bytes(), &[usize::MAX / 2], plain);
                let (out, summary) = run(Some(&memo), &code(coding, page.as_bytes()), &[300], recipe);
                assert!(decode(coding, &out) == expected.0 && summary == expected.1, "{coding:?}");
                let metrics = memo.borrow().metrics.clone();
                assert_eq!((metrics.hits.get(), metrics.partial.get()), (hits, partial), "{coding:?}");
            }
        }
    }

    /// Whoever asks for a coded page waits for all of it before its first byte: one that trickles is not for the memo.
    #[test]
    fn a_coded_page_that_comes_slowly_is_not_remembered() {
        let memo = memo();
        memo.borrow_mut().patience = Duration::ZERO;
        let (mut encoder, mut page) = (Encoder::new(Coding::Gzip, Effort::Fast).unwrap(), Vec::new());
        encoder.write(b"<body>x</body>", &mut page).unwrap();
        encoder.finish(&mut page).unwrap();
        for _ in 0..3 {
            run(Some(&memo), &page, &[5], recipe(true, Coding::Gzip));
        }
        assert_eq!(memo.borrow().entries.len(), 0);
    }

    /// Pages that are too large, and bodies that turn out to be none, would be copied in vain each time.
    #[test]
    fn what_cannot_be_remembered_is_recorded_once() {
        let recipe = recipe(true, Coding::Identity);
        for page in [b"<p>small".to_vec(), b"<p>large".repeat(MOST_PAGE / 8 + 1)] {
            let (memo, small) = (memo(), page.len() < MOST_PAGE);
            run(Some(&memo), &page, &[9_000], recipe);
            assert!(matches!(memo.borrow_mut().look_up(&key(recipe)), Known::Seen(_)));
            run(Some(&memo), &page, &[9_000], recipe);
            for _ in 0..2 {
                let known = memo.borrow_mut().look_up(&key(recipe));
                assert!(if small { matches!(known, Known::Entry(_)) } else { matches!(known, Known::New) });
            }
            assert_eq!(memo.borrow().recordings, 0);
        }
    }

    /// A page that is another every time is no use, and one that was replaced for good is remembered anew.
    #[test]
    fn an_entry_that_does_not_fit_is_made_anew() {
        let recipe = recipe(true, Coding::Identity);
        let memo = memo();
        let page = |words: &str| format!("<body><p>{}</body>", words.repeat(5_000)).into_bytes();
        remember(&memo, &page("old "), &[4_096], recipe);
        for _ in 0..4 {
            run(Some(&memo), &page("new "), &[4_096], recipe);
        }
        let hits = memo.borrow().metrics.hits.get();
        assert!(
            run(Some(&memo), &page("new "), &[9_000], recipe) == run(None, &page("new "), &[9_000], recipe)
        );
        assert_eq!(memo.borrow().metrics.hits.get(), hits + 1);
    }

    /// Of a page that is another each time by a token in its head and
    /// by a script's number the rewriter reads little more than those, once it is known where they are.
    #[test]
    fn of_a_page_that_always_differs_at_the_same_places_little_is_read() {
        let recipe = recipe(true, Coding::Identity);
        let lines =
            "<link rel=icon href=/a><img src=//dis.criteo.com/a><p class=line>of the page</p>\n".repeat(120);
        let page = |token: u32| {
            let token = u64::from(token).wrapping_mul(0x9e37_79b9_7f4a_7c15);
            let head =
                format!("<html><head><title>x</title>{lines}<meta name=csrf content=\"{token:016x}\">");
            format!("{head}{lines}</head><body>{lines}<script>window.at = {token};</script>{lines}</body>")
                .into_bytes()
        };
        // However the page is cut: what both have in common may reach back over many pieces.
        for size in [7_000, 10_500, 10_300, 1_100, 300] {
            let memo = memo();
            remember(&memo, &page(1), &[5_000], recipe);
            let figures = memo.borrow().metrics.clone();
            let mut read = Vec::new();
            for token in 2..16 {
                let before = figures.read_bytes.get();
                let page = page(token);
                assert!(
                    run(Some(&memo), &page, &[size], recipe) == run(None, &page, &[size], recipe),
                    "{token}"
                );
                read.push(figures.read_bytes.get() - before);
            }
            let anew = figures.misses.get() - 2;
            assert!((1..=u64::from(wishes::ROUNDS)).contains(&anew), "recorded anew {anew} times");
            assert!(read[0] > 4_000 && read.last().unwrap() < &600, "pieces of {size}: {read:?}");
            assert_eq!(memo.borrow().entries.len(), 1);
        }
    }

    /// `limits.rewrite_memo`: a bound is a bound, the longest unused goes first, and other settings forget all.
    #[test]
    fn what_is_remembered_is_bounded() {
        let memo = Memo::new(1 << 20, MemoMetrics::default());
        let page = vec![b'x'; 50_000];
        let key = |at: u32| Key {
            rule: (0, None),
            page: format!("https://shop.example/{at}"),
            recipe: recipe(false, Coding::Identity),
            guard: None,
            keeper: false,
        };
        let page: Bytes = page.into();
        let entry =
            || Entry::new(page.clone(), page.clone(), Vec::new(), Summary::default(), Wishes::default());
        for at in 0..30 {
            Ticket::new(&memo, key(at)).remember(entry());
            assert!(
                matches!(memo.borrow_mut().look_up(&key(0)), Known::Entry(_)),
                "the first is used all the time"
            );
        }
        let bytes = memo.borrow().bytes;
        assert!(bytes <= 1 << 20 && memo.borrow().entries.len() == 10, "{bytes}");
        assert_eq!(memo.borrow().metrics.bytes.get(), 1_000_000);
        let late = Ticket::new(&memo, key(31));
        memo.borrow_mut().clear(1 << 20);
        late.remember(entry());
        assert_eq!((memo.borrow().entries.len(), memo.borrow().metrics.bytes.get()), (0, 0));
        let off = Memo::new(0, MemoMetrics::default());
        for _ in 0..3 {
            assert!(matches!(Ticket::new(&off, key(0)).work(), Work::None));
        }
    }

    /// Pieces of pages that meet in every order.
    const SOUP: &[&str] = &[
        "<body>",
        "</body>",
        "<head>",
        "</head>",
        "<footer>",
        "</footer>",
        "<p>text",
        "<template>",
        "</template>",
        "<svg>",
        "</svg>",
        "<script>",
        "fbq('init',1);",
        "own();",
        "</script>",
        "<script src=//dis.criteo.com/x></script>",
        "<img src=//dis.criteo.com/a>",
        "<style>@import '//dis.criteo.com/a';</style>",
        "<noscript><img src=//dis.criteo.com/a></noscript>",
        "<!-- a -->",
        "<!--",
        "<a href=/x>Your Privacy Choices</a>",
        "<a href=/x>",
        "</a>",
        "<base href=//cdn.example/>",
        "<meta http-equiv=Content-Security-Policy content=\"script-src 'none'\">",
        "<i a=\"",
        "\">",
        "'",
        "<",
        "</",
        "\u{e9}",
        "words that are the same on every page of this site, in the same order and in the same place",
    ];

    proptest! {
        #![proptest_config(ProptestConfig { cases: 150, failure_persistence: None, ..ProptestConfig::default() })]

        /// Whatever a page is, and whatever becomes of a part of it: what was replaced, where the page was cut when it was
        /// remembered and when it came again.
        #[test]
        fn no_change_tells_the_memo_from_the_rewriter(
            parts in proptest::collection::vec(proptest::sample::select(SOUP), 1..60),
            put in proptest::collection::vec(proptest::sample::select(SOUP), 0..6),
            from in 0.0..1.0_f64,
            gone in 0_usize..200,
            first in proptest::collection::vec(1_usize..9_000, 1..6),
            again in proptest::collection::vec(1_usize..9_000, 1..6),
            opted_out: bool,
        ) {
            let filler = "<div class=x>line of the page</div>\n".repeat(20);
            let page = parts.join(&filler).into_bytes();
            #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_precision_loss)]
            let from = (from * page.len() as f64) as usize;
            let mut changed = page.clone();
            changed.splice(from..(from + gone).min(page.len()), put.concat().into_bytes());
            let recipe = recipe(opted_out, Coding::Identity);
            let memo = memo();
            remember(&memo, &page, &first, recipe);
            for page in [&page, &changed, &page, &changed, &changed, &page, &changed] {
                let (out, summary) = run(Some(&memo), page, &again, recipe);
                let (plain, counted) = run(None, page, &again, recipe);
                prop_assert!(out == plain, "{}\n{}", String::from_utf8_lossy(&out), String::from_utf8_lossy(&plain));
                prop_assert_eq!(summary, counted);
            }
        }
    }
}
