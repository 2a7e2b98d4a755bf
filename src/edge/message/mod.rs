//! What of a message passes through, in both directions (steps 6 and 8).
//!
//! Fields: `hop_by_hop` end here, `trailers` may pass; `wire` writes and reads heads for what hyper does not carry, such as the
//! `interim` answers. Bodies: one enum in `body`; a request's is `continuing` once the origin asks for it, makes `progress`,
//! and is `kept` where it may have to be sent again. `grpc` is what calls need beside that, `upgrade` what follows when
//! HTTP is over.

pub(super) mod body;
pub(super) mod continuing;
pub(super) mod grpc;
pub(super) mod hop_by_hop;
pub(super) mod interim;
mod kept;
pub(super) mod progress;
pub(super) mod trailers;
pub(super) mod upgrade;
pub(super) mod wire;
