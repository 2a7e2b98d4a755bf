//! SKELETON

pub mod demo;
