//! `mail-failover simulate`: what the operator would do, in virtual time.
//!
//! ```text
//! manifests ─▶ Fleet ─┐
//! scenario  ─▶ Script ┴▶ World: rounds ─▶ engine::Evidence ─▶ engine::decide ─▶ Timeline ─▶ table, JSON, chart, expectations
//! ```
//!
//! Everything that judges and decides is the engine's, what replies mean is the prober's classifier's, and what specs mean is
//! `resolve`'s: a simulation can only show what the operator does. This module never talks to a network or a cluster,
//! reads no clock, and draws by chance only what a seed determines.
//!
//! What it leaves out: decisions are carried out at once, an observer knows at once what another sees, every backend has one address,
//! mail is spread evenly over time, and the one who decides is never replaced.

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
mod source;
mod summary;
mod table;
mod timeline;
mod words;
mod world;

pub use arguments::{SimulateArguments, SimulationFormat};
pub use chart::chart;
pub use command::{load, run};
pub use expect::Checked;
pub use fleet::Fleet;
pub use json::json;
pub use prepare::{Overrides, prepare};
pub use run::{Outcome, Simulation};
pub use scenario::{Scenario, ScenarioError, is_scenario, parse, span};
pub use source::{Answer, Source, Stream};
pub use summary::RouteSummary;
pub use table::table;
pub use timeline::{Entry, RouteChange, RouteView, Timeline, VerdictChange, What};
pub use world::{Recorder, World};
