//! Trials of the agent process with only the right that its example grants: to read one
//! `ConfigMap`.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use kube::api::{DeleteParams, ListParams};
use kube::{Api, Client};
use mail_failover_agent::status::{SourceState, SourceStatus, Status};
use mail_failover_api::{FailoverPolicy, Health, MailRoute};
use mail_failover_contract::document::KEY;
use mail_failover_contract::report::AUDIENCE;
use mail_failover_e2e::agent::{self, Agent};
use mail_failover_e2e::assertions::{api, change, data, metric_sum};
use mail_failover_e2e::control_plane::granted;
use mail_failover_e2e::eventually::{eventually, eventually_is};
use mail_failover_e2e::fixture::{PolicyTimings, WAIT_TIMEOUT, route_status, wait_active};
use mail_failover_e2e::operator;
use mail_failover_e2e::service_account::{self, token};
use mail_failover_e2e::suite::{Trial, trial};
use mail_failover_e2e::test_env::TestEnv;
use mail_failover_operator::rbac::AGENT;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;

use super::{ACCOUNT, CONFIG_MAP, document, set_with, start, verdicts};

const RIGHTS: &str = include_str!("../../../examples/postfix-agent/rbac.yaml");
/// The namespace in the example; the trial replaces it by its own.
const NAMESPACE_OF_RIGHTS: &str = "namespace: shop";

pub fn trials() -> Vec<Trial> {
    vec![
        trial(
            "an agent that may read one ConfigMap follows the operator, and its reports of real mail move the route",
            follows,
        )
        .listens(),
        trial("an agent keeps the last good document when its ConfigMap is spoilt, deleted, or out of reach", keeps)
            .stops_api_server()
            .listens(),
    ]
}

/// An agent whose kubeconfig is that of the example's service account.
struct RestrictedAgent {
    agent: Agent,
    client: Client,
    socket: PathBuf,
    mail_log: PathBuf,
    _short: tempfile::TempDir,
}

impl RestrictedAgent {
    async fn start(env: &TestEnv) -> Result<Self> {
        let namespace = env.namespace();
        ensure!(RIGHTS.contains(NAMESPACE_OF_RIGHTS), "the example names another namespace");
        env.apply(&RIGHTS.replace(NAMESPACE_OF_RIGHTS, &format!("namespace: {namespace}"))).await?;
        let folder = env.folder().join("agent");
        let [queue, mail_log, token_file] = ["queue", "mail.log", "report-token"].map(|name| folder.join(name));
        std::fs::create_dir_all(&queue)?;
        std::fs::write(&mail_log, "")?;
        std::fs::write(&token_file, token(env, namespace, ACCOUNT, AUDIENCE).await?)?;
        let kubeconfig = folder.join("kubeconfig");
        service_account::write_kubeconfig(env, namespace, ACCOUNT, &kubeconfig).await?;
        let client = service_account::client(&kubeconfig).await?;
        // The path of a socket is short; that of the trial's folder is not.
        let short = tempfile::tempdir()?;
        let socket = short.path().join("socketmap");
        let arguments = ["--token-file".into(), token_file.into(), "--socket".into(), socket.clone().into()];
        let operator::Options { listen, health, .. } = env.operator_options("agent")?;
        let agent = Agent::start(agent::Options {
            kubeconfig,
            config_map: format!("{namespace}/{CONFIG_MAP}"),
            postfix_config_directory: folder.join("postfix"),
            queue_directory: queue,
            mail_log: mail_log.clone(),
            state_directory: folder.join("state"),
            credentials_directory: folder.join("credentials"),
            listen,
            health,
            log: folder.join("log"),
            arguments: arguments.into_iter().chain(["--name".into(), "postfix-0".into()]).collect(),
            starter: vec![],
        })?;
        Ok(Self { agent, client, socket, mail_log, _short: short })
    }

    /// Asks the agent's socketmap for the transport of this recipient, as Postfix does. Returns the first of its list.
    async fn transport(&self, recipient: &str) -> Result<String> {
        let request = format!("transport {recipient}");
        let mut stream = UnixStream::connect(&self.socket).await?;
        stream.write_all(format!("{}:{request},", request.len()).as_bytes()).await?;
        stream.shutdown().await?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await?;
        let answer = answer.split_once(':').context("a netstring")?.1.trim_end_matches(',');
        Ok(answer.split_once(", ").map_or(answer, |(leading, _alternates)| leading).to_owned())
    }

    async fn wait_transport(&self, expected: &str) -> Result<()> {
        eventually_is(
            WAIT_TIMEOUT,
            &format!("Postfix to be told {expected}"),
            async || self.transport("someone@example.com").await,
            |answer| answer == expected,
        )
        .await?;
        Ok(())
    }

