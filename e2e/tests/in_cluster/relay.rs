//! A trial of an application that sends through the relay's chart, while its pods are replaced and a provider refuses.

use std::slice;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::api::policy::v1::{PodDisruptionBudget, PodDisruptionBudgetStatus};
use kube::ResourceExt;
use kube::api::{EvictParams, ListParams};
use mail_failover_e2e::assertions::api;
use mail_failover_e2e::eventually::eventually;
use mail_failover_e2e::helm::RELAY_CHART;
use mail_failover_e2e::in_cluster::installation::ensure_installed;
use mail_failover_e2e::in_cluster::shop::{Outage, Shop, WAIT_TIMEOUT};
use mail_failover_e2e::node::images::OPERATOR;
use mail_failover_e2e::suite::{Trial, trial};
use mail_failover_e2e::test_env::TestEnv;
use tokio::time::sleep;

/// The release, and the name of the relay's objects: `examples/relay/route.yaml` names its service account.
const RELAY: &str = "mail-relay";
const DEPLOYMENT: &str = "deployment/mail-relay";
/// The chart's default.
const REPLICAS: usize = 2;
/// The time limit of a Helm command, longer than Helm's own.
const DEADLINE: Duration = Duration::from_mins(4);
/// Messages sent per second, each over a connection of its own.
const PER_SECOND: u32 = 25;
/// Messages between two changes.
const MEANWHILE: usize = 50;

pub fn trials() -> Vec<Trial> {
    vec![
        trial(
            "an application's mail leaves through the relay's chart while its pods are rolled out and evicted and a provider refuses: nothing is refused, and each message is with a provider once",
            upkeep,
        )
        .needs_own_node(),
    ]
}

async fn upkeep(env: Arc<TestEnv>) -> Result<()> {
    ensure_installed(&env).await?;
    let shop = Shop::for_relay(env).await?;
    install(&shop).await?;
    shop.wait_listening(RELAY).await?;
    let first = wait_pods(&shop, &[]).await?;
    // As mail libraries send. An application that keeps its connection is told to come again by a 421.
    let application = shop.start_application_before(RELAY, PER_SECOND, &["--connection-each"]).await?;
    shop.wait_stored("a", MEANWHILE).await?;

    let begun = Instant::now();
    shop.env.kubectl(&["rollout", "restart", DEPLOYMENT]).await?;
    shop.wait_rolled_out(DEPLOYMENT).await?;
    let second = wait_pods(&shop, &first).await.context("a rolling update")?;
    eprintln!("all pods were replaced after {:.1} s", begun.elapsed().as_secs_f64());
    shop.wait_stored("a", MEANWHILE).await.context("a rolling update")?;

    // As a drain of the node does it.
    wait_evictable(&shop).await?;
    let evicted = second.first().context("a pod")?;
    let begun = Instant::now();
    api::<Pod>(&shop.env).evict(evicted, &EvictParams::default()).await.context("an eviction")?;
    // The API server writes this before it deletes the pod.
    let budget = budget(&shop).await?;
    ensure!(budget.disruptions_allowed == 0, "the other pod may be evicted as well: {budget:?}");
    wait_pods(&shop, slice::from_ref(evicted)).await.context("an eviction")?;
    eprintln!("a pod was replaced {:.1} s after its eviction", begun.elapsed().as_secs_f64());
    shop.wait_stored("a", MEANWHILE).await.context("an eviction")?;

    shop.break_provider("a", Outage::Refuses).await?;
    shop.wait_stored("b", MEANWHILE).await?;
    shop.wait_active("b").await?;
    shop.repair("a", Outage::Refuses).await?;
    shop.wait_stored("a", MEANWHILE).await?;

    let said = application.finish(0).await?;
    // Providers record a message before they acknowledge it.
    sleep(Duration::from_secs(1)).await;
    let account = shop.account()?;
    eprintln!("{said:?}; {account:?}");
    // A connection that is refused or broken counts as a refusal.
    ensure!(said.is_smooth(), "{said:?}");
    ensure!(account.accepted == said.accepted && account.delivered == said.accepted, "{account:?}");
    ensure!(account.lost.is_empty() && account.extra_copies == 0, "{account:?}");
    // Nor has a provider what nobody was told of.
    ensure!(account.by_server.values().sum::<usize>() == account.accepted, "{account:?}");
    Ok(())
}

/// Installs the chart with its defaults, and waits until the pods are ready.
async fn install(shop: &Shop) -> Result<()> {
    let (repository, tag) = OPERATOR.rsplit_once(':').context("the image has a tag")?;
    let values = [
        format!("image.repository={repository}"),
        format!("image.tag={tag}"),
        "image.pullPolicy=Never".to_owned(),
        format!("fullnameOverride={RELAY}"),
        "configMap=orders-agent".to_owned(),
        "loginSecrets={login}".to_owned(),
        // The pods of the node.
        "clients.networks={10.244.0.0/16}".to_owned(),
    ];
    let mut arguments = vec!["install", RELAY, RELAY_CHART, "--wait", "--timeout=3m"];
    for value in &values {
        arguments.extend(["--set", value.as_str()]);
    }
    shop.env.helm()?.run(DEADLINE, &arguments).await.context("the relay's chart").map(drop)
}

/// Waits until all replicas are ready, none of them one of these, and nothing is left of those. Returns their names.
async fn wait_pods(shop: &Shop, before: &[String]) -> Result<Vec<String>> {
    let selector = ListParams::default().labels(&format!("app.kubernetes.io/instance={RELAY}"));
    eventually(WAIT_TIMEOUT, "the relay's pods to be ready", async || {
        let pods = api::<Pod>(&shop.env).list(&selector).await?.items;
        let names: Vec<_> = pods.iter().map(ResourceExt::name_any).collect();
        ensure!(names.len() == REPLICAS && pods.iter().all(is_ready), "there are {names:?}, not all of them ready");
        ensure!(!names.iter().any(|name| before.contains(name)), "there are still {names:?}");
        Ok(Some(names))
    })
    .await
}

/// Returns true for a pod that stays, is ready and was never restarted.
fn is_ready(pod: &Pod) -> bool {
    pod.metadata.deletion_timestamp.is_none()
        && pod.status.as_ref().is_some_and(|status| {
            let mut conditions = status.conditions.iter().flatten();
            let mut containers = status.container_statuses.iter().flatten();
            conditions.any(|condition| condition.type_ == "Ready" && condition.status == "True")
                && containers.all(|container| container.restart_count == 0)
        })
}

async fn budget(shop: &Shop) -> Result<PodDisruptionBudgetStatus> {
    let budget = api::<PodDisruptionBudget>(&shop.env).get(RELAY).await?;
    budget.status.context("the PodDisruptionBudget has no status")
}

/// Waits until the chart's `PodDisruptionBudget` lets one of the replicas go.
async fn wait_evictable(shop: &Shop) -> Result<()> {
    eventually(WAIT_TIMEOUT, "an eviction to be allowed", async || {
        let budget = budget(shop).await?;
        let counted = (budget.expected_pods, budget.current_healthy, budget.disruptions_allowed);
        ensure!(counted == (2, 2, 1), "{budget:?}");
        Ok(Some(()))
    })
    .await
}
