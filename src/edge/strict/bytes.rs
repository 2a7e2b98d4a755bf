//! Which bytes may stand where in a message (RFC 9110, 5; RFC 9112, 3).

use memchr::memchr;

/// Which bytes a token may hold (RFC 9110, 5.6.2).
static TOKEN: [bool; 256] = token_bytes();

const fn token_bytes() -> [bool; 256] {
    let marks = b"!#$%&'*+-.^_`|~";
    let mut table = [false; 256];
    let mut byte = 0;
    while byte < 128_u8 {
        table[byte as usize] = byte.is_ascii_alphanumeric();
        byte += 1;
    }
    let mut at = 0;
    while at < marks.len() {
        table[marks[at] as usize] = true;
        at += 1;
    }
    table
}

/// Whether these bytes are a token.
pub(super) fn is_token(bytes: &[u8]) -> bool {
    !bytes.is_empty() && bytes.iter().all(|byte| TOKEN[usize::from(*byte)])
}

/// Where a token at the start of these bytes ends.
pub(super) fn token_end(bytes: &[u8]) -> usize {
    let (blocks, _) = bytes.as_chunks::<4>();
    let token = |byte: u8| TOKEN[usize::from(byte)];
    let whole =
        blocks.iter().take_while(|[a, b, c, d]| token(*a) & token(*b) & token(*c) & token(*d)).count() * 4;
    let rest = bytes[whole..].iter().take_while(|byte| token(**byte)).count();
    whole + rest
}

/// Whether a byte may stand in a token.
pub(super) fn is_token_byte(byte: u8) -> bool {
    TOKEN[usize::from(byte)]
}

/// Whether a byte may stand in a field's value: no control byte but the tabulator (RFC 9110, 5.5).
pub(super) const fn is_text_byte(byte: u8) -> bool {
    (byte >= b' ' || byte == b'\t') && byte != 0x7f
}

/// All of them: eight at a time, since this is most of what a head costs.
pub(super) fn is_text(bytes: &[u8]) -> bool {
    let plain = |eight: &[u8; 8]| !may_hold_control(u64::from_ne_bytes(*eight));
    let (blocks, _) = bytes.as_chunks::<8>();
    // The last block may overlap the one before. A tabulator looks like a control byte at first.
    bytes.last_chunk::<8>().is_some_and(|last| blocks.iter().all(plain) && plain(last))
        || bytes.iter().all(|byte| TEXT[usize::from(*byte)])
}

/// Whether one of eight bytes may be below a blank, or `DEL`: never false where one is. The high bit of a lane
/// is set by the borrow of a subtraction, which may also spread from the lane below.
const fn may_hold_control(eight: u64) -> bool {
    const LANES: u64 = 0x0101_0101_0101_0101;
    let below_blank = eight.wrapping_sub(LANES * 0x20) & !eight;
    let unlike = eight ^ (LANES * 0x7f);
    let delete = unlike.wrapping_sub(LANES) & !unlike;
    (below_blank | delete) & (LANES * 0x80) != 0
}

/// [`is_text_byte`] as a table.
static TEXT: [bool; 256] = text_bytes();

const fn text_bytes() -> [bool; 256] {
    let mut table = [false; 256];
    let mut byte = 0;
    while byte < 256 {
        table[byte] = is_text_byte(byte as u8);
        byte += 1;
    }
    table
}

/// Whether bytes can be a target: what hyper's types take, who would answer anything else without us. Stricter than
/// browsers are, and less so than RFC 3986, 3.3 and 3.4.
pub(super) fn is_target(target: &[u8]) -> bool {
    let (path, query) = target.split_at(memchr(b'?', target).unwrap_or(target.len()));
    let plain = |byte: u8| byte.is_ascii_graphic() & !matches!(byte, b'#' | b'<' | b'>');
    path.iter().fold(true, |good, byte| good & plain(*byte) & (*byte != b'`'))
        && query.iter().fold(true, |good, byte| good & plain(*byte) & (*byte != b'"'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn eight_bytes_at_a_time_are_judged_as_one_by_one() {
        for byte in 0..=255 {
            for length in [1, 7, 8, 9, 16, 23] {
                for at in 0..length {
                    for filler in [b'a', b'\t', 0xff, b' ', 0x7e, 0x80] {
                        let mut text = vec![filler; length];
                        text[at] = byte;
                        assert_eq!(is_text(&text), is_text_byte(byte), "{byte:#x} at {at} of {length}");
                    }
                }
            }
            assert_eq!(token_end(&[b"abcde", &[byte][..], b"f"].concat()) > 5, is_token_byte(byte));
        }
    }
}
