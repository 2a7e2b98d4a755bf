//! Step 1: which site is asked, by whom.
//!
//! `checks` refuses what no request may be that goes on; `host` reads which host is named, and `hostless` finds a site
//! where none is; `client_addr` finds the client behind trusted proxies; `claims` deletes what only we may say;
//! `request_id` names the request. A `hop` is what all requests of one connection have in common, and at step 6 it tells the
//! origin of all this.

pub(super) mod checks;
pub(super) mod claims;
pub(super) mod client_addr;
pub(super) mod hop;
pub(super) mod host;
pub(super) mod hostless;
pub(super) mod request_id;
