//! The public reference of a record: something a person can read out on the telephone.
//!
//! Crockford's base32 (no I, L, O, U) in four groups, `7Q2M-0XKD-ZR41-9HVT`, for 80 bits:
//!
//! ```text
//! 24 bits: when it was written, in ticks of 64 ms, modulo 12 days | 56 bits: random
//! ```
//!
//! 56 random bits for every 64 ms cannot be guessed, so knowing a reference is reason enough to show
//! its record. The tick comes first because references are indexed: records of one commit are then
//! neighbours in the index. With 80 random bits every record touched a page of its own, and a commit
//! of 1,024 records wrote ten times as much (measured with a million records).

/// Bytes of a reference.
const BYTES: usize = 10;

/// Random bytes among them.
pub(super) const RANDOM: usize = 7;

/// Digits in a reference, dashes apart.
const DIGITS: usize = 16;

const ALPHABET: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";

/// Makes a reference of the time it is written (microseconds since the Unix epoch) and random bytes.
pub(super) fn make(now_us: i64, random: [u8; RANDOM]) -> String {
    let [.., a, b, c] = (now_us / 64_000).to_be_bytes();
    let [d, e, f, g, h, i, j] = random;
    format(&[a, b, c, d, e, f, g, h, i, j])
}

/// Writes ten bytes as four groups of four digits.
fn format(random: &[u8; BYTES]) -> String {
    let mut digits = String::with_capacity(DIGITS + 3);
    let (mut bits, mut held) = (0u32, 0u32);
    for byte in random {
        bits = (bits << 8) | u32::from(*byte);
        held += 8;
        while held >= 5 {
            held -= 5;
            push(&mut digits, ALPHABET[((bits >> held) & 31) as usize]);
        }
    }
    digits
}

/// Reads what a person typed: any case, dashes or none, O for 0, I or L for 1. `None` when it
/// cannot be a reference.
pub(super) fn normalise(typed: &str) -> Option<String> {
    let mut digits = String::with_capacity(DIGITS + 3);
    let mut count = 0;
    for byte in typed.bytes().filter(|b| !matches!(b, b'-' | b' ')) {
        let digit = match byte.to_ascii_uppercase() {
            b'O' => b'0',
            b'I' | b'L' => b'1',
            other => other,
        };
        if count == DIGITS || !ALPHABET.contains(&digit) {
            return None;
        }
        count += 1;
        push(&mut digits, digit);
    }
    (count == DIGITS).then_some(digits)
}

/// Adds a digit, and a dash before each group but the first.
fn push(digits: &mut String, digit: u8) {
    if digits.len() % 5 == 4 {
        digits.push('-');
    }
    digits.push(char::from(digit));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reference_is_four_groups_of_four() {
        assert_eq!(format(&[0; BYTES]), "0000-0000-0000-0000");
        assert_eq!(format(&[0xff; BYTES]), "ZZZZ-ZZZZ-ZZZZ-ZZZZ");
        assert_eq!(format(&[0, 0, 0, 0, 0, 0, 0, 0, 0, 1]), "0000-0000-0000-0001");
    }

    /// Neighbours in time are neighbours in the index.
    #[test]
    fn references_of_one_tick_begin_alike() {
        let at = |us| make(us, [0x5a; RANDOM]);
        assert_eq!(at(1_795_000_000_000_000), at(1_795_000_000_000_001));
        assert!(at(1_795_000_000_000_000) < at(1_795_000_000_064_000));
    }

    #[test]
    fn a_reference_is_read_as_people_write_it() {
        let plain = Some("7Q2M-0XKD-1R41-9HVT".to_owned());
        for typed in ["7Q2M-0XKD-1R41-9HVT", "7q2moxkdlr4i9hvt", " 7q2m 0xkd ir41 9hvt"] {
            assert_eq!(normalise(typed), plain, "{typed}");
        }
        for typed in ["", "7Q2M", "7Q2M-0XKD-1R41-9HVU", "7Q2M-0XKD-1R41-9HVT0", "7Q2M-0XKD-1R41-9HV\u{e9}"] {
            assert_eq!(normalise(typed), None, "{typed}");
        }
    }
}
