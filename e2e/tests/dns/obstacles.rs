//! What stands in the way: others who write, servers that are down, hang or are late, and refusals.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use mail_failover_api::MailRoute;
use mail_failover_e2e::assertions::{api, change, wait_condition, wait_leads_to};
use mail_failover_e2e::eventually::eventually;
use mail_failover_e2e::fixture::{WAIT_TIMEOUT, condition, events, route_status};
use mail_failover_e2e::mail::server::Fault;
use mail_failover_e2e::name_server::{BindOptions, KEY_NAME, NameServer};
use mail_failover_e2e::test_env::TestEnv;
use serde_json::json;
use tokio::net::TcpListener;

use crate::arena::{Arena, BOUNCE, dns_status, wait_dns};
use crate::exchanger;

pub async fn others(env: Arc<TestEnv>) -> Result<()> {
    let server = NameServer::bind(&env, "primary", env.ipv4(), &BindOptions::default()).await?;
    // MX that say already what the route would write for one of its backends are taken over.
    server.nsupdate(&[&format!("update add {BOUNCE} 3600 MX 10 mx.standby.example.")])?;
    server.nsupdate(&["update add news.shop.example 3600 MX 10 mx.elsewhere.example."])?;
    let arena = Arena::create(&env, &[&server], json!({})).await?;
    let _operator = arena.start_operator("a", &[]).await?;
    arena.move_to("primary").await?;
    ensure!(server.dig(BOUNCE, "MX")? == exchanger("primary"));

    // Another's MX, and those of another route.
    let mut outputs = serde_json::to_value(api::<MailRoute>(&env).get("orders").await?.spec.outputs)?;
    let mut foreign = outputs[1].clone();
    foreign["dns"]["name"] = json!("news.shop.example");
    let spec = json!({ "apiVersion": "mailfailover.io/v1alpha1", "kind": "MailRoute", "metadata": { "name": "news" },
        "spec": { "policyRef": { "name": "fast" }, "backends": [{ "name": "primary" }, { "name": "standby" }],
            "outputs": [foreign] } });
    env.apply(&format!("---\n{spec}\n")).await?;
    let message = wait_condition(&env, "news", "DnsApplied", "False", "DnsConflict").await?;
    ensure!(message.contains("news.shop.example MX exists (10 mx.elsewhere.example)"), "{message}");
    ensure!(server.dig("news.shop.example", "MX")? == ["10 mx.elsewhere.example."]);
    outputs[1]["dns"]["name"] = json!(BOUNCE);
    change::<MailRoute>(&env, "news", &json!({ "spec": { "outputs": [outputs[1]] } })).await?;
    let message = eventually(WAIT_TIMEOUT, "the owner to be named", async || {
        let status = route_status(&env, "news").await?;
        let applied = status.conditions.into_iter().find(|one| one.type_ == "DnsApplied").context("DnsApplied")?;
        Ok(applied.message.contains("belongs to").then_some(applied.message))
    })
    .await?;
    ensure!(message.contains(&format!("MailRoute {}/orders of the operator default", env.namespace())), "{message}");
    ensure!(server.dig(BOUNCE, "MX")? == exchanger("primary"));
    api::<MailRoute>(&env).delete("news", &kube::api::DeleteParams::default()).await?;

    // Drift.
    server.nsupdate(&[
        &format!("update delete {BOUNCE} MX"),
        &format!("update add {BOUNCE} 60 MX 10 mx.elsewhere.example."),
    ])?;
    eventually(Duration::from_secs(90), "the records to be put right", async || {
        Ok((server.dig(BOUNCE, "MX")? == exchanger("primary")).then_some(()))
    })
    .await?;

    // A route that is deleted leaves its records: mail goes on to be taken.
    api::<MailRoute>(&env).delete("orders", &kube::api::DeleteParams::default()).await?;
    tokio::time::sleep(Duration::from_secs(2)).await;
    ensure!(server.dig(BOUNCE, "MX")? == exchanger("primary"));
    Ok(())
}

