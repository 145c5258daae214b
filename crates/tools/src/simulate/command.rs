use std::io::Write;
use std::path::{Path, PathBuf};
use std::{fs, io};

use super::{
    FleetError, Overrides, Scenario, ScenarioError, SimulateArguments, SimulatedFleet, Simulation, SimulationFormat,
    chart, is_scenario, json, parse, prepare, table,
};
use mail_failover_core::model::text::visible_json;

use crate::manifests::{self, Manifest, ManifestError, Objects};

/// Exit code when an expectation of the scenario is not met.
const UNMET: u8 = 1;
/// Exit code when files cannot be used or written.
const UNUSABLE: u8 = 2;

/// Reads, simulates and prints. Returns the exit code.
pub fn run(arguments: &SimulateArguments, out: &mut impl Write, err: &mut impl Write) -> u8 {
    match attempt(arguments, out) {
        Ok(code) => code,
        Err(error) => {
            for message in error.messages() {
                // Nobody is left to tell when the standard error is closed.
                let _ = writeln!(err, "mail-failover: {message}");
            }
            UNUSABLE
        }
    }
}

/// Errors that leave a scenario without a simulation, or a simulation without output.
#[derive(Debug, thiserror::Error)]
pub enum SimulateError {
    /// A file cannot be read.
    #[error("{} cannot be read: {source}", .file.display())]
    Read {
        /// File as it was named.
        file: PathBuf,
        /// Error of the operating system.
        source: io::Error,
    },
    /// A file cannot be written.
    #[error("{} cannot be written: {source}", .file.display())]
    Write {
        /// File as it was named.
        file: PathBuf,
        /// Error of the operating system.
        source: io::Error,
    },
    /// No file holds a scenario.
    #[error("there is no scenario among the files; name one with --scenario")]
    NoScenario,
    /// More than one file holds a scenario.
    #[error("{} and {} are both scenarios; name one", .0.display(), .1.display())]
    TwoScenarios(PathBuf, PathBuf),
    /// A scenario names no manifests, and the command line neither.
    #[error("{0}: there are no manifests; name some in `manifests` or on the command line")]
    NoManifests(String),
    /// Manifests cannot be read.
    #[error("{}", manifests::lines(.0))]
    Manifests(Vec<ManifestError>),
    /// Manifests make no fleet.
    #[error("{}", joined(.0))]
    Fleet(Vec<FleetError>),
    /// The scenario makes no sense.
    #[error("{}", joined(.0))]
    Scenario(Vec<ScenarioError>),
    /// The timeline is no JSON.
    #[error(transparent)]
    Json(#[from] serde_json::Error),
    /// The timeline cannot be printed.
    #[error("the timeline cannot be printed: {0}")]
    Print(#[source] io::Error),
}

impl SimulateError {
    /// Returns the messages to print, one for each problem.
    fn messages(&self) -> Vec<String> {
        match self {
            Self::Manifests(errors) => errors.iter().map(ToString::to_string).collect(),
            Self::Fleet(errors) => errors.iter().map(ToString::to_string).collect(),
            Self::Scenario(errors) => errors.iter().map(ToString::to_string).collect(),
            Self::Read { .. }
            | Self::Write { .. }
            | Self::NoScenario
            | Self::TwoScenarios(..)
            | Self::NoManifests(_)
            | Self::Json(_)
            | Self::Print(_) => vec![self.to_string()],
        }
    }
}

fn joined(errors: &[impl ToString]) -> String {
    errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
}

fn attempt(arguments: &SimulateArguments, out: &mut impl Write) -> Result<u8, SimulateError> {
    let overrides = Overrides { duration: arguments.duration, seed: arguments.seed };
    let simulation = load(&arguments.files, arguments.scenario.as_deref(), overrides)?;
    let outcome = simulation.run(true);
    let text = match arguments.output {
        SimulationFormat::Table => table(&simulation, &outcome),
        SimulationFormat::Json => visible_json(&json(&simulation, &outcome)?).into_owned(),
    };
    if let Some(path) = &arguments.chart {
        fs::write(path, chart(&simulation, &outcome))
            .map_err(|source| SimulateError::Write { file: path.clone(), source })?;
    }
    out.write_all(text.as_bytes()).map_err(SimulateError::Print)?;
    let is_met = outcome.checked.iter().all(|checked| checked.is_met);
    Ok(if is_met { 0 } else { UNMET })
}

/// Reads files: manifests, folders of them, and exactly one scenario, with the manifests that it names.
///
/// # Errors
/// [`SimulateError`] with everything that is wrong with the files of one kind.
pub fn load(files: &[PathBuf], scenario: Option<&Path>, overrides: Overrides) -> Result<Simulation, SimulateError> {
    let mut scenarios: Vec<(PathBuf, String)> = vec![];
    if let Some(path) = scenario {
        scenarios.push((path.to_owned(), read(path)?));
    }
    let mut sources: Vec<PathBuf> = vec![];
    for path in files {
        match path.is_file().then(|| read(path)).transpose()? {
            Some(text) if is_scenario(&text) => scenarios.push((path.clone(), text)),
            Some(_) | None => sources.push(path.clone()),
        }
    }
    let (path, text) = match scenarios.as_slice() {
        [one] => one,
        [] => return Err(SimulateError::NoScenario),
        [(one, _), (other, _), ..] => return Err(SimulateError::TwoScenarios(one.clone(), other.clone())),
    };
    let file = path.display().to_string();
    let scenario: Scenario = parse(&file, text).map_err(|error| SimulateError::Scenario(vec![error]))?;
    let folder = path.parent().unwrap_or(Path::new(""));
    sources.extend(scenario.manifests.iter().map(|name| folder.join(name)));
    if sources.is_empty() {
        return Err(SimulateError::NoManifests(file));
    }
    let manifests: Vec<Manifest> = manifests::read(&sources).map_err(SimulateError::Manifests)?.manifests;
    let objects = Objects::of(&manifests).map_err(SimulateError::Manifests)?;
    let fleet = SimulatedFleet::from_objects(&objects).map_err(SimulateError::Fleet)?;
    prepare(&file, scenario, fleet, overrides).map_err(SimulateError::Scenario)
}

fn read(path: &Path) -> Result<String, SimulateError> {
    fs::read_to_string(path).map_err(|source| SimulateError::Read { file: path.to_owned(), source })
}
