//! A provider of many routes dies in one moment: from the first decision to the last `EndpointSlice` that leads to the
//! standby, beside what the API server needs for as many writes of a status and of a slice in the same run.

mod follow;
mod provider;

use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context, Result, ensure};
use futures::{StreamExt, TryStreamExt, stream};
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::ConfigMap;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::api::events::v1::Event;
use kube::api::{ListParams, Patch, PatchParams};
use kube::{Api, Client, ResourceExt};
use mail_failover_api::{Health, MailRoute, SendingBackend, TransitionKind};
use mail_failover_e2e::bench::{self, Arguments, load, machine};
use mail_failover_e2e::control_plane::install_crds;
use mail_failover_e2e::eventually::eventually;
use mail_failover_e2e::operator::Operator;
use mail_failover_e2e::service_account;
use mail_failover_e2e::test_env::TestEnv;
use mail_failover_operator::output::FIELD_MANAGER;
use serde_json::json;

use self::follow::Seen;
use self::provider::{Fleet, STANDBY};

/// Namespace and service account in `config/base/rbac.yaml`.
const ACCOUNT: (&str, &str) = ("mail-failover", "mail-failover-operator");
const MANIFESTS: [&str; 2] =
    [include_str!("../../config/base/namespace.yaml"), include_str!("../../config/base/rbac.yaml")];
/// Manager of fields in statuses, as in `src/controller/applier.rs`.
const STATUS_MANAGER: &str = "mail-failover-status";
/// Writes in flight when the API server is measured alone.
const IN_FLIGHT: usize = 8;
/// The part of the API server's time that the failover may take.
const GOAL: f64 = 1.3;
/// The time in which everything happens.
const WAIT_TIMEOUT: Duration = Duration::from_mins(5);
/// Limit on the memory of the operator in the chart's `values.yaml`.
const LIMIT: u64 = 256 * 1024 * 1024;
/// Time after which an operator without objects is at rest.
const REST: Duration = Duration::from_secs(5);
const SIZES: [usize; 2] = [1000, 100];

fn main() -> ExitCode {
    bench::run("the bench of mass failovers", measure)
}

async fn measure(env: Arc<TestEnv>, arguments: Arguments) -> Result<()> {
    let size = SIZES[usize::from(arguments.quick)];
    println!("{}; load {}", machine(), load());
    install_crds(&env.client()).await?;
    env.kubectl_with_input(&["apply", "--namespace", ACCOUNT.0, "-f", "-"], &MANIFESTS.join("---\n")).await?;
    let kubeconfig = env.folder().join("operator.kubeconfig");
    service_account::write_kubeconfig(&env, ACCOUNT.0, ACCOUNT.1, &kubeconfig).await?;

    let mut options = env.operator_options("bench")?;
    kubeconfig.clone_into(&mut options.kubeconfig);
    ACCOUNT.0.clone_into(&mut options.lease_namespace);
    options.arguments = ["--allow-destinations", provider::RANGE, "--allow-ports", "1-65535"].map(Into::into).into();
    // Without objects first: what a route takes is what comes on top of it.
    let idle = env.start_operator_with(&options)?;
    idle.wait_ready(WAIT_TIMEOUT).await?;
    tokio::time::sleep(REST).await;
    let without = resident(&idle)?;
    idle.terminate(Duration::from_secs(30)).await?;

    let fleet = Fleet::create(&env, size).await?;
    let operator = env.start_operator_with(&options)?;
    operator.wait_ready(WAIT_TIMEOUT).await?;
    let begun = Instant::now();
    let routes: Api<MailRoute> = Api::namespaced(env.client(), env.namespace());
    wait_settled(&routes, size, "backend-").await?;
    println!(
        "{size} routes settled {:.1} s after the operator was ready; load {}",
        begun.elapsed().as_secs_f64(),
        load()
    );

    let took = fail_over(&env, &fleet, &routes, size).await?;
    tell_memory(without, resident(&operator)?, size);
    operator.terminate(Duration::from_secs(30)).await?;

    let client = service_account::client(&kubeconfig).await?;
    let [statuses, slices] = possible(&client, &env, size).await?;
    let possible = statuses + slices;
    let ratio = took.as_secs_f64() / possible.as_secs_f64();
    println!(
        "the API server alone, {IN_FLIGHT} in flight: {size} statuses in {:.2} s and {size} slices in {:.2} s",
        statuses.as_secs_f64(),
        slices.as_secs_f64()
    );
    let met = if ratio <= GOAL { "met" } else { "NOT met" };
    println!(
        "first decision to last slice: {:.2} s, {ratio:.2} of that (goal {GOAL}: {met}); load {}",
        took.as_secs_f64(),
        load()
    );
    Ok(())
}

