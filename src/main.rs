//! Arguments, then configuration, then the app; exit codes are `cli`'s.

fn main() {}
