//! Trials of notifications: receivers that check each format by the schema of its documentation, and a real
//! Alertmanager.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::net::SocketAddr;
use std::process::{Command, ExitCode};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use k8s_openapi::api::core::v1::Secret;
use mail_failover_api::{FailoverPolicy, FailoverPolicyStatus, MailRoute};
use mail_failover_e2e::assertions::{api, change};
use mail_failover_e2e::control_plane::{Binaries, Program};
use mail_failover_e2e::eventually::eventually;
use mail_failover_e2e::fixture::{PolicyTimings, QUICK_LEASE, TwoBackendFixture, WAIT_TIMEOUT, route, route_status};
use mail_failover_e2e::mail::certificates::{Authority, Validity};
use mail_failover_e2e::mail::server::Fault;
use mail_failover_e2e::notification_receiver::{NotificationReceiver, ReceivedNotification, ReceiverMode};
use mail_failover_e2e::operator::get;
use mail_failover_e2e::process::Process;
use mail_failover_e2e::suite::{self, Options, trial};
use mail_failover_e2e::test_env::TestEnv;
use ring::hmac;
use serde_json::{Value, json};

/// 32 bytes as a signing secret has them.
const SIGNING_KEY: &[u8] = b"01234567890123456789012345678901";
const ROUTING_KEY: &str = "0123456789abcdef0123456789abcdef";

fn main() -> ExitCode {
    let options = Options {
        operator: true,
        programs: &[Program::Alertmanager],
        parallel: 3,
        deadline: Duration::from_mins(5),
        ..Options::default()
    };
    let trials = vec![
        trial("each receiver is told a failover and its end as its documentation asks for", formats),
        trial("each move is told once by its id, through killed operators and lost answers", at_least_once),
        trial("an Alertmanager shows one alert while a failover lasts, and none afterwards", alertmanager),
        trial("routes that a provider takes with it are one message", one_message),
        trial("a test message is answered for each receiver in the policy's status", test_message),
    ];
    suite::run("notifications", options, trials.into_iter().map(suite::Trial::listens).collect())
}

/// Two backends, a receiver with a certificate of an authority of its own, and Secrets.
struct Arena {
    fixture: TwoBackendFixture,
    receiver: NotificationReceiver,
}

impl Arena {
    async fn create(env: &Arc<TestEnv>, receivers: impl FnOnce(&NotificationReceiver) -> Value) -> Result<Self> {
        let authority = Authority::new()?;
        let address = SocketAddr::new(env.ipv4(), 443);
        let identity = authority.issue(&[&address.ip().to_string()], Validity::Valid)?;
        let receiver = NotificationReceiver::start(address, &identity).await?;
        let url = receiver.url();
        let config_map = json!({ "apiVersion": "v1", "kind": "ConfigMap", "metadata": { "name": "receiver-ca" },
            "data": { "ca.crt": authority.pem() } });
        let mut objects = vec![config_map];
        for chat in ["slack", "teams", "discord", "googlechat"] {
            objects.push(secret(chat, &json!({ "url": format!("{url}/{chat}") })));
        }
        let signing = format!("whsec_{}", STANDARD.encode(SIGNING_KEY));
        let others =
            json!({ "signing-secret": signing, "routing-key": ROUTING_KEY, "api-key": "k3y", "bot-token": "7:b0t" });
        objects.push(secret("receiver", &others));
        let objects: Vec<_> = objects.iter().map(|object| format!("---\n{object}\n")).collect();
        env.apply(&objects.concat()).await?;
        let fixture = TwoBackendFixture::create(env.clone(), &PolicyTimings::with_failback()).await?;
        let notifications = json!({ "spec": { "notifications": {
            "runbookUrl": "https://wiki.example/mail", "receivers": receivers(&receiver) } } });
        change::<FailoverPolicy>(env, "fast", &notifications).await?;
        Ok(Self { fixture, receiver })
    }

