//! The server over real TLS; the API server is a small one in memory (the real one is in `e2e/tests/agents`).

use std::time::Duration;

use axum::http::{Request, Response as HttpResponse};
use kube::client::Body as KubeBody;
use serde_json::{Value, json};
use tower::{BoxError, service_fn};

use super::super::{Change, RouteAgents};
use super::*;
use crate::agent::reporter::{self, SendError};
use crate::agent_contract::document::OperatorEndpoint;
use crate::agent_contract::report::tests::example;
use crate::model::{ObjectKey, Word};

pub(crate) struct Taking {
    pub(crate) endpoint: OperatorEndpoint,
    pub(crate) reports: mpsc::Receiver<AgentReport>,
    _shutdown: tokio_util::sync::DropGuard,
}

/// Whose token is good: `postfix`, of the namespace `shop`; `foreign`, of another.
fn api_server() -> Client {
    let service = service_fn(move |request: Request<KubeBody>| async move {
        let review: Value = serde_json::from_slice(&request.into_body().collect_bytes().await?)?;
        let user = |username: &str| json!({"authenticated": true, "audiences": [report::AUDIENCE], "user": {"username": username}});
        let status = match review["spec"]["token"].as_str().unwrap_or_default() {
            "postfix" => user("system:serviceaccount:shop:default"),
            "foreign" => user("system:serviceaccount:other:default"),
            "stuck" => return std::future::pending().await,
            _ => json!({"authenticated": false, "error": "it quotes secret-token"}),
        };
        let body = json!({"metadata": {}, "spec": {}, "status": status}).to_string();
        Ok::<_, BoxError>(HttpResponse::new(axum::body::Body::from(body)))
    });
    Client::new(service, "ops")
}

fn directory() -> Directory {
    let directory = Directory::default();
    let agents = RouteAgents { uid: "u".to_owned(), service_accounts: ["default".into()].into() };
    directory.note([Change { route: ObjectKey::new("shop", "orders"), agents: Some(agents) }]);
    directory
}

pub(crate) async fn start() -> Taking {
    let certificate = Certificate::generate().unwrap();
    let mut registry = Registry::default();
    let server = Server::bind(([127, 0, 0, 1], 0).into(), &certificate, &mut registry).await.unwrap();
    let address = server.local_addr().unwrap().to_string();
    let endpoint = OperatorEndpoint { address, certificate_sha256: certificate.fingerprint };
    let (sender, reports) = mpsc::channel(4);
    let shutdown = CancellationToken::new();
    let connections =
        Connections { client: api_server(), directory: directory(), reports: sender, clock: Clock::system() };
    tokio::spawn(server.serve(connections, shutdown.clone()));
    Taking { endpoint, reports, _shutdown: shutdown.drop_guard() }
}

async fn post(running: &Taking, token: &str, body: &Value) -> Result<(), SendError> {
    reporter::post(&running.endpoint, token, body.to_string().into()).await
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
    let Word::Failing(failing) = &report.backends["ses-eu"].word else { panic!("{report:?}") };
    // However long it was on its way: its ages count from when it was received.
    let received_at = failing.first_failure_at + Duration::from_millis(300);
    assert!(before <= received_at && received_at <= Clock::system().now(), "{received_at:?}");
    assert_eq!(report.backends["sendgrid"].word, Word::Passing);
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

/// Without a network, which on a busy machine is slower than what is a flood.
#[tokio::test]
async fn a_flood_is_told_to_slow_down() {
    let (sender, _reports) = mpsc::channel(4);
    let metrics = Metrics::new(&mut Registry::default());
    let shared = Shared {
        reviewer: Reviewer::new(api_server(), metrics.clone()),
        rate: Mutex::default(),
        directory: directory(),
        reports: sender,
        clock: Clock::system(),
        metrics,
    };
    let headers: HeaderMap =
        [(header::AUTHORIZATION, HeaderValue::from_static("Bearer postfix"))].into_iter().collect();
    let mut answers = vec![];
    for _ in 0..100 {
        let taken = shared.take(&headers, example().to_string().into()).await;
        answers.push(taken.map_or_else(|refusal| refusal.into_response().status().as_u16(), |()| 204));
    }
    assert_eq!(answers[..4], [204; 4]);
    assert_eq!(answers[4], 503, "the queue is full");
    assert_eq!(answers[99], 429, "{answers:?}");
}

#[tokio::test]
async fn an_agent_speaks_to_no_other_certificate() {
    let running = start().await;
    let endpoint = OperatorEndpoint { certificate_sha256: "0".repeat(64), ..running.endpoint.clone() };
    let error = reporter::post(&endpoint, "postfix", example().to_string().into()).await.unwrap_err();
    assert!(matches!(error, SendError::Connection(_)), "{error}");
    assert!(error.to_string().contains("certificate"), "{error}");
}
