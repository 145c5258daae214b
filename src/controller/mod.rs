//! From watches, probes and reports to writes.
//!
//! The stages: inputs → [`state::ControllerState`] (indexes, evidence, decisions; no I/O) → [`action::Action`]s, each
//! in its lane, at most one write per resource at a time → [`applier`], the only place that writes,
//! each write on the condition that the leader's claim still holds.
//!
//! A reconcile returns the *next missing action* of a fixed order, worked out afresh from what is persisted:
//!
//! 1. the decision, into `status`, so that a crash from here on loses nothing;
//! 2. the outputs, until they lead where `status` says;
//! 3. the Events that `status` lists as pending, under the names it gives them, so that none is doubled;
//! 4. the rest of `status`: applied-at, conditions, Events no longer pending.
//!
//! Over all resources the first two go before the others: each class of actions has a lane with a bound of its own.
//!
//! Architecture invariants: a route has at most one write under way, and one publication of Events;
//! an action that fails is not repeated but worked out again; nothing in here reads a clock except
//! through the `now` it is given.

pub mod action;
pub mod applier;
mod backend;
pub mod ca;
mod cached;
mod dependencies;
mod events;
pub mod input;
mod lane;
pub mod login;
mod mail_metrics;
pub mod metrics;
mod policy;
pub mod read;
mod reconcile;
mod references;
mod retry;
mod route;
pub mod run;
pub mod secret_reader;
pub mod secrets;
pub mod state;
mod status;
mod timers;
mod turns;
