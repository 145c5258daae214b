//! Wiring of `mail-failover run`: the parts of the process, their connections, and the order in which they end.
//!
//! The order of the end matters. First nothing new is decided and the steps under way are over. Then the lease is
//! vacated, so that a successor cannot meet our writes. Probes and watches end with the process. What this replica told
//! the others is withdrawn at once, because from then on it does not observe any more. This module never decides and
//! never writes.

mod arguments;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use kube::{Client, Config};
use prometheus_client::registry::Registry;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{mpsc, watch as watch_channel};
use tokio_util::sync::CancellationToken;

use crate::controller::applier::Applier;
use crate::controller::ca::Ca;
use crate::controller::input::Input;
use crate::controller::login::LoginSecret;
use crate::controller::read::{Readable, Reader};
use crate::controller::run::Connections;
use crate::controller::secret_reader::SecretsByName;
use crate::controller::state::{ControllerState, Settings as ControllerSettings};
use crate::controller::{metrics as controller_metrics, read, run as controller};
use crate::dns::{self, DnsClient};
use crate::leader::{self, Leadership, SettingsError, unique_identity};
use crate::notification::NotificationClient;
use crate::observers::{self, LocalReport, PeerEvent};
use crate::probe::{self, Prober, StartError};
use crate::probe_job::JobSettings;
use crate::reports::{self, CertificateError, Directory, ServerCertificate};
use crate::watch;
use crate::webhook::{self, WebhookClient};
pub use arguments::{Advertised, OperatorArguments};
use mail_failover_contract::document::OperatorEndpoint;
use mail_failover_core::model::{AgentReport, ProbeReport};
use mail_failover_runtime::clock::Clock;
use mail_failover_runtime::kubernetes::{self, ConfigError, Purpose, describe};
use mail_failover_runtime::process::{hostname, raise_limit_of_open_files};
use mail_failover_runtime::tasks::Tasks;
use mail_failover_runtime::telemetry::{
    self, HealthServer, HealthState, Heartbeat, ListenError, LogError, Readiness, TelemetryServer,
};

/// Inputs that wait for the controller.
// A watch that lists ten thousand objects is slowed down by it, not stopped.
const INPUT_QUEUE: usize = 4096;
/// Probe reports that wait for the controller.
const REPORT_QUEUE: usize = 4096;
/// Reports of other replicas that wait for the controller: more than there can be replicas.
const PEER_EVENT_QUEUE: usize = 128;
/// Reports of agents that wait for the controller; beyond, agents are told to come again.
const AGENT_REPORT_QUEUE: usize = 1024;
/// Pause of the main loop after which the process counts as stuck.
// The loop turns every second at least.
const HEARTBEAT_PAUSE: std::time::Duration = std::time::Duration::from_secs(30);

/// Parts that the end waits for, by the name that the log uses.
const CONTROLLER: &str = "the controller";
const ELECTION: &str = "the leader election";
const OBSERVER: &str = "the observer";

