//! The output of kubectl for our kinds.

use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use mail_failover_e2e::eventually::eventually;
use mail_failover_e2e::suite::{Trial, trial};
use mail_failover_e2e::test_env::TestEnv;

/// An object of each kind, as a user writes them.
const OBJECTS: &str = r"
apiVersion: mailfailover.io/v1alpha1
kind: SendingBackend
metadata: { name: primary }
spec: { smtp: { host: mx.example, port: 587, tls: { mode: StartTLS } }, suspended: true }
---
apiVersion: mailfailover.io/v1alpha1
kind: FailoverPolicy
metadata: { name: careful }
spec: { failure: { consecutive: 9 }, failback: { mode: Manual } }
---
apiVersion: mailfailover.io/v1alpha1
kind: MailRoute
metadata: { name: newsletter }
spec:
  policyRef: { name: careful }
  backends: [{ name: primary }]
  outputs: [{ configMap: { name: mail, format: Env } }]
";

/// A status for each, as the operator writes it.
const STATUSES: &[(&str, &str)] = &[
    (
        "sendingbackend/primary",
        r#"{"status": {"observedGeneration": 1, "type": "SMTP", "host": "mx.example:587", "health": "Unhealthy", "reason": "NoAnswer", "message": "no answer within 5s",
            "since": "2026-01-01T00:00:00.000000Z", "certificateNotAfter": "2027-01-01T00:00:00.000000Z", "conditions": [
            {"type": "Ready", "status": "True", "reason": "Observed", "message": "", "lastTransitionTime": "2026-01-01T00:00:00Z"}]}}"#,
    ),
    (
        "failoverpolicy/careful",
        r#"{"status": {"observedGeneration": 1, "routeCount": 1, "routes": ["newsletter"],
            "effective": {"failures": 9, "immediately": ["AccountPaused"], "failedDeliveries": "5 over 30s", "recoveries": 2, "cooldown": "10m", "minimumStay": "1m", "budget": "3 per 1h", "whenNoneHealthy": "Hold", "failback": "Manual", "failbackAfter": "30m"},
            "conditions": [
            {"type": "Ready", "status": "True", "reason": "Accepted", "message": "", "lastTransitionTime": "2026-01-01T00:00:00Z"}]}}"#,
    ),
    (
        "mailroute/newsletter",
        r#"{"status": {"observedGeneration": 1, "strategy": "ActivePassive", "active": [{"backend": "standby", "percent": 100}], "activeSummary": "standby",
            "healthyBackends": "1/2", "state": "FailedOver", "since": "2026-01-01T00:00:00.000000Z", "message": "on the standby",
            "conditions": [
            {"type": "Ready", "status": "False", "reason": "X", "message": "", "lastTransitionTime": "2026-01-01T00:00:00Z"}]}}"#,
    ),
];

/// The resource as a user may name it, the columns, and the cells of the only row. An age is "*".
const TABLES: &[(&str, &[&str], &[&str])] = &[
    (
        "sbe",
        &["NAME", "TYPE", "HOST", "HEALTH", "REASON", "SINCE", "READY", "SUSPENDED", "AGE"],
        &["primary", "SMTP", "mx.example:587", "Unhealthy", "NoAnswer", "*", "True", "true", "*"],
    ),
    (
        "fpol",
        &["NAME", "FAILURES", "FAILBACK", "ROUTES", "READY", "AGE"],
        &["careful", "9", "Manual", "1", "True", "*"],
    ),
    (
        "mroute",
        &["NAME", "STRATEGY", "ACTIVE", "HEALTHY", "STATE", "SINCE", "READY", "AGE"],
        &["newsletter", "ActivePassive", "standby", "1/2", "FailedOver", "*", "False", "*"],
    ),
];

/// A field, and a part of `kubectl explain`'s text about it.
const EXPLANATIONS: &[(&str, &str)] = &[
    ("mailroute", "One stream of mail: the backends it may leave by, in order of preference"),
    ("mailroute.spec.backends", "SendingBackends of the same namespace, most preferred first; 1 to 100."),
    ("mroute.spec.outputs.configMap.format", "ENUM: Postfix Env"),
    ("mailroute.status.state", "`Preferred`: the mail leaves by the first backend of the list."),
    ("sendingbackend.spec.smtp.tls.mode", "RFC 8314, port 465"),
    ("sendingbackend.spec.probes.smtp.depth", "Default: `StartTLS`, or `Ehlo` where `tls.mode` is None."),
    ("sendingbackend.status.type", "`SMTP`: a host or address."),
    ("sendingbackend.status.health", "Judged with the thresholds of the routes that use this backend"),
    ("sendingbackend.spec.probes.timeout", "Limit for each wait for the server"),
    (
        "failoverpolicy.spec.failback.after",
        "Time without interruption for which the preferred backend must have been Healthy.",
    ),
    ("failoverpolicy.spec.failure.consecutive", "Default: 6"),
    (
        "failoverpolicy.spec.failure.immediately",
        "`AccountPaused`: the provider has paused, suspended or closed the account.",
    ),
    ("failoverpolicy.spec.failure.immediately", "an empty list for none"),
    ("sendingbackend.spec.provider", "ENUM: Microsoft"),
    ("sendingbackend.spec.replies.about", "docs/replies.md has the table"),
    ("failoverpolicy.spec.hold.budget", "the last-resort rule. Default: 6 per 1h."),
    ("failoverpolicy.spec.failback.mode", "`ApproveFailback` lets it return as soon as `after` and `windows` allow"),
    ("failoverpolicy.spec.failback.windows.timeZone", "Default: UTC."),
    ("mailroute.spec.strategy", "ENUM: ActivePassive ActiveActive"),
    ("mailroute.spec.residency.jurisdictions", "a backend without one gets no mail"),
    ("mailroute.status.waitingFor.reason", "SwitchBudget"),
    ("sendingbackend.spec.limits.warmUp.startedAt", "Start of the first day (RFC 3339)"),
    // Over the end of a line of the code.
    ("failoverpolicy.spec.drills.longest", "longer than the policy takes to detect a failure"),
    ("sendingbackend.status.health", "ENUM: Healthy Degraded Unhealthy Unknown"),
];

