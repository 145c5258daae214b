//! Backends at servers that accept connections and say nothing, each with as many probes as there may
//! be, and of names with as many addresses as a round tries.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Result, ensure};
use mail_failover_e2e::assertions::metric_sum;
use mail_failover_e2e::eventually::eventually;
use mail_failover_e2e::fixture::WAIT_TIMEOUT;
use mail_failover_e2e::mail::dns::DnsServer;
use mail_failover_e2e::suite::{Trial, trial};
use mail_failover_e2e::test_env::TestEnv;
use serde_json::json;

use super::arena::{Arena, listen, object};

/// The port of all tarpits.
pub const PORT: u16 = 2600;
/// The addresses that a round tries.
const ADDRESSES: usize = 16;
/// The names of tarpits. No bound on one address is to be what helps.
const NAMES: usize = 4;
/// Dialogues that still end when their backends are gone, and the victim's own.
const FEW: f64 = 40.0;

pub fn trial_with(backends: usize) -> Trial {
    let sentence =
        format!("{backends} tarpits of one namespace delay no failover in another, and are forgotten when deleted");
    trial(sentence, async move |env| slow_down(env, backends).await).needs_control().listens().alone()
}

/// Backends at these hosts that are probed by as many dialogues as possible, for as long as possible.
pub fn tarpits(backends: usize, hosts: &[String]) -> String {
    let mut text = String::new();
    for backend in 0..backends {
        let mut probes = vec![];
        for probe in 0..8 {
            // Probes that differ, since identical ones are made once.
            let (name, timeout) = (format!("p{probe}"), format!("{}ms", 60_000 - (backend * 8 + probe)));
            probes.push(json!({ "name": name, "interval": "6s", "timeout": timeout, "smtp": { "depth": "Banner" } }));
        }
        let host = &hosts[backend % hosts.len()];
        let spec = json!({ "smtp": { "host": host, "port": PORT, "tls": { "mode": "None" } }, "probes": probes });
        text += &object("SendingBackend", &format!("tarpit-{backend}"), &spec);
    }
    text
}

async fn slow_down(env: Arc<TestEnv>, backends: usize) -> Result<()> {
    let names = DnsServer::start(SocketAddr::new(env.ipv4(), 53)).await?;
    let hosts = (0..NAMES).map(|number| format!("tarpit-{number}.evil.example")).collect::<Vec<_>>();
    let mut servers = vec![];
    for host in &hosts {
        let addresses: Vec<IpAddr> = (0..ADDRESSES).map(|_| env.ipv4()).collect();
        for address in &addresses {
            servers.push(listen(SocketAddr::new(*address, PORT), None).await?);
        }
        names.set(host, addresses)?;
    }
    let asked = names.address().to_string();
    // Few backends fill few places. So many fill those of production.
    let places: &[&str] = if backends > 50 { &[] } else { &["--probe-concurrency", "1024"] };
    let arena = Arena::create(env, &[&["--dns-server", &asked], places].concat()).await?;
    let alone = arena.fail_over_for("alone", Duration::ZERO).await?;
    let (bound, alone) = (alone.bound(), alone.median);

    arena.apply(&tarpits(backends, &hosts)).await?;
    for replica in &arena.replicas {
        eventually(WAIT_TIMEOUT, "dialogues to wait for their turn", async || {
            let metrics = replica.metrics().await?;
            let is_cause = |labels: &str| labels.contains("\"Dialogues\"");
            Ok((metric_sum(&metrics, "mail_failover_probe_place_waits_total", is_cause) > 100.0).then_some(()))
        })
        .await?;
    }
    let attacked = arena.fail_over_for("beside tarpits", Duration::ZERO).await?.median;

    let all = ["delete", "sendingbackends", "--all", "--wait=false", "--namespace", &arena.evil];
    arena.env.kubectl(&all).await?;
    for replica in &arena.replicas {
        eventually(WAIT_TIMEOUT, "dialogues to end with their backends", async || {
            let under_way = metric_sum(&replica.metrics().await?, "mail_failover_probe_dialogues", str::is_empty);
            ensure!(under_way < FEW, "{under_way} are under way");
            Ok(Some(()))
        })
        .await?;
    }
    let after = arena.fail_over_for("after them", Duration::ZERO).await?.median;
    println!(
        "{backends} tarpits cost a failover of {:.2} s in another namespace {:+.2} s, and {:+.2} s after they are deleted",
        alone.as_secs_f64(),
        attacked.as_secs_f64() - alone.as_secs_f64(),
        after.as_secs_f64() - alone.as_secs_f64(),
    );
    for (when, took) in [("beside tarpits", attacked), ("after them", after)] {
        ensure!(took <= bound, "a failover takes {took:.2?} {when}, and {alone:.2?} alone: {bound:.2?} at most");
    }
    Ok(())
}
