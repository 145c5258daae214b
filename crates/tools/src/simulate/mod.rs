//! `mail-failover simulate`: decisions of the operator in virtual time.
//!
//! ```text
//! manifests ─▶ SimulatedFleet ─┐
//! scenario ──▶ Script ─────────┴▶ Simulator: rounds ─▶ engine::Evidence ─▶ engine::decide ─▶ Timeline
//! Timeline ──▶ table, JSON, chart, expectations
//! ```
//!
//! The engine judges and decides, the prober's classifier says what replies mean, and `mail_failover_resolve`
//! interprets specs, so that a simulation shows only what the operator does. This module never talks to a network or a
//! cluster, reads no clock, and derives all chance from a seed.
//!
//! A simulation is simpler than a cluster in these points: decisions are carried out at once, an observer knows at once
//! what another sees, every backend has one address, mail is spread evenly over time, and the leader never changes.

mod agent;
mod arguments;
mod chart;
mod command;
mod draw;
mod effects;
mod expect;
mod fleet;
mod json;
mod prepare;
mod queue;
mod run;
mod scenario;
mod schedule;
mod script;
mod simulator;
mod source;
mod summary;
mod table;
mod timeline;
mod words;

pub use arguments::{SimulateArguments, SimulationFormat};
pub use chart::chart;
pub use command::{SimulateError, load, run};
pub use expect::ExpectationResult;
pub use fleet::{FleetError, SimulatedFleet};
pub use json::json;
pub use prepare::{Overrides, prepare};
pub use run::{Simulation, SimulationResult};
pub use scenario::{InvalidSpan, Scenario, ScenarioError, is_scenario, parse, span};
pub use simulator::{Recorder, RouteDecision, Simulator};
pub use source::{EvidenceSource, ProbeStream, RoundResult};
pub use summary::RouteSummary;
pub use table::table;
pub use timeline::{
    DrillResultView, DrillView, RouteChange, RouteView, Timeline, TimelineChange, TimelineEntry, VerdictChange,
};
