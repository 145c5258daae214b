//! Everything at once, for five minutes.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::Api;
use kube::api::ListParams;
use mail_failover_api::{MailRoute, SendingBackend};
use mail_failover_e2e::assertions::metric_sum;
use mail_failover_e2e::eventually::eventually;
use mail_failover_e2e::fixture::WAIT_TIMEOUT;
use mail_failover_e2e::mail::server::{self, SmtpServer};
use mail_failover_e2e::suite::{Trial, trial};
use mail_failover_e2e::test_env::TestEnv;
use serde_json::json;
use tokio::time::sleep;
use tokio_util::task::AbortOnDropHandle;

use super::arena::{Arena, listen, object};
use super::flood::{FLAPPING, Flood};
use super::tarpit::{PORT, tarpits};

/// What a service says that does not speak SMTP.
const SECRET: &str = "hunter2";

pub fn trial_of_everything() -> Trial {
    trial("a tenant who attacks delays no failover of another, and sees nothing of others' servers", attack)
        .needs_control()
        .listens()
        .alone()
}

/// More verdicts than a report has room for.
fn thousand_failures(closed: SocketAddr) -> String {
    let probe = json!([{ "name": "smtp", "interval": "1s", "timeout": "1s", "smtp": { "depth": "Connect" } }]);
    let backend = json!({ "smtp": { "host": closed.ip(), "port": closed.port() }, "probes": probe });
    let names: Vec<_> = (0..100).map(|number| json!({ "name": format!("dead-{number}") })).collect();
    let mut text = String::new();
    for number in 0..100 {
        text += &object("SendingBackend", &format!("dead-{number}"), &backend);
    }
    for failures in 1..=11 {
        let name = format!("policy-{failures}");
        text += &object("FailoverPolicy", &name, &json!({ "failure": { "consecutive": failures } }));
        let route = json!({ "policyRef": { "name": name }, "backends": names, "outputs": [{ "configMap": { "name": name, "format": "Env" } }] });
        text += &object("MailRoute", &name, &route);
    }
    text
}

/// Backends that turn with each look at them.
fn flapping(address: SocketAddr) -> String {
    let count = 20;
    let probe = json!([{ "name": "smtp", "interval": "200ms", "timeout": "200ms", "smtp": { "depth": "Banner" } }]);
    let backend = json!({ "smtp": { "host": address.ip(), "port": address.port() }, "probes": probe });
    let names: Vec<_> = (0..count).map(|number| json!({ "name": format!("{FLAPPING}{number}") })).collect();
    let policy = json!({ "failure": { "consecutive": 1 }, "recovery": { "consecutive": 1 } });
    let route = json!({ "policyRef": { "name": "nervous" }, "backends": names, "outputs": [{ "configMap": { "name": "nervous", "format": "Env" } }] });
    let mut text = object("FailoverPolicy", "nervous", &policy) + &object("MailRoute", "nervous", &route);
    for number in 0..count {
        text += &object("SendingBackend", &format!("{FLAPPING}{number}"), &backend);
    }
    text
}

/// Backends with an authority that does not exist.
fn without_authority(address: SocketAddr) -> String {
    let mut text = String::new();
    for number in 0..2000 {
        let smtp = json!({ "host": address.ip(), "port": address.port(),
            "tls": { "mode": "StartTLS", "caRef": { "configMap": format!("nowhere-{number}") } } });
        text += &object("SendingBackend", &format!("ca-{number}"), &json!({ "smtp": smtp, "suspended": true }));
    }
    text
}

/// Backends that look at what the operator alone reaches, and a route that leads there.
fn scouts(foreign: SocketAddr) -> String {
    let probe = json!([{ "name": "smtp", "interval": "1s", "timeout": "1s", "smtp": { "depth": "Banner" } }]);
    let mut text = String::new();
    for (name, host, port) in [
        ("loopback", "localhost".to_owned(), 22),
        ("metadata", "168.63.129.16".to_owned(), 80),
        ("translated", "64:ff9b::a9fe:a9fe".to_owned(), 80),
        ("foreign", foreign.ip().to_string(), foreign.port()),
    ] {
        let spec = json!({ "smtp": { "host": host, "port": port }, "probes": probe });
        text += &object("SendingBackend", name, &spec);
    }
    let outputs = json!([{ "service": { "name": "dashboard", "ports": [{ "name": "http", "port": 80 }] } }]);
    text + &object("MailRoute", "dashboard", &json!({ "backends": [{ "name": "metadata" }], "outputs": outputs }))
}

