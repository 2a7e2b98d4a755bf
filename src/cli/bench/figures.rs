//! From answers to figures, and to a verdict on them.

use std::collections::BTreeMap;

use serde::Serialize;

use super::load::{Answer, Heard, Measured};
use super::process::{Environment, Used};
use super::proxy::Memo;
use super::stats::{Samples, difference, intervals};

/// Shares of the answers, and their names.
pub const PERCENTILES: [(f64, &str); 4] = [(0.5, "p50"), (0.9, "p90"), (0.99, "p99"), (0.999, "p99.9")];

/// A request that leaves later than this is late, nanoseconds.
const LATE: u64 = 1_000_000;

/// Most late requests, percent.
const MOST_LATE: f64 = 1.0;

/// How far the direct median of one half may lie from the other's, percent.
const MOST_DRIFT: f64 = 10.0;

/// With fewer answers beyond it a percentile says little.
pub const FEW: u64 = 10;

/// Points of a distribution.
const POINTS: u32 = 100;

/// All that was measured. Times are in microseconds.
#[derive(Debug, Serialize)]
pub struct Report {
    /// Where.
    pub environment: Environment,
    /// What.
    pub subject: Subject,
    /// Each rate, in order.
    pub runs: Vec<Run>,
    /// What holds of them.
    pub verdict: Verdict,
}

/// What was measured, and how.
#[derive(Debug, Serialize)]
pub struct Subject {
    /// Path and query asked for.
    pub path: String,
    /// Fields sent beside `Host`; their values may be secrets.
    pub headers: Vec<String>,
    /// The site.
    pub direct: String,
    /// Optgate in front of it.
    pub proxied: String,
    /// It was started for this.
    pub own: bool,
    /// Seconds at each rate.
    pub seconds: f64,
    /// Seconds before that do not count.
    pub warm_up_seconds: f64,
    /// Most connections of each side.
    pub connections: usize,
}

/// One rate.
#[derive(Debug, Serialize)]
pub struct Run {
    /// Requests a second of each side, as wanted.
    pub rate: u32,
    /// The site itself.
    pub direct: Side,
    /// Through Optgate.
    pub proxied: Side,
    /// To the answer's last byte: percentiles, then the longest.
    pub last_byte: Vec<Row>,
    /// To its first.
    pub first_byte: Vec<Row>,
    /// The distribution to the last byte.
    pub distribution: Vec<Point>,
    /// What Optgate's process used for each request; `None`: it is not known which that is.
    pub cpu: Option<Cpu>,
    /// Memory of that process at the end, bytes.
    pub resident_bytes: Option<u64>,
    /// Bytes of an answer's body that Optgate saved (or, below zero, added), on average.
    pub body_bytes_saved: f64,
    /// The same on the wire, heads and TLS included.
    pub wire_bytes_saved: f64,
    /// `None`: Optgate tells nothing of it.
    pub memo: Option<MemoRate>,
    /// How late requests left.
    pub lag: Lag,
    /// Whether the site itself stayed as it was.
    pub control: Control,
    /// Why the figures say nothing sure; empty: they do.
    pub inconclusive: Vec<String>,
}

/// One side of a rate.
#[derive(Debug, Serialize)]
pub struct Side {
    /// Good answers.
    pub answers: u64,
    /// Good answers a second.
    pub achieved_rate: f64,
    /// What went wrong, and how often.
    pub errors: BTreeMap<String, u64>,
    /// Connections opened after the warm-up.
    pub connections_opened: u64,
    /// Bytes sent to it for each request, TLS included.
    pub wire_bytes_sent: f64,
    /// Bytes it sent, the same.
    pub wire_bytes_received: f64,
    /// Of these, the body.
    pub body_bytes: f64,
}

/// A percentile of both sides.
#[derive(Debug, Serialize)]
pub struct Row {
    /// `p99`, or `max`.
    pub percentile: &'static str,
    /// Of the site itself.
    pub direct_us: f64,
    /// Through Optgate.
    pub proxied_us: f64,
    /// Of the two percentiles; not the percentile of differences.
    pub difference_us: f64,
    /// 95 % interval of that, by bootstrap; the longest has none.
    pub interval_us: Option<[f64; 2]>,
    /// Answers beyond it, of the side with fewer.
    pub beyond: u64,
}

