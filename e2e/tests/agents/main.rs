//! Trials of agents' reports: they reach every replica, and routes switch on them while every probe
//! succeeds.

mod process;

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use k8s_openapi::api::core::v1::{ConfigMap, Namespace};
use kube::Api;
use kube::api::{ObjectMeta, PostParams};
use mail_failover_api::{Health, MailRoute};
use mail_failover_contract::document::{Document, KEY, OperatorEndpoint, RouteReference};
use mail_failover_contract::report::AUDIENCE;
use mail_failover_core::model::{
    BackendDeliveries, DeliveryVerdict, EvidenceClass, FailingDeliveries, SwitchedMail, Timestamp,
};
use mail_failover_dataplane::reporter::{self, HEARTBEAT, ReportState, Reporter, SendError, Settings};
use mail_failover_e2e::assertions::{api, change, metric_sum};
use mail_failover_e2e::eventually::{eventually, eventually_is};
use mail_failover_e2e::fixture::{
    PolicyTimings, QUICK_LEASE, TwoBackendFixture, WAIT_TIMEOUT, backend_status, route_status, wait_active, wait_health,
};
use mail_failover_e2e::operator::Operator;
use mail_failover_e2e::service_account::{self, token};
use mail_failover_e2e::suite::{self, Options, Trial, trial};
use mail_failover_e2e::test_env::TestEnv;
use mail_failover_runtime::clock::Clock;
use prometheus_client::registry::Registry;
use serde_json::json;
use tokio::net::{TcpSocket, TcpStream};
use tokio::task::JoinSet;
use tokio_util::sync::{CancellationToken, DropGuard};

const ACCOUNT: &str = "postfix";
const CONFIG_MAP: &str = "orders-agent";
const TAKES_REPORTS: [&str; 4] = ["--report-listen-address", "127.0.0.1:0", "--report-advertise-address", "127.0.0.1"];

fn main() -> ExitCode {
    let options =
        Options { operator: true, audit: true, parallel: 4, deadline: Duration::from_mins(5), ..Options::default() };
    let mut trials = vec![
        trial("a route leaves a backend that real mail is refused by though probes succeed, and returns later", switch)
            .listens(),
        trial("of two replicas both are told, and one that ends is told no more", replicas).listens(),
        refusals(),
        trial("a thousand idle connections on each port delay neither the kubelet nor a report", occupied)
            .listens()
            .alone(),
    ];
    trials.extend(process::trials());
    suite::run("agents", options, trials)
}

fn refusals() -> Trial {
    trial("only the service account that the route names may report, with a token for the operator", refused).listens()
}

/// Creates a fixture whose route has agents.
async fn set(env: &Arc<TestEnv>) -> Result<TwoBackendFixture> {
    set_with(env, &PolicyTimings::with_failback()).await
}

async fn set_with(env: &Arc<TestEnv>, timings: &PolicyTimings) -> Result<TwoBackendFixture> {
    let fixture = TwoBackendFixture::create(env.clone(), timings).await?;
    let outputs = json!([
        { "service": { "name": "mail", "ports": [{ "name": "smtp", "port": 25 }] } },
        { "agent": { "configMap": CONFIG_MAP, "serviceAccountName": ACCOUNT } },
    ]);
    change::<MailRoute>(env, "orders", &json!({ "spec": { "outputs": outputs } })).await?;
    service_account::make(env, env.namespace(), ACCOUNT).await?;
    Ok(fixture)
}

async fn start(env: &TestEnv, identity: &str) -> Result<Operator> {
    let operator = env.start_own_operator(identity, &[&QUICK_LEASE[..], &TAKES_REPORTS].concat()).await?;
    operator.wait_ready(WAIT_TIMEOUT).await?;
    Ok(operator)
}

/// Waits for a document that names this many replicas.
async fn document(env: &TestEnv, operators: usize) -> Result<Document> {
    eventually(WAIT_TIMEOUT, &format!("{operators} replicas in the document"), async || {
        let config_map = api::<ConfigMap>(env).get_opt(CONFIG_MAP).await?.context("no ConfigMap yet")?;
        let document: Document = serde_json::from_str(&config_map.data.context("data")?[KEY])?;
        Ok((document.operators.len() == operators).then_some(document))
    })
    .await
}