pub fn trials() -> Vec<Trial> {
    let mut trials = vec![
        trial("kubectl get prints the columns of each resource", async |env| {
            furnish(&env).await?;
            for (resource, columns, cells) in TABLES {
                let table = env.kubectl(&["get", resource]).await?;
                check(&table, columns, cells).with_context(|| format!("kubectl get {resource}:\n{table}"))?;
            }
            Ok(())
        }),
        trial("kubectl get -o wide adds the messages", async |env| {
            furnish(&env).await?;
            let wide =
                [("sbe", "no answer within 5s"), ("sbe", "2027-01-01T00:00:00.000000Z"), ("mroute", "on the standby")];
            for (resource, text) in wide {
                let table = env.kubectl(&["get", resource, "-o", "wide"]).await?;
                if !table.contains(text) {
                    bail!("`{text}` is not in\n{table}");
                }
            }
            Ok(())
        }),
        trial("kubectl get --field-selector finds what has failed", async |env| {
            furnish(&env).await?;
            let selected = [
                ("sbe", "status.health=Unhealthy", true),
                ("sbe", "status.health=Healthy", false),
                ("sbe", "status.reason=NoAnswer", true),
                ("mroute", "status.state=FailedOver", true),
                ("mroute", "status.state=Preferred", false),
                ("mroute", "spec.policyRef.name=careful", true),
            ];
            for (resource, selector, is_found) in selected {
                let names = env.kubectl(&["get", resource, "-o", "name", "--field-selector", selector]).await?;
                if names.is_empty() == is_found {
                    bail!("{resource} by {selector}: {names:?}");
                }
            }
            Ok(())
        }),
        trial("kubectl get mailfailover lists all three resources", async |env| {
            furnish(&env).await?;
            let names = env.kubectl(&["get", "mailfailover", "-o", "name"]).await?;
            let mut names: Vec<&str> = names.lines().collect();
            names.sort_unstable();
            let expected = [
                "failoverpolicy.mailfailover.io/careful",
                "mailroute.mailfailover.io/newsletter",
                "sendingbackend.mailfailover.io/primary",
            ];
            if names != expected {
                bail!("{names:?}");
            }
            Ok(())
        }),
        trial("kubectl apply of an unknown field is refused and names it", async |env| {
            let misspelt = OBJECTS.replace("suspended: true", "suspend: true");
            match env.apply(&misspelt).await {
                Ok(said) => bail!("accepted: {said}"),
                Err(error) if error.to_string().contains("unknown field \"spec.suspend\"") => Ok(()),
                Err(error) => Err(error),
            }
        }),
        trial("kubectl apply accepts every example", async |env| {
            let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples");
            let namespace = format!("namespace: {}", env.namespace());
            let mut applied = 0;
            for folder in [
                folder.clone(),
                folder.join("deep-probes"),
                folder.join("postfix-agent"),
                folder.join("postfix-relays"),
            ] {
                for entry in fs::read_dir(&folder).with_context(|| folder.display().to_string())? {
                    let path = entry?.path();
                    if path.extension().is_some_and(|extension| extension == "yaml") {
                        let text = fs::read_to_string(&path)?.replace("namespace: shop", &namespace);
                        env.apply(&text).await.with_context(|| path.display().to_string())?;
                        applied += 1;
                    }
                }
            }
            if applied == 0 {
                bail!("there is none in {}", folder.display());
            }
            Ok(())
        }),
        trial("kubectl wait takes an object that nobody has looked at for unready", async |env| {
            env.apply(OBJECTS).await?;
            let waited = env.kubectl(&["wait", "--for=condition=Ready", "--timeout=1s", "mailroute/newsletter"]).await;
            match waited {
                Ok(said) => bail!("ready: {said}"),
                Err(error) if error.to_string().contains("timed out waiting for the condition") => Ok(()),
                Err(error) => Err(error),
            }
        }),
    ];
    trials.extend(EXPLANATIONS.iter().copied().map(|(field, text)| {
        trial(format!("kubectl explain {field} reads the documentation"), async move |env| {
            // The API server publishes a new schema a moment after it serves the resource.
            eventually(Duration::from_secs(20), "the documentation to be published", async || {
                let said = env.kubectl(&["explain", field]).await?;
                let said = said.split_whitespace().collect::<Vec<_>>().join(" ");
                if said.contains(text) { Ok(Some(())) } else { bail!("`{text}` is not in: {said}") }
            })
            .await
        })
    }));
    trials
}

/// Creates all three objects with a status.
async fn furnish(env: &TestEnv) -> Result<()> {
    env.apply(OBJECTS).await?;
    for (object, status) in STATUSES {
        env.kubectl(&["patch", object, "--subresource=status", "--type=merge", "--patch", status]).await?;
    }
    Ok(())
}

fn check(table: &str, columns: &[&str], cells: &[&str]) -> Result<()> {
    let mut lines = table.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
    let head = lines.next().context("no columns")?;
    if head != columns {
        bail!("the columns are {head:?}");
    }
    let row = lines.next().context("no row")?;
    let alike =
        row.len() == cells.len() && row.iter().zip(cells).all(|(cell, expected)| *expected == "*" || cell == expected);
    if !alike {
        bail!("the row is {row:?}");
    }
    Ok(())
}