/// A point of both distributions.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Point {
    /// Percent of the answers that took no longer.
    pub percentile: f64,
    /// Of the site itself.
    pub direct_us: f64,
    /// Through Optgate.
    pub proxied_us: f64,
}

/// What a request costs Optgate's process.
#[derive(Debug, Serialize)]
pub struct Cpu {
    /// On a processor, to the nanosecond.
    pub us_per_request: f64,
    /// Of that in its own code, by the kernel's ticks.
    pub user_us: f64,
    /// In the kernel, the same.
    pub system_us: f64,
}

/// How often the rewrite memo knew a page.
#[derive(Debug, Serialize)]
pub struct MemoRate {
    /// Known.
    pub hits: u64,
    /// Not.
    pub misses: u64,
    /// Percent known; `None`: it was never asked.
    pub hit_percent: Option<f64>,
}

/// How late requests left, against the schedule.
#[derive(Debug, Serialize)]
pub struct Lag {
    /// Median.
    pub p50_us: f64,
    /// 99th percentile.
    pub p99_us: f64,
    /// Latest.
    pub max_us: f64,
    /// Percent of them more than a millisecond late.
    pub late_percent: f64,
}

/// The site itself, in two halves.
#[derive(Debug, Serialize)]
pub struct Control {
    /// Median to the last byte in the first half.
    pub first_half_us: f64,
    /// In the second.
    pub second_half_us: f64,
    /// How far the larger lies above the smaller, percent.
    pub drift_percent: f64,
}

/// What holds of a report.
#[derive(Debug, Serialize)]
pub struct Verdict {
    /// Why nothing sure can be said; empty: it can.
    pub inconclusive: Vec<String>,
    /// Most that `--max-added-p99` allows.
    pub max_added_p99_us: Option<f64>,
    /// The largest difference of the 99th percentiles to the last byte.
    pub added_p99_us: f64,
    /// Whether that is allowed; `None`: nothing was asked, or nothing sure can be said.
    pub within: Option<bool>,
}

/// What was known of Optgate's process before and after a rate.
#[derive(Debug, Default)]
pub struct Inside {
    /// What it had used.
    pub used: (Option<Used>, Option<Used>),
    /// What it said of its memo.
    pub memo: (Option<Memo>, Option<Memo>),
}

impl Run {
    /// The figures of one rate.
    pub fn of(rate: u32, measured: &Measured, inside: &Inside) -> Self {
        let Measured { direct, proxied, lags } = measured;
        let last = [direct, proxied].map(|heard| samples(heard, |answer| answer.last));
        let first = [direct, proxied].map(|heard| samples(heard, |answer| answer.first));
        let control = Control::of(&direct.answers);
        let lag = Lag::of(lags);
        let (of_direct, of_proxied) = (Side::of(direct), Side::of(proxied));
        let mut run = Self {
            rate,
            last_byte: rows(&last),
            first_byte: rows(&first),
            distribution: distribution(&last),
            cpu: Cpu::of(inside.used, proxied.answers.len()),
            resident_bytes: inside.used.1.map(|used| used.resident),
            body_bytes_saved: of_direct.body_bytes - of_proxied.body_bytes,
            wire_bytes_saved: of_direct.wire_bytes_received - of_proxied.wire_bytes_received,
            memo: MemoRate::of(inside.memo),
            direct: of_direct,
            proxied: of_proxied,
            lag,
            control,
            inconclusive: Vec::new(),
        };
        run.inconclusive = run.doubts();
        run
    }

