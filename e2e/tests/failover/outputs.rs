//! Trials of outputs in every form: they lead where the route leads.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use k8s_openapi::api::core::v1::{ConfigMap, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use kube::api::DeleteParams;
use mail_failover_api::{Health, MailRoute};
use mail_failover_e2e::assertions::{
    api, change, data, manifest, set_endpoints, start_operator, wait_gone, wait_leads_to, wait_object,
};
use mail_failover_e2e::eventually::eventually;
use mail_failover_e2e::fixture::{
    PolicyTimings, TwoBackendFixture, WAIT_TIMEOUT, policy, route, wait_active, wait_health,
};
use mail_failover_e2e::mail::dns::DnsServer;
use mail_failover_e2e::mail::server::{Fault, Options, SmtpServer};
use mail_failover_e2e::suite::{Trial, trial};
use mail_failover_e2e::test_env::TestEnv;
use serde_json::json;

const HOST: &str = "relay.provider.example";

pub fn trials() -> Vec<Trial> {
    vec![
        trial("the slices of both address families follow the DNS answers of a backend given by name", dns).listens(),
        trial("an address that fails is taken out of the slices while another works", failing_address).listens(),
        trial("a backend in the cluster follows the ready endpoints of its Service", in_cluster).listens(),
        trial("config maps for Postfix and for environments follow a failover", config_maps).listens(),
        trial("what somebody changes or deletes of an output is repaired", drift).listens(),
        trial("outputs that leave the spec are deleted", removed_outputs).listens(),
    ]
}

fn probes() -> serde_json::Value {
    json!([{ "name": "smtp", "interval": "200ms", "timeout": "500ms", "smtp": {} }])
}

fn entries(pairs: &[(&str, String)]) -> BTreeMap<String, String> {
    pairs.iter().map(|(key, value)| ((*key).to_owned(), value.clone())).collect()
}

/// A server at these addresses, on port 25.
async fn server(name: &str, addresses: &[std::net::IpAddr]) -> Result<SmtpServer> {
    let mut addresses = addresses.iter().map(|address| SocketAddr::new(*address, 25));
    let first = Options::new(name, addresses.next().context("at least one address")?);
    Ok(SmtpServer::start(addresses.fold(first, Options::and_address)).await?)
}

async fn dns(env: Arc<TestEnv>) -> Result<()> {
    let (v4, other_v4, v6) = (env.ipv4(), env.ipv4(), env.ipv6());
    let _server = server("relay", &[v4, other_v4, v6]).await?;
    let names = DnsServer::start(SocketAddr::new(env.ipv4(), 53)).await?;
    names.set(HOST, vec![v4, v6])?;
    let backend =
        manifest("SendingBackend", "relay", &json!({ "smtp": { "host": HOST, "port": 25 }, "probes": probes() }));
    env.apply(&[policy(&PolicyTimings::default()), backend, route("orders", &["relay"], "mail")].concat()).await?;
    let _operator = start_operator(&env, &["--dns-server", &names.address().to_string()]).await?;
    wait_active(&env, "orders", "relay").await?;
    wait_leads_to(&env, "mail", &[v4.to_string(), v6.to_string()]).await?;
    for (slice, family, address) in [("mail-ipv4", "IPv4", v4), ("mail-ipv6", "IPv6", v6)] {
        let slice = api::<EndpointSlice>(&env).get(slice).await?;
        ensure!(slice.address_type == family, "{slice:?}");
        ensure!(slice.endpoints.iter().all(|endpoint| endpoint.addresses == [address.to_string()]), "{slice:?}");
        let ports = slice.ports.unwrap_or_default();
        ensure!(ports.len() == 1 && ports[0].port == Some(25) && ports[0].name.as_deref() == Some("smtp"), "{ports:?}");
    }
    let service = api::<Service>(&env).get("mail").await?.spec.unwrap_or_default();
    ensure!(service.ip_families == Some(vec!["IPv4".to_owned(), "IPv6".to_owned()]), "{service:?}");

    names.set(HOST, vec![other_v4])?;
    wait_leads_to(&env, "mail", &[other_v4.to_string()]).await?;
    wait_gone::<EndpointSlice>(&env, "mail-ipv6").await?;
    names.set(HOST, vec![v6])?;
    wait_leads_to(&env, "mail", &[v6.to_string()]).await?;
    wait_gone::<EndpointSlice>(&env, "mail-ipv4").await
}

