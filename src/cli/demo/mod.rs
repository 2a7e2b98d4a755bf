//! `optgate demo`: a small legacy shop as origin, and what Optgate changes about it.

pub mod shop;
pub mod show;
