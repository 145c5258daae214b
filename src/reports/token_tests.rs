//! Reviews against a small API server in memory, in virtual time.

use axum::http::{Request, Response};
use kube::client::Body;
use prometheus_client::registry::Registry;
use serde_json::{Value, json};
use tower::{BoxError, service_fn};

use super::*;

struct Reviewing {
    reviewer: Reviewer,
    asked: Arc<Mutex<Vec<Value>>>,
    answer: Arc<Mutex<Option<Value>>>,
}

/// A reviewer with an API server that answers with this status, or not at all (`None`).
fn reviewing(status: Option<Value>) -> Reviewing {
    let (asked, answer) = (Arc::new(Mutex::new(vec![])), Arc::new(Mutex::new(status)));
    let (log, answers) = (asked.clone(), answer.clone());
    let service = service_fn(move |request: Request<Body>| {
        let (log, answer) = (log.clone(), answers.lock().unwrap().clone());
        async move {
            let (head, body) = request.into_parts();
            assert_eq!(head.uri.path(), "/apis/authentication.k8s.io/v1/tokenreviews");
            let review: Value = serde_json::from_slice(&body.collect_bytes().await?)?;
            log.lock().unwrap().push(review["spec"].clone());
            let Some(status) = answer else { return std::future::pending().await };
            let body = json!({"metadata": {}, "spec": review["spec"], "status": status}).to_string();
            Ok::<_, BoxError>(Response::new(axum::body::Body::from(body)))
        }
    });
    let metrics = ReportMetrics::new(&mut Registry::default());
    Reviewing { reviewer: Reviewer::new(Client::new(service, "ops"), metrics), asked, answer }
}

fn good() -> Value {
    json!({"authenticated": true, "audiences": [AUDIENCE],
        "user": {"username": "system:serviceaccount:shop:default", "extra": {POD_NAME: ["postfix-0"]}}})
}

impl Reviewing {
    fn count(&self) -> usize {
        self.asked.lock().unwrap().len()
    }
}

#[tokio::test(start_paused = true)]
async fn a_good_token_is_asked_about_once_a_minute() {
    let reviewing = reviewing(Some(good()));
    for (after, count) in [(0, 1), (59, 1), (1, 2), (0, 2)] {
        tokio::time::advance(Duration::from_secs(after)).await;
        let caller = reviewing.reviewer.review("a.b.c").await.unwrap();
        assert_eq!(
            (&*caller.username, caller.pod.as_deref()),
            ("system:serviceaccount:shop:default", Some("postfix-0"))
        );
        assert_eq!(reviewing.count(), count);
    }
    assert_eq!(reviewing.asked.lock().unwrap()[0], json!({"audiences": [AUDIENCE], "token": "a.b.c"}));
}

#[tokio::test(start_paused = true)]
async fn a_bad_token_is_refused_and_asked_about_again_only_after_a_while() {
    for status in [
        json!({"authenticated": false, "error": "token a.b.c has expired"}),
        json!({"authenticated": true, "audiences": ["other"], "user": {"username": "x"}}),
        json!({"authenticated": true, "user": {"username": "x"}}),
        json!({"authenticated": true, "audiences": [AUDIENCE]}),
        json!({}),
    ] {
        let reviewing = reviewing(Some(status.clone()));
        for (after, count) in [(0, 1), (9, 1), (1, 2)] {
            tokio::time::advance(Duration::from_secs(after)).await;
            assert_eq!(reviewing.reviewer.review("a.b.c").await, Err(Denial::Refused), "{status}");
            assert_eq!(reviewing.count(), count, "{status}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_no_token_is_not_asked_about() {
    let reviewing = reviewing(Some(good()));
    for token in ["", "a b", "ä", "a\nb", &"x".repeat(MAX_TOKEN + 1)] {
        assert_eq!(reviewing.reviewer.review(token).await, Err(Denial::Refused), "{token}");
    }
    assert_eq!(reviewing.count(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_silent_api_server_is_waited_for_no_longer_than_the_deadline() {
    let reviewing = reviewing(None);
    let begun = Instant::now();
    assert_eq!(reviewing.reviewer.review("a.b.c").await, Err(Denial::Unavailable));
    assert_eq!(begun.elapsed(), DEADLINE);
    assert_eq!(reviewing.reviewer.review("a.b.c").await, Err(Denial::Unavailable));
    assert_eq!(reviewing.count(), 1, "not at once again");
    *reviewing.answer.lock().unwrap() = Some(good());
    tokio::time::advance(UNAVAILABLE_FOR).await;
    assert!(reviewing.reviewer.review("a.b.c").await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn memory_is_bounded() {
    let reviewing = reviewing(Some(json!({"authenticated": false})));
    for number in 0..MAX_REMEMBERED + 100 {
        let _ = reviewing.reviewer.review(&format!("t{number}")).await;
    }
    assert_eq!(reviewing.reviewer.lock().len(), MAX_REMEMBERED);
}
