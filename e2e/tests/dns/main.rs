//! Trials of the output `dns` with BIND, Knot and PowerDNS, as dig sees them.

mod arena;
mod endpoint;
mod figures;
mod obstacles;
mod provider_api;
mod route53;
mod tutorial;
mod wire;

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use arena::{Arena, BOUNCE, dns_status, wait_dns};
use mail_failover_api::MailRoute;
use mail_failover_e2e::assertions::{api, change, metric_sum};
use mail_failover_e2e::environment::is_exhaustive;
use mail_failover_e2e::eventually::eventually;
use mail_failover_e2e::fixture::{WAIT_TIMEOUT, condition, route_status};
use mail_failover_e2e::mail::server::Fault;
use mail_failover_e2e::name_server::{BindOptions, NameServer, Software};
use mail_failover_e2e::suite::{self, Options, trial};
use mail_failover_e2e::test_env::TestEnv;
use serde_json::json;

fn main() -> ExitCode {
    let options = Options {
        operator: true,
        moto: is_exhaustive(),
        parallel: 5,
        deadline: Duration::from_mins(5),
        ..Options::default()
    };
    let mut trials = vec![
        trial(
            "dig sees the MX of a zone fail over and back at every name server, and nothing is written between",
            there_and_back,
        ),
        trial("records of a return path follow, and reordered exchangers keep every backend", records),
        trial("Knot's zone is led as BIND's is", async |env| other_software(env, Software::Knot).await),
        trial("PowerDNS' zone is led as BIND's is", async |env| other_software(env, Software::PowerDns).await),
        trial("what somebody else changes is put right, and what is somebody else's is left alone", obstacles::others),
        trial("an update of an old leader that arrives late is refused by the zone", wire::stale_leader),
        trial("an operator that is killed in a failover is followed by one that leads the zone", obstacles::killed),
        trial(
            "servers that are down or hang are told of, cost the Service nothing, and the next one is asked",
            obstacles::down,
        ),
        trial("a secondary that is late is named until it has followed", obstacles::late_secondary),
        trial("each refusal of a key is named with its remedy", obstacles::refusals),
        trial("the commands of the tutorial lead to what it says", tutorial::commands),
        trial("PowerDNS is led by its API", provider_api::power_dns),
        trial("external-dns is led by its object, and told of where it is missing", endpoint::followed),
        trial("from a decision to every authority", figures::actuation),
    ];
    // Its packages take pip a minute and a half.
    if is_exhaustive() {
        trials.push(trial("Route 53, as moto imitates it, is led by its API", route53::moto).needs_moto());
    }
    suite::run("dns", options, trials.into_iter().map(|one| one.listens().needs_name_servers()).collect())
}

/// What dig prints for the exchanger of a backend.
fn exchanger(backend: &str) -> Vec<String> {
    vec![format!("10 mx.{backend}.example.")]
}

async fn there_and_back(env: Arc<TestEnv>) -> Result<()> {
    let (first, second) = (env.ipv4(), env.ipv4());
    let options = BindOptions { told: vec![second], name_servers: vec![first, second], ..BindOptions::default() };
    let primary = NameServer::bind(&env, "primary", first, &options).await?;
    let secondary = NameServer::bind_secondary(&env, "secondary", second, &primary).await?;
    // The authorities are those of the zone's NS records, which the operator resolves.
    let arena = Arena::create(&env, &[&primary], json!({ "rfc2136": { "authorities": [] } })).await?;
    let operator = arena.start_operator("a", &["--dns-server", &primary.address().to_string()]).await?;
    for backend in ["primary", "standby", "primary", "standby", "primary"] {
        arena.move_to(backend).await?;
        // The status says so only after every authority does.
        for server in [&primary, &secondary] {
            ensure!(server.dig(BOUNCE, "MX")? == exchanger(backend), "{:?}", server.dig(BOUNCE, "MX")?);
        }
    }
    let mark = primary.dig(&format!("_mail-failover-mx.{BOUNCE}"), "TXT")?.join("");
    let resource = format!("mail-failover/resource=mailroute/{}/orders", env.namespace());
    ensure!(mark.contains("heritage=mail-failover") && mark.contains(&resource), "{mark}");
    let serial = primary.dig("shop.example", "SOA")?;
    let version = api::<MailRoute>(&env).get("orders").await?.metadata.resource_version;
    // Looks go on.
    eventually(Duration::from_secs(150), "two looks at records in place", async || {
        let looks = metric_sum(&operator.metrics().await?, "mail_failover_dns_attempts_total", |labels| {
            labels.contains("in_place")
        });
        Ok((looks >= 2.0).then_some(()))
    })
    .await?;
    ensure!(primary.dig("shop.example", "SOA")? == serial, "the zone was not written");
    ensure!(api::<MailRoute>(&env).get("orders").await?.metadata.resource_version == version, "nor the route");
    Ok(())
}