/// Waits until the mail of all routes leaves by a backend of this name, and everything is written.
async fn wait_settled(routes: &Api<MailRoute>, size: usize, prefix: &str) -> Result<()> {
    eventually(WAIT_TIMEOUT, "all routes to be settled", async || {
        let mut settled = 0;
        for route in routes.list(&ListParams::default()).await?.items {
            let status = route.status.unwrap_or_default();
            let is_there = status.active.first().is_some_and(|active| active.backend.starts_with(prefix));
            let is_applied = status.last_transition.is_none_or(|last| last.applied_at.is_some());
            settled += usize::from(is_there && is_applied && status.pending_events.is_empty());
        }
        ensure!(settled == size, "{settled} of {size}");
        Ok(Some(()))
    })
    .await
}

/// Kills the provider. Returns the time from the first decision to the last slice.
async fn fail_over(env: &TestEnv, fleet: &Fleet, routes: &Api<MailRoute>, size: usize) -> Result<Duration> {
    let (client, namespace) = (env.client(), env.namespace());
    let standby = fleet.standby.address().ip().to_string();
    let leads_there = standby.clone();
    let slices = Seen::follow(Api::<EndpointSlice>::namespaced(client.clone(), namespace), move |slice| {
        slice.endpoints.iter().any(|endpoint| endpoint.addresses.contains(&leads_there))
    });
    let config_maps = Seen::follow(Api::<ConfigMap>::namespaced(client.clone(), namespace), move |map| {
        map.data.iter().flatten().any(|(_, value)| *value == standby)
    });
    let statuses = Seen::follow(Api::<MailRoute>::namespaced(client.clone(), namespace), is_applied);
    let of_backends = Seen::follow(Api::<SendingBackend>::namespaced(client.clone(), namespace), is_unhealthy);
    let events = Seen::follow(Api::<Event>::namespaced(client.clone(), namespace), |_| true);
    let renewals = Seen::follow(Api::<Lease>::namespaced(client, ACCOUNT.0), |_| true);
    tokio::time::sleep(Duration::from_secs(5)).await;
    let events_before = events.all().len();

    let died = SystemTime::now();
    fleet.provider.crash().await?;
    eventually(WAIT_TIMEOUT, "all slices to lead to the standby", async || {
        let moved = slices.all().len();
        ensure!(moved == size, "{moved} of {size} slices");
        Ok(Some(()))
    })
    .await?;
    let last = slices.all().into_iter().map(|(_, at)| at).max().context("a slice")?;
    wait_settled(routes, size, STANDBY).await?;
    let settled = SystemTime::now();

    let mut decided = vec![];
    for route in routes.list(&ListParams::default()).await?.items {
        let name = route.name_any();
        let transition = route.status.and_then(|status| status.last_transition).context("a transition")?;
        ensure!(transition.kind == TransitionKind::Failover, "{name}: {transition:?}");
        let evidence = transition.first_evidence_at.context("evidence")?;
        decided.push((SystemTime::from(evidence.0), SystemTime::from(transition.decided_at.0), name));
    }
    decided.sort();
    let first = decided.iter().map(|(_, at, _)| *at).min().context("a decision")?;
    println!(
        "died; first decision after {:.2} s, last slice after {:.2} s, everything written after {:.2} s",
        between(died, first),
        between(died, last),
        between(died, settled)
    );
    let moved = slices.all();
    let at = |name: &str| {
        let found = moved.iter().find(|(slice, _)| slice.starts_with(name) && slice[name.len()..].starts_with('-'));
        found.map(|(_, at)| between(first, *at))
    };
    let by_evidence: Vec<_> = decided.iter().filter_map(|(_, _, name)| at(name)).collect();
    decided.sort_by(|(_, _, name), (_, _, other)| name.cmp(other));
    let by_name: Vec<_> = decided.iter().filter_map(|(_, _, name)| at(name)).collect();
    println!(
        "mean time of the slices after the first decision, by quarters of the age of their evidence: {}",
        quarters(&by_evidence)
    );
    println!("by quarters of the alphabet: {}", quarters(&by_name));
    println!(
        "before the last slice: {} of {size} ConfigMaps, {} second statuses of routes, {} statuses of backends, {} Events",
        before(&config_maps, last),
        before(&statuses, last),
        before(&of_backends, last),
        before(&events, last) - events_before
    );
    let leases = renewals.all_times();
    // A Lease that is not renewed at all has a gap, too: from the beginning, and up to the end.
    let mut times = vec![died];
    times.extend(leases.iter().copied().filter(|at| *at > died));
    times.push(SystemTime::now());
    let gap = times.windows(2).map(|pair| between(pair[0], pair[1])).fold(0.0, f64::max);
    println!("the Lease was renewed {} times since it died; longest gap {gap:.1} s", times.len() - 2);
    Ok(last.duration_since(first).unwrap_or_default())
}

