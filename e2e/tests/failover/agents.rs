//! Trials of the document for agents: it contains all that is decided, and nothing secret.

use std::sync::Arc;

use anyhow::{Result, bail, ensure};
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use kube::ResourceExt;
use kube::api::DeleteParams;
use mail_failover_api::{MailRoute, SendingBackend};
use mail_failover_contract::routing::{Routing, parse};
use mail_failover_e2e::assertions::{
    api, change, data, manifest, set_endpoints, wait_condition, wait_event, wait_gone, wait_leads_to, wait_object,
};
use mail_failover_e2e::eventually::eventually;
use mail_failover_e2e::fixture::{PolicyTimings, TwoBackendFixture, WAIT_TIMEOUT};
use mail_failover_e2e::suite::{Trial, trial};
use mail_failover_e2e::test_env::TestEnv;
use serde_json::{Value, json};

pub fn trials() -> Vec<Trial> {
    vec![
        trial("agents are told of a failover, and of who could take over", failover).listens(),
        trial("agents are told all they need to reach a backend, and nothing secret", no_secrets).listens(),
        trial("backends that agents cannot tell apart are said so, and the other outputs go on", shared).listens(),
        trial("the ConfigMap of agents is taken from nobody, repaired, and deleted with its output", ownership)
            .listens(),
    ]
}

async fn told(env: &TestEnv) -> Result<Routing> {
    let text = data(env, "mail-agent").await?.remove("agent.json").unwrap_or_default();
    Ok(parse(&text)?)
}

/// Waits until the document for agents has these backends: name, share, and true if agents may
/// choose it by themselves.
async fn wait_told(env: &TestEnv, expected: &[(&str, u8, bool)]) -> Result<Routing> {
    eventually(WAIT_TIMEOUT, &format!("agents to be told {expected:?}"), async || {
        let routing = told(env).await?;
        let backends: Vec<_> = routing.backends.iter().map(|one| (&*one.name, one.percent, one.standby)).collect();
        if backends == expected { Ok(Some(routing)) } else { bail!("{backends:?}") }
    })
    .await
}

/// Adds an output for agents to the fixture's route.
async fn add_output(env: &TestEnv) -> Result<()> {
    let mut outputs = serde_json::to_value(api::<MailRoute>(env).get("orders").await?.spec.outputs)?;
    outputs.as_array_mut().into_iter().for_each(|list| list.push(json!({ "agent": { "configMap": "mail-agent" } })));
    change::<MailRoute>(env, "orders", &json!({ "spec": { "outputs": outputs } })).await?;
    Ok(())
}

async fn failover(env: Arc<TestEnv>) -> Result<()> {
    let fixture = TwoBackendFixture::create(env.clone(), &PolicyTimings::with_failback()).await?;
    add_output(&env).await?;
    let _operator = fixture.start_operator("a").await?;
    let first = wait_told(&env, &[("primary", 100, true), ("standby", 0, true)]).await?;
    ensure!((first.transition, &*first.summary) == (0, ""), "{first:?}");
    ensure!(first.backends[0].next_hop.to_string() == format!("[{}]:25", fixture.primary.address().ip()), "{first:?}");
    let route = api::<MailRoute>(&env).get("orders").await?;
    ensure!(
        (&*first.route, Some(&*first.route_uid))
            == (&*format!("{}/orders", env.namespace()), route.metadata.uid.as_deref())
    );

    fixture.standby.crash().await?;
    let alone = wait_told(&env, &[("primary", 100, true), ("standby", 0, false)]).await?;
    ensure!(alone.transition == 0, "nothing was decided: {alone:?}");
    fixture.standby.repair().await?;
    wait_told(&env, &[("primary", 100, true), ("standby", 0, true)]).await?;

    fixture.primary.crash().await?;
    let over = wait_told(&env, &[("primary", 0, false), ("standby", 100, true)]).await?;
    ensure!(over.transition == 1 && over.summary.starts_with("Failover primary → standby: "), "{over:?}");
    fixture.wait_active("standby").await?;
    let map = api::<ConfigMap>(&env).get("mail-agent").await?;
    ensure!(map.annotations().get("mailfailover.io/transition").is_some_and(|id| id == "1"), "{map:?}");
    fixture.primary.repair().await?;
    let back = wait_told(&env, &[("primary", 100, true), ("standby", 0, true)]).await?;
    ensure!(back.transition == 2 && &*back.summary == "Failback standby → primary: Recovered", "{back:?}");
    fixture.wait_active("primary").await?;
    let before = api::<ConfigMap>(&env).get("mail-agent").await?.resource_version();
    tokio::time::sleep(std::time::Duration::from_secs(2)).await;
    ensure!(api::<ConfigMap>(&env).get("mail-agent").await?.resource_version() == before, "written for nothing");
    Ok(())
}

