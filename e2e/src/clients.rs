//! kubectl and helm, run as a person would run them.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Result;
use tokio::process::Command;

use crate::command;

/// The time limit of one kubectl command.
const KUBECTL: Duration = Duration::from_secs(30);

/// kubectl with a kubeconfig, in a fixed namespace or in one named by each command.
#[derive(Clone, Debug)]
pub struct Kubectl {
    program: PathBuf,
    kubeconfig: PathBuf,
    namespace: Option<String>,
    cache: PathBuf,
}

impl Kubectl {
    /// The program.
    pub fn program(&self) -> &Path {
        &self.program
    }

    /// kubectl that keeps the API server's resources in the folder `cache`.
    pub fn new(program: &Path, kubeconfig: &Path, cache: &Path) -> Self {
        Self {
            program: program.to_owned(),
            kubeconfig: kubeconfig.to_owned(),
            namespace: None,
            cache: cache.to_owned(),
        }
    }

    /// The same kubectl, in a namespace.
    #[must_use]
    pub fn within(mut self, namespace: &str) -> Self {
        self.namespace = Some(namespace.to_owned());
        self
    }

    /// Runs kubectl and returns what it prints.
    ///
    /// # Errors
    /// When it fails, or takes longer than half a minute; the message is what it said.
    pub async fn run(&self, arguments: &[&str]) -> Result<String> {
        self.run_for(KUBECTL, arguments, "").await
    }

    /// Applies YAML as a user would.
    ///
    /// # Errors
    /// When the API server refuses it; the message is what the user reads.
    pub async fn apply(&self, yaml: &str) -> Result<String> {
        self.run_for(KUBECTL, &["apply", "-f", "-"], yaml).await
    }

    /// Runs kubectl with this standard input, for a command that may take longer, such as `wait`.
    ///
    /// # Errors
    /// When it fails, or takes longer than `deadline`; the message is what it said.
    pub async fn run_for(&self, deadline: Duration, arguments: &[&str], input: &str) -> Result<String> {
        let mut command = Command::new(&self.program);
        command.arg("--kubeconfig").arg(&self.kubeconfig).arg("--cache-dir").arg(&self.cache);
        if let Some(namespace) = &self.namespace {
            command.args(["--namespace", namespace]);
        }
        command.args(arguments);
        command::output(&mut command, &format!("kubectl {}", arguments.join(" ")), input, deadline).await
    }
}

/// helm with a kubeconfig, in a namespace, without the charts and settings of the person who runs
/// this.
#[derive(Clone, Debug)]
pub struct HelmClient {
    program: PathBuf,
    kubeconfig: PathBuf,
    namespace: String,
    home: PathBuf,
}

impl HelmClient {
    /// helm with the folder `home` for its settings and caches.
    pub fn new(program: &Path, kubeconfig: &Path, namespace: &str, home: &Path) -> Self {
        Self {
            program: program.to_owned(),
            kubeconfig: kubeconfig.to_owned(),
            namespace: namespace.to_owned(),
            home: home.to_owned(),
        }
    }

    /// Runs helm and returns what it prints.
    ///
    /// # Errors
    /// When it fails, or takes longer than `deadline`; the message is what it said.
    pub async fn run(&self, deadline: Duration, arguments: &[&str]) -> Result<String> {
        let mut command = Command::new(&self.program);
        for (variable, folder) in
            [("HELM_CACHE_HOME", "cache"), ("HELM_CONFIG_HOME", "config"), ("HELM_DATA_HOME", "data")]
        {
            command.env(variable, self.home.join(folder));
        }
        command.arg("--kubeconfig").arg(&self.kubeconfig).args(["--namespace", &self.namespace]).args(arguments);
        command::output(&mut command, &format!("helm {}", arguments.join(" ")), "", deadline).await
    }
}
