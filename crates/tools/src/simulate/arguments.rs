//! Command line of `mail-failover simulate`.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, ValueEnum};

use super::span;

/// Arguments of a simulation.
#[derive(Debug, Args)]
pub struct SimulateArguments {
    /// Manifests, folders of them, `-` for the standard input, and a scenario. A scenario can name
    /// its manifests itself.
    #[arg(value_name = "FILE", required_unless_present = "scenario")]
    pub files: Vec<PathBuf>,

    /// The scenario, where it is not among the files.
    #[arg(long, value_name = "FILE")]
    pub scenario: Option<PathBuf>,

    /// Output format of the timeline.
    #[arg(long, value_enum, default_value_t)]
    pub output: SimulationFormat,

    /// Draw the timeline into this SVG file as well.
    #[arg(long, value_name = "FILE.svg")]
    pub chart: Option<PathBuf>,

    /// Duration of the simulation, in place of that in the scenario: 90s, 6h, 7d.
    #[arg(long, alias = "until", value_name = "DURATION", value_parser = span)]
    pub duration: Option<Duration>,

    /// Seed of all chance, in place of that in the scenario.
    #[arg(long, value_name = "NUMBER")]
    pub seed: Option<u64>,
}

/// Output format of the timeline of a simulation.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum SimulationFormat {
    /// Table for people to read.
    #[default]
    Table,
    /// JSON for programs; see docs/simulate.md.
    Json,
}