async fn failing_address(env: Arc<TestEnv>) -> Result<()> {
    let (good, bad) = (env.ipv4(), env.ipv4());
    let _good = server("good", &[good]).await?;
    let bad_server = server("bad", &[bad]).await?;
    let names = DnsServer::start(SocketAddr::new(env.ipv4(), 53)).await?;
    names.set(HOST, vec![good, bad])?;
    let backend =
        manifest("SendingBackend", "relay", &json!({ "smtp": { "host": HOST, "port": 25 }, "probes": probes() }));
    env.apply(&[policy(&PolicyTimings::default()), backend, route("orders", &["relay"], "mail")].concat()).await?;
    let _operator = start_operator(&env, &["--dns-server", &names.address().to_string()]).await?;
    wait_active(&env, "orders", "relay").await?;
    wait_leads_to(&env, "mail", &[good.to_string(), bad.to_string()]).await?;
    bad_server.set_fault(Fault::Refuse).await?;
    wait_leads_to(&env, "mail", &[good.to_string()]).await?;
    wait_health(&env, "relay", Health::Healthy, "Ok").await?;
    bad_server.repair().await?;
    wait_leads_to(&env, "mail", &[good.to_string(), bad.to_string()]).await
}

async fn in_cluster(env: Arc<TestEnv>) -> Result<()> {
    let (first, second, outside) = (env.ipv4(), env.ipv4(), env.ipv4());
    let _inside = server("inside", &[first, second]).await?;
    let _outside = server("outside", &[outside]).await?;
    set_endpoints(&env, "mta", 25, &[(first.to_string(), true), (second.to_string(), false)]).await?;
    let inside = json!({ "service": { "name": "mta", "port": "smtp" }, "probes": probes() });
    let standby = json!({ "smtp": { "host": outside, "port": 25 }, "probes": probes() });
    let manifests = [
        policy(&PolicyTimings::with_failback()),
        manifest("SendingBackend", "inside", &inside),
        manifest("SendingBackend", "outside", &standby),
        route("orders", &["inside", "outside"], "mail"),
    ];
    env.apply(&manifests.concat()).await?;
    let _operator = start_operator(&env, &[]).await?;
    wait_active(&env, "orders", "inside").await?;
    wait_leads_to(&env, "mail", &[first.to_string()]).await?;
    set_endpoints(&env, "mta", 25, &[(first.to_string(), true), (second.to_string(), true)]).await?;
    wait_leads_to(&env, "mail", &[first.to_string(), second.to_string()]).await?;
    set_endpoints(&env, "mta", 25, &[(second.to_string(), true)]).await?;
    wait_leads_to(&env, "mail", &[second.to_string()]).await?;
    set_endpoints(&env, "mta", 25, &[(second.to_string(), false)]).await?;
    let status = wait_active(&env, "orders", "outside").await?;
    ensure!(status.last_transition.is_some_and(|last| last.reason == "NoEndpoints"));
    wait_leads_to(&env, "mail", &[outside.to_string()]).await?;
    set_endpoints(&env, "mta", 25, &[(first.to_string(), true)]).await?;
    wait_active(&env, "orders", "inside").await?;
    wait_leads_to(&env, "mail", &[first.to_string()]).await
}

async fn config_maps(env: Arc<TestEnv>) -> Result<()> {
    let fixture = TwoBackendFixture::create(env.clone(), &PolicyTimings::default()).await?;
    let submission = SmtpServer::start(Options::new("v6", SocketAddr::new(env.ipv6(), 587))).await?;
    let v6 = submission.address().ip();
    let spec = json!({ "smtp": { "host": v6, "port": 587, "tls": { "mode": "Opportunistic", "serverName": "mx.example" } },
        "probes": [{ "name": "smtp", "interval": "200ms", "timeout": "500ms", "smtp": { "depth": "Ehlo" } }] });
    let outputs = json!({ "policyRef": { "name": "fast" }, "backends": [{ "name": "primary" }, { "name": "submission" }],
        "outputs": [{ "configMap": { "name": "postfix", "format": "Postfix" } },
                    { "configMap": { "name": "env", "format": "Env" } }] });
    let manifests = [manifest("SendingBackend", "submission", &spec), manifest("MailRoute", "orders", &outputs)];
    env.apply(&manifests.concat()).await?;
    let _operator = fixture.start_operator("a").await?;
    let primary = fixture.primary.address().ip();
    ensure!(
        data(&env, "postfix").await?
            == entries(&[
                ("transport", format!("* smtp:[{primary}]:25\n")),
                ("tls_policy", format!("[{primary}]:25 may\n")),
                ("relayhost", format!("[{primary}]:25\n")),
            ])
    );
    ensure!(
        data(&env, "env").await?
            == entries(&[
                ("SENDING_BACKEND", "primary".to_owned()),
                ("SMTP_HOST", primary.to_string()),
                ("SMTP_PORT", "25".to_owned()),
                ("SMTP_TLS", "opportunistic".to_owned()),
                ("SMTP_TLS_SERVER_NAME", primary.to_string()),
            ])
    );
    fixture.primary.crash().await?;
    fixture.wait_active("submission").await?;
    ensure!(
        data(&env, "postfix").await?
            == entries(&[
                ("transport", format!("* smtp:[ipv6:{v6}]:587\n")),
                ("tls_policy", format!("[ipv6:{v6}]:587 may\n")),
                ("relayhost", format!("[ipv6:{v6}]:587\n")),
            ])
    );
    ensure!(
        data(&env, "env").await?
            == entries(&[
                ("SENDING_BACKEND", "submission".to_owned()),
                ("SMTP_HOST", v6.to_string()),
                ("SMTP_PORT", "587".to_owned()),
                ("SMTP_TLS", "opportunistic".to_owned()),
                ("SMTP_TLS_SERVER_NAME", "mx.example".to_owned()),
            ])
    );
    Ok(())
}

