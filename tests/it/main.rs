//! Every promise has a module; each test's name says what it pins.

#![allow(clippy::unwrap_used)] // helpers of tests, too, may end a test

mod acceptance_choices;
mod acceptance_operation;
mod acceptance_pages;
mod admin;
mod architecture;
mod blockers;
mod bodies;
mod browser;
mod caches;
mod cli;
mod cloaked;
mod config;
mod corpus;
mod demo;
mod forwarding;
mod heads;
mod html_fixtures;
mod lifecycle;
mod limits;
mod old_copies;
mod portal;
mod protocols;
mod proxying;
mod registry;
mod store;
mod streams;
mod support;
mod surface;
mod visitor;
mod workers;
