//! Deletion of Leases whose observers died without deleting them: under the leader's claim, and only in the version
//! that was seen.

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::coordination::v1::Lease;
use kube::Api;
use kube::api::{DeleteParams, Preconditions};
use tokio::time::timeout;

use super::Metrics;
use super::liveness::LeaseVersion;
use crate::leader::Leadership;
use mail_failover_runtime::kubernetes::CallError;

/// Limit for each deletion.
const DEADLINE: Duration = Duration::from_secs(5);

/// Deletes these Leases while this replica leads. Failed ones are tried again later.
pub(super) async fn sweep(
    api: Api<Lease>,
    leadership: Leadership,
    metrics: Metrics,
    garbage: Vec<(Arc<str>, LeaseVersion)>,
) {
    for (name, LeaseVersion { uid, resource_version }) in garbage {
        let Some(claim) = leadership.claim() else { return };
        // The Lease of an observer that has come back has another version.
        let preconditions =
            Preconditions { uid: Some(uid.to_string()), resource_version: Some(resource_version.to_string()) };
        let parameters = DeleteParams { preconditions: Some(preconditions), ..DeleteParams::default() };
        match claim.guard(timeout(DEADLINE, api.delete(&name, &parameters))).await {
            Err(_claim_lost) => return,
            Ok(Ok(Ok(_))) => {
                metrics.call("sweep", "ok");
                tracing::info!(lease = &*name, "the Lease of an observer that died is deleted");
            }
            Ok(Ok(Err(error))) => failed(&name, &metrics, &CallError::from(error)),
            Ok(Err(_elapsed)) => failed(&name, &metrics, &CallError::Timeout(DEADLINE)),
        }
    }
}

fn failed(lease: &str, metrics: &Metrics, error: &CallError) {
    metrics.call("sweep", error.category());
    tracing::debug!(lease, %error, "the Lease of a dead observer stays");
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use axum::http::{Method, Request, Response};
    use kube::Client;
    use kube::client::Body;
    use prometheus_client::registry::Registry;
    use serde_json::{Value, json};
    use tower::{BoxError, service_fn};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn only_the_leader_deletes_and_only_the_version_that_was_seen() {
        let requests = Arc::new(Mutex::new(vec![]));
        let log = requests.clone();
        let service = service_fn(move |request: Request<Body>| {
            let log = log.clone();
            async move {
                let (head, body) = request.into_parts();
                let body: Value = serde_json::from_slice(&body.collect_bytes().await?)?;
                log.lock().expect("not poisoned").push((head.method, head.uri.path().to_owned(), body));
                Ok::<_, BoxError>(Response::new(axum::body::Body::from(json!({"metadata": {"name": "x"}}).to_string())))
            }
        });
        let api = Api::<Lease>::namespaced(Client::new(service, "ops"), "ops");
        let metrics = Metrics::new(&mut Registry::default());
        let garbage = || vec![(Arc::from("mail-observer-b"), LeaseVersion::for_test("u", "7"))];
        let (leadership, _publisher) = Leadership::for_test(Duration::from_secs(10));
        sweep(api.clone(), leadership.clone(), metrics.clone(), garbage()).await;
        tokio::time::advance(Duration::from_secs(10)).await;
        sweep(api, leadership, metrics, garbage()).await;
        let requests = requests.lock().expect("not poisoned");
        let [(method, path, body)] = requests.as_slice() else { panic!("{requests:?}") };
        assert_eq!((method, path.ends_with("/leases/mail-observer-b")), (&Method::DELETE, true), "{path}");
        assert_eq!(body["preconditions"], json!({"uid": "u", "resourceVersion": "7"}));
    }
}
