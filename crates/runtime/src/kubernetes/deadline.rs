//! The layer of a client that gives every request its deadline, and counts it.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::http::{Method, Request, Response, StatusCode, Uri};
use hyper::body::{Body as HttpBody, Bytes, Frame, SizeHint};
use kube::client::{Body, DynBody};
use tokio::time::{Instant, Sleep, sleep_until, timeout_at};
use tower::{BoxError, Layer, Service};

use super::{CALL_DEADLINE, Metrics, Purpose, WATCH_OPEN_DEADLINE, metrics};

/// A request was not answered in time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the API server did not answer within {} s", .0.as_secs_f64())]
pub struct DeadlineExceeded(pub Duration);

/// Adds deadlines and counters to a client's stack.
pub(super) struct DeadlineLayer {
    purpose: Purpose,
    metrics: Metrics,
}

impl DeadlineLayer {
    pub(super) fn new(purpose: Purpose, metrics: Metrics) -> Self {
        Self { purpose, metrics }
    }
}

impl<S> Layer<S> for DeadlineLayer {
    type Service = DeadlineService<S>;

    fn layer(&self, inner: S) -> DeadlineService<S> {
        DeadlineService { inner, purpose: self.purpose, metrics: self.metrics.clone() }
    }
}

pub(super) struct DeadlineService<S> {
    inner: S,
    purpose: Purpose,
    metrics: Metrics,
}

impl<S> Service<Request<Body>> for DeadlineService<S>
where
    S: Service<Request<Body>, Response = Response<Box<DynBody>>, Error = BoxError>,
    S::Future: Send + 'static,
{
    type Response = Response<DeadlineBody>;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, BoxError>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let watch = is_watch(request.uri());
        let labels = metrics::ApiRequestLabels {
            client: self.purpose.as_str(),
            method: if watch { "WATCH" } else { method(request.method()) },
            resource: resource(request.uri().path()).to_owned(),
        };
        let namespace = namespace(request.uri().path()).map(str::to_owned);
        let place = metrics::WatchPlace { resource: labels.resource.clone(), namespace };
        // A namespace that forbids to be read is told by another metric, and is no silence.
        let may_be_forbidden = matches!(self.purpose, Purpose::Watch) && place.namespace.is_some();
        let allowed = if watch { WATCH_OPEN_DEADLINE } else { CALL_DEADLINE };
        let mut pending = Pending { metrics: self.metrics.clone(), labels, sent: Instant::now(), answered: false };
        let answer = timeout_at(pending.sent + allowed, self.inner.call(request));
        Box::pin(async move {
            match answer.await {
                Ok(Ok(response)) => {
                    pending.answered(response.status().as_str());
                    // An error's body is short and comes at once, for a watch as well.
                    let is_forbidden = may_be_forbidden && response.status() == StatusCode::FORBIDDEN;
                    let is_open = watch && response.status().is_success();
                    if is_open || is_forbidden {
                        pending.metrics.watch_contact(&place, crate::clock::unix_seconds());
                    }
                    let limit = if is_open {
                        Limit::Watch(place)
                    } else {
                        Limit::Call(Box::pin(sleep_until(pending.sent + allowed)), allowed)
                    };
                    let (labels, metrics) = (pending.labels.clone(), pending.metrics.clone());
                    Ok(response.map(|inner| DeadlineBody { inner, limit, labels, metrics }))
                }
                Ok(Err(error)) => {
                    pending.answered("error");
                    Err(error)
                }
                Err(_elapsed) => {
                    pending.answered("timeout");
                    pending.metrics.deadline_exceeded(&pending.labels);
                    Err(DeadlineExceeded(allowed).into())
                }
            }
        })
    }
}

/// Request without an answer yet.
// One that its caller gives up is counted, too: it may have been sent.
struct Pending {
    metrics: Metrics,
    labels: metrics::ApiRequestLabels,
    sent: Instant,
    answered: bool,
}

impl Pending {
    fn answered(&mut self, code: &str) {
        self.answered = true;
        self.metrics.answered(&self.labels, code.to_owned(), self.sent.elapsed());
    }
}

