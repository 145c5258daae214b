//! Trials of `mail-failover explain` on a running system.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use mail_failover_e2e::fixture::{PolicyTimings, TwoBackendFixture, route_status};
use mail_failover_e2e::operator::program;
use mail_failover_e2e::suite::{Trial, trial};
use mail_failover_e2e::test_env::TestEnv;
use serde_json::Value;
use tokio::process::Command;
use tokio::time::timeout;

/// A time limit longer than every deadline of the command.
const ANSWER: Duration = Duration::from_secs(45);

pub fn trials() -> Vec<Trial> {
    vec![trial("a user is told why mail goes where it goes, as the status has it", as_the_status_has_it).listens()]
}

/// Runs the command, and returns the exit code, the output, and the error output.
async fn explain(env: &TestEnv, arguments: &[&str]) -> Result<(Option<i32>, String, String)> {
    let mut command = Command::new(program()?);
    command.args(["explain", "route"]).args(arguments).args(["-n", env.namespace()]);
    command.arg("--kubeconfig").arg(env.kubeconfig()).kill_on_drop(true);
    let output = timeout(ANSWER, command.output()).await.context("explain does not end")??;
    let [printed, error] = [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
    Ok((output.status.code(), printed, error))
}

async fn as_the_status_has_it(env: Arc<TestEnv>) -> Result<()> {
    // Soaks for as long as the trial looks.
    let fixture =
        TwoBackendFixture::create(env.clone(), &PolicyTimings { soak: "1h", ..PolicyTimings::default() }).await?;
    let _operator = fixture.start_operator("a").await?;
    fixture.primary.crash().await?;
    let status = fixture.wait_active("standby").await?;

    let (code, out, error) = explain(&env, &["orders", "-o", "json"]).await?;
    ensure!(code == Some(0), "{code:?}: {out}{error}");
    let account: Value = serde_json::from_str(&out)?;
    let as_written = serde_json::to_value(&status)?;
    for field in ["active", "since", "state", "history"] {
        ensure!(account[field] == as_written[field], "{field} of {out} is not that of {as_written}");
    }
    ensure!(account["isObserved"] == true && account["notes"] == serde_json::json!([]), "{out}");
    ensure!(
        account["backends"][0]["health"] == "Unhealthy" && account["backends"][0]["reason"] == "ConnectionRefused",
        "{out}"
    );
    let prospects = account["prospects"].to_string();
    ensure!(prospects.contains("primary turns Healthy") && prospects.contains("standby turns Unhealthy"), "{out}");

    let (code, out, _) = explain(&env, &["orders"]).await?;
    ensure!(code == Some(0) && out.contains("FailedOver: mail leaves by standby since"), "{out}");
    // It only reads.
    let after = route_status(&env, "orders").await?;
    ensure!(after.active == status.active && after.history == status.history, "{after:?}");

    let (code, out, error) = explain(&env, &["ordres"]).await?;
    ensure!(code == Some(1) && out.is_empty() && error.contains("there is orders"), "{code:?}: {out}{error}");
    Ok(())
}