    /// Waits until the agent's status of its `ConfigMap` satisfies a condition.
    async fn wait_source(&self, what: &str, accept: impl Fn(&SourceStatus) -> bool) -> Result<()> {
        eventually_is(
            WAIT_TIMEOUT,
            what,
            async || self.agent.status().await?.sources.into_iter().next().context("a source"),
            |source| accept(source),
        )
        .await?;
        Ok(())
    }

    /// Appends deliveries to the log, in Postfix's format.
    fn deliveries(&self, count: usize, relay: &str, took: &str, outcome: &str) -> Result<()> {
        let mut lines = String::new();
        for number in 0..count {
            let id = fastrand::u64(..);
            writeln!(
                lines,
                "Nov 25 15:43:38 mx postfix/smtp[9935]: {id:X}: to=<u{number}@example.com>, relay={relay}[{relay}]:25, delay={took}, delays=0/0/0/{took}, {outcome}"
            )?;
        }
        std::io::Write::write_all(&mut std::fs::File::options().append(true).open(&self.mail_log)?, lines.as_bytes())?;
        Ok(())
    }
}

fn next_hop(backend: &mail_failover_e2e::mail::server::SmtpServer) -> String {
    let address = backend.address();
    format!("OK smtp:[{}]:{}", address.ip(), address.port())
}

async fn follows(env: Arc<TestEnv>) -> Result<()> {
    let fixture = set_with(&env, &PolicyTimings::default()).await?;
    let immediately = json!({ "spec": { "failure": { "immediately": ["AccountPaused"] } } });
    change::<FailoverPolicy>(&env, "fast", &immediately).await?;
    let operator = start(&env, "one").await?;
    fixture.wait_active("primary").await?;
    document(&env, 1).await?;
    let restricted = RestrictedAgent::start(&env).await?;
    restricted.agent.wait_ready(WAIT_TIMEOUT).await?;
    restricted.wait_transport(&next_hop(&fixture.primary)).await?;

    eventually(WAIT_TIMEOUT, "a report to be accepted", async || {
        let replicas = restricted.agent.status().await?.reports.replicas;
        ensure!(
            replicas.first().is_some_and(|replica| replica.accepted_at.is_some() && replica.error.is_none()),
            "{replicas:?}"
        );
        Ok(Some(()))
    })
    .await?;

    let primary = fixture.primary.address().ip().to_string();
    let paused = "dsn=5.0.0, status=bounced (host a said: 554 Message rejected: Sending paused for this account. (in reply to end of DATA command))";
    // Several times: deliveries that began before mail was given to a backend are no evidence about it.
    eventually(WAIT_TIMEOUT, "the agent to leave the primary", async || {
        restricted.deliveries(1, &primary, "0.01", paused)?;
        Ok((restricted.transport("someone@example.com").await? == next_hop(&fixture.standby)).then_some(()))
    })
    .await?;
    let last = wait_active(&env, "orders", "standby").await?.last_transition.context("a transition")?;
    ensure!(last.reason == "AccountPaused", "{last:?}");
    let seen = verdicts(&env).await?;
    ensure!(seen["smtp"] == Health::Healthy && seen["deliveries"] == Health::Unhealthy, "{seen:?}");
    restricted.wait_transport(&next_hop(&fixture.standby)).await?;

    eventually_is(
        WAIT_TIMEOUT,
        "the decision to reach the agent",
        async || Ok(restricted.agent.status().await?.document.map(|document| document.transition)),
        |transition| *transition == Some(last.id),
    )
    .await?;
    let standby = fixture.standby.address().ip().to_string();
    eventually(WAIT_TIMEOUT, "the first delivery to be written down", async || {
        restricted.deliveries(1, &standby, "0.01", "dsn=2.0.0, status=sent (250 2.0.0 Ok)")?;
        Ok(route_status(&env, "orders").await?.last_transition.and_then(|last| last.first_delivery_at))
    })
    .await?;

    let metrics = operator.metrics().await?;
    ensure!(metric_sum(&metrics, "mail_failover_reports_total", |labels| labels.contains("accepted")) >= 1.0);
    let log = std::fs::read_to_string(restricted.agent.log())?;
    ensure!(!log.contains("eyJ"), "a token is in the agent's log");
    uses_what_it_was_granted(&env)?;
    may_read_nothing_else(&env, &restricted.client).await
}

/// Checks that the agent's requests to the API server match the example's rights: all of them,
/// nothing else, and for its `ConfigMap` only.
fn uses_what_it_was_granted(env: &TestEnv) -> Result<()> {
    // A cluster that exists already has no audit log of ours.
    let Ok(control) = env.control() else { return Ok(()) };
    let calls = control.calls_of(&service_account::user(env.namespace(), ACCOUNT))?;
    let refused: Vec<_> = calls.iter().filter(|call| !call.is_allowed || call.name != CONFIG_MAP).collect();
    ensure!(refused.is_empty(), "{refused:?}");
    let used: BTreeSet<_> = calls.into_iter().map(|call| call.right).collect();
    ensure!(used == granted(&[AGENT]), "{used:?}");
    Ok(())
}

