//! Trials of what a person and a monitoring system see of a failover.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use kube::ResourceExt;
use kube::api::ListParams;
use mail_failover_e2e::assertions::{metric_sum, start_operator, untyped, wait_event};
use mail_failover_e2e::fixture::{PolicyTimings, TwoBackendFixture, route, wait_active};
use mail_failover_e2e::operator::Operator;
use mail_failover_e2e::suite::{Trial, trial};
use mail_failover_e2e::test_env::TestEnv;
use tokio::time::sleep;

pub fn trials() -> Vec<Trial> {
    vec![
        trial("a user reads in kubectl's columns where mail goes and why", columns).listens(),
        trial("the operator answers about its life, its readiness and its figures", answers).listens(),
        trial("in a steady state nothing is written to the API server", quiet).listens(),
    ]
}

/// The table that kubectl prints, as one map from column to cell for each line.
fn table(text: &str) -> Vec<BTreeMap<String, String>> {
    let mut lines = text.lines();
    let header = lines.next().unwrap_or_default();
    // Columns begin where the header's words do; cells may be empty.
    let starts: Vec<usize> = header
        .char_indices()
        .filter(|(at, letter)| *letter != ' ' && (*at == 0 || header[..*at].ends_with("  ")))
        .map(|(at, _)| at)
        .collect();
    let names = cells(header, &starts);
    lines.map(|line| names.iter().cloned().zip(cells(line, &starts)).collect()).collect()
}

/// The cells of a line whose columns start at these bytes.
fn cells(line: &str, starts: &[usize]) -> Vec<String> {
    let ends = starts.iter().skip(1).copied().chain([line.len()]);
    starts
        .iter()
        .zip(ends)
        .map(|(start, end)| line.get(*start..end.min(line.len())).unwrap_or_default().trim().to_owned())
        .collect()
}

/// Checks cells of an object in the table that `kubectl get` prints.
async fn check_cells(env: &TestEnv, resource: &str, wide: bool, name: &str, expected: &[(&str, &str)]) -> Result<()> {
    let mut arguments = vec!["get", resource];
    arguments.extend(wide.then_some(["-o", "wide"]).into_iter().flatten());
    let text = env.kubectl(&arguments).await?;
    let rows = table(&text);
    let row = rows.iter().find(|row| row.get("NAME").is_some_and(|cell| cell == name)).context(text.clone())?;
    for (column, cell) in expected {
        let seen = row.get(*column).with_context(|| format!("no column {column}:\n{text}"))?;
        ensure!(seen.starts_with(cell), "{column} is {seen}, not {cell}:\n{text}");
    }
    Ok(())
}

async fn columns(env: Arc<TestEnv>) -> Result<()> {
    let fixture = TwoBackendFixture::create(env.clone(), &PolicyTimings::default()).await?;
    let _operator = fixture.start_operator("a").await?;
    fixture.primary.crash().await?;
    fixture.wait_active("standby").await?;
    wait_event(&env, "primary", "BackendUnhealthy").await?;
    let active = [
        ("STRATEGY", "ActivePassive"),
        ("ACTIVE", "standby"),
        ("HEALTHY", "1/2"),
        ("STATE", "FailedOver"),
        ("READY", "True"),
    ];
    check_cells(&env, "mailroutes", false, "orders", &active).await?;
    check_cells(&env, "mroute", true, "orders", &[("POLICY", "fast"), ("MESSAGE", "mail leaves by standby")]).await?;
    check_cells(&env, "failoverpolicies", false, "fast", &[("FAILURES", "3"), ("ROUTES", "1"), ("READY", "True")])
        .await?;
    let refused = [("TYPE", "SMTP"), ("HEALTH", "Unhealthy"), ("REASON", "ConnectionRefused")];
    check_cells(&env, "sendingbackends", false, "primary", &refused).await?;
    check_cells(&env, "sendingbackends", false, "standby", &[("HEALTH", "Healthy"), ("REASON", "Ok")]).await?;
    let since = env.kubectl(&["get", "mailroutes"]).await?;
    let since = table(&since)[0].get("SINCE").cloned().unwrap_or_default();
    ensure!(since.ends_with('s') || since.ends_with('m'), "SINCE is {since:?}");
    let all = env.kubectl(&["get", "mailfailover", "-o", "name"]).await?;
    ensure!(all.lines().count() == 4, "{all}");
    let events = env.kubectl(&["get", "events"]).await?;
    ensure!(events.contains("FailedOver") && events.contains("mailroute/orders"), "{events}");
    ensure!(events.contains("primary → standby: ConnectionRefused"), "{events}");
    let described = env.kubectl(&["describe", "mailroute", "orders"]).await?;
    ensure!(described.contains("FailedOver"), "{described}");
    let explained = env.kubectl(&["explain", "mailroute.spec.backends"]).await?;
    ensure!(explained.contains("most preferred first"), "{explained}");
    // A deployment waits for this.
    env.kubectl(&["wait", "mailroute/orders", "--for=condition=Ready", "--timeout=5s"]).await.map(drop)
}

