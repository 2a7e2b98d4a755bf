//! One binary for all end-to-end tests; a module for each promise.
#![allow(clippy::unwrap_used)] // helpers of tests are tests too

mod architecture;
mod browser;
mod corpus;
mod forwarding;
mod lifecycle;
mod limits;
mod protocols;
mod proxying;
mod streams;
mod support;
//! Every promise has a module; each test's name says what it pins.

mod admin;
mod portal;
mod registry;
mod store;
mod surface;