fn secret(name: &str, data: &Value) -> String {
    let object = json!({ "apiVersion": "v1", "kind": "Secret", "metadata": { "name": name }, "stringData": data });
    format!("---\n{object}\n")
}

async fn no_secrets(env: Arc<TestEnv>) -> Result<()> {
    let fixture = TwoBackendFixture::create(env.clone(), &PolicyTimings::default()).await?;
    let certificate = include_str!("../../../crates/tools/tests/data/ca.pem");
    let key = "-----BEGIN PRIVATE KEY-----\naHVudGVyMmh1bnRlcjI=\n-----END PRIVATE KEY-----\n";
    set_endpoints(&env, "mta", 25, &[]).await?;
    let provider = json!({ "smtp": { "host": env.ipv4(), "port": 465, "auth": { "secretRef": { "name": "provider-login" } },
        "tls": { "mode": "Implicit", "serverName": "smtp.provider.example", "caRef": { "secret": "ca" } } },
        "senderDomains": [{ "domain": "Shop.example" }] });
    let inside = json!({ "service": { "name": "mta", "port": "smtp" } });
    let manifests = [
        secret("ca", &json!({ "ca.crt": format!("{key}{certificate}{key}") })),
        secret("provider-login", &json!({ "username": "hunter2", "password": "hunter2" })),
        manifest("SendingBackend", "provider", &provider),
        manifest("SendingBackend", "inside", &inside),
    ];
    env.apply(&manifests.concat()).await?;
    let names = ["primary", "provider", "inside"].map(|name| json!({ "name": name }));
    let thresholds = json!({ "failure": { "deliveries": { "consecutive": 3, "lasting": "2s" } } });
    change::<MailRoute>(&env, "orders", &json!({ "spec": { "backends": names } })).await?;
    change::<mail_failover_api::FailoverPolicy>(&env, "fast", &json!({ "spec": thresholds })).await?;
    add_output(&env).await?;
    let _operator = fixture.start_operator("a").await?;
    wait_told(&env, &[("primary", 100, true), ("provider", 0, false), ("inside", 0, false)]).await?;
    let entries = data(&env, "mail-agent").await?;
    ensure!(entries.keys().eq(["agent.json"]), "{entries:?}");
    let text = &entries["agent.json"];
    ensure!(!text.contains("hunter2") && !text.contains("PRIVATE") && !text.contains("aHVudGVy"), "{text}");
    let document: Value = serde_json::from_str(text)?;
    ensure!(
        document["backends"][1]
            == json!({ "name": "provider", "percent": 0, "standby": false, "host": provider["smtp"]["host"], "port": 465,
                "secret": "provider-login", "senderDomains": ["shop.example"],
                "tls": { "mode": "Implicit", "serverName": "smtp.provider.example", "ca": certificate } }),
        "{text}"
    );
    let service = format!("mta.{}.svc.cluster.local", env.namespace());
    ensure!(
        document["backends"][2]
            == json!({ "name": "inside", "percent": 0, "standby": false, "host": service, "port": 25, "tls": { "mode": "Opportunistic" } }),
        "{text}"
    );
    ensure!(
        document["breaker"]
            == json!({ "consecutive": 3, "firstPauseMilliseconds": 5000, "longestPauseMilliseconds": 60_000 }),
        "{text}"
    );
    ensure!(
        document["deliveries"]
            == json!({ "consecutive": 3, "lastingMilliseconds": 2000, "immediately": ["QuotaExhausted", "AuthenticationRefused", "AccountPaused"], "cooldownMilliseconds": 3_600_000 }),
        "{text}"
    );
    // For agents of the first release.
    ensure!(
        document["reflex"]
            == json!({ "consecutive": 3, "lastingMilliseconds": 2000, "immediately": ["QuotaExhausted", "AuthenticationRefused", "AccountPaused"], "cooldownMilliseconds": 3_600_000, "switches": 10, "perMilliseconds": 1000 }),
        "{text}"
    );
    // The operator does not read a mounted Secret.
    api::<Secret>(&env).delete("provider-login", &DeleteParams::default()).await?;
    wait_condition(&env, "orders", "OutputsApplied", "True", "Applied").await?;
    Ok(())
}

