//! A content coding put on and taken off: a page of 20 kB as most are, and one of 300 kB, each one body of its own.
//!
//! Throughput is of bytes without the coding.

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use optgate::enforce::html::coding::{Bounds, CodingError, Decoder, Effort, Encoder};
use optgate::enforce::html::negotiate::Coding;

mod pages;

use pages::{PIECE, news};

/// As the program has it: a coder's tables are large, and other allocators take them from the system each time.
#[global_allocator]
static GLOBAL: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn encode(coding: Coding, effort: Effort, page: &[u8], out: &mut Vec<u8>) -> Result<(), CodingError> {
    out.clear();
    let mut encoder = Encoder::new(coding, effort)?;
    for piece in page.chunks(PIECE) {
        encoder.write(piece, out)?;
    }
    encoder.finish(out)
}

fn decode(coding: Coding, coded: &[u8]) -> Result<usize, CodingError> {
    let mut length = 0;
    let mut decoder = Decoder::new(coding, Bounds::ratio(1_000))?;
    decoder.write(coded, &mut |decoded: &[u8]| {
        length += decoded.len();
        Ok::<(), CodingError>(())
    })?;
    decoder.finish()?;
    Ok(length)
}

fn codings(c: &mut Criterion) {
    let page = news();
    let codings = [("gzip", Coding::Gzip), ("zstd", Coding::Zstd), ("br", Coding::Brotli)];
    for (size, page) in [("20kB", &page[..20_000]), ("300kB", &page[..])] {
        let mut group = c.benchmark_group("enforce/coding");
        group.throughput(Throughput::Bytes(page.len() as u64));
        for (name, coding) in codings {
            let mut coded = Vec::new();
            for (effort, word) in [(Effort::Better, "better"), (Effort::Fast, "fast")] {
                group.bench_function(format!("encode_{name}_{word}_{size}"), |b| {
                    b.iter(|| encode(coding, effort, black_box(page), &mut coded).is_ok());
                });
            }
            group.bench_function(format!("decode_{name}_{size}"), |b| {
                b.iter(|| decode(coding, black_box(&coded)).is_ok_and(|length| length == page.len()));
            });
        }
        group.finish();
    }
}

criterion_group!(benches, codings);
criterion_main!(benches);
