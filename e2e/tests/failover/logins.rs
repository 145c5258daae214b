//! Trials of probes that log in: a revoked login moves the mail, a rotated Secret brings it back,
//! and nothing shows either.

use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use k8s_openapi::api::core::v1::Secret;
use mail_failover_api::Health;
use mail_failover_e2e::assertions::{change, manifest, set_endpoints, start_operator, wait_event, wait_route};
use mail_failover_e2e::eventually::eventually_is;
use mail_failover_e2e::fixture::{
    PolicyTimings, WAIT_TIMEOUT, backend, backend_status, condition, policy, route, wait_active, wait_health,
};
use mail_failover_e2e::mail::server::{Action, Fault, Logins, Options, SessionStage, SmtpServer};
use mail_failover_e2e::suite::{Trial, trial};
use mail_failover_e2e::test_env::TestEnv;
use serde_json::{Value, json};

pub fn trials() -> Vec<Trial> {
    vec![
        trial("a revoked login moves the mail, and a rotated Secret brings it back without a restart", rotation)
            .listens(),
        trial("what a probe meets at AUTH, MAIL and RCPT is told apart, and a refused recipient moves nothing", depths)
            .listens(),
    ]
}

const USER: &str = "shop-at-provider";
const FIRST: &str = "first-battery-staple";
const SECOND: &str = "second-battery-staple";

fn pair(password: &str) -> Logins {
    Logins::Only(vec![(USER.to_owned(), password.to_owned())])
}

fn secret(password: &str) -> String {
    json!({ "apiVersion": "v1", "kind": "Secret", "type": "kubernetes.io/basic-auth", "metadata": { "name": "login" },
        "stringData": { "username": USER, "password": password } })
    .to_string()
}

/// Creates a backend in the cluster that demands a login, probed to this depth five times a second;
/// and a standby.
async fn set(env: &TestEnv, smtp: Value) -> Result<(SmtpServer, SmtpServer)> {
    let primary =
        SmtpServer::start(Options::new("primary", SocketAddr::new(env.ipv4(), 25)).logins(pair(FIRST))).await?;
    let standby = SmtpServer::start(Options::new("standby", SocketAddr::new(env.ipv4(), 25))).await?;
    set_endpoints(env, "relay", 25, &[(primary.address().ip().to_string(), true)]).await?;
    let spec = json!({
        "service": { "name": "relay", "port": "smtp", "auth": { "secretRef": { "name": "login" }, "allowPlaintext": true } },
        "probes": [{ "name": "smtp", "interval": "200ms", "timeout": "500ms", "smtp": {} },
            { "name": "deep", "interval": "200ms", "timeout": "500ms", "smtp": smtp }],
    });
    env.apply(&secret(FIRST)).await?;
    let manifests = [
        policy(&PolicyTimings::with_failback()),
        manifest("SendingBackend", "primary", &spec),
        backend("standby", standby.address(), &PolicyTimings::default()),
        route("orders", &["primary", "standby"], "mail"),
    ];
    env.apply(&manifests.concat()).await?;
    Ok((primary, standby))
}

async fn rotation(env: Arc<TestEnv>) -> Result<()> {
    let (primary, _standby) = set(&env, json!({ "depth": "Auth" })).await?;
    let operator = start_operator(&env, &["--log", "debug"]).await?;
    wait_active(&env, "orders", "primary").await?;
    // The provider has another password from now on, and quotes the one that it refuses.
    primary.set_logins(pair(SECOND));
    let status = wait_active(&env, "orders", "standby").await?;
    ensure!(condition(&status, "FailedOver") == ("True".into(), "AuthenticationRefused".into()), "{status:?}");
    let seen = backend_status(&env, "primary").await?;
    let message = seen.message.clone().unwrap_or_default();
    ensure!(message.starts_with("AUTH: 535 5.7.8"), "{message}");
    let health =
        ["smtp", "deep"].map(|name| seen.probes.iter().find(|probe| probe.name == name).map(|probe| probe.health));
    ensure!(health == [Some(Health::Healthy), Some(Health::Unhealthy)], "{seen:?}");
    let quoted = format!("5.7.8 {USER}: {FIRST} is not your password, nor is {}", STANDARD.encode(FIRST));
    primary.set_fault(Fault::At(SessionStage::Auth, Action::Reply(535, quoted.into()))).await?;
    let heard = primary.counters().commands.get("AUTH").copied().unwrap_or_default();
    eventually_is(
        WAIT_TIMEOUT,
        "the login to be tried again",
        async || Ok(primary.counters().commands.get("AUTH").copied().unwrap_or_default()),
        |now| *now > heard + 5,
    )
    .await?;
    primary.repair().await?;
    let data = json!({ "data": { "password": STANDARD.encode(SECOND) } });
    change::<Secret>(&env, "login", &data).await?;
    wait_health(&env, "primary", Health::Healthy, "Ok").await?;
    wait_active(&env, "orders", "primary").await?;
    ensure!(operator.ended().is_none());
    shows_nothing(&env, &operator).await
}

