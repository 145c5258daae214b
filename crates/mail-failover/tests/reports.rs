//! Reports of agents over real TLS, from the agent's reporter to the operator's server; the API server is a small one
//! in memory (the real one is in `e2e/tests/agents`).

use std::collections::BTreeMap;
use std::io::Write as _;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::http::{Request, Response};
use kube::Client;
use kube::client::Body;
use mail_failover_contract::document::{OperatorEndpoint, RouteReference};
use mail_failover_contract::report;
use mail_failover_contract::testing::{example, token};
use mail_failover_core::model::{
    AgentReport, BackendDeliveries, DeliveryVerdict, EvidenceClass, FailingDeliveries, KeptMail, ObjectKey,
    ThrottledDeliveries, Timestamp,
};
use mail_failover_dataplane::reporter::{self, HEARTBEAT, ReportState, Reporter, ReporterMetrics, SendError, Settings};
use mail_failover_operator::reports::{
    AgentsChange, Directory, ReportConnections, ReportServer, RouteAgents, ServerCertificate,
};
use mail_failover_runtime::clock::Clock;
use prometheus_client::registry::Registry;
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tower::{BoxError, service_fn};

const SOON: Duration = Duration::from_secs(10);

struct Taking {
    endpoint: OperatorEndpoint,
    reports: mpsc::Receiver<AgentReport>,
    registry: Registry,
    _shutdown: tokio_util::sync::DropGuard,
}

/// An API server that accepts the tokens with the last part `postfix`, of the namespace `shop`, and
/// `foreign`, of another.
fn api_server() -> Client {
    let service = service_fn(move |request: Request<Body>| async move {
        let review: Value = serde_json::from_slice(&request.into_body().collect_bytes().await?)?;
        let user = |username: &str| json!({"authenticated": true, "audiences": [report::AUDIENCE], "user": {"username": username}});
        let status =
            match review["spec"]["token"].as_str().and_then(|token| token.rsplit('.').next()).unwrap_or_default() {
                "postfix" => user("system:serviceaccount:shop:default"),
                "foreign" => user("system:serviceaccount:other:default"),
                "slow" => {
                    tokio::time::sleep(Duration::from_secs(1)).await;
                    user("system:serviceaccount:shop:default")
                }
                "stuck" => return std::future::pending().await,
                _ => json!({"authenticated": false, "error": "it quotes secret-token"}),
            };
        let body = json!({"metadata": {}, "spec": {}, "status": status}).to_string();
        Ok::<_, BoxError>(Response::new(axum::body::Body::from(body)))
    });
    Client::new(service, "ops")
}

fn directory() -> Directory {
    let directory = Directory::default();
    let agents = RouteAgents { uid: "u".to_owned(), service_accounts: ["default".into()].into() };
    directory.note([AgentsChange { route: ObjectKey::new("shop", "orders"), agents: Some(agents) }]);
    directory
}

async fn start() -> Taking {
    let certificate = ServerCertificate::generate().unwrap();
    let mut registry = Registry::default();
    let server = ReportServer::bind(([127, 0, 0, 1], 0).into(), &certificate, &mut registry).await.unwrap();
    let address = server.local_addr().unwrap().to_string();
    let endpoint = OperatorEndpoint { address, certificate_sha256: certificate.fingerprint };
    let (sender, reports) = mpsc::channel(4);
    let shutdown = CancellationToken::new();
    let connections =
        ReportConnections { client: api_server(), directory: directory(), reports: sender, clock: Clock::system() };
    tokio::spawn(server.serve(connections, shutdown.clone()));
    Taking { endpoint, reports, registry, _shutdown: shutdown.drop_guard() }
}

async fn post(running: &Taking, signature: &str, body: &Value) -> Result<(), SendError> {
    reporter::post(&running.endpoint, &token(signature), body.to_string().into()).await
}

fn answer(sent: Result<(), SendError>) -> (u16, String) {
    match sent {
        Ok(()) => (204, String::new()),
        Err(SendError::Refused { status, text }) => (status, text),
        Err(error) => panic!("{error}"),
    }
}

