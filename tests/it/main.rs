//! Every promise has a module; each test's name says what it pins.

mod admin;
mod cli;
mod config;
mod html_fixtures;
mod portal;
mod registry;
mod store;
mod surface;