async fn attack(env: Arc<TestEnv>) -> Result<()> {
    let arena = Arena::create(env.clone(), &[]).await?;
    let alone = arena.fail_over_for("alone", Duration::from_mins(1)).await?;
    let (bound, alone) = (alone.bound(), alone.median);

    let [tarpit, closed, foreign, nervous] = [PORT, 2601, 6379, 2602].map(|port| SocketAddr::new(env.ipv4(), port));
    let _tarpit = listen(tarpit, None).await?;
    let _foreign = listen(foreign, Some("-DENIED Redis protected mode token=hunter2\r\n")).await?;
    let flapper = SmtpServer::start(server::Options::new("flapper", nervous)).await?;
    let _flapping = AbortOnDropHandle::new(tokio::spawn(async move {
        loop {
            // What fails here is not what is tried.
            let _ = flapper.crash().await;
            sleep(Duration::from_millis(700)).await;
            let _ = flapper.repair().await;
            sleep(Duration::from_millis(700)).await;
        }
    }));
    let waves = [
        scouts(foreign),
        tarpits(70, &[tarpit.ip().to_string()]),
        thousand_failures(closed),
        flapping(nervous),
        without_authority(closed),
    ];
    let flood = Flood::follow(&arena);
    arena.apply(&waves.concat()).await?;
    let attacked = arena.fail_over_for("under attack", Duration::from_mins(5)).await?.median;
    ensure!(
        attacked <= bound,
        "a failover takes {attacked:.2?} under attack, and {alone:.2?} alone: {bound:.2?} at most"
    );

    scouts_saw_nothing(&arena).await?;
    quorum_stays(&arena).await?;
    flood.is_bounded(&arena).await?;
    arena
        .env
        .kubectl(&["delete", "sendingbackends,mailroutes", "--all", "--wait=false", "--namespace", &arena.evil])
        .await?;
    let after = arena.fail_over_for("after the attack", Duration::from_secs(30)).await?.median;
    ensure!(after <= bound, "a failover takes {after:.2?} after the attack, and {alone:.2?} before it");
    Ok(())
}

/// Neither a status nor a Service of the tenant leads to what only the operator reaches.
async fn scouts_saw_nothing(arena: &Arena) -> Result<()> {
    let backends: Api<SendingBackend> = Api::namespaced(arena.env.client(), &arena.evil);
    for (name, told) in [
        ("loopback", "a loopback address"),
        ("metadata", "a metadata service of a cloud"),
        ("translated", "leads to 169.254.169.254"),
    ] {
        let message = eventually(WAIT_TIMEOUT, &format!("{name} to be refused"), async || {
            let status = backends.get(name).await?.status.unwrap_or_default();
            let probe = status.probes.into_iter().next().context("a probe")?;
            if probe.reason != "ProbeBlocked" {
                bail!("{probe:?}");
            }
            Ok(probe.message)
        })
        .await?;
        ensure!(message.contains(told) && message.contains("--allow-destinations"), "{name}: {message}");
    }
    let told = eventually(WAIT_TIMEOUT, "the foreign server to be seen", async || {
        let status = backends.get("foreign").await?.status.unwrap_or_default();
        Ok(status.probes.into_iter().find(|probe| probe.reason == "ProtocolError"))
    })
    .await?;
    ensure!(told.message.as_deref() == Some("Banner: not an SMTP greeting (44 octets)"), "{told:?}");
    let all = backends.list(&ListParams::default()).await?.items;
    let statuses = serde_json::to_string(&all.into_iter().map(|backend| backend.status).collect::<Vec<_>>())?;
    ensure!(!statuses.contains(SECRET), "a status quotes a foreign server");

    let routes: Api<MailRoute> = Api::namespaced(arena.env.client(), &arena.evil);
    let dashboard = routes.get("dashboard").await?.status.unwrap_or_default();
    let slices: Api<EndpointSlice> = Api::namespaced(arena.env.client(), &arena.evil);
    let made = slices.list(&ListParams::default()).await?.items;
    ensure!(made.is_empty(), "{made:?} for {dashboard:?}");
    Ok(())
}

/// Both replicas still count for one another.
async fn quorum_stays(arena: &Arena) -> Result<()> {
    for replica in &arena.replicas {
        eventually(WAIT_TIMEOUT, "the other replica to count", async || {
            let metrics = replica.metrics().await?;
            let heard = metric_sum(&metrics, "mail_failover_observers", |labels| labels.contains("heard"));
            let silent = metric_sum(&metrics, "mail_failover_observer_report_silent_namespaces", |labels| {
                labels.contains("crowded")
            });
            Ok((heard > 0.5 && silent > 0.5).then_some(()))
        })
        .await?;
    }
    Ok(())
}
