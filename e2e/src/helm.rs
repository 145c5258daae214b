//! The real `helm`, with the charts of this repository.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use anyhow::{Context, Result, bail};
use serde_json::Value;
use tempfile::TempDir;

use crate::control_plane::{Binaries, Program};

/// The operator's chart.
pub const CHART: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../charts/mail-failover-operator");
/// The relay's chart.
pub const RELAY_CHART: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../charts/mail-failover-relay");

/// Helm, with a home of its own for every call, so that settings of the person who runs the tests
/// have no effect.
#[derive(Debug)]
pub struct Helm {
    program: PathBuf,
}

impl Helm {
    /// Finds Helm, or builds it.
    ///
    /// # Errors
    /// When it is nowhere to be found and cannot be built.
    pub fn locate() -> Result<Self> {
        let binaries = Binaries::locate(&[Program::Helm])?;
        Ok(Self { program: binaries.path(Program::Helm)?.to_owned() })
    }

    /// Runs Helm; without a cluster unless the arguments name a kubeconfig.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn run(&self, arguments: &[&str]) -> Result<Output> {
        self.run_in(&folder()?, arguments)
    }

    fn run_in(&self, home: &TempDir, arguments: &[&str]) -> Result<Output> {
        let mut command = Command::new(&self.program);
        for folder in ["HELM_CACHE_HOME", "HELM_CONFIG_HOME", "HELM_DATA_HOME", "HOME"] {
            command.env(folder, home.path());
        }
        command.env("KUBECONFIG", "/nonexistent").env_remove("HELM_NAMESPACE").args(arguments);
        command.output().with_context(|| format!("cannot start {}", self.program.display()))
    }

    /// The objects of a release of the operator's chart with these values, as YAML.
    ///
    /// # Errors
    /// When Helm refuses them; the message is what the user reads.
    pub fn template(&self, release: &str, namespace: &str, values: &Value) -> Result<String> {
        self.template_of(CHART, release, namespace, values)
    }

    /// The same of any chart.
    ///
    /// # Errors
    /// As there.
    pub fn template_of(&self, chart: &str, release: &str, namespace: &str, values: &Value) -> Result<String> {
        self.run_with(values, "helm template", &["template", release, chart, "--namespace", namespace])
    }

    /// Runs `helm lint --strict` on a chart with these values, and returns its output.
    ///
    /// # Errors
    /// When it finds anything; the message is what the user reads.
    pub fn lint_of(&self, chart: &str, values: &Value) -> Result<String> {
        self.run_with(values, "helm lint", &["lint", "--strict", chart])
    }

    fn run_with(&self, values: &Value, what: &str, arguments: &[&str]) -> Result<String> {
        let home = folder()?;
        let file = home.path().join("values.json").display().to_string();
        std::fs::write(&file, values.to_string()).with_context(|| file.clone())?;
        succeeded(what, &self.run_in(&home, &[arguments, &["--values", &file]].concat())?)
    }
}

fn folder() -> Result<TempDir> {
    tempfile::Builder::new().prefix("helm-").tempdir().context("no temporary folder")
}

/// The objects of a stream of YAML documents.
///
/// # Errors
/// When it is none.
pub fn objects(yaml: &str) -> Result<Vec<Value>> {
    let documents: Vec<Value> = serde_saphyr::from_multiple(yaml).context("no YAML")?;
    Ok(documents.into_iter().filter(|document| !document.is_null()).collect())
}

/// The path of a file of the repository.
pub fn repository(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(path)
}

fn succeeded(what: &str, output: &Output) -> Result<String> {
    let (out, said) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    if !output.status.success() {
        bail!("{what}: {}\n{}", said.trim(), out.trim());
    }
    Ok(out.into_owned())
}
