//! What it costs to read a request's head strictly, before hyper reads it once more.

#![allow(missing_docs)] // criterion's macros make public items

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use optgate::edge::strict::{Limits, Scan};

/// A browser's navigation.
const BROWSER: &[u8] = b"GET /products/shoes?colour=blue&size=42 HTTP/1.1\r\nHost: www.shop.example\r\n\
    User-Agent: Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0\r\n\
    Accept: text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8\r\nAccept-Language: en-US,en;q=0.5\r\n\
    Accept-Encoding: gzip, deflate, br, zstd\r\nSec-GPC: 1\r\nConnection: keep-alive\r\n\
    Cookie: session=8f14e45fceea167a5a36dedd4bea2543; theme=dark; basket=3\r\nUpgrade-Insecure-Requests: 1\r\n\
    Sec-Fetch-Dest: document\r\nSec-Fetch-Mode: navigate\r\nSec-Fetch-Site: same-origin\r\nSec-Fetch-User: ?1\r\n\
    Priority: u=0, i\r\n\r\n";
/// A load generator's request.
const SMALL: &[u8] = b"GET / HTTP/1.1\r\nHost: 127.0.0.1:8080\r\n\r\n";

fn heads(c: &mut Criterion) {
    let limits = Limits { bytes: 64 * 1024, fields: 100 };
    let mut group = c.benchmark_group("strict head");
    for (name, head) in [("browser", BROWSER), ("small", SMALL)] {
        group.throughput(Throughput::Bytes(head.len() as u64));
        group.bench_function(name, |b| b.iter(|| Scan::default().request(black_box(head), limits)));
    }
    group.finish();
}

criterion_group!(benches, heads);
criterion_main!(benches);
