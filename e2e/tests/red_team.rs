//! A red team with every right on our kinds in one namespace, and none elsewhere, while a victim's
//! provider dies again and again in another: the victim's failover takes as long as it does alone.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use k8s_openapi::api::core::v1::Namespace;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::Api;
use kube::api::{ListParams, ObjectMeta, PostParams};
use mail_failover_api::{MailRoute, SendingBackend};
use mail_failover_e2e::assertions::metric_sum;
use mail_failover_e2e::environment::{exhaustive, is_exhaustive};
use mail_failover_e2e::eventually::eventually;
use mail_failover_e2e::fixture::{PolicyTimings, TwoBackendFixture, WAIT_TIMEOUT};
use mail_failover_e2e::mail::endpoints::ServiceEndpoints;
use mail_failover_e2e::mail::server::{self, SmtpServer};
use mail_failover_e2e::operator::Operator;
use mail_failover_e2e::suite::{self, Options, trial};
use mail_failover_e2e::test_env::TestEnv;
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpListener;
use tokio::time::{sleep, timeout};
use tokio_util::task::AbortOnDropHandle;

/// A user whose only right is everything on our kinds in the namespace of the red team.
const TENANT: &str = "tenant";
/// What a service says that does not speak SMTP.
const SECRET: &str = "hunter2";
/// Documents that one kubectl applies within its time limit.
const AT_ONCE: usize = 120;
/// The time between two failures of the victim's provider, so that their phases differ.
const PAUSE: Duration = Duration::from_millis(300);

fn main() -> ExitCode {
    let options = Options { operator: true, deadline: Duration::from_mins(12), ..Options::default() };
    let attacked =
        trial("a tenant who attacks delays no failover of another, and sees nothing of others' servers", attack)
            .needs_control()
            .listens()
            .alone();
    // It takes the whole machine for minutes.
    let trials = if is_exhaustive() { vec![attacked] } else { vec![] };
    suite::run("red_team", options, trials)
}

/// Two replicas, the victim's route in one namespace, and the red team's namespace.
struct Arena {
    env: Arc<TestEnv>,
    victim: TwoBackendFixture,
    endpoints: ServiceEndpoints,
    replicas: Vec<Operator>,
    evil: String,
}

