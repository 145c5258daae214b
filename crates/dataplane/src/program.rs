//! The parts that every program on the document has, in the order in which they start: HTTP, the state that survives a
//! restart, and reports.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use mail_failover_runtime::clock::Clock;
use mail_failover_runtime::process::hostname;
use mail_failover_runtime::tasks::Tasks;
use mail_failover_runtime::telemetry::{
    self, HealthServer, HealthState, Heartbeat, ListenError, Readiness, TelemetryServer,
};
use prometheus_client::registry::Registry;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::core::CoreMemory;
use super::credentials::Credentials;
use super::reporter::{self, Reporter, ReporterMetrics};
use super::source::DocumentSource;
use super::state_writer::{Records, StateMetrics, StateWriter, restore};
use super::store::{StateRecord, StateStore};

/// Age of the last heartbeat at which the loop counts as stuck. It turns every second at least.
const HEARTBEAT_PAUSE: Duration = Duration::from_secs(15);

/// Names of the tasks that end last.
pub const LAST_TASKS: [&str; 3] = [STATE_WRITER, HTTP_SERVER, HEALTH_SERVER];
const STATE_WRITER: &str = "the writer of the state";
const HTTP_SERVER: &str = "the HTTP server";
const HEALTH_SERVER: &str = "the health server";

/// Settings of the common parts.
#[derive(Clone, Debug)]
pub struct ProgramSettings {
    /// Prefix of the program's metrics.
    pub prefix: &'static str,
    /// Folder with a folder for each Secret of a login.
    pub credentials_directory: PathBuf,
    /// Folder of the state that survives a restart.
    pub state_directory: PathBuf,
    /// Address that serves metrics.
    pub listen_address: SocketAddr,
    /// Address that serves liveness and readiness.
    pub health_listen_address: SocketAddr,
    /// Name in reports; that of the host if absent.
    pub name: Option<String>,
    /// File with the token for reports. Without one nothing is reported.
    pub token_file: Option<PathBuf>,
    /// True if two accounts at one host and port are told apart.
    pub tells_accounts_apart: bool,
}

/// Servers and tasks of a program that has begun and does not serve yet.
#[derive(Debug)]
pub struct Program {
    /// Metrics of the program.
    pub registry: Registry,
    /// Clock of the program.
    pub clock: Clock,
    /// Logins at backends.
    pub credentials: Credentials,
    /// Heartbeat of the driver's loop.
    pub heartbeat: Heartbeat,
    /// Readiness of the program.
    pub readiness: Readiness,
    /// Server of metrics.
    pub http: TelemetryServer,
    /// Server of liveness and readiness.
    pub health: HealthServer,
    /// Reporter to the operator.
    pub reporter: Reporter,
    /// Writer of the state.
    pub state_writer: StateWriter,
    store: StateStore,
    saved: Records,
    writing: JoinHandle<()>,
    reporting: JoinHandle<()>,
}

impl Program {
    /// Binds HTTP, restores the state, and begins to write it and to report, until `end`.
    ///
    /// # Errors
    /// When an address cannot be had.
    pub async fn begin(settings: ProgramSettings, end: &CancellationToken) -> Result<Self, ListenError> {
        let ProgramSettings {
            prefix,
            credentials_directory,
            state_directory,
            listen_address,
            health_listen_address,
            name,
            token_file,
            tells_accounts_apart,
        } = settings;
        let (mut registry, clock) = (telemetry::registry(), Clock::system());
        let credentials = Credentials::new(credentials_directory, registry.sub_registry_with_prefix(prefix));
        let http = TelemetryServer::bind(listen_address, &mut registry).await;
        let http = http.map_err(ListenError::of(listen_address, "--listen-address"))?;
        let health = HealthServer::bind(health_listen_address, &mut registry).await;
        let health = health.map_err(ListenError::of(health_listen_address, "--health-listen-address"))?;

        let store = StateStore::new(state_directory);
        let state_metrics = StateMetrics::new(registry.sub_registry_with_prefix(prefix));
        let saved = restore(&store, &state_metrics);
        let (state_writer, writing) = StateWriter::start(store.clone(), saved.clone(), state_metrics, end.clone());
        let agent = name.unwrap_or_else(hostname);
        let (reporter, reporting) = Reporter::start(
            reporter::Settings { agent, token_file, heartbeat: reporter::HEARTBEAT, tells_accounts_apart },
            clock,
            ReporterMetrics::new(registry.sub_registry_with_prefix(prefix)),
            end.clone(),
        );
        Ok(Self {
            registry,
            clock,
            credentials,
            heartbeat: Heartbeat::new(HEARTBEAT_PAUSE),
            readiness: Readiness::default(),
            http,
            health,
            reporter,
            state_writer,
            store,
            saved,
            writing,
            reporting,
        })
    }

    /// The core's memory of an earlier process.
    pub fn memory(&self) -> Option<CoreMemory> {
        let parsed = serde_json::from_str(self.saved.get(&StateRecord::Memory)?);
        // The memory of another version is dropped: backends that still fail come last again soon enough.
        parsed.inspect_err(|error| tracing::warn!(%error, "what an earlier process remembered is ignored")).ok()
    }

    /// The last good document of an earlier process.
    pub fn saved_document(&self) -> Option<(DocumentSource, &str)> {
        let document = self.saved.get(&StateRecord::Document)?;
        Some((DocumentSource::Disk(self.store.path(StateRecord::Document).display().to_string()), &**document))
    }

    /// Serves HTTP with the `further` routes until `end`, and watches over the common tasks.
    pub fn serve(self, further: axum::Router, tasks: &mut Tasks, end: &CancellationToken) {
        let state = HealthState { heartbeat: self.heartbeat, readiness: self.readiness };
        tasks.add(STATE_WRITER, self.writing);
        tasks.add("the reporter", self.reporting);
        tasks.spawn(HTTP_SERVER, self.http.serve(self.registry, further, end.clone()));
        tasks.spawn(HEALTH_SERVER, self.health.serve(state, end.clone()));
    }
}

#[cfg(test)]
#[path = "program_tests.rs"]
mod tests;