impl Drop for Pending {
    fn drop(&mut self) {
        if !self.answered {
            self.answered("cancelled");
        }
    }
}

/// An answer's body that fails when it is not complete in time.
pub(super) struct DeadlineBody {
    inner: Box<DynBody>,
    limit: Limit,
    labels: metrics::ApiRequestLabels,
    metrics: Metrics,
}

enum Limit {
    Call(Pin<Box<Sleep>>, Duration),
    Watch(metrics::WatchPlace),
}

impl HttpBody for DeadlineBody {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let frame = Pin::new(&mut self.inner).poll_frame(context);
        let Self { inner: _, limit, labels, metrics } = &mut *self;
        match limit {
            Limit::Watch(place) => {
                if matches!(frame, Poll::Ready(Some(Ok(_)))) {
                    metrics.watch_contact(place, crate::clock::unix_seconds());
                }
            }
            Limit::Call(deadline, allowed) => {
                if frame.is_pending() && deadline.as_mut().poll(context).is_ready() {
                    metrics.deadline_exceeded(labels);
                    return Poll::Ready(Some(Err(DeadlineExceeded(*allowed).into())));
                }
            }
        }
        frame
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

fn is_watch(uri: &Uri) -> bool {
    uri.query().is_some_and(|query| query.split('&').any(|pair| pair == "watch=true" || pair == "watch=1"))
}

/// Returns the metric label of a method.
// Only the methods of the Kubernetes API have a label, so that there are only so many.
fn method(method: &Method) -> &'static str {
    match *method {
        Method::GET => "GET",
        Method::POST => "POST",
        Method::PUT => "PUT",
        Method::PATCH => "PATCH",
        Method::DELETE => "DELETE",
        _ => "other",
    }
}

/// The resource in a path of the API (`/api/v1/…` or `/apis/GROUP/VERSION/…`), without its group, namespace, name and
/// subresource.
fn resource(path: &str) -> &str {
    let mut segments = path.split('/').skip_while(|segment| segment.is_empty());
    let skipped = match segments.next() {
        Some("api") => 1,
        Some("apis") => 2,
        Some(_) | None => return "other",
    };
    let mut segments = segments.skip(skipped);
    match (segments.next(), segments.next(), segments.next()) {
        (Some("namespaces"), Some(_), Some(resource)) | (Some(resource), _, _) => resource,
        (None, _, _) => "other",
    }
}

