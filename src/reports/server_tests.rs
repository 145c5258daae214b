//! A flood of reports; the API server is a small one in memory. Reports over real TLS:
//! `crates/mail-failover/tests/reports.rs`.

use axum::http::{Request, Response as HttpResponse};
use kube::client::Body as KubeBody;
use mail_failover_contract::testing::{example, token};
use mail_failover_core::model::ObjectKey;
use serde_json::json;
use tower::{BoxError, service_fn};

use super::super::{AgentsChange, RouteAgents};
use super::*;

/// Every token is that of the service account `default` in the namespace `shop`.
fn api_server() -> Client {
    let service = service_fn(move |_: Request<KubeBody>| async move {
        let user = json!({"username": "system:serviceaccount:shop:default"});
        let status = json!({"authenticated": true, "audiences": [report::AUDIENCE], "user": user});
        let body = json!({"metadata": {}, "spec": {}, "status": status}).to_string();
        Ok::<_, BoxError>(HttpResponse::new(axum::body::Body::from(body)))
    });
    Client::new(service, "ops")
}

fn directory() -> Directory {
    let directory = Directory::default();
    let agents = RouteAgents { uid: "u".to_owned(), service_accounts: ["default".into()].into() };
    directory.note([AgentsChange { route: ObjectKey::new("shop", "orders"), agents: Some(agents) }]);
    directory
}

/// Tests the server without a network, which on a busy machine is slower than a flood.
#[tokio::test]
async fn a_flood_is_told_to_slow_down() {
    let (sender, _reports) = mpsc::channel(4);
    let metrics = ReportMetrics::new(&mut Registry::default());
    let shared = ReportContext {
        reviewer: Reviewer::new(api_server(), Clock::system(), metrics.clone()),
        rate: Mutex::default(),
        directory: directory(),
        reports: sender,
        clock: Clock::system(),
        metrics,
    };
    let bearer = HeaderValue::from_str(&format!("Bearer {}", token("postfix"))).expect("a header");
    let headers: HeaderMap = [(header::AUTHORIZATION, bearer)].into_iter().collect();
    let mut answers = vec![];
    for _ in 0..100 {
        let taken = shared.take(&headers, example().to_string().into()).await;
        answers.push(taken.map_or_else(|refusal| refusal.into_response().status().as_u16(), |()| 204));
    }
    assert_eq!(answers[..4], [204; 4]);
    assert_eq!(answers[4], 503, "the queue is full");
    assert_eq!(answers[99], 429, "{answers:?}");
}