#[tokio::test]
async fn a_report_of_the_right_caller_reaches_the_controller_with_times_for_ages() {
    let mut running = start().await;
    let before = Clock::system().now();
    post(&running, "postfix", &example()).await.unwrap();
    let report = running.reports.recv().await.unwrap();
    assert_eq!((&*report.agent.name, report.agent.route.to_string()), ("postfix-0", "shop/orders".to_owned()));
    let DeliveryVerdict::Failing(failing) = &report.backends["ses-eu"].verdict else { panic!("{report:?}") };
    // However long it was on its way: its ages count from when it was received.
    let received_at = failing.first_failure_at + Duration::from_millis(300);
    assert!(before <= received_at && received_at <= Clock::system().now(), "{received_at:?}");
    assert_eq!(report.backends["sendgrid"].verdict, DeliveryVerdict::Passing);
    assert!(!report.tells_accounts_apart, "an older sender may be an agent beside an MTA");
}

#[tokio::test]
async fn ages_count_from_when_a_report_came_and_not_from_when_its_token_was_reviewed() {
    let mut running = start().await;
    let before = Clock::system().now();
    let (endpoint, token) = (running.endpoint.clone(), token("slow"));
    let posted = reporter::post(&endpoint, &token, example().to_string().into());
    let (posted, report) = tokio::join!(posted, running.reports.recv());
    posted.unwrap();
    let report = report.unwrap();
    let reviewed_after = Clock::system().now().since(before);
    let DeliveryVerdict::Failing(failing) = &report.backends["ses-eu"].verdict else { panic!("{report:?}") };
    let came_after = (failing.first_failure_at + Duration::from_millis(300)).since(before);
    assert!(reviewed_after >= Duration::from_secs(1));
    assert!(came_after + Duration::from_secs(1) <= reviewed_after, "{came_after:?} of {reviewed_after:?}");
}

#[tokio::test]
async fn others_are_told_why_not_and_nothing_secret() {
    let mut running = start().await;
    for (token, edit, wanted, text) in [
        ("secret-token", None, 401, "a bearer token of a service account for the audience mail-failover-operator"),
        ("stuck", None, 503, "cannot be reviewed"),
        ("foreign", None, 403, "only system:serviceaccount:shop:NAME"),
        ("postfix", Some(("/route/uid", json!("v"))), 404, "MailRoute shop/orders (uid v) does not exist"),
        ("postfix", Some(("/agent", json!(""))), 400, "agent: use"),
        ("postfix", Some(("/agent", json!("x".repeat(report::MAX_BYTES)))), 413, "a report may have 131072 bytes"),
    ] {
        let mut report = example();
        if let Some((pointer, value)) = edit {
            *report.pointer_mut(pointer).unwrap() = value;
        }
        let (status, answer) = answer(post(&running, token, &report).await);
        assert_eq!(status, wanted, "{token}: {answer}");
        assert!(answer.contains(text) && !answer.contains("secret"), "{token}: {answer}");
    }
    assert!(running.reports.try_recv().is_err());
}

/// Half of them have sent nothing, half have begun a handshake. The bound is ten times what an idle machine needs, and
/// half of an agent's deadline.
#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_idle_clients_keep_no_report_out() {
    mail_failover_runtime::process::raise_limit_of_open_files();
    let mut running = start().await;
    let mut idle = vec![];
    for number in 0..1000 {
        let mut stream = TcpStream::connect(&running.endpoint.address).await.unwrap();
        if number % 2 == 0 {
            // The head of a ClientHello of 512 bytes, which never comes.
            let _ = stream.write_all(&[22, 3, 1, 2, 0, 1, 0, 1, 252]).await;
        }
        idle.push(stream);
    }
    for _ in 0..4 {
        let begun = Instant::now();
        post(&running, "postfix", &example()).await.unwrap();
        assert!(begun.elapsed() < Duration::from_millis(2500), "it took {:?}", begun.elapsed());
        running.reports.recv().await.unwrap();
        // Those that gave way come again.
        for _ in 0..100 {
            idle.push(TcpStream::connect(&running.endpoint.address).await.unwrap());
        }
    }
    let mut metrics = String::new();
    prometheus_client::encoding::text::encode(&mut metrics, &running.registry).unwrap();
    assert!(!metrics.contains("mail_failover_report_connections_gave_way_total 0\n"), "{metrics}");
}

