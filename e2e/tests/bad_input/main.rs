//! Trials of bad input: a fault in what a user writes or refers to is reported, affects nothing
//! else, and once repaired has no effect any more.

mod newer;
mod references;
mod servers;

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Result, bail, ensure};
use mail_failover_e2e::assertions::manifest;
use mail_failover_e2e::suite::{self, Options, Trial, trial};
use mail_failover_e2e::test_env::TestEnv;
use serde_json::{Value, json};

fn main() -> ExitCode {
    let options = Options { operator: true, parallel: 6, deadline: Duration::from_mins(4), ..Options::default() };
    let mut trials: Vec<Trial> =
        vec![trial("what the schema does not know is refused, and the field is named", refused)];
    trials.extend(references::trials());
    trials.extend(servers::trials());
    trials.extend(newer::trials());
    suite::run("bad_input", options, trials)
}

fn route(spec: Value) -> (&'static str, Value) {
    ("MailRoute", spec)
}

fn backend(spec: Value) -> (&'static str, Value) {
    ("SendingBackend", spec)
}

fn policy(spec: Value) -> (&'static str, Value) {
    ("FailoverPolicy", spec)
}

async fn refused(env: Arc<TestEnv>) -> Result<()> {
    let service = json!({ "service": { "name": "mail", "ports": [{ "name": "smtp", "port": 25 }] } });
    let one = json!([{ "name": "a" }]);
    let cases = [
        (route(json!({ "backends": one, "outputs": [service], "weight": 3 })), "unknown field \"spec.weight\""),
        (
            route(json!({ "backends": one, "outputs": [service], "strategy": "Magic" })),
            "spec.strategy: Unsupported value",
        ),
        (route(json!({ "backends": [], "outputs": [service] })), "spec.backends in body should have at least 1 items"),
        (route(json!({ "outputs": [service] })), "spec.backends: Required value"),
        (
            route(json!({ "backends": [{ "name": "a" }, { "name": "a" }], "outputs": [service] })),
            "spec.backends[].name must be unique",
        ),
        (route(json!({ "backends": one, "outputs": [] })), "spec.outputs in body should have at least 1 items"),
        (route(json!({ "backends": one, "outputs": [{}] })), "exactly one of spec.outputs[].service"),
        (
            route(json!({ "backends": one, "outputs": [{ "configMap": { "name": "a", "format": "Exim" } }] })),
            "spec.outputs[0].configMap.format: Unsupported value: \"Exim\"",
        ),
        (
            backend(json!({ "smtp": { "host": "a.example", "port": 25, "starttls": true } })),
            "unknown field \"spec.smtp.starttls\"",
        ),
        (backend(json!({ "smtp": { "host": "a.example", "port": 0 } })), "spec.smtp.port"),
        (backend(json!({ "smtp": { "host": "smtp://a.example", "port": 25 } })), "spec.smtp.host"),
        (backend(json!({ "smtp": { "host": "127.0.0.1", "port": 25 } })), "spec.smtp.host must not be a loopback"),
        (
            backend(json!({ "smtp": { "host": "a.example", "port": 25, "tls": { "mode": "SSL" } } })),
            "spec.smtp.tls.mode: Unsupported value: \"SSL\"",
        ),
        (backend(json!({})), "exactly one of spec.smtp and spec.service must be set"),
        (
            backend(
                json!({ "smtp": { "host": "a.example", "port": 25 }, "probes": [{ "name": "p", "interval": "soon", "smtp": {} }] }),
            ),
            "spec.probes[0].interval",
        ),
        (policy(json!({ "failure": { "consecutive": 0 } })), "spec.failure.consecutive"),
        (policy(json!({ "failback": { "mode": "Never" } })), "spec.failback.mode: Unsupported value: \"Never\""),
        (policy(json!({ "hold": { "cooldown": "200h" } })), "spec.hold.cooldown must be at most 168h"),
        (policy(json!({ "hold": { "forever": true } })), "unknown field \"spec.hold.forever\""),
    ];
    for ((kind, spec), expected) in cases {
        match env.apply(&manifest(kind, "bad", &spec)).await {
            Ok(said) => bail!("{kind} {spec} was accepted: {said}"),
            Err(error) => {
                let said = format!("{error:#}");
                ensure!(said.contains(expected), "{kind} {spec}: {said} does not say {expected}");
            }
        }
    }
    let there = env.kubectl(&["get", "mailfailover", "-o", "name"]).await?;
    ensure!(there.trim().is_empty(), "{there}");
    Ok(())
}
