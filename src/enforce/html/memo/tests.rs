//! What the memo gives out is what the rewriter would have made, for every page there is, at every cut, with any
//! change.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::path::Path;
use std::pin::Pin;
use std::sync::{Arc, LazyLock};
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use http_body::{Body, Frame};
use proptest::prelude::*;

use super::super::body::{Done, RewriteBody};
use super::super::coding::{Bounds, Decoder, Encoder};
use super::super::negotiate::Coding;
use super::super::{Kind, Plan, Summary};
use super::*;
use crate::config::{LinkTitle, OnRewriteFailure, SignalSettings, VendorPolicy};
use crate::enforce::guard::{Guard, Placement};
use crate::enforce::keeper::Keeper;
use crate::registry::{Policy, Registry};

static POLICY: LazyLock<Arc<Policy>> = LazyLock::new(|| {
    let registry = Arc::new(Registry::builtin().unwrap());
    Arc::new(Policy::resolve(registry, &VendorPolicy::default()).unwrap())
});
static GUARD: LazyLock<Arc<Guard>> =
    LazyLock::new(|| Arc::new(Guard::new(&POLICY, "/privacy-choices", &SignalSettings::default())));

fn plan(opted_out: bool) -> Plan {
    Plan {
        opted_out,
        policy: Arc::clone(&POLICY),
        page: url::Url::parse("https://shop.example/page").unwrap(),
        kind: Kind::Document,
        guard: Some(Placement { guard: Arc::clone(&GUARD), gpc: true, nonce: None, sealed: false }),
        keeper: Some(Keeper::default()),
        prefix: Arc::from("/privacy-choices"),
        link: LinkTitle::DoNotSell,
        memory: 2 << 20,
        lists: None,
    }
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

/// What goes out for a page, and its summary.
fn run(memo: Option<&Shared>, page: &[u8], sizes: &[usize], recipe: Recipe) -> (Vec<u8>, Summary) {
    let key = Key {
        rule: (0, None),
        page: "https://shop.example/page".into(),
        recipe,
        guard: Some(Guarded { gpc: true, sealed: false }),
        keeper: true,
    };
    let ticket = memo.map(|memo| Ticket::new(memo, key));
    let bounds = Bounds { ratio: 1_000, bytes: 1 << 30, strict: true };
    let pieces = Pieces(if page.is_empty() { VecDeque::new() } else { cut(page, sizes) });
    let done: Rc<RefCell<Option<Done>>> = Rc::default();
    let told = Rc::clone(&done);
    let mut body = RewriteBody::new(pieces, &recipe, plan(recipe.opted_out), bounds, OnRewriteFailure::Close)
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
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut paths: Vec<_> = std::fs::read_dir(root.join("tests/fixtures/html"))
        .unwrap()
        .map(|entry| entry.unwrap().path().join("input.html"))
        .collect();
    match std::fs::read_dir(root.join("../shared/corpus")) {
        Ok(entries) => paths.extend(entries.map(|entry| entry.unwrap().path())),
        Err(_) => println!("skipped: no saved pages beside the checkout"),
    }
    paths.sort();
    let pages = paths.into_iter().filter(|path| path.extension().is_some_and(|e| e == "html"));
    // The largest take too long where nothing is optimised, and say nothing more.
    pages.map(|path| std::fs::read(path).unwrap()).filter(|page| page.len() < 200_000).collect()
}

/// Issue 5, the rewrite memo: exact by construction, so every page of the fixtures and the corpus must agree byte for
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

/// A coded page is compared as it is, and nothing of it is sent before it is known whole.
#[test]
fn a_coded_page_goes_out_as_it_did_and_a_changed_one_is_rewritten() {
    for coding in [Coding::Gzip, Coding::Zstd, Coding::Brotli] {
        let code = |page: &[u8]| {
            let (mut encoder, mut out) = (Encoder::new(coding).unwrap(), Vec::new());
            encoder.write(page, &mut out).unwrap();
            encoder.finish(&mut out).unwrap();
            out
        };
        let read = |coded: &[u8]| {
            let (mut decoder, mut out) = (Decoder::new(coding, Bounds::ratio(1_000)).unwrap(), Vec::new());
            let mut sink = |piece: &[u8]| {
                out.extend_from_slice(piece);
                Ok::<_, super::super::coding::CodingError>(())
            };
            decoder.write(coded, &mut sink).unwrap();
            decoder.finish().unwrap();
            out
        };
        let page = "<body>".to_owned() + &"<p>text<img src=//dis.criteo.com/a>".repeat(2_000) + "</body>";
        let other = page.replacen("text", "more text", 1_500);
        let (recipe, plain) = (recipe(true, coding), recipe(true, Coding::Identity));
        let memo = memo();
        remember(&memo, &code(page.as_bytes()), &[500], recipe);
        for (page, hits, partial) in [(&page, 1, 0), (&other, 1, 1), (&page, 2, 1)] {
            let expected = run(None, page.as_bytes(), &[usize::MAX / 2], plain);
            let (out, summary) = run(Some(&memo), &code(page.as_bytes()), &[300], recipe);
            assert!(read(&out) == expected.0 && summary == expected.1, "{coding:?}");
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
    let (mut encoder, mut page) = (Encoder::new(Coding::Gzip).unwrap(), Vec::new());
    encoder.write(b"<body>x</body>", &mut page).unwrap();
    encoder.finish(&mut page).unwrap();
    for _ in 0..3 {
        run(Some(&memo), &page, &[5], recipe(true, Coding::Gzip));
    }
    assert_eq!(memo.borrow().entries.len(), 0);
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
    assert!(run(Some(&memo), &page("new "), &[9_000], recipe) == run(None, &page("new "), &[9_000], recipe));
    assert_eq!(memo.borrow().metrics.hits.get(), hits + 1);
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
    let entry = || Entry {
        original: page.clone().into(),
        output: page.clone().into(),
        points: Vec::new(),
        summary: Summary::default(),
        misfits: Cell::new(0),
        used: Cell::new(0),
    };
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
        for page in [&page, &changed, &page] {
            let (out, summary) = run(Some(&memo), page, &again, recipe);
            let (plain, counted) = run(None, page, &again, recipe);
            prop_assert!(out == plain, "{}\n{}", String::from_utf8_lossy(&out), String::from_utf8_lossy(&plain));
            prop_assert_eq!(summary, counted);
        }
    }
}