#[tokio::test]
async fn an_agent_speaks_to_no_other_certificate() {
    let running = start().await;
    let endpoint = OperatorEndpoint { certificate_sha256: "0".repeat(64), ..running.endpoint.clone() };
    let error = reporter::post(&endpoint, &token("postfix"), example().to_string().into()).await.unwrap_err();
    assert!(matches!(error, SendError::Connection(_)), "{error}");
    assert!(error.to_string().contains("certificate"), "{error}");
}

fn backends(verdict: DeliveryVerdict) -> BTreeMap<Arc<str>, BackendDeliveries> {
    let deliveries = BackendDeliveries {
        verdict,
        is_bypassed: false,
        sent: 1,
        deferred: 2,
        bounced: 3,
        possible_duplicates: 4,
        diverted: 0,
    };
    [("ses-eu".into(), deliveries)].into()
}

fn failing(now: Timestamp) -> DeliveryVerdict {
    DeliveryVerdict::Failing(FailingDeliveries {
        class: EvidenceClass::AccountPaused,
        message: "554 Sending paused for anna@shop.example".into(),
        first_failure_at: now - Duration::from_secs(2),
        last_failure_at: now - Duration::from_secs(1),
        stage: None,
    })
}

fn state(operators: &[&Taking], verdict: DeliveryVerdict) -> ReportState {
    ReportState {
        route: RouteReference { namespace: "shop".to_owned(), name: "orders".to_owned(), uid: "u".to_owned() },
        operators: operators.iter().map(|taking| taking.endpoint.clone()).collect(),
        backends: backends(verdict),
        last_switch: None,
        kept: Some(KeptMail {
            messages: 2,
            oldest_at: Timestamp::default(),
            about: "Quota".into(),
            backend: "ses-eu".into(),
        }),
        queue: None,
        drill: None,
    }
}

struct Reporting {
    reporter: Reporter,
    clock: Clock,
    token: tempfile::NamedTempFile,
    _end: tokio_util::sync::DropGuard,
}

fn reporting(heartbeat: Duration) -> Reporting {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    writeln!(file, "{}", token("postfix")).unwrap();
    let (clock, shutdown) = (Clock::system(), CancellationToken::new());
    let settings = Settings {
        agent: "postfix-0".to_owned(),
        token_file: Some(file.path().to_owned()),
        heartbeat,
        tells_accounts_apart: true,
    };
    let metrics = ReporterMetrics::new(&mut Registry::default());
    let (reporter, _task) = Reporter::start(settings, clock, metrics, shutdown.clone());
    Reporting { reporter, clock, token: file, _end: shutdown.drop_guard() }
}

