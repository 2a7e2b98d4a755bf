//! Percentiles, and how sure their differences are.

use std::cmp::Ordering;

/// Resamples behind an interval.
const RESAMPLES: usize = 1_000;

/// Pieces of time that are drawn whole: what happens within one hangs together.
pub const BLOCKS: usize = 50;

/// Measured values, each with the piece of time it is from (below [`BLOCKS`]).
#[derive(Debug, Clone)]
pub struct Samples(Vec<(u64, usize)>);

/// What was drawn, and 95 of 100 such draws lie between.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Interval {
    /// Lower end.
    pub low: i64,
    /// Upper end.
    pub high: i64,
}

impl Samples {
    /// Values in any order.
    pub fn new(values: impl IntoIterator<Item = (u64, usize)>) -> Self {
        let mut sorted: Vec<_> =
            values.into_iter().map(|(value, block)| (value, block.min(BLOCKS - 1))).collect();
        sorted.sort_unstable();
        Self(sorted)
    }

    /// How many.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// The smallest value that at least this share (0 to 1) of all do not exceed: the nearest rank. `None`: there
    /// are no values.
    pub fn percentile(&self, share: f64) -> Option<u64> {
        let rank = rank(share, self.0.len() as u64);
        self.0.get(usize::try_from(rank).ok()?.checked_sub(1)?).map(|(value, _)| *value)
    }

    /// The largest value.
    pub fn max(&self) -> Option<u64> {
        self.0.last().map(|(value, _)| *value)
    }

    /// How many values lie beyond a percentile: with few, it says little.
    pub fn beyond(&self, share: f64) -> u64 {
        let all = self.0.len() as u64;
        all - rank(share, all).min(all)
    }

    /// Percentiles (ascending shares) of the values when each piece of time counts so many times. `None`: nothing
    /// was drawn.
    fn weighted(&self, weights: &[u64; BLOCKS], shares: &[f64]) -> Option<Vec<u64>> {
        let all: u64 = self.0.iter().map(|(_, block)| weights[*block]).sum();
        let mut found = Vec::with_capacity(shares.len());
        let mut so_far = 0;
        for (value, block) in &self.0 {
            so_far += weights[*block];
            while found.len() < shares.len() && so_far > 0 && so_far >= rank(shares[found.len()], all) {
                found.push(*value);
            }
        }
        (found.len() == shares.len()).then_some(found)
    }
}

/// Nearest rank of a share among so many, counted from 1.
fn rank(share: f64, of: u64) -> u64 {
    // A hair less, so that 0.9 of 10 is the ninth and not, by rounding, the tenth.
    ((share * of as f64 - 1e-9).ceil() as u64).max(1)
}

/// Intervals of the differences `proxied - direct` of percentiles (ascending shares), by a bootstrap of whole pieces
/// of time: both sides of a draw are from the same moments, as they were measured. The same samples always give the
/// same intervals. `None`: one side has no values.
pub fn intervals(direct: &Samples, proxied: &Samples, shares: &[f64]) -> Option<Vec<Interval>> {
    let mut drawn = vec![Vec::with_capacity(RESAMPLES); shares.len()];
    let mut random = Random(0);
    for _ in 0..RESAMPLES {
        let mut weights = [0; BLOCKS];
        for _ in 0..BLOCKS {
            weights[random.below(BLOCKS)] += 1;
        }
        let both = (direct.weighted(&weights, shares), proxied.weighted(&weights, shares));
        let (Some(direct), Some(proxied)) = both else { continue };
        for (i, (direct, proxied)) in direct.into_iter().zip(proxied).enumerate() {
            drawn[i].push(difference(proxied, direct));
        }
    }
    drawn.into_iter().map(middle).collect()
}

/// What lies between the lowest and the highest fortieth.
fn middle(mut drawn: Vec<i64>) -> Option<Interval> {
    drawn.sort_unstable();
    let edge = drawn.len() / 40;
    Some(Interval { low: *drawn.get(edge)?, high: *drawn.get(drawn.len() - 1 - edge)? })
}

/// `a - b`.
pub fn difference(a: u64, b: u64) -> i64 {
    let distance = i64::try_from(a.abs_diff(b)).unwrap_or(i64::MAX);
    if a.cmp(&b) == Ordering::Less { -distance } else { distance }
}

