//! A zone that is led by the API of Route 53, as moto imitates it. A BIND publishes what moto has accepted.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use mail_failover_e2e::assertions::metric_sum;
use mail_failover_e2e::eventually::eventually;
use mail_failover_e2e::fixture::condition;
use mail_failover_e2e::fixture::route_status;
use mail_failover_e2e::mail::certificates::{Authority, Validity};
use mail_failover_e2e::moto::Moto;
use mail_failover_e2e::name_server::{BindOptions, NameServer};
use mail_failover_e2e::test_env::TestEnv;
use serde_json::json;

use crate::arena::{Arena, BOUNCE, dns_status, wait_dns};
use crate::exchanger;

pub async fn moto(env: Arc<TestEnv>) -> Result<()> {
    let publisher = NameServer::bind(&env, "publisher", env.ipv4(), &BindOptions::default()).await?;
    let authority = Authority::new()?;
    let address = SocketAddr::new(env.ipv4(), 443);
    let identity = authority.issue(&[&address.ip().to_string()], Validity::Valid)?;
    let moto = Moto::start(&env, address, &identity, &publisher).await?;
    let secret = json!({ "apiVersion": "v1", "kind": "Secret", "metadata": { "name": "aws" },
        "type": "mailfailover.io/dns-api",
        "stringData": { "access-key-id": "AKIAIOSFODNN7EXAMPLE", "secret-access-key": "example" } });
    env.apply(&secret.to_string()).await?;
    let api = json!({ "route53": { "zoneId": moto.zone_id(), "url": moto.url() }, "secretRef": { "name": "aws" },
        "caRef": { "configMap": "moto-ca" }, "authorities": [publisher.address().to_string()] });
    let arena = Arena::create(&env, &[&publisher], json!({ "rfc2136": null, "api": api })).await?;
    let operator = arena.start_operator("a", &[]).await?;

    // The certificates are missing, and told of as such.
    wait_dns(&env, "the missing ConfigMap to be named", |output| {
        output.failure.as_ref().is_some_and(|failure| {
            failure.message.starts_with("api.caRef: key ca.crt of ConfigMap moto-ca does not exist")
        })
    })
    .await?;
    let config_map = json!({ "apiVersion": "v1", "kind": "ConfigMap", "metadata": { "name": "moto-ca" },
        "data": { "ca.crt": authority.pem() } });
    env.apply(&config_map.to_string()).await?;

    // There and back.
    for backend in ["primary", "standby", "primary", "standby", "primary"] {
        arena.move_to(backend).await?;
        ensure!(publisher.dig(BOUNCE, "MX")? == exchanger(backend), "{:?}", publisher.dig(BOUNCE, "MX")?);
    }
    let mark = publisher.dig(&format!("_mail-failover-mx.{BOUNCE}"), "TXT")?.join("");
    ensure!(mark.contains("heritage=mail-failover") && mark.contains("sequence=5"), "{mark}");

    // Nothing is written while nothing happens.
    let updates = metric_sum(&operator.metrics().await?, "mail_failover_dns_updates_total", |_| true);
    eventually(Duration::from_secs(150), "two looks at records in place", async || {
        let looks = metric_sum(&operator.metrics().await?, "mail_failover_dns_attempts_total", |labels| {
            labels.contains("in_place")
        });
        Ok((looks >= 2.0).then_some(()))
    })
    .await?;
    let after = metric_sum(&operator.metrics().await?, "mail_failover_dns_updates_total", |_| true);
    ensure!(updates.to_bits() == after.to_bits(), "{updates} and {after} writes");

    // A zone that moto does not have.
    arena.edit(json!({ "api": { "route53": { "zoneId": "Z000000000000" } } })).await?;
    let output = wait_dns(&env, "the missing zone to be named", |output| {
        output.failure.as_ref().is_some_and(|failure| failure.message.contains("has no such zone"))
    })
    .await?;
    println!("{}", output.failure.context("a failure")?.message);
    arena.edit(json!({ "api": { "route53": { "zoneId": moto.zone_id() } } })).await?;
    arena.wait_led("primary").await?;
    let message = eventually(Duration::from_secs(75), "the all-clear", async || {
        let status = route_status(&env, "orders").await?;
        let message = status.conditions.iter().find(|one| one.type_ == "DnsApplied").map(|one| one.message.clone());
        Ok(message.filter(|_| condition(&status, "DnsApplied").0 == "True"))
    })
    .await?;
    ensure!(message.contains("stay in the zone"), "what happens to the records is told before: {message}");
    ensure!(dns_status(&env).await?.destination.as_deref() == Some(moto.url().as_str()));
    Ok(())
}