async fn records(env: Arc<TestEnv>) -> Result<()> {
    let primary = NameServer::bind(&env, "primary", env.ipv4(), &BindOptions::default()).await?;
    let more = json!({
        "mode": "Reorder", "ttl": "30s",
        "records": [
            { "name": "em.shop.example", "type": "CNAME",
              "values": ["{{ {\"primary\": \"a.esp.example\", \"standby\": \"u1.wl.other.example\"}[backend] }}"] },
            { "name": BOUNCE, "type": "TXT", "values": ["v=spf1 include:{{ backend }}.example -all"] },
            { "name": "in.shop.example", "type": "A", "values": ["{% if backend == \"primary\" %}192.0.2.1{% else %}192.0.2.2{% endif %}"] },
        ],
    });
    let arena = Arena::create(&env, &[&primary], more).await?;
    let _operator = arena.start_operator("a", &[]).await?;
    let all = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
    for (backend, mx, alias, address) in [
        ("primary", ["10 mx.primary.example.", "20 mx.standby.example."], "a.esp.example.", "192.0.2.1"),
        ("standby", ["10 mx.standby.example.", "20 mx.primary.example."], "u1.wl.other.example.", "192.0.2.2"),
    ] {
        arena.move_to(backend).await?;
        ensure!(primary.dig(BOUNCE, "MX")? == all(&mx), "{:?}", primary.dig(BOUNCE, "MX")?);
        ensure!(primary.dig("em.shop.example", "CNAME")? == all(&[alias]));
        ensure!(primary.dig(BOUNCE, "TXT")? == all(&[&format!("\"v=spf1 include:{backend}.example -all\"")]));
        ensure!(primary.dig("in.shop.example", "A")? == all(&[address]));
    }
    let status = dns_status(&env).await?;
    ensure!(status.applied.as_deref().is_some_and(|applied| applied.contains("TTL 30")), "{status:?}");
    Ok(())
}

async fn other_software(env: Arc<TestEnv>, software: Software) -> Result<()> {
    let at = env.ipv4();
    let server = match software {
        Software::Bind => NameServer::bind(&env, "server", at, &BindOptions::default()).await?,
        Software::Knot => NameServer::knot(&env, "server", at).await?,
        Software::PowerDns => NameServer::power_dns(&env, "server", at).await?,
    };
    let arena = Arena::create(&env, &[&server], json!({})).await?;
    let _operator = arena.start_operator("a", &[]).await?;
    for backend in ["primary", "standby", "primary"] {
        arena.move_to(backend).await?;
        ensure!(server.dig(BOUNCE, "MX")? == exchanger(backend), "{:?}", server.dig(BOUNCE, "MX")?);
    }
    // A key that the server does not know is told of as such by every software.
    arena.use_secret("other-name").await?;
    wait_dns(&env, "the key to be told of", |output| {
        output
            .failure
            .as_ref()
            .is_some_and(|failure| failure.message.contains("BADKEY") || failure.message.contains("NOTAUTH"))
    })
    .await?;
    let message = dns_status(&env).await?.failure.context("a failure")?.message;
    println!("{software:?} on an unknown key: {message}");
    arena.use_secret("tsig").await?;
    arena.wait_led("primary").await?;
    arena.fixture.primary.set_fault(Fault::Refuse).await?;
    arena.wait_led("standby").await?;
    ensure!(server.dig(BOUNCE, "MX")? == exchanger("standby"));
    let status = eventually(WAIT_TIMEOUT, "the all-clear", async || {
        let status = route_status(&env, "orders").await?;
        Ok((condition(&status, "DnsApplied").0 == "True").then_some(status))
    })
    .await?;
    let applied = status.conditions.iter().find(|one| one.type_ == "DnsApplied").context("DnsApplied")?;
    ensure!(applied.message.contains("for 60 s"), "the TTL is told: {}", applied.message);
    change::<MailRoute>(&env, "orders", &json!({ "metadata": { "annotations": { "seen": "true" } } })).await?;
    Ok(())
}