fn deliveries(verdict: DeliveryVerdict) -> BackendDeliveries {
    BackendDeliveries {
        verdict,
        is_bypassed: false,
        sent: 0,
        deferred: 3,
        bounced: 0,
        possible_duplicates: 0,
        diverted: 0,
    }
}

fn paused(now: Timestamp) -> DeliveryVerdict {
    DeliveryVerdict::Failing(FailingDeliveries {
        class: EvidenceClass::AccountPaused,
        message: "554 Message rejected: Sending paused for this account".into(),
        first_failure_at: now - Duration::from_secs(1),
        last_failure_at: now,
        stage: None,
    })
}

/// A stand-in for an agent, which reports what a trial tells it.
struct ReportingAgent {
    reporter: Reporter,
    clock: Clock,
    document: Document,
    _token: PathBuf,
    _end: DropGuard,
}

impl ReportingAgent {
    async fn start(env: &TestEnv, name: &str, document: Document) -> Result<Self> {
        let file = env.folder().join(format!("{name}.token"));
        std::fs::write(&file, token(env, env.namespace(), ACCOUNT, AUDIENCE).await?)?;
        let (clock, end) = (Clock::system(), CancellationToken::new());
        let settings = Settings {
            agent: name.to_owned(),
            token_file: Some(file.clone()),
            heartbeat: HEARTBEAT,
            tells_accounts_apart: false,
        };
        let metrics = reporter::ReporterMetrics::new(&mut Registry::default());
        let (reporter, _task) = Reporter::start(settings, clock, metrics, end.clone());
        Ok(Self { reporter, clock, document, _token: file, _end: end.drop_guard() })
    }

    fn say(&self, primary: DeliveryVerdict, last_switch: Option<SwitchedMail>) {
        let backends = [("primary", primary), ("standby", DeliveryVerdict::Passing)];
        self.reporter.publish(ReportState {
            route: self.document.route.clone(),
            operators: self.document.operators.clone(),
            backends: backends.into_iter().map(|(name, word)| (name.into(), deliveries(word))).collect(),
            last_switch,
            kept: None,
            queue: None,
            drill: None,
        });
    }
}

async fn verdicts(env: &TestEnv) -> Result<BTreeMap<String, Health>> {
    let status = backend_status(env, "primary").await?;
    Ok(status.probes.into_iter().map(|probe| (probe.name, probe.health)).collect())
}

async fn switch(env: Arc<TestEnv>) -> Result<()> {
    let fixture = set(&env).await?;
    let operator = start(&env, "one").await?;
    fixture.wait_active("primary").await?;
    let agent = ReportingAgent::start(&env, "postfix-0", document(&env, 1).await?).await?;

    let (begun, said_at) = (Instant::now(), agent.clock.now());
    agent.say(paused(said_at), None);
    let status = wait_active(&env, "orders", "standby").await?;
    let last = status.last_transition.context("a transition")?;
    let decided = last.decided_at.0.as_microsecond() - said_at.as_micros();
    eprintln!(
        "decided {:.1} ms after an agent had something to say, everything written after {:?}",
        f64::from(i32::try_from(decided)?) / 1000.0,
        begun.elapsed()
    );
    ensure!(decided < 2_000_000, "it took {decided} µs");
    ensure!(last.reason == "AccountPaused", "{last:?}");
    let evidence = last.first_evidence_at.context("evidence")?.0.as_microsecond() - said_at.as_micros();
    // Its age counts from when the report came, which was before the decision. Ages are in whole milliseconds.
    let latest = decided - 1_000_000 + 1_000;
    ensure!(
        (-1_001_000..=latest).contains(&evidence),
        "the first failure was a second before the report, not {evidence} µs"
    );
    let backend = wait_health(&env, "primary", Health::Unhealthy, "AccountPaused").await?;
    let told = "deliveries: 554 Message rejected: Sending paused for this account";
    ensure!(backend.message.as_deref() == Some(told), "{backend:?}");
    let seen = verdicts(&env).await?;
    ensure!(seen["smtp"] == Health::Healthy && seen["deliveries"] == Health::Unhealthy, "{seen:?}");

    let out = agent.clock.now();
    let switched = SwitchedMail {
        transition: Some(last.id),
        queue_before: 3,
        queue_after: 0,
        first_delivery_at: Some(out),
        first_delivery_after: Some(Duration::from_millis(40)),
        possible_duplicates: 0,
    };
    agent.say(DeliveryVerdict::Silent, Some(switched));
    let at = eventually_is(
        WAIT_TIMEOUT,
        "the first delivery to be written down",
        async || Ok(route_status(&env, "orders").await?.last_transition.and_then(|last| last.first_delivery_at)),
        Option::is_some,
    );
    let off = at.await?.context("it is there")?.0.as_microsecond() - out.as_micros();
    ensure!(off.abs() < 500_000, "{off} µs");

    // Nothing fails any more: 30 s later the report has lapsed, and a second later mail returns to
    // the preferred backend.
    wait_active(&env, "orders", "primary").await?;
    let took = begun.elapsed();
    ensure!(took > Duration::from_secs(30), "it took {took:?}");
    let seen = verdicts(&env).await?;
    ensure!(seen["deliveries"] == Health::Healthy, "{seen:?}");
    let metrics = operator.metrics().await?;
    for (name, label, least) in [
        ("mail_failover_reports_total", "accepted", 2.0),
        ("mail_failover_token_reviews_total", "authenticated", 1.0),
        ("mail_failover_agent_deliveries_total", "deferred", 3.0),
    ] {
        let sum = metric_sum(&metrics, name, |labels| labels.contains(label));
        ensure!(sum >= least, "{name} of {label} is {sum}");
    }
    Ok(())
}

