//! What the store costs against the number of accounts: writing them, starting with them, holding them, asking; and
//! starting with what is left of them when they are pruned.
//!
//! 10,000 to 1,000,000 accounts; `OPTGATE_ACCOUNTS=10000000` adds a size. Every record is durable before it counts as
//! written. The figures are the disk's as much as ours: compare runs on one machine only.

#![allow(clippy::unwrap_used)] // a bench that cannot run should say so and stop

use std::hint::black_box;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use optgate::config;
use optgate::store::Store;

mod accounts;

use accounts::{out, subject};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const LIMITS: config::Store = config::Store {
    queue: 200_000,
    records_per_second: u32::MAX,
    record_burst: u32::MAX,
    checkpoint: std::time::Duration::from_secs(3_600),
    retention: None,
    pack_after: Some(100_000),
    shared: None,
};

/// Look-ups that are timed one by one.
const ASKED: u64 = 2_000_000;

/// Starts this program anew, to open a folder and say what it holds: a process that has written records holds on to
/// what that took.
fn held(folder: &Path) -> u64 {
    let program = std::env::current_exe().unwrap();
    let said = std::process::Command::new(program).env(FOLDER, folder).output().unwrap();
    String::from_utf8(said.stdout).unwrap().trim().parse().unwrap()
}

/// The folder that a process started by [`held`] opens.
const FOLDER: &str = "OPTGATE_SCALE_FOLDER";

/// Resident memory, in bytes.
fn resident() -> u64 {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
    statm.split(' ').nth(1).unwrap().parse::<u64>().unwrap() * 4096
}

/// Records so many accounts; state changes a second, all of them durable.
fn write(folder: &Path, from: u64, to: u64) -> f64 {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let store = Store::open(folder, &LIMITS).unwrap();
    let began = Instant::now();
    for account in from..to {
        store.record_behind(out(account));
        // The queue is bounded; a full one would drop.
        while account % 1024 == 0 && store.health().backlog > 100_000 {
            std::thread::yield_now();
        }
    }
    while store.health().backlog > 0 {
        std::thread::yield_now();
    }
    let took = began.elapsed().as_secs_f64();
    assert_eq!(store.health().overflowed, 0);
    runtime.block_on(store.close());
    (to - from) as f64 / took
}

/// Nanoseconds of one thing at a random place, p50 and p99; the clock's own share is in it.
fn timed(places: u64, mut one: impl FnMut(u64)) -> (u64, u64) {
    let mut times: Vec<u32> = Vec::with_capacity(ASKED as usize);
    let mut state = 0x9e37_79b9_7f4a_7c15u64;
    for _ in 0..ASKED {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        let place = state % places;
        let began = Instant::now();
        one(place);
        times.push(u32::try_from(began.elapsed().as_nanos()).unwrap_or(u32::MAX));
    }
    times.sort_unstable();
    let at = |part: usize| u64::from(times[times.len() * part / 100]);
    (at(50), at(99))
}

/// What this machine takes for one read of one word among as many bytes: no look-up can take less.
fn read(bytes: u64) -> (u64, u64) {
    let words: Vec<u64> = (0..bytes / 8).collect();
    timed(words.len() as u64, |place| _ = black_box(words[place as usize]))
}

/// A look-up, while another thread records.
fn ask(store: &Store, accounts: u64) -> (u64, u64) {
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for account in accounts.. {
                if stop.load(Ordering::Relaxed) {
                    return;
                }
                store.record_behind(out(account));
                if account % 64 == 0 {
                    std::thread::sleep(std::time::Duration::from_millis(1));
                }
            }
        });
        let times = timed(accounts, |place| _ = black_box(store.lookup(black_box(&subject(place)))));
        stop.store(true, Ordering::Relaxed);
        times
    })
}

fn main() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    if let Some(folder) = std::env::var_os(FOLDER) {
        let before = resident();
        let store = Store::open(Path::new(&folder), &LIMITS).unwrap();
        println!("{}", resident() - before);
        return runtime.block_on(store.close());
    }
    // `cargo test` starts benches to see that they run: without `--bench` there is one small size.
    let whole = std::env::args().any(|arg| arg == "--bench");
    let mut sizes = vec![10_000u64];
    if whole {
        sizes.extend([100_000, 1_000_000]);
        sizes.extend(std::env::var("OPTGATE_ACCOUNTS").ok().and_then(|n| n.parse::<u64>().ok()));
        // The folder grows from one to the next.
        sizes.sort_unstable();
        sizes.dedup();
    }
    let folder = tempfile::tempdir().unwrap();
    let mut clock: Vec<u32> = (0..100_000).map(|_| Instant::now().elapsed().as_nanos() as u32).collect();
    clock.sort_unstable();
    println!("the clock itself: p50 {} ns, p99 {} ns", clock[50_000], clock[99_000]);
    println!(
        "  accounts  written/s  start, s  journal, MiB  resident, MiB  look-up p50, ns  p99, ns  one read p50, ns  p99, ns"
    );
    let mut before = 0;
    for accounts in sizes {
        let rate = write(folder.path(), before, accounts);
        before = accounts;
        let size = std::fs::metadata(folder.path().join("journal.sqlite3")).unwrap().len();
        let held = held(folder.path());
        let began = Instant::now();
        let store = Store::open(folder.path(), &LIMITS).unwrap();
        let start = began.elapsed().as_secs_f64();
        let (p50, p99) = ask(&store, accounts);
        let (read_p50, read_p99) = read(held.max(4096));
        // What the look-ups' company recorded is there as well.
        before = before.max(store.health().records + store.health().backlog as u64);
        runtime.block_on(store.close());
        println!(
            "{accounts:>10}  {rate:>9.0}  {start:>8.2}  {:>12.1}  {:>13.1}  {p50:>15}  {p99:>7}  {read_p50:>16}  {read_p99:>7}",
            size as f64 / 1_048_576.0,
            held as f64 / 1_048_576.0,
        );
    }
    pruned(folder.path());
}

/// What a start takes once every record is pruned: it reads accounts by their hash alone, and holds each against its seal.
fn pruned(folder: &Path) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let store = Store::open(folder, &LIMITS).unwrap();
    let began = Instant::now();
    let pruned = runtime.block_on(store.prune(i64::MAX, false)).unwrap();
    let took = began.elapsed().as_secs_f64();
    runtime.block_on(store.close());
    let began = Instant::now();
    let store = Store::open(folder, &LIMITS).unwrap();
    let start = began.elapsed().as_secs_f64();
    assert_eq!(store.health().accounts_opted_out, pruned.accounts_kept);
    runtime.block_on(store.close());
    let accounts = pruned.accounts_kept;
    println!("all pruned in {took:.1} s: {accounts} accounts kept by their hash alone, start {start:.2} s");
}
