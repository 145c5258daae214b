//! Controller.

pub mod resolve;
