//! What a durable record costs, alone and in company; what a start costs.
//!
//! The figures are the disk's as much as ours: compare runs on one machine only.

#![allow(clippy::unwrap_used)] // a bench that cannot run should say so and stop

use std::sync::Arc;
use std::time::{Duration, Instant};

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use optgate::config;
use optgate::privacy::Subject;
use optgate::store::Store;

mod accounts;

use accounts::out;

const LIMITS: config::Store = config::Store {
    queue: 10_000_000,
    records_per_second: u32::MAX,
    record_burst: u32::MAX,
    checkpoint: Duration::from_secs(3_600),
    shared: None,
    retention: None,
    pack_after: Some(100_000),
};

/// `callers` tasks share `total` records, each waiting for every one of its own.
async fn record_all(store: &Store, from: u64, total: u64, callers: u64) {
    let mut tasks = Vec::new();
    for caller in 0..callers.min(total) {
        let store = store.clone();
        tasks.push(tokio::spawn(async move {
            for account in (from + caller..from + total).step_by(callers as usize) {
                store.record(out(account)).await.unwrap();
            }
        }));
    }
    for task in tasks {
        task.await.unwrap();
    }
}

fn record(criterion: &mut Criterion) {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let mut group = criterion.benchmark_group("store/record");
    group.throughput(Throughput::Elements(1)).sample_size(10);
    for callers in [1u64, 64, 4096] {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path(), &LIMITS).unwrap();
        let mut from = 0;
        group.bench_function(format!("durable_{callers}_callers"), |bencher| {
            bencher.iter_custom(|records| {
                let started = Instant::now();
                runtime.block_on(record_all(&store, from, records, callers));
                from += records;
                started.elapsed()
            });
        });
        runtime.block_on(store.close());
    }
    group.finish();
}

fn open(criterion: &mut Criterion) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path(), &LIMITS).unwrap();
    (0..1_000_000).for_each(|account| store.record_behind(out(account)));
    runtime.block_on(store.close());
    let mut group = criterion.benchmark_group("store/open");
    group.sample_size(10).measurement_time(Duration::from_secs(10));
    group.bench_function("million_records", |bencher| {
        bencher.iter_custom(|times| {
            (0..times)
                .map(|_| {
                    let started = Instant::now();
                    let store = Store::open(folder.path(), &LIMITS).unwrap();
                    let took = started.elapsed();
                    runtime.block_on(store.close());
                    took
                })
                .sum()
        });
    });
    group.finish();
}

fn lookup(criterion: &mut Criterion) {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path(), &LIMITS).unwrap();
    let subjects: Arc<[Subject]> = (0..100_000).filter_map(|a| out(a).subject).collect();
    (0..100_000).for_each(|account| store.record_behind(out(account)));
    let mut turn = 0;
    criterion.bench_function("store/lookup/hit", |bencher| {
        bencher.iter(|| {
            turn = (turn + 1) % subjects.len();
            store.lookup(&subjects[turn])
        });
    });
}

criterion_group!(benches, record, open, lookup);
criterion_main!(benches);
