//! A trial of kube-proxy's speed in following an `EndpointSlice`.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::api::{Api, Patch, PatchParams};
use mail_failover_e2e::eventually::eventually;
use mail_failover_e2e::suite::{Trial, trial};
use mail_failover_e2e::test_env::TestEnv;
use serde_json::json;
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};

use crate::pods::{WAIT_TIMEOUT, apply_pod, pod};

const ROUNDS: usize = 10;
/// The least time between two writes of kube-proxy's rules. After a longer pause, a write is at
/// once.
const MINIMUM_BETWEEN_SYNCS: Duration = Duration::from_secs(1);

pub fn trials() -> Vec<Trial> {
    vec![
        trial("an EndpointSlice that is patched leads new connections elsewhere", async |env| {
            let mut addresses = Vec::new();
            for name in ["a", "b"] {
                let server = format!("while :; do echo 220 {name} | nc -l -p 2525 >/dev/null; done");
                apply_pod(&env, name, pod(&["sh", "-c", &server], "Always")).await?;
            }
            for name in ["a", "b"] {
                let condition = ["wait", "--for=condition=Ready", &format!("pod/{name}"), "--timeout=80s"];
                env.kubectl_for(WAIT_TIMEOUT, &condition).await?;
                addresses.push(env.kubectl(&["get", "pod", name, "--output=jsonpath={.status.podIP}"]).await?);
            }
            let service = json!({
                "apiVersion": "v1", "kind": "Service", "metadata": { "name": "mail" },
                "spec": { "ports": [{ "name": "smtp", "port": 25 }] },
            });
            env.apply(&service.to_string()).await?;
            let slice = json!({
                "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
                "metadata": { "name": "mail", "labels": { "kubernetes.io/service-name": "mail" } },
                "addressType": "IPv4", "ports": [{ "name": "smtp", "port": 2525 }],
                "endpoints": [{ "addresses": [addresses[0]] }],
            });
            env.apply(&slice.to_string()).await?;
            let mail = env.kubectl(&["get", "service", "mail", "--output=jsonpath={.spec.clusterIP}"]).await?;
            eventually(WAIT_TIMEOUT, "a to answer", async || Ok((greeting(&mail).await? == "220 a").then_some(()))).await?;

            let (mut acknowledged, mut moved) = (Vec::new(), Vec::new());
            for round in 1..=ROUNDS {
                sleep(MINIMUM_BETWEEN_SYNCS + Duration::from_millis(200)).await;
                let name = ["a", "b"][round % 2];
                let begun = Instant::now();
                lead_to(&env, &addresses[round % 2]).await?;
                acknowledged.push(begun.elapsed());
                eventually(WAIT_TIMEOUT, &format!("{name} to answer"), async || {
                    Ok((greeting(&mail).await? == format!("220 {name}")).then_some(()))
                })
                .await?;
                moved.push(begun.elapsed());
            }
            eprintln!(
                "an EndpointSlice patch is acknowledged after {}; a new connection lands on the new endpoint after {} ({ROUNDS} times, \
                 kube-proxy quiet before)",
                spread(&mut acknowledged),
                spread(&mut moved),
            );
            let slowest = moved.last().copied().context("rounds")?;
            ensure!(slowest < Duration::from_secs(10), "the slowest took {slowest:?}");
            Ok(())
        })
        .needs_own_node()
        // No other change may wake kube-proxy while it is timed.
        .alone(),
    ]
}

async fn lead_to(env: &TestEnv, address: &str) -> Result<()> {
    let slices: Api<EndpointSlice> = Api::namespaced(env.client(), env.namespace());
    let patch = json!({ "endpoints": [{ "addresses": [address] }] });
    slices.patch("mail", &PatchParams::default(), &Patch::Merge(patch)).await?;
    Ok(())
}

/// The first line that the answering server sends. The node's own connections pass kube-proxy's
/// rules, too.
async fn greeting(address: &str) -> Result<String> {
    let dialogue = async {
        let mut text = String::new();
        TcpStream::connect((address, 25)).await?.read_to_string(&mut text).await?;
        anyhow::Ok(text.trim().to_owned())
    };
    timeout(Duration::from_secs(1), dialogue).await?
}

/// Sorts the times, and returns the median and the longest as a text.
fn spread(times: &mut [Duration]) -> String {
    times.sort_unstable();
    let [median, longest] = [times.get(times.len() / 2), times.last()].map(|time| time.map_or(0, Duration::as_millis));
    format!("{median} ms (median; longest {longest} ms)")
}
