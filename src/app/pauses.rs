//! Pauses between tries of what fails.

use std::time::Duration;

/// Doubled with each failure, up to the longest.
pub(super) fn doubled(first: Duration, failures: u32, longest: Duration) -> Duration {
    first.saturating_mul(1 << failures.min(16)).min(longest)
}