    async fn fail_over(&self) -> Result<()> {
        self.fixture.primary.set_fault(Fault::Refuse).await?;
        self.fixture.wait_active("standby").await.map(drop)
    }

    async fn fail_back(&self) -> Result<()> {
        self.fixture.primary.repair().await?;
        self.fixture.wait_active("primary").await.map(drop)
    }

    /// Waits until nothing waits for a receiver any more.
    async fn wait_delivered(&self) -> Result<FailoverPolicyStatus> {
        let env = &self.fixture.env;
        eventually(WAIT_TIMEOUT, "all notifications to be delivered", async || {
            let route = route_status(env, "orders").await?;
            let status = policy_status(env).await?;
            let is_empty = status.notifications.as_ref().is_some_and(|all| all.queue.is_empty());
            Ok((is_empty && route.pending_notifications.is_empty()).then_some(status))
        })
        .await
    }
}

fn secret(name: &str, data: &Value) -> Value {
    json!({ "apiVersion": "v1", "kind": "Secret", "metadata": { "name": name }, "type": "mailfailover.io/notification",
        "stringData": data })
}

fn receiver(name: &str, type_: &str, secret: &str, more: Value) -> Value {
    let mut receiver = json!({ "name": name, "type": type_, "secretRef": { "name": secret },
        "caRef": { "configMap": "receiver-ca" } });
    if let (Value::Object(receiver), Value::Object(more)) = (&mut receiver, more) {
        receiver.extend(more);
    }
    receiver
}

fn webhook(at: &NotificationReceiver) -> Value {
    receiver("hook", "Webhook", "receiver", json!({ "url": format!("{}/webhook", at.url()) }))
}

async fn policy_status(env: &TestEnv) -> Result<FailoverPolicyStatus> {
    Ok(api::<FailoverPolicy>(env).get("fast").await?.status.unwrap_or_default())
}

/// Refusals of a body by the schema of its receiver.
fn refusals(schema: &str, body: &Value) -> Result<Vec<String>> {
    let schema = serde_json::from_str(schema)?;
    let validator = jsonschema::validator_for(&schema).map_err(|error| anyhow::anyhow!("{error}"))?;
    Ok(validator.iter_errors(body).map(|error| format!("{}: {error}", error.instance_path())).collect())
}

/// The schema of the call of a path.
fn schema(path: &str) -> Option<&'static str> {
    Some(match path {
        "/webhook" => include_str!("schemas/webhook.json"),
        "/slack" => include_str!("schemas/slack.json"),
        "/teams" => include_str!("schemas/teams.json"),
        "/discord" => include_str!("schemas/discord.json"),
        "/googlechat" => include_str!("schemas/google_chat.json"),
        "/v2/enqueue" => include_str!("schemas/pager_duty.json"),
        "/v2/alerts" => include_str!("schemas/opsgenie.json"),
        "/bot7:b0t/sendMessage" => include_str!("schemas/telegram.json"),
        path if path.starts_with("/v2/alerts/") && path.ends_with("/close?identifierType=alias") => {
            include_str!("schemas/opsgenie_close.json")
        }
        _ => return None,
    })
}

/// Checks the signature as Standard Webhooks has it.
fn verify(call: &ReceivedNotification) -> Result<()> {
    let header = |name: &str| call.headers.get(name).with_context(|| format!("no header {name}"));
    let signed = format!("{}.{}.{}", header("webhook-id")?, header("webhook-timestamp")?, call.text);
    let tag = header("webhook-signature")?.strip_prefix("v1,").context("no v1")?;
    let key = hmac::Key::new(hmac::HMAC_SHA256, SIGNING_KEY);
    hmac::verify(&key, signed.as_bytes(), &STANDARD.decode(tag)?).map_err(|_| anyhow::anyhow!("not our signature"))?;
    ensure!(call.body["id"] == json!(header("webhook-id")?), "one id");
    Ok(())
}

