//! The operator, installed by Helm as the README has it, once for all trials of the suite.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use tokio::sync::Mutex;

use crate::helm::{CHART, repository};
use crate::node::images::OPERATOR;
use crate::test_env::TestEnv;

/// The release and its namespace, as the README has them.
pub const RELEASE: &str = "mail-failover-operator";
/// The release's namespace.
pub const NAMESPACE: &str = "mail-failover";
/// The name of its Deployment.
pub const DEPLOYMENT: &str = "deployment/mail-failover-operator";
/// The time limit of a Helm command, longer than Helm's own.
const DEADLINE: Duration = Duration::from_mins(4);
/// Secrets that backends of the trials name.
const SECRETS: &str = "rbac.secretNames={login}";

static INSTALLED: Mutex<bool> = Mutex::const_new(false);

/// Installs the operator, unless it is installed.
///
/// # Errors
/// When Helm says so, or the pods do not become ready.
pub async fn ensure_installed(env: &TestEnv) -> Result<()> {
    let mut installed = INSTALLED.lock().await;
    if !*installed {
        let said = helm(env, &["install", RELEASE, CHART, "--create-namespace"], &[]).await?;
        eprintln!("{}", said.lines().find(|line| line.starts_with("DESCRIPTION")).unwrap_or_default());
        *installed = true;
    }
    Ok(())
}

/// Records that the operator is no longer installed.
pub async fn forget() {
    *INSTALLED.lock().await = false;
}

/// Returns true if one of these objects exists.
async fn exists(env: &TestEnv, what: &[&str]) -> Result<bool> {
    let get = [&["get", "--ignore-not-found", "--output=name"], what].concat();
    Ok(!env.kubectl_for(DEADLINE, &get).await?.trim().is_empty())
}

/// Installs the operator on a cluster that lives on, while `shown` runs. Only what was not there
/// before is removed.
///
/// # Errors
/// When a namespace is there that is called as ours, when Helm or the API server says so, or when what is shown does
/// not hold.
pub async fn installed_for<F>(env: &TestEnv, shown: F) -> Result<()>
where
    F: Future<Output = Result<()>>,
{
    let definitions = repository("crds").display().to_string();
    ensure!(
        !exists(env, &["namespace", NAMESPACE]).await?,
        "the cluster has a namespace {NAMESPACE}: what is installed there must not be touched"
    );
    let brings_definitions = !exists(env, &["--filename", &definitions]).await?;
    let values = format!("crds.enabled={brings_definitions}");
    let installed = helm(env, &["install", RELEASE, CHART, "--create-namespace"], &[&values]).await;
    let result = match installed {
        Ok(_) => shown.await,
        Err(error) => Err(error),
    };
    let uninstall = ["uninstall", RELEASE, "--namespace", NAMESPACE, "--ignore-not-found", "--wait", "--timeout=3m"];
    env.helm()?.run(DEADLINE, &uninstall).await?;
    if brings_definitions {
        env.kubectl_for(DEADLINE, &["delete", "--ignore-not-found", "--filename", &definitions]).await?;
    }
    env.kubectl_for(DEADLINE, &["delete", "namespace", NAMESPACE, "--ignore-not-found"]).await?;
    result
}

/// Installs or upgrades with the suite's values and these, and waits until the pods are ready.
///
/// # Errors
/// When Helm says so.
pub async fn helm(env: &TestEnv, command: &[&str], values: &[&str]) -> Result<String> {
    let (repository, tag) = OPERATOR.rsplit_once(':').context("the image has a tag")?;
    let image = [format!("image.repository={repository}"), format!("image.tag={tag}")];
    let mut arguments = command.to_vec();
    arguments.extend(["--namespace", NAMESPACE, "--wait", "--timeout=3m", "--set=image.pullPolicy=Never"]);
    for value in [&image[0], &image[1], SECRETS].into_iter().chain(values.iter().copied()) {
        arguments.extend(["--set", value]);
    }
    env.helm()?.run(DEADLINE, &arguments).await.context("the operator's chart")
}
