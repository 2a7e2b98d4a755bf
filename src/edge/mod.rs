//! The proxied path: from an accepted connection to the answer's last byte.
//!
//! One runtime a core, nothing shared that a request writes to but counters; [`corridor`] is the way
//! through. What all cores share is in [`house`].

pub mod account;
pub mod body;
pub mod busy;
pub mod claims;
pub mod client_addr;
pub mod clients;
pub mod connection;
pub mod continuing;
pub mod corridor;
pub mod error;
pub mod exchange;
pub mod finish;
pub mod frame_count;
pub mod frame_rules;
pub mod frame_walk;
pub mod gather;
pub mod grpc;
pub mod header_blocks;
pub mod hop;
pub mod hostless;
pub mod house;
pub mod hpack;
pub mod http2;
pub mod https;
pub mod interim;
pub mod kept;
pub mod listener;
pub mod local;
pub mod outcome;
pub mod own;
pub mod pace;
pub mod progress;
pub mod proofs;
pub mod proxy_protocol;
pub mod refused_streams;
pub mod request_id;
pub mod respond;
pub mod siblings;
pub mod socket;
pub mod stages;
pub mod sticky;
pub mod strict;
pub mod timer;
pub mod tls;
pub mod trailers;
pub mod turned_away;
pub mod unix;
pub mod unsent;
pub mod upgrade;
pub mod upstream;
pub mod wire;

pub use connection::Phase;
pub use house::{Core, House};
