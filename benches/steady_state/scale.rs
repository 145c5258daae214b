//! Ten thousand backends: an address each, one server behind them all, and routes of 10 to 100 of them.

use std::net::{Ipv4Addr, SocketAddr};
use std::ops::Range;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use futures::{StreamExt, TryStreamExt, stream};
use kube::api::{ListParams, PostParams};
use kube::{Api, Client};
use mail_failover_api::{MailRoute, RouteState, SendingBackend};
use mail_failover_e2e::control_plane::binaries::on_path;
use mail_failover_e2e::mail::server::{Options, SmtpServer};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

/// The addresses of the backends. They lead to this machine once [`start_server`] has added a
/// route.
const RANGE: &str = "10.32.0.0/12";
const FIRST: Ipv4Addr = Ipv4Addr::new(10, 32, 0, 1);
const PORT: u16 = 25;
/// Objects created at a time.
const CONCURRENT: usize = 32;
/// The numbers of backends of routes, in turns.
const SIZES: [usize; 5] = [10, 25, 50, 75, 100];

/// The interval and timeout of the probes, as in YAML and HAProxy's configuration.
pub const INTERVAL: &str = "10s";
pub const TIMEOUT: &str = "5s";

/// Starts one server for every address of the range.
pub async fn start_server() -> Result<SmtpServer> {
    let ip = on_path("ip").context("`ip` is not installed; it comes with iproute2")?;
    let output = Command::new(ip).args(["route", "add", "local", RANGE, "dev", "lo"]).output().context("ip route")?;
    if !output.status.success() {
        bail!("ip route add local {RANGE}: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    let mut options = Options::new("scale", (Ipv4Addr::UNSPECIFIED, PORT).into());
    // A start among ten thousand probes all of them within an interval, and no session may be turned away.
    options.max_sessions = 16_384;
    Ok(SmtpServer::start(options).await?)
}

/// The address of a backend.
pub fn address(number: usize) -> Result<SocketAddr> {
    let bits = FIRST.to_bits() + u32::try_from(number)?;
    Ok(SocketAddr::new(Ipv4Addr::from_bits(bits).into(), PORT))
}

/// The members of each route over these backends.
pub fn routes(backends: Range<usize>) -> Vec<Range<usize>> {
    let mut routes = Vec::new();
    let mut from = backends.start;
    for size in SIZES.into_iter().cycle() {
        if from >= backends.end {
            break;
        }
        let until = (from + size).min(backends.end);
        routes.push(from..until);
        from = until;
    }
    routes
}

/// Creates these backends and their routes, as fast as the API server accepts them, and returns the
/// duration.
pub async fn create(client: &Client, namespace: &str, backends: Range<usize>) -> Result<Duration> {
    let begun = Instant::now();
    let mut objects = Vec::new();
    for number in backends.clone() {
        objects.push(json!({
            "apiVersion": "mailfailover.io/v1alpha1",
            "kind": "SendingBackend",
            "metadata": { "name": format!("backend-{number}") },
            "spec": {
                "smtp": { "host": address(number)?.ip(), "port": PORT },
                "probes": [{ "name": "smtp", "interval": INTERVAL, "timeout": TIMEOUT, "smtp": {} }],
            },
        }));
    }
    create_all::<SendingBackend>(&Api::namespaced(client.clone(), namespace), objects).await?;
    let routes = routes(backends).into_iter().map(|members| {
        let name = format!("route-{}", members.start);
        json!({
            "apiVersion": "mailfailover.io/v1alpha1",
            "kind": "MailRoute",
            "metadata": { "name": name },
            "spec": {
                "backends": members.map(|number| json!({ "name": format!("backend-{number}") })).collect::<Vec<_>>(),
                "outputs": [
                    { "service": { "name": name, "ports": [{ "name": "smtp", "port": 25 }] } },
                    { "configMap": { "name": name, "format": "Env" } },
                ],
            },
        })
    });
    create_all::<MailRoute>(&Api::namespaced(client.clone(), namespace), routes.collect()).await?;
    Ok(begun.elapsed())
}

async fn create_all<K>(api: &Api<K>, objects: Vec<Value>) -> Result<()>
where
    K: Clone + DeserializeOwned + Serialize + std::fmt::Debug,
{
    stream::iter(objects)
        .map(|object| async move {
            let object: K = serde_json::from_value(object)?;
            api.create(&PostParams::default(), &object).await?;
            anyhow::Ok(())
        })
        .buffer_unordered(CONCURRENT)
        .try_collect::<()>()
        .await
        .context("cannot create the objects")
}

/// Checks that all routes lead to their first backend. The error contains the number of those that
/// do not.
pub async fn check_routes(client: &Client, namespace: &str) -> Result<usize> {
    let api: Api<MailRoute> = Api::namespaced(client.clone(), namespace);
    let routes = api.list(&ListParams::default()).await?.items;
    let preferred =
        |route: &&MailRoute| route.status.as_ref().is_some_and(|status| status.state == Some(RouteState::Preferred));
    let settled = routes.iter().filter(preferred).count();
    ensure!(settled == routes.len(), "{settled} of {} routes lead to their first backend", routes.len());
    Ok(settled)
}
