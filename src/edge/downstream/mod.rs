//! The visitor's connection: from the listening socket to the first byte of a request.
//!
//! In the order in which a connection meets them: [`listener`] has bound (a Unix socket's file is [`unix`]'s matter) and
//! `socket` is what is accepted, over TCP or a Unix socket; [`connection`] takes a place for it, by `clients` also one of
//! its client's, or has it `turned_away`; `proxy_protocol` says who the client is; [`tls`] shakes hands; `pace` holds it to
//! a least rate; and `unsent` keeps what a socket did not take.

pub(super) mod clients;
pub mod connection;
pub mod listener;
pub(super) mod pace;
pub(super) mod proxy_protocol;
pub(super) mod socket;
pub mod tls;
pub(super) mod turned_away;
pub mod unix;
pub(super) mod unsent;
