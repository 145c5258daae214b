//! The fixture of most trials: two SMTP servers, a route that prefers the first, and a fast policy.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::api::events::v1::Event;
use kube::Api;
use kube::api::ListParams;
use mail_failover_api::{Health, MailRoute, MailRouteStatus, SendingBackend, SendingBackendStatus};

use crate::eventually::eventually;
use crate::mail::server::{Options, SmtpServer};
use crate::operator::Operator;
use crate::test_env::TestEnv;

/// The time that a trial waits for what should take a second. Kubernetes' garbage collector
/// searches for new kinds only every 30 s.
pub const WAIT_TIMEOUT: Duration = Duration::from_secs(75);
/// Arguments of an operator that becomes the leader quickly.
// A call may take half of the time to renew: on a machine that three suites share, a second of that was too little.
pub const QUICK_LEASE: [&str; 6] =
    ["--lease-duration", "5s", "--lease-renew-deadline", "4s", "--lease-retry-period", "200ms"];

/// Durations and thresholds of the fixture's policy and probes, as in YAML.
#[derive(Clone, Debug)]
pub struct PolicyTimings {
    /// `spec.probes[].interval`.
    pub interval: &'static str,
    /// `spec.probes[].timeout`.
    pub timeout: &'static str,
    /// `spec.failure.consecutive`.
    pub failures: u32,
    /// `spec.failure.lasting`; its default if `None`.
    pub lasting: Option<&'static str>,
    /// `spec.recovery.consecutive`.
    pub successes: u32,
    /// `spec.hold.cooldown`.
    pub cooldown: &'static str,
    /// `spec.hold.minimumStay`.
    pub minimum_stay: &'static str,
    /// `spec.failback.after`.
    pub soak: &'static str,
}

impl Default for PolicyTimings {
    /// Five probes a second, three failures, and a failback that does not happen within a trial.
    fn default() -> Self {
        Self {
            interval: "200ms",
            timeout: "500ms",
            failures: 3,
            lasting: None,
            successes: 3,
            cooldown: "1h",
            minimum_stay: "0s",
            soak: "1s",
        }
    }
}

impl PolicyTimings {
    /// Timings with a failback one second after the primary has recovered.
    pub fn with_failback() -> Self {
        Self { cooldown: "0s", ..Self::default() }
    }
}

/// A `SendingBackend` by address.
pub fn backend(name: &str, at: SocketAddr, timings: &PolicyTimings) -> String {
    let PolicyTimings { interval, timeout, .. } = timings;
    format!(
        "---\napiVersion: mailfailover.io/v1alpha1\nkind: SendingBackend\nmetadata: {{name: {name}}}\nspec:\n  smtp: {{host: '{}', port: {}}}\n  probes: [{{name: smtp, interval: {interval}, timeout: {timeout}, smtp: {{}}}}]\n",
        at.ip(),
        at.port()
    )
}

/// The `FailoverPolicy` named `fast`.
pub fn policy(timings: &PolicyTimings) -> String {
    let PolicyTimings { failures, lasting, successes, cooldown, minimum_stay, soak, .. } = timings;
    let lasting = lasting.map(|lasting| format!(", lasting: {lasting}")).unwrap_or_default();
    format!(
        "---\napiVersion: mailfailover.io/v1alpha1\nkind: FailoverPolicy\nmetadata: {{name: fast}}\nspec:\n  failure: {{consecutive: {failures}{lasting}}}\n  recovery: {{consecutive: {successes}}}\n  hold: {{cooldown: {cooldown}, minimumStay: {minimum_stay}, budget: {{switches: 10, per: 1s}}}}\n  failback: {{after: {soak}}}\n"
    )
}

/// A `MailRoute` over these backends, with the Service and the `ConfigMap` of the same name as outputs.
pub fn route(name: &str, backends: &[&str], output: &str) -> String {
    let mut text = format!(
        "---\napiVersion: mailfailover.io/v1alpha1\nkind: MailRoute\nmetadata: {{name: {name}}}\nspec:\n  policyRef: {{name: fast}}\n  backends:\n"
    );
    for backend in backends {
        let _ = writeln!(text, "  - name: {backend}");
    }
    let _ = write!(
        text,
        "  outputs:\n  - service: {{name: {output}, ports: [{{name: smtp, port: 25}}]}}\n  - configMap: {{name: {output}, format: Env}}\n"
    );
    text
}

/// Two servers and the route `orders` over `primary` and `standby`, whose Service is `mail`.
pub struct TwoBackendFixture {
    pub env: Arc<TestEnv>,
    pub primary: SmtpServer,
    /// The backend of lower preference.
    pub standby: SmtpServer,
}

