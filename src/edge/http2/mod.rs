//! HTTP/2, where hyper leaves something to be done.
//!
//! A visitor's connection is served by `connection`. On the way in its bytes pass `frame_count`, which walks the frames
//! (`frame_walk`), holds them to their rules (`frame_rules`), looks at the blocks of fields in them (`header_blocks`, with
//! [`hpack`]) and sees from what goes out which streams hyper refused (`refused_streams`). On the way out `gather` makes one
//! write of many. An origin's frames are walked and looked at with the same pieces by [`super::upstream`].

mod connection;
mod frame_count;
pub(super) mod frame_rules;
pub(super) mod frame_walk;
mod gather;
pub(super) mod header_blocks;
pub mod hpack;
pub(super) mod local;
mod refused_streams;

pub use connection::{PIECE, SHARED_WINDOW, STREAM_WINDOW, Turn, serve, unshare};
