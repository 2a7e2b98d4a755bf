//! The US Privacy string (IAB, version 1): four characters, the third says opted out.

/// Notice given, opted out, not under the LSPA: what we say for a visitor who opted out.
pub const OPTED_OUT: &str = "1YYN";

/// Whether a `usprivacy` value says that the person opted out of sale.
///
/// Only a whole, well-formed version 1 string counts: `1`, then `Y`, `N` or `-` three times.
#[must_use]
pub fn says_opted_out(value: &[u8]) -> bool {
    let [b'1', notice, opt_out, lspa] = value else { return false };
    let flag = |c: &u8| matches!(c.to_ascii_uppercase(), b'Y' | b'N' | b'-');
    flag(notice) && flag(lspa) && opt_out.eq_ignore_ascii_case(&b'Y')
}

#[cfg(test)]
mod tests {
    use super::says_opted_out;

    #[test]
    fn only_a_well_formed_string_with_y_in_third_place_counts() {
        for yes in ["1YYN", "1NYN", "1-Y-", "1yyn"] {
            assert!(says_opted_out(yes.as_bytes()), "{yes}");
        }
        for no in ["1YNN", "1---", "1Y-N", "2YYN", "1YY", "1YYNN", "", "YYYY", "1?YN"] {
            assert!(!says_opted_out(no.as_bytes()), "{no}");
        }
    }
}
