//! How long a certificate lasts, and the moment in it to renew.

use anyhow::Context as _;
use sha2::{Digest as _, Sha256};

/// From when to when a certificate holds, Unix seconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Validity {
    pub(super) from: i64,
    pub(super) until: i64,
}

impl Validity {
    /// As a certificate (DER) has it.
    pub(super) fn of(leaf: &[u8]) -> anyhow::Result<Self> {
        let (_, leaf) = x509_parser::parse_x509_certificate(leaf).context("is no certificate")?;
        let validity = leaf.validity();
        Ok(Self { from: validity.not_before.timestamp(), until: validity.not_after.timestamp() })
    }

    /// Renewal where the authority suggests no time: a third of the lifetime is left for what may go wrong.
    pub(super) const fn two_thirds(self) -> i64 {
        let life = self.until.saturating_sub(self.from);
        self.from.saturating_add(life / 3 * 2)
    }
}

/// A second of a window, spread evenly over certificates and the same whenever asked for one (RFC 9773, 4.2, wants
/// a random one; so nothing has to be remembered over a restart).
pub(super) fn chosen_second(start: i64, end: i64, leaf: &[u8]) -> i64 {
    let hash = Sha256::digest(leaf);
    let number = hash.iter().take(8).fold(0_u64, |number, byte| number << 8 | u64::from(*byte));
    match u64::try_from(end.saturating_sub(start)) {
        Ok(width) if width > 0 => start.saturating_add(i64::try_from(number % width).unwrap_or(0)),
        _ => start,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn renewal_is_at_two_thirds_of_the_lifetime() {
        assert_eq!(Validity { from: 1_000, until: 1_000 + 90 * 86_400 }.two_thirds(), 1_000 + 60 * 86_400);
        assert_eq!(Validity { from: 5, until: 5 }.two_thirds(), 5);
    }

    /// RFC 9773, 4.2: a time within the window.
    #[test]
    fn the_second_lies_in_the_window_and_stays_the_same() {
        for leaf in 0..200_u8 {
            let at = chosen_second(100, 110, &[leaf]);
            assert!((100..110).contains(&at));
            assert_eq!(at, chosen_second(100, 110, &[leaf]));
        }
        assert_eq!(chosen_second(110, 100, &[1]), 110);
        let spread: std::collections::BTreeSet<_> = (0..200_u8).map(|l| chosen_second(0, 10, &[l])).collect();
        assert_eq!(spread.len(), 10);
    }

    #[test]
    fn validity_is_read_from_the_certificate() {
        let mut params = rcgen::CertificateParams::new(vec!["a.test".to_owned()]).unwrap();
        params.not_before = rcgen::date_time_ymd(2026, 1, 1);
        params.not_after = rcgen::date_time_ymd(2026, 1, 31);
        let leaf = params.self_signed(&rcgen::KeyPair::generate().unwrap()).unwrap();
        let validity = Validity::of(leaf.der()).unwrap();
        assert_eq!(validity.until - validity.from, 30 * 86_400);
        assert!(Validity::of(b"garbage").is_err());
    }
}