    /// Why the figures say nothing sure.
    fn doubts(&self) -> Vec<String> {
        let mut doubts = Vec::new();
        for (name, side) in [("direct", &self.direct), ("proxied", &self.proxied)] {
            let errors: u64 = side.errors.values().sum();
            if let Some((why, _)) = side.errors.iter().max_by_key(|(_, count)| **count) {
                doubts.push(format!("{errors} {name} requests failed, most of them: {why}"));
            }
        }
        if self.lag.late_percent > MOST_LATE {
            doubts.push(format!(
                "{:.1} % of the requests left more than 1 ms late (at most {MOST_LATE} %): this machine was too busy to \
                 keep the schedule; a lower --rate or a quieter machine helps",
                self.lag.late_percent
            ));
        }
        if self.control.drift_percent > MOST_DRIFT {
            doubts.push(format!(
                "the site itself drifted by {:.0} % between the halves (at most {MOST_DRIFT} %): something else was at \
                 work; a longer --duration or a quieter machine helps",
                self.control.drift_percent
            ));
        }
        doubts
    }

    /// The difference of the 99th percentiles to the last byte.
    fn added_p99(&self) -> f64 {
        let row = self.last_byte.iter().find(|row| row.percentile == "p99");
        row.map_or(0.0, |row| row.difference_us)
    }
}

impl Verdict {
    /// On these runs, with the most that may be added, if that was asked.
    pub fn of(runs: &[Run], max_added_p99_us: Option<f64>) -> Self {
        let doubts = |run: &Run| {
            let rate = run.rate;
            run.inconclusive.iter().map(move |why| format!("rate {rate}: {why}")).collect::<Vec<_>>()
        };
        let inconclusive: Vec<_> = runs.iter().flat_map(doubts).collect();
        let added_p99_us = runs.iter().map(Run::added_p99).fold(f64::MIN, f64::max);
        let within = max_added_p99_us.filter(|_| inconclusive.is_empty()).map(|most| added_p99_us <= most);
        Self { inconclusive, max_added_p99_us, added_p99_us, within }
    }
}

impl Side {
    fn of(heard: &Heard) -> Self {
        let answers = heard.answers.len() as u64;
        let errors = heard.errors.values().sum::<u64>();
        let per = |sum: u64, count: u64| if count == 0 { 0.0 } else { sum as f64 / count as f64 };
        let seconds = heard.took.as_secs_f64();
        Self {
            answers,
            achieved_rate: if seconds > 0.0 { answers as f64 / seconds } else { 0.0 },
            errors: heard.errors.clone(),
            connections_opened: heard.opened,
            wire_bytes_sent: per(heard.wire.0, answers + errors),
            wire_bytes_received: per(heard.wire.1, answers + errors),
            body_bytes: per(heard.answers.iter().map(|answer| answer.body).sum(), answers),
        }
    }
}

impl Cpu {
    fn of((before, after): (Option<Used>, Option<Used>), answers: usize) -> Option<Self> {
        let (before, after) = (before?, after?);
        if answers == 0 {
            return None;
        }
        let all = us(after.cpu_ns.saturating_sub(before.cpu_ns)) / answers as f64;
        let user = after.ticks.0.saturating_sub(before.ticks.0) as f64;
        let ticks = user + after.ticks.1.saturating_sub(before.ticks.1) as f64;
        // Too short for a single tick: it is not known where.
        let share = if ticks > 0.0 { user / ticks } else { f64::NAN };
        Some(Self { us_per_request: all, user_us: all * share, system_us: all * (1.0 - share) })
    }
}

impl MemoRate {
    fn of((before, after): (Option<Memo>, Option<Memo>)) -> Option<Self> {
        let (before, after) = (before?, after?);
        let hits = after.hits.saturating_sub(before.hits);
        let misses = after.misses.saturating_sub(before.misses);
        let asked = hits + misses;
        let hit_percent = (asked > 0).then(|| hits as f64 / asked as f64 * 100.0);
        Some(Self { hits, misses, hit_percent })
    }
}

impl Lag {
    fn of(lags: &[u64]) -> Self {
        let late = lags.iter().filter(|lag| **lag > LATE).count();
        let samples = Samples::new(lags.iter().map(|lag| (*lag, 0)));
        let at = |share| us(samples.percentile(share).unwrap_or_default());
        Self {
            p50_us: at(0.5),
            p99_us: at(0.99),
            max_us: us(samples.max().unwrap_or_default()),
            late_percent: late as f64 / lags.len().max(1) as f64 * 100.0,
        }
    }
}

