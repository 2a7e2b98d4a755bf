//! Every promise has a module; each test's name says what it pins.

mod admin;
mod portal;
mod registry;
mod store;
mod surface;
