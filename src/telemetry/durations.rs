//! How long something took, for `/metrics`: a histogram that every core counts in a place of its own.
//!
//! The library's has one lock for all cores, taken with every request. Here counting is two relaxed adds to a
//! cache line that no other core writes to; the places are summed when somebody reads.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use prometheus_client::encoding::{EncodeMetric, MetricEncoder, NoLabelSet};
use prometheus_client::metrics::{MetricType, TypedMetric};

/// Upper bounds of the buckets, microseconds; above the last there is one more.
const BOUNDS: [u64; 13] = [
    500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000, 1_000_000, 2_500_000,
    10_000_000,
];
const BUCKETS: usize = BOUNDS.len() + 1;
/// More threads than this share places.
const PLACES: usize = 16;

/// What one thread counted. Lines are read in pairs, so two of them keep neighbours apart.
#[derive(Debug, Default)]
#[repr(align(128))]
struct Place {
    buckets: [AtomicU64; BUCKETS],
    nanos: AtomicU64,
}

/// Counted durations. A clone counts in the same places.
#[derive(Debug, Clone, Default)]
pub struct Durations(Arc<[Place; PLACES]>);

thread_local! {
    /// Where this thread counts.
    static PLACE: usize = {
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        NEXT.fetch_add(1, Ordering::Relaxed) % PLACES
    };
}

impl Durations {
    /// Counts one. Cost: a look at the bounds up to it, and two relaxed adds.
    pub fn observe(&self, took: Duration) {
        let nanos = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        let bucket = BOUNDS.iter().position(|bound| nanos <= bound * 1_000).unwrap_or(BOUNDS.len());
        if let Some(place) = self.0.get(PLACE.with(|place| *place)) {
            if let Some(bucket) = place.buckets.get(bucket) {
                bucket.fetch_add(1, Ordering::Relaxed);
            }
            place.nanos.fetch_add(nanos, Ordering::Relaxed);
        }
    }

    /// The sum in seconds, and how many fell into each bucket.
    fn total(&self) -> (f64, [u64; BUCKETS]) {
        let (mut nanos, mut counts) = (0_u64, [0; BUCKETS]);
        for place in self.0.iter() {
            nanos = nanos.wrapping_add(place.nanos.load(Ordering::Relaxed));
            for (count, bucket) in counts.iter_mut().zip(&place.buckets) {
                *count += bucket.load(Ordering::Relaxed);
            }
        }
        (Duration::from_nanos(nanos).as_secs_f64(), counts)
    }
}

impl TypedMetric for Durations {
    const TYPE: MetricType = MetricType::Histogram;
}

impl EncodeMetric for Durations {
    fn encode(&self, mut encoder: MetricEncoder<'_>) -> Result<(), std::fmt::Error> {
        let (sum, counts) = self.total();
        let bounds = BOUNDS.iter().map(|bound| Duration::from_micros(*bound).as_secs_f64());
        let buckets: Vec<(f64, u64)> = bounds.chain([f64::INFINITY]).zip(counts).collect();
        encoder.encode_histogram::<NoLabelSet>(sum, counts.iter().sum(), &buckets, None)
    }

    fn metric_type(&self) -> MetricType {
        Self::TYPE
    }
}

#[cfg(test)]
mod tests {
    use prometheus_client::registry::Registry;

    use super::*;

    fn shown(durations: &Durations) -> String {
        let mut registry = Registry::default();
        registry.register("took", "What it took", durations.clone());
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
        text
    }

    #[test]
    fn what_all_threads_counted_is_summed() {
        let durations = Durations::default();
        let count = |times: u64| {
            let durations = durations.clone();
            std::thread::spawn(move || (0..times).for_each(|_| durations.observe(Duration::from_millis(2))))
        };
        [count(3), count(4)].into_iter().for_each(|thread| thread.join().unwrap());
        let text = shown(&durations);
        for line in [
            "took_count 7\n",
            "took_sum 0.014",
            "took_bucket{le=\"0.001\"} 0\n",
            "took_bucket{le=\"0.0025\"} 7\n",
        ] {
            assert!(text.contains(line), "{line} in {text}");
        }
    }

    /// A bound is in its own bucket (OpenMetrics, "le"), and what is above the last counts too.
    #[test]
    fn bounds_belong_to_their_buckets() {
        let durations = Durations::default();
        durations.observe(Duration::from_micros(500));
        durations.observe(Duration::from_nanos(500_001));
        durations.observe(Duration::from_secs(3_600));
        let text = shown(&durations);
        for line in [
            "took_bucket{le=\"0.0005\"} 1\n",
            "took_bucket{le=\"0.001\"} 2\n",
            "took_bucket{le=\"10.0\"} 2\n",
            "took_bucket{le=\"+Inf\"} 3\n",
        ] {
            assert!(text.contains(line), "{line} in {text}");
        }
    }
}
