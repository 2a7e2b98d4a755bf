//! Every promise has a module; each test's name says what it pins.

mod registry;
mod store;
