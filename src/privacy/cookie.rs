//! Our own cookie: `optgate=v1.out.YYYYMM.MAC` or `v1.in.YYYYMM.MAC`.
//!
//! It holds no identifier: everyone who chose the same thing in the same month carries the same
//! bytes. A value that says `out` is honoured whatever its MAC says (a lost key must never un-honour
//! a browser); `in` needs a valid MAC, because only we may record an opt-in. A MAC of an earlier secret is valid,
//! and the value is signed anew.

use data_encoding::BASE64URL_NOPAD;

use super::keys::Keys;

/// The cookie's name.
pub const NAME: &str = "optgate";

/// Days a browser keeps the cookie: Chrome's cap.
pub const MAX_AGE_DAYS: u32 = 400;

/// Bytes of the MAC kept in the value.
const MAC_BYTES: usize = 16;

const OUT: &str = "out";
const IN: &str = "in";

/// What our cookie says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum OwnCookie {
    /// Not sent.
    Absent,
    /// Sent, but says nothing we may act on: unknown version, malformed, or `in` without our MAC.
    Unusable,
    /// Opted out; the month (`YYYYMM`) it was set, [`Self::ANEW`] when it must be signed anew.
    Out(u32),
    /// Explicitly opted back in; the month (`YYYYMM`) it was set, [`Self::ANEW`] when it must be signed anew.
    In(u32),
}

impl OwnCookie {
    /// In the place of a month: ours, but not by the secret that holds now, or cut.
    pub const ANEW: u32 = 0;

    /// Reads one cookie value.
    ///
    /// Cost: a comparison where it was signed in the month that is now, else one HMAC over 13 bytes (about 0.5 us).
    #[must_use]
    pub fn read(value: &[u8], keys: &Keys) -> Self {
        let Ok(text) = std::str::from_utf8(value) else { return Self::Unusable };
        let mut parts = text.split('.');
        let (Some("v1"), Some(state), Some(month), Some(sent), None) =
            (parts.next(), parts.next(), parts.next(), parts.next(), parts.next())
        else {
            // Even a cut or garbled value that begins `v1.out` is a person's opt-out.
            let says_out = text == "v1.out" || text.starts_with("v1.out.");
            return if says_out { Self::Out(Self::ANEW) } else { Self::Unusable };
        };
        let number = (month.len() == 6).then(|| month.parse::<u32>().ok()).flatten();
        let signed_by = |keys: &Keys| {
            number.is_some_and(|m| constant_time_eq(&signature(state, m, keys), sent.as_bytes()))
        };
        let genuine = signed_by(keys);
        match (state, genuine) {
            ("in", false) if keys.older().iter().any(signed_by) => Self::In(Self::ANEW),
            ("out", true) => Self::Out(number.unwrap_or(Self::ANEW)),
            ("out", false) => Self::Out(Self::ANEW),
            ("in", true) => Self::In(number.unwrap_or(Self::ANEW)),
            _ => Self::Unusable,
        }
    }

    /// Whether the cookie says `out` but must be signed anew.
    #[must_use]
    pub const fn needs_new_signature(self) -> bool {
        matches!(self, Self::Out(Self::ANEW))
    }
}

/// The value for an opt-out set in this month (`YYYYMM`).
#[must_use]
pub fn value_out(month: u32, keys: &Keys) -> String {
    value(OUT, month, keys)
}

/// The value for an explicit opt-in set in this month (`YYYYMM`).
#[must_use]
pub fn value_in(month: u32, keys: &Keys) -> String {
    value(IN, month, keys)
}

/// What is given out is of the month that is now, which is what comes back: its signatures are kept.
fn value(state: &str, month: u32, keys: &Keys) -> String {
    let signature = keys.signed(month, |signed| *signed.of_state(state)).unwrap_or_else(|| {
        let signed = Signatures::of(month, keys);
        let signature = *signed.of_state(state);
        keys.keep_signed(signed);
        signature
    });
    let mut value = format!("v1.{state}.{month:06}.");
    value.extend(signature.map(char::from));
    value
}

/// The signatures of one month: everyone who chose the same thing in it carries the same.
#[derive(Debug)]
pub(super) struct Signatures {
    pub(super) month: u32,
    out: Signature,
    opted_in: Signature,
}

/// A MAC as text.
type Signature = [u8; 22];

impl Signatures {
    fn of(month: u32, keys: &Keys) -> Self {
        Self { month, out: sign(OUT, month, keys), opted_in: sign(IN, month, keys) }
    }

    fn of_state(&self, state: &str) -> &Signature {
        if state == IN { &self.opted_in } else { &self.out }
    }
}

