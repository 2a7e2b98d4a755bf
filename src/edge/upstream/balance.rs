//! Which origin of several: pure functions over the origins that may be chosen, as bits of a word.

use std::hash::Hasher;

/// The origins whose bits are set, in order.
pub fn each(bits: u64) -> impl Iterator<Item = usize> {
    let mut left = bits;
    std::iter::from_fn(move || {
        let at = left.trailing_zeros() as usize;
        left &= left.wrapping_sub(1);
        (at < 64).then_some(at)
    })
}

/// Those of the origins for which something holds.
pub fn those(bits: u64, holds: impl Fn(usize) -> bool) -> u64 {
    each(bits).filter(|at| holds(*at)).fold(0, |found, at| found | 1 << at)
}

/// Smooth weighted round-robin (nginx's): each gets its share, and no run of one is longer than it must be.
///
/// One core's own: the cores' turns need not agree.
#[derive(Debug)]
pub struct Turns {
    credit: Vec<i64>,
}

impl Turns {
    /// For so many origins.
    #[must_use]
    pub fn new(origins: usize) -> Self {
        Self { credit: vec![0; origins] }
    }

    /// Whose turn it is. Cost: one pass over the origins.
    pub fn next(&mut self, among: u64, weight: impl Fn(usize) -> u64) -> Option<usize> {
        let mut total = 0;
        let mut best: Option<(usize, i64)> = None;
        for at in each(among) {
            let Some(credit) = self.credit.get_mut(at) else { continue };
            let weight = i64::try_from(weight(at)).unwrap_or(i64::MAX >> 8);
            total += weight;
            *credit += weight;
            if best.is_none_or(|(_, most)| *credit > most) {
                best = Some((at, *credit));
            }
        }
        let (at, _) = best?;
        if let Some(credit) = self.credit.get_mut(at) {
            *credit -= total;
        }
        Some(at)
    }
}

/// The origin with the fewest requests under way for its weight, the next one counted in; of equals the
/// first from `start` on, so that quiet times do not go to one only.
#[must_use]
pub fn fewest(among: u64, start: usize, load: impl Fn(usize) -> (u64, u64)) -> Option<usize> {
    let after = among & u64::MAX.checked_shl(u32::try_from(start % 64).unwrap_or(0)).unwrap_or(0);
    let mut best: Option<(usize, u128, u128)> = None;
    for at in each(after).chain(each(among & !after)) {
        let (under_way, weight) = load(at);
        let (loaded, weight) = (u128::from(under_way) + 1, u128::from(weight.max(1)));
        // loaded / weight, compared without dividing.
        if best.is_none_or(|(_, least, of)| loaded * of < least * weight) {
            best = Some((at, loaded, weight));
        }
    }
    best.map(|(at, ..)| at)
}

/// Weighted rendezvous hashing: the origin whose score for the key is highest. When one goes, only its keys
/// move; every node and run with the same origins chooses the same.
#[must_use]
pub fn highest(among: u64, key: u64, origin: impl Fn(usize) -> (u64, u64)) -> Option<usize> {
    let score = |at: usize| {
        let (identity, weight) = origin(at);
        // Into (0, 1); the 53 bits that a double holds exactly.
        let uniform = ((mix(key ^ identity) >> 11) as f64 + 0.5) / (1_u64 << 53) as f64;
        -(weight.max(1) as f64) / uniform.ln()
    };
    each(among).map(|at| (at, score(at))).max_by(|(_, a), (_, b)| a.total_cmp(b)).map(|(at, _)| at)
}

/// A number for some bytes, the same everywhere and always (FNV-1a and a finishing mix).
#[must_use]
pub fn digest(bytes: &[u8]) -> u64 {
    let mut fnv = Fnv(0xcbf2_9ce4_8422_2325);
    fnv.write(bytes);
    fnv.finish()
}

struct Fnv(u64);

impl Hasher for Fnv {
    fn finish(&self) -> u64 {
        mix(self.0)
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }
}