async fn shared(env: Arc<TestEnv>) -> Result<()> {
    let fixture = TwoBackendFixture::create(env.clone(), &PolicyTimings::default()).await?;
    let primary = fixture.primary.address().ip();
    change::<SendingBackend>(&env, "standby", &json!({ "spec": { "smtp": { "host": primary } } })).await?;
    add_output(&env).await?;
    let _operator = mail_failover_e2e::assertions::start_operator(&env, &[]).await?;
    let message = wait_condition(&env, "orders", "OutputsApplied", "False", "NextHopShared").await?;
    let expected = format!("spec.backends[].name: primary and standby are both [{primary}]:25");
    ensure!(message.starts_with(&expected), "{message}");
    wait_event(&env, "orders", "OutputRefused").await?;
    wait_leads_to(&env, "mail", &[primary.to_string()]).await?;
    ensure!(data(&env, "mail").await?.get("SENDING_BACKEND").is_some_and(|name| name == "primary"));
    wait_told(&env, &[("primary", 100, true)]).await?;
    let own = json!({ "spec": { "smtp": { "host": fixture.standby.address().ip() } } });
    change::<SendingBackend>(&env, "standby", &own).await?;
    wait_told(&env, &[("primary", 100, true), ("standby", 0, true)]).await?;
    wait_condition(&env, "orders", "OutputsApplied", "True", "Applied").await?;
    Ok(())
}

async fn ownership(env: Arc<TestEnv>) -> Result<()> {
    let foreign = json!({ "apiVersion": "v1", "kind": "ConfigMap", "metadata": { "name": "mail-agent" },
        "data": { "agent.json": "somebody's" } });
    env.apply(&format!("---\n{foreign}\n")).await?;
    let fixture = TwoBackendFixture::create(env.clone(), &PolicyTimings::default()).await?;
    add_output(&env).await?;
    let _operator = mail_failover_e2e::assertions::start_operator(&env, &[]).await?;
    let message = wait_condition(&env, "orders", "OutputsApplied", "False", "OutputConflict").await?;
    ensure!(message.starts_with("spec.outputs[].agent.configMap: ConfigMap mail-agent exists"), "{message}");
    wait_event(&env, "orders", "OutputRefused").await?;
    wait_leads_to(&env, "mail", &[fixture.primary.address().ip().to_string()]).await?;
    ensure!(data(&env, "mail-agent").await?["agent.json"] == "somebody's");

    api::<ConfigMap>(&env).delete("mail-agent", &DeleteParams::default()).await?;
    let whole = wait_told(&env, &[("primary", 100, true), ("standby", 0, true)]).await?;
    super::ownership::check::<ConfigMap>(&env, "mail-agent").await?;
    change::<ConfigMap>(&env, "mail-agent", &json!({ "data": { "agent.json": "{}" } })).await?;
    wait_told(&env, &[("primary", 100, true), ("standby", 0, true)]).await?;
    ensure!(told(&env).await? == whole);

    // Another output of the route takes its name, and then none.
    let as_environment = json!({ "spec": { "outputs": [{ "configMap": { "name": "mail-agent", "format": "Env" } }] } });
    change::<MailRoute>(&env, "orders", &as_environment).await?;
    wait_object(&env, "mail-agent", "to have the environment's keys only", |map: &ConfigMap| {
        map.data.iter().flatten().all(|(key, _)| key != "agent.json")
    })
    .await?;
    let moved = json!({ "spec": { "outputs": [{ "agent": { "configMap": "elsewhere" } }] } });
    change::<MailRoute>(&env, "orders", &moved).await?;
    wait_gone::<ConfigMap>(&env, "mail-agent").await?;
    wait_object(&env, "elsewhere", "to be there", |map: &ConfigMap| {
        map.data.iter().flatten().any(|(key, value)| key == "agent.json" && parse(value).is_ok())
    })
    .await?;
    Ok(())
}
