//! The proxied path: from an accepted connection to the answer's last byte.
//!
//! One runtime a core, nothing shared that a request writes to but counters; [`corridor`] is the way
//! through. What all cores share is in [`house`].
//!
//! The rooms, in the order a request meets them; the numbers are the steps of the corridor:
//!
//! - [`downstream`]: the visitor's connection, from the listening socket on; [`strict`] reads HTTP/1.1 on it, [`http2`]
//!   HTTP/2.
//! - `identify` (1): which site is asked, by whom. What later steps must know stands in an `exchange`.
//! - [`own`] (2): answers that are ours.
//! - [`account`] (4): whom a request names.
//! - `message` (6 and 8): what passes through in both directions: fields of one hop, bodies, trailers, tunnels.
//! - [`upstream`] (7): the origin. Its HTTP/1.1 is read by `strict` too, its HTTP/2 by `http2`.
//! - `answer` (8 to 10): the origin's answer as the visitor gets it, and what is counted and recorded of it.
//! - [`error`]: what can go wrong on the way, and the one table that answers it.

pub mod account;
mod answer;
pub mod corridor;
pub mod downstream;
pub mod error;
mod exchange;
pub mod house;
pub mod http2;
mod identify;
mod message;
pub mod own;
pub mod strict;
pub mod timer;
pub mod upstream;

pub use downstream::connection::Phase;
pub use house::{Core, House};