async fn replicas(env: Arc<TestEnv>) -> Result<()> {
    let fixture = set(&env).await?;
    let one = start(&env, "one").await?;
    fixture.wait_active("primary").await?;
    document(&env, 1).await?;
    let two = start(&env, "two").await?;
    for replica in [&one, &two] {
        eventually_is(
            WAIT_TIMEOUT,
            "the other replica to be heard",
            async || {
                Ok(metric_sum(&replica.metrics().await?, "mail_failover_observers", |labels| {
                    labels.contains("\"heard\"")
                }))
            },
            |count| *count > 0.5,
        )
        .await?;
    }
    let agent = ReportingAgent::start(&env, "postfix-0", document(&env, 2).await?).await?;
    let begun = agent.clock.now();
    agent.say(paused(begun), None);
    let status = wait_active(&env, "orders", "standby").await?;
    let decided = status.last_transition.context("a transition")?.decided_at.0.as_microsecond() - begun.as_micros();
    eprintln!("decided {decided} µs after an agent had something to say to two replicas that must agree");
    for replica in [&one, &two] {
        let accepted =
            metric_sum(&replica.metrics().await?, "mail_failover_reports_total", |labels| labels.contains("accepted"));
        ensure!(accepted >= 1.0, "{accepted}");
    }
    let ended = two.terminate(Duration::from_secs(10)).await?;
    ensure!(ended.success(), "{ended}");
    let left = document(&env, 1).await?.operators;
    ensure!(agent.document.operators.contains(&left[0]), "{left:?}");
    Ok(())
}

async fn refused(env: Arc<TestEnv>) -> Result<()> {
    let fixture = set(&env).await?;
    let operator = start(&env, "one").await?;
    fixture.wait_active("primary").await?;
    let Document { route, operators, .. } = document(&env, 1).await?;
    let other = format!("{}-other", env.namespace());
    let metadata = ObjectMeta { name: Some(other.clone()), ..ObjectMeta::default() };
    let namespace = Namespace { metadata, ..Namespace::default() };
    Api::<Namespace>::all(env.client()).create(&PostParams::default(), &namespace).await?;
    service_account::make(&env, &other, ACCOUNT).await?;
    service_account::make(&env, env.namespace(), "default").await?;

    let own = env.namespace();
    let good = token(&env, own, ACCOUNT, AUDIENCE).await?;
    let made_anew = RouteReference { uid: "0".to_owned(), ..route.clone() };
    let expected = format!("system:serviceaccount:{own}:");
    for (what, token, route, status, text) in [
        ("of another namespace", token(&env, &other, ACCOUNT, AUDIENCE).await?, &route, 403, format!("{expected}NAME")),
        (
            "another of this namespace",
            token(&env, own, "default", AUDIENCE).await?,
            &route,
            403,
            format!("{expected}{ACCOUNT}"),
        ),
        ("for another audience", token(&env, own, ACCOUNT, "vault").await?, &route, 401, AUDIENCE.to_owned()),
        ("made up", "aaaa.bbbb.cccc".to_owned(), &route, 401, AUDIENCE.to_owned()),
        ("good, and another route", good.clone(), &made_anew, 404, "does not exist".to_owned()),
    ] {
        match post(&operators[0], &token, route).await {
            Err(SendError::Refused { status: was, text: told }) => {
                ensure!(was == status && told.contains(&text), "{what}: {was}: {told}");
            }
            other => bail!("{what}: {other:?}"),
        }
    }
    post(&operators[0], &good, &route).await?;
    wait_active(&env, "orders", "standby").await?;
    let log = std::fs::read_to_string(operator.log())?;
    ensure!(!log.contains(&good) && !log.contains("aaaa.bbbb"), "a token is in the log");
    Ok(())
}

