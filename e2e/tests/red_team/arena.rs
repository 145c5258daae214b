//! The victim, the operators, and the place of the red team.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use k8s_openapi::api::core::v1::Namespace;
use kube::Api;
use kube::api::{ObjectMeta, PostParams};
use mail_failover_e2e::fixture::{PolicyTimings, TwoBackendFixture, WAIT_TIMEOUT};
use mail_failover_e2e::mail::endpoints::ServiceEndpoints;
use mail_failover_e2e::operator::Operator;
use mail_failover_e2e::test_env::TestEnv;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tokio_util::task::AbortOnDropHandle;

/// A user whose only right is everything on our kinds in the namespace of the red team.
const TENANT: &str = "tenant";
/// The addresses of all servers here. No loopback address is allowed, other than in all other suites.
const OURS: &str = "198.51.100.0/24,203.0.113.0/24";
/// Documents that one kubectl applies within its time limit.
const AT_ONCE: usize = 120;
/// The time between two failures of the victim's provider, so that their phases differ.
const PAUSE: Duration = Duration::from_millis(300);

/// Two replicas, the victim's route in one namespace, and the red team's namespace.
pub struct Arena {
    pub env: Arc<TestEnv>,
    victim: TwoBackendFixture,
    endpoints: ServiceEndpoints,
    pub replicas: Vec<Operator>,
    /// The namespace of the red team.
    pub evil: String,
}

impl Arena {
    /// Creates it with operators that get these further arguments, and waits until the victim's mail leaves by its
    /// primary.
    pub async fn create(env: Arc<TestEnv>, arguments: &[&str]) -> Result<Self> {
        let evil = format!("{}-evil", env.namespace());
        let metadata = ObjectMeta { name: Some(evil.clone()), ..ObjectMeta::default() };
        let namespace = Namespace { metadata, ..Namespace::default() };
        Api::<Namespace>::all(env.client()).create(&PostParams::default(), &namespace).await?;
        env.kubectl_with_input(&["apply", "--namespace", &evil, "-f", "-"], &rights(&evil).to_string()).await?;
        let timings = PolicyTimings { interval: "500ms", ..PolicyTimings::with_failback() };
        let victim = TwoBackendFixture::create(env.clone(), &timings).await?;
        let namespaces = format!("{},{evil}", env.namespace());
        // No loopback address is allowed, other than in all other suites.
        let mut scope = vec!["--namespaces", &namespaces, "--allow-destinations", OURS, "--allow-ports", "1-65535"];
        scope.extend(arguments);
        // With the Lease of production: on a busy machine a quick one is lost, and that is not what is tried.
        let mut replicas = vec![];
        for identity in ["a", "b"] {
            let replica = env.start_operator(identity, &scope)?;
            replica.wait_ready(WAIT_TIMEOUT).await?;
            replicas.push(replica);
        }
        victim.wait_active("primary").await?;
        let endpoints = ServiceEndpoints::follow(env.client(), env.namespace(), "mail", "smtp");
        Ok(Self { env, victim, endpoints, replicas, evil })
    }

    /// Applies manifests as the tenant.
    pub async fn apply(&self, manifests: &str) -> Result<()> {
        let arguments = ["apply", "--namespace", &self.evil, "--as", TENANT, "--server-side", "-f", "-"];
        let documents: Vec<_> = manifests.split_inclusive("---\n").collect();
        for some in documents.chunks(AT_ONCE) {
            self.env.kubectl_with_input(&arguments, &some.concat()).await?;
        }
        Ok(())
    }

    /// Kills the victim's provider, and waits for the way back. Returns the time until mail could leave by the standby.
    async fn fail_over(&self) -> Result<Duration> {
        let [primary, standby] = [self.victim.primary.address(), self.victim.standby.address()];
        self.endpoints.wait_for(WAIT_TIMEOUT, |now| *now == [primary]).await?;
        sleep(PAUSE.mul_f64(fastrand::f64())).await;
        let died = Instant::now();
        self.victim.primary.crash().await?;
        self.endpoints.wait_for(WAIT_TIMEOUT, |now| *now == [standby]).await?;
        let took = died.elapsed();
        self.victim.primary.repair().await?;
        self.endpoints.wait_for(WAIT_TIMEOUT, |now| *now == [primary]).await?;
        Ok(took)
    }

    /// Fails over until the time is up, and three times at least.
    pub async fn fail_over_for(&self, when: &str, lasting: Duration) -> Result<Failovers> {
        let (began, mut took) = (Instant::now(), vec![]);
        while took.len() < 3 || began.elapsed() < lasting {
            took.push(self.fail_over().await?);
        }
        took.sort();
        let (median, shortest, longest) = (took[took.len() / 2], took[0], took[took.len() - 1]);
        println!("{} failovers {when}: {shortest:.2?} to {longest:.2?}, median {median:.2?}", took.len());
        Ok(Failovers { median, spread: longest.saturating_sub(shortest) })
    }
}

/// The times that several failovers took.
#[derive(Clone, Copy)]
pub struct Failovers {
    pub median: Duration,
    /// Difference between the longest and the shortest.
    spread: Duration,
}

impl Failovers {
    /// The longest median of failovers under attack, if these are those without one.
    // Half as much again, and what the runs without an attack differ by themselves: an interval of the victim's probes at
    // least, for the phase of few runs may be the same by chance, and a second at most.
    pub fn bound(self) -> Duration {
        self.median.mul_f64(1.5) + self.spread.clamp(Duration::from_millis(500), Duration::from_secs(1))
    }
}

/// Role and binding of the tenant.
fn rights(namespace: &str) -> Value {
    let metadata = json!({ "name": TENANT, "namespace": namespace });
    let group = "rbac.authorization.k8s.io";
    json!({ "apiVersion": "v1", "kind": "List", "items": [
        { "apiVersion": format!("{group}/v1"), "kind": "Role", "metadata": metadata,
          "rules": [{ "apiGroups": ["mailfailover.io"], "resources": ["*"], "verbs": ["*"] }] },
        { "apiVersion": format!("{group}/v1"), "kind": "RoleBinding", "metadata": metadata,
          "roleRef": { "apiGroup": group, "kind": "Role", "name": TENANT },
          "subjects": [{ "apiGroup": group, "kind": "User", "name": TENANT }] },
    ] })
}

/// An object of one of our kinds, as a document of YAML.
pub fn object(kind: &str, name: &str, spec: &Value) -> String {
    let object =
        json!({ "apiVersion": "mailfailover.io/v1alpha1", "kind": kind, "metadata": { "name": name }, "spec": spec });
    format!("---\n{object}\n")
}

/// Accepts connections, says this if anything, and keeps each of them until the other end closes it.
pub async fn listen(address: SocketAddr, says: Option<&'static str>) -> Result<AbortOnDropHandle<()>> {
    let listener = TcpListener::bind(address).await.with_context(|| format!("{address}"))?;
    Ok(AbortOnDropHandle::new(tokio::spawn(async move {
        let mut kept = JoinSet::new();
        while let Ok((connection, _)) = listener.accept().await {
            kept.spawn(keep(connection, says));
            while kept.try_join_next().is_some() {}
        }
    })))
}

async fn keep(mut connection: TcpStream, says: Option<&'static str>) {
    if let Some(says) = says {
        let _ = timeout(Duration::from_secs(1), connection.write_all(says.as_bytes())).await;
    }
    let mut heard = [0; 512];
    while connection.read(&mut heard).await.is_ok_and(|octets| octets > 0) {}
}
