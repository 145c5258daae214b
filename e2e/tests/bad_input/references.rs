//! Trials of references by routes, backends and policies to objects that are missing, unusable, or
//! deleted later.

use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::{Result, ensure};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use k8s_openapi::api::core::v1::{ConfigMap, Secret, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::api::DeleteParams;
use mail_failover_api::{FailoverPolicy, Health, SendingBackend};
use mail_failover_e2e::assertions::{
    api, change, manifest, notes, set_endpoints, start_operator, wait_backend_condition, wait_condition, wait_event,
    wait_leads_to, wait_route,
};
use mail_failover_e2e::fixture::{
    PolicyTimings, TwoBackendFixture, backend, backend_status, condition, policy, route, route_status, wait_active,
    wait_health,
};
use mail_failover_e2e::mail::certificates::{Authority, Validity};
use mail_failover_e2e::mail::server::{Logins, Options, SmtpServer};
use mail_failover_e2e::suite::{Trial, trial};
use mail_failover_e2e::test_env::TestEnv;
use serde_json::{Value, json};

pub fn trials() -> Vec<Trial> {
    vec![
        trial("a route says which policy and backend are missing, and works once they are there", missing).listens(),
        trial(
            "a policy that is deleted while the route is failed over stays in force until there is another",
            no_policy,
        )
        .listens(),
        trial("an active backend that is deleted keeps its mail until it fails", deleted_backend).listens(),
        trial("an authority in a ConfigMap that is missing, malformed or repaired is noticed", config_map_authority)
            .listens(),
        trial("an authority in a Secret that is missing, malformed or repaired is noticed", secret_authority).listens(),
        trial("a login that is missing, malformed or repaired is noticed, and its probe fails never", login).listens(),
        trial("a backend says what its Service lacks, and works once it has it", service).listens(),
    ]
}

async fn missing(env: Arc<TestEnv>) -> Result<()> {
    let server = SmtpServer::start(Options::new("late", SocketAddr::new(env.ipv4(), 25))).await?;
    let neighbour = SmtpServer::start(Options::new("neighbour", SocketAddr::new(env.ipv4(), 25))).await?;
    let independent = json!({ "backends": [{ "name": "neighbour" }],
        "outputs": [{ "configMap": { "name": "other", "format": "Env" } }] });
    let manifests = [
        route("orders", &["late", "never"], "mail"),
        backend("neighbour", neighbour.address(), &PolicyTimings::default()),
        manifest("MailRoute", "other", &independent),
    ];
    env.apply(&manifests.concat()).await?;
    let _operator = start_operator(&env, &[]).await?;
    let message = wait_condition(&env, "orders", "Ready", "False", "PolicyNotFound").await?;
    ensure!(message.contains("spec.policyRef.name: FailoverPolicy fast does not exist"), "{message}");
    ensure!(message.contains("spec.backends[].name: SendingBackend late does not exist"), "{message}");
    wait_event(&env, "orders", "ConfigurationRejected").await?;
    // The object may still be created, so the route is not stalled.
    ensure!(condition(&route_status(&env, "orders").await?, "Stalled").0.is_empty());
    // The defaults demand ten successes, which the neighbour's probes reach in two seconds.
    wait_active(&env, "other", "neighbour").await?;
    env.apply(&policy(&PolicyTimings::default())).await?;
    wait_condition(&env, "orders", "Ready", "False", "BackendNotFound").await?;
    env.apply(&backend("late", server.address(), &PolicyTimings::default())).await?;
    wait_active(&env, "orders", "late").await?;
    wait_leads_to(&env, "mail", &[server.address().ip().to_string()]).await?;
    let message = wait_condition(&env, "orders", "Ready", "False", "BackendNotFound").await?;
    ensure!(message.contains("never") && !message.contains("late"), "{message}");
    let change = json!({ "spec": { "backends": [{ "name": "late" }] } });
    self::change::<mail_failover_api::MailRoute>(&env, "orders", &change).await?;
    wait_condition(&env, "orders", "Ready", "True", "Delivering").await.map(drop)
}

async fn no_policy(env: Arc<TestEnv>) -> Result<()> {
    let fixture = TwoBackendFixture::create(env.clone(), &PolicyTimings::default()).await?;
    let _operator = fixture.start_operator("a").await?;
    fixture.primary.crash().await?;
    fixture.wait_active("standby").await?;
    api::<FailoverPolicy>(&env).delete("fast", &DeleteParams::default()).await?;
    let message = wait_condition(&env, "orders", "Ready", "False", "PolicyNotFound").await?;
    ensure!(message.contains("the documented defaults are in force"), "{message}");
    // By these it recovers after ten successes, and mail returns minutes later.
    fixture.primary.repair().await?;
    wait_route(&env, "orders", "to judge the primary by the defaults", |status| {
        status.healthy_backends.as_deref() == Some("2/2")
            && status.waiting_for.as_ref().is_some_and(|hold| ["Cooldown", "Soak"].contains(&hold.reason.as_str()))
    })
    .await?;
    wait_leads_to(&env, "mail", &[fixture.standby.address().ip().to_string()]).await?;
    env.apply(&policy(&PolicyTimings::with_failback())).await?;
    fixture.wait_active("primary").await?;
    wait_condition(&env, "orders", "Ready", "True", "Delivering").await.map(drop)
}

async fn deleted_backend(env: Arc<TestEnv>) -> Result<()> {
    let fixture = TwoBackendFixture::create(env.clone(), &PolicyTimings::default()).await?;
    let _operator = fixture.start_operator("a").await?;
    api::<SendingBackend>(&env).delete("primary", &DeleteParams::default()).await?;
    let message = wait_condition(&env, "orders", "Ready", "False", "BackendNotFound").await?;
    ensure!(message.contains("SendingBackend primary does not exist"), "{message}");
    let before = fixture.primary.counters().connections;
    wait_leads_to(&env, "mail", &[fixture.primary.address().ip().to_string()]).await?;
    mail_failover_e2e::eventually::eventually_is(
        mail_failover_e2e::fixture::WAIT_TIMEOUT,
        "the deleted backend to be probed still",
        async || Ok(fixture.primary.counters().connections),
        |now| *now > before + 3,
    )
    .await?;
    ensure!(route_status(&env, "orders").await?.active[0].backend == "primary");
    fixture.primary.crash().await?;
    wait_route(&env, "orders", "to leave it when it fails", |status| status.active[0].backend == "standby").await?;
    wait_leads_to(&env, "mail", &[fixture.standby.address().ip().to_string()]).await?;
    // No route needs the backend any more, so it is no longer probed.
    fixture.primary.repair().await?;
    let mut last = (fixture.primary.counters().connections, std::time::Instant::now());
    mail_failover_e2e::eventually::eventually_is(
        mail_failover_e2e::fixture::WAIT_TIMEOUT,
        "the deleted backend to be left alone for two seconds",
        async || {
            let now = fixture.primary.counters().connections;
            if now != last.0 {
                last = (now, std::time::Instant::now());
            }
            Ok(last.1.elapsed())
        },
        |quiet| *quiet > std::time::Duration::from_secs(2),
    )
    .await
    .map(drop)
}

const NAME: &str = "relay.provider.example";

/// Creates a backend with an authority by reference, beside a route that must not be affected.
async fn with_authority(env: &TestEnv, authority: &Authority, ca_ref: Value) -> Result<(SmtpServer, SmtpServer)> {
    let identity = authority.issue(&[NAME], Validity::Valid)?;
    let primary =
        SmtpServer::start(Options::new("primary", SocketAddr::new(env.ipv4(), 25)).start_tls(identity)).await?;
    let standby = SmtpServer::start(Options::new("standby", SocketAddr::new(env.ipv4(), 25))).await?;
    let spec = json!({
        "smtp": { "host": primary.address().ip(), "port": 25,
            "tls": { "mode": "StartTLS", "serverName": NAME, "caRef": ca_ref } },
        "probes": [{ "name": "smtp", "interval": "200ms", "timeout": "1s", "smtp": {} }],
    });
    let manifests = [
        policy(&PolicyTimings::with_failback()),
        manifest("SendingBackend", "primary", &spec),
        backend("standby", standby.address(), &PolicyTimings::default()),
        route("orders", &["primary", "standby"], "mail"),
        route("other", &["standby"], "other"),
    ];
    env.apply(&manifests.concat()).await?;
    Ok((primary, standby))
}

fn authority_map(key: &str, text: &str) -> String {
    json!({ "apiVersion": "v1", "kind": "ConfigMap", "metadata": { "name": "authority" }, "data": { key: text } })
        .to_string()
}

async fn config_map_authority(env: Arc<TestEnv>) -> Result<()> {
    let authority = Authority::new()?;
    let _servers = with_authority(&env, &authority, json!({ "configMap": "authority" })).await?;
    let operator = start_operator(&env, &[]).await?;
    let message = wait_backend_condition(&env, "primary", "Ready", "False", "CANotFound").await?;
    ensure!(message.contains("spec.smtp.tls.caRef: key ca.crt of ConfigMap authority does not exist"), "{message}");
    wait_active(&env, "other", "standby").await?;
    env.apply(&authority_map("other.crt", &authority.pem())).await?;
    // Now the key is missing: the reason stays, and the backend does not work yet.
    env.apply(&authority_map("ca.crt", "no certificate")).await?;
    wait_backend_condition(&env, "primary", "Ready", "False", "CAMalformed").await?;
    env.apply(&authority_map("ca.crt", &authority.pem())).await?;
    wait_backend_condition(&env, "primary", "Ready", "True", "Observed").await?;
    wait_health(&env, "primary", Health::Healthy, "Ok").await?;
    wait_active(&env, "orders", "primary").await?;
    // A good authority stays in force when its object is deleted: nothing moves.
    api::<ConfigMap>(&env).delete("authority", &DeleteParams::default()).await?;
    wait_backend_condition(&env, "primary", "Ready", "False", "CANotFound").await?;
    let status = backend_status(&env, "primary").await?;
    ensure!(status.health == Some(Health::Healthy), "{status:?}");
    ensure!(route_status(&env, "orders").await?.active[0].backend == "primary");
    ensure!(operator.ended().is_none());
    Ok(())
}

async fn secret_authority(env: Arc<TestEnv>) -> Result<()> {
    let authority = Authority::new()?;
    let ca_ref = json!({ "secret": "authority", "key": "bundle.pem" });
    let _servers = with_authority(&env, &authority, ca_ref).await?;
    let secret = json!({ "apiVersion": "v1", "kind": "Secret", "metadata": { "name": "authority" },
        "data": { "other.pem": STANDARD.encode(authority.pem()) } });
    env.apply(&secret.to_string()).await?;
    let _operator = start_operator(&env, &[]).await?;
    let message = wait_backend_condition(&env, "primary", "Ready", "False", "CANotFound").await?;
    ensure!(message.contains("key bundle.pem of Secret authority does not exist"), "{message}");
    // This is no evidence against the backend, but mail cannot go there either.
    wait_active(&env, "other", "standby").await?;
    change::<Secret>(&env, "authority", &json!({ "data": { "bundle.pem": STANDARD.encode("garbage") } })).await?;
    let message = wait_backend_condition(&env, "primary", "Ready", "False", "CAMalformed").await?;
    ensure!(!message.contains("garbage"), "{message}");
    change::<Secret>(&env, "authority", &json!({ "data": { "bundle.pem": STANDARD.encode(authority.pem()) } })).await?;
    wait_health(&env, "primary", Health::Healthy, "Ok").await?;
    wait_active(&env, "orders", "primary").await?;
    ensure!(notes(&env, "primary", "ConfigurationRejected").await?.len() == 2);
    Ok(())
}

fn login_secret(data: &Value) -> String {
    json!({ "apiVersion": "v1", "kind": "Secret", "metadata": { "name": "login" }, "stringData": data }).to_string()
}

async fn login(env: Arc<TestEnv>) -> Result<()> {
    let logins = Logins::Only(vec![("shop".to_owned(), "correct-horse".to_owned())]);
    let inside = SmtpServer::start(Options::new("inside", SocketAddr::new(env.ipv4(), 25)).logins(logins)).await?;
    let standby = SmtpServer::start(Options::new("standby", SocketAddr::new(env.ipv4(), 25))).await?;
    set_endpoints(&env, "mta", 25, &[(inside.address().ip().to_string(), true)]).await?;
    let spec = json!({
        "service": { "name": "mta", "port": "smtp", "auth": { "secretRef": { "name": "login" }, "allowPlaintext": true } },
        "probes": [{ "name": "login", "interval": "200ms", "timeout": "500ms", "smtp": { "depth": "Auth" } }] });
    let manifests = [
        policy(&PolicyTimings::with_failback()),
        manifest("SendingBackend", "inside", &spec),
        backend("standby", standby.address(), &PolicyTimings::default()),
        route("orders", &["inside", "standby"], "mail"),
        route("other", &["standby"], "other"),
    ];
    env.apply(&manifests.concat()).await?;
    let _operator = start_operator(&env, &[]).await?;
    let message = wait_backend_condition(&env, "inside", "Ready", "False", "SecretNotFound").await?;
    let expected = "spec.service.auth.secretRef: Secret login does not exist in namespace";
    ensure!(message.starts_with(expected) && message.contains("create it with the keys"), "{message}");
    wait_active(&env, "other", "standby").await?;
    let status = wait_health(&env, "inside", Health::Unknown, "ProbeBlocked").await?;
    ensure!(
        status.probes[0].message.as_deref().is_some_and(|message| message.contains("does not exist")),
        "{status:?}"
    );
    // The probe runs the dialogue up to the login, which it does not try. No failure is reported.
    ensure!(!inside.counters().commands.contains_key("AUTH") && inside.counters().commands.contains_key("EHLO"));
    env.apply(&login_secret(&json!({ "username": "shop" }))).await?;
    let message = wait_backend_condition(&env, "inside", "Ready", "False", "SecretMalformed").await?;
    ensure!(message.contains("it has no key password"), "{message}");
    env.apply(&login_secret(&json!({ "username": "shop", "password": "correct-horse" }))).await?;
    wait_backend_condition(&env, "inside", "Ready", "True", "Observed").await?;
    wait_active(&env, "orders", "inside").await?;
    // A deleted login is not used any more, and nothing moves.
    api::<Secret>(&env).delete("login", &DeleteParams::default()).await?;
    wait_backend_condition(&env, "inside", "Ready", "False", "SecretNotFound").await?;
    wait_health(&env, "inside", Health::Unknown, "ProbeBlocked").await?;
    ensure!(route_status(&env, "orders").await?.active[0].backend == "inside");
    ensure!(notes(&env, "inside", "BackendUnhealthy").await?.is_empty());
    Ok(())
}

async fn service(env: Arc<TestEnv>) -> Result<()> {
    let inside = SmtpServer::start(Options::new("inside", SocketAddr::new(env.ipv4(), 25))).await?;
    let standby = SmtpServer::start(Options::new("standby", SocketAddr::new(env.ipv4(), 25))).await?;
    let spec = json!({ "service": { "name": "mta", "port": "smtp" },
        "probes": [{ "name": "smtp", "interval": "200ms", "timeout": "500ms", "smtp": {} }] });
    let manifests = [
        policy(&PolicyTimings::with_failback()),
        manifest("SendingBackend", "inside", &spec),
        backend("standby", standby.address(), &PolicyTimings::default()),
        route("orders", &["inside", "standby"], "mail"),
    ];
    env.apply(&manifests.concat()).await?;
    let _operator = start_operator(&env, &[]).await?;
    let message = wait_backend_condition(&env, "inside", "Ready", "False", "ServiceNotFound").await?;
    ensure!(message.contains("spec.service.name: Service mta does not exist"), "{message}");
    let wrong = json!({ "apiVersion": "v1", "kind": "Service", "metadata": { "name": "mta" },
        "spec": { "ports": [{ "name": "imap", "port": 143 }] } });
    env.apply(&wrong.to_string()).await?;
    let message = wait_backend_condition(&env, "inside", "Ready", "False", "ServicePortNotFound").await?;
    ensure!(message.contains("spec.service.port: Service mta has no TCP port smtp"), "{message}");
    wait_active(&env, "orders", "standby").await?;
    api::<Service>(&env).delete("mta", &DeleteParams::default()).await?;
    set_endpoints(&env, "mta", 25, &[]).await?;
    wait_backend_condition(&env, "inside", "Healthy", "False", "NoEndpoints").await?;
    wait_backend_condition(&env, "inside", "Ready", "True", "Observed").await?;
    set_endpoints(&env, "mta", 25, &[(inside.address().ip().to_string(), true)]).await?;
    wait_active(&env, "orders", "inside").await?;
    api::<EndpointSlice>(&env).delete("mta-by-hand", &DeleteParams::default()).await?;
    wait_active(&env, "orders", "standby").await.map(drop)
}
