//! Optgate stands in front of a web site and makes a visitor's opt-out of the sale and sharing of
//! personal information true, from the very response that carries it.
//!
//! # The life of a request
//!
//! [`edge::corridor`] reads like this list; every step is one call into one room.
//!
//! 1. **identify** ([`edge`]): site by host, true client address, request id.
//! 2. **reserved** ([`edge::own`], [`portal`]): `/.well-known/gpc.json` and the consumer pages.
//! 3. **signals** ([`privacy::signal`]): each input read once, before hop-by-hop removal.
//! 4. **look up** ([`edge::account`], [`store`]): memory only, and only where an account or a profile is named.
//! 5. **decide** ([`privacy::decision`]): a pure function to a [`privacy::Decision`].
//! 6. **toward the origin** ([`enforce::request`], [`enforce::collectors`]).
//! 7. **origin** ([`edge::upstream`]): the only wait on the network.
//! 8. **response head** ([`enforce::response`]).
//! 9. **html** ([`enforce::html`]): streamed through one rewriter.
//! 10. **record** ([`store`], [`telemetry`]): state changes and counters.
//!
//! # The rooms, in the order a request meets them
//!
//! `config` and `telemetry` serve every room; `privacy` and `registry` judge and know no I/O;
//! `app` builds everything; `cli` is what a person types. The rooms within [`edge`] are in its head. Who may import whom
//! is kept by `tests/it/architecture.rs`.

pub mod admin;
pub mod app;
pub mod cli;
pub mod config;
pub mod edge;
pub mod enforce;
pub mod portal;
pub mod privacy;
pub mod registry;
pub mod store;
pub mod telemetry;
