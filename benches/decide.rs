//! The judgement itself: a few comparisons, and it should stay that.

#![allow(missing_docs)] // criterion's macros make public items

use std::hint::black_box;

use criterion::{Criterion, criterion_group, criterion_main};
use optgate::privacy::{OwnCookie, Signals, Standing, decide};

fn judge(c: &mut Criterion) {
    for (case, signals) in [
        ("nothing", Signals::NONE),
        ("gpc", Signals { gpc: true, ..Signals::NONE }),
        ("account", Signals { account: Standing::OptedOut, ..Signals::NONE }),
        ("opted_in", Signals { own: OwnCookie::In(202_611), foreign: true, ..Signals::NONE }),
    ] {
        c.bench_function(&format!("privacy/decide/{case}"), |b| b.iter(|| decide(black_box(signals))));
    }
}

criterion_group!(benches, judge);
criterion_main!(benches);