/// Checks that the login is in no output of the operator.
async fn shows_nothing(env: &TestEnv, operator: &mail_failover_e2e::operator::Operator) -> Result<()> {
    let mut secrets = vec![USER.to_owned(), STANDARD.encode(USER)];
    for password in [FIRST, SECOND] {
        let plain = STANDARD.encode(format!("\0{USER}\0{password}"));
        secrets.extend([password.to_owned(), STANDARD.encode(password), plain]);
    }
    let objects = env.kubectl(&["get", "mailfailover,events,configmaps,leases", "-o", "yaml"]).await?;
    let log = std::fs::read_to_string(operator.log()).context("the operator's log")?;
    for (place, text) in [("objects", objects), ("log", log), ("metrics", operator.metrics().await?)] {
        ensure!(text.len() > 1000, "{place} hold nothing to look for: {text}");
        for secret in &secrets {
            ensure!(!text.contains(secret.as_str()), "{place} hold {secret}: {text}");
        }
    }
    Ok(())
}

async fn depths(env: Arc<TestEnv>) -> Result<()> {
    let smtp = json!({ "depth": "RcptTo", "from": "probe@shop.example", "to": "sink@inbox.example" });
    let (primary, _standby) = set(&env, smtp).await?;
    let _operator = start_operator(&env, &[]).await?;
    wait_active(&env, "orders", "primary").await?;
    // No mail is sent, and every transaction is reset.
    let commands = primary.counters().commands;
    let [rcpt, rset, data] = ["RCPT", "RSET", "DATA"].map(|verb| commands.get(verb).copied().unwrap_or_default());
    ensure!(rcpt > 0 && rset > 0 && data == 0, "{commands:?}");
    primary.set_fault(Fault::reply(SessionStage::Rcpt, 550, "5.1.1 User unknown")).await?;
    let heard = primary.counters().commands.get("RCPT").copied().unwrap_or_default();
    eventually_is(
        WAIT_TIMEOUT,
        "the recipient to be refused often",
        async || Ok(primary.counters().commands.get("RCPT").copied().unwrap_or_default()),
        |now| *now > heard + 10,
    )
    .await?;
    let status = backend_status(&env, "primary").await?;
    ensure!(status.health == Some(Health::Healthy), "{status:?}");
    for (fault, class) in [
        (Fault::reply(SessionStage::Mail, 554, "Message rejected: Sending paused for this account."), "AccountPaused"),
        (Fault::reply(SessionStage::Mail, 454, "Throttling failure: Daily message quota exceeded."), "QuotaExhausted"),
        (Fault::reply(SessionStage::Auth, 454, "4.7.0 Temporary authentication failure"), "Temporary"),
        (Fault::reply(SessionStage::Rcpt, 554, "5.7.1 Relay access denied"), "Permanent"),
    ] {
        primary.set_fault(fault).await?;
        wait_health(&env, "primary", Health::Unhealthy, class).await?;
        wait_route(&env, "orders", "to leave the primary", |status| status.active[0].backend == "standby").await?;
        primary.repair().await?;
        wait_active(&env, "orders", "primary").await?;
    }
    wait_event(&env, "primary", "BackendUnhealthy").await.map(drop)
}
