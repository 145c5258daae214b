//! Reviews against a small API server in memory, in virtual time.

use axum::http::{Request, Response};
use kube::client::Body;
use mail_failover_contract::testing::token;
use prometheus_client::registry::Registry;
use serde_json::{Value, json};
use tower::{BoxError, service_fn};

use super::super::claims::tests::token as claims_token;
use super::*;

struct Reviewing {
    reviewer: Reviewer,
    metrics: ReportMetrics,
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
    let reviewer = Reviewer::new(Client::new(service, "ops"), Clock::system(), metrics.clone());
    Reviewing { reviewer, metrics, asked, answer }
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
        let caller = reviewing.reviewer.review(&token("s")).await.unwrap();
        assert_eq!(
            (&*caller.username, caller.pod.as_deref()),
            ("system:serviceaccount:shop:default", Some("postfix-0"))
        );
        assert_eq!(reviewing.count(), count);
    }
    assert_eq!(reviewing.asked.lock().unwrap()[0], json!({"audiences": [AUDIENCE], "token": token("s")}));
}

#[tokio::test(start_paused = true)]
async fn a_bad_token_is_refused_and_asked_about_again_only_after_a_while() {
    for status in [
        json!({"authenticated": false, "error": "the token has expired"}),
        json!({"authenticated": true, "audiences": ["other"], "user": {"username": "x"}}),
        json!({"authenticated": true, "user": {"username": "x"}}),
        json!({"authenticated": true, "audiences": [AUDIENCE]}),
        json!({}),
    ] {
        let reviewing = reviewing(Some(status.clone()));
        for (after, count) in [(0, 1), (9, 1), (1, 2)] {
            tokio::time::advance(Duration::from_secs(after)).await;
            assert_eq!(reviewing.reviewer.review(&token("s")).await, Err(Denial::Refused), "{status}");
            assert_eq!(reviewing.count(), count, "{status}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_no_token_for_us_is_not_asked_about() {
    let reviewing = reviewing(Some(good()));
    let others = claims_token(&json!({"aud": ["vault"], "exp": 4_102_444_800_u64}), "s");
    let expired = claims_token(&json!({"aud": [AUDIENCE], "exp": 1_700_000_000}), "s");
    for token in ["", "a b", "ä", "a\nb", "a.b.c", &others, &expired, &token(&"x".repeat(MAX_TOKEN))] {
        assert_eq!(reviewing.reviewer.review(token).await, Err(Denial::Refused), "{token}");
    }
    assert_eq!(reviewing.count(), 0);
}

/// Ten thousand made-up tokens in ten seconds; the API server refuses each.
#[tokio::test(start_paused = true)]
async fn a_flood_of_made_up_tokens_is_bounded_and_keeps_no_known_agent_out() {
    let reviewing = reviewing(Some(good()));
    let of_pod = |exp: u64| {
        claims_token(&json!({"aud": [AUDIENCE], "exp": exp, "kubernetes.io": {"pod": {"uid": "7e57"}}}), "s")
    };
    reviewing.reviewer.review(&of_pod(4_102_444_800)).await.unwrap();
    *reviewing.answer.lock().unwrap() = Some(json!({"authenticated": false}));
    for number in 0..10_000 {
        let _ = reviewing.reviewer.review(&token(&format!("forged{number}"))).await;
        tokio::time::advance(Duration::from_millis(1)).await;
    }
    let asked = reviewing.count();
    assert!((600..=720).contains(&asked), "200 at once and 50 a second: {asked}");
    // Whatever is left of the share by now.
    for number in 0..10 {
        let _ = reviewing.reviewer.review(&token(&format!("last{number}"))).await;
    }
    let asked = reviewing.count();
    *reviewing.answer.lock().unwrap() = Some(good());
    // A new pod waits among the made-up ones. The known one is asked about, though its token is another by now.
    assert_eq!(reviewing.reviewer.review(&token("new")).await, Err(Denial::Unavailable));
    reviewing.reviewer.review(&of_pod(4_102_444_801)).await.unwrap();
    assert_eq!(reviewing.count(), asked + 1);
    tokio::time::advance(Duration::from_secs(1)).await;
    reviewing.reviewer.review(&token("new")).await.unwrap();
    assert_eq!(reviewing.metrics.known_callers.get(), 2);
}

/// Nobody but the API server makes a token a known one.
#[tokio::test(start_paused = true)]
async fn a_refused_token_is_never_known() {
    let reviewing = reviewing(Some(json!({"authenticated": false})));
    for number in 0..100 {
        let _ = reviewing.reviewer.review(&token(&format!("forged{number}"))).await;
    }
    assert_eq!((reviewing.count(), lock(&reviewing.reviewer.known).len()), (100, 0));
}

#[tokio::test(start_paused = true)]
async fn a_silent_api_server_is_waited_for_no_longer_than_the_deadline() {
    let reviewing = reviewing(None);
    let begun = Instant::now();
    assert_eq!(reviewing.reviewer.review(&token("s")).await, Err(Denial::Unavailable));
    assert_eq!(begun.elapsed(), DEADLINE);
    assert_eq!(reviewing.reviewer.review(&token("s")).await, Err(Denial::Unavailable));
    assert_eq!(reviewing.count(), 1, "not at once again");
    *reviewing.answer.lock().unwrap() = Some(good());
    tokio::time::advance(UNAVAILABLE_FOR).await;
    assert!(reviewing.reviewer.review(&token("s")).await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn memory_is_bounded() {
    let reviewing = reviewing(Some(json!({"authenticated": false})));
    for number in 0..MAX_REMEMBERED + 100 {
        let hash = hash(&number.to_string());
        reviewing.reviewer.know(hash);
        reviewing.reviewer.remember(hash, Err(Denial::Refused));
    }
    assert_eq!(lock(&reviewing.reviewer.remembered).len(), MAX_REMEMBERED);
    assert_eq!(lock(&reviewing.reviewer.known).len(), MAX_REMEMBERED);
}
