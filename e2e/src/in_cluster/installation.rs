//! The operator, installed by Helm as the README has it, once for all trials of the suite.

use std::time::Duration;

use anyhow::{Context, Result};
use tokio::sync::Mutex;

use crate::helm::{CHART, repository};
use crate::node::images::OPERATOR;
use crate::stage::Stage;

/// The release and its namespace, as the README has them.
pub const RELEASE: &str = "mail-failover-operator";
/// See [`RELEASE`].
pub const NAMESPACE: &str = "mail-failover";
/// The name of its Deployment.
pub const DEPLOYMENT: &str = "deployment/mail-failover-operator";
/// Longer than Helm waits by itself.
const DEADLINE: Duration = Duration::from_mins(4);
/// Secrets that backends of the trials name.
const SECRETS: &str = "rbac.secretNames={login}";

static INSTALLED: Mutex<bool> = Mutex::const_new(false);

/// Installs it, unless it is.
///
/// # Errors
/// When Helm says so, or the pods do not become ready.
pub async fn ensure_installed(stage: &Stage) -> Result<()> {
    let mut installed = INSTALLED.lock().await;
    if !*installed {
        let said = helm(stage, &["install", RELEASE, CHART, "--create-namespace"], &[]).await?;
        eprintln!("{}", said.lines().find(|line| line.starts_with("DESCRIPTION")).unwrap_or_default());
        *installed = true;
    }
    Ok(())
}

/// It is not installed any more.
pub async fn forget() {
    *INSTALLED.lock().await = false;
}

/// Removes all of it: for a cluster that lives on, unlike a node of ours.
///
/// # Errors
/// When Helm or the API server says so.
pub async fn remove(stage: &Stage) -> Result<()> {
    let uninstall = ["uninstall", RELEASE, "--namespace", NAMESPACE, "--wait", "--timeout=3m"];
    stage.helm()?.run(DEADLINE, &uninstall).await?;
    forget().await;
    let definitions = repository("crds").display().to_string();
    stage.kubectl_for(DEADLINE, &["delete", "--filename", &definitions]).await?;
    stage.kubectl_for(DEADLINE, &["delete", "namespace", NAMESPACE]).await.map(drop)
}

/// Installs or upgrades with the suite's values and these, and waits until the pods are ready.
///
/// # Errors
/// When Helm says so.
pub async fn helm(stage: &Stage, command: &[&str], values: &[&str]) -> Result<String> {
    let (repository, tag) = OPERATOR.rsplit_once(':').context("the image has a tag")?;
    let image = [format!("image.repository={repository}"), format!("image.tag={tag}")];
    let mut arguments = command.to_vec();
    arguments.extend(["--namespace", NAMESPACE, "--wait", "--timeout=3m", "--set=image.pullPolicy=Never"]);
    for value in [&image[0], &image[1], SECRETS].into_iter().chain(values.iter().copied()) {
        arguments.extend(["--set", value]);
    }
    stage.helm()?.run(DEADLINE, &arguments).await.context("the operator's chart")
}