async fn formats(env: Arc<TestEnv>) -> Result<()> {
    let arena = Arena::create(&env, |at| {
        json!([
            webhook(at),
            receiver("slack", "Slack", "slack", json!({})),
            receiver("teams", "Teams", "teams", json!({})),
            receiver("discord", "Discord", "discord", json!({})),
            receiver("googlechat", "GoogleChat", "googlechat", json!({})),
            receiver("pager", "PagerDuty", "receiver", json!({ "url": at.url() })),
            receiver("genie", "Opsgenie", "receiver", json!({ "url": at.url() })),
            receiver("telegram", "Telegram", "receiver", json!({ "url": at.url(), "chat": "-100" })),
            json!({ "name": "post", "type": "Mail", "mail": {
                "from": "operator@example.org", "to": ["a@example.org", "b@example.org"], "backends": ["primary", "standby"] } }),
        ])
    })
    .await?;
    let _operator = arena.fixture.start_operator("a").await?;
    arena.fail_over().await?;
    let moved = Instant::now();
    arena.wait_delivered().await?;
    println!("9 receivers were told {:.1} s after the failover", moved.elapsed().as_secs_f64());
    arena.fail_back().await?;
    let status = arena.wait_delivered().await?;
    let mut counts: BTreeMap<String, usize> = BTreeMap::new();
    for call in arena.receiver.received() {
        let schema = schema(&call.path).with_context(|| format!("nobody documents {}", call.path))?;
        let refusals = refusals(schema, &call.body)?;
        ensure!(refusals.is_empty(), "{}: {refusals:?}: {}", call.path, call.body);
        if call.path == "/webhook" {
            verify(&call)?;
        }
        let path = if call.path.ends_with("/close?identifierType=alias") { "close" } else { &call.path };
        *counts.entry(path.to_owned()).or_default() += 1;
    }
    let expected = [
        ("/webhook", 2),
        ("/slack", 2),
        ("/teams", 2),
        ("/discord", 2),
        ("/googlechat", 2),
        ("/v2/enqueue", 2),
        ("/v2/alerts", 1),
        ("close", 1),
        ("/bot7:b0t/sendMessage", 2),
    ];
    let expected: BTreeMap<_, _> = expected.into_iter().map(|(path, count)| (path.to_owned(), count)).collect();
    ensure!(counts == expected, "{counts:?}");
    let pager = arena.receiver.at("/v2/enqueue");
    ensure!(pager[0].body["event_action"] == "trigger" && pager[1].body["event_action"] == "resolve");
    ensure!(pager[0].body["dedup_key"] == pager[1].body["dedup_key"], "one incident");
    let genie = arena.receiver.at("/v2/alerts");
    ensure!(genie[1].path.contains(genie[0].body["alias"].as_str().context("an alias")?), "one alert");
    ensure!(genie[0].headers.get("authorization").map(String::as_str) == Some("GenieKey k3y"));
    // Mail left by the backend that could deliver at the time.
    let mails: Vec<_> = arena.fixture.standby.received().into_iter().chain(arena.fixture.primary.received()).collect();
    ensure!(mails.len() == 2, "{mails:?}");
    for mail in &mails {
        ensure!(mail.recipients == ["a@example.org", "b@example.org"] && mail.sender == "operator@example.org");
        let content = String::from_utf8_lossy(&mail.content).into_owned();
        ensure!(content.contains("Subject: [mail failover,") && content.contains("Auto-Submitted:"), "{content}");
    }
    let told = status.notifications.context("notifications")?.receivers;
    ensure!(told.len() == 9 && told.iter().all(|one| one.delivered.is_some() && one.failure.is_none()), "{told:?}");
    Ok(())
}