#[tokio::test]
async fn news_goes_to_every_replica_at_once_and_everything_again_with_the_heartbeat() {
    let (mut one, mut two) = (start().await, start().await);
    let reporting = reporting(Duration::from_millis(600));
    let begun = Instant::now();
    reporting.reporter.publish(state(&[&one, &two], failing(reporting.clock.now())));
    for taking in [&mut one, &mut two] {
        let report = timeout(SOON, taking.reports.recv()).await.unwrap().unwrap();
        assert_eq!((&*report.agent.name, report.sequence), ("postfix-0", 1));
        assert!(report.tells_accounts_apart);
        let DeliveryVerdict::Failing(failing) = &report.backends["ses-eu"].verdict else { panic!("{report:?}") };
        assert_eq!(failing.class, EvidenceClass::AccountPaused);
        assert_eq!(&*failing.message, "554 Sending paused for <address>");
        let age = Clock::system().now().since(failing.last_failure_at);
        assert!(age >= Duration::from_secs(1) && age < Duration::from_secs(4), "{age:?}");
        assert_eq!(report.backends["ses-eu"].possible_duplicates, 4);
        let kept = report.kept.as_ref().unwrap();
        assert_eq!((kept.messages, &*kept.about, &*kept.backend), (2, "Quota", "ses-eu"));
        assert!(Clock::system().now().since(kept.oldest_at) > Duration::from_hours(24), "mail may be days old");
    }
    let took = begun.elapsed();
    assert!(took < Duration::from_secs(2), "{took:?}");
    let again = timeout(SOON, one.reports.recv()).await.unwrap().unwrap();
    assert_eq!(again.sequence, 2, "a heartbeat");
    assert!(begun.elapsed() > Duration::from_millis(500), "{:?}", begun.elapsed());
    let status = reporting.reporter.status();
    assert_eq!((status.nothing_sent, status.replicas.len()), (None, 2));
    assert!(status.replicas.values().all(|replica| replica.accepted_at.is_some() && replica.error.is_none()));
}

#[tokio::test]
async fn throttling_arrives_as_a_verdict_of_its_own() {
    let mut one = start().await;
    let reporting = reporting(HEARTBEAT);
    let now = reporting.clock.now();
    let throttled = ThrottledDeliveries {
        message: "454 Throttling failure".into(),
        first_at: now - Duration::from_mins(6),
        last_at: now,
    };
    reporting.reporter.publish(state(&[&one], DeliveryVerdict::Throttled(throttled)));
    let report = timeout(SOON, one.reports.recv()).await.unwrap().unwrap();
    let DeliveryVerdict::Throttled(reported) = &report.backends["ses-eu"].verdict else { panic!("{report:?}") };
    assert_eq!(&*reported.message, "454 Throttling failure");
    assert!(reported.last_at.since(reported.first_at) >= Duration::from_mins(6), "{reported:?}");
}

#[tokio::test]
async fn a_replica_that_is_gone_delays_no_other_and_is_told_when_it_is_back() {
    let mut there = start().await;
    let mut gone = start().await;
    let reporting = reporting(HEARTBEAT);
    // The token is good to one of them only when it is renewed.
    std::fs::write(reporting.token.path(), token("secret-token")).unwrap();
    gone.endpoint.certificate_sha256 = "0".repeat(64);
    reporting.reporter.publish(state(&[&there, &gone], DeliveryVerdict::Passing));
    let refused = async {
        loop {
            let status = reporting.reporter.status();
            let errors: Vec<_> = status.replicas.values().filter_map(|replica| replica.error.clone()).collect();
            if errors.len() == 2 {
                return errors.join("\n");
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let errors = timeout(SOON, refused).await.unwrap();
    assert!(errors.contains("401") && errors.contains("fingerprint") && !errors.contains("secret"), "{errors}");
    std::fs::write(reporting.token.path(), token("postfix")).unwrap();
    let report = timeout(SOON, there.reports.recv()).await.unwrap().unwrap();
    assert_eq!(report.backends["ses-eu"].verdict, DeliveryVerdict::Passing);
    assert!(gone.reports.try_recv().is_err());
}

#[tokio::test]
async fn without_a_token_file_or_a_replica_the_status_says_so() {
    let metrics = ReporterMetrics::new(&mut Registry::default());
    let settings =
        Settings { agent: "a".to_owned(), token_file: None, heartbeat: HEARTBEAT, tells_accounts_apart: false };
    let (reporter, _task) = Reporter::start(settings, Clock::system(), metrics, CancellationToken::new());
    assert!(reporter.status().nothing_sent.unwrap().contains("--token-file"));
    let reporting = reporting(HEARTBEAT);
    assert!(reporting.reporter.status().nothing_sent.unwrap().contains("no document"));
    reporting.reporter.publish(state(&[], DeliveryVerdict::Passing));
    let named = async {
        while !reporting.reporter.status().nothing_sent.is_some_and(|why| why.contains("names no replica")) {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(SOON, named).await.unwrap();
}
