//! Costs of 500 routes over 1,000 backends: for each replica, and for the API server.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use futures::{StreamExt, TryStreamExt, stream};
use kube::api::{ListParams, PostParams};
use mail_failover_api::{MailRoute, SendingBackend};
use mail_failover_e2e::assertions::api;
use mail_failover_e2e::bench::{Usage, load};
use mail_failover_e2e::in_cluster::installation::{NAMESPACE, ensure_installed};
use mail_failover_e2e::in_cluster::shop::Shop;
use mail_failover_e2e::mail::statistics::{Align, Table, human};
use mail_failover_e2e::operator::get;
use mail_failover_e2e::scrape::Scrape;
use mail_failover_e2e::test_env::TestEnv;
use serde_json::json;
use tokio::time::sleep;

use super::rounds;

const SETTLING: Duration = Duration::from_mins(5);

pub async fn measure(env: Arc<TestEnv>) -> Result<()> {
    ensure_installed(&env).await?;
    let shop = Shop::without_mta(Arc::clone(&env), "200ms", "500ms").await?;
    let servers = [shop.address("a").await?, shop.address("b").await?];
    let routes = rounds(500, 100);
    let begun = Instant::now();
    stream::iter(0..routes).map(|number| create(&env, number, servers)).buffer_unordered(8).try_collect::<()>().await?;
    wait_settled(&env, routes).await?;
    println!(
        "{routes} routes over {} backends, default probes: settled {} after the first was created",
        2 * routes,
        human(begun.elapsed())
    );
    sleep(Duration::from_secs(15)).await;

    let pods = pods(&env).await?;
    let processes = processes()?;
    let before: Vec<_> = processes.iter().map(|&id| Usage::of(id)).collect::<Result<_>>()?;
    let scraped = scrape(&pods).await?;
    let stretch = Duration::from_secs(rounds(60, 20).try_into()?);
    sleep(stretch).await;
    let mut table = Table::new(&[
        ("REPLICA", Align::Left),
        ("CORES", Align::Right),
        ("MEMORY", Align::Right),
        ("WRITES A MINUTE", Align::Right),
    ]);
    let minutes = stretch.as_secs_f64() / 60.0;
    let written: Vec<_> = scrape(&pods)
        .await?
        .iter()
        .zip(&scraped)
        .map(|(now, then)| (now.writes(false) - then.writes(false)) / minutes)
        .collect();
    // The sum does not depend on which process belongs to which pod.
    for (number, (id, then)) in processes.iter().zip(&before).enumerate() {
        let now = Usage::of(*id)?;
        table.row([
            (number + 1).to_string(),
            format!("{:.3}", now.cores_since(then)),
            format!("{} MB", now.resident / 1_000_000),
            written.get(number).map_or_else(String::new, |count| format!("{count:.1}")),
        ]);
    }
    println!("\nWhile nothing happens (writes but for Leases; the replicas' in any order)\n\n{table}\nload {}", load());
    Ok(())
}

async fn create(env: &TestEnv, number: usize, servers: [IpAddr; 2]) -> Result<()> {
    let (backends, routes) = (api::<SendingBackend>(env), api::<MailRoute>(env));
    let names = ["one", "two"].map(|which| format!("scale-{number}-{which}"));
    for (name, server) in names.iter().zip(servers) {
        let backend = json!({ "apiVersion": "mailfailover.io/v1alpha1", "kind": "SendingBackend", "metadata": { "name": name },
            "spec": { "smtp": { "host": server, "port": 2525 } } });
        backends.create(&PostParams::default(), &serde_json::from_value(backend)?).await?;
    }
    let route = json!({ "apiVersion": "mailfailover.io/v1alpha1", "kind": "MailRoute", "metadata": { "name": format!("scale-{number}") },
        "spec": { "backends": [{ "name": names[0] }, { "name": names[1] }],
            "outputs": [{ "configMap": { "name": format!("scale-{number}"), "format": "Env" } }] } });
    routes.create(&PostParams::default(), &serde_json::from_value(route)?).await?;
    Ok(())
}

async fn wait_settled(env: &TestEnv, count: usize) -> Result<()> {
    let begun = Instant::now();
    loop {
        let routes = api::<MailRoute>(env).list(&ListParams::default()).await?.items;
        let settled = routes.iter().filter(|route| {
            let status = route.status.clone().unwrap_or_default();
            status
                .conditions
                .iter()
                .filter(|condition| {
                    ["Ready", "OutputsApplied"].contains(&condition.type_.as_str()) && condition.status == "True"
                })
                .count()
                == 2
        });
        let settled = settled.count();
        if settled > count {
            return Ok(());
        }
        if begun.elapsed() > SETTLING {
            bail!("{settled} of {} routes are ready", count + 1);
        }
        sleep(Duration::from_secs(1)).await;
    }
}

/// The addresses of the operator's pods.
async fn pods(env: &TestEnv) -> Result<Vec<IpAddr>> {
    let printed =
        env.kubectl(&["--namespace", NAMESPACE, "get", "pods", "--output=jsonpath={.items[*].status.podIP}"]).await?;
    printed.split_whitespace().map(|address| address.parse().with_context(|| address.to_owned())).collect()
}

async fn scrape(pods: &[IpAddr]) -> Result<Vec<Scrape>> {
    let mut scrapes = Vec::new();
    for pod in pods {
        scrapes.push(Scrape::new(get((*pod, 8080).into(), "/metrics").await?));
    }
    Ok(scrapes)
}

/// The operator's processes, in any pod.
fn processes() -> Result<Vec<u32>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir("/proc")?.flatten() {
        let Some(id) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
        let Ok(line) = std::fs::read(entry.path().join("cmdline")) else { continue };
        if line.starts_with(b"/usr/local/bin/mail-failover\0run\0") {
            found.push(id);
        }
    }
    Ok(found)
}