async fn at_least_once(env: Arc<TestEnv>) -> Result<()> {
    let arena = Arena::create(&env, |at| json!([webhook(at)])).await?;
    let mut operator = arena.fixture.start_operator("a").await?;
    let rounds = 6;
    for round in 0..rounds {
        // The operator dies while answers are lost: nobody has written down that the receiver has taken the message.
        arena.receiver.set_mode(ReceiverMode::Lose);
        let before = ids(&arena).len();
        if round % 2 == 0 {
            arena.fail_over().await?;
        } else {
            arena.fail_back().await?;
        }
        eventually(WAIT_TIMEOUT, "the receiver to take the message", async || {
            Ok((ids(&arena).len() > before).then_some(()))
        })
        .await?;
        operator.kill();
        drop(operator);
        arena.receiver.set_mode(ReceiverMode::Accept);
        operator = env.start_own_operator(&format!("b{round}"), &QUICK_LEASE).await?;
        operator.wait_ready(WAIT_TIMEOUT).await?;
        arena.wait_delivered().await?;
    }
    let calls = arena.receiver.received();
    let ids = ids(&arena);
    ensure!(ids.len() == rounds, "an id for each move, and none more: {ids:?}");
    let occasions: Vec<_> =
        calls.iter().map(|call| call.body["data"]["occasion"].as_str().unwrap_or_default()).collect();
    let mut in_order = occasions.clone();
    in_order.dedup();
    ensure!(in_order.len() == rounds, "in order: {occasions:?}");
    for id in &ids {
        let answered =
            calls.iter().filter(|call| call.body["id"] == json!(id) && call.mode == ReceiverMode::Accept).count();
        let lost = calls.iter().filter(|call| call.body["id"] == json!(id) && call.mode == ReceiverMode::Lose).count();
        ensure!(answered == 1 && lost >= 1, "{id}: {answered} answered, {lost} lost");
    }
    let metrics = operator.metrics().await?;
    ensure!(
        metrics.contains("mail_failover_notification_repeated_calls_total{type=\"Webhook\"} 1"),
        "counted: {metrics}"
    );
    println!("{} messages, {} calls, {} of them with a lost answer", ids.len(), calls.len(), calls.len() - ids.len());
    Ok(())
}

/// Ids of the messages that the receiver has taken.
fn ids(arena: &Arena) -> BTreeSet<String> {
    let calls = arena.receiver.received();
    calls.iter().filter_map(|call| call.body["id"].as_str().map(str::to_owned)).collect()
}

async fn alertmanager(env: Arc<TestEnv>) -> Result<()> {
    let address = SocketAddr::new(env.ipv4(), 9093);
    let config = env.folder().join("alertmanager.yml");
    fs::write(&config, "route: {receiver: nobody}\nreceivers: [{name: nobody}]\n")?;
    let binaries = Binaries::locate(&[Program::Alertmanager])?;
    let mut command = Command::new(binaries.path(Program::Alertmanager)?);
    command
        .arg(format!("--config.file={}", config.display()))
        .arg(format!("--storage.path={}", env.folder().join("alertmanager").display()))
        .arg(format!("--web.listen-address={address}"))
        .arg("--cluster.listen-address=");
    let _process = Process::start("alertmanager", &mut command, &env.folder().join("alertmanager.log"))?;
    eventually(WAIT_TIMEOUT, "Alertmanager to be ready", async || {
        Ok(get(address, "/-/ready").await.is_ok().then_some(()))
    })
    .await?;
    let receivers = json!([{ "name": "am", "type": "Alertmanager", "url": format!("http://{address}") }]);
    let arena = Arena::create(&env, |_| receivers).await?;
    let mut arguments = QUICK_LEASE.to_vec();
    arguments.extend(["--allow-webhook-ports", "9093"]);
    let operator = env.start_own_operator("a", &arguments).await?;
    operator.wait_ready(WAIT_TIMEOUT).await?;
    arena.fixture.wait_active("primary").await?;
    arena.fail_over().await?;
    let fired = eventually(WAIT_TIMEOUT, "the alert", async || Ok(alerts(address).await?.pop())).await?;
    let labels = json!({ "alertname": "MailRouteFailover", "severity": "warning", "namespace": env.namespace(),
        "policy": "fast", "backend": "primary" });
    ensure!(fired["labels"] == labels && fired["status"]["state"] == "active", "{fired}");
    ensure!(fired["annotations"]["runbook_url"] == "https://wiki.example/mail#failover", "{fired}");
    // It is told again before it would end, over a restart, too.
    operator.kill();
    drop(operator);
    let operator = env.start_own_operator("b", &arguments).await?;
    operator.wait_ready(WAIT_TIMEOUT).await?;
    eventually(Duration::from_secs(100), "the alert to be told again", async || {
        let alerts = alerts(address).await?;
        ensure!(alerts.len() == 1, "one alert, and none more: {alerts:?}");
        Ok((alerts[0]["endsAt"] != fired["endsAt"] && alerts[0]["startsAt"] == fired["startsAt"]).then_some(()))
    })
    .await?;
    arena.fail_back().await?;
    eventually(WAIT_TIMEOUT, "the alert to end", async || Ok(alerts(address).await?.is_empty().then_some(()))).await?;
    arena.wait_delivered().await.map(drop)
}