/// Idle connections on one port.
const IDLE: usize = 1000;
/// Questions of the kubelet, one every 20 ms.
const ASKED: usize = 250;
/// Goal for the time of an answer of `/livez`.
const GOAL: Duration = Duration::from_millis(100);

async fn occupied(env: Arc<TestEnv>) -> Result<()> {
    let fixture = set(&env).await?;
    // The default Lease: three thousand connections that come back can cost a busy machine a renewal every 200 ms, and a
    // leadership that changes is not what this measures.
    let operator = env.start_own_operator("one", &TAKES_REPORTS).await?;
    operator.wait_ready(WAIT_TIMEOUT).await?;
    fixture.wait_active("primary").await?;
    let Document { route, operators, .. } = document(&env, 1).await?;
    let good = token(&env, env.namespace(), ACCOUNT, AUDIENCE).await?;
    let reports: SocketAddr = operators[0].address.parse()?;
    mail_failover_runtime::process::raise_limit_of_open_files();
    let mut idle = JoinSet::new();
    for port in [operator.health_address(), operator.listen_address(), reports] {
        for _ in 0..IDLE {
            idle.spawn(hold(port));
        }
    }
    tokio::time::sleep(Duration::from_secs(2)).await;

    let mut took = vec![];
    for _ in 0..ASKED {
        let begun = Instant::now();
        operator.get("/livez").await?;
        took.push(begun.elapsed());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    took.sort();
    let (median, p99) = (took[ASKED / 2], took[ASKED * 99 / 100]);
    let begun = Instant::now();
    post(&operators[0], &good, &route).await?;
    eprintln!(
        "with {IDLE} idle connections on each port: /livez {median:?}, p99 {p99:?} (goal {GOAL:?}); a report {:?}",
        begun.elapsed()
    );
    // A connection that the kernel drops while a thousand others come back at once is tried again after a second.
    ensure!(median < GOAL && p99 < Duration::from_secs(2), "/livez: {median:?}, p99 {p99:?}");
    ensure!(begun.elapsed() < Duration::from_secs(2), "a report took {:?}", begun.elapsed());
    wait_active(&env, "orders", "standby").await?;
    let metrics = operator.metrics().await?;
    for server in ["http", "health", "report"] {
        let name = format!("mail_failover_{server}_connections_gave_way_total");
        ensure!(metric_sum(&metrics, &name, str::is_empty) > 500.0, "{name}:\n{metrics}");
    }
    Ok(())
}

/// Holds a connection that sends nothing, from an address of its own, as another pod would. Opens another one some
/// seconds after it was ended.
async fn hold(address: SocketAddr) {
    loop {
        if let Ok(stream) = connect_from([127, 0, 0, 2], address).await {
            let _ = stream.readable().await;
        }
        // Each second, 3,000 connections were a flood that a busy machine could not accept in a debug build.
        tokio::time::sleep(Duration::from_secs(5)).await;
    }
}

async fn connect_from(source: [u8; 4], address: SocketAddr) -> io::Result<TcpStream> {
    let socket = TcpSocket::new_v4()?;
    socket.bind((source, 0).into())?;
    socket.connect(address).await
}

async fn post(endpoint: &OperatorEndpoint, token: &str, route: &RouteReference) -> Result<(), SendError> {
    let report = json!({
        "apiVersion": "agent.mailfailover.io/v1alpha1", "route": route, "agent": "host-1", "process": "p", "sequence": 1,
        "backends": [{ "name": "primary", "word": "Failing",
            "failure": { "class": "AccountPaused", "message": "554 paused", "firstMilliseconds": 10, "lastMilliseconds": 5 } }],
    });
    reporter::post(endpoint, token, report.to_string().into()).await
}