impl TwoBackendFixture {
    /// Starts the servers and applies the manifests.
    ///
    /// # Errors
    /// When a server cannot listen or the API server refuses a manifest.
    pub async fn create(env: Arc<TestEnv>, timings: &PolicyTimings) -> Result<Self> {
        let primary = SmtpServer::start(Options::new("primary", SocketAddr::new(env.ipv4(), 25))).await?;
        let standby = SmtpServer::start(Options::new("standby", SocketAddr::new(env.ipv4(), 25))).await?;
        let manifests = [
            policy(timings),
            backend("primary", primary.address(), timings),
            backend("standby", standby.address(), timings),
            route("orders", &["primary", "standby"], "mail"),
        ];
        env.apply(&manifests.concat()).await?;
        Ok(Self { env, primary, standby })
    }

    /// Starts an operator of this namespace that becomes the leader quickly, and waits until mail
    /// leaves by the primary.
    ///
    /// # Errors
    /// When that does not happen.
    pub async fn start_operator(&self, identity: &str) -> Result<Operator> {
        let operator = self.env.start_own_operator(identity, &QUICK_LEASE).await?;
        operator.wait_ready(WAIT_TIMEOUT).await?;
        self.wait_active("primary").await?;
        Ok(operator)
    }

    /// Waits until the route's mail leaves by this backend and every output leads there.
    ///
    /// # Errors
    /// When that does not happen.
    pub async fn wait_active(&self, backend: &str) -> Result<MailRouteStatus> {
        wait_active(&self.env, "orders", backend).await
    }
}

/// Waits until a route's mail leaves by this backend, its outputs lead there and its Events are published.
///
/// # Errors
/// When that does not happen.
pub async fn wait_active(env: &TestEnv, route: &str, backend: &str) -> Result<MailRouteStatus> {
    eventually(WAIT_TIMEOUT, &format!("mail of {route} to leave by {backend}"), async || {
        let status = route_status(env, route).await?;
        let is_there = status.active.first().is_some_and(|active| active.backend == backend)
            && condition(&status, "OutputsApplied").0 == "True"
            && status.pending_events.is_empty()
            && status.last_transition.as_ref().is_none_or(|last| last.applied_at.is_some());
        Ok(is_there.then_some(status))
    })
    .await
}

/// The status of a route.
///
/// # Errors
/// When the API server does not answer.
pub async fn route_status(env: &TestEnv, name: &str) -> Result<MailRouteStatus> {
    let api: Api<MailRoute> = Api::namespaced(env.client(), env.namespace());
    Ok(api.get(name).await?.status.unwrap_or_default())
}

/// The status of a backend.
///
/// # Errors
/// When the API server does not answer.
pub async fn backend_status(env: &TestEnv, name: &str) -> Result<SendingBackendStatus> {
    let api: Api<SendingBackend> = Api::namespaced(env.client(), env.namespace());
    Ok(api.get(name).await?.status.unwrap_or_default())
}

/// Waits until a backend has this health and reason.
///
/// # Errors
/// When that does not happen.
pub async fn wait_health(env: &TestEnv, name: &str, health: Health, reason: &str) -> Result<SendingBackendStatus> {
    eventually(WAIT_TIMEOUT, &format!("{name} to be {health:?}/{reason}"), async || {
        let status = backend_status(env, name).await?;
        Ok((status.health == Some(health) && status.reason.as_deref() == Some(reason)).then_some(status))
    })
    .await
}

/// Status and reason of a route's condition; both empty if it does not exist.
pub fn condition(status: &MailRouteStatus, type_: &str) -> (String, String) {
    let found = status.conditions.iter().find(|condition| condition.type_ == type_);
    found.map(|condition| (condition.status.clone(), condition.reason.clone())).unwrap_or_default()
}

/// The reasons of all Events about an object, in the order of time.
///
/// # Errors
/// When the API server does not answer.
pub async fn events(env: &TestEnv, name: &str) -> Result<Vec<String>> {
    let api: Api<Event> = Api::namespaced(env.client(), env.namespace());
    let mut events = api.list(&ListParams::default()).await.context("Events")?.items;
    events.retain(|event| event.regarding.as_ref().and_then(|regarding| regarding.name.as_deref()) == Some(name));
    events.sort_by(|a, b| a.event_time.cmp(&b.event_time));
    Ok(events.into_iter().filter_map(|event| event.reason).collect())
}

/// The addresses of the ready endpoints in a Service's slices, sorted.
///
/// # Errors
/// When the API server does not answer.
pub async fn leads_to(env: &TestEnv, service: &str) -> Result<Vec<String>> {
    let api: Api<EndpointSlice> = Api::namespaced(env.client(), env.namespace());
    let of_service = ListParams::default().labels(&format!("kubernetes.io/service-name={service}"));
    let slices = api.list(&of_service).await?.items;
    let endpoints = slices.into_iter().flat_map(|slice| slice.endpoints);
    let ready = endpoints.filter(|endpoint| endpoint.conditions.as_ref().and_then(|c| c.ready) != Some(false));
    let mut addresses: Vec<_> = ready.flat_map(|endpoint| endpoint.addresses).collect();
    addresses.sort();
    Ok(addresses)
}
