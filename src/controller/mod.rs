//! From what is watched and probed to what is written.
//!
//! The stages: inputs → [`world::World`] (indexes, evidence, decisions; no I/O) → at most one [`step::Step`] per object at a time →
//! [`applier`], the only place that writes, each write on the condition that the leader's claim still holds.
//!
//! A step is always the *next missing one* of a fixed order, worked out afresh from what is persisted:
//!
//! 1. the decision, into `status` (so that a crash from here on loses nothing),
//! 2. the outputs, until they lead where `status` says,
//! 3. the Events that `status` lists as pending, under the names it gives them (so that none is doubled),
//! 4. what remains of `status` (applied-at, conditions, Events no longer pending).
//!
//! Architecture invariants: a route has at most one step under way; a step that fails is not repeated but worked out again; nothing in
//! here reads a clock except through the `now` it is given.

pub mod applier;
mod backend;
mod backoff;
pub mod ca;
mod events;
mod facts;
pub mod input;
mod known;
pub mod login;
pub mod metrics;
mod policy;
pub mod read;
mod references;
mod route;
mod route_status;
pub mod run;
mod status;
pub mod step;
mod timers;
pub mod world;
