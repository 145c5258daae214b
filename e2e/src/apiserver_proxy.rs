//! A reverse proxy between one operator and the API server: it sees every write of that operator,
//! and can stop the operator at a chosen write.
//!
//! It also narrows the operator's view to one namespace: what is listed and watched in the whole
//! cluster is listed and watched in that namespace only. Trials that share a cluster can so have
//! operators that differ, and that die, without another trial's operator doing their work.
//! Everything else passes unchanged. Only the proxy has credentials; it listens on the loopback
//! interface of a suite's own network.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use anyhow::{Context, Result};
use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{Method, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use http_body_util::BodyExt;
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};
use serde_json::json;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// Paths that the operator lists and watches in all namespaces.
const WATCHED: [&str; 6] = [
    "/apis/mailfailover.io/v1alpha1/sendingbackends",
    "/apis/mailfailover.io/v1alpha1/failoverpolicies",
    "/apis/mailfailover.io/v1alpha1/mailroutes",
    "/apis/discovery.k8s.io/v1/endpointslices",
    "/api/v1/services",
    "/api/v1/configmaps",
];

const LEASES: &str = "/apis/coordination.k8s.io/";

/// A request that changes something.
#[derive(Clone, Debug)]
pub struct Write {
    pub method: Method,
    /// The path without the query.
    pub path: String,
    /// The time at which the operator had sent it.
    pub arrived: Instant,
    /// The time and the status of the API server's answer.
    pub answered: Option<(Instant, StatusCode)>,
}

impl Write {
    /// Returns true if this is a write of the leader's Lease.
    pub fn is_of_lease(&self) -> bool {
        self.path.starts_with(LEASES) && !self.is_of_observer()
    }

    /// Returns true if this is a write of the Lease in which a replica publishes its observations.
    pub fn is_of_observer(&self) -> bool {
        self.path.starts_with(LEASES) && self.path.contains("-observer-")
    }

    /// Returns true if the API server has carried the write out.
    pub fn is_done(&self) -> bool {
        self.answered.is_some_and(|(_, status)| status.is_success())
    }

    /// The write for messages: `PATCH …/mailroutes/orders/status`.
    pub fn text(&self) -> String {
        let status = self.answered.map_or_else(|| "unanswered".to_owned(), |(_, status)| status.as_u16().to_string());
        format!("{} {} ({status})", self.method, self.path)
    }
}

/// The side of a write on which the operator dies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// The operator has sent it; the API server never sees it.
    Before,
    /// The API server has carried it out; the operator never hears of it.
    After,
}

struct CrashPoint {
    /// The number of writes that still pass.
    passes: usize,
    side: Side,
    reached: watch::Sender<Option<String>>,
}

struct ProxyState {
    client: Client,
    namespace: String,
    writes: Mutex<Vec<Write>>,
    crash_point: Mutex<Option<CrashPoint>>,
    /// True once the crash point was reached. From then on no write passes: to the cluster the operator is
    /// dead.
    is_shut: Mutex<bool>,
}

/// A running proxy. It stops when dropped.
pub struct ApiServerProxy {
    kubeconfig: PathBuf,
    shared: Arc<ProxyState>,
    task: JoinHandle<()>,
}

impl ApiServerProxy {
    /// Starts a proxy to the API server of `kubeconfig`, narrowed to `namespace`. The kubeconfig
    /// that leads through the proxy lies in `folder`.
    ///
    /// # Errors
    /// When it cannot listen, or the kubeconfig cannot be used or written.
    pub async fn open(kubeconfig: &Path, namespace: &str, folder: &Path) -> Result<Self> {
        let read = Kubeconfig::read_from(kubeconfig)?;
        let mut config = Config::from_custom_kubeconfig(read, &KubeConfigOptions::default()).await?;
        // The operator's timeouts count, not the proxy's.
        (config.read_timeout, config.write_timeout, config.default_retry) = (None, None, false);
        let shared = Arc::new(ProxyState {
            client: Client::try_from(config)?,
            namespace: namespace.to_owned(),
            writes: Mutex::default(),
            crash_point: Mutex::default(),
            is_shut: Mutex::default(),
        });
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.context("the proxy cannot listen")?;
        let address = listener.local_addr()?;
        let router = Router::new().fallback(pass).with_state(Arc::clone(&shared));
        let task = tokio::spawn(async move {
            // Ends with the task only.
            let _ = axum::serve(listener, router).await;
        });
        let path = folder.join(format!("apiserver-proxy-{}.kubeconfig", address.port()));
        write_kubeconfig(&path, address, namespace)?;
        Ok(Self { kubeconfig: path, shared, task })
    }

    /// The kubeconfig that leads through the proxy.
    pub fn kubeconfig(&self) -> &Path {
        &self.kubeconfig
    }

    /// Every write so far, in the order of arrival, those of Leases included.
    pub fn log(&self) -> Vec<Write> {
        lock(&self.shared.writes).clone()
    }

    /// Every write so far except those of Leases.
    pub fn writes(&self) -> Vec<Write> {
        self.log().into_iter().filter(|write| !write.path.starts_with(LEASES)).collect()
    }

    /// Sets a crash point at the `number`-th write from now on (the first is 1; writes of Leases do not
    /// count). When it is reached, the receiver gets the write's description, the operator gets no
    /// answer, and none of its later writes passes. The caller kills the operator.
    pub fn set_crash_point(&self, number: usize, side: Side) -> watch::Receiver<Option<String>> {
        let (reached, receiver) = watch::channel(None);
        *lock(&self.shared.crash_point) = Some(CrashPoint { passes: number.saturating_sub(1), side, reached });
        receiver
    }