/// The namespace in a path of the API, if it names a resource of one.
fn namespace(path: &str) -> Option<&str> {
    let mut segments = path.split('/').skip_while(|segment| *segment != "namespaces").skip(1);
    let namespace = segments.next()?;
    segments.next().map(|_resource| namespace)
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::ConfigMap;
    use kube::client::ClientBuilder;
    use kube::{Api, Client};
    use prometheus_client::registry::Registry;
    use tower::service_fn;

    use super::*;

    /// A body of this text that never ends.
    struct Endless(Option<&'static str>);

    impl HttpBody for Endless {
        type Data = Bytes;
        type Error = BoxError;

        fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
            self.0.take().map_or(Poll::Pending, |text| Poll::Ready(Some(Ok(Frame::data(text.into())))))
        }
    }

    fn client_of<F>(answer: impl Fn() -> F + Send + 'static, registry: &mut Registry) -> Client
    where
        F: Future<Output = Result<Response<Box<DynBody>>, BoxError>> + Send + 'static,
    {
        let layer = DeadlineLayer::new(Purpose::Call, Metrics::new(registry));
        ClientBuilder::new(service_fn(move |_: Request<Body>| answer()), "default").with_layer(&layer).build()
    }

    fn text(registry: &Registry) -> String {
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, registry).expect("metrics are encodable");
        text
    }

    fn assert_counted(registry: &Registry, line: &str) {
        let text = text(registry);
        assert!(text.lines().any(|have| have == line), "{line}\nis not in\n{text}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_call_without_an_answer_ends_at_the_deadline_and_is_counted() {
        let mut registry = Registry::default();
        let client = client_of(std::future::pending, &mut registry);
        let begun = Instant::now();
        let error = Api::<ConfigMap>::namespaced(client, "mail").get("x").await.expect_err("nobody answers");
        assert_eq!(begun.elapsed().as_secs(), CALL_DEADLINE.as_secs());
        assert!(super::super::describe(&error).contains("did not answer within 15 s"), "{error}");
        let labels = r#"client="call",method="GET",resource="configmaps""#;
        assert_counted(&registry, &format!("mail_failover_api_requests_total{{{labels},code=\"timeout\"}} 1"));
        assert_counted(&registry, &format!("mail_failover_api_deadlines_total{{{labels}}} 1"));
    }

    #[tokio::test(start_paused = true)]
    async fn a_call_that_its_caller_gives_up_is_counted() {
        let mut registry = Registry::default();
        let client = client_of(std::future::pending, &mut registry);
        let configmaps = Api::<ConfigMap>::namespaced(client, "mail");
        tokio::time::timeout(Duration::from_secs(1), configmaps.get("x")).await.expect_err("nobody answers");
        let labels = r#"client="call",method="GET",resource="configmaps",code="cancelled""#;
        assert_counted(&registry, &format!("mail_failover_api_requests_total{{{labels}}} 1"));
    }

    #[tokio::test(start_paused = true)]
    async fn a_call_whose_answer_stops_halfway_ends_at_the_deadline() {
        let mut registry = Registry::default();
        let answer = || async { Ok(Response::new(Box::new(Endless(Some("{\"metadata\":"))) as Box<DynBody>)) };
        let client = client_of(answer, &mut registry);
        let begun = Instant::now();
        let error = Api::<ConfigMap>::namespaced(client, "mail").get("x").await.expect_err("the answer has no end");
        assert_eq!(begun.elapsed().as_secs(), CALL_DEADLINE.as_secs());
        assert!(super::super::describe(&error).contains("did not answer within 15 s"), "{error}");
        let labels = r#"client="call",method="GET",resource="configmaps""#;
        assert_counted(&registry, &format!("mail_failover_api_requests_total{{{labels},code=\"200\"}} 1"));
        assert_counted(&registry, &format!("mail_failover_api_deadlines_total{{{labels}}} 1"));
    }

    #[tokio::test(start_paused = true)]
    async fn a_quiet_watch_outlives_the_deadline_of_calls() {
        let mut registry = Registry::default();
        let client = client_of(|| async { Ok(Response::new(Box::new(Endless(None)) as Box<DynBody>)) }, &mut registry);
        let configmaps = Api::<ConfigMap>::namespaced(client, "mail");
        let watch = configmaps.watch(&kube::api::WatchParams::default(), "0").await.expect("the watch is answered");
        let mut watch = std::pin::pin!(watch);
        let next = futures::StreamExt::next(&mut watch);
        tokio::time::timeout(CALL_DEADLINE * 4, next).await.expect_err("the watch has neither event nor end");
        assert_counted(
            &registry,
            r#"mail_failover_api_requests_total{client="call",method="WATCH",resource="configmaps",code="200"} 1"#,
        );
    }

    #[test]
    fn resources_are_read_from_paths() {
        for (path, want) in [
            ("/api/v1/services", "services"),
            ("/api/v1/namespaces/mail/configmaps/relay", "configmaps"),
            ("/apis/mailfailover.io/v1alpha1/mailroutes", "mailroutes"),
            ("/apis/mailfailover.io/v1alpha1/namespaces/mail/mailroutes/out/status", "mailroutes"),
            ("/apis/coordination.k8s.io/v1/namespaces/mail/leases/x", "leases"),
            ("/api/v1/namespaces/mail", "namespaces"),
            ("/version", "other"),
            ("/api", "other"),
            ("", "other"),
        ] {
            assert_eq!(resource(path), want, "{path}");
        }
    }

    #[test]
    fn namespaces_are_read_from_paths() {
        for (path, want) in [
            ("/api/v1/services", None),
            ("/api/v1/namespaces/mail/configmaps", Some("mail")),
            ("/apis/mailfailover.io/v1alpha1/namespaces/mail/mailroutes", Some("mail")),
            ("/api/v1/namespaces/mail", None),
            ("/version", None),
        ] {
            assert_eq!(namespace(path), want, "{path}");
        }
    }
}
