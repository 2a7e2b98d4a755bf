//! What heads cost: to read a request's strictly before hyper reads it once more, and to shape an answer's.

#![allow(missing_docs)] // criterion's macros make public items

use std::hint::black_box;

use std::sync::Arc;

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use http::{HeaderMap, HeaderName, StatusCode};
use optgate::config::{CacheFront, SignalSettings};
use optgate::edge::http2::hpack::Table;
use optgate::edge::strict::{Known, Limits, Scan};
use optgate::enforce::html::plan;
use optgate::enforce::names::Names;
use optgate::enforce::request::{Holds, RequestContext, prepare};
use optgate::enforce::response::{ResponseContext, apply};
use optgate::privacy::{Basis, Decision, Keys, Mode, Signals};

mod pages;

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

fn strict_head(c: &mut Criterion) {
    let limits = Limits { bytes: 64 * 1024, fields: 100 };
    let mut group = c.benchmark_group("edge/strict_head");
    for (name, head) in [("browser", BROWSER), ("small", SMALL)] {
        group.throughput(Throughput::Bytes(head.len() as u64));
        let read = |known: &mut Known| Scan::default().request(black_box(head), limits, known);
        group.bench_function(name, |b| b.iter_batched_ref(Known::default, read, BatchSize::SmallInput));
        let mut known = Known::default();
        group.bench_function(format!("{name}_again"), |b| b.iter(|| read(&mut known)));
    }
    group.finish();
}

/// A request over HTTP/2 whose fields are in the table, and one that spells three of them out.
fn field_blocks(c: &mut Criterion) {
    let kept: Vec<u8> = (0xbe..0xc8).chain([0x82, 0x87, 0x84]).collect();
    let spelt =
        [&kept[..], b"\x04\x1c/products/shoes?colour=blue&x", b"\x0f\x11\x06x=1; y", b"\0\x04x-id\x041234"]
            .concat();
    let filled = || {
        let mut table = Table::default();
        for id in b'a'..b'k' {
            let _ = table.read(&[0x40, 1, id, 2, b'v', b'1']);
        }
        table
    };
    for (case, block) in [("kept", &kept), ("spelt_out", &spelt)] {
        let mut table = filled();
        assert!(table.read(block).is_some(), "{case}");
        c.bench_function(&format!("edge/field_block/{case}"), |b| b.iter(|| table.read(black_box(block))));
    }
}

/// The head of an origin's answer on its way to the visitor, as a page, and as a file that nobody rewrites.
fn response_head(c: &mut Criterion) {
    let plan = pages::plan(&pages::policy(), true);
    let Some(guard) = plan.guard.as_ref().map(|placed| Arc::clone(&placed.guard)) else { return };
    let (keys, said) = (Keys::derive(b"k"), SignalSettings::default());
    for (visitor, decision) in [("opted_out", Decision::out(Basis::Gpc)), ("plain", Decision::NONE)] {
        for (kind, destination, content_type) in
            [("page", "document", "text/html"), ("file", "image", "image/png")]
        {
            let head = |fields: &[(&'static str, &str)]| -> HeaderMap {
                let fields = fields
                    .iter()
                    .filter_map(|(name, value)| Some((HeaderName::from_static(name), value.parse().ok()?)));
                fields.collect()
            };
            let (mut request, ()) = http::Request::new(()).into_parts();
            request.headers = head(&[
                ("sec-fetch-dest", destination),
                ("accept", "text/html,*/*"),
                ("cookie", "s=1; theme=dark"),
            ]);
            let context = RequestContext {
                decision,
                names: Names::ALL,
                mode: Mode::Enforce,
                policy: &plan.policy,
                version: "v1",
                rewrite: true,
                our_cookies: false,
                strip_link_params: false,
            };
            let asked = prepare(&mut request, &context);
            let origin = head(&[
                ("content-type", content_type),
                ("content-length", "18231"),
                ("cache-control", "max-age=60"),
                ("etag", "\"5f3c\""),
                ("date", "Fri, 27 Nov 2026 08:00:00 GMT"),
                ("link", "</a.css>; rel=preload; as=style"),
                ("set-cookie", "s=2; Path=/; HttpOnly"),
            ]);
            let holds = Holds {
                opted_out: decision.opted_out(),
                enforce: true,
                rewrite: true,
                compress: false,
                keep_untransformed: true,
            };
            let bodies = plan::plan(&asked.question(holds), StatusCode::OK, &origin);
            let context = ResponseContext {
                decision,
                names: Names::of_answer(&origin),
                signals: Signals { gpc: decision.opted_out(), ..Signals::NONE },
                mode: Mode::Enforce,
                policy: &plan.policy,
                version: "v1",
                page: Some(&plan.page),
                asked: &asked,
                plan: &bodies,
                guard: &guard,
                guarded: true,
                wall: None,
                lists: None,
                cache_front: CacheFront::None,
                said: &said,
                month: 202_611,
                keys: &keys,
                cookie_domain: None,
                behind_proxy: false,
            };
            let fresh = || {
                let (mut parts, ()) = http::Response::new(()).into_parts();
                parts.headers = origin.clone();
                parts
            };
            c.bench_function(&format!("enforce/response_head/{visitor}_{kind}"), |b| {
                b.iter_batched_ref(fresh, |parts| apply(parts, &context), BatchSize::SmallInput);
            });
        }
    }
}

criterion_group!(benches, strict_head, field_blocks, response_head);
criterion_main!(benches);