/// The alerts that fire at an Alertmanager.
async fn alerts(address: SocketAddr) -> Result<Vec<Value>> {
    let answer = get(address, "/api/v2/alerts?active=true").await?;
    serde_json::from_str(&answer).with_context(|| answer.clone())
}

async fn one_message(env: Arc<TestEnv>) -> Result<()> {
    let arena = Arena::create(&env, |at| json!([webhook(at)])).await?;
    let routes: Vec<_> = (0..40)
        .map(|number| route(&format!("more-{number}"), &["primary", "standby"], &format!("more-{number}")))
        .collect();
    env.apply(&routes.concat()).await?;
    let _operator = arena.fixture.start_operator("a").await?;
    eventually(WAIT_TIMEOUT, "all routes to leave by the primary", async || {
        let routes = api::<MailRoute>(&env).list(&kube::api::ListParams::default()).await?.items;
        let active = |route: &MailRoute| route.status.as_ref().and_then(|status| status.active_summary.clone());
        Ok(routes.iter().all(|route| active(route).as_deref() == Some("primary")).then_some(()))
    })
    .await?;
    arena.fail_over().await?;
    arena.wait_delivered().await?;
    let calls = arena.receiver.received();
    let counts: Vec<_> = calls.iter().map(|call| call.body["data"]["routeCount"].clone()).collect();
    ensure!(counts == [json!(41)], "{counts:?}");
    Ok(())
}

async fn test_message(env: Arc<TestEnv>) -> Result<()> {
    let arena =
        Arena::create(&env, |at| json!([webhook(at), receiver("slack", "Slack", "nowhere", json!({}))])).await?;
    let broken = secret("nowhere", &json!({ "url": "https://127.0.0.1:9/t0ken" }));
    env.apply(&format!("---\n{broken}\n")).await?;
    let _operator = arena.fixture.start_operator("a").await?;
    let request = json!({ "metadata": { "annotations": { "mailfailover.io/test-notification": "t-1" } } });
    change::<FailoverPolicy>(&env, "fast", &request).await?;
    let test = eventually(WAIT_TIMEOUT, "the answers", async || {
        let test = policy_status(&env).await?.notifications.and_then(|all| all.test);
        Ok(test.filter(|test| test.id == "t-1" && test.results.len() == 2))
    })
    .await?;
    let accepted: BTreeMap<_, _> = test.results.iter().map(|one| (one.receiver.as_str(), one.accepted)).collect();
    ensure!(accepted == [("hook", true), ("slack", false)].into(), "{:?}", test.results);
    let message = &test.results.iter().find(|one| !one.accepted).context("a failure")?.message;
    ensure!(message.contains("127.0.0.1") && !message.contains("t0ken"), "the path may be a secret: {message}");
    ensure!(arena.receiver.received().len() == 1 && arena.receiver.received()[0].body["data"]["occasion"] == "Test");
    let secrets = api::<Secret>(&env).list(&kube::api::ListParams::default()).await?.items.len();
    ensure!(secrets >= 6, "the operator has changed none: {secrets}");
    Ok(())
}
