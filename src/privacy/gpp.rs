//! Reading a Global Privacy Platform string (IAB GPP 1.1): does any United States section say that
//! the person opted out?
//!
//! ```text
//! header ~ section ~ section        sub-sections joined by '.'
//! header: 6 bits type = 3, 6 bits version = 1, Fibonacci range of section ids
//! ```
//!
//! Only what the judgement needs is read. A string that cannot be read says nothing.

/// Longest string looked at, bytes.
const MAX_LEN: usize = 4096;

/// Whether a United States section of this string says opted out of sale, sharing or targeted
/// advertising, or carries the browser signal.
#[must_use]
pub fn says_opted_out(value: &[u8]) -> bool {
    if value.len() > MAX_LEN {
        return false;
    }
    let Ok(text) = std::str::from_utf8(value) else { return false };
    let mut parts = text.split('~');
    let Some(ids) = parts.next().and_then(section_ids) else { return false };
    ids.into_iter().zip(parts).any(|(id, section)| section_says_out(id, section))
}

fn section_says_out(id: u16, section: &str) -> bool {
    let mut subsections = section.split('.');
    let Some(core) = subsections.next() else { return false };
    if id == 6 {
        return super::usp::says_opted_out(core.as_bytes());
    }
    let Some((skip, fields)) = opt_out_fields(id) else { return false };
    let mut bits = Bits::new(core);
    let core_out = bits.take(6 + skip * 2).is_some() && (0..fields).any(|_| bits.take(2) == Some(1));
    core_out
        || subsections.any(|sub| {
            let mut bits = Bits::new(sub);
            bits.take(2) == Some(1) && bits.take(1) == Some(1)
        })
}

/// Where the opt-out fields lie: notices before them, and how many there are, each two bits.
const fn opt_out_fields(id: u16) -> Option<(u32, u32)> {
    match id {
        7 => Some((6, 3)),                // usnat: sale, sharing, targeted advertising
        8 => Some((3, 2)),                // usca: sale, sharing
        11 => Some((4, 2)),               // usut: sale, targeted advertising
        9 | 10 | 12..=27 => Some((3, 2)), // the other states: sale, targeted advertising
        _ => None,
    }
}

/// Section ids of the header, ascending.
fn section_ids(header: &str) -> Option<Vec<u16>> {
    let mut bits = Bits::new(header);
    if bits.take(6)? != 3 || bits.take(6)? != 1 {
        return None;
    }
    let items = bits.take(12)?;
    let (mut ids, mut last) = (Vec::new(), 0u16);
    for _ in 0..items.min(64) {
        let group = bits.take(1)? == 1;
        let first = last.checked_add(bits.fibonacci()?)?;
        let end = if group { first.checked_add(bits.fibonacci()?)? } else { first };
        if end > 1024 {
            return None;
        }
        ids.extend(first..=end);
        last = end;
    }
    Some(ids)
}

/// Bits of a base64url (or base64) text, most significant first.
struct Bits<'a> {
    text: &'a [u8],
    at: usize,
}

impl<'a> Bits<'a> {
    const fn new(text: &'a str) -> Self {
        Self { text: text.as_bytes(), at: 0 }
    }

    fn bit(&mut self) -> Option<u32> {
        let sextet = match *self.text.get(self.at / 6)? {
            c @ b'A'..=b'Z' => c - b'A',
            c @ b'a'..=b'z' => c - b'a' + 26,
            c @ b'0'..=b'9' => c - b'0' + 52,
            b'-' | b'+' => 62,
            b'_' | b'/' => 63,
            _ => return None,
        };
        let bit = sextet >> (5 - self.at % 6) & 1;
        self.at += 1;
        Some(bit.into())
    }

    /// Up to 32 bits as a number; a longer skip keeps the last 32.
    fn take(&mut self, count: u32) -> Option<u32> {
        (0..count).try_fold(0u32, |number, _| Some(number << 1 | self.bit()?))
    }

    /// A Fibonacci-coded number: sum of Fibonacci numbers until two ones in a row.
    fn fibonacci(&mut self) -> Option<u16> {
        let (mut now, mut next, mut sum, mut before) = (1u16, 2u16, 0u16, false);
        loop {
            let one = self.bit()? == 1;
            if one && before {
                return Some(sum);
            }
            if one {
                sum = sum.checked_add(now)?;
            }
            before = one;
            (now, next) = (next, now.checked_add(next)?);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Vectors: the values of a GPP string for each case in the reference's table, and the
    /// specification's header examples.
    #[test]
    fn opted_out_strings_are_read_and_others_are_not() {
        for out in ["DBABLA~CVQVAAAAAACA.YA", "DBABLA~CVQVAAAAAACA.QA", "DBABBg~BUUAAACA.YA"] {
            assert!(says_opted_out(out.as_bytes()), "{out}");
        }
        for not in ["DBABLA~CVQqAAAAAACA.QA", "", "~~~", "DBAA", "DBABMA~CPXxRfAPXxRfA", "DBABLA~", "DBABLA"]
        {
            assert!(!says_opted_out(not.as_bytes()), "{not}");
        }
    }

    /// The GPC sub-section alone is the browser's signal.
    #[test]
    fn the_gpc_subsection_counts_without_core_opt_outs() {
        assert!(says_opted_out(b"DBABLA~CVQqAAAAAACA.YA"));
    }

    /// Header example of the specification: sections 2 and 6; 6 is a US Privacy string.
    #[test]
    fn section_six_is_read_as_a_us_privacy_string() {
        assert_eq!(section_ids("DBACNYA"), Some(vec![2, 6]));
        assert!(says_opted_out(b"DBACNYA~CPXxRfAPXxRfAAfKABENB~1YYN"));
        assert!(!says_opted_out(b"DBACNYA~CPXxRfAPXxRfAAfKABENB~1YNN"));
    }
}