fn signature(state: &str, month: u32, keys: &Keys) -> Signature {
    let kept = matches!(state, OUT | IN).then(|| keys.signed(month, |signed| *signed.of_state(state)));
    kept.flatten().unwrap_or_else(|| sign(state, month, keys))
}

fn sign(state: &str, month: u32, keys: &Keys) -> Signature {
    let mac = keys.cookie_mac(format!("v1.{state}.{month:06}").as_bytes());
    let mut text = Signature::default();
    BASE64URL_NOPAD.encode_mut(&mac[..MAC_BYTES], &mut text);
    text
}

/// Compares without leaking where the difference is.
pub(super) fn constant_time_eq(a: &[u8], b: &[u8]) -> bool {
    a.len() == b.len() && a.iter().zip(b).fold(0u8, |acc, (x, y)| acc | (x ^ y)) == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_we_signed_reads_back() {
        let keys = Keys::derive(b"secret");
        assert_eq!(OwnCookie::read(value_out(202_611, &keys).as_bytes(), &keys), OwnCookie::Out(202_611));
        assert_eq!(OwnCookie::read(value_in(202_611, &keys).as_bytes(), &keys), OwnCookie::In(202_611));
    }

    /// Losing a key never un-honours a browser; `in` needs a valid MAC.
    #[test]
    fn out_is_honoured_under_any_key_and_in_is_not() {
        let (ours, lost) = (Keys::derive(b"new"), Keys::derive(b"lost"));
        assert_eq!(
            OwnCookie::read(value_out(202_611, &lost).as_bytes(), &ours),
            OwnCookie::Out(OwnCookie::ANEW)
        );
        assert_eq!(OwnCookie::read(value_in(202_611, &lost).as_bytes(), &ours), OwnCookie::Unusable);
        assert_eq!(OwnCookie::read(b"v1.out", &ours), OwnCookie::Out(OwnCookie::ANEW));
        assert_eq!(OwnCookie::read(b"v1.out.2026", &ours), OwnCookie::Out(OwnCookie::ANEW));
        assert_eq!(OwnCookie::read(b"v1.outside", &ours), OwnCookie::Unusable);
        assert_eq!(OwnCookie::read(b"v1.in.202611.AAAA", &ours), OwnCookie::Unusable);
        assert_eq!(OwnCookie::read(b"v2.out.202611.x", &ours), OwnCookie::Unusable);
        assert_eq!(OwnCookie::read(b"\xff", &ours), OwnCookie::Unusable);
    }

    /// A key is rotated without losing anyone; what an earlier key signed is signed anew.
    #[test]
    fn a_value_of_an_earlier_secret_is_valid_and_signed_anew() {
        let old = Keys::derive(b"old");
        let new = Keys::derive(b"new").with_older(&[&b"other"[..], b"old"]);
        assert_eq!(OwnCookie::read(value_in(202_611, &old).as_bytes(), &new), OwnCookie::In(OwnCookie::ANEW));
        assert_eq!(
            OwnCookie::read(value_out(202_611, &old).as_bytes(), &new),
            OwnCookie::Out(OwnCookie::ANEW)
        );
        assert_eq!(OwnCookie::read(value_in(202_611, &new).as_bytes(), &new), OwnCookie::In(202_611));
        assert_eq!(OwnCookie::read(value_in(202_611, &new).as_bytes(), &old), OwnCookie::Unusable);
    }

    /// The signatures of the month that is now are kept; what others say of it is judged as before.
    #[test]
    fn a_kept_signature_is_the_one_that_would_be_made() {
        let (fresh, used) = (Keys::derive(b"secret"), Keys::derive(b"secret"));
        let values = |keys: &Keys, month| [value_out(month, keys), value_in(month, keys)];
        for month in [202_611, 202_612, 202_611] {
            assert_eq!(values(&used, month), values(&Keys::derive(b"secret"), month));
            for [out, opted_in] in [values(&fresh, month), values(&fresh, 202_601)] {
                for keys in [&fresh, &used] {
                    assert!(matches!(OwnCookie::read(out.as_bytes(), keys), OwnCookie::Out(1..)), "{out}");
                    assert!(matches!(OwnCookie::read(opted_in.as_bytes(), keys), OwnCookie::In(1..)));
                }
                let forged = opted_in.replace(&opted_in[13..], &out[14..]);
                assert_eq!(OwnCookie::read(forged.as_bytes(), &used), OwnCookie::Unusable, "{forged}");
            }
        }
    }

    #[test]
    fn an_out_value_cannot_be_turned_into_an_in_value() {
        let keys = Keys::derive(b"secret");
        let turned = value_out(202_611, &keys).replace("out", "in");
        assert_eq!(OwnCookie::read(turned.as_bytes(), &keys), OwnCookie::Unusable);
    }
}
