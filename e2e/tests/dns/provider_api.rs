//! A zone that is led by the HTTP API of a PowerDNS.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use mail_failover_e2e::assertions::{metric_sum, wait_condition, wait_leads_to};
use mail_failover_e2e::eventually::eventually;
use mail_failover_e2e::fixture::route_status;
use mail_failover_e2e::mail::server::Fault;
use mail_failover_e2e::name_server::{API_KEY, API_PORT, NameServer};
use mail_failover_e2e::test_env::TestEnv;
use serde_json::json;

use crate::arena::{Arena, BOUNCE, dns_status, wait_dns};
use crate::exchanger;

pub async fn power_dns(env: Arc<TestEnv>) -> Result<()> {
    let mut server = NameServer::power_dns(&env, "server", env.ipv4()).await?;
    for (name, token) in [("api", API_KEY), ("other-api", "another")] {
        let secret = json!({ "apiVersion": "v1", "kind": "Secret", "metadata": { "name": name },
            "type": "mailfailover.io/dns-api", "stringData": { "token": token } });
        env.apply(&secret.to_string()).await?;
    }
    let url = format!("http://{}:{API_PORT}", server.address().ip());
    let output = json!({ "rfc2136": null, "api": { "powerDns": { "url": url }, "secretRef": { "name": "api" },
        "authorities": [server.address().to_string()] } });
    let arena = Arena::create(&env, &[&server], output).await?;
    let ports = format!("--allow-webhook-ports={API_PORT}");
    let operator = arena.start_operator("a", &[&ports]).await?;

    // There and back.
    let mut took = vec![];
    for backend in ["primary", "standby", "primary", "standby", "primary"] {
        let status = arena.move_to(backend).await?;
        ensure!(server.dig(BOUNCE, "MX")? == exchanger(backend), "{:?}", server.dig(BOUNCE, "MX")?);
        if let Some(last) = route_status(&env, "orders").await?.last_transition.filter(|last| last.to == backend) {
            took.push(status.applied_at.context("applied")?.0.duration_since(last.decided_at.0));
        }
    }
    println!("from a decision until the authority has answered with the records, by the API of PowerDNS: {took:?}");
    let mark = server.dig(&format!("_mail-failover-mx.{BOUNCE}"), "TXT")?.join("");
    ensure!(mark.contains("heritage=mail-failover") && mark.contains("sequence=5"), "{mark}");

    // Nothing is written while nothing happens.
    let serial = server.dig("shop.example", "SOA")?;
    eventually(Duration::from_secs(150), "two looks at records in place", async || {
        let looks = metric_sum(&operator.metrics().await?, "mail_failover_dns_attempts_total", |labels| {
            labels.contains("in_place")
        });
        Ok((looks >= 2.0).then_some(()))
    })
    .await?;
    ensure!(server.dig("shop.example", "SOA")? == serial, "the zone was not written");

    // Drift is put right, and what is somebody else's is left alone.
    server.nsupdate(&[
        &format!("update delete {BOUNCE} MX"),
        &format!("update add {BOUNCE} 60 MX 10 mx.elsewhere.example."),
        "update add news.shop.example 3600 MX 10 mx.elsewhere.example.",
    ])?;
    eventually(Duration::from_secs(90), "the records to be put right", async || {
        Ok((server.dig(BOUNCE, "MX")? == exchanger("primary")).then_some(()))
    })
    .await?;
    arena.edit(json!({ "name": "news.shop.example" })).await?;
    let message = wait_condition(&env, "orders", "DnsApplied", "False", "DnsConflict").await?;
    ensure!(message.contains("news.shop.example MX exists (10 mx.elsewhere.example)"), "{message}");
    arena.edit(json!({ "name": BOUNCE })).await?;
    arena.wait_led("primary").await?;

    // Refusals.
    for (edit, told) in [
        (json!({ "api": { "secretRef": { "name": "other-api" } } }), "does not accept the credentials (401)"),
        (
            json!({ "api": { "secretRef": { "name": "api" } }, "zone": "elsewhere.example", "name": "elsewhere.example" }),
            "has no such zone",
        ),
    ] {
        arena.edit(edit).await?;
        let output = wait_dns(&env, &format!("to be told of {told}"), |output| {
            output.failure.as_ref().is_some_and(|failure| failure.message.contains(told))
        })
        .await?;
        println!("{}", output.failure.context("a failure")?.message);
    }
    arena.edit(json!({ "zone": "shop.example", "name": BOUNCE })).await?;
    arena.wait_led("primary").await?;

    // A dead server costs the Service nothing, and is led once it is back.
    server.kill();
    arena.fixture.primary.set_fault(Fault::Refuse).await?;
    arena.fixture.wait_active("standby").await?;
    wait_leads_to(&env, "mail", &[arena.fixture.standby.address().ip().to_string()]).await?;
    wait_dns(&env, "the dead server to be named", |output| {
        output.failure.as_ref().is_some_and(|failure| failure.message.contains("Connection refused"))
    })
    .await?;
    server.restart().await?;
    arena.wait_led("standby").await?;
    ensure!(server.dig(BOUNCE, "MX")? == exchanger("standby"));
    ensure!(dns_status(&env).await?.destination.as_deref() == Some(url.as_str()));
    Ok(())
}
