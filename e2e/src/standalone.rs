//! A program that is no suite: it has a control plane and one environment to itself, or takes none. The demo and the
//! benches are such programs.
//!
//! The program prints its own output; only errors around it are printed here, on standard error.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use mail_failover_runtime::process::raise_limit_of_open_files;
use tokio::runtime::Runtime;

use crate::control_plane::namespace::{self, Entered, Isolation};
use crate::control_plane::{self, Binaries, Cluster, ControlPlane};
use crate::operator;
use crate::postfix::Postfix;
use crate::test_env::TestEnv;

/// The namespace of such a program's objects: that of a user who names none.
const NAMESPACE: &str = "default";

/// Starts a control plane in namespaces of its own, runs `body` on it and takes everything down.
/// Call it first in `main`.
///
/// The custom resource definitions are not installed.
pub fn run<F>(program: &str, body: F) -> ExitCode
where
    F: AsyncFnOnce(Arc<TestEnv>) -> Result<()>,
{
    report(program, try_run(Isolation::Network, body))
}

/// Runs a program that starts Postfix, like [`run`]. It fails with the missing parts and the remedy
/// if Postfix cannot be started.
pub fn run_with_postfix<F>(program: &str, body: F) -> ExitCode
where
    F: AsyncFnOnce(Arc<TestEnv>) -> Result<()>,
{
    report(program, try_run(Isolation::NetworkAsRoot, body))
}

/// Runs a program that starts Postfix and takes no control plane: in a network of its own, with a folder of its own and
/// the programs of this workspace built before.
pub fn run_alone_as_root<F>(program: &str, body: F) -> ExitCode
where
    F: AsyncFnOnce(&Path) -> Result<()>,
{
    report(program, try_run_alone(body))
}

fn try_run_alone<F>(body: F) -> Result<ExitCode>
where
    F: AsyncFnOnce(&Path) -> Result<()>,
{
    if let Some(missing) = Postfix::missing() {
        bail!("{missing}");
    }
    match namespace::enter(Isolation::NetworkAsRoot, operator::build)? {
        Entered::Finished(code) => return Ok(code),
        Entered::Forbidden(why) => bail!("{why}"),
        Entered::Inside => {}
    }
    raise_limit_of_open_files();
    let folder = tempfile::tempdir().context("no temporary folder")?;
    // Postfix' users have files in it.
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o711))?;
    let runtime = Runtime::new()?;
    let result = runtime.block_on(body(folder.path()));
    runtime.shutdown_timeout(Duration::from_secs(1));
    result.map(|()| ExitCode::SUCCESS)
}

fn report(program: &str, result: Result<ExitCode>) -> ExitCode {
    match result {
        Ok(code) => code,
        Err(error) => {
            eprintln!("{program} failed: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn prepare(options: control_plane::Options) -> Result<()> {
    Binaries::locate(&options.programs())?;
    operator::build()
}

fn try_run<F>(isolation: Isolation, body: F) -> Result<ExitCode>
where
    F: AsyncFnOnce(Arc<TestEnv>) -> Result<()>,
{
    if isolation == Isolation::NetworkAsRoot
        && let Some(missing) = Postfix::missing()
    {
        bail!("{missing}");
    }
    let options = control_plane::Options::default();
    // Parts that need a network, and those that take minutes the first time, run before the
    // namespace without a network.
    match namespace::enter(isolation, || prepare(options))? {
        Entered::Finished(code) => return Ok(code),
        Entered::Forbidden(why) => bail!("{why}"),
        Entered::Inside => {}
    }
    let binaries = Binaries::locate(&options.programs())?;
    let runtime = Runtime::new()?;
    let result = runtime.block_on(run_scenario(&binaries, options, body));
    runtime.shutdown_timeout(Duration::from_secs(1));
    result.map(|()| ExitCode::SUCCESS)
}

async fn run_scenario<F>(binaries: &Binaries, options: control_plane::Options, body: F) -> Result<()>
where
    F: AsyncFnOnce(Arc<TestEnv>) -> Result<()>,
{
    let own = ControlPlane::start(binaries, options).await?;
    let took = own.took();
    let cluster = Arc::new(Cluster::Own(Box::new(own)));
    let version = cluster.client().apiserver_version().await.context("the API server's version")?.git_version;
    println!(
        "Kubernetes {version} is ready after {:.1} s ({}), in a network of its own.",
        took.as_secs_f64(),
        binaries.origin()
    );
    let env = Arc::new(TestEnv::in_namespace(cluster, binaries, NAMESPACE.to_owned())?);
    let result = body(Arc::clone(&env)).await;
    result.map_err(|error| match Arc::into_inner(env) {
        Some(mut env) => error.context(env.describe_failure()),
        None => error,
    })
}
