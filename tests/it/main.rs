mod cli;
mod config;

#[test]
fn t() {}
