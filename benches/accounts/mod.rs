//! Accounts by number, and their opt-outs, for benches of the store.

use optgate::privacy::{Basis, Subject};
use optgate::store::{Change, Kind, Source};

/// Spread as a keyed hash would be.
pub fn subject(account: u64) -> Subject {
    let mut bytes = [0; 16];
    bytes[..8].copy_from_slice(&account.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_be_bytes());
    bytes[8..].copy_from_slice(&account.to_be_bytes());
    Subject::from_bytes(bytes)
}

/// An opt-out by its own hand.
pub fn out(account: u64) -> Change {
    Change {
        time_us: 1_795_000_000_000_000,
        site: "shop".into(),
        kind: Kind::OptOut,
        source: Source::Form,
        basis: Some(Basis::Cookie),
        policy: "0123456789ab".into(),
        subject: Some(subject(account)),
    }
}