    /// Lets everything pass again, for a new operator.
    pub fn reopen(&self) {
        *lock(&self.shared.crash_point) = None;
        *lock(&self.shared.is_shut) = false;
    }
}

impl Drop for ApiServerProxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn pass(State(shared): State<Arc<ProxyState>>, request: Request) -> Response {
    match shared.pass(request).await {
        Ok(response) => response,
        Err(error) => (StatusCode::BAD_GATEWAY, format!("{error:#}")).into_response(),
    }
}

impl ProxyState {
    async fn pass(&self, request: Request) -> Result<Response> {
        let (mut head, body) = request.into_parts();
        head.uri = narrowed(&head.uri, &self.namespace)?;
        head.headers.remove(header::HOST);
        let body = body.collect().await?.to_bytes().to_vec();
        let is_write = matches!(head.method, Method::POST | Method::PATCH | Method::PUT | Method::DELETE);
        if !is_write {
            return self.forward(hyper::Request::from_parts(head, body.into())).await;
        }
        let Some((number, crash_point)) = self.note(&head.method, head.uri.path()) else {
            return std::future::pending().await;
        };
        if let Some(crash_point) = crash_point.as_ref().filter(|crash_point| crash_point.side == Side::Before) {
            return self.crash(number, crash_point).await;
        }
        let response = self.forward(hyper::Request::from_parts(head, body.into())).await?;
        // The whole answer is read, so that the result of a write is known even if the operator does not wait for it.
        let (head, body) = response.into_parts();
        let body = body.collect().await?.to_bytes();
        if let Some(write) = lock(&self.writes).get_mut(number) {
            write.answered = Some((Instant::now(), head.status));
        }
        match crash_point {
            Some(crash_point) => self.crash(number, &crash_point).await,
            None => Ok(Response::from_parts(head, Body::from(body))),
        }
    }

    /// Records a write, and takes the crash point if it is at this write. Returns `None` if no write passes
    /// any more.
    fn note(&self, method: &Method, path: &str) -> Option<(usize, Option<CrashPoint>)> {
        // One lock for the decision as a whole: two writes at once must not be taken for one.
        let mut is_shut = lock(&self.is_shut);
        if *is_shut {
            return None;
        }
        let write = Write { method: method.clone(), path: path.to_owned(), arrived: Instant::now(), answered: None };
        let mut set = lock(&self.crash_point);
        let crash_point = match set.as_mut().filter(|_| !write.path.starts_with(LEASES)) {
            Some(crash_point) if crash_point.passes > 0 => {
                crash_point.passes -= 1;
                None
            }
            Some(_) => set.take(),
            None => None,
        };
        *is_shut = crash_point.is_some();
        let mut writes = lock(&self.writes);
        writes.push(write);
        Some((writes.len() - 1, crash_point))
    }

    /// Tells the receiver of the crash point, and never answers.
    async fn crash(&self, number: usize, crash_point: &CrashPoint) -> Result<Response> {
        let text = lock(&self.writes).get(number).map(Write::text).unwrap_or_default();
        crash_point.reached.send_replace(Some(text));
        std::future::pending().await
    }

    async fn forward(&self, request: hyper::Request<kube::client::Body>) -> Result<Response> {
        let (mut head, body) = self.client.send(request).await?.into_parts();
        for name in [header::CONNECTION, header::TRANSFER_ENCODING] {
            head.headers.remove(name);
        }
        Ok(Response::from_parts(head, Body::new(body)))
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The same request, narrowed to the namespace.
fn narrowed(uri: &Uri, namespace: &str) -> Result<Uri> {
    if !WATCHED.contains(&uri.path()) {
        return Ok(uri.clone());
    }
    let (group, plural) = uri.path().rsplit_once('/').context("an absolute path")?;
    let query = uri.query().map(|query| format!("?{query}")).unwrap_or_default();
    Ok(format!("{group}/namespaces/{namespace}/{plural}{query}").parse()?)
}

fn write_kubeconfig(path: &Path, address: SocketAddr, namespace: &str) -> Result<()> {
    // JSON is YAML.
    let kubeconfig = json!({
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{ "name": "proxy", "cluster": { "server": format!("http://{address}") } }],
        "users": [{ "name": "nobody", "user": {} }],
        "contexts": [{ "name": "proxy", "context": { "cluster": "proxy", "user": "nobody", "namespace": namespace } }],
        "current-context": "proxy",
    });
    fs::write(path, serde_json::to_vec_pretty(&kubeconfig)?).with_context(|| format!("cannot write {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_watched_in_the_whole_cluster_is_narrowed_to_the_namespace() {
        for (asked, passed) in [
            ("/api/v1/services?watch=true&limit=5", "/api/v1/namespaces/shop/services?watch=true&limit=5"),
            ("/apis/mailfailover.io/v1alpha1/mailroutes", "/apis/mailfailover.io/v1alpha1/namespaces/shop/mailroutes"),
            ("/api/v1/namespaces/other/services/mail", "/api/v1/namespaces/other/services/mail"),
            ("/version", "/version"),
        ] {
            let uri: Uri = asked.parse().expect("a path");
            assert_eq!(narrowed(&uri, "shop").expect("a path").to_string(), passed);
        }
    }
}
