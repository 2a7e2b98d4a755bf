//! What becomes of a page that has come before, in an opted-out visitor's answer: the same to the last byte, or
//! with a few bytes in its head that differ each time, as a nonce does.
//!
//! Throughput is of bytes as they come; `enforce/rewrite/opted_out_...` has the same pages without the memo.

use std::cell::Cell;
use std::convert::Infallible;
use std::hint::black_box;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use http_body::{Body, Frame};
use optgate::config::OnRewriteFailure;
use optgate::enforce::html::body::RewriteBody;
use optgate::enforce::html::coding::Bounds;
use optgate::enforce::html::memo::{Guarded, Key, Memo, Shared, Ticket};
use optgate::enforce::html::negotiate::Coding;
use optgate::enforce::html::plan::Recipe;
use optgate::enforce::html::{Kind, Plan};

mod pages;

use pages::{PIECE, pages, plan, policy};

/// A body in pieces that are there.
struct Pieces(Bytes);

impl Body for Pieces {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let length = self.0.len().min(PIECE);
        let piece = self.0.split_to(length);
        Poll::Ready((!piece.is_empty()).then(|| Ok(Frame::data(piece))))
    }
}

const RECIPE: Recipe = Recipe {
    opted_out: true,
    kind: Kind::Document,
    sniff: false,
    xml: false,
    charset: None,
    from: Coding::Identity,
    to: Coding::Identity,
    bodiless: false,
};

/// One answer, read to its end; how many bytes it had.
fn answer(memo: &Shared, plan: &Plan, page: &Bytes) -> usize {
    let key = Key {
        rule: (0, None),
        page: plan.page.as_str().to_owned(),
        recipe: RECIPE,
        guard: plan.guard.as_ref().map(Guarded::of),
        keeper: plan.keeper.is_some(),
    };
    let bounds = Bounds { ratio: 100, bytes: 64 << 20, strict: true };
    let body = Pieces(page.clone());
    let body = RewriteBody::new(body, &RECIPE, plan.clone(), bounds, OnRewriteFailure::Close);
    let mut body = body.with_memo(Some(Ticket::new(memo, key)));
    let (mut cx, mut length) = (Context::from_waker(Waker::noop()), 0);
    loop {
        match Pin::new(&mut body).poll_frame(&mut cx) {
            Poll::Ready(Some(Ok(frame))) => length += frame.data_ref().map_or(0, Bytes::len),
            Poll::Ready(None) => return length,
            Poll::Ready(Some(Err(error))) => panic!("{error}"),
            // It lets others have a turn.
            Poll::Pending => {}
        }
    }
}

fn memo(c: &mut Criterion) {
    let plan = plan(&policy(), true);
    let pages = pages();
    for (case, differs) in [("same", false), ("differs", true)] {
        let mut group = c.benchmark_group("enforce/memo");
        for (name, page) in &pages {
            let shared = Memo::new(64 << 20, Default::default());
            let head = page.windows(6).position(|word| word == b"</head").unwrap_or_default();
            let turn = Cell::new(0_u32);
            let next = || {
                let mark =
                    if differs { format!("<meta name=n content={:08x}>", turn.get()) } else { String::new() };
                turn.set(turn.get() + 1);
                Bytes::from([&page[..head], mark.as_bytes(), &page[head..]].concat())
            };
            // A page is remembered when it is asked for the second time.
            for _ in 0..3 {
                answer(&shared, &plan, &next());
            }
            group.throughput(Throughput::Bytes(page.len() as u64));
            group.bench_function(format!("{case}_{name}"), |b| {
                b.iter_batched(
                    next,
                    |page| black_box(answer(&shared, &plan, &page)),
                    criterion::BatchSize::SmallInput,
                );
            });
        }
        group.finish();
    }
}

criterion_group!(benches, memo);
criterion_main!(benches);
