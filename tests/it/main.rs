//! Every promise has a module; each test's name says what it pins.
mod html_fixtures;
mod cli;
mod config;
mod registry;

mod admin;
mod portal;
mod registry;
mod store;
mod surface;
