//! The command line of `mail-failover simulate`.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, ValueEnum};

use super::span;

/// What is simulated, and what is shown of it.
#[derive(Debug, Args)]
pub struct SimulateArguments {
    /// Manifests, folders of them, `-` for the standard input, and a scenario. A scenario can name its manifests itself.
    #[arg(value_name = "FILE", required_unless_present = "scenario")]
    pub files: Vec<PathBuf>,

    /// The scenario, where it is not among the files.
    #[arg(long, value_name = "FILE")]
    pub scenario: Option<PathBuf>,

    /// How the timeline is printed.
    #[arg(long, value_enum, default_value_t)]
    pub output: SimulationFormat,

    /// Draw the timeline into this SVG file as well.
    #[arg(long, value_name = "FILE.svg")]
    pub chart: Option<PathBuf>,

    /// How long the simulation lasts, instead of what the scenario says: 90s, 6h, 7d.
    #[arg(long, alias = "until", value_name = "DURATION", value_parser = span)]
    pub duration: Option<Duration>,

    /// What determines chance, instead of what the scenario says.
    #[arg(long, value_name = "NUMBER")]
    pub seed: Option<u64>,
}

/// How the timeline of a simulation is printed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum SimulationFormat {
    /// For people.
    #[default]
    Table,
    /// For programs; see docs/simulate.md.
    Json,
}
