//! First-party addresses behind which a tracker collects: server-side tagging, reverse-proxied
//! analytics.
//!
//! They pass through this very proxy, so that an opted-out visitor's requests to them end here, with
//! an empty answer, instead of at the origin (`corridor`, step 6).

use crate::config::VendorAction;
use crate::privacy::Decision;
use crate::registry::{Hit, Policy};

/// The answer to a collector's request: it is gone as far as the page can tell.
pub const STATUS: http::StatusCode = http::StatusCode::NO_CONTENT;

/// Whether a request is a tracker's collection that must not reach the origin.
///
/// `path` starts with `/`; `query` is without its `?`. `restrict` counts as strip here: no script of
/// ours can restrain what the origin does with a request.
///
/// Cost: one registry look-up, only for opted-out visitors.
#[must_use]
pub fn intercept(decision: Decision, policy: &Policy, path: &str, query: Option<&str>) -> Option<Hit> {
    if !decision.opted_out() {
        return None;
    }
    policy.match_collector(path, query).filter(|hit| hit.action != VendorAction::Allow)
}