/// Returns true if the status says that the outputs of a failover are written.
fn is_applied(route: &MailRoute) -> bool {
    let last = route.status.as_ref().and_then(|status| status.last_transition.as_ref());
    last.is_some_and(|last| last.kind == TransitionKind::Failover && last.applied_at.is_some())
}

fn is_unhealthy(backend: &SendingBackend) -> bool {
    backend.status.as_ref().is_some_and(|status| status.health == Some(Health::Unhealthy))
}

fn before<K>(seen: &Seen<K>, last: SystemTime) -> usize {
    seen.all().into_iter().filter(|(_, at)| *at <= last).count()
}

fn between(from: SystemTime, until: SystemTime) -> f64 {
    until.duration_since(from).unwrap_or_default().as_secs_f64()
}

#[expect(clippy::cast_precision_loss, reason = "a thousand")]
fn quarters(times: &[f64]) -> String {
    let quarter = times.len().div_ceil(4).max(1);
    let means = times.chunks(quarter).map(|some| format!("{:.2} s", some.iter().sum::<f64>() / some.len() as f64));
    means.collect::<Vec<_>>().join(", ")
}

/// Resident memory of an operator, in bytes.
fn resident(operator: &Operator) -> Result<u64> {
    Ok(bench::Usage::of(operator.id())?.resident)
}

/// Prints what a route takes, with a backend of its own, and how many the chart's limit has room for.
fn tell_memory(without: u64, with: u64, size: usize) {
    let routes = u64::try_from(size).unwrap_or(u64::MAX).max(1);
    let of_route = with.saturating_sub(without) / routes;
    let room = LIMIT.saturating_sub(without).checked_div(of_route);
    let room = room.map_or_else(|| "any number".to_owned(), |room| room.to_string());
    println!(
        "memory: {} MB, without routes {} MB: {} kB a route with its backend; the chart's limit of {} MiB has room for {room}",
        with / 1_000_000,
        without / 1_000_000,
        of_route / 1000,
        LIMIT / 1024 / 1024
    );
}

/// The times that the API server takes for a write of each status and of each slice, as large as the operator's.
async fn possible(client: &Client, env: &TestEnv, size: usize) -> Result<[Duration; 2]> {
    let routes: Api<MailRoute> = Api::namespaced(client.clone(), env.namespace());
    let mut patches = vec![];
    for route in routes.list(&ListParams::default()).await?.items {
        let mut status = route.status.clone().context("a status")?;
        status.message = Some("measured alone".to_owned());
        patches.push((route.name_any(), json!({ "status": status })));
    }
    ensure!(patches.len() == size, "{} routes", patches.len());
    let begun = Instant::now();
    let params = PatchParams { field_manager: Some(STATUS_MANAGER.to_owned()), ..PatchParams::default() };
    stream::iter(&patches)
        .map(async |(name, patch)| routes.patch_status(name, &params, &Patch::Merge(patch)).await)
        .buffer_unordered(IN_FLIGHT)
        .try_for_each(async |_| Ok(()))
        .await?;
    let statuses = begun.elapsed();

    let slices: Api<EndpointSlice> = Api::namespaced(client.clone(), env.namespace());
    let mut patches = vec![];
    for slice in slices.list(&ListParams::default()).await?.items {
        let mut endpoints = slice.endpoints.clone();
        for endpoint in &mut endpoints {
            endpoint.addresses = vec![provider::address(0)?.ip().to_string()];
        }
        patches.push((slice.name_any(), json!({ "endpoints": endpoints })));
    }
    ensure!(patches.len() == size, "{} slices", patches.len());
    let begun = Instant::now();
    let params = PatchParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PatchParams::default() };
    stream::iter(&patches)
        .map(async |(name, patch)| slices.patch(name, &params, &Patch::Merge(patch)).await)
        .buffer_unordered(IN_FLIGHT)
        .try_for_each(async |_| Ok(()))
        .await?;
    Ok([statuses, begun.elapsed()])
}