/// Errors of the start, and of an end that nobody asked for.
#[derive(Debug, thiserror::Error)]
pub enum AppError {
    /// Logs cannot be set up.
    #[error(transparent)]
    Log(#[from] LogError),
    /// No configuration for an API server was found.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The API server's address or our credentials cannot be used.
    #[error("the API server cannot be used as configured: {}", describe(.0))]
    Client(#[source] Box<kube::Error>),
    /// The lease's timing is unsafe.
    #[error(transparent)]
    Lease(#[from] SettingsError),
    /// The prober cannot start.
    #[error(transparent)]
    Probe(#[from] StartError),
    /// The address to listen on cannot be had.
    #[error(transparent)]
    Listen(#[from] ListenError),
    /// The certificate for reports cannot be made.
    #[error(transparent)]
    Certificate(#[from] CertificateError),
    /// The operating system refused something at start.
    #[error("cannot start: {0}")]
    Io(#[from] io::Error),
    /// A part has ended without which the operator must not go on.
    #[error("{0} has ended unexpectedly; the process ends so that another replica takes over")]
    Ended(&'static str),
}

/// Runs the operator until SIGTERM or SIGINT.
///
/// # Errors
/// [`AppError`] when it could not start, or when a part of it ended by itself.
pub fn run(arguments: Box<OperatorArguments>) -> Result<(), AppError> {
    telemetry::init_logs(&arguments.log, arguments.log_format)?;
    raise_limit_of_open_files();
    // Before anything speaks TLS: with two providers linked and none chosen rustls panics at the first handshake.
    drop(rustls::crypto::ring::default_provider().install_default());
    tokio::runtime::Builder::new_multi_thread().enable_all().build()?.block_on(operate(*arguments))
}

async fn operate(arguments: OperatorArguments) -> Result<(), AppError> {
    // At the first reply it would keep everything else waiting.
    drop(tokio::task::spawn_blocking(mail_failover_replies::rules));
    let mut operator = Operator::new(arguments);
    let clients = operator.connect().await?;
    let (inputs, input_receiver) = mpsc::channel(INPUT_QUEUE);
    let (events, event_receiver) = mpsc::channel(INPUT_QUEUE);
    let (reports, report_receiver) = mpsc::channel(REPORT_QUEUE);
    let (peer_events, peer_event_receiver) = mpsc::channel(PEER_EVENT_QUEUE);
    let (agent_reports, agent_report_receiver) = mpsc::channel(AGENT_REPORT_QUEUE);
    let (local_report, directory) = (LocalReport::default(), Directory::default());

    let (server, health_server) = (operator.listen().await?, operator.listen_for_health().await?);
    let (report_server, endpoint) = operator.listen_for_reports().await?;
    let (successor, successor_receiver) = watch_channel::channel(None);
    let leadership = operator.start_election(&clients, successor_receiver)?;
    operator.start_observer(&clients, endpoint.clone(), local_report.clone(), peer_events, leadership.clone());
    let prober = operator.start_prober(reports)?;
    let ca_reader = operator.start_reader::<Ca>("the reader of certificates", &clients, &inputs);
    let login_reader = operator.start_reader::<LoginSecret>("the reader of logins", &clients, &inputs);
    let secret_reader =
        operator.start_reader::<SecretsByName>("the reader of Secrets of outputs and receivers", &clients, &inputs);
    let webhook_client = operator.webhook_client(leadership.clone())?;
    let dns_client = operator.dns_client(&clients, leadership.clone())?;
    drop(inputs);
    let scope = operator.start_watches(&clients, events);
    let metrics = controller_metrics::Metrics::new(&mut operator.registry);
    let notification_client = operator.notification_client(&webhook_client, &leadership, &metrics)?;
    let connections = Connections {
        watched: event_receiver,
        inputs: input_receiver,
        reports: report_receiver,
        peer_events: peer_event_receiver,
        agent_reports: agent_report_receiver,
        directory: directory.clone(),
        local_report,
        watch_contacts: clients.watch_contacts.clone(),
        successor,
        leading: leadership.subscribe(),
        applier: Applier::new(clients.call.clone(), leadership, metrics.clone()),
        prober,
        ca_reader,
        login_reader,
        secret_reader,
        webhook_client,
        dns_client,
        notification_client,
        heartbeat: operator.heartbeat.clone(),
        clock: operator.clock,
        metrics: metrics.clone(),
    };
    operator.start_controller(connections, metrics, endpoint);
    operator.serve_telemetry(server, health_server);
    operator.serve_reports(report_server, &clients, directory, agent_reports.clone());
    tracing::info!(
        identity = operator.identity,
        api_server = clients.api_server,
        watches = %scope,
        version = env!("CARGO_PKG_VERSION"),
        "the operator has started"
    );
    let ended = operator.run_until_told().await;
    // The controller must not see the end of this queue before its own, even if no reports are taken.
    drop(agent_reports);
    ended
}

/// Clients of the API server, one for each kind of request.
struct Clients {
    watch: Client,
    call: Client,
    lease: Client,
    watch_contacts: kubernetes::WatchContacts,
    /// Address of the API server, for logs.
    api_server: String,
}

/// The process while its parts are started, and until they end.
struct Operator {
    arguments: OperatorArguments,
    hostname: String,
    identity: String,
    clock: Clock,
    registry: Registry,
    heartbeat: Heartbeat,
    readiness: Readiness,
    tasks: Tasks,
    /// Ends the controller, so that nothing new is decided.
    shutdown: CancellationToken,
    /// Vacates the lease.
    release: CancellationToken,
    /// Ends all other parts.
    end: CancellationToken,
}

impl Operator {
    fn new(arguments: OperatorArguments) -> Self {
        let hostname = hostname();
        Self {
            identity: arguments.identity.clone().unwrap_or_else(|| unique_identity(&hostname)),
            arguments,
            hostname,
            clock: Clock::system(),
            registry: telemetry::registry(),
            heartbeat: Heartbeat::new(HEARTBEAT_PAUSE),
            readiness: Readiness::default(),
            tasks: Tasks::default(),
            shutdown: CancellationToken::new(),
            release: CancellationToken::new(),
            end: CancellationToken::new(),
        }
    }

    async fn connect(&mut self) -> Result<Clients, AppError> {
        let config = kubernetes::config(self.arguments.kubeconfig.as_deref()).await?;
        let metrics = kubernetes::Metrics::new(&mut self.registry);
        Ok(Clients {
            watch: client(&config, Purpose::Watch, &metrics)?,
            call: client(&config, Purpose::Call, &metrics)?,
            lease: client(&config, Purpose::Lease, &metrics)?,
            watch_contacts: metrics.watch_contacts(),
            api_server: config.cluster_url.to_string(),
        })
    }

    async fn listen(&mut self) -> Result<TelemetryServer, AppError> {
        let (address, flag) = (self.arguments.listen_address, "--listen-address");
        Ok(TelemetryServer::bind(address, &mut self.registry).await.map_err(ListenError::of(address, flag))?)
    }

    async fn listen_for_health(&mut self) -> Result<HealthServer, AppError> {
        let (address, flag) = (self.arguments.health_listen_address, "--health-listen-address");
        Ok(HealthServer::bind(address, &mut self.registry).await.map_err(ListenError::of(address, flag))?)
    }

    /// Returns the server that takes reports, and its endpoint as agents are told. Either may be missing.
    async fn listen_for_reports(
        &mut self,
    ) -> Result<(Option<reports::ReportServer>, Option<OperatorEndpoint>), AppError> {
        if self.arguments.without_reports {
            return Ok((None, None));
        }
        let (address, flag) = (self.arguments.report_listen_address, "--report-listen-address");
        let certificate = ServerCertificate::generate()?;
        let server = reports::ReportServer::bind(address, &certificate, &mut self.registry)
            .await
            .map_err(ListenError::of(address, flag))?;
        let port = server.local_addr()?.port();
        let endpoint = self.arguments.report_advertise_address.map(|advertised| OperatorEndpoint {
            address: SocketAddr::new(advertised.address, advertised.port.unwrap_or(port)).to_string(),
            certificate_sha256: certificate.fingerprint,
        });
        if endpoint.is_none() {
            tracing::info!(
                port,
                "agents are not told where this replica takes reports; set --report-advertise-address or POD_IP"
            );
        }
        Ok((Some(server), endpoint))
    }

    fn start_election(
        &mut self,
        clients: &Clients,
        successor: watch_channel::Receiver<Option<Arc<str>>>,
    ) -> Result<Leadership, AppError> {
        let settings = leader::Settings {
            namespace: self.arguments.lease_namespace.clone(),
            name: self.arguments.lease_name.clone(),
            identity: self.identity.clone(),
            lease_duration: self.arguments.lease_duration,
            renew_deadline: self.arguments.lease_renew_deadline,
            retry_period: self.arguments.lease_retry_period,
        };
        let metrics = leader::Metrics::new(&mut self.registry);
        let (leadership, election) =
            leader::start(clients.lease.clone(), settings, self.clock, metrics, successor, self.release.clone())?;
        self.tasks.add(ELECTION, election);
        Ok(leadership)
    }

    fn start_observer(
        &mut self,
        clients: &Clients,
        reports: Option<OperatorEndpoint>,
        local_report: LocalReport,
        peer_events: mpsc::Sender<PeerEvent>,
        leadership: Leadership,
    ) {
        let settings = observers::Settings {
            namespace: self.arguments.lease_namespace.clone(),
            lease_name: self.arguments.lease_name.clone(),
            identity: self.identity.clone(),
            lease_duration: self.arguments.lease_duration,
            reports,
        };
        let metrics = observers::Metrics::new(&mut self.registry);
        let observers::Tasks { publishing, listening } = observers::spawn(
            clients.watch.clone(),
            clients.call.clone(),
            settings,
            observers::ObserverConnections { local_report, peer_events, leadership, clock: self.clock, metrics },
            self.shutdown.clone(),
            self.end.clone(),
        );
        self.tasks.add(OBSERVER, publishing);
        self.tasks.add("the listener to other replicas", listening);
    }

    fn start_prober(&mut self, reports: mpsc::Sender<ProbeReport>) -> Result<Prober, AppError> {
        let settings = probe::Settings {
            concurrency: usize::from(self.arguments.probe_concurrency),
            dns_servers: self.arguments.dns_servers.clone(),
            ehlo_name: probe::ehlo_name(self.arguments.ehlo_name.as_deref(), &self.hostname),
            guard: self.arguments.dial_guard.clone(),
        };
        let metrics = probe::Metrics::new(&mut self.registry);
        let (prober, probing) = Prober::start(&settings, self.clock, metrics, reports, self.end.clone())?;
        self.tasks.add("the prober", probing);
        Ok(prober)
    }

    fn webhook_client(&mut self, leadership: Leadership) -> Result<WebhookClient, AppError> {
        let metrics = webhook::Metrics::new(&mut self.registry);
        let guard = self.arguments.dial_guard.for_webhooks(&self.arguments.call_ports);
        Ok(WebhookClient::new(&self.arguments.dns_servers, guard, leadership, metrics)?)
    }

    fn dns_client(&mut self, clients: &Clients, leadership: Leadership) -> Result<DnsClient, AppError> {
        let metrics = dns::Metrics::new(&mut self.registry);
        let OperatorArguments { dial_guard, call_ports, dns_servers, .. } = &self.arguments;
        let (guard, api_guard) = (dial_guard.for_dns(call_ports), dial_guard.for_webhooks(call_ports));
        let settings = dns::Settings { dns_servers: dns_servers.clone(), guard, api_guard };
        Ok(DnsClient::new(settings, clients.call.clone(), leadership, metrics)?)
    }

    fn notification_client(
        &self,
        webhooks: &WebhookClient,
        leadership: &Leadership,
        metrics: &controller_metrics::Metrics,
    ) -> Result<NotificationClient, AppError> {
        Ok(NotificationClient::new(
            webhooks.clone(),
            &self.arguments.dns_servers,
            probe::ehlo_name(self.arguments.ehlo_name.as_deref(), &self.hostname),
            self.arguments.dial_guard.clone(),
            leadership.clone(),
            metrics.notifications.clone(),
        )?)
    }

    fn start_reader<R: Readable>(
        &mut self,
        name: &'static str,
        clients: &Clients,
        inputs: &mpsc::Sender<Input>,
    ) -> Reader<R> {
        let metrics = read::Metrics::new::<R>(&mut self.registry);
        let (reader, reading) = read::spawn(clients.call.clone(), inputs.clone(), metrics, self.end.clone());
        self.tasks.add(name, reading);
        reader
    }

    fn start_watches(&mut self, clients: &Clients, events: mpsc::Sender<watch::WatchEvent>) -> watch::WatchScope {
        let scope = watch::WatchScope::of(self.arguments.namespaces.iter().cloned());
        let context = watch::Context {
            events,
            readiness: self.readiness.clone(),
            watches_jobs: self.arguments.probe_image.is_some(),
            metrics: watch::WatchMetrics::new(&mut self.registry),
            shutdown: self.end.clone(),
        };
        self.tasks.add_set("a watch", watch::spawn(&clients.watch, &scope, &context));
        scope
    }

    fn start_controller(
        &mut self,
        connections: Connections,
        metrics: controller_metrics::Metrics,
        reports: Option<OperatorEndpoint>,
    ) {
        let settings = ControllerSettings {
            instance: self.identity.clone(),
            installation: format!("{}/{}", self.arguments.lease_namespace, self.arguments.lease_name).into(),
            cluster_domain: self.arguments.cluster_domain.clone(),
            lease_duration: self.arguments.lease_duration,
            guard: self.arguments.dial_guard.clone(),
            reports,
            dns_owner: self.arguments.dns_owner.as_str().into(),
            default_notifications: self.arguments.default_notifications.clone().map(|policy| policy.0),
            jobs: self.arguments.probe_image.clone().map(|image| JobSettings {
                image,
                ehlo_name: self.arguments.ehlo_name.clone(),
                limit: usize::from(self.arguments.max_probe_jobs),
            }),
        };
        let state = ControllerState::new(settings, metrics);
        self.tasks.spawn(CONTROLLER, controller::run(state, connections, self.shutdown.clone()));
    }

    /// Serves health, and the metrics that are registered by now.
    fn serve_telemetry(&mut self, server: TelemetryServer, health_server: HealthServer) {
        let registry = std::mem::take(&mut self.registry);
        self.tasks.spawn("the telemetry server", server.serve(registry, Router::new(), self.end.clone()));
        let state = HealthState { heartbeat: self.heartbeat.clone(), readiness: self.readiness.clone() };
        self.tasks.spawn("the health server", health_server.serve(state, self.end.clone()));
    }

    fn serve_reports(
        &mut self,
        server: Option<reports::ReportServer>,
        clients: &Clients,
        directory: Directory,
        reports: mpsc::Sender<AgentReport>,
    ) {
        if let Some(server) = server {
            let connections =
                reports::ReportConnections { client: clients.call.clone(), directory, reports, clock: self.clock };
            self.tasks.spawn("the server for reports", server.serve(connections, self.end.clone()));
        }
    }

    /// Waits for a signal or for the end of any part; then ends all parts in order.
    async fn run_until_told(mut self) -> Result<(), AppError> {
        let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
        let ended = tokio::select! {
            _ = terminate.recv() => None,
            _ = interrupt.recv() => None,
            part = self.tasks.next_end() => Some(part),
        };
        tracing::info!(cause = ended.unwrap_or("a signal"), "the operator ends");
        self.tasks.stop(&self.shutdown, &[CONTROLLER]).await;
        // Only now: a successor must not meet writes of ours.
        self.tasks.stop(&self.release, &[ELECTION, OBSERVER]).await;
        self.tasks.stop(&self.end, &[]).await;
        ended.map_or(Ok(()), |part| Err(AppError::Ended(part)))
    }
}

fn client(config: &Config, purpose: Purpose, metrics: &kubernetes::Metrics) -> Result<Client, AppError> {
    kubernetes::client(config.clone(), purpose, metrics).map_err(|error| AppError::Client(Box::new(error)))
}
