//! Connections to backends: looking names up, one connection, the pool of them, and what their servers offer.

mod connection;
mod failure;
mod learnt;
mod pool;
mod resolver;

pub use connection::{Connector, Target};
pub use learnt::Learnt;
pub use pool::{CheckedOut, Pool, PoolBounds};
pub use resolver::Resolver;
