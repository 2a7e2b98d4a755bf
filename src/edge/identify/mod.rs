//! Step 1: which site is asked, by whom.
//!
//! A `hop` is what all requests of a connection have in common. `client_addr` finds a request's client behind trusted
//! proxies, `request_id` its name, `hostless` a site where it names no host; `claims` deletes what only we may say. What the
//! origin is told of all this `hop` says again at step 6.

pub(super) mod claims;
pub(super) mod client_addr;
pub(super) mod hop;
pub(super) mod hostless;
pub(super) mod request_id;
