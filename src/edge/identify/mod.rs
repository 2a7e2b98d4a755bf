//! Step 1: which site is asked, by whom.
//!
//! `request_id` names the request; `client_addr` finds its client behind trusted proxies, and later tells the origin of it;
//! `claims` deletes what only we may say; `hostless` finds a site for who names none.

pub(super) mod claims;
pub(super) mod client_addr;
pub(super) mod hostless;
pub(super) mod request_id;
