//! All wiring of `mail-failover run`: what is started, what it is connected to, and in which order it ends.
//!
//! The order of the end is the point: first nothing new is decided and the steps under way are over, then the lease is vacated, so that
//! a successor cannot meet our writes; probes and watches end with the process. What this replica told the others is withdrawn at once: from
//! then on it does not look any more. This module never decides and never writes.

mod arguments;

use std::io;
use std::net::SocketAddr;

use prometheus_client::registry::Registry;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;
use tokio::task::{JoinHandle, JoinSet};
use tokio_util::sync::CancellationToken;

use crate::controller::applier::Applier;
use crate::controller::ca::Ca;
use crate::controller::login::LoginSecret;
use crate::controller::run::ObserverConnections;
use crate::controller::state::{ControllerState, JobSettings, Settings as ControllerSettings};
use crate::controller::{metrics as controller_metrics, read, run as controller};
use crate::leader::{self, SettingsError, unique_identity};
use crate::observers::{self, LocalReport};
use crate::probe::{self, Prober, StartError};
use crate::reports::{self, Certificate, CertificateError, Directory};
use crate::watch;
pub use arguments::{Advertised, RunArguments};
use mail_failover_contract::document::OperatorEndpoint;
use mail_failover_runtime::clock::Clock;
use mail_failover_runtime::kubernetes::{self, ConfigError, Purpose, describe};
use mail_failover_runtime::process::{hostname, raise_limit_of_open_files};
use mail_failover_runtime::telemetry::{self, Heartbeat, LogError, Readiness, Server, State};

/// Inputs that wait for the controller; a watch that lists ten thousand objects is slowed down by it, not stopped.
const INPUT_QUEUE: usize = 4096;
/// Probe reports that wait for the controller.
const REPORT_QUEUE: usize = 4096;
/// What other replicas say and the controller has not yet heard: more than there can be observers.
const PEER_EVENT_QUEUE: usize = 128;
/// Reports of agents that wait for the controller; beyond, agents are told to come again.
const AGENT_REPORT_QUEUE: usize = 1024;
/// A loop that has not turned for so long is stuck: it turns every second at least.
const HEARTBEAT_PAUSE: std::time::Duration = std::time::Duration::from_secs(30);

