//! The pure core: domain types, and the engine that decides by them.
//!
//! No I/O, no clock, no randomness: the dependencies in `Cargo.toml` are the proof. Time is an argument.

#![warn(missing_docs)]

pub mod engine;
pub mod model;
