//! What a request says of its visitor's choice: steps 3 and 5 of the corridor, for every request.

#![allow(missing_docs)] // criterion's macros make public items

use std::hint::black_box;

use criterion::{Criterion, criterion_group, criterion_main};
use http::{HeaderMap, HeaderName, HeaderValue};
use optgate::privacy::{Keys, Signals, cookie};

/// What a browser sends with a navigation, beside its cookies.
const BROWSER: [(&str, &str); 8] = [
    ("host", "www.shop.example"),
    ("user-agent", "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0"),
    ("accept", "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"),
    ("accept-language", "en-US,en;q=0.5"),
    ("accept-encoding", "gzip, deflate, br, zstd"),
    ("upgrade-insecure-requests", "1"),
    ("sec-fetch-dest", "document"),
    ("sec-fetch-mode", "navigate"),
];

fn headers(more: &[(&'static str, &str)]) -> HeaderMap {
    let field = |(name, value): &(&'static str, &str)| {
        let value = HeaderValue::from_str(value).unwrap_or(HeaderValue::from_static(""));
        (HeaderName::from_static(name), value)
    };
    BROWSER.iter().map(field).chain(more.iter().map(field)).collect()
}

fn signals(c: &mut Criterion) {
    let keys = Keys::derive(b"a bench's key");
    let ours = format!("theme=dark; {}={}; basket=3", cookie::NAME, cookie::value_out(202_611, &keys));
    let consent = "session=8f14e45fceea167a5a36dedd4bea2543; usprivacy=1YNN; __gpp=DBABLA~CVQqAAAAAACA.QA; \
                   OptanonConsent=isGpcEnabled=0&datestamp=Thu+Nov+26+2026&groups=C0001%3A1%2CC0004%3A1";
    for (case, more) in [
        ("bare", &[][..]),
        ("gpc", &[("sec-gpc", "1")]),
        ("cookies", &[("cookie", "session=8f14e45fceea167a5a36dedd4bea2543; theme=dark; basket=3")]),
        ("own_cookie", &[("cookie", ours.as_str())]),
        ("consent_platform", &[("cookie", consent)]),
    ] {
        let headers = headers(more);
        c.bench_function(&format!("privacy/signals/{case}"), |b| {
            b.iter(|| Signals::read(black_box(&headers), &keys));
        });
    }
}

criterion_group!(benches, signals);
criterion_main!(benches);