pub async fn killed(env: Arc<TestEnv>) -> Result<()> {
    let server = NameServer::bind(&env, "primary", env.ipv4(), &BindOptions::default()).await?;
    let arena = Arena::create(&env, &[&server], json!({ "await": true })).await?;
    let mut operator = arena.start_operator("a", &[]).await?;
    arena.move_to("primary").await?;
    for round in 0..3 {
        let backend = if round % 2 == 0 { "standby" } else { "primary" };
        // The server hangs, so that the operator dies after its decision and before the zone has followed.
        server.pause()?;
        if backend == "standby" {
            arena.fixture.primary.set_fault(Fault::Refuse).await?;
        } else {
            arena.fixture.primary.repair().await?;
        }
        eventually(WAIT_TIMEOUT, "the decision", async || {
            let active = route_status(&env, "orders").await?.active;
            Ok(active.first().is_some_and(|active| active.backend == backend).then_some(()))
        })
        .await?;
        operator.kill();
        drop(operator);
        operator = arena.start_operator(&format!("b{round}"), &[]).await?;
        let waiting = dns_status(&env).await?;
        ensure!(waiting.applied != waiting.wanted || waiting.failure.is_some(), "not yet: {waiting:?}");
        server.resume()?;
        arena.wait_led(backend).await?;
        ensure!(server.dig(BOUNCE, "MX")? == exchanger(backend));
        eventually(WAIT_TIMEOUT, "the move to count as applied", async || {
            let last = route_status(&env, "orders").await?.last_transition;
            Ok(last.is_some_and(|last| last.to == backend && last.applied_at.is_some()).then_some(()))
        })
        .await?;
    }
    Ok(())
}

pub async fn down(env: Arc<TestEnv>) -> Result<()> {
    let mut server = NameServer::bind(&env, "primary", env.ipv4(), &BindOptions::default()).await?;
    let arena = Arena::create(&env, &[&server], json!({ "timeout": "2s" })).await?;
    let _operator = arena.start_operator("a", &[]).await?;
    arena.move_to("primary").await?;
    server.kill();
    arena.fixture.primary.set_fault(Fault::Refuse).await?;
    let status = arena.fixture.wait_active("standby").await?;
    let last = status.last_transition.context("a transition")?;
    let took = last.applied_at.context("applied")?.0.duration_since(last.decided_at.0);
    println!("from decision to Service with a dead DNS server: {took:?}");
    wait_leads_to(&env, "mail", &[arena.fixture.standby.address().ip().to_string()]).await?;
    wait_dns(&env, "the dead server to be named", |output| {
        output.failure.as_ref().is_some_and(|failure| failure.message.contains("Connection refused"))
    })
    .await?;
    wait_condition(&env, "orders", "DnsApplied", "False", "DnsFailing").await?;
    let status = route_status(&env, "orders").await?;
    ensure!(condition(&status, "Ready").0 == "True" && condition(&status, "OutputsApplied").0 == "True", "{status:?}");
    eventually(WAIT_TIMEOUT, "the Event", async || {
        Ok(events(&env, "orders").await?.contains(&"DnsFailing".to_owned()).then_some(()))
    })
    .await?;
    server.restart().await?;
    arena.wait_led("standby").await?;
    ensure!(server.dig(BOUNCE, "MX")? == exchanger("standby"));

    // One that takes connections and says nothing, before one that answers.
    let silent = TcpListener::bind((env.ipv4(), 53)).await?;
    let servers = [silent.local_addr()?.to_string(), server.address().to_string()];
    arena.edit(json!({ "timeout": "4s", "rfc2136": { "servers": servers } })).await?;
    arena.move_to("primary").await?;
    ensure!(server.dig(BOUNCE, "MX")? == exchanger("primary"));
    arena.edit(json!({ "timeout": "1s", "rfc2136": { "servers": [silent.local_addr()?.to_string()] } })).await?;
    wait_dns(&env, "the silent server to be named", |output| {
        output.failure.as_ref().is_some_and(|failure| failure.message.contains("no answer within 1.0 s"))
    })
    .await
    .map(drop)
}