impl Control {
    fn of(answers: &[Answer]) -> Self {
        let median = |second: bool| {
            let half = answers.iter().filter(|answer| (answer.block >= super::stats::BLOCKS / 2) == second);
            us(Samples::new(half.map(|answer| (answer.last, 0))).percentile(0.5).unwrap_or_default())
        };
        let (first_half_us, second_half_us) = (median(false), median(true));
        let (less, more) = (first_half_us.min(second_half_us), first_half_us.max(second_half_us));
        let drift_percent = if less > 0.0 { (more / less - 1.0) * 100.0 } else { 0.0 };
        Self { first_half_us, second_half_us, drift_percent }
    }
}

fn samples(heard: &Heard, of: impl Fn(&Answer) -> u64) -> Samples {
    Samples::new(heard.answers.iter().map(|answer| (of(answer), answer.block)))
}

fn rows([direct, proxied]: &[Samples; 2]) -> Vec<Row> {
    let shares = PERCENTILES.map(|(share, _)| share);
    let intervals = intervals(direct, proxied, &shares);
    let row = |name, pair: (Option<u64>, Option<u64>), interval_us, beyond| {
        let (direct, proxied) = (pair.0?, pair.1?);
        let difference_us = difference(proxied, direct) as f64 / 1_000.0;
        let (direct_us, proxied_us) = (us(direct), us(proxied));
        Some(Row { percentile: name, direct_us, proxied_us, difference_us, interval_us, beyond })
    };
    let percentiles = PERCENTILES.iter().enumerate().map(|(i, (share, name))| {
        let interval = intervals.as_ref().and_then(|all| all.get(i));
        let interval = interval.map(|found| [found.low, found.high].map(|end| end as f64 / 1_000.0));
        let beyond = direct.beyond(*share).min(proxied.beyond(*share));
        row(*name, (direct.percentile(*share), proxied.percentile(*share)), interval, beyond)
    });
    percentiles.chain([row("max", (direct.max(), proxied.max()), None, 0)]).flatten().collect()
}

/// Points that lie evenly on a scale on which each nine of a percentile takes as much room as the one before.
fn distribution([direct, proxied]: &[Samples; 2]) -> Vec<Point> {
    let nines = (direct.len().min(proxied.len()).max(10) as f64).log10();
    let point = |i: u32| {
        let share = 1.0 - 10f64.powf(-nines * f64::from(i) / f64::from(POINTS));
        Some(Point {
            percentile: share * 100.0,
            direct_us: us(direct.percentile(share)?),
            proxied_us: us(proxied.percentile(share)?),
        })
    };
    (0..=POINTS).filter_map(point).collect()
}

