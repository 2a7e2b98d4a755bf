//! The rewriter on whole pages.
//!
//! `link` is a visitor without an opt-out, `opted_out` one with it. Nothing is remembered between runs, so
//! that every page is a cold one; `memo` has the others.

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use optgate::enforce::html::{Plan, Rewriter};

mod pages;

use pages::{PIECE, pages, plan, policy};

fn rewrite(plan: &Plan, page: &[u8], out: &mut Vec<u8>) {
    out.clear();
    let mut rewriter = Rewriter::new(plan.clone());
    for piece in page.chunks(PIECE) {
        if let Err(error) = rewriter.write(piece, out) {
            panic!("{error}");
        }
    }
    if let Err(error) = rewriter.end(out) {
        panic!("{error}");
    }
}

fn rewriter(c: &mut Criterion) {
    let policy = policy();
    let pages = pages();
    for (way, opted_out) in [("link", false), ("opted_out", true)] {
        let mut group = c.benchmark_group("enforce/rewrite");
        let plan = plan(&policy, opted_out);
        for (name, page) in &pages {
            group.throughput(Throughput::Bytes(page.len() as u64));
            let mut out = Vec::with_capacity(page.len() * 2);
            group.bench_function(format!("{way}_{name}"), |b| {
                b.iter(|| {
                    rewrite(&plan, black_box(page), &mut out);
                    black_box(out.len())
                });
            });
        }
        group.finish();
    }
}

criterion_group!(benches, rewriter);
criterion_main!(benches);