pub async fn late_secondary(env: Arc<TestEnv>) -> Result<()> {
    let (first, second) = (env.ipv4(), env.ipv4());
    // Nobody tells the secondary: it looks every five seconds.
    let options = BindOptions { refresh: 5, name_servers: vec![first, second], ..BindOptions::default() };
    let primary = NameServer::bind(&env, "primary", first, &options).await?;
    let secondary = NameServer::bind_secondary(&env, "secondary", second, &primary).await?;
    let authorities = [&primary, &secondary].map(|server| server.address().to_string());
    let arena =
        Arena::create(&env, &[&primary], json!({ "await": true, "rfc2136": { "authorities": authorities } })).await?;
    let _operator = arena.start_operator("a", &[]).await?;
    arena.move_to("primary").await?;
    let moves = async {
        let mut named = false;
        for backend in ["standby", "primary", "standby", "primary"] {
            if backend == "primary" {
                arena.fixture.primary.repair().await?;
            } else {
                arena.fixture.primary.set_fault(Fault::Refuse).await?;
            }
            let led = eventually(WAIT_TIMEOUT, "the secondary to follow", async || {
                let output = dns_status(&env).await?;
                let text = output.failure.map(|failure| failure.message).unwrap_or_default();
                named |= text.contains(&format!("{} still says 10 mx.", secondary.address()));
                let is_led = output.applied == output.wanted && output.active.iter().any(|one| one.backend == backend);
                Ok(is_led.then_some(()))
            });
            led.await?;
            ensure!(secondary.dig(BOUNCE, "MX")? == exchanger(backend), "it counts as led only now");
        }
        Ok(named)
    };
    let named: Result<bool> = moves.await;
    ensure!(named?, "the secondary that is late is named");
    Ok(())
}

pub async fn refusals(env: Arc<TestEnv>) -> Result<()> {
    let grants = format!("grant {KEY_NAME} name {BOUNCE}. MX; grant {KEY_NAME} name _mail-failover-mx.{BOUNCE}. TXT;");
    let options = BindOptions { grants, ..BindOptions::default() };
    let server = NameServer::bind(&env, "primary", env.ipv4(), &options).await?;
    let arena = Arena::create(&env, &[&server], json!({})).await?;
    let _operator = arena.start_operator("a", &[]).await?;
    // The least privilege is enough.
    arena.move_to("primary").await?;
    for (change, told) in [
        (
            json!({ "rfc2136": { "tsigSecretRef": { "name": "other-name" } } }),
            "does not know the TSIG key nobody (BADKEY)",
        ),
        (json!({ "rfc2136": { "tsigSecretRef": { "name": "other-key" } } }), "is not ours (BADSIG)"),
        (
            json!({ "name": "elsewhere.shop.example", "rfc2136": { "tsigSecretRef": { "name": "tsig" } } }),
            "(REFUSED); let the key mail-failover update it",
        ),
        (json!({ "zone": "elsewhere.example", "name": "elsewhere.example" }), "elsewhere.example"),
    ] {
        arena.edit(change).await?;
        let output = wait_dns(&env, &format!("to be told of {told}"), |output| {
            output.failure.as_ref().is_some_and(|failure| failure.message.contains(told))
        })
        .await?;
        println!("{}", output.failure.context("a failure")?.message);
    }
    arena.edit(json!({ "zone": "shop.example", "name": BOUNCE })).await?;
    arena.wait_led("primary").await?;
    ensure!(server.dig("elsewhere.shop.example", "MX")?.is_empty());
    Ok(())
}
