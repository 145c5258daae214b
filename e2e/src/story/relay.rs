//! The scene of the demos with a relay: two providers, the operator, `mail-failover relay` and an application that sends
//! all the time.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use rustix::process::Signal;
use serde_json::{Value, json};
use tokio::time::sleep;

use super::Ink;
use crate::control_plane::install_crds;
use crate::eventually::eventually;
use crate::fixture::{QUICK_LEASE, WAIT_TIMEOUT, wait_active};
use crate::mail::load::{Account, Load, LoadOptions, Stored};
use crate::mail::server::SmtpServer;
use crate::operator::{self, Operator};
use crate::process::Process;
use crate::test_env::TestEnv;

/// The name of the route.
pub const ROUTE: &str = "orders";
/// The preferred provider: its name and its address.
pub const FIRST: (&str, Ipv4Addr) = ("ses-eu", Ipv4Addr::new(192, 0, 2, 11));
/// The other provider.
pub const SECOND: (&str, Ipv4Addr) = ("sendgrid", Ipv4Addr::new(192, 0, 2, 12));
/// The address at which the relay takes mail.
pub const RELAY: SocketAddr = SocketAddr::new(RELAY_HOST, 2525);
/// The address of the relay's metrics.
pub const METRICS: SocketAddr = SocketAddr::new(RELAY_HOST, 8026);
/// Messages sent per second.
pub const PACE: u32 = 20;

const RELAY_HOST: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 25));
const HEALTH: SocketAddr = SocketAddr::new(RELAY_HOST, 8028);
const CONFIG_MAP: &str = "orders-agent";
/// More messages than a demonstration has time for.
const ENOUGH: usize = 100_000;

/// An object of the operator's API.
pub fn object(kind: &str, name: &str, spec: &Value) -> Value {
    json!({"apiVersion": "mailfailover.io/v1alpha1", "kind": kind, "metadata": {"name": name}, "spec": spec})
}

/// Starts the operator, applies these objects with a policy and the route over both providers, and waits until mail
/// leaves by the first one.
///
/// # Errors
/// When one of it does not work.
pub async fn start_operator(env: &TestEnv, objects: &[Value], policy: &Value) -> Result<Operator> {
    install_crds(&env.client()).await?;
    let operator = env.start_operator("demo", &QUICK_LEASE)?;
    println!("{}", Ink::Command.on("$ mail-failover run"));
    operator.wait_ready(WAIT_TIMEOUT).await?;
    let route = json!({"policyRef": {"name": "quick"}, "backends": [{"name": FIRST.0}, {"name": SECOND.0}],
        "outputs": [{"agent": {"configMap": CONFIG_MAP}}]});
    let of_route = [object("FailoverPolicy", "quick", policy), object("MailRoute", ROUTE, &route)];
    let texts: Vec<_> = objects.iter().chain(&of_route).map(ToString::to_string).collect();
    env.apply(&texts.join("\n---\n")).await?;
    wait_active(env, ROUTE, FIRST.0).await?;
    Ok(operator)
}

/// Starts the relay with further arguments, and waits until it is ready.
///
/// # Errors
/// When it is not; the end of its log is in the message.
pub async fn start_relay(env: &TestEnv, adapt: impl FnOnce(&mut Command)) -> Result<Process> {
    let folder = env.folder().join("relay");
    std::fs::create_dir_all(&folder)?;
    let config_map = format!("{}/{CONFIG_MAP}", env.namespace());
    let mut command = Command::new(operator::program()?);
    command
        .args(["relay", "run", "--allow-network", "192.0.2.0/24", "--hostname", "mail-relay.shop.example"])
        .args(["--config-map", &config_map, "--smtp-address", &RELAY.to_string()])
        .args(["--listen-address", &METRICS.to_string(), "--health-listen-address", &HEALTH.to_string()])
        .arg("--kubeconfig")
        .arg(env.kubeconfig())
        .arg("--state-directory")
        .arg(folder.join("state"));
    adapt(&mut command);
    let shown = format!("$ mail-failover relay run --config-map {config_map} --smtp-address {RELAY}");
    println!("{}", Ink::Command.on(&shown));
    let relay = Process::start("the relay", &mut command, &folder.join("relay.log"))?;
    eventually(WAIT_TIMEOUT, "the relay to be ready", async || Ok(operator::get(HEALTH, "/readyz").await.ok()))
        .await
        .with_context(|| relay.log_tail(15))?;
    Ok(relay)
}

/// Starts the application, and waits until so many messages are accepted.
///
/// # Errors
/// When they are not within the time.
pub async fn start_application(messages: usize, within: Duration) -> Result<Load> {
    let mut options = LoadOptions::new(RELAY, ENOUGH, "app@shop.example");
    options.per_second = Some(PACE);
    let load = Load::start(options);
    load.wait_accepted(messages, within).await?;
    Ok(load)
}

/// Ends application, relay and operator in order. Prints what became of each message, and the relay's series whose name
/// begins so.
///
/// # Errors
/// When the application was refused a message, one is lost, one arrived twice, or a process does not end in order.
pub async fn finish(
    load: Load,
    relay: &Process,
    operator: &Operator,
    providers: [&SmtpServer; 2],
    series: &str,
) -> Result<()> {
    sleep(Duration::from_millis(500)).await;
    let sent = load.stop(WAIT_TIMEOUT).await?;
    let nothing = BTreeSet::new();
    let account = Account::of(&sent.accepted, &Stored::by(&providers), &nothing, &nothing);
    println!("\n{}", Ink::Heading.on("Messages"));
    println!("  accepted    {:>6}   each with the answer of a provider", account.accepted);
    println!("  refused     {:>6}   {}", sent.refusals, sent.last_refusal.unwrap_or_default());
    println!("  lost        {:>6}", account.lost.len());
    println!("  twice       {:>6}", account.duplicated);
    for (server, count) in &account.by_server {
        println!("  {server:<10}  {count:>6}   received");
    }
    for line in operator::get(METRICS, "/metrics").await?.lines().filter(|line| line.starts_with(series)) {
        println!("  {line}");
    }
    ensure!(sent.refusals == 0, "the application was refused {} messages", sent.refusals);
    ensure!(account.lost.is_empty() && account.duplicated == 0, "{account:?}");
    relay.signal(Signal::TERM)?;
    ensure!(relay.wait(WAIT_TIMEOUT).await?.success(), "the relay did not end in order: {}", relay.log_tail(15));
    operator.terminate(WAIT_TIMEOUT).await?;
    Ok(())
}