/// Checks that the rights of `examples/postfix-agent/rbac.yaml` end at the one `ConfigMap`.
async fn may_read_nothing_else(env: &TestEnv, client: &Client) -> Result<()> {
    let config_maps: Api<ConfigMap> = Api::namespaced(client.clone(), env.namespace());
    let secrets: Api<Secret> = Api::namespaced(client.clone(), env.namespace());
    let its_own = ListParams::default().fields(&format!("metadata.name={CONFIG_MAP}"));
    ensure!(config_maps.list(&its_own).await?.items.len() == 1);
    for (what, refused) in [
        ("another ConfigMap", config_maps.get("kube-root-ca.crt").await.map(drop)),
        ("all ConfigMaps", config_maps.list(&ListParams::default()).await.map(drop)),
        ("a Secret", secrets.get("ses-login").await.map(drop)),
        ("all Secrets", secrets.list(&ListParams::default()).await.map(drop)),
        ("to delete its own", config_maps.delete(CONFIG_MAP, &DeleteParams::default()).await.map(drop)),
    ] {
        let is_forbidden = matches!(&refused, Err(kube::Error::Api(status)) if status.code == 403);
        ensure!(is_forbidden, "{what}: {refused:?}");
    }
    Ok(())
}

fn switch_to(id: &str, to: &str) -> Value {
    json!({ "metadata": { "annotations": {
        "mailfailover.io/request": json!({ "id": id, "action": "Switch", "to": to }).to_string() } } })
}

fn is_missing(source: &SourceStatus, text: &str) -> bool {
    source.state == SourceState::Missing && source.message.contains(text)
}

async fn keeps(env: Arc<TestEnv>) -> Result<()> {
    let fixture = set_with(&env, &PolicyTimings::default()).await?;
    let operator = start(&env, "one").await?;
    fixture.wait_active("primary").await?;
    change::<MailRoute>(&env, "orders", &switch_to("1", "standby")).await?;
    wait_active(&env, "orders", "standby").await?;
    let restricted = RestrictedAgent::start(&env).await?;
    restricted.agent.wait_ready(WAIT_TIMEOUT).await?;
    let standby = next_hop(&fixture.standby);
    restricted.wait_transport(&standby).await?;
    // The operator would repair the ConfigMap.
    operator.terminate(Duration::from_secs(10)).await?;

    let good = data(&env, CONFIG_MAP).await?.remove(KEY).context("a document")?;
    let mut older: Value = serde_json::from_str(&good)?;
    ensure!(older["decision"]["transition"].as_i64() >= Some(1), "{older}");
    older["decision"]["transition"] = json!(0);
    (older["backends"][0]["percent"], older["backends"][1]["percent"]) = (json!(100), json!(0));
    for (what, spoilt, refusal) in
        [("garbage", "}{", "JSON"), ("an older version", &*older.to_string(), "older"), ("nothing", "", "empty")]
    {
        change::<ConfigMap>(&env, CONFIG_MAP, &json!({ "data": { KEY: spoilt } })).await?;
        restricted
            .wait_source(&format!("{what} to be refused"), |source| {
                source.refused.as_ref().is_some_and(|why| why.contains(refusal))
            })
            .await?;
        ensure!(restricted.transport("a@example.com").await? == standby, "{what} changed the answers");
    }
    change::<ConfigMap>(&env, CONFIG_MAP, &json!({ "data": { KEY: null } })).await?;
    restricted.wait_source("the missing key to be told", |source| is_missing(source, KEY)).await?;
    api::<ConfigMap>(&env).delete(CONFIG_MAP, &DeleteParams::default()).await?;
    restricted.wait_source("the deletion to be told", |source| is_missing(source, "deleted")).await?;
    ensure!(restricted.transport("a@example.com").await? == standby, "a deletion changed the answers");

    let control = env.control()?;
    control.stop_api_server();
    restricted.wait_source("the API server to be missed", |source| source.state == SourceState::Unreachable).await?;
    restricted.agent.kill();
    restricted.agent.start_again()?;
    restricted.agent.wait_ready(WAIT_TIMEOUT).await?;
    let Status { document, .. } = restricted.agent.status().await?;
    ensure!(document.context("the last good document")?.source.starts_with("last good document"));
    ensure!(
        restricted.transport("a@example.com").await? == standby,
        "a start without an API server changed the answers"
    );

    control.start_api_server().await?;
    let operator = start(&env, "two").await?;
    restricted
        .wait_source("the ConfigMap to be followed again", |source| source.state == SourceState::Following)
        .await?;
    change::<MailRoute>(&env, "orders", &switch_to("2", "primary")).await?;
    eventually(WAIT_TIMEOUT, "the way back", async || {
        Ok((restricted.transport("a@example.com").await? == next_hop(&fixture.primary)).then_some(()))
    })
    .await?;
    drop(operator);
    Ok(())
}
