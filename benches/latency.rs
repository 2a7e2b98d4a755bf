//! What Optgate, nginx and HAProxy add to an answer's time: `optgate bench` through each of them in turn.
//!
//! The loop is open, and each run asks directly too, so what is printed is a difference within one run. The rate is the
//! same for all; how busy it keeps a proxy's core stands beside it. Sender and origin share the second core, so a quiet
//! machine is needed: runs on one that was not are counted as inconclusive, by the rules of `optgate bench`, and stay in
//! the medians. `OPTGATE_RATE=12000 OPTGATE_ROUNDS=9 cargo bench --bench latency` sets both; `OPTGATE_REALTIME=1` keeps
//! others off the proxies' core; `-- --program PATH` measures another build of Optgate.

#![allow(clippy::unwrap_used)] // a bench that cannot run should say so and stop

use std::process::Command;

#[expect(dead_code, reason = "other benches use the rest")]
mod beside;

use beside::{Proxy, Stage, program};

/// How long each run measures.
const SECONDS: &str = "4s";

/// Connections to each side: a machine that stood still for a moment must not have a thousand opened at once.
const CONNECTIONS: &str = "32";

/// What one run found, in microseconds but for the last.
#[derive(Default)]
struct Found {
    cpu: Vec<f64>,
    direct: Vec<f64>,
    p50: Vec<f64>,
    p99: Vec<f64>,
    inconclusive: usize,
}

impl Found {
    fn add(&mut self, proxy: &Proxy, stage: &Stage, rate: &str) {
        let output = Command::new(program())
            .args(["bench", "--path", "/", "--format", "json", "--duration", SECONDS, "--rate", rate])
            .args(["--connections", CONNECTIONS])
            .args(["--upstream", &format!("http://{}", stage.origin)])
            .args(["--through", &format!("http://{}", proxy.clear), "--pid", &proxy.id().to_string()])
            .output()
            .unwrap();
        let said: serde_json::Value = serde_json::from_slice(&output.stdout)
            .unwrap_or_else(|_| panic!("{}", String::from_utf8_lossy(&output.stderr)));
        let run = &said["runs"][0];
        let at = |name: &str, what: &str| {
            let percentiles = run["last_byte"].as_array().unwrap();
            let found = percentiles.iter().find(|entry| entry["percentile"] == name);
            found.and_then(|entry| entry[what].as_f64()).unwrap()
        };
        self.cpu.push(run["cpu"]["us_per_request"].as_f64().unwrap());
        self.direct.push(at("p50", "direct_us"));
        self.p50.push(at("p50", "difference_us"));
        self.p99.push(at("p99", "difference_us"));
        self.inconclusive += usize::from(!run["inconclusive"].as_array().unwrap().is_empty());
    }
}

/// The median, with the least and the most.
fn shown(figures: &mut [f64]) -> String {
    figures.sort_by(f64::total_cmp);
    let last = figures.len() - 1;
    format!("{:6.0} ({:.0} to {:.0})", figures[last / 2], figures[0], figures[last])
}

fn main() {
    let number = |name: &str, otherwise: usize| -> usize {
        std::env::var(name).map_or(otherwise, |text| text.parse().unwrap())
    };
    let (rate, rounds) = (number("OPTGATE_RATE", 10_000), number("OPTGATE_ROUNDS", 5).max(1));
    let stage = Stage::new();
    let proxies: Vec<Proxy> =
        [Some(stage.optgate()), stage.nginx(), stage.haproxy()].into_iter().flatten().collect();
    let mut found: Vec<Found> = proxies.iter().map(|_| Found::default()).collect();
    for round in 0..rounds {
        for turn in 0..proxies.len() {
            let which = (round + turn) % proxies.len();
            found[which].add(&proxies[which], &stage, &rate.to_string());
        }
    }
    println!(
        "added microseconds to the last byte of 1 KiB at {rate} requests/s, medians of {rounds} (least to most)"
    );
    for (proxy, found) in proxies.iter().zip(&mut found) {
        let busy = found.cpu.iter().sum::<f64>() / found.cpu.len() as f64 * rate as f64 / 10_000.0;
        println!(
            "{:8} p50 {:22} p99 {:24} core {busy:3.0} % busy; direct p50 {}; {} of {rounds} inconclusive",
            proxy.name,
            shown(&mut found.p50),
            shown(&mut found.p99),
            shown(&mut found.direct),
            found.inconclusive,
        );
    }
}
