//! The relay between applications and servers that fail on demand, all of it on loopback: each stage in each way, real
//! clients, load, upkeep, and the ends of a relay.

mod client;
mod clients;
mod drills;
mod fixture;
mod front;
mod life;
mod matrix;
mod upkeep;