/// SplitMix64's finish: every bit of the input reaches every bit of the output.
const fn mix(number: u64) -> u64 {
    let x = (number ^ (number >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shares(among: u64, rounds: usize, mut next: impl FnMut() -> Option<usize>) -> [usize; 4] {
        let mut counts = [0; 4];
        for _ in 0..rounds {
            let at = next().unwrap();
            assert!(among & (1 << at) != 0);
            counts[at] += 1;
        }
        counts
    }

    #[test]
    fn each_gives_the_set_bits_in_order() {
        assert_eq!(each(0b1010).collect::<Vec<_>>(), [1, 3]);
        assert_eq!(each(u64::MAX).count(), 64);
        assert_eq!(each(0).count(), 0);
    }

    #[test]
    fn turns_are_shared_by_weight_and_spread_out() {
        let mut turns = Turns::new(4);
        let weights = [5, 1, 1, 0];
        let order: Vec<_> = (0..7).map(|_| turns.next(0b0111, |at| weights[at]).unwrap()).collect();
        assert_eq!(order, [0, 0, 1, 0, 2, 0, 0], "nginx's own example");
        let mut equal = Turns::new(4);
        assert_eq!(shares(0b1101, 300, || equal.next(0b1101, |_| 1_000)), [100, 0, 100, 100]);
        assert_eq!(equal.next(0, |_| 1), None);
    }

    /// One that was out has no claim on the turns it missed, and owes none.
    #[test]
    fn a_change_of_the_origins_keeps_the_shares() {
        let mut turns = Turns::new(4);
        shares(0b11, 101, || turns.next(0b11, |_| 1));
        shares(0b01, 50, || turns.next(0b01, |_| 1));
        assert_eq!(shares(0b11, 100, || turns.next(0b11, |_| 1)), [50, 50, 0, 0]);
    }

    /// Slow start in counts: a tenth of the weight is a tenth of the turns of a whole one.
    #[test]
    fn a_smaller_share_is_a_smaller_number_of_turns() {
        let mut turns = Turns::new(4);
        let weights = [1_000, 100];
        assert_eq!(shares(0b11, 110, || turns.next(0b11, |at| weights[at])), [100, 10, 0, 0]);
    }

    #[test]
    fn the_fewest_under_way_for_the_weight_is_chosen() {
        let load = |loads: [(u64, u64); 3]| move |at: usize| loads[at];
        assert_eq!(fewest(0b111, 0, load([(3, 1), (1, 1), (2, 1)])), Some(1));
        assert_eq!(fewest(0b101, 0, load([(3, 1), (1, 1), (2, 1)])), Some(2));
        assert_eq!(fewest(0b111, 0, load([(8, 10), (1, 1), (2, 1)])), Some(0), "9/10 before 2/1");
        let equal = load([(1, 1), (1, 1), (1, 1)]);
        assert_eq!([0, 1, 2, 3].map(|start| fewest(0b111, start, equal)), [0, 1, 2, 0].map(Some));
        assert_eq!(fewest(0, 0, equal), None);
    }

    /// Rendezvous hashing: shares follow the weights, and a lost origin moves its own keys only.
    #[test]
    fn keys_keep_their_origin_when_another_goes() {
        let identity = [11, 22, 33, 44].map(|n: u64| digest(&n.to_be_bytes()));
        let weights = [1, 1, 2, 1];
        let choose = |among, key: u64| {
            highest(among, digest(&key.to_be_bytes()), |at| (identity[at], weights[at])).unwrap()
        };
        let mut counts = [0_u32; 4];
        for key in 0..10_000 {
            let at = choose(0b1111, key);
            counts[at] += 1;
            let without = choose(0b1110, key);
            assert!(at == 0 || without == at, "key {key} moved from {at} to {without}");
        }
        for (at, weight) in weights.iter().enumerate() {
            let due = 2_000 * *weight as u32;
            assert!(counts[at].abs_diff(due) < 200, "{counts:?}");
        }
    }

    /// The choice is part of what nodes agree on: it must not change with a version.
    #[test]
    fn digests_are_the_same_everywhere() {
        assert_eq!(digest(b""), mix(0xcbf2_9ce4_8422_2325));
        assert_eq!(Fnv(0xcbf2_9ce4_8422_2325).0, 0xcbf2_9ce4_8422_2325);
        let mut fnv = Fnv(0xcbf2_9ce4_8422_2325);
        fnv.write(b"foobar");
        assert_eq!(fnv.0, 0x8594_4171_f739_67e8, "FNV-1a's published value");
    }
}