fn is_of_orders(labels: &str) -> bool {
    labels.contains("route=\"orders\"")
}

async fn answers(env: Arc<TestEnv>) -> Result<()> {
    let fixture = TwoBackendFixture::create(env.clone(), &PolicyTimings::default()).await?;
    let operator = fixture.start_operator("a").await?;
    for path in ["/livez", "/readyz"] {
        operator.get(path).await?;
    }
    ensure!(operator.get("/nothing").await.is_err(), "there is no such path");
    fixture.primary.crash().await?;
    fixture.wait_active("standby").await?;
    let metrics = operator.metrics().await?;
    let transitions = metric_sum(&metrics, "mail_failover_route_transitions_total", |labels| {
        is_of_orders(labels) && labels.contains("reason=\"ConnectionRefused\"") && labels.contains("kind=\"Failover\"")
    });
    ensure!((transitions - 1.0).abs() < 0.1, "{transitions} transitions:\n{metrics}");
    let [failed_over, preferred] = ["state=\"FailedOver\"", "state=\"Preferred\""].map(|state| {
        metric_sum(&metrics, "mail_failover_route_state", |labels| is_of_orders(labels) && labels.contains(state))
    });
    ensure!(failed_over > 0.9 && preferred < 0.1, "{metrics}");
    ensure!(metric_sum(&metrics, "mail_failover_leader", str::is_empty) > 0.9, "{metrics}");
    // Whoever does not ask for OpenMetrics gets the classic format, in which a counter's type names it as its samples do.
    ensure!(metrics.contains("# TYPE mail_failover_route_transitions_total counter\n"), "{metrics}");
    ensure!(!metrics.contains("# EOF"), "the classic format has no end mark");
    Ok(())
}

/// The versions of all objects of the operator's kinds.
async fn versions(env: &TestEnv) -> Result<BTreeMap<String, Option<String>>> {
    let mut versions = BTreeMap::new();
    for kind in ["MailRoute", "SendingBackend", "FailoverPolicy"] {
        for object in untyped(env, kind)?.list(&ListParams::default()).await?.items {
            versions.insert(format!("{kind} {}", object.name_any()), object.resource_version());
        }
    }
    Ok(versions)
}

/// The number of the operator's writes, without those of Leases.
async fn writes(operator: &Operator) -> Result<f64> {
    Ok(metric_sum(&operator.metrics().await?, "mail_failover_api_requests_total", |labels| {
        ["POST", "PUT", "PATCH", "DELETE"].iter().any(|method| labels.contains(&format!("method=\"{method}\"")))
            && !labels.contains("resource=\"leases\"")
    }))
}

async fn quiet(env: Arc<TestEnv>) -> Result<()> {
    const QUIET: Duration = Duration::from_secs(10);
    let fixture = TwoBackendFixture::create(env.clone(), &PolicyTimings::default()).await?;
    env.apply(&route("second", &["standby", "primary"], "second")).await?;
    let operator = start_operator(&env, &[]).await?;
    fixture.wait_active("primary").await?;
    wait_active(&env, "second", "standby").await?;
    // Writes after the first decisions may still be in progress.
    let mut before = writes(&operator).await?;
    ensure!(before >= 5.0, "writes are not counted");
    loop {
        sleep(Duration::from_secs(2)).await;
        let now = writes(&operator).await?;
        if now <= before {
            break;
        }
        before = now;
    }
    let (before, versions_before) = (writes(&operator).await?, versions(&env).await?);
    let rounds = fixture.primary.counters().connections;
    // There is no condition to wait for: the trial shows that nothing happens.
    sleep(QUIET).await;
    ensure!(fixture.primary.counters().connections > rounds + 10, "no probe ran");
    let (after, versions_after) = (writes(&operator).await?, versions(&env).await?);
    ensure!((after - before).abs() < 0.5, "{} writes in {QUIET:?}", after - before);
    ensure!(versions_after == versions_before, "{versions_before:?} became {versions_after:?}");
    ensure!(versions_after.len() == 5, "{versions_after:?}");
    Ok(())
}
