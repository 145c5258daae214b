use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use super::{
    Fleet, Overrides, Scenario, SimulateArguments, Simulation, SimulationFormat, chart, is_scenario, json, parse,
    prepare, table,
};
use crate::manifests::{self, Manifest, Objects};

/// An expectation is not met.
const UNMET: u8 = 1;
/// Files cannot be used, or written.
const UNUSABLE: u8 = 2;

/// Reads, simulates and prints. Returns the exit code.
pub fn run(arguments: &SimulateArguments, out: &mut impl Write, err: &mut impl Write) -> u8 {
    match attempt(arguments, out) {
        Ok(code) => code,
        Err(messages) => {
            for message in messages {
                // Nobody is left to tell when the standard error is closed.
                let _ = writeln!(err, "mail-failover: {message}");
            }
            UNUSABLE
        }
    }
}

fn attempt(arguments: &SimulateArguments, out: &mut impl Write) -> Result<u8, Vec<String>> {
    let overrides = Overrides { duration: arguments.duration, seed: arguments.seed };
    let simulation = load(&arguments.files, arguments.scenario.as_deref(), overrides)?;
    let outcome = simulation.run(true);
    let text = match arguments.output {
        SimulationFormat::Table => table(&simulation, &outcome),
        SimulationFormat::Json => json(&simulation, &outcome).map_err(|error| vec![error.to_string()])?,
    };
    if let Some(path) = &arguments.chart {
        fs::write(path, chart(&simulation, &outcome))
            .map_err(|error| vec![format!("{} cannot be written: {error}", path.display())])?;
    }
    out.write_all(text.as_bytes()).map_err(|error| vec![format!("the timeline cannot be printed: {error}")])?;
    let is_met = outcome.checked.iter().all(|checked| checked.is_met);
    Ok(if is_met { 0 } else { UNMET })
}

/// Reads files: manifests, folders of them, and exactly one scenario, with the manifests that it names.
///
/// # Errors
/// Everything that is wrong with them, a sentence each.
pub fn load(files: &[PathBuf], scenario: Option<&Path>, overrides: Overrides) -> Result<Simulation, Vec<String>> {
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
        [] => return Err(vec!["there is no scenario among the files; name one with --scenario".to_owned()]),
        [(one, _), (other, _), ..] => {
            let message = format!("{} and {} are both scenarios; name one", one.display(), other.display());
            return Err(vec![message]);
        }
    };
    let file = path.display().to_string();
    let scenario: Scenario = parse(&file, text).map_err(|error| vec![error.to_string()])?;
    let folder = path.parent().unwrap_or(Path::new(""));
    sources.extend(scenario.manifests.iter().map(|name| folder.join(name)));
    if sources.is_empty() {
        return Err(vec![format!("{file}: there are no manifests; name some in `manifests` or on the command line")]);
    }
    let texts = |errors: Vec<manifests::ManifestError>| errors.iter().map(ToString::to_string).collect::<Vec<_>>();
    let manifests: Vec<Manifest> = manifests::read(&sources).map_err(texts)?;
    let fleet = Fleet::from_objects(&Objects::of(&manifests).map_err(texts)?)?;
    prepare(&file, scenario, fleet, overrides).map_err(|errors| errors.iter().map(ToString::to_string).collect())
}

fn read(path: &Path) -> Result<String, Vec<String>> {
    fs::read_to_string(path).map_err(|error| vec![format!("{} cannot be read: {error}", path.display())])
}