impl Arena {
    async fn create(env: Arc<TestEnv>) -> Result<Self> {
        let evil = format!("{}-evil", env.namespace());
        let metadata = ObjectMeta { name: Some(evil.clone()), ..ObjectMeta::default() };
        let namespace = Namespace { metadata, ..Namespace::default() };
        Api::<Namespace>::all(env.client()).create(&PostParams::default(), &namespace).await?;
        env.kubectl_with_input(&["apply", "--namespace", &evil, "-f", "-"], &rights(&evil).to_string()).await?;
        let timings = PolicyTimings { interval: "500ms", ..PolicyTimings::with_failback() };
        let victim = TwoBackendFixture::create(env.clone(), &timings).await?;
        let namespaces = format!("{},{evil}", env.namespace());
        // No loopback address is allowed, other than in all other suites.
        let scope =
            ["--namespaces", &namespaces, "--allow-destinations", "198.51.100.0/24", "--allow-ports", "1-65535"];
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
    async fn apply(&self, manifests: &str) -> Result<()> {
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

    /// Fails over until the time is up, and three times at least. Returns the median.
    async fn median_failover(&self, lasting: Duration) -> Result<Duration> {
        let (began, mut took) = (Instant::now(), vec![]);
        while took.len() < 3 || began.elapsed() < lasting {
            took.push(self.fail_over().await?);
        }
        took.sort();
        println!("{} failovers: {:.2?} to {:.2?}", took.len(), took[0], took[took.len() - 1]);
        Ok(took[took.len() / 2])
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
fn object(kind: &str, name: &str, spec: &Value) -> String {
    let object =
        json!({ "apiVersion": "mailfailover.io/v1alpha1", "kind": kind, "metadata": { "name": name }, "spec": spec });
    format!("---\n{object}\n")
}

/// Accepts connections, says this if anything, and keeps them.
async fn listen(address: SocketAddr, says: Option<&'static str>) -> Result<AbortOnDropHandle<()>> {
    let listener = TcpListener::bind(address).await.with_context(|| format!("{address}"))?;
    Ok(AbortOnDropHandle::new(tokio::spawn(async move {
        let mut kept = vec![];
        while let Ok((mut connection, _)) = listener.accept().await {
            if let Some(says) = says {
                let _ = timeout(Duration::from_secs(1), connection.write_all(says.as_bytes())).await;
            }
            kept.push(connection);
            // No more than the machine has files for.
            if kept.len() > 2000 {
                kept.clear();
            }
        }
    })))
}

/// Backends at a server that says nothing, each with as many probes as there may be.
fn tarpits(address: SocketAddr) -> String {
    let probes: Vec<_> =
        (0..8).map(|number| json!({ "name": format!("p{number}"), "interval": "6s", "timeout": "1m", "smtp": { "depth": "Banner" } })).collect();
    let spec = json!({ "smtp": { "host": address.ip(), "port": address.port() }, "probes": probes });
    (0..exhaustive(12, 70))
        .fold(String::new(), |text, number| text + &object("SendingBackend", &format!("tarpit-{number}"), &spec))
}

/// More verdicts than a report has room for.
fn thousand_failures(closed: SocketAddr) -> String {
    let interval = exhaustive("10s", "1s");
    let probe = json!([{ "name": "smtp", "interval": interval, "timeout": "1s", "smtp": { "depth": "Connect" } }]);
    let backend = json!({ "smtp": { "host": closed.ip(), "port": closed.port() }, "probes": probe });
    let names: Vec<_> = (0..100).map(|number| json!({ "name": format!("dead-{number}") })).collect();
    let mut text = String::new();
    for number in 0..100 {
        text += &object("SendingBackend", &format!("dead-{number}"), &backend);
    }
    for failures in 1..=11 {
        let name = format!("policy-{failures}");
        text += &object("FailoverPolicy", &name, &json!({ "failure": { "consecutive": failures } }));
        let route = json!({ "policyRef": { "name": name }, "backends": names, "outputs": [{ "configMap": { "name": name, "format": "Env" } }] });
        text += &object("MailRoute", &name, &route);
    }
    text
}

/// Backends that turn with each look at them.
fn flapping(address: SocketAddr) -> String {
    let (count, interval) = exhaustive((8, "500ms"), (20, "200ms"));
    let probe = json!([{ "name": "smtp", "interval": interval, "timeout": "200ms", "smtp": { "depth": "Banner" } }]);
    let backend = json!({ "smtp": { "host": address.ip(), "port": address.port() }, "probes": probe });
    let names: Vec<_> = (0..count).map(|number| json!({ "name": format!("flapping-{number}") })).collect();
    let policy = json!({ "failure": { "consecutive": 1 }, "recovery": { "consecutive": 1 } });
    let route = json!({ "policyRef": { "name": "nervous" }, "backends": names, "outputs": [{ "configMap": { "name": "nervous", "format": "Env" } }] });
    let mut text = object("FailoverPolicy", "nervous", &policy) + &object("MailRoute", "nervous", &route);
    for number in 0..count {
        text += &object("SendingBackend", &format!("flapping-{number}"), &backend);
    }
    text
}

/// Backends with an authority that does not exist.
fn without_authority(address: SocketAddr) -> String {
    let mut text = String::new();
    for number in 0..exhaustive(100, 2000) {
        let smtp = json!({ "host": address.ip(), "port": address.port(),
            "tls": { "mode": "StartTLS", "caRef": { "configMap": format!("nowhere-{number}") } } });
        text += &object("SendingBackend", &format!("ca-{number}"), &json!({ "smtp": smtp, "suspended": true }));
    }
    text
}

/// Backends that look at what the operator alone reaches, and a route that leads there.
fn scouts(foreign: SocketAddr) -> String {
    let probe = json!([{ "name": "smtp", "interval": "1s", "timeout": "1s", "smtp": { "depth": "Banner" } }]);
    let mut text = String::new();
    for (name, host, port) in [
        ("loopback", "localhost".to_owned(), 22),
        ("metadata", "168.63.129.16".to_owned(), 80),
        ("translated", "64:ff9b::a9fe:a9fe".to_owned(), 80),
        ("foreign", foreign.ip().to_string(), foreign.port()),
    ] {
        let spec = json!({ "smtp": { "host": host, "port": port }, "probes": probe });
        text += &object("SendingBackend", name, &spec);
    }
    let outputs = json!([{ "service": { "name": "dashboard", "ports": [{ "name": "http", "port": 80 }] } }]);
    text + &object("MailRoute", "dashboard", &json!({ "backends": [{ "name": "metadata" }], "outputs": outputs }))
}

async fn attack(env: Arc<TestEnv>) -> Result<()> {
    let arena = Arena::create(env.clone()).await?;
    let lasting = exhaustive(Duration::ZERO, Duration::from_mins(1));
    let alone = arena.median_failover(lasting).await?;

    let [tarpit, closed, foreign, nervous] = [2600, 2601, 6379, 2602].map(|port| SocketAddr::new(env.ipv4(), port));
    let _tarpit = listen(tarpit, None).await?;
    let _foreign = listen(foreign, Some("-DENIED Redis protected mode token=hunter2\r\n")).await?;
    let flapper = SmtpServer::start(server::Options::new("flapper", nervous)).await?;
    let _flapping = AbortOnDropHandle::new(tokio::spawn(async move {
        loop {
            // What fails here is not what is tried.
            let _ = flapper.crash().await;
            sleep(Duration::from_millis(700)).await;
            let _ = flapper.repair().await;
            sleep(Duration::from_millis(700)).await;
        }
    }));
    let mut waves = String::new();
    for wave in
        [scouts(foreign), tarpits(tarpit), thousand_failures(closed), flapping(nervous), without_authority(closed)]
    {
        // Writing to a String cannot fail.
        let _ = write!(waves, "{wave}");
    }
    arena.apply(&waves).await?;
    let attacked = arena.median_failover(exhaustive(Duration::ZERO, Duration::from_mins(5))).await?;
    println!("alone {alone:.2?}, under attack {attacked:.2?}");
    // A second for the differences between two runs on a busy machine.
    let bound = alone.mul_f64(1.5) + exhaustive(Duration::from_secs(1), Duration::from_millis(250));
    ensure!(attacked <= bound, "a failover takes {attacked:.2?} under attack, and {alone:.2?} alone");

    scouts_saw_nothing(&arena).await?;
    quorum_stays(&arena).await?;
    if is_exhaustive() {
        flood_is_bounded(&arena).await?;
        arena
            .env
            .kubectl(&["delete", "sendingbackends,mailroutes", "--all", "--wait=false", "--namespace", &arena.evil])
            .await?;
        let after = arena.median_failover(Duration::from_secs(30)).await?;
        ensure!(after <= bound, "a failover takes {after:.2?} after the attack, and {alone:.2?} before it");
    }
    Ok(())
}

/// Neither a status nor a Service of the tenant leads to what only the operator reaches.
async fn scouts_saw_nothing(arena: &Arena) -> Result<()> {
    let backends: Api<SendingBackend> = Api::namespaced(arena.env.client(), &arena.evil);
    for (name, told) in [
        ("loopback", "a loopback address"),
        ("metadata", "a metadata service of a cloud"),
        ("translated", "leads to 169.254.169.254"),
    ] {
        let message = eventually(WAIT_TIMEOUT, &format!("{name} to be refused"), async || {
            let status = backends.get(name).await?.status.unwrap_or_default();
            let probe = status.probes.into_iter().next().context("a probe")?;
            if probe.reason != "ProbeBlocked" {
                bail!("{probe:?}");
            }
            Ok(probe.message)
        })
        .await?;
        ensure!(message.contains(told) && message.contains("--allow-destinations"), "{name}: {message}");
    }
    let told = eventually(WAIT_TIMEOUT, "the foreign server to be seen", async || {
        let status = backends.get("foreign").await?.status.unwrap_or_default();
        Ok(status.probes.into_iter().find(|probe| probe.reason == "ProtocolError"))
    })
    .await?;
    ensure!(told.message.as_deref() == Some("Banner: not an SMTP greeting (44 octets)"), "{told:?}");
    let all = backends.list(&ListParams::default()).await?.items;
    let statuses = serde_json::to_string(&all.into_iter().map(|backend| backend.status).collect::<Vec<_>>())?;
    ensure!(!statuses.contains(SECRET), "a status quotes a foreign server");

    let routes: Api<MailRoute> = Api::namespaced(arena.env.client(), &arena.evil);
    let dashboard = routes.get("dashboard").await?.status.unwrap_or_default();
    let slices: Api<EndpointSlice> = Api::namespaced(arena.env.client(), &arena.evil);
    let made = slices.list(&ListParams::default()).await?.items;
    ensure!(made.is_empty(), "{made:?} for {dashboard:?}");
    Ok(())
}

/// Both replicas still count for one another.
async fn quorum_stays(arena: &Arena) -> Result<()> {
    for replica in &arena.replicas {
        eventually(WAIT_TIMEOUT, "the other replica to count", async || {
            let metrics = replica.metrics().await?;
            let heard = metric_sum(&metrics, "mail_failover_observers", |labels| labels.contains("heard"));
            let silent = metric_sum(&metrics, "mail_failover_observer_report_silent_namespaces", |labels| {
                labels.contains("crowded")
            });
            Ok((heard > 0.5 && silent > 0.5).then_some(()))
        })
        .await?;
    }
    Ok(())
}

/// Backends that flap are written seldom.
async fn flood_is_bounded(arena: &Arena) -> Result<()> {
    let mut put_off = 0.0;
    for replica in &arena.replicas {
        put_off += metric_sum(&replica.metrics().await?, "mail_failover_controller_lane_put_off_total", |_| true);
    }
    ensure!(put_off > 0.5, "nothing was put off in five minutes");
    Ok(())
}