/// Microseconds of nanoseconds.
fn us(ns: u64) -> f64 {
    ns as f64 / 1_000.0
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    /// So many answers, each taking `ns` and its number; errors as named.
    fn heard(count: usize, ns: u64, errors: &[(&str, u64)]) -> Heard {
        let answer =
            |i: usize| Answer { first: ns / 2, last: ns + i as u64, body: 100, block: i * 50 / count };
        Heard {
            answers: (0..count).map(answer).collect(),
            errors: errors.iter().map(|(why, count)| ((*why).to_owned(), *count)).collect(),
            opened: 0,
            wire: (count as u64 * 50, count as u64 * 300),
            took: Duration::from_secs(10),
        }
    }

    fn run(direct: Heard, proxied: Heard, lags: Vec<u64>) -> Run {
        Run::of(100, &Measured { direct, proxied, lags }, &Inside::default())
    }

    #[test]
    fn figures_are_what_was_measured() {
        let (memo, used) = (
            |hits, misses| Some(Memo { hits, misses }),
            |cpu_ns, ticks| Some(Used { cpu_ns, ticks, resident: 5 << 20 }),
        );
        let measured = Measured {
            direct: heard(1_000, 100_000, &[]),
            proxied: heard(1_000, 180_000, &[]),
            lags: vec![5; 2_000],
        };
        let inside = Inside {
            used: (used(7_000_000, (10, 20)), used(57_000_000, (13, 22))),
            memo: (memo(5, 5), memo(14, 6)),
        };
        let run = Run::of(100, &measured, &inside);
        assert_eq!(run.direct.achieved_rate, 100.0);
        assert_eq!((run.direct.wire_bytes_sent, run.direct.body_bytes), (50.0, 100.0));
        let names: Vec<_> = run.last_byte.iter().map(|row| row.percentile).collect();
        assert_eq!(names, ["p50", "p90", "p99", "p99.9", "max"]);
        let p99 = &run.last_byte[2];
        assert_eq!((p99.direct_us, p99.proxied_us, p99.difference_us), (100.989, 180.989, 80.0));
        assert_eq!((p99.interval_us, p99.beyond), (Some([80.0, 80.0]), 10));
        assert_eq!(run.first_byte[0].difference_us, 40.0);
        let cpu = run.cpu.as_ref().unwrap();
        assert_eq!((cpu.us_per_request, cpu.user_us, cpu.system_us), (50.0, 30.0, 20.0));
        assert_eq!(run.memo.as_ref().unwrap().hit_percent, Some(90.0));
        assert_eq!(run.inconclusive, [""; 0]);
        let (first, last) = (run.distribution[0], run.distribution[100]);
        assert_eq!((first.percentile, first.direct_us), (0.0, 100.0));
        assert!((last.percentile - 99.9).abs() < 1e-6 && last.proxied_us == 180.998, "{last:?}");
    }

    /// Errors, a late sender and a control that drifts make a run say nothing.
    #[test]
    fn errors_lateness_and_drift_are_each_a_doubt() {
        let good = || heard(100, 100_000, &[]);
        let late = |count| (0..200).map(|i| if i < count { LATE + 1 } else { 0 }).collect::<Vec<_>>();
        assert_eq!(run(good(), good(), late(2)).inconclusive, [""; 0], "one in a hundred is allowed");
        let doubts = run(good(), good(), late(3)).inconclusive;
        assert!(doubts.len() == 1 && doubts[0].starts_with("1.5 % of the requests"), "{doubts:?}");
        let failing = heard(100, 100_000, &[("answered 503", 2), ("broke off", 1)]);
        let doubts = run(good(), failing, Vec::new()).inconclusive;
        assert_eq!(doubts, ["3 proxied requests failed, most of them: answered 503"]);
        let mut drifting = good();
        for answer in drifting.answers.iter_mut().filter(|answer| answer.block >= 25) {
            answer.last += 12_000;
        }
        let doubts = run(drifting, good(), Vec::new()).inconclusive;
        assert!(doubts.len() == 1 && doubts[0].contains("drifted by 12 %"), "{doubts:?}");
    }

    #[test]
    fn a_verdict_is_over_all_rates_and_none_where_there_is_a_doubt() {
        let plain = |proxied| run(heard(100, 100_000, &[]), heard(100, proxied, &[]), Vec::new());
        let runs = [plain(110_000), plain(400_000), plain(120_000)];
        let verdict = Verdict::of(&runs, Some(300.0));
        assert_eq!((verdict.added_p99_us, verdict.within), (300.0, Some(true)));
        assert_eq!(Verdict::of(&runs, Some(299.0)).within, Some(false));
        assert_eq!(Verdict::of(&runs, None).within, None);
        let doubtful = [plain(110_000), run(heard(9, 1_000, &[("x", 1)]), heard(9, 1_000, &[]), Vec::new())];
        let verdict = Verdict::of(&doubtful, Some(300.0));
        assert_eq!(verdict.within, None);
        assert_eq!(verdict.inconclusive, ["rate 100: 1 direct requests failed, most of them: x"]);
    }

    #[test]
    fn nothing_heard_is_no_figure() {
        let run = run(Heard::default(), Heard::default(), Vec::new());
        assert!(run.last_byte.is_empty() && run.distribution.is_empty() && run.cpu.is_none());
    }
}
