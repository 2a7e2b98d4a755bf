//! The id that a request goes by, toward its origin and in our own words about it.

use http::{HeaderMap, HeaderName, HeaderValue};

/// Where it stands.
pub static X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// Longest one taken over from a trusted peer, bytes.
const LONGEST: usize = 128;

/// Digits of one of ours.
const LENGTH: usize = 32;

/// The digits of each byte.
static PAIRS: [[u8; 2]; 256] = pairs();

const fn pairs() -> [[u8; 2]; 256] {
    let digits = b"0123456789abcdef";
    let mut pairs = [[0; 2]; 256];
    let mut byte = 0;
    while byte < 256 {
        pairs[byte] = [digits[byte >> 4], digits[byte & 15]];
        byte += 1;
    }
    pairs
}

/// An id: graphic characters of ASCII.
#[derive(Debug, Clone)]
pub enum RequestId {
    /// One of ours, in lower-case hexadecimal digits: no field's value until somebody wants it as that.
    Own([u8; LENGTH]),
    /// A trusted peer's.
    Given(HeaderValue),
}

impl RequestId {
    /// A trusted peer's, or a new one of this number.
    #[must_use]
    pub fn of(headers: &HeaderMap, peer_trusted: bool, fresh: impl FnOnce() -> u128) -> Self {
        if peer_trusted
            && let Some(given) = headers.get(&X_REQUEST_ID)
            && !given.is_empty()
            && given.len() <= LONGEST
            && given.as_bytes().iter().all(u8::is_ascii_graphic)
        {
            return Self::Given(given.clone());
        }
        Self::Own(hex(fresh()))
    }

    /// As it is written.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        match self {
            Self::Own(digits) => digits,
            Self::Given(value) => value.as_bytes(),
        }
    }

    /// As text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(self.as_bytes()).unwrap_or_default()
    }

    /// As a field's value. Cost: an allocation for one of ours.
    #[must_use]
    pub fn value(&self) -> HeaderValue {
        match self {
            Self::Own(digits) => HeaderValue::from_bytes(digits).unwrap_or(HeaderValue::from_static("0")),
            Self::Given(value) => value.clone(),
        }
    }
}

/// A number in lower-case digits.
fn hex(number: u128) -> [u8; LENGTH] {
    let mut text = [0; LENGTH];
    for (pair, byte) in text.as_chunks_mut::<2>().0.iter_mut().zip(number.to_be_bytes()) {
        *pair = PAIRS[usize::from(byte)];
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_taken_from_trusted_peers_only() {
        let of = |value: &'static str, trusted: bool| {
            let map = HeaderMap::from_iter([(X_REQUEST_ID.clone(), HeaderValue::from_static(value))]);
            RequestId::of(&map, trusted, || 0xabc).as_str().to_owned()
        };
        let new = format!("{:032x}", 0xabc);
        assert_eq!(of("abc", true), "abc");
        assert_eq!(of("abc", false), new);
        assert_eq!(of("a b", true), new);
    }

    #[test]
    fn an_id_of_ours_is_its_number_in_32_digits_wherever_it_stands() {
        for number in [0, 1, u128::MAX, 0x0123_4567_89ab_cdef_fedc_ba98_7654_3210] {
            let id = RequestId::of(&HeaderMap::new(), false, || number);
            assert_eq!((id.as_str(), id.value()), (&*format!("{number:032x}"), id.as_str().parse().unwrap()));
        }
    }
}
