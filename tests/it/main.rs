//! Every promise has a module; each test's name says what it pins.

mod registry;
mod admin;
mod portal;
mod store;
mod surface;
