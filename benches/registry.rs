//! Look-ups of the registry: a URL that is known, one that is not, one deep below a known domain,
//! and the others a page or request needs.

use std::hint::black_box;
use std::sync::Arc;

use criterion::{Criterion, criterion_group, criterion_main};
use optgate::config::VendorPolicy;
use optgate::registry::{FirstParty, Policy, Registry};

fn policy() -> Policy {
    let resolved = Registry::builtin().map_err(|error| error.to_string()).and_then(|r| {
        Policy::resolve(Arc::new(r), &VendorPolicy::default()).map_err(|error| error.to_string())
    });
    match resolved {
        Ok(policy) => policy,
        Err(error) => panic!("the built-in registry must load: {error}"),
    }
}

fn look_ups(c: &mut Criterion) {
    let policy = policy();
    let url = |host: &str, path: &str| policy.match_url(black_box(host), black_box(path));
    c.bench_function("registry/match_url/hit", |b| {
        b.iter(|| url("connect.facebook.net", "/en_US/fbevents.js"))
    });
    c.bench_function("registry/match_url/miss", |b| {
        b.iter(|| url("images.shop.example.com", "/a/b/c.jpg?w=300"))
    });
    c.bench_function("registry/match_url/deep", |b| {
        b.iter(|| url("a.b.c.d.1234567.fls.doubleclick.net", "/activityi;src=1234567;type=a;cat=b?"));
    });
    c.bench_function("registry/match_host/google", |b| {
        b.iter(|| policy.match_host(black_box("www.google.com")))
    });
    c.bench_function("registry/match_cookie/own", |b| {
        b.iter(|| policy.match_cookie(black_box(b"session_id")))
    });
    let (method, headers) = (http::Method::GET, http::HeaderMap::new());
    let request = FirstParty {
        method: &method,
        path: "/products/shoes/42",
        query: "page=2&sort=price",
        headers: &headers,
    };
    c.bench_function("registry/match_collector/request", |b| {
        b.iter(|| policy.match_collector(black_box(request)));
    });
    let script = "var a=[1,2,3];function f(x){return x+1};f(a.length);".repeat(40);
    c.bench_function("registry/match_inline/2KiB", |b| {
        b.iter(|| policy.match_inline(black_box(script.as_bytes())))
    });
    c.bench_function("registry/load/builtin", |b| b.iter(Registry::builtin));
}

criterion_group!(benches, look_ups);
criterion_main!(benches);