/// Why the operator could not start, or ended before it was told to.
#[derive(Debug, thiserror::Error)]
pub enum AppError {
    /// Logs cannot be set up.
    #[error(transparent)]
    Log(#[from] LogError),
    /// No way to reach an API server.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The API server's address or our credentials cannot be used.
    #[error("the API server cannot be used as configured: {0}")]
    Client(String),
    /// The lease's timing is unsafe.
    #[error(transparent)]
    Lease(#[from] SettingsError),
    /// The prober cannot start.
    #[error(transparent)]
    Probe(#[from] StartError),
    /// The address to listen on cannot be had.
    #[error("cannot listen on {address}: {source}; choose another with {flag}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// The flag that sets it.
        flag: &'static str,
        /// Why.
        source: io::Error,
    },
    /// No certificate for reports.
    #[error(transparent)]
    Certificate(#[from] CertificateError),
    /// The operating system refused something at start.
    #[error("cannot start: {0}")]
    Io(#[from] io::Error),
    /// A part without which the operator must not go on.
    #[error("{0} has ended unexpectedly; the process ends so that another replica takes over")]
    Ended(&'static str),
}

/// Runs the operator until SIGTERM or SIGINT.
///
/// # Errors
/// [`AppError`] when it could not start, or when a part of it ended by itself.
pub fn run(arguments: Box<RunArguments>) -> Result<(), AppError> {
    telemetry::init_logs(&arguments.log, arguments.log_format)?;
    raise_limit_of_open_files();
    // Before anything speaks TLS: with two providers linked and none chosen rustls panics at the first handshake.
    drop(rustls::crypto::ring::default_provider().install_default());
    tokio::runtime::Builder::new_multi_thread().enable_all().build()?.block_on(operate(*arguments))
}

async fn operate(arguments: RunArguments) -> Result<(), AppError> {
    let hostname = hostname();
    let identity = arguments.identity.clone().unwrap_or_else(|| unique_identity(&hostname));
    let (shutdown, release, end) = (CancellationToken::new(), CancellationToken::new(), CancellationToken::new());
    let mut registry = telemetry::registry();
    let clock = Clock::system();

    let config = kubernetes::config(arguments.kubeconfig.as_deref()).await?;
    let api_server = config.cluster_url.to_string();
    let api_metrics = kubernetes::Metrics::new(&mut registry);
    let client = |purpose| {
        kubernetes::client(config.clone(), purpose, &api_metrics).map_err(|error| AppError::Client(describe(&error)))
    };
    let (watch_client, call_client, lease_client) =
        (client(Purpose::Watch)?, client(Purpose::Call)?, client(Purpose::Lease)?);

    let (inputs, input_receiver) = mpsc::channel(INPUT_QUEUE);
    let (events, event_receiver) = mpsc::channel(INPUT_QUEUE);
    let (reports, report_receiver) = mpsc::channel(REPORT_QUEUE);
    let (peer_events, peer_event_receiver) = mpsc::channel(PEER_EVENT_QUEUE);
    let local_report = LocalReport::default();
    let heartbeat = Heartbeat::new(HEARTBEAT_PAUSE);
    let readiness = Readiness::default();
    let server = listen(arguments.listen_address, &mut registry).await?;
    let (agent_reports, agent_report_receiver) = mpsc::channel(AGENT_REPORT_QUEUE);
    let directory = Directory::default();
    let (report_server, advertised) = match listen_for_reports(&arguments, &mut registry).await? {
        Some((server, advertised)) => (Some(server), advertised),
        None => (None, None),
    };

    let (leadership, election) = leader::start(
        lease_client,
        lease(&arguments, &identity),
        clock,
        leader::Metrics::new(&mut registry),
        release.clone(),
    )?;
    let observers::Tasks { publishing, listening } = observers::spawn(
        watch_client.clone(),
        call_client.clone(),
        observers::Settings {
            namespace: arguments.lease_namespace.clone(),
            lease_name: arguments.lease_name.clone(),
            identity: identity.clone(),
            lease_duration: arguments.lease_duration,
            reports: advertised.clone(),
        },
        observers::ObserverConnections {
            local_report: local_report.clone(),
            peer_events,
            leadership: leadership.clone(),
            clock,
            metrics: observers::Metrics::new(&mut registry),
        },
        shutdown.clone(),
        end.clone(),
    );
    let (prober, probing) = Prober::start(
        &probe::Settings {
            concurrency: usize::from(arguments.probe_concurrency),
            dns_servers: arguments.dns_servers.clone(),
            ehlo_name: arguments.ehlo_name.clone().unwrap_or(hostname),
        },
        clock,
        probe::Metrics::new(&mut registry),
        reports,
        end.clone(),
    )?;
    let metrics = read::Metrics::new::<Ca>(&mut registry);
    let (ca_reader, ca_reading) = read::spawn(call_client.clone(), inputs.clone(), metrics, end.clone());
    let metrics = read::Metrics::new::<LoginSecret>(&mut registry);
    let (login_reader, login_reading) = read::spawn(call_client.clone(), inputs, metrics, end.clone());
    let jobs = arguments.probe_image.clone().map(|image| JobSettings {
        image,
        ehlo_name: arguments.ehlo_name.clone(),
        limit: usize::from(arguments.max_probe_jobs),
    });
    let scope = watch::Scope::of(arguments.namespaces);
    let watching = watch::spawn(
        &watch_client,
        &scope,
        &watch::Context {
            events,
            readiness: readiness.clone(),
            watches_jobs: jobs.is_some(),
            metrics: watch::Metrics::new(&mut registry),
            shutdown: end.clone(),
        },
    );
    let metrics = controller_metrics::Metrics::new(&mut registry);
    let controller_settings = ControllerSettings {
        instance: identity.clone(),
        cluster_domain: arguments.cluster_domain,
        reports: advertised,
        jobs,
    };
    let connections = ObserverConnections {
        watched: event_receiver,
        inputs: input_receiver,
        reports: report_receiver,
        peer_events: peer_event_receiver,
        agent_reports: agent_report_receiver,
        directory: directory.clone(),
        local_report,
        leading: leadership.subscribe(),
        applier: Applier::new(call_client.clone(), leadership, metrics.clone()),
        prober,
        ca_reader,
        login_reader,
        heartbeat: heartbeat.clone(),
        clock,
        metrics: metrics.clone(),
    };
    let controlling = tokio::spawn(controller::run(
        ControllerState::new(controller_settings, metrics),
        connections,
        shutdown.clone(),
    ));
    let serving =
        tokio::spawn(server.serve(registry, State { heartbeat, readiness }, axum::Router::new(), end.clone()));
    let taking = reports::ObserverConnections { client: call_client, directory, reports: agent_reports.clone(), clock };
    let taking_reports = tokio::spawn({
        let end = end.clone();
        async move {
            match report_server {
                Some(server) => server.serve(taking, end).await,
                None => end.cancelled().await,
            }
        }
    });
    tracing::info!(identity, api_server, watches = %scope, version = env!("CARGO_PKG_VERSION"), "the operator has started");

    let parts = Parts {
        controlling,
        election,
        publishing,
        listening,
        probing,
        ca_reading,
        login_reading,
        watching,
        serving,
        taking_reports,
    };
    // Until here there is a sender of reports, whether they are taken or not.
    let ended = parts.run_until_told(&shutdown, &release, &end).await;
    drop(agent_reports);
    ended
}

struct Parts {
    controlling: JoinHandle<Result<(), tokio::task::JoinError>>,
    election: JoinHandle<()>,
    publishing: JoinHandle<()>,
    listening: JoinHandle<()>,
    probing: JoinHandle<()>,
    ca_reading: JoinHandle<()>,
    login_reading: JoinHandle<()>,
    watching: JoinSet<()>,
    serving: JoinHandle<()>,
    taking_reports: JoinHandle<()>,
}

impl Parts {
    /// Waits for a signal or for the end of any part; then ends them all in order.
    async fn run_until_told(
        self,
        shutdown: &CancellationToken,
        release: &CancellationToken,
        end: &CancellationToken,
    ) -> Result<(), AppError> {
        let Self {
            mut controlling,
            mut election,
            mut publishing,
            mut listening,
            mut probing,
            mut ca_reading,
            mut login_reading,
            mut watching,
            mut serving,
            mut taking_reports,
        } = self;
        let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
        let ended = tokio::select! {
            _ = terminate.recv() => None,
            _ = interrupt.recv() => None,
            _ = &mut controlling => Some("the controller"),
            _ = &mut election => Some("the leader election"),
            _ = &mut publishing => Some("the observer"),
            _ = &mut listening => Some("the listener to other replicas"),
            _ = &mut probing => Some("the prober"),
            _ = &mut ca_reading => Some("the reader of certificates"),
            _ = &mut login_reading => Some("the reader of logins"),
            _ = watching.join_next() => Some("a watch"),
            _ = &mut serving => Some("the telemetry server"),
            _ = &mut taking_reports => Some("the server for reports"),
        };
        tracing::info!(cause = ended.unwrap_or("a signal"), "the operator ends");
        shutdown.cancel();
        if ended != Some("the controller") {
            // An error in it has been logged where it arose.
            drop(controlling.await);
        }
        release.cancel();
        if ended != Some("the leader election") {
            drop(election.await);
        }
        if ended != Some("the observer") {
            drop(publishing.await);
        }
        end.cancel();
        ended.map_or(Ok(()), |part| Err(AppError::Ended(part)))
    }
}

async fn listen(address: SocketAddr, registry: &mut Registry) -> Result<Server, AppError> {
    let flag = "--listen-address";
    Server::bind(address, registry).await.map_err(|source| AppError::Listen { address, flag, source })
}

/// The server that takes reports, and where agents are told that it is.
async fn listen_for_reports(
    arguments: &RunArguments,
    registry: &mut Registry,
) -> Result<Option<(reports::Server, Option<OperatorEndpoint>)>, AppError> {
    if arguments.without_reports {
        return Ok(None);
    }
    let (address, flag) = (arguments.report_listen_address, "--report-listen-address");
    let certificate = Certificate::generate()?;
    let server = reports::Server::bind(address, &certificate, registry).await.map_err(|source| AppError::Listen {
        address,
        flag,
        source,
    })?;
    let port = server.local_addr()?.port();
    let advertised = arguments.report_advertise_address.map(|advertised| OperatorEndpoint {
        address: SocketAddr::new(advertised.address, advertised.port.unwrap_or(port)).to_string(),
        certificate_sha256: certificate.fingerprint,
    });
    if advertised.is_none() {
        tracing::info!(
            port,
            "agents are not told where this replica takes reports; set --report-advertise-address or POD_IP"
        );
    }
    Ok(Some((server, advertised)))
}

fn lease(arguments: &RunArguments, identity: &str) -> leader::Settings {
    leader::Settings {
        namespace: arguments.lease_namespace.clone(),
        name: arguments.lease_name.clone(),
        identity: identity.to_owned(),
        lease_duration: arguments.lease_duration,
        renew_deadline: arguments.lease_renew_deadline,
        retry_period: arguments.lease_retry_period,
    }
}
