//! Every promise has a module; each test's name says what it pins.

#![allow(clippy::unwrap_used)] // helpers of tests, too, may end a test

mod acceptance_choices;
mod acceptance_operation;
mod acceptance_pages;
mod acme;
mod admin;
mod admin_tls;
mod architecture;
mod balancing;
mod bench_command;
mod blockers;
mod bodies;
mod browser;
mod browser_choices;
mod browser_corpus;
mod browser_keeper;
mod browser_pages;
mod browser_vectors;
mod caches;
mod cli;
mod client_limits;
mod cloaked;
mod config;
mod conformance;
mod corpus;
mod csp;
mod demo;
mod deploy;
mod failing_closed;
mod faults;
mod floods;
mod forwarding;
#[path = "../fuzz/mod.rs"]
mod fuzz;
#[path = "../fuzz/gpp.rs"]
mod fuzz_gpp;
mod grpc;
mod guard_verdicts;
mod header_ways;
mod heads;
mod html_fixtures;
mod keeper;
mod ledger;
mod lifecycle;
mod limits;
#[cfg(feature = "lists")]
mod lists;
mod memo;
mod old_copies;
mod origin_health;
mod origin_names;
mod portal;
mod protocols;
mod proxy_protocol;
mod proxying;
mod queueing;
mod registry;
mod reload;
mod server_timing;
mod signals;
mod soak;
mod sockets;
mod store;
mod streams;
mod stubs;
mod support;
mod surface;
mod tls;
mod upgrade;
mod visitor;
mod workers;
mod xml_documents;
