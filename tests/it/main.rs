mod cli;
mod config;
mod registry;

#[test]
fn t() {}