/// Returns true if the Service is as the operator writes it.
fn is_whole(service: &Service) -> bool {
    let spec = service.spec.clone().unwrap_or_default();
    let ports = spec.ports.unwrap_or_default();
    spec.selector.unwrap_or_default().is_empty()
        && ports.len() == 1
        && (ports[0].name.as_deref(), ports[0].port, &ports[0].target_port)
            == (Some("smtp"), 25, &Some(IntOrString::Int(25)))
}

async fn drift(env: Arc<TestEnv>) -> Result<()> {
    let fixture = TwoBackendFixture::create(env.clone(), &PolicyTimings::default()).await?;
    let _operator = fixture.start_operator("a").await?;
    let primary = fixture.primary.address().ip().to_string();
    for damage in [
        json!({ "spec": { "selector": { "app": "mta" } } }),
        json!({ "spec": { "ports": [{ "name": "smtp", "port": 25, "targetPort": 2525 }] } }),
        json!({ "spec": { "ports": [{ "name": "smtp", "port": 2525, "targetPort": 2525 }] } }),
        json!({ "spec": { "ports": [{ "name": "other", "port": 25 }] } }),
        json!({ "metadata": { "labels": { "app.kubernetes.io/managed-by": null } } }),
    ] {
        let before = api::<Service>(&env).get("mail").await?.metadata.resource_version;
        change::<Service>(&env, "mail", &damage).await?;
        wait_object(&env, "mail", &format!("to be repaired after {damage}"), |service: &Service| {
            let managed = service.metadata.labels.iter().flatten().any(|(key, _)| key.ends_with("managed-by"));
            is_whole(service) && managed && service.metadata.resource_version != before
        })
        .await?;
    }
    change::<EndpointSlice>(&env, "mail-ipv4", &json!({ "endpoints": [{ "addresses": ["192.0.2.99"] }] })).await?;
    wait_leads_to(&env, "mail", std::slice::from_ref(&primary)).await?;
    change::<EndpointSlice>(&env, "mail-ipv4", &json!({ "ports": [{ "name": "smtp", "port": 1 }] })).await?;
    wait_object(&env, "mail-ipv4", "to have its port back", |slice: &EndpointSlice| {
        slice.ports.iter().flatten().all(|port| port.port == Some(25))
    })
    .await?;
    change::<ConfigMap>(&env, "mail", &json!({ "data": { "SMTP_HOST": "evil.example" } })).await?;
    wait_object(&env, "mail", "to name the host again", |map: &ConfigMap| {
        map.data.as_ref().and_then(|data| data.get("SMTP_HOST")) == Some(&primary)
    })
    .await?;
    api::<EndpointSlice>(&env).delete("mail-ipv4", &DeleteParams::default()).await?;
    wait_leads_to(&env, "mail", std::slice::from_ref(&primary)).await?;
    api::<ConfigMap>(&env).delete("mail", &DeleteParams::default()).await?;
    wait_object(&env, "mail", "to be there again", |_: &ConfigMap| true).await?;
    api::<Service>(&env).delete("mail", &DeleteParams::default()).await?;
    wait_object(&env, "mail", "to be there again", is_whole).await?;
    // What is repaired still follows the route.
    fixture.primary.crash().await?;
    fixture.wait_active("standby").await?;
    wait_leads_to(&env, "mail", &[fixture.standby.address().ip().to_string()]).await
}

async fn removed_outputs(env: Arc<TestEnv>) -> Result<()> {
    let fixture = TwoBackendFixture::create(env.clone(), &PolicyTimings::default()).await?;
    let _operator = fixture.start_operator("a").await?;
    wait_object(&env, "mail", "to be there", |_: &ConfigMap| true).await?;
    let only = json!({ "spec": { "outputs": [{ "configMap": { "name": "mail", "format": "Env" } }] } });
    change::<MailRoute>(&env, "orders", &only).await?;
    wait_gone::<Service>(&env, "mail").await?;
    wait_gone::<EndpointSlice>(&env, "mail-ipv4").await?;
    ensure!(!data(&env, "mail").await?.is_empty());
    let renamed = json!({ "spec": { "outputs": [{ "configMap": { "name": "renamed", "format": "Env" } }] } });
    change::<MailRoute>(&env, "orders", &renamed).await?;
    wait_gone::<ConfigMap>(&env, "mail").await?;
    eventually(WAIT_TIMEOUT, "the renamed ConfigMap", async || {
        Ok((!data(&env, "renamed").await?.is_empty()).then_some(()))
    })
    .await
}