/// SplitMix64: draws that need no secret and can be repeated.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^= z >> 31;
        // Below `limit`, so it fits.
        ((u128::from(z) * limit as u128) >> 64) as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Values 1 to `n`, in pieces of time as they come.
    fn upto(n: u64, plus: u64) -> Samples {
        Samples::new((1..=n).map(|v| (v + plus, (v % BLOCKS as u64) as usize)))
    }

    /// Nearest rank: of 1 to 100 the 99th percentile is 99; no value is made up between two.
    #[test]
    fn percentiles_are_values_that_were_measured() {
        let hundred = upto(100, 0);
        for (share, value) in [(0.0, 1), (0.5, 50), (0.9, 90), (0.99, 99), (0.999, 100), (1.0, 100)] {
            assert_eq!(hundred.percentile(share), Some(value), "{share}");
        }
        assert_eq!(upto(10, 0).percentile(0.9), Some(9));
        assert_eq!(upto(1, 6).percentile(0.999), Some(7));
        assert_eq!((hundred.max(), hundred.beyond(0.99), hundred.beyond(0.999)), (Some(100), 1, 0));
        let none = Samples::new([]);
        assert_eq!((none.percentile(0.5), none.max(), none.beyond(0.5)), (None, None, 0));
    }

    /// Counting every piece once is the plain percentile; counting one piece only is that piece's.
    #[test]
    fn weighted_percentiles_agree_with_plain_ones() {
        let samples = upto(1_000, 0);
        let plain = [0.5, 0.9, 0.99].map(|share| samples.percentile(share).unwrap());
        assert_eq!(samples.weighted(&[1; BLOCKS], &[0.5, 0.9, 0.99]).unwrap(), plain);
        let mut one = [0; BLOCKS];
        one[7] = 3;
        // 7, 57, 107, ... 957: twenty values.
        assert_eq!(samples.weighted(&one, &[0.5, 1.0]).unwrap(), [457, 957]);
        assert_eq!(samples.weighted(&[0; BLOCKS], &[0.5]), None);
    }

    /// The same values and always 250 more: the difference is 250 in every draw.
    #[test]
    fn a_constant_difference_has_no_width() {
        let (direct, proxied) = (upto(5_000, 0), upto(5_000, 250));
        let exact = Interval { low: 250, high: 250 };
        assert_eq!(intervals(&direct, &proxied, &[0.5, 0.99, 0.999]).unwrap(), [exact; 3]);
    }

    /// Drift that both sides share cancels; what only some of the time shows widens the interval.
    #[test]
    fn drift_of_both_sides_cancels_and_unsteadiness_shows() {
        let block = |v: u64| (v / 20) as usize;
        let drifting = |plus: u64| Samples::new((0..1_000).map(|v| (100 * block(v) as u64 + plus, block(v))));
        let exact = Interval { low: 40, high: 40 };
        assert_eq!(intervals(&drifting(0), &drifting(40), &[0.5]).unwrap(), [exact]);
        let direct = Samples::new((0..1_000).map(|v| (100, block(v))));
        let unsteady = Samples::new((0..1_000).map(|v| (if block(v) < 26 { 110 } else { 900 }, block(v))));
        assert_eq!(intervals(&direct, &unsteady, &[0.5]).unwrap(), [Interval { low: 10, high: 800 }]);
    }

    /// Against the known law: the median of 1,000 even values has a standard error of 1000 / (2 * sqrt(1000)), some
    /// 15.8, so 95 % of draws lie within some 31 to either side; pieces of even values are a little surer.
    #[test]
    fn an_interval_is_about_as_wide_as_theory_has_it() {
        let mut random = Random(1);
        let values: Vec<_> = (0..1_000).map(|i| (random.below(1_000) as u64, i / 20)).collect();
        let none = Samples::new((0..1_000).map(|i| (0, i / 20)));
        let [interval] = intervals(&none, &Samples::new(values), &[0.5]).unwrap()[..] else { panic!() };
        let width = interval.high - interval.low;
        assert!((30..=95).contains(&width), "{interval:?}");
        assert!((430..=570).contains(&((interval.high + interval.low) / 2)), "{interval:?}");
    }

    #[test]
    fn nothing_measured_gives_no_interval() {
        assert_eq!(intervals(&upto(10, 0), &Samples::new([]), &[0.5]), None);
    }
}
