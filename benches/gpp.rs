//! Global Privacy Platform strings: read from cookies of consent platforms, written for opted-out visitors.

#![allow(missing_docs)] // criterion's macros make public items

use std::hint::black_box;

use criterion::{Criterion, criterion_group, criterion_main};
use optgate::privacy::gpp::{self, Section};

fn strings(c: &mut Criterion) {
    for (case, text) in [
        ("opted_out", "DBABLA~CVQVAAAAAACA.YA"),
        ("not_opted_out", "DBABLA~CVQqAAAAAACA.QA"),
        ("europe_and_usp", "DBACNYA~CPXxRfAPXxRfAAfKABENB~1YNN"),
        ("broken", "DBABLA~"),
    ] {
        c.bench_function(&format!("privacy/gpp_read/{case}"), |b| {
            b.iter(|| gpp::says_opted_out(black_box(text.as_bytes())));
        });
    }
    c.bench_function("privacy/gpp_write/both", |b| b.iter(|| gpp::opted_out(black_box(&Section::ALL), true)));
}

criterion_group!(benches, strings);
criterion_main!(benches);
